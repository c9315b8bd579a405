"""What a model looks like: tables for people, plain data for programs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .._support.arguments import require_kind
from .._support.arrays import one_minus_abs
from ..errors import NotRepresentableError, printable
from ..models import SSMModel, export
from ..models._model import MODEL_ADVICE
from ..norms import modal_hinf_norms


class Report(ABC):
    """Text by rich, plain data by dataclasses."""

    _width = 110

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=self._width, force_terminal=False)
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
class Inspection(Report):
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
    >>> sr.inspect(sr.models.example()).layers[0].states
    64
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    layers = tuple(_inspect_layer(model, name) for name in model)
    return Inspection(layers, repr(model.adapter), compact_size(model), model.checksum)


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


def compact_size(model: SSMModel) -> int | None:
    """Entries of the compact arrays, None where none fit."""
    try:
        params = export(model)
    except NotRepresentableError:
        return None
    return _stored_values(params)


def _stored_values(params: Mapping[str, Any]) -> int:
    return sum(leaf.size for leaf in params.values() if isinstance(leaf, np.ndarray))
