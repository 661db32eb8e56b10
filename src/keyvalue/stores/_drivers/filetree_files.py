"""How the files of a tree are read and written: links are refused, and a file is replaced as a whole."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress

from keyvalue._core.entry import Stored
from keyvalue.errors import PathSecurityError
from keyvalue.stores._drivers import files
from keyvalue.stores._drivers.files import Directory

__all__ = ["Drafts", "place", "read_file", "refuse_link", "remove_old", "sync_directory"]

_DRAFT_AGE = 3600.0  # seconds after which a draft is taken for what a crash left over
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"
_DRAFT = re.compile(f"tmp[{_LETTERS}]{{8}}")  # as `tempfile` names them
# Opening a pipe would wait for its other end.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Drafts:
    """New files, before they are put in their places.

    Args:
        directory: Where they are written, on the file system of the tree.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    @contextmanager
    def write(self, contents: Iterable[bytes | None]) -> Generator[Sequence[str], None, None]:
        """Write a draft of each content, and yield the paths; an empty one for None. Drafts that are still there then are removed."""
        drafts: list[str] = []
        try:
            for content in contents:
                drafts.append("" if content is None else self._new_path())  # before it is there: being interrupted must not leave it
                if content is not None:
                    self._write(drafts[-1], content)
            yield drafts
        finally:
            for draft in filter(None, drafts):
                with suppress(FileNotFoundError):
                    os.unlink(draft)

    def remove_old(self) -> None:
        """Remove what crashes left over."""
        refuse_link(self._directory.path)
        remove_old(self._directory.path, _DRAFT)

    def _new_path(self) -> str:
        refuse_link(self._directory.path)
        return os.path.join(self._directory.path, "tmp" + "".join(secrets.choice(_LETTERS) for _ in range(8)))

    def _write(self, draft: str, content: bytes) -> None:
        def create(path: str, _: int) -> int:
            return files.open_exclusively(path, self._directory.file_mode)

        try:
            file = open(draft, "xb", opener=create)  # noqa: SIM115 # closed below
        except FileNotFoundError:
            self._directory.make()
            file = open(draft, "xb", opener=create)  # noqa: SIM115 # closed below
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def place(draft: str, path: str, *, is_new: bool = False) -> bool:
    """Put a draft in its place, and return whether that was done.

    Args:
        draft: The path of the draft.
        path: Its place.
        is_new: Whether the place was seen to be empty, and must still be.
    """
    if is_new:
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            return True
    os.replace(draft, path)
    return True


def remove_old(directory: str, pattern: re.Pattern[str]) -> None:
    """Remove files of a directory that have names of a pattern, and have not changed for long."""
    latest = time.time() - _DRAFT_AGE
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name):
                with suppress(OSError):  # another process may do the same
                    if entry.stat(follow_symlinks=False).st_mtime < latest:
                        os.unlink(entry.path)


def read_file(path: str) -> Stored | None:
    """Return what a file holds, or None if there is no such file.

    Raises:
        PathSecurityError: It is a link.
    """
    try:
        with open(path, "rb", opener=lambda path, _: os.open(path, _READ)) as file:
            return Stored(file.read() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        return Stored(None)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        if error.errno == errno.ELOOP or os.path.islink(path):
            raise _link_error(path) from error
        raise


def refuse_link(path: str) -> None:
    """Check that a directory is not a link.

    Raises:
        PathSecurityError: It is one.
    """
    if os.path.islink(path):
        raise _link_error(path)


def _link_error(path: str) -> PathSecurityError:
    return PathSecurityError(f"{path!r} is a link, which is not followed: it may lead anywhere. Put the file or directory itself there")


def sync_directory(path: str) -> None:
    """Have the disk hold what a directory holds. Windows has no call for it."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
