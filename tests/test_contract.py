"""The contract, point by point, for every store on every runtime."""

from __future__ import annotations

import enum
import itertools
import json
import math
import uuid
from collections import OrderedDict, UserDict, defaultdict
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pytest

from keyvalue._core.codec import MAX_DEPTH
from keyvalue.errors import InvalidKeyError, InvalidTTLError, SerializationError, StoreClosedError
from tests import backends
from tests.conftest import Clock
from tests.runtimes import Runtime

on_all = pytest.mark.backends(*backends.MAKERS)


# 1. Signatures


async def test_positional_and_keyword_calls(kv: Any) -> None:
    assert await kv.put("k", {"a": 1}) is None
    assert await kv.put(key="l", value={"b": 2}, collection=None, ttl=None) is None
    assert await kv.get("k") == {"a": 1}
    assert await kv.get(key="l", collection=None) == {"b": 2}
    assert await kv.put_many(keys=["m"], values=[{"c": 3}], collection="c", ttl=50) is None
    assert await kv.get_many(keys=["m"], collection="c") == [{"c": 3}]
    assert await kv.delete(key="k", collection=None) is True
    assert await kv.delete_many(keys=["m"], collection="c") == 1


async def test_return_types(kv: Any) -> None:
    await kv.put("k", {"a": 1}, ttl=50)
    value, ttl = await kv.ttl("k")
    assert type(value) is dict
    assert type(ttl) is float
    assert 49 < ttl <= 50
    assert await kv.ttl("missing") == (None, None)
    many = await kv.ttl_many(["k", "missing"])
    assert type(many) is list
    assert [type(pair) for pair in many] == [tuple, tuple]
    assert type(await kv.get_many(["k"])) is list
    assert type(await kv.delete_many(["k"])) is int
    assert type(await kv.delete("k")) is bool


async def test_ttl_of_an_entry_that_never_expires(kv: Any) -> None:
    await kv.put("k", {"a": 1})
    assert await kv.ttl("k") == ({"a": 1}, None)


# 2. Names

NAMES = [
    "a",
    "A",
    "b",
    "a::b",
    "b::",
    "::b",
    ":",
    "::",
    "a:",
    ":a",
    "a~:b",
    "~0",
    "~1",
    "~",
    "a/b",
    "..",
    ".",
    "*",
    "?",
    "[ab]",
    "\\",
    "a^b",
    "%41",
    "nul\0nul",
    "line\nline",
    " ",
    "'\"",
    "é",
    "e\u0301",
    "😀",
    "\ufeff",
    "\U0010ffff",
    "default_collection",
    "x" * 10_000,
    "é" * 10_000,
]


async def test_any_names_work_and_never_meet(kv: Any) -> None:
    for collection in NAMES:
        await kv.put_many(NAMES, [{"c": collection, "k": key} for key in NAMES], collection=collection)
    for collection in NAMES:
        assert await kv.get_many(NAMES, collection=collection) == [{"c": collection, "k": key} for key in NAMES]
        assert sorted(await kv.keys(collection)) == sorted(NAMES)
    assert sorted(await kv.collections()) == sorted(NAMES)
    for collection in NAMES[::2]:
        assert await kv.delete_many(NAMES, collection=collection) == len(NAMES)
    for index, collection in enumerate(NAMES):
        expected = [None if index % 2 == 0 else {"c": collection, "k": key} for key in NAMES]
        assert await kv.get_many(NAMES, collection=collection) == expected
    assert sorted(await kv.collections()) == sorted(NAMES[1::2])


@pytest.mark.parametrize(("one", "other"), [(("a", "b::c"), ("a::b", "c")), (("a:", "b"), ("a", ":b")), (("Foo", "k"), ("foo", "k"))])
async def test_neighbours_never_meet(kv: Any, one: tuple[str, str], other: tuple[str, str]) -> None:
    for (collection, key), (other_collection, other_key) in itertools.permutations([one, other]):
        await kv.put(key, {"mine": True}, collection=collection)
        assert await kv.get(other_key, collection=other_collection) is None
        assert await kv.delete(other_key, collection=other_collection) is False
        assert await kv.delete(key, collection=collection) is True


