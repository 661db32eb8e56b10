"""The stores that name files, on a real file system that ignores case."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.filetree import FileTreeStore
from tests import backends

PAIRS = [("Users", "Alice"), ("users", "Alice"), ("Users", "alice"), ("users", "alice"), ("USERS", "ALICE"), ("é", "É"), ("É", "é")]


@pytest.mark.backends("disk", "multi-disk", "filetree", "filetree-v1")
def test_names_that_differ_in_case_never_meet(backend: str, ignoring_case: Path) -> None:
    facade: Any = BlockingKeyValue(backends.MAKERS[backend](ignoring_case, ""))
    with facade as kv:
        for turn in range(2):
            for collection, key in PAIRS:
                kv.put(key, {"of": [collection, key], "turn": turn}, collection=collection)
            for collection, key in PAIRS:
                assert kv.get(key, collection=collection) == {"of": [collection, key], "turn": turn}
        assert sorted(kv.keys("users")) == ["Alice", "alice"]
        assert set(kv.collections()) == {collection for collection, _ in PAIRS}
        assert kv.delete("alice", collection="users")
        assert kv.get("alice", collection="users") is None
        assert kv.get("Alice", collection="Users") == {"of": ["Users", "Alice"], "turn": 1}
        assert kv.destroy_collection("Users")
        assert kv.get("ALICE", collection="USERS") == {"of": ["USERS", "ALICE"], "turn": 1}
        assert kv.keys("users") == ["Alice"]
        assert kv.destroy()
        assert kv.collections() == []


def test_a_collection_that_is_spelled_like_the_drafts(ignoring_case: Path) -> None:
    for name in ("~DRAFTS", "~Drafts"):
        with BlockingKeyValue(FileTreeStore(data_directory=ignoring_case)) as kv:
            kv.put("tmpabcd_234", {"of": name}, collection=name)
    for file in ignoring_case.rglob("*.json"):
        os.utime(file, (0, 0))
    facade: Any = BlockingKeyValue(FileTreeStore(data_directory=ignoring_case))
    with facade as kv:
        kv.cull()
        assert [kv.get("tmpabcd_234", collection=name) for name in ("~DRAFTS", "~Drafts")] == [{"of": "~DRAFTS"}, {"of": "~Drafts"}]
        assert sorted(kv.collections()) == ["~DRAFTS", "~Drafts"]


def test_old_files_belong_to_the_key_that_they_are_spelled_like(ignoring_case: Path) -> None:
    directory = ignoring_case / "users"
    directory.mkdir()
    (ignoring_case / "users-info.json").write_text(json.dumps({"version": 1, "collection": "users", "directory": "", "created_at": ""}))
    (directory / "alice.json").write_text(json.dumps({"value": {"theirs": True}, "version": 1}))
    facade: Any = BlockingKeyValue(FileTreeStore(data_directory=ignoring_case))
    with facade as kv:
        for collection, key in (("users", "Alice"), ("Users", "alice")):
            assert kv.get(key, collection=collection) is None
            assert kv.delete(key, collection=collection) is False
            kv.put(key, {"mine": key}, collection=collection)
            assert kv.get(key, collection=collection) == {"mine": key}
        assert kv.get("alice", collection="users") == {"theirs": True}
        assert sorted(kv.keys("users")) == ["Alice", "alice"]
        kv.put("alice", {"mine": "alice"}, collection="users")
        assert kv.get("alice", collection="users") == {"mine": "alice"}
        assert kv.get("alice", collection="Users") == {"mine": "alice"}
