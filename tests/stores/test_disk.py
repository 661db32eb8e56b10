"""What is DiskStore's own: its database and side files, file names that lead elsewhere, a given cache, expiry by SQLite, and eviction."""

# pyright: reportUnknownParameterType=false, reportArgumentType=false, reportOperatorIssue=false
# diskcache has no types, and what is inferred of them is too narrow.

from __future__ import annotations

import gc
import json
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import diskcache
import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores.disk import DiskStore
from keyvalue.testing import Clock
from tests.interpreter import run_fresh
from tests.runtimes import Runtime
from tests.stores.files import limited, open_files, plant, row_count, side_files, sql
from tests.stores.hooks import assert_raised

LARGE = {"text": "x" * 50_000}  # lies in a side file
ADVICE = "not diskcache's database, or damaged"
MIB = 2**20


def open_store(directory: Path, **kwargs: Any) -> Any:
    return BlockingKeyValue(DiskStore(directory=directory, **kwargs))


# Directories and databases that can't be used


def test_a_look_at_a_full_disk_leaves_the_locks_of_sqlite(tmp_path: Path) -> None:  # it once lost what was put next
    other = f"""
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.disk import DiskStore
with BlockingKeyValue(DiskStore(directory={str(tmp_path)!r})) as kv:
    print(kv.get("earlier"), kv.get("later"))
"""
    with open_store(tmp_path) as kv:
        kv.put("earlier", {"a": 1})
        with limited("RLIMIT_FSIZE", 40_000), pytest.raises(StoreRefusedError, match="the disk is full"):
            kv.put("big", {"a": "x" * 20_000})
        assert run_fresh(other) == "{'a': 1} None"
        kv.put("later", {"a": 2})
        assert run_fresh(other) == "{'a': 1} {'a': 2}"


@pytest.mark.parametrize("max_size", [1, 10_000, MIB - 1, -1])  # H-56
def test_a_limit_that_sqlite_alone_exceeds_is_refused(tmp_path: Path, max_size: int) -> None:
    with pytest.raises(ValueError, match=r"at least 1048576.*SQLite"):
        DiskStore(directory=tmp_path, max_size=max_size)


@pytest.mark.parametrize("content", [b"not SQLite" * 1000, b"SQLite format 3\0" + b"x" * 5000])
def test_a_database_that_is_damaged_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cache.db").write_bytes(content)
    store = DiskStore(directory=tmp_path)
    with pytest.raises(StoreSetupError, match="(?s)" + ADVICE) as caught:
        BlockingKeyValue(store).get("k")
    assert str(tmp_path) in str(caught.value)
    assert (tmp_path / "cache.db").read_bytes() == content
    assert open_files(tmp_path) == []
    gc.collect()  # an unclosed connection warns
    (tmp_path / "cache.db").unlink()
    with BlockingKeyValue(store) as kv:
        kv.put("k", {})


def test_somebody_elses_database_is_left_as_it_is(tmp_path: Path) -> None:
    sql(tmp_path, "CREATE TABLE Settings (other)")
    with pytest.raises(StoreSetupError, match=ADVICE):
        BlockingKeyValue(DiskStore(directory=tmp_path)).put("k", {})
    assert sql(tmp_path, "SELECT sql FROM sqlite_master") == [("CREATE TABLE Settings (other)",)]


async def test_a_locked_database(runtime: Runtime, tmp_path: Path) -> None:
    with diskcache.Cache(tmp_path, timeout=0.05) as cache, closing(sqlite3.connect(tmp_path / "cache.db")) as other:
        kv = runtime.adapt(DiskStore(disk_cache=cache))
        await kv.put("k", {"a": 1})
        other.execute("BEGIN IMMEDIATE")
        calls = [lambda: kv.put("k", {}), lambda: kv.put_many(["k", "l"], [{}, {}]), lambda: kv.delete("k")]
        await assert_raised(StoreConnectionError, "locked", *calls)
        assert await kv.get("k") == {"a": 1}
        other.rollback()
        assert await kv.delete("k") is True


