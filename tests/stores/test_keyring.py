"""What is KeyringStore's own: names, its errors, the chain, Windows, one call at a time, the connection that it keeps."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

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
from keyvalue._core.layout import digest
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, StoreConnectionError, StoreRefusedError, ValueTooLargeError
from keyvalue.stores._drivers import keyring as driver
from keyvalue.stores.keyring import KeyringStore, KeyringV1CollectionSanitizationStrategy, KeyringV1KeySanitizationStrategy
from keyvalue.testing import Clock
from keyvalue.testing._runtime import RUNTIMES
from keyvalue.testing._suite import at_once
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
from tests.proxy import Proxy
from tests.runtimes import Runtime
from tests.servers import free_port, keyring
from tests.stores import test_backends
from tests.stores.hooks import Hooks, assert_raised, hooks_of
from tests.stores.test_properties import World, check, enter_runtime

SERVICE = "py-key-value"
STRATEGIES: Any = {
    "key_sanitization_strategy": KeyringV1KeySanitizationStrategy(),
    "collection_sanitization_strategy": KeyringV1CollectionSanitizationStrategy(),
}

# All goes through one thread: what happens there is the same on all runtimes.
pytestmark = [pytest.mark.backends("keyring"), pytest.mark.runtimes("asyncio")]


@pytest.fixture
def over(runtime: Runtime) -> Callable[..., Any]:
    """Make a store over a backend, for the runtime of the test."""
    return lambda backend, **options: runtime.adapt(KeyringStore(backend=backend, **options))


@pytest.fixture
def keeping_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have FakeKeyring known for a backend that keeps case, as those of the systems are: the store then makes fewer calls."""
    monkeypatch.setattr(driver, "_KEEPING_CASE", (*driver._KEEPING_CASE, FakeKeyring))  # pyright: ignore[reportPrivateUsage]


assert_raised_by_all = partial(test_backends.assert_raised_by_all, url="", causes=Exception)


# The format


async def test_the_password_is_the_document(url: str) -> None:
    async with KeyringStore(service_name="app", default_collection="mine") as kv:
        await kv.put("k", {"é": 1}, ttl=60)
    ((user, text),) = hooks_of("keyring").contents(url).items()
    assert user == ("app", "mine::k")
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


async def test_deleting_an_expired_entry_removes_its_secret(url: str, clock: Clock) -> None:
    async with KeyringStore() as kv:
        await kv.put_many(["k", "l"], [{}, {}], ttl=5)
        clock.advance(5)
        assert (await kv.delete("k"), await kv.delete_many(["l"])) == (False, 0)
        assert keyring.names(url) == set()


# Backends


