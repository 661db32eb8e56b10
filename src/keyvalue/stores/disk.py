"""A store in a directory, over diskcache (SQLite, with files for large values)."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# diskcache has no types.

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from keyvalue._core import arguments, clock
from keyvalue._core.client import Client
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.error_rules import ErrorRule, ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.layout import KeyLayout, Slot, digest
from keyvalue._core.listing import EnumerableFlatStore
from keyvalue._core.store import Stability
from keyvalue.errors import StoreConnectionError, StoreRefusedError

with needs("disk"):
    import diskcache
    from pathvalidate import sanitize_filename

    from keyvalue.stores._diskcache import CacheDirectory, CacheRow, SharedCache, open_cache, settings_of, transient_reason

__all__ = ["DiskStore", "MultiDiskStore"]

T = TypeVar("T")

_MINIMUM_SIZE = 2**20
_DIGEST = re.compile(r"~[0-9a-f]{64}")
_ERRORS = (
    ErrorRule(diskcache.Timeout, StoreConnectionError, "the database is locked by another process"),
    ErrorRule(sqlite3.OperationalError, StoreConnectionError, transient_reason, when=transient_reason),
    ErrorRule(sqlite3.Error, StoreRefusedError, "SQLite refused; the database may be damaged"),
    ErrorRule(OSError, StoreRefusedError, "the file system refused"),
)


class DiskStore(EnumerableFlatStore):
    """Keeps entries in a directory, shared by any number of processes on one machine.

    Format: diskcache's. The row `<collection>::<key>` (see `keyvalue._core.layout` for names that this would mix) holds the JSON document
    of `keyvalue._core.entry` as text; those of 32 KiB and more lie in side files. The row's `expire_time` is the entry's. Nothing is
    ever unpickled: a row that is not text is reported as unreadable.

    Expired rows are removed by later puts, ten at a time, and by `cull`. A write is on disk when `put` returns, as far as SQLite's
    write-ahead log with `synchronous=NORMAL` goes: it survives the process, and a power failure may lose the last ones.

    If the directory is removed or moved while it is open, the next call finds the store empty and makes the directory again; with
    `disk_cache` or `auto_create=False`, calls raise `StoreSetupError` until it is back.

    Calls run one at a time, in a worker thread on asyncio and trio.

    Args:
        disk_cache: A cache to share the directory of, with its settings. It stays yours: it is not used from other threads, nor closed.
        directory: The directory, instead of a cache. A leading `~` and variables such as `$HOME` are expanded, unless a directory of just
            that name is there; the path is absolute from then on.
        max_size: Bytes at which the entries stored least recently are evicted, SQLite's own pages included; at least 1 MiB. None or 0,
            the default, means no limit. A given cache keeps its own.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.
        auto_create: Whether to make the directory if it is missing. Default True.
        file_mode: The mode of the database if the store creates it, and so of all files beside it, such as `0o640`. Directories get it
            with search permission for those who may read. The umask does not change it. Default None: 0600, and 0700 for directories. Files
            and directories that exist keep their modes. Windows ignores it. Not with `disk_cache`.

    Raises:
        TypeError: `file_mode` or `max_size` is not an int, `directory` not a str or Path, or `disk_cache` not a diskcache.Cache.
        ValueError: Neither or both of `disk_cache` and `directory`, `max_size` too small, `file_mode` without read and write permission for
            the owner, with other bits than read and write, or with `disk_cache`, the directory is missing and `auto_create` is False, or
            its path can't be encoded.
        StoreSetupError: On use: the directory can't be opened or made, or was removed.
        StoreRefusedError: On use: the disk is full, or this user lost the rights to the directory.
    """

    stability: ClassVar[Stability] = "stable"
    runs_inline = True
    errors: ErrorRules = _ERRORS

    @arguments.checked
    def __init__(
        self,
        *,
        disk_cache: diskcache.Cache | None = None,
        directory: Path | str | None = None,
        max_size: int | None = None,
        default_collection: str | None = None,
        auto_create: bool = True,
        file_mode: int | None = None,
    ) -> None:
        super().__init__(default_collection=default_collection)
        arguments.one_of("DiskStore", {"directory": directory, "disk_cache": disk_cache})
        if directory is not None:
            place, settings = arguments.directory(directory, auto_create, file_mode), _settings(max_size)
        else:
            assert disk_cache is not None
            arguments.refuse_file_mode(file_mode, "disk_cache")
            place, settings = settings_of(disk_cache, "disk_cache must be")
        self._client = Client(
            "DiskStore",
            exclusive=True,
            is_current=SharedCache.is_in_place,
            at_fork="close",
            explain=SharedCache.refusal,
            make=lambda: open_cache(place, **settings),
        )

    def _read(self, names: Sequence[str], *, lenient: bool = False) -> Awaitable[Sequence[Stored | None]]:
        return self._use(lambda cache: cache.read_all(names))

    def _write(self, rows: Sequence[tuple[str, Entry]]) -> Awaitable[None]:
        def write(cache: SharedCache) -> None:
            if len(rows) == 1:
                cache.set(*_row(*rows[0]))
            else:
                cache.set_many([_row(name, entry) for name, entry in rows])

        return self._use(write)

    def _pop(self, names: Sequence[str]) -> Awaitable[Sequence[Stored | None]]:
        return self._use(lambda cache: cache.pop_all(names))

    def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Awaitable[Sequence[bool]]:
        return self._use(
            lambda cache: cache.compare_and_set([(name, version, entry and _row(name, entry)) for name, version, entry in changes])
        )

    async def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        last = None
        while True:
            rows, last = await self._use(lambda cache, last=last: cache.page(prefix, last))
            yield rows
            if last is None:
                return

    async def _cull(self, now: float) -> None:
        await super()._cull(now)
        await self._use(lambda cache: cache.expire())


class MultiDiskStore(EnumerableFlatStore):
    """Keeps the entries of each collection in a directory of its own, each shared by any number of processes on one machine.

    Format: each directory is diskcache's, as in `DiskStore`, except that the row of an entry is the key alone. The directory is named after
    the collection. A collection that can't name one, or that shares its name with another one's, has a directory that is
    named by `~` and the SHA-256 of its name in hexadecimal; so have keys of a collection whose rows others hold. Whose a row is, is
    written in its document.

    Expiry, durability, threads and what happens when a directory is removed are as in `DiskStore`. At most 32 directories are open at
    a time.

    Args:
        disk_cache_factory: Returns the diskcache.Cache of a collection, whose directory and settings are used. It is called in a worker
            thread, more than once for a collection, also when reading. The store can then list keys and destroy a collection, but does
            not know which collections there are.
        base_directory: The directory of the directories, instead of a factory; expanded as in `DiskStore`.
        max_size: Bytes for each collection; see `DiskStore`.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.
        auto_create: Whether to make the base directory if it is missing. Default True.
        file_mode: As in `DiskStore`, for the databases of all collections. Default None. Not with a factory.

    Raises:
        TypeError: `file_mode` or `max_size` is not an int, `base_directory` not a str or Path, or the factory not a function; on use: it
            returns something other than a diskcache.Cache.
        ValueError: Neither or both of `disk_cache_factory` and `base_directory`, `max_size` too small or given with a factory, `file_mode`
            as in `DiskStore`, the base directory is missing and `auto_create` is False, or its path can't be encoded.
        StoreSetupError: On use: a directory can't be opened or made, or was removed.
        PathSecurityError: On use: the directory of a collection is a link.
    """

    stability: ClassVar[Stability] = "stable"
    runs_inline = True
    errors: ErrorRules = _ERRORS

    @arguments.checked
    def __init__(
        self,
        *,
        disk_cache_factory: Callable[[str], diskcache.Cache] | None = None,
        base_directory: Path | str | None = None,
        max_size: int | None = None,
        default_collection: str | None = None,
        auto_create: bool = True,
        file_mode: int | None = None,
    ) -> None:
        super().__init__(default_collection=default_collection)
        arguments.one_of("MultiDiskStore", {"base_directory": base_directory, "disk_cache_factory": disk_cache_factory})
        settings = _settings(max_size)
        if disk_cache_factory is not None:
            if not callable(disk_cache_factory):
                raise TypeError(
                    "disk_cache_factory must be a function that returns the diskcache.Cache of a collection, "
                    f"not {arguments.article(disk_cache_factory)}"
                )
            if max_size:
                raise ValueError("max_size is for caches that MultiDiskStore makes; let disk_cache_factory set size_limit")
            self.__class__ = _FactoryStore  # pyright: ignore[reportAttributeAccessIssue] # nobody derives from it
        self.layout: KeyLayout = _DirectoryNames() if disk_cache_factory is None else _FactoryNames()
        if base_directory is not None:
            base = arguments.directory(base_directory, auto_create, file_mode)
        else:
            arguments.refuse_file_mode(file_mode, "disk_cache_factory")
            base = None
        self._client = Client(
            "MultiDiskStore",
            exclusive=True,
            at_fork="close",
            explain=CacheDirectory.refusal,
            make=lambda: CacheDirectory(base, disk_cache_factory, **settings),
        )

    def _read(self, names: Sequence[str], *, lenient: bool = False) -> Awaitable[Sequence[Stored | None]]:
        def read(caches: CacheDirectory) -> Sequence[Stored | None]:
            found: dict[str, Stored | None] = {}
            for directory, some in _by_directory(names, lambda name: name):
                cache = caches.cache(directory, create=False)
                if cache is not None:
                    found |= zip(some, cache.read_all([_key(name) for name in some]), strict=True)
            return [found.get(name) for name in names]

        return self._use(read)

    def _write(self, rows: Sequence[tuple[str, Entry]]) -> Awaitable[None]:
        def write(caches: CacheDirectory) -> None:
            for directory, some in _by_directory(rows, lambda row: row[0]):
                cache = caches.cache(directory, create=True)
                assert cache is not None
                cache.set_many([_row(_key(name), entry) for name, entry in some])

        return self._use(write)

    def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Awaitable[Sequence[bool]]:
        def exchange(caches: CacheDirectory) -> Sequence[bool]:
            made: dict[str, bool] = {}
            for directory, some in _by_directory(changes, lambda change: change.name):
                cache = caches.cache(directory, create=True)
                assert cache is not None
                rows = [(_key(name), version, entry and _row(_key(name), entry)) for name, version, entry in some]
                made |= zip([change.name for change in some], cache.compare_and_set(rows), strict=True)
            return [made[change.name] for change in changes]

        return self._use(exchange)

    async def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        directories = [_directory(prefix)] if prefix else await self._use(lambda caches: caches.names())
        for directory in directories:
            last = None
            while True:

                def page(caches: CacheDirectory, directory: str = directory, last: Any = last) -> tuple[list[tuple[str, Stored]], Any]:
                    cache = caches.cache(directory, create=False)
                    return ([], None) if cache is None else cache.page("", last)

                rows, last = await self._use(page)
                yield [(_name(directory, key), stored) for key, stored in rows]
                if last is None:
                    break

    async def _cull(self, now: float) -> None:
        await super()._cull(now)
        for directory in await self._use(lambda caches: caches.names()):
            await self._use(lambda caches, directory=directory: (cache := caches.cache(directory, create=False)) and cache.expire())


class _FactoryStore(MultiDiskStore):
    """What a MultiDiskStore with a factory is: without what only one that knows all its collections can do."""

    runs_inline = True
    # A method that is None is none, to `isinstance` with a protocol.
    collections = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
    destroy = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
    cull = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]


_FactoryStore.__name__ = _FactoryStore.__qualname__ = MultiDiskStore.__name__  # for messages


class _FactoryNames(KeyLayout):
    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        return (Slot(_name(collection, key)),)

    def prefixes(self, collection: str) -> Sequence[str]:
        return (_name(collection, ""),)

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str]:
        return [_name(collection, key) for key in keys]


class _DirectoryNames(KeyLayout):
    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        return [Slot(prefix + key, kind) for prefix, kind in _directories(collection)]

    def prefixes(self, collection: str) -> Sequence[str]:
        return [prefix for prefix, _ in _directories(collection)]


@lru_cache(1024)  # pathvalidate takes its time
def _directories(collection: str) -> Sequence[Slot]:
    """Return what the names of a collection's slots start with."""
    own = Slot(_name(digest(collection), ""))
    directory = sanitize_filename(collection, fs_encoding="utf-8")
    if directory in ("", ".", ".."):
        return (own,)
    if directory == collection and not _DIGEST.fullmatch(collection):
        return Slot(_name(directory, ""), "shared"), own
    return own, Slot(_name(directory, ""), "strict")


