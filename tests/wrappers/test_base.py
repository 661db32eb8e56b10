"""The wrapper base: what it forwards, what it advertises, and how few calls it and every wrapper make."""

from __future__ import annotations

import functools
import gc
import importlib
import inspect
import math
import pkgutil
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest

from keyvalue import wrappers
from keyvalue._core.capabilities import ALL, capabilities_of
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import InvalidTTLError, ReadOnlyError
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.wrappers.base import BaseWrapper
from keyvalue.wrappers.compression import CompressionWrapper
from keyvalue.wrappers.default_value import DefaultValueWrapper
from keyvalue.wrappers.fallback import FallbackWrapper
from keyvalue.wrappers.limit_size import LimitSizeWrapper
from keyvalue.wrappers.passthrough_cache import PassthroughCacheWrapper
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper
from keyvalue.wrappers.retry import RetryWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from keyvalue.wrappers.ttl_clamp import TTLClampWrapper
from tests import backends
from tests.backends import PlainWrapper, RenamingWrapper
from tests.core.test_blocking import ThirdParty
from tests.scripted import CALLS, ScriptedStore


def drop_capability(dropped: str, store: AsyncKeyValue) -> BaseWrapper:
    """Wrap a store, and drop a capability."""

    class Without(BaseWrapper):
        def _capabilities(self) -> frozenset[str]:
            return super()._capabilities() - {dropped}

    return Without(store)


def make_key_lister() -> Any:
    """Return a third party's store that can list keys, by an attribute bound on the instance."""
    store: Any = ThirdParty()
    store.keys = MemoryStore().keys
    return store


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (MemoryStore, ALL),
        (NullStore, set[str]()),
        (ThirdParty, set[str]()),
        (make_key_lister, {"keys"}),
        (lambda: PlainWrapper(MemoryStore()), ALL),
        (lambda: PlainWrapper(NullStore()), set[str]()),
        (lambda: PlainWrapper(RenamingWrapper(PlainWrapper(make_key_lister()))), {"keys"}),
        (lambda: drop_capability("cull", MemoryStore()), ALL - {"cull"}),
        (lambda: PlainWrapper(drop_capability("cull", PlainWrapper(MemoryStore()))), ALL - {"cull"}),
        (lambda: PrefixKeysWrapper(MemoryStore(), "p"), ALL),
        (lambda: PrefixKeysWrapper(drop_capability("keys", MemoryStore()), "p"), {"cull"}),
        (lambda: FallbackWrapper(MemoryStore(), MemoryStore()), ALL),
        (lambda: FallbackWrapper(MemoryStore(), NullStore()), set[str]()),
        (lambda: PassthroughCacheWrapper(MemoryStore(), NullStore()), ALL - {"destroy", "destroy_collection"}),
        (lambda: PassthroughCacheWrapper(NullStore(), MemoryStore()), set[str]()),
        (lambda: PlainWrapper(FallbackWrapper(drop_capability("cull", MemoryStore()), MemoryStore())), ALL - {"cull"}),
    ],
)
def test_capabilities_are_truthful_through_a_stack(make: Callable[[], Any], expected: set[str]) -> None:
    store = make()
    for one in (store, BlockingKeyValue(store)):
        assert capabilities_of(one) == expected
        assert {name for name in ALL if hasattr(one, name)} == expected


async def test_an_own_override_of_an_optional_method_counts() -> None:
    class Safe(BaseWrapper):
        async def destroy(self) -> bool:
            raise ReadOnlyError("destroy")

    with pytest.raises(ReadOnlyError):
        await Safe(MemoryStore()).destroy()


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


async def test_an_author_may_want_keywords_of_each_subclass() -> None:
    class Tagged(BaseWrapper):
        tags: ClassVar[list[str]] = []

        def __init_subclass__(cls, *, tag: str, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            cls.tags.append(tag)

    class Loud(Tagged, tag="loud"):
        def _encode_key(self, key: str, collection: str | None) -> str:
            return key.upper()

    memory = MemoryStore()
    await Loud(drop_capability("cull", memory)).put("k", {})
    assert await memory.get("K") == {}
    assert Tagged.tags == ["loud"]


# What can be wrapped, and how

TTL = "positive, finite number of seconds"


def get_plainly(*args: Any, **kwargs: Any) -> Awaitable[dict[str, Any] | None]:
    return MemoryStore.get(*args, **kwargs)


@functools.wraps(MemoryStore.get)
def get_decorated(*args: Any, **kwargs: Any) -> Any:
    return MemoryStore.get(*args, **kwargs)


@pytest.mark.parametrize("get", [get_plainly, get_decorated])
async def test_plain_functions_that_return_awaitables_are_asynchronous(get: Any) -> None:
    store: Any = type("Store", (MemoryStore,), {"get": get})()
    assert await PlainWrapper(store).get("k") is None


@pytest.mark.parametrize("kind", [PlainWrapper, BlockingKeyValue])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (MemoryStore, "AsyncKeyValue, an object with its eight methods, not the class MemoryStore$"),
        (None, "AsyncKeyValue, an object with its eight methods, not None$"),
        (1, "AsyncKeyValue, an object with its eight methods, not an int$"),
        ({}, "AsyncKeyValue, an object with its eight methods, not a dict$"),
        (BlockingKeyValue(MemoryStore()), "asynchronous key-value store, but BlockingKeyValue.get is synchronous"),
    ],
)
def test_what_is_synchronous_or_no_store_is_refused(kind: Any, bad: Any, said: str) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__} takes an {said}"):
        kind(bad)


