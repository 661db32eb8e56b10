"""How the store uses redis-py: creating clients, commands that outlive their callers, and connections that are not to be used again."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# redis-py leaves some of its functions without types.

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import Any

from keyvalue._core import urls
from keyvalue._core.extras import needs
from keyvalue._core.pending import Detached
from keyvalue.stores._drivers.resp import Command
from keyvalue.stores._drivers.sockets import BoundedSocket

with needs("redis"):
    import redis
    import redis.asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.retry import Retry

_CONNECTIONS = 100  # redis-py's own default from 8.0 on; before, there was no limit, and a server has one


def create_client(options: Mapping[str, Any], cluster: bool, timeout: float) -> Any:
    """Create a synchronous client.

    Args:
        options: redis-py's; with a `url`, the options in it take precedence.
        cluster: Whether of a cluster.
        timeout: Seconds that connecting, or a reply as a whole, may take.
    """
    kind = redis.RedisCluster if cluster else redis.Redis
    # redis-py's own retries would send GETDEL again after its answer was lost, to find nothing and say so.
    return _create(kind, options, timeout, retry=Retry(NoBackoff(), 0), redis_connect_func=partial(_bound, cluster))


def create_async_client(options: Mapping[str, Any], cluster: bool, timeout: float) -> Any:
    """Create an asynchronous client; see `create_client`."""
    kind = redis.asyncio.RedisCluster if cluster else redis.asyncio.Redis
    return _create(kind, options, timeout, retry=AsyncRetry(NoBackoff(), 0), **_without_notices(kind))


def _create(kind: Any, options: Mapping[str, Any], timeout: float, **more: Any) -> Any:
    limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "max_connections": _CONNECTIONS}
    create = kind.from_url if "url" in options else kind
    return create(**options, **limits, **more)


def close_client(client: Any) -> Any:
    """Close a client of either kind; may return an awaitable."""
    return client.aclose() if isinstance(client, redis.asyncio.Redis | redis.asyncio.RedisCluster) else client.close()


def is_cluster(client: Any) -> bool:
    """Return whether a client is one of a cluster."""
    # By type: the methods of the two are the same functions, so calling one to see would block the loop.
    return isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster)


def _bound(is_greeted: bool, connection: Any) -> None:
    """Have the timeout of a synchronous connection be for a whole reply, as that of an asynchronous one is; greet the server if need be."""
    connection._sock = BoundedSocket(connection._sock)
    if is_greeted:  # by the client of a cluster
        connection._parser.on_connect(connection)  # which then reads from that
    else:
        connection.on_connect()


class RoundTrip(Detached):
    """A command and its reply. If its caller is cancelled, a task reads the rest of the reply; until then it needs none.

    `execute_command` would drop the connection if it were cancelled, and not tell when the command has had its effect.

    Args:
        pool: The connections.
        command: The command.
    """

    def __init__(self, pool: redis.asyncio.ConnectionPool, command: Command) -> None:
        self._pool: Any = pool
        self._command = command
        self._rest: asyncio.Task[Any] | None = None

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the reply."""
        return self._run().__await__()

    async def _run(self) -> Any:
        connection = await self._pool.get_connection()
        is_sent = False
        try:
            await connection.send_command(*self._command)
            is_sent = True
            reply = await connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except asyncio.CancelledError:
            if is_sent:
                self._rest = asyncio.create_task(self._read_rest(connection))
                self._rest.add_done_callback(lambda rest: rest.cancelled() or rest.exception())
            else:
                await self._pool.release(connection)
            raise
        except BaseException as error:
            await self._drop_broken(connection, error if is_sent else None)
            raise
        await self._pool.release(connection)
        return reply

    async def _read_rest(self, connection: Any) -> None:
        try:
            await connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except BaseException as error:
            await self._drop_broken(connection, error)
            raise
        await self._pool.release(connection)

    async def _drop_broken(self, connection: Any, error: BaseException | None) -> None:
        """Give back a connection after an error; after one that leaves the reply unread, disconnected."""
        if isinstance(error, Exception) and not isinstance(error, redis.ResponseError):
            await connection.disconnect(nowait=True)
        await self._pool.release(connection)

    def ended(self) -> Future[None]:
        """Return a future that is done when the call has ended."""
        ended: Future[None] = Future()
        if self._rest is None:
            ended.set_result(None)
        else:
            self._rest.add_done_callback(lambda _: ended.set_result(None))
        return ended


