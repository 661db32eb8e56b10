"""Fakes of backends of keyring, for what no real one does on demand. keyring never chooses them by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from keyring.backend import KeyringBackend
from keyring.backends.chainer import ChainerBackend
from keyring.backends.Windows import DecodingCredential, WinVaultKeyring
from keyring.errors import PasswordDeleteError

T = TypeVar("T")

PATIENCE = 20  # seconds after which a call that is held goes on, so that what waits for it wrongly does not wait for ever
LAST: Any = -2  # the priority; a chain takes none below 1, and keyring's own that refuses everything has 0


class FakeKeyring(KeyringBackend):
    """A keyring in memory."""

    priority = LAST

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error  # what each call raises
        self.passwords: dict[tuple[str, str], str] = {}  # by service and user
        self.delay = 0.0  # seconds that each call takes
        self.at_once = self.most_at_once = 0  # how many calls are under way, and how many there were at the same time
        self.is_held, self._let_go = threading.Event(), threading.Event()  # the first is set when a call waits because of `holding`
        self._until_held = 0
        self._lock = threading.Lock()

    @property
    def users(self) -> set[str]:
        """The users that there are passwords of."""
        return {user for _, user in self.passwords}

    @contextmanager
    def holding(self, after: int = 0) -> Generator[None, None, None]:
        """Have a call wait for the end of the block: the next one, or the one after some more."""
        self.is_held.clear()
        self._let_go.clear()
        self._until_held = after + 1
        try:
            yield
        finally:
            self._let_go.set()

    def _call(self, function: Callable[[tuple[str, str]], T], service: str, username: str) -> T:
        with self._lock:
            self._until_held -= 1
            is_held = self._until_held == 0
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            time.sleep(self.delay)
            if is_held:
                self.is_held.set()
                self._let_go.wait(PATIENCE)
            if self.error is not None:
                raise self.error
            return function((service, username))
        finally:
            with self._lock:
                self.at_once -= 1

    def get_password(self, service: str, username: str) -> str | None:
        return self._call(self.passwords.get, service, username)

    def set_password(self, service: str, username: str, password: str) -> None:
        self._call(lambda user: self.passwords.update({user: password}), service, username)

    def delete_password(self, service: str, username: str) -> None:
        if self._call(lambda user: self.passwords.pop(user, None), service, username) is None:
            raise PasswordDeleteError("not found")


class FakeCaseIgnoringKeyring(FakeKeyring):
    """One that takes users whose names differ in case for one, as keyrings.alt's in files do."""

    def _call(self, function: Callable[[tuple[str, str]], T], service: str, username: str) -> T:
        return super()._call(function, service, username.lower())


class FakeReadOnlyKeyring(FakeKeyring):
    """One that can only be read, which is how those for package indexes are."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError

    def delete_password(self, service: str, username: str) -> None:
        raise NotImplementedError


class FakeChain(ChainerBackend):
    """keyring's own chain, of backends that a test names."""

    priority = LAST
    backends: Any = ()

    def __init__(self, *backends: KeyringBackend) -> None:
        super().__init__()
        self.backends = backends


class FakeWindowsError(Exception):
    """What pywin32 raises."""

    def __init__(self, winerror: int, function: str, text: str) -> None:
        super().__init__(winerror, function, text)
        self.winerror = winerror


class FakeWinVaultKeyring(WinVaultKeyring):
    """keyring's own backend for Windows, over a fake of the Credential Manager that knows its limits, and no difference in case."""

    priority = LAST
    largest = 2560

    def __init__(self) -> None:
        super().__init__()
        self.vault: dict[str, DecodingCredential] = {}

    @property
    def users(self) -> set[str | None]:
        return {credential["UserName"] for credential in self.vault.values()}

    def _read_credential(self, target: str) -> DecodingCredential | None:
        return self.vault.get(target.upper())

    def _set_password(self, target: str, username: str, password: str) -> None:
        blob = password.encode("utf-16-le")
        if len(blob) > self.largest:
            raise FakeWindowsError(1783, "CredWrite", "The stub received bad data.")
        if len(username.encode("utf-16-le")) > 2 * 513 or "\0" in target + username:
            raise FakeWindowsError(87, "CredWrite", "The parameter is incorrect.")
        self.vault[target.upper()] = DecodingCredential(TargetName=target, UserName=username, CredentialBlob=blob)

    def _delete_password(self, target: str) -> None:
        self.vault.pop(target.upper(), None)
