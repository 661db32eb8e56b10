"""The adapters, asynchronous and synchronous: every test runs both."""

from __future__ import annotations

import datetime
import json
import logging
import math
import subprocess
import sys
import zoneinfo
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, RootModel, SecretStr, TypeAdapter

from keyvalue import blocking
from keyvalue._core.validation import PydanticConverter
from keyvalue.adapters.base_model import BaseModelAdapter
from keyvalue.adapters.dataclass import DataclassAdapter
from keyvalue.adapters.pydantic import PydanticAdapter
from keyvalue.adapters.raise_on_missing import RaiseOnMissingAdapter
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, MissingKeyError, SerializationError
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing._runtime import Awaited
from keyvalue.wrappers.base import BaseWrapper, Operation
from keyvalue.wrappers.prefix_keys import PrefixKeysWrapper
from keyvalue.wrappers.timeout import TimeoutWrapper
from tests import runtimes
from tests.typed_cases import (
    KEPT,
    NOT_UTF8,
    NOW,
    REFUSED,
    Aliased,
    Area,
    Checked,
    Crossed,
    Inner,
    Login,
    Numbers,
    Outer,
    Small,
    User,
    Written,
)

ADAPTERS: dict[str, Any] = {kind.__name__: kind for kind in (PydanticAdapter, BaseModelAdapter, DataclassAdapter, RaiseOnMissingAdapter)}
Adapt = Callable[..., Any]


@pytest.fixture
def adapt(runtime: runtimes.Runtime) -> Adapt:
    """Make adapters of the colour of the runtime."""

    def make(name: str, store: Any, *args: Any, **kwargs: Any) -> Any:
        store = runtime.adapt(store)
        if isinstance(store, Awaited):
            return Awaited(getattr(blocking, name)(store.facade, *args, **kwargs))
        return ADAPTERS[name](store, *args, **kwargs)

    return make


class CountingWrapper(BaseWrapper):
    """Notes what is called."""

    runs_inline = True

    def __init__(self, key_value: Any) -> None:
        super().__init__(key_value)
        self.called: list[str] = []

    async def _around(self, operation: Operation, call: Any) -> Any:
        self.called.append(operation.name)
        return await call(self.key_value)


@pytest.mark.parametrize("case", KEPT)
async def test_what_is_put_comes_back(case: str, adapt: Adapt) -> None:
    kind, value = KEPT[case]
    store = MemoryStore()
    adapter = adapt("PydanticAdapter", store, kind)
    missing = object()
    assert await adapter.get("k", default=missing) is missing
    await adapter.put("k", value, ttl=60)
    for found in (
        await adapter.get("k", default=missing),
        (await adapter.get_many(["none", "k"], default=missing))[1],
        (await adapter.ttl("k"))[0],
        (await adapter.ttl_many(["k"]))[0][0],
    ):
        assert found == value
        assert type(found) is type(value)
    await adapter.put_many(["a", "b"], [value, value])
    assert await adapter.get_many(["a", "c", "b"], default=missing) == [value, missing, value]


@pytest.mark.parametrize("case", REFUSED)
async def test_what_would_not_come_back_is_refused(case: str, adapt: Adapt) -> None:
    kind, value = REFUSED[case]
    store = MemoryStore()
    await store.put("k", {"old": True})
    adapter = adapt("PydanticAdapter", store, kind)
    with pytest.raises(SerializationError):
        await adapter.put("k", value)
    with pytest.raises(SerializationError):
        await adapter.put_many(["k"], [value])
    assert await store.get("k") == {"old": True}


async def test_a_stored_none_is_no_missing_key(adapt: Adapt) -> None:
    adapter = adapt("PydanticAdapter", MemoryStore(), int | None)
    await adapter.put("none", None, ttl=60)
    assert await adapter.get("none", default=7) is None
    assert await adapter.get("missing", default=7) == 7
    assert await adapter.get_many(["none", "missing"], default=7) == [None, 7]
    value, left = await adapter.ttl("none")
    assert value is None
    assert left is not None
    assert await adapter.ttl("missing") == (None, None)
    assert (await adapter.ttl_many(["missing", "none"]))[1][1] is not None


