"""Errors after which the same call may succeed, later or elsewhere."""

from __future__ import annotations

import asyncio

from keyvalue._core import wording
from keyvalue.errors import StoreConnectionError

__all__ = ["TRANSIENT_ERRORS", "with_asyncio_timeout"]

TRANSIENT_ERRORS: tuple[type[Exception], ...] = (StoreConnectionError, ConnectionError, TimeoutError)
"""What says that a backend could not be reached."""


def with_asyncio_timeout(errors: type[Exception] | tuple[type[Exception], ...], parameter: str) -> tuple[type[Exception], ...]:
    """Return error types as a tuple, in which `TimeoutError` means asyncio's too, which is another class before Python 3.11.

    Raises:
        TypeError: They are something else. `except` would tell only when an error comes, and hide that error.
    """
    types = errors if isinstance(errors, tuple) else (errors,)
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            what = wording.describe(kind)
            raise TypeError(
                f"{parameter} must be an exception class or a tuple of them, such as (ConnectionError, TimeoutError), not {what}"
            )
    return (*types, asyncio.TimeoutError) if TimeoutError in types else types
