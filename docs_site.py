"""A hook of MkDocs: the pages that lie beside `docs/`, where GitHub looks for them, are pages of the site too."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
EXAMPLES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("examples/*.py"))


def for_the_site(text: str) -> str:
    """Have the links of a page beside `docs/` lead to the same places from within it."""
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\]\((\w+\.md)", lambda match: f"]({PAGES.get(match[1], match[1])}", text)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Have a page's links out of `docs/` lead to the pages and programs of the site."""
    for name, page in (PAGES | dict(zip(EXAMPLES, EXAMPLES, strict=True))).items():
        markdown = re.sub(rf"\]\(((?:\.\./)*)\.\./{name}", rf"](\1{page}", markdown)
    return markdown


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages, and the programs that they link to."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=for_the_site((ROOT / name).read_text(encoding="utf-8"))))
    for name in EXAMPLES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files
