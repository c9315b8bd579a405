"""Unlabelled sequences for a network: what the original makes of them, computed once, and some of them kept apart."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._support.arguments import described, require_batches, require_kind, share
from ...calibration import Moments
from ...calibration._accumulate import layer_moments
from ...errors import ArgumentError, NonFiniteError, ShapeError
from ...models import SSMModel
from ...networks import Network, sequences_in, take_sequences

MOST_BYTES = 2**30  # of layer inputs that are held in memory; further sequences take part in the finish only


@dataclass(frozen=True, eq=False)
class Part:
    """A few sequences and what the original network makes of them.

    Attributes
    ----------
    batch : Any
    outputs : ndarray, shape (b, ...)
    inputs : mapping
        Layer name -> array (b, L, width); empty where they are not held.
    counted : ndarray, shape (b, L), bool, or None
        Which steps of an output (b, L, ...) are data.
    """

    batch: Any
    outputs: np.ndarray
    inputs: Mapping[str, np.ndarray]
    counted: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.outputs)

    def take(self, index: np.ndarray) -> "Part":
        """Some of the sequences."""
        counted = None if self.counted is None else self.counted[index]
        inputs = {name: u[index] for name, u in self.inputs.items() if len(u) == len(self)}
        return Part(take_sequences(self.batch, index), self.outputs[index], inputs, counted)


def batch_list(batches: Any) -> list[Any]:
    """All batches of a list or a data loader, which must not be one array."""
    require_batches(batches)
    require_kind(batches, Iterable, "batches", "a list of batches, such as [x], or a data loader is needed")
    if isinstance(batches, Mapping | str | bytes):
        raise ArgumentError(f"batches is {described(batches)}; give a list of batches, such as [batch]")
    found = list(batches)
    if not found:
        raise ShapeError("there is nothing to calibrate on: give at least one batch")
    return found


def recorded(
    net: Network,
    batches: Sequence[Any],
    *,
    inputs: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Part]:
    """Run the original once per batch."""
    parts: list[Part] = []
    held = 0
    for batch in batches:
        outputs, u = net.record(net.model, batch)
        length = max(array.shape[1] for array in u.values())
        u = u if inputs and held < MOST_BYTES else {}
        held += sum(array.nbytes for array in u.values())
        z = np.asarray(outputs, dtype=np.float64)
        if z.ndim < 1 or len(z) != sequences_in(batch):
            raise ShapeError(
                f"the network returns shape {z.shape} for a batch of {sequences_in(batch)} sequences; the first axis "
                "of its output must count sequences: output=... picks such a one"
            )
        if not np.isfinite(z).all():
            raise NonFiniteError("the network's outputs contain NaN or infinity; compare finite ones, such as logits")
        counted = net.mask(batch, length) if z.ndim > 2 and z.shape[1] == length else None
        parts.append(Part(batch, z, u, counted))
        progress(len(parts), len(batches))
    return parts


def kept_apart(batches: Sequence[Any], apart: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Batches of the sequences to fit on, and of those kept apart, a random share of all."""
    part = share(apart, "apart")
    sizes = [sequences_in(batch) for batch in batches]
    total = sum(sizes)
    count = round(part * total)
    if not 1 <= count < total:
        raise ShapeError(f"{total} sequences cannot be split into those to fit on and {part:.0%} kept apart: give more")
    is_held = np.zeros(total, dtype=bool)
    is_held[np.random.default_rng(seed).permutation(total)[:count]] = True
    fit: list[Any] = []
    held: list[Any] = []
    for batch, mine in zip(batches, np.split(is_held, np.cumsum(sizes)[:-1]), strict=True):
        for chosen, target in ((~mine, fit), (mine, held)):
            if chosen.any():
                target.append(take_sequences(batch, np.flatnonzero(chosen)))
    return fit, held


def moments_of(net: Network, model: SSMModel, batch: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, Moments]:
    """Second moments of the layers of a model on these inputs of theirs."""
    return {
        name: layer_moments(model[name], u, mask=net.mask(batch, u.shape[1]), name=name) for name, u in inputs.items()
    }


def summed(parts: Iterable[Mapping[str, Moments]]) -> dict[str, Moments]:
    """Moments of several batches together."""
    sums: dict[str, Moments] = {}
    for part in parts:
        for name, moments in part.items():
            sums[name] = sums[name] + moments if name in sums else moments
    return sums
