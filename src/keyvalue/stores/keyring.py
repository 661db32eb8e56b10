"""A store in the keyring of the system, over the package keyring."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from operator import methodcaller
from typing import Any, ClassVar

from keyvalue._core import arguments, constructor, files, wording
from keyvalue._core.clients import Clients
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.error_rules import ErrorRule, ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.flat import FlatStore
from keyvalue._core.layout import KeyLayout
from keyvalue._core.legacy import sanitization
from keyvalue._core.legacy.layouts import FittingLayout
from keyvalue._core.store import Stability
from keyvalue.errors import InvalidKeyError, KeyValueError, StoreConnectionError, StoreRefusedError

with needs("keyring"):
    from keyring.backend import KeyringBackend
    from keyring.errors import InitError, KeyringError, KeyringLocked, NoKeyringError

    from keyvalue.stores._drivers.keyring import HiddenError, KeyringDriver, Manner, UndecodableError, UnwritableError

__all__ = ["KeyringStore", "KeyringV1CollectionSanitizationStrategy", "KeyringV1KeySanitizationStrategy"]

_LOCKED = "the keyring is locked, and its prompt was dismissed or could not be shown; unlock it and try again"
_MISSING = (
    "there is no keyring that keeps anything. Start a Secret Service (GNOME Keyring, KWallet, KeePassXC), or choose another backend: "
    "with backend=, keyring.set_keyring(), PYTHON_KEYRING_BACKEND or keyringrc.cfg"
)
_AWAY = "could not reach the keyring's service; is it running, and is DBUS_SESSION_BUS_ADDRESS right?"
_HIDDEN = (
    "a keyring of the chain that is for reading only has this entry, and what is stored behind it would not be read; "
    "pass the keyring to use as backend="
)
_UNDECODABLE = (
    "the keyring holds a password of this service that is no text, and would have to move it; "
    "remove it there, or choose another service_name"
)

_BY_NAME = {
    "LockedException": _LOCKED,  # of SecretStorage
    "PromptDismissedException": _LOCKED,
    "SecretServiceNotAvailableException": _AWAY,
    "org.freedesktop.Secret.Error.IsLocked": _LOCKED,  # of jeepney, the errors that D-Bus passes on
    "org.freedesktop.Secret.Error.NoSession": _AWAY,
    "org.freedesktop.DBus.Error.NoReply": _AWAY,
    "DBusException": _AWAY,  # of dbus-python
    1312: "Windows has no credentials for this logon; run as a user who is logged on",  # ERROR_NO_SUCH_LOGON_SESSION
}
"""What errors mean that only come with the packages of some systems: by the name of the class, or the error's own name or number."""


def _advice_by_name(error: Exception) -> str | None:
    names = (type(error).__name__, getattr(error, "name", None), getattr(error, "winerror", None))
    return next((_BY_NAME[name] for name in names if isinstance(name, str | int) and name in _BY_NAME), None)


class KeyringV1KeySanitizationStrategy(sanitization.HybridSanitizationStrategy):
    """Names keys by ASCII letters and digits, 256 characters at most; what was changed has 8 digits of a SHA-256 appended."""

    def __init__(self) -> None:
        super().__init__(max_length=256, allowed_characters=sanitization.ALPHANUMERIC)


class KeyringV1CollectionSanitizationStrategy(KeyringV1KeySanitizationStrategy):
    """Names collections, in the same way."""


