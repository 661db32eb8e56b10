"""The wrapper base: what it forwards, what it advertises, and how few calls it makes."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest

from keyvalue._core.capabilities import PROTOCOLS
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import InvalidKeyError, ReadOnlyError
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.wrappers.base import BaseWrapper, Operation
from tests.backends import PlainWrapper, RenamingWrapper
from tests.test_blocking import Entered, ThirdParty


class RecordingWrapper(BaseWrapper):
    """Notes the calls that pass."""

    runs_inline = True

    def __init__(self, key_value: AsyncKeyValue) -> None:
        super().__init__(key_value)
        self.operations: list[Operation] = []

    async def _around(self, operation: Operation, call: Callable[[], Awaitable[Any]]) -> Any:
        self.operations.append(operation)
        return await call()


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