@on_all
async def test_bad_names_are_refused_before_anything_is_written(kv: Any, backend: str) -> None:
    for bad, error in [("", InvalidKeyError), ("\ud800", InvalidKeyError), (1, TypeError), (b"k", TypeError), (None, TypeError)]:
        calls = [
            lambda bad=bad: kv.get(bad),
            lambda bad=bad: kv.ttl(bad),
            lambda bad=bad: kv.put(bad, {}),
            lambda bad=bad: kv.delete(bad),
            lambda bad=bad: kv.get_many(["k", bad]),
            lambda bad=bad: kv.ttl_many(["k", bad]),
            lambda bad=bad: kv.put_many(["k", bad], [{}, {}]),
            lambda bad=bad: kv.delete_many(["k", bad]),
        ]
        if bad is not None:
            calls += [lambda bad=bad: kv.get("k", collection=bad), lambda bad=bad: kv.put_many(["k"], [{}], collection=bad)]
        for call in calls:
            with pytest.raises(error, match=r"key|collection"):
                await call()
    if backend != "null":
        assert await kv.collections() == []


async def test_the_default_collection(make: Any) -> None:
    kv = make()
    await kv.put("k", {"a": 1})
    assert await kv.get("k", collection="default_collection") == {"a": 1}
    assert await kv.keys() == ["k"]
    assert await kv.collections() == ["default_collection"]
    await kv.close()


@pytest.mark.backends("memory", "disk", "rocksdb", "redis")
async def test_another_default_collection(make: Any) -> None:
    kv = make(default_collection="mine")
    await kv.put("k", {"a": 1})
    assert await kv.get("k", collection="mine") == {"a": 1}
    assert await kv.collections() == ["mine"]


async def test_str_subclasses_are_names(kv: Any) -> None:
    class Name(str):
        def __str__(self) -> str:
            return "other"

    await kv.put(Name("k"), {"a": 1}, collection=Name("c"))
    assert await kv.get("k", collection="c") == {"a": 1}
    assert await kv.keys("c") == ["k"]


# 3. Values

VALUES: list[dict[str, Any]] = [
    {},
    {"b": 1, "a": {"d": 1, "c": 2}},
    {"none": None, "text": "null", "true": True, "false": False},
    {"": "", "nul\0": "nul\0", "é😀": "é😀\U0010ffff\u2028"},
    {"ints": [0, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 2**70, -(10**30), 10**5000]},
    {"floats": [0.0, -0.0, 0.1, 1.0, 1e300, -1e-300, 5e-324, 1.7976931348623157e308, 123456789012345678901234.0]},
    {"digits": "12345678901234567890123", "list": [[], [[]], {}, [{}]]},
    {"key": [1, 2], "value": ["a", "b"], "version": 2, "expires_at": "2000-01-01T00:00:00+00:00", "collection": 1},
    {"value": {"value": {"value": {}}}, "$ref": "x", "$id": 1},
    {"mixed": [1, "x", True, None, 2.5, {"x": 1}, [1]]},
    {"__compressed_data__": "x", "__encrypted_data__": "y"},
]


