"""Opening and closing what is wrapped, once each, even if some of it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable

import anyio
import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import StoreConnectionError
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.base import BaseWrapper
from keyvalue.wrappers.fallback import FallbackWrapper
from keyvalue.wrappers.passthrough_cache import PassthroughCacheWrapper
from keyvalue.wrappers.retry import RetryWrapper
from keyvalue.wrappers.routing import CollectionRoutingWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from tests.backends import PlainWrapper
from tests.core.test_blocking import Entered, ThirdParty
from tests.runtimes import Runtime

Wrap = Callable[[AsyncKeyValue], AsyncKeyValue]


class Noting(MemoryStore):
    """Notes how often it is opened and closed, and fails to open as often as it is told, and to close if it is told."""

    runs_inline = True

    def __init__(self, failures: int = 0, *, closes: bool = True) -> None:
        super().__init__()
        self.failures = failures
        self.closes = closes
        self.opened = 0
        self.closed = 0

    async def setup(self) -> None:
        self.opened += 1
        if self.opened <= self.failures:
            raise StoreConnectionError("away")

    async def close(self) -> None:
        self.closed += 1
        await super().close()
        if not self.closes:
            raise OSError("can't close")


PAIRS: dict[str, Callable[[AsyncKeyValue, AsyncKeyValue], AsyncKeyValue]] = {
    "fallback": FallbackWrapper,
    "passthrough-cache": PassthroughCacheWrapper,
    "routing": lambda first, second: CollectionRoutingWrapper({"c": second, "d": second}, first),
}
FAILS: dict[str, Callable[[bool, bool], bool]] = {
    "fallback": lambda first, second: first and second,
    "passthrough-cache": lambda first, _: first,
    "routing": lambda first, second: first or second,
}
"""Whether opening each fails if opening the one store and the other does."""


@pytest.mark.parametrize("name", PAIRS)
async def test_both_stores_are_opened_and_closed(name: str, runtime: Runtime) -> None:
    stores = Noting(), Noting()
    async with runtime.adapt(PlainWrapper(PAIRS[name](*stores))) as kv:
        await kv.setup()
        await kv.put("k", {})
    assert [(store.opened, store.closed) for store in stores] == [(2, 1), (2, 1)]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
async def test_a_store_that_can_not_be_opened(name: str, first: bool, second: bool, runtime: Runtime) -> None:
    stores = Noting(99 if first else 0), Noting(99 if second else 0)
    kv = runtime.adapt(PlainWrapper(PAIRS[name](*stores)))
    if FAILS[name](first, second):
        with pytest.raises(StoreConnectionError):
            await kv.__aenter__()
    else:
        async with kv:
            assert await kv.get("k") is None
    assert all(store.closed for store in stores), "also what was opened before another one failed"


async def test_opening_is_tried_again_and_given_up(runtime: Runtime) -> None:
    store = Noting(2)
    async with runtime.adapt(PlainWrapper(RetryWrapper(PlainWrapper(store), initial_delay=0))) as kv:
        await kv.put("k", {})
    assert store.opened == 3

    class Hanging(MemoryStore):
        async def setup(self) -> None:
            await anyio.sleep_forever()

    hanging = RetryWrapper(TimeoutWrapper(PlainWrapper(Hanging()), 0.01), initial_delay=0)
    async with runtime.adapt(PlainWrapper(FallbackWrapper(hanging, MemoryStore()))) as kv:
        assert await kv.keys() == []


def test_a_facade_that_can_not_be_opened_is_closed() -> None:
    for wrap in (PlainWrapper, lambda store: TimeoutWrapper(store, 60)):  # on either path
        threads = threading.active_count()
        store = Noting(1)
        with pytest.raises(StoreConnectionError), BlockingKeyValue(wrap(store)):
            pass
        assert store.closed
        assert threading.active_count() == threads


async def test_all_are_closed_even_if_one_of_them_fails() -> None:
    one, two, three = stores = [Noting(closes=False) for _ in range(3)]
    with pytest.raises(OSError, match="can't close"):
        await CollectionRoutingWrapper({"a": one, "b": two}, three).close()
    assert [store.closed for store in stores] == [1, 1, 1]


# Somebody else's stores: the protocol has no lifecycle


async def test_what_has_no_lifecycle_can_be_opened_and_closed() -> None:
    async with PlainWrapper(ThirdParty()) as kv:
        await kv.aclose()


@pytest.mark.parametrize(
    "wrap",
    [PlainWrapper, lambda store: PlainWrapper(PlainWrapper(store)), lambda store: PlainWrapper(TimeoutWrapper(PlainWrapper(store), 60))],
    ids=["in one", "in two", "outside of a timeout"],
)
async def test_what_can_only_be_entered_is_entered_and_left_once(wrap: Wrap) -> None:
    inner = Entered()
    wrapper = wrap(inner)
    assert isinstance(wrapper, BaseWrapper)
    async with wrapper as kv:
        await kv.setup()
        await kv.put("k", {})
        assert inner.log == ["entered"]
    await wrapper.close()
    assert inner.log == ["entered", "left"]


def test_what_can_only_be_entered_is_entered_through_a_facade() -> None:
    inner = Entered()
    with BlockingKeyValue(PlainWrapper(inner)) as facade:
        facade.put("k", {})
    assert inner.log == ["entered", "left"]


def test_a_synchronous_close_is_called() -> None:
    class SynchronouslyClosed(ThirdParty):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    inner = SynchronouslyClosed()
    for store in (inner, PlainWrapper(inner)):
        with BlockingKeyValue(store):
            pass
    assert inner.closed == 2
