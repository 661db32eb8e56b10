"""A store in the registry of Windows, over winreg."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from itertools import groupby, repeat
from typing import Any, ClassVar, Literal

from keyvalue._core import arguments, runtime
from keyvalue._core.client import Client
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.error_rules import ErrorRule
from keyvalue._core.layout import KeyLayout, Slot, digest, digest_of
from keyvalue._core.legacy import sanitization
from keyvalue._core.listing import EnumerableFlatStore, take_page
from keyvalue._core.store import Stability
from keyvalue.errors import KeyValueError, StoreConnectionError, StoreRefusedError, ValueTooLargeError

try:
    import winreg
except ImportError as _error:
    raise ImportError(
        "WindowsRegistryStore is for Windows only: it needs winreg, which Python has on no other system. "
        "Use another store here, such as keyvalue.stores.filetree.FileTreeStore",
        name="winreg",
    ) from _error

__all__ = ["WindowsRegistryStore", "WindowsRegistryV1CollectionSanitizationStrategy"]

_PATH = "Software\\py-key-value"
_LONGEST_KEY = 255  # UTF-16 code units; Microsoft's "Registry element size limits" has this number and the next two
_LONGEST_VALUE_NAME = 16_383  # likewise
_DEEPEST = 32  # levels that one call makes
_LARGEST = 2**31  # bytes of UTF-16 in one value; a hive, which is one file, has at most so many: Microsoft's "Registry storage space"
_PASSES = 10
_DIGEST = re.compile(r"~[0-9a-f]{64}", re.IGNORECASE)
_OWN = "this user has no rights to that key of the registry; change its permissions, or choose another registry_path"
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


def _transient_reason(error: OSError) -> str | None:
    return _TRANSIENT.get(getattr(error, "winerror", 0))


class WindowsRegistryV1CollectionSanitizationStrategy(sanitization.HybridSanitizationStrategy):
    """The names of registry keys: letters and digits of ASCII, at most 96; what is changed gets 8 digits of a SHA-256."""

    def __init__(self) -> None:
        super().__init__(max_length=96, allowed_characters=sanitization.ALPHANUMERIC)


class WindowsRegistryStore(EnumerableFlatStore):
    r"""Keeps each entry in a value of the registry of Windows, for small things: Microsoft advises against more than 2048 bytes in a value.

    Format: under the registry key `<hive>\<registry_path>\<collection>`, a value of type REG_SZ that is named by the key holds the JSON
    document of `keyvalue._core.entry`. A `\` in a collection separates registry keys. With sanitization strategies, their names stand for
    collection and key. What can't be a name in the registry (a collection of which a part between two `\` is empty or has more than 255
    UTF-16 code units, or that is more than 32 levels deep with the path; a key of more than 16383; what holds NUL) is replaced by `~` and
    the SHA-256 in hexadecimal, of the collection or of `<characters in the collection>:<collection>:<key>`. So is a key whose value holds
    another entry's document: the registry ignores case. Whose a value is, is written in it.

    A put is one value, set as a whole, and so is what a read sees. But the registry can't compare and set: where two processes write the
    same key, or keys that differ in case only, at the same moment, the later one may replace what it has not seen. For the same reason
    deleting reads first, and two processes that delete at the same moment may both be told that the entry was there. Within one
    process neither happens.

    Expired entries take up space until `cull`. Calls run in worker threads on asyncio and trio, in synchronous code directly.

    Args:
        hive: "HKEY_CURRENT_USER", which is the default, or "HKEY_LOCAL_MACHINE", where only administrators may write.
        registry_path: The registry key under the hive in which the collections lie. Default `Software\py-key-value`.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.
        key_sanitization_strategy: What names values: an object with `sanitize(key)`. Default: the key itself.
        collection_sanitization_strategy: What names registry keys, likewise.

    Raises:
        ImportError: On importing the module: this is not Windows.
        ValueError: The hive is another one, or the path can't be one.
        StoreRefusedError: On use: the user may not do that, or the registry refuses for another reason.
        StoreConnectionError: On use: memory, the disk or a deletion at the same moment is in the way.
        ValueTooLargeError: On put: the document takes more than 2 GiB of UTF-16, as much as a whole file of the registry.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    errors = (
        ErrorRule(OSError, StoreConnectionError, _transient_reason, when=_transient_reason),
        ErrorRule(PermissionError, StoreRefusedError, "this user may not do that; only administrators may write to HKEY_LOCAL_MACHINE"),
        ErrorRule(OSError, StoreRefusedError, "the registry refused"),
    )

    @arguments.checked
    def __init__(
        self,
        *,
        hive: Literal["HKEY_CURRENT_USER", "HKEY_LOCAL_MACHINE"] | None = None,
        registry_path: str | None = None,
        default_collection: str | None = None,
        key_sanitization_strategy: sanitization.SanitizationStrategy | None = None,
        collection_sanitization_strategy: sanitization.SanitizationStrategy | None = None,
    ) -> None:
        super().__init__(default_collection=default_collection)
        hive = hive or "HKEY_CURRENT_USER"
        if hive not in ("HKEY_CURRENT_USER", "HKEY_LOCAL_MACHINE"):
            raise ValueError('The hive must be "HKEY_CURRENT_USER" or "HKEY_LOCAL_MACHINE"')
        path = registry_path or _PATH
        parts = path.split("\\")
        if not all(map(_is_key, parts)) or len(parts) >= _DEEPEST:
            raise ValueError(
                rf"No registry_path can be {path[:300]!r}: give it without the hive, without \ at its ends, and at most 31 levels deep"
            )
        self.layout = _RegistryNames(key_sanitization_strategy, collection_sanitization_strategy, _DEEPEST - len(parts))
        self._host = f"{hive}\\{path}"
        self._client = Client(
            "WindowsRegistryStore",
            make=lambda: _Registry(getattr(winreg, hive), path, len(parts)),
            close=lambda _: None,
            explain=lambda _, error: _OWN if isinstance(error, PermissionError) and hive == "HKEY_CURRENT_USER" else None,
        )

    async def _put(self, collection: str, entries: Sequence[Entry]) -> Sequence[KeyValueError | None] | None:
        large = [entry for entry in entries if len(entry.json) > _LARGEST // 4]
        if large:  # their exact size is only known by writing them
            await runtime.run_in_worker(lambda: _check_sizes(large))
        return await super()._put(collection, entries)

    def _read(self, names: Sequence[str], *, lenient: bool = False) -> Awaitable[Sequence[Stored | None]]:
        return self._use(lambda registry: list(registry.read(names)))

    def _write(self, rows: Sequence[tuple[str, Entry]]) -> Awaitable[None]:
        return self._use(lambda registry: registry.write(rows))

    def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Awaitable[Sequence[bool]]:
        return self._use(lambda registry: [registry.compare_and_set(change) for change in changes])

    async def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        for path in [prefix[:-1]] if prefix else await self._use(lambda registry: list(registry.paths())):
            names = await self._use(lambda registry, path=path: registry.names(path))
            while names:
                page = await self._use(lambda registry, names=names: take_page(zip(names, registry.read(names), strict=True)))
                yield [(name, stored) for name, stored in page if stored is not None]
                names = names[len(page) :]


class _RegistryNames(KeyLayout):
    """The names of values: the path of a registry key below that of the store, which may be empty, then NUL and the value's own name.

    Args:
        keys: What names values.
        collections: What names registry keys.
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
        r"""Return the path of a collection; and, if the registry would take its name for another's, also that one's: `a\\b` for `a\b`."""
        path = self._collections(collection) if self._collections else collection
        parts = path.split("\\")
        there = [part for part in parts if part]
        if not all(map(_is_key, there)) or len(there) > self._depth or _DIGEST.fullmatch(path):
            return digest(collection), None
        return (path, None) if there == parts else (digest(collection), "\\".join(there))


class _Registry:
    """Documents in the registry; see `_RegistryNames` for their names.

    Args:
        hive: A key that is always open.
        path: The path of the store's key below it.
        depth: How many levels that has.
    """

    def __init__(self, hive: int, path: str, depth: int) -> None:
        self._hive = hive
        self._path = path
        self._depth = depth

    def read(self, names: Sequence[str]) -> Iterator[Stored | None]:
        """Yield what lies under some names."""
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

    def compare_and_set(self, change: CompareAndSet) -> bool:
        """Make a change if what lies under its name has the expected version, and return whether it was made."""
        name, version, entry = change
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

    def names(self, path: str) -> list[str]:
        """Return the names of all values of a registry key."""
        return [f"{path}\0{value}" for value in self._listed(path, 1, lambda key, index: winreg.EnumValue(key, index)[0])]

    def paths(self, path: str = "", depth: int = 0) -> Iterator[str]:
        """Yield the path of the store's registry key and those of all below it, as deep as a collection may lie."""
        yield path
        if self._depth + depth < _DEEPEST:
            for name in self._listed(path, 0, winreg.EnumKey):
                yield from self.paths(f"{path}\\{name}" if path else name, depth + 1)

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


def _stored(key: Any, value: str) -> Stored | None:
    try:
        text: object = winreg.QueryValueEx(key, value)[0]
    except FileNotFoundError:
        return None
    try:
        return Stored(text.encode() if isinstance(text, str) else None)
    except UnicodeEncodeError:
        return Stored(None)


def _check_sizes(entries: Sequence[Entry]) -> None:
    for entry in entries:
        size = len(entry.document().decode().encode("utf-16-le")) + 2
        if size > _LARGEST:
            raise ValueTooLargeError(size, _LARGEST, entry.collection, entry.key)


def _is_missing(error: OSError) -> bool:
    return isinstance(error, FileNotFoundError) or getattr(error, "winerror", 0) == _DELETED


def _is_key(name: str) -> bool:
    """Return whether a registry key can have a name."""
    return 0 < _units(name) <= _LONGEST_KEY and "\0" not in name


def _units(name: str) -> int:
    """Return how many UTF-16 code units a name has."""
    return len(name) + sum(character > "\uffff" for character in name)
