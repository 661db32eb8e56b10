"""The protocols, asynchronous and synchronous.

A framework codes against `AsyncKeyValue` (or `KeyValue`, its synchronous twin) and nothing else. The other protocols are optional
capabilities: `isinstance(store, AsyncEnumerateKeysProtocol)` tells whether an object can list its keys, and so on. All are
`runtime_checkable`.

Stores, wrappers and the façade derive from these classes and inherit their docstrings. "The contract" in the documentation has the
promises in full.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, SupportsFloat, TypeVar, runtime_checkable

__all__ = [
    "AsyncCullProtocol",
    "AsyncDestroyCollectionProtocol",
    "AsyncDestroyStoreProtocol",
    "AsyncEnumerateCollectionsProtocol",
    "AsyncEnumerateKeysProtocol",
    "AsyncKeyValue",
    "AsyncKeyValueProtocol",
    "AsyncLifecycleProtocol",
    "CullProtocol",
    "DestroyCollectionProtocol",
    "DestroyStoreProtocol",
    "EnumerateCollectionsProtocol",
    "EnumerateKeysProtocol",
    "KeyValue",
    "KeyValueProtocol",
    "LifecycleProtocol",
]

T = TypeVar("T")


@runtime_checkable
class AsyncKeyValueProtocol(Protocol):
    """Get, put, delete and time to live, one key or many.

    Keys live in collections. `collection=None` means the store's default collection: `"default_collection"`, unless you pass another to
    the store.
    """

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        """Return the value of `key`, or None if the key is missing or has expired.

        Args:
            key: A non-empty string that encodes as UTF-8.
            collection: The collection that holds the key, also a non-empty string. None, the default, is the store's default collection.

        Returns:
            A new dict, equal to the JSON round trip of the value that was put, or None.

        Raises:
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            DeserializationError: The entry exists but can't be read.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        """Return the value of `key` and its remaining time to live.

        Args:
            key: A non-empty string that encodes as UTF-8.
            collection: The collection that holds the key, also a non-empty string. None, the default, is the store's default collection.

        Returns:
            `(value, seconds)`, where `value` is what `get` returns. `(value, None)` if the entry never expires, `(None, None)` if the key
            is missing or has expired.

        Raises:
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            DeserializationError: The entry exists but can't be read.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        """Store `value` under `key`, replacing any earlier value and expiry.

        Args:
            key: A non-empty string that encodes as UTF-8.
            value: A mapping with string keys that JSON can hold: nested mappings, lists, tuples, strings, integers, finite floats, booleans
                and None. `get` returns its JSON round trip, so tuples come back as lists.
            collection: The collection that holds the key, also a non-empty string. None, the default, is the store's default collection.
            ttl: Seconds until the entry expires: a positive, finite number, fractions included. None, the default, means that it never
                expires.

        Raises:
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            SerializationError: JSON can't hold the value exactly. Also a `ValueError`; nothing is stored.
            InvalidTTLError: `ttl` is not a positive, finite number of seconds.
            ValueTooLargeError: The value is larger than the backend accepts.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Delete `key`.

        Args:
            key: A non-empty string that encodes as UTF-8.
            collection: The collection that holds the key, also a non-empty string. None, the default, is the store's default collection.

        Returns:
            True if the key existed and had not expired, False otherwise.

        Raises:
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        """Return the values of many keys, in one round trip if the backend supports it.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Duplicates are allowed.
            collection: The collection that holds the keys, also a non-empty string. None, the default, is the store's default collection.

        Returns:
            What `get` returns for each key, in the order of `keys`.

        Raises:
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            DeserializationError: One of the entries exists but can't be read.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...

    async def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        """Return the values and the remaining times to live of many keys, in one round trip if the backend supports it.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Duplicates are allowed.
            collection: The collection that holds the keys, also a non-empty string. None, the default, is the store's default collection.

        Returns:
            What `ttl` returns for each key, in the order of `keys`: `(value, seconds)`, `(value, None)` or `(None, None)`.

        Raises:
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            DeserializationError: One of the entries exists but can't be read.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
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
        """Store many values, in one round trip if the backend supports it. It is not a transaction.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Of duplicates, the last wins.
            values: One value for each key, each as for `put`. All are checked before the first is stored.
            collection: The collection that holds the keys, also a non-empty string. None, the default, is the store's default collection.
            ttl: Seconds until the entries expire, the same for all: a positive, finite number, fractions included. None, the default, means
                that they never expire.

        Raises:
            ValueError: `keys` and `values` differ in length.
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            SerializationError: JSON can't hold one of the values exactly. Also a `ValueError`; nothing is stored.
            InvalidTTLError: `ttl` is not a positive, finite number of seconds.
            ValueTooLargeError: A value is larger than the backend accepts. Others may have been stored.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        """Delete many keys, in one round trip if the backend supports it.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Duplicates count once.
            collection: The collection that holds the keys, also a non-empty string. None, the default, is the store's default collection.

        Returns:
            How many of the keys existed and had not expired.

        Raises:
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...


