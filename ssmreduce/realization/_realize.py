"""From impulse responses to diagonal systems of low order."""

from dataclasses import dataclass, replace

import numpy as np

from .._support.arguments import positive_integer, random_numbers, real_number, require_kind
from .._support.arrays import as_double
from .._support.threads import for_each_part
from ..errors import OptionError, ShapeError, UnattainableError
from ..norms import peak_gain
from ..systems import DiagonalSSM
from ..systems._diagonalise import Eigensystem
from ._bounds import fir_peak_gain, fir_peak_gain_with_shift
from ._hankel_matrix import HankelMatrix, leading_triplets
from ._residues import fitted_residues

NUMERICAL_ORDER = 1e-10  # sigma_n / sigma_1 below which singular values are left out
_ROUNDING = 1e-13  # below which they are taken for rounding: nothing was left out
_FIRST = 32  # singular values computed at first where the order is not given
_LEAST_POLE = 1e-6  # the scan form divides by the poles
_LARGEST_POLE = 1.0 - 1e-9
_ROOM = 2.0  # times the next singular value: errors above it are lowered by other residues
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class Realization:
    """Diagonal systems of a bank of impulse responses, and how far they are from it.

    The arrays have shape (H,) for kernels (H, L), and () for one kernel (p, m, L).

    Attributes
    ----------
    ssm : DiagonalSSM
        Scan form, one state a conjugate pair stored; batch (H,) or (). Systems of fewer stored states than the largest
        are filled up with silent ones.
    order : array of int64
        Real order: both poles of a pair, and once a real one.
    error, upper : array, float64
        Peak gain of the error over the L samples lies between them.
    tail : array, float64
        Upper bound of the peak gain of what the system does after the L samples, of which the kernel says nothing.
    hankel_singular_values : array, shape (..., k), float64
        Of the section of the Hankel matrix that the samples fill, largest first; NaN where not computed.
    numerical : array of bool
        The order is the numerical one: singular values between 1e-10 of the largest and rounding were left out, so that
        what generated the kernel may have a higher order.
    moved : array of int64
        Poles that came out on or beyond the unit circle, or next to zero, and were moved off it.
    """

    ssm: DiagonalSSM
    order: np.ndarray
    error: np.ndarray
    upper: np.ndarray
    tail: np.ndarray
    hankel_singular_values: np.ndarray
    numerical: np.ndarray
    moved: np.ndarray


@dataclass(frozen=True, eq=False)
class _Section:
    """Singular triplets of the section of one kernel, and the matrix one sample later between them."""

    kernel: np.ndarray
    U: np.ndarray
    values: np.ndarray
    V: np.ndarray
    shifted: np.ndarray
    rank: int


@dataclass(frozen=True, eq=False)
class _System:
    Lambda: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    error: float
    upper: float
    order: int = 0
    moved: int = 0


