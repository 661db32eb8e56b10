"""The backends that the contract is tested on: how to make a store over each, as often as a test wants."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
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
from tests import makers
from tests.makers import Factory
from tests.servers.registry import SERVERS

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

    def _encode_collection(self, collection: str | None) -> str | None:
        return "mine/" + (collection or "default_collection")

    def _decode_collection(self, collection: str) -> str | None:
        return collection.removeprefix("mine/") if collection.startswith("mine/") else None

    def _encode_key(self, key: str, collection: str | None) -> str:
        return "key/" + key

    def _decode_key(self, key: str, collection: str | None) -> str | None:
        return key.removeprefix("key/") if key.startswith("key/") else None

    async def _encode_value(self, value: Mapping[str, Any], key: str, collection: str | None) -> Mapping[str, Any]:
        return {"envelope": dict(value)}

    async def _decode_value(self, value: dict[str, Any], key: str, collection: str | None) -> dict[str, Any] | None:
        return value["envelope"]


def _over_memory(wrap: Wrap) -> Factory:
    return lambda *_, **kwargs: wrap(MemoryStore(**kwargs))


MAKERS: Mapping[str, Factory] = {
    **makers.MAKERS,
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
SLOW: Sequence[str] = ["keyring", "vault"]
"""Those on which a call for many keys takes as often ten milliseconds or more: they are tested with fewer keys."""
