"""A fake of winreg, for systems that are not Windows. `tests/stores/test_fake_winreg.py` compares it with the real one, where there is one.

It is a tree of keys in memory. Names are the same if they differ only in case, and keep the form in which they were first given. As on
Windows, a key that is deleted is gone for the handles that are open on it, and a handle only does what it was opened for.
"""

# ruff: noqa: N802 # winreg's functions have these names

from __future__ import annotations

import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Any

KEY_QUERY_VALUE, KEY_SET_VALUE, KEY_CREATE_SUB_KEY, KEY_ENUMERATE_SUB_KEYS, KEY_NOTIFY = 1, 2, 4, 8, 16
KEY_READ = 0x20019
KEY_WRITE = 0x20006
KEY_ALL_ACCESS = 0xF003F
HKEY_CURRENT_USER = 0xFFFF_FFFF_8000_0001  # where Windows has 64 bits
HKEY_LOCAL_MACHINE = 0xFFFF_FFFF_8000_0002
REG_NONE, REG_SZ, REG_EXPAND_SZ, REG_BINARY, REG_DWORD, REG_MULTI_SZ, REG_QWORD = 0, 1, 2, 3, 4, 7, 11

_LONGEST_KEY = 255
_LONGEST_VALUE_NAME = 16_383
_ERRORS: dict[int, tuple[type[OSError], int, str]] = {
    2: (FileNotFoundError, 2, "The system cannot find the file specified"),
    5: (PermissionError, 13, "Access is denied"),
    6: (OSError, 9, "The handle is invalid"),
    87: (OSError, 22, "The parameter is incorrect"),
    161: (FileNotFoundError, 2, "The specified path is invalid"),
    259: (OSError, 22, "No more data is available"),
    1018: (OSError, 22, "Illegal operation attempted on a registry key that has been marked for deletion"),
}

_everything = threading.RLock()
_moments = count(133_000_000_000_000_000)
_unclosed = 0


@dataclass(eq=False)
class _Key:
    name: str
    keys: dict[str, _Key] = field(default_factory=dict["str", "_Key"])
    values: dict[str, tuple[str, Any, int]] = field(default_factory=dict["str", "tuple[str, Any, int]"])
    modified: int = 0
    is_deleted: bool = False
    denied: int = 0

    def touch(self) -> None:
        self.modified = next(_moments)


_HIVES = {HKEY_CURRENT_USER: _Key("HKEY_CURRENT_USER"), HKEY_LOCAL_MACHINE: _Key("HKEY_LOCAL_MACHINE")}
for _hive in _HIVES.values():
    _hive.keys["SOFTWARE"] = _Key("Software")


class PyHKEY:
    """A handle."""

    def __init__(self, key: _Key, access: int) -> None:
        global _unclosed  # noqa: PLW0603 # all handles of the process
        self._key: _Key | None = key
        self._access = access
        _unclosed += 1

    def Close(self) -> None:
        global _unclosed  # noqa: PLW0603 # likewise
        with _everything:
            _unclosed -= self._key is not None
            self._key = None

    def __bool__(self) -> bool:
        return self._key is not None

    def __enter__(self) -> PyHKEY:
        return self

    def __exit__(self, *_: object) -> None:
        self.Close()

    def key_for(self, access: int) -> _Key:
        if self._key is None:
            raise failure(6)
        if self._key.is_deleted:
            raise failure(1018)
        if access & ~self._access:
            raise failure(5)
        return self._key


# What only the fake has.


def failure(number: int) -> OSError:
    """Return the error that winreg raises for an error number of Windows."""
    kind, errno, text = _ERRORS.get(number, (OSError, 22, "An error"))
    error: Any = kind(errno, text)
    error.winerror = number
    return error


@contextmanager
def denying(hive: int, path: str, access: int) -> Generator[None, None, None]:
    """Have a key, which must be there, not be opened for something until the end of the block."""
    key = _found(_HIVES[hive], path)
    assert key is not None
    key.denied = access
    try:
        yield
    finally:
        key.denied = 0


def unclosed() -> int:
    """Return how many handles nobody has closed, also of those that have been collected as garbage."""
    return _unclosed


@contextmanager
def installed() -> Generator[None, None, None]:
    """Have what is imported in the block find this fake as winreg, unless there is a real one."""
    if sys.platform == "win32":
        yield
        return
    sys.modules["winreg"] = sys.modules[__name__]
    try:
        yield
    finally:
        del sys.modules["winreg"]


# What winreg has.


def OpenKey(key: Any, sub_key: str | None, reserved: int = 0, access: int = KEY_READ) -> PyHKEY:
    with _everything:
        found = _found(_key(key), _checked(sub_key))
        if found is None:
            raise failure(2)
        return _opened(found, access)


