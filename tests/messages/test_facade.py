"""Sync and async mixed up, methods that a store does not have, and the façade's own mistakes."""

# ruff: noqa: E501 # a mistake a line

from __future__ import annotations

from typing import Any

import pytest

from keyvalue._core.capabilities import ALL
from keyvalue.adapters.raise_on_missing import RaiseOnMissingAdapter
from keyvalue.blocking import BlockingKeyValue
from keyvalue.blocking import RaiseOnMissingAdapter as BlockingRaiseOnMissingAdapter
from keyvalue.errors import MissingKeyError, StoreClosedError
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.wrappers.fallback import FallbackWrapper
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper
from keyvalue.wrappers.read_only import ReadOnlyWrapper
from keyvalue.wrappers.retry import RetryWrapper
from keyvalue.wrappers.routing import RoutingWrapper
from tests.interpreter import forks, returns_true_in_a_fork
from tests.messages import Mistake, check
from tests.wrappers.test_base import drop_capability


def enter(kv: Any) -> None:
    with kv:
        pass


async def aenter(kv: Any) -> None:
    async with kv:
        pass


def closed() -> BlockingKeyValue:
    kv = BlockingKeyValue(MemoryStore())
    kv.close()
    return kv


async def use_closed() -> None:
    kv = MemoryStore()
    await kv.close()
    await kv.get("k")


ASYNC = ["use `async with`", "BlockingKeyValue"]
# Python says it with a TypeError where it has no more to say.
FACADE: list[Mistake] = [
    Mistake("with on a store", lambda: enter(MemoryStore()), AttributeError, ["MemoryStore: ", *ASYNC]),
    Mistake("with on a wrapper", lambda: enter(RetryWrapper(MemoryStore())), AttributeError, ["RetryWrapper: ", *ASYNC]),
    Mistake("async with on a façade", lambda: aenter(BlockingKeyValue(MemoryStore())), AttributeError, ["BlockingKeyValue: use `with`"]),
    Mistake("keys of a store", lambda: NullStore().keys(), AttributeError, ["NullStore has no keys()", "can't list keys", "AsyncEnumerateKeysProtocol"]),  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    *(
        Mistake(f"{name} of a wrapper", lambda name=name: getattr(RetryWrapper(NullStore()), name), AttributeError, [f"RetryWrapper has no {name}()", "it is over NullStore", "Async"])
        for name in sorted(ALL)
    ),
    *(
        Mistake(f"{name} of a façade", lambda name=name: getattr(BlockingKeyValue(NullStore()), name), AttributeError, [f"BlockingKeyValue has no {name}()", "it is over NullStore", "Protocol"], ["Async"])
        for name in sorted(ALL)
    ),
    Mistake("destroy of a read-only wrapper", lambda: ReadOnlyWrapper(MemoryStore()).destroy(), AttributeError, ["ReadOnlyWrapper has no destroy()", "or must not"]),  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    Mistake("destroy over a store without keys", lambda: getattr(PrefixKeysWrapper(drop_capability("keys", MemoryStore()), "p"), "destroy"), AttributeError, ["PrefixKeysWrapper has no destroy()"]),  # noqa: B009 # no type checker knows it
    Mistake("keys over two stores", lambda: getattr(FallbackWrapper(MemoryStore(), NullStore()), "keys"), AttributeError, ["FallbackWrapper has no keys(): it is over NullStore, "]),  # noqa: B009 # likewise
    Mistake("keys over unknown stores", lambda: getattr(RoutingWrapper(lambda _: None, MemoryStore()), "keys"), AttributeError, ["RoutingWrapper has no keys()"]),  # noqa: B009 # likewise
    Mistake("a façade over a class", lambda: BlockingKeyValue(MemoryStore), TypeError, ["takes an AsyncKeyValue", "the class MemoryStore"]),  # type: ignore[arg-type, type-var] # pyright: ignore[reportArgumentType]
    Mistake("a façade over a dict", lambda: BlockingKeyValue({}), TypeError, ["takes an AsyncKeyValue", "not a dict"]),  # type: ignore[arg-type, type-var] # pyright: ignore[reportArgumentType]
    Mistake("a façade over a façade", lambda: BlockingKeyValue(BlockingKeyValue(MemoryStore())), TypeError, ["is synchronous", "give what is beneath"]),  # type: ignore[arg-type, type-var] # pyright: ignore[reportArgumentType]
    Mistake("an unknown backend", lambda: BlockingKeyValue(MemoryStore(), backend="gevent"), ValueError, ['"asyncio" or "trio"']),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a façade that is closed", lambda: closed().get("k"), StoreClosedError, ["BlockingKeyValue is closed", "make a new one"]),
    Mistake("a store that is closed", use_closed, StoreClosedError, ["MemoryStore is closed", "make a new one"]),
    Mistake("a store for a synchronous adapter", lambda: BlockingRaiseOnMissingAdapter(MemoryStore()), TypeError, ["put BlockingKeyValue around MemoryStore"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a façade for an asynchronous adapter", lambda: RaiseOnMissingAdapter(BlockingKeyValue(MemoryStore())), TypeError, ["is synchronous"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a key that must be there", lambda: RaiseOnMissingAdapter(MemoryStore()).get("k", raise_on_missing=True), MissingKeyError, ["not found", "k"]),
]  # fmt: skip


@pytest.mark.parametrize("mistake", FACADE, ids=lambda mistake: mistake.name)
def test_facade(mistake: Mistake) -> None:
    check(mistake)


@pytest.mark.parametrize("make", [MemoryStore, NullStore, lambda: RetryWrapper(NullStore())])
def test_entering_wrongly_and_what_is_missing_can_still_be_asked_for(make: Any) -> None:
    kv = make()
    assert not hasattr(kv, "__enter__")
    assert not hasattr(BlockingKeyValue(kv), "__aenter__")
    assert hasattr(kv, "keys") is (make is MemoryStore)


@forks
def test_a_facade_in_a_forked_child() -> None:
    kv = BlockingKeyValue(MemoryStore())

    def in_child() -> bool:
        check(
            Mistake(
                "a façade in a forked child",
                lambda: kv.get("k"),
                RuntimeError,
                ["made before the process forked", "make a new one, over a new store"],
            )
        )
        return True

    assert returns_true_in_a_fork(in_child)
