"""Who is compared: for each store and runtime, the predecessor, the bare client with the same JSON work, and this library."""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import time
from typing import Any, NamedTuple

import anyio.to_thread
import diskcache
from key_value.aio.stores.disk import DiskStore as TheirDisk
from key_value.aio.stores.disk import MultiDiskStore as TheirMultiDisk
from key_value.aio.stores.filetree import FileTreeStore as TheirFileTree
from key_value.aio.stores.memory import MemoryStore as TheirMemory
from key_value.aio.stores.rocksdb import RocksDBStore as TheirRocksDB
from key_value.aio.stores.simple import SimpleStore as TheirSimple
from network import BARE, Bare, Runtime, predecessor
from rocksdict import Rdict, WriteBatch

from keyvalue._core import codec
from keyvalue._core.entry import Entry
from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.disk import DiskStore, MultiDiskStore
from keyvalue.stores.filetree import FileTreeStore
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.rocksdb import RocksDBStore
from keyvalue.stores.simple import SimpleStore

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.backends import MAKERS  # where the tests are

RUNTIMES: Sequence[Runtime] = ("asyncio", "trio", "blocking")
OPERATIONS = ("get", "put", "get_many", "put_many")
TASKS = "100 tasks"
"""The operation, on asyncio and network stores, of so many tasks at once, each of which puts and gets."""

SMALL: dict[str, Any] = {"name": "Alice", "email": "alice@example.com", "age": 30, "tags": ["a", "b"], "active": True, "score": 0.5}
# The metadata of a distribution, as the quickstart stores it: about 600 bytes of JSON.
METADATA: dict[str, Any] = {
    "name": "redis",
    "version": "8.1.0",
    "summary": "Python client for Redis database and key-value store",
    "requires_python": ">=3.10",
    "requires": [f"package-{number}>=1.{number}; extra == 'group-{number}'" for number in range(6)],
    "classifiers": [f"Programming Language :: Python :: 3.{number}" for number in range(10, 15)],
    "files": 123,
    "editable": False,
}
RECORD = METADATA if os.environ.get("KEYVALUE_BENCH_RECORD") == "metadata" else SMALL
KEYS = [f"key-{number}" for number in range(100)]
RECORDS = [RECORD] * len(KEYS)


def _nothing() -> None:
    pass


class Contender(NamedTuple):
    """One way to do the operations. The calls are coroutine functions, except on the runtime "blocking"."""

    who: str
    runtime: Runtime
    calls: Mapping[str, Callable[[], Any]]
    close: Callable[[], Any] = _nothing


def collection(who: str, runtime: Runtime) -> str:
    """Return the collection of a contender, so that those on one server don't share entries."""
    return f"benchmark-{who}-{runtime}"


def of_store(who: str, runtime: Runtime, store: Any) -> Contender:
    """Make a contender of any object with the methods of the protocol, of either colour."""
    calls: dict[str, Callable[[], Any]] = {
        "put_many": partial(store.put_many, KEYS, RECORDS),
        "put": partial(store.put, KEYS[0], RECORD),
        "get_many": partial(store.get_many, KEYS),
        "get": partial(store.get, KEYS[0]),
    }

    async def one(key: str) -> None:
        await store.put(key, RECORD)
        await store.get(key)

    async def tasks() -> None:
        await asyncio.gather(*map(one, KEYS))

    if runtime == "asyncio":
        calls[TASKS] = tasks
    return Contender(who, runtime, calls, getattr(store, "close", _nothing))


def of_client(runtime: Runtime, client: Bare, through: Callable[..., Any], wrap: bool = True) -> Contender:
    """Make a contender of a bare client.

    Args:
        runtime: Where it is called.
        client: The client.
        through: How one of its functions is called on an event loop.
        wrap: Whether the record is kept in a document, as by all stores but the one in memory.
    """
    prefix = collection("bare", runtime)
    key, names = KEYS[0], [f"{prefix}::{key}" for key in KEYS]
    name = names[0]

    # The same JSON work: this library's own codec, called directly.
    def dump(key: str, record: dict[str, Any]) -> Any:
        json = codec.encode(record)
        return client.text(Entry(prefix, key, None, json, time(), None).document()) if wrap else json

    def load(text: Any) -> Any:
        if not wrap:
            return codec.decode(text)
        return Entry.from_document(text.encode() if isinstance(text, str) else text, prefix, key).value()

    def dump_many() -> dict[str, Any]:
        texts = codec.encode_many(RECORDS)
        if not wrap:
            return dict(zip(names, texts, strict=True))
        now = time()
        return {
            name: client.text(Entry(prefix, key, None, json, now, None).document())
            for name, key, json in zip(names, KEYS, texts, strict=True)
        }

    async def get() -> Any:
        return load(await through(client.get, name))

    async def put() -> None:
        await through(client.set, name, dump(key, RECORD))

    async def get_many() -> Any:
        return [load(text) for text in await through(client.mget, names)]

    async def put_many() -> None:
        await through(client.mset, dump_many())

    async def one(name: str) -> None:
        await through(client.set, name, dump(key, RECORD))
        load(await through(client.get, name))

    async def tasks() -> None:
        await asyncio.gather(*map(one, names))

    if runtime == "blocking":
        calls: dict[str, Callable[[], Any]] = {
            "put_many": lambda: client.mset(dump_many()),
            "put": lambda: client.set(name, dump(key, RECORD)),
            "get_many": lambda: [load(text) for text in client.mget(names)],
            "get": lambda: load(client.get(name)),
        }
    else:
        calls = {"put_many": put_many, "put": put, "get_many": get_many, "get": get}
        if runtime == "asyncio":
            calls[TASKS] = tasks
    return Contender("bare", runtime, calls, client.close)


