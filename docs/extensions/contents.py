"""The table of contents, from the links of a page called index: GitHub shows the links, Sphinx a tree of them."""

import re

from sphinx.application import Sphinx

LINK = re.compile(r"^- \[[^]]+\]\(([^):]+)\.md\)", re.M)


def add_trees(app: Sphinx, name: str, source: list[str]) -> None:
    """Put a hidden tree of the pages that a list links to under each heading of an index."""
    if name.rpartition("/")[2] != "index":
        return
    sections = re.split(r"^(?=## )", source[0], flags=re.M)
    source[0] = "".join(section + _tree(section) for section in sections)


def _tree(section: str) -> str:
    pages = LINK.findall(section)
    caption = f":caption: {section.splitlines()[0][3:]}\n" if section.startswith("## ") else ""
    return "\n```{toctree}\n:hidden:\n" + caption + "\n".join(["", *pages, "```", ""]) if pages else ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("source-read", add_trees)
    return {"parallel_read_safe": True}
