"""Our stores, wrappers and adapters where py-key-value-aio's protocols are asked for, and the other way round.

Checked by mypy and by basedpyright in the nox session `types`, never run; `tests/interop/test_protocols.py` is the same with `isinstance`.
"""

from __future__ import annotations

from key_value.aio.adapters.pydantic import PydanticAdapter as OldPydanticAdapter
from key_value.aio.protocols import key_value as old
from key_value.aio.stores.disk import DiskStore as OldDiskStore
from key_value.aio.stores.memory import MemoryStore as OldMemoryStore
from key_value.aio.wrappers.prefix_keys import PrefixKeysWrapper as OldPrefixKeysWrapper
from typing_extensions import assert_type

from keyvalue import blocking, protocols
from keyvalue.adapters.pydantic import PydanticAdapter
from keyvalue.stores.disk import DiskStore, MultiDiskStore
from keyvalue.stores.dynamodb import DynamoDBStore
from keyvalue.stores.elasticsearch import ElasticsearchStore
from keyvalue.stores.filetree import FileTreeStore
from keyvalue.stores.keyring import KeyringStore
from keyvalue.stores.memcached import MemcachedStore
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.mongodb import MongoDBStore
from keyvalue.stores.null import NullStore
from keyvalue.stores.redis import RedisStore
from keyvalue.stores.rocksdb import RocksDBStore
from keyvalue.stores.simple import SimpleStore
from keyvalue.stores.valkey import ValkeyStore
from keyvalue.stores.vault import VaultStore
from keyvalue.wrappers.base import BaseWrapper
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper


def is_theirs(kv: old.AsyncKeyValue, base: old.AsyncKeyValueProtocol) -> None: ...


def lists_theirs(
    keys: old.AsyncEnumerateKeysProtocol,
    collections: old.AsyncEnumerateCollectionsProtocol,
    destroyable: old.AsyncDestroyStoreProtocol,
    by_collection: old.AsyncDestroyCollectionProtocol,
    cullable: old.AsyncCullProtocol,
) -> None: ...


def is_ours(kv: protocols.AsyncKeyValue, base: protocols.AsyncKeyValueProtocol) -> None: ...


def lists_ours(
    keys: protocols.AsyncEnumerateKeysProtocol,
    collections: protocols.AsyncEnumerateCollectionsProtocol,
    destroyable: protocols.AsyncDestroyStoreProtocol,
    by_collection: protocols.AsyncDestroyCollectionProtocol,
) -> None: ...


def stores(
    memory: MemoryStore,
    simple: SimpleStore,
    null: NullStore,
    disk: DiskStore,
    multi_disk: MultiDiskStore,
    filetree: FileTreeStore,
    rocksdb: RocksDBStore,
    redis: RedisStore,
    valkey: ValkeyStore,
    memcached: MemcachedStore,
    mongodb: MongoDBStore,
    dynamodb: DynamoDBStore,
    elasticsearch: ElasticsearchStore,
    keyring: KeyringStore,
    vault: VaultStore,
) -> None:
    is_theirs(null, null)
    is_theirs(memcached, memcached)
    lists_theirs(memcached, memcached, memcached, memcached, memcached)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    is_theirs(memory, memory)
    lists_theirs(memory, memory, memory, memory, memory)
    is_theirs(simple, simple)
    lists_theirs(simple, simple, simple, simple, simple)
    is_theirs(disk, disk)
    lists_theirs(disk, disk, disk, disk, disk)
    is_theirs(multi_disk, multi_disk)
    lists_theirs(multi_disk, multi_disk, multi_disk, multi_disk, multi_disk)
    is_theirs(filetree, filetree)
    lists_theirs(filetree, filetree, filetree, filetree, filetree)
    is_theirs(rocksdb, rocksdb)
    lists_theirs(rocksdb, rocksdb, rocksdb, rocksdb, rocksdb)
    is_theirs(redis, redis)
    lists_theirs(redis, redis, redis, redis, redis)
    is_theirs(valkey, valkey)
    lists_theirs(valkey, valkey, valkey, valkey, valkey)
    is_theirs(mongodb, mongodb)
    lists_theirs(mongodb, mongodb, mongodb, mongodb, mongodb)
    is_theirs(dynamodb, dynamodb)
    lists_theirs(dynamodb, dynamodb, dynamodb, dynamodb, dynamodb)
    is_theirs(elasticsearch, elasticsearch)
    lists_theirs(elasticsearch, elasticsearch, elasticsearch, elasticsearch, elasticsearch)
    is_theirs(keyring, keyring)
    is_theirs(vault, vault)
    lists_theirs(vault, vault, vault, vault, vault)


def wrappers(any_wrapper: BaseWrapper, store: MemoryStore) -> None:
    is_theirs(any_wrapper, any_wrapper)
    OldPrefixKeysWrapper(key_value=any_wrapper, prefix="app")
    OldPrefixKeysWrapper(key_value=store, prefix="app")


async def theirs_with_ours(ours: protocols.AsyncKeyValue, theirs: old.AsyncKeyValue, base: old.AsyncKeyValueProtocol) -> None:
    is_ours(theirs, theirs)
    is_theirs(ours, ours)
    is_ours(OldMemoryStore(), OldMemoryStore())
    is_ours(OldDiskStore(directory="d"), base)
    lists_ours(OldMemoryStore(), OldMemoryStore(), OldMemoryStore(), OldMemoryStore())
    is_ours(OldPrefixKeysWrapper(key_value=ours, prefix="app"), OldPrefixKeysWrapper(key_value=ours, prefix="app"))
    PrefixKeysWrapper(theirs, "app")
    assert_type(await PydanticAdapter(theirs, int).get("k"), int | None)
    await OldPydanticAdapter[int](key_value=ours, pydantic_model=int).put("k", 1)
    assert_type(blocking.BlockingKeyValue(theirs).delete("k"), bool)
