"""What is WindowsRegistryStore's own: where values lie, names that the registry can't hold, what others put there, errors, slow calls.

On Windows (Wine will do) this runs on the real registry, elsewhere on the fake one.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import anyio
import pytest

from keyvalue._core import listing
from keyvalue._core.layout import digest
from keyvalue._core.legacy.sanitization import AlwaysHashStrategy, HybridSanitizationStrategy
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, StoreConnectionError, StoreRefusedError, ValueTooLargeError
from keyvalue.testing import Clock
from keyvalue.testing._runtime import Awaited, step
from keyvalue.testing._suite import at_once
from tests import fake_winreg, makers, scripted
from tests.budget import scale
from tests.makers import WindowsRegistryStore
from tests.runtimes import Runtime
from tests.stores.hooks import SECRET, assert_apart, assert_raised, document

with fake_winreg.installed():
    from keyvalue.stores import windows_registry as module
    from keyvalue.stores._drivers import windows_registry as driver

winreg: Any = module.winreg
HKCU = winreg.HKEY_CURRENT_USER

pytestmark = pytest.mark.backends("windows-registry")


@pytest.fixture
def path(tmp_path: Path) -> Generator[str, None, None]:
    """The path of the test's own registry key. At the end all handles must be closed, which only the fake can tell."""
    unclosed = fake_winreg.count_unclosed()
    yield makers.registry_path(tmp_path)
    assert fake_winreg.count_unclosed() == unclosed


def open_store(path: str, **kwargs: Any) -> Any:
    return BlockingKeyValue(WindowsRegistryStore(registry_path=path, **kwargs))


@pytest.fixture
def facade(path: str) -> Generator[Any, None, None]:
    with open_store(path) as kv:
        yield kv


def list_content(path: str, hive: int = HKCU) -> dict[str, Any]:
    """Return what is below a registry key: by path, the data of a value (the name after `:`), or {} for a key with nothing in it."""
    found: dict[str, Any] = {}
    keys = [(where.removeprefix(path), values) for where, values in fake_winreg.walk(winreg, path, hive)]
    for where, values in keys:
        if not values and where and not any(other.startswith(f"{where}\\") for other, _ in keys):
            found[where] = {}
        found |= {f"{where}:{name}": data for name, data, _ in values}
    return found


def plant(path: str, name: str, data: Any, kind: int | None = None) -> None:
    with winreg.CreateKeyEx(HKCU, path) as key:
        winreg.SetValueEx(key, name, 0, winreg.REG_SZ if kind is None else kind, data)


# Importing and making


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
    assert list_content(path) == {}, "the constructor touches nothing"


def test_the_other_hive(path: str) -> None:
    with open_store(path, hive="HKEY_LOCAL_MACHINE") as kv, open_store(path) as other:
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}
        assert other.get("k") is None
        assert list(list_content(path, winreg.HKEY_LOCAL_MACHINE)) == ["\\default_collection:k"]
        assert kv.destroy() is True
    assert list_content(path, winreg.HKEY_LOCAL_MACHINE) == {"\\default_collection": {}}


def test_the_program_in_the_docs_runs() -> None:
    """`tests/test_docs.py` runs it too, where there is nothing that it would do."""
    page = (Path(__file__).parents[2] / "docs" / "stores" / "windows_registry.md").read_text()
    program = page.partition("```python\n")[2].partition("```")[0]
    assert 'if sys.platform == "win32":' in program
    exec(program.replace('sys.platform == "win32"', "True"), {})
    assert list(list_content("Software\\keyvalue-example").values()) == [{}], "the collection is there, and what was put into it is not"


# Where values lie


def test_the_layout(path: str, facade: Any) -> None:
    facade.put("alice", {"name": "Älice 😀\0"}, collection="users", ttl=60)
    ((name, text),) = list_content(path).items()
    assert name == "\\users:alice"
    fields = json.loads(text)
    assert (fields["version"], fields["collection"], fields["key"], fields["value"]) == (1, "users", "alice", {"name": "Älice 😀\0"})
    with winreg.OpenKey(HKCU, f"{path}\\users") as key:
        assert winreg.QueryValueEx(key, "alice")[1] == winreg.REG_SZ
    plant(f"{path}\\users", "bob", document("users", "bob", value={"path": "%PATH%"}), winreg.REG_EXPAND_SZ)  # which is text, too
    assert facade.get("bob", collection="users") == {"path": "%PATH%"}
    assert sorted(facade.keys("users")) == ["alice", "bob"]


