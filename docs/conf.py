"""The documentation site: `make docs` builds it into build/site, where a warning is an error.

The pages are Markdown (MyST). The reference is made of the docstrings, by docs/reference.py.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import cnnlib
import notebooks
import reference
import repository

project = "cnnlib"
author = copyright = "cnnlib contributors"
version = release = cnnlib.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
]
default_role = "py:obj"  # `name` in a docstring: a link where there is such a thing, else code

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the docstrings say more: shapes and ranges
autosummary_generate = False  # the tables lead to entries of the same page
numpydoc_show_class_members = False  # autodoc lists them

html_theme = "furo"
html_title = f"cnnlib {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False

linkcheck_timeout = 20


def setup(app):
    app.connect("builder-inited", _write_pages)
    app.connect("source-read", repository.relink)
    app.connect("source-read", repository.list_other_pages)


def _write_pages(app):
    reference.write(Path(app.srcdir, "api"))
    repository.write(Path(app.srcdir, "project"))
    notebooks.write_pages(Path(app.srcdir, "examples"))
