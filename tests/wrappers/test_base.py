"""The wrapper base: what it forwards, what it advertises, and how few calls it and every wrapper make."""

from __future__ import annotations

import functools
import gc
import importlib
import inspect
import pkgutil
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from keyvalue import wrappers
from keyvalue._core.capabilities import PROTOCOLS
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import ReadOnlyError
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.wrappers.base import BaseWrapper
from keyvalue.wrappers.default_value import DefaultValueWrapper
from keyvalue.wrappers.fallback import FallbackWrapper
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper
from keyvalue.wrappers.retry import RetryWrapper
from tests import backends
from tests.backends import PlainWrapper, RenamingWrapper
from tests.core.test_blocking import ThirdParty
from tests.scripted import ScriptedStore


class Without(BaseWrapper):
    """Drops a capability."""

    def __init__(self, dropped: str, store: AsyncKeyValue) -> None:
        self._dropped = dropped
        super().__init__(store)

    def _capabilities(self) -> frozenset[str]:
        return super()._capabilities() - {self._dropped}


def only_keys() -> Any:
    """Return somebody else's store that can list keys, by an attribute bound on the instance."""

    async def keys(collection: str | None = None, *, limit: int | None = None) -> list[str]:
        return ["k"][:limit]

    store: Any = ThirdParty()
    store.keys = keys
    return store


EVERYTHING = set(PROTOCOLS)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (MemoryStore, EVERYTHING),
        (NullStore, set[str]()),
        (ThirdParty, set[str]()),
        (only_keys, {"keys"}),
        (lambda: PlainWrapper(MemoryStore()), EVERYTHING),
        (lambda: PlainWrapper(NullStore()), set[str]()),
        (lambda: PlainWrapper(RenamingWrapper(PlainWrapper(only_keys()))), {"keys"}),
        (lambda: Without("cull", MemoryStore()), EVERYTHING - {"cull"}),
        (lambda: PlainWrapper(Without("cull", PlainWrapper(MemoryStore()))), EVERYTHING - {"cull"}),
        (lambda: PrefixKeysWrapper(MemoryStore(), "p"), EVERYTHING),
        (lambda: PrefixKeysWrapper(Without("keys", MemoryStore()), "p"), {"cull"}),
        (lambda: FallbackWrapper(MemoryStore(), MemoryStore()), EVERYTHING),
        (lambda: FallbackWrapper(MemoryStore(), NullStore()), set[str]()),
        (lambda: PlainWrapper(FallbackWrapper(Without("cull", MemoryStore()), MemoryStore())), EVERYTHING - {"cull"}),
    ],
)
def test_capabilities_are_truthful_through_a_stack(make: Callable[[], Any], expected: set[str]) -> None:
    store = make()
    assert {name for name, protocol in PROTOCOLS.items() if isinstance(store, protocol)} == expected
    for one in (store, BlockingKeyValue(store)):
        assert {name for name in PROTOCOLS if hasattr(one, name)} == expected


async def test_an_own_override_of_an_optional_method_counts() -> None:
    class Safe(BaseWrapper):
        async def destroy(self) -> bool:
            raise ReadOnlyError("destroy")

    store = MemoryStore(seed={"c": {"k": {}}})
    with pytest.raises(ReadOnlyError):
        await Safe(store).destroy()
    assert await store.get("k", collection="c") == {}


def test_what_a_stack_looks_like() -> None:
    stack = RetryWrapper(FallbackWrapper(primary_key_value=MemoryStore(), fallback_key_value=NullStore()))
    assert repr(BlockingKeyValue(stack)) == "BlockingKeyValue(RetryWrapper(FallbackWrapper(MemoryStore(), NullStore())))"


def test_a_wrapper_keeps_its_class_and_is_in_no_reference_cycle() -> None:
    gc.disable()
    try:
        wrapper = PlainWrapper(MemoryStore())
        assert isinstance(wrapper, PlainWrapper)
        assert type(wrapper).__name__ == "PlainWrapper"
        assert type(wrapper) is type(PlainWrapper(MemoryStore()))
        reference = weakref.ref(wrapper)
        del wrapper
        assert reference() is None
    finally:
        gc.enable()


