"""What is MongoDBStore's own: how it connects, what its documents look like, and what else lies in the database."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import pytest
from dns import asyncresolver, resolver
from pymongo import AsyncMongoClient, MongoClient, errors, monitoring
from pymongo.collection import Collection

from keyvalue._core.entry import Entry
from keyvalue._core.layout import digest_of
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import StoreClosedError, StoreConnectionError, StoreRefusedError, StoreSetupError, ValueTooLargeError
from keyvalue.stores import mongodb as module
from keyvalue.stores._drivers import mongodb_client
from keyvalue.stores.mongodb import MongoDBStore, MongoDBV1CollectionSanitizationStrategy
from keyvalue.testing import Clock
from keyvalue.testing._samples import nested, same
from keyvalue.testing._suite import assert_collections, assert_keys, at_once
from tests.budget import scale
from tests.conftest import skip_or_fail
from tests.runtimes import Runtime
from tests.said import collect_texts
from tests.servers import free_port
from tests.servers import mongodb as servers
from tests.stores.hooks import PASSWORD, SECRET, assert_raised
from tests.stores.hooks.mongodb import DATABASE

pytestmark = [pytest.mark.backends("mongodb"), pytest.mark.runtimes("asyncio")]


@pytest.fixture
def raw(raw: Any) -> Any:
    """The database, to look behind the store's back."""
    return raw[DATABASE]


# Connecting


