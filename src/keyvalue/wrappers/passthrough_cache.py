"""A wrapper that reads through a cache."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, SupportsFloat, cast

from keyvalue._core import arguments, clock, codec, constructor, runtime
from keyvalue._core.capabilities import capabilities_of, require_async
from keyvalue._core.operation import EntryRef, Operation
from keyvalue._core.single_flight import SingleFlight
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue._core.wrapper import BaseWrapper, Pair, beneath
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["PassthroughCacheWrapper"]

_LOGGER = logging.getLogger("keyvalue.passthrough_cache")

_VALUE, _AT, _UNTIL, _EXPIRES = "__cached_value__", "__cached_at__", "__cached_until__", "__expires_at__"
_ROW, _NUMBERS, _VALUES = {_VALUE, _AT, _UNTIL, _EXPIRES}, (float, int), (dict, type(None))
_SECONDS = 1800.0
_PATIENCE = 5.0  # seconds for which a cancelled read still tries to remove a row from the cache


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
        primary_key_value: The store that holds the entries. Listing, culling and destroying are its own; destroying is offered only as
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
        InvalidTTLError: A time to live is not a positive number of seconds.
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
        self.maximum_ttl: float = constructor.check_ttl(_SECONDS if maximum_ttl is None else maximum_ttl, "maximum_ttl")
        self.missing_ttl: float = min(
            constructor.check_ttl(_SECONDS if missing_ttl is None else missing_ttl, "missing_ttl"), self.maximum_ttl
        )
        self.negative_ttl: float | None = (
            None if negative_ttl is None else min(constructor.check_ttl(negative_ttl, "negative_ttl"), self.maximum_ttl)
        )
        self.default_collection: str = arguments.check_name(default_collection or DEFAULT_COLLECTION, "collection")
        self.cache_errors: int = 0
        self._reads = SingleFlight(_copy)
        super().__init__(primary_key_value)

    def _wrapped(self) -> Sequence[AsyncKeyValue]:
        return self.primary_key_value, self.cache_key_value

    def _capabilities(self) -> frozenset[str]:
        return capabilities_of(self.primary_key_value) - ({"destroy", "destroy_collection"} - capabilities_of(self.cache_key_value))

    async def setup(self) -> None:
        """Open the primary store and the cache. A cache that can't be opened is no failure."""
        await self._open_one(self.primary_key_value)
        await self._try(self._open_one, self.cache_key_value)

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        if operation.is_read and operation.keys:
            return await self._read(operation)
        if operation.is_write and (places := operation.entry_refs(self.default_collection)):
            return await self._write(places, call)
        return await call(self.primary_key_value)

    async def _cull(self) -> None:
        await super()._cull()
        if "cull" in capabilities_of(self.cache_key_value):
            await self._try(cast("Any", self.cache_key_value).cull)

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
                found |= {key: pair for key, row in zip(left, rows, strict=True) if (pair := self._open_row(collection, key, row, now))}
            except Exception as error:  # noqa: BLE001 # a cache must not fail a read
                self._note_failure(error)
            if left := [key for key in left if key not in found]:
                fetched = await self._reads.read([(collection, key) for key in left], partial(self._fetch, operation))
                found |= {key: fetched[collection, key] for key in left if (collection, key) in fetched}
                left = [key for key in left if key not in found]
        pairs = [found[key] for key in operation.keys]
        if len(found) < len(pairs):  # each place in the answer gets a value of its own
            pairs = list(map(_copy, pairs))
        result = pairs if operation.name.startswith("ttl") else [value for value, _ in pairs]
        return result if is_bulk else result[0]

    def _open_row(self, collection: str, key: str, row: dict[str, Any] | None, now: float) -> Pair | None:
        """Return what a row of the cache says, or None if that is nothing, or not to be believed."""
        if row is None or row.keys() != _ROW:
            return None
        value, at, until, expires = row[_VALUE], row[_AT], row[_UNTIL], row[_EXPIRES]
        end = until if expires is None else expires
        if type(at) not in _NUMBERS or type(until) not in _NUMBERS or type(end) not in _NUMBERS or type(value) not in _VALUES:
            return None
        if until <= now or end <= now or not (at > self._reads.last_write or self._reads.is_current((collection, key), at)):
            return None
        return value, None if expires is None else expires - now

    async def _fetch(self, operation: Operation, refs: Sequence[EntryRef], at: float) -> dict[EntryRef, Pair]:
        """Read the primary, and cache what it answers."""
        primary, collection, is_bulk, asked = self.primary_key_value, operation.collection, operation.name.endswith("_many"), clock.now()
        keys: Any = [key for _, key in refs]
        pairs = await primary.ttl_many(keys, collection=collection) if is_bulk else [await primary.ttl(keys[0], collection=collection)]
        found = dict(zip(refs, pairs, strict=True))
        await self._try(self._fill, found, at, asked, is_bulk)
        return found

    async def _fill(self, found: Mapping[EntryRef, Pair], at: float, asked: float, is_bulk: bool) -> None:
        """Cache what was read at a moment and not written since."""
        rows: dict[EntryRef, dict[str, Any]] = {}
        for ref, (value, left) in found.items():
            allowed = self.negative_ttl or 0.0 if value is None else self.missing_ttl if left is None else left
            # `left` may be as old as the question.
            until, expires = asked + min(allowed, self.maximum_ttl), None if left is None else asked + left
            if until > asked and self._reads.is_current(ref, at):
                rows[ref] = {_VALUE: value, _AT: at, _UNTIL: until, _EXPIRES: expires}
        if rows:
            cache, keys, values = self.cache_key_value, cast("list[str]", [key for _, key in rows]), list(rows.values())
            options: Any = {"collection": next(iter(rows))[0], "ttl": max([row[_UNTIL] for row in values]) - asked}
            try:
                await (cache.put_many(keys, values, **options) if is_bulk else cache.put(keys[0], values[0], **options))
            finally:
                if written := [ref for ref in rows if not self._reads.is_current(ref, at)]:
                    with runtime.shielded(_PATIENCE):
                        await self._remove(written)

    # Writing.

    async def _write(self, places: Sequence[EntryRef], call: Callable[[Any], Awaitable[Any]]) -> Any:
        try:
            await self._try(self._remove, places)
            result = await call(self.primary_key_value)
            self._reads.stamp(places)
        except BaseException:
            self._reads.stamp(places)  # it may have been written; and if the other one was interrupted, it was
            raise
        finally:
            await self._try(self._remove, places)
        return result

    async def _remove(self, places: Sequence[EntryRef]) -> None:
        """Remove from the cache one place, or several keys of a collection."""
        cache: Any = self.cache_key_value
        collection, keys = places[0][0], [key for _, key in places if key is not None]
        if keys:
            await (cache.delete_many(keys, collection=collection) if keys[1:] else cache.delete(keys[0], collection=collection))
        else:
            await (cache.destroy() if collection is None else cache.destroy_collection(collection))

    async def _try(self, call: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Make a call on the cache, which must not fail what the primary can do."""
        try:
            await call(*args)
        except Exception as error:  # noqa: BLE001 # the cache may raise anything
            self._note_failure(error)

    def _note_failure(self, error: Exception) -> None:
        self.cache_errors += 1
        _LOGGER.warning("The cache failed: %s", type(error).__name__)


def _copy(pair: Pair) -> Pair:
    return None if pair[0] is None else codec.copy_value(pair[0]), pair[1]
