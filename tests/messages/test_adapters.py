"""What the adapters say: of values that they refuse, of rows that they can't read, and of wrong arguments."""

from __future__ import annotations

import datetime
import enum
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, AnyUrl, BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, field_serializer

from keyvalue import blocking
from keyvalue.adapters.base_model import BaseModelAdapter
from keyvalue.adapters.dataclass import DataclassAdapter
from keyvalue.adapters.pydantic import PydanticAdapter
from keyvalue.adapters.raise_on_missing import RaiseOnMissingAdapter
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, MissingKeyError, SerializationError
from keyvalue.stores.memory import MemoryStore
from tests.messages import Mistake, check

SECRET = "s3cret of theirs"  # as a key it is none that is shown


class User(BaseModel):
    name: str
    age: int = 0


class Twin(BaseModel):
    name: str
    age: int = 0


class Team(BaseModel):
    members: list[User] = []
    by_name: dict[str, User] = {}
    lead: Twin | User | None = None
    more: Any = None


class Site(BaseModel):
    url: AnyUrl


class Fussy(BaseModel):
    at: Any
    more: Any = None

    @field_serializer("at")
    def text(self, value: Any) -> str:
        raise ValueError(f"no {value}")


class Hidden(BaseModel):
    model_config = ConfigDict(validate_assignment=False)
    token: Annotated[str, Field(exclude=True)]


class Login(BaseModel):
    password: SecretStr


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: Any = None


def short(text: str) -> str:
    """Validate a text, or quote it."""
    if len(text) > 3:
        raise ValueError(f"{text} is too long")
    return text


Odd = Annotated[Any, PlainSerializer(lambda _: 1 / 0)]
User_ = User.model_construct
BAD_USER = User_(name="Ada", age=SECRET)  # pyright: ignore[reportArgumentType] # as an assignment without validation leaves it


def circle() -> dict[str, Any]:
    inner: dict[str, Any] = {}
    inner["again"] = [inner]
    return inner


def refused(name: str, kind: Any, value: Any, *says: str, adapter: Any = PydanticAdapter) -> Mistake:
    says = (f"Could not serialize the value as {getattr(kind, '__name__', '')}", *says)
    return Mistake(name, lambda: adapter(MemoryStore(), kind).put("k", value), SerializationError, says, secrets=["s3cret"])


KINDS = [
    refused("another model", User, Twin(name=SECRET), "it is a Twin; give a User"),
    refused("a dict for a model", User, {"name": SECRET}, "it is a dict; give a User"),
    refused("None for a model", User, None, "it is None; give a User"),
    refused("the class for a value", User, User, "it is the class User; give a User"),
    refused("a dict for a dataclass", Point, {"x": 1}, "it is a dict; give a Point", adapter=DataclassAdapter),
    refused("one model for a list", list[User], User(name=SECRET), "value is a User", adapter=BaseModelAdapter),
    refused("a date for a number", list[int], [datetime.date(2026, 1, 1)], "value[0] is a date"),
    refused("a text for a number", int, SECRET, "value is a str", "int_parsing"),
    refused("another item", list[int], [1, SECRET], "value[1] is a str"),
]

PLACES = [
    refused("a field of another type", User, BAD_USER, "value['age'] is a str", "int_parsing"),
    refused("deep in a list", Team, Team.model_construct(members=[User(name=""), BAD_USER]), "value['members'][1]['age'] is a str"),
    refused("deep in a dict", Team, Team.model_construct(by_name={"b": BAD_USER}), "value['by_name']['b']['age'] is a str"),
    refused("beneath an odd key", Team, Team.model_construct(by_name={SECRET: BAD_USER}), "value['by_name'][key #1]['age']"),
    refused("in a dataclass", Point, Point(SECRET), "value['x'] is a str", adapter=DataclassAdapter),  # pyright: ignore[reportArgumentType] # that is the mistake
    refused("no URL", Site, Site.model_construct(url=SECRET), "value['url']"),
    refused("an object in anything", Team, Team(more={"a": [object()]}), "value['more']['a'][0] is an object", "convert it first"),
    refused("an object beneath an odd key", Team, Team(more={"a": 1, SECRET: object()}), "value['more'][key #2] is an object"),
    refused("a circle", Team, Team(more=circle()), "value['more']['again'][0]", "circular references"),
    refused("too deep", Team, Team(more=functools.reduce(lambda inner, _: [inner], range(300), 1)), "value['more'][0][0]", "too deep"),
    refused("a serializer that raises", Fussy, Fussy(at=SECRET), "value['at'] is a str, which the serializer of this field does not take"),
    refused("another serializer", list[Odd], [1], "holds something that its type does not take"),
]

