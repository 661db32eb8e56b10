"""What is RedisStore's own: how it connects, Sentinel, connections in step, and what else lies in the database."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest
import redis
import redis.asyncio
from redis.sentinel import MasterNotFoundError

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError
from keyvalue.stores.redis import RedisStore
from tests.proxy import proxied
from tests.runtimes import Runtime
from tests.said import everything_said
from tests.servers import await_answer
from tests.servers import redis as servers
from tests.servers.tls import Files
from tests.stores.hooks import SECRET
from tests.stores.hooks.redis import HOOKS

own_server = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on the PATH")


@pytest.fixture
def raw(redis_url: str) -> Generator[Any, None, None]:
    """A client to look behind the store's back."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def address(url: str) -> Any:
    host, _, port = url.removeprefix("redis://").partition("/")[0].rpartition(":")
    return {"host": host, "port": int(port)}


# Connecting


@pytest.mark.parametrize("url", [6379, b"redis://localhost"])
def test_a_url_that_is_no_text(url: Any) -> None:
    with pytest.warns(UserWarning, match="url should be"), pytest.raises(TypeError, match=r"URL of RedisStore must be a str, not an? "):
        RedisStore(url=url)


async def test_a_database_that_the_server_has_not(runtime: Runtime, redis_url: str) -> None:
    kv = runtime.adapt(RedisStore(url=redis_url.rpartition("/")[0] + "/9999"))
    with pytest.raises(StoreRefusedError, match="is there such a database"):
        await kv.get("k")


async def test_the_database_of_a_url_and_its_options(runtime: Runtime, redis_url: str) -> None:  # H-57
    base = redis_url.rpartition("/")[0]
    with redis.Redis.from_url(f"{base}/3") as three:
        three.flushdb()
        options = "socket_timeout=5&socket_connect_timeout=5&decode_responses=True&client_name=mine&health_check_interval=1"
        kv = runtime.adapt(RedisStore(url=f"{base}/3?{options}"))
        await kv.put("k", {"a": 1})
        assert three.keys() == [b"default_collection::k"]
        assert "mine" in {client["name"] for client in three.client_list()}
        also: Any = runtime.adapt(RedisStore(url=f"{base}?db=3"))
        assert await also.get("k") == {"a": 1}
        assert await also.keys() == ["k"]
        again = runtime.adapt(RedisStore(**address(redis_url), db=3))
        assert await again.destroy() is True
        assert three.keys() == []


PASSWORD = "p@s/" + "wo%rd:#" + SECRET


@own_server
async def test_a_password(runtime: Runtime) -> None:  # H-57
    with servers.private_server("--requirepass", PASSWORD) as url:
        there = address(url)
        good: list[Any] = [{"password": PASSWORD}, {"username": "default", "password": PASSWORD}]
        await runtime.adapt(RedisStore(url=url.replace("://", f"://default:{quote(PASSWORD, safe='')}@"))).put("k", {"a": 1})
        for arguments in good:
            assert await runtime.adapt(RedisStore(**there, **arguments)).get("k") == {"a": 1}
        wrong: list[Any] = [{"url": url.replace("://", f"://{user}:{SECRET}@")} for user in ("", "default", "nobody")]
        wrong += [there, {**there, "username": "nobody", "password": SECRET}]
        for arguments in wrong:
            kv = runtime.adapt(RedisStore(**arguments))
            for call in (lambda kv=kv: kv.get("k"), lambda kv=kv: kv.put_many(["k", "l"], [{}, {}], ttl=5)):
                with pytest.raises(StoreRefusedError, match="check username and password") as caught:
                    await call()
                assert SECRET not in "".join(everything_said(caught.value))


@own_server
async def test_a_unix_socket(runtime: Runtime, tmp_path: Path) -> None:  # H-57
    with servers.private_server("--unixsocket", str(tmp_path / "redis.sock")):
        kv = runtime.adapt(RedisStore(url=f"unix://{tmp_path}/redis.sock?db=1"))
        await kv.put("k", {"a": 1})
        assert await kv.get("k") == {"a": 1}


@pytest.fixture
def tls(tmp_path: Path) -> Generator[tuple[int, Files], None, None]:
    with servers.with_tls(tmp_path) as what:
        yield what


