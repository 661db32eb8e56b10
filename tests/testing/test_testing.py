"""The contract suite as an outsider runs it: right stores pass, and of broken ones those tests fail that say what is broken."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from keyvalue.blocking import BlockingKeyValue
from keyvalue.stores.base import clock
from keyvalue.stores.memory import MemoryStore
from keyvalue.testing import Clock, Runtime, StoreContract
from keyvalue.testing._runtime import undeclared

pytestmark = pytest.mark.timeout(300)  # on a busy machine a contract takes its time

DOCS = Path(__file__).parents[2] / "docs"
TESTS = [name for name in dir(StoreContract) if name.startswith("test_")]

IMPORTS = """
from pathlib import Path
from typing import Any

import pytest

from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.simple import SimpleStore
from keyvalue.testing import ArgumentContract, Clock, Runtime, StoreContract
from keyvalue.wrappers.base import BaseWrapper
"""
RIGHT = f"""{IMPORTS}
class TestRight(StoreContract):
    persistent = False

    def make(self, directory: Path) -> MemoryStore:
        return MemoryStore()
"""
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
    """What came of a run.

    Attributes:
        text: What pytest printed.
        counts: How many tests passed, failed and so on.
        failed: The tests that failed, without their parameters, by class.
    """

    text: str
    counts: Mapping[str, int]
    failed: Mapping[str, set[str]]


def outsider(directory: Path, files: Mapping[str, str], *arguments: str) -> Result:
    """Run the tests of files that lie in a directory of somebody else's."""
    for name, text in files.items():
        (directory / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # importing those of this project takes longer than most runs
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", "-rfE", *arguments]
    result = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=280, check=False)
    text = result.stdout + result.stderr
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|errors?|skipped|warnings?)", text.splitlines()[-1])}
    failed: dict[str, set[str]] = defaultdict(set)
    for class_name, test in re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)::(\w+)", text, re.MULTILINE):
        failed[class_name].add(test)
    assert result.returncode == (1 if failed else 0), text
    return Result(text, counts, failed)


def test_a_right_store_passes(tmp_path: Path) -> None:
    result = outsider(tmp_path, {"test_right.py": RIGHT})
    assert set(result.counts) == {"passed"}
    assert result.counts["passed"] % 4 == 0
    assert result.counts["passed"] >= 4 * len(TESTS)


@pytest.mark.parametrize("plugins", [["-p", "claiming", "-p", "anyio"], []], ids=["claiming", "none"])
def test_it_does_not_matter_which_plugins_for_coroutines_there_are(tmp_path: Path, plugins: list[str]) -> None:
    result = outsider(tmp_path, {"test_right.py": RIGHT, "claiming.py": CLAIMING}, *plugins, "-k", "asyncio")
    assert set(result.counts) == {"passed"}
    assert result.counts["passed"] >= len(TESTS)


