"""Norms of whole systems and of single states."""

import numpy as np

from .._support.arrays import Array, is_traced, namespace, one_minus_abs, one_minus_abs2
from ..errors import NonFiniteError
from ..systems import DiagonalSSM, StateSpace
from ..systems._guards import require_stable
from ..systems._systems import require_diagonal
from ._cancellation import (
    MOST,
    balanced_states,
    binary_exponent,
    largest_part,
    power_of_two,
    squared_terms,
    twofold_energy,
)
from ._dense import dense_h2_norm
from ._gramians import cauchy_factor, one_minus_products


def squared_norms(ssm: DiagonalSSM) -> tuple[Array, Array, Array]:
    """Squared Euclidean norms of each state's row of B and columns of C and C_reverse (0 where there is none)."""
    require_diagonal(ssm)
    xp = namespace(ssm.Lambda)

    def squared(matrix: Array, axis: int) -> Array:
        return xp.sum(xp.real(matrix) ** 2 + xp.imag(matrix) ** 2, axis=axis)

    c = squared(ssm.C, -2)
    reverse = xp.zeros_like(c) if ssm.C_reverse is None else squared(ssm.C_reverse, -2)
    return squared(ssm.B, -1), c, reverse


def _norm(matrix: Array, axis: int) -> Array:
    """Euclidean norms along an axis, of numbers whose squares may leave the range of double precision."""
    xp = namespace(matrix)
    scale = power_of_two(xp, binary_exponent(xp, largest_part(xp, matrix, axis)))
    scaled = matrix / xp.expand_dims(scale, axis=axis)
    return scale * xp.sqrt(xp.sum(xp.real(scaled) ** 2 + xp.imag(scaled) ** 2, axis=axis))


def _inf_where_unstable(value: Array, gap: Array, moving: Array) -> Array:
    """Inf for states on or outside the unit circle, except those that no input or no output touches."""
    xp = namespace(value)
    return xp.where((gap <= 0) & moving, xp.full_like(value, float("inf")), value)


def modal_hinf_norms(ssm: DiagonalSSM) -> Array:
    r"""H-infinity norm of each stored state's own subsystem.

    State :math:`i` alone contributes :math:`c_i (1 - \lambda_i z^{-1})^{-1} b_i`, whose peak gain is
    :math:`\|c_i\|_2 \|b_i\|_2 / (1 - |\lambda_i|)`, reached at :math:`\omega = \arg \lambda_i` [1]_.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed.

    Returns
    -------
    array, shape (..., n), float64
        ``inf`` for states with ``|lambda| >= 1`` (0 if such a state has no input or no output).

    Notes
    -----
    This is the norm of one complex state, not of the real system of its conjugate pair, and carries no factor
    :math:`\kappa`. For a bidirectional system it is :math:`(\|c_i\| + \|c^r_i\|) \|b_i\| / (1 - |\lambda_i|)`, the
    triangle bound on the state's peak gain over both halves (they peak at :math:`\pm\arg\lambda_i`); it is invariant
    under a change of the state's scale. Costs O(n (m + p)).

    References
    ----------
    .. [1] Gwak et al., "Layer-Adaptive State Pruning for Deep State Space Models", NeurIPS 2024, arXiv:2411.02824.

    Examples
    --------
    >>> modal_hinf_norms(DiagonalSSM(Lambda=[0.5], B=[[2.0]], C=[[3.0]], D=[[0.0]]))
    array([12.])
    """
    require_diagonal(ssm)
    xp = namespace(ssm.Lambda)
    c = _norm(ssm.C, -2)
    gain = _norm(ssm.B, -1) * (c if ssm.C_reverse is None else c + _norm(ssm.C_reverse, -2))
    gap = one_minus_abs(ssm.Lambda)
    return _inf_where_unstable(gain / xp.where(gap > 0, gap, xp.ones_like(gap)), gap, gain > 0)