def _without_notices(kind: Any) -> Mapping[str, Any]:
    """Return what has an asynchronous client notice a kept connection that has ended: with notices of maintenance on, it does not."""
    if "maint_notifications_config" not in inspect.signature(kind.__init__).parameters:  # those of redis-py before 8
        return {}
    from redis.maint_notifications import MaintNotificationsConfig  # noqa: PLC0415 # redis-py before 8 lacks it

    return {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}


def capacity_of(client: Any) -> int:
    """Return how many connections a client has at most; a cluster's has so many to each node, and needs one to see where the slots are."""
    if is_cluster(client):
        options: Any = (
            client.connection_kwargs if isinstance(client, redis.asyncio.RedisCluster) else client.nodes_manager.connection_kwargs
        )
        return max(1, (options.get("max_connections") or _CONNECTIONS) - 1)
    return client.connection_pool.max_connections


def disconnect(client: Any) -> Any:
    """Close the connections of a client that no call uses; may return an awaitable."""
    connection = client.connection  # its only one
    if connection is None:
        return disconnect_idle(client.connection_pool)
    if isinstance(client, redis.asyncio.Redis):
        return _disconnect_only(connection, client._single_conn_lock)  # pyright: ignore[reportPrivateUsage] # there is no other way to it
    with client.single_connection_lock:  # no call is under way
        connection.disconnect()
    return None


async def _disconnect_only(connection: Any, lock: Any) -> None:
    async with lock:
        await connection.disconnect()


def disconnect_idle(pool: Any) -> Any:
    """Close the connections of a pool that no call uses; may return an awaitable."""
    if not isinstance(pool, redis.BlockingConnectionPool):
        return pool.disconnect(inuse_connections=False)
    # Its `disconnect` closes all before redis-py 6. A connection taken out here is not taken by another thread.
    taken: list[Any] = []
    try:
        with suppress(Empty):
            while True:
                taken.append(pool.pool.get_nowait())
        for connection in taken:
            if connection is not None:
                connection.disconnect()
    finally:
        for connection in reversed(taken):
            pool.pool.put_nowait(connection)
    return None


def repair(client: redis.Redis | redis.RedisCluster) -> None:
    """Have no connection used again that was interrupted: while it was being made, or before its reply was read."""
    clients = [node.redis_connection for node in client.get_nodes()] if isinstance(client, redis.RedisCluster) else [client]
    for pool in [each.connection_pool for each in clients if each is not None]:
        disconnect_idle(pool)
        if not isinstance(pool, redis.BlockingConnectionPool):  # other threads may be waiting for its connections
            pool.reset()  # those in use elsewhere don't come back


def host_of(client: Any) -> str | None:
    """Return where a client's server is, for messages."""
    options: dict[str, Any] = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    if "host" not in options:
        return options.get("path")
    return f"{urls.check_host('RedisStore', options['host'], 'make the client with Redis.from_url')}:{options.get('port', 6379)}"


def execute_on(node: Any, command: Sequence[Any], client: Any) -> Any:
    """Have a client execute a command, on one node of a cluster if one is given; return the reply, or an awaitable of it."""
    where = {} if node is None else {"target_nodes": node}
    return client.execute_command(*command, NEVER_DECODE=True, **where)


def find_primaries(client: Any) -> Any:
    """Return the primary nodes of a cluster's client."""
    if isinstance(client, redis.RedisCluster):
        return client.get_primaries()

    async def initialized() -> Any:
        await client.initialize()
        return client.get_primaries()

    return initialized()
