"""The real py-key-value-aio beside this library: stores of both, made alike, on the same data."""

from __future__ import annotations

import importlib
import json
import sqlite3
import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from tests import fake_winreg, makers

Strategies = Literal["own", "its"]
"""The sanitization strategies of both stores: each library's own, or the predecessor's in both."""


class Data(NamedTuple):
    """Both libraries on the same data, and a look at it behind their backs.

    Attributes:
        old: The predecessor's store.
        new: Ours.
        names: Returns the names that the backend has.
        plant: Stores a document under the name that the predecessor gives to a collection and key joined by `::`.
    """

    old: Any
    new: Any
    names: Callable[[], set[str]]
    plant: Callable[[str, str], object]


class Both(NamedTuple):
    """Makes two stores alike.

    Attributes:
        strategies: The strategies for names that they get, if any.
        default_collection: Their default collection.
    """

    strategies: Strategies | None = None
    default_collection: str | None = None

    def __call__(self, module: str, name: str, *directory: Path, **kwargs: Any) -> tuple[Any, Any]:
        """Return the predecessor's store and ours of the same name.

        Args:
            module: Where the store is, below `stores`.
            name: The class.
            directory: What its strategies are made with.
            kwargs: What the stores are made with.
        """
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


def _plant_in(directory: Path, name: str, text: str) -> None:
    import diskcache

    with diskcache.Cache(directory) as cache:
        cache.set(name, text)


@contextmanager
def _disk(where: Path, _: str, both: Both) -> Generator[Data, None, None]:
    directory = where / "disk"
    yield Data(*both("disk", "DiskStore", directory=directory), lambda: _keys_in(directory), partial(_plant_in, directory))


@contextmanager
def _multi_disk(where: Path, _: str, both: Both) -> Generator[Data, None, None]:
    base = where / "multi-disk"

    def names() -> set[str]:
        return {f"{found.parent.name}/{key}" for found in base.glob("*/cache.db") for key in _keys_in(found.parent)}

    def plant(name: str, text: str) -> None:
        collection, _, key = name.partition("::")
        _plant_in(base / collection, key, text)

    yield Data(*both("disk", "MultiDiskStore", base_directory=base), names, plant)


@contextmanager
def _filetree(where: Path, _: str, both: Both) -> Generator[Data, None, None]:
    base = where / "filetree"
    base.mkdir()

    def names() -> set[str]:
        return {str(path.relative_to(base)) for path in base.glob("*/**/*.json") if not path.name.endswith("-info.json")}

    def plant(name: str, text: str) -> None:
        collection, _, key = name.partition("::")
        (base / collection).mkdir(exist_ok=True)
        (base / collection / f"{key}.json").write_text(text)

    metadata = where / "info" if both.strategies else None
    yield Data(*both("filetree", "FileTreeStore", where, data_directory=base, metadata_directory=metadata), names, plant)


@contextmanager
def _rocksdb(where: Path, _: str, both: Both) -> Generator[Data, None, None]:
    from rocksdict import Rdict

    db = Rdict(str(where / "rocksdb"))
    names = lambda: {str(name) for name in db.keys()}  # noqa: E731, SIM118 # an Rdict is no dict
    yield Data(*both("rocksdb", "RocksDBStore", db=db), names, lambda name, text: db.put(name, text.encode()))
    db.close()


@contextmanager
def _windows_registry(where: Path, _: str, both: Both) -> Generator[Data, None, None]:
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

    def plant(name: str, text: str) -> None:
        collection, _, key = name.partition("::")
        with winreg.CreateKeyEx(winreg.HKEY_CURRENT_USER, f"{path}\\{collection}") as opened:
            winreg.SetValueEx(opened, key, 0, winreg.REG_SZ, text)

    yield Data(*stores, lambda: set(values(path)), plant)


@contextmanager
def _redis(_: Path, url: str, both: Both) -> Generator[Data, None, None]:
    import redis

    with redis.Redis.from_url(url) as client:
        yield Data(*both("redis", "RedisStore", url=url), lambda: _names_in(client), client.set)


def _names_in(client: Any) -> set[str]:
    return {name.decode() for name in client.scan_iter("*")}


def _valkey(cluster: bool) -> Callable[[Path, str, Both], AbstractContextManager[Data]]:
    @contextmanager
    def opener(_: Path, url: str, both: Both) -> Generator[Data, None, None]:
        import glide
        import redis

        where: Any = urlsplit(url)
        kind: Any = glide.GlideClusterClientConfiguration if cluster else glide.GlideClientConfiguration
        config = kind([glide.NodeAddress(where.hostname, where.port)], request_timeout=5000)
        with (redis.RedisCluster if cluster else redis.Redis).from_url(url) as client:
            yield Data(*both("valkey", "ValkeyStore", config=config), lambda: _names_in(client), client.set)

    return opener


