"""Words for messages: the type of a value, and what to do about it."""

from __future__ import annotations

import dataclasses
import datetime
import inspect
from collections.abc import Collection

from keyvalue.errors import StoreClosedError

__all__ = ["add_article", "closed_error", "describe", "suggest_conversion"]


def closed_error(name: str) -> StoreClosedError:
    """Return the error to raise for a call on a store that was closed."""
    return StoreClosedError(f"This {name} is closed; make a new one")


def describe(value: object) -> str:
    """Return the type of a value with its article, for a message."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "None" if value is None else add_article(type(value).__name__)


def suggest_conversion(value: object, *, is_whole: bool = False) -> str:
    """Return what to do with something that JSON has no form for, or, if it is a whole value, with one that is not a mapping."""
    kind = type(value)
    adapter = ", or use a {} for the store" if is_whole else ""
    if hasattr(kind, "model_dump"):  # a model of pydantic, which need not be installed
        return f'store its model_dump(mode="json"){adapter.format("PydanticAdapter")}'
    if dataclasses.is_dataclass(kind):
        return f"store dataclasses.asdict() of it{adapter.format('DataclassAdapter')}"
    if inspect.isawaitable(value):
        return "await it first"
    if isinstance(value, type):
        return "give a value rather than its class"
    if is_whole:
        return 'store {"value": …} with it inside, or use a PydanticAdapter, which takes any type'
    if isinstance(value, bytes | bytearray | memoryview):
        return "store text, such as its base64"
    if isinstance(value, Collection):
        return "store a list"
    if isinstance(value, datetime.date | datetime.time):
        return "store its isoformat()"
    return "convert it first, for example with str()"


def add_article(name: str) -> str:
    """Return a name with its article."""
    if name == "bytes":
        return name
    return f"an {name}" if name[:1] in "aeioAEIO" else f"a {name}"
