"""Checks of what constructors take, done before anything else happens. Messages name types, never values: these may be secret."""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
import warnings
from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat, TypeVar, cast

from keyvalue._core import arguments, clock, wording
from keyvalue.errors import InvalidTTLTypeError

__all__ = [
    "check_count",
    "check_header",
    "check_integer",
    "check_port",
    "check_seconds",
    "check_ttl",
    "check_types",
    "require_one_of",
]

F = TypeVar("F", bound=Callable[..., None])


def check_ttl(ttl: SupportsFloat, what: str, *, or_else: float | None = None) -> float:
    """Check a time to live that a constructor takes.

    Args:
        ttl: Seconds.
        what: The name of the argument.
        or_else: A number that is taken as it is, though no TTL.

    Returns:
        The seconds.

    Raises:
        InvalidTTLError: As for `expiry_from_ttl`; it names the argument.
    """
    if or_else is not None and ttl == or_else and not isinstance(ttl, bool):
        return or_else
    if arguments.expiry_from_ttl(ttl, clock.now(), {"argument": what}) is None:
        raise InvalidTTLTypeError(ttl, {"argument": what})
    return float(ttl)


def check_count(value: int | None, what: str) -> None:
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
    if not isinstance(value, int) or (isinstance(value, bool) and arguments.CHECK_TYPES):
        raise TypeError(f"{what} must be an int or None, not {wording.describe(value)}")
    if value < 1:
        raise ValueError(f"{what} must be at least 1; leave it out for no limit")


def require_one_of(owner: str, given: Mapping[str, object]) -> None:
    """Check that exactly one of some arguments is given.

    Args:
        owner: The class that takes the arguments, for the message.
        given: Their values by name; what is None or an empty string is not given.

    Raises:
        ValueError: None is, or more than one.
    """
    empty = [name for name, value in given.items() if value == ""]
    if len(empty) == 1 and all(value is None or value == "" for value in given.values()):
        raise ValueError(f"{owner}: {empty[0]} is empty")
    if sum(value is not None and value != "" for value in given.values()) != 1:
        raise ValueError(f"Give {owner} exactly one of: {', '.join(given)}")


def check_seconds(value: float, what: str) -> float:
    """Check a duration.

    Args:
        value: Its seconds.
        what: The name of the argument.

    Raises:
        TypeError: It is not a number.
        ValueError: It is not positive.
    """
    if not hasattr(value, "__float__"):
        raise TypeError(f"{what} must be a number of seconds, not {wording.describe(value)}")
    if not value > 0:
        raise ValueError(f"{what} must be a positive number of seconds")
    return value


def check_header(owner: str, name: str, value: str | None) -> None:
    """Check a credential that HTTP headers hold, without showing it, as the clients' own errors do.

    Args:
        owner: The class it belongs to, for the message.
        name: The name of the argument.
        value: The credential, or None.

    Raises:
        ValueError: No header can hold it, or it is empty.
    """
    if value is not None and not (value.isascii() and value.isprintable() and value and " " not in value):
        what = "holds a space, a line break or another character that it can't have; strip what you read" if value else "is empty"
        raise ValueError(f"The {name} of {owner} {what}")


def check_integer(owner: str, name: str, value: int, least: int, most: int | None = None) -> int:
    """Check an integer, such as a port.

    Args:
        owner: The class it belongs to, for the message.
        name: The name of the argument.
        value: The integer.
        least: The least that it may be.
        most: The most that it may be. None: any.

    Raises:
        TypeError: It is not an int.
        ValueError: It is out of range.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} of {owner} must be an int, not {wording.describe(value)}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name} of {owner} must be {f'at least {least}' if most is None else f'from {least} to {most}'}")
    return value


def check_port(owner: str, value: int) -> int:
    """Check a port; see `check_integer`."""
    return check_integer(owner, "port", value, 1, 65535)


def check_types(constructor: F) -> F:
    """Make a constructor warn about arguments of the wrong type, naming types only, and say which ones it takes if they are others.

    If the constructor can't go on with such an argument, its error is all that is reported.

    Plain classes are checked here; for other annotations beartype is asked, which is imported only then (it takes about 0.2 s).
    """
    if not arguments.CHECK_TYPES:
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
                # If a dict does not fit dict[str, int], its contents are wrong, not its type.
                is_inside = any(isinstance(value, origin) for origin in _origins(hints[parameter]))
                problem = f"does not fit {wanted}" if is_inside else f"should be {wanted}, not {wording.describe(value)}"
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


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _origins(hint: Any) -> list[type]:
    """Return the generic classes of the parametrized forms in a hint."""
    return [origin for option in _alternatives(hint) if isinstance(origin := typing.get_origin(option), type)]


def _fits(value: object, hint: Any) -> bool:
    options = _alternatives(hint)
    plain = tuple(option for option in options if type(option) is type)
    if float in plain and type(value) is int:  # as for type checkers
        return True
    if isinstance(value, plain) and not (isinstance(value, bool) and bool not in plain):
        return True
    if len(plain) == len(options):
        return False
    from beartype.door import is_bearable  # noqa: PLC0415 # beartype takes long to import

    return is_bearable(value, hint)
