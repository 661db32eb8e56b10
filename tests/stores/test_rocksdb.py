"""What is RocksDBStore's own: the lock on the database, documents that are text, and a given database."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rocksdict import AccessType, Env, Options, Rdict

from keyvalue._core import listing
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, KeyValueStoreError, StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores._drivers import rocksdb as module
from keyvalue.stores.rocksdb import RocksDBStore
from tests.children import child, hold_open
from tests.runtimes import Runtime
from tests.stores.files import EXPLODED, Bomb, limited
from tests.stores.hooks import SECRET, assert_raised


def open_store(path: Path, **kwargs: Any) -> Any:
    return BlockingKeyValue(RocksDBStore(path=path, **kwargs))


def database(path: Path, **kwargs: Any) -> closing[Rdict]:
    return closing(Rdict(str(path), **kwargs))


# Opening


async def test_a_database_that_is_open_here_already(runtime: Runtime, tmp_path: Path) -> None:
    first, second = (runtime.adapt(RocksDBStore(path=tmp_path)) for _ in range(2))
    await first.put("k", {"a": 1})
    calls = [second.setup, lambda: second.get("k"), lambda: second.put("k", {})]
    await assert_raised(StoreSetupError, r"open already.*share one store, or close the other", *calls)
    assert await first.get("k") == {"a": 1}
    await first.close()
    assert await second.get("k") == {"a": 1}


def test_a_database_that_is_open_in_another_process(tmp_path: Path) -> None:
    store = RocksDBStore(path=tmp_path / "rocksdb")
    with child(hold_open, "rocksdb", tmp_path) as (_, receiver):
        assert receiver.recv() == "open"
        with pytest.raises(StoreSetupError, match="in another process"):
            BlockingKeyValue(store).get("k")
    with BlockingKeyValue(store) as kv:
        assert kv.get("k") == {"theirs": True}


@pytest.mark.parametrize("left", [None, "", '{"raw_mode":fal', '{"raw_mode":true,"prefix_extractors":{}}'])
def test_a_database_whose_making_was_cut_off(tmp_path: Path, left: str | None) -> None:
    with BlockingKeyValue(RocksDBStore(path=tmp_path / "db")) as kv:
        kv.put("k", {"a": 1})
    settings = tmp_path / "db" / "rocksdict-config.json"
    settings.unlink()
    if left is not None:
        settings.write_text(left)
    for _ in range(2):
        with BlockingKeyValue(RocksDBStore(path=tmp_path / "db")) as kv:
            assert kv.get("k") == {"a": 1}


def test_what_is_no_database(tmp_path: Path) -> None:
    with open_store(tmp_path / "db") as kv:
        kv.put("k", {})
    (tmp_path / "db" / "CURRENT").write_text("damaged")
    (tmp_path / "file").write_text("mine")
    for name, said in (("db", "not a RocksDB database, or damaged"), ("file", "is a file, where a directory belongs")):
        with pytest.raises(StoreSetupError, match=f"/{name}.*{said}"):
            BlockingKeyValue(RocksDBStore(path=tmp_path / name)).get("k")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("act", ["nothing", "keys", "limited keys", "get", "failed"])
async def test_closing_releases_the_lock_at_once(
    act: str, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # H-46
    monkeypatch.setattr(listing, "PAGE", 2)
    keys = [f"k{number}" for number in range(5)]
    kv = runtime.adapt(RocksDBStore(path=tmp_path))
    await kv.put_many(keys, [{}] * 5)
    await kv.close()
    with database(tmp_path) as db:
        db["default_collection::bad"] = Bomb()
    kv = runtime.adapt(RocksDBStore(path=tmp_path))
    await kv.setup()
    errors: list[BaseException] = []
    if act == "keys":
        assert sorted(await kv.keys()) == keys
    elif act == "limited keys":
        assert len(await kv.keys(limit=1)) == 1
    elif act == "get":
        assert await kv.get_many(keys) == [{}] * 5
    elif act == "failed":
        with pytest.raises(DeserializationError) as caught:
            await kv.get_many(["bad", "k1"])
        errors.append(caught.value)  # its traceback holds frames
    await kv.close()
    with database(tmp_path) as db:
        assert "default_collection::k1" in db
    assert EXPLODED == []


# Values that others put there


async def test_a_document_that_is_a_str_is_read(tmp_path: Path) -> None:
    with database(tmp_path) as db:
        async with RocksDBStore(db=db) as kv:
            db["c::k"] = '{"version":1,"collection":"c","key":"k","value":{"é":"é"}}'
            assert await kv.get("k", collection="c") == {"é": "é"}
            assert await kv.keys("c") == ["k"]
            assert await kv.delete("k", collection="c") is True


# A given database


async def test_a_given_database_stays_open_and_as_it_was(runtime: Runtime, tmp_path: Path) -> None:
    with database(tmp_path) as db:
        loaded: list[bytes] = []
        db.set_dumps(lambda value: repr(value).encode())
        db.set_loads(lambda data: loaded.append(data) or "loaded")
        db["theirs"] = [1]
        kv = runtime.adapt(RocksDBStore(db=db))
        await kv.put_many(["k", "l"], [{"a": 1}, {}], ttl=50)
        db["default_collection::l"] = [2]
        await assert_raised(DeserializationError, "", lambda: kv.get("l"))
        assert loaded == []
        await kv.close()
        await kv.close()
        assert db["theirs"] == "loaded"
        assert loaded == [b"[1]"]
        db["more"] = 1
        value: Any = db["default_collection::k"]
        assert b'"value":{"a":1}' in value
        again = runtime.adapt(RocksDBStore(db=db))
        assert await again.get("k") == {"a": 1}
        await again.close()


async def test_a_given_column_family_is_the_one_that_is_used(tmp_path: Path) -> None:
    with database(tmp_path) as db:
        family = db.create_column_family("mine")
        async with RocksDBStore(db=family) as kv:
            await kv.put("k", {"a": 1})
            await kv.put_many(["l", "m"], [{}, {}])
            assert await kv.delete("m") is True
            assert sorted(await kv.keys()) == ["k", "l"]
        assert sorted(map(str, family.keys())) == ["default_collection::k", "default_collection::l"]
        assert list(db.keys()) == []
        family.close()


async def test_a_given_database_whose_directory_is_removed(runtime: Runtime, tmp_path: Path) -> None:
    db = Rdict(str(tmp_path / "db"))
    kv, late = (runtime.adapt(RocksDBStore(db=db)) for _ in range(2))
    await kv.put("k", {"a": 1})
    shutil.rmtree(tmp_path / "db")
    for store in (kv, late):
        for call in (partial(store.put, "k", {}), partial(store.put_many, ["k", "l"], [{}, {}]), partial(store.delete, "k")):
            with pytest.raises(StoreSetupError, match=r"removed or moved.*open a new one"):
                await call()
        await store.close()


async def test_a_given_database_in_memory(runtime: Runtime, tmp_path: Path) -> None:
    options = Options()
    options.set_env(Env.mem_env())
    kv = runtime.adapt(RocksDBStore(db=Rdict(str(tmp_path), options)))
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}


async def test_writes_go_on_when_the_directory_is_put_back(runtime: Runtime, tmp_path: Path) -> None:
    where, moved = tmp_path / "db", tmp_path / "moved"
    kv = runtime.adapt(RocksDBStore(path=where))
    await kv.put("k", {"a": 1})
    where.rename(moved)
    with pytest.raises(StoreSetupError, match="put it back"):
        await kv.put("k", {})
    assert await kv.get("k") == {"a": 1}
    moved.rename(where)
    await kv.put("l", {"a": 2})
    await kv.close()
    again = runtime.adapt(RocksDBStore(path=where))
    assert await again.get_many(["k", "l"]) == [{"a": 1}, {"a": 2}]


async def test_a_given_database_that_can_not_be_used(runtime: Runtime, tmp_path: Path) -> None:
    with database(tmp_path) as db:
        db["x"] = 1
    kv = runtime.adapt(RocksDBStore(db=db))
    await assert_raised(StoreSetupError, "", lambda: kv.get("k"))
    with database(tmp_path, access_type=AccessType.read_only()) as db:
        kv = runtime.adapt(RocksDBStore(db=db))
        assert await kv.get("k") is None
        value = {"secret": SECRET}
        await assert_raised(StoreRefusedError, "read only", lambda: kv.put("k", value), lambda: kv.put_many(["k", "l"], [value] * 2))
        await kv.close()
    with database(tmp_path / "raw", options=Options(raw_mode=True)) as db:
        kv = runtime.adapt(RocksDBStore(db=db))
        await assert_raised(KeyValueStoreError, "raw", lambda: kv.put("k", {}), lambda: kv.get("k"))
        await kv.close()


# A full disk, for which a limit on the size of a file stands


@pytest.mark.parametrize("has_room", [True, False])
async def test_writes_go_on_when_a_full_disk_has_room_again(
    has_room: bool, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kv = runtime.adapt(RocksDBStore(path=tmp_path))
    await kv.put("k", {"a": 1})
    with limited("RLIMIT_FSIZE", 1000), monkeypatch.context() as patch:
        await assert_raised(StoreRefusedError, "File too large", lambda: kv.put("l", {"a": "x" * 1000}))
        if has_room:  # it is opened anew in vain
            await assert_raised(StoreRefusedError, "/.* can't be written: the disk is full", lambda: kv.put("l", {}), lambda: kv.get("k"))
        else:
            patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
            await assert_raised(StoreRefusedError, "File too large", lambda: kv.put("l", {}), lambda: kv.delete("k"))
            assert await kv.get("k") == {"a": 1}
    await kv.put("l", {"a": 2})
    assert await kv.get_many(["k", "l"]) == [{"a": 1}, {"a": 2}]
    await kv.close()
    again = runtime.adapt(RocksDBStore(path=tmp_path))
    assert await again.get_many(["k", "l"]) == [{"a": 1}, {"a": 2}]


async def test_a_given_database_on_a_full_disk_is_to_be_opened_anew(runtime: Runtime, tmp_path: Path) -> None:
    db = Rdict(str(tmp_path))
    kv = runtime.adapt(RocksDBStore(db=db))
    await kv.put("k", {"a": 1})
    with limited("RLIMIT_FSIZE", 1000):
        await assert_raised(StoreRefusedError, "close the given database", lambda: kv.put("l", {"a": "x" * 1000}))
    await assert_raised(StoreRefusedError, "close the given database", lambda: kv.put("l", {}))
    with pytest.raises(Exception, match="File too large"):
        db.close()


async def test_a_new_database_on_a_full_disk(runtime: Runtime, tmp_path: Path) -> None:
    kv = runtime.adapt(RocksDBStore(path=tmp_path))
    with limited("RLIMIT_FSIZE", 10):
        await assert_raised(StoreRefusedError, "/.* can't be written: the disk is full", lambda: kv.put("k", {}), lambda: kv.get("k"))
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}


# Opening a database anew


def stop(store: Any) -> Any:
    """Have the next write of a store close its database and open it anew; return what does."""
    store._clients.sync.client._is_stopped = True
    return store._clients.sync.client


STEPS = ("_change", "_use", "_opened")
"""The functions of the driver that close the database and open it anew."""


class Interrupt(BaseException):
    pass


def is_interrupted(call: Any, step: int) -> bool:
    """Make a call, interrupted before the given line of those that run in `STEPS`, and return whether it was."""
    left = step

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != module.__file__ or frame.f_code.co_name not in STEPS:
            return None
        left -= event == "line"
        if event == "line" and left == 0:
            raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("then", ["get", "put", "close"])
def test_an_interrupt_at_any_step(tmp_path: Path, then: str) -> None:
    step, was_interrupted, held = 0, True, None
    store = RocksDBStore(path=tmp_path)
    kv: Any = BlockingKeyValue(store)
    kv.put("k", {"a": 0})
    while was_interrupted:
        step += 1
        held = stop(store)  # as a traceback may: dropping it would close the database
        was_interrupted = is_interrupted(partial(kv.put, "k", {"a": step}), step)
        if then == "put":
            kv.put("k", {"a": step})
        elif then == "close":
            kv.close()
            store = RocksDBStore(path=tmp_path)
            kv = BlockingKeyValue(store)
        value = kv.get("k")
        assert value == {"a": step} or (was_interrupted and then != "put" and value == {"a": step - 1})
        kv.put("k", {"a": step})
    assert step > 10
    assert held is not None
    kv.close()


@pytest.mark.parametrize("is_same_thread", [False, True], ids=["thread", "handler"])
def test_a_listing_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_same_thread: bool) -> None:
    listing, go_on = threading.Event(), threading.Event()

    def take_page(rows: Iterable[Any]) -> list[Any]:
        page = [next(iter(rows))]
        if is_same_thread:  # as the handler of a signal would
            with pytest.raises(StoreConnectionError, match=r"under way.*try again"):
                kv.put("l", {"a": 2})
        listing.set()
        assert go_on.wait(10)
        return [*page, *rows]

    monkeypatch.setattr(module, "take_page", take_page)
    if is_same_thread:
        monkeypatch.setattr(module, "_PATIENCE", 0.05)
        go_on.set()
    store = RocksDBStore(path=tmp_path)
    kv: Any = BlockingKeyValue(store)
    kv.put_many(["k", "l"], [{}, {}])
    stop(store)
    with ThreadPoolExecutor(1) as pool:
        keys = pool.submit(partial(kv.keys, limit=2))
        assert listing.wait(10)
        threading.Timer(0.05, go_on.set).start()
        kv.put("k", {"a": 1})
        assert keys.result(10) == ["k", "l"]
    assert kv.get_many(["k", "l"]) == [{"a": 1}, {}]
    kv.close()


def test_reads_in_other_threads(tmp_path: Path) -> None:
    store = RocksDBStore(path=tmp_path)
    kv: Any = BlockingKeyValue(store)
    keys = [f"k{number:03}" for number in range(500)]
    value = {"a": "x" * 1000}
    kv.put_many(keys, [value] * 500)
    is_done = threading.Event()

    def read(call: Any, expected: Any) -> None:
        while not is_done.is_set():
            assert call() == expected

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, partial(kv.get, "k000"), value)]
        readers += [pool.submit(read, partial(kv.get_many, keys), [value] * 500) for _ in range(2)]
        readers += [pool.submit(read, lambda: sorted(kv.keys("default_collection")), keys)]
        try:
            for number in range(10):
                stop(store)
                kv.put("n", {"n": number}, collection="c")
        finally:
            is_done.set()
        for reader in readers:
            reader.result(10)
    assert kv.get("n", collection="c") == {"n": 9}
    kv.close()


async def test_no_descriptors_to_look_for_room_with(runtime: Runtime, tmp_path: Path) -> None:
    store = RocksDBStore(path=tmp_path)
    kv = runtime.adapt(store)
    await kv.put("k", {"a": 1})
    stop(store)
    with limited("RLIMIT_NOFILE", 3):
        await assert_raised(StoreConnectionError, "no file descriptors left", lambda: kv.put("l", {}), lambda: kv.delete("k"))
        assert await kv.get("k") == {"a": 1}
    await kv.put("k", {"a": 2})
    assert await kv.get("k") == {"a": 2}


# A damaged file


async def test_a_listing_of_a_damaged_table_is_an_error(runtime: Runtime, tmp_path: Path) -> None:
    kv = runtime.adapt(RocksDBStore(path=tmp_path))
    keys = [f"k{number:04}" for number in range(2000)]
    await kv.put_many(keys, [{"a": "x" * 100}] * 2000)
    await kv.close()
    with database(tmp_path) as db:
        db.flush()
    table = max(tmp_path.glob("*.sst"), key=os.path.getsize)  # noqa: ASYNC240 # nothing else runs
    data = bytearray(table.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = os.urandom(2000)
    table.write_bytes(data)
    kv = runtime.adapt(RocksDBStore(path=tmp_path))
    await assert_raised(StoreRefusedError, "Corruption", kv.keys, kv.destroy)
    assert await kv.get(keys[-1]) == {"a": "x" * 100}
    await kv.close()
