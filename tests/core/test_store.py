"""The seam: mistakes of a store's author are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from keyvalue.stores.base import Entry, EnumerableStore


class Wrong(EnumerableStore):
    """A store whose author has made mistakes."""

    runs_inline = True

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        return [None]

    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        pass

    async def _delete(self, collection: str, keys: Sequence[str]) -> int:
        return await self._use(lambda client: client.delete(keys))

    def _scan(self, collection: str | None) -> Any:
        return []

    async def _cull(self, now: float) -> None:
        pass


async def test_mistakes_of_a_stores_author_are_named() -> None:
    kv = Wrong()
    with pytest.raises(RuntimeError, match=r"Wrong\._get returned 1 entries for 2 keys"):
        await kv.get_many(["k", "l"])
    with pytest.raises(RuntimeError, match=r"Wrong has no client: set self\._client in __init__"):
        await kv.delete("k")
    for call in (kv.keys, kv.collections, kv.destroy):
        with pytest.raises(TypeError, match=r"Wrong\._scan must be an asynchronous generator"):
            await call()
