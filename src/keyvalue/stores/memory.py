"""A store in this process's memory."""

from __future__ import annotations

import heapq
import sys
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, ClassVar

from keyvalue._core import arguments, clock, codec, constructor
from keyvalue._core.entry import Entry
from keyvalue._core.listing import EnumerableStore, ListedEntry
from keyvalue._core.misuse import IN_ONE_PROCESS
from keyvalue._core.store import Stability

__all__ = ["MemoryStore"]

_EMPTY: Mapping[str, Entry] = {}


class MemoryStore(EnumerableStore):
    """Keeps entries in this process, as JSON text, so a value that you get shares no object with the one that you put.

    The next call on the store, of any kind, frees expired entries. Calls never wait, so they are not checkpoints: a loop that only makes
    such calls never yields to other tasks.

    Args:
        max_entries_per_collection: The most entries in a collection. A put beyond it evicts the entry that was least recently read or
            written, unless expired entries make room. None, the default, means no limit.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
        seed: Entries to start with, as `{collection: {key: value}}`; they never expire.

    Attributes:
        max_entries_per_collection: The limit; `sys.maxsize` without one.

    Raises:
        ValueError: `max_entries_per_collection` is not positive.
        InvalidKeyError: A name in the seed is empty or can't be encoded.
        SerializationError: A value in the seed is not JSON.
        TypeError: The seed has another form, or `max_entries_per_collection` is not an int.
    """

    stability: ClassVar[Stability] = "stable"
    runs_inline = True
    _instead_of_copying = IN_ONE_PROCESS

    @constructor.check_types
    def __init__(
        self,
        *,
        max_entries_per_collection: int | None = None,
        default_collection: str | None = None,
        seed: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    ) -> None:
        super().__init__(default_collection=default_collection)
        constructor.check_count(max_entries_per_collection, "max_entries_per_collection")
        self.max_entries_per_collection: int = sys.maxsize if max_entries_per_collection is None else max_entries_per_collection
        self._lock = threading.RLock()
        self._collections: dict[str, OrderedDict[str, Entry]] = {}
        self._size = 0
        self._deadlines: list[tuple[float, str, str]] = []  # a heap; entries put again or deleted leave theirs behind
        now = clock.now()
        seed = {} if seed is None else seed
        if not isinstance(seed, Mapping) or not all(isinstance(values, Mapping) for values in seed.values()):
            raise TypeError("seed takes {collection: {key: value}}")
        for collection, values in seed.items():
            arguments.check_name(collection, "collection")
            for key, value in values.items():
                arguments.check_mapping(value)
                entry = Entry(collection, arguments.check_name(key, "key"), None, codec.encode(value), now)
                self._insert(entry)

    def _after_fork(self) -> None:
        super()._after_fork()
        self._lock = threading.RLock()

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        with self._lock:
            self._free(clock.now())
            entries = self._collections.get(collection)
            if entries is None:
                return [None] * len(keys)
            if self.max_entries_per_collection < sys.maxsize:
                for key in keys:
                    if key in entries:
                        entries.move_to_end(key)
            return [entries.get(key) for key in keys]

    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        with self._lock:
            self._free(clock.now())
            for entry in entries:
                self._insert(entry)

    async def _delete(self, collection: str, keys: Sequence[str]) -> Sequence[bool]:
        with self._lock:
            self._free(clock.now())
            return [self._pop(collection, key) for key in keys]

    async def _scan(self, collection: str | None) -> AsyncGenerator[Sequence[ListedEntry], None]:
        with self._lock:
            self._free(clock.now())
            names = self._collections if collection is None else [collection]
            rows = [
                ListedEntry(name, entry.key, entry.expires_at) for name in names for entry in self._collections.get(name, _EMPTY).values()
            ]
        yield rows

    async def _cull(self, now: float) -> None:
        with self._lock:
            self._free(now)

    def _insert(self, entry: Entry) -> None:
        entries = self._collections.get(entry.collection)
        if entries is None:
            entries = self._collections[entry.collection] = OrderedDict()
        if entry.key not in entries:
            self._size += 1
        entries[entry.key] = entry
        if self.max_entries_per_collection < sys.maxsize:
            entries.move_to_end(entry.key)
            if len(entries) > self.max_entries_per_collection:
                entries.popitem(last=False)
                self._size -= 1
        if entry.expires_at is not None:
            heapq.heappush(self._deadlines, (entry.expires_at, entry.collection, entry.key))
            self._prune()

    def _pop(self, collection: str, key: str) -> bool:
        entries = self._collections.get(collection)
        if entries is None or entries.pop(key, None) is None:
            return False
        self._size -= 1
        if not entries:
            del self._collections[collection]
        self._prune()
        return True

    def _prune(self) -> None:
        """Forget stale deadlines once they are the majority."""
        if len(self._deadlines) > 2 * self._size + 64:
            self._deadlines = [
                (entry.expires_at, entry.collection, entry.key)
                for entries in self._collections.values()
                for entry in entries.values()
                if entry.expires_at is not None
            ]
            heapq.heapify(self._deadlines)

    def _free(self, now: float) -> None:
        """Remove expired entries."""
        while self._deadlines and self._deadlines[0][0] <= now:
            expires_at, collection, key = heapq.heappop(self._deadlines)
            entry = self._collections.get(collection, _EMPTY).get(key)
            if entry is not None and entry.expires_at == expires_at:
                self._pop(collection, key)
