"""How many states each layer keeps, from its Hankel singular values."""

import numpy as np

from .._support.arguments import require_kind
from ..errors import UnknownNameError
from ..models import SSMModel
from ..models._model import MODEL_ADVICE
from ..norms import hankel_singular_values
from ..selection import Scores, select
from ..systems import DiagonalSSM
from ..systems._batches import single_systems, stable_part
from ..systems._real import output_rows

RULES = ("energy", "global")


def hankel_orders(
    model: SSMModel,
    *,
    ratio: float | None = None,
    count: int | None = None,
    rule: str = "energy",
    min_states: int = 1,
) -> dict[str, int]:
    r"""Orders of all layers that meet a budget of stored states, from their Hankel singular values.

    Stored state i stands for :math:`\sigma_{2i-1}` and :math:`\sigma_{2i}`. With ``energy`` every layer retains the
    same share :math:`\sum_{j \le 2i} \sigma_j / \sum_j \sigma_j` [1]_, which is the same bound on the error relative to
    that of the whole layer; with ``global`` the largest :math:`\sigma_{2i-1}` of the whole model stay.

    Parameters
    ----------
    model : SSMModel
    ratio : float, optional
        Share of all states to drop, as in `select`.
    count : int, optional
        Instead: stored states of the whole model.
    rule : {"energy", "global"}
    min_states : int, default 1
        Every layer keeps at least this many.

    Returns
    -------
    dict
        Layer name -> stored states, for `reduce`. The systems of a batch (S4D) get the same number each.

    Raises
    ------
    UnknownNameError
        Another rule.
    SelectionError
        As in `select`.

    Notes
    -----
    Unstable states have no singular values and stay. The halves of a bidirectional layer are stacked, as in
    `balanced_truncation`.

    References
    ----------
    .. [1] Schwerdtner, Berman and Peherstorfer, "Hankel Singular Value Regularization for Highly Compressible State
       Space Models", NeurIPS 2025, arXiv:2510.22951.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> list(hankel_orders(model, ratio=0.5).values())
    [31, 33, 32, 32]
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    if rule not in RULES:
        raise UnknownNameError(f"there is no rule {rule!r}; choose from {', '.join(RULES)}")
    values = {name: _values(ssm, rule) for name, ssm in model.items()}
    scores = Scores(values, f"hankel_{rule}", "global")
    return dict(select(scores, ratio=ratio, count=count, min_states=min_states, scope="system").orders)


def _values(ssm: DiagonalSSM, rule: str) -> np.ndarray:
    """One value a stored state, shape (..., n): what is missing before it is kept; infinite for unstable states."""
    values = np.full((ssm.systems, ssm.order), np.inf)
    for row, one in zip(values, single_systems(ssm), strict=True):
        stable = stable_part(one)
        C = output_rows(stable)
        causal = DiagonalSSM(stable.Lambda, stable.B, C, np.zeros((C.shape[0], one.inputs)), conj_sym=one.conj_sym)
        sigma = hankel_singular_values(causal)
        row[one.order - stable.order :] = np.cumsum(sigma[::-1])[::-1][::2] if rule == "energy" else sigma[::2]
    if rule == "energy":
        total = float(np.where(np.isfinite(values), values, 0.0).max(axis=1, initial=0.0).sum())
        values = values / (total or 1.0)
    return values.reshape(*ssm.batch, ssm.order)
