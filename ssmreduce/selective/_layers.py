"""Selective layers as immutable systems: what Mamba-1 and Mamba-2 do between the residual stream and back."""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np

from ..errors import NotRepresentableError, SelectionError, ShapeError

Array = Any
"""A NumPy array or a PyTorch tensor."""


@dataclass(frozen=True, eq=False)
class SelectiveSSM:
    r"""A layer whose state matrices depend on its input; the base of `Mamba1SSM` and `Mamba2SSM`.

    Per token the layer projects its input, convolves it over the last few tokens, and runs

    .. math:: X_t = \exp(\Delta_t A) \odot X_{t-1} + \Delta_t x_t B_t^T, \qquad y_t = X_t C_t + D x_t,

    where :math:`\Delta_t, B_t, C_t` are functions of the input. :math:`X_t` has one row per inner channel and one
    column per state; the *order* is the number of columns (per group, for Mamba-2). All arrays of a layer belong to
    one library (NumPy or PyTorch).

    Attributes
    ----------
    in_proj, out_proj : array
        Input and output projections, weights as ``torch.nn.Linear`` stores them: (outputs, inputs).
    conv : array, shape (channels, taps)
        Depthwise convolution; the last tap acts on the newest token.
    A_log, D : array
        :math:`A = -\exp(A_{log})` and the direct term.
    dt_bias : array
        Bias in :math:`\Delta = \mathrm{softplus}(\cdot + b)`.
    in_bias, conv_bias, out_bias : array or None
    """

    kind: ClassVar[str] = ""

    @property
    def inputs(self) -> int:
        """Width of the residual stream that the layer reads."""
        return int(self.in_proj.shape[1])  # type: ignore[attr-defined]

    @property
    def outputs(self) -> int:
        """Width of the residual stream that the layer writes."""
        return int(self.out_proj.shape[0])  # type: ignore[attr-defined]

    @property
    def inner(self) -> int:
        """Number of inner channels, the rows of the state."""
        return int(self.out_proj.shape[1])  # type: ignore[attr-defined]

    @property
    def taps(self) -> int:
        """Length of the convolution."""
        return int(self.conv.shape[1])  # type: ignore[attr-defined]

    @property
    def order(self) -> int:
        """Number of states per inner channel (and group) that the recurrence runs."""
        raise NotImplementedError

    def map_arrays(self, function: Any) -> Any:
        """Layer with a function applied to each of its arrays, integer index arrays excepted."""
        changed = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays = {k: v for k, v in changed.items() if hasattr(v, "shape") and k != "take_B"}
        return replace(self, **{name: function(value) for name, value in arrays.items()})

    def __repr__(self) -> str:
        return f"{type(self).__name__}(order={self.order}, inner={self.inner}, inputs={self.inputs})"

    def _require(self, name: str, *shape: int) -> None:
        value = getattr(self, name)
        if value is not None and tuple(value.shape) != shape:
            raise ShapeError(f"{name} has shape {tuple(value.shape)}; the other arrays of the layer need {shape}")


