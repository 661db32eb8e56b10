"""A wrapper that reads through a cache."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, SupportsFloat, cast

from keyvalue._core import arguments, clock, codec, constructor, fork, runtime
from keyvalue._core.capabilities import capabilities_of, require_async
from keyvalue._core.operation import EntryRef, Operation
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue._core.wrapper import BaseWrapper, Pair, beneath
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["PassthroughCacheWrapper"]

_LOGGER = logging.getLogger("keyvalue.passthrough_cache")

_VALUE, _AT, _UNTIL, _EXPIRES = "__cached_value__", "__cached_at__", "__cached_until__", "__expires_at__"
_ROW = {_VALUE, _AT, _UNTIL, _EXPIRES}
_NUMBERS, _VALUES = (float, int), (dict, type(None))
_SECONDS = 1800.0
_SLOTS = 2**16  # see _slot
_PATIENCE = 5.0  # seconds for which a cancelled read still tries to remove a row from the cache


class _Flight(Future["dict[str, Pair]"]):
    """A read of the primary, shared by all callers that miss one of its keys.

    Its result is for the other callers. If it is cancelled, they read for themselves.

    Attributes:
        at: Its moment, from before the primary is asked; see `PassthroughCacheWrapper._stamp`.
        is_shared: Whether other callers wait for it.
    """

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at, self.is_shared = at, False
        self.thread, self.loop = threading.get_ident(), None if runtime.is_inline() else runtime.running_loop()

    def join(self) -> bool:
        """Share it with the caller; return False if it has ended, or can't go on while the caller waits."""
        # One without a loop can't go on if the caller is a signal handler that interrupted it.
        stuck = self.thread == threading.get_ident() if self.loop is None else self.loop in runtime.blocked() or runtime.is_over(self.loop)
        self.is_shared |= (can_join := not (stuck or self.done()))
        return can_join


