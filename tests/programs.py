"""The programs of README and docs. `python -m tests.programs DIRECTORY` writes them to a directory, for the type checkers."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
)


class Program(NamedTuple):
    """A program of a page."""

    text: str
    file: str  # the name of its file, which its title says if others import it or it is for pytest
    server: str  # the server that it needs, which its title names, or ""
    beside: Mapping[str, str]  # the other programs of the page that have names, by these

    @property
    def files(self) -> Mapping[str, str]:
        """The texts of its files, its own among them."""
        return {**self.beside, self.file: self.text}

    @property
    def is_test(self) -> bool:
        """Whether it is for pytest."""
        return self.file.startswith("test_")


def programs() -> Iterator[tuple[str, Program]]:
    for page in PAGES:
        beside: dict[str, str] = {}
        for match in re.finditer(r"^```python([^\n]*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            line = page.read_text()[: match.start()].count("\n") + 2
            title = re.search(r'title="(\w+\.py)?(?:, )?(\w+)?"', match[1])
            file, server = title.groups("") if title else ("", "")
            if file:
                beside[file] = match[2]
            yield f"{page.relative_to(ROOT)}:{line}", Program(match[2], file or "program.py", server, beside)


PROGRAMS = dict(programs())


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name, program in PROGRAMS.items():
        path = directory / (program.file if program.file in program.beside else re.sub(r"\W", "_", name) + ".py")
        assert not path.exists(), f"two programs are called {path.name}"
        # Strict without the exceptions that the project itself makes.
        path.write_text(f"# pyright: strict, reportMissingTypeStubs=true, reportUnnecessaryIsInstance=true\n{program.text}")
