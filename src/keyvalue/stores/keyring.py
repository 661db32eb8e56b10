"""A store in the keyring of the system, over the package keyring."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import methodcaller
from typing import Any, ClassVar

from keyvalue._core import arguments, constructor, file_errors, wording
from keyvalue._core.clients import Clients
from keyvalue._core.driver import DriverStore
from keyvalue._core.entry import Entry
from keyvalue._core.error_rules import ErrorRule, ErrorRules
from keyvalue._core.extras import needs
from keyvalue._core.layout import FittingLayout, KeyLayout
from keyvalue._core.legacy import sanitization
from keyvalue._core.legacy.layouts import SharedLayout
from keyvalue._core.store import Stability
from keyvalue.errors import InvalidKeyError, KeyValueError, StoreConnectionError, StoreRefusedError

with needs("keyring"):
    from keyring.backend import KeyringBackend
    from keyring.errors import InitError, KeyringError, KeyringLocked, NoKeyringError

    from keyvalue.stores._drivers.keyring import AWAY, LOCKED, HiddenError, KeyringDriver, UndecodableError, UnwritableError, advice_by_name

__all__ = ["KeyringStore", "KeyringV1CollectionSanitizationStrategy", "KeyringV1KeySanitizationStrategy"]

_MISSING = (
    "there is no keyring that keeps anything. Start a Secret Service (GNOME Keyring, KWallet, KeePassXC), or choose another backend: "
    "with backend=, keyring.set_keyring(), PYTHON_KEYRING_BACKEND or keyringrc.cfg"
)
_HIDDEN = (
    "a keyring of the chain that is for reading only has this entry, and what is stored behind it would not be read; "
    "pass the keyring to use as backend="
)
_UNDECODABLE = (
    "the keyring holds a password of this service that is no text, and would have to move it; "
    "remove it there, or choose another service_name"
)


class KeyringV1KeySanitizationStrategy(sanitization.HybridSanitizationStrategy):
    """Names keys by ASCII letters and digits, 256 characters at most; what was changed has 8 digits of a SHA-256 appended."""

    def __init__(self) -> None:
        super().__init__(max_length=256, allowed_characters=sanitization.ALPHANUMERIC)


class KeyringV1CollectionSanitizationStrategy(KeyringV1KeySanitizationStrategy):
    """Names collections, in the same way."""


class KeyringStore(DriverStore):
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
        default_collection: The collection used when a call does not name one. Default `"default_collection"`.
        key_sanitization_strategy: What names keys: an object with `sanitize(key)`. Default: the key itself.
        collection_sanitization_strategy: What names collections; see `key_sanitization_strategy`.
        backend: The backend of keyring to use, an instance. Default: the one that `keyring.get_keyring()` returns.

    Raises:
        InvalidKeyError: The name of the service is empty, or holds NUL or a lone surrogate.
        TypeError: The backend is not a keyring backend.
        StoreConnectionError: On use: the keyring is locked or missing, or keeps nothing.
        ValueTooLargeError: On put: the document has more than 2560 bytes in UTF-16 (Windows), or than 64 MiB (Secret Service). Nothing is
            written then.
    """

    stability: ClassVar[Stability] = "beta"
    runs_inline = True
    errors: ErrorRules = (
        ErrorRule(Exception, StoreConnectionError, advice_by_name, advice_by_name),
        ErrorRule(KeyringLocked, StoreConnectionError, LOCKED),
        ErrorRule(NoKeyringError, StoreConnectionError, _MISSING),
        ErrorRule(
            InitError, StoreConnectionError, "the keyring could not be opened; is its service running, and is the configured backend there?"
        ),
        ErrorRule(HiddenError, StoreRefusedError, _HIDDEN),
        ErrorRule(UnwritableError, StoreRefusedError, "the keyring is for reading only; pass one that can be written to as backend="),
        ErrorRule(UndecodableError, StoreRefusedError, _UNDECODABLE),
        ErrorRule(KeyringError, StoreRefusedError, "the keyring refused"),
        ErrorRule(PermissionError, StoreRefusedError, "this user may not use the keyring's files; change their permissions"),
        ErrorRule(OSError, StoreConnectionError, AWAY),
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
        self._sanitize_key = sanitization.namer(key_sanitization_strategy, "key_sanitization_strategy")
        self._sanitize_collection = sanitization.namer(collection_sanitization_strategy, "collection_sanitization_strategy")
        self._clients = Clients(
            "KeyringStore",
            create=partial(KeyringDriver, service_name, backend),
            serialize_calls=True,
            interruptible=False,
            at_fork="share",
            explain=lambda _, error: file_errors.refusal(error) if isinstance(error, PermissionError) else None,
        )

    async def _open(self) -> None:
        await super()._open()
        rules = await self._use(methodcaller("open"))
        if rules.ignores_case or self._sanitize_key or self._sanitize_collection:
            self.layout: KeyLayout = SharedLayout(
                rules.fits, sanitize_collection=self._sanitize_collection, sanitize_key=self._sanitize_key
            )
        else:
            self.layout = FittingLayout(rules.fits)

    async def _put(self, collection: str, entries: Sequence[Entry]) -> Sequence[KeyValueError | None] | None:
        await self._use(methodcaller("check", entries))  # all, before one is written
        return await super()._put(collection, entries)

    async def _call(self, method: str, items: Sequence[Any], *, repeatable: bool = False) -> Sequence[Any]:
        """Call a method of the driver for each name alone, and once: it may wait for a person. If it fails, the next is not begun."""
        outcomes: list[Any] = []
        for item in items:
            outcomes += await super()._call(method, [item]) or (None,)
        return outcomes
