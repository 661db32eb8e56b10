"""Cancelled calls: nothing lands late, connections stay in step, nobody else is hurt."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from keyvalue._core import runtime
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import KeyValueOperationError, StoreSetupError
from keyvalue.stores.base import Clients, Entry, EnumerableStore, ListedEntry
from keyvalue.wrappers.base import BaseWrapper
from tests.budget import scale
from tests.guest import guest_run
from tests.interpreter import forks, returns_true_in_a_fork
from tests.scripted import on_loops

PATIENCE = 20  # seconds after which a write that is held goes on, so that a call that waits for it wrongly does not wait for ever


class HeldClient:
    """A client that only blocks. The first write of "held" waits, on its way, until it is let go."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], bytes] = {}
        self.is_held, self.let_go, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.holds, self.closed_while_writing = True, False
        self._writing = 0

    def put(self, collection: str, key: str, json: bytes | None) -> bool:
        """Store a value, or with None remove it, and return whether there was one."""
        self._writing += 1
        if key == "held" and self.holds and not self.is_held.is_set():
            self.is_held.set()
            self.let_go.wait(PATIENCE)
        before = self.values.pop((collection, key), None)
        if json is not None:
            self.values[collection, key] = json
        self._writing -= 1
        return before is not None

    def get(self, collection: str, keys: Sequence[str]) -> list[Entry | None]:
        found = [(key, self.values.get((collection, key))) for key in keys]
        return [None if json is None else Entry(collection, key, json=json) for key, json in found]

    def close(self) -> None:
        self.closed_while_writing = self._writing > 0
        self.closed.set()


class HeldStore(EnumerableStore):
    """A store over such a client: called in threads, in one at a time, or (on asyncio) awaited."""

    runs_inline = True

    def __init__(self, calls: Literal["in threads", "in one thread", "awaited"] = "in threads") -> None:
        super().__init__()
        self.client = client = HeldClient()
        put, get = partial(asyncio.to_thread, client.put), partial(asyncio.to_thread, client.get)
        make_async = (lambda: SimpleNamespace(put=put, get=get, close=client.close)) if calls == "awaited" else None
        self._clients = Clients("HeldStore", create=lambda: client, create_async=make_async, serialize_calls=calls == "in one thread")

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        return await self._use(lambda client: client.get(collection, keys))

    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        for entry in entries:
            await self._use(lambda client, entry=entry: client.put(collection, entry.key, entry.json))

    async def _delete(self, collection: str, keys: Sequence[str]) -> Sequence[bool]:
        return [await self._use(lambda client, key=key: client.put(collection, key, None)) for key in keys]

    async def _scan(self, collection: str | None) -> AsyncGenerator[Sequence[ListedEntry], None]:
        yield [ListedEntry(*pair, None) for pair in self.client.values if collection in (None, pair[0])]

    async def _cull(self, now: float) -> None:
        await self._delete("default_collection", ["held"])

    async def abandon(self, write: str = "put") -> None:
        """Make a call that writes "held", and cancel that while the client is at it."""
        before = dict(self.client.values)
        async with anyio.create_task_group() as group:
            group.start_soon(WRITES[write], self)
            await anyio.to_thread.run_sync(self.client.is_held.wait)
            group.cancel_scope.cancel()
        assert self.client.values == before, "the cancelled call must return at once"


WRITES: dict[str, Callable[[Any], Any]] = {
    "put": lambda kv: kv.put("held", {"v": "old"}),
    "put_many": lambda kv: kv.put_many(["held", "held"], [{}, {"v": "old"}]),
    "delete": lambda kv: kv.delete("held"),
    "delete_many": lambda kv: kv.delete_many(["held"]),
    "destroy_collection": lambda kv: kv.destroy_collection("default_collection"),
    "cull": lambda kv: kv.cull(),
}


KINDS = ("in threads", "in one thread", "awaited")
CALLS = pytest.mark.parametrize("calls", KINDS)


@on_loops
@CALLS
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("later", ["put", "delete_many", "destroy_collection"])
async def test_a_cancelled_write_never_lands_after_a_later_one(calls: Any, write: str, later: str) -> None:
    async with HeldStore(calls) as kv:
        kv.client.holds = False
        await kv.put("held", {"v": "first"})
        kv.client.holds = True
        await kv.abandon(write)
        async with anyio.create_task_group() as group:
            group.start_soon(WRITES[later], kv)
            await anyio.wait_all_tasks_blocked()
            assert kv.client.values == {("default_collection", "held"): b'{"v":"first"}'}
            kv.client.let_go.set()
        assert kv.client.values == ({("default_collection", "held"): b'{"v":"old"}'} if later.startswith("put") else {})


@on_loops
@CALLS
@pytest.mark.parametrize("bulk", [False, True])
async def test_a_cancelled_put_never_lands_after_a_later_call(calls: Any, bulk: bool) -> None:
    read: list[Any] = []
    async with HeldStore(calls) as kv:

        async def get() -> None:
            read.extend(await kv.get_many(["held"]) if bulk else [await kv.get("held")])

        async def put() -> None:
            await (kv.put_many(["held"], [{"v": "new"}]) if bulk else kv.put("held", {"v": "new"}))

        await kv.abandon()
        async with anyio.create_task_group() as group:
            group.start_soon(get)
            group.start_soon(put)
            if calls != "in one thread":  # where everything waits for it
                await kv.put("other", {"v": 1})
                await kv.put("held", {"v": 1}, collection="other")
                assert await kv.get("other") == {"v": 1}
                assert {*kv.client.values} == {("default_collection", "other"), ("other", "held")}, "other keys must not wait"
            assert read == []
            kv.client.let_go.set()
    assert read[0] in ({"v": "old"}, {"v": "new"})
    assert kv.client.values["default_collection", "held"] == b'{"v":"new"}'