def same(one: Any, other: Any) -> bool:
    """Equal, with the same types, key order and signs."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return one == other


@pytest.mark.parametrize("number", range(len(VALUES)))
async def test_values_come_back_exactly(kv: Any, number: int) -> None:
    value = VALUES[number]
    await kv.put("k", value)
    await kv.put_many(["l", "m"], [value, {}])
    assert same(await kv.get("k"), value)
    assert same((await kv.get_many(["m", "l"]))[1], value)
    assert same((await kv.ttl("l"))[0], value)


async def test_values_become_their_json_round_trip(kv: Any) -> None:
    class Text(str):
        pass

    class Whole(int):
        pass

    value = {
        "tuple": (1, (2, [3])),
        "subclasses": [Text("t"), Whole(7), OrderedDict(b=1, a=2), defaultdict(int, {"x": 1})],
        Text("k"): True,
        "big": (2**70, None),
    }
    await kv.put("k", value)
    assert same(await kv.get("k"), json.loads(json.dumps(value)))


@pytest.mark.parametrize("wrap", [MappingProxyType, UserDict, OrderedDict])
async def test_any_mapping_is_a_value(kv: Any, wrap: Any) -> None:
    await kv.put("k", wrap({"a": wrap({"b": 1})}))
    await kv.put_many(["l"], [wrap({"a": 1})])
    assert same(await kv.get("k"), {"a": {"b": 1}})
    assert same(await kv.get("l"), {"a": 1})


async def test_values_are_never_shared(kv: Any) -> None:
    inner = [1]
    value = {"inner": inner}
    await kv.put("k", value)
    inner.append(2)
    got = await kv.get("k")
    assert got == {"inner": [1]}
    got["inner"].append(3)
    again = await kv.get_many(["k", "k"])
    assert again == [{"inner": [1]}] * 2
    again[0]["inner"].append(4)
    assert again[1] == {"inner": [1]}
    pairs = await kv.ttl_many(["k", "k"])
    pairs[0][0]["inner"].append(4)
    assert pairs[1][0] == {"inner": [1]}
    assert await kv.get("k") == {"inner": [1]}


def nested(levels: int, last: object = 1) -> dict[str, Any]:
    value: Any = last
    for level in range(levels):
        value = {"a": value} if level % 2 == 0 or level == levels - 1 else [value]
    return value


@pytest.mark.parametrize("last", [1, 2**70])
async def test_deep_values(kv: Any, backend: str, last: int) -> None:
    deepest = MAX_DEPTH - 1 if backend == "wrapped" else MAX_DEPTH
    for levels in (200, deepest):
        await kv.put("k", nested(levels, last))
        assert await kv.get("k") == nested(levels, last)
    for levels in (deepest + 1, 900, 5000):
        with pytest.raises(SerializationError, match="nested"):
            await kv.put("k", nested(levels, last))
    assert await kv.get("k") == nested(deepest, last)


class Colour(enum.Enum):
    RED = "red"


class StrColour(str, enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


@dataclass
class Point:
    x: int


NOT_JSON: list[Any] = [
    math.nan,
    math.inf,
    -math.inf,
    b"bytes",
    bytearray(b"b"),
    {1, 2},
    frozenset(),
    datetime.now(timezone.utc),
    uuid.uuid4(),
    Decimal(1),
    Fraction(1, 2),
    1j,
    Point(1),
    Colour.RED,
    StrColour.RED,
    Number.ONE,
    "\ud800",
    object(),
    ...,
    {1: 2},
    {None: 1},
    {StrColour.RED: 1},
    {"\udfff": 1},
    range(3),
]


@on_all
@pytest.mark.parametrize("number", range(len(NOT_JSON)))
async def test_what_is_not_json_is_refused_with_its_place(kv: Any, backend: str, number: int) -> None:
    bad = NOT_JSON[number]
    for extra in ({}, {"big": 2**70}, {"none": None}):
        value = {"list": [0, {"bad": bad}], **extra}
        with pytest.raises(SerializationError, match=r"(?s)serialize.*\['list'\]\[1\]\['bad'\]") as caught:
            await kv.put("k", value)
        assert isinstance(caught.value, ValueError)
        with pytest.raises(SerializationError):
            await kv.put_many(["ok", "k"], [{}, value])
    assert await kv.get_many(["ok", "k"]) == [None, None]


async def test_circular_values_are_refused(kv: Any) -> None:
    circle: dict[str, Any] = {}
    circle["list"] = [circle]
    with pytest.raises(SerializationError, match="circular"):
        await kv.put("k", circle)


@on_all
async def test_messages_hold_no_values(kv: Any, backend: str) -> None:
    for bad in ({"a": {"hunter2-secret"}}, {"a": b"hunter2-secret"}, "hunter2-secret", ["hunter2-secret"]):
        with pytest.raises((SerializationError, TypeError)) as caught:
            await kv.put("k", bad)
        assert "hunter2" not in str(caught.value)


@on_all
async def test_values_of_a_wrong_type(kv: Any, backend: str) -> None:
    for bad in (None, [], "text", 1, b"{}", {1}):
        with pytest.raises(TypeError, match="mapping"):
            await kv.put("k", bad)
        with pytest.raises(TypeError, match="mapping"):
            await kv.put_many(["k", "l"], [{}, bad])


# 4. TTL


async def test_expiry(kv: Any, clock: Clock) -> None:
    clock.freeze()
    await kv.put("k", {"a": 1}, ttl=10)
    await kv.put("stays", {"a": 2})
    clock.advance(9.9)
    assert await kv.get("k") == {"a": 1}
    value, left = await kv.ttl("k")
    assert value == {"a": 1}
    assert left == pytest.approx(0.1, abs=1e-4)
    clock.advance(0.11)
    assert await kv.get("k") is None
    assert await kv.ttl("k") == (None, None)
    assert await kv.get_many(["k", "stays"]) == [None, {"a": 2}]
    assert await kv.ttl_many(["k", "stays"]) == [(None, None), ({"a": 2}, None)]
    assert await kv.keys() == ["stays"]
    assert await kv.delete("k") is False
    assert await kv.delete_many(["k", "stays"]) == 1
    assert await kv.collections() == []


async def test_expired_entries_are_absent_to_delete_and_listing(kv: Any, clock: Clock) -> None:
    await kv.put_many(["a", "b"], [{}, {}], collection="c", ttl=5)
    clock.advance(5)
    assert await kv.collections() == []
    assert await kv.keys("c") == []
    assert await kv.delete_many(["a"], collection="c") == 0
    assert await kv.destroy_collection("c") is False


async def test_put_without_ttl_clears_an_earlier_one(kv: Any, clock: Clock) -> None:
    await kv.put("k", {"a": 1}, ttl=5)
    await kv.put("k", {"a": 2})
    await kv.put_many(["l", "m"], [{}, {}], ttl=5)
    await kv.put_many(["l"], [{}])
    clock.advance(6)
    assert await kv.ttl("k") == ({"a": 2}, None)
    assert await kv.get_many(["l", "m"]) == [{}, None]


async def test_put_with_another_ttl_replaces_the_earlier_one(kv: Any, clock: Clock) -> None:
    await kv.put("k", {"a": 1}, ttl=5)
    await kv.put("k", {"a": 2}, ttl=50)
    clock.advance(6)
    assert await kv.get("k") == {"a": 2}
    await kv.put("k", {"a": 3}, ttl=5)
    clock.advance(5)
    assert await kv.get("k") is None


@pytest.mark.parametrize("ttl", [1, 1.5, 0.5, Decimal("1.5"), Fraction(3, 2), 10**9, 200_000_000_000])
async def test_any_positive_number_is_a_ttl(kv: Any, clock: Clock, ttl: Any) -> None:
    clock.freeze()
    await kv.put("k", {"a": 1}, ttl=ttl)
    await kv.put_many(["l"], [{}], ttl=ttl)
    value, left = await kv.ttl("k")
    assert value == {"a": 1}
    assert left == pytest.approx(float(ttl), abs=1e-4)
    assert await kv.get("l") == {}


BAD_TTLS: list[Any] = [10**5000, 0, -1, 0.0, -0.5, math.nan, math.inf, -math.inf, True, False, 1e12, 1e300, 10**400, Decimal("NaN")]


@on_all
@pytest.mark.parametrize("number", range(len(BAD_TTLS)))
async def test_bad_ttls_are_refused_before_anything_is_written(kv: Any, backend: str, number: int) -> None:
    with pytest.raises(InvalidTTLError, match="positive, finite number of seconds"):
        await kv.put("k", {}, ttl=BAD_TTLS[number])
    with pytest.raises(InvalidTTLError):
        await kv.put_many(["k"], [{}], ttl=BAD_TTLS[number])
    assert await kv.get("k") is None


@on_all
@pytest.mark.parametrize("ttl", ["10", b"1", [1], object()])
async def test_a_ttl_of_a_wrong_type_is_both_errors(kv: Any, backend: str, ttl: Any) -> None:
    for error in (InvalidTTLError, TypeError):
        with pytest.raises(error):
            await kv.put("k", {}, ttl=ttl)
        with pytest.raises(error):
            await kv.put_many(["k"], [{}], ttl=ttl)


async def test_cull_removes_only_what_has_expired(kv: Any, clock: Clock) -> None:
    await kv.put_many(["a", "b", "c::d"], [{}, {}, {}], collection="x::y", ttl=5)
    await kv.put("stays", {"a": 1}, collection="x::y")
    clock.advance(5)
    await kv.put("b", {"again": True}, collection="x::y")
    await kv.cull()
    assert sorted(await kv.keys("x::y")) == ["b", "stays"]
    assert await kv.get("b", collection="x::y") == {"again": True}


# 5. Bulk


async def test_bulk_results_are_aligned(kv: Any) -> None:
    await kv.put_many(["a", "b", "a"], [{"n": 1}, {"n": 2}, {"n": 3}])
    assert await kv.get_many(["b", "missing", "a", "b"]) == [{"n": 2}, None, {"n": 3}, {"n": 2}]
    assert [value for value, _ in await kv.ttl_many(["a", "a", "missing"])] == [{"n": 3}, {"n": 3}, None]
    assert await kv.delete_many(["a", "a", "missing", "b"]) == 2
    assert await kv.get_many(["a", "b"]) == [None, None]


@pytest.mark.parametrize("number", [1, 100, 1201])
async def test_bulk_of_many(kv: Any, number: int) -> None:
    keys = [f"key-{index}" for index in range(number)]
    await kv.put_many(tuple(keys), tuple({"n": index} for index in range(number)), ttl=60)
    assert await kv.get_many(keys) == [{"n": index} for index in range(number)]
    assert sorted(await kv.keys()) == sorted(keys)
    assert await kv.delete_many([*keys, *keys]) == number


@on_all
async def test_empty_bulk(kv: Any, backend: str) -> None:
    assert await kv.get_many([]) == []
    assert await kv.ttl_many([]) == []
    assert await kv.put_many([], []) is None
    assert await kv.delete_many([]) == 0


@on_all
async def test_unequal_lengths(kv: Any, backend: str) -> None:
    for keys, values in ((["a"], []), ([], [{}]), (["a", "b"], [{}])):
        with pytest.raises(ValueError, match="one value for each key"):
            await kv.put_many(keys, values)
    assert await kv.get("a") is None


@on_all
async def test_keys_must_be_a_sequence(kv: Any, backend: str) -> None:
    for bad in ("ab", b"ab", {"a"}, iter(["a"]), {"a": 1}.keys(), None, 1):
        for call in (kv.get_many, kv.ttl_many, kv.delete_many):
            with pytest.raises(TypeError, match="sequence"):
                await call(bad)
        with pytest.raises(TypeError, match="sequence"):
            await kv.put_many(bad, [{}])
    with pytest.raises(TypeError, match="sequence"):
        await kv.put_many(["a"], "x")


@on_all
async def test_every_element_is_checked(kv: Any, backend: str) -> None:
    for place in range(50):
        keys: list[Any] = [f"k{index}" for index in range(50)]
        keys[place] = 1
        with pytest.raises(TypeError):
            await kv.get_many(keys)


# 7. Lifetime


async def test_closing(make: Any, backend: str, runtime: Runtime) -> None:
    kv = make()
    await kv.put("k", {})
    await kv.close()
    await kv.close()
    calls = [
        lambda: kv.get("k"),
        lambda: kv.ttl("k"),
        lambda: kv.put("k", {}),
        lambda: kv.delete("k"),
        lambda: kv.get_many([]),
        lambda: kv.ttl_many(["k"]),
        lambda: kv.put_many([], []),
        lambda: kv.delete_many(["k"]),
        lambda: kv.keys(),
        lambda: kv.collections(),
        lambda: kv.destroy(),
        lambda: kv.destroy_collection("c"),
        lambda: kv.cull(),
        lambda: kv.setup(),
    ]
    for call in calls:
        with pytest.raises(StoreClosedError, match="closed"):
            await call()


async def test_closing_before_use(make: Any) -> None:
    await make().close()
    kv = make()
    await kv.put("k", {})
    assert await kv.get("k") == {}


async def test_context_manager_and_setup(make: Any) -> None:
    async with make() as kv:
        await kv.setup()
        await kv.setup()
        await kv.put("k", {})
    with pytest.raises(StoreClosedError):
        await kv.get("k")
    with pytest.raises(StoreClosedError):
        async with kv:
            pass


@pytest.mark.backends(*backends.PERSISTENT)
async def test_entries_outlive_the_store(make: Any) -> None:
    async with make() as kv:
        await kv.put("k", {"a": 1}, collection="c::d", ttl=100)
    async with make() as kv:
        value, left = await kv.ttl("k", collection="c::d")
        assert value == {"a": 1}
        assert 90 < left <= 100


async def test_an_empty_store_is_truthy(make_raw: Any, backend: str) -> None:
    store = make_raw()
    assert store
    assert not hasattr(store, "__len__")
    assert not hasattr(store, "__bool__")
    await store.close()


async def test_reading_creates_nothing(kv: Any) -> None:
    for index in range(20):
        assert await kv.get("k", collection=f"c{index}") is None
        assert await kv.get_many(["k", "l"], collection=f"c{index}") == [None, None]
        assert await kv.ttl("k", collection=f"c{index}") == (None, None)
        assert await kv.delete("k", collection=f"c{index}") is False
        assert await kv.keys(f"c{index}") == []
    assert await kv.collections() == []


# 9. Listing


async def test_limits_of_listing(kv: Any) -> None:
    await kv.put_many([f"k{index}" for index in range(5)], [{}] * 5)
    await kv.put("k", {}, collection="other")
    assert await kv.keys(limit=0) == []
    assert await kv.collections(limit=0) == []
    assert len(await kv.keys(limit=3)) == 3
    assert len(set(await kv.keys(limit=100))) == 5
    assert len(await kv.collections(limit=1)) == 1
    assert sorted(await kv.collections(limit=2)) == ["default_collection", "other"]
    for call in (kv.keys, kv.collections):
        with pytest.raises(ValueError, match="negative"):
            await call(limit=-1)
        for bad in ("1", 1.0, True):
            with pytest.raises(TypeError, match="limit"):
                await call(limit=bad)
    with pytest.raises(InvalidKeyError):
        await kv.keys("")


async def test_a_limit_counts_live_entries_only(kv: Any, clock: Clock) -> None:
    await kv.put_many([f"gone{index}" for index in range(5)], [{}] * 5, ttl=1)
    await kv.put_many(["a", "b"], [{}, {}])
    clock.advance(1)
    assert sorted(await kv.keys(limit=2)) == ["a", "b"]


# 10. Destroying


async def test_destroying_a_collection(kv: Any) -> None:
    for collection in ("c", "c::d", "d"):
        await kv.put_many(["k", "::x"], [{}, {}], collection=collection)
    assert await kv.destroy_collection("c") is True
    assert await kv.destroy_collection("c") is False
    assert await kv.destroy_collection("never") is False
    assert sorted(await kv.collections()) == ["c::d", "d"]
    assert await kv.destroy_collection("c::d") is True
    assert await kv.collections() == ["d"]
    await kv.put("again", {"a": 1}, collection="c")
    assert await kv.get("again", collection="c") == {"a": 1}
    assert await kv.keys("c") == ["again"]
    for bad, error in (("", InvalidKeyError), (None, TypeError), (1, TypeError)):
        with pytest.raises(error):
            await kv.destroy_collection(bad)


async def test_destroying_everything(kv: Any) -> None:
    for collection in ("c", "c::d", "d"):
        await kv.put("k", {}, collection=collection)
    assert await kv.destroy() is True
    assert await kv.collections() == []
    assert await kv.get("k", collection="c::d") is None
    assert await kv.destroy() is True
    await kv.put("k", {"a": 1})
    assert await kv.get("k") == {"a": 1}
