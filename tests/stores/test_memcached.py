"""What is MemcachedStore's own: how it connects, clients of either kind, names and values that Memcached can't hold, and its expiry."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiomcache
import anyio
import pymemcache
import pytest

from keyvalue._core.sanitization import AlwaysHashStrategy, HashExcessLengthStrategy, HybridSanitizationStrategy
from keyvalue.errors import DeserializationError, StoreConnectionError, StoreRefusedError, StoreSetupError, ValueTooLargeError
from keyvalue.stores.memcached import MemcachedStore, MemcachedV1KeySanitizationStrategy
from keyvalue.testing import Clock
from tests.runtimes import Runtime
from tests.servers import Running, free_port
from tests.servers import memcached as servers
from tests.servers.memcached import MEMCACHED

own_server = pytest.mark.skipif(MEMCACHED.absent() is not None, reason="no memcached on the PATH")
SECRET = "hunter" + "2" * 5  # put together, so that no line of source in a traceback holds it


@pytest.fixture
def server(empty_server: Callable[[str], str]) -> dict[str, Any]:
    return address(empty_server("memcached"))


@pytest.fixture
def raw(server: dict[str, Any]) -> Generator[Any, None, None]:
    """A client to look behind the store's back."""
    client = pymemcache.Client((server["host"], server["port"]), default_noreply=False, allow_unicode_keys=True)
    yield client
    client.close()


def address(url: str) -> dict[str, Any]:
    where = urlsplit(url)
    return {"host": where.hostname, "port": where.port}


def items(server: dict[str, Any]) -> dict[str, int]:
    return servers.items(f"memcached://{server['host']}:{server['port']}")


@contextmanager
def private(port: int) -> Generator[Running, None, None]:
    assert MEMCACHED.private is not None
    with MEMCACHED.private(port, "") as running:
        yield running


# Connecting


def test_arguments_that_exclude_each_other() -> None:
    exclusive: list[dict[str, Any]] = [{"host": "localhost"}, {"port": 1}]
    for arguments in exclusive:
        with pytest.raises(ValueError, match="either a client or"):
            MemcachedStore(client=aiomcache.Client("127.0.0.1"), **arguments)


