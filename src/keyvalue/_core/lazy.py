"""Names that are imported when they are asked for, so that no client is imported before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["add_module_names", "import_from", "owners_of"]

Modules = Mapping[str, "Iterable[str] | None"]
"""The modules of a package, each with its names that the package has too; None if the module is such a package itself: all that it has."""


def import_from(package: str, modules: Modules) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package that has the names of its modules, and the modules themselves."""

    @cache
    def owners() -> dict[str, str]:
        return owners_of(package, modules)

    def get(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        owner = owners().get(name)
        if owner is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{owner}"), name)

    return get, lambda: sorted({*vars(sys.modules[package]), *owners(), *modules})


def owners_of(package: str, modules: Modules) -> dict[str, str]:
    """Return the names of a package's modules, each with its module."""
    owners: dict[str, str] = {}
    for module, names in modules.items():
        inner = f"{package}.{module}"
        all_names = owners_of(inner, vars(importlib.import_module(inner))["_MODULES"]) if names is None else names
        owners |= dict.fromkeys(all_names, module)
    return owners


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
