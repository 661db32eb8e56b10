"""What is VaultStore's own: how it connects, engines and tokens of all kinds, versions, names and values that Vault can't hold."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import hvac
import hvac.exceptions
import pytest
import requests

from keyvalue._core.layout import digest
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError, StoreSetupError, ValueTooLargeError
from keyvalue.stores._drivers.vault import VaultDriver
from keyvalue.stores._drivers.vault_client import Secret
from keyvalue.stores.base import CompareAndSet, Entry
from keyvalue.stores.vault import VaultStore
from keyvalue.testing import Clock
from keyvalue.testing._suite import at_once
from tests.answering import Reply, Request, answering
from tests.conftest import skip_or_fail
from tests.proxy import Proxy
from tests.runtimes import Runtime
from tests.servers import Running, free_port
from tests.servers.tls import write_files
from tests.servers.vault import TOKEN, VAULT, mount, names, open_client, plant, private_server
from tests.stores.hooks import SECRET, assert_raised, document, use
from tests.stores.test_backends import assert_raised_by_all

# hvac only blocks: what its calls do is the same on all runtimes.
pytestmark = [pytest.mark.backends("vault"), pytest.mark.runtimes("asyncio")]


@pytest.fixture
def own_server() -> Callable[..., AbstractContextManager[Running]]:
    """What starts a server of the test's own."""
    why = VAULT.absent()
    if why is not None:
        skip_or_fail("a Vault of one's own", why)
    return private_server


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


def token_of(raw: Any, *rules: tuple[str, str]) -> str:
    """Make a token that may do some things only: for each path, what."""
    name = f"policy-{len(raw.sys.list_policies()['data']['policies'])}"
    lists = [(path, ", ".join(f'"{what}"' for what in allowed.split())) for path, allowed in rules]
    raw.sys.create_or_update_policy(name, "\n".join(f'path "{path}" {{ capabilities = [{allowed}] }}' for path, allowed in lists))
    return raw.auth.token.create(policies=[name])["auth"]["client_token"]


def secret(raw: Any, name: str) -> Any:
    return raw.secrets.kv.v2.read_secret_version(name, raise_on_deleted_version=True)["data"]["data"]


# Connecting


def test_a_repr_shows_the_host_alone() -> None:
    assert repr(VaultStore()) == "VaultStore(localhost:8200)"
    assert repr(VaultStore(url=f"https://user:{SECRET}@vault.example.com/prefix", token=SECRET)) == "VaultStore(vault.example.com)"
    assert repr(VaultStore(client=hvac.Client(f"http://user:{SECRET}@[::1]:8200"))) == "VaultStore([::1]:8200)"


