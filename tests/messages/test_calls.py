"""Calls that are wrong in the same way on every store, on wrappers and on the façade."""

# ruff: noqa: E501 # a mistake a line

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import InvalidKeyError, InvalidTTLError, SerializationError
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.wrappers.compression import CompressionWrapper
from keyvalue.wrappers.limit_size import LimitSizeWrapper
from keyvalue.wrappers.retry import RetryWrapper
from keyvalue.wrappers.statistics import StatisticsWrapper
from keyvalue.wrappers.ttl_clamp import TTLClampWrapper
from tests.messages import Mistake, check

MAKERS: dict[str, Callable[[], Any]] = {
    "store": MemoryStore,
    "wrapper": lambda: RetryWrapper(MemoryStore()),
    "limit-size": lambda: LimitSizeWrapper(MemoryStore(), max_size=100),
    "statistics": lambda: StatisticsWrapper(MemoryStore()),
    "façade": lambda: BlockingKeyValue(RetryWrapper(MemoryStore())),
}


@dataclass
class User:
    password: str = "hunter2"


class Model:
    """What is like a pydantic model."""

    def model_dump(self) -> None: ...


PUT = "put(key, value, *, collection=None, ttl=None)"
PUT_MANY = "put_many(keys, values, *, collection=None, ttl=None)"
MOMENT = ["seconds from now", "looks like a moment", "subtract time.time()"]
TTL = ["positive, finite number of seconds from now"]
SECRET = {"secrets": ["hunter2"]}

CALLS = [
    Mistake("expire= for ttl=", lambda kv: kv.put("k", {}, expire=3), TypeError, [PUT, "'expire'"]),
    Mistake("a TTL by position", lambda kv: kv.put("k", {}, 3), TypeError, [PUT]),
    Mistake("put without a value", lambda kv: kv.put("k", ttl=3), TypeError, [PUT, "'value'"]),
    Mistake("a collection by position: get", lambda kv: kv.get("k", "users"), TypeError, ["get(key, *, collection=None)"]),
    Mistake("a collection by position: delete", lambda kv: kv.delete("k", "users"), TypeError, ["delete(key, *, collection=None)"]),
    Mistake("a collection by position: ttl", lambda kv: kv.ttl("k", "users"), TypeError, ["ttl(key, *, collection=None)"]),
    Mistake("a default for get", lambda kv: kv.get("k", default=1), TypeError, ["get(key, *, collection=None)", "'default'"]),
    Mistake("namespace= for collection=", lambda kv: kv.get_many(["k"], namespace="u"), TypeError, ["get_many(keys, *, collection=None)"]),
    Mistake("keys for get", lambda kv: kv.get(["k"]), TypeError, ["key must be a str, not a list"]),
    Mistake("keys one by one", lambda kv: kv.get_many("k", "l"), TypeError, ["get_many(keys, *, collection=None)"]),
    Mistake("a str as keys", lambda kv: kv.get_many("kl"), TypeError, ["sequence of str", "not a str"]),
    Mistake("bytes as a key", lambda kv: kv.get(b"k"), TypeError, ["key must be a str, not bytes"]),
    Mistake("a key in many that is no str", lambda kv: kv.delete_many(["k", 1]), TypeError, ["keys[1] must be a str, not an int"]),
    Mistake("an empty key", lambda kv: kv.get(""), InvalidKeyError, ["key is empty"]),
    Mistake("an empty collection", lambda kv: kv.get("k", collection=""), InvalidKeyError, ["collection is empty"]),
    Mistake("a lone surrogate", lambda kv: kv.get("\ud800"), InvalidKeyError, ["lone surrogate"]),
    Mistake("a mapping for put_many", lambda kv: kv.put_many({"k": {"a": "hunter2"}}), TypeError, [PUT_MANY, "'values'"], **SECRET),
    Mistake("a mapping for keys", lambda kv: kv.put_many({"k": {}}, [{}]), TypeError, ["keys", "not a dict", "the keys and the values of a mapping apart"]),
    Mistake("a mapping for values", lambda kv: kv.put_many(["k"], {"k": {}}), TypeError, ["values must be a sequence", "not a dict"]),
    Mistake("too few values", lambda kv: kv.put_many(["k", "l"], [{}]), ValueError, ["one value for each key", "2 keys and 1 values"]),
    Mistake("a str as the value", lambda kv: kv.put("k", "hunter2"), TypeError, ["mapping with string keys", "not a str"], **SECRET),
    Mistake("a dataclass as the value", lambda kv: kv.put("k", User()), TypeError, ["not a User", "DataclassAdapter", "asdict()"], **SECRET),
    Mistake("a dataclass's class as the value", lambda kv: kv.put("k", User), TypeError, ["not the class User"], ["asdict"]),
    Mistake("a model as the value", lambda kv: kv.put("k", Model()), TypeError, ["not a Model", "PydanticAdapter", "model_dump("]),
    Mistake("a value in many that is none", lambda kv: kv.put_many(["k", "l"], [{}, None]), TypeError, ["values[1]", "not None"]),
    Mistake("bytes in a value", lambda kv: kv.put("k", {"a": b"hunter2"}), SerializationError, ["serialize", "value['a']", "bytes"], **SECRET),
    Mistake("a set in the last of many", lambda kv: kv.put_many(["k", "l"], [{}, {"a": {1}}]), SerializationError, ["values[1]['a']", "set"]),
    Mistake("a TTL of 0", lambda kv: kv.put("k", {}, ttl=0), InvalidTTLError, [*TTL, "not 0"]),
    Mistake("a negative TTL", lambda kv: kv.put("k", {}, ttl=-1), InvalidTTLError, [*TTL, "not -1"]),
    Mistake("a bool as TTL", lambda kv: kv.put("k", {}, ttl=True), InvalidTTLError, [*TTL, "not True"]),
    Mistake("an infinite TTL", lambda kv: kv.put("k", {}, ttl=float("inf")), InvalidTTLError, [*TTL, "not inf"]),
    Mistake("a str as TTL", lambda kv: kv.put("k", {}, ttl="10"), InvalidTTLError, [*TTL, "not a str; give float() of it"]),
    Mistake("a timedelta as TTL", lambda kv: kv.put("k", {}, ttl=timedelta(1)), InvalidTTLError, ["give its total_seconds()"]),
    Mistake("a datetime as TTL", lambda kv: kv.put("k", {}, ttl=datetime.now(timezone.utc)), InvalidTTLError, ["subtract the current time"]),
    Mistake("a moment as TTL", lambda kv: kv.put("k", {}, ttl=time.time() + 60), InvalidTTLError, MOMENT),
    Mistake("a moment as TTL of many", lambda kv: kv.put_many(["k"], [{}], ttl=int(time.time()) + 300 * 86400), InvalidTTLError, MOMENT),
    Mistake("a moment long gone", lambda kv: kv.put("k", {}, ttl=time.time() - 300 * 86400), InvalidTTLError, MOMENT),
    Mistake("a moment in milliseconds", lambda kv: kv.put("k", {}, ttl=time.time() * 1000), InvalidTTLError, ["looks like a moment, in milliseconds"]),
    Mistake("a moment in nanoseconds", lambda kv: kv.put("k", {}, ttl=time.time_ns()), InvalidTTLError, ["looks like a moment, in nanoseconds"]),
    Mistake("a negative limit", lambda kv: kv.keys(limit=-1), ValueError, ["limit must not be negative"]),
    Mistake("a str as limit", lambda kv: kv.collections(limit="1"), TypeError, ["limit must be an int or None, not a str"]),
    Mistake("a limit by position", lambda kv: kv.keys("c", 5), TypeError, ["keys(collection=None, *, limit=None): keys()"]),
    Mistake("destroy with a collection", lambda kv: kv.destroy("c"), TypeError, ["destroy()"]),
    Mistake("destroy_collection without one", lambda kv: kv.destroy_collection(), TypeError, ["destroy_collection(collection)"]),
    Mistake("pickling", pickle.dumps, TypeError, ["can't be pickled or copied", "Share the one that you have"]),
    Mistake("copying", copy.copy, TypeError, ["can't be pickled or copied"]),
    Mistake("copying deeply", copy.deepcopy, TypeError, ["can't be pickled or copied"]),
    Mistake("an attribute that is not there", lambda kv: kv.nothing, AttributeError, ["object has no attribute 'nothing'"]),
]  # fmt: skip


