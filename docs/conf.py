"""Sphinx: MyST pages, furo, reference from docstrings."""

project = "anyview"
author = "The anyview developers"
copyright = "2026, The anyview developers"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "anyview"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]
