"""What is SimpleStore's own: one limit for all entries."""

from __future__ import annotations

from typing import Any

import pytest

from keyvalue.stores.simple import SimpleStore
from keyvalue.testing import Clock


@pytest.mark.parametrize("arguments", [{"max_entries": 2}, {}])
async def test_the_first_put_goes_first(arguments: dict[str, Any]) -> None:
    kv = SimpleStore(**arguments)
    await kv.put("first", {})
    await kv.put("second", {}, collection="c")
    await kv.put("first", {"again": True})  # overwriting neither evicts nor makes it younger
    assert await kv.get_many(["first"]) == [{"again": True}]
    await kv.put_many(["third", "fourth"], [{}, {}])
    limited = bool(arguments)
    assert await kv.keys() == (["third", "fourth"] if limited else ["first", "third", "fourth"])
    assert await kv.keys("c") == ([] if limited else ["second"])


async def test_expired_entries_make_room_first(clock: Clock) -> None:
    kv = SimpleStore(2, "mine")
    await kv.put("live", {})
    await kv.put("expired", {}, ttl=5)
    clock.advance(5)
    await kv.put("new", {})
    assert await kv.keys("mine") == ["live", "new"]
