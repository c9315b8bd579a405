"""Second moments on data: states are made block by block and never stored."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .._support.arguments import require_kind
from .._support.arrays import to_numpy
from ..engines import engine_for
from ..errors import NonFiniteError, ShapeError
from ..models import SSMModel
from ..models._model import MODEL_ADVICE
from ..responses import simulate
from ..systems import DiagonalSSM
from ._inputs import Inputs, batches_of, host_array, sequences
from ._moments import Calibration, Moments

_BLOCK_BYTES = 2**23  # states and inputs of one block: they stay in the cache while their products are summed


def calibrate(
    model: SSMModel,
    inputs: Inputs,
    *,
    mask: np.ndarray | None = None,
    targets: SSMModel | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Calibration:
    """Second moments of every layer's states and inputs, from that layer's inputs on unlabelled data.

    Parameters
    ----------
    model : SSMModel
    inputs : mapping or iterable of mappings
        Layer name -> that layer's inputs, shape (L, width) or (batch, L, width), or a list of arrays (L_i, width) for
        sequences of different lengths. NumPy, PyTorch and JAX arrays, integers and half precision too. An iterable
        gives batches, each a mapping or a pair (mapping, mask), one in memory at a time; layers may come in batches of
        their own.
    mask : ndarray, shape (batch, L), bool, optional
        Which steps count, for a single mapping of arrays. The states still see every step, as they do in a network
        that is fed padded batches; where sequences really end earlier, give a list.
    targets : SSMModel, optional
        The model whose outputs are to be reproduced on the same inputs; by default each layer's own.
    progress : callable, optional
        Called after each batch with the number of batches done and the number of all, None if not known.

    Returns
    -------
    Calibration

    Raises
    ------
    ArgumentError
        No model, or inputs that are neither a mapping nor batches of mappings.
    UnknownLayerError
        A layer that the model does not have.
    ShapeError
        No data, an empty sequence, a width or a mask that does not fit.
    ArrayKindError
        Complex inputs, text, or objects.
    NonFiniteError
        NaN or infinite inputs, or states that overflow.

    Notes
    -----
    Double precision throughout. States are made in blocks and never stored: O(L (n + m)^2) time and O((n + m)^2) memory
    a layer, with targets O(L (n + m) (n + m + p)) and O((n + m) (n + m + p)). Unstable states are welcome, since every
    sequence ends.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> u = np.random.default_rng(0).standard_normal((10, 64, 32))
    >>> calibration = calibrate(model, {"layers.0.seq": u})
    >>> calibration
    Calibration(layers.0.seq: 640 steps)
    >>> calibration["layers.0.seq"].second.shape
    (1, 160, 160)
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    if targets is not None:
        require_kind(targets, SSMModel, "targets", "a model is needed, whose outputs are to be reproduced")
    batches, total = batches_of(inputs, mask)
    sums: dict[str, Moments] = {}
    for done, (mapping, counted) in enumerate(batches, start=1):
        for name, values in mapping.items():
            model.require(name)
            target = None if targets is None else targets[name]
            if counted is not None and isinstance(values, list | tuple):
                raise ShapeError(f"layer {name!r}: a mask goes with arrays; the sequences of a list end where they end")
            for u in sequences(values, name):
                fresh = layer_moments(model[name], u, target=target, mask=counted, name=name)
                sums[name] = sums[name] + fresh if name in sums else fresh
        if progress is not None:
            progress(done, total)
    if not sums:
        raise ShapeError("there is nothing to calibrate on: the inputs hold no layer; give layer name -> array")
    return Calibration(sums)


@np.errstate(over="ignore", invalid="ignore")  # what overflows becomes an error with the layer's name
def layer_moments(
    ssm: DiagonalSSM,
    u: np.ndarray,
    *,
    target: DiagonalSSM | np.ndarray | None = None,
    mask: np.ndarray | None = None,
    name: str = "",
) -> Moments:
    """Second moments of one system on a batch of sequences.

    Parameters
    ----------
    ssm : DiagonalSSM
    u : array, shape (batch, L, width), of real numbers
    target : DiagonalSSM or ndarray, shape (batch, L, width out), optional
        Outputs to be reproduced, or the system that makes them from `u`.
    mask : ndarray, shape (batch, L), bool, optional
        Which steps count.
    name : str
        For messages.

    Returns
    -------
    Moments

    Raises
    ------
    ShapeError, ArrayKindError, NonFiniteError
        As in `calibrate`.

    Examples
    --------
    >>> ssm = DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]])
    >>> layer_moments(ssm, np.array([[[1.0], [0.0]]])).second[0]
    array([[1.25, 0.  , 1.  ],
           [0.  , 0.  , 0.  ],
           [1.  , 0.  , 1.  ]])
    """
    u = host_array(u, name)
    mask = _check_data(ssm, u, mask, name)
    run = _Run(ssm)
    rows, length = u.shape[:2]
    target = simulate(target, np.asarray(u, dtype=np.float64)) if isinstance(target, DiagonalSSM) else target
    if target is not None and target.shape != (rows, length, run.count * ssm.outputs):
        raise ShapeError(
            f"layer {name!r}: targets have shape {target.shape}, expected {(rows, length, run.count * ssm.outputs)}"
        )
    size = run.width + ssm.inputs
    second = np.zeros((run.count, size, size))
    cross = None if target is None else np.zeros((run.count, ssm.outputs, size))
    energy = None if target is None else np.zeros(run.count)
    for row, step, z in run.blocks(u):
        if mask is not None:
            z = z * mask[row, step].reshape(1, -1, 1)
        for s, zs in enumerate(z):  # one product of a matrix with itself at a time: BLAS computes half of it
            second[s] += zs.T @ zs
        if target is not None:
            y = _by_system(target[row, step], run.count)
            y = y if mask is None else y * mask[row, step].reshape(1, -1, 1)
            cross += y.transpose(0, 2, 1) @ z
            energy += np.sum(y**2, axis=(1, 2))
    if not all(array is None or np.isfinite(array).all() for array in (second, cross, energy)):
        raise NonFiniteError(f"layer {name!r}: the states or targets overflow on these inputs; use shorter sequences")
    steps = rows * length if mask is None else int(mask.sum())
    return Moments(run.Lambda, run.B, second, steps, length, cross, energy)


