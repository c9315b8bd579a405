"""What a model looks like, and how reduced models differ from it: tables for people, plain data for programs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .._support.arguments import random_numbers, real_number, require_callable, require_kind, whole_number
from .._support.arrays import as_double, numbers_of, one_minus_abs
from ..errors import NotRepresentableError, SelectionError, ShapeError, UnknownLayerError, printable
from ..models import SSMModel, export
from ..models._model import MODEL_ADVICE
from ..norms import modal_hinf_norms
from ..responses import simulate
from ..systems import DiagonalSSM
from ._certificates import certify


class _Report(ABC):
    """Text by rich, plain data by dataclasses."""

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=110, force_terminal=False)
        with console.capture() as capture:
            console.print(self)
        return capture.get().rstrip("\n")

    @abstractmethod
    def __rich__(self) -> Any:
        """Table that rich prints."""

    def to_dict(self) -> dict:
        """Plain data for JSON; infinite numbers become None."""
        return _finite(asdict(self))  # type: ignore[call-overload]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


@dataclass(frozen=True)
class LayerInspection:
    """One layer: sizes, the slowest pole, the largest state norm, unstable states.

    Attributes
    ----------
    name : str
    systems : int
        Number of independent systems (S4D: features).
    states : int
        Stored states that are left, over all systems.
    inputs, outputs : int
        Of one system.
    conj_sym, bidirectional : bool
    slowest_gap : float
        1 - max(abs(lambda)); negative if a state is unstable.
    slowest_angle : float
        Angle of that pole, rad/sample.
    largest_norm : float
        Largest H-infinity norm of a single stable state (`modal_hinf_norms`).
    unstable : tuple of int
        States on or outside the unit circle, as flat indices.
    """

    name: str
    systems: int
    states: int
    inputs: int
    outputs: int
    conj_sym: bool
    bidirectional: bool
    slowest_gap: float
    slowest_angle: float
    largest_norm: float
    unstable: tuple[int, ...]


@dataclass(frozen=True)
class Inspection(_Report):
    """What `inspect` found: the layers, the adapter, the entries of all arrays (None where no compact ones fit), and
    which checksums of the file were verified (empty where it has none).
    """

    layers: tuple[LayerInspection, ...]
    adapter: str
    stored_values: int | None
    checksum: str = ""

    def __rich__(self) -> Any:
        states = sum(layer.states for layer in self.layers)
        stored = "" if self.stored_values is None else f", {self.stored_values:,} stored values"
        headings = ("layer", "states", "in x out", "slowest pole", "largest norm", "unstable")
        table = table_of(f"{len(self.layers)} layers, {states} states{stored}", *headings)
        checked = f"file verified by {self.checksum}" if self.checksum else "no checksum to verify"
        table.caption = shown(f"{self.adapter}; {checked}")
        for layer in self.layers:
            count = f"{layer.systems} x " if layer.systems > 1 else ""
            table.add_row(
                shown(layer.name),
                str(layer.states),
                f"{count}{layer.inputs} x {layer.outputs}",
                f"1 {'-' if layer.slowest_gap >= 0 else '+'} {abs(layer.slowest_gap):.1e}",
                f"{layer.largest_norm:.4g}",
                f"[red]{len(layer.unstable)}: {_few(layer.unstable)}[/red]" if layer.unstable else "0",
            )
        return table


def shown(name: str) -> str:
    """A name as it is printed: neither markup nor control characters."""
    from rich.markup import escape

    return escape(printable(name).replace("\n", "\\n"))


def table_of(title: str, *headings: str) -> Any:
    """Table whose first column folds where the terminal is narrow; numbers stay whole."""
    from rich.table import Table

    table = Table(title=shown(title))
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", overflow="fold", no_wrap=i > 0)
    return table


def _few(indices: tuple[int, ...]) -> str:
    return ", ".join(map(str, indices[:6])) + (", ..." if len(indices) > 6 else "")


def inspect(model: SSMModel) -> Inspection:
    """Sizes, slowest poles, largest state norms and unstable states of every layer.

    Parameters
    ----------
    model : SSMModel

    Returns
    -------
    Inspection
        ``print`` shows a table, ``to_dict()`` gives plain data.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> sr.inspect(sr.load("examples/s5_digits/model.safetensors")).layers[0].states
    64
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    layers = tuple(_inspect_layer(model, name) for name in model)
    return Inspection(layers, repr(model.adapter), _compact_size(model), model.checksum)


