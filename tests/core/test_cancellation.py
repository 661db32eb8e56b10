"""Cancelled calls: nothing lands late, connections stay in step, nobody else is hurt."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from keyvalue._core import runtime
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import KeyValueOperationError, StoreConnectionError, StoreSetupError
from keyvalue.stores.base import BaseStore, Client, Entry
from keyvalue.stores.redis import RedisStore
from keyvalue.wrappers.base import BaseWrapper
from tests import backends

loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


class SlowClient:
    """A client that only blocks, slowed down on purpose: each write takes as long as its turn says."""

    def __init__(self, delays: Sequence[float]) -> None:
        self.delays = list(delays)
        self.values: dict[str, bytes] = {}
        self.closed_while_writing = False
        self._writing = 0

    def put(self, key: str, value: bytes) -> None:
        self._writing += 1
        time.sleep(self.delays.pop(0) if self.delays else 0)
        self.values[key] = value
        self._writing -= 1

    def close(self) -> None:
        self.closed_while_writing = self._writing > 0


class SlowStore(BaseStore):
    runs_inline = True

    def __init__(self, client: SlowClient, *, exclusive: bool = False) -> None:
        super().__init__()
        self._client = Client("SlowStore", make=lambda: client, exclusive=exclusive)

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        found = await self._use(lambda client: [client.values.get(key) for key in keys])
        return [None if json is None else Entry(collection, key, json=json) for key, json in zip(keys, found, strict=True)]

    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        for entry in entries:
            await self._use(lambda client, entry=entry: client.put(entry.key, entry.json))

    async def _delete(self, collection: str, keys: Sequence[str]) -> int:
        return await self._use(lambda client: sum(client.values.pop(key, None) is not None for key in keys))


@loops
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_cancelled_put_never_lands_after_a_later_one(loop: str, exclusive: bool) -> None:
    async def main() -> None:
        client = SlowClient([0.2, 0.0])
        async with SlowStore(client, exclusive=exclusive) as kv:
            started = time.monotonic()
            with anyio.move_on_after(0.02) as scope:
                await kv.put("k", {"v": "old"})
            assert scope.cancelled_caught
            assert time.monotonic() - started < 0.15, "the cancelled call must return at once"
            await kv.put("k", {"v": "new"})
            assert await kv.get("k") == {"v": "new"}
            await anyio.sleep(0.25)
            assert await kv.get("k") == {"v": "new"}

    anyio.run(main, backend=loop)


@loops
def test_other_keys_do_not_wait_for_an_abandoned_put(loop: str) -> None:
    async def main() -> None:
        client = SlowClient([0.3])
        async with SlowStore(client) as kv:
            with anyio.move_on_after(0.02):
                await kv.put("k", {"v": "old"})
            started = time.monotonic()
            await kv.put("other", {"v": 1})
            await kv.put("k", {"v": 1}, collection="other")
            assert await kv.get("other") == {"v": 1}
            assert time.monotonic() - started < 0.2
            assert await kv.get("k") is not None  # waits: a read, too, is a later call
            assert time.monotonic() - started > 0.2

    anyio.run(main, backend=loop)


@loops
def test_closing_waits_for_abandoned_work(loop: str) -> None:
    async def main() -> None:
        client = SlowClient([0.1])
        kv = SlowStore(client)
        with anyio.move_on_after(0.02):
            await kv.put("k", {"v": "old"})
        await kv.close()
        assert client.values
        assert not client.closed_while_writing

    anyio.run(main, backend=loop)


@loops
def test_a_put_that_waits_for_its_thread_is_dropped_when_cancelled(loop: str) -> None:
    async def main() -> None:
        client = SlowClient([0.1])
        async with SlowStore(client, exclusive=True) as kv:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: kv.put("first", {}))
                await anyio.sleep(0.02)
                with anyio.move_on_after(0.02):
                    await kv.put("k", {"v": "never"})
            assert await kv.get("k") is None
        assert list(client.values) == ["first"]

    anyio.run(main, backend=loop)


def test_abandoned_work_of_one_loop_is_waited_for_in_another_thread() -> None:
    client = SlowClient([0.2])
    kv = SlowStore(client)

    async def abandon() -> None:
        with anyio.move_on_after(0.02):
            await kv.put("k", {"v": "old"})

    anyio.run(abandon)
    with BlockingKeyValue(kv) as facade:
        facade.put("k", {"v": "new"})
        time.sleep(0.25)
        assert facade.get("k") == {"v": "new"}


class Proxy:
    """Forwards one TCP port to another, like a bad network: it can hold back what is sent, and cut connections instead of an answer."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.delay = 0.0
        self.cuts = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, delayed: bool) -> None:
        try:
            while data := source.recv(65536):
                delay, self.delay = (self.delay, 0.0) if delayed else (0.0, self.delay)
                time.sleep(delay)
                if not delayed and self.cuts:
                    self.cuts -= 1
                    break
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def close(self) -> None:
        self._listener.close()


