"""Files of the repository outside docs/ that are pages of the site as well, and links from and to them."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)")


def write(folder):
    """Copy the pages to `folder`, a folder of docs/, as they are."""
    for path in _pages():
        page = folder / path
        page.parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / path).read_text(encoding="utf-8")
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def relink(app, docname, source):
    """On reading a page: let links lead to the page that a file of the repository has here."""
    page = Path(app.srcdir, docname)
    copied = Path(app.srcdir, "project")
    original = ROOT / page.relative_to(copied) if page.is_relative_to(copied) else page

    def target(match):
        file = Path(os.path.normpath(original.parent / match[2]))
        if file.is_relative_to(ROOT) and str(file.relative_to(ROOT)) in _pages():
            file = copied / file.relative_to(ROOT)
        elif original == page and file.is_relative_to(DOCS):
            return match[0]
        return match[1] + os.path.relpath(file, page.parent)

    source[0] = LINK.sub(target, source[0])


def list_other_pages(app, docname, source):
    """In the table of contents: pages of docs/ that it does not name, so that a new page needs no entry."""
    if docname == "index":
        others = [path.stem for path in sorted(DOCS.glob("*.md")) if f"\n{path.stem}\n" not in source[0]]
        source[0] = source[0].replace("OTHER-PAGES", "\n".join(name for name in others if name != "index"))


def _pages():
    return [*PAGES, *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("bench/*.md")))]