@dataclass(frozen=True, eq=False, repr=False)
class Mamba1SSM(SelectiveSSM):
    r"""A Mamba-1 layer (Gu and Dao, 2023): one pole per channel and state.

    Parameters
    ----------
    in_proj : array, shape (2 I, d)
        Rows of the signal, then of the gate.
    conv : array, shape (I, taps)
    x_proj : array, shape (R + 2 N, I)
        Rows of the time step, of B, of C.
    dt_proj : array, shape (I, R)
    dt_bias : array, shape (I,)
    A_log : array, shape (I, n)
    D : array, shape (I,)
    out_proj : array, shape (d, I)
    in_bias, conv_bias, x_bias, out_bias : array, optional
    norm_eps : float, optional
        Where given, the time step, B and C pass a root-mean-square norm first (Falcon-Mamba, Jamba). The norm of B
        and C runs over all N rows of ``x_proj``, so those rows stay when states are taken.
    dt_norm, B_norm, C_norm : array, optional
        Weights of these norms.
    dt_floor : float
        Added to the time step.
    ahead : int
        Taps of the convolution that reach into the future (0: causal).
    bidirectional : bool
        Whether a second recurrence runs backwards in time and is added.
    take_B : array of int, shape (n,), optional
        Rows of B that the n states read; all of them by default (n = N).
    mix_C : array, shape (n, N), optional
        The recurrence reads out with ``mix_C @ C``; `absorb` folds it into ``x_proj``.

    Raises
    ------
    ShapeError
        The arrays do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.selective import random_layer, take_states
    >>> layer = random_layer("mamba1", width=4, order=8, seed=0)
    >>> layer.order, take_states(layer, [0, 3, 5]).order
    (8, 3)
    """

    in_proj: Array
    conv: Array
    x_proj: Array
    dt_proj: Array
    dt_bias: Array
    A_log: Array
    D: Array
    out_proj: Array
    in_bias: Array | None = None
    conv_bias: Array | None = None
    x_bias: Array | None = None
    out_bias: Array | None = None
    norm_eps: float | None = None
    dt_norm: Array | None = None
    B_norm: Array | None = None
    C_norm: Array | None = None
    dt_floor: float = 0.0
    ahead: int = 0
    bidirectional: bool = False
    take_B: Array | None = None
    mix_C: Array | None = None
    kind: ClassVar[str] = "mamba1"

    def __post_init__(self) -> None:
        inner, rank, rows = self.inner, self.rank, self.rows
        if rows < 1 or 2 * rows + rank != self.x_proj.shape[0]:
            raise ShapeError(
                f"x_proj has {self.x_proj.shape[0]} rows; with rank {rank} an even number of rows must remain"
            )
        self._require("in_proj", 2 * inner, self.inputs)
        self._require("conv", inner, self.taps)
        self._require("dt_proj", inner, rank)
        self._require("A_log", inner, self.order)
        for name in ("dt_bias", "D", "conv_bias"):
            self._require(name, inner)
        self._require("x_bias", rank + 2 * rows)
        self._require("mix_C", self.order, rows)
        self._require("take_B", self.order)
        if self.take_B is None and self.order != rows:
            raise ShapeError(f"A_log has {self.order} states and x_proj {rows} rows of B; give take_B")
        if not 0 <= self.ahead < self.taps:
            raise ShapeError(f"ahead is {self.ahead}; the convolution has {self.taps} taps")

    @property
    def rank(self) -> int:
        """Rank of the time step."""
        return int(self.dt_proj.shape[1])

    @property
    def rows(self) -> int:
        """Rows of B (and of C) that ``x_proj`` computes."""
        return (int(self.x_proj.shape[0]) - self.rank) // 2

    @property
    def order(self) -> int:
        """Number of states per inner channel."""
        return int(self.A_log.shape[1])

    @property
    def groups(self) -> int:
        """Groups with their own B and C: 1."""
        return 1

    @property
    def causal(self) -> bool:
        """Whether the output at a token depends on no later token."""
        return self.ahead == 0 and not self.bidirectional


