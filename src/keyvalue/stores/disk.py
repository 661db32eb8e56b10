"""A store in a directory, over diskcache (SQLite, with files for large values)."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# diskcache has no types.

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Sequence
from pathlib import Path
from typing import Any

from keyvalue._core import arguments, clock
from keyvalue._core.client import Client
from keyvalue._core.entry import Entry
from keyvalue._core.extras import needs
from keyvalue._core.flat import UNREADABLE, EnumerableFlatStore
from keyvalue.errors import StoreConnectionError, StoreRefusedError

with needs("disk"):
    import diskcache
    from diskcache.core import DBNAME, MODE_BINARY, MODE_RAW, MODE_TEXT

__all__ = ["DiskStore"]

_PAGE = 500  # rows a query; SQLite takes at least 999 parameters
_MINIMUM_SIZE = 2**20
_SIDE_FILE = re.compile(r"[0-9a-f]{2}[/\\][0-9a-f]{2}[/\\][0-9a-f]+\.val")


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
        if disk_cache is not None:
            disk = type("_Disk", (_Careful, type(disk_cache.disk)), {})
            self._client = Client("DiskStore", exclusive=True, make=lambda: _Cache(disk_cache.directory, disk_cache.timeout, disk))
            self._plain_keys = type(disk_cache.disk) is diskcache.Disk
        else:
            settings: dict[str, Any] = {"size_limit": max_size} if max_size else {"eviction_policy": "none"}
            self._client = Client("DiskStore", exclusive=True, make=lambda: _Cache(str(directory), disk=_Disk, **settings))
            self._plain_keys = True

    def _read(self, names: Sequence[str]) -> Awaitable[Sequence[bytes | None]]:
        return self._use(lambda cache: cache.documents(names))

    def _store(self, entries: Sequence[tuple[str, Entry]]) -> Awaitable[None]:
        now = clock.now()
        rows = [
            # A millisecond more than what is left, lest SQLite's clock cut it short.
            (name, entry.document().decode(), None if entry.expires_at is None else entry.expires_at - now + 0.001)
            for name, entry in entries
        ]

        def store(cache: _Cache) -> None:
            if len(rows) == 1:
                ((name, text, expire),) = rows
                cache.set(name, text, expire)
                return
            with cache.transact():
                for name, text, expire in rows:
                    cache.set(name, text, expire)

        return self._use(store)

    def _remove(self, names: Sequence[str]) -> Awaitable[Sequence[bytes | None]]:
        def remove(cache: _Cache) -> Sequence[bytes | None]:
            with cache.transact():
                found = cache.documents(names)
                for name, document in zip(names, found, strict=True):
                    if document is not None:
                        cache.delete(name)
            return found

        return self._use(remove)

    def _discard(self, documents: Sequence[tuple[str, bytes]]) -> Awaitable[None]:
        def discard(cache: _Cache) -> None:
            with cache.transact():
                for name, document in documents:
                    if cache.documents([name]) == [document]:
                        cache.delete(name)

        return self._use(discard)

    async def _list(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, bytes]], None]:
        last: object = None
        while True:
            rows = await self._use(lambda cache, last=last: cache.page(prefix if self._plain_keys else "", last))
            if not rows:
                return
            yield [(name, document) for _, name, document in rows if name.startswith(prefix)]
            last = rows[-1][0]

    async def _cull(self, now: float) -> None:
        await super()._cull(now)
        await self._use(lambda cache: cache.expire())


class _Careful:
    """What a diskcache disk must not do for a row that someone else may have planted: unpickle, or touch a file elsewhere."""

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode not in (MODE_RAW, MODE_TEXT, MODE_BINARY) or not (filename is None or _SIDE_FILE.fullmatch(filename)):
            return UNREADABLE
        return super().fetch(mode, filename, value, read)  # pyright: ignore[reportAttributeAccessIssue] # mixed into a Disk

    def remove(self, file_path: str) -> None:
        if _SIDE_FILE.fullmatch(file_path):
            super().remove(file_path)  # pyright: ignore[reportAttributeAccessIssue] # mixed into a Disk


class _Disk(_Careful, diskcache.Disk):
    pass


class _Cache(diskcache.Cache):
    """A cache with one connection for all threads, so that closing it leaves none open. Its user must see to one call at a time."""

    _shared: sqlite3.Connection | None = None

    @property
    def _con(self) -> sqlite3.Connection:
        if self._shared is None:
            self._shared = sqlite3.connect(
                os.path.join(self.directory, DBNAME), timeout=self.timeout, isolation_level=None, check_same_thread=False
            )
            try:
                settings = self._shared.execute("SELECT key, value FROM Settings WHERE key LIKE 'sqlite_%'").fetchall()
            except sqlite3.OperationalError:  # a new database has no settings yet
                settings = []
            for key, value in settings:
                self.reset(key, value, update=False)
        return self._shared

    def close(self) -> None:
        connection, self._shared = self._shared, None
        if connection is not None:
            connection.close()

    def documents(self, names: Sequence[str]) -> list[bytes | None]:
        """Return the documents under some names, None where there is none."""
        keys = [self.disk.put(name)[0] for name in names]
        found: dict[Any, bytes] = {}
        for start in range(0, len(keys), _PAGE):
            some = keys[start : start + _PAGE]
            where = "= ?" if len(some) == 1 else f"IN ({','.join('?' * len(some))})"
            query = f"SELECT key, mode, filename, value FROM Cache WHERE raw = 1 AND key {where}"  # noqa: S608 # only question marks
            for key, mode, filename, value in self._sql(query, some).fetchall():
                found[key] = self._document(mode, filename, value)
        return [found.get(key) for key in keys]

    def page(self, prefix: str, last: object) -> list[tuple[object, str, bytes]]:
        """Return the next rows after a key, as (key in the database, name, document)."""
        where = "raw = 1 AND typeof(key) IN ('text', 'blob')"
        parameters: list[object] = []
        if prefix:
            where += " AND key >= ? AND key < ?"
            parameters += [prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)]
        if last is not None:
            where += " AND key > ?"
            parameters += [last]
        query = f"SELECT key, mode, filename, value FROM Cache WHERE {where} ORDER BY key LIMIT {_PAGE}"  # noqa: S608 # only question marks
        rows = self._sql(query, parameters).fetchall()
        # raw = 1 says that the key is no pickle.
        return [(key, str(self.disk.get(key, True)), self._document(mode, filename, value)) for key, mode, filename, value in rows]

    def _document(self, mode: int, filename: str | None, value: Any) -> bytes:
        try:
            document = self.disk.fetch(mode, filename, value, False)
        except (OSError, ValueError):  # the side file is gone, or no text
            return UNREADABLE
        return document.encode() if isinstance(document, str) else document if isinstance(document, bytes) else UNREADABLE
