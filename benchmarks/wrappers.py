"""Measure what each wrapper adds to a `get` of a MemoryStore, here and in the predecessor; see README.md."""

from __future__ import annotations

import argparse
import asyncio
import logging
import platform
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from contenders import KEYS, RECORD
from cryptography.fernet import Fernet
from key_value.aio.stores.memory import MemoryStore as TheirMemory
from key_value.aio.wrappers import compression as their_compression
from key_value.aio.wrappers import default_value as their_default_value
from key_value.aio.wrappers import encryption as their_encryption
from key_value.aio.wrappers import fallback as their_fallback
from key_value.aio.wrappers import limit_size as their_limit_size
from key_value.aio.wrappers import logging as their_logging
from key_value.aio.wrappers import passthrough_cache as their_passthrough_cache
from key_value.aio.wrappers import prefix_collections as their_prefix_collections
from key_value.aio.wrappers import prefix_keys as their_prefix_keys
from key_value.aio.wrappers import read_only as their_read_only
from key_value.aio.wrappers import retry as their_retry
from key_value.aio.wrappers import routing as their_routing
from key_value.aio.wrappers import single_collection as their_single_collection
from key_value.aio.wrappers import statistics as their_statistics
from key_value.aio.wrappers import timeout as their_timeout
from key_value.aio.wrappers import ttl_clamp as their_ttl_clamp
from run import time_awaiting

from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers import (
    compression,
    default_value,
    encryption,
    fallback,
    limit_size,
    passthrough_cache,
    prefix_collections,
    prefix_keys,
    read_only,
    retry,
    routing,
    single_collection,
    statistics,
    timeout,
    ttl_clamp,
)
from keyvalue.wrappers import logging as keyvalue_logging

FERNET = Fernet(Fernet.generate_key())
LOGGER = logging.getLogger("benchmark")  # INFO is off, as in a program that does not ask for it
BAR = 1 / 3
PASS_THROUGH = ("statistics", "prefix keys")


def readme_stack(kind: Any, logs: Any, compresses: Any, falls: Any, retries: Any, times: Any) -> Any:
    """Return the stack that DESIGN and README show, five deep."""
    return logs(compresses(falls(retries(times(kind())), kind())), LOGGER)