@dataclass(frozen=True, eq=False, repr=False)
class Mamba2SSM(SelectiveSSM):
    r"""A Mamba-2 layer (Dao and Gu, 2024): one pole per head, B and C shared by the heads of a group.

    With I = H P inner channels (H heads of P channels), G groups and N rows of B and C per group:

    Parameters
    ----------
    in_proj : array, shape (2 I + 2 G N + H, d)
        Rows of the gate, of the signal, of B, of C, of the time step.
    conv : array, shape (I + 2 G N, taps)
    dt_bias, A_log : array, shape (H,)
    D : array, shape (H,) or (I,)
    out_proj : array, shape (d, I)
    groups : int
        G.
    in_bias, conv_bias, out_bias : array, optional
    norm_weight : array, shape (I,), optional
        Weight of the gated root-mean-square norm; without it the signal is only gated.
    norm_groups : int
        Groups of channels over each of which the norm runs.
    norm_eps : float
    norm_before_gate : bool
        Whether the norm acts before the gate.
    dt_limit : tuple of float
        Range to which the time step is clipped.
    mix_B, mix_C : array, shape (G, n, N), optional
        After the convolution the recurrence reads ``mix_B @ B`` and ``mix_C @ C``, so that it runs n states. A
        nonlinearity stands between ``in_proj`` and B, C: the mixes cannot be absorbed.

    Raises
    ------
    ShapeError
        The arrays do not fit together.

    Examples
    --------
    >>> from ssmreduce.selective import random_layer
    >>> random_layer("mamba2", width=8, order=16, groups=2, seed=0)
    Mamba2SSM(order=16, inner=16, inputs=8)
    """

    in_proj: Array
    conv: Array
    dt_bias: Array
    A_log: Array
    D: Array
    out_proj: Array
    groups: int = 1
    in_bias: Array | None = None
    conv_bias: Array | None = None
    out_bias: Array | None = None
    norm_weight: Array | None = None
    norm_groups: int = 1
    norm_eps: float = 1e-5
    norm_before_gate: bool = False
    dt_limit: tuple[float, float] = (0.0, float("inf"))
    mix_B: Array | None = None
    mix_C: Array | None = None
    kind: ClassVar[str] = "mamba2"

    def __post_init__(self) -> None:
        if self.heads < 1 or self.inner % self.heads or self.heads % self.groups or self.inner % self.norm_groups:
            raise ShapeError(
                f"{self.inner} inner channels, {self.heads} heads, {self.groups} groups and {self.norm_groups} groups "
                "of the norm do not divide one another"
            )
        states = int(self.conv.shape[0]) - self.inner
        if states < 2 or states % (2 * self.groups):
            raise ShapeError(f"conv has {self.conv.shape[0]} channels; {self.inner} + 2 * {self.groups} * N are needed")
        self._require("in_proj", self.inner + int(self.conv.shape[0]) + self.heads, self.inputs)
        self._require("dt_bias", self.heads)
        self._require("norm_weight", self.inner)
        if tuple(self.D.shape) not in ((self.heads,), (self.inner,)):
            raise ShapeError(f"D has shape {tuple(self.D.shape)}; ({self.heads},) or ({self.inner},) is needed")
        if (self.mix_B is None) != (self.mix_C is None):
            raise ShapeError("mix_B and mix_C must be given together")
        self._require("mix_B", self.groups, self.order, self.rows)
        self._require("mix_C", self.groups, self.order, self.rows)

    @property
    def heads(self) -> int:
        """Number of heads."""
        return int(self.A_log.shape[0])

    @property
    def head_dim(self) -> int:
        """Inner channels per head."""
        return self.inner // self.heads

    @property
    def rows(self) -> int:
        """Rows of B (and of C) per group that the convolution computes."""
        return (int(self.conv.shape[0]) - self.inner) // (2 * self.groups)

    @property
    def order(self) -> int:
        """Number of states per inner channel."""
        return self.rows if self.mix_B is None else int(self.mix_B.shape[1])

    @property
    def causal(self) -> bool:
        """Always true."""
        return True


def state_indices(layer: SelectiveSSM, keep: Any) -> np.ndarray:
    """Check the states that are to stay: increasing indices, shape (groups, n).

    Raises
    ------
    SelectionError
        Not increasing, out of range, none at all, or another number of rows than groups.
    """
    groups = layer.groups  # type: ignore[attr-defined]
    index = np.asarray(keep)
    if index.size == 0 or index.dtype.kind not in "iu":
        raise SelectionError("keep must hold at least one index of a state, as integers")
    index = np.broadcast_to(index, (groups, index.shape[-1])) if index.ndim == 1 else index
    if index.shape[0] != groups or index.ndim != 2:
        raise SelectionError(f"keep has shape {index.shape}; one row per group is needed ({groups})")
    if index.min() < 0 or index.max() >= layer.order or np.any(np.diff(index, axis=1) <= 0):
        raise SelectionError(f"keep must be increasing indices below {layer.order} in each group")
    return index.astype(np.int64)


