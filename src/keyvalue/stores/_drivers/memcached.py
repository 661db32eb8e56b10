"""Memcached's commands over pymemcache, many in one round trip."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pymemcache leaves most of its functions without types.

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from keyvalue._core.entry import Stored
from keyvalue._core.extras import needs
from keyvalue.errors import StoreSetupError
from keyvalue.stores._drivers.memcached_commands import GONE, Swap, unexpected_reply
from keyvalue.stores._drivers.sockets import BoundedSocket

with needs("memcached"):
    import pymemcache
    from pymemcache.exceptions import MemcacheServerError

__all__ = ["Connection", "Memcached"]

T = TypeVar("T")

_CONNECTIONS = 100  # a server takes 1024 by default


class Memcached:
    """The commands over pymemcache, for any number of threads.

    Args:
        connect: Returns a connection.
        given: A client to use instead.

    Attributes:
        capacity: How many calls it makes at a time; None if the given client does not say.
    """

    def __init__(self, connect: Callable[[], Connection] | None = None, given: Any = None) -> None:
        self._connect = connect
        self._given = given
        self.capacity: int | None = _CONNECTIONS if given is None else getattr(getattr(given, "client_pool", None), "max_size", None)
        self._idle: deque[Connection] = deque()

    @classmethod
    def connecting(cls, host: str, port: int, timeout: float, options: Mapping[str, Any]) -> Memcached:
        """Return the commands over connections to a server.

        Args:
            host: The server.
            port: Its port.
            timeout: Seconds that connecting, or a reply, may take.
            options: Those of the connections of a given client.

        Raises:
            StoreSetupError: There are options, which only asyncio can use.
        """
        if options:
            raise StoreSetupError(
                f"The client that was passed has options ({', '.join(options)}) that only asyncio can use. "
                "Pass one of pymemcache, which works everywhere"
            )
        return cls(partial(Connection, (host, port), connect_timeout=timeout, timeout=timeout))

    def get(self, names: Sequence[bytes]) -> dict[bytes, Stored]:
        """Return what lies under names."""
        return {name: _stored(value) for name, value in self._call(lambda client: client.get_many(names)).items()}

    def gets(self, names: Sequence[bytes]) -> dict[bytes, tuple[Stored, bytes]]:
        """Return what lies under names, each with a token for `cas`."""
        return {name: (_stored(value), token) for name, (value, token) in self._call(lambda client: client.gets_many(names)).items()}

    def set(self, documents: Mapping[bytes, bytes], exptime: int) -> None:
        """Store documents under their names."""
        if self._call(lambda client: client.set_many(documents, exptime, noreply=False), is_write=True):
            raise MemcacheServerError("not stored")

    def delete(self, names: Sequence[bytes]) -> Sequence[bool]:
        """Remove names, and return which were there; of several, all count."""
        if len(names) == 1:
            return [self._call(lambda client: client.delete(names[0], noreply=False), is_write=True)]
        self._call(lambda client: client.delete_many(names, noreply=False), is_write=True)
        return [True] * len(names)

    def cas(self, swaps: Sequence[Swap]) -> Sequence[bool]:
        """Make the swaps that can still be made, and return which were."""
        return [bool(self._call(lambda client, swap=swap: _swapped(client, swap), is_write=True)) for swap in swaps]

    def close(self) -> None:
        """Close idle connections."""
        while self._idle:
            self._idle.pop().close()

    __del__ = close

    def _call(self, function: Callable[[Any], T], *, is_write: bool = False) -> T:
        if self._given is not None:
            try:
                return function(self._given)
            except BaseException as error:
                if not isinstance(error, Exception) and isinstance(self._given, pymemcache.Client):
                    self._given.close()  # a reply may be left unread; it connects again by itself
                raise
        try:
            connection = self._idle.pop()
            if is_write and connection.has_ended():  # a write on it would be lost, and must not be sent again
                connection.close()
                self.close()
                raise IndexError
        except IndexError:
            assert self._connect is not None
            connection = self._connect()
        try:
            result = function(connection)
        except BaseException:
            # A reply may be left unread. And if the server has gone away, the others are as dead.
            connection.close()
            self.close()
            raise
        self._idle.append(connection)
        return result


class Connection(pymemcache.Client):
    """A client with one connection, which tries all addresses of its host, and tells what a server answers."""

    def _connect(self) -> None:
        self.close()
        sock = socket.create_connection(cast("tuple[str, int]", self.server), self.connect_timeout)
        sock.settimeout(self.timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = cast("socket.socket", BoundedSocket(sock))

    def has_ended(self) -> bool:
        """Return whether the server has closed the connection, or sent what nothing asked for."""
        return self.sock is not None and _is_readable(self.sock)

    def _raise_errors(self, line: bytes, name: bytes) -> None:
        if line.startswith(b"ERROR"):  # of which pymemcache keeps nothing
            raise unexpected_reply(line)
        super()._raise_errors(line, name)


def _is_readable(sock: socket.socket) -> bool:
    if not hasattr(select, "poll"):  # Windows, where select() has no limit on the numbers of sockets
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _swapped(client: Any, swap: Swap) -> bool:
    if swap.token is None:
        return client.add(swap.name, swap.document, swap.exptime, noreply=False)
    if swap.document is None:
        return client.cas(swap.name, b"", swap.token, GONE)
    return client.cas(swap.name, swap.document, swap.token, swap.exptime)


def _stored(value: object) -> Stored:
    # A given client may decode what others have stored.
    return Stored(value if isinstance(value, bytes) else None)