@contextmanager
def proxied(url: str) -> Generator[tuple[Proxy, str], None, None]:
    host, _, port = url.removeprefix("redis://").partition("/")[0].partition(":")
    proxy = Proxy((host, int(port)))
    try:
        yield proxy, f"redis://127.0.0.1:{proxy.port}/0"
    finally:
        proxy.close()


@loops
def test_a_cancelled_put_over_a_slow_network_never_lands_after_a_later_one(loop: str, redis_url: str) -> None:
    async def main() -> None:
        with proxied(redis_url) as (proxy, url):
            async with RedisStore(url=url) as kv:
                await kv.put("k", {"v": "first"})
                proxy.delay = 0.3
                started = time.monotonic()
                with anyio.move_on_after(0.05) as scope:
                    await kv.put("k", {"v": "old"})
                assert scope.cancelled_caught
                assert time.monotonic() - started < 0.25
                await kv.put("k", {"v": "new"})
                assert await kv.get("k") == {"v": "new"}
                await anyio.sleep(0.4)
                assert await kv.get("k") == {"v": "new"}

    anyio.run(main, backend=loop)


def test_an_abandoned_put_on_the_blocked_loop_is_a_clear_error(redis_url: str) -> None:
    async def main() -> None:
        with proxied(redis_url) as (proxy, url):
            async with RedisStore(url=url) as kv:
                await kv.get("k")
                proxy.delay = 0.2
                with anyio.move_on_after(0.05):
                    await kv.put("k", {"v": "old"})
                with pytest.raises(KeyValueOperationError, match="synchronous call blocks"):
                    BlockingKeyValue(kv).get("k")
                assert await kv.get("k") == {"v": "old"}

    anyio.run(main)


@loops
@pytest.mark.backends(*backends.PERSISTENT)
def test_calls_cancelled_at_random_moments_leave_every_answer_right(loop: str, make_raw: Callable[..., Any], backend: str) -> None:
    async def main() -> None:
        dice = random.Random(7)
        async with make_raw() as kv:
            await kv.put_many([f"k{number}" for number in range(200)], [{"n": number} for number in range(200)])
            for number in range(200):
                with anyio.move_on_after(dice.random() * 0.002):
                    await dice.choice(
                        [lambda n: kv.get(f"k{n}"), lambda n: kv.put(f"k{n}", {"n": n}), lambda n: kv.get_many([f"k{n}", "x"])]
                    )(number)
            for number in range(200):
                assert await kv.get(f"k{number}") == {"n": number}

    anyio.run(main, backend=loop)


@loops
def test_closing_under_cancellation_still_closes(loop: str, tmp_path: Path) -> None:
    from keyvalue.stores.rocksdb import RocksDBStore  # whose client does not import under Wine

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with RocksDBStore(path=tmp_path / "rocksdb") as kv:
                await kv.put("k", {"a": 1})
                scope.cancel()
        assert scope.cancel_called
        for _ in range(100):  # the lock is released once the thread that closes is done
            try:
                async with RocksDBStore(path=tmp_path / "rocksdb") as kv:
                    assert await kv.get("k") == {"a": 1}
                return
            except StoreSetupError:
                await anyio.sleep(0.01)
        raise AssertionError("the first store was never closed")

    anyio.run(main, backend=loop)


