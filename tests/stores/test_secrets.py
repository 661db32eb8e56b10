"""The stores for secrets: whatever goes wrong, none gets out, not in a log record, an error, its causes, a traceback or a repr."""

from __future__ import annotations

import base64
import json
import logging
import math
import socket
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hvac
import pytest
from keyring import errors as keyring_errors
from keyring.backend import KeyringBackend
from keyring.backends import fail, null

from keyvalue.blocking import BlockingKeyValue
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.keyring import KeyringStore
from keyvalue.stores.vault import VaultStore
from keyvalue.testing._suite import has_capability
from keyvalue.wrappers.logging import LoggingWrapper
from tests import backends
from tests.answering import Reply, Request, answering
from tests.fake_keyrings import FakeKeyring, FakeWindowsError, FakeWinVaultKeyring
from tests.interpreter import forks, returns_true_in_a_fork
from tests.proxy import open_proxy
from tests.runtimes import Runtime
from tests.said import collect_texts
from tests.scripted import CALLS
from tests.servers import free_port, keyring, vault

SECRET = "hunter2-é-0123456789"  # what the tests look for
VALUE = {"secret": SECRET}
TOKEN = "hunter2-0123456789"  # Vault's; also what is before an @ in a URL

SERVICE: Mapping[str, bytes] = {
    **dict.fromkeys(("locked", "stopped"), json.dumps({"value": VALUE}).encode()),
    "no JSON": SECRET.encode(),
    "no text": json.dumps({"value": VALUE}, ensure_ascii=False).encode("latin-1"),
    "no date": json.dumps({"value": VALUE, "expires_at": SECRET}).encode(),
    "value is no JSON": json.dumps({"value": SECRET}).encode(),
}
"""What is in a real Secret Service."""
ERRORS = [keyring_errors.KeyringLocked("text"), keyring_errors.PasswordSetError("text"), FakeWindowsError(5, "CredRead", "text")]
BACKENDS: Mapping[str, Callable[[], KeyringBackend]] = {
    "null": null.Keyring,
    "fail": fail.Keyring,
    "too large": FakeWinVaultKeyring,
    **{type(error).__name__: partial(FakeKeyring, error) for error in (*ERRORS, NotImplementedError("text"), OSError("text"))},
}

HTML = {"Content-Type": "text/html"}
REPLIES = [Reply(400), Reply(403), Reply(500), Reply(502, "", HTML), Reply(200, "", HTML)]


def echo(reply: Reply, knows_token: bool, request: Request) -> Reply:
    """Answer with what was sent, as some proxies do, the token among it or not."""
    sent = f"what is {request.headers.get('X-Vault-Token') if knows_token else 'check-and-set'} {request.text}?"
    return reply._replace(text=sent if reply.headers else json.dumps({"errors": [sent]}))


def make_without_rights(url: str, _: ExitStack) -> VaultStore:
    with vault.open_client(url) as there:
        created = there.auth.token.create(id=f"{TOKEN}-{free_port()}", policies=["default"])
    return VaultStore(url=url, token=created["auth"]["client_token"])


def make_silent(_: str, stack: ExitStack) -> VaultStore:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
    return VaultStore(url=f"http://127.0.0.1:{listener.getsockname()[1]}", token=TOKEN, timeout=0.05)


def make_echoing(reply: Reply, knows_token: bool, _: str, stack: ExitStack) -> VaultStore:
    url = stack.enter_context(answering(partial(echo, reply, knows_token)))
    return VaultStore(url=url.replace("//", f"//user:{TOKEN}@"), token=TOKEN)


def make_damaged(url: str, _: ExitStack) -> VaultStore:
    vault.plant(url, "default_collection::k", {"value": f'{{"value": "{SECRET}"'})
    return VaultStore(url=url, token=vault.TOKEN)


VAULTS: Mapping[str, Callable[[str, ExitStack], VaultStore]] = {
    "vault-damaged": make_damaged,
    "vault-no rights": make_without_rights,
    "vault-silent": make_silent,
    "vault-not there": lambda *_: VaultStore(url=f"http://127.0.0.1:{free_port()}", token=TOKEN),
    "vault-no TLS": lambda url, _: VaultStore(url=url.replace("http:", "https:"), token=TOKEN),
    "vault-no such host": lambda *_: VaultStore(url=f"http://user:{TOKEN}@no-such-host.invalid", token=TOKEN),
    "vault-line break": lambda url, _: VaultStore(client=hvac.Client(url, token=f"{TOKEN}\n")),
    "vault-no such port": lambda *_: VaultStore(client=hvac.Client(f"http://user:{TOKEN}@localhost:99999", token=TOKEN)),
    **{f"vault-{reply.status} token": partial(make_echoing, reply, True) for reply in REPLIES},
    **{f"vault-{reply.status} text": partial(make_echoing, reply, False) for reply in REPLIES},
}
"""Make stores by the URL of a server."""
PARTIAL = {*SERVICE, "too large", "vault-damaged"} - {"locked", "stopped"}
"""Faults that some calls don't come across."""


