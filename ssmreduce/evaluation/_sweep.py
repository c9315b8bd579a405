"""Trade-off curves: several methods at several ratios, each evaluated."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from .._support.arguments import described, real_number, require_callable, require_kind
from ..errors import ArgumentError, UnknownNameError
from ..models import SSMModel
from ..selection import prune, prune_unstructured, score, select
from ..selection._scores import Criterion

UNSTRUCTURED = "random_unstructured"


@dataclass(frozen=True)
class SweepRow:
    """One method at one ratio.

    Attributes
    ----------
    method : str
    ratio : float
        Share of the states that was asked to be dropped.
    states : int
        States that are left in the whole model.
    orders : dict
        Layer name -> states that are left.
    value : float
        What `evaluate` returned.
    """

    method: str
    ratio: float
    states: int
    orders: dict[str, int]
    value: float


@dataclass(frozen=True)
class Sweep:
    """The rows of a sweep, in the order in which they were made."""

    rows: tuple[SweepRow, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Labels of the methods."""
        return tuple(dict.fromkeys(row.method for row in self.rows))

    def curve(self, method: str) -> tuple[np.ndarray, np.ndarray]:
        """Ratios and values of one method."""
        rows = [row for row in self.rows if row.method == method]
        if not rows:
            raise UnknownNameError(f"there is no method {method!r} in the sweep; it has {', '.join(self.methods)}")
        return np.array([row.ratio for row in rows]), np.array([row.value for row in rows])

    def to_dict(self) -> dict:
        """Plain data for JSON."""
        return asdict(self)


def sweep(
    model: SSMModel,
    evaluate: Callable[[SSMModel], float],
    *,
    methods: Iterable[str] | Mapping[str, str | Criterion] = ("last", "aire", "uniform_hinf", "global_hinf"),
    ratios: Iterable[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Prune with every method at every ratio and evaluate the results.

    Parameters
    ----------
    model : SSMModel
    evaluate : callable
        From a pruned model to a number (accuracy, loss, ...). It is called once for each different set of states.
    methods : iterable of str, or mapping from label to method
        Methods of `score` (names or functions), and ``random_unstructured`` (see `prune_unstructured`).
    ratios : iterable of float
        Shares of the states to drop, in [0, 1).
    seed : int
        For the random methods.
    progress : callable, optional
        Called with the number of rows done and the number of all rows.

    Returns
    -------
    Sweep

    Raises
    ------
    ArgumentError
        No list of methods or ratios.
    UnknownNameError, SelectionError
        As in `score` and `select`.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.load("examples/s5_digits/model.safetensors")
    >>> curve = sweep(model, lambda m: float(sr.h2_norm(m["layers.0.seq"])), methods=["last"], ratios=[0.0, 0.5])
    >>> [row.states for row in curve.rows]
    [256, 128]
    """
    require_callable(evaluate, "evaluate", "a function from a model to a number is needed")
    if not isinstance(methods, Mapping):
        methods = _listed(methods, "methods")
        for name in methods:
            require_kind(name, str, "a method", "names are needed, or a mapping from labels to methods")
        methods = {name: name for name in methods}
    labelled, ratios = dict(methods), _listed(ratios, "ratios")
    plan = [(label, *step) for label, method in labelled.items() for step in _plan(model, method, ratios, seed)]
    rows: list[SweepRow] = []
    known: dict[object, float] = {}
    for label, ratio, key, make in plan:
        candidate = make()
        if key not in known:
            known[key] = real_number(evaluate(candidate), "what evaluate returns")
        orders = candidate.orders
        rows.append(SweepRow(label, float(ratio), sum(orders.values()), orders, known[key]))
        if progress is not None:
            progress(len(rows), len(plan))
    return Sweep(tuple(rows))


def _listed(values: Any, name: str) -> list:
    try:
        if isinstance(values, str | bytes):
            raise TypeError
        return list(values)
    except TypeError:
        raise ArgumentError(f"{name} is {described(values)}; give a list") from None


Step = tuple[float, object, Callable[[], SSMModel]]


def _plan(model: SSMModel, method: str | Criterion, ratios: list[float], seed: int) -> list[Step]:
    """Ratio, a key that tells equal models, and how to make the model; nothing fails once evaluations have begun."""
    if method == UNSTRUCTURED:
        make = partial(prune_unstructured, model, seed=seed)
        return [(ratio, (UNSTRUCTURED, ratio), partial(make, ratio=ratio)) for ratio in ratios]
    scores = score(model, method, seed=seed)
    selections = [select(scores, ratio=ratio) for ratio in ratios]
    keys = [tuple(indices.tobytes() for indices in selection.keep.values()) for selection in selections]
    return [(r, k, partial(prune, model, s)) for r, k, s in zip(ratios, keys, selections, strict=True)]
