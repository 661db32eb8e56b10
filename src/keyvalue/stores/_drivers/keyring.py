"""The backends of the package keyring as KeyringStore uses them, from one thread at a time."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# keyring's backends have no types but where their base has.

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

import keyring
from keyring.backend import KeyringBackend
from keyring.backends import SecretService, Windows, chainer, fail, kwallet, libsecret, macOS, null
from keyring.errors import InitError, KeyringError, NoKeyringError, PasswordDeleteError, PasswordSetError

from keyvalue._core import fork
from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue.errors import ValueTooLargeError
from keyvalue.stores._drivers.secret_service import KeptCollection

__all__ = ["AWAY", "LOCKED", "HiddenError", "KeyringDriver", "NameRules", "UndecodableError", "UnwritableError", "advice_by_name"]

T = TypeVar("T")

_LIMITS: dict[type[KeyringBackend], tuple[int, str]] = {
    Windows.WinVaultKeyring: (5 * 512, "utf-16-le"),  # CRED_MAX_CREDENTIAL_BLOB_SIZE of Windows
    SecretService.Keyring: (2**26 - 1, "utf-8"),  # an array of D-Bus has 64 MiB at most, and the cipher pads by a byte at least
}
"""The bytes that a password may have, and its encoding."""

_KEEPING_CASE = (SecretService.Keyring, libsecret.Keyring, kwallet.DBusKeyring, macOS.Keyring)
LOCKED = "the keyring is locked, and its prompt was dismissed or could not be shown; unlock it and try again"
AWAY = "could not reach the keyring's service; is it running, and is DBUS_SESSION_BUS_ADDRESS right?"

_BY_NAME = {
    "LockedException": LOCKED,  # of SecretStorage
    "PromptDismissedException": LOCKED,
    "SecretServiceNotAvailableException": AWAY,
    "org.freedesktop.Secret.Error.IsLocked": LOCKED,  # of jeepney, the errors that D-Bus passes on
    "org.freedesktop.Secret.Error.NoSession": AWAY,
    "org.freedesktop.DBus.Error.NoReply": AWAY,
    "DBusException": AWAY,  # of dbus-python
    1312: "Windows has no credentials for this logon; run as a user who is logged on",  # ERROR_NO_SUCH_LOGON_SESSION
}
"""What to do about errors, by the name of the class, or the error's own name or number."""

_LONGEST_USER = 512  # UTF-16 units; CRED_MAX_USERNAME_LENGTH of Windows, less the end


class HiddenError(PasswordSetError):
    """A backend before the writable one has the user, and would hide the new password."""


class UnwritableError(PasswordSetError):
    """No backend can be written to."""


class UndecodableError(KeyringError):
    """A password is no text."""


def advice_by_name(error: Exception) -> str | None:
    """Return what to do about an error that only comes with the packages of some systems, if that is known."""
    names = (type(error).__name__, getattr(error, "name", None), getattr(error, "winerror", None))
    return next((_BY_NAME[name] for name in names if isinstance(name, str | int) and name in _BY_NAME), None)


class NameRules(NamedTuple):
    """What backends do with names of users.

    Attributes:
        ignores_case: Whether they may mix up names that differ in case only.
        longest: The most UTF-16 units a name may have; None for no limit.
    """

    ignores_case: bool
    longest: int | None

    def fits(self, name: str) -> bool:
        """Return whether the backends can hold a name."""
        return "\0" not in name and (self.longest is None or len(name.encode("utf-16-le")) <= 2 * self.longest)


class _BackendLocks:
    """A lock for each class of backends: keyring does not say that they are safe to call from two threads at a time."""

    def __init__(self) -> None:
        self._after_fork()
        fork.register_after_fork(self)

    def _after_fork(self) -> None:
        self._locks: dict[type[KeyringBackend], Any] = {}

    @contextmanager
    def hold(self, backends: Sequence[KeyringBackend]) -> Generator[None, None, None]:
        """Hold the locks of some backends, in an order that is the same for all."""
        kinds = sorted({type(backend) for backend in backends}, key=lambda kind: (kind.__module__, kind.__qualname__, id(kind)))
        with ExitStack() as stack:
            for kind in kinds:
                stack.enter_context(self._locks.setdefault(kind, threading.RLock()))
            yield


_locks = _BackendLocks()


