"""What is MongoDBStore's own: how it connects, what its documents look like, and what else lies in the database."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Generator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import anyio
import bson
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from dns import asyncresolver, resolver
from pymongo import AsyncMongoClient, MongoClient, errors, monitoring
from pymongo.collection import Collection

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import (
    DeserializationError,
    KeyValueStoreError,
    StoreConnectionError,
    StoreRefusedError,
    StoreSetupError,
    ValueTooLargeError,
)
from keyvalue.stores import mongodb as decoding
from keyvalue.stores.mongodb import MongoDBStore, MongoDBV1CollectionSanitizationStrategy
from keyvalue.testing import Clock
from keyvalue.testing._samples import same
from tests.runtimes import Runtime
from tests.servers import free_port
from tests.servers import mongodb as servers

own_server = pytest.mark.skipif(servers.mongod() is None, reason="no mongod")
SECRET = "hunter" + "2" * 5  # put together, so that no line of source in a traceback holds it


@pytest.fixture
def url(empty_server: Any) -> str:
    return empty_server("mongodb")


@pytest.fixture
def raw(url: str) -> Generator[Any, None, None]:
    """The database, to look behind the store's back."""
    with MongoClient[Any](url) as client:
        yield client.get_database("kv-store-adapter", CodecOptions(tz_aware=True))


# Connecting


@pytest.mark.parametrize(
    "bad", ["", "localhost", "http://localhost", f"mongodb://u:{SECRET}@host:port", f"mongodb://u:{SECRET}@p@host", "mongodb+srv://"]
)
def test_a_url_that_can_not_be_parsed(bad: str) -> None:
    with pytest.raises(ValueError, match="can't parse the URL") as caught:
        MongoDBStore(url=bad)
    assert SECRET not in str(caught.value)


def test_arguments_that_do_not_fit() -> None:
    client = MongoClient[Any](connect=False)
    with pytest.raises(ValueError, match="either a client or a url"):
        MongoDBStore(client=client, url="mongodb://localhost")
    for name in ("a.b", "a b", "a$b", "a/b", "nul\0"):
        with pytest.raises(ValueError, match="No database"):
            MongoDBStore(db_name=name)
    for timeout in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="timeout must be a positive"):
            MongoDBStore(timeout=timeout)


@pytest.mark.parametrize("options", ["w=0", "appName=x&W=00", "appName=x;w=0"])
def test_writes_must_be_acknowledged(options: str) -> None:
    url = f"mongodb://localhost/?{options}"
    with pytest.raises(ValueError, match="leave out w=0"):
        MongoDBStore(url=url)
    for client in (MongoClient[Any], AsyncMongoClient[Any]):
        with pytest.raises(ValueError, match="leave out w=0"):
            MongoDBStore(client=client("mongodb://localhost/?w=0", connect=False))


@pytest.mark.parametrize("client", ["mongodb://localhost", object(), MongoClient])
def test_a_client_of_a_wrong_type(client: Any) -> None:
    with pytest.warns(UserWarning, match="client should be"), pytest.raises(TypeError, match="MongoClient or an AsyncMongoClient"):
        MongoDBStore(client=client)


def test_the_constructor_connects_to_nothing() -> None:
    MongoDBStore()
    MongoDBStore(url=f"mongodb://127.0.0.1:{free_port()}")
    MongoDBStore(url="mongodb+srv://nowhere.invalid")


async def test_a_server_that_is_not_there(runtime: Runtime) -> None:
    kv = runtime.adapt(MongoDBStore(url=f"mongodb://u:{SECRET}@127.0.0.1:{free_port()}", timeout=0.3))
    for call in (lambda: kv.get("k"), lambda: kv.put("k", {}), lambda: kv.put_many(["k", "l"], [{}, {}], ttl=5), lambda: kv.keys()):
        started = time.monotonic()
        with pytest.raises(StoreConnectionError, match="is it running") as caught:
            await call()
        assert 0.2 < time.monotonic() - started < 20
        assert isinstance(caught.value.__cause__, errors.ServerSelectionTimeoutError)
        assert SECRET not in f"{caught.value} {caught.value.__cause__}"


