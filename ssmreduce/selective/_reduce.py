"""One selective layer reduced to an order: the steps of a method, one after the other."""

from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import SelectionError, UnknownNameError
from ._layers import Mamba1SSM, Mamba2SSM
from ._moments import SelectiveMoments
from ._refine import refine
from ._rotation import alternate, rotate
from ._scores import CRITERIA, highest, selective_scores
from ._states import absorb, like, take_states
from ._surgeon import surgeon

FIRST_STEPS = (*CRITERIA, "rotate")
NEXT_STEPS = ("als", "refine")


def method_steps(method: str, kind: str) -> tuple[str, ...]:
    """Steps of a method such as ``"rotate+als+refine"``, checked for a kind of layer.

    Raises
    ------
    UnknownNameError
    SelectionError
        The method is not one for this kind of layer.
    """
    first, *rest = method.split("+")
    if first not in FIRST_STEPS or any(step not in NEXT_STEPS for step in rest):
        raise UnknownNameError(
            f"there is no method {method!r}; give one of {', '.join(FIRST_STEPS)}, and behind it +als (after rotate) "
            "or +refine"
        )
    if first == "rotate" and kind == "mamba1":
        raise SelectionError(
            "the states of a Mamba-1 layer have poles of their own and cannot be rotated; use 'surgeon'"
        )
    if "als" in rest and first != "rotate":
        raise SelectionError("alternating least squares improves a rotation: 'rotate+als'")
    return (first, *rest)


def reduce_selective(
    layer: Any,
    order: int,
    *,
    method: str,
    moments: SelectiveMoments | None = None,
    u: np.ndarray | None = None,
    target: np.ndarray | None = None,
    seed: Any = 0,
    **refine_options: Any,
) -> Any:
    """Reduce one selective layer to `order` states per channel.

    Parameters
    ----------
    layer : Mamba1SSM or Mamba2SSM
        In NumPy arrays.
    order : int
    method : str
        A criterion of `selective_scores`, which selects states; ``"surgeon"``, which for Mamba-1 also refits C (see
        `surgeon`); or ``"rotate"`` (Mamba-2). Behind it ``"+als"`` (see `alternate`) and ``"+refine"`` (see `refine`).
    moments : SelectiveMoments, optional
        Of this layer; needed except for ``random``, ``magnitude`` and ``aire``.
    u, target : ndarray, shape (b, L, d), optional
        Needed to refine.
    seed : int or Generator
    **refine_options
        For `refine`.

    Returns
    -------
    Mamba1SSM or Mamba2SSM

    Raises
    ------
    UnknownNameError, SelectionError

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.selective import random_layer, reduce_selective, selective_moments
    >>> layer = random_layer("mamba1", width=4, order=8)
    >>> moments = selective_moments(layer, np.random.default_rng(0).standard_normal((2, 64, 4)))
    >>> reduce_selective(layer, 2, method="surgeon", moments=moments)
    Mamba1SSM(order=2, inner=8, inputs=4)
    """
    first, *rest = method_steps(method, layer.kind)
    if moments is None and first not in ("random", "magnitude", "aire"):
        raise SelectionError(f"the method {method!r} needs moments; see selective_moments")
    if "refine" in rest and (u is None or target is None):
        raise SelectionError(f"the method {method!r} needs inputs and outputs of the layer: u and target")
    if first == "rotate":
        assert moments is not None
        smaller = _rotated(layer, order, moments, "als" in rest)
    elif first == "surgeon":
        assert moments is not None
        smaller = _operated(layer, order, moments)
    else:
        smaller = take_states(layer, highest(selective_scores(layer, first, moments, seed=seed), order))
    if "refine" in rest:
        assert u is not None
        assert target is not None
        smaller = refine(smaller, u, target, seed=seed, **refine_options).layer
    return smaller


def _rotated(layer: Mamba2SSM, order: int, moments: SelectiveMoments, als: bool) -> Mamba2SSM:
    mix_B, mix_C = rotate(moments, order)
    if als:
        mix_B, mix_C = alternate(moments, mix_B, mix_C)
    if layer.mix_B is not None and layer.mix_C is not None:
        mix_B, mix_C = mix_B @ layer.mix_B, mix_C @ layer.mix_C
    return replace(layer, mix_B=mix_B, mix_C=mix_C)


def _operated(layer: Any, order: int, moments: SelectiveMoments) -> Any:
    """The surgeon's selection; Mamba-1 layers take its mix of C, Mamba-2 layers cannot."""
    if isinstance(layer, Mamba2SSM):
        groups = range(layer.groups)
        return take_states(layer, np.stack([surgeon(one_group(moments, g), order)[0] for g in groups]))
    keep, mix = surgeon(moments, order)
    smaller: Mamba1SSM = replace(
        layer,
        A_log=layer.A_log[:, keep],
        take_B=keep if layer.take_B is None else np.asarray(layer.take_B)[keep],
        mix_C=like(mix, layer.A_log) if layer.mix_C is None else like(mix, layer.A_log) @ layer.mix_C,
    )
    return absorb(smaller) if layer.norm_eps is None else smaller


def one_group(moments: SelectiveMoments, group: int) -> SelectiveMoments:
    """The moments of one group, without the joint ones."""
    part = slice(group, group + 1)
    return SelectiveMoments(
        moments.tokens,
        moments.contributions[part],
        moments.readouts[part],
        moments.cross[part],
        moments.energy[part],
        moments.by_state[part],
        moments.raw[part],
    )
