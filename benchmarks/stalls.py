"""How long an event loop is held up while values of 30 MB are written and read: `python benchmarks/stalls.py`.

A task wakes up every 5 ms; the longest gap between two of its turns is what other tasks would have had to wait. A call in C that holds the
interpreter's lock stops the loop even from a worker thread, so the longest of those is measured too.
"""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from time import perf_counter
from typing import Any

import orjson
from rocksdict import Rdict

from keyvalue._core import codec
from keyvalue.stores.disk import DiskStore, MultiDiskStore
from keyvalue.stores.filetree import FileTreeStore
from keyvalue.stores.rocksdb import RocksDBStore

TICK = 0.005
VALUES: dict[str, dict[str, Any]] = {
    "text": {"text": "x" * 30_000_000},
    "structured": {"rows": [{"id": number, "name": f"alice{number}", "tags": ["a", "b"]} for number in range(600_000)]},
}


@contextlib.asynccontextmanager
async def ticking() -> AsyncGenerator[list[float], None]:
    """Yield a list whose item is the longest gap, in milliseconds."""
    longest = [0.0]

    async def tick() -> None:
        last = perf_counter()
        while True:
            await asyncio.sleep(TICK)
            now = perf_counter()
            longest[0] = max(longest[0], (now - last - TICK) * 1000)
            last = now

    task = asyncio.create_task(tick())
    await asyncio.sleep(TICK * 4)
    longest[0] = 0.0
    try:
        yield longest
        await asyncio.sleep(TICK * 2)
    finally:
        task.cancel()


async def stores(directory: str) -> None:
    made: dict[str, Callable[[str], Any]] = {
        "disk": lambda path: DiskStore(directory=path),
        "multi-disk": lambda path: MultiDiskStore(base_directory=path),
        "filetree": lambda path: FileTreeStore(data_directory=path),
        "rocksdb": lambda path: RocksDBStore(path=path),
    }
    print(f"{'longest gap, ms':<24}" + "".join(f"{what:>14}" for what in ("put", "get", "delete")))
    for kind, value in VALUES.items():
        for name, make in made.items():
            async with make(os.path.join(directory, f"{name}-{kind}")) as kv:
                await kv.put("warm", {})
                line = f"  {name + ', ' + kind:<22}"
                for method, *arguments in (("put", value), ("get",), ("delete",)):
                    async with ticking() as longest:
                        await getattr(kv, str(method))("k", *arguments)
                    line += f"{longest[0]:>14.0f}"
                print(line)


async def bare_rocksdb(directory: str) -> None:
    database: Any = Rdict(os.path.join(directory, "bare"))
    for call in (lambda: database.put("k", b"x" * 30_000_000), lambda: database.get("k")):
        async with ticking() as longest:
            await asyncio.to_thread(call)
        print(f"  bare rocksdict in a worker thread: {longest[0]:.0f}")
    database.close()


def calls() -> None:
    for kind, value in VALUES.items():
        text = codec.encode(value)
        work: list[tuple[str, Callable[[Any], object], Any]] = [
            ("marshal.dumps", marshal.dumps, value),
            ("orjson.dumps", orjson.dumps, value),
            ("orjson.loads", orjson.loads, text),
        ]
        for name, call, argument in work:
            started = perf_counter()
            call(argument)
            print(f"  {name}, {kind}, {len(text) / 1e6:.0f} MB: {(perf_counter() - started) * 1000:.0f}")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(stores(directory))
        print("calls that hold the interpreter's lock, ms")
        asyncio.run(bare_rocksdb(directory))
        calls()
    print(f"Python {sys.version.split()[0]}, {sys.platform}")


if __name__ == "__main__":
    main()
