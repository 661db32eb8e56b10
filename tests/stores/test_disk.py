"""What is DiskStore's own: the directory, the rows and side files that others may have damaged or planted, and a given cache."""

# pyright: reportUnknownParameterType=false, reportArgumentType=false, reportOperatorIssue=false
# diskcache has no types, and what is inferred of them is too narrow.

from __future__ import annotations

import asyncio
import gc
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import diskcache
import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores.disk import DiskStore
from keyvalue.testing import Clock
from tests.runtimes import Runtime

LARGE = {"text": "x" * 50_000}  # lies in a side file
ADVICE = "writable"


@contextmanager
def opened(directory: Path, **kwargs: Any) -> Generator[Any, None, None]:
    with BlockingKeyValue(DiskStore(directory=directory, **kwargs)) as kv:
        yield kv


def sql(directory: Path, statement: str, *parameters: object) -> list[Any]:
    """Run a statement behind the store's back."""
    with closing(sqlite3.connect(directory / "cache.db")) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


def plant(directory: Path, key: object, *, raw: int = 1, mode: int = 1, filename: str | None = None, value: object = None) -> None:
    statement = "INSERT OR REPLACE INTO Cache(key, raw, store_time, access_time, mode, filename, value) VALUES (?, ?, 0, 0, ?, ?, ?)"
    sql(directory, statement, key, raw, mode, filename, value)


def side_files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.val"))


def side_directories(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_dir()]


def rows(directory: Path) -> int:
    return sql(directory, "SELECT COUNT(*) FROM Cache")[0][0]


