"""What is RocksDBStore's own: the lock on the database, values that others planted, and a given database."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from rocksdict import AccessType, Options, Rdict

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, KeyValueStoreError, StoreRefusedError, StoreSetupError
from keyvalue.stores.rocksdb import RocksDBStore
from keyvalue.testing import Clock
from tests.runtimes import Runtime


@contextmanager
def opened(path: Path, **kwargs: Any) -> Generator[Any, None, None]:
    with BlockingKeyValue(RocksDBStore(path=path, **kwargs)) as kv:
        yield kv


@contextmanager
def database(path: Path, **kwargs: Any) -> Generator[Rdict, None, None]:
    db = Rdict(str(path), **kwargs)
    try:
        yield db
    finally:
        db.close()


class Bomb:
    """A pickle that, when it is read, makes a directory."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> Any:
        return exec, (f"import os; os.mkdir({self.target!r})",)


# The constructor


@pytest.mark.parametrize("arguments", [{}, {"path": ""}, {"path": None}])  # H-58
def test_neither_path_nor_database(arguments: Any) -> None:
    with pytest.raises(ValueError, match="exactly one of: path, db"):
        RocksDBStore(**arguments)


def test_both_path_and_database(tmp_path: Path) -> None:
    with database(tmp_path / "db") as db, pytest.raises(ValueError, match="exactly one of"):
        RocksDBStore(path=tmp_path, db=db)


def test_a_missing_directory_is_only_made_if_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        RocksDBStore(path=tmp_path / "missing", auto_create=False)
    with opened(tmp_path / "new" / "newer") as kv:
        kv.put("k", {})
    with opened(tmp_path / "new" / "newer", auto_create=False) as kv:
        assert kv.get("k") == {}


