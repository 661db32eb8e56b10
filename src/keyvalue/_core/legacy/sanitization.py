"""How py-key-value-aio turns keys and collections into names that a backend takes.

What these strategies return is where a store looks first, so that old data is found. It may be the same for different names (a
long one is cut, a hash is cut to 32 bits), so stores do not rely on it: an entry keeps its own names, and if another one lies at its place
it goes elsewhere (see `keyvalue._core.layout`).
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from enum import Enum
from string import ascii_letters, digits
from typing import Protocol, runtime_checkable

from keyvalue._core import wording
from keyvalue.errors import InvalidKeyError

__all__ = [
    "ALPHANUMERIC",
    "AlwaysHashStrategy",
    "HashExcessLengthStrategy",
    "HashFragmentMode",
    "HybridSanitizationStrategy",
    "PassthroughStrategy",
    "SanitizationStrategy",
    "namer",
]

ALPHANUMERIC = ascii_letters + digits


@runtime_checkable
class SanitizationStrategy(Protocol):
    """A sanitization strategy: any object with this method, such as one of py-key-value-aio."""

    def sanitize(self, value: str) -> str:
        """Return the name for a key or a collection."""
        ...


_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def namer(strategy: SanitizationStrategy | None, parameter: str) -> Callable[[str], str] | None:
    """Return the function that sanitizes names, or None without a strategy.

    Args:
        strategy: The strategy. Its method may take the name by position or, as py-key-value-aio passes it, as `value` only.
        parameter: Where it was passed, for messages.

    Raises:
        TypeError: It has no method `sanitize` that takes a name.
    """
    if strategy is None:
        return None
    sanitize = getattr(strategy, "sanitize", None)
    if not callable(sanitize) or isinstance(strategy, type):
        raise TypeError(f"{parameter} must be an object with a method sanitize(name), not {wording.describe(strategy)}")
    try:
        signature = inspect.signature(sanitize)
    except ValueError:  # of what is written in C
        by_position = True
    else:
        taken = {parameter.kind for parameter in signature.parameters.values()}
        by_position = not taken.isdisjoint(_BY_POSITION)

    def name(value: str) -> str:
        found = sanitize(value) if by_position else sanitize(value=value)
        if not isinstance(found, str):
            raise TypeError(f"{type(strategy).__name__}.sanitize must return a str, not {wording.describe(found)}")
        return found

    return name


class HashFragmentMode(str, Enum):
    """When a part of the name's hash is appended to it."""

    ALWAYS = "always"
    NEVER = "never"
    ONLY_IF_CHANGED = "only_if_changed"


class _PlainStrategy:
    """What py-key-value-aio's strategies can besides. Stores need neither: they tell apart all names."""

    def validate(self, value: str) -> None:
        """Accept any name."""

    def try_unsanitize(self, value: str) -> str | None:
        """Return what was named so, or None if that is lost."""
        return value


class _PrefixingStrategy(_PlainStrategy):
    def validate(self, value: str) -> None:
        """Refuse a name that looks like one that was made here.

        Raises:
            InvalidKeyError: It starts with `H_` or `S_`.
        """
        if value.startswith(("H_", "S_")):
            raise InvalidKeyError("A name may not start with 'H_' or 'S_', as names do that a strategy made")

    def try_unsanitize(self, value: str) -> str | None:
        """Return None: the original name is lost."""
        return None


class PassthroughStrategy(_PlainStrategy):
    """Leaves names as they are."""

    def sanitize(self, value: str) -> str:
        """Return the name."""
        return value


class AlwaysHashStrategy(_PlainStrategy):
    """Names everything by its SHA-256, in hexadecimal.

    Args:
        hash_length: How many of the 64 digits are kept. Default 64.

    Raises:
        ValueError: `hash_length` is not between 9 and 64.
    """

    def __init__(self, hash_length: int = 64) -> None:
        if not 8 < hash_length <= 64:
            raise ValueError("hash_length must be between 9 and 64")
        self.hash_length = hash_length

    def sanitize(self, value: str) -> str:
        """Return the digits."""
        return _sha256(value)[: self.hash_length]


class HashExcessLengthStrategy(_PrefixingStrategy):
    """Names by its SHA-256 what is too long.

    Args:
        max_length: Characters that are not too long. Default 240.
    """

    def __init__(self, max_length: int = 240) -> None:
        self.max_length = max_length

    def sanitize(self, value: str) -> str:
        """Return the name, or if it is too long, `H_` and the digits."""
        return value if len(value) <= self.max_length else "H_" + _sha256(value)[: self.max_length - 2]


class HybridSanitizationStrategy(_PrefixingStrategy):
    """Replaces characters, cuts what is too long, and appends a part of the SHA-256 to what was changed.

    Args:
        max_length: Characters that a name may have. Default 240.
        allowed_characters: Those that are not replaced. None, the default, means all.
        replacement_character: What a run of other characters is replaced by. Default `_`.
        hash_fragment_mode: When a part of the hash is appended. Default `ONLY_IF_CHANGED`: when characters were replaced.
        hash_fragment_length: How many hexadecimal digits of it. Default 8.
    """

    def __init__(
        self,
        max_length: int = 240,
        allowed_characters: str | None = None,
        replacement_character: str = "_",
        hash_fragment_mode: HashFragmentMode = HashFragmentMode.ONLY_IF_CHANGED,
        hash_fragment_length: int = 8,
    ) -> None:
        self.max_length = max_length
        self.allowed_characters = allowed_characters
        self.replacement_character = replacement_character
        self.hash_fragment_mode = hash_fragment_mode
        self.hash_fragment_length = hash_fragment_length

    def sanitize(self, value: str) -> str:
        """Return the name: as it is, or `S_` and what was made of it."""
        replaced = value if not self.allowed_characters else self._replaced(value, self.allowed_characters)
        mode = self.hash_fragment_mode
        if mode == HashFragmentMode.ALWAYS or (mode == HashFragmentMode.ONLY_IF_CHANGED and replaced != value):
            fragment = _sha256(value)[: self.hash_fragment_length]
            return f"S_{_cut(replaced, self.max_length - 3 - self.hash_fragment_length)}-{fragment}"
        cut = _cut(replaced, self.max_length)
        return cut if cut == value else "S_" + _cut(cut, self.max_length - 2)

    def _replaced(self, value: str, allowed: str) -> str:
        result: list[str] = []
        in_run = False
        for character in value:
            keeps = character in allowed
            if keeps or not in_run:
                result.append(character if keeps else self.replacement_character)
            in_run = not keeps
        # What is nothing but one run comes out empty.
        return "" if in_run and len(result) == 1 else "".join(result)


def _cut(text: str, length: int) -> str:
    # With a negative length py-key-value-aio cuts from the end, as slicing does.
    return text if len(text) <= length else text[:length]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
