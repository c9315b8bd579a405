"""The largest ratio that costs at most so much: bisection over the exact elimination path."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..._support.arguments import real_number, require_callable, require_kind, share, whole_number
from ..._support.tables import Report, table_of
from ...calibration import Calibration
from ...errors import NonFiniteError, OptionError, SelectionError, UnattainableError
from ...models import SSMModel
from ...models._model import MODEL_ADVICE
from ...selection import Scores, elimination_path, elimination_scores, prune, select
from ._refit import refit


@dataclass(frozen=True)
class SearchPoint:
    """One model that was tried.

    Attributes
    ----------
    states : int
        States that are left in the whole model.
    ratio : float
        Share of the states that is dropped.
    value : float
        What `evaluate` returned.
    accepted : bool
        Whether the loss is within the limit.
    """

    states: int
    ratio: float
    value: float
    accepted: bool


@dataclass(frozen=True, eq=False)
class Search(Report):
    """Result of `search`.

    Attributes
    ----------
    model : SSMModel
        The smallest model that was accepted. Of a network with Mamba mixers, the layers by name.
    ratio : float
        Its share of states dropped.
    value : float
        Its value.
    reference : float
        Value of the model before.
    points : tuple of SearchPoint
        Every model that was tried, in that order.
    live : Any
        Where a network was searched, the reduced one, of the kind that was given.
    """

    model: Any
    ratio: float
    value: float
    reference: float
    points: tuple[SearchPoint, ...]
    live: Any = None

    def __rich__(self) -> Any:
        title = f"{self.ratio:.1%} dropped: {self.value:.6g}, before: {self.reference:.6g}"
        table = table_of(title, "dropped", "states", "value", "")
        for point in self.points:
            cells = f"{point.ratio:.1%}", str(point.states), f"{point.value:.6g}", "ok" if point.accepted else ""
            table.add_row(*cells)
        return table

    def to_dict(self) -> dict:
        """Plain data for JSON, without the model."""
        points = [asdict(point) for point in self.points]
        return {"ratio": self.ratio, "value": self.value, "reference": self.reference, "points": points}


def search_model(
    model: SSMModel,
    calibration: Calibration,
    evaluate: Callable[[SSMModel], float],
    *,
    max_loss: float,
    tolerance: float = 0.01,
    min_states: int = 1,
    scope: str = "layer",
    feedthrough: bool = False,
    finish: Callable[[SSMModel], SSMModel] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Search:
    """Largest ratio of calibrated elimination that loses at most `max_loss` of a metric.

    Parameters
    ----------
    model : SSMModel
    calibration : Calibration
        Of this model, every layer.
    evaluate : callable
        From a model to a number, the larger the better: accuracy on validation data, or without labels the share of
        sequences on which the reduced network agrees with the original. What it raises goes through, with a note that
        says for which model.
    max_loss : float
        What `evaluate` may lose against the original model.
    tolerance : float, default 0.01
        Width of the ratio's bracket at which the bisection ends.
    min_states : int, default 1
        Every layer keeps at least this many (or all it has).
    scope, feedthrough
        As in `eliminate`.
    finish : callable, optional
        Applied to every candidate before it is evaluated, such as `refit_network` with its data bound.
    progress : callable, optional
        Called after each evaluation with the number done and the number expected.

    Returns
    -------
    Search

    Raises
    ------
    ArgumentError
        No model, calibration or function where one is needed; an `evaluate` that returns no number, or a `finish` that
        returns no model.
    OptionError
        A negative or NaN `max_loss`, or a tolerance outside (0, 1).
    SelectionError
        A `min_states` that is negative, no whole number, or more than any layer has.
    UnattainableError
        Not even the finished model with all its states is within the limit.
    NonFiniteError
        `evaluate` returned NaN, or an infinite value for the original.
    UnknownLayerError, ShapeError
        As in `eliminate`.

    Notes
    -----
    The path is computed once; a candidate costs one refit and one evaluation, about ``log2(1 / tolerance)`` of them.
    Bisection takes the loss to grow with the ratio. A metric on few samples does so only roughly: the answer is then a
    ratio that was seen to be within the limit, next to one that was not, and `points` shows every one.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> calibration = sr.calibration.calibrate_stationary(model)
    >>> result = search_model(model, calibration, lambda m: -float(sum(m.orders.values()) < 100), max_loss=0.5)
    >>> sum(result.model.orders.values())
    101
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    _check(evaluate, finish, max_loss, tolerance)
    scores = elimination_scores(elimination_path(model, calibration, feedthrough=feedthrough), scope=scope)
    total = sum(model.orders.values())
    if whole_number(min_states, "min_states", error=SelectionError) > (largest := max(model.orders.values())):
        raise SelectionError(
            f"min_states is {min_states}, and the largest layer has {largest} states: nothing can leave"
        )
    reference = _value(evaluate, model)
    if math.isinf(reference):
        raise NonFiniteError(f"evaluate returned {reference} for the original model, which no loss can be measured by")
    expected = 1 + math.ceil(math.log2(1 / tolerance))
    points: list[SearchPoint] = []

    def attempt(states: int) -> SSMModel | None:
        selection = select(scores, count=states, min_states=min_states, scope=scope)
        candidate = refit(prune(model, selection), calibration=calibration, feedthrough=feedthrough, reference=model)
        if finish is not None:
            candidate = finish(candidate)
            require_kind(candidate, SSMModel, "the result of finish", "it must return the model, finished")
        value = _value(evaluate, candidate)
        accepted = value >= reference - max_loss
        left = sum(candidate.orders.values())
        points.append(SearchPoint(left, 1 - left / total, value, accepted))
        if progress is not None:
            progress(len(points), max(expected, len(points)))
        return candidate if accepted else None

    best = attempt(total)
    if best is None:
        raise UnattainableError(
            f"with all states the value is {points[0].value:.6g}, which is more than max_loss={max_loss} below the "
            f"original's {reference:.6g}; allow more, or look at `finish`"
        )
    low, high, chosen = _least(scores, min_states, scope) - 1, total, points[0]
    while high - low > max(1, tolerance * total):
        middle = (low + high) // 2
        candidate = attempt(middle)
        if candidate is None:
            low = middle
        else:
            high, best, chosen = middle, candidate, points[-1]
    return Search(best, chosen.ratio, chosen.value, reference, tuple(points))


def _check(evaluate: Callable, finish: Callable | None, max_loss: float, tolerance: float) -> None:
    require_callable(evaluate, "evaluate", "a function from a model to a number is needed")
    if finish is not None:
        require_callable(finish, "finish", "a function from a model to a model is needed")
    if not real_number(max_loss, "max_loss") >= 0:
        raise OptionError(f"max_loss must not be negative, got {max_loss}")
    share(tolerance, "tolerance")


def _value(evaluate: Callable[[SSMModel], float], model: SSMModel) -> float:
    try:
        value = evaluate(model)
    except Exception as error:
        error.add_note(f"(raised by evaluate, on the model with {sum(model.orders.values())} states)")
        raise
    value = real_number(value, "what evaluate returns")
    if math.isnan(value):
        raise NonFiniteError("evaluate returned NaN; it must return a number, the larger the better")
    return value


def _least(scores: Scores, min_states: int, scope: str) -> int:
    """States that stay at least: the floor of each layer, in whole slices of one state a system."""
    least = 0
    for values in scores.values():
        width = len(values) if scope == "system" and values.ndim > 1 else 1
        least += min(values.size, width * math.ceil(min_states / width))
    return max(least, 1)
