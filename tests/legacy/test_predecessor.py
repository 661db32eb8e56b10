"""The real py-key-value-aio beside this library: the same data, written by either and read by the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import diskcache
import pytest

from keyvalue.errors import InvalidKeyError
from keyvalue.testing import Clock
from keyvalue.testing._samples import nested, same
from keyvalue.testing._suite import assert_collections, assert_keys, has_capability

pytest.importorskip("key_value.aio", reason="the predecessor is not installed")

from tests.predecessor import BACKENDS, Both, Data

Open = Callable[..., AbstractAsyncContextManager[Data]]

# The same data

VALUES: dict[str, dict[str, Any]] = {
    "empty": {},
    "of each type": {"name": "Alice", "é😀": ["é", None, True, 1, -1.5, {"x": []}], "text": "\n\u2028"},
    "names in the wrong order": {"large": "x" * 30_000, "b": 1, "a": 2, "": {"a.b": 1}},
    "names of the document": {"key": "k", "value": {"value": "{}"}, "version": 7, "collection": 1, "expires_at": ""},
    "integers": {"ints": [2**53 + 1, 2**63, 2**80, -(2**80), 10**800]},
    "floats": {"floats": [0.1, 1e300, 5e-324, -0.0, 1.0]},
    "larger": {"text": "x" * 100_000, "int": 10**4000},
    "NUL": {"nul\0": "\0"},
}
NOT_IN_ITS_MONGODB = ("integers", "larger", "NUL")
NOT_IN_ELASTICSEARCH = ("larger", "NUL")  # neither writes them in a form that the other reads


@pytest.mark.backends(*BACKENDS)
@pytest.mark.parametrize("ours", [True, False], ids=["ours is read by it", "its is read by ours"])
async def test_what_either_writes_the_other_reads(opened: Open, backend: str, ours: bool) -> None:
    mongodb, elasticsearch = backend.startswith("mongodb"), backend == "elasticsearch"
    left_out = NOT_IN_ELASTICSEARCH if elasticsearch else NOT_IN_ITS_MONGODB if mongodb and not ours else ()
    values = [value for name, value in VALUES.items() if name not in left_out]
    keys = [f"k{number}" for number in range(len(values))]
    # It reads the whole second, rounded up, that DynamoDB itself deletes by.
    most = 51 if backend == "dynamodb" else 50.1
    async with opened(default_collection=None if ours else "mine") as data:
        writer, reader = (data.new, data.old) if ours else (data.old, data.new)
        await writer.put_many(keys, values, collection="c", ttl=50)
        for key, value in zip(keys, values, strict=True):
            await writer.put(key, value)
            found = await reader.get(key, collection="c")
            assert same(found, value) if ours else found == value
            assert await reader.ttl(key) == (value, None)
        assert await reader.get_many([*keys, "missing"]) == [*values, None]
        for (found, left), value in zip(await reader.ttl_many(keys, collection="c"), values, strict=True):
            assert found == value
            assert 40 < left <= most
        await assert_keys(data.new, keys, "c")
        await assert_collections(data.new, ["c", "default_collection" if ours else "mine"])
        for method, *arguments in (("keys", "c"), ("collections",)):
            if hasattr(data.old, method) and not (elasticsearch and method == "keys"):  # which the server refuses
                assert sorted(await getattr(data.old, method)(*arguments)) == sorted(await getattr(data.new, method)(*arguments))

        await writer.put("k0", {"again": True}, collection="c")
        found, left = await reader.ttl("k0", collection="c")
        assert found == {"again": True}
        assert left is None or (mongodb and not ours)  # there it leaves the earlier expiry in place
        await reader.put("k1", {"from": "the other"}, collection="c", ttl=90)
        assert (await writer.ttl("k1", collection="c"))[1] > 80
        assert await reader.delete("k0", collection="c") is True
        assert await writer.get("k0", collection="c") is None
        assert await reader.delete_many(keys) == len(keys)
        await assert_keys(data.new, [])
        if has_capability(data.new, "keys"):
            assert await data.new.destroy_collection("c") is True
            assert await data.old.get_many(keys, collection="c") == [None] * len(keys)
            assert await data.new.destroy() is True
            assert data.names() == set()


ODD = [{"floats": [float("inf"), -float("inf")], "\ud800": "\udfff", "big": [2**70]}, nested(901)]


@pytest.mark.backends(*(name for name in BACKENDS if name != "elasticsearch"))
async def test_what_only_it_writes_is_read_until_it_expires(opened: Open, backend: str, clock: Clock) -> None:
    values = [{}, {}] if backend.startswith("mongodb") else ODD  # whose documents hold no such values
    async with opened() as data:
        for collection in (None, "tenant::42"):
            await data.old.put_many(["k", "deep"], values, collection=collection, ttl=50)
            assert await data.new.get_many(["k", "deep"], collection=collection) == values
            await assert_keys(data.new, ["deep", "k"], collection)
        if values is ODD:
            await data.old.put("nan", {"nan": float("nan")})
            assert str((await data.new.get("nan"))["nan"]) == "nan"
            await assert_keys(data.new, ["deep", "k", "nan"])
            assert await data.new.delete("nan") is True
        assert await data.new.delete("deep") is True
        clock.advance(50)
        for collection in (None, "tenant::42"):
            assert await data.new.get_many(["k", "deep"], collection=collection) == [None, None]
            assert await data.new.delete("k", collection=collection) is False
        await assert_collections(data.new, [])
        if has_capability(data.new, "keys"):
            await data.new.cull()
            assert data.names() == set()


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


async def test_caches_given_to_both(tmp_path: Path) -> None:
    def factory(collection: str) -> diskcache.Cache:
        return diskcache.Cache(tmp_path / f"mine-{collection}", eviction_policy="none")

    with diskcache.Cache(tmp_path, disk=diskcache.JSONDisk, eviction_policy="none") as cache:
        for name, given in (("DiskStore", {"disk_cache": cache}), ("MultiDiskStore", {"disk_cache_factory": factory})):
            old, new = Both()("disk", name, **given)
            async with old, new:
                await old.put("k", {"large": "x" * 100_000}, collection="c", ttl=50)
                assert await new.get("k", collection="c") == {"large": "x" * 100_000}
                await new.put_many(["k", "l"], [{"a": 2}, {}], collection="c", ttl=50)
                assert await old.get_many(["k", "l"], collection="c") == [{"a": 2}, {}]
                assert sorted(await new.keys("c")) == ["k", "l"]
                assert await new.delete_many(["k", "x"], collection="c") == 1
                assert await new.destroy_collection("c") is True
                assert await old.get_many(["k", "l"], collection="c") == [None, None]


@pytest.mark.backends("elasticsearch")
async def test_large_values_in_an_index_of_its_making(opened: Open) -> None:
    async with opened() as data:
        await data.old.put("k", {"a": 1}, collection="c")
        await data.new.put("l", {"large": "x" * 40_000}, collection="c")
        assert await data.new.get_many(["k", "l"], collection="c") == [{"a": 1}, {"large": "x" * 40_000}]
        await data.new.put("l", {"a": 2}, collection="c")
        assert await data.old.get("l", collection="c") == {"a": 2}


@pytest.mark.backends("memcached")
async def test_ttls_of_any_length(opened: Open) -> None:
    async with opened() as data:
        for ttl in (20, 30 * 24 * 3600, 31 * 24 * 3600, 10**9):
            begun = time.monotonic()
            await data.old.put("old", {}, ttl=ttl)
            await data.new.put("new", {}, ttl=ttl)
            await data.new.put_many(["a::new", "l"], [{}, {}], ttl=ttl)
            for reader, key in ((data.new, "old"), (data.old, "new"), (data.old, "a::new")):
                value, left = await reader.ttl(key)
                assert value == {}
                assert ttl - (time.monotonic() - begun) - 0.1 < left <= ttl


@pytest.mark.backends("dynamodb")
async def test_the_tables_time_to_live_as_both_write_it(opened: Open, clock: Clock) -> None:  # H-22
    async with opened() as data:
        for writer, reader in ((data.new, data.old), (data.old, data.new)):
            begun = time.time()
            await writer.put("k", {}, ttl=9.9)
            left = (await reader.ttl("k"))[1]
            assert left >= 9.9 - (time.time() - begun)
        clock.advance(left)
        assert await data.new.get("k") is None


# The same attributes


@pytest.mark.backends(*BACKENDS)
@pytest.mark.parametrize("name", [None, "mine"])
async def test_what_a_store_of_its_has_in_public_ours_has_too(opened: Open, name: str | None) -> None:
    async with opened(default_collection=name) as data:
        for attribute, value in vars(data.old).items():
            if not attribute.startswith("_"):
                assert getattr(data.new, attribute) == value
        for attribute in dir(data.old):
            # Destroying a Memcached store emptied the whole server.
            if not attribute.startswith("_") and not (attribute == "destroy" and "Memcached" in type(data.old).__name__):
                assert hasattr(data.new, attribute), attribute
        await data.new.setup_collection(collection="c")
        with pytest.raises(TypeError):
            await data.new.setup_collection("c")
        with pytest.raises(InvalidKeyError):
            await data.new.setup_collection(collection="")


@pytest.mark.parametrize("limit", [None, 3])
def test_limits_can_be_read_as_there(limit: int | None) -> None:
    for module, name, option in (("memory", "MemoryStore", "max_entries_per_collection"), ("simple", "SimpleStore", "max_entries")):
        old, new = Both()(module, name, **{option: limit})
        assert getattr(new, option) == getattr(old, option)
