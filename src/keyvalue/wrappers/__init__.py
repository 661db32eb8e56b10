"""The wrappers, one module each. `from keyvalue.wrappers import RetryWrapper` imports that one only."""

from typing import TYPE_CHECKING

from keyvalue._core.lazy import import_from
from keyvalue._core.legacy.module_names import add_module_names

if TYPE_CHECKING:
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

_MODULES = {
    "compression": ("CompressionWrapper",),
    "default_value": ("DefaultValueWrapper",),
    "encryption": ("AESGCMEncryptionWrapper", "BaseEncryptionWrapper", "FernetEncryptionWrapper"),
    "fallback": ("FallbackWrapper",),
    "limit_size": ("LimitSizeWrapper",),
    "logging": ("LoggingWrapper",),
    "passthrough_cache": ("PassthroughCacheWrapper",),
    "prefix_collections": ("PrefixCollectionsWrapper",),
    "prefix_keys": ("PrefixKeysWrapper",),
    "read_only": ("ReadOnlyWrapper",),
    "retry": ("RetryWrapper",),
    "routing": ("CollectionRoutingWrapper", "RoutingWrapper"),
    "single_collection": ("SingleCollectionWrapper",),
    "statistics": ("StatisticsWrapper",),
    "timeout": ("TimeoutWrapper",),
    "ttl_clamp": ("TTLClampWrapper",),
    "base": (),
}

if not TYPE_CHECKING:  # with it, type checkers would accept any name
    __getattr__, __dir__ = import_from(__name__, _MODULES)

add_module_names(
    __name__,
    {module: ("wrapper",) for module in _MODULES if module != "base"}
    | {"encryption": ("base", "fernet"), "routing": ("wrapper", "collection_routing")},
)
