"""Calls on pairs that have several slots (see `keyvalue._core.layout`).

A document in a slot counts only if the collection and key in it are those of the pair. A put goes to the first slot of the pair that no
other pair's entry holds, which at the latest is its own, and removes the pair's older documents from the others. So whatever was stored is
found, and no two pairs ever meet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from typing import Literal, NamedTuple, Protocol

from keyvalue._core import clock
from keyvalue._core.entry import CompareAndSet, Entry, Stored, read_aside
from keyvalue._core.layout import KeyLayout, Slot
from keyvalue.errors import DeserializationError, KeyValueError

__all__ = ["delete", "get", "put"]

Found = Sequence[tuple[Slot, "Stored | None"]]
"""The slots of a pair, and what lies there."""


class Backend(Protocol):
    """The part of a `FlatStore` that reads and writes by name."""

    layout: KeyLayout

    def _read(self, names: Sequence[str], *, lenient: bool = False) -> Awaitable[Sequence[Stored | None]]: ...
    def _write(self, rows: Sequence[tuple[str, Entry]]) -> Awaitable[Sequence[KeyValueError | None] | None]: ...
    def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Awaitable[Sequence[bool]]: ...


async def get(backend: Backend, collection: str, keys: Sequence[str]) -> list[Entry | None]:
    """Return the entries of pairs, aligned with their keys."""
    found = await _look(backend, collection, keys)
    return await read_aside(_stored_in(found), partial(_first_entries, collection, keys, found))


async def put(backend: Backend, collection: str, entries: Sequence[Entry]) -> list[KeyValueError | None]:
    """Store entries, and return for each None or the error of its write."""
    errors: dict[str, KeyValueError] = {}
    left = entries
    while left:
        found = await _look(backend, collection, [entry.key for entry in left])
        plan = await read_aside(_stored_in(found), partial(_plan, collection, left, found, clock.now()))
        if plan.own:
            outcomes = await backend._write(plan.own) or ()  # pyright: ignore[reportPrivateUsage] # it is the store's own room
            errors.update((entry.key, error) for (_, entry), error in zip(plan.own, outcomes, strict=False) if error is not None)
        made = await _exchange(backend, [change for change, _ in plan.shared])
        left = [entry for (_, entry), was_made in zip(plan.shared, made, strict=True) if not was_made]
        await _exchange(backend, [change for change, entry in plan.older if entry not in left and entry.key not in errors])
    return [errors.get(entry.key) for entry in entries]


async def delete(backend: Backend, collection: str, keys: Sequence[str]) -> list[bool]:
    """Delete pairs, and return for each whether it held an entry that had not expired."""
    now = clock.now()
    gone: set[str] = set()
    left = keys
    while left:
        found = await _look(backend, collection, left)
        own = await read_aside(_stored_in(found), partial(_own_rows, collection, left, found, now))
        made = await _exchange(backend, [row.change for row in own])
        gone |= {row.key for row, was_made in zip(own, made, strict=True) if was_made and row.is_live}
        # Another caller may be moving what lay in an old slot, and have made a copy that was not there to see.
        left = list(dict.fromkeys(row.key for row, was_made in zip(own, made, strict=True) if row.is_strict or not was_made))
    return [key in gone for key in keys]


async def _exchange(backend: Backend, changes: Sequence[CompareAndSet]) -> Sequence[bool]:
    return await backend._compare_and_set(changes) if changes else ()  # pyright: ignore[reportPrivateUsage] # it is the store's own room


async def _look(backend: Backend, collection: str, keys: Sequence[str]) -> list[Found]:
    """Return the slots of pairs and what lies there."""
    slots = [backend.layout.slots(collection, key) for key in keys]
    # A put stores a document in its new slot before it removes it from an old one, which comes later here: read the other way round,
    # it is found in one of them.
    backwards = [slot for some in slots for slot in reversed(some)]
    stored: dict[str, Stored | None] = {}
    for lenient in (True, False):
        names = list(dict.fromkeys(slot.name for slot in backwards if (slot.kind == "strict") is lenient))
        if names:
            found = await backend._read(names, lenient=lenient)  # pyright: ignore[reportPrivateUsage] # it is the store's own room
            stored.update(zip(names, found, strict=True))
    return [[(slot, stored[slot.name]) for slot in some] for some in slots]


def _stored_in(found: Sequence[Found]) -> Iterable[Stored | None]:
    return (stored for slots in found for _, stored in slots)


def _first_entries(collection: str, keys: Sequence[str], found: Sequence[Found]) -> list[Entry | None]:
    return [
        next((entry for slot, stored in slots if (entry := _entry_in(slot, stored, collection, key)) is not None), None)
        for key, slots in zip(keys, found, strict=True)
    ]


def _entry_in(slot: Slot, stored: Stored | None, collection: str, key: str) -> Entry | None:
    """Return the entry of a pair in one of its slots, or None if the slot holds another pair's."""
    if stored is None:
        return None
    if slot.kind != "strict":
        return stored.entry(collection, key)
    entry = stored.named_entry()
    return entry if entry is not None and (entry.collection, entry.key) == (collection, key) else None


