"""The cache: what it spares, what ends in it, and that no write leaves a stale value in it."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from types import FrameType
from typing import Any

import anyio
import pytest

from keyvalue._core import runtime as runtime_module
from keyvalue._core import single_flight
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, StoreConnectionError
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing import Clock
from keyvalue.wrappers import passthrough_cache as cache_module
from keyvalue.wrappers.compression import CompressionWrapper
from keyvalue.wrappers.passthrough_cache import PassthroughCacheWrapper
from tests.interpreter import forks, returns_true_in_a_fork
from tests.runtimes import Runtime
from tests.scripted import CALLS, DOWN, NEW, OLD, Gate, Hang, ScriptedStore, on_loops, store_with_nested

DEFAULT = "default_collection"


class Cached:
    """A cached store, and both stores behind it. One entry is there, and not cached yet."""

    def __init__(self, **kwargs: Any) -> None:
        self.primary = ScriptedStore(MemoryStore(seed={DEFAULT: {"k": OLD}}))
        self.cache = ScriptedStore(MemoryStore())
        self.kv: Any = PassthroughCacheWrapper(self.primary, self.cache, **kwargs)

    def calls(self) -> tuple[list[str], list[str]]:
        """Return the calls on the primary and on the cache since the last time."""
        calls = self.primary.calls[:], self.cache.calls[:]
        self.primary.calls.clear()
        self.cache.calls.clear()
        return calls


async def test_what_was_read_is_cached(runtime: Runtime) -> None:
    cached = Cached()
    kv = runtime.adapt(cached.kv)
    assert await kv.get("k") == OLD
    assert cached.calls() == (["ttl"], ["get", "put"])
    assert await kv.get("k") == OLD
    assert cached.calls() == ([], ["get"])
    assert await kv.get_many(["k", "l", "m", "k"]) == [OLD, None, None, OLD]
    assert cached.calls() == (["ttl_many"], ["get_many"])
    await kv.put_many(["l", "m"], [{"a": []}, {}], ttl=60)
    cached.calls()
    pairs = await kv.ttl_many(["k", "l", "m", "l"])
    assert [pair[0] for pair in pairs] == [OLD, {"a": []}, {}, {"a": []}]
    assert cached.calls() == (["ttl_many"], ["get_many", "put_many"])
    pairs[1][0]["a"].append(1)
    assert pairs[3][0] == {"a": []}, "repeated keys get values of their own"


async def test_the_ttl_is_the_primarys(clock: Clock) -> None:
    clock.freeze()
    cached = Cached(maximum_ttl=100)
    kv = cached.kv
    await kv.put("mortal", {}, ttl=1000)
    for _ in range(2):
        assert await kv.ttl("mortal") == ({}, pytest.approx(1000, abs=1e-3))
        assert await kv.ttl("k") == (OLD, None)
    clock.advance(99)
    cached.calls()
    assert await kv.ttl("mortal") == ({}, pytest.approx(901, abs=1e-3))
    assert cached.calls()[0] == []
    clock.advance(2)
    assert await kv.get("mortal") == {}
    assert cached.calls()[0] == ["ttl"], "nothing is cached for longer than the maximum"
    clock.advance(900)
    assert await kv.get("mortal") is None


async def test_misses_are_cached_on_request(clock: Clock) -> None:
    cached, other = Cached(negative_ttl=10), Cached()
    for _ in range(3):
        assert await cached.kv.get("x") is None
        assert await cached.kv.ttl_many(["x"]) == [(None, None)]
        assert await other.kv.get("x") is None
    assert cached.primary.calls == ["ttl"]
    assert other.primary.calls == ["ttl"] * 3
    clock.advance(11)
    assert await cached.kv.get("x") is None
    assert cached.primary.calls == ["ttl", "ttl"]
    await cached.kv.put("x", NEW)
    assert await cached.kv.get("x") == NEW


@pytest.mark.parametrize("is_bulk", [False, True])
async def test_nothing_is_cached_beyond_its_deadline_however_long_the_answer_takes(is_bulk: bool, clock: Clock) -> None:
    clock.freeze()
    cached = Cached()
    await cached.primary.put("k", NEW, ttl=10)
    cached.primary.after = lambda: clock.advance(3)
    assert (await cached.kv.get_many(["k"]) if is_bulk else [await cached.kv.get("k")]) == [NEW]
    clock.advance(6.5)
    assert await cached.kv.ttl("k") == (NEW, pytest.approx(0.5, abs=1e-3))
    clock.advance(1)
    assert await cached.kv.get("k") is None


async def test_anything_else_in_the_cache_is_a_miss() -> None:
    cached = Cached()
    row = {"__cached_value__": {"a": 2}, "__cached_at__": 9e11, "__cached_until__": 9e11, "__expires_at__": None}
    await cached.cache.put("k", row, collection=DEFAULT)
    assert await cached.kv.get("k") == {"a": 2}
    bad: list[dict[str, Any]] = [{"a": 2}, {"__cached_value__": {"a": 2}}, {**row, "more": 1}]
    for other in (*bad, *({**row, field: wrong} for field in row for wrong in (5 if field == "__cached_value__" else "9e11", True))):
        await cached.cache.put("k", other, collection=DEFAULT)
        assert await cached.kv.get("k") == OLD
    assert cached.kv.cache_errors == 0


async def test_a_failing_cache_fails_nothing(runtime: Runtime) -> None:
    cached = Cached()
    kv = runtime.adapt(cached.kv)
    cached.cache.plan(*[ValueError()] * 99)
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
    assert await kv.get_many(["k", "l"]) == [{"a": 1}, None]
    await kv.put_many(["k", "l"], [{}, {}])
    assert await kv.ttl_many(["k", "l"]) == [({}, None)] * 2
    assert await kv.delete_many(["l"]) == 1
    assert await kv.delete("k") is True
    assert cached.kv.cache_errors > 8


async def test_a_cache_that_answers_nonsense_fails_nothing() -> None:
    class Odd(ScriptedStore):
        async def get(self, key: str, *, collection: str | None = None) -> Any:
            return [key]

        async def get_many(self, keys: Any, *, collection: str | None = None) -> Any:
            return []

    kv = PassthroughCacheWrapper(Cached().primary, Odd(MemoryStore()))
    assert await kv.get("k") == OLD
    assert await kv.get_many(["k", "l"]) == [OLD, None]
    assert kv.cache_errors == 2


@pytest.mark.parametrize("whole", [False, True])
async def test_what_could_not_be_removed_from_the_cache_is_not_read_from_it(whole: bool, clock: Clock) -> None:
    cached = Cached(maximum_ttl=100)
    await cached.kv.put("k", OLD, collection="c")
    assert await cached.kv.get("k", collection="c") == OLD
    cached.cache.plan(DOWN, DOWN)
    if whole:
        await cached.kv.destroy_collection("c")
        assert await cached.kv.get("k", collection="c") is None
    else:
        await cached.kv.put("k", NEW, collection="c")
        cached.cache.plan(DOWN, on="put")
        assert await cached.kv.get("k", collection="c") == NEW, "the cache was down for the read, too"
        assert await cached.kv.get("k", collection="c") == NEW
        cached.calls()
        assert await cached.kv.get("k", collection="c") == NEW
        assert cached.calls()[0] == [], "since it is cached anew, it can be trusted again"
    clock.advance(101)
    assert await cached.kv.get("k", collection="c") == (None if whole else NEW)


@pytest.mark.parametrize("slots", [1, 1000])
async def test_however_many_keys_are_written_memory_is_bounded_and_no_stale_value_is_read(
    slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight, "_SLOTS", slots)
    cached = Cached()
    await cached.kv.get("k")
    cached.cache.plan(*[DOWN] * 9999)
    await cached.kv.put("k", NEW)
    for number in range(20):
        await cached.kv.delete_many([f"k{number}-{other}" for other in range(1000)])
        await cached.kv.put("k", NEW, collection=f"c{number}")
    for number in range(2000):
        await cached.kv.destroy_collection(f"c{number}")
    assert len(cached.kv._reads._writes) <= 2 * slots
    cached.cache.plan()
    assert await cached.kv.get("k") == NEW
    cached.calls()
    assert await cached.kv.get("k") == NEW
    assert cached.calls()[0] == [], "what has been cached since is trusted"


async def test_a_write_makes_nothing_else_a_miss() -> None:
    cached = Cached()
    await cached.kv.put_many(["l", "m"], [OLD, OLD])
    await cached.kv.get_many(["k", "l", "m"])
    await cached.kv.put("l", NEW)
    await cached.kv.put("k", NEW, collection="c")
    await cached.kv.destroy_collection("c")
    cached.calls()
    assert await cached.kv.get_many(["k", "l", "m"]) == [OLD, NEW, OLD]
    assert await cached.kv.get("m") == OLD
    assert cached.calls() == (["ttl_many"], ["get_many", "put_many", "get"])
    await cached.kv.destroy()
    assert await cached.kv.get_many(["k", "l", "m"]) == [None] * 3


@forks
def test_a_fork_does_not_trust_what_its_parent_does_not() -> None:
    cached = Cached()

    async def main() -> None:
        await cached.kv.get("k")
        cached.cache.plan(DOWN, DOWN)
        await cached.kv.put("k", NEW)

    asyncio.run(main())
    assert returns_true_in_a_fork(lambda: runtime_module.drive(cached.kv.get("k")) == NEW)


@forks
def test_a_fork_waits_for_no_read_of_its_parents() -> None:
    cached, is_reading, go_on = Cached(), threading.Event(), threading.Event()

    def hold() -> None:
        is_reading.set()
        go_on.wait(60)

    def read() -> bool:
        cached.primary.before = lambda: None
        return runtime_module.drive(cached.kv.get("k")) == OLD

    cached.primary.before = hold
    with BlockingKeyValue(cached.kv) as kv, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(kv.get, "k")
        is_reading.wait()
        is_read = returns_true_in_a_fork(read)
        go_on.set()
        assert reading.result() == OLD
    assert is_read


@pytest.mark.parametrize("options", [{}, {"default_collection": "mine"}])
async def test_the_default_collection_is_one_by_either_name(options: dict[str, Any]) -> None:
    (name,) = options.values() or [DEFAULT]
    kv = PassthroughCacheWrapper(MemoryStore(seed={name: {"k": OLD}}, **options), MemoryStore(), **options)
    assert await kv.get("k") == OLD
    await kv.put("k", NEW, collection=name)
    assert await kv.get("k") == NEW


@pytest.mark.parametrize("what", ["destroy", "destroy_collection"])
async def test_destroying_removes_what_only_the_cache_holds(what: str) -> None:
    cached = Cached()
    await cached.kv.put("k", {"a": 1}, collection="c")
    assert await cached.kv.get("k", collection="c") == {"a": 1}
    await cached.primary.delete("k", collection="c")  # as another process may
    await (cached.kv.destroy() if what == "destroy" else cached.kv.destroy_collection("c"))
    assert await cached.kv.get("k", collection="c") is None


async def test_culling_culls_the_cache_too() -> None:
    cached = Cached()
    cached.cache.plan(None, DOWN)
    for _ in range(2):
        await cached.kv.cull()
    assert cached.calls() == (["cull"] * 2, ["cull"] * 2)
    assert cached.kv.cache_errors == 1


# Reads at the same time


@on_loops
@pytest.mark.parametrize("ending", ["answer", "error", "cancelled"])
async def test_concurrent_misses_read_the_primary_once(ending: str) -> None:
    cached, gate, scope = Cached(), Gate(), anyio.CancelScope()
    await cached.kv.put("k", {"a": []})
    cached.primary.plan(gate, on="ttl")
    answers: list[Any] = []

    async def read(scope: anyio.CancelScope) -> None:
        with scope:
            try:
                answer = await cached.kv.get("k")
                answers.append(deepcopy(answer))
                answer["a"].append(1)  # nobody else's
            except StoreConnectionError as error:
                answers.append(error)

    async with gate.holding(read, scope) as group:
        for _ in range(20):
            group.start_soon(read, anyio.CancelScope())
        await anyio.wait_all_tasks_blocked()
        cached.calls()
        if ending == "error":
            cached.primary.key_value = ScriptedStore(cached.primary.key_value, [DOWN])
        if ending == "cancelled":
            scope.cancel()
    if ending == "error":
        assert answers == [DOWN] * 21
        assert cached.primary.calls == []
    else:
        assert answers == [{"a": []}] * (20 if ending == "cancelled" else 21)
        assert len(cached.primary.calls) == (1 if ending == "cancelled" else 0)
    assert cached.kv._reads._flights == {}


@on_loops
async def test_one_readers_damaged_key_fails_no_other_key() -> None:
    bad = {"__compressed_data__": "!", "__compression_algorithm__": "gzip", "__compression_version__": 1}
    primary = ScriptedStore(CompressionWrapper(MemoryStore(seed={DEFAULT: {"bad": bad, "good": {"a": 1}}})))
    kv, gate = PassthroughCacheWrapper(primary, MemoryStore()), Gate()
    primary.plan(gate, on="ttl_many")
    answers: list[Any] = []

    async def read_both() -> None:
        with pytest.raises(DeserializationError):
            await kv.get_many(["good", "bad"])

    async def read_one() -> None:
        answers.append(await kv.get("good"))

    async with gate.holding(read_both) as group:
        group.start_soon(read_one)
        await anyio.wait_all_tasks_blocked()
    assert answers == [{"a": 1}]


def test_threads_share_one_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    cached, waiting, wait = Cached(), threading.Semaphore(0), runtime_module.wait

    def noted_wait(*args: Any) -> Any:
        waiting.release()
        return wait(*args)

    def await_followers() -> None:
        for _ in range(7):
            assert waiting.acquire(timeout=60)

    monkeypatch.setattr(runtime_module, "wait", noted_wait)
    cached.primary.before = await_followers
    with BlockingKeyValue(cached.kv) as kv, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(kv.get, ["k"] * 8)) == [OLD] * 8
    assert cached.primary.calls.count("ttl") == 1


def test_the_handler_of_a_signal_does_not_wait_for_the_read_that_it_interrupted() -> None:
    cached, read = Cached(), list[Any]()
    kv = BlockingKeyValue(cached.kv)

    def handle() -> None:
        cached.primary.before = lambda: None
        read.append(kv.get("k"))

    cached.primary.before = handle
    assert [kv.get("k"), *read] == [OLD, OLD]


async def test_a_read_does_not_wait_for_a_loop_that_waits_for_it() -> None:
    """A synchronous call made on an event loop can't join a read that is under way on that loop."""
    cached, gate = Cached(), Gate()
    cached.primary.plan(gate)
    async with gate.holding(cached.kv.get, "k"):
        assert BlockingKeyValue(cached.kv).get("k") == OLD
    assert await cached.kv.get("k") == OLD


