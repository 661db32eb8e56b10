"""What the author of a store derives from; see "Write your own store" in the documentation."""

from keyvalue._core import clock
from keyvalue._core.client import Client
from keyvalue._core.entry import Entry
from keyvalue._core.flat import UNREADABLE, EnumerableFlatStore, FlatStore
from keyvalue._core.store import BaseStore, EnumerableStore, Row

__all__ = ["UNREADABLE", "BaseStore", "Client", "Entry", "EnumerableFlatStore", "EnumerableStore", "FlatStore", "Row", "clock"]
