"""The wrapper base: what it forwards, what it advertises, and how few calls it makes."""

from __future__ import annotations

import functools
import gc
import importlib
import inspect
import pkgutil
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio
import pytest

from keyvalue import wrappers
from keyvalue._core.capabilities import PROTOCOLS
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import InvalidKeyError, ReadOnlyError, StoreConnectionError
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.dynamodb import DynamoDBStore
from keyvalue.stores.elasticsearch import ElasticsearchStore
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.mongodb import MongoDBStore
from keyvalue.stores.null import NullStore
from keyvalue.stores.redis import RedisStore
from keyvalue.stores.valkey import ValkeyStore
from keyvalue.wrappers.base import BaseWrapper, Operation
from keyvalue.wrappers.default_value import DefaultValueWrapper
from keyvalue.wrappers.fallback import FallbackWrapper
from keyvalue.wrappers.logging import LoggingWrapper
from keyvalue.wrappers.passthrough_cache import PassthroughCacheWrapper
from keyvalue.wrappers.read_only import ReadOnlyWrapper
from keyvalue.wrappers.retry import RetryWrapper
from keyvalue.wrappers.routing import CollectionRoutingWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from tests import backends
from tests.backends import PlainWrapper, RenamingWrapper
from tests.core.test_blocking import Entered, ThirdParty
from tests.runtimes import Runtime


