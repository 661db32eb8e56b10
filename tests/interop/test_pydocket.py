"""pydocket with our stores as its result storage."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from docket import Docket, Worker

pytestmark = pytest.mark.backends("filetree", "redis")


async def add(a: int, b: int) -> int:
    return a + b


async def describe(name: str) -> dict[str, Any]:
    return {"name": name, "tags": ["a", "b"], "ratio": 0.1}


async def fail() -> int:
    raise ValueError("on purpose")


async def test_results_are_kept_in_the_store(make_raw: Callable[[], Any], empty_server: Callable[[str], str]) -> None:
    store = make_raw()
    async with store, Docket(name="interop", url=empty_server("redis"), result_storage=store) as docket:
        for task in (add, describe, fail):
            docket.register(task)
        sum_, description, failure = await docket.add(add)(2, 3), await docket.add(describe)("x"), await docket.add(fail)()
        async with Worker(docket, minimum_check_interval=timedelta(milliseconds=5)) as worker:
            await worker.run_until_finished()
        wait = timedelta(seconds=20)
        assert await sum_.get_result(timeout=wait) == 5
        assert await description.get_result(timeout=wait) == {"name": "x", "tags": ["a", "b"], "ratio": 0.1}
        with pytest.raises(ValueError, match="on purpose"):
            await failure.get_result(timeout=wait)
        keys: list[Any] = [execution.result_key for execution in (sum_, description, failure)]
        assert None not in keys
        assert sorted(await store.keys()) == sorted(keys)
        _, seconds = await store.ttl(keys[0])
        assert 0 < seconds <= docket.execution_ttl.total_seconds()
        # It is the store that answers: without its rows there is no result.
        row = await store.get(keys[1])
        await store.put(keys[0], row)
        assert await sum_.get_result(timeout=wait) == {"name": "x", "tags": ["a", "b"], "ratio": 0.1}
