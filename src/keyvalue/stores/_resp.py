"""What stores in Redis and Valkey have in common: the commands, whoever sends them."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from binascii import crc_hqx
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from math import ceil
from types import CoroutineType
from typing import Any

from keyvalue._core import clock, runtime
from keyvalue._core.entry import CompareAndSet, Entry, Stored, find_too_large
from keyvalue._core.listing import PAGE_SIZE, EnumerableFlatStore
from keyvalue.errors import KeyValueError, KeyValueStoreError, StoreConnectionError, StoreRefusedError
from keyvalue.stores._drivers.resp import Command, Effect

__all__ = ["RespStore"]

_LIMIT = "the server's proto-max-bulk-len is the limit"
_USUAL_LIMIT = 2**29  # bytes of a string; a server's `proto-max-bulk-len` may say otherwise
_ANY_TAKES = 2**19  # bytes of a value that any server takes: no `proto-max-bulk-len` is below 1 MiB
_UNKNOWN_SIZE = PAGE_SIZE // 16  # what a value is taken for that the server tells no size of, so that few are read at a time
_PAUSES = 0.0, 0.1, 0.3  # seconds before a server is asked for its limit, after it may have ended the connection

# Compares what lies under a name, then sets or removes it. Arguments: the version that must be there, "" for none; those of SET if any.
_COMPARE_AND_SET = """
local there = redis.pcall('GET', KEYS[1])
local version = ''
if type(there) == 'string' then version = redis.sha1hex(there) .. '.' .. #there end
if version ~= ARGV[1] then return 0 end
if #ARGV > 1 then redis.call('SET', KEYS[1], unpack(ARGV, 2)) else redis.call('DEL', KEYS[1]) end
return 1
"""


# Returns what lies under keys, as long as that has no more bytes together than the argument says; of the others, only the sizes. To ask for
# all sizes first takes another round trip, and on redis-py with a command for each key, nearly doubles the time of a listing. Only what is
# of another type is left out: any other error, such as that of a user who may not ask for sizes, is the script's.
_READ_SOME = """
local found, left = {}, tonumber(ARGV[1])
for number, key in ipairs(KEYS) do
    local size = redis.pcall('STRLEN', key)
    if type(size) ~= 'number' then
        if not string.find(size.err, 'WRONGTYPE', 1, true) then return size end
        found[number] = false
    elseif size <= left then
        found[number] = redis.call('GET', key)
        left = left - size
    else
        found[number] = size
    end
