"""The CUDA engine with the one-pass scan for few rows: faster, and not bitwise reproducible."""

from functools import partial

from . import _cupy

scan = partial(_cupy.scan, look_back=True)
prepare = partial(_cupy.prepare, look_back=True)