async def test_only_its_own_part_is_listed_and_destroyed() -> None:
    memory = MemoryStore()
    kv: Any = RenamingWrapper(memory)
    for collection in ("c", "d"):
        await kv.put_many(["a", "b", "c"], [{}, {}, {}], collection=collection)
    foreign = [("c", "a"), ("e", "x"), ("mine/c", "a"), ("mine/e", "x"), ("theirs", "key/k")]
    for collection, key in foreign:
        await memory.put(key, {}, collection=collection)
    assert sorted(await kv.keys("c")) == ["a", "b", "c"]
    assert len(await kv.keys("c", limit=2)) == 2
    assert await kv.keys("c", limit=0) == []
    assert sorted(await kv.collections()) == ["c", "d"]
    assert len(await kv.collections(limit=1)) == 1
    with pytest.raises(ValueError, match="negative"):
        await kv.keys("c", limit=-1)
    assert await kv.destroy_collection("c") is True
    assert await kv.destroy_collection("c") is False
    assert await kv.destroy_collection("e") is False
    assert await kv.collections() == ["d"]
    assert await kv.destroy() is True
    assert await kv.collections() == []
    for collection, key in foreign:
        assert await memory.get(key, collection=collection) == {}


# What can be wrapped


def saying_so(self: ThirdParty, key: str, *, collection: str | None = None) -> Awaitable[dict[str, Any] | None]:
    return ThirdParty.get(self, key, collection=collection)


def decorating(*args: Any, **kwargs: Any) -> Any:
    return ThirdParty.get(*args, **kwargs)


@pytest.mark.parametrize("get", [saying_so, functools.wraps(ThirdParty.get)(decorating)], ids=["saying so", "decorating"])
async def test_plain_functions_that_return_awaitables_are_asynchronous(get: Any) -> None:
    store: Any = type("Store", (ThirdParty,), {"get": get})()
    assert await PlainWrapper(store).get("k") is None


def test_what_is_synchronous_or_no_store_is_refused() -> None:
    bad: list[Any] = [BlockingKeyValue(MemoryStore()), object(), {}, MemoryStore, None]
    for number, one in enumerate(bad):
        with pytest.raises(TypeError, match="AsyncKeyValue" if number else "is synchronous"):
            PlainWrapper(one)


# How many calls it takes

WRAPPERS: dict[str, Callable[[AsyncKeyValue], AsyncKeyValue]] = {
    **backends.WRAPPERS,
    "base": PlainWrapper,
    "default-value": lambda store: DefaultValueWrapper(store, {}),
}
NEEDS = {"aes-gcm": "cryptography", "compression-zstd": "zstandard", "fernet": "cryptography"}
ONE_CALL: dict[str, Callable[[Any], Awaitable[object]]] = {
    "put": lambda kv: kv.put("k", {"a": "x" * 2000}, collection="z"),
    "get": lambda kv: kv.get("k", collection="z"),
    "ttl": lambda kv: kv.ttl("k", collection="z"),
    "put_many": lambda kv: kv.put_many(["k", "l"], [{}, {}], collection="z"),
    "get_many": lambda kv: kv.get_many(["k", "l"], collection="z"),
    "ttl_many": lambda kv: kv.ttl_many(["k", "l"], collection="z"),
    "delete_many": lambda kv: kv.delete_many(["k", "l"], collection="z"),
    "delete": lambda kv: kv.delete("k", collection="z"),
}
OPTIONAL_CALLS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "keys": lambda kv: kv.keys("z"),
    "collections": lambda kv: kv.collections(),
    "destroy_collection": lambda kv: kv.destroy_collection("z"),
    "destroy": lambda kv: kv.destroy(),
    "cull": lambda kv: kv.cull(),
}


@pytest.mark.parametrize("name", WRAPPERS)
async def test_every_wrapper_makes_one_call_of_one(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    inner = ScriptedStore(MemoryStore())
    kv = WRAPPERS[name](inner)
    for call, make in {**ONE_CALL, **(OPTIONAL_CALLS if name == "base" else {})}.items():
        inner.calls.clear()
        await make(kv)
        if name == "passthrough-cache" and call.startswith(("get", "ttl")):
            # A hit costs none, a miss one that also says how long it may be cached. "k" is one since the `get` before.
            assert inner.calls == {"get": ["ttl"], "ttl": [], "get_many": ["ttl_many"], "ttl_many": []}[call]
        else:
            assert inner.calls == [call]


def test_every_wrapper_says_where_it_belongs() -> None:
    pytest.importorskip("cryptography")
    modules = [module.name for module in pkgutil.iter_modules(wrappers.__path__) if module.name != "base"]
    kinds = {
        kind
        for name in modules
        for kind in vars(importlib.import_module(f"keyvalue.wrappers.{name}")).values()
        if isinstance(kind, type) and issubclass(kind, BaseWrapper) and kind.__module__.endswith(f".{name}")
    }
    assert len(kinds) == 19
    for kind in kinds:
        assert "\nPlace" in inspect.cleandoc(kind.__doc__ or ""), kind.__name__
