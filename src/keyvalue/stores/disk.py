"""A store in a directory, over diskcache (SQLite, with files for large values)."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# diskcache has no types.

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Sequence
from pathlib import Path
from typing import Any

from keyvalue._core import arguments, clock
from keyvalue._core.client import Client
from keyvalue._core.entry import Entry
from keyvalue._core.extras import needs
from keyvalue._core.flat import Change, EnumerableFlatStore
from keyvalue.errors import StoreConnectionError, StoreRefusedError

with needs("disk"):
    import diskcache

    from keyvalue.stores._diskcache import Row, SharedCache, open_cache

__all__ = ["DiskStore"]

_MINIMUM_SIZE = 2**20


class DiskStore(EnumerableFlatStore):
    """Keeps entries in a directory, shared by any number of processes on one machine.

    Format: diskcache's. The row `<collection>::<key>` (see `keyvalue._core.flat` for names that this would mix) holds the JSON document
    of `keyvalue._core.entry` as text; those of 32 KiB and more lie in side files. The row's `expire_time` is the entry's. Nothing is
    ever unpickled: a row that is not text is reported as unreadable.

    Expired rows are removed by later puts, ten at a time, and by `cull`. A write is on disk when `put` returns, as far as SQLite's
    write-ahead log with `synchronous=NORMAL` goes: it survives the process, and a power failure may lose the last ones.

    Calls run one at a time, in a worker thread on asyncio and trio.

    Args:
        disk_cache: A cache to share the directory of, with its settings. It stays yours: it is not used from other threads, nor closed.
        directory: The directory, instead of a cache.
        max_size: Bytes at which the entries stored least recently are evicted, SQLite's own pages included; at least 1 MiB. None or 0,
            the default, means no limit.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.
        auto_create: Whether to make the directory if it is missing. Default True.

    Raises:
        ValueError: Neither or both of `disk_cache` and `directory`, `max_size` too small, or the directory is missing and
            `auto_create` is False.
    """

    stability = "stable"
    runs_inline = True
    errors = (
        (diskcache.Timeout, StoreConnectionError, "the database is locked by another process"),
        (sqlite3.Error, StoreRefusedError, "SQLite refused; is the disk full, or the directory damaged or not writable?"),
        (OSError, StoreRefusedError, "the file system refused; is the disk full, or the directory not writable?"),
    )

    @arguments.checked
    def __init__(
        self,
        *,
        disk_cache: diskcache.Cache | None = None,
        directory: Path | str | None = None,
        max_size: int | None = None,
        default_collection: str | None = None,
        auto_create: bool = True,
    ) -> None:
        super().__init__(default_collection=default_collection)
        arguments.one_of("DiskStore", {"directory": directory, "disk_cache": disk_cache})
        arguments.directory(directory, auto_create)
        if max_size and max_size < _MINIMUM_SIZE:
            raise ValueError(
                f"max_size must be at least {_MINIMUM_SIZE} bytes, because SQLite's own pages count too; leave it out for no limit"
            )
        place = str(directory)
        settings: dict[str, Any]
        if disk_cache is not None:
            place = disk_cache.directory
            settings = {"timeout": disk_cache.timeout, "disk": type(disk_cache.disk)}
        elif max_size:
            settings = {"size_limit": max_size, "eviction_policy": "least-recently-stored"}
        else:
            settings = {"eviction_policy": "none"}
        self._client = Client("DiskStore", exclusive=True, make=lambda: open_cache(place, **settings))

    def _read(self, names: Sequence[str]) -> Awaitable[Sequence[bytes | None]]:
        return self._use(lambda cache: cache.documents(names))

    def _store(self, entries: Sequence[tuple[str, Entry]]) -> Awaitable[None]:
        def store(cache: SharedCache) -> None:
            if len(entries) == 1:
                cache.set(*_row(*entries[0]))
            else:
                cache.set_many([_row(name, entry) for name, entry in entries])

        return self._use(store)

    def _remove(self, names: Sequence[str]) -> Awaitable[Sequence[bytes | None]]:
        return self._use(lambda cache: cache.remove(names))

    def _exchange(self, changes: Sequence[Change]) -> Awaitable[Sequence[bool]]:
        return self._use(lambda cache: cache.exchange([(name, expected, entry and _row(name, entry)) for name, expected, entry in changes]))

    async def _list(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, bytes]], None]:
        last = None
        while True:
            rows, last = await self._use(lambda cache, last=last: cache.page(prefix, last))
            yield rows
            if last is None:
                return

    async def _cull(self, now: float) -> None:
        await super()._cull(now)
        await self._use(lambda cache: cache.expire())


def _row(name: str, entry: Entry) -> Row:
    # A millisecond more than what is left, lest SQLite's clock cut it short.
    return name, entry.document().decode(), None if entry.expires_at is None else entry.expires_at - clock.now() + 0.001
