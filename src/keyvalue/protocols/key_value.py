"""The protocols, asynchronous and synchronous.

A framework codes against `AsyncKeyValue` (or `KeyValue`, its synchronous twin) and nothing else. The other protocols are optional
capabilities: `isinstance(store, AsyncEnumerateKeysProtocol)` says whether an object can list its keys, and so on. All are
`runtime_checkable`.

"The contract" in the documentation says what each method promises on every store.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, SupportsFloat, runtime_checkable

__all__ = [
    "AsyncCullProtocol",
    "AsyncDestroyCollectionProtocol",
    "AsyncDestroyStoreProtocol",
    "AsyncEnumerateCollectionsProtocol",
    "AsyncEnumerateKeysProtocol",
    "AsyncKeyValue",
    "AsyncKeyValueProtocol",
    "CullProtocol",
    "DestroyCollectionProtocol",
    "DestroyStoreProtocol",
    "EnumerateCollectionsProtocol",
    "EnumerateKeysProtocol",
    "KeyValue",
    "KeyValueProtocol",
]


@runtime_checkable
class AsyncKeyValueProtocol(Protocol):
    """Get, put, delete and time to live, one key or many.

    Keys live in collections; `collection=None` means the store's default collection (`"default_collection"`, unless you pass
    another to the store). A key or collection is any non-empty string that encodes as UTF-8. A value is a mapping with string keys that
    JSON can hold.

    All methods raise `TypeError` for arguments of a wrong type, `InvalidKeyError` for a name that is empty or can't be encoded, and a
    `KeyValueStoreError` if the store can't serve the call.
    """

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        """Return the value of `key`, or None if it is missing or has expired.

        Args:
            key: The key.
            collection: Its collection.

        Raises:
            DeserializationError: The entry exists but can't be read.
        """
        ...

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        """Return the value of `key` and the seconds that it has left to live.

        Args:
            key: The key.
            collection: Its collection.

        Returns:
            `(value, seconds)`; `(value, None)` if it never expires; `(None, None)` if it is missing.

        Raises:
            DeserializationError: The entry exists but can't be read.
        """
        ...

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        """Store `value` under `key`, in place of what was there.

        Args:
            key: The key.
            value: The value; what `get` returns later equals its JSON round trip.
            collection: Its collection.
            ttl: Seconds to live. None, the default, means no expiry, and clears any earlier expiry.

        Raises:
            SerializationError: The value is not JSON.
            InvalidTTLError: The TTL is not a positive, finite number of seconds.
        """
        ...

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Delete `key`.

        Args:
            key: The key.
            collection: Its collection.

        Returns:
            Whether it existed and had not expired.
        """
        ...

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        """Return the values of many keys, aligned with `keys`, None for each that is missing.

        Args:
            keys: The keys, duplicates allowed.
            collection: Their collection.

        Raises:
            DeserializationError: One of the entries can't be read.
        """
        ...

    async def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        """Return what `ttl` returns for each of many keys, aligned with `keys`.

        Args:
            keys: The keys, duplicates allowed.
            collection: Their collection.

        Raises:
            DeserializationError: One of the entries can't be read.
        """
        ...

    async def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        """Store many values. All are checked before the first is stored.

        Args:
            keys: The keys; of duplicates, the last wins.
            values: One value for each key.
            collection: Their collection.
            ttl: Seconds to live, the same for all. None, the default, means no expiry, and clears any earlier expiry.

        Raises:
            ValueError: `keys` and `values` differ in length.
            SerializationError: A value is not JSON.
            InvalidTTLError: The TTL is not a positive, finite number of seconds.
        """
        ...

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        """Delete many keys.

        Args:
            keys: The keys, duplicates allowed.
            collection: Their collection.

        Returns:
            How many existed and had not expired.
        """
        ...


@runtime_checkable
class AsyncKeyValue(AsyncKeyValueProtocol, Protocol):
    """The protocol that frameworks code against."""


@runtime_checkable
class AsyncCullProtocol(Protocol):
    """The capability to remove expired entries."""

    async def cull(self) -> None:
        """Remove all expired entries from the backend."""
        ...


@runtime_checkable
class AsyncEnumerateKeysProtocol(Protocol):
    """The capability to list the keys of a collection."""

    async def keys(self, collection: str | None = None, *, limit: int | None = None) -> list[str]:
        """List the keys of a collection, in no particular order, without expired keys.

        Args:
            collection: The collection.
            limit: The most to return; all if None.

        Raises:
            ValueError: The limit is negative.
        """
        ...


@runtime_checkable
class AsyncEnumerateCollectionsProtocol(Protocol):
    """The capability to list collections."""

    async def collections(self, *, limit: int | None = None) -> list[str]:
        """List the collections that hold an entry, in no particular order.

        Args:
            limit: The most to return; all if None.

        Raises:
            ValueError: The limit is negative.
        """
        ...


