"""A store in a RocksDB database, over rocksdict."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

from keyvalue._core import arguments, files, fork
from keyvalue._core.client import Client
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.error_rules import ErrorRule
from keyvalue._core.extras import needs
from keyvalue._core.files import Directory, WatchedFile
from keyvalue._core.listing import EnumerableFlatStore, take_page
from keyvalue._core.store import Stability
from keyvalue.errors import StoreConnectionError, StoreRefusedError, StoreSetupError

with needs("rocksdb"):
    from rocksdict import ColumnFamily, DbClosedError, Options, Rdict, WriteBatch

__all__ = ["RocksDBStore"]

T = TypeVar("T")
_ROOM = 2**20  # bytes
_PATIENCE = 5.0  # seconds for which opening a database anew waits for the calls that still read from it
_FULL = {os.strerror(number): number for number in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))}
_IN_USE = re.compile("lock hold by current process|While lock file")
_GONE = (DbClosedError, RuntimeError)  # the latter while it is being closed, because rocksdict has borrowed it
_started_in: list[int] = []
"""The process that started RocksDB's threads. In a child that it forks there are none, and closing a database waits for them for ever."""


def _is_reported(error: Exception) -> bool:
    """Return whether an error is one that RocksDB reports."""
    return type(error).__module__ == "rocksdict" or type(error) is Exception


def _is_stopped(error: Exception) -> bool:
    """Return whether an error is one after which RocksDB writes no more."""
    return type(error) is Exception and str(error).startswith("IO error")


# rocksdict raises bare Exception for all that RocksDB reports.
_SHORTAGE = ErrorRule(
    Exception,
    StoreConnectionError,
    lambda error: files.transient_reason_in(str(error)),
    when=lambda error: _is_reported(error) and files.transient_reason_in(str(error)),
)
_STOPPED = ErrorRule(
    Exception,
    StoreRefusedError,
    lambda error: f"RocksDB refused: {error}; then close the given database, and open it and a store anew",
    when=_is_stopped,
)
_ERRORS = (
    ErrorRule(OSError, StoreRefusedError, "the file system refused"),
    ErrorRule(Exception, StoreRefusedError, lambda error: f"RocksDB refused: {error}", when=_is_reported),
)


