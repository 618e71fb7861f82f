"""Links that lead out of docs/: on GitHub into the repository, on the site to a copy of the file."""

import os
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform


class LinksElsewhere(SphinxTransform):
    """A page of the repository becomes a download, as MyST makes any other file. Of a folder only the words stay."""

    default_priority = 5  # before Sphinx collects downloads

    def apply(self, **kwargs: object) -> None:
        """Change the links of one page."""
        here, root = Path(self.env.doc2path(self.env.docname)).parent, Path(self.env.srcdir)
        for link in list(self.document.findall(addnodes.pending_xref)):
            target = Path(os.path.normpath(here / link["reftarget"].partition("#")[0]))
            page = target.with_name(f"{target.name}.md")  # MyST takes it for one of ours, and its ending off
            if not target.is_relative_to(root) and page.is_file():
                words = [child.deepcopy() for child in link.children]
                there = os.path.relpath(page, here)
                link.replace_self(addnodes.download_reference("", "", *words, reftarget=there, refdoc=self.env.docname))
            elif target.is_dir():
                link.replace_self(nodes.inline("", "", *link.children))


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_transform(LinksElsewhere)
    return {"parallel_read_safe": True}
