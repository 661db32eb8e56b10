"""What every store over a network has to stand besides `test_backends`: cancellation, a server that is killed, loops that come and go."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import StoreConnectionError
from keyvalue.testing._suite import has_capability
from tests import backends, makers
from tests.budget import scale
from tests.conftest import skip_or_fail
from tests.interpreter import run_fresh
from tests.proxy import Proxy
from tests.runtimes import Runtime
from tests.servers import Running, free_port
from tests.servers.registry import SERVERS
from tests.stores.hooks import assert_raised

BACKENDS = [name for name in SERVERS if name != "mongodb-replicaset"]  # to whose client it is all one, but for a kill
SYNCHRONOUS = {"vault"}
"""Those that there is no asynchronous client for."""
ON_TRIO = {"redis", "vault"}
"""Those that are tried on trio too, where the synchronous client is called in threads: one with clients of both kinds, one without."""

pytestmark = pytest.mark.backends(*BACKENDS)

Make = Callable[..., Any]


@pytest.fixture(autouse=True, scope="module")
def _passed_over() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] # pytest uses it
    """Have the garbage collector pass over what was there before: these tests call it often."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _loaded(backend: str) -> None:  # pyright: ignore[reportUnusedFunction] # likewise
    makers.load(backend)


def loops_of(backend: str) -> Sequence[str]:
    """Return the event loops to try a backend on."""
    return ("asyncio", "trio") if backend in ON_TRIO else ("asyncio",)


def connections(url: str) -> int:
    """Return how many connections this process has to a server, over TCP."""
    gc.collect()
    port = urlsplit(url).port
    if port is None:
        return 0
    lines = [line.split() for table in ("tcp", "tcp6") for line in Path("/proc/self/net", table).read_text().splitlines()]
    inodes = {fields[9] for fields in lines if fields[2].endswith(f":{port:04X}")}
    held: list[str] = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            held += re.findall(r"socket:\[(\d+)\]", os.readlink(f"/proc/self/fd/{descriptor}"))
    return len(inodes.intersection(held))


def await_connections(url: str, most: int) -> None:
    """Wait until no more connections are open than that; clients of other tests may have some."""
    deadline = time.monotonic() + 10
    while connections(url) > most:
        assert time.monotonic() < deadline, f"{connections(url) - most} connections were left open"
        time.sleep(0.05)


@contextmanager
def no_warnings() -> Generator[None, None, None]:
    """Fail if something was dropped without being closed."""
    gc.collect()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(warning.message) for warning in warned] == []


class Cancelled:
    """A store on which calls are to be cancelled, and what must then still be right."""

    def __init__(self, kv: Any) -> None:
        self.kv = kv
        self.keys = [f"key-{number}" for number in range(20)]
        self.values = [{"of": key} for key in self.keys]
        self._lists = has_capability(kv, "collections")
        self._drawn = random.Random(7)
        self._usual = 0.0

    async def fill(self) -> None:
        await self.kv.put_many(self.keys, self.values)
        started = time.monotonic()
        for key in self.keys:
            assert await self.kv.get(key) == {"of": key}
        self._usual = (time.monotonic() - started) / len(self.keys)

    def seconds(self) -> float:
        """Draw how long to let a call run: not as long as a get takes."""
        return self._drawn.random() * self._usual

    async def call(self, kv: Any) -> None:
        """Make some call. Unless it is cancelled, what it returns is the answer to it, and not to one before."""
        key = self._drawn.choice(self.keys)
        calls: list[tuple[Callable[[], Awaitable[Any]], Callable[[Any], Any], Any]] = [
            (lambda: kv.get(key), dict, {"of": key}),
            (lambda: kv.get_many(self.keys), list, self.values),
            (lambda: kv.put(key, {"of": key}, ttl=600), repr, "None"),
            (lambda: kv.put_many(self.keys, self.values), repr, "None"),
            (lambda: kv.ttl(key), lambda found: found[0], {"of": key}),
            (lambda: kv.delete("other"), bool, False),
            (lambda: kv.delete_many(["other", "another"]), int, 0),
        ]
        if self._lists:
            calls += [(lambda: kv.keys(), set, set(self.keys)), (lambda: kv.collections(), list, ["default_collection"])]
        call, part, expected = self._drawn.choice(calls)
        assert part(await call()) == expected

    async def check(self) -> None:
        for _ in range(scale(1, 10)):
            for key in self.keys:
                assert await self.kv.get(key) == {"of": key}
        await self.kv.delete(self.keys[0])
        assert await self.kv.get_many(self.keys) == [None, *self.values[1:]]


