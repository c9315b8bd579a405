"""From scores to the states that stay: exact counts over the whole model, stable ties."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .._support.arguments import real_number, require_kind, share, whole_number
from .._support.frozen import Frozen
from ..errors import SelectionError, UnknownLayerError, UnknownNameError
from ._scores import Scores


@dataclass(frozen=True, eq=False)
class Selection(Frozen):
    """The states that stay.

    Attributes
    ----------
    keep : mapping
        Layer name -> increasing indices of the states that stay, int64; for a batch of systems they count the states
        of all its systems in row-major order.
    orders : mapping
        Layer name -> number of states that stay.
    ratio : float
        Share of the states that is dropped.
    threshold : float
        Smallest score among the states that stay.
    """

    keep: Mapping[str, np.ndarray]
    orders: Mapping[str, int]
    ratio: float
    threshold: float


def select(
    scores: Scores,
    *,
    ratio: float | None = None,
    count: int | None = None,
    threshold: float | None = None,
    orders: Mapping[str, int] | None = None,
    min_states: int = 1,
    ties: str | None = None,
    scope: str = "layer",
) -> Selection:
    """Choose the states that stay.

    Exactly one of `ratio`, `count`, `threshold` and `orders` is given.

    Parameters
    ----------
    scores : Scores
    ratio : float, optional
        Share of all states to drop, in [0, 1): floor((1 - ratio) * total) states stay, a rounding error of the ratio
        forgiven. Scores with the allocation ``uniform`` share them between the layers in proportion to their sizes
        (largest remainders first), the others by score.
    count : int, optional
        Number of states of the whole model that stay.
    threshold : float, optional
        States with a score of at least this stay (``scope="system"``: slices with at least this mean score).
    orders : mapping, optional
        Number of states that stay, for every layer.
    min_states : int, default 1
        Every layer keeps at least this many (or all it has), except where `orders` are given.
    ties : {"stable", "keep"}, optional
        Of equal scores the first ones stay (``stable``, exact counts), or all (``keep``: the threshold rule of the
        released code of LAST, which may keep more). By default as the scores say: ``keep`` for the reference methods.
    scope : {"layer", "system"}
        ``system``: the systems of a batch (the features of S4D) keep the same number each, so that compact arrays can
        hold them. Counts are then rounded down to whole slices of one state a system (``uniform``: every system
        keeps floor((1 - ratio) * n), so that stock code with one state size can hold them). In either scope, states
        that the arrays of a family hold together (`Scores.units`) stay or go together; such a unit counts as much as
        its best state.

    Returns
    -------
    Selection

    Raises
    ------
    ArgumentError
        A rule or floor that is no number, orders that are not a mapping.
    SelectionError
        Not exactly one rule, a ratio outside [0, 1), a count or orders that cannot be met, a floor above the count.
    UnknownLayerError
        Orders for a layer that does not exist.
    UnknownNameError
        An unknown `ties` or `scope`.

    Examples
    --------
    >>> scores = Scores({"a": np.array([1.0, 0.1, 0.5]), "b": np.array([0.2, 1.0, 0.3])}, "mine", "global")
    >>> selection = select(scores, ratio=0.5)
    >>> {name: indices.tolist() for name, indices in selection.keep.items()}
    {'a': [0, 2], 'b': [1]}
    """
    require_kind(scores, Scores, "scores", "the scores of `score` or `elimination_scores` are needed")
    ties = scores.ties if ties is None else ties
    if ties not in ("stable", "keep"):
        raise UnknownNameError(f"there is no rule for ties {ties!r}; choose from stable, keep")
    if scope not in ("layer", "system"):
        raise UnknownNameError(f"there is no scope {scope!r}; choose from layer, system")
    if sum(rule is not None for rule in (ratio, count, threshold, orders)) != 1:
        raise SelectionError("give exactly one of ratio, count, threshold and orders")
    min_states = whole_number(min_states, "min_states", error=SelectionError)
    layers = {name: _Layer(scores[name], scope, scores.units.get(name)) for name in scores}
    if orders is not None:
        slices = _given(layers, orders)
    elif threshold is not None:
        if math.isnan(real_number(threshold, "threshold")):
            raise SelectionError("threshold must be a number, got NaN")
        slices = {name: max(layer.above(threshold), layer.floor(min_states)) for name, layer in layers.items()}
    else:
        total = sum(layer.states for layer in layers.values())
        count = _count(ratio, count, total)
        if ties == "keep":  # which may keep more, never empties a layer
            count = max(count, sum(layer.floor(min_states) * layer.width for layer in layers.values()))
        shared = _shared_by_size if scores.allocation == "uniform" else _shared_by_score
        slices = shared(layers, count, min_states)
        if ties == "keep":
            slices = _with_ties(layers, slices, scores.allocation == "uniform")
    return _selection(layers, slices)


class _Layer:
    """The states of one layer in descending order, grouped in slices that stay or go together."""

    def __init__(self, values: np.ndarray, scope: str, units: np.ndarray | None) -> None:
        self.states = values.size
        members = _members(values, units)
        first = members[:, 0] // values.shape[-1] if scope == "system" else np.zeros(len(members), dtype=int)
        by_row = np.argsort(first, kind="stable").reshape(len(np.unique(first)), -1)
        self.members = members[by_row]  # (rows, units, states of a unit)
        self.width = self.members.shape[0] * self.members.shape[2]  # states of one slice
        rows = values.ravel()[self.members].max(axis=2)
        self.order = np.argsort(-rows, axis=1, kind="stable")
        sorted_rows = np.take_along_axis(rows, self.order, axis=1)
        self.lowest = sorted_rows.min(axis=0)
        with np.errstate(invalid="ignore"):  # inf - inf cannot occur, but inf / n warns on some platforms
            self.scores = sorted_rows.mean(axis=0)

    @property
    def slices(self) -> int:
        return self.scores.size

    def floor(self, min_states: int) -> int:
        return min(self.slices, math.ceil(min_states / self.width))

    def above(self, threshold: float) -> int:
        return int((self.scores >= threshold).sum())

    def kept(self, slices: int) -> np.ndarray:
        rows = np.arange(self.order.shape[0])[:, None]
        return np.sort(self.members[rows, self.order[:, :slices]].ravel())


def _members(values: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    """Flat indices of the states of each unit, shape (units, states of a unit)."""
    if units is None:
        return np.arange(values.size)[:, None]
    order = np.argsort(units.ravel(), kind="stable")
    return order.reshape(len(np.unique(units)), -1)


def _count(ratio: float | None, count: int | None, total: int) -> int:
    if ratio is not None:
        ratio = share(ratio, "ratio", zero=True, error=SelectionError)
        return math.floor((1 - ratio) * total + 1e-9 * total)
    if not (0 <= (number := real_number(count, "count")) <= total and number.is_integer()):
        raise SelectionError(f"count must be a whole number of states between 0 and the model's {total}, got {count}")
    return int(number)


def _given(layers: Mapping[str, _Layer], orders: Mapping[str, int]) -> dict[str, int]:
    require_kind(orders, Mapping, "orders", "layer name -> number of states that stay is needed")
    for name in orders:
        if name not in layers:
            raise UnknownLayerError(f"there is no layer {name!r}; the model has {', '.join(layers)}")
    if missing := [name for name in layers if name not in orders]:
        raise SelectionError(f"orders must name every layer; {', '.join(missing)} is missing")
    for name, layer in layers.items():
        order = real_number(orders[name], f"the order of layer {name!r}")
        if not (0 <= order <= layer.states and order.is_integer()):
            raise SelectionError(f"layer {name!r} has {layer.states} states; it cannot keep {orders[name]}")
        if orders[name] % layer.width:
            reason = (
                f"has {layer.width} systems, which cannot keep {orders[name]} states in equal parts"
                if layer.members.shape[2] == 1
                else f"keeps or drops {layer.width} states together; it cannot keep {orders[name]}"
            )
            raise SelectionError(f"layer {name!r} {reason}")
    return {name: int(orders[name]) // layer.width for name, layer in layers.items()}


def _floors(layers: Mapping[str, _Layer], count: int, min_states: int) -> dict[str, int]:
    floors = {name: layer.floor(min_states) for name, layer in layers.items()}
    needed = sum(floors[name] * layer.width for name, layer in layers.items())
    if needed > count:
        raise SelectionError(
            f"{count} states are too few: min_states={min_states} a layer needs {needed}; lower it or drop less"
        )
    return floors


def _shared_by_score(layers: Mapping[str, _Layer], count: int, min_states: int) -> dict[str, int]:
    """The highest scores over all layers, after every layer's floor."""
    slices = _floors(layers, count, min_states)
    left = count - sum(slices[name] * layer.width for name, layer in layers.items())
    names = [name for name, layer in layers.items() for _ in range(slices[name], layer.slices)]
    candidates = np.concatenate([layer.scores[slices[name] :] for name, layer in layers.items()])
    for i in np.argsort(-candidates, kind="stable"):
        width = layers[names[i]].width
        if width > left:
            break
        slices[names[i]] += 1
        left -= width
    return slices


