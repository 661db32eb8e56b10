"""Run by the nox session `extras` in an environment that holds one extra and nothing else: `python tests/extras.py redis`."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

from keyvalue import blocking
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.base import BaseStore
from keyvalue.stores.filetree import FileTreeStore
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.stores.simple import SimpleStore

STORES = {
    "disk": "DiskStore",
    "dynamodb": "DynamoDBStore",
    "elasticsearch": "ElasticsearchStore",
    "filetree": "FileTreeStore",
    "keyring": "KeyringStore",
    "memcached": "MemcachedStore",
    "memory": "MemoryStore",
    "mongodb": "MongoDBStore",
    "redis": "RedisStore",
    "rocksdb": "RocksDBStore",
    "valkey": "ValkeyStore",
    "vault": "VaultStore",
}


def test_wrappers(extra: str) -> None:
    from keyvalue.wrappers.compression import CompressionWrapper

    encrypts, zstd = (extra in (f"wrappers-{what}", "all") for what in ("encryption", "compression"))
    encrypts |= extra.startswith("keyring") and sys.platform == "linux"  # whose Secret Service is talked to in ciphers
    for works, name, make in (
        (encrypts, "encryption", lambda: importlib.import_module("keyvalue.wrappers.encryption")),
        (zstd, "compression", lambda: CompressionWrapper(MemoryStore(), algorithm="zstd")),
    ):
        message = ""
        try:
            make()
        except ImportError as error:
            message = str(error)
        assert works == (not message), message
        assert works or f"pip install 'keyvalue[wrappers-{name}]'" in message, message
    with BlockingKeyValue(CompressionWrapper(MemoryStore(), 0, algorithm="zstd" if zstd else "gzip")) as kv:
        kv.put("k", {"a": "a" * 1000})
        assert kv.get("k") == {"a": "a" * 1000}


def test_adapters(extra: str) -> None:
    works = extra in ("pydantic", "all")
    for name in ("pydantic", "base_model", "dataclass"):
        message = ""
        try:
            importlib.import_module(f"keyvalue.adapters.{name}")
        except ImportError as error:
            message = str(error)
        assert works == (not message), message
        assert works or "pip install 'keyvalue[pydantic]'" in message, message
    with BlockingKeyValue(MemoryStore()) as kv:
        assert blocking.RaiseOnMissingAdapter(kv).get("k") is None
        if works:
            numbers = blocking.PydanticAdapter(kv, int)
            numbers.put("k", 1)
            assert numbers.get("k") == 1


TESTS = """
from pathlib import Path

from keyvalue.stores.filetree import FileTreeStore
from keyvalue.testing import StoreContract


class TestFileTreeStore(StoreContract):
    def make(self, directory: Path) -> FileTreeStore:
        return FileTreeStore(data_directory=directory)
"""


def test_testing(extra: str) -> None:
    if extra != "testing":
        message = "it could be imported"
        try:
            importlib.import_module("keyvalue.testing")
        except ImportError as error:
            message = str(error)
        assert "pip install 'keyvalue[testing]'" in message, message
        return
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # nox has temporary directories within the project
        Path(directory, "test_filetree.py").write_text(TESTS, encoding="utf-8")
        command = [sys.executable, "-I", "-m", "pytest", "-q", "-W", "error", "--strict-markers", "-p", "no:cacheprovider"]
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert " passed in " in result.stdout, result.stdout


def main(extra: str) -> None:
    test_wrappers(extra)
    test_testing(extra)
    test_adapters(extra)
    for name, class_name in STORES.items():
        if extra in (name, f"{name}-linux", "all") or name in ("memory", "filetree"):
            getattr(importlib.import_module(f"keyvalue.stores.{name}"), class_name)
            continue
        message = "it could be imported"
        try:
            importlib.import_module(f"keyvalue.stores.{name}")
        except ImportError as error:
            message = str(error)
        assert f"pip install 'keyvalue[{name}]'" in message, message

    message = ""
    try:
        importlib.import_module("keyvalue.stores.windows_registry")
    except ImportError as error:
        message = str(error)
    # The system decides, no extra does.
    assert message == "" if sys.platform == "win32" else "for Windows only" in message, message

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
