"""What an error tells, for tests that look for secrets in it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

__all__ = ["everything_said"]


def everything_said(error: BaseException) -> list[str]:
    """Return all that a traceback, a log or a debugger may show of an error and of those behind it."""
    parts = [part for one in _chain_of(error) for part in (str(one), repr(one), repr(one.args), repr(vars(one)))]
    return [*traceback.format_exception(error), *parts]


def _chain_of(error: BaseException | None) -> Iterator[BaseException]:
    if error is not None:
        yield error
        yield from _chain_of(error.__cause__)
        yield from _chain_of(error.__context__)
