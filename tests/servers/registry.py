"""All kinds of servers that the tests use."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.servers import Server

if TYPE_CHECKING or sys.platform != "win32":
    from tests.servers.dynamodb import DYNAMODB
    from tests.servers.elasticsearch import ELASTICSEARCH
    from tests.servers.keyring import KEYRING
    from tests.servers.memcached import MEMCACHED
    from tests.servers.mongodb import MONGODB, MONGODB_REPLICA_SET
    from tests.servers.redis import REDIS, REDIS_CLUSTER, VALKEY, VALKEY_CLUSTER
    from tests.servers.vault import VAULT

    SERVERS: dict[str, Server] = {
        server.name: server
        for server in (
            REDIS,
            REDIS_CLUSTER,
            VALKEY,
            VALKEY_CLUSTER,
            MEMCACHED,
            MONGODB,
            MONGODB_REPLICA_SET,
            DYNAMODB,
            ELASTICSEARCH,
            KEYRING,
            VAULT,
        )
    }
else:  # there, only what needs no server is tested
    SERVERS = {}
