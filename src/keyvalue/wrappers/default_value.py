"""A wrapper that answers a miss with a default."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, SupportsFloat

from keyvalue._core import arguments, codec, constructor
from keyvalue._core.operation import Operation
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["DefaultValueWrapper"]


class DefaultValueWrapper(BaseWrapper):
    """Returns a default where there is no entry. The default is stored nowhere: it is in no listing, and deleting it is False.

    Place: outermost, above wrappers that tell hits from misses (caches, statistics).

    Args:
        key_value: What to wrap.
        default_value: The default; each caller gets a copy.
        default_ttl: The seconds that `ttl` and `ttl_many` return with it, 0 or more. Default None.

    Raises:
        SerializationError: The default is not JSON.
        InvalidTTLError: `default_ttl` is no time to live.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(self, key_value: AsyncKeyValue, default_value: Mapping[str, Any], default_ttl: SupportsFloat | None = None) -> None:
        arguments.check_mapping(default_value)
        self._default = codec.encode(default_value)
        self._default_ttl = None if default_ttl is None else constructor.check_ttl(default_ttl, "default_ttl", or_else=0)
        super().__init__(key_value)

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        result = await call(self.key_value)
        if operation.name == "get":
            return self._or_default(result)
        if operation.name == "get_many":
            return [self._or_default(value) for value in result]
        if operation.name == "ttl":
            return self._pair_or_default(result)
        if operation.name == "ttl_many":
            return [self._pair_or_default(pair) for pair in result]
        return result

    def _or_default(self, value: dict[str, Any] | None) -> dict[str, Any]:
        return codec.decode(self._default) if value is None else value

    def _pair_or_default(self, pair: tuple[dict[str, Any] | None, float | None]) -> tuple[dict[str, Any], float | None]:
        value, left = pair
        return (codec.decode(self._default), self._default_ttl) if value is None else (value, left)
