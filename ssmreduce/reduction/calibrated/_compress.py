"""A smaller network from unlabelled sequences, in one call."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..._support.arguments import real_number, share, whole_number
from ...calibration import Calibration
from ...errors import ArgumentError, OptionError, SelectionError, UnknownNameError
from ...models import SSMModel
from ...models._model import write_states
from ...networks import RECORD, Network, network
from ...networks._selective import has_mixers
from ...selection import elimination_path, elimination_scores, prune, select
from ...selection._outputs import RIDGE
from ._coordinates import ModelCoordinates
from ._finish import OutputError, adam, pieces
from ._gauss_newton import gauss_newton
from ._network_data import Part, batch_list, kept_apart, moments_of, recorded, summed
from ._progress import Progress, named, shown
from ._refit import fitted_outputs
from ._selective_verbs import compress_mixers
from ._sequential import refit_parts

METHODS = ("eliminate", "sequential")
FINISHES = ("adam", "gauss_newton", None)
_FULL_RATE = (
    0.25  # relative squared output error of a start from which Adam's full rate is used; less, the nearer it is
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How `compress` makes a network smaller; its options, see there."""

    method: str = "sequential"
    finish: str | None = "adam"
    scope: str = "layer"
    min_states: int = 1
    refine: int = 0
    steps: int = 400
    rate: float = 0.06
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UnknownNameError(f"there is no method {self.method!r}; choose from {', '.join(METHODS)}")
        if self.finish not in FINISHES:
            raise UnknownNameError(f"there is no finish {self.finish!r}; choose from {', '.join(map(str, FINISHES))}")
        for name in ("min_states", "refine", "steps", "seed"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name))
        if not 0 < real_number(self.rate, "rate") < np.inf:
            raise OptionError(f"rate must be a positive number, got {self.rate}")

    def require_defaults(self) -> None:
        """Raise where something else than the seed was chosen, of what a network with Mamba mixers has no use for."""
        changed = [name for name, value in asdict(self).items() if name != "seed" and value != getattr(Recipe, name)]
        if changed:
            raise OptionError(f"{', '.join(changed)} does not apply to a network with Mamba mixers; give methods=...")


@dataclass(frozen=True, eq=False)
class Data:
    """Sequences to fit on and sequences kept apart, with what the original makes of them."""

    net: Network
    fit: Sequence[Part]
    apart: Sequence[Part]
    error: OutputError
    calibration: Calibration

    def agreement(self, model: SSMModel) -> float:
        """Share of the outputs kept apart that have the largest entry where the original has it.

        Of outputs that are no logits: 1 minus the root of their mean relative squared error.
        """
        if not self.error.logits:
            return 1.0 - float(np.sqrt(self.error.mean(self.net, model, self.apart)))
        same = [self.net.outputs(model, p.batch).argmax(-1) == p.outputs.argmax(-1) for p in self.apart]
        return float(np.concatenate([np.ravel(part) for part in same]).mean())