@pytest.fixture
def faulty(fault: str, empty_server: Callable[[str], str]) -> Generator[AsyncKeyValue, None, None]:
    """A store whose calls fail, where the key "k" of the default collection held VALUE, if it could."""
    with ExitStack() as stack:
        if fault in VAULTS:
            yield VAULTS[fault](empty_server("vault"), stack)
        elif fault in SERVICE:
            url = empty_server("keyring")
            keyring.plant(url, "default_collection::k", SERVICE[fault])
            if fault == "locked":
                keyring.lock(url)
                stack.callback(keyring.unlock, url)
            elif fault == "stopped":
                keyring.session_bus("unix:path=/nonexistent")
            yield KeyringStore()
        elif fault in BACKENDS:
            yield KeyringStore(backend=BACKENDS[fault]())
        else:
            store = KeyringStore(backend=FakeKeyring())
            with BlockingKeyValue(store) as kv:
                kv.put("k", VALUE)
            yield store


def calls_on(kv: Any) -> list[Callable[[], Awaitable[object]]]:
    large = {"secret": SECRET, "more": "x" * 3000}
    wrong: Any = [SECRET]
    return [
        *(partial(CALLS[name], kv) for name in ("get", "ttl", "get_many", "ttl_many")),
        lambda: kv.put("l", large),
        lambda: kv.put_many(["l", "m"], [VALUE, large], ttl=60),
        *(
            lambda bad=bad: kv.put("l", bad)
            for bad in ({**VALUE, "not JSON": math.nan}, {"a": SECRET.encode()}, {"a": {SECRET}}, wrong, SECRET)
        ),
        lambda: kv.put("l", VALUE, ttl=math.nan),
        lambda: kv.put_many(["l"], wrong),
        lambda: kv.put_many(["l", "m"], [VALUE]),
        *(partial(CALLS[name], kv) for name in ("delete_many", "delete")),
        *(getattr(kv, method) for method in ("keys", "collections", "cull", "destroy") if has_capability(kv, method)),
    ]


# How the secret might look. Whatever comes before it, the middle of its base64 is one of three.
FORMS = [
    *(SECRET, "hunter2", json.dumps(SECRET), quote(SECRET), SECRET.encode().hex(), repr(SECRET.encode())),
    *(base64.b64encode(b"x" * shift + SECRET.encode()).decode()[4:-4] for shift in range(3)),
]


def shows_secret(text: str) -> bool:
    return any(form in text for form in FORMS)


@pytest.mark.parametrize("fault", [*SERVICE, *BACKENDS, "closed", *VAULTS])
async def test_no_secret_gets_out(
    fault: str, faulty: AsyncKeyValue, runtime: Runtime, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    errors: list[Exception] = []
    kv = runtime.adapt(LoggingWrapper(faulty))
    calls = calls_on(kv)
    for call in calls:
        try:
            await call()
        except Exception as error:  # noqa: BLE001 # of any kind: that is what is looked at
            errors.append(error)
    assert len(errors) > 8 if fault in PARTIAL else len(errors) == len(calls)
    texts = [repr(faulty), str(faulty), *(said for error in errors for said in collect_texts(error)), *capfd.readouterr()]
    for record in caplog.records:
        texts += [record.getMessage(), repr(vars(record))]
    assert [text for text in texts if shows_secret(text)] == []


def test_the_secret_would_be_found() -> None:
    encoded = base64.b64encode(json.dumps(VALUE, ensure_ascii=False).encode()).decode()
    assert all(map(shows_secret, (f"a {SECRET} b", repr(VALUE), json.dumps(VALUE), encoded, TOKEN)))


@forks
@pytest.mark.backends("keyring", "vault")
def test_a_forked_child_has_a_connection_of_its_own(backend: str, empty_server: Callable[[str], str], tmp_path: Path) -> None:
    with open_proxy(empty_server(backend)) as proxy:
        store = backends.MAKERS[backend](tmp_path, proxy.url)
        with BlockingKeyValue(store) as kv:
            kv.put("k", {"a": 1})
            assert proxy.accepted == 1
            assert returns_true_in_a_fork(lambda: BlockingKeyValue(store).get("k") == {"a": 1})
            assert kv.get("k") == {"a": 1}
            assert proxy.accepted == 2
