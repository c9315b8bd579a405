"""Selective layers as immutable systems: what Mamba-1 and Mamba-2 do between the residual stream and back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np

from ..errors import ShapeError

Array = Any
"""A NumPy array or a PyTorch tensor."""


@dataclass(frozen=True, eq=False)
class SelectiveSSM(ABC):
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
    @abstractmethod
    def order(self) -> int:
        """Number of states per inner channel (and group) that the recurrence runs."""

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
