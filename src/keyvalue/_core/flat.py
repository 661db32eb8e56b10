"""Stores whose backend is one flat space of names, each holding one JSON document.

`Names` says under which names a pair of collection and key may lie. Most pairs have one *place*. Some have several, because
py-key-value-aio gives different pairs the same name: a place is *shared* if another pair's document may lie there, and *home* if not.
A document counts only if the collection and key in it are those of the pair.

A put goes to the first place of the pair that no other pair's entry holds, which at the latest is its home, and removes the
pair's older documents from the other places. So whatever was stored is found, and no two pairs ever meet.
"""

from __future__ import annotations

import hashlib
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import repeat
from typing import Literal, NamedTuple, TypeVar

from keyvalue._core import clock, runtime
from keyvalue._core.codec import LARGE
from keyvalue._core.entry import Entry
from keyvalue._core.store import BaseStore, EnumerableStore, Row
from keyvalue.errors import DeserializationError, ValueTooLargeError

__all__ = [
    "PAGE",
    "PAGE_SIZE",
    "UNREADABLE",
    "Change",
    "CompoundNames",
    "EnumerableFlatStore",
    "FittingNames",
    "FlatStore",
    "Names",
    "Place",
    "digest",
    "digest_of",
    "is_settled",
    "take_page",
    "too_large",
]

D = TypeVar("D", bound="bytes | None")
N = TypeVar("N")
T = TypeVar("T")

PAGE = 500
"""How many documents a page of a listing has at most."""
PAGE_SIZE = 2**21
"""Bytes of documents with which a page of a listing ends."""

UNREADABLE = b""
"""What a store returns for a row that must not or can't be read: no document."""


class Place(NamedTuple):
    """A name under which the document of a pair may lie.

    Attributes:
        name: The name.
        shared: Whether another pair's document may lie there.
        strict: Whether only a document that names the pair counts as the pair's; elsewhere, so does one that names none.
    """

    name: str
    shared: bool = False
    strict: bool = False


class Change(NamedTuple):
    """A compare-and-set of one name.

    Attributes:
        name: The name.
        expected: The document that must be there for the change to be made; None if there must be none.
        entry: The entry to store; None to remove what is there.
    """

    name: str
    expected: bytes | None
    entry: Entry | None


