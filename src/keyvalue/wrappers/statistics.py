"""A wrapper that counts calls and measures them."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from keyvalue._core import constructor, fork
from keyvalue._core.operation import Operation
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = [
    "LATENCY_BOUNDS",
    "DeleteStatistics",
    "GetStatistics",
    "KVStoreCollectionStatistics",
    "KVStoreStatistics",
    "OperationStatistics",
    "PutStatistics",
    "StatisticsWrapper",
    "TTLStatistics",
]

LATENCY_BOUNDS = tuple(base * 10.0**power for power in range(-6, 2) for base in (1.0, 2.0, 5.0))
"""Upper bounds of the buckets of latencies, in seconds: 1, 2 and 5 microseconds, and so on to 50 s; one more bucket has longer ones."""


_KINDS = {name: name.removesuffix("_many") for name in ("get", "ttl", "put", "delete", "get_many", "ttl_many", "put_many", "delete_many")}


@dataclass(slots=True, init=False, eq=False)
class OperationStatistics:  # noqa: PLW1641 # it changes, so it has no hash
    """The figures of one operation on one collection; a bulk call counts once for each key. They are equal if all but the latencies are.

    Attributes:
        hit: How many keys were there; for get, ttl and delete.
        miss: How many keys were not.
        errors: How many calls raised.
        further: How many keys bulk calls had beyond one each.
        latencies: How many calls fell into each bucket of `LATENCY_BOUNDS`; a bulk call counts once.
    """

    hit: int
    miss: int
    errors: int
    latencies: list[int]
    further: int

    def __init__(self, count: int = 0, hit: int = 0, miss: int = 0, errors: int = 0) -> None:
        self.hit, self.miss, self.errors, self.further = hit, miss, errors, count
        self.latencies = [0] * (len(LATENCY_BOUNDS) + 1)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OperationStatistics):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in ("count", "hit", "miss", "errors"))

    @property
    def count(self) -> int:
        """How many keys were asked for, written or deleted."""
        return sum(self.latencies) + self.further

    def quantile(self, share: float) -> float | None:
        """Return the seconds within which a share of the calls ended, as the upper bound of a bucket.

        Args:
            share: Between 0 and 1; 0.5 is the median.

        Returns:
            The seconds, infinity beyond the last bound, or None if there were no calls.
        """
        calls, seen = sum(self.latencies), 0
        for bound, number in zip((*LATENCY_BOUNDS, float("inf")), self.latencies, strict=True):
            seen += number
            if calls and seen >= share * calls:
                return bound
        return None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures, the median and the 95th and 99th percentile, in seconds, as a plain dict."""
        return {
            "count": self.count,
            "hit": self.hit,
            "miss": self.miss,
            "errors": self.errors,
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
        }


GetStatistics = PutStatistics = DeleteStatistics = TTLStatistics = OperationStatistics
"""Other names of it, those of py-key-value-aio."""


@dataclass(slots=True)
class KVStoreCollectionStatistics:
    """The figures of one collection."""

    get: OperationStatistics = field(default_factory=OperationStatistics)
    ttl: OperationStatistics = field(default_factory=OperationStatistics)
    put: OperationStatistics = field(default_factory=OperationStatistics)
    delete: OperationStatistics = field(default_factory=OperationStatistics)


@dataclass
class KVStoreStatistics:
    """The figures of all collections that calls have named."""

    collections: dict[str, KVStoreCollectionStatistics] = field(default_factory=dict[str, KVStoreCollectionStatistics])

    def get_collection(self, collection: str) -> KVStoreCollectionStatistics:
        """Return the figures of a collection, all zero if there was no call on it."""
        found = self.collections.get(collection)
        return self.collections.setdefault(collection, KVStoreCollectionStatistics()) if found is None else found

    def snapshot(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the figures by collection and operation, as plain dicts."""
        return {
            name: {operation: getattr(collection, operation).as_dict() for operation in ("get", "ttl", "put", "delete")}
            for name, collection in sorted(self.collections.items())
        }


class StatisticsWrapper(BaseWrapper):
    """Counts hits, misses and errors, and measures latencies, for each collection.

    Listing, destroying and culling are not counted. Calls that name no collection count for `"default_collection"`. There are figures for
    each collection ever named, about 2 kB each.

    Place: next to the store to measure it, above a cache to measure that.

    Args:
        key_value: What to wrap.
    """

    runs_inline = True

    @constructor.check_types
    def __init__(self, key_value: AsyncKeyValue) -> None:
        self._statistics = KVStoreStatistics()
        self._lock = threading.RLock()
        fork.register_after_fork(self)
        super().__init__(key_value)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()

    @property
    def statistics(self) -> KVStoreStatistics:
        """The figures. They go on changing; `snapshot()` returns a copy."""
        return self._statistics

    def snapshot(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the figures by collection and operation, as plain dicts; latencies are in seconds."""
        with self._lock:
            return self._statistics.snapshot()

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        kind = _KINDS.get(operation.name)
        if kind is None:
            return await call(self.key_value)
        start = perf_counter()
        try:
            result = await call(self.key_value)
        except Exception:
            with self._lock:
                self._get_figures(kind, operation.collection).errors += 1
            raise
        bucket = bisect_left(LATENCY_BOUNDS, perf_counter() - start)
        count, hits = len(operation.keys), _count_hits(operation.name, result)
        with self._lock:
            figures = self._get_figures(kind, operation.collection)
            figures.latencies[bucket] += 1
            figures.further += count - 1
            if hits is not None:
                figures.hit += hits
                figures.miss += count - hits
        return result

    def _get_figures(self, kind: str, collection: str | None) -> OperationStatistics:
        return getattr(self._statistics.get_collection(DEFAULT_COLLECTION if collection is None else collection), kind)


def _count_hits(name: str, result: Any) -> int | None:
    """Return how many keys were there; None if that is not known."""
    if name == "get":
        return 0 if result is None else 1
    if name == "ttl":
        return 0 if result[0] is None else 1
    if name == "get_many":
        return sum(value is not None for value in result)
    if name == "ttl_many":
        return sum(value is not None for value, _ in result)
    return None if result is None else int(result)
