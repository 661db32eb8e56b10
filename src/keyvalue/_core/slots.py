"""Room for a number of calls at a time, or one: further ones wait. All stores over one client share its room."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["LoopSlots", "ThreadSlots", "Turn", "shared"]

S = TypeVar("S")
T = TypeVar("T")

_shared: weakref.WeakValueDictionary[tuple[object, ...], Any] = weakref.WeakValueDictionary()


class Turn:
    """Room for one call.

    Attributes:
        lock: Held by the thread that makes the call.
        is_taken: Whether the call is under way: a handler of a signal can be in the middle of it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_taken = False


class ThreadSlots:
    """Room for calls in threads.

    Args:
        count: For how many.
    """

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[bool] = SimpleQueue()  # an interrupt can leave a Semaphore locked
        for _ in range(count):
            self._free.put(True)
        self._holding: set[int] = set()  # the threads that hold a slot, or wait for one

    def run(self, call: Callable[[], T]) -> T:
        """Make a call when there is room."""
        thread = threading.get_ident()
        if thread in self._holding:  # the handler of a signal can't wait for the call that it interrupted
            return call()
        slot = False
        try:
            self._holding.add(thread)
            slot = self._free.get()
            return call()
        finally:
            if slot:
                self._free.put(slot)
            self._holding.discard(thread)


class LoopSlots:
    """Room for calls on an asyncio loop.

    `asyncio.Semaphore` would do, but that of Python 3.10.4 to 3.10.7 stays locked for ever if one that waits is cancelled when it is woken.

    Args:
        count: For how many.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Wait for room, and take it."""
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it has got it already
                self.release()
            raise

    def release(self) -> None:
        """Give room to who waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def shared(kind: Callable[..., S], *of: object, **options: int) -> S:
    """Return the room of a kind that there is in this process for some objects, which whoever has it must keep."""
    return _shared.setdefault((kind, os.getpid(), *map(id, of)), kind(**options))