@pytest.mark.parametrize("arguments", [{"timeout": 0}, {"timeout": -1.0}, {"max_value_size": 0}])
def test_limits_must_be_positive(arguments: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        MemcachedStore(**arguments)


@pytest.mark.parametrize("client", ["localhost", object(), aiomcache.Client, pymemcache.HashClient([])])
def test_a_client_of_a_wrong_type(client: Any) -> None:
    with pytest.raises(TypeError, match=r"aiomcache\.Client, a pymemcache"):
        MemcachedStore(client=client)


def test_the_constructor_connects_to_nothing() -> None:
    MemcachedStore()
    MemcachedStore(port=free_port())


def calls(kv: Any) -> list[Callable[[], Any]]:
    return [
        lambda: kv.get("k"),
        lambda: kv.put("k", {"password": SECRET}),
        lambda: kv.put("k", {"password": SECRET}, collection="a::"),
        lambda: kv.put_many(["k", "l"], [{}, {}], ttl=5),
        lambda: kv.get_many(["k", "l"]),
        lambda: kv.delete("k"),
    ]


async def test_a_server_that_is_not_there(runtime: Runtime) -> None:
    kv = runtime.adapt(MemcachedStore(port=free_port()))
    for call in calls(kv):
        started = time.monotonic()
        with pytest.raises(StoreConnectionError, match="is it running") as caught:
            await call()
        assert time.monotonic() - started < 20
        assert isinstance(caught.value.__cause__, OSError)
        assert SECRET not in str(caught.value)


async def test_a_host_with_several_addresses(runtime: Runtime, server: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def addresses(host: str, port: int, *_: object, **__: object) -> Any:
        assert host == "several"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (where, port)) for where in ("127.0.0.254", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    kv = runtime.adapt(MemcachedStore(host="several", port=server["port"]))
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}


@own_server
async def test_a_server_that_is_restarted(runtime: Runtime) -> None:
    port = free_port()
    kv = runtime.adapt(MemcachedStore(port=port))
    with pytest.raises(StoreConnectionError):
        await kv.put("k", {})
    for turn in range(2):
        with private(port):
            await kv.put("k", {"turn": turn})
            assert await kv.get_many(["k", "l"]) == [{"turn": turn}, None]
        for call in calls(kv):
            with pytest.raises(StoreConnectionError, match="reach the server"):
                await call()


@own_server
async def test_a_restart_between_two_calls_goes_unnoticed(runtime: Runtime) -> None:
    port = free_port()
    kv = runtime.adapt(MemcachedStore(port=port))
    for turn in range(3):
        with private(port):
            assert await kv.get("k") is None
            await kv.put("k", {"turn": turn})
            if runtime.name in ("asyncio", "trio"):  # so that there are several connections, all soon dead
                async with anyio.create_task_group() as group:
                    for _ in range(20):
                        group.start_soon(kv.get, "k")
            assert await kv.get("k") == {"turn": turn}


@own_server
async def test_a_server_that_hangs(runtime: Runtime) -> None:
    port = free_port()
    with private(port) as running:
        kv = runtime.adapt(MemcachedStore(port=port, timeout=0.3))
        await kv.put_many(["k", "l"], [{"of": "k"}, {"of": "l"}])
        with running.suspended():
            for call in calls(kv)[:3]:
                with pytest.raises(StoreConnectionError, match="in time"):
                    await call()
        assert await kv.get("l") == {"of": "l"}
        await kv.put("k", {"again": True})
        assert await kv.get_many(["k", "l"]) == [{"again": True}, {"of": "l"}]


def test_a_server_that_sends_what_nobody_understands() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(f"{SECRET}\r\n".encode())
        await reader.read()
        writer.close()

    async def main() -> None:
        nonsense = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with nonsense, MemcachedStore(port=nonsense.sockets[0].getsockname()[1]) as kv:
            for _ in range(2):
                with pytest.raises(StoreRefusedError) as caught:
                    await kv.get("k")
                assert SECRET not in f"{caught.value} {caught.value.__cause__}"

    asyncio.run(main())


@own_server
def test_replies_that_come_in_pieces(server: dict[str, Any]) -> None:
    async def pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(server["host"], server["port"])

        async def forth() -> None:
            while data := await reader.read(65536):
                back.write(data)
            back.close()

        forwarding = asyncio.create_task(forth())
        while data := await there.read(65536):
            for byte in data:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.0001)  # a turn of the loop for which it looks at the sockets
        await forwarding
        writer.close()

    async def main() -> None:
        proxy = await asyncio.start_server(pieces, "127.0.0.1", 0)
        async with proxy, MemcachedStore(port=proxy.sockets[0].getsockname()[1]) as kv:
            keys = ["a", "b", "c"]
            values = [{"text": "\r\nEND\r\n" * number} for number in range(3)]
            await kv.put_many(keys, values)
            assert await asyncio.gather(*(kv.get(key) for key in keys)) == values
            assert await kv.get_many([*keys, "missing"]) == [*values, None]
            assert await kv.delete_many(keys) == 3

    asyncio.run(main())


async def test_a_text_that_looks_like_the_end_of_a_reply(runtime: Runtime, server: dict[str, Any], raw: Any) -> None:
    kv = runtime.adapt(MemcachedStore(**server))
    raw.set("c::k", b'{"version": 1,\r\nEND\r\n'.replace(b"END", b"") + b'"value":\r\n\r\n{"a": 1}}\r\n')
    raw.set("c::l", b"END\r\nVALUE c::m 0 2\r\n{}\r\nEND\r\n")
    assert await kv.get("k", collection="c") == {"a": 1}
    with pytest.raises(DeserializationError):
        await kv.get("l", collection="c")
    assert await kv.get_many(["k", "m"], collection="c") == [{"a": 1}, None]


