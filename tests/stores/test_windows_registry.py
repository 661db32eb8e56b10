"""What is WindowsRegistryStore's own: where values lie, names that the registry can't hold, what others put there, errors, slow calls.

On Windows (Wine will do) this runs on the real registry, elsewhere on the fake one.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from keyvalue._core.flat import digest
from keyvalue._core.sanitization import AlwaysHashStrategy, HybridSanitizationStrategy
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import (
    DeserializationError,
    KeyValueStoreError,
    StoreConnectionError,
    StoreRefusedError,
    ValueTooLargeError,
)
from keyvalue.testing import Clock
from tests import fake_winreg, makers
from tests.budget import scaled
from tests.makers import WindowsRegistryStore
from tests.runtimes import Runtime
from tests.said import everything_said

with fake_winreg.installed():
    from keyvalue.stores import windows_registry as module

winreg: Any = module.winreg
HKCU = winreg.HKEY_CURRENT_USER
SECRET = "hunter" + "2" * 5  # put together, so that no line of source in a traceback holds it


@pytest.fixture
def path(tmp_path: Path) -> Generator[str, None, None]:
    """The path of the test's own registry key. At the end all handles must be closed, which only the fake can tell."""
    unclosed = fake_winreg.unclosed()
    yield makers.registry_path(tmp_path)
    assert fake_winreg.unclosed() == unclosed


@contextmanager
def opened(path: str, **kwargs: Any) -> Generator[Any, None, None]:
    with BlockingKeyValue(WindowsRegistryStore(registry_path=path, **kwargs)) as kv:
        yield kv


def content(path: str, hive: int = HKCU) -> dict[str, Any]:
    """Return what is below a registry key: by path, the data of a value (the name after `:`), or {} for a key with nothing in it."""
    try:
        with winreg.OpenKey(hive, path) as key:
            keys, values, _ = winreg.QueryInfoKey(key)
            below = [winreg.EnumKey(key, index) for index in range(keys)]
            found: dict[str, Any] = {f":{name}": data for name, data, _ in (winreg.EnumValue(key, index) for index in range(values))}
    except FileNotFoundError:
        return {}
    for name in below:
        found |= {f"{name}{rest}": data for rest, data in content(f"{path}\\{name}", hive).items()} or {name: {}}
    return {name if name.startswith(":") else f"\\{name}": data for name, data in found.items()}


def plant(path: str, name: str, data: Any, kind: int | None = None) -> None:
    with winreg.CreateKeyEx(HKCU, path) as key:
        winreg.SetValueEx(key, name, 0, winreg.REG_SZ if kind is None else kind, data)


def document(collection: str, key: str, value: Any) -> str:
    return json.dumps({"version": 1, "collection": collection, "key": key, "value": value})


# Importing and making


@pytest.mark.skipif(sys.platform == "win32", reason="this is Windows")
def test_on_other_systems_importing_it_says_so() -> None:
    code = "import keyvalue.stores.windows_registry"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "\nImportError: WindowsRegistryStore is for Windows only" in result.stderr
    assert "pip install" not in result.stderr


def test_where_it_keeps_entries_by_default() -> None:
    assert repr(WindowsRegistryStore()) == "WindowsRegistryStore(HKEY_CURRENT_USER\\Software\\py-key-value)"
    assert repr(WindowsRegistryStore(hive="HKEY_LOCAL_MACHINE", registry_path="a\\b")) == "WindowsRegistryStore(HKEY_LOCAL_MACHINE\\a\\b)"
    assert repr(WindowsRegistryStore(hive=None, registry_path="")) == repr(WindowsRegistryStore())


