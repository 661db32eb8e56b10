"""A store in Redis, over redis-py."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# redis-py leaves some of its functions without types.

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import Any, ClassVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from keyvalue._core import arguments, runtime
from keyvalue._core.client import Client
from keyvalue._core.extras import needs
from keyvalue._core.sockets import BoundedSocket
from keyvalue._core.store import ErrorTable, Stability
from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores._resp import PAGE, Command, RespStore

with needs("redis"):
    import redis
    import redis.asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.connection import parse_url
    from redis.exceptions import (
        AuthorizationError,
        BusyLoadingError,
        ClusterDownError,
        MasterDownError,
        MaxConnectionsError,
        MovedError,
        NoPermissionError,
        OutOfMemoryError,
        RedisClusterException,
        TryAgainError,
    )
    from redis.retry import Retry

__all__ = ["RedisStore"]

_AT_ONCE = 20  # commands to a cluster
_CONNECTIONS = 100  # redis-py's own default from 8.0 on; before, there was no limit, and a server has one
_WORDS: Mapping[type[BaseException], str] = {
    redis.ReadOnlyError: "READONLY",
    BusyLoadingError: "LOADING",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    MovedError: "MOVED",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
    TryAgainError: "TRYAGAIN",
}
"""The first word of a server's answer, where redis-py makes a class of it."""
_AT_A_TIME = 2**15  # bytes that asyncio takes without waiting; its default is twice as much