def test_the_constructor_touches_nothing(tmp_path: Path) -> None:
    RocksDBStore(path=tmp_path / "new")
    RocksDBStore(path=str(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


# Opening


async def test_a_database_that_is_open_here_already(runtime: Runtime, tmp_path: Path) -> None:
    first = RocksDBStore(path=tmp_path)
    second = runtime.adapt(RocksDBStore(path=tmp_path))
    with BlockingKeyValue(first) as kv:
        kv.put("k", {"a": 1})
        for call in (second.setup, lambda: second.get("k"), lambda: second.put("k", {})):
            with pytest.raises(StoreSetupError, match=r"open already.*share one store, or close the other"):
                await call()
        assert kv.get("k") == {"a": 1}
    assert await second.get("k") == {"a": 1}


HOLD = """
import sys
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.rocksdb import RocksDBStore
with BlockingKeyValue(RocksDBStore(path=sys.argv[1])) as kv:
    kv.put("k", {"theirs": True})
    print("open", flush=True)
    sys.stdin.readline()
"""


def test_a_database_that_is_open_in_another_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        store = RocksDBStore(path=tmp_path)
        with pytest.raises(StoreSetupError, match="in another process"):
            BlockingKeyValue(store).get("k")
        other.communicate("\n")
    assert other.returncode == 0
    with BlockingKeyValue(store) as kv:
        assert kv.get("k") == {"theirs": True}


async def test_a_path_that_is_no_directory(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        kv = runtime.adapt(RocksDBStore(path=path))
        with pytest.raises(StoreSetupError, match=r"/file.*writable"):
            await kv.get("k")
    assert (tmp_path / "file").read_text() == "mine"


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


def test_a_damaged_database(tmp_path: Path) -> None:
    with opened(tmp_path) as kv:
        kv.put("k", {})
    (tmp_path / "CURRENT").write_text("damaged")
    with pytest.raises(StoreSetupError, match="a RocksDB database"):
        BlockingKeyValue(RocksDBStore(path=tmp_path)).get("k")


@pytest.mark.parametrize("act", ["nothing", "keys", "limited keys", "get", "failed"])
def test_closing_releases_the_lock_at_once(tmp_path: Path, act: str) -> None:  # H-46
    with opened(tmp_path) as kv:
        kv.put_many([f"k{number}" for number in range(1200)], [{}] * 1200)
    store = RocksDBStore(path=tmp_path)
    kv: Any = BlockingKeyValue(store)
    kv.setup()
    errors: list[BaseException] = []
    if act == "keys":
        assert len(kv.keys()) == 1200
    elif act == "limited keys":
        assert len(kv.keys(limit=3)) == 3
    elif act == "get":
        kv.get_many([f"k{number}" for number in range(1200)])
    elif act == "failed":
        with database_of(store) as db:
            db["default_collection::k0"] = 7
        with pytest.raises(DeserializationError) as caught:
            kv.get_many(["k0", "k1"])
        errors.append(caught.value)  # its traceback holds frames
    kv.close()
    with database(tmp_path) as db:
        assert "default_collection::k1" in db


@contextmanager
def database_of(store: RocksDBStore) -> Generator[Any, None, None]:
    client = store._client  # pyright: ignore[reportPrivateUsage]
    assert client is not None
    yield client._sync  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_closing_releases_the_lock_at_once_on_a_loop(tmp_path: Path, loop: str) -> None:
    async def main() -> None:
        for number in range(3):
            async with RocksDBStore(path=tmp_path) as kv:
                await kv.put(f"k{number}", {})
                assert len(await kv.keys(limit=1)) == 1
            with database(tmp_path) as db:
                assert len(list(db.keys())) == number + 1

    anyio.run(main, backend=loop)


# Values that others put there


async def test_nothing_is_ever_unpickled(runtime: Runtime, tmp_path: Path) -> None:  # H-42
    target = tmp_path / "executed"
    with database(tmp_path / "db") as db:
        kv = runtime.adapt(RocksDBStore(db=db))
        await kv.put_many(["good", "bad"], [{"a": 1}, {}])
        db["default_collection::bad"] = Bomb(target)
        db["foreign"] = Bomb(target)
        for call in (lambda: kv.get("bad"), lambda: kv.ttl("bad"), lambda: kv.get_many(["good", "bad", "missing"])):
            with pytest.raises(DeserializationError, match="overwrite") as caught:
                await call()
            assert caught.value.extra_info == {"collection": "default_collection", "key": "bad"}
        assert await kv.get_many(["good", "missing"]) == [{"a": 1}, None]
        assert await kv.keys() == ["good"]
        assert await kv.collections() == ["default_collection"]
        await kv.cull()
        assert await kv.destroy() is True
        assert await kv.delete("bad") is True
        assert await kv.get("bad") is None
        db["default_collection::bad"] = Bomb(target)
        await kv.put("bad", {"a": 2})
        assert await kv.get("bad") == {"a": 2}
        await kv.close()
        assert not target.exists()
        assert set(db.keys()) == {"default_collection::bad", "foreign"}


@pytest.mark.parametrize("other", [7, 7.5, True, 2**80, "secret-text", b"secret-text", b"\xff", b"", b"{}", b"[]", ["secret-text"], None])
async def test_values_of_another_type_are_unreadable(runtime: Runtime, tmp_path: Path, other: object) -> None:  # H-37
    with database(tmp_path) as db:
        kv = runtime.adapt(RocksDBStore(db=db))
        await kv.put_many(["good", "bad"], [{"a": 1}, {}], ttl=50)
        db["default_collection::bad"] = other
        for call in (lambda: kv.get("bad"), lambda: kv.get_many(["good", "bad"])):
            with pytest.raises(DeserializationError) as caught:
                await call()
            assert caught.value.extra_info == {"collection": "default_collection", "key": "bad"}
            assert "secret" not in str(caught.value)
        assert await kv.get("good") == {"a": 1}
        assert await kv.keys() == ["good"]
        await kv.cull()
        assert await kv.delete_many(["good", "bad"]) == 2
        await kv.close()
        assert list(db.keys()) == []


async def test_a_document_that_is_a_str_is_read(tmp_path: Path) -> None:
    with database(tmp_path) as db:
        async with RocksDBStore(db=db) as kv:
            db["c::k"] = '{"version":1,"collection":"c","key":"k","value":{"é":"é"}}'
            assert await kv.get("k", collection="c") == {"é": "é"}
            assert await kv.keys("c") == ["k"]
            assert await kv.delete("k", collection="c") is True


async def test_rows_of_others_survive(runtime: Runtime, tmp_path: Path) -> None:  # H-27
    theirs: dict[Any, Any] = {
        1: "a",
        2.5: "b",
        False: "c",
        b"c::bytes": b"{}",
        b"\xff": b"{}",
        "text": "d",
        "c::k2": "no document",
        "c::k3": b'{"value": {"names": "neither"}}',
        "c::k4": b'{"version":1,"collection":"c","key":"elsewhere","value":{}}',
        "c::k5": 5,
        "\U0010ffff": b"e",
    }
    with database(tmp_path) as db:
        for key, value in theirs.items():
            db[key] = value
        kv = runtime.adapt(RocksDBStore(db=db))
        await kv.put_many(["k", "l"], [{}, {}], collection="c")
        await kv.put("k", {}, collection="\U0010ffff")
        assert sorted(await kv.keys("c")) == ["k", "l"]
        assert sorted(await kv.collections()) == ["c", "\U0010ffff"]
        await kv.cull()
        assert await kv.destroy_collection("c") is True
        await kv.put("k", {}, collection="c::d")
        assert await kv.destroy() is True
        assert dict(db.items()) == theirs
        await kv.close()


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
        with pytest.raises(DeserializationError):
            await kv.get("l")
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


async def test_a_given_database_that_can_not_be_used(runtime: Runtime, tmp_path: Path) -> None:
    with database(tmp_path) as db:
        db["x"] = 1
    kv = runtime.adapt(RocksDBStore(db=db))
    with pytest.raises(StoreSetupError):
        await kv.get("k")
    with database(tmp_path, access_type=AccessType.read_only()) as db:
        kv = runtime.adapt(RocksDBStore(db=db))
        assert await kv.get("k") is None
        for call in (lambda: kv.put("k", {"secret": "hunter2"}), lambda: kv.put_many(["k", "l"], [{"secret": "hunter2"}] * 2)):
            with pytest.raises(StoreRefusedError, match="read only") as caught:
                await call()
            assert "hunter2" not in str(caught.value)
        await kv.close()
    with database(tmp_path / "raw", options=Options(raw_mode=True)) as db:
        kv = runtime.adapt(RocksDBStore(db=db))
        for call in (lambda: kv.put("k", {}), lambda: kv.get("k")):
            with pytest.raises(KeyValueStoreError, match="raw"):
                await call()
        await kv.close()


# Expiry


async def test_expiry_in_real_time(tmp_path: Path) -> None:
    with database(tmp_path) as db:
        async with RocksDBStore(db=db) as kv:
            await kv.put_many(["k", "l"], [{}, {}], ttl=0.2)
            await kv.put("stays", {})
            await anyio.sleep(0.3)
            assert await kv.get_many(["k", "l", "stays"]) == [None, None, {}]
            assert len(list(db.keys())) == 3
            await kv.cull()
            assert list(db.keys()) == ["default_collection::stays"]


async def test_culling_frees_the_rows(runtime: Runtime, tmp_path: Path, clock: Clock) -> None:  # H-23b
    with database(tmp_path) as db:
        kv = runtime.adapt(RocksDBStore(db=db))
        await kv.put_many([f"k{number}" for number in range(1200)], [{}] * 1200, ttl=5)
        await kv.put_many(["k", "l"], [{}, {}], collection="a::b", ttl=5)
        await kv.put("stays", {}, ttl=6)
        clock.advance(5)
        await kv.cull()
        assert list(db.keys()) == ["default_collection::stays"]
        await kv.close()


# Threads


def test_of_concurrent_deletes_exactly_one_is_told_true(tmp_path: Path) -> None:  # H-50
    with opened(tmp_path) as kv, ThreadPoolExecutor(8) as pool:
        barrier = threading.Barrier(8)

        def delete(_: int) -> list[Any]:
            results: list[Any] = []
            for number in range(100):
                barrier.wait()
                results.append(kv.delete(f"k{number}") if number % 2 else kv.delete_many([f"k{number}"]) == 1)
            return results

        kv.put_many([f"k{number}" for number in range(100)], [{}] * 100)
        for results in zip(*pool.map(delete, range(8)), strict=True):
            assert sorted(results) == [False] * 7 + [True]


def test_one_store_in_many_loops_and_threads_at_once(tmp_path: Path) -> None:
    store = RocksDBStore(path=tmp_path)

    async def work(number: int) -> None:
        for turn in range(50):
            await store.put(f"k{number}", {"n": number, "turn": turn})
            assert await store.get(f"k{number}") == {"n": number, "turn": turn}

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: anyio.run(work, number, backend=("asyncio", "trio")[number % 2]), range(4)))
    with BlockingKeyValue(store) as kv:
        assert [value and value["n"] for value in kv.get_many([f"k{number}" for number in range(4)])] == [0, 1, 2, 3]
