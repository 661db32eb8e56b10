"""What is RedisStore's own: how it connects, clients of either colour, loops that come and go, and what else lies in the database."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest
import redis
import redis.asyncio
from redis.sentinel import MasterNotFoundError

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import (
    DeserializationError,
    KeyValueStoreError,
    StoreConnectionError,
    StoreRefusedError,
    StoreSetupError,
)
from keyvalue.stores.redis import RedisStore
from keyvalue.testing import Clock
from tests.runtimes import Runtime
from tests.servers import await_answer
from tests.servers import redis as servers
from tests.servers.tls import Files

own_server = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on the PATH")
SECRET = "hunter" + "2" * 5  # put together, so that no line of source in a traceback holds it


@pytest.fixture
def raw(redis_url: str) -> Generator[Any, None, None]:
    """A client to look behind the store's back."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def address(url: str) -> Any:
    host, _, port = url.removeprefix("redis://").partition("/")[0].rpartition(":")
    return {"host": host, "port": int(port)}


# Connecting


@pytest.mark.parametrize(
    "arguments",
    [{"url": ""}, {"url": "localhost"}, {"url": "http://localhost"}, {"url": f"redis://:{SECRET}@host:port/0"}],
)
def test_a_url_that_can_not_be_parsed(arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"URL; it should look like redis://user:password@localhost:6379/0") as caught:
        RedisStore(**arguments)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", [6379, b"redis://localhost"])
def test_a_url_that_is_no_text(url: Any) -> None:
    with pytest.warns(UserWarning, match="url should be"), pytest.raises(TypeError, match=r"URL of RedisStore must be a str, not an? "):
        RedisStore(url=url)


async def test_a_database_that_the_server_has_not(runtime: Runtime, redis_url: str) -> None:
    kv = runtime.adapt(RedisStore(url=redis_url.rpartition("/")[0] + "/9999"))
    with pytest.raises(StoreRefusedError, match="is there such a database"):
        await kv.get("k")


@pytest.mark.parametrize("url", ["redis://localhost/zero", f"rediss://:{SECRET}@localhost/0x1", f"redis://user:12/{SECRET}@localhost"])
def test_a_url_whose_path_is_no_number(url: str) -> None:
    with pytest.raises(ValueError, match="the path of the URL must be the number of a database") as caught:
        RedisStore(url=url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://localhost", "redis://localhost/", "redis://localhost/2", "redis://localhost/x?db=2", "unix:///run/r.sock"]
)
def test_a_url_that_says_the_database_or_leaves_it_out(url: str) -> None:
    RedisStore(url=url)


@pytest.mark.parametrize("more", [{"password": SECRET}, {"host": "other"}, {"db": 1}, {"ssl": True}, {"ssl_ca_certs": "ca.pem"}])
def test_a_url_and_what_it_says(more: Any) -> None:
    with pytest.raises(ValueError, match="the URL says it all") as caught:
        RedisStore(url="redis://localhost", **more)
    assert SECRET not in str(caught.value)


def test_both_client_and_url() -> None:
    with redis.Redis() as client, pytest.raises(ValueError, match="either a client or a url"):
        RedisStore(client=client, url="redis://localhost")


@pytest.mark.parametrize("client", ["redis://localhost", object(), redis.Redis, redis.ConnectionPool()])
def test_a_client_of_a_wrong_type(client: Any) -> None:
    said = r"a Redis or a RedisCluster of redis or redis\.asyncio"
    with pytest.warns(UserWarning, match="client should be"), pytest.raises(TypeError, match=said):
        RedisStore(client=client)


def test_the_constructor_connects_to_nothing() -> None:
    RedisStore()
    RedisStore(url=f"redis://127.0.0.1:{servers.free_port()}")


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


@pytest.fixture(scope="module")
def guarded_url() -> Generator[str, None, None]:
    """A server that wants a password, and its URL without it."""
    with servers.private_server("--requirepass", PASSWORD) as url:
        yield url


PASSWORD = "p@s/" + "wo%rd:#" + SECRET


