"""What happens when a backend's client is not installed."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["needs"]


@contextmanager
def needs(extra: str) -> Generator[None, None, None]:
    """Turn the ImportError of a missing client into one that names its extra and the command that installs it.

    Args:
        extra: The extra that the client belongs to.

    Raises:
        ImportError: The client is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{error}. It comes with keyvalue's extra {extra!r}; {_advice(extra)}", name=error.name) from error


def _advice(extra: str) -> str:
    """Return the command that installs what an extra asks for: it is right however keyvalue itself was installed."""
    from importlib import metadata  # noqa: PLC0415 # only where something is missing

    try:
        needed = metadata.requires("keyvalue") or ()
    except metadata.PackageNotFoundError:  # it is used as a directory of sources
        needed = ()
    found = [match[1].strip() for one in needed if (match := re.fullmatch(rf"""(.*); *extra *== *["']{re.escape(extra)}["']""", one))]
    if not found:
        return "install keyvalue with that"
    return f"install it with: pip install {' '.join(f'{one!r}' for one in found)}"