class Names(ABC):
    """Where the documents of a flat store lie."""

    @abstractmethod
    def places(self, collection: str, key: str) -> Sequence[Place]:
        """Return the places of a pair. At least one is home; those behind it are only read and cleared."""

    @abstractmethod
    def prefixes(self, collection: str) -> Sequence[str]:
        """Return what the names of all places of a collection's pairs start with; none of them starts with another."""

    def single(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        """Return the names of pairs that all have one place, or None if some have more."""
        return None


class CompoundNames(Names):
    """The names `<collection>::<key>`, which is how py-key-value-aio names pairs.

    A name is read back by splitting it at the first `::`, so a collection that holds `::` or ends with `:` would be mistaken for another.
    The home of such a pair is `<collection>~:<key>`, where in both parts `~` is written `~0` and `:` is written `~1`: no such name holds
    `::`, and none is meant twice. py-key-value-aio puts those pairs under the plain name too; so that place is read, and cleared, but
    never written. A pair whose plain name may be taken by such a one has a home of that form as well, for as long as it is taken.
    """

    def places(self, collection: str, key: str) -> Sequence[Place]:
        """Return the places of a pair."""
        plain = f"{collection}::{key}"
        if _is_mistakable(collection):
            return Place(_escaped(collection, key)), Place(plain, shared=True, strict=True)
        if _is_contested(key):
            return Place(plain, shared=True), Place(_escaped(collection, key))
        return (Place(plain),)

    def prefixes(self, collection: str) -> Sequence[str]:
        """Return what the names of a collection start with."""
        return f"{collection}::", _escaped(collection, "")

    def single(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        """Return the plain names of pairs, if these are all that they can have."""
        if _is_mistakable(collection) or any(map(_is_contested, keys)):
            return None
        return [f"{collection}::{key}" for key in keys]


class FittingNames(CompoundNames):
    """Compound names for a backend that can't hold all of them. A pair whose name does not fit, or may be another's, has a digest as home.

    Args:
        is_plain: Whether pairs lie under the names themselves, each under its own.
        is_sharing: Whether any two pairs may have one name, as sanitization or the backend has it.
    """

    def __init__(self, *, is_plain: bool, is_sharing: bool) -> None:
        self._is_plain = is_plain
        self._is_sharing = is_sharing

    @abstractmethod
    def _fits(self, name: str) -> bool:
        """Return whether the backend can hold a name."""

    def _parts(self, collection: str, key: str) -> tuple[str, str]:
        """Return what a name is made of."""
        return collection, key

    def _given(self, name: str) -> str:
        """Return what is in use for a name."""
        return name

    def places(self, collection: str, key: str) -> Sequence[Place]:
        """Return the places of a pair."""
        found: list[Place] = []
        for name, is_shared, is_strict in super().places(*self._parts(collection, key)):
            given = self._given(name)
            may_be_shared = is_shared or self._is_sharing or given != name
            fits = self._fits(given)
            if fits:
                found.append(Place(given, may_be_shared, is_strict))
            if not is_shared and (may_be_shared or not fits):
                found.append(Place(digest_of(collection, key)))
        return found

    def single(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        """Return the names of pairs that all have one place, or None if some have more."""
        names = super().single(collection, keys)
        if names is None or (self._is_plain and all(map(self._fits, names))):
            return names
        places = [self.places(collection, key) for key in keys]
        return [place.name for (place, *_) in places] if all(len(some) == 1 for some in places) else None


def _is_mistakable(collection: str) -> bool:
    return ":" in collection and ("::" in collection or collection.endswith(":"))


def _is_contested(key: str) -> bool:
    return ":" in key and ("::" in key or key.startswith(":"))


def _escaped(collection: str, key: str) -> str:
    return f"{collection.replace('~', '~0').replace(':', '~1')}~:{key.replace('~', '~0').replace(':', '~1')}"


def digest(text: str) -> str:
    """Return `~` and the 64 hexadecimal digits of the SHA-256 of a text in UTF-8: a name for what a backend can't name."""
    return "~" + hashlib.sha256(text.encode()).hexdigest()


def digest_of(collection: str, key: str) -> str:
    """Return the digest of `<characters in the collection>:<collection>:<key>`, which no two pairs have in common."""
    return digest(f"{len(collection)}:{collection}:{key}")


def is_settled(text: str) -> bool:
    """Return whether all characters are of an old Unicode (3.2), so that Python and servers of any version agree about them."""
    return text.isascii() or all(unicodedata.ucd_3_2_0.category(character) != "Cn" for character in text)


def too_large(entries: Sequence[Entry], limit: int | None, what: str | None = None) -> ValueTooLargeError | None:
    """Return the error for the first entry with a document larger than the backend takes, or None.

    Args:
        entries: What was to be put.
        limit: How many bytes the backend takes. None if only that it refused one of the entries is known: the largest is meant.
        what: What sets the limit, for the message.
    """
    if limit is None:
        entries = [max(entries, key=lambda entry: len(entry.json))]
    for entry in entries:
        # Its exact size is only known by writing it.
        if limit is None or len(entry.json) + 6 * len(entry.collection + entry.key) + 200 > limit:
            size = len(entry.document())
            if limit is None or size > limit:
                return ValueTooLargeError(size, limit, entry.collection, entry.key, limit=what)
    return None


Found = Sequence[tuple[Place, "bytes | None"]]
"""The places of a pair, and what lies there."""


class FlatStore(BaseStore):
    """A store over a flat space of names; a subclass reads and writes documents by name.

    What it writes returns awaitables: its methods may be coroutines, or return what `_use` returns.

    Attributes:
        names: Where the pairs lie.
    """

    names: Names = CompoundNames()

    @abstractmethod
    def _read(self, names: Sequence[str]) -> Awaitable[Sequence[bytes | None]]:
        """Return the documents under distinct names, aligned with them."""

    def _peek(self, names: Sequence[str]) -> Awaitable[Sequence[bytes | None]]:
        """Like `_read`, for names under which another program's data of another kind may lie; that counts as nothing."""
        return self._read(names)

    @abstractmethod
    def _store(self, entries: Sequence[tuple[str, Entry]]) -> Awaitable[object]:
        """Store the document of each entry under its name, in place of what was there."""

    @abstractmethod
    def _exchange(self, changes: Sequence[Change]) -> Awaitable[Sequence[object]]:
        """Make each change whose name still has the document that it expects; return which were made. Each is atomic by itself."""

    def _remove(self, names: Sequence[str]) -> Awaitable[Sequence[bytes | None]]:
        """Remove distinct names and return what was removed, aligned with them. To be overridden where one call does it."""
        return self._exchange_for_nothing(names)

    async def _exchange_for_nothing(self, names: Sequence[str]) -> Sequence[bytes | None]:
        removed: dict[str, bytes | None] = {}
        left = list(names)
        while left:
            found = dict(zip(left, await self._read(left), strict=True))
            changes = [Change(name, document, None) for name, document in found.items() if document is not None]
            made = await self._exchange(changes) if changes else ()
            left = [change.name for change, was_made in zip(changes, made, strict=True) if not was_made]
            removed |= {name: document for name, document in found.items() if name not in left}
        return [removed[name] for name in names]

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        names = self.names.single(collection, keys)
        if names is not None:
            documents = await self._read(names)
            if len(documents) != len(keys):
                raise self._author_error(
                    "_read", f"returned {len(documents)} documents for {len(keys)} names; it must return one for each, or None"
                )
            if len(keys) == 1 and len(documents[0] or b"") <= LARGE:
                return (_own(documents[0], collection, keys[0]),)
            return await _reading(documents, lambda: list(map(_own, documents, repeat(collection), keys)))
        found = await self._look(collection, keys)
        return await _reading(_documents(found), partial(_first_own, collection, keys, found))

    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        names = self.names.single(collection, [entry.key for entry in entries])
        if names is not None:
            await self._store(list(zip(names, entries, strict=True)))
            return
        while entries:
            found = await self._look(collection, [entry.key for entry in entries])
            plan = await _reading(_documents(found), partial(_plan, collection, entries, found, clock.now()))
            if plan.home:
                await self._store(plan.home)
            made = await self._exchange([change for change, _ in plan.shared]) if plan.shared else ()
            entries = [entry for (_, entry), was_made in zip(plan.shared, made, strict=True) if not was_made]
            obsolete = [change for change, entry in plan.older if entry not in entries]
            if obsolete:
                await self._exchange(obsolete)

    async def _delete(self, collection: str, keys: Sequence[str]) -> int:
        now = clock.now()
        names = self.names.single(collection, keys)
        if names is not None:
            removed = await self._remove(names)
            return await _reading(removed, lambda: sum(map(_counts, removed, repeat(collection), keys, repeat(now))))
        gone: set[str] = set()
        while keys:
            found = await self._look(collection, keys)
            own = await _reading(_documents(found), partial(_own_places, collection, keys, found, now))
            made = await self._exchange([row.change for row in own]) if own else ()
            gone |= {row.key for row, was_made in zip(own, made, strict=True) if was_made and row.is_live}
            # Somebody may be moving what lay in an old place, and have made a copy that was not there to see.
            keys = list(dict.fromkeys(row.key for row, was_made in zip(own, made, strict=True) if row.is_strict or not was_made))
        return len(gone)

    async def _look(self, collection: str, keys: Sequence[str]) -> list[Found]:
        """Return the places of pairs and what lies there."""
        places = [self.names.places(collection, key) for key in keys]
        # A put stores a document in its new place before it removes it from an old one, which comes later here: read the other way round,
        # it is found in one of them.
        backwards = [place for some in places for place in reversed(some)]
        documents: dict[str, bytes | None] = {}
        for read, names in (
            (self._peek, [place.name for place in backwards if place.strict]),
            (self._read, [place.name for place in backwards if not place.strict]),
        ):
            distinct = list(dict.fromkeys(names))
            if distinct:
                documents |= zip(distinct, await read(distinct), strict=True)
        return [[(place, documents[place.name]) for place in some] for some in places]


class EnumerableFlatStore(FlatStore, EnumerableStore):
    """A flat store that can list its names."""

    @abstractmethod
    def _list(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, bytes]], None]:
        """Yield all names that start with a prefix (which may be empty), with their documents.

        A page may have any number of them, but should end with `PAGE_SIZE` bytes, as that of `take_page` does: all are held in memory.
        """

    async def _scan(self, collection: str | None) -> AsyncGenerator[Sequence[Row], None]:
        for prefix in [""] if collection is None else self.names.prefixes(collection):
            async with aclosing(self._list(prefix)) as pages:
                async for page in pages:
                    yield [row for _, _, row in await self._rows_in(page) if collection is None or row.collection == collection]

    async def _cull(self, now: float) -> None:
        async with aclosing(self._list("")) as pages:
            async for page in pages:
                expired = [
                    Change(name, document, None)
                    for name, document, row in await self._rows_in(page)
                    if row.expires_at is not None and row.expires_at <= now
                ]
                if expired:
                    await self._exchange(expired)

    async def _rows_in(self, page: Sequence[tuple[str, bytes]]) -> Sequence[tuple[str, bytes, Row]]:
        """Read the documents found by listing; one that is at no place of the pair that it names is none."""
        found = await _reading((document for _, document in page), lambda: [(name, document, _row(document)) for name, document in page])
        rows: list[tuple[str, bytes, Row]] = []
        for name, document, row in found:
            if row is None:
                continue
            places = [place.name for place in self.names.places(row.collection, row.key)]
            if name in places:
                rows.append((name, document, row))
                continue
            # A file system that ignores case may spell a name in its own way.
            alike = [place for place in places if place.casefold() == name.casefold()]
            if alike and document in await self._read(alike):
                rows.append((name, document, row))
        return rows


def take_page(rows: Iterable[tuple[N, D]]) -> list[tuple[N, D]]:
    """Take the first of some rows, each a name and a document that is read when its turn comes, until a page is full."""
    page: list[tuple[N, D]] = []
    size = 0
    for row in rows:
        page.append(row)
        size += len(row[1] or b"")
        if len(page) >= PAGE or size >= PAGE_SIZE:
            break
    return page


async def _reading(documents: Iterable[bytes | None], read: Callable[[], T]) -> T:
    """Call what reads some documents, off the event loop if they are large."""
    if sum(len(document) for document in documents if document is not None) > LARGE:
        return await runtime.aside(read)
    return read()


def _documents(found: Sequence[Found]) -> Iterable[bytes | None]:
    return (document for places in found for _, document in places)


def _own(document: bytes | None, collection: str, key: str, strict: bool = False) -> Entry | None:
    """Read what lies at a place of a pair; what says to be of another pair is none."""
    if document is None:
        return None
    entry = _named(document) if strict else Entry.from_document(document, collection, key)
    return entry if entry is not None and entry.collection == collection and entry.key == key else None


def _first_own(collection: str, keys: Sequence[str], found: Sequence[Found]) -> list[Entry | None]:
    return [
        next((entry for place, document in places if (entry := _own(document, collection, key, place.strict))), None)
        for key, places in zip(keys, found, strict=True)
    ]


class _Plan(NamedTuple):
    """What a put does: entries for their homes, entries for places that others may want too, and documents to remove then."""

    home: list[tuple[str, Entry]]
    shared: list[tuple[Change, Entry]]
    older: list[tuple[Change, Entry]]


def _plan(collection: str, entries: Sequence[Entry], found: Sequence[Found], now: float) -> _Plan:
    plan = _Plan([], [], [])
    claimed: set[str] = set()
    for entry, places in zip(entries, found, strict=True):
        is_placed = False
        for place, document in places:
            whose = _whose(document, collection, entry.key, place.strict, now)
            if not is_placed and not place.shared:
                plan.home.append((place.name, entry))
                is_placed = True
            elif not is_placed and whose != "another's" and place.name not in claimed:
                plan.shared.append((Change(place.name, document, entry), entry))
                claimed.add(place.name)
                is_placed = True
            elif whose == "own":
                plan.older.append((Change(place.name, document, None), entry))
    return plan


class _OwnRow(NamedTuple):
    """How to remove what is a pair's, of which key it is, whether it counts as an entry, and whether it lies in a strict place."""

    change: Change
    key: str
    is_live: bool
    is_strict: bool


def _own_places(collection: str, keys: Sequence[str], found: Sequence[Found], now: float) -> list[_OwnRow]:
    return [
        _OwnRow(Change(place.name, document, None), key, _counts(document, collection, key, now), place.strict)
        for key, places in zip(keys, found, strict=True)
        for place, document in places
        if _whose(document, collection, key, place.strict, now) == "own"
    ]


def _whose(document: bytes | None, collection: str, key: str, strict: bool, now: float) -> Literal["nobody's", "own", "another's"]:
    """Tell whose what lies at a place of a pair is: what can't be read is the pair's, unless the place is strict."""
    if document is None:
        return "nobody's"
    try:
        entry = Entry.from_document(document, "", "")
    except DeserializationError:
        return "nobody's" if strict else "own"
    if strict and not (entry.collection and entry.key):
        return "nobody's"
    if entry.collection in ("", collection) and entry.key in ("", key):
        return "own"
    return "another's" if entry.is_live(now) else "nobody's"


def _named(document: bytes) -> Entry | None:
    """Read a document that may be another program's or damaged, and then is none; so is one that names no collection or key."""
    try:
        entry = Entry.from_document(document, "", "")
    except DeserializationError:
        return None
    return entry if entry.collection and entry.key else None


def _row(document: bytes) -> Row | None:
    """Read what a listing needs of a document, without keeping its value."""
    entry = _named(document)
    return None if entry is None else Row(entry.collection, entry.key, entry.expires_at)


def _counts(document: bytes | None, collection: str, key: str, now: float) -> bool:
    """Return whether what was removed counts as the pair's entry: also if it can't be read, but not if it had expired."""
    try:
        entry = _own(document, collection, key)
    except DeserializationError:
        return True
    return entry is not None and entry.is_live(now)
