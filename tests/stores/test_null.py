"""`NullStore` keeps nothing, whatever was put."""

from __future__ import annotations

from keyvalue.stores.null import NullStore
from tests.runtimes import Runtime


async def test_every_key_is_missing(runtime: Runtime) -> None:
    kv = runtime.adapt(NullStore())
    await kv.put("k", {"a": 1})
    await kv.put_many(["k", "l"], [{}, {}], ttl=5)
    assert await kv.get("k") is None
    assert await kv.ttl("k") == (None, None)
    assert await kv.get_many(["k", "l"]) == [None, None]
    assert await kv.ttl_many(["k", "l"]) == [(None, None)] * 2
    assert await kv.delete("k") is False
    assert await kv.delete_many(["k", "l"]) == 0
