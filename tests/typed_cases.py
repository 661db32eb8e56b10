"""Types and values that the adapters keep, and some that they must refuse."""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import pydantic.dataclasses
from pydantic import BaseModel, ConfigDict, Field, RootModel, Secret, SecretBytes, SecretStr
from typing_extensions import TypedDict

T = TypeVar("T")
Numbers = RootModel[list[int]]
Root = RootModel[dict[str, Any]]


class User(BaseModel):
    name: str
    age: int = 0


class Aliased(BaseModel):
    name: str = Field(alias="userName")
    age: int = Field(default=0, validation_alias="userAge", serialization_alias="ageOut")


class Area(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int
    height: int

    @pydantic.computed_field
    @property
    def area(self) -> int:
        return self.width * self.height


class Areas(BaseModel):
    model_config = ConfigDict(extra="forbid")
    of: list[Area]
    by_name: dict[str, Area | int] = {}


class Login(BaseModel):
    password: SecretStr
    key: SecretBytes | None = None
    number: Secret[int] | None = None
    others: dict[str, SecretStr] = {}


class Box(BaseModel, Generic[T]):
    content: T


Hexed = Box[Annotated[int, pydantic.PlainSerializer(hex), pydantic.BeforeValidator(lambda value: int(str(value), 0))]]
Doubled = Box[Annotated[str, pydantic.PlainSerializer(lambda text: text * 2)]]
Excluded = Box[Annotated[int, Field(exclude=True)]]


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    age: int = 1


class Small(BaseModel):
    x: int = 0


class Large(BaseModel):
    x: int = 0
    y: int = 1


class Twin(BaseModel):
    x: int = 0


class Site(BaseModel):
    url: pydantic.AnyUrl
    more: list[pydantic.AnyUrl] = []
    named: dict[pydantic.AnyUrl, int] = {}
    database: pydantic.PostgresDsn | None = None


class Blob(BaseModel):
    data: bytes
    parts: list[bytes] = []
    named: dict[str, bytes] = {}


class Written(BaseModel):
    point: tuple[int, int]

    @pydantic.model_serializer
    def text(self) -> str:
        return f"{self.point[0]},{self.point[1]}"


class Base64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes


class Extras(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Swapped(BaseModel):
    a: int = Field(alias="b")
    b: int = Field(alias="a")


class Crossed(BaseModel):
    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)
    a: int = Field(alias="A")
    b: dict[str, int] = Field(validation_alias=pydantic.AliasChoices("B", pydantic.AliasPath("a", 0)))


class CrossedDict(TypedDict):
    a: Annotated[int, Field(alias="b")]
    b: Annotated[int, Field(alias="a")]


class Initialized(BaseModel):
    n: int

    def __init__(self, **fields: Any) -> None:
        super().__init__(n=fields["n"] + 1)


def tag(value: Any) -> str:
    """Tell one from the other by what JSON does not keep: a y of 0 is taken for none when it is read."""
    return "large" if isinstance(value, Large) or (isinstance(value, dict) and value.get("y")) else "small"  # pyright: ignore[reportUnknownMemberType]


Tagged = Annotated[Annotated[Small, pydantic.Tag("small")] | Annotated[Large, pydantic.Tag("large")], pydantic.Discriminator(tag)]


class Colour(enum.Enum):
    RED = "red"
    NUMBER = 1


class Place(NamedTuple):
    x: int
    y: int


@dataclass
class Inner:
    at: datetime.datetime
    data: bytes = b""


@dataclass
class Outer:
    inner: Inner
    many: list[Inner] = field(default_factory=list[Inner])
    tags: set[str] = field(default_factory=set[str])


@dataclass
class Started:
    a: int
    b: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.b = self.a + 1


@dataclass(frozen=True)
class Pair(Generic[T]):
    one: T
    two: T


@pydantic.dataclasses.dataclass
class Checked:
    a: int
    b: bytes = b""


NOW = datetime.datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30)))
ODD_ZONE = datetime.timezone(datetime.timedelta(seconds=61))
NOT_UTF8 = b"\xff\x00\xfe"
INNER = Inner(NOW, NOT_UTF8)

