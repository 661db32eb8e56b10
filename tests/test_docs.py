"""README and docs: every program in them runs, every link leads somewhere, every fact that is data here is the same there."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyvalue.protocols import AsyncEnumerateKeysProtocol
from keyvalue.stores.base import BaseStore

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
)


def programs() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for match in re.finditer(r"^```python([^\n]*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            line = page.read_text()[: match.start()].count("\n") + 2
            name = f"{page.relative_to(ROOT)}:{line}" + ("-redis" if "redis" in match[1] else "")
            yield name, match[2]


PROGRAMS = dict(programs())


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_run(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    program = PROGRAMS[name]
    if name.endswith("-redis"):
        program = re.sub(r"redis://localhost:6379(/\d)?", request.getfixturevalue("redis_url"), program)
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, "-X", "dev", "-W", "error", "program.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def test_the_quickstart_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", str(ROOT / "examples" / "quickstart.py"), str(tmp_path / "data")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    for word in ("asyncio", "trio", "sync", "expire"):
        assert word in result.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


def stores() -> dict[str, type[BaseStore]]:
    found: dict[str, type[BaseStore]] = {}
    for path in sorted((ROOT / "src" / "keyvalue" / "stores").glob("*.py")):
        if path.stem != "base" and not path.stem.startswith("_"):
            module = importlib.import_module(f"keyvalue.stores.{path.stem}")
            found.update({name: getattr(module, name) for name in module.__all__ if name.endswith("Store")})
    return found


def test_the_table_of_stores_says_what_the_classes_say() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("|") and "Store" in line and "`" in line
    ]
    table = {match[0]: row for row in rows if (match := re.search(r"\w+Store", row[0]))}
    assert set(table) == set(stores())
    extras = (ROOT / "pyproject.toml").read_text()
    for name, store in stores().items():
        row = table[name]
        assert store.__module__ in row[1]
        extra = row[2].strip("`")
        assert extra in ("", "-", "–", "—", "none") or re.search(rf"^{extra} = \[", extras, re.MULTILINE), row  # noqa: RUF001 # dashes
        assert row[3] == store.stability
        assert row[4].lower().startswith("yes") == issubclass(store, AsyncEnumerateKeysProtocol)


def test_every_public_class_is_documented_with_its_arguments_and_format() -> None:
    for name, store in stores().items():
        text = store.__doc__ or ""
        assert "Args:" in text, name
        if name not in ("NullStore", "MemoryStore", "SimpleStore"):
            assert "Format:" in text, name
            assert "Raises:" in text, name
