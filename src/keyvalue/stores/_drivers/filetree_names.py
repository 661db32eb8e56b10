"""How the files and directories of a FileTreeStore are named."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from keyvalue._core.layout import KeyLayout, Slot, digest, digest_of

__all__ = ["DRAFTS", "INFO", "SUFFIX", "TreeLayout", "fits", "is_directory_name", "shared_slots"]

SUFFIX = ".json"
INFO = "-info.json"
DRAFTS = "~drafts"

_LONGEST_NAME = 255  # bytes; what nearly all file systems take
_UNUSABLE = re.compile(r'[\0-\x1f<>:"/\\|?*]|[. ]$' if os.name == "nt" else r"[/\0]")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_DIGEST = re.compile(r"~[0-9a-f]{64}")


class TreeLayout(KeyLayout):
    """The paths of files below the data directory, with `/` between their parts: `<collection>/<key>.json`.

    A digest stands for a name that no file can have. A key has one besides its name, for when its file holds another pair's entry, as on
    a file system that ignores case.
    """

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        """Return the slots of a pair."""
        directory = self._directory(collection)
        return [*shared_slots(directory, key), Slot(f"{directory}/{digest_of(collection, key)}{SUFFIX}")]

    def prefixes(self, collection: str) -> Sequence[str]:
        """Return the directory of a collection, with a slash."""
        return (f"{self._directory(collection)}/",)

    def _directory(self, collection: str) -> str:
        return collection if is_directory_name(collection) else digest(collection)


def shared_slots(directory: str, name: str) -> list[Slot]:
    """Return the slot of a file with the name of a key, unless no file can have it."""
    return [Slot(f"{directory}/{name}{SUFFIX}", "shared")] if fits(name, SUFFIX) else []


def is_directory_name(name: str) -> bool:
    """Return whether a collection's directory can have a name."""
    folded = name.casefold()  # the file system may ignore case
    return fits(name, INFO) and folded not in (".", "..", DRAFTS) and not folded.endswith(INFO)


def fits(name: str, suffix: str) -> bool:
    """Return whether a name can be that of a file, and is not one that stands for what can't."""
    return (
        bool(name)
        and not _UNUSABLE.search(name)
        and not _DIGEST.fullmatch(name)
        and not (os.name == "nt" and _DEVICE.fullmatch(name))
        and len((name + suffix).encode()) <= _LONGEST_NAME
    )