def _shared_by_size(layers: Mapping[str, _Layer], count: int, min_states: int) -> dict[str, int]:
    """The same share of every layer, after its floor; what rounding leaves goes to the largest remainders."""
    floors = _floors(layers, count, min_states)
    total = sum(layer.states for layer in layers.values())
    exact = {name: count / total * layer.slices for name, layer in layers.items()}
    slices = {name: max(floors[name], math.floor(exact[name] + 1e-9)) for name in layers}
    left = count - sum(slices[name] * layer.width for name, layer in layers.items())
    for name in sorted(layers, key=lambda name: slices[name] - exact[name]):  # sorted is stable
        if layers[name].width == 1 and left > 0 and slices[name] < layers[name].slices:
            slices[name] += 1
            left -= 1
    while left < 0:  # floors took more than their share: the others give back
        name = max((n for n in layers if slices[n] > floors[n]), key=lambda n: slices[n] - exact[n])
        slices[name] -= 1
        left += layers[name].width
    return slices


def _with_ties(layers: Mapping[str, _Layer], slices: dict[str, int], per_layer: bool) -> dict[str, int]:
    """Extend to every slice that equals one that stays: of the best dropped score all or none, a layer or the model."""
    if per_layer:
        return {name: _with_ties({name: layer}, {name: slices[name]}, False)[name] for name, layer in layers.items()}
    dropped = max((layer.scores[slices[n]] for n, layer in layers.items() if slices[n] < layer.slices), default=-np.inf)
    if not any((layer.scores[: slices[name]] == dropped).any() for name, layer in layers.items()):
        return slices
    return {name: max(slices[name], layer.above(dropped)) for name, layer in layers.items()}


def _selection(layers: Mapping[str, _Layer], slices: Mapping[str, int]) -> Selection:
    keep = {name: layer.kept(slices[name]) for name, layer in layers.items()}
    for indices in keep.values():
        indices.flags.writeable = False
    orders = {name: indices.size for name, indices in keep.items()}
    total = sum(layer.states for layer in layers.values())
    lowest = min(
        (float(layer.lowest[slices[name] - 1]) for name, layer in layers.items() if slices[name]), default=math.inf
    )
    ratio = 1 - sum(orders.values()) / total
    return Selection(keep, orders, ratio, lowest)
