"""A store in Redis, over redis-py."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# redis-py leaves some of its functions without types.

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial
from ssl import VerifyMode
from typing import Any, ClassVar

from keyvalue._core import constructor, runtime
from keyvalue._core.clients import Clients
from keyvalue._core.error_rules import ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.sockets import TlsOptions
from keyvalue._core.store import Stability
from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores._drivers.redis_client import (
    RoundTrip,
    capacity_of,
    close_client,
    create_async_client,
    create_client,
    disconnect,
    find_primaries,
    host_of,
    is_cluster,
    repair,
)
from keyvalue.stores._drivers.redis_errors import ERRORS, SOCKET_ERRORS, parse_answer
from keyvalue.stores._drivers.redis_options import TlsFiles, read_options
from keyvalue.stores._drivers.resp import PAGE, Command, Effect
from keyvalue.stores._resp import RespStore

with needs("redis"):
    import redis
    import redis.asyncio
    from redis.exceptions import BusyLoadingError, RedisClusterException

__all__ = ["RedisStore"]

_AT_ONCE = 20  # commands to a cluster
_AT_A_TIME = 2**15  # bytes that asyncio takes without waiting; its default is twice as much


class RedisStore(RespStore):
    """Keeps entries in a Redis database (6.2 or later), which other programs may use too.

    Format: the key `<collection>::<key>` (`keyvalue._core.layout` has the exceptions) is a string: the JSON document of
    `keyvalue._core.entry`. Redis expires it, to the millisecond.

    Listing and destroying scan the whole database and read every value with a matching name. They skip what this library did not write.
    On asyncio the store awaits redis-py's asynchronous client, one for each event loop. On trio it calls the synchronous client in worker
    threads, in synchronous code directly. A call fails at once if the server can't be reached; to retry, use a `RetryWrapper`.

    Args:
        client: A client of redis-py, sync or async; a cluster client or one from `Sentinel.master_for` too. It is never closed. A
            synchronous client works on every runtime, an asynchronous one only on the event loop that first uses it.
        url: Instead of a client: `redis://`, `rediss://` or `unix://`, with any option of redis-py, such as `max_connections` (default 100;
            further calls wait for a connection).
        host: The server, without a client or URL. Default "localhost".
        port: Its port. Default 6379.
        db: The number of the database. Default 0.
        username: The user. May accompany a URL that names no user.
        password: The password. May accompany a URL that has none.
        ssl: Whether to use TLS, also with a URL; implied by the following options and by `rediss://`. Default False.
        ssl_ca_certs: The file with the certificate authorities to trust.
        ssl_certfile: The file with this client's certificate.
        ssl_keyfile: The file with its key.
        ssl_check_hostname: Whether the server's certificate must be for its host. Default True. With a URL, False does not imply TLS.
        ssl_cert_reqs: "required", "optional" or "none", or the constant of `ssl`; redis-py's default is "required".
        cluster: Whether the server is a node of a Redis Cluster. The client asks it for the other nodes, and a bulk call is one round trip
            per node. Default False.
        timeout: Seconds allowed for connecting, and for a complete reply, unless the URL sets them. Default 5.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.

    Raises:
        ValueError: Both a client and a URL; a URL that can't be parsed, has an option unknown to redis-py, or repeats another argument; a
            cluster with a database number; a key without a certificate; an invalid host, port or database; a timeout that is not
            positive.
        TypeError: The client is not from redis-py, or a port or database is not an int.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    tls: ClassVar[TlsOptions] = TlsOptions(
        "pass ssl=True, or a URL with rediss://",
        "leave out ssl, ssl_… options (they turn TLS on beside a redis:// URL too) and rediss://",
        "pass the file with its certificate as ssl_ca_certs",
    )
    errors: ErrorRules = ERRORS
    _pooled_kind: type | None = None  # of asynchronous clients that were created here and have one pool

    @constructor.check_types
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
        ssl_cert_reqs: str | VerifyMode | None = None,
        cluster: bool = False,
        timeout: float = 5.0,
        default_collection: str | None = None,
    ) -> None:
        super().__init__(default_collection=default_collection)
        constructor.check_seconds(timeout, "timeout")
        if client is not None and url is not None:
            raise ValueError("Give RedisStore either a client or a url")
        if cluster and (client is not None or db != 0):
            raise ValueError(
                "Give `cluster` without `db`, as a cluster has database 0 only, and without a client, whose type says what it is"
            )
        self._files = TlsFiles()
        if client is not None:
            self._refuse_besides("a client", host, port, db, username, password, ssl=ssl)
            self._is_cluster = is_cluster(client)
            self._host = host_of(client)
            self._clients = Clients.borrow(
                "RedisStore",
                client,
                sync_types=(redis.Redis, redis.RedisCluster),
                async_types=(redis.asyncio.Redis, redis.asyncio.RedisCluster),
                wanted="a Redis or a RedisCluster of redis or redis.asyncio",
                capacity=capacity_of,
                repair=repair,
            )
            return
        self._is_cluster = cluster
        self._pooled_kind = None if cluster else redis.asyncio.Redis
        tls = {
            "ssl_ca_certs": ssl_ca_certs,
            "ssl_certfile": ssl_certfile,
            "ssl_keyfile": ssl_keyfile,
            "ssl_cert_reqs": ssl_cert_reqs,
        }
        credentials = {"username": username, "password": password}
        options = read_options(
            url, host, port, db, credentials=credentials, ssl=ssl, check_hostname=ssl_check_hostname, tls=tls, cluster=cluster
        )
        self._host, self._files = options.host, options.files
        if options.place is None:
            self.errors = (*SOCKET_ERRORS, *self.errors)
        self._clients = Clients(
            "RedisStore",
            create=partial(create_client, options.for_client, cluster, timeout),
            create_async=partial(create_async_client, options.for_client, cluster, timeout),
            close=close_client,
            capacity=capacity_of,
            repair=repair,
            peer=options.find_peer(self.tls),
        )

    async def _open(self) -> None:
        try:
            await super()._open()
        except (StoreConnectionError, StoreSetupError, RedisClusterException) as error:
            if self._files.paths and (fault := await runtime.run_in_worker(self._files.find_fault)):
                raise StoreSetupError(f"RedisStore: TLS: {fault}") from error
            if isinstance(error, StoreConnectionError):
                raise
            cause = error.__cause__ if isinstance(error, StoreSetupError) else error  # a cluster's client connects when it is made
            translated = self._translate_error(cause) if isinstance(cause, Exception) else None
            if translated is None or not isinstance(cause, Exception):
                raise
            raise await self._explain(translated, cause) from cause

    def _error_code(self, error: BaseException | None) -> str:
        return parse_answer(error)[0]

    async def _ask(self, *command: str) -> Any:
        if not self._is_cluster:
            return await super()._ask(*command)
        node = (await self._use(find_primaries, repeatable=True))[0]
        return await self._use(lambda client: client.execute_command(*command, NEVER_DECODE=True, target_nodes=node), repeatable=True)

    async def _explain(self, error: KeyValueStoreError, cause: Exception) -> KeyValueStoreError:
        if "unknown command" in str(cause) and not self._is_cluster:
            # A Sentinel answers a ping, but knows no command about keys.
            with suppress(KeyValueStoreError):  # the user may lack the right to ask
                role = await self._use(partial(self._execute, ("ROLE",)), explained=False)
                if role[0] in (b"sentinel", "sentinel"):
                    return self._error(StoreRefusedError, "this is a Sentinel; give client=Sentinel(…).master_for(…)", cause)
        return await super()._explain(error, cause)

    async def _leave(self) -> None:
        await self._use(disconnect)

    async def _send(self, commands: Sequence[Command], *, effect: Effect = "read", raises: bool = True) -> Sequence[Any]:
        if self._is_cluster and effect == "once" and len(commands) > 1:
            # A pipeline of a cluster's synchronous client sends again what has failed.
            return await runtime.map_concurrent(partial(self._send_alone, raises), commands, limit=_AT_ONCE)
        if len(commands) == 1 and raises:
            return (await self._send_one(commands[0], effect=effect),)

        def send(client: Any) -> Any:
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command, NEVER_DECODE=True)
            # Raised by redis-py, an error would quote the command, value included.
            return pipeline.execute(raise_on_error=False)

        replies = await self._use(send, repeatable=effect == "read")
        return self._checked(replies) if raises else replies

    async def _send_alone(self, raises: bool, command: Command) -> Any:
        try:
            return (await self._send([command], effect="once"))[0]
        except StoreRefusedError as error:
            if raises or error.__cause__ is None:
                raise
            return error.__cause__

    def _execute(self, command: Command, client: Any) -> Any:
        if type(client) is self._pooled_kind and sum(map(len, command)) < _AT_A_TIME:
            return RoundTrip(client.connection_pool, command)
        return client.execute_command(*command, NEVER_DECODE=True)

    def _groups(self, keys: Sequence[bytes]) -> Sequence[Sequence[int]]:
        return self._slots(keys)

    async def _scanned(self, pattern: bytes) -> AsyncGenerator[Sequence[bytes], None]:
        for node in await self._use(find_primaries, repeatable=True) if self._is_cluster else [None]:
            where = {} if node is None else {"target_nodes": node}
            cursor: Any = 0
            while True:
                scan = ("SCAN", cursor, "MATCH", pattern, "COUNT", PAGE)
                cursor, keys = await self._use(
                    lambda client, scan=scan, where=where: client.execute_command(*scan, NEVER_DECODE=True, **where), repeatable=True
                )
                if node is not None:
                    (cursor,) = cursor.values()  # by node
                if keys:
                    yield keys
                if int(cursor) == 0:
                    break

    def _is_stale_connection(self, error: BaseException | None) -> bool:
        return not isinstance(error, redis.TimeoutError | redis.ResponseError | BusyLoadingError)
