"""What the processor offers to code that is written for its vector registers."""

import os
import platform
from functools import cache
from typing import NamedTuple

import llvmlite.binding


class Registers(NamedTuple):
    """Size of a vector register in bytes, and the time steps of a tile whose two sums a step fit into all of them."""

    size: int
    steps: int


@cache
def registers() -> Registers | None:
    """Vector registers of the processor that Numba compiles for; None where nothing is known about them."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return Registers(16, 12)
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = llvmlite.binding.get_host_cpu_features().flatten()
    if "+avx512f" in features:
        return Registers(64, 12)
    return Registers(32, 6) if "+avx2" in features and "+fma" in features else Registers(16, 6)
