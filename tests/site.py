"""Run by the nox session `docs` on what it built: `python -m tests.site site`. Exits with 1 if something is missing or leads nowhere."""

from __future__ import annotations

import html.parser
import importlib
import sys
import zlib
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import keyvalue
from tests import fake_winreg


class Page(html.parser.HTMLParser):
    """What one page has and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("id", "name"):
                self.anchors.add(value)
            elif value and name in ("href", "src") and tag != "base":
                self.links.append(value)


def broken_links(site: Path) -> list[str]:
    """Return the links between pages of the site that lead nowhere."""
    # 404.html is shown at any address, so its links are absolute ones of a site whose address is not known.
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    broken: list[str] = []
    for path, page in pages.items():
        for link in page.links:
            address, anchor = urldefrag(link)
            if urlsplit(link).scheme or address.startswith("//"):
                continue
            target = (path.parent / unquote(urlsplit(address).path)).resolve() if address else path
            target = target / "index.html" if target.is_dir() else target
            found = target.exists() and (not anchor or target not in pages or unquote(anchor) in pages[target].anchors)
            if not found:
                broken.append(f"{path.relative_to(site.resolve())}: {link}")
    return broken


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
    problems = [f"the link leads nowhere: {link}" for link in broken_links(site)]
    problems += [f"not in the reference: {name}" for name in sorted(exported() - referenced(site))]
    sys.stderr.write("".join(f"{problem}\n" for problem in problems))
    return min(1, len(problems))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
