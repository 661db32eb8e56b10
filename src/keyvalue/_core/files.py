"""Files and directories of stores: their modes, whether they are still there, and how names are spelled."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from contextlib import suppress
from typing import NamedTuple

from keyvalue.errors import StoreSetupError

__all__ = [
    "OWNER_ONLY",
    "Directory",
    "WatchedFile",
    "create_file",
    "decode_name",
    "encode_name",
    "make_directory",
    "open_exclusively",
    "transient_reason",
    "transient_reason_in",
]

OWNER_ONLY = 0o600
"""The mode of new files by default."""

_LACKS = {
    errno.EMFILE: "this process has no file descriptors left; close files, or raise its limit (ulimit -n)",
    errno.ENFILE: "the system has no file descriptors left",
    errno.ENOMEM: "the system has no memory left",
}
_TRANSIENT = {
    **_LACKS,
    errno.ENOLCK: "the system has no file locks left",
    **dict.fromkeys((errno.EAGAIN, errno.EINTR, errno.EBUSY), "the file system is busy"),
}

_creating = threading.RLock()
_IS_UTF8 = sys.getfilesystemencoding() == "utf-8"


class Directory(NamedTuple):
    """A directory that a store was given.

    Attributes:
        path: Its absolute path.
        auto_create: Whether to make it if it is missing.
        file_mode: The mode of new files in it.
    """

    path: str
    auto_create: bool
    file_mode: int

    def make(self) -> None:
        """Make the directory if it is missing.

        Raises:
            StoreSetupError: It is missing and must not be made.
        """
        if os.path.isdir(self.path):
            return
        if not self.auto_create:
            raise StoreSetupError(f"The directory {self.path!r} was removed or moved; put it back, or leave out auto_create=False")
        make_directory(self.path, self.file_mode)

    def subdirectory(self, name: str) -> Directory:
        """Return a directory in this one, to be made if it is missing."""
        return Directory(os.path.join(self.path, encode_name(name)), True, self.file_mode)


class WatchedFile:
    """A file that a client keeps open, to notice that its path names it no longer.

    The path may name nothing, or what another program made there. While the file is open, no other one gets its inode.

    Args:
        path: Its path. The file is what it names when one of the methods is first called.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._status: os.stat_result | None = None
        self._is_on_disk = True

    def watch(self) -> None:
        """Watch the file that the path names now. If its directory has none, the client keeps its files in memory, where they stay."""
        self._status = None
        self._is_on_disk = True
        self._is_on_disk = self.is_in_place() or not os.path.isdir(os.path.dirname(self.path))

    def is_in_place(self) -> bool:
        """Return whether the path names the watched file."""
        if not self._is_on_disk:
            return True
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        if self._status is None:
            self._status = status
        return os.path.samestat(status, self._status)


def transient_reason(error: BaseException) -> str | None:
    """Return what the system lacked when it raised an error, or None if trying again does not help.

    A full disk does not count: it stays full until space is freed.
    """
    return _TRANSIENT.get(error.errno or 0) if isinstance(error, OSError) else None


def transient_reason_in(text: str) -> str | None:
    """Return what `transient_reason` does, for the message of an error that has lost its number."""
    return next((advice for number, advice in _LACKS.items() if os.strerror(number) in text), None)


def make_directory(path: str, file_mode: int) -> None:
    """Make a directory and those above it that are missing. One that is there keeps its mode.

    Args:
        path: Its absolute path.
        file_mode: The mode of the files in it: who may read files may search directories.
    """
    missing: list[str] = []
    while not os.path.isdir(path) and path != os.path.dirname(path):
        missing.append(path)
        path = os.path.dirname(path)
    mode = file_mode | (file_mode & 0o444) >> 2
    for new in reversed(missing):
        try:
            os.mkdir(new, 0o777 if os.name == "nt" else 0o700)  # Windows would take 0700 for a list of who may use it
        except FileExistsError:
            if os.path.isdir(new):  # another program was quicker
                continue
            raise
        if file_mode != OWNER_ONLY:
            os.chmod(new, mode | os.stat(new).st_mode & stat.S_ISGID)


def open_exclusively(path: str, file_mode: int) -> int:
    """Create a file and return its descriptor, open for writing.

    Raises:
        FileExistsError: There is something of that name.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, OWNER_ONLY)
    if file_mode != OWNER_ONLY:
        try:
            os.chmod(path, file_mode)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def create_file(path: str, file_mode: int) -> None:
    """Create an empty file unless its path exists."""
    with _creating, suppress(FileExistsError):  # closing a file drops the locks that another thread has got on it meanwhile
        if not os.path.lexists(path):
            os.close(open_exclusively(path, file_mode))


def encode_name(name: str) -> str:
    """Return how Python spells a file's name that is UTF-8 on the disk, whatever the locale."""
    return name if _IS_UTF8 or name.isascii() else os.fsdecode(name.encode())


def decode_name(name: str) -> str | None:
    """Return the text of a file's name as Python spells it, or None if it is not UTF-8 on the disk."""
    try:
        return os.fsencode(name).decode()
    except UnicodeError:
        return None
