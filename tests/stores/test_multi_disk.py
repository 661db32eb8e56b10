"""What is MultiDiskStore's own: its directories, how many of them are open, and a given factory."""

# pyright: reportUnknownParameterType=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# diskcache has no types.

from __future__ import annotations

import functools
import gc
import os
import shutil
from pathlib import Path
from typing import Any

import diskcache
import pytest

from keyvalue._core.capabilities import capabilities_of
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, PathSecurityError, StoreRefusedError, StoreSetupError
from keyvalue.stores._drivers import disk as driver
from keyvalue.stores.disk import MultiDiskStore
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing._suite import at_once
from tests.runtimes import Runtime
from tests.stores.files import open_files, plant, row_count


def open_store(**arguments: Any) -> Any:
    return BlockingKeyValue(MultiDiskStore(**arguments))


def test_bounds_on_the_size(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size_limit"):
        MultiDiskStore(disk_cache_factory=diskcache.Cache, max_size=2**20)
    with pytest.raises(ValueError, match="at least"):
        MultiDiskStore(base_directory=tmp_path, max_size=10)


def test_eviction_leaves_what_was_just_put_in_bulk(tmp_path: Path) -> None:
    old, new = ([f"{kind}{number}" for number in range(count)] for kind, count in (("old", 150), ("new", 30)))
    with open_store(base_directory=tmp_path, max_size=2 * 2**20) as kv:
        kv.put_many(old, [{"text": "x" * 20_000}] * len(old))
        before = len(kv.keys())
        kv.put_many(new, [{"text": "y" * 20_000}] * len(new))
        assert None not in kv.get_many(new)
        assert before - 30 <= len(kv.keys()) <= before + 10


def test_a_bulk_put_larger_than_the_limit_leaves_what_has_room(tmp_path: Path) -> None:
    with open_store(base_directory=tmp_path, max_size=2**20) as kv:
        keys = [f"k{number}" for number in range(4_000)]
        kv.put_many(keys, [{"text": "x" * 100}] * len(keys))
        assert len(kv.keys()) > 2_000


def test_reading_makes_no_directory(tmp_path: Path) -> None:  # H-28
    with open_store(base_directory=tmp_path) as kv:
        for number in range(5):
            assert kv.get("k", collection=f"c{number}") is None
            assert kv.keys(f"c{number}") == []
            assert kv.delete("k", collection=f"c{number}") is False
            assert kv.destroy_collection(f"c{number}") is False
        assert os.listdir(tmp_path) == []


def test_what_can_not_be_looked_at_is_not_missing(tmp_path: Path) -> None:
    directory = tmp_path / "users"
    directory.mkdir()
    (directory / "cache.db").symlink_to(directory / "cache.db")  # a loop: refused even to root, who may read everything
    kv = open_store(base_directory=tmp_path, default_collection="users")
    calls = [lambda: kv.get("k"), kv.keys, lambda: kv.delete("k"), lambda: kv.destroy_collection("users"), kv.collections, kv.destroy]
    for call in calls:
        with pytest.raises(StoreRefusedError):
            call()


async def test_few_files_are_open_at_a_time_and_none_afterwards(tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_OPEN", 4)  # directories, of three files each
    kv = runtime.adapt(MultiDiskStore(base_directory=tmp_path))
    most = 0

    async def work(number: int) -> None:
        nonlocal most
        for turn in range(3):
            collection = f"c{(number * 3 + turn) % 9}"
            await kv.put(f"k{number}", {"turn": turn, "text": "x" * 40_000 * (turn % 2)}, collection=collection)
            assert (await kv.get(f"k{number}", collection=collection))["turn"] == turn
            most = max(most, len(open_files(tmp_path)))

    await at_once(runtime, [functools.partial(work, number) for number in range(6)])
    assert len(await kv.collections()) == 9
    await kv.close()
    gc.collect()
    # One that is being opened, and a large value that is read.
    assert 0 < most <= 4 * 3 + 3 + 1
    assert open_files(tmp_path) == []


def test_a_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    elsewhere = tmp_path / "elsewhere"
    with diskcache.Cache(elsewhere):
        pass
    with open_store(base_directory=base) as kv:
        kv.put("k", {"a": 1}, collection="c")
        (base / "linked").symlink_to(elsewhere)
        for call in (lambda: kv.get("k", collection="linked"), lambda: kv.put("k", {}, collection="linked")):
            with pytest.raises(PathSecurityError, match="is a link"):
                call()
        assert kv.collections() == ["c"]
        assert kv.destroy()
    assert row_count(elsewhere) == 0


def test_a_damaged_database_harms_no_other(tmp_path: Path) -> None:
    with open_store(base_directory=tmp_path) as kv:
        kv.put("good", {"a": 1}, collection="c")
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes/cache.db").write_text("no database")
        with pytest.raises(StoreSetupError, match=r"notes.*not diskcache's database, or damaged"):
            kv.get("k", collection="notes")
        assert kv.get("good", collection="c") == {"a": 1}


def test_a_factory(tmp_path: Path) -> None:
    made: list[str] = []

    def factory(collection: str) -> Any:
        made.append(collection)
        return diskcache.Cache(tmp_path / collection, eviction_policy="none", size_limit=2**30)

    store = MultiDiskStore(disk_cache_factory=factory)
    assert made == []
    assert capabilities_of(store) == {"keys", "destroy_collection"}
    assert type(store).__name__ == "MultiDiskStore"
    facade: Any = BlockingKeyValue(store)
    with facade as kv:
        kv.put_many(["k", "l"], [{"a": 1}, {}], collection="c/d::e")
        assert kv.get("k", collection="c/d::e") == {"a": 1}
        assert sorted(kv.keys("c/d::e")) == ["k", "l"]
        plant(tmp_path / "c/d::e", "l", mode=4, value=b"\x80\x04cos\nsystem\n.")
        with pytest.raises(DeserializationError):
            kv.get("l", collection="c/d::e")
        assert kv.delete("l", collection="c/d::e")
        assert kv.destroy_collection("c/d::e")
    assert made == ["c/d::e"]
    assert open_files(tmp_path) == []
    assert capabilities_of(MultiDiskStore(base_directory=tmp_path)) == capabilities_of(MemoryStore())


def test_a_factory_that_gives_one_cache_to_many(tmp_path: Path) -> None:
    cache: Any = diskcache.Cache(tmp_path, eviction_policy="none")
    with open_store(disk_cache_factory=lambda _: cache) as kv:
        kv.put("k", {"a": 1}, collection="c")
        assert kv.get("k", collection="d") is None
        assert kv.keys("d") == []
    assert len(cache) == 1  # it can still be used
    cache.close()


def test_a_cache_of_a_factory_whose_directory_is_removed(tmp_path: Path) -> None:
    given: Any = diskcache.Cache(tmp_path / "given")
    caches = {"given": lambda: given}
    with open_store(disk_cache_factory=lambda name: caches.get(name, lambda: diskcache.Cache(tmp_path / name))()) as kv:
        for collection in ("c", "given"):
            kv.put("k", {}, collection=collection)
            shutil.rmtree(tmp_path / collection)
        assert kv.get("k", collection="c") is None
        kv.put("k", {"a": 1}, collection="c")
        with pytest.raises(StoreSetupError, match="removed or moved"):
            kv.put("k", {"a": 1}, collection="given")
    with open_store(base_directory=tmp_path) as kv:
        assert kv.get("k", collection="c") == {"a": 1}


def test_a_factory_that_fails() -> None:
    def fails(_: str) -> Any:
        raise LookupError("no such cache")

    with open_store(disk_cache_factory=fails) as kv, pytest.raises(LookupError, match="no such cache"):
        kv.put("k", {})
