"""The error tree: messages, and what pickles and copies keep."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta

import pytest

from keyvalue import errors
from keyvalue.errors import InvalidKeyError, InvalidTTLError, KeyValueError, SerializationError

WITH_DETAILS = [
    KeyValueError("text", {"a": 1}),
    KeyValueError(),
    InvalidTTLError(-1, {"collection": "c"}),
    errors.InvalidTTLTypeError("10"),
    errors.MissingKeyError("get", "c", "k"),
    errors.ReadOnlyError("put", "c", "k"),
    errors.EntryTooLargeError(10, 5, "c", "k"),
    errors.EntryTooSmallError(1, 5),
    errors.ValueTooLargeError(10, 5, collection="c"),
]
SHOWN = {type(error) for error in WITH_DETAILS}
KINDS = [getattr(errors, name) for name in errors.__all__ if name != "ExtraInfoType"]
PLAIN = [kind("text", {"key": "k"}) for kind in KINDS if kind not in SHOWN]


@pytest.mark.parametrize("error", [*WITH_DETAILS, *PLAIN], ids=lambda error: type(error).__name__)
def test_errors_survive_pickling_and_copying(error: KeyValueError) -> None:
    assert isinstance(error, KeyValueError)
    error.__notes__ = ["a note"]  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert twin.args == error.args
        assert vars(twin) == vars(error)


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
    for of_the_store in (errors.StoreConnectionError, errors.StoreRefusedError):
        assert of_the_store.__bases__ == (errors.KeyValueStoreError,)
    for of_the_caller in (InvalidKeyError, InvalidTTLError):
        assert not issubclass(of_the_caller, errors.KeyValueStoreError)
