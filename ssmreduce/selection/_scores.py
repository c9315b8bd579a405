"""Criteria, which value the states of one system, and allocations, which make values comparable across layers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from .._support.arguments import random_numbers, whole_number
from .._support.arrays import Array, namespace, one_minus_abs, one_minus_abs2, to_numpy
from .._support.frozen import LayerMapping
from ..errors import ArrayKindError, NonFiniteError, OptionError, SelectionError, ShapeError, UnknownNameError
from ..models import SSMModel
from ..norms import modal_h2_norms, modal_hinf_norms, pair_hinf_norms
from ..norms._norms import squared_norms
from ..systems import DiagonalSSM

Criterion = Callable[[DiagonalSSM], Array]
"""A function from a system to one value a state, shape (..., n): the larger, the more it matters."""


def hinf(ssm: DiagonalSSM) -> Array:
    r"""Squared H-infinity norm of each state's subsystem, :math:`\|c_i\|^2 \|b_i\|^2 / (1 - |\lambda_i|)^2`.

    The criterion of LAST (Gwak et al., NeurIPS 2024); see `modal_hinf_norms`, also for bidirectional systems.

    Parameters
    ----------
    ssm : DiagonalSSM

    Returns
    -------
    array, shape (..., n), float64
        ``inf`` for states on or outside the unit circle.

    Examples
    --------
    >>> hinf(DiagonalSSM([0.5], [[2.0]], [[3.0]], [[0.0]]))
    array([144.])
    """
    return modal_hinf_norms(ssm) ** 2


def pair_hinf(ssm: DiagonalSSM) -> Array:
    r"""Squared H-infinity norm of each state as a real system, its conjugate and :math:`\kappa` included.

    What dropping the state alone costs in the worst case; `hinf` measures the complex state, as LAST does. They differ
    where poles are near the real axis; see `pair_hinf_norms`, also for bidirectional systems.

    Parameters
    ----------
    ssm : DiagonalSSM

    Returns
    -------
    array, shape (..., n), float64
        ``inf`` for states on or outside the unit circle.

    Examples
    --------
    >>> pair_hinf(DiagonalSSM([0.5], [[2.0]], [[3.0]], [[0.0]])).round(12)
    array([144.])
    """
    return pair_hinf_norms(ssm) ** 2


def h2(ssm: DiagonalSSM) -> Array:
    r"""Impulse-response energy of each state's subsystem, :math:`\|c_i\|^2 \|b_i\|^2 / (1 - |\lambda_i|^2)`.

    The criterion of AIRE-Prune (Padhy et al., ICLR 2026); see `modal_h2_norms`, also for bidirectional systems.

    Parameters
    ----------
    ssm : DiagonalSSM

    Returns
    -------
    array, shape (..., n), float64
        ``inf`` for states on or outside the unit circle.

    Examples
    --------
    >>> h2(DiagonalSSM([0.6], [[2.0]], [[2.0]], [[0.0]]))
    array([25.])
    """
    return modal_h2_norms(ssm) ** 2


def magnitude(ssm: DiagonalSSM) -> Array:
    r"""Squared magnitude of each state's parameters, :math:`|\lambda_i|^2 \|b_i\|^2 \|c_i\|^2`.

    The product does not depend on the scale of the state; unlike the norms it does not see the resonance. For a
    bidirectional system :math:`\|c_i\|` becomes :math:`\|c_i\| + \|c^r_i\|`.

    Parameters
    ----------
    ssm : DiagonalSSM

    Returns
    -------
    array, shape (..., n), float64

    Examples
    --------
    >>> magnitude(DiagonalSSM([0.5], [[2.0]], [[3.0]], [[0.0]]))
    array([9.])
    """
    b, c, reverse = squared_norms(ssm)
    xp = namespace(ssm.Lambda)
    return xp.abs(ssm.Lambda) ** 2 * b * (xp.sqrt(c) + xp.sqrt(reverse)) ** 2


def _reference_outputs(ssm: DiagonalSSM) -> Array:
    """How the released code weighs C: for bidirectional layers ``(|C1| + |C2|) / 2**2``, which divides by 4."""
    xp = namespace(ssm.Lambda)
    _, c, reverse = squared_norms(ssm)
    return c if ssm.C_reverse is None else (xp.sqrt(c) + xp.sqrt(reverse)) / 4.0


def hinf_reference(ssm: DiagonalSSM) -> Array:
    r"""The H-infinity score of the released code of LAST, to the letter.

    :math:`\|c_i\|^2 \|b_i\|^2 / ((1 - |\lambda_i|)^2 + 10^{-8})`, and for bidirectional layers, through an operator
    precedence, :math:`\tfrac14 (\|c_i\| + \|c^r_i\|) \|b_i\|^2 / (\cdot)`: neither squared nor independent of the
    state's scale. Finite for unstable states.

    Parameters
    ----------
    ssm : DiagonalSSM

    Returns
    -------
    array, shape (..., n), float64

    Examples
    --------
    >>> hinf_reference(DiagonalSSM([0.5], [[2.0]], [[3.0]], [[0.0]])).round(3)
    array([144.])
    """
    b, _, _ = squared_norms(ssm)
    return _reference_outputs(ssm) * b / (one_minus_abs(ssm.Lambda) ** 2 + 1e-8)


def h2_reference(ssm: DiagonalSSM) -> Array:
    r"""The energy score of the released code of AIRE-Prune, to the letter.

    :math:`\|c_i\|^2 \|b_i\|^2 / (1 - |\lambda_i|^2 + 10^{-8})`, with the same slip for bidirectional layers as
    `hinf_reference`. Negative for unstable states.

    Parameters
    ----------
    ssm : DiagonalSSM

    Returns
    -------
    array, shape (..., n), float64

    Examples
    --------
    >>> h2_reference(DiagonalSSM([0.6], [[2.0]], [[2.0]], [[0.0]])).round(3)
    array([25.])
    """
    b, _, _ = squared_norms(ssm)
    return _reference_outputs(ssm) * b / (one_minus_abs2(ssm.Lambda) + 1e-8)


def finite_horizon_h2(horizon: int) -> Criterion:
    r"""Criterion: energy of each state's impulse response over its first samples.

    .. math:: \sum_{k=0}^{L-1} \|c_i \lambda_i^k b_i\|^2
        = \|c_i\|^2 \|b_i\|^2\, \frac{1 - |\lambda_i|^{2L}}{1 - |\lambda_i|^2}

    Finite for every pole, also on the unit circle (:math:`L \|c_i\|^2 \|b_i\|^2`; undamped LinOSS) and outside it,
    where `h2` and `hinf` are infinite. For a bidirectional system the energies of both halves are added.

    Parameters
    ----------
    horizon : int
        L, the number of samples: the length of the sequences that the model is used with.

    Returns
    -------
    callable
        Takes a `DiagonalSSM` and returns an array, shape (..., n), float64, as `score` needs it.

    Raises
    ------
    SelectionError
        A horizon that is not a positive whole number.

    Examples
    --------
    >>> finite_horizon_h2(10)(DiagonalSSM([1.0, 0.0], [[1.0], [1.0]], [[1.0, 1.0]], [[0.0]]))
    array([10.,  1.])
    """
    length = whole_number(horizon, "horizon")
    if length < 1:
        raise SelectionError(f"horizon must be a positive number of samples, got {horizon!r}")

    def criterion(ssm: DiagonalSSM) -> Array:
        b, c, reverse = squared_norms(ssm)
        xp = namespace(ssm.Lambda)
        gap = one_minus_abs2(ssm.Lambda)
        circle = xp.abs(gap) * length < 1e-12
        safe = xp.where(circle | (gap >= 1), xp.ones_like(gap) / 2, gap)
        exponent = xp.minimum(length * xp.log1p(-safe), xp.full_like(gap, 700.0))  # no overflow
        samples = -xp.expm1(exponent) / safe
        samples = xp.where(gap >= 1, xp.ones_like(gap), xp.where(circle, xp.full_like(gap, length), samples))
        return b * (c + reverse) * samples

    criterion.__name__ = f"finite_horizon_h2({length})"
    return criterion


CRITERIA: dict[str, Criterion] = {
    "hinf": hinf,
    "pair_hinf": pair_hinf,
    "h2": h2,
    "magnitude": magnitude,
    "hinf_reference": hinf_reference,
    "h2_reference": h2_reference,
}
"""Criteria by name; ``"random"`` is drawn by `score` from its seed."""

ALLOCATIONS = ("uniform", "global", "layer_adaptive")

PRESETS: dict[str, tuple[str, str]] = {
    "last": ("hinf", "layer_adaptive"),
    "aire": ("h2", "layer_adaptive"),
    "lamp": ("magnitude", "layer_adaptive"),
    "uniform_hinf": ("hinf", "uniform"),
    "global_hinf": ("hinf", "global"),
    "uniform_magnitude": ("magnitude", "uniform"),
    "global_magnitude": ("magnitude", "global"),
    "random": ("random", "global"),
    "last_reference": ("hinf_reference", "layer_adaptive"),
    "aire_reference": ("h2_reference", "layer_adaptive"),
}
"""Methods of the papers by one word: (criterion, allocation)."""


@dataclass(frozen=True, eq=False)
class Scores(LayerMapping[np.ndarray]):
    """One value a state for every layer, comparable as the allocation says.

    Attributes
    ----------
    by_layer : mapping
        Layer name -> float64 array, shape (n,), or (..., n) for a batch of systems; the larger, the more it matters.
    method : str
        What made the values.
    allocation : {"uniform", "global", "layer_adaptive"}
        ``uniform``: values compare inside a layer only, and `select` gives every layer the same share.
    ties : {"stable", "keep"}
        How `select` treats equal values unless it is told otherwise.
    units : mapping
        Layer name -> which states stay or go together, int64 array of the shape of the values (see
        `SSMModel.units`); layers that are not named have none.
    """

    whole = "the scores"
    by_layer: Mapping[str, np.ndarray]
    method: str
    allocation: str
    ties: str = "stable"
    units: Mapping[str, np.ndarray] = field(default_factory=dict)


def scored(model: SSMModel, method: str | Criterion, allocation: str | None, scope: str, seed: int) -> Scores:
    """Scores by a criterion: see `score`."""
    criterion, label, allocation = _resolve(method, allocation, seed)
    if scope not in ("layer", "system"):
        raise UnknownNameError(f"there is no scope {scope!r}; choose from layer, system")
    values = {}
    for name, ssm in model.items():
        if not model.state_index(name)[1].all():
            raise SelectionError(
                f"the systems of layer {name!r} were pruned to different orders, which leaves slots without a state; "
                "score the original model"
            )
        value = to_numpy(criterion(ssm))
        _check(value, ssm, name, label)
        value = np.array(value, dtype=np.float64)
        if allocation == "layer_adaptive":
            rows = value.reshape(1, -1) if scope == "layer" else value.reshape(-1, ssm.order)
            value = np.stack([_layer_adaptive(row) for row in rows]).reshape(value.shape)
        value.flags.writeable = False
        values[name] = value
    reference = isinstance(method, str) and method.endswith("_reference")
    return Scores(values, label, allocation, "keep" if reference else "stable", units_of(model))


def units_of(model: SSMModel) -> dict[str, np.ndarray]:
    """Layer name -> the states that stay or go together, for the layers that have such."""
    units = {name: model.units(name) for name in model}
    return {name: value for name, value in units.items() if value is not None}


def _resolve(method: str | Criterion, allocation: str | None, seed: int) -> tuple[Criterion, str, str]:
    if allocation is not None and allocation not in ALLOCATIONS:
        raise UnknownNameError(f"there is no allocation {allocation!r}; choose from {', '.join(ALLOCATIONS)}")
    if callable(method):
        return method, getattr(method, "__name__", type(method).__name__), allocation or "global"
    criterion = method
    if isinstance(method, str) and method in PRESETS:
        if allocation is not None and method != "random":
            raise OptionError(
                f"the method {method!r} brings its own allocation; for another one give its criterion "
                f"{PRESETS[method][0]!r} with allocation={allocation!r}"
            )
        criterion, preset_allocation = PRESETS[method]
        allocation = allocation or preset_allocation
    if criterion == "random":
        rng = random_numbers(seed)
        return (lambda ssm: rng.random(ssm.Lambda.shape)), method, allocation or "global"
    if not isinstance(criterion, str) or criterion not in CRITERIA:
        known = ", ".join([*PRESETS, *CRITERIA])
        raise UnknownNameError(f"there is no method {method!r}; choose from {known}, or give a function")
    return CRITERIA[criterion], method, allocation or "global"


def _check(value: np.ndarray, ssm: DiagonalSSM, name: str, label: str) -> None:
    if value.shape != tuple(ssm.Lambda.shape):
        raise ShapeError(
            f"{label} gave values of shape {value.shape} for layer {name!r}; one value a state is needed, shape "
            f"{tuple(ssm.Lambda.shape)}"
        )
    if value.dtype.kind not in "biuf":
        raise ArrayKindError(f"{label} gave values of dtype {value.dtype} for layer {name!r}; real ones are needed")
    if np.isnan(value).any():
        raise NonFiniteError(f"{label} gave NaN for layer {name!r}")


def _layer_adaptive(value: np.ndarray) -> np.ndarray:
    """Each value over the sum of those that are not smaller, among the finite ones; equal values in stable order."""
    result = value.copy()
    finite = np.flatnonzero(np.isfinite(value))
    order = finite[np.argsort(-value[finite], kind="stable")]
    total = np.cumsum(value[order])
    result[order] = np.divide(value[order], total, out=np.zeros(order.size), where=total != 0)
    return result
