"""Gains over finite sequences, which exist for unstable and marginal states too, and the peak-to-peak (L1) norm."""

import numbers
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._support.arrays import one_minus_abs, to_numpy
from ..errors import NonFiniteError, ShapeError, UnknownNameError
from ..responses import simulate
from ..systems import DiagonalSSM, StateSpace, from_state_space
from ..systems._guards import require_stable
from ..systems._systems import on_host, require_diagonal
from ._cancellation import balanced_states
from .peak import peak_gain

_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class GainBounds:
    """A bracket of a gain; arrays of the shape of the batch for a batch of systems.

    Attributes
    ----------
    lower : float
    upper : float
    """

    lower: Any
    upper: Any


def finite_horizon_gain(ssm: DiagonalSSM | StateSpace, horizon: int, *, rtol: float = 1e-10) -> GainBounds:
    r"""Largest gain of energy over sequences of `horizon` samples, :math:`\max_u \|y\|_2 / \|u\|_2`.

    It is the largest singular value of the block Toeplitz matrix of the first `horizon` lags, exists for any poles, and
    grows to the peak gain with the horizon where that exists.

    Parameters
    ----------
    ssm : DiagonalSSM or StateSpace
        Any poles, causal or bidirectional; no batch axes. Arrays of a device are taken to the host. A dense system is
        diagonalised first, by `from_state_space`.
    horizon : int
        Sequence length, >= 1.
    rtol : float, default 1e-10
        Relative tolerance of the Lanczos iteration for `lower`.

    Returns
    -------
    GainBounds
        `lower` is reached by an input that the iteration found, and is the gain itself once it has converged; `upper`
        is :math:`\min_\rho \max(1, \rho^{L-1}) \|G(\rho z)\|_\infty` over a few :math:`\rho \ge 1` beyond all poles,
        proven but looser.

    Raises
    ------
    ShapeError
        A batch of systems.
    UnknownNameError
        A horizon that is no whole number from 1 on.
    NotRepresentableError
        A dense system that is not diagonalisable.
    NonFiniteError
        A gain beyond the range of double precision.

    Notes
    -----
    Lanczos on :math:`T^T T`, with :math:`T` applied by `simulate` and its transpose by the transposed system run
    backwards in time: O(horizon n (m + p)) a step.

    Examples
    --------
    >>> integrator = DiagonalSSM([1.0], [[1.0]], [[1.0]], [[0.0]])
    >>> round(finite_horizon_gain(integrator, 2).lower, 9)  # the norm of [[1, 0], [1, 1]]
    1.618033989
    """
    ssm = _diagonal(ssm)
    if ssm.batch:
        raise ShapeError(f"one system is needed, not {ssm!r}; take the systems of the batch one by one")
    _check_count(horizon, "the horizon")
    ssm = on_host(ssm)
    upper = _weighted_bound(ssm, horizon)
    if not np.isfinite(upper):
        raise NonFiniteError(
            f"the bound of the gain over {horizon} samples is beyond the range of double precision; take a shorter "
            "horizon, or scale B, C and D down"
        )
    exponent = int(np.frexp(upper)[1])  # T^T T must stay within the range, too
    B, halves, scale = balanced_states(ssm.B, [C for C in (ssm.C, ssm.C_reverse) if C is not None])
    factor = float(scale) * float(np.ldexp(scale, -exponent))
    reverse = None if ssm.C_reverse is None else factor * halves[1]
    scaled = replace(ssm, B=B, C=factor * halves[0], D=np.ldexp(ssm.D, -exponent), C_reverse=reverse)
    lower = float(np.ldexp(_lanczos(scaled, horizon, rtol), exponent))
    return GainBounds(lower, max(lower, upper))


def _check_count(value: int, name: str) -> None:
    if not isinstance(value, numbers.Integral) or value < 1:
        raise UnknownNameError(f"{name} must be a whole number from 1 on, got {value!r}")


def _diagonal(ssm: DiagonalSSM | StateSpace) -> DiagonalSSM:
    if isinstance(ssm, StateSpace):
        return from_state_space(ssm)
    require_diagonal(ssm)
    return ssm


def _causal(ssm: DiagonalSSM, B: np.ndarray, C: np.ndarray, D: np.ndarray, Lambda: np.ndarray) -> DiagonalSSM:
    return DiagonalSSM(Lambda, B, C, D, conj_sym=ssm.conj_sym)


