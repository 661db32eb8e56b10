"""The stores, one module a backend. `from keyvalue.stores import RedisStore` imports that backend's client, and no other."""

from typing import TYPE_CHECKING

from keyvalue._core.lazy import import_from
from keyvalue._core.legacy.module_names import add_module_names

if TYPE_CHECKING:
    from keyvalue.stores.disk import DiskStore as DiskStore
    from keyvalue.stores.disk import MultiDiskStore as MultiDiskStore
    from keyvalue.stores.dynamodb import DynamoDBStore as DynamoDBStore
    from keyvalue.stores.elasticsearch import ElasticsearchStore as ElasticsearchStore
    from keyvalue.stores.filetree import FileTreeStore as FileTreeStore
    from keyvalue.stores.keyring import KeyringStore as KeyringStore
    from keyvalue.stores.memcached import MemcachedStore as MemcachedStore
    from keyvalue.stores.memory import MemoryStore as MemoryStore
    from keyvalue.stores.mongodb import MongoDBStore as MongoDBStore
    from keyvalue.stores.null import NullStore as NullStore
    from keyvalue.stores.redis import RedisStore as RedisStore
    from keyvalue.stores.rocksdb import RocksDBStore as RocksDBStore
    from keyvalue.stores.simple import SimpleStore as SimpleStore
    from keyvalue.stores.valkey import ValkeyStore as ValkeyStore
    from keyvalue.stores.vault import VaultStore as VaultStore
    from keyvalue.stores.windows_registry import WindowsRegistryStore as WindowsRegistryStore

_MODULES = {
    "disk": ("DiskStore", "MultiDiskStore"),
    "dynamodb": ("DynamoDBStore",),
    "elasticsearch": ("ElasticsearchStore",),
    "filetree": ("FileTreeStore",),
    "keyring": ("KeyringStore",),
    "memcached": ("MemcachedStore",),
    "memory": ("MemoryStore",),
    "mongodb": ("MongoDBStore",),
    "null": ("NullStore",),
    "redis": ("RedisStore",),
    "rocksdb": ("RocksDBStore",),
    "simple": ("SimpleStore",),
    "valkey": ("ValkeyStore",),
    "vault": ("VaultStore",),
    "windows_registry": ("WindowsRegistryStore",),
    "base": (),
}

if not TYPE_CHECKING:  # with it, type checkers would accept any name
    __getattr__, __dir__ = import_from(__name__, _MODULES)

add_module_names(__name__, {module: ("store",) for module in _MODULES if module != "base"} | {"disk": ("store", "multi_store")})