@pytest.mark.filterwarnings("ignore:CompressionWrapper")  # of beartype, which sees to the literal too
@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (CompressionWrapper, {"min_size_to_compress": -1}, "negative"),
        (CompressionWrapper, {"max_size": -1}, "negative"),
        (CompressionWrapper, {"algorithm": "lzma"}, "algorithm must be"),
        (DefaultValueWrapper, {"default_value": {"a": math.nan}}, "not a finite number"),
        (DefaultValueWrapper, {"default_value": {}, "default_ttl": -1}, TTL),
        (DefaultValueWrapper, {"default_value": {}, "default_ttl": False}, TTL),
        (LimitSizeWrapper, {"min_size": -1}, "min_size"),
        (LimitSizeWrapper, {"max_size": -1}, "min_size"),
        (LimitSizeWrapper, {"min_size": 2, "max_size": 1}, "min_size"),
        (PassthroughCacheWrapper, {"cache_key_value": MemoryStore(), "maximum_ttl": 0}, TTL),
        (PassthroughCacheWrapper, {"cache_key_value": MemoryStore(), "missing_ttl": -1}, TTL),
        (PassthroughCacheWrapper, {"cache_key_value": MemoryStore(), "negative_ttl": math.nan}, TTL),
        (RetryWrapper, {"max_retries": -1}, "max_retries"),
        (RetryWrapper, {"initial_delay": -1}, "initial_delay"),
        (RetryWrapper, {"max_delay": math.nan}, "max_delay"),
        (RetryWrapper, {"exponential_base": 0.5}, "exponential_base"),
        (RetryWrapper, {"deadline": -1}, "deadline"),
        *((TimeoutWrapper, {"timeout": timeout}, "positive") for timeout in (0, -1, math.nan)),
        (TTLClampWrapper, {"min_ttl": -1, "max_ttl": 1}, TTL),
        (TTLClampWrapper, {"min_ttl": 0, "max_ttl": 0}, TTL),
        (TTLClampWrapper, {"min_ttl": 1, "max_ttl": 2, "missing_ttl": 0}, TTL),
        (TTLClampWrapper, {"min_ttl": 1, "max_ttl": math.nan}, TTL),
        (TTLClampWrapper, {"min_ttl": 2, "max_ttl": 1}, "min_ttl"),
    ],
)
def test_arguments_that_make_no_sense(kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTTLError if message is TTL else ValueError, match=message):
        kind(MemoryStore(), **arguments)


# How many calls it takes

WRAPPERS: dict[str, Callable[[AsyncKeyValue], AsyncKeyValue]] = {
    **backends.WRAPPERS,
    "base": PlainWrapper,
    "default-value": lambda store: DefaultValueWrapper(store, {}),
}
NEEDS = {"aes-gcm": "cryptography", "compression-zstd": "zstandard", "fernet": "cryptography"}


@pytest.mark.parametrize("name", WRAPPERS)
async def test_every_wrapper_makes_one_call_of_one(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    inner = ScriptedStore(MemoryStore())
    kv = WRAPPERS[name](inner)
    for call, make in CALLS.items():
        if call in ALL and name != "base":
            continue
        inner.calls.clear()
        await make(kv)
        if name == "passthrough-cache" and call.startswith(("get", "ttl")):
            # A hit costs none, a miss one that also says how long it may be cached. "k" is one since the `get` before.
            assert inner.calls == {"get": ["ttl"], "ttl": [], "get_many": ["ttl_many"], "ttl_many": []}[call]
        else:
            assert inner.calls == [call]


def test_a_method_that_a_class_sets_to_none_is_not_there() -> None:
    class Unlisted(BaseWrapper):
        keys = None

    class UnlistedStore(MemoryStore):
        keys = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]

    for store in (Unlisted(MemoryStore()), UnlistedStore(), PlainWrapper(UnlistedStore())):
        assert capabilities_of(store) == ALL - {"keys"}


def test_every_wrapper_says_where_it_belongs() -> None:
    pytest.importorskip("cryptography")
    modules = [module.name for module in pkgutil.iter_modules(wrappers.__path__) if module.name != "base"]
    kinds = {
        kind
        for name in modules
        for kind in vars(importlib.import_module(f"keyvalue.wrappers.{name}")).values()
        if isinstance(kind, type) and kind.__module__.endswith(f".{name}") and issubclass(kind, BaseWrapper)
    }
    assert len(kinds) == 19
    for kind in kinds:
        assert "\nPlace" in inspect.cleandoc(kind.__doc__ or ""), kind.__name__
