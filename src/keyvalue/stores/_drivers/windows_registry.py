"""Documents in the registry of Windows."""

from __future__ import annotations

import re
import threading
import weakref
import winreg
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, repeat
from typing import Any

from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.layout import KeyLayout, Slot, digest, digest_of
from keyvalue._core.legacy import sanitization
from keyvalue._core.listing import take_page
from keyvalue.errors import ValueTooLargeError

__all__ = ["DEEPEST", "RegistryDriver", "RegistryLayout", "check_sizes", "find_large", "is_key_name", "transient_reason"]

DEEPEST = 32
"""Levels of registry keys that one call makes: Microsoft's "Registry element size limits"."""
_LARGEST = 2**31  # bytes of UTF-16 in one value; a hive, which is one file, has at most so many: Microsoft's "Registry storage space"
_LONGEST_KEY = 255  # UTF-16 code units; Microsoft's "Registry element size limits" has this number and the next
_LONGEST_VALUE_NAME = 16_383  # UTF-16 code units too
_DIGEST = re.compile(r"~[0-9a-f]{64}", re.IGNORECASE)
_PASSES = 10
_NO_ROOM = "the system has no memory left for it, or the value is too large"

# What Windows numbers its errors.
_NO_MORE = 259  # ERROR_NO_MORE_ITEMS
_DELETED = 1018  # ERROR_KEY_DELETED
_TRANSIENT = {
    8: _NO_ROOM,  # ERROR_NOT_ENOUGH_MEMORY
    14: _NO_ROOM,  # ERROR_OUTOFMEMORY
    1016: "the registry could not be read from the disk, or written to it",  # ERROR_REGISTRY_IO_FAILED
    1115: "the system is shutting down",  # ERROR_SHUTDOWN_IN_PROGRESS
    1450: _NO_ROOM,  # ERROR_NO_SYSTEM_RESOURCES
    _DELETED: "its key in the registry was deleted at the same moment",
}

_guard = threading.Lock()
_locks: weakref.WeakValueDictionary[tuple[int, str], Any] = weakref.WeakValueDictionary()


def transient_reason(error: OSError) -> str | None:
    """Return why the registry could not be used, if that is worth retrying."""
    return _TRANSIENT.get(getattr(error, "winerror", 0))


class RegistryDriver:
    """Documents in the registry; a name is the path of a registry key below the store's, NUL and the name of a value.

    Args:
        hive: A key that is always open.
        path: The path of the store's key below it.
        depth: How many levels that has.
    """

    def __init__(self, hive: int, path: str, depth: int) -> None:
        self._hive = hive
        self._path = path
        self._depth = depth

    def close(self) -> None:
        """Do nothing: no registry key is kept open."""

    def read(self, names: Sequence[str]) -> list[Stored | None]:
        """Return what lies under some names."""
        return list(self._read(names))

    def compare_and_set(self, changes: Sequence[CompareAndSet]) -> list[bool]:
        """Make each change if its name has the expected version, and return which were made."""
        return [self._change(*change) for change in changes]

    def page(self, prefix: str, after: tuple[list[str], list[str]] | None) -> tuple[list[tuple[str, Stored]], Any]:
        """Return a page of the names that start with a prefix, which is a path and NUL or empty; and the paths and names that are left."""
        paths, names = after if after is not None else ([prefix[:-1]] if prefix else list(self._paths()), [])
        while paths and not names:
            names = self._names(paths[0])
            paths = paths[1:]
        page = take_page(zip(names, self._read(names), strict=True))
        names = names[len(page) :]
        return [(name, stored) for name, stored in page if stored is not None], (paths, names) if paths or names else None

    def _read(self, names: Sequence[str]) -> Iterator[Stored | None]:
        for path, group in groupby((name.partition("\0") for name in names), lambda parts: parts[0]):
            values = [value for _, _, value in group]
            left = len(values)
            try:
                with winreg.OpenKey(self._hive, self._full(path), 0, winreg.KEY_QUERY_VALUE) as key:
                    for value in values:
                        stored = _stored(key, value)
                        left -= 1
                        yield stored
            except OSError as error:
                if not _is_missing(error):
                    raise
                yield from repeat(None, left)

    def write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        """Store the document of each entry under its name, in place of what was there."""
        for name, entry in rows:
            self._put(name, entry)

    def _put(self, name: str, entry: Entry) -> None:
        path, _, value = name.partition("\0")
        text = entry.document().decode()
        with self._lock(name), winreg.CreateKeyEx(self._hive, self._full(path), 0, winreg.KEY_SET_VALUE) as key:
            winreg.SetValueEx(key, value, 0, winreg.REG_SZ, text)

    def _change(self, name: str, version: str | None, entry: Entry | None) -> bool:
        with self._lock(name):
            (stored,) = self.read([name])
            if version != (stored and stored.version):
                return False
            if entry is not None:
                self._put(name, entry)
                return True
            path, _, value = name.partition("\0")
            try:
                with winreg.OpenKey(self._hive, self._full(path), 0, winreg.KEY_SET_VALUE) as key:
                    winreg.DeleteValue(key, value)
            except OSError as error:
                if not _is_missing(error):
                    raise
                return False
            return True

    def _names(self, path: str) -> list[str]:
        """Return the names of all values of a registry key."""
        return [f"{path}\0{value}" for value in self._listed(path, 1, lambda key, index: winreg.EnumValue(key, index)[0])]

    def _paths(self, path: str = "", depth: int = 0) -> Iterator[str]:
        """Yield the path of the store's registry key and those of all below it, as deep as a collection may lie."""
        yield path
        if self._depth + depth < DEEPEST:
            for name in self._listed(path, 0, winreg.EnumKey):
                yield from self._paths(f"{path}\\{name}" if path else name, depth + 1)

    def _listed(self, path: str, kind: int, name: Callable[[Any, int], str]) -> list[str]:
        """Return the names of all subkeys (0) or values (1) of a registry key."""
        found: dict[str, None] = {}
        try:
            with winreg.OpenKey(self._hive, self._full(path), 0, winreg.KEY_READ) as key:
                for _ in range(_PASSES):
                    before = winreg.QueryInfoKey(key)
                    for index in range(before[kind]):
                        try:
                            found[name(key, index)] = None
                        except OSError as error:
                            if getattr(error, "winerror", 0) != _NO_MORE:
                                raise
                            break
                    # What another process adds or removes meanwhile moves the others, so that some may not have been seen.
                    if winreg.QueryInfoKey(key) == before:
                        break
        except OSError as error:
            if not _is_missing(error):
                raise
        return list(found)

    def _full(self, path: str) -> str:
        return f"{self._path}\\{path}" if path else self._path

    def _lock(self, name: str) -> Any:
        """Return the lock of a value, which is the same for all stores of this process that may change it."""
        with _guard:
            return _locks.setdefault((self._hive, f"{self._path}\\{name}".casefold()), threading.RLock())


