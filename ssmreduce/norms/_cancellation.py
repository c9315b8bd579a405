"""Sums over states whose terms cancel: how much cancels, and the same sums in twice the working precision.

States that nearly cancel (nearly equal poles with large residues of opposite sign) have norms far below the terms of
their closed forms. The theory page on Gramians says what is computed when.
"""

import numpy as np

from .._support.arrays import Array, namespace, one_minus_abs2

MOST = 2.0**10  # terms over result up to which a sum in double precision is kept: 12 digits in the worst case
_SWEEPS = 60
_LARGEST = 1000  # exponent of a power of two that scales


def balanced_states(B: Array, outputs: list[Array], D: Array | None = None) -> tuple[Array, list[Array], Array]:
    r"""Inputs and outputs of each state scaled to one size, at most about 1, by powers of two, which round nothing.

    Parameters
    ----------
    B : array, shape (..., n, m), complex128
    outputs : list of array, shape (..., p, n), complex128
        That share the states.
    D : array, shape (..., p, m), float64, optional
        Which is to be divided by the square of `scale`, and then at most about 1 as well.

    Returns
    -------
    B, outputs
        Of the same kind.
    scale : array, shape (...), float64
        A power of two by whose square the products :math:`c_i b_i` became smaller.
    """
    xp = namespace(B)
    b, c = largest_part(xp, B, -1), largest_part(xp, outputs[0], -2)
    for C in outputs[1:]:
        c = xp.maximum(c, largest_part(xp, C, -2))
    moving = (b > 0) & (c > 0)
    sizes = xp.where(moving, xp.sqrt(b) * xp.sqrt(c), xp.zeros_like(b))
    if D is not None:
        sizes = xp.concat([sizes, xp.sqrt(largest_part(xp, D, -1))], axis=-1)
    size = binary_exponent(xp, xp.max(sizes, axis=-1) if sizes.shape[-1] else xp.sum(sizes, axis=-1))[..., None]
    b, c = binary_exponent(xp, b), binary_exponent(xp, c)
    shift = xp.floor(0.5 * (c - b))
    into = power_of_two(xp, xp.where(moving, shift - size, -b))
    out = power_of_two(xp, xp.where(moving, -shift - size, -c))
    return B * into[..., :, None], [C * out[..., None, :] for C in outputs], power_of_two(xp, size[..., 0])


def largest_part(xp, matrix: Array, axis: int) -> Array:
    """Largest part of an entry along an axis, which may be empty."""
    parts = xp.abs(xp.real(matrix))
    if xp.isdtype(matrix.dtype, "complex floating"):
        parts = xp.maximum(parts, xp.abs(xp.imag(matrix)))
    return xp.max(parts, axis=axis) if matrix.shape[axis] else xp.sum(parts, axis=axis)


def binary_exponent(xp, value: Array) -> Array:
    """Binary exponent, 0 for 0."""
    return xp.floor(xp.log2(xp.where(value > 0, value, xp.ones_like(value))))


def power_of_two(xp, exponent: Array) -> Array:
    exponent = xp.clip(exponent, -float(_LARGEST), float(_LARGEST))
    return xp.pow(xp.full_like(exponent, 2.0), exponent)


def closed_sizes(B: Array, C: Array, kappa: float) -> Array:
    r"""Norms :math:`\kappa \|c_i\| \|b_i\|` of the residues of each state and its conjugate, shape (..., n)."""
    xp = namespace(B)
    b = xp.sum(xp.real(B) ** 2 + xp.imag(B) ** 2, axis=-1)
    c = xp.sum(xp.real(C) ** 2 + xp.imag(C) ** 2, axis=-2)
    return kappa * xp.sqrt(b * c)


def squared_terms(Lambda: Array, B: Array, outputs: list[Array], D: Array, kappa: float) -> Array:
    r"""Squared sum of the H2 norms of all terms of a system: of each state and its conjugate alone, and of lag 0.

    The moduli of the terms of the energy in closed form, which are those of semidefinite matrices, add up to no more.

    Returns
    -------
    array, shape (...), float64
    """
    xp = namespace(Lambda)
    root = xp.abs(Lambda) / xp.sqrt(one_minus_abs2(Lambda))
    sizes = [closed_sizes(B, C, kappa) for C in outputs]
    tails = sum(xp.sum(size * root, axis=-1) ** 2 for size in sizes)
    lag0 = sum(xp.sum(size, axis=-1) for size in sizes) + xp.sqrt(xp.sum(D**2, axis=(-2, -1)))
    return xp.maximum(tails, lag0**2)


def _closed_rows(rows: np.ndarray) -> np.ndarray:
    """Rows of the states and their conjugates (n, m), as double-double (2 n, m, 4)."""
    closed = np.concatenate([rows, rows.conj()])
    twofold = np.zeros((*closed.shape, 4))
    twofold[..., 0], twofold[..., 2] = closed.real, closed.imag
    return twofold


def _rounded(twofold: np.ndarray) -> np.ndarray:
    return (twofold[..., 0] + twofold[..., 1]) + 1j * (twofold[..., 2] + twofold[..., 3])


def twofold_factor(Lambda: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`cauchy_factor` of the states of one system and their conjugates in double-double, shape (2 n, rank, 4)."""
    from . import _cauchy_twofold

    return _cauchy_twofold.cauchy_factor(np.concatenate([Lambda, Lambda.conj()]), _closed_rows(rows))


def twofold_energy(Lambda: np.ndarray, B: np.ndarray, outputs: list[np.ndarray], D: np.ndarray, kappa: float) -> float:
    """Squared H2 norm of one system with outputs that share its states, lag 0 of all added up, in double-double."""
    from . import _cauchy_twofold

    factor = _cauchy_twofold.advanced(np.concatenate([Lambda, Lambda.conj()]), twofold_factor(Lambda, B))
    energy = 0.0
    for C in outputs:
        tail = _cauchy_twofold.adjoint_product(_closed_rows(C.conj().T), factor)
        energy += 0.25 * kappa**2 * float(np.sum(tail[..., 0] ** 2 + tail[..., 2] ** 2))
    rows = _closed_rows(np.concatenate([C.conj().T for C in outputs]))
    lag0 = 0.5 * kappa * _cauchy_twofold.adjoint_product(rows, _closed_rows(np.concatenate([B] * len(outputs))))
    return energy + float(np.sum(((lag0[..., 0] + D) + lag0[..., 1]) ** 2))


def twofold_hankel_values(
    Lambda: np.ndarray, B: np.ndarray, C: np.ndarray, *, delayed: bool, relative: bool
) -> np.ndarray:
    """Hankel singular values (2 n,) of the states of one system and their conjugates, largest first.

    Factors and their product are in double-double; so are the rotations that find the values if each is to be accurate.
    `delayed`: of the lags 1, 2, ... of C, for which C times the poles would be rounded.
    """
    from . import _cauchy_twofold

    factor = twofold_factor(Lambda, B)
    if delayed:
        factor = _cauchy_twofold.advanced(np.concatenate([Lambda, Lambda.conj()]), factor)
    product = _cauchy_twofold.adjoint_product(twofold_factor(Lambda.conj(), C.conj().T), factor)
    if relative:
        columns = np.ascontiguousarray(np.swapaxes(product, 0, 1))
        found = np.sort(_cauchy_twofold.jacobi_singular_values(columns, _SWEEPS))[::-1]
    else:
        found = np.linalg.svd(_rounded(product), compute_uv=False)
    values = np.zeros(2 * Lambda.size)
    values[: found.size] = found[: values.size]
    return values
