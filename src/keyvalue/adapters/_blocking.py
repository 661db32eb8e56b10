"""The synchronous adapters, which `keyvalue.blocking` exports: a shell around each asynchronous one.

An adapter's logic is written once, as coroutines. The shell runs them over a view of its store with methods that never suspend, so that
each coroutine runs to its end at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, Literal, SupportsFloat, TypeVar, cast, overload

from keyvalue._core import wording
from keyvalue.adapters._typed import TypedAdapter
from keyvalue.adapters.raise_on_missing import FoundPair, Pair
from keyvalue.adapters.raise_on_missing import RaiseOnMissingAdapter as AsyncRaiseOnMissingAdapter
from keyvalue.protocols.key_value import AsyncKeyValue, KeyValue

if TYPE_CHECKING:  # which needs pydantic
    from keyvalue.adapters._pydantic import PydanticConverter

__all__ = ["BaseModelAdapter", "DataclassAdapter", "PydanticAdapter", "RaiseOnMissingAdapter"]

T = TypeVar("T")
R = TypeVar("R")

_METHODS = ("get", "ttl", "put", "delete", "get_many", "ttl_many", "put_many", "delete_many")


class BlockingTypedAdapter(Generic[T]):
    """The synchronous `TypedAdapter`."""

    def __init__(
        self, key_value: KeyValue, converter: PydanticConverter[T], default_collection: str | None, raise_on_validation_error: bool
    ) -> None:
        store = _as_async(_require_sync(key_value, type(self).__name__))
        self._typed = TypedAdapter[T](store, converter, default_collection, raise_on_validation_error)

    @overload
    def get(self, key: str, *, collection: str | None = None, default: T) -> T: ...
    @overload
    def get(self, key: str, *, collection: str | None = None, default: None = None) -> T | None: ...
    def get(self, key: str, *, collection: str | None = None, default: T | None = None) -> T | None:
        """Return the value of `key`.

        Args:
            key: A non-empty string that encodes as UTF-8.
            collection: The collection that holds the key. None, the default, is the adapter's `default_collection`.
            default: What to return if there is no value. Default None.

        Returns:
            The value; `default` if the key is missing or has expired, or if its entry is not a valid value of the type and
            `raise_on_validation_error` is False.

        Raises:
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            DeserializationError: The entry is damaged, or is not a valid value of the type and `raise_on_validation_error` is True.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        return _run_sync(self._typed.get(key, collection=collection, default=default))

    @overload
    def get_many(self, keys: Sequence[str], *, collection: str | None = None, default: T) -> list[T]: ...
    @overload
    def get_many(self, keys: Sequence[str], *, collection: str | None = None, default: None = None) -> list[T | None]: ...
    def get_many(self, keys: Sequence[str], *, collection: str | None = None, default: T | None = None) -> list[T] | list[T | None]:
        """Return the values of many keys.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Duplicates are allowed.
            collection: The collection that holds the keys. None, the default, is the adapter's `default_collection`.
            default: What to return for each key without a value. Default None.

        Returns:
            What `get` returns for each key, in the order of `keys`.

        Raises:
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            DeserializationError: The same as for `get`, of one of the entries.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        return _run_sync(self._typed.get_many(keys, collection=collection, default=default))

    def ttl(self, key: str, *, collection: str | None = None) -> tuple[T | None, float | None]:
        """Return the value of `key` and its remaining time to live.

        Args:
            key: A non-empty string that encodes as UTF-8.
            collection: The collection that holds the key. None, the default, is the adapter's `default_collection`.

        Returns:
            `(value, seconds)`; `(value, None)` if the entry never expires; `(None, None)` where `get` returns `default`.

        Raises:
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            DeserializationError: The entry is damaged, or is not a valid value of the type and `raise_on_validation_error` is True.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        return _run_sync(self._typed.ttl(key, collection=collection))

    def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[T | None, float | None]]:
        """Return the values and the remaining times to live of many keys.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Duplicates are allowed.
            collection: The collection that holds the keys. None, the default, is the adapter's `default_collection`.

        Returns:
            What `ttl` returns for each key, in the order of `keys`.

        Raises:
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            DeserializationError: The same as for `get`, of one of the entries.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        return _run_sync(self._typed.ttl_many(keys, collection=collection))

    def put(self, key: str, value: T, *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        """Store `value` under `key`, replacing any earlier value and expiry.

        Args:
            key: A non-empty string that encodes as UTF-8.
            value: A value of the type. It is stored as JSON, and must come back equal.
            collection: The collection that holds the key. None, the default, is the adapter's `default_collection`.
            ttl: Seconds until the entry expires: a positive, finite number, fractions included. None, the default, means that it never
                expires.

        Raises:
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            SerializationError: The value is not of the type, or would not come back equal.
            ValueTooLargeError: The value is larger than the backend accepts.
            InvalidTTLError: `ttl` is not a positive, finite number of seconds.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument other than the value has the wrong type.
        """
        _run_sync(self._typed.put(key, value, collection=collection, ttl=ttl))

    def put_many(
        self, keys: Sequence[str], values: Sequence[T], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        """Store many values. All are checked before the first is stored.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Of duplicates, the last wins.
            values: One value of the type for each key.
            collection: The collection that holds the keys. None, the default, is the adapter's `default_collection`.
            ttl: Seconds until the entries expire, the same for all: a positive, finite number, fractions included. None, the default, means
                that they never expire.

        Raises:
            ValueError: `keys` and `values` differ in length.
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            SerializationError: A value is not of the type, or would not come back equal.
            ValueTooLargeError: A value is larger than the backend accepts. Others may have been stored.
            InvalidTTLError: `ttl` is not a positive, finite number of seconds.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument other than the value has the wrong type.
        """
        _run_sync(self._typed.put_many(keys, values, collection=collection, ttl=ttl))

    def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Delete `key`.

        Args:
            key: A non-empty string that encodes as UTF-8.
            collection: The collection that holds the key. None, the default, is the adapter's `default_collection`.

        Returns:
            True if the key existed and had not expired, False otherwise.

        Raises:
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        return _run_sync(self._typed.delete(key, collection=collection))

    def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        """Delete many keys.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Duplicates count once.
            collection: The collection that holds the keys. None, the default, is the adapter's `default_collection`.

        Returns:
            How many of the keys existed and had not expired.

        Raises:
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        return _run_sync(self._typed.delete_many(keys, collection=collection))


