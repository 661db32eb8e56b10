"""Documents in diskcache's rows: in one cache, or in one for each collection."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# diskcache has no types.

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeVar

import diskcache
from pathvalidate import sanitize_filename

from keyvalue._core import clock, file_errors
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.layout import KeyLayout, Slot, digest
from keyvalue.errors import PathSecurityError
from keyvalue.stores._drivers import files
from keyvalue.stores._drivers.disk_cache import CacheRow, holds_cache, open_cache, settings_of
from keyvalue.stores._drivers.files import Directory

__all__ = ["DirectoryLayout", "DiskDriver", "FactoryLayout", "MultiDiskDriver"]

T = TypeVar("T")

_DIGEST = re.compile(r"~[0-9a-f]{64}")
_OPEN = 32  # caches at a time, of three files each


class DiskDriver:
    """Documents in the rows of one cache. Makes one call at a time.

    Args:
        directory: The directory of the cache.
        settings: See `open_cache`.
    """

    def __init__(self, directory: Directory, **settings: Any) -> None:
        self._cache = open_cache(directory, **settings)
        self.read = self._cache.read_all
        self.pop = self._cache.pop_all
        self.page = self._cache.page
        self.clean = self._cache.expire
        self.close = self._cache.close
        self.is_in_place = self._cache.is_in_place
        self.refusal = self._cache.refusal

    def write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        """Store the document of each entry under its name, all in one transaction."""
        if len(rows) == 1:
            self._cache.set(*_row(*rows[0]))
        else:
            self._cache.set_many([_row(name, entry) for name, entry in rows])

    def compare_and_set(self, changes: Sequence[CompareAndSet]) -> list[bool]:
        """Make each change if its name has the expected version, in one transaction, and return which were made."""
        return self._cache.compare_and_set([(name, version, entry and _row(name, entry)) for name, version, entry in changes])


class MultiDiskDriver:
    """Documents in the rows of many caches, of which only a few are open at a time. Makes one call at a time.

    Args:
        base: The directory in which each has one of its own; None if they are made by `factory`.
        factory: Returns the cache of that name.
        settings: diskcache's, for those in the directory.
    """

    def __init__(self, base: Directory | None, factory: Callable[[str], diskcache.Cache] | None, **settings: Any) -> None:
        self._base = base
        self._factory = factory
        self._settings = settings
        self._open: OrderedDict[str, DiskDriver] = OrderedDict()
        if base is not None:
            base.make()

    def read(self, names: Sequence[str]) -> list[Stored | None]:
        """Return what lies under some names."""
        found: dict[str, Stored | None] = {}
        for directory, some in _by_directory(names, str):
            cache = self._cache(directory, create=False)
            if cache is not None:
                found |= zip(some, cache.read(list(map(key_of, some))), strict=True)
        return [found.get(name) for name in names]

    def write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        """Store the document of each entry under its name; those of a cache in one transaction."""
        for directory, some in _by_directory(rows, itemgetter(0)):
            self._cache_to_write(directory).write([(key_of(name), entry) for name, entry in some])

    def compare_and_set(self, changes: Sequence[CompareAndSet]) -> list[bool]:
        """Make each change if its name has the expected version, and return which were made."""
        made: dict[str, bool] = {}
        for directory, some in _by_directory(changes, itemgetter(0)):
            changed = self._cache_to_write(directory).compare_and_set([change._replace(name=key_of(change.name)) for change in some])
            made |= zip([change.name for change in some], changed, strict=True)
        return [made[change.name] for change in changes]

    def page(self, prefix: str, after: tuple[list[str], Any] | None) -> tuple[list[tuple[str, Stored]], Any]:
        """Return a page of the names that start with a prefix, and where to go on: the directories left, and the last row.

        The prefix names a directory, or is empty.
        """
        directories, last = after if after is not None else ([directory_of(prefix)] if prefix else self._names(), None)
        if not directories:
            return [], None
        cache = self._cache(directories[0], create=False)
        rows, last = ([], None) if cache is None else cache.page("", last)
        page = [(join(directories[0], key), stored) for key, stored in rows]
        directories = directories if last is not None else directories[1:]
        return page, (directories, last) if directories else None

    def clean(self) -> None:
        """Remove rows that have expired."""
        for directory in self._names():
            cache = self._cache(directory, create=False)
            if cache is not None:
                cache.clean()

    def _cache_to_write(self, directory: str) -> DiskDriver:
        cache = self._cache(directory, create=True)
        assert cache is not None
        return cache

    def _names(self) -> list[str]:
        """Return the names of the caches in the directory."""
        assert self._base is not None
        self._base.make()
        with os.scandir(self._base.path) as entries:
            found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and holds_cache(entry.path)]
        return [name for name in map(files.decode_name, found) if name is not None]

    def _cache(self, name: str, *, create: bool) -> DiskDriver | None:
        """Return a cache, or None if it is missing and not to be created.

        Raises:
            PathSecurityError: Its directory is a link.
        """
        cache = self._open.get(name)
        if cache is not None and cache.is_in_place():
            self._open.move_to_end(name)
            return cache
        if cache is not None:
            self._open.pop(name).close()
        settings = self._settings
        if self._base is not None:
            self._base.make()
            directory = self._base.subdirectory(name)
            if os.path.islink(directory.path):
                raise PathSecurityError(
                    f"{directory.path!r} is a link, which is not followed: it may lead anywhere. Put the directory itself there"
                )
            if not create and not holds_cache(directory.path):
                return None
        else:
            assert self._factory is not None
            made = self._factory(name)
            directory, settings = settings_of(made, "disk_cache_factory must return")
            made.close()  # it opens itself again if its maker uses it
        cache = DiskDriver(directory, **settings)
        if name in self._open:  # the handler of a signal has opened it meanwhile
            cache.close()
            return self._open[name]
        self._open[name] = cache
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)[1].close()
        return cache

    def refusal(self, error: Exception) -> str | None:
        """Return what the file system refused, if it is behind an error of the call before."""
        used = next(reversed(self._open.values()), None)
        return file_errors.refusal(error) if used is None else used.refusal(error)

    def close(self) -> None:
        """Close those that are open."""
        while self._open:
            self._open.popitem()[1].close()


def join(directory: str, key: str) -> str:
    """Return a name: the directory's length, `/`, the directory and the key."""
    return f"{len(directory)}/{directory}{key}"


