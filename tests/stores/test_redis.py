"""What is RedisStore's own: how it connects, Sentinel, connections in step, and what else lies in the database."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path
from queue import Empty
from typing import Any
from unittest.mock import AsyncMock, Mock
from urllib.parse import quote

import anyio
import pytest
import redis
import redis.asyncio
from redis.sentinel import MasterNotFoundError

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import StoreConnectionError, StoreRefusedError
from keyvalue.stores._drivers.redis_client import disconnect, disconnect_idle
from keyvalue.stores.redis import RedisStore
from tests.conftest import skip_or_fail
from tests.proxy import Proxy
from tests.runtimes import Runtime
from tests.servers import await_answer, free_port
from tests.servers.redis import REDIS, private_server, with_tls
from tests.stores.hooks import PASSWORD, SECRET, Hooks, address, assert_raised

pytestmark = pytest.mark.backends("redis")
Servers = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def servers() -> Servers:
    """Start servers of the test's own."""
    if why := REDIS.absent():
        skip_or_fail("redis", why)
    return private_server


# Connecting


@pytest.mark.parametrize("url", [6379, b"redis://localhost"])
def test_a_url_that_is_no_text(url: Any) -> None:
    with pytest.raises(TypeError, match=r"URL of RedisStore must be a str, not (an int|bytes)"):
        RedisStore(url=url)


async def test_a_database_that_the_server_has_not(runtime: Runtime, url: str) -> None:
    kv = runtime.adapt(RedisStore(url=url.rpartition("/")[0] + "/9999"))
    await assert_raised(StoreRefusedError, "is there such a database", lambda: kv.get("k"))


async def test_the_database_of_a_url_and_its_options(runtime: Runtime, url: str) -> None:  # H-57
    base = url.rpartition("/")[0]
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
        again = runtime.adapt(RedisStore(**address(url), db=3))
        assert await again.destroy() is True
        assert three.keys() == []


async def test_a_password(runtime: Runtime, servers: Servers) -> None:  # H-57
    with servers("--requirepass", PASSWORD) as url:
        there = address(url)
        good: list[Any] = [{"password": PASSWORD}, {"username": "default", "password": PASSWORD}]
        for arguments in good:
            assert await runtime.adapt(RedisStore(url=url, **arguments)).get("k") is None
        await runtime.adapt(RedisStore(url=url.replace("://", f"://default:{quote(PASSWORD, safe='')}@"))).put("k", {"a": 1})
        for arguments in good:
            assert await runtime.adapt(RedisStore(**there, **arguments)).get("k") == {"a": 1}
        wrong: list[Any] = [{"url": url.replace("://", f"://{user}:{SECRET}@")} for user in ("", "default", "nobody")]
        wrong += [there, {**there, "username": "nobody", "password": SECRET}]
        for arguments in wrong:
            kv = runtime.adapt(RedisStore(**arguments))
            calls = [partial(kv.get, "k"), partial(kv.put_many, ["k", "l"], [{}, {}], ttl=5)]
            await assert_raised(StoreRefusedError, "check username and password", *calls)


def test_a_repr_without_a_host() -> None:
    assert "r.sock" in repr(RedisStore(url=f"unix://user:{SECRET}@/run/r.sock"))
    assert "localhost" in repr(RedisStore(password=SECRET))


async def test_a_unix_socket(runtime: Runtime, servers: Servers, tmp_path: Path) -> None:  # H-57
    with servers("--unixsocket", str(tmp_path / "redis.sock")):
        kv = runtime.adapt(RedisStore(url=f"unix://{tmp_path}/redis.sock?db=1"))
        await kv.put("k", {"a": 1})
        assert await kv.get("k") == {"a": 1}