class RocksDBStore(EnumerableFlatStore):
    """Keeps entries in a RocksDB database, which one process at a time can open.

    Format: rocksdict's, with string keys and bytes values. The key `<collection>::<key>` (see `keyvalue._core.layout` for names that this
    would mix) holds the JSON document of `keyvalue._core.entry` in UTF-8. Nothing is ever unpickled: a value that is a pickle is reported
    as unreadable.

    Expired entries take up space until `cull` removes them. A write is in RocksDB's log when `put` returns: it survives the process, and
    a power failure may lose the last ones.

    If the directory is removed or moved while the database is open, writes raise `StoreSetupError` until it is back; reads may go on.

    On asyncio and trio, calls run in worker threads. rocksdict holds the interpreter's lock while it copies a value, so for large values
    (tens of megabytes) a call still stalls the loop for as long.

    Args:
        db: A database to use. It is never closed.
        path: The directory of a database to open, instead. A leading `~` and variables such as `$HOME` are expanded, unless a directory of
            just that name is there; the path is absolute from then on.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.
        auto_create: Whether to make the directory if it is missing. Default True.
        file_mode: Who may use the directory if the store makes it: `0o640` makes it 0750, `0o660` 0770, whatever the umask. Default None:
            0700. RocksDB creates the files with 0644 less the umask, so the directory protects them. A directory that exists keeps its
            mode. Windows ignores it. Not with `db`.

    Raises:
        TypeError: `file_mode` is not an int, `path` not a str or Path, or `db` not a Rdict.
        ValueError: Neither or both of `db` and `path`, `file_mode` without read and write permission for the owner, with other bits than
            read and write, or with `db`, the directory is missing and `auto_create` is False, or its path can't be encoded.
        StoreSetupError: On use: the database can't be opened, or on a write, its directory was removed or moved.
    """

    stability: ClassVar[Stability] = "stable"
    runs_inline = True
    errors = (_SHORTAGE, *_ERRORS)

    @arguments.checked
    def __init__(
        self,
        *,
        db: Rdict | None = None,
        path: Path | str | None = None,
        default_collection: str | None = None,
        auto_create: bool = True,
        file_mode: int | None = None,
    ) -> None:
        super().__init__(default_collection=default_collection)
        arguments.one_of("RocksDBStore", {"path": path, "db": db})
        if path is not None:
            directory = arguments.directory(path, auto_create, file_mode)
            self._lock_file = _lock_file(directory.path)
            open_anew = partial(_open, directory, self._lock_file)
            lock_file = self._lock_file
            make = lambda: _Database(lock_file, open_anew(), open_anew)  # noqa: E731 # which must not refer to the store
        else:
            if not isinstance(db, Rdict):
                raise TypeError(f"db must be a rocksdict.Rdict, not {arguments.article(db)}")
            arguments.refuse_file_mode(file_mode, "db")
            self._lock_file = _lock_file(_path_of(db))
            make = partial(self._another, db)
            self.errors = (_SHORTAGE, _STOPPED, *_ERRORS)
        self._client = Client("RocksDBStore", make=make, at_fork="refuse", explain=lambda _, error: files.refusal(error))
        self._family: ColumnFamily | None = None
        self._lock = threading.RLock()  # RocksDB has no compare-and-delete

    def _after_fork(self) -> None:
        super()._after_fork()
        self._lock = threading.RLock()

    def _another(self, db: Rdict) -> _Database:
        """Return another object for the column family of a given one: what is set on it leaves the caller's alone."""
        # Only the statistics tell the name of an object's column family.
        try:
            statistics = db.property_value("rocksdb.cfstats") or ""
        except DbClosedError as error:
            raise StoreSetupError("The database given to this RocksDBStore is closed; open it, and make a store over that") from error
        name = re.search(r"\*\* Compaction Stats \[(.*)\] \*\*", statistics)
        name = "default" if name is None else name[1]
        self._family = db.get_column_family_handle(name)
        other = _without_pickle(db.get_column_family(name))
        self._lock_file.watch()
        try:
            other.get("")
        except KeyError as error:
            raise StoreSetupError("RocksDBStore can't use a database that was opened with raw_mode; open it without") from error
        return _Database(self._lock_file, other)

    def _write_batch(self, db: Rdict, rows: Iterable[tuple[str, bytes | None]]) -> None:
        """Put, or where there is no document, delete, all at once."""
        batch = WriteBatch()
        if self._family is not None:
            batch.set_default_column_family(self._family)
        for name, document in rows:
            if document is None:
                batch.delete(name)
            else:
                batch.put(name, document)
        db.write(batch)

    def _check_directory(self) -> None:
        """Refuse a write that would be lost."""
        if not self._lock_file.is_in_place():
            raise StoreSetupError(
                f"{os.path.dirname(self._lock_file.path)!r}, the directory of this RocksDBStore, was removed or moved while it was open; "
                "put it back, or close the store and open a new one"
            )

    def _read(self, names: Sequence[str], *, lenient: bool = False) -> Awaitable[Sequence[Stored | None]]:
        return self._use(lambda database: database.read(names))

    def _change(self, change: Callable[[Rdict], T]) -> Awaitable[T]:
        def call(database: _Database) -> T:
            with self._lock:
                self._check_directory()
                return database.write(change)

        return self._use(call)

    def _write(self, rows: Sequence[tuple[str, Entry]]) -> Awaitable[None]:
        def write(db: Rdict) -> None:
            if len(documents) == 1:
                db.put(*documents[0])
            else:
                self._write_batch(db, documents)

        documents = [(name, entry.document()) for name, entry in rows]
        return self._change(write)

    def _pop(self, names: Sequence[str]) -> Awaitable[Sequence[Stored | None]]:
        def pop(db: Rdict) -> Sequence[Stored | None]:
            found = _read(db, names)
            self._write_batch(db, ((name, None) for name, stored in zip(names, found, strict=True) if stored is not None))
            return found

        return self._change(pop)

    def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Awaitable[Sequence[bool]]:
        def compare_and_set(db: Rdict) -> Sequence[bool]:
            found = _read(db, [change.name for change in changes])
            made = [change.version == (stored and stored.version) for change, stored in zip(changes, found, strict=True)]
            chosen = [change for change, was_made in zip(changes, made, strict=True) if was_made]
            self._write_batch(db, [(name, entry and entry.document()) for name, _, entry in chosen])
            return made

        return self._change(compare_and_set)

    async def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        last: str | None = None
        while page := await self._use(lambda database, last=last: database.page(prefix, last)):
            yield page
            last = page[-1][0]


