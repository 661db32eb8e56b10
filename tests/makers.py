"""How to make a store over each backend. What a maker needs is imported when it is called, so that programs of the tests start quickly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.simple import SimpleStore
from tests import fake_winreg

with fake_winreg.installed():
    from keyvalue.stores.windows_registry import WindowsRegistryStore

Factory = Callable[..., AsyncKeyValue]


def _disk(where: Path, _: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.disk import DiskStore

    return DiskStore(directory=where / "disk", **kwargs)


def _multi_disk(where: Path, _: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.disk import MultiDiskStore

    return MultiDiskStore(base_directory=where / "multi-disk", **kwargs)


def _filetree(where: Path, _: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.filetree import FileTreeStore

    return FileTreeStore(data_directory=where / "filetree", **kwargs)


def _filetree_v1(where: Path, _: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.filetree import FileTreeStore, FileTreeV1CollectionSanitizationStrategy, FileTreeV1KeySanitizationStrategy

    strategies = {
        "key_sanitization_strategy": FileTreeV1KeySanitizationStrategy(where),
        "collection_sanitization_strategy": FileTreeV1CollectionSanitizationStrategy(where),
    }
    return FileTreeStore(data_directory=where / "filetree-v1", metadata_directory=where / "info", **strategies, **kwargs)


def _rocksdb(where: Path, _: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.rocksdb import RocksDBStore

    return RocksDBStore(path=where / "rocksdb", **kwargs)


def registry_path(where: Path) -> str:
    """Return the path in the registry that stands for a directory."""
    return f"Software\\keyvalue-tests\\{sha256(str(where).encode()).hexdigest()[:16]}"


def _windows_registry(where: Path, _: str, **kwargs: Any) -> AsyncKeyValue:
    return WindowsRegistryStore(registry_path=registry_path(where), **kwargs)


def _redis(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.redis import RedisStore

    return RedisStore(url=url, **kwargs)


def _redis_cluster(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.redis import RedisStore

    return RedisStore(url=url, cluster=True, **kwargs)


def _valkey(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.valkey import ValkeyStore

    address = urlsplit(url)
    return ValkeyStore(host=address.hostname or "", port=address.port or 0, **kwargs)


def _dynamodb(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.dynamodb import DynamoDBStore
    from tests.servers.dynamodb import CREDENTIALS, TABLE

    return DynamoDBStore(table_name=TABLE, endpoint_url=url, **CREDENTIALS, **kwargs)


def _memcached(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.memcached import MemcachedStore

    address = urlsplit(url)
    return MemcachedStore(host=address.hostname or "", port=address.port or 0, **kwargs)


def _mongodb(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.mongodb import MongoDBStore

    return MongoDBStore(url=url, **kwargs)


def _elasticsearch(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.elasticsearch import ElasticsearchStore

    return ElasticsearchStore(url=url, index_prefix="tests", **kwargs)


def _keyring(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.keyring import KeyringStore
    from tests.servers.keyring import session_bus

    session_bus(url)
    return KeyringStore(**kwargs)


def _vault(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.vault import VaultStore
    from tests.servers.vault import TOKEN

    return VaultStore(url=url, token=TOKEN, **kwargs)


MAKERS: Mapping[str, Factory] = {
    "memory": lambda *_, **kwargs: MemoryStore(**kwargs),
    "simple": lambda *_, **kwargs: SimpleStore(**kwargs),
    "disk": _disk,
    "multi-disk": _multi_disk,
    "filetree": _filetree,
    "filetree-v1": _filetree_v1,
    "rocksdb": _rocksdb,
    "windows-registry": _windows_registry,
    "redis": _redis,
    "redis-cluster": _redis_cluster,
    "valkey": _valkey,
    "valkey-cluster": partial(_valkey, cluster=True),
    "dynamodb": _dynamodb,
    "memcached": _memcached,
    "mongodb": _mongodb,
    "mongodb-replicaset": _mongodb,
    "elasticsearch": _elasticsearch,
    "keyring": _keyring,
    "vault": _vault,
}


def load(backend: str) -> None:
    """Import what the stores of a backend need, if it is installed. Importing blocks, so an event loop should not be the first to do it."""
    module = {"multi-disk": "disk", "windows-registry": "windows_registry"}.get(backend, backend.partition("-")[0])
    with suppress(ImportError):
        import_module(f"keyvalue.stores.{module}")
