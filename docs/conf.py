"""Sphinx: python -m sphinx -W --keep-going -b html docs build/docs, after python -m pip install -e '.[docs]'.

Code cells are executed, small ones with MINIDL_QUICK=1; MINIDL_DOCS_EXECUTE=off builds without them, =cache runs only
those that have changed.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))  # the extensions texts.py and docstrings.py

import minidl  # noqa: E402

project, author, release = "minidl", "the authors of minidl", minidl.__version__
html_title = f"minidl {release}"
copyright = author

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "texts", "docstrings", "notebook_pages"]
exclude_patterns = ["data"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_mathjax_classes = "tex2jax_process|mathjax_process|math|output_area|text_html"  # and what explain(...) returns

execute = os.environ.get("MINIDL_DOCS_EXECUTE", "force")
nb_execution_mode = execute
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

autodoc_typehints = "none"  # shapes, dtypes and units stand in the text
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True}

html_theme = "furo"
html_static_path = ["static", str(Path(find_spec("sphinx-mathjax-offline").origin).parent / "static")]
html_css_files = ["minidl.css"]
mathjax_path = "mathjax/tex-chtml.js"  # from that package: no net is needed to read the pages
