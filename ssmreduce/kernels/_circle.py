"""Points of the unit circle in double-double, (re, im, re_low, im_low): distances of 1e-30 are resolved."""

import math

import numba
import numpy as np

Point = tuple[float, float, float, float]


@numba.njit(cache=True, nogil=True)
def two_sum(a: float, b: float) -> tuple[float, float]:
    """Sum a + b as the rounded sum and its exact error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@numba.njit(cache=True, nogil=True)
def two_product(a: float, b: float) -> tuple[float, float]:
    """Product a b as the rounded product and its exact error (Dekker)."""
    p = a * b
    t = 134217729.0 * a
    a_high = t - (t - a)
    a_low = a - a_high
    t = 134217729.0 * b
    b_high = t - (t - b)
    b_low = b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


@numba.njit(cache=True, nogil=True)
def _project(re: float, im: float, re_low: float, im_low: float) -> Point:
    """Move a point that lies within 1e-15 of the circle onto it, along its radius."""
    a, a_error = two_product(re, re)
    b, b_error = two_product(im, im)
    s, s_error = two_sum(a, b)
    excess = ((1.0 - s) - s_error) - a_error - b_error - 2.0 * (re * re_low + im * im_low)
    re, re_low = two_sum(re, re_low + 0.5 * excess * re)
    im, im_low = two_sum(im, im_low + 0.5 * excess * im)
    return re, im, re_low, im_low


@numba.njit(cache=True, nogil=True)
def direction(value: complex) -> Point:
    """Direction value / abs(value)."""
    scale = 1.0 / abs(value)
    re, re_low = two_product(value.real, scale)
    im, im_low = two_product(value.imag, scale)
    return _project(re, im, re_low, im_low)


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
def angle_between(a: Point, b: Point) -> float:
    """Angle (rad, >= 0) from a to b."""
    re = (b[0] - a[0]) + (b[2] - a[2])
    im = (b[1] - a[1]) + (b[3] - a[3])
    chord = math.hypot(re, im)
    if chord > 1.5:  # where the arc sine is ill-conditioned
        return abs(math.atan2(a[0] * b[1] - a[1] * b[0], a[0] * b[0] + a[1] * b[1]))
    return 2.0 * math.asin(0.5 * chord)


@numba.njit(cache=True, nogil=True)
def _dd_add(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    s, e = two_sum(a[0], b[0])
    t, f = two_sum(a[1], b[1])
    s, e = two_sum(s, e + t)
    return two_sum(s, e + f)


@numba.njit(cache=True, nogil=True)
def _dd_mul(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    p, e = two_product(a[0], b[0])
    return two_sum(p, e + (a[0] * b[1] + a[1] * b[0]))


@numba.njit(cache=True, nogil=True)
def _dd_div(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    q = a[0] / b[0]
    p, e = two_product(q, b[0])
    rest = (((a[0] - p) - e) + a[1]) - q * b[1]
    q, low = two_sum(q, rest / b[0])
    product = _dd_mul((q, low), b)
    rest = ((a[0] - product[0]) - product[1]) + a[1]
    return two_sum(q, low + rest / b[0])


@numba.njit(cache=True, nogil=True)
def _cdd_mul(a: tuple, b: tuple) -> tuple:
    re = _dd_mul(a[1], b[1])
    return (
        _dd_add(_dd_mul(a[0], b[0]), (-re[0], -re[1])),
        _dd_add(_dd_mul(a[0], b[1]), _dd_mul(a[1], b[0])),
    )


@numba.njit(cache=True, nogil=True)
def _dot(row: np.ndarray, vector: np.ndarray) -> tuple:
    """Sum of row * vector (complex) in double-double."""
    re: tuple[float, float] = (0.0, 0.0)
    im: tuple[float, float] = (0.0, 0.0)
    for j in range(row.shape[0]):
        a, b = row[j], vector[j]
        re = _dd_add(re, two_product(a.real, b.real))
        re = _dd_add(re, two_product(-a.imag, b.imag))
        im = _dd_add(im, two_product(a.real, b.imag))
        im = _dd_add(im, two_product(a.imag, b.real))
    return re, im


@numba.njit(cache=True, nogil=True)
def _real_dot(row: np.ndarray, vector: np.ndarray) -> tuple:
    """Sum of row * vector (real, complex) in double-double."""
    re: tuple[float, float] = (0.0, 0.0)
    im: tuple[float, float] = (0.0, 0.0)
    for j in range(row.shape[0]):
        re = _dd_add(re, two_product(row[j], vector[j].real))
        im = _dd_add(im, two_product(row[j], vector[j].imag))
    return re, im


@numba.njit(cache=True, nogil=True)
def _pole_term(point: Point, pole: complex, residue: tuple) -> tuple:
    """Partial fraction residue / (z - pole) in double-double."""
    x = _dd_add((point[0], point[2]), (-pole.real, 0.0))
    y = _dd_add((point[1], point[3]), (-pole.imag, 0.0))
    square = _dd_add(_dd_mul(x, x), _dd_mul(y, y))
    re, im = _cdd_mul(residue, (x, (-y[0], -y[1])))
    return _dd_div(re, square), _dd_div(im, square)


@numba.njit(cache=True, nogil=True)
def _conjugate(a: tuple) -> tuple:
    return a[0], (-a[1][0], -a[1][1])


@numba.njit(cache=True, nogil=True)
def _half(point: Point, poles: np.ndarray, B: np.ndarray, C: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple:
    """u^* [sum over stored states and their conjugates of c_i b_i z / (z - lambda_i)] v in double-double."""
    left, right = np.conj(u), np.conj(v)
    re, im = (0.0, 0.0), (0.0, 0.0)
    for i in range(poles.shape[0]):
        own = _cdd_mul(_dot(C[i], left), _dot(B[i], v))
        term = _pole_term(point, poles[i], own)
        re, im = _dd_add(re, term[0]), _dd_add(im, term[1])
        # u^* conj(c_i) is the conjugate of u^T c_i
        other = _conjugate(_cdd_mul(_dot(C[i], u), _dot(B[i], right)))
        term = _pole_term(point, np.conj(poles[i]), other)
        re, im = _dd_add(re, term[0]), _dd_add(im, term[1])
    return _cdd_mul((re, im), ((point[0], point[2]), (point[1], point[3])))


@numba.njit(cache=True, nogil=True)
def proven_gain(
    point: Point,
    poles: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    C_reverse: np.ndarray,
    D: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
) -> float:
    """Lower bound abs(u^* G(z) v) / (norm(u) norm(v)) of the largest singular value, in double-double, rounded down.

    Here C and C_reverse are transposed, (n, p), and hold the factor kappa / 2; C_reverse has no rows if causal.
    """
    re, im = _half(point, poles, B, C, u, v)
    if C_reverse.shape[0] > 0:
        # on the circle the reverse half is the conjugate of a causal one: u^* conj(X) v = conj(u^T X conj(v))
        term = _conjugate(_half(point, poles, B, C_reverse, np.conj(u), np.conj(v)))
        re, im = _dd_add(re, term[0]), _dd_add(im, term[1])
    left = np.conj(u)
    for i in range(D.shape[0]):
        factor = ((left[i].real, 0.0), (left[i].imag, 0.0))
        term = _cdd_mul(factor, _real_dot(D[i], v))
        re, im = _dd_add(re, term[0]), _dd_add(im, term[1])
    lengths = np.sqrt(np.sum(np.abs(u) ** 2)) * np.sqrt(np.sum(np.abs(v) ** 2))
    return math.hypot(re[0], im[0]) / lengths * (1.0 - 2.0**-52 * (2.0 + u.shape[0] + v.shape[0]))
