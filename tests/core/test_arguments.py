"""What callers pass in: checked before anything else happens, and named by its type, never by its value."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest

from keyvalue._core import arguments, constructor
from keyvalue.errors import InvalidKeyError
from keyvalue.stores.memory import MemoryStore
from tests.interpreter import run_fresh


class Checked:
    @constructor.check_types
    def __init__(self, number: int = 1, *, text: str | None = None, table: dict[str, int] | None = None, size: int = 0) -> None:
        if size < 0:
            raise ValueError("size must not be negative")
        self.given = number, text, table


def test_a_wrong_type_is_reported_once_without_its_value() -> None:
    with pytest.warns(UserWarning, match="Checked: text should be .*, not a list") as caught:
        Checked(text=["hunter2"])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert [(warning.filename, "hunter2" in str(warning.message)) for warning in caught] == [(__file__, False)]
    # In these tests a warning is an error, so it would be what is raised.
    with pytest.raises(TypeError, match="seed takes") as refused:
        MemoryStore(seed=["hunter2"])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert "hunter2" not in str(refused.value)
    with pytest.raises(TypeError, match=r"Checked: size should be int, not a str$"):
        Checked(size="hunter2")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_constructors_take_plain_classes_unions_and_generics() -> None:
    assert Checked().given == (1, None, None)
    assert Checked(2, text="x", table={"a": 1}).given == (2, "x", {"a": 1})
    assert Checked(2, text=None, table=None).given == (2, None, None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"number": "1"}, "number should be int, not a str"),
        ({"number": True}, "number should be int, not a bool"),
        ({"text": 1}, r"text should be str \| None, not an int"),
        ({"table": {"a": "b"}}, r"table does not fit dict\[str, int\]"),
        ({"table": []}, "table should be dict.*, not a list"),
    ],
)
def test_constructors_warn_and_go_on(wrong: dict[str, Any], said: str) -> None:
    with pytest.warns(UserWarning, match=f"Checked: {said}"):
        made = Checked(**wrong)
    assert next(iter(wrong.values())) in made.given


def test_constructors_name_what_they_take() -> None:
    with pytest.raises(TypeError, match=r"Checked: got an unexpected .* 'unknown'; it takes number, text, table, size"):
        Checked(unknown=1)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("timeout", ["5", None, timedelta(seconds=5)])
def test_a_duration_that_is_no_number(timeout: Any) -> None:
    with pytest.raises(TypeError, match=r"timeout must be a number of seconds, not (a \w+|None)"):
        constructor.check_seconds(timeout, "timeout")
    assert constructor.check_seconds(1, "timeout") == 1


@pytest.mark.parametrize(
    ("module", "name", "argument"),
    [("disk", "DiskStore", "directory"), ("filetree", "FileTreeStore", "data_directory"), ("rocksdb", "RocksDBStore", "path")],
)
def test_a_directory_that_is_no_path(module: str, name: str, argument: str) -> None:
    if module != "filetree":  # which needs no client
        pytest.importorskip({"disk": "diskcache", "rocksdb": "rocksdict"}[module])
    store = getattr(import_module(f"keyvalue.stores.{module}"), name)
    with pytest.raises(TypeError, match="must be a str or a Path, not an int"):
        store(**{argument: 5})


def test_bulk_calls_say_which_is_bad() -> None:
    wrong: Any = [{}, 1]
    with pytest.raises(TypeError, match=r"values\[1\] must be a mapping .*, not an int"):
        arguments.check_mappings(wrong, 2)
    wrong = ["a", 1]
    with pytest.raises(TypeError, match=r"keys\[1\] must be a str, not an int"):
        arguments.check_names(wrong)
    with pytest.raises(InvalidKeyError, match=r"keys\[2\] is empty"):
        arguments.check_names(["a", "\N{PILE OF POO}", ""])


@pytest.mark.parametrize("variable", ["KEYVALUE_DISABLE_BEARTYPE", "PY_KEY_VALUE_DISABLE_BEARTYPE"])
def test_type_checks_can_be_turned_off(variable: str) -> None:
    program = """
from keyvalue.blocking import BlockingKeyValue
from keyvalue.errors import InvalidKeyError, InvalidTTLError, SerializationError
from keyvalue.stores.memory import MemoryStore
kv = BlockingKeyValue(MemoryStore(max_entries_per_collection=True))
for call, arguments, error in (
    (kv.get, (1,), InvalidKeyError), (kv.put, ("k", 1), SerializationError), (lambda ttl: kv.put("k", {}, ttl=ttl), ("1",), InvalidTTLError)
):
    try:
        call(*arguments)
    except error as caught:
        assert not isinstance(caught, TypeError)
    else:
        raise AssertionError
print("fine")
"""
    assert run_fresh(program, **{variable: "true", "PYTHONWARNINGS": "error"}) == "fine"
