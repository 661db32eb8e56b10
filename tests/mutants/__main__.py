"""Break the library in many ways, one at a time, and see whether its tests notice: `python -m tests.mutants [part of a name…]`."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.mutants import FAULTS, Fault

TREE = Path(__file__).parents[2]
# A hang is a failure, which pytest-timeout reports. Hypothesis's deadlines are off, as a busy machine misses them.
PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=short", "--timeout=30", "--hypothesis-profile=ci")


class Outcome(NamedTuple):
    """What became of a fault: "caught", "MISSED", "time-out", or "error" if the tests could not be run or fail without it too."""

    fault: str
    outcome: str
    seconds: float
    test: str


class Run(NamedTuple):
    """A run of pytest: its exit code, how long it took, the first test that failed, and what was printed last."""

    code: int
    seconds: float
    failed: str | None
    last_line: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of faults; all, if none are given")
    parser.add_argument("--list", action="store_true", help="only list them")
    parser.add_argument("--seconds", type=float, default=60, help="how long the tests of a fault may take (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="a file to write the outcomes to")
    options = parser.parse_args()
    chosen = [fault for fault in FAULTS if not options.names or any(name in fault.name for name in options.names)]
    if not chosen:
        parser.error("no fault has such a name; --list shows them")
    if options.list:
        for fault in chosen:
            print(f"{fault.name:48} {' '.join(fault.tests)}")  # noqa: T201 # what was asked for
        return
    counts = {fault: (TREE / fault.file).read_text(encoding="utf-8").count(fault.old) for fault in chosen}
    if problems := [f"{fault.name}: {count} times in {fault.file}:\n{fault.old}" for fault, count in counts.items() if count != 1]:
        sys.exit("What is to be broken must be there once:\n\n" + "\n\n".join(problems))
    outcomes: list[Outcome] = []
    for fault in chosen:
        outcomes.append(try_fault(fault, options.seconds))
        print("{:48} {:8} {:6.1f} s  {}".format(*outcomes[-1]), flush=True)  # noqa: T201 # the table
        if options.json is not None:
            options.json.write_text(json.dumps([outcome._asdict() for outcome in outcomes], indent=1) + "\n")
    caught = sum(outcome.outcome == "caught" for outcome in outcomes)
    print(f"{caught} of {len(outcomes)} caught")  # noqa: T201 # the sum of the table
    sys.exit(caught != len(outcomes))


def try_fault(fault: Fault, seconds: float) -> Outcome:
    """Run the tests of a fault on a broken copy of the tree, and the one that fails on the copy as it was."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        copy = Path(directory, "tree")
        shutil.copytree(TREE, copy, symlinks=True, ignore=shutil.ignore_patterns(".*", "__pycache__", "build"))
        file = copy / fault.file
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        broken = run_tests(copy, fault.tests, seconds)
        file.write_text(text, encoding="utf-8")
        if broken.failed is None or broken.code in (0, 2):  # 2: interrupted, or not even collected
            outcome = "time-out" if broken.seconds >= seconds else "MISSED" if broken.code == 0 else "error"
            return Outcome(fault.name, outcome, broken.seconds, broken.last_line)
        whole = run_tests(copy, [broken.failed], seconds)
        if whole.code != 0:
            return Outcome(fault.name, "error", broken.seconds, f"{broken.failed} fails without the fault too: {whole.last_line}")
        return Outcome(fault.name, "caught", broken.seconds, broken.failed)


def run_tests(tree: Path, tests: Sequence[str], seconds: float) -> Run:
    """Run pytest in a tree."""
    said = tree.parent / "said"
    with said.open("wb") as output:
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *PYTEST, *tests],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree / "src")},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # lets it end the servers that it has started
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
        finally:
            took = time.monotonic() - start
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    report = said.read_text(errors="replace")
    failed = re.search(r"^FAILED (\S+::.*?)(?: - .*)?$", report, re.MULTILINE)
    return Run(process.returncode, round(took, 1), failed and failed[1], report.strip().rpartition("\n")[2])


if __name__ == "__main__":
    main()
