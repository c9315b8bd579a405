"""What a model looks like, and how reduced models differ from it: tables for people, plain data for programs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ._arrays import one_minus_abs
from .errors import NotRepresentableError, SelectionError, ShapeError
from .model import SSMModel, export
from .norms import modal_hinf_norms
from .responses import simulate
from .systems import DiagonalSSM, unstable_states


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
    """What `inspect` found: the layers, the adapter, and the number of entries of all arrays of the checkpoint."""

    layers: tuple[LayerInspection, ...]
    adapter: str
    stored_values: int

    def __rich__(self) -> Any:
        from rich.table import Table

        states = sum(layer.states for layer in self.layers)
        table = Table(title=f"{len(self.layers)} layers, {states} states, {self.stored_values:,} stored values")
        table.caption = self.adapter
        for heading in ("layer", "states", "in x out", "slowest |\u03bb|", "largest norm", "unstable"):
            table.add_column(heading, justify="left" if heading == "layer" else "right", overflow="fold")
        for layer in self.layers:
            count = f"{layer.systems} x " if layer.systems > 1 else ""
            table.add_row(
                layer.name,
                str(layer.states),
                f"{count}{layer.inputs} x {layer.outputs}",
                f"1 {'-' if layer.slowest_gap >= 0 else '+'} {abs(layer.slowest_gap):.1e}",
                f"{layer.largest_norm:.4g}",
                f"[red]{len(layer.unstable)}: {_few(layer.unstable)}[/red]" if layer.unstable else "0",
            )
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
    layers = tuple(_inspect_layer(model, name) for name in model)
    return Inspection(layers, repr(model.adapter), _stored_values(model.params))


def _inspect_layer(model: SSMModel, name: str) -> LayerInspection:
    ssm = model[name]
    gap = one_minus_abs(ssm.Lambda).ravel()
    norms = modal_hinf_norms(ssm)
    slowest = int(gap.argmin()) if gap.size else None
    return LayerInspection(
        name=name,
        systems=int(np.prod(ssm.batch, dtype=int)),
        states=model.orders[name],
        inputs=ssm.inputs,
        outputs=ssm.outputs,
        conj_sym=ssm.conj_sym,
        bidirectional=ssm.bidirectional,
        slowest_gap=1.0 if slowest is None else float(gap[slowest]),
        slowest_angle=0.0 if slowest is None else float(np.angle(ssm.Lambda.ravel()[slowest])),
        largest_norm=float(norms[np.isfinite(norms)].max(initial=0.0)),
        unstable=tuple(int(i) for i in unstable_states(ssm)),
    )


@dataclass(frozen=True)
class LayerComparison:
    """One layer of one reduced model.

    Attributes
    ----------
    name : str
    states : int
        Stored states that are left.
    output_error : float
        Relative RMS error of the layer's output on white noise.
    """

    name: str
    states: int
    output_error: float


@dataclass(frozen=True)
class ComparisonRow:
    """One reduced model: its layers, all its states, and the entries of its compact
    arrays (None where no compact arrays hold it).
    """

    label: str
    states: int
    stored_values: int | None
    layers: tuple[LayerComparison, ...]


@dataclass(frozen=True)
class Comparison(_Report):
    """What `compare` found; the first row is the original."""

    rows: tuple[ComparisonRow, ...]
    length: int
    seed: int

    def __rich__(self) -> Any:
        from rich.table import Table

        table = Table(title=f"relative output error of each layer on {self.length} steps of white noise")
        for heading in ("model", "layer", "states", "output error", "values"):
            table.add_column(heading, justify="left" if heading in ("model", "layer") else "right", overflow="fold")
        for row in self.rows:
            for layer in row.layers:
                table.add_row("", layer.name, str(layer.states), f"{layer.output_error:.3e}", "")
            count = "-" if row.stored_values is None else f"{row.stored_values:,}"
            table.add_row(f"[bold]{row.label}[/bold]", "all", str(row.states), "", count, end_section=True)
        return table


def compare(model: SSMModel, candidates: Mapping[str, SSMModel], *, length: int = 1024, seed: int = 0) -> Comparison:
    r"""Compare reduced models with the original, layer by layer.

    The error is :math:`\|y - \hat y\|_2 / \|y\|_2` of each layer alone on the same Gaussian white noise. For a stable
    causal layer and a long sequence it tends to the relative H2 error; it also exists for unstable states.

    Parameters
    ----------
    model : SSMModel
        The original.
    candidates : mapping
        Label -> reduced model with the same layers.
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
        A candidate without one of the layers.
    ShapeError
        Layers of different widths, or ``length < 1``.
    SelectionError
        No candidates.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.load("examples/s5_digits/model.safetensors")
    >>> pruned = sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.1))
    >>> [row.states for row in sr.compare(model, {"LAST": pruned}).rows]
    [256, 230]
    """
    if not candidates:
        raise SelectionError("there is nothing to compare: give at least one candidate")
    if length < 1:
        raise ShapeError(f"length must be at least 1, got {length}")
    rng = np.random.default_rng(seed)
    layers: dict[str, list[LayerComparison]] = {label: [] for label in ("original", *candidates)}
    for name, ssm in model.items():
        noise = rng.standard_normal((length, int(np.prod(ssm.batch, dtype=int)) * ssm.inputs))
        exact = simulate(ssm, noise)
        layers["original"].append(LayerComparison(name, model.orders[name], 0.0))
        for label, candidate in candidates.items():
            error = _relative(exact, _matching(candidate[name], ssm, label, name), noise)
            layers[label].append(LayerComparison(name, candidate.orders[name], error))
    everyone = {"original": model, **candidates}
    rows = tuple(
        ComparisonRow(label, sum(layer.states for layer in layers[label]), _compact_size(everyone[label]), tuple(rest))
        for label, rest in layers.items()
    )
    return Comparison(rows, length, seed)


def _matching(reduced: DiagonalSSM, original: DiagonalSSM, label: str, name: str) -> DiagonalSSM:
    if (reduced.batch, reduced.inputs, reduced.outputs) != (original.batch, original.inputs, original.outputs):
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