def test_answers_are_right_after_cancellations(backend: str, url: str, make_raw: Make) -> None:
    async def main() -> None:
        async with make_raw() as kv:
            test = Cancelled(kv)
            with anyio.fail_after(60):
                await test.fill()
            cancelled = 0
            for _ in range(scale(60, 200)):
                with anyio.move_on_after(test.seconds()) as scope:
                    await test.call(kv)
                cancelled += scope.cancelled_caught
            assert cancelled > 0
            await test.check()

    for loop in loops_of(backend):
        before = connections(url)
        anyio.run(main, backend=loop)
        await_connections(url, before)


# Servers that die


def run_private(backend: str, directory: Path, port: int | None = None) -> AbstractContextManager[Running]:
    """Run a server of the test's own, if there can be one."""
    server = SERVERS[backend]
    if why := server.absent():
        skip_or_fail(backend, why)
    return server.run(port or free_port(), str(directory))


@pytest.mark.backends("redis-cluster", "valkey-cluster")
async def test_a_cluster_that_is_gone(backend: str, runtime: Runtime, tmp_path: Path) -> None:
    with run_private(backend, tmp_path) as running:
        kv = runtime.adapt(backends.MAKERS[backend](tmp_path, running.url, timeout=1.0))
        await kv.put_many(["k", "l", "m"], [{}, {}, {}])
    late = runtime.adapt(backends.MAKERS[backend](tmp_path, running.url, timeout=1.0))
    for store in (kv, late):
        calls = [partial(store.get, "k"), partial(store.put_many, ["k", "l", "m"], [{}, {}, {}], ttl=5)]
        await assert_raised(StoreConnectionError, "Store", *calls)


@pytest.mark.backends("redis", "valkey", "memcached")
async def test_an_answer_that_drips_does_not_outlast_the_timeout(backend: str, runtime: Runtime, proxy: Proxy, tmp_path: Path) -> None:
    kv = runtime.adapt(backends.MAKERS[backend](tmp_path, proxy.url, timeout=0.5))
    value = {"x": "x" * 1000}
    await kv.put("k", value)
    proxy.drip = 0.02  # seconds a byte: the value takes 20
    started = time.monotonic()
    await assert_raised(StoreConnectionError, "in time", lambda: kv.get("k"), lambda: kv.get_many(["k", "l"]))
    assert time.monotonic() - started < 10
    proxy.drip = 0.0
    assert await runtime.eventually(lambda: kv.get("k")) == value


class Worker:
    """One task of a mixed load, on a key of its own. It keeps in mind what may be stored."""

    def __init__(self, number: int) -> None:
        self.key = f"key-{number}"
        self.possible: list[dict[str, Any] | None] = [None]
        self.acknowledged = 0
        self.is_over = False
        self._drawn = random.Random(number)

    async def run(self, kv: Any) -> None:
        turn = 0
        while not self.is_over:
            turn += 1
            value = {"of": self.key, "turn": turn}
            try:
                choice = self._drawn.random()
                if choice < 0.5:
                    self.possible.append(value)
                    await kv.put(self.key, value)
                    self.possible = [value]
                    self.acknowledged += 1
                elif choice < 0.6:
                    self.possible.append(None)
                    await kv.delete(self.key)
                    self.possible = [None]
                else:
                    assert await kv.get(self.key) in self.possible
            except StoreConnectionError:
                await anyio.sleep(0.01)


@pytest.mark.backends(*SERVERS)
@pytest.mark.runtimes("asyncio")
async def test_a_server_killed_under_load_keeps_what_it_acknowledged(backend: str, runtime: Runtime, tmp_path: Path) -> None:
    port = free_port()
    workers = [Worker(number) for number in range(10)]
    with ExitStack() as stack:
        running = stack.enter_context(run_private(backend, tmp_path, port))
        limit = {} if backend == "keyring" else {"timeout": 2.0}  # there a prompt waits for a person
        kv: Any = backends.MAKERS[backend](tmp_path, running.url, **limit)
        async with anyio.create_task_group() as group:
            for worker in workers:
                group.start_soon(worker.run, kv)
            with anyio.fail_after(60):
                while sum(worker.acknowledged for worker in workers) < 100:  # noqa: ASYNC110 # nothing tells when
                    await anyio.sleep(0.01)
            running.process.kill()
            await anyio.sleep(0.3)  # in which the nodes of a cluster that are left send callers to the one that is gone
            for worker in workers:
                worker.is_over = True
        if backend != "mongodb-replicaset":  # what is left of it goes on
            stack.close()
            stack.enter_context(run_private(backend, tmp_path, port))
        for worker in workers:
            value = await runtime.eventually(lambda worker=worker: kv.get(worker.key))
            assert value in worker.possible or (backend == "memcached" and value is None), worker.key
            await runtime.eventually(lambda worker=worker: kv.put(worker.key, {"of": worker.key}))
            assert await kv.get(worker.key) == {"of": worker.key}
        await kv.close()