def realize(
    kernel: np.ndarray,
    *,
    order: int | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> Realization:
    r"""Realise impulse responses as diagonal systems of low order.

    Ho and Kalman's method in balanced coordinates [1]_, [2]_: with :math:`U \Sigma V^T` the leading singular triplets
    of the Hankel matrix of the samples 1, 2, ... and :math:`H^\uparrow` that matrix one sample later,
    :math:`A = \Sigma^{-1/2} U^T H^\uparrow V \Sigma^{-1/2}`, which is then diagonalised.

    Parameters
    ----------
    kernel : array_like, shape (H, L) or (p, m, L), float64
        H kernels of one input and one output each, or one kernel of p outputs and m inputs; at least 4 samples.
    order : int, optional
        Real order of every system, less where the numerical order is lower.
    tolerance : float, optional
        Largest peak gain of the error over the L samples, relative to the peak gain of the kernel. The order is the
        least at which the systems of this method meet it with proof. Without `order` and `tolerance`, the numerical
        order is taken, at which :math:`\sigma_n / \sigma_1` falls below 1e-10.
    seed : int, default 0
        Of the random start of the singular value decomposition.
    threads : int, optional
        Over which the kernels are shared out, by default as many as Numba uses. The result does not depend on them.

    Returns
    -------
    Realization

    Raises
    ------
    OptionError
        An order that is not a positive integer, a tolerance that is not positive, or both; `threads` that are no
        positive integer.
    ShapeError
        A kernel of another shape or of fewer than 4 samples.
    NonFiniteError
        NaN or infinite samples.
    ArrayKindError
        Complex samples, or text.
    UnattainableError
        A tolerance that the system of numerical order does not meet.

    Notes
    -----
    Sections of up to 512 rows are decomposed whole, larger ones by a randomised subspace iteration [3]_ whose products
    are fast Fourier transforms: O(L log L) for each singular value. No system of order r has an error below the next
    singular value of the section. `upper` is proven for the samples given (up to rounding in the response of the
    system); that the singular values of a large section are the largest ones holds with high probability only.

    References
    ----------
    .. [1] Ho and Kalman, "Effective construction of linear state-variable models from input/output functions",
       Regelungstechnik 14 (1966).
    .. [2] Juang and Pappa, "An eigensystem realization algorithm for modal parameter identification and model
       reduction", J. Guidance 8 (1985).
    .. [3] Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 53 (2011).

    Examples
    --------
    >>> import numpy as np
    >>> k = np.arange(64)
    >>> found = realize((0.9**k * np.cos(0.3 * k))[None])
    >>> found.order, bool(found.upper[0] < 1e-10)
    (array([2]), True)
    >>> found.ssm.Lambda.round(6).tolist() == np.round([[0.9 * np.exp(0.3j)]], 6).tolist()
    True
    """
    samples, banked = _samples(kernel)
    order, tolerance = _options(order, tolerance)
    starts = random_numbers(seed).spawn(len(samples))
    sections: dict[int, _Section] = {}
    systems: dict[int, _System] = {}

    def work(start: int, stop: int) -> None:
        for index in range(start, stop):
            section = _section(samples[index], order, tolerance, starts[index])
            systems[index] = _chosen(section, order, tolerance, index)
            nothing = section.kernel[..., :0]
            sections[index] = replace(section, kernel=nothing, U=nothing, V=nothing, shifted=nothing)

    for_each_part(work, len(samples), threads)
    each = range(len(samples))
    return _collected([sections[i] for i in each], [systems[i] for i in each], samples.shape[-1], banked)


def _samples(kernel: np.ndarray) -> tuple[np.ndarray, bool]:
    """Kernels of shape (H, p, m, L), and whether they were a bank."""
    array = as_double(kernel, complex_=False, name="kernel")
    require_kind(array, np.ndarray, "kernel", "a NumPy array is needed")
    if array.ndim not in (2, 3) or array.shape[-1] < 4 or 0 in array.shape:
        raise ShapeError(f"kernel needs shape (H, L) or (p, m, L) with L of at least 4, got {array.shape}")
    return (array[:, None, None], True) if array.ndim == 2 else (array[None], False)


def _options(order: int | None, tolerance: float | None) -> tuple[int | None, float | None]:
    if order is not None and tolerance is not None:
        raise OptionError("give order or tolerance, not both")
    if order is not None:
        order = positive_integer(order, "order")
    if tolerance is not None:
        tolerance = real_number(tolerance, "tolerance")
        if not 0.0 < tolerance < np.inf:
            raise OptionError(f"tolerance must be positive and finite, got {tolerance}")
    return order, tolerance


def _section(kernel: np.ndarray, order: int | None, tolerance: float | None, random: np.random.Generator) -> _Section:
    """The section, with as many triplets as the order, the tolerance or the numerical order need."""
    lags = kernel.shape[-1] - 2
    rows = (lags + 1) // 2
    matrix = HankelMatrix(kernel[..., 1:-1], rows, lags + 1 - rows)
    later = HankelMatrix(kernel[..., 2:], rows, lags + 1 - rows)
    count = _FIRST if order is None else order + 1
    while True:
        U, values, V = leading_triplets(matrix, count, random)
        if order is not None or values[-1] <= NUMERICAL_ORDER * values[0] or len(values) == min(matrix.shape):
            break
        count *= 2
    rank = int((values > NUMERICAL_ORDER * values[0]).sum())
    U, V = U[:, :rank], V[:, :rank]
    return _Section(kernel, U, values, V, U.T @ later.times(V), rank)


def _chosen(section: _Section, order: int | None, tolerance: float | None, index: int) -> _System:
    """The system of the order, or the first one within the tolerance."""
    if tolerance is None:
        return _system(section, section.rank if order is None else min(order, section.rank))
    limit = tolerance * fir_peak_gain(section.kernel)[0]
    first = int((section.values[: section.rank] > limit).sum())  # no system of lower order is within the limit
    best = np.inf
    for count in range(first, section.rank + 1):
        found = _system(section, count)
        if found.upper <= limit:
            return found
        best = min(best, found.upper)
    raise UnattainableError(
        f"kernel {index}: the error stays at {best:.3g}, above the tolerance of {limit:.3g}, up to the numerical "
        f"order {section.rank}; give a larger tolerance, or an order"
    )


def _system(section: _Section, order: int) -> _System:
    """System of an order: the balanced one, or one with its poles and better residues where there is room for it."""
    kernel = section.kernel
    poles, B, C, moved = _balanced(section, order)
    system = _measured(kernel, poles, B, C, kernel[..., 0] - 2.0 * (C @ B).real)
    floor = section.values[order] if order < len(section.values) else 0.0
    room = floor > _ROUNDING * section.values[0] and system.upper > _ROOM * floor
    candidates = [system]
    if poles.size and kernel.shape[:2] == (1, 1) and (moved or room):
        unit = np.ones((poles.size, 1), dtype=complex)
        fits = fitted_residues(kernel[0, 0], poles)
        candidates += [_measured(kernel, poles, unit, C[None], np.full((1, 1), D)) for C, D in fits]
    return replace(min(candidates, key=lambda candidate: candidate.upper), order=order, moved=moved)


def _balanced(section: _Section, order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Poles, B and C of the balanced realisation in scan form, one state a pair, and how many poles were moved."""
    p, m = section.kernel.shape[:2]
    root = np.sqrt(section.values[:order])
    A = section.shifted[:order, :order] / root[:, None] / root
    poles, B, C = Eigensystem.of(A).states((section.V[:m, :order] * root).T, section.U[:p, :order] * root)
    size = np.abs(poles)
    inside = np.clip(np.where(size > 1.0, 1.0 / np.maximum(size, 1.0), size), _LEAST_POLE, _LARGEST_POLE)
    moved = inside != size
    turn = np.where(size > 0.0, poles / np.where(size > 0.0, size, 1.0), 1.0)
    poles = np.where(moved, inside * turn, poles)
    return poles, B, C / poles, int(moved.sum())


def _measured(kernel: np.ndarray, poles: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray) -> _System:
    """The system with the best D and the bracket of its peak error."""
    error = kernel - _response(poles, B, C, D, kernel.shape[-1])
    shift, lower, upper = fir_peak_gain_with_shift(error)
    return _System(poles, B, C, D + shift, lower, upper)


def _response(poles: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray, length: int) -> np.ndarray:
    """Impulse response (p, m, length): powers in blocks, ``lambda^(i + j q)``."""
    residues = (C[:, None, :] * B.T[None]).reshape(len(C) * B.shape[1], len(poles))
    size = min(length, _BLOCK)
    starts = np.arange(-(-length // size)) * size
    inner = np.power.outer(poles, np.arange(size))
    outer = residues[:, None, :] * np.power.outer(poles, starts).T
    response = 2.0 * (outer.real @ inner.real - outer.imag @ inner.imag)
    response = response.reshape(len(C), B.shape[1], size * len(starts))[..., :length].copy()
    response[..., 0] += D
    return response


def _collected(sections: list[_Section], systems: list[_System], length: int, banked: bool) -> Realization:
    """One batch of all systems."""
    stored = max(1, *(len(s.Lambda) for s in systems)) if systems else 1

    def fill(array: np.ndarray, axis: int) -> np.ndarray:
        width = [(0, 0)] * array.ndim
        width[axis] = (0, stored - array.shape[axis])
        return np.pad(array, width)

    def stack(values: list) -> np.ndarray:
        return np.array(values) if banked else np.array(values)[0]

    ssm = DiagonalSSM(
        stack([fill(s.Lambda, 0) for s in systems]),
        stack([fill(s.B, 0) for s in systems]),
        stack([fill(s.C, 1) for s in systems]),
        stack([s.D for s in systems]),
        conj_sym=True,
    )
    most = max(len(s.values) for s in sections)
    values = stack([np.pad(s.values, (0, most - len(s.values)), constant_values=np.nan) for s in sections])
    cut = [y.order == s.rank and _left_out(s) for s, y in zip(sections, systems, strict=True)]
    return Realization(
        ssm,
        stack([s.order for s in systems]),
        stack([s.error for s in systems]),
        stack([s.upper for s in systems]),
        _tail(ssm, length),
        values,
        stack(cut),
        stack([s.moved for s in systems]),
    )


def _left_out(section: _Section) -> bool:
    """Whether singular values above rounding lie below those that count."""
    return section.rank < len(section.values) and bool(section.values[section.rank] > _ROUNDING * section.values[0])


def _tail(ssm: DiagonalSSM, length: int) -> np.ndarray:
    """Upper bound of the peak gain of the response from sample `length` on."""
    later = replace(ssm, B=ssm.B * ssm.Lambda[..., None] ** length, D=np.zeros_like(ssm.D))
    return np.asarray(peak_gain(later).upper)
