"""Any store as the backend of requests-cache, in synchronous code.

Needs `requests-cache`. In a program:

    with BlockingKeyValue(DiskStore(directory="http-cache")) as kv:
        session = requests_cache.CachedSession(backend=KeyValueCache(kv), expire_after=3600)
        session.get("https://…")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from requests_cache.backends.base import BaseCache, BaseStorage
from requests_cache.serializers import SerializerPipeline
from requests_cache.serializers.preconf import json_preconf_stage

from keyvalue.protocols import EnumerateKeysProtocol, KeyValue

AS_JSON = SerializerPipeline([json_preconf_stage], name="json values", is_binary=False)


class KeyValueDict(BaseStorage[str, Any]):
    """A mapping over one collection of a store, with values as what JSON holds.

    Args:
        key_value: The store. It must be able to list its keys.
        collection: The collection.
        keep_expired: Seconds that an expired response is kept, to be revalidated.
        serializer: What makes JSON of values; None for those that already are.

    Raises:
        TypeError: The store can't list its keys.
    """

    def __init__(self, key_value: KeyValue, collection: str, keep_expired: float, serializer: SerializerPipeline | None) -> None:
        super().__init__(serializer=serializer)  # pyright: ignore[reportUnknownMemberType] # its options have no types
        if not isinstance(key_value, EnumerateKeysProtocol):
            raise TypeError(f"{key_value!r} can't list its keys, which requests-cache asks for")
        self._key_value: KeyValue = key_value
        self._listing: EnumerateKeysProtocol = key_value
        self._collection = collection
        self._keep_expired = keep_expired

    def __getitem__(self, key: str) -> Any:
        """Return a value."""
        row = self._key_value.get(key, collection=self._collection)
        if row is None:
            raise KeyError(key)
        return self.deserialize(key, row["value"])  # pyright: ignore[reportUnknownMemberType] # likewise

    def __setitem__(self, key: str, value: Any) -> None:
        """Store a value; a response that expires lives a while longer."""
        left = getattr(value, "expires_delta", None)
        ttl = None if left is None else max(left, 0) + self._keep_expired
        self._key_value.put(key, {"value": self.serialize(value)}, collection=self._collection, ttl=ttl)

    def __delitem__(self, key: str) -> None:
        """Delete a value."""
        if not self._key_value.delete(key, collection=self._collection):
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter(self._listing.keys(self._collection))

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._listing.keys(self._collection))

    def bulk_delete(self, keys: Iterable[str]) -> None:
        """Delete many values, in as few calls as the store can."""
        self._key_value.delete_many(list(keys), collection=self._collection)

    def clear(self) -> None:
        """Delete all values."""
        self.bulk_delete(self)


class KeyValueCache(BaseCache):
    """The backend.

    Args:
        key_value: The store, of the synchronous kind. Who made it closes it.
        cache_name: What the names of its two collections begin with.
        keep_expired: Seconds that an expired response is kept, to be revalidated.
    """

    def __init__(self, key_value: KeyValue, cache_name: str = "http_cache", keep_expired: float = 3600) -> None:
        super().__init__(cache_name=cache_name)  # pyright: ignore[reportUnknownMemberType] # likewise
        self.responses = KeyValueDict(key_value, f"{cache_name}-responses", keep_expired, AS_JSON)
        self.redirects = KeyValueDict(key_value, f"{cache_name}-redirects", keep_expired, None)
