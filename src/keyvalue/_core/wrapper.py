"""The base of all wrappers: it forwards everything, and a subclass overrides what it changes.

There are three kinds of hooks:

- what is *changed* on its way in and out: `_inner_collection`, `_inner_key` (with `_outer_collection` and `_outer_key` to restore names
  when listing), `_inner_value`, `_outer_value` and `_inner_ttl`;
- what happens *around* a call: `_around`, for every call on the inner store;
- what is *advertised*: `_capabilities`.

Opening and closing pass through `setup` and `close`, which a subclass overrides where what is true of calls is true of them too.

A wrapper calls nothing but the protocol on what it wraps, which may be any `AsyncKeyValue`, and calls in bulk what it was called in bulk
for. Names are checked before they are changed.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, SupportsFloat, TypeVar

from keyvalue._core import arguments, codec
from keyvalue._core.capabilities import ALL, advertise, capabilities_of, require_async
from keyvalue._core.misuse import Explaining, Misused, show_signatures
from keyvalue.errors import SerializationError, StoreConnectionError
from keyvalue.protocols.key_value import AsyncKeyValue

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["UNREACHABLE", "BaseWrapper", "Operation", "Pair", "Place", "alike", "beneath", "is_only_entered"]

T = TypeVar("T")
Pair = tuple["dict[str, Any] | None", "float | None"]
"""A value and the seconds that it has left, as `ttl` returns them."""
Place = tuple["str | None", "str | None"]
"""A collection and a key; without a key the whole collection, without both everything."""

UNREACHABLE: tuple[type[Exception], ...] = (StoreConnectionError, ConnectionError, TimeoutError)
"""What says that a backend could not be reached, so that the same call may succeed later or elsewhere."""

_READS = frozenset({"get", "get_many", "ttl", "ttl_many"})
_WRITES = frozenset({"put", "put_many", "delete", "delete_many", "destroy", "destroy_collection"})


class Operation(NamedTuple):
    """A call on its way to the inner store, as the caller made it.

    Attributes:
        name: The method, such as "get_many".
        collection: The collection that the caller named, or None.
        keys: The keys that it is about; empty for listing, culling and destroying.
        values: What is put, aligned with the keys; empty for all else.
        ttl: The time to live of what is put.
    """

    name: str
    collection: str | None = None
    keys: Sequence[str] = ()
    values: Sequence[Mapping[str, Any]] = ()
    ttl: SupportsFloat | None = None

    @property
    def is_read(self) -> bool:
        """Whether it returns values: get, ttl, get_many or ttl_many."""
        return self.name in _READS

    @property
    def is_write(self) -> bool:
        """Whether it changes entries that the caller names or means: not so for listing and culling."""
        return self.name in _WRITES

    def places(self, default_collection: str) -> list[Place]:
        """Return what it reads or writes, each once; the default collection by its name."""
        if self.name == "destroy":
            return [(None, None)]
        collection = default_collection if self.collection is None else self.collection
        if self.name == "destroy_collection":
            return [(collection, None)]
        return [(collection, key) for key in dict.fromkeys(self.keys)]


def alike(errors: type[Exception] | tuple[type[Exception], ...], parameter: str) -> tuple[type[Exception], ...]:
    """Return error types as a tuple, in which `TimeoutError` means asyncio's too, which is another class before Python 3.11.

    Raises:
        TypeError: They are something else. `except` would tell only when an error comes, and hide that error.
    """
    types = errors if isinstance(errors, tuple) else (errors,)
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            what = arguments.article(kind)
            raise TypeError(
                f"{parameter} must be an exception class or a tuple of them, such as (ConnectionError, TimeoutError), not {what}"
            )
    return (*types, asyncio.TimeoutError) if TimeoutError in types else types


_UNSET: Any = object()


class BaseWrapper(Explaining):
    """An `AsyncKeyValue` around another one.

    It has the optional capabilities of what it wraps, and passes opening and closing on to it. "Write your own
    wrapper" in the documentation has the hooks.

    Args:
        key_value: What to wrap: any `AsyncKeyValue`. A subclass may set `self.key_value` instead, before or after this, or without it.

    Attributes:
        key_value: What is wrapped. Setting it decides which optional methods there are.
        runs_inline: Whether no coroutine of this class ever suspends except through what it wraps and the core. Each class says so for
            itself; it is not inherited.

    Raises:
        TypeError: It is not an `AsyncKeyValue`, or a synchronous one.
    """

    runs_inline: ClassVar[bool] = False

    key_value: AsyncKeyValue

    # What is not overridden need not be awaited, which every call notices.
    _is_direct: ClassVar[bool] = True
    _keeps_values: ClassVar[bool] = True
    _puts_as_given: ClassVar[bool] = True
    _keeps_keys: ClassVar[bool] = True
    _keeps_collections: ClassVar[bool] = True
    _entered: Sequence[object] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._is_direct = cls._around is BaseWrapper._around
        cls._keeps_values = cls._outer_value is BaseWrapper._outer_value
        cls._puts_as_given = cls._inner_value is BaseWrapper._inner_value
        cls._keeps_keys = cls._inner_key is BaseWrapper._inner_key
        cls._keeps_collections = cls._inner_collection is BaseWrapper._inner_collection

    def __init__(self, key_value: AsyncKeyValue = _UNSET) -> None:
        if key_value is not _UNSET:
            self.key_value = key_value
        elif type(self).__init__ is BaseWrapper.__init__:
            raise TypeError(f"{type(self).__name__} takes key_value, the store or wrapper to wrap")

    if not TYPE_CHECKING:  # or type checkers would let any attribute be set

        def __setattr__(self, name: str, value: Any) -> None:
            # Wrappers written for py-key-value-aio set it themselves, and may not call __init__.
            if name != "key_value":
                object.__setattr__(self, name, value)
                return
            object.__setattr__(self, name, require_async(value, type(self).__name__))
            advertise(self, self._capabilities(), _MIXINS)

        key_value = Misused("its __init__ must call super().__init__(key_value), or set self.key_value")
        __enter__ = Misused("use `async with`; in synchronous code, `with BlockingKeyValue(…)` around it (keyvalue.blocking)")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._wrapped()))})"

    def _beneath(self) -> Sequence[object]:
        return self._wrapped()

    # The hooks.

    def _wrapped(self) -> Sequence[AsyncKeyValue]:
        """Return all that this wraps; more than one if calls are spread over several."""
        inner = getattr(self, "key_value", None)
        return () if inner is None else (inner,)

    def _knows_all(self) -> bool:
        """Return whether it calls nothing but what `_wrapped` returns."""
        return True

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

    async def _around(self, operation: Operation, call: Callable[[Any], Awaitable[T]]) -> T:
        """Make a call on what is wrapped.

        Args:
            operation: What the caller called.
            call: Makes the call on the store that it is given, with names, values and TTL already changed.
        """
        return await call(self.key_value)

    # The protocol.

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        """Return the value of `key`, or None; see `AsyncKeyValue.get`."""
        inner_key, inner = self._inner_names(key, collection)
        if self._is_direct:  # the most frequent call of all, without even a function made
            value = await self.key_value.get(inner_key, collection=inner)
        else:
            value = await self._made("get", lambda store: store.get(inner_key, collection=inner), collection, (key,))
        return value if value is None or self._keeps_values else await self._outer_value(value, key, collection)

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        """Return the value of `key` and the seconds that it has left; see `AsyncKeyValue.ttl`."""
        inner_key, inner = self._inner_names(key, collection)
        pair = await self._made("ttl", lambda store: store.ttl(inner_key, collection=inner), collection, (key,))
        return pair if self._keeps_values else await self._outer_pair(pair, key, collection)

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        """Store `value` under `key`; see `AsyncKeyValue.put`."""
        arguments.mapping(value)
        inner_key, inner = self._inner_names(key, collection)
        inner_value = await self._inner_value(value, key, collection)
        inner_ttl = self._inner_ttl(ttl)
        await self._made(
            "put", lambda store: store.put(inner_key, inner_value, collection=inner, ttl=inner_ttl), collection, (key,), (value,), ttl
        )

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Delete `key` and return whether it was there; see `AsyncKeyValue.delete`."""
        inner_key, inner = self._inner_names(key, collection)
        return await self._made("delete", lambda store: store.delete(inner_key, collection=inner), collection, (key,))

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        """Return the values of many keys; see `AsyncKeyValue.get_many`."""
        keys, inner_keys, inner = self._many_inner_names(keys, collection)
        values = await self._made("get_many", lambda store: store.get_many(inner_keys, collection=inner), collection, keys)
        if self._keeps_values:
            return values
        return [None if value is None else await self._outer_value(value, key, collection) for value, key in zip(values, keys, strict=True)]

    async def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        """Return the values of many keys and the seconds that they have left; see `AsyncKeyValue.ttl_many`."""
        keys, inner_keys, inner = self._many_inner_names(keys, collection)
        pairs = await self._made("ttl_many", lambda store: store.ttl_many(inner_keys, collection=inner), collection, keys)
        return pairs if self._keeps_values else [await self._outer_pair(*one, collection) for one in zip(pairs, keys, strict=True)]

    async def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        """Store many values; see `AsyncKeyValue.put_many`."""
        keys, inner_keys, inner = self._many_inner_names(keys, collection)
        arguments.mappings(values, len(keys))
        inner_values = values if self._puts_as_given else await self._inner_values(keys, values, collection)
        inner_ttl = self._inner_ttl(ttl)
        await self._made(
            "put_many",
            lambda store: store.put_many(inner_keys, inner_values, collection=inner, ttl=inner_ttl),
            collection,
            keys,
            values,
            ttl,
        )

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        """Delete many keys and return how many were there; see `AsyncKeyValue.delete_many`."""
        keys, inner_keys, inner = self._many_inner_names(keys, collection)
        return await self._made("delete_many", lambda store: store.delete_many(inner_keys, collection=inner), collection, keys)

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
        try:
            await self.setup()
        except BaseException:
            with suppress(Exception):  # why it can't be opened says more
                await self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def _open_one(self, inner: Any) -> None:
        # The protocol has no lifecycle, so there may be none.
        if hasattr(inner, "setup"):
            await _result(inner.setup())
        elif hasattr(inner, "__aenter__") and not any(entered is inner for entered in self._entered):
            await inner.__aenter__()
            self._entered = (*self._entered, inner)

    async def _close_one(self, inner: Any) -> None:
        close = getattr(inner, "close", None) or getattr(inner, "aclose", None)
        if close is not None:
            await _result(close())
        elif any(entered is inner for entered in self._entered):
            self._entered = tuple(entered for entered in self._entered if entered is not inner)
            await inner.__aexit__(None, None, None)

    def _inner_names(self, key: str, collection: str | None) -> tuple[str, str | None]:
        """Check a key and a collection, and return the inner store's."""
        arguments.name(key, "key")
        inner = None if collection is None and self._keeps_collections else self._named(collection)
        return key if self._keeps_keys else self._inner_key(key, collection), inner

    def _many_inner_names(self, keys: Sequence[str], collection: str | None) -> tuple[list[str], list[str], str | None]:
        """Do the same for many keys, and return them too, as a list."""
        checked = arguments.names(keys)
        inner = self._named(collection)
        return checked, [self._inner_key(key, collection) for key in checked], inner

    def _named(self, collection: str | None) -> str | None:
        if collection is not None:
            arguments.name(collection, "collection")
        return collection if self._keeps_collections else self._inner_collection(collection)

    async def _inner_values(
        self, keys: Sequence[str], values: Sequence[Mapping[str, Any]], collection: str | None
    ) -> list[Mapping[str, Any]]:
        inner: list[Mapping[str, Any]] = []
        for index, (key, value) in enumerate(zip(keys, values, strict=True)):
            try:
                inner.append(await self._inner_value(value, key, collection))
                continue
            except SerializationError as error:
                problem = error
            raise codec.item_error(index, value, problem)
        return inner

    def _made(
        self,
        name: str,
        call: Callable[[Any], Awaitable[T]],
        collection: str | None = None,
        keys: Sequence[str] = (),
        values: Sequence[Mapping[str, Any]] = (),
        ttl: SupportsFloat | None = None,
    ) -> Awaitable[T]:
        """Make a call, with `_around` around it."""
        return call(self.key_value) if self._is_direct else self._around(Operation(name, collection, keys, values, ttl), call)

    async def _outer_pair(
        self, pair: tuple[dict[str, Any] | None, float | None], key: str, collection: str | None
    ) -> tuple[dict[str, Any] | None, float | None]:
        value = None if pair[0] is None else await self._outer_value(pair[0], key, collection)
        return (None, None) if value is None else (value, pair[1])

    # The optional methods, as far as they are advertised.

    async def _keys(self, collection: str | None, limit: int | None) -> list[str]:
        limit = arguments.limit_of(limit)
        inner = self._named(collection)
        # Where others' keys are listed too, the limit can count only after they are left out.
        listed = await self._made("keys", lambda store: store.keys(inner, limit=None if self._own_keys else limit), collection)
        return [key for inner_key in listed if (key := self._outer_key(inner_key, collection)) is not None][:limit]

    async def _collections(self, limit: int | None) -> list[str]:
        limit = arguments.limit_of(limit)
        filtered = self._own_keys or self._own_collections
        listed = await self._made("collections", lambda store: store.collections(limit=None if filtered else limit))
        names = [name for inner_name in listed if (name := self._outer_collection(inner_name)) is not None]
        if not self._own_keys:
            return names[:limit]
        found: list[str] = []
        for name in names:
            if len(found) == limit:
                break
            if await self._keys(name, 1):
                found.append(name)
        return found

    async def _destroy(self) -> bool:
        if self._own_keys or self._own_collections:
            for name in await self._collections(None):
                await self._destroy_collection(name)
            return True
        return await self._made("destroy", lambda store: store.destroy())

    async def _destroy_collection(self, collection: str) -> bool:
        inner = self._named(arguments.name(collection, "collection"))
        if self._own_keys:
            return await self.delete_many(await self._keys(collection, None), collection=collection) > 0
        return await self._made("destroy_collection", lambda store: store.destroy_collection(inner), collection)

    async def _cull(self) -> None:
        await self._made("cull", lambda store: store.cull())


