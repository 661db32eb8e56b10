"""Measure the predecessor, the bare clients and this library side by side; see README.md."""

from __future__ import annotations

import argparse
import inspect
import json
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal
from contenders import KEYS, OPERATIONS, RECORD, RUNTIMES, TASKS, Contender, ThirdParty, contenders, of_store
from network import BARE, Runtime

from keyvalue.blocking import BlockingKeyValue
from tests.servers.registry import SERVERS

EMBEDDED = ("memory", "simple", "disk", "multi-disk", "filetree", "rocksdb")
STORES = (*EMBEDDED, *BARE)
SAMPLE = 0.005  # seconds that one contender's turn takes, about
LONGEST = 20.0  # seconds for one operation of all contenders, if these are enough for the fewest rounds
FEWEST = 9
MODULES = ("keyvalue", "keyvalue.stores.memory", "key_value.aio.stores.memory")

LOOPS = (("valkey", "put_many"), ("dynamodb", "get_many"), ("dynamodb", "put_many"))
"""Where the predecessor makes one call after another, and one would do."""

Portals = Mapping[Runtime, BlockingPortal]
Times = dict[tuple[str, str, str, str], float]  # (store, runtime, operation, who): median of the seconds a call takes


class Bar(NamedTuple):
    """A ratio of two medians, and what it must not exceed, or must reach."""

    text: str
    limit: float
    of: tuple[str, str, str, str]
    to: tuple[str, str, str, str]
    at_least: bool = False


def bars() -> Iterator[Bar]:
    """Yield the bars."""
    for operation in OPERATIONS:
        of, to = (("memory", "asyncio", operation, who) for who in ("predecessor", "keyvalue"))
        limit = 20 if operation.endswith("_many") else 8
        yield Bar(f"MemoryStore {operation}, times as fast as the predecessor", limit, of, to, at_least=True)
    text: str
    runtimes: tuple[str, str]
    who: str
    for store, text, runtimes, who, limit in (
        ("disk", "DiskStore {} on asyncio / bare client in a thread", ("asyncio", "asyncio"), "bare", 1.3),
        ("rocksdb", "RocksDBStore {} on asyncio / bare client in a thread", ("asyncio", "asyncio"), "bare", 1.3),
        ("memory", "façade over MemoryStore {} / async call", ("blocking", "asyncio"), "keyvalue", 1.5),
        ("rocksdb", "façade over RocksDBStore {} / bare client", ("blocking", "blocking"), "bare", 1.3),
        *((store, f"{store} {{}} on trio / on asyncio", ("trio", "asyncio"), "keyvalue", 2.5) for store in BARE),
        *((store, f"façade over {store} {{}} / bare sync client", ("blocking", "blocking"), "bare", 1.25) for store in BARE),
    ):
        for operation in OPERATIONS:
            yield Bar(text.format(operation), limit, (store, runtimes[0], operation, "keyvalue"), (store, runtimes[1], operation, who))
    for store in BARE:
        for operation in ("get", "put"):
            of, to = ((store, "asyncio", operation, who) for who in ("keyvalue", "bare"))
            yield Bar(f"{store} {operation} on asyncio / bare async client", 1.15, of, to)
        for operation in ("get_many", "put_many", TASKS):
            limit = 1.2 if operation == TASKS else 5 if (store, operation) in LOOPS else 1
            of, to = ((store, "asyncio", operation, who) for who in ("predecessor", "keyvalue"))
            yield Bar(f"{store} {operation}, times as fast as the predecessor", limit, of, to, at_least=True)
    for operation in ("get", "put"):
        of, to = (("portal", "blocking", operation, who) for who in ("keyvalue", "bare"))
        yield Bar(f"third-party store {operation} through the portal / bare portal.call", 1.3, of, to)
    predecessor = ("import", "", MODULES[2], "")
    yield Bar("import keyvalue.stores.memory / predecessor's", 1, ("import", "", MODULES[1], ""), predecessor)
    yield Bar('import keyvalue / predecessor\'s memory store ("much less": half)', 0.5, ("import", "", MODULES[0], ""), predecessor)


