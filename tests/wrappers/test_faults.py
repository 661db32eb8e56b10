"""Retry, timeout, fallback and cache over stores that fail, hang or are slow."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalue._core import runtime as runtime_module
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, InvalidKeyError, InvalidTTLError, StoreConnectionError, StoreRefusedError
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.testing import Clock
from keyvalue.wrappers.base import Operation
from keyvalue.wrappers.compression import CompressionWrapper
from keyvalue.wrappers.fallback import FallbackWrapper
from keyvalue.wrappers.limit_size import LimitSizeWrapper
from keyvalue.wrappers.logging import LoggingWrapper
from keyvalue.wrappers.passthrough_cache import PassthroughCacheWrapper
from keyvalue.wrappers.retry import RetryWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from tests import backends
from tests.runtimes import Runtime
from tests.scripted import Gate, Hang, Lost, ScriptedStore, Slow

DOWN = StoreConnectionError("The server is away")
loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


def on_mock_clock(main: Callable[[], Awaitable[object]]) -> float:
    """Run on trio with a clock that jumps over waits, and return the seconds that went by on it."""
    took: list[float] = []

    async def run() -> None:
        start = trio.current_time()
        await main()
        took.append(trio.current_time() - start)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    return took[0]


# Retry


def test_retry_waits_longer_each_time_at_most_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    store = ScriptedStore(MemoryStore(), [DOWN] * 5)
    took = on_mock_clock(lambda: RetryWrapper(store, 5, initial_delay=1, max_delay=6, exponential_base=2).put("k", {"a": 1}))
    assert took == 1 + 2 + 4 + 6 + 6
    assert store.calls == ["put"] * 6


def test_retry_draws_the_wait_between_nothing_and_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float]] = []
    monkeypatch.setattr(random, "uniform", lambda low, high: drawn.append((low, high)) or 0.0)
    on_mock_clock(lambda: RetryWrapper(ScriptedStore(MemoryStore(), [DOWN] * 3)).get("k"))
    assert drawn == [(0, 0.1), (0, 0.2), (0, 0.4)]


def test_retry_raises_the_last_error_and_keeps_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    store = ScriptedStore(MemoryStore(), [DOWN] * 99)

    async def main(retry: RetryWrapper) -> None:
        with pytest.raises(StoreConnectionError):
            await retry.get("k")

    assert on_mock_clock(lambda: main(RetryWrapper(store, 3, initial_delay=1))) == 7
    assert len(store.calls) == 4
    store.calls.clear()
    assert on_mock_clock(lambda: main(RetryWrapper(store, 50, initial_delay=1, max_delay=1, deadline=5.5))) == 5
    assert len(store.calls) == 6


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), asyncio.TimeoutError(), DOWN])
async def test_what_says_unreachable_is_retried(error: Exception, runtime: Runtime) -> None:
    store = ScriptedStore(MemoryStore(), [error, error])
    kv = runtime.adapt(RetryWrapper(store, initial_delay=0))
    await kv.put("k", {"a": 1})
    assert store.calls == ["put"] * 3
    assert await kv.get("k") == {"a": 1}


@pytest.mark.parametrize("error", [InvalidKeyError(), StoreRefusedError(), DeserializationError(), ValueError(), OSError()])
async def test_what_would_fail_again_is_not_retried(error: Exception) -> None:
    store = ScriptedStore(MemoryStore(), [error])
    with pytest.raises(type(error)):
        await RetryWrapper(store, initial_delay=0).get("k")
    assert store.calls == ["get"]


async def test_a_callers_mistake_is_not_retried() -> None:
    store = ScriptedStore(MemoryStore())
    with pytest.raises(InvalidTTLError):
        await RetryWrapper(store, initial_delay=0).put("k", {}, ttl=-1)
    assert len(store.calls) <= 1


async def test_a_delete_whose_answer_was_lost_says_that_nothing_was_there() -> None:
    memory = MemoryStore(seed={"default_collection": {"k": {}}})
    retry = RetryWrapper(ScriptedStore(memory, [Lost(DOWN)]), initial_delay=0)
    assert await retry.delete("k") is False
    assert await memory.get("k") is None


def test_no_initial_delay_is_no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    assert on_mock_clock(lambda: RetryWrapper(ScriptedStore(MemoryStore(), [DOWN] * 1100), 1100, initial_delay=0).get("k")) == 0


async def test_many_attempts_do_not_overflow() -> None:
    retry = RetryWrapper(ScriptedStore(MemoryStore(), [DOWN] * 3000), 3000, initial_delay=1e-300, max_delay=0)
    assert await retry.get("k") is None


@pytest.mark.parametrize(
    "arguments", [{"max_retries": -1}, {"initial_delay": -1}, {"max_delay": float("nan")}, {"exponential_base": 0.5}, {"deadline": -1}]
)
def test_retry_refuses_numbers_that_make_no_sense(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RetryWrapper(MemoryStore(), **arguments)


def test_retry_sleeps_in_the_calling_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    monkeypatch.setattr(time, "sleep", slept.append)
    threads = threading.active_count()
    with BlockingKeyValue(RetryWrapper(ScriptedStore(MemoryStore(), [DOWN, DOWN]), deadline=60)) as kv:
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}
        assert threading.active_count() == threads
    assert slept == [0.1, 0.2]


# Timeout


async def test_a_call_that_hangs_is_cancelled(runtime: Runtime) -> None:
    kv = runtime.adapt(TimeoutWrapper(ScriptedStore(MemoryStore(), [Hang()]), 0.02))
    with pytest.raises(TimeoutError, match=r"get took longer than 0\.02 s"):
        await kv.get("k")
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}


async def test_each_try_has_its_own_time(runtime: Runtime) -> None:
    store = ScriptedStore(MemoryStore(seed={"default_collection": {"k": {"a": 1}}}), [Hang(), Hang()])
    kv = runtime.adapt(RetryWrapper(TimeoutWrapper(store, 0.02), initial_delay=0))
    assert await kv.get("k") == {"a": 1}
    assert store.calls == ["get"] * 3


async def test_a_timeout_of_the_store_is_passed_on() -> None:
    error = TimeoutError("its own")
    with pytest.raises(TimeoutError, match="its own"):
        await TimeoutWrapper(ScriptedStore(MemoryStore(), [error])).get("k")


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_positive(timeout: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        TimeoutWrapper(MemoryStore(), timeout)


# Fallback


async def test_reads_turn_to_the_second_store_while_the_first_is_away(runtime: Runtime) -> None:
    first = ScriptedStore(MemoryStore(seed={"default_collection": {"k": {"of": "first"}}}), [None, DOWN, TimeoutError()])
    second = MemoryStore(seed={"default_collection": {"k": {"of": "second"}, "l": {"of": "second"}}})
    told: list[tuple[str, str]] = []
    wrapper = FallbackWrapper(first, second, on_fallback=lambda operation, error: told.append((operation.name, type(error).__name__)))
    kv = runtime.adapt(wrapper)
    assert await kv.get("k") == {"of": "first"}
    assert await kv.get("k") == {"of": "second"}
    assert await kv.get_many(["k", "l"]) == [{"of": "second"}] * 2
    assert await kv.get("l") is None, "a miss is an answer"
    assert told == [("get", "StoreConnectionError"), ("get_many", "TimeoutError")]
    assert wrapper.fallbacks == 2


@pytest.mark.parametrize("error", [StoreRefusedError(), DeserializationError(), ValueError(), InvalidKeyError()])
async def test_no_other_error_leads_to_the_second_store(error: Exception) -> None:
    second = ScriptedStore(MemoryStore())
    with pytest.raises(type(error)):
        await FallbackWrapper(ScriptedStore(MemoryStore(), [error]), second).get("k")
    assert second.calls == []


async def test_writes_during_an_outage_are_refused_unless_asked_for() -> None:
    second = ScriptedStore(MemoryStore())
    kv = FallbackWrapper(ScriptedStore(MemoryStore(), [DOWN] * 4), second)
    for call in (kv.put("k", {}), kv.put_many(["k"], [{}]), kv.delete("k"), kv.delete_many(["k"])):
        with pytest.raises(StoreConnectionError):
            await call
    assert second.calls == []


async def test_what_becomes_of_writes_during_an_outage() -> None:
    told: list[Operation] = []
    first = ScriptedStore(MemoryStore(seed={"c": {"k": {"v": "old"}}}), [DOWN] * 3)
    second = ScriptedStore(MemoryStore())
    kv = FallbackWrapper(first, second, write_to_fallback=True, on_fallback=lambda operation, _: told.append(operation))
    await kv.put("k", {"v": "outage"}, collection="c")
    await kv.put_many(["l"], [{"v": "outage"}], collection="c")
    assert await kv.get("k", collection="c") == {"v": "outage"}
    assert kv.diverged == 2
    assert [operation.name for operation in told] == ["put", "put_many", "get"]
    # Back again: the first store answers as it did, until the key is written.
    assert await kv.get("k", collection="c") == {"v": "old"}
    second.plan(DOWN)
    await kv.put("k", {"v": "new"}, collection="c")
    assert kv.diverged == 2, "what could not be removed is remembered"
    await kv.put("k", {"v": "new"}, collection="c")
    assert kv.diverged == 1
    first.plan(DOWN)
    assert await kv.get("k", collection="c") is None, "the value of the first outage must not come back in the second"
    assert await kv.destroy_collection("c") is True  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    assert kv.diverged == 0
    assert await second.get("l", collection="c") is None


async def test_an_empty_bulk_call_forgets_nothing() -> None:
    first = ScriptedStore(MemoryStore(), [DOWN])
    kv = FallbackWrapper(first, MemoryStore(), write_to_fallback=True)
    await kv.put("k", {"v": "outage"}, collection="c")
    await kv.put_many([], [], collection="c")
    await kv.delete_many([], collection="c")
    # All of it too large, so nothing is left to be put.
    await LimitSizeWrapper(kv, max_size=9, raise_on_too_large=False).put_many(["l"], [{"v": "too large"}], collection="c")
    assert first.calls == ["put", "put_many", "delete_many", "delete_many"]
    assert kv.diverged == 1
    await kv.put("k", {"v": "new"}, collection="c")
    assert kv.diverged == 0
    first.plan(DOWN)
    assert await kv.get("k", collection="c") is None


@pytest.mark.parametrize("default", ["default_collection", "mine"])
async def test_the_default_collection_is_one_by_either_name(default: str) -> None:
    first = ScriptedStore(MemoryStore(default_collection=default))
    kv = FallbackWrapper(first, MemoryStore(default_collection=default), write_to_fallback=True, default_collection=default)
    for one, other in ((None, default), (default, None)):
        first.plan(DOWN)
        await kv.put("k", {"v": "outage"}, collection=one)
        assert kv.diverged == 1
        await kv.put("k", {"v": "new"}, collection=other)
        assert kv.diverged == 0
        first.plan(DOWN)
        assert await kv.get("k") is None


@loops
def test_an_outage_write_that_is_overtaken_is_not_forgotten(loop: str) -> None:
    async def main() -> None:
        first, second = ScriptedStore(MemoryStore(), [DOWN]), ScriptedStore(MemoryStore())
        kv = FallbackWrapper(first, second, write_to_fallback=True)
        gate = Gate()
        second.plan(gate, on="put")
        async with anyio.create_task_group() as group:
            group.start_soon(kv.put, "k", {"v": "outage"})
            await gate.reached.wait()
            await kv.put("k", {"v": "new"})
            gate.open()
        assert kv.diverged == 1
        await kv.put("k", {"v": "newer"})
        first.plan(DOWN)
        assert await kv.get("k") is None

    anyio.run(main, backend=loop)


async def test_what_a_failed_outage_write_may_have_left_is_removed_and_not_counted() -> None:
    first, second = ScriptedStore(MemoryStore(), [DOWN, DOWN]), ScriptedStore(MemoryStore(), [DOWN, Lost(DOWN)])
    kv = FallbackWrapper(first, second, write_to_fallback=True)
    for _ in range(2):
        with pytest.raises(StoreConnectionError):
            await kv.put("k", {"v": "outage"})
        assert kv.diverged == 0, "nothing is known to have been written"
    assert await second.get("k") == {"v": "outage"}
    await kv.put("k", {"v": "new"})
    assert await second.get("k") is None


async def test_what_was_destroyed_during_an_outage_is_counted() -> None:
    seed = {"c": {"k": {}}, "d": {"k": {}}}
    first, second = ScriptedStore(MemoryStore(seed=seed), [DOWN, DOWN]), MemoryStore(seed=seed)
    kv: Any = FallbackWrapper(first, second, write_to_fallback=True)
    await kv.put("k", {}, collection="c")
    assert await kv.destroy_collection("c") is True
    assert kv.diverged == 2
    assert await kv.destroy_collection("d") is True
    assert kv.diverged == 2
    first.plan(DOWN)
    await kv.destroy()
    assert kv.diverged == 3
    await kv.destroy_collection("c")
    assert kv.diverged == 1
    await kv.destroy()
    assert kv.diverged == 0


# Cache


class Cached:
    """A cached store, and both stores behind it."""

    def __init__(self, **kwargs: Any) -> None:
        self.primary = ScriptedStore(MemoryStore())
        self.cache = ScriptedStore(MemoryStore())
        self.kv: Any = PassthroughCacheWrapper(self.primary, self.cache, **kwargs)

    def forget_calls(self) -> None:
        self.primary.calls.clear()
        self.cache.calls.clear()


async def test_what_was_read_is_cached(runtime: Runtime) -> None:
    cached = Cached()
    kv = runtime.adapt(cached.kv)
    await kv.put("k", {"a": [1]})
    cached.forget_calls()
    assert await kv.get("k") == {"a": [1]}
    assert (cached.primary.calls, cached.cache.calls) == (["ttl"], ["get", "put"])
    cached.forget_calls()
    value = await kv.get("k")
    value["a"].append(2)
    assert await kv.get("k") == {"a": [1]}
    assert (cached.primary.calls, cached.cache.calls) == ([], ["get", "get"])
    cached.forget_calls()
    assert await kv.get_many(["k", "l", "m", "k"]) == [{"a": [1]}, None, None, {"a": [1]}]
    assert (cached.primary.calls, cached.cache.calls) == (["ttl_many"], ["get_many"])
    await kv.put_many(["l", "m"], [{}, {}], ttl=60)
    cached.forget_calls()
    pairs = await kv.ttl_many(["k", "l", "m"])
    assert [pair[0] for pair in pairs] == [{"a": [1]}, {}, {}]
    assert (cached.primary.calls, cached.cache.calls) == (["ttl_many"], ["get_many", "put_many"])


async def test_repeated_keys_get_values_of_their_own() -> None:
    kv = Cached().kv
    await kv.put("k", {"a": []})
    for _ in range(2):
        one, two = await kv.get_many(["k", "k"])
        one["a"].append(1)
        assert two == {"a": []}


async def test_the_ttl_is_the_primarys(runtime: Runtime, clock: Clock) -> None:
    clock.freeze()
    cached = Cached(maximum_ttl=100)
    kv = runtime.adapt(cached.kv)
    await kv.put("k", {}, ttl=1000)
    await kv.put("l", {})
    for _ in range(2):
        value, left = await kv.ttl("k")
        assert (value, round(left, 3)) == ({}, 1000)
        assert await kv.ttl("l") == ({}, None)
    clock.advance(99)
    cached.forget_calls()
    value, left = await kv.ttl("k")
    assert (value, round(left, 3)) == ({}, 901)
    assert cached.primary.calls == []
    clock.advance(2)
    assert await kv.get("k") == {}
    assert cached.primary.calls == ["ttl"], "nothing is cached for longer than the maximum"
    clock.advance(900)
    assert await kv.get("k") is None


async def test_misses_are_cached_on_request(runtime: Runtime, clock: Clock) -> None:
    cached = Cached(negative_ttl=10)
    kv = runtime.adapt(cached.kv)
    for _ in range(3):
        assert await kv.get("k") is None
        assert await kv.ttl_many(["k"]) == [(None, None)]
    assert cached.primary.calls == ["ttl"]
    clock.advance(11)
    assert await kv.get("k") is None
    assert cached.primary.calls == ["ttl", "ttl"]
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
    other = Cached()
    for _ in range(2):
        await other.kv.get("k")
    assert other.primary.calls == ["ttl", "ttl"]


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


@pytest.mark.parametrize("whole", [False, True])
async def test_what_could_not_be_removed_from_the_cache_is_not_read_from_it(whole: bool, clock: Clock) -> None:
    cached = Cached(maximum_ttl=100)
    await cached.kv.put("k", {"v": "old"}, collection="c")
    assert await cached.kv.get("k", collection="c") == {"v": "old"}
    cached.cache.plan(DOWN, DOWN)
    if whole:
        await cached.kv.destroy_collection("c")
        assert await cached.kv.get("k", collection="c") is None
    else:
        await cached.kv.put("k", {"v": "new"}, collection="c")
        cached.cache.plan(DOWN, on="put")
        assert await cached.kv.get("k", collection="c") == {"v": "new"}, "the cache was down for the read, too"
        assert await cached.kv.get("k", collection="c") == {"v": "new"}
        cached.forget_calls()
        assert await cached.kv.get("k", collection="c") == {"v": "new"}
        assert cached.primary.calls == [], "since it is cached anew, it can be trusted again"
    clock.advance(101)
    assert await cached.kv.get("k", collection="c") == (None if whole else {"v": "new"})


@loops
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("what", ["put", "put_many", "delete", "delete_many", "destroy_collection", "destroy"])
def test_a_slow_write_leaves_no_stale_value(loop: str, after: bool, what: str) -> None:
    async def main() -> None:
        cached = Cached()
        kv = cached.kv
        writes: dict[str, Callable[[], Any]] = {
            "put": lambda: kv.put("k", {"v": "new"}, collection="c"),
            "put_many": lambda: kv.put_many(["k", "l"], [{"v": "new"}] * 2, collection="c"),
            "delete": lambda: kv.delete("k", collection="c"),
            "delete_many": lambda: kv.delete_many(["k", "l"], collection="c"),
            "destroy_collection": lambda: kv.destroy_collection("c"),
            "destroy": lambda: kv.destroy(),
        }
        await kv.put("k", {"v": "old"}, collection="c")
        await kv.get("k", collection="c")
        gate = Gate(after=after)
        cached.primary.plan(gate, on=what)
        async with anyio.create_task_group() as group:
            group.start_soon(writes[what])
            await gate.reached.wait()
            for _ in range(3):
                await kv.get("k", collection="c")
                await kv.get_many(["k"], collection="c")
            gate.open()
        expected = {"v": "new"} if what.startswith("put") else None
        assert await kv.get("k", collection="c") == expected
        assert await kv.get_many(["k"], collection="c") == [expected]

    anyio.run(main, backend=loop)


@loops
def test_a_slow_read_caches_nothing_that_was_overwritten_meanwhile(loop: str) -> None:
    async def main() -> None:
        cached = Cached()
        await cached.kv.put("k", {"v": "old"})
        gate = Gate(after=True)
        cached.primary.plan(gate, on="ttl")
        read: list[Any] = []

        async def read_one() -> None:
            read.append(await cached.kv.get("k"))

        async with anyio.create_task_group() as group:
            group.start_soon(read_one)
            await gate.reached.wait()
            await cached.kv.put("k", {"v": "new"})
            assert await cached.kv.get("k") == {"v": "new"}, "a read that begins after the write must not join one from before"
            gate.open()
        assert read == [{"v": "old"}]
        assert await cached.kv.get("k") == {"v": "new"}

    anyio.run(main, backend=loop)


@loops
def test_a_write_waits_for_what_is_being_cached(loop: str) -> None:
    async def main() -> None:
        cached = Cached()
        await cached.kv.put("k", {"v": "old"})
        gate = Gate()
        cached.cache.plan(gate, on="put")
        async with anyio.create_task_group() as group:
            group.start_soon(cached.kv.get, "k")
            await gate.reached.wait()
            group.start_soon(cached.kv.put, "k", {"v": "new"})
            await anyio.wait_all_tasks_blocked()
            gate.open()
        assert await cached.kv.get("k") == {"v": "new"}

    anyio.run(main, backend=loop)


@loops
@pytest.mark.parametrize("ending", ["answer", "error", "cancelled"])
def test_concurrent_misses_read_the_primary_once(loop: str, ending: str) -> None:
    async def main() -> None:
        cached = Cached()
        await cached.kv.put("k", {"a": []})
        gate = Gate()
        cached.primary.plan(gate, on="ttl")
        answers: list[Any] = []
        scope = anyio.CancelScope()

        async def read(scope: anyio.CancelScope) -> None:
            with scope:
                try:
                    answers.append(await cached.kv.get("k"))
                except StoreConnectionError as error:
                    answers.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(read, scope)
            await gate.reached.wait()
            for _ in range(20):
                group.start_soon(read, anyio.CancelScope())
            await anyio.wait_all_tasks_blocked()
            cached.forget_calls()
            if ending == "cancelled":
                scope.cancel()
            else:
                if ending == "error":
                    cached.primary.key_value = ScriptedStore(cached.primary.key_value, [DOWN])
                gate.open()
        if ending == "error":
            assert answers == [DOWN] * 21
            assert cached.primary.calls == []
        else:
            assert answers == [{"a": []}] * (20 if ending == "cancelled" else 21)
            assert len(cached.primary.calls) == (1 if ending == "cancelled" else 0)
            answers[0]["a"].append(1)
            assert answers[1:] == [{"a": []}] * len(answers[1:])

    anyio.run(main, backend=loop)


@loops
def test_one_readers_damaged_key_fails_no_other_key(loop: str) -> None:
    async def main() -> None:
        memory = MemoryStore()
        bad = {"__compressed_data__": "!", "__compression_algorithm__": "gzip", "__compression_version__": 1}
        await memory.put_many(["bad", "good"], [bad, {"a": 1}])
        primary = ScriptedStore(CompressionWrapper(memory))
        kv = PassthroughCacheWrapper(primary, MemoryStore())
        gate = Gate()
        primary.plan(gate, on="ttl_many")
        answers: list[Any] = []

        async def bulk() -> None:
            with pytest.raises(DeserializationError):
                await kv.get_many(["good", "bad"])

        async def innocent() -> None:
            answers.append(await kv.get("good"))

        async with anyio.create_task_group() as group:
            group.start_soon(bulk)
            await gate.reached.wait()
            group.start_soon(innocent)
            await anyio.wait_all_tasks_blocked()
            gate.open()
        assert answers == [{"a": 1}]

    anyio.run(main, backend=loop)


def test_threads_share_one_read_too() -> None:
    cached = Cached()
    with BlockingKeyValue(cached.kv) as kv:
        kv.put("k", {"a": 1})
        cached.primary.plan(Slow(0.2))
        start = threading.Barrier(8)
        answers: list[Any] = []

        def read() -> None:
            start.wait()
            answers.append(kv.get("k"))

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [{"a": 1}] * 8
    assert cached.primary.calls.count("ttl") == 1


def test_a_read_does_not_wait_for_a_loop_that_waits_for_it() -> None:
    """A synchronous call made on an event loop can't join a read that is under way on that loop."""
    cached = Cached()

    async def main() -> None:
        await cached.kv.put("k", {"a": 1})
        gate = Gate()
        cached.primary.plan(gate, on="ttl")
        async with anyio.create_task_group() as group:
            group.start_soon(cached.kv.get, "k")
            await gate.reached.wait()
            assert BlockingKeyValue(cached.kv).get("k") == {"a": 1}
            gate.open()
        assert await cached.kv.get("k") == {"a": 1}

    anyio.run(main)


