"""Checks of what callers pass in, done before anything else happens.

The checks of the protocol's arguments look at every element and name the type, never the value: it may be a secret. Wrong types raise
`TypeError`; with `KEYVALUE_DISABLE_BEARTYPE=true` (or `PY_KEY_VALUE_DISABLE_BEARTYPE`) in the environment at import, no types are
checked, and what can't be used raises the error of its argument (`InvalidKeyError`, `SerializationError`, `InvalidTTLError`).
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import inspect
import os
import re
import sys
import time
import types
import typing
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from math import ceil, isfinite
from pathlib import Path
from typing import Any, SupportsFloat, TypeVar, cast
from urllib.parse import urlsplit

from keyvalue._core import clock
from keyvalue._core.files import OWNER_ONLY, Directory, is_directory, refusal
from keyvalue.errors import ExtraInfoType, InvalidKeyError, InvalidTTLError, InvalidTTLTypeError, SerializationError

__all__ = [
    "advice",
    "article",
    "checked",
    "count",
    "deadline",
    "directory",
    "header",
    "hides_credentials",
    "host",
    "integer",
    "limit_of",
    "mapping",
    "mappings",
    "name",
    "names",
    "one_of",
    "port",
    "refuse_file_mode",
    "seconds",
    "ttl_argument",
    "url",
    "with_article",
]

F = TypeVar("F", bound=Callable[..., None])
T = TypeVar("T")

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

_UNRESOLVABLE = "the name of the host can't be one; each of its parts has 1 to 63 characters"
_HOST = r"(?:\[[^]/?#@]*\]|[^]\[:,/?#@\s]+)(?::\d*)?"
_AT_IN_OPTION = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[^/?#@]*)?\?[\w.-]+=[^&#]*(?:&[\w.-]+=[^&#]*)*&?")
"""What follows the scheme and the user of a URL: hosts, a path of one part at most, and options; their values may hold `@`."""


def name(value: str, what: str) -> str:
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
        problem = f"The {what} must be a str, not {article(value)}"
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


def names(keys: Sequence[str]) -> list[str]:
    """Check a sequence of keys, every one of them.

    Raises:
        TypeError: It is not a sequence, or a str, or holds something that is not a str.
        InvalidKeyError: A key is empty or does not encode as UTF-8.
    """
    if isinstance(keys, str | bytes) or not isinstance(keys, Sequence):
        advice = "; put_many takes the keys and the values of a mapping apart" if isinstance(keys, Mapping) else ""
        raise TypeError(f"The keys must be a sequence of str, such as a list, not {article(keys)}{advice}")
    if set(map(type, keys)) == _ONLY_STR and all(keys) and "".join(keys).isascii():
        return list(keys)
    try:
        return [name(key, "key") for key in keys]
    except (TypeError, InvalidKeyError):
        for index, key in enumerate(keys):  # once more, to say which one
            name(key, f"key keys[{index}]")
        raise


def mapping(value: Mapping[str, Any], what: str = "value") -> None:
    """Check that a value is a mapping.

    Args:
        value: The value.
        what: What the message calls it.

    Raises:
        TypeError: It is not.
    """
    if type(value) is not dict and not isinstance(value, Mapping):
        problem = f"The {what} must be a mapping with string keys, such as a dict, not {article(value)}; {advice(value, is_whole=True)}"
        raise TypeError(problem) if CHECK_TYPES else SerializationError(f"Could not serialize the value. {problem}")


def mappings(values: Sequence[Mapping[str, Any]], count: int) -> None:
    """Check a sequence of values, every one of them.

    Raises:
        TypeError: It is not a sequence of mappings.
        ValueError: There are not `count` of them.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise TypeError(f"The values must be a sequence of mappings, such as a list, not {article(values)}")
    if len(values) != count:
        raise ValueError(f"There must be one value for each key, but there are {count} keys and {len(values)} values")
    if set(map(type, values)) != _ONLY_DICT:
        for index, value in enumerate(values):
            mapping(value, f"value values[{index}]")


