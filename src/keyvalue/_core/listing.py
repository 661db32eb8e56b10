"""Listing, page by page, and what follows from it: culling and destroying."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import aclosing, contextmanager
from typing import NamedTuple, TypeVar, cast

from keyvalue._core import arguments, clock
from keyvalue._core.entry import CompareAndSet, Stored, read_aside
from keyvalue._core.flat import FlatStore
from keyvalue._core.hook_checks import not_awaitable
from keyvalue._core.misuse import show_signatures
from keyvalue._core.store import BaseStore, name_operation
from keyvalue.errors import KeyValueError, KeyValueStoreError

__all__ = ["PAGE", "PAGE_SIZE", "EnumerableFlatStore", "EnumerableStore", "ListedEntry", "take_page"]

N = TypeVar("N")
T = TypeVar("T")
S = TypeVar("S", bound="Stored | None")

PAGE = 500
"""The most documents in a page of a listing."""
PAGE_SIZE = 2**21
"""The size, in bytes of documents, at which a page of a listing ends."""


class ListedEntry(NamedTuple):
    """One entry of a listing.

    Attributes:
        collection: The collection.
        key: The key.
        expires_at: The expiry in seconds since the epoch; None if it never expires.
    """

    collection: str
    key: str
    expires_at: float | None


class EnumerableStore(BaseStore):
    """A store that can list its entries, and so also cull and destroy them.

    It does not derive from the protocols of these methods: a subclass that sets one to None must not count as having it.
    """

    @abstractmethod
    def _scan(self, collection: str | None) -> AsyncGenerator[Sequence[ListedEntry], None]:
        """Yield all entries of a collection (None: of all collections), expired ones included, in pages of any size."""

    @abstractmethod
    async def _cull(self, now: float) -> None:
        """Remove the entries that have expired at `now`, except those that were put again in the meantime."""

    async def _purge(self, collection: str, keys: Sequence[str]) -> Sequence[bool | KeyValueError]:
        """Remove distinct keys without a trace, for destroying. Override it if `_delete` leaves something behind."""
        return await self._delete(collection, keys)

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
        return await self._list("keys", self._collection(collection), limit, lambda entry: entry.key)

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
        return await self._list("collections", None, limit, lambda entry: entry.collection)

    async def destroy(self) -> bool:
        """Remove every entry of every collection, and nothing else in the backend. The store can be used again afterwards.

        Returns:
            True.

        Raises:
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
        """
        await self._destroy("destroy", None)
        return True

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
        return await self._destroy("destroy_collection", arguments.check_name(collection, "collection"))

    async def cull(self) -> None:
        """Remove all expired entries from the backend. Reads never return them, so this only reclaims space.

        Raises:
            KeyValueStoreError: The store can't serve the call. Of its subclasses, `StoreConnectionError` is worth retrying.
        """
        with _named("cull"):
            await self._settle_all()
            await self._run(self._cull(clock.now()), "", "_cull")

    async def _settle_all(self) -> None:
        await self._ensure_open()
        await self._pending.drain()

    async def _run(self, call: Awaitable[T], collection: str, hook: str) -> T:
        """Await a call of a hook that may write any key of a collection ("": of all collections)."""
        if not inspect.isawaitable(call):
            raise not_awaitable(self, hook, call)
        return await (self._pending.run((collection, None), call) if self._clients and self._clients.may_detach() else call)

    def _pages(self, collection: str | None) -> aclosing[AsyncGenerator[Sequence[ListedEntry], None]]:
        pages = self._scan(collection)
        if not isinstance(cast("object", pages), AsyncGenerator):
            if inspect.iscoroutine(pages):
                pages.close()
            raise TypeError(f"{type(self).__name__}._scan must be an asynchronous generator: `async def` with a `yield` for each page")
        return aclosing(pages)

    async def _list(self, operation: str, collection: str | None, limit: int | None, name: Callable[[ListedEntry], str]) -> list[str]:
        limit = arguments.check_limit(limit)
        found: dict[str, None] = {}
        with _named(operation):
            await self._settle_all()
            if limit == 0:
                return []
            now = clock.now()
            async with self._pages(collection) as pages:
                async for page in pages:
                    for entry in page:
                        if entry.expires_at is None or entry.expires_at > now:
                            found[name(entry)] = None
                            if len(found) == limit:
                                return list(found)
        return list(found)

    async def _destroy(self, operation: str, collection: str | None) -> bool:
        found = False
        with _named(operation):
            await self._settle_all()
            now = clock.now()
            async with self._pages(collection) as pages:
                async for page in pages:
                    by_collection: dict[str, list[str]] = {}
                    for entry in page:
                        by_collection.setdefault(entry.collection, []).append(entry.key)
                        found = found or entry.expires_at is None or entry.expires_at > now
                    for name, listed in by_collection.items():
                        keys = tuple(dict.fromkeys(listed))
                        self._raise_first(operation, "_delete", await self._run(self._purge(name, keys), name, "_delete"), len(keys))
        return found


@contextmanager
def _named(operation: str) -> Generator[None, None, None]:
    """Add the name of the public method to errors of the client."""
    try:
        yield
    except KeyValueStoreError as error:
        name_operation(error, operation)
        raise


show_signatures(EnumerableStore)


class EnumerableFlatStore(FlatStore, EnumerableStore):
    """A flat store that can list its names."""

    @abstractmethod
    def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        """Yield all names with a prefix (which may be empty), and the document of each.

        A page is held in memory. It may have any number of names, but should end at `PAGE_SIZE` bytes, as one of `take_page` does.
        """

    async def _scan(self, collection: str | None) -> AsyncGenerator[Sequence[ListedEntry], None]:
        for prefix in [""] if collection is None else self.layout.prefixes(collection):
            async with aclosing(self._scan_documents(prefix)) as pages:
                async for page in pages:
                    yield [entry for _, _, entry in await self._entries_in(page) if collection is None or entry.collection == collection]

    async def _cull(self, now: float) -> None:
        async with aclosing(self._scan_documents("")) as pages:
            async for page in pages:
                expired = [
                    CompareAndSet(name, stored.version, None)
                    for name, stored, entry in await self._entries_in(page)
                    if entry.expires_at is not None and entry.expires_at <= now
                ]
                if expired:
                    await self._compare_and_set(expired)

    async def _entries_in(self, page: Sequence[tuple[str, Stored]]) -> Sequence[tuple[str, Stored, ListedEntry]]:
        """Read the documents of a page, except those outside the slots of the pair that they name."""
        read = await read_aside((stored for _, stored in page), lambda: [(name, stored, _listed(stored)) for name, stored in page])
        found: list[tuple[str, Stored, ListedEntry]] = []
        for name, stored, entry in read:
            if entry is None:
                continue
            names = [slot.name for slot in self.layout.slots(entry.collection, entry.key)]
            if name in names:
                found.append((name, stored, entry))
                continue
            # A file system that ignores case may spell a name in its own way.
            respelled = [other for other in names if other.casefold() == name.casefold()]
            # Compare documents: versions of different names are not comparable.
            if respelled and any(other is not None and other.document == stored.document for other in await self._read(respelled)):
                found.append((name, stored, entry))
        return found


def _listed(stored: Stored) -> ListedEntry | None:
    """Read what a listing needs of a document, without keeping its value."""
    entry = stored.named_entry()
    return None if entry is None else ListedEntry(entry.collection, entry.key, entry.expires_at)


def take_page(rows: Iterable[tuple[N, S]]) -> list[tuple[N, S]]:
    """Take rows (each a name and its document) until a page is full. Later rows are not read."""
    page: list[tuple[N, S]] = []
    size = 0
    for row in rows:
        page.append(row)
        size += 0 if row[1] is None else row[1].size
        if len(page) >= PAGE or size >= PAGE_SIZE:
            break
    return page