WRITES: dict[str, Callable[[Any], object]] = {
    "put": lambda kv: kv.put("k", {"v": "new"}),
    "put_many": lambda kv: kv.put_many(["k"], [{"v": "new"}]),
    "delete": lambda kv: kv.delete("k"),
    "destroy_collection": lambda kv: kv.destroy_collection("default_collection"),
    "destroy": lambda kv: kv.destroy(),
}


@loops
@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("dies", [False, True])
def test_a_write_that_can_not_wait_leaves_no_stale_value(loop: str, name: str, reads: bool, dies: bool) -> None:
    """A synchronous write made on an event loop can't wait for what is being cached on that loop, which is then cached all the same."""

    async def main() -> None:
        cached = Cached()
        await cached.kv.put("k", {"v": "old"})
        gate = Gate(after=dies)
        cached.cache.plan(gate, on="put")
        expected = {"v": "new"} if name.startswith("put") else None
        async with anyio.create_task_group() as group:
            group.start_soon(cached.kv.get, "k")
            await gate.reached.wait()
            facade = BlockingKeyValue(cached.kv)
            if reads:
                assert facade.get("k") == {"v": "old"}
            WRITES[name](facade)
            assert facade.get("k") == expected
            assert await cached.kv.get("k") == expected
            group.cancel_scope.cancel() if dies else gate.open()
        assert await cached.kv.get("k") == expected
        assert await cached.kv.get_many(["k"]) == [expected]
        row = await cached.cache.get("k", collection="default_collection")
        assert dies or row is None or row["__cached_value__"] == expected, "for other processes too"

    anyio.run(main, backend=loop)


