"""Commands to servers that speak the protocol of Redis: scripts, arguments, slots, and what lies under keys."""

from __future__ import annotations

import hashlib
import re
from binascii import crc_hqx
from collections.abc import Sequence
from math import ceil
from typing import Literal

from keyvalue._core.entry import Entry, Stored

__all__ = [
    "COMPARE_AND_SET",
    "PAGE",
    "READ_SOME",
    "Command",
    "Effect",
    "StoredString",
    "group_by_slot",
    "match_prefix",
    "name_documents",
    "refuse_beside",
    "set_arguments",
    "to_stored",
]

Command = tuple["str | bytes", ...]
Effect = Literal["read", "put", "once"]
"""What commands do: "read" may be sent again if a connection was lost, "put" only if they surely were not sent; "once" must not be sent
again by the client either."""

PAGE = 500
"""How many keys a step of a scan looks at, about."""

# Compares what lies under a name, then sets or removes it. Arguments: the version that must be there, "" for none; those of SET if any.
COMPARE_AND_SET = """
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
READ_SOME = """
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

_DEFAULTS = {"host": "localhost", "port": 6379, "db": 0, "ssl": False, "tls": False}  # of other arguments: None


class StoredString(Stored):
    """What lies under a key, with a version that a script on the server can compute: the SHA-1 in hexadecimal, a dot and the length."""

    __slots__ = ()

    @property
    def version(self) -> str:
        document = self.document or b""
        return f"{hashlib.sha1(document, usedforsecurity=False).hexdigest()}.{len(document)}"


def to_stored(document: bytes | None) -> StoredString | None:
    """Return a string that was read, or None if there was none."""
    return None if document is None else StoredString(document)


def name_documents(keys: Sequence[bytes], found: Sequence[object]) -> list[tuple[str, Stored]]:
    """Return the names of keys under which there is a document, with that."""
    return [(key.decode(), StoredString(document)) for key, document in zip(keys, found, strict=True) if isinstance(document, bytes)]


def set_arguments(entry: Entry | None, now: float) -> Command:
    """Return the arguments of SET: the document, and its time to live in milliseconds, rounded up; none if there is no entry."""
    if entry is None:
        return ()
    expiry = () if entry.expires_at is None else ("PX", str(max(1, ceil((entry.expires_at - now) * 1000))))
    return entry.document(), *expiry


def match_prefix(prefix: str) -> bytes:
    """Return the pattern of SCAN for names that start with a prefix."""
    return re.sub(rb"([\\*?\[\]^])", rb"\\\1", prefix.encode()) + b"*"


def group_by_slot(keys: Sequence[bytes]) -> Sequence[Sequence[int]]:
    """Return the positions of keys in groups, one for each slot of a cluster: a command is about the keys of one."""
    groups: dict[int, list[int]] = {}
    for index, key in enumerate(keys):
        tag = re.match(rb"[^{]*\{([^}]+)\}", key)
        groups.setdefault(crc_hqx(tag[1] if tag else key, 0) % 16384, []).append(index)
    return list(groups.values())


def refuse_beside(owner: str, what: str, **given: object) -> None:
    """Refuse arguments beside what makes them needless, rather than ignore them.

    Args:
        owner: The class of the store, for the message.
        what: What makes them needless, with an article.
        given: The arguments. One that has its default is taken for one that is not given.

    Raises:
        ValueError: Some are given.
    """
    if besides := [name for name, value in given.items() if value != _DEFAULTS.get(name)]:
        them = "it" if len(besides) == 1 else "them"
        raise ValueError(f"{owner}: {' and '.join(besides)} beside {what}, which has its own; leave {them} out")