# A name is the directory's length, `/`, the directory and the key.


def _name(directory: str, key: str) -> str:
    return f"{len(directory)}/{directory}{key}"


def _directory(name: str) -> str:
    length, _, rest = name.partition("/")
    return rest[: int(length)]


def _key(name: str) -> str:
    length, _, rest = name.partition("/")
    return rest[int(length) :]


def _by_directory(items: Sequence[T], name: Callable[[T], str]) -> Iterable[tuple[str, list[T]]]:
    found: dict[str, list[T]] = {}
    for item in items:
        found.setdefault(_directory(name(item)), []).append(item)
    return found.items()


def _settings(max_size: int | None) -> dict[str, Any]:
    """Return the settings of diskcache for a limit on the size.

    Raises:
        TypeError: It is not an int.
        ValueError: It is too small.
    """
    if max_size is not None and not isinstance(max_size, int):
        raise TypeError(f"max_size must be a number of bytes, such as 100 * 2**20, not {arguments.article(max_size)}")
    if max_size and max_size < _MINIMUM_SIZE:
        raise ValueError(
            f"max_size must be at least {_MINIMUM_SIZE} bytes, because SQLite's own pages count too; leave it out for no limit"
        )
    return {"size_limit": max_size, "eviction_policy": "least-recently-stored"} if max_size else {"eviction_policy": "none"}


def _row(name: str, entry: Entry) -> CacheRow:
    # A millisecond more than what is left, lest SQLite's clock cut it short.
    return name, entry.document().decode(), None if entry.expires_at is None else entry.expires_at - clock.now() + 0.001
