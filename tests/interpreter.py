"""Processes of one's own: a fresh Python, and forked children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping

import pytest


def run_python(*arguments: str, seconds: float = 60, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter with some arguments and more of an environment, and return what came of it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it imports much
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**inherited, **(environment or {})}, timeout=seconds)


def run_fresh(program: str, **environment: str) -> str:
    """Run a program in a fresh interpreter and return what it prints. It must exit with 0 and say nothing on stderr."""
    result = run_python("-c", program, environment=environment)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()


def forks(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that forks."""
    test = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")(test)
    return pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")(test)


class Child:
    """A forked child that runs a function. The function is called with another one, which waits until `go_on` is called here."""

    def __init__(self, function: Callable[[Callable[[], object]], bool]) -> None:
        reading, self._writing = os.pipe()
        self._process = os.fork()
        if self._process == 0:  # pragma: no cover - coverage ends with os._exit
            os.close(self._writing)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends it even if it hangs in a client
            signal.alarm(60)
            try:
                os._exit(0 if function(lambda: os.read(reading, 1)) else 1)
            except BaseException:  # noqa: BLE001 # whatever it is, the parent's part of the test must not run here
                os.write(2, traceback.format_exc().encode())
                os._exit(2)
        os.close(reading)

    def go_on(self) -> None:
        os.close(self._writing)

    def exit_code(self) -> int:
        """Wait for its end: 0 if the function returned True, 1 if False, 2 if it raised, a negative number if it hung."""
        return os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])


def returns_true_in_a_fork(function: Callable[[], bool]) -> bool:
    """Return whether a function returns True in a forked child; not if it raises, or hangs."""
    child = Child(lambda _: function())
    child.go_on()
    return child.exit_code() == 0
