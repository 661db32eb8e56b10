"""Processes of one's own: a fresh Python, and forked children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

__all__ = ["forks", "returns_true_in_a_fork", "run_fresh"]


def run_fresh(program: str, **environment: str) -> str:
    """Run a program in a fresh interpreter and return what it prints. It must exit with 0 and say nothing on stderr."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it imports much
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={**inherited, **environment}, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()


def forks(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that forks."""
    test = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")(test)
    return pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")(test)


def returns_true_in_a_fork(function: Callable[[], bool]) -> bool:
    """Return whether a function returns True in a forked child; not if it raises, or hangs."""
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage ends with os._exit
        try:
            signal.alarm(20)
            os._exit(0 if function() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
