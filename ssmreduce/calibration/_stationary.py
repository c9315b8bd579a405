r"""Second moments of a stationary input, without data: white noise, or any autocovariance of finite length."""

import numpy as np

from .._support.arguments import described, require_kind
from .._support.arrays import one_minus_abs2
from ..errors import ArgumentError, NonFiniteError, ShapeError, UnknownNameError, UnstableSystemError
from ..models import SSMModel
from ..models._model import MODEL_ADVICE
from ..systems import DiagonalSSM, unstable_states
from ._moments import STATIONARY, Calibration, Moments


def calibrate_stationary(model: SSMModel, autocovariance: np.ndarray | None = None) -> Calibration:
    r"""Moments a step of every layer's states and inputs under a stationary input with a given spectrum.

    With :math:`R_\tau = E[u_{k+\tau} u_k^T]` for :math:`\tau = 0 \dots T` and 0 beyond, and
    :math:`M = \sum_{\tau \ge 1} \Lambda^{\tau-1} B R_\tau^T`, the covariance of the states is, in closed form,

    .. math:: P - \Lambda P \Lambda^* = B R_0 B^* + \Lambda M B^* + (\Lambda M B^*)^* .

    For white noise :math:`M = 0` and :math:`P` is the controllability Gramian. The real moments follow from
    :math:`P = E[x x^*]` and :math:`E[x x^T]`, the same equation with :math:`\bar\lambda_j, \bar B` replaced by
    :math:`\lambda_j, B`.

    Parameters
    ----------
    model : SSMModel
        All layers stable.
    autocovariance : ndarray, shape (T + 1,), float64, optional
        :math:`R_\tau = \rho_\tau I`, the same for all inputs, which are uncorrelated; by default white noise,
        ``[1.0]``. Of a spectrum: its inverse Fourier transform. Its own spectrum,
        :math:`\rho_0 + 2 \sum_\tau \rho_\tau \cos \omega\tau`, must be nowhere negative; lags that were cut off make it
        so, and a triangular window, ``rho * (1 - np.arange(len(rho)) / len(rho))``, mends it.

    Returns
    -------
    Calibration
        With ``steps = 1``: expectations of one step.

    Raises
    ------
    UnstableSystemError
        Poles on or outside the unit circle have no stationary state; run `calibrate` on synthetic inputs of finite
        length instead.
    ArgumentError
        No model, or an autocovariance that is not made of real numbers.
    ShapeError
        More than one axis, or no value.
    NonFiniteError
        NaN or infinite values.
    UnknownNameError
        No power at lag 0, or a spectrum that is negative somewhere: no stationary input has it. The spectrum is looked
        at on 16 (T + 1) frequencies.

    Notes
    -----
    O(n^2 (m + T)) a system, for bidirectional layers O(n^2 (m + T^2)).

    Antoulas, "Approximation of Large-Scale Dynamical Systems", SIAM 2005, section 4.3; the coloured case is the
    frequency-weighted Gramian of a moving-average weight.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> small = sr.eliminate(model, calibrate_stationary(model), ratio=0.5)
    >>> sum(small.orders.values())
    128
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    rho = np.ones(1) if autocovariance is None else _checked(autocovariance)
    return Calibration({name: _layer(ssm, rho, name) for name, ssm in model.items()})


def _checked(autocovariance: np.ndarray) -> np.ndarray:
    try:
        rho = np.asarray(autocovariance)
        if rho.dtype.kind not in "fiu":
            raise TypeError
    except (TypeError, ValueError):
        raise ArgumentError(f"autocovariance needs real numbers, got {described(autocovariance)}") from None
    if rho.ndim != 1 or rho.size == 0:
        raise ShapeError(
            f"autocovariance needs shape (T + 1,), the lags 0 ... T of one input, got {rho.shape}; all inputs share it"
        )
    rho = rho.astype(np.float64)
    if not np.isfinite(rho).all():
        raise NonFiniteError("autocovariance holds NaN or infinite values")
    spectrum = 2 * np.fft.rfft(rho, 16 * rho.size).real - rho[0]
    if rho[0] <= 0 or spectrum.min() < -1e-9 * spectrum.max():
        raise UnknownNameError(
            f"no stationary input has this autocovariance: its power is {rho[0]:.3g} and its spectrum falls to "
            f"{spectrum.min():.3g}; neither may be negative, nor the power 0. Where lags were cut off, taper them: "
            "rho * (1 - np.arange(len(rho)) / len(rho))"
        )
    return rho


def _layer(ssm: DiagonalSSM, rho: np.ndarray, name: str) -> Moments:
    bad = unstable_states(ssm)
    if bad.size:
        raise UnstableSystemError(
            f"layer {name!r}: state {bad[0]} has |lambda| >= 1 and no stationary second moment; run calibrate on "
            "synthetic inputs of the training length, such as white noise"
        )
    s, n, m = ssm.systems, ssm.order, ssm.inputs
    Lambda, B = ssm.Lambda.reshape(s, n), ssm.B.reshape(s, n, m)
    halves = 2 if ssm.bidirectional else 1
    second = np.zeros((s, n, halves, 2, n, halves, 2))
    for h in range(halves):  # the reverse half has the same covariance: a stationary input has no direction
        second[:, :, h, :, :, h, :] = _real_moments(*_covariance(Lambda, B, rho))
    if halves == 2:
        between = _real_moments(*_between_halves(Lambda, B, rho))
        second[:, :, 0, :, :, 1, :] = between
        second[:, :, 1, :, :, 0, :] = between.transpose(0, 3, 4, 1, 2)
    size = 2 * halves * n
    full = np.zeros((s, size + m, size + m))
    full[:, :size, :size] = second.reshape(s, size, size)
    response = np.einsum("t,stn->sn", rho, _powers(Lambda, rho.size))[..., None] * B  # E[x u^T], the same for both
    inputs = np.repeat(np.stack([response.real, response.imag], axis=2)[:, :, None], halves, axis=2)
    full[:, :size, size:] = inputs.reshape(s, size, m)
    full[:, size:, :size] = full[:, :size, size:].transpose(0, 2, 1)
    full[:, size:, size:] = rho[0] * np.eye(m)
    return Moments(Lambda, B, full, 1, STATIONARY)


def _powers(Lambda: np.ndarray, count: int) -> np.ndarray:
    return Lambda[:, None, :] ** np.arange(count)[:, None]


def _covariance(Lambda: np.ndarray, B: np.ndarray, rho: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E[x x^*] and E[x x^T]."""
    drive = rho[0] / 2 + np.einsum("t,stn->sn", rho[1:], _powers(Lambda, rho.size)[:, 1:])
    results = []
    for other, B_other in ((Lambda.conj(), B.conj()), (Lambda, B)):
        other_drive = drive.conj() if other is not Lambda else drive
        power = B @ B_other.transpose(0, 2, 1) * (drive[:, :, None] + other_drive[:, None, :])
        denominator = 1.0 - Lambda[:, :, None] * other[:, None, :]
        if other is not Lambda:
            i = np.arange(Lambda.shape[1])
            denominator[:, i, i] = one_minus_abs2(Lambda)
        results.append(power / denominator)
    return results[0], results[1]


