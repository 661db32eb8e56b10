"""Calls that are interrupted by a signal, calls of a signal's handler, and calls at the end of the process."""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from keyvalue._core.slots import ThreadSlots
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import KeyValueOperationError
from keyvalue.stores._drivers.disk_cache import SharedCache
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.timeout import TimeoutWrapper
from tests import backends
from tests.budget import scale
from tests.interpreter import run_fresh, run_python
from tests.interrupts import WRAPPERS
from tests.makers import MAKERS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timer that sends signals")

BACKENDS = [name for name in backends.STORING if name not in ("windows-registry", "wrapped", "filetree-v1", "mongodb-replicaset")]


def assert_no_faults(*arguments: str) -> None:
    # The warning is of a coroutine that was interrupted before its start.
    result = run_python("-W", "ignore::RuntimeWarning", "-m", "tests.interrupts", *arguments, seconds=500)
    assert (result.stdout.strip(), result.returncode) == ("", 0), result.stderr


@pytest.mark.backends(*BACKENDS)
def test_an_interrupted_call_harms_no_later_one(backend: str, url: str) -> None:
    rounds = scale(20, 200) if backend in backends.SLOW else scale(100, 1000)
    assert_no_faults(backend, str(rounds), url)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_an_interrupted_call_leaves_wrappers_usable(wrapper: str) -> None:
    rounds = 3000 if wrapper == "timeout" else scale(300, 3000)  # its fault was rare: less misses it now and then
    assert_no_faults(wrapper, str(rounds))


@pytest.mark.backends(*BACKENDS)
def test_an_exit_handler_uses_a_store(backend: str, url: str, tmp_path: Path) -> None:
    # The asynchronous clients of the two look up hosts in a thread, and none can be started then.
    ways = ["facade"] if backend in ("dynamodb", "mongodb") else ["facade", "asyncio"]
    for how in ways:
        result = run_python("-m", "tests.at_exit", backend, how, str(tmp_path / how), url)
        assert (how, result.stdout.strip(), result.stderr) == (how, "{'n': 1} {'n': 2}", "")


@pytest.mark.backends("mongodb")
def test_a_given_client_is_not_closed_at_exit(url: str) -> None:
    program = """
        import atexit, os
        from pymongo import MongoClient
        client = MongoClient(os.environ["URL"])
        atexit.register(lambda: print(client.admin.command("ping")["ok"]))  # before the import, so it runs last
        from keyvalue.stores.mongodb import MongoDBStore
        store = MongoDBStore(client=client)
    """
    assert run_fresh(dedent(program), URL=url) == "1.0"


@pytest.mark.backends(*(name for name in BACKENDS if name != "rocksdb"))  # which opens a database once
def test_the_handler_of_a_signal_does_not_wait_for_the_first_call(backend: str, make_raw: Callable[..., Any]) -> None:
    found: list[Any] = []

    def handle(*_: object) -> None:
        try:
            found.append(kv.get("missing"))
        except KeyValueOperationError as error:
            found.append(None if "handler of a signal" in str(error) and "disk" in backend else error)

    before = signal.signal(signal.SIGUSR1, handle)
    dice = random.Random(0)
    try:
        for number in range(1, 6):
            kv: Any = BlockingKeyValue(make_raw())
            sender = threading.Timer(0.003 * dice.random(), signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
            sender.start()
            kv.put("k", {"n": number})
            sender.join()
            assert kv.get("k") == {"n": number}
            assert found == [None] * number
            kv.close()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.backends("valkey")
def test_a_handler_does_not_wait_for_the_lock_under_which_glide_makes_a_client(url: str) -> None:
    program = """
        import os, signal, threading, cffi
        from urllib.parse import urlsplit
        from keyvalue.blocking import BlockingKeyValue
        from keyvalue.stores.valkey import ValkeyStore

        def type_of_signalled(ffi, name):  # the lock is held
            cffi.FFI._typeof_locked = type_of
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            return type_of(ffi, name)

        type_of, cffi.FFI._typeof_locked = cffi.FFI._typeof_locked, type_of_signalled
        kv = BlockingKeyValue(ValkeyStore(host="127.0.0.1", port=urlsplit(os.environ["URL"]).port))
        signal.signal(signal.SIGUSR1, lambda *_: print(kv.get("missing")))
        kv.put("k", {"n": 1})
        print(kv.get("k"))
    """
    assert run_fresh(dedent(program), URL=url) == "None\n{'n': 1}"


def test_an_interrupt_at_any_moment_costs_no_slot() -> None:
    class Interrupt(BaseException):
        pass

    def interrupt(*_: object) -> None:
        if is_armed:
            raise Interrupt

    slots, dice, is_armed = ThreadSlots(1), random.Random(0), False
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(scale(1000, 20_000)):
            try:
                is_armed = True
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(2e-6, 4e-5))
                while True:
                    slots.run(int)
            except Interrupt:
                is_armed = False
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(slots.run, int).result(20) == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_handler_of_a_signal_uses_a_store_on_a_loop_at_any_moment() -> None:
    kv = BlockingKeyValue(TimeoutWrapper(MemoryStore(), 60))
    handled = 0

    def handle(*_: object) -> None:
        nonlocal handled
        handled += 1
        kv.put("handler", {"n": handled})
        signal.setitimer(signal.ITIMER_REAL, 0.002 + 0.001 * dice.random())

    dice = random.Random(0)
    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        while handled < 200:
            kv.put("k", {"n": handled})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert kv.get("handler") == {"n": handled}
    kv.close()


def test_a_handler_is_refused_in_the_middle_of_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it put would be lost if the transaction is rolled back after all."""
    kv: Any = BlockingKeyValue(MAKERS["disk"](tmp_path, ""))
    kv.put("k", {"n": 1})
    errors: list[Exception] = []

    def handle(*_: object) -> None:
        try:
            kv.put("handler", {})
        except KeyValueOperationError as error:
            errors.append(error)
        sys.exit(3)

    def set_and_signal(cache: Any, *row: Any) -> Any:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        return set_row(cache, *row)

    set_row = SharedCache.set
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        monkeypatch.setattr(SharedCache, "set", set_and_signal)
        with pytest.raises(SystemExit):
            kv.put_many(["k", "l"], [{"n": 2}, {"n": 2}])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(errors) == 1
    assert kv.get_many(["k", "l", "handler"]) == [{"n": 1}, None, None]
    kv.close()
