"""The synchronous client of a store: called in the caller's own thread, or in worker threads on an event loop.

The client is created at the first call. What a store that is dropped leaves is closed, since clients warn of being dropped open, or leave
their sockets to warn.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from functools import partial
from typing import Any, Literal

from keyvalue._core import file_errors, fork, pending, runtime
from keyvalue._core.slots import ThreadSlots, Turn, shared
from keyvalue._core.threads import Threads
from keyvalue._core.wording import closed_error
from keyvalue.errors import KeyValueError, KeyValueOperationError, StoreSetupError

__all__ = ["AtFork", "SyncClient", "do_nothing", "explanation"]

_THREADS = 40  # at most
_MANY = 1000  # threads that make calls at a time; some clients set no limit of their own
_PATIENCE = 5.0  # seconds for which unfinished calls may delay the end of the process
_FOREVER = 1e9  # seconds
_EXPLANATION = "keyvalue_explanation"

AtFork = Literal["recreate", "share", "close", "refuse"]

_open: weakref.WeakSet[SyncClient] = weakref.WeakSet()


def explanation(error: Exception) -> str | None:
    """Return what to say of an error of a client, if its `explain` knew."""
    return vars(error).get(_EXPLANATION)


class SyncClient:
    """The synchronous client of one store. See `Clients` for the arguments.

    Attributes:
        client: The client; None before it is created.
        is_borrowed: Whether the user passed it in. It is never closed then.
    """

    def __init__(
        self,
        name: str,
        create: Callable[[], Any] | None,
        close: Callable[[Any], Any],
        borrowed: Any,
        *,
        limit_owner: Any,
        serialize_calls: bool,
        capacity: Callable[[Any], int | None],
        interruptible: bool,
        repair: Callable[[Any], object] | None,
        is_current: Callable[[Any], bool] | None,
        at_fork: AtFork,
        explain: Callable[[Any, Exception], str | None] | None,
    ) -> None:
        self._name = name
        self._create = create
        self._close = close
        self.client: Any = borrowed
        self.is_borrowed: bool = borrowed is not None
        self._limit_owner = borrowed if limit_owner is None else limit_owner
        self._capacity = capacity
        self._interruptible = interruptible
        self._repair = repair
        self._is_current = is_current
        self._at_fork: AtFork = at_fork
        self._explain = explain
        self._is_of_parent = False
        self._is_closed = False
        self._lock = threading.RLock()  # a signal's handler may make a call in the middle of another one
        self._turn = self._create_turn() if serialize_calls else None
        self._slots = self._slots_for(borrowed)
        self._threads = Threads(1 if serialize_calls else _THREADS, name)
        self._in_threads: set[Future[Any]] = set()
        self._finalizer: weakref.finalize[Any, Any] | None = None
        _open.add(self)
        fork.register_after_fork(self)
        if at_fork == "close":
            fork.register_around_fork(self)

    # Calls.

    def call(self, function: Callable[[Any], Any]) -> Any:
        """Call a function of the client and block until it returns; in this thread, unless that may be interrupted and must not be."""
        if not self.leaves_thread():
            return self._call_here(function)
        future = self._expect()
        try:
            return self._threads.call(partial(self._call_here, function), future)
        except BaseException:
            _leave(future)
            raise

    async def call_in_worker(self, function: Callable[[Any], Any]) -> Any:
        """Call a function of the client in a worker thread."""
        runtime.current()  # raises where nothing can be awaited, before anything is called
        future = self._expect()
        try:
            self._threads.submit(partial(self._call_here, function), future)
            return await runtime.wait(future)
        except BaseException:
            _leave(future)
            raise

    def leaves_thread(self) -> bool:
        """Return whether a call of synchronous code is made in another thread, so that it goes on if it is interrupted."""
        return not self._interruptible and threading.current_thread() is threading.main_thread()

    def _expect(self) -> Future[Any]:
        """Return a future for a call in a worker thread, for which `finish_calls` waits."""
        future: Future[Any] = Future()
        self._in_threads.add(future)
        future.add_done_callback(self._in_threads.discard)
        return future

    def _call_here(self, function: Callable[[Any], Any]) -> Any:
        if self._turn is not None:
            with self._turn.lock:
                return self._call_in_turn(function, self._turn)
        try:
            client, slots = self.client, self._slots
            if client is None or self._is_closed:
                client, slots = self._opened(), self._slots
            if slots is None:
                return function(client)
            return slots.run(lambda: function(self._opened() if self._is_closed else client))
        except BaseException as error:
            self._examine(error)
            raise

    def _call_in_turn(self, function: Callable[[Any], Any], turn: Turn) -> Any:
        if turn.is_taken:
            raise KeyValueOperationError(
                f"This {self._name} was called by the handler of a signal in the middle of another call of the same thread; let the "
                "handler note what is to be done, and do it when that call has returned"
            )
        try:
            turn.is_taken = True
            client = self._opened()
            if self._is_current is not None and not self._is_current(client):
                self._discard()
                client = self._opened()
            return function(client)
        except BaseException as error:
            self._examine(error)
            raise
        finally:
            turn.is_taken = False

    def _examine(self, error: BaseException) -> None:
        """Do what an error of a call asks for, in the thread of the call."""
        client = self.client
        if isinstance(error, Exception):
            if self._explain is not None and client is not None and not isinstance(error, KeyValueError):
                with suppress(Exception):  # the error itself counts
                    vars(error)[_EXPLANATION] = self._explain(client, error)
            return
        # The client was interrupted in the middle of something, and must not go on from there.
        with suppress(Exception):  # its next use reports it
            if client is not None and self._repair is not None:
                self._repair(client)
            elif self._turn is not None:
                self._discard()

    # The client's life.

    def _opened(self) -> Any:
        """Return the client, created if need be."""
        with self._lock:
            if self._is_closed:
                raise closed_error(self._name)
            if self._is_of_parent:
                raise StoreSetupError(
                    f"This {self._name} was opened before the process forked, and can't be used in the child; "
                    "open it in one process only, or fork before it is first used"
                )
            if self.client is None:
                assert self._create is not None
                try:
                    created = self._create()
                except KeyValueError:
                    raise
                except Exception as error:
                    raise file_errors.opening_error(f"This {self._name} could not be opened", error) from error
                if self.client is not None:  # a signal's handler has created one meanwhile
                    self._close(created)
                    return self.client
                self._slots = self._slots_for(created)
                self.client = created
                self._finalizer = weakref.finalize(self, self._close, created)
                self._finalizer.atexit = False  # which would be before exit handlers of the program; see `_close_at_exit`
            return self.client

    def _discard(self) -> None:
        """Close the client if it was created here; the next call creates another."""
        client = self.client
        if client is not None and not self.is_borrowed:
            self.client = None
            self._forget()
            self._close(client)

    def _forget(self) -> None:
        """Have the client not be closed when this object is dropped."""
        if self._finalizer is not None:
            self._finalizer.detach()
            self._finalizer = None

    def _create_turn(self) -> Turn:
        return shared(Turn, self._limit_owner) if self.is_borrowed else Turn()

    def _slots_for(self, client: Any) -> ThreadSlots | None:
        capacity = None if client is None else self._capacity(client)
        if capacity is None:
            return None
        count = min(capacity, _MANY)
        return shared(ThreadSlots, self._limit_owner, count=count) if self.is_borrowed else ThreadSlots(count)

    def start_closing(self) -> list[tuple[Future[Any], object | None]]:
        """Close the client after the calls that it is making; see `Clients.start_closing`."""
        started: list[tuple[Future[Any], object | None]] = []
        self._is_closed = True
        with self._lock:
            client, self.client = (None, self.client) if self.is_borrowed else (self.client, None)
        if client is not None and runtime.current() == "inline":
            self._close_after_calls(client)
        elif client is not None:
            started.append((self._threads.submit(lambda: self._close_after_calls(client)), None))
        self._threads.stop()
        return started

    async def finish_calls(self) -> None:
        """Wait for the calls in worker threads."""
        for future in list(self._in_threads):
            with suppress(Exception):
                await runtime.wait(future)

    def _close_after_calls(self, client: Any, seconds: float = _FOREVER) -> None:
        """Close a client after the calls that it is making, unless they take longer than some seconds."""
        deadline = time.monotonic() + seconds
        if wait_for(list(self._in_threads), seconds).not_done:
            return
        if self._turn is not None and not self._turn.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return
        try:
            self._forget()
            self._close(client)
        finally:
            if self._turn is not None:
                self._turn.lock.release()

    def close_at_exit(self, deadline: float) -> None:
        """Wait for the calls in worker threads, and close the client if they end by a moment of `time.monotonic`."""
        with suppress(Exception):
            if self.client is None or self.is_borrowed:
                wait_for(list(self._in_threads), max(0.0, deadline - time.monotonic()))
            else:
                self._close_after_calls(self.client, max(0.0, deadline - time.monotonic()))

    # Forks.

    def _before_fork(self) -> None:
        assert self._turn is not None
        self._turn.lock.acquire()
        if self.client is not None:
            with suppress(Exception):  # a fork can't fail; if the client is broken, its next use reports it
                self._close(self.client)

    def _after_fork_in_parent(self) -> None:
        assert self._turn is not None
        self._turn.lock.release()

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._turn = self._turn and self._create_turn()
        self._in_threads = set()
        if self._at_fork != "close":  # the parent's client is not closed with a store of the child's
            self._forget()
        if self._at_fork in ("recreate", "refuse") and not self.is_borrowed and self.client is not None:
            fork.keep_inherited(self.client, self._create)
            self._is_of_parent = self._at_fork == "refuse"
            self.client = None
        self._slots = self._slots_for(self.client)


def _leave(future: Future[Any]) -> None:
    """Take back a call in a worker thread that its caller leaves, or keep it as pending if it has begun."""
    if not future.done() and not future.cancel():
        pending.keep(future, None)


def do_nothing(client: Any) -> None:
    """Make no call."""


def _close_at_exit() -> None:
    deadline = time.monotonic() + _PATIENCE
    for client in list(_open):
        client.close_at_exit(deadline)


# Exit handlers run in the reverse order, so those that the program registers after it has imported a store run before these two: this one,
# and that of the first finalizer of the process, which runs those of the clients' libraries.
weakref.finalize(SyncClient, do_nothing, None)
atexit.register(_close_at_exit)
