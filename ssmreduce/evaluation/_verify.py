"""Whether a model computes what the original computes, and what it would take: what no file can tell."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np

from .._support.arguments import positive_integer
from .._support.arrays import as_double, numbers_of
from .._support.tables import Report, shown, table_of
from ..adapters._alternatives import other_flags, square_arrays, transposed, with_flag
from ..errors import ArgumentError, OptionError, ShapeError, SSMReduceError
from ..models import SSMModel
from ..networks import Network, network
from ..responses import simulate
from ..systems import DiagonalSSM

_SHOWN = 3  # alternatives, where none fits


@dataclass(frozen=True)
class Alternative:
    """Another reading of the same arrays.

    Attributes
    ----------
    changes : tuple of str
        What differs from the model as it was read.
    error : float
        Relative RMS error of its output.
    """

    changes: tuple[str, ...]
    error: float


@dataclass(frozen=True)
class Verification(Report):
    """What `verify` found.

    Attributes
    ----------
    what : str
        The layer, or ``"network"``.
    error : float
        Relative RMS error of the model as it was read.
    rtol : float
        The largest error that counts as a fit.
    alternatives : tuple of Alternative
        The readings with the fewest changes that fit; where none fits, the three nearest. Empty where the model fits.
    tried : int
        Number of other readings that were tried.
    """

    what: str
    error: float
    rtol: float
    alternatives: tuple[Alternative, ...]
    tried: int

    @property
    def holds(self) -> bool:
        """Whether the model as it was read fits."""
        return self.error <= self.rtol

    def __rich__(self) -> Any:
        table = table_of(f"{self.what} against the recorded output", "reading", "relative error", "fits")
        for changes, error in ((("as read",), self.error), *((a.changes, a.error) for a in self.alternatives)):
            table.add_row(shown("; ".join(changes)), f"{error:.1e}", "yes" if error <= self.rtol else "no")
        table.caption = shown(self._verdict())
        return table

    def _verdict(self) -> str:
        if self.holds:
            return "the model computes what was recorded"
        if any(other.error <= self.rtol for other in self.alternatives):
            return f"{self.tried} other readings tried; those that fit are shown"
        return f"none of {self.tried} other readings fits; was the output recorded right behind the layer?"


@dataclass(frozen=True)
class _Reading:
    """A model, changes of its systems, and the kind of its reverse half."""

    model: SSMModel
    strict: bool
    systems: tuple[Callable[[DiagonalSSM], DiagonalSSM], ...] = ()

    def system(self, name: str) -> DiagonalSSM:
        ssm = self.model[name]
        for change in self.systems:
            ssm = change(ssm)
        return ssm


_Change = Callable[[_Reading], _Reading]


def verify(obj: Any, u: Any, y: Any, *, layer: str | None = None, rtol: float = 1e-3, changes: int = 3) -> Verification:
    """Compare a layer, or a network, with a recorded output of the original, and look for what would fit.

    What a file cannot tell (``conj_sym``, the discretisation, which way round a square matrix is stored) makes another
    valid model. One output of the original decides. Where the model does not fit, other values of the adapter's flags,
    transposed square matrices and other readings of a reverse half are tried, first one at a time, then together.

    Parameters
    ----------
    obj : SSMModel or Network
        As it was read. A network (or a live module) runs with the other readings of its `Network.model` in place.
    u : array, shape (..., L, inputs)
        What went into the layer; of a network, a batch.
    y : array, shape (..., L, outputs)
        What the layer of the original gave, before whatever follows it (activation, dropout, mixing); of a network,
        its outputs.
    layer : str, optional
        Name of the layer; it can be left out where the model has one.
    rtol : float, default 1e-3
        Largest relative RMS error that counts as a fit.
    changes : int, default 3
        Most changes that are tried together.

    Returns
    -------
    Verification
        ``print`` shows a table; `Verification.holds` says whether the model fits as it was read.

    Raises
    ------
    ArgumentError
        No model or network, a model that was pruned or reduced, or several layers and none named.
    UnknownLayerError
        No such layer.
    ShapeError
        A recorded output of another shape than that of the model.
    OptionError
        An output that is 0 everywhere, which tells nothing, or a tolerance that is not positive.
    NonFiniteError
        NaN or infinite values.

    Notes
    -----
    Flags that are numbers (step sizes, lengths) are not searched. An arrangement that fits is no proof for inputs of
    another kind: record a sequence that is long and rich, such as noise.

    Examples
    --------
    >>> import numpy as np
    >>> import ssmreduce as sr
    >>> original = sr.models.example()
    >>> u = np.random.default_rng(0).standard_normal((50, 32))
    >>> y = sr.simulate(original["layers.0.seq"], u)                # recorded where the original runs
    >>> wrong = sr.adapters.S5(conj_sym=False, discretization="bilinear")
    >>> found = sr.verify(sr.read(original.params, adapter=wrong), u, y, layer="layers.0.seq")
    >>> found.holds, found.alternatives[0].changes
    (False, ('conj_sym=True', "discretization='zoh'"))
    """
    changes = positive_integer(changes, "changes")
    if not rtol > 0:
        raise OptionError(f"rtol must be positive, got {rtol!r}")
    y = as_double(numbers_of(y, "y"), complex_=False, name="y")
    if not np.any(y):
        raise OptionError("y is 0 everywhere and cannot tell one model from another; record an output of a rich input")
    if isinstance(obj, SSMModel):
        base, what = obj, _layer_of(obj, layer)
        layers: tuple[str, ...] = (what,)
        output = partial(_layer_output, name=what, u=as_double(numbers_of(u, "u"), complex_=False, name="u"))
    else:
        net = network(obj)
        base, what, layers, output = net.model, "network", net.model.layers, partial(_network_output, net=net, batch=u)
    _require_as_read(base, layers)
    as_read = _Reading(base, base.adapter.strict_reverse)
    error = _error(output(as_read), y)
    tried: list[Alternative] = []
    for count in range(1, changes + 1) if error > rtol else ():
        tried += _tried(as_read, _axes(as_read, layers, isinstance(obj, SSMModel)), count, output, y)
        if any(other.error <= rtol for other in tried):
            break
    tried.sort(key=lambda other: other.error)
    fitting = tuple(other for other in tried if other.error <= rtol)
    return Verification(what, error, rtol, fitting or tuple(tried[:_SHOWN]), len(tried))


def _layer_of(model: SSMModel, layer: str | None) -> str:
    if layer is None and len(model) > 1:
        raise ArgumentError(f"the model has the layers {', '.join(model)}; name the one that was recorded with layer=")
    name = model.layers[0] if layer is None else layer
    model.require(name)
    return name


def _require_as_read(model: SSMModel, layers: tuple[str, ...]) -> None:
    if changed := [name for name in layers if name in model.systems or name in model.keep or name in model.refitted]:
        raise ArgumentError(
            f"the layer {changed[0]!r} was pruned or reduced; verify the model as it was read, and `compare` the "
            "smaller one with it"
        )


def _layer_output(reading: _Reading, *, name: str, u: np.ndarray) -> np.ndarray:
    ssm = reading.system(name)
    y = simulate(ssm, u, strict_reverse=reading.strict and ssm.bidirectional)
    return reading.model.adapter.in_layer_order(ssm, y)


def _network_output(reading: _Reading, *, net: Network, batch: Any) -> np.ndarray:
    model = reading.model
    if reading.systems:
        model = replace(model, systems={name: reading.system(name) for name in model})
    return net.outputs(model, batch)


def _error(found: np.ndarray, y: np.ndarray) -> float:
    """Relative RMS error; infinite where an output overflows."""
    if found.shape != y.shape:
        raise ShapeError(f"y has shape {y.shape}, and the model's output {found.shape}")
    scale = np.abs(y).max()
    with np.errstate(all="ignore"):
        error = float(np.linalg.norm(found / scale - y / scale) / np.linalg.norm(y / scale))
    return error if np.isfinite(error) else float("inf")


def _tried(
    base: _Reading, axes: list[dict[str, _Change]], count: int, output: Callable[[_Reading], np.ndarray], y: np.ndarray
) -> Iterator[Alternative]:
    """Every reading with `count` changes, one of each axis, that can be made and run."""
    for chosen in combinations(axes, count):
        for names in product(*chosen):
            reading = base
            try:
                for axis, name in zip(chosen, names, strict=True):
                    reading = axis[name](reading)
                with np.errstate(all="ignore"):
                    error = _error(output(reading), y)
            except SSMReduceError:  # flags that do not go together, an output that overflows
                continue
            yield Alternative(names, error)


def _axes(base: _Reading, layers: tuple[str, ...], alone: bool) -> list[dict[str, _Change]]:
    """What can be changed; one change of each at a time."""
    adapter = base.model.adapter
    axes: list[dict[str, _Change]] = [
        {f"{flag}={value!r}": partial(_flag, flag=flag, value=value) for value in values}
        for flag, values in other_flags(adapter).items()
    ]
    for leaves, names in square_arrays(adapter, base.model.params, layers).items():
        axes.append({f"transposed {leaves}": partial(_transpose, names=names)})
    if "conj_sym" not in adapter.flags():
        pairs = not base.model[layers[0]].conj_sym
        axes.append({f"conj_sym={pairs} (not a flag of {adapter.name})": partial(_system, change=_other_pairs)})
    if any(base.model[name].bidirectional for name in layers):
        axes.append(
            {
                "without the reverse half": partial(_system, change=_causal),
                "the halves exchanged": partial(_system, change=_exchanged),
            }
        )
        if alone:
            axes.append({f"strict_reverse={not base.strict}": lambda reading: replace(reading, strict=not base.strict)})
    return axes


def _flag(reading: _Reading, *, flag: str, value: Any) -> _Reading:
    adapter = with_flag(reading.model.adapter, flag, value)
    return replace(reading, model=replace(reading.model, adapter=adapter))


def _transpose(reading: _Reading, *, names: tuple[str, ...]) -> _Reading:
    return replace(reading, model=replace(reading.model, params=transposed(reading.model.params, names)))


def _system(reading: _Reading, *, change: Callable[[DiagonalSSM], DiagonalSSM]) -> _Reading:
    return replace(reading, systems=(*reading.systems, change))


def _other_pairs(ssm: DiagonalSSM) -> DiagonalSSM:
    return replace(ssm, conj_sym=not ssm.conj_sym)


def _causal(ssm: DiagonalSSM) -> DiagonalSSM:
    return replace(ssm, C_reverse=None)


def _exchanged(ssm: DiagonalSSM) -> DiagonalSSM:
    return ssm if ssm.C_reverse is None else replace(ssm, C=ssm.C_reverse, C_reverse=ssm.C)