@pytest.mark.runtimes("asyncio", "direct")
async def test_a_name_that_can_not_be_looked_up(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> Any:
        raise resolver.NXDOMAIN

    monkeypatch.setattr(resolver, "resolve", resolve)
    monkeypatch.setattr(asyncresolver, "resolve", resolve)
    kv = runtime.adapt(MongoDBStore(url=f"mongodb+srv://u:{SECRET}@nowhere.example.com"))
    message = "could not look up the server; is the name right"
    await assert_raised(StoreConnectionError, message, lambda: kv.get("k"), lambda: kv.put("k", {}))


async def test_the_options_of_a_url_count_more(runtime: Runtime, url: str) -> None:
    kv = runtime.adapt(MongoDBStore(url=f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=100", timeout=60))
    started = time.monotonic()
    await assert_raised(StoreConnectionError, "", lambda: kv.get("k"))
    assert time.monotonic() - started < 20
    kv = runtime.adapt(MongoDBStore(url=f"{url}?timeoutMS=1000&appName=mine&w=1&retryWrites=true"))
    await runtime.eventually(lambda: kv.put("k", {"a": 1}))
    assert await runtime.eventually(lambda: kv.get("k")) == {"a": 1}


@pytest.fixture(scope="module")
def guarded() -> Generator[str, None, None]:
    """A server that wants a password: its host and port."""
    if why := servers.MONGODB.absent():
        skip_or_fail("mongodb", why)
    with servers.private_server("--auth") as running:
        with MongoClient[Any](running.url) as client:
            client.admin.command("createUser", "me", pwd=PASSWORD, roles=["root"])
        with MongoClient[Any](running.url, username="me", password=PASSWORD) as client:
            client[DATABASE].command("createUser", "reader", pwd=PASSWORD, roles=["read"])
            use = [{"resource": {"db": DATABASE, "collection": "c"}, "actions": ["find", "insert", "update", "remove"]}]
            client[DATABASE].command("createRole", "use", privileges=use, roles=[])
            client[DATABASE].command("createUser", "user", pwd=PASSWORD, roles=["use"])
        yield running.url.removeprefix("mongodb://").rstrip("/")


@pytest.mark.runtimes("asyncio", "direct")
async def test_credentials(runtime: Runtime, guarded: str) -> None:
    kv = runtime.adapt(MongoDBStore(url=f"mongodb://me:{quote(PASSWORD, safe='')}@{guarded}"))
    await kv.put("k", {"a": 1})
    reading = runtime.adapt(MongoDBStore(url=f"mongodb://reader:{quote(PASSWORD, safe='')}@{guarded}/{DATABASE}"))
    assert await reading.get("k") == {"a": 1}
    # Once a password was refused, a client looks for another server as long as it may.
    urls = (f"mongodb://{guarded}", f"mongodb://me:{SECRET}@{guarded}/?serverSelectionTimeoutMS=1000")
    for refused in (reading, *(runtime.adapt(MongoDBStore(url=url)) for url in urls)):
        calls = [lambda kv=refused: kv.put("k", {"a": SECRET}), lambda kv=refused: kv.put_many(["k", "l"], [{"a": SECRET}] * 2)]
        await assert_raised(StoreRefusedError, "check username, password and rights", *calls)
    assert await kv.get("k") == {"a": 1}


@pytest.mark.runtimes("asyncio", "direct")
@pytest.mark.parametrize("auto_create", [True, False])
async def test_rights_to_use_a_collection_are_enough(runtime: Runtime, guarded: str, auto_create: bool) -> None:
    owner = runtime.adapt(MongoDBStore(url=f"mongodb://me:{quote(PASSWORD, safe='')}@{guarded}"))
    url = f"mongodb://user:{quote(PASSWORD, safe='')}@{guarded}/{DATABASE}"
    for there in (True, False):  # the collection and its indexes
        with MongoClient[Any](f"mongodb://{guarded}", username="me", password=PASSWORD) as client:
            client[DATABASE].drop_collection("c")
        if there:
            await owner.put("old", {}, collection="c")
        kv = runtime.adapt(MongoDBStore(url=url, auto_create=auto_create))
        await kv.put("k", {"a": 1}, collection="c", ttl=50)
        await kv.put_many(["k", "l"], [{"a": 2}, {}], collection="c")
        assert await kv.get_many(["k", "l", "m"], collection="c") == [{"a": 2}, {}, None]
        assert sorted(await kv.keys("c")) == sorted(["k", "l"] + ["old"] * there)
        assert await kv.delete("k", collection="c") is True
        assert await kv.destroy_collection("c") is True
        calls = [
            lambda kv=kv: kv.put("k", {}, collection="d"),
            lambda kv=kv: kv.get("k", collection="d"),
            kv.collections,
            kv.cull,
            kv.destroy,
        ]
        await assert_raised(StoreRefusedError, "rights", *calls)


@pytest.fixture(scope="module")
def failing() -> Generator[tuple[str, Callable[..., Any]], None, None]:
    """A server that can be told to fail commands: its URL, and what tells it."""
    if why := servers.MONGODB.absent():
        skip_or_fail("mongodb", why)
    with servers.private_server("--setParameter", "enableTestCommands=1") as running, MongoClient[Any](running.url) as client:

        def fail(code: int, *labels: str, times: int = 1) -> None:
            data = {"failCommands": ["find", "update", "delete"], "errorCode": code, "errorLabels": list(labels)}
            client.admin.command("configureFailPoint", "failCommand", mode={"times": times} if code else "off", data=data)

        yield running.url, fail


# WriteConflict, ExceededTimeLimit, LockTimeout, MaxTimeMSExpired, SocketException, and one with a label.
PASSING = [(112,), (262,), (24,), (50,), (9001,), (12345, "RetryableError")]
LASTING = [(2,), (13,), (10334,), (12345,)]


@pytest.mark.runtimes("asyncio", "direct")
async def test_what_passes_by_itself_is_worth_another_try(runtime: Runtime, failing: tuple[str, Callable[..., Any]]) -> None:
    url, fail = failing
    kv = runtime.adapt(MongoDBStore(url=url))
    await kv.put("k", {"a": 1})
    calls = [lambda: kv.get("k"), lambda: kv.put("k", {"a": 1}), lambda: kv.put_many(["k", "l"], [{}, {}]), lambda: kv.delete("k")]
    for why, error in (*((why, StoreConnectionError) for why in PASSING), *((why, StoreRefusedError) for why in LASTING)):
        for call in calls:
            fail(*why, times=10)
            await assert_raised(error, "MongoDBStore", call)
    fail(0)
    assert await runtime.eventually(lambda: kv.get("k")) == {"a": 1}


def atlas(message: str) -> errors.OperationFailure:
    """Return what Atlas raises, which calls everything 8000."""
    return errors.OperationFailure(message, 8000, {"ok": 0, "errmsg": message, "code": 8000, "codeName": "AtlasError"})


FAKED = [
    (atlas("you are over your space quota, using 512 MB of 512 MB"), "the server refused the command"),
    (atlas("cannot create a new collection -- already using 527 collections of 500"), "the server refused the command"),
    (atlas("user is not allowed to do action [find] on [db.c]"), "check username, password and rights"),
    (atlas("bad auth : Authentication failed."), "check username, password and rights"),
    (
        errors.BulkWriteError({"writeErrors": [{"index": 0, "errmsg": "no code"}], "writeConcernErrors": []}),
        "the server refused the command",
    ),
]


@pytest.mark.runtimes("direct")
@pytest.mark.parametrize(("error", "message"), FAKED)
async def test_faked_errors_of_atlas(
    error: errors.OperationFailure, message: str, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collection, "find", Mock(side_effect=error))
    kv = runtime.adapt(MongoDBStore(url="mongodb://127.0.0.1:1"))
    await assert_raised(StoreRefusedError, message, lambda: kv.get("k"))


@pytest.mark.runtimes("direct")
async def test_a_faked_error_of_a_store_that_is_closed_meanwhile(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = MongoDBStore(url="mongodb://127.0.0.1:1")

    def find(*_: Any, **__: Any) -> Any:
        store._closed = True
        raise errors.OperationFailure("WriteConflict", 112, {"code": 112})

    monkeypatch.setattr(Collection, "find", find)
    kv = runtime.adapt(store)
    await assert_raised(StoreClosedError, "is closed", lambda: kv.get("k"))


def test_no_client_outlives_its_loop(url: str) -> None:
    def clients() -> int:
        gc.collect()
        return sum(type(one) is AsyncMongoClient for one in gc.get_objects())

    before = clients()
    store = MongoDBStore(url=url)
    for _ in range(2):
        asyncio.run(store.put("k", {}))
    assert clients() <= before


# The documents


async def test_the_document(kv: Any, raw: Any) -> None:
    value = {"b": 1, "a": {"d": [1.5, None, True], "c.d": "x"}}
    await kv.put("k", value, collection="users", ttl=50)
    await kv.put_many(["l", "m"], [value, value], collection="users")
    k, *others = raw["users"].find().sort("key")
    assert k["expires_at"] >= datetime.now(timezone.utc) + timedelta(seconds=45)
    assert k["expires_at"].timestamp() - k["value"].pop("deadline") < 0.0011
    assert list(k["value"]["object"]) == ["b", "a"]
    for document, key in zip((k, *others), "klm", strict=True):
        assert document.pop("_id").startswith("~")
        assert document.pop("created_at") <= datetime.now(timezone.utc)
        assert ("expires_at" in document) is (key == "k")
        document.pop("expires_at", None)
        assert document == {"collection": "users", "key": key, "value": {"object": value}, "version": 1}
    indexes = raw["users"].index_information()
    assert indexes["key_1"]["key"] == [("key", 1)]
    expiring = indexes["keyvalue_expires_at"]
    assert (expiring["key"], expiring["expireAfterSeconds"]) == ([("expires_at", 1)], 0)
    assert expiring["partialFilterExpression"] == {"value.object": {"$exists": True}}  # it is to spare what others wrote
    assert raw.list_collection_names() == ["users"]


TEXTS: list[dict[str, Any]] = [
    {"n": 2**31},
    {"n": [-(2**31) - 1]},
    {"n": 2**63},
    {"$ref": "x", "$id": 1},
    {"a": [{"$set": 1}]},
    {'$"': 1},
    {"nul\0": 1},
    {"deep": nested(100)},
    {"$set" + "x" * 100: nested(80)},
    {"a": [[], {"b": [{"$": 1}]}]},
    {"n": [-(2**63), 2**64, -(10**400)]},
]
NATIVE: list[dict[str, Any]] = [
    {},
    {"n": [2**31 - 1, -(2**31), 0.1, -0.0, 1.0, 1e300]},
    {"a.b": 1, "": {"": ""}, "_id": 1, "price": "$5", "text": 'a "$x": 1', "nul": "\0"},
    {"deep": nested(80), "wide": [[{}]] * 200},
    {"text": ["$", '"$', {"a$": "$set"}], "wide": [[{"a": "$"}]] * 200},
]


async def test_a_value_is_native_where_that_is_exact(kv: Any, raw: Any) -> None:
    for number, value in enumerate(TEXTS + NATIVE):
        await kv.put("k", value)
        await kv.put_many(["l", "m"], [value, {}])
        assert same(await kv.get("k"), value)
        assert same((await kv.get_many(["l", "m"]))[0], value)
        stored = raw["default_collection"].find_one({"key": "k"})["value"]["object"]
        assert stored == json.dumps(value, separators=(",", ":")) if number < len(TEXTS) else isinstance(stored, dict)


@pytest.mark.timeout(20)
async def test_text_full_of_dollars_takes_no_longer_than_other_text(kv: Any) -> None:
    for text in ('"$' * 100_000, '{"$ref": "#/x"}, ' * 20_000, '\\"$"' * 50_000):
        await kv.put("k", {"text": text, "$id": 1, "n": 2**70})
        assert await kv.get("k") == {"text": text, "$id": 1, "n": 2**70}


async def test_large_values_are_decoded_aside(kv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"items": [{"n": number, "text": "x" * 50, "none": None} for number in range(20_000)]}
    await kv.put_many(["large", "small"], [value, {}])
    aside = Mock(wraps=module.runtime.run_in_worker)
    monkeypatch.setattr(module.runtime, "run_in_worker", aside)
    assert await kv.get("small") == {}
    assert aside.call_count == 0
    assert await kv.get("large") == value
    assert aside.call_count == 1
    assert await kv.get_many(["large", "small"]) == [value, {}]
    assert aside.call_count == 2


def make_row(key: Any, value: Any, **more: Any) -> dict[str, Any]:
    """A document as py-key-value-aio writes it."""
    now = datetime.now(timezone.utc)
    return {"key": key, "collection": "c", "created_at": now, "version": 1, "value": {"object": value}, **more}


async def test_values_that_only_py_key_value_aio_writes(kv: Any, raw: Any) -> None:
    values = [
        {"n": [2**40, -(2**63), 2**63 - 1]},
        {"$ref": "x", "$id": 1, "more": None},
        {"a": {"$ref": "x", "$id": {"n": 2**40}, "$db": "d"}},
        {"inf": [float("inf"), None]},
        {"$set": {"a.b": 1}},
    ]
    raw["c"].insert_many([make_row(f"k{number}", value) for number, value in enumerate(values)])
    for number, value in enumerate(values):
        assert same(await kv.get(f"k{number}", collection="c"), value)
    assert await kv.get_many([f"k{number}" for number in range(len(values))] * 2, collection="c") == values * 2
    raw["c"].insert_one(make_row("nan", {"nan": float("nan"), "none": None}))
    found = await kv.get_many(["nan", "nan"], collection="c")
    assert [str(value["nan"]) for value in found] == ["nan", "nan"]


# Their dates


async def test_overwriting_clears_the_expiry(kv: Any, raw: Any, clock: Clock) -> None:  # H-1
    raw["c"].insert_one(make_row("k", {}, expires_at=datetime.now(timezone.utc) + timedelta(seconds=50)))
    await kv.put("k", {"a": 1}, collection="c")
    clock.advance(60)
    assert await kv.ttl("k", collection="c") == ({"a": 1}, None)
    assert "expires_at" not in raw["c"].find_one()


async def test_the_date_decides_on_expiry(kv: Any, raw: Any, clock: Clock) -> None:
    clock.freeze()
    await kv.put("k", {}, ttl=50.0004)
    assert (await kv.ttl("k"))[1] == pytest.approx(50.0004, abs=1e-5)
    later = datetime.fromtimestamp(clock.now() + 100, timezone.utc)
    raw["default_collection"].update_one({}, {"$set": {"expires_at": later}})
    assert (await kv.ttl("k"))[1] == pytest.approx(100, abs=0.002)
    clock.advance(99)
    assert await kv.delete("k") is True


async def test_the_last_millisecond(kv: Any, clock: Clock) -> None:
    clock.freeze()
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


# Several documents of one pair


async def test_concurrent_first_puts_leave_one_document(make: Any, raw: Any, runtime: Runtime) -> None:
    stores = list(enumerate([make(), make()] * 20))
    for turn in range(scale(3, 10)):
        puts = [partial(kv.put, f"k{turn}", {"n": number}) for number, kv in stores]
        puts += [partial(kv.put, f"l{turn}", {"n": number}) for number, kv in stores[:10]]
        await at_once(runtime, [*puts, *(partial(kv.put_many, [f"l{turn}", "x"], [{"n": n}, {}]) for n, kv in stores[:10])])
    assert raw["default_collection"].count_documents({}) == 2 * scale(3, 10) + 1


async def put(kv: Any, many: bool, value: Any, **ttl: float) -> None:
    """Put a value under "k", alone or together with another entry."""
    await (kv.put_many(["k", "l"], [value, {}], collection="c", **ttl) if many else kv.put("k", value, collection="c", **ttl))


@pytest.mark.parametrize("many", [False, True])
async def test_documents_of_another_library(kv: Any, raw: Any, clock: Clock, many: bool) -> None:
    raw["c"].insert_many([make_row("k", {"n": 1}), make_row("k", {"n": 2}), make_row("other", {"n": 3})])
    assert await kv.get("k", collection="c") == {"n": 1}
    assert await kv.get_many(["k", "x"], collection="c") == [{"n": 1}, None]
    await put(kv, many, {"n": 4}, ttl=5)
    assert raw["c"].count_documents({"key": "k"}) == 1
    assert await kv.get("k", collection="c") == {"n": 4}
    clock.advance(5)
    assert await kv.get("k", collection="c") is None
    raw["c"].insert_many([make_row("d", {"n": 1}), make_row("d", {"n": 2})])
    assert await kv.delete("d", collection="c") is True
    assert await kv.delete("d", collection="c") is False
    assert await kv.get("other", collection="c") == {"n": 3}


@pytest.mark.parametrize("many", [False, True])
async def test_all_processes_see_the_same_of_several_documents(kv: Any, url: str, raw: Any, clock: Clock, many: bool) -> None:
    async def see(value: Any) -> None:
        for each in (kv, other):
            assert await each.get("k", collection="c") == value
            assert await each.get_many(["k", "x"], collection="c") == [value, None]

    async with MongoDBStore(url=url) as other:
        # Another library's document came to be at the same moment, before or after it.
        for turn in range(2):
            await kv.put("k", {"n": 1}, collection="c")
            own = raw["c"].find_one_and_delete({})
            raw["c"].insert_many([make_row("k", {"n": 2}), own][:: 1 if turn else -1])
            await see({"n": 1})
            await put(kv, many, {"n": 3})
            await see({"n": 3})
            # A put looks at nothing but its own document if there is one.
            assert await kv.delete("k", collection="c") is True
            await see(None)
            await kv.put("k", {"n": 4}, collection="c")
            assert [document["_id"] for document in raw["c"].find({"key": "k"})] == [own["_id"]]
            raw["c"].delete_many({})
        soon = {"expires_at": datetime.fromtimestamp(clock.now() + 50, timezone.utc)}
        damaged = {"expires_at": "damaged"}
        raw["c"].insert_many([make_row("k", {"n": 1}, **soon), make_row("k", {"n": 2}, **damaged), make_row("k", {"n": 3})])
        await see({"n": 1})
        raw["c"].delete_one(damaged)
        clock.advance(60)
        await see({"n": 3})


async def test_the_commands_of_a_call(runtime: Runtime, url: str, raw: Any) -> None:
    raw["c"].insert_many([make_row("k", {"n": 1}), make_row("l", {"n": 2})])
    commands = Mock(spec=monitoring.CommandListener)
    with MongoClient[Any](url, event_listeners=[commands]) as client:
        kv = runtime.adapt(MongoDBStore(client=client))
        await kv.put("first", {}, collection="c")

        async def list_commands(call: Awaitable[Any]) -> list[str]:
            commands.reset_mock()
            await call
            return [told.args[0].command_name for told in commands.started.call_args_list]

        both = ["k", "l", "new"]
        # What has no document of its own yet may have some of py-key-value-aio, which are kept.
        ids = {document["_id"] for document in raw["c"].find()}
        assert await list_commands(kv.put_many(both, [{"n": 3}] * 3, collection="c", ttl=50)) == ["update", "find", "insert", "update"]
        assert raw["c"].count_documents({}) == 4
        assert ids < {document["_id"] for document in raw["c"].find()}
        assert await list_commands(kv.put_many(both, [{"n": 4}] * 3, collection="c")) == ["update", "find", "update"]
        assert await list_commands(kv.put("k", {"n": 5}, collection="c")) == ["update", "update"]
        assert await list_commands(kv.get("k", collection="c")) == ["find", "find"]
        assert ids < {document["_id"] for document in raw["c"].find()}
        assert await list_commands(kv.put("newer", {}, collection="c")) == ["update", "update"]
        assert await list_commands(kv.put("newer", {"n": 6}, collection="c")) == ["update"]
        assert await list_commands(kv.put_many(["new", "newest"], [{"n": 7}] * 2, collection="c")) == ["update", "find", "insert"]
        assert await list_commands(kv.put_many(["new", "newest"], [{"n": 7}] * 2, collection="c")) == ["update"]
        assert await list_commands(kv.get("newer", collection="c")) == ["find"]
        assert await list_commands(kv.get_many([*both, "newer"], collection="c")) == ["find", "find"]
        assert await list_commands(kv.get_many(["newer", "new"], collection="c")) == ["find"]
        assert await kv.get_many([*both, "newer", "newest"], collection="c") == [{"n": 5}, {"n": 4}, {"n": 7}, {"n": 6}, {"n": 7}]
        for key, commands_of_delete in {"new": ["delete"], "k": ["delete"], "none": ["delete", "delete"]}.items():
            assert await list_commands(kv.delete(key, collection="c")) == commands_of_delete
            assert await kv.get(key, collection="c") is None
    held = {document["key"]: document for document in raw["c"].find()}
    assert len(held) == raw["c"].count_documents({}) == 4
    assert not any("expires_at" in document for document in held.values())


@pytest.fixture
def entries(url: str, raw: Any) -> Generator[BlockingKeyValue, None, None]:
    """A store whose collection "c" is there, and has a document of py-key-value-aio."""
    with BlockingKeyValue(MongoDBStore(url=url)) as kv:
        kv.put("l", {}, collection="c")
        raw["c"].insert_one(make_row("k", {"n": 1}))
        yield kv


def lose(patch: pytest.MonkeyPatch, method: str, *, sent: int = 10**6, unheard: int = 0) -> list[object]:
    """Let through so many calls of a method of collections, lose the answer to one of them, and return the list of calls."""
    really, calls = getattr(Collection, method), list[object]()

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) > sent:
            raise errors.AutoReconnect("the server is gone")
        try:
            return really(*args, **kwargs)
        finally:
            if len(calls) == unheard:
                raise errors.AutoReconnect("the answer was lost")

    patch.setattr(Collection, method, call)
    return calls


@pytest.mark.parametrize("unheard", [1, 2])
def test_what_was_lost_is_not_sent_again_and_leaves_no_other_document(
    entries: BlockingKeyValue, raw: Any, monkeypatch: pytest.MonkeyPatch, unheard: int
) -> None:
    raw["c"].insert_one(make_row("other", {"n": 1}))
    put = partial(entries.put_many, ["k", "l", "new"], [{"n": 2}, {"n": 3}, {"n": 4}], collection="c")
    with monkeypatch.context() as patched:
        calls = lose(patched, "bulk_write", unheard=unheard)  # the first is for "l", the second for the others
        with pytest.raises(StoreConnectionError):
            put()
        assert len(calls) == unheard
    put()
    assert entries.get_many(["k", "l", "new", "other"], collection="c") == [{"n": 2}, {"n": 3}, {"n": 4}, {"n": 1}]
    assert sorted(document["key"] for document in raw["c"].find()) == ["k", "l", "new", "other"]


def test_what_was_sent_twice_beside_a_unique_index(entries: BlockingKeyValue, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw["c"].drop_index("key_1")
    raw["c"].create_index("key", unique=True)
    lose(monkeypatch, "bulk_write", sent=2, unheard=1)
    lose(monkeypatch, "update_many", sent=0)
    with pytest.raises(StoreConnectionError):
        entries.put_many(["k", "l"], [{"n": 2}, {"n": 3}], collection="c")
    assert entries.get_many(["k", "l"], collection="c") == [{"n": 1}, {"n": 3}]


def test_a_put_that_failed_in_the_middle(entries: BlockingKeyValue, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw["c"].insert_one(make_row("k", {"n": 1}))
    with monkeypatch.context() as patched:
        lose(patched, "delete_many", sent=0)
        with pytest.raises(StoreConnectionError):
            entries.put_many(["k", "l"], [{"n": 2}, {"n": 3}], collection="c", ttl=50)
    # Nothing is left that might be seen once the new value has expired.
    assert [document["value"]["object"] for document in raw["c"].find({"key": "k"})] == [{"n": 2}] * 2
    assert all("expires_at" in document for document in raw["c"].find({"key": "k"}))
    entries.put_many(["k", "l"], [{"n": 4}, {"n": 5}], collection="c")
    assert raw["c"].count_documents({"key": "k"}) == 1
    assert entries.get_many(["k", "l"], collection="c") == [{"n": 4}, {"n": 5}]


def meddle(patch: pytest.MonkeyPatch, method: str, doing: Callable[[int], object]) -> list[object]:
    """Do something before each call of a method of collections, given its number, and return the list of calls."""
    really, calls = getattr(Collection, method), list[object]()

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        doing(len(calls))
        return really(*args, **kwargs)

    patch.setattr(Collection, method, call)
    return calls


def test_documents_that_come_and_go_during_a_put_of_many(entries: BlockingKeyValue, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(number: int) -> None:
        if number == 2:
            raw["c"].delete_one({"key": "k"})
            raw["c"].insert_one(make_row("new", {"n": 1}, _id=digest_of("c", "new")))

    calls = meddle(monkeypatch, "bulk_write", change)
    entries.put_many(["k", "l", "new", "newer"], [{"n": 2}, {"n": 3}, {"n": 4}, {"n": 5}], collection="c")
    assert len(calls) == 2
    assert entries.get_many(["k", "l", "new", "newer"], collection="c") == [{"n": 2}, {"n": 3}, {"n": 4}, {"n": 5}]
    assert sorted(document["_id"] for document in raw["c"].find()) == sorted(digest_of("c", key) for key in ("k", "l", "new", "newer"))


def test_another_put_that_makes_the_document_first(entries: BlockingKeyValue, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = errors.DuplicateKeyError("E11000 duplicate key error collection: c index: _id_ dup key: {}", 11000, {"code": 11000})

    def refuse(number: int) -> None:
        if number == 1:
            raise taken

    calls = meddle(monkeypatch, "update_many", refuse)
    entries.put("new", {"n": 1}, collection="c")
    assert len(calls) == 2
    assert entries.get("new", collection="c") == {"n": 1}


def test_a_write_that_is_refused_while_the_store_closes_shows_no_value(url: str, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw["c"].create_index("value.object.name", unique=True, sparse=True)
    store = MongoDBStore(url=url, db_name=DATABASE)
    with BlockingKeyValue(store) as kv:
        kv.put("k", {"name": SECRET}, collection="c")
        meddle(monkeypatch, "update_many", lambda _: setattr(store, "_closed", True))
        with pytest.raises(StoreClosedError) as caught:
            kv.put("l", {"name": SECRET}, collection="c")
    assert isinstance(caught.value.__cause__, errors.DuplicateKeyError)
    assert SECRET not in "".join(collect_texts(caught.value))


def test_a_put_of_many_stores_what_the_server_takes(entries: BlockingKeyValue, raw: Any) -> None:
    raw["c"].create_index("value.object.name", unique=True, sparse=True)
    values = [{"name": "a"}, {"name": "b"}]
    entries.put_many(["k", "l"], values, collection="c")
    for keys in (["m", "k", "n"], ["l", "k", "o"]):  # the first is refused: as a new document, and as one that there is
        with pytest.raises(StoreRefusedError, match="has the same value"):
            entries.put_many(keys, [{"name": "a"}, {"name": "a"}, {"name": keys[2]}], collection="c")
        assert entries.get_many(keys, collection="c") == [values[1] if keys[0] == "l" else None, {"name": "a"}, {"name": keys[2]}]


async def test_the_outcome_of_each_entry(kv: Any, raw: Any) -> None:
    raw.create_collection("c", validator={"value.object.n": {"$type": "int"}})
    made = [Entry("c", key, None, text, 1.0, None) for key, text in (("k", b'{"n":"x"}'), ("l", b'{"n":1}'), ("m", b'{"n":[]}'))]
    for _ in range(2):
        outcomes = await kv._put("c", made)
        assert [type(outcome) for outcome in outcomes] == [StoreRefusedError, type(None), StoreRefusedError]
        assert await kv.get_many(["k", "l", "m"], collection="c") == [None, {"n": 1}, None]
    assert await kv._delete("c", ["l"]) == [True]
    assert await kv._delete("c", ["l"]) == [False]


async def test_a_document_whose_names_were_changed_is_missing_and_gives_way(kv: Any, raw: Any) -> None:
    await kv.put_many(["k", "l", "m", "n"], [{}, {}, {}, {"n": 0}], collection="c")
    raw["c"].update_many({"key": {"$in": ["k", "l"]}}, {"$set": {"collection": "x"}})
    raw["c"].update_one({"key": "m"}, {"$set": {"key": "x"}})
    for key in "klm":
        assert await kv.get(key, collection="c") is None
        assert await kv.get_many([key, "n"], collection="c") == [None, {"n": 0}]
        assert await kv.delete(key, collection="c") is False
    await kv.put_many(["l", "m", "n", "o"], [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}], collection="c")
    await kv.put("k", {"n": 5}, collection="c")
    assert await kv.get_many(["k", "l", "m", "n", "o"], collection="c") == [{"n": 5}, {"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]
    assert raw["c"].count_documents({}) == 5


# Indexes and collections


async def test_an_index_of_the_users_own_serves(kv: Any, raw: Any) -> None:
    for name, options in {"a": {"unique": True}, "b": {"unique": True, "name": "mine"}, "c": {"sparse": True}}.items():
        raw[name].create_index("key", **options)
        raw[name].insert_one(make_row("k", {"n": 1}, collection=name))
        await kv.put("l", {"n": 2}, collection=name)
        await kv.put_many(["k", "l", "m"], [{"n": 3}] * 3, collection=name)
        await kv.put("k", {"n": 4}, collection=name)
        assert await kv.get_many(["k", "l", "m"], collection=name) == [{"n": 4}, {"n": 3}, {"n": 3}]
        assert "keyvalue_expires_at" in raw[name].index_information()


async def test_auto_create_false(make: Any, raw: Any) -> None:
    kv = make(auto_create=False)
    assert await kv.get("k", collection="c") is None
    calls = [lambda: kv.put("k", {}, collection="c"), lambda: kv.put_many(["k", "l"], [{}, {}], collection="c")]
    await assert_raised(StoreSetupError, "does not exist", *calls)
    assert raw.list_collection_names() == []
    raw.create_collection("c")
    await kv.put("k", {"a": 1}, collection="c")
    assert await kv.get("k", collection="c") == {"a": 1}
    assert list(raw["c"].index_information()) == ["_id_"]


async def test_a_database_that_is_dropped(kv: Any, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await kv.put("k", {})
    raw.client.drop_database(raw.name)
    assert await kv.get("k") is None
    assert await kv.delete("k") is False
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
    raw.client.drop_database(raw.name)
    monkeypatch.setattr(mongodb_client, "_RECHECKED_AFTER", 0.0)
    await kv.put_many(["k", "l"], [{}, {}])
    assert set(raw["default_collection"].index_information()) == {"_id_", "key_1", "keyvalue_expires_at"}


@pytest.mark.runtimes("asyncio", "direct")
async def test_a_refused_write_shows_no_value(kv: Any, raw: Any) -> None:
    raw.create_collection("c", validator={"never": {"$exists": True}})
    value = {"a": SECRET}
    calls = [lambda: kv.put("k", value, collection="c"), lambda: kv.put_many(["k", "l"], [value, value], collection="c")]
    for call in calls:
        with pytest.raises(StoreRefusedError, match="the server refused the command") as caught:
            await call()
        error: BaseException | None = caught.value
        while error is not None:
            assert SECRET not in f"{error!r} {error}"
            error = error.__cause__ or error.__context__
    assert await kv.get_many(["k", "l"], collection="c") == [None, None]


# Names

HARD = ["a$b", "nul\0", "system.x", "a.system.b", ".a", "a.", "a..b", "é" * 200, "x" * 250, "~" + "0" * 64, "$"]
LONGEST = "x" * (255 - len(f"{DATABASE}."))


async def assert_apart(kv: Any, names: Sequence[str]) -> None:
    """Fail if collections are not kept apart."""
    for name in names:
        await kv.put("k", {"of": name}, collection=name)
        await kv.put_many(["k", "l"], [{"of": name}, {}], collection=name)
    for name in names:
        assert await kv.get_many(["k", "l"], collection=name) == [{"of": name}, {}]
        await assert_keys(kv, ["k", "l"], name)
    await assert_collections(kv, names)


async def test_names_that_no_collection_can_have(kv: Any, raw: Any) -> None:
    await assert_apart(kv, [*HARD, LONGEST])
    held = raw.list_collection_names()
    assert len(held) == len(HARD) + 1
    held.remove(LONGEST)
    assert all(name.startswith("~") and len(name) == 65 for name in held)


async def test_sanitized_names_never_mix(make: Any, raw: Any) -> None:  # H-8, H-9
    kv = make(collection_sanitization_strategy=MongoDBV1CollectionSanitizationStrategy())
    names = ["a/b", "a" * 300 + "1", "a" * 300 + "2", "仦乇", "佅举", "é", "plain"]
    await assert_apart(kv, names)
    assert {"plain", "S_a_b-c14cddc0", "S_" + "a" * 198} < set(raw.list_collection_names())
    assert await kv.destroy_collection(names[1]) is True
    assert await kv.get("k", collection=names[2]) == {"of": names[2]}


# Limits


async def test_a_value_that_is_too_large_leaves_the_old_one(kv: Any) -> None:
    await kv.put_many(["k", "l"], [{"a": 1}, {"a": 2}])
    large = {"password": SECRET, "text": "x" * 2**24}
    await assert_raised(
        ValueTooLargeError, "larger than the backend takes", lambda: kv.put("k", large), lambda: kv.put_many(["l", "k"], [{}, large])
    )
    assert await kv.get_many(["k", "l"]) == [{"a": 1}, {"a": 2}]
    fits = {"text": "x" * (2**24 - 2000)}
    await kv.put("k", fits)
    await kv.put_many(["l", "m"], [fits, {}])
    assert await kv.get_many(["l", "k"]) == [fits, fits]
    # As a document of BSON it would be larger than its JSON text.
    numbers = {"numbers": [1] * 2_000_000}
    await kv.put("k", numbers)
    assert await kv.get("k") == numbers


async def test_long_keys(kv: Any) -> None:
    keys = [letter * 4_000_000 for letter in "abc"]
    await kv.put_many(keys, [{"n": number} for number in range(3)])
    assert await kv.get_many([*keys, "x" * 2**24]) == [{"n": 0}, {"n": 1}, {"n": 2}, None]
    await assert_raised(ValueTooLargeError, "", lambda: kv.put("x" * 2**24, {}))
    assert await kv.get("x" * 2**24) is None
    assert await kv.delete_many([*keys, "x" * 2**24]) == 3
    # Each would fit, but not both.
    half = "x" * (9 * 2**20)
    assert await kv.get(half, collection=half) is None
    assert await kv.delete(half, collection=half) is False
    await assert_raised(ValueTooLargeError, "", lambda: kv.put(half, {}, collection=half))


# A replica set


async def test_a_primary_that_steps_down(runtime: Runtime, empty_server: Any) -> None:
    url = empty_server("mongodb-replicaset")
    kv = runtime.adapt(MongoDBStore(url=url, timeout=20))
    await kv.put("k", {"turn": -1})
    with MongoClient[Any](url) as client:
        for turn in range(scale(1, 2)):
            if len(client.admin.command("hello")["hosts"]) == 1:  # nobody else can be elected
                break
            client.admin.command("replSetStepDown", 1, force=True)
            await kv.put("k", {"turn": turn})
            assert await kv.get("k") == {"turn": turn}
            await kv.put_many(["k", "l"], [{"turn": turn}, {}])
            assert await kv.get_many(["k", "l"]) == [{"turn": turn}, {}]