def deadline(ttl: SupportsFloat | None, now: float, info: ExtraInfoType | None = None) -> float | None:
    """Turn a time to live into the moment at which it ends.

    Args:
        ttl: Seconds, or None for ever.
        now: Seconds since the epoch.
        info: Facts for the error.

    Returns:
        Seconds since the epoch, rounded up to a microsecond (the resolution of the stored dates).

    Raises:
        InvalidTTLError: It is not a positive, finite number, or ends in the year 10000 or later, or is within 366 days of the current time
            in seconds since the epoch, and so a moment by mistake. Also a TypeError if it is no number.
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


def ttl_argument(ttl: SupportsFloat, what: str, *, or_else: float | None = None) -> float:
    """Check a time to live that a constructor takes.

    Args:
        ttl: Seconds.
        what: The name of the argument.
        or_else: A number that is taken as it is, though no TTL.

    Returns:
        The seconds.

    Raises:
        InvalidTTLError: As for `deadline`; it names the argument.
    """
    if or_else is not None and ttl == or_else and not isinstance(ttl, bool):
        return or_else
    if deadline(ttl, clock.now(), {"argument": what}) is None:
        raise InvalidTTLTypeError(ttl, {"argument": what})
    return float(ttl)


def limit_of(limit: int | None) -> int | None:
    """Check the limit of a listing.

    Raises:
        TypeError: It is not an int.
        ValueError: It is negative.
    """
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"The limit must be an int or None, not {article(limit)}")
    if limit < 0:
        raise ValueError("The limit must not be negative; leave it out to list everything")
    return limit


def count(value: int | None, what: str) -> None:
    """Check a number of entries that limits a store.

    Args:
        value: The number; None for no limit.
        what: The name of the argument.

    Raises:
        TypeError: It is not an int.
        ValueError: It is not positive.
    """
    if value is None:
        return
    if not isinstance(value, int) or (isinstance(value, bool) and CHECK_TYPES):
        raise TypeError(f"{what} must be an int or None, not {article(value)}")
    if value < 1:
        raise ValueError(f"{what} must be at least 1; leave it out for no limit")


def one_of(owner: str, given: Mapping[str, object]) -> None:
    """Check that exactly one of some arguments is given.

    Args:
        owner: Whose arguments, for the message.
        given: Their values by name; what is None or an empty string is not given.

    Raises:
        ValueError: None is, or more than one.
    """
    empty = [name for name, value in given.items() if value == ""]
    if len(empty) == 1 and all(value is None or value == "" for value in given.values()):
        raise ValueError(f"{owner}: {empty[0]} is empty")
    if sum(value is not None and value != "" for value in given.values()) != 1:
        raise ValueError(f"Give {owner} exactly one of: {', '.join(given)}")


def directory(path: str | Path, auto_create: bool, file_mode: int | None) -> Directory:
    """Return a directory under its absolute path, so that the process may change its own.

    A leading `~` and variables such as `$HOME` are expanded, unless there is a directory of just that name.

    Args:
        path: The directory.
        auto_create: Whether it may be missing.
        file_mode: The mode of new files in it. None means its owner's only.

    Raises:
        TypeError: The path or the mode is of a wrong type.
        ValueError: The directory is missing or may not be looked at, its path can't be encoded or expanded, or the mode is not one
            for files that their owner uses.
    """
    mode = _mode(file_mode)
    if not isinstance(path, str | Path):
        raise TypeError(f"The directory must be a str or a Path, not {article(path)}")
    literal, expanded = str(path), os.path.expandvars(os.path.expanduser(path))
    if not literal:
        raise ValueError("The directory is an empty str; give its path, which is '.' for the current one")
    if "\0" in literal:
        raise ValueError(f"The directory {literal!r} holds NUL, which no path can")
    if expanded.startswith("~") and not os.path.isdir(literal):
        user = expanded[1:].replace(os.sep, "/").partition("/")[0]
        raise ValueError(
            f"The directory {literal!r} can't be expanded: {f'there is no user {user!r}' if user else 'this user has no home directory'}; "
            f"give the whole path, or './{literal}' for a directory of that name"
        )
    unset = [variable for name in re.findall(r"\$(\w+|\{\w+\})", literal, re.ASCII) if (variable := name.strip("{}")) not in os.environ]
    if unset and not os.path.isdir(literal):
        raise ValueError(
            f"The directory {literal!r} can't be expanded: {unset[0]} is not set in the environment; set it, or make a directory of just "
            "that name"
        )
    found = absolute(literal if expanded == literal or os.path.isdir(literal) else expanded)
    try:
        os.fsencode(found)
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        advice = "; set PYTHONUTF8=1 or a UTF-8 locale" if encoding != "utf-8" else ""
        raise ValueError(f"The directory {found!a} can't be encoded as {encoding}, the encoding of file names here{advice}") from None
    if not auto_create:
        try:
            is_there = is_directory(found)
        except OSError as error:
            raise ValueError(f"The directory {found!r} can't be used: {refusal(error)}") from error
        if not is_there:
            raise ValueError(f"The directory {found!r} does not exist; create it, or leave out auto_create=False")
    return Directory(found, auto_create, mode)


def refuse_file_mode(file_mode: int | None, given: str) -> None:
    """Check that no mode of files is given beside a client that has its own.

    Raises:
        ValueError: One is.
    """
    if file_mode is not None:
        raise ValueError(f"file_mode can't be combined with {given}: its files have modes already")


def _mode(file_mode: int | None) -> int:
    if file_mode is None:
        return OWNER_ONLY
    if not isinstance(file_mode, int):
        raise TypeError(f"file_mode must be an int such as 0o640, not {article(file_mode)}")
    if isinstance(file_mode, bool) or file_mode & ~0o666 or file_mode & 0o600 != 0o600:
        raise ValueError("file_mode must let the owner read and write, and hold read and write bits only, in octal: 0o600, 0o640 or 0o660")
    return file_mode


def absolute(path: str) -> str:
    """Return an absolute path; asks the system only about one that is not."""
    return path if os.path.isabs(path) else os.path.abspath(path)


def seconds(value: float, what: str) -> float:
    """Check a duration.

    Args:
        value: Its seconds.
        what: The name of the argument.

    Raises:
        TypeError: It is no number.
        ValueError: It is not positive.
    """
    if not hasattr(value, "__float__"):
        raise TypeError(f"{what} must be a number of seconds, not {article(value)}")
    if not value > 0:
        raise ValueError(f"{what} must be a positive number of seconds")
    return value


def url(owner: str, value: str, parse: Callable[[str], T | None], example: str) -> T:
    """Check a URL, without showing it: it may hold a password.

    Args:
        owner: Whose it is, for the message.
        value: The URL.
        parse: Returns what it says, or None if it can't be parsed.
        example: A right one, for the message.

    Returns:
        What it says.

    Raises:
        TypeError: It is not a str.
        ValueError: It can't be parsed.
    """
    if not isinstance(value, str):
        raise TypeError(f"The URL of {owner} must be a str, not {article(value)}")
    if value != value.strip():
        raise ValueError(f"{owner} can't parse the URL: it starts or ends with white space")
    if "://" not in value:
        raise ValueError(f"{owner} can't parse the URL; it should look like {example}, but has no scheme with `://`")
    said = None if (is_raw := hides_credentials(value)) else parse(value)
    if said is None and (is_raw or value.count("@") > 1 or re.search(r"[\[\]].*@", value)):
        raise ValueError(
            f"{owner} can't parse the URL: its user name or password holds a raw `/`, `?`, `#`, `[`, `]` or `@`; percent-encode it, as "
            "urllib.parse.quote(password, safe='') does"
        )
    if said is None:
        raise ValueError(f"{owner} can't parse the URL; it should look like {example}")
    for place in urlsplit(value).netloc.rpartition("@")[2].split(","):
        if "%" not in place and not _is_resolvable(place.rpartition(":")[0] or place):
            raise ValueError(f"{owner} can't use the URL: {_UNRESOLVABLE}")
    return said


def hides_credentials(url: str) -> bool:
    """Return whether a URL's user name or password holds a raw character that ends them for a parser, which takes a part for the host."""
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    place = host + rest[len(authority) :]
    is_path = not host and (scheme == "unix" or not authority)  # which may hold `@`
    return "@" in place and not is_path and not _AT_IN_OPTION.fullmatch(place)