class RedisStore(RespStore):
    """Keeps entries in a Redis database (6.2 or later), shared with whatever else lies there.

    Format: the key `<collection>::<key>` (see `keyvalue._core.flat` for names that this would mix) is a string that holds the JSON
    document of `keyvalue._core.entry`, with the time to live in milliseconds as its expiry.

    Listing and destroying scan the whole database and read every value under a matching name; what this library did not write is left
    alone. On asyncio the store awaits redis-py's asynchronous client, one for each event loop; on trio it calls the synchronous one in
    worker threads, and in synchronous code directly. A call fails at once if the server is not there: retrying is a wrapper's business.

    Args:
        client: A client to use, of either colour, a cluster's or one that `Sentinel.master_for` made included. It is never closed. A
            synchronous one works on every runtime; an asynchronous one only on the event loop where it is first used.
        url: `redis://`, `rediss://` or `unix://`, with all options that redis-py takes, such as `max_connections` (default 100; further
            calls wait for one); instead of a client.
        host: The server, if there is neither a client nor a URL. Default "localhost".
        port: Its port. Default 6379.
        db: The number of the database. Default 0.
        username: For servers with users.
        password: For servers with passwords.
        ssl: Whether to use TLS; implied by any of the following. Default False.
        ssl_ca_certs: The file with the authorities to trust.
        ssl_certfile: The file with this client's certificate.
        ssl_keyfile: The file with its key.
        ssl_check_hostname: Whether the server's certificate must be for its host. Default True.
        ssl_cert_reqs: "required", "optional" or "none"; redis-py's default is "required".
        cluster: Whether the server is a node of a Redis Cluster; the others are found by asking it. A bulk call is one round trip for each
            node then. Default False.
        timeout: Seconds that connecting, or a reply as a whole, may take, unless the URL says otherwise. Default 5.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.

    Raises:
        ValueError: Both a client and a URL, the URL can't be parsed or comes with what it would say itself, a cluster with a number of a
            database, or a timeout that is not positive.
        TypeError: The client is not one of redis-py.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    errors: ClassVar[ErrorTable] = (
        (redis.AuthenticationError, StoreRefusedError, "the server refused the credentials; check username and password"),
        (AuthorizationError, StoreRefusedError, "the server refused the credentials; check the user's rights"),
        (
            MaxConnectionsError,
            StoreConnectionError,
            "all connections of the client are taken; something else uses it too, so give it a larger max_connections",
        ),
        (redis.ConnectionError, StoreConnectionError, "could not reach the server; is it running, and are host and port right?"),
        (redis.TimeoutError, StoreConnectionError, "the server did not answer in time"),
        (redis.ResponseError, StoreRefusedError, "the server refused the command; is there such a database?"),
        (redis.RedisError, StoreRefusedError, "the server refused the command"),
        (OSError, StoreConnectionError, "could not reach the server"),
    )

    @arguments.checked
    def __init__(
        self,
        *,
        client: redis.Redis | redis.asyncio.Redis | redis.RedisCluster | redis.asyncio.RedisCluster | None = None,
        url: str | None = None,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        username: str | None = None,
        password: str | None = None,
        ssl: bool = False,
        ssl_ca_certs: str | None = None,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        ssl_check_hostname: bool = True,
        ssl_cert_reqs: str | None = None,
        cluster: bool = False,
        timeout: float = 5.0,
        default_collection: str | None = None,
    ) -> None:
        super().__init__(default_collection=default_collection)
        arguments.seconds(timeout, "timeout")
        if client is not None and url is not None:
            raise ValueError("Give RedisStore either a client or a url")
        if cluster and (client is not None or db != 0):
            raise ValueError(
                "Give `cluster` without `db`, as a cluster has database 0 only, and without a client, whose type says what it is"
            )
        self._has_pools = client is None and not cluster
        if client is not None:
            # By type: the methods of the two are the same functions, so calling one to see would block the loop.
            self._is_cluster = isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster)
            self._host = _host_of(client)
            if isinstance(client, redis.asyncio.Redis | redis.asyncio.RedisCluster):
                self._client = Client("RedisStore", given_async=client, capacity=_capacity)
            elif isinstance(client, redis.Redis | redis.RedisCluster):
                self._client = Client("RedisStore", given=client, capacity=_capacity, repair=_repair)
            else:
                raise TypeError(f"The client must be a Redis or a RedisCluster of redis or redis.asyncio, not {arguments.article(client)}")
            return
        self._is_cluster = cluster
        kind, kind_async = (redis.RedisCluster, redis.asyncio.RedisCluster) if cluster else (redis.Redis, redis.asyncio.Redis)
        make: Callable[..., Any]
        make_async: Callable[..., Any]
        options: dict[str, Any]
        if url is None:
            self._host = f"{host}:{port}"
            options = {"host": host, "port": port, "username": username, "password": password} | ({} if cluster else {"db": db})
            tls = {"ca_certs": ssl_ca_certs, "certfile": ssl_certfile, "keyfile": ssl_keyfile, "cert_reqs": ssl_cert_reqs}
            tls = {f"ssl_{name}": value for name, value in tls.items() if value is not None}
            if ssl or tls or not ssl_check_hostname:
                options |= {"ssl": True, "ssl_check_hostname": ssl_check_hostname, **tls}
            make, make_async = kind, kind_async
        else:
            if (host, port, db) != ("localhost", 6379, 0) or username is not None or password is not None or ssl:
                raise ValueError("Give RedisStore either a url or host, port, db, username, password and ssl: the URL says it all")
            if ssl_ca_certs or ssl_certfile or ssl_keyfile or ssl_cert_reqs or not ssl_check_hostname:
                raise ValueError("Give RedisStore no ssl_… beside a url: the URL says it all, as in rediss://host?ssl_ca_certs=ca.pem")
            place = arguments.url("RedisStore", url, _parsed, "redis://user:password@localhost:6379/0")
            if not _names_database(place):
                raise ValueError("RedisStore: the path of the URL must be the number of a database, as in redis://localhost:6379/0")
            self._host = place.netloc.rpartition("@")[2] or place.path
            options = {"url": url}
            make, make_async = kind.from_url, kind_async.from_url
        # What a URL says counts more.
        options |= {"socket_timeout": timeout, "socket_connect_timeout": timeout, "max_connections": _CONNECTIONS}
        bounding: dict[str, Any] = {"redis_connect_func": partial(_bound, cluster)}
        # redis-py's own retries would send GETDEL again after its answer was lost, to find nothing and say so.
        self._client = Client(
            "RedisStore",
            make=lambda: make(**options, retry=Retry(NoBackoff(), 0), **bounding),
            make_async=lambda: make_async(**options, retry=AsyncRetry(NoBackoff(), 0)),
            close=lambda client: client.aclose() if isinstance(client, kind_async) else client.close(),
            capacity=_capacity,
            repair=_repair,
        )

    async def _open(self) -> None:
        try:
            await super()._open()
        except (StoreSetupError, RedisClusterException) as error:  # a cluster's client connects when it is made
            cause = error.__cause__ if isinstance(error, StoreSetupError) else error
            mapped = self._mapped(cause) if isinstance(cause, Exception) else None
            if mapped is None:
                raise
            raise mapped from cause

    def _mapped(self, error: Exception) -> KeyValueStoreError | None:
        # What a cluster's client has met with is behind what it raises, which is no RedisError.
        if isinstance(error, RedisClusterException) and not self._closed:
            for behind in _chain(error):
                if isinstance(behind, redis.RedisError | OSError):
                    return super()._mapped(behind)
            if "not enabled" in str(error):
                return self._problem(StoreRefusedError, "the server is no node of a cluster; leave out cluster=True", error)
            return self._problem(StoreConnectionError, "could not reach the cluster; is it running, and are host and port right?", error)
        # What asyncio and redis-py raise when a command is written to a connection that has ended meanwhile.
        if (
            isinstance(error, AttributeError)
            and not self._closed
            and _raised_in(error).startswith(("asyncio.", "redis.asyncio.connection"))
        ):
            return self._problem(StoreConnectionError, "the connection was lost", error)
        return super()._mapped(error)

    def _error_code(self, error: BaseException | None) -> str:
        if isinstance(error, redis.ResponseError | BusyLoadingError):
            return _WORDS.get(type(error)) or str(error).partition(" ")[0]
        return ""

    async def _ask(self, *command: str) -> Any:
        if not self._is_cluster:
            return await super()._ask(*command)
        node = (await self._use_again(_primaries))[0]
        return await self._use_again(lambda client: client.execute_command(*command, NEVER_DECODE=True, target_nodes=node))

    async def _leave(self) -> None:
        await self._use(_disconnect)

    async def _send(self, commands: Sequence[Command], *, repeatable: bool = True, raises: bool = True) -> Sequence[Any]:
        use = self._use_again if repeatable else self._use
        if self._is_cluster and not repeatable and len(commands) > 1:
            # A pipeline of a cluster's synchronous client sends again what has failed.
            replies = await self._each(partial(self._send, repeatable=False), [[command] for command in commands], _AT_ONCE)
            return [reply for (reply,) in replies]
        if len(commands) == 1 and raises:
            return (await use(lambda client: self._executed(client, commands[0])),)

        def send(client: Any) -> Any:
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command, NEVER_DECODE=True)
            # Raised by redis-py, an error would quote the command, value included.
            return pipeline.execute(raise_on_error=False)

        replies = await use(send)
        return self._checked(replies) if raises else replies

    def _executed(self, client: Any, command: Command) -> Any:
        if self._has_pools and isinstance(client, redis.asyncio.Redis) and sum(map(len, command)) < _AT_A_TIME:
            # `execute_command` would drop the connection if it were cancelled, and not tell when the command has had its effect.
            pool = client.connection_pool
            return runtime.RoundTrip(lambda: _sent(pool, command), _received, pool.release)
        return client.execute_command(*command, NEVER_DECODE=True)

    def _groups(self, keys: Sequence[bytes]) -> Sequence[Sequence[int]]:
        return self._slots(keys)

    async def _scanned(self, pattern: bytes) -> AsyncGenerator[Sequence[bytes], None]:
        for node in await self._use_again(_primaries) if self._is_cluster else [None]:
            where = {} if node is None else {"target_nodes": node}
            cursor: Any = 0
            while True:
                scan = ("SCAN", cursor, "MATCH", pattern, "COUNT", PAGE)
                cursor, keys = await self._use_again(
                    lambda client, scan=scan, where=where: client.execute_command(*scan, NEVER_DECODE=True, **where)
                )
                if node is not None:
                    (cursor,) = cursor.values()  # by node
                if keys:
                    yield keys
                if int(cursor) == 0:
                    break

    def _is_lost(self, error: BaseException | None) -> bool:
        return not isinstance(error, redis.TimeoutError | redis.ResponseError | BusyLoadingError)

    def _is_broken(self, error: BaseException | None) -> bool:
        # By the message: asyncio wraps what the addresses of a host answer in an error that is no ConnectionRefusedError.
        return super()._is_broken(error) and not any(" connecting to " in str(each) for each in _chain(error))


def _chain(error: BaseException | None) -> Generator[Any, None, None]:
    """Yield an error and those behind it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _raised_in(error: BaseException) -> str:
    """Return the name of the module that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")


def _bound(is_greeted: bool, connection: Any) -> None:
    """Have the timeout of a synchronous connection be for a whole reply, as that of an asynchronous one is; greet the server if need be."""
    connection._sock = BoundedSocket(connection._sock)
    if is_greeted:  # by the client of a cluster
        connection._parser.on_connect(connection)  # which then reads from that
    else:
        connection.on_connect()


async def _sent(pool: redis.asyncio.ConnectionPool, command: Command) -> Any:
    connection = await pool.get_connection()
    try:
        await connection.send_command(*command)
    except BaseException:
        await pool.release(connection)
        raise
    return connection


async def _received(connection: Any) -> Any:
    try:
        return await connection.read_response(disable_decoding=True, disconnect_on_error=False)
    except redis.ResponseError:
        raise
    except Exception:
        await connection.disconnect(nowait=True)
        raise


def _capacity(client: Any) -> int:
    """Return how many connections a client has at most; a cluster's has so many to each node, and needs one to see where the slots are."""
    if isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster):
        options: Any = (
            client.connection_kwargs if isinstance(client, redis.asyncio.RedisCluster) else client.nodes_manager.connection_kwargs
        )
        return max(1, (options.get("max_connections") or _CONNECTIONS) - 1)
    return client.connection_pool.max_connections


