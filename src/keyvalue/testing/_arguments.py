"""What a store or wrapper owes its callers before it reaches the backend: checked arguments, JSON values, return types."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from keyvalue._core.codec import MAX_DEPTH
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue.errors import InvalidKeyError, InvalidTTLError, SerializationError
from keyvalue.protocols.key_value import AsyncKeyValue
from keyvalue.testing._clock import Clock
from keyvalue.testing._runtime import RUNTIMES, Awaited, Runtime, RuntimeName
from keyvalue.testing._samples import BAD_TTLS, NOT_JSON, labels, nested, same
from keyvalue.testing._suite import assert_collections, assert_keys, on_the_runtime

__all__ = ["ArgumentContract"]


class ArgumentContract(ABC):
    """What `BaseStore` and `BaseWrapper` do for their subclasses: check arguments, turn values into JSON, return the right types.

    `StoreContract` includes it.
    """

    runtimes: Sequence[RuntimeName] = RUNTIMES
    """The runtimes to test on: any of "asyncio", "trio", "direct" (`BlockingKeyValue` in the calling thread; for stores that declare that
    they run inline) and "portal" (`BlockingKeyValue` over a loop in a background thread). Default: all four."""
    default_collection: str = DEFAULT_COLLECTION
    """Collection used when a call does not name one. Default `"default_collection"`."""
    max_depth: int = MAX_DEPTH
    """How many levels of nesting a value may have. Default 254; fewer for a wrapper that puts values in an envelope."""
    slow: bool = False
    """Whether a call takes so long (tens of milliseconds) that the tests should use fewer keys. Default False."""

    @abstractmethod
    def make(self, directory: Path) -> AsyncKeyValue:
        """Return a new store that has not been opened yet.

        Args:
            directory: An empty directory, one per test. A test may make several stores in it, one after the other: if the store is
                `persistent`, they share their data.
        """

    @pytest.fixture
    def runtime(self, request: pytest.FixtureRequest) -> Runtime:
        """The runtime of the test.

        Override it to return a subclass of `Runtime`, created with `request.param`, the name of the runtime.
        """
        return Runtime(request.param)

    @pytest.fixture
    def kv(self, runtime: Runtime, tmp_path: Path) -> Any:
        """A store as the runtime's tests use it; it is closed after the test."""
        return runtime.adapt(self.make(tmp_path))

    @pytest.fixture
    def clock(self) -> Iterator[Clock]:
        """The clock that the store asks for the time, moved by hand."""
        with Clock() as clock:
            yield clock

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make pytest run each test that has a runtime on each of `runtimes`."""
        if not self.runtimes:
            raise ValueError(f"{type(self).__name__}.runtimes names no runtime to test on")
        if "runtime" in metafunc.fixturenames:
            metafunc.parametrize("runtime", self.runtimes, indirect=True)

    # Methods

    @on_the_runtime
    async def test_positional_and_keyword_calls(self, kv: Any) -> None:
        """Keys and values may be passed by position or by name; put and put_many return None."""
        assert await kv.put("k", {"a": 1}) is None
        assert await kv.put(key="l", value={"b": 2}, collection=None, ttl=None) is None
        assert await kv.get("k") == {"a": 1}
        assert await kv.get(key="l", collection=None) == {"b": 2}
        assert await kv.put_many(keys=["m"], values=[{"c": 3}], collection="c", ttl=50) is None
        assert await kv.get_many(keys=["m"], collection="c") == [{"c": 3}]
        assert await kv.delete(key="k", collection=None) is True
        assert await kv.delete_many(keys=["m"], collection="c") == 1

    @on_the_runtime
    async def test_return_types(self, kv: Any, clock: Clock) -> None:
        """Values are dicts, results of bulk calls lists, what is left to live a float, and what is missing has neither value nor TTL."""
        clock.freeze()
        await kv.put("k", {"a": 1}, ttl=50)
        value, ttl = await kv.ttl("k")
        assert type(value) is dict
        assert type(ttl) is float
        assert ttl == pytest.approx(50, abs=1e-4)
        assert await kv.ttl("missing") == (None, None)
        many = await kv.ttl_many(["k", "missing"])
        assert [type(pair) for pair in many] == [tuple, tuple]
        assert type(many) is list
        assert type(await kv.get_many(["k"])) is list
        assert type(await kv.delete_many(["k"])) is int
        assert type(await kv.delete("k")) is bool

    # Names

    @on_the_runtime
    async def test_bad_names_are_refused_before_anything_is_written(self, kv: Any) -> None:
        """A name that is empty or does not encode raises InvalidKeyError, one that is not a str TypeError; nothing is written then."""
        for bad, error in [("", InvalidKeyError), ("\ud800", InvalidKeyError), (1, TypeError), (b"k", TypeError), (None, TypeError)]:
            calls: list[Callable[[], Awaitable[object]]] = [
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
        assert await kv.get("k") is None
        await assert_collections(kv, [])

    @on_the_runtime
    async def test_str_subclasses_are_names(self, kv: Any) -> None:
        """A name may be of a subclass of str; its text counts, whatever its __str__ returns."""

        class Name(str):
            def __str__(self) -> str:
                return "other"

        await kv.put(Name("k"), {"a": 1}, collection=Name("c"))
        assert await kv.get("k", collection="c") == {"a": 1}
        await assert_keys(kv, ["k"], "c")

    # Values

    @on_the_runtime
    async def test_values_become_their_json_round_trip(self, kv: Any) -> None:
        """Tuples come back as lists, subclasses of str, int, list and dict as these."""

        class Text(str):
            pass

        class Whole(int):
            pass

        value: dict[str, Any] = {
            "tuple": (1, (2, [3])),
            "subclasses": [Text("t"), Whole(7), OrderedDict(b=1, a=2), defaultdict(int, {"x": 1})],
            Text("k"): True,
            "big": (2**70, None),
        }
        await kv.put("k", value)
        assert same(await kv.get("k"), json.loads(json.dumps(value)))

    @on_the_runtime
    @pytest.mark.parametrize("wrap", [MappingProxyType, UserDict, OrderedDict])
    async def test_any_mapping_is_a_value(self, kv: Any, wrap: Any) -> None:
        """Any mapping with string keys is a value, also within another; it comes back as a dict."""
        await kv.put("k", wrap({"a": wrap({"b": 1})}))
        await kv.put_many(["l"], [wrap({"a": 1})])
        assert same(await kv.get("k"), {"a": {"b": 1}})
        assert same(await kv.get("l"), {"a": 1})

    @on_the_runtime
    @pytest.mark.parametrize("last", [1, 2**70])
    async def test_values_that_are_too_deep_are_refused(self, kv: Any, last: int) -> None:
        """A value nested more than 254 levels deep (here `ArgumentContract.max_depth`) raises SerializationError."""
        for levels in (self.max_depth + 1, 900, 5000):
            with pytest.raises(SerializationError, match="nested"):
                await kv.put("k", nested(levels, last))
        assert await kv.get("k") is None

    @on_the_runtime
    @pytest.mark.parametrize("bad", NOT_JSON, ids=labels(NOT_JSON))
    async def test_what_is_not_json_is_refused_with_its_place(self, kv: Any, bad: Any) -> None:
        """What is not JSON raises SerializationError with its place in the message. A put_many with one such value stores nothing."""
        for extra in ({}, {"big": 2**70}, {"none": None}):
            value: dict[str, Any] = {"list": [0, {"bad": bad}], **extra}
            with pytest.raises(SerializationError, match=r"(?s)serialize.*\['list'\]\[1\]\['bad'\]") as caught:
                await kv.put("k", value)
            assert isinstance(caught.value, ValueError)
            with pytest.raises(SerializationError):
                await kv.put_many(["ok", "k"], [{}, value])
        assert await kv.get_many(["ok", "k"]) == [None, None]

    @on_the_runtime
    async def test_circular_values_are_refused(self, kv: Any) -> None:
        """A value that holds itself raises SerializationError."""
        circle: dict[str, Any] = {}
        circle["list"] = [circle]
        with pytest.raises(SerializationError, match="circular"):
            await kv.put("k", circle)

    @on_the_runtime
    async def test_messages_hold_no_values(self, kv: Any) -> None:
        """No message of an error holds a value."""
        for bad in ({"a": {"hunter2-secret"}}, {"a": b"hunter2-secret"}, "hunter2-secret", ["hunter2-secret"]):
            with pytest.raises((SerializationError, TypeError)) as caught:
                await kv.put("k", bad)
            assert "hunter2" not in str(caught.value)

    @on_the_runtime
    async def test_values_of_a_wrong_type(self, kv: Any) -> None:
        """A value that is not a mapping raises TypeError."""
        wrong: list[Any] = [None, [], "text", 1, b"{}", {1}]
        for bad in wrong:
            with pytest.raises(TypeError, match="mapping"):
                await kv.put("k", bad)
            with pytest.raises(TypeError, match="mapping"):
                await kv.put_many(["k", "l"], [{}, bad])

    # Time to live

    @on_the_runtime
    @pytest.mark.parametrize("ttl", [1, 1.5, 0.5, Decimal("1.5"), Fraction(3, 2), 10**9, 200_000_000_000])
    async def test_any_positive_number_is_a_ttl(self, kv: Any, clock: Clock, ttl: Any) -> None:
        """Any positive, finite number of seconds is a TTL, if the deadline lies before the year 10000."""
        clock.freeze()
        await kv.put("k", {"a": 1}, ttl=ttl)
        await kv.put_many(["l"], [{}], ttl=ttl)
        value, left = await kv.ttl("k")
        assert value == {"a": 1}
        assert left == pytest.approx(float(ttl), abs=1e-4)
        assert await kv.get("l") == {}

    @on_the_runtime
    @pytest.mark.parametrize("ttl", BAD_TTLS, ids=labels(BAD_TTLS))
    async def test_bad_ttls_are_refused_before_anything_is_written(self, kv: Any, ttl: Any) -> None:
        """A TTL that is not a positive, finite number raises InvalidTTLError, and nothing is written then."""
        await kv.put("k", {"a": 1})
        with pytest.raises(InvalidTTLError, match="positive, finite number of seconds"):
            await kv.put("k", {}, ttl=ttl)
        with pytest.raises(InvalidTTLError):
            await kv.put_many(["k", "l"], [{}, {}], ttl=ttl)
        assert await kv.get_many(["k", "l"]) == [{"a": 1}, None]

    @on_the_runtime
    @pytest.mark.parametrize("ttl", ["10", b"1", [1], object()])
    async def test_a_ttl_of_a_wrong_type_is_both_errors(self, kv: Any, ttl: Any) -> None:
        """A TTL that is not a number raises InvalidTTLError, which is then also a TypeError."""
        for error in (InvalidTTLError, TypeError):
            with pytest.raises(error):
                await kv.put("k", {}, ttl=ttl)
            with pytest.raises(error):
                await kv.put_many(["k"], [{}], ttl=ttl)

    # Bulk calls

    @on_the_runtime
    async def test_empty_bulk(self, kv: Any) -> None:
        """A bulk call for no keys does nothing."""
        assert await kv.get_many([]) == []
        assert await kv.ttl_many([]) == []
        assert await kv.put_many([], []) is None
        assert await kv.delete_many([]) == 0

    @on_the_runtime
    async def test_unequal_lengths(self, kv: Any) -> None:
        """Keys and values that differ in length raise ValueError, and nothing is stored."""
        unequal: list[tuple[list[str], list[Any]]] = [(["a"], []), ([], [{}]), (["a", "b"], [{}])]
        for keys, values in unequal:
            with pytest.raises(ValueError, match="one value for each key"):
                await kv.put_many(keys, values)
        assert await kv.get("a") is None

    @on_the_runtime
    async def test_keys_must_be_a_sequence(self, kv: Any) -> None:
        """Keys and values that are no sequence, or a str, raise TypeError."""
        for bad in ("ab", b"ab", {"a"}, iter(["a"]), {"a": 1}.keys(), None, 1):
            for call in (kv.get_many, kv.ttl_many, kv.delete_many):
                with pytest.raises(TypeError, match="sequence"):
                    await call(bad)
            with pytest.raises(TypeError, match="sequence"):
                await kv.put_many(bad, [{}])
        with pytest.raises(TypeError, match="sequence"):
            await kv.put_many(["a"], "x")

    @on_the_runtime
    async def test_every_element_is_checked(self, kv: Any) -> None:
        """All arguments are checked before the first is used, every key of a bulk call too."""
        for place in range(50):
            keys: list[Any] = [f"k{index}" for index in range(50)]
            keys[place] = 1
            with pytest.raises(TypeError):
                await kv.get_many(keys)

    # Lifetime

    @on_the_runtime
    async def test_an_empty_store_is_truthy(self, kv: Any) -> None:
        """A store is always truthy, and has no length."""
        for store in (kv.facade, kv.facade.key_value) if isinstance(kv, Awaited) else (kv,):
            assert store
            assert not hasattr(store, "__len__")
            assert not hasattr(store, "__bool__")