end
return found
"""


class _StoredString(Stored):
    """What lies under a key, with a version that a script on the server can compute: the SHA-1 in hexadecimal, a dot and the length."""

    __slots__ = ()

    @property
    def version(self) -> str:
        document = self.document or b""
        return f"{hashlib.sha1(document, usedforsecurity=False).hexdigest()}.{len(document)}"


def _stored(document: bytes | None) -> Stored | None:
    return None if document is None else _StoredString(document)


class RespStore(EnumerableFlatStore):
    """Keeps entries as strings in a database that speaks the protocol of Redis; a subclass sends the commands."""

    _is_cluster: bool

    @abstractmethod
    def _execute(self, command: Command, client: Any) -> Any:
        """Have a client execute a command; return the reply, with strings as bytes, or an awaitable of it."""

    def _send_one(self, command: Command, *, effect: Effect = "read") -> Awaitable[Any]:
        return self._use(partial(self._execute, command), repeatable=effect == "read")

    @abstractmethod
    async def _send(self, commands: Sequence[Command], *, effect: Effect = "read", raises: bool = True) -> Sequence[Any]:
        """Send commands together and return their replies.

        Args:
            commands: One or more; each is about the keys of one slot.
            effect: What they do.
            raises: Whether the first reply that is an error is raised; otherwise it is among the replies.

        Returns:
            The replies, with strings as bytes.
        """

    def _refuse_besides(
        self, what: str, host: str, port: int, db: int, username: str | None, password: str | None, **is_secure: bool
    ) -> None:
        """Refuse arguments beside what makes them needless, rather than ignore them.

        Args:
            what: What that is, with an article.
            host: An argument, as are the next four. One that has its default is taken for one that is not given.
            port: See `host`.
            db: See `host`.
            username: See `host`.
            password: See `host`.
            is_secure: The argument that turns TLS on.

        Raises:
            ValueError: Some are given.
        """
        are_given = {
            "host": host != "localhost",
            "port": port != 6379,
            "db": db != 0,
            "username": username is not None,
            "password": password is not None,
            **is_secure,
        }
        if besides := [name for name, is_given in are_given.items() if is_given]:
            them = "it" if len(besides) == 1 else "them"
            raise ValueError(f"{type(self).__name__}: {' and '.join(besides)} beside {what}, which has its own; leave {them} out")

    async def _change(self, commands: Sequence[Command], effect: Effect) -> list[Any]:
        """Send commands that write, and return their replies; for one that failed, the error to raise.

        If the server turns out to be a replica, the next call looks for the primary.
        """
        replies = [self._outcome(reply) for reply in await self._send(commands, effect=effect, raises=len(commands) == 1)]
        failed = (reply.__cause__ for reply in replies if isinstance(reply, StoreConnectionError))
        if any(self._error_code(error) == "READONLY" for error in failed):
            await self._find_primary()
        return replies

    async def _find_primary(self) -> None:
        if not self._is_cluster:  # whose client asks which node is the primary
            with suppress(StoreConnectionError):
                await self._leave()

    async def _explain(self, error: KeyValueStoreError, cause: Exception) -> KeyValueStoreError:
        if self._error_code(cause) == "READONLY":
            await self._find_primary()
        return await super()._explain(error, cause)

    @abstractmethod
    def _scanned(self, pattern: bytes) -> AsyncGenerator[Sequence[bytes], None]:
        """Yield the keys that match a pattern, in pages of any size."""

    @abstractmethod
    def _error_code(self, error: BaseException | None) -> str:
        """Return the first word of the server's answer that a client's error stands for; "" if it stands for none."""

    def _outcome(self, reply: Any) -> Any:
        """Return a reply, or the error to raise for it."""
        if not isinstance(reply, Exception):
            return reply
        error = self._translate_error(reply)
        if error is None:
            raise reply
        error.__cause__ = reply
        return error

    def _checked(self, replies: Sequence[Any]) -> Sequence[Any]:
        """Return replies, or raise the first that is an error."""
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._outcome(reply)
        return replies

    def _groups(self, keys: Sequence[bytes]) -> Sequence[Sequence[int]]:
        """Return the positions of keys that one command may be about, in groups: all in one, unless it is a cluster."""
        return (range(len(keys)),)

    async def _open(self) -> None:
        await super()._open()
        try:
            await self._use(lambda client: client.ping())
        except (StoreConnectionError, StoreRefusedError) as error:
            # Who may read and write need not be allowed to ping, and a server that can't save refuses that too.
            if self._error_code(error.__cause__) not in ("NOPERM", "MISCONF"):
                raise

    async def _read(self, names: Sequence[str], *, lenient: bool = False) -> Sequence[Stored | None]:
        if len(names) == 1 and not lenient:
            document = await self._use(partial(self._execute, ("GET", names[0].encode())), repeatable=True)
            return (None if document is None else _StoredString(document),)
        # MGET, unlike GET, takes a key of another type for missing.
        return list(map(_stored, await self._found([name.encode() for name in names])))

    async def _found(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        groups = self._groups(keys)
        replies = await self._send([("MGET", *(keys[index] for index in group)) for group in groups])
        if len(groups) == 1:
            return replies[0]
        found = {
            index: document for group, reply in zip(groups, replies, strict=True) for index, document in zip(group, reply, strict=True)
        }
        return [found[index] for index in range(len(keys))]

    def _put(self, collection: str, entries: Sequence[Entry]) -> CoroutineType[Any, Any, Sequence[KeyValueError | None] | None]:
        for entry in entries:
            if len(entry.json) > _ANY_TAKES:
                return self._put_large(collection, entries)
        return super()._put(collection, entries)

    async def _put_large(self, collection: str, entries: Sequence[Entry]) -> Sequence[KeyValueError | None] | None:
        """Put entries of which one may be larger than the server takes. It does not always say so when it ends the connection."""
        if any(len(entry.json) > _USUAL_LIMIT for entry in entries):
            error = find_too_large(entries, await self._limit() or _USUAL_LIMIT, _LIMIT)
            if error is not None:
                raise error
        try:
            outcomes = await super()._put(collection, entries) or ()
            refused = next((outcome for outcome in outcomes if isinstance(outcome, KeyValueStoreError)), None)
            if refused is not None:
                raise refused
        except (StoreConnectionError, StoreRefusedError) as refused:
            is_told = "invalid bulk length" in str(refused.__cause__)
            if not is_told and not self._is_broken(refused):
                raise
            limit = await self._limit()
            error = find_too_large(entries, limit, _LIMIT) if is_told or limit is not None else None
            if error is None:
                raise
            raise error from refused.__cause__
        return None

    def _is_broken(self, error: KeyValueStoreError) -> bool:
        """Return whether an error may mean that a connection broke, rather than that none could be made."""
        cause = error.__cause__
        return isinstance(error, StoreConnectionError) and not self._is_unsent(cause) and self._is_stale_connection(cause)

    async def _limit(self) -> int | None:
        """Return how many bytes of a string the server takes, if it tells."""
        for pause in _PAUSES:
            await runtime.sleep(pause)
            try:
                reply = await self._ask("CONFIG", "GET", "proto-max-bulk-len")
            except StoreConnectionError as error:
                if self._is_broken(error):
                    continue
                return None
            except StoreRefusedError:  # the user may lack the right to ask
                return None
            # A list or a mapping, of one node or by node.
            found = re.search(r"max-bulk-len\D+(\d+)", str(reply))
            return None if found is None else int(found[1])
        return None

    async def _ask(self, *command: str) -> Any:
        """Send a command that is about no key, and return the reply."""
        return await self._send_one(command)

    @abstractmethod
    async def _leave(self) -> None:
        """Have the client close the connections that it keeps and no call uses, so that it makes new ones."""

    async def _write(self, rows: Sequence[tuple[str, Entry]]) -> Sequence[KeyValueError | None] | None:
        if len(rows) > 1 and all(entry.expires_at is None for _, entry in rows):
            pairs = [(name.encode(), entry.document()) for name, entry in rows]
            groups = self._groups([key for key, _ in pairs])
            replies = await self._change([("MSET", *(part for index in group for part in pairs[index])) for group in groups], "put")
            outcomes = {index: reply for group, reply in zip(groups, replies, strict=True) for index in group}
            replies = [outcomes[index] for index in range(len(rows))]
        else:
            now = clock.now()
            commands = [("SET", name.encode(), *_arguments(entry, now)) for name, entry in rows]
            if len(commands) == 1:
                await self._send_one(commands[0], effect="put")
                return None
            replies = await self._change(commands, "put")
        return [reply if isinstance(reply, KeyValueError) else None for reply in replies]

    async def _pop(self, names: Sequence[str]) -> Sequence[Stored | KeyValueError | None]:
        replies = await self._change([("GETDEL", name.encode()) for name in names], "once")
        return [reply if isinstance(reply, KeyValueError) else _stored(reply) for reply in replies]

    async def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Sequence[bool]:
        now = clock.now()
        commands = [
            ("EVAL", _COMPARE_AND_SET, "1", name.encode(), version or "", *_arguments(entry, now)) for name, version, entry in changes
        ]
        replies = await self._change(commands, "once")
        for reply in replies:
            if isinstance(reply, KeyValueError):
                raise reply
        return [bool(reply) for reply in replies]

    async def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        refused: set[str] = set()
        async with aclosing(self._scanned(re.sub(rb"([\\*?\[\]^])", rb"\\\1", prefix.encode()) + b"*")) as pages:
            async for scanned in pages:
                keys = [key for key in scanned if key.decode(errors="ignore").encode() == key]
                page, others = await self._found_in_part(keys, refused) if keys else ([], [])
                yield page
                while others:
                    count = total = 0
                    while count < len(others) and total < PAGE_SIZE:
                        total += others[count][1]
                        count += 1
                    some, others = [key for key, _ in others[:count]], others[count:]
                    yield _named(some, await self._found(some))

    async def _found_in_part(self, keys: Sequence[bytes], refused: set[str]) -> tuple[list[tuple[str, Stored]], list[tuple[bytes, int]]]:
        """Read what lies under some of many keys, `PAGE_SIZE` bytes at most; return the other keys and the sizes of what lies there.

        Args:
            keys: The keys.
            refused: The commands, of `EVAL` and `STRLEN`, that the user has no right to. Added to; none of them is sent again.
        """
        if "EVAL" not in refused:
            groups = [[keys[index] for index in group] for group in self._slots(keys)]
            scripts = [("EVAL", _READ_SOME, str(len(some)), *some, str(PAGE_SIZE // len(groups))) for some in groups]
            try:
                replies = await self._send(scripts)
            except StoreRefusedError:
                refused.add("EVAL")
            else:
                found = [pair for some, reply in zip(groups, replies, strict=True) for pair in zip(some, reply, strict=True)]
                return _named(*zip(*found, strict=True)), [pair for pair in found if isinstance(pair[1], int)]
        sizes: Sequence[Any] = [None] * len(keys)
        if "STRLEN" not in refused:
            sizes = await self._send([("STRLEN", key) for key in keys], raises=False)
            if not any(isinstance(size, int) for size in sizes):
                refused.add("STRLEN")
        return [], [(key, size if isinstance(size, int) else _UNKNOWN_SIZE) for key, size in zip(keys, sizes, strict=True)]

    def _slots(self, keys: Sequence[bytes]) -> Sequence[Sequence[int]]:
        """Return the positions of keys in groups, one for each slot of a cluster: a script is about the keys of one."""
        if not self._is_cluster:
            return (range(len(keys)),)
        groups: dict[int, list[int]] = {}
        for index, key in enumerate(keys):
            tag = re.match(rb"[^{]*\{([^}]+)\}", key)
            groups.setdefault(crc_hqx(tag[1] if tag else key, 0) % 16384, []).append(index)
        return list(groups.values())


def _named(keys: Sequence[bytes], found: Sequence[object]) -> list[tuple[str, Stored]]:
    """Return the names of keys under which there is a document, with that."""
    return [(key.decode(), _StoredString(document)) for key, document in zip(keys, found, strict=True) if isinstance(document, bytes)]


def _arguments(entry: Entry | None, now: float) -> Command:
    """Return the arguments of SET: the document, and its time to live in milliseconds, rounded up."""
    if entry is None:
        return ()
    expiry = () if entry.expires_at is None else ("PX", str(max(1, ceil((entry.expires_at - now) * 1000))))
    return entry.document(), *expiry
