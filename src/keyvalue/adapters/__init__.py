"""Adapters: stores seen through types, one module each. Their synchronous versions are in `keyvalue.blocking`."""

from typing import TYPE_CHECKING

from keyvalue._core.lazy import import_from
from keyvalue._core.legacy.module_names import add_module_names

if TYPE_CHECKING:
    from keyvalue.adapters.base_model import BaseModelAdapter as BaseModelAdapter
    from keyvalue.adapters.dataclass import DataclassAdapter as DataclassAdapter
    from keyvalue.adapters.pydantic import PydanticAdapter as PydanticAdapter
    from keyvalue.adapters.raise_on_missing import RaiseOnMissingAdapter as RaiseOnMissingAdapter

_MODULES = {
    "base_model": ("BaseModelAdapter",),
    "dataclass": ("DataclassAdapter",),
    "pydantic": ("PydanticAdapter",),
    "raise_on_missing": ("RaiseOnMissingAdapter",),
}

if not TYPE_CHECKING:  # with it, type checkers would accept any name
    __getattr__, __dir__ = import_from(__name__, _MODULES)

add_module_names(__name__, dict.fromkeys(_MODULES, ("adapter",)) | {"pydantic": ("adapter", "base")})
