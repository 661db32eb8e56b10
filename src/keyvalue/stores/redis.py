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
from keyvalue._core.store import Stability
from keyvalue.errors import KeyValueStoreError, StoreRefusedError, StoreSetupError
from keyvalue.stores._drivers import redis_client as clients
from keyvalue.stores._drivers.redis_errors import ERRORS, SOCKET_ERRORS, parse_answer
from keyvalue.stores._drivers.redis_options import TlsFiles, read_options
from keyvalue.stores._drivers.resp import PAGE, Command, Effect, refuse_beside
from keyvalue.stores._drivers.tls import TlsOptions, advise_on_tls
from keyvalue.stores._resp import RespStore

with needs("redis"):
    import redis
    import redis.asyncio
    from redis.exceptions import BusyLoadingError

__all__ = ["RedisStore"]

_AT_ONCE = 20  # commands to a cluster
_AT_A_TIME = 2**15  # bytes that asyncio takes without waiting; its default is twice as much

_TLS = TlsOptions(
    "pass ssl=True, or a URL with rediss://",
    "leave out ssl, ssl_… options (they turn TLS on beside a redis:// URL too) and rediss://",
    "pass the file with its certificate as ssl_ca_certs",
)


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
    errors: ErrorRules = advise_on_tls(_TLS, ERRORS)
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
            raise ValueError("Give `cluster` without `db`, as a cluster has database 0 only, and without a client, as its type says it")
        self._files = TlsFiles()
        if client is not None:
            refuse_beside("RedisStore", "a client", host=host, port=port, db=db, username=username, password=password, ssl=ssl)
            self._is_cluster = clients.is_cluster(client)
            self._host = clients.host_of(client)
            self._clients = Clients.borrow(
                "RedisStore",
                client,
                sync_types=(redis.Redis, redis.RedisCluster),
                async_types=(redis.asyncio.Redis, redis.asyncio.RedisCluster),
                wanted="a Redis or a RedisCluster of redis or redis.asyncio",
                capacity=clients.capacity_of,
                repair=clients.repair,
            )
            return
        credentials = {"username": username, "password": password}
        tls = {"ssl_ca_certs": ssl_ca_certs, "ssl_certfile": ssl_certfile, "ssl_keyfile": ssl_keyfile, "ssl_cert_reqs": ssl_cert_reqs}
        options = read_options(
            url, host, port, db, credentials=credentials, ssl=ssl, check_hostname=ssl_check_hostname, tls=tls, cluster=cluster
        )
        self._is_cluster = cluster
        self._pooled_kind = None if cluster else redis.asyncio.Redis
        self._host, self._files = options.host, options.files
        if options.place is None:
            self.errors = (*advise_on_tls(_TLS, SOCKET_ERRORS), *self.errors)
        self._clients = Clients(
            "RedisStore",
            create=partial(clients.create_client, options.for_client, cluster, timeout),
            create_async=partial(clients.create_async_client, options.for_client, cluster, timeout),
            close=clients.close_client,
            capacity=clients.capacity_of,
            repair=clients.repair,
            peer=options.find_peer(_TLS),
        )

    async def _open(self) -> None:
        await self._ping()  # creates the client, too, so that what goes wrong there is explained

    def _error_code(self, error: BaseException | None) -> str:
        return parse_answer(error)[0]

    async def _ask(self, *command: str) -> Any:
        if not self._is_cluster:
            return await super()._ask(*command)
        node = (await self._use(clients.find_primaries, repeatable=True))[0]
        return await self._use(partial(clients.execute_on, node, command), repeatable=True)

    async def _explain(self, error: KeyValueStoreError, cause: Exception) -> KeyValueStoreError:
        may_lack_files = self._unready and self._files.paths and not isinstance(error, StoreRefusedError)
        if may_lack_files and (fault := await runtime.run_in_worker(self._files.find_fault)):
            return StoreSetupError(f"RedisStore: TLS: {fault}")
        if isinstance(error, StoreSetupError):  # a cluster's client connects when it is created
            error = self._translate_error(cause) or error
        if "unknown command" in str(cause) and not self._is_cluster:
            # A Sentinel answers a ping, but knows no command about keys.
            with suppress(KeyValueStoreError):  # the user may lack the right to ask
                role = await self._use(partial(self._execute, ("ROLE",)), explained=False)
                if role[0] in (b"sentinel", "sentinel"):
                    return self._error(StoreRefusedError, "this is a Sentinel; give client=Sentinel(…).master_for(…)", cause)
        return await super()._explain(error, cause)

    async def _leave(self) -> None:
        await self._use(clients.disconnect)

    async def _send_all(self, commands: Sequence[Command], *, effect: Effect = "read") -> Sequence[Any]:
        if self._is_cluster and effect == "once":
            # A pipeline of a cluster's synchronous client sends again what has failed.
            return await runtime.map_concurrent(self._send_once, commands, limit=_AT_ONCE)
        return await super()._send_all(commands, effect=effect)

    async def _send_once(self, command: Command) -> Any:
        try:
            return await self._send_one(command, effect="once")
        except StoreRefusedError as error:
            return error

    def _execute(self, command: Command, client: Any) -> Any:
        if type(client) is self._pooled_kind and sum(map(len, command)) < _AT_A_TIME:
            return clients.RoundTrip(client.connection_pool, command)
        return client.execute_command(*command, NEVER_DECODE=True)

    def _execute_all(self, commands: Sequence[Command], client: Any) -> Any:
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command, NEVER_DECODE=True)
        # Raised by redis-py, an error would quote the command, value included.
        return pipeline.execute(raise_on_error=False)

    async def _scan_keys(self, pattern: bytes) -> AsyncGenerator[Sequence[bytes], None]:
        for node in await self._use(clients.find_primaries, repeatable=True) if self._is_cluster else [None]:
            cursor: Any = 0
            while True:
                scan = ("SCAN", cursor, "MATCH", pattern, "COUNT", PAGE)
                cursor, keys = await self._use(partial(clients.execute_on, node, scan), repeatable=True)
                if node is not None:
                    (cursor,) = cursor.values()  # by node
                if keys:
                    yield keys
                if int(cursor) == 0:
                    break

    def _is_stale_connection(self, error: BaseException | None) -> bool:
        return not isinstance(error, redis.TimeoutError | redis.ResponseError | BusyLoadingError)
