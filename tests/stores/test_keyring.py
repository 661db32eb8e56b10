"""What is KeyringStore's own: names, its errors, the chain, Windows, one call at a time, the connection that it keeps."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
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
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, StoreConnectionError, StoreRefusedError, ValueTooLargeError
from keyvalue.stores import _keyring
from keyvalue.stores.keyring import KeyringStore, KeyringV1CollectionSanitizationStrategy, KeyringV1KeySanitizationStrategy
from keyvalue.testing import Clock
from tests.fake_keyrings import (
    LAST,
    PATIENCE,
    FakeCaseIgnoringKeyring,
    FakeChain,
    FakeKeyring,
    FakeReadOnlyKeyring,
    FakeWindowsError,
    FakeWinVaultKeyring,
)
from tests.interpreter import forks, returns_true_in_a_fork
from tests.proxy import proxied
from tests.runtimes import Runtime
from tests.servers import free_port, keyring
from tests.stores.test_backends import calls_on
from tests.stores.test_properties import World, check, entering

SERVICE = "py-key-value"
STRATEGIES: Any = {
    "key_sanitization_strategy": KeyringV1KeySanitizationStrategy(),
    "collection_sanitization_strategy": KeyringV1CollectionSanitizationStrategy(),
}

pytestmark = pytest.mark.runtimes("asyncio")  # all goes through one thread: what happens there is the same on all


@pytest.fixture
def url(empty_server: Callable[[str], str]) -> str:
    return empty_server("keyring")


@pytest.fixture
def over(runtime: Runtime) -> Callable[..., Any]:
    """Make a store over a backend, for the runtime of the test."""
    return lambda backend, **options: runtime.adapt(KeyringStore(backend=backend, **options))


@pytest.fixture
def keeping_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have FakeKeyring known for a backend that keeps case, as those of the systems are: the store then makes fewer calls."""
    monkeypatch.setattr(_keyring, "_KEEPING_CASE", (*_keyring._KEEPING_CASE, FakeKeyring))  # pyright: ignore[reportPrivateUsage]


async def assert_raised_by_all(
    kv: Any, error: type[Exception], match: str, cause: Exception | None = None, besides: str | tuple[str, ...] = ()
) -> None:
    for operation, call in calls_on(kv).items():
        if not operation.startswith(besides):
            with pytest.raises(error, match=match) as caught:
                await call()
            assert caught.value.extra_info == {"operation": operation}  # pyright: ignore[reportAttributeAccessIssue] # all of the library have it
            assert caught.value.__cause__ is cause if cause else caught.value.__cause__ is not None


# The format


async def test_the_password_is_the_document(url: str) -> None:
    async with KeyringStore(service_name="app", default_collection="mine") as kv:
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


async def test_names(url: str) -> None:
    names = {
        ("c", "k"): "c::k",
        ("c", "é 😀\n/"): "c::é 😀\n/",
        ("c", "x" * 5000): "c::" + "x" * 5000,
        ("a::b", "c"): "a~1~1b~:c",
        ("c", "k\0"): digest("1:c:k\0"),
        ("a::\0", "k"): digest("4:a::\0:k"),
    }
    async with KeyringStore() as kv:
        for (collection, key), name in names.items():
            await kv.put(key, {"a": 1}, collection=collection)
            assert keyring.names(url) == {name}
            assert await kv.get(key, collection=collection) == {"a": 1}
            assert await kv.delete(key, collection=collection) is True
            assert keyring.names(url) == set()


async def test_names_of_strategies(over: Callable[..., Any]) -> None:
    backend = FakeKeyring()
    kv = over(backend, **STRATEGIES)
    await kv.put("k", {"n": 1}, collection="c")
    await kv.put("x/y", {"n": 2}, collection="my app")
    assert [name for _, name in backend.passwords] == ["c::k", "S_my_app-cccdfa68::S_x_y-bd3c9047"]
    await kv.put("a" * 300, {"n": 3})
    assert list(backend.passwords)[2:] == [(SERVICE, "default_collection::S_" + "a" * 254)]


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


