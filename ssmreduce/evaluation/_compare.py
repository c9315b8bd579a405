"""How reduced models differ from the original: on data, by a metric, and in the worst case."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from .._support.arguments import random_numbers, real_number, require_callable, require_kind, whole_number
from .._support.tables import Report, shown, table_of
from ..errors import ArgumentError, SelectionError, ShapeError
from ..models import SSMModel
from ..models._model import MODEL_ADVICE
from ..systems import DiagonalSSM
from ._certificates import Certificate, Original
from ._on_data import LayerErrors, OnData, add_inputs, add_noise, network_of
from ._report import compact_size


@dataclass(frozen=True)
class LayerComparison:
    r"""One layer of one reduced model.

    Attributes
    ----------
    name : str
    states : int
        Stored states that are left.
    output_error : float
        Relative RMS error of the layer's output on what the original network feeds it, on the inputs that were given,
        or on white noise.
    peak_error : float
        Proven bound on the peak gain of the error, over the peak gain of the original (see `certify`).
    h2_error : float
        H2 norm of the error over that of the original.
    multiple : float
        Proven peak gain of the error over :math:`\sigma_{r+1}`, which no system of that order can beat.
    certificate : Certificate or None
        The absolute numbers behind those three; None where nothing was certified.
    """

    name: str
    states: int
    output_error: float
    peak_error: float = float("nan")
    h2_error: float = float("nan")
    multiple: float = float("nan")
    certificate: Certificate | None = None


@dataclass(frozen=True)
class ComparisonRow:
    """One model, the original or a reduced one.

    Attributes
    ----------
    label : str
    states : int
        Of all layers.
    stored_values : int or None
        Entries of its compact arrays, None where no compact arrays hold it.
    layers : tuple of LayerComparison
    value : float or None
        What `evaluate` returned.
    network_error : float or None
        RMS error of the network's outputs over the standard deviation of the original's; the mean over the classes,
        which a softmax ignores, is left out of logits. None without a network.
    agreement : float or None
        Share of the sequences on which the largest logit is the original's. None without a network, or where its
        outputs are no logits.
    stored_bytes : int or None
        Bytes of those arrays.
    """

    label: str
    states: int
    stored_values: int | None
    layers: tuple[LayerComparison, ...]
    value: float | None = None
    network_error: float | None = None
    agreement: float | None = None
    stored_bytes: int | None = None


@dataclass(frozen=True)
class Comparison(Report):
    """What `compare` found; the first row is the original."""

    rows: tuple[ComparisonRow, ...]
    length: int
    seed: int
    inputs: str = "white noise"

    _width = 80

    def __rich__(self) -> Any:
        from rich.console import Group

        return Group(self._models(), self._layers())

    def _models(self) -> Any:
        """One line a model: what the whole network does first."""
        columns = {
            "agreement": [_shown(row.agreement, ".2%") for row in self.rows],
            "output error": [_shown(row.network_error, ".3g") for row in self.rows],
            "value": [_shown(row.value, ".4g") for row in self.rows],
        }
        columns = {heading: cells for heading, cells in columns.items() if any(cells)}
        table = table_of("against the original", "model", *columns, "states", "stored values")
        for i, row in enumerate(self.rows):
            stored = "-" if row.stored_values is None else f"{row.stored_values:,}"
            cells = (cells[i] for cells in columns.values())
            table.add_row(shown(row.label), *cells, str(row.states), stored)
        return table

    def _layers(self) -> Any:
        """One line a layer of every reduced model: its error on the data first, what is proven beside it."""
        certified = any(not np.isnan(layer.h2_error) for row in self.rows for layer in row.layers)
        headings = ["states", "output error", *(["peak", "H2", "x bound"] if certified else [])]
        title = f"relative errors; outputs on {self.length} steps of {self.inputs}"
        table = table_of(title, "layer", *headings)
        table.caption = _EXPLAINED if certified else None
        for row in self.rows[1:]:
            table.add_row(f"[bold]{shown(row.label)}[/bold]", str(row.states))
            for layer in row.layers:
                errors = (layer.output_error, *((layer.peak_error, layer.h2_error) if certified else ()))
                texts = ("" if np.isnan(error) else f"{error:.2e}" for error in errors)
                multiple = (("" if np.isnan(layer.multiple) else f"{layer.multiple:.2f}"),) if certified else ()
                table.add_row(f"  {shown(layer.name)}", str(layer.states), *texts, *multiple)
            table.add_section()
        return table


_EXPLAINED = (
    "peak, H2: over the layer's own norm, proven for every input, also for those that the data never hold. x bound: "
    "peak over the least that any system of that order can reach; a large one beside a small output error is no fault."
)


def _shown(number: float | None, form: str) -> str:
    return "" if number is None else format(number, form)


def compare(
    model: SSMModel,
    candidates: Mapping[str, SSMModel],
    *,
    network: Any = None,
    batches: Iterable[Any] | None = None,
    logits: bool | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    evaluate: Callable[[SSMModel], float] | None = None,
    certificates: bool = True,
    length: int = 1024,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    r"""Compare reduced models with the original, layer by layer and, with a network, as a whole.

    The output error is :math:`\|y - \hat y\|_2 / \|y\|_2` of each layer alone on the same input: what the original
    network feeds it on the batches, or the inputs given, or white noise. On white noise, for a stable causal layer and
    a long sequence, it tends to the relative H2 error; it also exists for unstable states. The other errors hold for
    every input, those too that the data never hold: see `certify`.

    Parameters
    ----------
    model : SSMModel
        The original.
    candidates : mapping
        Label -> reduced model with the same layers.
    network : torch.nn.Module, flax.linen.Module, equinox.Module, function or Network, optional
        The network around the layers, whose outputs are compared as well. A function is one of (model, batch,
        tap=None), as in `NumpyNetwork`.
    batches : iterable, optional
        Unlabelled batches for the network, as in `compress`.
    logits : bool, optional
        Whether the network's outputs are logits. By default outputs (batch, classes) with two classes or more are.
    inputs : mapping, optional
        Layer name -> inputs of that layer, shape (..., L, width), on which the output error is measured instead of on
        Gaussian white noise.
    evaluate : callable, optional
        From a model to a number, such as an accuracy on validation data.
    certificates : bool, default True
        Whether to certify each layer; switch it off for quick looks at large models.
    length : int
        Steps of noise.
    seed : int
    progress : callable, optional
        Called with the number of layers done, over all candidates, and of all.

    Returns
    -------
    Comparison
        ``print`` shows a table, ``to_dict()`` gives plain data.

    Raises
    ------
    ArgumentError
        A network without batches, batches without a network, or a network and inputs.
    UnknownLayerError
        A candidate, a network, or inputs without one of the layers.
    ShapeError
        Layers of different widths, or ``length < 1``.
    SelectionError
        No candidates, or one with the label ``original``.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> pruned = sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.1))
    >>> [row.states for row in sr.compare(model, {"LAST": pruned}).rows]
    [256, 230]

    The share of sequences on which the whole network says what the original says:

    >>> x = np.random.default_rng(0).random((20, 64, 1))
    >>> comparison = sr.compare(model, {"LAST": pruned}, network=sr.networks.s5_digits, batches=[x], certificates=False)
    >>> [row.agreement for row in comparison.rows]
    [1.0, 1.0]
    """
    _check(model, candidates, network, batches, inputs, evaluate)
    if (length := whole_number(length, "length")) < 1:
        raise ShapeError(f"length must be at least 1, got {length}")
    everyone = {"original": model, **candidates}
    for (label, candidate), name in product(everyone.items(), model):
        _require_fit(candidate[name], model[name], label, name)
    errors, data, what = LayerErrors(model, everyone), None, "white noise"
    if network is not None:
        data = _on_data(model, errors, network, batches, logits)
        length, what = data.length, f"the layers' inputs in {data.sequences} sequences"
    elif inputs is not None:
        length, what = add_inputs(errors, model, inputs), "the inputs given"
    else:
        add_noise(errors, model, length, random_numbers(seed))
    rows = []
    for label, candidate in everyone.items():
        orders = candidate.orders
        layers = tuple(LayerComparison(name, orders[name], errors.of(label, name)) for name in model)
        rows.append(_row(label, candidate, layers, data, evaluate))
    comparison = Comparison(tuple(rows), length, seed, what)
    if not certificates:
        return comparison
    return certified(comparison, model, candidates, {name: Original(ssm) for name, ssm in model.items()}, progress)


def _check(
    model: SSMModel, candidates: Mapping[str, SSMModel], network: Any, batches: Any, inputs: Any, evaluate: Any
) -> None:
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    require_kind(candidates, Mapping, "candidates", "label -> reduced model is needed")
    for label, candidate in candidates.items():
        require_kind(candidate, SSMModel, f"the candidate {label!r}", MODEL_ADVICE)
    if (network is None) != (batches is None):
        raise ArgumentError("network and batches go together: the network, and unlabelled batches for it")
    if network is not None and inputs is not None:
        raise ArgumentError("inputs are recorded where a network is given: leave them out")
    if evaluate is not None:
        require_callable(evaluate, "evaluate", "a function from a model to a number is needed")
    if inputs is not None:
        require_kind(inputs, Mapping, "inputs", "layer name -> array is needed")
    if not candidates:
        raise SelectionError("there is nothing to compare: give at least one candidate")
    if "original" in candidates:
        raise SelectionError("the label 'original' is taken; give the candidate another one")


def _on_data(model: SSMModel, errors: LayerErrors, network: Any, batches: Any, logits: bool | None) -> OnData:
    """Run the original on the batches; errors of the layers are summed on the way."""
    net = network_of(network, model).with_model(model)

    def visit(batch: Any, inputs: Mapping[str, np.ndarray]) -> None:
        for name, u in inputs.items():
            errors.add(name, u, net.mask(batch, u.shape[1]))

    return OnData(net, batches, logits=logits, visit=visit)


def certified(
    comparison: Comparison,
    model: SSMModel,
    candidates: Mapping[str, SSMModel],
    originals: Mapping[str, Original],
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """The comparison with certificates; each original layer serves all candidates but the model itself."""
    others = {label: candidate for label, candidate in candidates.items() if candidate is not model}
    found: dict[tuple[str, str], Certificate] = {}
    for name, original in originals.items():
        for label, candidate in others.items():
            found[label, name] = original.certificate(candidate[name])
            if progress is not None:
                progress(len(found), len(originals) * len(others))
    rows = []
    for row in comparison.rows:
        layers = (_with_certificate(layer, found.get((row.label, layer.name))) for layer in row.layers)
        rows.append(replace(row, layers=tuple(layers)))
    return replace(comparison, rows=tuple(rows))


def _with_certificate(layer: LayerComparison, certificate: Certificate | None) -> LayerComparison:
    if certificate is None:
        return layer
    return replace(
        layer,
        peak_error=certificate.relative,
        h2_error=certificate.relative_h2,
        multiple=certificate.multiple,
        certificate=certificate,
    )


def _row(
    label: str, model: SSMModel, layers: tuple[LayerComparison, ...], data: OnData | None, evaluate: Callable | None
) -> ComparisonRow:
    error, agreement = (None, None) if data is None else data.figures(model)
    value = None if evaluate is None else real_number(evaluate(model), "what evaluate returns")
    states = sum(layer.states for layer in layers)
    size = compact_size(model)
    return ComparisonRow(label, states, size.values, layers, value, error, agreement, size.nbytes)


def _require_fit(reduced: DiagonalSSM, original: DiagonalSSM, label: str, name: str) -> None:
    kinds = [(ssm.batch, ssm.inputs, ssm.outputs, ssm.bidirectional) for ssm in (reduced, original)]
    if kinds[0] != kinds[1]:
        raise ShapeError(f"layer {name!r} of {label!r} is {reduced!r}, which does not fit {original!r}")