MOVED = ["", "v" * 16_384, "😀" * 8192, "a\0b", "\0", "~" + "0" * 64, "~" + "ABCDEF" * 10 + "0123"]
MOVED_COLLECTIONS = ["k" * 256, "😀" * 128, "a\0b", "\\", "\\a", "a\\", "a\\\\b", "a\\" + "k" * 256, "\\".join("a" * 30), "~" + "aBcD" * 16]


@pytest.mark.parametrize("collection", ["c", "a\\b", *MOVED_COLLECTIONS])
def test_what_it_can_not_hold_is_named_by_digests(path: str, facade: Any, collection: str) -> None:
    keys = ["k", *filter(None, MOVED)]
    facade.put_many(keys, [{"of": key} for key in keys], collection=collection)
    where = digest(collection) if collection in MOVED_COLLECTIONS else collection
    homes = [digest(f"{len(collection)}:{collection}:{key}") for key in keys[1:]]
    assert set(list_content(path)) == {f"\\{where}:{name}" for name in ["k", *homes]}
    assert facade.get_many(keys, collection=collection) == [{"of": key} for key in keys]
    assert sorted(facade.keys(collection)) == sorted(keys)
    assert facade.collections() == [collection]
    assert facade.destroy_collection(collection) is True
    assert list_content(path) == {f"\\{where}": {}}


def name_by(collections: Any, keys: Any) -> dict[str, Any]:
    return {"collection_sanitization_strategy": collections, "key_sanitization_strategy": keys}


STRATEGIES = name_by(
    module.WindowsRegistryV1CollectionSanitizationStrategy(), HybridSanitizationStrategy(max_length=96, allowed_characters="abcdef")
)
ALIKE: list[tuple[str, str, dict[str, Any]]] = [
    *((one, other, {}) for one, other in (("Foo", "foo"), ("É", "é"), ("Ж", "ж"), ("~" + "A" * 64, "~" + "a" * 64))),
    ("a" * 300 + "1", "a" * 300 + "2", STRATEGIES),  # H-8, H-9
    ("仦乇", "佅举", STRATEGIES),
    ("a/b", "S_a_b-c14cddc0", STRATEGIES),
    ("Foo", "foo", STRATEGIES),
    *(("a", "b\0", name_by(strategy, strategy)) for strategy in (SimpleNamespace(sanitize=lambda _: ""), AlwaysHashStrategy(9))),
]


@pytest.mark.parametrize(("one", "other", "strategies"), ALIKE)
def test_names_that_are_the_same_to_the_registry_or_a_strategy_never_meet(
    path: str, one: str, other: str, strategies: dict[str, Any]
) -> None:
    with open_store(path, **strategies) as kv:
        step(assert_apart(Awaited(kv), [(one, one), (other, one), (one, other), (other, other)]))
        assert [data for data in list_content(path).values() if data] == []


def test_an_entry_takes_the_place_of_one_that_expired_and_is_spelled_otherwise(path: str, facade: Any, clock: Clock) -> None:
    facade.put("foo", {"of": "foo"}, collection="bar", ttl=10)
    clock.advance(10)
    facade.put("Foo", {"of": "Foo"}, collection="Bar")
    assert list(list_content(path)) == ["\\bar:foo"]
    assert facade.get("Foo", collection="Bar") == {"of": "Foo"}
    assert facade.get("foo", collection="bar") is None
    assert (facade.keys("Bar"), facade.keys("bar"), facade.collections()) == (["Foo"], [], ["Bar"])
    facade.cull()
    assert facade.destroy_collection("Bar") is True
    assert list_content(path) == {"\\bar": {}}


# What others put there


async def test_reading_makes_no_keys(kv: Any, path: str) -> None:  # H-28
    for collection in (None, "a\\b", "\0"):
        assert await kv.get_many(["k", "l"], collection=collection) == [None, None]
        assert await kv.delete_many(["k", "l"], collection=collection) == 0
    for name, call in CALLS.items():
        if not name.startswith("put"):
            await call(kv)
    with pytest.raises(FileNotFoundError):
        winreg.OpenKey(HKCU, path)


