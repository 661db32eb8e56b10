"""The keys and items of a table of DynamoDB, and the clients of one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from functools import lru_cache, partial
from math import ceil
from typing import Any
from urllib.parse import urlsplit

import anyio

from keyvalue._core import runtime
from keyvalue._core.entry import Entry, Stored
from keyvalue._core.extras import needs
from keyvalue._core.layout import KeyLayout, Slot, digest
from keyvalue.errors import StoreRefusedError, StoreSetupError, ValueTooLargeError
from keyvalue.stores._drivers.http import limit_pools

with needs("dynamodb"):
    import aiobotocore.session
    import botocore.loaders
    import botocore.session
    from aiobotocore.httpsession import AIOHTTPSession
    from aiohttp import ClientTimeout
    from botocore.exceptions import NoRegionError

__all__ = [
    "NO_CREDENTIALS",
    "LimitedSession",
    "TableLayout",
    "batches",
    "close",
    "condition_for",
    "create_async_client",
    "create_client",
    "host_of",
    "is_table",
    "item_of",
    "key_of",
    "loader_of",
    "name_of",
    "needs_document",
    "stored_in",
]

_LONGEST_COLLECTION = 2048  # bytes of a partition key
_LONGEST_KEY = 1024  # bytes of a sort key
_LARGEST_ITEM = 400 * 1024
_WRITTEN_AT_ONCE = 25  # items of one BatchWriteItem
_BATCH_SIZE = 2**18  # bytes; as text of a request they may become three times as many, and aiohttp warns of a request beyond 2**20
_TABLE = re.compile(r"[a-zA-Z0-9_.-]{3,255}")
_TOKEN = "token."  # noqa: S105 # what starts the version of an item that has a token
_DIGEST = re.compile(r"~[0-9a-f]{64}")
NO_CREDENTIALS = "there are no credentials; pass aws_access_key_id and aws_secret_access_key"


class TableLayout(KeyLayout):
    """The keys of items, each written `<characters in the partition key>:<partition key><sort key>`."""

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        own = Slot(_name(_held(collection, _LONGEST_COLLECTION), _held(key, _LONGEST_KEY)))
        plain = _name(collection, key)
        # py-key-value-aio puts a name that looks like a digest where it says.
        if plain != own.name and len(collection.encode()) <= _LONGEST_COLLECTION and len(key.encode()) <= _LONGEST_KEY:
            return own, Slot(plain, "strict")
        return (own,)

    def prefixes(self, collection: str) -> Sequence[str]:
        held = _held(collection, _LONGEST_COLLECTION)
        return [_name(part, "") for part in ([held, collection] if _DIGEST.fullmatch(collection) else [held])]

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        if _DIGEST.fullmatch(collection) or any(key[0] == "~" and _DIGEST.fullmatch(key) for key in keys):
            return None
        held = _held(collection, _LONGEST_COLLECTION)
        return [_name(held, _held(key, _LONGEST_KEY)) for key in keys]


def _held(name: str, longest: int) -> str:
    """Return how a name is held by an attribute that takes some bytes."""
    if len(name) * 4 <= longest and name[0] != "~":
        return name
    return name if len(name.encode()) <= longest and not _DIGEST.fullmatch(name) else digest(name)


def _name(collection: str, key: str) -> str:
    return f"{len(collection)}:{collection}{key}"


def key_of(name: str) -> dict[str, Any]:
    length, _, parts = name.partition(":")
    return {"collection": {"S": parts[: int(length)]}, "key": {"S": parts[int(length) :]}}


def item_of(name: str, entry: Entry) -> tuple[dict[str, Any], int]:
    """Return an item, and its size as DynamoDB counts it, a byte or two more at times.

    Raises:
        ValueTooLargeError: It is larger than an item may be.
    """
    item = key_of(name)
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


def name_of(item: Mapping[str, Any]) -> str:
    return _name(item["collection"]["S"], item["key"]["S"])


def stored_in(item: Mapping[str, Any]) -> Stored:
    """Return the document of an item. Its version is the token beside it; py-key-value-aio writes none."""
    document = item.get("value", {}).get("S")
    token = item.get("token", {}).get("S")
    return Stored(None) if document is None else Stored(document.encode(), None if token is None else f"{_TOKEN}{token}")


def batches(items: Sequence[tuple[dict[str, Any], int]]) -> Sequence[Sequence[dict[str, Any]]]:
    """Return items, given with their sizes, in the batches that they are written in."""
    batches: list[list[dict[str, Any]]] = [[]]
    total = 0
    for item, size in items:
        if batches[-1] and (len(batches[-1]) == _WRITTEN_AT_ONCE or total + size > _BATCH_SIZE):
            batches.append([])
            total = 0
        batches[-1].append(item)
        total += size
    return batches


def condition_for(version: str | None, document: bytes | None) -> dict[str, Any]:
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


def needs_document(version: str | None) -> bool:
    """Return whether only the document tells if a version is there."""
    return version is not None and not version.startswith(_TOKEN)


def host_of(url: str | None) -> str | None:
    """Return host and port of a URL."""
    return None if url is None else urlsplit(url).netloc.rpartition("@")[2]


def is_table(name: str) -> bool:
    """Return whether a table may have a name, or be meant by it."""
    return name.startswith("arn:") or _TABLE.fullmatch(name) is not None


class LimitedSession(AIOHTTPSession):
    """One in which a request takes as long as it may be silent, at most: otherwise a reply that drips would never end."""

    def __init__(self, *args: Any, timeout: Any, **options: Any) -> None:
        super().__init__(*args, timeout=timeout, **options)
        connect, read = timeout
        # A timeout around `send` would cost seven times as much: 35 microseconds.
        self._timeout = ClientTimeout(total=read, sock_connect=connect, sock_read=read)


def create_client(options: Mapping[str, Any]) -> Any:
    with _region_needed():
        client: Any = session_of(botocore.session).create_client("dynamodb", **options)
    pools = client._endpoint.http_session._pool_classes_by_scheme  # it has no other way in
    pools.update(limit_pools(pools))
    return client


async def create_async_client(options: Mapping[str, Any]) -> Any:
    session = await runtime.run_in_worker(partial(session_with_credentials, options))
    with _region_needed():
        return await session.create_client("dynamodb", **options).__aenter__()


@contextmanager
def _region_needed() -> Generator[None, None, None]:
    try:
        yield
    except NoRegionError as error:
        raise StoreSetupError("DynamoDBStore: there is no region; pass region_name") from error


def session_with_credentials(options: Mapping[str, Any]) -> Any:
    """Return an asynchronous session that has read all files; called in a worker thread, as it would read them on the event loop."""
    session = session_of(aiobotocore.session)
    are_given = options["aws_access_key_id"] is not None or options["aws_secret_access_key"] is not None
    # In a context of its own, as the caller's says that a loop is running.
    if not are_given and Context().run(anyio.run, session.get_credentials) is None:
        raise StoreRefusedError(f"DynamoDBStore: {NO_CREDENTIALS}")
    return session


def session_of(package: Any) -> Any:
    session = package.get_session()
    session.register_component("data_loader", loader_of(session.get_config_variable("data_path")))
    return session


@lru_cache(1)
def loader_of(data_path: str | None) -> Any:
    """Return a loader that has read the descriptions of the service from disk; all sessions share it."""
    loader = botocore.loaders.create_loader(data_path)
    session = botocore.session.get_session()
    session.register_component("data_loader", loader)
    session.create_client("dynamodb", region_name="us-east-1", aws_access_key_id="-", aws_secret_access_key="-")  # noqa: S106 # none
    return loader


def close(client: Any) -> Any:
    return client.close()