KEPT: dict[str, tuple[Any, Any]] = {
    "model": (User, User(name="Ada", age=36)),
    "aliases": (Aliased, Aliased.model_validate({"userName": "Ada", "userAge": 36})),
    "computed field, no extras": (Area, Area(width=2, height=3)),
    "nested computed fields": (Areas, Areas(of=[Area(width=2, height=3)], by_name={"area": Area(width=1, height=1), "b": 5})),
    "SecretStr": (Login, Login(password=SecretStr("hunter2"))),
    "secrets everywhere": (
        Login,
        Login(password=SecretStr("a"), key=SecretBytes(NOT_UTF8), number=Secret[int](5), others={"a": SecretStr("b")}),
    ),
    "bare SecretStr": (SecretStr, SecretStr("hunter2")),
    "list of SecretBytes": (list[SecretBytes], [SecretBytes(NOT_UTF8), SecretBytes(b"text")]),
    "Optional, None": (int | None, None),
    "Optional": (int | None, 3),
    "Optional model, None": (User | None, None),
    "None": (type(None), None),
    "root model": (Numbers, Numbers([1, 2])),
    "generic": (Box[int], Box[int](content=1)),
    "generic of bytes": (Box[bytes], Box[bytes](content=NOT_UTF8)),
    "generic dataclass": (Pair[datetime.date], Pair(NOW.date(), NOW.date())),
    "recursive": (Node, Node(name="a", children=[Node(name="b", children=[Node(name="c")])])),
    "union of scalars": (int | str, "3"),
    "union of numbers": (int | float, 1.0),
    "union of models": (Small | Large, Large(x=1, y=2)),
    "union of dates": (datetime.date | datetime.datetime, NOW),
    "discriminated union": (Annotated[Cat | Dog, Field(discriminator="kind")], Dog(age=3)),
    "dataclass": (Checked, Checked(1, NOT_UTF8)),
    "nested dataclasses": (Outer, Outer(INNER, [INNER, Inner(NOW, b"text")], {"a", "b"})),
    "dataclass that completes itself": (Started, Started(3)),
    "bytes": (bytes, b"text"),
    "bytes that are no text": (bytes, NOT_UTF8),
    "bytes everywhere": (Blob, Blob(data=NOT_UTF8, parts=[b"", b"a", NOT_UTF8], named={"a": NOT_UTF8, "b": b"b"})),
    "bytes in base64": (Base64, Base64(data=NOT_UTF8)),
    "set of bytes": (frozenset[bytes], frozenset({NOT_UTF8, b"a"})),
    "times": (
        tuple[datetime.datetime, datetime.date, datetime.time, datetime.timedelta],
        (NOW, NOW.date(), NOW.timetz(), datetime.timedelta(-1, 5, 7)),
    ),
    "naive time": (datetime.datetime, NOW.replace(tzinfo=None)),
    "decimal": (decimal.Decimal, decimal.Decimal("1.10")),
    "large integer": (int, 2**200),
    "UUID": (uuid.UUID, uuid.UUID(int=7)),
    "path": (pathlib.PurePosixPath, pathlib.PurePosixPath("/a/b")),
    "URL": (pydantic.HttpUrl, pydantic.HttpUrl("https://example.org/a")),
    "enum": (Colour, Colour.NUMBER),
    "named tuple": (Place, Place(1, 2)),
    "tuple": (tuple[int, str], (1, "a")),
    "dict with integer keys": (dict[int, Colour], {1: Colour.RED}),
    "JSON": (pydantic.Json[list[int]], [1]),
    "anything": (Any, {"a": [1, None, 1.5, {"b": True}]}),
    "a dict like an envelope": (dict[str, Any], {"items": [1]}),
    "a dict like marked bytes": (dict[str, Any], {"__keyvalue_bytes__": "YQ=="}),
    "a dict like escaped marked bytes": (dict[str, Any], {"__keyvalue_bytes__": {"__keyvalue_bytes__": "YQ=="}}),
    "aliases that are names of others": (Swapped, Swapped.model_validate({"b": 1, "a": 2})),
    "a list of such": (list[Swapped], [Swapped.model_validate({"b": 1, "a": 2})]),
    "an alias that is a name, no extras": (Crossed, Crossed.model_validate({"A": 1, "B": {"z": 1}})),
    "a dict of such aliases": (CrossedDict, {"a": 1, "b": 2}),
    "a discriminator of its own": (list[Tagged], [Large(x=1, y=2), Small(x=1)]),
    "a float that is whole": (list[float], [2**53]),
    "a serializer and its validator": (Hexed, Hexed(content=255)),
    "extras": (Extras, Extras.model_validate({"a": 1, "b": [1, "c"]})),
}

A_URL = pydantic.AnyHttpUrl("http://a/b")