def test_a_read_on_a_loop_that_ended_holds_up_nobody() -> None:
    cached = Cached()
    loop = asyncio.new_event_loop()

    async def begin() -> asyncio.Task[Any]:
        await cached.kv.put("k", {"a": 1})
        cached.primary.plan(Hang(), on="ttl")
        task = asyncio.ensure_future(cached.kv.get("k"))
        await asyncio.sleep(0.01)
        return task

    task = loop.run_until_complete(begin())
    assert asyncio.run(cached.kv.get("k")) == {"a": 1}
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()


@pytest.mark.parametrize(
    "row", [{"v": 1}, {"__cached_value__": {"v": 1}}, {"__cached_value__": 5, "__cached_until__": 9e11, "__expires_at__": None}]
)
async def test_anything_else_in_the_cache_is_a_miss(row: dict[str, Any]) -> None:
    cached = Cached()
    await cached.kv.put("k", {"a": 1})
    await cached.cache.put("k", row, collection="default_collection")
    assert await cached.kv.get("k") == {"a": 1}


async def test_the_cache_is_asked_under_the_name_of_the_default_collection() -> None:
    cached = Cached()
    await cached.kv.put("k", {"v": 1})
    assert await cached.kv.get("k") == {"v": 1}
    await cached.kv.put("k", {"v": 2}, collection="default_collection")
    assert await cached.kv.get("k") == {"v": 2}


