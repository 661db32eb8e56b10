"""A store in Valkey, over valkey-glide."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, ClassVar

from keyvalue._core import constructor
from keyvalue._core.clients import Clients
from keyvalue._core.error_rules import ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.store import Stability
from keyvalue.stores._drivers import valkey_client as clients
from keyvalue.stores._drivers.resp import Command, refuse_beside
from keyvalue.stores._drivers.tls import TlsOptions, advise_on_tls
from keyvalue.stores._drivers.valkey_errors import ERRORS, NODE_ERRORS, parse_answer
from keyvalue.stores._resp import RespStore

with needs("valkey"):
    import glide

__all__ = ["ValkeyStore"]

_LEAVING = 1.0  # seconds from when a demoted primary is left to when it is left again

_TLS = TlsOptions("pass tls=True", "leave out tls=True", "pass its certificate in a `config` with TlsAdvancedConfiguration")


class ValkeyStore(RespStore):
    """Keeps entries in a Valkey database, or one of Redis (6.2 or later), shared with whatever else lies there.

    Format: that of `RedisStore`: the key `<collection>::<key>` (see `keyvalue._core.layout` for names that this would mix) is a string that
    holds the JSON document of `keyvalue._core.entry`, with the time to live in milliseconds as its expiry.

    Listing and destroying scan the whole database and read every value under a matching name; what this library did not write is left
    alone. On asyncio the store awaits glide's asynchronous client, which a process can have on one event loop at a time; on further loops
    and on trio it calls the synchronous one in worker threads, and in synchronous code directly. Clients connect at the first call, and
    again by themselves after a connection was lost.

    Args:
        client: A client to use, for one server or a cluster, which is never closed. A synchronous one works on every runtime; an
            asynchronous one only on the event loop where it is first used.
        config: glide's configuration of a client, alone or a cluster's, instead of a client.
        host: The server, if there is neither a client nor a configuration. Default "localhost".
        port: Its port. Default 6379.
        db: The number of the database. Default 0.
        username: For servers with users.
        password: For servers with passwords.
        tls: Whether to use TLS. Default False. Certificates of one's own are a matter of `config`.
        cluster: Whether the server is a node of a cluster; the others are found by asking it. Default False.
        timeout: Seconds that connecting, or a reply, may take. A configuration has its own. Default 5; glide's, 0.25, is short for a busy
            event loop.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.

    Raises:
        ValueError: Both a client and a configuration, a cluster with a number of a database or a client or a configuration, a port or a
            database that can't be, or a timeout that is not positive.
        TypeError: The client or the configuration is not one of glide, or a port or a database is not an int.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    _left_at = -math.inf
    errors: ErrorRules = advise_on_tls(_TLS, ERRORS)

    @constructor.check_types
    def __init__(
        self,
        *,
        client: Any = None,
        config: glide.GlideClientConfiguration | glide.GlideClusterClientConfiguration | None = None,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        username: str | None = None,
        password: str | None = None,
        tls: bool = False,
        cluster: bool = False,
        timeout: float = 5.0,
        default_collection: str | None = None,
    ) -> None:
        super().__init__(default_collection=default_collection)
        constructor.check_seconds(timeout, "timeout")
        if client is not None and config is not None:
            raise ValueError("Give ValkeyStore either a client or a config")
        if cluster and (client is not None or config is not None or db != 0):
            raise ValueError(
                "Give `cluster` without `db`, as a cluster has database 0 only, and without a client or a config, which say so"
            )
        given = config if client is None else client
        if given is not None:
            refuse_beside("ValkeyStore", "a client or a config", host=host, port=port, db=db, username=username, password=password, tls=tls)
        if client is not None:
            config = getattr(client, "config", None)
        elif config is None:
            config = clients.create_config(host, port, db, username, password, tls=tls, cluster=cluster, timeout=timeout)
        self._host = clients.host_of(config)
        self._is_cluster = cluster or clients.is_cluster(given)
        if not self._is_cluster:
            self.errors = (*advise_on_tls(_TLS, NODE_ERRORS), *self.errors)
        if client is not None:
            self._clients = Clients.borrow("ValkeyStore", client, **clients.KINDS, capacity=clients.capacity_of)
            return
        lazy = clients.make_lazy(config)
        self._clients = Clients(
            "ValkeyStore",
            create=partial(clients.create_client, lazy),
            create_async=partial(clients.create_async_client, lazy),
            capacity=clients.capacity_of,
            peer=clients.find_peer(config, _TLS, verifies=tls),  # as glide does, unless a configuration says otherwise
        )

    def _execute(self, command: Command, client: Any) -> Any:
        return client.custom_command(list(command))

    def _execute_all(self, commands: Sequence[Command], client: Any) -> Any:
        return clients.execute_all(commands, client)

    def _group_for_bulk(self, keys: Sequence[bytes]) -> Sequence[Sequence[int]]:
        return (range(len(keys)),)  # glide splits them, a quarter faster than here

    def _error_code(self, error: BaseException | None) -> str:
        return parse_answer(error)[0]

    def _is_stale_connection(self, error: BaseException | None) -> bool:
        return not isinstance(error, glide.TimeoutError) and not self._error_code(error)

    async def _leave(self) -> None:
        # All calls share a connection, and each that is under way when it ends has to be made again.
        now = time.monotonic()
        if now >= self._left_at + _LEAVING:
            self._left_at = now
            await self._use(partial(self._execute, ("QUIT",)))  # glide connects again by itself

    async def _scan_keys(self, pattern: bytes) -> AsyncGenerator[Sequence[bytes], None]:
        cursor: Any = None
        while True:
            cursor, keys = await self._use(partial(clients.scan_page, cursor, pattern))
            if keys:
                yield keys
            if cursor.is_finished() if self._is_cluster else int(cursor) == 0:
                return