Make = Callable[[], Any]
PAIRS: dict[str, tuple[Make | None, Make]] = {
    "none": (TheirMemory, MemoryStore),
    "statistics": (lambda: their_statistics.StatisticsWrapper(TheirMemory()), lambda: statistics.StatisticsWrapper(MemoryStore())),
    "prefix keys": (
        lambda: their_prefix_keys.PrefixKeysWrapper(TheirMemory(), "p"),
        lambda: prefix_keys.PrefixKeysWrapper(MemoryStore(), "p"),
    ),
    "prefix collections": (
        lambda: their_prefix_collections.PrefixCollectionsWrapper(TheirMemory(), "p"),
        lambda: prefix_collections.PrefixCollectionsWrapper(MemoryStore(), "p"),
    ),
    "single collection": (
        lambda: their_single_collection.SingleCollectionWrapper(TheirMemory(), "s"),
        lambda: single_collection.SingleCollectionWrapper(MemoryStore(), "s"),
    ),
    "read-only": (
        lambda: their_read_only.ReadOnlyWrapper(TheirMemory(seed=SEED)),
        lambda: read_only.ReadOnlyWrapper(MemoryStore(seed=SEED)),
    ),
    "TTL clamp": (lambda: their_ttl_clamp.TTLClampWrapper(TheirMemory(), 1, 100), lambda: ttl_clamp.TTLClampWrapper(MemoryStore(), 1, 100)),
    "default value": (
        lambda: their_default_value.DefaultValueWrapper(TheirMemory(), {}),
        lambda: default_value.DefaultValueWrapper(MemoryStore(), {}),
    ),
    "limit size": (
        lambda: their_limit_size.LimitSizeWrapper(TheirMemory(), max_size=10**6),
        lambda: limit_size.LimitSizeWrapper(MemoryStore(), max_size=10**6),
    ),
    "logging (off)": (
        lambda: their_logging.LoggingWrapper(TheirMemory(), LOGGER),
        lambda: keyvalue_logging.LoggingWrapper(MemoryStore(), LOGGER),
    ),
    "retry": (lambda: their_retry.RetryWrapper(TheirMemory()), lambda: retry.RetryWrapper(MemoryStore())),
    "timeout": (lambda: their_timeout.TimeoutWrapper(TheirMemory()), lambda: timeout.TimeoutWrapper(MemoryStore())),
    "fallback": (
        lambda: their_fallback.FallbackWrapper(TheirMemory(), TheirMemory()),
        lambda: fallback.FallbackWrapper(MemoryStore(), MemoryStore()),
    ),
    "routing": (
        lambda: their_routing.RoutingWrapper(lambda _: None, TheirMemory()),
        lambda: routing.RoutingWrapper(lambda _: None, MemoryStore()),
    ),
    "collection routing": (
        lambda: their_routing.CollectionRoutingWrapper({"c": TheirMemory()}, TheirMemory()),
        lambda: routing.CollectionRoutingWrapper({"c": MemoryStore()}, MemoryStore()),
    ),
    "passthrough cache (hit)": (
        lambda: their_passthrough_cache.PassthroughCacheWrapper(TheirMemory(), TheirMemory()),
        lambda: passthrough_cache.PassthroughCacheWrapper(MemoryStore(), MemoryStore()),
    ),
    "compression": (lambda: their_compression.CompressionWrapper(TheirMemory()), lambda: compression.CompressionWrapper(MemoryStore())),
    "Fernet": (
        lambda: their_encryption.FernetEncryptionWrapper(TheirMemory(), fernet=FERNET),
        lambda: encryption.FernetEncryptionWrapper(MemoryStore(), fernet=FERNET),
    ),
    "AES-GCM": (None, lambda: encryption.AESGCMEncryptionWrapper(MemoryStore(), keys={"1": bytes(32)})),
    "the README's stack": (
        lambda: readme_stack(
            TheirMemory,
            their_logging.LoggingWrapper,
            their_compression.CompressionWrapper,
            their_fallback.FallbackWrapper,
            their_retry.RetryWrapper,
            their_timeout.TimeoutWrapper,
        ),
        lambda: readme_stack(
            MemoryStore,
            keyvalue_logging.LoggingWrapper,
            compression.CompressionWrapper,
            fallback.FallbackWrapper,
            retry.RetryWrapper,
            timeout.TimeoutWrapper,
        ),
    ),
}
SEED = {"default_collection": {KEYS[0]: RECORD}}


async def measure(rounds: int, count: int) -> dict[tuple[str, int], float]:
    """Return the median of the seconds that a get takes, by wrapper and library; all take turns."""
    calls: dict[tuple[str, int], Callable[[], Any]] = {}
    for name, pair in PAIRS.items():
        for who, make in enumerate(pair):
            if make is not None:
                store = make()
                if name != "read-only":
                    await store.put(KEYS[0], RECORD)
                await store.get(KEYS[0])
                calls[name, who] = partial(store.get, KEYS[0])
    samples: dict[tuple[str, int], list[float]] = {which: [] for which in calls}
    for _ in range(rounds):
        for which, call in calls.items():
            samples[which].append(await time_awaiting(call, count))
    return {which: median(values) for which, values in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=41, help="turns that each contender takes (default 41)")
    options = parser.parse_args()
    times = asyncio.run(measure(options.rounds, 100))
    print(f"Python {platform.python_version()}; a get of a MemoryStore, medians of {options.rounds} rounds, in µs")
    print(f"\n{'wrapper':<26}{'predecessor':>12}{'it adds':>10}{'keyvalue':>12}{'it adds':>10}{'ratio of what they add':>25}")
    for name in PAIRS:
        theirs, ours = times.get((name, 0)), times[name, 1]
        added = ours - times["none", 1]
        row = f"{name:<26}"
        if theirs is None:
            print(f"{row}{'':>22}{ours * 1e6:>12.2f}{added * 1e6:>10.2f}")
            continue
        their_added = theirs - times["none", 0]
        row += f"{theirs * 1e6:>12.2f}{their_added * 1e6:>10.2f}{ours * 1e6:>12.2f}{added * 1e6:>10.2f}"
        if name != "none":
            row += f"{added / their_added:>25.2f}"
        if name in PASS_THROUGH:
            row += f"  bar ≤ {BAR:.2f}: {'ok' if added / their_added <= BAR else 'over'}"
        print(row)


if __name__ == "__main__":
    main()
