"""A RocksDB database that goes on after a full disk, and in which nothing is unpickled."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from keyvalue._core import file_errors, fork
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.extras import needs
from keyvalue._core.listing import take_page
from keyvalue.errors import StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores._drivers import files
from keyvalue.stores._drivers.files import Directory, WatchedFile

with needs("rocksdb"):
    from rocksdict import ColumnFamily, DbClosedError, Options, Rdict, WriteBatch

__all__ = ["RocksDBDriver", "has_stopped", "is_reported", "transient_reason"]

T = TypeVar("T")
_LOCK = "LOCK"  # the file that RocksDB keeps open and never replaces
_ROOM = 2**20  # bytes
_PATIENCE = 5.0  # seconds for which opening a database anew waits for the calls that still read from it
_FULL = {os.strerror(number): number for number in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))}
_IN_USE = re.compile("lock hold by current process|While lock file")
_GONE = (DbClosedError, RuntimeError)  # the latter while it is being closed, because rocksdict has borrowed it
_started_in: list[int] = []
"""The process that started RocksDB's threads. In a child that it forks there are none, and closing a database waits for them for ever."""


def is_reported(error: Exception) -> bool:
    """Return whether an error is one that RocksDB reports."""
    return type(error).__module__ == "rocksdict" or type(error) is Exception


def has_stopped(error: Exception) -> bool:
    """Return whether an error is one after which RocksDB writes no more."""
    return type(error) is Exception and str(error).startswith("IO error")


def transient_reason(error: Exception) -> str | None:
    """Return what the system lacked when RocksDB reported an error, or None if trying again does not help."""
    return file_errors.transient_reason_in(str(error)) if is_reported(error) else None


