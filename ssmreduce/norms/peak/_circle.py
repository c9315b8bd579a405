"""Points of the unit circle in double-double, (re, im, re_low, im_low): distances of 1e-30 are resolved."""

import math

import numpy as np

from ..._support.compiled import compiled
from ..._support.exact import cdd_mul, conjugate, dd_add, dd_div, dd_mul, two_product, two_sum
from ._types import System

Point = tuple[float, float, float, float]


@compiled
def _project(re: float, im: float, re_low: float, im_low: float) -> Point:
    """Move a point that lies within 1e-15 of the circle onto it, along its radius."""
    a, a_error = two_product(re, re)
    b, b_error = two_product(im, im)
    s, s_error = two_sum(a, b)
    excess = ((1.0 - s) - s_error) - a_error - b_error - 2.0 * (re * re_low + im * im_low)
    re, re_low = two_sum(re, re_low + 0.5 * excess * re)
    im, im_low = two_sum(im, im_low + 0.5 * excess * im)
    return re, im, re_low, im_low


@compiled
def direction(value: complex) -> Point:
    """Direction value / abs(value)."""
    scale = 1.0 / abs(value)
    re, re_low = two_product(value.real, scale)
    im, im_low = two_product(value.imag, scale)
    return _project(re, im, re_low, im_low)


@compiled
def turn(point: Point, angle: float) -> Point:
    """The point turned by an angle (rad), which is kept to its own relative precision however small it is."""
    re, im, re_low, im_low = point
    half = math.sin(0.5 * angle)
    cosine, sine = -2.0 * half * half, math.sin(angle)
    re, e = two_sum(re, re * cosine - im * sine)
    re_low += e
    im, e = two_sum(im, im * cosine + point[0] * sine)
    im_low += e
    return _project(re, im, re_low, im_low)


@compiled
def angle_between(a: Point, b: Point) -> float:
    """Angle (rad, >= 0) from a to b."""
    re = (b[0] - a[0]) + (b[2] - a[2])
    im = (b[1] - a[1]) + (b[3] - a[3])
    chord = math.hypot(re, im)
    if chord > 1.5:  # where the arc sine is ill-conditioned
        return abs(math.atan2(a[0] * b[1] - a[1] * b[0], a[0] * b[0] + a[1] * b[1]))
    return 2.0 * math.asin(0.5 * chord)


@compiled
def _dot(row: np.ndarray, vector: np.ndarray) -> tuple:
    """Sum of row * vector (complex) in double-double."""
    re: tuple[float, float] = (0.0, 0.0)
    im: tuple[float, float] = (0.0, 0.0)
    for j in range(row.shape[0]):
        a, b = row[j], vector[j]
        re = dd_add(re, two_product(a.real, b.real))
        re = dd_add(re, two_product(-a.imag, b.imag))
        im = dd_add(im, two_product(a.real, b.imag))
        im = dd_add(im, two_product(a.imag, b.real))
    return re, im


@compiled
def _real_dot(row: np.ndarray, vector: np.ndarray) -> tuple:
    """Sum of row * vector (real, complex) in double-double."""
    re: tuple[float, float] = (0.0, 0.0)
    im: tuple[float, float] = (0.0, 0.0)
    for j in range(row.shape[0]):
        re = dd_add(re, two_product(row[j], vector[j].real))
        im = dd_add(im, two_product(row[j], vector[j].imag))
    return re, im


@compiled
def _pole_term(point: Point, pole: complex, residue: tuple) -> tuple:
    """Partial fraction residue / (z - pole) in double-double."""
    x = dd_add((point[0], point[2]), (-pole.real, 0.0))
    y = dd_add((point[1], point[3]), (-pole.imag, 0.0))
    square = dd_add(dd_mul(x, x), dd_mul(y, y))
    re, im = cdd_mul(residue, (x, (-y[0], -y[1])))
    return dd_div(re, square), dd_div(im, square)


@compiled
def state_terms(point: Point, pole: complex, b: np.ndarray, c: np.ndarray, left: tuple, right: tuple) -> tuple:
    """Terms of a state and of its conjugate, u^* c b v / (z - pole), in double-double.

    `left` is u and its conjugate, `right` v and its conjugate. As plain Python the poles may be an array, and b and c
    matrices whose columns are the states.
    """
    own = cdd_mul(_dot(c, left[1]), _dot(b, right[0]))
    other = conjugate(cdd_mul(_dot(c, left[0]), _dot(b, right[1])))  # u^* conj(c) is the conjugate of u^T c
    return _pole_term(point, pole, own), _pole_term(point, pole.conjugate(), other)


@compiled
def _state_sum(point: Point, poles: np.ndarray, B: np.ndarray, C: np.ndarray, left: tuple, right: tuple) -> tuple:
    """Sum of the terms of all states."""
    re, im = (0.0, 0.0), (0.0, 0.0)
    for i in range(poles.shape[0]):
        for term in state_terms(point, poles[i], B[i], C[i], left, right):
            re, im = dd_add(re, term[0]), dd_add(im, term[1])
    return re, im


@compiled
def _feedthrough(D: np.ndarray, left: np.ndarray, v: np.ndarray) -> tuple:
    """Product left D v, with D real, in double-double."""
    re, im = (0.0, 0.0), (0.0, 0.0)
    for i in range(D.shape[0]):
        term = cdd_mul(((left[i].real, 0.0), (left[i].imag, 0.0)), _real_dot(D[i], v))
        re, im = dd_add(re, term[0]), dd_add(im, term[1])
    return re, im


@compiled
def _conjugated(vector: np.ndarray) -> np.ndarray:
    copy = np.empty(vector.shape[0], np.complex128)
    for i in range(vector.shape[0]):
        copy[i] = vector[i].conjugate()
    return copy


@compiled
def _length(vector: np.ndarray) -> float:
    total = 0.0
    for i in range(vector.shape[0]):
        total += vector[i].real ** 2 + vector[i].imag ** 2
    return math.sqrt(total)


@compiled
def proven_gain(point: Point, system: System, u: np.ndarray, v: np.ndarray) -> float:
    """Lower bound abs(u^* G(z) v) / (norm(u) norm(v)) of the largest singular value, in double-double, rounded down."""
    poles, B, C, C_reverse, D = system.poles, system.B, system.C, system.C_reverse, system.D
    left, right = (u, _conjugated(u)), (v, _conjugated(v))
    z = (point[0], point[2]), (point[1], point[3])
    re, im = cdd_mul(_state_sum(point, poles, B, C, left, right), z)
    if C_reverse.shape[0] > 0:
        # on the circle the reverse half is the conjugate of a causal one: u^* conj(X) v = conj(u^T X conj(v))
        other = _state_sum(point, poles, B, C_reverse, (left[1], left[0]), (right[1], right[0]))
        term = conjugate(cdd_mul(other, z))
        re, im = dd_add(re, term[0]), dd_add(im, term[1])
    term = _feedthrough(D, left[1], v)
    re, im = dd_add(re, term[0]), dd_add(im, term[1])
    return math.hypot(re[0], im[0]) / (_length(u) * _length(v)) * (1.0 - 2.0**-52 * (2.0 + u.shape[0] + v.shape[0]))
