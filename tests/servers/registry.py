"""All kinds of servers that the tests use. Each is imported when it is first asked for, as its module needs the client's library."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module

from tests.servers import Server

_MODULES = {
    "redis": "redis",
    "redis-cluster": "redis",
    "valkey": "redis",
    "valkey-cluster": "redis",
    "memcached": "memcached",
    "mongodb": "mongodb",
    "mongodb-replicaset": "mongodb",
    "dynamodb": "dynamodb",
    "elasticsearch": "elasticsearch",
    "keyring": "keyring",
    "vault": "vault",
}


class _Servers(Mapping[str, Server]):
    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules

    def __getitem__(self, name: str) -> Server:
        return getattr(import_module(f"tests.servers.{self._modules[name]}"), name.upper().replace("-", "_"))

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


SERVERS: Mapping[str, Server] = _Servers(_MODULES if sys.platform != "win32" else {})  # there, only what needs no server is tested
