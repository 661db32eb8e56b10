"""The runtimes that the tests run on, and how a store looks from each.

A test is one coroutine function, whatever the runtime: on "direct" and "portal" its store is a `BlockingKeyValue` behind `Awaited`, and
the coroutine is stepped through without any event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, cast

import anyio
from blockbuster import blockbuster_ctx

from keyvalue.blocking import BlockingKeyValue
from keyvalue.protocols import AsyncKeyValue

Name = Literal["asyncio", "trio", "direct", "portal"]
NAMES: tuple[Name, ...] = ("asyncio", "trio", "direct", "portal")


class Awaited:
    """A façade seen as if it were asynchronous, so that one test serves both colours."""

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


def undeclared(store: Any) -> Any:
    """Make of a store one of a user's subclass, which does not say that it runs inline."""
    store.__class__ = type(f"Undeclared{type(store).__name__}", (type(store),), {})
    return store


def step(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a test of synchronous code suspended")


@contextmanager
def no_blocking() -> Generator[None, None, None]:
    """Turn a blocking call on an asyncio event loop into an error."""
    with blockbuster_ctx(scanned_modules=["keyvalue"]) as blockbuster:
        # redis-py reads its own version from its metadata when it makes a client; coverage has a lock of its own.
        for function in blockbuster.functions.values():
            function.can_block_in("coverage/collector.py", {"lock_data"})
            function.can_block_in("importlib/metadata/__init__.py", {"read_text", "search", "joinpath", "from_name"})
        yield


class Runtime:
    """One of the runtimes.

    Attributes:
        name: Which.
    """

    def __init__(self, name: Name) -> None:
        self.name: Name = name
        self._made: list[Any] = []

    def adapt(self, store: AsyncKeyValue) -> Any:
        """Return a store as this runtime's tests use it; it is closed when the test ends."""
        adapted: Any = store
        if self.name == "direct":
            facade = BlockingKeyValue(store)
            assert facade._target is store, f"{type(store).__name__} does not run inline"  # pyright: ignore[reportPrivateUsage]
            adapted = Awaited(facade)
        elif self.name == "portal":
            facade = BlockingKeyValue(undeclared(store))
            assert facade._target is not store  # pyright: ignore[reportPrivateUsage]
            adapted = Awaited(facade)
        self._made.append(adapted)
        return adapted

    def run(self, function: Callable[..., Awaitable[object]], **kwargs: Any) -> None:
        """Run a coroutine function to its end, and close the stores that were adapted for it."""

        async def run() -> None:
            try:
                await function(**kwargs)
            finally:
                for store in reversed(self._made):
                    await store.close()

        if self.name in ("direct", "portal"):
            step(run())
        else:
            with no_blocking() if self.name == "asyncio" else nullcontext():
                anyio.run(run, backend=cast("str", self.name))