@pytest.mark.filterwarnings("ignore:WindowsRegistryStore")  # another hive is of the wrong type, too
def test_arguments_that_can_not_be(path: str) -> None:
    hives: list[Any] = ["HKCU", "HKEY_USERS", "hkey_current_user", 0x80000001]
    for hive in hives:
        with pytest.raises(ValueError, match='"HKEY_CURRENT_USER" or "HKEY_LOCAL_MACHINE"'):
            WindowsRegistryStore(hive=hive)
    for bad in ("\\a", "a\\", "a\\\\b", "\\", "a\0b", "k" * 256, "😀" * 128, "\\".join("a" * 32)):
        with pytest.raises(ValueError, match="No registry_path can be"):
            WindowsRegistryStore(registry_path=bad)
    WindowsRegistryStore(registry_path="\\".join(["k" * 255] * 31))
    WindowsRegistryStore(registry_path=path)
    assert content(path) == {}, "the constructor touches nothing"


def test_the_other_hive(path: str) -> None:
    with opened(path, hive="HKEY_LOCAL_MACHINE") as kv, opened(path) as other:
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}
        assert kv.keys() == ["k"]
        assert other.get("k") is None
        assert list(content(path, winreg.HKEY_LOCAL_MACHINE)) == ["\\default_collection:k"]
        assert kv.destroy() is True
    assert content(path, winreg.HKEY_LOCAL_MACHINE) == {"\\default_collection": {}}


