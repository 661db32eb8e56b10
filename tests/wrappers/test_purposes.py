"""What each ready-made wrapper is for, and where that differs from what a store does."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import logging
import math
import random
import re
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from cryptography.fernet import Fernet, MultiFernet
from hypothesis import given
from hypothesis import strategies as st

from keyvalue._core import runtime as runtime_module
from keyvalue._core.joined import Joiner
from keyvalue.blocking import BlockingKeyValue, runs_inline
from keyvalue.errors import (
    CorruptedDataError,
    DecryptionError,
    DeserializationError,
    EncryptionError,
    EncryptionVersionError,
    EntryTooLargeError,
    EntryTooSmallError,
    InvalidKeyError,
    InvalidTTLError,
    KeyValueOperationError,
    ReadOnlyError,
    SerializationError,
)
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.testing import Clock
from keyvalue.wrappers import compression
from keyvalue.wrappers.base import BaseWrapper, Operation
from keyvalue.wrappers.compression import CompressionWrapper
from keyvalue.wrappers.default_value import DefaultValueWrapper
from keyvalue.wrappers.encryption import AESGCMEncryptionWrapper, BaseEncryptionWrapper, FernetEncryptionWrapper
from keyvalue.wrappers.limit_size import LimitSizeWrapper
from keyvalue.wrappers.logging import LoggingWrapper
from keyvalue.wrappers.prefix_collections import PrefixCollectionsWrapper
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper
from keyvalue.wrappers.read_only import ReadOnlyWrapper
from keyvalue.wrappers.routing import CollectionRoutingWrapper, RoutingWrapper
from keyvalue.wrappers.single_collection import SingleCollectionWrapper
from keyvalue.wrappers.statistics import LATENCY_BOUNDS, StatisticsWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from keyvalue.wrappers.ttl_clamp import TTLClampWrapper
from tests.runtimes import Runtime
from tests.scripted import ScriptedStore
from tests.wrappers.test_wrappers import advertised

ALL = {"keys", "collections", "destroy", "destroy_collection", "cull"}

# Names


@pytest.mark.parametrize("separator", ["__", "_", "::", "~", "~~", "0", "12", "aab", "/"])
@given(data=st.data())
def test_joined_names_are_told_apart_and_read_back(separator: str, data: st.DataObject) -> None:
    names = st.text(st.sampled_from(f"{separator}~^012abx_"), min_size=1, max_size=6)
    joiner = Joiner(separator)
    first, second, other_first, other_second = (data.draw(names) for _ in range(4))
    joined = joiner.join(first, second)
    assert joiner.split(joined) == (first, second)
    assert (joiner.join(other_first, other_second) == joined) == ((first, second) == (other_first, other_second))
    assert joined.startswith(joiner.start(first))
    if separator not in first and not (first + separator).index(separator) < len(first):
        assert joined == f"{first}{separator}{second}", "what the predecessor would have written"
    split = joiner.split(second)
    assert split is None or joiner.join(*split) == second


def test_a_separator_is_not_empty() -> None:
    with pytest.raises(ValueError, match="empty"):
        SingleCollectionWrapper(MemoryStore(), "single", separator="")


WRAPS: dict[str, Callable[[AsyncKeyValue, str], Any]] = {
    "prefix-keys": PrefixKeysWrapper,
    "prefix-collections": PrefixCollectionsWrapper,
    "single-collection": SingleCollectionWrapper,
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
async def test_neighbours_share_nothing(wrap: Callable[[AsyncKeyValue, str], Any]) -> None:
    memory = MemoryStore()
    prefixes = ["a", "a_", "a__", "a__b", "_", "__", "b", "b__a", "~", "a~1~1b"]
    names = ["k", "b__k", "__k", "_k", "b__a__k", "~2k"]
    stores = {prefix: wrap(memory, prefix) for prefix in prefixes}
    for (prefix, kv), collection in itertools.product(stores.items(), names):
        await kv.put_many(names, [{"at": [prefix, collection, key]} for key in names], collection=collection)
    for (prefix, kv), collection in itertools.product(stores.items(), names):
        assert await kv.get_many(names, collection=collection) == [{"at": [prefix, collection, key]} for key in names]
        assert sorted(await kv.keys(collection)) == sorted(names)
        assert sorted(await kv.collections()) == sorted(names)
    await memory.put("alone", {}, collection="alone")
    await stores["a"].destroy()
    await stores["a__b"].destroy_collection("k")
    for prefix, kv in stores.items():
        left = [name for name in names if prefix != "a" and (prefix, name) != ("a__b", "k")]
        assert sorted(await kv.collections()) == sorted(left)
    assert await memory.get("alone", collection="alone") == {}


@pytest.mark.parametrize("wrap", [PrefixKeysWrapper, PrefixCollectionsWrapper])
async def test_names_as_they_used_to_be(wrap: Callable[..., Any]) -> None:
    memory = MemoryStore()
    for prefix in ("a", "a_", "a__b", "_"):
        kv = wrap(memory, prefix, legacy_names=True)
        await kv.put("k", {"of": prefix}, collection="c")
        key, collection = (f"{prefix}__k", "c") if wrap is PrefixKeysWrapper else ("k", f"{prefix}__c")
        assert await memory.get(key, collection=collection) == {"of": prefix}
        assert await kv.get("k", collection="c") == {"of": prefix}
        assert await kv.keys("c") == ["k"]
        assert await kv.collections() == ["c"]
        assert await wrap(memory, prefix + "x", legacy_names=True).collections() == []
        await kv.destroy()
        assert await memory.collections() == []


async def test_collections_in_one_as_they_used_to_be() -> None:
    memory = MemoryStore()
    kv: Any = SingleCollectionWrapper(memory, "s", legacy_names=True)
    names = ["users", "users_", "a__b"]
    for name in names:
        await kv.put("k", {"of": name}, collection=name)
        assert await memory.get(f"{name}__k", collection="s") == {"of": name}
        assert await kv.get("k", collection=name) == {"of": name}
        assert "k" in await kv.keys(name)
    assert await kv.collections() == ["users", "a"]
    await memory.put("alone", {}, collection="s")
    await kv.destroy()
    assert await memory.keys("s") == ["alone"]


async def test_listings_cost_no_more_than_they_must() -> None:
    store = ScriptedStore(MemoryStore())
    for wrap, limited, destroyed in (
        (PrefixKeysWrapper, ["collections", "keys"], None),
        (SingleCollectionWrapper, ["keys"], ["keys", "delete_many"]),
    ):
        kv: Any = wrap(store, "p")
        for number in range(9):
            await kv.put("k", {}, collection=f"c{number}")
        store.calls.clear()
        assert await kv.collections(limit=1) == ["c0"]
        assert store.calls == limited
        store.calls.clear()
        await kv.destroy()
        assert store.calls == destroyed or destroyed is None
        assert await kv.collections() == []


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_a_prefix_is_a_name(wrap: Callable[[AsyncKeyValue, str], Any]) -> None:
    for bad in ("", "\ud800"):
        with pytest.raises(InvalidKeyError):
            wrap(MemoryStore(), bad)


async def test_own_defaults_of_collections() -> None:
    memory = MemoryStore(default_collection="inner")
    await PrefixCollectionsWrapper(memory, "p").put("k", {"v": 1})
    await PrefixCollectionsWrapper(memory, "p", "mine").put("k", {"v": 2})
    await SingleCollectionWrapper(memory, "s").put("k", {"v": 3})
    await SingleCollectionWrapper(memory, "s", "mine").put("k", {"v": 4})
    assert sorted(await memory.collections()) == ["p__default_collection", "p__mine", "s"]
    assert sorted(await memory.keys("s")) == ["default_collection__k", "mine__k"]


async def test_a_single_collection_can_do_what_keys_are_enough_for() -> None:
    class OnlyKeys(BaseWrapper):
        def _capabilities(self) -> frozenset[str]:
            return frozenset({"keys"})

    kv: Any = SingleCollectionWrapper(OnlyKeys(MemoryStore()), "s")
    assert advertised(kv) == {"keys", "collections", "destroy", "destroy_collection"}
    await kv.put("k", {}, collection="c")
    assert await kv.collections(limit=5) == ["c"]
    assert await kv.destroy_collection("c") is True
    assert advertised(SingleCollectionWrapper(NullStore(), "s")) == set()
    assert advertised(PrefixKeysWrapper(NullStore(), "s")) == set()


# Read-only, default value, TTL clamp


async def test_a_read_only_store(runtime: Runtime) -> None:
    memory = MemoryStore(seed={"c": {"k": {"a": 1}}})
    strict, lenient = runtime.adapt(ReadOnlyWrapper(memory)), runtime.adapt(ReadOnlyWrapper(memory, raise_on_write=False))
    for call in (
        lambda: strict.put("k", {}, collection="c"),
        lambda: strict.put_many(["k"], [{}], collection="c"),
        lambda: strict.delete("k", collection="c"),
        lambda: strict.delete_many(["k"], collection="c"),
    ):
        with pytest.raises(ReadOnlyError):
            await call()
    assert await lenient.put("k", {}, collection="c") is None
    assert await lenient.put_many(["k"], [{}], collection="c") is None
    assert await lenient.delete("k", collection="c") is False
    assert await lenient.delete_many(["k"], collection="c") == 0
    assert advertised(ReadOnlyWrapper(memory)) == {"keys", "collections"}
    for kv in (strict, lenient):
        assert await kv.get("k", collection="c") == {"a": 1}
        assert await kv.keys("c") == ["k"]
        with pytest.raises(InvalidKeyError):
            await kv.put("", {})
        with pytest.raises(TypeError):
            await kv.put("k", 1)


async def test_a_default_value(runtime: Runtime) -> None:
    wrapper = DefaultValueWrapper(MemoryStore(), {"a": []}, default_ttl=60)
    kv = runtime.adapt(wrapper)
    value = await kv.get("k")
    value["a"].append(1)
    assert await kv.get("k") == {"a": []}
    assert await kv.ttl("k") == ({"a": []}, 60)
    await kv.put("l", {"b": 1})
    assert await kv.get_many(["k", "l"]) == [{"a": []}, {"b": 1}]
    assert await kv.ttl_many(["k", "l"]) == [({"a": []}, 60), ({"b": 1}, None)]
    assert await kv.delete("k") is False
    assert await kv.keys() == ["l"]
    assert advertised(wrapper) == ALL
    with pytest.raises(SerializationError):
        DefaultValueWrapper(MemoryStore(), {"a": math.nan})
    with pytest.raises(InvalidTTLError):
        DefaultValueWrapper(MemoryStore(), {}, default_ttl=0)


async def test_times_to_live_are_clamped(runtime: Runtime, clock: Clock) -> None:
    clock.freeze()
    kv = runtime.adapt(TTLClampWrapper(MemoryStore(), 10, 100, missing_ttl=1000))
    for given_ttl, kept in ((1, 10), (50, 50), (1000, 100), (None, 100)):
        await kv.put("k", {}, ttl=given_ttl)
        await kv.put_many(["l"], [{}], ttl=given_ttl)
        for _, left in await kv.ttl_many(["k", "l"]):
            assert round(left, 3) == kept
    for bad in (0, -1, math.nan, math.inf, "10"):
        with pytest.raises(InvalidTTLError):
            await kv.put("k", {}, ttl=bad)
    unlimited = TTLClampWrapper(MemoryStore(), 10, 100)
    await unlimited.put("k", {})
    assert await unlimited.ttl("k") == ({}, None)


@pytest.mark.parametrize(("arguments", "error"), [((0, 1), InvalidTTLError), ((1, math.nan), InvalidTTLError), ((2, 1), ValueError)])
def test_limits_of_times_to_live_make_sense(arguments: tuple[float, float], error: type[Exception]) -> None:
    with pytest.raises(error):
        TTLClampWrapper(MemoryStore(), *arguments)


# Limit of size


async def test_sizes_are_bytes_of_utf_8(runtime: Runtime) -> None:
    value = {"é": "😀"}  # {"é":"😀"}
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    await runtime.adapt(LimitSizeWrapper(MemoryStore(), min_size=size, max_size=size)).put("k", value)
    with pytest.raises(EntryTooLargeError) as large:
        await runtime.adapt(LimitSizeWrapper(MemoryStore(), max_size=size - 1)).put("k", value)
    assert large.value.extra_info == {"size": size, "max_size": size - 1, "collection": None, "key": "k"}
    with pytest.raises(EntryTooSmallError):
        await runtime.adapt(LimitSizeWrapper(MemoryStore(), min_size=size + 1, raise_on_too_small=True)).put("k", value)


async def test_what_is_dropped_leaves_no_stale_value(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    wrapper = LimitSizeWrapper(MemoryStore(), min_size=5, max_size=20, raise_on_too_large=False)
    kv = runtime.adapt(wrapper)
    secret = {"secret": "x" * 30}
    for drop in (
        lambda: kv.put("k", secret),
        lambda: kv.put("k", {}),
        lambda: kv.put_many(["k", "l"], [secret, {"a": 1}]),
        lambda: kv.put_many(["k", "k"], [{"a": 1}, secret]),
    ):
        await kv.put("k", {"a": "old"})
        caplog.clear()
        before = wrapper.dropped
        assert await drop() is None
        assert await kv.get("k") is None
        assert wrapper.dropped == before + 1
        (record,) = caplog.records
        assert record.name == "keyvalue.limit_size"
        assert "x" * 10 not in record.getMessage()
    assert await kv.get("l") == {"a": 1}
    await kv.put_many(["k", "k"], [secret, {"a": 2}])
    assert await kv.get("k") == {"a": 2}, "the last of a key's values counts"
    await kv.put("k", {"a": "old"})
    with pytest.raises(InvalidTTLError):
        await kv.put("k", secret, ttl=-1)
    assert await kv.get("k") == {"a": "old"}


async def test_one_that_raises_keeps_all_from_being_put() -> None:
    memory = MemoryStore()
    kv = LimitSizeWrapper(memory, max_size=20)
    await memory.put("k", {"a": "old"})
    with pytest.raises(EntryTooLargeError):
        await kv.put_many(["k", "l"], [{"a": 1}, {"a": "x" * 30}])
    assert await memory.get_many(["k", "l"]) == [{"a": "old"}, None]
    with pytest.raises(ValueError, match="one value for each key"):
        await kv.put_many(["k"], [])


def test_limits_of_size_make_sense() -> None:
    for smallest, largest in ((-1, None), (None, -1), (2, 1)):
        with pytest.raises(ValueError, match="min_size"):
            LimitSizeWrapper(MemoryStore(), min_size=smallest, max_size=largest)


# Logging, statistics


class Unprintable(dict[str, Any]):
    formatted = 0

    def __repr__(self) -> str:
        self.formatted += 1
        raise AssertionError("it was formatted")

    def items(self) -> Any:
        self.formatted += 1
        return super().items()


async def test_logs_hold_no_values_unless_asked(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for structured in (False, True):
        for values in (False, True):
            caplog.clear()
            kv = runtime.adapt(LoggingWrapper(MemoryStore(), log_values=values, structured_logs=structured))
            await kv.put("k", {"password": "hunter2"}, ttl=60)
            await kv.get("k")
            await kv.ttl_many(["k", "l"])
            await kv.keys()
            assert ("hunter2" in caplog.text) == values
            assert {record.name for record in caplog.records} == {"key_value.logging"}
            assert len(caplog.records) == 8
            if structured:
                records = [json.loads(record.getMessage()) for record in caplog.records]
                assert [record["status"] for record in records] == ["start", "finish"] * 4
                assert records[0]["action"] == "PUT"
                assert records[3]["hit"] is True
                assert all("ms" in record for record in records[1::2])


async def test_logs_name_collections_as_they_were_given(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kv: Any = LoggingWrapper(MemoryStore(default_collection="own"))
    await kv.get("k")
    await kv.get("k", collection="c")
    await kv.collections()
    assert [record.getMessage() for record in caplog.records[::2]] == [
        "Start GET collection=None keys='k'",
        "Start GET collection='c' keys='k'",
        "Start COLLECTIONS keys=[]",
    ]
    kv = LoggingWrapper(MemoryStore(), structured_logs=True)
    await kv.destroy()
    assert "collection" not in json.loads(caplog.records[-1].getMessage())


async def test_failures_are_logged_by_type(caplog: pytest.LogCaptureFixture) -> None:
    kv = LoggingWrapper(ScriptedStore(MemoryStore(), [ConnectionError("secret host")]), log_level=logging.DEBUG)
    with pytest.raises(ConnectionError):
        await kv.get("k")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert re.search(r" ms=\d", record.getMessage())
    assert "ConnectionError" in record.getMessage()
    assert "secret" not in record.getMessage()


async def test_nothing_is_formatted_for_a_level_that_is_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for structured in (False, True):
        value = Unprintable(a=1)
        await LoggingWrapper(NullStore(), log_values=True, structured_logs=structured).put("k", value)
        expected = Unprintable(a=1)
        await NullStore().put("k", expected)
        assert value.formatted == expected.formatted
    assert caplog.records == []


@pytest.mark.parametrize("structured", [False, True])
async def test_what_can_not_be_shown_changes_no_outcome(structured: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kv = LoggingWrapper(MemoryStore(), log_values=True, structured_logs=structured)
    circular: dict[str, Any] = {}
    circular["a"] = circular
    deep: dict[str, Any] = {}
    for _ in range(50_000):
        deep = {"a": deep}
    for bad in ({"x": {(1, 2): 3}}, circular, deep):
        with pytest.raises(SerializationError):
            await kv.put("k", bad)
    await kv.put("k", Unprintable(a=1))
    assert await kv.get("k") == {"a": 1}
    assert len(caplog.records) == 10
    assert any("can't be shown" in record.getMessage() for record in caplog.records)


async def test_statistics(runtime: Runtime) -> None:
    store = ScriptedStore(MemoryStore(), [])
    wrapper = StatisticsWrapper(store)
    kv = runtime.adapt(wrapper)
    await kv.put("k", {})
    await kv.put_many(["l", "m"], [{}, {}], collection="c")
    await kv.get("k")
    await kv.get_many(["l", "x", "y"], collection="c")
    await kv.ttl("x")
    await kv.ttl_many(["l", "m"], collection="c")
    await kv.delete("x")
    await kv.delete_many(["l", "x"], collection="c")
    store.plan(ConnectionError())
    with pytest.raises(ConnectionError):
        await kv.get("k")
    default, c = (wrapper.statistics.get_collection(name) for name in ("default_collection", "c"))
    assert (default.put.count, c.put.count) == (1, 2)
    assert (default.get.count, default.get.hit, default.get.miss, default.get.errors) == (1, 1, 0, 1)
    assert (c.get.count, c.get.hit, c.get.miss) == (3, 1, 2)
    assert (default.ttl.miss, c.ttl.hit) == (1, 2)
    assert (default.delete.miss, c.delete.hit, c.delete.miss) == (1, 1, 1)
    snapshot = wrapper.snapshot()
    assert list(snapshot) == ["c", "default_collection"]
    assert json.loads(json.dumps(snapshot)) == snapshot
    assert snapshot["c"]["get"]["count"] == 3
    assert 0 < snapshot["c"]["get"]["p50"] <= 50
    await kv.put("k", {})
    assert snapshot["default_collection"]["put"]["count"] == 1, "a snapshot stays as it is"


async def test_statistics_check_names_where_nobody_else_does() -> None:
    class Lenient(BaseWrapper):
        async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
            return {}

    wrapper = StatisticsWrapper(Lenient(MemoryStore()))
    bad: Any = 5
    for call, error in (
        (lambda: wrapper.get(""), InvalidKeyError),
        (lambda: wrapper.get("k", collection=""), InvalidKeyError),
        (lambda: wrapper.get(bad), TypeError),
    ):
        with pytest.raises(error):
            await call()
    assert wrapper.snapshot() == {}


def test_quantiles() -> None:
    figures = StatisticsWrapper(MemoryStore()).statistics.get_collection("c").get
    assert figures.quantile(0.5) is None
    figures.latencies[0], figures.latencies[3], figures.latencies[-1] = 90, 9, 1
    assert (figures.quantile(0.5), figures.quantile(0.95), figures.quantile(1)) == (LATENCY_BOUNDS[0], LATENCY_BOUNDS[3], math.inf)


def test_statistics_count_exactly_in_threads() -> None:
    wrapper = StatisticsWrapper(MemoryStore())

    def work() -> None:
        for _ in range(500):
            kv.get("k")

    with BlockingKeyValue(wrapper) as kv:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrapper.statistics.get_collection("default_collection").get.count == 4000


# Routing


async def test_calls_go_to_the_store_of_their_collection(runtime: Runtime) -> None:
    stores = {name: MemoryStore() for name in ("a", "default_collection", "rest")}
    wrapper = CollectionRoutingWrapper({name: stores[name] for name in ("a", "default_collection")}, stores["rest"])
    kv = runtime.adapt(wrapper)
    for collection in ("a", None, "b"):
        await kv.put("k", {"at": collection}, collection=collection)
    assert [await store.collections() for store in stores.values()] == [["a"], ["default_collection"], ["b"]]
    assert await kv.get("k", collection="default_collection") == {"at": None}
    assert sorted(await kv.collections()) == ["a", "b", "default_collection"]
    # What lies in a store that its collection is not routed to is not there.
    await stores["rest"].put("stray", {}, collection="a")
    assert await kv.keys("a") == ["k"]
    await kv.destroy()
    assert await kv.collections() == []
    assert await stores["rest"].keys("a") == ["stray"]
    assert advertised(wrapper) == ALL


async def test_a_function_that_knows_the_default_collection_by_one_of_its_names() -> None:
    for known in (None, "default_collection"):
        special, rest = MemoryStore(), MemoryStore()
        kv = RoutingWrapper(lambda name, known=known, special=special: special if name == known else None, rest)
        await kv.put("k", {"v": 1})
        assert await kv.get("k", collection="default_collection") == {"v": 1}
        assert await special.get("k") == {"v": 1}


async def test_routing_to_stores_that_are_not_named_offers_little() -> None:
    other = MemoryStore()
    wrapper = RoutingWrapper(lambda name: other if name == "o" else None, MemoryStore())
    assert advertised(wrapper) == set()
    await wrapper.put("k", {}, collection="o")
    assert await other.keys("o") == ["k"]
    assert advertised(RoutingWrapper(lambda _: other, MemoryStore(), stores=[other])) == ALL
    assert advertised(RoutingWrapper(lambda _: other, MemoryStore(), stores=[other, NullStore()])) == set()
    bad: Any = RoutingWrapper(lambda _: object(), MemoryStore())  # type: ignore[arg-type, return-value] # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="AsyncKeyValue"):
        await bad.get("k")


def test_routing_to_stores_that_need_a_loop() -> None:
    other = TimeoutWrapper(MemoryStore(), 60)
    for stores in (None, [other]):
        with BlockingKeyValue(RoutingWrapper(lambda name: other if name == "o" else None, MemoryStore(), stores=stores)) as kv:
            kv.put("k", {"a": 1}, collection="o")
            assert kv.get("k", collection="o") == {"a": 1}
    known = RoutingWrapper(lambda _: None, MemoryStore(), stores=[])
    assert runs_inline(known)
    assert not runs_inline(RoutingWrapper(lambda _: None, MemoryStore()))


async def test_all_routed_stores_are_closed() -> None:
    class Closing(MemoryStore):
        closed = 0

        async def close(self) -> None:
            self.closed += 1

    stores = [Closing(), Closing()]
    async with CollectionRoutingWrapper({"a": stores[0], "b": stores[0]}, stores[1]):
        pass
    assert [store.closed for store in stores] == [1, 1]


# Compression

BIG = {"text": "la" * 5000}


@pytest.mark.parametrize("algorithm", ["gzip", "zstd"])
async def test_large_values_are_compressed(algorithm: Any, runtime: Runtime) -> None:
    memory = MemoryStore()
    kv = runtime.adapt(CompressionWrapper(memory, algorithm=algorithm))
    await kv.put("big", BIG, ttl=60)
    await kv.put("small", {"a": 1})
    stored = await memory.get("big")
    assert stored is not None
    assert stored.keys() == {"__compressed_data__", "__compression_algorithm__", "__compression_version__"}
    assert len(json.dumps(stored)) < 500
    assert await memory.get("small") == {"a": 1}
    other = CompressionWrapper(memory, algorithm="gzip" if algorithm == "zstd" else "zstd")
    assert await other.get_many(["big", "small"]) == [BIG, {"a": 1}]


async def test_what_does_not_shrink_stays_as_it_is() -> None:
    memory = MemoryStore()
    noise = {"noise": base64.b85encode(Fernet.generate_key() * 1).decode()}
    await CompressionWrapper(memory, 0).put("k", noise)
    assert await memory.get("k") == noise


def envelope(json_text: bytes, **changes: Any) -> dict[str, Any]:
    data = base64.b64encode(gzip.compress(json_text)).decode()
    return {"__compressed_data__": data, "__compression_algorithm__": "gzip", "__compression_version__": 1, **changes}


@pytest.mark.parametrize(
    "value",
    [
        {"__compressed_data__": "x"},
        {"__compressed_data__": {"a": 1}, "b": 2},
        envelope(b'{"admin":true}'),
        envelope(b'{"admin":true}', __compression_version__=2),
        envelope(b"nothing", __compressed_data__="!!"),
    ],
)
@pytest.mark.parametrize("least", [0, 1024, 10**9])
async def test_values_that_look_compressed_survive(value: dict[str, Any], least: int) -> None:
    kv = CompressionWrapper(CompressionWrapper(MemoryStore(), least), least)
    await kv.put("k", value)
    assert await kv.get("k") == value


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (envelope(b"[1]"), "not a JSON object"),
        (envelope(b"{"), "not JSON"),
        (envelope(b"{}", __compression_version__=2), "newer version"),
        (envelope(b"{}", __compression_version__=True), "newer version"),
        (envelope(b"{}", __compression_algorithm__="lzma"), "newer version"),
        (envelope(b"{}", __compressed_data__="!"), "base64"),
        (envelope(b"{}", __compressed_data__="e30="), "damaged"),
        (envelope(b"{}", __compressed_data__="e30=", __compression_algorithm__="zstd"), "damaged"),
        (envelope(b"{}", __compressed_data__=base64.b64encode(gzip.compress(b"{}")[:-3]).decode()), "damaged"),
        (envelope(b"{}", __compressed_data__=base64.b64encode(gzip.compress(b"{}") + b"more").decode()), "damaged"),
        (envelope(b'{"a":"%s"}' % (b"x" * 2000)), "larger than max_size"),
    ],
)
async def test_damaged_and_bloated_rows_are_errors(row: dict[str, Any], why: str) -> None:
    memory = MemoryStore()
    await memory.put("k", row)
    with pytest.raises(DeserializationError, match=why):
        await CompressionWrapper(memory, max_size=1000).get("k")


@pytest.mark.parametrize("algorithm", ["gzip", "zstd"])
async def test_a_damaged_bit_is_no_other_value(algorithm: Any) -> None:
    memory = MemoryStore()
    kv = CompressionWrapper(memory, 0, algorithm=algorithm)
    value = {"hash": random.Random(1).randbytes(500).hex()}
    await kv.put("k", value)
    row = await memory.get("k") or {}
    data = base64.b64decode(row["__compressed_data__"])
    for position in range(len(data)):
        bad = bytearray(data)
        bad[position] ^= 1 << position % 8
        await memory.put("k", {**row, "__compressed_data__": base64.b64encode(bad).decode()})
        with suppress(DeserializationError):
            assert await kv.get("k") == value


@pytest.mark.parametrize("algorithm", ["gzip", "zstd"])
async def test_small_rows_of_large_values_are_decompressed_off_the_loop(algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = compression._decompressed  # pyright: ignore[reportPrivateUsage]

    def noted(*args: Any) -> bytes:
        json = real(*args)
        if threading.current_thread() is threading.main_thread():
            sizes.append(len(json))
        return json

    monkeypatch.setattr(compression, "_decompressed", noted)
    kv = CompressionWrapper(MemoryStore(), algorithm=algorithm)
    await kv.put_many(["small", "large"], [BIG, {"x": "x" * 2**20}])
    assert await kv.get_many(["small", "large"]) == [BIG, {"x": "x" * 2**20}]
    assert sizes == [len(json.dumps(BIG, separators=(",", ":")))], "the small one needs no thread"


async def test_bounded_output_of_zstd() -> None:
    memory = MemoryStore()
    await CompressionWrapper(memory, algorithm="zstd").put("k", {"x": "x" * 10**6})
    with pytest.raises(DeserializationError, match="larger than max_size"):
        await CompressionWrapper(memory, max_size=1000).get("k")
    with pytest.raises(EntryTooLargeError):
        await CompressionWrapper(memory, max_size=1000).put("k", {"x": "x" * 10**6})


async def test_rows_of_other_forms_are_returned_as_they_are() -> None:
    memory = MemoryStore()
    for row in ({"a": 1}, {"__compressed_data__": "x"}, {**envelope(b"{}"), "more": 1}):
        await memory.put("k", row)
        assert await CompressionWrapper(memory).get("k") == row


@pytest.mark.parametrize("arguments", [{"min_size_to_compress": -1}, {"max_size": -1}])
def test_compression_refuses_what_makes_no_sense(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="negative"):
        CompressionWrapper(MemoryStore(), **arguments)


@pytest.mark.filterwarnings("ignore:CompressionWrapper")
def test_compression_refuses_other_algorithms() -> None:
    unknown: Any = "lzma"
    with pytest.raises(ValueError, match="algorithm"):
        CompressionWrapper(MemoryStore(), algorithm=unknown)


# Encryption

ONE, TWO = bytes(range(32)), bytes(range(1, 33))


def fernets(*secrets: bytes) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(secret)) for secret in secrets])


def base(secret: bytes, store: AsyncKeyValue, **kwargs: Any) -> BaseEncryptionWrapper:
    return BaseEncryptionWrapper(store, fernets(secret).encrypt, lambda data, _: fernets(secret).decrypt(data), 7, **kwargs)


def encryptions(secret: bytes) -> dict[str, Callable[..., BaseEncryptionWrapper]]:
    return {
        "fernet": lambda store, **kwargs: FernetEncryptionWrapper(store, fernet=fernets(secret), **kwargs),
        "aes-gcm": lambda store, **kwargs: AESGCMEncryptionWrapper(store, keys={"key-1": secret}, **kwargs),
        "base": lambda store, **kwargs: base(secret, store, **kwargs),
    }


ENCRYPTIONS, OTHERS = encryptions(ONE), encryptions(TWO)
SECRET = {"password": "hunter2", "__encrypted_data__": "its own"}
each_encryption = pytest.mark.parametrize("kind", ENCRYPTIONS)


@each_encryption
async def test_nothing_readable_is_stored(kind: str, runtime: Runtime) -> None:
    memory = MemoryStore()
    kv = runtime.adapt(ENCRYPTIONS[kind](memory))
    await kv.put("k", SECRET, ttl=60)
    await kv.put_many(["l", "m"], [SECRET, {"big": "x" * 300_000}])
    assert await kv.get_many(["k", "l", "m"]) == [SECRET, SECRET, {"big": "x" * 300_000}]
    for row in await memory.get_many(["k", "l"]):
        assert row is not None
        assert row["__encryption_version__"] == {"fernet": 1, "aes-gcm": 2, "base": 7}[kind]
        assert "hunter2" not in json.dumps(row)
        assert b"hunter2" not in base64.b64decode(row["__encrypted_data__"])
    one, two = await memory.get_many(["k", "l"])
    assert one != two
    with pytest.raises(SerializationError):
        await kv.put("k", {"a": math.nan})


def flipped(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[len(data) // 2] ^= 1
    return base64.b64encode(data).decode()


@each_encryption
async def test_what_can_not_be_decrypted_is_an_error_that_tells_no_secrets(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    memory = MemoryStore()
    await ENCRYPTIONS[kind](memory).put("k", SECRET)
    row = await memory.get("k")
    assert row is not None
    text = row["__encrypted_data__"]
    rows: list[tuple[dict[str, Any], type[Exception]]] = [
        ({**row, "__encrypted_data__": flipped(text)}, DecryptionError),
        ({**row, "__encrypted_data__": text[: len(text) // 8 * 4]}, DecryptionError),
        ({**row, "__encrypted_data__": ""}, DecryptionError),
        ({**row, "__encrypted_data__": "!"}, CorruptedDataError),
        ({**row, "__encrypted_data__": 5}, CorruptedDataError),
        ({**row, "__encryption_version__": True}, CorruptedDataError),
        ({**row, "__encryption_version__": -5}, CorruptedDataError),
        ({**row, "__encryption_key_id__": 5}, CorruptedDataError),
        ({"__encrypted_data__": text}, CorruptedDataError),
        ({"password": "hunter2"}, DecryptionError),
    ]
    if kind != "base":
        rows.append(({**row, "__encryption_version__": 99}, EncryptionVersionError))
    for bad, error in rows:
        await memory.put("k", bad)
        with pytest.raises(error) as caught:
            await ENCRYPTIONS[kind](memory).get("k")
        assert "hunter2" not in str(caught.value)
        lenient = ENCRYPTIONS[kind](memory, raise_on_decryption_error=False)
        assert await lenient.get("k") is None
        assert await lenient.ttl_many(["k"]) == [(None, None)]
        assert "hunter2" not in caplog.text
    await memory.put("k", row)
    with pytest.raises(DecryptionError) as caught:
        await OTHERS[kind](memory).get("k")
    assert ("key-1" in str(caught.value)) == (kind == "aes-gcm")


@each_encryption
async def test_plaintext_is_refused_unless_allowed(kind: str) -> None:
    memory = MemoryStore(seed={"default_collection": {"k": {"plain": 1}}})
    with pytest.raises(DecryptionError, match="allow_plaintext"):
        await ENCRYPTIONS[kind](memory).get("k")
    moving = ENCRYPTIONS[kind](memory, allow_plaintext=True)
    assert await moving.get("k") == {"plain": 1}
    assert await moving.rotate() == 1
    assert await ENCRYPTIONS[kind](memory).get("k") == {"plain": 1}


async def test_a_row_that_was_moved_elsewhere_is_refused() -> None:
    memory = MemoryStore()
    kv = AESGCMEncryptionWrapper(memory, keys={"one": ONE})
    await kv.put("k", {"v": 1}, collection="c")
    row = await memory.get("k", collection="c")
    assert row is not None
    for key, collection in (("l", "c"), ("k", "d"), ("k", None)):
        await memory.put(key, row, collection=collection)
        with pytest.raises(DecryptionError, match="moved"):
            await kv.get(key, collection=collection)
    assert await kv.get("k", collection="c") == {"v": 1}
    await kv.put("n", {"v": 2})
    assert await kv.get("n", collection="default_collection") == {"v": 2}
    other = AESGCMEncryptionWrapper(MemoryStore(default_collection="d"), keys={"one": ONE}, default_collection="d")
    await other.put("n", {"v": 2})
    assert await other.get("n", collection="d") == {"v": 2}


async def test_several_keys_at_once_and_rotation(clock: Clock, runtime: Runtime) -> None:
    clock.freeze()
    memory = MemoryStore()
    old = AESGCMEncryptionWrapper(memory, keys={"old": ONE})
    both = AESGCMEncryptionWrapper(memory, keys={"new": TWO, "old": ONE})
    new = AESGCMEncryptionWrapper(memory, keys={"new": TWO})
    keys = [f"k{number}" for number in range(250)]
    await old.put_many(keys, [{"v": key} for key in keys], collection="c")
    await old.put("mortal", {"v": 1}, collection="c", ttl=60)
    await both.put("current", {"v": 2}, collection="c")
    current = await memory.get("current", collection="c")
    kv = runtime.adapt(both)
    assert await kv.get_many([*keys, "mortal"], collection="c") == [*({"v": key} for key in keys), {"v": 1}]
    with pytest.raises(DecryptionError, match="old"):
        await new.get("k0", collection="c")
    if runtime.name in ("asyncio", "trio"):
        assert await both.rotate("c") == 251
        assert await both.rotate("c") == 0
    else:
        assert runtime_module.drive(both.rotate("c")) == 251
    assert await memory.get("current", collection="c") == current
    assert await new.get_many(keys, collection="c") == [{"v": key} for key in keys]
    value, left = await new.ttl("mortal", collection="c")
    assert (value, round(left or 0, 3)) == ({"v": 1}, 60)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
async def test_beneath_other_names_rows_are_bound_to_the_names_that_are_stored(wrap: Callable[[AsyncKeyValue, str], Any]) -> None:
    """That is why docs order them so: above them, the row of one tenant would be good as another's."""
    memory = MemoryStore()
    one, two = (wrap(AESGCMEncryptionWrapper(memory, keys={"one": ONE}), name) for name in ("tenant-1", "tenant-2"))
    await one.put("session", {"admin": True})
    (collection,) = await memory.collections()
    (key,) = await memory.keys(collection)
    row = await memory.get(key, collection=collection) or {}
    await memory.put(key.replace("-1", "-2"), row, collection=collection.replace("-1", "-2"))
    with pytest.raises(DecryptionError, match="moved"):
        await two.get("session")
    assert await one.get("session") == {"admin": True}