def _lanczos(ssm: DiagonalSSM, horizon: int, rtol: float) -> float:
    """Root of the largest eigenvalue of T^T T."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    m, size = ssm.inputs, horizon * ssm.inputs
    back = _causal(ssm, ssm.C.T, ssm.B.T, ssm.D.T, ssm.Lambda)
    reverse = None
    if ssm.C_reverse is not None:
        reverse = _causal(ssm, ssm.C_reverse.T, ssm.B.T, np.zeros_like(ssm.D.T), ssm.Lambda)

    def square(u: np.ndarray) -> np.ndarray:
        y = simulate(ssm, u.reshape(horizon, m))
        w = simulate(back, y[::-1])[::-1]
        return (w if reverse is None else w + simulate(reverse, y)).ravel()

    if not size or not ssm.outputs:
        return 0.0
    if size < 3:
        matrix = np.stack([square(e) for e in np.eye(size)])
        return float(np.sqrt(max(0.0, np.linalg.eigvalsh(matrix)[-1])))
    start = np.random.default_rng(0).standard_normal(size)
    if not np.any(square(start)):
        return 0.0
    operator = LinearOperator((size, size), matvec=square, dtype=np.float64)
    vector = eigsh(operator, k=1, v0=start, ncv=min(size, 40), tol=rtol, maxiter=100 * size)[1][:, 0]
    y = simulate(ssm, vector.reshape(horizon, m))
    return float(np.linalg.norm(y) / np.linalg.norm(vector))


def _weighted_bound(ssm: DiagonalSSM, horizon: int) -> float:
    """Inputs scaled by rho^-k, outputs by rho^k: the gain grows by rho^(horizon - 1) at most."""
    radius = float(np.max(np.abs(ssm.Lambda), initial=0.0))
    halves = [(ssm.C, ssm.D)] + ([] if ssm.C_reverse is None else [(ssm.C_reverse, np.zeros_like(ssm.D))])
    total = 0.0
    for C, D in halves:
        bounds = []
        for excess in (0.0, 0.25 / horizon, 1.0 / horizon, 4.0 / horizon):
            rho = max(1.0, radius) * (1.0 + excess)
            scaled = _causal(ssm, ssm.B, C, D, ssm.Lambda / rho)
            if np.all(one_minus_abs(scaled.Lambda) > 0):
                with np.errstate(over="ignore"):
                    bounds.append(np.power(rho, horizon - 1.0) * peak_gain(scaled, rtol=1e-3).upper)
        total += min(bounds, default=np.inf)
    return float(total)


def peak_to_peak_bounds(ssm: DiagonalSSM | StateSpace, *, max_lags: int = 65536, rtol: float = 1e-6) -> GainBounds:
    r"""Bracket of the peak-to-peak gain :math:`\max_u \|y\|_\infty / \|u\|_\infty`, the L1 norm of the response.

    .. math:: \|G\|_{1} = \max_i \sum_j \sum_k |h_k[i, j]|, \qquad
              \sum_{k \ge K} |h_k[i, j]| \le \kappa \sum_s |c_{is}| |b_{sj}| \frac{|\lambda_s|^K}{1 - |\lambda_s|}

    Parameters
    ----------
    ssm : DiagonalSSM or StateSpace
        Stable; causal or bidirectional. Batch axes allowed. Arrays of a device are taken to the host. A dense system is
        diagonalised first, by `from_state_space`.
    max_lags : int, default 65536
        Lags that are summed at most.
    rtol : float, default 1e-6
        ``upper / lower - 1`` to stop at.

    Returns
    -------
    GainBounds
        The sum of the lags taken, and with the bound of the rest (rounding not included). The bracket stays wide for
        states slower than `max_lags`.

    Raises
    ------
    UnstableSystemError
        Poles on or outside the unit circle.
    UnknownNameError
        A `max_lags` that is no whole number from 1 on.
    NotRepresentableError
        A dense system that is not diagonalisable.

    Notes
    -----
    O(lags n p m), host arrays. The largest output is counted in each entry by itself (no Euclidean norm over outputs).

    Examples
    --------
    >>> bounds = peak_to_peak_bounds(DiagonalSSM([-0.5], [[1.0]], [[1.0]], [[0.0]]))
    >>> round(bounds.lower, 5), round(bounds.upper, 5)
    (2.0, 2.0)
    """
    ssm = _diagonal(ssm)
    require_stable(ssm, "the peak-to-peak gain")
    _check_count(max_lags, "max_lags")
    Lambda, B, C, D = (to_numpy(a) for a in (ssm.Lambda, ssm.B, ssm.C, ssm.D))
    halves = [C] if ssm.C_reverse is None else [C, to_numpy(ssm.C_reverse)]
    total = np.abs(D + ssm.kappa * sum(np.real(half @ B) for half in halves))
    tail = np.full_like(total, np.inf)
    modulus, gap = np.abs(Lambda)[..., :, None], one_minus_abs(Lambda)[..., :, None]
    for start in range(1, max_lags + 1, _BLOCK):
        lags = np.arange(start, min(start + _BLOCK, max_lags + 1))
        rows = (Lambda[..., None, :] ** lags[:, None])[..., None] * B[..., None, :, :]
        for half in halves:
            total = total + np.sum(np.abs(ssm.kappa * np.real(half[..., None, :, :] @ rows)), axis=-3)
        rest = modulus ** (lags[-1] + 1.0) / gap * np.abs(B)
        tail = ssm.kappa * sum(np.abs(half) @ rest for half in halves)
        lower, upper = (np.max(np.sum(a, axis=-1), axis=-1, initial=0.0) for a in (total, total + tail))
        if np.all(upper <= lower * (1.0 + rtol)):
            break
    return GainBounds(lower, upper) if ssm.batch else GainBounds(float(lower), float(upper))