def _check_data(ssm: DiagonalSSM, u: np.ndarray, mask: np.ndarray | None, name: str) -> np.ndarray | None:
    width = ssm.systems * ssm.inputs
    if u.ndim != 3 or u.shape[2] != width or 0 in u.shape:
        raise ShapeError(
            f"layer {name!r}: inputs have shape {u.shape}, expected (batch, L, {width}), at least one sequence and step"
        )
    if not np.isfinite(u).all():
        raise NonFiniteError(f"layer {name!r}: the inputs hold NaN or infinite values")
    if mask is None:
        return None
    mask = np.asarray(to_numpy(mask))
    if mask.shape != u.shape[:2] or mask.dtype != bool or not mask.any():
        raise ShapeError(
            f"layer {name!r}: the mask has shape {mask.shape} and dtype {mask.dtype}; Booleans of shape {u.shape[:2]}, "
            "some of them true, are needed"
        )
    return mask


def _by_system(values: np.ndarray, systems: int) -> np.ndarray:
    """Values (rows, steps, systems * k) as (systems, rows * steps, k)."""
    rows, steps, width = values.shape
    return values.reshape(rows * steps, systems, width // systems).transpose(1, 0, 2)


class _Run:
    """The states of a system, its batch flattened to one axis, in blocks of sequences and steps."""

    def __init__(self, ssm: DiagonalSSM) -> None:
        self.ssm = ssm
        self.count = ssm.systems
        self.width = (4 if ssm.bidirectional else 2) * ssm.order
        self.Lambda = np.ascontiguousarray(ssm.Lambda).reshape(self.count, ssm.order)
        self.B = B = np.ascontiguousarray(ssm.B).reshape(self.count, ssm.order, ssm.inputs)
        self.drive = np.stack([B.real, B.imag], axis=2).reshape(self.count, -1, ssm.inputs).transpose(0, 2, 1)[:, None]

    def blocks(self, u: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Rows, steps, and coordinates with inputs behind them, shape (s, rows * steps, N + m)."""
        rows, length = u.shape[:2]
        samples = max(256, _BLOCK_BYTES // (8 * self.count * (self.width + self.ssm.inputs)))
        block, chunk = max(1, samples // length), min(length, samples)
        for i in range(0, rows, block):
            row = slice(i, min(i + block, rows))
            chunks = [slice(k, min(k + chunk, length)) for k in range(0, length, chunk)]
            borders = self._borders(u[row], chunks)
            state = self._zero(row)
            for step, after in zip(chunks, borders, strict=True):
                v = self._inputs(u[row, step])
                causal = self._scan(v, state, reverse=False)
                state = causal[:, :, -1].copy()
                halves = [causal] + ([] if after is None else [self._scan(v, after, reverse=True)])
                yield row, step, self._joined(halves, v)

    def _borders(self, u: np.ndarray, chunks: list[slice]) -> list[np.ndarray | None]:
        """States of the reverse half behind each chunk."""
        if not self.ssm.bidirectional:
            return [None] * len(chunks)
        borders: list[np.ndarray | None] = [self._zero(slice(0, len(u)))]
        for step in reversed(chunks[1:]):
            borders.append(self._scan(self._inputs(u[:, step]), borders[-1], reverse=True)[:, :, 0].copy())
        return borders[::-1]

    def _inputs(self, u: np.ndarray) -> np.ndarray:
        rows, steps, _ = u.shape
        u = np.asarray(u, dtype=np.float64).reshape(rows, steps, self.count, self.ssm.inputs)
        return np.ascontiguousarray(u.transpose(2, 0, 1, 3))

    def _zero(self, row: slice) -> np.ndarray:
        return np.zeros((self.count, row.stop - row.start, self.ssm.order), dtype=np.complex128)

    def _scan(self, v: np.ndarray, state: Any, *, reverse: bool) -> np.ndarray:
        driven = np.matmul(v, self.drive).view(np.complex128)
        return engine_for(v, None).scan(self.Lambda, driven, state, reverse=reverse)

    def _joined(self, halves: list[np.ndarray], v: np.ndarray) -> np.ndarray:
        """The two (four) coordinates of each state side by side, then the inputs."""
        samples = v.shape[1] * v.shape[2]
        z = np.empty((self.count, samples, self.width + self.ssm.inputs))
        pairs = z[..., : self.width].reshape(self.count, samples, self.ssm.order, len(halves), 2)
        for h, states in enumerate(halves):
            pairs[..., h, :] = states.view(np.float64).reshape(self.count, samples, self.ssm.order, 2)
        z[..., : self.width] = pairs.reshape(self.count, samples, self.width)
        z[..., self.width :] = v.reshape(self.count, samples, -1)
        return z
