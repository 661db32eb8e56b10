"""A store in a directory, over diskcache (SQLite, with files for large values)."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# diskcache has no types.

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from keyvalue._core import constructor, wording
from keyvalue._core.clients import Clients
from keyvalue._core.driver import EnumerableDriverStore
from keyvalue._core.error_rules import FILE_SYSTEM_RULES, ErrorRule, ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.layout import KeyLayout
from keyvalue._core.store import Stability
from keyvalue.errors import StoreConnectionError, StoreRefusedError

with needs("disk"):
    import diskcache

    from keyvalue.stores._drivers import files
    from keyvalue.stores._drivers.disk import DirectoryLayout, DiskDriver, FactoryLayout, MultiDiskDriver
    from keyvalue.stores._drivers.disk_cache import settings_of, transient_reason

__all__ = ["DiskStore", "MultiDiskStore"]

_MINIMUM_SIZE = 2**20
_ERRORS = (
    ErrorRule(diskcache.Timeout, StoreConnectionError, "the database is locked by another process"),
    ErrorRule(sqlite3.OperationalError, StoreConnectionError, transient_reason, when=transient_reason),
    ErrorRule(sqlite3.Error, StoreRefusedError, "SQLite refused; the database may be damaged"),
    *FILE_SYSTEM_RULES,
)


class DiskStore(EnumerableDriverStore):
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

    @constructor.check_types
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
        constructor.require_one_of("DiskStore", {"directory": directory, "disk_cache": disk_cache})
        if directory is not None:
            place, settings = files.resolve_directory(directory, auto_create, file_mode), _settings(max_size)
        else:
            assert disk_cache is not None
            files.refuse_file_mode(file_mode, "disk_cache")
            place, settings = settings_of(disk_cache, "disk_cache must be")
        self._clients = Clients(
            "DiskStore",
            serialize_calls=True,
            is_current=lambda driver: driver.is_in_place(),
            at_fork="close",
            explain=lambda driver, error: driver.refusal(error),
            create=lambda: DiskDriver(place, **settings),
        )


class MultiDiskStore(EnumerableDriverStore):
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

    @constructor.check_types
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
        constructor.require_one_of("MultiDiskStore", {"base_directory": base_directory, "disk_cache_factory": disk_cache_factory})
        settings = _settings(max_size)
        if disk_cache_factory is not None:
            if not callable(disk_cache_factory):
                raise TypeError(
                    "disk_cache_factory must be a function that returns the diskcache.Cache of a collection, "
                    f"not {wording.describe(disk_cache_factory)}"
                )
            if max_size:
                raise ValueError("max_size is for caches that MultiDiskStore makes; let disk_cache_factory set size_limit")
        self.layout: KeyLayout = DirectoryLayout() if disk_cache_factory is None else FactoryLayout()
        if base_directory is not None:
            base = files.resolve_directory(base_directory, auto_create, file_mode)
        else:
            files.refuse_file_mode(file_mode, "disk_cache_factory")
            base = None
        self._clients = Clients(
            "MultiDiskStore",
            serialize_calls=True,
            at_fork="close",
            explain=MultiDiskDriver.refusal,
            create=lambda: MultiDiskDriver(base, disk_cache_factory, **settings),
        )

    if not TYPE_CHECKING:  # type checkers would take its parameters for the constructor's

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            """Create a store; over a factory, one without what only a store that knows all its collections can do."""
            return super().__new__(cls if kwargs.get("disk_cache_factory") is None else _FactoryStore)

        __new__.__signature__ = inspect.signature(__init__)


class _FactoryStore(MultiDiskStore):
    """What a MultiDiskStore with a factory is: without what only one that knows all its collections can do."""

    runs_inline = True
    # A method that is None is none, to `isinstance` with a protocol.
    collections = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
    destroy = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
    cull = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]


_FactoryStore.__name__ = _FactoryStore.__qualname__ = MultiDiskStore.__name__  # for messages


def _settings(max_size: int | None) -> dict[str, Any]:
    """Return the settings of diskcache for a limit on the size.

    Raises:
        TypeError: It is not an int.
        ValueError: It is too small.
    """
    if max_size is not None and not isinstance(max_size, int):
        raise TypeError(f"max_size must be a number of bytes, such as 100 * 2**20, not {wording.describe(max_size)}")
    if max_size and max_size < _MINIMUM_SIZE:
        raise ValueError(
            f"max_size must be at least {_MINIMUM_SIZE} bytes, because SQLite's own pages count too; leave it out for no limit"
        )
    return {"size_limit": max_size, "eviction_policy": "least-recently-stored"} if max_size else {"eviction_policy": "none"}
