"""The fake winreg: on Windows (Wine will do) the same tests run on the real one, so that the fake can't say what is not so.

What the fake has in common with it besides, `test_windows_registry.py` shows, which runs on either: limits of names, listing, changes.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from tests import fake_winreg

PATH = "Software\\keyvalue-tests-of-winreg"
HERE: list[Any] = [fake_winreg]
if sys.platform == "win32":
    import winreg as real_winreg

    HERE.append(real_winreg)


@pytest.fixture(params=HERE, ids=lambda module: module.__name__)
def winreg(request: pytest.FixtureRequest) -> Generator[Any, None, None]:
    module = request.param
    unclosed = fake_winreg.count_unclosed()
    _remove(module)
    module.CreateKeyEx(module.HKEY_CURRENT_USER, PATH).Close()
    yield module
    _remove(module)
    assert fake_winreg.count_unclosed() == unclosed


def _remove(winreg: Any) -> None:
    for path, _ in fake_winreg.walk(winreg, PATH, winreg.HKEY_CURRENT_USER):
        winreg.DeleteKey(winreg.HKEY_CURRENT_USER, path)


@pytest.fixture
def key(winreg: Any) -> Generator[Any, None, None]:
    with winreg.OpenKey(winreg.HKEY_CURRENT_USER, PATH, 0, winreg.KEY_ALL_ACCESS) as key:
        yield key


def names(winreg: Any, key: Any) -> tuple[list[str], list[str]]:
    keys, values, _ = winreg.QueryInfoKey(key)
    return sorted(winreg.EnumKey(key, index) for index in range(keys)), sorted(winreg.EnumValue(key, index)[0] for index in range(values))


def answer(winreg: Any, key: Any, function: str, *arguments: Any) -> Any:
    """Call a function with a key; return what it returns, or how it fails: the class and Windows' number. Handles are closed."""
    try:
        found = getattr(winreg, function)(key, *arguments)
    except (OSError, ValueError, TypeError) as error:
        return type(error), getattr(error, "winerror", None)
    return found.Close() if hasattr(found, "Close") else found


SZ, DWORD, BINARY = fake_winreg.REG_SZ, fake_winreg.REG_DWORD, fake_winreg.REG_BINARY
MISSING, DENIED, CLOSED = (FileNotFoundError, 2), (PermissionError, 5), (OSError, 6)
TOO_LONG, NO_SUCH_PATH, NO_MORE, GONE = (OSError, 87), (FileNotFoundError, 161), (OSError, 259), (OSError, 1018)
WRONG_VALUE, WRONG_TYPE = (ValueError, None), (TypeError, None)

Call = tuple[Any, ...]
FAILING: Sequence[tuple[Any, Sequence[Call]]] = [
    (MISSING, [("OpenKey", "b"), ("OpenKey", "b\\c"), ("DeleteKey", "b"), ("QueryValueEx", "v"), ("DeleteValue", "v")]),
    (NO_MORE, [("EnumKey", 1), ("EnumValue", 0)]),
    (DENIED, [("DeleteKey", "a")]),
    (NO_SUCH_PATH, [("OpenKey", "\\a"), ("CreateKeyEx", "\\a")]),
    (TOO_LONG, [("CreateKeyEx", "k" * 300), ("CreateKeyEx", "😀" * 150)]),
    (TOO_LONG, [("SetValueEx", "v" * 16_384, 0, SZ, ""), ("SetValueEx", "😀" * 8192, 0, SZ, "")]),
    (WRONG_VALUE, [("SetValueEx", "v", 0, SZ, 5), ("SetValueEx", "v", 0, DWORD, "5"), ("SetValueEx", "a\0b", 0, SZ, "")]),
    (WRONG_VALUE, [(function, "a\0b") for function in ("QueryValueEx", "DeleteValue", "OpenKey", "CreateKeyEx")]),
    (WRONG_TYPE, [("SetValueEx", "v", 0, BINARY, "5"), ("SetValueEx", 5, 0, SZ, "")]),
    (WRONG_TYPE, [(function, 5) for function in ("QueryValueEx", "DeleteValue", "OpenKey", "CreateKeyEx")]),
]
"""Calls on a key with one key, `a`, which has another below it, and no values, by how they fail."""


def test_calls_that_fail(winreg: Any, key: Any) -> None:
    winreg.CreateKeyEx(key, "a\\b").Close()
    for failure, calls in FAILING:
        for call in calls:
            assert answer(winreg, key, *call) == failure, str(call)[:100]
    assert names(winreg, key) == (["a"], [])
    winreg.DeleteKey(key, "a\\b")
    winreg.DeleteKey(key, "a")
    assert names(winreg, key) == ([], [])


VALUES: dict[str, list[tuple[Any, Any]]] = {
    "REG_SZ": [("é😀\n", "é😀\n"), ("", ""), (None, ""), ("before\0after", "before"), ("\ud800", "\ud800"), ("x" * 2**20, "x" * 2**20)],
    "REG_EXPAND_SZ": [("%PATH%", "%PATH%")],
    "REG_BINARY": [(b"\0\1", b"\0\1"), (b"", None), (None, None)],
    "REG_NONE": [(None, None)],
    "REG_DWORD": [(5, 5)],
    "REG_QWORD": [(2**40, 2**40)],
    "REG_MULTI_SZ": [(["a", "b"], ["a", "b"])],
}
"""Data to be set and to be got back, by type."""


