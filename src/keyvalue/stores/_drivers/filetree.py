"""A tree of files that is safe to keep entries in."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone

import orjson

from keyvalue._core import file_errors
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.fork import register_after_fork
from keyvalue._core.listing import take_page
from keyvalue.errors import PathSecurityError
from keyvalue.stores._drivers import files
from keyvalue.stores._drivers.files import Directory

__all__ = ["DRAFTS", "INFO", "SUFFIX", "FileTreeDriver"]

SUFFIX = ".json"
INFO = "-info.json"
DRAFTS = "~drafts"

_DRAFT_AGE = 3600.0  # seconds after which a draft is taken for what a crash left over
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"
_DRAFT = re.compile(f"tmp[{_LETTERS}]{{8}}")  # as `tempfile` names them
_THEIR_DRAFT = re.compile(r"tmp[a-z0-9_]{8}\.tmp")  # py-key-value-aio's lie beside the files that they were to become
_OURS = b'{"version":1,"collection":'  # how a document starts that names its pair
# Opening a pipe would wait for its other end.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class FileTreeDriver:
    """Files by name, which is their path below the data directory, with `/` between its parts.

    Args:
        data: The data directory.
        metadata: The directory of the info files.
    """

    def __init__(self, data: Directory, metadata: Directory) -> None:
        for directory in (data, metadata):
            directory.make()
        self._data = data._replace(path=os.path.realpath(data.path))
        self._metadata = metadata._replace(path=os.path.realpath(metadata.path))
        self._owners: dict[str, str] = {}
        self._after_fork()
        register_after_fork(self)
        self._remove_old(self._directory(DRAFTS), _DRAFT)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # held while versions are compared and files put in their places

    def close(self) -> None:
        """Do nothing: no file is kept open."""

    def read(self, names: Sequence[str]) -> list[Stored | None]:
        """Return what lies under some names; see `_read`."""
        return [self._read(name) for name in names]

    def page(self, prefix: str, after: Sequence[str] | None) -> tuple[list[tuple[str, Stored]], Sequence[str] | None]:
        """Return a page of the names that start with a prefix, which is a directory with a slash or empty, and the names that are left."""
        names = after if after is not None else list(self._files(prefix[:-1]) if prefix else self._walk())
        page = take_page((name, self._read(name, listing=True)) for name in names)
        return [(name, stored) for name, stored in page if stored is not None], names[len(page) :] or None

    def _read(self, name: str, *, listing: bool = False) -> Stored | None:
        """Return what lies under a name; a document that does not name its pair is made to, as far as its place tells.

        The version is that of the file itself.

        Raises:
            PathSecurityError: A link is in the way.
        """
        directory, _, file = name.rpartition("/")
        path = self._directory(directory)
        stored = _content(os.path.join(path, files.encode_name(file)))
        document = stored and stored.document
        if stored is None or document is None or document.startswith(_OURS) or not document.startswith(b"{"):
            return stored
        names: dict[str, str] = {}
        owner = self._owner(directory)
        if owner is not None or listing:
            names["collection"] = directory if owner is None else owner
        true_file = file if listing else _spelled_otherwise(path, file)
        if true_file is not None:
            names["key"] = true_file.removesuffix(SUFFIX)
        # Names that the document itself holds come later, and so count.
        return Stored(orjson.dumps(names)[:-1] + b"," + document[1:], stored.version) if names else stored

    def _files(self, directory: str) -> Iterator[str]:
        """Yield the names of the documents in a directory."""
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._directory(directory)) as entries:
            for entry in entries:
                name = files.decode_name(entry.name)
                if name is not None and name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                    yield f"{directory}/{name}"

    def _walk(self) -> Iterator[str]:
        """Yield the names of all documents."""
        for directory in self._directories():
            yield from self._files(directory)

    def write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        """Store an entry under each name. They are on the disk then."""
        with self._drafts(rows) as drafts:
            for (name, _), draft in zip(rows, drafts, strict=True):
                self._place(draft, name)
        self._sync(name for name, _ in rows)

    def compare_and_set(self, changes: Sequence[CompareAndSet]) -> list[bool]:
        """Make the changes whose names have the expected versions, and return which were made. They are on the disk then."""
        with self._drafts([(change.name, change.entry) for change in changes]) as drafts, self._lock:
            made = [self._change(change, draft) for change, draft in zip(changes, drafts, strict=True)]
        self._sync(change.name for change, was_made in zip(changes, made, strict=True) if was_made)
        return made

    def _change(self, change: CompareAndSet, draft: str) -> bool:
        stored = self._read(change.name)
        if change.version != (stored and stored.version):
            return False
        if change.entry is not None:
            return self._place(draft, change.name, is_new=change.version is None)
        try:
            os.unlink(self._path(change.name))
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def _drafts(self, rows: Sequence[tuple[str, Entry | None]]) -> Generator[Sequence[str], None, None]:
        """Write the documents of entries, and yield the paths; an empty one where there is no entry. Drafts not used are removed."""
        drafts: list[str] = []
        try:
            for name, entry in rows:
                if entry is None:
                    drafts.append("")
                    continue
                self._make_directory(name.rpartition("/")[0], entry.collection)
                drafts.append(self._new_draft())
                self._write(drafts[-1], entry.document())
            yield drafts
        finally:
            for draft in filter(None, drafts):
                with suppress(FileNotFoundError):
                    os.unlink(draft)

    def _sync(self, names: Iterable[str]) -> None:
        for directory in {name.rpartition("/")[0] for name in names}:
            _sync(self._directory(directory))

    def refusal(self, error: Exception) -> str | None:
        """Return what the file system refused, if it is behind an error."""
        return file_errors.refusal(error, self._data.path)

    def clean(self) -> None:
        """Remove what crashes left over."""
        self._remove_old(self._directory(DRAFTS), _DRAFT)
        for directory in self._directories():
            self._remove_old(self._directory(directory), _THEIR_DRAFT)

    def _path(self, name: str) -> str:
        directory, _, file = name.rpartition("/")
        return os.path.join(self._directory(directory), files.encode_name(file))

    def _directory(self, directory: str) -> str:
        path = self._data.path
        for part in directory.split("/"):
            path = os.path.join(path, files.encode_name(part))
            if os.path.islink(path):
                raise _link(path)
        return path

    def _directories(self, within: str = "") -> Iterator[str]:
        names: list[str | None] = []
        with suppress(FileNotFoundError), os.scandir(self._directory(within)) as entries:
            names = [files.decode_name(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
        for name in filter(None, names):
            directory = f"{within}/{name}" if within else name
            # Directories of directories are collections of py-key-value-aio, and then have an info file.
            if directory.casefold() != DRAFTS and (not within or self._owner(directory) is not None):
                yield directory
                yield from self._directories(directory)

    def _owner(self, directory: str) -> str | None:
        """Return the collection that a directory was made for, if that is known."""
        owner = self._owners.get(directory)
        if owner is None:
            with suppress(ValueError, TypeError, KeyError):
                owner = orjson.loads((_content(self._info(directory)) or Stored(b"")).document or b"")["collection"]
            if not isinstance(owner, str):
                return None
            self._owners[directory] = owner
        return owner

    def _info(self, directory: str) -> str:
        return os.path.join(self._metadata.path, *map(files.encode_name, directory.split("/"))) + INFO

    def _make_directory(self, directory: str, collection: str) -> None:
        path, info = self._directory(directory), self._info(directory)
        if not os.path.isdir(path):
            self._data.make()
            files.make_directory(path, self._data.file_mode)
            _sync(self._data.path)
        if not os.path.exists(info):
            self._metadata.make()
            created_at = datetime.now(timezone.utc)
            shown = os.fsencode(path).decode(errors="replace")
            draft = self._new_draft()
            try:
                self._write(draft, orjson.dumps({"version": 1, "collection": collection, "directory": shown, "created_at": created_at}))
                os.replace(draft, info)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(draft)
            _sync(self._metadata.path)

    def _new_draft(self) -> str:
        """Return the path of a draft that is not there yet, so that whoever is interrupted in making it can remove it."""
        return os.path.join(self._directory(DRAFTS), "tmp" + "".join(secrets.choice(_LETTERS) for _ in range(8)))

    def _write(self, draft: str, content: bytes) -> None:
        def create(path: str, _: int) -> int:
            return files.open_exclusively(path, self._data.file_mode)

        try:
            file = open(draft, "xb", opener=create)  # noqa: SIM115 # closed below
        except FileNotFoundError:
            files.make_directory(os.path.dirname(draft), self._data.file_mode)
            file = open(draft, "xb", opener=create)  # noqa: SIM115 # closed below
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _place(self, draft: str, name: str, *, is_new: bool = False) -> bool:
        """Put a draft in its place; one that was seen to be empty must still be."""
        path = self._path(name)
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

    def _remove_old(self, directory: str, pattern: re.Pattern[str]) -> None:
        latest = time.time() - _DRAFT_AGE
        with suppress(FileNotFoundError), os.scandir(directory) as entries:
            for entry in entries:
                if pattern.fullmatch(entry.name):
                    with suppress(OSError):  # another process may do the same
                        if entry.stat(follow_symlinks=False).st_mtime < latest:
                            os.unlink(entry.path)


def _content(path: str) -> Stored | None:
    """Return what a file holds, or None if there is no such file."""
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
            raise _link(path) from error
        raise


def _link(path: str) -> PathSecurityError:
    return PathSecurityError(f"{path!r} is a link, which is not followed: it may lead anywhere. Put the file or directory itself there")


def _spelled_otherwise(directory: str, file: str) -> str | None:
    """Return how a file is really spelled, if the file system ignores case and it differs from how it was asked for."""
    swapped, path = (os.path.join(directory, files.encode_name(name)) for name in (file.swapcase(), file))
    if not os.path.exists(swapped) or not os.path.samefile(swapped, path):
        return None
    names = list(filter(None, map(files.decode_name, os.listdir(directory))))
    return None if file in names else next((name for name in names if name.casefold() == file.casefold()), None)


def _sync(directory: str) -> None:
    """Have the disk hold what a directory holds. Windows has no call for it."""
    if os.name == "nt":
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
