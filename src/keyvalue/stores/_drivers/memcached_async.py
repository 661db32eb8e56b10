"""Memcached's commands on asyncio, many in one round trip."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from keyvalue._core.entry import Stored
from keyvalue._core.extras import needs
from keyvalue._core.pending import Reply
from keyvalue.stores._drivers.memcached_commands import GONE, Swap, unexpected_reply

with needs("memcached"):
    import aiomcache

__all__ = ["AsyncMemcached", "address_of"]

_DONE = {b"STORED": True, b"DELETED": True, b"NOT_STORED": False, b"EXISTS": False, b"NOT_FOUND": False}


class AsyncMemcached:
    """The commands over one connection of its own to a server, on which any number of calls are under way.

    aiomcache has three faults: a cancelled call leaves its reply to the next caller, a call loops for ever if the server ends the
    connection in the middle, and there are no timeouts. Here each reply goes to the call that it answers,
    whether a caller still waits for it or not.

    Args:
        host: The server.
        port: Its port.
        timeout: Seconds that a reply may take, from when the one before it was complete.
        options: What else `loop.create_connection` takes.

    Attributes:
        capacity: None: any number of calls at a time.
    """

    capacity = None

    def __init__(self, host: str, port: int, timeout: float, options: Mapping[str, Any]) -> None:
        self._address = host, port
        self._timeout = timeout
        self._options = options
        self._connection: MemcachedProtocol | None = None
        self._connecting: asyncio.Task[None] | None = None

    def get(self, names: Sequence[bytes]) -> Awaitable[dict[bytes, Stored]]:
        """Return what lies under names."""
        return self._call(b"get %b\r\n" % b" ".join(names), 0)

    def gets(self, names: Sequence[bytes]) -> Awaitable[dict[bytes, tuple[Stored, bytes]]]:
        """Return what lies under names, each with a token for `cas`."""
        return self._call(b"gets %b\r\n" % b" ".join(names), 0)

    def set(self, documents: Mapping[bytes, bytes], exptime: int) -> Awaitable[object]:
        """Store documents under their names."""
        commands = [b"set %b 0 %d %d\r\n%b\r\n" % (name, exptime, len(document), document) for name, document in documents.items()]
        return self._call(b"".join(commands), len(commands))

    def delete(self, names: Sequence[bytes]) -> Awaitable[Sequence[bool]]:
        """Remove names, and return which were there."""
        return self._call(b"".join([b"delete %b\r\n" % name for name in names]), len(names))

    def cas(self, swaps: Sequence[Swap]) -> Awaitable[Sequence[bool]]:
        """Make the swaps that can still be made, and return which were."""
        commands: list[bytes] = []
        for name, token, document, exptime in swaps:
            text = b"" if document is None else document
            head = b"%b 0 %d %d" % (name, GONE if document is None else exptime, len(text))
            commands.append(b"%b\r\n%b\r\n" % (b"add " + head if token is None else b"cas %b %b" % (head, token), text))
        return self._call(b"".join(commands), len(commands))

    async def close(self) -> None:
        """Close the connection, after the replies that are still to come."""
        if self._connecting is not None:
            with suppress(Exception):
                await asyncio.shield(self._connecting)
        if self._connection is not None:
            await self._connection.close()

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.drop()

    def _call(self, request: bytes, count: int) -> Awaitable[Any]:
        connection = self._connection
        if connection is None or connection.is_lost:
            return self._call_anew(request, count)
        return connection.send(request, count)

    async def _call_anew(self, request: bytes, count: int) -> Any:
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._connecting)
        assert self._connection is not None
        return await self._connection.send(request, count)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            connecting = loop.create_connection(lambda: MemcachedProtocol(loop, self._timeout), *self._address, **self._options)
            _, self._connection = await asyncio.wait_for(connecting, self._timeout)
        except asyncio.TimeoutError:
            raise TimeoutError from None  # which it is not before Python 3.11
        finally:
            self._connecting = None


def address_of(client: aiomcache.FlagClient[Any]) -> tuple[str, int, Mapping[str, Any]]:
    """Return host and port of a client, and the options of its connections."""
    pool: Any = client._pool  # pyright: ignore[reportPrivateUsage] # it has no public way
    return pool._host, pool._port, {name: value for name, value in pool.conn_args.items() if name != "limit"}


class _Reply(Reply):
    """What a call waits for.

    Attributes:
        count: The lines that it has; 0 if it is values up to `END`.
        sent_at: When the commands were sent.
        lines: The lines that have come: for each, whether it says that something was done.
        values: The values that have come, with their tokens if there are any.
        error: The last error among them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        super().__init__(loop=loop)
        self.count = count
        self.sent_at = loop.time()
        self.lines: list[bool] = []
        self.values: dict[bytes, Any] = {}
        self.error: Exception | None = None


