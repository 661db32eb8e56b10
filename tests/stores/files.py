"""What stores have on the disk, seen behind their backs."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from keyvalue.blocking import BlockingKeyValue
from tests import backends

EXPLODED: list[bool] = []
"""Has something in it as soon as a `Bomb` was unpickled."""


def _explode() -> None:
    EXPLODED.append(True)


class Bomb:
    """What is noticed when it is unpickled."""

    def __reduce__(self) -> Any:
        return _explode, ()


@contextmanager
def limited(name: str, limit: int) -> Generator[None, None, None]:
    """Limit what this process may have, by the name of the limit: `RLIMIT_NOFILE` for descriptors, `RLIMIT_FSIZE` for bytes in a file."""
    resource = pytest.importorskip("resource", reason="Windows has no such limits")
    kind = getattr(resource, name)
    before, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, most))
    try:
        yield
    finally:
        resource.setrlimit(kind, (before, most))


def open_facade(backend: str, where: Path) -> Any:
    """Return a façade over a new store of a backend, to be entered."""
    return BlockingKeyValue(backends.MAKERS[backend](where, ""))


def open_files(directory: Path) -> list[str]:
    """Return the files below a directory that this process has open, each as often as it has."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("open files are counted in /proc")
    found: list[str] = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in found if path.startswith(str(directory))]


def sql(directory: Path, statement: str, *parameters: object) -> list[Any]:
    """Run a statement on the database of a diskcache.Cache."""
    with closing(sqlite3.connect(directory / "cache.db")) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


def plant(directory: Path, key: object, *, raw: int = 1, mode: int = 1, filename: str | None = None, value: object = None) -> None:
    """Put a row as diskcache would not."""
    statement = "INSERT OR REPLACE INTO Cache(key, raw, store_time, access_time, mode, filename, value) VALUES (?, ?, 0, 0, ?, ?, ?)"
    sql(directory, statement, key, raw, mode, filename, value)


def row_count(directory: Path) -> int:
    return sql(directory, "SELECT COUNT(*) FROM Cache")[0][0]


def side_files(directory: Path) -> list[Path]:
    """Return the files that diskcache puts large values in."""
    return sorted(directory.rglob("*.val"))


@contextmanager
def without_rights(directory: Path, mode: int) -> Generator[None, None, None]:
    """Be a user who may do no more with a directory than its mode lets others do: another one, or if this is not root, its owner."""
    if os.name == "nt":
        pytest.skip("Windows has no such rights")
    before = directory.stat().st_mode & 0o777
    is_root = os.geteuid() == 0
    directory.chmod(mode if is_root else (mode & 0o7) * 0o111)
    try:
        if is_root:
            os.seteuid(65534)  # of all threads
        yield
    finally:
        if is_root:
            os.seteuid(0)
        directory.chmod(before)
