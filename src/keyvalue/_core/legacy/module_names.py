"""The deeper module names of py-key-value-aio, such as `stores.redis.store`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["add_module_names"]


def add_module_names(package: str, modules: Mapping[str, Iterable[str]]) -> None:
    """Make modules importable under further names, one level deeper: `keyvalue.errors.base` is `keyvalue.errors`, as in py-key-value-aio.

    A module can't have submodules, but `import` looks into `sys.modules` first.
    """
    for module, names in modules.items():
        for name in names:
            deeper = f"{package}.{module}.{name}"
            sys.modules[deeper] = other = _OtherName(deeper, f"Another name of `{package}.{module}`.")
            vars(other)["__spec__"] = ModuleSpec(deeper, None)  # for importlib.util.find_spec


class _OtherName(ModuleType):
    """A module that is imported when a name in it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":  # what walks through sys.modules asks for these, and must not import clients
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(_target(self), name)

    def __setattr__(self, name: str, value: Any) -> None:  # for who patches the module
        setattr(_target(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_target(self), name)

    def __dir__(self) -> list[str]:
        return dir(_target(self))


def _target(module: ModuleType) -> ModuleType:
    return importlib.import_module(module.__name__.rpartition(".")[0])
