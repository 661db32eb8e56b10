"""Stores with a client that only blocks: the author writes a plain class without coroutines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from functools import partial
from operator import methodcaller
from typing import Any, Protocol

from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.flat import FlatStore
from keyvalue._core.listing import EnumerableFlatStore
from keyvalue.errors import KeyValueError

__all__ = ["Driver", "DriverStore", "EnumerableDriverStore", "ListingDriver"]


class Driver(Protocol):
    """A plain class that keeps documents by name. Its methods may block: they are called in worker threads, or in the caller's own.

    A driver may also have a method `pop(names)`, which removes names and returns what was removed; by default that is reading and
    comparing.
    """

    def read(self, names: Sequence[str]) -> Sequence[Stored | None]:
        """Return what lies under distinct names, aligned with them."""
        ...

    def write(self, rows: Sequence[tuple[str, Entry]]) -> Sequence[KeyValueError | None] | None:
        """Store the document of each entry under its name; return the error of each that could not be stored, or None alone."""
        ...

    def compare_and_set(self, changes: Sequence[CompareAndSet]) -> Sequence[bool]:
        """Apply each change, atomically, if its name has the expected version; return for each whether it was applied."""
        ...

    def close(self) -> None:
        """Release what the driver holds."""
        ...


class ListingDriver(Driver, Protocol):
    """A driver that can list its names.

    It may also have a method `clean()`, which `cull` calls after it has removed expired entries.
    """

    def page(self, prefix: str, after: Any) -> tuple[Sequence[tuple[str, Stored]], Any]:
        """Return some of the names that start with a prefix, with what lies there, and where to go on; None after the last page.

        Args:
            prefix: The prefix, which may be empty.
            after: None for the first page, else what the call before it returned.
        """
        ...


class DriverStore(FlatStore):
    """A store over a driver, a plain class that reads and writes documents by name. The constructor sets `_clients`, which create it."""

    def _read(self, names: Sequence[str], *, lenient: bool = False) -> Awaitable[Sequence[Stored | None]]:
        return self._call("read", names, repeatable=True)

    def _write(self, rows: Sequence[tuple[str, Entry]]) -> Awaitable[Sequence[KeyValueError | None] | None]:
        return self._call("write", rows)

    def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Awaitable[Sequence[bool]]:
        return self._call("compare_and_set", changes)

    def _pop(self, names: Sequence[str]) -> Awaitable[Sequence[Stored | KeyValueError | None]]:
        return self._call("pop", names)

    def _call(self, method: str, items: Sequence[Any], *, repeatable: bool = False) -> Awaitable[Any]:
        """Call a method of the driver once for all names. To be overridden where each name is better a call of its own.

        Args:
            method: The name of the method.
            items: Names, rows or `CompareAndSet`s, one for each name.
            repeatable: Whether it may be called again if a connection turns out to be dead; see `_use`.
        """
        return self._use(partial(_pop, items) if method == "pop" else methodcaller(method, items), repeatable=repeatable)


class EnumerableDriverStore(DriverStore, EnumerableFlatStore):
    """A store over a driver that can list its names."""

    async def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        after: Any = None
        while True:
            page, after = await self._use(methodcaller("page", prefix, after), repeatable=True)
            yield page
            if after is None:
                return

    async def _cull(self, now: float) -> None:
        await super()._cull(now)
        await self._use(_clean)


def _clean(driver: Any) -> None:
    if hasattr(driver, "clean"):
        driver.clean()


def _pop(names: Sequence[str], driver: Any) -> Sequence[Stored | None]:
    """Call a driver's `pop`; if it has none, do what `FlatStore` does, but in one turn of a worker thread for all its calls."""
    if hasattr(driver, "pop"):
        return driver.pop(names)
    removed: dict[str, Stored | None] = {}
    left = list(names)
    while left:
        found: dict[str, Stored | None] = dict(zip(left, driver.read(left), strict=True))
        changes = [CompareAndSet(name, stored.version, None) for name, stored in found.items() if stored is not None]
        made = driver.compare_and_set(changes) if changes else ()
        left = [change.name for change, was_made in zip(changes, made, strict=True) if not was_made]
        removed |= {name: stored for name, stored in found.items() if name not in left}
    return [removed[name] for name in names]
