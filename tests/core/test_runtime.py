"""The runtime module: inline, asyncio and trio told apart, and what holds across threads and loops."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import anyio
import pytest
import trio
import trio.lowlevel

from keyvalue._core import runtime
from tests.interpreter import forks, returns_true_in_a_fork
from tests.scripted import on_loops

everywhere = pytest.mark.parametrize("kind", ["inline", "asyncio", "trio"])


def run(kind: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if kind == "inline":
        runtime.drive(main())
    else:
        anyio.run(main, backend=kind)


# Which runtime the calling code is on


@everywhere
def test_current(kind: str) -> None:
    async def main() -> None:
        assert runtime.current() == kind

    run(kind, main)


@on_loops
async def test_inline_wins_over_a_running_loop() -> None:
    async def inner() -> str:
        return runtime.current()

    assert runtime.drive(inner()) == "inline"


def test_trio_as_a_guest_of_asyncio() -> None:
    async def guest() -> str:
        await trio.lowlevel.checkpoint()
        return runtime.current()

    async def main() -> tuple[str, str]:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        trio.lowlevel.start_guest_run(guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result)
        outcome = await done
        return outcome.unwrap(), runtime.current()

    assert asyncio.run(main()) == ("trio", "asyncio")


# Inline


def test_drive_returns_raises_and_restores() -> None:
    async def fails() -> None:
        raise LookupError("mine")

    async def returns() -> int:
        return 7

    assert runtime.drive(returns(), None) == 7
    with pytest.raises(LookupError, match="mine"):
        runtime.drive(fails(), None)
    with pytest.raises(RuntimeError, match=r"keyvalue\.blocking"):
        runtime.current()


def test_drive_refuses_what_suspends_and_never_runs_it_again() -> None:
    steps: list[str] = []

    class Suspicious:
        pass

    async def suspends() -> None:
        try:
            steps.append("before")
            await asyncio.sleep(0)
            steps.append("after")
        finally:
            steps.append("closed")

    with pytest.raises(RuntimeError, match="Suspicious declares that it runs inline"):
        runtime.drive(suspends(), Suspicious())
    assert steps == ["before", "closed"]


# Waiting for a future


@everywhere
def test_waiting_for_a_future_of_another_thread(kind: str) -> None:
    async def main() -> None:
        future: Future[int] = Future()
        threading.Timer(0.02, future.set_result, [7]).start()
        assert await runtime.wait(future) == 7
        assert await runtime.wait(future) == 7
        failed: Future[int] = Future()
        threading.Timer(0.02, failed.set_exception, [LookupError("theirs")]).start()
        with pytest.raises(LookupError):
            await runtime.wait(failed)

    run(kind, main)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_cancelling_a_wait_leaves_the_future_alone(loop: str) -> None:
    future: Future[int] = Future()

    async def main() -> None:
        with anyio.move_on_after(0.01) as scope:
            await runtime.wait(future)
        assert scope.cancelled_caught

    anyio.run(main, backend=loop)
    assert not future.cancelled()
    future.set_result(7)  # the loop that waited is gone, which harms nothing


def stopped_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that has run and was neither finished nor closed."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    return loop


def finished_trio() -> Any:
    async def main() -> Any:
        return runtime.running_loop()

    return trio.run(main)


@pytest.mark.parametrize("make", [stopped_loop, finished_trio])
@everywhere
def test_waiting_for_what_a_loop_that_does_not_run_would_have_to_do(make: Any, kind: str) -> None:
    owner = make()

    async def main() -> None:
        with pytest.raises(runtime.LoopOverError):
            await runtime.wait(Future(), owner)
        once, counted = runtime.Once(), Counted()
        once._running, once._owner = Future(), owner  # pyright: ignore[reportPrivateUsage] # as a task on it would leave it
        await once.run(counted)
        assert counted.finished == 1

    run(kind, main)
    if isinstance(owner, asyncio.AbstractEventLoop):
        owner.close()


@everywhere
def test_a_wait_ends_with_the_loop_that_it_depends_on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_LOOK_AGAIN", 0.02)
    loop, is_running = asyncio.new_event_loop(), threading.Event()
    loop.call_soon(is_running.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    is_running.wait()

    async def main() -> None:
        threading.Timer(0.03, loop.call_soon_threadsafe, [loop.stop]).start()
        with pytest.raises(runtime.LoopOverError):
            await runtime.wait(Future(), loop)

    run(kind, main)
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
    once, counted = runtime.Once(), Counted()

    async def many() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(once.run, counted)

    threads = [threading.Thread(target=anyio.run, args=(many,), kwargs={"backend": name}) for name in ("asyncio", "trio") * 2]
    threads += [threading.Thread(target=lambda: runtime.drive(once.run(counted), None)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.finished == 1
    assert once.done


@forks
def test_once_works_after_a_fork_that_another_thread_ran_it_through() -> None:
    once = runtime.Once()
    started, release = threading.Event(), threading.Event()

    async def slow() -> None:
        started.set()
        release.wait()

    def in_child() -> bool:
        counted = Counted()
        runtime.drive(once.run(counted))
        return counted.finished == 1

    thread = threading.Thread(target=lambda: runtime.drive(once.run(slow)))
    thread.start()
    started.wait()
    worked = returns_true_in_a_fork(in_child)
    release.set()
    thread.join()
    assert worked


# Worker threads


def test_threads_are_bounded_and_copy_the_context() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    threads = runtime.Threads(2, "test")
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
    threads = runtime.Threads(1, "test")
    threads.submit(lambda: None).result()
    assert returns_true_in_a_fork(lambda: threads.submit(lambda: 7).result() == 7)
    threads.stop()


# Calls that go on although the caller is cancelled (tests/core/test_cancellation.py has those in tasks and threads)


async def test_a_detached_call_goes_on_without_a_task() -> None:
    loop, abandoned = asyncio.get_running_loop(), list["Future[None]"]()

    async def outcome(call: runtime.Reply) -> Any:
        return await runtime.run_to_end(call, lambda future, _: abandoned.append(future))

    for error in (None, LookupError("nobody listens any more")):
        call = runtime.Reply(loop=loop)
        with anyio.move_on_after(0):
            await outcome(call)
        ended = abandoned.pop()
        assert not ended.done()
        loop.call_soon(call.end, "too late", error)
        await runtime.wait(ended)
        assert call.cancelled()
        assert call.ended() is ended
    call = runtime.Reply(loop=loop)
    loop.call_soon(call.end, "result")
    assert await outcome(call) == "result"
    assert call.ended().done()
    call = runtime.Reply(loop=loop)
    loop.call_soon(call.end, None, LookupError())
    with pytest.raises(LookupError):
        await outcome(call)
    assert abandoned == []


# Several calls at a time


@everywhere
def test_each(kind: str) -> None:
    under_way = most = 0

    async def call(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await runtime.sleep(0.001 * (number % 3))
        under_way -= 1
        return number * 2

    async def main() -> None:
        assert await runtime.each(call, range(20), 4) == [number * 2 for number in range(20)]
        assert await runtime.each(call, [1], 4) == [2]
        assert await runtime.each(call, [], 4) == []

    run(kind, main)
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
        await runtime.each(call, range(10), 5)
    with anyio.move_on_after(0.01) as scope:
        await runtime.each(call, [0, 1], 5)
    assert scope.cancelled_caught
    assert ended == []
