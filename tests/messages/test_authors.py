"""Mistakes of those who write stores and wrappers: named by the base class."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.base import BaseStore, CompareAndSet, Entry, FlatStore
from keyvalue.stores.memory import MemoryStore
from keyvalue.wrappers.base import BaseWrapper
from tests.backends import PlainWrapper
from tests.messages import Mistake, check


class Author(BaseStore):
    """A store whose hooks return what they are told."""

    runs_inline = True

    def __init__(self, found: Any = (None,), deleted: Any = (False,), put: Any = None) -> None:
        super().__init__()
        self.found, self.deleted, self.outcomes = found, deleted, put

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        return self.found

    async def _put(self, collection: str, entries: Sequence[Entry]) -> Any:
        return self.outcomes

    async def _delete(self, collection: str, keys: Sequence[str]) -> Any:
        return self.deleted


class Plain(Author):
    """Its hooks are `def` where they should be `async def`."""

    def _get(self, collection: str, keys: Sequence[str]) -> Any:
        return [None]

    def _put(self, collection: str, entries: Sequence[Entry]) -> Any:
        pass

    def _delete(self, collection: str, keys: Sequence[str]) -> Any:
        return 0


class Flat(FlatStore):
    """A store over names whose `_read` returns what it is told."""

    runs_inline = True

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found

    async def _read(self, names: Sequence[str], *, lenient: bool = False) -> Any:
        return self.found

    async def _write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        pass

    async def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Sequence[bool]:
        return []


class Short(Author):
    """Its hook lacks a parameter."""

    async def _get(self, collection: str) -> Any:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride] # that is the mistake
        return [None]


class PlainOpening(Author):
    def _open(self) -> Any:
        pass


class Forgetful(Author):
    def __init__(self, url: str) -> None:
        self.url = url


class Sleeping(BaseWrapper):
    """It says that it runs inline, and sleeps."""

    runs_inline = True
    sleep: Any = staticmethod(asyncio.sleep)

    async def _intercept(self, operation: Any, call: Any) -> Any:
        await self.sleep(0.01)
        return await call(self.key_value)


class AnyioSleeping(Sleeping):
    runs_inline = True
    sleep = staticmethod(anyio.sleep)


def write_wrapper(hook: str) -> None:
    """Write a wrapper with `async def` where it should be `def`."""

    async def encode(*_: Any) -> None:
        pass

    type("Waiting", (BaseWrapper,), {hook: encode})


class Incomplete(BaseStore):
    pass


def use_facade(store: Any) -> None:
    """Call a façade where no loop runs, and where one does."""
    BlockingKeyValue(PlainWrapper(store)).get("k")


LENGTH = ["Author._get", "an Entry or None for each key"]
OUTCOMES = "for each key whether it held an entry"
PLAIN = ["can't be awaited", "`async def`"]
INLINE = ["declares that it runs inline", "Remove `runs_inline = True` from the class"]
AUTHORS = [
    Mistake("no super().__init__()", lambda: Forgetful("u"), RuntimeError, ["Forgetful.__init__ must call super().__init__("]),
    Mistake("get: _get returns too few", lambda: Author(()).get("k"), RuntimeError, LENGTH),
    Mistake("get: _get returns too many", lambda: Author([None] * 2).get("k"), RuntimeError, LENGTH),
    Mistake("get: _get returns None", lambda: Author(None).get("k"), RuntimeError, LENGTH),
    Mistake("get: _get returns values", lambda: Author([{"password": "hunter2"}]).get("k"), RuntimeError, LENGTH, secrets=["hunter2"]),
    *(
        Mistake(
            f"{name}: _get returns values",
            lambda call=call: call(Author([{"password": "hunter2"}])),
            RuntimeError,
            LENGTH,
            secrets=["hunter2"],
        )
        for name, call in {
            "get_many": lambda store: store.get_many(["k"]),
            "ttl": lambda store: store.ttl("k"),
            "ttl_many": lambda store: store.ttl_many(["k"]),
        }.items()
    ),
    Mistake("ttl: _get returns too many", lambda: Author([None] * 2).ttl("k"), RuntimeError, ["Author._get returned 2 entries for 1 keys"]),
    Mistake(
        "get_many: _get returns too few", lambda: Author().get_many(["k", "l"]), RuntimeError, ["Author._get returned 1 entries for 2 keys"]
    ),
    Mistake("get_many: _get returns None", lambda: Author(None).get_many(["k"]), RuntimeError, LENGTH),
    Mistake(
        "delete: _delete returns None", lambda: Author(deleted=None).delete("k"), RuntimeError, ["Author._delete returned None", OUTCOMES]
    ),
    Mistake(
        "delete: _delete returns a count", lambda: Author(deleted=1).delete("k"), RuntimeError, ["Author._delete returned an int", OUTCOMES]
    ),
    Mistake("delete_many: _delete returns too few", lambda: Author().delete_many(["k", "l"]), RuntimeError, ["for 2 keys", OUTCOMES]),
    Mistake(
        "put: _put returns a bool",
        lambda: Author(put=True).put("k", {}),
        RuntimeError,
        ["Author._put returned a bool", "None, or for each"],
    ),
    Mistake(
        "put_many: _put returns too few", lambda: Author(put=()).put_many(["k"], [{}]), RuntimeError, ["for 1 keys", "None, or for each"]
    ),
    Mistake("get: _read returns too few", lambda: Flat(()).get("k"), RuntimeError, ["Flat._read returned 0 documents for 1 names"]),
    Mistake(
        "get: _read returns bytes", lambda: Flat([b'{"password":"hunter2"}']).get("k"), RuntimeError, ["a Stored"], secrets=["hunter2"]
    ),
    Mistake("get: _get lacks a parameter", lambda: Short().get("k"), TypeError, ["Short._get() takes 2 positional arguments"]),
    Mistake("ttl_many: _get lacks a parameter", lambda: Short().ttl_many(["k"]), TypeError, ["Short._get() takes 2 positional arguments"]),
    Mistake("get: def _get", lambda: Plain().get("k"), RuntimeError, ["Plain._get returned a list", *PLAIN]),
    Mistake("ttl_many: def _get", lambda: Plain().ttl_many(["k"]), RuntimeError, ["Plain._get returned a list", *PLAIN]),
    Mistake("def _put", lambda: Plain().put("k", {}), RuntimeError, ["Plain._put returned None", *PLAIN]),
    Mistake("def _delete", lambda: Plain().delete("k"), RuntimeError, ["Plain._delete returned an int", *PLAIN]),
    Mistake("def _open", lambda: PlainOpening().get("k"), Exception, ["PlainOpening._open returned None", *PLAIN]),
    *(
        Mistake(f"async def {hook}", lambda hook=hook: write_wrapper(hook), TypeError, [f"Waiting.{hook} is not awaited", "`def`"])
        for hook in ("_encode_key", "_decode_key", "_encode_collection", "_decode_collection", "_encode_ttl")
    ),
    Mistake("hooks that are missing", lambda: Incomplete(), TypeError, ["Incomplete", "_get"]),  # type: ignore[abstract] # pyright: ignore[reportAbstractUsage]
    Mistake("asyncio.sleep() beside runs_inline", lambda: use_facade(Sleeping(MemoryStore())), RuntimeError, ["Sleeping", *INLINE]),
    Mistake("anyio.sleep() beside runs_inline", lambda: use_facade(AnyioSleeping(MemoryStore())), RuntimeError, ["AnyioSleeping", *INLINE]),
]


def test_a_count_for_each_key_tells_as_much_as_a_bool() -> None:
    assert BlockingKeyValue(Author(deleted=[1, 0])).delete_many(["k", "l"]) == 1
    assert BlockingKeyValue(Author(deleted=[1])).delete("k") is True


@pytest.mark.parametrize("mistake", AUTHORS, ids=lambda mistake: mistake.name)
def test_authors(mistake: Mistake) -> None:
    check(mistake)


@pytest.mark.parametrize("kind", [Sleeping, AnyioSleeping])
def test_a_class_that_needs_a_loop_is_named_where_none_runs(kind: Any) -> None:
    with pytest.raises(RuntimeError, match=f"^{kind.__name__} declares that it runs inline.* from the class {kind.__name__}:"):
        use_facade(kind(MemoryStore()))


async def test_an_error_of_what_the_hook_calls_is_its_own() -> None:
    class Failing(Author):
        async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
            return [*map(int, ["unpack"])]  # type: ignore[list-item] # pyright: ignore[reportReturnType]

    for call in (Failing().get("k"), Failing().get_many(["k"])):
        with pytest.raises(ValueError, match="invalid literal"):
            await call
