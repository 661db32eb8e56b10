"""A stored entry, and its JSON document, the form in which most backends hold it.

The document, an object in UTF-8 (the layout of py-key-value-aio, which reads and writes the same):

| field        | type   |                                                                            |
|--------------|--------|----------------------------------------------------------------------------|
| `version`    | int    | always 1; missing is taken for 1                                           |
| `collection` | str    | the collection's name as the caller gave it                                |
| `key`        | str    | the key as the caller gave it                                              |
| `created_at` | str    | ISO 8601 with offset, microseconds; may be missing                         |
| `expires_at` | str    | the same; missing if the entry never expires. It alone decides on expiry   |
| `value`      | object | the value, in its own key order; a str is taken for JSON text of the value |
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache, partial
from math import isnan
from typing import Any, NamedTuple, TypeVar, cast

import orjson

from keyvalue._core import clock, codec, runtime
from keyvalue.errors import DeserializationError, ValueTooLargeError

__all__ = [
    "CompareAndSet",
    "Entry",
    "Stored",
    "find_too_large",
    "live_entries",
    "read_aside",
    "read_values",
    "unreadable",
    "values_with_ttls",
]

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NO_DOCUMENT = "it is not a valid JSON document"
_LONG = 2**16  # bytes; an integer of so many digits takes some 10 ms to read


class Entry:
    """One entry, as the core passes it to a store and gets it back.

    Attributes:
        key: The key, as the caller gave it.
        collection: The collection, as the caller gave it.
        created_at: The time of the put in seconds since the epoch; None if unknown.
        expires_at: The expiry in seconds since the epoch; None if it never expires.
    """

    __slots__ = ("_document", "_json", "_value", "collection", "created_at", "expires_at", "key")

    def __init__(
        self,
        collection: str,
        key: str,
        value: dict[str, Any] | None = None,
        json: bytes | None = None,
        created_at: float | None = None,
        expires_at: float | None = None,
        document: bytes | None = None,
    ) -> None:
        self.collection: str = collection
        self.key: str = key
        self._value = value
        self._json = json
        self.created_at: float | None = created_at
        self.expires_at: float | None = expires_at
        self._document = document

    @property
    def json(self) -> bytes:
        """The value as JSON text in UTF-8."""
        if self._json is None:
            self._json = codec.encode(self.value())
        return self._json

    @property
    def is_large(self) -> bool:
        """Whether decoding `value` would block an event loop for too long."""
        if self._value is not None:
            return False
        # The value is left unread where it holds integers that take long.
        return len(self._document or b"") > _LONG if self._json is None else len(self._json) > codec.LARGE

    def value(self) -> dict[str, Any]:
        """Return the value as a new object."""
        value, self._value = self._value, None
        if value is not None:
            return value
        if self._json is None and self._document is not None:
            value = codec.decode(self._document)["value"]
            return codec.decode(value) if type(value) is str else value
        return codec.decode(self.json)

    @staticmethod
    def values(entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Return the values of many entries, as new objects."""
        if any(entry._json is None or entry._value is not None for entry in entries):
            return [entry.value() for entry in entries]
        return codec.decode_many([entry.json for entry in entries])

    def is_live(self, now: float) -> bool:
        """Return whether the entry has not expired at `now`."""
        return self.expires_at is None or self.expires_at > now

    def document(self) -> bytes:
        """Return the JSON document of this entry, unchanged if it was read from one."""
        if self._document is not None:
            return self._document
        return b'%b%b,"value":%b}' % (_head(self.collection, self.created_at, self.expires_at), orjson.dumps(self.key), self.json)

    @classmethod
    def from_json(
        cls, json: bytes, collection: str, key: str, *, created_at: float | None = None, expires_at: float | None = None
    ) -> Entry:
        """Create an entry from parts that a backend keeps apart, such as in columns, and check its value.

        Args:
            json: The value as JSON text in UTF-8, as from `json`.
            collection: The collection.
            key: The key.
            created_at: Seconds since the epoch, or None if that was not kept.
            expires_at: Seconds since the epoch, or None if it never expires.

        Raises:
            DeserializationError: The text is not a JSON object, or a date is not a number.
        """
        for date in (created_at, expires_at):
            if date is not None and not _is_number(date):
                raise unreadable(collection, key, "one of its dates is not a number")
        long_integers: list[str] = []
        try:
            value: Any = codec.decode(json, long_integers)
        except ValueError:
            value = None
        if type(value) is not dict:
            raise unreadable(collection, key, "its value is not a JSON object")
        return cls(collection, key, None if long_integers else cast("dict[str, Any]", value), json, created_at, expires_at)

    @classmethod
    def from_document(cls, document: bytes, collection: str, key: str) -> Entry:
        """Read a document, in time linear in its length. It does not read `created_at`, which nothing uses.

        Args:
            document: The JSON text, in UTF-8.
            collection: The collection it was looked for under; taken for its own if it names none.
            key: The key, in the same way.

        Raises:
            DeserializationError: It is not such a document.
        """
        long_integers: list[str] = []
        try:
            fields: Any = codec.decode(document, long_integers)
            if type(fields) is not dict:
                raise ValueError("it is not a JSON object")
            get: Callable[..., Any] = fields.get  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] # JSON
            value = get("value")
            if type(value) is str:
                value = codec.decode(value, long_integers)
            if type(value) is not dict:
                raise ValueError("it has no field `value` that is an object")
            if get("version", 1) != 1:
                raise ValueError("its version is not 1; a newer version of this library may read it")
            own_collection, own_key, expires_at = get("collection"), get("key"), get("expires_at")
            if not (own_collection is None or type(own_collection) is str) or not (own_key is None or type(own_key) is str):
                raise ValueError("its collection or key is not a string")
            return cls(
                collection if own_collection is None else own_collection,
                key if own_key is None else own_key,
                None if long_integers else value,  # pyright: ignore[reportUnknownArgumentType] # JSON
                None,
                None,
                None if expires_at is None or expires_at == "" else _from_iso(expires_at),
                document,
            )
        except (ValueError, TypeError, OverflowError, AttributeError) as error:
            reason = _reason(error)
        # Raised out here, so that it does not hold on to the decoder's error, which carries the whole text.
        raise unreadable(collection, key, reason)


