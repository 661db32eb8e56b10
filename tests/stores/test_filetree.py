"""What is FileTreeStore's own: where files lie, what others put there, links, crashes, and the predecessor's trees."""

from __future__ import annotations

import json
import os
import shutil
import time
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import PathSecurityError, StoreRefusedError
from keyvalue.stores._drivers.filetree import FileTreeDriver
from keyvalue.stores.base import Stored
from keyvalue.stores.filetree import FileTreeStore, FileTreeV1CollectionSanitizationStrategy, FileTreeV1KeySanitizationStrategy
from keyvalue.testing._runtime import Awaited, step
from keyvalue.testing._suite import at_once
from tests.runtimes import Runtime
from tests.stores.hooks import assert_apart, assert_raised

DOCUMENT = {"value": {"theirs": True}, "created_at": "2026-01-01T00:00:00+00:00", "version": 1}
AN_HOUR = 3600


def open_store(directory: Path, **kwargs: Any) -> Any:
    return BlockingKeyValue(FileTreeStore(data_directory=directory, **kwargs))


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
    with open_store(data, metadata_directory=metadata) as kv:
        kv.put("alice", {"name": "Alice"}, collection="users", ttl=60)
    assert files(tmp_path) == {"data/users/alice.json", "metadata/users-info.json"}
    document = json.loads((data / "users/alice.json").read_text())
    assert (document["collection"], document["key"], document["value"]) == ("users", "alice", {"name": "Alice"})
    info = json.loads((metadata / "users-info.json").read_text())
    assert (info["version"], info["collection"], info["directory"]) == (1, "users", str(data / "users"))


def test_a_missing_directory_of_metadata_is_only_made_if_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        FileTreeStore(data_directory=tmp_path, metadata_directory=tmp_path / "missing", auto_create=False)


# Names that no file can have, or not alone

LONG = "a" * 300


NEIGHBOURS = [
    [("c", LONG + "1"), ("c", LONG + "2")],  # H-8
    [("c", "仦乇"), ("c", "佅举")],  # H-9
    [(LONG + "1", "k"), (LONG + "2", "k")],
    [("a", "b/c"), ("a/b", "c")],
    [("pub", "../private/secret"), ("private", "secret")],  # H-41
    [("a/b", "k"), ("a", "b-info")],  # H-41
    [("x", "k"), ("x-info.json", "k")],
    [("..", "k"), (".", "k")],
    [("c", "."), ("c", "..")],
    [("~drafts", "k"), ("~DRAFTS", "k")],
    [("x", "k"), ("X-INFO.JSON", "k")],
    [("Foo", "Bar"), ("foo", "bar")],
]
PAIRS = list(chain.from_iterable(NEIGHBOURS))


@pytest.mark.parametrize("strategies", [False, True])
def test_pairs_never_meet(tmp_path: Path, strategies: bool) -> None:
    tree = tmp_path / "tree"
    with open_store(tree, **(v1(tmp_path) if strategies else {})) as kv:
        step(assert_apart(Awaited(kv), PAIRS))
    assert list(tmp_path.iterdir()) == [tree]


@pytest.mark.runtimes("asyncio", "trio")
async def test_pairs_that_want_the_same_file_at_the_same_time(runtime: Runtime, tmp_path: Path) -> None:
    keys = [LONG + str(number) for number in range(20)]
    one, two = (runtime.adapt(FileTreeStore(data_directory=tmp_path, **v1(tmp_path))) for _ in range(2))
    for turn in range(3):
        values = [{"key": key, "turn": turn} for key in keys]
        puts = [partial((one, two)[number % 2].put, key, value) for number, (key, value) in enumerate(zip(keys, values, strict=True))]
        await (at_once(runtime, puts) if turn < 2 else two.put_many(keys, values))
        assert await one.get_many(keys) == values
    assert sorted(await two.keys()) == sorted(keys)
    assert await one.delete_many(keys) == 20
    assert await two.keys() == []


def test_another_process_takes_the_file_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = FileTreeDriver._read  # pyright: ignore[reportPrivateUsage]
    theirs = {"version": 1, "collection": "other", "key": "other", "value": {"theirs": True}}

    reads = 0

    def read_and_lose(self: FileTreeDriver, name: str, **options: Any) -> Stored | None:
        nonlocal reads
        stored = read(self, name, **options)
        reads += name == "c/k.json"
        if reads == 2:  # the one that compares
            plant(tmp_path, name, theirs)
        return stored

    with open_store(tmp_path) as kv:
        kv.put("warm", {}, collection="c")
        monkeypatch.setattr(FileTreeDriver, "_read", read_and_lose)
        kv.put("k", {"a": 1}, collection="c")
        assert kv.get("k", collection="c") == {"a": 1}
        assert json.loads((tmp_path / "c/k.json").read_text()) == theirs


