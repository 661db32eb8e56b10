"""The runtime module: inline, asyncio and trio told apart, and what holds across threads and loops."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import anyio
import pytest
import trio
import trio.lowlevel

from keyvalue._core import pending, runtime
from keyvalue._core.once import Once
from keyvalue._core.threads import Threads
from tests.interpreter import forks, returns_true_in_a_fork
from tests.scripted import on_loops


def everywhere(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test inline and on both event loops; `kind` is which."""

    @pytest.mark.parametrize("kind", ["inline", "asyncio", "trio"])
    @functools.wraps(test)
    def run(kind: str, **fixtures: Any) -> None:
        if kind == "inline":
            runtime.drive(test(kind, **fixtures))
        else:
            anyio.run(functools.partial(test, kind, **fixtures), backend=kind)

    return run


# Which runtime the calling code is on


@everywhere
async def test_current(kind: str) -> None:
    async def current() -> str:
        return runtime.current()

    assert await current() == kind
    assert runtime.drive(current()) == "inline"
    assert await current() == kind


async def test_trio_as_a_guest_of_asyncio() -> None:
    async def guest() -> str:
        await trio.lowlevel.checkpoint()
        return runtime.current()

    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    trio.lowlevel.start_guest_run(guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result)
    assert (await done).unwrap() == "trio"
    assert runtime.current() == "asyncio"


# Inline


def test_drive_returns_raises_and_restores() -> None:
    async def outcome(error: Exception | None) -> int:
        if error is not None:
            raise error
        return 7

    assert runtime.drive(outcome(None)) == 7
    with pytest.raises(LookupError, match="mine"):
        runtime.drive(outcome(LookupError("mine")))
    with pytest.raises(RuntimeError, match=r"keyvalue\.blocking"):
        runtime.current()


# Waiting for a future


@everywhere
async def test_waiting_for_a_future_of_another_thread(kind: str) -> None:
    future, failed = Future[int](), Future[int]()
    if kind != "inline":
        with anyio.move_on_after(0.01) as scope:
            await runtime.wait(future)
        assert scope.cancelled_caught
        assert not future.cancelled()
    threading.Timer(0.02, future.set_result, [7]).start()
    assert [await runtime.wait(future), await runtime.wait(future)] == [7, 7]
    threading.Timer(0.02, failed.set_exception, [LookupError("theirs")]).start()
    with pytest.raises(LookupError):
        await runtime.wait(failed)


