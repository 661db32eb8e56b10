"""Mistakes with KeyringStore: the backend and its service, a locked keyring (the real Secret Service), and wrong arguments."""

# pyright: reportArgumentType=false, reportCallIssue=false
# Wrong arguments are what these tests are about.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from keyring import errors as keyring_errors
from keyring.backends import SecretService, fail, null

from keyvalue.errors import (
    DeserializationError,
    InvalidKeyError,
    StoreClosedError,
    StoreConnectionError,
    StoreRefusedError,
    ValueTooLargeError,
)
from keyvalue.stores.keyring import KeyringStore, KeyringV1KeySanitizationStrategy
from tests.fake_keyrings import FakeChain, FakeKeyring, FakeReadOnlyKeyring, FakeWindowsError, FakeWinVaultKeyring
from tests.makers import MAKERS
from tests.messages import Mistake, check
from tests.servers import keyring

pytestmark = pytest.mark.filterwarnings("ignore:KeyringStore:UserWarning")  # which say less than the errors do


def put(backend: Any, **options: Any) -> Any:
    return KeyringStore(backend=backend, **options).put("k", {"a": "secret-text"})


def put_failing(error: Exception) -> Any:
    return put(FakeKeyring(error))


def hidden() -> Any:
    index = FakeReadOnlyKeyring()
    index.passwords["py-key-value", "default_collection::k"] = '{"value": {"a": "secret-text"}}'
    return FakeChain(index, FakeKeyring())


def with_text(text: str) -> FakeKeyring:
    backend = FakeKeyring()
    backend.passwords["py-key-value", "default_collection::k"] = text
    return backend


async def use_closed() -> None:
    store = KeyringStore(backend=FakeKeyring())
    await store.close()
    await store.get("k")


NO_RIGHTS = PermissionError(13, "Permission denied", "/nowhere/keyring.cfg")
MISSING = ["no keyring that keeps anything", "Start a Secret Service", "choose another backend", "PYTHON_KEYRING_BACKEND"]
KEYRING = [
    Mistake("an empty service", lambda: KeyringStore(service_name=""), InvalidKeyError, ["service name is empty"]),
    Mistake("a service with NUL", lambda: KeyringStore(service_name="a\0b"), InvalidKeyError, ["service name holds NUL"]),
    Mistake("a service that is a number", lambda: KeyringStore(service_name=5), TypeError, ["service name must be a str, not an int"]),
    Mistake(
        "a backend that is a class",
        lambda: KeyringStore(backend=SecretService.Keyring),
        TypeError,
        ["instance of keyring.backend.KeyringBackend", "not the class Keyring"],
    ),
    Mistake(
        "a backend by its name", lambda: KeyringStore(backend="SecretService"), TypeError, ["instance of keyring.backend", "not a str"]
    ),
    Mistake("another argument", lambda: KeyringStore(service="app"), TypeError, ["'service'", "it takes by name: service_name"]),
    Mistake(
        "a strategy that is a class",
        lambda: KeyringStore(key_sanitization_strategy=KeyringV1KeySanitizationStrategy),
        TypeError,
        ["key_sanitization_strategy must be an object with a method sanitize"],
    ),
    Mistake("no keyring", lambda: put(fail.Keyring()), StoreConnectionError, MISSING, [], ["secret-text"]),
    Mistake("keyrings switched off", lambda: put(null.Keyring()), StoreConnectionError, MISSING, [], ["secret-text"]),
    Mistake("an empty chain", lambda: put(FakeChain()), StoreConnectionError, MISSING, [], ["secret-text"]),
    Mistake(
        "a keyring for reading only",
        lambda: put(FakeReadOnlyKeyring()),
        StoreRefusedError,
        ["for reading only; pass one that can be written to as backend="],
        ["locked", "running"],
        ["secret-text"],
    ),
    Mistake(
        "deleting from a keyring for reading only",
        lambda: KeyringStore(backend=hidden()).delete("k"),
        StoreRefusedError,
        ["can't do that", "reading only"],
        [],
        ["secret-text"],
    ),
    Mistake(
        "an entry that hides it", lambda: put(hidden()), StoreRefusedError, ["pass the keyring to use as backend="], [], ["secret-text"]
    ),
    Mistake(
        "locked",
        lambda: put_failing(keyring_errors.KeyringLocked("x")),
        StoreConnectionError,
        ["locked", "unlock it"],
        ["running"],
        ["secret-text"],
    ),
    Mistake(
        "a backend that is not there",
        lambda: put_failing(keyring_errors.InitError("x")),
        StoreConnectionError,
        ["is its service running, and is the configured backend there"],
        ["locked"],
    ),
    Mistake(
        "files of another user",
        lambda: put_failing(NO_RIGHTS),
        StoreRefusedError,
        ["this user", "may not use the file '/nowhere/keyring.cfg'", "change its permissions"],
        ["locked", "running", "whose"],
        ["secret-text"],
    ),
    Mistake(
        "nobody is logged on",
        lambda: put_failing(FakeWindowsError(1312, "CredWrite", "x")),
        StoreConnectionError,
        ["no credentials for this logon", "a user who is logged on"],
    ),
    Mistake(
        "too much for Windows",
        lambda: KeyringStore(backend=FakeWinVaultKeyring()).put("k", {"a": "secret-text" * 200}),
        ValueTooLargeError,
        ["larger than the backend takes", "max_size: 2560", "key: k"],
        [],
        ["secret-text"],
    ),
    Mistake(
        "a password that is no document",
        lambda: KeyringStore(backend=with_text("secret-text")).get("k"),
        DeserializationError,
        ["can't be read", "Delete or overwrite", "key: k"],
        [],
        ["secret-text"],
    ),
    Mistake("a closed store", use_closed, StoreClosedError, ["KeyringStore is closed; make a new one"]),
]


@pytest.mark.parametrize("mistake", KEYRING, ids=lambda mistake: mistake.name)
def test_keyring(mistake: Mistake) -> None:
    check(mistake)


SERVICE = [
    Mistake(
        "locked, and nobody to ask",
        lambda kv: kv.get("k"),
        StoreConnectionError,
        ["locked", "unlock it and try again"],
        ["running", "missing"],
    ),
    Mistake(
        "locked, on putting", lambda kv: kv.put("k", {"a": "secret-text"}), StoreConnectionError, ["locked"], ["running"], ["secret-text"]
    ),
]


@pytest.mark.parametrize("mistake", SERVICE, ids=lambda mistake: mistake.name)
def test_a_locked_secret_service(mistake: Mistake, server_urls: Callable[[str], str], tmp_path: Any) -> None:
    url = server_urls("keyring")
    store = MAKERS["keyring"](tmp_path, url)
    keyring.lock(url)
    try:
        check(mistake, store)
    finally:
        keyring.unlock(url)


@pytest.mark.parametrize("address", ["nonsense", "unix:path=/nonexistent"])
def test_no_secret_service(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    says = ["is it running", "DBUS_SESSION_BUS_ADDRESS"]
    check(Mistake(f"no bus at {address}", lambda: put(SecretService.Keyring()), StoreConnectionError, says, ["locked"], ["secret-text"]))
