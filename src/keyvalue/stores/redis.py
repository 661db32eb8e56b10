"""A store in Redis, over redis-py."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# redis-py leaves some of its functions without types.

from __future__ import annotations

import inspect
import os
import re
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty
from ssl import PROTOCOL_TLS_CLIENT, SSLContext, SSLError, VerifyMode
from typing import Any, ClassVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from keyvalue._core import constructor, runtime, urls, wording
from keyvalue._core.client import Client
from keyvalue._core.error_rules import ErrorRule, ErrorRules, unwrapping_rules
from keyvalue._core.extras import needs
from keyvalue._core.pending import RoundTrip
from keyvalue._core.sockets import BoundedSocket, Peer, TlsOptions
from keyvalue._core.store import Stability
from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError, StoreSetupError
from keyvalue.stores._resp import NOT_RESP, PAGE, Command, Effect, RespStore, answer_rules, judge

with needs("redis"):
    import redis
    import redis.asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.connection import parse_url
    from redis.exceptions import (
        AskError,
        AuthorizationError,
        BusyLoadingError,
        ClusterCrossSlotError,
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
    ClusterCrossSlotError: "CROSSSLOT",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    AskError: "ASK",
    MovedError: "MOVED",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
    TryAgainError: "TRYAGAIN",
}
"""The first word of a server's answer, where redis-py makes a class of it."""
_REQUIREMENTS = "'required', 'optional' or 'none'"
_AT_SOCKET: Mapping[type[OSError], str] = {
    FileNotFoundError: "there is no socket at this path; is the server running, and is the path that of its `unixsocket`?",
    ConnectionRefusedError: "nothing listens on this socket; is the server running, and is the path that of its `unixsocket`?",
    PermissionError: "this user may not use the socket; the server's `unixsocketperm` says who may",
}
_NOT_AT_SOCKET = "could not reach the server over its socket; is it running?"
_EXAMPLE = "redis://user:password@localhost:6379/0"
_AT_A_TIME = 2**15  # bytes that asyncio takes without waiting; its default is twice as much


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


def _answer_in(error: BaseException | None) -> tuple[str, str]:
    """Return the server's answer that an error stands for; see `answer_rules`."""
    text = str(error)
    if isinstance(error, redis.ConnectionError) and "max number of clients" in text:
        return "ERR", text
    if isinstance(error, redis.AuthenticationError):
        return "NOAUTH" if re.search("HELLO must|Authentication required", text) else "WRONGPASS", text
    if not isinstance(error, redis.ResponseError | BusyLoadingError):
        return "", ""
    if known := _WORDS.get(type(error)):
        return known, text
    word, _, rest = text.partition(" ")
    return (word, rest) if word.isupper() and word.isalpha() and len(word) > 2 else ("ERR", text)  # which redis-py drops


def _is_unsent(error: redis.ConnectionError) -> bool:
    # By the message: asyncio wraps what the addresses of a host answer in an error that is no ConnectionRefusedError.
    return any(" connecting to " in str(each) for each in _chain(error))


def _is_lost_on_asyncio(error: AttributeError) -> bool:
    """Return whether this is what asyncio and redis-py raise when a command is written to a connection that has ended meanwhile."""
    return _raised_in(error).startswith(("asyncio.", "redis.asyncio.connection"))