class SlowOpening(BaseStore):
    """A store whose opening takes a while, and fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.opened = 0
        self.failures = failures

    async def _open(self) -> None:
        await anyio.sleep(0.02)
        if self.failures:
            self.failures -= 1
            raise OSError("not yet")
        self.opened += 1
        assert await self.get("k") is None  # a store may use itself while it opens

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        return [None] * len(keys)

    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        raise AssertionError

    async def _delete(self, collection: str, keys: Sequence[str]) -> int:
        raise AssertionError


@loops
def test_cancelled_opening_fails_nobody_else(loop: str) -> None:
    async def main() -> None:
        kv = SlowOpening()
        async with anyio.create_task_group() as group:

            async def impatient() -> None:
                with anyio.move_on_after(0.005):
                    await kv.get("k")

            group.start_soon(impatient)
            await anyio.sleep(0.001)
            for _ in range(5):
                group.start_soon(lambda: kv.get("k"))
        assert kv.opened == 1

    anyio.run(main, backend=loop)


@loops
def test_failed_opening_can_be_tried_again(loop: str) -> None:
    async def main() -> None:
        kv = SlowOpening(failures=1)
        with pytest.raises(StoreSetupError, match="not yet") as caught:
            await kv.get("k")
        assert isinstance(caught.value.__cause__, OSError)
        assert await kv.get("k") is None
        assert kv.opened == 1

    anyio.run(main, backend=loop)


def test_opening_happens_once_across_loops_and_threads(tmp_path: Path) -> None:
    kv = SlowOpening()

    async def many() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(lambda: kv.get("k"))

    threads = [threading.Thread(target=anyio.run, args=(many,), kwargs={"backend": name}) for name in ("asyncio", "trio", "asyncio")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kv.opened == 1


def test_an_abandoned_put_on_the_blocked_loop_is_a_clear_error_through_the_portal(redis_url: str) -> None:
    async def main() -> None:
        with proxied(redis_url) as (proxy, url):
            async with RedisStore(url=url) as kv:
                await kv.get("k")
                proxy.delay = 0.2
                with anyio.move_on_after(0.05):
                    await kv.put("k", {"v": "old"})
                facade = BlockingKeyValue(BaseWrapper(kv))
                with pytest.raises(KeyValueOperationError, match="synchronous call blocks"):
                    facade.get("k")
                assert await kv.get("k") == {"v": "old"}
                assert facade.get("k") == {"v": "old"}
                facade.close()

    anyio.run(main)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_forked_child_waits_for_no_call_of_the_parents(exclusive: bool) -> None:
    client = SlowClient([0.0, 1.0])
    kv = SlowStore(client, exclusive=exclusive)
    runtime.drive(kv.put("k", {"v": "first"}))
    thread = threading.Thread(target=lambda: runtime.drive(kv.put("k", {"v": "slow"})))
    thread.start()
    time.sleep(0.1)
    started = time.monotonic()
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage ends with os._exit
        signal.alarm(5)
        os._exit(0 if runtime.drive(kv.get("k")) == {"v": "first"} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert time.monotonic() - started < 0.8
    thread.join()
    runtime.drive(kv.close())


def test_an_answer_that_is_lost_is_no_answer(redis_url: str) -> None:
    with proxied(redis_url) as (proxy, url), BlockingKeyValue(RedisStore(url=url)) as kv:
        kv.put("k", {"a": 1})
        proxy.cuts = 1
        assert kv.get("k") == {"a": 1}
        for delete in (lambda: kv.delete("k"), lambda: kv.delete_many(["k"])):
            kv.put("k", {"a": 1})
            proxy.cuts = 1
            with pytest.raises(StoreConnectionError):  # it was deleted; sent again, the command would say that it was not there
                delete()
            assert kv.get("k") is None
