"""Slots for a number of calls at a time, or a turn for one: further ones wait. All stores over one client share them."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType
from typing import Any, TypeVar

__all__ = ["LoopSlots", "ThreadSlots", "Turn", "shared"]

S = TypeVar("S")
T = TypeVar("T")

_shared: weakref.WeakValueDictionary[tuple[object, ...], Any] = weakref.WeakValueDictionary()
_locks: dict[int, threading.RLock] = {}  # by process: that of the parent may be held when it forks
_exhaust = deque[object](maxlen=0).extend


class Turn:
    """A turn for one call at a time.

    Attributes:
        lock: Held by the thread that makes the call.
        is_taken: Whether the call is under way: a handler of a signal can be in the middle of it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_taken = False


class ThreadSlots:
    """Slots for calls in threads.

    An interrupt of the main thread, such as Ctrl-C, can come after any call from Python code. So there, a slot is taken and noted in one
    call, and given back in one, inside of which only C code runs. That costs a microsecond.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[bool] = SimpleQueue()
        for _ in range(count):
            self._free.put(True)
        self._held: list[bool] = []  # by the main thread

    def run(self, call: Callable[[], T]) -> T:
        """Make a call when there is a free slot."""
        if threading.current_thread() is threading.main_thread():
            return self._run_interruptible(call)
        slot = self._free.get()
        try:
            return call()
        finally:
            self._free.put(slot)

    def _run_interruptible(self, call: Callable[[], T]) -> T:
        held = self._held
        if held and self._is_running(sys._getframe(1)):  # pyright: ignore[reportPrivateUsage] # it is documented
            return call()  # the handler of a signal can't wait for the call that it interrupted
        give_back = map(self._free.put, map(held.pop, (-1,)))
        try:
            if not held:
                held.extend(map(self._free.get, (True,)))
            return call()
        finally:
            if held:
                _exhaust(give_back)

    def _is_running(self, frame: FrameType | None) -> bool:
        """Return whether a frame, or one that it was called from, makes a call in a slot."""
        while frame is not None:
            if frame.f_code is ThreadSlots._run_interruptible.__code__ and frame.f_locals["self"] is self:
                return True
            frame = frame.f_back
        return False


class LoopSlots:
    """Slots for calls on an asyncio loop.

    `asyncio.Semaphore` would do, but that of Python 3.10.4 to 3.10.7 stays locked for ever if one that waits is cancelled when it is woken.

    Args:
        count: How many.

    Attributes:
        free: How many are free. Whoever takes a free one counts it down, and calls `wait` at zero.
    """

    def __init__(self, count: int) -> None:
        self.free: int = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Wait for a slot, and take it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it has got it already
                self.release()
            raise

    def release(self) -> None:
        """Give a slot to the call that has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1


def shared(kind: Callable[..., S], *owners: object, **options: int) -> S:
    """Return the slots, or the turn, that all stores over the same objects share. Callers must keep a reference to it."""
    key = (kind, os.getpid(), *map(id, owners))
    with _locks.setdefault(os.getpid(), threading.RLock()):
        found = _shared.get(key)
        if found is None:
            found = _shared[key] = kind(**options)
        return found
