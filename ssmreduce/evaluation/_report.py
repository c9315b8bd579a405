"""What a model looks like: `inspect`."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .._support.arguments import require_kind
from .._support.arrays import one_minus_abs
from .._support.tables import Report, shown, table_of
from ..errors import NotRepresentableError
from ..models import SSMModel, export
from ..models._model import MODEL_ADVICE
from ..norms import modal_hinf_norms


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
    """What `inspect` found: the layers, the adapter, the entries and bytes of all arrays (None where no compact ones
    fit), and which checksums of the file were verified (empty where it has none).
    """

    layers: tuple[LayerInspection, ...]
    adapter: str
    stored_values: int | None
    checksum: str = ""
    stored_bytes: int | None = None

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
    size = compact_size(model)
    return Inspection(layers, repr(model.adapter), size.values, model.checksum, size.nbytes)


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


class Size(NamedTuple):
    """Of the compact arrays of a model; None where none fit."""

    values: int | None
    nbytes: int | None


def compact_size(model: SSMModel) -> Size:
    """Entries and bytes of the compact arrays."""
    try:
        params = export(model)
    except NotRepresentableError:
        return Size(None, None)
    arrays = [leaf for leaf in params.values() if isinstance(leaf, np.ndarray)]
    return Size(sum(array.size for array in arrays), sum(array.nbytes for array in arrays))
