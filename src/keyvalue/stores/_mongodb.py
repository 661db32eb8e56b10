"""Entries as documents of MongoDB; what MongoDBStore is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import floor
from typing import Any, cast

import orjson

from keyvalue._core import clock, codec
from keyvalue._core.entry import Entry, unreadable
from keyvalue._core.extras import needs
from keyvalue._core.layout import digest_of
from keyvalue._core.listing import ListedEntry
from keyvalue.errors import ValueTooLargeError

with needs("mongodb"):
    # Before bson, which it brings, so that pymongo is what a message names.
    import pymongo  # noqa: F401 # pyright: ignore[reportUnusedImport]

    # isort: split
    import bson
    from bson.codec_options import CodecOptions, DatetimeConversion
    from bson.datetime_ms import DatetimeMS
    from bson.dbref import DBRef
    from bson.errors import BSONError
    from bson.int64 import Int64
    from bson.raw_bson import RawBSONDocument

__all__ = [
    "HEAD",
    "MAX_SIZE",
    "OVERHEAD",
    "RAW",
    "Fields",
    "documents",
    "entries_in",
    "entries_of",
    "expired",
    "foreign_in",
    "pairs_in",
    "row_of",
    "surplus",
]

MAX_SIZE = 2**24
"""Bytes that a document of MongoDB may have."""

OVERHEAD = 1024
"""Bytes, more than the names of the fields and operators of an update take."""

HEAD = {"_id": 0, "collection": 1, "key": 1, "expires_at": 1, "value.deadline": 1}
"""The fields that `row_of` needs."""

RAW = CodecOptions(document_class=RawBSONDocument)
"""Has a client return documents as they came, so that large ones can be decoded aside."""

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)  # dates may lie anywhere
_LENIENT = _CODEC.with_options(unicode_decode_error_handler="replace")
_NO_ARRAY: dict[str, Any] = {"$not": {"$type": "array"}}  # of which a query would match the elements
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_MAX_DEPTH = 90  # MongoDB promises 100 levels, of which the document takes some
_LONG_NUMBER = re.compile(rb"\d{10}")  # in which 2**31 and more may be written
_DOLLAR_KEY = re.compile(rb'(?<!\\)"\$(?:[^"\\]|\\.)*":')
_ODD = re.compile(rb'\d{10}|(?<!\\)"\$|\\u0000')  # what may not do in BSON, in text that perhaps only looks like it
_SMALL = 2**16
"""Bytes of text whose size in BSON need not be known exactly: an element of an array takes two at least, and 12 there at most."""

Fields = dict[str, Any]


def entries_in(collection: str | None) -> Fields:
    """Return a query for all entries of a collection, or of all."""
    return {
        "collection": {**({"$type": "string"} if collection is None else {"$eq": collection}), **_NO_ARRAY},
        "key": {"$type": "string", **_NO_ARRAY},
        "value.object": {"$type": ["object", "string"]},
    }


def pairs_in(collection: str, keys: Sequence[str]) -> Fields:
    """Return a query for all documents of some keys of a collection."""
    return {"key": {"$in": keys, **_NO_ARRAY}, "collection": {"$eq": collection, **_NO_ARRAY}}


def foreign_in(collection: str, keys: Sequence[str]) -> Fields:
    """Return a query for the documents of some keys that py-key-value-aio made: their `_id` is no text, and so no entry's own."""
    return {**pairs_in(collection, keys), "_id": {"$not": {"$type": "string"}}}


def expired(now: float) -> list[Fields]:
    """Return queries of which one matches what has expired. `expires_at` is rounded up, so its last millisecond is looked at closely."""
    millis = floor(now * 1000)
    return [{"expires_at": {"$lte": DatetimeMS(millis)}}, {"expires_at": DatetimeMS(millis + 1), "value.deadline": {"$lte": now}}]


def documents(entries: Iterable[Entry]) -> list[tuple[str, Fields]]:
    """Return for each entry its `_id` and the other fields of its document."""
    made: list[tuple[str, Fields]] = []
    for entry in entries:
        value, size = _value(entry)
        # The names are twice in an update: in the query as well.
        size += 2 * len((entry.key + entry.collection).encode()) + OVERHEAD
        if size > MAX_SIZE:
            raise ValueTooLargeError(size, MAX_SIZE, entry.collection, entry.key[:1000], limit="a document of MongoDB has 16 MiB at most")
        dates = _dates(entry.created_at, entry.expires_at)
        fields: Fields = {"collection": entry.collection, "key": entry.key, "version": 1, **dates, "value": value}
        made.append((digest_of(entry.collection, entry.key), fields))
    return made


@lru_cache(16)
def _dates(created_at: float | None, expires_at: float | None) -> Mapping[str, DatetimeMS]:
    """Return the dates of a document; those of one put_many are the same."""
    dates: dict[str, DatetimeMS] = {}
    if created_at is not None:
        dates["created_at"] = DatetimeMS(floor(created_at * 1000))
    if expires_at is not None:
        dates["expires_at"] = DatetimeMS(_millis(expires_at))
    return dates


def _value(entry: Entry) -> tuple[Any, int]:
    """Return the field `value` of a document, and how many bytes it may have at most."""
    text = entry.json
    rest = {} if entry.expires_at is None else {"deadline": entry.expires_at}
    if len(text) <= _SMALL and not _ODD.search(text) and not _is_deep(text):
        return {"object": orjson.loads(text), **rest}, 8 * len(text)
    native = _checked(text, rest)
    return RawBSONDocument(native), len(native)