def take_states(layer: Any, keep: Any) -> Any:
    """Layer with some of its states, and everything else as it was.

    Without norms over the states the result is a stock layer of a smaller state size, and equals the layer whose other
    states are silent. With such norms (Falcon-Mamba, Jamba) the rows of B and C stay, so that the result is exact; stock
    code then cannot hold it.

    Parameters
    ----------
    layer : Mamba1SSM or Mamba2SSM
    keep : array_like of int, shape (n,) or (groups, n)
        Increasing indices.

    Returns
    -------
    Mamba1SSM or Mamba2SSM

    Raises
    ------
    SelectionError

    Examples
    --------
    >>> from ssmreduce.selective import random_layer, take_states
    >>> layer = random_layer("mamba2", width=8, order=16, groups=2, seed=0)
    >>> take_states(layer, [[0, 1], [4, 9]]).order
    2
    """
    index = state_indices(layer, keep)
    return _take_mamba1(layer, index[0]) if layer.kind == "mamba1" else _take_mamba2(layer, index)


def _take_mamba1(layer: Mamba1SSM, keep: np.ndarray) -> Mamba1SSM:
    if layer.norm_eps is None and layer.take_B is None and layer.mix_C is None:
        head = layer.rank
        rows = np.concatenate([np.arange(head), head + keep, head + layer.rows + keep])
        bias = None if layer.x_bias is None else layer.x_bias[rows]
        return replace(layer, x_proj=layer.x_proj[rows], x_bias=bias, A_log=layer.A_log[:, keep])
    take = keep if layer.take_B is None else np.asarray(layer.take_B)[keep]
    mix = like(np.eye(layer.rows)[keep], layer.A_log) if layer.mix_C is None else layer.mix_C[keep]
    return replace(layer, A_log=layer.A_log[:, keep], take_B=take, mix_C=mix)


def _take_mamba2(layer: Mamba2SSM, keep: np.ndarray) -> Mamba2SSM:
    if layer.mix_B is not None:
        group = np.arange(layer.groups)[:, None]
        return replace(layer, mix_B=layer.mix_B[group, keep], mix_C=layer.mix_C[group, keep])
    kept = (keep + layer.rows * np.arange(layer.groups)[:, None]).ravel()
    states = np.concatenate([kept, layer.groups * layer.rows + kept])
    inner, total = layer.inner, int(layer.in_proj.shape[0])
    channels = np.concatenate([np.arange(inner), inner + states])
    rows = np.concatenate([np.arange(inner), inner + channels, np.arange(total - layer.heads, total)])
    return replace(
        layer,
        in_proj=layer.in_proj[rows],
        in_bias=None if layer.in_bias is None else layer.in_bias[rows],
        conv=layer.conv[channels],
        conv_bias=None if layer.conv_bias is None else layer.conv_bias[channels],
    )


def silence_states(layer: Any, drop: Any) -> Any:
    """Layer of the same shapes in which some states have no effect on the output.

    Parameters
    ----------
    layer : Mamba1SSM or Mamba2SSM
    drop : array_like of int, shape (n,) or (groups, n)
        Increasing indices of the states to silence.

    Returns
    -------
    Mamba1SSM or Mamba2SSM

    Raises
    ------
    SelectionError

    Examples
    --------
    >>> from ssmreduce.selective import random_layer, silence_states
    >>> layer = random_layer("mamba1", width=4, order=8, seed=0)
    >>> silence_states(layer, [1, 2]).order
    8
    """
    index = state_indices(layer, drop)
    mix = layer.mix_C
    if layer.kind == "mamba1":
        mix = like(np.eye(layer.rows), layer.A_log) if mix is None else mix
        return absorb(replace(layer, mix_C=_scaled(mix, index[0], axis=0)))
    if mix is None:
        channels = (
            layer.inner + layer.groups * layer.rows + (index + layer.rows * np.arange(layer.groups)[:, None]).ravel()
        )
        bias = None if layer.conv_bias is None else _scaled(layer.conv_bias, channels, axis=0)
        return replace(layer, conv=_scaled(layer.conv, channels, axis=0), conv_bias=bias)
    ones = np.ones((layer.groups, layer.order, 1))
    np.put_along_axis(ones, index[:, :, None], 0.0, axis=1)
    return replace(layer, mix_C=mix * like(ones, mix))


