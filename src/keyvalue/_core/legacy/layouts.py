"""Compound names for backends that can't hold all of them, and for sanitization strategies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from keyvalue._core.layout import CompoundLayout, Slot, digest_of

__all__ = ["FittingLayout"]


class FittingLayout(CompoundLayout):
    """Compound names for a backend that can't hold all of them.

    Where a pair's name does not fit, or may be shared, its own slot is a digest.

    Args:
        is_plain: Whether pairs lie under the names themselves, each under its own.
        is_sharing: Whether any two pairs may have one name, as sanitization or the backend has it.
    """

    def __init__(self, *, is_plain: bool, is_sharing: bool) -> None:
        self._is_plain = is_plain
        self._is_sharing = is_sharing

    @abstractmethod
    def _fits(self, name: str) -> bool:
        """Return whether the backend can hold a name."""

    def _split(self, collection: str, key: str) -> tuple[str, str]:
        """Return the parts of a name."""
        return collection, key

    def _sanitize(self, name: str) -> str:
        """Return what is in use for a name."""
        return name

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        """Return the slots of a pair."""
        found: list[Slot] = []
        for name, kind in super().slots(*self._split(collection, key)):
            used = self._sanitize(name)
            is_shared = kind != "own" or self._is_sharing or used != name
            fits = self._fits(used)
            if fits:
                found.append(Slot(used, "shared" if is_shared and kind == "own" else kind))
            if kind == "own" and (is_shared or not fits):
                found.append(Slot(digest_of(collection, key)))
        return found

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        """Return the names of pairs that all have one slot, or None if some have more."""
        names = super().direct_names(collection, keys)
        if names is None or (self._is_plain and all(map(self._fits, names))):
            return names
        slots = [self.slots(collection, key) for key in keys]
        return [slot.name for (slot, *_) in slots] if all(len(some) == 1 for some in slots) else None
