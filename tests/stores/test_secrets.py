"""Whatever goes wrong in a store for secrets, none gets out: not in a log record, an error, its causes, a traceback or a repr."""

from __future__ import annotations

import base64
import json
import logging
import math
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from keyring import errors as keyring_errors
from keyring.backend import KeyringBackend
from keyring.backends import fail, null

from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.keyring import KeyringStore
from keyvalue.wrappers.logging import LoggingWrapper
from tests.fake_keyrings import FakeKeyring, FakeWindowsError, FakeWinVaultKeyring
from tests.runtimes import Runtime
from tests.said import everything_said
from tests.servers import free_port, keyring

SECRET = "hunter2-é-0123456789"  # what the tests look for
VALUE = {"secret": SECRET}

SERVICE = ("locked", "stopped")
"""What happens to a real Secret Service."""
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
"""What is in the Secret Service instead of an entry."""
BACKENDS: Mapping[str, Callable[[], KeyringBackend]] = {"null": null.Keyring, "fail": fail.Keyring, "too large": FakeWinVaultKeyring}
ERRORS: Mapping[str, Exception] = {
    type(error).__name__: error
    for error in (
        keyring_errors.KeyringLocked("text"),
        keyring_errors.InitError("text"),
        keyring_errors.PasswordSetError("text"),
        keyring_errors.PasswordDeleteError("text"),
        FakeWindowsError(5, "CredRead", "text"),
        NotImplementedError("text"),
        OSError("text"),
    )
}
"""What a backend of keyring raises."""


def _put(store: KeyringStore) -> None:
    with BlockingKeyValue(store) as kv:
        kv.put("k", VALUE)


@pytest.fixture(params=[*SERVICE, *DAMAGED, *BACKENDS, *ERRORS, "closed"])
def faulty(request: pytest.FixtureRequest, empty_server: Callable[[str], str], tmp_path: Path) -> Generator[KeyringStore, None, None]:
    """A store whose calls fail, where the key "k" of the default collection held VALUE, if it could."""
    fault: str = request.param
    with ExitStack() as stack:
        backend = FakeKeyring()
        if fault in SERVICE:
            empty_server("keyring")  # or skip
            assert keyring.KEYRING.private is not None
            running = stack.enter_context(keyring.KEYRING.private(free_port(), str(tmp_path)))
            keyring.session_bus(running.url)
            _put(KeyringStore())
            if fault == "locked":
                keyring.lock(running.url)
            else:
                stack.close()
            yield KeyringStore()
        elif fault in DAMAGED:
            keyring.plant(empty_server("keyring"), "default_collection::k", DAMAGED[fault])
            yield KeyringStore()
        elif fault in BACKENDS:
            yield KeyringStore(backend=BACKENDS[fault]())
        else:
            store = KeyringStore(backend=backend)
            _put(store)
            backend.error = ERRORS.get(fault)
            yield store if fault == "closed" else KeyringStore(backend=backend)


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
        *(
            lambda bad=bad: kv.put("l", bad)
            for bad in ({**VALUE, "not JSON": math.nan}, {"a": SECRET.encode()}, {"a": {SECRET}}, wrong, SECRET)
        ),
        lambda: kv.put("l", VALUE, ttl=math.nan),
        lambda: kv.put_many(["l"], wrong),
        lambda: kv.put_many(["l", "m"], [VALUE]),
        lambda: kv.delete_many(["l", "m"]),
        lambda: kv.delete("k"),
    ]


# How the secret might look. Whatever comes before it, the middle of its base64 is one of three.
FORMS = [
    *(SECRET, "hunter2", json.dumps(SECRET), quote(SECRET), SECRET.encode().hex(), repr(SECRET.encode())),
    *(base64.b64encode(b"x" * shift + SECRET.encode()).decode()[4:-4] for shift in range(3)),
]


def shows_secret(text: str) -> bool:
    return any(form in text for form in FORMS)


async def test_no_secret_gets_out(
    faulty: KeyringStore, runtime: Runtime, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    errors: list[Exception] = []
    kv = runtime.adapt(LoggingWrapper(faulty))
    for call in calls_on(kv):
        try:
            await call()
        except Exception as error:  # noqa: BLE001 # of any kind: that is what is looked at
            errors.append(error)
    assert len(errors) > 8, "half of the calls fail whatever the backend does"
    texts = [repr(faulty), str(faulty), *(said for error in errors for said in everything_said(error)), *capfd.readouterr()]
    for record in caplog.records:
        texts += [record.getMessage(), repr(vars(record))]
    assert [text for text in texts if shows_secret(text)] == []


def test_the_secret_would_be_found() -> None:
    encoded = base64.b64encode(json.dumps(VALUE, ensure_ascii=False).encode()).decode()
    assert all(map(shows_secret, (f"a {SECRET} b", repr(VALUE), json.dumps(VALUE), encoded)))
