"""The contract, point by point, on every runtime: section by section what `docs/contract.md` says."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio
import pytest

from keyvalue._core.capabilities import ALL, PROTOCOLS
from keyvalue._core.codec import MAX_DEPTH
from keyvalue._core.store import DEFAULT_COLLECTION
from keyvalue.errors import DeserializationError, InvalidKeyError, InvalidTTLError, SerializationError, StoreClosedError
from keyvalue.protocols.key_value import AsyncKeyValue
from keyvalue.testing._clock import Clock
from keyvalue.testing._runtime import RUNTIMES, Awaited, Runtime, RuntimeName, step
from keyvalue.testing._samples import BAD_TTLS, NAMES, NOT_JSON, VALUES, labels, nested, same

__all__ = ["StoreContract", "assert_collections", "assert_keys", "offers"]


def offers(kv: Any, method: str) -> bool:
    """Return whether a store of either colour has one of the optional methods."""
    # The protocols of both colours have the same names, which is what isinstance looks for.
    return isinstance(kv.facade if isinstance(kv, Awaited) else kv, PROTOCOLS[method])


async def assert_keys(kv: Any, expected: Iterable[str], collection: str | None = None) -> None:
    """Fail if a store that can list its keys lists others."""
    if offers(kv, "keys"):
        assert sorted(await kv.keys(collection)) == sorted(expected)


async def assert_collections(kv: Any, expected: Iterable[str]) -> None:
    """Fail if a store that can list its collections lists others."""
    if offers(kv, "collections"):
        assert sorted(await kv.collections()) == sorted(expected)


def on_the_runtime(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a plain function of a coroutine function, which runs it on the test's runtime, whatever plugins for coroutines pytest has.

    If it fails, the error gets what the contract says, which is its docstring, as a note.
    """
    signature = inspect.signature(test)
    takes_runtime = "runtime" in signature.parameters
    runtime_parameter = inspect.Parameter("runtime", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    note = "The contract: " + " ".join((test.__doc__ or "").split())

    @functools.wraps(test)
    def run(self: StoreContract, runtime: Runtime, **fixtures: Any) -> None:
        if takes_runtime:
            fixtures["runtime"] = runtime
        try:
            runtime.run(functools.partial(test, self), **fixtures)
        except (Exception, pytest.fail.Exception) as error:
            vars(error)["__notes__"] = [*vars(error).get("__notes__", ()), note]  # add_note is not there before Python 3.11
            raise

    asked_for = signature.parameters.values() if takes_runtime else (*signature.parameters.values(), runtime_parameter)
    vars(run)["__signature__"] = signature.replace(parameters=list(asked_for))  # which pytest goes by
    return run


async def at_once(runtime: Runtime, calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Call coroutine functions at the same time: in tasks, or each in a thread that steps through it."""
    errors: list[Exception] = []

    async def caught(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except Exception as error:  # noqa: BLE001 # it is raised again below
            errors.append(error)

    if runtime.is_loop:
        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(caught, call)
    else:
        with ThreadPoolExecutor(len(calls)) as pool:
            for future in [pool.submit(step, caught(call)) for call in calls]:
                future.result()
    for error in errors:
        raise error


class StoreContract(ABC):
    """The contract that a store keeps, as a class of tests: derive one whose name begins with `Test`, and say how to make the store.

    ```
    class TestTableStore(StoreContract):
        def make(self, directory: Path) -> TableStore:
            return TableStore(str(directory / "entries.db"))
    ```

    Each test runs once on each runtime. What a store can list, destroy or cull is told from the store: tests of an optional method that it
    has not have nothing to try. A test that fails says what the contract says.

    The tests are plain functions, so it does not matter which plugins for coroutines pytest has, and none is needed. They use pytest's
    fixture `tmp_path` and the fixtures of this class, which a subclass may override. In the subclass, a fixture with `autouse=True` does
    what is to be done around each test, such as emptying a server.

    Attributes:
        runtimes: What to run each test on: any of "asyncio", "trio", "direct" (`BlockingKeyValue`, in the calling thread; for stores that
            say that they run inline) and "portal" (`BlockingKeyValue`, on a loop in a background thread). Default: all four.
        persistent: Whether a store that is made in the same directory after the first one was closed has its entries. Default True.
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.
        max_depth: How many levels of nesting a value may have; fewer than 254, the default, for a wrapper that puts values in an envelope.
        slow: Whether a call takes so long (tens of milliseconds) that tests should make do with fewer keys. Default False.
    """

    runtimes: Sequence[RuntimeName] = RUNTIMES
    persistent: bool = True
    default_collection: str = DEFAULT_COLLECTION
    max_depth: int = MAX_DEPTH
    slow: bool = False

    @abstractmethod
    def make(self, directory: Path) -> AsyncKeyValue:
        """Return a new store that has not been opened yet.

        Args:
            directory: An empty one for the test. A test may make several stores in it, one after the other: they are about the same
                data if the store is `persistent`.
        """

    def damage(self, directory: Path, collection: str, key: str) -> None:  # noqa: B027 # optional
        """Overwrite, in the backend, what a store keeps of an entry, by bytes that are no entry. Optional.

        If it is overridden, the suite tests that what is damaged is an error for its own key alone.

        Args:
            directory: That of the test, as `make` got it. The store is open.
            collection: The collection of the entry, a short word.
            key: Its key, a short word.
        """

    @pytest.fixture
    def runtime(self, request: pytest.FixtureRequest) -> Runtime:
        """The runtime of the test.

        A subclass may override it to return a subclass of `Runtime`, made with `request.param`, the name of the runtime.
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
        """Have pytest run what has a runtime on each of `runtimes`."""
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
    async def test_return_types(self, kv: Any) -> None:
        """Values are dicts, results of bulk calls lists, what is left to live a float, and what is missing has neither value nor TTL."""
        await kv.put("k", {"a": 1}, ttl=50)
        value, ttl = await kv.ttl("k")
        assert type(value) is dict
        assert type(ttl) is float
        assert 49 < ttl <= 50
        assert await kv.ttl("missing") == (None, None)
        many = await kv.ttl_many(["k", "missing"])
        assert [type(pair) for pair in many] == [tuple, tuple]
        assert type(many) is list
        assert type(await kv.get_many(["k"])) is list
        assert type(await kv.delete_many(["k"])) is int
        assert type(await kv.delete("k")) is bool

    @on_the_runtime
    async def test_ttl_of_an_entry_that_never_expires(self, kv: Any) -> None:
        """An entry that never expires has None left to live."""
        await kv.put("k", {"a": 1})
        assert await kv.ttl("k") == ({"a": 1}, None)

    # Names

    @on_the_runtime
    async def test_any_names_work_and_never_meet(self, kv: Any) -> None:
        """Any str that is not empty and encodes as UTF-8 is a key and a collection.

        Different names are different entries, and are listed as they were given.
        """
        # Each name is a collection and a key, on slow stores of two others.
        keys_of = {name: NAMES if not self.slow else [name, NAMES[index * 3 % len(NAMES)]] for index, name in enumerate(NAMES)}
        keys_of = {collection: list(dict.fromkeys(keys)) for collection, keys in keys_of.items()}
        for collection, keys in keys_of.items():
            await kv.put_many(keys, [{"c": collection, "k": key} for key in keys], collection=collection)
        for collection, keys in keys_of.items():
            assert await kv.get_many(keys, collection=collection) == [{"c": collection, "k": key} for key in keys]
            await assert_keys(kv, keys, collection)
        await assert_collections(kv, NAMES)
        for collection in NAMES[::2]:
            assert await kv.delete_many(keys_of[collection], collection=collection) == len(keys_of[collection])
        for index, (collection, keys) in enumerate(keys_of.items()):
            expected = [None if index % 2 == 0 else {"c": collection, "k": key} for key in keys]
            assert await kv.get_many(keys, collection=collection) == expected
        await assert_collections(kv, NAMES[1::2])

    @on_the_runtime
    @pytest.mark.parametrize(("one", "other"), [(("a", "b::c"), ("a::b", "c")), (("a:", "b"), ("a", ":b")), (("Foo", "k"), ("foo", "k"))])
    async def test_neighbours_never_meet(self, kv: Any, one: tuple[str, str], other: tuple[str, str]) -> None:
        """Two different pairs of collection and key never share an entry."""
        for (collection, key), (other_collection, other_key) in itertools.permutations([one, other]):
            await kv.put(key, {"mine": True}, collection=collection)
            assert await kv.get(other_key, collection=other_collection) is None
            assert await kv.get_many([other_key], collection=other_collection) == [None]
            assert await kv.ttl(other_key, collection=other_collection) == (None, None)
            assert await kv.ttl_many([other_key], collection=other_collection) == [(None, None)]
            assert await kv.delete(other_key, collection=other_collection) is False
            assert await kv.delete(key, collection=collection) is True

    @on_the_runtime
    async def test_bad_names_are_refused_before_anything_is_written(self, kv: Any) -> None:
        """A name that is empty or does not encode raises InvalidKeyError, one that is no str TypeError, and nothing is written then."""
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
    async def test_the_default_collection(self, kv: Any) -> None:
        """`collection=None` means the store's default collection, which has a name (here `StoreContract.default_collection`)."""
        await kv.put("k", {"a": 1})
        assert await kv.get("k", collection=self.default_collection) == {"a": 1}
        await assert_keys(kv, ["k"])
        await assert_keys(kv, ["k"], self.default_collection)
        await assert_collections(kv, [self.default_collection])

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
    @pytest.mark.parametrize("value", VALUES, ids=labels(VALUES))
    async def test_values_come_back_exactly(self, kv: Any, value: dict[str, Any]) -> None:
        """What is read equals what was put: the same types, keys in the same order, integers of any size and floats exactly."""
        await kv.put("k", value)
        await kv.put_many(["l", "m"], [value, {}])
        assert same(await kv.get("k"), value)
        assert same((await kv.get_many(["m", "l"]))[1], value)
        assert same((await kv.ttl("l"))[0], value)

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
    async def test_values_are_never_shared(self, kv: Any) -> None:
        """Each read returns a new dict, which shares no object with what was put nor with what was read before."""
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

    @on_the_runtime
    @pytest.mark.parametrize("last", [1, 2**70])
    async def test_deep_values(self, kv: Any, last: int) -> None:
        """Values are nested at most 254 levels deep (here `StoreContract.max_depth`); more raises SerializationError."""
        for levels in (200, self.max_depth):
            await kv.put("k", nested(levels, last))
            assert await kv.get("k") == nested(levels, last)
        for levels in (self.max_depth + 1, 900, 5000):
            with pytest.raises(SerializationError, match="nested"):
                await kv.put("k", nested(levels, last))
        assert await kv.get("k") == nested(self.max_depth, last)

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
        """A value that is no mapping raises TypeError."""
        wrong: list[Any] = [None, [], "text", 1, b"{}", {1}]
        for bad in wrong:
            with pytest.raises(TypeError, match="mapping"):
                await kv.put("k", bad)
            with pytest.raises(TypeError, match="mapping"):
                await kv.put_many(["k", "l"], [{}, bad])

    # Time to live

    @on_the_runtime
    async def test_expiry(self, kv: Any, clock: Clock) -> None:
        """An entry is never returned after its deadline, and never gone before it; fractions of a second count.

        The time is what `keyvalue.stores.base.clock.now()` says.
        """
        clock.freeze()
        await kv.put("k", {"a": 1}, ttl=10)
        await kv.put("stays", {"a": 2})
        clock.advance(9.9)
        assert await kv.get("k") == {"a": 1}
        value, left = await kv.ttl("k")
        assert value == {"a": 1}
        assert left == pytest.approx(0.1, abs=1e-4)
        assert await kv.ttl_many(["stays", "k"]) == [({"a": 2}, None), ({"a": 1}, left)]
        clock.advance(0.11)
        assert await kv.get("k") is None
        assert await kv.ttl("k") == (None, None)
        assert await kv.get_many(["k", "stays"]) == [None, {"a": 2}]
        assert await kv.ttl_many(["k", "stays"]) == [(None, None), ({"a": 2}, None)]
        await assert_keys(kv, ["stays"])

    @on_the_runtime
    async def test_the_backend_reclaims_nothing_early(self, kv: Any, runtime: Runtime) -> None:
        """An entry is never reclaimed before its deadline: a backend's own expiry is given no less than what is left, rounded up."""
        seconds = 1.45  # which a backend would take for 1 if it were rounded down, or to the nearest
        for _ in range(3):  # a busy machine may take longer than that
            deadline = time.time() + seconds
            await kv.put("k", {"a": 1}, ttl=seconds)
            await kv.put_many(["l"], [{"a": 2}], ttl=seconds)
            await runtime.sleep(1.1)
            values = await kv.get_many(["k", "l"])
            if time.time() < deadline:
                assert values == [{"a": 1}, {"a": 2}]
                return
        pytest.skip("this machine is too busy for a test of native expiry")

    @on_the_runtime
    async def test_expired_entries_are_absent_to_delete_and_listing(self, kv: Any, clock: Clock) -> None:
        """An expired entry is absent to every call: deleting or destroying it is False, and no listing has it."""
        await kv.put("stays", {}, collection="d")
        await kv.put_many(["a", "b", "e"], [{}, {}, {}], collection="c", ttl=5)
        await kv.put_many(["a"], [{}], collection="d", ttl=5)
        clock.advance(5)
        await assert_collections(kv, ["d"])
        await assert_keys(kv, [], "c")
        assert await kv.delete("a", collection="c") is False
        assert await kv.delete_many(["b"], collection="c") == 0
        assert await kv.delete_many(["a", "stays"], collection="d") == 1
        if offers(kv, "destroy_collection"):
            assert await kv.destroy_collection("c") is False

    @on_the_runtime
    async def test_put_without_ttl_clears_an_earlier_one(self, kv: Any, clock: Clock) -> None:
        """A put without a TTL means for ever, also if an earlier value had one."""
        await kv.put("k", {"a": 1}, ttl=5)
        await kv.put("k", {"a": 2})
        await kv.put_many(["l", "m"], [{}, {}], ttl=5)
        await kv.put_many(["l"], [{}])
        clock.advance(6)
        assert await kv.ttl("k") == ({"a": 2}, None)
        assert await kv.get_many(["l", "m"]) == [{}, None]

    @on_the_runtime
    async def test_put_with_another_ttl_replaces_the_earlier_one(self, kv: Any, clock: Clock) -> None:
        """A put with a TTL replaces an earlier one, be it longer or shorter."""
        await kv.put("k", {"a": 1}, ttl=5)
        await kv.put("k", {"a": 2}, ttl=50)
        clock.advance(6)
        assert await kv.get("k") == {"a": 2}
        await kv.put("k", {"a": 3}, ttl=5)
        clock.advance(5)
        assert await kv.get("k") is None

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
        with pytest.raises(InvalidTTLError, match="positive, finite number of seconds"):
            await kv.put("k", {}, ttl=ttl)
        with pytest.raises(InvalidTTLError):
            await kv.put_many(["k"], [{}], ttl=ttl)
        assert await kv.get("k") is None

    @on_the_runtime
    @pytest.mark.parametrize("ttl", ["10", b"1", [1], object()])
    async def test_a_ttl_of_a_wrong_type_is_both_errors(self, kv: Any, ttl: Any) -> None:
        """A TTL that is no number raises InvalidTTLError, which is then also a TypeError."""
        for error in (InvalidTTLError, TypeError):
            with pytest.raises(error):
                await kv.put("k", {}, ttl=ttl)
            with pytest.raises(error):
                await kv.put_many(["k"], [{}], ttl=ttl)

    @on_the_runtime
    async def test_cull_removes_only_what_has_expired(self, kv: Any, clock: Clock) -> None:
        """`cull`, if the store has it, removes expired entries and no others."""
        if not offers(kv, "cull"):
            return
        clock.freeze()
        await kv.put_many(["a", "b", "c::d"], [{}, {}, {}], collection="x::y", ttl=5)
        await kv.put("stays", {"a": 1}, collection="x::y")
        clock.advance(6)
        await kv.put("b", {"again": True}, collection="x::y")
        assert await kv.cull() is None
        clock.advance(-6)  # what was merely hidden would come back
        await assert_keys(kv, ["b", "stays"], "x::y")
        assert await kv.get_many(["a", "b", "stays"], collection="x::y") == [None, {"again": True}, {"a": 1}]

    @on_the_runtime
    async def test_cull_keeps_what_is_put_meanwhile(self, kv: Any, clock: Clock, runtime: Runtime) -> None:
        """`cull`, if the store has it, never removes an entry that was put again after it had expired, not even at the same time."""
        if not offers(kv, "cull"):
            return
        keys = [f"k{index}" for index in range(5 if self.slow else 50)]

        async def put_again() -> None:
            for key in keys:
                await kv.put(key, {"again": True})

        for _ in range(1 if self.slow else 3):
            await kv.put_many(keys, [{}] * len(keys), ttl=5)
            clock.advance(6)
            await at_once(runtime, [kv.cull, put_again, kv.cull])
            assert await kv.get_many(keys) == [{"again": True}] * len(keys)

    # Damage

    @on_the_runtime
    async def test_a_damaged_entry_is_an_error_for_its_own_key_alone(self, kv: Any, tmp_path: Path) -> None:
        """What is there and can't be read raises DeserializationError; listing leaves it out, `put` overwrites it, `delete` removes it.

        Tried if the class of the tests overrides `damage`.
        """
        if type(self).damage is StoreContract.damage:
            return
        for overwritten in (True, False):
            await kv.put_many(["whole", "bad"], [{"a": 1}, {"a": 2}], collection="c")
            self.damage(tmp_path, "c", "bad")
            if offers(kv, "cull"):
                await kv.cull()
            for read in (kv.get, kv.ttl):
                with pytest.raises(DeserializationError):
                    await read("bad", collection="c")
            for read in (kv.get_many, kv.ttl_many):
                with pytest.raises(DeserializationError):
                    await read(["whole", "bad"], collection="c")
            assert await kv.get_many(["whole"], collection="c") == [{"a": 1}]
            await assert_keys(kv, ["whole"], "c")
            if overwritten:
                await kv.put("bad", {"a": 3}, collection="c")
                assert await kv.get("bad", collection="c") == {"a": 3}
            else:
                assert await kv.delete("bad", collection="c") is True
                assert await kv.get("bad", collection="c") is None

    # Bulk calls

    @on_the_runtime
    async def test_bulk_results_are_aligned(self, kv: Any) -> None:
        """Results are aligned with the request.

        Of duplicate keys, reads repeat the answer, put_many keeps the last value, and delete_many counts each once.
        """
        await kv.put_many(["a", "b", "a"], [{"n": 1}, {"n": 2}, {"n": 3}])
        assert await kv.get_many(["b", "missing", "a", "b"]) == [{"n": 2}, None, {"n": 3}, {"n": 2}]
        assert [value for value, _ in await kv.ttl_many(["a", "a", "missing"])] == [{"n": 3}, {"n": 3}, None]
        assert await kv.delete_many(["a", "a", "missing", "b"]) == 2
        assert await kv.get_many(["a", "b"]) == [None, None]

    @on_the_runtime
    @pytest.mark.parametrize("number", [1, 100, 1201])
    async def test_bulk_of_many(self, kv: Any, number: int) -> None:
        """A bulk call takes any number of keys, in any sequence."""
        number = min(number, 30) if self.slow else number
        keys = [f"key-{index}" for index in range(number)]
        await kv.put_many(tuple(keys), tuple({"n": index} for index in range(number)), ttl=60)
        assert await kv.get_many(keys) == [{"n": index} for index in range(number)]
        await assert_keys(kv, keys)
        assert await kv.delete_many([*keys, *keys]) == number

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
    async def test_closing(self, kv: Any) -> None:
        """Closing twice is fine. Every call after it raises StoreClosedError."""
        await kv.put("k", {})
        await kv.close()
        await kv.close()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: kv.get("k"),
            lambda: kv.ttl("k"),
            lambda: kv.put("k", {}),
            lambda: kv.delete("k"),
            lambda: kv.get_many([]),
            lambda: kv.ttl_many(["k"]),
            lambda: kv.put_many([], []),
            lambda: kv.delete_many(["k"]),
            lambda: kv.setup(),
        ]
        optional: dict[str, Callable[[], Awaitable[object]]] = {
            "keys": lambda: kv.keys(),
            "collections": lambda: kv.collections(),
            "destroy": lambda: kv.destroy(),
            "destroy_collection": lambda: kv.destroy_collection("c"),
            "cull": lambda: kv.cull(),
        }
        for call in [*calls, *(call for method, call in optional.items() if offers(kv, method))]:
            with pytest.raises(StoreClosedError, match="closed"):
                await call()

    @on_the_runtime
    async def test_closing_before_use(self, runtime: Runtime, tmp_path: Path) -> None:
        """A store that was never used can be closed, by `aclose` too, and another one be made after it."""
        unused = runtime.adapt(self.make(tmp_path))
        await (unused.aclose() if runtime.is_loop else unused.close())
        with pytest.raises(StoreClosedError):
            await unused.get("k")
        kv = runtime.adapt(self.make(tmp_path))
        await kv.put("k", {})
        assert await kv.get("k") == {}

    @on_the_runtime
    async def test_context_manager_and_setup(self, kv: Any) -> None:
        """`async with` and `setup` open the store, and leaving `async with` closes it for good."""
        async with kv:
            await kv.setup()
            await kv.setup()
            await kv.put("k", {})
        with pytest.raises(StoreClosedError):
            await kv.get("k")
        with pytest.raises(StoreClosedError):
            async with kv:
                pass

    @on_the_runtime
    async def test_entries_outlive_the_store(self, runtime: Runtime, tmp_path: Path) -> None:
        """What one store wrote, the next one on the same data has, with what is left to live.

        If the class of the tests says `persistent = False`, the next one has nothing of it.
        """
        async with runtime.adapt(self.make(tmp_path)) as kv:
            await kv.put("k", {"a": 1}, collection="c::d", ttl=100)
        async with runtime.adapt(self.make(tmp_path)) as kv:
            value, left = await kv.ttl("k", collection="c::d")
            assert value == ({"a": 1} if self.persistent else None)
            assert (90 < left <= 100) if self.persistent else left is None

    @on_the_runtime
    async def test_an_empty_store_is_truthy(self, kv: Any) -> None:
        """A store is always truthy, and has no length."""
        for store in (kv.facade, kv.facade.key_value) if isinstance(kv, Awaited) else (kv,):
            assert store
            assert not hasattr(store, "__len__")
            assert not hasattr(store, "__bool__")

    @on_the_runtime
    async def test_reading_creates_nothing(self, kv: Any) -> None:
        """Reading or deleting in a collection that does not exist does not create it."""
        for index in range(20):
            assert await kv.get("k", collection=f"c{index}") is None
            assert await kv.get_many(["k", "l"], collection=f"c{index}") == [None, None]
            assert await kv.ttl("k", collection=f"c{index}") == (None, None)
            assert await kv.delete("k", collection=f"c{index}") is False
            await assert_keys(kv, [], f"c{index}")
        await assert_collections(kv, [])

    # Concurrency

    @on_the_runtime
    async def test_many_calls_at_once(self, kv: Any, runtime: Runtime) -> None:
        """Any number of tasks may use one store, through the façade any number of threads: from its first call, which opens it once."""
        number = 3 if self.slow else 10

        async def put_and_get(index: int) -> None:
            await kv.put(f"k{index}", {"n": index}, collection="c")
            assert await kv.get(f"k{index}", collection="c") == {"n": index}
            await kv.put("shared", {"n": index}, collection="c")
            assert await kv.get("shared", collection="c") is not None

        await at_once(runtime, [functools.partial(put_and_get, index) for index in range(number)])
        keys = [f"k{index}" for index in range(number)]
        assert await kv.get_many(keys, collection="c") == [{"n": index} for index in range(number)]
        assert (await kv.get("shared", collection="c"))["n"] in range(number)
        await assert_keys(kv, [*keys, "shared"], "c")

    # Optional capabilities

    @on_the_runtime
    async def test_what_a_store_can_do_is_what_it_says(self, kv: Any) -> None:
        """`isinstance` with a protocol of an optional method is truthful: for a store and the façade over it, what it has can be called."""
        await kv.put("k", {}, collection="c")
        facade = kv.facade if isinstance(kv, Awaited) else None
        store = kv if facade is None else facade.key_value
        offered = {method for method in ALL if offers(store, method)}
        assert {method for method in ALL if hasattr(store, method)} == offered
        assert facade is None or {method for method in ALL if hasattr(facade, method)} == offered
        # In this order, so that there is something to find.
        expected = {"keys": ["k"], "collections": ["c"], "cull": None, "destroy_collection": True, "destroy": True}
        arguments = {"keys": ("c",), "destroy_collection": ("c",)}
        for method, result in expected.items():
            if method in offered:
                assert await getattr(kv, method)(*arguments.get(method, ())) == result

    @on_the_runtime
    async def test_limits_of_listing(self, kv: Any) -> None:
        """A `limit` caps a listing, which is complete without one. A negative one raises ValueError, one that is no int TypeError."""
        await kv.put_many([f"k{index}" for index in range(5)], [{}] * 5)
        await kv.put("k", {}, collection="other")
        if offers(kv, "keys"):
            assert await kv.keys(limit=0) == []
            assert len(await kv.keys(limit=3)) == 3
            assert len(set(await kv.keys(limit=100))) == 5
            with pytest.raises(InvalidKeyError):
                await kv.keys("")
        if offers(kv, "collections"):
            assert await kv.collections(limit=0) == []
            assert len(await kv.collections(limit=1)) == 1
            assert sorted(await kv.collections(limit=2)) == sorted([self.default_collection, "other"])
        for method in ("keys", "collections"):
            if offers(kv, method):
                with pytest.raises(ValueError, match="negative"):
                    await getattr(kv, method)(limit=-1)
                for bad in ("1", 1.0, True):
                    with pytest.raises(TypeError, match="limit"):
                        await getattr(kv, method)(limit=bad)

    @on_the_runtime
    async def test_a_limit_counts_live_entries_only(self, kv: Any, clock: Clock) -> None:
        """Expired entries don't count towards the limit of a listing."""
        if not offers(kv, "keys"):
            return
        await kv.put_many([f"gone{index}" for index in range(5)], [{}] * 5, ttl=1)
        await kv.put_many(["a", "b"], [{}, {}])
        clock.advance(1)
        assert sorted(await kv.keys(limit=2)) == ["a", "b"]

    @on_the_runtime
    async def test_destroying_a_collection(self, kv: Any) -> None:
        """`destroy_collection`, if the store has it, removes that collection and no other, and is False if there was nothing.

        A destroyed collection can be used again.
        """
        if not offers(kv, "destroy_collection"):
            return
        keys = ["k", "::x"]
        for collection in ("c", "c::d", "d"):
            await kv.put_many(keys, [{}, {}], collection=collection)
        assert await kv.destroy_collection("c") is True
        assert await kv.destroy_collection("c") is False
        assert await kv.destroy_collection("never") is False
        assert await kv.get_many(keys, collection="c") == [None, None]
        assert await kv.get_many(keys, collection="c::d") == [{}, {}]
        await assert_collections(kv, ["c::d", "d"])
        assert await kv.destroy_collection("c::d") is True
        assert await kv.get_many(keys, collection="d") == [{}, {}]
        await assert_collections(kv, ["d"])
        await kv.put("again", {"a": 1}, collection="c")
        assert await kv.get("again", collection="c") == {"a": 1}
        await assert_keys(kv, ["again"], "c")
        for bad, error in (("", InvalidKeyError), (None, TypeError), (1, TypeError)):
            with pytest.raises(error):
                await kv.destroy_collection(bad)

    @on_the_runtime
    async def test_destroying_everything(self, kv: Any) -> None:
        """`destroy`, if the store has it, removes all collections, is always True, and leaves a store that can be used again."""
        if not offers(kv, "destroy"):
            return
        for collection in ("c", "c::d", "d"):
            await kv.put("k", {}, collection=collection)
        assert await kv.destroy() is True
        await assert_collections(kv, [])
        for collection in ("c", "c::d", "d"):
            assert await kv.get("k", collection=collection) is None
        assert await kv.destroy() is True
        await kv.put("k", {"a": 1})
        assert await kv.get("k") == {"a": 1}
