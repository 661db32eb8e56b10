"""What happens when a backend's client is not installed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["needs"]


@contextmanager
def needs(extra: str) -> Generator[None, None, None]:
    """Turn the ImportError of a missing client into one that names the command that installs it.

    Args:
        extra: The extra that the client belongs to.

    Raises:
        ImportError: The client is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{error}. Install what is missing with: pip install 'keyvalue[{extra}]'", name=error.name) from error