@pytest.mark.parametrize("mistake", CALLS, ids=lambda mistake: mistake.name)
@pytest.mark.parametrize("kind", MAKERS)
def test_calls(kind: str, mistake: Mistake) -> None:
    check(mistake, MAKERS[kind]())


@pytest.mark.parametrize("make", [NullStore, lambda: RetryWrapper(NullStore()), lambda: BlockingKeyValue(NullStore())])
@pytest.mark.parametrize("mistake", [mistake for mistake in CALLS if mistake.name in ("pickling", "an attribute that is not there")])
def test_calls_on_what_lacks_methods(make: Any, mistake: Mistake) -> None:
    check(mistake, make())


YEAR = 365 * 86400
TAKEN = [10**9, 2**31 - 1, 100 * YEAR, time.time() + 367 * 86400, time.time() - 367 * 86400, 200 * YEAR]


@pytest.mark.parametrize("ttl", TAKEN, ids=range(len(TAKEN)))
async def test_long_ttls_are_taken(ttl: float) -> None:
    for kv in (MemoryStore(), TTLClampWrapper(MemoryStore(), 0, float("inf"), missing_ttl=ttl)):
        await kv.put("k", {}, ttl=ttl)
        await kv.put_many(["l"], [{}], ttl=ttl)
        for _, left in await kv.ttl_many(["k", "l"]):
            assert left == pytest.approx(ttl, abs=60)


def test_a_wrong_value_of_many_is_named_through_wrappers() -> None:
    values: list[Any] = [{"a": 1}, {"a": 1}, {"a": 1}, {"a": [{1}]}]
    for wrap in (
        CompressionWrapper,
        lambda store: LimitSizeWrapper(store, max_size=10**6),
        lambda store: CompressionWrapper(RetryWrapper(store)),
    ):
        store = MemoryStore()
        with pytest.raises(SerializationError, match=r"values\[3\]\['a'\]\[0\]") as caught:
            BlockingKeyValue(wrap(store)).put_many(["a", "b", "c", "d"], values)
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        facade: Any = BlockingKeyValue(store)
        assert facade.keys() == []
