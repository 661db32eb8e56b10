"""Checks of the arguments of the protocol's methods, done before anything else.

They look at every element and name the type, never the value: it may be a secret. Wrong types raise
`TypeError`; with `KEYVALUE_DISABLE_BEARTYPE=true` (or `PY_KEY_VALUE_DISABLE_BEARTYPE`) in the environment at import, no types are
checked, and what can't be used raises the error of its argument (`InvalidKeyError`, `SerializationError`, `InvalidTTLError`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from math import ceil, isfinite
from typing import Any, SupportsFloat

from keyvalue._core import wording
from keyvalue.errors import ExtraInfoType, InvalidKeyError, InvalidTTLError, InvalidTTLTypeError, SerializationError

__all__ = ["check_limit", "check_mapping", "check_mappings", "check_name", "check_names", "expiry_from_ttl"]

CHECK_TYPES = not any(
    os.environ.get(variable, "").lower() in ("1", "true", "yes")
    for variable in ("KEYVALUE_DISABLE_BEARTYPE", "PY_KEY_VALUE_DISABLE_BEARTYPE")
)
_ONLY_STR = {str}
_ONLY_DICT = {dict}
END_OF_TIME = 253_402_300_800.0
"""Seconds since the epoch at the start of the year 10000, the first that ISO 8601 dates can't hold."""
_LONGEST_USUAL = 1e9
"""Seconds up to which a TTL is not compared with the clock: no clock that is set right shows so early a moment."""
_NEAR = 366 * 86_400.0
_UNITS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}


def check_name(value: str, what: str) -> str:
    """Check a key or a collection.

    Args:
        value: The name.
        what: "key", "collection" or the like, for the message.

    Raises:
        TypeError: It is not a str.
        InvalidKeyError: It is empty or does not encode as UTF-8.
    """
    if type(value) is str and value and value.isascii():
        return value
    if not isinstance(value, str):
        problem = f"The {what} must be a str, not {wording.describe(value)}"
        raise TypeError(problem) if CHECK_TYPES else InvalidKeyError(problem)
    if not value:
        raise InvalidKeyError(f"The {what} is empty; give it a name of at least one character")
    try:
        value.encode()
    except UnicodeEncodeError:
        pass  # it holds the whole name
    else:
        return str.__str__(value)
    raise InvalidKeyError(f"The {what} holds a lone surrogate, which can't be encoded as UTF-8")


def check_names(keys: Sequence[str]) -> list[str]:
    """Check a sequence of keys and each key in it.

    Raises:
        TypeError: It is not a sequence, or a str, or holds something that is not a str.
        InvalidKeyError: A key is empty or does not encode as UTF-8.
    """
    if isinstance(keys, str | bytes) or not isinstance(keys, Sequence):
        advice = "; put_many takes the keys and the values of a mapping apart" if isinstance(keys, Mapping) else ""
        raise TypeError(f"The keys must be a sequence of str, such as a list, not {wording.describe(keys)}{advice}")
    if set(map(type, keys)) == _ONLY_STR and all(keys) and "".join(keys).isascii():
        return list(keys)
    try:
        return [check_name(key, "key") for key in keys]
    except (TypeError, InvalidKeyError):
        for index, key in enumerate(keys):  # once more, to say which one
            check_name(key, f"key keys[{index}]")
        raise


def check_mapping(value: Mapping[str, Any], what: str = "value") -> None:
    """Check that a value is a mapping.

    Args:
        value: The value.
        what: Its name in the message.

    Raises:
        TypeError: It is not.
    """
    if type(value) is not dict and not isinstance(value, Mapping):
        advice = wording.suggest_conversion(value, is_whole=True)
        problem = f"The {what} must be a mapping with string keys, such as a dict, not {wording.describe(value)}; {advice}"
        raise TypeError(problem) if CHECK_TYPES else SerializationError(f"Could not serialize the value. {problem}")


def check_mappings(values: Sequence[Mapping[str, Any]], count: int) -> None:
    """Check a sequence of values and each value in it.

    Raises:
        TypeError: It is not a sequence of mappings.
        ValueError: There are not `count` of them.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise TypeError(f"The values must be a sequence of mappings, such as a list, not {wording.describe(values)}")
    if len(values) != count:
        raise ValueError(f"There must be one value for each key, but there are {count} keys and {len(values)} values")
    if set(map(type, values)) != _ONLY_DICT:
        for index, value in enumerate(values):
            check_mapping(value, f"value values[{index}]")


def expiry_from_ttl(ttl: SupportsFloat | None, now: float, info: ExtraInfoType | None = None) -> float | None:
    """Convert a time to live to an expiry.

    Args:
        ttl: Seconds, or None for no expiry.
        now: Seconds since the epoch.
        info: Facts for the error.

    Returns:
        Seconds since the epoch, rounded up to a microsecond (the resolution of the stored dates).

    Raises:
        InvalidTTLError: It is not a positive, finite number, or ends in the year 10000 or later, or is within 366 days of the current time
            in seconds since the epoch: a timestamp passed by mistake. Also a TypeError if it is not a number.
    """
    if ttl is None:
        return None
    if isinstance(ttl, bool):
        raise InvalidTTLError(ttl, info)
    try:
        seconds = ttl.__float__()
    except AttributeError:
        raise (InvalidTTLTypeError if CHECK_TYPES else InvalidTTLError)(ttl, info) from None
    except (ValueError, OverflowError, ArithmeticError):
        raise InvalidTTLError(ttl, info) from None
    if not (isfinite(seconds) and seconds > 0 and now + seconds < END_OF_TIME):
        unit = next((unit for unit, size in _UNITS.items() if abs(seconds / size - time.time()) <= _NEAR), None)
        advice = f"; it looks like a moment, in {unit} since 1970" if unit else ""
        raise InvalidTTLError(ttl, info, advice=advice)
    if seconds > _LONGEST_USUAL and abs(seconds - time.time()) <= _NEAR:  # a clock that tests move says nothing about what callers mean
        raise InvalidTTLError(ttl, info, advice="; it looks like a moment, in seconds since 1970: subtract time.time() from it")
    return ceil((now + seconds) * 1e6) / 1e6


def check_limit(limit: int | None) -> int | None:
    """Check the limit of a listing.

    Raises:
        TypeError: It is not an int.
        ValueError: It is negative.
    """
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"The limit must be an int or None, not {wording.describe(limit)}")
    if limit < 0:
        raise ValueError("The limit must not be negative; leave it out to list everything")
    return limit
