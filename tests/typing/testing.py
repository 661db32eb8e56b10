"""The types that the author of a store sees in tests of it: checked by mypy and by basedpyright in the nox session `types`, never run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import assert_type

from keyvalue.stores.memory import MemoryStore
from keyvalue.testing import Clock, Runtime, RuntimeName, StoreContract


class WatchedRuntime(Runtime):
    def guard(self) -> AbstractContextManager[None]:
        assert_type(self.name, RuntimeName)
        return nullcontext()


class TestOfItsOwnType(StoreContract):
    persistent = False
    runtimes = ("asyncio", "portal")
    max_depth = 253
    default_collection = "mine"

    @pytest.fixture(autouse=True)
    def server(self) -> None:
        self.url = "redis://localhost"

    @pytest.fixture
    def runtime(self, request: pytest.FixtureRequest) -> WatchedRuntime:
        return WatchedRuntime(request.param)

    def make(self, directory: Path) -> MemoryStore:
        assert_type(self.slow, bool)
        return MemoryStore()

    def test_of_my_own(self, runtime: Runtime, kv: Any, clock: Clock, tmp_path: Path) -> None:
        async def main() -> None:
            other = runtime.adapt(self.make(tmp_path))
            await other.put("k", {"a": 1}, ttl=1)
            await runtime.sleep(0.1)
            clock.freeze()
            clock.advance(1)
            assert_type(clock.now(), float)

        runtime.run(main)


class TestWrong(StoreContract):
    runtimes = ("asyncio", "curio")  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]

    def make(self, directory: str) -> MemoryStore:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        return MemoryStore()


def of_the_clock() -> None:
    with Clock() as clock:
        assert_type(clock, Clock)
        clock.advance(0.5)
