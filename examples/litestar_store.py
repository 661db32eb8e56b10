"""Any store as a `Store` of Litestar: for its sessions, its response cache, or what the application keeps itself.

Needs `litestar`. In an application:

    stores = {"sessions": KeyValueStore(RedisStore(url="redis://localhost:6379/0"), collection="sessions")}
    app = Litestar(route_handlers=[…], stores=stores, middleware=[ServerSideSessionConfig().middleware])
"""

from __future__ import annotations

import base64
from datetime import timedelta

from litestar.stores.base import Store

from keyvalue.protocols import AsyncDestroyCollectionProtocol, AsyncKeyValue


class KeyValueStore(Store):
    """Litestar's interface over a store. It keeps bytes, which JSON can't hold, as base64: `{"data": "…"}`.

    Args:
        key_value: The store. Who made it closes it.
        collection: The collection for all entries. `delete_all` removes it.
    """

    __slots__ = ("_collection", "_key_value")

    def __init__(self, key_value: AsyncKeyValue, *, collection: str = "litestar") -> None:
        self._key_value = key_value
        self._collection = collection

    async def set(self, key: str, value: str | bytes, expires_in: int | timedelta | None = None) -> None:
        """Store bytes, or a text as UTF-8."""
        data = value.encode() if isinstance(value, str) else value
        seconds = expires_in.total_seconds() if isinstance(expires_in, timedelta) else expires_in
        # To Litestar, 0 means no expiry.
        await self._key_value.put(key, {"data": base64.b64encode(data).decode()}, collection=self._collection, ttl=seconds or None)

    async def get(self, key: str, renew_for: int | timedelta | None = None) -> bytes | None:
        """Return what is stored, and if asked to, make an entry that expires live for longer."""
        value, seconds = await self._key_value.ttl(key, collection=self._collection)
        if value is None:
            return None
        data = base64.b64decode(value["data"])
        if renew_for and seconds is not None:
            await self.set(key, data, renew_for)
        return data

    async def delete(self, key: str) -> None:
        """Delete an entry, if there is one."""
        await self._key_value.delete(key, collection=self._collection)

    async def delete_all(self) -> None:
        """Delete all entries.

        Raises:
            TypeError: The store can't.
        """
        if not isinstance(self._key_value, AsyncDestroyCollectionProtocol):
            raise TypeError(f"{type(self._key_value).__name__} can't delete a collection; use a store that can list its keys")
        await self._key_value.destroy_collection(self._collection)

    async def exists(self, key: str) -> bool:
        """Return whether there is an entry."""
        return await self._key_value.get(key, collection=self._collection) is not None

    async def expires_in(self, key: str) -> int | None:
        """Return the seconds that an entry has left to live; None if there is none or it never expires."""
        _, seconds = await self._key_value.ttl(key, collection=self._collection)
        return None if seconds is None else int(seconds)
