"""Run by the nox session `docs` on what it built: `python -m tests.site site`. Exits with 1 if the reference lacks an exported name."""

from __future__ import annotations

import importlib
import sys
import zlib
from pathlib import Path

import keyvalue
from tests import fake_winreg


def public_modules() -> set[str]:
    """Return the names of the modules that are not private."""
    root = Path(*keyvalue.__path__)
    found = {"keyvalue"}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        if not any(part.startswith("_") and part != "__init__" for part in parts):
            found.add(".".join(part for part in parts if part != "__init__"))
    return found


def exported() -> set[str]:
    """Return the names that public modules export, in full."""
    with fake_winreg.installed():
        modules = {name: importlib.import_module(name) for name in public_modules()}
    return {f"{name}.{one}" for name, module in modules.items() for one in getattr(module, "__all__", ())}


def referenced(site: Path) -> set[str]:
    """Return the names that the reference has: those of the inventory, whose first four lines are a header."""
    inventory = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    return {line.split()[0] for line in inventory.splitlines()}


def main(site: Path) -> int:
    missing = sorted(exported() - referenced(site))
    sys.stderr.write("".join(f"not in the reference: {name}\n" for name in missing))
    return min(1, len(missing))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
