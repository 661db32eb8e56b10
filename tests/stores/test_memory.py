"""What is MemoryStore's own: the seed, eviction, and that memory is given back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import InvalidKeyError, SerializationError
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.simple import SimpleStore
from keyvalue.testing import Clock, Runtime
from tests.budget import scale
from tests.scripted import CALLS


def count_held(store: MemoryStore) -> int:
    """How many entries the store really holds, expired or not."""
    entries = sum(len(entries) for entries in store._collections.values())  # pyright: ignore[reportPrivateUsage]
    assert entries == store._size  # pyright: ignore[reportPrivateUsage]
    return entries


def count_deadlines(store: MemoryStore) -> int:
    return len(store._deadlines)  # pyright: ignore[reportPrivateUsage]


# The seed


async def test_seeded_entries_are_there_and_never_expire(runtime: Runtime, clock: Clock) -> None:
    inner = [1]
    seed = {"users": {"alice": {"name": "Alice"}, "bob": {"inner": inner}}, "empty": {}, "a::b": {"::": {}}}
    kv = runtime.adapt(MemoryStore(seed=seed))
    inner.append(2)
    clock.advance(10**9)
    assert await kv.ttl("alice", collection="users") == ({"name": "Alice"}, None)
    assert await kv.get("bob", collection="users") == {"inner": [1]}
    assert sorted(await kv.collections()) == ["a::b", "users"]
    assert await kv.delete("::", collection="a::b") is True


async def test_a_seed_is_limited_like_puts() -> None:
    store = MemoryStore(seed={"c": {key: {} for key in "abc"}}, max_entries_per_collection=2)
    assert await store.keys("c") == ["b", "c"]


REFUSED_SEEDS: list[tuple[Any, type[Exception], str]] = [
    *(
        (seed, InvalidKeyError, "key|collection")
        for seed in ({"": {"k": {}}}, {"c": {"": {}}}, {"\ud800": {"k": {}}}, {"c": {"\ud800": {}}})
    ),
    ({"c": {"k": {"secret": b"hunter2"}}}, SerializationError, r"\['secret'\]"),
    *((seed, TypeError, "must be") for seed in ({"c": {"k": "hunter2"}}, {"c": {1: {}}}, {1: {}})),
    *((seed, TypeError, r"seed takes \{collection: \{key: value\}\}") for seed in ({"a": 1}, ["a"], "a", {"c": [("k", {})]})),
]


@pytest.mark.parametrize(("seed", "error", "said"), REFUSED_SEEDS)
def test_seeds_that_are_refused(seed: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        MemoryStore(seed=seed)
    assert "hunter2" not in str(caught.value)


# Eviction


@pytest.mark.parametrize("limit", [0, -1])  # H-58
def test_a_limit_that_is_not_positive_is_refused(limit: int) -> None:
    for make in (partial(MemoryStore, max_entries_per_collection=limit), partial(SimpleStore, max_entries=limit)):
        with pytest.raises(ValueError, match="at least 1"):
            make()


@pytest.mark.parametrize("use", ["get", "ttl", "get_many", "ttl_many", "put", "put_many"])
async def test_the_least_recently_used_is_evicted(runtime: Runtime, use: str) -> None:
    kv = runtime.adapt(MemoryStore(max_entries_per_collection=3))
    await kv.put_many(["a", "b", "c"], [{}, {}, {}])
    if use.startswith("put"):
        await (kv.put("a", {}) if use == "put" else kv.put_many(["a"], [{}]))
    else:
        await getattr(kv, use)(["a"] if use.endswith("many") else "a")
    await kv.put("d", {})
    assert sorted(await kv.keys()) == ["a", "c", "d"]
    await kv.put_many(["e", "f"], [{}, {}])
    assert sorted(await kv.keys()) == ["d", "e", "f"]


async def test_listing_missing_and_overwriting_neither_refresh_nor_evict() -> None:
    store = MemoryStore(max_entries_per_collection=2)
    await store.put_many(["a", "b"], [{}, {}])
    for _ in range(5):
        await store.put("b", {}, ttl=5)
        await store.put("b", {})
    assert await store.keys() == ["a", "b"]
    await store.collections()
    await store.get("missing")
    await store.delete("missing")
    await store.put("c", {})
    assert await store.keys() == ["b", "c"]


async def test_expired_entries_make_room_first(clock: Clock) -> None:  # H-3
    store = MemoryStore(max_entries_per_collection=2)
    await store.put("live", {"a": 1})
    await store.put("expired", {}, ttl=5)
    clock.advance(5)
    await store.put("new", {})
    assert await store.get_many(["live", "expired", "new"]) == [{"a": 1}, None, {}]
    assert count_held(store) == 2


async def test_each_collection_has_its_own_limit_and_keeps_the_last_of_a_bulk_put() -> None:
    store = MemoryStore(max_entries_per_collection=2)
    await store.put_many(["a", "b"], [{}, {}], collection="d")
    await store.put_many([f"k{number}" for number in range(10)], [{}] * 10, ttl=5, collection="c")
    assert await store.keys("c") == ["k8", "k9"]
    assert await store.keys("d") == ["a", "b"]
    assert count_held(store) == 4


async def test_an_evicted_key_put_again_does_not_expire_with_its_old_deadline(clock: Clock) -> None:
    store = MemoryStore(max_entries_per_collection=1)
    await store.put("a", {}, ttl=5)
    await store.put("b", {})
    await store.put("a", {"again": True})
    clock.advance(5)
    assert await store.get("a") == {"again": True}


# Memory is given back


@pytest.mark.parametrize("call", CALLS)
async def test_any_later_call_frees_what_has_expired(clock: Clock, call: str) -> None:  # H-3
    store = MemoryStore()
    for collection in ("c", "d"):
        await store.put_many([f"k{number}" for number in range(1000)], [{}] * 1000, collection=collection, ttl=5)
    clock.advance(5)
    assert count_held(store) == 2000
    await CALLS[call](store)
    assert count_held(store) == {"put": 1, "put_many": 2}.get(call, 0)
    assert count_deadlines(store) == 0
    assert len(store._collections) == call.startswith("put")  # pyright: ignore[reportPrivateUsage]


async def test_deadlines_do_not_pile_up(clock: Clock) -> None:
    store = MemoryStore(max_entries_per_collection=200)
    for number in range(1000):
        await store.put("same", {}, ttl=1000)
        await store.put(f"evicted{number}", {}, ttl=1000)
        await store.put("deleted", {}, collection="d", ttl=1000)
        await store.delete("deleted", collection="d")
        assert count_deadlines(store) <= 2 * count_held(store) + 64
    await store.put_many([f"k{number}" for number in range(1000)], [{}] * 1000, collection="bulk", ttl=1000)
    await store.destroy_collection("bulk")
    assert count_deadlines(store) <= 2 * count_held(store) + 64
    clock.advance(1000)
    await store.cull()
    assert (count_held(store), count_deadlines(store)) == (0, 0)


async def test_no_empty_collections_are_left(clock: Clock) -> None:  # H-28
    store = MemoryStore(seed={"seeded": {}})
    for number in range(100):
        collection = f"c{number}"
        await store.get("k", collection=collection)
        await store.put("k", {}, collection=collection)
        await store.put("l", {}, collection=collection, ttl=5)
        await store.delete("k", collection=collection)
    await store.put("k", {}, collection="shortened", ttl=1000)
    await store.put("k", {}, collection="shortened", ttl=5)
    await store.put("k", {}, collection="destroyed")
    await store.destroy_collection("destroyed")
    clock.advance(5)
    await store.cull()
    assert store._collections == {}  # pyright: ignore[reportPrivateUsage]


# Threads


@pytest.mark.parametrize("limit", [None, 5])
def test_many_threads_read_only_what_was_written_for_the_key(limit: int | None) -> None:  # H-16
    keys = [f"k{number}" for number in range(10)]
    store = MemoryStore(max_entries_per_collection=limit)
    kv: Any = BlockingKeyValue(store)

    def work(thread: int) -> int:
        seen = 0
        for number in range(scale(60, 300)):
            key = keys[(number * 7 + thread) % 10]
            kv.put(key, {"key": key, "thread": thread}, ttl=60 if number % 2 else None)
            kv.put_many(keys[:3], [{"key": key} for key in keys[:3]], ttl=1e-6 if number % 3 else None)
            for wanted, value in zip(keys, kv.get_many(keys), strict=True):
                assert value is None or value["key"] == wanted
                seen += value is not None
            kv.delete(keys[(number + thread) % 10])
            if number % 50 == 0:
                kv.keys()
                kv.destroy_collection("default_collection")
        return seen

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert count_held(store) <= (limit or 10)
    kv.close()
