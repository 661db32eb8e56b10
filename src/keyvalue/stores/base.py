"""What the author of a store derives from; see "Write your own store" in the documentation."""

from keyvalue._core import clock
from keyvalue._core.client import Client
from keyvalue._core.entry import Entry
from keyvalue._core.flat import UNREADABLE, Change, CompoundNames, EnumerableFlatStore, FlatStore, Names, Place, digest
from keyvalue._core.store import BaseStore, EnumerableStore, Row

__all__ = [
    "UNREADABLE",
    "BaseStore",
    "Change",
    "Client",
    "CompoundNames",
    "Entry",
    "EnumerableFlatStore",
    "EnumerableStore",
    "FlatStore",
    "Names",
    "Place",
    "Row",
    "clock",
    "digest",
]