class PydanticAdapter(BlockingTypedAdapter[T]):
    """The synchronous `keyvalue.adapters.pydantic.PydanticAdapter`: the same parameters, types, rows and errors, over a `KeyValue`."""

    @overload
    def __init__(
        self,
        key_value: KeyValue,
        pydantic_model: type[T],
        default_collection: str | None = None,
        raise_on_validation_error: bool = True,
        *,
        exact: bool = True,
    ) -> None: ...
    @overload  # for special forms, such as `int | None`: PydanticAdapter[int | None](store, int | None)
    def __init__(
        self,
        key_value: KeyValue,
        pydantic_model: Any,
        default_collection: str | None = None,
        raise_on_validation_error: bool = True,
        *,
        exact: bool = True,
    ) -> None: ...
    def __init__(
        self,
        key_value: KeyValue,
        pydantic_model: Any,
        default_collection: str | None = None,
        raise_on_validation_error: bool = True,
        *,
        exact: bool = True,
    ) -> None:
        from keyvalue.adapters._pydantic import PydanticConverter  # noqa: PLC0415 # the façade does without pydantic

        super().__init__(key_value, PydanticConverter(pydantic_model, exact=exact), default_collection, raise_on_validation_error)


class BaseModelAdapter(BlockingTypedAdapter[T]):
    """The synchronous `keyvalue.adapters.base_model.BaseModelAdapter`: the same parameters, types, rows and errors, over a `KeyValue`."""

    def __init__(
        self,
        key_value: KeyValue,
        pydantic_model: type[T],
        default_collection: str | None = None,
        raise_on_validation_error: bool = True,
        *,
        exact: bool = True,
    ) -> None:
        from keyvalue.adapters.base_model import create_converter  # noqa: PLC0415 # the façade does without pydantic

        super().__init__(key_value, create_converter(pydantic_model, exact), default_collection, raise_on_validation_error)


