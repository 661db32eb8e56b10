"""Run by the nox session `extras` in an environment that holds one extra and nothing else: `python tests/extras.py redis`."""

from __future__ import annotations

import importlib
import sys
import tempfile

from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.base import BaseStore
from keyvalue.stores.filetree import FileTreeStore
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.stores.simple import SimpleStore

STORES = {"disk": "DiskStore", "filetree": "FileTreeStore", "memory": "MemoryStore", "redis": "RedisStore", "rocksdb": "RocksDBStore"}


def main(extra: str) -> None:
    for name, class_name in STORES.items():
        if extra in (name, "all") or name in ("memory", "filetree"):
            getattr(importlib.import_module(f"keyvalue.stores.{name}"), class_name)
            continue
        message = "it could be imported"
        try:
            importlib.import_module(f"keyvalue.stores.{name}")
        except ImportError as error:
            message = str(error)
        assert f"pip install 'keyvalue[{name}]'" in message, message

    with tempfile.TemporaryDirectory() as directory:
        stores: list[BaseStore] = [MemoryStore(), NullStore(), SimpleStore(), FileTreeStore(data_directory=f"{directory}/filetree")]
        if extra in ("disk", "all"):
            from keyvalue.stores.disk import DiskStore, MultiDiskStore

            stores += [DiskStore(directory=f"{directory}/disk"), MultiDiskStore(base_directory=f"{directory}/multi-disk")]
        if extra in ("rocksdb", "all"):
            from keyvalue.stores.rocksdb import RocksDBStore

            stores.append(RocksDBStore(path=f"{directory}/rocksdb"))
        for store in stores:
            with BlockingKeyValue(store) as kv:
                kv.put("k", {"a": 1}, ttl=60)
                assert kv.get("k") == (None if isinstance(store, NullStore) else {"a": 1})


if __name__ == "__main__":
    main(sys.argv[1])