@own_server
async def test_a_password(runtime: Runtime, guarded_url: str) -> None:  # H-57
    url = guarded_url.replace("://", f"://default:{quote(PASSWORD, safe='')}@")
    kv = runtime.adapt(RedisStore(url=url))
    await kv.put("k", {"a": 1})
    variants: list[Any] = [{"password": PASSWORD}, {"username": "default", "password": PASSWORD}]
    for arguments in variants:
        assert await runtime.adapt(RedisStore(**address(guarded_url), **arguments)).get("k") == {"a": 1}


@own_server
async def test_wrong_credentials_are_refused_and_not_shown(runtime: Runtime, guarded_url: str) -> None:
    for user in ("", "default", "nobody"):
        kv = runtime.adapt(RedisStore(url=guarded_url.replace("://", f"://{user}:{SECRET}@")))
        for call in (lambda kv=kv: kv.get("k"), lambda kv=kv: kv.put_many(["k", "l"], [{}, {}], ttl=5)):
            with pytest.raises(StoreRefusedError, match="check username and password") as caught:
                await call()
            assert SECRET not in f"{caught.value} {caught.value.__cause__}"
    variants: list[Any] = [{}, {"username": "nobody", "password": SECRET}]
    for arguments in variants:
        with pytest.raises(StoreRefusedError, match="credentials"):
            await runtime.adapt(RedisStore(**address(guarded_url), **arguments)).get("k")


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


def fails_over(node: Any) -> bool:
    try:
        return node.execute_command("SENTINEL FAILOVER", "mine")
    except redis.ResponseError:  # it does not know the replica yet
        return False


@own_server
async def test_a_primary_that_sentinel_names(tmp_path: Path) -> None:
    with servers.private_server() as url, servers.private_server("--replicaof", f"127.0.0.1 {address(url)['port']}") as other_url:
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(f"sentinel monitor mine 127.0.0.1 {address(url)['port']} 1\n")
        with servers.private_server("--sentinel", port=(port := servers.free_port()), file=str(configuration)):
            sentinel: Any = redis.Sentinel([("127.0.0.1", port)], socket_timeout=5)
            asynchronous: Any = redis.asyncio.Sentinel([("127.0.0.1", port)], socket_timeout=5)
            with redis.Redis.from_url(other_url) as other, sentinel.master_for("mine") as client:
                async with (
                    asynchronous.master_for("mine") as client_async,
                    RedisStore(client=client) as twin,
                    RedisStore(client=client_async) as kv,
                ):
                    await kv.put("k", {"a": 1})
                    assert await twin.get_many(["k", "l"]) == [{"a": 1}, None]
                    await_answer(lambda: fails_over(sentinel.sentinels[0]), "the discovery of the replica")
                    await_answer(lambda: sentinel.discover_master("mine")[1] == address(other_url)["port"], "the fail-over")
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


async def test_a_server_that_is_not_there(runtime: Runtime) -> None:
    kv = runtime.adapt(RedisStore(url=f"redis://:{SECRET}@127.0.0.1:{servers.free_port()}"))
    for call in (lambda: kv.get("k"), lambda: kv.put("k", {}), lambda: kv.put_many(["k", "l"], [{}, {}], ttl=5), lambda: kv.keys()):
        started = time.monotonic()
        with pytest.raises(StoreConnectionError, match="is it running") as caught:
            await call()
        assert time.monotonic() - started < 20
        assert isinstance(caught.value.__cause__, redis.ConnectionError)
        assert SECRET not in str(caught.value)


@own_server
async def test_a_server_that_is_restarted(runtime: Runtime) -> None:
    port = servers.free_port()
    kv = runtime.adapt(RedisStore(url=f"redis://127.0.0.1:{port}"))
    with pytest.raises(StoreConnectionError):
        await kv.put("k", {})
    for turn in range(2):
        with servers.private_server(port=port):
            await kv.put("k", {"turn": turn})
            assert await kv.get_many(["k", "l"]) == [{"turn": turn}, None]
            await kv.put_many(["k", "l"], [{}, {}], ttl=50)
        for call in (lambda: kv.get("k"), lambda: kv.put_many(["k", "l"], [{}, {}], ttl=5), lambda: kv.delete("k")):
            with pytest.raises(StoreConnectionError, match="reach the server"):
                await call()


