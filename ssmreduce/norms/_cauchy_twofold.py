"""Cauchy factors, products and singular values in double-double, for sums whose terms cancel.

A number is four doubles in the last axis of an array: real part, its low part, imaginary part, its low part. In scalars
it is a pair of pairs, (re, re_low), (im, im_low).
"""

import math

import numpy as np

from .._support.compiled import compiled
from .._support.exact import cdd_mul, conjugate, dd_add, dd_div, dd_mul, two_product, two_sum

_ENOUGH = 1e-15  # cosine of the angle between two columns that counts as a right angle


@compiled
def _get(array: np.ndarray, i: int, j: int) -> tuple:
    return (array[i, j, 0], array[i, j, 1]), (array[i, j, 2], array[i, j, 3])


@compiled
def _put(array: np.ndarray, i: int, j: int, value: tuple) -> None:
    array[i, j, 0], array[i, j, 1] = value[0]
    array[i, j, 2], array[i, j, 3] = value[1]


@compiled
def _add(a: tuple, b: tuple) -> tuple:
    return dd_add(a[0], b[0]), dd_add(a[1], b[1])


@compiled
def _scaled(a: tuple, factor: tuple) -> tuple:
    """Complex number times a real one."""
    return dd_mul(a[0], factor), dd_mul(a[1], factor)


@compiled
def _square(a: tuple) -> tuple:
    """Squared modulus."""
    return dd_add(dd_mul(a[0], a[0]), dd_mul(a[1], a[1]))


@compiled
def _root(a: tuple) -> tuple:
    if a[0] <= 0.0:
        return 0.0, 0.0
    root = math.sqrt(a[0])
    square, error = two_product(root, root)
    return two_sum(root, (((a[0] - square) - error) + a[1]) / (2.0 * root))


@compiled
def _gap(z: complex) -> tuple:
    """1 - abs(z)**2 to the full precision of the format: every product and difference is exact."""
    a, a_error = two_product(z.real, z.real)
    b, b_error = two_product(z.imag, z.imag)
    s, e = two_sum(1.0, -a)
    s, f = two_sum(s, -b)
    return dd_add(dd_add((s, 0.0), two_sum(e, f)), two_sum(-a_error, -b_error))


@compiled
def _difference(a: complex, b: complex) -> tuple:
    return two_sum(a.real, -b.real), two_sum(a.imag, -b.imag)


@compiled
def _over_one_minus_product(a: complex, gap_a: tuple, b: complex, gap_b: tuple, difference: tuple) -> tuple:
    """Inverse of 1 - a conj(b), from the gaps and the difference of the two, without cancellation."""
    total = dd_add(dd_add(gap_a, gap_b), _square(difference))
    x = 0.5 * total[0], 0.5 * total[1]
    y = dd_add(dd_mul(difference[0], (b.imag, 0.0)), dd_mul(difference[1], (-b.real, 0.0)))
    square = dd_add(dd_mul(x, x), dd_mul(y, y))
    return dd_div(x, square), dd_div((-y[0], -y[1]), square)


@compiled
def _pivot(rows: np.ndarray, gaps: np.ndarray) -> int:
    best, index = 0.0, -1
    for i in range(rows.shape[0]):
        square = 0.0
        for j in range(rows.shape[1]):
            square += rows[i, j, 0] ** 2 + rows[i, j, 2] ** 2
        if square / gaps[i, 0] > best:
            best, index = square / gaps[i, 0], i
    return index


@compiled
def _inner(rows: np.ndarray, i: int, other: np.ndarray, k: int) -> tuple:
    """Sum over j of rows[i, j] conj(other[k, j])."""
    re, im = (0.0, 0.0), (0.0, 0.0)
    for j in range(rows.shape[1]):
        term = cdd_mul(_get(rows, i, j), conjugate(_get(other, k, j)))
        re, im = dd_add(re, term[0]), dd_add(im, term[1])
    return re, im


