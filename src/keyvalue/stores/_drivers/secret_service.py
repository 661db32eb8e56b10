"""A connection to the Secret Service that is kept between calls."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keyring.backends import SecretService

from keyvalue._core import fork

__all__ = ["KeptCollection"]


class KeptCollection:
    """The collection of a Secret Service over a connection that is kept, where keyring makes one for each call.

    Nine tenths of such a call go to agreeing on a key for the connection. Also, GNOME Keyring may crash at the first call of a connection
    (42.1 did on a loaded machine, once in some five thousand connections).

    Args:
        backend: The backend that makes the connections.
    """

    def __init__(self, backend: SecretService.Keyring) -> None:
        self._connect: Callable[[], Any] = backend.get_preferred_collection
        self._collection: Any = None
        self._owner: object = None
        fork.register_after_fork(self)

    def _after_fork(self) -> None:
        self.close()

    def collection(self) -> Any:
        """Return the collection, as the backend's `get_preferred_collection` does, unlocked. Closing its connection has no effect."""
        if self._collection is None or not self._is_usable():
            from secretstorage.util import open_session  # noqa: PLC0415 # only Linux has it

            self.close()
            self._collection = collection = self._connect()
            connection: Any = _Unclosed(collection.connection)
            collection.connection = connection
            self._owner = self._ask_owner()
            collection.session = open_session(connection)
        return self._collection

    def close(self) -> None:
        """Close the connection, if there is one."""
        collection, self._collection = self._collection, None
        if collection is not None:
            collection.connection.connection.close()

    def _is_usable(self) -> bool:
        try:
            return self._ask_owner() == self._owner and not self._collection.is_locked()
        except Exception:  # noqa: BLE001 # whatever it is, a new connection will tell
            return False

    def _ask_owner(self) -> object:
        """Return which process provides the service: its sessions end with it."""
        from jeepney import message_bus  # noqa: PLC0415 # only Linux has it
        from jeepney.io.blocking import Proxy  # noqa: PLC0415 # only Linux has it

        proxy: Any = Proxy(message_bus, self._collection.connection)
        return proxy.GetNameOwner("org.freedesktop.secrets")


class _Unclosed:
    """A connection that keyring, which closes it after each call, does not close."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def close(self) -> None:
        """Leave it open."""
