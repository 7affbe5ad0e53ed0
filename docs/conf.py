"""How Sphinx builds the pages of this folder.

Nothing is fetched from anywhere: neither fonts, nor scripts, nor the indices of other sites.
"""

import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

project = "Robustness sweeper"
author = "the authors of robustness-sweeper"
release = version = metadata.version("robustness-sweeper")
extensions = ["myst_parser", "reference"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
smartquotes = False  # "--set" is an option, and no dash

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("index", "get-started", "cluster", "troubleshooting")}  # nothing lies below them
html_copy_source = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_theme_options = {
    "navbar_align": "left",
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_nav_level": 1,
    "footer_start": [],
    "footer_end": ["sphinx-version"],
}
