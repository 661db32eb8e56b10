"""What is ValkeyStore's own, and clusters of both kinds: how they connect, and clients on their loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import anyio
import glide
import pytest
import redis

from keyvalue.errors import StoreConnectionError, StoreRefusedError
from keyvalue.stores.redis import RedisStore
from keyvalue.stores.valkey import ValkeyStore
from keyvalue.testing._suite import at_once
from tests.conftest import skip_or_fail
from tests.runtimes import Runtime
from tests.servers.redis import REDIS, VALKEY, private_server, valkey_server, with_tls
from tests.stores.hooks import SECRET, address, assert_raised, use
from tests.stores.hooks.valkey import configuration

pytestmark = pytest.mark.backends("valkey")


@pytest.fixture
def server() -> Iterator[dict[str, Any]]:
    """A server of the test's own: its host and port."""
    if why := VALKEY.absent():
        skip_or_fail("valkey", why)
    with private_server(program=valkey_server()) as url:
        yield address(url)


@pytest.fixture
def guarded() -> Iterator[dict[str, Any]]:
    """A server that wants a password: its host and port."""
    if why := VALKEY.absent():
        skip_or_fail("valkey", why)
    with private_server("--requirepass", SECRET, program=valkey_server()) as url:
        yield address(url)


async def test_wrong_credentials(runtime: Runtime, guarded: dict[str, Any]) -> None:
    wrong: list[Any] = [{}, {"password": SECRET + "x"}, {"username": "nobody", "password": SECRET}]
    for given in wrong:
        kv = runtime.adapt(ValkeyStore(**guarded, **given))
        await assert_raised(StoreRefusedError, "credentials", partial(kv.get, "k"))
    kv = runtime.adapt(ValkeyStore(**guarded, password=SECRET))
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A server that speaks TLS: its port, and who vouches for it. The packaged valkey-server does not."""
    if why := REDIS.absent():
        skip_or_fail("redis", why)
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


@pytest.mark.backends("valkey-cluster")
async def test_a_given_configuration_of_a_cluster(url: str, runtime: Runtime) -> None:
    await use(runtime.adapt(ValkeyStore(config=configuration(url, cluster=True))))


async def test_another_database(make: Callable[..., Any]) -> None:
    one, two = make(db=0), make(db=3)
    await one.put("k", {"in": 0})
    await two.put("k", {"in": 3})
    assert await one.get("k") == {"in": 0}
    assert await two.destroy() is True
    assert await two.get("k") is None
    assert await one.get("k") == {"in": 0}


@pytest.mark.backends("valkey-cluster", "redis-cluster")
async def test_a_node_of_a_cluster_taken_for_a_server_alone(backend: str, url: str, runtime: Runtime) -> None:
    kv = runtime.adapt(RedisStore(url=url) if "redis" in backend else ValkeyStore(**address(url)))

    async def get_one_after_the_other() -> None:
        for number in range(100):
            await kv.get(f"k{number}")

    await assert_raised(StoreRefusedError, "cluster=True", lambda: get_one_after_the_other())


async def test_first_calls_at_once_make_one_client(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create = AsyncMock(wraps=glide.GlideClient.create)
    monkeypatch.setattr(glide.GlideClient, "create", create)
    async with ValkeyStore(**address(url)) as kv:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(kv.get, f"k{number}")
            group.cancel_scope.deadline = anyio.current_time() + 30
        assert create.await_count == 1


async def test_a_cancelled_first_call_leaves_a_usable_store(url: str) -> None:
    for delay in (0, 1e-5, 1e-4, 1e-3):
        kv = ValkeyStore(**address(url))
        with anyio.move_on_after(delay):
            await kv.get("k")
        await kv.put("k", {})
        assert await kv.get("k") == {}
        await kv.close()


async def test_refused_writes_do_not_break_the_reads_of_others(runtime: Runtime, server: dict[str, Any]) -> None:
    with redis.Redis(**server) as client:
        kv = runtime.adapt(ValkeyStore(**server))
        await kv.put("k", {"a": 1})
        client.replicaof("127.0.0.1", 1)
        client.config_resetstat()

        async def get() -> None:
            for _ in range(10):
                assert await kv.get("k") == {"a": 1}

        async def put() -> None:
            await assert_raised(StoreConnectionError, "read-only|could not reach|connection was lost", *[partial(kv.put, "k", {})] * 5)

        await at_once(runtime, [get, put] * 20)
        assert client.info("commandstats")["cmdstat_quit"]["calls"] < 10  # one a second