def CreateKeyEx(key: Any, sub_key: str | None, reserved: int = 0, access: int = KEY_WRITE) -> PyHKEY:
    with _everything:
        here = _key(key)
        for part in _parts(_checked(sub_key)):
            if _units(part) > _LONGEST_KEY:
                raise failure(87)
            below = here.keys.get(folded(part))
            if below is None:
                if here.denied & KEY_CREATE_SUB_KEY:
                    raise failure(5)
                below = here.keys[folded(part)] = _Key(part)
                here.touch()
            here = below
        return _opened(here, access)


def CreateKey(key: Any, sub_key: str | None) -> PyHKEY:
    return CreateKeyEx(key, sub_key, 0, KEY_ALL_ACCESS)


def DeleteKey(key: Any, sub_key: str) -> None:
    with _everything:
        *above, last = _parts(_checked(sub_key))
        parent = _found(_key(key), "\\".join(above))
        found = parent and parent.keys.get(folded(last))
        if parent is None or found is None:
            raise failure(2)
        if found.keys:
            raise failure(5)
        found.is_deleted = True
        del parent.keys[folded(last)]
        parent.touch()


def DeleteValue(key: Any, value: str | None) -> None:
    with _everything:
        here = _key(key, KEY_SET_VALUE)
        if here.values.pop(folded(_checked(value)), None) is None:
            raise failure(2)
        here.touch()


def EnumKey(key: Any, index: int) -> str:
    with _everything:
        keys = sorted(_key(key, KEY_ENUMERATE_SUB_KEYS).keys.items())
        if not 0 <= index < len(keys):
            raise failure(259)
        return keys[index][1].name


def EnumValue(key: Any, index: int) -> tuple[str, Any, int]:
    with _everything:
        values = list(_key(key, KEY_QUERY_VALUE).values.values())
        if not 0 <= index < len(values):
            raise failure(259)
        return values[index]


def QueryInfoKey(key: Any) -> tuple[int, int, int]:
    with _everything:
        here = _key(key, KEY_QUERY_VALUE)
        return len(here.keys), len(here.values), here.modified


def QueryValueEx(key: Any, name: str | None) -> tuple[Any, int]:
    with _everything:
        found = _key(key, KEY_QUERY_VALUE).values.get(folded(_checked(name)))
        if found is None:
            raise failure(2)
        return found[1:]


def SetValueEx(key: Any, value_name: str | None, reserved: Any, type: int, value: Any) -> None:  # noqa: A002 # as in winreg
    with _everything:
        here = _key(key, KEY_SET_VALUE)
        name = _checked(value_name)
        if _units(name) > _LONGEST_VALUE_NAME:
            raise failure(87)
        was = here.values.get(folded(name))
        here.values[folded(name)] = (was[0] if was else name, _converted(type, value), type)
        here.touch()


def _key(key: Any, access: int = 0) -> _Key:
    if isinstance(key, PyHKEY):
        return key.key_for(access)
    if key not in _HIVES:
        raise failure(6)
    return _HIVES[key]


def _opened(key: _Key, access: int) -> PyHKEY:
    if access & key.denied:
        raise failure(5)
    return PyHKEY(key, access)


def _found(key: _Key, path: str) -> _Key | None:
    for part in _parts(path):
        below = key.keys.get(folded(part))
        if below is None:
            return None
        key = below
    return key


def _parts(path: str) -> Iterator[str]:
    if path.startswith("\\"):
        raise failure(161)
    return filter(None, path.split("\\"))


def _checked(name: str | None) -> str:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"argument must be str or None, not {type(name).__name__}")
    if name and "\0" in name:
        raise ValueError("embedded null character")
    return name or ""


def folded(name: str) -> str:
    """Return what names that are the same to Windows have in common: their UTF-16 code units are, or the one is the other's capital."""
    return "".join(map(_capital, name))


@lru_cache(None)
def _capital(character: str) -> str:
    capitals = (character.upper(), character.title())
    return next((one for one in capitals if character <= "\uffff" and len(one) == 1 and one.lower() == character), character)


def _units(name: str) -> int:
    return len(name.encode("utf-16-le", "surrogatepass")) // 2


def _converted(kind: int, value: Any) -> Any:
    wanted: dict[int, tuple[type, ...]] = {
        REG_SZ: (str,),
        REG_EXPAND_SZ: (str,),
        REG_DWORD: (int,),
        REG_QWORD: (int,),
        REG_MULTI_SZ: (list,),
    }
    types = wanted.get(kind, (bytes,))
    if value is None:
        return {str: "", int: 0, list: [], bytes: None}[types[0]]
    if not isinstance(value, types):
        raise (TypeError if bytes in types else ValueError)("Could not convert the data to the specified type.")
    return value.partition("\0")[0] if isinstance(value, str) else value or None if isinstance(value, bytes) else value
