"""The base of all wrappers: it forwards everything, and a subclass overrides what it changes.

There are three kinds of hooks:

- what is *changed* on its way in and out: `_inner_collection`, `_inner_key` (with `_outer_collection` and `_outer_key` to restore names
  when listing), `_inner_value`, `_outer_value` and `_inner_ttl`;
- what happens *around* a call: `_around`, for every call on the inner store;
- what is *advertised*: `_capabilities`.

A wrapper calls nothing but the protocol on what it wraps, which may be any `AsyncKeyValue`, and calls in bulk what it was called in bulk
for. Names are checked before they are changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, SupportsFloat, TypeVar

from keyvalue._core import arguments
from keyvalue._core.capabilities import ALL, advertise, capabilities_of, require_async
from keyvalue.protocols.key_value import AsyncKeyValue

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseWrapper", "Operation"]

T = TypeVar("T")


class Operation(NamedTuple):
    """A call on its way to the inner store, as the caller made it.

    Attributes:
        name: The method, such as "get_many".
        collection: The collection that the caller named, or None.
        keys: The keys that it is about; empty for listing, culling and destroying.
    """

    name: str
    collection: str | None = None
    keys: Sequence[str] = ()


class BaseWrapper:
    """An `AsyncKeyValue` around another one.

    It has the optional capabilities of what it wraps, and passes opening and closing on to it. See the module's text for the hooks.

    Args:
        key_value: What to wrap: any `AsyncKeyValue`.

    Attributes:
        key_value: What is wrapped.
        runs_inline: Whether no coroutine of this class ever suspends except through what it wraps and the core. Each class says so for
            itself; it is not inherited.

    Raises:
        TypeError: It is not an `AsyncKeyValue`, or a synchronous one.
    """

    runs_inline: ClassVar[bool] = False

    key_value: AsyncKeyValue

    def __init__(self, key_value: AsyncKeyValue) -> None:
        self.key_value = require_async(key_value, type(self).__name__)
        self._entered: list[object] = []
        advertise(self, self._capabilities(), _MIXINS)

    # The hooks.

    def _wrapped(self) -> Sequence[AsyncKeyValue]:
        """Return all that this wraps; more than one if calls are spread over several."""
        return (self.key_value,)

    def _capabilities(self) -> frozenset[str]:
        """Return the names of the optional methods that this offers: those that all it wraps have and that can be kept to its own part."""
        found = ALL.intersection(*(capabilities_of(inner) for inner in self._wrapped()))
        if self._own_keys and "keys" not in found:
            found -= {"collections", "destroy_collection"}
        if (self._own_keys or self._own_collections) and not found >= {"collections", "destroy_collection"}:
            found -= {"destroy"}
        return found

    @property
    def _own_keys(self) -> bool:
        """Whether only some of the keys of an inner collection are the caller's."""
        return type(self)._outer_key is not BaseWrapper._outer_key

    @property
    def _own_collections(self) -> bool:
        """Whether only some of the inner collections are the caller's."""
        return type(self)._outer_collection is not BaseWrapper._outer_collection

    def _inner_collection(self, collection: str | None) -> str | None:
        """Return the inner store's collection for the caller's."""
        return collection

    def _inner_key(self, key: str, collection: str | None) -> str:
        """Return the inner store's key for the caller's key and collection."""
        return key

    def _outer_collection(self, collection: str) -> str | None:
        """Return the caller's collection for the inner store's, or None if it is none of the caller's."""
        return collection

    def _outer_key(self, key: str, collection: str | None) -> str | None:
        """Return the caller's key for the inner store's key and the caller's collection, or None if it is none of the caller's."""
        return key

    async def _inner_value(self, value: Mapping[str, Any], key: str, collection: str | None) -> Mapping[str, Any]:
        """Return the value to store for the caller's."""
        return value

    async def _outer_value(self, value: dict[str, Any], key: str, collection: str | None) -> dict[str, Any] | None:
        """Return the caller's value for the stored one, or None to call it missing."""
        return value

    def _inner_ttl(self, ttl: SupportsFloat | None) -> SupportsFloat | None:
        """Return the time to live to store for the caller's."""
        return ttl

    async def _around(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call on the inner store."""
        return await call()

    # The protocol.

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        """Return the value of `key`, or None; see `AsyncKeyValue.get`."""
        operation, inner = self._operation("get", collection, (key,))
        inner_key = self._inner_key(key, collection)
        value = await self._around(operation, lambda: self.key_value.get(inner_key, collection=inner))
        return None if value is None else await self._outer_value(value, key, collection)

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        """Return the value of `key` and the seconds that it has left; see `AsyncKeyValue.ttl`."""
        operation, inner = self._operation("ttl", collection, (key,))
        inner_key = self._inner_key(key, collection)
        return await self._outer_pair(
            await self._around(operation, lambda: self.key_value.ttl(inner_key, collection=inner)), key, collection
        )

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        """Store `value` under `key`; see `AsyncKeyValue.put`."""
        operation, inner = self._operation("put", collection, (key,))
        arguments.mapping(value)
        inner_key = self._inner_key(key, collection)
        inner_value = await self._inner_value(value, key, collection)
        inner_ttl = self._inner_ttl(ttl)
        await self._around(operation, lambda: self.key_value.put(inner_key, inner_value, collection=inner, ttl=inner_ttl))

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Delete `key` and return whether it was there; see `AsyncKeyValue.delete`."""
        operation, inner = self._operation("delete", collection, (key,))
        inner_key = self._inner_key(key, collection)
        return await self._around(operation, lambda: self.key_value.delete(inner_key, collection=inner))

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        """Return the values of many keys; see `AsyncKeyValue.get_many`."""
        operation, inner = self._operation("get_many", collection, keys)
        inner_keys = [self._inner_key(key, collection) for key in operation.keys]
        values = await self._around(operation, lambda: self.key_value.get_many(inner_keys, collection=inner))
        return [
            None if value is None else await self._outer_value(value, key, collection)
            for value, key in zip(values, operation.keys, strict=True)
        ]

    async def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        """Return the values of many keys and the seconds that they have left; see `AsyncKeyValue.ttl_many`."""
        operation, inner = self._operation("ttl_many", collection, keys)
        inner_keys = [self._inner_key(key, collection) for key in operation.keys]
        pairs = await self._around(operation, lambda: self.key_value.ttl_many(inner_keys, collection=inner))
        return [await self._outer_pair(pair, key, collection) for pair, key in zip(pairs, operation.keys, strict=True)]

    async def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        """Store many values; see `AsyncKeyValue.put_many`."""
        operation, inner = self._operation("put_many", collection, keys)
        arguments.mappings(values, len(operation.keys))
        inner_keys = [self._inner_key(key, collection) for key in operation.keys]
        inner_values = [await self._inner_value(value, key, collection) for key, value in zip(operation.keys, values, strict=True)]
        inner_ttl = self._inner_ttl(ttl)
        await self._around(operation, lambda: self.key_value.put_many(inner_keys, inner_values, collection=inner, ttl=inner_ttl))

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        """Delete many keys and return how many were there; see `AsyncKeyValue.delete_many`."""
        operation, inner = self._operation("delete_many", collection, keys)
        inner_keys = [self._inner_key(key, collection) for key in operation.keys]
        return await self._around(operation, lambda: self.key_value.delete_many(inner_keys, collection=inner))

    async def setup(self) -> None:
        """Open what is wrapped, as far as it can be opened."""
        for inner in self._wrapped():
            await self._open_one(inner)

    async def close(self) -> None:
        """Close what is wrapped, as far as it can be closed; all of it, even if some of it fails."""
        async with AsyncExitStack() as stack:
            for inner in reversed(self._wrapped()):
                stack.push_async_callback(self._close_one, inner)

    async def aclose(self) -> None:
        """The same as `close`."""
        await self.close()

    async def __aenter__(self) -> Self:
        await self.setup()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def _open_one(self, inner: Any) -> None:
        # The protocol has no lifecycle, so there may be none.
        if hasattr(inner, "setup"):
            await _result(inner.setup())
        elif hasattr(inner, "__aenter__") and not any(entered is inner for entered in self._entered):
            await inner.__aenter__()
            self._entered.append(inner)

    async def _close_one(self, inner: Any) -> None:
        close = getattr(inner, "close", None) or getattr(inner, "aclose", None)
        if close is not None:
            await _result(close())
        elif any(entered is inner for entered in self._entered):
            self._entered = [entered for entered in self._entered if entered is not inner]
            await inner.__aexit__(None, None, None)

    def _operation(self, name: str, collection: str | None, keys: Sequence[str]) -> tuple[Operation, str | None]:
        if collection is not None:
            arguments.name(collection, "collection")
        return Operation(name, collection, arguments.names(keys)), self._inner_collection(collection)

    async def _outer_pair(
        self, pair: tuple[dict[str, Any] | None, float | None], key: str, collection: str | None
    ) -> tuple[dict[str, Any] | None, float | None]:
        value = None if pair[0] is None else await self._outer_value(pair[0], key, collection)
        return (None, None) if value is None else (value, pair[1])

    # The optional methods, as far as they are advertised. `_inner` says that what is wrapped has the method.

    async def _keys(self, collection: str | None, limit: int | None) -> list[str]:
        limit = arguments.limit_of(limit)
        operation, inner = self._operation("keys", collection, ())
        # Where others' keys are listed too, the limit can count only after they are left out.
        listed = await self._around(operation, lambda: self._inner.keys(inner, limit=None if self._own_keys else limit))
        return [key for inner_key in listed if (key := self._outer_key(inner_key, collection)) is not None][:limit]

    async def _collections(self, limit: int | None) -> list[str]:
        limit = arguments.limit_of(limit)
        filtered = self._own_keys or self._own_collections
        listed = await self._around(Operation("collections"), lambda: self._inner.collections(limit=None if filtered else limit))
        names = [name for inner_name in listed if (name := self._outer_collection(inner_name)) is not None]
        if self._own_keys:
            names = [name for name in names if await self._keys(name, 1)]
        return names[:limit]

    async def _destroy(self) -> bool:
        if self._own_keys or self._own_collections:
            for name in await self._collections(None):
                await self._destroy_collection(name)
            return True
        return await self._around(Operation("destroy"), lambda: self._inner.destroy())

    async def _destroy_collection(self, collection: str) -> bool:
        operation, inner = self._operation("destroy_collection", arguments.name(collection, "collection"), ())
        if self._own_keys:
            return await self.delete_many(await self._keys(collection, None), collection=collection) > 0
        return await self._around(operation, lambda: self._inner.destroy_collection(inner))

    async def _cull(self) -> None:
        await self._around(Operation("cull"), lambda: self._inner.cull())

    @property
    def _inner(self) -> Any:
        return self.key_value


async def _result(returned: Any) -> None:
    if inspect.isawaitable(returned):
        await returned


class _Keys:
    async def keys(self: Any, collection: str | None = None, *, limit: int | None = None) -> list[str]:
        """List the keys of a collection; see `AsyncEnumerateKeysProtocol`."""
        return await self._keys(collection, limit)


class _Collections:
    async def collections(self: Any, *, limit: int | None = None) -> list[str]:
        """List the collections that hold an entry; see `AsyncEnumerateCollectionsProtocol`."""
        return await self._collections(limit)


class _Destroy:
    async def destroy(self: Any) -> bool:
        """Remove every entry; see `AsyncDestroyStoreProtocol`."""
        return await self._destroy()


class _DestroyCollection:
    async def destroy_collection(self: Any, collection: str) -> bool:
        """Remove every entry of a collection; see `AsyncDestroyCollectionProtocol`."""
        return await self._destroy_collection(collection)


class _Cull:
    async def cull(self: Any) -> None:
        """Remove the entries that have expired; see `AsyncCullProtocol`."""
        await self._cull()


_MIXINS = {"keys": _Keys, "collections": _Collections, "destroy": _Destroy, "destroy_collection": _DestroyCollection, "cull": _Cull}
