"""What pymongo's errors mean."""

from __future__ import annotations

import re
from typing import Any, cast

from keyvalue._core.error_rules import ErrorRule
from keyvalue._core.extras import needs
from keyvalue.errors import StoreConnectionError, StoreRefusedError

with needs("mongodb"):
    from pymongo import errors

    # isort: split
    from bson.errors import BSONError

_DUPLICATE = 11000  # what the server calls it: DuplicateKey
_VALIDATION = 121  # DocumentValidationFailure
_CONFLICTS = (85, 86)  # IndexOptionsConflict, IndexKeySpecsConflict
_UNAUTHORIZED = 13  # Unauthorized
_UNAUTHENTICATED = 18  # AuthenticationFailed
_ATLAS = 8000  # what Atlas calls AtlasError: missing rights, but also a used-up quota
_ATLAS_DENIAL = re.compile("not allowed|not authorized|bad auth|authentication failed", re.IGNORECASE)
_SELECTION_DENIAL = "Authentication failed"  # for a while, what pymongo says of a server after that
# What the server says of what passes by itself, unless pymongo takes it for a lost connection: HostUnreachable, HostNotFound, LockTimeout,
# LockBusy, StaleShardVersion, NetworkTimeout, WriteConflict, FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet, StaleEpoch,
# NetworkInterfaceExceededTimeLimit, ExceededTimeLimit, TemporarilyUnavailable, rate limits, SocketException, Interrupted, StaleConfig.
_PASSING = {6, 7, 24, 46, 63, 89, 112, 133, 134, 150, 202, 262, 365, 433, 462, 9001, 11601, 13388}
_PASSING_LABELS = ("RetryableError", "RetryableWriteError", "SystemOverloadedError")  # the same by labels
_BEFORE_VALUE = re.compile(r", full error:| dup key:|\{")  # what a message may quote the value after
_INVALID = f"the server refused the command: the validator of the collection does not allow the value (code {_VALIDATION})"
_SECONDARY = (10107, 13435)  # NotWritablePrimary, NotPrimaryNoSecondaryOk
_NOT_PRIMARY = "the server is a secondary, and no primary was found; try again later"
_UNREACHABLE = "could not reach the server; is it running, and are host and port right?"
_CROWDED = "all connections of the client are taken; something else uses it too, so give it a larger maxPoolSize"
_SAFE_DETAILS = frozenset({"ok", "code", "codeName", "errorLabels", "n", "nInserted", "nUpserted", "nMatched", "nModified", "nRemoved"})
"""What of the server's answer to a refused write an error keeps: all else may quote the value."""


def forget_values(error: Exception) -> None:
    """Remove from a client's error what may quote the value."""
    if not isinstance(error, errors.OperationFailure):
        return
    error.args = (_BEFORE_VALUE.split(str(error), maxsplit=1)[0],)
    error._message = error.args[0]  # pyright: ignore[reportPrivateUsage] # pymongo keeps its text twice
    details: Any = error.details or {}
    kept: dict[str, Any] = {name: value for name, value in details.items() if name in _SAFE_DETAILS}
    for name in {"writeErrors", "writeConcernErrors"} & details.keys():
        parts = [(item.get("index"), item.get("code"), str(item.get("errmsg"))) for item in details[name]]
        kept[name] = [{"index": index, "code": code, "errmsg": _BEFORE_VALUE.split(text, maxsplit=1)[0]} for index, code, text in parts]
    error.__dict__["_OperationFailure__details"] = kept


def split_error(error: BaseException | None) -> tuple[int, dict[int, errors.WriteError]]:
    """Return, for the error of many writes, how many documents the others found, and the error of each that failed, by its index.

    There are none if more went wrong than these.
    """
    details: Any = error.details if isinstance(error, errors.BulkWriteError) else {}
    failed: list[Any] = [] if details.get("writeConcernErrors") else details.get("writeErrors", [])
    causes = {item["index"]: errors.WriteError(item["errmsg"], item.get("code"), item) for item in failed}
    return details.get("nMatched", 0), causes


def is_duplicate(error: BaseException | None) -> bool:
    """Return whether another document, made at the same moment, was in the way of a new one."""
    return getattr(error, "code", None) == _DUPLICATE


def is_index_conflict(error: BaseException | None) -> bool:
    """Return whether another index, with other options, already has the keys of a new one; it serves as well."""
    return getattr(error, "code", None) in _CONFLICTS