# Given clients


async def use(kv: Any) -> None:
    """Use every kind of command."""
    await kv.put("é😀", {"é": "😀", "n": 2**70}, collection="a::b")
    await kv.put_many(["k", "l"], [{"é": 1}, {}], ttl=50)
    await kv.put_many(["a::b", ":k"], [{}, {}])
    await kv.put("a::b", {"again": True}, ttl=50)
    assert await kv.get("é😀", collection="a::b") == {"é": "😀", "n": 2**70}
    assert await kv.get_many(["k", "missing", "a::b"]) == [{"é": 1}, None, {"again": True}]
    value, left = await kv.ttl("k")
    assert value == {"é": 1}
    assert 40 < left <= 50
    assert await kv.delete("é😀", collection="a::b") is True
    assert await kv.delete("é😀", collection="a::b") is False
    assert await kv.delete_many(["k", "missing", "a::b", ":k", "l"]) == 4


@pytest.mark.parametrize("kind", [pymemcache.Client, pymemcache.PooledClient])
async def test_a_given_synchronous_client_works_everywhere_and_stays_open(runtime: Runtime, server: dict[str, Any], kind: Any) -> None:
    client: Any = kind((server["host"], server["port"]))
    for _ in range(2):
        kv = runtime.adapt(MemcachedStore(client=client))
        await use(kv)
        await kv.close()
    connection = client if kind is pymemcache.Client else client.client_pool.free[0]
    assert connection.sock is not None
    client.close()


async def test_a_pool_with_a_limit_is_not_asked_for_more(server: dict[str, Any]) -> None:
    client: Any = pymemcache.PooledClient((server["host"], server["port"]), max_pool_size=2)
    async with MemcachedStore(client=client) as kv, anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(kv.put, f"k{number}", {})
    client.close()


async def test_a_given_asynchronous_client_lends_its_address(runtime: Runtime, server: dict[str, Any]) -> None:
    client = aiomcache.Client(server["host"], server["port"], conn_args={"limit": 2**20})
    kv = runtime.adapt(MemcachedStore(client=client))
    await use(kv)


async def test_a_given_asynchronous_client_stays_open(server: dict[str, Any]) -> None:
    client = aiomcache.Client(server["host"], server["port"], conn_args={"local_addr": ("127.0.0.2", 0)})
    await client.set(b"default_collection::k", b'{"value": {"a": 1}}')
    async with MemcachedStore(client=client) as kv:
        for _ in range(5):  # H-15
            with anyio.move_on_after(0):
                await kv.get("k")
        assert await kv.get("k") == {"a": 1}
    assert await client.get(b"default_collection::k") == b'{"value": {"a": 1}}'
    await client.close()


async def test_options_for_asyncio_are_refused_elsewhere(runtime: Runtime, server: dict[str, Any]) -> None:
    client = aiomcache.Client(server["host"], server["port"], conn_args={"local_addr": ("127.0.0.2", 0)})
    kv = runtime.adapt(MemcachedStore(client=client))
    if runtime.name in ("asyncio", "portal"):
        await use(kv)
        return
    with pytest.raises(StoreSetupError, match=r"local_addr.*Pass one of pymemcache"):
        await kv.get("k")


async def test_close_waits_for_the_replies_that_are_still_to_come(server: dict[str, Any], raw: Any) -> None:
    store = MemcachedStore(**server)
    await store.setup()
    await store.get("k")
    for number in range(200):
        with anyio.move_on_after(0):
            await store.put(f"k{number}", {})
    await store.close()
    assert len(raw.get_many([f"default_collection::k{number}" for number in range(200)])) == 200

    store = MemcachedStore(**server)
    keys = [f"large{number}" for number in range(20)]
    await store.put_many(keys, [{"x": "x" * 500_000}] * 20)
    reading = asyncio.create_task(store.get_many(keys))
    await asyncio.sleep(0)
    await store.close()
    assert await reading == [{"x": "x" * 500_000}] * 20


