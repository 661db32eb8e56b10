"""URLs and hosts of servers: checked without being shown, since they may hold a password."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from keyvalue._core import wording

__all__ = ["check_host", "has_raw_credentials", "parse_url"]

T = TypeVar("T")
_UNRESOLVABLE = "the name of the host can't be one; each of its parts has 1 to 63 characters"
_HOST = r"(?:\[[^]/?#@]*\]|[^]\[:,/?#@\s]+)(?::\d*)?"
_AT_IN_OPTION = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[^/?#@]*)?\?[\w.-]+=[^&#]*(?:&[\w.-]+=[^&#]*)*&?")
"""What follows the scheme and the user of a URL: hosts, a path of one part at most, and options; their values may hold `@`."""


def parse_url(owner: str, value: str, parse: Callable[[str], T | None], example: str) -> T:
    """Check a URL, without showing it: it may hold a password.

    Args:
        owner: The store, for the message.
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
        raise TypeError(f"The URL of {owner} must be a str, not {wording.describe(value)}")
    if value != value.strip():
        raise ValueError(f"{owner} can't parse the URL: it starts or ends with white space")
    if "://" not in value:
        raise ValueError(f"{owner} can't parse the URL; it should look like {example}, but has no scheme with `://`")
    said = None if (is_raw := has_raw_credentials(value)) else parse(value)
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


def has_raw_credentials(url: str) -> bool:
    """Return whether a URL's user name or password holds a raw character that ends them for a parser, which takes a part for the host."""
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    place = host + rest[len(authority) :]
    is_path = not host and (scheme == "unix" or not authority)  # which may hold `@`
    return "@" in place and not is_path and not _AT_IN_OPTION.fullmatch(place)


def check_host(owner: str, value: str, instead: str) -> str:
    """Check the name or address of a server, without showing it: it may be a URL with a password.

    Args:
        owner: The store, for the message.
        value: The host.
        instead: What to do with what is more than a host, for the message.

    Raises:
        TypeError: It is not a str.
        ValueError: It is not a host alone.
    """
    if not isinstance(value, str):
        raise TypeError(f"The host of {owner} must be a str, not {wording.describe(value)}")
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