@runtime_checkable
class AsyncDestroyStoreProtocol(Protocol):
    """The capability to remove everything that this library wrote to a backend."""

    async def destroy(self) -> bool:
        """Remove every entry of every collection. The store can be used again afterwards.

        Returns:
            True.
        """
        ...


@runtime_checkable
class AsyncDestroyCollectionProtocol(Protocol):
    """The capability to remove a whole collection."""

    async def destroy_collection(self, collection: str) -> bool:
        """Remove every entry of one collection. The collection can be used again afterwards.

        Args:
            collection: The collection.

        Returns:
            Whether there was anything to remove.
        """
        ...


@runtime_checkable
class KeyValueProtocol(Protocol):
    """Get, put, delete and time to live, one key or many.

    Keys live in collections; `collection=None` means the store's default collection (`"default_collection"`, unless you pass
    another to the store). A key or collection is any non-empty string that encodes as UTF-8. A value is a mapping with string keys that
    JSON can hold.

    All methods raise `TypeError` for arguments of a wrong type, `InvalidKeyError` for a name that is empty or can't be encoded, and a
    `KeyValueStoreError` if the store can't serve the call.
    """

    def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        """Return the value of `key`, or None if it is missing or has expired.

        Args:
            key: The key.
            collection: Its collection.

        Raises:
            DeserializationError: The entry exists but can't be read.
        """
        ...

    def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        """Return the value of `key` and the seconds that it has left to live.

        Args:
            key: The key.
            collection: Its collection.

        Returns:
            `(value, seconds)`; `(value, None)` if it never expires; `(None, None)` if it is missing.

        Raises:
            DeserializationError: The entry exists but can't be read.
        """
        ...

    def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        """Store `value` under `key`, in place of what was there.

        Args:
            key: The key.
            value: The value; what `get` returns later equals its JSON round trip.
            collection: Its collection.
            ttl: Seconds to live. None, the default, means no expiry, and clears any earlier expiry.

        Raises:
            SerializationError: The value is not JSON.
            InvalidTTLError: The TTL is not a positive, finite number of seconds.
        """
        ...

    def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Delete `key`.

        Args:
            key: The key.
            collection: Its collection.

        Returns:
            Whether it existed and had not expired.
        """
        ...

    def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        """Return the values of many keys, aligned with `keys`, None for each that is missing.

        Args:
            keys: The keys, duplicates allowed.
            collection: Their collection.

        Raises:
            DeserializationError: One of the entries can't be read.
        """
        ...

    def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        """Return what `ttl` returns for each of many keys, aligned with `keys`.

        Args:
            keys: The keys, duplicates allowed.
            collection: Their collection.

        Raises:
            DeserializationError: One of the entries can't be read.
        """
        ...

    def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        """Store many values. All are checked before the first is stored.

        Args:
            keys: The keys; of duplicates, the last wins.
            values: One value for each key.
            collection: Their collection.
            ttl: Seconds to live, the same for all. None, the default, means no expiry, and clears any earlier expiry.

        Raises:
            ValueError: `keys` and `values` differ in length.
            SerializationError: A value is not JSON.
            InvalidTTLError: The TTL is not a positive, finite number of seconds.
        """
        ...

    def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        """Delete many keys.

        Args:
            keys: The keys, duplicates allowed.
            collection: Their collection.

        Returns:
            How many existed and had not expired.
        """
        ...


@runtime_checkable
class KeyValue(KeyValueProtocol, Protocol):
    """The protocol that frameworks code against."""


@runtime_checkable
class CullProtocol(Protocol):
    """The capability to remove expired entries."""

    def cull(self) -> None:
        """Remove all expired entries from the backend."""
        ...


@runtime_checkable
class EnumerateKeysProtocol(Protocol):
    """The capability to list the keys of a collection."""

    def keys(self, collection: str | None = None, *, limit: int | None = None) -> list[str]:
        """List the keys of a collection, in no particular order, without expired keys.

        Args:
            collection: The collection.
            limit: The most to return; all if None.

        Raises:
            ValueError: The limit is negative.
        """
        ...


@runtime_checkable
class EnumerateCollectionsProtocol(Protocol):
    """The capability to list collections."""

    def collections(self, *, limit: int | None = None) -> list[str]:
        """List the collections that hold an entry, in no particular order.

        Args:
            limit: The most to return; all if None.

        Raises:
            ValueError: The limit is negative.
        """
        ...


@runtime_checkable
class DestroyStoreProtocol(Protocol):
    """The capability to remove everything that this library wrote to a backend."""

    def destroy(self) -> bool:
        """Remove every entry of every collection. The store can be used again afterwards.

        Returns:
            True.
        """
        ...


@runtime_checkable
class DestroyCollectionProtocol(Protocol):
    """The capability to remove a whole collection."""

    def destroy_collection(self, collection: str) -> bool:
        """Remove every entry of one collection. The collection can be used again afterwards.

        Args:
            collection: The collection.

        Returns:
            Whether there was anything to remove.
        """
        ...
