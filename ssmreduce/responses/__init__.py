"""Responses of a system: to an input sequence, to an impulse, to frequencies; the scan on plain arrays."""

from ._responses import Chunk, frequency_response, impulse_response, simulate, simulate_chunk
from ._scan import scan

__all__ = [
    "Chunk",
    "frequency_response",
    "impulse_response",
    "scan",
    "simulate",
    "simulate_chunk",
]
