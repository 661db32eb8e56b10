"""A wrapper that turns to a second store while the first can't be reached."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from keyvalue._core import arguments, constructor, fork
from keyvalue._core.capabilities import require_async
from keyvalue._core.operation import EntryRef, Operation
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue._core.transient import TRANSIENT_ERRORS, with_asyncio_timeout
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["FallbackWrapper"]

_LOGGER = logging.getLogger("keyvalue.fallback")

T = TypeVar("T")


class FallbackWrapper(BaseWrapper):
    """Reads from a second store while the first can't be reached.

    A miss is an answer: the second store is not asked then. Errors that a caller makes are raised.

    Writes during an outage raise what the first store raised, unless `write_to_fallback` is True. They then go to the second store only,
    and are *not* copied back: when the first one is back, it answers as it did before. `diverged` counts the keys this is so for, and
    `on_fallback` tells of each. The next write of such a key that reaches the first store removes it from the second, so that the next
    outage does not bring the old value back; so do `destroy` and `destroy_collection`. This is remembered by this object only.

    Opening succeeds if one of the two can be opened; the other one is opened when it is first used.

    Place: above `RetryWrapper` and `TimeoutWrapper`, below wrappers that change names or values, which both stores then share.

    Args:
        primary_key_value: The first store.
        fallback_key_value: The second store.
        fallback_on: The errors of the first that lead to the second. Default: `StoreConnectionError`, which stores raise when they can't
            reach their backend, and the built-in `ConnectionError` and `TimeoutError`.
        write_to_fallback: Whether writes go to the second store too during an outage. Default False.
        on_fallback: Called with the operation and the error whenever the second store is asked. It must not block.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`; give what the stores
            have, if they have another.

    Attributes:
        fallbacks: How many calls the second store was asked instead of the first.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(
        self,
        primary_key_value: AsyncKeyValue,
        fallback_key_value: AsyncKeyValue,
        fallback_on: type[Exception] | tuple[type[Exception], ...] = TRANSIENT_ERRORS,
        write_to_fallback: bool = False,
        *,
        on_fallback: Callable[[Operation, Exception], object] | None = None,
        default_collection: str | None = None,
    ) -> None:
        self.primary_key_value = primary_key_value
        self.fallback_key_value: AsyncKeyValue = require_async(fallback_key_value, "FallbackWrapper", "fallback_key_value")
        self.fallback_on: tuple[type[Exception], ...] = with_asyncio_timeout(fallback_on, "fallback_on")
        self.write_to_fallback = write_to_fallback
        self.default_collection: str = arguments.check_name(default_collection or DEFAULT_COLLECTION, "collection")
        self.fallbacks: int = 0
        self._on_fallback = on_fallback
        self._diverged: dict[EntryRef, bool] = {}
        self._lock = threading.RLock()
        fork.register_after_fork(self)
        super().__init__(primary_key_value)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()

    @property
    def diverged(self) -> int:
        """How many keys were written to the second store only, and not since to the first; a destroyed collection counts as one."""
        with self._lock:
            return sum(self._diverged.values())

    def _wrapped(self) -> Sequence[AsyncKeyValue]:
        return self.primary_key_value, self.fallback_key_value

    async def setup(self) -> None:
        """Open both stores. That one of them can't be reached is no failure as long as the other one can."""
        unreachable: list[Exception] = []
        for inner in self._wrapped():
            try:
                await self._open_one(inner)
            except self.fallback_on as error:
                unreachable.append(error)
        if len(unreachable) == len(self._wrapped()):
            raise unreachable[0]

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[T]]) -> T:
        try:
            result = await call(self.primary_key_value)
        except self.fallback_on as error:
            if operation.is_write and not self.write_to_fallback:
                raise
            with self._lock:
                self.fallbacks += 1
            if self._on_fallback is not None:
                self._on_fallback(operation, error)
            return await self._write_to_fallback(operation, call) if operation.is_write else await call(self.fallback_key_value)
        if self.write_to_fallback and operation.is_write:
            try:
                await self._clear_fallback(operation, call)
            except Exception as error:  # noqa: BLE001 # the write is done; the next one of the key tries again
                _LOGGER.warning("An obsolete entry stays in the second store: %s", type(error).__name__)
        return result

    async def _write_to_fallback(self, operation: Operation, call: Callable[[Any], Awaitable[T]]) -> T:
        """Write to the second store, and remember it, even if the write may only have happened."""
        is_done = False
        try:
            result = await call(self.fallback_key_value)
            is_done = True
        finally:
            # Not before: a write that reaches the first store meanwhile would remove what is yet to come, and forget it.
            with self._lock:
                for place in operation.entry_refs(self.default_collection):
                    self._diverged[place] = is_done or self._diverged.get(place, False)
        return result

    async def _clear_fallback(self, operation: Operation, call: Callable[[Any], Awaitable[object]]) -> None:
        """Remove from the second store what a write to the first has made obsolete there."""
        places = operation.entry_refs(self.default_collection)
        is_whole = operation.name in ("destroy", "destroy_collection")
        with self._lock:
            if is_whole:
                places = [place for place in self._diverged if places[0][0] in (None, place[0])]
            obsolete = {place: self._diverged.pop(place) for place in places if place in self._diverged}
        if not obsolete and not is_whole:
            return
        try:
            if is_whole:
                await call(self.fallback_key_value)
            else:
                inner = [self._encode_key(key, operation.collection) for _, key in obsolete if key is not None]
                await self.fallback_key_value.delete_many(inner, collection=self._encode_collection(operation.collection))
        except BaseException:
            with self._lock:
                self._diverged = {**obsolete, **self._diverged}
            raise
