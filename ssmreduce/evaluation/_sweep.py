"""Trade-off curves: several methods at several ratios, each evaluated."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._support.arguments import described, real_number, require_callable, require_kind
from .._support.tables import Report, shown, table_of
from ..calibration import Calibration
from ..calibration._moments import CALIBRATION_ADVICE
from ..errors import ArgumentError, UnknownNameError
from ..models import SSMModel
from ..reduction import METHODS, eliminate, reduce
from ..selection import prune, prune_unstructured, score, select
from ..selection._scores import CRITERIA, PRESETS, Criterion

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
class Sweep(Report):
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

    def __rich__(self) -> Any:
        table = table_of("trade-off", "method", "dropped", "states", "value")
        for method in self.methods:
            for row in (row for row in self.rows if row.method == method):
                table.add_row(shown(row.method), f"{row.ratio:.1%}", str(row.states), f"{row.value:.4g}")
            table.add_section()
        return table


def sweep(
    model: SSMModel,
    evaluate: Callable[[SSMModel], float],
    *,
    methods: Iterable[str] | Mapping[str, str | Criterion] = ("last", "aire", "uniform_hinf", "global_hinf"),
    ratios: Iterable[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    calibration: Calibration | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Reduce with every method at every ratio and evaluate the results.

    Parameters
    ----------
    model : SSMModel
    evaluate : callable
        From a reduced model to a number (accuracy, loss, ...). It is called once for each different set of states.
    methods : iterable of str, or mapping from label to method
        Methods of `score` (names or functions), whose states are pruned; methods of `reduce` (``balanced``,
        ``greedy``, ...), which give every layer as many states as ``last`` does with ``scope="system"``, also as
        ``reduce:NAME`` where a score has the same name (``reduce:h2``); with a calibration ``calibrated`` (pruned),
        ``eliminate`` (pruned and refitted) and ``calibrated_balanced``; and ``random_unstructured`` (see
        `ssmreduce.selection.prune_unstructured`).
    ratios : iterable of float
        Shares of the states to drop, in [0, 1).
    calibration : Calibration, optional
        For the calibrated methods.
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
    >>> model = sr.models.example()
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
    source = _Source(model, calibration, seed)
    plan = [(label, *step) for label, method in labelled.items() for step in _plan(source, method, ratios)]
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


class _Source(NamedTuple):
    """What every method starts from."""

    model: SSMModel
    calibration: Calibration | None
    seed: int


def _plan(source: _Source, method: str | Criterion, ratios: list[float]) -> list[Step]:
    """Ratio, a key that tells equal models, and how to make the model; nothing fails once evaluations have begun."""
    if isinstance(method, str) and method in _MAKERS:
        return [(ratio, (method, ratio), partial(_MAKERS[method], source, ratio)) for ratio in ratios]
    if isinstance(method, str) and (name := _reduction(method)):
        return [(ratio, (method, ratio), partial(_reduced, source, ratio, name)) for ratio in ratios]
    calibration = source.calibration if method == "calibrated" else None
    scores = score(source.model, method, seed=source.seed, calibration=calibration)
    selections = [select(scores, ratio=ratio) for ratio in ratios]
    keys = [tuple(indices.tobytes() for indices in selection.keep.values()) for selection in selections]
    return [(r, k, partial(prune, source.model, s)) for r, k, s in zip(ratios, keys, selections, strict=True)]


def _reduction(method: str) -> str | None:
    """The method of `reduce` that a name stands for; scores go first."""
    prefix, _, name = method.rpartition("reduce:")
    if prefix == "" and name in METHODS and (method != name or name not in {*PRESETS, *CRITERIA}):
        return name
    return None


def _orders(source: _Source, ratio: float) -> dict[str, int]:
    return dict(select(score(source.model, "last", scope="system"), ratio=ratio, scope="system").orders)


def _reduced(source: _Source, ratio: float, method: str) -> SSMModel:
    return reduce(source.model, _orders(source, ratio), method=method)


def _calibrated(source: _Source) -> Calibration:
    require_kind(source.calibration, Calibration, "calibration", CALIBRATION_ADVICE)
    assert source.calibration is not None
    return source.calibration


def _eliminated(source: _Source, ratio: float) -> SSMModel:
    return eliminate(source.model, _calibrated(source), ratio=ratio)


def _balanced(source: _Source, ratio: float) -> SSMModel:
    return reduce(source.model, _orders(source, ratio), calibration=_calibrated(source))


def _unstructured(source: _Source, ratio: float) -> SSMModel:
    return prune_unstructured(source.model, ratio=ratio, seed=source.seed)


_MAKERS: dict[str, Callable[[_Source, float], SSMModel]] = {
    UNSTRUCTURED: _unstructured,
    "eliminate": _eliminated,
    "calibrated_balanced": _balanced,
}
