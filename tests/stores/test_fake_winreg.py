"""The fake winreg: on Windows (Wine will do) the same tests run on the real one, so that the fake can't say what is not so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
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
    unclosed = fake_winreg.unclosed()
    _remove(module, PATH)
    module.CreateKeyEx(module.HKEY_CURRENT_USER, PATH).Close()
    yield module
    _remove(module, PATH)
    assert fake_winreg.unclosed() == unclosed


def _remove(winreg: Any, path: str) -> None:
    try:
        with winreg.OpenKey(winreg.HKEY_CURRENT_USER, path) as key:
            below = [winreg.EnumKey(key, index) for index in range(winreg.QueryInfoKey(key)[0])]
    except FileNotFoundError:
        return
    for name in below:
        _remove(winreg, f"{path}\\{name}")
    winreg.DeleteKey(winreg.HKEY_CURRENT_USER, path)


@pytest.fixture
def key(winreg: Any) -> Generator[Any, None, None]:
    with winreg.OpenKey(winreg.HKEY_CURRENT_USER, PATH, 0, winreg.KEY_ALL_ACCESS) as key:
        yield key


def fails(call: Callable[[], object]) -> tuple[type[Exception], int | None]:
    """Return how a call fails: the class and Windows' number."""
    try:
        call()
    except (OSError, ValueError, TypeError) as error:
        return type(error), getattr(error, "winerror", None)
    raise AssertionError("it did not fail")


def names(winreg: Any, key: Any) -> tuple[list[str], list[str]]:
    keys, values, _ = winreg.QueryInfoKey(key)
    return sorted(winreg.EnumKey(key, index) for index in range(keys)), sorted(winreg.EnumValue(key, index)[0] for index in range(values))


def test_constants_are_winregs(winreg: Any) -> None:
    for name, value in vars(winreg).items():
        if name in vars(fake_winreg) and isinstance(value, int) and name.isupper():
            assert getattr(fake_winreg, name) == value, name


@pytest.mark.parametrize(
    ("kind", "value", "back"),
    [
        ("REG_SZ", "é😀\n", "é😀\n"),
        ("REG_SZ", "", ""),
        ("REG_SZ", None, ""),
        ("REG_SZ", "before\0after", "before"),
        ("REG_SZ", "\ud800", "\ud800"),
        ("REG_SZ", "x" * 2**20, "x" * 2**20),
        ("REG_EXPAND_SZ", "%PATH%", "%PATH%"),
        ("REG_BINARY", b"\0\1", b"\0\1"),
        ("REG_BINARY", b"", None),
        ("REG_BINARY", None, None),
        ("REG_NONE", None, None),
        ("REG_DWORD", 5, 5),
        ("REG_QWORD", 2**40, 2**40),
        ("REG_MULTI_SZ", ["a", "b"], ["a", "b"]),
    ],
)
def test_values_by_type(winreg: Any, key: Any, kind: str, value: Any, back: Any) -> None:
    number = getattr(winreg, kind)
    winreg.SetValueEx(key, "name", 0, number, value)
    assert winreg.QueryValueEx(key, "name") == (back, number)
    assert winreg.EnumValue(key, 0) == ("name", back, number)


def test_values_of_a_wrong_type(winreg: Any, key: Any) -> None:
    assert fails(lambda: winreg.SetValueEx(key, "name", 0, winreg.REG_SZ, 5)) == (ValueError, None)
    assert fails(lambda: winreg.SetValueEx(key, "name", 0, winreg.REG_DWORD, "5")) == (ValueError, None)
    assert fails(lambda: winreg.SetValueEx(key, "name", 0, winreg.REG_BINARY, "5")) == (TypeError, None)
    assert fails(lambda: winreg.QueryValueEx(key, "name")) == (FileNotFoundError, 2)


