"""Compound names of which several pairs may have the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keyvalue._core.layout import CompoundLayout, FittingLayout, Slot, digest_of

__all__ = ["SharedLayout"]

Namer = Callable[[str], str]


class SharedLayout(FittingLayout):
    """Compound names as sanitization strategies change them, or as a backend mixes them up.

    Where a pair's name does not fit, or may be another pair's too, its own slot is a digest.

    Args:
        fits: Returns whether the backend can hold a name.
        sanitize_collection: Returns what stands for a collection; None if it does itself.
        sanitize_key: Returns what stands for a key; None if it does itself.
        sanitize_name: Returns what stands for `<collection>::<key>`; None if that does itself.
        is_unique: Whether only names that `sanitize_name` changes may be those of several pairs.
    """

    def __init__(
        self,
        fits: Callable[[str], bool],
        *,
        sanitize_collection: Namer | None = None,
        sanitize_key: Namer | None = None,
        sanitize_name: Namer | None = None,
        is_unique: bool = False,
    ) -> None:
        super().__init__(fits)
        self._sanitize_collection = sanitize_collection or str
        self._sanitize_key = sanitize_key or str
        self._sanitize_name = sanitize_name or str
        self._is_unique = is_unique

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        """Return the slots of a pair."""
        found: list[Slot] = []
        for name, kind in CompoundLayout.slots(self, self._sanitize_collection(collection), self._sanitize_key(key)):
            used = self._sanitize_name(name) if "::" in name else name
            is_shared = kind != "own" or used != name or not self._is_unique
            fits = self._fits(used)
            if fits:
                found.append(Slot(used, "shared" if is_shared and kind == "own" else kind))
            if kind == "own" and (is_shared or not fits):
                found.append(Slot(digest_of(collection, key)))
        return found

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        """Return the names of pairs that all have one slot, or None if some have more."""
        if not self._is_unique:
            return None
        slots = [self.slots(collection, key) for key in keys]
        return [slot.name for (slot, *_) in slots] if all(len(some) == 1 for some in slots) else None
