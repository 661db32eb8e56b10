"""What is ValkeyStore's own, and clusters of either kind: how they connect, clients of either colour, what else lies in the database."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import glide
import glide_sync
import pytest
import redis
import redis.asyncio

from keyvalue.errors import StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores.redis import RedisStore
from keyvalue.stores.valkey import ValkeyStore
from tests.runtimes import Runtime
from tests.servers import free_port
from tests.servers.redis import REDIS, VALKEY, private_server, valkey_server, with_tls

PASSWORD = "hunter" + "2" * 5  # put together, so that no line of source in a traceback holds it
own_server = pytest.mark.skipif(VALKEY.absent() is not None, reason="no valkey-server")
Empty = Callable[[str], str]


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def configuration(url: str, cluster: bool = False) -> Any:
    kind: Any = glide.GlideClusterClientConfiguration if cluster else glide.GlideClientConfiguration
    return kind([glide.NodeAddress(*address(url))], request_timeout=5000)


def test_arguments_that_exclude_each_other() -> None:
    config = configuration("redis://localhost:1")
    excluding: list[Any] = [
        {"client": object(), "config": config},
        {"cluster": True, "config": config},
        {"cluster": True, "client": object()},
        {"cluster": True, "db": 1},
    ]
    for bad in excluding:
        with pytest.raises(ValueError, match="Give"):
            ValkeyStore(**bad)
    with pytest.raises(ValueError, match="Give `cluster` without"):
        RedisStore(cluster=True, db=1)
    for client in ("localhost", object(), glide.GlideClient, redis.Redis()):
        with pytest.raises(TypeError, match="GlideClient or GlideClusterClient"):
            ValkeyStore(client=client)


async def test_no_server(runtime: Runtime) -> None:
    kv = runtime.adapt(ValkeyStore(host="127.0.0.1", port=free_port(), password=PASSWORD, timeout=1))
    for call in (lambda: kv.get("k"), lambda: kv.put_many(["k", "l"], [{}, {}], ttl=5), lambda: kv.setup()):
        with pytest.raises(StoreConnectionError, match=r"could not reach the server.*, and the number of the database") as caught:
            await call()
        assert isinstance(caught.value.__cause__, glide.GlideError)
        assert PASSWORD not in str(caught.value)


@own_server
async def test_wrong_credentials(runtime: Runtime) -> None:
    with private_server("--requirepass", PASSWORD, program=valkey_server()) as url:
        host, port = address(url)
        wrong: list[Any] = [{}, {"password": PASSWORD + "x"}, {"username": "nobody", "password": PASSWORD}]
        for given in wrong:
            kv = runtime.adapt(ValkeyStore(host=host, port=port, **given))
            with pytest.raises(StoreRefusedError, match="credentials") as caught:
                await kv.get("k")
            assert PASSWORD not in str(caught.value)
        kv = runtime.adapt(ValkeyStore(host=host, port=port, password=PASSWORD))
        await kv.put("k", {"a": 1})
        assert await kv.get("k") == {"a": 1}


@pytest.fixture
def tls(tmp_path: Path) -> Generator[tuple[int, Path], None, None]:
    """A server that speaks TLS: its port, and who vouches for it. The packaged valkey-server does not."""
    if REDIS.absent() is not None:
        pytest.skip(str(REDIS.absent()))
    with with_tls(tmp_path, "--tls-auth-clients", "no") as (port, files):
        yield port, files.authority


async def test_tls(runtime: Runtime, tls: tuple[int, Path]) -> None:
    port, authority = tls
    trusting: Any = glide.AdvancedGlideClientConfiguration(
        connection_timeout=5000, tls_config=glide.TlsAdvancedConfiguration(root_pem_cacerts=authority.read_bytes())
    )
    addresses = [glide.NodeAddress("127.0.0.1", port)]
    kv = runtime.adapt(
        ValkeyStore(config=glide.GlideClientConfiguration(addresses, use_tls=True, request_timeout=5000, advanced_config=trusting))
    )
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
    for is_tls in (True, False):  # no authority; no TLS
        with pytest.raises(StoreConnectionError):
            await runtime.adapt(ValkeyStore(host="127.0.0.1", port=port, tls=is_tls, timeout=2.0)).get("k")


@own_server
async def test_a_server_that_comes_back(runtime: Runtime) -> None:
    port = free_port()
    kv = runtime.adapt(ValkeyStore(config=glide.GlideClientConfiguration([glide.NodeAddress("127.0.0.1", port)], request_timeout=500)))
    for turn in range(2):
        with private_server(port=port, program=valkey_server()):
            for _ in range(40):  # glide connects again in its own time
                try:
                    await kv.put("k", {"turn": turn})
                    break
                except StoreConnectionError:
                    continue
            assert await kv.get("k") == {"turn": turn}
        with pytest.raises(StoreConnectionError):
            await kv.get("k")


async def test_another_database(empty_server: Empty, runtime: Runtime) -> None:
    host, port = address(empty_server("valkey"))
    one, two = (runtime.adapt(ValkeyStore(host=host, port=port, db=number)) for number in (0, 3))
    await one.put("k", {"in": 0})
    await two.put("k", {"in": 3})
    assert await one.get("k") == {"in": 0}
    assert await two.destroy() is True
    assert await two.get("k") is None
    assert await one.get("k") == {"in": 0}


async def use(kv: Any) -> None:
    """Use every kind of command, on keys of many slots."""
    keys = [f"key-{number}" for number in range(50)]
    await kv.put_many(keys, [{"n": number} for number in range(50)])
    await kv.put_many(keys[:25], [{"n": number} for number in range(25)], ttl=60)
    assert await kv.get_many([*keys, "missing"]) == [*({"n": number} for number in range(50)), None]
    await kv.put("é😀", {"é": "😀", "n": 2**70}, collection="a::b")
    assert await kv.get("é😀", collection="a::b") == {"é": "😀", "n": 2**70}
    assert (await kv.ttl("key-0"))[1] is not None
    assert sorted(await kv.keys()) == sorted(keys)
    assert sorted(await kv.collections()) == ["a::b", "default_collection"]
    assert await kv.delete_many([*keys, "missing"]) == 50
    assert await kv.delete("é😀", collection="a::b") is True
    assert await kv.destroy() is True


@pytest.mark.parametrize("name", ["valkey", "valkey-cluster"])
async def test_given_configurations_and_clients(name: str, empty_server: Empty) -> None:
    config = configuration(empty_server(name), cluster=name == "valkey-cluster")
    kind = "GlideClusterClient" if name == "valkey-cluster" else "GlideClient"
    asynchronous, synchronous = getattr(glide, kind), getattr(glide_sync, kind)
    async with ValkeyStore(config=config) as kv:
        await use(kv)
    client: Any = await asynchronous.create(config)
    async with ValkeyStore(client=client) as kv:
        await use(kv)
    assert await client.ping() == b"PONG"
    await client.close()
    twin: Any = await anyio.to_thread.run_sync(synchronous.create, config)
    async with ValkeyStore(client=twin) as kv:
        await use(kv)
    await anyio.to_thread.run_sync(twin.ping)
    await anyio.to_thread.run_sync(twin.close)


async def test_given_clients_of_a_cluster_of_redis(empty_server: Empty) -> None:
    url = empty_server("redis-cluster")
    for options in ({}, {"decode_responses": True}):
        client: Any = redis.asyncio.RedisCluster.from_url(url, **options)
        async with RedisStore(client=client) as kv:
            await use(kv)
        await client.aclose()
        twin = await anyio.to_thread.run_sync(lambda options=options: redis.RedisCluster.from_url(url, **options))
        async with RedisStore(client=twin) as kv:
            await use(kv)
        await anyio.to_thread.run_sync(twin.close)


async def test_an_asynchronous_client_elsewhere(empty_server: Empty) -> None:
    client = await glide.GlideClient.create(configuration(empty_server("valkey")))
    kv = ValkeyStore(client=client)
    assert await kv.get("k") is None
    with pytest.raises(StoreSetupError, match="belongs to an asyncio event loop"):
        await anyio.to_thread.run_sync(lambda: anyio.run(kv.get, "k", backend="trio"))
    await client.close()


@pytest.mark.parametrize("name", ["valkey-cluster", "redis-cluster"])
async def test_a_node_of_a_cluster_taken_for_a_server_alone(name: str, empty_server: Empty, runtime: Runtime) -> None:
    url = empty_server(name)
    host, port = address(url)
    kv = runtime.adapt(RedisStore(url=url) if "redis" in name else ValkeyStore(host=host, port=port))

    async def get_one_after_the_other() -> None:
        for number in range(100):
            await kv.get(f"k{number}")

    with pytest.raises(StoreRefusedError, match="cluster=True"):
        await get_one_after_the_other()


@pytest.mark.parametrize("name", ["valkey", "valkey-cluster", "redis-cluster"])
async def test_destroying_leaves_what_is_others(name: str, empty_server: Empty, runtime: Runtime) -> None:
    url = empty_server(name)
    host, port = address(url)
    cluster = name.endswith("cluster")
    kv = runtime.adapt(RedisStore(url=url, cluster=cluster) if "redis" in name else ValkeyStore(host=host, port=port, cluster=cluster))
    client: Any = redis.Redis.from_url(url) if name == "valkey" else redis.RedisCluster.from_url(url)
    foreign = {f"default_collection::{number}": f"text {number}" for number in range(20)} | {"c::k": '{"value": {}}', "other": "text"}
    for key, text in foreign.items():
        client.set(key, text)
    client.lpush("c::list", "a")
    await kv.put_many([f"own-{number}" for number in range(20)], [{}] * 20)
    await kv.put("k2", {}, collection="c")
    assert await kv.destroy_collection("c") is True
    assert len(await kv.keys()) == 20
    assert await kv.destroy() is True
    assert await kv.keys() == []
    assert {key: client.get(key).decode() for key in foreign} == foreign
    assert client.llen("c::list") == 1
    client.close()


async def test_first_calls_at_once_make_one_client(empty_server: Empty, monkeypatch: pytest.MonkeyPatch) -> None:
    host, port = address(empty_server("valkey"))
    made: list[Any] = []
    create = glide.GlideClient.create

    async def counted(config: Any) -> Any:
        made.append(await create(config))
        return made[-1]

    monkeypatch.setattr(glide.GlideClient, "create", counted)
    async with ValkeyStore(host=host, port=port) as kv:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(kv.get, f"k{number}")
            group.cancel_scope.deadline = anyio.current_time() + 30
        assert len(made) == 1


async def test_a_cancelled_first_call_leaves_a_usable_store(empty_server: Empty) -> None:
    host, port = address(empty_server("valkey"))
    async with ValkeyStore(host=host, port=port) as kv:
        pass
    for delay in (0, 1e-5, 1e-4, 1e-3):
        kv = ValkeyStore(host=host, port=port)
        with anyio.move_on_after(delay):
            await kv.get("k")
        await kv.put("k", {})
        assert await kv.get("k") == {}
        await kv.close()
