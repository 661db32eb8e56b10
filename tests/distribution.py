"""Run by the nox session `wheel` on what it built: `python tests/distribution.py WHEEL SDIST`. It fails if they lack something."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"


def main(wheel: str, sdist: str) -> None:
    modules = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*") if path.suffix == ".py" or path.name == "py.typed"}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    held = {name for name in names if ".dist-info/" not in name}
    assert held == modules, held ^ modules
    assert any(name.endswith("/LICENSE") for name in names)
    source = (SOURCE / "keyvalue" / "__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{message_from_string(metadata)["Version"]}"' in source

    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {f"src/{name}" for name in modules} | {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/*.py")}
    wanted |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")}
    wanted |= {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "noxfile.py", "mkdocs.yml", "docs_site.py", "pyproject.toml"}
    assert wanted <= members, wanted - members


if __name__ == "__main__":
    main(*sys.argv[1:])
