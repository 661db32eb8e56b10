"""Stores whose backend is one flat space of names, each holding one JSON document.

A pair of collection and key is kept under the name `<collection>::<key>`, the layout of py-key-value-aio. A name is read back by splitting
it at the first `::`, so a collection that holds `::` or ends with `:` would be mistaken for another. Entries of such a collection are
*moved* to names of the form `<collection>~:<key>`, where in both parts `~` is written `~0` and `:` is written `~1`: no such name holds
`::`, and none is meant twice.

py-key-value-aio puts those entries under the plain name too. So a miss on a moved name also looks there, and because two pairs may share
that place, a document counts only if the collection and key in it are the ones asked for. The next put or delete of the pair removes
it from the old place; a put by the pair that the place rightly belongs to first moves it to its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing

from keyvalue._core import clock
from keyvalue._core.entry import Entry
from keyvalue._core.store import BaseStore, EnumerableStore, Row
from keyvalue.errors import DeserializationError

__all__ = ["UNREADABLE", "EnumerableFlatStore", "FlatStore"]

UNREADABLE = b""
"""What a store returns for a row that must not or can't be read: no document."""


def is_moved(collection: str) -> bool:
    """Return whether the entries of a collection are kept under moved names."""
    return ":" in collection and ("::" in collection or collection.endswith(":"))


def is_contested(key: str) -> bool:
    """Return whether py-key-value-aio could have put another pair where this key of an ordinary collection belongs."""
    return ":" in key and ("::" in key or key.startswith(":"))


def plain_name(collection: str, key: str) -> str:
    """Return the name that py-key-value-aio gives to a pair."""
    return f"{collection}::{key}"


def moved_name(collection: str, key: str) -> str:
    """Return the moved name of a pair."""
    return f"{_escape(collection)}~:{_escape(key)}"


def name_of(collection: str, key: str) -> str:
    """Return the name of a pair."""
    return moved_name(collection, key) if is_moved(collection) else plain_name(collection, key)


def _escape(text: str) -> str:
    return text.replace("~", "~0").replace(":", "~1")


