"""Reductions of a model with data, and of a network with data."""

from ._compress import compress
from ._elimination import eliminate
from ._refit import refit
from ._search import Search, SearchPoint, search_model
from ._search_network import search, search_network
from ._selective import Candidate, SelectiveCompression, compress_selective
from ._selective_verbs import search_selective
from ._sensitivity import output_sensitivity
from ._sequential import refit_network

__all__ = [
    "Candidate",
    "Search",
    "SearchPoint",
    "SelectiveCompression",
    "compress",
    "compress_selective",
    "eliminate",
    "output_sensitivity",
    "refit",
    "refit_network",
    "search",
    "search_model",
    "search_network",
    "search_selective",
]
