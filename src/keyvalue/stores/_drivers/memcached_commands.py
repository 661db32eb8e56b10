"""What the two clients of Memcached have in common: names, expiries, batches and errors."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple, TypeVar

from keyvalue._core.entry import CompareAndSet, Entry, Stored
from keyvalue._core.extras import needs
from keyvalue.stores._drivers.batches import split_batches
from keyvalue.stores._drivers.peer import stranger

with needs("memcached"):
    import aiomcache

__all__ = [
    "BATCH",
    "GONE",
    "Swap",
    "TooManyConnectionsError",
    "UnexpectedReplyError",
    "expiry_of",
    "fits",
    "judge",
    "plan_swaps",
    "split_documents",
    "unexpected_reply",
]

T = TypeVar("T")

GONE = -1
"""As an expiry: at once."""

BATCH = 500  # commands in one round trip
_BATCH_BYTES = 2**20
_LONGEST_NAME = 250  # bytes
_UNUSABLE = re.compile(r"[\s\0-\x1f\x7f-\x9f]")  # what aiomcache refuses, which is more than what Memcached does
_DAYS_30 = 60 * 60 * 24 * 30  # a longer expiry is taken for an absolute time
_LATEST = 2**31 - 1


def fits(name: str) -> bool:
    """Return whether Memcached takes a name."""
    if name.isascii():
        return 0 < len(name) <= _LONGEST_NAME and " " not in name and name.isprintable()
    return not _UNUSABLE.search(name) and len(name.encode()) <= _LONGEST_NAME


def expiry_of(entry: Entry | None, now: float) -> int:
    """Return the expiry to send with an entry: Memcached may drop it then, which is not before it expires."""
    # Its clock ticks once in a second, or somewhat later on a busy machine, and so is behind: hence two more.
    if entry is None or entry.expires_at is None:
        return 0
    seconds = max(1, ceil(entry.expires_at - now) + 2)
    if seconds > _DAYS_30:
        seconds += ceil(time.time())
    return seconds if seconds <= _LATEST else 0


def split_documents(rows: Sequence[tuple[str, Entry]]) -> Generator[dict[bytes, bytes], None, None]:
    """Yield the documents of each round trip, by name."""
    documents = ((name.encode(), entry.document()) for name, entry in rows)
    for batch in split_batches(documents, lambda pair: len(pair[1]), size=_BATCH_BYTES, count=BATCH):
        yield dict(batch)


class Swap(NamedTuple):
    """A compare-and-set of one name.

    Attributes:
        name: The name.
        token: What `gets` gave for it; None if there must be nothing under it.
        document: What to store; None to remove what is there.
        exptime: When it expires.
    """

    name: bytes
    token: Any
    document: bytes | None
    exptime: int


def plan_swaps(changes: Sequence[CompareAndSet], found: Mapping[bytes, tuple[Stored, Any]], now: float) -> list[Swap | None]:
    """Return the swap for each change; None if its name does not have the expected version.

    Args:
        changes: The changes.
        found: What `gets` returned for their names.
        now: The time.
    """
    swaps: list[Swap | None] = []
    for change in changes:
        name = change.name.encode()
        stored, token = found.get(name, (None, None))
        if change.version == (stored and stored.version):
            swaps.append(Swap(name, token, change.entry and change.entry.document(), expiry_of(change.entry, now)))
        else:
            swaps.append(None)
    return swaps


class TooManyConnectionsError(Exception):
    """The server has as many connections as it takes."""


class UnexpectedReplyError(Exception):
    """A reply that Memcached does not give."""


def judge(answer: bytes) -> str | None:
    """Judge an answer for a `Peer`."""
    return None if answer.startswith((b"ERROR", b"VERSION")) else stranger("Memcached", answer)


def unexpected_reply(line: bytes) -> Exception:
    """Return the error for a line that answers no command."""
    if line.startswith(b"ERROR Too many open connections"):
        return TooManyConnectionsError(line.strip().decode(errors="replace"))
    if b"ERROR" in line[:12]:
        return aiomcache.ClientException(line.decode(errors="replace"))
    return UnexpectedReplyError("an unexpected reply")
