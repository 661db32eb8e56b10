"""A store that fails, hangs or waits on chosen calls, and notes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import pytest
from anyio.abc import TaskGroup

from keyvalue._core.entry import Entry
from keyvalue.errors import StoreConnectionError
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.base import BaseWrapper, Operation

DOWN = StoreConnectionError("The server is away")
OLD, NEW = {"v": "old"}, {"v": "new"}

CALLS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "put": lambda kv: kv.put("k", NEW),
    "get": lambda kv: kv.get("k"),
    "ttl": lambda kv: kv.ttl("k"),
    "put_many": lambda kv: kv.put_many(["k", "l"], [NEW] * 2),
    "get_many": lambda kv: kv.get_many(["k", "l"]),
    "ttl_many": lambda kv: kv.ttl_many(["k", "l"]),
    "delete_many": lambda kv: kv.delete_many(["k", "l"]),
    "delete": lambda kv: kv.delete("k"),
    "keys": lambda kv: kv.keys(),
    "collections": lambda kv: kv.collections(),
    "destroy_collection": lambda kv: kv.destroy_collection("default_collection"),
    "destroy": lambda kv: kv.destroy(),
    "cull": lambda kv: kv.cull(),
}
"""A call of each method, by its name."""


def store_with_nested(key: str, levels: int) -> MemoryStore:
    """Return a store with a value deeper than `put` takes, as py-key-value-aio may have left one."""
    store = MemoryStore()
    json = b'{"a":' * levels + b"1" + b"}" * levels
    store._insert(Entry("default_collection", key, json=json))  # pyright: ignore[reportPrivateUsage]
    return store


class Hang(NamedTuple):
    """The call never ends by itself."""


class Lost(NamedTuple):
    """The call is done, and then the answer is lost."""

    error: Exception


class Gate:
    """The call waits, before or after it is done, until the gate is opened."""

    def __init__(self, *, after: bool = False) -> None:
        self.after = after
        self.reached = anyio.Event()  # set when the call waits
        self._opened = anyio.Event()

    def open(self) -> None:
        self._opened.set()

    async def wait(self) -> None:
        self.reached.set()
        await self._opened.wait()

    @asynccontextmanager
    async def holding(self, call: Callable[..., Any], *args: object) -> AsyncGenerator[TaskGroup, None]:
        """Have a call wait at the gate, and open it afterwards. Yields the group of its task."""
        async with anyio.create_task_group() as group:
            group.start_soon(call, *args)
            await self.reached.wait()
            yield group
            self.open()


Step = Exception | Hang | Lost | Gate | None


class ScriptedStore(BaseWrapper):
    """A real store. Each call takes the next step of a script; None is an ordinary call, and so is every call after the end."""

    runs_inline = True

    def __init__(self, key_value: AsyncKeyValue, script: Iterable[Step] = ()) -> None:
        super().__init__(key_value)
        self.calls: list[str] = []  # the names of those so far
        self.before: Callable[[], object] = lambda: None  # called when a call arrives, whatever its step
        self.after: Callable[[], object] = lambda: None  # called when it is done
        self.plan(*script)

    def plan(self, *steps: Step, on: str | None = None) -> None:
        """Start a new script, for calls of one name or of all."""
        self.script = list(steps)
        self.on = on

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        self.calls.append(operation.name)
        self.before()
        step = self.script.pop(0) if self.script and self.on in (None, operation.name) else None
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Hang):
            await anyio.sleep_forever()
        if isinstance(step, Gate) and not step.after:
            await step.wait()
        result = await call(self.key_value)
        self.after()
        if isinstance(step, Lost):
            raise step.error
        if isinstance(step, Gate) and step.after:
            await step.wait()
        return result


def on_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Run a test of tasks on both event loops."""
    return pytest.mark.runtimes("asyncio", "trio")(pytest.mark.usefixtures("runtime")(test))