@own_server
async def test_a_restart_between_two_calls_goes_unnoticed(runtime: Runtime) -> None:
    port = servers.free_port()
    kv = runtime.adapt(RedisStore(url=f"redis://127.0.0.1:{port}"))
    for turn in range(3):
        with servers.private_server(port=port):
            await kv.put("k", {"turn": turn})
            assert await kv.get("k") == {"turn": turn}


# Given clients

OPTIONS: list[dict[str, Any]] = [
    {},
    {"decode_responses": True},
    {"protocol": 3},
    {"protocol": 3, "decode_responses": True},
    {"encoding": "latin-1", "decode_responses": True},
    {"single_connection_client": True},
]


async def use(kv: Any) -> None:
    """Use every kind of command."""
    await kv.put("é😀", {"é": "😀", "n": 2**70}, collection="a::b")
    await kv.put_many(["k", "l"], [{"é": 1}, {}], ttl=50)
    await kv.put_many(["m", "n"], [{}, {}])
    await kv.put("o", {}, ttl=50)
    assert await kv.get("é😀", collection="a::b") == {"é": "😀", "n": 2**70}
    assert await kv.get_many(["k", "missing"]) == [{"é": 1}, None]
    value, left = await kv.ttl("k")
    assert value == {"é": 1}
    assert 40 < left <= 50
    assert sorted(await kv.keys()) == ["k", "l", "m", "n", "o"]
    assert sorted(await kv.collections()) == ["a::b", "default_collection"]
    assert await kv.delete("é😀", collection="a::b") is True
    assert await kv.delete_many(["k", "missing"]) == 1
    await kv.cull()
    assert await kv.destroy_collection("default_collection") is True
    assert await kv.destroy() is True


@pytest.mark.parametrize("what", ["get", "put", "delete", "wrong type"])
async def test_a_cancelled_call_leaves_its_connection_in_step(redis_url: str, raw: Any, what: str) -> None:
    async with RedisStore(url=redis_url) as kv:
        await kv.put("k", {"a": 1})
        raw.lpush("default_collection::list", "a")
        calls = {"get": kv.get("k"), "put": kv.put("k", {"a": 2}), "delete": kv.delete("k"), "wrong type": kv.get("list")}
        made = raw.info("stats")["total_connections_received"]
        raw.client_pause(300, all=True)
        with anyio.move_on_after(0.05) as scope:
            await calls.pop(what)
        assert scope.cancelled_caught
        await kv.put("k", {"a": 3})
        for _ in range(3):
            assert await kv.get_many(["k", "l"]) == [{"a": 3}, None]
            assert await kv.get("k") == {"a": 3}
        # What only reads is not waited for: the put takes another connection.
        assert raw.info("stats")["total_connections_received"] == made + (what in ("get", "wrong type"))
        for call in calls.values():
            call.close()


@pytest.mark.parametrize("number", range(len(OPTIONS)))
async def test_a_given_synchronous_client_works_everywhere_and_stays_open(runtime: Runtime, redis_url: str, number: int) -> None:  # H-17
    with redis.Redis.from_url(redis_url, **OPTIONS[number]) as client:
        kv = runtime.adapt(RedisStore(client=client))
        await use(kv)
        pool: Any = client.connection_pool
        held: list[Any] = [*getattr(pool, "_available_connections", []), *([client.connection] if client.connection else [])]
        await kv.close()
        await kv.close()
        assert any(connection._sock is not None for connection in held)
        assert client.ping() is True
        await use(runtime.adapt(RedisStore(client=client)))


@pytest.mark.parametrize("number", range(len(OPTIONS)))
async def test_a_given_asynchronous_client_works_on_its_loop_and_stays_open(redis_url: str, number: int) -> None:  # H-17
    async with redis.asyncio.Redis.from_url(redis_url, **OPTIONS[number]) as client:
        async with RedisStore(client=client) as kv:
            await use(kv)
        assert await client.ping() is True
        if number == 0:
            (connection,) = client.connection_pool._available_connections  # pyright: ignore[reportPrivateUsage]
            assert connection.is_connected
        async with RedisStore(client=client) as kv:
            await use(kv)


ELSEWHERE = r"belongs to an asyncio event loop.*Pass a synchronous client"


