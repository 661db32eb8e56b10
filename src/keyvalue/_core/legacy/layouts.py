"""Compound names that several pairs may share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keyvalue._core.layout import CompoundLayout, Slot, digest_of

__all__ = ["SharedLayout"]

Namer = Callable[[str], str]


class SharedLayout(CompoundLayout):
    """Compound names for a sanitization strategy, which changes them, or for a backend that mixes them up.

    A pair has a digest for its own slot if its name does not fit, or if another pair may have the same name.

    Args:
        fits: Returns whether the backend can hold a name.
        sanitize_collection: Returns what stands for a collection; None if it does itself.
        sanitize_key: Returns what stands for a key; None if it does itself.
        sanitize_name: Returns what stands for `<collection>::<key>`; None if that does itself.
        unchanged_is_own: Whether a name that `sanitize_name` leaves as it is belongs to one pair only.
    """

    def __init__(
        self,
        fits: Callable[[str], bool],
        *,
        sanitize_collection: Namer | None = None,
        sanitize_key: Namer | None = None,
        sanitize_name: Namer | None = None,
        unchanged_is_own: bool = False,
    ) -> None:
        self._fits = fits
        self._sanitize_collection = sanitize_collection or str
        self._sanitize_key = sanitize_key or str
        self._sanitize_name = sanitize_name or str
        self._unchanged_is_own = unchanged_is_own

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        """Return the slots of a pair."""
        found: list[Slot] = []
        for name, kind in super().slots(self._sanitize_collection(collection), self._sanitize_key(key)):
            used = self._sanitize_name(name) if "::" in name else name
            is_shared = kind != "own" or used != name or not self._unchanged_is_own
            fits = self._fits(used)
            if fits:
                found.append(Slot(used, "shared" if is_shared and kind == "own" else kind))
            if kind == "own" and (is_shared or not fits):
                found.append(Slot(digest_of(collection, key)))
        return found

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        """Return the names of pairs that all have one slot, or None if some have more."""
        if not self._unchanged_is_own:
            return None
        slots = [self.slots(collection, key) for key in keys]
        return [slot.name for (slot, *_) in slots] if all(len(some) == 1 for some in slots) else None
