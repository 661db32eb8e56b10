"""The one module that knows which runtime a call is on: asyncio, trio, or a plain thread ("inline").

Code above it is written once, as coroutines that await only what is in here. On asyncio and trio they suspend as usual. `Inline` runs a
coroutine to its end, in the calling thread, where nothing may suspend and waiting blocks the thread. "Inline" is a context
variable, and it wins over a loop that may be running on the thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from contextlib import contextmanager, suppress
from math import inf
from typing import Any, Literal, Protocol, TypeVar

from keyvalue.errors import KeyValueOperationError

__all__ = [
    "Inline",
    "LoopOverError",
    "Once",
    "Threads",
    "aside",
    "blocked",
    "blocking",
    "current",
    "drive",
    "is_inline",
    "is_over",
    "renewed_by_fork",
    "run_to_end",
    "running_loop",
    "wait",
]

T = TypeVar("T")
Runtime = Literal["inline", "asyncio", "trio"]

_LOOK_AGAIN = 0.5  # seconds between two looks at whether the loop that is waited for still runs

_inline: contextvars.ContextVar[bool] = contextvars.ContextVar("keyvalue_inline", default=False)
_blocked: contextvars.ContextVar[tuple[object, ...]] = contextvars.ContextVar("keyvalue_blocked", default=())


is_inline = _inline.get
"""Return whether the calling code runs inline; the quick form of the question that every call asks."""


def current() -> Runtime:
    """Return the runtime of the calling code.

    Raises:
        RuntimeError: It is in neither a task nor `drive`.
    """
    if _inline.get():
        return "inline"
    trio = _trio()
    if trio is not None and trio.in_trio_task():
        return "trio"
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("Stores are awaited in an asyncio or trio task; from synchronous code use keyvalue.blocking") from None
    return "asyncio"


def _trio() -> Any | None:
    """Return trio's low-level module if somebody has imported it (to the end)."""
    return getattr(sys.modules.get("trio"), "lowlevel", None)


def running_loop() -> object | None:
    """Return an object that stands for the loop that runs on this thread, inline or not; None if there is none."""
    trio = _trio()
    if trio is not None and trio.in_trio_run():
        return trio.current_trio_token()
    return asyncio._get_running_loop()  # the documented get_running_loop() raises where this returns None


def is_over(loop: object | None) -> bool:
    """Return whether a loop (see `running_loop`) does not run any more, so that nothing on it makes progress."""
    if loop is None:
        return False
    if isinstance(loop, asyncio.AbstractEventLoop):
        return not loop.is_running()
    token: Any = loop
    try:
        token.run_sync_soon(_nothing, idempotent=True)
    except RuntimeError:  # trio.RunFinishedError
        return True
    return False


def _nothing() -> None:
    pass


def blocked() -> tuple[object, ...]:
    """Return the loops that can't run before the calling code has returned, because their threads wait for it."""
    loop = running_loop() if _inline.get() else None
    return _blocked.get() if loop is None else (*_blocked.get(), loop)


@contextmanager
def blocking(loops: tuple[object, ...]) -> Generator[None, None, None]:
    """Have the calling code know that some loops wait for it; see `blocked`."""
    token = _blocked.set(loops)
    try:
        yield
    finally:
        _blocked.reset(token)


class Renewable(Protocol):
    """What `renewed_by_fork` takes."""

    def _renew(self) -> None: ...


_renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renewed_by_fork(instance: Renewable) -> None:
    """Have `_renew` called on an object in every child that the process forks: the threads that held its locks are not there."""
    _renewables.add(instance)


def _renew_all() -> None:
    for instance in list(_renewables):
        instance._renew()  # pyright: ignore[reportPrivateUsage] # between the core and what is registered here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


class Inline:
    """Runs coroutines to their end in the calling thread.

    Args:
        owner: Whose coroutines they are, for the message.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: object) -> None:
        self._owner = owner

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, which must not suspend.

        Raises:
            RuntimeError: It suspended. It is closed and not run any further.
        """
        token = _inline.set(True)
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        finally:
            _inline.reset(token)
        coroutine.close()
        raise RuntimeError(
            f"{type(self._owner).__name__} declares that it runs inline, but it suspended (it awaited something of an event loop). "
            "Remove `runs_inline = True` from its class: the blocking façade then runs it on a loop in a background thread"
        )


def drive(coroutine: Coroutine[Any, Any, T], owner: object = None) -> T:
    """Run one coroutine inline; see `Inline.run`."""
    return Inline(owner).run(coroutine)


