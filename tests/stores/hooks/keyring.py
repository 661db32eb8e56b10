"""The keyring of a Linux desktop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import secretstorage

from keyvalue.errors import InvalidKeyError
from keyvalue.stores.keyring import KeyringStore
from tests.fake_keyrings import FakeKeyring
from tests.servers import keyring
from tests.stores.hooks import SECRET, Hooks, document


class KeyringHooks(Hooks):
    kind = KeyringStore
    unreachable = "is it running, and is DBUS_SESSION_BUS_ADDRESS right"
    causes = secretstorage.SecretServiceNotAvailableException
    tells_host = False
    loses_puts = False  # a call begins with a question of its own

    client = "backend"
    client_types = r"instance of keyring\.backend\.KeyringBackend"

    misnamed = (("a", "elsewhere"),)
    damaged: Mapping[str, bytes] = {
        "empty": b"",
        "no JSON": SECRET.encode(),
        "a list": b"[]",
        "no object": b'{"value":1}',
        "another version": b'{"value":{},"version":2}',
        "no date": b'{"value":{},"created_at":1,"expires_at":1}',
        "no text": b'{"value":{"secret":"\xff"}}',
    }

    def refused(self) -> Iterable[tuple[Mapping[str, Any], type[Exception], str]]:
        for name in ("", "\ud800", "a\0b"):
            yield {"service_name": name}, InvalidKeyError, "service name"

    def wrong_clients(self) -> Iterable[Any]:
        return FakeKeyring, "keyring.backends.SecretService.Keyring", object()

    def contents(self, url: str) -> Mapping[tuple[str, str], bytes]:
        with keyring.collection(url) as found:
            items = [(item.get_attributes(), item.get_secret()) for item in found.get_all_items()]
        return {(attributes["service"], attributes["username"]): secret for attributes, secret in items}

    def plant_foreign(self, url: str) -> None:
        for name in ("somebody", "a", "a::other"):
            keyring.plant(url, name, b"theirs")
        keyring.plant(url, "a::k", b"theirs", "other service")
        keyring.plant(url, "a::elsewhere", document("b", "elsewhere").encode())

    def names(self, url: str) -> set[str]:
        return keyring.names(url)

    def plant(self, url: str, name: str, data: bytes) -> None:
        keyring.plant(url, name, data)


HOOKS = {"keyring": KeyringHooks("keyring")}