class _Database:
    """A database that is opened anew when RocksDB has stopped writing to it: after a full disk, it never goes on by itself.

    Args:
        lock_file: Its lock file.
        db: The database.
        open_anew: Opens it, if it was not given.
    """

    def __init__(self, lock_file: WatchedFile, db: Rdict, open_anew: Callable[[], Rdict] | None = None) -> None:
        self._lock_file = lock_file
        self._open = open_anew
        self._opening = threading.RLock()
        self._is_stopped = False
        self._is_open = True  # or to be closed and opened anew before it is used again
        self._db = db

    def read(self, names: Sequence[str]) -> list[Stored | None]:
        """Return what lies under some names."""
        try:
            return _read(self._db if self._is_open else self._opened(), names)
        except _GONE:
            return _read(self._opened(), names)

    def page(self, prefix: str, last: str | None) -> list[tuple[str, Stored]]:
        """Return a page of the rows after a name. The iterator must not outlive the call: it would keep the database open."""
        return self._use(lambda db: take_page(_rows(db, prefix, last)))

    def write(self, call: Callable[[Rdict], T]) -> T:
        """Make a call that writes; one at a time."""
        try:
            if self._is_stopped and self._open is not None and self._has_room():
                self._is_open = False
            return self._use(call)
        except Exception as error:
            if _is_stopped(error):
                self._is_stopped = True
            raise

    def _use(self, call: Callable[[Rdict], T]) -> T:
        try:
            return call(self._db if self._is_open else self._opened())
        except _GONE:
            return call(self._opened())

    def _opened(self) -> Rdict:
        """Return the database, opened anew if it is to be: what was acknowledged is in its log.

        Wherever that fails or is interrupted, the next call starts it again; closing twice does no harm.
        """
        with self._opening:
            end, delay = time.monotonic() + _PATIENCE, 0.001
            while not self._is_open and self._open is not None:
                with suppress(Exception):  # its last error again, or another thread is reading
                    self._db.close()
                try:
                    self._db = self._open()
                    self._is_stopped, self._is_open = False, True
                except StoreSetupError as error:
                    if "lock hold by current process" not in str(error):
                        raise
                    if time.monotonic() > end:
                        raise StoreConnectionError(
                            f"RocksDBStore could not open {os.path.dirname(self._lock_file.path)!r} anew, because this process still uses "
                            "it, in a call under way or another store; try again"
                        ) from error
                    time.sleep(delay)
                    delay = min(2 * delay, 0.1)  # each attempt leaves a file
            return self._db

    def _has_room(self) -> bool:
        """Return whether the disk has room for what opening writes, which is the log as a table. Until then, it can still be read."""
        directory = os.path.dirname(self._lock_file.path)
        with os.scandir(directory) as entries:
            logs = sum(entry.stat().st_size for entry in entries if entry.name.endswith(".log"))
        return shutil.disk_usage(directory).free > logs + _ROOM

    def close(self) -> None:
        with suppress(StoreRefusedError) if self._is_stopped else nullcontext():  # it raises its last error again, or is closed
            _close(self._lock_file, self._db)


class _PickledError(Exception):
    pass


def _refuse(_: bytes) -> NoReturn:
    raise _PickledError


def _lock_file(directory: str) -> WatchedFile:
    """Return the file that RocksDB keeps open and never replaces."""
    return WatchedFile(os.path.join(directory, "LOCK"))


