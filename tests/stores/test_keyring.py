"""What is KeyringStore's own: names, what else lies in a keyring, its errors, the chain, Windows, one call at a time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import keyring as keyring_module
import pytest
from jeepney import DBusErrorResponse, new_error, new_method_call
from jeepney.bus_messages import message_bus
from keyring import errors as keyring_errors
from keyring.backend import KeyringBackend
from keyring.backends import SecretService, fail, null
from secretstorage import exceptions as secretstorage_errors

from keyvalue._core.entry import Entry
from keyvalue._core.flat import digest
from keyvalue._core.runtime import drive
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import (
    DeserializationError,
    InvalidKeyError,
    StoreClosedError,
    StoreConnectionError,
    StoreRefusedError,
    ValueTooLargeError,
)
from keyvalue.stores import _keyring
from keyvalue.stores.keyring import KeyringStore, KeyringV1CollectionSanitizationStrategy, KeyringV1KeySanitizationStrategy
from keyvalue.testing import Clock
from tests.fake_keyrings import (
    LAST,
    FakeCaseIgnoringKeyring,
    FakeChain,
    FakeKeyring,
    FakeReadOnlyKeyring,
    FakeWindowsError,
    FakeWinVaultKeyring,
)
from tests.runtimes import Runtime
from tests.servers import Running, free_port, keyring
from tests.stores.test_properties import World, check, entering

SERVICE = "py-key-value"
loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


@pytest.fixture
def url(empty_server: Callable[[str], str]) -> str:
    return empty_server("keyring")


@pytest.fixture
def private(tmp_path: Path, server_urls: Callable[[str], str]) -> Generator[Running, None, None]:
    """A Secret Service of the test's own, on which a key is stored."""
    server_urls("keyring")  # or skip
    assert keyring.KEYRING.private is not None
    with keyring.KEYRING.private(free_port(), str(tmp_path)) as running:
        keyring.session_bus(running.url)
        with BlockingKeyValue(KeyringStore()) as kv:
            kv.put("k", {"a": 1})
        yield running