# Expiry


async def test_the_servers_expiry_is_never_before_the_entrys(runtime: Runtime, server: dict[str, Any], raw: Any) -> None:  # H-21
    kv = runtime.adapt(MemcachedStore(**server))
    days = 24 * 3600
    for ttl in (0.001, 0.4, 1, 1.9999, 2, 100, 30 * days - 1, 30 * days, 30 * days + 1, 300 * days):
        await kv.put("a", {}, ttl=ttl)
        await kv.put_many(["b", "x::c"], [{}, {}], ttl=ttl)
        await kv.put_many([":d"], [{}], ttl=ttl)
        expiries = items(server)
        for key in ("a", "b", "x::c", ":d"):
            name = f"default_collection::{key}"
            expires_at = datetime.fromisoformat(json.loads(raw.get(name))["expires_at"]).timestamp()
            # The server's clock is behind by up to a second, and so is what it says.
            assert expires_at - 1.1 < expiries[name] < expires_at + 5


async def test_an_expiry_that_memcached_can_not_hold(server: dict[str, Any]) -> None:
    async with MemcachedStore(**server) as kv:
        await kv.put("k", {}, ttl=2**31)
        await kv.put("l", {}, ttl=2**31 - time.time() - 3600)
        await kv.put("m", {})
        expiries = items(server)
        assert expiries["default_collection::k"] == expiries["default_collection::m"] == -1
        assert expiries["default_collection::l"] > 2**31 - 3700
        assert await kv.get_many(["k", "l", "m"]) == [{}, {}, {}]


async def test_expiry_in_real_time(server: dict[str, Any], raw: Any) -> None:
    async with MemcachedStore(**server) as kv:
        await kv.put("stays", {})
        deadlines: dict[str, float] = {}
        for number in range(10):  # wherever in the server's second
            await kv.put(f"k{number}", {}, ttl=1.9)
            deadlines[f"k{number}"] = time.monotonic() + 1.9
            await anyio.sleep(0.1)
        while time.monotonic() < deadlines["k9"]:
            there = raw.get_many([f"default_collection::{key}" for key in deadlines])
            now = time.monotonic()
            assert [key for key, deadline in deadlines.items() if now < deadline and f"default_collection::{key}" not in there] == []
            assert [key for key in deadlines if now > deadlines[key] and await kv.get(key) is not None] == []
            await anyio.sleep(0.02)
        while raw.get_many([f"default_collection::{key}" for key in deadlines]):
            assert time.monotonic() - deadlines["k9"] < 6
            await anyio.sleep(0.1)
        assert raw.get("default_collection::stays") is not None


async def test_the_document_decides_on_expiry(runtime: Runtime, server: dict[str, Any], raw: Any, clock: Clock) -> None:
    kv = runtime.adapt(MemcachedStore(**server))
    await kv.put("k", {}, ttl=50)
    raw.touch("default_collection::k", 0)
    clock.advance(50)
    assert await kv.get("k") is None
    assert await kv.delete("k") is False
    assert items(server) == {}


# Names


def hashed(collection: str, key: str) -> str:
    return "~" + hashlib.sha256(f"{len(collection)}:{collection}:{key}".encode()).hexdigest()


FITTING = ["k", "x" * 247, "é" * 123, "😀\ufeff\u200b", "a/b*?[c]\\", "%41", "~", "'\""]
UNFITTING = ["x" * 248, "é" * 124, "a b", " ", "\t", "a\0b", "a\nb", "\x7f", "\x85", "\xa0", "\u3000", "x" * 10_000]


