"""Prune a model: the states that were not selected leave, the others stay as they are."""

from collections.abc import Mapping

import numpy as np

from .._support.arguments import require_kind
from ..errors import SelectionError
from ..models import SSMModel
from ..models._model import MODEL_ADVICE, changed
from ._select import Selection


def prune(model: SSMModel, keep: Selection | Mapping[str, np.ndarray]) -> SSMModel:
    r"""Modal truncation: keep the selected states of every layer, bit for bit, and drop the others.

    Parameters
    ----------
    model : SSMModel
        A model that was pruned before can be pruned further.
    keep : Selection or mapping
        Layer name -> indices of the states that stay, counted in the systems of `model` (for a batch of systems over
        all its systems, row-major). Layers that are not named stay whole.

    Returns
    -------
    SSMModel

    Raises
    ------
    UnknownLayerError
        A layer that the model does not have.
    SelectionError
        Indices out of range or repeated, a layer that was re-realised, or one whose systems were pruned to different
        orders before.

    Notes
    -----
    Truncation keeps a subset of the poles, so a stable system stays stable. What it costs is bounded by the sum of the
    norms of the dropped states (times :math:`\kappa`), not by the root of the sum of their squares.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> keep = sr.select(sr.score(model, "last"), ratio=0.5)
    >>> prune(model, keep)
    SSMModel(4 layers, 128 states, adapter=S5(conj_sym=True, discretization='zoh', clip_eigs=False, step_rescale=1.0))
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    require_kind(keep, (Selection, Mapping), "keep", "a selection, or layer name -> indices of states, is needed")
    keep = keep.keep if isinstance(keep, Selection) else keep
    kept = {name: _original(model, name, indices) for name, indices in keep.items()}
    return changed(model, keep={**model.keep, **kept})


def _original(model: SSMModel, name: str, indices: np.ndarray) -> np.ndarray:
    """Indices into the states as they were read."""
    model.require(name)
    if name in model.systems:
        raise SelectionError(f"layer {name!r} was re-realised; prune before, or prune the exported model")
    index, valid = model.state_index(name)
    given = np.asarray(indices)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise SelectionError(f"layer {name!r}: one axis of whole indices is needed, got {given.dtype} {given.shape}")
    given = given.astype(np.int64)
    if given.size and (given.min() < 0 or given.max() >= index.size):
        raise SelectionError(f"layer {name!r} has {index.size} states; indices must be in 0 ... {index.size - 1}")
    if np.unique(given).size != given.size:
        raise SelectionError(f"layer {name!r}: an index is given twice")
    given = given[valid.ravel()[given]]  # slots of a system with fewer states than the largest hold none
    order = model.full_size(name)[1]
    original = np.sort((index + np.arange(index.shape[0])[:, None] * order).ravel()[given])
    original.flags.writeable = False
    return original
