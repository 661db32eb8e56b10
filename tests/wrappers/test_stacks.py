"""Stacks of ready-made wrappers, drawn at random: whatever lies on whatever, the contract holds and names stay apart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyvalue._core import clock as clock_module
from keyvalue._core.capabilities import PROTOCOLS, capabilities_of
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing import RuntimeName
from tests import backends, runtimes
from tests.model import Held, Model

EXAMPLES = 60 if os.environ.get("CI") else 25

TEXTS = (
    "a",
    "c",
    "k",
    "mine",
    "mine__c",
    "mi__ne",
    "mi",
    "ne__k",
    "_",
    "__",
    "___",
    "a__",
    "__a",
    "single",
    "~",
    "~1",
    "default_collection",
)
names = st.sampled_from(TEXTS)
collections = st.none() | names
values = st.sampled_from(
    [
        {},
        {"a": 1},
        {"n": None, "l": [1, {"x": "é"}]},
        {"__compressed_data__": "x"},
        {"__compressed_data__": "eA==", "__compression_algorithm__": "gzip", "__compression_version__": 1},
        {"__encrypted_data__": "eA==", "__encryption_version__": 1},
        {"__cached_value__": {"a": 1}, "__cached_until__": 1e12, "__expires_at__": None},
        {"big": "x" * 3000},
    ]
)
ttls = st.sampled_from([None, None, 4, 32.5])
many = st.lists(st.tuples(names, values), max_size=4)

calls = st.one_of(
    st.tuples(st.just("put"), collections, st.lists(st.tuples(names, values), min_size=1, max_size=1), ttls),
    st.tuples(st.just("put_many"), collections, many, ttls),
    st.tuples(st.sampled_from(["get", "ttl", "delete"]), collections, st.lists(names, min_size=1, max_size=1)),
    st.tuples(st.sampled_from(["get_many", "ttl_many", "delete_many"]), collections, st.lists(names, max_size=5)),
    st.tuples(st.just("keys"), collections),
    st.tuples(st.sampled_from(["collections", "cull", "destroy"])),
    st.tuples(st.just("destroy_collection"), names),
    st.tuples(st.just("advance"), st.sampled_from([1, 4, 30])),
)


def stacked(wrappers: Sequence[str]) -> Any:
    store: AsyncKeyValue = MemoryStore()
    for name in wrappers:
        store = backends.WRAPPERS[name](store)
    return store


async def act(kv: Any, model: Model, name: str, *given: Any) -> None:
    """Make one call on both, and compare."""
    if name == "advance":
        model.advance(given[0])
        return
    if name in ("put", "put_many"):
        collection, items, ttl = given
        keys, puts = [key for key, _ in items], [value for _, value in items]
        if name == "put":
            await kv.put(keys[0], puts[0], collection=collection, ttl=ttl)
        else:
            await kv.put_many(keys, puts, collection=collection, ttl=ttl)
        model.put(collection, items, ttl)
    elif name in ("get", "ttl", "get_many", "ttl_many"):
        collection, keys = given
        is_bulk = name.endswith("_many")
        result = await getattr(kv, name)(keys if is_bulk else keys[0], collection=collection)
        check(result if is_bulk else [result], model.read(collection, keys), model.now, with_ttl=name.startswith("ttl"))
    elif name == "delete":
        collection, keys = given
        assert await kv.delete(keys[0], collection=collection) == bool(model.delete(collection, keys))
    elif name == "delete_many":
        collection, keys = given
        assert await kv.delete_many(keys, collection=collection) == model.delete(collection, keys)
    elif name == "keys":
        listed = await kv.keys(given[0])
        assert sorted(listed) == sorted(model.keys(given[0]))
    elif name == "collections":
        listed = await kv.collections()
        assert sorted(listed) == sorted(model.collections())
    elif name == "destroy_collection":
        assert await kv.destroy_collection(given[0]) == model.destroy_collection(given[0])
    elif name == "destroy":
        await kv.destroy()
        model.clear()
    else:
        await kv.cull()


def check(results: Sequence[Any], expected: Sequence[Held | None], now: float, *, with_ttl: bool) -> None:
    for result, held in zip(results, expected, strict=True):
        value, left = result if with_ttl else (result, None)
        assert value == (None if held is None else held.value)
        if with_ttl:
            # Each wrapper that puts again what it has read may round the deadline by a microsecond, and so may each store.
            assert (left is None) == (held is None or held.latest is None)
            assert left is None or held is None or held.latest is None or abs(now + left - held.latest) < 1e-3


@pytest.mark.parametrize("runtime_name", ["asyncio", "trio", "direct"])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wrappers=st.lists(st.sampled_from(sorted(backends.WRAPPERS)), min_size=1, max_size=5), script=st.lists(calls, max_size=20))
def test_any_stack_keeps_the_contract(
    runtime_name: RuntimeName, wrappers: list[str], script: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(now=1_700_000_000.0)
    monkeypatch.setattr(clock_module, "now", lambda: model.now)
    store = stacked(wrappers)
    assert capabilities_of(store) == set(PROTOCOLS)
    assert all(isinstance(store, protocol) for protocol in PROTOCOLS.values())
    runtime = runtimes.Runtime(runtime_name)
    kv = runtime.adapt(store)

    async def play() -> None:
        for call in script:
            await act(kv, model, *call)
        for collection in model.collections():
            keys = sorted(model.keys(collection))
            check(await kv.get_many(keys, collection=collection), model.read(collection, keys), model.now, with_ttl=False)
            assert sorted(await kv.keys(collection)) == keys

    runtime.run(play)