class MemcachedProtocol(asyncio.Protocol):
    """One connection: commands go out, and replies come back in the same order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self.is_lost = False
        self._error: Exception | None = None  # why it was
        self._loop = loop
        self._timeout = timeout
        self._transport: Any = None
        self._awaited: deque[_Reply] = deque()
        self._rest: bytes | bytearray = b""
        self._needed = 0  # bytes of the rest before it is worth looking at
        self._answered_at = 0.0  # when the last reply was complete
        self._timer: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, request: bytes, count: int) -> _Reply:
        """Send commands; return what their replies are awaited by."""
        reply = _Reply(self._loop, count)
        if self.is_lost:  # before it was used
            reply.end(None, self._error)
            return reply
        self._awaited.append(reply)
        self._transport.write(request)
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._look)
        return reply

    async def close(self) -> None:
        """Wait for all replies, and for the end of the connection."""
        if not self.is_lost:
            self._ended = self._loop.create_future()
            if not self._awaited:
                self._transport.close()
            await self._ended

    def drop(self) -> None:
        """End the connection without waiting for anything, from any thread."""
        if not self.is_lost:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._transport.abort)

    def data_received(self, data: bytes) -> None:
        text: bytes | bytearray = data
        if self._rest:
            text = self._rest = bytearray(self._rest) if isinstance(self._rest, bytes) else self._rest
            text += data
            if len(text) < self._needed:
                return
        done = 0
        self._needed = 0
        while self._awaited:
            end = text.find(b"\r\n", done)
            if end < 0:
                break
            reply = self._awaited[0]
            line = bytes(text[done:end])
            after = end + 2
            if not reply.count and line.startswith(b"VALUE "):
                _, name, _, size, *token = line.split()
                stop = after + int(size)
                if len(text) < stop + 2:
                    self._needed = stop + 2 - done
                    break
                value = Stored(bytes(text[after:stop]))
                reply.values[name] = (value, token[0]) if token else value
                done = stop + 2
                continue
            done = after
            if reply.count and line in _DONE:
                reply.lines.append(_DONE[line])
            elif reply.count and line.startswith(b"SERVER_ERROR"):
                reply.lines.append(False)
                reply.error = aiomcache.ClientException(line.decode(errors="replace"))
            elif reply.count or line != b"END":
                # There is no telling what the lines behind this one belong to.
                self._give_up(unexpected_reply(line))
                return
            if len(reply.lines) == reply.count:
                self._awaited.popleft()
                self._answered_at = self._loop.time()
                reply.end(reply.lines if reply.count else reply.values, reply.error)
        self._rest = text[done:]
        if self._rest and not self._awaited:
            self._give_up(unexpected_reply(bytes(self._rest)))
        if self._ended is not None and not self._awaited:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up(exc)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _look(self) -> None:
        """See whether a reply has taken too long."""
        self._timer = None
        if not self._awaited:
            return
        left = max(self._answered_at, self._awaited[0].sent_at) + self._timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._give_up(TimeoutError())

    def _give_up(self, error: Exception | None) -> None:
        self.is_lost = True
        self._error = self._error or error or ConnectionResetError("the server closed the connection")
        self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
        while self._awaited:
            self._awaited.popleft().end(None, self._error)