class DataclassAdapter(BlockingTypedAdapter[T]):
    """The synchronous `keyvalue.adapters.dataclass.DataclassAdapter`: the same parameters, types, rows and errors, over a `KeyValue`."""

    def __init__(
        self,
        key_value: KeyValue,
        dataclass_type: type[T],
        default_collection: str | None = None,
        raise_on_validation_error: bool = True,
        *,
        exact: bool = True,
    ) -> None:
        from keyvalue.adapters.dataclass import create_converter  # noqa: PLC0415 # the façade does without pydantic

        super().__init__(key_value, create_converter(dataclass_type, exact), default_collection, raise_on_validation_error)


class RaiseOnMissingAdapter(KeyValue):
    """The synchronous `keyvalue.adapters.raise_on_missing.RaiseOnMissingAdapter`, over a `KeyValue`."""

    def __init__(self, key_value: KeyValue) -> None:
        self._adapter = AsyncRaiseOnMissingAdapter(_as_async(_require_sync(key_value, "RaiseOnMissingAdapter")))

    @overload
    def get(self, key: str, *, collection: str | None = None, raise_on_missing: Literal[False] = False) -> dict[str, Any] | None: ...
    @overload
    def get(self, key: str, *, collection: str | None = None, raise_on_missing: Literal[True]) -> dict[str, Any]: ...
    @overload
    def get(self, key: str, *, collection: str | None = None, raise_on_missing: bool) -> dict[str, Any] | None: ...
    def get(self, key: str, *, collection: str | None = None, raise_on_missing: bool = False) -> dict[str, Any] | None:
        """Return the value of `key`.

        Args:
            key: A non-empty string that encodes as UTF-8.
            collection: The collection that holds the key, also a non-empty string. None, the default, is the store's default collection.
            raise_on_missing: Whether a missing key raises. Default False.

        Returns:
            A new dict, equal to the JSON round trip of the value that was put, or None if the key is missing or has expired.

        Raises:
            MissingKeyError: The key is missing or has expired, and `raise_on_missing` is True.
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            DeserializationError: The entry exists but can't be read.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        return _run_sync(self._adapter.get(key, collection=collection, raise_on_missing=raise_on_missing))

    @overload
    def get_many(
        self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: Literal[False] = False
    ) -> list[dict[str, Any] | None]: ...
    @overload
    def get_many(self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: Literal[True]) -> list[dict[str, Any]]: ...
    @overload
    def get_many(
        self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: bool
    ) -> list[dict[str, Any]] | list[dict[str, Any] | None]: ...
    def get_many(
        self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: bool = False
    ) -> list[dict[str, Any]] | list[dict[str, Any] | None]:
        """Return the values of many keys, in one round trip if the backend supports it.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Duplicates are allowed.
            collection: The collection that holds the keys, also a non-empty string. None, the default, is the store's default collection.
            raise_on_missing: Whether a missing key raises. Default False.

        Returns:
            What `get` returns for each key, in the order of `keys`.

        Raises:
            MissingKeyError: A key is missing or has expired, and `raise_on_missing` is True. The error names the first such key.
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            DeserializationError: One of the entries exists but can't be read.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        return _run_sync(self._adapter.get_many(keys, collection=collection, raise_on_missing=raise_on_missing))

    @overload
    def ttl(self, key: str, *, collection: str | None = None, raise_on_missing: Literal[False] = False) -> Pair: ...
    @overload
    def ttl(self, key: str, *, collection: str | None = None, raise_on_missing: Literal[True]) -> FoundPair: ...
    @overload
    def ttl(self, key: str, *, collection: str | None = None, raise_on_missing: bool) -> Pair: ...
    def ttl(self, key: str, *, collection: str | None = None, raise_on_missing: bool = False) -> Pair:
        """Return the value of `key` and its remaining time to live.

        Args:
            key: A non-empty string that encodes as UTF-8.
            collection: The collection that holds the key, also a non-empty string. None, the default, is the store's default collection.
            raise_on_missing: Whether a missing key raises. Default False.

        Returns:
            `(value, seconds)`; `(value, None)` if the entry never expires; `(None, None)` if the key is missing or has expired.

        Raises:
            MissingKeyError: The key is missing or has expired, and `raise_on_missing` is True.
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            DeserializationError: The entry exists but can't be read.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        return _run_sync(self._adapter.ttl(key, collection=collection, raise_on_missing=raise_on_missing))

    @overload
    def ttl_many(self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: Literal[False] = False) -> list[Pair]: ...
    @overload
    def ttl_many(self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: Literal[True]) -> list[FoundPair]: ...
    @overload
    def ttl_many(self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: bool) -> list[FoundPair] | list[Pair]: ...
    def ttl_many(
        self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: bool = False
    ) -> list[FoundPair] | list[Pair]:
        """Return the values and the remaining times to live of many keys, in one round trip if the backend supports it.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Duplicates are allowed.
            collection: The collection that holds the keys, also a non-empty string. None, the default, is the store's default collection.
            raise_on_missing: Whether a missing key raises. Default False.

        Returns:
            What `ttl` returns for each key, in the order of `keys`.

        Raises:
            MissingKeyError: A key is missing or has expired, and `raise_on_missing` is True. The error names the first such key.
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            DeserializationError: One of the entries exists but can't be read.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        return _run_sync(self._adapter.ttl_many(keys, collection=collection, raise_on_missing=raise_on_missing))

    def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        _run_sync(self._adapter.put(key, value, collection=collection, ttl=ttl))

    def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        _run_sync(self._adapter.put_many(keys, values, collection=collection, ttl=ttl))

    def delete(self, key: str, *, collection: str | None = None) -> bool:
        return _run_sync(self._adapter.delete(key, collection=collection))

    def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        return _run_sync(self._adapter.delete_many(keys, collection=collection))


