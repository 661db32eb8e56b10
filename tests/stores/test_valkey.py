"""What is ValkeyStore's own, and clusters of both kinds: how they connect, and clients on their loops."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import glide
import pytest

from keyvalue.errors import StoreConnectionError, StoreRefusedError
from keyvalue.stores.redis import RedisStore
from keyvalue.stores.valkey import ValkeyStore
from tests.runtimes import Runtime
from tests.said import everything_said
from tests.servers.redis import REDIS, VALKEY, private_server, valkey_server, with_tls
from tests.stores.hooks import SECRET, use

own_server = pytest.mark.skipif(VALKEY.absent() is not None, reason="no valkey-server")
Empty = Callable[[str], str]


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


@own_server
async def test_wrong_credentials(runtime: Runtime) -> None:
    with private_server("--requirepass", SECRET, program=valkey_server()) as url:
        host, port = address(url)
        wrong: list[Any] = [{}, {"password": SECRET + "x"}, {"username": "nobody", "password": SECRET}]
        for given in wrong:
            kv = runtime.adapt(ValkeyStore(host=host, port=port, **given))
            with pytest.raises(StoreRefusedError, match="credentials") as caught:
                await kv.get("k")
            assert SECRET not in "".join(everything_said(caught.value))
        kv = runtime.adapt(ValkeyStore(host=host, port=port, password=SECRET))
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
    config = glide.GlideClientConfiguration(addresses, use_tls=True, request_timeout=5000, advanced_config=trusting)
    kv = runtime.adapt(ValkeyStore(config=config))
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
    for is_tls in (True, False):  # no authority; no TLS
        with pytest.raises(StoreConnectionError):
            await runtime.adapt(ValkeyStore(host="127.0.0.1", port=port, tls=is_tls, timeout=0.5)).get("k")


async def test_a_given_configuration_of_a_cluster(empty_server: Empty, runtime: Runtime) -> None:
    config = glide.GlideClusterClientConfiguration([glide.NodeAddress(*address(empty_server("valkey-cluster")))], request_timeout=5000)
    await use(runtime.adapt(ValkeyStore(config=config)))


async def test_another_database(empty_server: Empty, runtime: Runtime) -> None:
    host, port = address(empty_server("valkey"))
    one, two = (runtime.adapt(ValkeyStore(host=host, port=port, db=number)) for number in (0, 3))
    await one.put("k", {"in": 0})
    await two.put("k", {"in": 3})
    assert await one.get("k") == {"in": 0}
    assert await two.destroy() is True
    assert await two.get("k") is None
    assert await one.get("k") == {"in": 0}


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