def compress(
    obj: Any,
    batches: Iterable[Any],
    *,
    ratio: float = 0.8,
    method: str = "sequential",
    finish: str | None = "adam",
    scope: str = "layer",
    min_states: int = 1,
    refine: int = 0,
    steps: int = 400,
    rate: float = 0.06,
    apart: float = 0.2,
    logits: bool | None = None,
    seed: int = 0,
    progress: bool | Progress | None = None,
    **options: Any,
) -> Any:
    r"""Smaller network from unlabelled sequences.

    States leave by their cost on the data (`eliminate`), the outputs of the layers are fitted one after the other
    (`refit_network`), and all parameters of the layers' systems are moved together until the network's outputs match
    the original's. What is done is kept only if it lowers the output error on sequences that are kept apart.

    A PyTorch network with Mamba-1 or Mamba-2 mixers is made smaller as in
    `ssmreduce.reduction.calibrated.compress_selective`: every layer loses the same share of its states, by the method
    whose outputs are nearest to the original's on the sequences kept apart.

    Parameters
    ----------
    obj : torch.nn.Module, flax.linen.Module, equinox.Module or Network
        The trained network, which is not changed.
    batches : iterable
        Unlabelled data, a few hundred sequences or more: a list of batches or a data loader. A batch is what the
        network takes, or a tuple, list or dictionary that has it as its first element (`inputs` says which else), such
        as one with labels, which are not looked at.
    ratio : float, default 0.8
        Share of all states to drop, in [0, 1).
    method : {"sequential", "eliminate"}
        ``eliminate`` leaves out `refit_network`.
    finish : {"adam", "gauss_newton", None}
        How the outputs are matched; ``gauss_newton`` is for very few states. None leaves the finish out; a network
        that cannot be differentiated (a NumPy function) needs that.
    scope : {"layer", "system"}
        ``system``: the features of S4D keep the same number of states each, which the family's own code needs; by
        default each keeps its own number, down to none.
    min_states : int, default 1
        Every layer keeps at least this many.
    refine : int, default 0
        As in `refit_network`.
    steps : int, default 400
        Steps of Adam.
    rate : float, default 0.06
        Its largest learning rate, in coordinates in which a step of 1 changes an output by its own root mean square;
        less where the start is close already.
    apart : float, default 0.2
        Share of the sequences that is kept apart, to decide what is kept.
    logits : bool, optional
        Whether the outputs are logits, of which a common constant does not count. By default they are if they have
        shape (batch, classes) with two classes or more; give False for forecasts of several numbers.
    seed : int, default 0
        Of the sequences that are kept apart and of the order of the steps.
    progress : bool or callable, optional
        True for a bar, False for none, or a function of (text, done, total). By default a bar on a terminal.
    **options
        Of `network`: ``adapter``, ``inputs``, ``mask``, ``output``, ``channels_first``. With Mamba mixers ``inputs``,
        ``methods``, ``stock``, ``probes``, ``joint`` and ``refine_options``, and of the others above only `ratio`,
        `apart`, `seed` and `progress`.

    Returns
    -------
    object
        Of the kind of `obj`: a new module with drop-in layers in place of its own, or a network whose `model` has the
        smaller systems. ``network(result).model.metadata["ssmreduce.record"]`` tells what was done, and the output
        error and agreement on the sequences kept apart.

    Raises
    ------
    ArgumentError
        An object that is no network, one array for a list of batches, or a finish of what cannot be differentiated.
    OptionError, SelectionError
        An option that does not exist or is out of its range, or such a ratio.
    ShapeError
        No sequences, or too few to keep some apart.
    EvaluationError, NonFiniteError
        A network that fails, returns no numbers, or is not the network of its systems.

    Notes
    -----
    The error is the mean squared difference of the outputs (centred, for logits) over their variance. The original
    runs once on each sequence. Layer inputs of the fit are held in memory up to 1 GiB; further sequences take part in
    the finish only.

    Examples
    --------
    >>> import ssmreduce as sr, torch
    >>> layer = sr.networks.SSMLayer(sr.models.example()["layers.0.seq"])
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 32), layer)
    >>> x = torch.rand(20, 16, 1, generator=torch.manual_seed(0))
    >>> small = sr.compress(module, [x], ratio=0.9, steps=5)
    >>> small(x).shape, sum(sr.network(small).model.orders.values())
    (torch.Size([20, 16, 32]), 6)
    """
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
    if has_mixers(obj):
        recipe.require_defaults()
        return compress_mixers(obj, batches, ratio=ratio, apart=apart, seed=recipe.seed, progress=progress, **options)
    net = network(obj, **options)
    require_finish(net, recipe)
    with shown(progress) as show:
        data = gather(net, batches, apart=apart, logits=logits, seed=recipe.seed, progress=show)
        model = compressed(data, ratio, recipe, progress=show)
    return net.with_model(model) if isinstance(obj, Network) else net.rebuild(model)


def require_finish(net: Network, recipe: Recipe) -> None:
    """Raise where a network cannot be finished."""
    if recipe.finish is not None and not net.differentiable:
        raise ArgumentError(
            f"finish={recipe.finish!r} needs the gradients of a live PyTorch, Flax or Equinox network, and "
            f"{type(net).__name__} has none: give finish=None"
        )


def gather(
    net: Network,
    batches: Iterable[Any],
    *,
    apart: float,
    logits: bool | None,
    seed: int,
    progress: Progress = lambda *_: None,
) -> Data:
    """Split the sequences, run the original once on each, and sum the moments of its layers."""
    fit, held = kept_apart(batch_list(batches), apart, seed)
    parts = recorded(net, fit, progress=named(progress, "original"))
    if logits is None:
        logits = parts[0].outputs.ndim == 2 and parts[0].outputs.shape[1] > 1
    moments = summed(moments_of(net, net.model, part.batch, part.inputs) for part in parts if part.inputs)
    error = OutputError.of(parts, logits=bool(logits))
    return Data(net, parts, recorded(net, held, inputs=False), error, Calibration(moments))


