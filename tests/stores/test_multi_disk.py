"""What is MultiDiskStore's own: its directories, how many of them are open, and a given factory."""

# pyright: reportUnknownParameterType=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# diskcache has no types.

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import diskcache
import pytest

from keyvalue._core.capabilities import capabilities_of
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, PathSecurityError, StoreSetupError
from keyvalue.stores.disk import MultiDiskStore
from keyvalue.stores.memory import MemoryStore
from tests.runtimes import Runtime
from tests.stores.test_disk import plant, rows

COLLECTIONS = 90  # of three files each


def open_files(directory: Path) -> list[str]:
    """Return the files below a directory that this process has open."""
    found: list[str] = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in found if path.startswith(str(directory))]


def opened(**arguments: Any) -> Any:
    return BlockingKeyValue(MultiDiskStore(**arguments))


def test_neither_or_both_of_directory_and_factory(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [{}, {"base_directory": ""}, {"base_directory": tmp_path, "disk_cache_factory": diskcache.Cache}]
    for arguments in wrong:
        with pytest.raises(ValueError, match="exactly one of: base_directory, disk_cache_factory"):
            MultiDiskStore(**arguments)
    with pytest.raises(ValueError, match="size_limit"):
        MultiDiskStore(disk_cache_factory=diskcache.Cache, max_size=2**20)
    with pytest.raises(ValueError, match="at least"):
        MultiDiskStore(base_directory=tmp_path, max_size=10)
    with pytest.raises(ValueError, match="does not exist"):
        MultiDiskStore(base_directory=tmp_path / "missing", auto_create=False)


def test_a_path_may_be_a_str(tmp_path: Path) -> None:  # H-58
    with opened(base_directory=str(tmp_path)) as kv:
        kv.put("k", {"a": 1}, collection="c")
    assert rows(tmp_path / "c") == 1


async def test_a_directory_that_can_not_be_made(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kv = runtime.adapt(MultiDiskStore(base_directory=tmp_path / "file/base"))
    with pytest.raises(StoreSetupError, match="MultiDiskStore could not be opened"):
        await kv.put("k", {})


def test_reading_makes_no_directory(tmp_path: Path) -> None:  # H-28
    with opened(base_directory=tmp_path) as kv:
        for number in range(100):
            assert kv.get("k", collection=f"c{number}") is None
            assert kv.keys(f"c{number}") == []
            assert kv.delete("k", collection=f"c{number}") is False
            assert kv.destroy_collection(f"c{number}") is False
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_few_files_are_open_at_a_time_and_none_afterwards(tmp_path: Path, loop: str) -> None:
    most = 0

    async def main() -> None:
        nonlocal most
        async with MultiDiskStore(base_directory=tmp_path) as kv:

            async def work(number: int) -> None:
                nonlocal most
                for turn in range(15):
                    collection = f"c{(number * 7 + turn * 11) % COLLECTIONS}"
                    await kv.put(f"k{number}", {"turn": turn, "text": "x" * 40_000 * (turn % 2)}, collection=collection)
                    assert (await kv.get(f"k{number}", collection=collection) or {})["turn"] == turn
                    most = max(most, len(open_files(tmp_path)))

            async with anyio.create_task_group() as group:
                for number in range(40):
                    group.start_soon(work, number)
            assert len(await kv.collections()) == COLLECTIONS

    anyio.run(main, backend=loop)
    gc.collect()
    assert 0 < most < 200
    assert open_files(tmp_path) == []


def test_nothing_is_open_after_use_from_many_threads(tmp_path: Path) -> None:
    kv = opened(base_directory=tmp_path)

    def work(number: int) -> None:
        for turn in range(20):
            kv.put("k", {"turn": turn}, collection=f"c{(number + turn) % 40}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert open_files(tmp_path)
    kv.close()
    assert open_files(tmp_path) == []


def test_a_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    elsewhere = tmp_path / "elsewhere"
    with diskcache.Cache(elsewhere):
        pass
    with opened(base_directory=base) as kv:
        kv.put("k", {"a": 1}, collection="c")
        (base / "linked").symlink_to(elsewhere)
        for call in (lambda: kv.get("k", collection="linked"), lambda: kv.put("k", {}, collection="linked")):
            with pytest.raises(PathSecurityError, match="is a link"):
                call()
        assert kv.collections() == ["c"]
        assert kv.destroy()
    assert rows(elsewhere) == 0


def test_planted_and_damaged_rows_harm_no_other(tmp_path: Path) -> None:  # H-42
    with opened(base_directory=tmp_path) as kv:
        kv.put_many(["good", "bad"], [{"a": 1}, {}], collection="c")
        plant(tmp_path / "c", "bad", mode=4, value=b"\x80\x04cos\nsystem\n.")
        plant(tmp_path / "c", b"\x80\x04N.", raw=0, mode=4, value=b"\x80\x04cos\nsystem\n.")
        with pytest.raises(DeserializationError) as caught:
            kv.get("bad", collection="c")
        assert caught.value.extra_info == {"collection": "c", "key": "bad"}
        assert kv.get("good", collection="c") == {"a": 1}
        assert kv.keys("c") == ["good"]
        kv.put("bad", {"a": 2}, collection="c")
        assert kv.get("bad", collection="c") == {"a": 2}
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes/cache.db").write_text("no database")
        with pytest.raises(StoreSetupError, match=r"notes.*database of diskcache"):
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
        assert kv.delete("l", collection="c/d::e")
        assert kv.destroy_collection("c/d::e")
    assert made == ["c/d::e"]
    assert open_files(tmp_path) == []
    assert capabilities_of(MultiDiskStore(base_directory=tmp_path)) == capabilities_of(MemoryStore())


def test_a_factory_that_gives_one_cache_to_many(tmp_path: Path) -> None:
    cache: Any = diskcache.Cache(tmp_path, eviction_policy="none")
    with opened(disk_cache_factory=lambda _: cache) as kv:
        kv.put("k", {"a": 1}, collection="c")
        assert kv.get("k", collection="d") is None
        assert kv.keys("d") == []
    assert len(cache) == 1  # it can still be used
    cache.close()


def fails(_: str) -> Any:
    raise LookupError("no such cache")


@pytest.mark.parametrize("factory", [fails])
def test_a_factory_that_fails(factory: Callable[[str], Any]) -> None:
    with opened(disk_cache_factory=factory) as kv, pytest.raises(LookupError, match="no such cache"):
        kv.put("k", {})
