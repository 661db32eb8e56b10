"""Entries as secrets of the KV engine of Vault.

A secret that is removed starts its versions again, and an old version would be taken for a new one. So what removes an entry writes a
*grave* over it: an empty document of the same pair that has long expired. Only destroying removes secrets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import orjson

from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.extras import needs
from keyvalue._core.layout import CompoundLayout, Slot, digest
from keyvalue.errors import ValueTooLargeError
from keyvalue.stores._drivers.vault_client import TOO_LARGE, KVv2Client, Secret, is_name, is_path
from keyvalue.stores._legacy.vault import old_name, old_prefix

with needs("vault"):
    import hvac
    import requests
    from hvac.exceptions import VaultError
    from urllib3.exceptions import ProtocolError

__all__ = ["VaultDriver", "VaultLayout"]

_LARGE = 2**24  # bytes; half of what a request may have by default
_LIMIT = "max_request_size of the listener is the limit, and with raft max_entry_size of the storage"
_END_OF_GRAVE = b',"expires_at":"1970-01-01T00:00:00+00:00","value":{}}'
_DIGESTS = re.compile("~[0-9a-f]{64}/~[0-9a-f]{64}")


class VaultLayout(CompoundLayout):
    """The names `<collection>::<key>`; `<digest of the collection>/<digest of the key>` for what can't be a path."""

    def slots(self, collection: str, key: str) -> Sequence[Slot]:
        """Return the slots of a pair."""
        found = [slot for slot in super().slots(collection, key) if slot.kind != "strict" and is_name(slot.name)]
        if all(slot.kind != "own" for slot in found):
            found.append(Slot(f"{digest(collection)}/{digest(key)}"))
        if all("::" not in slot.name for slot in found):
            old = old_name(collection, key)
            found += [] if old is None else [Slot(old, "strict")]
        return found

    def prefixes(self, collection: str) -> Sequence[str]:
        """Return what the names of a collection start with."""
        _, escaped = super().prefixes(collection)
        old = old_prefix(collection)
        found = [f"{digest(collection)}/", *([escaped] if is_path(f"{escaped}k") else [])]
        return found if old is None else [*found, old]

    def direct_names(self, collection: str, keys: Sequence[str]) -> list[str] | None:
        """Return the names of pairs that all have one slot, or None if some have more."""
        names = super().direct_names(collection, keys)
        return names if names is not None and all(map(is_name, names)) else None


class VaultDriver:
    """Entries in the secrets under a mount point. Any number of threads may use them.

    Args:
        client: hvac's client.
        mount_point: Where the engine is mounted.
    """

    def __init__(self, client: hvac.Client, mount_point: str) -> None:
        self._secrets = KVv2Client(client, mount_point)
        self._layout = VaultLayout()
        self.check = self._secrets.check
        self.close = self._secrets.close

    def read(self, names: Sequence[str]) -> list[Stored | None]:
        """Return what lies under some names; a grave counts as nothing."""
        return [_live(self._secrets.find(name)) for name in names]

    def write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        """Store the document of each entry under its name."""
        for name, entry in rows:
            if not self._put(name, entry):
                # Only what says which version it replaces is allowed.
                while not self._put(name, entry, self._secrets.find(name).version):
                    pass

    def compare_and_set(self, changes: Sequence[CompareAndSet]) -> list[bool]:
        """Make each change if its name has the expected version, and return which were made."""
        return [self._change(*change) for change in changes]

    def pop(self, names: Sequence[str]) -> list[Stored | None]:
        """Remove what lies under names that each are one pair's only, and return it. What names another pair is left alone."""
        return [self._pop(name) for name in names]

    def find(self, names: Sequence[str]) -> list[Stored | None]:
        """Return what lies under some names, graves too."""
        return [self._secrets.find(name).stored for name in names]

    def list(self, folder: str, prefix: str) -> tuple[Sequence[str], Sequence[str]]:
        """Return the folders in a folder, and the names there that may be a pair's; all of them start with a prefix."""
        found = [name for name in (folder + listed for listed in self._secrets.names_in(folder)) if name.startswith(prefix)]
        folders = [name for name in found if name.endswith("/")]
        return folders, [name for name in found if not name.endswith("/") and ("::" in name or "~:" in name or _DIGESTS.fullmatch(name))]

    def purge(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Remove the secrets of pairs, graves too, with all versions."""
        for collection, key in pairs:
            for name, kind in self._layout.slots(collection, key):
                stored = self._secrets.find(name).stored
                if stored is None:
                    continue
                entry = stored.named_entry()
                if kind == "own" if entry is None else (entry.collection, entry.key) == (collection, key):
                    self._secrets.remove(name)
        return [True] * len(pairs)

    def _change(self, name: str, version: str | None, entry: Entry | None) -> bool:
        found = self._secrets.find(name)
        live = _live(found)
        if version != (live and live.version):
            return False
        return self._bury(name, found) if entry is None else self._put(name, entry, found.version)

    def _pop(self, name: str) -> Stored | None:
        while True:
            found = self._secrets.find(name)
            live = _live(found)
            if live is None:
                if found.stored is not None and found.version > 1:
                    self._secrets.destroy(name, found.version - 1)  # in case that an earlier delete failed in between
                return None
            entry = live.named_entry()
            if entry is not None and f"{entry.collection}::{entry.key}" != name:
                return None
            if self._bury(name, found):
                return live

    def _bury(self, name: str, found: Secret) -> bool:
        """Write a grave over what was found under a name, unless that has changed, and return whether there is one.

        The earlier versions lose their values.
        """
        if found.stored is None or _is_grave(found.stored):
            return True
        if not self._secrets.put(name, _grave_of(found.stored), found.version):
            return False
        self._secrets.destroy(name, found.version)
        return True

    def _put(self, name: str, entry: Entry, version: int | None = None) -> bool:
        document = entry.document()
        try:
            return self._secrets.put(name, document, version)
        except (VaultError, requests.ConnectionError) as error:
            if _is_too_large(error, len(document)):
                raise ValueTooLargeError(len(document), None, entry.collection, entry.key, limit=_LIMIT) from error
            raise


def _is_too_large(error: Exception, size: int) -> bool:
    """Return whether the server refused a document for its size in bytes."""
    if isinstance(error, VaultError):
        return TOO_LARGE.search(error.args[0]) is not None
    # The server hangs up on the rest of a request that it has refused, which may overtake its answer.
    return size > _LARGE and isinstance(error.args[0], ProtocolError)


def _live(found: Secret) -> Stored | None:
    return None if found.stored is None or _is_grave(found.stored) else found.stored


def _is_grave(stored: Stored) -> bool:
    return stored.document is not None and stored.document.endswith(_END_OF_GRAVE)


def _grave_of(stored: Stored) -> bytes:
    """Return the document of a grave, which names the pair that another document does, if any."""
    entry = stored.named_entry()
    names = {} if entry is None else {"collection": entry.collection, "key": entry.key}
    return orjson.dumps({"version": 1, **names})[:-1] + _END_OF_GRAVE
