"""README and docs: every program in them runs, every link leads somewhere, every fact that is data here is the same there."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tokenize
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from keyvalue.protocols import AsyncEnumerateKeysProtocol
from keyvalue.stores.base import BaseStore
from tests.programs import PAGES, PROGRAMS
from tests.servers.registry import SERVERS
from tests.site import public_modules

ROOT = Path(__file__).parent.parent

PLAIN = [
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("architecture", "contract", "for-framework-authors", "runtimes")),
    *ROOT.glob("docs/write-a-*.md"),
    *ROOT.glob("docs/reference/*.md"),
]
"""Pages that say sync and async, py-key-value-aio, "its" or a noun, and who does what."""
PACKAGE = ROOT / "src" / "keyvalue"
MODULES = sorted(PACKAGE.rglob("*.py"))
WORDS_TO_LOSE = re.compile(r"(?i:\b(?:colours?|likewise|nobody|somebody|whose|the predecessor)\b)|\bis none\b")

RUNNER = """
import gc, os, runpy, sys, traceback
for path in sys.argv[1:]:
    print(path, file=sys.stderr)
    os.chdir(os.path.dirname(path))
    try:
        runpy.run_path(path, run_name="__main__")
    except BaseException:
        traceback.print_exc()
    gc.collect()
"""
"""Runs programs one after the other, each with a namespace and a directory of its own. What is wrong with one is said under its name."""

GROUPS: dict[str, list[str]] = defaultdict(list)
"""Programs that run in one interpreter, since starting one takes longer than most of them: those of a server, or of a directory."""
for _name, _program in PROGRAMS.items():
    GROUPS[_program.server or (_name if _program.is_test else str(Path(_name).parent))].append(_name)


def run(directory: Path, *arguments: str, expected: str = "") -> str:
    """Run an interpreter that takes every warning for an error, fail unless it says what is expected, and return what it prints."""
    command = [sys.executable, "-W", "error", *arguments]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # importing plugins takes longer than most runs
    result = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=280, check=False)
    # asyncio's debug mode reports slow steps, and the first use of anyio and beartype imports them.
    said = re.sub(r"^Executing <.*> took .* seconds\n", "", result.stderr, flags=re.MULTILINE)
    assert (result.returncode, said) == (0, expected), result.stdout + result.stderr
    return result.stdout


def on_server(program: str, url: str) -> str:
    """Have a program use a server that is not at its usual place."""
    place = urlsplit(url)
    program = re.sub(r"\w+://localhost:\d+(/\d)?", url, program)
    return re.sub(r'host="localhost", port=\d+', f'host="{place.hostname}", port={place.port}', program)


@pytest.mark.timeout(300)  # on a busy machine a contract takes its time
@pytest.mark.backends(*sorted(GROUPS))
def test_programs_run(backend: str, tmp_path: Path, empty_server: Callable[[str], str]) -> None:
    url = empty_server(backend) if backend in SERVERS else ""
    scripts: list[str] = []
    for name in GROUPS[backend]:
        program, directory = PROGRAMS[name], tmp_path / name.replace("/", "-").replace(":", "-line-")
        directory.mkdir()
        for file, text in program.files.items():
            (directory / file).write_text(on_server(text, url) if url else text)
        if program.is_test:
            # One runtime will do, as tests/testing runs such classes on all; and what adds a test to another class, that test.
            chosen = "test_a_damaged_entry" if "def damage(" in program.text and "(StoreContract)" not in program.text else "asyncio"
            run(directory, "-m", "pytest", "-p", "no:cacheprovider", "-k", chosen, program.file)
        else:
            scripts.append(str(directory / program.file))
    run(tmp_path, "-X", "dev", "-c", RUNNER, *scripts, expected="".join(f"{script}\n" for script in scripts))


def test_the_quickstart_runs(tmp_path: Path) -> None:
    printed = run(tmp_path, "-X", "dev", str(ROOT / "examples" / "quickstart.py"), str(tmp_path / "data"))
    for word in ("asyncio", "trio", "sync", "expire"):
        assert word in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor and not anchor.startswith("keyvalue."):  # those of the reference are made with the site, which checks them
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


@pytest.mark.parametrize("page", PLAIN, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_use_the_words_of_the_field(page: Path) -> None:
    lines = enumerate(page.read_text().splitlines(), 1)
    assert [(number, line) for number, line in lines if WORDS_TO_LOSE.search(line)] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_docstrings_and_comments_use_the_words_of_the_field(module: Path) -> None:
    with module.open(encoding="utf-8") as lines:
        tokens = list(tokenize.generate_tokens(lines.readline))
    texts = [token for token in tokens if token.type == tokenize.COMMENT or token.string.lstrip("r").startswith('"""')]
    assert [(token.start[0], token.string) for token in texts if WORDS_TO_LOSE.search(token.string)] == []


@cache
def stores() -> dict[str, type[BaseStore]]:
    modules = [importlib.import_module(name) for name in sorted(public_modules()) if re.fullmatch(r"keyvalue\.stores\.(?!base)\w+", name)]
    return {name: getattr(module, name) for module in modules for name in module.__all__ if name.endswith("Store")}


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


@pytest.mark.parametrize("folder", ["stores", "wrappers", "adapters"])
def test_every_page_is_in_the_index_and_in_the_navigation(folder: str) -> None:
    index = (ROOT / "docs" / folder / "index.md").read_text()
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = {page.stem for page in (ROOT / "docs" / folder).glob("*.md")} - {"index"}
    modules = {path.stem for path in (ROOT / "src" / "keyvalue" / folder).glob("*.py") if not path.stem.startswith("_")} - {"base"}
    assert pages - {"multi_disk"} == modules
    for page in pages:
        assert f"]({page}.md)" in index, page
        assert f"- {folder}/{page}.md" in navigation, page


def test_what_each_backend_promises_is_said_of_every_store() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    assert set(re.findall(r"\[`(\w+)`\]\(stores/", text)) == set(stores())


def test_every_public_class_is_documented_with_its_arguments_and_format() -> None:
    for name, store in stores().items():
        text = store.__doc__ or ""
        assert "Args:" in text, name
        if name not in ("NullStore", "MemoryStore", "SimpleStore"):
            assert "Format:" in text, name
            assert "Raises:" in text, name


def test_compose_offers_every_server() -> None:
    text = (ROOT / "compose.yaml").read_text()
    offered = {name: server for name, server in SERVERS.items() if server.may_be_given}
    assert set(re.findall(r"^  ([\w-]+):$", text.partition("services:")[2], re.MULTILINE)) == set(offered)
    assert set(re.findall(r"KEYVALUE_TEST_\w+_URL", text)) == {server.variable for server in offered.values()}
