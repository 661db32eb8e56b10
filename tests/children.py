"""Processes that use a store and can be killed. They are forked from one that has imported the stores, so they start in milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import StoreRefusedError
from tests.makers import MAKERS

FULL = 2**20
"""Bytes in a file at which `fill_the_disk` finds the disk full."""

_IMPORTED = [__name__, "keyvalue.stores.disk", "keyvalue.stores.filetree", "keyvalue.stores.rocksdb"]


@contextmanager
def child(work: Callable[..., None], *arguments: object) -> Generator[tuple[BaseProcess, Any], None, None]:
    """Run a function of this module in a process of its own, which is killed at the end of the block.

    Its first argument is the connection that it sends on. Yields the process, and the connection to receive on.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(sender, *arguments), daemon=True)
    process.start()
    sender.close()
    try:
        yield process, receiver
    finally:
        process.kill()
        process.join()
        receiver.close()


def write_until_killed(sender: Connection, backend: str, where: Path, seed: int) -> None:
    """Put entries into the collection "c" for ever. Say of each what is put, before ("put") and after ("did") it is."""
    dice = random.Random(seed)
    kv = BlockingKeyValue(MAKERS[backend](where, ""))
    for number in count():
        key, size = f"k{dice.randrange(20)}", dice.choice([10, 1000, 100_000])
        sender.send(("put", key, (seed, number, size)))
        kv.put(key, {"seed": seed, "number": number, "text": "x" * size}, collection="c")
        sender.send(("did", key, (seed, number, size)))


def put_until_step(sender: Connection, backend: str, where: Path, value: dict[str, Any], step: int) -> None:
    """Put a value under "k", and be killed at a step: before so many calls that open, rename, link, make or remove a file."""
    left = step

    def count_down(event: str, _: object) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.link", "os.mkdir", "os.remove"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count_down)
    with BlockingKeyValue(MAKERS[backend](where, "")) as kv:
        kv.put("k", value)
    sender.send("done")


def hold_open(sender: Connection, backend: str, where: Path) -> None:
    """Put "k", say so, and keep the store open."""
    with BlockingKeyValue(MAKERS[backend](where, "")) as kv:
        kv.put("k", {"theirs": True})
        sender.send("open")
        signal.pause()


def fill_the_disk(sender: Connection, backend: str, where: Path) -> None:
    """Put more than fits, also over the entries "old0" to "old49", say how each attempt failed, and put "after" when there is room again.

    A limit on the size of a file stands for a full disk: writing fails in the same way, in the middle of a file.
    """
    import resource  # which Windows does not have

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    kv = BlockingKeyValue(MAKERS[backend](where, ""))
    kv.put_many([f"old{number}" for number in range(50)], [{"text": "x" * 1000}] * 50)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, resource.RLIM_INFINITY))
    fits, too_large = {"text": "y" * 300_000}, {"text": "y" * 3_000_000}
    attempts: list[Callable[[], None]] = [
        lambda: kv.put("new", too_large),
        lambda: kv.put("old0", too_large),
        lambda: kv.put_many(["old1", "old2"], [fits, too_large]),
    ]
    failures: list[str] = []
    for attempt in attempts * 2:
        try:
            attempt()
        except StoreRefusedError as error:
            failures.append(str(error))
        else:
            failures.append("none")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    kv.put("after", {})
    kv.close()
    sender.send(failures)