def test_a_read_on_a_loop_that_ended_holds_up_nobody() -> None:
    cached = Cached()
    cached.primary.plan(Hang())
    loop = asyncio.new_event_loop()

    async def begin() -> asyncio.Task[Any]:
        asked = asyncio.Event()
        cached.primary.before = asked.set
        task = asyncio.ensure_future(cached.kv.get("k"))
        await asked.wait()
        return task

    task = loop.run_until_complete(begin())
    assert asyncio.run(cached.kv.get("k")) == OLD
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()


# Reads and writes at the same time

each_write = pytest.mark.parametrize("write", ["put", "put_many", "delete", "delete_many", "destroy_collection", "destroy"])


@on_loops
@each_write
@pytest.mark.parametrize("after", [False, True])
async def test_a_slow_write_leaves_no_stale_value(write: str, after: bool) -> None:
    cached, gate, expected = Cached(), Gate(after=after), NEW if "put" in write else None
    await cached.kv.get("k")
    cached.primary.plan(gate)
    async with gate.holding(CALLS[write], cached.kv):
        for _ in range(3):
            await cached.kv.get("k")
            await cached.kv.get_many(["k"])
    assert await cached.kv.get("k") == expected
    assert await cached.kv.get_many(["k"]) == [expected]


@on_loops
async def test_a_slow_read_caches_nothing_that_was_overwritten_meanwhile() -> None:
    cached, gate = Cached(), Gate(after=True)
    cached.primary.plan(gate)
    read: list[Any] = []

    async def read_one() -> None:
        read.append(await cached.kv.get("k"))

    async with gate.holding(read_one):
        await cached.kv.put("k", NEW)
        assert await cached.kv.get("k") == NEW, "a read that begins after the write must not join one from before"
    assert read == [OLD]
    cached.calls()
    assert await cached.kv.get("k") == NEW
    assert cached.calls()[0] == [], "what has been cached since is still there"