# What others put there


def test_foreign_files_stay(tmp_path: Path) -> None:
    names = ["README", "c/README", "c/notes.json", "c/deep/k.json", "notes.json", "c/\udcff.json", "-info.json"]
    for name in names:
        plant(tmp_path, name, b"[]")
    plant(tmp_path, "c/expired.json", {**DOCUMENT, "expires_at": "2026-01-01T00:00:00+00:00"})  # py-key-value-aio's, and so it goes
    with open_store(tmp_path) as kv:
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
    for call in (partial(kv.get, "k"), partial(kv.put, "k", {}), partial(kv.delete, "k")):
        await assert_raised(PathSecurityError, "is a link", *[partial(call, collection=collection) for collection in ("c", "linked")])
    assert await kv.get("good", collection="c") == {"a": 2}
    assert await kv.keys("c") == ["good"]
    await kv.cull()
    assert await kv.destroy() is True
    assert target.exists() == (not inside)
    assert inside or target.read_bytes() == before


def test_a_link_in_place_of_the_drafts_is_refused(tmp_path: Path) -> None:
    theirs = plant(tmp_path, "elsewhere/tmpabcd_234", b"theirs")
    os.utime(theirs, (0, 0))
    tree = tmp_path / "tree"
    with open_store(tree) as kv:
        kv.put("k", {"a": 1})
        shutil.rmtree(tree / "~drafts")
        (tree / "~drafts").symlink_to(theirs.parent)
        for call in (lambda: kv.put("k", {"a": 2}), kv.cull):
            with pytest.raises(PathSecurityError, match="is a link"):
                call()
        assert kv.get("k") == {"a": 1}
    with pytest.raises(PathSecurityError, match="is a link"):
        BlockingKeyValue(FileTreeStore(data_directory=tree)).get("k")
    assert files(tmp_path / "elsewhere") == {"tmpabcd_234"}


# Moving, copying, crashing


def test_a_tree_may_be_moved_and_copied(tmp_path: Path) -> None:  # H-55
    keys = ["k", "a/b", LONG]
    with open_store(tmp_path / "one") as kv:
        kv.put_many(keys, [{"key": key} for key in keys], collection="c/d")
        kv.put("k", {"a": 1})
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "one").rename(tmp_path / "three")
    for copy in ("two", "three"):
        with open_store(tmp_path / copy, auto_create=False) as kv:
            assert kv.get_many(keys, collection="c/d") == [{"key": key} for key in keys]
            assert sorted(kv.keys("c/d")) == sorted(keys)
            kv.put("k", {"a": 2})
            assert kv.destroy()
    assert not (tmp_path / "one").exists()


def test_what_a_crash_left_is_removed_later(tmp_path: Path) -> None:
    with open_store(tmp_path) as kv:
        kv.put("k", {"a": 1}, collection="c")
    old = [plant(tmp_path, "~drafts/tmpabcd_236", b"half"), plant(tmp_path, "c/tmpabcd_234.tmp", b"half of py-key-value-aio's")]
    new = [plant(tmp_path, "~drafts/tmpabcd_237", b"half"), plant(tmp_path, "c/tmpabcd_235.tmp", b"half of py-key-value-aio's")]
    others = [plant(tmp_path, name, b"somebody's") for name in ("c/mine.tmp", "~drafts/tmp", "~drafts/notes", "~drafts/tmpabcd_234.txt")]
    for path in [*old, *others]:
        os.utime(path, (time.time() - AN_HOUR - 5, time.time() - AN_HOUR - 5))
    with open_store(tmp_path) as kv:
        assert kv.get("k", collection="c") == {"a": 1}
        assert [path.exists() for path in old] == [False, True]
        kv.cull()
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in [*new, *others])


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with open_store(tmp_path) as kv:
        kv.put("k", {"a": 1})
        before = files(tmp_path)
        monkeypatch.setattr(os, call, fails)
        with pytest.raises(StoreRefusedError, match="the disk is full"):
            kv.put("k", {"a": 2})
        assert files(tmp_path) == before
        assert kv.get("k") == {"a": 1}


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuses)
    with open_store(tmp_path) as kv:
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}


def test_the_directory_is_made_again(tmp_path: Path) -> None:
    with open_store(tmp_path) as kv:
        kv.put("k", {})
        shutil.rmtree(tmp_path / "default_collection")
        shutil.rmtree(tmp_path / "~drafts")
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}
