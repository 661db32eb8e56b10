"""Worker threads that calls of blocking clients are made in."""

from __future__ import annotations

import contextvars
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from keyvalue._core import fork

__all__ = ["Threads"]

T = TypeVar("T")


class Threads:
    """The worker threads of one store, started as needed.

    One pool serves every loop that uses the store. A call with a cancelled waiter keeps its thread until it ends, so hung calls use up
    the threads of their own store only. They are daemon threads, unlike those of `concurrent.futures`: a hung call does not keep the
    process from ending, and exit handlers of the program can still make calls.

    Args:
        count: At most so many threads.
        name: The prefix of their names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._after_fork()
        fork.register_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._pool = _Pool()

    def submit(self, function: Callable[[], T], future: Future[T] | None = None) -> Future[T]:
        """Run a function in a worker thread, in a copy of the caller's context.

        Args:
            function: What to run.
            future: The future of its result, from whoever needs it even if this very call is interrupted. Default: a new one.

        Returns:
            The future.
        """
        call = _Call(contextvars.copy_context(), function, future or Future())
        with self._lock:
            if self._provide_thread():
                self._pool.calls.put(call)
                return call.future
        call.run()
        return call.future

    def call(self, function: Callable[[], T], future: Future[T] | None = None) -> T:
        """Run a function in a worker thread, and block until it has returned.

        Unlike `future.result()`, this bears an interrupt, such as Ctrl-C, which could leave the future's lock held and so stop the worker.

        Args:
            function: What to run.
            future: As for `submit`, and not in use elsewhere yet.
        """
        future = future or Future()
        done: SimpleQueue[Future[T]] = SimpleQueue()
        future.add_done_callback(done.put)
        self.submit(function, future)
        return done.get().result()

    def _provide_thread(self) -> bool:
        """Start another thread if all are busy and there may be more, and return whether there is any.

        Raises:
            RuntimeError: None can be started, although the interpreter is not shutting down.
        """
        pool = self._pool
        try:
            pool.idle.get_nowait()
        except Empty:
            if pool.started == self._count:
                return True
            thread = threading.Thread(target=_work, args=(pool,), name=f"{self._name}_{pool.started}", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                if not pool.started and threading.main_thread().is_alive():
                    raise
                # At exit, nothing else runs that a call in this thread could hold up.
                return pool.started > 0
            if not pool.started:
                weakref.finalize(self, pool.calls.put, None).atexit = False
            pool.started += 1
        return True

    def stop(self) -> None:
        """Let the threads end when they have nothing left to do."""
        with self._lock:
            pool, self._pool = self._pool, _Pool()
            pool.calls.put(None)


class _Pool:
    """What worker threads share: the calls to make, None for the end; how many threads there are; and an item for each that waits.

    The threads take no lock: the handler of a signal waits for them, perhaps in the middle of a `submit` that holds the lock.
    """

    def __init__(self) -> None:
        self.calls: SimpleQueue[_Call | None] = SimpleQueue()
        self.started = 0
        self.idle: SimpleQueue[None] = SimpleQueue()


class _Call:
    """A call to make, and the future of its result."""

    def __init__(self, context: contextvars.Context, function: Callable[[], Any], future: Future[Any]) -> None:
        self.future = future
        self._context = context
        self._function = function

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self._context.run(self._function)
        except BaseException as error:  # noqa: BLE001 # it is the caller's
            self.future.set_exception(error)
            del self  # or the error would hold itself, by this frame
        else:
            self.future.set_result(result)


def _work(pool: _Pool) -> None:
    while (call := pool.calls.get()) is not None:
        call.run()
        del call  # or its result stays alive until the next one
        pool.idle.put(None)
    pool.calls.put(None)  # for the other threads
