"""The asynchronous clients of a store: those that it creates, one for each asyncio loop, or one that the user passed in."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from keyvalue._core import fork, pending, runtime
from keyvalue._core.slots import LoopSlots, shared
from keyvalue._core.sync_client import SyncClient, do_nothing
from keyvalue._core.wording import closed_error
from keyvalue.errors import StoreSetupError

__all__ = ["BorrowedAsyncClient", "LoopClients"]


class LoopClient:
    """An asynchronous client on its loop.

    Args:
        name: The store's name, for messages.
        client: The client.
        slots: The slots for its calls, if these are limited.
        shield_reads: See `Clients`.
    """

    def __init__(self, name: str, client: Any, slots: LoopSlots | None, shield_reads: bool) -> None:
        self._name = name
        self.client: Any = client
        self._slots = slots
        self._shield_reads = shield_reads
        self.is_closed: bool = False

    async def call(self, function: Callable[[Any], Any]) -> Any:
        """Call a function of the client and await what it returns. What must not be cancelled with the caller goes on to its end.

        A slot is held until the call has ended, even if the caller has left it.
        """
        slots = self._slots
        has_waited = False
        if slots is not None:
            if slots.free:
                slots.free -= 1
            else:
                await slots.wait()
                has_waited = True
        ended: Future[None] | None = None
        try:
            if has_waited and self.is_closed:
                raise closed_error(self._name)
            awaitable = function(self.client)
            if not isinstance(awaitable, pending.Detached):
                if not (self._shield_reads or pending.is_writing()):
                    return await awaitable
                awaitable = pending.DetachedTask(awaitable)
            try:
                return await awaitable
            except asyncio.CancelledError:
                ended = awaitable.ended()
                pending.keep(ended, asyncio.get_running_loop())
                raise
        finally:
            if slots is not None:
                if ended is None:
                    slots.release()
                else:
                    ended.add_done_callback(lambda _: slots.release())


class LoopClients:
    """The asynchronous clients that a store creates, one a loop, where there can be one; elsewhere its synchronous client is used.

    A client is closed with its loop: `asyncio.run()` closes the loop's asynchronous generators last, and the client hangs on one.

    Args:
        name: The store's name, for messages.
        create: See `create_async` of `Clients`.
        close: See `Clients`.
        capacity: See `Clients`.
        shield_reads: See `Clients`.
        fallback: The store's synchronous client.
    """

    def __init__(
        self,
        name: str,
        create: Callable[[], Any],
        close: Callable[[Any], Any],
        capacity: Callable[[Any], int | None],
        shield_reads: bool,
        fallback: SyncClient,
    ) -> None:
        self._name = name
        self._create = create
        self._close = close
        self._capacity = capacity
        self._shield_reads = shield_reads
        self._fallback = fallback
        self._is_closed = False
        self._by_loop: dict[asyncio.AbstractEventLoop | None, LoopClient] = {}
        self._closers: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        self._creating: dict[asyncio.AbstractEventLoop, asyncio.Task[LoopClient]] = {}
        self._finalizers: dict[asyncio.AbstractEventLoop, weakref.finalize[Any, Any]] = {}
        fork.register_after_fork(self)

    def call(self, function: Callable[[Any], Any]) -> Awaitable[Any]:
        """Call a function of the client of this loop; to be awaited."""
        client = self._by_loop.get(runtime.asyncio_loop())
        return self._create_and_call(function) if client is None else client.call(function)

    async def open(self) -> None:
        """Create the client of this loop, or the synchronous one if there can be none."""
        if await self._find() is None:
            await self._fallback.call_in_worker(do_nothing)

    async def _create_and_call(self, function: Callable[[Any], Any]) -> Any:
        client = await self._find()
        return await (self._fallback.call_in_worker(function) if client is None else client.call(function))

    async def _find(self) -> LoopClient | None:
        """Return the client of this loop, created if need be; None if there can be none."""
        if runtime.current() != "asyncio":
            return None
        loop = asyncio.get_running_loop()
        if (found := self._by_loop.get(loop)) is not None:
            return found
        if self._is_closed:
            raise closed_error(self._name)
        self._forget_closed_loops()
        if (creating := self._creating.get(loop)) is None:
            client = self._create()
            if client is None:
                return None
            if not inspect.isawaitable(client):
                return await self._register(client, loop)
            # Created once for all calls that want it, and to its end even if they are cancelled.
            creating = self._creating[loop] = loop.create_task(self._await_created(client, loop))
            creating.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(creating)

    async def _await_created(self, creating: Awaitable[Any], loop: asyncio.AbstractEventLoop) -> LoopClient:
        try:
            client = await creating
            if self._is_closed:
                with suppress(Exception):
                    await self._close(client)
                raise closed_error(self._name)
            return await self._register(client, loop)
        finally:
            self._creating.pop(loop, None)

    async def _register(self, client: Any, loop: asyncio.AbstractEventLoop) -> LoopClient:
        # Keeps a client that is dropped with its store alive until the loop closes it, by the generator.
        self._finalizers[loop] = weakref.finalize(self, do_nothing, client)
        self._finalizers[loop].atexit = False
        closer = self._closers[loop] = self._close_with_loop(client, loop)
        await anext(closer)
        capacity = self._capacity(client)
        slots = None if capacity is None else LoopSlots(capacity)
        self._by_loop[loop] = LoopClient(self._name, client, slots, self._shield_reads)
        return self._by_loop[loop]

    async def _close_with_loop(self, client: Any, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        """Close a client when the loop closes its asynchronous generators, or when this one is closed."""
        try:
            yield
        finally:
            self._forget(loop)
            result = self._close(client)
            if inspect.isawaitable(result):
                with suppress(Exception):
                    await asyncio.shield(result)

    def _forget(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None] | None:
        if (client := self._by_loop.pop(loop, None)) is not None:
            client.is_closed = self._is_closed
        if (finalizer := self._finalizers.pop(loop, None)) is not None:
            finalizer.detach()
        return self._closers.pop(loop, None)

    def _forget_closed_loops(self) -> None:
        for loop in [*self._closers, *self._creating]:
            if loop.is_closed():
                self._creating.pop(loop, None)
                self._forget(loop)

    def start_closing(self) -> list[tuple[Future[Any], object | None]]:
        """Close the clients on their loops; see `Clients.start_closing`."""
        self._is_closed = True
        started: list[tuple[Future[Any], object | None]] = []
        blocked = runtime.blocked()
        for loop in list(self._closers):
            closer = self._forget(loop)
            if closer is not None and loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(_aclose(closer), loop)
                if loop not in blocked:  # such a one gets to it when this call has returned
                    started.append((closing, loop))
        return started

    def _after_fork(self) -> None:
        fork.keep_inherited(self._by_loop, self._closers, self._creating)
        for finalizer in self._finalizers.values():  # the parent's clients are not closed with a store of the child's
            finalizer.detach()
        self._by_loop, self._closers, self._creating, self._finalizers = {}, {}, {}, {}


class BorrowedAsyncClient:
    """An asynchronous client that the user passed in. It belongs to the loop of its first call, and is never closed.

    Args:
        name: The store's name, for messages.
        client: The client.
        limit_owner: See `Clients`.
        capacity: See `Clients`.
        shield_reads: See `Clients`.
    """

    def __init__(self, name: str, client: Any, limit_owner: Any, capacity: Callable[[Any], int | None], shield_reads: bool) -> None:
        self._name = name
        self._client = client
        self._limit_owner = client if limit_owner is None else limit_owner
        self._capacity = capacity
        self._shield_reads = shield_reads
        self._loop: object | None = None
        self._on_loop: LoopClient | None = None

    def call(self, function: Callable[[Any], Any]) -> Awaitable[Any]:
        """Call a function of the client; to be awaited.

        Raises:
            StoreSetupError: This is not the client's loop.
        """
        return self._find().call(function)

    async def open(self) -> None:
        """Check that the client can be used here."""
        self._find()

    def _find(self) -> LoopClient:
        kind, loop = runtime.current(), runtime.running_loop()
        if kind != "asyncio" or self._loop not in (None, loop):
            where = "another event loop" if kind == "asyncio" else "trio" if kind == "trio" else "synchronous code"
            raise StoreSetupError(
                f"The client that was passed to this {self._name} belongs to an asyncio event loop and can't be used from {where}. "
                "Pass a synchronous client, which works everywhere, or none, so that the store makes its own for each loop"
            )
        if self._on_loop is None:
            self._loop = loop
            capacity = self._capacity(self._client)
            slots = None if capacity is None else shared(LoopSlots, self._limit_owner, loop, count=capacity)
            self._on_loop = LoopClient(self._name, self._client, slots, self._shield_reads)
        return self._on_loop

    def start_closing(self) -> list[tuple[Future[Any], object | None]]:
        """Refuse the calls that wait for their turn; see `Clients.start_closing`."""
        if self._on_loop is not None:
            self._on_loop.is_closed = True
        return []


async def _aclose(generator: AsyncGenerator[None, None]) -> None:
    await generator.aclose()