@on_loops
@each_write
@pytest.mark.parametrize("removal", ["succeeds", "fails"])
async def test_a_write_does_not_wait_for_what_is_being_cached(write: str, removal: str) -> None:
    cached, gate, expected = Cached(), Gate(), NEW if "put" in write else None
    cached.cache.plan(gate, on="put")
    async with gate.holding(cached.kv.get, "k"):
        await CALLS[write](cached.kv)
        assert await cached.kv.get("k") == expected
        if removal == "fails":
            cached.cache.plan(DOWN, on="delete")
    assert await cached.kv.get("k") == expected
    assert await cached.kv.get_many(["k"]) == [expected]
    row = await cached.cache.key_value.get("k", collection=DEFAULT) or {"__cached_value__": expected}
    assert row["__cached_value__"] == (OLD if removal == "fails" and expected is None else expected), "for other processes too"


@on_loops
async def test_a_read_that_is_cancelled_while_it_caches_removes_what_was_written_meanwhile() -> None:
    cached, gate, removal = Cached(), Gate(after=True), Gate()
    cached.cache.plan(gate, on="put")
    async with gate.holding(cached.kv.get, "k") as group:
        await cached.kv.put("k", NEW)
        await cached.cache.key_value.put("k", {"late": True}, collection=DEFAULT)
        removal.open()
        cached.cache.plan(removal, on="delete")
        group.cancel_scope.cancel()
    assert removal.reached.is_set()
    assert await cached.cache.key_value.get("k", collection=DEFAULT) is None, "for other processes"


