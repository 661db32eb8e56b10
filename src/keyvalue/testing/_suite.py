"""What both suites need: a class of tests that makes a store, and the runtimes that each test runs on."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from keyvalue._core.capabilities import PROTOCOLS
from keyvalue._core.codec import MAX_DEPTH
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue.protocols.key_value import AsyncKeyValue
from keyvalue.testing._clock import Clock
from keyvalue.testing._runtime import RUNTIMES, Awaited, Runtime, RuntimeName, step

__all__ = ["Suite", "assert_collections", "assert_keys", "at_once", "offers", "on_the_runtime"]


def offers(kv: Any, method: str) -> bool:
    """Return whether a store, asynchronous or synchronous, has one of the optional methods."""
    # Asynchronous and synchronous protocols have the same methods, which is what isinstance looks for.
    return isinstance(kv.facade if isinstance(kv, Awaited) else kv, PROTOCOLS[method])


async def assert_keys(kv: Any, expected: Iterable[str], collection: str | None = None) -> None:
    """Fail if a store that can list its keys lists others."""
    if offers(kv, "keys"):
        assert sorted(await kv.keys(collection)) == sorted(expected)


async def assert_collections(kv: Any, expected: Iterable[str]) -> None:
    """Fail if a store that can list its collections lists others."""
    if offers(kv, "collections"):
        assert sorted(await kv.collections()) == sorted(expected)


def on_the_runtime(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a plain function of a coroutine function, which runs it on the test's runtime, whatever plugins for coroutines pytest has.

    If it fails, the error gets what the contract says, which is its docstring, as a note.
    """
    signature = inspect.signature(test)
    takes_runtime = "runtime" in signature.parameters
    runtime_parameter = inspect.Parameter("runtime", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    note = "The contract: " + " ".join((test.__doc__ or "").split())

    @functools.wraps(test)
    def run(self: Suite, runtime: Runtime, **fixtures: Any) -> None:
        if takes_runtime:
            fixtures["runtime"] = runtime
        try:
            runtime.run(functools.partial(test, self), **fixtures)
        except (Exception, pytest.fail.Exception) as error:
            vars(error)["__notes__"] = [*vars(error).get("__notes__", ()), note]  # add_note is not there before Python 3.11
            raise

    asked_for = signature.parameters.values() if takes_runtime else (*signature.parameters.values(), runtime_parameter)
    vars(run)["__signature__"] = signature.replace(parameters=list(asked_for))  # which pytest goes by
    return run


async def at_once(runtime: Runtime, calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Call coroutine functions at the same time: in tasks, or each in a thread that steps through it."""
    errors: list[Exception] = []

    async def caught(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except Exception as error:  # noqa: BLE001 # it is raised again below
            errors.append(error)

    if runtime.is_loop:
        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(caught, call)
    else:
        with ThreadPoolExecutor(len(calls)) as pool:
            for future in [pool.submit(step, caught(call)) for call in calls]:
                future.result()
    for error in errors:
        raise error


class Suite(ABC):
    """A class of tests of a store, each of which runs once on each of `runtimes`.

    Attributes:
        runtimes: The runtimes to test on: any of "asyncio", "trio", "direct" (`BlockingKeyValue` in the calling thread; for stores that
            declare that they run inline) and "portal" (`BlockingKeyValue` over a loop in a background thread). Default: all four.
        default_collection: Collection used when a call does not name one. Default `"default_collection"`.
        max_depth: How many levels of nesting a value may have. Default 254; fewer for a wrapper that puts values in an envelope.
        slow: Whether a call takes so long (tens of milliseconds) that the tests should use fewer keys. Default False.
    """

    runtimes: Sequence[RuntimeName] = RUNTIMES
    default_collection: str = DEFAULT_COLLECTION
    max_depth: int = MAX_DEPTH
    slow: bool = False

    @abstractmethod
    def make(self, directory: Path) -> AsyncKeyValue:
        """Return a new store that has not been opened yet.

        Args:
            directory: An empty directory, one per test. A test may make several stores in it, one after the other: if the store is
                `persistent`, they share their data.
        """

    @pytest.fixture
    def runtime(self, request: pytest.FixtureRequest) -> Runtime:
        """The runtime of the test.

        A subclass may override it to return a subclass of `Runtime`, made with `request.param`, the name of the runtime.
        """
        return Runtime(request.param)

    @pytest.fixture
    def kv(self, runtime: Runtime, tmp_path: Path) -> Any:
        """A store as the runtime's tests use it; it is closed after the test."""
        return runtime.adapt(self.make(tmp_path))

    @pytest.fixture
    def clock(self) -> Iterator[Clock]:
        """The clock that the store asks for the time, moved by hand."""
        with Clock() as clock:
            yield clock

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Have pytest run each test that has a runtime on each of `runtimes`."""
        if not self.runtimes:
            raise ValueError(f"{type(self).__name__}.runtimes names no runtime to test on")
        if "runtime" in metafunc.fixturenames:
            metafunc.parametrize("runtime", self.runtimes, indirect=True)
