"""An adapter that raises where a key is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, SupportsFloat, overload

from keyvalue._core.capabilities import require_async
from keyvalue._core.documented import AsyncMethods
from keyvalue.errors import MissingKeyError
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["RaiseOnMissingAdapter"]

Pair = tuple["dict[str, Any] | None", "float | None"]
FoundPair = tuple["dict[str, Any]", "float | None"]


class RaiseOnMissingAdapter(AsyncMethods):
    """Raises for missing keys, on request of each call. All else is passed on as it is.

    Args:
        key_value: The store, which is also an attribute.

    Raises:
        TypeError: It is no `AsyncKeyValue`.
    """

    def __init__(self, key_value: AsyncKeyValue) -> None:
        self.key_value: AsyncKeyValue = require_async(key_value, type(self).__name__)

    @overload
    async def get(self, key: str, *, collection: str | None = None, raise_on_missing: Literal[False] = False) -> dict[str, Any] | None: ...
    @overload
    async def get(self, key: str, *, collection: str | None = None, raise_on_missing: Literal[True]) -> dict[str, Any]: ...
    @overload
    async def get(self, key: str, *, collection: str | None = None, raise_on_missing: bool) -> dict[str, Any] | None: ...
    async def get(self, key: str, *, collection: str | None = None, raise_on_missing: bool = False) -> dict[str, Any] | None:
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
        value = await self.key_value.get(key, collection=collection)
        if value is None and raise_on_missing:
            raise MissingKeyError("get", collection, key)
        return value

    @overload
    async def get_many(
        self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: Literal[False] = False
    ) -> list[dict[str, Any] | None]: ...
    @overload
    async def get_many(
        self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: Literal[True]
    ) -> list[dict[str, Any]]: ...
    @overload
    async def get_many(
        self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: bool
    ) -> list[dict[str, Any]] | list[dict[str, Any] | None]: ...
    async def get_many(
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
        values = await self.key_value.get_many(keys, collection=collection)
        if raise_on_missing:
            _require_all("get_many", collection, keys, [value is not None for value in values])
        return values

    @overload
    async def ttl(self, key: str, *, collection: str | None = None, raise_on_missing: Literal[False] = False) -> Pair: ...
    @overload
    async def ttl(self, key: str, *, collection: str | None = None, raise_on_missing: Literal[True]) -> FoundPair: ...
    @overload
    async def ttl(self, key: str, *, collection: str | None = None, raise_on_missing: bool) -> Pair: ...
    async def ttl(self, key: str, *, collection: str | None = None, raise_on_missing: bool = False) -> Pair:
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
        value, left = await self.key_value.ttl(key, collection=collection)
        if value is None and raise_on_missing:
            raise MissingKeyError("ttl", collection, key)
        return value, left

    @overload
    async def ttl_many(
        self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: Literal[False] = False
    ) -> list[Pair]: ...
    @overload
    async def ttl_many(self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: Literal[True]) -> list[FoundPair]: ...
    @overload
    async def ttl_many(
        self, keys: Sequence[str], *, collection: str | None = None, raise_on_missing: bool
    ) -> list[FoundPair] | list[Pair]: ...
    async def ttl_many(
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
        pairs = await self.key_value.ttl_many(keys, collection=collection)
        if raise_on_missing:
            _require_all("ttl_many", collection, keys, [value is not None for value, _ in pairs])
        return pairs

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        await self.key_value.put(key, value, collection=collection, ttl=ttl)

    async def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        await self.key_value.put_many(keys, values, collection=collection, ttl=ttl)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        return await self.key_value.delete(key, collection=collection)

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        return await self.key_value.delete_many(keys, collection=collection)


def _require_all(operation: str, collection: str | None, keys: Sequence[str], found: Sequence[bool]) -> None:
    for key, is_there in zip(keys, found, strict=True):
        if not is_there:
            raise MissingKeyError(operation, collection, key)
