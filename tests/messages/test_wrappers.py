"""Wrappers: what their constructors refuse, and what they say of the calls that they refuse."""

# ruff: noqa: E501 # a mistake a line

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from keyvalue.errors import (
    DecryptionError,
    DeserializationError,
    EncryptionError,
    EntryTooLargeError,
    EntryTooSmallError,
    InvalidKeyError,
    InvalidTTLError,
    ReadOnlyError,
)
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.simple import SimpleStore
from keyvalue.wrappers.base import BaseWrapper
from keyvalue.wrappers.compression import CompressionWrapper
from keyvalue.wrappers.default_value import DefaultValueWrapper
from keyvalue.wrappers.encryption import FernetEncryptionWrapper
from keyvalue.wrappers.fallback import FallbackWrapper
from keyvalue.wrappers.limit_size import LimitSizeWrapper
from keyvalue.wrappers.logging import LoggingWrapper
from keyvalue.wrappers.passthrough_cache import PassthroughCacheWrapper
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper
from keyvalue.wrappers.read_only import ReadOnlyWrapper
from keyvalue.wrappers.retry import RetryWrapper
from keyvalue.wrappers.routing import RoutingWrapper
from keyvalue.wrappers.single_collection import SingleCollectionWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from keyvalue.wrappers.ttl_clamp import TTLClampWrapper
from tests.core.test_blocking import ThirdParty
from tests.messages import Mistake, check

LARGE = {"password": "hunter2" * 20}
ENVELOPE = {"__compressed_data__": "hunter2", "__compression_algorithm__": "gzip", "__compression_version__": 1}


def over(wrap: Callable[[Any], Any], row: dict[str, Any]) -> Any:
    """Wrap a store that has a row."""
    return wrap(MemoryStore(seed={"default_collection": {"k": row}}))


class WrapsNothing(BaseWrapper):
    def __init__(self) -> None:
        pass


async def route(_: str | None) -> None:
    pass


def hanging() -> Any:
    store = ThirdParty()
    store.visit = lambda: asyncio.sleep(60)
    return store


