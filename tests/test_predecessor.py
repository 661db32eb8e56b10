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
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_origin

import diskcache
import pytest

import keyvalue
import keyvalue.errors
import keyvalue.protocols
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.memory import MemoryStore
from tests import backends
from tests.conftest import Clock
from tests.test_contract import same

pytest.importorskip("key_value.aio", reason="the predecessor is not installed")

from key_value.aio import protocols as old_protocols
from key_value.aio.protocols import key_value as old_key_value
from key_value.aio.stores.memory import MemoryStore as OldMemoryStore

on_compound_names = pytest.mark.backends("disk", "rocksdb", "redis")
on_persistent = pytest.mark.backends(*backends.PERSISTENT)


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


OPENERS = {
    "disk": on_disk,
    "multi-disk": on_multi_disk,
    "filetree": _on_filetree("filetree", strategies=False),
    "filetree-v1": _on_filetree("filetree-v1", strategies=True),
    "rocksdb": on_rocksdb,
    "redis": on_redis,
}
Open = Callable[[], AbstractAsyncContextManager[Data]]


@pytest.fixture
def opened(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Open:
    url: str = request.getfixturevalue("redis_url") if backend == "redis" else ""
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


@on_persistent
async def test_it_reads_what_we_write(opened: Open) -> None:
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
            assert 40 < left <= 50.1
        await data.new.put("k0", {"again": True}, collection="c")
        assert await data.old.ttl("k0", collection="c") == ({"again": True}, None)
        assert await data.old.delete("k0", collection="c") is True
        assert await data.new.get("k0", collection="c") is None
        assert await data.old.delete_many(keys) == len(keys)
        assert await data.new.keys() == []
        if hasattr(data.old, "keys"):
            assert sorted(await data.old.keys("c")) == keys[1:]


@on_persistent
async def test_we_read_what_it_writes(opened: Open) -> None:
    keys = [f"k{number}" for number in range(len(VALUES))]
    async with opened() as data:
        await data.old.put_many(keys, VALUES, collection="c", ttl=50)
        for key, value in zip(keys, VALUES, strict=True):
            await data.old.put(key, value)
            assert await data.new.get(key, collection="c") == value
            assert await data.new.ttl(key) == (value, None)
        assert await data.new.get_many([*keys, "missing"]) == [*VALUES, None]
        for value, left in await data.new.ttl_many(keys, collection="c"):
            assert value in VALUES
            assert 40 < left <= 50
        assert sorted(await data.new.keys("c")) == keys
        assert sorted(await data.new.collections()) == ["c", "default_collection"]
        await data.old.put("k0", {"again": True}, collection="c")
        assert await data.new.ttl("k0", collection="c") == ({"again": True}, None)
        await data.new.put("k1", {"ours": True}, collection="c", ttl=90)
        assert (await data.old.ttl("k1", collection="c"))[1] > 80
        assert await data.new.delete("k0", collection="c") is True
        assert await data.old.get("k0", collection="c") is None
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
        assert await data.new.collections() == []
        assert await data.new.delete("l", collection="tenant::42") is False
        await data.new.cull()
        assert data.names() == set()


@on_persistent
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
        assert sorted(await data.new.keys()) == ["deep", "k", "nan"]
        assert sorted(await data.new.keys("a::b")) == ["deep", "k"]
        await data.new.cull()
        assert await data.new.delete_many(["k", "deep"]) == 2
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


@pytest.mark.backends(*backends.SHARED)
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
        assert await data.new.keys(collection) == [key]
        assert await data.new.collections() == [collection]
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
        assert await data.new.keys(collection) == [key]
        assert await data.new.delete_many([key, key], collection=collection) == 1
        assert data.names() == set()

        await data.old.put_many([key, "l"], [{}, {}], collection=collection)
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
        assert await data.new.keys(host[0]) == []
        assert await data.new.collections() == [guest[0]]
        assert await data.new.get(guest[1], collection=guest[0]) == {"guest": True}


@on_compound_names
@pairs
async def test_a_guest_is_not_destroyed_by_the_host(opened: Open, host: tuple[str, str], guest: tuple[str, str]) -> None:
    async with opened() as data:
        await data.old.put(guest[1], {"guest": True}, collection=guest[0])
        assert await data.new.delete(host[1], collection=host[0]) is False
        assert await data.new.delete_many([host[1], "x"], collection=host[0]) == 0
        assert await data.new.destroy_collection(host[0]) is False
        await data.new.put("x", {}, collection=host[0])
        assert await data.new.destroy_collection(host[0]) is True
        await data.new.cull()
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
        assert await data.new.keys(guest[0]) == [guest[1]]
        assert (await data.new.keys(host[0])).count(host[1]) == 1
        assert await data.old.get(guest[1], collection=guest[0]) == {"guest": 2**70}
        assert await data.new.delete(guest[1], collection=guest[0]) is True
        assert await data.new.get(host[1], collection=host[0]) == {"host": True}
        await data.new.put_many([host[1]], [{"host": "back"}], collection=host[0])
        assert await data.old.get(host[1], collection=host[0]) == {"host": "back"}
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
        assert await data.new.destroy_collection(guest[0]) is False
        await data.new.put(guest[1], {"guest": True}, collection=guest[0])
        assert await data.new.get(host[1], collection=host[0]) == {"host": True}
        assert await data.new.delete_many([guest[1]], collection=guest[0]) == 1
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
        assert await data.new.keys(moved_one) == ["old"]
        assert sorted(await data.new.keys(plain)) == ["both", "plain"]
        assert sorted(await data.new.collections()) == sorted([moved_one, plain])

        assert await data.new.delete("plain", collection=moved_one) is False
        await data.new.put("old", {"of": "plain"}, collection=plain)
        assert await data.new.get("old", collection=moved_one) == {"of": "moved"}
        assert await data.new.get("old", collection=plain) == {"of": "plain"}
        assert sorted(await data.new.keys(plain)) == ["both", "old", "plain"]

        await data.new.put("old", {"new": True}, collection=moved_one)
        assert f"{plain}/old" not in data.names()
        assert await data.new.get("old", collection=moved_one) == {"new": True}
        assert await data.new.keys(moved_one) == ["old"]
        assert await data.new.destroy_collection(moved_one) is True
        assert sorted(await data.new.keys(plain)) == ["both", "old", "plain"]
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
        assert await data.new.collections() == [collection]

        for key in TOKEN_KEYS:
            await data.new.put(key, {"token": "new", "of": key}, collection=collection, ttl=900)
            assert await data.old.get(key, collection=collection) == {"token": "new", "of": key}
        assert data.names() == old_files
        assert sorted(await data.new.keys(collection)) == sorted(TOKEN_KEYS)
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
        assert await data.new.keys("c/d") == [listed]
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
        assert sorted(await data.new.collections()) == [one, other]
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
        assert await data.new.keys("a/b") == ["k"]
        assert await data.new.keys("a") == ["k"]
        assert sorted(await data.new.collections()) == ["a", "a/b"]
        await data.new.put("k", {"new": True}, collection="a/b")
        assert not (tmp_path / "filetree/a/b/k.json").exists()
        assert await data.new.keys("a/b") == ["k"]
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


# The same names

REQUIRED = {"protocols", "protocols.key_value", "errors", "stores.base", "wrappers.base"} | {
    f"stores.{name}" for name in ("memory", "simple", "null", "disk", "filetree", "rocksdb", "redis")
}
HOOKS = {"serialization_adapter"}  # parameters for its own base classes
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
            assert here[name].default == parameter.default, f"{ours.__name__}({name})"


METHODS = ["get", "ttl", "put", "delete", "get_many", "ttl_many", "put_many", "delete_many"]
OPTIONAL = ["keys", "collections", "destroy", "destroy_collection", "cull"]


def compare_methods(theirs: Any, ours: Any) -> None:
    for name in [*METHODS, *OPTIONAL, "setup", "close"]:
        if not hasattr(theirs, name):
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