def time_blocking(call: Callable[[], Any], count: int) -> float:
    """Return the seconds that a call takes."""
    start = perf_counter()
    for _ in range(count):
        call()
    return (perf_counter() - start) / count


async def time_awaiting(call: Callable[[], Any], count: int) -> float:
    """Return the seconds that awaiting a call takes."""
    start = perf_counter()
    for _ in range(count):
        await call()
    return (perf_counter() - start) / count


def sample(portals: Portals, contender: Contender, operation: str, count: int) -> float:
    """Let one contender do an operation for some time, on its runtime, while the other runtimes are idle."""
    call = contender.calls[operation]
    if contender.runtime == "blocking":
        return time_blocking(call, count)
    return portals[contender.runtime].call(time_awaiting, call, count)


def measure(portals: Portals, store: str, found: Sequence[Contender], operations: Sequence[str], rounds: int) -> Times:
    """Let all contenders take turns, so that what else goes on in the machine hits all alike."""
    times: Times = {}
    for contender in found:
        for operation in contender.calls:  # writes come first
            sample(portals, contender, operation, 2)
    for operation in operations:
        able = [contender for contender in found if operation in contender.calls]
        once = [min(sample(portals, contender, operation, 3) for _ in range(3)) for contender in able]
        counts = [max(1, round(SAMPLE / seconds)) for seconds in once]
        samples: list[list[float]] = [[] for _ in able]
        affordable = LONGEST / sum(count * seconds for count, seconds in zip(counts, once, strict=True))
        for turn in range(min(rounds, max(FEWEST, int(affordable)))):
            for offset in range(len(able)):
                index = (turn + offset) % len(able)  # nobody always comes after the same one
                samples[index].append(sample(portals, able[index], operation, counts[index]))
        for contender, values in zip(able, samples, strict=True):
            times[store, contender.runtime, operation, contender.who] = median(values)
    return times


def measure_store(portals: Portals, store: str, url: str | None, rounds: int) -> Times:
    """Measure one store on all runtimes."""
    with tempfile.TemporaryDirectory() as directory:
        found = contenders(store, directory, url)
        try:
            return measure(portals, store, found, OPERATIONS if store in EMBEDDED else (*OPERATIONS, TASKS), rounds)
        finally:
            for contender in found:
                close_on(portals, contender)


def close_on(portals: Portals, contender: Contender) -> None:
    """Close a contender on its own runtime."""

    async def close() -> None:
        result = contender.close()
        if inspect.isawaitable(result):
            await result

    if contender.runtime == "blocking":
        contender.close()
    else:
        portals[contender.runtime].call(close)


def measure_portal(portals: Portals, rounds: int) -> Times:
    """Measure a store that is none of ours through the façade, and what the hop to another thread alone takes."""

    async def nothing() -> None:
        pass

    store = ThirdParty()
    with BlockingKeyValue(store) as facade, start_blocking_portal("asyncio") as portal:
        call = cast("Callable[..., Any]", portal.call)
        found = [
            Contender("bare", "blocking", {"put": partial(call, store.put, KEYS[0], RECORD), "get": partial(call, store.get, KEYS[0])}),
            of_store("keyvalue", "blocking", facade),
            Contender("empty", "blocking", {"get": partial(call, nothing), "put": partial(call, nothing)}),
            of_store("awaited", "asyncio", store),
        ]
        return measure(portals, "portal", found, ("get", "put"), rounds)


def measure_imports(rounds: int) -> Times:
    """Measure imports in fresh interpreters."""
    program = "from time import perf_counter as now; start = now(); import {}; print(now() - start)"
    samples: dict[str, list[float]] = {module: [] for module in MODULES}
    for _ in range(rounds):
        for module, values in samples.items():
            output = subprocess.run([sys.executable, "-c", program.format(module)], check=True, capture_output=True, text=True).stdout
            values.append(float(output))
    return {("import", "", module, ""): median(values[1:] or values) for module, values in samples.items()}


