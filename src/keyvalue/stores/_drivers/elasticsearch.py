"""Names, forms and documents of entries in Elasticsearch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import orjson

from keyvalue._core import codec
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.layout import KeyLayout, Slot, digest, is_settled
from keyvalue._core.legacy import sanitization
from keyvalue.stores._drivers.batches import split_batches

LARGEST = 45_000_000  # bytes of a value's JSON text; the server takes 50 million characters in one string, and 100 MB in one request
PAGE = 500  # documents that are read or written by one request
_PAGE_SIZE = 10 * 2**20  # bytes that are written by one request, about
_PLAIN = 32_000  # bytes of JSON text in which no leaf can be too long, its path included
_LEAF = 32_700  # bytes of a leaf that a flattened field takes, with its path
_DEPTH = 20  # levels of objects that it takes
_ARRAYS = 500  # levels of arrays that the server takes with ease
_LONG_NUMBER = re.compile(rb"\d{900}")  # the server takes numbers of 1000 digits
_FORBIDDEN = re.compile(r'[\\/*?"<>| ,#:]')
_DIGEST = re.compile(r"~[0-9a-f]{64}")

# A write says that the field `key`, and `value.json` if it is there, are to be mapped by a template that no index has. That
# concerns only a field that has no mapping yet: such a document is refused, rather than mapped by guess in an index that was dropped
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


class IndexLayout(KeyLayout):
    """The names `<index>/<id>` of documents.

    Args:
        prefix: What the names of the indices start with; it is put in lower case.
        keys: What names documents, as py-key-value-aio does. Default: the key itself.
        collections: What names indices, in the same way. Default: the collection itself.

    Raises:
        ValueError: No index can be named with the prefix.
    """

    def __init__(
        self, prefix: str, keys: sanitization.SanitizationStrategy | None, collections: sanitization.SanitizationStrategy | None
    ) -> None:
        self.prefix: str = prefix.lower()
        if _FORBIDDEN.search(self.prefix) or self.prefix[0] in "-_+" or len(self.prefix.encode()) > 189:
            raise ValueError(
                "No index can be named with this index_prefix: it must not start with - _ or +, nor hold any of "
                '\\ / * ? " < > | , # : or a space, and has at most 189 bytes'
            )
        self._keys = _namer(keys, "key_sanitization_strategy")
        self._collections = _namer(collections, "collection_sanitization_strategy")
        self._keeps_ids = self._keys is None or (isinstance(keys, sanitization.AlwaysHashStrategy) and keys.hash_length == 64)

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        index, own = self._indices(collection)
        ids = [self._id(key) for key in keys]
        if index != own or not self._keeps_ids or None in ids:
            return None
        return [f"{index}/{name}" for name in ids]

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        (index, own_index), name = self._indices(collection), self._id(key)
        own = Slot(f"{own_index}/{name if self._keeps_ids and name is not None else digest(key)}")
        plain = f"{index}/{name}"
        if index is None or name is None or plain == own.name:
            return (own,)
        # What a strategy names is where an entry is put first; what only lower case moved is where py-key-value-aio put it.
        return (Slot(plain, "shared"), own) if self._collections or index == own_index else (own, Slot(plain, "strict"))

    def prefixes(self, collection: str) -> Sequence[str]:
        return [f"{index}/" for index in dict.fromkeys(self._indices(collection)) if index is not None]

    def can_be_mixed(self, index: str) -> bool:
        """Return whether py-key-value-aio also puts other collections in an index that is one's own."""
        return not self._collections and not _DIGEST.fullmatch(index.removeprefix(f"{self.prefix}-"))

    def _indices(self, collection: str) -> tuple[str | None, str]:
        """Return the index that py-key-value-aio uses, or None if none can have that name, and the one that holds no other collection."""
        name = self._collections(collection) if self._collections else collection
        index = f"{self.prefix}-{name}".lower()
        if _FORBIDDEN.search(index) or len(index.encode()) > 255 or _DIGEST.fullmatch(name):
            return None, f"{self.prefix}-{digest(collection)}"
        # About the case of newer letters, Python and servers may disagree.
        is_own = not self._collections and index == f"{self.prefix}-{collection}" and is_settled(collection)
        return index, index if is_own else f"{self.prefix}-{digest(collection)}"

    def _id(self, key: str) -> str | None:
        """Return the id that py-key-value-aio uses, or None if there is no such id."""
        name = self._keys(key) if self._keys else key
        return name if name and len(name.encode()) <= 512 and not _DIGEST.fullmatch(name) else None


def _namer(strategy: sanitization.SanitizationStrategy | None, parameter: str) -> Callable[[str], str] | None:
    return sanitization.namer(None if isinstance(strategy, sanitization.PassthroughStrategy) else strategy, parameter)


def address(name: str) -> dict[str, str]:
    """Return the index and the id of a name of `IndexLayout`."""
    index, _, name = name.partition("/")
    return {"_index": index, "_id": name}


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
            document = _encode_fields({**fields, "value": value})
        pair = (fields or {}).get("collection"), (fields or {}).get("key")
        return cls(name, Stored(document, read_version(hit)), pair)


def read_version(answer: Mapping[str, Any]) -> str:
    """Return the version of a document in an answer about it."""
    return f"{answer.get('_seq_no', 0)}.{answer.get('_primary_term', 0)}"


def _encode_fields(fields: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields)
    except TypeError:  # integers beyond 64 bits, or more levels than that takes
        return json.dumps(fields).encode()


def encode_change(change: CompareAndSet, compare: bool, keeps_integers: bool) -> bytes:
    """Return the lines of a bulk request that make a change.

    Args:
        change: The change.
        compare: Whether to compare versions.
        keeps_integers: Whether the client decodes large integers exactly.
    """
    name, version, entry = change
    action: dict[str, Any] = address(name)
    if version is not None:
        sequence_number, _, primary_term = version.partition(".")
        action |= {"if_seq_no": int(sequence_number), "if_primary_term": int(primary_term)}
    if entry is None:
        return orjson.dumps({"delete": action}) + b"\n"
    flat = _is_flat(entry.json) and (keeps_integers or not codec.may_hold_long_number(entry.json))
    action["dynamic_templates"] = {"key": GUARD} if flat else {"key": GUARD, "value.json": GUARD}
    value = b'{"flattened":%b}' % entry.json if flat else b'{"json":%b}' % orjson.dumps(entry.json.decode())
    document = Entry(entry.collection, entry.key, None, value, entry.created_at, entry.expires_at).document()
    return b"%b\n%b\n" % (orjson.dumps({"create" if compare and version is None else "index": action}), document)


def size_of(change: CompareAndSet) -> int:
    """Return how many bytes a change takes in a request, about."""
    entry = change.entry
    return 0 if entry is None else len(entry.json) + len(entry.collection.encode()) + len(entry.key.encode())


def split_changes(changes: Sequence[CompareAndSet]) -> Iterator[Sequence[CompareAndSet]]:
    """Yield changes in the batches that they are made in."""
    return split_batches(changes, size_of, size=_PAGE_SIZE, count=PAGE)


def _is_flat(text: bytes) -> bool:
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