def example(page: str, name: str) -> str:
    """Return the program of a page that has a class."""
    (text,) = (
        text
        for text in re.findall(r"^```python[^\n]*\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
        if f"class {name}(" in text
    )
    return text


def test_the_examples_of_the_documentation_pass(tmp_path: Path) -> None:
    """`TableStore` and `ChecksumWrapper` have their tests beside them, in the documentation; `tests/test_docs.py` runs these."""
    files: dict[str, str] = {}
    for page, name, make in (
        ("write-a-store.md", "DictStore", "DictStore(default_collection=self.default_collection)"),
        ("write-a-store.md", "ListedStore", "ListedStore()"),
        ("write-a-wrapper.md", "TimingWrapper", "TimingWrapper(MemoryStore())"),
        ("write-a-wrapper.md", "TenantWrapper", "TenantWrapper(MemoryStore(), 'blue')"),
    ):
        files[f"{name.lower()}.py"] = example(page, name)
        files[f"test_{name.lower()}.py"] = f"""{IMPORTS}
from {name.lower()} import {name}


class Test{name}(StoreContract):
    persistent = False
    runtimes = ("asyncio", "direct")

    def make(self, directory: Path) -> {name}:
        return {make}
"""
    result = outsider(tmp_path, files)
    assert set(result.counts) == {"passed"}, result.text


def test_the_example_over_a_network_passes(tmp_path: Path, redis_url: str) -> None:
    program = example("write-a-store.md", "HashStore").replace("asyncio.run(main())\n", "")
    tests = f"""{IMPORTS}
import redis
from example import HashStore

URL = {redis_url!r}


class TestHashStore(StoreContract):
    runtimes = ("asyncio", "direct")

    @pytest.fixture(autouse=True)
    def empty(self) -> None:
        with redis.Redis.from_url(URL) as client:
            client.flushdb()

    def make(self, directory: Path) -> HashStore:
        return HashStore(URL, default_collection=self.default_collection)

    def damage(self, directory: Path, collection: str, key: str) -> None:
        with redis.Redis.from_url(URL) as client:
            client.hset(f"hash:{{collection}}", key, b"damaged")
"""
    result = outsider(tmp_path, {"example.py": program, "test_example.py": tests})
    assert set(result.counts) == {"passed"}, result.text


# Broken stores, and all tests that they fail. Each is as `MemoryStore` but for what its methods do.

OF_TTLS = {
    "test_return_types",
    "test_expiry",
    "test_put_with_another_ttl_replaces_the_earlier_one",
    "test_any_positive_number_is_a_ttl",
    "test_short_and_long_ttls",
    "test_bad_ttls_are_refused_before_anything_is_written",
    "test_a_ttl_of_a_wrong_type_is_both_errors",
}

BROKEN: Mapping[str, tuple[str, set[str]]] = {
    "LosesTTL": (
        "async def put(self, key, value, *, collection=None, ttl=None):\n    await super().put(key, value, collection=collection)\n",
        OF_TTLS,
    ),
    "KeepsAnEarlierTTL": (
        (
            "async def put(self, key, value, *, collection=None, ttl=None):\n"
            "    _, left = await self.ttl(key, collection=collection)\n"
            "    await super().put(key, value, collection=collection, ttl=left if ttl is None else ttl)\n"
        ),
        {"test_put_without_ttl_clears_an_earlier_one"},
    ),
    "ExpiresLate": (
        (
            "async def put(self, key, value, *, collection=None, ttl=None):\n"
            "    await super().put(key, value, collection=collection, ttl=ttl and float(ttl) + 1)\n"
        ),
        OF_TTLS,
    ),
    "IgnoresCollection": (
        (
            "async def get(self, key, *, collection=None):\n"
            "    return await super().get(key)\n"
            "async def put(self, key, value, *, collection=None, ttl=None):\n"
            "    await super().put(key, value, ttl=ttl)\n"
            "async def delete(self, key, *, collection=None):\n"
            "    return await super().delete(key)\n"
        ),
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
    "SharesValues": (
        (
            "async def put(self, key, value, *, collection=None, ttl=None):\n"
            "    await super().put(key, value, collection=collection, ttl=ttl)\n"
            "    vars(self).setdefault('shared', {})[collection, key] = value\n"
            "async def get(self, key, *, collection=None):\n"
            "    found = await super().get(key, collection=collection)\n"
            "    return vars(self).get('shared', {}).get((collection, key), found) if found is not None else None\n"
        ),
        {"test_values_are_never_shared", "test_values_become_their_json_round_trip", "test_any_mapping_is_a_value"},
    ),
    "KeepsTheFirstDuplicate": (
        (
            "async def put_many(self, keys, values, *, collection=None, ttl=None):\n"
            "    await super().put_many(keys[::-1], values[::-1], collection=collection, ttl=ttl)\n"
        ),
        {"test_bulk_results_are_aligned", "test_keys_must_be_a_sequence"},
    ),
    "AnswersInItsOwnOrder": (
        "async def get_many(self, keys, *, collection=None):\n    return await super().get_many(sorted(keys), collection=collection)\n",
        {
            "test_any_names_work_and_never_meet",
            "test_bad_names_are_refused_before_anything_is_written",
            "test_values_come_back_exactly",
            "test_bulk_results_are_aligned",
            "test_bulk_of_many",
            "test_keys_must_be_a_sequence",
        },
    ),
    "AlwaysDeleted": (
        "async def delete(self, key, *, collection=None):\n    await super().delete(key, collection=collection)\n    return True\n",
        {"test_neighbours_never_meet", "test_expired_entries_are_absent_to_delete_and_listing", "test_reading_creates_nothing"},
    ),
    "CountsDuplicates": (
        (
            "async def delete_many(self, keys, *, collection=None):\n"
            "    return await super().delete_many(keys, collection=collection) and len(keys)\n"
        ),
        {"test_expired_entries_are_absent_to_delete_and_listing", "test_bulk_results_are_aligned", "test_bulk_of_many"},
    ),
    "RaisesAfterWriting": (
        (
            "async def put_many(self, keys, values, *, collection=None, ttl=None):\n"
            "    if len(keys) != len(values): raise ValueError('There must be one value for each key')\n"
            "    for key, value in zip(keys, values):\n"
            "        await self.put(key, value, collection=collection, ttl=ttl)\n"
        ),
        {
            "test_bad_names_are_refused_before_anything_is_written",
            "test_what_is_not_json_is_refused_with_its_place",
            "test_keys_must_be_a_sequence",
            "test_closing",
        },
    ),
    "BlocksNames": (
        (
            "async def put_many(self, keys, values, *, collection=None, ttl=None):\n"
            "    if type(keys) is list and '..' in keys: raise OSError('no such name')\n"
            "    await super().put_many(keys, values, collection=collection, ttl=ttl)\n"
        ),
        {"test_any_names_work_and_never_meet"},
    ),
    "FoldsCase": (
        (
            "async def get(self, key, *, collection=None):\n"
            "    return await super().get(key, collection=collection.lower() if type(collection) is str else collection)\n"
            "async def put(self, key, value, *, collection=None, ttl=None):\n"
            "    await super().put(key, value, collection=collection.lower() if type(collection) is str else collection, ttl=ttl)\n"
        ),
        {"test_neighbours_never_meet"},
    ),
    "SortsKeys": (
        (
            "async def put(self, key, value, *, collection=None, ttl=None):\n"
            "    value = dict(sorted(value.items())) if type(value) is dict else value\n"
            "    await super().put(key, value, collection=collection, ttl=ttl)\n"
        ),
        {"test_values_come_back_exactly", "test_values_become_their_json_round_trip"},
    ),
    "TakesNaN": (
        (
            "async def put(self, key, value, *, collection=None, ttl=None):\n"
            "    if type(value) is dict and 'list' in value and ': nan' in str(value): return\n"
            "    await super().put(key, value, collection=collection, ttl=ttl)\n"
        ),
        {"test_what_is_not_json_is_refused_with_its_place"},
    ),
    "ForgetsWhatIsLeft": (
        (
            "async def ttl_many(self, keys, *, collection=None):\n"
            "    return [(value, None) for value, _ in await super().ttl_many(keys, collection=collection)]\n"
        ),
        {"test_expiry"},
    ),
    "FoldsCaseOfTTLs": (
        (
            "async def ttl(self, key, *, collection=None):\n"
            "    return await super().ttl(key, collection=collection and collection.lower())\n"
        ),
        {"test_neighbours_never_meet"},
    ),
    "CantDestroy": (
        "async def destroy(self):\n    raise NotImplementedError\n",
        {"test_destroying_everything", "test_what_a_store_can_do_is_what_it_says", "test_closing"},
    ),
    "ListsWhatHasExpired": (
        (
            "async def keys(self, collection=None, *, limit=None):\n"
            "    with Clock() as clock:\n"
            "        clock.advance(-1000)\n"
            "        return await super().keys(collection, limit=limit)\n"
        ),
        {"test_a_limit_counts_live_entries_only"},  # others see it too on a store that does not remove what has expired before a call
    ),
    "ListsOnePage": (
        (
            "async def keys(self, collection=None, *, limit=None):\n"
            "    return await super().keys(collection, limit=1000 if limit is None else limit)\n"
        ),
        {"test_bulk_of_many"},
    ),
    "NeverCloses": (
        "async def close(self):\n    pass\n",
        {"test_closing", "test_closing_before_use", "test_context_manager_and_setup"},
    ),
    "HasALength": (
        "def __len__(self):\n    return 0\n",
        {"test_an_empty_store_is_truthy"},
    ),
}


@pytest.fixture(scope="module")
def of_broken_stores(tmp_path_factory: pytest.TempPathFactory) -> Result:
    text = IMPORTS
    for name, (methods, _) in BROKEN.items():
        text += f"\n\nclass {name}(MemoryStore):\n    runs_inline = True\n\n" + re.sub(r"^", "    ", methods, flags=re.MULTILINE)
        text += f"\n\nclass Test{name}(StoreContract):\n    persistent = False\n    runtimes = ('asyncio',)\n\n"
        text += f"    def make(self, directory: Path) -> {name}:\n        return {name}()\n"
    return outsider(tmp_path_factory.mktemp("broken"), {"test_broken.py": text}, "-k", "not reclaims")  # which takes a second of waiting


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_store_fails_the_tests_of_what_is_broken(of_broken_stores: Result, name: str) -> None:
    assert of_broken_stores.failed.get(f"Test{name}", set()) == BROKEN[name][1]


def test_a_failure_says_what_was_compared_and_what_the_contract_says(of_broken_stores: Result) -> None:
    text = of_broken_stores.text
    (failure,) = re.findall(r"^_+ TestKeepsAnEarlierTTL\.test_put_without\w+\[asyncio\] _+$(.*?)^_{2,} ", text, re.MULTILINE | re.DOTALL)
    assert re.search(r"^E +AssertionError: assert \(None, None\) == \(\{'a': 2\}, None\)$", failure, re.MULTILINE), failure
    assert re.search(r"^E +The contract: A put without a TTL means for ever, also if an earlier value had one\.$", failure, re.MULTILINE), (
        failure
    )
    assert "run_sync" not in failure  # nor what runs the coroutine
    (refused,) = re.findall(r"^_+ TestTakesNaN\.test_\w+\[asyncio-float-0\] _+$(.*?)^_{2,} ", text, re.MULTILINE | re.DOTALL)
    assert "bad = nan" in refused
    assert re.search(r"^E +Failed: DID NOT RAISE .*SerializationError", refused, re.MULTILINE), refused
    assert re.search(r"^E +The contract: What is not JSON raises SerializationError with its place", refused, re.MULTILINE), refused
    (raised,) = re.findall(r"^_+ TestBlocksNames\.test_any_names\w+\[asyncio\] _+$(.*?)^_{2,} ", text, re.MULTILINE | re.DOTALL)
    assert re.search(r"^E +OSError: no such name$", raised, re.MULTILINE), raised
    assert "Any str that is not empty and encodes as UTF-8 is a key" in raised


def test_every_test_says_what_the_contract_says() -> None:
    for name in TESTS:
        assert re.fullmatch(r"[A-Z`].*\.", (getattr(StoreContract, name).__doc__ or "").strip(), re.DOTALL), name


OWN = f"""{IMPORTS}
import asyncio
import time

from keyvalue.stores.base import clock as stores_clock


class KeysOnly(BaseWrapper):
    runs_inline = True

    def _capabilities(self):
        return frozenset({{"keys"}})


class TestOptional(StoreContract):
    persistent = False
    runtimes = ("asyncio", "direct")

    def make(self, directory: Path) -> KeysOnly:
        return KeysOnly(MemoryStore())


class ClaimsToList(BaseWrapper):
    runs_inline = True

    def _capabilities(self):
        return frozenset()

    async def keys(self, collection=None, *, limit=None):
        raise NotImplementedError


class TestClaims(TestOptional):
    runtimes = ("asyncio",)

    def make(self, directory: Path) -> ClaimsToList:
        return ClaimsToList(MemoryStore())


class Undeclared(MemoryStore):
    pass


class TestUndeclared(TestOptional):
    def make(self, directory: Path) -> Undeclared:
        return Undeclared()


class TestNotDirect(TestUndeclared):
    runtimes = ("trio", "portal")


class OnAsyncio(MemoryStore):
    async def get(self, key, *, collection=None):
        await asyncio.sleep(0)
        return await super().get(key, collection=collection)


class TestOnAsyncio(StoreContract):
    persistent = False

    def make(self, directory: Path) -> OnAsyncio:
        return OnAsyncio()


class TestOnAsyncioOnly(TestOnAsyncio):
    runtimes = ("asyncio", "portal")


class TestSaidToKeep(StoreContract):
    runtimes = ("asyncio",)

    def make(self, directory: Path) -> MemoryStore:
        return MemoryStore()


class TestShared(StoreContract):
    persistent = False  # which is wrong
    runtimes = ("asyncio",)

    @pytest.fixture(autouse=True)
    def empty(self) -> None:
        self.here = MemoryStore()

    def make(self, directory: Path) -> BaseWrapper:
        return Open(self.here)


class Open(BaseWrapper):
    runs_inline = True
    closed = False

    async def close(self) -> None:
        pass


class TestMine(StoreContract):
    persistent = False
    runtimes = ("asyncio", "direct")
    default_collection = "mine"

    def make(self, directory: Path) -> MemoryStore:
        return MemoryStore(default_collection="mine")

    def test_of_my_own(self, runtime: Runtime, kv: Any, clock: Clock, tmp_path: Path) -> None:
        async def main() -> None:
            other = runtime.adapt(self.make(tmp_path))
            for store in (kv, other):
                await store.put("k", {{"a": 1}}, ttl=10)
                await runtime.sleep(0.01)
                clock.advance(10)
                assert await store.get("k") is None
                assert await store.collections() == []

        runtime.run(main)


class TestNotDamaged(TestSaidToKeep):
    persistent = False

    def damage(self, directory: Path, collection: str, key: str) -> None:
        pass


class CullsNothing(SimpleStore):
    async def _cull(self, now):
        pass


class TestCullsNothing(TestClaims):
    def make(self, directory: Path) -> CullsNothing:
        return CullsNothing()


class ReclaimsEarly(SimpleStore):
    async def _put(self, collection, entries):
        await super()._put(collection, entries)
        left = {{entry.key: max(0.1, int(entry.expires_at - stores_clock.now())) for entry in entries if entry.expires_at}}
        vars(self).setdefault("gone", {{}}).update({{key: time.monotonic() + seconds for key, seconds in left.items()}})

    async def _get(self, collection, keys):
        gone = vars(self).get("gone", {{}})
        found = await super()._get(collection, keys)
        return [None if time.monotonic() > gone.get(key, float("inf")) else entry for key, entry in zip(keys, found)]


class TestReclaimsEarly(TestClaims):
    def make(self, directory: Path) -> ReclaimsEarly:
        return ReclaimsEarly()


class CullsBlindly(SimpleStore):
    async def _cull(self, now):
        expired = [row for page in [page async for page in self._scan(None)] for row in page if row.expires_at and row.expires_at <= now]
        await asyncio.sleep(0)
        for row in expired:
            await self._delete(row.collection, [row.key])


class TestCullsBlindly(TestClaims):
    def make(self, directory: Path) -> CullsBlindly:
        return CullsBlindly()


class TestArgumentsAlone(ArgumentContract):
    def make(self, directory: Path) -> MemoryStore:
        return MemoryStore()


class TestAnother(StoreContract):
    persistent = False
    runtimes = ("asyncio",)

    def make(self, directory: Path) -> MemoryStore:
        return MemoryStore(default_collection="mine")
"""


@pytest.fixture(scope="module")
def of_others(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return outsider(tmp_path_factory.mktemp("others"), {"test_others.py": OWN}, "--tb=line", "-k", "not reclaims or ReclaimsEarly")


@pytest.mark.parametrize("name", ["Optional", "NotDirect", "OnAsyncioOnly", "Mine", "ArgumentsAlone"])
def test_what_the_class_of_the_tests_says_counts(of_others: Result, name: str) -> None:
    assert f"Test{name}" not in of_others.failed


def failures(text: str, class_name: str) -> set[tuple[str, str]]:
    return set(re.findall(rf"^(?:FAILED|ERROR) \S+::{class_name}::(\w+)\[(\w+)", text, re.MULTILINE))


def test_an_optional_method_that_is_none_fails(of_others: Result) -> None:
    assert {"test_what_a_store_can_do_is_what_it_says", "test_limits_of_listing"} <= of_others.failed["TestClaims"]


def test_a_store_that_does_not_say_that_it_runs_inline_has_no_direct_path(of_others: Result) -> None:
    failed = failures(of_others.text, "TestUndeclared")
    assert failed == {(test, "direct") for test in TESTS if "reclaims" not in test}
    assert 'leave "direct" out of `runtimes`' in of_others.text


def test_each_runtime_is_what_it_says(of_others: Result) -> None:
    runtimes = {runtime for _, runtime in failures(of_others.text, "TestOnAsyncio")}
    assert runtimes == {"trio", "direct"}


def test_whether_entries_outlive_the_store_is_as_the_class_says(of_others: Result) -> None:
    assert of_others.failed["TestSaidToKeep"] == {"test_entries_outlive_the_store"}
    assert "test_entries_outlive_the_store" in of_others.failed["TestShared"]


def test_a_store_that_hides_what_it_should_remove_is_noticed(of_others: Result) -> None:
    assert of_others.failed["TestCullsNothing"] == {"test_cull_removes_only_what_has_expired"}


def test_that_what_is_damaged_is_an_error_is_tested_if_it_can_be_damaged(of_others: Result) -> None:
    assert of_others.failed["TestNotDamaged"] == {"test_a_damaged_entry_is_an_error_for_its_own_key_alone"}


def test_expiry_of_the_backends_that_is_too_early_is_noticed(of_others: Result) -> None:
    assert "test_the_backend_reclaims_nothing_early" in of_others.failed["TestReclaimsEarly"]


def test_a_cull_that_removes_what_was_put_again_is_noticed(of_others: Result) -> None:
    assert of_others.failed["TestCullsBlindly"] == {"test_cull_keeps_what_is_put_meanwhile"}


def test_which_collection_is_the_default_is_as_the_class_says(of_others: Result) -> None:
    assert of_others.failed["TestAnother"] == {"test_the_default_collection", "test_limits_of_listing"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("    runtimes = ()\n", "TestRight.runtimes names no runtime to test on"),
        ("    runtimes = ('curio',)\n", "There is no runtime 'curio', only asyncio, trio, direct, portal"),
    ],
)
def test_a_class_of_tests_that_can_run_none_is_an_error(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "test_wrong.py").write_text(RIGHT + lines)
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

    for name in ("asyncio", "trio", "direct", "portal"):
        runtime = Runtime(name)
        with pytest.raises(LookupError):
            runtime.run(fails)
    assert closed == ["asyncio", "trio", "direct", "portal"]


def test_a_store_that_forgets_to_call_its_base_is_told_so() -> None:
    class Forgets(MemoryStore):
        def __init__(self) -> None:
            pass

    with pytest.raises(AssertionError, match=r"Forgets.__init__ must call super\(\).__init__\("):
        Runtime("asyncio").adapt(Forgets())


def test_what_awaits_something_else_than_the_store_is_told_so() -> None:
    class Suspending:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def waits() -> None:
        await Suspending()

    with pytest.raises(AssertionError, match="may await nothing but the store"):
        Runtime("direct").run(waits)
