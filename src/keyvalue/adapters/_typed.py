"""The base of the adapters that validate. Their synchronous versions are in `keyvalue.adapters._blocking`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, SupportsFloat, TypeVar, overload

from keyvalue.errors import DeserializationError, ExtraInfoType
from keyvalue.protocols.key_value import AsyncKeyValue

if TYPE_CHECKING:  # which needs pydantic
    from keyvalue.adapters._pydantic import PydanticConverter

__all__ = ["InvalidRowError", "TypedAdapter"]

T = TypeVar("T")

_LOGGER = logging.getLogger("keyvalue.adapters")
_MISSING = object()  # a value that was found may be None


class InvalidRowError(Exception):
    """A row is no value of a type.

    Args:
        kind: The name of the type.
        why: What is wrong with the row.
        errors: The same for programs: the type and the place (`loc`) of each error, as pydantic tells them.
    """

    def __init__(self, kind: str, why: str, errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(f"The stored entry is not a valid {kind}: {why}")
        self.kind = kind
        self.errors = errors


class TypedAdapter(Generic[T]):
    """A store of values of one type; the base of the adapters that validate.

    Args:
        key_value: The store.
        converter: What turns values into rows and back.
        default_collection: The collection of calls that name none. None is the store's own default.
        raise_on_validation_error: Whether a row that is no such value raises, rather than being logged and answered with the default.
    """

    def __init__(
        self, key_value: AsyncKeyValue, converter: PydanticConverter[T], default_collection: str | None, raise_on_validation_error: bool
    ) -> None:
        self._key_value = key_value
        self._converter = converter
        self._default_collection = default_collection
        self._raise_on_validation_error = raise_on_validation_error

    @overload
    async def get(self, key: str, *, collection: str | None = None, default: T) -> T: ...
    @overload
    async def get(self, key: str, *, collection: str | None = None, default: None = None) -> T | None: ...
    async def get(self, key: str, *, collection: str | None = None, default: T | None = None) -> T | None:
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
        collection = self._choose_collection(collection)
        return self._load(key, collection, await self._key_value.get(key, collection=collection), default)

    @overload
    async def get_many(self, keys: Sequence[str], *, collection: str | None = None, default: T) -> list[T]: ...
    @overload
    async def get_many(self, keys: Sequence[str], *, collection: str | None = None, default: None = None) -> list[T | None]: ...
    async def get_many(self, keys: Sequence[str], *, collection: str | None = None, default: T | None = None) -> list[T] | list[T | None]:
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
        collection = self._choose_collection(collection)
        rows = await self._key_value.get_many(keys, collection=collection)
        return [self._load(key, collection, row, default) for key, row in zip(keys, rows, strict=True)]

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[T | None, float | None]:
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
        collection = self._choose_collection(collection)
        return self._load_pair(key, collection, *await self._key_value.ttl(key, collection=collection))

    async def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[T | None, float | None]]:
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
        collection = self._choose_collection(collection)
        pairs = await self._key_value.ttl_many(keys, collection=collection)
        return [self._load_pair(key, collection, *pair) for key, pair in zip(keys, pairs, strict=True)]

    async def put(self, key: str, value: T, *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
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
        await self._key_value.put(key, self._converter.dump(value), collection=self._choose_collection(collection), ttl=ttl)

    async def put_many(
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
        rows = [self._converter.dump(value) for value in values]
        await self._key_value.put_many(keys, rows, collection=self._choose_collection(collection), ttl=ttl)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
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
        return await self._key_value.delete(key, collection=self._choose_collection(collection))

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
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
        return await self._key_value.delete_many(keys, collection=self._choose_collection(collection))

    def _choose_collection(self, collection: str | None) -> str | None:
        return self._default_collection if collection is None else collection

    def _load(self, key: str, collection: str | None, row: dict[str, Any] | None, default: Any) -> Any:
        if row is None:
            return default
        try:
            return self._converter.load(row)
        except InvalidRowError as error:
            problem = error
        where: ExtraInfoType = {"collection": collection, "key": key}
        error = DeserializationError(str(problem), where)
        if self._raise_on_validation_error:
            raise error
        facts = {"model_type": problem.kind, "error_count": len(problem.errors), "errors": problem.errors, **where}
        _LOGGER.error("An entry is answered with the default: %s", error, extra=facts)
        return default

    def _load_pair(self, key: str, collection: str | None, row: dict[str, Any] | None, left: float | None) -> tuple[T | None, float | None]:
        found = self._load(key, collection, row, _MISSING)
        return (None, None) if found is _MISSING else (found, left)
