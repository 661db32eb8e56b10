"""The runtimes that a test runs on, and how a store looks from each.

A test is one coroutine function, whatever the runtime: on "direct" and "portal" its store is a `BlockingKeyValue` behind `Awaited`, and
the coroutine is stepped through without any event loop.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar, cast

import anyio

from keyvalue.blocking import BlockingKeyValue, runs_inline
from keyvalue.protocols.key_value import AsyncKeyValue

__all__ = ["RUNTIMES", "Awaited", "CloseError", "Runtime", "RuntimeName", "step", "undeclared"]

T = TypeVar("T")

RuntimeName = Literal["asyncio", "trio", "direct", "portal"]
"""A runtime: one of two event loops, or one of the two paths of `BlockingKeyValue`: in the calling thread, and on a loop in another."""

RUNTIMES: tuple[RuntimeName, ...] = ("asyncio", "trio", "direct", "portal")


class Awaited:
    """A façade with coroutine methods, so that the same test runs on asynchronous and synchronous stores."""

    def __init__(self, facade: BlockingKeyValue) -> None:
        self.facade = facade

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.facade, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return call

    async def __aenter__(self) -> Awaited:
        self.facade.__enter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.facade.__exit__(None, None, None)


class CloseError(AssertionError):
    """A store could not be closed after a test. The test itself may have passed."""


def undeclared(store: Any) -> Any:
    """Make of a store one of a user's subclass, which does not say that it runs inline."""
    # No slots of its own: an object can't become one of a class with a __dict__ if its own has none. The same name, for messages.
    kind = cast("type[Any]", type(store))
    store.__class__ = type(kind.__name__, (kind,), {"__slots__": ()})
    return store


def step(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("a test of synchronous code suspended: it may await nothing but the store and Runtime.sleep")


class Runtime:
    """One of the runtimes, for one test.

    ```
    def test_of_my_own(self, runtime: Runtime, tmp_path: Path) -> None:
        async def main() -> None:
            kv = runtime.adapt(self.make(tmp_path))
            await kv.put("k", {"a": 1})

        runtime.run(main)
    ```

    Args:
        name: The runtime: "asyncio", "trio", "direct" (`BlockingKeyValue`, in the calling thread) or "portal" (`BlockingKeyValue`, on a
            loop in a background thread).

    Attributes:
        name: The runtime's name.

    Raises:
        ValueError: No runtime has that name.
    """

    def __init__(self, name: RuntimeName) -> None:
        if name not in RUNTIMES:
            raise ValueError(f"There is no runtime {name!r}, only {', '.join(RUNTIMES)}")
        self.name: RuntimeName = name
        self._made: list[Any] = []

    def adapt(self, store: AsyncKeyValue) -> Any:
        """Return a store as tests on this runtime use it: with its methods as coroutine functions, the optional ones included.

        Args:
            store: The store, not yet opened. `run` closes it.

        Returns:
            The store itself, or a `BlockingKeyValue` over it with methods that can be awaited.

        Raises:
            AssertionError: The runtime is "direct", and the store does not say that it runs inline.
        """
        adapted: Any = store if self.is_loop else Awaited(self._facade(store))
        self._made.append(adapted)
        return adapted

    @property
    def is_loop(self) -> bool:
        """Whether it is an event loop, rather than a path of the façade."""
        return self.name in ("asyncio", "trio")

    def run(self, function: Callable[..., Awaitable[object]], **kwargs: Any) -> None:
        """Run a coroutine function to its end, and close the stores that were adapted for it.

        Args:
            function: Awaits nothing but what `adapt` returned and `sleep`.
            kwargs: Its arguments.
        """

        async def run() -> None:
            try:
                await function(**kwargs)
            finally:
                while self._made:
                    await self._close(self._made.pop())

        if self.is_loop:
            with self.guard():
                anyio.run(run, backend=self.name)
        else:
            step(run())

    async def sleep(self, seconds: float) -> None:
        """Wait, on whatever runtime this is.

        Args:
            seconds: How long.
        """
        if self.is_loop:
            await anyio.sleep(seconds)
        else:
            time.sleep(seconds)  # noqa: ASYNC251 # there is no loop

    def guard(self) -> AbstractContextManager[object]:
        """Return the context that an event loop runs in; an empty context by default.

        Override it, for example to make blocking calls raise. See the fixture `ArgumentContract.runtime`.
        """
        return nullcontext()

    async def _close(self, adapted: Any) -> None:
        close = getattr(adapted, "close", None)
        if close is None:
            return
        try:
            await close()
        except Exception as error:
            raise CloseError(
                f"The test is over, and its store can't be closed: {type(error).__name__}: {error}. If that is the client's error: "
                "`Clients(close=...)` says how to close a client that has no close()"
            ) from error

    def _facade(self, store: AsyncKeyValue) -> BlockingKeyValue:
        """Return the façade over a store, on this path."""
        if self.name == "portal":
            return BlockingKeyValue(undeclared(store))
        assert runs_inline(store), (
            f"{type(store).__name__} does not say that it runs inline, so synchronous code can't run it in the calling thread: write "
            'runs_inline = True in its class if that holds, or leave "direct" out of `runtimes` in the class of the tests'
        )
        return BlockingKeyValue(store)
