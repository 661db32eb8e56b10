"""Stores over a flat space of names, each with one JSON document.

A subclass reads and writes documents by name. `KeyLayout` says under which names a pair of collection and key may lie: nearly always one,
which is all that this module deals with. `keyvalue._core.legacy.slots` deals with pairs that have several.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from itertools import repeat
from typing import TypeVar

from keyvalue._core import clock, runtime
from keyvalue._core.codec import LARGE
from keyvalue._core.entry import CompareAndSet, Entry, Stored, read_aside
from keyvalue._core.hook_checks import hook_error
from keyvalue._core.layout import CompoundLayout, KeyLayout
from keyvalue._core.legacy import slots
from keyvalue._core.store import BaseStore
from keyvalue._core.wording import describe
from keyvalue.errors import KeyValueError

__all__ = ["FlatStore", "map_outcomes"]

S = TypeVar("S")
T = TypeVar("T")


class FlatStore(BaseStore):
    """A store over a flat space of names; a subclass reads and writes documents by name.

    What it writes returns awaitables: its methods may be coroutines, or return what `_use` returns.

    Attributes:
        layout: Under which names the pairs lie.
    """

    layout: KeyLayout = CompoundLayout()

    @abstractmethod
    def _read(self, names: Sequence[str], *, lenient: bool = False) -> Awaitable[Sequence[Stored | None]]:
        """Return what lies under distinct names, aligned with them.

        Args:
            names: The names.
            lenient: Whether another program's data of another kind, if the backend has kinds, counts as nothing.
        """

    @abstractmethod
    def _write(self, rows: Sequence[tuple[str, Entry]]) -> Awaitable[Sequence[KeyValueError | None] | None]:
        """Store the document of each entry under its name, in place of what was there.

        Returns:
            For each row None or the error that kept it from being stored; None alone if all were stored.
        """

    @abstractmethod
    def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Awaitable[Sequence[bool]]:
        """Apply each change, atomically, if its name still has the expected version; return for each whether it was applied."""

    def _pop(self, names: Sequence[str]) -> Awaitable[Sequence[Stored | KeyValueError | None]]:
        """Remove distinct names and return what was removed, aligned with them. To be overridden where one call does it.

        An error stands for a name that could not be removed.
        """
        return self._pop_by_comparing(names, self._read)

    async def _pop_by_comparing(
        self, names: Sequence[str], read: Callable[[Sequence[str]], Awaitable[Sequence[Stored | None]]]
    ) -> Sequence[Stored | None]:
        """Read, then compare and remove, until the version that was read is removed. A name for which `read` returns None stays."""
        removed: dict[str, Stored | None] = {}
        left = list(names)
        while left:
            found = dict(zip(left, await read(left), strict=True))
            changes = [CompareAndSet(name, stored.version, None) for name, stored in found.items() if stored is not None]
            made = await self._compare_and_set(changes) if changes else ()
            left = [change.name for change, was_made in zip(changes, made, strict=True) if not was_made]
            removed |= {name: stored for name, stored in found.items() if name not in left}
        return [removed[name] for name in names]

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        names = self.layout.direct_names(collection, keys)
        if names is None:
            return await slots.get(self, collection, keys)
        found = await self._read(names)
        if len(found) != len(keys):
            raise hook_error(self, "_read", f"returned {len(found)} documents for {len(keys)} names; it must return one for each, or None")
        if len(keys) == 1:
            stored = found[0]
            if stored is None:
                return (None,)
            if not isinstance(stored, Stored):  # pyright: ignore[reportUnnecessaryIsInstance] # what authors return may be anything
                raise hook_error(self, "_read", f"returned {describe(stored)} for a name; it must return a Stored, or None")
            if len(stored.document or b"") <= LARGE:
                return (stored.entry(collection, keys[0]),)
        return await read_aside(found, lambda: list(map(_entry, found, repeat(collection), keys)))

    async def _put(self, collection: str, entries: Sequence[Entry]) -> Sequence[KeyValueError | None] | None:
        names = self.layout.direct_names(collection, [entry.key for entry in entries])
        if names is None:
            return await slots.put(self, collection, entries)
        return await self._write(list(zip(names, entries, strict=True)))

    async def _delete(self, collection: str, keys: Sequence[str]) -> Sequence[bool | KeyValueError]:
        names = self.layout.direct_names(collection, keys)
        if names is None:
            return await slots.delete(self, collection, keys)
        now = clock.now()  # from before the call, or an entry that expires meanwhile was never there
        removed = await self._pop(names)
        there = [stored for stored in removed if isinstance(stored, Stored)]
        return await read_aside(there, lambda: list(map(_was_there, removed, repeat(collection), keys, repeat(now))))


def _entry(stored: Stored | None, collection: str, key: str) -> Entry | None:
    return None if stored is None else stored.entry(collection, key)


def _was_there(removed: Stored | KeyValueError | None, collection: str, key: str, now: float) -> bool | KeyValueError:
    return removed.is_live_entry(collection, key, now) if isinstance(removed, Stored) else removed is not None and removed


async def map_outcomes(function: Callable[[S], Awaitable[T]], items: Sequence[S], *, limit: int) -> list[T | KeyValueError]:
    """Do what `runtime.map_concurrent` does, but return the errors that calls raise in place of their results."""

    async def call(item: S) -> T | KeyValueError:
        try:
            return await function(item)
        except KeyValueError as error:
            return error

    return await runtime.map_concurrent(call, items, limit=limit)
