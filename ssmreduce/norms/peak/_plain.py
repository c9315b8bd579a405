"""The inner loops of the search on NumPy arrays, in place of compiled ones where there is too little to do."""

import math

import numpy as np

from ..._support.exact import cdd_mul, dd_add, two_product
from ._circle import Point, state_terms
from ._types import System, Work


def respond(point: Point, system: System, W_re: np.ndarray, W_im: np.ndarray) -> tuple[float, float, float]:
    """See `_sample._respond`; the rows of some arrays are the states and their conjugates."""
    poles, gaps, B = system.poles, system.gaps, system.B
    zr, zi, er, ei = point
    n = len(poles)
    x = (zr - poles.real) + er
    y = (zi - np.stack([poles.imag, -poles.imag])) + ei
    inverse = 1.0 / (x * x + y * y)
    added = system.counts > np.arange(2)[:, None]
    angles = np.arctan2(y * zr - x * zi, x * zr + y * zi)[added]
    phase = float(np.sum(system.counts)) * math.atan2(zi, zr) + 2.0 * math.fsum(angles)
    re, im = x * inverse, -y * inverse
    turned = complex(zr, zi)
    s = (complex(0.0, 1.0) * (im[0] + im[1]) + (re[0] + re[1])) * turned
    d = (complex(0.0, 1.0) * (re[0] - re[1]) + (im[1] - im[0])) * turned
    for W, s_part, d_part in ((W_re, s.real[:, None], d.real[:, None]), (W_im, s.imag[:, None], d.imag[:, None])):
        W[:n] = s_part * B.real + d_part * B.imag
        W[n:] = d_part * B.real - s_part * B.imag
    return phase, float(np.sum((gaps * inverse)[added])), float(np.sum(system.weights * np.sqrt(inverse)))


def transfer(system: System, work: Work) -> None:
    """See `_sample._transfer`."""
    work.G.real[...] = system.D + np.dot(system.E, work.W_re, work.G_re)
    work.G.imag[...] = np.dot(system.F, work.W_im, work.G_im)


def square_sum(matrix: np.ndarray) -> float:
    """See `_sample._square_sum`."""
    return float(np.vdot(matrix, matrix).real)


def conjugated(G: np.ndarray, conj: np.ndarray) -> None:
    """See `_sample._conjugate`."""
    np.conj(G, out=conj)


def state_sum(point: Point, poles: np.ndarray, B: np.ndarray, C: np.ndarray, left: tuple, right: tuple) -> tuple:
    """See `_circle._state_sum`."""
    return _sums(*state_terms(point, poles, B.T, C.T, left, right))


def feedthrough(D: np.ndarray, left: np.ndarray, v: np.ndarray) -> tuple:
    """See `_circle._feedthrough`."""
    return _sums(cdd_mul(((left.real, 0.0), (left.imag, 0.0)), real_dot(D.T, v)))


def dot(rows: np.ndarray, vector: np.ndarray) -> tuple:
    """See `_circle._dot`; each column of `rows` times the vector."""
    a, b = np.ascontiguousarray(rows), vector[:, None]
    re = two_product(a.real, b.real), two_product(-a.imag, b.imag)
    im = two_product(a.real, b.imag), two_product(a.imag, b.real)
    return _sum(*re), _sum(*im)


def real_dot(rows: np.ndarray, vector: np.ndarray) -> tuple:
    """See `_circle._real_dot`."""
    parts = two_product(np.ascontiguousarray(rows)[:, None], np.stack([vector.real, vector.imag], axis=1)[:, :, None])
    (re, im), (re_low, im_low) = _sum(parts)
    return (re, re_low), (im, im_low)


def _sums(*terms: tuple) -> tuple:
    """Sum of arrays of complex double-double numbers."""
    re, im = zip(*terms, strict=True)
    return _sum(*re), _sum(*im)


def _sum(*terms: tuple) -> tuple:
    """Sum of double-double numbers over their first axis, and of several such arrays, in pairs."""
    high, low = (np.concatenate(part) for part in zip(*terms, strict=True))
    if not len(high):
        return np.zeros(high.shape[1:]), np.zeros(high.shape[1:])
    while (half := len(high) // 2) > 0:
        odd = high[2 * half :], low[2 * half :]
        high, low = dd_add((high[:half], low[:half]), (high[half : 2 * half], low[half : 2 * half]))
        if len(odd[0]):
            high, low = np.concatenate([high, odd[0]]), np.concatenate([low, odd[1]])
    return high[0], low[0]


def response_at(system: System, point: Point) -> np.ndarray:
    """Transfer matrix at a point of the circle."""
    W_re, W_im = np.empty((2, 2 * len(system.poles), system.B.shape[1]))
    respond(point, system, W_re, W_im)
    return system.D + system.E @ W_re + 1j * (system.F @ W_im)
