"""Any calls in any order, with hostile names, values and TTLs, on a moving clock: every store against a model."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import OrderedDict, UserDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, SupportsFloat, cast

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from keyvalue._core import clock as clock_module
from keyvalue._core import listing
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import InvalidKeyError
from keyvalue.protocols import AsyncKeyValue
from keyvalue.testing import RuntimeName
from keyvalue.testing._samples import NAMES, VALUES, nested, same
from tests import backends, runtimes
from tests.budget import scale
from tests.model import DEFAULT_COLLECTION, TICK, Model
from tests.servers.registry import SERVERS

pytestmark = pytest.mark.timeout(600)

# Examples, and the steps of each. Hypothesis keeps about a fifth of its examples shorter.
EMBEDDED, SERVER = scale((60, 50), (260, 50)), scale((8, 30), (40, 30))
FEW = scale(3, 20)
"""Examples on an event loop, where only the way to the store is another."""

START = 4_000_000_000.0  # a moment to come: some servers expire entries by absolute time
EXPIRING_BY_THEMSELVES = ("disk", "multi-disk", *(name for name in SERVERS if name != "keyring"))
"""The backends that also expire entries by the real clock, which no example may outlast."""
PAGES = {"_PAGE": 2, "PAGE": 2, "PAGE_SIZE": 200}
"""What limits the pages of listings, in stores and above them, so small that listing and destroying takes several."""


def draw_from(pool: Sequence[Any]) -> st.SearchStrategy[Any]:
    """What `st.sampled_from` does, which would put all of the pool into the texts that Hypothesis makes of its strategies."""
    return st.integers(0, len(pool) - 1).map(lambda place: pool[place])


# Names. A test case draws a few, and uses only those, so that it meets each again and again.

Names = tuple[Sequence[str | None], Sequence[str]]

# Collections and keys that some way of joining, escaping, folding or prefixing them would mix up with one another.
FAMILIES: list[Names] = [
    (["a", "a:"], ["a", ":a"]),
    (["a", "a::a"], ["a", "a::a"]),
    (["a", "a::"], ["a", "::a"]),
    (["a::", "a::a", "a:"], ["a", ":a", "::a", "a::a"]),
    ([":", "::", ":::"], [":", "::", "a"]),
    (["a", "a::b", "a::b::c"], ["b::c::d", "c::d", "d"]),
    (["a:", "a::"], [":", "~1", "~01"]),
    (["a:", "a~1", "a::", "a~1:"], ["a", "~:a", "1~:a"]),
    (["a", "A", "é", "e\u0301"], ["k", "K", "\ufb01", "fi"]),
    ([None, DEFAULT_COLLECTION], ["a", "b"]),
    (["mine/a", "a", None], ["key/a", "a", "key/key/a"]),
    (["a", "a\0", "\0"], ["a", "\0", "\0a"]),
    (["*", "?", "[a]", "a"], ["*", "[^b]", "\\"]),
    (["a/b", "a", "/a", "a/"], ["k", "b/k", "../a", "k/"]),
]

_name = st.one_of(draw_from(NAMES), draw_from(NAMES), st.text(min_size=1, max_size=8))
_any_names = st.tuples(
    st.lists(st.one_of(_name, st.sampled_from([None, DEFAULT_COLLECTION, "a", "a::"])), min_size=1, max_size=3, unique=True),
    st.lists(_name, min_size=2, max_size=4, unique=True),
)
_family = draw_from(FAMILIES)
_hostile_names = st.integers(0, 3).flatmap(lambda dice: _any_names if dice == 3 else _family)
_few_names = st.shared(st.runner().flatmap(lambda machine: cast("KeyValueMachine", machine).names), key="names")


@st.composite
def _one_of_the_few(draw: st.DrawFn, which: int) -> Any:
    pool = draw(_few_names)[which]
    return pool[draw(st.integers(0, len(pool) - 1))]


A_COLLECTION, A_KEY = _one_of_the_few(0), _one_of_the_few(1)
SOME_KEYS = st.one_of(st.lists(A_KEY, max_size=7), st.lists(A_KEY, max_size=5).map(tuple))


# Values, each with what must come back. Most are made here, once: making them up is what takes Hypothesis longest.


class Put(NamedTuple):
    """A value to put, and its JSON round trip."""

    value: Mapping[str, Any]
    expected: dict[str, Any]


def pass_through_json(value: Any) -> Put:
    return Put(value, json.loads(json.dumps(value)))


POOL: list[Put] = [
    *(Put(value, value) for value in [*VALUES, nested(250), nested(250, 2**70), {"large": "é\0" * 25_000}]),
    *map(
        pass_through_json,
        [
            {"n": 1},
            {"n": 2},
            {"null": "null", "none": None, "NaN": "NaN", "Infinity": ["-Infinity", "true", "1e999"]},
            {"tuple": (1, (2, ()), [(3,)]), "big": (2**70, None)},
            {"sign": [0, 0.0, -0.0, -1e-320], "whole": [1, 1.0, True, 1e16, 2.0**63]},
            {"version": 1, "key": "a", "collection": "a", "value": {"n": 1}, "created_at": None, "expires_at": "1970-01-01T00:00:00+00:00"},
            {"envelope": {"envelope": {}}, "value": '{"n": 1}'},
            {"a": {"": 1, "\0": 2, "\u2028": 3}, "A": "\ufeff", "b": "\x7f\x80'\"\\"},
            OrderedDict(z=1, a=OrderedDict(z=1, a=2)),
        ],
    ),
    Put(MappingProxyType({"proxy": 1}), {"proxy": 1}),
    Put(UserDict({"user": UserDict({"dict": 2**64})}), {"user": {"dict": 2**64}}),
]

_leaves = st.one_of(
    st.integers(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from([None, True, False, "null", "", 2**63, 2**64, -(2**63) - 1, 10**30]),
)
_json = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
_made_up = st.dictionaries(st.text(max_size=4), _json, max_size=3).map(pass_through_json)
_from_pool = draw_from(POOL)
A_VALUE = st.integers(0, 9).flatmap(lambda dice: _made_up if dice == 9 else _from_pool)

SOME_ITEMS = st.lists(st.tuples(A_KEY, A_VALUE), max_size=6)


# Times to live.

LONG: list[SupportsFloat | None] = [*[None] * 4, 30, 45.5, 60, 90.015625, Decimal("31.5"), Fraction(121, 2), 3600, 10**6, 10**9, 2 * 10**11]
SHORT: list[SupportsFloat | None] = [TICK, 0.5, 1, 10, Fraction(1, 3), 0.1, 0.001, Decimal("0.000001"), 1e-9, 5e-324]
_long = st.one_of(st.sampled_from(LONG), st.sampled_from(LONG), st.floats(30, 1e6))
_any = st.one_of(st.sampled_from(LONG), st.sampled_from(SHORT), st.sampled_from([*LONG, *SHORT]), st.floats(1e-9, 1e6))
A_TTL = st.runner().flatmap(lambda machine: cast("KeyValueMachine", machine).ttls)


# Where a machine runs.

Call = Callable[..., Any]


@dataclass(frozen=True)
class World:
    """Where the stores of one test come from, and how they are called."""

    backend: str
    make: Callable[..., AsyncKeyValue]
    enter: Callable[[AsyncKeyValue], Call]
    before_each: Callable[[], object]
    directory: Path
    set_clock: Callable[[float], object]
    limit: int | None = None


def _of_facade(store: AsyncKeyValue) -> Call:
    facade = BlockingKeyValue(store)
    return lambda method, *args, **kwargs: getattr(facade, method)(*args, **kwargs)


@contextmanager
def enter_runtime(runtime: RuntimeName) -> Generator[Callable[[AsyncKeyValue], Call], None, None]:
    """Yield what makes of a store a function that calls its methods by name on a runtime, from this thread."""
    if runtime == "direct":
        yield _of_facade
    else:
        with start_blocking_portal(runtime) as portal:
            yield lambda store: lambda method, *args, **kwargs: portal.call(partial(getattr(store, method), *args, **kwargs))


can_list = precondition(lambda self: self.lists)


class KeyValueMachine(RuleBasedStateMachine):
    """Makes the same calls on a store and on the model."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self._around = sys.exc_info()[1]
        self.world.before_each()
        self.directory = tempfile.mkdtemp(dir=self.world.directory)
        # With a limit, what matters is which entries are used when: of few names, in one collection.
        self.names: st.SearchStrategy[Names] = _hostile_names if self.world.limit is None else st.just((["a"], ["a", "b", "c", "d"]))
        self.ttls = _long if self.world.backend in EXPIRING_BY_THEMSELVES else _any
        self.model = Model(START, self.world.limit)
        self.world.set_clock(START)
        self.lists = self.world.backend not in backends.UNLISTED
        self.call = self._opened()

    def _opened(self) -> Call:
        options = {} if self.world.limit is None else {"max_entries_per_collection": self.world.limit}
        return self.world.enter(self.world.make(Path(self.directory), **options))

    def teardown(self) -> None:
        try:
            if sys.exc_info()[1] is self._around:  # no step has failed
                self.look_at_everything()
        finally:
            self.call("close")
            shutil.rmtree(self.directory)

    @initialize(names=_few_names)
    def draw_names(self, names: object) -> None:
        """Have the few names drawn before any step that can be left out."""

    # Reading.

    @rule(key=A_KEY, collection=A_COLLECTION)
    def get(self, key: str, collection: str | None) -> None:
        self._compare([self.call("get", key, collection=collection)], [key], collection)

    @rule(keys=SOME_KEYS, collection=A_COLLECTION)
    def get_many(self, keys: Sequence[str], collection: str | None) -> None:
        self._compare(self.call("get_many", keys, collection=collection), keys, collection)

    @rule(key=A_KEY, collection=A_COLLECTION)
    def ttl(self, key: str, collection: str | None) -> None:
        self._compare_pairs([self.call("ttl", key=key, collection=collection)], [key], collection)

    @rule(keys=SOME_KEYS, collection=A_COLLECTION)
    def ttl_many(self, keys: Sequence[str], collection: str | None) -> None:
        self._compare_pairs(self.call("ttl_many", keys=keys, collection=collection), keys, collection)

    def _compare(self, values: Sequence[Any], keys: Sequence[str], collection: str | None) -> None:
        for value, held in zip(values, self.model.read(collection, keys), strict=True):
            assert same(value, None if held is None else held.value)

    def _compare_pairs(self, pairs: Sequence[Any], keys: Sequence[str], collection: str | None) -> None:
        self._compare([value for value, _ in pairs], keys, collection)
        for (_, left), held in zip(pairs, self.model.read(collection, keys), strict=True):
            if held is None or held.earliest is None or held.latest is None:
                assert left is None
            else:
                assert held.earliest - self.model.now <= left <= held.latest - self.model.now

    # Listing.

    @can_list
    @rule(collection=A_COLLECTION, limit=st.sampled_from([None, None, 0, 1, 2, 3, 100]))
    def keys(self, collection: str | None, limit: int | None) -> None:
        listed = self.call("keys", limit=limit) if collection is None else self.call("keys", collection, limit=limit)
        _check_listed(listed, self.model.keys(collection), limit)

    @can_list
    @rule(limit=st.sampled_from([None, None, 0, 1, 2, 100]))
    def collections(self, limit: int | None) -> None:
        _check_listed(self.call("collections", limit=limit), self.model.collections(), limit)

    # Writing.

    def put_one(self, key: str, put: Put, collection: str | None, ttl: SupportsFloat | None) -> None:
        assert self.call("put", key, put.value, collection=collection, ttl=ttl) is None
        self.model.put(collection, [(key, put.expected)], ttl)
        self.world.set_clock(self.model.now)

    def put_several(self, items: Sequence[tuple[str, Put]], collection: str | None, ttl: SupportsFloat | None, in_tuples: bool) -> None:
        shape = tuple if in_tuples else list
        keys, values = shape(key for key, _ in items), shape(put.value for _, put in items)
        assert self.call("put_many", keys, values, collection=collection, ttl=ttl) is None
        self.model.put(collection, [(key, put.expected) for key, put in items], ttl)
        self.world.set_clock(self.model.now)

    # More than once, so that they are chosen more often.
    put = rule(key=A_KEY, put=A_VALUE, collection=A_COLLECTION, ttl=A_TTL)(put_one)
    put_again = rule(key=A_KEY, put=A_VALUE, collection=A_COLLECTION, ttl=A_TTL)(put_one)
    put_many = rule(items=SOME_ITEMS, collection=A_COLLECTION, ttl=A_TTL, in_tuples=st.booleans())(put_several)
    put_many_again = rule(items=SOME_ITEMS, collection=A_COLLECTION, ttl=A_TTL, in_tuples=st.booleans())(put_several)
    put_even_more = rule(items=SOME_ITEMS, collection=A_COLLECTION, ttl=A_TTL, in_tuples=st.booleans())(put_several)

    @rule(key=A_KEY, collection=A_COLLECTION)
    def delete(self, key: str, collection: str | None) -> None:
        assert self.call("delete", key, collection=collection) is (self.model.delete(collection, [key]) == 1)

    @rule(keys=SOME_KEYS, collection=A_COLLECTION)
    def delete_many(self, keys: Sequence[str], collection: str | None) -> None:
        assert self.call("delete_many", keys, collection=collection) == self.model.delete(collection, keys)

    @rule(bad=st.sampled_from(["", "\ud800", 1, b"a"]), key=A_KEY, collection=A_COLLECTION, whole=st.booleans())
    def refuse(self, bad: Any, key: str, collection: str | None, whole: bool) -> None:
        """Make each call with a bad key beside a good one, or with a bad collection."""
        one, several, options = (key, [key], {"collection": bad}) if whole else (bad, [key, bad], {"collection": collection})
        calls = [("get", one), ("ttl", one), ("delete", one), ("get_many", several), ("ttl_many", several), ("delete_many", several)]
        for method, *args in [*calls, ("put", one, {}), ("put_many", several, [{} for _ in several])]:
            with pytest.raises((InvalidKeyError, TypeError)):
                self.call(method, *args, **options)

    # The store as a whole.

    # What leaves little to look at happens less often than chosen.

    @can_list
    @rule(dice=st.integers(0, 3), collection=A_COLLECTION)
    def destroy_collection(self, dice: int, collection: str | None) -> None:
        if dice:
            return
        name = DEFAULT_COLLECTION if collection is None else collection
        assert self.call("destroy_collection", name) is self.model.destroy_collection(name)

    @can_list
    @rule(dice=st.integers(0, 3))
    def destroy(self, dice: int) -> None:
        if dice == 0:
            assert self.call("destroy") is True
            self.model.clear()
            assert self.call("collections") == []

    @can_list
    @rule()
    def cull(self) -> None:
        assert self.call("cull") is None

    @rule(dice=st.integers(0, 11), setup=st.booleans())
    def reopen(self, dice: int, setup: bool) -> None:
        persistent = self.world.backend in backends.PERSISTENT
        if dice > (2 if persistent else 0):
            return
        self.call("close")
        if not persistent:
            self.model.clear()
        self.call = self._opened()
        if setup:
            self.call("setup")

    # The clock.

    @rule(seconds=st.sampled_from([TICK, 0.5, 1, 10, 29.984375, 30, 45.5, 3600, 10**6, 10**7]))
    def advance(self, seconds: float) -> None:
        self.model.advance(seconds)
        self.world.set_clock(self.model.now)

    @precondition(lambda self: self.model.next_deadline(1e8) is not None)
    @rule(short_of=st.sampled_from([0, 0, TICK]))
    def advance_to_next_deadline(self, short_of: float) -> None:
        deadline = self.model.next_deadline(1e8)
        assert deadline is not None
        self.model.advance(deadline - short_of - self.model.now)
        self.world.set_clock(self.model.now)

    def look_at_everything(self) -> None:
        names = self.model.collections()
        if self.lists:
            _check_listed(self.call("collections"), names, None)
        for name in names:
            here = self.model.keys(name)
            if self.lists:
                _check_listed(self.call("keys", name), here, None)
            self.ttl_many(sorted(here), name)


