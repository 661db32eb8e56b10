"""What is MemcachedStore's own: its protocol, clients of one kind or another, names and values that Memcached can't hold, its expiry."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiomcache
import anyio
import pymemcache
import pytest

from keyvalue._core.sanitization import AlwaysHashStrategy, HashExcessLengthStrategy, HybridSanitizationStrategy
from keyvalue.errors import DeserializationError, StoreRefusedError, StoreSetupError, ValueTooLargeError
from keyvalue.stores.memcached import MemcachedStore, MemcachedV1KeySanitizationStrategy
from keyvalue.testing import Clock
from tests.proxy import proxied
from tests.runtimes import Runtime
from tests.said import everything_said
from tests.servers import memcached as servers
from tests.stores.hooks import SECRET, use


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


# Connecting


async def test_a_host_with_several_addresses(runtime: Runtime, server: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def addresses(host: str, port: int, *_: object, **__: object) -> Any:
        assert host == "several"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (where, port)) for where in ("127.0.0.254", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    kv = runtime.adapt(MemcachedStore(host="several", port=server["port"]))
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}


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
                assert SECRET not in "".join(everything_said(caught.value))

    asyncio.run(main())


async def test_replies_that_come_in_pieces(empty_server: Callable[[str], str]) -> None:
    with proxied(empty_server("memcached")) as proxy:
        proxy.bytewise = True
        async with MemcachedStore(**address(proxy.url)) as kv:
            keys = ["a", "b", "c"]
            values = [{"text": "\r\nEND\r\n" * number} for number in range(3)]
            await kv.put_many(keys, values)
            assert await asyncio.gather(*(kv.get(key) for key in keys)) == values
            assert await kv.get_many([*keys, "missing"]) == [*values, None]
            assert await kv.delete_many(keys) == 3


async def test_a_text_that_looks_like_the_end_of_a_reply(runtime: Runtime, server: dict[str, Any], raw: Any) -> None:
    kv = runtime.adapt(MemcachedStore(**server))
    raw.set("c::k", b'{"version": 1,\r\nEND\r\n'.replace(b"END", b"") + b'"value":\r\n\r\n{"a": 1}}\r\n')
    raw.set("c::l", b"END\r\nVALUE c::m 0 2\r\n{}\r\nEND\r\n")
    assert await kv.get("k", collection="c") == {"a": 1}
    with pytest.raises(DeserializationError):
        await kv.get("l", collection="c")
    assert await kv.get_many(["k", "m"], collection="c") == [{"a": 1}, None]


# Given clients


async def test_a_pool_with_a_limit_is_not_asked_for_more(server: dict[str, Any]) -> None:
    client: Any = pymemcache.PooledClient((server["host"], server["port"]), max_pool_size=2)
    async with MemcachedStore(client=client) as kv, anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(kv.put, f"k{number}", {})
    client.close()


async def test_a_given_asynchronous_client_lends_its_address(runtime: Runtime, server: dict[str, Any]) -> None:
    client = aiomcache.Client(server["host"], server["port"], conn_args={"limit": 2**20})
    await use(runtime.adapt(MemcachedStore(client=client)))


async def test_a_given_asynchronous_client_stays_open_and_lends_its_options_to_asyncio(server: dict[str, Any]) -> None:
    client = aiomcache.Client(server["host"], server["port"], conn_args={"local_addr": ("127.0.0.2", 0)})
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
    client = aiomcache.Client(server["host"], server["port"], conn_args={"local_addr": ("127.0.0.2", 0)})
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


async def test_an_expiry_that_memcached_can_not_hold(server: dict[str, Any]) -> None:
    async with MemcachedStore(**server) as kv:
        await kv.put("k", {}, ttl=2**31)
        await kv.put("l", {}, ttl=2**31 - time.time() - 3600)
        await kv.put("m", {})
        expiries = items(server)
        assert expiries["default_collection::k"] == expiries["default_collection::m"] == -1
        assert expiries["default_collection::l"] > 2**31 - 3700
        assert await kv.get_many(["k", "l", "m"]) == [{}, {}, {}]


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
        assert SECRET not in "".join(everything_said(caught.value))
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


# Several at a time


async def test_puts_at_a_contested_place(server: dict[str, Any]) -> None:
    kv = MemcachedStore(**server)
    for turn in range(20):
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(partial(kv.put, "b::c", {"n": number}, collection="a"))
        value = await kv.get("b::c", collection="a")
        assert value is not None
        assert await kv.delete("b::c", collection="a") is True
        assert items(server) == {}, turn
    await kv.close()