@pytest.mark.parametrize("what", ["destroy", "destroy_collection"])
async def test_destroying_removes_what_only_the_cache_holds(what: str) -> None:
    memory = MemoryStore()
    kv: Any = PassthroughCacheWrapper(memory, MemoryStore())
    await kv.put("k", {"a": 1}, collection="c")
    assert await kv.get("k", collection="c") == {"a": 1}
    await memory.delete("k", collection="c")  # as another process may
    await (kv.destroy() if what == "destroy" else kv.destroy_collection("c"))
    assert await kv.get("k", collection="c") is None


async def test_nothing_is_cached_beyond_its_deadline_however_long_the_answer_takes(clock: Clock) -> None:
    class Far(ScriptedStore):
        async def _around(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
            result = await super()._around(operation, call)
            clock.advance(3)
            return result

    clock.freeze()
    for is_bulk in (False, True):
        primary = MemoryStore()
        kv = PassthroughCacheWrapper(Far(primary), MemoryStore())
        await primary.put("k", {"a": 1}, ttl=10)
        assert (await kv.get_many(["k"]) if is_bulk else [await kv.get("k")]) == [{"a": 1}]
        clock.advance(6.5)
        _, left = await kv.ttl("k")
        assert left is not None
        assert round(left, 3) == 0.5
        clock.advance(1)
        assert await kv.get("k") is None


async def test_a_cache_that_answers_nonsense_fails_nothing() -> None:
    class Odd(ScriptedStore):
        async def get(self, key: str, *, collection: str | None = None) -> Any:
            return [key]

        async def get_many(self, keys: Any, *, collection: str | None = None) -> Any:
            return []

    kv = PassthroughCacheWrapper(MemoryStore(seed={"default_collection": {"k": {"a": 1}}}), Odd(MemoryStore()))
    assert await kv.get("k") == {"a": 1}
    assert await kv.get_many(["k", "l"]) == [{"a": 1}, None]
    assert kv.cache_errors == 2


async def test_many_keys_that_could_not_be_removed_become_one() -> None:
    cached = Cached()
    await cached.kv.put("k", {"v": "old"})
    await cached.kv.get("k")
    cached.cache.plan(*[DOWN] * 99)
    await cached.kv.put("k", {"v": "new"})
    for number in range(20):
        await cached.kv.delete_many([f"k{number}-{other}" for other in range(1000)])
    assert len(cached.kv._distrusted) <= 10_000
    cached.cache.plan()
    assert await cached.kv.get("k") == {"v": "new"}
    cached.forget_calls()
    assert await cached.kv.get("k") == {"v": "new"}
    assert cached.primary.calls == [], "what has been cached since is trusted"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_does_not_trust_what_its_parent_does_not() -> None:
    cached = Cached()

    async def main() -> None:
        await cached.kv.put("k", {"v": "old"})
        await cached.kv.get("k")
        cached.cache.plan(DOWN, DOWN)
        await cached.kv.put("k", {"v": "new"})

    asyncio.run(main())
    child = os.fork()
    if child == 0:
        os._exit(0 if runtime_module.drive(cached.kv.get("k")) == {"v": "new"} else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_destroying_needs_a_cache_that_can() -> None:
    kv = PassthroughCacheWrapper(MemoryStore(), NullStore())
    assert hasattr(kv, "keys")
    assert not hasattr(kv, "destroy")
    assert not hasattr(kv, "destroy_collection")
    assert not hasattr(PassthroughCacheWrapper(NullStore(), MemoryStore()), "keys")


@pytest.mark.parametrize("arguments", [{"maximum_ttl": 0}, {"missing_ttl": -1}, {"negative_ttl": float("nan")}])
def test_the_cache_refuses_lifetimes_that_are_none(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidTTLError):
        PassthroughCacheWrapper(MemoryStore(), MemoryStore(), **arguments)


# Cancellation


class Yielding(ScriptedStore):
    """A store whose calls suspend before and after."""

    async def _around(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        await anyio.lowlevel.checkpoint()
        result = await call(self.key_value)
        await anyio.lowlevel.checkpoint()
        return result


CANCELLABLE: dict[str, Callable[[AsyncKeyValue], AsyncKeyValue]] = {
    **backends.WRAPPERS,
    "passthrough-cache": lambda store: PassthroughCacheWrapper(store, Yielding(MemoryStore()), negative_ttl=60),
    "fallback": lambda store: FallbackWrapper(ScriptedStore(store, [DOWN]), Yielding(MemoryStore()), write_to_fallback=False),
    "retry": lambda store: RetryWrapper(ScriptedStore(store, [DOWN]), initial_delay=0.001),
}

BIG = {"v": "new", "big": "x" * 200_000}  # worked on in a thread
CALLS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "get": lambda kv: kv.get("k"),
    "ttl": lambda kv: kv.ttl("k"),
    "get_many": lambda kv: kv.get_many(["k", "l"]),
    "put": lambda kv: kv.put("k", {"v": "new"}),
    "put big": lambda kv: kv.put("k", BIG),
    "put_many": lambda kv: kv.put_many(["k", "l"], [{"v": "new"}] * 2),
    "delete": lambda kv: kv.delete("k"),
    "delete_many": lambda kv: kv.delete_many(["k", "l"]),
    "keys": lambda kv: kv.keys(),
    "destroy_collection": lambda kv: kv.destroy_collection("default_collection"),
}


@loops
@settings(max_examples=120, deadline=None)
@given(
    wrappers=st.lists(st.sampled_from(sorted(CANCELLABLE)), min_size=1, max_size=4),
    name=st.sampled_from(sorted(CALLS)),
    other=st.sampled_from(["get", "get_many", "put", "delete"]),
    steps=st.integers(0, 25),
)
def test_a_call_cancelled_anywhere_leaves_the_stack_usable(loop: str, wrappers: list[str], name: str, other: str, steps: int) -> None:
    async def main() -> None:
        kv: Any = Yielding(MemoryStore())
        for wrapper in wrappers:
            kv = CANCELLABLE[wrapper](kv)
        while True:
            try:
                await kv.put("k", {"v": "old"})
                break
            except StoreConnectionError:
                pass  # the fallback takes no writes
        scope = anyio.CancelScope()

        async def call() -> None:
            with scope, suppress(StoreConnectionError):
                await CALLS[name](kv)

        async def innocent() -> None:
            with suppress(StoreConnectionError):  # of a fallback, which takes no writes
                await CALLS[other](kv)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            group.start_soon(innocent)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
        with anyio.fail_after(5):
            possible = [None, {"v": "old"}, {"v": "new"}, BIG]
            value = await kv.get("k")
            assert value in possible
            assert await kv.get_many(["k"]) == [value]
            await kv.put("k", {"v": "last"})
            assert await kv.get("k") == {"v": "last"}
            assert await kv.get_many(["k", "k"]) == [{"v": "last"}] * 2
            assert await kv.delete("k") is True
            assert await kv.ttl("k") == (None, None)

    anyio.run(main, backend=loop)


# A stack


async def test_the_stack_of_the_readme_over_a_store_that_fails(runtime: Runtime) -> None:
    store = ScriptedStore(MemoryStore(), [Hang(), DOWN, Hang(), DOWN], on=["get"])
    spare = MemoryStore(seed={"default_collection": {"k": {"of": "spare"}}})
    retry = RetryWrapper(TimeoutWrapper(store, 0.02), initial_delay=0)
    stack = LoggingWrapper(CompressionWrapper(FallbackWrapper(retry, spare)), logging.getLogger("tests"))
    async with runtime.adapt(stack) as kv:
        assert await kv.get("k") == {"of": "spare"}
        assert store.calls == ["get"] * 4
        await kv.put("k", {"text": "la " * 1000})
        assert await kv.get("k") == {"text": "la " * 1000}
        assert (await store.key_value.get("k") or {}).keys() > {"__compressed_data__"}
        assert await kv.keys() == ["k"]
        assert await kv.destroy_collection("default_collection") is True
        assert await kv.collections() == []


async def test_the_clock_of_retries_is_that_of_their_sleep() -> None:
    assert abs(runtime_module.monotonic() - anyio.current_time()) < 1
