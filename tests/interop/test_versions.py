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


PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")


def test_the_table_has_the_versions_that_are_asked_for() -> None:
    table: dict[str, set[str]] = {}
    for name, bound in re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \|", (ROOT / "docs" / "interop.md").read_text(), re.MULTILINE):
        table.setdefault(name, set()).add(bound)
    asked_for = map(Requirement, nox.project.dependency_groups(PROJECT, "interop", "predecessor"))
    assert table == {found.name: {next(iter(found.specifier)).version} for found in asked_for if found.name not in UNLISTED}


def test_these_versions_are_installed() -> None:
    for found in map(Requirement, nox.project.dependency_groups(PROJECT, "interop")):
        assert found.specifier.contains(version(found.name)), found