class RecordingWrapper(BaseWrapper):
    """Notes the calls that pass."""

    runs_inline = True

    def __init__(self, key_value: AsyncKeyValue) -> None:
        super().__init__(key_value)
        self.operations: list[Operation] = []

    async def _around(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        self.operations.append(operation)
        return await call(self.key_value)


def test_what_a_stack_looks_like() -> None:
    store = MemoryStore()
    stack = RetryWrapper(FallbackWrapper(primary_key_value=store, fallback_key_value=NullStore()))
    assert repr(BlockingKeyValue(stack)) == "BlockingKeyValue(RetryWrapper(FallbackWrapper(MemoryStore(), NullStore())))"
    password = "hunter" + "2" * 5
    urls = [
        f"redis://:{password}@localhost:6380/1",
        f"redis://user:{password}@localhost:6380",
        f"rediss://localhost:6380?password={password}",
    ]
    for url in urls:
        assert repr(LoggingWrapper(RetryWrapper(RedisStore(url=url)))) == "LoggingWrapper(RetryWrapper(RedisStore(localhost:6380)))"
    others = [
        RedisStore(password=password),
        RedisStore(url=f"unix://user:{password}@/run/redis.sock"),
        ValkeyStore(password=password),
        MongoDBStore(url=f"mongodb://user:{password}@localhost:27017/?appname={password}"),
        ElasticsearchStore(url=f"http://user:{password}@localhost:9200", index_prefix="kv", api_key=None),
        DynamoDBStore(table_name="table", endpoint_url=f"http://user:{password}@localhost:8000", aws_secret_access_key=password),
    ]
    for store in others:
        assert password not in repr(store)
        assert "localhost" in repr(store) or "redis.sock" in repr(store)


class EnvelopeWrapper(BaseWrapper):
    """Changes values only."""

    async def _inner_value(self, value: Mapping[str, Any], key: str, collection: str | None) -> Mapping[str, Any]:
        return {"envelope": dict(value)}

    async def _outer_value(self, value: dict[str, Any], key: str, collection: str | None) -> dict[str, Any] | None:
        return value["envelope"]


class KeyPrefixWrapper(BaseWrapper):
    """Shares collections with others."""

    def _inner_key(self, key: str, collection: str | None) -> str:
        return "p/" + key

    def _outer_key(self, key: str, collection: str | None) -> str | None:
        return key.removeprefix("p/") if key.startswith("p/") else None


class CullessWrapper(BaseWrapper):
    """Drops a capability."""

    def _capabilities(self) -> frozenset[str]:
        return super()._capabilities() - {"cull"}


class WithoutKeysWrapper(BaseWrapper):
    """Drops another."""

    def _capabilities(self) -> frozenset[str]:
        return super()._capabilities() - {"keys"}


class BothWrapper(BaseWrapper):
    """Spreads over two stores."""

    def __init__(self, *stores: AsyncKeyValue) -> None:
        self._stores = stores
        super().__init__(stores[0])

    def _wrapped(self) -> tuple[AsyncKeyValue, ...]:
        return self._stores


class OnlyKeys(ThirdParty):
    """Somebody else's store that can list keys, by an attribute bound on the instance."""

    def __init__(self) -> None:
        super().__init__()

        async def keys(collection: str | None = None, *, limit: int | None = None) -> list[str]:
            return ["k"][:limit]

        self.keys = keys


def advertised(store: object) -> set[str]:
    return {name for name, protocol in PROTOCOLS.items() if isinstance(store, protocol)}


EVERYTHING = set(PROTOCOLS)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (MemoryStore, EVERYTHING),
        (NullStore, set[str]()),
        (ThirdParty, set[str]()),
        (OnlyKeys, {"keys"}),
        (lambda: PlainWrapper(MemoryStore()), EVERYTHING),
        (lambda: PlainWrapper(NullStore()), set[str]()),
        (lambda: PlainWrapper(RenamingWrapper(PlainWrapper(OnlyKeys()))), {"keys"}),
        (lambda: CullessWrapper(MemoryStore()), EVERYTHING - {"cull"}),
        (lambda: PlainWrapper(CullessWrapper(PlainWrapper(MemoryStore()))), EVERYTHING - {"cull"}),
        (lambda: KeyPrefixWrapper(MemoryStore()), EVERYTHING),
        (lambda: KeyPrefixWrapper(WithoutKeysWrapper(MemoryStore())), {"cull"}),
        (lambda: BothWrapper(MemoryStore(), MemoryStore()), EVERYTHING),
        (lambda: BothWrapper(MemoryStore(), NullStore()), set[str]()),
        (lambda: PlainWrapper(BothWrapper(CullessWrapper(MemoryStore()), MemoryStore())), EVERYTHING - {"cull"}),
    ],
)
def test_capabilities_are_truthful_through_a_stack(make: Callable[[], Any], expected: set[str]) -> None:
    store = make()
    assert advertised(store) == expected
    assert {name for name in PROTOCOLS if hasattr(store, name)} == expected
    facade = BlockingKeyValue(store)
    assert {name for name in PROTOCOLS if hasattr(facade, name)} == expected


def test_a_wrapper_keeps_its_class() -> None:
    wrapper = RecordingWrapper(MemoryStore())
    assert isinstance(wrapper, RecordingWrapper)
    assert type(wrapper).__name__ == "RecordingWrapper"
    assert type(wrapper) is type(RecordingWrapper(MemoryStore()))
    assert isinstance(wrapper, AsyncKeyValue)


def test_a_wrapper_is_in_no_reference_cycle() -> None:
    gc.disable()
    try:
        wrapper = PlainWrapper(MemoryStore())
        reference = weakref.ref(wrapper)
        del wrapper
        assert reference() is None
    finally:
        gc.enable()


async def test_each_call_is_passed_on_as_one_call_of_the_same_kind() -> None:
    inner = RecordingWrapper(MemoryStore())
    kv: Any = PlainWrapper(EnvelopeWrapper(inner))
    calls: Iterable[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("put", lambda: kv.put("k", {"a": 1}, collection="c", ttl=5)),
        ("get", lambda: kv.get("k", collection="c")),
        ("ttl", lambda: kv.ttl("k", collection="c")),
        ("put_many", lambda: kv.put_many(["k", "l"], [{}, {}])),
        ("get_many", lambda: kv.get_many(["k", "l"])),
        ("ttl_many", lambda: kv.ttl_many(["k", "l"])),
        ("delete_many", lambda: kv.delete_many(["k", "l"])),
        ("delete", lambda: kv.delete("k")),
        ("keys", lambda: kv.keys("c")),
        ("collections", lambda: kv.collections()),
        ("destroy_collection", lambda: kv.destroy_collection("c")),
        ("destroy", lambda: kv.destroy()),
        ("cull", lambda: kv.cull()),
    ]
    for name, call in calls:
        inner.operations.clear()
        await call()
        assert [operation.name for operation in inner.operations] == [name]


