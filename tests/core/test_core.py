"""Codec, entries, arguments, errors and protocols: what no store is needed to show."""

from __future__ import annotations

import copy
import inspect
import json
import math
import os
import pickle
import subprocess
import sys
import typing
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

import keyvalue
from keyvalue import errors, protocols
from keyvalue._core import arguments, codec
from keyvalue._core.entry import Entry
from keyvalue._core.extras import needs
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import DeserializationError, InvalidKeyError, InvalidTTLError, KeyValueError, SerializationError
from keyvalue.protocols import key_value
from keyvalue.stores.base import EnumerableStore
from keyvalue.stores.disk import DiskStore
from keyvalue.stores.filetree import FileTreeStore
from keyvalue.stores.memory import MemoryStore
from keyvalue.stores.null import NullStore
from keyvalue.stores.rocksdb import RocksDBStore
from tests.runtimes import Runtime


def run(program: str, **environment: str) -> str:
    """Run a program in a fresh interpreter and return what it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it imports much
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={**inherited, **environment}, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# Codec


def test_the_quick_and_the_slow_path_agree() -> None:
    for levels in (codec.MAX_DEPTH, codec.MAX_DEPTH + 1):
        quick: Any = 1
        slow: Any = 2**70
        for _ in range(levels):
            quick, slow = {"a": quick}, {"a": slow}
        for value in (quick, slow):
            if levels == codec.MAX_DEPTH:
                assert codec.decode(codec.encode(value)) == value
            else:
                with pytest.raises(SerializationError, match="nested more than 254"):
                    codec.encode(value)


def test_integers_around_64_bits() -> None:
    for base in (2**63, 2**64, -(2**63), 10**18, 10**19, 10**20, 10**4300, 10**6000):
        for number in range(base - 2, base + 3):
            assert codec.decode(codec.encode({"n": number})) == {"n": number}


def test_decoding_what_only_the_standard_library_reads() -> None:
    assert codec.decode('{"a": "\\ud800", "b": [1, 2]}') == {"a": "\ud800", "b": [1, 2]}
    decoded = codec.decode(b'{"a": NaN, "b": Infinity, "c": -Infinity}')
    assert math.isnan(decoded["a"])
    assert decoded["b"] == math.inf
    deep = "[" * 900 + "]" * 900
    assert codec.decode(deep) == json.loads(deep)
    for bad in ("[" * 100_000, "{", "", b"\xff", b"\x80\x04K\x01."):
        with pytest.raises(ValueError):  # noqa: PT011 # which one is the decoder's affair
            codec.decode(bad)


def test_big_integers_deep_down_do_not_crash_the_process() -> None:
    # orjson.Fragment writes past its buffer in such values, so it is not used.
    program = """
from keyvalue._core import codec
for digits in range(3500, 3800):
    value = 10**digits
    for _ in range(250):
        value = [value]
    assert codec.decode(codec.encode({"a": value})) == {"a": value}
