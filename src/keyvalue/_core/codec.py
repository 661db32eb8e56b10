"""JSON that is exact in both directions.

`encode` refuses whatever would not come back equal; `decode` gives back what was written, integers of any size included. The common
case runs at C speed and costs about 1 µs for a small record in either direction: orjson does the work, and one more pass in C proves
that the result is exact. Anything that the quick pass can't vouch for goes through `_encode_slowly`, which is slower, takes
subclasses of the plain types too, and says what is wrong and where.
"""

from __future__ import annotations

import copy
import json
import marshal
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, localcontext
from enum import Enum
from functools import partial
from itertools import zip_longest
from math import inf, isfinite
from typing import Any, TypeVar, cast

import orjson

from keyvalue._core import wording
from keyvalue.errors import SerializationError

__all__ = [
    "LARGE",
    "MAX_DEPTH",
    "Place",
    "copy_value",
    "decode",
    "decode_many",
    "encode",
    "encode_many",
    "encode_many_or_defer",
    "encode_or_defer",
    "item_error",
    "may_hold_long_number",
    "told",
]

N = TypeVar("N", int, Decimal)

MAX_DEPTH = 254
"""How many levels of objects and arrays a value may have: the limit of orjson's encoder, kept by the slow path too."""

LARGE = 2**20
"""Bytes from which on a value or a document is encoded or decoded in a worker thread, so that an event loop can go on meanwhile."""

# What is left to `default` is refused there, because none is given: the slow path then names the place.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS

_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(".") for byte in range(256))
_DEEPEST = 1024  # levels that orjson decodes; what Python's own json takes depends on its version and on the caller's stack
_PASSES = 20  # over a value, to find it unchanged
_CHUNK = 640  # digits that int() takes whatever sys.set_int_max_str_digits() says
_LONG_NUMBER = b"0" * 19  # the shortest run of digits that may lie outside 64 bits
_SHOWN_KEY = re.compile("[A-Za-z0-9_-]{1,40}").fullmatch
_HALF_A_CHARACTER = "is a string with a lone surrogate, which UTF-8 can't hold"


def encode(value: Mapping[str, Any], path: str = "value") -> bytes:
    """Encode a value as JSON, or refuse it.

    Args:
        value: A mapping with string keys, nested as deep as `MAX_DEPTH`.
        path: What messages call the value.

    Returns:
        JSON text in UTF-8, keys in the value's own order, without spaces.

    Raises:
        SerializationError: Something in the value would not come back as it is. The message says where.
    """
    encoded = encode_or_defer(value, inf, path)
    return encoded() if callable(encoded) else encoded


def item_error(index: int, value: Mapping[str, Any], error: SerializationError) -> SerializationError:
    """Return the error for a value of a bulk call, which says which of them can't be serialized."""
    try:
        encode(value, f"values[{index}]")
    except SerializationError as named:
        return named.with_traceback(None)
    return error


def encode_or_defer(value: Mapping[str, Any], limit: float = LARGE, path: str = "value") -> bytes | Callable[[], bytes]:
    """Encode a value, unless it is larger than a limit.

    Args:
        value: As for `encode`.
        limit: About so many bytes are encoded at once at most.
        path: As for `encode`.

    Returns:
        What `encode` returns; or, if the value is larger, a function that returns that, in any thread: the value as it is now, even if the
        caller changes it meanwhile.

    Raises:
        SerializationError: As for `encode`; the function raises it too.
    """
    # marshal takes exactly the built-in types and none of their subclasses, so what it passes holds no enum members, for which orjson would
    # silently write the bare value. What it takes beyond JSON (bytes, sets, keys that are no strings), orjson refuses.
    try:
        dumped = marshal.dumps(value, 2)  # pyright: ignore[reportArgumentType] # what it does not take, it refuses
    except (ValueError, TypeError, RecursionError):
        dumped = None
    if dumped is None:  # below, not above: a refusal is not chained to marshal's own error
        return partial(_encode_stable, value, path) if _is_larger(value, limit) else _encode_stable(value, path)
    if len(dumped) > limit:
        return partial(_encode_loaded, dumped, path)
    encoded = _encode_quickly(value)
    if encoded is not None:
        return encoded
    return partial(_encode_loaded, dumped, path) if _is_larger(value, limit) else _encode_loaded(dumped, path)