# What comes back as something else, which is the same as far as can be stored: the type, a value, and what comes back.
AS_STORED: dict[str, tuple[Any, Any, Any]] = {
    "a URL of another class": (Site, Site(url=A_URL), Site(url=pydantic.AnyUrl("http://a/b"))),
    "such URLs within": (
        Site,
        Site(url=A_URL, more=[pydantic.HttpUrl("http://a/b"), A_URL], named={A_URL: 1}),
        Site.model_validate({"url": "http://a/b", "more": ["http://a/b", "http://a/b"], "named": {"http://a/b": 1}}),
    ),
    "a bare URL": (pydantic.AnyUrl, A_URL, pydantic.AnyUrl("http://a/b")),
    "a set of URLs": (set[pydantic.AnyUrl], {A_URL}, {pydantic.AnyUrl("http://a/b")}),
    "a model in anything": (Box[Any], Box[Any](content=User(name="Ada")), Box[Any](content={"name": "Ada", "age": 0})),
    "a model that is anything": (Any, Small(), {"x": 0}),
    "a dataclass in anything": (dict[str, Any], {"a": [Checked(1)]}, {"a": [{"a": 1, "b": ""}]}),
    "a dataclass with a date in anything": (Box[Any], Box[Any](content=Inner(NOW)), Box[Any](content={"at": NOW.isoformat(), "data": ""})),
    "a root model in anything": (list[Any], [Numbers([1, 2])], [[1, 2]]),
}

# The same for an adapter with exact=False.
LENIENT: dict[str, tuple[Any, Any, Any]] = {
    "a tuple": (Box[Any], Box[Any](content=(1, (2,))), Box[Any](content=[1, [2]])),
    "a date": (Box[Any], Box[Any](content={"at": NOW, "on": NOW.date()}), Box[Any](content={"at": NOW.isoformat(), "on": "2026-03-29"})),
    "a set": (dict[str, Any], {"a": {1}}, {"a": [1]}),
    "an enum member": (list[Any], [Colour.RED, Colour.NUMBER], ["red", 1]),
    "a mapping for a model": (User, {"name": "Ada"}, User(name="Ada")),
    "another model": (Small, Large(x=1, y=2), Small(x=1)),
    "a scalar": (int, "1", 1),
    "a secret": (Login, Login(password=SecretStr("a")), Login(password=SecretStr("a"))),
    "text that is stripped": (Annotated[str, pydantic.StringConstraints(strip_whitespace=True)], " a ", "a"),
}

REFUSED: dict[str, tuple[Any, Any]] = {
    "another type": (User, {"name": "Ada"}),
    "another model": (User, Small()),
    "a wrong scalar": (int, "1"),
    "another model within": (Box[User], Box[User].model_construct(content=Small())),
    "a model of a union whose first member looks like it": (Box[Small | Twin], Box[Small | Twin](content=Twin(x=1))),
    "a tuple in anything": (Box[Any], Box[Any](content=(1, 2))),
    "a date in anything": (Box[Any], Box[Any](content={"on": NOW.date()})),
    "a set in anything": (dict[str, Any], {"a": {1}}),
    "an enum member in anything": (list[Any], [Colour.RED]),
    "a URL in anything": (Box[Any], Box[Any](content=pydantic.AnyUrl("http://a/b"))),
    "another URL": (Site, Site.model_construct(url="http://a/c d")),
    "a model that was changed to hold anything": (User, User.model_construct(name=5)),
    "text or bytes": (str | bytes, b"a"),
    "bytes in anything": (Any, b"a"),
    "keys that JSON has not": (dict[tuple[int, int], str], {(1, 2): "a"}),
    "keys of bytes": (dict[bytes, int], {NOT_UTF8: 1}),
    "a serializer without a validator": (Written, Written(point=(1, 2))),
    "a serializer that changes the value": (Doubled, Doubled(content="a")),
    "a field that is excluded": (Excluded, Excluded(content=1)),
    "what a constructor changes": (Initialized, Initialized(n=1)),
    "what a validation changes": (list[Annotated[str, pydantic.StringConstraints(strip_whitespace=True)]], [" a "]),
    "a discriminator that JSON misleads": (list[Tagged], [Large(x=1, y=0)]),
    "keys that a typed dict has not": (list[CrossedDict], [{"a": 1, "b": 2, "more": 1}]),
    "an integer that no float is": (list[float], [2**60 + 1]),
    "an offset with seconds": (datetime.datetime, NOW.replace(tzinfo=ODD_ZONE)),
    "an offset of a clock with seconds": (datetime.time, datetime.time(1, tzinfo=ODD_ZONE)),
    "NaN": (float, float("nan")),
    "infinity": (Box[float], Box[float](content=float("inf"))),
    "half a character": (str, "\ud800"),
}
