"""The synchronous façade over any `AsyncKeyValue`. The synchronous adapters, which take any `KeyValue`, are exported here too."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, TypeVar, cast

from keyvalue._core import file_errors, fork, runtime
from keyvalue._core.capabilities import add_capability_mixins, capabilities_of, require_async, split_by_capability
from keyvalue._core.documented import Methods
from keyvalue._core.misuse import Explaining, Misused, show_signatures
from keyvalue._core.store import BaseStore
from keyvalue._core.threads import Threads
from keyvalue._core.wording import closed_error
from keyvalue._core.wrapper import BaseWrapper
from keyvalue.adapters._blocking import BaseModelAdapter, DataclassAdapter, PydanticAdapter, RaiseOnMissingAdapter
from keyvalue.errors import StoreConnectionError
from keyvalue.protocols.key_value import (
    AsyncKeyValue,
)

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from typing_extensions import Self

__all__ = ["BaseModelAdapter", "BlockingKeyValue", "DataclassAdapter", "PydanticAdapter", "RaiseOnMissingAdapter"]

T = TypeVar("T")


class BlockingKeyValue(Explaining, Methods):
    """A `KeyValue` over any `AsyncKeyValue`, for code that does not await.

    Each method does what the asynchronous method of the same name does. The façade has the optional methods, such as `keys`, that the store
    or wrapper has; narrow with `isinstance` to show them to a type checker. Any number of threads can share a façade. In a thread that
    runs an event loop, such as a notebook's, a call blocks that loop until it returns.

    Calls take one of two paths. If every store and wrapper in the stack declares `runs_inline`, a call runs in the calling thread.
    Otherwise it runs on an event loop in a background thread, which the first call starts and `close` stops.

    Interrupting a waiting call (Ctrl-C) cancels it and leaves the façade usable. The background thread is a daemon: a façade that you do
    not close does not keep the process alive.

    Args:
        key_value: The store or wrapper to use. The façade opens and closes it.
        backend: The event loop of the background thread: "asyncio" (the default) or "trio".
        backend_options: Options for that loop, as for `anyio.run`.

    Raises:
        TypeError: `key_value` is not an `AsyncKeyValue`, or is synchronous.
        ValueError: The backend is neither "asyncio" nor "trio".
        StoreClosedError: On use: the façade is closed.
        RuntimeError: On use: the process has forked since the façade was created, or the interpreter is shutting down.
    """

    def __init__(
        self,
        key_value: AsyncKeyValue,
        *,
        backend: Literal["asyncio", "trio"] = "asyncio",
        backend_options: dict[str, Any] | None = None,
    ) -> None:
        self._key_value = require_async(key_value, "BlockingKeyValue")
        if backend not in ("asyncio", "trio"):
            raise ValueError('The backend must be "asyncio" or "trio"')
        self._loop = _PortalThread(backend, backend_options)
        # Calls are made on the target, and the path runs the coroutine or deferred call that they return. Once the façade is closed, or in
        # a forked child, the target raises instead: a usable façade pays for no check.
        inline = runs_inline(key_value)
        self._target: Any = key_value if inline else _Deferred(key_value)
        self._path: runtime.Inline | _PortalThread = runtime.Inline(key_value) if inline else self._loop
        self._entered: contextlib.AbstractContextManager[object] | None = None
        fork.register_after_fork(self)
        add_capability_mixins(self, capabilities_of(key_value), _MIXINS)

    _prefix_of_protocols = ""

    if not TYPE_CHECKING:
        __aenter__ = Misused("use `with`; in asynchronous code, use what it is over, without the façade: `async with store`")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._key_value!r})"

    def _beneath(self) -> Sequence[object]:
        return (self._key_value,)

    def _after_fork(self) -> None:
        self._target = _Closed(_forked_error)

    @property
    def key_value(self) -> AsyncKeyValue:
        """The store or wrapper beneath."""
        return self._key_value

    def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return self._path.run(self._target.get(key, collection=collection))

    def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        return self._path.run(self._target.ttl(key, collection=collection))

    def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None) -> None:
        return self._path.run(self._target.put(key, value, collection=collection, ttl=ttl))

    def delete(self, key: str, *, collection: str | None = None) -> bool:
        return self._path.run(self._target.delete(key, collection=collection))

    def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        return self._path.run(self._target.get_many(keys, collection=collection))

    def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        return self._path.run(self._target.ttl_many(keys, collection=collection))

    def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        return self._path.run(self._target.put_many(keys, values, collection=collection, ttl=ttl))

    def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        return self._path.run(self._target.delete_many(keys, collection=collection))

    def setup(self) -> None:
        """Open the store or wrapper now rather than at its first use.

        Raises:
            StoreSetupError: It can't be opened. The next call tries again.
            StoreClosedError: The façade is closed.
        """
        target = self._target
        if isinstance(target, _Closed) or hasattr(self._key_value, "setup"):
            self._path.run(target.setup())

    def close(self) -> None:
        """Close the store or wrapper, and stop the background thread. Closing the façade again does nothing; other calls then raise."""
        if isinstance(self._target, _Closed):
            return
        try:
            if self._entered is not None:
                self._entered.__exit__(None, None, None)
            elif hasattr(self._key_value, "close"):
                self._path.run(self._target.close())
            elif hasattr(self._key_value, "aclose"):
                self._path.run(self._target.aclose())
        finally:
            self._target = _Closed(_closed_error)
            self._loop.stop()

    def __enter__(self) -> Self:
        try:
            self._enter()
        except BaseException:
            with contextlib.suppress(Exception):  # the error of opening says more
                self.close()
            raise
        return self

    def _enter(self) -> None:
        if self._path is not self._loop or isinstance(self._target, _Closed) or not hasattr(self._key_value, "__aenter__"):
            self.setup()
        elif self._entered is None:
            # Entered and left in one task, as a task group inside requires.
            entered = self._loop.portal().wrap_async_context_manager(cast("Any", self._key_value))
            entered.__enter__()
            self._entered = entered

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def runs_inline(key_value: AsyncKeyValue) -> bool:
    """Return whether a stack can run in the calling thread: every class in it must declare so itself."""
    if not vars(type(key_value)).get("runs_inline", False):
        return False
    if isinstance(key_value, BaseStore):
        return key_value._clients is None or key_value._clients.sync is not None  # pyright: ignore[reportPrivateUsage] # of the core
    if not isinstance(key_value, BaseWrapper) or not key_value._knows_all():  # pyright: ignore[reportPrivateUsage] # as above
        return False
    wrapped = key_value._wrapped()  # pyright: ignore[reportPrivateUsage] # as above
    return bool(wrapped) and all(map(runs_inline, wrapped))


class _Deferred:
    """Stands in for an object: calling a method of it returns the call, to be made later."""

    def __init__(self, key_value: AsyncKeyValue) -> None:
        self._key_value = key_value

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return functools.partial(functools.partial, getattr(self._key_value, name))


class _Closed:
    """Stands in for an object that must not be used any more: each attribute raises."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error()


