"""Retry and timeout, over stores that fail or hang."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from contextlib import nullcontext
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from keyvalue._core import runtime as runtime_module
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, InvalidKeyError, StoreConnectionError, StoreRefusedError
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing._runtime import RUNTIMES
from keyvalue.wrappers.retry import RetryWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from tests.runtimes import Runtime
from tests.scripted import DOWN, Hang, Lost, ScriptedStore

Draws = list[tuple[float, float]]


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Draws:
    """The limits between which waits were drawn. Each wait is as long as it may be."""
    draws: Draws = []
    monkeypatch.setattr(random, "uniform", lambda low, high: draws.append((low, high)) or high)
    return draws


@pytest.mark.parametrize(
    ("failures", "settings", "waits"),
    [
        (3, {}, [0.1, 0.2, 0.4]),
        (5, {"max_retries": 5, "initial_delay": 1, "max_delay": 6, "exponential_base": 2}, [1, 2, 4, 6, 6]),
        (99, {"max_retries": 3, "initial_delay": 1}, [1, 2, 4]),
        (99, {"max_retries": 50, "initial_delay": 1, "max_delay": 1, "deadline": 5.5}, [1] * 5),
        (1100, {"max_retries": 1100, "initial_delay": 0}, [0] * 1100),
        (3000, {"max_retries": 3000, "initial_delay": 1e-300, "max_delay": 0}, [0] * 3000),
    ],
    ids=["defaults", "up to the longest", "given up", "deadline", "no delay", "a delay beyond all floats"],
)
def test_retry_waits_longer_each_time_at_most_so_long(failures: int, settings: dict[str, Any], waits: list[float], draws: Draws) -> None:
    store = ScriptedStore(MemoryStore(), [DOWN] * failures)

    async def seconds() -> float:
        start = trio.current_time()
        with nullcontext() if failures == len(waits) else pytest.raises(StoreConnectionError):
            await RetryWrapper(store, **settings).put("k", {"a": 1})
        return trio.current_time() - start

    assert trio.run(seconds, clock=trio.testing.MockClock(autojump_threshold=0)) == pytest.approx(sum(waits), abs=1e-9)
    assert store.calls == ["put"] * (len(waits) + 1)
    assert draws[: len(waits)] == [(0, wait) for wait in waits]


UNREACHABLE = ConnectionResetError(), TimeoutError(), asyncio.TimeoutError(), DOWN


@pytest.mark.parametrize(
    "error", [*UNREACHABLE, InvalidKeyError(), StoreRefusedError(), DeserializationError(), ValueError(), OSError()], ids=repr
)
async def test_what_says_unreachable_is_retried_and_nothing_else(error: Exception) -> None:
    store = ScriptedStore(MemoryStore(), [error, error])
    with nullcontext() if error in UNREACHABLE else pytest.raises(type(error)):
        await RetryWrapper(store, initial_delay=0).put("k", {"a": 1})
    assert store.calls == ["put"] * (3 if error in UNREACHABLE else 1)
    assert await store.key_value.get("k") == ({"a": 1} if error in UNREACHABLE else None)


async def test_a_delete_whose_answer_was_lost_says_that_nothing_was_there() -> None:
    memory = MemoryStore(seed={"default_collection": {"k": {}}})
    assert await RetryWrapper(ScriptedStore(memory, [Lost(DOWN)]), initial_delay=0).delete("k") is False
    assert await memory.get("k") is None


@pytest.mark.usefixtures("draws")
def test_retry_sleeps_in_the_calling_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    threads = threading.active_count()
    with BlockingKeyValue(RetryWrapper(ScriptedStore(MemoryStore(), [DOWN, DOWN]), deadline=60)) as kv:
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}
        assert threading.active_count() == threads
    assert slept == [0.1, 0.2]


async def test_the_clock_of_deadlines_is_that_of_the_event_loop() -> None:
    start = anyio.current_time()
    assert start <= runtime_module.monotonic() <= anyio.current_time()


@pytest.mark.runtimes(*RUNTIMES)
async def test_a_call_that_hangs_is_cancelled(runtime: Runtime) -> None:
    kv = runtime.adapt(TimeoutWrapper(ScriptedStore(MemoryStore(), [Hang()]), 0.02))
    with pytest.raises(TimeoutError, match=r"get took longer than 0\.02 s"):
        await kv.get("k")
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}


async def test_a_timeout_of_the_store_is_passed_on() -> None:
    with pytest.raises(TimeoutError, match="its own"):
        await TimeoutWrapper(ScriptedStore(MemoryStore(), [TimeoutError("its own")])).get("k")