class Stored:
    """The content of a name in a flat store.

    Args:
        document: The JSON document in UTF-8; None if the content is not a document or must not be read, such as a pickle.
        version: At most 80 characters of `[A-Za-z0-9._-]`. Equal versions mean equal values and deadlines. Default: the SHA-256 of the
            document in hexadecimal, or "unreadable".
    """

    __slots__ = ("_version", "document")

    def __init__(self, document: bytes | None, version: str | None = None) -> None:
        self.document: bytes | None = document
        self._version = version

    @property
    def version(self) -> str:
        """The version; see the class."""
        if self._version is not None:
            return self._version
        return "unreadable" if self.document is None else hashlib.sha256(self.document).hexdigest()

    @property
    def size(self) -> int:
        """The size of the document in bytes."""
        return len(self.document or b"")

    def any_entry(self, collection: str, key: str) -> Entry:
        """Return the entry, whichever pair the document names.

        Args:
            collection: The collection it was looked for under; taken for its own if it names none.
            key: The key, in the same way.

        Raises:
            DeserializationError: It can't be read.
        """
        if self.document is None:
            raise unreadable(collection, key, _NO_DOCUMENT)
        return Entry.from_document(self.document, collection, key)

    def entry(self, collection: str, key: str) -> Entry | None:
        """Return the entry of a pair; None if the document names another pair.

        Raises:
            DeserializationError: It can't be read.
        """
        if self.document is None:
            raise unreadable(collection, key, _NO_DOCUMENT)
        entry = Entry.from_document(self.document, collection, key)
        return entry if entry.collection == collection and entry.key == key else None

    def named_entry(self) -> Entry | None:
        """Return the entry of a document that names its pair; None for other documents, such as foreign or damaged ones."""
        try:
            entry = self.any_entry("", "")
        except DeserializationError:
            return None
        return entry if entry.collection and entry.key else None

    def is_live_entry(self, collection: str, key: str, now: float) -> bool:
        """Return whether this counts as the pair's entry at `now`: not if it has expired, but also if it can't be read."""
        try:
            entry = self.entry(collection, key)
        except DeserializationError:
            return True
        return entry is not None and entry.is_live(now)


class CompareAndSet(NamedTuple):
    """A change of one name, to be applied only if the name has the expected version.

    Attributes:
        name: The name.
        version: The expected version; None if the name must not exist.
        entry: The entry to store; None to remove the name.
    """

    name: str
    version: str | None
    entry: Entry | None


def live_entries(entries: Sequence[Entry | None]) -> list[Entry | None]:
    """Return entries, with None for those that have expired."""
    now = clock.now()
    return [entry if entry is not None and entry.is_live(now) else None for entry in entries]


async def read_values(entries: Sequence[Entry | None]) -> list[dict[str, Any] | None]:
    """Return the values of entries, decoded off the event loop if one of them is large."""
    there = [entry for entry in entries if entry is not None]
    decode = partial(Entry.values, there)
    values = iter(await runtime.run_in_worker(decode) if any(entry.is_large for entry in there) else decode())
    return [None if entry is None else next(values) for entry in entries]


async def values_with_ttls(entries: Sequence[Entry | None]) -> list[tuple[dict[str, Any] | None, float | None]]:
    """Return the values of entries that have not expired, each with the seconds that it has left."""
    now = clock.now()
    live = [entry if entry is not None and entry.is_live(now) else None for entry in entries]
    left = [None if entry is None or entry.expires_at is None else entry.expires_at - now for entry in live]
    return list(zip(await read_values(live), left, strict=True))


async def read_aside(stored: Iterable[Stored | None], read: Callable[[], T]) -> T:
    """Call a function that reads documents, off the event loop if they are large."""
    if sum(each.size for each in stored if each is not None) > codec.LARGE:
        return await runtime.run_in_worker(read)
    return read()


def find_too_large(entries: Sequence[Entry], limit: int | None, what: str | None = None) -> ValueTooLargeError | None:
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


@lru_cache(16)  # entries that are put together share theirs
def _head(collection: str, created_at: float | None, expires_at: float | None) -> bytes:
    """Return the document of an entry up to the key."""
    head: dict[str, Any] = {"version": 1, "collection": collection}
    if created_at is not None:
        head["created_at"] = _moment(created_at)
    if expires_at is not None:
        head["expires_at"] = _moment(expires_at)
    return orjson.dumps(head)[:-1] + b',"key":'


def unreadable(collection: str, key: str, why: str) -> DeserializationError:
    """Return the error for an entry that is there and can't be read."""
    return DeserializationError(
        f"The stored entry can't be read: {why}. Delete or overwrite the key to be rid of it", {"collection": collection, "key": key}
    )


def _reason(error: Exception) -> str:
    # A decoder's message may quote the text, which may be a secret.
    return str(error) if type(error) is ValueError else _NO_DOCUMENT


def _is_number(date: object) -> bool:
    return isinstance(date, float | int) and not isnan(date)


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(0, seconds)  # orjson writes it as isoformat() does; fromtimestamp() ends with the year 3000 on Windows


def _from_iso(text: object) -> float:
    if not isinstance(text, str):
        raise ValueError("one of its dates is not a string")
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        raise ValueError("one of its dates is not ISO 8601") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