async def test_where_entries_lie(runtime: Runtime, server: dict[str, Any], raw: Any) -> None:
    kv = runtime.adapt(MemcachedStore(**server))
    await kv.put_many([*FITTING, *UNFITTING], [{"k": key} for key in [*FITTING, *UNFITTING]], collection="c")
    names = {f"c::{key}": key for key in FITTING} | {hashed("c", key): key for key in UNFITTING}
    assert set(items(server)) == set(names)
    for name, key in names.items():
        document = json.loads(raw.get(name))
        assert list(document) == ["version", "collection", "created_at", "key", "value"]
        assert (document["collection"], document["key"], document["value"]) == ("c", key, {"k": key})
        assert await kv.get(key, collection="c") == {"k": key}
    assert await kv.delete_many([*FITTING, *UNFITTING], collection="c") == len(names)
    assert items(server) == {}


async def test_where_entries_lie_whose_names_would_be_mixed(runtime: Runtime, server: dict[str, Any]) -> None:
    kv = runtime.adapt(MemcachedStore(**server))
    await kv.put("k", {"a": 1}, collection="a::b")
    await kv.put("b::l", {"a": 2}, collection="a")
    await kv.put("k" * 250, {"a": 3}, collection="a::b")
    await kv.put("::" + "k" * 250, {"a": 4}, collection="a")
    assert set(items(server)) == {"a~1~1b~:k", "a::b::l", hashed("a::b", "k" * 250), hashed("a", "::" + "k" * 250)}
    assert await kv.get("k" * 250, collection="a::b") == {"a": 3}
    assert await kv.get("::" + "k" * 250, collection="a") == {"a": 4}


async def test_the_strategy_for_long_names(runtime: Runtime, server: dict[str, Any]) -> None:
    kv = runtime.adapt(MemcachedStore(**server, key_sanitization_strategy=MemcachedV1KeySanitizationStrategy()))
    keys = ["k", "x" * 237, "x" * 238, "a b", "a b" + "x" * 300, "é" * 200]
    await kv.put_many(keys, [{"k": key} for key in keys], collection="c")
    long = {"H_" + hashlib.sha256(f"c::{key}".encode()).hexdigest() for key in ("x" * 238, "a b" + "x" * 300)}
    assert set(items(server)) == {"c::k", "c::" + "x" * 237, hashed("c", "a b"), hashed("c", "é" * 200), *long}
    assert await kv.get_many([*keys, "x" * 239], collection="c") == [*({"k": key} for key in keys), None]
    # This key's name is what another one's is made to; it has `::` and that has none.
    assert await kv.get("H_" + hashlib.sha256(b"c::" + b"x" * 238).hexdigest(), collection="c") is None
    # Names that py-key-value-aio mixes up.
    await kv.put("b::" + "k" * 300, {"of": "host"}, collection="a")
    await kv.put("k" * 300, {"of": "guest"}, collection="a::b")
    assert await kv.get("b::" + "k" * 300, collection="a") == {"of": "host"}
    assert await kv.get("k" * 300, collection="a::b") == {"of": "guest"}
    assert await kv.delete_many(keys, collection="c") == len(keys)


STRATEGIES = [
    HashExcessLengthStrategy(12),
    HybridSanitizationStrategy(12),
    HybridSanitizationStrategy(12, allowed_characters="abc"),
    AlwaysHashStrategy(9),
]


@pytest.mark.parametrize("number", range(len(STRATEGIES)))
async def test_strategies_that_mix_names_up(runtime: Runtime, server: dict[str, Any], number: int, clock: Clock) -> None:
    class Few:
        """Makes so many names alike that they meet."""

        def sanitize(self, value: str) -> str:
            return STRATEGIES[number].sanitize(value)[:4]

    for strategy in (STRATEGIES[number], Few()):
        kv = runtime.adapt(MemcachedStore(**server, key_sanitization_strategy=strategy))
        keys = ["long" * 5 + str(number) for number in range(40)] + ["::", "a", ":b", "S_c::k", "longlon", "d e", "d_e"]
        for collection in ("c", "c::", "S_c"):
            await kv.put_many(keys, [{"c": collection, "k": key} for key in keys], collection=collection, ttl=50)
        for collection in ("c", "c::", "S_c"):
            assert await kv.get_many(keys, collection=collection) == [{"c": collection, "k": key} for key in keys]
        for key in keys[::2]:
            await kv.put(key, {"again": True}, collection="c")
            assert await kv.get(key, collection="c") == {"again": True}
        assert await kv.delete_many(keys[1::2], collection="c") == len(keys[1::2])
        assert await kv.get_many(keys, collection="S_c") == [{"c": "S_c", "k": key} for key in keys]
        clock.advance(60)
        assert await kv.get_many(keys, collection="c") == [None if index % 2 else {"again": True} for index in range(len(keys))]
        assert await kv.delete_many(keys, collection="c") == len(keys[::2])
        assert await kv.delete_many(keys, collection="S_c") == 0


