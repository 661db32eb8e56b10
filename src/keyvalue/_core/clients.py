"""How stores reach their clients: one function of a client, given to whichever client the runtime can use.

A store has a synchronous client, and may have an asynchronous one for asyncio. Where the call comes from decides which is used:

| runtime     | a store with both clients              | a store with a synchronous client |
|-------------|----------------------------------------|-----------------------------------|
| asyncio     | the asynchronous one, awaited          | in a worker thread                |
| trio        | the synchronous one in a worker thread | in a worker thread                |
| synchronous | the synchronous one, called            | called                            |

The user may pass in a client of either kind. An asynchronous one works on its own loop only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any

from keyvalue._core import runtime, wording
from keyvalue._core.loop_clients import BorrowedAsyncClient, LoopClients
from keyvalue._core.sockets import Peer
from keyvalue._core.sync_client import AtFork, SyncClient, do_nothing

__all__ = ["Clients"]


class Clients:
    """The clients of one store.

    Args:
        name: The store's name, for threads and messages.
        create: Creates the synchronous client; may block.
        create_async: Creates the asynchronous client, on its loop, without I/O; may return an awaitable, or None if there can be none on
            this loop, so that the synchronous one is used. None if the backend has no such client.
        close: Closes a client of either kind that was created here; may return an awaitable. It must not refer to the store.
        sync_client: A synchronous client that the user passed in. It is never closed.
        async_client: An asynchronous client that the user passed in. It is never closed.
        limit_owner: The object that has the capacity or the turn of a client that was passed in. All stores over it share them. Default:
            the client.
        serialize_calls: One call of the synchronous client at a time, whatever the thread.
        capacity: Returns how many calls a client can make at a time, one that was passed in too; None if that has no limit. Further calls
            wait here, since a client with no connection left may refuse them, or count their wait against the server's timeout.
        interruptible: Whether the synchronous client bears being interrupted, as by Ctrl-C. If not, calls of the main thread, which alone
            is interrupted, are made in a worker thread. That costs some 90 microseconds a call.
        repair: Called with the synchronous client, one that was passed in too, after a call in the caller's own thread was interrupted. It
            must be usable then. None: with `serialize_calls`, a client that was created here is closed and created anew, and others are
            usable.
        shield_reads: Whether the asynchronous client is not to be cancelled in a read either: it then goes on to its end, unheeded.
        is_current: With `serialize_calls`: returns, before each call, whether a synchronous client that was created here can still be
            used. If not, it is closed and a new one created.
        at_fork: What happens to a synchronous client that was created here when the process forks. "recreate": the child creates its own.
            "share": the child uses it too; the client copes. "close": it is closed before the fork, once the call under way has ended, and
            must open itself again at its next use, in either process. "refuse": calls in the child raise `StoreSetupError`.
        explain: Called with the synchronous client and an error of a call: returns what the store is to say of it, or None. It is called
            where the call was made, so it may block.
        peer: Where the server is, if a look at it may explain why a call could not reach it.

    Attributes:
        sync: The synchronous client; None if the user passed in an asynchronous one.
        on_loop: What a coroutine calls: `await on_loop.call(function)`.
        peer: See the argument; None once the server has answered.
    """

    def __init__(
        self,
        name: str,
        *,
        create: Callable[[], Any] | None = None,
        create_async: Callable[[], Any] | None = None,
        close: Callable[[Any], Any] = lambda client: client.close(),
        sync_client: Any = None,
        async_client: Any = None,
        limit_owner: Any = None,
        serialize_calls: bool = False,
        capacity: Callable[[Any], int | None] = lambda client: None,
        interruptible: bool = True,
        repair: Callable[[Any], object] | None = None,
        shield_reads: bool = False,
        is_current: Callable[[Any], bool] | None = None,
        at_fork: AtFork = "recreate",
        explain: Callable[[Any, Exception], str | None] | None = None,
        peer: Peer | None = None,
    ) -> None:
        self.peer: Peer | None = peer
        self.sync: SyncClient | None = None
        self.on_loop: _InWorker | LoopClients | BorrowedAsyncClient
        if async_client is not None:
            self.on_loop = BorrowedAsyncClient(name, async_client, limit_owner, capacity, shield_reads)
            return
        self.sync = SyncClient(
            name,
            create,
            close,
            sync_client,
            limit_owner=limit_owner,
            serialize_calls=serialize_calls,
            capacity=capacity,
            interruptible=interruptible,
            repair=repair,
            is_current=is_current,
            at_fork=at_fork,
            explain=explain,
        )
        if sync_client is None and create_async is not None:
            self.on_loop = LoopClients(name, create_async, close, capacity, shield_reads, self.sync)
        else:
            self.on_loop = _InWorker(self.sync)

    @classmethod
    def borrow(
        cls,
        name: str,
        client: Any,
        *,
        sync_types: tuple[type, ...],
        async_types: tuple[type, ...] = (),
        wanted: str,
        wrap: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> Clients:
        """Return the clients of a store that the user has passed a client to, which may be of either kind.

        Args:
            name: See the class.
            client: The client.
            sync_types: The classes of synchronous clients.
            async_types: The classes of asynchronous clients. They are asked for first: some derive from the synchronous ones.
            wanted: What the client should be, for the message.
            wrap: Returns what the store is to use in place of the client. Default: the client itself.
            options: More arguments of the class.

        Raises:
            TypeError: The client is of no such class.
        """
        is_async = isinstance(client, async_types)
        if not is_async and not isinstance(client, sync_types):
            raise TypeError(f"The client must be {wanted}, not {wording.describe(client)}")
        used = client if wrap is None else wrap(client)
        return cls(name, **{"async_client" if is_async else "sync_client": used}, limit_owner=client, **options)

    @property
    def is_borrowed(self) -> bool:
        """Whether the user passed in the client, which may have sent a failed request more than once by itself."""
        return self.sync is None or self.sync.is_borrowed

    def may_detach(self) -> bool:
        """Return whether a call may go on without its caller: not in the caller's own thread."""
        return not runtime.is_inline() or self.sync is None or self.sync.leaves_thread()

    async def open(self) -> None:
        """Create the client that this runtime uses, so that what can go wrong goes wrong now."""
        if self.sync is not None and runtime.is_inline():
            self.sync.call(do_nothing)
        else:
            await self.on_loop.open()

    async def close(self) -> None:
        """Wait for the calls in worker threads, then close the clients that were created here.

        If the wait is cancelled, they are closed nevertheless, in their own time.
        """
        started = self.start_closing()
        if self.sync is not None:
            await self.sync.finish_calls()
        for closing, loop in started:
            with suppress(CancelledError, runtime.LoopOverError):  # the loop that it was sent to has ended meanwhile
                await runtime.wait(closing, loop)

    def start_closing(self) -> list[tuple[Future[Any], object | None]]:
        """Set about closing all clients, each after the calls that it is making.

        Returns:
            What can't be done at once, as futures that complete whether awaited or not, each with the loop that it needs, if any.
        """
        started = self.on_loop.start_closing()
        return started if self.sync is None else [*started, *self.sync.start_closing()]


class _InWorker:
    """For coroutines without an asynchronous client: calls the synchronous client in a worker thread."""

    def __init__(self, client: SyncClient) -> None:
        self.call: Callable[[Callable[[Any], Any]], Awaitable[Any]] = client.call_in_worker

    async def open(self) -> None:
        """Create the client."""
        await self.call(do_nothing)

    def start_closing(self) -> list[tuple[Future[Any], object | None]]:
        """Do nothing: no client belongs to a loop."""
        return []
