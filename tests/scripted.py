"""A store that fails, hangs or is slow on chosen calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import anyio

from keyvalue._core import runtime
from keyvalue.protocols import AsyncKeyValue
from keyvalue.wrappers.base import BaseWrapper, Operation


class Hang(NamedTuple):
    """The call never ends by itself."""


class Slow(NamedTuple):
    """The call takes some seconds before it does anything."""

    seconds: float


class Lost(NamedTuple):
    """The call is done, and then the answer is lost."""

    error: Exception


class Gate:
    """The call waits, before or after it is done, until the gate is opened.

    Attributes:
        reached: Set when the call waits.
    """

    def __init__(self, *, after: bool = False) -> None:
        self.after = after
        self.reached = anyio.Event()
        self._opened = anyio.Event()

    def open(self) -> None:
        self._opened.set()

    async def wait(self) -> None:
        self.reached.set()
        await self._opened.wait()


Step = Exception | Hang | Slow | Lost | Gate | None


class ScriptedStore(BaseWrapper):
    """A real store, of which each call takes the next step of a script; None is an ordinary call, and so is all after its end.

    Attributes:
        script: The steps to come.
        calls: The names of the calls so far.
        on: If given, only calls of these names take a step.
    """

    runs_inline = True

    def __init__(self, key_value: AsyncKeyValue, script: Iterable[Step] = (), on: Iterable[str] | None = None) -> None:
        super().__init__(key_value)
        self.script: list[Step] = list(script)
        self.calls: list[str] = []
        self.on = None if on is None else set(on)

    def plan(self, *steps: Step, on: str | None = None) -> None:
        """Start a new script, for calls of one name or of all."""
        self.script = list(steps)
        self.on = None if on is None else {on}

    async def _around(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        self.calls.append(operation.name)
        takes_step = self.script and (self.on is None or operation.name in self.on)
        step = self.script.pop(0) if takes_step else None
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Hang):
            await anyio.sleep_forever()
        if isinstance(step, Slow):
            await runtime.sleep(step.seconds)
        if isinstance(step, Gate) and not step.after:
            await step.wait()
        result = await call(self.key_value)
        if isinstance(step, Lost):
            raise step.error
        if isinstance(step, Gate) and step.after:
            await step.wait()
        return result