@contextmanager
def _memcached(_: Path, url: str, both: Both) -> Generator[Data, None, None]:
    from tests.servers.memcached import command, items

    def plant(name: str, text: str) -> None:
        command(url, f"set {name} 0 0 {len(text)}\r\n{text}".encode())

    where = urlsplit(url)
    yield Data(*both("memcached", "MemcachedStore", host=where.hostname, port=where.port), lambda: set(items(url)), plant)


@contextmanager
def _dynamodb(_: Path, url: str, both: Both) -> Generator[Data, None, None]:
    from tests.servers.dynamodb import CREDENTIALS, TABLE, client

    def names() -> set[str]:
        items = there.scan(TableName=TABLE, ConsistentRead=True)["Items"]
        return {f"{item['collection']['S']}::{item['key']['S']}" for item in items}

    def plant(name: str, text: str) -> None:
        collection, _, key = name.partition("::")
        there.put_item(TableName=TABLE, Item={"collection": {"S": collection}, "key": {"S": key}, "value": {"S": text}})

    with closing(client(url)) as there:
        yield Data(*both("dynamodb", "DynamoDBStore", table_name=TABLE, endpoint_url=url, **CREDENTIALS), names, plant)


@contextmanager
def _mongodb(_: Path, url: str, both: Both) -> Generator[Data, None, None]:
    from pymongo import MongoClient

    def names() -> set[str]:
        rows = [row for name in database.list_collection_names() for row in database[name].find()]
        return {f"{row['collection']}::{row['key']}" for row in rows}

    def plant(name: str, text: str) -> None:
        collection, _, key = name.partition("::")
        fields = {field: value for field, value in json.loads(text).items() if value != ""}
        dates = {field: datetime.fromisoformat(fields[field]) for field in ("created_at", "expires_at") if field in fields}
        database[collection].insert_one({**fields, **dates, "collection": collection, "key": key, "value": {"object": fields["value"]}})

    client: Any = MongoClient(url)
    database = client["kv-store-adapter"]
    with client:
        yield Data(*both("mongodb", "MongoDBStore", url=url), names, plant)


@contextmanager
def _elasticsearch(_: Path, url: str, both: Both) -> Generator[Data, None, None]:
    from elasticsearch import Elasticsearch

    def names() -> set[str]:
        client.indices.refresh(index="*")
        return {f"{hit['_index']}/{hit['_id']}" for hit in client.search(index="*", size=1000)["hits"]["hits"]}

    def plant(name: str, text: str) -> None:
        raise NotImplementedError  # it takes no documents but those of its mapping

    with Elasticsearch(url) as client:
        yield Data(*both("elasticsearch", "ElasticsearchStore", url=url, index_prefix="KV"), names, plant)


@contextmanager
def _keyring(_: Path, url: str, both: Both) -> Generator[Data, None, None]:
    from tests.servers import keyring

    keyring.session_bus(url)
    stores = both("keyring", "KeyringStore")
    yield Data(*stores, lambda: keyring.names(url), lambda name, text: keyring.plant(url, name, text.encode()))


@contextmanager
def _vault(_: Path, url: str, both: Both) -> Generator[Data, None, None]:
    from tests.servers import vault

    client = vault.client(url)
    plant = lambda name, text: client.secrets.kv.v2.create_or_update_secret(name, {"value": text})  # noqa: E731
    yield Data(*both("vault", "VaultStore", url=url, token=vault.TOKEN), lambda: vault.names(client), plant)
    client.adapter.close()


OPENERS: Mapping[str, Callable[[Path, str, Both], AbstractContextManager[Data]]] = {
    "disk": _disk,
    "multi-disk": _multi_disk,
    "filetree": _filetree,
    "filetree-v1": _filetree,
    "rocksdb": _rocksdb,
    "windows-registry": _windows_registry,
    "redis": _redis,
    "valkey": _valkey(cluster=False),
    "valkey-cluster": _valkey(cluster=True),
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
        data = stack.enter_context(OPENERS[backend](where, url, both))
        for store in (data.old, data.new):
            if hasattr(store, "__aenter__"):  # some of the predecessor's have nothing to close
                await stack.enter_async_context(store)
        yield data