# Loops and threads


def test_one_loop_after_another_runs_many_tasks(backend: str, make_raw: Make) -> None:  # H-48
    store: Any = make_raw()

    async def work(number: int) -> None:
        value = {"n": number}
        await store.put(f"k{number}", value)
        assert await store.get(f"k{number}") == value
        assert await store.get_many([f"k{number}", "missing"]) == [value, None]
        assert await store.delete(f"k{number}") is True

    async def main(turn: int) -> None:
        if turn:
            assert await store.get("k") == {"turn": turn - 1}
        await store.put("k", {"turn": turn})
        async with anyio.create_task_group() as group:
            for number in range(20 if backend in backends.SLOW else 50):  # more than a pool has connections or threads
                group.start_soon(work, number)

    for turn in range(5):
        anyio.run(main, turn, backend="trio" if turn == 2 else "asyncio")
    with BlockingKeyValue(store) as kv:
        assert kv.get("k") == {"turn": 4}


def test_loops_in_threads_at_once(make_raw: Make) -> None:
    store: Any = make_raw()
    barrier = threading.Barrier(4)

    async def work(number: int) -> None:
        await store.get("k")
        barrier.wait(60)
        for turn in range(scale(10, 25)):
            await store.put(f"k{number}", {"n": number, "turn": turn})
            values = await asyncio.gather(*(store.get(f"k{number}") for _ in range(3)))
            assert values == [{"n": number, "turn": turn}] * 3

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: asyncio.run(work(number)), range(4)))
    asyncio.run(store.close())


def test_threads_on_one_facade(make_raw: Make) -> None:
    with BlockingKeyValue(make_raw()) as kv:

        def work(number: int) -> None:
            for turn in range(scale(10, 25)):
                kv.put(f"k{number}", {"n": number, "turn": turn})
                assert kv.get_many([f"k{number}", "missing"]) == [{"n": number, "turn": turn}, None]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))


def test_a_loop_that_ends_without_close_leaves_nothing_open(backend: str, url: str, make_raw: Make) -> None:
    before = connections(url)

    def run(loop: str) -> None:
        store: Any = make_raw()

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(store.put, f"k{number}", {})
            assert connections(url) > before or backend == "keyring"

        anyio.run(main, backend=loop)
        if loop == "asyncio" and backend not in SYNCHRONOUS:  # what was used in threads, the next loop may use
            await_connections(url, before)

    for loop in loops_of(backend):
        with no_warnings():
            run(loop)
        await_connections(url, before)


def test_a_store_that_is_dropped_leaves_nothing_open(backend: str, url: str, make_raw: Make) -> None:
    before = connections(url)

    async def main() -> None:
        for _ in range(3):
            store = make_raw()
            await store.put("k", {})
            del store
            gc.collect()
            await asyncio.sleep(0.1)  # closing may tell the server

    def use_inline() -> None:
        BlockingKeyValue(make_raw()).put("k", {})

    with no_warnings():
        asyncio.run(main())
        await_connections(url, before)
    with no_warnings() if backend != "redis-cluster" else nullcontext():  # redis-py itself leaves a node's connection to the collector
        use_inline()
    await_connections(url, before)


END = """
import asyncio, os, pathlib, warnings
from keyvalue.blocking import BlockingKeyValue
from tests.makers import MAKERS
warnings.simplefilter("error")
backend, url = os.environ["BACKEND"], os.environ["URL"]
stores = [MAKERS[backend](pathlib.Path(), url) for _ in range(2)]
async def main(store, raises):
    await store.put("k", {})
    if raises:
        raise KeyError
asyncio.run(main(stores[0], False))
try:
    asyncio.run(main(stores[1], True))
except KeyError:
    pass
assert [BlockingKeyValue(store).get("k") for store in stores] == [{}, {}]
"""


def test_a_process_that_ends_without_close_says_nothing(backend: str, url: str) -> None:
    assert run_fresh(END, BACKEND=backend, URL=url) == ""
