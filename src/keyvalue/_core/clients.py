"""How stores reach their clients: a function of a client is called with whichever client fits the runtime.

A store has a synchronous client, and may have an asynchronous one for asyncio. The runtime of the caller decides between them:

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
from typing import Any, Protocol

from keyvalue._core import runtime, wording
from keyvalue._core.loop_clients import BorrowedAsyncClient, LoopClients
from keyvalue._core.sync_client import AtFork, SyncClient, do_nothing
from keyvalue.errors import StoreConnectionError

__all__ = ["Clients"]


class SupportsDiagnose(Protocol):
    """What can look at the server of a store's clients."""

    async def diagnose(self, error: StoreConnectionError, cause: Exception) -> StoreConnectionError:
        """Return an error that says why the server could not be reached, if that can be seen, or the one that is given.

        Args:
            error: What is to be raised.
            cause: The client's error.
        """
        ...


class Clients:
    """The clients of one store.

    Args:
        name: The store's name, for threads and messages.
        create: Creates the synchronous client; may block.
        create_async: Creates the asynchronous client, on its loop, without I/O; may return an awaitable, or None if the client does not
            support this loop, which then uses the synchronous client. None if the backend has no asynchronous client.
        close: Closes a client of either kind that `create` or `create_async` created; may return an awaitable. It must not refer to the
            store.
        sync_client: A synchronous client that the user passed in. It is never closed.
        async_client: An asynchronous client that the user passed in. It is never closed.
        limit_owner: The object that the capacity or the turn of a client that was passed in belongs to. All stores over it share them.
            Default: the client.
        serialize_calls: Whether to make one call of the synchronous client at a time, from any thread.
        capacity: Returns how many calls a client can make at a time (one that was passed in, too), or None for no limit. Further calls
            wait here, because a client without a free connection may refuse them, or count the wait against the server's timeout.
        interruptible: Whether the synchronous client survives an interrupt such as Ctrl-C. If not, calls of the main thread, the only one
            that is interrupted, run in a worker thread. That costs some 90 microseconds a call.
        repair: Makes the synchronous client (one that was passed in, too) usable again after a call in the caller's own thread was
            interrupted. Default None: with `serialize_calls`, a client that the store created is replaced; any other counts as usable.
        shield_reads: Whether a read of the asynchronous client, too, goes on to its end if its caller is cancelled.
        is_current: With `serialize_calls`: returns, before each call, whether the synchronous client that the store created is still
            usable. If not, it is closed and replaced.
        at_fork: What happens to the synchronous client that the store created when the process forks. "recreate": the child creates its
            own. "share": the child uses it too, and the client copes with that. "close": it is closed before the fork, once its current
            call has ended, and must reopen itself at its next use, in either process. "refuse": calls in the child raise
            `StoreSetupError`.
        explain: Takes the synchronous client and the error of a call, and returns the advice for the message, or None. It runs in the
            thread of the call, so it may block.
        peer: The address of the server, to be probed if a call can't reach it.

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
        peer: SupportsDiagnose | None = None,
    ) -> None:
        self.peer: SupportsDiagnose | None = peer
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
        """Return the clients of a store over a client that the user passed in, sync or async.

        Args:
            name: See the class.
            client: The client.
            sync_types: The classes of synchronous clients.
            async_types: The classes of asynchronous clients. They are checked first: some derive from synchronous classes.
            wanted: What the client should be, for the message.
            wrap: Returns the object to use in place of the client. Default: the client itself.
            options: More arguments of the class.

        Raises:
            TypeError: The client has none of these classes.
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
        """Return whether a call may go on without its caller, which a call in the caller's own thread can't."""
        return not runtime.is_inline() or self.sync is None or self.sync.leaves_thread()

    async def open(self) -> None:
        """Create the client for this runtime now, so that errors show now."""
        if self.sync is not None and runtime.is_inline():
            self.sync.call(do_nothing)
        else:
            await self.on_loop.open()

    async def close(self) -> None:
        """Wait for the calls in worker threads, then close the clients that were created here.

        If the wait is cancelled, they are closed all the same, when their calls have ended.
        """
        started = self.start_closing()
        if self.sync is not None:
            await self.sync.finish_calls()
        for closing, loop in started:
            with suppress(CancelledError, runtime.LoopOverError):  # the loop that it was sent to has ended meanwhile
                await runtime.wait(closing, loop)

    def start_closing(self) -> list[tuple[Future[Any], object | None]]:
        """Start closing all clients, each after the calls in progress.

        Returns:
            Futures of what can't be done at once, each with the loop that it needs, if any. They complete whether awaited or not.
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
