"""What the tests put into stores: names, values and times to live, those that must be taken and those that must be refused."""

from __future__ import annotations

import enum
import math
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

__all__ = ["BAD_TTLS", "NAMES", "NOT_JSON", "VALUES", "labels", "nested", "same"]

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


class Colour(enum.Enum):
    """A choice."""

    RED = "red"


class StrColour(str, enum.Enum):
    """A choice that is a text too."""

    RED = "red"


class Number(enum.IntEnum):
    """A choice that is a number too."""

    ONE = 1


@dataclass
class Point:
    """A place."""

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

BAD_TTLS: list[Any] = [10**5000, 0, -1, 0.0, -0.5, math.nan, math.inf, -math.inf, True, False, 1e12, 1e300, 10**400, Decimal("NaN")]


def labels(values: Iterable[object]) -> list[str]:
    """Return what tests call values in their ids: what they are, and which one it is."""
    return [f"{type(value).__name__}-{number}" for number, value in enumerate(values)]


def nested(levels: int, last: object = 1) -> dict[str, Any]:
    """Return a value of so many levels."""
    value: Any = last
    for level in range(levels):
        value = {"a": value} if level % 2 == 0 or level == levels - 1 else [value]
    return value


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, with the same types, key order and signs."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        mine, yours = cast("dict[Any, Any]", one), cast("dict[Any, Any]", other)
        return list(mine) == list(yours) and all(same(mine[key], yours[key]) for key in mine)
    if isinstance(one, list):
        items = cast("list[Any]", one)
        return len(items) == len(other) and all(map(same, items, other))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return one == other
