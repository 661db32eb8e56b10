"""Trio as a guest of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

Call = Callable[[], Awaitable[Any]]


@asynccontextmanager
async def guest_run() -> AsyncGenerator[Callable[[Call], Awaitable[Any]], None]:
    """Run trio on the running loop of asyncio. What is yielded makes a call in a task of trio and returns what it returns."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    send, receive = trio.open_memory_channel[tuple[Call, "asyncio.Future[Any]"]](10)

    async def serve() -> None:
        async for call, answer in receive:
            try:
                answer.set_result(await call())
            except Exception as error:  # noqa: BLE001 # raised where it was asked for
                answer.set_exception(error)

    async def ask(call: Call) -> Any:
        answer: asyncio.Future[Any] = loop.create_future()
        send.send_nowait((call, answer))
        return await answer

    trio.lowlevel.start_guest_run(serve, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=ended.set_result)
    try:
        yield ask
    finally:
        send.close()
        (await ended).unwrap()