def _inspect_layer(model: SSMModel, name: str) -> LayerInspection:
    ssm = model[name]
    left = model.state_index(name)[1].reshape(ssm.Lambda.shape)  # the other slots hold no state
    gap = np.where(left, one_minus_abs(ssm.Lambda), 1.0).ravel()
    norms = modal_hinf_norms(ssm)
    slowest = int(gap.argmin()) if gap.size else None
    return LayerInspection(
        name=name,
        systems=ssm.systems,
        states=model.orders[name],
        inputs=ssm.inputs,
        outputs=ssm.outputs,
        conj_sym=ssm.conj_sym,
        bidirectional=ssm.bidirectional,
        slowest_gap=1.0 if slowest is None else float(gap[slowest]),
        slowest_angle=0.0 if slowest is None else float(np.angle(ssm.Lambda.ravel()[slowest])),
        largest_norm=float(norms[np.isfinite(norms)].max(initial=0.0)),
        unstable=tuple(int(i) for i in np.flatnonzero(gap <= 0)),
    )


@dataclass(frozen=True)
class LayerComparison:
    r"""One layer of one reduced model.

    Attributes
    ----------
    name : str
    states : int
        Stored states that are left.
    output_error : float
        Relative RMS error of the layer's output on white noise, or on the inputs that were given.
    peak_error : float
        Proven bound on the peak gain of the error, over the peak gain of the original (see `certify`).
    h2_error : float
        H2 norm of the error over that of the original.
    multiple : float
        Proven peak gain of the error over :math:`\sigma_{r+1}`, which no system of that order can beat.
    """

    name: str
    states: int
    output_error: float
    peak_error: float = float("nan")
    h2_error: float = float("nan")
    multiple: float = float("nan")


@dataclass(frozen=True)
class ComparisonRow:
    """One reduced model: its layers, all its states, the entries of its compact arrays (None where no compact arrays
    hold it), and what `evaluate` returned.
    """

    label: str
    states: int
    stored_values: int | None
    layers: tuple[LayerComparison, ...]
    value: float | None = None


@dataclass(frozen=True)
class Comparison(_Report):
    """What `compare` found; the first row is the original."""

    rows: tuple[ComparisonRow, ...]
    length: int
    seed: int
    inputs: str = "white noise"

    def __rich__(self) -> Any:
        headings = ["layer", "states", "rel. output", "rel. peak", "rel. H2", "x lower bound", "values"]
        headings += ["value"] if self.rows[0].value is not None else []
        table = table_of(f"errors against the original; outputs on {self.length} steps of {self.inputs}", *headings)
        for row in self.rows:
            for layer in row.layers:
                errors = (layer.output_error, layer.peak_error, layer.h2_error)
                texts = ("" if np.isnan(error) else f"{error:.3e}" for error in errors)
                multiple = "" if np.isnan(layer.multiple) else f"{layer.multiple:.2f}"
                table.add_row(f"  {shown(layer.name)}", str(layer.states), *texts, multiple, "")
            count = "-" if row.stored_values is None else f"{row.stored_values:,}"
            value = () if row.value is None else (f"{row.value:.4g}",)
            cells = (f"[bold]{shown(row.label)}[/bold]", str(row.states), *[""] * 4, count, *value)
            table.add_row(*cells, end_section=True)
        return table