def absorb(layer: Mamba1SSM) -> Mamba1SSM:
    """Fold the mix of C of a Mamba-1 layer into ``x_proj``, so that stock code can hold the layer.

    Raises
    ------
    NotRepresentableError
        A norm over the states stands between ``x_proj`` and C.
    """
    if layer.take_B is None and layer.mix_C is None:
        return layer
    if layer.norm_eps is not None:
        raise NotRepresentableError(
            "the layer normalises B and C over all its states (Falcon-Mamba, Jamba), so a selection or a mix cannot be "
            "absorbed in x_proj; keep it as a drop-in layer"
        )
    head, rows = layer.rank, layer.rows
    take = np.arange(layer.order) if layer.take_B is None else np.asarray(layer.take_B)
    mix = like(np.eye(rows), layer.A_log) if layer.mix_C is None else layer.mix_C
    weight, bias = layer.x_proj, layer.x_bias
    parts = [weight[:head], weight[head : head + rows][take], mix @ weight[head + rows :]]
    if bias is not None:
        bias = stack([bias[:head], bias[head : head + rows][take], mix @ bias[head + rows :]])
    return replace(layer, x_proj=stack(parts), x_bias=bias, take_B=None, mix_C=None)


def like(values: np.ndarray, array: Array) -> Array:
    """A NumPy array as an array of the library, precision and device of another."""
    if isinstance(array, np.ndarray):
        return np.asarray(values, dtype=array.dtype)
    import torch

    return torch.as_tensor(np.asarray(values), dtype=array.dtype, device=array.device)


def stack(parts: list[Array]) -> Array:
    """Concatenate along the first axis."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import torch

    return torch.cat(parts)


def _scaled(array: Array, rows: np.ndarray, axis: int) -> Array:
    """Array with some rows set to zero."""
    shape = [1] * len(array.shape)
    shape[axis] = int(array.shape[axis])
    ones = np.ones(shape[axis])
    ones[rows] = 0.0
    return array * like(ones.reshape(shape), array)


def random_layer(
    kind: str, width: int, order: int, *, groups: int = 1, heads: int = 4, expand: int = 2, taps: int = 4, seed: Any = 0
) -> Any:
    """Layer with random weights in NumPy double precision, for tests and examples.

    Parameters
    ----------
    kind : {"mamba1", "mamba2"}
    width : int
        Width of the residual stream.
    order : int
        States per inner channel.
    groups, heads : int
        For Mamba-2.
    expand : int
        Inner channels per channel of the stream.
    taps : int
    seed : int or Generator

    Returns
    -------
    Mamba1SSM or Mamba2SSM

    Examples
    --------
    >>> from ssmreduce.selective import random_layer
    >>> random_layer("mamba1", width=4, order=8)
    Mamba1SSM(order=8, inner=8, inputs=4)
    """
    rng = np.random.default_rng(seed)
    inner, rank = expand * width, max(1, width // 4)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape) / np.sqrt(shape[-1])

    if kind == "mamba1":
        return Mamba1SSM(
            in_proj=normal(2 * inner, width), conv=normal(inner, taps), conv_bias=0.1 * normal(inner),
            x_proj=normal(rank + 2 * order, inner), dt_proj=normal(inner, rank),
            dt_bias=rng.uniform(-4, -1, inner), A_log=np.log(rng.uniform(0.5, order, (inner, order))),
            D=normal(inner), out_proj=normal(width, inner),
        )  # fmt: skip
    channels = inner + 2 * groups * order
    return Mamba2SSM(
        in_proj=normal(inner + channels + heads, width), conv=normal(channels, taps), conv_bias=0.1 * normal(channels),
        dt_bias=rng.uniform(-4, -1, heads), A_log=np.log(rng.uniform(0.5, 8, heads)), D=normal(heads),
        out_proj=normal(width, inner), groups=groups, norm_weight=1 + 0.1 * normal(inner), norm_groups=groups,
    )  # fmt: skip
