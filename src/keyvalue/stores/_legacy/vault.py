"""Where py-key-value-aio's requests about a pair go if its name is no path.

It sends names as they are: `.` and `..` are resolved, and empty parts dropped on the way.
"""

from __future__ import annotations

__all__ = ["old_name", "old_prefix"]

_LONGEST_NAME = 4096  # bytes; the server takes 0.08 s to look up such a name, and four times as long for each twice as long


def old_name(collection: str, key: str) -> str | None:
    """Return the name of the secret that a pair's requests are about; None if that is not among the others of the collection."""
    prefix, name = old_prefix(collection), _resolve(f"{collection}::{key}")
    return name if prefix is not None and name is not None and name.startswith(prefix) else None


def old_prefix(collection: str) -> str | None:
    """Return what the names of a collection's secrets start with, or None if there can be none."""
    name = _resolve(f"{collection}::k")
    return None if name is None else name[:-1]


def _resolve(name: str) -> str | None:
    if name.endswith(("/.", "/..")) or len(name.encode()) > _LONGEST_NAME:
        return None
    parts: list[str] = []
    for part in name.split("/"):
        if part == ".." and not parts:
            return None
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
