"""The runtime module: inline, asyncio and trio told apart, and what holds across threads and loops."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
import time
from concurrent.futures import Future
from typing import Any

import anyio
import pytest
import trio
import trio.lowlevel

from keyvalue._core import runtime
from keyvalue.errors import KeyValueOperationError

loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


@loops
def test_current(loop: str) -> None:
    async def main() -> str:
        return runtime.current()

    assert anyio.run(main, backend=loop) == loop


def test_current_outside_of_any_loop() -> None:
    with pytest.raises(RuntimeError, match=r"keyvalue\.blocking"):
        runtime.current()


def test_inline_wins_over_a_running_loop() -> None:
    async def inner() -> str:
        return runtime.current()

    async def main() -> str:
        return runtime.drive(inner(), None)

    assert asyncio.run(main()) == "inline"
    assert trio.run(main) == "inline"
    assert runtime.drive(inner(), None) == "inline"


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


def test_drive_returns_raises_and_restores() -> None:
    async def fails() -> None:
        raise LookupError("mine")

    async def returns() -> int:
        return 7

    assert runtime.drive(returns(), None) == 7
    with pytest.raises(LookupError, match="mine"):
        runtime.drive(fails(), None)
    with pytest.raises(RuntimeError):
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


@loops
def test_waiting_for_a_future_of_another_thread(loop: str) -> None:
    async def main() -> None:
        future: Future[int] = Future()
        threading.Timer(0.02, future.set_result, [7]).start()
        assert await runtime.wait(future) == 7
        assert await runtime.wait(future) == 7
        failed: Future[int] = Future()
        threading.Timer(0.02, failed.set_exception, [LookupError("theirs")]).start()
        with pytest.raises(LookupError):
            await runtime.wait(failed)

    anyio.run(main, backend=loop)


@loops
def test_cancelling_a_wait_leaves_the_future_alone(loop: str) -> None:
    future: Future[int] = Future()

    async def main() -> None:
        with anyio.move_on_after(0.01) as scope:
            await runtime.wait(future)
        assert scope.cancelled_caught

    anyio.run(main, backend=loop)
    assert not future.cancelled()
    future.set_result(7)  # the loop that waited is gone; nobody minds


def test_waiting_inline() -> None:
    future: Future[int] = Future()
    threading.Timer(0.02, future.set_result, [7]).start()
    assert runtime.drive(runtime.wait(future), None) == 7


@loops
def test_waiting_inline_for_the_loop_that_is_blocked_is_an_error(loop: str) -> None:
    async def main() -> None:
        with pytest.raises(KeyValueOperationError, match="synchronous call blocks"):
            runtime.drive(runtime.wait(Future(), runtime.running_loop()), None)

    anyio.run(main, backend=loop)


class Counted:
    """Something slow that must run once."""

    def __init__(self, failures: int = 0) -> None:
        self.started = 0
        self.finished = 0
        self.failures = failures

    async def __call__(self) -> None:
        self.started += 1
        assert self.started == self.finished + 1, "it runs twice at a time"
        try:
            if runtime.current() == "inline":
                time.sleep(0.02)  # noqa: ASYNC251 # inline, sleeping blocks
            else:
                await anyio.sleep(0.02)
            if self.failures:
                self.failures -= 1
                raise LookupError("not yet")
        finally:
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


@loops
def test_once_that_fails_or_is_cancelled_fails_nobody_else(loop: str) -> None:
    async def main() -> None:
        once, counted = runtime.Once(), Counted(failures=1)
        failed: list[int] = []

        async def call(number: int) -> None:
            try:
                await once.run(counted)
            except LookupError:
                failed.append(number)

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(call, number)
        assert len(failed) == 1
        assert counted.finished == 2

        once, counted = runtime.Once(), Counted()
        async with anyio.create_task_group() as group:

            async def impatient() -> None:
                with anyio.move_on_after(0.005):
                    await once.run(counted)

            group.start_soon(impatient)
            await anyio.sleep(0.001)
            for _ in range(3):
                group.start_soon(once.run, counted)
        assert counted.finished == 2
        assert once.done

    anyio.run(main, backend=loop)


def test_threads_are_bounded_and_copy_the_context() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    threads = runtime.Threads(2, "test")
    at_work: set[int] = set()
    most = 0
    lock = threading.Lock()

    def work() -> int:
        nonlocal most
        with lock:
            at_work.add(threading.get_ident())
            most = max(most, len(at_work))
        time.sleep(0.01)
        with lock:
            at_work.discard(threading.get_ident())
        return variable.get()

    variable.set(7)
    assert [future.result() for future in [threads.submit(work) for _ in range(6)]] == [7] * 6
    assert most == 2
    threads.stop()
    assert threads.submit(work).result() == 7
    threads.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_threads_work_after_a_fork() -> None:
    threads = runtime.Threads(1, "test")
    threads.submit(lambda: None).result()
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage ends with os._exit
        os._exit(0 if threads.submit(lambda: 7).result(timeout=5) == 7 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    threads.stop()


def test_run_to_end_lets_a_cancelled_call_end() -> None:
    async def main() -> None:
        ended: list[str] = []
        abandoned: list[Future[None]] = []

        async def slow() -> None:
            await asyncio.sleep(0.02)
            ended.append("slow")

        async def fails() -> None:
            await asyncio.sleep(0.02)
            raise LookupError("nobody listens any more")

        for call in (slow, fails):
            with anyio.move_on_after(0.005):
                await runtime.run_to_end(call(), lambda future, _: abandoned.append(future))
        assert ended == []
        assert len(abandoned) == 2
        for future in abandoned:
            await runtime.wait(future)
        assert ended == ["slow"]
        with pytest.raises(LookupError):
            await runtime.run_to_end(fails(), lambda future, _: abandoned.append(future))
        assert len(abandoned) == 2

    asyncio.run(main())


def test_a_detached_call_goes_on_without_a_task() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        abandoned: list[Future[None]] = []
        for error in (None, LookupError("nobody listens any more")):
            call = runtime.Reply(loop=loop)
            with anyio.move_on_after(0.005):
                await runtime.run_to_end(call, lambda future, _: abandoned.append(future))
            (ended,) = abandoned
            assert not ended.done()
            loop.call_later(0.01, call.end, "too late", error)
            await runtime.wait(ended)
            assert call.cancelled()
            assert call.ended() is ended
            abandoned.clear()
        call = runtime.Reply(loop=loop)
        loop.call_soon(call.end, "result")
        assert await runtime.run_to_end(call, lambda future, _: abandoned.append(future)) == "result"
        assert call.ended().done()
        call = runtime.Reply(loop=loop)
        loop.call_soon(call.end, None, LookupError())
        with pytest.raises(LookupError):
            await runtime.run_to_end(call, lambda future, _: abandoned.append(future))
        assert abandoned == []

    asyncio.run(main())


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
@pytest.mark.parametrize("waiting", ["inline", "asyncio", "trio"])
def test_waiting_for_what_a_loop_that_does_not_run_would_have_to_do(make: Any, waiting: str) -> None:
    owner = make()

    async def main() -> None:
        with pytest.raises(runtime.LoopOverError):
            await runtime.wait(Future(), owner)
        once, counted = runtime.Once(), Counted()
        once._running, once._owner = Future(), owner  # pyright: ignore[reportPrivateUsage] # as a task on it would leave it
        await once.run(counted)
        assert counted.finished == 1

    if waiting == "inline":
        runtime.drive(main())
    else:
        anyio.run(main, backend=waiting)
    if isinstance(owner, asyncio.AbstractEventLoop):
        owner.close()


@pytest.mark.parametrize("waiting", ["inline", "asyncio", "trio"])
def test_a_wait_ends_with_the_loop_that_it_depends_on(waiting: str) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    while not loop.is_running():
        time.sleep(0.001)
    threading.Timer(0.05, loop.call_soon_threadsafe, [loop.stop]).start()

    async def main() -> None:
        with pytest.raises(runtime.LoopOverError):
            await runtime.wait(Future(), loop)

    if waiting == "inline":
        runtime.drive(main())
    else:
        anyio.run(main, backend=waiting)
    thread.join()
    loop.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_once_works_after_a_fork_that_another_thread_ran_it_through() -> None:
    once = runtime.Once()
    started, release = threading.Event(), threading.Event()

    async def slow() -> None:
        started.set()
        release.wait()

    thread = threading.Thread(target=lambda: runtime.drive(once.run(slow)))
    thread.start()
    started.wait()
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage ends with os._exit
        signal.alarm(5)
        counted = Counted()
        runtime.drive(once.run(counted))
        os._exit(0 if counted.finished == 1 else 1)
    release.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Several calls at a time


@pytest.mark.parametrize("kind", ["asyncio", "trio", "inline"])
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

    if kind == "inline":
        runtime.drive(main())
    else:
        anyio.run(main, backend=kind)
    assert most == (1 if kind == "inline" else 4)


@loops
def test_each_raises_the_error_of_a_call_by_itself_and_cancels_the_others(loop: str) -> None:
    ended: list[int] = []

    async def call(number: int) -> None:
        if number == 3:
            raise KeyError(number)
        await anyio.sleep(60)
        ended.append(number)

    async def main() -> None:
        with pytest.raises(KeyError, match="3"):
            await runtime.each(call, range(10), 5)
        with anyio.move_on_after(0.01) as scope:
            await runtime.each(call, [0, 1], 5)
        assert scope.cancelled_caught

    anyio.run(main, backend=loop)
    assert ended == []
