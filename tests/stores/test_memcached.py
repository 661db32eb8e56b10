"""What is MemcachedStore's own: its protocol, clients of one kind or another, names and values that Memcached can't hold, its expiry."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import aiomcache
import anyio
import pymemcache
import pytest

from keyvalue._core.legacy.sanitization import (
    AlwaysHashStrategy,
    HashExcessLengthStrategy,
    HybridSanitizationStrategy,
    SanitizationStrategy,
)
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, StoreConnectionError, StoreRefusedError, StoreSetupError, ValueTooLargeError
from keyvalue.stores.memcached import MemcachedStore, MemcachedV1KeySanitizationStrategy
from keyvalue.testing import Clock
from keyvalue.testing._suite import at_once
from tests.proxy import Proxy
from tests.runtimes import Runtime
from tests.servers.memcached import items, private_server
from tests.stores.hooks import SECRET, address, assert_raised, use

pytestmark = pytest.mark.backends("memcached")


@pytest.fixture
def server(url: str) -> dict[str, Any]:
    return address(url)


# Connecting


async def test_a_host_with_several_addresses(runtime: Runtime, server: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def addresses(host: str, port: int, *_: object, **__: object) -> Any:
        assert host == "several"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (where, port)) for where in ("127.0.0.254", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    kv = runtime.adapt(MemcachedStore(host="several", port=server["port"]))
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}


async def test_a_server_that_sends_what_nobody_understands() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(f"{SECRET}\r\n".encode())
        await reader.read()
        writer.close()

    nonsense = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with nonsense, MemcachedStore(port=nonsense.sockets[0].getsockname()[1]) as kv:
        await assert_raised(StoreRefusedError, "does not answer as Memcached does", *[partial(kv.get, "k")] * 2)


async def test_replies_that_come_in_pieces(proxy: Proxy) -> None:
    proxy.bytewise = True
    async with MemcachedStore(**address(proxy.url)) as kv:
        keys = ["a", "b", "c"]
        values = [{"text": "\r\nEND\r\n" * number} for number in range(3)]
        await kv.put_many(keys, values)
        assert await asyncio.gather(*(kv.get(key) for key in keys)) == values
        assert await kv.get_many([*keys, "missing"]) == [*values, None]
        assert await kv.delete_many(keys) == 3


async def test_a_text_that_looks_like_the_end_of_a_reply(kv: Any, raw: Any) -> None:
    raw.set("c::k", b'{"version": 1,\r\nEND\r\n'.replace(b"END", b"") + b'"value":\r\n\r\n{"a": 1}}\r\n')
    raw.set("c::l", b"END\r\nVALUE c::m 0 2\r\n{}\r\nEND\r\n")
    assert await kv.get("k", collection="c") == {"a": 1}
    await assert_raised(DeserializationError, "", lambda: kv.get("l", collection="c"))
    assert await kv.get_many(["k", "m"], collection="c") == [{"a": 1}, None]


async def test_a_server_with_all_the_connections_that_it_takes(runtime: Runtime) -> None:
    with private_server("-c", "20") as port, ExitStack() as stack:
        kv = runtime.adapt(MemcachedStore(port=port))
        for _ in range(20):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            held.sendall(b"version\r\n")
            held.recv(100)
        calls = [partial(kv.get, "k"), partial(kv.put, "k", {}), partial(kv.get_many, ["k", "l"])]
        await assert_raised(StoreConnectionError, "as many connections as it takes; start it", *calls)
        with closing(pymemcache.Client(("127.0.0.1", port))) as client:
            given = runtime.adapt(MemcachedStore(client=client))
            await assert_raised(StoreConnectionError, "as many connections as it takes .* or does not know", partial(given.get, "k"))
        stack.close()
        await runtime.eventually(lambda: kv.put("k", {}))


async def test_a_scripted_server_that_does_not_know_the_command(runtime: Runtime) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline():
                self.wfile.write(b"ERROR\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            kv = runtime.adapt(MemcachedStore(port=server.server_address[1]))
            await assert_raised(StoreRefusedError, "refused the command", partial(kv.get, "k"), partial(kv.put, "k", {"password": SECRET}))
            await kv.close()
        finally:
            server.shutdown()


# Given clients


async def test_a_pool_with_a_limit_is_not_asked_for_more(server: dict[str, Any]) -> None:
    client: Any = pymemcache.PooledClient(tuple(server.values()), max_pool_size=2)
    async with MemcachedStore(client=client) as kv, anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(kv.put, f"k{number}", {})
    client.close()


async def test_a_given_asynchronous_client_lends_its_address(runtime: Runtime, server: dict[str, Any]) -> None:
    client = aiomcache.Client(**server, conn_args={"limit": 2**20})
    await use(runtime.adapt(MemcachedStore(client=client)))


async def test_a_given_asynchronous_client_stays_open_and_lends_its_options_to_asyncio(server: dict[str, Any]) -> None:
    client = aiomcache.Client(**server, conn_args={"local_addr": ("127.0.0.2", 0)})
    await client.set(b"default_collection::k", b'{"value": {"a": 1}}')
    async with MemcachedStore(client=client) as kv:
        for _ in range(5):  # H-15
            with anyio.move_on_after(0):
                await kv.get("k")
        assert await kv.get("k") == {"a": 1}
        await use(kv)
    assert await client.get(b"default_collection::k") is None
    await client.close()


@pytest.mark.runtimes("trio", "direct")
async def test_options_for_asyncio_are_refused_elsewhere(runtime: Runtime, server: dict[str, Any]) -> None:
    client = aiomcache.Client(**server, conn_args={"local_addr": ("127.0.0.2", 0)})
    with pytest.raises(StoreSetupError, match=r"local_addr.*Pass one of pymemcache"):
        await runtime.adapt(MemcachedStore(client=client)).get("k")


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


async def test_an_expiry_that_memcached_can_not_hold(kv: Any, url: str) -> None:
    await kv.put("k", {}, ttl=2**31)
    await kv.put("l", {}, ttl=2**31 - time.time() - 3600)
    await kv.put("m", {})
    expiries = items(url)
    assert expiries["default_collection::k"] == expiries["default_collection::m"] == -1
    assert expiries["default_collection::l"] > 2**31 - 3700
    assert await kv.get_many(["k", "l", "m"]) == [{}, {}, {}]


# Names


def hash_name(collection: str, key: str) -> str:
    return "~" + hashlib.sha256(f"{len(collection)}:{collection}:{key}".encode()).hexdigest()


FITTING = ["k", "x" * 247, "é" * 123, "😀\ufeff\u200b", "a/b*?[c]\\", "%41", "~", "'\""]
UNFITTING = ["x" * 248, "é" * 124, "a b", " ", "\t", "a\0b", "a\nb", "\x7f", "\x85", "\xa0", "\u3000", "x" * 10_000]


async def test_where_entries_lie(kv: Any, url: str, raw: Any) -> None:
    await kv.put_many([*FITTING, *UNFITTING], [{"k": key} for key in [*FITTING, *UNFITTING]], collection="c")
    names = {f"c::{key}": key for key in FITTING} | {hash_name("c", key): key for key in UNFITTING}
    assert set(items(url)) == set(names)
    for name, key in names.items():
        document = json.loads(raw.get(name))
        assert list(document) == ["version", "collection", "created_at", "key", "value"]
        assert (document["collection"], document["key"], document["value"]) == ("c", key, {"k": key})
        assert await kv.get(key, collection="c") == {"k": key}
    assert await kv.delete_many([*FITTING, *UNFITTING], collection="c") == len(names)
    assert items(url) == {}


async def test_where_entries_lie_whose_names_would_be_mixed(kv: Any, url: str) -> None:
    await kv.put("k", {"a": 1}, collection="a::b")
    await kv.put("b::l", {"a": 2}, collection="a")
    await kv.put("k" * 250, {"a": 3}, collection="a::b")
    await kv.put("::" + "k" * 250, {"a": 4}, collection="a")
    assert set(items(url)) == {"a~1~1b~:k", "a::b::l", hash_name("a::b", "k" * 250), hash_name("a", "::" + "k" * 250)}
    assert await kv.get("k" * 250, collection="a::b") == {"a": 3}
    assert await kv.get("::" + "k" * 250, collection="a") == {"a": 4}


async def test_the_strategy_for_long_names(make: Callable[..., Any], url: str) -> None:
    kv = make(key_sanitization_strategy=MemcachedV1KeySanitizationStrategy())
    keys = ["k", "x" * 237, "x" * 238, "a b", "a b" + "x" * 300, "é" * 200]
    await kv.put_many(keys, [{"k": key} for key in keys], collection="c")
    long = {"H_" + hashlib.sha256(f"c::{key}".encode()).hexdigest() for key in ("x" * 238, "a b" + "x" * 300)}
    assert set(items(url)) == {"c::k", "c::" + "x" * 237, hash_name("c", "a b"), hash_name("c", "é" * 200), *long}
    assert await kv.get_many([*keys, "x" * 239], collection="c") == [*({"k": key} for key in keys), None]
    # This key's name is what another one's is made to; it has `::` and that has none.
    assert await kv.get("H_" + hashlib.sha256(b"c::" + b"x" * 238).hexdigest(), collection="c") is None
    # Names that py-key-value-aio mixes up.
    await kv.put("b::" + "k" * 300, {"of": "host"}, collection="a")
    await kv.put("k" * 300, {"of": "guest"}, collection="a::b")
    assert await kv.get("b::" + "k" * 300, collection="a") == {"of": "host"}
    assert await kv.get("k" * 300, collection="a::b") == {"of": "guest"}
    assert await kv.delete_many(keys, collection="c") == len(keys)


HYBRID = HybridSanitizationStrategy(12, allowed_characters="abc")


@pytest.mark.parametrize("usual", [HashExcessLengthStrategy(12), HybridSanitizationStrategy(12), HYBRID, AlwaysHashStrategy(9)])
async def test_strategies_that_mix_names_up(make: Callable[..., Any], usual: SanitizationStrategy, clock: Clock) -> None:
    class Few:
        """Makes so many names alike that they meet."""

        def sanitize(self, value: str) -> str:
            return usual.sanitize(value)[:4]

    for strategy in (usual, Few()):
        kv = make(key_sanitization_strategy=strategy)
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


async def test_a_value_that_is_too_large_leaves_the_old_one(kv: Any) -> None:
    for key in ("k", "a::k", "x" * 300):
        await kv.put(key, {"old": True}, collection="c")
        large = {"text": SECRET + "x" * 2**20}
        calls = [partial(kv.put, key, large, collection="c"), partial(kv.put_many, ["l", key], [{}, large], collection="c", ttl=50)]
        for error in await assert_raised(ValueTooLargeError, "larger than the backend takes", *calls):
            assert error.extra_info.pop("size") > 2**20
            assert error.extra_info == {"collection": "c", "key": key, "max_size": 2**20 - 1024}
        assert await kv.get(key, collection="c") == {"old": True}
        assert await kv.get("l", collection="c") is None


@pytest.mark.parametrize("key", ["k", "k" * 247, "k" * 248, "a::k", "\x01" * 1000])
async def test_the_largest_value(kv: Any, url: str, raw: Any, key: str) -> None:
    await kv.put(key, {"x": ""}, collection="c", ttl=50)
    ((name, _),) = items(url).items()
    room = 2**20 - 1024 - len(raw.get(name)) - 30  # a moment that is a full second is written without its fraction
    value = {"x": "x" * room}
    await kv.put(key, value, collection="c", ttl=50)
    assert await kv.get(key, collection="c") == value
    await assert_raised(ValueTooLargeError, "", lambda: kv.put(key, {"x": "x" * (room + 60)}, collection="c", ttl=50))
    assert await kv.get(key, collection="c") == value


async def test_a_limit_of_ones_own(make: Callable[..., Any]) -> None:
    kv = make(max_value_size=1000)
    await kv.put("k", {"x": "x" * 500})
    calls = [partial(kv.put, "k", {"x": "x" * 1000}), partial(kv.put, "\x01" * 200, {})]
    await assert_raised(ValueTooLargeError, "larger than the backend takes", *calls)


async def test_what_the_server_refuses_as_too_large(make: Callable[..., Any], server: dict[str, Any], runtime: Runtime) -> None:
    client = pymemcache.Client(tuple(server.values()))
    large = {"text": SECRET + "x" * 2**21}
    for kv in (make(max_value_size=2**24), runtime.adapt(MemcachedStore(client=client, max_value_size=2**24))):
        for call in (partial(kv.put, "k", large), partial(kv.put_many, ["l", "k", "m"], [{"a": 1}, large, {}])):
            await kv.put("stays", {"a": 1})
            (error,) = await assert_raised(ValueTooLargeError, "larger than the backend takes", call)
            assert error.extra_info.pop("size") > 2**21
            assert error.extra_info == {"collection": "default_collection", "key": "k", "max_size": None}
            assert "too large" in str(error.__cause__)
            assert await kv.get_many(["stays", "k"]) == [{"a": 1}, None]
        await assert_raised(ValueTooLargeError, "larger", lambda kv=kv: kv.put("::k", large))
    client.close()


async def test_a_server_that_takes_less_than_usual(runtime: Runtime) -> None:
    with private_server("-I", "512k") as port:
        kv = runtime.adapt(MemcachedStore(port=port))
        await assert_raised(ValueTooLargeError, "larger", lambda: kv.put("k", {"x": "x" * 700_000}))
        await kv.put("k", {"x": "x" * 300_000})


@pytest.mark.runtimes("asyncio")
async def test_a_refusal_is_nobody_elses_affair(make: Callable[..., Any], raw: Any) -> None:
    kv = make(max_value_size=2**24)
    await kv.put("k", {"a": 1})
    before = raw.stats()[b"total_connections"]
    await assert_raised(ValueTooLargeError, "", lambda: kv.put_many(["l", "large"], [{}, {"x": "x" * 2**21}]))
    assert await kv.get_many(["k", "l", "large"]) == [{"a": 1}, {}, None]
    assert raw.stats()[b"total_connections"] == before


# Several at a time


async def test_puts_at_a_contested_place(kv: Any, url: str, runtime: Runtime) -> None:
    for turn in range(20):
        await at_once(runtime, [partial(kv.put, "b::c", {"n": number}, collection="a") for number in range(5)])
        assert await kv.get("b::c", collection="a") is not None
        assert await kv.delete("b::c", collection="a") is True
        assert items(url) == {}, turn


def test_stores_over_one_client_take_turns(server: dict[str, Any]) -> None:
    with closing(pymemcache.Client(tuple(server.values()), timeout=5)) as client, ThreadPoolExecutor(8) as pool:
        stores: list[Any] = [BlockingKeyValue(MemcachedStore(client=client)) for _ in range(8)]

        def use(number: int) -> None:
            for turn in range(50):
                stores[number].put(f"k{number}", {"turn": turn})
                assert stores[number].get(f"k{number}") == {"turn": turn}

        assert list(pool.map(use, range(8))) == [None] * 8