@on_loops
@each_write
async def test_a_slow_read_is_not_shared_with_readers_that_begin_after_a_write(write: str) -> None:
    cached, gate, expected = Cached(), Gate(after=True), NEW if "put" in write else None
    cached.primary.plan(gate, on="ttl")
    async with gate.holding(cached.kv.get, "k"):
        await CALLS[write](cached.kv)
        assert await cached.kv.get("k") == expected
        assert await cached.kv.get_many(["k"]) == [expected]
    assert await cached.kv.get("k") == expected


@each_write
@pytest.mark.parametrize("ending", ["answer", "lost", "interrupted"])
def test_what_is_read_and_cached_during_a_write_is_not_read_after_it(write: str, ending: str) -> None:
    cached, expected = Cached(), NEW if "put" in write else None
    kv = BlockingKeyValue(cached.kv)

    def read() -> None:
        cached.primary.before = lambda: None
        assert kv.get("k") == OLD
        cached.primary.after = end

    def end() -> None:
        cached.primary.after = lambda: None
        if ending != "answer":
            raise DOWN if ending == "lost" else KeyboardInterrupt

    cached.primary.before = read
    cached.cache.plan(*[DOWN] * 2, on={"put": "delete", "put_many": "delete_many"}.get(write, write))
    with suppress(StoreConnectionError, KeyboardInterrupt):
        CALLS[write](kv)
    assert cached.kv.cache_errors == 2
    assert runtime_module.drive(cached.cache.get("k", collection=DEFAULT)) is not None
    assert kv.get("k") == expected
    assert kv.get_many(["k"]) == [expected]


