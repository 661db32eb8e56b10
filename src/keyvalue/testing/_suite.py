"""What the tests of both suites call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from keyvalue._core.capabilities import PROTOCOLS
from keyvalue.testing._runtime import Awaited, CloseError, Runtime, step

__all__ = ["assert_collections", "assert_keys", "at_once", "has_capability", "on_the_runtime"]


def has_capability(kv: Any, method: str) -> bool:
    """Return whether a store, asynchronous or synchronous, has one of the optional methods."""
    # Asynchronous and synchronous protocols have the same methods, which is what isinstance looks for.
    return isinstance(kv.facade if isinstance(kv, Awaited) else kv, PROTOCOLS[method])


async def assert_keys(kv: Any, expected: Iterable[str], collection: str | None = None) -> None:
    """Fail if a store that can list its keys lists others."""
    if has_capability(kv, "keys"):
        assert sorted(await kv.keys(collection)) == sorted(expected)


async def assert_collections(kv: Any, expected: Iterable[str]) -> None:
    """Fail if a store that can list its collections lists others."""
    if has_capability(kv, "collections"):
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
    def run(self: object, runtime: Runtime, **fixtures: Any) -> None:
        if takes_runtime:
            fixtures["runtime"] = runtime
        try:
            runtime.run(functools.partial(test, self), **fixtures)
        except CloseError:
            raise
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
