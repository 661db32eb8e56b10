"""An adapter for pydantic's models."""

from __future__ import annotations

from typing import Any, TypeVar, get_args, get_origin

from keyvalue._core.capabilities import require_async
from keyvalue._core.extras import needs
from keyvalue.adapters._pydantic import PydanticConverter
from keyvalue.adapters._typed import TypedAdapter
from keyvalue.protocols.key_value import AsyncKeyValue

with needs("pydantic"):
    from pydantic import BaseModel, RootModel

__all__ = ["BaseModelAdapter"]

T = TypeVar("T")


class BaseModelAdapter(TypedAdapter[T]):
    """Stores models, or lists of them.

    What is put comes back equal, secrets, bytes, dates and aliased fields included. What JSON can't tell apart, such as text and bytes in a
    union, is refused when it is put, unless `exact=False`. Of an instance of a subclass, only the fields of the given type are kept, as
    pydantic does, and no private attributes. A model or dataclass where the type says `Any` comes back as its JSON, such as a dict. In what
    `ttl` and `get` with a default return, a stored None differs from a missing key.

    Stored: the value in pydantic's JSON form, by the names of fields; as `{"items": <value>}` if it is no JSON object by its type. See
    `keyvalue.adapters._pydantic`.

    Args:
        key_value: The store.
        pydantic_model: A subclass of `BaseModel`, or a list of one.
        default_collection: The collection of calls that name none. None, the default: the store's own.
        raise_on_validation_error: Whether a row that is no such value raises. If False, that is logged (without the row) to
            `keyvalue.adapters`, and the call's default is returned. Default True.
        exact: Whether a value that would not come back equal is refused. False stores what pydantic makes of it: of tuples, sets, dates and
            enum members where the type says `Any`, for example, lists and text. Default True.

    Raises:
        TypeError: `key_value` is no `AsyncKeyValue`, or `pydantic_model` another type.
    """

    def __init__(
        self,
        key_value: AsyncKeyValue,
        pydantic_model: type[T],
        default_collection: str | None = None,
        raise_on_validation_error: bool = True,
        *,
        exact: bool = True,
    ) -> None:
        store = require_async(key_value, type(self).__name__)
        super().__init__(store, create_converter(pydantic_model, exact), default_collection, raise_on_validation_error)


def create_converter(kind: Any, exact: bool) -> PydanticConverter[Any]:
    """Return the converter of `BaseModelAdapter`.

    Raises:
        TypeError: The type is neither a `BaseModel` nor a list of such.
    """
    is_list = get_origin(kind) is list
    model: Any = (get_args(kind) or (None,))[0] if is_list else kind
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"BaseModelAdapter takes a BaseModel subclass or a list of one, not {kind}; PydanticAdapter takes any type")
    wraps = True if is_list else None if issubclass(model, RootModel) else False
    return PydanticConverter(kind, wraps, exact=exact)
