"""A fake of winreg, for systems that are not Windows. `tests/stores/test_fake_winreg.py` compares it with the real one, where there is one.

It is a tree of keys in memory. Names are the same if they differ only in case, and keep the form in which they were first given. As on
Windows, a key that is deleted is gone for the handles that are open on it, and a handle only does what it was opened for.
"""

# ruff: noqa: N802 # winreg's functions have these names

from __future__ import annotations

import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")

KEY_QUERY_VALUE, KEY_SET_VALUE, KEY_CREATE_SUB_KEY, KEY_ENUMERATE_SUB_KEYS = 1, 2, 4, 8
KEY_READ, KEY_WRITE, KEY_ALL_ACCESS = 0x20019, 0x20006, 0xF003F
HKEY_CURRENT_USER = 0xFFFF_FFFF_8000_0001  # where Windows has 64 bits
HKEY_LOCAL_MACHINE = 0xFFFF_FFFF_8000_0002
REG_NONE, REG_SZ, REG_EXPAND_SZ, REG_BINARY, REG_DWORD, REG_MULTI_SZ, REG_QWORD = 0, 1, 2, 3, 4, 7, 11

_LONGEST_KEY = 255
_LONGEST_VALUE_NAME = 16_383
_ERRNO = {2: 2, 5: 13, 6: 9, 161: 2}  # by Windows' number; 22 for others
_TEXT, _NUMBER = (str, ""), (int, 0)
_DATA = {REG_SZ: _TEXT, REG_EXPAND_SZ: _TEXT, REG_DWORD: _NUMBER, REG_QWORD: _NUMBER, REG_MULTI_SZ: (list, [])}
"""The class of data by type, and what stands for none."""

_everything = threading.RLock()
_moments = count(133_000_000_000_000_000)


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


_HIVES = {hive: _Key("", {"SOFTWARE": _Key("Software")}) for hive in (HKEY_CURRENT_USER, HKEY_LOCAL_MACHINE)}


class PyHKEY:
    """A handle."""

    def __init__(self, key: _Key, access: int) -> None:
        if access & key.denied:
            raise failure(5)
        self._key: _Key | None = key
        self._access = access
        _unclosed.add(self)

    def Close(self) -> None:
        self._key = None
        _unclosed.discard(self)

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


_unclosed: set[PyHKEY] = set()


# What only the fake has.


def failure(number: int) -> OSError:
    """Return the error that winreg raises for an error number of Windows."""
    error: Any = OSError(_ERRNO.get(number, 22), f"Windows' error {number}")
    error.winerror = number
    return error


@contextmanager
def deny(hive: int, path: str, access: int) -> Generator[None, None, None]:
    """Have a key, which must be there, not be opened for something until the end of the block."""
    key = _find(_HIVES[hive], path)
    assert key is not None
    key.denied = access
    try:
        yield
    finally:
        key.denied = 0


def count_unclosed() -> int:
    """Return how many handles nobody has closed, also of those that nobody has any more."""
    return len(_unclosed)


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


def walk(winreg: Any, path: str, hive: int = HKEY_CURRENT_USER) -> Iterator[tuple[str, list[tuple[str, Any, int]]]]:
    """Yield the keys below one and that itself, by way of the fake or the real winreg: the path of each, and its values."""
    try:
        with winreg.OpenKey(hive, path) as key:
            keys, count, _ = winreg.QueryInfoKey(key)
            below = [winreg.EnumKey(key, index) for index in range(keys)]
            values = [winreg.EnumValue(key, index) for index in range(count)]
    except FileNotFoundError:
        return
    for name in below:
        yield from walk(winreg, f"{path}\\{name}", hive)
    yield path, values


# What winreg has.


def OpenKey(key: Any, sub_key: str | None, reserved: int = 0, access: int = KEY_READ) -> PyHKEY:
    with _alone_with(key) as here:
        found = _find(here, _check(sub_key))
        if found is None:
            raise failure(2)
        return PyHKEY(found, access)


def CreateKeyEx(key: Any, sub_key: str | None, reserved: int = 0, access: int = KEY_WRITE) -> PyHKEY:
    with _alone_with(key) as place:
        here = place
        for part in _parts(_check(sub_key)):
            if _units(part) > _LONGEST_KEY:
                raise failure(87)
            if fold(part) not in here.keys:
                if here.denied & KEY_CREATE_SUB_KEY:
                    raise failure(5)
                here.keys[fold(part)] = _Key(part)
                here.touch()
            here = here.keys[fold(part)]
        return PyHKEY(here, access)


