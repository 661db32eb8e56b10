"""How stores reach their clients: one function of a client, used by either colour.

A store's client comes in up to two colours: a synchronous one, and an asynchronous one for asyncio. Which is used depends on where the
call comes from:

| runtime | a client of both colours               | a synchronous client only |
|---------|----------------------------------------|---------------------------|
| asyncio | the asynchronous one, awaited          | in a worker thread        |
| trio    | the synchronous one in a worker thread | in a worker thread        |
| inline  | the synchronous one, called            | called                    |

Clients are made on first use: one synchronous client, and one asynchronous client a loop. The latter is closed with its loop:
`asyncio.run()` closes the loop's asynchronous generators last, and the client hangs on one. What a store that is dropped leaves is closed
too, since clients warn of being dropped open, or leave their sockets to warn.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

from keyvalue._core import files, fork, pending, runtime
from keyvalue._core.slots import LoopSlots, ThreadSlots, Turn, shared
from keyvalue._core.sockets import VAGUE, Peer
from keyvalue.errors import KeyValueError, KeyValueOperationError, StoreClosedError, StoreConnectionError, StoreSetupError

__all__ = ["Client", "explanation"]

T = TypeVar("T")
_THREADS = 40  # at most
_MANY = 1000  # threads that make calls at a time; some clients set no limit of their own
_PATIENCE = 5.0  # seconds for which unfinished calls may delay the end of the process
_FOREVER = 1e9  # seconds
_EXPLAINED = 1.0  # seconds for which an explanation of a failure serves others

AtFork = Literal["recreate", "share", "close", "refuse"]


class _Held(NamedTuple):
    """An asynchronous client and the slots for its calls, if these are limited."""

    client: Any
    slots: LoopSlots | None


_EXPLANATION = "keyvalue_explanation"

_open: weakref.WeakSet[Client] = weakref.WeakSet()


def explanation(error: Exception) -> str | None:
    """Return what to say of an error of a client, if its `explain` knew."""
    return vars(error).get(_EXPLANATION)


class Client:
    """The clients of one store.

    Args:
        name: The store's name, for threads and messages.
        make: Makes the synchronous client; may block. None if there is no such colour.
        make_async: Makes the asynchronous client, on its loop, without I/O; may return an awaitable, or None if there can be none on this
            loop, so that the synchronous one is used. None if there is no such colour.
        close: Closes a client of either colour that was made here; may return an awaitable. It must not refer to the store.
        given: A synchronous client that the user passed in. It is never closed.
        given_async: An asynchronous client that the user passed in. It is never closed.
        limit_owner: The object that has the capacity or the turn of a given client. All stores over it share them. Default: the client.
        exclusive: One call of the synchronous client at a time, whatever the thread.
        capacity: Returns how many calls a client can make at a time, a given one too; None if that has no limit. Further calls wait here,
            since a client with no connection left may refuse them, or count their wait against the server's timeout.
        interruptible: Whether the synchronous client bears being interrupted, as by Ctrl-C. If not, calls of the main thread, which alone
            is interrupted, are made in a worker thread. That costs some 90 microseconds a call.
        repair: Called with the synchronous client, a given one too, after a call in the caller's own thread was interrupted. It must be
            usable then. None: an exclusive client that was made here is closed and made anew, and others are usable.
        shielded: Whether the asynchronous client is not to be cancelled in a read either: it then goes on to its end, unheeded.
        is_current: For an exclusive client: returns, before each call, whether a synchronous client that was made here can still be used.
            If not, it is closed and a new one made.
        at_fork: What happens to a synchronous client that was made here when the process forks. "recreate": the child makes its own.
            "share": the child uses it too; the client copes. "close": it is closed before the fork, once the call under way has ended, and
            must open itself again at its next use, in either process. "refuse": calls in the child raise `StoreSetupError`.
        explain: Called with the synchronous client and an error of a call: returns what the store is to say of it, or None. It is called
            where the call was made, so it may block.
        peer: Where the server is, if a look at it may explain why a call could not reach it.
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
        limit_owner: Any = None,
        exclusive: bool = False,
        capacity: Callable[[Any], int | None] = lambda client: None,
        interruptible: bool = True,
        repair: Callable[[Any], object] | None = None,
        shielded: bool = False,
        is_current: Callable[[Any], bool] | None = None,
        at_fork: AtFork = "recreate",
        explain: Callable[[Any, Exception], str | None] | None = None,
        peer: Peer | None = None,
    ) -> None:
        self._name = name
        self._peer = peer
        self._explanation: tuple[float, str | None] = 0.0, None  # until when it serves
        self._make = make
        self._make_async = make_async
        self._close = close
        self._given = given is not None
        self._limit_owner = limit_owner
        self._sync = given
        self._given_async = given_async
        self._given_held: _Held | None = None
        self._given_loop: object | None = None
        self._lock = threading.RLock()  # a signal's handler may make a call in the middle of another one
        self._turn = self._new_turn() if exclusive else None
        self._interruptible = interruptible
        self._repair = repair
        self._shielded = shielded
        self._is_current = is_current
        self._at_fork: AtFork = at_fork
        self._explain = explain
        self._is_of_parent = False
        self._capacity = capacity
        self._slots = self._slots_of(given)
        self._threads = runtime.Threads(1 if exclusive else _THREADS, name)
        self._in_threads: set[Future[Any]] = set()
        self._by_loop: dict[asyncio.AbstractEventLoop, tuple[_Held, AsyncGenerator[None, None]]] = {}
        self._making: dict[asyncio.AbstractEventLoop, asyncio.Task[Any]] = {}
        self._keepers: dict[int, weakref.finalize[Any, Any]] = {}
        self._closed = False
        _open.add(self)
        fork.register_after_fork(self)
        if at_fork == "close":
            fork.register_around_fork(self)

    def _before_fork(self) -> None:
        assert self._turn is not None
        self._turn.lock.acquire()
        if self._sync is not None:
            with suppress(Exception):  # a fork can't fail; if the client is broken, its next use reports it
                self._close(self._sync)

    def _after_fork_in_parent(self) -> None:
        assert self._turn is not None
        self._turn.lock.release()

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._turn = self._turn and self._new_turn()
        self._in_threads = set()
        fork.keep_inherited(self._by_loop, self._making)
        self._by_loop = {}
        self._making = {}
        if self._at_fork != "close":  # what is the parent's is not closed with a store of the child's
            for keeper in self._keepers.values():
                keeper.detach()
            self._keepers = {}
        if self._at_fork in ("recreate", "refuse") and not self._given and self._sync is not None:
            fork.keep_inherited(self._sync, self._make)
            self._is_of_parent = self._at_fork == "refuse"
            self._sync = None
        self._slots = self._slots_of(self._sync)

    @property
    def runs_inline(self) -> bool:
        """Whether there is a client that can be called from a plain thread."""
        return self._given_async is None

    def leaves_thread(self) -> bool:
        """Return whether a call of synchronous code is made in another thread, so that it goes on if it is interrupted."""
        return not self._interruptible and threading.current_thread() is threading.main_thread()

    async def use(
        self,
        function: Callable[[Any], T | Awaitable[T]],
        translate: Callable[[Exception], Exception | None],
        may_repeat: Callable[[BaseException | None, bool], bool],
        *,
        repeatable: bool,
    ) -> T:
        """Call a function of the client; call it once more if a connection turns out to be dead.

        Args:
            function: Makes one client call (or one pipeline) and returns what the client returns.
            translate: Returns the error to raise for one of the client's, or None to let it pass.
            may_repeat: Returns, for a client's error that was translated to `StoreConnectionError` and `repeatable`, whether another try
                may help and do no harm.
            repeatable: Whether the backend may get the request twice. If not, it is sent again only if it surely was not sent, and not by
                a borrowed client, which may have sent it before by itself.

        Returns:
            The result, awaited if need be.
        """
        is_repeated = False
        while True:
            try:
                if runtime.is_inline() and self._given_async is None:
                    result = await self._in_thread(function) if self.leaves_thread() else self._call(function)
                else:
                    loop = runtime.asyncio_loop()
                    kept = None if loop is None else self._by_loop.get(loop)
                    held = await self._asynchronous() if kept is None else kept[0]
                    result = await (self._in_thread(function) if held is None else self._on_loop(function, held))
            except Exception as error:
                raised = error if isinstance(error, KeyValueError) else translate(error)
                cause = error.__cause__ if raised is error else error
                is_safe = repeatable or not (self._given or self._given_async is not None)
                if is_repeated or not (isinstance(raised, StoreConnectionError) and is_safe and may_repeat(cause, repeatable)):
                    if isinstance(raised, StoreConnectionError) and isinstance(cause, Exception):
                        raised = await self.explained(raised, cause)
                    if raised is None or raised is error:
                        raise
                    raise raised from cause
                is_repeated = True
            else:
                self._peer = None  # the server has answered: what goes wrong later is not that something else is in its place
                return result

    async def explained(self, error: StoreConnectionError, cause: Exception) -> StoreConnectionError:
        """Return an error that says what is wrong, if a look at the server shows it, or the one that is given."""
        peer = self._peer  # which other threads set to None
        if peer is None:
            return error
        is_clear = ": TLS: " in error.message and not any(vague in error.message for vague in VAGUE)
        if is_clear or not peer.can_explain(cause):
            return error
        until, advice = self._explanation
        if time.monotonic() >= until:
            self._explanation = time.monotonic() + _EXPLAINED, None  # those that fail meanwhile don't look too
            advice = await runtime.run_in_worker(partial(peer.explain, cause))
            self._explanation = time.monotonic() + _EXPLAINED, advice
        if advice is None:
            return error
        return StoreConnectionError(f"{error.message.partition(':')[0]}: {advice} [{type(cause).__name__}]", error.extra_info)

    async def open(self) -> None:
        """Make the client that this runtime uses, so that what can go wrong goes wrong now."""
        if await self._asynchronous() is not None:
            return
        if runtime.is_inline() and not self.leaves_thread():
            self._call(_nothing)
        else:
            await self._in_thread(_nothing)

    async def _on_loop(self, function: Callable[[Any], Any], held: _Held) -> Any:
        client, slots = held
        is_cut_off = not self._shielded and not pending.is_writing()  # if the caller is cancelled
        if slots is None:
            awaitable = function(client)
            return await (awaitable if is_cut_off else pending.run_to_end(awaitable, pending.keep))
        await slots.acquire()
        is_going_on = False

        def go_on(ended: Future[Any], loop: object | None) -> None:
            nonlocal is_going_on
            is_going_on = True
            ended.add_done_callback(lambda _: slots.release())
            pending.keep(ended, loop)

        try:
            if self._closed:  # meanwhile
                raise self._closed_error()
            awaitable = function(client)
            if is_cut_off and not isinstance(awaitable, pending.Detached):
                return await awaitable
            return await pending.run_to_end(awaitable, go_on)
        finally:
            if not is_going_on:
                slots.release()

    async def _asynchronous(self) -> _Held | None:
        """Return the asynchronous client to use here, or None if the synchronous one is to be used."""
        kind = runtime.current()
        if self._given_async is not None:
            return self._given_on_loop(kind)
        if kind == "asyncio" and self._make_async is not None and not self._given:
            return await self._of_loop()
        return None

    def _call(self, function: Callable[[Any], Any]) -> Any:
        if self._turn is not None:
            with self._turn.lock:
                return self._call_in_turn(function, self._turn)
        try:
            client, slots = self._sync, self._slots
            if client is None or self._closed:
                client, slots = self._synchronous(), self._slots
            if slots is None:
                return function(client)
            return slots.run(lambda: function(self._synchronous() if self._closed else client))
        except BaseException as error:
            self._examine(error)
            raise

    def _call_in_turn(self, function: Callable[[Any], Any], turn: Turn) -> Any:
        if turn.is_taken:
            raise KeyValueOperationError(
                f"This {self._name} was called by the handler of a signal in the middle of another call of the same thread; let the "
                "handler note what is to be done, and do it when that call has returned"
            )
        try:
            turn.is_taken = True
            client = self._synchronous()
            if self._is_current is not None and not self._is_current(client):
                self._discard()
                client = self._synchronous()
            return function(client)
        except BaseException as error:
            self._examine(error)
            raise
        finally:
            turn.is_taken = False

    def _examine(self, error: BaseException) -> None:
        """Do what an error of a call asks for, in the thread of the call."""
        if not isinstance(error, Exception):
            self._recover()
        elif self._explain is not None and self._sync is not None and not isinstance(error, KeyValueError):
            with suppress(Exception):  # the error itself counts
                vars(error)[_EXPLANATION] = self._explain(self._sync, error)

    def _recover(self) -> None:
        """Have a client that was interrupted in the middle of something not go on from there."""
        client = self._sync
        with suppress(Exception):  # its next use reports it
            if client is not None and self._repair is not None:
                self._repair(client)
            elif self._turn is not None:
                self._discard()

    def _discard(self) -> None:
        """Close the synchronous client if it was made here; the next call makes a new one."""
        client = self._sync
        if client is not None and not self._given:
            self._sync = None
            self._release(client)
            self._close(client)

    def _new_turn(self) -> Turn:
        return shared(Turn, self._owner_of(self._sync)) if self._given else Turn()

    def _owner_of(self, client: Any) -> Any:
        return client if self._limit_owner is None else self._limit_owner

    def _slots_of(self, client: Any) -> ThreadSlots | None:
        capacity = None if client is None else self._capacity(client)
        if capacity is None:
            return None
        count = min(capacity, _MANY)
        return shared(ThreadSlots, self._owner_of(client), count=count) if self._given else ThreadSlots(count)

    def _closed_error(self) -> StoreClosedError:
        return StoreClosedError(f"This {self._name} is closed; make a new one")

    def _synchronous(self) -> Any:
        with self._lock:
            if self._closed:
                raise self._closed_error()
            if self._is_of_parent:
                raise StoreSetupError(
                    f"This {self._name} was opened before the process forked, and can't be used in the child; "
                    "open it in one process only, or fork before it is first used"
                )
            if self._sync is None:
                assert self._make is not None
                try:
                    made = self._make()
                except KeyValueError:
                    raise
                except Exception as error:
                    raise files.opening_error(f"This {self._name} could not be opened", error) from error
                if self._sync is not None:  # a signal's handler has made one meanwhile
                    self._close(made)
                    return self._sync
                self._slots = self._slots_of(made)
                self._sync = made
                self._keep_until_dropped(made, self._close)
            return self._sync

    async def _in_thread(self, function: Callable[[Any], Any]) -> Any:
        future: Future[Any] = Future()
        self._in_threads.add(future)
        future.add_done_callback(self._in_threads.discard)
        call = partial(self._call, function)
        try:
            if runtime.is_inline():
                return self._threads.call(call, future)
            self._threads.submit(call, future)
            return await runtime.wait(future)
        except BaseException:
            if not future.done() and not future.cancel():
                pending.keep(future, None)
            raise

    def _with_slots(self, client: Any) -> _Held:
        capacity = self._capacity(client)
        if capacity is None:
            return _Held(client, None)
        owner = self._owner_of(client)
        return _Held(client, shared(LoopSlots, owner, self._given_loop, count=capacity) if self._given_loop else LoopSlots(capacity))

    def _given_on_loop(self, kind: runtime.Runtime) -> _Held:
        loop = runtime.running_loop()
        if kind == "asyncio" and self._given_loop in (None, loop):
            if self._given_held is None:
                self._given_loop = loop
                self._given_held = self._with_slots(self._given_async)
            return self._given_held
        where = "another event loop" if kind == "asyncio" else "trio" if kind == "trio" else "synchronous code"
        raise StoreSetupError(
            f"The client that was passed to this {self._name} belongs to an asyncio event loop and can't be used from {where}. "
            "Pass a synchronous client, which works everywhere, or none, so that the store makes its own for each loop"
        )

    async def _of_loop(self) -> _Held | None:
        loop = asyncio.get_running_loop()
        held = self._by_loop.get(loop)
        if held is None:
            if self._closed:
                raise self._closed_error()
            for other in [*self._by_loop, *self._making]:
                if other.is_closed():
                    self._making.pop(other, None)
                    if ended := self._by_loop.pop(other, None):
                        self._release(ended[0].client)
            assert self._make_async is not None
            client = self._making.get(loop) or self._make_async()
            if client is None:
                return None
            if not inspect.isawaitable(client):
                return await self._held(client, loop)
            # Made once for all calls that want it, and to its end even if they are cancelled.
            making = self._making.get(loop)
            if making is None:
                making = self._making[loop] = loop.create_task(self._made(client, loop))
                making.add_done_callback(lambda done: done.cancelled() or done.exception())
            return await asyncio.shield(making)
        return held[0]

    async def _made(self, making: Awaitable[Any], loop: asyncio.AbstractEventLoop) -> _Held:
        try:
            client = await making
            if self._closed:
                with suppress(Exception):
                    await self._close(client)
                raise self._closed_error()
            return await self._held(client, loop)
        finally:
            self._making.pop(loop, None)

    async def _held(self, client: Any, loop: asyncio.AbstractEventLoop) -> _Held:
        self._keep_until_dropped(client, _keep_alive)
        keeper = self._keep(client, loop)
        await anext(keeper)
        held = self._with_slots(client)
        self._by_loop[loop] = held, keeper
        return held

    async def _keep(self, client: Any, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        """Close a client when the loop closes its asynchronous generators, or when this one is closed."""
        try:
            yield
        finally:
            self._by_loop.pop(loop, None)
            self._release(client)
            result = self._close(client)
            if inspect.isawaitable(result):
                with suppress(Exception):
                    await asyncio.shield(result)

    async def close(self) -> None:
        """Wait for the calls in worker threads, then close the clients that were made here.

        If the wait is cancelled, they are closed nevertheless, in their own time.
        """
        started = self.start_closing()
        for future in list(self._in_threads):
            with suppress(Exception):
                await runtime.wait(future)
        for closing, loop in started:
            with suppress(CancelledError, runtime.LoopOverError):  # the loop that it was sent to has ended meanwhile
                await runtime.wait(closing, loop)

    def _close_synchronous(self, client: Any, seconds: float = _FOREVER) -> None:
        """Close a client after the calls that it is making, unless they take longer than some seconds."""
        deadline = time.monotonic() + seconds
        if wait_for(list(self._in_threads), seconds).not_done:
            return
        if self._turn is not None and not self._turn.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return
        try:
            self._release(client)
            self._close(client)
        finally:
            if self._turn is not None:
                self._turn.lock.release()

    def _keep_until_dropped(self, client: Any, close: Callable[[Any], object]) -> None:
        keeper = self._keepers[id(client)] = weakref.finalize(self, close, client)
        keeper.atexit = False  # which would be before exit handlers of the program; see `_close_at_exit`

    def close_at_exit(self, deadline: float) -> None:
        """Wait for the calls in worker threads, and close the synchronous client if they end by a moment of `time.monotonic`."""
        with suppress(Exception):
            if self._sync is None or self._given:
                wait_for(list(self._in_threads), max(0.0, deadline - time.monotonic()))
            else:
                self._close_synchronous(self._sync, max(0.0, deadline - time.monotonic()))

    def _release(self, client: Any) -> None:
        """Take a client as closed: it is not to be closed again when this is dropped."""
        if keeper := self._keepers.pop(id(client), None):
            keeper.detach()

    def start_closing(self) -> list[tuple[Future[Any], object | None]]:
        """Set about closing all clients, each after the calls that it is making.

        Returns:
            What can't be done at once, as futures that complete whether awaited or not, each with the loop that it needs, if any.
        """
        self._closed = True
        started: list[tuple[Future[Any], object | None]] = []
        blocked = runtime.blocked()
        while self._by_loop:
            loop, (_, keeper) = self._by_loop.popitem()
            if not loop.is_running():
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


def _nothing(client: Any) -> None:
    """Make no call."""


def _close_at_exit() -> None:
    deadline = time.monotonic() + _PATIENCE
    for client in list(_open):
        client.close_at_exit(deadline)


# Exit handlers run in the reverse order, so those that the program registers after it has imported a store run before these two: this one,
# and that of the first finalizer of the process, which runs those of the clients' libraries.
weakref.finalize(Client, _nothing, None)
atexit.register(_close_at_exit)


def _keep_alive(client: Any) -> None:
    """Do nothing: the client was there for its loop to close it."""


async def _aclose(generator: AsyncGenerator[None, None]) -> None:
    await generator.aclose()