def test_an_asynchronous_client_is_refused_elsewhere(redis_url: str) -> None:
    client = redis.asyncio.Redis.from_url(redis_url)
    store = RedisStore(client=client)

    async def refused() -> None:
        for call in (lambda: store.get("k"), lambda: store.put("k", {}), store.keys):
            with pytest.raises(StoreSetupError, match=ELSEWHERE):
                await call()

    async def main() -> None:
        await store.put("k", {})
        with ThreadPoolExecutor(1) as pool:
            pool.submit(anyio.run, refused).result()
            pool.submit(anyio.run, refused, backend="trio").result()
        facade = BlockingKeyValue(store)
        with pytest.raises(StoreSetupError, match=ELSEWHERE):
            await asyncio.to_thread(facade.get, "k")
        assert await store.get("k") == {}
        await asyncio.to_thread(facade.close)
        await client.aclose()

    asyncio.run(main())


def test_an_asynchronous_client_is_refused_on_trio_from_the_first_call(redis_url: str) -> None:
    async def main() -> None:
        store = RedisStore(client=redis.asyncio.Redis.from_url(redis_url))
        for call in (store.setup, lambda: store.get("k"), lambda: store.put("k", {})):
            with pytest.raises(StoreSetupError, match=ELSEWHERE):
                await call()
        await store.close()

    anyio.run(main, backend="trio")


def test_an_asynchronous_client_belongs_to_the_facade_that_uses_it_first(redis_url: str) -> None:
    client = redis.asyncio.Redis.from_url(redis_url)
    with BlockingKeyValue(RedisStore(client=client)) as kv:
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}
        kv._loop.portal().call(client.aclose)  # pyright: ignore[reportPrivateUsage]


# Expiry


async def test_the_servers_expiry_is_never_before_the_entrys(runtime: Runtime, redis_url: str, raw: Any) -> None:  # H-21
    kv = runtime.adapt(RedisStore(url=redis_url))
    for ttl in (0.001, 0.4, 1, 1.9999, 2, 100, 10**9):
        await kv.put("a", {}, ttl=ttl)
        await kv.put_many(["b", "c"], [{}, {}], ttl=ttl)
        await kv.put_many(["d"], [{}], ttl=ttl)
        for key in "abcd":
            name = f"default_collection::{key}"
            pipeline = raw.pipeline()
            document, left = pipeline.get(name).pttl(name).execute()
            if document is None:
                assert ttl == 0.001
                continue
            remaining = datetime.fromisoformat(json.loads(document)["expires_at"]).timestamp() - time.time()
            # A key is gone when the millisecond is over in which its time ends.
            assert left + 1 >= remaining * 1000
            assert left <= ceil(ttl * 1000) + 1


async def test_expiry_in_real_time(redis_url: str, raw: Any) -> None:
    async with RedisStore(url=redis_url) as kv:
        await kv.put("k", {}, ttl=0.2)
        await kv.put_many(["l", "m"], [{}, {}], ttl=0.2)
        await kv.put("stays", {})
        await anyio.sleep(0.3)
        assert raw.keys() == [b"default_collection::stays"]
        assert await kv.get_many(["k", "l", "m", "stays"]) == [None, None, None, {}]


async def test_the_document_decides_on_expiry(runtime: Runtime, redis_url: str, raw: Any, clock: Clock) -> None:
    kv = runtime.adapt(RedisStore(url=redis_url))
    await kv.put("k", {}, ttl=50)
    raw.persist("default_collection::k")
    clock.advance(50)
    assert await kv.get("k") is None
    await kv.cull()
    assert raw.keys() == []


# What else lies in the database


def fill(raw: Any) -> dict[bytes, Any]:
    """Put things of others into the database, and return how to tell that they are unchanged."""
    raw.set("a::plain", "text")
    raw.set("a::json", "[1]")
    raw.set("a::nameless", '{"value": {"a": 1}}')
    raw.set("a::elsewhere", '{"version":1,"collection":"b","key":"elsewhere","value":{}}')
    raw.set("a::half", '{"version":1,"collection":"a","value":{}}')
    raw.set("plain", '{"version":1,"collection":"a","key":"plain","value":{}}')
    raw.set(b"a::\xff", b"\xff")
    raw.set(b"\xff::k", b"{}")
    raw.setbit("a::bits", 7, 1)
    raw.hset("a::hash", "collection", "a")
    raw.rpush("a::list", "x")
    raw.sadd("a::set", "x")
    raw.zadd("a::zset", {"x": 1})
    raw.xadd("a::stream", {"x": 1})
    raw.rpush("a::b::k", "x")
    return {key: raw.dump(key) for key in raw.keys("*")}


