"""The cache under all kinds of schedules: no read that begins after a write has ended gives an older value than that write's."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from keyvalue._core import runtime, single_flight
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.base import BaseWrapper, Operation
from keyvalue.wrappers.passthrough_cache import PassthroughCacheWrapper
from tests.budget import scale
from tests.scripted import CALLS, DOWN, NEW, OLD, ScriptedStore

KEYS = ["k", "l"]
ACTIONS = [
    *["go on"] * 10,
    *["get", "get", "get_many", "get elsewhere", "put", "put", "put_many", "delete", "destroy_collection", "destroy"],
    *["cancel", "synchronous get", "synchronous put"],
]


class SteppedStore(BaseWrapper):
    """A store whose calls wait before they take effect and before they return, until a test lets them go on. Synchronous ones don't wait.

    Args:
        key_value: The store.
        waiting: Where the calls wait.
        fails: Returns whether a call fails; asked before it takes effect, and before it returns.
        note: Called with each write when it takes effect.
    """

    runs_inline = True

    def __init__(
        self,
        key_value: AsyncKeyValue,
        waiting: list[anyio.Event],
        fails: Callable[[], bool] = lambda: False,
        note: Callable[[Operation], None] = lambda _: None,
    ) -> None:
        super().__init__(key_value)
        self.waiting, self.fails, self.note = waiting, fails, note

    async def _intercept(self, operation: Operation, call: Callable[[Any], Awaitable[Any]]) -> Any:
        await self._pause()
        result = await call(self.key_value)
        if operation.is_write:
            self.note(operation)
        await self._pause()
        return result

    async def _pause(self) -> None:
        if not runtime.is_inline() and not _hurries.get():
            event = anyio.Event()
            self.waiting.append(event)
            try:
                await event.wait()
            finally:
                self.waiting.remove(event)
        if self.fails():
            raise DOWN


ALL_PAIRS = list(itertools.product(["get", "get_many"], ["put", "put_many", "delete", "delete_many", "destroy_collection", "destroy"]))
_written: ContextVar[dict[str, int]] = ContextVar("written")
_hurries: ContextVar[bool] = ContextVar("hurries", default=False)  # whether the calls of a task don't wait


class History:
    """The values that the keys have had, and how old those that a read returns may be."""

    def __init__(self) -> None:
        self.values: dict[str, list[int | None]] = {key: [None] for key in KEYS}
        self.oldest = dict.fromkeys(KEYS, 0)  # what a read that begins now may return, as an index of the values

    def note(self, operation: Operation) -> None:
        values: Sequence[Any] = operation.values or [{"v": None}] * len(KEYS)
        for key, value in zip(operation.keys or KEYS, values, strict=False):
            _written.get()[key] = len(self.values[key])
            self.values[key].append(value["v"])

    async def write(self, call: Callable[[], Awaitable[object]]) -> None:
        """Make a write; when it has ended, however it did, no read that begins may return an older value than it has written."""
        written: dict[str, int] = {}
        token = _written.set(written)
        try:
            await call()
        finally:
            _written.reset(token)
            self.oldest = {key: max(oldest, written.get(key, 0)) for key, oldest in self.oldest.items()}

    def check(self, keys: Sequence[str], found: Sequence[dict[str, Any] | None], oldest: dict[str, int]) -> None:
        for key, value in zip(keys, found, strict=True):
            assert (None if value is None else value["v"]) in self.values[key][oldest[key] :]


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("slots", [1, 2**16])
def test_no_read_gives_an_older_value_than_a_write_that_has_ended(loop: str, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_flight, "_SLOTS", slots)
    for seed in range(scale(100, 5000)):
        try:
            anyio.run(run, random.Random(seed), backend=loop)
        except BaseException as error:
            raise AssertionError(f"Seed {seed}") from error


async def run(dice: random.Random) -> None:
    """Make calls of all kinds at the same time, let them go on in any order, cancel some, and have some of the cache's fail."""
    waiting, history = list[anyio.Event](), History()
    failing = dice.choice([0, 0, 0.3])
    favour = dice.choice([0.2, 1, 5])  # the calls that wait since lately, all alike, or those that wait longest
    memory, numbers = MemoryStore(), iter(range(1, 1000))
    primary = SteppedStore(memory, waiting, note=history.note)
    cache = SteppedStore(MemoryStore(), waiting, fails=lambda: dice.random() < failing)
    kv: Any = PassthroughCacheWrapper(primary, cache, negative_ttl=dice.choice([None, 60]))
    other = PassthroughCacheWrapper(primary, cache)  # as another process would have one: it may read what is older
    scopes, running = list[anyio.CancelScope](), set[object]()

    def value() -> dict[str, Any]:
        return {"v": next(numbers)}

    async def get(key: str) -> None:
        oldest = history.oldest
        history.check([key], [await kv.get(key)], oldest)

    async def get_many(keys: list[str]) -> None:
        oldest = history.oldest
        history.check(keys, await kv.get_many(keys), oldest)

    async def start(name: str, keys: list[str], scope: anyio.CancelScope) -> None:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "get": lambda: get(keys[0]),
            "get_many": lambda: get_many(keys),
            "get elsewhere": lambda: other.get(keys[0]),
            "put": lambda: history.write(lambda: kv.put(keys[0], value())),
            "put_many": lambda: history.write(lambda: kv.put_many(keys, [value() for _ in keys])),
            "delete": lambda: history.write(lambda: kv.delete(keys[0])),
            "destroy_collection": lambda: history.write(lambda: kv.destroy_collection("default_collection")),
            "destroy": lambda: history.write(lambda: kv.destroy()),
        }
        with scope:
            await calls[name]()
        running.remove(scope)

    async def settle() -> None:
        for _ in range(10):
            await checkpoint()

    def act(action: str, keys: list[str], group: TaskGroup) -> None:
        if action == "go on":
            if waiting:
                waiting[int(dice.random() ** favour * len(waiting))].set()
        elif action == "cancel":
            if scopes:
                dice.choice(scopes).cancel()
        elif action == "synchronous get":
            history.check(keys, runtime.drive(kv.get_many(keys)), history.oldest)
        elif action == "synchronous put":
            runtime.drive(history.write(lambda: kv.put(keys[0], value())))
        else:
            scopes.append(anyio.CancelScope())
            running.add(scopes[-1])
            group.start_soon(start, action, keys, scopes[-1])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for _ in range(dice.randint(5, 50)):
                act(dice.choice(ACTIONS), dice.choice([["k"], ["k", "l"], ["l", "k"]]), group)
                await settle()
            while running:
                act("go on", KEYS, group)
                await settle()
    assert runtime.drive(kv.get_many(KEYS)) == await memory.get_many(KEYS)


