"""Listing large values: what listing, culling and destroying hold of them in memory at a time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Awaitable
from typing import Any

import pytest

from keyvalue.testing import Clock
from tests import backends

COUNT = 48
SIZE = 2**19
"""Characters of a value."""
MOST = 2**24
"""Bytes that may be held: two pages, a value that is being decoded, and what the client makes of them."""
LISTED = [name for name in backends.STORING if name not in (*backends.UNLISTED, "dynamodb")]
"""The backends that can list, but for the one whose answers have 1 MiB at most in any case."""


@pytest.mark.backends(*LISTED)
async def test_listing_holds_a_page_of_values_at_most(kv: Any, clock: Clock) -> None:
    value = {"a": "x" * SIZE}

    async def put(name: str, **options: Any) -> None:
        for number in range(COUNT // 2):
            await kv.put(f"{name}{number}", value, **options)

    async def measured(call: Awaitable[Any]) -> Any:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        result = await call
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < MOST
        return result

    await put("k")
    await put("expiring", ttl=5)
    tracemalloc.start()
    try:
        assert len(await measured(kv.keys())) == COUNT
        clock.advance(5)
        await measured(kv.cull())
        assert await measured(kv.collections()) == ["default_collection"]
        await measured(kv.destroy())
        assert await kv.keys() == []
    finally:
        tracemalloc.stop()
