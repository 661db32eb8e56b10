"""The description of a call, for wrappers that intercept it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsFloat

__all__ = ["EntryRef", "Operation"]

EntryRef = tuple["str | None", "str | None"]
"""A collection and a key. Without a key it means the whole collection, without both everything."""


@dataclass(slots=True)  # created in two thirds of the time that a NamedTuple takes
class Operation:
    """A call on its way to the inner store, as the caller made it. Treat it as read-only: other wrappers may hold it.

    Attributes:
        name: The method, such as "get_many".
        collection: The collection that the caller named, or None.
        keys: The keys; empty for listing, culling and destroying.
        values: The values to put, aligned with the keys; empty for other methods.
        ttl: The time to live of the values to put, in seconds.
    """

    name: str
    collection: str | None = None
    keys: Sequence[str] = ()
    values: Sequence[Mapping[str, Any]] = ()
    ttl: SupportsFloat | None = None

    @property
    def is_read(self) -> bool:
        """Whether it returns values: get, ttl, get_many or ttl_many."""
        return self.name in {"get", "get_many", "ttl", "ttl_many"}

    @property
    def is_write(self) -> bool:
        """Whether it puts, deletes or destroys entries. Culling does not count."""
        return self.name in {"put", "put_many", "delete", "delete_many", "destroy", "destroy_collection"}

    def entry_refs(self, default_collection: str) -> list[EntryRef]:
        """Return the entries that it reads or writes, without duplicates, with the name of the default collection filled in."""
        if self.name == "destroy":
            return [(None, None)]
        collection = default_collection if self.collection is None else self.collection
        return [(collection, None)] if self.name == "destroy_collection" else [(collection, key) for key in dict.fromkeys(self.keys)]
