"""Redis, alone and as a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import redis
import redis.asyncio

from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.redis import RedisStore
from tests.stores.hooks import DAMAGED_BYTES, NEVER, SECRET, Hooks, document


class RespHooks(Hooks):
    """What is the same with Redis and Valkey, whose servers redis-py can look into."""

    early = 0.001  # it counts in milliseconds
    reclaims = True
    misnamed = (("a", "elsewhere"),)
    damaged = DAMAGED_BYTES

    def raw(self, url: str) -> Any:
        kind: Any = redis.RedisCluster if self.name.endswith("-cluster") else redis.Redis
        return kind.from_url(url)

    def contents(self, url: str) -> Mapping[bytes, bytes]:
        with self.raw(url) as client:
            return {key: client.dump(key) for key in client.keys("*")}

    def plant_foreign(self, url: str) -> None:
        texts: dict[str | bytes, str | bytes] = {
            "a::plain": "text",
            "a::json": "[1]",
            "a::nameless": '{"value": {"a": 1}}',
            "a::elsewhere": document("b", "elsewhere"),
            "a::half": '{"version":1,"collection":"a","value":{}}',
            "plain": document("a", "plain"),
            b"a::\xff": b"\xff",
            b"\xff::k": b"{}",
        }
        with self.raw(url) as client:
            for key, text in texts.items():
                client.set(key, text)
            client.setbit("a::bits", 7, 1)
            client.hset("a::hash", "collection", "a")
            client.rpush("a::list", "x")
            client.sadd("a::set", "x")
            client.zadd("a::zset", {"x": 1})
            client.xadd("a::stream", {"x": 1})
            client.rpush("a::b::k", "x")

    def names(self, url: str) -> set[str]:
        return {name.decode() for name in self.contents(url)}

    def plant(self, url: str, name: str, data: bytes) -> None:
        with self.raw(url) as client:
            client.set(name, data)

    def expiries(self, url: str) -> Mapping[str, float]:
        with self.raw(url) as client:
            moments = {name.decode().partition("::")[2]: client.pexpiretime(name) for name in client.keys("*")}
        return {key: NEVER if moment == -1 else moment / 1000 for key, moment in moments.items() if moment != -2}

    def postpone(self, url: str, key: str) -> None:
        with self.raw(url) as client:
            assert client.persist(f"default_collection::{key}")


class RedisHooks(RespHooks):
    kind = RedisStore
    causes = redis.ConnectionError
    client_types = r"a Redis or a RedisCluster of redis or redis\.asyncio"

    def with_secret(self, url: str) -> AsyncKeyValue:
        return RedisStore(url=url.replace("://", f"://:{SECRET}@"))

    def refused(self) -> Iterable[tuple[Mapping[str, Any], type[Exception], str]]:
        for url in ("", "localhost", "http://localhost", f"redis://:{SECRET}@host:port/0"):
            yield {"url": url}, ValueError, r"URL.*; it should look like redis://user:password@localhost:6379/0"
        for url in ("redis://localhost/zero", f"rediss://:{SECRET}@localhost/0x1"):
            yield {"url": url}, ValueError, "the path of the URL must be the number of a database"
        for more in ({"port": 1}, {"host": "other"}, {"db": 1}):
            yield {"url": "redis://localhost", **more}, ValueError, "write it in the URL"
        yield {"url": f"redis://:{SECRET}@localhost", "password": SECRET}, ValueError, "password is given twice"
        yield {"url": f"redis://user:12/{SECRET}@localhost"}, ValueError, "percent-encode"
        yield {"client": redis.Redis(), "url": "redis://localhost"}, ValueError, "either a client or a url"
        yield {"cluster": True, "db": 1}, ValueError, "Give `cluster` without"

    def accepted(self) -> Iterable[Mapping[str, Any]]:
        for path in ("//localhost", "//localhost/", "//localhost/2", "//localhost/2/", "//localhost/2?db=2", "//localhost?db=2"):
            yield {"url": f"redis:{path}"}
        yield {"url": f"redis://user:{SECRET}@localhost:6380"}
        yield {"url": f"rediss://localhost:6380?password={SECRET}"}
        yield {"url": f"unix://user:{SECRET}@/run/r.sock"}
        yield {"password": SECRET}
        for more in ({"password": SECRET}, {"ssl": True}, {"ssl_ca_certs": "ca.pem"}, {"ssl_cert_reqs": "none"}):
            yield {"url": "redis://localhost", **more}

    def wrong_clients(self) -> Iterable[Any]:
        return "redis://localhost", object(), redis.Redis, redis.ConnectionPool()

    def sync_clients(self, url: str, package: Any = redis) -> Mapping[str, AbstractContextManager[Any]]:
        kind, some = (package.Redis, _OPTIONS) if self.name == "redis" else (package.RedisCluster, [*_OPTIONS[:2], _OPTIONS[-1]])
        return {str(options): kind.from_url(url, **options) for options in some}

    def async_clients(self, url: str) -> Mapping[str, AbstractAsyncContextManager[Any]]:
        clients: Any = self.sync_clients(url, redis.asyncio)
        return clients

    def assert_open(self, client: Any) -> None:
        if self.name == "redis":
            held = [*getattr(client.connection_pool, "_available_connections", []), *([client.connection] if client.connection else [])]
            assert any(connection._sock is not None for connection in held)
        assert client.ping() is True

    async def assert_open_async(self, client: Any) -> None:
        if self.name == "redis" and not client.single_connection_client:
            assert any(connection.is_connected for connection in client.connection_pool._available_connections)
        assert await client.ping() is True


_OPTIONS: list[dict[str, Any]] = [
    {},
    {"decode_responses": True},
    {"protocol": 3},
    {"protocol": 3, "decode_responses": True},
    {"encoding": "latin-1", "decode_responses": True},
    {"single_connection_client": True},
    {"max_connections": 2},
]

HOOKS = {name: RedisHooks(name) for name in ("redis", "redis-cluster")}
