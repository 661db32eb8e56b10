"""MongoDB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime, timezone
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, MongoClient, common, errors

from keyvalue._core.layout import digest_of
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.mongodb import MongoDBStore
from tests.stores.hooks import NEVER, SECRET, Hooks

DATABASE = "kv-store-adapter"

# Otherwise it takes half a second to hear that a connection was lost.
_POLLING = "serverMonitoringMode=poll"

_LONG_AGO = datetime(2001, 1, 1, tzinfo=timezone.utc)


class MongoDBHooks(Hooks):
    kind = MongoDBStore
    silent = "the connection was lost"
    causes = errors.ServerSelectionTimeoutError
    client_types = "MongoClient or an AsyncMongoClient"

    late = 0.0011
    reclaims = True

    misnamed = (("a", "elsewhere"),)
    # What of a document is set, and whether it is still listed.
    damaged: Mapping[str, tuple[dict[str, Any], bool]] = {
        "a number": ({"value": 1}, False),
        "no object": ({"value": {}}, False),
        "no JSON": ({"value.object": SECRET}, True),
        "no object in JSON": ({"value.object": "[1]"}, True),
        "an array": ({"value.object": [SECRET]}, True),
        "a date": ({"value.object.a": _LONG_AGO}, True),
        "bytes": ({"value.object.a": SECRET.encode()}, True),
        "an id": ({"value.object.a": bson.ObjectId()}, True),
        "no text": ({"value.object": RawBSONDocument(bson.encode({"a": "XX"}).replace(b"XX", b"\xff\xfe"))}, True),
        "another version": ({"version": 2}, True),
        "no date": ({"expires_at": SECRET}, False),
    }

    def prepare(self, patch: pytest.MonkeyPatch) -> None:
        # Seconds between two tries to reach a server. Whoever gives it up waits for that long, however impatient.
        patch.setattr(common, "MIN_HEARTBEAT_INTERVAL", 0.05)

    def raw(self, url: str) -> MongoClient[Any]:
        return MongoClient(url, tz_aware=True)

    def impatient(self, url: str) -> AsyncKeyValue:
        return MongoDBStore(url=f"{url}?serverSelectionTimeoutMS=500&{_POLLING}")

    def with_secret(self, url: str) -> AsyncKeyValue:
        return MongoDBStore(url=f"{url.replace('://', f'://u:{SECRET}@')}?serverSelectionTimeoutMS=100")

    def refused(self) -> Iterator[tuple[Mapping[str, Any], type[Exception], str]]:
        for url in ("", "localhost", "http://localhost", "mongodb+srv://", f"mongodb://u:{SECRET}@h:port", f"mongodb://u:{SECRET}@p@h"):
            yield {"url": url}, ValueError, "can't parse the URL"
        yield {"client": MongoClient[Any](connect=False), "url": "mongodb://localhost"}, ValueError, "either a client or a url"
        for name in ("a.b", "a b", "a$b", "a/b", "nul\0"):
            yield {"db_name": name}, ValueError, "No database"
        for timeout in (0, -1, float("nan")):
            yield {"timeout": timeout}, ValueError, "timeout must be a positive"
        for options in ("w=0", "appName=x&W=00", "appName=x;w=0"):
            yield {"url": f"mongodb://localhost/?{options}"}, ValueError, "leave out w=0"
        for client in (MongoClient[Any], AsyncMongoClient[Any]):
            yield {"client": client("mongodb://localhost/?w=0", connect=False)}, ValueError, "leave out w=0"

    def accepted(self) -> Iterator[Mapping[str, Any]]:
        yield {}
        yield {"url": "mongodb+srv://nowhere.invalid"}
        yield {"url": f"mongodb://user:{SECRET}@localhost:27017/?appname={SECRET}"}

    def wrong_clients(self) -> Iterator[Any]:
        yield from ("mongodb://localhost", object(), MongoClient, MongoClient[Any](connect=False)[DATABASE])

    def sync_clients(self, url: str) -> Mapping[str, AbstractContextManager[Any]]:
        return {str(options): MongoClient[Any](url, connect=False, **options) for options in _OPTIONS}

    def async_clients(self, url: str) -> Mapping[str, AbstractAsyncContextManager[Any]]:
        return {str(options): AsyncMongoClient[Any](url, **options) for options in _OPTIONS}

    def assert_open(self, client: Any) -> None:
        assert client.nodes  # which it forgets when it is closed
        assert client.admin.command("ping")["ok"] == 1

    async def assert_open_async(self, client: Any) -> None:
        assert client.nodes
        assert (await client.admin.command("ping"))["ok"] == 1

    def contents(self, url: str) -> Mapping[tuple[str, str], bytes]:
        with self.raw(url) as client:
            database = client.get_database(DATABASE, CodecOptions(document_class=RawBSONDocument))
            names = database.list_collection_names(filter={"type": "collection"})
            return {(name, str(document["_id"])): document.raw for name in names for document in database[name].find()}

    def names(self, url: str) -> set[str]:
        with self.raw(url) as client:
            rows = [row for name in client[DATABASE].list_collection_names() for row in client[DATABASE][name].find()]
        return {f"{row['collection']}::{row['key']}" for row in rows}

    def plant_foreign(self, url: str) -> None:
        of_a: list[dict[str, Any]] = [
            {"_id": "plain", "expires_at": _LONG_AGO},
            {"_id": "keyed", "key": "k", "value": 1},
            {"_id": "nameless", "key": "k", "value": {"object": {}}, "expires_at": datetime(2100, 1, 1, tzinfo=timezone.utc)},
            {"_id": "other", "key": "k", "collection": "b", "value": {"object": {}}},
            {"_id": "half", "collection": "a", "value": {"object": {}}},
            {"_id": "empty", "collection": "a", "key": "half", "value": {}},
            {"_id": digest_of("a", "elsewhere"), "key": "elsewhere", "collection": "b", "value": {"object": {}}},
            # Arrays of names, of whose elements a query matches each.
            {"_id": "keys", "collection": "a", "key": ["k", "l"], "value": {"object": {}}},
            {"_id": "collections", "collection": ["a", "d"], "key": "k", "value": {"object": {}}},
            {"_id": "both", "collection": ["a"], "key": ["k"], "value": {"object": {}}},
        ]
        with self.raw(url) as client:
            client[DATABASE]["a"].insert_many(of_a)
            client[DATABASE]["mine"].insert_one({"_id": 1, "expires_at": _LONG_AGO})
            client[DATABASE].create_collection("view", viewOn="a", pipeline=[])

    def damage(self, url: str, key: str, damaged: tuple[dict[str, Any], bool]) -> None:
        changes, self.lists_damaged = damaged
        with self.raw(url) as client:
            assert client[DATABASE]["c"].update_one({"key": key}, {"$set": changes}).matched_count == 1

    def expiries(self, url: str) -> Mapping[str, float]:
        with self.raw(url) as client:
            dates = {document["key"]: document.get("expires_at") for document in client[DATABASE]["default_collection"].find()}
        return {key: NEVER if date is None else date.timestamp() for key, date in dates.items()}


_OPTIONS: list[dict[str, Any]] = [
    {},
    {"tz_aware": True, "document_class": bson.SON},
    {"retryReads": False, "timeoutMS": 5000},
    {"maxPoolSize": 1, "waitQueueTimeoutMS": 100},
]

HOOKS = {"mongodb": MongoDBHooks("mongodb")}
