"""Certified peak gain by phase exclusion: see the theory page "Peak gain" for the theorem and its proof."""

import math

import numpy as np

from ..._support.compiled import compiled
from ._circle import Point

_UNIT = 2.0**-53
_UNBOUNDED = 1e280  # priorities above this one stand for intervals without a bound yet
_EASY = 0.6  # a cheap upper bound of a sample is good enough below this share of the best gain
_FAIR = 0.998  # and one that a Cholesky factorisation has verified below this one
_MARGIN = 0.05  # by which a power estimate is raised before it is verified: this share of itself,
_SHARE = 0.1  # or this share of what is left to the square of the best gain
_POWER_STEPS = 10
_WIDE = 32  # order from which that is cheaper than eigenvalues


@compiled
def _add_angle(re: float, im: float, x: float, y: float, quarters: int) -> tuple[float, float, int]:
    """Multiply by x + j y (x > 0) and turn back into the right half plane, counting the quarter turns."""
    re, im = re * x - im * y, re * y + im * x
    if re < 0.0:
        if im >= 0.0:
            return im, -re, quarters + 1
        return -im, re, quarters - 1
    return re, im, quarters


@compiled
def _respond(
    point: Point,
    poles: np.ndarray,
    gaps: np.ndarray,
    counts: np.ndarray,
    weights: np.ndarray,
    B: np.ndarray,
    W_re: np.ndarray,
    W_im: np.ndarray,
) -> tuple[float, float, float]:
    """Phase and its slope, a bound on the sum of all terms; fills W (2 n, m) = z (zI - Lambda)^-1 B.

    W holds, for each state, the factors of Re c and Im c in the sum over the state and its conjugate.
    """
    zr, zi, er, ei = point
    n, m = B.shape
    re, im, quarters = 1.0, 0.0, 0
    slope, total, distinct = 0.0, 0.0, 0
    for i in range(n):
        pole = poles[i]
        x = (zr - pole.real) + er
        y = (zi - pole.imag) + ei
        y_conj = (zi + pole.imag) + ei
        inverse = 1.0 / (x * x + y * y)
        inverse_conj = 1.0 / (x * x + y_conj * y_conj)
        if counts[i] > 0:
            re, im, quarters = _add_angle(re, im, x * zr + y * zi, y * zr - x * zi, quarters)
            slope += gaps[i] * inverse
            distinct += counts[i]
        if counts[i] > 1:
            re, im, quarters = _add_angle(re, im, x * zr + y_conj * zi, y_conj * zr - x * zi, quarters)
            slope += gaps[i] * inverse_conj
        if i & 7 == 7:
            scale = 1.0 / (abs(re) + abs(im))
            re *= scale
            im *= scale
        total += weights[i] * (math.sqrt(inverse) + math.sqrt(inverse_conj))
        ar, ai = x * inverse, -y * inverse
        br, bi = x * inverse_conj, -y_conj * inverse_conj
        sr, si = ar + br, ai + bi
        dr, di = bi - ai, ar - br
        sr, si = sr * zr - si * zi, sr * zi + si * zr
        dr, di = dr * zr - di * zi, dr * zi + di * zr
        for j in range(m):
            b = B[i, j]
            W_re[i, j] = sr * b.real + dr * b.imag
            W_im[i, j] = si * b.real + di * b.imag
            W_re[n + i, j] = dr * b.real - sr * b.imag
            W_im[n + i, j] = di * b.real - si * b.imag
    phase = distinct * math.atan2(zi, zr) + 2.0 * (math.atan2(im, re) + quarters * (0.5 * math.pi))
    return phase, slope, total


@compiled
def _transfer(E: np.ndarray, F: np.ndarray, D: np.ndarray, work: tuple) -> None:
    """G = D + E Re W + j F Im W, with E the sum and F the difference of the output matrices of both halves."""
    W_re, W_im, G_re, G_im, G = work[0], work[1], work[2], work[3], work[4]
    p, m = D.shape
    if p == 1 and m == 1:
        re, im = D[0, 0], 0.0
        for i in range(E.shape[1]):
            re += E[0, i] * W_re[i, 0]
            im += F[0, i] * W_im[i, 0]
        G[0, 0] = complex(re, im)
        return
    np.dot(E, W_re, G_re)
    np.dot(F, W_im, G_im)
    for i in range(p):
        for j in range(m):
            G[i, j] = complex(D[i, j] + G_re[i, j], G_im[i, j])


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
def _largest_singular_value(G: np.ndarray, conj: np.ndarray, H: np.ndarray, x: np.ndarray, best: float) -> tuple:
    """Largest singular value, or an upper bound well below `best` (then False); overwrites the other arrays.

    With a negative `best`, wide matrices get the lower bound of a few power steps from x.
    """
    enough = _EASY * best
    frobenius = math.sqrt(_square_sum(G))
    if min(G.shape) <= 1:
        return frobenius, True
    if frobenius <= enough:
        return frobenius, False
    _gram(G, conj, H)
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
def interval_bound(a: float, b: float, width: float) -> float:
    """Largest peak that the samples a and b allow between them, `width` (rad) apart in phase.

    The peak g lies at x with g cos(x / 2) <= a and g cos((width - x) / 2) <= b.
    """
    if width >= 2.0 * math.pi:
        return _UNBOUNDED * width
    c = math.cos(0.5 * width)
    if b <= a * c or a <= b * c:
        return max(a, b)
    s = math.sin(0.25 * width)
    return math.sqrt((a - b) ** 2 + 4.0 * a * b * s * s) / math.sin(0.5 * width) * (1.0 + 16.0 * _UNIT)


@compiled
def _target(a: float, b: float, width: float, bound: float) -> float:
    """Share of the interval at which the bound would be attained."""
    if bound >= _UNBOUNDED or bound <= max(a, b):
        return 0.5
    share = 2.0 * math.acos(min(1.0, a / bound)) / width
    return min(0.9, max(0.1, share))


@compiled
def _place(share: float, angle: float, width: float, slope_a: float, slope_b: float) -> float:
    """Angle at which the phase has made `share` of its way: monotone rational interpolation (Gregory, Delbourgo)."""
    s, t = angle / width, share * (1.0 - share)
    d0, d1 = 1.0 / slope_a, 1.0 / slope_b
    return angle * (s * share * share + d0 * t) / (s + (d0 + d1 - 2.0 * s) * t)


@compiled
def _push(heap: np.ndarray, keys: np.ndarray, size: int, item: int) -> int:
    k = size
    while k > 0:
        parent = (k - 1) >> 1
        if keys[heap[parent]] >= keys[item]:
            break
        heap[k] = heap[parent]
        k = parent
    heap[k] = item
    return size + 1


@compiled
def _pop(heap: np.ndarray, keys: np.ndarray, size: int) -> int:
    """Remove the top (the caller has read it)."""
    size -= 1
    item = heap[size]
    k = 0
    while 2 * k + 1 < size:
        child = 2 * k + 1
        if child + 1 < size and keys[heap[child + 1]] > keys[heap[child]]:
            child += 1
        if keys[heap[child]] <= keys[item]:
            break
        heap[k] = heap[child]
        k = child
    heap[k] = item
    return size
