"""A store in a RocksDB database, over rocksdict."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from keyvalue._core import constructor, file_errors, wording
from keyvalue._core.clients import Clients
from keyvalue._core.driver import EnumerableDriverStore
from keyvalue._core.error_rules import FILE_SYSTEM_RULES, ErrorRule, ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.store import Stability
from keyvalue.errors import StoreConnectionError, StoreRefusedError

with needs("rocksdb"):
    from rocksdict import Rdict

    from keyvalue.stores._drivers import files
    from keyvalue.stores._drivers.rocksdb import RocksDBDriver, has_stopped, is_reported, transient_reason

__all__ = ["RocksDBStore"]

# rocksdict raises bare Exception for all that RocksDB reports.
_SHORTAGE = ErrorRule(Exception, StoreConnectionError, transient_reason, when=transient_reason)
_STOPPED = ErrorRule(
    Exception,
    StoreRefusedError,
    lambda error: f"RocksDB refused: {error}; then close the given database, and open it and a store anew",
    when=has_stopped,
)
_REFUSED = ErrorRule(Exception, StoreRefusedError, lambda error: f"RocksDB refused: {error}", when=is_reported)


class RocksDBStore(EnumerableDriverStore):
    """Keeps entries in a RocksDB database, which one process at a time can open.

    Format: a rocksdict database with string keys and bytes values. The key `<collection>::<key>` (`keyvalue._core.layout` has the
    exceptions) holds the JSON document of `keyvalue._core.entry` in UTF-8. The store never unpickles: a pickle raises
    `DeserializationError`.

    Expired entries take up space until `cull` removes them. When `put` returns, the write is in RocksDB's log: it survives the end of the
    process, but a power failure may lose the most recent writes.

    If the directory is removed or moved while the database is open, writes raise `StoreSetupError` until it is back; reads may still work.

    On asyncio and trio, calls run in worker threads. rocksdict holds the interpreter's lock while it copies a value, so a large value (tens
    of megabytes) still blocks the event loop for that time.

    Args:
        db: An open Rdict. The store never closes it.
        path: Instead of `db`: the directory of the database. A leading `~` and variables such as `$HOME` are expanded, unless a directory
            with that very name exists. Changing the working directory later has no effect.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
        auto_create: Whether to create the directory if it is missing. Default True.
        file_mode: Who may use the directory if the store creates it: `0o640` gives it the mode 0750, `0o660` 0770, whatever the umask.
            Default None: 0700. RocksDB creates files with 0644 less the umask, so it is the directory that protects them. An existing
            directory keeps its mode. No effect on Windows. Not with `db`.

    Raises:
        TypeError: `file_mode` is not an int, `path` not a str or Path, or `db` not an Rdict.
        ValueError: Neither or both of `db` and `path`; `file_mode` lacks read and write permission for the owner, has bits other than read
            and write, or is combined with `db`; the directory is missing and `auto_create` is False; or its path can't be encoded.
        StoreSetupError: On use: the database can't be opened; on a write: its directory was removed or moved.
    """

    stability: ClassVar[Stability] = "stable"
    runs_inline = True
    errors: ErrorRules = (_SHORTAGE, *FILE_SYSTEM_RULES, _REFUSED)

    @constructor.check_types
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
        constructor.require_one_of("RocksDBStore", {"path": path, "db": db})
        if path is not None:
            make = partial(RocksDBDriver.open, files.resolve_directory(path, auto_create, file_mode))
        else:
            if not isinstance(db, Rdict):
                raise TypeError(f"db must be a rocksdict.Rdict, not {wording.describe(db)}")
            files.refuse_file_mode(file_mode, "db")
            make = partial(RocksDBDriver.share, db)
            self.errors = (_SHORTAGE, _STOPPED, *self.errors)
        self._clients = Clients("RocksDBStore", create=make, at_fork="refuse", explain=lambda _, error: file_errors.refusal(error))
