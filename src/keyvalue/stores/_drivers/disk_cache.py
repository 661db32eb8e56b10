"""A diskcache.Cache that is safe and tidy enough to keep entries in."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# diskcache has no types.

from __future__ import annotations

import errno
import inspect
import os
import re
import sqlite3
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, cast

import diskcache
from diskcache.core import DBNAME, MODE_BINARY, MODE_RAW, MODE_TEXT

from keyvalue._core import file_errors, wording
from keyvalue._core.entry import Stored
from keyvalue._core.error_rules import FILE_SYSTEM_RULES, ErrorRule
from keyvalue._core.listing import PAGE, take_page
from keyvalue.errors import StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores._drivers import files
from keyvalue.stores._drivers.batches import split_chunks
from keyvalue.stores._drivers.files import Directory, WatchedFile

__all__ = ["ERRORS", "CacheRow", "SharedCache", "holds_cache", "open_cache", "settings_for", "settings_of"]

CacheRow = tuple[str, str, float | None]
"""What is set: a name, a text, and the seconds that it has to live."""

_ATTEMPTS = 10
_MINIMUM_SIZE = 2**20
_LOCKED = re.compile("locked|locking protocol")
_SIDE_FILE = re.compile(r"[0-9a-f]{2}[/\\][0-9a-f]{2}[/\\][0-9a-f]+\.val")


def open_cache(directory: Directory, *, given: WatchedFile | None = None, disk: type[Any] = diskcache.Disk, **settings: Any) -> SharedCache:
    """Open the cache in a directory.

    Args:
        directory: The directory.
        given: The database of the diskcache.Cache that is shared, if one was given.
        disk: How rows are encoded; made careful here.
        settings: diskcache's.

    Raises:
        StoreSetupError: It can't be opened.
        StoreRefusedError: The disk is full.
        StoreConnectionError: It can't be opened just now.
    """
    try:
        if given is not None and not given.is_in_place():
            raise StoreSetupError(
                f"{given.path!r}, the database of the given diskcache.Cache, was removed or moved; open a new Cache and store"
            )
        directory.make()
        files.create_file(os.path.join(directory.path, DBNAME), directory.file_mode)
        return SharedCache(_Literal(directory.path), disk=type("_Disk", (_Careful, disk), {}), **settings)
    except StoreSetupError:
        raise
    except Exception as error:
        what = f"Could not open {directory.path!r}"
        if reason := _transient_reason(error, directory.path):
            raise StoreConnectionError(f"{what}: {reason}") from error
        if trouble := _trouble(error, directory.path):
            raise file_errors.opening_error(what, trouble, directory.path) from error
        raise StoreSetupError(
            f"{what}: what lies in it is not diskcache's database, or damaged ({error}); choose another directory, or move {DBNAME!r} away"
        ) from error


def _trouble(error: Exception, directory: str) -> OSError | None:
    """Return the file system's error behind one of SQLite, which does not tell which file it is about, or why."""
    if isinstance(error, OSError):
        return error
    if not isinstance(error, sqlite3.OperationalError):
        return None
    if "full" in str(error):
        return OSError(errno.ENOSPC, str(error), directory)
    return files.find_trouble(directory, DBNAME)


def _transient_reason(error: Exception, directory: str = os.devnull) -> str | None:
    """Return why a cache could not be used, if that is worth retrying."""
    if isinstance(error, sqlite3.OperationalError) and _LOCKED.search(str(error)):
        return "the database is locked by another process"
    if isinstance(error, sqlite3.OperationalError) and "unable to open" in str(error):  # SQLite does not say why
        try:
            os.close(os.open(directory, os.O_RDONLY))
        except OSError as lack:
            return file_errors.transient_reason(lack)
    return file_errors.transient_reason(error)


ERRORS = (
    ErrorRule(diskcache.Timeout, StoreConnectionError, "the database is locked by another process"),
    ErrorRule(sqlite3.OperationalError, StoreConnectionError, _transient_reason, when=_transient_reason),
    ErrorRule(sqlite3.Error, StoreRefusedError, "SQLite refused; the database may be damaged"),
    *FILE_SYSTEM_RULES,
)


def settings_of(cache: diskcache.Cache, problem: str) -> tuple[Directory, dict[str, Any]]:
    """Return what `open_cache` takes to share the directory of a cache.

    Args:
        cache: The cache.
        problem: What the message starts with if it is something else.

    Raises:
        TypeError: It is something else, such as a FanoutCache, which has its rows in the directories of many caches.
    """
    if not isinstance(cache, diskcache.Cache):
        if inspect.iscoroutine(cache):
            cache.close()
        raise TypeError(f"{problem} a diskcache.Cache, not {wording.describe(cache)}")
    directory = Directory(files.absolute_path(cache.directory), False, files.OWNER_ONLY)
    given = WatchedFile(os.path.join(directory.path, DBNAME))
    return directory, {"given": given, "timeout": cache.timeout, "disk": type(cache.disk)}


