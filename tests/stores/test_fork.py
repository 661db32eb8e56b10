"""Programs that fork while a store is open: nothing of the parent's or the child's is lost, mixed up, or left hanging."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from keyvalue._core import fork
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import StoreSetupError
from tests import backends, makers
from tests.interpreter import Child, forks, returns_true_in_a_fork, run_fresh

pytestmark = pytest.mark.timeout(180)


def put_and_get(kv: Any, who: str) -> bool:
    """Put entries and read them back, and one that was there before; return whether all were right."""
    right = True
    for number in range(10):
        kv.put(f"{who}{number}", {who: number}, collection="c")
        right &= kv.get(f"{who}{number}", collection="c") == {who: number}
        right &= kv.get("before", collection="c") == {"before": True}
    return right


@contextmanager
def keep_in_use(store: Any, facade: Any) -> Generator[None, None, None]:
    """Have threads use a store all the time, synchronously and on asyncio."""
    stop = threading.Event()

    def use() -> None:
        while not stop.is_set():
            facade.get_many(["before", "other"], collection="c")
            facade.put("other", {}, collection="c")

    async def use_on_a_loop() -> None:
        while not stop.is_set():
            await store.get_many(["before", "other"], collection="c")
            await store.put("other", {}, collection="c")

    threads = [threading.Thread(target=use), threading.Thread(target=lambda: asyncio.run(use_on_a_loop()))]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@forks
@pytest.mark.backends(*(name for name in backends.PERSISTENT if name not in ("rocksdb", "windows-registry")))
@pytest.mark.parametrize("inherited", [False, True], ids=["a new store", "the parent's store in use"])
def test_a_fork_mixes_and_loses_nothing(backend: str, make_raw: Callable[..., Any], inherited: bool) -> None:
    store = make_raw()
    kv: Any = BlockingKeyValue(store)
    kv.put("before", {"before": True}, collection="c")

    def run(wait: Callable[[], object]) -> bool:
        mine = BlockingKeyValue(store if inherited else make_raw())
        first = put_and_get(mine, "child")
        wait()
        second = put_and_get(mine, "late")
        if not inherited:
            mine.close()
        return first and second

    # A fork while another thread is in valkey-glide can leave a lock of its library held in the child.
    with keep_in_use(store, kv) if inherited and not backend.startswith("valkey") else nullcontext():
        child = Child(run)
        assert put_and_get(kv, "parent")
    kv.close()
    child.go_on()
    assert child.exit_code() == 0
    again: Any = BlockingKeyValue(make_raw())
    for who in ("parent", "child", "late"):
        assert again.get_many([f"{who}{number}" for number in range(10)], collection="c") == [{who: number} for number in range(10)]
    again.close()


@forks
@pytest.mark.backends("disk", "multi-disk")
def test_a_fork_waits_for_the_call_under_way(backend: str, make_raw: Callable[..., Any]) -> None:
    store = make_raw()
    kv: Any = BlockingKeyValue(store)
    kv.put("before", {"before": True}, collection="c")
    for _ in range(5):
        with keep_in_use(store, kv):
            children = [Child(lambda _: put_and_get(BlockingKeyValue(store), "child")) for _ in range(3)]
            assert put_and_get(kv, "parent")
        for child in children:
            child.go_on()
            assert child.exit_code() == 0
    kv.close()


@forks
@pytest.mark.backends("rocksdb")
def test_an_open_rocksdb_can_not_be_used_in_a_child(make_raw: Callable[..., Any]) -> None:
    store: Any = make_raw()
    kv: Any = BlockingKeyValue(store)
    kv.put("before", {"before": True}, collection="c")

    def run(wait: Callable[[], object]) -> bool:
        nonlocal store, kv
        mine: Any = BlockingKeyValue(store)
        for call in (lambda: mine.get("before", collection="c"), lambda: mine.put("child", {}, collection="c"), mine.keys):
            with pytest.raises(StoreSetupError, match="before the process forked"):
                call()
        mine.close()
        store = kv = mine = None
        gc.collect()
        return True

    child = Child(run)
    assert put_and_get(kv, "parent")
    child.go_on()
    assert child.exit_code() == 0
    kv.close()


@forks
@pytest.mark.backends("rocksdb")
def test_rocksdb_can_not_be_used_in_a_child_of_who_has_used_it(make_raw: Callable[..., Any], tmp_path: Path) -> None:
    with BlockingKeyValue(make_raw()):
        pass

    def run() -> bool:
        mine: Any = BlockingKeyValue(makers.MAKERS["rocksdb"](tmp_path / "child", ""))
        with pytest.raises(StoreSetupError, match=r"before it forked.*spawn"):
            mine.put("k", {})
        mine.close()
        return True

    assert returns_true_in_a_fork(run)


PROGRAM = """
import os, sys
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.rocksdb import RocksDBStore

kv = BlockingKeyValue(RocksDBStore(path={path!r}))
kv.put("k", {{"a": 1}})
child = os.fork()
if child:
    print(os.waitpid(child, 0)[1], kv.get("k"))
"""


@forks
def test_a_child_of_an_open_rocksdb_ends(tmp_path: Path) -> None:
    assert run_fresh(PROGRAM.format(path=str(tmp_path)), PYTHONWARNINGS="ignore::DeprecationWarning") == "0 {'a': 1}"


WITHOUT_HOOKS = """
import ctypes, os
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.disk import DiskStore

kv = BlockingKeyValue(DiskStore(directory={path!r}))
kv.put("before", {{}})
put, putting = os.pipe()
closed, closing = os.pipe()
child = ctypes.CDLL(None).fork()  # as a server in C does, which calls no hook of Python's
if child == 0:
    kv.put("child", {{}})
    os.write(putting, b"1")
    os.read(closed, 1)
    kv.put("late", {{}})
    os._exit(0)
os.read(put, 1)
kv.put("parent", {{}})
kv.close()
os.write(closing, b"1")
os.waitpid(child, 0)
with BlockingKeyValue(DiskStore(directory={path!r})) as again:
    print(*sorted(again.keys()))
"""


@forks
def test_forks_in_two_threads_come_one_after_the_other() -> None:
    begin, events = threading.Barrier(2), list[tuple[str, int]]()

    class Watcher:
        def _before_fork(self) -> None:
            events.append(("before", threading.get_ident()))
            time.sleep(0.05)  # in which the other thread would do so too

        def _after_fork_in_parent(self) -> None:
            events.append(("after", threading.get_ident()))

    def run(_: int) -> bool:
        begin.wait()
        return returns_true_in_a_fork(lambda: True)

    watcher = Watcher()
    fork.register_around_fork(watcher)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, range(2))) == [True, True]
    (_, first), _, (_, second), _ = events
    assert events == [(what, thread) for thread in (first, second) for what in ("before", "after")]
    assert first != second


@pytest.mark.skipif(sys.platform != "linux", reason="the name of the C library is another one")
def test_a_fork_without_hooks_loses_nothing(tmp_path: Path) -> None:
    assert run_fresh(WITHOUT_HOOKS.format(path=str(tmp_path))) == "before child late parent"
