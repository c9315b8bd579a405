"""The smallest network that agrees with the original: `search`, of a network over `compress` or of a model."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..._support.arguments import share
from ...errors import OptionError, UnattainableError
from ...models import SSMModel
from ...networks import Network, network
from ...networks._selective import has_mixers
from ._compress import Data, Recipe, completed, gather, require_finish, start_of
from ._progress import Progress, shown
from ._search import Search, SearchPoint, search_model
from ._selective_verbs import search_selective


def search(obj: Any, data: Any, evaluate: Any = None, **options: Any) -> Search:
    """Smallest network that agrees with the original, or largest ratio that costs at most so much of a metric.

    Three calls: ``search(network, batches, agreement=0.99)`` as in `search_network`, or as in
    `ssmreduce.reduction.calibrated.search_selective` of a network with Mamba mixers, and
    ``search(model, calibration, evaluate, max_loss=...)`` as in `search_model`.

    Parameters
    ----------
    obj : torch.nn.Module, flax.linen.Module, equinox.Module or Network; or SSMModel
    data : iterable of batches, or Calibration
        Unlabelled batches for a network, the calibration of a model.
    evaluate : callable, optional
        For a model: from a model to a number, the larger the better.
    **options
        Of `search_network`, `search_selective` or `search_model`.

    Returns
    -------
    Search

    Raises
    ------
    SSMReduceError
        As in those.

    Examples
    --------
    >>> import ssmreduce as sr, torch
    >>> x = torch.rand(20, 16, 1, generator=torch.manual_seed(0))
    >>> layer = sr.networks.SSMLayer(sr.models.example()["layers.0.seq"])
    >>> head = torch.nn.Flatten(), torch.nn.Linear(16 * 32, 10)
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 32), layer, *head)
    >>> result = search(module, [x], agreement=0.9, finish=None)
    >>> result.value >= 0.9, result.live(x).shape
    (True, torch.Size([20, 10]))
    """
    if isinstance(obj, SSMModel):
        return search_model(obj, data, evaluate, **options)
    if evaluate is not None:
        raise OptionError("a network is searched by its agreement with the original; evaluate goes with a model")
    return search_selective(obj, data, **options) if has_mixers(obj) else search_network(obj, data, **options)


def search_network(
    obj: Any,
    batches: Iterable[Any],
    *,
    agreement: float = 0.99,
    tolerance: float = 0.02,
    method: str = "sequential",
    finish: str | None = "adam",
    scope: str = "layer",
    min_states: int = 1,
    refine: int = 0,
    steps: int = 400,
    rate: float = 0.06,
    apart: float = 0.3,
    logits: bool | None = None,
    seed: int = 0,
    progress: bool | Progress | None = None,
    **options: Any,
) -> Search:
    """Largest ratio of `compress` that agrees with the original on the sequences kept apart.

    Parameters
    ----------
    obj : torch.nn.Module, flax.linen.Module, equinox.Module or Network
    batches : iterable
        As in `compress`; `search` keeps sequences apart itself.
    agreement : float, default 0.99
        Share of the sequences kept apart on which the reduced network has its largest output where the original has
        it. Of outputs that are no logits: 1 minus their relative error.
    tolerance : float, default 0.02
        Width of the ratio's bracket at which the bisection ends.
    method, finish, scope, min_states, refine, steps, rate, logits, seed, progress
        As in `compress`.
    apart : float, default 0.3
        Share of the sequences that is kept apart. A share of n sequences can be told from the next only in steps of
        1 / n.
    **options
        Of `network`.

    Returns
    -------
    Search
        `live` is the reduced network, of the kind that was given. A ratio of 0 is the original.

    Raises
    ------
    OptionError
        An agreement outside (0, 1], a tolerance outside (0, 1).
    UnattainableError
        Not even the smallest reduction agrees so often: one state less, or a share of `tolerance` less.
    SSMReduceError
        As in `compress`.

    Notes
    -----
    The original runs once on each sequence. A candidate whose start agrees is accepted without the finish; the best
    one gets it in the end.
    """
    share(agreement, "agreement", one=True)
    share(tolerance, "tolerance")
    recipe = Recipe(
        method=method,
        finish=finish,
        scope=scope,
        min_states=min_states,
        refine=refine,
        steps=steps,
        rate=rate,
        seed=seed,
    )
    net = network(obj, **options)
    require_finish(net, recipe)
    with shown(progress) as show:
        data = gather(net, batches, apart=apart, logits=logits, seed=recipe.seed, progress=show)
        model, ratio, points = _bisected(data, agreement, tolerance, recipe, show)
    live = net.with_model(model) if isinstance(obj, Network) else net.rebuild(model)
    return Search(model, ratio, data.agreement(model), 1.0, tuple(points), live)


def _bisected(
    data: Data, agreement: float, tolerance: float, recipe: Recipe, show: Progress
) -> tuple[SSMModel, float, list[SearchPoint]]:
    total = sum(data.net.model.orders.values())
    low, high = 0.0, 1.0 - _least(data.net.model, recipe) / total
    best, points, expected = None, [], math.ceil(math.log2(1 / tolerance))
    while high - low > max(tolerance, 1 / total):
        middle = (low + high) / 2
        start = start_of(data, middle, recipe, progress=show)
        value, model = data.agreement(start), start
        if value < agreement and recipe.finish is not None:
            model = completed(data, middle, recipe, start, progress=show)
            value = data.agreement(model)
        accepted = value >= agreement
        left = sum(model.orders.values())
        points.append(SearchPoint(left, 1 - left / total, value, accepted))
        show("search", len(points), max(expected, len(points)))
        if accepted:
            low, best = middle, (start, model)
        else:
            high = middle
    if best is None:
        raise UnattainableError(
            f"with {high:.1%} of the states dropped the network agrees on {points[-1].value:.2%} of the sequences kept "
            f"apart, which is less than agreement={agreement}; allow more, or give more sequences"
        )
    start, model = best
    if model is start:
        finished = completed(data, low, recipe, start)
        model = finished if data.agreement(finished) >= agreement else _without_finish(data, low, recipe, start)
    return model, 1 - sum(model.orders.values()) / total, points


def _least(model: SSMModel, recipe: Recipe) -> int:
    """States that stay at least."""
    least = 0
    for name, states in model.orders.items():
        width = len(model.state_index(name)[1]) if recipe.scope == "system" else 1
        least += min(states, width * math.ceil(recipe.min_states / width))
    return max(least, 1)


def _without_finish(data: Data, ratio: float, recipe: Recipe, start: SSMModel) -> SSMModel:
    """The start with its record, without the finish."""
    return completed(data, ratio, replace(recipe, finish=None), start)