async def test_names_are_restored_and_others_left_out() -> None:
    memory = MemoryStore()
    kv: Any = RenamingWrapper(memory)
    await memory.put("stranger", {}, collection="mine/c")
    await memory.put("key/k", {}, collection="theirs")
    await kv.put_many(["a", "b", "c"], [{}, {}, {}], collection="c")
    assert sorted(await kv.keys("c")) == ["a", "b", "c"]
    assert len(await kv.keys("c", limit=2)) == 2
    assert await kv.keys("c", limit=0) == []
    assert await kv.collections(limit=1) == ["c"]
    with pytest.raises(ValueError, match="negative"):
        await kv.keys("c", limit=-1)


@pytest.mark.parametrize("wrap", [KeyPrefixWrapper, RenamingWrapper])
async def test_only_the_own_part_is_listed_and_destroyed(wrap: type[BaseWrapper]) -> None:
    memory = MemoryStore()
    kv: Any = wrap(memory)
    for collection in ("c", "d"):
        await kv.put_many(["a", "b"], [{}, {}], collection=collection)
    foreign = [("c", "a"), ("e", "x"), ("mine/c", "a"), ("mine/e", "x")]
    for collection, key in foreign:
        await memory.put(key, {}, collection=collection)
    assert sorted(await kv.collections()) == ["c", "d"]
    assert await kv.destroy_collection("c") is True
    assert await kv.destroy_collection("c") is False
    assert await kv.destroy_collection("e") is False
    assert await kv.collections() == ["d"]
    assert await kv.destroy() is True
    assert await kv.collections() == []
    for collection, key in foreign:
        assert await memory.get(key, collection=collection) == {}


async def test_names_are_checked_before_they_are_changed() -> None:
    kv: Any = RenamingWrapper(MemoryStore())
    for bad, error in (("", InvalidKeyError), (1, TypeError), ("\ud800", InvalidKeyError)):
        with pytest.raises(error):
            await kv.get(bad)
        with pytest.raises(error):
            await kv.get("k", collection=bad)
        with pytest.raises(error):
            await kv.put_many(["k", bad], [{}, {}])
    with pytest.raises(ValueError, match="one value for each key"):
        await kv.put_many(["k"], [])
    assert await kv.collections() == []


def test_wrong_colours_and_types_are_refused() -> None:
    with pytest.raises(TypeError, match="is synchronous"):
        PlainWrapper(BlockingKeyValue(MemoryStore()))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    for bad in (object(), {}, MemoryStore, None):
        with pytest.raises(TypeError, match="AsyncKeyValue"):
            PlainWrapper(bad)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


class Deferring(ThirdParty):
    """Plain functions that return awaitables, and say so."""

    def get(self, key: str, *, collection: str | None = None) -> Awaitable[dict[str, Any] | None]:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        return super().get(key, collection=collection)


async def test_methods_that_return_awaitables_are_asynchronous() -> None:
    assert await PlainWrapper(Deferring()).get("k") is None  # type: ignore[arg-type]


async def test_opening_and_closing_pass_through_and_may_be_missing() -> None:
    class Noting(MemoryStore):
        log: list[str] = []  # noqa: RUF012 # for one test

        async def setup(self) -> None:
            self.log.append("setup")

        async def close(self) -> None:
            self.log.append("close")

    async with PlainWrapper(PlainWrapper(Noting())):
        pass
    assert Noting.log == ["setup", "close"]
    async with PlainWrapper(ThirdParty()) as kv:
        await kv.aclose()


