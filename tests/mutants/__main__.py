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
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.mutants import FAULTS, FORMER, Fault

HERE = Path(__file__).parents[2]
# A hang is a failure, of which pytest-timeout tells. Without hypothesis's deadlines, as a busy machine misses them.
PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=short", "--timeout=30", "--hypothesis-profile=ci")


class Outcome(NamedTuple):
    """What became of a fault: "caught", "MISSED", "time-out", or "error" if the tests could not be run."""

    fault: str
    outcome: str
    seconds: float
    test: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of faults; all, if none are given")
    parser.add_argument("--list", action="store_true", help="only list them")
    parser.add_argument("--tree", type=Path, default=HERE, help="the checkout to break a copy of (default: this one)")
    parser.add_argument("--seconds", type=float, default=60, help="how long the tests of a fault may take (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="a file to write the outcomes to")
    options = parser.parse_args()
    chosen = [fault for fault in FAULTS if not options.names or any(name in fault.name for name in options.names)]
    if options.list:
        for fault in chosen:
            print(f"{fault.name:48} {' '.join(fault.tests)}")  # noqa: T201 # what was asked for
        return
    places = {fault: options.tree / fault.file for fault in chosen}
    counts = {fault: path.read_text(encoding="utf-8").count(fault.old) if path.exists() else 0 for fault, path in places.items()}
    if problems := [f"{fault.name}: {count} times in {fault.file}:\n{fault.old}" for fault, count in counts.items() if count != 1]:
        sys.exit("What is to be broken must be there once:\n\n" + "\n\n".join(problems))
    outcomes: list[Outcome] = []
    for fault in chosen:
        outcomes.append(try_fault(fault, options.tree.resolve(), options.seconds))
        print("{:48} {:8} {:6.1f} s  {}".format(*outcomes[-1]), flush=True)  # noqa: T201 # the table
        if options.json is not None:
            options.json.write_text(json.dumps([outcome._asdict() for outcome in outcomes], indent=1) + "\n")
    caught = sum(outcome.outcome == "caught" for outcome in outcomes)
    print(f"{caught} of {len(outcomes)} caught")  # noqa: T201 # the sum of the table
    sys.exit(caught != len(outcomes))


def try_fault(fault: Fault, tree: Path, seconds: float) -> Outcome:
    """Run the tests of a fault on a broken copy of a tree."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        copy = Path(directory, "tree")
        shutil.copytree(tree, copy, symlinks=True, ignore=shutil.ignore_patterns(".*", "__pycache__", "build"))
        text = (copy / fault.file).read_text(encoding="utf-8")
        (copy / fault.file).write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        places = [FORMER.get(one, f"tests/{Path(one).name}") if "/" in one and not (copy / one).exists() else one for one in fault.tests]
        tests = [one for one in places if "/" not in one or (copy / one).exists()]
        command = [sys.executable, *PYTEST, *tests]
        said = Path(directory, "said")
        environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
        with said.open("wb") as output:
            start = time.monotonic()
            process = subprocess.Popen(command, cwd=copy, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
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
        report = said.read_text(errors="replace")
    failed = re.search(r"^FAILED (\S+::.*?)(?: - .*)?$", report, re.MULTILINE)
    if failed is not None and process.returncode not in (0, 2):  # 2: interrupted, or not even collected
        return Outcome(fault.name, "caught", round(took, 1), failed[1])
    outcome = "time-out" if took >= seconds else "MISSED" if process.returncode == 0 else "error"
    return Outcome(fault.name, outcome, round(took, 1), report.strip().rpartition("\n")[2])


if __name__ == "__main__":
    main()