class _Plan(NamedTuple):
    """What a put does.

    Attributes:
        own: Entries for their own slots.
        shared: Entries for slots that other pairs may want too.
        older: Documents to remove then.
    """

    own: list[tuple[str, Entry]]
    shared: list[tuple[CompareAndSet, Entry]]
    older: list[tuple[CompareAndSet, Entry]]


def _plan(collection: str, entries: Sequence[Entry], found: Sequence[Found], now: float) -> _Plan:
    plan = _Plan([], [], [])
    claimed: set[str] = set()
    for entry, slots in zip(entries, found, strict=True):
        is_placed = False
        for slot, stored in slots:
            owner = _owner_of(slot, stored, collection, entry.key, now)
            if not is_placed and slot.kind == "own":
                plan.own.append((slot.name, entry))
                is_placed = True
            elif not is_placed and owner != "another pair" and slot.name not in claimed:
                plan.shared.append((CompareAndSet(slot.name, stored and stored.version, entry), entry))
                claimed.add(slot.name)
                is_placed = True
            elif owner == "the pair":
                plan.older.append((CompareAndSet(slot.name, stored and stored.version, None), entry))
    return plan


class _OwnRow(NamedTuple):
    """A document of a pair that is to be deleted.

    Attributes:
        change: How to remove it.
        key: The key.
        is_live: Whether it counts as an entry.
        is_strict: Whether it lies in a strict slot.
    """

    change: CompareAndSet
    key: str
    is_live: bool
    is_strict: bool


def _own_rows(collection: str, keys: Sequence[str], found: Sequence[Found], now: float) -> list[_OwnRow]:
    return [
        _OwnRow(CompareAndSet(slot.name, stored.version, None), key, stored.is_live_entry(collection, key, now), slot.kind == "strict")
        for key, slots in zip(keys, found, strict=True)
        for slot, stored in slots
        if stored is not None and _owner_of(slot, stored, collection, key, now) == "the pair"
    ]


def _owner_of(slot: Slot, stored: Stored | None, collection: str, key: str, now: float) -> Literal["nobody", "the pair", "another pair"]:
    """Tell to whom belongs what lies in a slot of a pair: what can't be read is the pair's, unless the slot is strict."""
    if stored is None:
        return "nobody"
    try:
        entry = stored.any_entry("", "")
    except DeserializationError:
        return "nobody" if slot.kind == "strict" else "the pair"
    if slot.kind == "strict" and not (entry.collection and entry.key):
        return "nobody"
    if entry.collection in ("", collection) and entry.key in ("", key):
        return "the pair"
    return "another pair" if entry.is_live(now) else "nobody"
