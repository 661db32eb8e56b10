"""What stores in Redis and Valkey have in common: the commands, whoever sends them."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from operator import itemgetter, methodcaller
from types import CoroutineType
from typing import Any

from keyvalue._core import clock, runtime
from keyvalue._core.entry import CompareAndSet, Entry, Stored, find_too_large
from keyvalue._core.listing import PAGE_SIZE, EnumerableFlatStore
from keyvalue.errors import KeyValueError, KeyValueStoreError, StoreConnectionError, StoreRefusedError
from keyvalue.stores._drivers.batches import split_batches
from keyvalue.stores._drivers.resp import (
    COMPARE_AND_SET,
    READ_SOME,
    Command,
    Effect,
    StoredString,
    group_by_slot,
    match_prefix,
    name_documents,
    set_arguments,
    to_stored,
)

__all__ = ["RespStore"]

_LIMIT = "the server's proto-max-bulk-len is the limit"
_USUAL_LIMIT = 2**29  # bytes of a string; a server's `proto-max-bulk-len` may say otherwise
_ANY_TAKES = 2**19  # bytes of a value that any server takes: no `proto-max-bulk-len` is below 1 MiB
_UNKNOWN_SIZE = PAGE_SIZE // 16  # what a value is taken for that the server tells no size of, so that few are read at a time
_PAUSES = 0.0, 0.1, 0.3  # seconds before a server is asked for its limit, after it may have ended the connection


class RespStore(EnumerableFlatStore):
    """Keeps entries as strings in a database that speaks the protocol of Redis; a subclass has its clients execute the commands."""

    _is_cluster: bool

    @abstractmethod
    def _execute(self, command: Command, client: Any) -> Any:
        """Have a client execute a command; return the reply, with strings as bytes, or an awaitable of it."""

    @abstractmethod
    def _execute_all(self, commands: Sequence[Command], client: Any) -> Any:
        """Have a client execute commands in one round trip, each about the keys of one slot.

        Returns:
            The replies, with strings as bytes, and with the client's errors in place of those of commands that failed; or an awaitable.
        """

    @abstractmethod
    def _scan_keys(self, pattern: bytes) -> AsyncGenerator[Sequence[bytes], None]:
        """Yield the keys that match a pattern, in pages of any size."""

    @abstractmethod
    async def _leave(self) -> None:
        """Have the client close the connections that it keeps and no call uses, so that it makes new ones."""

    @abstractmethod
    def _error_code(self, error: BaseException | None) -> str:
        """Return the first word of the server's answer that a client's error stands for; "" if it stands for none."""

    # Sending commands

    def _send_one(self, command: Command, *, effect: Effect = "read") -> Awaitable[Any]:
        return self._use(partial(self._execute, command), repeatable=effect == "read")

    async def _send_all(self, commands: Sequence[Command], *, effect: Effect = "read") -> Sequence[Any]:
        """Send commands together and return their replies, errors included."""
        return await self._use(partial(self._execute_all, commands), repeatable=effect == "read")

    async def _query(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Send commands that read, and return their replies; raise the first that is an error."""
        if len(commands) == 1:
            return (await self._send_one(commands[0]),)
        return self._raise_error(list(map(self._translate_reply, await self._send_all(commands))))

    async def _change(self, commands: Sequence[Command], effect: Effect) -> Sequence[Any]:
        """Send commands that write, and return their replies; for one that failed, the error to raise.

        If the server turns out to be a replica, the next call looks for the primary.
        """
        if len(commands) == 1:
            return (await self._send_one(commands[0], effect=effect),)
        replies = list(map(self._translate_reply, await self._send_all(commands, effect=effect)))
        if any(isinstance(reply, StoreConnectionError) and self._error_code(reply.__cause__) == "READONLY" for reply in replies):
            await self._find_primary()
        return replies

    def _translate_reply(self, reply: Any) -> Any:
        """Return a reply, or the error to raise for it."""
        if not isinstance(reply, Exception) or isinstance(reply, KeyValueError):
            return reply
        error = self._translate_error(reply)
        if error is None:
            raise reply
        return error

    @staticmethod
    def _raise_error(replies: Sequence[Any]) -> Sequence[Any]:
        """Return replies, or raise the first that is an error."""
        for reply in replies:
            if isinstance(reply, KeyValueError):
                raise reply
        return replies

    async def _ask(self, *command: str) -> Any:
        """Send a command that is about no key, and return the reply."""
        return await self._send_one(command)

    async def _find_primary(self) -> None:
        if not self._is_cluster:  # the cluster's client asks which node is the primary
            with suppress(StoreConnectionError):
                await self._leave()

    async def _explain(self, error: KeyValueStoreError, cause: Exception) -> KeyValueStoreError:
        if self._error_code(cause) == "READONLY":
            await self._find_primary()
        return await super()._explain(error, cause)

    async def _open(self) -> None:
        await super()._open()
        await self._ping()

    async def _ping(self) -> None:
        try:
            await self._use(methodcaller("ping"))
        except (StoreConnectionError, StoreRefusedError) as error:
            # Who may read and write need not be allowed to ping, and a server that can't save refuses that too.
            if self._error_code(error.__cause__) not in ("NOPERM", "MISCONF"):
                raise

    # Entries

    async def _read(self, names: Sequence[str], *, lenient: bool = False) -> Sequence[Stored | None]:
        if len(names) == 1 and not lenient:
            document = await self._use(partial(self._execute, ("GET", names[0].encode())), repeatable=True)
            return (None if document is None else StoredString(document),)
        # MGET, unlike GET, takes a key of another type for missing.
        return list(map(to_stored, await self._read_keys([name.encode() for name in names])))

    async def _read_keys(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        groups = self._group_for_bulk(keys)
        replies = await self._query([("MGET", *(keys[index] for index in group)) for group in groups])
        if len(groups) == 1:
            return replies[0]
        found = {index: found for group, reply in zip(groups, replies, strict=True) for index, found in zip(group, reply, strict=True)}
        return [found[index] for index in range(len(keys))]

    def _group(self, keys: Sequence[bytes]) -> Sequence[Sequence[int]]:
        """Return the positions of keys that one command may be about, in groups."""
        return group_by_slot(keys) if self._is_cluster else (range(len(keys)),)

    def _group_for_bulk(self, keys: Sequence[bytes]) -> Sequence[Sequence[int]]:
        """Do what `_group` does, for MGET and MSET, which some clients split themselves."""
        return self._group(keys)

    async def _write(self, rows: Sequence[tuple[str, Entry]]) -> Sequence[KeyValueError | None] | None:
        if len(rows) > 1 and all(entry.expires_at is None for _, entry in rows):
            pairs = [(name.encode(), entry.document()) for name, entry in rows]
            groups = self._group_for_bulk([key for key, _ in pairs])
            replies = await self._change([("MSET", *(part for index in group for part in pairs[index])) for group in groups], "put")
            outcomes = {index: reply for group, reply in zip(groups, replies, strict=True) for index in group}
            replies = [outcomes[index] for index in range(len(rows))]
        else:
            now = clock.now()
            commands = [("SET", name.encode(), *set_arguments(entry, now)) for name, entry in rows]
            if len(commands) == 1:
                await self._send_one(commands[0], effect="put")
                return None
            replies = await self._change(commands, "put")
        return [reply if isinstance(reply, KeyValueError) else None for reply in replies]

    async def _pop(self, names: Sequence[str]) -> Sequence[Stored | KeyValueError | None]:
        replies = await self._change([("GETDEL", name.encode()) for name in names], "once")
        return [reply if isinstance(reply, KeyValueError) else to_stored(reply) for reply in replies]

    async def _compare_and_set(self, changes: Sequence[CompareAndSet]) -> Sequence[bool]:
        now = clock.now()
        commands = [
            ("EVAL", COMPARE_AND_SET, "1", name.encode(), version or "", *set_arguments(entry, now)) for name, version, entry in changes
        ]
        return list(map(bool, self._raise_error(await self._change(commands, "once"))))

    # Entries that are larger than the server takes

    def _put(self, collection: str, entries: Sequence[Entry]) -> CoroutineType[Any, Any, Sequence[KeyValueError | None] | None]:
        for entry in entries:
            if len(entry.json) > _ANY_TAKES:
                return self._put_large(collection, entries)
        return super()._put(collection, entries)

    async def _put_large(self, collection: str, entries: Sequence[Entry]) -> Sequence[KeyValueError | None] | None:
        """Put entries of which one may be larger than the server takes. It does not always say so when it ends the connection."""
        if any(len(entry.json) > _USUAL_LIMIT for entry in entries):
            error = find_too_large(entries, await self._find_limit() or _USUAL_LIMIT, _LIMIT)
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
            limit = await self._find_limit()
            error = find_too_large(entries, limit, _LIMIT) if is_told or limit is not None else None
            if error is None:
                raise
            raise error from refused.__cause__
        return None

    def _is_broken(self, error: KeyValueStoreError) -> bool:
        """Return whether an error may mean that a connection broke, rather than that none could be made."""
        cause = error.__cause__
        return isinstance(error, StoreConnectionError) and not self._is_unsent(cause) and self._is_stale_connection(cause)

    async def _find_limit(self) -> int | None:
        """Return how many bytes of a string the server takes, if it tells."""
        for pause in _PAUSES:
            await runtime.sleep(pause)
            try:
                reply = await self._ask("CONFIG", "GET", "proto-max-bulk-len")
            except (StoreConnectionError, StoreRefusedError) as error:  # the user may lack the right to ask
                if self._is_broken(error):
                    continue
                return None
            # A list or a mapping, of one node or by node.
            found = re.search(r"max-bulk-len\D+(\d+)", str(reply))
            return None if found is None else int(found[1])
        return None

    # Listing

    async def _scan_documents(self, prefix: str) -> AsyncGenerator[Sequence[tuple[str, Stored]], None]:
        refused: set[str] = set()
        async with aclosing(self._scan_keys(match_prefix(prefix))) as pages:
            async for scanned in pages:
                keys = [key for key in scanned if key.decode(errors="ignore").encode() == key]
                page, others = await self._read_some(keys, refused) if keys else ([], [])
                yield page
                for batch in split_batches(others, itemgetter(1), size=PAGE_SIZE):
                    some = [key for key, _ in batch]
                    yield name_documents(some, await self._read_keys(some))

    async def _read_some(self, keys: Sequence[bytes], refused: set[str]) -> tuple[list[tuple[str, Stored]], list[tuple[bytes, int]]]:
        """Read what lies under some of many keys, `PAGE_SIZE` bytes at most; return the other keys and the sizes of what lies there.

        Args:
            keys: The keys.
            refused: The commands, of `EVAL` and `STRLEN`, that the user has no right to. Added to; none of them is sent again.
        """
        if "EVAL" not in refused:
            groups = [[keys[index] for index in group] for group in self._group(keys)]
            scripts = [("EVAL", READ_SOME, str(len(some)), *some, str(PAGE_SIZE // len(groups))) for some in groups]
            try:
                replies = await self._query(scripts)
            except StoreRefusedError:
                refused.add("EVAL")
            else:
                found = [pair for some, reply in zip(groups, replies, strict=True) for pair in zip(some, reply, strict=True)]
                return name_documents(*zip(*found, strict=True)), [pair for pair in found if isinstance(pair[1], int)]
        sizes: Sequence[Any] = [None] * len(keys)
        if "STRLEN" not in refused:
            sizes = await self._send_all([("STRLEN", key) for key in keys])
            if not any(isinstance(size, int) for size in sizes):
                refused.add("STRLEN")
        return [], [(key, size if isinstance(size, int) else _UNKNOWN_SIZE) for key, size in zip(keys, sizes, strict=True)]