def _disconnect(client: Any) -> Any:
    connection = client.connection  # its only one
    if connection is None:
        return _disconnect_idle(client.connection_pool)
    if isinstance(client, redis.asyncio.Redis):
        return _disconnect_only(connection, client._single_conn_lock)  # pyright: ignore[reportPrivateUsage] # there is no other way to it
    with client.single_connection_lock:  # no call is under way
        connection.disconnect()
    return None


async def _disconnect_only(connection: Any, lock: Any) -> None:
    async with lock:
        await connection.disconnect()


def _disconnect_idle(pool: Any) -> Any:
    """Close the connections of a pool that no call uses; may return an awaitable."""
    if not isinstance(pool, redis.BlockingConnectionPool):
        return pool.disconnect(inuse_connections=False)
    # Its `disconnect` closes all before redis-py 6. What is taken out here, nobody else takes meanwhile.
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


def _repair(client: redis.Redis | redis.RedisCluster) -> None:
    """Have no connection used again that was interrupted: while it was being made, or before its reply was read."""
    clients = [node.redis_connection for node in client.get_nodes()] if isinstance(client, redis.RedisCluster) else [client]
    for pool in [each.connection_pool for each in clients if each is not None]:
        _disconnect_idle(pool)
        if not isinstance(pool, redis.BlockingConnectionPool):  # other threads may be waiting for its connections
            pool.reset()  # those in use elsewhere don't come back


def _host_of(client: Any) -> str | None:
    options: dict[str, Any] = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    return f"{options['host']}:{options.get('port', 6379)}" if "host" in options else options.get("path")


def _names_database(place: SplitResult) -> bool:
    """Return whether a URL's path is what redis-py takes for a database; anything else it would take for database 0."""
    path = unquote(place.path).replace("/", "")
    return place.scheme == "unix" or not path or path.isdecimal() or "db" in parse_qs(place.query)


def _primaries(client: Any) -> Any:
    """Return the primary nodes of a cluster's client."""
    if isinstance(client, redis.RedisCluster):
        return client.get_primaries()

    async def initialized() -> Any:
        await client.initialize()
        return client.get_primaries()

    return initialized()


def _parsed(url: str) -> SplitResult | None:
    try:
        parse_url(url)
    except ValueError:  # its message may quote a part of the password
        return None
    return urlsplit(url)