def modal_h2_norms(ssm: DiagonalSSM) -> Array:
    r"""H2 norm of each stored state's own subsystem: the root of its impulse-response energy.

    .. math::

        \|G_i\|_2^2 = \sum_{k \ge 0} \|c_i \lambda_i^k b_i\|^2 = \frac{\|c_i\|^2 \|b_i\|^2}{1 - |\lambda_i|^2}

    (AIRE-Prune [1]_). For a bidirectional system the energy of both halves, which overlap at lag 0,
    :math:`[(\|c_i\|^2 + \|c^r_i\|^2) / (1 - |\lambda_i|^2) + 2\,\mathrm{Re}\langle c_i, c^r_i\rangle] \|b_i\|^2`.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed.

    Returns
    -------
    array, shape (..., n), float64
        ``inf`` for states with ``|lambda| >= 1`` (0 if such a state has no input or no output).

    References
    ----------
    .. [1] Padhy et al., "AIRE-Prune: Asymptotic Impulse-Response Energy for State Pruning in State Space Models",
       ICLR 2026, arXiv:2602.00534.

    Examples
    --------
    >>> modal_h2_norms(DiagonalSSM(Lambda=[0.6], B=[[2.0]], C=[[2.0]], D=[[0.0]]))
    array([5.])
    """
    require_diagonal(ssm)
    xp = namespace(ssm.Lambda)
    gap = one_minus_abs2(ssm.Lambda)
    safe = xp.sqrt(xp.where(gap > 0, gap, xp.ones_like(gap)))
    b, c = _norm(ssm.B, -1), _norm(ssm.C, -2)
    if ssm.C_reverse is None:
        return _inf_where_unstable(b * c / safe, gap, b * c > 0)
    both = _norm(xp.concat([ssm.C, ssm.C_reverse], axis=-2), -2)
    size = xp.where(both > 0, both, xp.ones_like(both))
    halves = [C / size[..., None, :] for C in (ssm.C, ssm.C_reverse)]
    overlap = 2.0 * xp.sum(xp.real(xp.conj(halves[0]) * halves[1]), axis=-2)
    energy = xp.where(both > 0, 1.0 / safe**2 + overlap, xp.zeros_like(both))
    energy = xp.where(energy > 0, energy, xp.zeros_like(energy))  # rounding, where both halves cancel
    return _inf_where_unstable(b * size * xp.sqrt(energy), gap, b * both > 0)


def h2_norm(ssm: DiagonalSSM | StateSpace) -> Array:
    r"""H2 norm: the root of the energy of the impulse response, summed over all inputs and outputs.

    .. math::

        \|G\|_2^2 = \|h_0\|_F^2 + \sum_{k \ge 1} \|\kappa\,\mathrm{Re}(C \Lambda^k B)\|_F^2
        \; (+ \text{the same with } C_r)

    in closed form from the entries :math:`(C^* C)_{ij} (B B^*)_{ji} \lambda_j \bar\lambda_i / (1 - \lambda_j
    \bar\lambda_i)` and their conjugate-pair partners.

    Parameters
    ----------
    ssm : DiagonalSSM or StateSpace
        Batch axes allowed.

    Returns
    -------
    array, shape (...), float64
        A scalar for a single system.

    Raises
    ------
    UnstableSystemError
        Poles on or outside the unit circle; the message names the states.
    NonFiniteError
        A norm beyond the range of double precision (NumPy arrays).

    Notes
    -----
    The terms are compared with their sum. Where more than three digits of it cancel (nearly equal poles with large
    residues of opposite sign), it comes from a Cauchy factor of the Gramian instead, in which half as many digits
    cancel, and for NumPy arrays where these are more than three as well, from one in twice the working precision:
    the relative error of the result stays below about 1e-12. JAX transformations, in which nothing can be
    compared, have the closed form alone. See the theory page on Gramians, section "Where states cancel".

    Examples
    --------
    >>> float(h2_norm(DiagonalSSM(Lambda=[0.6], B=[[1.0]], C=[[1.0]], D=[[0.0]])))
    1.25
    """
    if isinstance(ssm, StateSpace):
        return dense_h2_norm(ssm)
    require_stable(ssm, "the H2 norm")
    halves = [ssm.C] if ssm.C_reverse is None else [ssm.C, ssm.C_reverse]
    B, halves, scale = balanced_states(ssm.B, halves, ssm.D)
    with np.errstate(over="ignore", invalid="ignore"):
        D = ssm.D / scale[..., None, None] / scale[..., None, None]
        norm = _scaled_h2_norm(ssm, B, halves, D) * scale * scale
    if isinstance(norm, np.ndarray | np.generic) and not np.isfinite(norm).all():
        raise NonFiniteError("the H2 norm is beyond the range of double precision; scale B, C or D down")
    return norm


