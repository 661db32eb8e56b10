"""The contract, on every backend: the suite that authors of stores run on theirs, and what concerns only our own."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import keyvalue.stores
import keyvalue.wrappers
from keyvalue._core.capabilities import PROTOCOLS
from keyvalue.protocols import AsyncKeyValue
from keyvalue.stores.base import BaseStore, Entry
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing import ArgumentContract, Clock, RuntimeName, StoreContract
from keyvalue.testing._runtime import RUNTIMES
from keyvalue.testing._suite import assert_collections
from keyvalue.wrappers.base import BaseWrapper
from tests import backends
from tests.conftest import CI
from tests.runtimes import NOTICES_BLOCKING, Runtime
from tests.servers.registry import SERVERS

OVERRIDES_PUBLIC_METHODS = {
    "wrapped": "BaseWrapper",
    "aes-gcm": "BaseEncryptionWrapper",
    "compression": "CompressionWrapper",
    "limit-size": "LimitSizeWrapper",
}
"""Besides `BaseStore`, on memory: what checks arguments or encodes values itself, by the name of its backend."""
KINDS = ("memory", "disk", "redis", "wrapped")
"""One store of each kind: never suspends, blocks in threads, has a client of each kind, wraps another. They run everything everywhere."""
SMOKE = (
    "test_bulk_results_are_aligned",
    "test_context_manager_and_setup",
    "test_expiry",
    "test_many_calls_at_once",
    "test_values_come_back_exactly",
    "test_what_a_store_can_do_is_what_it_says",
)
"""What runs on trio and the portal on all other stores too."""
RECLAIMING = ("disk", "multi-disk", *(name for name in SERVERS if name.partition("-")[0] not in ("elasticsearch", "keyring", "vault")))
"""The backends with an expiry of their own, which takes a second of real time to test."""


def cases_of(test: str) -> Iterator[tuple[str, RuntimeName]]:
    """Yield the backends and runtimes that a test of the suite runs on."""
    names = [*backends.STORING, *backends.WRAPPERS]
    if test in vars(ArgumentContract):
        names = ["memory", *OVERRIDES_PUBLIC_METHODS]
    elif test == "test_the_backend_reclaims_nothing_early":
        for name in RECLAIMING:
            yield name, "asyncio"
        return
    for name in names:
        for runtime in RUNTIMES:
            if runtime in ("asyncio", "direct") or name in KINDS or test in SMOKE:
                yield name, runtime


class TestContract(StoreContract):
    @pytest.fixture(autouse=True)
    def _backend(self, backend: str, make_raw: Callable[..., Any]) -> None:
        self._make = make_raw
        self.persistent = backend in backends.PERSISTENT
        self.slow = backend in backends.SLOW
        if backend == "wrapped":
            self.max_depth -= 1  # for its envelope

    def make(self, directory: Path) -> AsyncKeyValue:
        return self._make()

    @pytest.fixture
    def runtime(self, request: pytest.FixtureRequest) -> Runtime:
        return Runtime(request.param)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        assert "runtime" in metafunc.fixturenames
        metafunc.parametrize(("backend", "runtime"), list(cases_of(metafunc.function.__name__)), indirect=["runtime"])


def test_the_names_of_the_tests_are_those_of_the_suite() -> None:
    assert {*SMOKE, "test_the_backend_reclaims_nothing_early"} <= set(vars(StoreContract))


def test_what_checks_arguments_itself_runs_the_tests_of_arguments() -> None:
    public = {"get", "put", "delete", "ttl", "get_many", "put_many", "delete_many", "ttl_many"}
    hooks = {"_collection", "_encode_value"}  # the rest of what those tests are about
    for package in (keyvalue.stores, keyvalue.wrappers):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            try:
                members = vars(importlib.import_module(module.name))
            except ImportError:  # its client is not installed; in CI, all are
                if CI:
                    raise
                continue
            for kind in members.values():
                if isinstance(kind, type) and kind.__module__ == module.name and issubclass(kind, (BaseStore, BaseWrapper)):
                    own = (public | hooks) & set(vars(kind))
                    assert not own or kind.__name__ in OVERRIDES_PUBLIC_METHODS.values(), (
                        f"{kind.__name__} overrides {own}: add it to OVERRIDES_PUBLIC_METHODS"
                    )


@pytest.mark.skipif(not NOTICES_BLOCKING, reason="blockbuster is not installed")
def test_a_store_that_blocks_the_event_loop_is_noticed(tmp_path: Path) -> None:
    from blockbuster import BlockingError

    class BlockingStore(MemoryStore):
        async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
            os.stat(tmp_path)
            return await super()._get(collection, keys)

    async def main() -> None:
        os.stat(tmp_path)  # the tests themselves may
        kv = runtime.adapt(BlockingStore())
        await kv.get_many(["k"])

    runtime = Runtime("trio")
    runtime.run(main)
    runtime = Runtime("asyncio")
    with pytest.raises(BlockingError, match=r"os\.stat"):
        runtime.run(main)


@pytest.mark.backends("memory", "disk", "rocksdb", "redis")
async def test_another_default_collection(make: Any) -> None:
    kv = make(default_collection="mine")
    await kv.put("k", {"a": 1})
    assert await kv.get("k", collection="mine") == {"a": 1}
    await assert_collections(kv, ["mine"])


@pytest.mark.backends(*(name for name in backends.PERSISTENT if name not in backends.UNLISTED and not name.startswith("mongodb")))
@pytest.mark.runtimes("asyncio")
async def test_culling_spares_what_is_put_between_listing_and_removing(
    make_raw: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_raw() as kv:
        await kv.put_many(["k", "l"], [{}, {}], ttl=5)
        clock.advance(5)
        list_documents = kv._scan_documents

        async def list_and_put(prefix: str) -> AsyncGenerator[Any, None]:
            async for page in list_documents(prefix):
                await kv.put("k", {"again": True})
                yield page

        monkeypatch.setattr(kv, "_scan_documents", list_and_put)
        await kv.cull()
        monkeypatch.undo()
        assert await kv.get_many(["k", "l"]) == [{"again": True}, None]


async def test_a_store_can_do_all_that_is_optional_or_nothing_of_it(make_raw: Any, backend: str) -> None:
    store = make_raw()
    assert {isinstance(store, protocol) for protocol in PROTOCOLS.values()} == {backend not in backends.UNLISTED}
    await store.close()
