"""The seam: mistakes of a store's author are named, and what callers change while it is put."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from keyvalue.errors import KeyValueStoreError, SerializationError, StoreClosedError, StoreConnectionError
from keyvalue.stores.base import Clients, Entry, EnumerableStore, ErrorRule
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.compression import CompressionWrapper


class Wrong(EnumerableStore):
    """A store whose author has made mistakes."""

    runs_inline = True

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        return [None]

    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        pass

    async def _delete(self, collection: str, keys: Sequence[str]) -> Sequence[bool]:
        return await self._use(lambda client: client.delete(keys))

    def _scan(self, collection: str | None) -> Any:
        return []

    async def _cull(self, now: float) -> None:
        pass


async def test_mistakes_of_a_stores_author_are_named() -> None:
    kv = Wrong()
    with pytest.raises(RuntimeError, match=r"Wrong\._get returned 1 entries for 2 keys"):
        await kv.get_many(["k", "l"])
    with pytest.raises(RuntimeError, match=r"Wrong has no client: set self\._clients in __init__"):
        await kv.delete("k")
    for call in (kv.keys, kv.collections, kv.destroy):
        with pytest.raises(TypeError, match=r"Wrong\._scan must be an asynchronous generator"):
            await call()


PUTS: dict[str, Callable[[Any, dict[str, Any]], Awaitable[object]]] = {
    "put": lambda kv, value: kv.put("k", value),
    "put_many": lambda kv, value: kv.put_many(["k", "l"], [value, {}]),
    "compressed": lambda kv, value: CompressionWrapper(kv, max_size=2**30).put("k", value),
}


@pytest.mark.parametrize("put", PUTS)
@pytest.mark.parametrize("kind", [dict, OrderedDict])
async def test_a_large_value_that_is_changed_while_it_is_put_is_not_torn(put: str, kind: type[dict[str, Any]]) -> None:
    # It is encoded in a worker thread; an integer beyond 64 bits takes the slow way, which is many steps.
    value = kind(first=0, large=[2**70] * 80_000, last=0)
    kv = MemoryStore()
    call = asyncio.ensure_future(PUTS[put](kv, value))
    for change in range(1, 4):
        await asyncio.sleep(0.03)
        value.update(first=change, last=change)
    await call
    found = await CompressionWrapper(kv, max_size=2**30).get("k")
    assert found is not None
    assert found["first"] == found["last"]
    assert kind is OrderedDict or found["first"] == 0  # a dict is copied at once


@pytest.mark.parametrize("put", PUTS)
async def test_the_error_for_a_large_value_does_not_hold_it(put: str) -> None:
    with pytest.raises(SerializationError) as caught:
        await PUTS[put](MemoryStore(), {"large": "x" * 2**20, "bad": math.nan})
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


async def test_a_large_value_that_is_changed_all_the_time_is_refused() -> None:
    value = OrderedDict[str, Any](large=[2**70] * 50_000, last=0)
    kv = MemoryStore(seed={"default_collection": {"k": {"v": "old"}}})
    call = asyncio.ensure_future(kv.put("k", value))
    while not call.done():
        value[f"more {value['last']}"] = value["last"] = value["last"] + 1
        await asyncio.sleep(0)
    with pytest.raises(SerializationError, match="changes all the time; give a copy"):
        await call
    assert await kv.get("k") == {"v": "old"}


async def test_closed_is_what_counts_of_a_call_that_fails_as_the_store_is_closed() -> None:
    class Explaining(MemoryStore):
        errors = (ErrorRule(OSError, StoreConnectionError, "lost"),)

        def __init__(self) -> None:
            super().__init__()
            self._clients = Clients("Explaining", create=object, close=lambda client: None)

        async def _get(self, collection: str, keys: Sequence[str]) -> Any:
            return await self._use(lose)

        async def _explain(self, error: KeyValueStoreError, cause: Exception) -> KeyValueStoreError:
            return StoreConnectionError("its certificate is missing")

    def lose(client: object) -> None:
        store._closed = True  # pyright: ignore[reportPrivateUsage] # as `close()` in another task does first
        raise OSError

    store = Explaining()
    with pytest.raises(StoreClosedError):
        await store.get("k")
