"""The keys and items of a table of DynamoDB."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from operator import itemgetter
from typing import Any

from keyvalue._core.entry import Entry, Stored
from keyvalue._core.layout import KeyLayout, Slot, digest
from keyvalue.errors import ValueTooLargeError
from keyvalue.stores._drivers.batches import split_batches

_LONGEST_COLLECTION = 2048  # bytes of a partition key
_LONGEST_KEY = 1024  # bytes of a sort key
_LARGEST_ITEM = 400 * 1024
_WRITTEN_AT_ONCE = 25  # items of one BatchWriteItem
_BATCH_SIZE = 2**18  # bytes; as text of a request they may become three times as many, and aiohttp warns of a request beyond 2**20
_TOKEN = "token."  # noqa: S105 # what starts the version of an item that has a token
_DIGEST = re.compile(r"~[0-9a-f]{64}")


class TableLayout(KeyLayout):
    """The keys of items, each written `<characters in the partition key>:<partition key><sort key>`."""

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        own = Slot(_join(_fit(collection, _LONGEST_COLLECTION), _fit(key, _LONGEST_KEY)))
        plain = _join(collection, key)
        # py-key-value-aio stores even a name that looks like a digest as it is.
        if plain != own.name and len(collection.encode()) <= _LONGEST_COLLECTION and len(key.encode()) <= _LONGEST_KEY:
            return own, Slot(plain, "strict")
        return (own,)

    def prefixes(self, collection: str) -> Sequence[str]:
        fitted = _fit(collection, _LONGEST_COLLECTION)
        return [_join(part, "") for part in ([fitted, collection] if _DIGEST.fullmatch(collection) else [fitted])]

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        if _DIGEST.fullmatch(collection) or any(key[0] == "~" and _DIGEST.fullmatch(key) for key in keys):
            return None
        fitted = _fit(collection, _LONGEST_COLLECTION)
        return [_join(fitted, _fit(key, _LONGEST_KEY)) for key in keys]


def _fit(name: str, longest: int) -> str:
    """Return a name as it is stored in a key attribute, which has a limit in bytes: itself, or its digest."""
    if len(name) * 4 <= longest and name[0] != "~":
        return name
    return name if len(name.encode()) <= longest and not _DIGEST.fullmatch(name) else digest(name)


def _join(collection: str, key: str) -> str:
    return f"{len(collection)}:{collection}{key}"


def encode_key(name: str) -> dict[str, Any]:
    """Return the key attributes of a name of `TableLayout`."""
    length, _, parts = name.partition(":")
    return {"collection": {"S": parts[: int(length)]}, "key": {"S": parts[int(length) :]}}


def encode_item(name: str, entry: Entry) -> tuple[dict[str, Any], int]:
    """Return an item, and its size as DynamoDB counts it, a byte or two more at times.

    Raises:
        ValueTooLargeError: It is larger than an item may be.
    """
    item = encode_key(name)
    document = entry.document()
    token = secrets.token_urlsafe(16)
    size = len(name[name.index(":") + 1 :].encode()) + len(document) + len(token) + len("collectionkeyvaluetoken")
    item["value"] = {"S": document.decode()}
    item["token"] = {"S": token}
    if entry.expires_at is not None:
        item["ttl"] = {"N": str(ceil(entry.expires_at))}
        size += len("ttl") + len(item["ttl"]["N"]) // 2 + 2
    if size > _LARGEST_ITEM:
        raise ValueTooLargeError(size, _LARGEST_ITEM, entry.collection, entry.key, limit="an item of DynamoDB has 400 KB at most")
    return item, size


def read_name(item: Mapping[str, Any]) -> str:
    """Return the name of an item, as `TableLayout` has it."""
    return _join(item["collection"]["S"], item["key"]["S"])


def read_item(item: Mapping[str, Any]) -> Stored:
    """Return the document of an item. Its version is the token beside it; py-key-value-aio writes none."""
    document = item.get("value", {}).get("S")
    token = item.get("token", {}).get("S")
    return Stored(None) if document is None else Stored(document.encode(), None if token is None else f"{_TOKEN}{token}")


def split_items(items: Sequence[tuple[dict[str, Any], int]]) -> Iterator[Sequence[tuple[dict[str, Any], int]]]:
    """Yield items, given with their sizes, in the batches that they are written in."""
    return split_batches(items, itemgetter(1), size=_BATCH_SIZE, count=_WRITTEN_AT_ONCE)


def build_condition(version: str | None, document: bytes | None) -> dict[str, Any]:
    """Return the parameters that have a write depend on what is there.

    Args:
        version: The version that must be there; None if nothing may be there.
        document: The document that must be there, if the version is no token.
    """
    if version is None:
        return {"ConditionExpression": "attribute_not_exists(#c)", "ExpressionAttributeNames": {"#c": "collection"}}
    if version.startswith(_TOKEN):
        condition, names, value = "#t = :e", {"#t": "token"}, version.removeprefix(_TOKEN)
    elif document is None:
        condition, names, value = "attribute_not_exists(#v) OR NOT attribute_type(#v, :e)", {"#v": "value"}, "S"
    else:
        condition, names, value = "#v = :e AND NOT attribute_type(#t, :s)", {"#v": "value", "#t": "token"}, document.decode()
    values = {":e": {"S": value}, **({":s": {"S": "S"}} if ":s" in condition else {})}
    return {"ConditionExpression": condition, "ExpressionAttributeNames": names, "ExpressionAttributeValues": values}


def build_listing(prefix: str) -> tuple[str, dict[str, Any]]:
    """Return the operation that lists the items under a prefix of `TableLayout` (all, if it is empty), and its parameters."""
    if not prefix:
        return "scan", {}
    return "query", {
        "KeyConditionExpression": "#c = :c",
        "ExpressionAttributeNames": {"#c": "collection"},
        "ExpressionAttributeValues": {":c": encode_key(prefix)["collection"]},
    }


def needs_document(version: str | None) -> bool:
    """Return whether only the document tells if a version is there."""
    return version is not None and not version.startswith(_TOKEN)