def directory_of(name: str) -> str:
    """Return the directory in a name."""
    length, _, rest = name.partition("/")
    return rest[: int(length)]


def key_of(name: str) -> str:
    """Return the key in a name."""
    length, _, rest = name.partition("/")
    return rest[int(length) :]


class FactoryLayout(KeyLayout):
    """Where documents lie if a factory makes the caches: each in that of its collection."""

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        """Return the slots of a pair."""
        return (Slot(join(collection, key)),)

    def prefixes(self, collection: str) -> Sequence[str]:
        """Return what the names of a collection start with."""
        return (join(collection, ""),)

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str]:
        """Return the names of pairs."""
        return [join(collection, key) for key in keys]


class DirectoryLayout(KeyLayout):
    """Where documents lie if a directory holds the caches: in one named after the collection, or after its SHA-256."""

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        """Return the slots of a pair."""
        return [Slot(prefix + key, kind) for prefix, kind in _directories(collection)]

    def prefixes(self, collection: str) -> Sequence[str]:
        """Return what the names of a collection start with."""
        return [prefix for prefix, _ in _directories(collection)]


@lru_cache(1024)  # pathvalidate takes its time
def _directories(collection: str) -> Sequence[Slot]:
    """Return the prefixes of the names of a collection's slots."""
    own = Slot(join(digest(collection), ""))
    directory = sanitize_filename(collection, fs_encoding="utf-8")
    if directory in ("", ".", ".."):
        return (own,)
    if directory == collection and not _DIGEST.fullmatch(collection):
        return Slot(join(directory, ""), "shared"), own
    return own, Slot(join(directory, ""), "strict")


def _by_directory(items: Sequence[T], name: Callable[[T], str]) -> Iterable[tuple[str, list[T]]]:
    found: dict[str, list[T]] = {}
    for item in items:
        found.setdefault(directory_of(name(item)), []).append(item)
    return found.items()


def _row(name: str, entry: Entry) -> CacheRow:
    # A millisecond more than what is left, lest SQLite's clock cut it short.
    return name, entry.document().decode(), None if entry.expires_at is None else entry.expires_at - clock.now() + 0.001
