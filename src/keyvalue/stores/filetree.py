"""A store in a tree of files, one JSON file an entry."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import ClassVar

from keyvalue._core import constructor
from keyvalue._core.clients import Clients
from keyvalue._core.driver import EnumerableDriverStore
from keyvalue._core.error_rules import FILE_SYSTEM_RULES, ErrorRules
from keyvalue._core.layout import KeyLayout
from keyvalue._core.legacy import sanitization
from keyvalue._core.store import Stability
from keyvalue.stores._drivers import files
from keyvalue.stores._drivers.filetree import FileTreeDriver
from keyvalue.stores._drivers.filetree_names import INFO, SUFFIX
from keyvalue.stores._legacy.filetree import OldTreeLayout

__all__ = ["FileTreeStore", "FileTreeV1CollectionSanitizationStrategy", "FileTreeV1KeySanitizationStrategy"]


class FileTreeV1KeySanitizationStrategy(sanitization.HybridSanitizationStrategy):
    """The file names of keys: letters, digits and `_` of ASCII; anything else replaced, with 8 digits of a SHA-256 appended.

    Args:
        directory: The store's data directory. The longer its path, the shorter the names.
    """

    def __init__(self, directory: Path | str) -> None:
        longest_path = _limit("PC_PATH_MAX", directory, 260) - len(Path(directory).as_posix())
        longest_name = _limit("PC_NAME_MAX", directory, 255) - len(SUFFIX)
        super().__init__(max_length=min(longest_path, longest_name), allowed_characters=sanitization.ALPHANUMERIC + "_")


class FileTreeV1CollectionSanitizationStrategy(sanitization.HybridSanitizationStrategy):
    """The directory names of collections, made like the file names of keys.

    Args:
        directory: The store's data directory.
    """

    def __init__(self, directory: Path | str) -> None:
        longest_name = _limit("PC_NAME_MAX", directory, 255) - len(INFO)
        super().__init__(max_length=longest_name, allowed_characters=sanitization.ALPHANUMERIC + "_")


def _limit(name: str, directory: Path | str, default: int) -> int:
    if os.name == "nt":
        return default
    limit = os.pathconf(directory, name)
    return limit if limit > 0 else default


class FileTreeStore(EnumerableDriverStore):
    """Keeps each entry in a file of its own, which other programs can read. Any number of processes may share the tree.

    Format: `<data_directory>/<collection>/<key>.json` holds the JSON document of `keyvalue._core.entry`, and
    `<metadata_directory>/<collection>-info.json` an object with `version` (1), `collection`, `directory` (an absolute path, which is not
    relied on) and `created_at`. With sanitization strategies, their names stand for collection and key. What can't be a name of a
    file is named by `~` and the SHA-256 in hexadecimal of the name (a collection) or of `<length of the collection>:<collection>:<key>` (a
    key); so is a key with a file that another entry holds. A file says which entry it holds. Files of py-key-value-aio do not say so: they
    belong to the collection of the info file and to the key that they are named after.

    A file is written beside the tree's others, flushed, and then put in its place, so that there is always either the old entry or the
    new one; when `put` returns, the new one is on the disk, its directory synced. What a crash left over is removed when the
    tree is next opened, an hour later or more. A directory or file that is a link is refused.

    The names of files are UTF-8 in any locale. The tree may be moved and copied while no store has it open; if it is removed or moved
    while one has, the next call finds the store empty, and the next put makes the directory again. Expired entries take up space until
    `cull`. Calls run in worker threads on asyncio and trio.

    Args:
        data_directory: The directory of the collections. A leading `~` and variables such as `$HOME` are expanded, unless a directory of
            just that name is there; the path is absolute from then on.
        metadata_directory: The directory of the info files. Default: the same.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
        key_sanitization_strategy: What names files: an object with `sanitize(key)`. Default: the key itself.
        collection_sanitization_strategy: What names directories; see `key_sanitization_strategy`.
        auto_create: Whether to make the two directories if they are missing. Default True.
        file_mode: The mode of new files, such as `0o640`: each put creates one. Directories get it with search permission for those who may
            read. The umask does not change it. Default None: 0600, and 0700 for directories. Directories that exist keep their modes.
            Windows ignores it.

    Raises:
        TypeError: `file_mode` is not an int, a directory not a str or Path, or a strategy has no method `sanitize`.
        ValueError: A directory is missing and `auto_create` is False, its path is empty or can't be encoded, or `file_mode` is without read
            and write permission for the owner or has other bits than read and write.
        StoreSetupError: On use: a directory can't be made, or was removed and `auto_create` is False.
        PathSecurityError: On use: a directory or file of the tree is a link.
    """

    stability: ClassVar[Stability] = "stable"
    runs_inline = True
    errors: ErrorRules = FILE_SYSTEM_RULES

    @constructor.check_types
    def __init__(
        self,
        *,
        data_directory: Path | str,
        metadata_directory: Path | str | None = None,
        default_collection: str | None = None,
        key_sanitization_strategy: sanitization.SanitizationStrategy | None = None,
        collection_sanitization_strategy: sanitization.SanitizationStrategy | None = None,
        auto_create: bool = True,
        file_mode: int | None = None,
    ) -> None:
        super().__init__(default_collection=default_collection)
        data = files.resolve_directory(data_directory, auto_create, file_mode)
        metadata = files.resolve_directory(metadata_directory or data_directory, auto_create, file_mode)
        sanitize_key = sanitization.namer(key_sanitization_strategy, "key_sanitization_strategy")
        sanitize_collection = sanitization.namer(collection_sanitization_strategy, "collection_sanitization_strategy")
        self.layout: KeyLayout = OldTreeLayout(sanitize_collection, sanitize_key)
        self._clients = Clients("FileTreeStore", create=partial(FileTreeDriver, data, metadata), explain=FileTreeDriver.refusal)
