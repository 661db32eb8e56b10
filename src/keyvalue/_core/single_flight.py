"""One read for all callers that miss the same entry at the same time ("single flight"), among tasks, event loops and threads.

A read is out of date once its entry has been written: whoever asks after the write must not get its result, whether it is still in flight
or was kept. So each read begins at a moment, each write ends at one, and no two moments are alike.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

from keyvalue._core import clock, fork, runtime
from keyvalue._core.operation import EntryRef

__all__ = ["SingleFlight"]

V = TypeVar("V")

_SLOTS = 2**16  # see _slot


class _Flight(Future[Any]):
    """A read in flight, with its results by entry. If it is cancelled, the callers that joined it read for themselves.

    Attributes:
        began: The moment at which it began.
        is_shared: Whether other callers wait for it.
    """

    def __init__(self, began: float) -> None:
        super().__init__()
        self.began, self.is_shared = began, False
        self.thread, self.loop = threading.get_ident(), None if runtime.is_inline() else runtime.running_loop()

    def join(self) -> bool:
        """Share it with the caller; return False if it has ended, or can't go on while the caller waits."""
        # One without a loop can't go on if the caller is a signal handler that interrupted it.
        stuck = self.thread == threading.get_ident() if self.loop is None else self.loop in runtime.blocked() or runtime.is_over(self.loop)
        self.is_shared |= (can_join := not (stuck or self.done()))
        return can_join


class SingleFlight(Generic[V]):
    """Shares reads in flight, and tells which results are out of date.

    Args:
        copy: Copies a result, so that each caller gets its own.

    Attributes:
        last_write: The moment of the last write of anything. What was read after it is current, without asking `is_current`.
    """

    def __init__(self, copy: Callable[[V], V]) -> None:
        self._copy = copy
        self._writes: dict[int | None, float] = {}  # their moments, by slot
        self.last_write = self._last_moment = 0.0
        self._after_fork()
        fork.register_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._flights: dict[EntryRef, _Flight] = {}

    async def read(self, refs: Sequence[EntryRef], call: Callable[..., Awaitable[dict[EntryRef, V]]]) -> dict[EntryRef, V]:
        """Return the results for some entries.

        Args:
            refs: The entries.
            call: Reads the entries that no other call in flight reads, given those and the moment at which it begins.

        Returns:
            The results, without those of reads that other callers have given up: read these again.

        Raises:
            Exception: What `call` raised, here or, with a single entry, for the caller that this one joined.
        """
        flight = _Flight(self.stamp())
        joined: dict[EntryRef, _Flight] = {}
        mine: list[EntryRef] = []
        try:
            with self._lock:
                for ref in refs:
                    other = self._flights.get(ref)
                    if other and self.is_current(ref, other.began) and other.join():
                        joined[ref] = other
                    else:
                        mine.append(ref)
                        self._flights[ref] = flight
            found = await call(mine, flight.began) if mine else {}
            with self._lock:  # the caller may change its results, so the others get copies
                flight.set_result({ref: self._copy(value) for ref, value in found.items()} if flight.is_shared else {})
        except BaseException as error:
            # A cancellation concerns only this caller. An error of several entries may be that of another entry.
            if isinstance(error, Exception) and len(mine) == 1 and not flight.done():
                flight.set_exception(error)
            flight.cancel()
            raise
        finally:
            with self._lock:
                for ref in [ref for ref in mine if self._flights.get(ref) is flight]:
                    del self._flights[ref]
            del flight  # or an error would hold on to the frame that holds on to it
        for ref, other in joined.items():
            with suppress(CancelledError, runtime.LoopOverError):
                found[ref] = self._copy((await runtime.wait(other, other.loop))[ref])
        return found

    def stamp(self, written: Sequence[EntryRef] = ()) -> float:
        """Return a new moment: the time in seconds since the epoch, but later than all before, even if the clock went back.

        Args:
            written: What has been written, even if it failed. Its reads from before this moment are out of date.
        """
        with self._lock:
            self._last_moment = moment = max(clock.now(), math.nextafter(self._last_moment, math.inf))
            if written:
                self.last_write = max(self.last_write, moment)  # a signal handler may have written since
                self._writes.update(dict.fromkeys(map(_slot, written), moment))
            return moment

    def is_current(self, ref: EntryRef, began: float) -> bool:
        """Return whether an entry has not been written since a read of it began."""
        last = self._writes.get  # with the slots written out, a hit in a cache takes 12 % less
        return began > last(hash(ref) % _SLOTS, 0.0) and began > last(~(hash(ref[0]) % _SLOTS), 0.0) and began > last(None, 0.0)


def _slot(ref: EntryRef) -> int | None:
    """Return where the moment of a write is remembered: keys share `_SLOTS` slots, and so do collections. None is for everything.

    A write counts as one of all that share its slot, which costs them a miss. So memory is bounded, and no number of writes makes
    everything a miss at once.
    """
    return hash(ref) % _SLOTS if ref[1] is not None else None if ref[0] is None else ~(hash(ref[0]) % _SLOTS)
