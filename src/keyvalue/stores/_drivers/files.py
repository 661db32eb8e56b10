"""Files and directories of stores: their paths and modes, whether they are still there, and how names are spelled."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from keyvalue._core import wording
from keyvalue._core.file_errors import may_access, refusal
from keyvalue.errors import StoreSetupError

__all__ = [
    "OWNER_ONLY",
    "Directory",
    "WatchedFile",
    "absolute_path",
    "create_file",
    "decode_name",
    "encode_name",
    "find_trouble",
    "make_directory",
    "open_exclusively",
    "refuse_file_mode",
    "resolve_directory",
]

OWNER_ONLY = 0o600
"""The mode of new files by default."""

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
        if _is_directory(self.path):
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


def resolve_directory(path: str | Path, auto_create: bool, file_mode: int | None) -> Directory:
    """Return a directory under its absolute path, so that the process may change its own.

    A leading `~` and variables such as `$HOME` are expanded, unless there is a directory of just that name.

    Args:
        path: The directory.
        auto_create: Whether it may be missing.
        file_mode: The mode of new files in it. None means its owner's only.

    Raises:
        TypeError: The path or the mode is of a wrong type.
        ValueError: The directory is missing or may not be looked at, its path can't be encoded or expanded, or the mode is not one
            for files that their owner uses.
    """
    mode = _check_mode(file_mode)
    if not isinstance(path, str | Path):
        raise TypeError(f"The directory must be a str or a Path, not {wording.describe(path)}")
    literal, expanded = str(path), os.path.expandvars(os.path.expanduser(path))
    if not literal:
        raise ValueError("The directory is an empty str; give its path, which is '.' for the current one")
    if "\0" in literal:
        raise ValueError(f"The directory {literal!r} holds NUL, which no path can")
    if expanded.startswith("~") and not os.path.isdir(literal):
        user = expanded[1:].replace(os.sep, "/").partition("/")[0]
        raise ValueError(
            f"The directory {literal!r} can't be expanded: {f'there is no user {user!r}' if user else 'this user has no home directory'}; "
            f"give the whole path, or './{literal}' for a directory of that name"
        )
    unset = [variable for name in re.findall(r"\$(\w+|\{\w+\})", literal, re.ASCII) if (variable := name.strip("{}")) not in os.environ]
    if unset and not os.path.isdir(literal):
        raise ValueError(
            f"The directory {literal!r} can't be expanded: {unset[0]} is not set in the environment; set it, or make a directory of just "
            "that name"
        )
    found = absolute_path(literal if expanded == literal or os.path.isdir(literal) else expanded)
    try:
        os.fsencode(found)
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        advice = "; set PYTHONUTF8=1 or a UTF-8 locale" if encoding != "utf-8" else ""
        raise ValueError(f"The directory {found!a} can't be encoded as {encoding}, the encoding of file names here{advice}") from None
    if not auto_create:
        try:
            is_there = _is_directory(found)
        except OSError as error:
            raise ValueError(f"The directory {found!r} can't be used: {refusal(error)}") from error
        if not is_there:
            raise ValueError(f"The directory {found!r} does not exist; create it, or leave out auto_create=False")
    return Directory(found, auto_create, mode)


def refuse_file_mode(file_mode: int | None, given: str) -> None:
    """Check that no mode of files is given beside a client that has its own.

    Raises:
        ValueError: One is.
    """
    if file_mode is not None:
        raise ValueError(f"file_mode can't be combined with {given}: its files have modes already")


def _check_mode(file_mode: int | None) -> int:
    if file_mode is None:
        return OWNER_ONLY
    if not isinstance(file_mode, int):
        raise TypeError(f"file_mode must be an int such as 0o640, not {wording.describe(file_mode)}")
    if isinstance(file_mode, bool) or file_mode & ~0o666 or file_mode & 0o600 != 0o600:
        raise ValueError("file_mode must let the owner read and write, and hold read and write bits only, in octal: 0o600, 0o640 or 0o660")
    return file_mode


def absolute_path(path: str) -> str:
    """Return an absolute path; asks the system only about one that is not."""
    return path if os.path.isabs(path) else os.path.abspath(path)


def find_trouble(directory: str, name: str) -> OSError | None:
    """Return what the file system raises on writing in a directory, for the errors of clients that don't tell.

    Args:
        directory: The directory.
        name: A file in it that is written too, if it is there.
    """
    path = os.path.join(directory, name)
    try:
        os.close(os.open(directory, os.O_RDONLY)) if os.name != "nt" else _is_directory(directory)
        # Not by opening it: closing any descriptor of a file ends all locks of this process on it, and so SQLite's.
        if os.path.lexists(path) and os.stat(path) and not may_access(path, os.R_OK | os.W_OK):
            return PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(_ROOM))
            file.flush()
    except OSError as error:
        if error.filename is None:
            error.filename = directory
        return error
    return None


def _is_directory(path: str) -> bool:
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
