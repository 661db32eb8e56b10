"""The one module that knows which runtime a call is on: asyncio, trio, or a plain thread ("inline").

Code above it is written once, as coroutines that await only what is in here. On asyncio and trio they suspend as usual. `Inline` runs a
coroutine to its end, in the calling thread, where nothing may suspend and waiting blocks the thread. "Inline" is a context
variable, and it wins over a loop that may be running on the thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from math import inf
from queue import Empty, SimpleQueue
from traceback import walk_tb
from types import FrameType
from typing import Any, Literal, TypeVar, cast

from keyvalue._core.threads import Threads
from keyvalue.errors import KeyValueOperationError

__all__ = [
    "Inline",
    "LoopOverError",
    "asyncio_loop",
    "blocked",
    "blocking",
    "call_in_worker",
    "current",
    "drive",
    "is_inline",
    "is_over",
    "loops_here",
    "map_concurrent",
    "monotonic",
    "run_in_worker",
    "running_loop",
    "shielded",
    "sleep",
    "wait",
]

S = TypeVar("S")
T = TypeVar("T")
Runtime = Literal["inline", "asyncio", "trio"]

_NO_LOOP = ("NoEventLoopError", "AsyncLibraryNotFoundError")
"""What anyio, or sniffio under an older one, raises where no event loop runs."""
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
    """Return trio's low-level module if it has been imported (to the end)."""
    return getattr(sys.modules.get("trio"), "lowlevel", None)


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return the running asyncio loop if the calling code is part of one of its tasks, else None."""
    trio = sys.modules.get("trio")  # as `_trio` does, without the call, which each asynchronous call of a client would pay for
    if trio is not None and (lowlevel := getattr(trio, "lowlevel", None)) is not None and lowlevel.in_trio_task():
        return None
    return asyncio._get_running_loop()  # the documented get_running_loop() raises where this returns None


def running_loop() -> object | None:
    """Return an object that stands for the loop of the calling task, or under which the calling code runs inline, else None."""
    loops = loops_here()
    return loops[0] if loops else None


def loops_here() -> tuple[object, ...]:
    """Return all loops that run on this thread, that of the calling task first: trio's guest mode has two."""
    trio = _trio()
    loop = asyncio._get_running_loop()
    if trio is None or not trio.in_trio_run():
        return () if loop is None else (loop,)
    token = trio.current_trio_token()
    if loop is None:
        return (token,)
    return (token, loop) if trio.in_trio_task() else (loop, token)


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
    return (*_blocked.get(), *loops_here()) if _inline.get() else _blocked.get()


@contextmanager
def blocking(loops: tuple[object, ...]) -> Generator[None, None, None]:
    """Have the calling code know that some loops wait for it; see `blocked`."""
    token = _blocked.set(loops)
    try:
        yield
    finally:
        _blocked.reset(token)


class Inline:
    """Runs coroutines to their end in the calling thread.

    Args:
        owner: The object with these coroutines, for the message.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: object) -> None:
        self._owner = owner

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, which must not suspend.

        Raises:
            RuntimeError: It suspended, or asked for an event loop. It is closed and not run any further.
        """
        before = _inline.get()
        try:  # not with a token: a call that is interrupted before it has that would leave the thread inline
            _inline.set(True)
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        except RuntimeError as error:
            if not _asks_for_a_loop(error):
                raise
            raise self._error(frame for frame, _ in walk_tb(error.__traceback__)) from error
        finally:
            _inline.set(before)
        error = self._error(_awaited_frames(coroutine))
        coroutine.close()
        raise error

    def _error(self, frames: Iterable[FrameType]) -> RuntimeError:
        """Return the error, which names the class of the innermost method that is of one that declares it."""
        name = type(self._owner).__name__
        for frame in frames:
            kind = type(cast("object", frame.f_locals.get("self")))
            if vars(kind).get("runs_inline"):
                name = kind.__name__
        return RuntimeError(
            f"{name} declares that it runs inline, but it awaited something that needs an event loop, such as a sleep or a request. "
            f"Remove `runs_inline = True` from the class {name}: the blocking façade then runs it on a loop in a background thread"
        )


def _asks_for_a_loop(error: RuntimeError) -> bool:
    return str(error) in ("no running event loop", "must be called from async context") or type(error).__name__ in _NO_LOOP


def _awaited_frames(awaited: Any) -> Iterator[FrameType]:
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        yield frame
        awaited = awaited.cr_await


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
        ended: SimpleQueue[object] = SimpleQueue()  # unlike what concurrent.futures waits with, it bears an interrupt
        future.add_done_callback(ended.put)
        with suppress(Empty):
            ended.get(timeout=seconds)
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


_codec_threads = Threads(4, "keyvalue-codec")


async def sleep(seconds: float) -> None:
    """Wait for some seconds; the thread does, if the calling code runs inline."""
    if _inline.get():
        time.sleep(seconds)  # noqa: ASYNC251 # there is no loop
        return
    import anyio  # noqa: PLC0415 # it takes long to import, and most code never sleeps

    await anyio.sleep(seconds)


@contextmanager
def shielded(seconds: float = inf) -> Generator[None, None, None]:
    """Have what is awaited go on although the caller is cancelled, but give it up after some seconds."""
    if _inline.get():
        yield
        return
    import anyio  # noqa: PLC0415 # as above

    with anyio.move_on_after(seconds, shield=True):
        yield


def monotonic() -> float:
    """Return the seconds of the clock that `sleep` goes by."""
    if _inline.get():
        return time.monotonic()
    import anyio  # noqa: PLC0415 # as above

    return anyio.current_time()


async def run_in_worker(function: Callable[[], T]) -> T:
    """Call a function that takes long to compute, in a worker thread if a loop would have to wait for it."""
    return function() if _inline.get() else await wait(_codec_threads.submit(function))


def call_in_worker(function: Callable[[], T]) -> T:
    """Call a function in a worker thread: one that takes a lock which a signal's handler could not take in the same thread."""
    return _codec_threads.call(function)


async def map_concurrent(function: Callable[[S], Awaitable[T]], items: Sequence[S], *, limit: int) -> list[T]:
    """Await a function of each item, some at the same time; one after the other if the calling code runs inline.

    Args:
        function: What to await.
        items: What to call it with.
        limit: How many calls may be under way.

    Returns:
        The results, aligned with the items. If a call fails, the others are cancelled and its error is raised.
    """
    if _inline.get() or len(items) < 2:
        return [await function(item) for item in items]
    import anyio  # noqa: PLC0415 # as above

    results: dict[int, T] = {}
    errors: list[Exception] = []
    todo = iter(enumerate(items))

    async def work() -> None:
        try:
            for index, item in todo:
                results[index] = await function(item)
        except Exception as error:  # noqa: BLE001 # raised below, by itself rather than in a group
            errors.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(min(limit, len(items))):
            group.start_soon(work)
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(items))]
