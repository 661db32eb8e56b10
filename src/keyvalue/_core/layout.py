"""Under which names pairs of collection and key lie in a flat store.

Most pairs have one *slot*. Some have several, because py-key-value-aio gives different pairs the same name. Which ones, and what a call
does about them, is in `keyvalue._core.legacy`.
"""

from __future__ import annotations

import hashlib
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

__all__ = ["CompoundLayout", "FittingLayout", "KeyLayout", "Slot", "digest", "digest_of", "is_settled"]


class Slot(NamedTuple):
    """A name under which the document of a pair may lie.

    Attributes:
        name: The name.
        kind: "own": no other pair's document lies there. "shared": it may; a document that names no pair is the pair's. "strict": it may,
            and only a document that names the pair is the pair's.
    """

    name: str
    kind: Literal["own", "shared", "strict"] = "own"


class KeyLayout(ABC):
    """Where the documents of a flat store lie."""

    @abstractmethod
    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        """Return the slots of a pair. At least one is its own; those behind that are only read and cleared."""

    @abstractmethod
    def prefixes(self, collection: str) -> Sequence[str]:
        """Return what the names of all slots of a collection's pairs start with; none of them starts with another."""

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        """Return the names of pairs that all have one slot, or None if some have more."""
        return None


class CompoundLayout(KeyLayout):
    """The names `<collection>::<key>`, which is how py-key-value-aio names pairs.

    A name is read back by splitting it at the first `::`, so a collection that holds `::` or ends with `:` would be mistaken for another.
    Such a pair's own slot is `<collection>~:<key>`, where in both parts `~` is written `~0` and `:` is written `~1`: no such name holds
    `::`, and no two pairs share one. py-key-value-aio puts those pairs under the plain name too; so that slot is read, and cleared, but
    never written. A pair with a plain name that such a pair may have taken has a slot of that form too, while it is taken.
    """

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        """Return the slots of a pair."""
        plain = f"{collection}::{key}"
        if _is_mistakable(collection):
            return Slot(_escape(collection, key)), Slot(plain, "strict")
        if _is_contested(key):
            return Slot(plain, "shared"), Slot(_escape(collection, key))
        return (Slot(plain),)

    def prefixes(self, collection: str) -> Sequence[str]:
        """Return what the names of a collection start with."""
        return f"{collection}::", _escape(collection, "")

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        """Return the plain names of pairs, if these are all that they can have."""
        if ":" in collection and _is_mistakable(collection):
            return None
        for key in keys:
            if ":" in key and _is_contested(key):
                return None
        return [f"{collection}::{key}" for key in keys]


class FittingLayout(CompoundLayout):
    """Compound names for a backend that can't hold all of them: where a pair's own name does not fit, its digest stands for it.

    Args:
        fits: Returns whether the backend can hold a name.
    """

    def __init__(self, fits: Callable[[str], bool]) -> None:
        self._fits = fits

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        """Return the slots of a pair."""
        found: list[Slot] = []
        for slot in super().slots(collection, key):
            if self._fits(slot.name):
                found.append(slot)
            elif slot.kind == "own":
                found.append(Slot(digest_of(collection, key)))
        return found

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        """Return the names of pairs that all have one slot, or None if some have more."""
        names = super().direct_names(collection, keys)
        if names is None or all(map(self._fits, names)):
            return names
        return [name if self._fits(name) else digest_of(collection, key) for name, key in zip(names, keys, strict=True)]


def _is_mistakable(collection: str) -> bool:
    return "::" in collection or collection.endswith(":")


def _is_contested(key: str) -> bool:
    return "::" in key or key.startswith(":")


def _escape(collection: str, key: str) -> str:
    return f"{collection.replace('~', '~0').replace(':', '~1')}~:{key.replace('~', '~0').replace(':', '~1')}"


def digest(text: str) -> str:
    """Return `~` and the 64 hexadecimal digits of the SHA-256 of a text in UTF-8: a name for what a backend can't name."""
    return "~" + hashlib.sha256(text.encode()).hexdigest()


def digest_of(collection: str, key: str) -> str:
    """Return the digest of `<characters in the collection>:<collection>:<key>`, which no two pairs have in common."""
    return digest(f"{len(collection)}:{collection}:{key}")


def is_settled(text: str) -> bool:
    """Return whether all characters are of an old Unicode (3.2), so that Python and servers of any version agree about them."""
    return text.isascii() or all(unicodedata.ucd_3_2_0.category(character) != "Cn" for character in text)
