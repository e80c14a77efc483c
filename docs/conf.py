"""Sphinx: the documentation of regimes, with the reference built from docstrings and settings."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

project = "regimes"
author = "the authors of regimes"
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "myst_parser",
    "reference",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Which theory of training holds where, by measurement", "page_width": "1100px"}
autodoc_typehints = "none"  # shapes stand in the signature already
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
smartquotes = False
autodoc_inherit_docstrings = False
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Docstrings are plain text with unicode formulas; tables of results lie beside docs/ (tests check the links).
suppress_warnings = ["docutils", "myst.xref_missing"]
