"""What the compiled search passes on, by name."""

from typing import Any, NamedTuple


class System(NamedTuple):
    """One system: E and F (p, 2 n) are the real and imaginary parts of the sum and the difference of C and C_reverse.

    `counts` (n,) are the numbers of distinct poles that each state adds (0, 1, or 2 with its conjugate), `weights` (n,)
    bounds of the norms of the terms, `gaps` (n,) 1 - abs(poles)**2, `scale` the Frobenius norm of D. C and C_reverse
    are transposed, with the factor kappa / 2; C_reverse has no rows if causal.
    """

    poles: Any
    gaps: Any
    counts: Any
    weights: Any
    B: Any
    E: Any
    F: Any
    D: Any
    scale: Any
    C: Any
    C_reverse: Any


class Work(NamedTuple):
    """Space for a sample: W (2 n, m) and G (p, m) in parts, G, its conjugate, a Gram matrix, a vector."""

    W_re: Any
    W_im: Any
    G_re: Any
    G_im: Any
    G: Any
    conj: Any
    H: Any
    x: Any


class Sample(NamedTuple):
    """Phase and its slope, gain (-1 where it is only bounded) and an upper bound of the gain that includes rounding."""

    phase: float
    slope: float
    gain: float
    upper: float


class Anchors(NamedTuple):
    """Poles of the upper half plane in the order of their angles."""

    poles: Any
    angles: Any


class Tree(NamedTuple):
    """Points (k, 4) and values (k, 3) of samples, intervals (k, 4), their bounds, and a heap of those that are open."""

    points: Any
    values: Any
    intervals: Any
    keys: Any
    heap: Any


class Law(NamedTuple):
    """What the bounds of intervals depend on: slack of the phase, how often a pole counts, how many there are."""

    slack: float
    halves: int  # 2 for a bidirectional system
    poles: int