@pytest.mark.parametrize("row", [{"name": "s3cret", "age": "s3cret"}, {"age": 1}, {}, {"items": [1]}], ids=str)
async def test_a_row_that_does_not_validate(row: dict[str, Any], adapt: Adapt, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    await store.put("bad", row, ttl=60)
    await store.put("good", {"name": "Ada"}, ttl=60)
    adapter = adapt("PydanticAdapter", store, User)
    for call in (adapter.get("bad"), adapter.get_many(["good", "bad"]), adapter.ttl("bad"), adapter.ttl_many(["bad", "good"])):
        with pytest.raises(DeserializationError, match="no User: ") as caught:
            await call
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None
    lenient = adapt("PydanticAdapter", store, User, raise_on_validation_error=False)
    default = User(name="default")
    with caplog.at_level(logging.ERROR, "keyvalue.adapters"):
        assert await lenient.get("bad") is None
        assert await lenient.get("bad", default=default) is default
        assert await lenient.get_many(["bad", "good"], default=default) == [default, User(name="Ada")]
        assert await lenient.ttl("bad") == (None, None)
        assert (await lenient.ttl_many(["bad", "good"]))[0] == (None, None)
    assert len(caplog.records) == 5
    assert "no User" in caplog.text
    assert "s3cret" not in caplog.text
    assert await store.get("bad") == row


async def test_a_wrapped_type_says_what_it_misses(adapt: Adapt) -> None:
    store = MemoryStore()
    await store.put("k", {"name": "Ada"})
    with pytest.raises(DeserializationError, match=r"no list\[.*User\]: it has no field `items`"):
        await adapt("PydanticAdapter", store, list[User]).get("k")


async def test_errors_hold_no_values(adapt: Adapt) -> None:
    adapter = adapt("PydanticAdapter", MemoryStore(), Login)
    with pytest.raises(SerializationError) as caught:
        await adapter.put("k", Login.model_construct(password="s3cret"))  # pyright: ignore[reportArgumentType] # that is the point
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__}"
    store = MemoryStore()
    await store.put("k", {"password": ["s3cret"], "s3cret": 1})
    with pytest.raises(DeserializationError) as caught_too:
        await adapt("PydanticAdapter", store, Login).get("k")
    assert "s3cret" not in str(caught_too.value)
    assert "password: string_type" in str(caught_too.value)


async def test_errors_name_places_and_no_keys_of_the_row(adapt: Adapt) -> None:
    store = MemoryStore()
    adapter = adapt("PydanticAdapter", store, Login)
    await store.put("k", {"password": "a", "others": {"s3cret": 1}})
    with pytest.raises(DeserializationError) as caught:
        await adapter.get("k")
    assert "others.…: string_type" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    await store.put("k", {"userName": 1})
    with pytest.raises(DeserializationError, match="userName: string_type"):
        await adapt("PydanticAdapter", store, Aliased).get("k")
    with pytest.raises(SerializationError, match=r"value\[1\] is not a finite number"):
        await adapt("PydanticAdapter", MemoryStore(), list[float]).put("k", [0.0, math.inf])


async def test_a_time_that_its_zone_has_twice(adapt: Adapt) -> None:
    """Python calls such a time unequal to each one of another zone, even the same one."""
    adapter = adapt("PydanticAdapter", MemoryStore(), list[datetime.datetime])
    times = [datetime.datetime(2025, 10, 26, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=fold) for fold in (0, 1)]
    await adapter.put("k", times)
    assert [time.isoformat() for time in await adapter.get("k")] == [time.isoformat() for time in times]


async def test_rows_by_aliases_are_read_too(adapt: Adapt) -> None:
    store = MemoryStore()
    await store.put("k", {"userAge": 36, "userName": "Ada"})
    assert await adapt("PydanticAdapter", store, Aliased).get("k") == Aliased.model_validate({"userName": "Ada", "userAge": 36})
    await store.put("k", {"A": 1, "B": {"z": 1}})
    assert await adapt("PydanticAdapter", store, Crossed).get("k") == Crossed.model_validate({"A": 1, "B": {"z": 1}})


