"""What every store over a network has to stand: cancellation, servers that stop, hang and die, loops that come and go."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import StoreConnectionError
from keyvalue.testing._contract import offers
from keyvalue.testing._runtime import Awaited, step
from keyvalue.wrappers.timeout import TimeoutWrapper
from tests import backends
from tests.runtimes import Runtime
from tests.servers import Running, Server, free_port
from tests.servers.redis import cluster, valkey_server
from tests.servers.registry import SERVERS

pytestmark = pytest.mark.backends(*SERVERS)
SINGLE = [name for name in SERVERS if not name.endswith(("-cluster", "-replicaset"))]
FORGETFUL = {"memcached"}
"""Servers that keep nothing when they end."""
SYNCHRONOUS = {"vault"}
"""Those that there is no asynchronous client for."""

UNTIMED = {"keyring"}
"""Stores whose calls have no time limit: a prompt waits for a person."""

Empty = Callable[[str], str]
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "trio"])


def connections(url: str) -> int:
    """Return how many connections this process has to a server, over TCP."""
    gc.collect()
    port = urlsplit(url).port
    if port is None:
        return 0
    inodes: set[str] = set()
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[2].endswith(f":{port:04X}"):
                inodes.add(fields[9])
    held: list[str] = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            held += re.findall(r"socket:\[(\d+)\]", os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    return len(inodes.intersection(held))


def await_connections(url: str, most: int) -> None:
    """Wait until no more connections are open than that; clients of other tests may have some."""
    deadline = time.monotonic() + 10
    while connections(url) > most:
        assert time.monotonic() < deadline, f"{connections(url) - most} connections were left open"
        time.sleep(0.01)


@contextmanager
def no_warnings() -> Generator[None, None, None]:
    """Fail if something was dropped without being closed."""
    gc.collect()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(warning.message) for warning in warned] == []


def limited(backend: str, seconds: float) -> dict[str, Any]:
    """Return the parameter of a store that limits the time of its calls, if it has one."""
    return {} if backend in UNTIMED else {"timeout": seconds}


def private(name: str) -> Server:
    server = SERVERS[name]
    if server.absent() is not None:
        pytest.skip(f"{server.absent()}")
    return server


class Cancelled:
    """A store on which calls are to be cancelled, and what must then still be right."""

    def __init__(self, kv: Any) -> None:
        self.kv = kv
        self.keys = [f"key-{number}" for number in range(20)]
        self.values = [{"of": key} for key in self.keys]
        self._lists = offers(kv, "collections")
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
        """Make some call."""
        key = self._drawn.choice(self.keys)
        listing: list[Callable[[], Awaitable[Any]]] = [kv.keys, kv.collections] if self._lists else []
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: kv.get(key),
            lambda: kv.get_many(self.keys),
            lambda: kv.put(key, {"of": key}, ttl=600),
            lambda: kv.put_many(self.keys, self.values),
            lambda: kv.ttl(key),
            lambda: kv.delete("other"),
            lambda: kv.delete_many(["other", "another"]),
            *listing,
        ]
        await self._drawn.choice(calls)()

    async def check(self) -> None:
        for _ in range(10):
            for key in self.keys:
                assert await self.kv.get(key) == {"of": key}
        await self.kv.delete(self.keys[0])
        assert await self.kv.get_many(self.keys) == [None, *self.values[1:]]


@LOOPS
def test_answers_are_right_after_cancellations(backend: str, loop: str, empty_server: Empty, tmp_path: Path) -> None:
    url = empty_server(backend)
    before = connections(url)

    async def main() -> None:
        async with backends.MAKERS[backend](tmp_path, url) as kv:  # pyright: ignore[reportGeneralTypeIssues] # stores are context managers
            test = Cancelled(kv)
            with anyio.fail_after(60):
                await test.fill()
            cancelled = 0
            for _ in range(200):
                with anyio.move_on_after(test.seconds()) as scope:
                    await test.call(kv)
                cancelled += scope.cancelled_caught
            assert cancelled > 0
            await test.check()

    anyio.run(main, backend=loop)
    await_connections(url, before)


def test_answers_are_right_after_timeouts_in_synchronous_code(backend: str, empty_server: Empty, tmp_path: Path) -> None:
    url = empty_server(backend)
    before = connections(url)
    wrapper = TimeoutWrapper(backends.MAKERS[backend](tmp_path, url), 60)

    async def main(kv: Any) -> None:
        test = Cancelled(kv)
        await test.fill()
        cancelled = 0
        for _ in range(200):
            wrapper.timeout = test.seconds()
            try:
                await test.call(kv)
            except TimeoutError:
                cancelled += 1
        assert cancelled > 0
        wrapper.timeout = 60
        await test.check()

    with BlockingKeyValue(wrapper) as facade:
        step(main(Awaited(facade)))
    await_connections(url, before)


@LOOPS
def test_many_tasks_at_once(backend: str, loop: str, empty_server: Empty, tmp_path: Path) -> None:
    async def main() -> None:
        async with backends.MAKERS[backend](tmp_path, empty_server(backend)) as kv:  # pyright: ignore[reportGeneralTypeIssues] # likewise

            async def work(number: int) -> None:
                key = f"k{number}"
                for turn in range(3):
                    await kv.put(key, {"n": number, "turn": turn})
                    assert await kv.get(key) == {"n": number, "turn": turn}
                    assert await kv.get_many([key, "missing"]) == [{"n": number, "turn": turn}, None]
                assert await kv.delete(key) is True

            async with anyio.create_task_group() as group:
                for number in range(100):
                    group.start_soon(work, number)

    anyio.run(main, backend=loop)


@pytest.mark.backends(*SINGLE, "redis-cluster", "valkey-cluster")
async def test_a_server_that_stops_and_comes_back(backend: str, runtime: Runtime, tmp_path: Path) -> None:
    server, port, directory = private(backend), free_port(), tmp_path / "data"
    directory.mkdir()

    def running() -> Any:
        assert server.private is not None
        return server.private(port, str(directory))

    with running() as first:
        kv = runtime.adapt(backends.MAKERS[backend](tmp_path, first.url, **limited(backend, 1.0)))
        await kv.put("k", {"a": 1})
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: kv.get("k"),
        lambda: kv.put("k", {}),
        lambda: kv.put_many(["k", "l"], [{}, {}], ttl=5),
        lambda: kv.delete("k"),
    ]
    operations = ["get", "put", "put_many", "delete"]
    for call, operation in zip(calls, operations, strict=True):
        with pytest.raises(StoreConnectionError) as caught:
            await call()
        assert caught.value.__cause__ is not None
        host = {} if backend == "keyring" else {"host": f"127.0.0.1:{port}"}
        assert caught.value.extra_info == {**host, "operation": operation}
    with running():
        await runtime.eventually(lambda: kv.put("k", {"a": 2}))
        assert await kv.get("k") == {"a": 2}
        assert await kv.get_many(["k", "l"]) == [{"a": 2}, None]


@pytest.mark.backends(*(name for name in SINGLE if name not in UNTIMED))
async def test_a_server_that_hangs(backend: str, runtime: Runtime, tmp_path: Path) -> None:
    server = private(backend)
    assert server.private is not None
    with server.private(free_port(), str(tmp_path)) as running:
        kv = runtime.adapt(backends.MAKERS[backend](tmp_path, running.url, timeout=1.0))
        await kv.put("k", {"a": 1})
        with running.suspended():
            with pytest.raises(StoreConnectionError):
                await kv.get("k")
            with pytest.raises(StoreConnectionError):
                await kv.put("l", {})
        assert await runtime.eventually(lambda: kv.get("k")) == {"a": 1}
        await runtime.eventually(lambda: kv.put("k", {"a": 2}))
        assert await kv.get("k") == {"a": 2}


@pytest.mark.backends("redis", "valkey", "memcached", "mongodb", "dynamodb", "elasticsearch", "vault")
async def test_first_calls_on_a_server_that_never_answers(backend: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        scheme = {"mongodb": "mongodb", "dynamodb": "http", "elasticsearch": "http", "vault": "http"}.get(backend, "redis")
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        kv: Any = backends.MAKERS[backend](tmp_path, url, timeout=1.0)
        failures: list[StoreConnectionError] = []

        async def call() -> None:
            with pytest.raises(StoreConnectionError) as caught:
                await kv.get("k")
            failures.append(caught.value)

        with anyio.fail_after(12):  # trying one after the other, they would take 20 seconds
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(call)
        assert len(set(map(id, failures))) == 20
        await kv.close()


@pytest.mark.backends("redis-cluster", "valkey-cluster")
async def test_a_cluster_that_is_gone(backend: str, runtime: Runtime, tmp_path: Path) -> None:
    private(backend)
    with cluster(valkey_server() if backend == "valkey-cluster" else "redis-server") as running:
        kv = runtime.adapt(backends.MAKERS[backend](tmp_path, running.url, timeout=1.0))
        await kv.put_many(["k", "l", "m"], [{}, {}, {}])
    late = runtime.adapt(backends.MAKERS[backend](tmp_path, running.url, timeout=1.0))
    for store in (kv, late):
        for call in (lambda store=store: store.get("k"), lambda store=store: store.put_many(["k", "l", "m"], [{}, {}, {}], ttl=5)):
            with pytest.raises(StoreConnectionError):
                await call()


class Worker:
    """One task of a mixed load, on a key of its own. It keeps in mind what may be stored."""

    def __init__(self, number: int) -> None:
        self.key = f"key-{number}"
        self.possible: list[dict[str, Any] | None] = [None]
        self.acknowledged = 0
        self._drawn = random.Random(number)

    async def run(self, kv: Any, runtime: Runtime, over: threading.Event) -> None:
        turn = 0
        while not over.is_set():
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
                    self.check(await kv.get(self.key), forgetful=False)
            except StoreConnectionError:
                await runtime.sleep(0.01)

    def check(self, value: dict[str, Any] | None, forgetful: bool) -> None:
        assert value in self.possible or (forgetful and value is None), self.key


@pytest.mark.parametrize("runtime_name", ["asyncio", "threads"])  # on trio it is the same clients as in threads
def test_a_server_killed_under_load_keeps_what_it_acknowledged(backend: str, runtime_name: str, tmp_path: Path) -> None:
    server, port, directory = private(backend), free_port(), tmp_path / "data"
    directory.mkdir()
    workers = [Worker(number) for number in range(10)]
    over = threading.Event()

    def running() -> Any:
        assert server.private is not None
        return server.private(port, str(directory))

    def kill(running: Running) -> None:
        deadline = time.monotonic() + 60
        while sum(worker.acknowledged for worker in workers) < 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        running.process.kill()
        time.sleep(0.3)  # in which the nodes of a cluster that are left send callers to the one that is gone
        over.set()

    async def load(store: Any) -> None:
        async with anyio.create_task_group() as group:
            for worker in workers:
                group.start_soon(worker.run, store, Runtime("asyncio"), over)

    async def check(kv: Any, runtime: Runtime) -> None:
        for worker in workers:
            worker.check(await runtime.eventually(lambda worker=worker: kv.get(worker.key)), backend in FORGETFUL)
            await runtime.eventually(lambda worker=worker: kv.put(worker.key, {"of": worker.key}))
            assert await kv.get(worker.key) == {"of": worker.key}

    async def main(store: Any, first: Running, restart: Callable[[], None]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(load, store)
            await anyio.to_thread.run_sync(kill, first)
        await anyio.to_thread.run_sync(restart)
        await check(store, Runtime("asyncio"))
        await store.close()

    def main_of_threads(kv: BlockingKeyValue, first: Running, restart: Callable[[], None]) -> None:
        direct = Runtime("direct")
        with ThreadPoolExecutor(len(workers)) as pool:
            running = [pool.submit(step, worker.run(Awaited(kv), direct, over)) for worker in workers]
            kill(first)
        for future in running:
            future.result()
        restart()
        step(check(Awaited(kv), direct))
        kv.close()

    with ExitStack() as stack:
        first = stack.enter_context(running())

        def restart() -> None:
            if backend != "mongodb-replicaset":  # what is left of it goes on
                stack.close()
                stack.enter_context(running())

        store: Any = backends.MAKERS[backend](tmp_path, first.url, **limited(backend, 2.0))
        if runtime_name == "threads":
            main_of_threads(BlockingKeyValue(store), first, restart)
        else:
            anyio.run(main, store, first, restart, backend=runtime_name)


def test_one_loop_after_another(backend: str, empty_server: Empty, tmp_path: Path) -> None:  # H-48
    store: Any = backends.MAKERS[backend](tmp_path, empty_server(backend))

    async def main(turn: int) -> None:
        if turn:
            assert await store.get("k") == {"turn": turn - 1}
        await store.put("k", {"turn": turn})
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(store.get, "k")

    for turn in range(5):
        anyio.run(main, turn, backend="trio" if turn == 2 else "asyncio")
    with BlockingKeyValue(store) as kv:
        assert kv.get("k") == {"turn": 4}


def test_loops_in_threads_at_once(backend: str, empty_server: Empty, tmp_path: Path) -> None:
    store: Any = backends.MAKERS[backend](tmp_path, empty_server(backend))
    barrier = threading.Barrier(4)

    async def work(number: int) -> None:
        await store.get("k")
        barrier.wait(60)
        for turn in range(25):
            await store.put(f"k{number}", {"n": number, "turn": turn})
            values = await asyncio.gather(*(store.get(f"k{number}") for _ in range(3)))
            assert values == [{"n": number, "turn": turn}] * 3

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: asyncio.run(work(number)), range(4)))
    asyncio.run(store.close())


def test_threads_on_one_facade(backend: str, empty_server: Empty, tmp_path: Path) -> None:
    with BlockingKeyValue(backends.MAKERS[backend](tmp_path, empty_server(backend))) as kv:

        def work(number: int) -> None:
            for turn in range(25):
                kv.put(f"k{number}", {"n": number, "turn": turn})
                assert kv.get_many([f"k{number}", "missing"]) == [{"n": number, "turn": turn}, None]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))


@LOOPS
def test_a_loop_that_ends_without_close_leaves_nothing_open(backend: str, loop: str, empty_server: Empty, tmp_path: Path) -> None:
    url = empty_server(backend)
    before = connections(url)

    def run() -> None:
        store: Any = backends.MAKERS[backend](tmp_path, url)

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(store.put, f"k{number}", {})
            assert connections(url) > before or backend == "keyring"

        anyio.run(main, backend=loop)
        if loop == "asyncio" and backend not in SYNCHRONOUS:  # what was used in threads, the next loop may use
            await_connections(url, before)

    with no_warnings() if (backend, loop) != ("redis-cluster", "trio") else nullcontext():  # see below
        run()
    await_connections(url, before)


def test_a_store_that_is_dropped_leaves_nothing_open(backend: str, empty_server: Empty, tmp_path: Path) -> None:
    url = empty_server(backend)
    before = connections(url)

    async def main() -> None:
        for _ in range(3):
            store = backends.MAKERS[backend](tmp_path, url)
            await store.put("k", {})
            del store
            gc.collect()
            await asyncio.sleep(0.1)  # closing may tell the server

    def inline() -> None:
        BlockingKeyValue(backends.MAKERS[backend](tmp_path, url)).put("k", {})

    with no_warnings():
        asyncio.run(main())
        await_connections(url, before)
    with no_warnings() if backend != "redis-cluster" else nullcontext():  # redis-py itself leaves a node's connection to the collector
        inline()
    await_connections(url, before)


END = """
import asyncio, pathlib, sys, warnings
from keyvalue.blocking import BlockingKeyValue
from tests.makers import MAKERS
warnings.simplefilter("error")
backend, url = sys.argv[1:]
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


def test_a_process_that_ends_without_close_says_nothing(backend: str, empty_server: Empty) -> None:
    command = [sys.executable, "-c", END, backend, empty_server(backend)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
