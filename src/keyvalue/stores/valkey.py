"""A store in Valkey, over valkey-glide."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar

from keyvalue._core import constructor, runtime, urls
from keyvalue._core.clients import Clients
from keyvalue._core.error_rules import ErrorRule, ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.sockets import Peer, TlsOptions
from keyvalue._core.store import Stability
from keyvalue.errors import StoreConnectionError, StoreRefusedError
from keyvalue.stores._drivers.resp import ANSWERS, PAGE, Command, Effect, answer_rules, judge
from keyvalue.stores._resp import RespStore

with needs("valkey"):
    import glide
    import glide_sync

__all__ = ["ValkeyStore"]

_IN_FLIGHT = 1000  # requests that a client of glide takes at a time, if its configuration does not say
_LEAVING = 1.0  # seconds from when a primary that is none any more is left to when it is left again
_WORDS: Mapping[str, str] = {
    "AuthenticationFailed": "WRONGPASS",
    "BusyLoadingError": "LOADING",
    "ClusterDown": "CLUSTERDOWN",
    "MasterDown": "MASTERDOWN",
    "PermissionDenied": "NOPERM",
    "CrossSlot": "CROSSSLOT",
    "ReadOnly": "READONLY",
    "ResponseError(?=:)": "ERR",  # without a colon, glide has one of its own
    "TryAgain": "TRYAGAIN",
}
"""The first word of a server's answer, where glide has a name of its own for it."""
_ANSWER = re.compile(rf"\b({'|'.join([*ANSWERS, *_WORDS])})\b:? ?(.*)", re.DOTALL)
"""An answer of the server in what glide says, which has one exception for them, and for connecting at the first call."""
_UNREACHABLE = re.compile(
    "IoError|BrokenPipe|receiver was dropped|connect failed|Connection in recovery|initial connections|"
    "AllConnectionsUnavailable|ConnectionNotFoundForRoute|Fatal(Send|Receive)Error"
)
_ELSEWHERE = "Moved:|Ask:|MOVED|ASK"  # of a cluster: its client follows that until it meets a node that is gone

_lock = threading.Lock()
_reader: Any = None


def _reads_replies_here() -> bool:
    """Return whether glide's asynchronous client can be used on the running event loop.

    All such clients of a process share one pipe for their replies, which the loop of the first one reads: when that ends, those on other
    loops wait for ever.
    """
    global _reader  # noqa: PLW0603 # as the pipe is
    loop: Any = runtime.running_loop()
    with _lock:
        if _reader is None or _reader.is_closed():
            _reader = loop
        return _reader is loop


def _answer_in(error: BaseException | None) -> tuple[str, str]:
    """Return the server's answer that an error stands for; see `answer_rules`."""
    found = _ANSWER.search(str(error)[:300]) if isinstance(error, glide.RequestError) else None
    return ("", "") if found is None else (_WORDS.get(found[1], "ERR" if found[1] == "ResponseError" else found[1]), found[2])


def _says(pattern: str) -> Callable[[Exception], object]:
    return lambda error: re.search(pattern, str(error)[:200])


_NOT_REACHED = ErrorRule(
    glide.RequestError,
    StoreConnectionError,
    "could not reach the server; is it running, and are host, port and db right?",
    when=lambda error: _UNREACHABLE.search(str(error)[:200]) and _answer_in(error)[0] not in ANSWERS,
)
_ELSEWHERE_ALONE = ErrorRule(
    glide.RequestError, StoreRefusedError, f"the server answers MOVED: {ANSWERS['MOVED'][1]}", when=_says(_ELSEWHERE)
)
_IN_USE = ErrorRule(
    glide.RequestError,
    StoreConnectionError,
    "the client has too much to do; something else uses it too, so give it a larger inflight_requests_limit",
    when=_says("maximum inflight"),
    unsent=True,
)
_ERRORS = (
    _IN_USE,
    ErrorRule(
        glide.RequestError,
        StoreConnectionError,
        "there is no primary at this address, only a read-only replica; connect to the primary, or to a name that leads there",
        when=_says("No primary node found"),
    ),
    ErrorRule(
        glide.RequestError,
        StoreRefusedError,
        "the server is not a node of a cluster; leave out cluster=True",
        when=_says("No topology views found- ResponseError"),
    ),
    replace(_NOT_REACHED, when=_says(_ELSEWHERE)),
    _NOT_REACHED,
    *answer_rules((glide.RequestError,), _answer_in),
    ErrorRule(glide.TimeoutError, StoreConnectionError, "the server did not answer in time"),
    ErrorRule(glide.ConnectionError, StoreConnectionError, "the connection was lost"),
    ErrorRule(glide.ClosingError, StoreConnectionError, "the client is closed or could not reach the server; are host and port right?"),
    ErrorRule(glide.GlideError, StoreRefusedError, "the server refused the command"),
)


