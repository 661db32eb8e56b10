"""The stores that name files, on a real file system that ignores case."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.filetree import FileTreeStore
from keyvalue.testing._runtime import Awaited, step
from tests.stores.files import open_facade
from tests.stores.hooks import assert_apart

PAIRS = [("Users", "Alice"), ("users", "Alice"), ("Users", "alice"), ("users", "alice"), ("USERS", "ALICE"), ("é", "É"), ("É", "é")]


@pytest.mark.backends("disk", "multi-disk", "filetree", "filetree-v1")
def test_names_that_differ_in_case_never_meet(backend: str, ignoring_case: Path) -> None:
    with open_facade(backend, ignoring_case) as kv:
        step(assert_apart(Awaited(kv), PAIRS))


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
