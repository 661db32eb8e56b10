"""A wrapper that tries again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from keyvalue._core import constructor, runtime
from keyvalue._core.operation import Operation
from keyvalue._core.transient import TRANSIENT_ERRORS, with_asyncio_timeout
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["RetryWrapper"]

T = TypeVar("T")


class RetryWrapper(BaseWrapper):
    """Makes a call again, after a while, if the backend could not be reached.

    The waits are random between 0 and `initial_delay * exponential_base ** n` seconds after n retries, at most `max_delay`: exponential
    backoff with full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). The last error is raised.

    Opening is retried in the same way. All calls are safe to repeat in this sense: repeating one leaves what a single one would have left,
    unless someone else wrote in between, in which case a repeated put or delete undoes that. But a delete that was applied before the
    connection broke finds nothing when it is repeated: `delete` then returns False, `delete_many` a lower count, `destroy_collection`
    False. A put's time to live starts anew.

    Place: above `TimeoutWrapper`, to retry its timeouts, and below `FallbackWrapper`. In synchronous code, the thread sleeps.

    Args:
        key_value: What to wrap.
        max_retries: How often to try again. Default 3.
        initial_delay: Seconds to wait before the first retry, at most: each wait is chosen at random below that. Default 0.1.
        max_delay: The longest wait, in seconds. Default 10.
        exponential_base: The factor by which the wait grows with each retry. Default 2.
        retry_on: The errors to try again on. Default: `StoreConnectionError`, which stores raise when they can't reach their backend,
            and the built-in `ConnectionError` and `TimeoutError`.
        deadline: Seconds from the first try after which no other one is begun; also, no wait goes beyond it. It does not interrupt a
            try: `TimeoutWrapper` does. Default None, no deadline.

    Raises:
        ValueError: A number is negative, or `exponential_base` is less than 1.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(
        self,
        key_value: AsyncKeyValue,
        max_retries: int = 3,
        initial_delay: float = 0.1,
        max_delay: float = 10.0,
        exponential_base: float = 2.0,
        retry_on: type[Exception] | tuple[type[Exception], ...] = TRANSIENT_ERRORS,
        *,
        deadline: float | None = None,
    ) -> None:
        for name, number in {
            "max_retries": max_retries, "initial_delay": initial_delay, "max_delay": max_delay, "deadline": deadline or 0,
        }.items():  # fmt: skip
            if not number >= 0:
                raise ValueError(f"{name} must not be negative")
        if not exponential_base >= 1:
            raise ValueError("exponential_base must be at least 1, so that delays don't shrink")
        self.max_retries = max_retries
        self.initial_delay = initial_delay
        self.max_delay = max_delay
        self.exponential_base = exponential_base
        self.retry_on: tuple[type[Exception], ...] = with_asyncio_timeout(retry_on, "retry_on")
        self.deadline = deadline
        super().__init__(key_value)

    async def setup(self) -> None:
        """Open what is wrapped, and try again as for a call."""
        opening = super().setup
        await self._intercept(Operation("setup"), lambda _: opening())

    async def _intercept(self, operation: Operation, call: Callable[[AsyncKeyValue], Awaitable[T]]) -> T:
        end = None if self.deadline is None else runtime.monotonic() + self.deadline
        for attempt in range(self.max_retries):
            try:
                return await call(self.key_value)
            except self.retry_on:
                delay = self._delay(attempt)
                if end is not None and runtime.monotonic() + delay >= end:
                    raise
            await runtime.sleep(delay)
        return await call(self.key_value)

    def _delay(self, attempt: int) -> float:
        try:
            longest = min(self.max_delay, self.initial_delay and self.initial_delay * self.exponential_base**attempt)
        except OverflowError:
            longest = self.max_delay
        return random.uniform(0, longest)  # noqa: S311 # jitter is no secret