def print_store(store: str, times: Times) -> None:
    """Print one store's times and ratios."""
    print(f"\n{store:<22}{'predecessor':>14}{'bare':>12}{'keyvalue':>12}{'keyvalue/bare':>16}{'predecessor/keyvalue':>23}")
    for runtime in RUNTIMES:
        for operation in (*OPERATIONS, TASKS):
            theirs, bare, ours = (times.get((store, runtime, operation, who)) for who in ("predecessor", "bare", "keyvalue"))
            if bare is None or ours is None:
                continue
            row = f"  {runtime:<10}{operation:<10}{_micro(theirs):>14}{_micro(bare):>12}{_micro(ours):>12}{ours / bare:>16.2f}"
            print(row + ("" if theirs is None else f"{theirs / ours:>23.1f}"))


def print_portal(times: Times) -> None:
    """Print what a call through the portal takes, and what of that the hop to the other thread and back takes alone."""
    ours, bare, empty = (_micro(times["portal", "blocking", "get", who]) for who in ("keyvalue", "bare", "empty"))
    direct = _micro(times["portal", "asyncio", "get", "awaited"])
    print(f"\nthird-party store, get: façade {ours}, bare portal.call {bare}, awaited on the loop {direct}")
    print(f"  waking one thread and then the other dominates: portal.call of an empty coroutine function takes {empty}")


def _micro(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e6:.1f} µs"


def print_bars(times: Times) -> list[dict[str, Any]]:
    """Print the bars that were measured, and return them."""
    verdicts: list[dict[str, Any]] = []
    print(f"\n{'bar':<72}{'limit':>7} | measured |")
    for bar in bars():
        if bar.of not in times or bar.to not in times:
            continue
        ratio = times[bar.of] / times[bar.to]
        ok = ratio >= bar.limit if bar.at_least else ratio <= bar.limit
        limit = f"{'≥' if bar.at_least else '≤'} {bar.limit:g}"
        print(f"{bar.text:<72}{limit:>7} | {ratio:>8.2f} | {'ok' if ok else 'over'}")
        verdicts.append({"bar": bar.text, "limit": bar.limit, "at_least": bar.at_least, "measured": ratio, "ok": ok})
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=61, help="turns that each contender takes (default 61)")
    parser.add_argument("--store", choices=(*STORES, "portal", "import"), action="append", help="measure only this; may be repeated")
    parser.add_argument("--json", metavar="FILE", help="also write the results to a file")
    options = parser.parse_args()
    chosen: Sequence[str] = options.store or (*STORES, "portal", "import")
    warnings.filterwarnings("ignore", module="key_value")

    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}; medians of {options.rounds} rounds")
    times: Times = {}
    with (
        ExitStack() as servers,
        start_blocking_portal("asyncio") as on_asyncio,
        start_blocking_portal("trio") as on_trio,
    ):
        portals: Portals = {"asyncio": on_asyncio, "trio": on_trio}
        for store in filter(STORES.__contains__, chosen):
            url = None
            if store in SERVERS:
                why = SERVERS[store].missing()
                if why is not None:
                    print(f"\n{store}: left out ({why})")
                    continue
                url = servers.enter_context(SERVERS[store].running())
            times |= measure_store(portals, store, url, options.rounds)
            print_store(store, times)
        if "portal" in chosen:
            times |= measure_portal(portals, options.rounds)
            print_portal(times)
    if "import" in chosen:
        times |= measure_imports(min(options.rounds, 15))
        print("\n" + "\n".join(f"import {module:<30}{times['import', '', module, ''] * 1e3:>9.1f} ms" for module in MODULES))
    verdicts = print_bars(times)
    if options.json:
        names = ("store", "runtime", "operation", "who")
        results = [{**dict(zip(names, which, strict=True)), "seconds": seconds} for which, seconds in times.items()]
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"python": platform.python_version(), "rounds": options.rounds, "results": results, "bars": verdicts}, file, indent=1)


if __name__ == "__main__":
    main()