async def wait(future: Future[T], owner: object | None = None) -> T:
    """Wait for a future that any thread may complete, and return its result.

    Cancelling the wait leaves the future alone.

    Args:
        future: The future.
        owner: The loop (see `running_loop`) without which it can't complete, if there is such a one.

    Raises:
        KeyValueOperationError: That loop waits for this very call: waiting would never end.
        LoopOverError: That loop does not run any more.
    """
    if owner is None:
        await _wait_for(future, None)
        return future.result()
    while not future.done():
        if owner in blocked():
            raise KeyValueOperationError(
                "A call on this store is in flight on an event loop that this synchronous call blocks; "
                "await that call first, or make this one from another thread"
            )
        if is_over(owner):
            raise LoopOverError
        await _wait_for(future, _LOOK_AGAIN)
    return future.result()


async def _wait_for(future: Future[Any], seconds: float | None) -> None:
    """Wait until a future is done, at most for some seconds."""
    runtime = current()
    if runtime == "inline":
        wait_for_futures((future,), seconds)
    elif runtime == "asyncio":
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        future.add_done_callback(lambda _: _soon(loop.call_soon_threadsafe, _finish, waiter))
        alarm = None if seconds is None else loop.call_later(seconds, _finish, waiter)
        try:
            await waiter
        finally:
            if alarm is not None:
                alarm.cancel()
    else:
        import trio  # noqa: PLC0415 # not everybody has it

        event = trio.Event()
        token = trio.lowlevel.current_trio_token()
        future.add_done_callback(lambda _: _soon(token.run_sync_soon, event.set))
        with trio.move_on_after(inf if seconds is None else seconds):
            await event.wait()


class LoopOverError(Exception):
    """The event loop that a future depends on does not run any more."""


def _soon(schedule: Callable[..., object], *args: Any) -> None:
    with suppress(RuntimeError):  # the loop that waited has ended, and the wait with it
        schedule(*args)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def run_to_end(awaitable: Awaitable[T], abandon: Callable[[Future[None]], None]) -> T:
    """Await something on asyncio so that cancelling the caller does not cancel it.

    Args:
        awaitable: What to await; it runs in a task of its own.
        abandon: Called, if the caller is cancelled, with a future that is done when the awaitable has ended.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    async def run() -> T:
        try:
            return await awaitable
        finally:
            _finish(waiter)

    # An eager task saves one turn of the loop.
    task = asyncio.Task(run(), loop=loop, eager_start=True) if sys.version_info >= (3, 12) else loop.create_task(run())
    try:
        await waiter
    except asyncio.CancelledError:
        ended: Future[None] = Future()
        task.add_done_callback(lambda task: (task.cancelled() or task.exception(), ended.set_result(None)))
        if not task.done():
            abandon(ended)
        raise
    return await task


class Once:
    """Runs something exactly once, for callers in any number of threads and loops.

    If it fails or is cancelled, that is the affair of the caller that ran it; one of the others then tries in its turn.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Future[None] | None = None
        self._owner: object | None = None
        self.done = False
        renewed_by_fork(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._running = None

    async def run(self, function: Callable[[], Awaitable[object]]) -> None:
        """Return when the function has run, here or elsewhere.

        Args:
            function: What to run.
        """
        while not self.done:
            mine: Future[None] = Future()
            with self._lock:
                if self.done:
                    return
                running, owner = self._running, self._owner
                if running is None:
                    self._running, self._owner = mine, running_loop()
            if running is not None:
                try:
                    await wait(running, owner)
                except LoopOverError:
                    self._give_up(running)
                continue
            try:
                await function()
                self.done = True
            finally:
                self._give_up(mine)
                mine.set_result(None)

    def _give_up(self, running: Future[None]) -> None:
        with self._lock:
            if self._running is running:
                self._running = None


class Threads:
    """The worker threads of one store, started as needed.

    One pool serves every loop that uses the store. A call whose waiter was cancelled keeps its thread until it ends, so hung calls fill up
    their own store's threads and nobody else's.

    Args:
        count: At most so many threads.
        name: The prefix of their names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        renewed_by_fork(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._executor = None

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Run a function in a worker thread, in a copy of the caller's context.

        Args:
            function: What to run.

        Returns:
            The future of its result.
        """
        executor = self._executor
        if executor is None:
            with self._lock:
                executor = self._executor = self._executor or ThreadPoolExecutor(self._count, self._name)
        return executor.submit(contextvars.copy_context().run, function)

    def stop(self) -> None:
        """Let the threads end when they have nothing left to do."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


_aside = Threads(4, "keyvalue-codec")


async def aside(function: Callable[[], T]) -> T:
    """Call a function that takes long to compute, in a worker thread if a loop would have to wait for it."""
    return function() if _inline.get() else await wait(_aside.submit(function))
