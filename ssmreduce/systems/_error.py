"""The error system of a reduction."""

from dataclasses import replace

import numpy as np

from ..errors import ShapeError
from ._states import take_states
from ._systems import DiagonalSSM, on_host, require_diagonal


def error_system(ssm: DiagonalSSM, reduced: DiagonalSSM) -> DiagonalSSM:
    r"""The system :math:`G - \hat G`, without the states that both have.

    Parameters
    ----------
    ssm, reduced : DiagonalSSM
        Of the same batch, inputs and outputs.

    Returns
    -------
    DiagonalSSM
        With `conj_sym` of `ssm`. States of one pole and one B in both are one state with the difference of their C; of
        these, those with the same C vanish (for a batch: become silent).

    Raises
    ------
    ShapeError
        Systems that do not fit together.

    Examples
    --------
    >>> ssm = DiagonalSSM([0.9, 0.5], [[1.0], [0.1]], [[1.0, 0.1]], [[0.0]])
    >>> error_system(ssm, take_states(ssm, np.array([0]))).Lambda
    array([0.5+0.j])
    """
    require_diagonal(ssm)
    require_diagonal(reduced, "reduced")
    kinds = [(one.batch, one.inputs, one.outputs, one.bidirectional) for one in (ssm, reduced)]
    if kinds[0] != kinds[1]:
        raise ShapeError(f"{reduced!r} does not fit {ssm!r}: batch, inputs, outputs and halves must be the same")
    ssm, reduced = on_host(ssm), on_host(reduced)
    ratio = reduced.kappa / ssm.kappa
    match = _matches(ssm, reduced)
    alone = ~np.asarray(match.any(axis=-1))

    def joined(C: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.concatenate([C - ratio * (other @ match), -ratio * other * alone[..., None, :]], axis=-1)

    error = DiagonalSSM(
        np.concatenate([ssm.Lambda, np.where(alone, reduced.Lambda, 0.0)], axis=-1),
        np.concatenate([ssm.B, reduced.B * alone[..., :, None]], axis=-2),
        joined(ssm.C, reduced.C),
        ssm.D - reduced.D,
        None if ssm.C_reverse is None or reduced.C_reverse is None else joined(ssm.C_reverse, reduced.C_reverse),
        ssm.conj_sym,
    )
    return without_silent(error)


def _matches(ssm: DiagonalSSM, reduced: DiagonalSSM) -> np.ndarray:
    """One where a state of `reduced` (rows) has the pole and B of one of `ssm` (columns), one to one."""
    partner: np.ndarray = (reduced.Lambda[..., :, None] == ssm.Lambda[..., None, :]) & (
        reduced.B[..., :, None, :] == ssm.B[..., None, :, :]
    ).all(axis=-1)
    match = np.zeros(partner.shape)
    for i in range(reduced.order):
        free = partner[..., i, :] & ~np.asarray(match.any(axis=-2))
        match[..., i, :] = free & (np.cumsum(free, axis=-1) == 1)
    return match


def without_silent(ssm: DiagonalSSM) -> DiagonalSSM:
    """Drop the states that no output sees; where a batch keeps some of them, they get the pole 0."""
    seen = (ssm.C != 0).any(axis=-2)
    if ssm.C_reverse is not None:
        seen |= (ssm.C_reverse != 0).any(axis=-2)
    seen &= (ssm.B != 0).any(axis=-1)
    count = int(seen.sum(axis=-1).max(initial=0))
    index = np.argsort(~seen, axis=-1, kind="stable")[..., :count]
    return take_states(replace(ssm, Lambda=np.where(seen, ssm.Lambda, 0.0)), index)
