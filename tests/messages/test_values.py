"""What is said of values that can't be stored: where what is, and what to do, without anything that they hold."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
from collections import UserDict
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from keyvalue._core import arguments
from keyvalue.errors import InvalidKeyError, SerializationError
from keyvalue.stores.memory import MemoryStore
from tests.messages import Mistake, check

S = SerializationError
SECRET = "s3cret of theirs"  # as a key it is none that is shown


class User(BaseModel):
    name: str = SECRET


@dataclasses.dataclass
class Point:
    name: str = SECRET


class Colour(enum.Enum):
    RED = SECRET


class Changing(UserDict[str, Any]):
    """A mapping that is another one each time."""

    def items(self) -> Any:
        self.data["n"] += 1
        return self.data.items()


def mistake(name: str, value: Any, *says: str, error: type[Exception] = S, not_says: tuple[str, ...] = ()) -> Mistake:
    if error is S:
        says = ("Could not serialize", *says)
    return Mistake(name, lambda: MemoryStore().put("k", value), error, says, [*not_says, "s3cret", "\ud800"], ["s3cret"])


def nested(levels: int) -> dict[str, Any]:
    return functools.reduce(lambda inner, _: {"x": inner}, range(levels), {})


def holding_itself() -> dict[str, Any]:
    inner: dict[str, Any] = {}
    inner["again"] = [inner]
    return {"a": inner}


async def coroutine() -> dict[str, Any]:
    return {}


def not_awaited() -> Any:
    made = coroutine()
    made.close()  # without a warning that it was never awaited
    return made


WHOLE = [
    mistake("a model", User(), "a mapping", "not a User", 'model_dump(mode="json")', "PydanticAdapter", error=TypeError),
    mistake("a dataclass", Point(), "not a Point", "dataclasses.asdict()", "DataclassAdapter", error=TypeError),
    mistake("a text", SECRET, "not a str", '{"value": …}', "PydanticAdapter", error=TypeError),
    mistake("a list", [SECRET], "not a list", '{"value": …}', error=TypeError),
    mistake("None", None, "not None", '{"value": …}', error=TypeError),
    mistake("a coroutine", not_awaited(), "not a coroutine", "await it", error=TypeError),
    mistake("the class of a model", User, "not the class User", "rather than its class", error=TypeError, not_says=("model_dump",)),
    Mistake(
        "a model among many",
        lambda: MemoryStore().put_many(["a", "b"], [{}, User()]),  # pyright: ignore[reportArgumentType] # that is the mistake
        TypeError,
        ["values[1]", "not a User", "model_dump"],
        secrets=["s3cret"],
    ),
]

WITHIN = [
    mistake("a model within", {"a": [User()]}, "value['a'][0] is of type User", 'model_dump(mode="json")'),
    mistake("a dataclass within", {"a": {"b": Point()}}, "value['a']['b'] is of type Point", "dataclasses.asdict()"),
    mistake("a time", {"at": datetime.datetime.now(datetime.timezone.utc)}, "value['at'] is of type datetime", "isoformat()"),
    mistake("a date", {"on": datetime.date(2026, 1, 1)}, "value['on'] is of type date", "isoformat()"),
    mistake("bytes", {"a": [0, SECRET.encode()]}, "value['a'][1] is of type bytes", "base64"),
    mistake("a set", {"tags": {SECRET}}, "value['tags'] is of type set", "store a list"),
    mistake("a decimal", {"price": decimal.Decimal(1)}, "value['price'] is of type Decimal", "str()"),
    mistake("an enum member", {"colour": Colour.RED}, "value['colour'] is an enum member", "its value or its name"),
    mistake("a coroutine within", {"a": not_awaited()}, "value['a'] is of type coroutine", "await it"),
    mistake("an unknown object", {"a": object()}, "value['a'] is of type object", "convert it first"),
    mistake("NaN", {"a": {"b-c": [1.5, float("nan")]}}, "value['a']['b-c'][1] is not a finite number", "None or a string"),
    mistake("infinity", {"a": float("-inf")}, "value['a'] is not a finite number"),
    mistake("half a character", {"a": f"{SECRET}\ud800"}, "value['a'] is a string with a lone surrogate"),
    mistake("a key with half a character", {"b": 1, f"{SECRET}\ud800": 1}, "value has a key (key #2)", "lone surrogate"),
    mistake("a key that is a number", {"a": {"b": 1, 5: 1}}, "value['a'] has a key of type int (key #2)", "only strings"),
    mistake("a key that is None", {None: SECRET}, "value has a key of type NoneType (key #1)", "only strings"),
    mistake("a circle", holding_itself(), "value['a']['again'][0]", "circular references", not_says=("the value itself",)),
    mistake("too deep", nested(300), "value['x']['x']", "['x'] is nested more than 254 levels deep", " … "),
    mistake("a mapping that changes", Changing(n=1), "changes all the time", "give a copy"),
]

KEYS = [
    mistake("a key with spaces", {"b": 1, SECRET: float("nan")}, "value[key #2] is not a finite number"),
    mistake("a key of 40 characters", {"x" * 40: float("nan")}, f"value['{'x' * 40}']"),
    mistake("a long key", {"x" * 41: float("nan")}, "value[key #1]", not_says=("xxx",)),
    mistake("an empty key", {"a": {"": b""}}, "value['a'][key #1]"),
    mistake("a key with a quote", {"it's": b""}, "value[key #1]", not_says=("it's",)),
    mistake("a key beyond ASCII", {"n\u00e4me": b""}, "value[key #1]", not_says=("n\u00e4me",)),
    mistake("a key that ends a line", {"name\n": b""}, "value[key #1]"),
    mistake("members of such", {SECRET: [{SECRET: {"a": b""}}]}, "value[key #1][0][key #1]['a']"),
]


NAMES = [
    Mistake(
        "a name with half a character", lambda: MemoryStore().get("s3cret\ud800"), InvalidKeyError, ["lone surrogate"], secrets=["s3cret"]
    ),
]


@pytest.mark.parametrize("mistake", [*WHOLE, *WITHIN, *KEYS, *NAMES], ids=lambda mistake: mistake.name)
def test_values(mistake: Mistake) -> None:
    check(mistake)


def test_values_where_no_types_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "CHECK_TYPES", False)
    check(mistake("a model, unchecked", User(), "not a User", 'model_dump(mode="json")'))
    check(mistake("a text, unchecked", SECRET, "not a str"))


@pytest.mark.parametrize("value", [{"a": b""}, {"a": "\ud800"}, {"a": object()}])
def test_a_refusal_comes_from_no_other_error(value: Mapping[str, Any]) -> None:
    """Those quote the value, or show the user what only the library has to do with."""
    with pytest.raises(SerializationError) as caught:
        MemoryStore(seed={"c": {"k": value}})
    assert caught.value.__cause__ is caught.value.__context__ is None