async def test_bulk_calls_stay_bulk_calls(adapt: Adapt) -> None:
    for name, extra in (("PydanticAdapter", [User]), ("RaiseOnMissingAdapter", [])):
        store = CountingWrapper(MemoryStore())
        adapter = adapt(name, store, *extra)
        values: list[Any] = [User(name="Ada"), User(name="Bob")] if extra else [{"a": 1}, {"a": 2}]
        await adapter.put_many(["a", "b"], values)
        assert await adapter.get_many(["a", "b"]) == values
        assert [value for value, _ in await adapter.ttl_many(["a", "b"])] == values
        assert await adapter.delete_many(["a", "b", "c"]) == 2
        assert store.called == ["put_many", "get_many", "ttl_many", "delete_many"]


async def test_collections_and_times_to_live(adapt: Adapt) -> None:
    store = MemoryStore()
    adapter = adapt("PydanticAdapter", store, int, "mine")
    await adapter.put("k", 1, ttl=60)
    await adapter.put("k", 2, collection="other")
    await adapter.put_many(["l", "m"], [3, 4], ttl=30)
    assert await store.get("k", collection="mine") == {"items": 1}
    assert await store.get("k", collection="other") == {"items": 2}
    value, left = await adapter.ttl("k")
    assert value == 1
    assert 50 < left <= 60
    assert await adapter.ttl("k", collection="other") == (2, None)
    assert [29 < left <= 30 for _, left in await adapter.ttl_many(["l", "m"])] == [True, True]
    assert await adapter.delete("k") is True
    assert await adapter.delete("k") is False
    assert await adapter.delete_many(["l", "m", "n"]) == 2
    assert await adapter.get("k", collection="other") == 2
    assert await adapter.get_many([]) == []


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


@pytest.mark.parametrize(
    ("name", "kind"),
    [("BaseModelAdapter", kind) for kind in (int, list[int], list, dict[str, User], User | None, Checked, "User", None)]
    + [("DataclassAdapter", kind) for kind in (int, list[int], list, User, dict[str, Checked], Checked | None, Checked(1), None)],
)
async def test_types_that_are_not_for_it(name: str, kind: Any, adapt: Adapt) -> None:
    with pytest.raises(TypeError, match=f"{name} takes .* PydanticAdapter takes any type"):
        adapt(name, MemoryStore(), kind)


async def test_a_model_that_is_no_object_is_refused_when_it_is_put(adapt: Adapt) -> None:
    adapter = adapt("BaseModelAdapter", MemoryStore(), Written)
    with pytest.raises(SerializationError, match="Written serializes to str"):
        await adapter.put("k", Written(point=(1, 2)))


def test_stores_of_the_wrong_colour() -> None:
    bad: list[Any] = [None, "store", MemoryStore, BlockingKeyValue(MemoryStore())]
    for store in bad:
        for name, kind in ADAPTERS.items():
            with pytest.raises(TypeError, match=name):
                kind(store, *arguments(name))
    bad_too: list[Any] = [None, "store", BlockingKeyValue, MemoryStore(), PydanticAdapter(MemoryStore(), User)]
    for store in bad_too:
        for name in ADAPTERS:
            with pytest.raises(TypeError, match=name):
                getattr(blocking, name)(store, *arguments(name))


def arguments(name: str) -> list[Any]:
    return {"PydanticAdapter": [User], "BaseModelAdapter": [User], "DataclassAdapter": [Checked], "RaiseOnMissingAdapter": []}[name]


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
    for call, operation in (
        (adapter.get("missing", collection="c", raise_on_missing=True), "get"),
        (adapter.ttl("missing", collection="c", raise_on_missing=True), "ttl"),
        (adapter.get_many(["missing", "k"], collection="c", raise_on_missing=True), "get_many"),
        (adapter.ttl_many(["missing", "k"], collection="c", raise_on_missing=True), "ttl_many"),
    ):
        with pytest.raises(MissingKeyError) as caught:
            await call
        assert caught.value.extra_info == {"operation": operation, "collection": "c", "key": "missing"}
    await adapter.put_many(["a", "b"], [{}, {}])
    assert await adapter.delete_many(["a", "b"]) == 2
    assert await adapter.delete("k") is True