ALIKE = [("Foo", "foo"), ("É", "é"), ("λ", "Λ"), ("ǆ", "Ǆ"), ("ж", "Ж")]
DIFFERENT = [
    ("ß", "ẞ"),
    ("ﬁ", "fi"),
    ("é", "e\u0301"),
    ("a ", "a"),
    ("a.", "a"),
    ("a/b", "ab"),
    ("𐐀", "𐐨"),
    ("\ud800", "\ud801"),
    ("\u0131", "I"),
]


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
        folded = fake_winreg.folded(character)
        assert folded.casefold() == character.casefold()  # the store relies on it
        if folded in first:
            assert winreg.QueryValueEx(key, character)[0] == first[folded]
        else:
            assert fails(lambda character=character: winreg.QueryValueEx(key, character)) == (FileNotFoundError, 2)
            winreg.SetValueEx(key, character, 0, winreg.REG_SZ, character)
            first[folded] = character


def test_the_longest_names(winreg: Any, key: Any) -> None:
    for name in ("k" * 255, "😀" * 127):
        winreg.CreateKeyEx(key, name).Close()
    for name in ("k" * 300, "😀" * 150):
        assert fails(lambda name=name: winreg.CreateKeyEx(key, name)) == (OSError, 87)
    for name in ("v" * 16_383, "😀" * 8191):
        winreg.SetValueEx(key, name, 0, winreg.REG_SZ, "")
    for name in ("v" * 16_384, "😀" * 8192):
        assert fails(lambda name=name: winreg.SetValueEx(key, name, 0, winreg.REG_SZ, "")) == (OSError, 87)
    assert list(map(len, names(winreg, key)[0])) == [255, 127]
    assert sorted(map(len, names(winreg, key)[1])) == [8191, 16_383]


def test_names_with_nul_and_of_a_wrong_type(winreg: Any, key: Any) -> None:
    for name, expected in (("a\0b", ValueError), (5, TypeError)):
        calls: list[Callable[[], object]] = [
            lambda name=name: winreg.SetValueEx(key, name, 0, winreg.REG_SZ, ""),
            lambda name=name: winreg.QueryValueEx(key, name),
            lambda name=name: winreg.DeleteValue(key, name),
            lambda name=name: winreg.OpenKey(key, name),
            lambda name=name: winreg.CreateKeyEx(key, name),
        ]
        for call in calls:
            assert fails(call) == (expected, None)


def test_the_empty_name_is_a_value(winreg: Any, key: Any) -> None:
    winreg.SetValueEx(key, "", 0, winreg.REG_SZ, "default")
    assert winreg.QueryValueEx(key, None) == ("default", winreg.REG_SZ)
    assert names(winreg, key) == ([], [""])


def test_separators_that_are_too_many_do_not_count(winreg: Any, key: Any) -> None:
    for path in ("a\\b", "a\\\\b", "a\\b\\"):
        with winreg.CreateKeyEx(key, path) as made:
            winreg.SetValueEx(made, path, 0, winreg.REG_SZ, "")
    with winreg.OpenKey(key, "a\\\\b\\") as found:
        assert len(names(winreg, found)[1]) == 3
    assert names(winreg, key) == (["a"], [])
    for call in (lambda: winreg.OpenKey(key, "\\a"), lambda: winreg.CreateKeyEx(key, "\\a")):
        assert fails(call) == (FileNotFoundError, 161)


def test_what_is_not_there(winreg: Any, key: Any) -> None:
    winreg.CreateKeyEx(key, "a").Close()
    for call in (
        lambda: winreg.OpenKey(key, "b"),
        lambda: winreg.OpenKey(key, "b\\c"),
        lambda: winreg.QueryValueEx(key, "v"),
        lambda: winreg.DeleteValue(key, "v"),
        lambda: winreg.DeleteKey(key, "b"),
    ):
        assert fails(call) == (FileNotFoundError, 2)
    assert fails(lambda: winreg.EnumKey(key, 1)) == (OSError, 259)
    assert fails(lambda: winreg.EnumValue(key, 0)) == (OSError, 259)


def test_a_key_with_keys_below_is_not_deleted(winreg: Any, key: Any) -> None:
    winreg.CreateKeyEx(key, "a\\b").Close()
    assert fails(lambda: winreg.DeleteKey(key, "a")) == (PermissionError, 5)
    winreg.DeleteKey(key, "a\\b")
    winreg.DeleteKey(key, "a")
    assert names(winreg, key) == ([], [])


