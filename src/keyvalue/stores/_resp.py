"""What stores in Redis and Valkey have in common: the commands, whoever sends them."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from math import ceil
from typing import Any

from keyvalue._core import clock
from keyvalue._core.entry import Entry
from keyvalue._core.flat import Change, EnumerableFlatStore

__all__ = ["PAGE", "Command", "RespStore"]

Command = tuple["str | bytes", ...]

PAGE = 500
"""How many keys a step of a scan looks at, about."""

# Compares what lies under a name, then sets or removes it. Arguments: whether a document must be there, that document, those of SET if any.
_EXCHANGE = """
local there = redis.pcall('GET', KEYS[1])
if type(there) ~= 'string' then there = false end
if ARGV[1] == '0' and there or ARGV[1] == '1' and there ~= ARGV[2] then return 0 end
if #ARGV > 2 then redis.call('SET', KEYS[1], unpack(ARGV, 3)) else redis.call('DEL', KEYS[1]) end
return 1
"""


class RespStore(EnumerableFlatStore):
    """Keeps entries as strings in a database that speaks the protocol of Redis; a subclass sends the commands."""

    @abstractmethod
    async def _send(self, commands: Sequence[Command], *, repeatable: bool = True) -> Sequence[Any]:
        """Send commands together and return their replies.

        Args:
            commands: One or more; each is about the keys of one slot.
            repeatable: Whether they may be sent again if a connection turns out to be dead.

        Returns:
            The replies, with strings as bytes. The first reply that is an error is raised.
        """

    @abstractmethod
    def _scanned(self, pattern: bytes) -> AsyncGenerator[Sequence[bytes], None]:
        """Yield the keys that match a pattern, in pages of any size."""

    def _checked(self, replies: Sequence[Any]) -> Sequence[Any]:
        """Raise the first reply that is an error."""
        for reply in replies:
            if isinstance(reply, Exception):
                mapped = self._mapped(reply)
                if mapped is None:
                    raise reply
                raise mapped from reply
        return replies

    def _groups(self, keys: Sequence[bytes]) -> Sequence[Sequence[int]]:
        """Return the positions of keys that one command may be about, in groups: all in one, unless it is a cluster."""
        return (range(len(keys)),)

    async def _open(self) -> None:
        await super()._open()
        await self._use(lambda client: client.ping())

    async def _read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        return await self._send([("GET", names[0].encode())]) if len(names) == 1 else await self._peek(names)

    async def _peek(self, names: Sequence[str]) -> Sequence[bytes | None]:
        # MGET, unlike GET, takes a key of another type for missing.
        return await self._found([name.encode() for name in names])

    async def _found(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        groups = self._groups(keys)
        replies = await self._send([("MGET", *(keys[index] for index in group)) for group in groups])
        if len(groups) == 1:
            return replies[0]
        found = {
            index: document for group, reply in zip(groups, replies, strict=True) for index, document in zip(group, reply, strict=True)
        }
        return [found[index] for index in range(len(keys))]

    async def _store(self, entries: Sequence[tuple[str, Entry]]) -> None:
        if len(entries) > 1 and all(entry.expires_at is None for _, entry in entries):
            pairs = [(name.encode(), entry.document()) for name, entry in entries]
            groups = self._groups([key for key, _ in pairs])
            await self._send([("MSET", *(part for index in group for part in pairs[index])) for group in groups])
            return
        now = clock.now()
        await self._send([("SET", name.encode(), *_arguments(entry, now)) for name, entry in entries])

    async def _remove(self, names: Sequence[str]) -> Sequence[bytes | None]:
        return await self._send([("GETDEL", name.encode()) for name in names], repeatable=False)

    async def _exchange(self, changes: Sequence[Change]) -> Sequence[object]:
        now = clock.now()
        commands = [
            ("EVAL", _EXCHANGE, "1", name.encode(), *(("0", "") if expected is None else ("1", expected)), *_arguments(entry, now))
            for name, expected, entry in changes
        ]
        return await self._send(commands, repeatable=False)

    async def _list(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, bytes]], None]:
        async with aclosing(self._scanned(re.sub(rb"([\\*?\[\]^])", rb"\\\1", prefix.encode()) + b"*")) as pages:
            async for keys in pages:
                yield [
                    (name, document)
                    for key, document in zip(keys, await self._found(keys), strict=True)
                    if document is not None and (name := key.decode(errors="ignore")).encode() == key
                ]


def _arguments(entry: Entry | None, now: float) -> Command:
    """Return the arguments of SET: the document, and its time to live in milliseconds, rounded up."""
    if entry is None:
        return ()
    expiry = () if entry.expires_at is None else ("PX", str(max(1, ceil((entry.expires_at - now) * 1000))))
    return entry.document(), *expiry