class ValkeyStore(RespStore):
    """Keeps entries in a Valkey database, or one of Redis (6.2 or later), shared with whatever else lies there.

    Format: that of `RedisStore`: the key `<collection>::<key>` (see `keyvalue._core.layout` for names that this would mix) is a string that
    holds the JSON document of `keyvalue._core.entry`, with the time to live in milliseconds as its expiry.

    Listing and destroying scan the whole database and read every value under a matching name; what this library did not write is left
    alone. On asyncio the store awaits glide's asynchronous client, which a process can have on one event loop at a time; on further loops
    and on trio it calls the synchronous one in worker threads, and in synchronous code directly. Clients connect at the first call, and
    again by themselves after a connection was lost.

    Args:
        client: A client to use, of either colour, alone or a cluster's. It is never closed. A synchronous one works on every runtime; an
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
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.

    Raises:
        ValueError: Both a client and a configuration, a cluster with a number of a database or a client or a configuration, a port or a
            database that can't be, or a timeout that is not positive.
        TypeError: The client or the configuration is not one of glide, or a port or a database is not an int.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    _left_at = -math.inf
    tls: ClassVar[TlsOptions] = TlsOptions(
        "pass tls=True", "leave out tls=True", "pass its certificate in a `config` with TlsAdvancedConfiguration"
    )
    errors: ErrorRules = _ERRORS

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
        if client is not None or config is not None:
            self._refuse_besides("a client or a config", host, port, db, username, password, tls=tls)
        if client is not None:
            self._is_cluster = isinstance(client, glide.GlideClusterClient | glide_sync.GlideClusterClient)
            self.errors = self.errors if self._is_cluster else (_ELSEWHERE_ALONE, *self.errors)
            self._host = _hosts(getattr(client, "config", None))
            self._clients = Clients.borrow(
                "ValkeyStore",
                client,
                sync_types=(glide_sync.GlideClient, glide_sync.GlideClusterClient),
                async_types=(glide.GlideClient, glide.GlideClusterClient),
                wanted="a GlideClient or GlideClusterClient of glide or glide_sync",
                capacity=_capacity,
            )
            return
        if config is None:
            constructor.check_port("ValkeyStore", port)
            constructor.check_integer("ValkeyStore", "db", db, 0)
            milliseconds = math.ceil(timeout * 1000)
            options: dict[str, Any] = {"addresses": [glide.NodeAddress(host, port)], "use_tls": tls, "request_timeout": milliseconds}
            if password is not None:
                options["credentials"] = glide.ServerCredentials(password, username)
            make_config: Any = glide.GlideClusterClientConfiguration if cluster else glide.GlideClientConfiguration
            advanced: Any = glide.AdvancedGlideClusterClientConfiguration if cluster else glide.AdvancedGlideClientConfiguration
            config = make_config(
                **options, **({} if cluster else {"database_id": db}), advanced_config=advanced(connection_timeout=milliseconds)
            )
        verifies = tls  # as glide does, unless a configuration says otherwise
        lazy: Any = copy(config)
        # What can go wrong with the connection goes wrong at the first call, the same on every runtime.
        lazy.lazy_connect = True
        self._is_cluster = isinstance(config, glide.GlideClusterClientConfiguration)
        self.errors = self.errors if self._is_cluster else (_ELSEWHERE_ALONE, *self.errors)
        self._host = _hosts(config)
        node: Any = lazy.addresses[0]
        kind: Any
        kind_async: Any
        kind, kind_async = (
            (glide_sync.GlideClusterClient, glide.GlideClusterClient) if self._is_cluster else (glide_sync.GlideClient, glide.GlideClient)
        )
        self._clients = Clients(
            "ValkeyStore",
            create=lambda: runtime.call_in_worker(lambda: kind.create(lazy)),  # under a lock of cffi
            create_async=lambda: kind_async.create(lazy) if _reads_replies_here() else None,
            capacity=_capacity,
            peer=Peer(node.host, node.port, lazy.use_tls, judge, self.tls, verifies),
        )

    def _execute(self, command: Command, client: Any) -> Any:
        return client.custom_command(list(command))

    async def _send(self, commands: Sequence[Command], *, effect: Effect = "read", raises: bool = True) -> Sequence[Any]:
        if len(commands) == 1 and raises:
            return (await self._send_one(commands[0], effect=effect),)
        batch: Any = glide.ClusterBatch(is_atomic=False) if self._is_cluster else glide.Batch(is_atomic=False)
        for command in commands:
            batch.custom_command(list(command))
        replies = await self._use(lambda client: client.exec(batch, raise_on_error=False), repeatable=effect == "read")
        return self._checked(replies) if raises else replies

    def _error_code(self, error: BaseException | None) -> str:
        return _answer_in(error)[0]

    def _is_stale_connection(self, error: BaseException | None) -> bool:
        return not isinstance(error, glide.TimeoutError) and not self._error_code(error)

    async def _leave(self) -> None:
        # All calls share a connection, and each that is under way when it ends has to be made again.
        now = time.monotonic()
        if now >= self._left_at + _LEAVING:
            self._left_at = now
            await self._use(lambda client: client.custom_command(["QUIT"]))  # glide connects again by itself

    async def _scanned(self, pattern: bytes) -> AsyncGenerator[Sequence[bytes], None]:
        cursor: Any = None
        while True:
            found = await self._use(lambda client, cursor=cursor: self._step(client, cursor, pattern))
            cursor, keys = found[0], found[1]
            if keys:
                yield keys
            if cursor.is_finished() if self._is_cluster else int(cursor) == 0:
                return

    def _step(self, client: Any, cursor: Any, pattern: bytes) -> Any:
        if not self._is_cluster:
            return client.scan(cursor or "0", match=pattern, count=PAGE)
        package: Any = glide_sync if isinstance(client, glide_sync.GlideClusterClient) else glide
        return client.scan(cursor or package.ClusterScanCursor(), match=pattern, count=PAGE)


def _capacity(client: Any) -> int:
    """Return how many requests to make at a time: half of what the client takes, since it counts one for a while after its answer."""
    config = getattr(client, "config", None) or getattr(client, "_config", None)  # private in the synchronous client
    return max(1, (getattr(config, "inflight_requests_limit", None) or _IN_FLIGHT) // 2)


def _hosts(config: Any) -> str | None:
    instead = "give port, user name, password and TLS as parameters of their own"
    return (
        ", ".join(f"{urls.check_host('ValkeyStore', node.host, instead)}:{node.port}" for node in getattr(config, "addresses", ())) or None
    )
