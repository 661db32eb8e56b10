"""Sockets for blocking clients that keep each reply within its timeout."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["BoundedSocket"]

T = TypeVar("T")


class BoundedSocket:
    """A socket with a timeout for everything that it receives after a send, or after it was created.

    Python's own starts anew with each `recv`, so a reply that drips byte by byte would never end. The first `recv` after a `sendall` is
    left as it is, and is all that a short reply needs.

    Args:
        sock: The socket, plain or TLS. Its timeout counts.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._sent_at = time.monotonic()
        self._is_first = True
        # Looked up here, since clients call them for each reply.
        self._sendall = sock.sendall
        self._recv = sock.recv
        self.settimeout = sock.settimeout
        self.gettimeout = sock.gettimeout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: Any) -> None:
        """Send data, and have the time for the reply begin."""
        self._sendall(data)
        self._sent_at = time.monotonic()
        self._is_first = True

    def recv(self, size: int, *flags: int) -> bytes:
        """Receive data of the reply; with flags, as when a client looks whether its connection is still there, whatever has come."""
        if flags:
            return self._recv(size, *flags)
        if self._is_first:
            self._is_first = False
            return self._recv(size)
        return self._received(self._recv, size)

    def recv_into(self, buffer: Any, *sizes_and_flags: int) -> int:
        """Receive data of the reply into a buffer; flags as for `recv`."""
        if any(sizes_and_flags[1:]):
            return self._sock.recv_into(buffer, *sizes_and_flags)
        if self._is_first:
            self._is_first = False
            return self._sock.recv_into(buffer, *sizes_and_flags)
        return self._received(self._sock.recv_into, buffer, *sizes_and_flags)

    def _received(self, receive: Callable[..., T], *what: Any) -> T:
        timeout = self.gettimeout()
        if not timeout:  # it does not wait, or is meant to for ever
            return receive(*what)
        left = self._sent_at + timeout - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        try:
            self.settimeout(left)
            return receive(*what)
        finally:
            self.settimeout(timeout)
