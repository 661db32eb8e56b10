"""A real file system that ignores case: the directory at KEYVALUE_TEST_CASE_INSENSITIVE, or an NTFS image mounted with lowntfs-3g."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "KEYVALUE_TEST_CASE_INSENSITIVE"
_SIZE = 32 * 2**20


def missing() -> str | None:
    """Return why there is no such file system to be had, or None."""
    if os.environ.get(VARIABLE):
        return None
    if not (shutil.which("lowntfs-3g") and shutil.which("mkntfs") and os.access("/dev/fuse", os.W_OK)):
        return f"no lowntfs-3g, mkntfs and /dev/fuse, and {VARIABLE} is not set"
    return None


@contextmanager
def directory() -> Generator[Path, None, None]:
    """Yield an empty directory whose file system ignores case."""
    given = os.environ.get(VARIABLE)
    if given:
        with tempfile.TemporaryDirectory(dir=given) as path:
            yield Path(path)
        return
    with tempfile.TemporaryDirectory() as place:
        image, mounted = Path(place, "image"), Path(place, "mounted")
        with image.open("wb") as file:
            file.truncate(_SIZE)
        mounted.mkdir()
        subprocess.run(["mkntfs", "-q", "-F", "-f", image], check=True, capture_output=True)
        subprocess.run(["lowntfs-3g", "-o", "ignore_case", image, mounted], check=True, capture_output=True)
        try:
            yield mounted
        finally:
            subprocess.run(["umount", mounted], check=True)
