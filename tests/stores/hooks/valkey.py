"""Valkey, alone and as a cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, closing
from typing import Any
from urllib.parse import urlsplit

import glide
import glide_sync
import redis

from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.valkey import ValkeyStore
from tests.stores.hooks import SECRET
from tests.stores.hooks.redis import RespHooks


def configuration(url: str, cluster: bool = False) -> Any:
    """Return glide's configuration of a client."""
    where: Any = urlsplit(url)
    kind: Any = glide.GlideClusterClientConfiguration if cluster else glide.GlideClientConfiguration
    return kind([glide.NodeAddress(where.hostname, where.port)], request_timeout=5000, inflight_requests_limit=4)


class ValkeyHooks(RespHooks):
    kind = ValkeyStore
    unreachable = "could not reach the server.*, port and db right"
    lost = "could not reach the server|the connection was lost|in time"
    causes = glide.GlideError
    reconnects_at_once = False
    asks_again = False
    loses_puts = False  # glide sends it again
    client_types = "GlideClient or GlideClusterClient"

    def impatient(self, url: str) -> AsyncKeyValue:
        return self.store(url, timeout=0.5)

    def with_secret(self, url: str) -> AsyncKeyValue:
        return self.store(url, timeout=0.2, password=SECRET)

    def refused(self) -> Iterable[tuple[Mapping[str, Any], type[Exception], str]]:
        config = configuration("redis://localhost:1")
        yield {"client": object(), "config": config}, ValueError, "Give ValkeyStore either"
        for more in ({"config": config}, {"client": object()}, {"db": 1}):
            yield {"cluster": True, **more}, ValueError, "Give `cluster` without"

    def wrong_clients(self) -> Iterable[Any]:
        return "localhost", object(), glide.GlideClient, redis.Redis()

    def sync_clients(self, url: str) -> Mapping[str, AbstractContextManager[Any]]:
        kind: Any = glide_sync.GlideClient if self.name == "valkey" else glide_sync.GlideClusterClient
        return {"": closing(kind.create(configuration(url, self.name != "valkey")))}

    def async_clients(self, url: str) -> Mapping[str, AbstractAsyncContextManager[Any]]:
        @asynccontextmanager
        async def client() -> AsyncGenerator[Any, None]:
            kind: Any = glide.GlideClient if self.name == "valkey" else glide.GlideClusterClient
            client = await kind.create(configuration(url, self.name != "valkey"))
            yield client
            await client.close()

        return {"": client()}

    def assert_open(self, client: Any) -> None:
        assert client.ping() == b"PONG"

    async def assert_open_async(self, client: Any) -> None:
        assert await client.ping() == b"PONG"


HOOKS = {name: ValkeyHooks(name) for name in ("valkey", "valkey-cluster")}