def _checked(text: bytes, rest: Fields) -> bytes:
    """Return the field `value` in BSON: as an object, if it comes back the same, or else as text."""
    if not _DOLLAR_KEY.search(text) and not _is_deep(text):
        try:
            native = bson.encode({"object": codec.decode(text), **rest})
            if _LONG_NUMBER.search(text):
                # An integer of 64 bits comes back as something else, which orjson refuses.
                back = bson.decode(native, _CODEC)  # pyright: ignore[reportUnknownMemberType] # for the types of buffer that it takes
                orjson.dumps(back, option=_OPTIONS)
            if len(native) <= max(MAX_SIZE - 2 * OVERHEAD, len(text)):
                return native
        except (BSONError, OverflowError, TypeError):
            pass
    return bson.encode({"object": text.decode(), **rest})


def _is_deep(text: bytes) -> bool:
    """Return whether a value may have too many levels."""
    if len(text) < _MAX_DEPTH or text.count(b"{") + text.count(b"[") <= _MAX_DEPTH:
        return False
    level: list[Any] = [codec.decode(text)]
    for _ in range(_MAX_DEPTH + 1):
        below: list[Any] = []
        for one in level:
            below += cast("Iterable[Any]", one.values() if isinstance(one, dict) else one)
        level = [one for one in below if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def entries_of(found: Iterable[RawBSONDocument], collection: str, keys: Iterable[str]) -> dict[str, Entry]:
    """Read the documents that were found for some keys, except those that are about another pair.

    If there are several for one, the one that has its `_id` counts, so that all processes agree; else the first; in either case
    before those that have expired.
    """
    by_key: dict[str, list[Fields]] = {key: [] for key in keys}
    for raw in found:
        fields = _decoded(raw)
        key = fields.get("key")
        if type(key) is str and key in by_key and fields.get("collection") == collection:
            by_key[key].append(fields)
    return {key: _entry_of(_preferred(several, collection, key), collection, key) for key, several in by_key.items() if several}


def surplus(found: Iterable[RawBSONDocument], collection: str) -> list[Any]:
    """Return the `_id` of all documents that were found but one of each key: its own, or else the first."""
    by_key: dict[str, list[Any]] = {}
    for raw in found:
        fields = _decoded(raw)
        by_key.setdefault(fields["key"], []).append(fields["_id"])
    rest: list[Any] = []
    for key, places in by_key.items():
        own = digest_of(collection, key)
        rest += [place for place in places if place != own] if own in places else places[1:]
    return rest


def _decoded(raw: RawBSONDocument) -> Fields:
    try:
        return bson.decode(raw.raw, _CODEC)  # pyright: ignore[reportUnknownMemberType] # for the types of buffer that it takes
    except BSONError:  # not UTF-8: its names may be readable nevertheless
        return {**bson.decode(raw.raw, _LENIENT), "value": None}  # pyright: ignore[reportUnknownMemberType] # likewise


def _preferred(several: Sequence[Fields], collection: str, key: str) -> Fields:
    if len(several) == 1:
        return several[0]
    now = clock.now()
    live = [fields for fields in several if not _is_expired(fields, now)]
    own = digest_of(collection, key)
    return next((fields for fields in live if fields["_id"] == own), (live or several)[0])


def _is_expired(fields: Fields, now: float) -> bool:
    try:
        deadline = _deadline(fields)
    except ValueError:
        return False
    return deadline is not None and deadline <= now


def _entry_of(fields: Fields, collection: str, key: str) -> Entry:
    """Read a document that was found for a pair."""
    try:
        held = fields.get("value")
        value: Any = cast("Fields", held).get("object") if type(held) is dict else None
        if type(value) is str:
            text = value.encode()
            value = codec.decode(text)
        else:
            value, text = _as_json(value)
        if type(value) is not dict:
            raise ValueError("it has no field `value.object` that holds an object")
        if fields.get("version", 1) != 1:
            raise ValueError("its version is not 1; a newer version of this library may read it")
        return Entry(collection, key, cast("Fields", value), text, None, _deadline(fields))
    except ValueError as error:
        reason = str(error) if type(error) is ValueError else "it is not a valid document"
    raise unreadable(collection, key, reason)


def row_of(raw: RawBSONDocument) -> ListedEntry | None:
    """Read what a listing needs of a document; one that is damaged is none."""
    fields = _decoded(raw)
    try:
        return ListedEntry(fields["collection"], fields["key"], _deadline(fields))
    except ValueError:
        return None


def _as_json(value: object) -> tuple[object, bytes]:
    """Return a value that was read from BSON with the types that JSON has, and its JSON text."""
    try:
        text = orjson.dumps(value, option=_OPTIONS)
    except TypeError:
        value = _plain(value)
        text = orjson.dumps(value)
    if text.find(b"null") >= 0 and orjson.loads(text) != value:  # not a number, or infinite
        text = json.dumps(value).encode()
    return value, text


def _plain(value: object) -> Any:
    """Return a value with what BSON makes of numbers and references turned back into what JSON has."""
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_plain(item) for item in cast("list[object]", value)]
    if isinstance(value, Int64):
        return int(value)
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise ValueError(f"its value holds something of type {type(value).__name__}, which JSON has no form for")


def _deadline(fields: Fields) -> float | None:
    """Return when a document expires: exactly, if `value.deadline` belongs to `expires_at`."""
    expires_at = fields.get("expires_at")
    if expires_at is None:
        return None
    if not isinstance(expires_at, DatetimeMS):
        raise ValueError("its field `expires_at` is not a date")
    held = fields.get("value")
    exact: Any = cast("Fields", held).get("deadline") if isinstance(held, dict) else None
    return exact if type(exact) is float and _millis(exact) == int(expires_at) else int(expires_at) / 1000


def _millis(seconds: float) -> int:
    """Return a moment in milliseconds, rounded up, but not out of the year 9999."""
    return min(-(-round(seconds * 1e6) // 1000), 253_402_300_799_999)
