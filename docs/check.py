"""Checks the documentation: every relative link leads somewhere, every page is reachable from the index.

Knows nothing of addresses on the network, which may come and go.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)


def main() -> int:
    """Print each fault as ``file: what``; give 1 if there is any."""
    pages = sorted(
        [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/*/README.md")],
    )
    faults = [fault for page in pages for fault in check(page)]
    reached = reachable(ROOT / "docs" / "index.md")
    for page in pages:
        if page.parent == ROOT / "docs" and page not in reached:
            faults.append(f"{page.relative_to(ROOT)}: no page leads to it from docs/index.md")
    for fault in faults:
        print(fault)
    print(f"{len(pages)} pages, {len(faults)} faults")
    return 1 if faults else 0


def links(page: Path) -> list[str]:
    """Give the relative targets of a page's links, outside code blocks."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [target for target in LINK.findall(text) if "://" not in target]


def check(page: Path) -> list[str]:
    """Give the faults of one page."""
    faults = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        leads_to = (page.parent / path).resolve() if path else page
        if not leads_to.exists():
            faults.append(f"{page.relative_to(ROOT)}: {target} leads nowhere")
        elif anchor and anchor not in anchors(leads_to):
            faults.append(f"{page.relative_to(ROOT)}: {target}: there is no such heading")
    return faults


def anchors(page: Path) -> set[str]:
    """Give the names that headings of a page are linked by."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def reachable(start: Path) -> set[Path]:
    """Give every page that links lead to, from one page on."""
    found: set[Path] = set()
    todo = [start]
    while todo:
        page = todo.pop()
        if page in found or page.suffix != ".md" or not page.exists():
            continue
        found.add(page)
        todo += [(page.parent / target.partition("#")[0]).resolve() for target in links(page)]
    return found


if __name__ == "__main__":
    sys.exit(main())