async def test_what_others_wrote_survives_and_is_not_listed(runtime: Runtime, redis_url: str, raw: Any) -> None:  # H-27
    kv = runtime.adapt(RedisStore(url=redis_url))
    theirs = fill(raw)
    for collection in ("a", "b", "c"):
        await kv.put_many(["k", "l"], [{}, {}], collection=collection, ttl=50)
    assert sorted(await kv.keys("a")) == ["k", "l"]
    assert sorted(await kv.collections()) == ["a", "b", "c"]
    await kv.cull()
    assert await kv.destroy_collection("a") is True
    assert await kv.destroy_collection("a") is False
    assert await kv.destroy() is True
    assert await kv.collections() == []
    assert {key: raw.dump(key) for key in raw.keys("*")} == theirs


@pytest.mark.parametrize("name", ["hash", "list", "set", "zset", "stream"])
async def test_a_key_of_another_type_is_refused(runtime: Runtime, redis_url: str, raw: Any, name: str) -> None:
    fill(raw)
    kv = runtime.adapt(RedisStore(url=redis_url))
    before = raw.dump(f"a::{name}")
    for call in (kv.get, kv.ttl, kv.delete):
        with pytest.raises(StoreRefusedError) as caught:
            await call(name, collection="a")
        assert isinstance(caught.value.__cause__, redis.ResponseError)
    assert raw.dump(f"a::{name}") == before


async def test_what_lies_at_an_old_place_does_not_disturb_the_new_one(runtime: Runtime, redis_url: str, raw: Any) -> None:
    kv = runtime.adapt(RedisStore(url=redis_url))
    theirs = fill(raw)
    await kv.put("k", {"a": 1}, collection="a::b")
    await kv.put_many(["k", "l"], [{"a": 2}, {}], collection="a::b", ttl=50)
    assert await kv.get("k", collection="a::b") == {"a": 2}
    assert await kv.get_many(["k"], collection="a::b") == [{"a": 2}]
    assert await kv.delete("k", collection="a::b") is True
    assert await kv.delete("k", collection="a::b") is False
    assert raw.dump("a::b::k") == theirs[b"a::b::k"]


@pytest.mark.parametrize("damaged", [b"secret-text", b"\xff", b"", b"[]", b'{"version":1}', b'{"version":1,"value":{"a":"secret-text'])
async def test_a_damaged_row_is_an_error_for_its_own_key_alone(runtime: Runtime, redis_url: str, raw: Any, damaged: bytes) -> None:  # H-37
    kv = runtime.adapt(RedisStore(url=redis_url))
    await kv.put_many(["good", "bad"], [{"a": 1}, {}], collection="c")
    raw.set("c::bad", damaged)
    for call in (lambda: kv.get("bad", collection="c"), lambda: kv.get_many(["good", "bad"], collection="c")):
        with pytest.raises(DeserializationError, match="overwrite") as caught:
            await call()
        assert caught.value.extra_info == {"collection": "c", "key": "bad"}
        assert "secret" not in str(caught.value)
    assert await kv.get("good", collection="c") == {"a": 1}
    assert await kv.keys("c") == ["good"]
    await kv.cull()
    assert await kv.delete("bad", collection="c") is True
    raw.set("c::bad", damaged)
    await kv.put("bad", {"a": 2}, collection="c")
    assert await kv.get("bad", collection="c") == {"a": 2}


async def test_a_row_that_names_another_pair_is_missing_to_every_call(runtime: Runtime, redis_url: str, raw: Any) -> None:
    kv = runtime.adapt(RedisStore(url=redis_url))
    await kv.put("k", {"a": 1}, collection="c")
    raw.rename("c::k", "c::l")
    assert await kv.get("l", collection="c") is None
    assert await kv.delete("l", collection="c") is False
    assert await kv.delete_many(["l", "k"], collection="c") == 0
    assert await kv.keys("c") == []


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
            error: BaseException | None = caught.value
            while error is not None:
                assert SECRET not in f"{error!r} {error}"
                error = error.__cause__ or error.__context__
        assert await kv.get("k") is None
