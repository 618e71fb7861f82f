"""How the documentation is built: `make docs`. Nothing is asked of a network."""

import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import lrlab

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "lrlab"
author = "The lrlab maintainers"
version = release = lrlab.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "contents", "docstrings", "elsewhere", "generated"]
exclude_patterns = ["_build", "extensions"]

myst_heading_anchors = 4  # as GitHub gives them to headings
highlight_language = "text"  # of docstrings, which show formulas

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["lightning", "transformers"]  # optional, and seconds to import
add_module_names = False
# other people's names, for which there is nothing to look up without a network, and types of ours that have no page
nitpick_ignore_regex = [("py:.*", r"(?!lrlab\.).*"), ("py:class", r"lrlab\..*")]

html_theme = "furo"
html_title = f"lrlab {version}"
html_copy_source = False


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.add_lexer("csv", TextLexer)  # GitHub has a table for it, Pygments nothing
