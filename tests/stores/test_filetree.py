"""What is FileTreeStore's own: where files lie, what others put there, links, crashes, and the predecessor's trees."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, PathSecurityError, StoreRefusedError, StoreSetupError
from keyvalue.stores._filetree import Tree
from keyvalue.stores.filetree import FileTreeStore, FileTreeV1CollectionSanitizationStrategy, FileTreeV1KeySanitizationStrategy
from keyvalue.testing import Clock
from tests.runtimes import Runtime

DOCUMENT = {"value": {"theirs": True}, "created_at": "2026-01-01T00:00:00+00:00", "version": 1}
AN_HOUR = 3600


@contextmanager
def opened(directory: Path, **kwargs: Any) -> Generator[Any, None, None]:
    with BlockingKeyValue(FileTreeStore(data_directory=directory, **kwargs)) as kv:
        yield kv


def v1(directory: Path) -> dict[str, Any]:
    return {
        "key_sanitization_strategy": FileTreeV1KeySanitizationStrategy(directory),
        "collection_sanitization_strategy": FileTreeV1CollectionSanitizationStrategy(directory),
    }


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def plant(directory: Path, name: str, content: Any = DOCUMENT) -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


# Where files lie


def test_the_layout(tmp_path: Path) -> None:
    data, metadata = tmp_path / "data", tmp_path / "metadata"
    with opened(data, metadata_directory=metadata) as kv:
        kv.put("alice", {"name": "Alice"}, collection="users", ttl=60)
    assert files(tmp_path) == {"data/users/alice.json", "metadata/users-info.json"}
    document = json.loads((data / "users/alice.json").read_text())
    assert (document["collection"], document["key"], document["value"]) == ("users", "alice", {"name": "Alice"})
    info = json.loads((metadata / "users-info.json").read_text())
    assert (info["version"], info["collection"], info["directory"]) == (1, "users", str(data / "users"))


def test_the_constructor_touches_nothing(tmp_path: Path) -> None:
    FileTreeStore(data_directory=tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("missing", ["data_directory", "metadata_directory"])
def test_missing_directories_are_only_made_if_they_may_be(tmp_path: Path, missing: str) -> None:
    arguments: dict[str, Any] = {"data_directory": tmp_path, missing: tmp_path / "missing"}
    with pytest.raises(ValueError, match="does not exist"):
        FileTreeStore(**arguments, auto_create=False)
    with pytest.raises(ValueError, match="data_directory"):
        FileTreeStore(data_directory="")


async def test_a_directory_that_can_not_be_made(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kv = runtime.adapt(FileTreeStore(data_directory=tmp_path / "file/data"))
    with pytest.raises(StoreSetupError, match="FileTreeStore could not be opened"):
        await kv.put("k", {})


# Names that no file can have, or not alone

LONG = "a" * 300


@pytest.mark.parametrize("strategies", [False, True])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("c", LONG + "1"), ("c", LONG + "2")),  # H-8
        (("c", "仦乇"), ("c", "佅举")),  # H-9
        ((LONG + "1", "k"), (LONG + "2", "k")),
        (("a", "b/c"), ("a/b", "c")),
        (("pub", "../private/secret"), ("private", "secret")),  # H-41
        (("a/b", "k"), ("a", "b-info")),  # H-41
        (("x", "k"), ("x-info.json", "k")),
        (("..", "k"), (".", "k")),
        (("c", "."), ("c", "..")),
        (("~drafts", "k"), ("~drafts", "l")),
        (("Foo", "Bar"), ("foo", "bar")),
    ],
)
def test_two_pairs_never_meet(tmp_path: Path, strategies: bool, one: tuple[str, str], other: tuple[str, str]) -> None:
    tree = tmp_path / "tree"
    with opened(tree, **(v1(tmp_path) if strategies else {})) as kv:
        for collection, key in (one, other):
            kv.put(key, {"key": key, "collection": collection}, collection=collection)
        for collection, key in (one, other):
            assert kv.get(key, collection=collection) == {"key": key, "collection": collection}
            assert key in kv.keys(collection)
        assert set(kv.collections()) == {one[0], other[0]}
        assert kv.delete(one[1], collection=one[0])
        assert kv.get(one[1], collection=one[0]) is None
        assert kv.get(other[1], collection=other[0]) == {"key": other[1], "collection": other[0]}
        kv.put(one[1], {"again": True}, collection=one[0])
        kv.put(other[1], {"again": True}, collection=other[0])
        assert kv.destroy_collection(other[0])
        assert (kv.get(one[1], collection=one[0]) is None) == (one[0] == other[0])
    assert list(tmp_path.iterdir()) == [tree]


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_pairs_that_want_the_same_file_at_the_same_time(tmp_path: Path, loop: str) -> None:
    keys = [LONG + str(number) for number in range(20)]

    async def main() -> None:
        async with (
            FileTreeStore(data_directory=tmp_path, **v1(tmp_path)) as one,
            FileTreeStore(data_directory=tmp_path, **v1(tmp_path)) as two,
        ):
            for turn in range(3):
                async with anyio.create_task_group() as group:
                    for number, key in enumerate(keys):
                        group.start_soon(lambda key=key, kv=(one, two)[number % 2], turn=turn: kv.put(key, {"key": key, "turn": turn}))
                assert await one.get_many(keys) == [{"key": key, "turn": turn} for key in keys]
            assert sorted(await two.keys()) == sorted(keys)

    anyio.run(main, backend=loop)


def test_a_bulk_put_of_pairs_that_want_the_same_file(tmp_path: Path) -> None:
    keys = [LONG + str(number) for number in range(20)]
    with opened(tmp_path, **v1(tmp_path)) as kv:
        for turn in range(2):
            kv.put_many(keys, [{"key": key, "turn": turn} for key in keys])
            assert kv.get_many(keys) == [{"key": key, "turn": turn} for key in keys]
        assert kv.delete_many(keys) == 20
        assert kv.keys() == []


def test_another_process_takes_the_file_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = Tree._is_still  # pyright: ignore[reportPrivateUsage]
    theirs = {"version": 1, "collection": "other", "key": "other", "value": {"theirs": True}}

    def compare_and_lose(self: Tree, name: str, expected: bytes | None) -> bool:
        result = compare(self, name, expected)
        if not (tmp_path / name).exists():
            plant(tmp_path, name, theirs)
        return result

    with opened(tmp_path) as kv:
        kv.put("warm", {}, collection="c")
        monkeypatch.setattr(Tree, "_is_still", compare_and_lose)
        kv.put("k", {"a": 1}, collection="c")
        assert kv.get("k", collection="c") == {"a": 1}
        assert json.loads((tmp_path / "c/k.json").read_text()) == theirs


# What others put there


def foreign(path: Path) -> None:
    path.write_text("a text")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def pickled(path: Path) -> None:
    path.write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07whatevr\x94.")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [foreign, empty, truncated, pickled, directory, pipe])
async def test_a_damaged_file_is_an_error_for_its_own_key_alone(
    runtime: Runtime, tmp_path: Path, damage: Callable[[Path], None]
) -> None:  # H-37
    kv = runtime.adapt(FileTreeStore(data_directory=tmp_path))
    await kv.put_many(["good", "bad"], [{"a": 1}, {"secret": 1}], collection="c")
    damage(tmp_path / "c/bad.json")
    for call in (lambda: kv.get("bad", collection="c"), lambda: kv.get_many(["good", "bad"], collection="c")):
        with pytest.raises(DeserializationError) as caught:
            await call()
        assert caught.value.extra_info == {"collection": "c", "key": "bad"}
        assert "secret" not in str(caught.value)
    assert await kv.get("good", collection="c") == {"a": 1}
    assert await kv.keys("c") == ["good"]
    await kv.cull()
    assert (tmp_path / "c/bad.json").exists()
    if damage is not directory:
        await kv.put("bad", {"a": 2}, collection="c")
        assert await kv.get("bad", collection="c") == {"a": 2}
        damage(tmp_path / "c/bad.json")
        assert await kv.delete("bad", collection="c") is True
        assert await kv.get("bad", collection="c") is None
    else:
        with pytest.raises(StoreRefusedError):
            await kv.put("bad", {"a": 2}, collection="c")
    assert await kv.get("good", collection="c") == {"a": 1}


def test_foreign_files_stay(tmp_path: Path) -> None:
    names = ["README", "c/README", "c/notes.json", "c/deep/k.json", "notes.json", "c/\udcff.json", "-info.json"]
    for name in names:
        plant(tmp_path, name, b"[]")
    with opened(tmp_path) as kv:
        kv.put("k", {}, collection="c")
        assert kv.keys("c") == ["k"]
        assert kv.collections() == ["c"]
        kv.cull()
        assert kv.destroy_collection("c")
        assert kv.destroy()
    assert {*names, "c-info.json"} == files(tmp_path)


@pytest.mark.parametrize("inside", [False, True])
async def test_links_are_refused(runtime: Runtime, tmp_path: Path, inside: bool) -> None:
    tree = tmp_path / "tree"
    kv = runtime.adapt(FileTreeStore(data_directory=tree))
    await kv.put_many(["k", "good"], [{"a": 1}, {"a": 2}], collection="c")
    target = plant(tree if inside else tmp_path, "elsewhere/k.json")
    before = target.read_bytes()
    (tree / "c/k.json").unlink()
    (tree / "c/k.json").symlink_to(target)
    (tree / "linked").symlink_to(target.parent)
    for collection in ("c", "linked"):
        for call in (
            partial(kv.get, "k"),
            partial(kv.put, "k", {}),
            partial(kv.delete, "k"),
        ):
            with pytest.raises(PathSecurityError, match="is a link"):
                await call(collection=collection)
    assert await kv.get("good", collection="c") == {"a": 2}
    assert await kv.keys("c") == ["good"]
    await kv.cull()
    assert await kv.destroy() is True
    assert target.exists() == (not inside)
    assert inside or target.read_bytes() == before


# Moving, copying, crashing


def test_a_tree_may_be_moved_and_copied(tmp_path: Path) -> None:  # H-55
    keys = ["k", "a/b", LONG]
    with opened(tmp_path / "one") as kv:
        kv.put_many(keys, [{"key": key} for key in keys], collection="c/d")
        kv.put("k", {"a": 1})
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "one").rename(tmp_path / "three")
    for copy in ("two", "three"):
        with opened(tmp_path / copy, auto_create=False) as kv:
            assert kv.get_many(keys, collection="c/d") == [{"key": key} for key in keys]
            assert sorted(kv.keys("c/d")) == sorted(keys)
            kv.put("k", {"a": 2})
            assert kv.destroy()
    assert not (tmp_path / "one").exists()


def test_what_a_crash_left_is_removed_later(tmp_path: Path) -> None:
    with opened(tmp_path) as kv:
        kv.put("k", {"a": 1}, collection="c")
    old = [plant(tmp_path, "~drafts/tmpabc", b"half"), plant(tmp_path, "c/tmpabcd_234.tmp", b"half of py-key-value-aio's")]
    new = [plant(tmp_path, "~drafts/tmpdef", b"half"), plant(tmp_path, "c/tmpabcd_235.tmp", b"half of py-key-value-aio's")]
    others = [plant(tmp_path, "c/mine.tmp", b"somebody's")]
    for path in [*old, *others]:
        os.utime(path, (time.time() - AN_HOUR - 5, time.time() - AN_HOUR - 5))
    with opened(tmp_path) as kv:
        assert kv.get("k", collection="c") == {"a": 1}
        assert [path.exists() for path in old] == [False, True]
        kv.cull()
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in [*new, *others])


def test_failed_writes_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with opened(tmp_path) as kv:
        kv.put("k", {"a": 1})
        before = files(tmp_path)
        for name in ("fsync", "replace"):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, fails)
                with pytest.raises(StoreRefusedError, match="disk full"):
                    kv.put("k", {"a": 2})
                with pytest.raises(StoreRefusedError, match="disk full"):
                    kv.put_many(["k", "l"], [{"a": 2}, {}])
            assert files(tmp_path) - {"default_collection/l.json"} == before
            assert kv.get("k") == {"a": 1}


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuses)
    with opened(tmp_path) as kv:
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}


def test_expired_files_go_with_a_cull(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path) as kv:
        kv.put_many(["k", "a/b"], [{}, {}], collection="c", ttl=10)
        kv.put("stays", {}, collection="c")
        plant(tmp_path, "c/theirs.json", {**DOCUMENT, "expires_at": "2026-01-01T00:00:00+00:00"})
        clock.advance(10)
        assert kv.keys("c") == ["stays"]
        kv.cull()
    assert files(tmp_path) == {"c/stays.json", "c-info.json"}


def test_the_directory_is_made_again(tmp_path: Path) -> None:
    with opened(tmp_path) as kv:
        kv.put("k", {})
        shutil.rmtree(tmp_path / "default_collection")
        shutil.rmtree(tmp_path / "~drafts")
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}


def test_many_threads_and_readers_see_whole_entries(tmp_path: Path) -> None:
    stop = threading.Event()
    seen: list[Any] = []

    def read() -> None:
        with opened(tmp_path) as kv:
            while not stop.is_set():
                seen.append(kv.get("k"))

    with opened(tmp_path) as kv:
        kv.put("k", {"n": 0, "text": ""})
        thread = threading.Thread(target=read)
        thread.start()
        for number in range(200):
            kv.put("k", {"n": number, "text": "x" * number * 100})
        stop.set()
        thread.join()
    assert seen
    assert all(len(value["text"]) == value["n"] * 100 for value in seen)