def encode_many(values: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Encode many values; see `encode`."""
    encoded = encode_many_or_defer(values, inf)
    return encoded() if callable(encoded) else encoded


def encode_many_or_defer(values: Sequence[Mapping[str, Any]], limit: float = LARGE) -> list[bytes] | Callable[[], list[bytes]]:
    """Encode many values; see `encode_or_defer`. One pass of marshal serves for all, and the limit is for all together."""
    try:
        dumped = marshal.dumps(values, 2)  # pyright: ignore[reportArgumentType] # what it does not take, it refuses
    except (ValueError, TypeError, RecursionError):
        dumped = None
    if dumped is None:
        each = tuple(values)
        if _is_larger(each, limit):
            return partial(encode_many, each)
        return [encode(value, f"values[{index}]") for index, value in enumerate(each)]
    if len(dumped) > limit:
        return partial(_encode_all_loaded, dumped)
    encoded = [_encode_quickly(value) for value in values]
    if None not in encoded:
        return cast("list[bytes]", encoded)
    return partial(_encode_all_loaded, dumped) if _is_larger(values, limit) else _encode_all_loaded(dumped)


def _encode_quickly(value: object) -> bytes | None:
    """Encode a value of built-in types, or return None if that takes the slow way."""
    try:
        encoded = orjson.dumps(value, option=_OPTIONS)
    except (ValueError, TypeError, RecursionError):
        return None
    # Left are NaN and the infinities, which orjson writes as null. (On bytes, find() is twice as quick as `in`.)
    return encoded if encoded.find(b"null") < 0 or orjson.loads(encoded) == value else None


def _encode_loaded(dumped: bytes, path: str) -> bytes:
    """Encode a value that marshal has dumped: as it was then."""
    return _encode_own(marshal.loads(dumped), path)  # noqa: S302 # written the moment before


def _encode_all_loaded(dumped: bytes) -> list[bytes]:
    """Encode many values that marshal has dumped together."""
    values = marshal.loads(dumped)  # noqa: S302 # written the moment before
    return [_encode_own(value, f"values[{index}]") for index, value in enumerate(values)]


def _encode_own(value: object, path: str) -> bytes:
    """Encode a value of built-in types that nothing else can change."""
    encoded = _encode_quickly(value)
    return _encode_slowly(value, path) if encoded is None else encoded


def decode(text: bytes | str, long_integers: list[str] | None = None) -> Any:
    """Decode JSON text.

    Reads whatever Python's own `json` module writes, so also NaN tokens, lone surrogates and integers of any size.

    Args:
        text: JSON text.
        long_integers: Takes the digits of integers so long that they would take most of the time; 0 stands for them in the result. Default
            None: all are read.

    Raises:
        ValueError: The text is not JSON, or nested too deep.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    # What `may_hold_long_number` does, spelled out: the call would take three percent of a get from memory.
    if data[::4].translate(_DIGITS).find(b"0000") < 0 or data.translate(_DIGITS).find(_LONG_NUMBER) < 0:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    try:
        value = json.loads(text, parse_int=partial(_parse_int, long_integers))
        if data.count(b"[") + data.count(b"{") > _DEEPEST and _is_deeper(value, _DEEPEST):
            raise RecursionError
    except RecursionError:
        raise ValueError("The JSON text is nested too deep") from None
    return value


def decode_many(texts: Sequence[bytes]) -> list[Any]:
    """Decode texts that `encode` returned, all at once."""
    joined = b"[%b]" % b",".join(texts)
    return [decode(text) for text in texts] if may_hold_long_number(joined) else orjson.loads(joined)


def copy_value(value: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a value that a store returned, as deep as `decode` reads."""
    try:
        return marshal.loads(marshal.dumps(value))  # noqa: S302 # written the moment before. deepcopy() fails below 500 levels
    except ValueError:  # a store that is not of this library may return other types
        return copy.deepcopy(value)


def _is_deeper(value: object, levels: int) -> bool:
    """Return whether containers are nested deeper than some levels."""
    level = [value]
    for _ in range(levels + 1):
        below: list[object] = []
        for one in level:
            if isinstance(one, dict):
                below += cast("dict[str, object]", one).values()
            elif isinstance(one, list):
                below += cast("list[object]", one)
        if not below:
            return False
        level = below
    return True


def may_hold_long_number(data: bytes) -> bool:
    """Return whether JSON text may hold an integer beyond 64 bits, which not every decoder reads exactly."""
    # orjson reads integers beyond 64 bits as floats. Of 19 digits in a row, at least four lie at every fourth place.
    return data[::4].translate(_DIGITS).find(b"0000") >= 0 and data.translate(_DIGITS).find(_LONG_NUMBER) >= 0


# int(), str() and Decimal() take quadratic time (300,000 digits: seconds), and the first two refuse what is longer than a limit. So long
# integers are converted in parts: with Karatsuba's multiplication in n ** 1.58 one way, with that of Decimal in about n the other.


def _parse_int(long_integers: list[str] | None, digits: str) -> int:
    if len(digits) <= _CHUNK:
        return int(digits)
    if long_integers is not None:
        long_integers.append(digits)
        return 0
    sign, digits = (-1, digits[1:]) if digits[0] == "-" else (1, digits)
    return sign * _join_digits([int(digits[max(end - _CHUNK, 0) : end]) for end in range(len(digits), 0, -_CHUNK)], 10**_CHUNK)


def _format_int(number: int) -> str:
    if number.bit_length() < 2000:  # fewer than 640 digits
        return str(number)
    data = abs(number).to_bytes(number.bit_length() // 8 + 1, "little")
    parts = [Decimal(int.from_bytes(data[start : start + _CHUNK], "little")) for start in range(0, len(data), _CHUNK)]
    with localcontext(Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)):
        return ("-" if number < 0 else "") + format(_join_digits(parts, Decimal(256**_CHUNK)), "f")


def _join_digits(parts: list[N], base: N) -> N:
    """Return the number with some digits in a base, the lowest first."""
    while len(parts) > 1:
        parts = [low + high * base for low, high in zip_longest(parts[::2], parts[1::2], fillvalue=base - base)]
        if len(parts) > 1:
            base = base * base
    return parts[0]


def _is_larger(value: object, limit: float) -> bool:
    """Return whether a value of any types is larger than a limit, roughly, without looking at more than decides it."""
    if limit == inf:
        return False
    size = 0.0
    left = [value]
    while left and size <= limit:
        one = left.pop()
        size += 32 + (len(one) if isinstance(one, str | bytes) else 0)  # what lies beside a text costs the slow path about as much
        if isinstance(one, Mapping):
            left += cast("Mapping[object, object]", one).keys()
            left += cast("Mapping[object, object]", one).values()
        elif isinstance(one, list | tuple):
            left += cast("Sequence[object]", one)
    return size > limit


def _encode_stable(value: object, path: str) -> bytes:
    """Encode a value of any types, which another thread may change meanwhile: until two passes, which take their time, agree."""
    before = b""
    for _ in range(_PASSES):
        try:
            encoded = _encode_slowly(value, path)
        except RuntimeError as error:
            if "during iteration" not in str(error):
                raise
            continue  # a dictionary or the like changed its size
        if encoded == before:
            return encoded
        before = encoded
    raise _refusal(path, "changes all the time; give a copy")


Place = str | tuple["Place", object, int]
"""Where something is in a value: what messages call the value; or the place of its container, its key or index there, and its position."""


def _encode_slowly(value: object, place: Place = "value", above: tuple[int, ...] = ()) -> bytes:
    """Encode a value of any types that JSON has a form for, or raise an error that names the place of what it has none for."""
    if value is None or value is True or value is False:
        return orjson.dumps(value)
    if isinstance(value, Enum):
        raise _refusal(place, "is an enum member; store its value or its name")
    if isinstance(value, str):
        encoded = _encode_text(value)
        if encoded is None:
            raise _refusal(place, _HALF_A_CHARACTER)
        return encoded
    if isinstance(value, int):
        return _format_int(int.__index__(value)).encode()
    if isinstance(value, float):
        if not isfinite(value):
            raise _refusal(place, "is not a finite number; store None or a string")
        return orjson.dumps(float.__float__(value))
    if not isinstance(value, (Mapping, list, tuple)):
        raise _refusal(place, f"is of type {type(value).__name__}, which JSON has no form for; {wording.suggest_conversion(value)}")
    container = cast("object", value)
    if id(container) in above:
        raise _refusal(place, "is one of the containers that it is in; circular references can't be stored")
    if len(above) == MAX_DEPTH:
        raise _refusal(place, f"is nested more than {MAX_DEPTH} levels deep")
    above = (*above, id(container))
    if not isinstance(value, Mapping):
        items = cast("list[object]", value)
        return b"[%b]" % b",".join([_encode_slowly(item, (place, index, index), above) for index, item in enumerate(items)])
    members: list[bytes] = []
    for position, (key, item) in enumerate(cast("Mapping[object, object]", value).items()):
        if not isinstance(key, str) or isinstance(key, Enum):
            raise _refusal(place, f"has a key of type {type(key).__name__} (key #{position + 1}); JSON takes only strings")
        name = _encode_text(key)
        if name is None:
            raise _refusal(place, f"has a key (key #{position + 1}) that {_HALF_A_CHARACTER}")
        members.append(b"%b:%b" % (name, _encode_slowly(item, (place, key, position), above)))
    return b"{%b}" % b",".join(members)


def _encode_text(text: str) -> bytes | None:
    """Encode text, or return None if it can't be."""
    try:
        return orjson.dumps(str.__str__(text))
    except TypeError:
        return None


def told(place: Place) -> str:
    """Return what messages call a place.

    A key that is long or odd may be data, even a secret, so its position stands for it. Of a place a long way down, the ends are told.
    """
    steps: list[str] = []
    while not isinstance(place, str):
        place, key, position = place
        if isinstance(key, str):
            steps.append(f"['{str.__str__(key)}']" if _SHOWN_KEY(key) else f"[key #{position + 1}]")
        else:
            steps.append(f"[{position}]")
    text = place + "".join(reversed(steps))
    return text if len(text) <= 200 else f"{text[:100]} … {text[-80:]}"


def _refusal(place: Place, what: str) -> SerializationError:
    return SerializationError(f"Could not serialize the value: {told(place)} {what}")