@pytest.mark.parametrize("kind", VALUES)
def test_values_by_type(winreg: Any, key: Any, kind: str) -> None:
    number = getattr(winreg, kind)
    for value, back in VALUES[kind]:
        winreg.SetValueEx(key, "name", 0, number, value)
        assert winreg.QueryValueEx(key, "name") == (back, number)
        assert winreg.EnumValue(key, 0) == ("name", back, number)


def test_constants_are_winregs(winreg: Any) -> None:
    for name, value in vars(winreg).items():
        if name in vars(fake_winreg) and isinstance(value, int) and name.isupper():
            assert getattr(fake_winreg, name) == value, name


ALIKE = [("Foo", "foo"), ("É", "é"), ("λ", "Λ"), ("ǆ", "Ǆ"), ("ж", "Ж")]
DIFFERENT = [("ß", "ẞ"), ("ﬁ", "fi"), ("é", "e\u0301"), ("a ", "a"), ("a/b", "ab"), ("𐐀", "𐐨"), ("\ud800", "\ud801"), ("\u0131", "I")]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_differ_in_case_are_one_and_keep_their_first_form(winreg: Any, key: Any, one: str, other: str) -> None:
    for first, second in ((one, other), (other, one)):
        winreg.SetValueEx(key, first, 0, winreg.REG_SZ, "1")
        winreg.SetValueEx(key, second, 0, winreg.REG_SZ, "2")
        assert winreg.QueryValueEx(key, first) == winreg.QueryValueEx(key, second) == ("2", winreg.REG_SZ)
        for name in (first, second):
            winreg.CreateKeyEx(key, name).Close()
        assert names(winreg, key) == ([first], [first])
        winreg.DeleteValue(key, second)
        winreg.DeleteKey(key, second)
        assert names(winreg, key) == ([], [])


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_names_are_not_one(winreg: Any, key: Any, one: str, other: str) -> None:
    for name in (one, other):
        winreg.SetValueEx(key, name, 0, winreg.REG_SZ, name.encode("unicode_escape").decode())
        winreg.CreateKeyEx(key, name).Close()
    assert names(winreg, key) == (sorted([one, other]), sorted([one, other]))


def test_each_character_is_alike_to_the_same_ones(winreg: Any, key: Any) -> None:
    first: dict[str, str] = {}
    for number in (*range(1, 0xD800), *range(0xE000, 0x10000)):
        character = chr(number)
        folded = fake_winreg.fold(character)
        assert folded.casefold() == character.casefold()  # the store relies on it
        if folded in first:
            assert winreg.QueryValueEx(key, character)[0] == first[folded]
        else:
            assert answer(winreg, key, "QueryValueEx", character) == MISSING
            winreg.SetValueEx(key, character, 0, winreg.REG_SZ, character)
            first[folded] = character
    for character in first.values():  # or the fixture looks at each, one of many by its number, for a minute
        winreg.DeleteValue(key, character)


SET: Call = ("SetValueEx", "v", 0, SZ, "")
DELETE: Call = ("DeleteValue", "v")
QUERY: Call = ("QueryValueEx", "v")
INFO: Call = ("QueryInfoKey",)
ENUMERATE: list[Call] = [("EnumValue", 0), ("EnumKey", 0)]


def test_a_deleted_key_is_gone_for_its_handles_and_a_closed_one_is_no_use(winreg: Any, key: Any) -> None:
    with winreg.CreateKeyEx(key, "a", 0, winreg.KEY_ALL_ACCESS) as gone:
        winreg.SetValueEx(gone, "v", 0, winreg.REG_SZ, "")
        winreg.DeleteKey(key, "a")
        for call in (SET, DELETE, QUERY, *ENUMERATE, INFO, ("CreateKeyEx", "b")):
            assert answer(winreg, gone, *call) == GONE, call
    gone.Close()
    for call in (QUERY, ("OpenKey", "a"), INFO):
        assert answer(winreg, gone, *call) == CLOSED, call


def test_a_handle_does_what_it_was_opened_for(winreg: Any, key: Any) -> None:
    for access, allowed, denied in (
        (winreg.KEY_SET_VALUE, [SET, DELETE], [QUERY, *ENUMERATE]),
        (winreg.KEY_READ, [INFO], [SET, DELETE]),
        (winreg.KEY_QUERY_VALUE, [INFO], []),
    ):
        with winreg.CreateKeyEx(key, "a", 0, access) as opened:
            for function, *arguments in allowed:
                getattr(winreg, function)(opened, *arguments)
            for call in denied:
                assert answer(winreg, opened, *call) == DENIED, (access, call)
            assert answer(winreg, opened, *QUERY) == (DENIED if QUERY in denied else MISSING)