async def test_what_others_put_there_survives(kv: Any, path: str) -> None:
    for where in (path, f"{path}\\c", f"{path}\\c\\deeper", f"{path}\\theirs"):
        plant(where, "", "the default value")
        plant(where, "text", "no document")
        plant(where, "number", 5, winreg.REG_DWORD)
        plant(where, "bytes", b"\0\1", winreg.REG_BINARY)
        plant(where, "nothing", None, winreg.REG_NONE)
        plant(where, "several", ["{}", "{}"], winreg.REG_MULTI_SZ)
        plant(where, "surrogate", "\ud800")
        plant(where, "nameless", json.dumps({"value": {}, "expires_at": "2026-01-01T00:00:00+00:00"}))
        plant(where, "elsewhere", document("c", "k2"))
        plant(where, "another's", document("c2", "another's"))
        plant(where, "\ud800", document("c", "\ud7ff"))
    theirs = list_content(path)
    assert len(theirs) == 44
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
    assert list_content(path) == theirs


DAMAGED: dict[str, list[Any]] = {
    "REG_DWORD": [7],
    "REG_BINARY": [b'{"value": {}}', None],
    "REG_NONE": [None],
    "REG_MULTI_SZ": [[SECRET]],
    "REG_SZ": ["", SECRET, f'{{"value": {{"a": "{SECRET}\ud800"}}}}', f'{{"value": {{}}, "expires_at": "{SECRET}"}}'],
}


@pytest.mark.parametrize("kind", DAMAGED)
async def test_a_damaged_value_is_an_error_for_its_key_alone(kv: Any, path: str, kind: str) -> None:  # H-37
    await kv.put("good", {"a": 1}, collection="c")
    reads = [partial(call, keys, collection="c") for call, keys in ((kv.get, "bad"), (kv.ttl, "bad"), (kv.get_many, ["good", "bad"]))]
    for data in DAMAGED[kind]:
        for name in ("bad", "worse"):
            plant(f"{path}\\c", name, data, getattr(winreg, kind))
        for error in await assert_raised(DeserializationError, "overwrite", *reads):
            assert error.extra_info == {"collection": "c", "key": "bad"}
        assert await kv.get("good", collection="c") == {"a": 1}
        assert await kv.keys("c") == ["good"]
        await kv.cull()
        await kv.put("bad", {"mended": True}, collection="c")
        assert await kv.get("bad", collection="c") == {"mended": True}
        assert await kv.delete("worse", collection="c") is True
        assert await kv.get("worse", collection="c") is None
        assert set(list_content(path)) == {"\\c:good", "\\c:bad"}


# Listing, and sizes


def test_listing_while_others_add_and_remove(path: str, facade: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"k{number:03}" for number in range(100)]
    real, calls = winreg.EnumValue, 0

    def interfere(key: Any, index: int) -> Any:
        nonlocal calls
        calls += 1
        added, removed = {5: ("az", [1]), 50: ("", [30, 31, 32]), 150: ("a", [0])}.get(calls, ("", []))
        with winreg.OpenKey(HKCU, f"{path}\\c", 0, winreg.KEY_SET_VALUE) as theirs:
            for name in added:
                winreg.SetValueEx(theirs, f"{name}{calls}", 0, winreg.REG_SZ, "theirs")
            for number in removed:
                winreg.DeleteValue(theirs, keys[number])
        return real(key, index)

    facade.put_many(keys, [{}] * 100, collection="c")
    monkeypatch.setattr(winreg, "EnumValue", interfere)
    monkeypatch.setattr(listing, "PAGE", 7)
    assert sorted(facade.keys("c")) == sorted(set(keys) - {keys[number] for number in (0, 1, 30, 31, 32)})
    assert calls > 150
    assert facade.destroy_collection("c") is True
    assert set(list_content(path).values()) == {"theirs"}