_UNREACHABLE = "could not reach the server; is it running, and are host and port right?"
_ANSWER_ERRORS = (
    *answer_rules((redis.ConnectionError, redis.ResponseError), _answer_in),
    ErrorRule(redis.InvalidResponse, StoreConnectionError, NOT_RESP),
    ErrorRule(AuthorizationError, StoreRefusedError, "the server refused the credentials; check the user's rights"),
    ErrorRule(
        MaxConnectionsError,
        StoreConnectionError,
        "all connections of the client are taken; something else uses it too, so give it a larger max_connections",
        unsent=True,
    ),
)
_CLIENT_ERRORS = (
    *_ANSWER_ERRORS,
    ErrorRule(redis.ConnectionError, StoreConnectionError, _UNREACHABLE, when=_is_unsent, unsent=True),
    ErrorRule(redis.ConnectionError, StoreConnectionError, _UNREACHABLE),
    ErrorRule(redis.TimeoutError, StoreConnectionError, "the server did not answer in time"),
    ErrorRule(redis.RedisError, StoreRefusedError, "the server refused the command"),
    ErrorRule(OSError, StoreConnectionError, "could not reach the server"),
    ErrorRule(AttributeError, StoreConnectionError, "the connection was lost", when=_is_lost_on_asyncio),
)
_ERRORS = (
    # What a cluster's client has met with is behind what it raises, which is no RedisError.
    *unwrapping_rules(
        RedisClusterException,
        lambda error: next((each for each in _chain(error) if isinstance(each, redis.RedisError | OSError)), None),
        _CLIENT_ERRORS,
    ),
    ErrorRule(RedisClusterException, StoreConnectionError, "could not reach the cluster; is it running, and are host and port right?"),
    *_CLIENT_ERRORS,
)


def _is_at_socket(error: redis.ConnectionError) -> bool:
    # Not those that are more than this, nor what the server answers, which the asynchronous client wraps.
    return type(error) is redis.ConnectionError and not _answer_in(error)[0]


def _advice_at_socket(error: Exception) -> str:
    behind = next((each for each in _chain(error) if isinstance(each, OSError)), None)
    return next((advice for kind, advice in _AT_SOCKET.items() if isinstance(behind, kind)), _NOT_AT_SOCKET)