NO_PYDANTIC = """
import sys
sys.modules["pydantic"] = None
from keyvalue import blocking
from keyvalue.adapters.raise_on_missing import RaiseOnMissingAdapter
from keyvalue.stores.memory import MemoryStore
RaiseOnMissingAdapter(MemoryStore())
blocking.RaiseOnMissingAdapter(blocking.BlockingKeyValue(MemoryStore()))
for load in (
    lambda: __import__("keyvalue.adapters.pydantic"),
    lambda: __import__("keyvalue.adapters.base_model"),
    lambda: __import__("keyvalue.adapters.dataclass"),
    lambda: blocking.PydanticAdapter(blocking.BlockingKeyValue(MemoryStore()), int),
):
    try:
        load()
    except ImportError as error:
        assert "pip install 'keyvalue[pydantic]'" in str(error), error
    else:
        raise AssertionError
"""


def test_raise_on_missing_and_the_facade_do_without_pydantic() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", NO_PYDANTIC], check=True, timeout=60)


def test_the_synchronous_adapters_have_the_same_methods_and_parameters() -> None:
    import inspect

    for name, kind in ADAPTERS.items():
        other = getattr(blocking, name)
        for member in [*blocking.BlockingKeyValue.__dict__, "__init__"]:
            if member == "__init__" or (not member.startswith("_") and hasattr(kind, member)):
                mine, theirs = (
                    [(p.name, p.kind, p.default) for p in inspect.signature(getattr(which, member)).parameters.values()]
                    for which in (kind, other)
                )
                assert mine == theirs, f"{name}.{member}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("__keyvalue_bytes__"), inner, max_size=3),
    max_leaves=10,
)


class Anything(BaseModel):
    data: bytes
    many: list[dict[str, bytes]]
    at: datetime.datetime
    either: int | float | str | bool | None
    secret: SecretStr
    anything: Any


class Root(RootModel[dict[str, Any]]):
    pass


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


@given(st.dictionaries(st.text() | st.sampled_from(["items", "__keyvalue_bytes__"]), JSON, max_size=3))
def test_any_dict_comes_back(value: dict[str, Any]) -> None:
    for kind, one in ((dict[str, Any], value), (Root, Root(value)), (Any, value), (list[Any], [value])):
        converter = PydanticConverter[Any](kind)
        assert converter.load(json.loads(json.dumps(converter.dump(one)))) == one


@given(st.binary() | st.text(), st.sampled_from([str | bytes, list[str | bytes], dict[str, Any], Any]))
def test_what_is_not_refused_comes_back(value: str | bytes, kind: Any) -> None:
    converter = PydanticConverter[Any](kind)
    wrapped: Any = value if kind in (str | bytes, Any) else [value] if kind == list[str | bytes] else {"a": value}
    try:
        row = converter.dump(wrapped)
    except SerializationError:
        assert isinstance(value, bytes)
        return
    assert converter.load(row) == wrapped


def test_small_of_large() -> None:
    """Of a subclass, the fields of the given type are kept, as pydantic does."""

    class Larger(Small):
        y: int = 1

    converter = PydanticConverter[Any](Small)
    assert converter.dump(Larger(x=2)) == TypeAdapter(Small).dump_python(Larger(x=2)) == {"x": 2}


class Other(BaseModel):
    name: str


async def test_a_value_of_another_type_is_named(adapt: Adapt) -> None:
    wrong: Any
    for kind, wrong, message in (
        (User, Other(name="Alice"), "The value is an Other, not a User"),
        (User, 1, "The value is an int, not a User"),
        (User, {"name": "Alice"}, "The value can't be stored as User: it is a dict; give a User"),
    ):
        with pytest.raises(SerializationError) as caught:
            await adapt("PydanticAdapter", MemoryStore(), kind).put("k", wrong)
        assert caught.value.message == message