def is_unauthorized(error: BaseException | None) -> bool:
    """Return whether the server refused for want of rights."""
    code: Any = getattr(error, "code", None)
    return code == _UNAUTHORIZED or (code == _ATLAS and _ATLAS_DENIAL.search(str(error)) is not None)


def is_denied(error: errors.PyMongoError) -> bool:
    """Return whether username, password or rights are wrong."""
    return (
        is_unauthorized(error)
        or getattr(error, "code", None) == _UNAUTHENTICATED
        or (type(error) is errors.ServerSelectionTimeoutError and _SELECTION_DENIAL in str(error))
    )


def breaks_index(error: errors.OperationFailure) -> bool:
    """Return whether an index that is not the store's own refused a value as not unique."""
    return _find_index(error) not in (None, "_id_")


def fails_validation(error: errors.OperationFailure) -> bool:
    """Return whether the collection's validator refused a value."""
    return _VALIDATION in _find_codes(error)


def timed_out(error: errors.PyMongoError) -> bool:
    """Return whether the server was reached and did not finish in time."""
    return error.timeout and not isinstance(error, errors.ConnectionFailure)


def passes(error: errors.OperationFailure) -> bool:
    """Return whether the server refused what it may do later."""
    if error.details is None:
        return False
    codes = _find_codes(error) - {_DUPLICATE}
    if isinstance(error, errors.BulkWriteError) and codes:
        return codes <= _PASSING
    return error.code in _PASSING or any(map(error.has_error_label, _PASSING_LABELS))


def is_turned_away(error: errors.NotPrimaryError) -> bool:
    """Return whether the server did nothing, because it is a secondary."""
    details: Any = error.details
    return isinstance(details, dict) and cast("dict[str, Any]", details).get("code") in _SECONDARY


def is_unresolved(error: errors.ConfigurationError) -> bool:
    """Return whether the name of a server could not be looked up."""
    return type(error.__cause__).__module__.startswith("dns.")


def _find_codes(error: errors.OperationFailure) -> set[int | None]:
    """Return the server's codes for an error: of a bulk write, those of its parts, since its own says nothing."""
    details: Any = error.details or {}
    return {item.get("code") for item in (*details.get("writeErrors", ()), *details.get("writeConcernErrors", ()))} or {error.code}


def _find_index(error: errors.OperationFailure) -> str | None:
    """Return the name of the index that a duplicate was found in."""
    details: Any = error.details or {}
    texts = [str(error), *(str(item.get("errmsg")) for item in details.get("writeErrors", ()))]
    found = re.search(r"E11000 .*? index: (\S+)", " ".join(texts))
    return None if found is None else found[1]


def _advise_on_index(error: errors.OperationFailure) -> str:
    index = _find_index(error)
    return f"another document has the same value, and the index {index!r}, which is not the store's, allows no two; drop it"


ERRORS = (
    ErrorRule(errors.OperationFailure, StoreRefusedError, _advise_on_index, breaks_index),
    ErrorRule(errors.OperationFailure, StoreRefusedError, _INVALID, fails_validation),
    ErrorRule(errors.PyMongoError, StoreConnectionError, "the server did not finish in time", timed_out),
    ErrorRule(errors.OperationFailure, StoreConnectionError, "the server can't do it now; try again later", passes),
    ErrorRule(errors.PyMongoError, StoreRefusedError, "the server refused; check username, password and rights", is_denied),
    ErrorRule(errors.ConfigurationError, StoreConnectionError, "could not look up the server; is the name right?", is_unresolved, True),
    ErrorRule(errors.ServerSelectionTimeoutError, StoreConnectionError, _UNREACHABLE, unsent=True),
    ErrorRule(errors.WaitQueueTimeoutError, StoreConnectionError, _CROWDED, unsent=True),
    ErrorRule(errors.NotPrimaryError, StoreConnectionError, _NOT_PRIMARY, when=is_turned_away, unsent=True),
    ErrorRule(errors.ConnectionFailure, StoreConnectionError, "the connection was lost"),
    ErrorRule(errors.CursorNotFound, StoreConnectionError, "the server forgot how far the listing had come"),
    ErrorRule(errors.OperationFailure, StoreRefusedError, "the server refused the command"),
    ErrorRule(errors.ConfigurationError, StoreRefusedError, "the client can't work with these options"),
    ErrorRule(errors.PyMongoError, StoreRefusedError, "the client refused"),
    ErrorRule(BSONError, StoreRefusedError, "the client refused"),
)
"""What to raise for them."""
