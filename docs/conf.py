"""Sphinx configuration."""

import os
import sys
import warnings
from pathlib import Path

import ssmreduce

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests")]  # networks and data of the examples
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "ssmreduce"
copyright = "2026, the ssmreduce developers"
version = release = ssmreduce.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # equations without a request to another site
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "myst_parser",
    "numpydoc",
]
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False
exclude_patterns = ["_build", "examples", "auto_examples/*.ipynb", "tables"]
templates_path = ["_templates"]
nitpicky = False
suppress_warnings = ["config.cache"]  # the sorting of the gallery is a list, which is fine

# Examples run where their source has changed since their stored result, in docs/auto_examples; `make gallery` runs all.
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "api/generated/backreferences",
    "doc_module": ("ssmreduce",),
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "run_stale_examples": bool(os.environ.get("SSMREDUCE_GALLERY")),
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 10_000,
    "remove_config_comments": True,
    "capture_repr": (),
    "image_srcset": ["2x"],
    "reset_modules": ("matplotlib",),
}
warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive.*")

html_theme = "pydata_sphinx_theme"
html_title = "ssmreduce"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "left",
    "header_links_before_dropdown": 5,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
html_sidebars = {"index": [], "install": [], "quickstart": []}
