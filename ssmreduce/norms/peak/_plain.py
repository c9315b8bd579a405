"""The inner loops of the search on NumPy arrays, in place of compiled ones where there is too little to do."""

import math

import numpy as np

from ..._support.exact import cdd_mul, dd_add
from ._circle import Point, real_dot, state_terms


def respond(
    point: Point,
    poles: np.ndarray,
    gaps: np.ndarray,
    counts: np.ndarray,
    weights: np.ndarray,
    B: np.ndarray,
    W_re: np.ndarray,
    W_im: np.ndarray,
) -> tuple[float, float, float]:
    """See `_bounds._respond`; the rows of some arrays are the states and their conjugates."""
    zr, zi, er, ei = point
    n = len(poles)
    x = (zr - poles.real) + er
    y = (zi - np.stack([poles.imag, -poles.imag])) + ei
    inverse = 1.0 / (x * x + y * y)
    added = counts > np.arange(2)[:, None]
    angles = np.arctan2(y * zr - x * zi, x * zr + y * zi)[added]
    phase = float(np.sum(counts)) * math.atan2(zi, zr) + 2.0 * math.fsum(angles)
    re, im = x * inverse, -y * inverse
    turned = complex(zr, zi)
    s = (complex(0.0, 1.0) * (im[0] + im[1]) + (re[0] + re[1])) * turned
    d = (complex(0.0, 1.0) * (re[0] - re[1]) + (im[1] - im[0])) * turned
    for W, s_part, d_part in ((W_re, s.real[:, None], d.real[:, None]), (W_im, s.imag[:, None], d.imag[:, None])):
        W[:n] = s_part * B.real + d_part * B.imag
        W[n:] = d_part * B.real - s_part * B.imag
    return phase, float(np.sum((gaps * inverse)[added])), float(np.sum(weights * np.sqrt(inverse)))


def transfer(E: np.ndarray, F: np.ndarray, D: np.ndarray, work: tuple) -> None:
    """See `_bounds._transfer`."""
    W_re, W_im, G_re, G_im, G = work[:5]
    np.add(D, np.dot(E, W_re, G_re), out=G.real)
    np.dot(F, W_im, G_im)
    G.imag[...] = G_im


def square_sum(matrix: np.ndarray) -> float:
    """See `_bounds._square_sum`."""
    return float(np.vdot(matrix, matrix).real)


def conjugated(G: np.ndarray, conj: np.ndarray) -> None:
    """See `_bounds._conjugate`."""
    np.conj(G, out=conj)


def state_sum(point: Point, poles: np.ndarray, B: np.ndarray, C: np.ndarray, left: tuple, right: tuple) -> tuple:
    """See `_circle._state_sum`."""
    return _summed(state_terms(point, poles, B.T, C.T, left, right), len(poles))


def feedthrough(D: np.ndarray, left: np.ndarray, v: np.ndarray) -> tuple:
    """See `_circle._feedthrough`."""
    terms = cdd_mul(((left.real, 0.0), (left.imag, 0.0)), real_dot(D.T, v))
    return _summed((terms,), len(D))


def _summed(terms: tuple, count: int) -> tuple:
    """Sum of arrays of complex double-double numbers, one after the other as the compiled loops do it."""
    re, im = (0.0, 0.0), (0.0, 0.0)
    for i in range(count):
        for (a, a_low), (b, b_low) in terms:
            re, im = dd_add(re, (a[i], a_low[i])), dd_add(im, (b[i], b_low[i]))
    return re, im


def response_at(arrays: tuple, point: np.ndarray) -> np.ndarray:
    """Transfer matrix of the first system of a search at one point of the circle."""
    poles, gaps, counts, weights, B, E, F, D = (array[0] for array in arrays[:8])
    W_re, W_im = np.empty((2, 2 * len(poles), B.shape[1]))
    respond((point[0], point[1], point[2], point[3]), poles, gaps, counts, weights, B, W_re, W_im)
    return D + E @ W_re + 1j * (F @ W_im)
