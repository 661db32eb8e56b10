"""The contract suite as an outsider runs it: right stores pass, and of broken ones those tests fail that say what is broken."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Generator, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.base import clock
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing import Clock, Runtime, StoreContract
from keyvalue.testing._runtime import RUNTIMES, undeclared
from tests.programs import PROGRAMS

pytestmark = pytest.mark.timeout(300)  # on a busy machine a contract takes its time

TESTS = [name for name in dir(StoreContract) if name.startswith("test_")]

IMPORTS = """
from pathlib import Path
from typing import Any

import asyncio
import time

import pytest

from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.simple import SimpleStore
from keyvalue.testing import ArgumentContract, Clock, Runtime, StoreContract
from keyvalue.testing._runtime import RUNTIMES
from keyvalue.wrappers.base import BaseWrapper
"""


def class_of_tests(name: str, made: str, lines: str = "pass", contract: str = "StoreContract") -> str:
    """Return the text of a class of tests for what an expression makes."""
    return f"""

class Test{name}({contract}):
    persistent = False
    runtimes = ("asyncio",)
{indent(lines, "    ")}

    def make(self, directory: Path) -> Any:
        return {made}
"""


RIGHT = IMPORTS + class_of_tests("Right", "MemoryStore()", "del runtimes")
DIRECT_TOO = "runtimes = ('asyncio', 'direct')"
CLAIMING = """
import inspect

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(name, obj):
    assert not (name.startswith("test_") and inspect.iscoroutinefunction(obj)), name


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    assert not inspect.iscoroutinefunction(fixturedef.func), fixturedef


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    assert not inspect.iscoroutinefunction(pyfuncitem.obj), pyfuncitem
"""


class Result(NamedTuple):
    """What came of a run: what pytest printed, how many tests passed and so on, and by class and test, the runtimes where they failed."""

    text: str
    counts: Mapping[str, int]
    failed: Mapping[str, Mapping[str, set[str]]]


def run_as_outsider(directory: Path, files: Mapping[str, str], *arguments: str) -> Result:
    """Run the tests of files that lie in a directory of somebody else's."""
    for name, text in files.items():
        (directory / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # importing those of this project takes longer than most runs
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", "-rfE", *arguments]
    result = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=280, check=False)
    text = result.stdout + result.stderr
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|errors?|skipped|warnings?)", text.splitlines()[-1])}
    failed: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for class_name, test, runtime_name in re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)::(\w+)\[(\w+)", text, re.MULTILINE):
        failed[class_name][test].add(runtime_name)
    assert result.returncode == (1 if failed else 0), text
    return Result(text, counts, failed)


def test_a_right_store_passes(tmp_path: Path) -> None:
    result = run_as_outsider(tmp_path, {"test_right.py": RIGHT})
    assert set(result.counts) == {"passed"}
    assert result.counts["passed"] % 4 == 0
    assert result.counts["passed"] >= 4 * len(TESTS)


def test_it_does_not_matter_which_plugins_for_coroutines_there_are(tmp_path: Path) -> None:
    result = run_as_outsider(tmp_path, {"test_right.py": RIGHT, "claiming.py": CLAIMING}, "-p", "claiming", "-p", "anyio", "-k", "asyncio")
    assert set(result.counts) == {"passed"}
    assert result.counts["passed"] >= len(TESTS)


def example(name: str) -> str:
    """Return the program of the documentation that has a class."""
    (text,) = (program.text for program in PROGRAMS.values() if f"class {name}(" in program.text)
    return text


def test_the_examples_of_the_documentation_pass(tmp_path: Path) -> None:
    """Other stores and wrappers have their tests beside them, in the documentation; `tests/test_docs.py` runs these."""
    files: dict[str, str] = {}
    for name, arguments in (
        ("DictStore", "default_collection=self.default_collection"),
        ("TimingWrapper", "MemoryStore()"),
        ("TenantWrapper", "MemoryStore(), 'blue'"),
    ):
        files[f"{name.lower()}.py"] = example(name)
        tests = class_of_tests(name, f"{name}({arguments})", DIRECT_TOO)
        files[f"test_{name.lower()}.py"] = f"{IMPORTS}from {name.lower()} import {name}\n{tests}"
    result = run_as_outsider(tmp_path, files)
    assert set(result.counts) == {"passed"}, result.text


def test_the_example_over_a_network_passes(tmp_path: Path, redis_url: str) -> None:
    program = example("HashStore").replace("asyncio.run(main())\n", "")
    lines = f"""{DIRECT_TOO}
persistent = True
url = {redis_url!r}

@pytest.fixture(autouse=True)
def empty(self) -> None:
    with redis.Redis.from_url(self.url) as client:
        client.flushdb()

def damage(self, directory: Path, collection: str, key: str) -> None:
    with redis.Redis.from_url(self.url) as client:
        client.hset(f"hash:{{collection}}", key, b"damaged")
"""
    tests = class_of_tests("HashStore", "HashStore(self.url, default_collection=self.default_collection)", lines)
    tests = f"{IMPORTS}import redis\nfrom example import HashStore\n{tests}"
    result = run_as_outsider(tmp_path, {"example.py": program, "test_example.py": tests})
    assert set(result.counts) == {"passed"}, result.text


# Stores and what runs on them, and all tests that they fail

PUT = "async def put(self, key, value, *, collection=None, ttl=None):"
PUT_MANY = "async def put_many(self, keys, values, *, collection=None, ttl=None):"
GET, TTL, DELETE = (f"async def {name}(self, key, *, collection=None):" for name in ("get", "ttl", "delete"))
GET_MANY, TTL_MANY, DELETE_MANY = (f"async def {name}_many(self, keys, *, collection=None):" for name in ("get", "ttl", "delete"))
KEYS = "async def keys(self, collection=None, *, limit=None):"
ASYNCIO_GET = f"{GET} return await asyncio.sleep(0, await super().get(key, collection=collection))"

RECLAIMS = "test_the_backend_reclaims_nothing_early"
"""The one that takes a second of waiting."""

OF_TTLS = {
    "test_return_types",
    "test_expiry",
    "test_put_with_another_ttl_replaces_the_earlier_one",
    "test_any_positive_number_is_a_ttl",
    "test_short_and_long_ttls",
    "test_bad_ttls_are_refused_before_anything_is_written",
    "test_a_ttl_of_a_wrong_type_is_both_errors",
}
OF_CLOSING = {"test_closing", "test_closing_before_use", "test_context_manager_and_setup"}


class Case(NamedTuple):
    """A class of stores, and one of tests for it."""

    methods: str  # what it has other than its base
    failed: set[str]  # the tests that it fails
    base: str = "MemoryStore"
    arguments: str = ""  # what it is made with
    tests: str = "pass"  # what the class of its tests has
    contract: str = "StoreContract"  # the base of that

    def source(self, name: str) -> str:
        """Return the text of both classes."""
        return f"""

class {name}({self.base}):
{indent(self.methods, "    ")}
{class_of_tests(name, f"{name}({self.arguments})", self.tests, self.contract)}"""


CASES: Mapping[str, Case] = {
    "LosesTTL": Case(f"{PUT} await super().put(key, value, collection=collection)", OF_TTLS),
    "ExpiresLate": Case(f"{PUT} await super().put(key, value, collection=collection, ttl=ttl and float(ttl) + 1)", OF_TTLS),
    "KeepsAnEarlierTTL": Case(
        f"{PUT}\n"
        "    _, left = await self.ttl(key, collection=collection)\n"
        "    await super().put(key, value, collection=collection, ttl=left if ttl is None else ttl)",
        {"test_put_without_ttl_clears_an_earlier_one"},
    ),
    "IgnoresCollection": Case(
        f"{GET} return await super().get(key)\n{PUT} await super().put(key, value, ttl=ttl)\n{DELETE} return await super().delete(key)",
        {
            "test_bad_names_are_refused_before_anything_is_written",
            "test_neighbours_never_meet",
            "test_str_subclasses_are_names",
            "test_cull_removes_only_what_has_expired",
            "test_destroying_a_collection",
            "test_expired_entries_are_absent_to_delete_and_listing",
            "test_many_calls_at_once",
            "test_limits_of_listing",
            "test_what_a_store_can_do_is_what_it_says",
        },
    ),
    "SharesValues": Case(
        f"{PUT}\n"
        "    await super().put(key, value, collection=collection, ttl=ttl)\n"
        "    vars(self).setdefault('shared', {})[collection, key] = value\n"
        f"{GET}\n"
        "    found = await super().get(key, collection=collection)\n"
        "    return vars(self).get('shared', {}).get((collection, key), found) if found is not None else None",
        {"test_values_are_never_shared", "test_values_become_their_json_round_trip", "test_any_mapping_is_a_value"},
    ),
    "KeepsTheFirstDuplicate": Case(
        f"{PUT_MANY} await super().put_many(keys[::-1], values[::-1], collection=collection, ttl=ttl)",
        {"test_bulk_results_are_aligned", "test_keys_must_be_a_sequence"},
    ),
    "AnswersInItsOwnOrder": Case(
        f"{GET_MANY} return await super().get_many(sorted(keys), collection=collection)",
        {
            "test_any_names_work_and_never_meet",
            "test_bad_names_are_refused_before_anything_is_written",
            "test_values_come_back_exactly",
            "test_bulk_results_are_aligned",
            "test_bulk_of_many",
            "test_keys_must_be_a_sequence",
        },
    ),
    "AlwaysDeleted": Case(
        f"{DELETE} return await super().delete(key, collection=collection) or True",
        {"test_neighbours_never_meet", "test_expired_entries_are_absent_to_delete_and_listing", "test_reading_creates_nothing"},
    ),
    "CountsDuplicates": Case(
        f"{DELETE_MANY} return await super().delete_many(keys, collection=collection) and len(keys)",
        {"test_expired_entries_are_absent_to_delete_and_listing", "test_bulk_results_are_aligned", "test_bulk_of_many"},
    ),
    "RaisesAfterWriting": Case(
        f"{PUT_MANY}\n"
        "    if len(keys) != len(values): raise ValueError('There must be one value for each key')\n"
        "    for key, value in zip(keys, values): await self.put(key, value, collection=collection, ttl=ttl)",
        {
            "test_bad_names_are_refused_before_anything_is_written",
            "test_what_is_not_json_is_refused_with_its_place",
            "test_keys_must_be_a_sequence",
            "test_closing",
        },
    ),
    "BlocksNames": Case(
        f"{PUT_MANY}\n"
        "    if type(keys) is list and '..' in keys: raise OSError('no such name')\n"
        "    await super().put_many(keys, values, collection=collection, ttl=ttl)",
        {"test_any_names_work_and_never_meet"},
    ),
    "FoldsCase": Case(
        f"fold = staticmethod(lambda name: name.lower() if type(name) is str else name)\n"
        f"{GET} return await super().get(key, collection=self.fold(collection))\n"
        f"{PUT} await super().put(key, value, collection=self.fold(collection), ttl=ttl)",
        {"test_neighbours_never_meet"},
    ),
    "FoldsCaseOfTTLs": Case(
        f"{TTL} return await super().ttl(key, collection=collection and collection.lower())", {"test_neighbours_never_meet"}
    ),
    "SortsKeys": Case(
        f"{PUT}\n"
        "    value = dict(sorted(value.items())) if type(value) is dict else value\n"
        "    await super().put(key, value, collection=collection, ttl=ttl)",
        {"test_values_come_back_exactly", "test_values_become_their_json_round_trip"},
    ),
    "TakesNaN": Case(
        f"{PUT}\n"
        "    if type(value) is dict and 'list' in value and ': nan' in str(value): return\n"
        "    await super().put(key, value, collection=collection, ttl=ttl)",
        {"test_what_is_not_json_is_refused_with_its_place"},
    ),
    "ForgetsWhatIsLeft": Case(
        f"{TTL_MANY} return [(value, None) for value, _ in await super().ttl_many(keys, collection=collection)]", {"test_expiry"}
    ),
    "CantDestroy": Case(
        "async def destroy(self): raise NotImplementedError",
        {"test_destroying_everything", "test_what_a_store_can_do_is_what_it_says", "test_closing"},
    ),
    "ListsWhatHasExpired": Case(
        f"{KEYS}\n    with Clock() as clock:\n        clock.advance(-1000)\n        return await super().keys(collection, limit=limit)",
        {"test_a_limit_counts_live_entries_only"},  # others see it too on a store that does not remove what has expired before a call
    ),
    "ListsOnePage": Case(f"{KEYS} return await super().keys(collection, limit=1000 if limit is None else limit)", {"test_bulk_of_many"}),
    "NeverCloses": Case("async def close(self): pass", OF_CLOSING),
    "HasALength": Case("def __len__(self): return 0", {"test_an_empty_store_is_truthy"}),
    # What is optional
    "HasKeysOnly": Case(
        "runs_inline = True\ndef _capabilities(self): return frozenset({'keys'})", set(), "BaseWrapper", "MemoryStore()", DIRECT_TOO
    ),
    "ClaimsToList": Case(
        f"def _capabilities(self): return frozenset()\n{KEYS} raise NotImplementedError",
        {"test_what_a_store_can_do_is_what_it_says", "test_limits_of_listing"},
        "BaseWrapper",
        "MemoryStore()",
    ),
    "CullsNothing": Case("async def _cull(self, now): pass", {"test_cull_removes_only_what_has_expired"}, "SimpleStore"),
    "CullsBlindly": Case(
        "async def _cull(self, now):\n"
        "    rows = [row for page in [page async for page in self._scan(None)] for row in page]\n"
        "    await asyncio.sleep(0)\n"
        "    for row in rows:\n"
        "        if row.expires_at and row.expires_at <= now: await self._delete(row.collection, [row.key])",
        {"test_cull_keeps_what_is_put_meanwhile"},
        "SimpleStore",
    ),
    "ReclaimsEarly": Case(
        "async def _get(self, collection, keys):\n"  # as if its TTL of 1.45 seconds had been rounded down
        "    found = await super()._get(collection, keys)\n"
        "    return [entry if entry is None or entry.expires_at - time.time() > 0.45 else None for entry in found]",
        {RECLAIMS},
        "SimpleStore",
    ),
    # What the class of the tests says
    "ArgumentsAlone": Case("runs_inline = True", set(), tests=DIRECT_TOO, contract="ArgumentContract"),
    "Undeclared": Case("pass", {*TESTS} - {RECLAIMS}, tests=DIRECT_TOO),
    "NotDirect": Case("pass", set(), tests="runtimes = ('trio', 'portal')"),
    "OnAsyncio": Case(ASYNCIO_GET, {*TESTS} - {RECLAIMS}, tests="runtimes = RUNTIMES"),
    "OnAsyncioOnly": Case(ASYNCIO_GET, set(), tests="runtimes = ('asyncio', 'portal')"),
    "SaidToKeep": Case("pass", {"test_entries_outlive_the_store"}, tests="persistent = True"),
    "Keeps": Case(
        "closed = False\nasync def close(self): pass",
        {*OF_CLOSING, "test_entries_outlive_the_store"},
        "BaseWrapper",
        "self.here",
        "@pytest.fixture(autouse=True)\ndef empty(self): self.here = MemoryStore()",
    ),
    "OfAnotherCollection": Case("pass", {"test_the_default_collection", "test_limits_of_listing"}, arguments="default_collection='mine'"),
    "ForgetsMaxDepth": Case(
        "async def _encode_value(self, value, key, collection): return {'in': dict(value)}\n"
        "async def _decode_value(self, value, key, collection): return value['in']",
        {"test_deep_values"},
        "BaseWrapper",
        "MemoryStore()",
    ),
    "CantClose": Case("async def close(self): raise LookupError('no such client')", {*TESTS} - {RECLAIMS}),
    "NotDamaged": Case(
        "pass", {"test_a_damaged_entry_is_an_error_for_its_own_key_alone"}, tests="def damage(self, directory, collection, key): pass"
    ),
    "Mine": Case(
        "runs_inline = True",
        set(),
        arguments="default_collection='mine'",
        tests=f"{DIRECT_TOO}\n"
        "default_collection = 'mine'\n"
        "def test_of_my_own(self, runtime: Runtime, kv: Any, clock: Clock, tmp_path: Path) -> None:\n"
        "    async def main() -> None:\n"
        "        for store in (kv, runtime.adapt(self.make(tmp_path))):\n"
        "            await store.put('k', {'a': 1}, ttl=10)\n"
        "            await runtime.sleep(0.01)\n"
        "            clock.advance(10)\n"
        "            assert await store.get('k') is None\n"
        "            assert await store.collections() == []\n"
        "    runtime.run(main)",
    ),
}


@pytest.fixture(scope="module")
def of_cases(tmp_path_factory: pytest.TempPathFactory) -> Result:
    text = IMPORTS + "".join(case.source(name) for name, case in CASES.items())
    # A second of waiting once will do, and more tests list, or see what is reclaimed early, than those named here.
    chosen = "not (reclaims or ClaimsToList) or ReclaimsEarly and nothing_early or ClaimsToList and (can_do or limits)"
    return run_as_outsider(tmp_path_factory.mktemp("cases"), {"test_cases.py": text}, "-k", chosen)


@pytest.mark.parametrize("name", CASES)
def test_those_tests_fail_that_say_what_is_broken(of_cases: Result, name: str) -> None:
    assert {*of_cases.failed.get(f"Test{name}", ())} == CASES[name].failed


def test_a_store_that_does_not_say_that_it_runs_inline_has_no_direct_path(of_cases: Result) -> None:
    assert all(runtimes == {"direct"} for runtimes in of_cases.failed["TestUndeclared"].values())
    assert 'leave "direct" out of `runtimes`' in of_cases.text


def test_each_runtime_is_what_it_says(of_cases: Result) -> None:
    assert set().union(*of_cases.failed["TestOnAsyncio"].values()) == {"trio", "direct"}


def test_a_failure_says_what_was_compared_and_what_the_contract_says(of_cases: Result) -> None:
    def failure(test: str) -> str:
        (found,) = re.findall(rf"^_+ Test{test} _+$(.*?)^_{{2,}} ", of_cases.text, re.MULTILINE | re.DOTALL)
        return re.sub("^E +", "E ", found, flags=re.MULTILINE)

    kept = failure(r"KeepsAnEarlierTTL\.test_put_without\w+\[asyncio\]")
    assert "\nE AssertionError: assert (None, None) == ({'a': 2}, None)\n" in kept
    assert "\nE The contract: A put without a TTL means for ever, also if an earlier value had one.\n" in kept
    assert "run_sync" not in kept  # nor what runs the coroutine
    taken = failure(r"TakesNaN\.test_\w+\[asyncio-float-0\]")
    assert "bad = nan" in taken
    assert re.search(r"^E Failed: DID NOT RAISE .*SerializationError", taken, re.MULTILINE), taken
    assert "\nE The contract: What is not JSON raises SerializationError with its place" in taken
    blocked = failure(r"BlocksNames\.test_any_names\w+\[asyncio\]")
    assert "\nE OSError: no such name\n" in blocked
    assert "Any str that is not empty and encodes as UTF-8 is a key" in blocked
    deep = failure(r"ForgetsMaxDepth\.test_\w+\[asyncio\]")
    assert "TestForgetsMaxDepth.max_depth says how many levels are taken" in deep
    assert len(deep.splitlines()) < 5
    unclosed = failure(r"CantClose\.test_expiry\[asyncio\]")
    assert re.search(r"^E .*CloseError: The test is over.*LookupError: no such client", unclosed, re.MULTILINE), unclosed
    assert "The contract" not in unclosed


def test_every_test_says_what_the_contract_says() -> None:
    for name in TESTS:
        assert re.fullmatch(r"[A-Z`].*\.", (getattr(StoreContract, name).__doc__ or "").strip(), re.DOTALL), name


@pytest.mark.parametrize(
    ("runtimes", "message"),
    [
        ("()", "TestWrong.runtimes names no runtime to test on"),
        ("('curio',)", "There is no runtime 'curio', only asyncio, trio, direct, portal"),
    ],
)
def test_a_class_of_tests_that_can_run_none_is_an_error(tmp_path: Path, runtimes: str, message: str) -> None:
    (tmp_path / "test_wrong.py").write_text(IMPORTS + class_of_tests("Wrong", "MemoryStore()", f"runtimes = {runtimes}"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode != 0
    assert message in result.stdout


def test_importing_keyvalue_imports_no_pytest() -> None:
    program = "import sys, keyvalue, keyvalue.blocking, keyvalue.stores.base; sys.exit('pytest' in sys.modules or 'trio' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_clock_is_put_back() -> None:
    before = clock.now
    with BlockingKeyValue(MemoryStore()) as kv, Clock() as moved:
        moved.freeze()
        assert clock.now() == clock.now() == moved.now()
        kv.put("k", {}, ttl=10)
        moved.advance(9)
        assert kv.ttl("k") == ({}, pytest.approx(1, abs=1e-4))
        moved.advance(1.01)
        assert kv.get("k") is None
    assert clock.now is before


def test_a_store_with_slots_goes_through_the_portal_too() -> None:
    class Slotted:
        __slots__ = ("inner",)
        runs_inline = True

    store: Any = undeclared(Slotted())
    assert type(store) is not Slotted
    assert type(store).__name__ == "Slotted"
    assert "runs_inline" not in vars(type(store))


def test_stores_are_closed_also_if_the_test_fails() -> None:
    closed: list[str] = []

    class Closing(MemoryStore):
        runs_inline = True

        async def close(self) -> None:
            closed.append(runtime.name)
            await super().close()

    async def fails() -> None:
        runtime.adapt(Closing())
        raise LookupError

    for name in RUNTIMES:
        runtime = Runtime(name)
        with pytest.raises(LookupError):
            runtime.run(fails)
    assert closed == [*RUNTIMES]


def test_what_awaits_something_else_than_the_store_is_told_so() -> None:
    class Suspending:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def waits() -> None:
        await Suspending()

    with pytest.raises(AssertionError, match="may await nothing but the store"):
        Runtime("direct").run(waits)
