"""A store that keeps nothing."""

from collections.abc import Sequence
from typing import ClassVar

from keyvalue._core.entry import Entry
from keyvalue._core.store import BaseStore, Stability

__all__ = ["NullStore"]


class NullStore(BaseStore):
    """Keeps nothing: every put is accepted, and every key is missing. For tests, and for switching storage off.

    Arguments are checked as on every store.

    Args:
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
    """

    stability: ClassVar[Stability] = "stable"
    runs_inline = True

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        return [None] * len(keys)

    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        pass

    async def _delete(self, collection: str, keys: Sequence[str]) -> Sequence[bool]:
        return [False] * len(keys)
