"""Local refinement of one selective layer: gradient descent on its own output error, without labels."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .._support.arguments import random_numbers
from .._support.optional import optional_import
from ..errors import SelectionError, ShapeError
from ._forward import simulate

STEPS = 150


@dataclass(frozen=True, eq=False)
class Refined:
    """What `refine` returns.

    Attributes
    ----------
    layer : Mamba1SSM or Mamba2SSM
        In NumPy double precision.
    before, after : float
        Relative error of the layer's output on the data that was given.
    """

    layer: Any
    before: float
    after: float


def refine(
    layer: Any,
    u: np.ndarray,
    target: np.ndarray,
    *,
    steps: int = STEPS,
    rate: float = 1e-2,
    batch: int = 32,
    free: tuple[str, ...] | None = None,
    seed: Any = 0,
) -> Refined:
    r"""Bring the output of a reduced layer nearer to that of the original one.

    Adam (Kingma and Ba, 2015) on :math:`\sum \|y - y_{target}\|^2`, with a learning rate that falls to zero along a
    cosine, in PyTorch and single precision. The layer at hand stays where the result is no better.

    Parameters
    ----------
    layer : Mamba1SSM or Mamba2SSM
        In NumPy arrays.
    u : ndarray, shape (b, L, d)
        Inputs of the layer in the reduced network.
    target : ndarray, shape (b, L, d)
        Outputs of the original layer in the original network.
    steps : int
    rate : float
        Learning rate, in units of the root mean square of each array.
    batch : int
        Sequences per step.
    free : tuple of str, optional
        Names of the arrays that change; all by default.
    seed : int or Generator
        Seed of the order of the sequences.

    Returns
    -------
    Refined

    Raises
    ------
    ShapeError
    SelectionError
        ``free`` names no array of the layer.
    MissingDependencyError
        PyTorch is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.selective import random_layer, refine, simulate, take_states
    >>> layer = random_layer("mamba2", width=8, order=8)
    >>> u = np.random.default_rng(0).standard_normal((8, 16, 8))
    >>> refined = refine(take_states(layer, [0, 3, 5]), u, simulate(layer, u), steps=20)
    >>> refined.after < refined.before
    True
    """
    torch = optional_import("torch", "torch")
    if u.shape[:2] != target.shape[:2] or target.shape[2] != layer.outputs:
        raise ShapeError(f"u has shape {u.shape} and target {target.shape}; {(*u.shape[:2], layer.outputs)} is needed")
    arrays = {f.name: getattr(layer, f.name) for f in fields(layer) if isinstance(getattr(layer, f.name), np.ndarray)}
    arrays.pop("take_B", None)
    names = tuple(arrays) if free is None else tuple(name for name in free if name in arrays)
    if not names:
        raise SelectionError(f"free names no array of the layer; it has {', '.join(arrays)}")
    problem = _Problem(torch, layer, arrays, names, u, target)
    before = problem.error(problem.start)
    with torch.enable_grad():
        found = problem.descend(steps, rate, batch, random_numbers(seed))
    after = problem.error(found)
    if not after < before:
        return Refined(layer, before, before)
    values = {name: scaled.numpy().astype(np.float64) for name, scaled in problem.unscaled(found).items()}
    return Refined(layer.map_arrays(lambda v: _changed(v, arrays, values)), before, after)


def _changed(array: np.ndarray, arrays: dict[str, np.ndarray], values: dict[str, np.ndarray]) -> np.ndarray:
    for name, value in values.items():
        if arrays[name] is array:
            return value
    return array


class _Problem:
    """The layer as a function of scaled arrays, and its output error."""

    def __init__(self, torch: Any, layer: Any, arrays: dict, names: tuple[str, ...], u: np.ndarray, target: np.ndarray):
        self.torch, self.layer, self.arrays = torch, layer, arrays
        self.u, self.target = (torch.as_tensor(np.ascontiguousarray(v), dtype=torch.float32) for v in (u, target))
        self.fixed = {name: torch.as_tensor(v.astype(np.float32)) for name, v in arrays.items()}
        self.scale = {name: float(np.sqrt(np.mean(arrays[name] ** 2))) or 1.0 for name in names}
        self.start = {name: self.fixed[name] / self.scale[name] for name in names}
        self.energy = float((self.target**2).sum()) or 1.0

    def unscaled(self, free: dict) -> dict:
        return {name: (value * self.scale[name]).detach() for name, value in free.items()}

    def output(self, free: dict, rows: Any) -> Any:
        tensors = self.fixed | {name: value * self.scale[name] for name, value in free.items()}
        by_identity = {id(array): tensors[name] for name, array in self.arrays.items()}
        return simulate(self.layer.map_arrays(lambda v: by_identity[id(v)]), self.u[rows])

    def error(self, free: dict) -> float:
        """Relative output error on all sequences."""
        with self.torch.no_grad():
            total = sum(
                float(((self.output(free, slice(k, k + 64)) - self.target[k : k + 64]) ** 2).sum())
                for k in range(0, len(self.u), 64)
            )
        return float(np.sqrt(total / self.energy))

    def descend(self, steps: int, rate: float, batch: int, rng: np.random.Generator) -> dict:
        free = {name: value.clone().requires_grad_() for name, value in self.start.items()}
        adam = self.torch.optim.Adam(free.values(), lr=rate, betas=(0.9, 0.99))
        schedule = self.torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        for _ in range(steps):
            rows = rng.permutation(len(self.u))[: min(batch, len(self.u))]
            adam.zero_grad()
            loss = ((self.output(free, rows) - self.target[rows]) ** 2).sum() * (len(self.u) / len(rows)) / self.energy
            loss.backward()
            adam.step()
            schedule.step()
        return {name: value.detach() for name, value in free.items()}
