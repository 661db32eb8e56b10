"""The adapters: what they keep, what they refuse, and what they say. What depends on the adapter's methods runs on both kinds of them."""

from __future__ import annotations

import datetime
import inspect
import json
import logging
import math
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

pytest.importorskip("hypothesis")
pytest.importorskip("pydantic")

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, PlainSerializer, PlainValidator, SecretStr, TypeAdapter, field_serializer, field_validator

from keyvalue import blocking
from keyvalue._core.capabilities import ALL
from keyvalue.adapters._pydantic import PydanticConverter
from keyvalue.adapters.base_model import BaseModelAdapter
from keyvalue.adapters.dataclass import DataclassAdapter
from keyvalue.adapters.pydantic import PydanticAdapter
from keyvalue.adapters.raise_on_missing import RaiseOnMissingAdapter
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, MissingKeyError, SerializationError
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing import Clock
from keyvalue.testing._runtime import Awaited
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from tests import runtimes
from tests.budget import scale
from tests.scripted import CALLS, ScriptedStore, store_with_nested
from tests.typed_cases import (
    AS_STORED,
    KEPT,
    LENIENT,
    NOT_UTF8,
    NOW,
    REFUSED,
    Aliased,
    Area,
    Box,
    Checked,
    Crossed,
    Inner,
    Login,
    Numbers,
    Outer,
    Pair,
    Root,
    User,
)

ADAPTERS: dict[str, Any] = {kind.__name__: kind for kind in (PydanticAdapter, BaseModelAdapter, DataclassAdapter, RaiseOnMissingAdapter)}
Adapt = Callable[..., Any]


@dataclass
class Uncompared:
    secret: SecretStr = field(default=SecretStr(""), compare=False)
    more: Any = field(default=None, compare=False)


