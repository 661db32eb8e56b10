"""What errors of the file system mean, and what to do about them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from keyvalue.errors import KeyValueStoreError, StoreConnectionError, StoreRefusedError, StoreSetupError

__all__ = ["lack", "may_access", "opening_error", "refusal", "transient_reason", "transient_reason_in"]

_LACKS = {
    errno.EMFILE: "this process has no file descriptors left; close files, or raise its limit (ulimit -n)",
    errno.ENFILE: "the system has no file descriptors left",
    errno.ENOMEM: "the system has no memory left",
}
_TRANSIENT = {
    **_LACKS,
    errno.ENOLCK: "the system has no file locks left",
    **dict.fromkeys((errno.EAGAIN, errno.EINTR, errno.EBUSY), "the file system is busy"),
}

_FULL = {
    errno.ENOSPC: "the disk is full; make room on it",
    errno.EFBIG: "the disk is full, or files may not grow so large; make room, or raise the limit (ulimit -f)",
    **({errno.EDQUOT: "the disk quota is used up; make room, or have it raised"} if hasattr(errno, "EDQUOT") else {}),
}
_LONGEST_SHOWN = 300


def transient_reason(error: BaseException) -> str | None:
    """Return what the system lacked when it raised an error, or None if trying again does not help.

    A full disk does not count: it stays full until space is freed.
    """
    return _TRANSIENT.get(error.errno or 0) if isinstance(error, OSError) else None


def lack(error: BaseException) -> str | None:
    """Return what the system lacked when it raised an error, whatever was being done; None if it lacked nothing."""
    return _LACKS.get(error.errno or 0) if isinstance(error, OSError) else None


def transient_reason_in(text: str) -> str | None:
    """Return what `transient_reason` does, for the message of an error that has lost its number."""
    return next((advice for number, advice in _LACKS.items() if os.strerror(number) in text), None)


def opening_error(what: str, error: Exception, path: str | None = None) -> KeyValueStoreError:
    """Return the error to raise for one that kept a store from being opened.

    Args:
        what: What the message starts with.
        error: The error.
        path: What was to be opened, if that is known.
    """
    if reason := transient_reason(error):
        return StoreConnectionError(f"{what}: {reason}")
    is_full = isinstance(error, OSError) and error.errno in _FULL
    return (StoreRefusedError if is_full else StoreSetupError)(f"{what}: {refusal(error, path) or error}")


def refusal(error: BaseException, path: str | None = None) -> str | None:
    """Return what path the file system refused, why, and what to do; None if it was not the file system.

    Args:
        error: What it raised.
        path: What is shown if the error does not tell.
    """
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)  # where a file was to be put, or the file
    path = os.fsdecode(named) if isinstance(named, str | bytes) else path
    if not isinstance(error, OSError) or not error.errno or path is None:
        return None
    shown = _shown(path)
    if error.errno in _FULL:
        return f"{shown} can't be written: {_FULL[error.errno]}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return _missing_right(path)
    if error.errno == errno.EROFS:
        return f"{shown} lies on a file system that is read-only; choose another place"
    if error.errno == errno.ENAMETOOLONG:
        return f"{shown} is a longer path, or has a longer name in it, than the file system takes; choose a shorter one"
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
        return _obstacle(path)
    if error.errno == errno.EISDIR:
        return f"{shown} is a directory, where a file belongs; move it"
    return f"the file system refused {shown}: {error.strerror}"


def _obstacle(path: str) -> str:
    """Return what is in the place of a directory."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    if os.path.islink(path) and not os.path.exists(path):
        return (
            f"{_shown(path)} is a link to {_shown(os.readlink(path))}, where there is nothing; make a directory there, or remove the link"
        )
    return (
        f"{_shown(path)} is {'in the way' if os.path.isdir(path) else 'a file, where a directory belongs'}; move it, or choose another path"
    )


def _missing_right(path: str) -> str:
    """Return what this user may not do with a path, or with which directory above it, and who owns that."""
    above = [os.fspath(parent) for parent in reversed(Path(os.path.abspath(path)).parents)]
    barred = next((parent for parent in above if os.path.isdir(parent) and not may_access(parent, os.X_OK)), None)
    if barred is not None:
        problem, place = "may not enter the directory", barred
    elif not os.path.lexists(path) and os.path.isdir(above[-1]) and not may_access(above[-1], os.W_OK):
        problem, place = "may not create anything in the directory", above[-1]
    else:
        problem, place = f"may not use the {'directory' if os.path.isdir(path) else 'file'}", path
    return f"this user{_user()} {problem} {_shown(place)}{_owner(place)}; change its permissions, or choose another place"


def may_access(path: str, what: int) -> bool:
    """Return whether this user has rights to a path, such as `os.R_OK | os.W_OK`."""
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)


def _user() -> str:
    return f" (uid {os.geteuid()})" if hasattr(os, "geteuid") else ""


def _owner(path: str) -> str:
    """Return who owns a file or directory, and its mode, where those decide."""
    if os.name == "nt":
        return ""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f", which belongs to uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):04o}"


def _shown(path: str) -> str:
    return repr(path if len(path) <= _LONGEST_SHOWN else path[:_LONGEST_SHOWN] + "…")
