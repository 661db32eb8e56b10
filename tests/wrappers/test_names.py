"""Wrappers that change or look at names: prefixes, one collection for all, routing by collection."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from keyvalue._core.capabilities import ALL, capabilities_of
from keyvalue._core.joined import Joiner
from keyvalue.blocking import BlockingKeyValue, runs_inline
from keyvalue.errors import InvalidKeyError
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.wrappers.base import BaseWrapper
from keyvalue.wrappers.prefix_collections import PrefixCollectionsWrapper
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper
from keyvalue.wrappers.routing import CollectionRoutingWrapper, RoutingWrapper
from keyvalue.wrappers.single_collection import SingleCollectionWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from tests.runtimes import Runtime
from tests.scripted import ScriptedStore

Wrap = Callable[..., Any]
each_wrapper = pytest.mark.parametrize("wrap", [PrefixKeysWrapper, PrefixCollectionsWrapper, SingleCollectionWrapper])


CODES = {**dict.fromkeys(("__", "_", "::", "aab", "/"), "~012"), **dict.fromkeys(("~", "~~"), "^012"), **dict.fromkeys(("0", "12"), "~abc")}
"""Separators, each with the mark that begins escapes, and what follows it: for the mark, for the separator's first, between names."""


@pytest.mark.parametrize(("separator", "codes"), CODES.items())
def test_joined_names_are_told_apart_and_read_back(separator: str, codes: str) -> None:
    joiner = Joiner(separator)
    letters = dict.fromkeys(f"{separator}{codes}x")
    short = ["".join(name) for length in (1, 2) for name in itertools.product(letters, repeat=length)]
    firsts = [*short, separator, separator + "x", "x" + separator, separator[0] * 3, separator[-1] * 3]
    seconds = [*short, *firsts[-5:], codes[0] + codes[3], "x" + codes[0] + codes[3], codes[0] + codes[1] + codes[2]]
    joined: dict[str, tuple[str, str]] = {}
    for first, second in itertools.product(dict.fromkeys(firsts), dict.fromkeys(seconds)):
        name = joiner.join(first, second)
        assert joined.setdefault(name, (first, second)) == (first, second)
        assert joiner.split(name) == (first, second)
        assert joiner.second(first, name) == second
        assert name.startswith(joiner.start(first))
        if (first + separator).index(separator) == len(first):
            assert name == f"{first}{separator}{second}", "what py-key-value-aio would have written"
    start = separator.replace(separator[0], codes[0] + codes[2]) + codes[0] + codes[3]
    assert joined[start + "x"] == (separator, "x"), "the stored form of what would be mixed up"
    for name in joined:
        split = joiner.split(name[1:])
        assert split is None or joiner.join(*split) == name[1:]


@each_wrapper
def test_a_prefix_is_a_name(wrap: Wrap) -> None:
    for bad in ("\ud800", *([""] if wrap is SingleCollectionWrapper else [])):
        with pytest.raises(InvalidKeyError):
            wrap(MemoryStore(), bad)
    with pytest.raises(TypeError):
        wrap(MemoryStore(), None)


@pytest.mark.parametrize(("wrap", "place"), [(PrefixKeysWrapper, ("c", "__k")), (PrefixCollectionsWrapper, ("__c", "k"))])
async def test_an_empty_prefix_is_one_of_its_own(wrap: Wrap, place: tuple[str, str]) -> None:
    memory = MemoryStore(seed={"c": {"k": {"of": "no prefix"}}})
    stores = {prefix: wrap(memory, prefix) for prefix in ("", "_", "__", "a")}
    for prefix, kv in stores.items():
        await kv.put("k", {"of": prefix}, collection="c")
    for prefix, kv in stores.items():
        assert await kv.get("k", collection="c") == {"of": prefix}
        assert await kv.keys("c") == ["k"]
        assert await kv.collections() == ["c"]
    assert await memory.get(place[1], collection=place[0]) == {"of": ""}
    await stores[""].destroy()
    assert await memory.get("k", collection="c") == {"of": "no prefix"}
    assert await stores["_"].get("k", collection="c") == {"of": "_"}


async def test_an_empty_separator_means_the_default_one() -> None:
    memory = MemoryStore(seed={"single": {"__alone": {}}})
    for separator in (None, "", "::"):
        kv: Any = SingleCollectionWrapper(memory, "single", separator=separator)
        assert kv.separator == (separator or "__")
        await kv.put("k", {"by": separator}, collection="c")
    assert sorted(await memory.keys("single")) == ["__alone", "c::k", "c__k"]
    kv = SingleCollectionWrapper(memory, "single")
    assert await kv.collections() == ["c"]


@each_wrapper
async def test_neighbours_share_nothing(wrap: Wrap) -> None:
    memory = MemoryStore()
    prefixes = ["a", "a_", "a__", "a__b", "_", "__", "b", "b__a", "~", "a~1~1b"]
    names = ["k", "b__k", "__k", "_k", "b__a__k", "~2k"]
    stores = {prefix: wrap(memory, prefix) for prefix in prefixes}
    for (prefix, kv), collection in itertools.product(stores.items(), names):
        await kv.put_many(names, [{"at": [prefix, collection, key]} for key in names], collection=collection)
    for (prefix, kv), collection in itertools.product(stores.items(), names):
        assert await kv.get_many(names, collection=collection) == [{"at": [prefix, collection, key]} for key in names]
        assert sorted(await kv.keys(collection)) == sorted(await kv.collections()) == sorted(names)
        assert len(await kv.keys(collection, limit=2)) == len(await kv.collections(limit=2)) == 2
    await memory.put("alone", {}, collection="alone")
    assert await stores["a"].destroy() is True
    assert await stores["a"].destroy_collection("k") is False
    assert await stores["a__b"].destroy_collection("k") is True
    for prefix, kv in stores.items():
        left = [name for name in names if prefix != "a" and (prefix, name) != ("a__b", "k")]
        assert sorted(await kv.collections()) == sorted(left)
    assert await memory.get("alone", collection="alone") == {}