def settings_for(max_size: int | None) -> dict[str, Any]:
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


class _Literal(str):
    """A path in which diskcache, which calls `os.path.expandvars` on the whole of it, expands no `$NAME` of a collection."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def __contains__(self, part: str) -> bool:
        return False  # expandvars looks whether there is anything to expand


class _Careful:
    """What a diskcache disk must not do: unpickle or touch a file elsewhere for a planted row, or let the umask say who reads a value."""

    file_mode = files.OWNER_ONLY

    def _write(self, full_path: str, iterator: Iterable[Any], mode: str, encoding: str | None = None) -> int:
        write = super()._write  # pyright: ignore[reportAttributeAccessIssue] # mixed into a Disk
        if write.__func__ is not diskcache.Disk._write:  # pyright: ignore[reportPrivateUsage] # the user's disk has its own
            return write(full_path, iterator, mode, encoding)
        with open(self._create(full_path), mode.replace("x", "w"), encoding=encoding) as file:
            return sum(file.write(part) for part in iterator)

    def _create(self, path: str) -> int:
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError, FileExistsError):  # another process removes directories that are empty
                files.make_directory(os.path.dirname(path), self.file_mode)
                return files.open_exclusively(path, self.file_mode)
        return files.open_exclusively(path, self.file_mode)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode not in (MODE_RAW, MODE_TEXT, MODE_BINARY) or not (filename is None or _SIDE_FILE.fullmatch(filename)):
            return None
        return super().fetch(mode, filename, value, read)  # pyright: ignore[reportAttributeAccessIssue] # mixed into a Disk

    def remove(self, file_path: str) -> None:
        if _SIDE_FILE.fullmatch(file_path):
            super().remove(file_path)  # pyright: ignore[reportAttributeAccessIssue] # mixed into a Disk


class SharedCache(diskcache.Cache):
    """A cache with one connection for all threads, so that closing it leaves none open. Its user must see to one call at a time."""

    _shared: sqlite3.Connection | None = None
    _pid = 0
    _replaced: list[str | None] | None = None  # in a transaction: side files to remove when it is committed
    _written: list[str | None] | None = None  # and those to remove when it is rolled back
    _in_bulk = False
    cull_limit: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
            self._database = WatchedFile(os.path.join(self.directory, DBNAME))
            self._database.watch()
            disk: Any = self.disk
            disk.file_mode = os.stat(self._database.path).st_mode & 0o666 | files.OWNER_ONLY  # as SQLite's others
        except BaseException:
            self.close()
            raise

    def is_in_place(self) -> bool:
        """Return whether the directory still holds the database that was opened."""
        return self._database.is_in_place()

    def refusal(self, error: Exception) -> str | None:
        """Return what the file system refused, if it is behind an error."""
        trouble = _trouble(error, self.directory)
        return None if trouble is None else file_errors.refusal(trouble, self.directory)

    @property
    def _con(self) -> sqlite3.Connection:
        if self._shared is None or self._pid != os.getpid():
            self.close()  # of a parent that forked without Python's hooks: with two open, SQLite would mistake who holds the locks
            self._pid = os.getpid()
            path = os.path.join(self.directory, DBNAME)
            connection = sqlite3.connect(path, timeout=self.timeout, isolation_level=None, check_same_thread=False)
            if self._shared is not None:  # the handler of a signal has opened it meanwhile
                connection.close()
                return self._shared
            self._shared = connection
            self._shared.text_factory = _text
            try:
                self._configure()
            except BaseException:
                self.close()
                raise
        return self._shared

    def _configure(self) -> None:
        """Have a new connection use the settings of the database."""
        execute = self._sql if self._timeout else self._sql_retry  # while diskcache makes the cache, it waits for locks itself
        try:
            settings = execute("SELECT key, value FROM Settings WHERE key LIKE 'sqlite_%'").fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            settings = []  # a new database has none yet
        for key, value in settings:
            self.reset(key, value, update=False)

    def close(self) -> None:
        connection, self._shared = self._shared, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _transact(self, retry: bool = False, filename: str | None = None) -> Generator[Any, None, None]:
        # diskcache removes the side files that a nested transaction replaced before the outer one is committed, and forgets those
        # that it wrote if the outer one is rolled back.
        if self._replaced is not None and self._written is not None:
            self._written.append(filename)
            yield self._sql, self._replaced.append
            return
        replaced = self._replaced = []
        written = self._written = [filename]
        obsolete = written
        try:
            with super()._transact(retry, filename) as (sql, _):
                yield sql, replaced.append
            obsolete = replaced
        finally:
            self._replaced = self._written = None
            for name in obsolete:
                if name is not None:
                    self.disk.remove(name)

    def _cull(self, now: float, sql: Any, cleanup: Any, limit: int | None = None) -> None:
        if not self._in_bulk:
            super()._cull(now, sql, cleanup, limit)

    @contextmanager
    def _bulk(self, rows: int) -> Generator[None, None, None]:
        """Set rows in one transaction, and evict old ones after it."""
        # Pages are freed when a transaction is committed, so culling in it would not know when to stop.
        self._in_bulk = True
        try:
            with self.transact():
                yield
        finally:
            self._in_bulk = False
        for _ in range(0, rows, max(1, self.cull_limit)):
            with self._transact() as (sql, cleanup):
                self._cull(time.time(), sql, cleanup)

    def set_many(self, rows: Sequence[CacheRow]) -> None:
        """Set many rows in one transaction."""
        with self._bulk(len(rows)):
            for row in rows:
                self.set(*row)

    def pop_all(self, names: Sequence[str]) -> list[Stored | None]:
        """Remove the rows under some names and return what they held, in one transaction."""
        with self.transact():
            found = self.read_all(names)
            for name, stored in zip(names, found, strict=True):
                if stored is not None:
                    self.delete(name)
        return found

    def compare_and_set(self, changes: Sequence[tuple[str, str | None, CacheRow | None]]) -> list[bool]:
        """Set a row, or remove it, wherever what lies under its name has the expected version; return where that was so."""
        made: list[bool] = []
        with self._bulk(len(changes)):
            for name, version, row in changes:
                (stored,) = self.read_all([name])
                made.append(version == (stored and stored.version))
                if made[-1] and row is not None:
                    self.set(*row)
                elif made[-1]:
                    self.delete(name)
        return made

    def read_all(self, names: Sequence[str]) -> list[Stored | None]:
        """Return what lies under some names, None where there is nothing."""
        keys = [self.disk.put(name)[0] for name in names]
        found: dict[Any, Stored | None] = {}
        for some in split_chunks(keys, PAGE):  # SQLite takes at least 999 parameters
            where = "= ?" if len(some) == 1 else f"IN ({','.join('?' * len(some))})"
            query = f"SELECT key, mode, filename, value FROM Cache WHERE raw = 1 AND key {where}"  # noqa: S608 # only question marks
            for key, *row in self._sql(query, some).fetchall():
                found[key] = self._stored(key, *row)
        return [found.get(key) for key in keys]

    def page(self, prefix: str, last: tuple[str, object] | None) -> tuple[list[tuple[str, Stored]], tuple[str, object] | None]:
        """Return the next names and documents after a place, and the place to go on from, None after the last."""
        where = "raw = 1 AND typeof(key) IN ('text', 'blob')"  # raw = 1 says that a key is no pickle
        parameters: list[object] = []
        if prefix and type(self.disk).put is diskcache.Disk.put:  # other disks encode keys, so they are filtered below
            where += " AND key >= ? AND key < ?"
            parameters += [prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)]
        if last is not None:
            where += f" AND key > CAST(? AS {last[0]})"
            parameters += [last[1]]
        query = f"SELECT typeof(key), key, mode, filename, value FROM Cache WHERE {where} ORDER BY key LIMIT {PAGE}"  # noqa: S608 # no values
        with closing(self._sql(query, parameters)) as found:
            rows = take_page((row, Stored(cast("bytes", row[-1])) if isinstance(row[-1], str | bytes) else None) for row in found)
        # Documents are read only now: in the middle of a query, SQLite would not tell that a row has got another file.
        page = take_page(((kind, key), self._stored(key, *row)) for (kind, key, *row), _ in rows)
        named = [(self._name(key), stored) for (_, key), stored in page]
        wanted = [(name, stored) for name, stored in named if stored is not None and name is not None and name.startswith(prefix)]
        return wanted, page[-1][0] if page else None

    def _name(self, key: object) -> str | None:
        try:
            name = self.disk.get(key, True)
        except Exception:  # noqa: BLE001 # another program's key, and any disk may be in use
            return None
        return name if isinstance(name, str) else None

    def _stored(self, key: object, mode: int, filename: str | None, value: Any) -> Stored | None:
        try:
            document = self.disk.fetch(mode, filename, value, False)
        except FileNotFoundError:
            # Another process may have overwritten the row since it was read, and removed its file.
            query = "SELECT mode, filename, value FROM Cache WHERE raw = 1 AND key = ?"
            rows = self._sql(query, (key,)).fetchall()
            if rows and rows[0][1] == filename:
                return Stored(None)
            return self._stored(key, *rows[0]) if rows else None
        except Exception as error:  # a damaged row, and any disk may be in use
            if _transient_reason(error):
                raise
            return Stored(None)
        return Stored(document.encode() if isinstance(document, str) else document if isinstance(document, bytes) else None)


def holds_cache(directory: str) -> bool:
    try:
        os.stat(os.path.join(directory, DBNAME))  # unlike exists(), it tells what may not be looked at from what is not there
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _text(data: bytes) -> str | bytes:
    """Decode a text column; what is damaged is left as it is, so that it hides no other row."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