class PassthroughCacheWrapper(BaseWrapper):
    """Reads from a cache what it can, and everything else from the primary store, and writes to the primary store.

    A miss reads the primary once, however many tasks and threads ask for the key at the time. A write removes the key from the cache,
    before and after it reaches the primary, and this object ignores what was read before the write ended, even if it is cached later,
    by another process, or could not be removed. While a write is under way, reads may give the old value. If the cache fails, reads go to
    the primary and writes go on. Writes of other processes, or through another wrapper, are not noticed: they are seen when the cached
    copy ends. Nor is a write that failed or was cancelled and takes effect all the same after a later read, which stores of this library
    rule out for cancelled ones, and others may not.

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

    @constructor.check_types
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
        self.maximum_ttl: float = _SECONDS if maximum_ttl is None else constructor.check_ttl(maximum_ttl, "maximum_ttl")
        self.missing_ttl: float = min(
            _SECONDS if missing_ttl is None else constructor.check_ttl(missing_ttl, "missing_ttl"), self.maximum_ttl
        )
        self.negative_ttl: float | None = (
            None if negative_ttl is None else min(constructor.check_ttl(negative_ttl, "negative_ttl"), self.maximum_ttl)
        )
        self.default_collection: str = arguments.check_name(default_collection or DEFAULT_COLLECTION, "collection")
        self.cache_errors: int = 0
        self._last_writes: dict[int | None, float] = {}  # their moments, by slot
        self._last_write = self._last_moment = 0.0
        self._after_fork()
        fork.register_after_fork(self)
        super().__init__(primary_key_value)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._flights: dict[EntryRef, _Flight] = {}

    def _wrapped(self) -> Sequence[AsyncKeyValue]:
        return self.primary_key_value, self.cache_key_value

    def _capabilities(self) -> frozenset[str]:
        return capabilities_of(self.primary_key_value) - ({"destroy", "destroy_collection"} - capabilities_of(self.cache_key_value))

    async def setup(self) -> None:
        """Open the primary store and the cache. A cache that can't be opened is no failure."""
        await self._open_one(self.primary_key_value)
        await self._tried(self._open_one, self.cache_key_value)

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        if operation.is_read and operation.keys:
            return await self._read(operation)
        if operation.is_write and (places := operation.entry_refs(self.default_collection)):
            return await self._write(places, call)
        return await call(self.primary_key_value)

    async def _cull(self) -> None:
        await super()._cull()
        if "cull" in capabilities_of(self.cache_key_value):
            await self._tried(cast("Any", self.cache_key_value).cull)

    # No read that begins after a write has ended returns an older value:
    # - A read takes its moment before it asks the primary. A write notes its moment after the primary has answered, or failed.
    # - The answer to a read is used only while its moment is later than that of the key's last write: to share it with a caller that
    #   comes later, to cache it, and each time that its row is found in the cache.
    # So it does not matter when a row is cached, or by which process, nor whether it is removed. Rows are removed for other processes: a
    # write removes them after it has noted its moment, and a read looks for such a moment after it has cached a row, so one of them does.
    # Of two writes at the same time, the one that ends last decides. A write that never ends has not returned either.

    async def _read(self, operation: Operation) -> Any:
        cache, collection, is_bulk = self.cache_key_value, operation.collection or self.default_collection, operation.name.endswith("_many")
        left = list(dict.fromkeys(operation.keys)) if is_bulk else operation.keys
        found: dict[str, Pair] = {}
        while left:  # again if a read that was shared has been cancelled
            try:
                rows = await cache.get_many(left, collection=collection) if is_bulk else [await cache.get(left[0], collection=collection)]
                now = clock.now()
                found |= {key: pair for key, row in zip(left, rows, strict=True) if (pair := self._pair(collection, key, row, now))}
            except Exception as error:  # noqa: BLE001 # a cache must not fail a read
                self._failed(error)
            if left := [key for key in left if key not in found]:
                found |= await self._fetch(collection, left, operation.collection, is_bulk)
                left = [key for key in left if key not in found]
        pairs = [found[key] for key in operation.keys]
        if len(found) < len(pairs):  # each place in the answer gets a value of its own
            pairs = list(map(_copied, pairs))
        result = pairs if operation.name.startswith("ttl") else [value for value, _ in pairs]
        return result if is_bulk else result[0]

    def _pair(self, collection: str, key: str, row: dict[str, Any] | None, now: float) -> Pair | None:
        """Return what a row of the cache says, or None if that is nothing, or not to be believed."""
        if row is None or row.keys() != _ROW:
            return None
        value, at, until, expires = row[_VALUE], row[_AT], row[_UNTIL], row[_EXPIRES]
        end = until if expires is None else expires
        if type(at) not in _NUMBERS or type(until) not in _NUMBERS or type(end) not in _NUMBERS or type(value) not in _VALUES:
            return None
        if until <= now or end <= now or not self._is_current(collection, key, at):
            return None
        return value, None if expires is None else expires - now

    async def _fetch(self, collection: str, keys: Sequence[str], named: str | None, is_bulk: bool) -> dict[str, Pair]:
        """Read keys from the primary and cache them, or share the reads of other callers. What those give up is left out."""
        primary, flight = self.primary_key_value, _Flight(self._stamp())
        found: dict[str, Pair] = {}
        try:
            others = self._join(collection, keys, flight)
            if mine := [key for key in keys if key not in others]:
                asked = clock.now()
                pairs = await primary.ttl_many(mine, collection=named) if is_bulk else [await primary.ttl(mine[0], collection=named)]
                found.update(zip(mine, pairs, strict=True))
                await self._tried(self._fill, collection, found, flight.at, asked, is_bulk)
            with self._lock:  # the caller may change its values, so the others get copies
                flight.set_result({key: _copied(pair) for key, pair in found.items()} if flight.is_shared else {})
        except BaseException as error:
            # A cancellation concerns only this caller. An error of several keys may be that of another key.
            if isinstance(error, Exception) and len(keys) == 1 and not flight.done():
                flight.set_exception(error)
            flight.cancel()
            raise
        finally:
            with self._lock:
                for key in keys:
                    if self._flights.get((collection, key)) is flight:
                        del self._flights[collection, key]
            del flight  # or an error would hold on to the frame that holds on to it
        for key, other in others.items():
            with suppress(CancelledError, runtime.LoopOverError):
                found[key] = _copied((await runtime.wait(other, other.loop))[key])
        return found

    def _join(self, collection: str, keys: Sequence[str], flight: _Flight) -> dict[str, _Flight]:
        """Join the flights of other callers, and offer a new one for the other keys. Returns those of others, by key."""
        others: dict[str, _Flight] = {}
        with self._lock:
            for key in keys:
                other = self._flights.get((collection, key))
                if other and self._is_current(collection, key, other.at) and other.join():
                    others[key] = other
                else:
                    self._flights[collection, key] = flight
        return others

    async def _fill(self, collection: str, found: Mapping[str, Pair], at: float, asked: float, is_bulk: bool) -> None:
        """Cache what was read at a moment and not written since."""
        cache, rows = self.cache_key_value, dict[str, dict[str, Any]]()
        for key, (value, left) in found.items():
            allowed = self.negative_ttl or 0.0 if value is None else self.missing_ttl if left is None else min(left, self.maximum_ttl)
            until, expires = asked + allowed, None if left is None else asked + left  # `left` may be as old as the question
            if until > asked and self._is_current(collection, key, at):
                rows[key] = {_VALUE: value, _AT: at, _UNTIL: until, _EXPIRES: expires}
        if not rows:
            return
        keys, values, seconds = list(rows), list(rows.values()), max([row[_UNTIL] for row in rows.values()]) - asked
        options: Any = {"collection": collection, "ttl": seconds}
        try:
            await (cache.put_many(keys, values, **options) if is_bulk else cache.put(keys[0], values[0], **options))
        finally:
            if written := [(collection, key) for key in keys if not self._is_current(collection, key, at)]:
                with runtime.shielded(_PATIENCE):
                    await self._remove(written)

    # Writing.

    async def _write(self, places: Sequence[EntryRef], call: Callable[[Any], Awaitable[Any]]) -> Any:
        try:
            await self._tried(self._remove, places)
            result = await call(self.primary_key_value)
            self._stamp(places)
        except BaseException:
            self._stamp(places)  # it may have been written; and if the other one was interrupted, it was
            raise
        finally:
            await self._tried(self._remove, places)
        return result

    async def _remove(self, places: Sequence[EntryRef]) -> None:
        """Remove from the cache one place, or several keys of a collection."""
        cache: Any = self.cache_key_value
        collection, key = places[0]
        if key is None:
            await (cache.destroy() if collection is None else cache.destroy_collection(collection))
        else:
            keys = [key for _, key in places]
            await (cache.delete_many(keys, collection=collection) if keys[1:] else cache.delete(key, collection=collection))

    def _stamp(self, written: Sequence[EntryRef] = ()) -> float:
        """Return a new moment: the time in seconds since the epoch, but later than all before, even if the clock went back.

        Args:
            written: The places whose last write has this moment.
        """
        with self._lock:
            self._last_moment = moment = max(clock.now(), math.nextafter(self._last_moment, math.inf))
            if written:
                self._last_write = max(self._last_write, moment)  # a signal handler may have written since
                self._last_writes.update({_slot(*place): moment for place in written})
            return moment

    def _is_current(self, collection: str, key: str, at: float) -> bool:
        """Return whether a key has not been written since a moment."""
        if at > self._last_write:  # with the slots written out below, saves 8 % of a hit
            return True
        last = self._last_writes.get
        return at > last(hash((collection, key)) % _SLOTS, 0.0) and at > last(~(hash(collection) % _SLOTS), 0.0) and at > last(None, 0.0)

    async def _tried(self, call: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Make a call on the cache, which must not fail what the primary can do."""
        try:
            await call(*args)
        except Exception as error:  # noqa: BLE001 # likewise
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.cache_errors += 1
        _LOGGER.warning("The cache failed: %s", type(error).__name__)


def _slot(collection: str | None, key: str | None) -> int | None:
    """Return where the moment of a write is remembered: keys share `_SLOTS` slots, and so do collections. None is for everything.

    A write counts as one of all that share its slot, which costs them a miss. So memory is bounded, and no number of writes makes
    everything a miss at once.
    """
    return hash((collection, key)) % _SLOTS if key is not None else None if collection is None else ~(hash(collection) % _SLOTS)


def _copied(pair: Pair) -> Pair:
    value, left = pair
    return None if value is None else codec.copy_value(value), left