async def test_rotation_keeps_deadlines_however_long_it_takes(clock: Clock) -> None:
    class Far(ScriptedStore):
        async def _around(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
            clock.advance(3)
            result = await super()._around(operation, call)
            clock.advance(3)
            return result

    clock.freeze()
    memory = MemoryStore()
    keys = [f"k{number}" for number in range(20)]
    await AESGCMEncryptionWrapper(memory, keys={"old": ONE}).put_many(keys, [{}] * 20, ttl=100)
    start = clock.now()
    assert await AESGCMEncryptionWrapper(Far(memory), keys={"new": TWO, "old": ONE}).rotate() == 15
    left = [left for _, left in await memory.ttl_many(keys)]
    assert all(one is None or one <= 100 - (clock.now() - start) for one in left)


async def test_rotating_fernet() -> None:
    memory = MemoryStore()
    await FernetEncryptionWrapper(memory, fernet=fernets(ONE)).put("k", {"v": 1})
    assert await FernetEncryptionWrapper(memory, fernet=fernets(TWO, ONE)).rotate() == 1
    assert await FernetEncryptionWrapper(memory, fernet=fernets(TWO)).get("k") == {"v": 1}


async def test_rotation_goes_on_past_what_it_can_not_read() -> None:
    memory = MemoryStore()
    await AESGCMEncryptionWrapper(memory, keys={"old": ONE}).put_many(["a", "c"], [{"v": 1}] * 2)
    await memory.put("b", {"plain": 1})
    both = AESGCMEncryptionWrapper(memory, keys={"new": TWO, "old": ONE})
    with pytest.raises(DecryptionError, match="not encrypted"):
        await both.rotate()
    assert await AESGCMEncryptionWrapper(memory, keys={"new": TWO}).get_many(["a", "c"]) == [{"v": 1}] * 2
    assert await memory.get("b") == {"plain": 1}
    with pytest.raises(KeyValueOperationError, match="list its keys"):
        await AESGCMEncryptionWrapper(NullStore(), keys={"new": TWO}).rotate()


async def test_what_is_no_json_when_decrypted_is_not_kept_in_the_error() -> None:
    kv = BaseEncryptionWrapper(MemoryStore(), lambda data: data[:-1], lambda data, _: data, 1)
    await kv.put("k", SECRET)
    with pytest.raises(DecryptionError, match="no JSON object") as caught:
        await kv.get("k")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_encrypting_can_fail() -> None:
    def fail(_: bytes) -> bytes:
        raise RuntimeError("no entropy")

    with pytest.raises(EncryptionError, match="could not be encrypted"):
        await BaseEncryptionWrapper(MemoryStore(), fail, lambda data, _: data, 1).put("k", SECRET)


def test_keys_are_derived_off_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[str] = []
    real = runtime_module.aside

    async def counted(function: Callable[[], Any]) -> Any:
        derived.append(threading.current_thread().name)
        return await real(function)

    monkeypatch.setattr(runtime_module, "aside", counted)
    kv = FernetEncryptionWrapper(MemoryStore(), source_material="secret", salt="salt")
    assert derived == []

    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await anyio.sleep(0.005)
                ticks += 1

        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            async with anyio.create_task_group() as putting:
                for number in range(5):
                    putting.start_soon(kv.put, f"k{number}", {"v": 1})
            group.cancel_scope.cancel()
        assert ticks > 5, "the loop stood still"
        assert await kv.get("k1") == {"v": 1}

    anyio.run(main)
    assert len(derived) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"source_material": "x"},
        {"salt": "x"},
        {"source_material": " ", "salt": "x"},
        {"source_material": "x", "salt": ""},
        {"fernet": fernets(ONE), "salt": "x"},
        {"fernet": fernets(ONE), "source_material": "x", "salt": "x"},
    ],
)
def test_fernet_needs_one_source_of_its_key(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="FernetEncryptionWrapper"):
        FernetEncryptionWrapper(MemoryStore(), **arguments)


