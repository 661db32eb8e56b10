"""Keep the metadata of every installed distribution in a directory; read it on asyncio, on trio and from synchronous code.

Run `python examples/quickstart.py [DIRECTORY]`. Without a directory it uses a temporary one.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions
from typing import Any

from keyvalue import AsyncKeyValue, KeyValue
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.disk import DiskStore
from keyvalue.stores.memory import MemoryStore

COLLECTION = "distributions"
ONE_HOUR = 3600
FIELDS = ("name", "version", "summary", "requires_python", "requires_dist")


def installed() -> dict[str, dict[str, Any]]:
    """Return the metadata of the installed distributions, by name."""
    found: dict[str, dict[str, Any]] = {}
    for distribution in distributions():
        metadata = distribution.metadata.json
        if isinstance(name := metadata.get("name"), str):
            found.setdefault(name.lower(), {field: metadata.get(field) for field in FIELDS})
    return found


async def store_all(directory: str, records: dict[str, dict[str, Any]]) -> None:
    """Write on asyncio. `async with` opens the store and closes it; without it, the first call opens the store."""
    async with DiskStore(directory=directory) as kv:
        await kv.put_many(list(records), list(records.values()), collection=COLLECTION, ttl=ONE_HOUR)


async def count_equal(kv: AsyncKeyValue, records: dict[str, dict[str, Any]]) -> int:
    """Read through the protocol alone, which every store and wrapper has. This runs on asyncio and on trio."""
    values = await kv.get_many(list(records), collection=COLLECTION)
    return sum(value == record for value, record in zip(values, records.values(), strict=True))


async def read_all(directory: str, records: dict[str, dict[str, Any]]) -> str:
    """Read on whatever loop this runs on."""
    async with DiskStore(directory=directory) as kv:
        return f"{await count_equal(kv, records)} of {len(records)} records read back equal"


def read_all_on_trio(directory: str, records: dict[str, dict[str, Any]]) -> str:
    """Run the same coroutine on trio, if that is installed."""
    if importlib.util.find_spec("trio") is None:
        return "skipped, because trio is not installed"
    import trio  # noqa: PLC0415 - it is optional here

    return trio.run(read_all, directory, records)


def read_all_synchronously(kv: KeyValue, records: dict[str, dict[str, Any]]) -> str:
    """Read without a loop; also one record with the seconds that it has left."""
    equal = sum(kv.get(name, collection=COLLECTION) == record for name, record in records.items())
    name = next(iter(records))
    _, seconds = kv.ttl(name, collection=COLLECTION)
    left = "has expired" if seconds is None else f"expires in {seconds:.0f} s"
    return f"{equal} of {len(records)} records read back equal; {name!r} {left}"


def watch_expiry(kv: KeyValue) -> str:
    """Put an entry with a short time to live and wait until it is gone."""
    kv.put("short-lived", {"answer": 42}, ttl=0.2)
    before = kv.get("short-lived")
    time.sleep(0.25)
    return f"an entry with a TTL of 0.2 s was {before} at first, and {kv.get('short-lived')} after 0.25 s"


def reread(directory: str) -> None:
    """Do what a restarted program does: open the directory and find what lies there."""
    with BlockingKeyValue(DiskStore(directory=directory, auto_create=False)) as kv:
        print(f"new process: {read_all_synchronously(kv, installed())}")


def main() -> None:
    """Parse the command line and run all steps."""
    parser = argparse.ArgumentParser(description="Store the metadata of the installed distributions and read it back.")
    parser.add_argument("directory", nargs="?", help="where to store it (default: a temporary directory)")
    parser.add_argument("--reread", metavar="DIRECTORY", help="only read what an earlier run stored there")
    arguments = parser.parse_args()
    if arguments.reread:
        reread(arguments.reread)
        return
    with tempfile.TemporaryDirectory() as temporary:
        directory: str = arguments.directory or temporary
        records = installed()
        asyncio.run(store_all(directory, records))
        print(f"stored:      the metadata of {len(records)} distributions in {directory}, with a TTL of {ONE_HOUR} s")
        print(f"asyncio:     {asyncio.run(read_all(directory, records))}")
        print(f"trio:        {read_all_on_trio(directory, records)}")
        with BlockingKeyValue(DiskStore(directory=directory)) as kv:
            print(f"synchronous: {read_all_synchronously(kv, records)}")
            print(f"expiry:      {watch_expiry(kv)}")
        subprocess.run([sys.executable, __file__, "--reread", directory], check=True)
        in_memory = MemoryStore(seed={COLLECTION: records})
        print(f"in memory:   {asyncio.run(count_equal(in_memory, records))} of {len(records)} records read back equal from a MemoryStore")


if __name__ == "__main__":
    main()
