"""The façade: its two paths, its threads, and its misuse."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partialmethod
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from keyvalue._core.runtime import current
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import StoreClosedError, StoreConnectionError
from keyvalue.protocols import AsyncLifecycleProtocol, LifecycleProtocol
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.base import BaseWrapper
from tests.backends import PlainWrapper
from tests.budget import scale
from tests.interpreter import forks, returns_true_in_a_fork, run_fresh
from tests.stores.files import limited

loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


class ThirdParty:
    """A third party's store: the eight methods and nothing more. It notes the thread and the loop of calls, and awaits `visit` there."""

    def __init__(self) -> None:
        self._entries = MemoryStore()
        self.threads: set[int] = set()
        self.loops: set[str] = set()
        self.visit: Callable[[], Any] = anyio.lowlevel.checkpoint

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        self.threads.add(threading.get_ident())
        self.loops.add(current())
        await self.visit()
        return await getattr(self._entries, method)(*args, **kwargs)

    get: Any = partialmethod(_call, "get")
    ttl: Any = partialmethod(_call, "ttl")
    put: Any = partialmethod(_call, "put")
    delete: Any = partialmethod(_call, "delete")
    get_many: Any = partialmethod(_call, "get_many")
    ttl_many: Any = partialmethod(_call, "ttl_many")
    put_many: Any = partialmethod(_call, "put_many")
    delete_many: Any = partialmethod(_call, "delete_many")


@loops
def test_a_third_party_store(loop: Any) -> None:
    store = ThirdParty()
    with BlockingKeyValue(store, backend=loop) as kv:
        kv.put_many(["k", "l"], [{"a": 1}, {}], collection="c", ttl=5)
        assert kv.get("k", collection="c") == {"a": 1}
        assert kv.delete_many(["l", "m"], collection="c") == 1
    assert len(store.threads) == 1
    assert threading.get_ident() not in store.threads
    assert store.loops == {loop}


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="trio"):
        BlockingKeyValue(MemoryStore(), backend="curio")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("make", [MemoryStore, lambda: PlainWrapper(MemoryStore())])
def test_the_lifecycle_protocols_tell_sync_from_async(make: Callable[[], Any]) -> None:
    assert isinstance(make(), AsyncLifecycleProtocol)
    assert not isinstance(make(), LifecycleProtocol)
    assert isinstance(BlockingKeyValue(make()), LifecycleProtocol)
    assert not isinstance(BlockingKeyValue(make()), AsyncLifecycleProtocol)
    assert not isinstance(ThirdParty(), AsyncLifecycleProtocol)


class UndeclaredStore(MemoryStore):
    """A user's subclass that does not say that it runs inline."""


class UndeclaredWrapper(BaseWrapper):
    """A wrapper that does not say so either."""


@pytest.mark.parametrize(
    ("stack", "inline"),
    [
        (MemoryStore, True),
        (lambda: PlainWrapper(PlainWrapper(MemoryStore())), True),
        (UndeclaredStore, False),
        (lambda: PlainWrapper(UndeclaredStore()), False),
        (lambda: PlainWrapper(UndeclaredWrapper(MemoryStore())), False),
        (lambda: UndeclaredWrapper(MemoryStore()), False),
        (ThirdParty, False),
        (lambda: PlainWrapper(ThirdParty()), False),
    ],
)
def test_which_path_is_taken(stack: Any, inline: bool) -> None:
    before = set(threading.enumerate())
    kv = BlockingKeyValue(stack())
    kv.put("k", {"a": 1})
    assert kv.get("k") == {"a": 1}
    started = set(threading.enumerate()) - before
    assert bool(started) is not inline
    kv.close()
    for thread in started:
        thread.join(20)
        assert not thread.is_alive()


def test_a_class_that_lies_about_running_inline_is_named_and_not_run_again() -> None:
    steps: list[str] = []

    class Lying(BaseWrapper):
        runs_inline = True

        async def _intercept(self, operation: Any, call: Any) -> Any:
            try:
                steps.append("before")
                await asyncio.sleep(0)
                steps.append("after")
            finally:
                steps.append("closed")

    with pytest.raises(RuntimeError, match="Lying declares that it runs inline"):
        BlockingKeyValue(Lying(MemoryStore())).get("k")
    assert steps == ["before", "closed"]


@pytest.mark.parametrize("stack", [MemoryStore, UndeclaredStore, ThirdParty])
@loops
def test_on_a_thread_that_runs_a_loop(loop: str, stack: Any) -> None:
    kv = BlockingKeyValue(stack())

    async def main() -> None:
        kv.put("k", {"a": 1})
        await anyio.lowlevel.checkpoint()
        assert kv.get("k") == {"a": 1}

    for _ in range(2):  # nothing of the first loop is left in the façade
        anyio.run(main, backend=loop)
    kv.close()


