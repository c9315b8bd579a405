"""What `compress` and `search` do with a live network that has Mamba-1 or Mamba-2 mixers."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..._support.arguments import require_batches, share
from ...errors import OptionError, SelectionError, UnattainableError
from ...networks._batches import Inputs, arguments
from ...networks._torch import RECORD_ATTRIBUTE
from ._progress import Progress, named, shown
from ._search import Search, SearchPoint
from ._selective import SelectiveCompression, compress_selective

OPTIONS = ("methods", "stock", "probes", "joint", "refine_options")
"""Options of `compress_selective` that `compress` and `search` pass on."""

RATIOS = (0.97, 0.95, 0.9, 0.85, 0.75, 0.5, 0.25)
"""Shares of the states that `search_selective` tries."""


def compress_mixers(
    module: Any,
    batches: Iterable[Any],
    *,
    ratio: float,
    apart: float,
    seed: int,
    progress: bool | Progress | None,
    inputs: Inputs = None,
    **options: Any,
) -> Any:
    """The live network with smaller mixers, and the record of how they were chosen."""
    _require_known(options)
    with shown(progress) as show:
        result = compress_selective(
            module,
            unlabelled(batches, inputs),
            ratio=ratio,
            held=apart,
            seed=seed,
            progress=named(show, "reduce"),
            **options,
        )
    return with_record(result, "compress", ratio)


def search_selective(
    module: Any,
    batches: Iterable[Any],
    *,
    agreement: float = 0.99,
    ratios: tuple[float, ...] = RATIOS,
    apart: float = 0.25,
    seed: int = 0,
    progress: bool | Progress | None = None,
    inputs: Inputs = None,
    **options: Any,
) -> Search:
    """The smallest of several sizes of the mixers whose outputs agree with the full network's on data held apart.

    Parameters
    ----------
    module : torch.nn.Module
        With Mamba-1 or Mamba-2 mixers.
    batches : iterable
        As in `compress`.
    agreement : float, default 0.99
        Share of the held-apart positions at which the largest output must be the same.
    ratios : tuple of float
        Shares of the states to remove, tried from the largest on.
    apart, seed, progress, inputs
        As in `compress`.
    **options
        ``methods``, ``stock``, ``probes``, ``joint``, ``refine_options``, as in `compress_selective`.

    Returns
    -------
    Search
        `live` is the reduced network; `model` its layers, by name of mixer.

    Raises
    ------
    UnattainableError
        No ratio reaches the agreement.
    OptionError, SelectionError
        An unknown option, or an agreement outside (0, 1].

    Examples
    --------
    >>> import torch
    >>> from ssmreduce.networks import SelectiveMixer
    >>> from ssmreduce.reduction.calibrated import search_selective
    >>> from ssmreduce.selective import random_layer
    >>> net = torch.nn.Sequential(SelectiveMixer(random_layer("mamba2", width=8, order=8)), torch.nn.Linear(8, 5))
    >>> data = [torch.randn(16, 32, 8, generator=torch.manual_seed(0))]
    >>> result = search_selective(net, data, agreement=0.8, ratios=(0.5, 0.25, 0.0), methods="rotate")
    >>> result.value >= 0.8, result.live[0].order
    (True, 4)
    """
    _require_known(options)
    share(agreement, "agreement", one=True)
    sequences, points = unlabelled(batches, inputs), []
    with shown(progress) as show:
        for number, ratio in enumerate(sorted(ratios, reverse=True)):
            result = compress_selective(module, sequences, ratio=ratio, held=apart, seed=seed, **options)
            states, value = sum(layer.order for layer in result.layers.values()), result.chosen.agreement
            points.append(SearchPoint(states, ratio, value, value >= agreement))
            show("search", number + 1, len(ratios))
            if value >= agreement:
                live = with_record(result, "search", ratio)
                return Search(result.layers, ratio, value, 1.0, tuple(points), live)
    best = max((point.value for point in points), default=0.0)
    raise UnattainableError(f"no ratio in {tuple(ratios)} reaches an agreement of {agreement}; the best is {best:.4f}")


def unlabelled(batches: Iterable[Any], inputs: Inputs) -> list[Any]:
    """What the network is called with, batch by batch; padding is refused."""
    require_batches(batches)
    return [_unlabelled(batch, inputs) for batch in batches]


def _unlabelled(batch: Any, inputs: Inputs) -> Any:
    if isinstance(batch, Mapping) and "attention_mask" in batch and not bool((batch["attention_mask"] != 0).all()):
        raise SelectionError(
            "a batch has padding (zeros in its attention_mask); selective layers are reduced on whole sequences: give "
            "batches of one length each"
        )
    args, kwargs = arguments(batch, inputs)
    return kwargs or (args[0] if len(args) == 1 else args)


def with_record(result: SelectiveCompression, verb: str, ratio: float) -> Any:
    """The network of a compression, which carries what was done as PyTorch networks of `compress` do."""
    record = {
        "verb": verb,
        "ratio": ratio,
        "method": result.method,
        "orders": {name: layer.order for name, layer in result.layers.items()},
        "agreement": result.chosen.agreement,
        "divergence": result.chosen.divergence,
        "candidates": {c.method: {"agreement": c.agreement, "divergence": c.divergence} for c in result.candidates},
    }
    setattr(result.network, RECORD_ATTRIBUTE, json.dumps(record))
    return result.network


def _require_known(options: Mapping[str, Any]) -> None:
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise OptionError(
            f"{', '.join(unknown)} does not apply to a network with Mamba mixers; its options: {', '.join(OPTIONS)}"
        )