class _PortalThread:
    """An event loop in a background thread, which the first call starts."""

    def __init__(self, backend: str, options: dict[str, Any] | None) -> None:
        self._backend = backend
        self._options = options
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._thread: threading.Thread | None = None
        self._starter = Threads(1, "keyvalue-starter")
        self._stopped = False

    def portal(self) -> BlockingPortal:
        with self._lock:
            if self._stopped:
                raise _closed_error()
            if self._portal is None:
                ready: Future[BlockingPortal] = Future()
                thread = threading.Thread(target=_serve, args=(self._backend, self._options, ready), name="keyvalue-loop", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise _ended_error() from error
                try:
                    self._portal = ready.result()
                except OSError as error:
                    reason = file_errors.transient_reason(error) or str(error)
                    raise StoreConnectionError(f"This BlockingKeyValue could not start its event loop: {reason}") from error
                self._thread = thread
                weakref.finalize(self, _stop, self._portal)
            return self._portal

    def run(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if sys.is_finalizing():  # the thread has stopped: waiting for it would never end
            raise _ended_error()
        if self._stopped:
            raise _closed_error()
        blocked = (*runtime.blocked(), *runtime.loops_here())
        if threading.current_thread() is threading.main_thread():
            return self._run_interruptible(operation, blocked)
        future = self._start(operation, blocked)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _run_interruptible(self, operation: Callable[[], Coroutine[Any, Any, T]], blocked: tuple[object, ...]) -> T:
        """Run an operation for the main thread, the only one that signals such as Ctrl-C interrupt.

        An interrupt could leave the lock of a future held, which would block the loop. So another thread handles the future, and this one
        waits on a queue that takes no lock in Python.
        """
        started: list[Future[T]] = []
        answers: SimpleQueue[Future[T]] = SimpleQueue()
        cancelled: SimpleQueue[None] = SimpleQueue()

        def start() -> None:
            future: Future[T] = Future()
            try:
                future = self._start(operation, blocked)
            except Exception as error:  # noqa: BLE001 # raised in the main thread
                future.set_exception(error)
            started.append(future)
            future.add_done_callback(answers.put)

        def cancel() -> None:
            for future in started:
                future.cancel()
            cancelled.put(None)

        try:
            self._starter.submit(start)
            answer = answers.get()
        except BaseException:
            self._starter.submit(cancel)
            cancelled.get()  # later calls now come after this one
            raise
        return answer.result()

    def _start(self, operation: Callable[[], Coroutine[Any, Any, T]], blocked: tuple[object, ...]) -> Future[T]:
        portal = self._portal or self.portal()
        try:
            return portal.start_task_soon(_await, operation, blocked)
        except RuntimeError as error:
            if threading.get_ident() == getattr(self._thread, "ident", None):
                raise RuntimeError(
                    "This BlockingKeyValue was called on its own event loop, which the call would block for ever; await the store there"
                ) from error
            raise _ended_error() from error

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            portal, self._portal = self._portal, None
            thread, self._thread = self._thread, None
        if portal is not None and thread is not None:
            _stop(portal)
            thread.join()
        self._starter.stop()


async def _await(operation: Callable[[], Any], blocked: tuple[object, ...]) -> Any:
    with runtime.blocking(blocked):
        result = operation()  # synchronous, perhaps, if the object is another library's
        return await result if inspect.isawaitable(result) else result


def _serve(backend: str, options: dict[str, Any] | None, ready: Future[BlockingPortal]) -> None:
    import anyio  # noqa: PLC0415 # the inline path does not need it
    from anyio.from_thread import BlockingPortal  # noqa: PLC0415 # as above

    async def serve() -> None:
        async with BlockingPortal() as portal:
            ready.set_result(portal)
            await portal.sleep_until_stopped()

    try:
        anyio.run(serve, backend=backend, backend_options=options)
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)


def _stop(portal: BlockingPortal) -> None:
    try:
        portal.start_task_soon(portal.stop, False)
    except RuntimeError:  # it has ended already, or this is its own thread, where it refuses
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=_stop_if_running, args=(portal,), daemon=True).start()