@own_server
async def test_tls(runtime: Runtime, tls: tuple[int, Files]) -> None:
    port, (authority, certificate, key) = tls
    files = {"ssl_ca_certs": str(authority), "ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
    options = "&".join(f"{name}={quote(value, safe='')}" for name, value in files.items())
    good: list[Any] = [
        {"host": "127.0.0.1", "port": port, **files},
        {"url": f"rediss://127.0.0.1:{port}/0?{options}"},
        {"host": "127.0.0.1", "port": port, "ssl": True, **files, "ssl_cert_reqs": "none", "ssl_check_hostname": False},
    ]
    for number, arguments in enumerate(good):
        kv = runtime.adapt(RedisStore(**arguments))
        await kv.put("k", {"n": number})
        assert await kv.get("k") == {"n": number}
    bad: list[Any] = [{"ssl": True}, {"ssl_check_hostname": False}, {}]  # no authority; no certificate; no TLS
    for arguments in bad:
        with pytest.raises(StoreConnectionError):
            await runtime.adapt(RedisStore(host="127.0.0.1", port=port, **arguments, timeout=2.0)).get("k")


SENTINEL_PERIODS = ("INFO-PERIOD", 200, "PUBLISH-PERIOD", 200)  # milliseconds


def has_failed_over(sentinel: Any, port: int) -> bool:
    """Have Sentinel replace the primary, which takes until it knows the replica and finds it fit; return whether it has done so."""
    if sentinel.discover_master("mine")[1] == port:
        return True
    with suppress(redis.ResponseError):
        sentinel.sentinels[0].execute_command("SENTINEL FAILOVER", "mine")
    return False


@own_server
async def test_a_primary_that_sentinel_names(tmp_path: Path) -> None:
    at_once = ("--repl-diskless-sync-delay", "0")  # not after five seconds, for which a primary that stops waits too
    with ExitStack() as stack:
        url = stack.enter_context(servers.private_server(*at_once))
        other_url = stack.enter_context(servers.private_server(*at_once, "--replicaof", f"127.0.0.1 {address(url)['port']}"))
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(f"sentinel monitor mine 127.0.0.1 {address(url)['port']} 1\n")
        with servers.private_server("--sentinel", port=(port := servers.free_port()), file=str(configuration)):
            sentinel: Any = redis.Sentinel([("127.0.0.1", port)], socket_timeout=5)
            asynchronous: Any = redis.asyncio.Sentinel([("127.0.0.1", port)], socket_timeout=5)
            with suppress(redis.ResponseError):  # before Redis 7, it looks only every ten seconds
                sentinel.sentinels[0].execute_command("SENTINEL DEBUG", *SENTINEL_PERIODS)
            with redis.Redis.from_url(other_url) as other, sentinel.master_for("mine") as client:
                async with (
                    asynchronous.master_for("mine") as client_async,
                    RedisStore(client=client) as twin,
                    RedisStore(client=client_async) as kv,
                ):
                    await kv.put("k", {"a": 1})
                    assert await twin.get_many(["k", "l"]) == [{"a": 1}, None]
                    await_answer(lambda: has_failed_over(sentinel, address(other_url)["port"]), "the fail-over")
                    document: Any = b""
                    for _ in range(200):  # until it is told, the old primary takes writes, which are then lost
                        await Runtime("asyncio").eventually(lambda: kv.put("k", {"a": 2}))
                        document = other.get("default_collection::k")
                        if b'{"a":2}' in (document or b""):
                            break
                        await anyio.sleep(0.05)
                    assert b'{"a":2}' in document
                    assert await Runtime("asyncio").eventually(lambda: twin.get("k")) == {"a": 2}
            for node in sentinel.sentinels:
                node.close()
            for node in asynchronous.sentinels:
                await node.aclose()


@own_server
async def test_no_primary_that_sentinel_knows(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "sentinel.conf").touch()
    with servers.private_server("--sentinel", port=(port := servers.free_port()), file=str(tmp_path / "sentinel.conf")):
        sentinel: Any = redis.Sentinel([("127.0.0.1", port)], socket_timeout=5)
        with sentinel.master_for("mine") as client:
            kv = runtime.adapt(RedisStore(client=client))
            for call in (lambda: kv.get("k"), lambda: kv.put("k", {})):
                with pytest.raises(StoreConnectionError) as caught:
                    await call()
                assert isinstance(caught.value.__cause__, MasterNotFoundError)
        for node in sentinel.sentinels:
            node.close()


# Clients


@pytest.mark.parametrize("what", ["get", "put", "delete", "wrong type"])
async def test_a_cancelled_call_leaves_its_connection_in_step(redis_url: str, raw: Any, what: str) -> None:
    with proxied(redis_url) as proxy:
        async with RedisStore(url=proxy.url) as kv:
            await kv.put("k", {"a": 1})
            raw.lpush("default_collection::list", "a")
            calls = {"get": kv.get("k"), "put": kv.put("k", {"a": 2}), "delete": kv.delete("k"), "wrong type": kv.get("list")}
            made = proxy.accepted
            async with anyio.create_task_group() as group:
                with proxy.hanging():
                    with anyio.move_on_after(0.05) as scope:
                        await calls.pop(what)
                    assert scope.cancelled_caught
                    group.start_soon(kv.put, "k", {"a": 3})
                    await anyio.sleep(0.05)
            for _ in range(3):
                assert await kv.get_many(["k", "l"]) == [{"a": 3}, None]
                assert await kv.get("k") == {"a": 3}
            # What only reads is not waited for: the put takes another connection.
            assert proxy.accepted == made + (what in ("get", "wrong type"))
            for call in calls.values():
                call.close()


def test_an_asynchronous_client_belongs_to_the_facade_that_uses_it_first(redis_url: str) -> None:
    client = redis.asyncio.Redis.from_url(redis_url)
    with BlockingKeyValue(RedisStore(client=client)) as kv:
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}
        kv._loop.portal().call(client.aclose)  # pyright: ignore[reportPrivateUsage]


