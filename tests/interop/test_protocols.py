"""The predecessor's protocols hold for our stores and wrappers, and ours for its, by `isinstance`.

`tests/typing/protocols.py` is the same for type checkers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from key_value.aio.protocols import key_value as old
from key_value.aio.stores.disk import DiskStore as OldDiskStore
from key_value.aio.stores.filetree import FileTreeStore as OldFileTreeStore
from key_value.aio.stores.memory import MemoryStore as OldMemoryStore
from key_value.aio.wrappers.prefix_keys import PrefixKeysWrapper as OldPrefixKeysWrapper

from keyvalue import protocols
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.fallback import FallbackWrapper
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper
from tests import backends
from tests.servers.registry import SERVERS

CAPABILITIES = [
    "AsyncKeyValueProtocol",
    "AsyncKeyValue",
    "AsyncEnumerateKeysProtocol",
    "AsyncEnumerateCollectionsProtocol",
    "AsyncDestroyStoreProtocol",
    "AsyncDestroyCollectionProtocol",
    "AsyncCullProtocol",
]


@pytest.mark.parametrize("name", [*backends.MAKERS])
def test_theirs_hold_for_ours(name: str, tmp_path: Path) -> None:
    scheme = "mongodb" if name.startswith("mongodb") else "redis" if name.startswith("redis") else "http"
    made = backends.MAKERS[name](tmp_path, f"{scheme}://localhost:1" if name in SERVERS and name != "keyring" else "")
    for protocol in CAPABILITIES:  # nothing connects before the first call
        expected = protocol in ("AsyncKeyValueProtocol", "AsyncKeyValue") or name not in ("null", *backends.UNLISTED)
        assert isinstance(made, getattr(old, protocol)) is expected, protocol
        assert isinstance(made, getattr(protocols, protocol)) is expected, protocol


THEIRS: Mapping[str, Callable[[Path], Any]] = {
    "memory": lambda _: OldMemoryStore(),
    "disk": lambda where: OldDiskStore(directory=where / "disk"),
    "filetree": lambda where: OldFileTreeStore(data_directory=where),
    "prefix-keys": lambda _: OldPrefixKeysWrapper(key_value=OldMemoryStore(), prefix="app"),
}


@pytest.mark.parametrize("name", THEIRS)
async def test_ours_hold_for_theirs(name: str, tmp_path: Path) -> None:
    made = THEIRS[name](tmp_path)
    holds = {protocol: isinstance(made, getattr(old, protocol)) for protocol in CAPABILITIES}
    assert {protocol: isinstance(made, getattr(protocols, protocol)) for protocol in CAPABILITIES} == holds
    assert holds["AsyncKeyValueProtocol"]
    assert holds["AsyncKeyValue"]
    if name == "disk":
        await made.close()


async def test_stacks_of_both() -> None:
    bottom = MemoryStore()
    stack = PrefixKeysWrapper(OldPrefixKeysWrapper(key_value=FallbackWrapper(bottom, OldMemoryStore()), prefix="b"), "a")
    await stack.put("k", {"n": 1}, ttl=60)
    assert (await stack.ttl("k"))[0] == {"n": 1}
    assert await bottom.keys() == ["b__a__k"]
    assert await stack.delete_many(["k", "other"]) == 1


def test_objects_that_are_no_store_are_told_apart() -> None:
    assert not isinstance({}, protocols.AsyncKeyValue)
    assert not isinstance(object(), old.AsyncKeyValue)