LOSSES = [
    refused("a tuple in anything", Team, Team(more={"a": (1,)}), "value['more']['a'] is a tuple", "come back as a list", "exact=False"),
    refused("a date in anything", Team, Team(more=[datetime.date(2026, 1, 1)]), "value['more'][0] is a date", "as a str", "exact=False"),
    refused("a set in anything", Point, Point(1, {1}), "value['y'] is a set", "as a list", adapter=DataclassAdapter),
    refused("an enum member in anything", Team, Team(more=Colour.RED), "value['more'] is a Colour", "as a str"),
    refused("bytes or text", list[str | bytes], ["a", b"b"], "value[1] is bytes", "as a str", "discriminated union"),
    refused("a model that looks like another", Team, Team(lead=User(name=SECRET)), "value['lead'] is a User", "as a Twin"),
    refused("NaN in anything", Team, Team(more={"a": [float("nan")]}), "value['more']['a'][0] is not a finite number"),
    refused("an excluded field", Hidden, Hidden(token=SECRET), "value['token']"),
    refused(
        "a validator that quotes",
        list[Annotated[str, AfterValidator(short)]],
        [SECRET],
        "value[0] is not valid when it is read back",
        "value_error",
    ),
]
# What JSON can't hold at all is told as for a value without an adapter.
JSON = [
    Mistake(
        name,
        lambda kind=kind, value=value: PydanticAdapter[Any](MemoryStore(), kind).put("k", value),
        SerializationError,
        says,
        ["exact="],
        ["s3cret"],
    )
    for name, kind, value, says in (
        ("NaN in a list of floats", list[float], [0.5, float("nan")], ["value[1] is not a finite number", "None or a string"]),
        ("half a character", list[str], [f"{SECRET}\ud800"], ["value[0] is a string with a lone surrogate"]),
    )
]


@pytest.mark.parametrize("mistake", [*KINDS, *PLACES, *LOSSES, *JSON], ids=lambda mistake: mistake.name)
def test_values(mistake: Mistake) -> None:
    check(mistake)


def row(name: str, kind: Any, row: Any, *says: str) -> Mistake:
    store = MemoryStore(seed={"users": {"ada": row}})
    says = ("collection: users;key: ada", *says)
    return Mistake(name, lambda: PydanticAdapter(store, kind, "users").get("ada"), DeserializationError, says, secrets=["s3cret"])


ROWS = [
    row("a row of another type", User, {"name": "a", "age": SECRET}, "not a valid User", "age: int_parsing"),
    row("a row without a field", User, {SECRET: 1}, "not a valid User", "name: missing"),
    row("a row beneath data", Team, {"by_name": {SECRET: {"name": SECRET, "age": SECRET}}}, "by_name.….age: int_parsing"),
    row("a row of a list", list[User], {"name": SECRET}, "it has no field `items`"),
    row("a row with a bad secret", Login, {"password": [SECRET]}, "password: string_type"),
    row("a row with many faults", list[int], {"items": [SECRET] * 5}, "0: int_parsing", "and 2 more"),
]


@pytest.mark.parametrize("mistake", ROWS, ids=lambda mistake: mistake.name)
def test_rows(mistake: Mistake) -> None:
    check(mistake)


def call(name: str, do: Callable[[], Awaitable[Any] | Any], *says: str, error: type[Exception] = TypeError) -> Mistake:
    return Mistake(name, do, error, says)


sync: Any = blocking
adapter: Any = PydanticAdapter
store: Any = MemoryStore()
ANY_USER: Any = User(name=SECRET)
ARGUMENTS = [
    call("a value for the type", lambda: PydanticAdapter(MemoryStore(), ANY_USER), "takes a type, such as User or list[User], not a User"),
    call("a list for the type", lambda: PydanticAdapter(MemoryStore(), [User]), "takes a type", "not a list"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    call("no store", lambda: adapter(None, User), "PydanticAdapter", "AsyncKeyValue", "not None"),
    call("the class of a store", lambda: adapter(MemoryStore, User), "not the class MemoryStore"),
    call("a synchronous store", lambda: adapter(BlockingKeyValue(store), User), "PydanticAdapter"),
    call("an asynchronous store", lambda: sync.PydanticAdapter(store, User), "put BlockingKeyValue around MemoryStore"),
    call("a number for a model", lambda: BaseModelAdapter(store, int), "BaseModel subclass", "PydanticAdapter takes any type"),
    call("a model for a dataclass", lambda: DataclassAdapter(store, User), "a dataclass or a sequence", "PydanticAdapter takes any type"),
    call("no store to look in", lambda: RaiseOnMissingAdapter(store.get), "RaiseOnMissingAdapter"),
    call(
        "a missing key",
        lambda: RaiseOnMissingAdapter(store).get("none", collection="c", raise_on_missing=True),
        "collection: c;key: none",
        error=MissingKeyError,
    ),
]


@pytest.mark.parametrize("mistake", ARGUMENTS, ids=lambda mistake: mistake.name)
def test_arguments(mistake: Mistake) -> None:
    check(mistake)
