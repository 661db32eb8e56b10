"""JSON text: exact in both directions, or refused."""

from __future__ import annotations

import json
import math
from collections import UserDict
from typing import Any

import pytest

from keyvalue._core import codec
from keyvalue.errors import SerializationError
from keyvalue.testing._samples import nested
from tests.budget import scale
from tests.interpreter import run_fresh


@pytest.mark.parametrize("last", [1, 2**70], ids=["quick path", "slow path"])
def test_both_paths_take_equally_deep_values(last: int) -> None:
    assert codec.decode(codec.encode(nested(254, last))) == nested(254, last)
    with pytest.raises(SerializationError, match="nested more than 254"):
        codec.encode(nested(255, last))


def test_integers_around_64_bits() -> None:
    for base in (2**63, 2**64, -(2**63), 10**18, 10**19, 10**20, 10**639, 10**640, -(10**1280), 10**1921, 10**4300, 10**6000, -(7**99_999)):
        for number in range(base - 2, base + 3):
            assert codec.decode(codec.encode({"n": number})) == {"n": number}


def test_decoding_what_only_the_standard_library_reads() -> None:
    assert codec.decode('{"a": "\\ud800", "b": [1, 2]}') == {"a": "\ud800", "b": [1, 2]}
    decoded = codec.decode(b'{"a": NaN, "b": Infinity, "c": -Infinity}')
    assert math.isnan(decoded["a"])
    assert decoded["b"] == math.inf
    deep = "[" * 900 + "]" * 900
    assert codec.decode(deep) == json.loads(deep)
    for bad in ("[" * 100_000, "[" * 3000 + "]" * 3000, "[" * 1025 + "NaN" + "]" * 1025, "{", "", b"\xff", b"\x80\x04K\x01."):
        with pytest.raises(ValueError):  # noqa: PT011 # which one is the decoder's affair
            codec.decode(bad)


def test_big_integers_deep_down_do_not_crash_the_process() -> None:
    # orjson.Fragment writes past its buffer in such values, so it is not used.
    program = """
from keyvalue._core import codec
for digits in range(3500, 3800, STEP):
    value = 10**digits
    for _ in range(250):
        value = [value]
    assert codec.decode(codec.encode({"a": value})) == {"a": value}
print("fine")
"""
    assert run_fresh(program.replace("STEP", scale("10", "1"))) == "fine"


def test_subclasses_of_numbers_that_lie_do_not_change_silently() -> None:
    class Whole(int):
        def __int__(self) -> int:
            return 7

    class Real(float):
        def __float__(self) -> float:
            return 7.0

    assert codec.decode(codec.encode({"a": Whole(3), "b": Real(0.5)})) == {"a": 3, "b": 0.5}


@pytest.mark.parametrize(("bad", "problem"), [(b"", "is of type bytes"), (math.nan, "is not a finite number")])
def test_a_bulk_call_says_which_value_is_bad(bad: Any, problem: str) -> None:
    with pytest.raises(SerializationError, match=rf"values\[1\]\['x'\] {problem}"):
        codec.encode_many([{}, {"x": bad}])


def test_errors_of_a_mapping_are_its_own() -> None:
    class Ended(UserDict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("the session has ended")

    with pytest.raises(RuntimeError, match="the session has ended"):
        codec.encode(Ended(a=1))
