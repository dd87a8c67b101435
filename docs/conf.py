"""Sphinx: MyST pages, furo, reference from docstrings; two pages are written from the code first."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import pages

pages.write()

project = "anyview"
author = "The anyview developers"
copyright = "2026, The anyview developers"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "anyview"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]


def setup(app: Any) -> None:
    """Read an absolute value in a docstring's prose as such, not as the name of a substitution."""
    app.connect("autodoc-process-docstring", _with_bars)


def _with_bars(*told: Any) -> None:
    lines: list[str] = told[-1]
    prose = next((number for number, line in enumerate(lines) if line.startswith(">>>")), len(lines))
    lines[:prose] = [line.replace("|", "\\|") for line in lines[:prose]]