async def test_an_own_override_of_an_optional_method_counts() -> None:
    class Safe(BaseWrapper):
        async def destroy(self) -> bool:
            raise ReadOnlyError("destroy")

    store = MemoryStore(seed={"c": {"k": {}}})
    with pytest.raises(ReadOnlyError):
        await Safe(store).destroy()
    assert await store.get("k", collection="c") == {}


def passing_on(function: Any) -> Any:
    @functools.wraps(function)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return decorated


class Decorated(ThirdParty):
    get = passing_on(ThirdParty.get)


async def test_a_plain_decorator_makes_nothing_synchronous() -> None:
    assert await PlainWrapper(Decorated()).get("k") is None


@pytest.mark.parametrize("depth", [1, 2])
async def test_what_can_only_be_entered_is_entered_and_left_once(depth: int) -> None:
    inner = Entered()
    kv: Any = inner
    for _ in range(depth):
        kv = PlainWrapper(kv)
    async with kv:
        await kv.setup()
        assert inner.log == ["entered"]
    await kv.close()
    assert inner.log == ["entered", "left"]


def test_what_can_only_be_entered_is_entered_through_a_facade() -> None:
    inner = Entered()
    with BlockingKeyValue(PlainWrapper(inner)) as facade:
        facade.put("k", {})
    assert inner.log == ["entered", "left"]


class SynchronouslyClosed(ThirdParty):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_synchronous_close_is_called() -> None:
    inner = SynchronouslyClosed()
    with BlockingKeyValue(inner):
        pass
    with BlockingKeyValue(PlainWrapper(inner)):
        pass
    assert inner.closed == 2


async def test_all_are_closed_even_if_one_of_them_fails() -> None:
    class Failing(MemoryStore):
        closed = False

        async def close(self) -> None:
            self.closed = True
            raise OSError("can't close")

    class Several(BaseWrapper):
        def _wrapped(self) -> Sequence[AsyncKeyValue]:
            return stores

    stores = [Failing(), Failing(), Failing()]
    with pytest.raises(OSError, match="can't close"):
        await Several(stores[0]).close()
    assert all(store.closed for store in stores)


class Noting(MemoryStore):
    """Notes how often it is opened and closed, and fails to open as often as it is told."""

    runs_inline = True

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures
        self.opened = 0
        self.closed = 0

    async def setup(self) -> None:
        self.opened += 1
        if self.opened <= self.failures:
            raise StoreConnectionError("away")

    async def close(self) -> None:
        self.closed += 1
        await super().close()


PAIRS: dict[str, Callable[[AsyncKeyValue, AsyncKeyValue], AsyncKeyValue]] = {
    "fallback": FallbackWrapper,
    "passthrough-cache": PassthroughCacheWrapper,
    "routing": lambda first, second: CollectionRoutingWrapper({"c": second}, first),
}
NEEDED = {"fallback": (False, False), "passthrough-cache": (True, False), "routing": (True, True)}
"""Whether each needs the one store and the other."""


@pytest.mark.parametrize("name", PAIRS)
async def test_both_stores_are_opened_and_closed(name: str, runtime: Runtime) -> None:
    stores = Noting(), Noting()
    async with runtime.adapt(PlainWrapper(PAIRS[name](*stores))) as kv:
        await kv.setup()
        await kv.put("k", {})
    assert [store.opened for store in stores] == [2, 2]
    assert [store.closed for store in stores] == [1, 1]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("which", [0, 1])
async def test_a_store_that_can_not_be_opened(name: str, which: int, runtime: Runtime) -> None:
    stores = Noting(99 if which == 0 else 0), Noting(99 if which == 1 else 0)
    kv = runtime.adapt(PlainWrapper(PAIRS[name](*stores)))
    if NEEDED[name][which]:
        with pytest.raises(StoreConnectionError):
            await kv.__aenter__()
    else:
        async with kv:
            assert await kv.get("k") is None
    assert all(store.closed for store in stores), "also what was opened before another one failed"


