"""One sample: phase and transfer matrix at a point of the circle, its largest singular value, and their rounding."""

import math

import numpy as np

from ..._support.compiled import compiled, inlined
from ._circle import Point
from ._types import Sample, System, Work

UNIT = 2.0**-53
_EASY = 0.6  # a cheap upper bound of a sample is good enough below this share of the best gain
_FAIR = 0.998  # and one that a Cholesky factorisation has verified below this one
_MARGIN = 0.05  # by which a power estimate is raised before it is verified: this share of itself,
_SHARE = 0.1  # or this share of what is left to the square of the best gain
_POWER_STEPS = 10
_WIDE = 32  # order from which that is cheaper than eigenvalues


@compiled
def workspace(n: int, m: int, p: int) -> Work:
    small = min(p, m)
    return Work(
        np.empty((2 * n, m)),
        np.empty((2 * n, m)),
        np.empty((p, m)),
        np.empty((p, m)),
        np.empty((p, m), dtype=np.complex128),
        np.empty((p, m), dtype=np.complex128),
        np.empty((small, small), dtype=np.complex128),
        np.full(small, 1.0 / math.sqrt(max(1, small)) + 0.0j),
    )


@compiled
def _add_angle(re: float, im: float, x: float, y: float, quarters: int) -> tuple[float, float, int]:
    """Multiply by x + j y (x > 0) and turn back into the right half plane, counting the quarter turns."""
    re, im = re * x - im * y, re * y + im * x
    if re < 0.0:
        if im >= 0.0:
            return im, -re, quarters + 1
        return -im, re, quarters - 1
    return re, im, quarters


@inlined
def _fill(i: int, point: Point, own: tuple, other: tuple, B: np.ndarray, W_re: np.ndarray, W_im: np.ndarray) -> None:
    """Rows of W of state i from 1 / (z - lambda) and 1 / (z - conj(lambda)), as pairs (re, im)."""
    n = B.shape[0]
    sr, si = own[0] + other[0], own[1] + other[1]
    dr, di = other[1] - own[1], own[0] - other[0]
    sr, si = sr * point[0] - si * point[1], sr * point[1] + si * point[0]
    dr, di = dr * point[0] - di * point[1], dr * point[1] + di * point[0]
    for j in range(B.shape[1]):
        b = B[i, j]
        W_re[i, j] = sr * b.real + dr * b.imag
        W_im[i, j] = si * b.real + di * b.imag
        W_re[n + i, j] = dr * b.real - sr * b.imag
        W_im[n + i, j] = di * b.real - si * b.imag


@compiled
def _respond(point: Point, system: System, W_re: np.ndarray, W_im: np.ndarray) -> tuple[float, float, float]:
    """Phase and its slope, a bound on the sum of all terms; fills W (2 n, m) = z (zI - Lambda)^-1 B.

    W holds, for each state, the factors of Re c and Im c in the sum over the state and its conjugate.
    """
    zr, zi, er, ei = point
    re, im, quarters = 1.0, 0.0, 0
    slope, total, distinct = 0.0, 0.0, 0
    for i in range(system.poles.shape[0]):
        pole, count = system.poles[i], system.counts[i]
        x = (zr - pole.real) + er
        y = (zi - pole.imag) + ei
        y_conj = (zi + pole.imag) + ei
        inverse = 1.0 / (x * x + y * y)
        inverse_conj = 1.0 / (x * x + y_conj * y_conj)
        if count > 0:
            re, im, quarters = _add_angle(re, im, x * zr + y * zi, y * zr - x * zi, quarters)
            slope += system.gaps[i] * inverse
            distinct += count
        if count > 1:
            re, im, quarters = _add_angle(re, im, x * zr + y_conj * zi, y_conj * zr - x * zi, quarters)
            slope += system.gaps[i] * inverse_conj
        if i & 7 == 7:
            scale = 1.0 / (abs(re) + abs(im))
            re *= scale
            im *= scale
        total += system.weights[i] * (math.sqrt(inverse) + math.sqrt(inverse_conj))
        own, other = (x * inverse, -y * inverse), (x * inverse_conj, -y_conj * inverse_conj)
        _fill(i, point, own, other, system.B, W_re, W_im)
    phase = distinct * math.atan2(zi, zr) + 2.0 * (math.atan2(im, re) + quarters * (0.5 * math.pi))
    return phase, slope, total