class Bomb:
    """A pickle that, when it is read, makes a directory."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> Any:
        return explode, (self.target,)


def explode(target: str) -> None:
    os.mkdir(target)


# The constructor


@pytest.mark.parametrize("arguments", [{}, {"directory": ""}, {"directory": None}])  # H-58
def test_neither_directory_nor_cache(arguments: Any) -> None:
    with pytest.raises(ValueError, match="exactly one of: directory, disk_cache"):
        DiskStore(**arguments)


def test_both_directory_and_cache(tmp_path: Path) -> None:
    with diskcache.Cache(tmp_path / "given") as cache, pytest.raises(ValueError, match="exactly one of"):
        DiskStore(directory=tmp_path, disk_cache=cache)


def test_a_missing_directory_is_only_made_if_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        DiskStore(directory=tmp_path / "missing", auto_create=False)
    with opened(tmp_path / "new" / "newer") as kv:
        kv.put("k", {})
    with opened(tmp_path / "new" / "newer", auto_create=False) as kv:
        assert kv.get("k") == {}


def test_the_constructor_touches_nothing(tmp_path: Path) -> None:
    DiskStore(directory=tmp_path / "new")
    DiskStore(directory=str(tmp_path / "new"), max_size=2**20)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("max_size", [1, 10_000, 2**20 - 1, -1])  # H-56
def test_a_limit_that_sqlite_alone_exceeds_is_refused(tmp_path: Path, max_size: int) -> None:
    with pytest.raises(ValueError, match=r"at least 1048576.*SQLite"):
        DiskStore(directory=tmp_path, max_size=max_size)


# Directories that can't be used


async def test_a_directory_that_can_not_be_made(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    kv = runtime.adapt(DiskStore(directory=tmp_path / "file" / "below"))
    for call in (lambda: kv.get("k"), lambda: kv.put("k", {}), kv.setup):
        with pytest.raises(StoreSetupError, match="(?s)file/below.*" + ADVICE):
            await call()
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "file").unlink()
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}


@pytest.mark.parametrize("content", [b"not SQLite" * 1000, b"SQLite format 3\0" + b"x" * 5000])
def test_a_database_that_is_damaged_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cache.db").write_bytes(content)
    store = DiskStore(directory=tmp_path)
    with pytest.raises(StoreSetupError, match="(?s)" + ADVICE) as caught:
        BlockingKeyValue(store).get("k")
    assert str(tmp_path) in str(caught.value)
    assert (tmp_path / "cache.db").read_bytes() == content
    (tmp_path / "cache.db").unlink()
    with BlockingKeyValue(store) as kv:
        kv.put("k", {})


def test_somebody_elses_database_is_left_as_it_is(tmp_path: Path) -> None:
    sql(tmp_path, "CREATE TABLE Settings (other)")
    with pytest.raises(StoreSetupError, match=ADVICE):
        BlockingKeyValue(DiskStore(directory=tmp_path)).put("k", {})
    assert sql(tmp_path, "SELECT sql FROM sqlite_master") == [("CREATE TABLE Settings (other)",)]


def test_a_failed_opening_leaves_no_connection(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_bytes(b"not SQLite" * 1000)
    with pytest.raises(StoreSetupError):
        BlockingKeyValue(DiskStore(directory=tmp_path)).get("k")
    assert open_files(tmp_path) == []
    gc.collect()  # an unclosed connection warns


async def test_a_locked_database(runtime: Runtime, tmp_path: Path) -> None:
    with diskcache.Cache(tmp_path, timeout=0.05) as cache, closing(sqlite3.connect(tmp_path / "cache.db")) as other:
        kv = runtime.adapt(DiskStore(disk_cache=cache))
        await kv.put("k", {"a": 1})
        other.execute("BEGIN IMMEDIATE")
        for call in (lambda: kv.put("k", {}), lambda: kv.put_many(["k", "l"], [{}, {}]), lambda: kv.delete("k")):
            with pytest.raises(StoreConnectionError, match="locked"):
                await call()
        assert await kv.get("k") == {"a": 1}
        other.rollback()
        assert await kv.delete("k") is True


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_waiting_for_the_lock_of_another_process_does_not_stop_the_loop(tmp_path: Path, loop: str) -> None:  # H-49
    async def main() -> None:
        async with DiskStore(directory=tmp_path) as kv:
            await kv.put("k", {"a": 1})
            with closing(sqlite3.connect(tmp_path / "cache.db")) as other:
                other.execute("BEGIN IMMEDIATE")
                async with anyio.create_task_group() as group:
                    group.start_soon(kv.put, "k", {"a": 2})
                    await anyio.sleep(0.1)
                    other.rollback()
            assert await kv.get("k") == {"a": 2}

    anyio.run(main, backend=loop)


# Damaged rows

DAMAGES: dict[str, tuple[int, object]] = {
    "not json": (1, "secret-text"),
    "another object": (1, '{"secret-text": 1}'),
    "a list": (1, "[]"),
    "cut": (1, '{"version":1,"value":{"a":"secret-text'),
    "a number": (1, 7),
    "a float": (1, 7.5),
    "null": (1, None),
    "no mode": (0, "{}"),
    "unknown mode": (9, "{}"),
    "text without a file": (3, None),
    "bytes that are no text": (1, b"\xff"),
    "text that is no text": (1, "cast"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_row_is_an_error_for_its_own_key_alone(runtime: Runtime, tmp_path: Path, damage: str) -> None:  # H-37
    kv = runtime.adapt(DiskStore(directory=tmp_path))
    await kv.put_many(["good", "bad"], [{"a": 1}, {"a": 2}], collection="c", ttl=100)
    mode, value = DAMAGES[damage]
    new = "CAST(x'ff' AS TEXT)" if value == "cast" else "?"
    sql(tmp_path, f"UPDATE Cache SET mode = ?, value = {new} WHERE key = 'c::bad'", *([mode] if value == "cast" else [mode, value]))
    for call in (
        lambda: kv.get("bad", collection="c"),
        lambda: kv.ttl("bad", collection="c"),
        lambda: kv.get_many(["good", "bad"], collection="c"),
    ):
        with pytest.raises(DeserializationError, match="overwrite") as caught:
            await call()
        assert caught.value.extra_info == {"collection": "c", "key": "bad"}
        assert "secret" not in str(caught.value)
    assert await kv.get("good", collection="c") == {"a": 1}
    assert await kv.keys("c") == ["good"]
    assert await kv.collections() == ["c"]
    await kv.cull()
    assert await kv.delete("bad", collection="c") is True
    assert await kv.get("bad", collection="c") is None

    sql(tmp_path, "UPDATE Cache SET value = '?' WHERE key = 'c::good'")
    await kv.put("good", {"a": 3}, collection="c")
    assert await kv.get("good", collection="c") == {"a": 3}


def test_a_damaged_key_hides_no_other(tmp_path: Path) -> None:
    with opened(tmp_path) as kv:
        kv.put_many(["a", "b"], [{}, {}], collection="c")
        sql(tmp_path, "UPDATE Cache SET key = CAST(x'633a3aff' AS TEXT) WHERE key = 'c::a'")
        assert kv.keys("c") == ["b"]
        assert kv.collections() == ["c"]
        assert kv.destroy() is True
        assert rows(tmp_path) == 1


# Planted pickles


@pytest.fixture
def bombed(tmp_path: Path) -> tuple[Path, Path]:
    """A directory with pickles in it, and what they make when somebody unpickles them."""
    directory, target = tmp_path / "disk", tmp_path / "executed"
    with opened(directory) as kv:
        kv.put_many(["good", "inline", "side"], [{"a": 1}] * 3)
    with diskcache.Cache(directory) as cache:
        cache["default_collection::inline"] = Bomb(target)
        cache["default_collection::side"] = (Bomb(target), "x" * 50_000)
        cache[Bomb(target)] = "a pickled key"
        cache[(Bomb(target), "::")] = Bomb(target)
    assert {mode for (mode,) in sql(directory, "SELECT mode FROM Cache")} == {1, 4}
    assert len(side_files(directory)) == 1
    assert sql(directory, "SELECT COUNT(*) FROM Cache WHERE raw = 0") == [(2,)]
    return directory, target


@pytest.mark.parametrize("disk", [None, diskcache.Disk, diskcache.JSONDisk])
async def test_nothing_is_ever_unpickled(runtime: Runtime, bombed: tuple[Path, Path], disk: Any) -> None:  # H-42
    directory, target = bombed
    cache = None if disk is None else diskcache.Cache(directory, disk=disk)
    kv = runtime.adapt(DiskStore(directory=directory) if cache is None else DiskStore(disk_cache=cache))
    pickled = ["inline", "side"]
    if disk is diskcache.JSONDisk:
        names = {f"default_collection::{key}": cache.disk.put(f"default_collection::{key}")[0] for key in pickled}  # pyright: ignore[reportOptionalMemberAccess]
        sql(directory, "DELETE FROM Cache WHERE raw = 1 AND mode = 1")
        for name, key in names.items():
            sql(directory, "UPDATE Cache SET key = ? WHERE key = ?", key, name)
    for key in pickled:
        for call in (lambda key=key: kv.get(key), lambda key=key: kv.ttl(key), lambda key=key: kv.get_many([key, "good"])):
            with pytest.raises(DeserializationError):
                await call()
    listed = [] if disk is diskcache.JSONDisk else ["good"]
    assert await kv.keys() == listed
    assert await kv.collections() == ["default_collection"] * len(listed)
    await kv.cull()
    assert await kv.destroy() is True
    assert await kv.destroy_collection("default_collection") is False
    assert rows(directory) == 4
    for key in pickled:
        assert await kv.delete(key) is True
    assert await kv.delete_many(pickled) == 0
    assert sql(directory, "SELECT COUNT(*) FROM Cache WHERE raw = 0") == [(2,)]
    await kv.put("inline", {"a": 2})
    assert await kv.get("inline") == {"a": 2}
    assert not target.exists()
    if cache is not None:
        cache.close()


def test_overwriting_a_pickle_executes_nothing_either(bombed: tuple[Path, Path]) -> None:
    directory, target = bombed
    with opened(directory) as kv:
        kv.put("inline", {"a": 1})
        kv.put_many(["side", "inline"], [{"a": 2}, {"a": 3}], ttl=10)
        assert kv.get_many(["inline", "side"]) == [{"a": 3}, {"a": 2}]
    assert side_files(directory) == []
    assert not target.exists()


# File names that lead elsewhere


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
@pytest.mark.parametrize("how", ["relative", "absolute", "database"])
def test_a_file_name_that_leads_elsewhere_is_neither_read_nor_deleted(tmp_path: Path, mode: int, how: str) -> None:
    directory, secret = tmp_path / "disk", tmp_path / "ab" / "cd" / "0123456789abcdef.val"
    secret.parent.mkdir(parents=True)
    document = '{"version":1,"collection":"default_collection","key":"k","value":{"password":"hunter2"}}'
    secret.write_text(document)
    filename = {"relative": "../ab/cd/0123456789abcdef.val", "absolute": str(secret), "database": "cache.db"}[how]
    with opened(directory) as kv:
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
            assert secret.read_text() == document
            assert (directory / "cache.db").exists()


def test_a_planted_row_that_expires_deletes_no_file_elsewhere(tmp_path: Path) -> None:
    directory, secret = tmp_path / "disk", tmp_path / "secret.val"
    secret.write_text("mine")
    with opened(directory) as kv:
        kv.put("k", {})
        plant(directory, "default_collection::old", mode=3, filename="../secret.val")
        sql(directory, "UPDATE Cache SET expire_time = 1 WHERE key = 'default_collection::old'")
        kv.cull()
        assert rows(directory) == 1
    assert secret.read_text() == "mine"


# Rows of others


async def test_rows_of_others_survive(runtime: Runtime, tmp_path: Path) -> None:  # H-27
    document = '{"version":1,"collection":"c","key":"elsewhere","value":{}}'
    theirs: dict[Any, Any] = {
        1: "a",
        2.5: "b",
        "text": "c",
        "c::k2": "no document",
        "c::k3": '{"value": {"names": "neither"}}',
        "c::k4": document,
        "text::": b"x",
        b"c::bytes": b"d",
        ("c", "pickled"): "e",
        "big": "f" * 50_000,
    }
    with diskcache.Cache(tmp_path) as cache:
        for key, value in theirs.items():
            cache[key] = value
        kv = runtime.adapt(DiskStore(directory=tmp_path))
        await kv.put_many(["k", "l"], [{}, {}], collection="c")
        assert sorted(await kv.keys("c")) == ["k", "l"]
        assert await kv.collections() == ["c"]
        await kv.cull()
        assert await kv.destroy_collection("c") is True
        await kv.put("k", {}, collection="c::d")
        assert await kv.destroy() is True
        assert {key: cache[key] for key in cache} == theirs


# Large values and their side files


async def test_large_values_lie_in_files_that_go_with_them(runtime: Runtime, tmp_path: Path) -> None:
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
    await kv.put_many(["k", "l"], [LARGE, LARGE], collection="c")
    assert await kv.destroy_collection("c") is True
    assert side_files(tmp_path) == []
    assert side_directories(tmp_path) == []


async def test_culling_removes_side_files(tmp_path: Path, clock: Clock) -> None:
    async with DiskStore(directory=tmp_path) as kv:
        await kv.put_many(["k", "l"], [LARGE, LARGE], ttl=5)
        await kv.put("stays", LARGE)
        clock.advance(5)
        await kv.cull()
        assert len(side_files(tmp_path)) == 1
        assert rows(tmp_path) == 1


@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "replaced by a directory", "not text"])
def test_a_damaged_side_file(tmp_path: Path, damage: str) -> None:
    def harm(file: Path) -> None:
        if damage == "cut":
            os.truncate(file, 40_000)
        elif damage == "emptied":
            os.truncate(file, 0)
        elif damage == "not text":
            file.write_bytes(b"\xff" * 40_000)
        else:
            file.unlink()
            if damage == "replaced by a directory":
                file.mkdir()

    with opened(tmp_path) as kv:
        kv.put_many(["k", "l"], [LARGE, {"a": 1}])
        harm(side_files(tmp_path)[0])
        for call in (lambda: kv.get("k"), lambda: kv.get_many(["l", "k"])):
            with pytest.raises(DeserializationError) as caught:
                call()
            assert caught.value.extra_info == {"collection": "default_collection", "key": "k"}
        assert kv.keys() == ["l"]
        assert kv.get("l") == {"a": 1}
        assert kv.delete("k") is True
        assert kv.get("k") is None
        kv.put("k", LARGE)
        harm(next(file for file in side_files(tmp_path) if file.is_file()))
        kv.put("k", LARGE)
        assert kv.get("k") == LARGE


@contextmanager
def full_after(number: int, monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    """A disk that takes so many more side files."""
    write: Callable[..., Any] = diskcache.Disk._write  # pyright: ignore[reportPrivateUsage]
    left = [number]

    def limited(*args: Any, **kwargs: Any) -> Any:
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        return write(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(diskcache.Disk, "_write", limited)
        yield


async def test_a_full_disk_loses_nothing(runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = runtime.adapt(DiskStore(directory=tmp_path))
    await kv.put_many(["k", "l"], [LARGE, LARGE])
    other = {"text": "y" * 50_000}
    with full_after(0, monkeypatch), pytest.raises(StoreRefusedError, match="disk full"):
        await kv.put("k", other)
    with full_after(1, monkeypatch), pytest.raises(StoreRefusedError, match="disk full"):
        await kv.put_many(["k", "l"], [other, other])
    assert await kv.get_many(["k", "l"]) == [LARGE, LARGE]
    assert len(side_files(tmp_path)) == 2
    await kv.put_many(["k", "l"], [other, other])
    assert await kv.get_many(["k", "l"]) == [other, other]


# A given cache


@pytest.mark.parametrize("disk", [diskcache.Disk, diskcache.JSONDisk])
async def test_a_given_cache_is_used_as_it_is_and_stays_open(runtime: Runtime, tmp_path: Path, disk: Any) -> None:
    settings = {"size_limit": 2**24, "eviction_policy": "least-recently-used", "cull_limit": 3, "disk_min_file_size": 1000}
    with diskcache.Cache(tmp_path, disk=disk, **settings) as cache:
        cache["theirs"] = "x"
        before = sql(tmp_path, "SELECT key, value FROM Settings WHERE key NOT IN ('count', 'size') ORDER BY key")
        kv = runtime.adapt(DiskStore(disk_cache=cache))
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


def test_an_empty_cache_is_a_cache(tmp_path: Path) -> None:
    with diskcache.Cache(tmp_path) as cache:
        assert len(cache) == 0
        with BlockingKeyValue(DiskStore(disk_cache=cache)) as kv:
            kv.put("k", {})
        assert list(cache) == ["default_collection::k"]


@pytest.mark.parametrize("damaged", [b"\xff", b"x\x9c", "text", 7, None])
def test_a_damaged_row_of_a_json_disk(tmp_path: Path, damaged: object) -> None:
    with diskcache.Cache(tmp_path, disk=diskcache.JSONDisk) as cache, BlockingKeyValue(DiskStore(disk_cache=cache)) as kv:
        kv.put_many(["good", "bad"], [{"a": 1}, {}])
        name = cache.disk.put("default_collection::bad")[0]
        sql(tmp_path, "UPDATE Cache SET mode = 1, filename = NULL, value = ? WHERE key = ?", damaged, name)
        plant(tmp_path, b"no compressed name", value=b"x")
        plant(tmp_path, "no bytes", value="x")
        for call in (lambda: kv.get("bad"), lambda: kv.get_many(["good", "bad"])):
            with pytest.raises(DeserializationError):
                call()
        assert kv.keys() == ["good"]  # pyright: ignore[reportAttributeAccessIssue]
        assert kv.delete("bad") is True


# Nothing stays open


def open_files(directory: Path) -> list[str]:
    links: list[str] = []
    for number in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    return [link for link in links if link.startswith(str(directory))]


linux = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="file descriptors are counted in /proc")


@linux
def test_nothing_is_open_after_use_from_many_threads(tmp_path: Path) -> None:
    with opened(tmp_path) as kv, ThreadPoolExecutor(8) as pool:
        barrier = threading.Barrier(8)

        def work(number: int) -> None:
            barrier.wait()
            for _ in range(20):
                kv.put(f"k{number}", LARGE)
                assert kv.get(f"k{number}") == LARGE
                kv.put_many(["a", "b"], [{"n": 1}, {"n": 2}])
                assert kv.get_many(["a", "b"]) == [{"n": 1}, {"n": 2}]

        list(pool.map(work, range(8)))
        assert sorted(kv.keys()) == ["a", "b", *(f"k{number}" for number in range(8))]
        assert len({name for name in open_files(tmp_path) if name.endswith("cache.db")}) == 1
        kv.close()
        assert open_files(tmp_path) == []


@linux
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_nothing_is_open_after_use_from_a_loop(tmp_path: Path, loop: str) -> None:
    async def main() -> None:
        async with DiskStore(directory=tmp_path) as kv:
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(kv.put, f"k{number}", LARGE)
            assert len(await kv.keys()) == 20
        assert open_files(tmp_path) == []

    anyio.run(main, backend=loop)


@linux
def test_one_store_in_many_loops_and_threads_at_once(tmp_path: Path) -> None:
    store = DiskStore(directory=tmp_path)

    async def work(number: int) -> None:
        for _ in range(20):
            await store.put(f"k{number}", {"n": number})
            assert await store.get(f"k{number}") == {"n": number}

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: anyio.run(work, number, backend=("asyncio", "trio")[number % 2]), range(4)))
    asyncio.run(store.close())
    assert open_files(tmp_path) == []


# Expiry, eviction, sharing


async def test_expiry_in_real_time(tmp_path: Path) -> None:
    async with DiskStore(directory=tmp_path) as kv:
        await kv.put_many(["k", "l"], [LARGE, {}], ttl=0.2)
        await kv.put("stays", {})
        assert rows(tmp_path) == 3
        await anyio.sleep(0.3)
        assert await kv.get_many(["k", "l", "stays"]) == [None, None, {}]
        await kv.cull()
        assert rows(tmp_path) == 1
        assert side_files(tmp_path) == []


async def test_the_row_never_expires_before_the_entry(tmp_path: Path) -> None:
    async with DiskStore(directory=tmp_path) as kv:
        for ttl in (1e-3, 0.4, 1, 1.5, 86_400, 10**9):
            await kv.put("k", {}, ttl=ttl)
            ((document, expire_time),) = sql(tmp_path, "SELECT value, expire_time FROM Cache")
            expires_at = datetime.fromisoformat(json.loads(document)["expires_at"]).timestamp()
            assert expires_at <= expire_time < expires_at + 5


async def test_later_puts_remove_expired_rows(tmp_path: Path) -> None:
    async with DiskStore(directory=tmp_path) as kv:
        await kv.put_many([f"k{number}" for number in range(15)], [{}] * 15, ttl=50)
        sql(tmp_path, "UPDATE Cache SET expire_time = 1")
        await kv.put("a", {})
        await kv.put("b", {})
        assert rows(tmp_path) == 2


def size_of(directory: Path) -> int:
    """Bytes in the database and the side files; the write-ahead log comes on top for a while."""
    with diskcache.Cache(directory) as cache:
        return cache.volume()


MIB = 2**20


@pytest.mark.parametrize("length", [2_000, 20_000, 50_000])
@pytest.mark.parametrize("before", ["new", "without a limit", "with another limit"])
def test_a_limit_really_bounds_the_size(tmp_path: Path, length: int, before: str) -> None:
    if before != "new":
        with opened(tmp_path, max_size=None if before == "without a limit" else 50 * MIB) as kv:
            kv.put("old", {"text": "o" * length})
    with opened(tmp_path, max_size=2 * MIB) as kv:
        for number in range(6 * MIB // length):
            kv.put(f"k{number}", {"text": "x" * length})
        kept = kv.keys()
    assert size_of(tmp_path) < 2 * MIB + 100_000
    assert len(kept) * length > MIB // 2
    assert f"k{6 * MIB // length - 1}" in kept
    assert "old" not in kept
    assert "k0" not in kept


def test_eviction_leaves_what_was_just_put_in_bulk(tmp_path: Path) -> None:
    with opened(tmp_path, max_size=2 * MIB) as kv:
        for number in range(150):
            kv.put(f"k{number}", {"text": "x" * 20_000})
        new = [f"new{number}" for number in range(30)]
        kv.put_many(new, [{"text": "y" * 20_000}] * 30)
        assert None not in kv.get_many(new)
        assert len(kv.keys()) > 40


@pytest.mark.parametrize("max_size", [None, 0])
def test_no_limit_means_no_limit(tmp_path: Path, max_size: int | None) -> None:
    with opened(tmp_path, max_size=MIB) as kv:
        kv.put("k", {})
    with opened(tmp_path, max_size=max_size) as kv:
        for number in range(100):
            kv.put(f"k{number}", {"text": "x" * 30_000})
        assert len(kv.keys()) == 101


async def test_two_stores_on_one_directory_see_each_others_writes(tmp_path: Path) -> None:
    async with DiskStore(directory=tmp_path) as one, DiskStore(directory=tmp_path) as other:
        for number in range(20):
            await one.put("k", {"n": number}, ttl=100)
            value, left = await other.ttl("k")
            assert value == {"n": number}
            assert left is not None
            assert left > 90
            await other.put(f"l{number}", LARGE)
            assert await one.get(f"l{number}") == LARGE
        assert await other.delete("k") is True
        assert await one.get("k") is None
        assert await one.delete("k") is False
        assert await one.keys() == await other.keys()
        assert await one.destroy() is True
        assert await other.keys() == []


@pytest.mark.parametrize("bulk", [False, True])
def test_a_large_value_can_be_read_while_another_store_overwrites_it(tmp_path: Path, bulk: bool) -> None:
    with opened(tmp_path) as reader, opened(tmp_path) as writer:
        writer.put_many(["k", "l"], [LARGE, LARGE])
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                if bulk:
                    writer.put_many(["k", "l"], [LARGE, LARGE])
                else:
                    writer.put("k", LARGE)

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            try:
                for _ in range(1000):
                    assert reader.get("k") == LARGE
                    assert sorted(reader.keys()) == ["k", "l"]
            finally:
                stop.set()
            writing.result()
        assert len(side_files(tmp_path)) == 2
