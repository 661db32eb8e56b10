"""What an error tells, for tests that look for secrets in it."""

from __future__ import annotations

import traceback
from collections.abc import Iterable


def collect_texts(error: BaseException) -> list[str]:
    """Return all that a traceback, a log or a debugger may show of an error and of those behind it."""
    return [*traceback.format_exception(error), *collect_own_texts(error)]


def collect_own_texts(error: BaseException) -> list[str]:
    """Return the same without tracebacks, which show the lines of a test too."""
    return [part for one in _chain_of(error) for part in (str(one), repr(one), repr(one.args), repr(vars(one)))]


def _chain_of(error: BaseException) -> Iterable[BaseException]:
    """Return an error and all causes and contexts behind it, each once: most are reached in several ways."""
    found: dict[int, BaseException] = {}
    left = [error]
    while left:
        one = left.pop()
        if id(one) not in found:
            found[id(one)] = one
            left += [behind for behind in (one.__cause__, one.__context__) if behind is not None]
    return found.values()