async def test_where_token_and_address_come_from(url: str, raw: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = token_of(raw, ("secret/*", "read list"))
    file = tmp_path / ".vault-token"

    async def assert_can_read_only(**arguments: Any) -> None:
        async with VaultStore(**arguments) as kv:
            assert await kv.get("k") is None
            await assert_raised(StoreRefusedError, "its policies", lambda: kv.put("k", {}))

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
    await assert_raised(StoreSetupError, "log in again", VaultStore(url=url).setup)


def test_connections_are_kept_for_all_calls_at_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main(kv: VaultStore) -> None:
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(kv.put, f"k{number}", {})

    with caplog.at_level(logging.DEBUG), open_client(url) as given:
        for store, most in ((VaultStore(client=given), 10), (VaultStore(url=url, token=TOKEN), 40)):
            caplog.clear()
            anyio.run(main, store)
            assert sum("Starting new HTTP connection" in record.message for record in caplog.records) <= most
            assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
            anyio.run(store.close)


async def test_tls(own_server: Any, store: Callable[..., Any], runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, files = free_port(), write_files(tmp_path)
    url = f"https://127.0.0.1:{port}"
    with own_server(tls=(port, files)), open_client(url, verify=str(files.authority)) as given:
        await use(runtime.adapt(VaultStore(client=given)))
        (error,) = await assert_raised(StoreConnectionError, "TLS", lambda: store(url).get("k"))
        assert isinstance(error.__cause__, requests.exceptions.SSLError)
        await assert_raised(StoreRefusedError, "VaultStore", lambda: store(url.replace("https", "http")).get("k"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(files.authority))
        assert await store(url).get("k") is None
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing"))
        await assert_raised(StoreRefusedError, "certificates", lambda: store(url).get("k"))


# Engines


async def test_mount_points(url: str, raw: Any, store: Callable[..., Any]) -> None:
    for mount_point in ("kv", "team/app kv", "/other/", "données"):
        mount(raw, mount_point.strip("/"))
        kv = store(url, mount_point=mount_point)
        await use(kv)
        await kv.destroy()
        await kv.put("k", {"a": 1}, collection="c")
        assert names(raw, mount_point.strip("/")) == {"c::k"}
        assert names(raw) == set()


async def test_a_namespace(url: str, raw: Any, store: Callable[..., Any], runtime: Runtime) -> None:
    raw.adapter.post("/v1/sys/namespaces/team")
    try:
        with open_client(url, namespace="team") as inside:
            mount(inside)
            kv = store(url, namespace="team")
            await use(kv)
            await kv.destroy()
            await kv.put("k", {"a": 1}, collection="c")
            assert names(inside) == {"c::k"}
            assert names(raw) == set()
            given = runtime.adapt(VaultStore(client=inside))
            assert await given.get("k", collection="c") == {"a": 1}
            await assert_raised_by_all(store(url, namespace="other"), url, StoreRefusedError, "namespace", hvac.exceptions.VaultError)
    finally:
        raw.adapter.delete("/v1/sys/namespaces/team")


async def test_an_engine_that_is_not_there_or_of_another_kind(url: str, raw: Any, store: Callable[..., Any]) -> None:
    kv = store(url, mount_point="kv")
    await assert_raised_by_all(kv, url, StoreRefusedError, "mount_point", hvac.exceptions.VaultError)
    mount(raw, "kv")
    await kv.put("k", {"a": 1})
    raw.sys.disable_secrets_engine("kv")
    await assert_raised_by_all(kv, url, StoreRefusedError, "nothing at mount_point", hvac.exceptions.InvalidPath)
    mount(raw, "kv", version="1")
    why = "no KV secrets engine of version 2 is mounted at mount_point; pass the path of the mount"
    for mount_point in ("kv", "cubbyhole"):
        other = store(url, mount_point=mount_point)
        await assert_raised_by_all(other, url, StoreRefusedError, why, hvac.exceptions.UnsupportedOperation)
        with pytest.raises(hvac.exceptions.InvalidPath):
            raw.adapter.list(f"/v1/{mount_point}")
    # Of a store that knew the engine of version 2:
    await assert_raised(StoreRefusedError, why, lambda: kv.put("k", {"a": 2}), lambda: kv.get("k"))


@pytest.mark.runtimes("asyncio", "direct")
async def test_a_mount_point_that_is_a_path_inside_of_an_engine(url: str, raw: Any, store: Callable[..., Any]) -> None:
    mount(raw, "team/kv")
    mount(raw, "v1", version="1")
    token = token_of(raw, *((f"{path}/*", "create read update delete list") for path in ("secret", "team", "v1")), ("sys/*", "deny"))
    for name in ("app/data/x", "data/x", "metadata/x"):
        plant(url, name, {"value": "theirs"})
    before = names(raw)
    for mount_point in ("secret/data", "secret/metadata", "secret/app", "secret/data/app", "team/kv/data", "v1", "v1/data"):
        kv = store(url, token, mount_point=mount_point)
        why = "pass the path of the mount alone"
        await assert_raised_by_all(kv, url, StoreRefusedError, why, hvac.exceptions.UnsupportedOperation)
    assert names(raw) == before
    for mount_point in ("secret", "team/kv"):
        await use(store(url, token, mount_point=mount_point))


async def test_a_path_inside_of_an_engine_behind_a_fake_proxy_that_tells_nothing(url: str, store: Callable[..., Any]) -> None:
    def forward(request: Request) -> Reply:
        method, path = request.line.split()
        if "help" in path:
            return Reply(404, "")
        answer = requests.request(method, f"{url}{path}", headers={"X-Vault-Token": TOKEN}, data=request.text, timeout=10)
        return Reply(answer.status_code, answer.text)

    with answering(forward) as proxied:
        await use(store(proxied))
        kv = store(proxied, mount_point="secret/app")
        await assert_raised_by_all(kv, proxied, StoreRefusedError, "nothing at mount_point", hvac.exceptions.InvalidPath)


# Tokens, policies, and a server that can't serve


async def test_a_token_that_is_not_valid(url: str, raw: Any, store: Callable[..., Any]) -> None:
    token = token_of(raw, ("secret/*", "create read update delete list"))
    revoked = store(url, token)
    await use(revoked)
    raw.auth.token.revoke(token)
    for kv in (revoked, store(url, SECRET), store(url, None)):
        await assert_raised_by_all(kv, url, StoreRefusedError, "check the token", hvac.exceptions.Forbidden)


async def test_a_token_of_a_given_client_may_change(url: str, runtime: Runtime) -> None:
    with open_client(url, "no such token") as given:
        kv = runtime.adapt(VaultStore(client=given))
        await assert_raised(StoreRefusedError, "the token", lambda: kv.get("k"))
        given.token = TOKEN
        assert await kv.get("k") is None
        given.token = f"{TOKEN}\n"
        await assert_raised(StoreRefusedError, "line break", lambda: kv.get("k"))


async def test_policies(url: str, raw: Any, kv: Any, store: Callable[..., Any]) -> None:
    await kv.put_many(["k", "l"], [{"a": 1}, {}], collection="mine")
    await kv.put("k", {"b": 1}, collection="other")

    def make_with_rights(*rules: tuple[str, str]) -> Any:
        return store(url, token_of(raw, *rules))

    async def refuse(*calls: Callable[[], Any]) -> None:
        await assert_raised(StoreRefusedError, "its policies", *calls)

    reader = make_with_rights(("secret/data/mine::*", "read"))
    assert await reader.get_many(["k", "missing"], collection="mine") == [{"a": 1}, None]
    await refuse(lambda: reader.get("k", collection="other"), lambda: reader.put("k", {}, collection="mine"), reader.collections)
    await refuse(lambda: reader.delete("k", collection="mine"), lambda: reader.keys("mine"), reader.destroy, reader.cull)
    assert await reader.delete("missing", collection="mine") is False

    lister = make_with_rights(("secret/data/mine::*", "read"), ("secret/metadata/*", "list"))
    assert sorted(await lister.keys("mine")) == ["k", "l"]
    await refuse(lister.collections, lambda: lister.destroy_collection("mine"))  # of `other` it may not read an entry

    creator = make_with_rights(("secret/data/mine::*", "create"))
    await creator.put("new", {"c": 1}, collection="mine")
    await refuse(lambda: creator.put("k", {}, collection="mine"), lambda: creator.get("k", collection="mine"))

    home = digest("mine")
    data, metadata = ([f"secret/{kind}/{name}*" for name in ("mine::", "mine~:", f"{home}/")] for kind in ("data", "metadata"))
    one = make_with_rights((data[0], "create read update"), (metadata[0], "delete list"))  # as the docs have it
    await one.put("k", {"d": 1}, collection="mine")
    assert await one.get_many(["k", "missing"], collection="mine") == [{"d": 1}, None]
    assert await one.delete("k", collection="mine") is True
    await refuse(lambda: one.keys("mine"), lambda: one.get("k", collection="other"))
    rules = [*((path, "create read update") for path in data), *((path, "delete list") for path in metadata)]
    every = make_with_rights(*rules, ("secret/metadata/", "list"), (f"secret/metadata/{home}", "list"))
    await every.put_many(["k", "::k", "a//b"], [{}, {}, {}], collection="mine")
    assert sorted(await every.keys("mine")) == ["::k", "a//b", "k", "l", "new"]
    assert await every.destroy_collection("mine") is True

    owner = make_with_rights(("secret/data/*", "create read update"), ("secret/metadata/*", "list delete"))
    assert await owner.destroy() is True
    await use(owner)
    assert await owner.destroy() is True
    assert names(raw) == set()


async def test_a_sealed_server(own_server: Any, store: Callable[..., Any]) -> None:
    with own_server() as running, open_client(running.url) as operator:
        kv, late = store(running.url), store(running.url)
        await kv.put("k", {"a": 1})
        operator.sys.seal()
        for sealed in (kv, late):
            await assert_raised_by_all(sealed, running.url, StoreConnectionError, "sealed", hvac.exceptions.VaultDown)


async def test_a_quota_that_is_used_up(kv: Any, raw: Any) -> None:
    await kv.put("k", {"a": 1})
    raw.adapter.post("/v1/sys/quotas/rate-limit/tests", json={"rate": 1, "path": "secret"})
    try:
        keys = [f"k{number}" for number in range(10)]
        (error,) = await assert_raised(StoreConnectionError, "no more requests", lambda: kv.get_many(keys))
        assert isinstance(error.__cause__, hvac.exceptions.RateLimitExceeded)
    finally:
        raw.adapter.delete("/v1/sys/quotas/rate-limit/tests")
    assert await kv.get("k") == {"a": 1}


def format_errors(*errors: str) -> str:
    return json.dumps({"errors": errors})


UPGRADING = "Upgrading from non-versioned to versioned data. This backend will be skip_or_fail for a brief period"
# As Vault 1.20 has it, and two storages behind it.
TOO_LONG = ("JSON string value exceeds allowed length", "etcdserver: request is too large", "Value for 'k' exceeds 524288 byte limit")
ANSWERS: Sequence[tuple[int, str, type[KeyValueStoreError], type[Exception]]] = [
    (400, format_errors("no"), StoreRefusedError, hvac.exceptions.InvalidRequest),
    (400, format_errors(UPGRADING), StoreConnectionError, hvac.exceptions.VaultDown),
    (401, format_errors("no"), StoreRefusedError, hvac.exceptions.Unauthorized),
    (403, format_errors("permission denied"), StoreRefusedError, hvac.exceptions.Forbidden),
    (404, format_errors("no handler for route"), StoreRefusedError, hvac.exceptions.InvalidPath),
    (404, '{"message": "no Route matched with those values"}', StoreRefusedError, hvac.exceptions.InvalidPath),  # a gateway
    (412, format_errors("required index state not present"), StoreConnectionError, hvac.exceptions.VaultDown),
    (472, format_errors(), StoreConnectionError, hvac.exceptions.VaultDown),
    (473, format_errors(), StoreConnectionError, hvac.exceptions.VaultDown),
    (405, format_errors(), StoreRefusedError, hvac.exceptions.UnexpectedError),
    (429, format_errors("too many"), StoreConnectionError, hvac.exceptions.RateLimitExceeded),
    (500, format_errors("internal error"), StoreConnectionError, hvac.exceptions.InternalServerError),
    (501, format_errors("not initialized"), StoreConnectionError, hvac.exceptions.VaultNotInitialized),
    (502, "<html>bad gateway", StoreConnectionError, hvac.exceptions.BadGateway),
    (503, format_errors("Vault is sealed"), StoreConnectionError, hvac.exceptions.VaultDown),
    (504, "<html>timeout", StoreConnectionError, hvac.exceptions.VaultDown),
    (200, "<html>welcome", StoreRefusedError, hvac.exceptions.UnsupportedOperation),
    (200, "[]", StoreRefusedError, hvac.exceptions.UnsupportedOperation),
    (200, '{"data": null}', StoreRefusedError, hvac.exceptions.UnsupportedOperation),
    (301, "", StoreRefusedError, hvac.exceptions.UnexpectedError),
]


def gateway(reply: Reply, request: Request) -> Reply:
    """Answer as what is before a server, which may not let all requests through."""
    return Reply(404, "", {"Content-Type": "text/html"}) if "help=" in request.line else reply


async def test_what_a_fake_server_answers(store: Callable[..., Any]) -> None:
    for status, content, raised, cause in ANSWERS:
        with answering(partial(gateway, Reply(status, content))) as url:
            await assert_raised_by_all(store(url), url, raised, "VaultStore", cause)
    told = [(Reply(500, format_errors(why)), StoreConnectionError) for why in TOO_LONG]
    for reply, raised in ((Reply(413), StoreRefusedError), *told):
        with answering(partial(gateway, reply)) as url:
            kv = store(url)
            puts = [partial(kv.put, "k", {}), partial(kv.put_many, ["k", "l"], [{}, {}])]
            errors = await assert_raised(ValueTooLargeError, "larger", *puts)
            errors += await assert_raised(raised, "VaultStore", partial(kv.get, "k"), partial(kv.delete, "k"))
            assert all(isinstance(error.__cause__, hvac.exceptions.VaultError) for error in errors)


async def test_redirections_never_make_an_answer_wrong(store: Callable[..., Any], url: str) -> None:
    for status in (301, 302, 303, 307, 308):
        plant(url, "c::k", {"value": document("c", "k", value={"a": 1})})
        with answering(lambda request, status=status: Reply(status, "", {"Location": f"{url}{request.line.split()[1]}"})) as redirecting:
            kv = store(redirecting)
            get, delete = partial(kv.get, "k", collection="c"), partial(kv.delete, "k", collection="c")
            put = partial(kv.put, "k", {"a": 2}, collection="c")
            assert await get() == {"a": 1}
            assert await kv.keys("c") == ["k"]
            assert await kv.collections() == ["c"]
            if status >= 307:  # those keep method and body
                await put()
                assert await get() == {"a": 2}
                assert await delete() is True
                assert await get() is None
                assert await kv.destroy() is True
            else:
                await assert_raised(StoreRefusedError, "redirect", put, delete)
                if status != 301:  # with that, a removal stays one
                    await assert_raised(StoreRefusedError, "redirect", kv.destroy, lambda kv=kv: kv.destroy_collection("c"))
                assert await get() == {"a": 1}


async def test_a_request_whose_answer_is_lost_is_sent_again_once(store: Callable[..., Any], proxy: Proxy) -> None:
    kv = store(proxy.url)
    await kv.put("k", {"a": 1})
    proxy.cuts = 3
    await assert_raised(StoreConnectionError, "reach the server", lambda: kv.get("k"))
    assert proxy.cuts == 1
    proxy.cuts = 2
    await assert_raised(StoreConnectionError, "reach the server", lambda: kv.put("k", {"a": 2}))
    assert proxy.cuts == 1


# The format, and versions


async def test_the_format(kv: Any, raw: Any) -> None:
    await kv.put("alice/1", {"name": "Älice"}, collection="users", ttl=60)
    await kv.put("x/../y", {"b": 1}, collection="é")
    await kv.put("k", {}, collection="a::b")
    home = "/".join("~" + hashlib.sha256(text.encode()).hexdigest() for text in ("é", "x/../y"))
    assert names(raw) == {"users::alice/1", home, "a~1~1b~:k"}
    assert json.loads(secret(raw, home)["value"])["key"] == "x/../y"
    found = secret(raw, "users::alice/1")
    assert set(found) == {"value"}
    document = json.loads(found["value"])
    assert (document["version"], document["collection"], document["key"], document["value"]) == (1, "users", "alice/1", {"name": "Älice"})
    assert document["expires_at"] > document["created_at"]


async def test_versions_pile_up_until_a_delete(kv: Any, raw: Any) -> None:
    for turn in range(3):
        await kv.put("k", {"turn": turn}, collection="c")
    read = partial(raw.secrets.kv.v2.read_secret_metadata, "c::k")
    assert [version["destroyed"] for version in read()["data"]["versions"].values()] == [False] * 3
    assert await kv.delete("k", collection="c") is True
    assert await kv.delete("k", collection="c") is False
    assert await kv.keys("c") == []
    assert [version["destroyed"] for version in read()["data"]["versions"].values()] == [True, True, True, False]
    await kv.cull()  # there is nothing left to free
    await kv.put("k", {"again": True}, collection="c", ttl=0.001)
    assert read()["data"]["current_version"] == 5
    await kv.cull()
    assert [version["destroyed"] for version in read()["data"]["versions"].values()] == [True] * 5 + [False]
    assert await kv.destroy_collection("c") is False
    with pytest.raises(hvac.exceptions.InvalidPath):
        read()


async def test_a_version_is_not_that_of_another_value_with_its_number(kv: Any, raw: Any) -> None:
    await kv.put("k", {"a": 1}, collection="c")
    (old,) = await kv._read(["c::k"])
    assert re.fullmatch(r"1\.[0-9a-f]{64}", old.version)
    await kv.destroy_collection("c")
    assert await kv._compare_and_set([CompareAndSet("c::k", old.version, None)]) == [False]
    await kv.put("k", {"a": 2}, collection="c")
    assert await kv._compare_and_set([CompareAndSet("c::k", old.version, None)]) == [False]
    (new,) = await kv._read(["c::k"])
    raw.secrets.kv.v2.delete_latest_version_of_secret("c::k")
    assert await kv._compare_and_set([CompareAndSet("c::k", new.version, Entry("c", "k", {"a": 3}))]) == [False]
    assert await kv._compare_and_set([CompareAndSet("c::k", None, Entry("c", "k", {"a": 4}))]) == [True]
    assert await kv.get("k", collection="c") == {"a": 4}


async def test_a_delete_destroys_what_an_earlier_one_had_to_leave(url: str, kv: Any, raw: Any, store: Callable[..., Any]) -> None:
    await kv.put("k", {"a": 1}, collection="c")
    assert await store(url, token_of(raw, ("secret/data/*", "create read update"))).delete("k", collection="c") is True
    versions = lambda: raw.secrets.kv.v2.read_secret_metadata("c::k")["data"]["versions"]  # noqa: E731 # short
    assert [version["destroyed"] for version in versions().values()] == [False, False]
    assert await kv.delete("k", collection="c") is False
    assert [version["destroyed"] for version in versions().values()] == [True, False]


@pytest.mark.parametrize("how", ["deleted", "destroyed"])
async def test_a_latest_version_that_is_gone_is_a_miss(kv: Any, raw: Any, how: str) -> None:
    for key in ("k", "b::c", "x//y"):
        await kv.put(key, {"a": 1}, collection="c")
        await kv.put(key, {"a": 2}, collection="c")
        (name,) = names(raw)
        if how == "deleted":
            raw.secrets.kv.v2.delete_latest_version_of_secret(name)
        else:
            raw.secrets.kv.v2.destroy_secret_versions(name, [1, 2])
        assert await kv.get(key, collection="c") is None
        assert await kv.delete(key, collection="c") is False
        assert await kv.keys("c") == []
        assert await kv.destroy_collection("c") is False
        assert names(raw) == {name}
        await kv.put(key, {"a": 3}, collection="c")
        assert await kv.get(key, collection="c") == {"a": 3}
        assert raw.secrets.kv.v2.read_secret_metadata(name)["data"]["current_version"] == 3
        assert await kv.delete(key, collection="c") is True
        assert names(raw) == {name}
        assert await kv.destroy_collection("c") is False
        assert names(raw) == set()


@pytest.mark.parametrize("by", ["engine", "secret"])
async def test_where_check_and_set_is_required(url: str, raw: Any, runtime: Runtime, store: Callable[..., Any], by: str) -> None:
    if by == "engine":
        raw.secrets.kv.v2.configure(cas_required=True)
    else:
        raw.secrets.kv.v2.update_metadata("default_collection::k", cas_required=True)
    stores = [store(url) for _ in range(4)]

    async def put(kv: Any, number: int) -> None:
        for turn in range(5):
            await kv.put("k", {"n": number, "turn": turn})

    await at_once(runtime, [partial(put, kv, number) for number in range(2) for kv in stores])
    assert (await stores[0].get("k"))["turn"] == 4
    assert raw.secrets.kv.v2.read_secret_metadata("default_collection::k")["data"]["current_version"] == 40
    await stores[0].put_many(["check-and-set", "b::c", "x//y"], [{}, {}, {}])
    assert await stores[0].destroy() is True
    await use(stores[0])


def test_cull_leaves_what_is_put_meanwhile(url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    burying, goes_on, real = threading.Event(), threading.Event(), VaultDriver._bury  # pyright: ignore[reportPrivateUsage]

    def bury_slowly(self: VaultDriver, name: str, found: Secret) -> bool:
        burying.set()
        assert goes_on.wait(10)
        return real(self, name, found)

    monkeypatch.setattr(VaultDriver, "_bury", bury_slowly)
    facade: Any = BlockingKeyValue(VaultStore(url=url, token=TOKEN))
    with facade as kv, ThreadPoolExecutor(1) as pool:
        kv.put("k", {"old": True}, ttl=5)
        clock.advance(6)
        culling = pool.submit(kv.cull)
        assert burying.wait(10)
        kv.put("k", {"new": True})
        goes_on.set()
        culling.result()
        assert kv.get("k") == {"new": True}


async def test_a_copy_under_another_spelling_is_left_alone(kv: Any, raw: Any, url: str) -> None:
    await kv.put("k", {}, collection="c")
    plant(url, "C::k", {"value": document("c", "k", value={"copied": True}, expires_at="2020-01-01T00:00:00+00:00")})
    await kv.cull()
    assert "copied" in secret(raw, "C::k")["value"]
    assert await kv.destroy() is True
    assert names(raw) == {"C::k"}


# Names and sizes


async def test_names_that_only_look_dangerous(url: str, kv: Any, raw: Any) -> None:
    plant(url, "database", {"password": "p"})
    collections = ["c", "..", "../..", "data", "metadata", "secret/data", "a/b", "a", "/", "~" + "0" * 64, "C", "%2e%2e"]
    keys = ["k", "..", "../../sys/seal", "../database", "k/", "k/k", " ", "metadata", "?version=1", "#", "+", "*", "%2F", "\\"]
    for collection in collections:
        await kv.put_many(keys, [{"of": [collection, key]} for key in keys], collection=collection)
    for collection in collections:
        assert await kv.get_many(keys, collection=collection) == [{"of": [collection, key]} for key in keys]
        assert sorted(await kv.keys(collection)) == sorted(keys)
    assert secret(raw, "database") == {"password": "p"}
    assert await kv.destroy() is True
    assert names(raw) == {"database"}
    assert raw.sys.read_health_status(method="GET")["sealed"] is False


def test_a_storage_of_files_takes_long_names_and_no_large_values(own_server: Any, tmp_path: Path) -> None:
    with own_server(directory=str(tmp_path)) as running, BlockingKeyValue(VaultStore(url=running.url, token=TOKEN)) as facade:
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
    kv, value = store(url, timeout=30), {"text": '"é\0\\' * 500_000}
    await kv.put("k", value)
    assert await kv.get("k") == value
    (error,) = await assert_raised(ValueTooLargeError, "larger", lambda: kv.put("k", {"text": SECRET * 3_500_000}))
    assert error.extra_info["size"] > 38_000_000
    assert error.extra_info["key"] == "k"
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
        assert [await kv.get("other") for _ in range(10)] == [{"a": 1}] * 10
        done.append("get")

    await kv.put("other", {"a": 1})
    proxy.delay = 1.0
    await at_once(runtime, [put, get])
    assert done == ["get", "put"]
    assert await kv.get("k") == {"a": 1}