def beneath(key_value: object) -> object:
    """Return the first object, from the top of a stack, that may change names, or is not a wrapper of just one."""
    while isinstance(key_value, BaseWrapper):
        wrapped = key_value._wrapped()  # pyright: ignore[reportPrivateUsage] # of its own class
        keeps = key_value._keeps_keys and key_value._keeps_collections  # pyright: ignore[reportPrivateUsage] # likewise
        if not keeps or len(wrapped) != 1 or not _is_of_package(type(key_value)):
            break
        (key_value,) = wrapped
    return key_value


def _is_of_package(kind: type[Any]) -> bool:
    """Return whether no class but those of this package has a part in what a wrapper does; others may do all in `get` and `put`."""
    return all(base.__module__.partition(".")[0] in ("keyvalue", "builtins", "abc", "typing") for base in kind.__mro__)


def is_only_entered(key_value: object) -> bool:
    """Return whether opening an object enters a context, which then belongs to the task and its cancel scope until it is left."""
    if isinstance(key_value, BaseWrapper):
        return any(map(is_only_entered, key_value._wrapped()))  # pyright: ignore[reportPrivateUsage] # of its own class
    return hasattr(key_value, "__aenter__") and not hasattr(key_value, "setup")


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
for _kind in (BaseWrapper, *_MIXINS.values()):
    show_signatures(_kind)
