"""Memcached."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from typing import Any
from urllib.parse import urlsplit

import aiomcache
import pymemcache

from keyvalue.stores.memcached import MemcachedStore
from tests.servers.memcached import items
from tests.stores.hooks import DAMAGED_BYTES, NEVER, Hooks, document

_DAYS = 24 * 3600


class MemcachedHooks(Hooks):
    kind = MemcachedStore
    client_types = r"aiomcache\.Client, a pymemcache"

    ttls = (0.001, 0.4, 1, 1.9999, 2, 100, 30 * _DAYS - 1, 30 * _DAYS, 30 * _DAYS + 1, 300 * _DAYS)
    early = 1.1  # its clock is behind by up to a second, and so is what it says
    reclaims = True
    offsets = 10
    real_ttl = 1.9

    misnamed = (("a", "elsewhere"),)
    damaged: Mapping[str, bytes] = {**DAMAGED_BYTES, "a number": b"1"}
    counts_bulk = False  # in synchronous code, as the docs say

    def raw(self, url: str) -> Any:
        return closing(pymemcache.Client(urlsplit(url).netloc, default_noreply=False, allow_unicode_keys=True))

    def refused(self) -> Iterator[tuple[Mapping[str, Any], type[Exception], str]]:
        for more in ({"host": "localhost"}, {"port": 1}):
            yield {"client": aiomcache.Client("127.0.0.1"), **more}, ValueError, "either a client or"
        for kind in (pymemcache.Client, pymemcache.PooledClient):
            yield {"client": kind("127.0.0.1", ignore_exc=True)}, ValueError, "without ignore_exc"
        for limit in ({"timeout": 0}, {"timeout": -1.0}, {"max_value_size": 0}):
            yield limit, ValueError, "must be"

    def wrong_clients(self) -> Iterable[Any]:
        return "localhost", object(), aiomcache.Client, pymemcache.HashClient([])

    def sync_clients(self, url: str) -> Mapping[str, AbstractContextManager[Any]]:
        server = urlsplit(url).netloc
        return {"one": closing(pymemcache.Client(server)), "pool": closing(pymemcache.PooledClient(server, max_pool_size=2))}

    def assert_open(self, client: Any) -> None:
        connection = client if isinstance(client, pymemcache.Client) else client.client_pool.free[0]
        assert connection.sock is not None

    def contents(self, url: str) -> Mapping[str, bytes]:
        with self.raw(url) as client:
            return {name: client.get(name) for name in items(url)}

    def plant_foreign(self, url: str) -> None:
        theirs = {
            "plain": b"text",
            "counter": b"1",
            "a::plain": b"text",
            "a::b::k": b"not a document",
            "a::elsewhere": document("b", "elsewhere").encode(),
        }
        with self.raw(url) as client:
            for name, text in theirs.items():
                client.set(name, text)

    def plant(self, url: str, name: str, data: bytes) -> None:
        with self.raw(url) as client:
            client.set(name, data, flags=16)

    def expiries(self, url: str) -> Mapping[str, float]:
        return {name.partition("::")[2]: float(expiry) if expiry >= 0 else NEVER for name, expiry in items(url).items()}

    def postpone(self, url: str, key: str) -> None:
        with self.raw(url) as client:
            assert client.touch(f"default_collection::{key}", 0)


HOOKS = {"memcached": MemcachedHooks("memcached")}
