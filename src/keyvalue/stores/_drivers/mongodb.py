"""Entries as documents of MongoDB, and the queries for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from math import floor
from typing import Any, cast

import orjson

from keyvalue._core import codec
from keyvalue._core.entry import Entry, unreadable
from keyvalue._core.extras import needs
from keyvalue._core.layout import digest, digest_of
from keyvalue._core.listing import ListedEntry
from keyvalue.errors import ValueTooLargeError
from keyvalue.stores._drivers.batches import split_batches

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

Fields = dict[str, Any]

ROW_FIELDS = {"_id": 0, "collection": 1, "key": 1, "expires_at": 1, "value.deadline": 1}
"""The fields that `read_row` needs."""

_CODEC: CodecOptions[Fields] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)  # dates may lie anywhere
_LENIENT = _CODEC.with_options(unicode_decode_error_handler="replace")
_JSON = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_NO_ARRAY: Fields = {"$not": {"$type": "array"}}  # of which a query would match the elements
_MAX_SIZE = 2**24  # bytes of a document
_OVERHEAD = 1024  # bytes, more than the names of the fields and operators of an update take
_MAX_DEPTH = 90  # MongoDB promises 100 levels, of which the document takes some
_BATCH = 2**23  # bytes of keys in one command
_PER_KEY = 80  # bytes beside those of a key, and more than an `_id` takes
_UNUSABLE = re.compile(r"[$\0]|\.\.|^\.|\.$|^system\.|\.system\.|^~[0-9a-f]{64}$|^$")


# Documents


def encode_entries(entries: Iterable[Entry]) -> list[tuple[str, Fields]]:
    """Return for each entry its `_id` and the other fields of its document."""
    documents: list[tuple[str, Fields]] = []
    for entry in entries:
        value = _encode_value(entry.json, {} if entry.expires_at is None else {"deadline": entry.expires_at})
        # The names are twice in an update: in the query as well.
        size = len(value.raw) + 2 * len((entry.key + entry.collection).encode()) + _OVERHEAD
        if size > _MAX_SIZE:
            raise ValueTooLargeError(size, _MAX_SIZE, entry.collection, entry.key[:1000], limit="a document of MongoDB has 16 MiB at most")
        fields: Fields = {"collection": entry.collection, "key": entry.key, "version": 1, "value": value}
        if entry.created_at is not None:
            fields["created_at"] = DatetimeMS(floor(entry.created_at * 1000))
        if entry.expires_at is not None:
            fields["expires_at"] = DatetimeMS(_to_milliseconds(entry.expires_at))
        documents.append((digest_of(entry.collection, entry.key), fields))
    return documents


def encode_update(document_id: str, fields: Fields) -> Fields:
    """Return the update that puts an entry into a document of any `_id`, or makes one with its own."""
    update: Fields = {"$set": fields, "$setOnInsert": {"_id": document_id}}
    if "expires_at" not in fields:
        update["$unset"] = {"expires_at": ""}
    return update


def _encode_value(text: bytes, rest: Fields) -> RawBSONDocument:
    """Return the field `value`: with the value as a document if that comes back exactly the same, or else as its JSON text."""
    try:
        value = orjson.loads(text)  # integers beyond 64 bits become floats, which are other text, or are refused
        is_plain = text.find(b'"$') < 0 and (len(text) < _MAX_DEPTH or text.count(b"{") + text.count(b"[") <= _MAX_DEPTH)
        if is_plain or _is_storable(value):
            native = bson.encode({"object": value, **rest})
            back = bson.decode(native, _CODEC)["object"]  # pyright: ignore[reportUnknownMemberType] # for the types of buffer that it takes
            # orjson refuses what has another type: integers beyond 32 bits come back as Int64.
            if orjson.dumps(back, option=_JSON) == text and len(native) <= max(_MAX_SIZE - 2 * _OVERHEAD, len(text)):
                return RawBSONDocument(native)
    except (BSONError, OverflowError, TypeError, ValueError):
        pass
    return RawBSONDocument(bson.encode({"object": text.decode(), **rest}))


def _is_storable(value: Fields | list[Any], levels: int = _MAX_DEPTH) -> bool:
    """Return whether the server takes a value as a document: no key starts with `$`, and there are so many levels below at most."""
    if isinstance(value, dict) and any(key.startswith("$") for key in value):
        return False
    below: list[Any] = [item for item in (value.values() if isinstance(value, dict) else value) if isinstance(item, dict | list)]
    return not below or (levels > 0 and all(_is_storable(item, levels - 1) for item in below))


def decode_document(document: RawBSONDocument) -> Fields:
    """Return the fields of a document that was found."""
    try:
        return bson.decode(document.raw, _CODEC)  # pyright: ignore[reportUnknownMemberType] # bson is untyped
    except BSONError:  # not UTF-8: its names may be readable nevertheless
        return {**bson.decode(document.raw, _LENIENT), "value": None}  # pyright: ignore[reportUnknownMemberType] # bson is untyped


def group_by_key(documents: Iterable[RawBSONDocument], collection: str, keys: Collection[str]) -> dict[str, list[Fields]]:
    """Return the documents that are about some keys, by these; a document under the `_id` of one may be about another pair."""
    wanted = set(keys)
    found: dict[str, list[Fields]] = {}
    for fields in map(decode_document, documents):
        key = fields.get("key")
        if type(key) is str and key in wanted and fields.get("collection") == collection:
            found.setdefault(key, []).append(fields)
    return found


def read_entries(documents: Iterable[RawBSONDocument], collection: str, keys: Collection[str]) -> dict[str, Entry]:
    """Read the documents that have the `_id` of some keys."""
    return {key: read_entry(found[-1]) for key, found in group_by_key(documents, collection, keys).items()}


def read_entry(fields: Fields) -> Entry:
    """Read a document that has the names of its entry.

    Raises:
        DeserializationError: It holds no entry that can be read.
    """
    collection, key = fields["collection"], fields["key"]
    try:
        held = fields.get("value")
        value: Any = cast("Fields", held).get("object") if type(held) is dict else None
        if type(value) is str:
            text = value.encode()
            value = codec.decode(text)
        else:
            value, text = _to_json(value)
        if type(value) is not dict:
            raise ValueError("it has no field `value.object` that holds an object")
        if fields.get("version", 1) != 1:
            raise ValueError("its version is not 1; a newer version of this library may read it")
        return Entry(collection, key, cast("Fields", value), text, None, read_deadline(fields))
    except ValueError as error:
        reason = str(error) if type(error) is ValueError else "it is not a valid document"
    raise unreadable(collection, key, reason)


def read_row(document: RawBSONDocument) -> ListedEntry | None:
    """Read what a listing needs of a document; None if it is damaged."""
    fields = decode_document(document)
    try:
        return ListedEntry(fields["collection"], fields["key"], read_deadline(fields))
    except ValueError:
        return None


def read_deadline(fields: Fields) -> float | None:
    """Return when a document expires: exactly, if `value.deadline` belongs to `expires_at`.

    Raises:
        ValueError: Its date is damaged.
    """
    expires_at = fields.get("expires_at")
    if expires_at is None:
        return None
    if not isinstance(expires_at, DatetimeMS):
        raise ValueError("its field `expires_at` is not a date")
    held = fields.get("value")
    exact: Any = cast("Fields", held).get("deadline") if isinstance(held, dict) else None
    return exact if type(exact) is float and _to_milliseconds(exact) == int(expires_at) else int(expires_at) / 1000


def _to_json(value: object) -> tuple[object, bytes]:
    """Return a value that was read from BSON with the types that JSON has, and its JSON text."""
    try:
        text = orjson.dumps(value, option=_JSON)
    except TypeError:
        value = _to_plain(value)
        text = orjson.dumps(value)
    if text.find(b"null") >= 0 and orjson.loads(text) != value:  # not a number, or infinite
        text = json.dumps(value).encode()
    return value, text


def _to_plain(value: object) -> Any:
    """Return a value with what BSON makes of numbers and references turned back into what JSON has."""
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in cast("Fields", value).items()}
    if isinstance(value, list):
        return [_to_plain(item) for item in cast("list[object]", value)]
    if isinstance(value, Int64):
        return int(value)
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise ValueError(f"its value holds something of type {type(value).__name__}, which JSON has no form for")


def _to_milliseconds(seconds: float) -> int:
    """Return a moment in milliseconds, rounded up, but not out of the year 9999."""
    return min(-(-round(seconds * 1e6) // 1000), 253_402_300_799_999)


# Queries


def match_entries(collection: str | None) -> Fields:
    """Return a query for all entries of a collection, or of all."""
    return {
        "collection": {**({"$type": "string"} if collection is None else {"$eq": collection}), **_NO_ARRAY},
        "key": {"$type": "string", **_NO_ARRAY},
        "value.object": {"$type": ["object", "string"]},
    }


def match_pairs(collection: str, keys: Sequence[str]) -> Fields:
    """Return a query for all documents of some keys of a collection, whatever their `_id`."""
    return {"key": {"$in": keys, **_NO_ARRAY}, "collection": {"$eq": collection, **_NO_ARRAY}}


def match_expired(now: float) -> list[Fields]:
    """Return queries of which one matches what has expired. `expires_at` is rounded up, so its last millisecond is looked at closely."""
    millis = floor(now * 1000)
    return [{"expires_at": {"$lte": DatetimeMS(millis)}}, {"expires_at": DatetimeMS(millis + 1), "value.deadline": {"$lte": now}}]


def split_keys(collection: str, keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield keys in batches that fit into a command; those that fit into no document are left out."""
    room = _MAX_SIZE - _OVERHEAD - len(collection.encode())
    most = min(_BATCH, room)
    if 4 * sum(map(len, keys)) + _PER_KEY * len(keys) <= most:  # as nearly always
        return iter((keys,))
    fitting = (key for key in keys if _size_of(key) <= room)
    return split_batches(fitting, _size_of, size=most)


def _size_of(key: str) -> int:
    return len(key.encode()) + _PER_KEY


def name_collection(database: str, sanitize: Callable[[str], str] | None, collection: str) -> str:
    """Return the name that a collection has in MongoDB."""
    name = sanitize(collection) if sanitize else collection
    return digest(collection) if _UNUSABLE.search(name) or len(f"{database}.{name}".encode()) > 255 else name
