"""The runtimes that this project's tests run on: those of `keyvalue.testing`, and blocking calls on an asyncio event loop are errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Any

from keyvalue import testing
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import StoreConnectionError
from keyvalue.protocols import AsyncKeyValue
from keyvalue.wrappers.base import BaseWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper

NOTICES_BLOCKING = find_spec("blockbuster") is not None
USUAL = ("asyncio", "direct")
"""The runtimes of a test that names none: what it tests is alike on all four, or it belongs in the contract."""


def _times_out(store: Any) -> bool:
    return isinstance(store, TimeoutWrapper) or (isinstance(store, BaseWrapper) and any(map(_times_out, store._wrapped())))  # pyright: ignore[reportPrivateUsage]


@contextmanager
def no_blocking() -> Generator[None, None, None]:
    """Turn a blocking call on an asyncio event loop into an error."""
    from blockbuster import blockbuster_ctx

    # What the tests themselves do, which keyvalue.testing calls, may block.
    with blockbuster_ctx(scanned_modules=["keyvalue"], excluded_modules=["keyvalue.testing"]) as blockbuster:
        # redis-py reads its own version from its metadata when it makes a client, and pymongo sees whether it is in a container; coverage
        # has a lock of its own.
        for function in blockbuster.functions.values():
            function.can_block_in("coverage/collector.py", {"lock_data"})
            function.can_block_in("pymongo/pool_options.py", {"get_container_env_info"})
            function.can_block_in("importlib/metadata/__init__.py", {"read_text", "search", "joinpath", "from_name"})
            # This is in a thread, on a loop that nobody else is on.
            function.can_block_in("keyvalue/stores/_drivers/dynamodb_client.py", {"create_session_with_credentials"})
        yield


class Runtime(testing.Runtime):
    """One of the runtimes."""

    def guard(self) -> AbstractContextManager[object]:
        return no_blocking() if self.name == "asyncio" and NOTICES_BLOCKING else super().guard()

    def _facade(self, store: AsyncKeyValue) -> BlockingKeyValue:
        # A timeout needs a loop, whatever declares what.
        facade = BlockingKeyValue(store) if self.name == "direct" and _times_out(store) else super()._facade(store)
        runs_inline = facade._target is store  # pyright: ignore[reportPrivateUsage]
        assert runs_inline is (self.name == "direct" and not _times_out(store)), type(store).__name__
        return facade

    async def eventually(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call until the backend is reached: some clients connect again in their own time."""
        for _ in range(400):
            try:
                return await call()
            except StoreConnectionError:
                await self.sleep(0.05)
        return await call()
