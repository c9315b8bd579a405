"""Compiled factors of Cauchy-like Gramians and one-sided Jacobi singular values (host arrays)."""

import numpy as np

from .._support.compiled import compiled


@compiled
def _pivot(rows: np.ndarray, gaps: np.ndarray) -> tuple[int, float]:
    """State with the largest remaining diagonal entry of the Gramian, and the norm of its row."""
    best, index, size = 0.0, 0, 0.0
    for i in range(rows.shape[0]):
        square = 0.0
        for j in range(rows.shape[1]):
            square += rows[i, j].real ** 2 + rows[i, j].imag ** 2
        if square / gaps[i] > best:
            best, index, size = square / gaps[i], i, square
    return index, np.sqrt(size)


@compiled
def _rotate(rows: np.ndarray, k: int, norm: float) -> None:
    """Householder reflection from the right that turns row k into a multiple of the first unit vector."""
    m = rows.shape[1]
    if m == 1:
        return
    h = np.conj(rows[k])
    lead = h[0] / abs(h[0]) if h[0] != 0 else 1.0 + 0.0j
    h[0] += lead * norm
    scale = 0.0
    for j in range(m):
        scale += h[j].real ** 2 + h[j].imag ** 2
    for i in range(rows.shape[0]):
        dot = 0.0j
        for j in range(m):
            dot += rows[i, j] * h[j]
        dot *= 2.0 / scale
        for j in range(m):
            rows[i, j] -= dot * np.conj(h[j])
    for j in range(1, m):
        rows[k, j] = 0.0


@compiled
def cauchy_factor(Lambda: np.ndarray, gaps: np.ndarray, rows: np.ndarray, factor: np.ndarray) -> int:
    """Fill `factor` (n, n) so that factor factor^* solves P - Lambda P Lambda^* = rows rows^*; return the rank.

    `gaps` holds 1 - abs(Lambda)**2, accurately; `rows` (n, m) is overwritten.
    """
    n = Lambda.shape[0]
    factor[:] = 0.0
    for r in range(n):
        k, norm = _pivot(rows, gaps)
        if norm == 0.0:
            return r
        _rotate(rows, k, norm)
        root = np.sqrt(gaps[k])
        pole = Lambda[k]
        for i in range(n):
            difference = Lambda[i] - pole
            real = 0.5 * (gaps[i] + gaps[k] + difference.real**2 + difference.imag**2)
            denominator = complex(real, difference.real * pole.imag - difference.imag * pole.real)
            inverse = np.conj(denominator) / (denominator.real**2 + denominator.imag**2)
            factor[i, r] = rows[i, 0] * root * inverse
            rows[i, 0] *= difference * inverse
    return n


@compiled
def cauchy_factors(Lambda: np.ndarray, gaps: np.ndarray, rows: np.ndarray, factor: np.ndarray) -> None:
    """`cauchy_factor` of each system of a batch."""
    for s in range(Lambda.shape[0]):
        cauchy_factor(Lambda[s], gaps[s], rows[s], factor[s])


@compiled
def _over_one_minus_product(value: complex, a: complex, gap_a: float, b: complex, gap_b: float) -> complex:
    """Quotient value / (1 - a conj(b)) without cancellation; the gaps are 1 - abs(a)**2 and 1 - abs(b)**2."""
    difference = a - b
    re = 0.5 * (gap_a + gap_b + difference.real**2 + difference.imag**2)
    im = difference.real * b.imag - difference.imag * b.real
    scale = 1.0 / (re * re + im * im)
    return complex((value.real * re + value.imag * im) * scale, (value.imag * re - value.real * im) * scale)


@compiled
def real_gramians(own: np.ndarray, cross: np.ndarray, left: tuple, right: tuple, gramians: np.ndarray) -> None:
    """Fill `gramians` (count, 2 n, 2 k), real coordinates, from the products of the rows of two systems.

    `own` and `cross` (count, n, k) are rows other^* and rows other^T; `left` and `right` hold the poles and
    1 - abs(poles)**2 of the two.
    """
    (poles, gaps), (other_poles, other_gaps) = left, right
    n, k = own.shape[1:]
    for s in range(own.shape[0]):
        for i in range(n):
            a, gap_a = poles[s, i], gaps[s, i]
            for j in range(k):
                b, gap_b = other_poles[s, j], other_gaps[s, j]
                x = _over_one_minus_product(own[s, i, j], a, gap_a, b, gap_b)
                y = _over_one_minus_product(cross[s, i, j], a, gap_a, b.conjugate(), gap_b)
                gramians[s, i, j] = x.real + y.real
                gramians[s, n + i, k + j] = x.real - y.real
                gramians[s, n + i, j] = x.imag + y.imag
                gramians[s, i, k + j] = y.imag - x.imag