def _path_of(db: Rdict) -> str:
    try:
        return arguments.absolute(files.encode_name(db.path()))
    except Exception:  # noqa: BLE001 # it is closed, which its first use reports
        return ""


def _close(lock_file: WatchedFile, db: Rdict) -> None:
    is_in_place = False  # or it can't be told: then nothing can be written over either
    with suppress(OSError):
        is_in_place = lock_file.is_in_place()
    if is_in_place:
        try:
            db.close()
        except Exception as error:
            if "SyncWAL() is not supported" not in str(error):  # by files in memory, which need none
                raise StoreRefusedError(f"RocksDBStore could not be closed: {error}") from error
    elif os.path.exists(lock_file.path):
        fork.keep_inherited(db)  # closing would write over the database that is there now
    else:
        with suppress(Exception):  # there is no directory to flush to
            db.close()


def _open(directory: Directory, lock_file: WatchedFile) -> Rdict:
    path = directory.path
    if _started_in and _started_in[0] != os.getpid():
        raise StoreSetupError(
            f"RocksDBStore could not open {path!r}: RocksDB was used in this process before it forked, and can't be used in the child; "
            "fork before it is first used, or start the child by `spawn` or `forkserver`"
        )
    try:
        directory.make()
        _started_in[:] = [os.getpid()]
        db = _without_pickle(_opened(os.fsencode(path).decode()))
    except StoreSetupError:
        raise
    except UnicodeDecodeError as error:
        raise StoreSetupError(f"RocksDBStore could not open {path!r}: RocksDB only takes paths in UTF-8") from error
    except Exception as error:
        what = f"RocksDBStore could not open {path!r}"
        if reason := files.transient_reason_in(str(error)):
            raise StoreConnectionError(f"{what}: {reason}") from error
        if _IN_USE.search(str(error)):
            advice = "it is open already, here or in another process: share one store, or close the other"
            raise StoreSetupError(f"{what}: {advice} ({error})") from error
        if trouble := _trouble(error, path):
            raise files.opening_error(what, trouble, path) from error
        raise StoreSetupError(
            f"{what}: what lies in it is not a RocksDB database, or damaged ({error}); choose another directory, or restore a backup"
        ) from error
    lock_file.watch()
    return db


def _trouble(error: Exception, path: str) -> OSError | None:
    """Return the file system's error behind one of RocksDB, which does not tell its number, and not always the file."""
    if isinstance(error, OSError) and error.errno:
        return error
    number = next((number for text, number in _FULL.items() if text in str(error)), None)
    return files.find_trouble(path, "CURRENT") if number is None else OSError(number, str(error), path)


def _opened(path: str) -> Rdict:
    try:
        return Rdict(path, Options())
    except Exception as error:
        if "does not match existing comparator rocksdict" not in str(error):
            raise
    # A process was killed while it made the database, before rocksdict had written its own file about it. By now it has.
    return Rdict(path, Options())


def _without_pickle(db: Rdict) -> Rdict:
    db.set_loads(_refuse)
    return db


def _read(db: Rdict, names: Sequence[str]) -> list[Stored | None]:
    try:
        if len(names) == 1:
            return [_stored(db.get(names[0]))]
        return list(map(_stored, db.get(list(names)) or ()))
    except _PickledError:
        if len(names) == 1:
            return [Stored(None)]
        return [stored for name in names for stored in _read(db, [name])]


def _rows(db: Rdict, prefix: str, last: str | None) -> Iterator[tuple[str, Stored]]:
    """Yield the rows after a name."""
    iterator = db.iter()
    iterator.seek(prefix if last is None else last)
    while iterator.valid():
        name = iterator.key()
        if not isinstance(name, str) or not name.startswith(prefix):
            break
        if name != last:
            try:
                stored = _stored(iterator.value())
            except _PickledError:
                stored = None
            yield name, stored or Stored(None)
        iterator.next()
    iterator.status()  # raises what ended it, unless that was the end


def _stored(value: Any) -> Stored | None:
    if value is None:
        return None
    return Stored(value if type(value) is bytes else value.encode() if isinstance(value, str) else None)