class KeyringStore(FlatStore):
    """Keeps entries in the keyring of the system: Secret Service, macOS Keychain, Windows Credential Manager, or another one of keyring's.

    Format: the password of the user `<collection>::<key>` of the service is the JSON document of `keyvalue._core.entry` (see
    `keyvalue._core.layout` for names that this would mix). A name that a keyring can't hold (NUL; on Windows, more than 512 UTF-16 units)
    is replaced by `~` and the SHA-256 in hexadecimal of `<length of the collection>:<collection>:<key>`. With sanitization strategies,
    their names stand for collection and key; where another entry has that place, the pair goes to a name of the latter form. So it does
    where another entry's name differs from its own in case only, on Windows and in third parties' backends: some of those ignore case too.

    A keyring can't be listed, so neither can the store, nor destroyed. `delete` reads first, so two deleters in two processes may both be
    told True. Expired entries stay until they are deleted or put again.

    Calls run one at a time, in a worker thread on asyncio and trio: the same goes for all stores of the process over backends of one class.
    They have no time limit, as a prompt waits for a person. The backend is looked up when the store is opened. Of a chain of backends, all
    are read and deleted from, and the first that can be written to is written, unless one before it has the entry.

    Args:
        service_name: The service that the passwords are of. Default "py-key-value".
        default_collection: The collection that is meant where a call names none. Default `"default_collection"`.
        key_sanitization_strategy: What names keys: an object with `sanitize(key)`. Default: the key itself.
        collection_sanitization_strategy: What names collections, likewise.
        backend: The backend of keyring to use, an instance. Default: the one that `keyring.get_keyring()` returns.

    Raises:
        InvalidKeyError: The name of the service is empty, or holds NUL or a lone surrogate.
        TypeError: The backend is none.
        StoreConnectionError: On use: the keyring is locked or missing, or keeps nothing.
        ValueTooLargeError: On put: the document has more than 2560 bytes in UTF-16 (Windows), or than 64 MiB (Secret Service). Nothing is
            written then.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    errors: ErrorRules = (
        ErrorRule(Exception, StoreConnectionError, _advice_by_name, _advice_by_name),
        ErrorRule(KeyringLocked, StoreConnectionError, _LOCKED),
        ErrorRule(NoKeyringError, StoreConnectionError, _MISSING),
        ErrorRule(
            InitError, StoreConnectionError, "the keyring could not be opened; is its service running, and is the configured backend there?"
        ),
        ErrorRule(HiddenError, StoreRefusedError, _HIDDEN),
        ErrorRule(UnwritableError, StoreRefusedError, "the keyring is for reading only; pass one that can be written to as backend="),
        ErrorRule(UndecodableError, StoreRefusedError, _UNDECODABLE),
        ErrorRule(KeyringError, StoreRefusedError, "the keyring refused"),
        ErrorRule(PermissionError, StoreRefusedError, "this user may not use the keyring's files; change their permissions"),
        ErrorRule(OSError, StoreConnectionError, _AWAY),
        ErrorRule(NotImplementedError, StoreRefusedError, "the keyring's backend can't do that; it may be for reading only"),
        ErrorRule(Exception, StoreRefusedError, "the keyring's backend failed"),  # third parties' raise anything
    )

    @constructor.check_types
    def __init__(
        self,
        *,
        service_name: str = "py-key-value",
        default_collection: str | None = None,
        key_sanitization_strategy: sanitization.SanitizationStrategy | None = None,
        collection_sanitization_strategy: sanitization.SanitizationStrategy | None = None,
        backend: KeyringBackend | None = None,
    ) -> None:
        super().__init__(default_collection=default_collection)
        if "\0" in arguments.check_name(service_name, "service name"):
            raise InvalidKeyError("The service name holds NUL, which keyrings can't")
        if backend is not None and not isinstance(backend, KeyringBackend):
            raise TypeError(f"The backend must be an instance of keyring.backend.KeyringBackend, not {wording.describe(backend)}")
        self._namers = (
            sanitization.namer(key_sanitization_strategy, "key_sanitization_strategy"),
            sanitization.namer(collection_sanitization_strategy, "collection_sanitization_strategy"),
        )
        self._clients = Clients(
            "KeyringStore",
            create=lambda: KeyringDriver(service_name, backend),
            serialize_calls=True,
            interruptible=False,
            at_fork="share",
            explain=lambda _, error: files.refusal(error) if isinstance(error, PermissionError) else None,
        )

    async def _open(self) -> None:
        await super()._open()
        self.layout: KeyLayout = _KeyringLayout(*self._namers, await self._use(KeyringDriver.open))

    async def _put(self, collection: str, entries: Sequence[Entry]) -> Sequence[KeyValueError | None] | None:
        await self._use(methodcaller("check", entries))  # all, before one is written
        return await super()._put(collection, entries)

    async def _one_by_one(self, method: str, items: Sequence[Any]) -> list[Any]:
        """Call a method of the driver with each item alone, as it may wait for a person: if that is cancelled, the next is not begun."""
        return [outcome for item in items for outcome in await self._use(methodcaller(method, [item])) or (None,)]

    def _read(self, names: Sequence[str], *, lenient: bool = False) -> Awaitable[Sequence[Stored | None]]:
        return self._one_by_one("read", names)

    def _write(self, rows: Sequence[tuple[str, Entry]]) -> Awaitable[Sequence[None]]:
        return self._one_by_one("write", rows)

    def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Awaitable[Sequence[bool]]:
        return self._one_by_one("compare_and_set", changes)

    def _pop(self, names: Sequence[str]) -> Awaitable[Sequence[Stored | None]]:
        return self._one_by_one("pop", names)


class _KeyringLayout(FittingLayout):
    """The names `<collection>::<key>`, or those of what strategies make of the two; digests for what can't be one, or not alone."""

    def __init__(self, keys: Callable[[str], str] | None, collections: Callable[[str], str] | None, manner: Manner) -> None:
        self._keys = keys
        self._collections = collections
        self._longest = manner.longest
        is_sharing = manner.ignores_case or keys is not None or collections is not None
        super().__init__(is_plain=not is_sharing, is_sharing=is_sharing)

    def _split(self, collection: str, key: str) -> tuple[str, str]:
        return self._collections(collection) if self._collections else collection, self._keys(key) if self._keys else key

    def _fits(self, name: str) -> bool:
        return "\0" not in name and (self._longest is None or len(name.encode("utf-16-le")) <= 2 * self._longest)