@pytest.mark.runtimes("asyncio", "trio")
async def test_waiting_for_the_lock_of_another_process_does_not_stop_the_loop(runtime: Runtime, tmp_path: Path) -> None:  # H-49
    kv = runtime.adapt(DiskStore(directory=tmp_path))
    await kv.put("k", {"a": 1})
    with closing(sqlite3.connect(tmp_path / "cache.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as group:
            group.start_soon(kv.put, "k", {"a": 2})
            await anyio.sleep(0.05)
            other.rollback()
    assert await kv.get("k") == {"a": 2}


# Damaged and planted rows


@pytest.mark.parametrize("disk", [diskcache.Disk, diskcache.JSONDisk])
def test_names_that_can_not_be_read_hide_no_other(tmp_path: Path, disk: Any) -> None:
    with diskcache.Cache(tmp_path, disk=disk) as cache, BlockingKeyValue(DiskStore(disk_cache=cache)) as facade:
        kv: Any = facade
        kv.put("k", {}, collection="c")
        for name in (b"not compressed", "not bytes", "c::text"):
            plant(tmp_path, name, value="x")
        sql(tmp_path, "UPDATE Cache SET key = CAST(x'633a3aff' AS TEXT) WHERE key = 'c::text'")
        assert kv.keys("c") == ["k"]
        assert kv.collections() == ["c"]
        assert kv.destroy() is True
        assert row_count(tmp_path) == 3


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
@pytest.mark.parametrize("how", ["relative", "absolute", "database"])
def test_a_file_name_that_leads_elsewhere_is_neither_read_nor_deleted(tmp_path: Path, mode: int, how: str) -> None:
    directory, secret = tmp_path / "disk", tmp_path / "ab" / "cd" / "0123456789abcdef.val"
    secret.parent.mkdir(parents=True)
    document = '{"version":1,"collection":"default_collection","key":"k","value":{"password":"hunter2"}}'
    secret.write_text(document)
    filename = {"relative": "../ab/cd/0123456789abcdef.val", "absolute": str(secret), "database": "cache.db"}[how]
    with open_store(directory) as kv:
        for act in (lambda: kv.delete("k"), lambda: kv.put("k", {}), lambda: kv.put_many(["k", "l"], [{}, {}])):
            kv.delete("k")
            plant(directory, "default_collection::k", mode=mode, filename=filename, value=document if mode == 1 else None)
            with pytest.raises(DeserializationError) as caught:
                kv.get("k")
            assert "hunter2" not in str(caught.value)
            kv.keys()
            kv.cull()
            act()
            assert kv.get("k") in (None, {})
            assert kv.destroy() is True
            plant(directory, "default_collection::old", mode=mode, filename=filename)
            sql(directory, "UPDATE Cache SET expire_time = 1 WHERE key = 'default_collection::old'")
            kv.cull()
            assert row_count(directory) == 0
            assert secret.read_text() == document
            assert (directory / "cache.db").exists()


# Large values and their side files


def directories(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_dir()]


async def test_large_values_lie_in_files_that_go_with_them(runtime: Runtime, tmp_path: Path, clock: Clock) -> None:
    kv = runtime.adapt(DiskStore(directory=tmp_path))
    larger = {"text": "é😀\r\n\0" * 300_000}
    await kv.put_many(["k", "l", "small"], [LARGE, larger, {}])
    assert await kv.get_many(["l", "k"]) == [larger, LARGE]
    assert sorted(await kv.keys()) == ["k", "l", "small"]
    assert len(side_files(tmp_path)) == 2
    await kv.put("k", LARGE)
    await kv.put_many(["l", "k"], [LARGE, LARGE])
    assert len(side_files(tmp_path)) == 2
    await kv.put("k", {})
    assert len(side_files(tmp_path)) == 1
    assert await kv.delete("l") is True
    assert side_files(tmp_path) == []
    await kv.put_many(["k", "l"], [LARGE, LARGE], collection="c", ttl=5)
    await kv.put("stays", LARGE, collection="c")
    clock.advance(5)
    await kv.cull()
    assert len(side_files(tmp_path)) == 1
    assert await kv.destroy_collection("c") is True
    assert directories(tmp_path) == []


# A given cache


@pytest.mark.parametrize("disk", [diskcache.Disk, diskcache.JSONDisk])
async def test_a_given_cache_is_used_as_it_is_and_stays_open(runtime: Runtime, tmp_path: Path, disk: Any) -> None:
    settings = {"size_limit": 2**24, "eviction_policy": "least-recently-used", "cull_limit": 3, "disk_min_file_size": 1000}
    with diskcache.Cache(tmp_path, disk=disk, **settings) as cache:
        assert len(cache) == 0  # and so it is false
        kv = runtime.adapt(DiskStore(disk_cache=cache))
        cache["theirs"] = "x"
        before = sql(tmp_path, "SELECT key, value FROM Settings WHERE key NOT IN ('count', 'size') ORDER BY key")
        medium = {"text": os.urandom(4000).hex()}
        await kv.put_many(["k", "large"], [{"a": 1}, medium], collection="c::d", ttl=50)
        await kv.put("k", {"a": 2})
        assert await kv.get("large", collection="c::d") == medium
        assert len(side_files(tmp_path)) == 1
        assert sorted(await kv.keys("c::d")) == ["k", "large"]
        assert await kv.keys() == ["k"]
        assert sorted(await kv.collections()) == ["c::d", "default_collection"]
        assert '"value":{"a":2}' in cache["default_collection::k"]
        await kv.cull()
        assert await kv.destroy() is True
        await kv.put("k", {"a": 3})
        await kv.close()
        await kv.close()
        assert cache["theirs"] == "x"
        cache["more"] = "y"
        assert set(cache) == {"theirs", "more", "default_collection::k"}
        assert sql(tmp_path, "SELECT key, value FROM Settings WHERE key NOT IN ('count', 'size') ORDER BY key") == before
        again = runtime.adapt(DiskStore(disk_cache=cache))
        assert await again.get("k") == {"a": 3}


def test_a_given_cache_in_a_relative_directory_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with diskcache.Cache("kv") as cache, BlockingKeyValue(DiskStore(disk_cache=cache)) as kv:
        monkeypatch.chdir("elsewhere")
        kv.put("k", LARGE)
        assert kv.get("k") == LARGE
    assert len(side_files(tmp_path / "kv")) == 1


def test_a_given_cache_may_write_its_files_itself(tmp_path: Path) -> None:
    written: list[str] = []

    class OwnDisk(diskcache.Disk):
        def _write(self, full_path: Any, iterator: Any, mode: Any, encoding: Any = None) -> Any:
            written.append(full_path)
            return super()._write(full_path, iterator, mode, encoding)

    with diskcache.Cache(tmp_path, disk=OwnDisk) as cache, BlockingKeyValue(DiskStore(disk_cache=cache)) as kv:
        kv.put("k", LARGE)
        assert kv.get("k") == LARGE
    assert written == [str(path) for path in side_files(tmp_path)]


async def test_a_given_cache_whose_directory_is_removed_or_moved(runtime: Runtime, tmp_path: Path) -> None:
    where, moved = tmp_path / "there", tmp_path / "moved"
    with diskcache.Cache(where) as cache:
        kv = runtime.adapt(DiskStore(disk_cache=cache))
        await kv.put("k", {"a": 1})
        where.rename(moved)
        diskcache.Cache(where).close()
        for call in (lambda: kv.put("k", {}), lambda: kv.put_many(["k", "l"], [{}, {}]), lambda: kv.get("k"), kv.keys):
            with pytest.raises(StoreSetupError, match=r"removed or moved; open a new Cache and store"):
                await call()
        shutil.rmtree(where)
        with pytest.raises(StoreSetupError, match=r"removed or moved; open a new Cache and store"):
            await kv.put("k", {})
        assert not where.exists()
        moved.rename(where)
        assert await kv.get("k") == {"a": 1}
        shutil.rmtree(where)
        with pytest.raises(StoreSetupError, match=r"removed or moved; open a new Cache and store"):
            await runtime.adapt(DiskStore(disk_cache=cache)).put("k", {})


# Expiry and eviction


async def test_the_row_never_expires_before_the_entry(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.freeze()
    monkeypatch.setattr(diskcache.core, "time", SimpleNamespace(time=clock.now))
    async with DiskStore(directory=tmp_path) as kv:
        for ttl in (1e-3, 0.4, 1, 1.5, 86_400, 10**9):
            await kv.put("k", {}, ttl=ttl)
            ((document, expire_time),) = sql(tmp_path, "SELECT value, expire_time FROM Cache")
            expires_at = datetime.fromisoformat(json.loads(document)["expires_at"]).timestamp()
            assert expires_at <= expire_time < expires_at + 0.01


async def test_later_puts_remove_expired_rows(tmp_path: Path) -> None:
    async with DiskStore(directory=tmp_path) as kv:
        await kv.put_many([f"k{number}" for number in range(15)], [{}] * 15, ttl=50)
        sql(tmp_path, "UPDATE Cache SET expire_time = 1")
        await kv.put("a", {})
        await kv.put("b", {})
        assert row_count(tmp_path) == 2


@pytest.mark.parametrize(
    ("before", "length"), [("new", 2_000), ("new", 50_000), ("without a limit", 20_000), ("with another limit", 50_000)]
)
def test_a_limit_really_bounds_the_size(tmp_path: Path, before: str, length: int) -> None:
    if before != "new":
        with open_store(tmp_path, max_size=None if before == "without a limit" else 50 * MIB) as kv:
            kv.put("old", {"text": "o" * length})
    with open_store(tmp_path, max_size=2 * MIB) as kv:
        for number in range(6 * MIB // length):
            kv.put(f"k{number}", {"text": "x" * length})
        kept = kv.keys()
    with diskcache.Cache(tmp_path) as cache:
        assert cache.volume() < 2 * MIB + 100_000  # the database and the side files; the write-ahead log comes on top for a while
    assert len(kept) * length > MIB // 2
    assert f"k{6 * MIB // length - 1}" in kept
    assert "old" not in kept
    assert "k0" not in kept


def test_eviction_leaves_what_was_just_put_in_bulk(tmp_path: Path) -> None:
    with open_store(tmp_path, max_size=2 * MIB) as kv:
        for number in range(150):
            kv.put(f"k{number}", {"text": "x" * 20_000})
        new = [f"new{number}" for number in range(30)]
        kv.put_many(new, [{"text": "y" * 20_000}] * 30)
        assert None not in kv.get_many(new)
        assert len(kv.keys()) > 40


@pytest.mark.parametrize("max_size", [None, 0])
def test_no_limit_means_no_limit(tmp_path: Path, max_size: int | None) -> None:
    with open_store(tmp_path, max_size=MIB) as kv:
        kv.put("k", {})
    with open_store(tmp_path, max_size=max_size) as kv:
        for number in range(100):
            kv.put(f"k{number}", {"text": "x" * 30_000})
        assert len(kv.keys()) == 101
