"""Wrappers that limit what can be put, and one that answers misses: read-only, default value, TTL clamp, size."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any

import pytest

from keyvalue._core.capabilities import ALL, capabilities_of
from keyvalue.errors import EntryTooLargeError, EntryTooSmallError, InvalidKeyError, InvalidTTLError, ReadOnlyError
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing import Clock
from keyvalue.wrappers.default_value import DefaultValueWrapper
from keyvalue.wrappers.limit_size import LimitSizeWrapper
from keyvalue.wrappers.read_only import ReadOnlyWrapper
from keyvalue.wrappers.ttl_clamp import TTLClampWrapper
from tests.runtimes import Runtime
from tests.scripted import CALLS, ScriptedStore


@pytest.mark.parametrize("raises", [True, False])
async def test_a_read_only_store(raises: bool, runtime: Runtime) -> None:
    store = ScriptedStore(MemoryStore(seed={"default_collection": {"k": {"a": 1}}}))
    wrapper = ReadOnlyWrapper(store, raise_on_write=raises)
    kv = runtime.adapt(wrapper)
    for call, outcome in {"put": None, "put_many": None, "delete": False, "delete_many": 0}.items():
        with pytest.raises(ReadOnlyError) if raises else nullcontext():
            assert await CALLS[call](kv) is outcome
    assert capabilities_of(wrapper) == {"keys", "collections"}
    assert await kv.get("k") == {"a": 1}
    assert await kv.keys() == ["k"]
    with pytest.raises(InvalidKeyError):
        await kv.put("", {})
    with pytest.raises(TypeError):
        await kv.put("k", 1)
    assert store.calls == ["get", "keys"]


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
    assert capabilities_of(wrapper) == ALL


async def test_ttls_are_clamped(clock: Clock) -> None:
    clock.freeze()
    kv: Any = TTLClampWrapper(MemoryStore(), 10, 100, missing_ttl=1000)
    for given, kept in ((1, 10), (50, 50), (1000, 100), (None, 100)):
        await kv.put("k", {}, ttl=given)
        await kv.put_many(["l"], [{}], ttl=given)
        assert [round(left, 3) for _, left in await kv.ttl_many(["k", "l"])] == [kept, kept]
    for bad in (0, -1, math.nan, math.inf, "10"):
        with pytest.raises(InvalidTTLError):
            await kv.put("k", {}, ttl=bad)
    unlimited = TTLClampWrapper(MemoryStore(), 10, 100)
    await unlimited.put("k", {})
    assert await unlimited.ttl("k") == ({}, None)


@pytest.mark.parametrize(
    "value", [{"é": "😀\x7f", "l": [1, {"a": 1e20}]}, {}, {"a": 2**70}, {"a": "x" * 10**6}, MappingProxyType({"a": (1, "é")})]
)
async def test_sizes_are_those_of_json_dumps(value: Mapping[str, Any]) -> None:
    size = len(json.dumps(dict(value)))
    await LimitSizeWrapper(MemoryStore(), min_size=size, max_size=size).put("k", value)
    with pytest.raises(EntryTooLargeError) as large:
        await LimitSizeWrapper(MemoryStore(), max_size=size - 1).put("k", value)
    assert large.value.extra_info == {"size": size, "max_size": size - 1, "collection": None, "key": "k"}
    await LimitSizeWrapper(MemoryStore(), min_size=1, max_size=10**4).put("k", {"a": 10**5000})  # which json.dumps() refuses
    with pytest.raises(EntryTooSmallError):
        await LimitSizeWrapper(MemoryStore(), min_size=size + 1, raise_on_too_small=True).put("k", value)


async def test_what_is_dropped_leaves_no_stale_value(caplog: pytest.LogCaptureFixture) -> None:
    kv = LimitSizeWrapper(MemoryStore(), min_size=5, max_size=20, raise_on_too_large=False)
    secret = {"secret": "x" * 30}
    drops: list[Callable[[], Awaitable[None]]] = [
        lambda: kv.put("k", secret),
        lambda: kv.put("k", {}),
        lambda: kv.put_many(["k", "l"], [secret, {"a": 1}]),
        lambda: kv.put_many(["k", "k"], [{"a": 1}, secret]),
    ]
    for number, drop in enumerate(drops, 1):
        await kv.put("k", {"a": "old"})
        caplog.clear()
        await drop()
        assert await kv.get("k") is None
        assert kv.dropped == number
        (record,) = caplog.records
        assert record.name == "keyvalue.limit_size"
        assert "x" * 10 not in record.getMessage()
    assert await kv.get("l") == {"a": 1}
    await kv.put_many(["k", "k"], [secret, {"a": 2}])
    assert await kv.get("k") == {"a": 2}, "the last of a key's values counts"
    with pytest.raises(InvalidTTLError):
        await kv.put("k", secret, ttl=-1)
    assert await kv.get("k") == {"a": 2}


async def test_one_that_raises_keeps_all_from_being_put() -> None:
    memory = MemoryStore(seed={"default_collection": {"k": {"a": "old"}}})
    with pytest.raises(EntryTooLargeError):
        await LimitSizeWrapper(memory, max_size=20).put_many(["k", "l"], [{"a": 1}, {"a": "x" * 30}])
    assert await memory.get_many(["k", "l"]) == [{"a": "old"}, None]
