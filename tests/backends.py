"""The backends that the contract is tested on: how to make a store over each, as often as a test wants."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.disk import DiskStore, MultiDiskStore
from keyvalue.stores.dynamodb import DynamoDBStore
from keyvalue.stores.elasticsearch import ElasticsearchStore
from keyvalue.stores.filetree import FileTreeStore, FileTreeV1CollectionSanitizationStrategy, FileTreeV1KeySanitizationStrategy
from keyvalue.stores.keyring import KeyringStore
from keyvalue.stores.memcached import MemcachedStore
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.mongodb import MongoDBStore
from keyvalue.stores.null import NullStore
from keyvalue.stores.redis import RedisStore
from keyvalue.stores.simple import SimpleStore
from keyvalue.stores.vault import VaultStore
from keyvalue.wrappers.base import BaseWrapper
from keyvalue.wrappers.compression import CompressionWrapper
from keyvalue.wrappers.fallback import FallbackWrapper
from keyvalue.wrappers.limit_size import LimitSizeWrapper
from keyvalue.wrappers.logging import LoggingWrapper
from keyvalue.wrappers.passthrough_cache import PassthroughCacheWrapper
from keyvalue.wrappers.prefix_collections import PrefixCollectionsWrapper
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper
from keyvalue.wrappers.retry import RetryWrapper
from keyvalue.wrappers.routing import CollectionRoutingWrapper, RoutingWrapper
from keyvalue.wrappers.single_collection import SingleCollectionWrapper
from keyvalue.wrappers.statistics import StatisticsWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from keyvalue.wrappers.ttl_clamp import TTLClampWrapper
from tests import fake_winreg
from tests.servers.dynamodb import CREDENTIALS, TABLE
from tests.servers.registry import SERVERS

with fake_winreg.installed():
    from keyvalue.stores.windows_registry import WindowsRegistryStore

Factory = Callable[..., AsyncKeyValue]


KEY = bytes(range(32))

Wrap = Callable[[AsyncKeyValue], AsyncKeyValue]

# What does not import under Wine is imported where it is used.


def _aes_gcm(store: AsyncKeyValue) -> AsyncKeyValue:
    from keyvalue.wrappers.encryption import AESGCMEncryptionWrapper

    return AESGCMEncryptionWrapper(store, keys={"new": KEY, "old": KEY[::-1]})


def _fernet(store: AsyncKeyValue) -> AsyncKeyValue:
    from cryptography.fernet import Fernet

    from keyvalue.wrappers.encryption import FernetEncryptionWrapper

    return FernetEncryptionWrapper(store, fernet=Fernet(base64.urlsafe_b64encode(KEY)))


WRAPPERS: Mapping[str, Wrap] = {
    "aes-gcm": _aes_gcm,
    "collection-routing": lambda store: CollectionRoutingWrapper({"a": MemoryStore(), "c": MemoryStore()}, store),
    "compression": lambda store: CompressionWrapper(store, 0),
    "compression-zstd": lambda store: CompressionWrapper(store, 0, algorithm="zstd"),
    "fallback": lambda store: FallbackWrapper(store, MemoryStore(), write_to_fallback=True),
    "fernet": _fernet,
    "limit-size": lambda store: LimitSizeWrapper(store, min_size=1, max_size=2**30),
    "logging": lambda store: LoggingWrapper(store, logging.getLogger("tests"), log_values=True, structured_logs=True),
    "passthrough-cache": lambda store: PassthroughCacheWrapper(store, MemoryStore(), negative_ttl=600),
    "prefix-collections": lambda store: PrefixCollectionsWrapper(store, "mine"),
    "prefix-keys": lambda store: PrefixKeysWrapper(store, "mi__ne"),
    "retry": RetryWrapper,
    "routing": lambda store: RoutingWrapper(lambda _: None, store, stores=[]),
    "single-collection": lambda store: SingleCollectionWrapper(store, "single"),
    "statistics": StatisticsWrapper,
    "timeout": lambda store: TimeoutWrapper(store, 60),
    "ttl-clamp": lambda store: TTLClampWrapper(store, 1e-6, 2.4e11),
}
"""The wrappers, made so that they change nothing that a caller sees."""


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
    from keyvalue.stores.rocksdb import RocksDBStore

    return RocksDBStore(path=where / "rocksdb", **kwargs)


def registry_path(where: Path) -> str:
    """Return the path in the registry that stands for a directory."""
    return f"Software\\keyvalue-tests\\{sha256(str(where).encode()).hexdigest()[:16]}"


def _windows_registry(where: Path, _: str, **kwargs: Any) -> AsyncKeyValue:
    return WindowsRegistryStore(registry_path=registry_path(where), **kwargs)


def _redis(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    return RedisStore(url=url, **kwargs)


def _redis_cluster(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    return RedisStore(url=url, cluster=True, **kwargs)


def _valkey(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    from keyvalue.stores.valkey import ValkeyStore

    address = urlsplit(url)
    return ValkeyStore(host=address.hostname or "", port=address.port or 0, **kwargs)


def _dynamodb(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    return DynamoDBStore(table_name=TABLE, endpoint_url=url, **CREDENTIALS, **kwargs)


def _memcached(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    address = urlsplit(url)
    return MemcachedStore(host=address.hostname or "", port=address.port or 0, **kwargs)


def _mongodb(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    return MongoDBStore(url=url, **kwargs)


def _elasticsearch(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    return ElasticsearchStore(url=url, index_prefix="tests", **kwargs)


def _keyring(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    from tests.servers.keyring import session_bus

    session_bus(url)
    return KeyringStore(**kwargs)


def _vault(_: Path, url: str, **kwargs: Any) -> AsyncKeyValue:
    from tests.servers.vault import TOKEN

    return VaultStore(url=url, token=TOKEN, **kwargs)


def _over_memory(wrap: Wrap) -> Factory:
    return lambda *_, **kwargs: wrap(MemoryStore(**kwargs))


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
    "wrapped": lambda *_, **kwargs: RenamingWrapper(PlainWrapper(MemoryStore(**kwargs))),
    "null": lambda *_, **kwargs: NullStore(**kwargs),
    **{name: _over_memory(wrap) for name, wrap in WRAPPERS.items()},
}

STORING: Sequence[str] = [name for name in MAKERS if name != "null" and name not in WRAPPERS]
EMBEDDED: Sequence[str] = [name for name in STORING if name not in SERVERS]
FILES: Sequence[str] = ["disk", "multi-disk", "filetree", "filetree-v1", "rocksdb"]
PERSISTENT: Sequence[str] = [*FILES, "windows-registry", *SERVERS]
SHARED: Sequence[str] = ["disk", "multi-disk", "filetree", "filetree-v1", "windows-registry", *SERVERS]
"""Those of which two stores can be open on the same data."""
UNLISTED: Sequence[str] = ["keyring", "memcached"]
"""Those that can't tell what they hold, and so can't be destroyed either."""
SLOW: Sequence[str] = ["keyring"]
"""Those on which a call takes tens of milliseconds, and one for many keys as often as long: they are tested with fewer keys."""
