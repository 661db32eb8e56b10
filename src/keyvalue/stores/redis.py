"""A store in Redis, over redis-py."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# redis-py leaves some of its functions without types.

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from math import ceil
from typing import Any

from keyvalue._core import arguments, clock
from keyvalue._core.client import Client
from keyvalue._core.entry import Entry
from keyvalue._core.extras import needs
from keyvalue._core.flat import Change, EnumerableFlatStore
from keyvalue.errors import StoreConnectionError, StoreRefusedError

with needs("redis"):
    import redis
    import redis.asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.connection import parse_url
    from redis.exceptions import AuthorizationError, ClusterDownError, NoPermissionError
    from redis.retry import Retry

__all__ = ["RedisStore"]

_PAGE = 500
# Compares what lies under a name, then sets or removes it. Arguments: whether a document must be there, that document, those of SET if any.
_EXCHANGE = """
local there = redis.pcall('GET', KEYS[1])
if type(there) ~= 'string' then there = false end
if ARGV[1] == '0' and there or ARGV[1] == '1' and there ~= ARGV[2] then return 0 end
if #ARGV > 2 then redis.call('SET', KEYS[1], unpack(ARGV, 3)) else redis.call('DEL', KEYS[1]) end
return 1
"""


class RedisStore(EnumerableFlatStore):
    """Keeps entries in a Redis database (6.2 or later), shared with whatever else lies there.

    Format: the key `<collection>::<key>` (see `keyvalue._core.flat` for names that this would mix) is a string that holds the JSON
    document of `keyvalue._core.entry`, with the time to live in milliseconds as its expiry.

    Listing and destroying scan the whole database and read every value under a matching name; what this library did not write is left
    alone. On asyncio the store awaits redis-py's asynchronous client, one for each event loop; on trio it calls the synchronous one in
    worker threads, and in synchronous code directly. A call fails at once if the server is not there: retrying is a wrapper's business.

    Args:
        client: A client to use, of either colour. It is never closed. A synchronous one works on every runtime; an asynchronous one only
            on the event loop where it is first used.
        url: `redis://`, `rediss://` or `unix://`, with all options that redis-py takes; instead of a client.
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
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.

    Raises:
        ValueError: Both a client and a URL, or the URL can't be parsed.
        TypeError: The client is not one of redis-py.
    """

    stability = "beta"
    runs_inline = True
    errors = (
        (redis.AuthenticationError, StoreRefusedError, "the server refused the credentials; check username and password"),
        (AuthorizationError, StoreRefusedError, "the server refused the credentials; check the user's rights"),
        (NoPermissionError, StoreRefusedError, "the server refused the command; check the user's rights"),
        (redis.ConnectionError, StoreConnectionError, "could not reach the server; is it running, and are host and port right?"),
        (redis.TimeoutError, StoreConnectionError, "the server did not answer in time"),
        (ClusterDownError, StoreConnectionError, "the cluster is down"),
        (redis.RedisError, StoreRefusedError, "the server refused the command"),
        (OSError, StoreConnectionError, "could not reach the server"),
    )

    @arguments.checked
    def __init__(
        self,
        *,
        client: redis.Redis | redis.asyncio.Redis | None = None,
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
        default_collection: str | None = None,
    ) -> None:
        super().__init__(default_collection=default_collection)
        if client is not None and url is not None:
            raise ValueError("Give RedisStore either a client or a url")
        if client is not None:
            # By type: the methods of the two are the same functions, so calling one to see would block the loop.
            if isinstance(client, redis.asyncio.Redis):
                self._client = Client("RedisStore", given_async=client)
            elif isinstance(client, redis.Redis):
                self._client = Client("RedisStore", given=client)
            else:
                raise TypeError(f"The client must be a redis.Redis or a redis.asyncio.Redis, not a {type(client).__name__}")
            return
        make: Callable[..., redis.Redis]
        make_async: Callable[..., redis.asyncio.Redis]
        options: dict[str, Any]
        if url is None:
            options = {"host": host, "port": port, "db": db, "username": username, "password": password}
            tls = {"ca_certs": ssl_ca_certs, "certfile": ssl_certfile, "keyfile": ssl_keyfile, "cert_reqs": ssl_cert_reqs}
            tls = {f"ssl_{name}": value for name, value in tls.items() if value is not None}
            if ssl or tls or not ssl_check_hostname:
                options |= {"ssl": True, "ssl_check_hostname": ssl_check_hostname, **tls}
            make, make_async = redis.Redis, redis.asyncio.Redis
        else:
            if not _is_url(url):
                raise ValueError("RedisStore can't parse the URL: check scheme and port, and percent-encode user name and password")
            options = {"url": url}
            make, make_async = redis.Redis.from_url, redis.asyncio.Redis.from_url
        # redis-py's own retries would send GETDEL again after its answer was lost, to find nothing and say so.
        self._client = Client(
            "RedisStore",
            make=lambda: make(**options, retry=Retry(NoBackoff(), 0)),
            make_async=lambda: make_async(**options, retry=AsyncRetry(NoBackoff(), 0)),
            close=lambda client: client.close() if isinstance(client, redis.Redis) else client.aclose(),
        )

    async def _open(self) -> None:
        await super()._open()
        await self._use_again(lambda client: client.ping())

    async def _read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        if len(names) == 1:
            return [await self._use_again(lambda client: client.execute_command("GET", names[0].encode(), NEVER_DECODE=True))]
        return await self._peek(names)

    def _peek(self, names: Sequence[str]) -> Awaitable[Sequence[bytes | None]]:
        # MGET, unlike GET, takes a key of another type for missing.
        keys = [name.encode() for name in names]
        return self._use_again(lambda client: client.execute_command("MGET", *keys, NEVER_DECODE=True))

    async def _store(self, entries: Sequence[tuple[str, Entry]]) -> None:
        now = clock.now()
        if all(entry.expires_at is None for _, entry in entries):
            pairs = [part for name, entry in entries for part in (name.encode(), entry.document())]
            await self._use_again(lambda client: client.execute_command("SET" if len(entries) == 1 else "MSET", *pairs))
            return
        commands = [("SET", name.encode(), *_arguments(entry, now)) for name, entry in entries]
        if len(commands) == 1:
            await self._use_again(lambda client: client.execute_command(*commands[0]))
        else:
            await self._pipeline(commands)

    def _remove(self, names: Sequence[str]) -> Awaitable[Sequence[bytes | None]]:
        return self._pipeline([("GETDEL", name.encode()) for name in names], repeatable=False)

    def _exchange(self, changes: Sequence[Change]) -> Awaitable[Sequence[object]]:
        now = clock.now()
        commands = [
            ("EVAL", _EXCHANGE, 1, name.encode(), *((0, "") if expected is None else (1, expected)), *_arguments(entry, now))
            for name, expected, entry in changes
        ]
        return self._pipeline(commands, repeatable=False)

    async def _list(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, bytes]], None]:
        pattern = re.sub(rb"([\\*?\[\]^])", rb"\\\1", prefix.encode()) + b"*"
        cursor: int | bytes = 0
        while True:
            scan = ("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE)
            cursor, keys = await self._use_again(lambda client, scan=scan: client.execute_command(*scan, NEVER_DECODE=True))
            if keys:
                documents = await self._use_again(lambda client, keys=keys: client.execute_command("MGET", *keys, NEVER_DECODE=True))
                yield [
                    (name, document)
                    for key, document in zip(keys, documents, strict=True)
                    if document is not None and (name := key.decode(errors="ignore")).encode() == key
                ]
            if int(cursor) == 0:
                return

    async def _use_again(self, function: Callable[[Any], Any]) -> Any:
        """Call a function of the client that may be called twice: a connection in the pool can be dead without anybody having noticed."""
        try:
            return await self._use(function)
        except StoreConnectionError as error:
            if isinstance(error.__cause__, redis.TimeoutError):
                raise
            return await self._use(function)

    async def _pipeline(self, commands: Sequence[tuple[Any, ...]], *, repeatable: bool = True) -> list[Any]:
        def send(client: Any) -> Any:
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command, NEVER_DECODE=True)
            # Raised by redis-py, an error would quote the command, value included.
            return pipeline.execute(raise_on_error=False)

        results: list[Any] = await (self._use_again if repeatable else self._use)(send)
        for result in results:
            if isinstance(result, Exception):
                mapped = self._mapped(result)
                if mapped is None:
                    raise result
                raise mapped from result
        return results


def _is_url(url: str) -> bool:
    try:
        parse_url(url)
    except ValueError:  # its message may quote a part of the password
        return False
    return True


def _arguments(entry: Entry | None, now: float) -> tuple[Any, ...]:
    """Return the arguments of SET: the document, and its time to live in milliseconds, rounded up."""
    if entry is None:
        return ()
    expiry = () if entry.expires_at is None else ("PX", max(1, ceil((entry.expires_at - now) * 1000)))
    return entry.document(), *expiry
