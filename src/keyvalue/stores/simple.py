"""The simplest store that keeps anything: one dict."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import ClassVar

from keyvalue._core import clock, constructor
from keyvalue._core.entry import Entry
from keyvalue._core.listing import EnumerableStore, ListedEntry
from keyvalue._core.misuse import IN_ONE_PROCESS
from keyvalue._core.store import Stability

__all__ = ["SimpleStore"]


class SimpleStore(EnumerableStore):
    """Keeps entries in one dict of this process, for tests and as an example; `MemoryStore` is the one to use.

    Expired entries take up space until `cull` removes them, or until the store is full.

    Args:
        max_entries: At most so many entries in all. A put beyond it evicts the entry that was first put, unless expired ones make room.
            None, the default, means no limit.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.

    Attributes:
        max_entries: The limit; `sys.maxsize` for no limit.

    Raises:
        TypeError: `max_entries` is not an int.
        ValueError: It is not positive.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    _instead_of_copying = IN_ONE_PROCESS

    @constructor.check_types
    def __init__(self, max_entries: int | None = None, default_collection: str | None = None) -> None:
        super().__init__(default_collection=default_collection)
        constructor.check_count(max_entries, "max_entries")
        self.max_entries: int = sys.maxsize if max_entries is None else max_entries
        self._lock = threading.RLock()
        self._entries: dict[tuple[str, str], Entry] = {}

    def _after_fork(self) -> None:
        super()._after_fork()
        self._lock = threading.RLock()

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        with self._lock:
            return [self._entries.get((collection, key)) for key in keys]

    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        with self._lock:
            for entry in entries:
                pair = collection, entry.key
                if pair not in self._entries and len(self._entries) == self.max_entries:
                    self._free(clock.now())
                if pair not in self._entries and len(self._entries) == self.max_entries:
                    del self._entries[next(iter(self._entries))]
                self._entries[pair] = entry

    async def _delete(self, collection: str, keys: Sequence[str]) -> Sequence[bool]:
        now = clock.now()
        with self._lock:
            removed = [self._entries.pop((collection, key), None) for key in keys]
        return [entry is not None and entry.is_live(now) for entry in removed]

    async def _scan(self, collection: str | None) -> AsyncGenerator[Sequence[ListedEntry], None]:
        with self._lock:
            entries = list(self._entries.values())
        yield [ListedEntry(entry.collection, entry.key, entry.expires_at) for entry in entries if collection in (None, entry.collection)]

    async def _cull(self, now: float) -> None:
        with self._lock:
            self._free(now)

    def _free(self, now: float) -> None:
        for pair in [pair for pair, entry in self._entries.items() if not entry.is_live(now)]:
            del self._entries[pair]