@runtime_checkable
class AsyncKeyValue(AsyncKeyValueProtocol, Protocol):
    """The protocol that frameworks code against."""


@runtime_checkable
class AsyncLifecycleProtocol(Protocol):
    """An object that can be opened and closed, as all stores and wrappers of this library can. Whoever creates one closes it."""

    async def setup(self) -> None:
        """Open it now rather than at its first use, so that what is wrong shows here.

        Raises:
            StoreSetupError: It can't be opened. The next call tries again.
            StoreClosedError: It is closed.
        """
        ...

    async def close(self) -> None:
        """Close it. Closing twice is fine; any other call then raises `StoreClosedError`. A client that was passed in stays open."""
        ...

    async def __aenter__(self: T) -> T:
        """Open it."""
        ...

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close it."""
        ...


@runtime_checkable
class AsyncCullProtocol(Protocol):
    """The capability to remove expired entries."""

    async def cull(self) -> None:
        """Remove all expired entries from the backend. Reads never return them, so this only reclaims space.

        Raises:
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
        """
        ...


@runtime_checkable
class AsyncEnumerateKeysProtocol(Protocol):
    """The capability to list the keys of a collection."""

    async def keys(self, collection: str | None = None, *, limit: int | None = None) -> list[str]:
        """List the keys of a collection, in no particular order.

        Args:
            collection: The collection to list. None, the default, is the store's default collection.
            limit: Return at most this many. None, the default, means all of them.

        Returns:
            The keys as they were put, without expired ones.

        Raises:
            ValueError: `limit` is negative.
            InvalidKeyError: The collection is empty or can't be encoded.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...


@runtime_checkable
class AsyncEnumerateCollectionsProtocol(Protocol):
    """The capability to list collections."""

    async def collections(self, *, limit: int | None = None) -> list[str]:
        """List the collections that hold an entry, in no particular order.

        Args:
            limit: Return at most this many. None, the default, means all of them.

        Returns:
            Their names, without those of collections in which all entries have expired.

        Raises:
            ValueError: `limit` is negative.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...


@runtime_checkable
class AsyncDestroyStoreProtocol(Protocol):
    """The capability to remove everything that this library wrote to a backend."""

    async def destroy(self) -> bool:
        """Remove every entry of every collection, and nothing else in the backend. The store can be used again afterwards.

        Returns:
            True.

        Raises:
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
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
            True if there was anything to remove, False otherwise.

        Raises:
            InvalidKeyError: The collection is empty or can't be encoded.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...