def host(owner: str, value: str, instead: str) -> str:
    """Check the name or address of a server, without showing it: it may be a URL with a password.

    Args:
        owner: Whose it is, for the message.
        value: The host.
        instead: What to do with what is more than a host, for the message.

    Raises:
        TypeError: It is not a str.
        ValueError: It is not a host alone.
    """
    if not isinstance(value, str):
        raise TypeError(f"The host of {owner} must be a str, not {article(value)}")
    if not value or re.search(r"[\s/@]|^[^:]*:[^:]*$", value):
        raise ValueError(f"{owner}: the host must be a name or an address alone, such as localhost or 10.0.0.1; {instead}")
    if not _is_resolvable(value):
        raise ValueError(f"{owner}: {_UNRESOLVABLE}")
    return value


def _is_resolvable(name: str) -> bool:
    """Return whether Python can ask for the address of a name: it encodes it so first."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def header(owner: str, name: str, value: str | None) -> None:
    """Check a credential that HTTP headers hold, without showing it, as the clients' own errors do.

    Args:
        owner: Whose it is, for the message.
        name: The name of the argument.
        value: The credential, or None.

    Raises:
        ValueError: No header can hold it, or it is empty.
    """
    if value is not None and not (value.isascii() and value.isprintable() and value and " " not in value):
        what = "holds a space, a line break or another character that it can't have; strip what you read" if value else "is empty"
        raise ValueError(f"The {name} of {owner} {what}")


def integer(owner: str, name: str, value: int, least: int, most: int | None = None) -> int:
    """Check an integer, such as a port.

    Args:
        owner: Whose it is, for the message.
        name: The name of the argument.
        value: The integer.
        least: The least that it may be.
        most: The most that it may be. None: any.

    Raises:
        TypeError: It is not an int.
        ValueError: It is out of range.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} of {owner} must be an int, not {article(value)}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name} of {owner} must be {f'at least {least}' if most is None else f'from {least} to {most}'}")
    return value