# Values


async def test_a_value_that_is_too_large_leaves_the_old_one(runtime: Runtime, server: dict[str, Any], raw: Any) -> None:
    kv = runtime.adapt(MemcachedStore(**server))
    for key in ("k", "a::k", "x" * 300):
        await kv.put(key, {"old": True}, collection="c")
        large = {"text": SECRET + "x" * 2**20}
        for call in (
            lambda key=key, large=large: kv.put(key, large, collection="c"),
            lambda key=key, large=large: kv.put_many(["l", key], [{}, large], collection="c", ttl=50),
        ):
            with pytest.raises(ValueTooLargeError, match="larger than the backend takes") as caught:
                await call()
            assert SECRET not in str(caught.value)
            info = caught.value.extra_info
            assert info is not None
            assert (info["collection"], info["key"], info["max_size"]) == ("c", key, 2**20 - 1024)
            assert int(info["size"] or 0) > 2**20
        assert await kv.get(key, collection="c") == {"old": True}
        assert await kv.get("l", collection="c") is None


@pytest.mark.parametrize("key", ["k", "k" * 247, "k" * 248, "a::k", "\x01" * 1000])
async def test_the_largest_value(runtime: Runtime, server: dict[str, Any], raw: Any, key: str) -> None:
    kv = runtime.adapt(MemcachedStore(**server))
    await kv.put(key, {"x": ""}, collection="c", ttl=50)
    ((name, _),) = items(server).items()
    room = 2**20 - 1024 - len(raw.get(name)) - 30  # a moment that is a full second is written without its fraction
    value = {"x": "x" * room}
    await kv.put(key, value, collection="c", ttl=50)
    assert await kv.get(key, collection="c") == value
    with pytest.raises(ValueTooLargeError):
        await kv.put(key, {"x": "x" * (room + 60)}, collection="c", ttl=50)
    assert await kv.get(key, collection="c") == value


async def test_a_limit_of_ones_own(runtime: Runtime, server: dict[str, Any]) -> None:
    kv = runtime.adapt(MemcachedStore(**server, max_value_size=1000))
    await kv.put("k", {"x": "x" * 500})
    for key, value in (("k", {"x": "x" * 1000}), ("\x01" * 200, {})):
        with pytest.raises(ValueTooLargeError):
            await kv.put(key, value)


async def test_what_the_server_refuses(runtime: Runtime, server: dict[str, Any]) -> None:
    kv = runtime.adapt(MemcachedStore(**server, max_value_size=2**24))
    large = {"text": SECRET + "x" * 2**21}
    for call in (lambda: kv.put("k", large), lambda: kv.put_many(["l", "k", "m"], [{"a": 1}, large, {}]), lambda: kv.put("a::k", large)):
        await kv.put("stays", {"a": 1})
        with pytest.raises(StoreRefusedError) as caught:
            await call()
        error: BaseException | None = caught.value
        while error is not None:
            assert SECRET not in f"{error!r} {error}"
            error = error.__cause__ or error.__context__
        assert await kv.get_many(["stays", "k"]) == [{"a": 1}, None]


