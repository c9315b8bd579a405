"""Sphinx configuration."""

import ssmreduce

project = "ssmreduce"
copyright = "2026, the ssmreduce developers"
version = release = ssmreduce.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
]
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False
exclude_patterns = ["_build"]
nitpicky = False

html_theme = "pydata_sphinx_theme"
html_title = "ssmreduce"
html_theme_options = {"show_toc_level": 2, "secondary_sidebar_items": ["page-toc"]}