async def test_a_fallback_needs_one_store_that_can_be_opened(runtime: Runtime) -> None:
    stores = Noting(99), Noting(99)
    with pytest.raises(StoreConnectionError):
        await runtime.adapt(FallbackWrapper(*stores)).__aenter__()


async def test_opening_is_tried_again_and_given_up(runtime: Runtime) -> None:
    store = Noting(2)
    async with runtime.adapt(PlainWrapper(RetryWrapper(PlainWrapper(store), initial_delay=0))) as kv:
        await kv.put("k", {})
    assert store.opened == 3

    class Hanging(MemoryStore):
        async def setup(self) -> None:
            await anyio.sleep_forever()

    spare = MemoryStore(seed={"default_collection": {"k": {"v": 1}}})
    stack = FallbackWrapper(RetryWrapper(TimeoutWrapper(PlainWrapper(Hanging()), 0.01), initial_delay=0), spare)
    async with runtime.adapt(PlainWrapper(stack)) as kv:
        await kv.keys()


async def test_what_can_only_be_entered_is_entered_outside_of_a_timeout() -> None:
    inner = Entered()
    async with PlainWrapper(TimeoutWrapper(PlainWrapper(inner), 60)) as kv:
        await kv.put("k", {})
    assert inner.log == ["entered", "left"]


def test_a_facade_that_can_not_be_opened_is_closed() -> None:
    for wrap in (PlainWrapper, lambda store: TimeoutWrapper(store, 60)):  # on either path
        threads = threading.active_count()
        store = Noting(1)
        with pytest.raises(StoreConnectionError), BlockingKeyValue(wrap(store)):
            pass
        assert store.closed
        assert threading.active_count() == threads


WRAPPERS: dict[str, Callable[[AsyncKeyValue], AsyncKeyValue]] = {
    **backends.WRAPPERS,
    "default-value": lambda store: DefaultValueWrapper(store, {}),
    "read-only": ReadOnlyWrapper,
}
ONE_CALL: dict[str, Callable[[AsyncKeyValue], Awaitable[object]]] = {
    "put": lambda kv: kv.put("k", {"a": "x" * 2000}, collection="z"),
    "get": lambda kv: kv.get("k", collection="z"),
    "ttl": lambda kv: kv.ttl("k", collection="z"),
    "put_many": lambda kv: kv.put_many(["k", "l"], [{}, {}], collection="z"),
    "get_many": lambda kv: kv.get_many(["k", "l"], collection="z"),
    "ttl_many": lambda kv: kv.ttl_many(["k", "l"], collection="z"),
    "delete_many": lambda kv: kv.delete_many(["k", "l"], collection="z"),
    "delete": lambda kv: kv.delete("k", collection="z"),
}


@pytest.mark.parametrize("name", WRAPPERS)
async def test_every_wrapper_makes_one_call_of_one(name: str) -> None:
    inner = RecordingWrapper(MemoryStore())
    kv = WRAPPERS[name](inner)
    for call, make in ONE_CALL.items():
        inner.operations.clear()
        if name == "read-only" and call.startswith(("put", "delete")):
            with pytest.raises(ReadOnlyError):
                await make(kv)
            assert inner.operations == []
            continue
        await make(kv)
        made = [operation.name for operation in inner.operations]
        if name == "passthrough-cache" and call.startswith(("get", "ttl")):
            # A hit costs none, a miss one that also says how long it may be cached. "k" is one since the `get` before.
            assert made == {"get": ["ttl"], "ttl": [], "get_many": ["ttl_many"], "ttl_many": []}[call]
        else:
            assert made == [call]


def test_every_wrapper_says_where_it_belongs() -> None:
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