class Vector:
    """Like an array of numpy: what its equality returns is no bool."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers

    @classmethod
    def of(cls, found: Any) -> Vector:
        return found if isinstance(found, Vector) else cls(found)

    def __eq__(self, other: object) -> Any:
        raise ValueError("The truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment] # as for numpy's


ANY_VECTOR: Any = Annotated[Any, PlainSerializer(lambda vector: vector.numbers), PlainValidator(Vector.of)]


class Shown(BaseModel):
    secret: SecretStr

    @field_serializer("secret", when_used="json")
    def show(self, secret: SecretStr) -> str:
        return f"shown {secret.get_secret_value()}"

    @field_validator("secret", mode="before")
    @classmethod
    def hide(cls, secret: Any) -> Any:
        return secret.removeprefix("shown ") if isinstance(secret, str) else secret


@pytest.fixture
def adapt(runtime: runtimes.Runtime) -> Adapt:
    """Make adapters of the kind that the runtime calls for."""

    def make(name: str, store: Any, *args: Any, **kwargs: Any) -> Any:
        store = runtime.adapt(store)
        if isinstance(store, Awaited):
            return Awaited(getattr(blocking, name)(store.facade, *args, **kwargs))
        return ADAPTERS[name](store, *args, **kwargs)

    return make


# Values


@pytest.mark.parametrize("case", KEPT)
async def test_what_is_put_comes_back(case: str) -> None:
    kind, value = KEPT[case]
    adapter = PydanticAdapter[Any](MemoryStore(), kind)
    await adapter.put("k", value)
    found = await adapter.get("k", default=object())
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("case", REFUSED)
async def test_what_would_not_come_back_is_refused(case: str) -> None:
    kind, value = REFUSED[case]
    store = MemoryStore()
    await store.put("k", {"old": True})
    adapter = PydanticAdapter[Any](store, kind)
    with pytest.raises(SerializationError):
        await adapter.put("k", value)
    with pytest.raises(SerializationError):
        await adapter.put_many(["k"], [value])
    assert await store.get("k") == {"old": True}


@pytest.mark.parametrize("case", AS_STORED)
async def test_what_comes_back_as_it_is_stored(case: str) -> None:
    kind, value, found = AS_STORED[case]
    adapter = PydanticAdapter[Any](MemoryStore(), kind)
    await adapter.put("k", value)
    assert repr(await adapter.get("k")) == repr(found)


@pytest.mark.parametrize("case", LENIENT)
@pytest.mark.filterwarnings("error")
async def test_what_is_stored_all_the_same(case: str, adapt: Adapt) -> None:
    kind, value, found = LENIENT[case]
    adapter = adapt("PydanticAdapter", MemoryStore(), kind, exact=False)
    await adapter.put("k", value)
    assert await adapter.get("k") == found


async def test_the_other_adapters_are_lenient_if_told(adapt: Adapt) -> None:
    for name, kind, value, found in (
        ("BaseModelAdapter", Box[Any], Box[Any](content=(1,)), Box[Any](content=[1])),
        ("BaseModelAdapter", list[Box[Any]], [Box[Any](content=(1,))], [Box[Any](content=[1])]),
        ("DataclassAdapter", Pair[Any], Pair[Any]((1,), {2}), Pair[Any]([1], [2])),
    ):
        with pytest.raises(SerializationError):
            await adapt(name, MemoryStore(), kind).put("k", value)
        adapter = adapt(name, MemoryStore(), kind, exact=False)
        await adapter.put("k", value)
        assert await adapter.get("k") == found


NAN_IN_ANYTHING = (dict[str, Any], {"a": [math.nan]})


async def test_what_could_not_be_read_is_refused_all_the_same(adapt: Adapt) -> None:
    for kind, value in (REFUSED["a field that is excluded"], (User, {"age": 1}), (Any, object()), (float, math.nan), NAN_IN_ANYTHING):
        with pytest.raises(SerializationError, match="serialize"):
            await adapt("PydanticAdapter", MemoryStore(), kind, exact=False).put("k", value)


async def test_a_time_that_its_zone_has_twice() -> None:
    """Python calls such a time unequal to each one of another zone, even the same one."""
    adapter = PydanticAdapter(MemoryStore(), list[datetime.datetime])
    times = [datetime.datetime(2025, 10, 26, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=fold) for fold in (0, 1)]
    await adapter.put("k", times)
    assert [time.isoformat() for time in await adapter.get("k", default=[])] == [time.isoformat() for time in times]


async def test_an_equality_that_leaves_fields_out_hides_no_loss() -> None:
    adapter = PydanticAdapter(MemoryStore(), Uncompared)
    with pytest.raises(SerializationError, match=r"value\['more'\] is a tuple"):
        await adapter.put("k", Uncompared(more=(1,)))
    await adapter.put("k", Uncompared(SecretStr("a"), [1]))
    found = await adapter.get("k")
    assert found is not None
    assert (found.secret.get_secret_value(), found.more) == ("a", [1])


async def test_an_equality_that_is_no_bool(adapt: Adapt) -> None:
    adapter = adapt("PydanticAdapter", MemoryStore(), Box[ANY_VECTOR])
    await adapter.put("k", Box[ANY_VECTOR](content=Vector([1, 2])))
    assert (await adapter.get("k")).content.numbers == [1, 2]


async def test_a_secret_that_the_model_shows_by_itself() -> None:
    store = MemoryStore()
    await PydanticAdapter(store, Shown).put("k", Shown(secret=SecretStr("a")))
    assert await store.get("k") == {"secret": "shown a"}
    assert await PydanticAdapter(store, Shown).get("k") == Shown(secret=SecretStr("a"))


@pytest.mark.parametrize(("kind", "row"), [(Aliased, {"userAge": 36, "userName": "Ada"}), (Crossed, {"A": 1, "B": {"z": 1}})])
async def test_rows_by_aliases_are_read_too(kind: Any, row: dict[str, Any]) -> None:
    assert await PydanticAdapter(MemoryStore(seed={"c": {"k": row}}), kind, "c").get("k") == kind.model_validate(row)


def test_small_of_large() -> None:
    """Of a subclass, the fields of the given type are kept, as pydantic does."""

    class Larger(User):
        more: int = 1

    value = Larger(name="Ada", age=2)
    assert PydanticConverter[Any](User).dump(value) == TypeAdapter(User).dump_python(value) == {"name": "Ada", "age": 2}


@pytest.mark.parametrize(
    ("name", "kind", "value", "row"),
    [
        ("PydanticAdapter", User, User(name="Ada"), {"name": "Ada", "age": 0}),
        ("PydanticAdapter", int, 1, {"items": 1}),
        ("PydanticAdapter", User | None, User(name="Ada"), {"items": {"name": "Ada", "age": 0}}),
        ("PydanticAdapter", Area, Area(width=1, height=2), {"width": 1, "height": 2}),
        ("PydanticAdapter", bytes, NOT_UTF8, {"items": {"__keyvalue_bytes__": "/wD+"}}),
        ("BaseModelAdapter", User, User(name="Ada"), {"name": "Ada", "age": 0}),
        ("BaseModelAdapter", list[User], [User(name="Ada")], {"items": [{"name": "Ada", "age": 0}]}),
        ("BaseModelAdapter", Numbers, Numbers([1]), {"items": [1]}),
        ("BaseModelAdapter", Login, Login(password=SecretStr("a")), {"password": "a", "key": None, "number": None, "others": {}}),
        ("DataclassAdapter", Checked, Checked(1, b"a"), {"a": 1, "b": "a"}),
        ("DataclassAdapter", list[Checked], [Checked(1)], {"items": [{"a": 1, "b": ""}]}),
        ("DataclassAdapter", tuple[Checked, ...], (Checked(1),), {"items": [{"a": 1, "b": ""}]}),
        ("DataclassAdapter", Inner, Inner(NOW), {"at": "2026-03-29T01:30:00.123456+05:30", "data": ""}),
        ("DataclassAdapter", Outer, Outer(Inner(NOW)), {"inner": {"at": NOW.isoformat(), "data": ""}, "many": [], "tags": []}),
    ],
)
async def test_rows(name: str, kind: Any, value: Any, row: dict[str, Any], adapt: Adapt) -> None:
    store = MemoryStore()
    adapter = adapt(name, store, kind)
    await adapter.put("k", value)
    assert await store.get("k") == row
    assert await adapter.get("k") == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("__keyvalue_bytes__"), inner, max_size=3),
    max_leaves=10,
)
some = settings(max_examples=scale(40, 400), deadline=None)


class Anything(BaseModel):
    data: bytes
    many: list[dict[str, bytes]]
    at: datetime.datetime
    either: int | float | str | bool | None
    secret: SecretStr
    anything: Any


@some
@given(
    st.builds(
        Anything,
        data=st.binary(),
        many=st.lists(st.dictionaries(st.text() | st.just("__keyvalue_bytes__"), st.binary(), max_size=2), max_size=2),
        at=st.datetimes(timezones=st.just(datetime.timezone.utc) | st.none()),
        either=st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.booleans() | st.none(),
        secret=st.builds(SecretStr, st.text()),
        anything=JSON,
    )
)
def test_any_model_comes_back(value: Anything) -> None:
    converter = PydanticConverter[Any](Anything)
    found = converter.load(json.loads(json.dumps(converter.dump(value))))
    assert found == value
    assert repr(found.anything) == repr(value.anything)
    assert type(found.either) is type(value.either)


@some
@given(st.dictionaries(st.text() | st.sampled_from(["items", "__keyvalue_bytes__"]), JSON, max_size=3))
def test_any_dict_comes_back(value: dict[str, Any]) -> None:
    for kind, one in ((dict[str, Any], value), (Root, Root(value)), (Any, value), (list[Any], [value])):
        converter = PydanticConverter[Any](kind)
        assert converter.load(json.loads(json.dumps(converter.dump(one)))) == one


@some
@given(st.binary() | st.text(), st.sampled_from([str | bytes, list[str | bytes], dict[str, Any], Any]))
def test_what_is_not_refused_comes_back(value: str | bytes, kind: Any) -> None:
    converter = PydanticConverter[Any](kind)
    wrapped: Any = value if kind in (str | bytes, Any) else [value] if kind == list[str | bytes] else {"a": value}
    try:
        assert converter.load(converter.dump(wrapped)) == wrapped
    except SerializationError:
        assert isinstance(value, bytes)


# What errors say


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (User, KEPT["recursive"][1], r"^Could not serialize the value as User: it is a Node; give a User$"),
        (User, 1, r"^Could not serialize the value as User: it is an int; give a User$"),
        (User, {"name": "Alice"}, r"^Could not serialize the value as User: it is a dict; give a User$"),
        (Login, Login.model_construct(password="s3cret"), "Login"),  # pyright: ignore[reportArgumentType] # that is the point
        (*REFUSED["a serializer without a validator"], "as Written: it becomes a str"),
        (list[float], [0.0, math.inf], r"value\[1\] is not a finite number"),
    ],
)
async def test_why_a_value_is_refused(kind: Any, value: Any, message: str, adapt: Adapt) -> None:
    name = "BaseModelAdapter" if "becomes" in message else "PydanticAdapter"  # the other one takes any JSON
    with pytest.raises(SerializationError) as caught:
        await adapt(name, MemoryStore(), kind).put("k", value)
    assert caught.match(message) if "^" not in message else caught.value.message == message.strip("^$")
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        (User, {"name": "s3cret", "age": "s3cret"}, "valid User: age: int_parsing"),
        (User, {"items": [1]}, "valid User: name: missing"),
        (list[User], {"name": "s3cret"}, r"valid list\[.*User\]: it has no field `items`"),
        (Login, {"password": ["s3cret"], "s3cret": 1}, "valid Login: password: string_type"),
        (Login, {"password": "a", "others": {"s3cret": 1}}, "valid Login: others.…: string_type"),
        (Aliased, {"userName": 1}, "valid Aliased: userName: string_type"),
    ],
)
async def test_what_is_wrong_with_a_row_is_said_without_its_contents(kind: Any, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DeserializationError, match=message) as caught:
        await PydanticAdapter(MemoryStore(seed={"c": {"k": row}}), kind, "c").get("k")
    assert caught.value.extra_info == {"collection": "c", "key": "k"}
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


async def test_a_row_that_is_nested_too_deep() -> None:
    with pytest.raises(DeserializationError, match="it is nested too deep"):
        await PydanticAdapter(store_with_nested("k", 1000), Root).get("k")


async def test_a_row_that_does_not_validate(adapt: Adapt, caplog: pytest.LogCaptureFixture) -> None:
    row = {"name": "s3cret", "age": "s3cret"}
    store = MemoryStore(seed={"default_collection": {"bad": row, "good": {"name": "Ada"}}})
    adapter = adapt("PydanticAdapter", store, User)
    for call in (adapter.get("bad"), adapter.get_many(["good", "bad"]), adapter.ttl("bad"), adapter.ttl_many(["bad", "good"])):
        with pytest.raises(DeserializationError, match="valid User: "):
            await call
    lenient = adapt("PydanticAdapter", store, User, raise_on_validation_error=False)
    default = User(name="default")
    with caplog.at_level(logging.ERROR, "keyvalue.adapters"):
        assert await lenient.get("bad") is None
        assert await lenient.get("bad", default=default) is default
        assert await lenient.get_many(["bad", "good"], default=default) == [default, User(name="Ada")]
        assert await lenient.ttl("bad") == (None, None)
        assert (await lenient.ttl_many(["bad", "good"]))[0] == (None, None)
    assert len(caplog.records) == 5
    facts = {"model_type": "User", "error_count": 1, "errors": [{"type": "int_parsing", "loc": ("age",)}], "collection": None, "key": "bad"}
    assert [{name: vars(record)[name] for name in facts} for record in caplog.records] == [facts] * 5
    assert "not a valid User" in caplog.text
    assert "s3cret" not in caplog.text
    assert await store.get("bad") == row


@pytest.mark.parametrize(
    ("name", "kind"),
    [("BaseModelAdapter", kind) for kind in (int, list[int], list, dict[str, User], User | None, Checked, "User", None)]
    + [("DataclassAdapter", kind) for kind in (int, list[int], list, User, dict[str, Checked], Checked | None, Checked(1), None)],
)
def test_types_that_are_not_for_it(name: str, kind: Any) -> None:
    for adapter, store in ((ADAPTERS[name], MemoryStore()), (getattr(blocking, name), BlockingKeyValue(MemoryStore()))):
        with pytest.raises(TypeError, match=f"{name} takes .* PydanticAdapter takes any type"):
            adapter(store, kind)


@pytest.mark.parametrize("name", ADAPTERS)
def test_stores_of_the_wrong_kind(name: str) -> None:
    arguments: list[Any] = {"DataclassAdapter": [Checked], "RaiseOnMissingAdapter": []}.get(name, [User])
    bad: list[Any] = [None, "store", MemoryStore, BlockingKeyValue(MemoryStore())]
    bad_too: list[Any] = [None, "store", BlockingKeyValue, MemoryStore(), PydanticAdapter(MemoryStore(), User)]
    for kind, stores in ((ADAPTERS[name], bad), (getattr(blocking, name), bad_too)):
        for store in stores:
            with pytest.raises(TypeError, match=name):
                kind(store, *arguments)


# Methods


async def test_a_stored_none_is_no_missing_key(adapt: Adapt) -> None:
    adapter = adapt("PydanticAdapter", MemoryStore(), int | None)
    await adapter.put("none", None, ttl=60)
    assert [await adapter.get(key, default=7) for key in ("none", "missing")] == [None, 7]
    assert await adapter.get_many(["none", "missing"], default=7) == [None, 7]
    some_time = (None, pytest.approx(60, abs=5))
    assert [await adapter.ttl(key) for key in ("none", "missing")] == [some_time, (None, None)]
    assert await adapter.ttl_many(["missing", "none"]) == [(None, None), some_time]


async def test_bulk_calls_stay_bulk_calls(adapt: Adapt) -> None:
    for name, extra in (("PydanticAdapter", [User]), ("RaiseOnMissingAdapter", [])):
        store = ScriptedStore(MemoryStore())
        adapter = adapt(name, store, *extra)
        values: list[Any] = [User(name="Ada"), User(name="Bob")] if extra else [{"a": 1}, {"a": 2}]
        await adapter.put_many(["a", "b"], values)
        assert await adapter.get_many(["a", "b"]) == values
        assert [value for value, _ in await adapter.ttl_many(["a", "b"])] == values
        assert await adapter.delete_many(["a", "b", "c"]) == 2
        assert store.calls == ["put_many", "get_many", "ttl_many", "delete_many"]


async def test_collections_and_times_to_live(adapt: Adapt, clock: Clock) -> None:
    clock.freeze()
    store = MemoryStore()
    adapter = adapt("PydanticAdapter", store, int, "mine")
    await adapter.put("k", 1, ttl=60)
    await adapter.put("k", 2, collection="other")
    await adapter.put_many(["l", "m"], [3, 4], ttl=30)
    assert await store.get("k", collection="mine") == {"items": 1}
    assert await store.get("k", collection="other") == {"items": 2}
    assert await adapter.ttl("k") == (1, pytest.approx(60, abs=1e-4))
    assert await adapter.ttl("k", collection="other") == (2, None)
    assert await adapter.ttl_many(["l", "m"]) == [(3, pytest.approx(30, abs=1e-4)), (4, pytest.approx(30, abs=1e-4))]
    assert await adapter.delete("k") is True
    assert await adapter.delete("k") is False
    assert await adapter.delete_many(["l", "m", "n"]) == 2
    assert await adapter.get("k", collection="other") == 2
    assert await adapter.get_many([]) == []


async def test_over_a_stack(adapt: Adapt) -> None:
    store = MemoryStore()
    adapter = adapt("PydanticAdapter", TimeoutWrapper(PrefixKeysWrapper(store, "app"), 60), User)
    await adapter.put("k", User(name="Ada"))
    assert await adapter.get("k") == User(name="Ada")
    assert await store.get("app__k") == {"name": "Ada", "age": 0}


async def test_raise_on_missing(adapt: Adapt) -> None:
    adapter = adapt("RaiseOnMissingAdapter", MemoryStore())
    await adapter.put("k", {"a": 1}, ttl=60)
    await adapter.put("empty", {})
    assert await adapter.get("k", raise_on_missing=True) == {"a": 1}
    assert await adapter.get("empty", raise_on_missing=True) == {}
    assert await adapter.get_many(["k", "empty"], raise_on_missing=True) == [{"a": 1}, {}]
    assert (await adapter.ttl("k", raise_on_missing=True))[0] == {"a": 1}
    assert [value for value, _ in await adapter.ttl_many(["empty", "k"], raise_on_missing=True)] == [{}, {"a": 1}]
    assert await adapter.get("missing", collection="c") is None
    assert await adapter.get_many(["missing", "k"]) == [None, {"a": 1}]
    assert await adapter.ttl("missing") == (None, None)
    assert await adapter.ttl_many(["missing"]) == [(None, None)]
    for name, keys in (("get", "missing"), ("ttl", "missing"), ("get_many", ["missing", "k"]), ("ttl_many", ["missing", "k"])):
        with pytest.raises(MissingKeyError) as caught:
            await getattr(adapter, name)(keys, collection="c", raise_on_missing=True)
        assert caught.value.extra_info == {"operation": name, "collection": "c", "key": "missing"}
    assert await adapter.delete("k") is True


def test_the_store_of_an_adapter_that_raises() -> None:
    store = MemoryStore()
    assert RaiseOnMissingAdapter(store).key_value is store


def test_the_synchronous_adapters_have_the_same_methods_and_parameters() -> None:
    for name, kind in ADAPTERS.items():
        for member in {"__init__", *CALLS} - ALL:
            mine, theirs = (inspect.signature(getattr(one, member)).parameters.values() for one in (kind, getattr(blocking, name)))
            assert [(p.name, p.kind, p.default) for p in mine] == [(p.name, p.kind, p.default) for p in theirs], f"{name}.{member}"