def test_a_deleted_key_is_gone_for_its_handles(winreg: Any, key: Any) -> None:
    with winreg.CreateKeyEx(key, "a", 0, winreg.KEY_ALL_ACCESS) as gone:
        winreg.SetValueEx(gone, "v", 0, winreg.REG_SZ, "")
        winreg.DeleteKey(key, "a")
        for call in (
            lambda: winreg.SetValueEx(gone, "v", 0, winreg.REG_SZ, ""),
            lambda: winreg.QueryValueEx(gone, "v"),
            lambda: winreg.QueryInfoKey(gone),
            lambda: winreg.DeleteValue(gone, "v"),
            lambda: winreg.EnumValue(gone, 0),
            lambda: winreg.EnumKey(gone, 0),
            lambda: winreg.CreateKeyEx(gone, "b"),
        ):
            assert fails(call) == (OSError, 1018)


def test_a_handle_does_what_it_was_opened_for(winreg: Any, key: Any) -> None:
    with winreg.CreateKeyEx(key, "a", 0, winreg.KEY_SET_VALUE) as made:
        winreg.SetValueEx(made, "v", 0, winreg.REG_SZ, "")
        winreg.DeleteValue(made, "v")
        for call in (
            lambda: winreg.QueryValueEx(made, "v"),
            lambda: winreg.EnumValue(made, 0),
            lambda: winreg.EnumKey(made, 0),
        ):
            assert fails(call) == (PermissionError, 5)
    with winreg.OpenKey(key, "a") as found:
        assert names(winreg, found) == ([], [])
        for call in (lambda: winreg.SetValueEx(found, "v", 0, winreg.REG_SZ, ""), lambda: winreg.DeleteValue(found, "v")):
            assert fails(call) == (PermissionError, 5)
    with winreg.OpenKey(key, "a", 0, winreg.KEY_QUERY_VALUE) as found:
        assert winreg.QueryInfoKey(found)[:2] == (0, 0)
        assert fails(lambda: winreg.QueryValueEx(found, "v")) == (FileNotFoundError, 2)


def test_a_closed_handle(winreg: Any, key: Any) -> None:
    with winreg.OpenKey(key, None) as found:
        assert found
    assert not found
    found.Close()
    for call in (lambda: winreg.QueryValueEx(found, "v"), lambda: winreg.OpenKey(found, "a"), lambda: winreg.QueryInfoKey(found)):
        assert fails(call) == (OSError, 6)


def test_what_was_removed_moves_the_others(winreg: Any, key: Any) -> None:
    for name in "abc":
        winreg.SetValueEx(key, name, 0, winreg.REG_SZ, "")
    seen = [winreg.EnumValue(key, 0)[0]]
    winreg.DeleteValue(key, seen[0])
    seen.append(winreg.EnumValue(key, 1)[0])
    assert fails(lambda: winreg.EnumValue(key, 2)) == (OSError, 259)
    assert len(set("abc") - set(seen)) == 1


def test_any_change_shows(winreg: Any, key: Any) -> None:
    seen = [winreg.QueryInfoKey(key)]
    for change in (
        lambda: winreg.SetValueEx(key, "a", 0, winreg.REG_SZ, "1"),
        lambda: winreg.SetValueEx(key, "a", 0, winreg.REG_SZ, "2"),
        lambda: winreg.DeleteValue(key, "a"),
        lambda: winreg.CreateKeyEx(key, "b").Close(),
        lambda: winreg.DeleteKey(key, "b"),
    ):
        change()
        seen.append(winreg.QueryInfoKey(key))
    assert len(set(seen)) == len(seen)
    names(winreg, key)
    assert winreg.QueryInfoKey(key) == seen[-1]


def test_rights_that_are_missing() -> None:
    winreg: Any = fake_winreg
    winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, PATH).Close()
    before = winreg.unclosed()
    with winreg.denying(winreg.HKEY_LOCAL_MACHINE, PATH, winreg.KEY_SET_VALUE | winreg.KEY_CREATE_SUB_KEY):
        winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, PATH).Close()
        for call in (
            lambda: winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, PATH, 0, winreg.KEY_SET_VALUE),
            lambda: winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, PATH),
            lambda: winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, PATH + "\\new"),
        ):
            assert fails(call) == (PermissionError, 5)
    assert winreg.unclosed() == before
    winreg.DeleteKey(winreg.HKEY_LOCAL_MACHINE, PATH)
