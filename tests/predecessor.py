"""The real py-key-value-aio beside this library: stores of both, made alike, on the same data."""

from __future__ import annotations

import importlib
import sqlite3
import warnings
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tests import fake_winreg, makers
from tests.servers.registry import SERVERS
from tests.stores.hooks import hooks_of

Strategies = Literal["own", "its"]
"""The sanitization strategies of both stores: each library's own, or the predecessor's in both."""


class Data(NamedTuple):
    """Both libraries on the same data, and a look at it behind their backs."""

    old: Any  # the predecessor's store
    new: Any  # ours
    names: Callable[[], set[Any]]  # returns the names that the backend has
    # Stores the text of a document as that of a collection and key, where the predecessor puts it. Not on every backend.
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


def _disk(_: AsyncExitStack, both: Both, where: Path) -> Data:
    import diskcache

    directory = where / "disk"

    def plant(collection: str, key: str, text: str) -> None:
        with diskcache.Cache(directory) as cache:
            cache.set(f"{collection}::{key}", text)

    return Data(*both("disk", "DiskStore", directory=directory), lambda: _keys_in(directory), plant)


def _multi_disk(_: AsyncExitStack, both: Both, where: Path) -> Data:
    base = where / "multi-disk"

    def names() -> set[str]:
        return {f"{found.parent.name}/{key}" for found in base.glob("*/cache.db") for key in _keys_in(found.parent)}

    return Data(*both("disk", "MultiDiskStore", base_directory=base), names)


def _filetree(_: AsyncExitStack, both: Both, where: Path) -> Data:
    base = where / "filetree"
    base.mkdir()

    def names() -> set[str]:
        return {str(path.relative_to(base)) for path in base.glob("*/**/*.json") if not path.name.endswith("-info.json")}

    metadata = where / "info" if both.strategies else None
    return Data(*both("filetree", "FileTreeStore", where, data_directory=base, metadata_directory=metadata), names)


def _rocksdb(stack: AsyncExitStack, both: Both, where: Path) -> Data:
    from rocksdict import Rdict

    db = Rdict(str(where / "rocksdb"))
    stack.callback(db.close)
    names = lambda: {str(name) for name in db.keys()}  # noqa: E731, SIM118 # an Rdict is no dict
    stores = both("rocksdb", "RocksDBStore", db=db)
    return Data(*stores, names, lambda collection, key, text: db.put(f"{collection}::{key}", text.encode()))


def _windows_registry(_: AsyncExitStack, both: Both, where: Path) -> Data:
    path = makers.registry_path(where)
    stores = both("windows_registry", "WindowsRegistryStore", registry_path=path)
    winreg: Any = importlib.import_module("keyvalue.stores.windows_registry").winreg

    def names() -> set[str]:
        below = [(where.removeprefix(path), values) for where, values in fake_winreg.walk(winreg, path, winreg.HKEY_CURRENT_USER)]
        return {"/".join([*where.split("\\")[1:], name]) for where, values in below for name, *_ in values}

    def plant(collection: str, key: str, text: str) -> None:
        with winreg.CreateKeyEx(winreg.HKEY_CURRENT_USER, f"{path}\\{collection}") as opened:
            winreg.SetValueEx(opened, key, 0, winreg.REG_SZ, text)

    return Data(*stores, names, plant)


def _on_server(backend: str, both: Both, url: str) -> Data:
    hooks = hooks_of(backend.removesuffix("-replicaset"))
    stores = both(hooks.kind.__module__.rpartition(".")[2], hooks.kind.__name__, **_arguments(backend, url))
    return Data(*stores, lambda: hooks.names(url), lambda collection, key, text: hooks.plant(url, f"{collection}::{key}", text.encode()))


def _arguments(backend: str, url: str) -> Mapping[str, Any]:
    if backend in ("memcached", "dynamodb", "vault"):
        return makers.ARGUMENTS[backend](Path(), url)
    if backend.startswith("valkey"):
        return {"config": importlib.import_module("tests.stores.hooks.valkey").configuration(url, backend == "valkey-cluster")}
    return {"keyring": {}, "elasticsearch": {"url": url, "index_prefix": "KV"}}.get(backend, {"url": url})


OPENERS: Mapping[str, Callable[[AsyncExitStack, Both, Path], Data]] = {
    "disk": _disk,
    "multi-disk": _multi_disk,
    "filetree": _filetree,
    "filetree-v1": _filetree,
    "rocksdb": _rocksdb,
    "windows-registry": _windows_registry,
}
"""The embedded ones, by backend."""
BACKENDS = [*OPENERS, *(name for name in SERVERS if name != "redis-cluster")]  # where the predecessor's bulk calls cross slots


@asynccontextmanager
async def open_both(
    backend: str, where: Path, url: str, *, strategies: Strategies | None = None, default_collection: str | None = None
) -> AsyncGenerator[Data, None]:
    """Open both libraries on a backend, in a directory or on a server without data."""
    both = Both(strategies or ("own" if backend == "filetree-v1" else None), default_collection)
    async with AsyncExitStack() as stack:
        data = OPENERS[backend](stack, both, where) if backend in OPENERS else _on_server(backend, both, url)
        for store in (data.old, data.new):
            if hasattr(store, "__aenter__"):  # some of the predecessor's have nothing to close
                await stack.enter_async_context(store)
        yield data