_ERRORS_AT_SOCKET = (
    *unwrapping_rules(
        redis.ConnectionError,
        lambda error: next((each for each in _chain(error) if isinstance(each, redis.AuthenticationError)), None),
        _ANSWER_ERRORS,
    ),
    ErrorRule(
        redis.ConnectionError,
        StoreConnectionError,
        _advice_at_socket,
        when=lambda error: _is_at_socket(error) and _is_unsent(error),
        unsent=True,
    ),
    ErrorRule(redis.ConnectionError, StoreConnectionError, _advice_at_socket, when=_is_at_socket),
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
    tls: ClassVar[TlsOptions] = TlsOptions(
        "pass ssl=True, or a URL with rediss://",
        "leave out ssl, ssl_… options (they turn TLS on beside a redis:// URL too) and rediss://",
        "pass the file with its certificate as ssl_ca_certs",
    )
    errors: ErrorRules = _ERRORS

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
        self._has_pools = client is None and not cluster
        self._files: Mapping[str, str] = {}
        self._file_password = ""
        if client is not None:
            self._refuse_besides("a client", host, port, db, username, password, ssl=ssl)
            # By type: the methods of the two are the same functions, so calling one to see would block the loop.
            self._is_cluster = isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster)
            self._host = _host_of(client)
            if isinstance(client, redis.asyncio.Redis | redis.asyncio.RedisCluster):
                self._client = Client("RedisStore", given_async=client, capacity=_capacity)
            elif isinstance(client, redis.Redis | redis.RedisCluster):
                self._client = Client("RedisStore", given=client, capacity=_capacity, repair=_repair)
            else:
                raise TypeError(f"The client must be a Redis or a RedisCluster of redis or redis.asyncio, not {wording.describe(client)}")
            return
        self._is_cluster = cluster
        kind, kind_async = (redis.RedisCluster, redis.asyncio.RedisCluster) if cluster else (redis.Redis, redis.asyncio.Redis)
        make: Callable[..., Any]
        make_async: Callable[..., Any]
        options: dict[str, Any]
        peer: Peer | None = None
        files = {"ssl_ca_certs": ssl_ca_certs, "ssl_certfile": ssl_certfile, "ssl_keyfile": ssl_keyfile}
        tls: dict[str, Any] = {**files, "ssl_cert_reqs": _requirement(ssl_cert_reqs)}
        tls = {option: value for option, value in tls.items() if value is not None}
        constructor.check_port("RedisStore", port)
        constructor.check_integer("RedisStore", "db", db, 0)
        credentials = {"username": username, "password": password}
        if url is None:
            self._host = f"{urls.check_host('RedisStore', host, 'give a port as `port`, and a URL as `url`')}:{port}"
            options = {"host": host, "port": port, **credentials} | ({} if cluster else {"db": db})
            is_secure = bool(ssl or tls or not ssl_check_hostname)
            if is_secure:
                options |= {"ssl": True, "ssl_check_hostname": ssl_check_hostname, **tls}
            make, make_async = kind, kind_async
            said: Mapping[str, Any] = options
        else:
            if (host, port, db) != ("localhost", 6379, 0):
                place_of = {"host": host != "localhost", "port": port != 6379}
                besides = [name for name, is_given in place_of.items() if is_given] + ([f"db={db}"] if db != 0 else [])
                example = f"redis://host:port/{db}" if any(place_of.values()) else f"redis://host/{db}"
                raise ValueError(f"RedisStore: {' and '.join(besides)} beside a url; write it in the URL: {example}")
            said = urls.parse_url("RedisStore", url, _parsed, _EXAMPLE)
            place = urlsplit(url)
            if not _names_database(place):
                raise ValueError(
                    "RedisStore: the path of the URL must be the number of a database, as in redis://localhost:6379/0, and `?db=` no other"
                )
            given: Mapping[str, Any] = {**tls, **{name: value for name, value in credentials.items() if value is not None}}
            if twice := [option for option in given if option in said]:
                raise ValueError(
                    f"RedisStore: {' and '.join(twice)} {'are' if len(twice) > 1 else 'is'} given twice; the URL says it already"
                )
            if (said_reqs := said.get("ssl_cert_reqs")) != _requirement(said_reqs):
                raise ValueError(f"RedisStore: write {_REQUIREMENTS} for ssl_cert_reqs in the URL")
            is_secure = bool(ssl or tls) or place.scheme == "rediss"
            if is_secure and place.scheme == "unix":
                raise ValueError("RedisStore: there is no TLS over a Unix socket; leave out ssl and ssl_…")
            self._host = place.netloc.rpartition("@")[2] or place.path
            options = {"url": f"rediss{url[url.index(':') :]}" if is_secure else url, **given}
            if is_secure and not ssl_check_hostname:
                options["ssl_check_hostname"] = False
            if not cluster and "?" in url and (fault := _option_fault(options["url"])):
                raise ValueError(f"RedisStore: {fault}")
            make, make_async = kind.from_url, kind_async.from_url
        self._files = {option: str(path) for option in files if (path := tls.get(option) or said.get(option)) is not None}
        self._file_password = said.get("ssl_password") or ""
        if "ssl_keyfile" in self._files and "ssl_certfile" not in self._files:
            raise ValueError("RedisStore: ssl_keyfile is given without ssl_certfile, the file with the certificate that the key belongs to")
        if "path" in said:
            self.errors = (*_ERRORS_AT_SOCKET, *self.errors)
        else:
            where = said.get("host", "localhost"), said.get("port", 6379)
            peer = Peer(*where, is_secure, judge, self.tls, answers=(redis.ResponseError, BusyLoadingError), timeouts=(redis.TimeoutError,))
        # What a URL says counts more.
        options |= {"socket_timeout": timeout, "socket_connect_timeout": timeout, "max_connections": _CONNECTIONS}
        bounding: dict[str, Any] = {"redis_connect_func": partial(_bound, cluster)}
        # redis-py's own retries would send GETDEL again after its answer was lost, to find nothing and say so.
        self._client = Client(
            "RedisStore",
            make=lambda: make(**options, retry=Retry(NoBackoff(), 0), **bounding),
            make_async=lambda: make_async(**options, retry=AsyncRetry(NoBackoff(), 0), **_without_notices(kind_async)),
            close=lambda client: client.aclose() if isinstance(client, kind_async) else client.close(),
            capacity=_capacity,
            repair=_repair,
            peer=peer,
        )

    async def _open(self) -> None:
        try:
            await super()._open()
        except (StoreConnectionError, StoreSetupError, RedisClusterException) as error:
            if self._files and (fault := await runtime.run_in_worker(lambda: _fault_of(self._files, self._file_password))):
                raise StoreSetupError(f"RedisStore: TLS: {fault}") from error
            if isinstance(error, StoreConnectionError):
                raise
            cause = error.__cause__ if isinstance(error, StoreSetupError) else error  # a cluster's client connects when it is made
            translated = self._translate_error(cause) if isinstance(cause, Exception) else None
            if translated is None or not isinstance(cause, Exception):
                raise
            if isinstance(translated, StoreConnectionError) and self._client is not None:
                translated = await self._client.explained(translated, cause)
            raise translated from cause

    def _error_code(self, error: BaseException | None) -> str:
        return _answer_in(error)[0]

    async def _ask(self, *command: str) -> Any:
        if not self._is_cluster:
            return await super()._ask(*command)
        node = (await self._use(_primaries, repeatable=True))[0]
        return await self._use(lambda client: client.execute_command(*command, NEVER_DECODE=True, target_nodes=node), repeatable=True)

    async def _refused(self, error: StoreRefusedError) -> StoreRefusedError:
        cause = error.__cause__
        if not isinstance(cause, Exception) or "unknown command" not in str(cause) or self._is_cluster:
            return error
        # A Sentinel answers a ping, but knows no command about keys.
        try:
            (role,) = await self._send([("ROLE",)])
        except KeyValueStoreError:  # the user may lack the right to ask
            return error
        if role[0] not in (b"sentinel", "sentinel"):
            return error
        return self._error(StoreRefusedError, "this is a Sentinel; give client=Sentinel(…).master_for(…)", cause)

    async def _leave(self) -> None:
        await self._use(_disconnect)

    async def _send(self, commands: Sequence[Command], *, effect: Effect = "read", raises: bool = True) -> Sequence[Any]:
        if self._is_cluster and effect == "once" and len(commands) > 1:
            # A pipeline of a cluster's synchronous client sends again what has failed.
            return await runtime.map_concurrent(partial(self._send_alone, raises), commands, limit=_AT_ONCE)
        if len(commands) == 1 and raises:
            return (await self._use(lambda client: self._executed(client, commands[0]), repeatable=effect == "read"),)

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

    def _executed(self, client: Any, command: Command) -> Any:
        if self._has_pools and isinstance(client, redis.asyncio.Redis) and sum(map(len, command)) < _AT_A_TIME:
            # `execute_command` would drop the connection if it were cancelled, and not tell when the command has had its effect.
            pool = client.connection_pool
            return RoundTrip(lambda: _sent(pool, command), _received, pool.release)
        return client.execute_command(*command, NEVER_DECODE=True)

    def _groups(self, keys: Sequence[bytes]) -> Sequence[Sequence[int]]:
        return self._slots(keys)

    async def _scanned(self, pattern: bytes) -> AsyncGenerator[Sequence[bytes], None]:
        for node in await self._use(_primaries, repeatable=True) if self._is_cluster else [None]:
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