def test_the_program_in_the_docs_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tests/test_docs.py` runs it too, where there is nothing that it would do."""
    page = (Path(__file__).parents[2] / "docs" / "stores" / "windows_registry.md").read_text()
    program = page.partition("```python\n")[2].partition("```")[0]
    assert 'if sys.platform == "win32":' in program
    put: list[str] = []
    real = winreg.SetValueEx
    monkeypatch.setattr(winreg, "SetValueEx", lambda key, name, *args: (put.append(name), real(key, name, *args)))
    exec(program.replace('sys.platform == "win32"', "True"), {})
    assert put == ["token"]
    assert list(content("Software\\keyvalue-example").values()) == [{}]


# Where values lie


def test_the_layout(path: str) -> None:
    with opened(path) as kv:
        kv.put("alice", {"name": "Älice 😀\0"}, collection="users", ttl=60)
    ((name, text),) = content(path).items()
    assert name == "\\users:alice"
    fields = json.loads(text)
    assert (fields["version"], fields["collection"], fields["key"], fields["value"]) == (1, "users", "alice", {"name": "Älice 😀\0"})
    with winreg.OpenKey(HKCU, f"{path}\\users") as key:
        assert winreg.QueryValueEx(key, "alice")[1] == winreg.REG_SZ
    plant(f"{path}\\users", "bob", document("users", "bob", {"path": "%PATH%"}), winreg.REG_EXPAND_SZ)  # which is text, too
    with opened(path) as kv:
        assert kv.get("bob", collection="users") == {"path": "%PATH%"}
        assert sorted(kv.keys("users")) == ["alice", "bob"]


MOVED = ["", "v" * 16_384, "😀" * 8192, "a\0b", "\0", "~" + "0" * 64, "~" + "ABCDEF" * 10 + "0123"]
MOVED_COLLECTIONS = ["k" * 256, "😀" * 128, "a\0b", "\\", "\\a", "a\\", "a\\\\b", "a\\" + "k" * 256, "\\".join("a" * 30), "~" + "aBcD" * 16]


@pytest.mark.parametrize("collection", ["c", "a\\b", *MOVED_COLLECTIONS])
def test_what_it_can_not_hold_is_named_by_digests(path: str, collection: str) -> None:
    moves = collection in MOVED_COLLECTIONS
    with opened(path) as kv:
        keys = ["k", *filter(None, MOVED)]
        kv.put_many(keys, [{"of": key} for key in keys], collection=collection)
        where = digest(collection) if moves else collection
        homes = [digest(f"{len(collection)}:{collection}:{key}") for key in keys[1:]]
        assert set(content(path)) == {f"\\{where}:{name}" for name in ["k", *homes]}
        assert kv.get_many(keys, collection=collection) == [{"of": key} for key in keys]
        assert sorted(kv.keys(collection)) == sorted(keys)
        assert kv.collections() == [collection]
        assert kv.destroy_collection(collection) is True
        assert content(path) == {f"\\{where}": {}}


STRATEGIES: dict[str, Any] = {
    "collection_sanitization_strategy": module.WindowsRegistryV1CollectionSanitizationStrategy(),
    "key_sanitization_strategy": HybridSanitizationStrategy(max_length=96, allowed_characters="abcdef"),
}
ALIKE: list[tuple[str, str, dict[str, Any]]] = [
    *((one, other, {}) for one, other in (("Foo", "foo"), ("É", "é"), ("Ж", "ж"), ("~" + "A" * 64, "~" + "a" * 64))),
    ("a" * 300 + "1", "a" * 300 + "2", STRATEGIES),  # H-8, H-9
    ("仦乇", "佅举", STRATEGIES),
    ("a/b", "S_a_b-c14cddc0", STRATEGIES),
    ("Foo", "foo", STRATEGIES),
]


@pytest.mark.parametrize(("one", "other", "strategies"), ALIKE)
def test_names_that_are_the_same_to_the_registry_or_a_strategy_never_meet(
    path: str, one: str, other: str, strategies: dict[str, Any]
) -> None:
    pairs = [(one, one), (other, one), (one, other), (other, other)]
    with opened(path, **strategies) as kv:
        for turn in range(2):
            for collection, key in pairs:
                kv.put(key, {"of": [collection, key], "turn": turn}, collection=collection)
            for collection, key in pairs:
                assert kv.get(key, collection=collection) == {"of": [collection, key], "turn": turn}
        assert len(content(path)) == 4
        assert sorted(kv.keys(one)) == sorted(kv.keys(other)) == sorted([one, other])
        assert sorted(kv.collections()) == sorted([one, other])
        assert kv.delete(one, collection=one) is True
        assert kv.delete(one, collection=one) is False
        assert kv.get(other, collection=other) == {"of": [other, other], "turn": 1}
        kv.put(one, {"back": True}, collection=one)
        assert kv.destroy_collection(other) is True
        assert kv.get_many([one, other], collection=one) == [{"back": True}, {"of": [one, other], "turn": 1}]
        assert kv.collections() == [one]
        assert kv.destroy() is True
        assert [data for data in content(path).values() if data] == []


def test_an_entry_takes_the_place_of_one_that_expired_and_is_spelled_otherwise(path: str, clock: Clock) -> None:
    with opened(path) as kv:
        kv.put("foo", {"of": "foo"}, collection="bar", ttl=10)
        clock.advance(10)
        kv.put("Foo", {"of": "Foo"}, collection="Bar")
        assert list(content(path)) == ["\\bar:foo"]
        assert kv.get("Foo", collection="Bar") == {"of": "Foo"}
        assert kv.get("foo", collection="bar") is None
        assert kv.keys("Bar") == ["Foo"]
        assert kv.keys("bar") == []
        assert kv.collections() == ["Bar"]
        kv.cull()
        assert kv.destroy_collection("Bar") is True
        assert content(path) == {"\\bar": {}}


class Nothing:
    def sanitize(self, value: str) -> str:
        return ""


@pytest.mark.parametrize("strategy", [Nothing(), AlwaysHashStrategy(9)])
def test_a_strategy_that_gives_names_of_its_own(path: str, strategy: Any) -> None:
    with opened(path, key_sanitization_strategy=strategy, collection_sanitization_strategy=strategy) as kv:
        kv.put_many(["a", "b\0"], [{"a": 1}, {"b": 1}], collection="c")
        kv.put("a", {"d": 1}, collection="d")
        assert kv.get_many(["a", "b\0"], collection="c") == [{"a": 1}, {"b": 1}]
        assert sorted(kv.keys("c")) == ["a", "b\0"]
        assert sorted(kv.collections()) == ["c", "d"]
        assert kv.delete("a", collection="c") is True
        assert kv.get("a", collection="d") == {"d": 1}


# What others put there


async def test_reading_makes_no_keys(runtime: Runtime, path: str) -> None:  # H-28
    kv = runtime.adapt(WindowsRegistryStore(registry_path=path))
    for collection in (None, "a\\b", "\0"):
        assert await kv.get_many(["k", "l"], collection=collection) == [None, None]
        assert await kv.delete_many(["k", "l"], collection=collection) == 0
    for name, call in CALLS.items():
        if not name.startswith("put"):
            await call(kv)
    with pytest.raises(FileNotFoundError):
        winreg.OpenKey(HKCU, path)


async def test_what_others_put_there_survives(runtime: Runtime, path: str) -> None:
    expired = "2026-01-01T00:00:00+00:00"
    for where in (path, f"{path}\\c", f"{path}\\c\\deeper", f"{path}\\theirs"):
        plant(where, "", "the default value")
        plant(where, "text", "no document")
        plant(where, "number", 5, winreg.REG_DWORD)
        plant(where, "bytes", b"\0\1", winreg.REG_BINARY)
        plant(where, "nothing", None, winreg.REG_NONE)
        plant(where, "several", ["{}", "{}"], winreg.REG_MULTI_SZ)
        plant(where, "surrogate", "\ud800")
        plant(where, "nameless", json.dumps({"value": {}, "expires_at": expired}))
        plant(where, "elsewhere", document("c", "k2", {}))
        plant(where, "another's", document("c2", "another's", {}))
        plant(where, "\ud800", document("c", "\ud7ff", {}))
    theirs = content(path)
    assert len(theirs) == 44
    kv = runtime.adapt(WindowsRegistryStore(registry_path=path))
    assert await kv.collections() == []
    await kv.put_many(["k", "K", "l\0"], [{}, {}, {}], collection="c")
    await kv.put("k", {}, collection="c\\deeper", ttl=60)
    assert sorted(await kv.keys("c")) == ["K", "k", "l\0"]
    assert await kv.keys("theirs") == []
    assert sorted(await kv.collections()) == ["c", "c\\deeper"]
    await kv.cull()
    assert await kv.destroy_collection("theirs") is False
    assert await kv.destroy_collection("c") is True
    assert await kv.get("k", collection="c\\deeper") == {}
    assert await kv.destroy() is True
    assert content(path) == theirs


DAMAGED: list[tuple[str, Any]] = [
    ("REG_DWORD", 7),
    ("REG_QWORD", 7),
    ("REG_BINARY", b'{"value": {}}'),
    ("REG_BINARY", None),
    ("REG_NONE", None),
    ("REG_MULTI_SZ", [SECRET]),
    ("REG_SZ", ""),
    ("REG_SZ", SECRET),
    ("REG_SZ", f'{{"value": "{SECRET}'),
    ("REG_SZ", f'["{SECRET}"]'),
    ("REG_SZ", f'{{"value": 1, "more": "{SECRET}"}}'),
    ("REG_SZ", f'{{"value": {{"a": "{SECRET}\ud800"}}}}'),
    ("REG_SZ", '{"value": {}, "version": 2}'),
    ("REG_SZ", f'{{"value": {{}}, "expires_at": "{SECRET}"}}'),
]


async def test_a_damaged_value_is_an_error_for_its_key_alone(runtime: Runtime, path: str) -> None:  # H-37
    kv = runtime.adapt(WindowsRegistryStore(registry_path=path))
    await kv.put("good", {"a": 1}, collection="c")
    for kind, data in DAMAGED:
        for name in ("bad", "worse"):
            plant(f"{path}\\c", name, data, getattr(winreg, kind))
        for call in (
            lambda: kv.get("bad", collection="c"),
            lambda: kv.ttl("bad", collection="c"),
            lambda: kv.get_many(["good", "bad"], collection="c"),
        ):
            with pytest.raises(DeserializationError, match="overwrite") as caught:
                await call()
            assert caught.value.extra_info == {"collection": "c", "key": "bad"}
            assert SECRET not in "\n".join(everything_said(caught.value))
        assert await kv.get("good", collection="c") == {"a": 1}
        assert await kv.keys("c") == ["good"]
        await kv.cull()
        await kv.put("bad", {"mended": True}, collection="c")
        assert await kv.get("bad", collection="c") == {"mended": True}
        assert await kv.delete("worse", collection="c") is True
        assert await kv.get("worse", collection="c") is None
        assert set(content(path)) == {"\\c:good", "\\c:bad"}


# Listing


def test_listing_while_others_add_and_remove(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"k{number:03}" for number in range(100)]
    real = winreg.EnumValue
    calls = 0

    def interfering(key: Any, index: int) -> Any:
        nonlocal calls
        calls += 1
        added, removed = {5: ("az", [1]), 50: ("", [30, 31, 32]), 150: ("a", [0])}.get(calls, ("", []))
        with winreg.OpenKey(HKCU, f"{path}\\c", 0, winreg.KEY_SET_VALUE) as theirs:
            for name in added:
                winreg.SetValueEx(theirs, f"{name}{calls}", 0, winreg.REG_SZ, "theirs")
            for number in removed:
                winreg.DeleteValue(theirs, keys[number])
        return real(key, index)

    with opened(path) as kv:
        kv.put_many(keys, [{}] * 100, collection="c")
        monkeypatch.setattr(winreg, "EnumValue", interfering)
        monkeypatch.setattr(module, "_PAGE", 7)
        listed = kv.keys("c")
        assert sorted(listed) == sorted(set(keys) - {keys[number] for number in (0, 1, 30, 31, 32)})
        assert calls > 150
        assert kv.destroy_collection("c") is True
        assert set(content(path).values()) == {"theirs"}


@pytest.mark.parametrize(("deleted", "expected"), [(False, ["k", "l"]), (True, [])])
def test_listing_ends_whatever_others_do(path: str, deleted: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = winreg.EnumValue

    def interfering(key: Any, index: int) -> Any:
        if deleted:
            with suppress(FileNotFoundError):
                winreg.DeleteKey(HKCU, f"{path}\\c")
        else:
            plant(f"{path}\\c", "theirs", "changed")
        return real(key, index)

    with opened(path) as kv:
        kv.put_many(["k", "l"], [{}, {}], collection="c")
        monkeypatch.setattr(winreg, "EnumValue", interfering)
        assert sorted(kv.keys("c")) == expected


def test_keys_too_deep_to_be_a_collection_are_not_looked_at(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "\\".join([path, *"a" * 40])
    with winreg.CreateKeyEx(HKCU, "\\".join(deep.split("\\")[:30])) as key:  # no more than 32 levels at a time
        winreg.CreateKeyEx(key, "\\".join(deep.split("\\")[30:])).Close()
    plant(deep, "k", document("\\".join("a" * 40), "k", {}))
    looked_at: list[str] = []
    real = winreg.OpenKey
    monkeypatch.setattr(winreg, "OpenKey", lambda key, name, *args: (looked_at.append(name), real(key, name, *args))[1])
    with opened(path) as kv:
        assert kv.collections() == []
        assert kv.get("k", collection="\\".join("a" * 40)) is None
    assert max(name.count("\\") for name in looked_at) == 31


# Size


def test_large_values(path: str) -> None:
    with opened(path) as kv:
        kv.put("k", {"text": "é😀" * 3_000_000})
        assert kv.get("k") == {"text": "é😀" * 3_000_000}


async def test_what_is_too_large_is_refused_before_writing(runtime: Runtime, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = runtime.adapt(WindowsRegistryStore(registry_path=path))
    largest = {"text": "é" * 4000 + "😀"}
    await kv.put_many(["k", "l"], [largest, {}])
    size = max(len(text.encode("utf-16-le")) + 2 for text in content(path).values())
    monkeypatch.setattr(module, "_LARGEST", size)
    await kv.put("k", largest)
    before = content(path)
    larger = {"text": largest["text"] + SECRET}
    for call in (lambda: kv.put("l", larger), lambda: kv.put_many(["k", "l"], [{}, larger])):
        with pytest.raises(ValueTooLargeError) as caught:
            await call()
        assert content(path) == before
        info = caught.value.extra_info
        assert info is not None
        assert (info["max_size"], info["collection"], info["key"]) == (size, "default_collection", "l")
        assert SECRET not in "\n".join(everything_said(caught.value))


# Errors

CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda kv: kv.get("k"),
    "ttl": lambda kv: kv.ttl("k"),
    "get_many": lambda kv: kv.get_many(["k", "l"]),
    "ttl_many": lambda kv: kv.ttl_many(["k", "l"]),
    "put": lambda kv: kv.put("k", {"new": SECRET}),
    "put_many": lambda kv: kv.put_many(["k", "l"], [{"new": SECRET}] * 2),
    "delete": lambda kv: kv.delete("k"),
    "delete_many": lambda kv: kv.delete_many(["k", "l"]),
    "keys": lambda kv: kv.keys(),
    "collections": lambda kv: kv.collections(),
    "destroy_collection": lambda kv: kv.destroy_collection("default_collection"),
    "destroy": lambda kv: kv.destroy(),
    "cull": lambda kv: kv.cull(),
}
WRITES = ["put", "put_many", "delete", "delete_many", "destroy_collection", "destroy"]
REFUSED = "the registry refused"
NO_ROOM = "no memory left"
NUMBERS = {
    5: (StoreRefusedError, "this user may not do that"),
    6: (StoreRefusedError, REFUSED),
    8: (StoreConnectionError, NO_ROOM),
    14: (StoreConnectionError, NO_ROOM),
    87: (StoreRefusedError, REFUSED),
    1009: (StoreRefusedError, REFUSED),
    1016: (StoreConnectionError, "from the disk"),
    1115: (StoreConnectionError, "shutting down"),
    1450: (StoreConnectionError, NO_ROOM),
}
"""What Windows calls its errors, with the error that each is here, and what that says."""


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise fake_winreg.failure(number)

    return fail


async def raised_by(call: Awaitable[Any]) -> KeyValueStoreError | None:
    try:
        await call
    except KeyValueStoreError as error:
        return error
    return None


READING = ["OpenKey", "QueryValueEx"]
LISTING = [*READING, "QueryInfoKey", "EnumValue"]
NEEDED = {
    **dict.fromkeys(("get", "ttl", "get_many", "ttl_many"), READING),
    **{name: [*READING, "CreateKeyEx", "SetValueEx"] for name in ("put", "put_many")},
    **{name: [*READING, "DeleteValue"] for name in ("delete", "delete_many")},
    "keys": LISTING,
    **{name: [*LISTING, "EnumKey"] for name in ("collections", "cull")},
    "destroy_collection": [*LISTING, "DeleteValue"],
    "destroy": [*LISTING, "EnumKey", "DeleteValue"],
}
"""The functions of winreg that a call can't do without."""


@pytest.mark.parametrize("name", CALLS)
async def test_what_the_registry_refuses_is_an_error_and_no_miss(
    runtime: Runtime, path: str, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:  # H-38
    caplog.set_level(logging.DEBUG)
    kv = runtime.adapt(WindowsRegistryStore(registry_path=path))
    for function in (*LISTING, "EnumKey", "CreateKeyEx", "SetValueEx", "DeleteValue"):
        await kv.put_many(["k", "l"], [{"old": SECRET}] * 2)
        before = content(path)
        with monkeypatch.context() as patch:
            patch.setattr(winreg, function, failing(1016))
            error = await raised_by(CALLS[name](kv))
        assert (error is not None) == (function in NEEDED[name]), function
        if error is not None:
            assert type(error) is StoreConnectionError
            assert isinstance(error.__cause__, OSError)
            assert getattr(error.__cause__, "winerror", None) == 1016
            assert error.extra_info == {"host": f"HKEY_CURRENT_USER\\{path}", "operation": name}
            assert content(path) == before
            assert SECRET not in "\n".join(everything_said(error))
    assert SECRET not in "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)


@pytest.mark.parametrize("number", NUMBERS)
async def test_errors_by_windows_number(runtime: Runtime, path: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = runtime.adapt(WindowsRegistryStore(registry_path=path))
    await kv.put("k", {})
    expected, advice = NUMBERS[number]
    functions = {"get": "QueryValueEx", "put": "CreateKeyEx", "delete": "DeleteValue", "keys": "EnumValue", "destroy": "EnumKey"}
    for name, function in functions.items():
        with monkeypatch.context() as patch:
            patch.setattr(winreg, function, failing(number))
            error = await raised_by(CALLS[name](kv))
        assert type(error) is expected
        assert advice in str(error)


@pytest.mark.skipif(sys.platform == "win32", reason="here, who runs the tests may do anything")
async def test_without_the_rights(runtime: Runtime, path: str) -> None:
    hive: Any = fake_winreg.HKEY_LOCAL_MACHINE
    kv = runtime.adapt(WindowsRegistryStore(hive="HKEY_LOCAL_MACHINE", registry_path=path))
    await kv.put("k", {"a": 1})
    with fake_winreg.denying(hive, f"{path}\\default_collection", fake_winreg.KEY_SET_VALUE):
        assert await kv.get("k") == {"a": 1}
        assert await kv.keys() == ["k"]
        for name in WRITES:
            with pytest.raises(StoreRefusedError, match="this user may not do that; only administrators"):
                await CALLS[name](kv)
    with fake_winreg.denying(hive, f"{path}\\default_collection", fake_winreg.KEY_CREATE_SUB_KEY):  # which these calls don't need
        for call in CALLS.values():
            await call(kv)
    await kv.put("k", {"a": 1})
    with fake_winreg.denying(hive, path, fake_winreg.KEY_CREATE_SUB_KEY):
        with pytest.raises(StoreRefusedError, match="administrators"):
            await kv.put("k", {}, collection="new")
        assert await kv.get("k", collection="new") is None
        await kv.put("k", {"a": 2})
    with fake_winreg.denying(hive, f"{path}\\default_collection", fake_winreg.KEY_READ):
        for call in CALLS.values():
            with pytest.raises(StoreRefusedError, match="administrators") as caught:
                await call(kv)
            assert isinstance(caught.value.__cause__, PermissionError)
    assert await kv.get("k") == {"a": 2}


async def test_a_collection_that_is_deleted_at_the_same_moment(runtime: Runtime, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def after_deleting(function: str) -> Callable[..., Any]:
        real = getattr(winreg, function)

        def call(*args: Any) -> Any:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(winreg, function, real)
                with suppress(FileNotFoundError):
                    winreg.DeleteKey(HKCU, f"{path}\\default_collection")
            return real(*args)

        return call

    kv = runtime.adapt(WindowsRegistryStore(registry_path=path))
    for function, name, expected in (
        ("QueryValueEx", "get", None),
        ("QueryValueEx", "delete", False),
        ("DeleteValue", "delete", False),
        ("QueryInfoKey", "keys", []),
        ("QueryInfoKey", "destroy", True),
    ):
        await kv.put("k", {})
        with monkeypatch.context() as patch:
            patch.setattr(winreg, function, after_deleting(function))
            assert await CALLS[name](kv) == expected
    await kv.put("k", {})
    with monkeypatch.context() as patch:
        patch.setattr(winreg, "SetValueEx", after_deleting("SetValueEx"))
        with pytest.raises(StoreConnectionError, match="deleted at the same moment"):
            await kv.put("k", {})
    await kv.put("k", {"again": True})
    assert await kv.get("k") == {"again": True}


# Slow calls


class Slowed:
    """A function of winreg that waits, in the calls that are about one name, until it is let go."""

    def __init__(self, function: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = getattr(winreg, function)
        self._name = name
        self._let_go = threading.Event()
        self._reached = threading.Event()
        monkeypatch.setattr(winreg, function, self)

    def __call__(self, key: Any, name: str, *args: Any) -> Any:
        if name == self._name:
            self._reached.set()
            self._let_go.wait(30)
        return self._real(key, name, *args)

    async def is_reached(self) -> None:
        """Wait until such a call waits."""
        assert await anyio.to_thread.run_sync(self._reached.wait, 30)

    def let_go(self) -> None:
        self._let_go.set()


async def begin_and_cancel(call: Callable[[], Coroutine[Any, Any, Any]], slow: Slowed) -> None:
    """Cancel a call as soon as it waits."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await slow.is_reached()
            scope.cancel()


@pytest.mark.parametrize(("slowed", "name"), [("SetValueEx", "put"), ("DeleteValue", "delete"), ("QueryValueEx", "get")])
async def test_a_call_that_takes_long_stalls_no_other_task(path: str, slowed: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    async with WindowsRegistryStore(registry_path=path) as kv, anyio.create_task_group() as group:
        await kv.put_many(["k", "other"], [{}, {}])
        slow = Slowed(slowed, "k", monkeypatch)

        async def call() -> None:
            await CALLS[name](kv)
            done.append(name)

        group.start_soon(call)
        await slow.is_reached()
        for turn in range(5):
            await kv.put("other", {"turn": turn})
            assert await kv.get("other") == {"turn": turn}
            assert await kv.delete_many(["other"]) == 1
        assert done == [], "all that had to wait for the slow call"
        slow.let_go()
    assert done == [name]


@pytest.mark.parametrize("later", ["put", "put_many", "delete", "destroy_collection", "close"])
@pytest.mark.parametrize(("slowed", "name"), [("SetValueEx", "put"), ("SetValueEx", "put_many"), ("DeleteValue", "delete")])
async def test_what_was_cancelled_does_not_land_after_a_later_call(
    path: str, slowed: str, name: str, later: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    kv = WindowsRegistryStore(registry_path=path)
    await kv.put("k", {"first": True})
    slow = Slowed(slowed, "k", monkeypatch)
    started = time.monotonic()
    await begin_and_cancel(lambda: CALLS[name](kv), slow)
    assert time.monotonic() - started < 5, "the cancelled call must return at once"

    async def call() -> None:
        await (kv.close() if later == "close" else CALLS[later](kv))
        done.append(later)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        if later in ("put", "put_many", "delete"):
            await kv.put("other", {"a": 1})
            assert await kv.get("other") == {"a": 1}
        await anyio.sleep(0.02)
        assert done == []
        slow.let_go()
    await anyio.sleep(0.02)
    landed = [name for name in content(path) if name.endswith(":k")]
    if later in ("put", "put_many"):
        assert await kv.get("k") == {"new": SECRET}
    elif later == "close":
        assert bool(landed) == (name != "delete")
    else:
        assert landed == []
    await kv.close()


async def test_a_cancelled_put_does_not_land_on_another_name(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`K` has the same place as `k`, but does not wait for it; it must notice what `k` has become."""
    async with WindowsRegistryStore(registry_path=path) as kv:
        slow = Slowed("SetValueEx", "k", monkeypatch)
        await begin_and_cancel(lambda: kv.put("k", {"of": "k"}), slow)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: kv.put("K", {"of": "K"}))
            await anyio.sleep(0.02)
            slow.let_go()
        assert await kv.get("K") == {"of": "K"}
        assert await kv.get("k") == {"of": "k"}


# Threads


def in_threads(count: int, function: Callable[[int], Any]) -> Sequence[Any]:
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        barrier.wait()
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_of_concurrent_deletes_exactly_one_is_told_true(path: str) -> None:  # H-50
    with opened(path) as one, opened(path) as other:
        for number in range(scaled(10, 30)):
            one.put("k", {"n": number})
            told = in_threads(4, lambda number: (one, other)[number % 2].delete("k"))
            assert sorted(told) == [False, False, False, True]


def test_concurrent_puts_of_names_that_differ_in_case(path: str) -> None:
    names = ["foo", "Foo", "fOo", "FOO"]
    with opened(path) as one, opened(path.upper()) as other:
        for turn in range(scaled(10, 30)):
            in_threads(4, lambda number: (one, other)[number % 2].put(names[number], {"of": names[number], "turn": turn}))  # noqa: B023
            assert one.get_many(names) == [{"of": name, "turn": turn} for name in names]
            if turn % 3 == 0:
                assert other.delete_many(names) == 4