@pytest.mark.parametrize(("deleted", "expected"), [(False, ["k", "l"]), (True, [])])
def test_listing_ends_whatever_others_do(
    path: str, facade: Any, deleted: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interfere() -> None:
        if deleted:
            delete_key(f"{path}\\c")
        else:
            plant(f"{path}\\c", "theirs", "changed")

    facade.put_many(["k", "l"], [{}, {}], collection="c")
    do_before("EnumValue", interfere, monkeypatch)
    assert sorted(facade.keys("c")) == expected


def test_keys_too_deep_to_be_a_collection_are_not_looked_at(path: str, facade: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "\\".join([path, *"a" * 40])
    with winreg.CreateKeyEx(HKCU, "\\".join(deep.split("\\")[:30])) as key:  # no more than 32 levels at a time
        winreg.CreateKeyEx(key, "\\".join(deep.split("\\")[30:])).Close()
    plant(deep, "k", document("\\".join("a" * 40), "k"))
    opening = Mock(wraps=winreg.OpenKey)
    monkeypatch.setattr(winreg, "OpenKey", opening)
    assert facade.collections() == []
    assert facade.get("k", collection="\\".join("a" * 40)) is None
    assert max(call.args[1].count("\\") for call in opening.call_args_list) == 31


async def test_what_is_too_large_is_refused_before_writing(kv: Any, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    huge, largest = {"text": "é😀" * 3_000_000}, {"text": "é" * 4000 + "😀"}
    await kv.put("k", huge)
    assert await kv.get("k") == huge
    await kv.put_many(["k", "l"], [largest, {}])
    size = max(len(text.encode("utf-16-le")) + 2 for text in list_content(path).values())
    monkeypatch.setattr(driver, "_LARGEST", size)
    await kv.put("k", largest)
    before = list_content(path)
    larger = {"text": largest["text"] + SECRET}
    for error in await assert_raised(
        ValueTooLargeError, "larger", lambda: kv.put("l", larger), lambda: kv.put_many(["k", "l"], [{}, larger])
    ):
        assert error.extra_info.items() >= {"max_size": size, "collection": "default_collection", "key": "l"}.items()
    assert list_content(path) == before


# Errors

CALLS: dict[str, Callable[[Any], Any]] = {
    **scripted.CALLS,
    "put": lambda kv: kv.put("k", {"new": SECRET}),
    "put_many": lambda kv: kv.put_many(["k", "l"], [{"new": SECRET}] * 2),
}
NUMBERS = {
    5: (StoreRefusedError, "this user has no rights to that key of the registry"),
    8: (StoreConnectionError, "no memory left"),
    14: (StoreConnectionError, "no memory left"),
    87: (StoreRefusedError, "the registry refused"),
    1016: (StoreConnectionError, "from the disk"),
    1115: (StoreConnectionError, "shutting down"),
    1450: (StoreConnectionError, "no memory left"),
}
"""What Windows calls its errors, with the error that each is here, and what that says."""


def do_before(function: str, what: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Have something done before each call of a function of winreg."""
    real = getattr(winreg, function)

    def call(*args: Any) -> Any:
        what()
        return real(*args)

    patch.setattr(winreg, function, call)


def delete_key(path: str) -> None:
    with suppress(FileNotFoundError):
        winreg.DeleteKey(HKCU, path)


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
    kv: Any, path: str, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:  # H-38
    caplog.set_level(logging.DEBUG)
    for function in (*LISTING, "EnumKey", "CreateKeyEx", "SetValueEx", "DeleteValue"):
        await kv.put_many(["k", "l"], [{"old": SECRET}] * 2)
        before = list_content(path)
        with monkeypatch.context() as patch:
            patch.setattr(winreg, function, Mock(side_effect=fake_winreg.failure(1016)))
            if function not in NEEDED[name]:
                await CALLS[name](kv)
                continue
            (error,) = await assert_raised(StoreConnectionError, "from the disk", partial(CALLS[name], kv))
        assert getattr(error.__cause__, "winerror", None) == 1016
        assert error.extra_info == {"host": f"HKEY_CURRENT_USER\\{path}", "operation": name}
        assert list_content(path) == before
    assert SECRET not in "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)


@pytest.mark.parametrize("number", NUMBERS)
async def test_errors_by_windows_number(kv: Any, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    await kv.put("k", {})
    monkeypatch.setattr(winreg, "QueryValueEx", Mock(side_effect=fake_winreg.failure(number)))
    await assert_raised(*NUMBERS[number], lambda: kv.get("k"))


@pytest.mark.skipif(sys.platform == "win32", reason="here, who runs the tests may do anything")
async def test_without_the_rights(runtime: Runtime, path: str) -> None:
    denying = partial(fake_winreg.deny, fake_winreg.HKEY_LOCAL_MACHINE)
    kv = runtime.adapt(WindowsRegistryStore(hive="HKEY_LOCAL_MACHINE", registry_path=path))
    calls = {name: partial(call, kv) for name, call in CALLS.items()}
    writes = [calls[name] for name in ("put", "put_many", "delete", "delete_many", "destroy_collection", "destroy")]
    await kv.put("k", {"a": 1})
    with denying(f"{path}\\default_collection", fake_winreg.KEY_SET_VALUE):
        assert await kv.get("k") == {"a": 1}
        assert await kv.keys() == ["k"]
        await assert_raised(StoreRefusedError, "this user may not do that; only administrators", *writes)
    with denying(f"{path}\\default_collection", fake_winreg.KEY_CREATE_SUB_KEY):  # which these calls don't need
        for call in calls.values():
            await call()
    await kv.put("k", {"a": 1})
    with denying(path, fake_winreg.KEY_CREATE_SUB_KEY):
        await assert_raised(StoreRefusedError, "administrators", lambda: kv.put("k", {}, collection="new"))
        assert await kv.get("k", collection="new") is None
        await kv.put("k", {"a": 2})
    with denying(f"{path}\\default_collection", fake_winreg.KEY_READ):
        for error in await assert_raised(StoreRefusedError, "administrators", *calls.values()):
            assert isinstance(error.__cause__, PermissionError)
    assert await kv.get("k") == {"a": 2}


async def test_a_collection_that_is_deleted_at_the_same_moment(kv: Any, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for function, name, expected in (
        ("QueryValueEx", "get", None),
        ("QueryValueEx", "delete", False),
        ("DeleteValue", "delete", False),
        ("QueryInfoKey", "keys", []),
        ("QueryInfoKey", "destroy", True),
        ("SetValueEx", "put", StoreConnectionError),
    ):
        await kv.put("k", {})
        with monkeypatch.context() as patch:
            do_before(function, partial(delete_key, f"{path}\\default_collection"), patch)
            if expected is StoreConnectionError:
                await assert_raised(expected, "deleted at the same moment", partial(CALLS[name], kv))
            else:
                assert await CALLS[name](kv) == expected, function
    await kv.put("k", {"again": True})
    assert await kv.get("k") == {"again": True}


# Several calls at a time


async def test_a_cancelled_put_does_not_land_on_another_name(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`K` has the same place as `k`, but does not wait for it; it must notice what `k` has become."""
    reached, let_go, real = threading.Event(), threading.Event(), winreg.SetValueEx

    def set_slowly(key: Any, name: str, *args: Any) -> None:
        if name == "k":
            reached.set()
            let_go.wait(30)
        real(key, name, *args)

    monkeypatch.setattr(winreg, "SetValueEx", set_slowly)
    async with WindowsRegistryStore(registry_path=path) as kv:
        async with anyio.create_task_group() as group:
            group.start_soon(kv.put, "k", {"of": "k"})
            assert await anyio.to_thread.run_sync(reached.wait, 30)
            group.cancel_scope.cancel()
        with anyio.fail_after(20):  # a slow call stalls no other
            await kv.put("other", {})
        async with anyio.create_task_group() as group:
            group.start_soon(kv.put, "K", {"of": "K"})
            await anyio.sleep(0.02)
            let_go.set()
        assert await kv.get_many(["K", "k"]) == [{"of": "K"}, {"of": "k"}]


async def test_concurrent_puts_of_names_that_differ_in_case(runtime: Runtime, path: str) -> None:
    names = ["foo", "Foo", "fOo", "FOO"]
    one, other = (runtime.adapt(WindowsRegistryStore(registry_path=where)) for where in (path, path.upper()))
    for turn in range(scale(10, 30)):
        await at_once(runtime, [partial(kv.put, name, {"of": [name, turn]}) for name, kv in zip(names, [one, other] * 2, strict=True)])
        assert await one.get_many(names) == [{"of": [name, turn]} for name in names]
        if turn % 3 == 0:
            assert await other.delete_many(names) == 4