ANY: Any = BaseWrapper
ANY_LIST: Any = [OSError]
M = MemoryStore
STORE = M()
CONSTRUCTORS = [
    Mistake("nothing to wrap", lambda: ANY(), TypeError, ["BaseWrapper takes key_value, the store or wrapper to wrap"]),
    Mistake("None to wrap", lambda: ANY(None), TypeError, ["BaseWrapper takes an AsyncKeyValue", "not None"]),
    Mistake("a class to wrap", lambda: ANY(M), TypeError, ["not the class MemoryStore"]),
    Mistake("an unknown argument", lambda: TimeoutWrapper(M(), seconds=3), TypeError, ["'seconds'", "it takes key_value, timeout"]),  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    Mistake("an argument that is missing", lambda: TTLClampWrapper(M(), 1), TypeError, ["'max_ttl'", "min_ttl, max_ttl, missing_ttl"]),  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    Mistake("a timeout of 0", lambda: TimeoutWrapper(M(), 0), ValueError, ["timeout must be a positive number of seconds"]),
    Mistake("a str as timeout", lambda: TimeoutWrapper(M(), "5"), TypeError, ["timeout must be a number of seconds, not a str"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("negative retries", lambda: RetryWrapper(M(), -1), ValueError, ["max_retries must not be negative"]),
    Mistake("a str as retries", lambda: RetryWrapper(M(), "3"), TypeError, ["max_retries should be int, not a str"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("delays that shrink", lambda: RetryWrapper(M(), exponential_base=0.5), ValueError, ["exponential_base must be at least 1"]),
    Mistake("a negative minimum", lambda: TTLClampWrapper(M(), -1, 5), InvalidTTLError, ["not -1", "argument: min_ttl"]),
    Mistake("no minimum above 0", lambda: TTLClampWrapper(M(), 9, 5), ValueError, ["min_ttl is 9.0 and must not be more than max_ttl, which is 5.0"]),
    Mistake("a maximum of 0", lambda: TTLClampWrapper(M(), 0, 0), InvalidTTLError, ["not 0", "argument: max_ttl"]),
    Mistake("a missing TTL of 0", lambda: TTLClampWrapper(M(), 0, 5, 0), InvalidTTLError, ["not 0", "argument: missing_ttl"]),
    Mistake("a moment as maximum", lambda: TTLClampWrapper(M(), 0, time.time()), InvalidTTLError, ["seconds from now", "a moment", "argument: max_ttl"]),
    Mistake("no maximum", lambda: TTLClampWrapper(M(), 0, None), InvalidTTLError, ["not a NoneType", "argument: max_ttl"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a negative default TTL", lambda: DefaultValueWrapper(M(), {}, -1), InvalidTTLError, ["not -1", "argument: default_ttl"]),
    Mistake("a moment as default TTL", lambda: DefaultValueWrapper(M(), {}, time.time()), InvalidTTLError, ["seconds from now", "argument: default_ttl"]),
    Mistake("a default that is no JSON", lambda: DefaultValueWrapper(M(), {"a": math.nan}), ValueError, ["serialize", "value['a']"]),
    Mistake("a default that is no mapping", lambda: DefaultValueWrapper(M(), None), TypeError, ["mapping", "not None"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("caching for 0 seconds", lambda: PassthroughCacheWrapper(M(), M(), 0), InvalidTTLError, ["not 0", "argument: maximum_ttl"]),
    Mistake("caching what never expires for 0 seconds", lambda: PassthroughCacheWrapper(M(), M(), None, 0), InvalidTTLError, ["argument: missing_ttl"]),
    Mistake("caching misses until a moment", lambda: PassthroughCacheWrapper(M(), M(), negative_ttl=time.time()), InvalidTTLError, ["a moment", "argument: negative_ttl"]),
    Mistake("a cache that is none", lambda: PassthroughCacheWrapper(M(), {}), TypeError, ["AsyncKeyValue as cache_key_value", "not a dict"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a fallback that is none", lambda: FallbackWrapper(M(), None), TypeError, ["FallbackWrapper takes an AsyncKeyValue", "not None"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a negative size", lambda: LimitSizeWrapper(M(), max_size=-1), ValueError, ["min_size and max_size must not be negative"]),
    Mistake("sizes that exclude all", lambda: LimitSizeWrapper(M(), min_size=9, max_size=5), ValueError, ["min_size is 9", "max_size, which is 5"]),
    Mistake("an unknown algorithm", lambda: CompressionWrapper(M(), algorithm="lzma"), ValueError, ['"gzip" or "zstd"']),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a prefix that is no str", lambda: PrefixKeysWrapper(M(), None), TypeError, ["prefix must be a str, not None"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a prefix that can't be a name", lambda: PrefixKeysWrapper(M(), "\ud800"), InvalidKeyError, ["prefix holds a lone surrogate"]),
    Mistake("an empty single collection", lambda: SingleCollectionWrapper(M(), ""), InvalidKeyError, ["collection is empty"]),
    Mistake("room for nothing", lambda: M(max_entries_per_collection=0), ValueError, ["at least 1; leave it out for no limit"]),
    Mistake("a cache that is the primary store", lambda: PassthroughCacheWrapper(STORE, RetryWrapper(STORE)), ValueError, ["must not be the primary store", "PrefixCollectionsWrapper"]),
    Mistake("a list of errors to retry", lambda: RetryWrapper(M(), retry_on=ANY_LIST), TypeError, ["retry_on must be an exception class or a tuple of them", "not a list"]),
    Mistake("an error to fall back on by its name", lambda: FallbackWrapper(M(), M(), fallback_on="OSError"), TypeError, ["fallback_on must be an exception class"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a level of logging by its name", lambda: LoggingWrapper(M(), log_level="INFO"), TypeError, ["log_level must be an int, such as logging.INFO"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a logger by its name", lambda: LoggingWrapper(M(), logger="app"), TypeError, ["logger must be a logging.Logger"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("retries as text", lambda: RetryWrapper(M(), max_retries="3"), TypeError, ["max_retries should be int, not a str"], ["'>='", ";"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("room for nothing at all", lambda: SimpleStore(0), ValueError, ["max_entries must be at least 1; leave it out for no limit"]),
    Mistake("room for a str", lambda: M(max_entries_per_collection="5"), TypeError, ["max_entries_per_collection must be an int or None, not a str"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a seed of another form", lambda: M(seed={"k": 1}), TypeError, ["seed takes {collection: {key: value}}"]),  # type: ignore[dict-item] # pyright: ignore[reportArgumentType]
]  # fmt: skip

CALLS = [
    Mistake("too large for a limit", lambda: LimitSizeWrapper(M(), max_size=50).put("k", LARGE), EntryTooLargeError, ["the max_size of this LimitSizeWrapper", "max_size: 50", "key: k"], secrets=["hunter2"]),
    Mistake("too large for a limit in bulk", lambda: LimitSizeWrapper(M(), max_size=50).put_many(["k", "l"], [{}, LARGE]), EntryTooLargeError, ["this LimitSizeWrapper", "key: l"]),
    Mistake("too small for a limit", lambda: LimitSizeWrapper(M(), min_size=50, raise_on_too_small=True).put("k", {}), EntryTooSmallError, ["the min_size of this LimitSizeWrapper", "min_size: 50"]),
    Mistake("too large to compress", lambda: CompressionWrapper(M(), max_size=50).put("k", LARGE), EntryTooLargeError, ["the max_size of this CompressionWrapper", "max_size: 50"], secrets=["hunter2"]),
    Mistake("a compressed row that is damaged", lambda: over(CompressionWrapper, ENVELOPE).get("k"), DeserializationError, ["can't be read", "key: k"], secrets=["hunter2"]),
    Mistake("a write that is not allowed", lambda: ReadOnlyWrapper(M()).put("k", LARGE), ReadOnlyError, ["read-only", "operation: put", "key: k"], secrets=["hunter2"]),
    Mistake("a call that takes too long", lambda: TimeoutWrapper(hanging(), 0.01).get("k"), TimeoutError, ["get took longer than 0.01 s"]),
    Mistake("a route that is none", lambda: RoutingWrapper("users", M()), TypeError, ["routing_function must be a function of a collection", "not a str"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("an async route", lambda: RoutingWrapper(route, M()), TypeError, ["routing_function must be a function of a collection", "not an async one"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a salt of bytes", lambda: FernetEncryptionWrapper(M(), source_material="s", salt=b"s"), TypeError, ["salt of FernetEncryptionWrapper must be a str, not bytes", "hex()"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a switch by a text", lambda: FernetEncryptionWrapper(M(), source_material="s", salt="s", allow_plaintext="false"), TypeError, ["allow_plaintext must be a bool, not a str"]),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Mistake("a wrapper that wraps nothing", lambda: WrapsNothing().get("k"), AttributeError, ["WrapsNothing", "must call super().__init__(key_value), or set self.key_value"]),
    Mistake("a route to no store", lambda: RoutingWrapper(lambda _: {}, M()).get("k"), TypeError, ["RoutingWrapper takes an AsyncKeyValue as what routing_function returns", "not a dict"]),  # type: ignore[arg-type, return-value] # pyright: ignore[reportArgumentType]
    Mistake("a TTL below a clamp", lambda: TTLClampWrapper(M(), 0, 5).put("k", {}, ttl=0), InvalidTTLError, ["not 0"]),
    Mistake("a moment above a clamp", lambda: TTLClampWrapper(M(), 0, 5).put("k", {}, ttl=time.time() + 5), InvalidTTLError, ["seconds from now"]),
]  # fmt: skip


@pytest.mark.parametrize("mistake", [*CONSTRUCTORS, *CALLS], ids=lambda mistake: mistake.name)
def test_wrappers(mistake: Mistake) -> None:
    check(mistake)


@pytest.mark.parametrize("caught", [DecryptionError, EncryptionError])
def test_encryption(caught: type[Exception]) -> None:
    fernet = pytest.importorskip("cryptography.fernet")
    from keyvalue.wrappers.encryption import FernetEncryptionWrapper  # needs cryptography

    def wrap(store: Any) -> Any:
        return FernetEncryptionWrapper(store, fernet=fernet.Fernet(b"a" * 43 + b"="))

    row = {"__encrypted_data__": "hunter2=", "__encryption_version__": 9}
    for mistake in (
        Mistake("another version", lambda: over(wrap, row).get("k"), caught, ["version 9", "Fernet's is 1", "key: k"], secrets=["hunter2"]),
        Mistake("plain text", lambda: over(wrap, LARGE).get("k"), caught, ["not encrypted", "allow_plaintext=True"], secrets=["hunter2"]),
        Mistake("another key", lambda: over(wrap, {**row, "__encryption_version__": 1}).get("k"), caught, ["the key is another one"]),
        Mistake("no version", lambda: over(wrap, {"__encrypted_data__": ""}).get("k"), caught, ["envelope is damaged"]),
    ):
        check(mistake)