def CreateKey(key: Any, sub_key: str | None) -> PyHKEY:
    return CreateKeyEx(key, sub_key, 0, KEY_ALL_ACCESS)


def DeleteKey(key: Any, sub_key: str) -> None:
    with _alone_with(key) as here:
        *above, last = _parts(_check(sub_key))
        parent = _find(here, "\\".join(above))
        found = parent and parent.keys.get(fold(last))
        if parent is None or found is None:
            raise failure(2)
        if found.keys:
            raise failure(5)
        found.is_deleted = True
        del parent.keys[fold(last)]
        parent.touch()


def DeleteValue(key: Any, value: str | None) -> None:
    with _alone_with(key, KEY_SET_VALUE) as here:
        if here.values.pop(fold(_check(value)), None) is None:
            raise failure(2)
        here.touch()


def EnumKey(key: Any, index: int) -> str:
    with _alone_with(key, KEY_ENUMERATE_SUB_KEYS) as here:
        return _at(index, [here.keys[name].name for name in sorted(here.keys)])


def EnumValue(key: Any, index: int) -> tuple[str, Any, int]:
    with _alone_with(key, KEY_QUERY_VALUE) as here:
        return _at(index, list(here.values.values()))


def QueryInfoKey(key: Any) -> tuple[int, int, int]:
    with _alone_with(key, KEY_QUERY_VALUE) as here:
        return len(here.keys), len(here.values), here.modified


def QueryValueEx(key: Any, name: str | None) -> tuple[Any, int]:
    with _alone_with(key, KEY_QUERY_VALUE) as here:
        found = here.values.get(fold(_check(name)))
        if found is None:
            raise failure(2)
        return found[1:]


def SetValueEx(key: Any, value_name: str | None, reserved: Any, type: int, value: Any) -> None:  # noqa: A002 # as in winreg
    with _alone_with(key, KEY_SET_VALUE) as here:
        name = _check(value_name)
        if _units(name) > _LONGEST_VALUE_NAME:
            raise failure(87)
        first, *_ = here.values.get(fold(name), (name,))
        here.values[fold(name)] = (first, _convert(type, value), type)
        here.touch()


@contextmanager
def _alone_with(key: Any, access: int = 0) -> Generator[_Key, None, None]:
    """Yield the key of a handle or a hive, while no other call goes on."""
    with _everything:
        if not isinstance(key, PyHKEY) and key not in _HIVES:
            raise failure(6)
        yield key.key_for(access) if isinstance(key, PyHKEY) else _HIVES[key]


def _find(key: _Key, path: str) -> _Key | None:
    found: _Key | None = key
    for part in _parts(path):
        found = found and found.keys.get(fold(part))
    return found


def _parts(path: str) -> Iterator[str]:
    if path.startswith("\\"):
        raise failure(161)
    return filter(None, path.split("\\"))


def _at(index: int, things: Sequence[T]) -> T:
    if not 0 <= index < len(things):
        raise failure(259)
    return things[index]


def _check(name: str | None) -> str:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"argument must be str or None, not {type(name).__name__}")
    if name and "\0" in name:
        raise ValueError("embedded null character")
    return name or ""


def fold(name: str) -> str:
    """Return what names that are the same to Windows have in common: their UTF-16 code units are, or the one is the other's capital."""
    return "".join(map(_capital, name))


@lru_cache(None)
def _capital(character: str) -> str:
    capitals = (character.upper(), character.title())
    return next((one for one in capitals if character <= "\uffff" and len(one) == 1 and one.lower() == character), character)


def _units(name: str) -> int:
    return len(name.encode("utf-16-le", "surrogatepass")) // 2


def _convert(kind: int, value: Any) -> Any:
    wanted, nothing = _DATA.get(kind, (bytes, None))
    if value is None:
        return nothing
    if not isinstance(value, wanted):
        raise (TypeError if wanted is bytes else ValueError)("Could not convert the data to the specified type.")
    return value.partition("\0")[0] if isinstance(value, str) else value or nothing
