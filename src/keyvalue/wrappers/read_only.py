"""A wrapper that lets nothing be written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from keyvalue._core import constructor
from keyvalue._core.operation import Operation
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.errors import ReadOnlyError
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["ReadOnlyWrapper"]

_NOTHING_DONE = {"put": None, "put_many": None, "delete": False, "delete_many": 0}


class ReadOnlyWrapper(BaseWrapper):
    """Refuses writes, or leaves them out. It does not offer `destroy`, `destroy_collection` and `cull`.

    Place: outermost, so that no wrapper does work for a write that is then refused.

    Args:
        key_value: What to wrap.
        raise_on_write: Whether a write raises. If False, it does nothing, and a delete says that nothing was there. Default True.

    Raises:
        ReadOnlyError: On a write.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(self, key_value: AsyncKeyValue, raise_on_write: bool = True) -> None:
        self.raise_on_write = raise_on_write
        super().__init__(key_value)

    def _capabilities(self) -> frozenset[str]:
        return super()._capabilities() & {"keys", "collections"}

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        if not operation.is_write:
            return await call(self.key_value)
        if self.raise_on_write:
            raise ReadOnlyError(operation.name, operation.collection, operation.keys[0] if len(operation.keys) == 1 else None)
        return _NOTHING_DONE[operation.name]
