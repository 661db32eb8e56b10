"""Names, forms and documents of entries in Elasticsearch; what ElasticsearchStore is made of."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import orjson

from keyvalue._core import codec
from keyvalue._core.entry import Stored
from keyvalue._core.extras import needs
from keyvalue._core.layout import KeyLayout, Slot, digest, is_settled
from keyvalue._core.legacy import sanitization
from keyvalue.errors import StoreRefusedError

with needs("elasticsearch"):
    from elasticsearch.serializer import JsonSerializer, NdjsonSerializer

__all__ = [
    "FORBIDDEN",
    "GUARD",
    "MAPPING",
    "Hit",
    "IndexLayout",
    "ItemError",
    "Json",
    "Lines",
    "Result",
    "address",
    "decoded",
    "is_flat",
    "version_in",
]

_PLAIN = 32_000  # bytes of JSON text in which no leaf can be too long, its path included
_LEAF = 32_700  # bytes of a leaf that a flattened field takes, with its path
_DEPTH = 20  # levels of objects that it takes
_ARRAYS = 500  # levels of arrays that the server takes with ease
_LONG_NUMBER = re.compile(rb"\d{900}")  # the server takes numbers of 1000 digits
FORBIDDEN = re.compile(r'[\\/*?"<>| ,#:]')
_DIGEST = re.compile(r"~[0-9a-f]{64}")
_TOO_LONG = re.compile(r"failed to parse field \[(key|collection)\] of type \[keyword\]|immense term in field=\"(key|collection)\"")

# A write says that the field `key`, and `value.json` if it is there, are to be mapped by a template that no index has. That
# concerns only a field that has no mapping yet: such a document is refused, rather than mapped by guess in an index that somebody dropped
# and the server made again by itself.
GUARD = "keyvalue"
_NAME = {"type": "keyword", "ignore_above": 8191}  # characters; it takes 32,766 bytes
MAPPING: dict[str, Any] = {
    "properties": {
        "version": {"type": "integer"},
        "collection": _NAME,
        "key": _NAME,
        "created_at": {"type": "date"},
        "expires_at": {"type": "date"},
        "value": {"properties": {"flattened": {"type": "flattened"}, "json": {"type": "object", "enabled": False}}},
    }
}


class Json(JsonSerializer):
    """Decodes exactly; what takes long is left to the store, which does it off the event loop."""

    def loads(self, data: bytes) -> Any:
        return super().loads(data) if not data else data if len(data) > codec.LARGE else decoded(data)


def decoded(data: bytes) -> Any:
    try:
        return codec.decode(data)
    except ValueError:
        raise StoreRefusedError("ElasticsearchStore: the server's answer can't be understood; is the URL right?") from None


class Lines(NdjsonSerializer):
    """Sends large bodies as aiohttp wishes, in parts, so that the event loop can go on meanwhile."""

    def dumps(self, data: bytes) -> Any:
        return _Body(data) if len(data) > codec.LARGE else data


class _Body(io.BytesIO):
    def decode(self, *_: object) -> str:
        """Return what elastic_transport is to log."""
        return f"{len(self.getbuffer())} bytes"


class Hit(NamedTuple):
    """A document that the server found.

    Attributes:
        name: Its name.
        stored: The document as `Entry` reads it, with the version `<sequence number>.<primary term>`.
        pair: The collection and the key that it names.
    """

    name: str
    stored: Stored
    pair: tuple[Any, Any]

    @classmethod
    def of(cls, name: str, hit: dict[str, Any], with_value: bool) -> Hit:
        """Read a hit of the server; without its value, the document has an empty one."""
        fields: dict[str, Any] | None = hit.get("_source")
        document: bytes | None = None
        if fields is not None:
            value: Any = fields.get("value") if with_value else {}
            if with_value and type(value) is dict:
                held = cast("dict[str, Any]", value)
                value = held["json"] if type(held.get("json")) is str else held.get("flattened")
            document = _packed({**fields, "value": value})
        pair = (fields or {}).get("collection"), (fields or {}).get("key")
        return cls(name, Stored(document, version_in(hit)), pair)


def version_in(answer: Mapping[str, Any]) -> str:
    """Return the version of a document in an answer about it."""
    return f"{answer.get('_seq_no', 0)}.{answer.get('_primary_term', 0)}"


class ItemError(Exception):
    """What the server says of a part of a request that it did not do: the type of its error."""


class Result(NamedTuple):
    """What the server says of one item of a bulk request: a status of HTTP, the type of its error with a reason, and the new version."""

    status: int
    type: str = ""
    reason: str = ""
    version: str = ""

    @property
    def lacks_index(self) -> bool:
        """Whether there was no index; the server may have made one by guess now."""
        return self.type == "index_not_found_exception" or f"[{GUARD}] of field [key]" in self.reason

    @property
    def lacks_mapping(self) -> bool:
        """Whether it would be written if its index were what it should be."""
        return self.lacks_index or f"[{GUARD}]" in self.reason or _TOO_LONG.search(self.reason) is not None


def _packed(fields: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields)
    except TypeError:  # integers beyond 64 bits, or more levels than that takes
        return json.dumps(fields).encode()


class IndexLayout(KeyLayout):
    """The names `<index>/<id>` of documents."""

    def __init__(
        self, prefix: str, keys: sanitization.SanitizationStrategy | None, collections: sanitization.SanitizationStrategy | None
    ) -> None:
        self._prefix = prefix
        passthrough = sanitization.PassthroughStrategy
        self._keys = sanitization.namer(None if isinstance(keys, passthrough) else keys, "key_sanitization_strategy")
        self._collections = sanitization.namer(
            None if isinstance(collections, passthrough) else collections, "collection_sanitization_strategy"
        )
        self._keeps_ids = self._keys is None or (isinstance(keys, sanitization.AlwaysHashStrategy) and keys.hash_length == 64)

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        index = self._index(collection)
        if index is None or index != self._home(collection):
            return None
        ids = [self._id(key) for key in keys]
        if not self._keeps_ids or None in ids:
            return None
        return [f"{index}/{name}" for name in ids]

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        index, home, name = self._index(collection), self._home(collection), self._id(key)
        own = Slot(f"{home}/{name if self._keeps_ids and name is not None else digest(key)}")
        if index is None or name is None:
            return (own,)
        plain = f"{index}/{name}"
        if plain == own.name:
            return (own,)
        # What a strategy names is where an entry is put first; what only lower case moved is where py-key-value-aio put it.
        return (Slot(plain, "shared"), own) if self._collections or index == home else (own, Slot(plain, "strict"))

    def prefixes(self, collection: str) -> Sequence[str]:
        index, home = self._index(collection), self._home(collection)
        return [f"{home}/"] if index in (None, home) else [f"{index}/", f"{home}/"]

    def is_old(self, hit: Hit) -> bool:
        """Return whether a document lies where py-key-value-aio mixed pairs up, and its own would not be put today."""
        collection, key = hit.pair
        if type(collection) is not str or type(key) is not str or not collection or not key or self._collections:
            return False
        if hit.name.startswith(f"{self._prefix}-{collection}/"):
            return False
        return Slot(hit.name, "strict") in self.slots(collection, key)

    def mixes(self, index: str) -> bool:
        """Return whether py-key-value-aio puts more than one collection in an index that is one's home."""
        return not self._collections and not _DIGEST.fullmatch(index[len(self._prefix) + 1 :])

    def _index(self, collection: str) -> str | None:
        """Return the index that py-key-value-aio uses, or None if there is no index of that name."""
        name = self._collections(collection) if self._collections else collection
        index = f"{self._prefix}-{name}".lower()
        fits = not FORBIDDEN.search(index) and len(index.encode()) <= 255 and not _DIGEST.fullmatch(name)
        return index if fits else None

    def _home(self, collection: str) -> str:
        """Return the index that no other collection is put in."""
        index = f"{self._prefix}-{collection}"
        # About the case of newer letters, Python and servers may disagree.
        is_plain = not self._collections and index == self._index(collection) and is_settled(collection)
        return index if is_plain else f"{self._prefix}-{digest(collection)}"

    def _id(self, key: str) -> str | None:
        """Return the id that py-key-value-aio uses, or None if there is no such id."""
        name = self._keys(key) if self._keys else key
        return name if name and len(name.encode()) <= 512 and not _DIGEST.fullmatch(name) else None


def address(name: str) -> dict[str, str]:
    index, _, name = name.partition("/")
    return {"_index": index, "_id": name}


def is_flat(text: bytes) -> bool:
    """Return whether a field of the type `flattened` takes a value."""
    if b"\\u0000" in text or _LONG_NUMBER.search(text):
        return False
    if len(text) <= _PLAIN and text.count(b"{") <= _DEPTH and text.count(b"[") <= _ARRAYS:
        return True
    return _fits(codec.decode(text), 0, 1, 0)


def _fits(value: Any, path: int, objects: int, arrays: int) -> bool:
    """Return whether a part of a value fits, with so many bytes of keys and levels of objects and arrays above."""
    if type(value) is dict:
        members = cast("dict[str, Any]", value).items()
        return objects <= _DEPTH and all(_fits(member, path + len(key.encode()) + 1, objects + 1, arrays) for key, member in members)
    if type(value) is list:
        return arrays < _ARRAYS and all(_fits(member, path, objects, arrays + 1) for member in cast("list[Any]", value))
    return path + len(value.encode() if type(value) is str else repr(value)) <= _LEAF
