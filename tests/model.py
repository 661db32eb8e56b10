"""What section 3 of the contract says a store holds, as plain dicts: the state machine compares every store with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, SupportsFloat

DEFAULT_COLLECTION = "default_collection"

TICK = 1 / 64
"""The clock's smallest step. A float holds any multiple of it exactly, in seconds and in microseconds."""

_EXACT_UNTIL = 2.0**32
_COARSE = 1e-3


class Held(NamedTuple):
    """A value, and when it ends: not before `earliest`, and from `latest` on it is gone. Both are None if it never ends."""

    value: dict[str, Any]
    earliest: float | None = None
    latest: float | None = None


class Model:
    """The entries of a store, and the clock.

    Stores keep deadlines to the microsecond, rounded up. So one that is a multiple of `TICK` is exact here, and any other is a short
    interval, in which the clock never stands still.
    """

    def __init__(self, now: float, limit: int | None = None) -> None:
        self.now = now  # a multiple of `TICK`
        self._limit = limit  # of entries in each collection, as for `MemoryStore`
        self._collections: dict[str, dict[str, Held]] = {}

    # The clock.

    def advance(self, seconds: float) -> None:
        self._stand_at(self.now + seconds)

    def next_deadline(self, within: float) -> float | None:
        """Return the first deadline, if it is exact and not further ahead than asked for."""
        deadlines = [held.latest for held in self._all() if held.latest is not None and held.latest == held.earliest]
        first = min(deadlines, default=None)
        return first if first is not None and first <= self.now + within else None

    def _stand_at(self, moment: float) -> None:
        for held in sorted(self._all(), key=lambda held: held.earliest or 0.0):
            if held.earliest is not None and held.latest is not None and held.earliest <= moment < held.latest:
                moment += TICK
        self.now = moment
        for entries in self._collections.values():
            for key in [key for key, held in entries.items() if held.latest is not None and held.latest <= moment]:
                del entries[key]

    def _all(self) -> Iterable[Held]:
        return (held for entries in self._collections.values() for held in entries.values())

    def _entries(self, collection: str | None) -> dict[str, Held]:
        return self._collections.setdefault(collection or DEFAULT_COLLECTION, {})

    # What calls do.

    def put(self, collection: str | None, items: Sequence[tuple[str, dict[str, Any]]], ttl: SupportsFloat | None) -> None:
        """Put JSON values. A bulk call counts as one use of each key, in the order in which they are first named."""
        entries = self._entries(collection)
        for key, value in dict(items).items():
            entries.pop(key, None)
            entries[key] = self._held(value, ttl)
            if self._limit is not None and len(entries) > self._limit:
                del entries[next(iter(entries))]
        self._stand_at(self.now)

    def read(self, collection: str | None, keys: Sequence[str]) -> list[Held | None]:
        """Return what a read of keys finds. It counts as their use."""
        entries = self._entries(collection)
        for key in dict.fromkeys(keys):
            if key in entries:
                entries[key] = entries.pop(key)
        return [entries.get(key) for key in keys]

    def delete(self, collection: str | None, keys: Sequence[str]) -> int:
        """Delete keys and return how many there were."""
        entries = self._entries(collection)
        return sum(entries.pop(key, None) is not None for key in keys)

    def keys(self, collection: str | None) -> set[str]:
        return set(self._entries(collection))

    def collections(self) -> set[str]:
        return {name for name, entries in self._collections.items() if entries}

    def destroy_collection(self, collection: str) -> bool:
        return bool(self._collections.pop(collection, None))

    def clear(self) -> None:
        self._collections.clear()

    def _held(self, value: dict[str, Any], ttl: SupportsFloat | None) -> Held:
        if ttl is None:
            return Held(value)
        deadline = self.now + float(ttl)
        if deadline >= _EXACT_UNTIL:
            return Held(value, deadline - _COARSE, deadline + _COARSE)
        if deadline % TICK == 0 and float(ttl) % TICK == 0:
            return Held(value, deadline, deadline)
        return Held(value, deadline - 1e-6, deadline + 2e-6)
