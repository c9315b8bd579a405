"""Impulse responses to systems."""

from ._realize import Realization, realize

__all__ = ["Realization", "realize"]
