"""How to make a store over each backend. What a maker needs is imported when it is called, so that programs of the tests start quickly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
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


def registry_path(where: Path) -> str:
    """Return the path in the registry that stands for a directory."""
    return f"Software\\keyvalue-tests\\{sha256(str(where).encode()).hexdigest()[:16]}"


def _maker(module: str, name: str, arguments: Callable[[Path, str], Mapping[str, Any]]) -> Factory:
    """Return what makes stores of a class, with arguments that depend on the directory and the URL."""

    def make(where: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
        return getattr(import_module(f"keyvalue.stores.{module}"), name)(**arguments(where, url), **kwargs)

    return make


def _filetree_v1(where: Path, _: str) -> Mapping[str, Any]:
    from keyvalue.stores.filetree import FileTreeV1CollectionSanitizationStrategy, FileTreeV1KeySanitizationStrategy

    return {
        "data_directory": where / "filetree-v1",
        "metadata_directory": where / "info",
        "key_sanitization_strategy": FileTreeV1KeySanitizationStrategy(where),
        "collection_sanitization_strategy": FileTreeV1CollectionSanitizationStrategy(where),
    }


def _at_host_and_port(_: Path, url: str) -> Mapping[str, Any]:
    address = urlsplit(url)
    return {"host": address.hostname or "", "port": address.port or 0}


def _dynamodb(_: Path, url: str) -> Mapping[str, Any]:
    from tests.servers.dynamodb import CREDENTIALS, TABLE

    return {"table_name": TABLE, "endpoint_url": url, **CREDENTIALS}


def _keyring(_: Path, url: str) -> Mapping[str, Any]:
    from tests.servers.keyring import session_bus

    session_bus(url)
    return {}


def _vault(_: Path, url: str) -> Mapping[str, Any]:
    from tests.servers.vault import TOKEN

    return {"url": url, "token": TOKEN}


ARGUMENTS = {"memcached": _at_host_and_port, "dynamodb": _dynamodb, "vault": _vault}
"""Those that py-key-value-aio's stores take too."""

_mongodb = _maker("mongodb", "MongoDBStore", lambda _, url: {"url": url})

MAKERS: Mapping[str, Factory] = {
    "memory": lambda *_, **kwargs: MemoryStore(**kwargs),
    "simple": lambda *_, **kwargs: SimpleStore(**kwargs),
    "disk": _maker("disk", "DiskStore", lambda where, _: {"directory": where / "disk"}),
    "multi-disk": _maker("disk", "MultiDiskStore", lambda where, _: {"base_directory": where / "multi-disk"}),
    "filetree": _maker("filetree", "FileTreeStore", lambda where, _: {"data_directory": where / "filetree"}),
    "filetree-v1": _maker("filetree", "FileTreeStore", _filetree_v1),
    "rocksdb": _maker("rocksdb", "RocksDBStore", lambda where, _: {"path": where / "rocksdb"}),
    "windows-registry": lambda where, _, **kwargs: WindowsRegistryStore(registry_path=registry_path(where), **kwargs),
    "redis": _maker("redis", "RedisStore", lambda _, url: {"url": url}),
    "redis-cluster": _maker("redis", "RedisStore", lambda _, url: {"url": url, "cluster": True}),
    "valkey": _maker("valkey", "ValkeyStore", _at_host_and_port),
    "valkey-cluster": _maker("valkey", "ValkeyStore", lambda _, url: {**_at_host_and_port(_, url), "cluster": True}),
    "dynamodb": _maker("dynamodb", "DynamoDBStore", _dynamodb),
    "memcached": _maker("memcached", "MemcachedStore", _at_host_and_port),
    "mongodb": _mongodb,
    "mongodb-replicaset": _mongodb,
    "elasticsearch": _maker("elasticsearch", "ElasticsearchStore", lambda _, url: {"url": url, "index_prefix": "tests"}),
    "keyring": _maker("keyring", "KeyringStore", _keyring),
    "vault": _maker("vault", "VaultStore", _vault),
}


def load(backend: str) -> None:
    """Import what the stores of a backend need, if it is installed. Importing blocks, so an event loop should not be the first to do it."""
    if backend not in MAKERS:
        raise ValueError(f"There is no maker of {backend!r}, only of {', '.join(MAKERS)}")
    module = {"multi-disk": "disk", "windows-registry": "windows_registry"}.get(backend, backend.partition("-")[0])
    with suppress(ImportError):
        import_module(f"keyvalue.stores.{module}")