# What else lies in the database


async def test_a_key_of_another_type_is_refused(runtime: Runtime, redis_url: str) -> None:
    hooks = HOOKS["redis"]
    hooks.plant_foreign(redis_url)
    before = hooks.contents(redis_url)
    kv = runtime.adapt(RedisStore(url=redis_url))
    for key in ("hash", "list", "set", "zset", "stream"):
        for call in (kv.get, kv.ttl, kv.delete):
            with pytest.raises(StoreRefusedError) as caught:
                await call(key, collection="a")
            assert isinstance(caught.value.__cause__, redis.ResponseError)
    assert hooks.contents(redis_url) == before


GLOBS = ["a", "a*", "*", "?", "a?", "a[1]", "a[^b]", "[a]", "a1", "br\\x", "\\", "\\*", "a\\", "a::b", "a::*", "^", "a-b", "[a-z]"]


async def test_collections_that_look_like_patterns(runtime: Runtime, redis_url: str) -> None:  # H-25
    kv = runtime.adapt(RedisStore(url=redis_url))
    for collection in GLOBS:
        await kv.put_many([collection, "k*", "[k]"], [{}] * 3, collection=collection)
    for collection in GLOBS:
        assert sorted(await kv.keys(collection)) == sorted([collection, "k*", "[k]"])
    for collection in GLOBS[::2]:
        assert await kv.destroy_collection(collection) is True
    assert sorted(await kv.collections()) == sorted(GLOBS[1::2])


async def test_listing_goes_beyond_one_page(runtime: Runtime, redis_url: str, raw: Any) -> None:  # H-26
    raw.mset({f"other:{number}": "x" for number in range(5000)})
    kv = runtime.adapt(RedisStore(url=redis_url))
    await kv.put_many([f"k{number}" for number in range(3000)], [{}] * 3000, collection="c")
    assert len(await kv.keys("c")) == 3000
    assert len(await kv.keys("c", limit=2999)) == 2999
    await kv.put("k", {}, collection="few")  # most pages of a scan for it are empty
    assert await kv.keys("few") == ["k"]
    assert await kv.destroy() is True
    assert raw.dbsize() == 5000


# Refusals hold no values


@contextmanager
def refusing(how: str) -> Generator[str, None, None]:
    """A server that refuses writes."""
    with ExitStack() as stack:
        url = stack.enter_context(servers.private_server())
        client: Any = stack.enter_context(redis.Redis.from_url(url))
        if how == "full":
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")
        elif how == "read-only":
            client.execute_command("REPLICAOF", "127.0.0.1", str(servers.free_port()))
        else:
            client.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"], commands=["-set", "-mset"], keys=["*"])
        yield url


@own_server
@pytest.mark.parametrize("how", ["full", "read-only", "forbidden"])
async def test_refused_writes_show_no_value(runtime: Runtime, how: str) -> None:
    with refusing(how) as url:
        kv = runtime.adapt(RedisStore(url=url))
        value = {"password": SECRET}
        calls = [
            lambda: kv.put("k", value),
            lambda: kv.put("k", value, ttl=50),
            lambda: kv.put("k", value, collection="a::b"),
            lambda: kv.put_many(["k", "l"], [value, value]),
            lambda: kv.put_many(["k", "l"], [value, value], ttl=50),
        ]
        for call in calls:
            with pytest.raises(KeyValueStoreError) as caught:
                await call()
            # A replica may be what a fail-over has left of a primary.
            assert isinstance(caught.value, StoreConnectionError if how == "read-only" else StoreRefusedError)
            assert SECRET not in "".join(everything_said(caught.value))
        assert await kv.get("k") is None
