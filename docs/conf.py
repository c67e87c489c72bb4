"""How Sphinx builds the documents (``make docs``): all from this repository, nothing from the network."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import ice_tcp  # noqa: E402, F401

project = "ice-tcp"
author = "The ice-tcp authors"
copyright = author  # noqa: A001
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["examples", "upstream"]

html_theme = "furo"
html_title = "ice-tcp"
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_type_aliases = {"TraceSink": "ice_tcp.TraceSink", "Event": "ice_tcp.Event"}
autodoc_typehints = "signature"
default_role = "py:obj"
