"""The closed-form refit of C (and D) after any selection of states."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..._support.arguments import require_kind
from ...calibration import Calibration, Moments
from ...calibration._moments import CALIBRATION_ADVICE
from ...errors import ArgumentError, OptionError, SelectionError
from ...models import SSMModel, replace_system
from ...models._model import MODEL_ADVICE, overwrite_states
from ...selection._outputs import RIDGE, OutputFit, check_moments, with_weights
from ...systems import DiagonalSSM
from ..methods._compensated import refitted_layer


def refit(
    reduced: SSMModel,
    *,
    calibration: Calibration | None = None,
    reference: SSMModel | None = None,
    ridge: float | None = None,
    feedthrough: bool = False,
    layers: Iterable[str] | None = None,
) -> SSMModel:
    r"""Fit the states that are left to what the original did, in closed form: on data, or in the H2 norm without.

    With a calibration only the outputs change. With the second moments :math:`S = \sum_k r_k r_k^T` of all states,
    :math:`T = \sum_k (y_k - D u_k) r_k^T`, and the states :math:`K` that are left,

    .. math:: V = T_{:K} S_{KK}^{-1} = \arg\min_V \sum_k \|y_k - D u_k - V r_{K,k}\|^2 .

    This compensates any selection (LAST, AIRE-Prune, ...), and re-realised layers (balanced truncation) where the
    calibration is of the reduced model itself, with targets.

    Without a calibration, B and C of the states that are left are fitted in turn to minimise the H2 error, as in
    `compensated_truncation`; poles stay.

    Parameters
    ----------
    reduced : SSMModel
        What `prune` or `reduce` returned.
    calibration : Calibration, optional
        Of the model before pruning; or of `reduced` itself, ``calibrate(reduced, inputs, targets=model)``. Without one
        the fit is in the H2 norm.
    reference : SSMModel, optional
        The model before pruning, whose outputs are reproduced unless the calibration has targets. By default it is
        read from the parameters of `reduced`, which `prune` does not change; `eliminate` and `refit` do, and then it
        must be given.
    ridge : float, optional
        Noise added to each coordinate, as a share of its state's power. What the data do not determine stays as it is
        in the reference. By default 1e-10; only with a calibration.
    feedthrough : bool, default False
        Fit D as well; a diagonal D stays diagonal. Only with a calibration.
    layers : iterable of str, optional
        By default every layer of the calibration, or of the model.

    Returns
    -------
    SSMModel

    Raises
    ------
    ArgumentError
        No model, something else as a calibration, or text for `layers`.
    OptionError
        A ridge or a feedthrough without a calibration.
    UnknownLayerError, ShapeError
        A layer without calibration, or a calibration of other systems.
    SelectionError
        A ridge below 1e-14, or a layer that was fitted or re-realised before, without `reference`; in the H2 norm also
        features of one layer that keep different numbers of states.
    NotRepresentableError
        Outputs that the model family cannot hold.

    Notes
    -----
    O(n^3 + p (n + m)^2) a system of the calibration, and O(m^3 + m n^2) more where a full D is fitted.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> u = np.random.default_rng(0).standard_normal((10, 64, 32))
    >>> pruned = sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.5))
    >>> on_data = refit(pruned, calibration=sr.calibrate(model, dict.fromkeys(model, u)))
    >>> on_data.orders == refit(pruned).orders == pruned.orders
    True
    """
    require_kind(reduced, SSMModel, "reduced", MODEL_ADVICE)
    if reference is not None:
        require_kind(reference, SSMModel, "reference", MODEL_ADVICE)
    if isinstance(layers, str):
        raise ArgumentError(f"layers must be several names, got {layers!r}; give [{layers!r}]")
    if calibration is None:
        if ridge is not None or feedthrough:
            raise OptionError("ridge and feedthrough go with a calibration; the fit in the H2 norm has neither")
        return _fitted_in_h2(reduced, reference, reduced if layers is None else layers)
    require_kind(calibration, Calibration, "calibration", CALIBRATION_ADVICE)
    ridge = RIDGE if ridge is None else ridge
    result = reduced
    for name in calibration if layers is None else layers:
        reduced.require(name)
        fitted = fitted_outputs(
            reduced,
            calibration[name],
            reference,
            name,
            ridge=RIDGE if ridge is None else ridge,
            feedthrough=feedthrough,
        )
        result = overwrite_states(result, name, fitted)
    return result


def fitted_outputs(
    reduced: SSMModel,
    moments: Moments,
    reference: SSMModel | None,
    name: str,
    *,
    ridge: float,
    feedthrough: bool,
) -> DiagonalSSM:
    """The system of one layer with its outputs fitted on data."""
    ssm, keep = _fitted_system(reduced, moments, reference, name)
    fit = OutputFit(ssm, moments, ridge=ridge, feedthrough=feedthrough)
    return _taken(reduced[name], with_weights(ssm, *fit.solve(keep)), keep)


def _fitted_in_h2(reduced: SSMModel, reference: SSMModel | None, layers: Iterable[str]) -> SSMModel:
    """The model with B and C of every layer that lost states fitted in the H2 norm."""
    result = reduced
    for name in layers:
        kept = reduced[name]
        if not reduced.state_index(name)[1].all():
            raise SelectionError(
                f"the systems of layer {name!r} keep different numbers of states, which one batch cannot hold; select "
                "with scope='system'"
            )
        if reference is None and name in reduced.systems:
            raise SelectionError(f"layer {name!r} was re-realised: give reference=, the model before")
        full = _original(reduced, reference, name)
        if kept.order < full.order:
            result = replace_system(result, name, refitted_layer(full, kept))
    return result


def _original(reduced: SSMModel, reference: SSMModel | None, name: str) -> DiagonalSSM:
    """The system whose outputs are to be reproduced."""
    if reference is not None:
        return reference[name]
    if name in reduced.refitted:
        raise SelectionError(
            f"the outputs of layer {name!r} were fitted before and are no longer those to be reproduced: give "
            "reference=, the model before pruning"
        )
    return reduced.full_system(name)


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
    full = _original(reduced, reference, name)
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