def compare(
    model: SSMModel,
    candidates: Mapping[str, SSMModel],
    *,
    inputs: Mapping[str, np.ndarray] | None = None,
    evaluate: Callable[[SSMModel], float] | None = None,
    certificates: bool = True,
    length: int = 1024,
    seed: int = 0,
) -> Comparison:
    r"""Compare reduced models with the original, layer by layer.

    The output error is :math:`\|y - \hat y\|_2 / \|y\|_2` of each layer alone on the same input. On white noise, for a
    stable causal layer and a long sequence, it tends to the relative H2 error; it also exists for unstable states. The
    other errors hold for every input: see `certify`.

    Parameters
    ----------
    model : SSMModel
        The original.
    candidates : mapping
        Label -> reduced model with the same layers.
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

    Returns
    -------
    Comparison
        ``print`` shows a table, ``to_dict()`` gives plain data.

    Raises
    ------
    UnknownLayerError
        A candidate, or inputs, without one of the layers.
    ShapeError
        Layers of different widths, or ``length < 1``.
    SelectionError
        No candidates, or one with the label ``original``.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.load("examples/s5_digits/model.safetensors")
    >>> pruned = sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.1))
    >>> [row.states for row in sr.compare(model, {"LAST": pruned}).rows]
    [256, 230]
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    require_kind(candidates, Mapping, "candidates", "label -> reduced model is needed")
    for label, candidate in candidates.items():
        require_kind(candidate, SSMModel, f"the candidate {label!r}", MODEL_ADVICE)
    if evaluate is not None:
        require_callable(evaluate, "evaluate", "a function from a model to a number is needed")
    if inputs is not None:
        require_kind(inputs, Mapping, "inputs", "layer name -> array is needed")
    if not candidates:
        raise SelectionError("there is nothing to compare: give at least one candidate")
    if (length := whole_number(length, "length")) < 1:
        raise ShapeError(f"length must be at least 1, got {length}")
    if "original" in candidates:
        raise SelectionError("the label 'original' is taken; give the candidate another one")
    everyone = {"original": model, **candidates}
    rng = random_numbers(seed)
    layers: dict[str, list[LayerComparison]] = {label: [] for label in everyone}
    for name, ssm in model.items():
        noise = rng.standard_normal((length, ssm.systems * ssm.inputs))
        u = noise if inputs is None else _given(inputs, name)
        exact = simulate(ssm, u)
        for label, candidate in everyone.items():
            reduced = _matching(candidate[name], ssm, label, name)
            certified = _certified(ssm, reduced) if certificates and candidate is not model else ()
            error = 0.0 if candidate is model else _relative(exact, reduced, u)
            layers[label].append(LayerComparison(name, candidate.orders[name], error, *certified))
    rows = tuple(_row(label, one, layers[label], evaluate) for label, one in everyone.items())
    if inputs is None:
        return Comparison(rows, length, seed)
    return Comparison(rows, np.shape(next(iter(inputs.values())))[-2], seed, "the inputs given")


def _given(inputs: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in inputs:
        raise UnknownLayerError(f"inputs hold nothing for layer {name!r}; they have {', '.join(inputs)}")
    what = f"the input of layer {name!r}"
    return as_double(numbers_of(inputs[name], what), complex_=False, name=what)


def _certified(ssm: DiagonalSSM, reduced: DiagonalSSM) -> tuple[float, float, float]:
    certificate = certify(ssm, reduced)
    return certificate.relative, certificate.relative_h2, certificate.multiple


def _row(label: str, model: SSMModel, layers: list[LayerComparison], evaluate: Callable | None) -> ComparisonRow:
    value = None if evaluate is None else real_number(evaluate(model), "what evaluate returns")
    return ComparisonRow(label, sum(layer.states for layer in layers), _compact_size(model), tuple(layers), value)


def _matching(reduced: DiagonalSSM, original: DiagonalSSM, label: str, name: str) -> DiagonalSSM:
    kinds = [(ssm.batch, ssm.inputs, ssm.outputs, ssm.bidirectional) for ssm in (reduced, original)]
    if kinds[0] != kinds[1]:
        raise ShapeError(f"layer {name!r} of {label!r} is {reduced!r}, which does not fit {original!r}")
    return reduced


def _relative(exact: np.ndarray, reduced: DiagonalSSM, noise: np.ndarray) -> float:
    size = np.linalg.norm(exact)
    error = np.linalg.norm(exact - simulate(reduced, noise))
    return float(error / size) if size else float(error)


def _compact_size(model: SSMModel) -> int | None:
    try:
        params = export(model)
    except NotRepresentableError:
        return None
    return _stored_values(params)


def _stored_values(params: Mapping[str, Any]) -> int:
    return sum(leaf.size for leaf in params.values() if isinstance(leaf, np.ndarray))
