"""A store in a directory, over diskcache (SQLite, with files for large values)."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# diskcache has no types.

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from keyvalue._core import constructor, wording
from keyvalue._core.clients import Clients
from keyvalue._core.driver import EnumerableDriverStore
from keyvalue._core.error_rules import ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.layout import KeyLayout
from keyvalue._core.store import Stability

with needs("disk"):
    import diskcache

    from keyvalue.stores._drivers import files
    from keyvalue.stores._drivers.disk import DirectoryLayout, DiskDriver, FactoryLayout, MultiDiskDriver
    from keyvalue.stores._drivers.disk_cache import ERRORS, settings_for, settings_of

__all__ = ["DiskStore", "MultiDiskStore"]


class DiskStore(EnumerableDriverStore):
    """Keeps entries in a directory, shared by any number of processes on one machine.

    Format: a diskcache directory. The row `<collection>::<key>` (`keyvalue._core.layout` has the exceptions) holds the JSON document of
    `keyvalue._core.entry` as text; documents of 32 KiB and more are in files beside the database. The row's `expire_time` is the entry's
    expiry. The store never unpickles: a row that is not text raises `DeserializationError`.

    Later puts remove expired rows, ten at a time; so does `cull`. When `put` returns, the write is in SQLite's write-ahead log, with
    `synchronous=NORMAL`: it survives the end of the process, but a power failure may lose the most recent writes.

    If the directory is removed or moved while it is open, the next call creates it again and finds the store empty. With `disk_cache` or
    `auto_create=False`, calls raise `StoreSetupError` until the directory is back.

    Calls run one at a time, in a worker thread on asyncio and trio.

    Args:
        disk_cache: A cache with the directory and the settings to use. The store never closes it, nor uses it in other threads.
        directory: The directory, instead of a cache. A leading `~` and variables such as `$HOME` are expanded, unless a directory with
            that very name exists. Changing the working directory later has no effect.
        max_size: Bytes, SQLite's own pages included, above which the entries stored least recently are evicted; at least 1 MiB. None (the
            default) or 0 means no limit. A cache that you pass keeps its own limit.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
        auto_create: Whether to create the directory if it is missing. Default True.
        file_mode: The mode of the database if the store creates it, and of all files beside it, such as `0o640`, whatever the umask.
            Directories add search permission for those who may read. Default None: 0600, and 0700 for directories. Existing files and
            directories keep their modes. No effect on Windows. Not with `disk_cache`.

    Raises:
        TypeError: `file_mode` or `max_size` is not an int, `directory` not a str or Path, or `disk_cache` not a diskcache.Cache.
        ValueError: Neither or both of `disk_cache` and `directory`; `max_size` is too small; `file_mode` lacks read and write permission
            for the owner, has bits other than read and write, or is combined with `disk_cache`; the directory is missing and `auto_create`
            is False; or its path can't be encoded.
        StoreSetupError: On use: the directory can't be opened or created, or was removed.
        StoreRefusedError: On use: the disk is full, or this user has lost access to the directory.
    """

    stability: ClassVar[Stability] = "stable"
    runs_inline = True
    errors: ErrorRules = ERRORS

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
            place, settings = files.resolve_directory(directory, auto_create, file_mode), settings_for(max_size)
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
    """Keeps each collection in a directory of its own, shared by any number of processes on one machine.

    Format: each directory is a diskcache directory as in `DiskStore`, but the name of a row is the key alone. The directory has the name of
    the collection. If that is not a valid directory name, or another collection uses it, the name is `~` and the SHA-256 of the collection
    in hexadecimal; the same goes for a key with a row that another entry uses. Each document records the key and collection it belongs to.

    Expiry, durability, threads and removed directories are as in `DiskStore`. At most 32 directories are open at a time.

    Args:
        disk_cache_factory: Returns the diskcache.Cache of a collection; the store uses its directory and settings. The store calls it in a
            worker thread, more than once for a collection, and when reading too. With a factory, the store can list keys and destroy a
            collection, but does not know which collections exist.
        base_directory: The parent of the directories, instead of a factory; expanded as in `DiskStore`.
        max_size: Bytes for each collection; see `DiskStore`.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
        auto_create: Whether to create the base directory if it is missing. Default True.
        file_mode: As in `DiskStore`, for the databases of all collections. Default None. Not with a factory.

    Raises:
        TypeError: `file_mode` or `max_size` is not an int, `base_directory` not a str or Path, or the factory not a function; on use: it
            returns something other than a diskcache.Cache.
        ValueError: Neither or both of `disk_cache_factory` and `base_directory`; `max_size` is too small or combined with a factory;
            `file_mode` as in `DiskStore`; the base directory is missing and `auto_create` is False; or its path can't be encoded.
        StoreSetupError: On use: a directory can't be opened or created, or was removed.
        PathSecurityError: On use: the directory of a collection is a link.
    """

    stability: ClassVar[Stability] = "stable"
    runs_inline = True
    errors: ErrorRules = ERRORS

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
        settings = settings_for(max_size)
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
    # To `isinstance` with a protocol, a method that is None does not exist.
    collections = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
    destroy = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
    cull = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]


_FactoryStore.__name__ = _FactoryStore.__qualname__ = MultiDiskStore.__name__  # for messages
