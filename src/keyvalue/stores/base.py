"""What the author of a store derives from; see "Write your own store" in the documentation."""

from keyvalue._core import clock
from keyvalue._core.client import Client
from keyvalue._core.entry import Entry
from keyvalue._core.flat import UNREADABLE, Change, CompoundNames, EnumerableFlatStore, FlatStore, Names, Place, digest, take_page
from keyvalue._core.sanitization import (
    AlwaysHashStrategy,
    HashExcessLengthStrategy,
    HashFragmentMode,
    HybridSanitizationStrategy,
    PassthroughStrategy,
    SanitizationStrategy,
)
from keyvalue._core.store import BaseStore, EnumerableStore, ErrorTable, Row, Stability

__all__ = [
    "UNREADABLE",
    "AlwaysHashStrategy",
    "BaseStore",
    "Change",
    "Client",
    "CompoundNames",
    "Entry",
    "EnumerableFlatStore",
    "EnumerableStore",
    "ErrorTable",
    "FlatStore",
    "HashExcessLengthStrategy",
    "HashFragmentMode",
    "HybridSanitizationStrategy",
    "Names",
    "PassthroughStrategy",
    "Place",
    "Row",
    "SanitizationStrategy",
    "Stability",
    "clock",
    "digest",
    "take_page",
]