@pytest.mark.parametrize("given", [False, True])
async def test_a_backend_that_keeps_nothing_is_none(given: bool, over: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in (null.Keyring(), fail.Keyring(), FakeChain(), FakeChain(fail.Keyring(), null.Keyring())):
        monkeypatch.setattr(keyring_module.core, "_keyring_backend", backend)
        kv = over(backend if given else None)
        advice = "no keyring that keeps anything. Start a Secret Service.*or choose another backend"
        await assert_raised_by_all(kv, error=StoreConnectionError, message=advice)
        await assert_raised(StoreConnectionError, advice, kv.setup)
        if not given:  # and then somebody chooses another one
            keyring_module.set_keyring(FakeKeyring())
            await kv.put("k", {"a": 1})
            assert await kv.get("k") == {"a": 1}


async def test_a_given_backend_is_used_where_the_configured_one_is_not_there(
    over: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no.such.module.Keyring", "keyring.backends.null.NoSuchClass", "keyring.backends.SecretService.Keyring"):
        monkeypatch.setattr(keyring_module.core, "_keyring_backend", None)
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
        monkeypatch.setenv("PYTHON_KEYRING_BACKEND", name)
        backend = FakeKeyring()
        await over(backend).put("k", {})
        assert backend.users == {"default_collection::k"}
        await assert_raised_by_all(over(None), error=StoreConnectionError, message="could not be opened.*is the configured backend")


async def test_no_bus_or_one_without_the_service(url: str, over: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    kv = over(SecretService.Keyring())
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "nonsense")
    await assert_raised_by_all(kv, error=StoreConnectionError, message="is it running, and is DBUS_SESSION_BUS_ADDRESS right")
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    await assert_raised_by_all(kv, error=StoreConnectionError, message="is it running, and is DBUS_SESSION_BUS_ADDRESS right")
    address = f"unix:abstract=keyvalue-tests-{free_port()}"
    with keyring.private_bus(address):
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        await assert_raised_by_all(kv, error=StoreConnectionError, message="is its service running")


async def test_a_locked_keyring_is_not_an_empty_one(url: str, over: Callable[..., Any]) -> None:
    kv, late = over(None), over(None)
    await kv.put("k", {"a": 1})
    assert await kv.get_many(["k", "missing"]) == [{"a": 1}, None]
    keyring.lock(url)
    try:
        for store in (kv, late):
            locked = "the keyring is locked.*unlock it and try again"
            await assert_raised(StoreConnectionError, locked, lambda store=store: store.get("missing"))  # the first one to fail
            await assert_raised_by_all(store, error=StoreConnectionError, message=locked)
    finally:
        keyring.unlock(url)
    for store in (kv, late):
        assert await store.get_many(["k", "l"]) == [{"a": 1}, None]


def dbus_error(name: str) -> Exception:
    call = new_method_call(message_bus, "Hello")
    call.header.serial = 1
    return DBusErrorResponse(new_error(call, name, "s", ("text",)))


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
    (type("DBusException", (Exception,), {})("x"), CONNECTION, "is it running"),  # dbus-python's
    (FakeWindowsError(1312, "CredRead", "x"), CONNECTION, "user who is logged on"),
    (FakeWindowsError(5, "CredRead", "x"), REFUSED, "failed"),
    (PermissionError("x"), REFUSED, "may not use the keyring's files"),
    (TimeoutError("x"), CONNECTION, "is it running"),
]


async def test_errors_say_what_to_do(over: Callable[..., Any]) -> None:
    for error, expected, text in ERRORS:
        backend = FakeKeyring(error)
        kv = over(backend)
        raised = await assert_raised_by_all(kv, error=expected, message=text)
        assert {id(one.__cause__) for one in raised} == {id(error)}
        backend.error = None
        await kv.put("k", {"a": 1})
        assert await kv.get("k") == {"a": 1}


@pytest.mark.usefixtures("keeping_case")
async def test_a_delete_of_another_process_is_a_miss_and_one_that_is_refused_is_none(over: Callable[..., Any]) -> None:
    backend: Any = FakeKeyring()
    kv = over(backend)

    def read(*user: str) -> str | None:
        if vars(backend).pop("get_password", None) is None:  # that once
            return FakeKeyring.get_password(backend, *user)
        backend.passwords.clear()
        raise secretstorage_errors.ItemNotFoundException("between the search and the read")

    def delete(*user: str) -> None:
        backend.passwords.clear()
        FakeKeyring.delete_password(backend, *user)

    await kv.put("k", {})
    backend.get_password = read
    assert await kv.get("k") is None
    assert "get_password" not in vars(backend)
    await kv.put("k", {})
    backend.delete_password = delete
    assert await kv.delete("k") is False
    assert await kv.get("k") is None
    await kv.put("k", {})
    backend.delete_password = Mock(side_effect=keyring_errors.PasswordDeleteError("cancelled by the user"))
    await assert_raised(StoreRefusedError, "", lambda: kv.delete("k"))


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
    for error in await assert_raised(StoreRefusedError, "for reading only; pass one", *[lambda: kv.put("k", {})] * 2):
        assert "reading only" in str(error.__cause__)
    await assert_raised(StoreRefusedError, "can't do that", lambda: kv.delete("k"))
    chain = over(FakeChain(index, other))
    for _ in range(2):  # it would not be read
        await assert_raised(StoreRefusedError, "pass the keyring to use as backend=", lambda: chain.put("k", {"new": 1}))
        assert await chain.get("k") == {"old": 1}
        await chain.put("l", {})
    assert other.users == {"default_collection::l"}
    await assert_raised(StoreRefusedError, "can't do that", lambda: chain.delete("k"))
    assert await chain.get("k") == {"old": 1}
    turned = over(FakeChain(other, index))
    await turned.put("k", {"new": 1})
    await assert_raised(StoreRefusedError, "can't do that", lambda: turned.delete("k"))
    assert await turned.get("k") == {"new": 1}


# Windows


def make_fitting(characters: int) -> dict[str, Any]:
    """Return a value whose document has so many characters."""
    document = Entry("default_collection", "k", None, b'{"v":""}', time.time()).document().decode()
    return {"v": "x" * (characters - len(document))}


@pytest.mark.parametrize("chain", [lambda windows: windows, FakeChain, lambda windows: FakeChain(FakeReadOnlyKeyring(), windows)])
async def test_what_windows_would_refuse_is_not_sent(
    chain: Callable[[Any], Any], over: Callable[..., Any], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.freeze()
    windows = FakeWinVaultKeyring()
    kv = over(chain(windows))
    await kv.put("k", make_fitting(1280))
    before = dict(windows.vault)
    large = [
        partial(kv.put, "k", make_fitting(1281)),
        partial(kv.put_many, ["other", "k"], [{}, make_fitting(1281)]),
        partial(kv.put, "k", {"v": "😀" * 700}),
    ]
    for error in await assert_raised(ValueTooLargeError, "larger", *large):
        assert error.extra_info["size"] > error.extra_info["max_size"] == 2560
        assert (error.extra_info["collection"], error.extra_info["key"]) == ("default_collection", "k")
    assert windows.vault == before
    assert await kv.get("k") == make_fitting(1280)
    await kv.put("k", {"v": "é" * 1000})  # it is characters that count
    monkeypatch.setattr(driver, "_LIMITS", {})
    (error,) = await assert_raised(StoreRefusedError, "failed", large[0])  # by the fake, which has the same limit
    assert isinstance(error.__cause__, FakeWindowsError)


@pytest.mark.usefixtures("keeping_case")
async def test_the_backend_that_is_written_to_decides_on_the_limit(over: Callable[..., Any]) -> None:
    first, windows = FakeKeyring(), FakeWinVaultKeyring()
    kv, reading = over(FakeChain(first, windows)), over(FakeChain(FakeReadOnlyKeyring(), windows))
    for _ in range(2):  # until something is written, nobody knows where it will be
        await assert_raised(ValueTooLargeError, "larger", lambda: kv.put_many(["other", "k"], [{}, make_fitting(5000)]))
        assert not first.passwords
    await kv.put("other", {})
    await kv.put("k", make_fitting(5000))
    assert await kv.get("k") == make_fitting(5000)
    await assert_raised(ValueTooLargeError, "larger", lambda: reading.put_many(["other", "k"], [{}, make_fitting(5000)]))
    assert windows.vault == {}


async def test_what_the_secret_service_would_refuse_is_not_sent(url: str, over: Callable[..., Any]) -> None:
    kv = over(None)
    await kv.put("k", {"a": 1})
    (error,) = await assert_raised(ValueTooLargeError, "larger", lambda: kv.put("k", {"v": "x" * 2**26}))
    assert error.extra_info["max_size"] == 2**26 - 1
    assert await kv.get("k") == {"a": 1}


@pytest.mark.parametrize("kind", [FakeWinVaultKeyring, FakeCaseIgnoringKeyring])
async def test_names_that_differ_in_case_only_never_meet(kind: type[Any], over: Callable[..., Any]) -> None:
    backend = kind()
    kv = over(backend)
    names = ["foo", "FOO", "Foo", "é", "É", "x" * 600, "nul\0", "other"]
    for turn in range(3):
        for collection in ("c", "C"):
            for name in names[turn:] + names[:turn]:
                await kv.put(name, {"of": [turn, collection, names.index(name)]}, collection=collection)
        for collection in ("c", "C"):
            assert await kv.get_many(names, collection=collection) == [{"of": [turn, collection, number]} for number in range(len(names))]
    plain = {"c::foo", "c::é", "c::other"}  # those that came first lie where they always did
    assert {user for user in backend.users if "::" in user} == (plain if kind is FakeWinVaultKeyring else {*plain, "c::" + "x" * 600})
    assert await kv.delete_many(names, collection="c") == len(names)
    assert await kv.get_many(names, collection="c") == [None] * len(names)
    assert await kv.get_many(names, collection="C") == [{"of": [2, "C", number]} for number in range(len(names))]
    assert await kv.delete_many(names, collection="C") == len(names)
    assert backend.users == set()


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
            await assert_raised(DeserializationError, "", lambda: kv.get("l"))
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


async def test_a_name_that_differs_in_case_harms_no_row_that_was_put_over_an_expired_one(runtime: Runtime, clock: Clock) -> None:
    """Windows keeps a copy of the row that was there before, and finds it under the other spelling."""
    kv = runtime.adapt(KeyringStore(backend=FakeWinVaultKeyring()))
    await kv.put("k", {}, ttl=1)
    clock.advance(2)
    await kv.put("k", {"n": 1})
    await kv.put("K", {"n": 2})
    assert await kv.get_many(["k", "K"]) == [{"n": 1}, {"n": 2}]
    assert await kv.delete("k")
    assert await kv.get_many(["k", "K"]) == [None, {"n": 2}]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "options"), [(FakeWinVaultKeyring, {}), (FakeKeyring, STRATEGIES), (FakeWinVaultKeyring, STRATEGIES)])
