"""A store in the registry of Windows, over winreg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from keyvalue._core import constructor, file_errors, runtime
from keyvalue._core.clients import Clients
from keyvalue._core.driver import EnumerableDriverStore
from keyvalue._core.entry import Entry
from keyvalue._core.error_rules import ErrorRule, ErrorRules
from keyvalue._core.layout import KeyLayout
from keyvalue._core.legacy import sanitization
from keyvalue._core.store import Stability
from keyvalue.errors import KeyValueError, StoreConnectionError, StoreRefusedError

try:
    import winreg
except ImportError as _error:
    raise ImportError(
        "WindowsRegistryStore is for Windows only: it needs winreg, which Python has on no other system. "
        "Use another store here, such as keyvalue.stores.filetree.FileTreeStore",
        name="winreg",
    ) from _error

from keyvalue.stores._drivers.windows_registry import (
    DEEPEST,
    RegistryDriver,
    RegistryLayout,
    check_sizes,
    find_large,
    is_key_name,
    transient_reason,
)

__all__ = ["WindowsRegistryStore", "WindowsRegistryV1CollectionSanitizationStrategy"]

_PATH = "Software\\py-key-value"
_OWN = "this user has no rights to that key of the registry; change its permissions, or choose another registry_path"


class WindowsRegistryV1CollectionSanitizationStrategy(sanitization.HybridSanitizationStrategy):
    """Names of registry keys: at most 96 ASCII letters and digits; a name that had to change ends in 8 digits of a SHA-256."""

    def __init__(self) -> None:
        super().__init__(max_length=96, allowed_characters=sanitization.ALPHANUMERIC)


class WindowsRegistryStore(EnumerableDriverStore):
    r"""Keeps each entry in a value of the Windows registry. For small entries: Microsoft advises against values of more than 2048 bytes.

    Format: the registry key `<hive>\<registry_path>\<collection>` has a value of type REG_SZ with the name `<key>`, which holds the JSON
    document of `keyvalue._core.entry`. A `\` in a collection separates registry keys. With sanitization strategies, their results take the
    place of collection and key. An invalid name (a collection with a part between two `\` that is empty or has more than 255 UTF-16 code
    units, or that is more than 32 levels deep, path included; a key of more than 16383; any name with NUL) is replaced by `~` and the
    SHA-256 in hexadecimal, of the collection or of `<characters in the collection>:<collection>:<key>`. The registry ignores case, so a key
    is also replaced if its value holds another entry. Each document records the key and collection it belongs to.

    A put sets one value as a whole, and a read sees it as a whole. But the registry has no compare-and-set: if two processes write the
    same key, or keys that differ only in case, at the same moment, the later write may replace an entry that it has not seen. For the same
    reason deleting reads first, and two processes that delete an entry at the same moment may both get True. Within one process, neither
    happens.

    Expired entries take up space until `cull`. On asyncio and trio, calls run in worker threads, in synchronous code directly.

    Args:
        hive: "HKEY_CURRENT_USER", which is the default, or "HKEY_LOCAL_MACHINE", where only administrators may write.
        registry_path: The registry key under the hive that contains the collections. Default `Software\py-key-value`.
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
        key_sanitization_strategy: Chooses names of values: an object with `sanitize(key)`. Default: the key itself.
        collection_sanitization_strategy: Chooses names of registry keys: an object with `sanitize(collection)`. Default: the collection
            itself.

    Raises:
        ImportError: On importing the module: this is not Windows.
        ValueError: An unknown hive, or an invalid path.
        StoreRefusedError: On use: the user lacks the rights, or the registry refuses for another reason.
        StoreConnectionError: On use: lack of memory or disk space, or a deletion at the same moment, prevents it for now.
        ValueTooLargeError: On put: the document takes more than 2 GiB in UTF-16, the size of a whole registry file.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    errors: ErrorRules = (
        ErrorRule(OSError, StoreConnectionError, transient_reason, when=transient_reason),
        ErrorRule(OSError, StoreConnectionError, file_errors.transient_reason, when=file_errors.transient_reason),
        ErrorRule(PermissionError, StoreRefusedError, "this user may not do that; only administrators may write to HKEY_LOCAL_MACHINE"),
        ErrorRule(OSError, StoreRefusedError, "the registry refused"),
    )

    @constructor.check_types
    def __init__(
        self,
        *,
        hive: Literal["HKEY_CURRENT_USER", "HKEY_LOCAL_MACHINE"] | None = None,
        registry_path: str | None = None,
        default_collection: str | None = None,
        key_sanitization_strategy: sanitization.SanitizationStrategy | None = None,
        collection_sanitization_strategy: sanitization.SanitizationStrategy | None = None,
    ) -> None:
        super().__init__(default_collection=default_collection)
        hive = hive or "HKEY_CURRENT_USER"
        if hive not in ("HKEY_CURRENT_USER", "HKEY_LOCAL_MACHINE"):
            raise ValueError('The hive must be "HKEY_CURRENT_USER" or "HKEY_LOCAL_MACHINE"')
        path = registry_path or _PATH
        parts = path.split("\\")
        if not all(map(is_key_name, parts)) or len(parts) >= DEEPEST:
            raise ValueError(
                rf"No registry_path can be {path[:300]!r}: give it without the hive, without \ at its ends, and at most 31 levels deep"
            )
        self.layout: KeyLayout = RegistryLayout(key_sanitization_strategy, collection_sanitization_strategy, DEEPEST - len(parts))
        self._host = f"{hive}\\{path}"
        self._clients = Clients(
            "WindowsRegistryStore",
            create=lambda: RegistryDriver(getattr(winreg, hive), path, len(parts)),
            explain=lambda _, error: _OWN if isinstance(error, PermissionError) and hive == "HKEY_CURRENT_USER" else None,
        )

    async def _put(self, collection: str, entries: Sequence[Entry]) -> Sequence[KeyValueError | None] | None:
        large = find_large(entries)
        if large:  # their exact size is only known by writing them
            await runtime.run_in_worker(lambda: check_sizes(large))
        return await super()._put(collection, entries)
