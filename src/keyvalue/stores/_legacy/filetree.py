"""Where py-key-value-aio puts the files of a tree, and which pairs they belong to: its documents do not say."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

import orjson

from keyvalue._core.entry import Stored
from keyvalue._core.layout import Slot, digest
from keyvalue.stores._drivers import files
from keyvalue.stores._drivers.filetree_names import INFO, SUFFIX, TreeLayout, fits, is_directory_name, shared_slots

__all__ = ["DRAFT", "OldTreeLayout", "add_names", "lacks_names", "respelled"]

DRAFT = re.compile(r"tmp[a-z0-9_]{8}\.tmp")
"""A draft's name: it lies beside the file that it was to become."""

_NAMED = b'{"version":1,"collection":'  # how this library's documents start


class OldTreeLayout(TreeLayout):
    """A tree in which there may be files of py-key-value-aio.

    Sanitization strategies make its names; without one for collections, `a/b` lies in a directory of a directory.

    Args:
        sanitize_collection: Returns the name of a collection's directory; None for the collection itself.
        sanitize_key: Returns the name of a key's file; None for the key itself.
    """

    def __init__(self, sanitize_collection: Callable[[str], str] | None, sanitize_key: Callable[[str], str] | None) -> None:
        self._sanitize_collection = sanitize_collection
        self._sanitize_key = sanitize_key

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        """Return the slots of a pair."""
        found = super().slots(collection, key)
        name = self._sanitize_key(key) if self._sanitize_key else key
        if name != key:
            # A file is listed under its own name if its key is lost, and so must also be found there.
            *plain, own = found
            found = [*shared_slots(self._directory(collection), name), own, *plain]
        return [*found, *shared_slots(collection, key)] if self._is_nested(collection) else found

    def prefixes(self, collection: str) -> Sequence[str]:
        """Return the directories of a collection, each with a slash."""
        nested = [f"{collection}/"] if self._is_nested(collection) else []
        return [*super().prefixes(collection), *nested]

    def _directory(self, collection: str) -> str:
        name = self._sanitize_collection(collection) if self._sanitize_collection else collection
        return name if is_directory_name(name) else digest(collection)

    def _is_nested(self, collection: str) -> bool:
        """Return whether a collection lies in a directory of a directory, within the tree."""
        if "/" not in collection or self._sanitize_collection is not None:
            return False
        return all(fits(part, INFO) and part not in (".", "..") for part in collection.split("/"))


def lacks_names(document: bytes | None) -> bool:
    """Return whether a document may be one that does not name its pair."""
    return document is not None and document.startswith(b"{") and not document.startswith(_NAMED)


def add_names(stored: Stored, collection: str | None, file: str | None) -> Stored:
    """Return a document that names its pair, as far as its place tells. The version stays that of the file.

    Args:
        stored: What the file holds.
        collection: The collection that its directory was made for, if that is known.
        file: The file's name, if the key may be another than the one that was asked for.
    """
    names = {} if collection is None else {"collection": collection}
    if file is not None:
        names["key"] = file.removesuffix(SUFFIX)
    # Names that the document itself holds come later, and so count.
    return Stored(orjson.dumps(names)[:-1] + b"," + (stored.document or b"")[1:], stored.version) if names else stored


def respelled(directory: str, file: str) -> str | None:
    """Return how a directory spells the name of a file, if the file system ignores case and it was asked for in another way."""
    swapped, path = (os.path.join(directory, files.encode_name(name)) for name in (file.swapcase(), file))
    if not os.path.exists(swapped) or not os.path.samefile(swapped, path):
        return None
    names = list(filter(None, map(files.decode_name, os.listdir(directory))))
    return None if file in names else next((name for name in names if name.casefold() == file.casefold()), None)
