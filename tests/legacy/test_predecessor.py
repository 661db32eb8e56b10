"""The real py-key-value-aio beside this library: the same names, and the same data, written by either and read by the other."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import pkgutil
import sqlite3
import warnings
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_origin
from urllib.parse import urlsplit

import diskcache
import pytest

import keyvalue
import keyvalue.errors
import keyvalue.protocols
from keyvalue._core.wrapper import UNREACHABLE
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing import Clock
from keyvalue.testing._contract import assert_collections, assert_keys, offers
from keyvalue.testing._samples import same
from tests import backends, fake_winreg, makers
from tests.servers.registry import SERVERS

pytest.importorskip("key_value.aio", reason="the predecessor is not installed")

from key_value.aio import protocols as old_protocols
from key_value.aio.protocols import key_value as old_key_value
from key_value.aio.stores.memory import MemoryStore as OldMemoryStore

on_compound_names = pytest.mark.backends("disk", "rocksdb", "redis", "valkey", "memcached", "keyring", "vault")
# It can't use a cluster of Redis: its bulk calls cross slots. In Elasticsearch neither writes all values in a form that the other reads.
on_persistent, on_shared = (
    pytest.mark.backends(*(name for name in names if name not in ("redis-cluster", "elasticsearch")))
    for names in (backends.PERSISTENT, backends.SHARED)
)


class Data(NamedTuple):
    """Both libraries on the same data, and a look at it behind their backs."""

    old: Any
    new: Any
    names: Callable[[], set[str]]
    plant: Callable[[str, str], None]


@asynccontextmanager
async def on_disk(where: Path, _: str) -> AsyncGenerator[Data, None]:
    from key_value.aio.stores.disk import DiskStore as OldDiskStore

    from keyvalue.stores.disk import DiskStore

    directory = where / "disk"

    def sql(statement: str, *parameters: object) -> list[Any]:
        with closing(sqlite3.connect(directory / "cache.db")) as connection, connection:
            return connection.execute(statement, parameters).fetchall()

    def plant(name: str, text: str) -> None:
        sql("INSERT INTO Cache(key, raw, store_time, access_time, mode, value) VALUES (?, 1, 0, 0, 1, ?)", name, text)

    async with OldDiskStore(directory=directory) as old, DiskStore(directory=directory) as new:
        yield Data(old, new, lambda: {name for (name,) in sql("SELECT key FROM Cache")}, plant)


@asynccontextmanager
async def on_rocksdb(where: Path, _: str) -> AsyncGenerator[Data, None]:
    from key_value.aio.stores.rocksdb import RocksDBStore as OldRocksDBStore
    from rocksdict import Rdict

    from keyvalue.stores.rocksdb import RocksDBStore

    def plant(name: str, text: str) -> None:
        db[name] = text.encode()

    db = Rdict(str(where / "rocksdb"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that the store is unstable
        old = OldRocksDBStore(db=db)
    async with old, RocksDBStore(db=db) as new:
        yield Data(old, new, lambda: {str(name) for name in db.keys()}, plant)  # noqa: SIM118 # an Rdict is no dict
    db.close()


@asynccontextmanager
async def on_redis(_: Path, url: str) -> AsyncGenerator[Data, None]:
    import redis
    from key_value.aio.stores.redis import RedisStore as OldRedisStore

    from keyvalue.stores.redis import RedisStore

    client: Any = redis.Redis.from_url(url)
    async with OldRedisStore(url=url) as old, RedisStore(url=url) as new:
        yield Data(old, new, lambda: {name.decode() for name in client.keys("*")}, client.set)
    client.close()


def _on_valkey(cluster: bool) -> Callable[[Path, str], AbstractAsyncContextManager[Data]]:
    @asynccontextmanager
    async def on_valkey(_: Path, url: str) -> AsyncGenerator[Data, None]:
        import glide
        import redis
        from key_value.aio.stores.valkey import ValkeyStore as OldValkeyStore

        from keyvalue.stores.valkey import ValkeyStore

        where: Any = urlsplit(url)
        kind: Any = glide.GlideClusterClientConfiguration if cluster else glide.GlideClientConfiguration
        config = kind([glide.NodeAddress(where.hostname, where.port)], request_timeout=5000)
        client: Any = (redis.RedisCluster if cluster else redis.Redis).from_url(url)
        async with OldValkeyStore(config=config) as old, ValkeyStore(config=config) as new:
            yield Data(old, new, lambda: {name.decode() for name in client.scan_iter("*")}, client.set)
        client.close()

    return on_valkey


@asynccontextmanager
async def on_dynamodb(_: Path, url: str) -> AsyncGenerator[Data, None]:
    from key_value.aio.stores.dynamodb import DynamoDBStore as OldDynamoDBStore

    from keyvalue.stores.dynamodb import DynamoDBStore
    from tests.servers import dynamodb

    client = dynamodb.client(url)

    def names() -> set[str]:
        items = client.scan(TableName=dynamodb.TABLE, ConsistentRead=True)["Items"]
        return {f"{item['collection']['S']}::{item['key']['S']}" for item in items}

    def plant(name: str, text: str) -> None:
        collection, _, key = name.partition("::")
        client.put_item(TableName=dynamodb.TABLE, Item={"collection": {"S": collection}, "key": {"S": key}, "value": {"S": text}})

    where: dict[str, Any] = {"table_name": dynamodb.TABLE, "endpoint_url": url, **dynamodb.CREDENTIALS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that the store is unstable
        old = OldDynamoDBStore(**where)
    async with old, DynamoDBStore(**where) as new:
        yield Data(old, new, names, plant)
    client.close()


@asynccontextmanager
async def on_memcached(_: Path, url: str) -> AsyncGenerator[Data, None]:
    from key_value.aio.stores.memcached import MemcachedStore as OldMemcachedStore

    from keyvalue.stores.memcached import MemcachedStore
    from tests.servers.memcached import command, items

    where: Any = urlsplit(url)

    def plant(name: str, text: str) -> None:
        command(url, f"set {name} 0 0 {len(text)}\r\n{text}".encode())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that the store is unstable
        old = OldMemcachedStore(host=where.hostname, port=where.port)
    async with old, MemcachedStore(host=where.hostname, port=where.port) as new:
        yield Data(old, new, lambda: set(items(url)), plant)


@asynccontextmanager
async def on_keyring(_: Path, url: str) -> AsyncGenerator[Data, None]:
    from key_value.aio.stores.keyring import KeyringStore as OldKeyringStore

    from keyvalue.stores.keyring import KeyringStore
    from tests.servers import keyring

    keyring.session_bus(url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that the store is unstable
        old = OldKeyringStore()
    async with KeyringStore() as new:
        yield Data(old, new, lambda: keyring.names(url), lambda name, text: keyring.plant(url, name, text.encode()))


@asynccontextmanager
async def on_multi_disk(where: Path, _: str) -> AsyncGenerator[Data, None]:
    from key_value.aio.stores.disk import MultiDiskStore as OldMultiDiskStore

    from keyvalue.stores.disk import MultiDiskStore

    base = where / "multi-disk"

    def names() -> set[str]:
        found: set[str] = set()
        for database in base.glob("*/cache.db"):
            with closing(sqlite3.connect(database)) as connection:
                found |= {f"{database.parent.name}/{key}" for (key,) in connection.execute("SELECT key FROM Cache")}
        return found

    def plant(name: str, text: str) -> None:
        collection, _, key = name.partition("::")
        with diskcache.Cache(base / collection) as cache:
            cache.set(key, text)

    async with OldMultiDiskStore(base_directory=base) as old, MultiDiskStore(base_directory=base) as new:
        yield Data(old, new, names, plant)


def _on_filetree(name: str, strategies: bool) -> Callable[[Path, str], AbstractAsyncContextManager[Data]]:
    @asynccontextmanager
    async def on_filetree(where: Path, _: str) -> AsyncGenerator[Data, None]:
        from key_value.aio.stores import filetree as old_module

        from keyvalue.stores import filetree as new_module

        base = where / name
        base.mkdir()
        metadata = where / "info" if strategies else None

        def names() -> set[str]:
            return {str(path.relative_to(base)) for path in base.glob("*/**/*.json") if not path.name.endswith("-info.json")}

        def plant(name: str, text: str) -> None:
            collection, _, key = name.partition("::")
            (base / collection).mkdir(exist_ok=True)
            (base / collection / f"{key}.json").write_text(text)

        def open_one(module: Any) -> Any:
            parameters: dict[str, Any] = {"data_directory": base, "metadata_directory": metadata}
            if strategies:
                parameters["key_sanitization_strategy"] = module.FileTreeV1KeySanitizationStrategy(where)
                parameters["collection_sanitization_strategy"] = module.FileTreeV1CollectionSanitizationStrategy(where)
            return module.FileTreeStore(**parameters)

        async with open_one(new_module) as new:
            yield Data(open_one(old_module), new, names, plant)

    return on_filetree


@asynccontextmanager
async def on_mongodb(_: Path, url: str) -> AsyncGenerator[Data, None]:
    from key_value.aio.stores.mongodb import MongoDBStore as OldMongoDBStore
    from pymongo import MongoClient

    from keyvalue.stores.mongodb import MongoDBStore

    def names() -> set[str]:
        rows = [row for name in database.list_collection_names() for row in database[name].find()]
        return {f"{row['collection']}::{row['key']}" for row in rows}

    def plant(name: str, text: str) -> None:
        collection, _, key = name.partition("::")
        fields = {field: value for field, value in json.loads(text).items() if value != ""}
        dates = {field: datetime.fromisoformat(fields[field]) for field in ("created_at", "expires_at") if field in fields}
        database[collection].insert_one({**fields, **dates, "collection": collection, "key": key, "value": {"object": fields["value"]}})

    client: Any = MongoClient(url)
    database = client["kv-store-adapter"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that the store is unstable
        old = OldMongoDBStore(url=url)
    async with old, MongoDBStore(url=url) as new:
        yield Data(old, new, names, plant)
    client.close()


@asynccontextmanager
async def on_windows_registry(where: Path, _: str) -> AsyncGenerator[Data, None]:
    with fake_winreg.installed():
        import winreg

        from key_value.aio.stores.windows_registry import WindowsRegistryStore as OldWindowsRegistryStore

    from keyvalue.stores.windows_registry import WindowsRegistryStore

    path = makers.registry_path(where)

    def values(path: str) -> list[str]:
        """Return the names of all values below a key of the registry."""
        with winreg.OpenKey(winreg.HKEY_CURRENT_USER, path) as key:
            keys, count, _ = winreg.QueryInfoKey(key)
            below = [winreg.EnumKey(key, index) for index in range(keys)]
            found = [winreg.EnumValue(key, index)[0] for index in range(count)]
        return found + [f"{name}/{value}" for name in below for value in values(f"{path}\\{name}")]

    def plant(name: str, text: str) -> None:
        collection, _, key = name.partition("::")
        with winreg.CreateKeyEx(winreg.HKEY_CURRENT_USER, f"{path}\\{collection}") as opened:
            winreg.SetValueEx(opened, key, 0, winreg.REG_SZ, text)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that the store is unstable
        old = OldWindowsRegistryStore(registry_path=path)
    async with WindowsRegistryStore(registry_path=path) as new:
        yield Data(old, new, lambda: set(values(path)), plant)


@asynccontextmanager
async def on_vault(_: Path, url: str) -> AsyncGenerator[Data, None]:
    from key_value.aio.stores.vault import VaultStore as OldVaultStore

    from keyvalue.stores.vault import VaultStore
    from tests.servers import vault

    client = vault.client(url)

    def plant(name: str, text: str) -> None:
        client.secrets.kv.v2.create_or_update_secret(name, {"value": text})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that the store is unstable
        old = OldVaultStore(url=url, token=vault.TOKEN)
    async with VaultStore(url=url, token=vault.TOKEN) as new:
        yield Data(old, new, lambda: vault.names(client), plant)
    client.adapter.close()


OPENERS = {
    "disk": on_disk,
    "multi-disk": on_multi_disk,
    "filetree": _on_filetree("filetree", strategies=False),
    "filetree-v1": _on_filetree("filetree-v1", strategies=True),
    "rocksdb": on_rocksdb,
    "windows-registry": on_windows_registry,
    "redis": on_redis,
    "valkey": _on_valkey(cluster=False),
    "valkey-cluster": _on_valkey(cluster=True),
    "dynamodb": on_dynamodb,
    "memcached": on_memcached,
    "keyring": on_keyring,
    "mongodb": on_mongodb,
    "mongodb-replicaset": on_mongodb,
    "vault": on_vault,
}
Open = Callable[[], AbstractAsyncContextManager[Data]]


@pytest.fixture
def opened(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Open:
    url: str = request.getfixturevalue("empty_server")(backend) if backend in SERVERS else ""
    return lambda: OPENERS[backend](tmp_path, url)


# The same data

VALUES: list[dict[str, Any]] = [
    {},
    {"name": "Alice", "é😀": ["é", None, True, 1, -1.5, {"x": []}]},
    {"large": "x" * 100_000},
    {"key": "k", "value": {"value": "{}"}, "version": 7, "collection": 1, "expires_at": ""},
    {"ints": [2**53 + 1, 2**63, 2**80, -(2**80), 10**4000]},
    {"floats": [0.1, 1e300, 5e-324, -0.0, 1.0]},
    {"nul\0": "\0\n\u2028"},
]


def writable(backend: str) -> list[dict[str, Any]]:
    """Return the values that it can write to a backend: documents of MongoDB hold no large integers and no NUL in a key."""
    return [value for value in VALUES if not (backend.startswith("mongodb") and ("ints" in value or "nul\0" in value))]


@on_persistent
async def test_it_reads_what_we_write(opened: Open, backend: str) -> None:
    most = 51 if backend == "dynamodb" else 50.1  # it reads the whole second, rounded up, that DynamoDB itself deletes by
    keys = [f"k{number}" for number in range(len(VALUES))]
    async with opened() as data:
        await data.new.put_many(keys, VALUES, collection="c", ttl=50)
        for key, value in zip(keys, VALUES, strict=True):
            await data.new.put(key, value)
            assert same(await data.old.get(key, collection="c"), value)
            assert await data.old.ttl(key) == (value, None)
        assert await data.old.get_many([*keys, "missing"]) == [*VALUES, None]
        for value, left in await data.old.ttl_many(keys, collection="c"):
            assert value in VALUES
            assert 40 < left <= most
        await data.new.put("k0", {"again": True}, collection="c")
        assert await data.old.ttl("k0", collection="c") == ({"again": True}, None)
        assert await data.old.delete("k0", collection="c") is True
        assert await data.new.get("k0", collection="c") is None
        assert await data.old.delete_many(keys) == len(keys)
        await assert_keys(data.new, [])
        if hasattr(data.old, "keys"):
            assert sorted(await data.old.keys("c")) == keys[1:]


@on_persistent
async def test_we_read_what_it_writes(opened: Open, backend: str) -> None:
    values = writable(backend)
    keys = [f"k{number}" for number in range(len(values))]
    async with opened() as data:
        await data.old.put_many(keys, values, collection="c", ttl=50)
        for key, value in zip(keys, values, strict=True):
            await data.old.put(key, value)
            assert await data.new.get(key, collection="c") == value
            assert await data.new.ttl(key) == (value, None)
        assert await data.new.get_many([*keys, "missing"]) == [*values, None]
        for value, left in await data.new.ttl_many(keys, collection="c"):
            assert value in values
            assert 40 < left <= 50
        await assert_keys(data.new, keys, "c")
        await assert_collections(data.new, ["c", "default_collection"])
        await data.old.put("k0", {"again": True}, collection="c")
        value, left = await data.new.ttl("k0", collection="c")
        assert value == {"again": True}
        assert left is None or backend.startswith("mongodb")  # there it leaves the earlier expiry in place
        await data.new.put("k1", {"ours": True}, collection="c", ttl=90)
        assert (await data.old.ttl("k1", collection="c"))[1] > 80
        assert await data.new.delete("k0", collection="c") is True
        assert await data.old.get("k0", collection="c") is None
        if offers(data.new, "keys"):
            assert await data.new.destroy_collection("c") is True
            assert await data.old.get_many(keys, collection="c") == [None] * len(keys)
            assert await data.new.destroy() is True
            assert data.names() == set()


@on_persistent
async def test_what_it_writes_expires(opened: Open, clock: Clock) -> None:
    async with opened() as data:
        await data.old.put("k", {}, ttl=50)
        await data.old.put_many(["l", "m"], [{}, {}], collection="tenant::42", ttl=50)
        clock.advance(50)
        assert await data.new.get("k") is None
        assert await data.new.get_many(["l", "m"], collection="tenant::42") == [None, None]
        await assert_collections(data.new, [])
        assert await data.new.delete("l", collection="tenant::42") is False
        if offers(data.new, "keys"):
            await data.new.cull()
            assert data.names() == set()


@pytest.mark.backends(
    *(name for name in backends.PERSISTENT if name not in ("redis-cluster", "elasticsearch") and not name.startswith("mongodb"))
)
async def test_values_that_only_it_writes_are_read(opened: Open) -> None:
    deep: Any = 1
    for level in range(900):
        deep = {"a": deep} if level % 2 else [deep]
    values = [{"floats": [float("inf"), -float("inf")], "\ud800": "\udfff", "big": [2**70]}, deep]
    async with opened() as data:
        await data.old.put_many(["k", "deep"], values, ttl=50)
        await data.old.put("nan", {"nan": float("nan")})
        await data.old.put_many(["k", "deep"], values, collection="a::b")
        for collection in (None, "a::b"):
            assert await data.new.get_many(["k", "deep"], collection=collection) == values
        assert str((await data.new.get("nan"))["nan"]) == "nan"
        await assert_keys(data.new, ["deep", "k", "nan"])
        await assert_keys(data.new, ["deep", "k"], "a::b")
        if offers(data.new, "keys"):
            await data.new.cull()
        assert await data.new.delete_many(["k", "deep"]) == 2
        if offers(data.new, "keys"):
            assert await data.new.destroy() is True
            assert data.names() == set()


DOCUMENTS: list[dict[str, Any]] = [
    {"value": json.dumps({"a": [1]})},
    {"value": {"a": [1]}},
    {"value": {"a": [1]}, "version": 1, "created_at": "", "expires_at": "", "more": 1},
    {"value": {"a": [1]}, "created_at": "2026-01-01T00:00:00+00:00", "expires_at": "9999-12-31T23:59:59.999999+00:00"},
]


@on_persistent
@pytest.mark.parametrize("number", range(len(DOCUMENTS)))
async def test_both_read_every_form_of_the_document(opened: Open, number: int) -> None:
    async with opened() as data:
        data.plant("c::k", json.dumps(DOCUMENTS[number]))
        assert await data.old.get("k", collection="c") == {"a": [1]}
        assert await data.new.get("k", collection="c") == {"a": [1]}
        assert await data.new.get_many(["k"], collection="c") == [{"a": [1]}]


@on_shared
async def test_another_default_collection(opened: Open, make_raw: Callable[..., Any]) -> None:
    async with opened() as data, make_raw(default_collection="mine") as new:
        await data.old.put("k", {"a": 1}, collection="mine")
        assert await new.get("k") == {"a": 1}
        await new.put("l", {"a": 2})
        assert await data.old.get("l", collection="mine") == {"a": 2}


async def test_a_rocksdb_database_opened_by_one_after_the_other(tmp_path: Path) -> None:
    from key_value.aio.stores.rocksdb import RocksDBStore as OldRocksDBStore

    from keyvalue.stores.rocksdb import RocksDBStore

    for turn in range(2):
        with pytest.warns(UserWarning, match="unstable|stable"):
            old = OldRocksDBStore(path=tmp_path)
        async with old:
            assert await old.get("new") == ({"turn": 0} if turn else None)
            await old.put("old", {"turn": turn})
        async with RocksDBStore(path=tmp_path) as new:
            assert await new.get("old") == {"turn": turn}
            await new.put("new", {"turn": turn})


async def test_a_disk_cache_given_to_both(tmp_path: Path) -> None:
    from key_value.aio.stores.disk import DiskStore as OldDiskStore

    from keyvalue.stores.disk import DiskStore

    with diskcache.Cache(tmp_path, disk=diskcache.JSONDisk, eviction_policy="none") as cache:
        async with OldDiskStore(disk_cache=cache) as old, DiskStore(disk_cache=cache) as new:
            await old.put("k", {"large": "x" * 100_000}, ttl=50)
            assert await new.get("k") == {"large": "x" * 100_000}
            await new.put("k", {"a": 1}, ttl=50)
            assert await old.get("k") == {"a": 1}
            assert await new.keys() == ["k"]


# Names that move: H-5

MOVED = [("tenant::42", "k"), ("urn:", "e"), ("a::b", "c"), ("::", "::"), (":", ":"), ("a::", "x::y"), ("a~::", "~0")]
moved = pytest.mark.parametrize(("collection", "key"), MOVED)


@on_compound_names
@moved
async def test_an_entry_at_its_old_place_is_found_and_listed_once(opened: Open, collection: str, key: str) -> None:
    async with opened() as data:
        await data.old.put(key, {"old": True}, collection=collection, ttl=50)
        assert data.names() == {f"{collection}::{key}"}
        assert await data.new.get(key, collection=collection) == {"old": True}
        value, left = await data.new.ttl(key, collection=collection)
        assert value == {"old": True}
        assert 40 < left <= 50
        assert await data.new.get_many([key, "missing"], collection=collection) == [{"old": True}, None]
        await assert_keys(data.new, [key], collection)
        await assert_collections(data.new, [collection])
        assert data.names() == {f"{collection}::{key}"}


@on_compound_names
@moved
@pytest.mark.parametrize("bulk", [False, True])
async def test_the_next_put_takes_it_over(opened: Open, collection: str, key: str, bulk: bool) -> None:
    async with opened() as data:
        await data.old.put(key, {"old": True}, collection=collection)
        if bulk:
            await data.new.put_many(["other", key], [{}, {"new": True}], collection=collection, ttl=50)
        else:
            await data.new.put(key, {"new": True}, collection=collection)
        assert f"{collection}::{key}" not in data.names()
        assert not any("::" in name for name in data.names())
        assert await data.new.get(key, collection=collection) == {"new": True}
        if offers(data.new, "keys"):
            assert (await data.new.keys(collection)).count(key) == 1
        assert await data.old.get(key, collection=collection) is None


@on_compound_names
@moved
async def test_after_delete_it_is_gone_from_both_places(opened: Open, collection: str, key: str) -> None:
    async with opened() as data:
        await data.old.put(key, {"old": True}, collection=collection)
        assert await data.new.delete(key, collection=collection) is True
        assert await data.new.delete(key, collection=collection) is False
        assert data.names() == set()

        await data.new.put(key, {"new": True}, collection=collection)
        await data.old.put(key, {"old": True}, collection=collection)
        assert len(data.names()) == 2
        assert await data.new.get(key, collection=collection) == {"new": True}
        await assert_keys(data.new, [key], collection)
        assert await data.new.delete_many([key, key], collection=collection) == 1
        assert data.names() == set()

        await data.old.put_many([key, "l"], [{}, {}], collection=collection)
        if offers(data.new, "keys"):
            assert await data.new.destroy_collection(collection) is True
            assert data.names() == set()


# Guests: rows that lie at the plain name of another pair (H-5)

PAIRS = [(("a", "b::c"), ("a::b", "c")), (("a", ":b"), ("a:", "b")), (("a", "b::c::d"), ("a::b::c", "d"))]
pairs = pytest.mark.parametrize(("host", "guest"), PAIRS)


@on_compound_names
@pairs
async def test_a_guest_is_not_returned_to_the_host(opened: Open, host: tuple[str, str], guest: tuple[str, str]) -> None:
    async with opened() as data:
        await data.old.put(guest[1], {"guest": True}, collection=guest[0], ttl=50)
        assert await data.old.get(host[1], collection=host[0]) == {"guest": True}
        assert await data.new.get(host[1], collection=host[0]) is None
        assert await data.new.ttl(host[1], collection=host[0]) == (None, None)
        assert await data.new.get_many([host[1], "x"], collection=host[0]) == [None, None]
        await assert_keys(data.new, [], host[0])
        await assert_collections(data.new, [guest[0]])
        assert await data.new.get(guest[1], collection=guest[0]) == {"guest": True}


@on_compound_names
@pairs
async def test_a_guest_is_not_destroyed_by_the_host(opened: Open, host: tuple[str, str], guest: tuple[str, str]) -> None:
    async with opened() as data:
        await data.old.put(guest[1], {"guest": True}, collection=guest[0])
        assert await data.new.delete(host[1], collection=host[0]) is False
        assert await data.new.delete_many([host[1], "x"], collection=host[0]) == 0
        if offers(data.new, "keys"):
            assert await data.new.destroy_collection(host[0]) is False
        await data.new.put("x", {}, collection=host[0])
        if offers(data.new, "keys"):
            assert await data.new.destroy_collection(host[0]) is True
            await data.new.cull()
        else:
            assert await data.new.delete("x", collection=host[0]) is True
        assert await data.new.get(guest[1], collection=guest[0]) == {"guest": True}
        assert data.names() == {f"{guest[0]}::{guest[1]}"}


@on_compound_names
@pairs
@pytest.mark.parametrize("bulk", [False, True])
async def test_the_host_lives_elsewhere_beside_a_guest(opened: Open, host: tuple[str, str], guest: tuple[str, str], bulk: bool) -> None:
    async with opened() as data:
        await data.old.put(guest[1], {"guest": 2**70}, collection=guest[0], ttl=50)
        if bulk:
            await data.new.put_many(["x", host[1]], [{}, {"host": True}], collection=host[0])
        else:
            await data.new.put(host[1], {"host": True}, collection=host[0])
        assert await data.new.ttl(host[1], collection=host[0]) == ({"host": True}, None)
        value, left = await data.new.ttl(guest[1], collection=guest[0])
        assert value == {"guest": 2**70}
        assert 40 < left <= 50
        await assert_keys(data.new, [guest[1]], guest[0])
        if offers(data.new, "keys"):
            assert (await data.new.keys(host[0])).count(host[1]) == 1
        assert await data.old.get(guest[1], collection=guest[0]) == {"guest": 2**70}
        assert await data.new.delete(guest[1], collection=guest[0]) is True
        assert await data.new.get(host[1], collection=host[0]) == {"host": True}
        await data.new.put_many([host[1]], [{"host": "back"}], collection=host[0])
        assert await data.old.get(host[1], collection=host[0]) == {"host": "back"}
        if offers(data.new, "keys"):
            assert (await data.new.keys(host[0])).count(host[1]) == 1
        assert await data.new.delete(host[1], collection=host[0]) is True
        assert data.names() <= {f"{host[0]}::x"}


@on_compound_names
@pairs
async def test_a_guest_that_can_not_be_written_here_stays(opened: Open, host: tuple[str, str], guest: tuple[str, str]) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = {"a": deep}
    async with opened() as data:
        value = {"deep": deep, "inf": float("inf"), "\ud800": "\udfff"}
        await data.old.put(guest[1], value, collection=guest[0])
        await data.new.put(host[1], {"host": True}, collection=host[0])
        assert await data.new.get(guest[1], collection=guest[0]) == value
        assert await data.new.get(host[1], collection=host[0]) == {"host": True}


@on_compound_names
@pairs
async def test_the_moved_pair_leaves_the_hosts_row_alone(opened: Open, host: tuple[str, str], guest: tuple[str, str]) -> None:
    async with opened() as data:
        await data.old.put(host[1], {"host": True}, collection=host[0])
        assert await data.new.get(guest[1], collection=guest[0]) is None
        assert await data.new.delete(guest[1], collection=guest[0]) is False
        if offers(data.new, "keys"):
            assert await data.new.destroy_collection(guest[0]) is False
        await data.new.put(guest[1], {"guest": True}, collection=guest[0])
        assert await data.new.get(host[1], collection=host[0]) == {"host": True}
        assert await data.new.delete_many([guest[1]], collection=guest[0]) == 1
        if offers(data.new, "keys"):
            assert await data.new.destroy_collection(guest[0]) is False
        assert await data.new.get(host[1], collection=host[0]) == {"host": True}
        assert await data.old.get(host[1], collection=host[0]) == {"host": True}


@on_compound_names
async def test_a_damaged_row_at_an_old_place_does_not_disturb_the_new_one(opened: Open) -> None:
    async with opened() as data:
        data.plant("a::b::c", "not a document")
        assert await data.new.get("c", collection="a::b") is None
        await data.new.put("c", {"a": 1}, collection="a::b")
        assert await data.new.get("c", collection="a::b") == {"a": 1}
        assert await data.new.delete("c", collection="a::b") is True
        assert data.names() == {"a::b::c"}


# Memcached's names and expiry


def _memcached_stores(url: str, **kwargs: Any) -> tuple[Any, Any]:
    from key_value.aio.stores import memcached as old_module

    from keyvalue.stores import memcached as new_module

    where = urlsplit(url)
    found: list[Any] = []
    for module in (old_module, new_module):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            strategy = {"key_sanitization_strategy": module.MemcachedV1KeySanitizationStrategy()} if kwargs.get("strategy") else {}
            found.append(module.MemcachedStore(host=where.hostname, port=where.port, **strategy))
    return found[0], found[1]


@pytest.mark.backends("memcached")
async def test_long_names_of_its_strategy(empty_server: Callable[[str], str]) -> None:
    keys = ["k", "x" * 237, "x" * 238, "x" * 5000, "é" * 120, "a/b"]
    old, new = _memcached_stores(empty_server("memcached"), strategy=True)
    async with old, new:
        await old.put_many(keys, [{"old": key} for key in keys], collection="c", ttl=50)
        assert await new.get_many(keys, collection="c") == [{"old": key} for key in keys]
        await new.put_many(keys, [{"new": key} for key in keys], collection="c", ttl=90)
        for key in keys:
            assert await old.get(key, collection="c") == {"new": key}
            assert (await old.ttl(key, collection="c"))[1] > 80
        assert await new.delete_many(keys, collection="c") == len(keys)
        assert await old.get_many(keys, collection="c") == [None] * len(keys)


@pytest.mark.backends("memcached")
async def test_its_own_strategy(empty_server: Callable[[str], str]) -> None:
    from key_value.aio.stores.memcached import MemcachedV1KeySanitizationStrategy

    from keyvalue.stores.memcached import MemcachedStore

    where = urlsplit(empty_server("memcached"))
    old, _ = _memcached_stores(empty_server("memcached"), strategy=True)
    strategy = MemcachedV1KeySanitizationStrategy()
    async with old, MemcachedStore(host=str(where.hostname), port=int(where.port or 0), key_sanitization_strategy=strategy) as new:
        await old.put("k" * 300, {"old": True})
        assert await new.get("k" * 300) == {"old": True}
        await new.put_many(["k" * 300, "l"], [{"new": True}, {}])
        assert await old.get_many(["k" * 300, "l"]) == [{"new": True}, {}]


@pytest.mark.backends("memcached")
@pytest.mark.parametrize("ttl", [0.5, 2, 30 * 24 * 3600, 31 * 24 * 3600, 10**9])
async def test_ttls_of_any_length(empty_server: Callable[[str], str], ttl: float) -> None:
    old, new = _memcached_stores(empty_server("memcached"))
    async with old, new:
        await old.put("old", {}, ttl=max(ttl, 2))  # it cuts one second off
        await new.put("new", {}, ttl=ttl)
        await new.put_many(["a::new", "l"], [{}, {}], ttl=ttl)
        assert await new.ttl("old") == ({}, pytest.approx(max(ttl, 2), abs=0.5))
        assert await old.ttl("new") == ({}, pytest.approx(ttl, abs=0.4))
        assert await old.ttl("a::new") == ({}, pytest.approx(ttl, abs=0.4))


# The keyring's strategies, and its names on Windows


def _keyring_stores(*, strategy: bool) -> tuple[Any, Any]:
    """Make both stores over what keyring has chosen, each with its own strategies."""
    from key_value.aio.stores.keyring import store as old_module

    from keyvalue.stores import keyring as new_module

    found: list[Any] = []
    for module in (old_module, new_module):
        strategies = {
            f"{what.lower()}_sanitization_strategy": getattr(module, f"KeyringV1{what}SanitizationStrategy")()
            for what in ("Key", "Collection")
            if strategy
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it says that the store is unstable
            found.append(module.KeyringStore(**strategies))
    return found[0], found[1]


SANITIZED = ["k", "https://host.example/tokens?a=b", "x y", "x/y", "é😀", "nul\0", "a_b", "x" * 256, "x" * 257, "é" * 300]


@pytest.mark.backends("keyring")
async def test_names_of_its_strategies(opened: Open) -> None:
    async with opened() as data:
        old, new = _keyring_stores(strategy=True)
        for collection in SANITIZED[:6]:
            await old.put_many(SANITIZED, [{"old": key} for key in SANITIZED], collection=collection, ttl=50)
            assert await new.get_many(SANITIZED, collection=collection) == [{"old": key} for key in SANITIZED]
            await new.put_many(SANITIZED, [{"new": key} for key in SANITIZED], collection=collection)
            assert await old.ttl_many(SANITIZED, collection=collection) == [({"new": key}, None) for key in SANITIZED]
            assert await new.delete_many(SANITIZED, collection=collection) == len(SANITIZED)
            assert data.names() == set()
        await new.close()


@pytest.mark.backends("keyring")
async def test_names_that_its_strategies_mix_up(opened: Open) -> None:
    one, other = "x" * 300, "x" * 300 + "y"
    async with opened():
        old, new = _keyring_stores(strategy=True)
        await old.put(one, {"of": one})
        assert await new.get_many([one, other]) == [{"of": one}, None]
        assert await new.delete(other) is False
        await new.put(other, {"of": other})
        assert await new.get_many([one, other]) == [{"of": one}, {"of": other}]
        assert await old.get(one) == {"of": one}
        await new.close()


@pytest.mark.parametrize("strategy", [False, True])
async def test_a_keyring_of_windows(strategy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import keyring

    from tests.fake_keyrings import FakeWinVaultKeyring

    monkeypatch.setattr(keyring.core, "_keyring_backend", FakeWinVaultKeyring())
    old, new = _keyring_stores(strategy=strategy)
    names = ["k", "Upper", "with @ sign", "é"]
    for turn in range(2):
        for writer, reader in ((old, new), (new, old)):
            await writer.put_many(names, [{"of": [turn, name]} for name in names], collection="C", ttl=50)
            assert await reader.get_many(names, collection="C") == [{"of": [turn, name]} for name in names]
    assert await new.delete_many(names[:2], collection="C") == 2
    assert await old.get_many(names, collection="C") == [None, None, *({"of": [1, name]} for name in names[2:])]
    await old.put("x", {"of": "x"}, collection="c")
    assert await new.get("X", collection="c") is None
    await new.put("X", {"of": "X"}, collection="c")
    assert await old.get("x", collection="c") == {"of": "x"}
    assert await new.get_many(["x", "X"], collection="c") == [{"of": "x"}, {"of": "X"}]
    await new.close()


# Names that a directory or a file can't have, or not alone

SHARED_DIRECTORIES = [("x/y", "xy"), ("a:b", "ab"), ("x?", "x"), ("x ", "x"), ("x.", "x"), ("a" * 255 + "1", "a" * 255)]  # H-7


@pytest.mark.backends("multi-disk")
@pytest.mark.parametrize(("moved_one", "plain"), SHARED_DIRECTORIES)
async def test_collections_that_shared_a_directory(opened: Open, moved_one: str, plain: str) -> None:
    async with opened() as data:
        await data.old.put_many(["old", "both"], [{"of": "moved"}, {"of": "moved"}], collection=moved_one, ttl=50)
        await data.old.put_many(["plain", "both"], [{"of": "plain"}, {"of": "plain"}], collection=plain)
        assert await data.new.get_many(["old", "both", "plain"], collection=moved_one) == [{"of": "moved"}, None, None]
        assert await data.new.get_many(["old", "both", "plain"], collection=plain) == [None, {"of": "plain"}, {"of": "plain"}]
        await assert_keys(data.new, ["old"], moved_one)
        await assert_keys(data.new, ["both", "plain"], plain)
        await assert_collections(data.new, [moved_one, plain])

        assert await data.new.delete("plain", collection=moved_one) is False
        await data.new.put("old", {"of": "plain"}, collection=plain)
        assert await data.new.get("old", collection=moved_one) == {"of": "moved"}
        assert await data.new.get("old", collection=plain) == {"of": "plain"}
        await assert_keys(data.new, ["both", "old", "plain"], plain)

        await data.new.put("old", {"new": True}, collection=moved_one)
        assert f"{plain}/old" not in data.names()
        assert await data.new.get("old", collection=moved_one) == {"new": True}
        await assert_keys(data.new, ["old"], moved_one)
        assert await data.new.destroy_collection(moved_one) is True
        await assert_keys(data.new, ["both", "old", "plain"], plain)
        assert await data.new.destroy() is True
        assert data.names() == set()


@pytest.mark.backends("multi-disk")
async def test_a_moved_collection_at_its_old_place(opened: Open) -> None:
    async with opened() as data:
        await data.old.put("k", {"old": True}, collection="x/y", ttl=50)
        value, left = await data.new.ttl("k", collection="x/y")
        assert value == {"old": True}
        assert 40 < left <= 50
        assert await data.new.delete("k", collection="x/y") is True
        assert await data.new.delete("k", collection="x/y") is False
        assert data.names() == set()


LIKE_DIGESTS = [("~" + "0" * 64, "k"), ("c", "~" + "f" * 64), ("~" + "a" * 64, "~" + "b" * 64)]


@pytest.mark.backends("dynamodb")
@pytest.mark.parametrize(("collection", "key"), LIKE_DIGESTS)
async def test_a_name_that_looks_like_a_digest_at_its_old_place(opened: Open, collection: str, key: str) -> None:
    plain = f"{collection}::{key}"
    async with opened() as data:
        await data.old.put(key, {"old": True}, collection=collection, ttl=50)
        assert data.names() == {plain}
        assert await data.new.get(key, collection=collection) == {"old": True}
        assert (await data.new.ttl_many([key], collection=collection))[0][1] > 40
        assert await data.new.keys(collection) == [key]
        assert await data.new.collections() == [collection]
        await data.new.put(key, {"new": True}, collection=collection)
        assert plain not in data.names()
        assert await data.old.get(key, collection=collection) is None
        await data.old.put(key, {"old": True}, collection=collection)
        assert await data.new.get(key, collection=collection) == {"new": True}
        assert await data.new.keys(collection) == [key]
        assert await data.new.delete(key, collection=collection) is True
        assert data.names() == set()
        await data.old.put(key, {"old": True}, collection=collection)
        assert await data.new.destroy_collection(collection) is True
        assert data.names() == set()

        data.plant(plain, '{"value": {"not": "of ours"}}')
        assert await data.new.get(key, collection=collection) is None
        assert await data.new.delete(key, collection=collection) is False
        assert await data.new.destroy() is True
        assert data.names() == {plain}


@pytest.mark.backends("dynamodb")
async def test_the_tables_time_to_live_as_both_write_it(opened: Open, clock: Clock) -> None:  # H-22
    async with opened() as data:
        await data.new.put("k", {}, ttl=0.9)
        assert await data.old.get("k") == {}
        await data.old.put("k", {}, ttl=1)
        left = (await data.new.ttl("k"))[1]
        assert 0.5 < left <= 1
        clock.advance(left)
        assert await data.new.get("k") is None


@pytest.mark.backends("multi-disk")
async def test_a_cache_factory_given_to_both(tmp_path: Path) -> None:
    from key_value.aio.stores.disk import MultiDiskStore as OldMultiDiskStore

    from keyvalue.stores.disk import MultiDiskStore

    def factory(collection: str) -> diskcache.Cache:
        return diskcache.Cache(tmp_path / f"mine-{collection}", eviction_policy="none")

    async with OldMultiDiskStore(disk_cache_factory=factory) as old, MultiDiskStore(disk_cache_factory=factory) as new:
        await old.put("k", {"a": 1}, collection="c", ttl=50)
        assert await new.get("k", collection="c") == {"a": 1}
        await new.put_many(["k", "l"], [{"a": 2}, {}], collection="c")
        assert await old.get_many(["k", "l"], collection="c") == [{"a": 2}, {}]
        assert sorted(await new.keys("c")) == ["k", "l"]
        assert await new.delete_many(["k", "x"], collection="c") == 1
        assert await new.destroy_collection("c") is True
        assert await old.get_many(["k", "l"], collection="c") == [None, None]


# A tree with the V1 strategies, as FastMCP makes for its tokens

TOKEN_KEYS = [
    "plain_key_1",
    "0b7a2a0e-6f5e-4c57-b3f1-0d1a2c3b4d5e",
    "https://client.example.com/oauth/metadata.json?v=1",
    "user@example.com",
    "é😀",
    "x" * 300,
    "..",
]
TOKEN_COLLECTIONS = ["mcp-oauth-proxy-clients", "mcp_tokens", "default_collection", "https://idp.example.com/"]


@pytest.mark.backends("filetree-v1")
@pytest.mark.parametrize("collection", TOKEN_COLLECTIONS)
async def test_a_token_store(opened: Open, collection: str) -> None:
    async with opened() as data:
        for key in TOKEN_KEYS:
            await data.old.put(key, {"token": key}, collection=collection, ttl=500)
        old_files = data.names()
        assert await data.new.get_many(TOKEN_KEYS, collection=collection) == [{"token": key} for key in TOKEN_KEYS]
        # The names of the keys that were replaced are lost; they are listed, and to be had, under those of their files.
        listed = await data.new.keys(collection)
        assert len(listed) == len(TOKEN_KEYS)
        assert "plain_key_1" in listed
        assert sorted(value["token"] for value in await data.new.get_many(listed, collection=collection)) == sorted(TOKEN_KEYS)
        await assert_collections(data.new, [collection])

        for key in TOKEN_KEYS:
            await data.new.put(key, {"token": "new", "of": key}, collection=collection, ttl=900)
            assert await data.old.get(key, collection=collection) == {"token": "new", "of": key}
        assert data.names() == old_files
        await assert_keys(data.new, TOKEN_KEYS, collection)
        await data.old.put(TOKEN_KEYS[2], {"token": "old again"}, collection=collection)
        assert await data.new.get(TOKEN_KEYS[2], collection=collection) == {"token": "old again"}
        assert await data.new.delete_many(TOKEN_KEYS, collection=collection) == len(TOKEN_KEYS)
        assert await data.old.get_many(TOKEN_KEYS, collection=collection) == [None] * len(TOKEN_KEYS)
        assert data.names() == set()


@pytest.mark.backends("filetree-v1")
async def test_what_is_listed_under_the_name_of_its_file_can_be_deleted(opened: Open) -> None:
    async with opened() as data:
        await data.old.put("a/b", {"a": 1}, collection="c/d")
        (listed,) = await data.new.keys("c/d")
        assert listed.startswith("S_a_b-")
        assert await data.new.delete(listed, collection="c/d") is True
        assert data.names() == set()
        await data.old.put("a/b", {"a": 1}, collection="c/d")
        await data.new.put(listed, {"a": 2}, collection="c/d")
        await assert_keys(data.new, [listed], "c/d")
        await data.old.put("a/b", {"a": 1}, collection="c/d")
        assert await data.new.destroy_collection("c/d") is True
        assert data.names() == set()


@pytest.mark.backends("filetree-v1")
async def test_a_file_belongs_to_the_collection_of_the_info_file(opened: Open) -> None:  # H-8
    one, other = "a" * 300 + "1", "a" * 300 + "2"
    async with opened() as data:
        await data.old.put("k", {"of": "one"}, collection=one)
        assert await data.new.get("k", collection=one) == {"of": "one"}
        assert await data.new.get("k", collection=other) is None
        assert await data.new.delete("k", collection=other) is False
        await data.new.put("k", {"of": "other"}, collection=other)
        assert await data.new.get("k", collection=one) == {"of": "one"}
        assert await data.new.get("k", collection=other) == {"of": "other"}
        await assert_collections(data.new, [one, other])
        assert await data.new.destroy_collection(other) is True
        assert await data.new.get("k", collection=one) == {"of": "one"}


@pytest.mark.backends("filetree-v1")
async def test_the_sanitization_of_the_predecessors_own_strategies(tmp_path: Path) -> None:
    from key_value.aio.stores import filetree as old_module

    from keyvalue.stores.filetree import FileTreeStore

    key, collection = old_module.FileTreeV1KeySanitizationStrategy(tmp_path), old_module.FileTreeV1CollectionSanitizationStrategy(tmp_path)
    async with FileTreeStore(data_directory=tmp_path, key_sanitization_strategy=key, collection_sanitization_strategy=collection) as kv:
        await kv.put("a/b", {"a": 1}, collection="H_x")
        assert await kv.keys("H_x") == ["a/b"]


@pytest.mark.backends("filetree")
async def test_a_collection_with_a_slash(opened: Open, tmp_path: Path) -> None:
    async with opened() as data:
        await data.old.put("k", {"old": True}, collection="a/b", ttl=50)
        await data.old.put("k", {"other": True}, collection="a")
        assert (tmp_path / "filetree/a/b/k.json").exists()
        assert await data.new.get("k", collection="a/b") == {"old": True}
        await assert_keys(data.new, ["k"], "a/b")
        await assert_keys(data.new, ["k"], "a")
        await assert_collections(data.new, ["a", "a/b"])
        await data.new.put("k", {"new": True}, collection="a/b")
        assert not (tmp_path / "filetree/a/b/k.json").exists()
        await assert_keys(data.new, ["k"], "a/b")
        await data.old.put("l", {"old": True}, collection="a/b")
        assert await data.new.destroy_collection("a/b") is True
        assert await data.new.get("k", collection="a") == {"other": True}
        assert await data.new.destroy() is True
        assert data.names() == set()


@pytest.mark.backends("filetree")
async def test_a_tree_that_was_moved(opened: Open, tmp_path: Path) -> None:  # H-55
    from keyvalue.stores.filetree import FileTreeStore

    async with opened() as data:
        await data.old.put("k", {"old": True}, collection="c")
    (tmp_path / "filetree").rename(tmp_path / "elsewhere")
    async with FileTreeStore(data_directory=tmp_path / "elsewhere") as kv:
        assert await kv.get("k", collection="c") == {"old": True}
        assert await kv.collections() == ["c"]
    assert not (tmp_path / "filetree").exists()


# The registry of Windows


@pytest.mark.backends("windows-registry")
@pytest.mark.parametrize(
    ("collection", "key"), [("a\\b", "c"), ("a", "b\\c"), ("Foo", "Bar"), ("a::b", "c/d"), ("é😀", "v" * 16_383), ("k" * 255, "K")]
)
async def test_names_that_the_registry_can_hold(opened: Open, collection: str, key: str) -> None:
    async with opened() as data:
        await data.new.put(key, {"new": True}, collection=collection, ttl=50)
        assert await data.old.get(key, collection=collection) == {"new": True}
        await data.old.put(key, {"old": True}, collection=collection)
        assert await data.new.ttl(key, collection=collection) == ({"old": True}, None)
        assert await data.new.keys(collection) == [key]
        assert await data.new.collections() == [collection]
        assert len(data.names()) == 1
        assert await data.new.delete(key, collection=collection) is True
        assert await data.old.get(key, collection=collection) is None


@pytest.mark.backends("windows-registry")
@pytest.mark.parametrize(("guest", "host"), [(("a\\", "k"), ("a", "k")), (("a\\\\b", "k"), ("a\\b", "k")), (("Foo", "K"), ("foo", "k"))])
async def test_pairs_that_have_one_place_in_the_registry(opened: Open, guest: tuple[str, str], host: tuple[str, str]) -> None:
    async with opened() as data:
        await data.old.put(guest[1], {"guest": True}, collection=guest[0], ttl=50)
        assert await data.old.get(host[1], collection=host[0]) == {"guest": True}
        assert await data.new.get(host[1], collection=host[0]) is None
        assert await data.new.get(guest[1], collection=guest[0]) == {"guest": True}
        assert await data.new.keys(host[0]) == []
        assert await data.new.keys(guest[0]) == [guest[1]]
        assert await data.new.delete(host[1], collection=host[0]) is False
        await data.new.put(host[1], {"host": True}, collection=host[0])
        assert await data.new.get(guest[1], collection=guest[0]) == {"guest": True}
        assert await data.new.get(host[1], collection=host[0]) == {"host": True}
        assert sorted(await data.new.collections()) == sorted([host[0], guest[0]])
        assert await data.new.destroy_collection(host[0]) is True
        assert await data.new.delete(guest[1], collection=guest[0]) is True
        assert data.names() == set()


@pytest.mark.backends("windows-registry")
async def test_the_strategy_for_registry_keys(tmp_path: Path) -> None:
    with fake_winreg.installed():
        from key_value.aio.stores.windows_registry import store as old_module

    from keyvalue.stores import windows_registry as new_module

    path = makers.registry_path(tmp_path)

    def open_one(module: Any, of: Any) -> Any:
        strategy = of.WindowsRegistryV1CollectionSanitizationStrategy()
        return module.WindowsRegistryStore(registry_path=path, collection_sanitization_strategy=strategy)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that the store is unstable
        old = open_one(old_module, old_module)
    for of in (old_module, new_module):
        async with open_one(new_module, of) as new:
            for collection in ("users", "a/b", "a\\b", "é", "x" * 95, "x" * 97):
                await old.put("k", {"old": collection}, collection=collection)
                assert await new.get("k", collection=collection) == {"old": collection}
                await new.put("k", {"new": collection}, collection=collection)
                assert await old.get("k", collection=collection) == {"new": collection}
                assert await new.keys(collection) == ["k"]
            assert await new.destroy() is True
            assert await old.get("k", collection="users") is None


# Elasticsearch


@asynccontextmanager
async def in_elasticsearch(url: str, strategies: bool = False) -> AsyncGenerator[tuple[Any, Any, Callable[[], set[str]]], None]:
    """Both libraries on the same indices, and the names of the documents."""
    from elasticsearch import Elasticsearch
    from key_value.aio.stores.elasticsearch import store as old_module

    from keyvalue.stores import elasticsearch as new_module

    def open_one(module: Any) -> Any:
        if not strategies:
            return module.ElasticsearchStore(url=url, index_prefix="KV")
        return module.ElasticsearchStore(
            url=url,
            index_prefix="KV",
            key_sanitization_strategy=module.ElasticsearchV1KeySanitizationStrategy(),
            collection_sanitization_strategy=module.ElasticsearchV1CollectionSanitizationStrategy(),
        )

    with Elasticsearch(url) as raw, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that the store is unstable

        def names() -> set[str]:
            raw.indices.refresh(index="*")
            return {f"{hit['_index']}/{hit['_id']}" for hit in raw.search(index="*", size=1000)["hits"]["hits"]}

        async with open_one(old_module) as old, open_one(new_module) as new:
            yield old, new, names


@pytest.fixture
def elasticsearch_url(empty_server: Callable[[str], str]) -> str:
    return empty_server("elasticsearch")


FLAT: list[dict[str, Any]] = [
    {},
    {"name": "Alice", "é😀": ["é", None, True, 1, -1.5, {"x": []}]},
    {"large": "x" * 30_000, "b": 1, "a": 2, "": {"a.b": 1}},
    {"key": "k", "value": {"value": "{}"}, "version": 7, "collection": 1, "expires_at": ""},
    {"ints": [2**53 + 1, 2**63, 2**80, -(2**80), 10**800]},
    {"floats": [0.1, 1e300, 5e-324, -0.0, 1.0], "text": "\n\u2028"},
]


@pytest.mark.parametrize("strategies", [False, True])
async def test_both_read_each_other_in_elasticsearch(elasticsearch_url: str, strategies: bool) -> None:
    keys = [f"k/{number}" for number in range(len(FLAT))]
    async with in_elasticsearch(elasticsearch_url, strategies) as (old, new, names):
        for writer, reader in ((new, old), (old, new)):
            await writer.put_many(keys, FLAT, collection="c.d", ttl=50)
            for key, value in zip(keys, FLAT, strict=True):
                await writer.put(key, value)
                assert same(await reader.get(key), value) or reader is new
                assert await reader.get(key) == value
                assert await reader.ttl(key) == (value, None)
            assert await reader.get_many([*keys, "missing"], collection="c.d") == [*FLAT, None]
            for value, left in await reader.ttl_many(keys, collection="c.d"):
                assert value in FLAT
                assert 40 < left <= 50.1
            assert sorted(await new.keys("c.d")) == keys
            for store in (new, old):  # whose `keys` the server refuses
                assert sorted(await store.collections()) == ["c.d", "default_collection"]
            assert await reader.delete(keys[0], collection="c.d") is True
            assert await writer.get(keys[0], collection="c.d") is None
            assert await reader.delete_many(keys) == len(keys)
            assert await new.destroy() is True
            assert names() == set()


async def test_large_values_in_an_index_of_its_making(elasticsearch_url: str) -> None:
    async with in_elasticsearch(elasticsearch_url) as (old, new, _):
        await old.put("k", {"a": 1}, collection="c")
        await new.put("l", {"large": "x" * 40_000}, collection="c")
        assert await new.get_many(["k", "l"], collection="c") == [{"a": 1}, {"large": "x" * 40_000}]
        await new.put("l", {"a": 2}, collection="c")
        assert await old.get("l", collection="c") == {"a": 2}


async def test_a_collection_in_upper_case_at_its_old_place(elasticsearch_url: str) -> None:  # H-10
    async with in_elasticsearch(elasticsearch_url) as (old, new, names):
        await old.put_many(["k", "l"], [{"old": 1}, {"old": 2}], collection="Foo", ttl=50)
        assert names() == {"kv-foo/k", "kv-foo/l"}
        assert await new.get("k", collection="Foo") == {"old": 1}
        assert (await new.ttl("k", collection="Foo"))[1] > 40
        assert sorted(await new.keys("Foo")) == ["k", "l"]
        assert await new.collections() == ["Foo"]
        for collection in ("foo", "FOO"):
            assert await new.get_many(["k", "l"], collection=collection) == [None, None]
            assert await new.delete("k", collection=collection) is False
            assert await new.delete_many(["k", "l"], collection=collection) == 0
            assert await new.keys(collection) == []
            assert await new.destroy_collection(collection) is False
        await new.put("k", {"new": 1}, collection="Foo")
        assert "kv-foo/k" not in names()
        assert await new.get_many(["k", "l"], collection="Foo") == [{"new": 1}, {"old": 2}]
        assert sorted(await new.keys("Foo")) == ["k", "l"]
        assert await new.delete("l", collection="Foo") is True
        await old.put("k", {"older": True}, collection="Foo")
        assert await new.get("k", collection="Foo") == {"new": 1}
        assert await new.delete("k", collection="Foo") is True
        assert names() == set()


async def test_entries_that_lie_where_anothers_belong_make_way(elasticsearch_url: str) -> None:  # H-10
    async with in_elasticsearch(elasticsearch_url) as (old, new, names):
        keys = [f"k{number}" for number in range(600)]
        await old.put_many(keys, [{"of": key} for key in keys], collection="Foo", ttl=50)
        await new.put("k0", {"newer": True}, collection="Foo")
        await old.put("k0", {"older": True}, collection="FOO")
        await new.put_many(["k0", "k1"], [{"a": 1}, {"a": 2}], collection="foo")
        assert await new.get_many(["k0", "k1", "k2"], collection="foo") == [{"a": 1}, {"a": 2}, None]
        assert await new.get_many(keys, collection="Foo") == [{"newer": True}, *({"of": key} for key in keys[1:])]
        assert (await new.ttl("k1", collection="Foo"))[1] > 40
        assert await new.get("k0", collection="FOO") == {"older": True}
        assert sorted(await new.keys("foo")) == ["k0", "k1"]
        assert sorted(await new.keys("Foo")) == sorted(keys)
        assert await new.destroy_collection("Foo") is True
        assert await new.destroy_collection("FOO") is True
        assert names() == {"kv-foo/k0", "kv-foo/k1"}


# Vault's paths

PATHS = [
    ("users", "alice"),
    ("a/b", "c/d/e"),
    ("c", "c"),
    ("c", "c/c"),
    ("c", "../k"),
    ("..", "."),
    ("c", " k "),
    ("c", "%41%2F"),
    ("c", "?#&=+*[]{}\\|^"),
    ("é", "日本"),
    ("metadata", "data"),
    ("c", "x" * 147),
]


@pytest.mark.backends("vault")
async def test_names_that_are_paths_keep_their_place(opened: Open) -> None:
    async with opened() as data:
        for collection, key in PATHS:
            await data.old.put(key, {"old": key}, collection=collection, ttl=50)
        plain = {f"{collection}::{key}" for collection, key in PATHS}
        assert data.names() == plain
        for collection, key in PATHS:
            assert await data.new.get(key, collection=collection) == {"old": key}
            await data.new.put(key, {"new": key}, collection=collection, ttl=90)
        for collection, key in PATHS:
            assert await data.old.get(key, collection=collection) == {"new": key}
        assert data.names() == plain
        await assert_collections(data.new, sorted({collection for collection, _ in PATHS}))
        await assert_keys(data.new, [key for collection, key in PATHS if collection == "c"], "c")
        for collection, key in PATHS:
            assert await data.new.delete(key, collection=collection) is True
        assert data.names() == set()


CHANGED_PATHS = [
    ("/c", "k", "c::k"),
    ("c", "k/", "c::k"),
    ("c", "/", "c::"),
    ("a//b", "k", "a/b::k"),
    ("a/../b", "k", "b::k"),
    ("c", "x//y", "c::x/y"),
    ("c", "x/./z/../y", "c::x/y"),
    ("c", "😀", "c::😀"),
    ("c", "x" * 148, "c::" + "x" * 148),
    ("a//b::", "k", "a/b::::k"),
]


@pytest.mark.backends("vault")
@pytest.mark.parametrize(("collection", "key", "place"), CHANGED_PATHS)
async def test_names_that_are_no_paths_are_found_at_their_old_place(opened: Open, collection: str, key: str, place: str) -> None:
    async with opened() as data:
        await data.old.put(key, {"old": True}, collection=collection, ttl=50)
        assert data.names() == {place}
        assert await data.new.get(key, collection=collection) == {"old": True}
        assert (await data.new.ttl_many([key, "other"], collection=collection))[0][1] > 40
        await assert_keys(data.new, [key], collection)
        await assert_collections(data.new, [collection])
        assert data.names() == {place}

        await data.new.put(key, {"new": True}, collection=collection)
        assert place not in data.names()
        assert len(data.names()) == 1
        assert await data.new.get(key, collection=collection) == {"new": True}
        await data.old.put(key, {"old": True}, collection=collection)
        assert await data.new.get(key, collection=collection) == {"new": True}
        await assert_keys(data.new, [key], collection)
        assert await data.new.delete(key, collection=collection) is True
        assert data.names() == set()
        await data.old.put(key, {"old": True}, collection=collection)
        assert await data.new.destroy_collection(collection) is True
        assert data.names() == set()


MIXED_PATHS = [(("c", "k"), ("/c", "k")), (("c", "x/y"), ("c", "x//y")), (("b", "k"), ("a/../b", "k")), (("c", "k"), ("c", "k/"))]


@pytest.mark.backends("vault")
@pytest.mark.parametrize(("host", "guest"), MIXED_PATHS)
async def test_names_that_are_sent_to_the_path_of_another(opened: Open, host: tuple[str, str], guest: tuple[str, str]) -> None:
    async with opened() as data:
        await data.old.put(guest[1], {"guest": True}, collection=guest[0])
        assert data.names() == {f"{host[0]}::{host[1]}"}
        assert await data.old.get(host[1], collection=host[0]) == {"guest": True}
        assert await data.new.get_many([host[1]], collection=host[0]) == [None]
        assert await data.new.delete(host[1], collection=host[0]) is False
        assert await data.new.delete_many([host[1]], collection=host[0]) == 0
        assert await data.new.get(guest[1], collection=guest[0]) == {"guest": True}
        await data.new.put(guest[1], {"moved": True}, collection=guest[0])
        await data.new.put(host[1], {"host": True}, collection=host[0])
        assert await data.new.get(guest[1], collection=guest[0]) == {"moved": True}
        assert await data.old.get(host[1], collection=host[0]) == {"host": True}
        assert await data.new.delete(guest[1], collection=guest[0]) is True
        assert await data.new.get(host[1], collection=host[0]) == {"host": True}
        await data.old.put(guest[1], {"guest": True}, collection=guest[0])
        await data.new.put(host[1], {"host": True}, collection=host[0])
        assert await data.new.get(guest[1], collection=guest[0]) is None
        assert await data.new.get(host[1], collection=host[0]) == {"host": True}


@pytest.mark.backends("vault")
async def test_what_it_wrote_beyond_its_names_is_left_alone(opened: Open) -> None:
    async with opened() as data:
        await data.old.put("x/../app/database", {"old": True}, collection="c")
        assert data.names() == {"app/database"}
        assert await data.new.get("x/../app/database", collection="c") is None
        assert await data.new.delete("x/../app/database", collection="c") is False
        await data.new.put("x/../app/database", {"new": True}, collection="c")
        assert await data.new.get("x/../app/database", collection="c") == {"new": True}
        assert await data.new.destroy() is True
        assert data.names() == {"app/database"}


# The same names

EMBEDDED = ("memory", "simple", "null", "disk", "filetree", "rocksdb", "windows_registry")
NETWORK = ("redis", "valkey", "memcached", "mongodb", "dynamodb", "elasticsearch", "keyring", "vault")
REQUIRED = {"protocols", "protocols.key_value", "errors", "stores.base", "wrappers.base"} | {
    f"stores.{name}" for name in EMBEDDED + NETWORK
}
HOOKS = {"serialization_adapter"}  # parameters for its own base classes
# Defaults that are not its own, as `docs/moving.md` says: what a backend that can't be reached raises; no row silently missing.
DEFAULTS: dict[tuple[str, str], Any] = {
    ("RetryWrapper", "retry_on"): UNREACHABLE,
    ("FallbackWrapper", "fallback_on"): UNREACHABLE,
    ("PydanticAdapter", "raise_on_validation_error"): True,
    ("BaseModelAdapter", "raise_on_validation_error"): True,
    ("DataclassAdapter", "raise_on_validation_error"): True,
}
BASES = {"stores.base": ["BaseStore"], "wrappers.base": ["BaseWrapper"]}


def documented_modules() -> set[str]:
    found = {"protocols", "protocols.key_value", "errors"}
    for package in ("stores", "wrappers", "adapters"):
        spec = importlib.util.find_spec(f"key_value.aio.{package}")
        assert spec is not None
        found |= {f"{package}.{module.name}" for module in pkgutil.iter_modules(spec.submodule_search_locations)}
    return {name for name in found if not name.rpartition(".")[2].startswith("_")}


def is_here(name: str) -> bool:
    with suppress(ModuleNotFoundError):
        return importlib.util.find_spec(f"keyvalue.{name}") is not None
    return False


def public(name: str, module: ModuleType) -> list[str]:
    if name in BASES:
        return BASES[name]
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return listed
    return [
        member
        for member, value in vars(module).items()
        if not member.startswith("_") and getattr(value, "__module__", "").startswith("key_value.aio")
    ]


HERE = sorted(filter(is_here, documented_modules()))


def test_the_modules_that_must_be_here_are() -> None:
    assert set(HERE) >= REQUIRED


@pytest.mark.parametrize("name", HERE)
def test_every_documented_name_is_here(name: str) -> None:
    with fake_winreg.installed():
        old, new = importlib.import_module(f"key_value.aio.{name}"), importlib.import_module(f"keyvalue.{name}")
    assert public(name, old)
    for member in public(name, old):
        theirs, ours = getattr(old, member), getattr(new, member)
        assert is_class(theirs) == is_class(ours)
        if is_class(theirs) and name not in BASES:
            compare_constructors(theirs, ours)
            compare_methods(theirs, ours)


def is_class(what: object) -> bool:
    return inspect.isclass(what) and get_origin(what) is None  # on Python 3.10, `dict[str, int]` says it is a class


def compare_constructors(theirs: Any, ours: Any) -> None:
    """Each parameter that it names itself is here, with the same default."""
    if "__init__" not in vars(theirs):
        return
    here = inspect.signature(ours).parameters
    for name, parameter in inspect.signature(theirs.__init__).parameters.items():
        if name == "self" or name in HOOKS or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        assert name in here, f"{ours.__name__} has no parameter {name}"
        assert here[name].kind in (parameter.kind, inspect.Parameter.POSITIONAL_OR_KEYWORD), f"{ours.__name__}({name})"
        if parameter.default is not parameter.empty:
            expected = DEFAULTS.get((ours.__name__, name), parameter.default)
            assert here[name].default == expected, f"{ours.__name__}({name})"


METHODS = ["get", "ttl", "put", "delete", "get_many", "ttl_many", "put_many", "delete_many"]
OPTIONAL = ["keys", "collections", "destroy", "destroy_collection", "cull"]


DROPPED = {"MemcachedStore": ["destroy"]}  # it empties the whole server


def compare_methods(theirs: Any, ours: Any) -> None:
    for name in [*METHODS, *OPTIONAL, "setup", "close"]:
        if not hasattr(theirs, name) or name in DROPPED.get(ours.__name__, ()):
            continue
        assert hasattr(ours, name), f"{ours.__name__} has no {name}"
        here, there = (
            [(p.name, p.kind, p.default) for p in inspect.signature(getattr(kind, name)).parameters.values()] for kind in (ours, theirs)
        )
        assert here == there, f"{ours.__name__}.{name}"


def test_the_errors_have_the_same_parents() -> None:
    from key_value.aio import errors as old_errors

    for name in old_errors.__all__:
        theirs, ours = getattr(old_errors, name), getattr(keyvalue.errors, name)
        if not is_class(theirs):
            continue
        for parent in theirs.__mro__[1:]:
            if parent.__module__.startswith("key_value"):
                assert issubclass(ours, getattr(keyvalue.errors, parent.__name__)), name
        compare_constructors(theirs, ours)


def test_the_protocol_is_where_it_was() -> None:
    assert keyvalue.AsyncKeyValue is keyvalue.protocols.AsyncKeyValue
    assert old_protocols.AsyncKeyValue is old_key_value.AsyncKeyValue


PROTOCOLS = [name for name in vars(old_key_value) if name.startswith("Async")]


@pytest.mark.parametrize("name", PROTOCOLS)
async def test_each_is_an_instance_of_the_others_protocol(name: str) -> None:
    theirs, ours = getattr(old_key_value, name), getattr(keyvalue.protocols, name)
    assert isinstance(MemoryStore(), theirs)
    assert isinstance(MemoryStore(), ours)
    old = OldMemoryStore()
    assert isinstance(old, theirs) == isinstance(old, ours)
    assert not isinstance(object(), ours)


async def test_our_store_under_its_wrapper() -> None:
    from key_value.aio.wrappers.prefix_keys import PrefixKeysWrapper

    store = MemoryStore()
    kv = PrefixKeysWrapper(key_value=store, prefix="mine")
    await kv.put("k", {"a": 1}, ttl=50)
    await kv.put_many(["l", "m"], [{}, {}], collection="c")
    assert (await kv.ttl("k"))[0] == {"a": 1}
    assert await kv.get_many(["l", "x"], collection="c") == [{}, None]
    assert await kv.delete_many(["l", "m"], collection="c") == 2
    assert await store.keys() == ["mine__k"]


def test_its_store_under_our_facade_and_wrapper() -> None:
    for wrap in (lambda store: store, backends.PlainWrapper, backends.RenamingWrapper):  # pyright: ignore[reportUnknownLambdaType]
        with BlockingKeyValue(wrap(OldMemoryStore())) as kv:
            kv.put("k", {"a": 1}, ttl=50)
            value, left = kv.ttl("k")
            assert value == {"a": 1}
            assert left is not None
            assert 40 < left <= 50
            kv.put_many(["l", "m"], [{}, {}], collection="c")
            assert kv.get_many(["l", "x"], collection="c") == [{}, None]
            assert kv.delete_many(["l", "m"], collection="c") == 2
            assert kv.delete("k") is True