@pytest.mark.parametrize("keys", [{}, {"": ONE}, {"one": b"short"}])
def test_aes_gcm_needs_keys(keys: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        AESGCMEncryptionWrapper(MemoryStore(), keys=keys)
    assert "short" not in str(caught.value)
    with pytest.raises(ValueError, match="1 or more"):
        BaseEncryptionWrapper(MemoryStore(), bytes, lambda data, _: data, 0)


async def test_what_can_not_be_decrypted_is_named() -> None:
    store = MemoryStore()
    await store.put("k", {"a": 1}, collection="c")
    for kv in (AESGCMEncryptionWrapper(store, keys={"1": b"k" * 32}), FernetEncryptionWrapper(store, fernet=Fernet(Fernet.generate_key()))):
        with pytest.raises(DecryptionError) as caught:
            await kv.get("k", collection="c")
        assert caught.value.extra_info == {"collection": "c", "key": "k"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"1": "k" * 32}, "The key '1' must be bytes, not a str"),
        ({1: b"k" * 32}, "id of a key must be a str, not an int"),
        (b"k" * 32, "keys must be a mapping of ids to keys"),
    ],
)
def test_keys_of_a_wrong_type(keys: Any, message: str) -> None:
    with pytest.warns(UserWarning, match="keys"), pytest.raises(TypeError, match=message):
        AESGCMEncryptionWrapper(MemoryStore(), keys=keys)


def test_a_key_is_no_fernet() -> None:
    key: Any = Fernet.generate_key()
    message = r"fernet must be a Fernet or MultiFernet, not bytes; give Fernet\(key\)"
    with pytest.warns(UserWarning, match="fernet"), pytest.raises(TypeError, match=message) as caught:
        FernetEncryptionWrapper(MemoryStore(), fernet=key)
    assert key.decode() not in str(caught.value)
