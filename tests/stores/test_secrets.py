"""Whatever goes wrong in a store for secrets, none gets out: not in a log record, an error, its causes, a traceback or a repr.

To add a store, add its faults to `FAULTS`.
"""

from __future__ import annotations

import base64
import json
import logging
import math
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from keyring import errors as keyring_errors
from keyring.backend import KeyringBackend
from keyring.backends import fail, null

from keyvalue.blocking import BlockingKeyValue
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.keyring import KeyringStore
from keyvalue.wrappers.logging import LoggingWrapper
from tests.fake_keyrings import FakeKeyring, FakeWindowsError, FakeWinVaultKeyring
from tests.runtimes import Runtime
from tests.said import everything_said
from tests.servers import Running, free_port, keyring

SECRET = "hunter2-é-0123456789"  # what the tests look for
VALUE = {"secret": SECRET}


class Place(NamedTuple):
    """What a fault is made of.

    Attributes:
        url: Returns the URL of an empty server, or skips the test.
        directory: A directory of the test's own.
    """

    url: Callable[[str], str]
    directory: Path


Fault = Callable[[Place], AbstractContextManager[AsyncKeyValue]]
"""Yields a store whose calls fail, over a backend where the key "k" of the default collection held VALUE, if it could."""


# The keyring


def _put(store: KeyringStore) -> None:
    with BlockingKeyValue(store) as kv:
        kv.put("k", VALUE)


@contextmanager
def _secret_service(place: Place) -> Generator[Running, None, None]:
    place.url("keyring")  # or skip
    assert keyring.KEYRING.private is not None
    with keyring.KEYRING.private(free_port(), str(place.directory)) as running:
        keyring.session_bus(running.url)
        _put(KeyringStore())
        yield running


@contextmanager
def _locked(place: Place) -> Generator[AsyncKeyValue, None, None]:
    with _secret_service(place) as running:
        keyring.lock(running.url)
        yield KeyringStore()


@contextmanager
def _stopped(place: Place) -> Generator[AsyncKeyValue, None, None]:
    with _secret_service(place):
        pass
    yield KeyringStore()


def _damaged(secret: bytes) -> Fault:
    @contextmanager
    def fault(place: Place) -> Generator[AsyncKeyValue, None, None]:
        url = place.url("keyring")
        keyring.plant(url, "default_collection::k", secret)
        yield KeyringStore()

    return fault


def _on(make: Callable[[], KeyringBackend], error: Exception | None = None) -> Fault:
    @contextmanager
    def fault(_: Place) -> Generator[AsyncKeyValue, None, None]:
        backend = make()
        if isinstance(backend, FakeKeyring):
            _put(KeyringStore(backend=backend))
            backend.error = error
        yield KeyringStore(backend=backend)

    return fault


KEYRING: Mapping[str, Fault] = {
    "locked": _locked,
    "stopped": _stopped,
    "null": _on(null.Keyring),
    "fail": _on(fail.Keyring),
    **{
        type(error).__name__: _on(FakeKeyring, error)
        for error in (
            keyring_errors.KeyringLocked("text"),
            keyring_errors.InitError("text"),
            keyring_errors.PasswordSetError("text"),
            keyring_errors.PasswordDeleteError("text"),
            FakeWindowsError(5, "CredRead", "text"),
            NotImplementedError("text"),
            OSError("text"),
        )
    },
    "too large": _on(FakeWinVaultKeyring),
}


# What is the same for all


@contextmanager
def _closed(_: Place) -> Generator[AsyncKeyValue, None, None]:
    store = KeyringStore(backend=FakeKeyring())
    _put(store)
    yield store


DAMAGED: Mapping[str, bytes] = {
    "cut short": json.dumps({"value": VALUE}, ensure_ascii=False).encode()[:-2],
    "no JSON": SECRET.encode(),
    "no text": json.dumps({"value": VALUE}, ensure_ascii=False).encode("latin-1"),
    "no object": json.dumps([SECRET]).encode(),
    "another version": json.dumps({"version": 2, "value": VALUE}).encode(),
    "no date": json.dumps({"value": VALUE, "expires_at": SECRET}).encode(),
    "value is no JSON": json.dumps({"value": SECRET}).encode(),
    "key is no text": json.dumps({"value": VALUE, "key": [SECRET]}).encode(),
}

FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "keyring": {**KEYRING, "closed": _closed, **{f"damaged: {name}": _damaged(secret) for name, secret in DAMAGED.items()}},
}
"""What can go wrong, by store."""

CASES = [(store, fault) for store, faults in FAULTS.items() for fault in faults]


def calls_on(kv: Any) -> list[Callable[[], Awaitable[object]]]:
    large = {"secret": SECRET, "more": "x" * 3000}
    wrong: Any = [SECRET]
    return [
        lambda: kv.get("k"),
        lambda: kv.ttl("k"),
        lambda: kv.get_many(["k", "l"]),
        lambda: kv.ttl_many(["k", "l"]),
        lambda: kv.put("l", large),
        lambda: kv.put_many(["l", "m"], [VALUE, large], ttl=60),
        lambda: kv.put("l", {**VALUE, "not JSON": math.nan}),
        lambda: kv.put("l", {"secret": SECRET.encode()}),
        lambda: kv.put("l", {"secret": {SECRET}}),
        lambda: kv.put("l", VALUE, ttl=math.nan),
        lambda: kv.put("l", wrong),
        lambda: kv.put("l", SECRET),
        lambda: kv.put_many(["l"], wrong),
        lambda: kv.put_many(["l", "m"], [VALUE]),
        lambda: kv.delete_many(["l", "m"]),
        lambda: kv.delete("k"),
    ]


def forms() -> set[str]:
    """Return how the secret might look."""
    text = SECRET.encode()
    both = {SECRET, "hunter2", json.dumps(SECRET), quote(SECRET), text.hex(), repr(text)}
    # Whatever comes before it, the middle of its base64 is one of three.
    return both | {base64.b64encode(b"x" * shift + text).decode()[4:-4] for shift in range(3)}


@pytest.fixture(params=CASES, ids=" ".join)
def made(request: pytest.FixtureRequest, empty_server: Callable[[str], str], tmp_path: Path) -> Generator[AsyncKeyValue, None, None]:
    """A store on which something goes wrong."""
    store, fault = request.param
    with FAULTS[store][fault](Place(empty_server, tmp_path)) as faulty:
        yield faulty


async def test_no_secret_gets_out(
    made: AsyncKeyValue, runtime: Runtime, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    errors: list[Exception] = []
    kv = runtime.adapt(LoggingWrapper(made))
    for call in calls_on(kv):
        try:
            await call()
        except Exception as error:  # noqa: BLE001 # of any kind: that is what is looked at
            errors.append(error)
    texts = [repr(made), str(made)]
    assert len(errors) > 8, "half of the calls fail whatever the backend does"
    for error in errors:
        texts += everything_said(error)
    for record in caplog.records:
        texts += [record.getMessage(), repr(vars(record))]
    texts += capfd.readouterr()
    found = [text for text in texts if any(form in text for form in forms())]
    assert found == []


def test_the_secret_would_be_found() -> None:
    for text in (
        f"a {SECRET} b",
        repr(VALUE),
        json.dumps(VALUE),
        base64.b64encode(json.dumps(VALUE, ensure_ascii=False).encode()).decode(),
    ):
        assert any(form in text for form in forms())
