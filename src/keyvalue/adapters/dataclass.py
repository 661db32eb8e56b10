"""An adapter for dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any, TypeVar, cast, get_args, get_origin

from keyvalue._core.capabilities import require_async
from keyvalue.adapters._pydantic import PydanticConverter
from keyvalue.adapters._typed import TypedAdapter
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["DataclassAdapter"]

T = TypeVar("T")


class DataclassAdapter(TypedAdapter[T]):
    """Stores dataclasses, of the standard library or pydantic's, or sequences of them.

    What is put comes back equal, secrets, bytes, dates and aliased fields included. What JSON can't tell apart, such as text and bytes in a
    union, is refused when it is put, unless `exact=False`. Of an instance of a subclass, only the fields of the given type are kept, as
    pydantic does, and no private attributes. A model or dataclass where the type says `Any` comes back as its JSON, such as a dict. In what
    `ttl` and `get` with a default return, a stored None differs from a missing key.

    Stored: the value in pydantic's JSON form, by the names of fields; as `{"items": <value>}` if it is no JSON object by its type. See
    `keyvalue.adapters._pydantic`.

    Args:
        key_value: The store.
        dataclass_type: A dataclass, or a sequence of one.
        default_collection: The collection of calls that name none. None, the default: the store's own.
        raise_on_validation_error: Whether a row that is no such value raises. If False, that is logged (without the row) to
            `keyvalue.adapters`, and the call's default is returned. Default True.
        exact: Whether a value that would not come back equal is refused. False stores what pydantic makes of it: of tuples, sets, dates and
            enum members where the type says `Any`, for example, lists and text. Default True.

    Raises:
        TypeError: `key_value` is no `AsyncKeyValue`, or `dataclass_type` another type.
    """

    def __init__(
        self,
        key_value: AsyncKeyValue,
        dataclass_type: type[T],
        default_collection: str | None = None,
        raise_on_validation_error: bool = True,
        *,
        exact: bool = True,
    ) -> None:
        store = require_async(key_value, type(self).__name__)
        super().__init__(store, create_converter(dataclass_type, exact), default_collection, raise_on_validation_error)


def create_converter(kind: Any, exact: bool) -> PydanticConverter[Any]:
    """Return the converter of `DataclassAdapter`.

    Raises:
        TypeError: The type is neither a dataclass nor a sequence of such.
    """
    origin = get_origin(kind)
    is_sequence = isinstance(origin, type) and issubclass(origin, Sequence)
    inner: Any = (get_args(kind) or (None,))[0] if is_sequence else kind
    inner = get_origin(inner) or inner
    if not (isinstance(inner, type) and is_dataclass(cast("object", inner))):
        raise TypeError(f"DataclassAdapter takes a dataclass or a sequence of one, not {kind}; PydanticAdapter takes any type")
    return PydanticConverter(kind, wraps=is_sequence, exact=exact)