def port(owner: str, value: int) -> int:
    """Check a port; see `integer`."""
    return integer(owner, "port", value, 1, 65535)


def checked(constructor: F) -> F:
    """Make a constructor warn about arguments of the wrong type, naming types only, and say which ones it takes if they are others.

    If the constructor can't go on with such an argument, its error is all that is reported.

    Plain classes are checked here; for other annotations beartype is asked, which is imported only then (it takes about 0.2 s).
    """
    if not CHECK_TYPES:
        return constructor
    signature = inspect.signature(constructor)
    owner = constructor.__qualname__.removesuffix(".__init__")
    hints: dict[str, Any] = {}

    @functools.wraps(constructor)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        outer = type(args[0]).__init__
        if outer is not wrapper and hasattr(outer, "is_checked"):  # it has checked what it hands on
            constructor(*args, **kwargs)
            return
        try:
            bound = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            names = list(signature.parameters)[1:]
            unknown = [name for name in kwargs if name not in names]
            problem = f"got an unexpected keyword argument {unknown[0]!r}" if unknown else str(error)
            by_name = "by name: " if signature.parameters[names[0]].kind is inspect.Parameter.KEYWORD_ONLY else ""
            raise TypeError(f"{owner}: {problem}; it takes {by_name}{', '.join(names)}") from None
        if len(bound) > 1 and not hints:
            hints.update(typing.get_type_hints(constructor))
        problems: list[str] = []
        for parameter, value in bound.items():
            if parameter in hints and not _fits(value, hints[parameter]):
                wanted = signature.parameters[parameter].annotation
                if hints[parameter] is bool and isinstance(value, str):  # "false" would count as true
                    raise TypeError(f"{owner}: {parameter} must be a bool, not a str")
                # Of a wrong dict for dict[str, int] it is what it holds that is wrong.
                is_inside = any(isinstance(value, origin) for origin in _origins(hints[parameter]))
                problem = f"does not fit {wanted}" if is_inside else f"should be {wanted}, not {article(value)}"
                problems.append(f"{owner}: {parameter} {problem}")
        try:
            constructor(*args, **kwargs)
        except (TypeError, AttributeError) as error:
            # The constructor's own check says more than the annotation; Python's error, such as "'<' not supported", says less.
            if not problems or re.search(r"\b(must|takes?)\b", str(error)):
                raise
            raise TypeError("; ".join(problems)) from None
        for problem in problems:
            warnings.warn(problem, UserWarning, stacklevel=2)

    vars(wrapper)["is_checked"] = True
    return cast("F", wrapper)


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _origins(hint: Any) -> list[type]:
    """Return the classes whose parametrized forms a hint names."""
    return [origin for option in _options(hint) if isinstance(origin := typing.get_origin(option), type)]


def _fits(value: object, hint: Any) -> bool:
    options = _options(hint)
    plain = tuple(option for option in options if type(option) is type)
    if float in plain and type(value) is int:  # as for type checkers
        return True
    if isinstance(value, plain) and not (isinstance(value, bool) and bool not in plain):
        return True
    if len(plain) == len(options):
        return False
    from beartype.door import is_bearable  # noqa: PLC0415 # beartype takes long to import

    return is_bearable(value, hint)


def article(value: object) -> str:
    """Return what a value is, for a message: the name of its type with its article."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "None" if value is None else with_article(type(value).__name__)


def advice(value: object, *, is_whole: bool = False) -> str:
    """Return what to do with something that JSON has no form for, or, if it is a whole value, with one that is not a mapping."""
    kind = type(value)
    adapter = ", or use a {} for the store" if is_whole else ""
    if hasattr(kind, "model_dump"):  # a model of pydantic, which need not be installed
        return f'store its model_dump(mode="json"){adapter.format("PydanticAdapter")}'
    if dataclasses.is_dataclass(kind):
        return f"store dataclasses.asdict() of it{adapter.format('DataclassAdapter')}"
    if inspect.isawaitable(value):
        return "await it first"
    if isinstance(value, type):
        return "give a value rather than its class"
    if is_whole:
        return 'store {"value": …} with it inside, or use a PydanticAdapter, which takes any type'
    if isinstance(value, bytes | bytearray | memoryview):
        return "store text, such as its base64"
    if isinstance(value, Collection):
        return "store a list"
    if isinstance(value, datetime.date | datetime.time):
        return "store its isoformat()"
    return "convert it first, for example with str()"


def with_article(name: str) -> str:
    """Return a name with its article."""
    if name == "bytes":
        return name
    return f"an {name}" if name[:1] in "aeioAEIO" else f"a {name}"
