"""The backends that the contract is tested on: how to make a store over each, as often as a test wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.disk import DiskStore, MultiDiskStore
from keyvalue.stores.filetree import FileTreeStore, FileTreeV1CollectionSanitizationStrategy, FileTreeV1KeySanitizationStrategy
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.stores.redis import RedisStore
from keyvalue.stores.rocksdb import RocksDBStore
from keyvalue.stores.simple import SimpleStore
from keyvalue.wrappers.base import BaseWrapper

Factory = Callable[..., AsyncKeyValue]


class PlainWrapper(BaseWrapper):
    """A wrapper that changes nothing."""

    runs_inline = True


class RenamingWrapper(BaseWrapper):
    """A wrapper that uses every hook that changes something: it has its own part of the inner store, and puts values in an envelope."""

    runs_inline = True

    def _inner_collection(self, collection: str | None) -> str | None:
        return "mine/" + (collection or "default_collection")

    def _outer_collection(self, collection: str) -> str | None:
        return collection.removeprefix("mine/") if collection.startswith("mine/") else None

    def _inner_key(self, key: str, collection: str | None) -> str:
        return "key/" + key

    def _outer_key(self, key: str, collection: str | None) -> str | None:
        return key.removeprefix("key/") if key.startswith("key/") else None

    async def _inner_value(self, value: Mapping[str, Any], key: str, collection: str | None) -> Mapping[str, Any]:
        return {"envelope": dict(value)}

    async def _outer_value(self, value: dict[str, Any], key: str, collection: str | None) -> dict[str, Any] | None:
        return value["envelope"]


def _disk(where: Path, _: str, **kwargs: Any) -> AsyncKeyValue:
    return DiskStore(directory=where / "disk", **kwargs)


def _multi_disk(where: Path, _: str, **kwargs: Any) -> AsyncKeyValue:
    return MultiDiskStore(base_directory=where / "multi-disk", **kwargs)


def _filetree(where: Path, _: str, **kwargs: Any) -> AsyncKeyValue:
    return FileTreeStore(data_directory=where / "filetree", **kwargs)


def _filetree_v1(where: Path, _: str, **kwargs: Any) -> AsyncKeyValue:
    strategies = {
        "key_sanitization_strategy": FileTreeV1KeySanitizationStrategy(where),
        "collection_sanitization_strategy": FileTreeV1CollectionSanitizationStrategy(where),
    }
    return FileTreeStore(data_directory=where / "filetree-v1", metadata_directory=where / "info", **strategies, **kwargs)


def _rocksdb(where: Path, _: str, **kwargs: Any) -> AsyncKeyValue:
    return RocksDBStore(path=where / "rocksdb", **kwargs)


def _redis(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    return RedisStore(url=url, **kwargs)


MAKERS: Mapping[str, Factory] = {
    "memory": lambda *_, **kwargs: MemoryStore(**kwargs),
    "simple": lambda *_, **kwargs: SimpleStore(**kwargs),
    "disk": _disk,
    "multi-disk": _multi_disk,
    "filetree": _filetree,
    "filetree-v1": _filetree_v1,
    "rocksdb": _rocksdb,
    "redis": _redis,
    "wrapped": lambda *_, **kwargs: RenamingWrapper(PlainWrapper(MemoryStore(**kwargs))),
    "null": lambda *_, **kwargs: NullStore(**kwargs),
}

STORING: Sequence[str] = [name for name in MAKERS if name != "null"]
EMBEDDED: Sequence[str] = [name for name in STORING if name != "redis"]
FILES: Sequence[str] = ["disk", "multi-disk", "filetree", "filetree-v1", "rocksdb"]
PERSISTENT: Sequence[str] = [*FILES, "redis"]
SHARED: Sequence[str] = ["disk", "multi-disk", "filetree", "filetree-v1", "redis"]
"""Those of which two stores can be open on the same data."""