print("fine")
"""
    assert run(program) == "fine"


def test_subclasses_of_numbers_that_lie_do_not_change_silently() -> None:
    class Whole(int):
        def __int__(self) -> int:
            return 7

    class Real(float):
        def __float__(self) -> float:
            return 7.0

    assert codec.decode(codec.encode({"a": Whole(3), "b": Real(0.5)})) == {"a": 3, "b": 0.5}


# Entries


def test_the_document() -> None:
    entry = Entry("c", "k", json=codec.encode({"b": 1, "a": 2}), created_at=0.5, expires_at=86400.0)
    assert json.loads(entry.document()) == {
        "version": 1,
        "collection": "c",
        "key": "k",
        "created_at": "1970-01-01T00:00:00.500000+00:00",
        "expires_at": "1970-01-02T00:00:00+00:00",
        "value": {"b": 1, "a": 2},
    }
    read = Entry.from_document(entry.document(), "c", "k")
    assert (read.collection, read.key, read.created_at, read.expires_at) == ("c", "k", None, 86400.0)
    assert list(read.value()) == ["b", "a"]


@pytest.mark.parametrize(
    ("document", "expires_at"),
    [
        ('{"value": {}}', None),
        ('{"value": "{\\"a\\": 1}"}', None),
        ('{"value": {}, "expires_at": null, "created_at": ""}', None),
        ('{"value": {}, "expires_at": "1970-01-02T00:00:00Z"}', 86400.0),
        ('{"value": {}, "expires_at": "1970-01-02T00:00:00"}', 86400.0),
        ('{"value": {}, "expires_at": "1970-01-02T02:00:00+02:00"}', 86400.0),
        ('{"value": {}, "version": 1, "unknown": [1]}', None),
        ('{"value": {}, "created_at": 1}', None),
    ],
)
def test_documents_that_can_be_read(document: str, expires_at: float | None) -> None:
    entry = Entry.from_document(document.encode(), "c", "k")
    assert (entry.collection, entry.key, entry.expires_at) == ("c", "k", expires_at)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "no json hunter2",
        "[]",
        "null",
        "{}",
        '{"value": []}',
        '{"value": null}',
        '{"value": "[]"}',
        '{"value": "hunter2"}',
        '{"value": {}, "version": 2}',
        '{"value": {}, "expires_at": "hunter2"}',
        '{"value": {}, "expires_at": 1}',
        '{"value": {}, "expires_at": 0}',
        '{"value": {}, "collection": 5, "key": "k"}',
        '{"value": {}, "collection": "c", "key": []}',
        b'{"value": {"a": "\xff"}}',
        '{"value": {}, "expires_at": "9999-99-99T00:00:00+00:00"}',
    ],
)
def test_documents_that_can_not_be_read(document: str | bytes) -> None:
    with pytest.raises(DeserializationError, match=r"collection: c;key: k") as caught:
        Entry.from_document(document if isinstance(document, bytes) else document.encode(), "c", "k")
    assert "hunter2" not in str(caught.value)


# Arguments


def test_constructors_warn_about_wrong_types_without_naming_values() -> None:
    from keyvalue.stores.memory import MemoryStore

    with pytest.warns(UserWarning, match=r"MemoryStore: seed should be .*, not a list") as caught, pytest.raises(TypeError):
        MemoryStore(seed=["hunter2"])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert "hunter2" not in str(caught[0].message)
    assert caught[0].filename == __file__


def test_constructors_check_plain_classes_unions_and_generics() -> None:
    calls: list[str] = []

    class Checked:
        @arguments.checked
        def __init__(self, number: int = 1, *, text: str | None = None, table: dict[str, int] | None = None) -> None:
            calls.append("made")

    Checked()
    Checked(2, text="x", table={"a": 1})
    Checked(2, text=None, table=None)
    for wrong in ({"number": "1"}, {"number": True}, {"text": 1}, {"table": {"a": "b"}}, {"table": []}):
        with pytest.warns(UserWarning, match=next(iter(wrong))):
            Checked(**wrong)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match=r"Checked: table does not fit dict\[str, int\]"):
        Checked(table={"a": "b"})  # type: ignore[dict-item] # pyright: ignore[reportArgumentType]
    with pytest.warns(UserWarning, match=r"Checked: table should be dict.*, not a list"):
        Checked(table=[])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"Checked: got an unexpected .* 'unknown'; it takes number, text, table"):
        Checked(unknown=1)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    assert len(calls) == 10


@pytest.mark.parametrize("timeout", ["5", None, timedelta(seconds=5)])
def test_a_duration_that_is_no_number(timeout: Any) -> None:
    with pytest.raises(TypeError, match=r"timeout must be a number of seconds, not (a \w+|None)"):
        arguments.seconds(timeout, "timeout")
    assert arguments.seconds(1, "timeout") == 1


@pytest.mark.parametrize(("given", "said"), [(MemoryStore, "the class MemoryStore"), (None, "None"), (1, "an int"), ({}, "a dict")])
def test_what_is_no_store_is_named(given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=f"takes an AsyncKeyValue, an object with its eight methods, not {said}$"):
        BlockingKeyValue(given)


@pytest.mark.parametrize("store", [DiskStore, FileTreeStore, RocksDBStore])
def test_a_directory_that_is_no_path(store: Any) -> None:
    name = {RocksDBStore: "path", DiskStore: "directory", FileTreeStore: "data_directory"}[store]
    wrong: Any = {name: 5}
    with pytest.warns(UserWarning, match=f"{name} should be"), pytest.raises(TypeError, match="must be a str or a Path, not an int"):
        store(**wrong)


class Wrong(EnumerableStore):
    """A store whose author has made mistakes."""

    runs_inline = True

    async def _get(self, collection: str, keys: Sequence[str]) -> Sequence[Entry | None]:
        return [None]

    async def _put(self, collection: str, entries: Sequence[Entry]) -> None:
        pass

    async def _delete(self, collection: str, keys: Sequence[str]) -> int:
        return 0

    def _scan(self, collection: str | None) -> Any:
        return []

    async def _cull(self, now: float) -> None:
        pass


async def test_mistakes_of_a_stores_author_are_named(runtime: Runtime) -> None:
    kv = runtime.adapt(Wrong())
    with pytest.raises(RuntimeError, match=r"Wrong\._get returned 1 entries for 2 keys"):
        await kv.get_many(["k", "l"])
    for call in (kv.keys, kv.collections, kv.destroy):
        with pytest.raises(TypeError, match=r"Wrong\._scan must be an asynchronous generator"):
            await call()


def test_bulk_calls_say_which_is_bad() -> None:
    with pytest.raises(SerializationError, match=r"values\[1\]\['x'\] is of type bytes"):
        codec.encode_many([{}, {"x": b""}])
    with pytest.raises(SerializationError, match=r"values\[1\]\['x'\] is not a finite number"):
        codec.encode_many([{}, {"x": math.nan}])
    wrong: Any = [{}, 1]
    with pytest.raises(TypeError, match=r"values\[1\] must be a mapping .*, not an int"):
        arguments.mappings(wrong, 2)
    wrong = ["a", 1]
    with pytest.raises(TypeError, match=r"keys\[1\] must be a str, not an int"):
        arguments.names(wrong)
    with pytest.raises(InvalidKeyError, match=r"keys\[2\] is empty"):
        arguments.names(["a", "\N{PILE OF POO}", ""])


async def test_a_store_that_uses_no_client() -> None:
    class TableStore(NullStore):
        async def _delete(self, collection: str, keys: Sequence[str]) -> int:
            return await self._use(lambda client: client.delete(keys))

    with pytest.raises(RuntimeError, match=r"TableStore has no client: set self\._client in __init__"):
        await TableStore().delete("k")


@pytest.mark.parametrize("variable", ["KEYVALUE_DISABLE_BEARTYPE", "PY_KEY_VALUE_DISABLE_BEARTYPE"])
def test_type_checks_can_be_turned_off(variable: str) -> None:
    program = """