@pytest.mark.parametrize("given", [False, True])
async def test_a_backend_that_keeps_nothing_is_none(given: bool, over: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in (null.Keyring(), fail.Keyring(), FakeChain(), FakeChain(fail.Keyring(), null.Keyring())):
        monkeypatch.setattr(keyring_module.core, "_keyring_backend", backend)
        kv = over(backend if given else None)
        advice = "no keyring that keeps anything. Start a Secret Service.*or choose another backend"
        await assert_raised_by_all(kv, StoreConnectionError, advice)
        with pytest.raises(StoreConnectionError):
            await kv.setup()
        if not given:  # and then somebody chooses another one
            keyring_module.set_keyring(FakeKeyring())
            await kv.put("k", {"a": 1})
            assert await kv.get("k") == {"a": 1}


async def test_a_given_backend_is_used_where_the_configured_one_is_not_there(
    over: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
    for name in ("no.such.module.Keyring", "keyring.backends.null.NoSuchClass", "keyring.backends.SecretService.Keyring"):
        monkeypatch.setattr(keyring_module.core, "_keyring_backend", None)
        monkeypatch.setenv("PYTHON_KEYRING_BACKEND", name)
        backend = FakeKeyring()
        await over(backend).put("k", {})
        assert list(backend.passwords) == [(SERVICE, "default_collection::k")]
        await assert_raised_by_all(over(None), StoreConnectionError, "could not be opened.*is the configured backend")


async def test_no_bus_or_one_without_the_service(url: str, over: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    kv = over(SecretService.Keyring())
    for address in ("unix:path=/nonexistent", "nonsense", None):
        if address is None:
            monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
        else:
            monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        await assert_raised_by_all(kv, StoreConnectionError, "is it running, and is DBUS_SESSION_BUS_ADDRESS right")
    address = f"unix:abstract=keyvalue-tests-{free_port()}"
    with keyring.private_bus(address):
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        await assert_raised_by_all(kv, StoreConnectionError, "is its service running")


async def test_a_locked_keyring_is_not_an_empty_one(url: str, over: Callable[..., Any]) -> None:
    kv, late = over(None), over(None)
    await kv.put("k", {"a": 1})
    assert await kv.get_many(["k", "missing"]) == [{"a": 1}, None]
    keyring.lock(url)
    try:
        for store in (kv, late):
            with pytest.raises(StoreConnectionError):  # first of all: no call has failed yet on the connection
                await store.get("missing")
            await assert_raised_by_all(store, StoreConnectionError, "the keyring is locked.*unlock it and try again")
    finally:
        keyring.unlock(url)
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


async def test_errors_say_what_to_do(over: Callable[..., Any]) -> None:
    for error, expected, text in ERRORS:
        backend = FakeKeyring()
        kv = over(backend)
        await kv.put("k", {"a": 1})
        backend.error = error
        # With that one a backend says that it can't be written to.
        await assert_raised_by_all(kv, expected, text, error, besides="put" if isinstance(error, NotImplementedError) else ())
        backend.error = None
        assert await kv.get("k") == {"a": 1}


@pytest.mark.usefixtures("keeping_case")
async def test_a_delete_of_another_process_is_a_miss_and_one_that_is_refused_is_none(over: Callable[..., Any]) -> None:
    backend: Any = FakeKeyring()
    kv = over(backend)

    def read(service: str, username: str) -> None:
        del backend.get_password  # that once
        backend.passwords.clear()
        raise secretstorage_errors.ItemNotFoundException("between the search and the read")

    def delete(service: str, username: str) -> None:
        backend.passwords.clear()
        FakeKeyring.delete_password(backend, service, username)

    def refuse(service: str, username: str) -> None:
        raise keyring_errors.PasswordDeleteError("cancelled by the user")

    await kv.put("k", {})
    backend.get_password = read
    assert await kv.get("k") is None
    assert "get_password" not in vars(backend)
    await kv.put("k", {})
    backend.delete_password = delete
    assert await kv.delete("k") is False
    assert await kv.get("k") is None
    await kv.put("k", {})
    backend.delete_password = refuse
    with pytest.raises(StoreRefusedError):
        await kv.delete("k")


# Chains


async def test_a_chain(over: Callable[..., Any]) -> None:
    index, first, second = FakeReadOnlyKeyring(), FakeKeyring(), FakeKeyring()
    kv = over(FakeChain(index, null.Keyring(), first, second))
    second.passwords[SERVICE, "c::old"] = '{"value": {"of": "second"}}'
    await kv.put("k", {"a": 1}, collection="c")
    assert await kv.get_many(["old", "k"], collection="c") == [{"of": "second"}, {"a": 1}]
    assert list(first.passwords) == [(SERVICE, "c::k")]
    assert await kv.delete("old", collection="c") is True
    assert await kv.get("old", collection="c") is None
    second.passwords[SERVICE, "c::k"] = '{"value": {"hidden": true}}'
    assert await kv.delete("k", collection="c") is True
    assert await kv.get("k", collection="c") is None


async def test_a_keyring_for_reading_only(over: Callable[..., Any]) -> None:
    index, other = FakeReadOnlyKeyring(), FakeKeyring()
    index.passwords[SERVICE, "default_collection::k"] = '{"value": {"old": 1}}'
    kv = over(index)
    assert await kv.get("k") == {"old": 1}
    for _ in range(2):
        with pytest.raises(StoreRefusedError, match="refused") as caught:
            await kv.put("k", {})
        assert "reading only" in str(caught.value.__cause__)
    with pytest.raises(StoreRefusedError, match="can't do that"):
        await kv.delete("k")
    kv = over(FakeChain(index, other))
    for _ in range(2):
        with pytest.raises(StoreRefusedError, match="pass the keyring to use as backend="):  # it would not be read
            await kv.put("k", {"new": 1})
        assert await kv.get("k") == {"old": 1}
        await kv.put("l", {})
    assert list(other.passwords) == [(SERVICE, "default_collection::l")]
    with pytest.raises(StoreRefusedError, match="can't do that"):
        await kv.delete("k")
    assert await kv.get("k") == {"old": 1}
    kv = over(FakeChain(other, index))
    await kv.put("k", {"new": 1})
    with pytest.raises(StoreRefusedError, match="can't do that"):
        await kv.delete("k")
    assert await kv.get("k") == {"new": 1}


async def test_a_third_partys_backend_may_ignore_case(over: Callable[..., Any]) -> None:
    backend = FakeCaseIgnoringKeyring()
    kv = over(backend)
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
async def test_what_windows_would_refuse_is_not_sent(chain: Any, over: Callable[..., Any], clock: Clock) -> None:
    clock.freeze()
    windows = FakeWinVaultKeyring()
    kv = over(windows if chain is None else chain(windows))
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


async def test_names_that_differ_in_case_only_never_meet_on_windows(over: Callable[..., Any]) -> None:
    windows = FakeWinVaultKeyring()
    kv = over(windows)
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


async def test_what_windows_holds_that_is_no_text(over: Callable[..., Any]) -> None:
    windows = FakeWinVaultKeyring()
    kv = over(windows)
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


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "options"), [(FakeWinVaultKeyring, {}), (FakeKeyring, STRATEGIES), (FakeWinVaultKeyring, STRATEGIES)])
def test_any_calls_in_any_order(kind: type[KeyringBackend], options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, moment = [kind()], [0.0]
    monkeypatch.setattr("keyvalue._core.clock.now", lambda: moment[0])
    monkeypatch.setattr(_keyring, "_LIMITS", {})
    monkeypatch.setattr(FakeWinVaultKeyring, "largest", 2**30)

    def make(*_: object, **__: object) -> KeyringStore:
        return KeyringStore(backend=backend[0], **options)

    def set_clock(now: float) -> None:
        moment[0] = now

    with entering("direct") as enter:
        check(World("keyring", make, enter, lambda: backend.insert(0, kind()), tmp_path, set_clock))


# One call at a time, in a thread


@contextmanager
def cancelled() -> Generator[None, None, None]:
    """Cancel a call that is under way, and see that it returns."""
    with anyio.move_on_after(0.1) as scope:
        yield
    assert scope.cancelled_caught


async def test_a_cancelled_call_returns_at_once_and_the_next_one_queues(over: Callable[..., Any]) -> None:
    backend = FakeKeyring()
    kv = over(backend)
    await kv.put_many(["k", "l"], [{"n": 0}, {"n": 0}])
    read: list[object] = []

    async def get_another() -> None:
        read.append(await kv.get("l"))

    for call in (partial(kv.get, "k"), partial(kv.put, "k", {"n": 1}), partial(kv.delete, "k")):
        async with anyio.create_task_group() as group:
            with backend.holding():
                with cancelled():
                    await call()
                assert backend.at_once == 1
                group.start_soon(get_another)
                await anyio.sleep(0.05)
                assert read == []
        assert read.pop() == {"n": 0}
        await kv.put("k", {"n": 2})
        assert await kv.get("k") == {"n": 2}
    assert backend.most_at_once == 1


@pytest.mark.usefixtures("keeping_case")
async def test_nothing_abandoned_lands_after_a_later_call_has_returned(over: Callable[..., Any]) -> None:
    backend = FakeKeyring()
    kv = over(backend)
    keys = [f"k{number}" for number in range(20)]
    with backend.holding(after=3), cancelled():
        await kv.put_many(keys, [{"n": "abandoned"}] * 20)
    await kv.put("other", {})
    landed = [f"default_collection::{key}" for key in (*keys[:4], "other")]
    assert [name for _, name in backend.passwords] == landed, "what had not begun is not done at all"
    await kv.delete(keys[0])
    await anyio.sleep(0.1)
    assert [name for _, name in backend.passwords] == landed[1:]


def test_the_facade_makes_one_call_at_a_time_in_the_callers_threads() -> None:
    backend = FakeKeyring()
    backend.delay = 0.005

    def get(_: object) -> int:
        assert kv.get("k") is None
        return threading.get_ident()

    with BlockingKeyValue(KeyringStore(backend=backend)) as kv, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(get, range(24))) == backend.threads
    assert len(backend.threads) > 1
    assert backend.most_at_once == 1


async def test_names_that_meet_at_the_same_moment_part(over: Callable[..., Any]) -> None:
    keys = ["x" * 300, "x" * 300 + "y"]
    values = [{"of": key} for key in keys]
    for count in (1, 2):
        backend = FakeKeyring()
        backend.delay = 0.002
        stores = [over(backend, key_sanitization_strategy=KeyringV1KeySanitizationStrategy()) for _ in range(count)]
        for _ in range(5):
            async with anyio.create_task_group() as group:
                for store, key, value in zip(stores * 2, keys, values, strict=False):
                    group.start_soon(store.put, key, value)
            assert await stores[0].get_many(keys) == values
            assert await stores[-1].delete_many(keys) == 2


async def test_stores_over_backends_of_one_class_take_turns(over: Callable[..., Any]) -> None:
    async def put_all(keyring: FakeKeyring) -> None:
        async with anyio.create_task_group() as group:
            for name in ("one", "two", "three"):
                store = over(keyring, service_name=name)
                for number in range(5):
                    group.start_soon(store.put, f"k{number}", {})
        assert len(keyring.passwords) == 15

    backend = FakeKeyring()
    backend.delay = 0.002
    await put_all(backend)
    assert backend.most_at_once == 1
    async with anyio.create_task_group() as group:
        with backend.holding():
            group.start_soon(over(backend).get, "k")
            await anyio.to_thread.run_sync(backend.is_held.wait, PATIENCE)
            await put_all(FakeCaseIgnoringKeyring())
            assert backend.at_once == 1, "a backend of another class must not wait"


@pytest.mark.parametrize("arguments", [("get", "k"), ("put", "k", {})])
async def test_cancelling_the_wait_for_closing_returns_at_once(arguments: Any) -> None:
    backend = FakeKeyring()
    kv = KeyringStore(backend=backend)
    await kv.setup()
    with backend.holding():
        with cancelled():
            await getattr(kv, arguments[0])(*arguments[1:])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(kv.close(), 0.1)  # which cancels once, where a scope of anyio goes on cancelling
        assert backend.at_once == 1
    await kv.close()
    assert backend.at_once == 0


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_service_that_hangs(url: str, loop: str) -> None:
    async def main() -> None:
        async with KeyringStore() as kv:
            await kv.put("k", {"a": 1})
            with proxy.hanging(), cancelled():  # to its end, the call would take for ever
                await kv.get("k")
            assert await kv.get("k") == {"a": 1}
            await kv.put("k", {"a": 2})
            assert await kv.get("k") == {"a": 2}

    with proxied(url) as proxy:
        keyring.session_bus(proxy.url)
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


def test_another_daemon_takes_over(url: str, tmp_path: Path) -> None:
    address = f"unix:abstract=keyvalue-tests-{free_port()}"
    with keyring.private_bus(address), BlockingKeyValue(KeyringStore(backend=SecretService.Keyring())) as kv:
        keyring.session_bus(address)
        for turn in range(3):
            with keyring.daemon(address, str(tmp_path)):
                assert kv.get("k") == (None if turn == 0 else {"turn": turn - 1})
                kv.put("k", {"turn": turn})
            if turn:  # otherwise nothing is heard of it: the connection to the bus still stands
                with pytest.raises(StoreConnectionError):
                    kv.get("k")


@forks
def test_a_forked_child_has_a_connection_of_its_own(url: str) -> None:
    store = KeyringStore()
    with proxied(url) as proxy, BlockingKeyValue(store) as kv:
        keyring.session_bus(proxy.url)
        kv.put("k", {"a": 1})
        assert proxy.accepted == 1
        assert returns_true_in_a_fork(lambda: BlockingKeyValue(store).get("k") == {"a": 1})
        assert kv.get("k") == {"a": 1}
        assert proxy.accepted == 2


def test_importing_changes_nothing_about_what_keyring_chooses() -> None:
    assert not [kind for kind in KeyringBackend._classes if kind.__module__.startswith("keyvalue")]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType, reportPrivateUsage] # nothing else tells