@compiled
def _transfer(system: System, work: Work) -> None:
    """G = D + E Re W + j F Im W."""
    D, G = system.D, work.G
    p, m = D.shape
    if p == 1 and m == 1:
        re, im = D[0, 0], 0.0
        for i in range(system.E.shape[1]):
            re += system.E[0, i] * work.W_re[i, 0]
            im += system.F[0, i] * work.W_im[i, 0]
        G[0, 0] = complex(re, im)
        return
    np.dot(system.E, work.W_re, work.G_re)
    np.dot(system.F, work.W_im, work.G_im)
    for i in range(p):
        for j in range(m):
            G[i, j] = complex(D[i, j] + work.G_re[i, j], work.G_im[i, j])


@compiled
def _is_positive_definite(H: np.ndarray, shift: float) -> bool:
    """Whether shift I - H has a Cholesky factor."""
    matrix = -H
    for i in range(H.shape[0]):
        matrix[i, i] += shift
    try:
        np.linalg.cholesky(matrix)
    except Exception:  # the only clause that compiles
        return False
    return True


@compiled
def _rayleigh(H: np.ndarray, x: np.ndarray) -> float:
    """Lower bound of the largest eigenvalue by power steps from x, which is overwritten."""
    value = 0.0
    for _ in range(_POWER_STEPS):
        y = np.dot(H, x)
        square = 0.0
        value = 0.0
        for i in range(x.shape[0]):
            value += x[i].real * y[i].real + x[i].imag * y[i].imag
            square += y[i].real ** 2 + y[i].imag ** 2
        if square == 0.0:
            x[:] = 1.0 / math.sqrt(x.shape[0])
            return 0.0
        for i in range(x.shape[0]):
            x[i] = y[i] / math.sqrt(square)
    return value


@compiled
def _square_sum(matrix: np.ndarray) -> float:
    total = 0.0
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            total += matrix[i, j].real ** 2 + matrix[i, j].imag ** 2
    return total


@compiled
def _conjugate(G: np.ndarray, conj: np.ndarray) -> None:
    for i in range(G.shape[0]):
        for j in range(G.shape[1]):
            conj[i, j] = complex(G[i, j].real, -G[i, j].imag)


@compiled
def _gram(G: np.ndarray, conj: np.ndarray, H: np.ndarray) -> None:
    """The smaller one of G G^* and the conjugate of G^* G."""
    _conjugate(G, conj)
    if G.shape[0] <= G.shape[1]:
        np.dot(G, conj.T, H)
    else:
        np.dot(G.T, conj, H)


@compiled
def _largest_singular_value(work: Work, best: float) -> tuple[float, bool]:
    """Largest singular value of G, or an upper bound well below `best` (then False).

    With a negative `best`, wide matrices get the lower bound of a few power steps from x.
    """
    G, H, x = work.G, work.H, work.x
    enough = _EASY * best
    frobenius = math.sqrt(_square_sum(G))
    if min(G.shape) <= 1:
        return frobenius, True
    if frobenius <= enough:
        return frobenius, False
    _gram(G, work.conj, H)
    schatten = math.sqrt(math.sqrt(_square_sum(H)))
    if schatten <= enough:
        return schatten, False
    if H.shape[0] >= _WIDE and best < 0.0:
        return math.sqrt(max(0.0, _rayleigh(H, x))), True
    if H.shape[0] >= _WIDE and best > 0.0:
        estimate = _rayleigh(H, x)
        estimate += min(_MARGIN * estimate, _SHARE * (best * best - estimate))
        if estimate < (_FAIR * best) ** 2 and _is_positive_definite(H, estimate):
            return math.sqrt(estimate), False
    return math.sqrt(max(0.0, np.linalg.eigvalsh(H)[-1])), True


@compiled
def sample(point: Point, system: System, work: Work, best: float) -> Sample:
    """Sample at a point; a gain well below `best` is only bounded."""
    phase, slope, total = _respond(point, system, work.W_re, work.W_im)
    _transfer(system, work)
    gain, exact = _largest_singular_value(work, best)
    p, m = system.D.shape
    relative = 8.0 if p == 1 and m == 1 else 8.0 * (p + m) + p * m
    error = ((4.0 * system.poles.shape[0] + 40.0) * total + 4.0 * system.scale) * UNIT
    return Sample(phase, slope, gain if exact else -1.0, gain * (1.0 + relative * UNIT) + error)