async def test_a_name_that_can_not_be_looked_up(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> Any:
        raise resolver.NXDOMAIN

    monkeypatch.setattr(resolver, "resolve", resolve)
    monkeypatch.setattr(asyncresolver, "resolve", resolve)
    kv = runtime.adapt(MongoDBStore(url=f"mongodb+srv://u:{SECRET}@nowhere.example.com"))
    for call in (lambda: kv.get("k"), lambda: kv.put("k", {})):
        with pytest.raises(StoreConnectionError, match="could not look up the server; is the name right") as caught:
            await call()
        assert SECRET not in f"{caught.value} {caught.value.__cause__}"


def test_what_is_missing_is_named() -> None:
    program = "import sys; sys.modules.update(pymongo=None, bson=None); import keyvalue.stores.mongodb"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert "ImportError: import of pymongo halted" in ended.stderr
    assert "keyvalue[mongodb]" in ended.stderr


async def test_the_options_of_a_url_count_more(url: str) -> None:
    started = time.monotonic()
    async with MongoDBStore(url=f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=100") as kv:
        with pytest.raises(StoreConnectionError):
            await kv.get("k")
    assert time.monotonic() - started < 20
    async with MongoDBStore(url=f"{url}?timeoutMS=1000&appName=mine&w=1&retryWrites=true") as kv:
        await kv.put("k", {"a": 1})
        assert await kv.get("k") == {"a": 1}


PASSWORD = "p@s/" + "wo%rd:#" + SECRET


@pytest.fixture(scope="module")
def guarded() -> Generator[str, None, None]:
    """A server that wants a password: its host and port."""
    with servers.private_server("--auth") as running:
        with MongoClient[Any](running.url) as client:
            client.admin.command("createUser", "me", pwd=PASSWORD, roles=["root"])
        with MongoClient[Any](running.url, username="me", password=PASSWORD) as client:
            client["kv-store-adapter"].command("createUser", "reader", pwd=PASSWORD, roles=["read"])
        yield running.url.removeprefix("mongodb://").rstrip("/")


@own_server
async def test_credentials(runtime: Runtime, guarded: str) -> None:
    kv = runtime.adapt(MongoDBStore(url=f"mongodb://me:{quote(PASSWORD, safe='')}@{guarded}"))
    await kv.put("k", {"a": 1})
    reading = runtime.adapt(MongoDBStore(url=f"mongodb://reader:{quote(PASSWORD, safe='')}@{guarded}/kv-store-adapter"))
    assert await reading.get("k") == {"a": 1}
    for refused in (reading, *(runtime.adapt(MongoDBStore(url=f"mongodb://{who}{guarded}")) for who in ("", f"me:{SECRET}@"))):
        for call in (lambda kv=refused: kv.put("k", {"a": SECRET}), lambda kv=refused: kv.put_many(["k", "l"], [{"a": SECRET}] * 2)):
            with pytest.raises(StoreRefusedError, match="check username, password and rights") as caught:
                await call()
            assert SECRET not in f"{caught.value} {caught.value.__cause__}"
    assert await kv.get("k") == {"a": 1}


# Given clients


async def use(kv: Any) -> None:
    """Use every kind of command."""
    await kv.put("é😀", {"é": "😀", "n": 2**70}, collection="a$b")
    await kv.put_many(["k", "l"], [{"é": 1}, {}], ttl=50)
    assert await kv.get("é😀", collection="a$b") == {"é": "😀", "n": 2**70}
    assert await kv.get_many(["k", "missing"]) == [{"é": 1}, None]
    value, left = await kv.ttl("k")
    assert value == {"é": 1}
    assert 40 < left <= 50
    assert sorted(await kv.keys()) == ["k", "l"]
    assert sorted(await kv.collections()) == ["a$b", "default_collection"]
    assert await kv.delete("é😀", collection="a$b") is True
    assert await kv.delete_many(["k", "missing"]) == 1
    await kv.cull()
    assert await kv.destroy_collection("default_collection") is True
    assert await kv.destroy() is True


OPTIONS: list[dict[str, Any]] = [{}, {"tz_aware": True, "document_class": bson.SON}, {"retryReads": False, "timeoutMS": 5000}]


@pytest.mark.parametrize("options", OPTIONS)
async def test_a_given_synchronous_client_works_everywhere_and_stays_open(runtime: Runtime, url: str, options: Any) -> None:
    with MongoClient[Any](url, **options) as client:
        for _ in range(2):
            kv = runtime.adapt(MongoDBStore(client=client))
            await use(kv)
            await kv.close()
            assert client.admin.command("ping")["ok"] == 1


@pytest.mark.parametrize("options", OPTIONS)
async def test_a_given_asynchronous_client_works_on_its_loop_and_stays_open(url: str, options: Any) -> None:
    async with AsyncMongoClient[Any](url, **options) as client:
        for _ in range(2):
            async with MongoDBStore(client=client) as kv:
                await use(kv)
            assert (await client.admin.command("ping"))["ok"] == 1


def test_an_asynchronous_client_is_refused_elsewhere(url: str) -> None:
    async def main() -> None:
        async with AsyncMongoClient[Any](url) as client:
            store = MongoDBStore(client=client)
            await store.put("k", {})
            facade = BlockingKeyValue(store)
            with pytest.raises(StoreSetupError, match=r"belongs to an asyncio event loop.*Pass a synchronous client"):
                await asyncio.to_thread(facade.get, "k")
            assert await store.get("k") == {}

    asyncio.run(main())


def test_no_client_outlives_its_loop(url: str) -> None:
    def clients() -> int:
        gc.collect()
        return sum(type(one) is AsyncMongoClient for one in gc.get_objects())

    before = clients()
    store = MongoDBStore(url=url)
    for _ in range(3):
        asyncio.run(store.put("k", {}))
    assert clients() <= before


# The documents


async def test_the_document(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))
    value = {"b": 1, "a": {"d": [1.5, None, True], "c.d": "x"}}
    await kv.put("k", value, collection="users", ttl=50)
    await kv.put_many(["l", "m"], [value, value], collection="users")
    k, *others = raw["users"].find().sort("key")
    assert k["expires_at"] >= datetime.now(timezone.utc) + timedelta(seconds=45)
    assert k["expires_at"].timestamp() - k["value"].pop("deadline") < 0.0011
    assert list(k["value"]["object"]) == ["b", "a"]
    for document, key in zip((k, *others), "klm", strict=True):
        assert document["_id"].startswith("~")
        assert document["created_at"] <= datetime.now(timezone.utc)
        names = {"_id", "collection", "created_at", "key", "value", "version", *(["expires_at"] if key == "k" else [])}
        assert set(document) == names
        assert (document["collection"], document["key"], document["version"]) == ("users", key, 1)
        assert document["value"] == {"object": value}
    indexes = raw["users"].index_information()
    assert indexes["key_1"]["key"] == [("key", 1)]
    assert indexes["keyvalue_expires_at"]["expireAfterSeconds"] == 0
    assert raw.list_collection_names() == ["users"]


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels else {}


TEXTS: list[dict[str, Any]] = [
    {"n": 2**31},
    {"n": [-(2**31) - 1]},
    {"n": 2**63},
    {"$ref": "x", "$id": 1},
    {"a": [{"$set": 1}]},
    {'$"': 1},
    {"nul\0": 1},
    {"deep": nested(100)},
]
NATIVE: list[dict[str, Any]] = [
    {},
    {"n": [2**31 - 1, -(2**31), 0.1, -0.0, 1.0, 1e300]},
    {"a.b": 1, "": {"": ""}, "_id": 1, "price": "$5", "text": 'a "$x": 1', "nul": "\0"},
    {"deep": nested(80), "wide": [[{}]] * 200},
]


@pytest.mark.parametrize("number", range(len(TEXTS) + len(NATIVE)))
async def test_a_value_is_native_where_that_is_exact(runtime: Runtime, url: str, raw: Any, number: int) -> None:
    value = (TEXTS + NATIVE)[number]
    kv = runtime.adapt(MongoDBStore(url=url))
    await kv.put("k", value)
    await kv.put_many(["l", "m"], [value, {}])
    assert same(await kv.get("k"), value)
    assert same((await kv.get_many(["l", "m"]))[0], value)
    stored = raw["default_collection"].find_one({"key": "k"})["value"]["object"]
    assert stored == json.dumps(value, separators=(",", ":")) if number < len(TEXTS) else isinstance(stored, dict)


async def test_concurrent_first_puts_leave_one_document(url: str, raw: Any) -> None:
    async with MongoDBStore(url=url) as one, MongoDBStore(url=url) as other:
        for turn in range(10):
            async with anyio.create_task_group() as group:
                for number in range(40):
                    group.start_soon((one, other)[number % 2].put, f"k{turn}", {"n": number})
        for turn in range(5):
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon((one, other)[number % 2].put, f"l{turn}", {"n": number})
                    group.start_soon((one, other)[number % 2].put_many, [f"l{turn}", "x"], [{"n": number}, {}])
        assert raw["default_collection"].count_documents({}) == 16


def theirs(key: Any, value: Any, **more: Any) -> dict[str, Any]:
    """A document as py-key-value-aio writes it."""
    now = datetime.now(timezone.utc)
    return {"key": key, "collection": "c", "created_at": now, "version": 1, "value": {"object": value}, **more}


@pytest.mark.parametrize("many", [False, True])
async def test_several_documents_of_one_key(runtime: Runtime, url: str, raw: Any, clock: Clock, many: bool) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))

    async def put(value: Any) -> None:
        if many:
            await kv.put_many(["k", "l"], [value, value], collection="c", ttl=5)
        else:
            await kv.put("k", value, collection="c", ttl=5)

    raw["c"].insert_many([theirs("k", {"n": 1}), theirs("k", {"n": 2}), theirs("other", {"n": 3})])
    assert await kv.get("k", collection="c") == {"n": 1}
    assert await kv.get_many(["k", "x"], collection="c") == [{"n": 1}, None]
    await put({"n": 4})
    assert raw["c"].count_documents({"key": "k"}) == 1
    assert await kv.get("k", collection="c") == {"n": 4}
    clock.advance(5)
    assert await kv.get("k", collection="c") is None
    raw["c"].insert_many([theirs("d", {"n": 1}), theirs("d", {"n": 2})])
    assert await kv.delete("d", collection="c") is True
    assert await kv.delete("d", collection="c") is False
    assert await kv.get("other", collection="c") == {"n": 3}


