"""How long the tests may take: a short run finds nearly all faults, `KEYVALUE_TEST_LONG=1` looks for the rest."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

LONG = os.environ.get("KEYVALUE_TEST_LONG", "") not in ("", "0")
"""Whether everything runs at full length."""


def scale(short: T, full: T) -> T:
    """Return how often to repeat something, in this run."""
    return full if LONG else short