@pytest.mark.parametrize(
    ("wrap", "place", "listed"),
    [
        (PrefixKeysWrapper, lambda first, name: (name, f"{first}__k"), ["a__b", "users", "users_"]),
        (PrefixCollectionsWrapper, lambda first, name: (f"{first}__{name}", "k"), ["a__b", "users", "users_"]),
        (SingleCollectionWrapper, lambda first, name: (first, f"{name}__k"), ["a", "users"]),
    ],
)
async def test_legacy_names_are_joined_plainly(wrap: Wrap, place: Callable[[str, str], tuple[str, str]], listed: list[str]) -> None:
    for first in ("a", "a_", "a__b", "_"):
        memory = MemoryStore(seed={first: {"alone": {}}})
        kv = wrap(memory, first, legacy_names=True)
        for name in ("users", "users_", "a__b"):
            await kv.put("k", {"of": name}, collection=name)
            collection, key = place(first, name)
            assert await memory.get(key, collection=collection) == {"of": name}
            assert await kv.get("k", collection=name) == {"of": name}
            assert "k" in await kv.keys(name)
        assert sorted(await kv.collections()) == listed
        assert await wrap(memory, first + "x", legacy_names=True).collections() == []
        await kv.destroy()
        assert await memory.collections() == [first]
        assert await memory.keys(first) == ["alone"]


@pytest.mark.parametrize(
    ("wrap", "limited", "destroyed"),
    [(PrefixKeysWrapper, ["collections", "keys"], None), (SingleCollectionWrapper, ["keys"], ["keys", "delete_many"])],
)
async def test_listings_cost_no_more_than_they_must(wrap: Wrap, limited: list[str], destroyed: list[str] | None) -> None:
    store = ScriptedStore(MemoryStore())
    kv = wrap(store, "p")
    for number in range(9):
        await kv.put("k", {}, collection=f"c{number}")
    store.calls.clear()
    assert await kv.collections(limit=1) == ["c0"]
    assert store.calls == limited
    store.calls.clear()
    await kv.destroy()
    assert store.calls == destroyed or destroyed is None
    assert await kv.collections() == []


async def test_own_defaults_of_collections() -> None:
    memory = MemoryStore(default_collection="inner")
    for wrap, defaults in itertools.product((PrefixCollectionsWrapper, SingleCollectionWrapper), ([], ["mine"])):
        kv: Any = wrap(memory, "p" if wrap is PrefixCollectionsWrapper else "s", *defaults)
        await kv.put("k", {})
        assert await kv.keys() == ["k"]
    assert sorted(await memory.collections()) == ["p__default_collection", "p__mine", "s"]
    assert sorted(await memory.keys("s")) == ["default_collection__k", "mine__k"]


async def test_a_single_collection_can_do_what_keys_are_enough_for() -> None:
    class OnlyKeys(BaseWrapper):
        def _capabilities(self) -> frozenset[str]:
            return frozenset({"keys"})

    kv: Any = SingleCollectionWrapper(OnlyKeys(MemoryStore()), "s")
    assert capabilities_of(kv) == ALL - {"cull"}
    await kv.put("k", {}, collection="c")
    assert await kv.collections(limit=5) == ["c"]
    assert await kv.destroy_collection("c") is True
    assert capabilities_of(SingleCollectionWrapper(NullStore(), "s")) == set()


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
    assert capabilities_of(wrapper) == ALL


@pytest.mark.parametrize("known", [None, "default_collection"])
async def test_a_function_that_knows_the_default_collection_by_one_of_its_names(known: str | None) -> None:
    special = MemoryStore()
    kv = RoutingWrapper(lambda name: special if name == known else None, MemoryStore())
    await kv.put("k", {"v": 1})
    assert await kv.get("k", collection="default_collection") == {"v": 1}
    assert await special.get("k") == {"v": 1}


async def test_routing_to_stores_that_are_not_named_offers_little() -> None:
    other, not_a_store = MemoryStore(), object()
    wrapper = RoutingWrapper(lambda name: other if name == "o" else None, MemoryStore())
    assert capabilities_of(wrapper) == set()
    await wrapper.put("k", {}, collection="o")
    assert await other.keys("o") == ["k"]
    assert capabilities_of(RoutingWrapper(lambda _: other, MemoryStore(), stores=[other])) == ALL
    assert capabilities_of(RoutingWrapper(lambda _: other, MemoryStore(), stores=[other, NullStore()])) == set()
    route: Any = lambda _: not_a_store  # noqa: E731 # typed as anything
    with pytest.raises(TypeError, match="AsyncKeyValue"):
        await RoutingWrapper(route, MemoryStore()).get("k")


def test_routing_to_stores_that_need_a_loop() -> None:
    other: AsyncKeyValue = TimeoutWrapper(MemoryStore(), 60)
    for stores in (None, [other]):
        with BlockingKeyValue(RoutingWrapper(lambda name: other if name == "o" else None, MemoryStore(), stores=stores)) as kv:
            kv.put("k", {"a": 1}, collection="o")
            assert kv.get("k", collection="o") == {"a": 1}
    assert runs_inline(RoutingWrapper(lambda _: None, MemoryStore(), stores=[]))
    assert not runs_inline(RoutingWrapper(lambda _: None, MemoryStore()))