@pytest.mark.parametrize("many", [False, True])
async def test_all_processes_see_the_same_of_several_documents(runtime: Runtime, url: str, raw: Any, clock: Clock, many: bool) -> None:
    stores = [runtime.adapt(MongoDBStore(url=url)) for _ in range(2)]

    async def see(value: Any) -> None:
        for kv in stores:
            assert await kv.get("k", collection="c") == value
            assert await kv.get_many(["k", "x"], collection="c") == [value, None]

    # Another library's document came to be at the same moment, before or after it.
    for turn in range(2):
        await stores[0].put("k", {"n": 1}, collection="c")
        own = raw["c"].find_one_and_delete({})
        raw["c"].insert_many([theirs("k", {"n": 2}), own][:: 1 if turn else -1])
        await see({"n": 1})
        if many:
            await stores[0].put_many(["k", "l"], [{"n": 3}, {}], collection="c")
        else:
            await stores[0].put("k", {"n": 3}, collection="c")
        await see({"n": 3})
        # A put looks at nothing but its own document if there is one.
        assert await stores[0].delete("k", collection="c") is True
        await see(None)
        await stores[0].put("k", {"n": 4}, collection="c")
        assert [document["_id"] for document in raw["c"].find({"key": "k"})] == [own["_id"]]
        raw["c"].delete_many({})
    soon = datetime.fromtimestamp(clock.now() + 50, timezone.utc)
    raw["c"].insert_many([theirs("k", {"n": 1}, expires_at=soon), theirs("k", {"n": 2}, expires_at="damaged"), theirs("k", {"n": 3})])
    await see({"n": 1})
    raw["c"].delete_one({"expires_at": "damaged"})
    clock.advance(60)
    await see({"n": 3})


