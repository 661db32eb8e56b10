"""Names that are imported when they are asked for, so that no client is imported before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

__all__ = ["import_from", "owners_of"]

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
