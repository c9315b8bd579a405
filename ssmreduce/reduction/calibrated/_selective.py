"""Networks with Mamba-1 or Mamba-2 layers, made smaller with unlabelled data."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._support.arguments import require_batches, share
from ..._support.optional import optional_import
from ...errors import ArgumentError, OptionError, SelectionError
from ...networks import Visit, call_network, evaluating, mixer_layer, selective_mixers, walk
from ...selective import SelectiveMoments, method_steps, reduce_selective, selective_moments, simulate

METHODS = {
    ("mamba1", True): ("surgeon", "surgeon+refine"),
    ("mamba1", False): ("surgeon", "surgeon+refine"),
    ("mamba2", True): ("contribution", "contribution+refine", "surgeon+refine"),
    ("mamba2", False): ("rotate", "rotate+refine"),
}
"""Methods among which `compress_selective` chooses, by kind of layer and by whether stock code must hold the result."""

SINGLE_WIDTH = 128
"""From this width of the residual stream on, moments are computed of single-precision signals."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One method tried, and what it does to the network on data held apart.

    Attributes
    ----------
    method : str
    agreement : float
        Share of the held-apart positions at which the largest output is the same as that of the full network.
    divergence : float
        Mean Kullback-Leibler divergence of the reduced network's softmax from the full one's, in bits per position.
    errors : dict
        Name of mixer -> relative error of the layer's output on the calibration data and on data held apart, each fed
        by the already reduced network.
    """

    method: str
    agreement: float
    divergence: float
    errors: dict[str, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class SelectiveCompression:
    """A network with smaller selective layers.

    Attributes
    ----------
    network : torch.nn.Module
        With drop-in mixers; see `ssmreduce.networks.save_selective` for files.
    layers : dict
        Name of mixer -> layer, in NumPy arrays.
    method : str
        The method chosen: the candidate of least divergence.
    candidates : tuple of Candidate
    """

    network: Any
    layers: dict[str, Any]
    method: str
    candidates: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate:
        """The candidate that was taken."""
        return next(candidate for candidate in self.candidates if candidate.method == self.method)

    def __str__(self) -> str:
        """Candidates with what they reach on data held apart, the one chosen marked."""
        lines = [f"{'method':24s} agreement  divergence"]
        for c in self.candidates:
            mark = " *" if c.method == self.method else ""
            lines.append(f"{c.method:24s} {c.agreement:9.4f} {c.divergence:11.5f}{mark}")
        return "\n".join(lines)


def compress_selective(
    module: Any,
    batches: Iterable[Any],
    *,
    ratio: float,
    methods: tuple[str, ...] | str | None = None,
    stock: bool = False,
    held: float = 0.25,
    seed: int = 0,
    probes: int | None = None,
    joint: bool | None = None,
    refine_options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SelectiveCompression:
    """Remove a share of the states of every selective layer of a live network, without labels.

    Layer after layer, the layer is reduced so that it returns what the original one returns in the original network,
    though it is fed by the network whose earlier layers are reduced. Several methods are tried, and the one whose
    outputs are nearest to those of the full network on data held apart is taken.

    Nothing is proven about other data: the errors are measured ones.

    Parameters
    ----------
    module : torch.nn.Module
        A network with Mamba-1 or Mamba-2 mixers, as `ssmreduce.networks.selective_mixers` finds them; not changed.
    batches : list
        Unlabelled data: what the network is called with, batch by batch. 32 to 512 sequences, without padding.
    ratio : float
        Share of the states to remove, in [0, 1); each layer keeps at least one.
    methods : str or tuple of str, optional
        See `ssmreduce.selective.reduce_selective`; `METHODS` by default.
    stock : bool
        Only methods whose result stock code can hold, as a checkpoint of a smaller state size.
    held : float
        Share of the batches (of the sequences, where there is one batch) held apart.
    seed : int
    probes, joint : optional
        See `ssmreduce.selective.selective_moments`.
    refine_options : mapping, optional
        Options of `ssmreduce.selective.refine`.
    progress : callable, optional
        Called after each layer with the number of layers done and of all, over all methods.

    Returns
    -------
    SelectiveCompression

    Raises
    ------
    OptionError, SelectionError
        ``held`` or ``ratio`` is out of range, a method does not fit, or there are too few sequences.
    UnknownNameError, NotRepresentableError, MissingDependencyError

    Examples
    --------
    >>> import torch
    >>> from ssmreduce.networks import SelectiveMixer
    >>> from ssmreduce.reduction.calibrated import compress_selective
    >>> from ssmreduce.selective import random_layer
    >>> net = torch.nn.Sequential(SelectiveMixer(random_layer("mamba2", width=8, order=8)), torch.nn.Linear(8, 5))
    >>> small = compress_selective(net, [torch.randn(16, 32, 8)], ratio=0.5, methods="rotate")
    >>> small.network[0].order, small.method
    (4, 'rotate')
    """
    optional_import("torch", "torch")
    share(ratio, "ratio", zero=True, error=SelectionError)
    kinds = {mixer_layer(mixer).kind for mixer in selective_mixers(module).values()}
    methods = _methods(methods, kinds, stock)
    used, apart = split_batches(batches, held)
    wanted = [_outputs(module, batch) for batch in apart]
    found: list[tuple[Candidate, Any, dict[str, Any]]] = []
    total = len(selective_mixers(module)) * len(methods)
    for number, method in enumerate(methods):
        errors: dict[str, tuple[float, float]] = {}
        plan = _Plan(ratio, method, seed, probes, joint, dict(refine_options or {}), len(used), errors)

        def report(done: int, layers: int, number: int = number) -> None:
            if progress is not None:
                progress(number * layers + done, total)

        smaller, layers = walk(module, used + apart, plan.visit, progress=report)
        agreement, divergence = compared(wanted, [_outputs(smaller, batch) for batch in apart])
        found.append((Candidate(method, agreement, divergence, errors), smaller, layers))
        best = min(found, key=lambda entry: entry[0].divergence)
        found = [entry if entry is best else (entry[0], None, {}) for entry in found]
    return SelectiveCompression(best[1], best[2], best[0].method, tuple(entry[0] for entry in found))


def _methods(methods: tuple[str, ...] | str | None, kinds: set[str], stock: bool) -> tuple[str, ...]:
    if methods is None:
        return METHODS["mamba1" if "mamba1" in kinds else "mamba2", stock]
    methods = (methods,) if isinstance(methods, str) else tuple(methods)
    for method in methods:
        for kind in kinds:
            first = method_steps(method, kind)[0]
            if stock and first == "rotate":
                raise SelectionError("stock code cannot hold rotated states; give methods that select states")
    if not methods:
        raise OptionError("methods is empty")
    return methods


@dataclass(frozen=True, eq=False)
class _Plan:
    """How each layer is reduced."""

    ratio: float
    method: str
    seed: int
    probes: int | None
    joint: bool | None
    refine_options: dict[str, Any]
    used: int
    errors: dict[str, tuple[float, float]]

    def visit(self, visit: Visit) -> Any:
        layer: Any = visit.layer
        order = max(1, math.ceil(layer.order * (1 - self.ratio) - 1e-9))
        smaller = reduce_selective(
            layer,
            order,
            method=self.method,
            moments=self.moments(visit),
            u=_joined(visit.inputs[: self.used]) if "refine" in self.method else None,
            target=_joined(visit.targets[: self.used]) if "refine" in self.method else None,
            seed=self.seed,
            **(self.refine_options if "refine" in self.method else {}),
        )
        single = smaller.map_arrays(lambda v: v.astype(np.float32))
        parts = (slice(None, self.used), slice(self.used, None))
        error, apart = (relative(single, visit.inputs[part], visit.targets[part]) for part in parts)
        self.errors[visit.name] = (error, apart)
        return smaller

    def moments(self, visit: Visit) -> SelectiveMoments | None:
        if self.method.split("+")[0] in ("random", "magnitude", "aire"):
            return None
        layer: Any = visit.layer
        joint = self.joint
        if joint is None and layer.kind == "mamba2" and "als" not in self.method:
            joint = False
        kind = np.float32 if layer.outputs >= SINGLE_WIDTH else np.float64
        layer = layer.map_arrays(lambda v: v.astype(kind))
        rng = np.random.default_rng(self.seed)
        total: SelectiveMoments | None = None
        for u, target in zip(visit.inputs[: self.used], visit.targets[: self.used], strict=True):
            part = selective_moments(
                layer, u.astype(kind), target.astype(kind), joint=joint, probes=self.probes, seed=rng
            )
            total = part if total is None else total + part
        return total


def relative(layer: Any, inputs: list[np.ndarray], targets: list[np.ndarray]) -> float:
    """Relative error of the output of a layer."""
    error = sum(float(np.sum((simulate(layer, u) - y) ** 2)) for u, y in zip(inputs, targets, strict=True))
    return float(np.sqrt(error / (sum(float(np.sum(y**2)) for y in targets) or 1.0)))


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    lengths = {part.shape[1] for part in parts}
    if len(lengths) > 1:
        raise SelectionError(f"refinement needs sequences of one length, got {sorted(lengths)}")
    return np.concatenate(parts)


def split_batches(batches: Iterable[Any], held: float) -> tuple[list[Any], list[Any]]:
    """Batches to calibrate with, and batches held apart: the last ones.

    Raises
    ------
    ArgumentError, OptionError, SelectionError
        No batches, a share outside (0, 1), or too few sequences.
    """
    require_batches(batches)
    batches = list(batches)
    share(held, "held")
    if len(batches) == 1:
        size = _size(batches[0])
        cut = size - max(1, round(held * size))
        if cut < 1:
            raise SelectionError(f"{size} sequences are too few to hold some apart")
        return [_rows(batches[0], slice(None, cut))], [_rows(batches[0], slice(cut, None))]
    if not batches:
        raise ArgumentError("batches is empty")
    cut = len(batches) - max(1, round(held * len(batches)))
    if cut < 1:
        raise SelectionError(f"{len(batches)} batches are too few to hold some apart")
    return batches[:cut], batches[cut:]


def _size(batch: Any) -> int:
    if isinstance(batch, Mapping):
        return _size(next(iter(batch.values())))
    return _size(batch[0]) if isinstance(batch, tuple | list) else len(batch)


def _rows(batch: Any, rows: slice) -> Any:
    if isinstance(batch, Mapping):
        return {key: _rows(value, rows) for key, value in batch.items()}
    return tuple(_rows(value, rows) for value in batch) if isinstance(batch, tuple | list) else batch[rows]


def _outputs(module: Any, batch: Any) -> Any:
    import torch

    with evaluating(module), torch.no_grad():
        output = call_network(module, batch)
    output = getattr(output, "logits", output)
    return (output[0] if isinstance(output, tuple | list) else output).float().cpu()


def compared(full: list[Any], reduced: list[Any]) -> tuple[float, float]:
    """Agreement and divergence (bits) of the outputs of two networks, over all positions."""
    import torch

    same = positions = 0
    bits = 0.0
    for a, b in zip(full, reduced, strict=True):
        p, q = (torch.log_softmax(v.double().reshape(-1, v.shape[-1]), dim=-1) for v in (a, b))
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
        positions += len(p)
        bits += float((p.exp() * (p - q)).sum()) / math.log(2)
    return same / positions, bits / positions
