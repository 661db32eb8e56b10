"""The protocols that frameworks code against; see `keyvalue.protocols.key_value`."""

from keyvalue.protocols.key_value import (
    AsyncCullProtocol,
    AsyncDestroyCollectionProtocol,
    AsyncDestroyStoreProtocol,
    AsyncEnumerateCollectionsProtocol,
    AsyncEnumerateKeysProtocol,
    AsyncKeyValue,
    AsyncKeyValueProtocol,
    AsyncLifecycleProtocol,
    CullProtocol,
    DestroyCollectionProtocol,
    DestroyStoreProtocol,
    EnumerateCollectionsProtocol,
    EnumerateKeysProtocol,
    KeyValue,
    KeyValueProtocol,
    LifecycleProtocol,
)

__all__ = [
    "AsyncCullProtocol",
    "AsyncDestroyCollectionProtocol",
    "AsyncDestroyStoreProtocol",
    "AsyncEnumerateCollectionsProtocol",
    "AsyncEnumerateKeysProtocol",
    "AsyncKeyValue",
    "AsyncKeyValueProtocol",
    "AsyncLifecycleProtocol",
    "CullProtocol",
    "DestroyCollectionProtocol",
    "DestroyStoreProtocol",
    "EnumerateCollectionsProtocol",
    "EnumerateKeysProtocol",
    "KeyValue",
    "KeyValueProtocol",
    "LifecycleProtocol",
]