class FlatStore(BaseStore):
    """A store over a flat space of names; a subclass reads, writes and removes documents by name.

    Its four methods return awaitables: they may be coroutines, or return what `_use` returns.
    """

    @abstractmethod
    def _read(self, names: Sequence[str]) -> Awaitable[Sequence[bytes | None]]:
        """Return the documents under distinct names, aligned with them."""

    def _peek(self, names: Sequence[str]) -> Awaitable[Sequence[bytes | None]]:
        """Like `_read`, for names under which another program's data of another kind may lie; that counts as nothing."""
        return self._read(names)

    @abstractmethod
    def _store(self, entries: Sequence[tuple[str, Entry]]) -> Awaitable[None]:
        """Store the document of each entry under its name, in place of what was there."""

    @abstractmethod
    def _remove(self, names: Sequence[str]) -> Awaitable[Sequence[bytes | None]]:
        """Remove distinct names and return what was removed, aligned with them."""

    @abstractmethod
    def _discard(self, documents: Sequence[tuple[str, bytes]]) -> Awaitable[object]:
        """Remove each name whose document still is the one given."""

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        if not is_moved(collection):
            documents = await self._read([f"{collection}::{key}" for key in keys])
            if len(keys) == 1:
                return (_own(documents[0], collection, keys[0]),)
            return [_own(document, collection, key) for document, key in zip(documents, keys, strict=True)]
        names = [*(moved_name(collection, key) for key in keys), *(plain_name(collection, key) for key in keys)]
        documents = await self._read(names)
        return [
            _own(document, collection, key) or _stray(old, collection, key)
            for document, old, key in zip(documents, documents[len(keys) :], keys, strict=False)
        ]

    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        if is_moved(collection):
            await self._store([(moved_name(collection, entry.key), entry) for entry in entries])
            await self._discard_strays(await self._strays(collection, [entry.key for entry in entries]))
            return
        contested = [entry.key for entry in entries if is_contested(entry.key)]
        if contested and (guests := (await self._guests(collection, contested)).values()):
            # They move out, unless they have expired or were put again at their own place.
            names = [moved_name(guest.collection, guest.key) for guest in guests]
            now, there = clock.now(), await self._peek(names)
            moving = [
                (name, guest) for name, guest, taken in zip(names, guests, there, strict=True) if taken is None and guest.is_live(now)
            ]
            if moving:
                await self._store(moving)
        await self._store([(plain_name(collection, entry.key), entry) for entry in entries])

    async def _delete(self, collection: str, keys: Sequence[str]) -> int:
        now = clock.now()
        if is_moved(collection):
            strays = await self._strays(collection, keys)
            removed = await self._remove([moved_name(collection, key) for key in keys])
            await self._discard_strays(strays)
            gone = {key for key, document in zip(keys, removed, strict=True) if _counts(document, collection, key, now)}
            return len(gone.union(stray.key for stray in strays if stray.is_live(now)))
        contested = [key for key in keys if is_contested(key)]
        if contested:
            guests = await self._guests(collection, contested)
            keys = [key for key in keys if key not in guests]
        removed = await self._remove([plain_name(collection, key) for key in keys]) if keys else ()
        return sum(_counts(document, collection, key, now) for document, key in zip(removed, keys, strict=True))

    async def _guests(self, collection: str, keys: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of moved collections that lie where contested keys of an ordinary collection belong, by those keys."""
        documents = await self._peek([plain_name(collection, key) for key in keys])
        return {
            key: entry
            for document, key in zip(documents, keys, strict=True)
            if (entry := _readable(document))
            and not _is_of(entry, collection, key)
            and plain_name(entry.collection, entry.key) == plain_name(collection, key)
        }

    async def _strays(self, collection: str, keys: Sequence[str]) -> list[Entry]:
        """Return the entries of a moved collection that lie where py-key-value-aio put them."""
        documents = await self._peek([plain_name(collection, key) for key in keys])
        return [entry for document, key in zip(documents, keys, strict=True) if (entry := _stray(document, collection, key))]

    async def _discard_strays(self, strays: Sequence[Entry]) -> None:
        if strays:
            await self._discard([(plain_name(stray.collection, stray.key), stray.document()) for stray in strays])


class EnumerableFlatStore(FlatStore, EnumerableStore):
    """A flat store that can list its names."""

    @abstractmethod
    def _list(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, bytes]], None]:
        """Yield all names that start with a prefix (which may be empty), with their documents, in pages of any size."""

    async def _scan(self, collection: str | None) -> AsyncGenerator[Sequence[Row], None]:
        prefixes = [""] if collection is None else [plain_name(collection, "")]
        if collection is not None and is_moved(collection):
            prefixes.append(moved_name(collection, ""))
        for prefix in prefixes:
            async with aclosing(self._list(prefix)) as pages:
                async for page in pages:
                    entries = [entry for name, document in page if (entry := _listed(name, document))]
                    yield [
                        Row(entry.collection, entry.key, entry.expires_at)
                        for entry in entries
                        if collection is None or entry.collection == collection
                    ]

    async def _cull(self, now: float) -> None:
        async with aclosing(self._list("")) as pages:
            async for page in pages:
                expired = [(name, document) for name, document in page if (entry := _listed(name, document)) and not entry.is_live(now)]
                if expired:
                    await self._discard(expired)


def _is_of(entry: Entry, collection: str, key: str) -> bool:
    return entry.collection == collection and entry.key == key


def _own(document: bytes | None, collection: str, key: str) -> Entry | None:
    """Read the document of a pair; one that says to be of another pair is none."""
    if document is None:
        return None
    entry = Entry.from_document(document, collection, key)
    return entry if entry.collection == collection and entry.key == key else None


def _stray(document: bytes | None, collection: str, key: str) -> Entry | None:
    """Read a document at the old place of a pair; it counts only if it says to be of that pair."""
    entry = _readable(document)
    return entry if entry and _is_of(entry, collection, key) else None


def _readable(document: bytes | None) -> Entry | None:
    """Read a document that may be another program's or damaged, and then is none; so is one that names no collection or key."""
    try:
        entry = None if document is None else Entry.from_document(document, "", "")
    except DeserializationError:
        return None
    return entry if entry is not None and entry.collection and entry.key else None


def _listed(name: str, document: bytes) -> Entry | None:
    """Read a document found by listing; one that is not where this library or its predecessor puts it is none."""
    entry = _readable(document)
    return entry if entry and name in (plain_name(entry.collection, entry.key), name_of(entry.collection, entry.key)) else None


def _counts(document: bytes | None, collection: str, key: str, now: float) -> bool:
    """Return whether what was removed counts as the pair's entry: also if it can't be read, but not if it had expired."""
    try:
        entry = _own(document, collection, key)
    except DeserializationError:
        return True
    return entry is not None and entry.is_live(now)