@on_loops
@pytest.mark.parametrize(("calls", "is_cancelled"), [*((kind, False) for kind in KINDS), *((kind, True) for kind in KINDS[:2])])
async def test_closing_waits_for_abandoned_work_even_if_it_is_cancelled_too(calls: Any, is_cancelled: bool) -> None:
    kv = HeldStore(calls)
    await kv.abandon()
    async with anyio.create_task_group() as group:
        group.start_soon(kv.close)
        await anyio.wait_all_tasks_blocked()
        if is_cancelled:
            group.cancel_scope.cancel()
        else:
            kv.client.let_go.set()
    assert bool(kv.client.values) is not is_cancelled, "a cancelled call must return at once"
    kv.client.let_go.set()
    assert await anyio.to_thread.run_sync(kv.client.closed.wait, PATIENCE)
    assert not kv.client.closed_while_writing


@on_loops
async def test_a_put_that_waits_for_its_thread_is_dropped_when_cancelled() -> None:
    async with HeldStore("in one thread") as kv:
        async with anyio.create_task_group() as group:
            group.start_soon(kv.put, "held", {})
            await anyio.to_thread.run_sync(kv.client.is_held.wait)
            with anyio.move_on_after(0.02):
                await kv.put("k", {"v": "never"})
            kv.client.let_go.set()
        assert await kv.get("k") is None


def test_abandoned_work_of_one_loop_is_waited_for_in_another_thread() -> None:
    kv = HeldStore()
    anyio.run(kv.abandon)
    threading.Timer(0.05, kv.client.let_go.set).start()
    with BlockingKeyValue(kv) as facade:
        facade.put("held", {"v": "new"})
    assert list(kv.client.values.values()) == [b'{"v":"new"}']


@pytest.mark.parametrize("caller", ["asyncio", "trio"])
def test_an_abandoned_put_on_the_blocked_loop_is_a_clear_error(caller: str) -> None:
    async def main() -> None:
        async with HeldStore("awaited") as kv, guest_run() as in_trio:
            await kv.abandon()
            facades = BlockingKeyValue(kv), BlockingKeyValue(BaseWrapper(kv))  # the second on a loop of its own
            for facade in facades:

                async def get(facade: Any = facade) -> Any:
                    return facade.get("held")

                with pytest.raises(KeyValueOperationError, match="synchronous call blocks"):
                    await (get() if caller == "asyncio" else in_trio(get))
            kv.client.let_go.set()
            assert await kv.get("held") == {"v": "old"}
            assert [facade.get("held") for facade in facades] == [{"v": "old"}] * 2
            for facade in facades:
                facade.close()

    asyncio.run(main())


@forks
@pytest.mark.parametrize("calls", ["in threads", "in one thread"])
def test_a_forked_child_waits_for_no_call_of_the_parents(calls: Any) -> None:
    kv = HeldStore(calls)
    anyio.run(kv.abandon)

    def in_child() -> bool:
        value = runtime.drive(kv.get("held"))
        runtime.drive(kv.close())
        return value is None

    assert returns_true_in_a_fork(in_child)
    kv.client.let_go.set()
    runtime.drive(kv.close())


class HardToOpen(HeldStore):
    """A store whose opening fails the first time, hangs the second time, fails again, and then works."""

    attempts = 0

    async def _open(self) -> None:
        self.attempts += 1
        await anyio.lowlevel.checkpoint()
        if self.attempts in (1, 3):
            raise OSError("not yet")
        if self.attempts == 2:
            await anyio.sleep_forever()
        assert await self.get("k") is None  # a store may use itself while it opens


@on_loops
async def test_opening_that_failed_or_was_cancelled_is_tried_again_and_fails_nobody_else() -> None:
    kv, scope = HardToOpen(), anyio.CancelScope()
    errors: list[StoreSetupError] = []

    async def get(scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await kv.get("k")
            except StoreSetupError as error:
                errors.append(error)

    await get(anyio.CancelScope())
    async with anyio.create_task_group() as group:
        group.start_soon(get, scope)
        await anyio.wait_all_tasks_blocked()
        for _ in range(5):
            group.start_soon(get, anyio.CancelScope())
        scope.cancel()
    assert kv.attempts == 4
    assert ["not yet" in str(error) for error in errors] == [True, True]
    assert [type(error.__cause__) for error in errors] == [OSError, OSError]
    await kv.close()


@on_loops
@pytest.mark.backends("disk", "filetree", "rocksdb", "windows-registry")  # tests/stores/test_network.py has the others
async def test_calls_cancelled_at_random_moments_leave_every_answer_right(make_raw: Callable[..., Any], backend: str) -> None:
    dice, numbers = random.Random(7), range(scale(100, 400))
    async with make_raw() as kv:
        await kv.put_many([f"k{number}" for number in numbers], [{"n": number} for number in numbers])
        calls = [lambda n: kv.get(f"k{n}"), lambda n: kv.put(f"k{n}", {"n": n}), lambda n: kv.get_many([f"k{n}", "x"])]
        for number in numbers:
            with anyio.move_on_after(dice.random() * 0.002):
                await dice.choice(calls)(number)
        for number in numbers:
            assert await kv.get(f"k{number}") == {"n": number}
