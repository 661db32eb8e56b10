"""Opening and closing what is wrapped, once each, even if some of it fails."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

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
from tests.backends import PlainWrapper, Wrap
from tests.core.test_blocking import ThirdParty
from tests.runtimes import Runtime


class Noting(MemoryStore):
    """Notes how often it is opened and closed, and fails to open as often as it is told, and to close if it is told."""

    runs_inline = True

    opened = closed = 0

    def __init__(self, failures: float = 0, *, closes: bool = True) -> None:
        super().__init__()
        self.failures = failures
        self.closes = closes

    async def setup(self) -> None:
        self.opened += 1
        if self.opened <= self.failures:
            raise StoreConnectionError("away")

    async def close(self) -> None:
        self.closed += 1
        await super().close()
        if not self.closes:
            raise OSError("can't close")


PAIRS: dict[str, tuple[Callable[[AsyncKeyValue, AsyncKeyValue], AsyncKeyValue], Callable[[float, float], float]]] = {
    "fallback": (FallbackWrapper, min),
    "passthrough-cache": (PassthroughCacheWrapper, lambda first, _: first),
    "routing": (lambda first, second: CollectionRoutingWrapper({"c": second, "d": second}, first), max),
}
"""Wrappers of two stores, and how often opening each fails, by how often opening the one store does and the other."""


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("first", [0, math.inf])
@pytest.mark.parametrize("second", [0, math.inf])
async def test_both_stores_are_opened_and_closed(name: str, first: float, second: float, runtime: Runtime) -> None:
    stores = Noting(first), Noting(second)
    wrap, failures = PAIRS[name]
    kv = runtime.adapt(PlainWrapper(wrap(*stores)))
    if failures(first, second):
        with pytest.raises(StoreConnectionError):
            await kv.__aenter__()
    else:
        async with kv:
            await kv.setup()
            assert await kv.get("k") is None
        assert [store.opened for store in stores] == [2, 2]
    assert [store.closed for store in stores] == [1, 1], "also what was opened before another one failed"


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
        before = set(threading.enumerate())
        store = Noting(1)
        with pytest.raises(StoreConnectionError), BlockingKeyValue(wrap(store)):
            pass
        assert store.closed
        for thread in set(threading.enumerate()) - before:
            thread.join(20)
            assert not thread.is_alive()


async def test_all_are_closed_even_if_one_of_them_fails() -> None:
    one, two, three = stores = [Noting(closes=False) for _ in range(3)]
    with pytest.raises(OSError, match="can't close"):
        await CollectionRoutingWrapper({"a": one, "b": two}, three).close()
    assert [store.closed for store in stores] == [1, 1, 1]


# Somebody else's stores: the protocol has no lifecycle


class Entered(ThirdParty):
    """A third party's store that must be entered, and left in the task that entered it."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    async def __aenter__(self) -> Entered:
        self._scope = anyio.CancelScope()
        self._scope.__enter__()
        self.log.append("entered")
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self._scope.__exit__(*exc)
        self.log.append("left")


async def test_what_has_no_lifecycle_can_be_opened_and_closed() -> None:
    async with PlainWrapper(ThirdParty()) as kv:
        await kv.aclose()


@pytest.mark.parametrize(
    "wrap",
    [PlainWrapper, lambda store: PlainWrapper(PlainWrapper(store)), lambda store: PlainWrapper(TimeoutWrapper(PlainWrapper(store), 60))],
    ids=["in one", "in two", "outside of a timeout"],
)
async def test_what_can_only_be_entered_is_entered_and_left_once(wrap: Callable[[AsyncKeyValue], BaseWrapper]) -> None:
    inner = Entered()
    wrapper = wrap(inner)
    async with wrapper as kv:
        await kv.setup()
        await kv.put("k", {})
        assert inner.log == ["entered"]
    await wrapper.close()
    assert inner.log == ["entered", "left"]


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("wrap", [lambda store: store, PlainWrapper], ids=["bare", "wrapped"])
def test_what_can_only_be_entered_is_entered_through_a_facade(wrap: Wrap, loop: Any) -> None:
    inner = Entered()
    with BlockingKeyValue(wrap(inner), backend=loop) as facade:
        assert inner.log == ["entered"]
        facade.put("k", {})
    assert inner.log == ["entered", "left"]


@pytest.mark.parametrize("name", ["close", "aclose"])
def test_what_can_only_be_closed_is_closed(name: str) -> None:
    inner: Any = ThirdParty()
    closed: list[str] = []

    async def aclose() -> None:
        closed.append("aclose")

    setattr(inner, name, aclose if name == "aclose" else lambda: closed.append("close"))
    for store in (inner, PlainWrapper(inner)):
        with BlockingKeyValue(store):
            pass
    assert closed == [name] * 2
