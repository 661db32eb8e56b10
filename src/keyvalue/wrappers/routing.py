"""Wrappers that choose a store by collection."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from keyvalue._core import arguments, constructor, wording
from keyvalue._core.capabilities import require_async
from keyvalue._core.operation import Operation
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["CollectionRoutingWrapper", "RoutingFunction", "RoutingWrapper"]

T = TypeVar("T")
RoutingFunction = Callable[["str | None"], "AsyncKeyValue | None"]
"""Returns the store of a collection (None is the default collection), or None for the default store."""


class RoutingWrapper(BaseWrapper):
    """Sends each call to the store that a function chooses for its collection.

    The default collection and `"default_collection"` are one: if the function knows only one of the two, its choice is that of both.

    Listing, destroying, culling, opening and closing concern all stores, so they are offered only if `stores` names those that the function
    may return. Each store is listed and destroyed only in the collections that are routed to it. Synchronous code, too, runs in the calling
    thread only if they are named: what is not known may need an event loop.

    Place: anywhere; names that were changed above are what the function sees.

    Args:
        routing_function: Chooses the store. It must always choose the same for a collection, and not block.
        default_store: The store of all other collections.
        stores: All stores that the function may return. Default None: not known.

    Raises:
        TypeError: The function is not callable, or async; one of the stores is not an `AsyncKeyValue`; or the function
            returned something else.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(
        self, routing_function: RoutingFunction, default_store: AsyncKeyValue, *, stores: Sequence[AsyncKeyValue] | None = None
    ) -> None:
        if not callable(routing_function) or inspect.iscoroutinefunction(routing_function):
            what = "an async one" if callable(routing_function) else wording.describe(routing_function)
            raise TypeError(f"routing_function must be a function of a collection that returns a store or None, not {what}")
        self._route = routing_function
        self._default_store = default_store
        self._stores: list[AsyncKeyValue] = [default_store]
        for store in stores or ():
            if not any(store is other for other in self._stores):
                self._stores.append(require_async(store, type(self).__name__, "stores"))
        self._stores_are_known = stores is not None
        super().__init__(default_store)

    def _wrapped(self) -> Sequence[AsyncKeyValue]:
        return self._stores

    def _knows_all(self) -> bool:
        return self._stores_are_known

    def _capabilities(self) -> frozenset[str]:
        found = super()._capabilities() if self._stores_are_known else frozenset[str]()
        return found if found >= {"collections", "destroy_collection"} else found - {"destroy"}

    def _choose_store(self, collection: str | None) -> AsyncKeyValue:
        store = self._route(collection)
        if store is None and collection in (None, DEFAULT_COLLECTION):
            store = self._route(DEFAULT_COLLECTION if collection is None else None)
        if store is None:
            return self._default_store
        if any(store is known for known in self._stores):
            return store
        return require_async(store, type(self).__name__, "what routing_function returns")

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[T]]) -> T:
        return await call(self._choose_store(operation.collection))

    async def _collections(self, limit: int | None) -> list[str]:
        limit = arguments.check_limit(limit)
        found: list[str] = []
        for store in self._stores:
            listed: list[str] = await _of(store).collections()
            found += [name for name in listed if self._choose_store(name) is store]
        return found[:limit]

    async def _destroy(self) -> bool:
        for name in await self._collections(None):
            await _of(self._choose_store(name)).destroy_collection(name)
        return True

    async def _cull(self) -> None:
        for store in self._stores:
            await _of(store).cull()


class CollectionRoutingWrapper(RoutingWrapper):
    """Sends each call to the store that a mapping names for its collection; see `RoutingWrapper`.

    Place: see there.

    Args:
        collection_map: The stores by collection. `"default_collection"` is also that of calls that name none.
        default_store: The store of all other collections.

    Raises:
        TypeError: One of the stores is no `AsyncKeyValue`.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(self, collection_map: Mapping[str, AsyncKeyValue], default_store: AsyncKeyValue) -> None:
        self._collection_map = MappingProxyType(dict(collection_map))
        super().__init__(
            lambda collection: None if collection is None else self._collection_map.get(collection),
            default_store,
            stores=list(self._collection_map.values()),
        )


def _of(store: AsyncKeyValue) -> Any:
    return store
