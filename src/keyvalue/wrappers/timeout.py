"""A wrapper that gives up on calls that take too long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from keyvalue._core import constructor
from keyvalue._core.operation import Operation
from keyvalue._core.wrapper import BaseWrapper, is_only_entered
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["TimeoutWrapper"]

T = TypeVar("T")


class TimeoutWrapper(BaseWrapper):
    """Cancels calls, and opening, that take too long. A cancelled write may have taken effect.

    Place: next to the store, below `RetryWrapper`, so that each try has its own time.

    In synchronous code the call runs on an event loop in a background thread, because a plain thread can't be interrupted. What runs in
    a worker thread (a store with a synchronous client) can't be either: the call returns in time, and the work goes on behind it.

    Args:
        key_value: What to wrap.
        timeout: Seconds. Default 5.

    Raises:
        TimeoutError: On a call: it took longer.
        ValueError: The timeout is not positive.
    """

    @constructor.check_types
    def __init__(self, key_value: AsyncKeyValue, timeout: float = 5.0) -> None:
        self.timeout: float = constructor.check_seconds(timeout, "timeout")
        super().__init__(key_value)

    async def setup(self) -> None:
        """Open what is wrapped, within the time."""
        opening = super().setup
        if is_only_entered(self):  # a scope must not end while one that was entered in it goes on
            await opening()
        else:
            await self._intercept(Operation("setup"), lambda _: opening())

    async def _intercept(self, operation: Operation, call: Callable[[AsyncKeyValue], Awaitable[T]]) -> T:
        with anyio.move_on_after(self.timeout):
            return await call(self.key_value)
        raise TimeoutError(f"{operation.name} took longer than {self.timeout} s and was cancelled")