@runtime_checkable
class KeyValueProtocol(Protocol):
    """Get, put, delete and time to live, one key or many.

    Keys live in collections. `collection=None` means the store's default collection: `"default_collection"`, unless you pass another to
    the store.
    """

    def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        """Return the value of `key`, or None if the key is missing or has expired.

        Args:
            key: A non-empty string that encodes as UTF-8.
            collection: The collection that holds the key, also a non-empty string. None, the default, is the store's default collection.

        Returns:
            A new dict, equal to the JSON round trip of the value that was put, or None.

        Raises:
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            DeserializationError: The entry exists but can't be read.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...

    def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        """Return the value of `key` and its remaining time to live.

        Args:
            key: A non-empty string that encodes as UTF-8.
            collection: The collection that holds the key, also a non-empty string. None, the default, is the store's default collection.

        Returns:
            `(value, seconds)`, where `value` is what `get` returns. `(value, None)` if the entry never expires, `(None, None)` if the key
            is missing or has expired.

        Raises:
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            DeserializationError: The entry exists but can't be read.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...

    def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        """Store `value` under `key`, replacing any earlier value and expiry.

        Args:
            key: A non-empty string that encodes as UTF-8.
            value: A mapping with string keys that JSON can hold: nested mappings, lists, tuples, strings, integers, finite floats, booleans
                and None. `get` returns its JSON round trip, so tuples come back as lists.
            collection: The collection that holds the key, also a non-empty string. None, the default, is the store's default collection.
            ttl: Seconds until the entry expires: a positive, finite number, fractions included. None, the default, means that it never
                expires.

        Raises:
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            SerializationError: JSON can't hold the value exactly. Also a `ValueError`; nothing is stored.
            InvalidTTLError: `ttl` is not a positive, finite number of seconds.
            ValueTooLargeError: The value is larger than the backend accepts.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...

    def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Delete `key`.

        Args:
            key: A non-empty string that encodes as UTF-8.
            collection: The collection that holds the key, also a non-empty string. None, the default, is the store's default collection.

        Returns:
            True if the key existed and had not expired, False otherwise.

        Raises:
            InvalidKeyError: The key or the collection is empty or can't be encoded.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...

    def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        """Return the values of many keys, in one round trip if the backend supports it.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Duplicates are allowed.
            collection: The collection that holds the keys, also a non-empty string. None, the default, is the store's default collection.

        Returns:
            What `get` returns for each key, in the order of `keys`.

        Raises:
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            DeserializationError: One of the entries exists but can't be read.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...

    def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        """Return the values and the remaining times to live of many keys, in one round trip if the backend supports it.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Duplicates are allowed.
            collection: The collection that holds the keys, also a non-empty string. None, the default, is the store's default collection.

        Returns:
            What `ttl` returns for each key, in the order of `keys`: `(value, seconds)`, `(value, None)` or `(None, None)`.

        Raises:
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            DeserializationError: One of the entries exists but can't be read.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
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
        """Store many values, in one round trip if the backend supports it. It is not a transaction.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Of duplicates, the last wins.
            values: One value for each key, each as for `put`. All are checked before the first is stored.
            collection: The collection that holds the keys, also a non-empty string. None, the default, is the store's default collection.
            ttl: Seconds until the entries expire, the same for all: a positive, finite number, fractions included. None, the default, means
                that they never expire.

        Raises:
            ValueError: `keys` and `values` differ in length.
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            SerializationError: JSON can't hold one of the values exactly. Also a `ValueError`; nothing is stored.
            InvalidTTLError: `ttl` is not a positive, finite number of seconds.
            ValueTooLargeError: A value is larger than the backend accepts. Others may have been stored.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...

    def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        """Delete many keys, in one round trip if the backend supports it.

        Args:
            keys: A sequence of non-empty strings that encode as UTF-8, but not a `str`. Duplicates count once.
            collection: The collection that holds the keys, also a non-empty string. None, the default, is the store's default collection.

        Returns:
            How many of the keys existed and had not expired.

        Raises:
            InvalidKeyError: A key or the collection is empty or can't be encoded.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...


@runtime_checkable
class KeyValue(KeyValueProtocol, Protocol):
    """The protocol that frameworks code against."""


@runtime_checkable
class LifecycleProtocol(Protocol):
    """An object that can be opened and closed, as the façade of this library can. Whoever creates it closes it."""

    def setup(self) -> None:
        """Open it now rather than at its first use, so that what is wrong shows here.

        Raises:
            StoreSetupError: It can't be opened. The next call tries again.
            StoreClosedError: It is closed.
        """
        ...

    def close(self) -> None:
        """Close it. Closing twice is fine; any other call then raises `StoreClosedError`. A client that was passed in stays open."""
        ...

    def __enter__(self: T) -> T:
        """Open it."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close it."""
        ...


@runtime_checkable
class CullProtocol(Protocol):
    """The capability to remove expired entries."""

    def cull(self) -> None:
        """Remove all expired entries from the backend. Reads never return them, so this only reclaims space.

        Raises:
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
        """
        ...


@runtime_checkable
class EnumerateKeysProtocol(Protocol):
    """The capability to list the keys of a collection."""

    def keys(self, collection: str | None = None, *, limit: int | None = None) -> list[str]:
        """List the keys of a collection, in no particular order.

        Args:
            collection: The collection to list. None, the default, is the store's default collection.
            limit: Return at most this many. None, the default, means all of them.

        Returns:
            The keys as they were put, without expired ones.

        Raises:
            ValueError: `limit` is negative.
            InvalidKeyError: The collection is empty or can't be encoded.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...


@runtime_checkable
class EnumerateCollectionsProtocol(Protocol):
    """The capability to list collections."""

    def collections(self, *, limit: int | None = None) -> list[str]:
        """List the collections that hold an entry, in no particular order.

        Args:
            limit: Return at most this many. None, the default, means all of them.

        Returns:
            Their names, without those of collections in which all entries have expired.

        Raises:
            ValueError: `limit` is negative.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...


@runtime_checkable
class DestroyStoreProtocol(Protocol):
    """The capability to remove everything that this library wrote to a backend."""

    def destroy(self) -> bool:
        """Remove every entry of every collection, and nothing else in the backend. The store can be used again afterwards.

        Returns:
            True.

        Raises:
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
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
            True if there was anything to remove, False otherwise.

        Raises:
            InvalidKeyError: The collection is empty or can't be encoded.
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
            TypeError: An argument has the wrong type.
        """
        ...
