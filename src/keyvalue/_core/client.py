"""How stores reach their clients: one function of a client, used by either colour.

A store's client comes in up to two colours: a synchronous one, and an asynchronous one for asyncio. Which is used depends on where the
call comes from:

| runtime | a client of both colours               | a synchronous client only |
|---------|----------------------------------------|---------------------------|
| asyncio | the asynchronous one, awaited          | in a worker thread        |
| trio    | the synchronous one in a worker thread | in a worker thread        |
| inline  | the synchronous one, called            | called                    |

Clients are made on first use: one synchronous client, and one asynchronous client a loop. The latter is closed with its loop:
`asyncio.run()` closes the loop's asynchronous generators last, and the client hangs on one.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

from keyvalue._core import runtime
from keyvalue.errors import KeyValueError, StoreClosedError, StoreSetupError

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """The clients of one store.

    Args:
        name: The store's name, for threads and messages.
        make: Makes the synchronous client; may block. None if there is no such colour.
        make_async: Makes the asynchronous client, on its loop, without I/O. None if there is no such colour.
        close: Closes a client of either colour that was made here; may return an awaitable.
        given: A synchronous client that the user passed in. It is never closed.
        given_async: An asynchronous client that the user passed in. It is never closed.
        exclusive: One call of the synchronous client at a time, whatever the thread.
        threads: At most so many calls of the synchronous client at a time in worker threads.
    """

    def __init__(
        self,
        name: str,
        *,
        make: Callable[[], Any] | None = None,
        make_async: Callable[[], Any] | None = None,
        close: Callable[[Any], Any] = lambda client: client.close(),
        given: Any = None,
        given_async: Any = None,
        exclusive: bool = False,
        threads: int = 40,
    ) -> None:
        self._name = name
        self._make = make
        self._make_async = make_async
        self._close = close
        self._given = given is not None
        self._sync = given
        self._given_async = given_async
        self._given_loop: object | None = None
        self._lock = threading.Lock()
        self._turn = threading.Lock() if exclusive else None
        self._threads = runtime.Threads(1 if exclusive else threads, name)
        self._in_threads: set[Future[Any]] = set()
        self._by_loop: dict[asyncio.AbstractEventLoop, tuple[Any, AsyncGenerator[None, None]]] = {}
        self._closed = False
        runtime.renewed_by_fork(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._turn = self._turn and threading.Lock()
        self._in_threads = set()
        self._by_loop = {}

    @property
    def runs_inline(self) -> bool:
        """Whether there is a client that can be called from a plain thread."""
        return self._given_async is None

    async def use(
        self,
        function: Callable[[Any], T | Awaitable[T]],
        abandon: Callable[[Future[Any], object | None], None] | None,
        mapped: Callable[[Exception], Exception | None],
    ) -> T:
        """Call a function of the client.

        Args:
            function: Makes one client call (or one pipeline) and returns what the client returns.
            abandon: For a write: called, if the caller is cancelled while the call is under way, with a future that is done when the
                call has ended, and the loop that it needs to do so, if any. None for a read, which is just cancelled.
            mapped: Returns the error to raise for one of the client's, or None to let it pass.

        Returns:
            The result, awaited if need be.
        """
        try:
            if runtime.is_inline() and self._given_async is None:
                return self._call(function)
            client = await self._asynchronous()
            if client is None:
                return await self._in_thread(lambda: self._call(function), abandon)
            awaitable: Any = function(client)
            if abandon is None:
                return await awaitable
            owner = runtime.running_loop()
            return await runtime.run_to_end(awaitable, lambda future: abandon(future, owner))
        except KeyValueError:
            raise
        except Exception as error:
            raised = mapped(error)
            if raised is None:
                raise
            raise raised from error

    async def open(self) -> None:
        """Make the client that this runtime uses, so that what can go wrong goes wrong now."""
        if await self._asynchronous() is not None:
            return
        if runtime.is_inline():
            self._synchronous()
        else:
            await self._in_thread(self._synchronous, None)

    async def _asynchronous(self) -> Any | None:
        """Return the asynchronous client to use here, or None if the synchronous one is to be used."""
        kind = runtime.current()
        if self._given_async is not None:
            return self._given_on_loop(kind)
        if kind == "asyncio" and self._make_async is not None and not self._given:
            return await self._of_loop()
        return None

    def _call(self, function: Callable[[Any], Any]) -> Any:
        if self._turn is not None:
            with self._turn:
                return function(self._synchronous())
        client = self._sync
        return function(self._synchronous() if client is None or self._closed else client)

    def _synchronous(self) -> Any:
        with self._lock:
            if self._closed:
                raise StoreClosedError(f"This {self._name} is closed; make a new one")
            if self._sync is None:
                assert self._make is not None
                try:
                    self._sync = self._make()
                except KeyValueError:
                    raise
                except Exception as error:
                    raise StoreSetupError(f"This {self._name} could not be opened: {error}") from error
            return self._sync

    async def _in_thread(self, function: Callable[[], T], abandon: Callable[[Future[Any], object | None], None] | None) -> T:
        future = self._threads.submit(function)
        self._in_threads.add(future)
        future.add_done_callback(self._in_threads.discard)
        try:
            return await runtime.wait(future)
        except BaseException:
            if not future.done() and not future.cancel() and abandon is not None:
                abandon(future, None)
            raise

    def _given_on_loop(self, kind: runtime.Runtime) -> Any:
        loop = runtime.running_loop()
        if kind == "asyncio" and self._given_loop in (None, loop):
            self._given_loop = loop
            return self._given_async
        where = "another event loop" if kind == "asyncio" else "trio" if kind == "trio" else "synchronous code"
        raise StoreSetupError(
            f"The client that was passed to this {self._name} belongs to an asyncio event loop and can't be used from {where}. "
            "Pass a synchronous client, which works everywhere, or none, so that the store makes its own for each loop"
        )

    async def _of_loop(self) -> Any:
        loop = asyncio.get_running_loop()
        held = self._by_loop.get(loop)
        if held is None:
            if self._closed:
                raise StoreClosedError(f"This {self._name} is closed; make a new one")
            for other in list(self._by_loop):
                if other.is_closed():
                    self._by_loop.pop(other, None)
            assert self._make_async is not None
            client = self._make_async()
            keeper = self._keep(client, loop)
            await anext(keeper)
            held = self._by_loop[loop] = client, keeper
        return held[0]

    async def _keep(self, client: Any, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        """Close a client when the loop closes its asynchronous generators, or when this one is closed."""
        try:
            yield
        finally:
            self._by_loop.pop(loop, None)
            result = self._close(client)
            if inspect.isawaitable(result):
                with suppress(Exception):
                    await asyncio.shield(result)

    async def close(self) -> None:
        """Wait for the calls in worker threads, then close the clients that were made here, even if the wait is cancelled."""
        self._closed = True
        try:
            for future in list(self._in_threads):
                with suppress(Exception):
                    await runtime.wait(future)
        finally:
            for closing, loop in self._start_closing():
                with suppress(CancelledError, runtime.LoopOverError):  # the loop that it was sent to has ended meanwhile
                    await runtime.wait(closing, loop)

    def _close_synchronous(self, client: Any) -> None:
        with self._turn or nullcontext():
            self._close(client)

    def _start_closing(self) -> list[tuple[Future[Any], object | None]]:
        """Set about closing all clients.

        Returns:
            What can't be done at once, as futures that complete whether awaited or not, each with the loop that it needs, if any.
        """
        started: list[tuple[Future[Any], object | None]] = []
        blocked = runtime.blocked()
        for loop, (_, keeper) in list(self._by_loop.items()):
            if not loop.is_running():
                self._by_loop.pop(loop, None)
                continue
            closing = asyncio.run_coroutine_threadsafe(_aclose(keeper), loop)
            if loop not in blocked:  # such a one gets to it when this call has returned
                started.append((closing, loop))
        with self._lock:
            client, self._sync = (None, self._sync) if self._given else (self._sync, None)
        if client is not None and runtime.current() == "inline":
            self._close_synchronous(client)
        elif client is not None:
            started.append((self._threads.submit(lambda: self._close_synchronous(client)), None))
        self._threads.stop()
        return started


async def _aclose(generator: AsyncGenerator[None, None]) -> None:
    await generator.aclose()
