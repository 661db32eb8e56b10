"""The contract, on every backend and every runtime: the suite that authors of stores run on theirs, and what concerns only our own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockingError

from keyvalue.protocols import (
    AsyncCullProtocol,
    AsyncDestroyCollectionProtocol,
    AsyncDestroyStoreProtocol,
    AsyncEnumerateCollectionsProtocol,
    AsyncEnumerateKeysProtocol,
    AsyncKeyValue,
)
from keyvalue.stores.base import Entry
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing import StoreContract
from keyvalue.testing._contract import assert_collections
from tests import backends
from tests.runtimes import Runtime

REFUSALS = (
    "test_a_ttl_of_a_wrong_type_is_both_errors",
    "test_bad_names_are_refused_before_anything_is_written",
    "test_bad_ttls_are_refused_before_anything_is_written",
    "test_empty_bulk",
    "test_every_element_is_checked",
    "test_keys_must_be_a_sequence",
    "test_messages_hold_no_values",
    "test_unequal_lengths",
    "test_values_of_a_wrong_type",
    "test_what_is_not_json_is_refused_with_its_place",
)
"""What holds of a store that keeps nothing too."""


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
        super().pytest_generate_tests(metafunc)
        names = [*backends.STORING, *backends.WRAPPERS]
        if metafunc.function.__name__ in REFUSALS:
            names.append("null")
        metafunc.parametrize("backend", names, scope="session")


def test_the_names_of_the_tests_are_those_of_the_suite() -> None:
    assert set(REFUSALS) <= set(vars(StoreContract))


def test_a_store_that_blocks_the_event_loop_is_noticed(tmp_path: Path) -> None:
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


async def test_a_store_can_do_all_that_is_optional_or_nothing_of_it(make_raw: Any, backend: str) -> None:
    store = make_raw()
    capabilities = [AsyncEnumerateKeysProtocol, AsyncEnumerateCollectionsProtocol]
    capabilities += [AsyncDestroyStoreProtocol, AsyncDestroyCollectionProtocol, AsyncCullProtocol]
    assert {isinstance(store, capability) for capability in capabilities} == {backend not in backends.UNLISTED}
    await store.close()
