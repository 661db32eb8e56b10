"""Mistakes with the stores in memory: limits, seeds, and arguments that they don't have."""

# pyright: reportArgumentType=false, reportCallIssue=false
# Wrong arguments are what these tests are about.

from __future__ import annotations

import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import InvalidKeyError, SerializationError, StoreClosedError
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.stores.simple import SimpleStore
from tests.messages import Mistake, check

pytestmark = pytest.mark.filterwarnings("ignore:(Memory|Simple|Null)Store:UserWarning")  # which say less than the errors do


async def use_closed(store: MemoryStore | SimpleStore | NullStore) -> None:
    await store.close()
    await store.get("k")


LIMIT = "max_entries_per_collection"
MEMORY = [
    Mistake("no entries at all", lambda: MemoryStore(max_entries_per_collection=0), ValueError, [LIMIT, "at least 1", "leave it out"]),
    Mistake("a negative limit", lambda: MemoryStore(max_entries_per_collection=-1), ValueError, [LIMIT, "at least 1"]),
    Mistake(
        "a limit in words", lambda: MemoryStore(max_entries_per_collection="100"), TypeError, [LIMIT, "an int or None, not a str"], ["<"]
    ),
    Mistake("a limit that is a float", lambda: MemoryStore(max_entries_per_collection=1e3), TypeError, [LIMIT, "not a float"]),
    Mistake("a limit that is a bool", lambda: MemoryStore(max_entries_per_collection=True), TypeError, [LIMIT, "not a bool"]),
    Mistake("the limit of SimpleStore", lambda: MemoryStore(max_entries=5), TypeError, ["'max_entries'", f"it takes by name: {LIMIT}"]),
    Mistake("a limit by position", lambda: MemoryStore(5), TypeError, ["too many positional arguments", f"it takes by name: {LIMIT}"]),
    Mistake("a seed of values", lambda: MemoryStore(seed={"k": {"a": "secret"}}), TypeError, ["must be a mapping"], secrets=["secret"]),
    Mistake("a seed that is a list", lambda: MemoryStore(seed=["k"]), TypeError, ["seed takes {collection: {key: value}}"]),
    Mistake(
        "a seed with an empty key",
        lambda: MemoryStore(seed={"c": {"": {"a": "secret"}}}),
        InvalidKeyError,
        ["key is empty"],
        secrets=["secret"],
    ),
    Mistake(
        "a seed that is not JSON", lambda: MemoryStore(seed={"c": {"k": {"a": {1, 2}}}}), SerializationError, ["serialize", "['a']", "set"]
    ),
    Mistake("an empty default collection", lambda: MemoryStore(default_collection=""), InvalidKeyError, ["default collection is empty"]),
    Mistake(
        "a default collection that is a number", lambda: MemoryStore(default_collection=5), TypeError, ["default collection must be a str"]
    ),
    Mistake("a closed store", lambda: use_closed(MemoryStore()), StoreClosedError, ["MemoryStore is closed; make a new one"]),
    Mistake("SimpleStore for no entries", lambda: SimpleStore(0), ValueError, ["max_entries must be at least 1"]),
    Mistake("SimpleStore's limit in words", lambda: SimpleStore("5"), TypeError, ["max_entries must be an int or None, not a str"]),
    Mistake(
        "the limit of MemoryStore",
        lambda: SimpleStore(max_entries_per_collection=5),
        TypeError,
        [f"'{LIMIT}'", "it takes max_entries"],
    ),
    Mistake("a closed SimpleStore", lambda: use_closed(SimpleStore()), StoreClosedError, ["SimpleStore is closed"]),
    Mistake("a closed NullStore", lambda: use_closed(NullStore()), StoreClosedError, ["NullStore is closed"]),
    Mistake(
        "setting up a collection without a name",
        lambda: MemoryStore().setup_collection(collection=""),
        InvalidKeyError,
        ["collection is empty"],
    ),
    Mistake(
        "setting up what is no name",
        lambda: MemoryStore().setup_collection(collection=5),
        TypeError,
        ["collection must be a str, not an int"],
    ),
]


@pytest.mark.parametrize("mistake", MEMORY, ids=lambda mistake: mistake.name)
def test_memory(mistake: Mistake) -> None:
    check(mistake)


def test_a_facade_over_a_closed_store() -> None:
    kv = BlockingKeyValue(MemoryStore())
    kv.close()
    check(Mistake("a closed façade", lambda: kv.get("k"), StoreClosedError, ["closed; make a new one"]))
