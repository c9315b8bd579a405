"""The verb `report`, and the file that it makes."""

import html
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._support.arguments import described, positive_integer, require_kind, require_path
from .._support.whole import write_whole
from ..calibration import Calibration
from ..errors import ArgumentError, OptionError
from ..evaluation import Comparison, Sweep, compare, inspect
from ..evaluation._certificates import Original
from ..evaluation._compare import certified
from ..models import SSMModel
from ..selection import elimination_path
from ._contents import Contents
from ._layers import layer_numbers
from ._page import page
from ._ratios import leaving_by_method
from ._speed import layer_seconds


@dataclass(frozen=True)
class HTMLReport:
    """What `report` made: the text of one HTML file, shown in notebooks in a frame.

    Attributes
    ----------
    html : str
    comparison : Comparison or None
        The comparison that it shows.
    """

    html: str = field(repr=False)
    comparison: Comparison | None = None

    def save(self, path: str | os.PathLike) -> None:
        """Write the file, whole or not at all.

        Parameters
        ----------
        path : path
            Such as ``report.html``.

        Raises
        ------
        ArgumentError
            No path.
        WriteError
            The file could not be written; what stood there before is untouched.
        """
        require_path(path)
        content = self.html.encode()
        write_whole(path, lambda file: file.write(content))

    def _repr_html_(self) -> str:
        frame = 'sandbox="allow-scripts" title="report" style="width:100%;height:45rem;border:0"'
        return f'<iframe srcdoc="{html.escape(self.html)}" {frame}></iframe>'


def report(
    model: SSMModel,
    candidates: Mapping[str, SSMModel] | None = None,
    *,
    comparison: Comparison | None = None,
    sweep: Sweep | None = None,
    calibration: Calibration | None = None,
    layers: Iterable[str] | None = None,
    certificates: bool = True,
    length: int = 1024,
    seed: int = 0,
    title: str = "State-space layers",
    command: str = "ssmreduce.report",
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> HTMLReport:
    """Make one self-contained HTML file of a model and of what was made of it.

    It shows what each candidate saves and what it costs, certificates beside it; for each layer the poles with a slider
    over the ratio, the importance of the states by several criteria, Hankel singular values, and the gain over
    frequency with the gains of the errors and their proven bounds; trade-off curves; and what made it all. The file
    loads nothing, stays below 1.5 MB, and prints its summary.

    Parameters
    ----------
    model : SSMModel
        The original.
    candidates : mapping, optional
        Label -> reduced model with the same layers. Without any the report shows the model alone.
    comparison : Comparison, optional
        What `compare` returned for these candidates; by default it is made here.
    sweep : Sweep, optional
        Trade-off curves to show.
    calibration : Calibration, optional
        Of this model: shows the error of calibrated elimination, and lets the slider follow it.
    layers : iterable of str, optional
        Layers that get a section of their own; by default all.
    certificates : bool, default True
        Whether to certify each layer; certificates of layers with a thousand states take minutes each.
    length, seed
        As in `compare`; the speed is measured on the same number of steps.
    title : str
    command : str
        What made the report, to be shown in it.
    progress : callable, optional
        Called with the number of certificates done and of all.
    **options
        Of `compare`: ``network`` and ``batches``, ``inputs``, ``evaluate``, ``logits``.

    Returns
    -------
    HTMLReport
        ``save(path)`` writes the file.

    Raises
    ------
    ArgumentError
        A comparison of other models; anything but a `Sweep`, a `Calibration` or a list of layers where one is needed.
    OptionError
        Options of `compare` beside a comparison, or without candidates; a length that is no positive integer.
    UnknownLayerError
        A name that the model does not have.
    SSMReduceError
        As in `compare`.

    Notes
    -----
    The slider shows what `select` keeps by the methods ``last``, ``aire`` and ``lamp``, and by calibrated elimination.
    Curves of very wide layers, and singular values of layers with more than 512 states that were not certified, are
    left out, which the report says.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> small = sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.3))
    >>> made = report(model, {"LAST": small}, certificates=False, length=64)
    >>> made.html[:15], len(made.html) < 1_500_000
    ('<!DOCTYPE html>', True)
    """
    candidates = {} if candidates is None else candidates
    require_kind(candidates, Mapping, "candidates", "label -> reduced model is needed")
    _check(sweep, calibration, comparison, bool(candidates), options)
    length = positive_integer(length, "length")
    inspection = inspect(model)
    names = _names(model, layers)
    originals = {name: Original(ssm) for name, ssm in model.items()}
    if comparison is not None:
        _require_same(comparison, model, candidates)
    elif candidates:
        comparison = compare(model, candidates, certificates=False, length=length, seed=seed, **options)
        if certificates:
            comparison = certified(comparison, model, candidates, originals, progress)
    path = None if calibration is None else elimination_path(model, calibration)
    numbers = {
        name: layer_numbers(model, name, candidates, originals[name], None if path is None else path[name])
        for name in names
    }
    contents = Contents(
        title=title,
        command=command,
        model=model,
        candidates=candidates,
        inspection=inspection,
        comparison=comparison,
        sweep=sweep,
        seconds=layer_seconds({"original": model, **candidates}, length, seed),
        length=length,
        seed=seed,
        layers=numbers,
        leaving=leaving_by_method(model, path),
    )
    return HTMLReport(page(contents), comparison)


def _names(model: SSMModel, layers: Iterable[str] | None) -> list[str]:
    """Layers that get a section."""
    if layers is None:
        return list(model)
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise ArgumentError(f"layers is {described(layers)}; give a list of names")
    names = list(layers)
    for name in names:
        model.require(name)
    return names


def _check(sweep: Any, calibration: Any, comparison: Any, candidates: bool, options: Mapping[str, Any]) -> None:
    for value, kind, name in ((sweep, Sweep, "sweep"), (calibration, Calibration, "calibration")):
        if value is not None:
            require_kind(value, kind, name, f"what `{kind.__name__.lower()}` or its like returns is needed")
    if comparison is not None:
        require_kind(comparison, Comparison, "comparison", "what `compare` returns is needed")
    if options and (comparison is not None or not candidates):
        why = "a comparison, which has been made" if comparison is not None else "no candidates"
        raise OptionError(f"{', '.join(options)}: options of compare, with {why}; leave them out")


def _require_same(comparison: Comparison, model: SSMModel, candidates: Mapping[str, SSMModel]) -> None:
    """The rows of the comparison are the original and the candidates, layer by layer and state by state."""
    orders = {"original": model.orders, **{label: candidate.orders for label, candidate in candidates.items()}}
    found = {row.label: {layer.name: layer.states for layer in row.layers} for row in comparison.rows}
    if list(found.items()) != list(orders.items()):
        raise ArgumentError(
            f"the comparison is of {', '.join(found)}, with other states or in another order than {', '.join(orders)}; "
            "compare these candidates, or leave it out"
        )
