"""The base of all wrappers: it forwards everything, and a subclass overrides a hook for what it changes.

There are three kinds of hooks:

- hooks that *encode* names, values and the TTL on their way in, and *decode* values and listed names on their way out: `_encode_key`,
  `_decode_key`, `_encode_collection`, `_decode_collection`, `_encode_value`, `_decode_value`, `_encode_ttl`;
- a hook that *intercepts* every call on the inner store: `_intercept`;
- a hook that chooses the optional methods: `_capabilities`.

Opening and closing pass through `setup` and `close`; override these too if they need the same treatment as calls.

A wrapper calls only the protocol on the inner store, which may be any `AsyncKeyValue`, and passes a bulk call on as a bulk call. Names are
checked before they are changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, SupportsFloat, TypeVar

from keyvalue._core import arguments
from keyvalue._core.capabilities import ALL, add_capability_mixins, capabilities_of, create_with_mixins, require_async, split_by_capability
from keyvalue._core.documented import AsyncMethods
from keyvalue._core.envelope import encode_item
from keyvalue._core.misuse import Explaining, Misused, show_signatures
from keyvalue._core.operation import Operation
from keyvalue.protocols.key_value import (
    AsyncKeyValue,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseWrapper", "Pair", "beneath", "is_only_entered"]

T = TypeVar("T")
Pair = tuple["dict[str, Any] | None", "float | None"]
"""A value and the seconds that it has left, as `ttl` returns them."""

_UNSET: Any = object()
_HOOKS = ("_intercept", "_encode_ttl", *(f"_{way}_{what}" for way in ("encode", "decode") for what in ("key", "collection", "value")))


class BaseWrapper(Explaining, AsyncMethods):
    """An `AsyncKeyValue` around another one.

    It has the optional methods of the inner store, and opens and closes it. "Write your own wrapper" in the documentation has the hooks.

    Args:
        key_value: The inner store: any `AsyncKeyValue`. A subclass may set `self.key_value` instead, with or without calling this.

    Attributes:
        key_value: The inner store. Setting it decides which optional methods the wrapper has.
        runs_inline: True if no coroutine of this class suspends, except through the inner store and the core. Each class declares it for
            itself; it is not inherited.

    Raises:
        TypeError: `key_value` is not an `AsyncKeyValue`, or is synchronous.
    """

    runs_inline: ClassVar[bool] = False

    key_value: AsyncKeyValue

    # Decided once per class: a call does not pay for hooks that the class does not override.
    _has_intercept = _has_encode_value = _has_decode_value = _has_encode_ttl = False
    _has_encode_key = _has_decode_key = _has_encode_collection = _has_decode_collection = False
    _renames = False
    _lists_only_own = False  # whether the inner store may hold entries outside the caller's namespace
    _entered: Sequence[object] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _HOOKS:
            own, base = getattr(cls, name), getattr(BaseWrapper, name)
            setattr(cls, f"_has{name}", own is not base)
            if inspect.iscoroutinefunction(own) and not inspect.iscoroutinefunction(base):
                raise TypeError(f"{cls.__name__}.{name} is not awaited; write it with `def` rather than `async def`")
        cls._renames = cls._has_encode_key or cls._has_encode_collection
        cls._lists_only_own = cls._has_decode_key or cls._has_decode_collection

    def __init__(self, key_value: AsyncKeyValue = _UNSET) -> None:
        if key_value is not _UNSET:
            self.key_value = key_value
        elif type(self).__init__ is BaseWrapper.__init__:
            raise TypeError(f"{type(self).__name__} takes key_value, the store or wrapper to wrap")

    if not TYPE_CHECKING:  # or type checkers would let any argument be given and any attribute be set

        def __new__(cls, *args: Any, **kwargs: Any) -> Self:
            # Setting key_value decides on the optional methods, and so on the class. CPython looks up attributes more slowly once the class
            # of an object has changed, so the object is created with what the stores among its arguments have. That is a guess: it is
            # left out for an __init__ that is not from here, which may never set key_value.
            stores = [argument for argument in (*args, *kwargs.values()) if isinstance(argument, AsyncKeyValue)]
            if not stores or not cls.__init__.__module__.startswith("keyvalue."):
                return object.__new__(cls)
            return create_with_mixins(cls, ALL.intersection(*map(capabilities_of, stores)), _MIXINS)

        def __setattr__(self, name: str, value: Any) -> None:
            # Wrappers written for py-key-value-aio set it themselves, and may not call __init__.
            if name != "key_value":
                object.__setattr__(self, name, value)
                return
            object.__setattr__(self, name, require_async(value, type(self).__name__))
            add_capability_mixins(self, self._capabilities(), _MIXINS)

        key_value = Misused("its __init__ must call super().__init__(key_value), or set self.key_value")
        __enter__ = Misused("use `async with`; in synchronous code, `with BlockingKeyValue(…)` around it (keyvalue.blocking)")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._wrapped()))})"

    def _beneath(self) -> Sequence[object]:
        return self._wrapped()

    # The hooks.

    def _wrapped(self) -> Sequence[AsyncKeyValue]:
        """Return the inner stores; several if calls are spread over them."""
        inner = getattr(self, "key_value", None)
        return () if inner is None else (inner,)

    def _knows_all(self) -> bool:
        """Return whether it calls no store besides those that `_wrapped` returns."""
        return True

    def _capabilities(self) -> frozenset[str]:
        """Return the names of its optional methods: those of all inner stores, unless they would reach outside the caller's namespace."""
        found = ALL.intersection(*(capabilities_of(inner) for inner in self._wrapped()))
        if self._has_decode_key and "keys" not in found:
            found -= {"collections", "destroy_collection"}
        if self._lists_only_own and not found >= {"collections", "destroy_collection"}:
            found -= {"destroy"}
        return found

    def _encode_collection(self, collection: str | None) -> str | None:
        """Return the inner store's collection for the caller's."""
        return collection

    def _encode_key(self, key: str, collection: str | None) -> str:
        """Return the inner store's key for the caller's key and collection."""
        return key

    def _decode_collection(self, collection: str) -> str | None:
        """Return the caller's collection for the inner store's, or None for one outside the caller's namespace."""
        return collection

    def _decode_key(self, key: str, collection: str | None) -> str | None:
        """Return the caller's key for the inner store's key and the caller's collection, or None for one outside the caller's namespace."""
        return key

    async def _encode_value(self, value: Mapping[str, Any], key: str, collection: str | None) -> Mapping[str, Any]:
        """Return the value to store for the caller's."""
        return value

    async def _decode_value(self, value: dict[str, Any], key: str, collection: str | None) -> dict[str, Any] | None:
        """Return the caller's value for the stored one, or None to treat the entry as missing."""
        return value

    def _encode_ttl(self, ttl: SupportsFloat | None) -> SupportsFloat | None:
        """Return the time to live to store for the caller's."""
        return ttl

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[T]]) -> T:
        """Make a call on the inner store.

        Args:
            operation: The call as the caller made it.
            call: Makes the call on the store that you pass, with names, values and TTL already encoded.
        """
        return await call(self.key_value)

    # The protocol.

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        inner_key, inner = self._encode_names(key, collection)
        if self._has_intercept:  # as `_call` does, but quicker, also by the defaults of the lambda: it is the most frequent call of all
            operation = Operation("get", collection, (key,))
            value = await self._intercept(operation, lambda store, key=inner_key, inner=inner: store.get(key, collection=inner))
        else:
            value = await self.key_value.get(inner_key, collection=inner)
        return await self._decode_value(value, key, collection) if value is not None and self._has_decode_value else value

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        inner_key, inner = self._encode_names(key, collection)
        pair = await self._call(lambda store: store.ttl(inner_key, collection=inner), "ttl", collection, (key,))
        return await self._decode_pair(pair, key, collection)

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        arguments.check_mapping(value)
        inner_key, inner = self._encode_names(key, collection)
        inner_value = await self._encode_value(value, key, collection) if self._has_encode_value else value
        inner_ttl = self._encode_ttl(ttl) if self._has_encode_ttl else ttl

        def call(store: Any) -> Awaitable[None]:
            return store.put(inner_key, inner_value, collection=inner, ttl=inner_ttl)

        await self._call(call, "put", collection, (key,), (value,), ttl)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        inner_key, inner = self._encode_names(key, collection)
        return await self._call(lambda store: store.delete(inner_key, collection=inner), "delete", collection, (key,))

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        keys, inner_keys, inner = self._encode_many_names(keys, collection)
        values = await self._call(lambda store: store.get_many(inner_keys, collection=inner), "get_many", collection, keys)
        if not self._has_decode_value:
            return values
        found = zip(values, keys, strict=True)
        return [None if value is None else await self._decode_value(value, key, collection) for value, key in found]

    async def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        keys, inner_keys, inner = self._encode_many_names(keys, collection)
        pairs = await self._call(lambda store: store.ttl_many(inner_keys, collection=inner), "ttl_many", collection, keys)
        return [await self._decode_pair(pair, key, collection) for pair, key in zip(pairs, keys, strict=True)]

    async def put_many(
        self, keys: Sequence[str], values: Sequence[Mapping[str, Any]], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        keys, inner_keys, inner = self._encode_many_names(keys, collection)
        arguments.check_mappings(values, len(keys))
        inner_values = values
        if self._has_encode_value:
            pairs = enumerate(zip(values, keys, strict=True))
            inner_values = [await encode_item(index, value, self._encode_value(value, key, collection)) for index, (value, key) in pairs]
        inner_ttl = self._encode_ttl(ttl) if self._has_encode_ttl else ttl

        def call(store: Any) -> Awaitable[None]:
            return store.put_many(inner_keys, inner_values, collection=inner, ttl=inner_ttl)

        await self._call(call, "put_many", collection, keys, values, ttl)

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        keys, inner_keys, inner = self._encode_many_names(keys, collection)
        return await self._call(lambda store: store.delete_many(inner_keys, collection=inner), "delete_many", collection, keys)

    async def setup(self) -> None:
        """Open the inner store, if it can be opened.

        Raises:
            StoreSetupError: It can't be opened. The next call tries again.
            StoreClosedError: It is closed.
        """
        for inner in self._wrapped():
            await self._open_one(inner)

    async def close(self) -> None:
        """Close the inner store, if it can be closed. Of several, all are closed even if closing one fails."""
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
            with suppress(Exception):  # the error of opening says more
                await self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def _open_one(self, inner: Any) -> None:
        # The protocol has no lifecycle: the store may lack these methods.
        if hasattr(inner, "setup"):
            await _await_if_needed(inner.setup())
        elif hasattr(inner, "__aenter__") and not any(entered is inner for entered in self._entered):
            await inner.__aenter__()
            self._entered = (*self._entered, inner)

    async def _close_one(self, inner: Any) -> None:
        close = getattr(inner, "close", None) or getattr(inner, "aclose", None)
        if close is not None:
            await _await_if_needed(close())
        elif any(entered is inner for entered in self._entered):
            self._entered = tuple(entered for entered in self._entered if entered is not inner)
            await inner.__aexit__(None, None, None)

    def _encode_names(self, key: str, collection: str | None) -> tuple[str, str | None]:
        """Check a key and a collection, and return the inner store's."""
        arguments.check_name(key, "key")
        if collection is not None:
            arguments.check_name(collection, "collection")
        return (self._encode_key(key, collection), self._encode_collection(collection)) if self._renames else (key, collection)

    def _encode_many_names(self, keys: Sequence[str], collection: str | None) -> tuple[list[str], list[str], str | None]:
        """Do the same for many keys, and return them too, as a list."""
        checked = arguments.check_names(keys)
        inner = self._encode_checked(collection)
        return checked, [self._encode_key(key, collection) for key in checked], inner

    def _encode_checked(self, collection: str | None) -> str | None:
        return self._encode_collection(None if collection is None else arguments.check_name(collection, "collection"))

    def _call(self, call: Callable[[Any], Awaitable[T]], *operation: Any) -> Awaitable[T]:
        """Make a call, with `_intercept` around it if the class has one; `operation` is what an `Operation` is made of."""
        return self._intercept(Operation(*operation), call) if self._has_intercept else call(self.key_value)

    async def _decode_pair(self, pair: Pair, key: str, collection: str | None) -> Pair:
        value, left = pair
        if value is not None and self._has_decode_value:
            value = await self._decode_value(value, key, collection)
        return (None, None) if value is None else (value, left)

    # The optional methods, for those in `_capabilities`.

    async def _keys(self, collection: str | None, limit: int | None) -> list[str]:
        limit = arguments.check_limit(limit)
        inner = self._encode_checked(collection)
        # If the inner listing has keys of others too, the limit applies after they are removed.
        inner_limit = None if self._has_decode_key else limit
        listed = await self._call(lambda store: store.keys(inner, limit=inner_limit), "keys", collection)
        return [key for inner_key in listed if (key := self._decode_key(inner_key, collection)) is not None][:limit]

    async def _collections(self, limit: int | None) -> list[str]:
        limit = arguments.check_limit(limit)
        inner_limit = None if self._lists_only_own else limit
        listed = await self._call(lambda store: store.collections(limit=inner_limit), "collections")
        names = [name for inner_name in listed if (name := self._decode_collection(inner_name)) is not None]
        found: list[str] = []
        for name in names:
            if len(found) == limit:
                break
            if not self._has_decode_key or await self._keys(name, 1):  # hide collections without a key of the caller's
                found.append(name)
        return found

    async def _destroy(self) -> bool:
        if not self._lists_only_own:
            return await self._call(lambda store: store.destroy(), "destroy")
        for name in await self._collections(None):
            await self._destroy_collection(name)
        return True

    async def _destroy_collection(self, collection: str) -> bool:
        inner = self._encode_checked(arguments.check_name(collection, "collection"))
        if self._has_decode_key:
            return await self.delete_many(await self._keys(collection, None), collection=collection) > 0
        return await self._call(lambda store: store.destroy_collection(inner), "destroy_collection", collection)

    async def _cull(self) -> None:
        await self._call(lambda store: store.cull(), "cull")


def beneath(key_value: object) -> object:
    """Return the first object, from the top of a stack, that may change names, or is not a wrapper of just one."""
    while isinstance(key_value, BaseWrapper):
        wrapped = key_value._wrapped()  # pyright: ignore[reportPrivateUsage] # of its own class
        renames = key_value._renames  # pyright: ignore[reportPrivateUsage] # as above
        if renames or len(wrapped) != 1 or not _is_of_package(type(key_value)):
            break
        (key_value,) = wrapped
    return key_value


def _is_of_package(kind: type[Any]) -> bool:
    """Return whether no class but those of this package has a part in what a wrapper does; others may do all in `get` and `put`."""
    return all(base.__module__.partition(".")[0] in ("keyvalue", "builtins", "abc", "typing") for base in kind.__mro__)


def is_only_entered(key_value: object) -> bool:
    """Return whether an object is opened only by `async with`. Its context then belongs to the task that enters it."""
    if isinstance(key_value, BaseWrapper):
        return any(map(is_only_entered, key_value._wrapped()))  # pyright: ignore[reportPrivateUsage] # of its own class
    return hasattr(key_value, "__aenter__") and not hasattr(key_value, "setup")


async def _await_if_needed(returned: Any) -> None:
    if inspect.isawaitable(returned):
        await returned


class _Optional:
    async def keys(self: Any, collection: str | None = None, *, limit: int | None = None) -> list[str]:
        return await self._keys(collection, limit)

    async def collections(self: Any, *, limit: int | None = None) -> list[str]:
        return await self._collections(limit)

    async def destroy(self: Any) -> bool:
        return await self._destroy()

    async def destroy_collection(self: Any, collection: str) -> bool:
        return await self._destroy_collection(collection)

    async def cull(self: Any) -> None:
        await self._cull()


show_signatures(BaseWrapper)
show_signatures(_Optional)
_MIXINS = split_by_capability(_Optional, "Async")