@compiled
def cauchy_factor(Lambda: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Factor L (n, rank, 4) with L L^* = P, P - Lambda P Lambda^* = rows rows^*; `rows` (n, m, 4) is overwritten.

    See `norms.cauchy_factor`. Row k is not turned into a multiple of a unit vector: with its direction v every row
    loses its part along v but for the Blaschke factor beta, b <- b + (beta - 1) (b v) v^*.
    """
    n, m = rows.shape[:2]
    gaps = np.empty((n, 2))
    for i in range(n):
        gaps[i, 0], gaps[i, 1] = _gap(Lambda[i])
    factor = np.zeros((n, n, 4))
    for r in range(n):
        k = _pivot(rows, gaps)
        if k < 0:
            return factor[:, :r].copy()
        row = rows[k : k + 1].copy()
        square = _inner(row, 0, row, 0)[0]
        gap = gaps[k, 0], gaps[k, 1]
        scale = dd_div(_root(gap), _root(square))
        for i in range(n):
            difference = _difference(Lambda[i], Lambda[k])
            inverse = _over_one_minus_product(Lambda[i], (gaps[i, 0], gaps[i, 1]), Lambda[k], gap, difference)
            along = _inner(rows, i, row, 0)
            _put(factor, i, r, _scaled(cdd_mul(along, inverse), scale))
            blaschke = cdd_mul(difference, inverse)
            if m == 1:  # no difference is taken: entries keep their relative precision
                _put(rows, i, 0, cdd_mul(_get(rows, i, 0), blaschke))
            elif i == k or (blaschke[0][0] == 0.0 and blaschke[1][0] == 0.0):
                _remove(rows, i, row, along, square, i == k)
            else:
                less = dd_add(blaschke[0], (-1.0, 0.0)), blaschke[1]
                along = cdd_mul(along, less)
                share = dd_div(along[0], square), dd_div(along[1], square)
                for j in range(m):
                    _put(rows, i, j, _add(_get(rows, i, j), cdd_mul(share, _get(row, 0, j))))
    return factor


@compiled
def _remove(rows: np.ndarray, i: int, row: np.ndarray, along: tuple, square: tuple, whole: bool) -> None:
    """Take the part along `row` out of row i, or all of it."""
    if whole:
        rows[i] = 0.0
        return
    share = dd_div((-along[0][0], -along[0][1]), square), dd_div((-along[1][0], -along[1][1]), square)
    for j in range(rows.shape[1]):
        _put(rows, i, j, _add(_get(rows, i, j), cdd_mul(share, _get(row, 0, j))))


@compiled
def adjoint_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Product left^* right (k, l, 4) of (n, k, 4) and (n, l, 4)."""
    product = np.zeros((left.shape[1], right.shape[1], 4))
    for i in range(left.shape[0]):
        for a in range(left.shape[1]):
            value = conjugate(_get(left, i, a))
            if value[0][0] != 0.0 or value[1][0] != 0.0:
                for b in range(right.shape[1]):
                    _put(product, a, b, _add(_get(product, a, b), cdd_mul(value, _get(right, i, b))))
    return product


@compiled
def advanced(Lambda: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Rows of (n, k, 4) times the poles."""
    product = np.empty_like(states)
    for i in range(states.shape[0]):
        pole = (Lambda[i].real, 0.0), (Lambda[i].imag, 0.0)
        for j in range(states.shape[1]):
            _put(product, i, j, cdd_mul(pole, _get(states, i, j)))
    return product


@compiled
def _rotate(X: np.ndarray, i: int, j: int, squares: np.ndarray) -> bool:
    """Make the rows i and j orthogonal by a rotation, whose entries need no more than double precision."""
    inner = _inner(X, j, X, i)
    re, im = inner[0][0], inner[1][0]
    size = math.hypot(re, im)
    if size <= _ENOUGH * math.sqrt(squares[i]) * math.sqrt(squares[j]) or size == 0.0:
        return False
    tau = (squares[j] - squares[i]) / (2.0 * size)
    t = 1.0 / (abs(tau) + math.hypot(1.0, tau))
    t = t if tau >= 0 else -t
    c = 1.0 / math.hypot(1.0, t)
    s = c * t
    phase = (re / size, 0.0), (-im / size, 0.0)
    squares[i], squares[j] = 0.0, 0.0
    for k in range(X.shape[1]):
        a, b = _get(X, i, k), cdd_mul(_get(X, j, k), phase)
        first = _add(_scaled(a, (c, 0.0)), _scaled(b, (-s, 0.0)))
        second = _add(_scaled(a, (s, 0.0)), _scaled(b, (c, 0.0)))
        _put(X, i, k, first)
        _put(X, j, k, second)
        squares[i] += first[0][0] ** 2 + first[1][0] ** 2
        squares[j] += second[0][0] ** 2 + second[1][0] ** 2
    return True


@compiled
def jacobi_singular_values(X: np.ndarray, sweeps: int) -> np.ndarray:
    """Singular values of X (overwritten) by one-sided Jacobi on its rows, unsorted."""
    n = X.shape[0]
    squares = np.empty(n)
    for i in range(n):
        squares[i] = np.sum(X[i, :, 0] ** 2 + X[i, :, 2] ** 2)
    for _ in range(sweeps):
        rotated = False
        for i in range(n - 1):
            for j in range(i + 1, n):
                if _rotate(X, i, j, squares):
                    rotated = True
        if not rotated:
            break
    return np.sqrt(squares)
