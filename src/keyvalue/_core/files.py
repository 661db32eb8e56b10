"""Files and directories of stores: their modes, whether they are still there, and how names are spelled."""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError, StoreSetupError

__all__ = [
    "OWNER_ONLY",
    "Directory",
    "WatchedFile",
    "create_file",
    "decode_name",
    "encode_name",
    "find_trouble",
    "is_directory",
    "lack",
    "make_directory",
    "open_exclusively",
    "opening_error",
    "refusal",
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

_FULL = {
    errno.ENOSPC: "the disk is full; make room on it",
    errno.EFBIG: "the disk is full, or files may not grow so large; make room, or raise the limit (ulimit -f)",
    **({errno.EDQUOT: "the disk quota is used up; make room, or have it raised"} if hasattr(errno, "EDQUOT") else {}),
}
_LONGEST_SHOWN = 300
_ROOM = 2**16
"""Bytes that opening a database may write."""

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
            OSError: It can't be made or looked at, or is something else.
        """
        if is_directory(self.path):
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
        """Return whether the path names the watched file.

        Raises:
            OSError: This can't be told, as without the rights to look at it.
        """
        if not self._is_on_disk:
            return True
        try:
            status = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if self._status is None:
            self._status = status
        return os.path.samestat(status, self._status)


def transient_reason(error: BaseException) -> str | None:
    """Return what the system lacked when it raised an error, or None if trying again does not help.

    A full disk does not count: it stays full until space is freed.
    """
    return _TRANSIENT.get(error.errno or 0) if isinstance(error, OSError) else None


def lack(error: BaseException) -> str | None:
    """Return what the system lacked when it raised an error, whatever was being done; None if it lacked nothing."""
    return _LACKS.get(error.errno or 0) if isinstance(error, OSError) else None


def transient_reason_in(text: str) -> str | None:
    """Return what `transient_reason` does, for the message of an error that has lost its number."""
    return next((advice for number, advice in _LACKS.items() if os.strerror(number) in text), None)


def opening_error(what: str, error: Exception, path: str | None = None) -> KeyValueStoreError:
    """Return the error to raise for one that kept a store from being opened.

    Args:
        what: What the message starts with.
        error: The error.
        path: What was to be opened, if that is known.
    """
    if reason := transient_reason(error):
        return StoreConnectionError(f"{what}: {reason}")
    is_full = isinstance(error, OSError) and error.errno in _FULL
    return (StoreRefusedError if is_full else StoreSetupError)(f"{what}: {refusal(error, path) or error}")


def refusal(error: BaseException, path: str | None = None) -> str | None:
    """Return what path the file system refused, why, and what to do; None if it was not the file system.

    Args:
        error: What it raised.
        path: What is shown if the error does not tell.
    """
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)  # where a file was to be put, or the file
    path = os.fsdecode(named) if isinstance(named, str | bytes) else path
    if not isinstance(error, OSError) or not error.errno or path is None:
        return None
    shown = _shown(path)
    if error.errno in _FULL:
        return f"{shown} can't be written: {_FULL[error.errno]}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return _missing_right(path)
    if error.errno == errno.EROFS:
        return f"{shown} lies on a file system that is read-only; choose another place"
    if error.errno == errno.ENAMETOOLONG:
        return f"{shown} is a longer path, or has a longer name in it, than the file system takes; choose a shorter one"
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
        return _obstacle(path)
    if error.errno == errno.EISDIR:
        return f"{shown} is a directory, where a file belongs; move it"
    return f"the file system refused {shown}: {error.strerror}"


def _obstacle(path: str) -> str:
    """Return what is in the place of a directory."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    if os.path.islink(path) and not os.path.exists(path):
        return (
            f"{_shown(path)} is a link to {_shown(os.readlink(path))}, where there is nothing; make a directory there, or remove the link"
        )
    return (
        f"{_shown(path)} is {'in the way' if os.path.isdir(path) else 'a file, where a directory belongs'}; move it, or choose another path"
    )


def _missing_right(path: str) -> str:
    """Return what this user may not do with a path, or with which directory above it, and who owns that."""
    above = [os.fspath(parent) for parent in reversed(Path(os.path.abspath(path)).parents)]
    barred = next((parent for parent in above if os.path.isdir(parent) and not _may(parent, os.X_OK)), None)
    if barred is not None:
        problem, place = "may not enter the directory", barred
    elif not os.path.lexists(path) and os.path.isdir(above[-1]) and not _may(above[-1], os.W_OK):
        problem, place = "may not create anything in the directory", above[-1]
    else:
        problem, place = f"may not use the {'directory' if os.path.isdir(path) else 'file'}", path
    return f"this user{_user()} {problem} {_shown(place)}{_owner(place)}; change its permissions, or choose another place"


def _may(path: str, what: int) -> bool:
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)


def _user() -> str:
    return f" (uid {os.geteuid()})" if hasattr(os, "geteuid") else ""


def _owner(path: str) -> str:
    """Return who owns a file or directory, and its mode, where those decide."""
    if os.name == "nt":
        return ""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f", which belongs to uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):04o}"


def _shown(path: str) -> str:
    return repr(path if len(path) <= _LONGEST_SHOWN else path[:_LONGEST_SHOWN] + "…")


def find_trouble(directory: str, name: str) -> OSError | None:
    """Return what the file system raises on writing in a directory, for the errors of clients that don't tell.

    Args:
        directory: The directory.
        name: A file in it that is written too, if it is there.
    """
    path = os.path.join(directory, name)
    try:
        os.close(os.open(directory, os.O_RDONLY)) if os.name != "nt" else is_directory(directory)
        # Not by opening it: closing any descriptor of a file ends all locks of this process on it, and so SQLite's.
        if os.path.lexists(path) and os.stat(path) and not _may(path, os.R_OK | os.W_OK):
            return PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(_ROOM))
            file.flush()
    except OSError as error:
        if error.filename is None:
            error.filename = directory
        return error
    return None


def is_directory(path: str) -> bool:
    """Return whether there is a directory.

    Raises:
        OSError: There is something else, or it may not be looked at.
    """
    try:
        is_one = stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        return False
    if not is_one:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return True


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