async def directly(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of something that never waits."""
    return function(*args)


def awaited(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function that returns an awaitable."""
    return function(*args)


def in_thread(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    """Call a function that blocks."""
    return anyio.to_thread.run_sync(function, *args)


def contenders(store: str, directory: str, url: str | None) -> list[Contender]:
    """Open all contenders for a store; the directory is an empty one."""
    place: dict[str, Callable[[str], dict[str, Any]]] = {
        "memory": lambda _: {},
        "simple": lambda _: {},
        "multi-disk": lambda name: {"base_directory": Path(directory, name)},
        "filetree": lambda name: {"data_directory": Path(directory, name)},
        "disk": lambda name: {"directory": os.path.join(directory, name)},
        "rocksdb": lambda name: {"path": os.path.join(directory, name)},
    }
    kinds: dict[str, tuple[Any, Any]] = {
        "memory": (TheirMemory, MemoryStore),
        "simple": (TheirSimple, SimpleStore),
        "disk": (TheirDisk, DiskStore),
        "multi-disk": (TheirMultiDisk, MultiDiskStore),
        "filetree": (TheirFileTree, FileTreeStore),
        "rocksdb": (TheirRocksDB, RocksDBStore),
    }

    def make(is_ours: bool, runtime: Runtime) -> Any:
        name = collection("keyvalue" if is_ours else "predecessor", runtime)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the predecessor warns of stores that it calls unstable
            if store in kinds:
                return kinds[store][is_ours](**place[store](name), default_collection=name)
            assert url is not None
            return MAKERS[store](Path(directory), url, default_collection=name) if is_ours else predecessor(store, url, name)

    found = [of_store("predecessor", "asyncio", make(False, "asyncio"))]
    for runtime in RUNTIMES:
        found.append(_bare(store, runtime, os.path.join(directory, collection("bare", runtime)), url))
        mine = make(True, runtime)
        found.append(of_store("keyvalue", runtime, BlockingKeyValue(mine) if runtime == "blocking" else mine))
    return found


def _bare(store: str, runtime: Runtime, path: str, url: str | None) -> Contender:
    if store in ("memory", "simple"):
        entries: dict[str, bytes] = {}

        def pick(names: list[str]) -> list[bytes]:
            return [entries[name] for name in names]

        return of_client(runtime, Bare(entries.__getitem__, entries.__setitem__, pick, entries.update, _nothing), directly, wrap=False)
    if store in ("disk", "multi-disk"):
        cache: Any = diskcache.Cache(path, eviction_policy="none")

        def get_many(names: list[str]) -> list[str]:
            return [cache.get(name) for name in names]

        def set_many(texts: dict[str, str]) -> None:
            with cache.transact():
                for name, text in texts.items():
                    cache.set(name, text)

        return of_client(runtime, Bare(cache.get, cache.set, get_many, set_many, cache.close, bytes.decode), in_thread)
    if store == "filetree":
        os.mkdir(path)

        def read(name: str) -> bytes:
            return Path(path, name).read_bytes()

        def read_many(names: list[str]) -> list[bytes]:
            return [read(name) for name in names]

        def write_many(texts: dict[str, bytes]) -> None:
            for name, text in texts.items():
                with open(os.path.join(path, "draft"), "wb") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(file.name, os.path.join(path, name))
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)

        def write_one(name: str, text: bytes) -> None:
            write_many({name: text})

        return of_client(runtime, Bare(read, write_one, read_many, write_many, _nothing), in_thread)
    if store == "rocksdb":
        db: Any = Rdict(path)

        def write(texts: dict[str, bytes]) -> None:
            batch = WriteBatch()
            for name, text in texts.items():
                batch.put(name, text)
            db.write(batch)

        return of_client(runtime, Bare(db.get, db.put, db.get, write, db.close), in_thread)
    assert url is not None
    return of_client(runtime, BARE[store](url, runtime), awaited if runtime == "asyncio" else in_thread)


class ThirdParty:
    """A store of somebody else: eight coroutine functions and no base class."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str | None, str], dict[str, Any]] = {}

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return self.entries.get((collection, key))

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        return self.entries.get((collection, key)), None

    async def put(self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: Any = None) -> None:
        self.entries[collection, key] = dict(value)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        return self.entries.pop((collection, key), None) is not None

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        return [await self.get(key, collection=collection) for key in keys]

    async def ttl_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[tuple[dict[str, Any] | None, float | None]]:
        return [await self.ttl(key, collection=collection) for key in keys]

    async def put_many(
        self, keys: Sequence[str], values: Sequence[Mapping[str, Any]], *, collection: str | None = None, ttl: Any = None
    ) -> None:
        for key, value in zip(keys, values, strict=True):
            await self.put(key, value, collection=collection, ttl=ttl)

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        return sum([await self.delete(key, collection=collection) for key in keys])