def _require_sync(key_value: KeyValue, owner: str) -> KeyValue:
    """Return a synchronous store unchanged.

    Raises:
        TypeError: It is not a `KeyValue`, or is asynchronous.
    """
    if isinstance(key_value, type) or not isinstance(key_value, KeyValue):
        raise TypeError(f"{owner} takes a KeyValue, such as BlockingKeyValue(MemoryStore()), not {wording.describe(key_value)}")
    if any(inspect.iscoroutinefunction(getattr(key_value, name)) for name in _METHODS):
        raise TypeError(f"{owner} takes a synchronous KeyValue; put BlockingKeyValue around {type(key_value).__name__}")
    return key_value


def _as_async(key_value: KeyValue) -> AsyncKeyValue:
    """Return an asynchronous view of a synchronous store, for `_run_sync`: its methods are awaited, and never suspend."""
    methods = {name: _as_coroutine(getattr(key_value, name)) for name in _METHODS}
    return cast("AsyncKeyValue", SimpleNamespace(**methods))


def _as_coroutine(method: Callable[..., R]) -> Callable[..., Coroutine[Any, Any, R]]:
    async def call(*args: Any, **kwargs: Any) -> R:
        return method(*args, **kwargs)

    return call


def _run_sync(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine over `_as_async`. Unlike `runtime.drive`, it leaves no mark in the context, which the store's own loop may copy."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("unreachable: a view never suspends")
