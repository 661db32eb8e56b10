"""What the author of a store derives from; see "Write your own store" in the documentation."""

from keyvalue._core import clock
from keyvalue._core.clients import Clients
from keyvalue._core.driver import Driver, DriverStore, EnumerableDriverStore, ListingDriver
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.error_rules import ErrorRule, ErrorRules
from keyvalue._core.flat import FlatStore
from keyvalue._core.layout import CompoundLayout, KeyLayout, Slot, digest
from keyvalue._core.legacy.sanitization import (
    AlwaysHashStrategy,
    HashExcessLengthStrategy,
    HashFragmentMode,
    HybridSanitizationStrategy,
    PassthroughStrategy,
    SanitizationStrategy,
)
from keyvalue._core.listing import EnumerableFlatStore, EnumerableStore, ListedEntry, take_page
from keyvalue._core.store import BaseStore, Stability
from keyvalue.stores._drivers.tls import TlsOptions, advise_on_tls

__all__ = [
    "AlwaysHashStrategy",
    "BaseStore",
    "Clients",
    "CompareAndSet",
    "CompoundLayout",
    "Driver",
    "DriverStore",
    "Entry",
    "EnumerableDriverStore",
    "EnumerableFlatStore",
    "EnumerableStore",
    "ErrorRule",
    "ErrorRules",
    "FlatStore",
    "HashExcessLengthStrategy",
    "HashFragmentMode",
    "HybridSanitizationStrategy",
    "KeyLayout",
    "ListedEntry",
    "ListingDriver",
    "PassthroughStrategy",
    "SanitizationStrategy",
    "Slot",
    "Stability",
    "Stored",
    "TlsOptions",
    "advise_on_tls",
    "clock",
    "digest",
    "take_page",
]