def test_a_write_that_is_interrupted_anywhere_leaves_no_stale_value() -> None:
    interrupted_at = set[int]()
    for line in itertools.count():
        cached = Cached()
        kv, store, left = BlockingKeyValue(cached.kv), cached.primary.key_value, itertools.count(line, -1)

        def read(cached: Cached = cached, kv: Any = kv) -> None:
            cached.primary.before = lambda: None
            sys.settrace(None)
            assert kv.get("k") == OLD
            sys.settrace(trace)

        def trace(frame: FrameType, event: str, _: object, left: Iterator[int] = left) -> Any:
            if frame.f_code.co_filename not in (cache_module.__file__, single_flight.__file__):
                return None
            if event == "line" and next(left) == 0:
                interrupted_at.add(frame.f_lineno)
                raise KeyboardInterrupt
            return trace

        cached.primary.before = read
        cached.cache.plan(*[DOWN] * 2, on="delete")
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            kv.put("k", NEW)
        except KeyboardInterrupt:
            pass
        else:
            break
        finally:
            sys.settrace(before)
        cached.primary.before = lambda: None
        assert kv.get("k") == runtime_module.drive(store.get("k"))
        kv.put("k", {"v": "last"})
        assert kv.get("k") == {"v": "last"}
    assert len(interrupted_at) > 20


