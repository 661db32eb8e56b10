"""What is done once for all callers, such as opening a store."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from copy import copy
from typing import Any

from keyvalue._core import fork, runtime
from keyvalue.errors import StoreConnectionError

__all__ = ["Once"]


class Once:
    """Runs something exactly once, for callers in any number of threads and loops.

    If it fails or is cancelled, that is the affair of the caller that ran it; one of the others then tries in its turn. But if a backend
    could not be reached, those who waited for that are told so: trying one after the other, the last would wait for all their timeouts.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._running: Future[StoreConnectionError | None] | None = None
        self._owner: object | None = None
        self._thread: int | None = None  # the one that it runs in, if inline
        self.done = False
        fork.register_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._running = None

    async def run(self, function: Callable[[], Awaitable[object]]) -> None:
        """Return when the function has run, here or elsewhere.

        Args:
            function: What to run.
        """
        while not self.done:
            mine: Future[StoreConnectionError | None] = Future()
            unreachable: StoreConnectionError | None = None
            try:  # from before it is claimed: whoever claims it may be interrupted
                running, owner = self._claim(mine)
                if running is mine and not self.done:
                    await function()
                    self.done = True
                if self.done:
                    return
            except StoreConnectionError as error:
                unreachable = error
                raise
            finally:
                self._give_up(mine)
                mine.set_result(unreachable)
            try:
                unreachable = await runtime.wait(running, owner)
            except runtime.LoopOverError:
                self._give_up(running)
            if unreachable is not None:
                raise copy(unreachable) from unreachable.__cause__

    def _claim(self, mine: Future[StoreConnectionError | None]) -> tuple[Future[StoreConnectionError | None], object | None]:
        """Return the run that counts, and the loop that it needs: this call's own, unless another is to be waited for."""
        thread = threading.get_ident() if runtime.is_inline() else None
        with self._lock:
            # The handler of a signal can't wait for what it interrupted in its own thread.
            if self._running is None or (thread is not None and thread == self._thread):
                self._running, self._owner, self._thread = mine, runtime.running_loop(), thread
            return self._running, self._owner

    def _give_up(self, running: Future[Any]) -> None:
        with self._lock:
            if self._running is running:
                self._running = None
