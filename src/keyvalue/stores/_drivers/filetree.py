"""Documents in a tree of files."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone

import orjson

from keyvalue._core import file_errors
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.fork import register_after_fork
from keyvalue._core.listing import take_page
from keyvalue.stores._drivers import files
from keyvalue.stores._drivers.files import Directory
from keyvalue.stores._drivers.filetree_files import Drafts, place, read_file, refuse_link, remove_old, sync_directory
from keyvalue.stores._drivers.filetree_names import DRAFTS, INFO, SUFFIX
from keyvalue.stores._legacy import filetree as legacy

__all__ = ["FileTreeDriver"]


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
        self._drafts = Drafts(self._data.subdirectory(DRAFTS))
        self._collections: dict[str, str] = {}
        self._after_fork()
        register_after_fork(self)
        self._drafts.remove_old()

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # held while versions are compared and files put in their places

    def close(self) -> None:
        """Do nothing: no file is kept open."""

    def read(self, names: Sequence[str]) -> list[Stored | None]:
        """Return what lies under some names.

        Raises:
            PathSecurityError: A link is in the way.
        """
        return [self._read(name) for name in names]

    def page(self, prefix: str, after: Sequence[str] | None) -> tuple[list[tuple[str, Stored]], Sequence[str] | None]:
        """Return a page of the names that start with a prefix, which is a directory with a slash or empty, and the names that are left."""
        names = after if after is not None else list(self._names_in(prefix[:-1]) if prefix else self._all_names())
        page = take_page((name, self._read(name, listing=True)) for name in names)
        return [(name, stored) for name, stored in page if stored is not None], names[len(page) :] or None

    def write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        """Store an entry under each name. They are on the disk then."""
        with self._drafts.write(self._contents(rows)) as drafts:
            for (name, _), draft in zip(rows, drafts, strict=True):
                place(draft, self._path(name))
        self._sync(name for name, _ in rows)

    def compare_and_set(self, changes: Sequence[CompareAndSet]) -> list[bool]:
        """Make each change if its name has the expected version, and return which were made. They are on the disk then."""
        with self._drafts.write(self._contents((change.name, change.entry) for change in changes)) as drafts, self._lock:
            made = [self._change(change, draft) for change, draft in zip(changes, drafts, strict=True)]
        self._sync(change.name for change, was_made in zip(changes, made, strict=True) if was_made)
        return made

    def clean(self) -> None:
        """Remove what crashes left over."""
        self._drafts.remove_old()
        for directory in self._directories():
            remove_old(self._directory(directory), legacy.DRAFT)

    def refusal(self, error: Exception) -> str | None:
        """Return what the file system refused, if it is behind an error."""
        return file_errors.refusal(error, self._data.path)

    def _read(self, name: str, *, listing: bool = False) -> Stored | None:
        directory, _, file = name.rpartition("/")
        path = self._directory(directory)
        stored = read_file(os.path.join(path, files.encode_name(file)))
        if stored is None or not legacy.lacks_names(stored.document):
            return stored
        collection = self._collection_of(directory)
        if listing:
            return legacy.add_names(stored, directory if collection is None else collection, file)
        return legacy.add_names(stored, collection, legacy.respelled(path, file))

    def _change(self, change: CompareAndSet, draft: str) -> bool:
        stored = self._read(change.name)
        if change.version != (stored and stored.version):
            return False
        if change.entry is not None:
            return place(draft, self._path(change.name), is_new=change.version is None)
        try:
            os.unlink(self._path(change.name))
        except FileNotFoundError:
            return False
        return True

    def _contents(self, rows: Iterable[tuple[str, Entry | None]]) -> Iterator[bytes | None]:
        """Yield the documents of entries, once their directories are there."""
        for name, entry in rows:
            if entry is not None:
                self._make_directory(name.rpartition("/")[0], entry.collection)
            yield entry and entry.document()

    def _sync(self, names: Iterable[str]) -> None:
        for directory in {name.rpartition("/")[0] for name in names}:
            sync_directory(self._directory(directory))

    def _path(self, name: str) -> str:
        directory, _, file = name.rpartition("/")
        return os.path.join(self._directory(directory), files.encode_name(file))

    def _directory(self, directory: str) -> str:
        path = self._data.path
        for part in directory.split("/"):
            path = os.path.join(path, files.encode_name(part))
            refuse_link(path)
        return path

    def _make_directory(self, directory: str, collection: str) -> None:
        """Make a directory and its info file if they are missing."""
        path, info = self._directory(directory), self._info(directory)
        if not os.path.isdir(path):
            self._data.make()
            files.make_directory(path, self._data.file_mode)
            sync_directory(self._data.path)
        if not os.path.exists(info):
            self._metadata.make()
            shown = os.fsencode(path).decode(errors="replace")
            row = {"version": 1, "collection": collection, "directory": shown, "created_at": datetime.now(timezone.utc)}
            with self._drafts.write([orjson.dumps(row)]) as (draft,):
                place(draft, info)
            sync_directory(self._metadata.path)

    def _info(self, directory: str) -> str:
        return os.path.join(self._metadata.path, *map(files.encode_name, directory.split("/"))) + INFO

    def _collection_of(self, directory: str) -> str | None:
        """Return the collection that a directory was made for, if that is known."""
        collection = self._collections.get(directory)
        if collection is None:
            with suppress(ValueError, TypeError, KeyError):
                collection = orjson.loads((read_file(self._info(directory)) or Stored(b"")).document or b"")["collection"]
            if not isinstance(collection, str):
                return None
            self._collections[directory] = collection
        return collection

    def _all_names(self) -> Iterator[str]:
        """Yield the names of all documents."""
        for directory in self._directories():
            yield from self._names_in(directory)

    def _names_in(self, directory: str) -> Iterator[str]:
        """Yield the names of the documents in a directory."""
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._directory(directory)) as entries:
            for entry in entries:
                name = files.decode_name(entry.name)
                if name is not None and name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                    yield f"{directory}/{name}"

    def _directories(self, within: str = "") -> Iterator[str]:
        names: list[str | None] = []
        with suppress(FileNotFoundError), os.scandir(self._directory(within)) as entries:
            names = [files.decode_name(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
        for name in filter(None, names):
            directory = f"{within}/{name}" if within else name
            # Directories of directories are collections of py-key-value-aio, and then have an info file.
            if directory.casefold() != DRAFTS and (not within or self._collection_of(directory) is not None):
                yield directory
                yield from self._directories(directory)