def _without_notices(kind: Any) -> Mapping[str, Any]:
    """Return what has an asynchronous client notice a kept connection that has ended: with notices of maintenance on, it does not."""
    if "maint_notifications_config" not in inspect.signature(kind.__init__).parameters:  # those of redis-py before 8
        return {}
    from redis.maint_notifications import MaintNotificationsConfig  # noqa: PLC0415 # likewise

    return {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}


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
    if "host" not in options:
        return options.get("path")
    return f"{urls.check_host('RedisStore', options['host'], 'make the client with Redis.from_url')}:{options.get('port', 6379)}"


def _names_database(place: SplitResult) -> bool:
    """Return whether a URL's path is what redis-py takes for a database; anything else it would take for database 0."""
    path, options = unquote(place.path).strip("/"), parse_qs(place.query).get("db")
    return place.scheme == "unix" or not path or (path.isdecimal() and options in (None, [path]))


def _primaries(client: Any) -> Any:
    """Return the primary nodes of a cluster's client."""
    if isinstance(client, redis.RedisCluster):
        return client.get_primaries()

    async def initialized() -> Any:
        await client.initialize()
        return client.get_primaries()

    return initialized()


def _parsed(url: str) -> Mapping[str, Any] | None:
    try:
        return parse_url(url)
    except ValueError as error:  # its message may quote a part of the password
        option = re.match(r"Invalid value for \W(\w+)\W", str(error))  # one that redis-py knows
    fault: str | None = f"the value of its option {option[1]!r} is invalid" if option else None
    scheme = url.partition(":")[0]
    if scheme not in ("redis", "rediss", "unix"):
        fault = "its scheme must be redis://, rediss:// or unix://"
    elif option is None and url.count("@") < 2 and not re.search(r"[\[\]].*@", url):
        try:
            _ = urlsplit(url).port
        except ValueError:
            fault = "its port must be a number from 1 to 65535"
    if fault:
        raise ValueError(f"RedisStore can't parse the URL: {fault}; it should look like {_EXAMPLE}")
    return None


