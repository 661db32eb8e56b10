"""What servers answer that speak the protocol of Redis, and what it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keyvalue._core.error_rules import ErrorRule
from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError
from keyvalue.stores._drivers.peer import stranger

__all__ = ["ANSWERS", "NOT_RESP", "answer_rules", "judge"]

ANSWERS: Mapping[str, tuple[type[KeyValueStoreError], str]] = {
    "NOAUTH": (StoreRefusedError, "it wants credentials; pass password=, or check username and password"),
    "WRONGPASS": (StoreRefusedError, "it refused the credentials; check username and password"),
    "NOPERM": (StoreRefusedError, "the user may not do this; check the user's rights (ACL)"),
    "MOVED": (StoreRefusedError, "it is a node of a cluster; pass cluster=True"),
    "ASK": (StoreRefusedError, "it is a node of a cluster; pass cluster=True"),
    "CROSSSLOT": (
        StoreRefusedError,
        "it is a node of a cluster, where one command can't be about keys of several slots; pass cluster=True",
    ),
    "WRONGTYPE": (StoreRefusedError, "the key holds something other than a string, which another program put there"),
    # Waiting does not help: it stays full until room is made.
    "OOM": (StoreRefusedError, "its memory is full; raise its maxmemory, or choose a maxmemory-policy that evicts"),
    "DENIED": (StoreRefusedError, "it is in protected mode and takes connections of its own machine only; give it a password or `bind`"),
    "LOADING": (StoreConnectionError, "it is still loading its data; try again later"),
    "BUSY": (StoreConnectionError, "it is busy with a script; SCRIPT KILL ends one that has not written yet"),
    "UNKILLABLE": (StoreConnectionError, "it is busy with a script that has written, and so can't be ended by SCRIPT KILL"),
    "NOREPLICAS": (StoreConnectionError, "it refuses writes because too few replicas follow it (min-replicas-to-write)"),
    "MISCONF": (StoreConnectionError, "it refuses writes because it can't save to its disk; its log says why"),
    "READONLY": (StoreConnectionError, "it is a read-only replica; connect to its primary, or by Sentinel or a name that leads there"),
    "MASTERDOWN": (StoreConnectionError, "it is a replica that has lost its primary, and does not serve old data; connect to the primary"),
    "CLUSTERDOWN": (StoreConnectionError, "the cluster is down, or has slots that no node serves; CLUSTER INFO says which"),
    "TRYAGAIN": (StoreConnectionError, "the cluster is moving the key; try again later"),
}
"""What the first word of an error that a server answers means: the error to raise, and what to do."""

_TEXTS: Sequence[tuple[str, type[KeyValueStoreError], str]] = (
    ("(?i)max number of clients", StoreConnectionError, "it has as many clients as it takes; close some, or raise its maxclients"),
    (
        "(?i)unknown (sub)?command",
        StoreRefusedError,
        "it does not know the command: it must be Redis 6.2 or later, or Valkey, without renamed commands",
    ),
    (
        "(?i)DB index",
        StoreRefusedError,
        "is there such a database? check db, and `databases` of the server",
    ),
    (
        "(?i)SELECT is not allowed in cluster",
        StoreRefusedError,
        "it is a node of a cluster, which only has database 0; leave out db, and pass cluster=True",
    ),
    (
        "(?i)cluster mode is not enabled|cluster support disabled",
        StoreRefusedError,
        "it is not a node of a cluster; leave out cluster=True",
    ),
    (
        "without any password configured|no password is set",
        StoreRefusedError,
        "it has no password, so check username and password: leave them out, or set one there",
    ),
)
"""The same for answers that only the text after the first word tells apart."""
_KIND = "Redis or Valkey"
_VAGUE = frozenset({"ERR", "NOAUTH", "WRONGPASS", "SELECT"})


NOT_RESP = stranger(_KIND, b"")
"""What to say of a server that speaks another protocol."""


def judge(answer: bytes) -> str | None:
    """Return what to say of what listens on a port, by its answer to a request of HTTP; see `Peer`."""
    if answer[:1] not in (b"-", b"+"):
        return stranger(_KIND, answer)
    word, _, text = answer[1:].decode(errors="replace").partition(" ")
    if "unknown command" in text.lower():  # as glide meets it: it finds no primary there
        return "the server does not know GET; if it is a Sentinel, connect to the primary that it names"
    found = answer_of(word, text)
    return None if found is None or word not in ("ERR", "DENIED") else f"the server answers {word}: {found[1]}"


def answer_of(word: str, text: str) -> tuple[type[KeyValueStoreError], str] | None:
    """Return the error to raise for what a server answers, and what to do; None if that is not known.

    Args:
        word: The first word of its answer, or "".
        text: The others.
    """
    told = f"{word} {text}"
    found = next(((kind, advice) for pattern, kind, advice in _TEXTS if re.search(pattern, told)), None) if word in _VAGUE else None
    return found or ANSWERS.get(word)


def answer_rules(types: tuple[type[Exception], ...], parse: Callable[[Exception], tuple[str, str]]) -> list[ErrorRule[Any]]:
    """Return the rules for what a server answers.

    Args:
        types: The classes of the client's errors that may stand for an answer.
        parse: Returns the answer: its first word, "ERR" if the client drops it, and the rest; two empty strings for no answer.
    """

    def find(error: Exception) -> tuple[str, type[KeyValueStoreError] | None, str]:
        word, text = parse(error)
        kind, advice = answer_of(word, text) or (StoreRefusedError, "the server refused the command")
        return word, kind if word else None, advice

    def advise(error: Exception) -> str:
        word, _, advice = find(error)
        return f"the server answers {word}: {advice}"

    def means(kind: type[KeyValueStoreError]) -> Callable[[Exception], bool]:
        return lambda error: find(error)[1] is kind

    return [ErrorRule(types, kind, advise, when=means(kind)) for kind in (StoreRefusedError, StoreConnectionError)]