def test_any_calls_in_any_order(kind: type[KeyringBackend], options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, moment = [kind()], [0.0]
    monkeypatch.setattr("keyvalue._core.clock.now", lambda: moment[0])
    monkeypatch.setattr(driver, "_LIMITS", {})
    monkeypatch.setattr(FakeWinVaultKeyring, "largest", 2**30)

    def make(*_: object, **__: object) -> KeyringStore:
        return KeyringStore(backend=backend[0], **options)

    with enter_runtime("direct") as enter:
        check(World("keyring", make, enter, lambda: backend.insert(0, kind()), tmp_path, partial(moment.__setitem__, 0)))


# One call at a time, in a thread


@contextmanager
def cancel_soon() -> Generator[None, None, None]:
    """Cancel a call that is under way, and see that it returns."""
    with anyio.move_on_after(0.1) as scope:
        yield
    assert scope.cancelled_caught


@pytest.mark.usefixtures("keeping_case")
async def test_nothing_abandoned_lands_after_a_later_call_has_returned(over: Callable[..., Any]) -> None:
    backend = FakeKeyring()
    kv = over(backend)
    keys = [f"k{number}" for number in range(20)]
    with backend.holding(after=3), cancel_soon():
        await kv.put_many(keys, [{"n": "abandoned"}] * 20)
    await kv.put("other", {})
    landed = {f"default_collection::{key}" for key in (*keys[:4], "other")}
    assert backend.users == landed, "what had not begun is not done at all"
    await kv.delete(keys[0])
    await anyio.sleep(0.1)
    assert backend.users == landed - {"default_collection::k0"}


@pytest.mark.usefixtures("keeping_case")
@pytest.mark.runtimes("asyncio", "trio")
async def test_a_call_that_is_cancelled_before_its_turn_is_never_made(over: Callable[..., Any]) -> None:
    backend = FakeKeyring()
    kv = over(backend)
    await kv.setup()
    async with anyio.create_task_group() as group:
        with backend.holding():
            group.start_soon(kv.put, "k", {})
            await anyio.to_thread.run_sync(backend.is_held.wait, PATIENCE)
            with cancel_soon():
                await kv.put("l", {})
    await kv.close()  # which waits for what is under way
    assert backend.users == {"default_collection::k"}


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


def test_the_facade_makes_one_call_at_a_time() -> None:
    backend = FakeKeyring()
    backend.delay = 0.005
    with BlockingKeyValue(KeyringStore(backend=backend)) as kv, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: kv.get("k"), range(24))) == [None] * 24
    assert backend.most_at_once == 1


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