@loops
def test_an_interrupt_cancels_the_call_and_leaves_the_facade_usable(loop: Any) -> None:
    store, waits, cancelled = ThirdParty(), threading.Event(), threading.Event()
    main_thread = threading.get_ident()

    async def wait() -> None:
        waits.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    def interrupt() -> None:
        waits.wait()
        time.sleep(0.1)  # the calling thread comes to wait for it too
        signal.pthread_kill(main_thread, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with BlockingKeyValue(store, backend=loop) as kv:
        kv.put("k", {"a": 1})
        store.visit, usual = wait, store.visit
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            kv.get("k")
        signal.signal(signal.SIGINT, before)
        store.visit = usual
        assert kv.get("k") == {"a": 1}
        assert cancelled.is_set()


@forks
@pytest.mark.parametrize("stack", [MemoryStore, UndeclaredStore])
def test_after_a_fork(stack: Any) -> None:
    kv = BlockingKeyValue(stack())
    kv.put("k", {"a": 1})

    def in_child() -> bool:
        with pytest.raises(RuntimeError, match="forked"):
            kv.get("k")
        return True

    assert returns_true_in_a_fork(in_child)
    assert kv.get("k") == {"a": 1}
    kv.close()


PROGRAM = """
import atexit, os
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.memory import MemoryStore

class Undeclared(MemoryStore):
    pass

class AtTheEnd:
    kv, write = BlockingKeyValue(Undeclared()), os.write

    def __del__(self):
        try:
            self.kv.get("k")
        except RuntimeError as error:
            self.write(1, str(error).encode())

end = AtTheEnd()
if {used}:
    end.kv.put("k", {{"a": 1}})
    atexit.register(end.kv.get, "k")
print("ready")
"""


@pytest.mark.parametrize("used", [True, False])
def test_at_interpreter_shutdown(used: bool) -> None:
    assert "interpreter is shutting down" in run_fresh(PROGRAM.format(used=used))


def test_a_facade_called_on_its_own_loop_is_a_clear_error() -> None:
    store = ThirdParty()
    with BlockingKeyValue(store) as kv:
        store.visit = lambda: kv.get("other")
        with pytest.raises(RuntimeError, match="its own event loop"):
            kv.get("k")


@pytest.mark.backends("disk", "rocksdb")
def test_closing_while_other_threads_are_in_calls(make_raw: Any, backend: str) -> None:
    for _ in range(scale(2, 10)):
        kv = BlockingKeyValue(make_raw())
        under_way = threading.Barrier(4)

        def work(kv: BlockingKeyValue = kv, under_way: threading.Barrier = under_way) -> None:
            under_way.wait()
            while True:
                kv.put_many([f"k{number}" for number in range(50)], [{}] * 50)

        with ThreadPoolExecutor(3) as pool:
            workers = [pool.submit(work) for _ in range(3)]
            kv.put("k", {})
            under_way.wait()
            kv.put("k", {})
            kv.close()
        for worker in workers:
            with pytest.raises(StoreClosedError):
                worker.result()


def test_a_call_that_races_closing_starts_no_new_thread() -> None:
    kv = BlockingKeyValue(ThirdParty())
    kv.get("k")
    late = kv._target.get  # pyright: ignore[reportPrivateUsage] # what a call in another thread holds while this one closes
    kv.close()
    before = set(threading.enumerate())
    with pytest.raises(StoreClosedError):
        kv._path.run(late("k"))  # pyright: ignore[reportPrivateUsage] # likewise
    assert set(threading.enumerate()) <= before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_facade_whose_thread_has_ended_says_so() -> None:
    store = ThirdParty()
    store.visit = sys.exit
    kv = BlockingKeyValue(store)
    with pytest.raises(SystemExit):
        kv.get("k")
    kv._loop._thread.join(5)  # type: ignore[union-attr] # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
    with pytest.raises(RuntimeError, match="raised SystemExit"):
        kv.get("k")


@pytest.mark.parametrize("on_its_own_loop", [False, True])
def test_a_facade_that_is_dropped_ends_its_threads(on_its_own_loop: bool) -> None:
    before = set(threading.enumerate())
    held = [BlockingKeyValue(ThirdParty())]
    held[0].put("k", {})
    started = set(threading.enumerate()) - before
    assert started

    async def drop() -> None:
        await anyio.sleep(0.05)
        held.clear()

    if on_its_own_loop:
        held[0]._loop.portal().start_task_soon(drop)  # pyright: ignore[reportPrivateUsage]
    else:
        held.clear()
    for thread in started:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # asyncio does not close a loop that it could not make
def test_a_loop_that_can_not_be_started_for_want_of_descriptors() -> None:
    kv = BlockingKeyValue(ThirdParty())
    with limited("RLIMIT_NOFILE", 0), pytest.raises(StoreConnectionError, match="no file descriptors left"):
        kv.put("k", {})
    gc.collect()
    kv.put("k", {"a": 1})
    assert kv.get("k") == {"a": 1}
    kv.close()
