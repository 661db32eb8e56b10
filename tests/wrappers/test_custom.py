"""Wrappers that were written for py-key-value-aio: they set `key_value` themselves, and override some of the eight methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, SupportsFloat

import pytest

from keyvalue._core.capabilities import ALL, capabilities_of
from keyvalue.blocking import BlockingKeyValue
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.wrappers.base import BaseWrapper
from keyvalue.wrappers.passthrough_cache import PassthroughCacheWrapper
from keyvalue.wrappers.retry import RetryWrapper
from keyvalue.wrappers.statistics import StatisticsWrapper
from tests.backends import PlainWrapper
from tests.runtimes import Runtime


class Counting(BaseWrapper):
    """Overrides two of the methods, as its documentation shows."""

    calls = 0

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        self.calls += 1
        return await super().get(key, collection=collection)

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        self.calls += 1
        await self.key_value.put(key=key, value=value, collection=collection, ttl=ttl)


class SetBefore(Counting):
    def __init__(self, key_value: AsyncKeyValue, name: str = "") -> None:
        self.key_value = key_value
        self.name = name
        super().__init__()


class SetAfter(Counting):
    def __init__(self, key_value: AsyncKeyValue) -> None:
        super().__init__()
        self.key_value = key_value


class NoSuper(Counting):
    def __init__(self, key_value: AsyncKeyValue) -> None:
        self.key_value: AsyncKeyValue = key_value


class Handed(Counting):
    def __init__(self, key_value: AsyncKeyValue) -> None:
        super().__init__(key_value=key_value)


class AlsoOfTheProtocol(NoSuper, AsyncKeyValue):
    pass


@dataclass
class Made(Counting):
    key_value: AsyncKeyValue
    name: str = ""


class Inline(NoSuper):
    runs_inline = True


KINDS: list[Callable[[AsyncKeyValue], Counting]] = [SetBefore, SetAfter, NoSuper, Handed, AlsoOfTheProtocol, Made]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wrapper_written_for_the_predecessor(kind: Any) -> None:
    store = MemoryStore()
    wrapper = kind(store)
    stack: Any = PlainWrapper(StatisticsWrapper(RetryWrapper(wrapper)))
    async with stack as kv:
        await kv.put("k", {"a": 1}, ttl=60)
        await kv.put_many(["l"], [{"b": 2}], collection="c")
        assert await kv.get("k") == {"a": 1}
        assert wrapper.calls == 2
        assert (await kv.ttl("k"))[0] == {"a": 1}
        assert await kv.get_many(["l"], collection="c") == [{"b": 2}]
        assert await kv.ttl_many(["l"], collection="c") == [({"b": 2}, None)]
        assert await kv.keys("c") == ["l"]
        assert sorted(await kv.collections()) == ["c", "default_collection"]
        assert await kv.delete("k") is True
        assert await kv.delete_many(["l"], collection="c") == 1
    assert store._closed  # pyright: ignore[reportPrivateUsage] # closing passes through
    assert capabilities_of(kind(store)) == ALL
    assert capabilities_of(kind(NullStore())) == set()
    assert isinstance(wrapper, kind)
    assert repr(kind(store)).startswith(kind.__name__ + "(")


@pytest.mark.parametrize("kind", [*KINDS, Inline])
def test_in_synchronous_code(kind: Any) -> None:
    with BlockingKeyValue(kind(MemoryStore())) as kv:
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}
        assert kv.keys() == ["k"]  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_wrapped_may_change() -> None:
    wrapper = NoSuper(NullStore())
    assert capabilities_of(wrapper) == set()
    wrapper.key_value = MemoryStore()
    assert capabilities_of(wrapper) == ALL
    wrapper.key_value = NullStore()
    assert capabilities_of(wrapper) == set()
    assert isinstance(wrapper, NoSuper)
    with pytest.raises(TypeError, match="NoSuper takes an AsyncKeyValue"):
        wrapper.key_value = None  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("kind", [Counting, NoSuper, RetryWrapper])
def test_the_class_of_an_instance_can_be_called_like_its_own(kind: Any) -> None:
    able, unable = kind(MemoryStore()), kind(NullStore())
    assert capabilities_of(type(able)(NullStore())) == set()
    assert capabilities_of(type(unable)(key_value=MemoryStore())) == ALL


class Renaming(NoSuper):
    """Names keys otherwise, without the hooks."""

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return await self.key_value.get(f"c:{key}", collection=collection)


def test_a_cache_whose_wrapper_names_keys_otherwise_may_be_the_primary_store() -> None:
    store = MemoryStore()
    PassthroughCacheWrapper(store, Renaming(store))


class Two(BaseWrapper):
    """Names what it wraps otherwise, and so overrides what it needs."""

    def __init__(self, first: AsyncKeyValue, second: AsyncKeyValue) -> None:
        self.first, self.second = first, second
        super().__init__()

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return await self.first.get(key=key, collection=collection) or await self.second.get(key=key, collection=collection)


async def test_a_wrapper_without_key_value(runtime: Runtime) -> None:
    wrapper = Two(MemoryStore(), MemoryStore(seed={"default_collection": {"k": {"a": 1}}}))
    if runtime.is_loop:
        async with PlainWrapper(wrapper) as kv:
            assert await kv.get("k") == {"a": 1}
    else:
        with BlockingKeyValue(PlainWrapper(wrapper)) as facade:
            assert facade.get("k") == {"a": 1}
    assert capabilities_of(wrapper) == set()
    assert repr(wrapper) == "Two()"