import asyncio, warnings
from keyvalue.stores.memory import MemoryStore
from keyvalue.errors import InvalidKeyError, InvalidTTLError, SerializationError
warnings.simplefilter("error")
kv = MemoryStore(max_entries_per_collection=True)
for call, error in ((kv.get(1), InvalidKeyError), (kv.put("k", 1), SerializationError), (kv.put("k", {}, ttl="1"), InvalidTTLError)):
    try:
        asyncio.run(call)
    except error as caught:
        assert not isinstance(caught, TypeError)
    else:
        raise AssertionError
print("fine")
"""
    assert run(program, **{variable: "true"}) == "fine"


# Errors

EXAMPLES: list[KeyValueError] = [
    errors.KeyValueError("text", {"a": 1}),
    errors.KeyValueError(),
    errors.InvalidTTLError(-1, {"collection": "c"}),
    errors.InvalidTTLTypeError("10"),
    errors.MissingKeyError("get", "c", "k"),
    errors.ReadOnlyError("put", "c", "k"),
    errors.EntryTooLargeError(10, 5, "c", "k"),
    errors.EntryTooSmallError(1, 5),
    errors.ValueTooLargeError(10, 5, collection="c"),
    errors.StoreClosedError("closed"),
    errors.DeserializationError("text", {"collection": "c", "key": "k"}),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling_and_copying(error: KeyValueError) -> None:
    error.__notes__ = ["a note"]  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert twin.args == error.args
        assert vars(twin) == vars(error)


def test_every_error_pickles() -> None:
    shown = {type(error) for error in EXAMPLES}
    for name in errors.__all__:
        kind = getattr(errors, name)
        if name == "ExtraInfoType" or kind in shown:
            continue
        assert issubclass(kind, KeyValueError)
        twin = pickle.loads(pickle.dumps(kind("text")))
        assert (type(twin), str(twin)) == (kind, str(kind("text")))


def test_messages() -> None:
    assert str(KeyValueError("text", {"a": 1, "b": None})) == "text: (a: 1;b: None)"
    assert str(KeyValueError(extra_info={"a": 1})) == "a: 1"
    assert KeyValueError("text", {"a": 1}).message == "text: (a: 1)"
    assert "10" in str(errors.EntryTooLargeError(10, 5))
    assert str(InvalidTTLError(timedelta(hours=1))).endswith("not a timedelta; give its total_seconds()")
    assert "serialize" in str(SerializationError("Could not serialize the value"))
    assert issubclass(SerializationError, ValueError)
    assert errors.BaseKeyValueError is KeyValueError


def test_the_split_between_unreachable_and_refused() -> None:
    assert issubclass(errors.StoreConnectionError, errors.KeyValueStoreError)
    assert issubclass(errors.StoreRefusedError, errors.KeyValueStoreError)
    assert not issubclass(errors.StoreRefusedError, errors.StoreConnectionError)
    assert not issubclass(errors.StoreConnectionError, errors.StoreRefusedError)
    assert not issubclass(InvalidKeyError, errors.KeyValueStoreError)
    assert not issubclass(InvalidTTLError, errors.KeyValueStoreError)


# Protocols, names and imports


def test_the_two_colours_have_the_same_methods() -> None:
    for name in key_value.__all__:
        if not name.startswith("Async"):
            continue
        one, other = getattr(key_value, name), getattr(key_value, name.removeprefix("Async"))
        assert getattr(protocols, name) is one
        for method in typing.get_protocol_members(one) if sys.version_info >= (3, 13) else one.__abstractmethods__ | _methods(one):
            async_method, sync_method = getattr(one, method), getattr(other, method)
            assert inspect.iscoroutinefunction(async_method)
            assert not inspect.iscoroutinefunction(sync_method)
            assert inspect.signature(async_method) == inspect.signature(sync_method)


def _methods(protocol: type) -> set[str]:
    return {name for name in dir(protocol) if not name.startswith("_")}


def test_importing_pulls_in_no_client_and_installs_no_hook() -> None:
    program = """