def _check_listed(listed: Any, expected: set[str], limit: int | None) -> None:
    assert len(listed) == len(set(listed)) == (len(expected) if limit is None else min(limit, len(expected)))
    assert expected.issuperset(listed)


def check(world: World, examples: int | None = None) -> None:
    usual, steps = SERVER if world.backend in SERVERS else EMBEDDED
    how = settings(
        max_examples=examples or usual,
        stateful_step_count=steps,
        deadline=None,
        derandomize=False,
        print_blob=True,
        phases=tuple(phase for phase in Phase if phase is not Phase.explain),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(type("Machine", (KeyValueMachine,), {"world": world}), settings=how)


@pytest.fixture
def world_on(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Callable[[RuntimeName], World], None, None]:
    moment = START

    def set_clock(now: float) -> None:
        nonlocal moment
        moment = now

    def make(where: Path, **options: Any) -> AsyncKeyValue:
        store = backends.MAKERS[backend](where, url, **options)
        for module in [listing, *(module for name, module in sys.modules.items() if name.startswith("keyvalue.stores."))]:
            for limit, size in PAGES.items():
                if limit in vars(module):  # of its own, not by another name of the module
                    monkeypatch.setattr(module, limit, size)
        return store

    def world(runtime: RuntimeName) -> World:
        if runtime == "asyncio" and runtimes.NOTICES_BLOCKING:
            stack.enter_context(runtimes.no_blocking())
        return World(backend, make, stack.enter_context(enter_runtime(runtime)), before_each, tmp_path, set_clock)

    url, before_each = "", lambda: None
    if backend in SERVERS:
        url = request.getfixturevalue("server_urls")(backend)
        before_each = partial(SERVERS[backend].empty, url)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(clock_module, "now", lambda: moment)
        yield world


def test_any_calls_in_any_order(world_on: Callable[[RuntimeName], World]) -> None:
    check(world_on("direct"))


def test_some_calls_on_an_event_loop(world_on: Callable[[RuntimeName], World]) -> None:
    check(world_on("asyncio"), FEW)


@pytest.mark.backends("disk", "redis")
def test_some_calls_on_trio(world_on: Callable[[RuntimeName], World]) -> None:
    check(world_on("trio"), FEW)


@pytest.mark.backends("memory")
def test_any_calls_on_a_store_with_a_limit(world_on: Callable[[RuntimeName], World]) -> None:
    check(replace(world_on("direct"), limit=2))
