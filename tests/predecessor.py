"""The real py-key-value-aio beside this library: stores of both, made alike, on the same data."""

from __future__ import annotations

import importlib
import sqlite3
import warnings
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from tests import fake_winreg, makers
from tests.stores.hooks import hooks_of

Strategies = Literal["own", "its"]
"""The sanitization strategies of both stores: each library's own, or the predecessor's in both."""


class Data(NamedTuple):
    """Both libraries on the same data, and a look at it behind their backs.

    Attributes:
        old: The predecessor's store.
        new: Ours.
        names: Returns the names that the backend has.
        plant: Stores the text of a document as that of a collection and key, where the predecessor puts it. Not on every backend.
    """

    old: Any
    new: Any
    names: Callable[[], set[Any]]
    plant: Any = None


class Both(NamedTuple):
    """Makes two stores alike: with strategies for names, if any, and with a default collection."""

    strategies: Strategies | None = None
    default_collection: str | None = None

    def __call__(self, module: str, name: str, *directory: Path, **kwargs: Any) -> tuple[Any, Any]:
        """Return the predecessor's store and ours of the same name. Their strategies, if any, are made with the directory."""
        with fake_winreg.installed(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the predecessor says that some stores are unstable
            ours = importlib.import_module(f"keyvalue.stores.{module}")
            # Its packages don't all pass on the strategies of their `store`.
            its = importlib.import_module(f"key_value.aio.stores.{module}{'' if module == 'disk' else '.store'}")
            made: list[Any] = []
            for library in (its, ours):
                source = its if self.strategies == "its" else library
                for part in ("Key", "Collection"):
                    strategy = getattr(source, f"{name.removesuffix('Store')}V1{part}SanitizationStrategy", None)
                    if self.strategies and strategy:
                        kwargs[f"{part.lower()}_sanitization_strategy"] = strategy(*directory)
                made.append(getattr(library, name)(default_collection=self.default_collection, **kwargs))
        return made[0], made[1]


def _keys_in(directory: Path) -> set[str]:
    with closing(sqlite3.connect(directory / "cache.db")) as connection:
        return {key for (key,) in connection.execute("SELECT key FROM Cache")}


def _disk(_: AsyncExitStack, both: Both, where: Path, __: str) -> Data:
    import diskcache

    directory = where / "disk"

    def plant(collection: str, key: str, text: str) -> None:
        with diskcache.Cache(directory) as cache:
            cache.set(f"{collection}::{key}", text)

    return Data(*both("disk", "DiskStore", directory=directory), lambda: _keys_in(directory), plant)


def _multi_disk(_: AsyncExitStack, both: Both, where: Path, __: str) -> Data:
    base = where / "multi-disk"

    def names() -> set[str]:
        return {f"{found.parent.name}/{key}" for found in base.glob("*/cache.db") for key in _keys_in(found.parent)}

    return Data(*both("disk", "MultiDiskStore", base_directory=base), names)


def _filetree(_: AsyncExitStack, both: Both, where: Path, __: str) -> Data:
    base = where / "filetree"
    base.mkdir()

    def names() -> set[str]:
        return {str(path.relative_to(base)) for path in base.glob("*/**/*.json") if not path.name.endswith("-info.json")}

    metadata = where / "info" if both.strategies else None
    return Data(*both("filetree", "FileTreeStore", where, data_directory=base, metadata_directory=metadata), names)


def _rocksdb(stack: AsyncExitStack, both: Both, where: Path, _: str) -> Data:
    from rocksdict import Rdict

    db = Rdict(str(where / "rocksdb"))
    stack.callback(db.close)
    names = lambda: {str(name) for name in db.keys()}  # noqa: E731, SIM118 # an Rdict is no dict
    stores = both("rocksdb", "RocksDBStore", db=db)
    return Data(*stores, names, lambda collection, key, text: db.put(f"{collection}::{key}", text.encode()))


def _windows_registry(_: AsyncExitStack, both: Both, where: Path, __: str) -> Data:
    path = makers.registry_path(where)
    stores = both("windows_registry", "WindowsRegistryStore", registry_path=path)
    winreg: Any = importlib.import_module("keyvalue.stores.windows_registry").winreg

    def values(path: str) -> list[str]:
        """Return the names of all values below a key of the registry."""
        with winreg.OpenKey(winreg.HKEY_CURRENT_USER, path) as key:
            keys, count, _ = winreg.QueryInfoKey(key)
            below = [winreg.EnumKey(key, index) for index in range(keys)]
            found = [winreg.EnumValue(key, index)[0] for index in range(count)]
        return found + [f"{name}/{value}" for name in below for value in values(f"{path}\\{name}")]

    def plant(collection: str, key: str, text: str) -> None:
        with winreg.CreateKeyEx(winreg.HKEY_CURRENT_USER, f"{path}\\{collection}") as opened:
            winreg.SetValueEx(opened, key, 0, winreg.REG_SZ, text)

    return Data(*stores, lambda: set(values(path)), plant)


def _resp(stores: tuple[Any, Any], client: Any) -> Data:
    names = lambda: {name.decode() for name in client.scan_iter("*")}  # noqa: E731
    return Data(*stores, names, lambda collection, key, text: client.set(f"{collection}::{key}", text))


def _redis(stack: AsyncExitStack, both: Both, _: Path, url: str) -> Data:
    import redis

    return _resp(both("redis", "RedisStore", url=url), stack.enter_context(redis.Redis.from_url(url)))


def _valkey(stack: AsyncExitStack, both: Both, _: Path, url: str, *, cluster: bool = False) -> Data:
    import glide
    import redis

    where: Any = urlsplit(url)
    kind: Any = glide.GlideClusterClientConfiguration if cluster else glide.GlideClientConfiguration
    config = kind([glide.NodeAddress(where.hostname, where.port)], request_timeout=5000)
    client: Any = (redis.RedisCluster if cluster else redis.Redis).from_url(url)
    return _resp(both("valkey", "ValkeyStore", config=config), stack.enter_context(client))


def _memcached(_: AsyncExitStack, both: Both, __: Path, url: str) -> Data:
    from tests.servers.memcached import command, items

    def plant(collection: str, key: str, text: str) -> None:
        command(url, f"set {collection}::{key} 0 0 {len(text)}\r\n{text}".encode())

    where = urlsplit(url)
    return Data(*both("memcached", "MemcachedStore", host=where.hostname, port=where.port), lambda: set(items(url)), plant)


def _dynamodb(_: AsyncExitStack, both: Both, __: Path, url: str) -> Data:
    from tests.servers.dynamodb import CREDENTIALS, TABLE, shared_client

    names = lambda: {f"{collection}::{key}" for _, collection, key in hooks_of("dynamodb").contents(url)}  # noqa: E731

    def plant(collection: str, key: str, text: str) -> None:
        item = {"collection": {"S": collection}, "key": {"S": key}, "value": {"S": text}}
        shared_client(url).put_item(TableName=TABLE, Item=item)

    return Data(*both("dynamodb", "DynamoDBStore", table_name=TABLE, endpoint_url=url, **CREDENTIALS), names, plant)


def _mongodb(stack: AsyncExitStack, both: Both, _: Path, url: str) -> Data:
    from pymongo import MongoClient

    client: Any = stack.enter_context(MongoClient(url))
    database = client["kv-store-adapter"]

    def names() -> set[str]:
        rows = [row for name in database.list_collection_names() for row in database[name].find()]
        return {f"{row['collection']}::{row['key']}" for row in rows}

    return Data(*both("mongodb", "MongoDBStore", url=url), names)


def _elasticsearch(_: AsyncExitStack, both: Both, __: Path, url: str) -> Data:
    stores = both("elasticsearch", "ElasticsearchStore", url=url, index_prefix="KV")
    return Data(*stores, lambda: {*hooks_of("elasticsearch").contents(url)})


def _keyring(_: AsyncExitStack, both: Both, __: Path, url: str) -> Data:
    from tests.servers import keyring

    keyring.session_bus(url)
    stores = both("keyring", "KeyringStore")
    return Data(
        *stores, lambda: keyring.names(url), lambda collection, key, text: keyring.plant(url, f"{collection}::{key}", text.encode())
    )


def _vault(stack: AsyncExitStack, both: Both, _: Path, url: str) -> Data:
    from tests.servers import vault

    client = vault.client(url)
    stack.callback(client.adapter.close)

    def plant(collection: str, key: str, text: str) -> None:
        client.secrets.kv.v2.create_or_update_secret(f"{collection}::{key}", {"value": text})

    return Data(*both("vault", "VaultStore", url=url, token=vault.TOKEN), lambda: vault.names(client), plant)


OPENERS: Mapping[str, Callable[[AsyncExitStack, Both, Path, str], Data]] = {
    "disk": _disk,
    "multi-disk": _multi_disk,
    "filetree": _filetree,
    "filetree-v1": _filetree,
    "rocksdb": _rocksdb,
    "windows-registry": _windows_registry,
    "redis": _redis,
    "valkey": _valkey,
    "valkey-cluster": partial(_valkey, cluster=True),
    "memcached": _memcached,
    "dynamodb": _dynamodb,
    "mongodb": _mongodb,
    "mongodb-replicaset": _mongodb,
    "elasticsearch": _elasticsearch,
    "keyring": _keyring,
    "vault": _vault,
}
"""By backend. Not `redis-cluster`: there the predecessor's bulk calls cross slots."""


@asynccontextmanager
async def opened(
    backend: str, where: Path, url: str, *, strategies: Strategies | None = None, default_collection: str | None = None
) -> AsyncGenerator[Data, None]:
    """Open both libraries on a backend, in a directory or on a server without data."""
    both = Both(strategies or ("own" if backend == "filetree-v1" else None), default_collection)
    async with AsyncExitStack() as stack:
        data = OPENERS[backend](stack, both, where, url)
        for store in (data.old, data.new):
            if hasattr(store, "__aenter__"):  # some of the predecessor's have nothing to close
                await stack.enter_async_context(store)
        yield data
