"""A wrapper that reads through a cache."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, SupportsFloat, cast

from keyvalue._core import arguments, clock, codec, fork, runtime
from keyvalue._core.capabilities import capabilities_of, require_async
from keyvalue._core.operation import EntryRef, Operation
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue._core.wrapper import BaseWrapper, Pair, beneath
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["PassthroughCacheWrapper"]

_LOGGER = logging.getLogger("keyvalue.passthrough_cache")

_VALUE, _AT, _UNTIL, _EXPIRES = "__cached_value__", "__cached_at__", "__cached_until__", "__expires_at__"
_ROW = {_VALUE, _AT, _UNTIL, _EXPIRES}
_SECONDS = 1800.0
_MANY = 10_000  # places that are remembered each for itself


class _Flight:
    """One key on its way from the primary store, for all that ask for it.

    Attributes:
        at: The moment from before it was asked for; see `PassthroughCacheWrapper._moment`.
        done: Completed with the value and its time to live; with None if whoever fetched it gave up.
        owner: The loop that it is fetched on.
        followers: How many others wait for it.
        stale: Whether a write has begun since, so that it must not be cached.
        populating: Whether it is being cached.
    """

    __slots__ = ("at", "done", "followers", "owner", "populating", "stale")

    def __init__(self, at: float, stale: bool) -> None:
        self.at = at
        self.done: Future[Pair | None] = Future()
        self.owner = None if runtime.is_inline() else runtime.running_loop()
        self.followers = 0
        self.stale = stale
        self.populating = False

    def is_out_of_reach(self) -> bool:
        return self.owner is not None and (self.owner in runtime.blocked() or runtime.is_over(self.owner))


class PassthroughCacheWrapper(BaseWrapper):
    """Reads from a cache what it can, and everything else from the primary store, and writes to the primary store.

    A miss reads the primary once, however many tasks and threads ask for the key at the time. A write removes the key from the cache,
    before and after it reaches the primary; what is read meanwhile is not cached. If the cache fails, reads go to the primary and writes
    go on; what could not be removed is not trusted by this object any more. Other processes that write to the primary are not
    noticed: what they write is seen when the cached copy ends. Nor is a write that failed or was cancelled and takes effect all the same
    after a later read, which stores of this library rule out for cancelled ones, and others may not.

    Place: above a store that is slow or far away, below wrappers that change values only for the caller; above encryption, the cache holds
    values in plain text. The cache sees names and values as this wrapper does; give it a store, or a collection prefix, of its own:
    each write removes its key from the cache, and `destroy` empties it.

    Stored in the cache, under the same collection and key: `{"__cached_value__": <the value, or null for a key that is missing>,
    "__cached_at__": <seconds since the epoch, when the primary was asked>, "__cached_until__": <the same, when this ends>,
    "__expires_at__": <the same, the primary's, or null>}`. Anything else there is a miss.

    Args:
        primary_key_value: The store whose entries these are. Listing, culling and destroying are its own; destroying is offered only as
            far as the cache can do it too.
        cache_key_value: The cache.
        maximum_ttl: Seconds for which something is cached at most. None, the default: 1800.
        missing_ttl: Seconds for which an entry without a time to live is cached, at most `maximum_ttl`. None, the default: 1800.
        negative_ttl: Seconds for which it is cached that a key is missing, at most `maximum_ttl`. None, the default: that is not cached.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`. If the primary has
            another one, give that: otherwise calls that name it and calls that name none don't see each other's writes in the cache.

    Attributes:
        cache_errors: How many calls on the cache failed. They are also logged, to `keyvalue.passthrough_cache`.

    Raises:
        TypeError: One of the stores is no `AsyncKeyValue`.
        ValueError: The two are the same store.
        InvalidTTLError: A time to live is none.
    """

    runs_inline = True

    @arguments.checked
    def __init__(
        self,
        primary_key_value: AsyncKeyValue,
        cache_key_value: AsyncKeyValue,
        maximum_ttl: SupportsFloat | None = None,
        missing_ttl: SupportsFloat | None = None,
        *,
        negative_ttl: SupportsFloat | None = None,
        default_collection: str | None = None,
    ) -> None:
        self.primary_key_value = primary_key_value
        self.cache_key_value: AsyncKeyValue = require_async(cache_key_value, type(self).__name__, "cache_key_value")
        if beneath(cache_key_value) is beneath(primary_key_value):
            raise ValueError(
                f"The cache of a {type(self).__name__} must not be the primary store: what is removed from the cache would be lost. Give "
                "another store, or put a PrefixCollectionsWrapper around it for the cache"
            )
        self.maximum_ttl: float = _SECONDS if maximum_ttl is None else arguments.ttl_argument(maximum_ttl, "maximum_ttl")
        missing = _SECONDS if missing_ttl is None else arguments.ttl_argument(missing_ttl, "missing_ttl")
        self.missing_ttl: float = min(missing, self.maximum_ttl)
        self.negative_ttl: float | None = None
        if negative_ttl is not None:
            self.negative_ttl = min(arguments.ttl_argument(negative_ttl, "negative_ttl"), self.maximum_ttl)
        self.default_collection: str = arguments.name(default_collection or DEFAULT_COLLECTION, "collection")
        self.cache_errors: int = 0
        self._distrusted: dict[EntryRef, float] = {}
        self._last_moment = 0.0
        self._after_fork()
        fork.register_after_fork(self)
        super().__init__(primary_key_value)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._flights: dict[tuple[str, str], _Flight] = {}
        self._written: dict[EntryRef, set[object]] = {}  # the writes that are under way

    def _wrapped(self) -> Sequence[AsyncKeyValue]:
        return self.primary_key_value, self.cache_key_value

    def _capabilities(self) -> frozenset[str]:
        found, cache = capabilities_of(self.primary_key_value), capabilities_of(self.cache_key_value)
        return found - ({"destroy", "destroy_collection"} - cache)

    async def setup(self) -> None:
        """Open the primary store and the cache. A cache that can't be opened is no failure."""
        await self._open_one(self.primary_key_value)
        await self._tried(lambda: self._open_one(self.cache_key_value))

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        if operation.is_write:
            return await self._write(operation, call)
        if not operation.is_read or not operation.keys:
            return await call(self.primary_key_value)
        is_bulk = operation.name.endswith("_many")
        pairs = await self._read(operation.collection or self.default_collection, operation, is_bulk)
        result = pairs if operation.name.startswith("ttl") else [value for value, _ in pairs]
        return result if is_bulk else result[0]

    async def _cull(self) -> None:
        await super()._cull()
        if "cull" in capabilities_of(self.cache_key_value):
            cache: Any = self.cache_key_value
            await self._tried(cache.cull)

    # Reading.

    async def _read(self, collection: str, operation: Operation, is_bulk: bool) -> list[Pair]:
        keys = operation.keys
        left = list(dict.fromkeys(keys)) if is_bulk else keys
        found = await self._cached(collection, left, is_bulk)
        while left := [key for key in left if key not in found]:
            mine: dict[str, _Flight] = {}
            try:
                others = self._share(collection, left, mine)
                if mine:
                    found.update(await self._fetch(collection, mine, operation.collection, is_bulk))
            except BaseException as error:
                # A cancellation is this caller's own affair, and so is the fault of another key: those who wait try themselves.
                self._land(collection, mine, {}, error if isinstance(error, Exception) and len(mine) == 1 else None)
                raise
            for key, flight in others.items():
                pair = await _followed(flight)
                if pair is not None:
                    found[key] = pair
            if left := [key for key in left if key not in found]:  # whoever read it was cancelled, and another one may have cached it since
                found.update(await self._cached(collection, left, is_bulk))
        if len(found) == len(keys):
            return [found[key] for key in keys]
        given: set[str] = set()
        return [_copied(found[key]) if key in given else given.add(key) or found[key] for key in keys]

    async def _cached(self, collection: str, keys: Sequence[str], is_bulk: bool) -> dict[str, Pair]:
        """Return what the cache knows."""
        cache = self.cache_key_value
        try:
            rows = await cache.get_many(keys, collection=collection) if is_bulk else [await cache.get(keys[0], collection=collection)]
            now = clock.now()
            pairs = {key: _pair(row, now, self._trusted_from(collection, key)) for key, row in zip(keys, rows, strict=True)}
        except Exception as error:  # noqa: BLE001 # a cache must not fail a read
            self._failed(error)
            return {}
        return {key: pair for key, pair in pairs.items() if pair is not None}

    def _share(self, collection: str, keys: Sequence[str], mine: dict[str, _Flight]) -> dict[str, _Flight]:
        """Add a flight of its own for each key that has none, and return those of others for the rest."""
        others: dict[str, _Flight] = {}
        with self._lock:
            for key in keys:
                flight = self._flights.get((collection, key))
                if flight is None or flight.is_out_of_reach():
                    if flight is not None:
                        flight.stale = True
                        if flight.populating:
                            self._distrust([(collection, key)])  # no write will know of it any more
                    written = any(place in self._written for place in _places(collection, key))
                    mine[key] = self._flights[collection, key] = _Flight(self._moment(), stale=written)
                else:
                    flight.followers += 1
                    others[key] = flight
        return others

    async def _fetch(self, collection: str, flights: dict[str, _Flight], named: str | None, is_bulk: bool) -> dict[str, Pair]:
        """Read keys from the primary, cache them, and give them to those that wait for them."""
        keys = list(flights)
        primary = self.primary_key_value
        asked = clock.now()
        pairs = await primary.ttl_many(keys, collection=named) if is_bulk else [await primary.ttl(keys[0], collection=named)]
        found = dict(zip(keys, pairs, strict=True))
        await self._populate(collection, found, flights, asked, is_bulk)
        self._land(collection, flights, found, None)
        return found

    def _land(self, collection: str, flights: dict[str, _Flight], found: Mapping[str, Pair], error: Exception | None) -> None:
        with self._lock:
            for key, flight in flights.items():
                if self._flights.get((collection, key)) is flight:
                    del self._flights[collection, key]
                if flight.done.done():  # before this was interrupted
                    continue
                if error is not None:
                    flight.done.set_exception(error)
                else:
                    # The caller may change what it is given, so those who wait get another one.
                    flight.done.set_result(_copied(found[key]) if flight.followers and key in found else None)
        flights.clear()  # or an error would hold on to the frames that hold on to it

    async def _populate(
        self, collection: str, found: Mapping[str, Pair], flights: Mapping[str, _Flight], asked: float, is_bulk: bool
    ) -> None:
        rows: dict[str, dict[str, Any]] = {}
        longest = 0.0
        with self._lock:
            for key, (value, left) in found.items():
                allowed = self.negative_ttl or 0.0 if value is None else self.missing_ttl if left is None else self.maximum_ttl
                seconds = allowed if left is None else min(left, allowed)
                flight = flights[key]
                if seconds > 0 and not flight.stale:
                    flight.populating = True
                    expires = None if left is None else asked + left  # not from when the answer came: what it says is older than that
                    rows[key] = {_VALUE: value, _AT: flight.at, _UNTIL: asked + seconds, _EXPIRES: expires}
                    longest = max(longest, seconds)
        if not rows:
            return
        cache, keys = self.cache_key_value, list(rows)
        if is_bulk:
            await self._tried(lambda: cache.put_many(keys, list(rows.values()), collection=collection, ttl=longest))
        else:
            await self._tried(lambda: cache.put(keys[0], rows[keys[0]], collection=collection, ttl=longest))
        if written := [key for key in keys if flights[key].stale]:  # perhaps by a call that could not wait, and so could not remove it
            await self._tried(lambda: cache.delete_many(written, collection=collection))

    # Writing.

    async def _write(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        places = operation.entry_refs(self.default_collection)
        write = object()
        try:
            with self._lock:
                for place in places:
                    self._written.setdefault(place, set()).add(write)
                caching = self._detach(places)
            for flight in caching:
                if flight.is_out_of_reach() or not await _settled(flight):
                    with self._lock:
                        self._distrust(places)  # it may still put what it has read
            await self._forget(operation, places)
            try:
                return await call(self.primary_key_value)
            finally:
                await self._forget(operation, places)
        finally:
            with self._lock:
                for place in places:
                    writes = self._written.get(place, set())
                    writes.discard(write)
                    if not writes:
                        self._written.pop(place, None)
                self._detach(places)

    def _detach(self, places: Sequence[EntryRef]) -> list[_Flight]:
        """Let nobody join the flights of some places any more, and return those that are being cached."""
        detached: list[_Flight] = []
        for collection, key in places:
            if collection is not None and key is not None:
                found = [(collection, key)] if (collection, key) in self._flights else []
            else:
                found = [place for place in self._flights if collection in (None, place[0])]
            detached += [self._flights.pop(place) for place in found]
        for flight in detached:
            flight.stale = True
        return [flight for flight in detached if flight.populating]

    async def _forget(self, operation: Operation, places: Sequence[EntryRef]) -> None:
        """Remove from the cache what is written, or else don't trust it any more."""
        if not places:
            return
        cache: Any = self.cache_key_value
        collection, key = places[0]
        if collection is None:
            remove = cache.destroy
        elif key is None:
            remove = partial(cache.destroy_collection, collection)
        elif operation.name.endswith("_many"):
            remove = partial(cache.delete_many, [key for _, key in places], collection=collection)
        else:
            remove = partial(cache.delete, key, collection=collection)
        if not await self._tried(remove):
            with self._lock:
                self._distrust(places)

    def _distrust(self, places: Sequence[EntryRef]) -> None:
        """Don't trust what the primary was asked for so far, even if it is cached only later. The lock is held."""
        moment = self._moment()
        if len(self._distrusted) + len(places) > _MANY:
            self._distrusted = {(None, None): moment}  # at once, since those who read take no lock
        else:
            self._distrusted.update(dict.fromkeys(places, moment))

    def _trusted_from(self, collection: str, key: str) -> float:
        """Return the moment up to which nothing that was cached is trusted."""
        distrusted = self._distrusted
        return max(distrusted.get(place, 0.0) for place in _places(collection, key)) if distrusted else 0.0

    def _moment(self) -> float:
        """Return the time, as seconds since the epoch that never come twice in this object, nor go back. The lock is held."""
        self._last_moment = max(clock.now(), math.nextafter(self._last_moment, math.inf))
        return self._last_moment

    async def _tried(self, call: Callable[[], Awaitable[object]]) -> bool:
        """Make a call on the cache, and return whether it succeeded."""
        try:
            await call()
        except Exception as error:  # noqa: BLE001 # a cache must not fail what the primary can do
            self._failed(error)
            return False
        return True

    def _failed(self, error: Exception) -> None:
        self.cache_errors += 1
        _LOGGER.warning("The cache failed: %s", type(error).__name__)


def _places(collection: str, key: str) -> tuple[EntryRef, ...]:
    """Return the places that a key lies in."""
    return (collection, key), (collection, None), (None, None)


def _pair(row: dict[str, Any] | None, now: float, trusted_from: float) -> Pair | None:
    """Return what a row of the cache says, or None if it says nothing."""
    if row is None or row.keys() != _ROW:
        return None
    value, at, until, expires = row[_VALUE], row[_AT], row[_UNTIL], row[_EXPIRES]
    if type(at) not in (float, int) or type(until) not in (float, int) or type(expires) not in (float, int, type(None)):
        return None
    if at <= trusted_from or until <= now:
        return None
    if value is None:
        return None, None
    if type(value) is not dict or (expires is not None and expires <= now):
        return None
    return cast("dict[str, Any]", value), None if expires is None else expires - now


async def _followed(flight: _Flight) -> Pair | None:
    try:
        pair = await runtime.wait(flight.done, flight.owner)
    except runtime.LoopOverError:
        return None
    return None if pair is None else _copied(pair)


def _copied(pair: Pair) -> Pair:
    value, left = pair
    return None if value is None else codec.copy_value(value), left


async def _settled(flight: _Flight) -> bool:
    """Wait until a flight has ended, however it did, and return whether it has."""
    with suppress(Exception):  # it is another call's
        await runtime.wait(flight.done, flight.owner)
    return flight.done.done()
