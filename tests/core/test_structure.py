"""How large the parts of the library are (`pytest -rP` shows the table), and that their imports form no cycle."""

from __future__ import annotations

import ast
import io
import tokenize
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

import keyvalue

ROOT = Path(keyvalue.__file__).parent
MODULES = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in ROOT.rglob("*.py")}
IGNORED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def count_code_lines(path: Path) -> int:
    """Count the lines of a file that are no docstrings, blanks or comments."""
    text = path.read_text()
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in IGNORED:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        for statement in (
            getattr(node, "body", ()) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else ()
        ):
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str):
                lines.difference_update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    return len(lines)


def imports_of(path: Path) -> set[str]:
    """Return the modules of the library that a file imports when it is imported."""
    found: set[str] = set()
    left: list[ast.AST] = [ast.parse(path.read_text())]
    while left:
        node = left.pop()
        is_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {name if (name := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        left += ast.iter_child_nodes(node)
    return found & MODULES.keys()


def test_imports_form_no_cycle() -> None:
    graph = {name: imports_of(path) - {name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"These modules import each other: {' → '.join(error.args[1])}")


def test_sizes() -> None:
    sizes = {str(path.relative_to(ROOT)): count_code_lines(path) for path in MODULES.values()}
    stores = {Path(name).stem: size for name, size in sizes.items() if Path(name).match("stores/[!_]*.py") and name != "stores/base.py"}
    backends = dict(stores)
    for name, size in sizes.items():
        owner = next((store for store in stores if name == f"stores/_{store}.py" or name.startswith(f"stores/_drivers/{store}")), None)
        if owner is not None:
            backends[owner] += size
    core = {name: size for name, size in sizes.items() if name.startswith("_core/") and not name.startswith("_core/legacy/")}
    rows = [f"{size:5d} {name}" for name, size in sorted(sizes.items())]
    for what, some in (("public store files", stores), ("backends with their drivers", backends), ("core modules without legacy", core)):
        rows.append(f"{what}: {sum(some.values())} lines, median {median(some.values()):.0f}, at most {max(some.values())}")
    print("\n".join(rows))  # noqa: T201 # what this test is for
    assert {"redis", "memory", "mongodb"} < set(stores)