async def test_a_refusal_is_nobody_elses_affair(server: dict[str, Any], raw: Any) -> None:
    async with MemcachedStore(**server, max_value_size=2**24) as kv:
        await kv.put("k", {"a": 1})
        before = raw.stats()[b"total_connections"]
        with pytest.raises(StoreRefusedError):
            await kv.put_many(["l", "large"], [{}, {"x": "x" * 2**21}])
        assert await kv.get_many(["k", "l", "large"]) == [{"a": 1}, {}, None]
        assert raw.stats()[b"total_connections"] == before


async def test_many_large_values_at_once(runtime: Runtime, server: dict[str, Any]) -> None:
    kv = runtime.adapt(MemcachedStore(**server))
    keys = [f"k{number}" for number in range(30)]
    values = [{"n": number, "text": str(number % 10) * 300_000} for number in range(30)]
    await kv.put_many(keys, values)
    assert await kv.get_many(keys) == values
    assert await kv.delete_many(keys) == 30


# What else lies there


async def test_what_others_wrote_is_left_alone(runtime: Runtime, server: dict[str, Any], raw: Any) -> None:  # H-27
    kv = runtime.adapt(MemcachedStore(**server))
    theirs = {"plain": b"text", "a::plain": b"text", "a::b::k": b"not a document", "counter": b"1"}
    for name, value in theirs.items():
        raw.set(name, value)
    await kv.put_many(["k", "l"], [{}, {}], collection="a::b")
    assert await kv.get("k", collection="a::b") == {}
    assert await kv.delete_many(["k", "l"], collection="a::b") == 2
    assert await kv.delete("k", collection="a::b") is False
    assert raw.get_many(theirs) == theirs


DAMAGED = [b"secret-text", b"\xff", b"", b"[]", b"1", b'{"version":1}', b'{"version":1,"value":{"a":"secret-text']


@pytest.mark.parametrize("damaged", DAMAGED)
async def test_a_damaged_row_is_an_error_for_its_own_key_alone(
    runtime: Runtime, server: dict[str, Any], raw: Any, damaged: bytes
) -> None:  # H-37
    kv = runtime.adapt(MemcachedStore(**server))
    await kv.put_many(["good", "bad"], [{"a": 1}, {}], collection="c")
    raw.set("c::bad", damaged, flags=16)
    for call in (lambda: kv.get("bad", collection="c"), lambda: kv.get_many(["good", "bad"], collection="c")):
        with pytest.raises(DeserializationError, match="overwrite") as caught:
            await call()
        assert caught.value.extra_info == {"collection": "c", "key": "bad"}
        assert "secret" not in str(caught.value)
    assert await kv.get("good", collection="c") == {"a": 1}
    assert await kv.delete("bad", collection="c") is True
    raw.set("c::bad", damaged)
    await kv.put("bad", {"a": 2}, collection="c")
    assert await kv.get("bad", collection="c") == {"a": 2}


async def test_a_row_that_names_another_pair_is_missing(runtime: Runtime, server: dict[str, Any], raw: Any) -> None:
    kv = runtime.adapt(MemcachedStore(**server))
    await kv.put("k", {"a": 1}, collection="c")
    raw.set("c::l", raw.get("c::k"))
    assert await kv.get("l", collection="c") is None
    assert await kv.delete("l", collection="c") is False


# Several at a time


async def test_one_of_many_deleters_is_told_so(server: dict[str, Any]) -> None:
    async with MemcachedStore(**server) as kv:
        for key in ("k", "a::k"):
            for _ in range(20):
                await kv.put(key, {})
                assert sum(await asyncio.gather(*(kv.delete(key) for _ in range(10)))) == 1
                assert items(server) == {}


async def test_puts_at_a_contested_place(runtime: Runtime, server: dict[str, Any]) -> None:
    kv = runtime.adapt(MemcachedStore(**server))
    if runtime.name not in ("asyncio", "trio"):
        return
    for turn in range(20):
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(partial(kv.put, "b::c", {"n": number}, collection="a"))
        value = await kv.get("b::c", collection="a")
        assert value is not None
        assert await kv.delete("b::c", collection="a") is True
        assert items(server) == {}, turn
