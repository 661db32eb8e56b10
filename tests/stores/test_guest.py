"""Trio as a guest of asyncio, two loops on one thread: the loop of the calling task decides which client is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests import backends
from tests.guest import guest_run
from tests.stores.hooks import Hooks
from tests.stores.test_backends import ASYNCHRONOUS


@pytest.mark.backends(*backends.STORING)
async def test_tasks_of_both_loops_use_a_store(backend: str, make_raw: Callable[..., Any]) -> None:
    async with make_raw() as kv, guest_run() as in_trio:
        await kv.put("host", {"n": 1}, collection="c")
        await in_trio(lambda: kv.put("guest", {"n": 2}, collection="c"))
        assert await in_trio(lambda: kv.get_many(["host", "guest"], collection="c")) == [{"n": 1}, {"n": 2}]
        assert await kv.get_many(["host", "guest"], collection="c") == [{"n": 1}, {"n": 2}]
    async with make_raw() as other:  # after the guest run
        await other.put("k", {"n": 3})
        assert await other.get("k") == {"n": 3}


@pytest.mark.backends(*ASYNCHRONOUS)
async def test_a_given_client_belongs_to_the_loop_of_the_task(hooks: Hooks, url: str) -> None:
    async with list(hooks.async_clients(url).values())[-1] as client:
        before = hooks.given(client)
        await before.put("k", {"n": 1})
        async with guest_run():
            assert await before.get("k") == {"n": 1}
            during = hooks.given(client)
            assert await during.get("k") == {"n": 1}
        assert await during.get("k") == {"n": 1}