import sys
before = list(sys.meta_path), list(sys.path_hooks)
import keyvalue, keyvalue.protocols, keyvalue.protocols.key_value, keyvalue.errors
assert "orjson" not in sys.modules
import keyvalue.stores, keyvalue.stores.base, keyvalue.stores.memory, keyvalue.wrappers.base, keyvalue.blocking
assert (list(sys.meta_path), list(sys.path_hooks)) == before
print(sorted({"anyio", "trio", "beartype", "redis", "diskcache", "rocksdict", "pydantic", "sqlite3"} & set(sys.modules)))
"""
    assert run(program) == "[]"


def test_imports_point_one_way() -> None:
    root = os.path.dirname(keyvalue.__file__)
    allowed = {
        "_core": {"_core", "protocols", "errors"},
        "protocols": {"protocols"},
        "stores": {"_core", "protocols", "errors"},
        "wrappers": {"_core", "protocols", "errors"},
    }
    for folder, may in allowed.items():
        for name in os.listdir(os.path.join(root, folder)):
            if not name.endswith(".py"):
                continue
            with open(os.path.join(root, folder, name), encoding="utf-8") as file:
                lines = [line.strip() for line in file if line.strip().startswith(("from keyvalue", "import keyvalue"))]
            for line in lines:
                module = line.split()[1].removeprefix("keyvalue.")
                # Modules that several stores may share are private.
                assert module.split(".")[0] in may or module.startswith(f"{folder}._"), f"{folder}/{name}: {line}"


def test_only_the_core_knows_a_runtime() -> None:
    root = os.path.dirname(keyvalue.__file__)
    for folder in ("stores", "wrappers"):
        for name in os.listdir(os.path.join(root, folder)):
            if name.endswith(".py") and name != "_memcached.py":  # a client rather than a store
                with open(os.path.join(root, folder, name), encoding="utf-8") as file:
                    text = file.read()
                assert "import asyncio" not in text.replace("import redis.asyncio", "")
                assert "import trio" not in text


def test_exported_names() -> None:
    assert sorted(keyvalue.__all__) == ["AsyncKeyValue", "KeyValue", "KeyValueError", "__version__"]
    for module in (keyvalue, errors, protocols, key_value):
        for name in module.__all__:
            assert hasattr(module, name)


def test_a_missing_client_names_the_command_that_installs_it() -> None:
    with pytest.raises(ImportError, match=r"pip install 'keyvalue\[redis\]'") as caught, needs("redis"):
        import no_such_module  # pyright: ignore[reportMissingImports, reportUnusedImport]  # noqa: F401
    assert caught.value.name == "no_such_module"
