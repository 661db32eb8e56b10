"""One small key-value protocol over many backends, for asyncio, trio and synchronous code.

Stores, wrappers and adapters are in `keyvalue.stores`, `keyvalue.wrappers` and `keyvalue.adapters`, the synchronous façade in
`keyvalue.blocking`. You can import all of them from here too: `from keyvalue import RedisStore`. That imports the client of Redis;
`import keyvalue` imports none.
"""

from typing import TYPE_CHECKING

from keyvalue._core.lazy import import_from
from keyvalue._core.legacy.module_names import add_module_names
from keyvalue.errors import KeyValueError
from keyvalue.protocols.key_value import AsyncKeyValue, KeyValue

if TYPE_CHECKING:
    from keyvalue.adapters.base_model import BaseModelAdapter as BaseModelAdapter
    from keyvalue.adapters.dataclass import DataclassAdapter as DataclassAdapter
    from keyvalue.adapters.pydantic import PydanticAdapter as PydanticAdapter
    from keyvalue.adapters.raise_on_missing import RaiseOnMissingAdapter as RaiseOnMissingAdapter
    from keyvalue.blocking import BlockingKeyValue as BlockingKeyValue
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
    from keyvalue.wrappers.compression import CompressionWrapper as CompressionWrapper
    from keyvalue.wrappers.default_value import DefaultValueWrapper as DefaultValueWrapper
    from keyvalue.wrappers.encryption import AESGCMEncryptionWrapper as AESGCMEncryptionWrapper
    from keyvalue.wrappers.encryption import BaseEncryptionWrapper as BaseEncryptionWrapper
    from keyvalue.wrappers.encryption import FernetEncryptionWrapper as FernetEncryptionWrapper
    from keyvalue.wrappers.fallback import FallbackWrapper as FallbackWrapper
    from keyvalue.wrappers.limit_size import LimitSizeWrapper as LimitSizeWrapper
    from keyvalue.wrappers.logging import LoggingWrapper as LoggingWrapper
    from keyvalue.wrappers.passthrough_cache import PassthroughCacheWrapper as PassthroughCacheWrapper
    from keyvalue.wrappers.prefix_collections import PrefixCollectionsWrapper as PrefixCollectionsWrapper
    from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper as PrefixKeysWrapper
    from keyvalue.wrappers.read_only import ReadOnlyWrapper as ReadOnlyWrapper
    from keyvalue.wrappers.retry import RetryWrapper as RetryWrapper
    from keyvalue.wrappers.routing import CollectionRoutingWrapper as CollectionRoutingWrapper
    from keyvalue.wrappers.routing import RoutingWrapper as RoutingWrapper
    from keyvalue.wrappers.single_collection import SingleCollectionWrapper as SingleCollectionWrapper
    from keyvalue.wrappers.statistics import StatisticsWrapper as StatisticsWrapper
    from keyvalue.wrappers.timeout import TimeoutWrapper as TimeoutWrapper
    from keyvalue.wrappers.ttl_clamp import TTLClampWrapper as TTLClampWrapper

__all__ = ["AsyncKeyValue", "KeyValue", "KeyValueError", "__version__"]  # `import *` imports no client

__version__ = "0.1.0.dev0"

_MODULES = {"blocking": ("BlockingKeyValue",), "testing": (), "adapters": None, "stores": None, "wrappers": None}

if not TYPE_CHECKING:  # with it, type checkers would accept any name
    __getattr__, __dir__ = import_from(__name__, _MODULES)

add_module_names(__name__, {"errors": ("base", "key_value", "store", "wrappers")})