def _scaled_h2_norm(ssm: DiagonalSSM, B: Array, halves: list[Array], D: Array) -> Array:
    """H2 norm with the poles of `ssm`, in the way that the cancellation of its terms calls for."""
    xp = namespace(B)
    lag0 = xp.sum((ssm.kappa * xp.real(sum(xp.matmul(C, B) for C in halves)) + D) ** 2, axis=(-2, -1))
    energy = lag0 + sum(_tail_energy(ssm.Lambda, B, C, ssm.kappa) for C in halves)
    if not is_traced(energy):
        terms = squared_terms(ssm.Lambda, B, halves, D, ssm.kappa)
        if bool(xp.any(terms > (MOST + 8.0 * ssm.order) * energy)):
            energy = lag0 + sum(_factored_tail_energy(ssm.Lambda, B, C, ssm.kappa) for C in halves)
            if isinstance(B, np.ndarray):
                energy = _recomputed(ssm, B, halves, D, energy, np.asarray(terms > MOST**2 * energy))
    return xp.sqrt(xp.where(energy < 0, xp.zeros_like(energy), energy))  # rounding, where states cancel


def _recomputed(
    ssm: DiagonalSSM, B: np.ndarray, halves: list[np.ndarray], D: np.ndarray, energy: np.ndarray, which: np.ndarray
) -> np.ndarray:
    """Energies of a batch, those of the systems named by `which` from factors in twice the working precision."""
    energy = np.array(energy)
    for at in zip(*np.nonzero(which), strict=True) if ssm.batch else ((),) * bool(which):
        energy[at] = twofold_energy(ssm.Lambda[at], B[at], [C[at] for C in halves], D[at], ssm.kappa)
    return energy[()]


def _tail_energy(Lambda: Array, B: Array, C: Array, kappa: float) -> Array:
    """Sum over k >= 1 of the squared Frobenius norm of kappa Re(C Lambda^k B)."""
    xp = namespace(C)

    def energy(other_Lambda: Array, other_B: Array, other_C: Array) -> Array:
        weights = xp.matmul(B, xp.conj(xp.matrix_transpose(other_B)))
        weights = weights * xp.matmul(xp.matrix_transpose(C), xp.conj(other_C))
        products = Lambda[..., :, None] * xp.conj(other_Lambda)[..., None, :]
        terms = weights * products / one_minus_products(Lambda, other_Lambda)
        return xp.sum(xp.real(terms), axis=(-2, -1))

    total = energy(Lambda, B, C) + energy(xp.conj(Lambda), xp.conj(B), xp.conj(C))
    return kappa**2 / 2.0 * total


def _factored_tail_energy(Lambda: Array, B: Array, C: Array, kappa: float) -> Array:
    """The same from a Cauchy factor: as many digits are lost as cancel in it, half as many as in the closed form."""
    xp = namespace(C)
    poles = xp.concat([Lambda, xp.conj(Lambda)], axis=-1)
    factor = cauchy_factor(poles, xp.concat([B, xp.conj(B)], axis=-2))
    tail = xp.matmul(xp.concat([C, xp.conj(C)], axis=-1) * poles[..., None, :], factor)
    return kappa**2 / 4.0 * xp.sum(xp.real(tail) ** 2 + xp.imag(tail) ** 2, axis=(-2, -1))
