"""The closed-form refit of C (and D) after any selection of states."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..._support.arguments import require_kind
from ...calibration import Calibration, Moments
from ...calibration._moments import CALIBRATION_ADVICE
from ...errors import ArgumentError, SelectionError
from ...models import SSMModel
from ...models._model import MODEL_ADVICE, overwrite_states
from ...systems import DiagonalSSM
from ._outputs import RIDGE, OutputFit, check_moments, with_weights


def refit(
    reduced: SSMModel,
    calibration: Calibration,
    *,
    reference: SSMModel | None = None,
    ridge: float = RIDGE,
    feedthrough: bool = False,
    layers: Iterable[str] | None = None,
) -> SSMModel:
    r"""Fit the outputs of the states that are left to the data, in closed form.

    With the second moments :math:`S = \sum_k r_k r_k^T` of all states, :math:`T = \sum_k (y_k - D u_k) r_k^T`, and the
    states :math:`K` that are left,

    .. math:: V = T_{:K} S_{KK}^{-1} = \arg\min_V \sum_k \|y_k - D u_k - V r_{K,k}\|^2 .

    Compensates any selection (LAST, AIRE-Prune, ...), and re-realised layers (balanced truncation) where the
    calibration is of the reduced model itself, with targets.

    Parameters
    ----------
    reduced : SSMModel
        What `prune` or `reduce` returned.
    calibration : Calibration
        Of the model before pruning; or of `reduced` itself, ``calibrate(reduced, inputs, targets=model)``.
    reference : SSMModel, optional
        The model before pruning, whose outputs are reproduced unless the calibration has targets. By default it is
        read from the parameters of `reduced`, which `prune` does not change; `eliminate` and `refit` do, and then it
        must be given.
    ridge : float, default 1e-10
        Noise added to each coordinate, as a share of its state's power. What the data do not determine stays as it is
        in the reference.
    feedthrough : bool, default False
        Fit D as well; a diagonal D stays diagonal.
    layers : iterable of str, optional
        By default every layer of the calibration.

    Returns
    -------
    SSMModel

    Raises
    ------
    ArgumentError
        No model, no calibration, or text for `layers`.
    UnknownLayerError, ShapeError
        A layer without calibration, or a calibration of other systems.
    SelectionError
        A ridge below 1e-14, or a model that was fitted before, without `reference`.
    NotRepresentableError
        Outputs that the model family cannot hold.

    Notes
    -----
    O(n^3 + p (n + m)^2) a system of the calibration, and O(m^3 + m n^2) more where a full D is fitted.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.load("examples/s5_digits/model.safetensors")
    >>> u = np.random.default_rng(0).standard_normal((10, 64, 32))
    >>> pruned = sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.5))
    >>> compensated = refit(pruned, sr.calibrate(model, dict.fromkeys(model, u)))
    >>> compensated.orders == pruned.orders
    True
    """
    require_kind(reduced, SSMModel, "reduced", MODEL_ADVICE)
    require_kind(calibration, Calibration, "calibration", CALIBRATION_ADVICE)
    if reference is not None:
        require_kind(reference, SSMModel, "reference", MODEL_ADVICE)
    if isinstance(layers, str):
        raise ArgumentError(f"layers must be several names, got {layers!r}; give [{layers!r}]")
    result = reduced
    for name in calibration if layers is None else layers:
        reduced.require(name)
        ssm, keep = _fitted_system(reduced, calibration[name], reference, name)
        fit = OutputFit(ssm, calibration[name], ridge=ridge, feedthrough=feedthrough)
        result = overwrite_states(result, name, _taken(reduced[name], with_weights(ssm, *fit.solve(keep)), keep))
    return result


def _fitted_system(
    reduced: SSMModel, moments: Moments, reference: SSMModel | None, name: str
) -> tuple[DiagonalSSM, np.ndarray]:
    """The system that the moments are of, and which of its states stay, shape (s, n)."""
    ssm = reduced[name]
    own = moments.Lambda.shape[1] == ssm.order and np.array_equal(
        moments.Lambda, ssm.Lambda.reshape(moments.Lambda.shape[0], ssm.order)
    )
    if name in reduced.systems or (own and moments.cross is not None):
        check_moments(ssm, moments, name)
        return ssm, np.ones(moments.Lambda.shape, dtype=bool)
    if reference is None and name in reduced.refitted:
        raise SelectionError(
            f"the outputs of layer {name!r} were fitted before and are no longer those to be reproduced: give "
            "reference=, the model before pruning"
        )
    full = reduced.full_system(name) if reference is None else reference[name]
    check_moments(full, moments, name)
    index, valid = reduced.state_index(name)
    slots = np.arange(full.order)[None] if reference is None else reference.state_index(name)[0]
    keep = (slots[:, :, None] == np.where(valid, index, -1)[:, None, :]).any(axis=2)
    return full, keep


def _taken(ssm: DiagonalSSM, fitted: DiagonalSSM, keep: np.ndarray) -> DiagonalSSM:
    """Outputs of the fitted system for the slots of `ssm`, its kept states in increasing order."""
    slots = np.argsort(~keep, axis=1, kind="stable")[:, : ssm.order].reshape(*ssm.batch, 1, ssm.order)

    def columns(matrix: np.ndarray | None) -> np.ndarray | None:
        shape = (*ssm.batch, ssm.outputs, ssm.order)
        return None if matrix is None else np.take_along_axis(matrix, np.broadcast_to(slots, shape), axis=-1)

    C, C_reverse = columns(fitted.C), columns(fitted.C_reverse)
    assert C is not None
    return replace(ssm, C=C, C_reverse=C_reverse, D=fitted.D)
