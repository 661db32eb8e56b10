"""Stacks of ready-made wrappers: whatever lies on whatever, the contract holds, names stay apart, and a cancelled call harms no other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalue._core import clock as clock_module
from keyvalue._core.capabilities import ALL, capabilities_of
from keyvalue.errors import StoreConnectionError
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing import RuntimeName
from keyvalue.wrappers.base import Operation
from keyvalue.wrappers.compression import CompressionWrapper
from keyvalue.wrappers.fallback import FallbackWrapper
from keyvalue.wrappers.logging import LoggingWrapper
from keyvalue.wrappers.passthrough_cache import PassthroughCacheWrapper
from keyvalue.wrappers.retry import RetryWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from tests import backends
from tests.budget import scale
from tests.runtimes import Runtime
from tests.scripted import CALLS, DOWN, NEW, OLD, Hang, ScriptedStore

NAMES = ["a", "c", "k", "mine", "mine__c", "mi__ne", "mi", "ne__k", "_", "__", "___", "a__", "__a", "single", "~1", "default_collection"]
VALUES: list[dict[str, Any]] = [
    {},
    {"a": 1},
    {"n": None, "l": [1, {"x": "é"}]},
    {"__compressed_data__": "x"},
    {"__compressed_data__": "eA==", "__compression_algorithm__": "gzip", "__compression_version__": 1},
    {"__encrypted_data__": "eA==", "__encryption_version__": 1},
    {"__cached_value__": {"a": 1}, "__cached_until__": 1e12, "__expires_at__": None},
    {"big": "x" * 3000},
]
name, value, seconds = st.sampled_from(NAMES), st.sampled_from(VALUES), st.sampled_from([1, 4, 30])
some = st.lists(name, max_size=5)
collection, ttl = {"collection": st.none() | name}, {"ttl": st.sampled_from([None, None, 4, 32.5])}


def call_of(method: str, *args: st.SearchStrategy[Any], **kwargs: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(method), st.tuples(*args), st.fixed_dictionaries(kwargs))


a_call = st.one_of(
    call_of("put", name, value, **collection, **ttl),
    st.lists(st.tuples(name, value), max_size=4).flatmap(
        lambda items: call_of("put_many", st.just([key for key, _ in items]), st.just([one for _, one in items]), **collection, **ttl)
    ),
    *(call_of(method, name, **collection) for method in ("get", "ttl", "delete")),
    *(call_of(method, some, **collection) for method in ("get_many", "ttl_many", "delete_many")),
    call_of("keys", **collection),
    *(call_of(method) for method in ("collections", "cull", "destroy")),
    call_of("destroy_collection", name),
    call_of("advance", seconds),
)


def comparable(method: str, result: Any) -> Any:
    if method in ("keys", "collections"):
        return sorted(result)
    # Each wrapper that puts again what it has read may round the deadline by a microsecond, and so may each store.
    pairs = [result] if method == "ttl" else result if method == "ttl_many" else []
    return [(value, left if left is None else round(left, 3)) for value, left in pairs] or result


@pytest.mark.parametrize("runtime_name", ["asyncio", "trio", "direct"])
@settings(max_examples=scale(60, 500), deadline=None)
@given(wrappers=st.lists(st.sampled_from(sorted(backends.WRAPPERS)), min_size=1, max_size=5), script=st.lists(a_call, max_size=20))
def test_any_stack_answers_as_the_store_alone_does(runtime_name: RuntimeName, wrappers: list[str], script: list[Any]) -> None:
    now = 1_700_000_000.0
    store: AsyncKeyValue = MemoryStore()
    for wrapper in wrappers:
        store = backends.WRAPPERS[wrapper](store)
    assert capabilities_of(store) == ALL
    runtime = Runtime(runtime_name)
    stack, alone = runtime.adapt(store), runtime.adapt(MemoryStore())

    async def play() -> None:
        nonlocal now
        listings: list[Any] = [("collections", (), {}), *(("keys", (one,), {}) for one in NAMES)]
        for method, args, kwargs in [*script, *listings]:
            if method == "advance":
                now += args[0]
            else:
                answers = [comparable(method, await getattr(kv, method)(*args, **kwargs)) for kv in (stack, alone)]
                assert answers[0] == answers[1], method

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock_module, "now", lambda: now)
        runtime.run(play)


# Cancellation


class Yielding(ScriptedStore):
    """A store whose calls suspend before and after."""

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        await anyio.lowlevel.checkpoint()
        result = await call(self.key_value)
        await anyio.lowlevel.checkpoint()
        return result


CANCELLABLE: dict[str, Callable[[AsyncKeyValue], AsyncKeyValue]] = {
    **backends.WRAPPERS,
    "passthrough-cache": lambda store: PassthroughCacheWrapper(store, Yielding(MemoryStore()), negative_ttl=60),
    "fallback": lambda store: FallbackWrapper(ScriptedStore(store, [DOWN]), Yielding(MemoryStore()), write_to_fallback=False),
    "retry": lambda store: RetryWrapper(ScriptedStore(store, [DOWN]), initial_delay=0),
}

BIG = {**NEW, "big": "x" * 200_000}  # it is worked on in a thread
CANCELLED = {**CALLS, "put big": lambda kv: kv.put("k", BIG)}


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@settings(max_examples=scale(120, 1000), deadline=None)
@given(
    wrappers=st.lists(st.sampled_from(sorted(CANCELLABLE)), min_size=1, max_size=4),
    name=st.sampled_from(sorted(CANCELLED)),
    other=st.sampled_from(["get", "get_many", "put", "delete"]),
    steps=st.integers(0, 25),
)
def test_a_call_cancelled_anywhere_leaves_the_stack_usable(loop: str, wrappers: list[str], name: str, other: str, steps: int) -> None:
    kv: Any = Yielding(MemoryStore())
    for wrapper in wrappers:
        kv = CANCELLABLE[wrapper](kv)

    async def make(call: Callable[[Any], Awaitable[object]], scope: anyio.CancelScope) -> None:
        with scope, suppress(StoreConnectionError):  # of a fallback, which takes no writes
            await call(kv)

    async def main() -> None:
        for _ in wrappers:  # each fallback refuses a write once
            await make(CALLS["put"], anyio.CancelScope())
        await kv.put("k", OLD)
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(make, CANCELLED[name], scope)
            group.start_soon(make, CALLS[other], anyio.CancelScope())
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
        with anyio.fail_after(60):
            value = await kv.get("k")
            assert value in [None, OLD, NEW, BIG]
            assert await kv.get_many(["k"]) == [value]
            await kv.put("k", {"v": "last"})
            assert await kv.get("k") == {"v": "last"}
            assert await kv.get_many(["k", "k"]) == [{"v": "last"}] * 2
            assert await kv.delete("k") is True
            assert await kv.ttl("k") == (None, None)

    anyio.run(main, backend=loop)


# Outages


async def test_the_stack_of_the_readme_over_a_store_that_fails(runtime: Runtime) -> None:
    store = ScriptedStore(MemoryStore())
    store.plan(Hang(), DOWN, Hang(), DOWN, on="get")
    spare = MemoryStore(seed={"default_collection": {"k": {"of": "spare"}}})
    retry = RetryWrapper(TimeoutWrapper(store, 0.02), initial_delay=0)
    stack = LoggingWrapper(CompressionWrapper(FallbackWrapper(retry, spare)), logging.getLogger("tests"))
    async with runtime.adapt(stack) as kv:
        assert await kv.get("k") == {"of": "spare"}
        assert store.calls == ["get"] * 4
        await kv.put("k", {"text": "la " * 1000})
        assert await kv.get("k") == {"text": "la " * 1000}
        assert (await store.key_value.get("k") or {}).keys() > {"__compressed_data__"}
        assert await kv.keys() == ["k"]
        assert await kv.destroy_collection("default_collection") is True
        assert await kv.collections() == []