async def test_a_write_over_a_unix_socket_is_not_sent_again(runtime: Runtime, tmp_path: Path) -> None:
    commands: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                command = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
                if command[0] in (b"SET", b"GETDEL"):
                    commands.append(command[0])
                    return  # without an answer
                self.wfile.write(b"%1\r\n+proto\r\n:3\r\n" if command[0] == b"HELLO" else b"+OK\r\n")

    path = str(tmp_path / "r.sock")
    with socketserver.ThreadingUnixStreamServer(path, Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            kv = runtime.adapt(RedisStore(url=f"unix://{path}"))
            await assert_raised(StoreConnectionError, "over its socket", lambda: kv.put("k", {}), lambda: kv.delete("k"))
            assert commands == [b"SET", b"GETDEL"]
        finally:
            server.shutdown()
    await assert_raised(StoreConnectionError, "nothing listens on this socket", lambda: kv.put("k", {}))


@pytest.fixture
def tls(servers: Servers, tmp_path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """A server that speaks TLS: its port, and the options that a client needs."""
    with with_tls(tmp_path) as (port, files):
        yield port, dict(zip(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), map(str, files), strict=True))


async def test_tls(runtime: Runtime, tls: tuple[int, dict[str, str]]) -> None:
    port, files = tls
    options = "&".join(f"{name}={quote(value, safe='')}" for name, value in files.items())
    good: list[Any] = [
        {"host": "127.0.0.1", "port": port, **files},
        {"url": f"rediss://127.0.0.1:{port}/0?{options}"},
        {"host": "127.0.0.1", "port": port, "ssl": True, **files, "ssl_cert_reqs": "none", "ssl_check_hostname": False},
        {"url": f"redis://127.0.0.1:{port}/0", **files},
        {"url": f"rediss://localhost:{port}/0", **files, "ssl_check_hostname": False},
        {"url": f"redis://127.0.0.1:{port}/0", "ssl": True, **files, "ssl_cert_reqs": ssl.CERT_NONE},
        {"host": "127.0.0.1", "port": port, **files, "ssl_cert_reqs": "CERT_NONE"},
    ]
    for number, arguments in enumerate(good):
        kv = runtime.adapt(RedisStore(**arguments))
        await kv.put("k", {"n": number})
        assert await kv.get("k") == {"n": number}
    bad: list[Any] = [{"ssl": True}, {"ssl_check_hostname": False}, {}]  # no authority; no certificate; no TLS
    for arguments in bad:
        with pytest.raises(StoreConnectionError):
            await runtime.adapt(RedisStore(host="127.0.0.1", port=port, **arguments, timeout=2.0)).get("k")


def has_failed_over(sentinel: Any, port: int) -> bool:
    """Have Sentinel replace the primary, which takes until it knows the replica and finds it fit; return whether it has done so."""
    if sentinel.discover_master("mine")[1] == port:
        return True
    with suppress(redis.ResponseError):
        sentinel.sentinels[0].execute_command("SENTINEL FAILOVER", "mine")
    return False


@pytest.mark.runtimes("asyncio")
async def test_a_primary_that_sentinel_names(runtime: Runtime, servers: Servers, tmp_path: Path) -> None:
    at_once = ("--repl-diskless-sync-delay", "0")  # not after five seconds, for which a primary that stops waits too
    with ExitStack() as stack:
        url = stack.enter_context(servers(*at_once))
        other_url = stack.enter_context(servers(*at_once, "--replicaof", f"127.0.0.1 {address(url)['port']}"))
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(f"sentinel monitor mine 127.0.0.1 {address(url)['port']} 1\n")
        with servers("--sentinel", port=(port := free_port()), file=str(configuration)):
            sentinel: Any = redis.Sentinel([("127.0.0.1", port)], socket_timeout=5)
            asynchronous: Any = redis.asyncio.Sentinel([("127.0.0.1", port)], socket_timeout=5)
            with suppress(redis.ResponseError):  # before Redis 7, it looks only every ten seconds
                sentinel.sentinels[0].execute_command("SENTINEL DEBUG", "INFO-PERIOD", 200, "PUBLISH-PERIOD", 200)  # milliseconds
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
                        await runtime.eventually(lambda: kv.put("k", {"a": 2}))
                        document = other.get("default_collection::k")
                        if b'{"a":2}' in (document or b""):
                            break
                        await anyio.sleep(0.05)
                    assert b'{"a":2}' in document
                    assert await runtime.eventually(lambda: twin.get("k")) == {"a": 2}
            for node in sentinel.sentinels:
                node.close()
            for node in asynchronous.sentinels:
                await node.aclose()


async def test_no_primary_that_sentinel_knows(runtime: Runtime, servers: Servers, tmp_path: Path) -> None:
    (tmp_path / "sentinel.conf").touch()
    with servers("--sentinel", port=(port := free_port()), file=str(tmp_path / "sentinel.conf")):
        sentinel: Any = redis.Sentinel([("127.0.0.1", port)], socket_timeout=5)
        with sentinel.master_for("mine") as client:
            kv = runtime.adapt(RedisStore(client=client))
            for error in await assert_raised(StoreConnectionError, "is it running", lambda: kv.get("k"), lambda: kv.put("k", {})):
                assert isinstance(error.__cause__, MasterNotFoundError)
        for node in sentinel.sentinels:
            node.close()


# Clients


@pytest.mark.parametrize("what", ["get", "put", "delete", "wrong type"])
async def test_a_cancelled_call_leaves_its_connection_in_step(proxy: Proxy, raw: Any, what: str) -> None:
    async with RedisStore(url=proxy.url) as kv:
        await kv.put("k", {"a": 1})
        raw.lpush("default_collection::list", "a")
        calls = {"get": partial(kv.get, "k"), "put": partial(kv.put, "k", {"a": 2}), "delete": partial(kv.delete, "k")}
        calls["wrong type"] = partial(kv.get, "list")
        made = proxy.accepted
        async with anyio.create_task_group() as group:
            with proxy.hanging():
                with anyio.move_on_after(0.05) as scope:
                    await calls[what]()
                assert scope.cancelled_caught
                group.start_soon(kv.put, "k", {"a": 3})
                await anyio.sleep(0.05)
        for _ in range(3):
            assert await kv.get_many(["k", "l"]) == [{"a": 3}, None]
            assert await kv.get("k") == {"a": 3}
        # What only reads is not waited for: the put takes another connection.
        assert proxy.accepted == made + (what in ("get", "wrong type"))


def test_an_answer_that_is_lost_is_no_answer(proxy: Proxy) -> None:
    with BlockingKeyValue(RedisStore(url=proxy.url)) as kv:
        kv.put("k", {"a": 1})
        proxy.cuts = 1
        assert kv.get("k") == {"a": 1}
        for delete in (lambda: kv.delete("k"), lambda: kv.delete_many(["k"])):
            kv.put("k", {"a": 1})
            proxy.cuts = 1
            with pytest.raises(StoreConnectionError):  # it was deleted; sent again, the command would say that it was not there
                delete()
            assert kv.get("k") is None


def test_an_asynchronous_client_belongs_to_the_facade_that_uses_it_first(url: str) -> None:
    client = redis.asyncio.Redis.from_url(url)
    with BlockingKeyValue(RedisStore(client=client)) as kv:
        kv.put("k", {"a": 1})
        assert kv.get("k") == {"a": 1}
        kv._loop.portal().call(client.aclose)  # pyright: ignore[reportPrivateUsage]


async def test_a_mistake_in_a_program_is_no_lost_connection(runtime: Runtime, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = runtime.adapt(RedisStore(url=url))
    await kv.get("k")
    monkeypatch.setattr(RedisStore, "_execute", Mock(side_effect=AttributeError("missing")))
    with pytest.raises(AttributeError, match="missing"):
        await kv.get("k")


async def test_a_connection_that_ends_before_it_is_written_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with redis.asyncio.Redis.from_url(url) as client, RedisStore(client=client) as kv:
        await kv.get("k")
        pool: Any = client.connection_pool
        (connection,) = pool._available_connections
        connection._writer.transport.abort()
        await anyio.sleep(0.01)
        monkeypatch.setattr(connection, "can_read_destructive", AsyncMock(return_value=False))  # it ends after that
        await assert_raised(StoreConnectionError, "lost|could not reach", partial(kv.delete, "k"))
        assert await kv.get("k") is None


def test_only_connections_that_nobody_uses_are_closed(url: str) -> None:
    pool: Any = redis.BlockingConnectionPool.from_url(url, max_connections=3)
    connections, taken = [pool.get_connection() for _ in range(2)], []

    def disconnect(connection: Any) -> None:
        assert connection not in taken
        with suppress(Empty):
            taken.append(pool.pool.get_nowait())  # as another thread may

    for connection in connections:
        pool.release(connection)
        connection.disconnect = partial(disconnect, connection)
    disconnect_idle(pool)
    assert [pool.get_connection() for _ in range(3 - len(taken))][:2] == connections[::-1]


def test_an_only_connection_is_not_closed_under_a_call(url: str) -> None:
    with redis.Redis.from_url(url, single_connection_client=True) as client:
        connection: Any = client.connection
        with client.single_connection_lock:
            closing = threading.Thread(target=disconnect, args=(client,))
            closing.start()
            closing.join(0.1)
            assert connection._sock is not None
        closing.join()
        assert connection._sock is None


# What else lies in the database


async def test_a_key_of_another_type_is_refused(kv: Any, hooks: Hooks, url: str) -> None:
    hooks.plant_foreign(url)
    before = hooks.contents(url)
    for key in ("hash", "list", "set", "zset", "stream"):
        calls = [partial(call, key, collection="a") for call in (kv.get, kv.ttl, kv.delete)]
        for error in await assert_raised(StoreRefusedError, "answers WRONGTYPE: the key holds something other than a string", *calls):
            assert isinstance(error.__cause__, redis.ResponseError)
    assert hooks.contents(url) == before


async def test_listing_goes_beyond_one_page(kv: Any, raw: Any) -> None:  # H-26
    raw.mset({f"other:{number}": "x" for number in range(5000)})
    await kv.put_many([f"k{number}" for number in range(3000)], [{}] * 3000, collection="c")
    assert len(await kv.keys("c")) == 3000
    assert len(await kv.keys("c", limit=2999)) == 2999
    await kv.put("k", {}, collection="few")  # most pages of a scan for it are empty
    assert await kv.keys("few") == ["k"]
    assert await kv.destroy() is True
    assert raw.dbsize() == 5000


# Refusals hold no values


REFUSING = {
    "full": ["CONFIG SET maxmemory-policy noeviction", "CONFIG SET maxmemory 1"],
    "read-only": ["REPLICAOF 127.0.0.1 1"],
    "forbidden": ["ACL SETUSER default on nopass ~* +@all -set -mset"],
}
"""What has a server refuse writes, by why it does."""


@pytest.mark.parametrize("how", REFUSING)
async def test_refused_writes_show_no_value(runtime: Runtime, servers: Servers, how: str) -> None:
    with servers() as url, redis.Redis.from_url(url) as client:
        for command in REFUSING[how]:
            client.execute_command(*command.split())
        kv = runtime.adapt(RedisStore(url=url))
        value = {"password": SECRET}
        calls = [
            lambda: kv.put("k", value),
            lambda: kv.put("k", value, ttl=50),
            lambda: kv.put("k", value, collection="a::b"),
            lambda: kv.put_many(["k", "l"], [value, value]),
            lambda: kv.put_many(["k", "l"], [value, value], ttl=50),
        ]
        # A replica may be what a fail-over has left of a primary.
        await assert_raised(StoreConnectionError if how == "read-only" else StoreRefusedError, "RedisStore", *calls)
        assert await kv.get("k") is None


# Listing


async def test_who_may_only_read_can_list(runtime: Runtime, url: str) -> None:
    reader = runtime.adapt(RedisStore(url=url.replace("://", "://reader:r@")))
    keys = [f"k{number}" for number in range(5)]
    with redis.Redis.from_url(url) as client:
        client.acl_setuser("reader", enabled=True, passwords=["+r"], categories=["+@read", "+@connection"], keys=["*"])
        try:
            await runtime.adapt(RedisStore(url=url)).put_many(keys, [{}] * 5)
            assert sorted(await reader.keys()) == keys
        finally:
            client.acl_deluser("reader")
