"""Fallback, over stores that can't be reached for a while."""

from __future__ import annotations

from typing import Any

import pytest

from keyvalue.errors import DeserializationError, InvalidKeyError, StoreConnectionError, StoreRefusedError
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.base import Operation
from keyvalue.wrappers.fallback import FallbackWrapper
from keyvalue.wrappers.limit_size import LimitSizeWrapper
from tests.runtimes import Runtime
from tests.scripted import CALLS, DOWN, NEW, OLD, Gate, Lost, ScriptedStore, on_loops

OUTAGE = {"v": "outage"}


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


@pytest.mark.parametrize(
    ("error", "call"),
    [
        *((error, "get") for error in (StoreRefusedError(), DeserializationError(), ValueError(), InvalidKeyError())),
        *((DOWN, name) for name in ("put", "put_many", "delete", "delete_many")),
    ],
    ids=repr,
)
async def test_no_other_error_leads_to_the_second_store_and_no_write_unless_asked_for(error: Exception, call: str) -> None:
    second = ScriptedStore(MemoryStore())
    with pytest.raises(type(error)):
        await CALLS[call](FallbackWrapper(ScriptedStore(MemoryStore(), [error]), second))
    assert second.calls == []


async def test_what_becomes_of_writes_during_an_outage() -> None:
    told: list[Operation] = []
    first = ScriptedStore(MemoryStore(seed={"c": {"k": OLD}}), [DOWN] * 3)
    second = ScriptedStore(MemoryStore())
    kv: Any = FallbackWrapper(first, second, write_to_fallback=True, on_fallback=lambda operation, _: told.append(operation))
    await kv.put("k", OUTAGE, collection="c")
    await kv.put_many(["l"], [OUTAGE], collection="c")
    assert await kv.get("k", collection="c") == OUTAGE
    assert kv.diverged == 2
    assert [operation.name for operation in told] == ["put", "put_many", "get"]
    # Back again: the first store answers as it did, until the key is written.
    assert await kv.get("k", collection="c") == OLD
    second.plan(DOWN)
    await kv.put("k", NEW, collection="c")
    assert kv.diverged == 2, "what could not be removed is remembered"
    await kv.put("k", NEW, collection="c")
    assert kv.diverged == 1
    first.plan(DOWN)
    assert await kv.get("k", collection="c") is None, "the value of the first outage must not come back in the second"
    assert await kv.destroy_collection("c") is True
    assert kv.diverged == 0
    assert await second.get("l", collection="c") is None


async def test_an_empty_bulk_call_forgets_nothing() -> None:
    first = ScriptedStore(MemoryStore(), [DOWN])
    kv = FallbackWrapper(first, MemoryStore(), write_to_fallback=True)
    await kv.put("k", OUTAGE, collection="c")
    await kv.put_many([], [], collection="c")
    await kv.delete_many([], collection="c")
    # All of it too large, so nothing is left to be put.
    await LimitSizeWrapper(kv, max_size=9, raise_on_too_large=False).put_many(["l"], [{"v": "too large"}], collection="c")
    assert first.calls == ["put", "put_many", "delete_many", "delete_many"]
    assert kv.diverged == 1
    await kv.put("k", NEW, collection="c")
    assert kv.diverged == 0
    first.plan(DOWN)
    assert await kv.get("k", collection="c") is None


@pytest.mark.parametrize("default", ["default_collection", "mine"])
async def test_the_default_collection_is_one_by_either_name(default: str) -> None:
    first = ScriptedStore(MemoryStore(default_collection=default))
    kv = FallbackWrapper(first, MemoryStore(default_collection=default), write_to_fallback=True, default_collection=default)
    for one, other in ((None, default), (default, None)):
        first.plan(DOWN)
        await kv.put("k", OUTAGE, collection=one)
        assert kv.diverged == 1
        await kv.put("k", NEW, collection=other)
        assert kv.diverged == 0
        first.plan(DOWN)
        assert await kv.get("k") is None


@on_loops
async def test_an_outage_write_that_is_overtaken_is_not_forgotten() -> None:
    first, second, gate = ScriptedStore(MemoryStore(), [DOWN]), ScriptedStore(MemoryStore()), Gate()
    kv = FallbackWrapper(first, second, write_to_fallback=True)
    second.plan(gate, on="put")
    async with gate.holding(kv.put, "k", OUTAGE):
        await kv.put("k", NEW)
    assert kv.diverged == 1
    await kv.put("k", {"v": "newer"})
    first.plan(DOWN)
    assert await kv.get("k") is None


async def test_what_a_failed_outage_write_may_have_left_is_removed_and_not_counted() -> None:
    first, second = ScriptedStore(MemoryStore(), [DOWN, DOWN]), ScriptedStore(MemoryStore(), [DOWN, Lost(DOWN)])
    kv = FallbackWrapper(first, second, write_to_fallback=True)
    for _ in range(2):
        with pytest.raises(StoreConnectionError):
            await kv.put("k", OUTAGE)
        assert kv.diverged == 0, "nothing is known to have been written"
    assert await second.get("k") == OUTAGE
    await kv.put("k", NEW)
    assert await second.get("k") is None


async def test_what_was_destroyed_during_an_outage_is_counted() -> None:
    seed = {"c": {"k": {}}, "d": {"k": {}}}
    first = ScriptedStore(MemoryStore(seed=seed), [DOWN, DOWN])
    kv: Any = FallbackWrapper(first, MemoryStore(seed=seed), write_to_fallback=True)
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