@pytest.mark.parametrize("removal", ["succeeds", "fails"])
@pytest.mark.parametrize(("read", "write"), scale([("get", "put"), ("get", "destroy"), ("get_many", "delete_many")], ALL_PAIRS))
async def test_a_read_beside_a_write_in_any_order_leaves_nothing_stale(read: str, write: str, removal: str) -> None:
    """All orders in which the calls on both stores can take effect and return."""
    expected, choices, count = NEW if "put" in write else None, list[int](), 0
    while True:
        options = await follow(choices, read, write, expected, removal == "fails")
        count += 1
        taken = [*choices, *[0] * len(options)][: len(options)]
        while taken and taken[-1] + 1 == options[len(taken) - 1]:
            taken.pop()
        if not taken:
            break
        choices = [*taken[:-1], taken[-1] + 1]
    assert count > 100


async def follow(choices: Sequence[int], read: str, write: str, expected: dict[str, Any] | None, removals_fail: bool) -> list[int]:
    """Let calls go on in an order, and return how many there were to choose from at each step; the first of those beyond the choices."""
    waiting, options, found = list[anyio.Event](), list[int](), list[Any]()
    primary = SteppedStore(MemoryStore(seed={"default_collection": {"k": OLD}}), waiting)
    memory = ScriptedStore(MemoryStore())
    kv: Any = PassthroughCacheWrapper(primary, SteppedStore(memory, waiting))
    if removals_fail:
        name = {"put": "delete", "put_many": "delete_many"}.get(write, write)
        memory.plan(*[DOWN] * 9, on=name)

    async def read_beside() -> None:
        await CALLS[read](kv)

    async def read_after() -> None:
        _hurries.set(True)
        found.append(await kv.get("k"))

    async def write_one() -> None:
        await CALLS[write](kv)
        group.start_soon(read_after)

    async with anyio.create_task_group() as group:
        group.start_soon(read_beside)
        group.start_soon(write_one)
        await checkpoint()
        while waiting:
            choice = choices[len(options)] if len(options) < len(choices) else 0
            options.append(len(waiting))
            waiting[choice].set()
            for _ in range(3):
                await checkpoint()
    assert [*found, await _read_now(kv)] == [expected] * 2, f"After the choices {choices}"
    row = await memory.key_value.get("k", collection="default_collection")
    assert removals_fail or row is None or row["__cached_value__"] == expected, "for other processes"
    return options


async def _read_now(kv: Any) -> Any:
    _hurries.set(True)
    try:
        return await kv.get("k")
    finally:
        _hurries.set(False)
