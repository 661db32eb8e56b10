"""What a wrapper is told of a call that it intercepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsFloat

__all__ = ["EntryRef", "Operation"]

EntryRef = tuple["str | None", "str | None"]
"""A collection and a key; without a key the whole collection, without both everything."""


@dataclass(slots=True)  # created in two thirds of the time that a NamedTuple takes
class Operation:
    """A call on its way to the inner store, as the caller made it.

    Attributes:
        name: The method, such as "get_many".
        collection: The collection that the caller named, or None.
        keys: The keys that it is about; empty for listing, culling and destroying.
        values: What is put, aligned with the keys; empty for all else.
        ttl: The time to live of what is put.
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
        """Whether it changes entries that the caller names or means: not so for listing and culling."""
        return self.name in {"put", "put_many", "delete", "delete_many", "destroy", "destroy_collection"}

    def entry_refs(self, default_collection: str) -> list[EntryRef]:
        """Return what it reads or writes, each once; the default collection by its name."""
        if self.name == "destroy":
            return [(None, None)]
        collection = default_collection if self.collection is None else self.collection
        return [(collection, None)] if self.name == "destroy_collection" else [(collection, key) for key in dict.fromkeys(self.keys)]