class Commands(monitoring.CommandListener):
    """The names of the commands that were sent."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: Any) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: Any) -> None:
        pass

    failed = succeeded


async def test_the_commands_of_a_call(runtime: Runtime, url: str, raw: Any) -> None:
    raw["c"].insert_many([theirs("k", {"n": 1}), theirs("l", {"n": 2})])
    commands = Commands()
    with MongoClient[Any](url, event_listeners=[commands]) as client:
        kv = runtime.adapt(MongoDBStore(client=client))
        await kv.put("first", {}, collection="c")

        async def sent(call: Awaitable[Any]) -> list[str]:
            commands.names.clear()
            await call
            return commands.names

        both = ["k", "l", "new"]
        # What is new may have been written by py-key-value-aio: its documents give way to the entries' own.
        assert await sent(kv.put_many(both, [{"n": 3}] * 3, collection="c", ttl=50)) == ["update", "delete"]
        assert raw["c"].count_documents({}) == 4
        assert await sent(kv.put_many(both, [{"n": 4}] * 3, collection="c")) == ["update"]
        assert await sent(kv.put("k", {"n": 5}, collection="c")) == ["update"]
        # A single put keeps the document that it finds.
        raw["c"].insert_one(theirs("j", {"n": 1}))
        place = raw["c"].find_one({"key": "j"})["_id"]
        assert await sent(kv.put("j", {"n": 2}, collection="c")) == ["update", "update"]
        assert await sent(kv.get("j", collection="c")) == ["find", "find"]
        assert raw["c"].find_one({"key": "j"})["_id"] == place
        assert await sent(kv.put("newer", {}, collection="c")) == ["update", "update"]
        assert await sent(kv.put("newer", {"n": 6}, collection="c")) == ["update"]
        assert await sent(kv.put_many(["new", "newest"], [{"n": 7}] * 2, collection="c")) == ["update", "delete"]
        assert await sent(kv.get("newer", collection="c")) == ["find"]
        assert await sent(kv.get_many([*both, "j"], collection="c")) == ["find", "find"]
        assert await sent(kv.get_many(["newer", "new"], collection="c")) == ["find"]
        assert await kv.get_many([*both, "newer", "newest"], collection="c") == [{"n": 5}, {"n": 4}, {"n": 7}, {"n": 6}, {"n": 7}]
    held = {document["key"]: document for document in raw["c"].find()}
    assert len(held) == raw["c"].count_documents({}) == 7
    assert not any("expires_at" in document for document in held.values())


def test_what_was_sent_twice_leaves_no_other_document(url: str, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw["c"].insert_many([theirs("k", {"n": 1}), theirs("other", {"n": 1})])
    with BlockingKeyValue(MongoDBStore(url=url)) as kv:
        kv.put("l", {}, collection="c")
        really, calls = Collection.bulk_write, list[object]()

        def lost_once(collection: Any, *args: Any, **kwargs: Any) -> Any:
            result = really(collection, *args, **kwargs)
            calls.append(result)
            if len(calls) == 1:
                raise errors.AutoReconnect("the answer was lost")
            return result

        monkeypatch.setattr(Collection, "bulk_write", lost_once)
        kv.put_many(["k", "l"], [{"n": 2}, {"n": 3}], collection="c")
        assert kv.get_many(["k", "l", "other"], collection="c") == [{"n": 2}, {"n": 3}, {"n": 1}]
    assert len(calls) == 2
    assert sorted(document["key"] for document in raw["c"].find()) == ["k", "l", "other"]


def test_what_was_sent_twice_loses_nothing_beside_a_unique_index(url: str, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with BlockingKeyValue(MongoDBStore(url=url)) as kv:
        kv.put("l", {}, collection="c")
        raw["c"].drop_index("key_1")
        raw["c"].create_index("key", unique=True)
        raw["c"].insert_one(theirs("k", {"n": 1}))
        really, calls = Collection.bulk_write, list[object]()

        def lost_once_then_refused(collection: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(None)
            if len(calls) > 2:
                raise errors.AutoReconnect("the server is gone")
            try:
                return really(collection, *args, **kwargs)
            finally:
                if len(calls) == 1:
                    raise errors.AutoReconnect("the answer was lost")

        monkeypatch.setattr(Collection, "bulk_write", lost_once_then_refused)
        monkeypatch.setattr(Collection, "update_many", lost_once_then_refused)
        with pytest.raises(StoreConnectionError):
            kv.put_many(["k", "l"], [{"n": 2}, {"n": 3}], collection="c")
        assert kv.get_many(["k", "l"], collection="c") == [{"n": 1}, {"n": 3}]


def test_a_put_that_failed_in_the_middle_is_made_good_by_the_next(url: str, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw["c"].insert_one(theirs("k", {"n": 1}))
    with BlockingKeyValue(MongoDBStore(url=url)) as kv:
        kv.put("l", {}, collection="c")
        with monkeypatch.context() as patched:
            patched.setattr(Collection, "delete_many", raises_lost)
            with pytest.raises(StoreConnectionError):
                kv.put_many(["k", "l"], [{"n": 2}, {"n": 3}], collection="c")
        assert raw["c"].count_documents({"key": "k"}) == 2
        kv.put_many(["k", "l"], [{"n": 4}, {"n": 5}], collection="c")
        assert raw["c"].count_documents({"key": "k"}) == 1
        assert kv.get_many(["k", "l"], collection="c") == [{"n": 4}, {"n": 5}]


def raises_lost(*_: Any, **__: Any) -> Any:
    raise errors.AutoReconnect("the server is gone")


@pytest.mark.timeout(20)
async def test_text_full_of_dollars_takes_no_longer_than_other_text(runtime: Runtime, url: str) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))
    for text in ('"$' * 100_000, '{"$ref": "#/x"}, ' * 20_000, '\\"$"' * 50_000):
        await kv.put("k", {"text": text, "$id": 1, "n": 2**70})
        assert await kv.get("k") == {"text": text, "$id": 1, "n": 2**70}


async def test_a_document_whose_names_were_changed_gives_way(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))
    await kv.put_many(["k", "l", "m"], [{}, {}, {}], collection="c")
    raw["c"].update_many({"key": {"$in": ["k", "l"]}}, {"$set": {"collection": "x"}})
    await kv.put_many(["l", "m", "n"], [{"n": 1}, {"n": 2}, {"n": 3}], collection="c")
    await kv.put("k", {"n": 4}, collection="c")
    assert await kv.get_many(["k", "l", "m", "n"], collection="c") == [{"n": 4}, {"n": 1}, {"n": 2}, {"n": 3}]
    assert raw["c"].count_documents({}) == 4


@pytest.mark.parametrize("change", [{"collection": "x"}, {"key": "x"}])
async def test_a_document_that_comes_to_name_another_pair_is_missing_to_every_call(
    runtime: Runtime, url: str, raw: Any, change: Any
) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))
    await kv.put_many(["k", "l"], [{"n": 1}, {"n": 2}], collection="c")
    raw["c"].update_one({"key": "k"}, {"$set": change})
    assert await kv.get("k", collection="c") is None
    assert await kv.get_many(["k", "l"], collection="c") == [None, {"n": 2}]
    assert await kv.delete("k", collection="c") is False


async def test_overwriting_clears_the_expiry(runtime: Runtime, url: str, raw: Any, clock: Clock) -> None:  # H-1
    kv = runtime.adapt(MongoDBStore(url=url))
    raw["c"].insert_one(theirs("k", {}, expires_at=datetime.now(timezone.utc) + timedelta(seconds=50)))
    await kv.put("k", {"a": 1}, collection="c")
    clock.advance(60)
    assert await kv.ttl("k", collection="c") == ({"a": 1}, None)
    assert "expires_at" not in raw["c"].find_one()


async def test_the_date_decides_on_expiry(runtime: Runtime, url: str, raw: Any, clock: Clock) -> None:
    clock.freeze()
    kv = runtime.adapt(MongoDBStore(url=url))
    await kv.put("k", {}, ttl=50.0004)
    assert (await kv.ttl("k"))[1] == pytest.approx(50.0004, abs=1e-5)
    later = datetime.fromtimestamp(clock.now() + 100, timezone.utc)
    raw["default_collection"].update_one({}, {"$set": {"expires_at": later}})
    assert (await kv.ttl("k"))[1] == pytest.approx(100, abs=0.002)
    clock.advance(99)
    assert await kv.delete("k") is True


async def test_the_last_millisecond(runtime: Runtime, url: str, clock: Clock) -> None:
    clock.freeze()
    kv = runtime.adapt(MongoDBStore(url=url))
    for ttl in (20.0002, 20.0005, 20.0009, 20.0013):
        await kv.put_many(["k", "l"], [{}, {}], ttl=ttl)
        clock.advance(ttl - 0.0001)
        assert await kv.delete("k") is True
        await kv.cull()
        assert await kv.keys() == ["l"]
        clock.advance(0.0002)
        assert await kv.get("l") is None
        assert await kv.delete("l") is False
        await kv.cull()


async def test_expiry_in_real_time(url: str, raw: Any) -> None:
    async with MongoDBStore(url=url) as kv:
        await kv.put("k", {}, ttl=0.2)
        await kv.put_many(["l", "m"], [{}, {}], ttl=0.2)
        await kv.put("stays", {})
        await anyio.sleep(0.25)
        assert await kv.get_many(["k", "l", "m", "stays"]) == [None, None, None, {}]
        deadline = time.monotonic() + 30
        while raw["default_collection"].count_documents({}) > 1:
            assert time.monotonic() < deadline
            await anyio.sleep(0.1)
        assert await kv.keys() == ["stays"]


# Names

HARD = ["a$b", "nul\0", "system.x", "a.system.b", ".a", "a.", "a..b", "é" * 200, "x" * 250, "~" + "0" * 64, "$"]


async def test_names_that_no_collection_can_have(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))
    for name in HARD:
        await kv.put(name, {"of": name}, collection=name)
    for name in HARD:
        assert await kv.get(name, collection=name) == {"of": name}
    assert sorted(await kv.collections()) == sorted(HARD)
    held = raw.list_collection_names()
    assert len(held) == len(HARD)
    assert all(name.startswith("~") and len(name) == 65 for name in held)


async def test_the_longest_name_that_fits_keeps_its_place(url: str, raw: Any) -> None:
    longest = "x" * (255 - len("kv-store-adapter."))
    async with MongoDBStore(url=url) as kv:
        await kv.put("k", {}, collection=longest)
        await kv.put("k", {}, collection=longest + "x")
    assert longest in raw.list_collection_names()


async def test_sanitized_names_never_mix(runtime: Runtime, url: str, raw: Any) -> None:  # H-8, H-9
    kv = runtime.adapt(MongoDBStore(url=url, collection_sanitization_strategy=MongoDBV1CollectionSanitizationStrategy()))
    names = ["a/b", "a" * 300 + "1", "a" * 300 + "2", "仦乇", "佅举", "é", "plain"]
    for name in names:
        await kv.put("k", {"of": name}, collection=name)
        await kv.put_many(["k", "l"], [{"of": name}, {}], collection=name)
    for name in names:
        assert await kv.get_many(["k", "l"], collection=name) == [{"of": name}, {}]
        assert sorted(await kv.keys(name)) == ["k", "l"]
    assert sorted(await kv.collections()) == sorted(names)
    assert {"plain", "S_a_b-c14cddc0", "S_" + "a" * 198} < set(raw.list_collection_names())
    assert await kv.destroy_collection(names[1]) is True
    assert await kv.get("k", collection=names[2]) == {"of": names[2]}


# Limits


async def test_a_value_that_is_too_large_leaves_the_old_one(runtime: Runtime, url: str) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))
    await kv.put_many(["k", "l"], [{"a": 1}, {"a": 2}])
    large = {"text": "x" * 2**24}
    with pytest.raises(ValueTooLargeError) as caught:
        await kv.put("k", large)
    assert "xxx" not in str(caught.value)
    with pytest.raises(ValueTooLargeError):
        await kv.put_many(["l", "k"], [{}, large])
    assert await kv.get_many(["k", "l"]) == [{"a": 1}, {"a": 2}]
    fits = {"text": "x" * (2**24 - 2000)}
    await kv.put("k", fits)
    assert await kv.get("k") == fits
    await kv.put_many(["k", "l"], [fits, fits])
    assert await kv.get_many(["l", "k"]) == [fits, fits]
    # As a document of BSON it would be larger than its JSON text.
    numbers = {"numbers": [1] * 2_000_000}
    await kv.put("k", numbers)
    assert await kv.get("k") == numbers


async def test_long_keys(runtime: Runtime, url: str) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))
    keys = [letter * 4_000_000 for letter in "abc"]
    await kv.put_many(keys, [{"n": number} for number in range(3)])
    assert await kv.get_many([*keys, "x" * 2**24]) == [{"n": 0}, {"n": 1}, {"n": 2}, None]
    with pytest.raises(ValueTooLargeError):
        await kv.put("x" * 2**24, {})
    assert await kv.get("x" * 2**24) is None
    assert await kv.delete_many([*keys, "x" * 2**24]) == 3
    # Each would fit, but not both.
    half = "x" * (9 * 2**20)
    assert await kv.get(half, collection=half) is None
    assert await kv.delete(half, collection=half) is False
    with pytest.raises(ValueTooLargeError):
        await kv.put(half, {}, collection=half)


async def test_large_values_are_decoded_aside(runtime: Runtime, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))
    value = {"items": [{"n": number, "text": "x" * 50, "none": None} for number in range(20_000)]}
    await kv.put_many(["large", "small"], [value, {}])
    aside: list[object] = []
    real = decoding.runtime.aside
    monkeypatch.setattr(decoding.runtime, "aside", lambda function: (aside.append(function), real(function))[1])
    assert await kv.get("small") == {}
    assert not aside
    assert await kv.get("large") == value
    assert len(aside) == 1
    assert await kv.get_many(["large", "small"]) == [value, {}]
    assert len(aside) == 2


# What else lies in the database


async def test_arrays_of_names_are_not_ours(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))
    await kv.put("good", {}, collection="c")
    foreign = [theirs(["k", "l"], {}, _id=1), theirs("k", {}, _id=2, collection=["c", "d"]), theirs(["k"], {}, _id=3, collection=["c"])]
    raw["c"].insert_many(foreign)
    before = list(raw["c"].find({"_id": {"$in": [1, 2, 3]}}))
    assert await kv.collections() == ["c"]
    assert await kv.keys("c") == ["good"]
    assert await kv.get("k", collection="c") is None
    assert await kv.get_many(["k", "l", "good"], collection="c") == [None, None, {}]
    assert await kv.delete("k", collection="c") is False
    await kv.put("k", {"n": 1}, collection="c")
    await kv.put_many(["k", "l"], [{"n": 2}, {}], collection="c")
    assert await kv.get("k", collection="c") == {"n": 2}
    assert await kv.delete_many(["k", "l"], collection="c") == 2
    await kv.cull()
    assert await kv.destroy() is True
    assert list(raw["c"].find()) == before


@pytest.mark.parametrize("options", [{"unique": True}, {"unique": True, "name": "mine"}, {"sparse": True}])
async def test_an_index_of_the_users_own_serves(runtime: Runtime, url: str, raw: Any, options: Any) -> None:
    raw["c"].create_index("key", **options)
    raw["c"].insert_one(theirs("k", {"n": 1}))
    kv = runtime.adapt(MongoDBStore(url=url))
    await kv.put("l", {"n": 2}, collection="c")
    await kv.put_many(["k", "l", "m"], [{"n": 3}] * 3, collection="c")
    await kv.put("k", {"n": 4}, collection="c")
    assert await kv.get_many(["k", "l", "m"], collection="c") == [{"n": 4}, {"n": 3}, {"n": 3}]
    assert "keyvalue_expires_at" in raw["c"].index_information()


async def test_text_that_is_not_utf_8_is_an_error_for_its_own_key_alone(runtime: Runtime, url: str, raw: Any) -> None:
    document = bson.encode({"_id": 1, **theirs("bad", {"a": "XX"})}).replace(b"XX", b"\xff\xfe")
    raw["c"].insert_one(RawBSONDocument(document))
    kv = runtime.adapt(MongoDBStore(url=url))
    await kv.put("good", {}, collection="c")
    for call in (lambda: kv.get("bad", collection="c"), lambda: kv.get_many(["good", "bad"], collection="c")):
        with pytest.raises(DeserializationError):
            await call()
    assert sorted(await kv.keys("c")) == ["bad", "good"]
    await kv.put("bad", {"a": 1}, collection="c")
    assert await kv.get("bad", collection="c") == {"a": 1}


def fill(raw: Any) -> Any:
    """Put things of others into the database, and return a function that tells that they are unchanged."""
    long_ago = datetime(2001, 1, 1, tzinfo=timezone.utc)
    raw["a"].insert_many(
        [
            {"_id": "plain", "expires_at": long_ago},
            {"_id": "keyed", "key": "k", "value": 1},
            {"_id": "nameless", "key": "k", "value": {"object": {}}, "expires_at": datetime(2100, 1, 1, tzinfo=timezone.utc)},
            {"_id": "elsewhere", "key": "k", "collection": "b", "value": {"object": {}}},
            {"_id": "half", "collection": "a", "value": {"object": {}}},
            {"_id": "empty", "collection": "a", "key": "half", "value": {}},
        ]
    )
    raw["mine"].insert_one({"_id": 1, "expires_at": long_ago})
    raw.create_collection("view", viewOn="a", pipeline=[])
    before = {name: list(raw[name].find()) for name in ("a", "mine")}
    return lambda: (
        {name: [row for row in raw[name].find() if row["_id"] in {one["_id"] for one in before[name]}] for name in before} == before
    )


async def test_what_others_wrote_survives_and_is_not_listed(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))
    is_unchanged = fill(raw)
    for collection in ("a", "b", "c"):
        await kv.put("k", {}, collection=collection)
        await kv.put_many(["k", "l"], [{}, {}], collection=collection, ttl=50)
    assert sorted(await kv.keys("a")) == ["k", "l"]
    assert sorted(await kv.collections()) == ["a", "b", "c"]
    await kv.cull()
    await anyio.sleep(1.2) if runtime.name == "asyncio" else None  # the server looks for what has expired
    assert is_unchanged()
    assert await kv.delete("k", collection="a") is True
    assert await kv.destroy_collection("a") is True
    assert await kv.destroy_collection("a") is False
    assert await kv.destroy() is True
    assert await kv.collections() == []
    assert is_unchanged()
    assert raw["b"].count_documents({}) == 0
    await kv.put("k", {"again": True}, collection="a")
    assert await kv.get("k", collection="a") == {"again": True}


DAMAGED: list[dict[str, Any]] = [
    {"value": 1},
    {"value": {}},
    {"value": {"object": SECRET}},
    {"value": {"object": "[1]"}},
    {"value": {"object": [SECRET]}},
    {"value": {"object": {"a": datetime(2001, 1, 1, tzinfo=timezone.utc)}}},
    {"value": {"object": {"a": SECRET.encode()}}},
    {"value": {"object": {"a": bson.ObjectId()}}},
    {"version": 2},
    {"expires_at": SECRET},
]


@pytest.mark.parametrize("number", range(len(DAMAGED)))
async def test_a_damaged_document_is_an_error_for_its_own_key_alone(runtime: Runtime, url: str, raw: Any, number: int) -> None:  # H-37
    kv = runtime.adapt(MongoDBStore(url=url))
    await kv.put_many(["good", "bad"], [{"a": 1}, {}], collection="c")

    def damage() -> None:
        raw["c"].update_one({"key": "bad"}, {"$set": DAMAGED[number]})

    damage()
    for call in (lambda: kv.get("bad", collection="c"), lambda: kv.get_many(["good", "bad"], collection="c")):
        with pytest.raises(DeserializationError, match="overwrite") as caught:
            await call()
        assert caught.value.extra_info == {"collection": "c", "key": "bad"}
        assert SECRET not in str(caught.value)
    assert await kv.get("good", collection="c") == {"a": 1}
    assert "good" in await kv.keys("c")
    await kv.cull()
    assert await kv.delete("bad", collection="c") is True
    await kv.put("bad", {}, collection="c")
    damage()
    await kv.put("bad", {"a": 2}, collection="c")
    assert await kv.get("bad", collection="c") == {"a": 2}


async def test_values_that_only_py_key_value_aio_writes(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))
    values = [
        {"n": [2**40, -(2**63), 2**63 - 1]},
        {"$ref": "x", "$id": 1, "more": None},
        {"a": {"$ref": "x", "$id": {"n": 2**40}, "$db": "d"}},
        {"inf": [float("inf"), None]},
        {"$set": {"a.b": 1}},
    ]
    raw["c"].insert_many([theirs(f"k{number}", value) for number, value in enumerate(values)])
    keys = [f"k{number}" for number in range(len(values))]
    for key, value in zip(keys, values, strict=True):
        assert same(await kv.get(key, collection="c"), value)
    assert await kv.get_many([*keys, *keys], collection="c") == values * 2
    raw["c"].insert_one(theirs("nan", {"nan": float("nan"), "none": None}))
    found = await kv.get_many(["nan", "nan"], collection="c")
    assert [str(value["nan"]) for value in found] == ["nan", "nan"]


# Collections that come and go


async def test_auto_create_false(runtime: Runtime, url: str, raw: Any) -> None:
    kv = runtime.adapt(MongoDBStore(url=url, auto_create=False))
    assert await kv.get("k", collection="c") is None
    for call in (lambda: kv.put("k", {}, collection="c"), lambda: kv.put_many(["k", "l"], [{}, {}], collection="c")):
        with pytest.raises(StoreSetupError, match="does not exist"):
            await call()
    assert raw.list_collection_names() == []
    raw.create_collection("c")
    await kv.put("k", {"a": 1}, collection="c")
    assert await kv.get("k", collection="c") == {"a": 1}
    assert list(raw["c"].index_information()) == ["_id_"]


async def test_a_database_that_is_dropped(runtime: Runtime, url: str, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = runtime.adapt(MongoDBStore(url=url))
    await kv.put("k", {})
    raw.client.drop_database(raw.name)
    assert await kv.get("k") is None
    assert await kv.delete("k") is False
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
    raw.client.drop_database(raw.name)
    monkeypatch.setattr("keyvalue.stores.mongodb._LATELY", 0.0)
    await kv.put_many(["k", "l"], [{}, {}])
    assert set(raw["default_collection"].index_information()) == {"_id_", "key_1", "keyvalue_expires_at"}


async def test_a_refused_write_shows_no_value(runtime: Runtime, url: str, raw: Any) -> None:
    raw.create_collection("c", validator={"never": {"$exists": True}})
    kv = runtime.adapt(MongoDBStore(url=url))
    for call in (lambda: kv.put("k", {"a": SECRET}, collection="c"), lambda: kv.put_many(["k", "l"], [{"a": SECRET}] * 2, collection="c")):
        with pytest.raises(KeyValueStoreError) as caught:
            await call()
        assert isinstance(caught.value, StoreRefusedError)
        error: BaseException | None = caught.value
        while error is not None:
            assert SECRET not in f"{error!r} {error}"
            error = error.__cause__ or error.__context__
    assert await kv.get_many(["k", "l"], collection="c") == [None, None]


# A replica set


async def test_a_primary_that_steps_down(runtime: Runtime, empty_server: Any) -> None:
    url = empty_server("mongodb-replicaset")
    kv = runtime.adapt(MongoDBStore(url=url, timeout=20))
    await kv.put("k", {"turn": -1})
    with MongoClient[Any](url) as client:
        for turn in range(2):
            if len(client.nodes) < 2:
                break
            client.admin.command("replSetStepDown", 1, force=True)
            await kv.put("k", {"turn": turn})
            assert await kv.get("k") == {"turn": turn}
            await kv.put_many(["k", "l"], [{"turn": turn}, {}])
            assert await kv.get_many(["k", "l"]) == [{"turn": turn}, {}]
