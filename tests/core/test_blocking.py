"""The façade: its two paths, its threads, and its misuse."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import anyio
import anyio.lowlevel
import pytest

from keyvalue._core.runtime import current
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import StoreClosedError
from keyvalue.protocols import AsyncKeyValue, EnumerateKeysProtocol, KeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.wrappers.base import BaseWrapper
from tests.backends import PlainWrapper
from tests.budget import scaled
from tests.interpreter import forks, returns_true_in_a_fork, run_fresh

loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


class ThirdParty:
    """A third party's store: the eight methods and nothing more. It notes the thread and the loop of its calls."""

    def __init__(self) -> None:
        self.values: dict[tuple[str | None, str], dict[str, Any]] = {}
        self.threads: set[int] = set()
        self.loops: set[str] = set()
        self.waits = threading.Event()
        self.cancelled = 0

    async def _visit(self) -> None:
        self.threads.add(threading.get_ident())
        self.loops.add(current())
        await anyio.lowlevel.checkpoint()

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        await self._visit()
        if key == "slow":
            try:
                self.waits.set()
                await anyio.sleep_forever()
            except BaseException:
                self.cancelled += 1
                raise
        return self.values.get((collection, key))

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        return await self.get(key, collection=collection), None

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        await self._visit()
        self.values[collection, key] = dict(value)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        await self._visit()
        return self.values.pop((collection, key), None) is not None

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        return [await self.get(key, collection=collection) for key in keys]

    async def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        return [await self.ttl(key, collection=collection) for key in keys]

    async def put_many(
        self, keys: Sequence[str], values: Sequence[Mapping[str, Any]], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        for key, value in zip(keys, values, strict=True):
            await self.put(key, value, collection=collection, ttl=ttl)

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        return sum([await self.delete(key, collection=collection) for key in keys])


class Entered(ThirdParty):
    """A third party's store that must be entered, and left in the task that entered it."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    async def __aenter__(self) -> Entered:
        self._scope = anyio.CancelScope()
        self._scope.__enter__()
        self.log.append("entered")
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self._scope.__exit__(*exc)
        self.log.append("left")


class Closable(ThirdParty):
    def __init__(self) -> None:
        super().__init__()
        self.closed = 0

    async def aclose(self) -> None:
        self.closed += 1


@loops
def test_a_third_party_store(loop: Any) -> None:
    store = ThirdParty()
    with BlockingKeyValue(store, backend=loop) as kv:
        kv.put("k", {"a": 1}, collection="c", ttl=5)
        kv.put_many(["l", "m"], [{"b": 2}, {}])
        assert kv.get("k", collection="c") == {"a": 1}
        assert kv.get_many(["l", "x"]) == [{"b": 2}, None]
        assert kv.ttl("l") == ({"b": 2}, None)
        assert kv.ttl_many(["l"]) == [({"b": 2}, None)]
        assert kv.delete("l") is True
        assert kv.delete_many(["m", "l"]) == 1
    assert len(store.threads) == 1
    assert threading.get_ident() not in store.threads
    assert store.loops == {loop}


def test_optional_methods_are_those_of_the_store() -> None:
    kv = BlockingKeyValue(MemoryStore())
    assert isinstance(kv, KeyValue)
    assert isinstance(kv, EnumerateKeysProtocol)
    assert not isinstance(BlockingKeyValue(NullStore()), EnumerateKeysProtocol)
    assert not isinstance(BlockingKeyValue(ThirdParty()), EnumerateKeysProtocol)
    assert isinstance(BlockingKeyValue(PlainWrapper(MemoryStore())), EnumerateKeysProtocol)


@pytest.mark.parametrize(("bad", "said"), [(MemoryStore, "the class MemoryStore"), (None, "None"), (1, "an int"), ({}, "a dict")])
def test_only_async_stores_are_taken(bad: Any, said: str) -> None:
    with pytest.raises(TypeError, match=f"takes an AsyncKeyValue, an object with its eight methods, not {said}$"):
        BlockingKeyValue(bad)
    synchronous: Any = BlockingKeyValue(MemoryStore())
    with pytest.raises(TypeError, match="is synchronous"):
        BlockingKeyValue(synchronous)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="trio"):
        BlockingKeyValue(MemoryStore(), backend="curio")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


class UndeclaredStore(MemoryStore):
    """A user's subclass that does not say that it runs inline."""


class UndeclaredWrapper(BaseWrapper):
    """A wrapper that does not say so either."""


class SleepingWrapper(BaseWrapper):
    """A wrapper that claims to run inline, and lies."""

    runs_inline = True

    def __init__(self, key_value: AsyncKeyValue) -> None:
        super().__init__(key_value)
        self.calls = 0

    async def _around(self, operation: Any, call: Any) -> Any:
        self.calls += 1
        await asyncio.sleep(0)
        return await call(self.key_value)


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
    assert not any(thread.is_alive() for thread in started)


def test_a_class_that_lies_about_running_inline_is_named() -> None:
    wrapper = SleepingWrapper(MemoryStore())
    kv = BlockingKeyValue(wrapper)
    with pytest.raises(RuntimeError, match="SleepingWrapper declares that it runs inline"):
        kv.get("k")
    assert wrapper.calls == 1


def test_closing_closes_what_is_beneath() -> None:
    store = Closable()
    with BlockingKeyValue(store) as kv:
        kv.get("k")
    assert store.closed == 1
    memory = MemoryStore()
    with BlockingKeyValue(memory) as kv:
        pass
    with pytest.raises(StoreClosedError):
        anyio.run(memory.get, "k")
    with pytest.raises(StoreClosedError, match="closed"):
        kv.__enter__()


@loops
def test_a_store_that_must_be_entered(loop: Any) -> None:
    store = Entered()
    with BlockingKeyValue(store, backend=loop) as kv:
        assert store.log == ["entered"]
        assert kv.get("k") is None
    assert store.log == ["entered", "left"]


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
    store = ThirdParty()
    main_thread = threading.get_ident()

    def interrupt() -> None:
        store.waits.wait()
        time.sleep(0.1)  # the calling thread comes to wait for it too
        signal.pthread_kill(main_thread, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with BlockingKeyValue(store, backend=loop) as kv:
        kv.put("k", {"a": 1})
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            kv.get("slow")
        signal.signal(signal.SIGINT, before)
        assert kv.get("k") == {"a": 1}
        assert store.cancelled == 1


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
    def __del__(self, kv=None):
        try:
            self.kv.get("k")
        except RuntimeError as error:
            self.write(1, str(error).encode())

kv = BlockingKeyValue(Undeclared())
end = AtTheEnd()
end.kv = kv
end.write = os.write
if {used}:
    kv.put("k", {{"a": 1}})
    atexit.register(kv.get, "k")
print("ready")
"""


@pytest.mark.parametrize("used", [True, False])
def test_at_interpreter_shutdown(used: bool) -> None:
    assert "interpreter is shutting down" in run_fresh(PROGRAM.format(used=used))


def test_a_facade_that_is_dropped_ends_its_thread() -> None:
    before = set(threading.enumerate())
    kv = BlockingKeyValue(ThirdParty())
    kv.get("k")
    (thread,) = set(threading.enumerate()) - before
    del kv
    thread.join(5)
    assert not thread.is_alive()


def test_a_facade_called_on_its_own_loop_is_a_clear_error() -> None:
    class Recursive(ThirdParty):
        facade: BlockingKeyValue

        async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
            return self.facade.get("other")

    store = Recursive()
    with BlockingKeyValue(store) as kv:
        store.facade = kv
        with pytest.raises(RuntimeError, match="its own event loop"):
            kv.get("k")


@pytest.mark.backends("disk", "rocksdb")
def test_closing_while_other_threads_are_in_calls(make_raw: Any, backend: str) -> None:
    unexpected: list[BaseException] = []
    for _ in range(scaled(2, 10)):
        kv = BlockingKeyValue(make_raw())
        under_way = threading.Barrier(4)

        def work(kv: BlockingKeyValue = kv, under_way: threading.Barrier = under_way) -> None:
            under_way.wait()
            try:
                while True:
                    kv.put_many([f"k{number}" for number in range(50)], [{}] * 50)
            except StoreClosedError:
                pass
            except BaseException as error:  # noqa: BLE001 # whatever it is, it must not be lost in a thread
                unexpected.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        kv.put("k", {})
        under_way.wait()
        kv.put("k", {})
        kv.close()
        for thread in threads:
            thread.join()
    assert unexpected == []


def test_a_call_that_races_closing_starts_no_new_thread() -> None:
    kv = BlockingKeyValue(ThirdParty())
    kv.get("k")
    late = kv._target.get  # pyright: ignore[reportPrivateUsage] # what a call in another thread holds while this one closes
    kv.close()
    before = threading.active_count()
    with pytest.raises(StoreClosedError):
        kv._path.run(late("k"))  # pyright: ignore[reportPrivateUsage] # likewise
    assert threading.active_count() == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_facade_whose_thread_has_ended_says_so() -> None:
    class Exiting(ThirdParty):
        async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
            raise SystemExit

    kv = BlockingKeyValue(Exiting())
    with pytest.raises(SystemExit):
        kv.get("k")
    kv._loop._thread.join(5)  # type: ignore[union-attr] # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
    with pytest.raises(RuntimeError, match="raised SystemExit"):
        kv.get("k")


def test_a_facade_that_is_dropped_on_its_own_loop_ends_its_thread() -> None:
    class Holding(ThirdParty):
        facade: BlockingKeyValue | None = None

        async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
            await anyio.sleep(0.05)
            self.facade = None
            return None

    store = Holding()
    before = set(threading.enumerate())
    store.facade = BlockingKeyValue(store)
    store.facade.put("k", {})
    (thread,) = set(threading.enumerate()) - before
    loop = store.facade._loop  # pyright: ignore[reportPrivateUsage]
    future = loop.portal().start_task_soon(store.get, "k")
    del loop
    future.result()
    del future
    thread.join(5)
    assert not thread.is_alive()