class KeyringDriver:
    """The passwords of one service, in a keyring or a chain of several.

    Args:
        service: The name of the service.
        given: The backend; None for the one that keyring chooses.
    """

    def __init__(self, service: str, given: KeyringBackend | None) -> None:
        self._service = service
        self._given = given
        self._backends: list[KeyringBackend] = []
        self._writable: list[KeyringBackend] = []
        self._has_written = False
        self._kept: list[KeptCollection] = []

    def open(self) -> NameRules:
        """Find the backends, and return what they do with names.

        Raises:
            KeyringError: No keyring that keeps anything can be found or loaded.
        """
        try:
            chosen = keyring.get_keyring() if self._given is None else self._given
            # A chain would not delete what lies in its second backend, and an empty one keeps nothing and says nothing.
            chain = list(chosen.backends) if isinstance(chosen, chainer.ChainerBackend) else [chosen]
        except KeyringError:
            raise
        except Exception as error:
            raise InitError("keyring could not load its backend") from error
        self._kept = []
        self._backends = [self._keeping(backend) for backend in chain if not isinstance(backend, null.Keyring | fail.Keyring)]
        if not self._backends:
            raise NoKeyringError("keyring has no backend that keeps anything")
        self._writable = list(self._backends)
        is_windows = any(isinstance(backend, Windows.WinVaultKeyring) for backend in self._backends)
        ignores_case = not all(isinstance(backend, _KEEPING_CASE) for backend in self._backends)
        return NameRules(ignores_case, _LONGEST_USER if is_windows else None)

    def _keeping(self, backend: KeyringBackend) -> KeyringBackend:
        if type(backend) is not SecretService.Keyring:
            return backend
        kept = KeptCollection(backend)
        self._kept.append(kept)
        return backend.with_properties(get_preferred_collection=kept.collection)

    def close(self) -> None:
        """Close the connections that are kept."""
        for kept in self._kept:
            kept.close()

    def read(self, names: Sequence[str]) -> list[Stored | None]:
        """Return the passwords of some users."""
        return [self._get(name) for name in names]

    def write(self, rows: Sequence[tuple[str, Entry]]) -> None:
        """Store the document of each entry as the password of a user.

        Raises:
            HiddenError: It would not be read.
        """
        for name, entry in rows:
            self._set(name, entry)

    def compare_and_set(self, changes: Sequence[CompareAndSet]) -> list[bool]:
        """Make each change if its user has the expected version, and return which were made."""
        return [self._change(*change) for change in changes]

    def pop(self, names: Sequence[str]) -> list[Stored | None]:
        """Remove the passwords of some users and return them."""
        return [self._pop(name) for name in names]

    def _get(self, name: str) -> Stored | None:
        with _locks.hold(self._backends):
            for backend in self._backends:
                found = self._find(backend, name)
                if found is not None:
                    return found[1]
        return None

    def check(self, entries: Sequence[Entry]) -> None:
        """Check that entries can be stored.

        Raises:
            ValueTooLargeError: A document is larger than the backend takes.
        """
        for entry in entries:
            self._text(entry)

    def _set(self, name: str, entry: Entry) -> None:
        text = self._text(entry)
        with _locks.hold(self._backends):
            while self._writable:
                backend = self._writable[0]
                before = self._backends[: self._backends.index(backend)]
                if any(self._find(other, name) is not None for other in before):
                    raise HiddenError("a backend that is for reading only has it")
                try:
                    self._call(backend.set_password, self._service, name, text)
                except NotImplementedError:  # how a backend that is for reading only says so to a chain
                    self._writable.remove(backend)
                else:
                    self._has_written = True
                    return
        raise UnwritableError("the keyring is for reading only")

    def _pop(self, name: str) -> Stored | None:
        removed: Stored | None = None
        with _locks.hold(self._backends):
            # The first is what is read. It goes last, so that nothing has changed if another is for reading only.
            for backend in reversed(self._backends):
                found = self._find(backend, name)
                if found is not None and self._delete(backend, found[0]):
                    removed = found[1]
        return removed

    def _change(self, name: str, version: str | None, entry: Entry | None) -> bool:
        with _locks.hold(self._backends):
            stored = self._get(name)
            if version != (stored and stored.version):
                return False
            if entry is None:
                self._pop(name)
                return True
            for backend in self._backends:
                found = self._find(backend, name) if isinstance(backend, Windows.WinVaultKeyring) else None
                if found is not None and found[0] != name:
                    self._delete(backend, found[0])  # the two would overwrite each other when others are stored
            self._set(name, entry)
        return True

    def _text(self, entry: Entry) -> str:
        text = entry.document().decode()
        candidates = self._writable[:1] if self._has_written else self._writable
        for kind, (limit, encoding) in _LIMITS.items():
            if len(text) > limit // 4 and any(isinstance(backend, kind) for backend in candidates):
                size = len(text.encode(encoding))
                if size > limit:
                    raise ValueTooLargeError(size, limit, entry.collection, entry.key)
        return text

    def _find(self, backend: KeyringBackend, name: str) -> tuple[str, Stored] | None:
        """Return the name and the password of the user that a backend takes a name for."""
        try:
            if not isinstance(backend, Windows.WinVaultKeyring):
                text = self._call(backend.get_password, self._service, name)
                return None if text is None else (name, Stored(text.encode()))
            found: Any = self._call(backend.get_credential, self._service, name)
            user = getattr(found, "username", None)
            if user and user != name:  # a row of another spelling, of which Windows may keep an older copy as well: the one that counts
                found = self._call(backend.get_credential, self._service, user)
        except UndecodableError:
            return name, Stored(None)
        if found is None:
            # Windows heeds case only in the user who was stored last (None), who may be another, and undecodable.
            with suppress(UndecodableError):
                found = self._call(backend.get_credential, self._service, None)
            if found is None or (found.username or "").casefold() != name.casefold():
                return None
        return found.username or name, Stored(found.password.encode())

    def _delete(self, backend: KeyringBackend, name: str) -> bool:
        try:
            self._call(backend.delete_password, self._service, name)
        except PasswordDeleteError:
            if self._find(backend, name) is not None:
                raise
            return False  # another program was quicker
        return True

    def _call(self, function: Callable[..., T], *args: str | None) -> T:
        """Call a method of a backend."""
        try:
            return function(*args)
        except UnicodeError:  # which holds the text
            pass
        except BaseException as error:
            self.close()  # a connection that was interrupted may be in the middle of something
            if type(error).__name__ != "ItemNotFoundException":
                raise
            # Another program has deleted what SecretStorage was about to look at.
            return function(*args)
        raise UndecodableError("a password is no text")
