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
    """Keeps entries in a Redis database (6.2 or later), shared with whatever else lies there.

    Format: the key `<collection>::<key>` (see `keyvalue._core.layout` for names that this would mix) is a string that holds the JSON
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
        username: For servers with users. Beside a URL without one, too.
        password: For servers with passwords. Beside a URL without one, too.
        ssl: Whether to use TLS, beside a URL too; implied by any of the following, and by `rediss://`. Default False.
        ssl_ca_certs: The file with the authorities to trust.
        ssl_certfile: The file with this client's certificate.
        ssl_keyfile: The file with its key.
        ssl_check_hostname: Whether the server's certificate must be for its host. Default True. False beside a URL does not imply TLS.
        ssl_cert_reqs: "required", "optional" or "none", or the constant of `ssl`; redis-py's default is "required".
        cluster: Whether the server is a node of a Redis Cluster; the others are found by asking it. A bulk call is one round trip for each
            node then. Default False.
        timeout: Seconds that connecting, or a reply as a whole, may take, unless the URL says otherwise. Default 5.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.

    Raises:
        ValueError: Both a client and a URL, the URL can't be parsed, has an option that redis-py does not know, or comes with what it says
            itself, a cluster with a number of a database, a key without a certificate, a host that is more than that, a port or a
            database that can't be, or a timeout that is not positive.
        TypeError: The client is not one of redis-py, or a port or a database is not an int.
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
            raise ValueError(
                "Give `cluster` without `db`, as a cluster has database 0 only, and without a client, whose type says what it is"
            )
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
