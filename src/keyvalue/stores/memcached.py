"""A store in Memcached, over aiomcache and pymemcache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter, methodcaller
from typing import Any, ClassVar, cast

from keyvalue._core import clock, constructor, urls
from keyvalue._core.clients import Clients
from keyvalue._core.entry import CompareAndSet, Entry, Stored, find_too_large
from keyvalue._core.error_rules import ErrorRule, ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.flat import FlatStore
from keyvalue._core.layout import FittingLayout, KeyLayout
from keyvalue._core.legacy import sanitization
from keyvalue._core.legacy.layouts import SharedLayout
from keyvalue._core.store import Stability
from keyvalue.errors import KeyValueError, StoreConnectionError, StoreRefusedError
from keyvalue.stores._drivers.batches import split_chunks
from keyvalue.stores._drivers.peer import Peer
from keyvalue.stores._drivers.tls import TlsOptions, advise_on_tls

with needs("memcached"):
    import aiomcache
    import pymemcache
    from pymemcache.exceptions import MemcacheUnexpectedCloseError, MemcacheUnknownCommandError, MemcacheUnknownError

    from keyvalue.stores._drivers.memcached import Memcached
    from keyvalue.stores._drivers.memcached_async import AsyncMemcached, address_of
    from keyvalue.stores._drivers.memcached_commands import (
        BATCH,
        TooManyConnectionsError,
        UnexpectedReplyError,
        expiry_of,
        fits,
        judge,
        plan_swaps,
        split_documents,
    )

__all__ = ["MemcachedStore", "MemcachedV1KeySanitizationStrategy"]

_UNREACHABLE = "could not reach the server; is it running, and are host and port right?"
_FULL = "the server has as many connections as it takes"
_STRANGE = "what listens on this port does not answer as Memcached does; are host and port right?"
_LIMIT = "the server's -I is the limit, and max_value_size of the store, which must be 1 KiB less"


class MemcachedV1KeySanitizationStrategy(sanitization.HashExcessLengthStrategy):
    """Names pairs by `H_` and the SHA-256 of `<collection>::<key>` where that has more than 240 characters."""

    def __init__(self) -> None:
        super().__init__(max_length=240)


_TLS = TlsOptions("pass a client of pymemcache with tls_context")
_ERRORS: ErrorRules = (
    ErrorRule(ConnectionRefusedError, StoreConnectionError, _UNREACHABLE, unsent=True),
    ErrorRule(TimeoutError, StoreConnectionError, "the server did not answer in time"),
    ErrorRule(OSError, StoreConnectionError, _UNREACHABLE),
    ErrorRule(MemcacheUnexpectedCloseError, StoreConnectionError, "the server closed the connection"),
    ErrorRule(TooManyConnectionsError, StoreConnectionError, f"{_FULL}; start it with a larger -c, or use fewer"),
    # A given client of pymemcache does not tell which it is.
    ErrorRule(
        MemcacheUnknownCommandError,
        StoreConnectionError,
        f"{_FULL} (start it with a larger -c, or use fewer), or does not know the command",
    ),
    ErrorRule(UnexpectedReplyError, StoreRefusedError, _STRANGE),
    ErrorRule(MemcacheUnknownError, StoreRefusedError, _STRANGE),
    ErrorRule(aiomcache.ClientException, StoreRefusedError, "the server refused the command"),
    ErrorRule(pymemcache.MemcacheError, StoreRefusedError, "the server refused the command"),
)


class MemcachedStore(FlatStore):
    """Keeps entries in Memcached (1.4 or later), which is a cache: it drops the entries longest not used when its memory is full.

    Format: under `<collection>::<key>` (see `keyvalue._core.layout` for names that this would mix) lies the JSON document of
    `keyvalue._core.entry`, with flags 0. What Memcached can't take as a name (more than 250 bytes, white space, control characters)
    is replaced by `~` and the SHA-256 in hexadecimal of `<length of the collection>:<collection>:<key>`. With a sanitization strategy, its
    names stand for `<collection>::<key>`; where another entry has that place, the pair goes elsewhere, as a name that would be mixed does.

    Memcached can't list what it holds, so neither can the store, nor destroy it. On asyncio the store has one connection for each event
    loop, on which any number of calls are under way at once; on trio it calls pymemcache in worker threads, and in synchronous code
    directly. A call fails at once if the server is not there: retrying is a wrapper's business.

    Args:
        client: A client to use: an aiomcache.Client, a pymemcache.PooledClient or a pymemcache.Client. It is never closed. Of one of
            aiomcache, only the address and the options of its connections are used, as its calls can't be cancelled.
        host: The server, if there is no client. Default "127.0.0.1".
        port: Its port. Default 11211.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
        key_sanitization_strategy: What names pairs: an object with `sanitize(name)`. Default: they are named as the format says.
        timeout: Seconds that connecting, or a reply as a whole, may take. A given client of pymemcache has its own timeouts. Default 5.
        max_value_size: The largest document in bytes that the server takes, less than its `-I` by 1 KiB. Memcached drops the old value
            when it refuses a new one, so a larger one is not sent. Default 1047552, which goes with the server's own default.

    Raises:
        ValueError: Both a client and a host or port, a port that can't be, or a limit that is not positive.
        TypeError: The client is of another class, or the port is not an int.
        ValueTooLargeError: On put: the document is larger than `max_value_size`.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    errors: ErrorRules = advise_on_tls(_TLS, _ERRORS)

    @constructor.check_types
    def __init__(
        self,
        *,
        client: Any = None,
        host: str = "127.0.0.1",
        port: int = 11211,
        default_collection: str | None = None,
        key_sanitization_strategy: sanitization.SanitizationStrategy | None = None,
        timeout: float = 5.0,
        max_value_size: int = 2**20 - 1024,
    ) -> None:
        super().__init__(default_collection=default_collection)
        constructor.check_seconds(timeout, "timeout")
        if max_value_size <= 0:
            raise ValueError("max_value_size must be positive")
        sanitize = sanitization.namer(key_sanitization_strategy, "key_sanitization_strategy")
        # What this strategy makes of a long name holds no `::`, and so is no other pair's name.
        is_own = isinstance(key_sanitization_strategy, sanitization.HashExcessLengthStrategy)
        self.layout: KeyLayout = SharedLayout(fits, sanitize_name=sanitize, unchanged_is_own=is_own) if sanitize else FittingLayout(fits)
        self._max_value_size = max_value_size
        if client is not None and (host, port) != ("127.0.0.1", 11211):
            raise ValueError("Give MemcachedStore either a client or host and port")
        if client is None or isinstance(client, aiomcache.FlagClient):
            options: Mapping[str, Any] = {}
            if client is not None:
                host, port, options = address_of(cast("aiomcache.FlagClient[Any]", client))
            constructor.check_port("MemcachedStore", port)
            self._host = f"{urls.check_host('MemcachedStore', host, 'give a port as `port`')}:{port}"
            self._clients = Clients(
                "MemcachedStore",
                create=partial(Memcached.connecting, host, port, timeout, options),
                create_async=partial(AsyncMemcached, host, port, timeout, options),
                capacity=attrgetter("capacity"),
                peer=Peer(host, port, "ssl" in options, judge, _TLS, timeouts=(TimeoutError,)),
            )
        elif isinstance(client, pymemcache.PooledClient | pymemcache.Client) and getattr(client, "ignore_exc", False):
            raise ValueError("Give MemcachedStore a client without ignore_exc, which would report a server that is away as missing keys")
        else:
            has_pool = hasattr(client, "client_pool")
            self._clients = Clients.borrow(
                "MemcachedStore",
                client,
                sync_types=(pymemcache.PooledClient, pymemcache.Client),
                wanted="an aiomcache.Client, a pymemcache.PooledClient or a pymemcache.Client",
                wrap=lambda client: Memcached(given=client),
                serialize_calls=not has_pool,
                interruptible=not has_pool,
                capacity=attrgetter("capacity"),
            )

    async def _put(self, collection: str, entries: Sequence[Entry]) -> Sequence[KeyValueError | None] | None:
        error = find_too_large(entries, self._max_value_size, _LIMIT)
        if error is not None:
            raise error
        try:
            return await super()._put(collection, entries)
        except StoreRefusedError as refused:
            # Of several, it does not always say which.
            error = find_too_large(entries, None, _LIMIT) if "too large" in str(refused.__cause__) else None
            if error is None:
                raise
            raise error from refused.__cause__

    async def _read(self, names: Sequence[str], *, lenient: bool = False) -> Sequence[Stored | None]:
        keys = [name.encode() for name in names]
        found: dict[bytes, Stored] = {}
        for batch in split_chunks(keys, BATCH):
            found |= await self._use(methodcaller("get", batch), repeatable=True)
        return [found.get(key) for key in keys]

    async def _write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        expiry = expiry_of(rows[0][1], clock.now())  # entries that are put together expire together
        for batch in split_documents(rows):
            await self._use(methodcaller("set", batch, expiry))

    async def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Sequence[bool]:
        made: list[bool] = []
        for batch in split_chunks(changes, BATCH):
            found = await self._use(methodcaller("gets", [change.name.encode() for change in batch]), repeatable=True)
            swaps = plan_swaps(batch, found, clock.now())
            possible = [swap for swap in swaps if swap is not None]
            swapped = iter(await self._use(methodcaller("cas", possible)) if possible else ())
            made += [swap is not None and next(swapped) for swap in swaps]
        return made

    async def _pop(self, names: Sequence[str]) -> Sequence[Stored | None]:
        removed = dict(zip(names, await self._read(names), strict=True))
        for batch in split_chunks([name for name, stored in removed.items() if stored is not None], BATCH):
            deleted = await self._use(methodcaller("delete", [name.encode() for name in batch]))
            removed.update((name, None) for name, was_there in zip(batch, deleted, strict=True) if not was_there)
        return list(removed.values())