def _between_halves(Lambda: np.ndarray, B: np.ndarray, rho: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E[x y^*] and E[x y^T] of the causal state x and the reverse state y at the same step."""
    powers = _powers(Lambda, rho.size)
    weights = [np.zeros((len(Lambda), Lambda.shape[1], Lambda.shape[1]), dtype=complex) for _ in range(2)]
    for tau, value in enumerate(rho):
        for weight, other in zip(weights, (powers.conj(), powers), strict=True):
            weight += value * np.einsum(
                "tsi,tsj->sij", *(p[:, : tau + 1].swapaxes(0, 1) for p in (powers, other[:, tau::-1]))
            )
    return weights[0] * (B @ B.conj().transpose(0, 2, 1)), weights[1] * (B @ B.transpose(0, 2, 1))


def _real_moments(hermitian: np.ndarray, symmetric: np.ndarray) -> np.ndarray:
    """Moments of (Re x, Im x) against (Re y, Im y), shape (s, n, 2, n, 2), from E[x y^*] and E[x y^T]."""
    s, n, _ = hermitian.shape
    result = np.empty((s, n, 2, n, 2))
    result[:, :, 0, :, 0] = (hermitian + symmetric).real / 2
    result[:, :, 1, :, 1] = (hermitian - symmetric).real / 2
    result[:, :, 0, :, 1] = (symmetric - hermitian).imag / 2
    result[:, :, 1, :, 0] = (symmetric + hermitian).imag / 2
    return result