@compiled
def real_factors(Lambda: np.ndarray, gaps: np.ndarray, rows: np.ndarray, factor: np.ndarray) -> None:
    """Fill `factor` (count, 2 n, 2 n) with a real factor of each real Gramian of one input, in real coordinates.

    A step eliminates a pole a and its conjugate. The two real columns are the state's `rows` (count, n, overwritten)
    times the orthonormal rational functions of Kautz for the pair, at the poles,

        sqrt(1 - |a|^4) (1 - b z) / d,  sqrt((1 - |a|^4) (1 - b^2)) z / d,  d = (1 - a z) (1 - conj(a) z),

    b = 2 Re(a) / (1 + |a|^2), and what is left is multiplied by (z - a) (z - conj(a)) / d.
    """
    count, n = Lambda.shape
    root2 = np.sqrt(2.0)
    for s in range(count):
        factor[s] = 0.0
        for r in range(n):
            k, best = -1, 0.0
            for i in range(n):
                size = (rows[s, i].real ** 2 + rows[s, i].imag ** 2) / gaps[s, i]
                if size > best:
                    k, best = i, size
            if k < 0:
                break
            a, gap = Lambda[s, k], gaps[s, k]
            plus = 1.0 + a.real**2 + a.imag**2
            first = np.sqrt(gap / plus)
            second = first * abs(1.0 - a) * abs(1.0 + a)
            for i in range(n):
                z = Lambda[s, i]
                one = complex(1.0, 0.0)
                e = _over_one_minus_product(one, z, gaps[s, i], a, gap)
                f = _over_one_minus_product(one, z, gaps[s, i], a.conjugate(), gap)
                both = rows[s, i] * e * f
                x = first * rows[s, i] * (f + a * (a.conjugate() - z) * e * f)
                y = second * both * z
                factor[s, i, 2 * r], factor[s, n + i, 2 * r] = root2 * x.real, root2 * x.imag
                factor[s, i, 2 * r + 1], factor[s, n + i, 2 * r + 1] = root2 * y.real, root2 * y.imag
                rows[s, i] = both * (z - a) * (z - a.conjugate())


@compiled(fastmath={"reassoc", "contract"})
def _orthogonalise(X: np.ndarray, squares: np.ndarray, i: int, j: int) -> bool:
    """Jacobi rotation of the columns (rows of X) i and j; whether one was needed."""
    inner = 0.0j
    for k in range(X.shape[1]):
        inner += np.conj(X[i, k]) * X[j, k]
    size = abs(inner)
    if size <= 1e-16 * np.sqrt(squares[i]) * np.sqrt(squares[j]) * 10.0 or size == 0.0:
        return False
    phase = np.conj(inner) / size
    tau = (squares[j] - squares[i]) / (2.0 * size)
    t = 1.0 / (abs(tau) + np.hypot(1.0, tau))
    t = t if tau >= 0 else -t
    c = 1.0 / np.hypot(1.0, t)
    s = c * t
    for k in range(X.shape[1]):
        a, b = X[i, k], X[j, k] * phase
        X[i, k] = c * a - s * b
        X[j, k] = s * a + c * b
    for row in (i, j):
        total = 0.0
        for k in range(X.shape[1]):
            total += X[row, k].real ** 2 + X[row, k].imag ** 2
        squares[row] = total
    return True


@compiled
def jacobi_singular_values(X: np.ndarray, sweeps: int) -> np.ndarray:
    """Singular values of X (overwritten) by one-sided Jacobi on its rows; accurate each if X is graded."""
    n = X.shape[0]
    scales = np.empty(n)
    squares = np.empty(n)
    for i in range(n):
        total = 0.0
        for k in range(X.shape[1]):
            total += X[i, k].real ** 2 + X[i, k].imag ** 2
        squares[i] = total
    for _ in range(sweeps):
        rotated = False
        for i in range(n - 1):
            for j in range(i + 1, n):
                if _orthogonalise(X, squares, i, j):
                    rotated = True
        if not rotated:
            break
    for i in range(n):
        scales[i] = np.sqrt(squares[i])
    return scales


@compiled
def worst_cancellation(product: np.ndarray, terms: np.ndarray) -> float:
    """Largest ratio of the terms of an entry to the pivot there, in LU factors with complete pivoting.

    `product` (n, n) is overwritten; `terms` holds the sums of the moduli of the terms of its entries.
    """
    n = product.shape[0]
    rows, columns = np.arange(n), np.arange(n)
    worst = 0.0
    for r in range(n):
        best, k, j = 0.0, r, r
        for i in range(r, n):
            for c in range(r, n):
                size = abs(product[rows[i], columns[c]])
                if size > best:
                    best, k, j = size, i, c
        rows[r], rows[k] = rows[k], rows[r]
        columns[r], columns[j] = columns[j], columns[r]
        top, left = rows[r], columns[r]
        if best == 0.0:
            return np.inf
        worst = max(worst, terms[top, left] / best)
        for i in range(r + 1, n):
            factor = product[rows[i], left] / product[top, left]
            for c in range(r + 1, n):
                product[rows[i], columns[c]] -= factor * product[top, columns[c]]
    return worst