def _stop_if_running(portal: BlockingPortal) -> None:
    with contextlib.suppress(RuntimeError):
        portal.start_task_soon(portal.stop, False)


def _closed_error() -> Exception:
    return closed_error("BlockingKeyValue")


def _forked_error() -> Exception:
    return RuntimeError("This BlockingKeyValue was made before the process forked; make a new one, over a new store, in the child")


def _ended_error() -> Exception:
    return RuntimeError(
        "The background thread of this BlockingKeyValue has ended: the interpreter is shutting down, or something on its event loop "
        "raised SystemExit or KeyboardInterrupt. Make a new one"
    )


class _Optional:
    def keys(self: Any, collection: str | None = None, *, limit: int | None = None) -> list[str]:
        return self._path.run(self._target.keys(collection, limit=limit))

    def collections(self: Any, *, limit: int | None = None) -> list[str]:
        return self._path.run(self._target.collections(limit=limit))

    def destroy(self: Any) -> bool:
        return self._path.run(self._target.destroy())

    def destroy_collection(self: Any, collection: str) -> bool:
        return self._path.run(self._target.destroy_collection(collection))

    def cull(self: Any) -> None:
        self._path.run(self._target.cull())


show_signatures(_Optional)
_MIXINS = split_by_capability(_Optional, "")
