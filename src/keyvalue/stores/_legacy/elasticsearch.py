"""Entries that py-key-value-aio put in another collection's index.

It names indices in lower case, so entries of `Foo` may lie in the index of `foo`, where a put of `foo` would overwrite them. Before the
first write to such an index, they are moved to the index of their own collection.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing, suppress

from keyvalue._core import runtime
from keyvalue._core.entry import CompareAndSet, Entry
from keyvalue._core.layout import Slot
from keyvalue._core.once import Once
from keyvalue.errors import KeyValueError, StoreRefusedError
from keyvalue.stores._drivers.elasticsearch import PAGE, Hit, IndexLayout
from keyvalue.stores._drivers.elasticsearch_requests import Indices, Send, find, search


def is_stray(layout: IndexLayout, hit: Hit) -> bool:
    """Return whether a document is the entry of a pair that would be put elsewhere today, and lies where another pair's belongs."""
    collection, key = hit.pair
    if type(collection) is not str or type(key) is not str or not collection or not key:
        return False
    if hit.name.startswith(f"{layout.prefix}-{collection}/"):  # the usual case, told quickly
        return False
    return Slot(hit.name, "strict") in layout.slots(collection, key)


class StrayMover:
    """Moves the entries of other collections out of an index.

    Args:
        layout: Where entries lie.
    """

    def __init__(self, layout: IndexLayout) -> None:
        self._layout = layout
        self._moving: dict[str, Once] = {}

    async def clear(self, send: Send, indices: Indices, index: str) -> None:
        """Move them, once for all callers that ask for it at the same time."""
        if not self._layout.can_be_mixed(index):
            return
        moving = self._moving.setdefault(index, Once())
        with suppress(StoreRefusedError):  # who may write may not be allowed to search
            await moving.run(lambda: self._move_all(send, indices, index))
        self._moving.pop(index, None)

    async def _move_all(self, send: Send, indices: Indices, index: str) -> None:
        own = index.removeprefix(f"{self._layout.prefix}-")
        others = {"filter": {"exists": {"field": "collection"}}, "must_not": {"term": {"collection": own}}}
        async with aclosing(search(send, index, PAGE, {"bool": others})) as pages:
            async for page in pages:
                names = [hit.name for hit in page if is_stray(self._layout, hit)]
                if names:
                    with runtime.shielded():
                        await self._move(send, indices, names)

    async def _move(self, send: Send, indices: Indices, names: Sequence[str]) -> None:
        """Move what lies in old places now, unless it is deleted meanwhile.

        A delete that removes something from an old place looks for a copy after that. So only a copy made later can come back, and whoever
        made it sees that the old place is empty, and removes it. A copy that was there already is left alone, and so is the old place: two
        that move the same entry must not both undo it.
        """
        moves: list[tuple[Hit, CompareAndSet]] = []
        for hit in await find(send, names):
            if hit is not None and is_stray(self._layout, hit):
                with suppress(KeyValueError):  # what can't be read stays
                    moves.append((hit, self._copy(hit)))
        versions = await indices.exchange(send, [copy for _, copy in moves])
        made = [(move, version) for move, version in zip(moves, versions, strict=True) if version is not None]
        undos = [(hit, CompareAndSet(copy.name, version, None)) for (hit, copy), version in made]
        removed = await indices.exchange(send, [CompareAndSet(hit.name, hit.stored.version, None) for hit, _ in undos])
        undos = [undo for undo, version in zip(undos, removed, strict=True) if version is None]
        now = await find(send, [hit.name for hit, _ in undos], with_values=False)
        undone = [undo for (_, undo), hit in zip(undos, now, strict=True) if hit is None or is_stray(self._layout, hit)]
        await indices.exchange(send, undone)

    def _copy(self, hit: Hit) -> CompareAndSet:
        """Return the change that copies an entry to where it would be put today, unless something is there."""
        old = hit.stored.any_entry(*hit.pair)
        entry = Entry(*hit.pair, None, old.json, None, old.expires_at)
        return CompareAndSet(self._layout.slots(*hit.pair)[0].name, None, entry)