@pytest.mark.parametrize("call", [lambda kv: kv.get("k"), lambda kv: kv.put("k", {})])
async def test_cancelling_the_wait_for_closing_returns_at_once(call: Callable[[Any], Awaitable[object]]) -> None:
    backend = FakeKeyring()
    kv = KeyringStore(backend=backend)
    await kv.setup()
    with backend.holding():
        with cancel_soon():
            await call(kv)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(kv.close(), 0.1)  # which cancels once, where a scope of anyio goes on cancelling
        assert backend.at_once == 1
    await kv.close()
    assert backend.at_once == 0


@pytest.mark.runtimes(*RUNTIMES)
async def test_a_service_that_hangs_holds_up_the_call_and_nothing_else(hooks: Hooks, proxy: Proxy, runtime: Runtime) -> None:
    kv = runtime.adapt(hooks.store(proxy.url))
    await kv.put("k", {"a": 1})
    done: list[str] = []

    async def get() -> None:
        assert await kv.get("k") == {"a": 1}
        done.append("get")

    async def go_on() -> None:
        await runtime.sleep(0.2)
        done.append("sleep")
        stack.close()

    with ExitStack() as stack:
        stack.enter_context(proxy.hanging())
        if runtime.is_loop:
            with cancel_soon():
                await kv.get("k")
        await at_once(runtime, [get, go_on])
    assert done == ["sleep", "get"]


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
    (collection,) = made
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


def test_importing_changes_nothing_about_what_keyring_chooses() -> None:
    assert not [kind for kind in KeyringBackend._classes if kind.__module__.startswith("keyvalue")]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType, reportPrivateUsage] # nothing else tells
