"""Any number of calls at a time: those for which a client has no connection left wait for one, and none fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from keyvalue._core.slots import LoopSlots
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.fallback import FallbackWrapper
from tests import backends
from tests.stores.hooks import Hooks
from tests.stores.test_backends import ASYNCHRONOUS

TASKS = 2000
THREADS = 200


async def use_in_tasks(kv: Any, count: int) -> None:
    await kv.put("k", {"n": 1}, collection="c")
    assert await asyncio.gather(*(kv.get("k", collection="c") for _ in range(count))) == [{"n": 1}] * count
    await asyncio.gather(*(kv.put(f"k{number % 50}", {"n": 1}, collection="c") for number in range(count // 10)))


def use_in_threads(kv: Any, count: int) -> None:
    start = Barrier(count)

    def use(number: int) -> Any:
        start.wait()
        kv.put(f"k{number}", {"n": number}, collection="c")
        return kv.get(f"k{number}", collection="c")

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(use, range(count))) == [{"n": number} for number in range(count)]


@pytest.mark.backends(*backends.STORING)
async def test_any_number_of_tasks(backend: str, make_raw: Callable[..., Any]) -> None:
    async with make_raw() as kv:
        await use_in_tasks(kv, TASKS // 10 if backend in backends.SLOW else TASKS)


@pytest.mark.backends(*backends.STORING)
def test_any_number_of_threads(make_raw: Callable[..., Any]) -> None:
    with BlockingKeyValue(make_raw()) as kv:
        use_in_threads(kv, THREADS)


@pytest.mark.backends(*ASYNCHRONOUS)
async def test_tasks_wait_for_a_given_client(hooks: Hooks, url: str) -> None:
    async with list(hooks.async_clients(url).values())[-1] as client:
        both = hooks.given(client), hooks.given(client)
        await asyncio.gather(*(use_in_tasks(kv, THREADS // 2) for kv in both))


@pytest.mark.backends(*ASYNCHRONOUS, "memcached")
def test_threads_wait_for_a_given_client(hooks: Hooks, url: str) -> None:
    with list(hooks.sync_clients(url).values())[-1] as client:
        both = BlockingKeyValue(hooks.given(client)), BlockingKeyValue(hooks.given(client))
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda kv: use_in_threads(kv, THREADS // 2), both)) == [None, None]


async def test_puts_that_wait_don_t_go_to_a_fallback(redis_url: str) -> None:
    from keyvalue.stores.redis import RedisStore  # imported here, as its client may not be installed

    fallback = MemoryStore()
    async with RedisStore(url=redis_url) as store:
        kv = FallbackWrapper(store, fallback, write_to_fallback=True)
        await asyncio.gather(*(kv.put(f"k{number}", {"n": number}) for number in range(TASKS)))
        assert len(await store.keys()) == TASKS
    assert await fallback.keys() == []


async def take(slots: LoopSlots) -> None:
    if slots.free:
        slots.free -= 1
    else:
        await slots.wait()


async def test_room_on_a_loop_is_not_lost_with_those_that_wait() -> None:
    slots = LoopSlots(1)
    await take(slots)
    woken, waiting, last = [asyncio.create_task(take(slots)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting.cancel()
    slots.release()
    woken.cancel()  # in the same moment
    await asyncio.wait([woken, waiting])
    assert woken.cancelled()
    assert waiting.cancelled()
    await asyncio.wait_for(last, 10)
    last = asyncio.create_task(take(slots))
    await asyncio.sleep(0)
    slots.release()
    last.cancel()  # and there is no other
    await asyncio.wait([last])
    await asyncio.wait_for(take(slots), 10)