@on_loops
async def test_a_row_that_another_process_caches_late_is_not_read() -> None:
    cached, gate = Cached(), Gate(after=True)
    other = PassthroughCacheWrapper(cached.primary, cached.cache)
    cached.primary.plan(gate, on="ttl")
    async with gate.holding(other.get, "k"):
        await cached.kv.put("k", NEW)
    assert (await cached.cache.get("k", collection=DEFAULT) or {})["__cached_value__"] == OLD
    assert await cached.kv.get("k") == NEW
    assert await other.get("k") == NEW


async def test_a_clock_that_goes_back_makes_nothing_stale(clock: Clock) -> None:
    clock.freeze()
    cached = Cached(negative_ttl=100)
    for value in (NEW, OLD, None, NEW):
        await cached.kv.get("k")
        clock.advance(-1000)
        cached.cache.plan(DOWN, DOWN, on="delete")
        await (cached.kv.delete("k") if value is None else cached.kv.put("k", value))
        assert await cached.kv.get("k") == value
        cached.calls()
        assert await cached.kv.get("k") == value
        assert cached.calls()[0] == []


@on_loops
@each_write
@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("dies", [False, True])
async def test_a_write_that_can_not_wait_leaves_no_stale_value(write: str, reads: bool, dies: bool) -> None:
    """A synchronous write made on an event loop can't wait for what is being cached on that loop, which is then cached all the same."""
    cached, gate, expected = Cached(), Gate(after=dies), NEW if "put" in write else None
    cached.cache.plan(gate, on="put")
    async with gate.holding(cached.kv.get, "k") as group:
        facade = BlockingKeyValue(cached.kv)
        if reads:
            assert facade.get("k") == OLD
        CALLS[write](facade)
        assert facade.get("k") == expected
        assert await cached.kv.get("k") == expected
        if dies:
            group.cancel_scope.cancel()
    assert await cached.kv.get("k") == expected
    assert await cached.kv.get_many(["k"]) == [expected]
    row = await cached.cache.get("k", collection=DEFAULT)
    assert dies or row is None or row["__cached_value__"] == expected, "for other processes too"


@on_loops
async def test_what_a_read_out_of_reach_caches_late_is_not_trusted() -> None:
    """A synchronous read can't join one of the loop that it blocks. If a write follows, nobody waits for what that one still caches."""
    cached, gate = Cached(), Gate()
    cached.cache.plan(gate, on="put")
    async with gate.holding(cached.kv.get, "k"):
        facade = BlockingKeyValue(cached.kv)
        assert facade.get("k") == OLD
        facade.put("k", NEW)
        cached.cache.plan(DOWN, on="delete")  # so that what is cached late stays there
    assert (await cached.cache.get("k", collection=DEFAULT) or {})["__cached_value__"] == OLD
    assert await cached.kv.get("k") == NEW


@pytest.mark.parametrize("levels", [500, 1000])
async def test_a_value_of_any_depth_reaches_all_who_wait_for_it(levels: int) -> None:
    primary = store_with_nested("deep", levels)
    await primary.put("k", OLD)
    kv = PassthroughCacheWrapper(primary, MemoryStore())
    with anyio.fail_after(20):
        deep, *others = await asyncio.gather(*(kv.get("deep") for _ in range(3)))
        rows = await asyncio.gather(*(kv.get_many(["deep", "k", "deep"]) for _ in range(3)))
        await kv.put("k", NEW)
        assert await kv.get("k") == NEW
    for found in [deep, *others, *(row[place] for row in rows for place in (0, 2))]:
        innermost: Any = found
        for _ in range(levels):
            innermost = innermost["a"]
        assert innermost == 1