@pytest.fixture(params=["asyncio", "trio"])
def idle_loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A loop that has run. That of asyncio was neither finished nor closed."""

    async def running_loop() -> Any:
        return runtime.running_loop()

    loop = asyncio.new_event_loop()
    yield loop.run_until_complete(running_loop()) if request.param == "asyncio" else trio.run(running_loop)
    loop.close()


@everywhere
async def test_waiting_for_what_a_loop_that_does_not_run_would_have_to_do(kind: str, idle_loop: Any) -> None:
    with pytest.raises(runtime.LoopOverError):
        await runtime.wait(Future(), idle_loop)
    once, counted = Once(), Counted()
    once._running, once._owner = Future(), idle_loop  # pyright: ignore[reportPrivateUsage] # as a task on it would leave it
    await once.run(counted)
    assert counted.finished == 1


@everywhere
async def test_a_wait_ends_with_the_loop_that_it_depends_on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_LOOK_AGAIN", 0.02)
    loop, is_running = asyncio.new_event_loop(), threading.Event()
    loop.call_soon(is_running.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    is_running.wait()
    threading.Timer(0.03, loop.call_soon_threadsafe, [loop.stop]).start()
    with pytest.raises(runtime.LoopOverError):
        await runtime.wait(Future(), loop)
    thread.join()
    loop.close()


# Exactly once


class Counted:
    """Something slow that must run once."""

    started = finished = 0

    async def __call__(self) -> None:
        self.started += 1
        assert self.started == self.finished + 1, "it runs twice at a time"
        await runtime.sleep(0.02)
        self.finished += 1


def test_once_across_threads_and_loops() -> None:
    once, counted = Once(), Counted()

    async def many() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(once.run, counted)

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(anyio.run, many, backend=name) for name in ("asyncio", "trio") * 2]
        calls += [pool.submit(lambda: runtime.drive(once.run(counted))) for _ in range(4)]
        for call in calls:
            call.result()
    assert counted.finished == 1
    assert once.done


@forks
def test_once_works_after_a_fork_that_another_thread_ran_it_through() -> None:
    once, counted = Once(), Counted()
    assert once._running is None  # pyright: ignore[reportPrivateUsage]
    once._running = Future()  # pyright: ignore[reportPrivateUsage] # as a thread that is not in the child would leave it

    def in_child() -> bool:
        runtime.drive(once.run(counted))
        return counted.finished == 1

    assert returns_true_in_a_fork(in_child)


# Worker threads


def test_threads_are_bounded_and_copy_the_context() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    threads = Threads(2, "test")
    used: set[int] = set()
    both = threading.Barrier(2)

    def work() -> int:
        used.add(threading.get_ident())
        both.wait()
        return variable.get()

    variable.set(7)
    assert [future.result() for future in [threads.submit(work) for _ in range(6)]] == [7] * 6
    assert len(used) == 2
    threads.stop()
    assert threads.submit(variable.get).result() == 7
    threads.stop()


@forks
def test_threads_work_after_a_fork() -> None:
    threads = Threads(1, "test")
    threads.submit(lambda: None).result()
    assert returns_true_in_a_fork(lambda: threads.submit(lambda: 7).result() == 7)
    threads.stop()


# Calls that go on although the caller is cancelled (tests/core/test_cancellation.py has those in tasks and threads)


async def test_a_detached_call_that_has_ended_is_not_kept() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError

    writes = pending.PendingWrites()
    call = pending.DetachedTask(asyncio.sleep(0, "result"))
    assert await writes.run(("c", ("k",)), call) == "result"
    assert call.ended().done()
    assert not writes.calls
    call = pending.DetachedTask(fail())
    with pytest.raises(LookupError):
        await call
    assert call.ended().done()


async def test_the_error_of_a_detached_call_that_ends_as_its_caller_is_cancelled_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    gate = asyncio.Event()

    async def fail() -> None:
        await gate.wait()
        raise OSError("secret value")

    async def call() -> None:
        detached = pending.DetachedTask(fail())
        try:
            await detached
        except asyncio.CancelledError:
            detached.ended()
            raise

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    gate.set()
    await asyncio.sleep(0)  # the call has failed, its caller not awoken yet
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    gc.collect()
    assert "secret" not in caplog.text


async def test_a_detached_call_goes_on_without_a_task() -> None:
    loop = asyncio.get_running_loop()
    for error in (None, LookupError("nobody listens any more")):
        call = pending.Reply(loop=loop)
        with anyio.move_on_after(0):
            await call
        ended = call.ended()
        assert not ended.done()
        loop.call_soon(call.end, "too late", error)
        await runtime.wait(ended)
        assert call.cancelled()
        assert call.ended() is ended
    call = pending.Reply(loop=loop)
    loop.call_soon(call.end, "result")
    assert await call == "result"
    assert call.ended().done()
    call = pending.Reply(loop=loop)
    loop.call_soon(call.end, None, LookupError())
    with pytest.raises(LookupError):
        await call


# Several calls at a time


@everywhere
async def test_each(kind: str) -> None:
    under_way = most = 0

    async def call(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await runtime.sleep(0.001 * (number % 3))
        under_way -= 1
        return number * 2

    assert await runtime.map_concurrent(call, range(20), limit=4) == [number * 2 for number in range(20)]
    assert await runtime.map_concurrent(call, [1], limit=4) == [2]
    assert await runtime.map_concurrent(call, [], limit=4) == []
    assert most == (1 if kind == "inline" else 4)


@on_loops
async def test_each_raises_the_error_of_a_call_by_itself_and_cancels_the_others() -> None:
    ended: list[int] = []

    async def call(number: int) -> None:
        if number == 3:
            raise KeyError(number)
        await anyio.sleep(60)
        ended.append(number)

    with pytest.raises(KeyError, match="3"):
        await runtime.map_concurrent(call, range(10), limit=5)
    with anyio.move_on_after(0.01) as scope:
        await runtime.map_concurrent(call, [0, 1], limit=5)
    assert scope.cancelled_caught
    assert ended == []