class RegistryLayout(KeyLayout):
    """Names of values: the path of a registry key below the store's, which may be empty, then NUL and the name of the value.

    Args:
        keys: Chooses names of values.
        collections: Chooses names of registry keys.
        depth: How many levels of registry keys a collection may have.
    """

    def __init__(
        self, keys: sanitization.SanitizationStrategy | None, collections: sanitization.SanitizationStrategy | None, depth: int
    ) -> None:
        self._keys = sanitization.namer(keys, "key_sanitization_strategy")
        self._collections = sanitization.namer(collections, "collection_sanitization_strategy")
        self._depth = depth

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        path, mixed = self._paths(collection)
        name = self._keys(key) if self._keys else key
        fits = 0 < _units(name) <= _LONGEST_VALUE_NAME and "\0" not in name and not _DIGEST.fullmatch(name)
        found = [Slot(f"{path}\0{name}", "shared")] if fits else []
        found.append(Slot(f"{path}\0{digest_of(collection, key)}"))
        if fits and mixed is not None:
            found.append(Slot(f"{mixed}\0{name}", "strict"))
        return found

    def prefixes(self, collection: str) -> Sequence[str]:
        path, mixed = self._paths(collection)
        return [f"{path}\0"] if mixed is None else [f"{path}\0", f"{mixed}\0"]

    def _paths(self, collection: str) -> tuple[str, str | None]:
        r"""Return the path of a collection, and any other spelling that the registry takes for the same: `a\\b` for `a\b`."""
        path = self._collections(collection) if self._collections else collection
        parts = path.split("\\")
        there = [part for part in parts if part]
        if not all(map(is_key_name, there)) or len(there) > self._depth or _DIGEST.fullmatch(path):
            return digest(collection), None
        return (path, None) if there == parts else (digest(collection), "\\".join(there))


def is_key_name(name: str) -> bool:
    """Return whether a name is valid for a registry key."""
    return 0 < _units(name) <= _LONGEST_KEY and "\0" not in name


def _units(name: str) -> int:
    """Return how many UTF-16 code units a name has."""
    return len(name) + sum(character > "\uffff" for character in name)


def _stored(key: Any, value: str) -> Stored | None:
    try:
        text: object = winreg.QueryValueEx(key, value)[0]
    except FileNotFoundError:
        return None
    try:
        return Stored(text.encode() if isinstance(text, str) else None)
    except UnicodeEncodeError:
        return Stored(None)


def find_large(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that may be too large."""
    return [entry for entry in entries if len(entry.json) > _LARGEST // 4]


def check_sizes(entries: Sequence[Entry]) -> None:
    """Check that entries can be stored.

    Raises:
        ValueTooLargeError: A document takes more than 2 GiB.
    """
    for entry in entries:
        size = len(entry.document().decode().encode("utf-16-le")) + 2
        if size > _LARGEST:
            raise ValueTooLargeError(size, _LARGEST, entry.collection, entry.key)


def _is_missing(error: OSError) -> bool:
    return isinstance(error, FileNotFoundError) or getattr(error, "winerror", 0) == _DELETED
