"""For wrappers that store a value inside another: JSON and base64 text, written and read without blocking an event loop."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from keyvalue._core import codec, runtime
from keyvalue.errors import SerializationError

__all__ = ["BIG", "compute", "encode_item", "from_base64", "from_json", "to_base64", "to_json"]

T = TypeVar("T")

BIG = 2**17  # bytes; compressing or encrypting more takes over a millisecond, which is more than the way to a thread and back


async def to_json(value: Mapping[str, Any]) -> bytes:
    """Encode a value as a store does, in a worker thread if it is large.

    Args:
        value: A mapping with string keys.

    Returns:
        JSON text in UTF-8, keys in the value's own order, without spaces.

    Raises:
        SerializationError: The value is not JSON. The message says where.
    """
    json = codec.encode_or_defer(value)
    return await runtime.run_in_worker(json) if callable(json) else json


async def from_json(text: bytes) -> dict[str, Any]:
    """Decode what `to_json` returned, in a worker thread if it is large.

    Args:
        text: The text of a JSON object.

    Raises:
        ValueError: The text is not a JSON object.
    """
    value = codec.decode(text) if len(text) <= codec.LARGE else await runtime.run_in_worker(lambda: codec.decode(text))
    if type(value) is not dict:
        raise ValueError("it is not a JSON object")
    return cast("dict[str, Any]", value)


async def encode_item(index: int, value: Mapping[str, Any], encoding: Awaitable[T]) -> T:
    """Encode one value of a bulk call; if it can't be serialized, the error tells its position."""
    try:
        return await encoding
    except SerializationError as error:
        problem = error
    raise codec.item_error(index, value, problem)


async def compute(function: Callable[[], T], size: int) -> T:
    """Call a function, in a worker thread if it has many bytes to process."""
    return function() if size <= BIG else await runtime.run_in_worker(function)


def to_base64(data: bytes) -> str:
    """Encode bytes with the standard alphabet (RFC 4648, section 4)."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str) -> bytes:
    """Decode what `to_base64` returned.

    Raises:
        ValueError: The text is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("it is not base64") from None
