"""The table of what was tested says what is installed for the tests."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import nox.project
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
UNLISTED = {"httpx2", "nox", "packaging", "uvicorn"}
"""What only the tests themselves use."""


def bounds() -> dict[str, str]:
    groups = nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), "interop", "predecessor")
    return {found.name: next(iter(found.specifier)).version for found in map(Requirement, groups)}


def table() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, bound in re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \|", (ROOT / "docs" / "interop.md").read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(bound)
    return found


def test_the_table_has_the_versions_that_are_asked_for() -> None:
    assert table() == {name: {bound} for name, bound in bounds().items() if name not in UNLISTED}


def test_these_versions_are_installed() -> None:
    for found in map(Requirement, nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), "interop")):
        assert found.specifier.contains(version(found.name)), found
