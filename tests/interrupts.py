"""Interrupts calls of the synchronous façade at random moments, as Ctrl-C does, and prints what is wrong afterwards.

`python -m tests.interrupts disk 1000` interrupts a thousand calls. A backend with a server wants its URL as a third argument.
"""

# ruff: noqa: T201 # a program that prints

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from keyvalue._core import runtime
from keyvalue.blocking import BlockingKeyValue
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.passthrough_cache import PassthroughCacheWrapper
from keyvalue.wrappers.statistics import StatisticsWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from tests.makers import MAKERS

WRAPPERS: Mapping[str, Callable[[AsyncKeyValue], AsyncKeyValue]] = {
    "passthrough-cache": lambda store: PassthroughCacheWrapper(store, MemoryStore(), negative_ttl=0.01),
    "statistics": StatisticsWrapper,
    "timeout": TimeoutWrapper,  # on a loop in a background thread
}
ALONE = ("memory", "simple", "rocksdb", *WRAPPERS)
"""Those of which no second store can be open on the same data."""
PATIENCE = 30.0
"""Seconds after which a call counts as hanging."""
CALLS: Mapping[str, Callable[[Any, int], object]] = {
    "put": lambda kv, number: kv.put("k", {"n": number, "text": "x" * 100}, collection="c"),
    "get": lambda kv, number: kv.get("k", collection="c"),
    "get of a missing key": lambda kv, number: kv.get("missing", collection="c"),
    "put_many": lambda kv, number: kv.put_many(["k", "l"], [{"n": number}, {"n": number}], collection="c", ttl=1000),
    "delete": lambda kv, number: kv.delete("l", collection="c"),
}


class Interrupt(BaseException):
    """What the handler of the signal raises, in the manner of KeyboardInterrupt."""


def interrupt(*_: object) -> None:
    raise Interrupt


def make_interrupted(call: Callable[[], object], seconds: float) -> bool:
    """Make a call and interrupt it after some time; return whether it was done by then."""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        call()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except (Interrupt, SystemError):  # the latter is what C code of a client makes of it
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return True


def find_faults(kv: Any, other: Any, rounds: int, seed: int) -> Generator[str, None, None]:
    """Interrupt calls at random moments, and yield what is wrong after each.

    Args:
        kv: The façade whose calls are interrupted.
        other: Another one over the same data, or None.
        rounds: How many calls.
        seed: Of the moments.
    """
    dice = random.Random(seed)
    lasts: dict[str, float] = {}
    for name, call in CALLS.items():
        call(kv, 0)
        start = time.perf_counter()
        for _ in range(5):
            call(kv, 0)
        lasts[name] = (time.perf_counter() - start) / 5
    pool = ThreadPoolExecutor(2)  # another thread would wait for ever for a lock that was left held
    descriptors, interrupted, allowed = count_descriptors(), 0, {0}
    for number in range(1, rounds + 1):
        name = dice.choice(list(CALLS))

        def check(number: int = number) -> Any:
            value = kv.get("k", collection="c")
            kv.get("missing", collection="c")
            kv.put("mine", {"n": number}, collection="c")
            if other is not None:
                other.put("theirs", {"n": number}, collection="c")
            return value, kv.get("mine", collection="c")

        is_done = make_interrupted(partial(CALLS[name], kv, number), max(1e-6, dice.uniform(0, 1.2 * lasts[name])))
        interrupted += not is_done
        if name.startswith("put"):
            allowed = {number} if is_done else {*allowed, number}
        where = f"{number}, {name}: "
        if runtime.is_inline():
            yield where + "the thread counts as one that runs inline"
            return
        try:
            value, mine = pool.submit(check).result(PATIENCE)
        except Exception as error:  # noqa: BLE001 # whatever it is, it is reported
            yield where + f"{type(error).__name__}: {str(error)[:200]}"
            return
        if value is None or value["n"] not in allowed:
            yield where + f"get returned {str(value)[:50]}, not one of {sorted(allowed)}"
        elif mine != {"n": number}:
            yield where + "a later put is lost"
        else:
            allowed = {value["n"]}
    if not interrupted:
        yield "no call was interrupted"
    if count_descriptors() > descriptors + 20:
        yield f"{count_descriptors() - descriptors} files or connections are left open"
    print(f"{interrupted} of {rounds} calls were interrupted", file=sys.stderr)


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def main(backend: str, rounds: str, url: str = "", seed: str = "0") -> int:
    signal.signal(signal.SIGALRM, interrupt)
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        make = MAKERS.get(backend, lambda *_: WRAPPERS[backend](MemoryStore()))
        other = None if backend in ALONE else BlockingKeyValue(make(where, url))
        faults = list(find_faults(BlockingKeyValue(make(where, url)), other, int(rounds), int(seed)))
        drafts = list(where.rglob("~drafts/*"))
        if drafts:
            faults.append(f"{len(drafts)} drafts are left")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # calls that hang would keep it from ending
