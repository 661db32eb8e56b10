"""What redis-py's errors mean."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# redis-py leaves some of its functions without types.

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from typing import Any

from keyvalue._core.error_rules import ErrorRule, unwrapping_rules
from keyvalue._core.extras import needs
from keyvalue.errors import StoreConnectionError, StoreRefusedError
from keyvalue.stores._drivers.resp_errors import NOT_RESP, answer_rules

with needs("redis"):
    import redis
    from redis.exceptions import (
        AskError,
        AuthorizationError,
        BusyLoadingError,
        ClusterCrossSlotError,
        ClusterDownError,
        MasterDownError,
        MaxConnectionsError,
        MovedError,
        NoPermissionError,
        OutOfMemoryError,
        RedisClusterException,
        TryAgainError,
    )

__all__ = ["ERRORS", "SOCKET_ERRORS", "parse_answer"]

_WORDS: Mapping[type[BaseException], str] = {
    redis.ReadOnlyError: "READONLY",
    BusyLoadingError: "LOADING",
    ClusterCrossSlotError: "CROSSSLOT",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    AskError: "ASK",
    MovedError: "MOVED",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
    TryAgainError: "TRYAGAIN",
}
"""The first word of a server's answer, where redis-py makes a class of it."""
_AT_SOCKET: Mapping[type[OSError], str] = {
    FileNotFoundError: "there is no socket at this path; is the server running, and is the path that of its `unixsocket`?",
    ConnectionRefusedError: "nothing listens on this socket; is the server running, and is the path that of its `unixsocket`?",
    PermissionError: "this user may not use the socket; the server's `unixsocketperm` says who may",
}
_NOT_AT_SOCKET = "could not reach the server over its socket; is it running?"


def _chain(error: BaseException | None) -> Generator[Any, None, None]:
    """Yield an error and those behind it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _raised_in(error: BaseException) -> str:
    """Return the name of the module that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")


def parse_answer(error: BaseException | None) -> tuple[str, str]:
    """Return the server's answer that an error stands for; see `answer_rules`."""
    text = str(error)
    if isinstance(error, redis.ConnectionError) and "max number of clients" in text:
        return "ERR", text
    if isinstance(error, redis.AuthenticationError):
        return "NOAUTH" if re.search("HELLO must|Authentication required", text) else "WRONGPASS", text
    if not isinstance(error, redis.ResponseError | BusyLoadingError):
        return "", ""
    if known := _WORDS.get(type(error)):
        return known, text
    word, _, rest = text.partition(" ")
    return (word, rest) if word.isupper() and word.isalpha() and len(word) > 2 else ("ERR", text)  # which redis-py drops


def _is_unsent(error: redis.ConnectionError) -> bool:
    # By the message: asyncio wraps what the addresses of a host answer in an error that is no ConnectionRefusedError.
    return any(" connecting to " in str(each) for each in _chain(error))


def _is_lost_on_asyncio(error: AttributeError) -> bool:
    """Return whether this is what asyncio and redis-py raise when a command is written to a connection that has ended meanwhile."""
    return _raised_in(error).startswith(("asyncio.", "redis.asyncio.connection"))


_UNREACHABLE = "could not reach the server; is it running, and are host and port right?"
_CROWDED = "all connections of the client are taken; something else uses it too, so give it a larger max_connections"
_ANSWER_ERRORS = (
    *answer_rules((redis.ConnectionError, redis.ResponseError), parse_answer),
    ErrorRule(redis.InvalidResponse, StoreConnectionError, NOT_RESP),
    ErrorRule(AuthorizationError, StoreRefusedError, "the server refused the credentials; check the user's rights"),
    ErrorRule(MaxConnectionsError, StoreConnectionError, _CROWDED, unsent=True),
)
_CLIENT_ERRORS = (
    *_ANSWER_ERRORS,
    ErrorRule(redis.ConnectionError, StoreConnectionError, _UNREACHABLE, when=_is_unsent, unsent=True),
    ErrorRule(redis.ConnectionError, StoreConnectionError, _UNREACHABLE),
    ErrorRule(redis.TimeoutError, StoreConnectionError, "the server did not answer in time"),
    ErrorRule(redis.RedisError, StoreRefusedError, "the server refused the command"),
    ErrorRule(OSError, StoreConnectionError, "could not reach the server"),
    ErrorRule(AttributeError, StoreConnectionError, "the connection was lost", when=_is_lost_on_asyncio),
)
ERRORS = (
    # What a cluster's client has met with is behind what it raises, which is no RedisError.
    *unwrapping_rules(
        RedisClusterException,
        lambda error: next((each for each in _chain(error) if isinstance(each, redis.RedisError | OSError)), None),
        _CLIENT_ERRORS,
    ),
    ErrorRule(RedisClusterException, StoreConnectionError, "could not reach the cluster; is it running, and are host and port right?"),
    *_CLIENT_ERRORS,
)


def _is_at_socket(error: redis.ConnectionError) -> bool:
    # Not those that are more than this, nor what the server answers, which the asynchronous client wraps.
    return type(error) is redis.ConnectionError and not parse_answer(error)[0]


def _is_unsent_to_socket(error: redis.ConnectionError) -> bool:
    return _is_at_socket(error) and _is_unsent(error)


def _advice_at_socket(error: Exception) -> str:
    behind = next((each for each in _chain(error) if isinstance(each, OSError)), None)
    return next((advice for kind, advice in _AT_SOCKET.items() if isinstance(behind, kind)), _NOT_AT_SOCKET)


SOCKET_ERRORS = (
    *unwrapping_rules(
        redis.ConnectionError,
        lambda error: next((each for each in _chain(error) if isinstance(each, redis.AuthenticationError)), None),
        _ANSWER_ERRORS,
    ),
    ErrorRule(redis.ConnectionError, StoreConnectionError, _advice_at_socket, when=_is_unsent_to_socket, unsent=True),
    ErrorRule(redis.ConnectionError, StoreConnectionError, _advice_at_socket, when=_is_at_socket),
)