def compressed(data: Data, ratio: float, recipe: Recipe, *, progress: Progress = lambda *_: None) -> SSMModel:
    """The reduced model, with its record."""
    start = start_of(data, ratio, recipe, progress=progress)
    return completed(data, ratio, recipe, start, progress=progress)


def start_of(data: Data, ratio: float, recipe: Recipe, *, progress: Progress = lambda *_: None) -> SSMModel:
    """The reduced model before the finish."""
    full = data.net.model
    if all(full.state_index(name)[1].all() for name in full):
        model = _eliminated(data, recipe, ratio=ratio)
    else:  # `select` would count the empty slots of systems with fewer states than the largest
        states = sum(full.orders.values())
        dropped = share(ratio, "ratio", zero=True, error=SelectionError)
        model = _eliminated(data, recipe, count=math.floor((1 - dropped + 1e-9) * states))
    if recipe.method == "eliminate":
        return model
    show = named(progress, "refit")
    refitted = refit_parts(data.net, model, data.fit, refine=recipe.refine, feedthrough=True, progress=show)
    return better(data, model, refitted)[0]


def _eliminated(data: Data, recipe: Recipe, **rule: Any) -> SSMModel:
    """What `eliminate` gives, also of families that cannot hold the fitted outputs."""
    full = data.net.model
    scores = elimination_scores(elimination_path(full, data.calibration, feedthrough=True), scope=recipe.scope)
    small = prune(full, select(scores, min_states=recipe.min_states, scope=recipe.scope, **rule))
    result = small
    for name, moments in data.calibration.items():
        result = write_states(result, name, fitted_outputs(small, moments, full, name, ridge=RIDGE, feedthrough=True))
    return result


def completed(
    data: Data, ratio: float, recipe: Recipe, start: SSMModel, *, progress: Progress = lambda *_: None
) -> SSMModel:
    """The better of the start and what the finish makes of it, with the record of both."""
    model, error = start, data.error.mean(data.net, start, data.apart)
    record = {"verb": "compress", "ratio": ratio, **asdict(recipe), "error_before_finish": error}
    if recipe.finish is not None:
        model, error = better(data, start, finished(data, start, recipe, progress=progress))
    record |= {
        "finish_kept": model is not start,
        "orders_before": data.net.model.orders,
        "orders": model.orders,
        "error": error,
        "agreement": data.agreement(model),
        "sequences": sum(map(len, data.fit)),
        "sequences_apart": sum(map(len, data.apart)),
    }
    return replace(model, metadata={**model.metadata, RECORD: json.dumps(record)})


def better(data: Data, *models: SSMModel) -> tuple[SSMModel, float]:
    """The model whose outputs are nearest to the original's on the sequences kept apart, and its error."""
    errors = [data.error.mean(data.net, model, data.apart) for model in models]
    best = int(np.argmin(errors))
    return models[best], errors[best]


def finished(data: Data, start: SSMModel, recipe: Recipe, *, progress: Progress = lambda *_: None) -> SSMModel:
    """The start after the finish, whether it is better or not."""
    net = data.net
    own = summed(
        moments_of(net, start, part.batch, net.layer_inputs(start, part.batch)) for part in data.fit if part.inputs
    )
    coordinates = ModelCoordinates(start, own)
    parts = pieces(data.fit, recipe.seed)
    show = named(progress, "finish")
    if recipe.finish == "gauss_newton":
        variables = gauss_newton(net, coordinates, data.fit, data.error, progress=show)
    else:
        rate = recipe.rate * min(1.0, (data.error.mean(net, start, data.fit) / _FULL_RATE) ** 0.75)
        variables = adam(
            net, coordinates, parts, data.error, steps=recipe.steps, rate=rate, seed=recipe.seed, progress=show
        )
    return _kept_selection(start, coordinates.model(variables))


def _kept_selection(start: SSMModel, moved: SSMModel) -> SSMModel:
    """The moved systems as states of the model family where it holds them, so that its files do too."""
    result = start
    for name, ssm in moved.items():
        result = write_states(result, name, ssm)
    return result