class RocksDBDriver:
    """A database that is opened anew when RocksDB has stopped writing to it: after a full disk, it never goes on by itself.

    Args:
        lock_file: The file that RocksDB keeps open and never replaces.
        db: The database.
        directory: Its directory, if it was not given.
        family: The column family of a given one.
    """

    def __init__(
        self, lock_file: WatchedFile, db: Rdict, *, directory: Directory | None = None, family: ColumnFamily | None = None
    ) -> None:
        self._lock_file = lock_file
        self._directory = directory
        self._family = family
        self._lock = threading.RLock()  # RocksDB has no compare-and-delete; a driver is never used after a fork
        self._opening = threading.RLock()
        self._is_stopped = False
        self._is_open = True  # or to be closed and opened anew before it is used again
        self._db = db

    @classmethod
    def open(cls, directory: Directory) -> RocksDBDriver:
        """Open the database in a directory."""
        lock_file = WatchedFile(os.path.join(directory.path, _LOCK))
        return cls(lock_file, _open(directory, lock_file), directory=directory)

    @classmethod
    def share(cls, db: Rdict) -> RocksDBDriver:
        """Use a given database, by another object for its column family: what is set on it leaves the caller's alone."""
        # Only the statistics tell the name of an object's column family.
        try:
            statistics = db.property_value("rocksdb.cfstats") or ""
        except DbClosedError as error:
            raise StoreSetupError("The database given to this RocksDBStore is closed; open it, and make a store over that") from error
        name = re.search(r"\*\* Compaction Stats \[(.*)\] \*\*", statistics)
        name = "default" if name is None else name[1]
        other = _without_pickle(db.get_column_family(name))
        lock_file = WatchedFile(os.path.join(files.absolute_path(files.encode_name(db.path())), _LOCK))
        lock_file.watch()
        try:
            other.get("")
        except KeyError as error:
            raise StoreSetupError("RocksDBStore can't use a database that was opened with raw_mode; open it without") from error
        return cls(lock_file, other, family=db.get_column_family_handle(name))

    def read(self, names: Sequence[str]) -> list[Stored | None]:
        """Return what lies under some names."""
        try:  # as `_use` does, which would add 5 % to a get
            return _read(self._db if self._is_open else self._opened(), names)
        except _GONE:
            return _read(self._opened(), names)

    def page(self, prefix: str, after: str | None) -> tuple[list[tuple[str, Stored]], str | None]:
        """Return a page of the rows after a name, and the last name."""
        # The iterator must not outlive the call: it would keep the database open.
        page = self._use(lambda db: take_page(_rows(db, prefix, after)))
        return page, page[-1][0] if page else None

    def write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        """Store the document of each entry under its name."""
        documents = [(name, entry.document()) for name, entry in rows]
        self._change(lambda db: db.put(*documents[0]) if len(documents) == 1 else self._write_batch(db, documents))

    def pop(self, names: Sequence[str]) -> list[Stored | None]:
        """Remove what lies under some names, and return it."""

        def pop(db: Rdict) -> list[Stored | None]:
            found = _read(db, names)
            self._write_batch(db, ((name, None) for name, stored in zip(names, found, strict=True) if stored is not None))
            return found

        return self._change(pop)

    def compare_and_set(self, changes: Sequence[CompareAndSet]) -> list[bool]:
        """Make each change if its name has the expected version, and return which were made."""

        def compare_and_set(db: Rdict) -> list[bool]:
            found = _read(db, [change.name for change in changes])
            made = [change.version == (stored and stored.version) for change, stored in zip(changes, found, strict=True)]
            chosen = [change for change, was_made in zip(changes, made, strict=True) if was_made]
            self._write_batch(db, [(name, entry and entry.document()) for name, _, entry in chosen])
            return made

        return self._change(compare_and_set)

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

    def _change(self, call: Callable[[Rdict], T]) -> T:
        """Make a call that writes, one at a time, unless it would be lost."""
        with self._lock:
            if not self._lock_file.is_in_place():
                raise StoreSetupError(
                    f"{os.path.dirname(self._lock_file.path)!r}, the directory of this RocksDBStore, was removed or moved while it was "
                    "open; put it back, or close the store and open a new one"
                )
            try:
                if self._is_stopped and self._directory is not None and self._has_room():
                    self._is_open = False
                return self._use(call)
            except Exception as error:
                if has_stopped(error):
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
            while not self._is_open and self._directory is not None:
                with suppress(Exception):  # its last error again, or another thread is reading
                    self._db.close()
                try:
                    self._db = _open(self._directory, self._lock_file)
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
        """Close the database, unless that would write over another one that is in its place now."""
        is_in_place = False  # or it can't be told: then nothing can be written over either
        with suppress(OSError):
            is_in_place = self._lock_file.is_in_place()
        if not is_in_place and os.path.exists(self._lock_file.path):
            fork.keep_inherited(self._db)
            return
        try:
            self._db.close()
        except Exception as error:
            # Stopped, it raises its last error again, or is closed. Without a directory, or in memory, there is nothing to flush.
            if is_in_place and not self._is_stopped and "SyncWAL() is not supported" not in str(error):
                raise StoreRefusedError(f"RocksDBStore could not be closed: {error}") from error


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
        spelled = os.fsencode(path).decode()
        try:
            db = _without_pickle(Rdict(spelled, Options()))
        except Exception as error:
            if "does not match existing comparator rocksdict" not in str(error):
                raise
            # A process was killed while it made the database, before rocksdict had written its own file about it. By now it has.
            db = _without_pickle(Rdict(spelled, Options()))
    except StoreSetupError:
        raise
    except UnicodeDecodeError as error:
        raise StoreSetupError(f"RocksDBStore could not open {path!r}: RocksDB only takes paths in UTF-8") from error
    except Exception as error:
        what = f"RocksDBStore could not open {path!r}"
        if reason := file_errors.transient_reason_in(str(error)):
            raise StoreConnectionError(f"{what}: {reason}") from error
        if _IN_USE.search(str(error)):
            advice = "it is open already, here or in another process: share one store, or close the other"
            raise StoreSetupError(f"{what}: {advice} ({error})") from error
        if trouble := _trouble(error, path):
            raise file_errors.opening_error(what, trouble, path) from error
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


def _without_pickle(db: Rdict) -> Rdict:
    """Have a database return `...` for a pickle, without looking into it."""
    db.set_loads(lambda _: ...)
    return db


def _read(db: Rdict, names: Sequence[str]) -> list[Stored | None]:
    if len(names) == 1:
        return [_stored(db.get(names[0]))]
    return list(map(_stored, db.get(list(names)) or ()))


def _rows(db: Rdict, prefix: str, last: str | None) -> Iterator[tuple[str, Stored]]:
    """Yield the rows after a name."""
    iterator = db.iter()
    iterator.seek(prefix if last is None else last)
    while iterator.valid():
        name = iterator.key()
        if not isinstance(name, str) or not name.startswith(prefix):
            break
        if name != last:
            yield name, _stored(iterator.value()) or Stored(None)
        iterator.next()
    iterator.status()  # raises what ended it, unless that was the end


def _stored(value: Any) -> Stored | None:
    if value is None:
        return None
    return Stored(value if type(value) is bytes else value.encode() if isinstance(value, str) else None)