def _option_fault(url: str) -> str | None:
    """Return what is wrong with the options of a URL, which redis-py looks at only when it makes a connection."""
    for pool in (redis.ConnectionPool, redis.asyncio.ConnectionPool):
        with suppress(Exception):  # what else is wrong, the first call tells
            try:
                pool.from_url(url).make_connection()
            except TypeError as error:
                found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
                if found and "@" in urlsplit(url).query:  # what looks like the name of an option may be of a password
                    return "the URL has an unknown option, or a raw `?` in the password; percent-encode it"
                if found:
                    instead = "; for TLS write rediss://" if found[1].startswith("ssl") else ""
                    return f"unknown option {found[1]!r} in the URL{instead}"
    return None


def _fault_of(files: Mapping[str, str], password: str) -> str | None:
    """Return what is wrong with the files for TLS, if that can be seen."""
    for option, path in files.items():
        if os.path.isdir(path):
            return f"{path!r}, given as {option}, is a directory; give a file"
        if not os.access(path, os.R_OK):
            return f"the file {path!r}, given as {option}, is missing or can't be read"
    context = SSLContext(PROTOCOL_TLS_CLIENT)
    certificate, key = files.get("ssl_certfile"), files.get("ssl_keyfile")
    try:
        if authorities := files.get("ssl_ca_certs"):
            context.load_verify_locations(authorities)
    except SSLError:
        return f"the file {files['ssl_ca_certs']!r}, given as ssl_ca_certs, does not hold certificates in PEM"
    try:
        if certificate:
            context.load_cert_chain(certificate, key, password)
    except SSLError:
        where = key or certificate
        if where and b"ENCRYPTED" in Path(where).read_bytes():
            instead = "is ssl_password right, and the certificate its own?" if password else "give its ssl_password in the URL"
            return f"the key in {where!r} is encrypted; {instead}"
        if not key:
            return f"the file {certificate!r}, given as ssl_certfile, does not hold a certificate and its key in PEM; pass ssl_keyfile too"
        return (
            f"the files {certificate!r}, given as ssl_certfile, and {key!r}, given as ssl_keyfile, do not hold a "
            "certificate and its key in PEM"
        )
    return None


def _requirement(value: object) -> str | None:
    """Return what redis-py calls a requirement on the server's certificate."""
    if value is None:
        return None
    name = (value.name if isinstance(value, VerifyMode) else str(value)).lower().removeprefix("cert_")
    if name not in ("required", "optional", "none"):
        raise ValueError(
            f"RedisStore: ssl_cert_reqs must be {_REQUIREMENTS}, or one of ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL, ssl.CERT_NONE"
        )
    return name