@pytest.fixture
def keeping_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have FakeKeyring known for a backend that keeps case, as those of the systems are: the store then makes fewer calls."""
    monkeypatch.setattr(_keyring, "_KEEPING_CASE", (*_keyring._KEEPING_CASE, FakeKeyring))  # pyright: ignore[reportPrivateUsage]


def calls_on(kv: Any) -> dict[str, Callable[[], Any]]:
    return {
        "get": lambda: kv.get("k"),
        "ttl": lambda: kv.ttl("k"),
        "get_many": lambda: kv.get_many(["k", "l"]),
        "put": lambda: kv.put("k", {}),
        "put_many": lambda: kv.put_many(["k", "l"], [{}, {}]),
        "delete": lambda: kv.delete("k"),
        "delete_many": lambda: kv.delete_many(["missing", "k"]),
    }


async def assert_raised_by_all(kv: Any, error: type[Exception], match: str) -> None:
    for operation, call in calls_on(kv).items():
        with pytest.raises(error, match=match) as caught:
            await call()
        assert caught.value.extra_info == {"operation": operation}  # pyright: ignore[reportAttributeAccessIssue] # all of the library have it
        assert caught.value.__cause__ is not None


# The format


async def test_the_password_is_the_document(url: str, runtime: Runtime) -> None:
    kv = runtime.adapt(KeyringStore(service_name="app", default_collection="mine"))
    await kv.put("k", {"é": 1}, ttl=60)
    with keyring.collection(url) as found:
        (item,) = found.get_all_items()
        attributes = item.get_attributes()
        text = item.get_secret()
    assert attributes["service"] == "app"
    assert attributes["username"] == "mine::k"
    document = json.loads(text)
    assert set(document) == {"version", "collection", "key", "created_at", "expires_at", "value"}
    assert (document["version"], document["collection"], document["key"], document["value"]) == (1, "mine", "k", {"é": 1})


@pytest.mark.parametrize(
    ("collection", "key", "name"),
    [
        ("c", "k", "c::k"),
        ("c", "é 😀\n/", "c::é 😀\n/"),
        ("c", "x" * 5000, "c::" + "x" * 5000),
        ("a::b", "c", "a~1~1b~:c"),
        ("c", "k\0", digest("1:c:k\0")),
        ("a::\0", "k", digest("4:a::\0:k")),
    ],
)
async def test_names(url: str, collection: str, key: str, name: str) -> None:
    async with KeyringStore() as kv:
        await kv.put(key, {"a": 1}, collection=collection)
        assert keyring.names(url) == {name}
        assert await kv.get(key, collection=collection) == {"a": 1}
        assert await kv.delete(key, collection=collection) is True
        assert keyring.names(url) == set()


async def test_names_of_strategies() -> None:
    backend = FakeKeyring()
    strategies = KeyringV1KeySanitizationStrategy(), KeyringV1CollectionSanitizationStrategy()
    kv = KeyringStore(backend=backend, key_sanitization_strategy=strategies[0], collection_sanitization_strategy=strategies[1])
    await kv.put("k", {"n": 1}, collection="c")
    await kv.put("x/y", {"n": 2}, collection="my app")
    assert [name for _, name in backend.passwords] == ["c::k", "S_my_app-cccdfa68::S_x_y-bd3c9047"]
    long, longer = "a" * 300, "a" * 300 + "b"
    await kv.put_many([long, longer], [{"of": 1}, {"of": 2}])
    assert await kv.get_many([long, longer]) == [{"of": 1}, {"of": 2}]
    assert {name for _, name in backend.passwords} >= {"default_collection::S_" + "a" * 254}
    assert await kv.delete(longer) is True
    assert await kv.get_many([long, longer]) == [{"of": 1}, None]
    await kv.close()


@pytest.mark.parametrize("name", ["", "\ud800", "a\0b"])
def test_a_service_has_a_name(name: str) -> None:
    with pytest.raises(InvalidKeyError, match="service name"):
        KeyringStore(service_name=name)


# What else lies there

DAMAGED = [
    b"",
    b"not a document",
    b"[]",
    b'{"value": 1}',
    b'{"value": {}, "version": 2}',
    b'{"value": {}, "created_at": 1, "expires_at": 1}',
    b'{"value": {"secret": "\xff"}}',
]


@pytest.mark.parametrize("damaged", DAMAGED)
async def test_a_damaged_entry_is_not_missing(url: str, runtime: Runtime, damaged: bytes) -> None:
    kv = runtime.adapt(KeyringStore())
    for clear in (lambda: kv.delete("k", collection="c"), lambda: kv.put("k", {"a": 1}, collection="c")):
        keyring.plant(url, "c::k", damaged)
        for call in (
            lambda: kv.get("k", collection="c"),
            lambda: kv.ttl("k", collection="c"),
            lambda: kv.get_many(["l", "k"], collection="c"),
        ):
            with pytest.raises(DeserializationError) as caught:
                await call()
            assert caught.value.extra_info == {"collection": "c", "key": "k"}
        assert await clear() in (True, None)
    assert await kv.get("k", collection="c") == {"a": 1}


async def test_others_entries_are_left_alone(url: str) -> None:
    foreign = [("other service", "c::k"), (SERVICE, "somebody"), (SERVICE, "c::other")]
    for service, name in foreign:
        keyring.plant(url, name, b"theirs", service)
    async with KeyringStore() as kv:
        assert await kv.get("k", collection="c") is None
        await kv.put("k", {"a": 1}, collection="c")
        assert await kv.get("k", collection="c") == {"a": 1}
        assert await kv.delete("k", collection="c") is True
        assert await kv.delete("k", collection="c") is False
        assert await kv.get("k", collection="c") is None
    backend: Any = keyring_module.get_keyring()
    assert [backend.get_password(*one) for one in foreign] == ["theirs"] * 3


async def test_an_expired_entry_is_absent_until_delete_clears_it(url: str, clock: Clock) -> None:
    async with KeyringStore() as kv:
        await kv.put_many(["k", "l"], [{}, {}], ttl=5)
        clock.advance(5)
        assert await kv.get("k") is None
        assert keyring.names(url) == {"default_collection::k", "default_collection::l"}
        assert await kv.delete("k") is False
        assert await kv.delete_many(["l"]) == 0
        assert keyring.names(url) == set()


# Backends


async def test_a_given_backend_is_used_and_no_other(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_module.core, "_keyring_backend", null.Keyring())
    backend = FakeKeyring()
    kv = runtime.adapt(KeyringStore(backend=backend))
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
    assert [name for _, name in backend.passwords] == ["default_collection::k"]


@pytest.mark.filterwarnings("ignore:KeyringStore:UserWarning")
@pytest.mark.parametrize("wrong", [FakeKeyring, "keyring.backends.SecretService.Keyring", object()])
def test_a_backend_is_an_instance_of_one(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"instance of keyring\.backend\.KeyringBackend"):
        KeyringStore(backend=wrong)


KEEPS_NOTHING: dict[str, Callable[[], KeyringBackend]] = {
    "null": null.Keyring,
    "fail": fail.Keyring,
    "empty chain": FakeChain,
    "chain of nothing": lambda: FakeChain(fail.Keyring(), null.Keyring()),
}


@pytest.mark.parametrize("kind", KEEPS_NOTHING)
@pytest.mark.parametrize("given", [False, True])
async def test_a_backend_that_keeps_nothing_is_none(kind: str, given: bool, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = KEEPS_NOTHING[kind]()
    monkeypatch.setattr(keyring_module.core, "_keyring_backend", backend)
    kv = runtime.adapt(KeyringStore(backend=backend if given else None))
    await assert_raised_by_all(
        kv, StoreConnectionError, "no keyring that keeps anything. Start a Secret Service.*or choose another backend"
    )
    with pytest.raises(StoreConnectionError):
        await kv.setup()
    if not given:  # and then somebody chooses another one
        keyring_module.set_keyring(FakeKeyring())
        await kv.put("k", {"a": 1})
        assert await kv.get("k") == {"a": 1}


@pytest.mark.parametrize("name", ["no.such.module.Keyring", "keyring.backends.null.NoSuchClass", "keyring.backends.SecretService.Keyring"])
async def test_a_configured_backend_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_module.core, "_keyring_backend", None)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", name)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
    async with KeyringStore(backend=FakeKeyring()) as kv:
        await kv.put("k", {})
    kv = KeyringStore()
    await assert_raised_by_all(kv, StoreConnectionError, "could not be opened.*is the configured backend")
    await kv.close()


async def test_no_bus(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = runtime.adapt(KeyringStore(backend=SecretService.Keyring()))
    for address in ("unix:path=/nonexistent", "unix:abstract=keyvalue-tests-nobody", "nonsense", None):
        if address is None:
            monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
        else:
            monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        await assert_raised_by_all(kv, StoreConnectionError, "is it running, and is DBUS_SESSION_BUS_ADDRESS right")


async def test_a_bus_without_the_service(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, server_urls: Callable[[str], str]) -> None:
    server_urls("keyring")
    address = f"unix:abstract=keyvalue-tests-{free_port()}"
    kv = runtime.adapt(KeyringStore(backend=SecretService.Keyring()))
    with keyring.private_bus(address):
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        await assert_raised_by_all(kv, StoreConnectionError, "is its service running")


async def test_a_locked_keyring_is_not_an_empty_one(private: Running, runtime: Runtime) -> None:
    kv, late = runtime.adapt(KeyringStore()), runtime.adapt(KeyringStore())
    assert await kv.get_many(["k", "missing"]) == [{"a": 1}, None]
    keyring.lock(private.url)
    for store in (kv, late):
        with pytest.raises(StoreConnectionError):  # first of all: no call has failed yet on the connection
            await store.get("missing")
        await assert_raised_by_all(store, StoreConnectionError, "the keyring is locked.*unlock it and try again")
    keyring.unlock(private.url)
    for store in (kv, late):
        assert await store.get("k") == {"a": 1}
        assert await store.get("l") is None


def dbus_error(name: str) -> Exception:
    call = new_method_call(message_bus, "Hello")
    call.header.serial = 1
    return DBusErrorResponse(new_error(call, name, "s", ("text",)))


class DBusException(Exception):  # noqa: N818 # the name is dbus-python's
    """A fake of the exception of dbus-python, which is not here."""


CONNECTION, REFUSED = StoreConnectionError, StoreRefusedError
ERRORS: list[tuple[Exception, type[Exception], str]] = [
    (keyring_errors.KeyringLocked("x"), CONNECTION, "unlock it"),
    (keyring_errors.InitError("x"), CONNECTION, "is its service running"),
    (keyring_errors.NoKeyringError("x"), CONNECTION, "choose another backend"),
    (keyring_errors.PasswordSetError("x"), REFUSED, "refused"),
    (keyring_errors.KeyringError("x"), REFUSED, "refused"),
    (secretstorage_errors.LockedException("x"), CONNECTION, "unlock it"),
    (secretstorage_errors.PromptDismissedException("x"), CONNECTION, "unlock it"),
    (secretstorage_errors.SecretServiceNotAvailableException("x"), CONNECTION, "is it running"),
    (secretstorage_errors.ItemNotFoundException("x"), REFUSED, "failed"),
    (dbus_error("org.freedesktop.Secret.Error.IsLocked"), CONNECTION, "unlock it"),
    (dbus_error("org.freedesktop.Secret.Error.NoSession"), CONNECTION, "is it running"),
    (dbus_error("org.freedesktop.DBus.Error.NoReply"), CONNECTION, "is it running"),
    (dbus_error("org.freedesktop.DBus.Error.AccessDenied"), REFUSED, "failed"),
    (DBusException("x"), CONNECTION, "is it running"),
    (FakeWindowsError(1312, "CredRead", "x"), CONNECTION, "user who is logged on"),
    (FakeWindowsError(5, "CredRead", "x"), REFUSED, "failed"),
    (PermissionError("x"), REFUSED, "files may not be used"),
    (ConnectionResetError("x"), CONNECTION, "is it running"),
    (TimeoutError("x"), CONNECTION, "is it running"),
    (NotImplementedError("x"), REFUSED, "can't do that"),
    (RuntimeError("x"), REFUSED, "failed"),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
async def test_errors_say_what_to_do(number: int, runtime: Runtime) -> None:
    error, expected, text = ERRORS[number]
    backend = FakeKeyring()
    kv = runtime.adapt(KeyringStore(backend=backend))
    await kv.put("k", {"a": 1})
    backend.error = error
    for operation, call in calls_on(kv).items():
        if isinstance(error, NotImplementedError) and operation.startswith("put"):
            continue  # how a backend says that it can't be written to
        with pytest.raises(expected, match=text) as caught:
            await call()
        assert caught.value.__cause__ is error
        assert caught.value.extra_info == {"operation": operation}  # pyright: ignore[reportAttributeAccessIssue] # all of the library have it
    backend.error = None
    assert await kv.get("k") == {"a": 1}


async def test_a_backend_for_reading_only() -> None:
    backend = FakeReadOnlyKeyring()
    backend.passwords[SERVICE, "default_collection::k"] = '{"value": {"a": 1}}'
    async with KeyringStore(backend=backend) as kv:
        assert await kv.get("k") == {"a": 1}
        for _ in range(2):
            with pytest.raises(StoreRefusedError, match="refused") as caught:
                await kv.put("k", {})
            assert "reading only" in str(caught.value.__cause__)
        with pytest.raises(StoreRefusedError, match="can't do that"):
            await kv.delete("k")


@pytest.mark.usefixtures("keeping_case")
async def test_another_process_deletes_at_the_same_moment() -> None:
    class FakeRace(FakeKeyring):
        priority = LAST

        def get_password(self, service: str, username: str) -> str | None:
            found = super().get_password(service, username)
            if found and self.error_once:
                self.passwords.clear()
                error, self.error_once = self.error_once, None
                raise error
            return found

        def delete_password(self, service: str, username: str) -> None:
            self.passwords.clear()
            super().delete_password(service, username)

        error_once: Exception | None = None

    backend = FakeRace()
    async with KeyringStore(backend=backend) as kv:
        await kv.put("k", {})
        backend.error_once = secretstorage_errors.ItemNotFoundException("between the search and the read")
        assert await kv.get("k") is None
        assert backend.error_once is None
        await kv.put("k", {})
        assert await kv.delete("k") is False
        assert await kv.get("k") is None


async def test_a_delete_that_is_refused_is_no_miss() -> None:
    class FakeUndeletable(FakeKeyring):
        priority = LAST

        def delete_password(self, service: str, username: str) -> None:
            raise keyring_errors.PasswordDeleteError("cancelled by the user")

    async with KeyringStore(backend=FakeUndeletable()) as kv:
        await kv.put("k", {})
        with pytest.raises(StoreRefusedError):
            await kv.delete("k")


# Chains


async def test_a_chain(runtime: Runtime) -> None:
    index, first, second = FakeReadOnlyKeyring(), FakeKeyring(), FakeKeyring()
    kv = runtime.adapt(KeyringStore(backend=FakeChain(index, null.Keyring(), first, second)))
    second.passwords[SERVICE, "c::old"] = '{"value": {"of": "second"}}'
    await kv.put("k", {"a": 1}, collection="c")
    assert await kv.get_many(["old", "k"], collection="c") == [{"of": "second"}, {"a": 1}]
    assert list(first.passwords) == [(SERVICE, "c::k")]
    assert await kv.delete("old", collection="c") is True
    assert await kv.get("old", collection="c") is None
    second.passwords[SERVICE, "c::k"] = '{"value": {"hidden": true}}'
    assert await kv.delete("k", collection="c") is True
    assert await kv.get("k", collection="c") is None


async def test_what_a_keyring_for_reading_only_has_is_not_stored_behind_it(runtime: Runtime) -> None:
    index, first = FakeReadOnlyKeyring(), FakeKeyring()
    index.passwords[SERVICE, "default_collection::k"] = '{"value": {"old": 1}}'
    kv = runtime.adapt(KeyringStore(backend=FakeChain(index, first)))
    for _ in range(2):
        with pytest.raises(StoreRefusedError, match="pass the keyring to use as backend="):
            await kv.put("k", {"new": 1})
        assert await kv.get("k") == {"old": 1}
        await kv.put("l", {})
    assert list(first.passwords) == [(SERVICE, "default_collection::l")]
    with pytest.raises(StoreRefusedError):
        await kv.delete("k")
    assert await kv.get("k") == {"old": 1}


async def test_a_delete_that_a_keyring_of_a_chain_refuses_changes_nothing(runtime: Runtime) -> None:
    first, index = FakeKeyring(), FakeReadOnlyKeyring()
    index.passwords[SERVICE, "default_collection::k"] = '{"value": {"old": 1}}'
    kv = runtime.adapt(KeyringStore(backend=FakeChain(first, index)))
    await kv.put("k", {"new": 1})
    with pytest.raises(StoreRefusedError, match="can't do that"):
        await kv.delete("k")
    assert await kv.get("k") == {"new": 1}


async def test_a_third_partys_backend_may_ignore_case(runtime: Runtime) -> None:
    backend = FakeCaseIgnoringKeyring()
    kv = runtime.adapt(KeyringStore(backend=backend))
    names = ["foo", "Foo", "FOO"]
    await kv.put_many(names, [{"of": name} for name in names])
    assert await kv.get_many(names) == [{"of": name} for name in names]
    assert await kv.delete("Foo") is True
    assert await kv.get_many(names) == [{"of": "foo"}, None, {"of": "FOO"}]
    assert await kv.delete_many(names) == 2
    assert backend.passwords == {}


# Windows


def fits(characters: int) -> dict[str, Any]:
    """Return a value whose document has so many characters."""
    document = Entry("default_collection", "k", None, b'{"v":""}', time.time()).document().decode()
    return {"v": "x" * (characters - len(document))}


@pytest.mark.parametrize("chain", [None, FakeChain, lambda windows: FakeChain(FakeReadOnlyKeyring(), windows)])
async def test_what_windows_would_refuse_is_not_sent(chain: Any, runtime: Runtime, clock: Clock) -> None:
    clock.freeze()
    windows = FakeWinVaultKeyring()
    kv = runtime.adapt(KeyringStore(backend=windows if chain is None else chain(windows)))
    await kv.put("k", fits(1280))
    before = dict(windows.vault)
    for call in (
        lambda: kv.put("k", fits(1281)),
        lambda: kv.put_many(["other", "k"], [{}, fits(1281)]),
        lambda: kv.put("k", {"v": "😀" * 700}),
    ):
        with pytest.raises(ValueTooLargeError) as caught:
            await call()
        info: Any = caught.value.extra_info
        assert info["size"] > info["max_size"] == 2560
        assert (info["collection"], info["key"]) == ("default_collection", "k")
    assert windows.vault == before
    assert await kv.get("k") == fits(1280)
    await kv.put("k", {"v": "é" * 1000})  # it is characters that count
    assert await kv.get("k") == {"v": "é" * 1000}


@pytest.mark.usefixtures("keeping_case")
async def test_the_backend_that_is_written_to_decides_on_the_limit() -> None:
    first, windows = FakeKeyring(), FakeWinVaultKeyring()
    async with KeyringStore(backend=FakeChain(first, windows)) as kv:
        for _ in range(2):  # until something is written, nobody knows where it will be
            with pytest.raises(ValueTooLargeError):
                await kv.put_many(["other", "k"], [{}, fits(5000)])
            assert not first.passwords
        await kv.put("other", {})
        await kv.put("k", fits(5000))
        assert await kv.get("k") == fits(5000)
    async with KeyringStore(backend=FakeChain(FakeReadOnlyKeyring(), windows)) as kv:
        with pytest.raises(ValueTooLargeError):
            await kv.put_many(["other", "k"], [{}, fits(5000)])
    assert windows.vault == {}


async def test_what_the_fake_refuses_is_what_the_store_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_keyring, "_LIMITS", {})
    async with KeyringStore(backend=FakeWinVaultKeyring()) as kv:
        with pytest.raises(StoreRefusedError) as caught:
            await kv.put("k", fits(1281))
        assert isinstance(caught.value.__cause__, FakeWindowsError)


async def test_what_the_secret_service_would_refuse_is_not_sent(url: str) -> None:
    async with KeyringStore() as kv:
        await kv.put("k", {"a": 1})
        with pytest.raises(ValueTooLargeError) as caught:
            await kv.put("k", {"v": "x" * 2**26})
        info: Any = caught.value.extra_info
        assert info["max_size"] == 2**26 - 1
        assert await kv.get("k") == {"a": 1}


async def test_names_that_differ_in_case_only_never_meet_on_windows(runtime: Runtime) -> None:
    windows = FakeWinVaultKeyring()
    kv = runtime.adapt(KeyringStore(backend=windows))
    names = ["foo", "FOO", "Foo", "é", "É", "x" * 600, "nul\0", "other"]
    numbers = {name: number for number, name in enumerate(names)}
    for turn in range(3):
        for collection in ("c", "C"):
            for name in names[turn:] + names[:turn]:
                await kv.put(name, {"of": [turn, collection, numbers[name]]}, collection=collection)
        for collection in ("c", "C"):
            assert await kv.get_many(names, collection=collection) == [{"of": [turn, collection, number]} for number in numbers.values()]
    plain = {credential["UserName"] for credential in windows.vault.values() if "::" in credential["UserName"]}
    assert plain == {"c::foo", "c::é", "c::other"}  # those that came first lie where they always did
    assert await kv.delete_many(names, collection="c") == len(names)
    assert await kv.get_many(names, collection="c") == [None] * len(names)
    assert await kv.get_many(names, collection="C") == [{"of": [2, "C", number]} for number in numbers.values()]
    assert await kv.delete_many(names, collection="C") == len(names)
    assert windows.vault == {}


async def test_what_windows_holds_that_is_no_text(runtime: Runtime) -> None:
    windows = FakeWinVaultKeyring()
    kv = runtime.adapt(KeyringStore(backend=windows))
    await kv.put_many(["k", "l"], [{"n": 1}, {"n": 2}])
    last = windows.vault[SERVICE.upper()]
    assert last["UserName"] == "default_collection::l"
    for user in ("another", "default_collection::l", "default_collection::L"):
        last["UserName"], last["CredentialBlob"] = user, b"\xff"
        assert await kv.get_many(["k", "missing"]) == [{"n": 1}, None]
        assert await kv.delete("missing") is False
        with pytest.raises(StoreRefusedError, match="another service_name") as caught:  # it would lose the other
            await kv.put("m", {})
        assert caught.value.__cause__ is not None
        assert (caught.value.__cause__.__context__, caught.value.__cause__.__cause__) == (None, None)
        if user.endswith("::l"):
            with pytest.raises(DeserializationError):
                await kv.get("l")
    last["UserName"] = "default_collection::l"
    assert await kv.delete("l") is True
    await kv.put("m", {"n": 3})
    assert await kv.get_many(["k", "l", "m"]) == [{"n": 1}, None, {"n": 3}]


async def test_a_name_of_windows_passes_from_an_expired_entry_to_another(clock: Clock) -> None:
    async with KeyringStore(backend=FakeWinVaultKeyring()) as kv:
        for other in ("last", None):
            await kv.put("foo", {"n": 1}, ttl=5)
            if other:  # the one that was stored last lies apart
                await kv.put(other, {})
            clock.advance(5)
            await kv.put("FOO", {"n": 2})
            await kv.put("foo", {"n": 3})
            await kv.put("third", {})
            await kv.put("fourth", {})
            assert await kv.get_many(["foo", "FOO"]) == [{"n": 3}, {"n": 2}]
            assert await kv.delete_many(["foo", "FOO"]) == 2


FAKES: dict[str, Callable[[], KeyringStore]] = {
    "windows": lambda: KeyringStore(backend=FakeWinVaultKeyring()),
    "strategies": lambda: KeyringStore(
        backend=FakeKeyring(),
        key_sanitization_strategy=KeyringV1KeySanitizationStrategy(),
        collection_sanitization_strategy=KeyringV1CollectionSanitizationStrategy(),
    ),
    "windows with strategies": lambda: KeyringStore(
        backend=FakeWinVaultKeyring(),
        key_sanitization_strategy=KeyringV1KeySanitizationStrategy(),
        collection_sanitization_strategy=KeyringV1CollectionSanitizationStrategy(),
    ),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", FAKES)
def test_any_calls_in_any_order(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 0.0

    def set_clock(now: float) -> None:
        nonlocal moment
        moment = now

    made: list[Any] = []

    def make(*_: object, **__: object) -> KeyringStore:
        made.append(FAKES[kind]())
        if len(made) > 1:  # opened again, on the same passwords
            made[-1]._client._make = made[0]._client._make
        return made[-1]

    monkeypatch.setattr("keyvalue._core.clock.now", lambda: moment)
    monkeypatch.setattr(_keyring, "_LIMITS", {})
    monkeypatch.setattr(FakeWinVaultKeyring, "_set_password", _of_any_size)
    with entering("direct") as enter:
        check(World("keyring", make, enter, made.clear, tmp_path, set_clock))


def _of_any_size(self: FakeWinVaultKeyring, target: str, username: str, password: str) -> None:
    blob = password.encode("utf-16-le")
    self.vault[target.upper()] = _keyring.Windows.DecodingCredential(TargetName=target, UserName=username, CredentialBlob=blob)


# One call at a time, in a thread


async def beats(count: list[int]) -> None:
    """Count how often a task gets its turn, once in some milliseconds."""
    while True:
        await anyio.sleep(0.005)
        count[0] += 1


@loops
def test_a_backend_that_takes_two_seconds_stalls_no_other_task(loop: str) -> None:
    async def main() -> None:
        backend, count = FakeKeyring(), [0]
        async with KeyringStore(backend=backend) as kv, anyio.create_task_group() as group:
            await kv.put("k", {"a": 1})
            backend.delays = [2]
            group.start_soon(beats, count)
            longest, last = 0.0, anyio.current_time()
            started = last

            async def watch() -> None:
                nonlocal longest, last
                while True:
                    await anyio.sleep(0.005)
                    longest, last = max(longest, anyio.current_time() - last), anyio.current_time()

            group.start_soon(watch)
            assert await kv.get("k") == {"a": 1}
            assert anyio.current_time() - started >= 2
            assert longest < 0.5
            assert count[0] > 50
            group.cancel_scope.cancel()

    anyio.run(main, backend=loop)


@loops
@pytest.mark.parametrize("operation", ["get", "put", "delete"])
def test_a_cancelled_call_returns_at_once_and_the_next_one_queues(loop: str, operation: str) -> None:
    async def main() -> None:
        backend = FakeKeyring()
        async with KeyringStore(backend=backend) as kv:
            await kv.put_many(["k", "l"], [{"n": 0}, {"n": 0}])
            backend.delays = [1]
            started = anyio.current_time()
            with anyio.move_on_after(0.1) as scope:
                await {"get": lambda: kv.get("k"), "put": lambda: kv.put("k", {"n": 1}), "delete": lambda: kv.delete("k")}[operation]()
            assert scope.cancelled_caught
            assert anyio.current_time() - started < 0.6
            assert await kv.get("l") == {"n": 0}  # of another key, and it waits all the same
            assert anyio.current_time() - started >= 1
            await kv.put("k", {"n": 2})
            await anyio.sleep(0.2)
            assert await kv.get("k") == {"n": 2}
        assert backend.most_at_once == 1

    anyio.run(main, backend=loop)


@loops
@pytest.mark.usefixtures("keeping_case")
def test_nothing_abandoned_lands_after_a_later_call_has_returned(loop: str) -> None:
    async def main() -> None:
        backend = FakeKeyring()
        backend.delay = 0.05
        async with KeyringStore(backend=backend) as kv:
            keys = [f"k{number}" for number in range(20)]
            with anyio.move_on_after(0.25) as scope:
                await kv.put_many(keys, [{"n": "abandoned"}] * 20)
            assert scope.cancelled_caught
            await kv.put("other", {})
            landed = list(backend.passwords)
            assert 1 < len(landed) < 10, "what had not begun is not done at all"
            await kv.delete(keys[0])
            await anyio.sleep(0.3)
            assert [name for name in backend.passwords if name in landed] == landed[1:]
            assert await kv.get(keys[-1]) is None

    anyio.run(main, backend=loop)


def test_the_facade_makes_one_call_at_a_time_in_the_callers_threads() -> None:
    backend, used = FakeKeyring(), set[int]()
    backend.delay = 0.01
    original = FakeKeyring.get_password

    def get_password(service: str, username: str) -> str | None:
        used.add(threading.get_ident())
        return original(backend, service, username)

    backend.get_password = get_password
    with BlockingKeyValue(KeyringStore(backend=backend)) as kv:
        threads = [threading.Thread(target=lambda: [kv.get("k") for _ in range(3)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert used == {thread.ident for thread in threads}
    assert backend.most_at_once == 1


@loops
def test_the_facade_queues_behind_an_abandoned_call(loop: str) -> None:
    backend = FakeKeyring()
    kv = KeyringStore(backend=backend)

    async def main() -> None:
        await kv.put("k", {"n": 0})
        backend.delays = [0, 0.5]
        with anyio.move_on_after(0.1):
            await kv.put("k", {"n": 1})

    anyio.run(main, backend=loop)
    with BlockingKeyValue(kv) as facade:
        facade.put("k", {"n": 2})
        time.sleep(0.5)
        assert facade.get("k") == {"n": 2}
    assert backend.most_at_once == 1


@loops
@pytest.mark.parametrize("count", [1, 2])
def test_names_that_meet_at_the_same_moment_part(loop: str, count: int) -> None:
    async def main() -> None:
        backend = FakeKeyring()
        backend.delay = 0.002
        keys = ["x" * 300, "x" * 300 + "y"]
        values = [{"of": key} for key in keys]
        strategy = KeyringV1KeySanitizationStrategy()
        stores = [KeyringStore(backend=backend, key_sanitization_strategy=strategy) for _ in range(count)]
        for _ in range(5):
            async with anyio.create_task_group() as group:
                for store, key, value in zip(stores * 2, keys, values, strict=False):
                    group.start_soon(store.put, key, value)
            assert await stores[0].get_many(keys) == values
            assert await stores[-1].delete_many(keys) == 2
        for store in stores:
            await store.close()

    anyio.run(main, backend=loop)


@loops
def test_stores_over_backends_of_one_class_take_turns(loop: str) -> None:
    async def main() -> None:
        backend = FakeKeyring()
        backend.delay = 0.01
        stores = [KeyringStore(service_name=name, backend=backend) for name in ("one", "two", "three")]
        async with anyio.create_task_group() as group:
            for store in stores:
                for number in range(5):
                    group.start_soon(partial(store.put, f"k{number}", {}))
        assert len(backend.passwords) == 15
        assert backend.most_at_once == 1
        for store in stores:
            await store.close()

    anyio.run(main, backend=loop)


@loops
def test_a_backend_of_another_class_does_not_wait(loop: str) -> None:
    class FakeOther(FakeKeyring):
        priority = LAST

    async def main() -> None:
        slow = FakeKeyring()
        slow.delays = [1]
        async with KeyringStore(backend=slow) as kv, KeyringStore(backend=FakeOther()) as other, anyio.create_task_group() as group:
            group.start_soon(kv.get, "k")
            await anyio.sleep(0.05)
            with anyio.fail_after(0.6):
                await other.put("k", {})

    anyio.run(main, backend=loop)


@loops
@pytest.mark.usefixtures("keeping_case")
def test_closing_waits_for_an_abandoned_call(loop: str) -> None:
    async def main() -> None:
        backend = FakeKeyring()
        kv = KeyringStore(backend=backend)
        await kv.setup()
        backend.delays = [0.3]
        with anyio.move_on_after(0.05):
            await kv.put("k", {})
        await kv.close()
        assert len(backend.passwords) == 1
        with pytest.raises(StoreClosedError):
            await kv.get("k")

    anyio.run(main, backend=loop)


@pytest.mark.parametrize("operation", ["get", "put"])
def test_cancelling_the_wait_for_closing_returns_at_once(operation: str) -> None:
    async def main() -> None:
        backend = FakeKeyring()
        kv = KeyringStore(backend=backend)
        await kv.setup()
        backend.delay = 1
        with anyio.move_on_after(0.05):
            await (kv.get("k") if operation == "get" else kv.put("k", {}))
        backend.delay = 0
        started = anyio.current_time()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(kv.close(), 0.1)  # which cancels once, where a scope of anyio goes on cancelling
        assert anyio.current_time() - started < 0.6
        await kv.close()
        assert anyio.current_time() - started > 0.6

    asyncio.run(main())


@loops
def test_a_service_that_hangs(private: Running, loop: str) -> None:
    async def main() -> None:
        async with KeyringStore() as kv:
            assert await kv.get("k") == {"a": 1}
            count = [0]
            async with anyio.create_task_group() as group:
                group.start_soon(beats, count)
                with private.suspended():  # to its end, the call would take for ever
                    with anyio.move_on_after(0.5) as scope:
                        await kv.get("k")
                    assert scope.cancelled_caught
                    assert count[0] > 1
                assert await kv.get("k") == {"a": 1}
                await kv.put("k", {"a": 2})
                assert await kv.get("k") == {"a": 2}
                group.cancel_scope.cancel()

    anyio.run(main, backend=loop)


# The connection to the Secret Service, which is kept


def test_calls_share_a_connection_which_closing_closes(url: str) -> None:
    backend: Any = SecretService.Keyring()
    connect, made = backend.get_preferred_collection, list[Any]()

    def get_preferred_collection() -> Any:
        made.append(connect())
        return made[-1]

    given = backend.with_properties(get_preferred_collection=get_preferred_collection)
    with BlockingKeyValue(KeyringStore(backend=given)) as kv:
        kv.put_many(["k", "l"], [{}, {}])
        assert kv.get_many(["k", "l", "m"]) == [{}, {}, None]
        assert kv.delete("k") is True
        assert len(made) == 1
        keyring.plant(url, "default_collection::k", b"\xff")
        with pytest.raises(DeserializationError):
            kv.get("k")
        assert kv.delete("k") is True
    for collection in made:
        with pytest.raises(OSError, match=r"closed|descriptor"):
            collection.connection.connection.sock.getpeername()


def test_a_backend_of_ones_own_is_used_as_it_is(url: str) -> None:
    class Own(SecretService.Keyring):
        priority = LAST
        connections = 0

        def get_preferred_collection(self) -> Any:
            self.connections += 1
            return super().get_preferred_collection()

    backend = Own()
    with BlockingKeyValue(KeyringStore(backend=backend)) as kv:
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}
    assert backend.connections == 2


def test_another_daemon_takes_over(tmp_path: Path, server_urls: Callable[[str], str]) -> None:
    server_urls("keyring")
    address = f"unix:abstract=keyvalue-tests-{free_port()}"
    with keyring.private_bus(address), BlockingKeyValue(KeyringStore(backend=SecretService.Keyring())) as kv:
        keyring.session_bus(address)
        for turn in range(4):
            with keyring.daemon(address, str(tmp_path)):
                assert kv.get("k") == (None if turn == 0 else {"turn": turn - 1})
                kv.put("k", {"turn": turn})
            if turn % 2:  # otherwise nothing is heard of it: the connection to the bus still stands
                with pytest.raises(StoreConnectionError):
                    kv.get("k")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(url: str) -> None:
    kv = KeyringStore()

    async def use(turn: int) -> None:
        for number in range(20):
            await kv.put(f"{turn}-{number}", {"n": number})
            assert await kv.get(f"{turn}-{number}") == {"n": number}

    facade = BlockingKeyValue(kv)
    facade.put("k", {"a": 1})
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage ends with os._exit
        signal.alarm(30)
        try:
            drive(use(1))
        except BaseException:  # noqa: BLE001 # whatever it is, the parent is to see it
            os._exit(1)
        os._exit(0)
    for number in range(20):
        facade.put(f"0-{number}", {"n": number})
        assert facade.get(f"0-{number}") == {"n": number}
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert facade.get_many([f"1-{number}" for number in range(20)]) == [{"n": number} for number in range(20)]
    facade.close()


def test_importing_changes_nothing_about_what_keyring_chooses() -> None:
    assert not [kind for kind in KeyringBackend._classes if kind.__module__.startswith("keyvalue")]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType, reportPrivateUsage] # nothing else tells
