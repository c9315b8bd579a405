"""Drop-in PyTorch layers with the calls of the layers of known families, and empty ones for weights that are loaded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..errors import ArgumentError, UnknownNameError
from ..systems import DiagonalSSM
from ._torch_layers import SSMLayer
from ._torch_run import impulse_response


class PairLayer(SSMLayer):
    """With the call of S4D-like layers: returns the outputs and None for a state."""

    call = "pair"

    def forward(self, u: torch.Tensor, **ignored: Any) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        """See `SSMLayer.forward`."""
        return super().forward(u), None


class S5PyTorchLayer(SSMLayer):
    """With the call of ``S5SSM`` of the package s5-pytorch."""

    call = "s5_pytorch"
    step_scale = 1.0

    def forward(
        self, signal: torch.Tensor, step_scale: Any = 1.0, state: Any = None, return_state: bool = False
    ) -> Any:
        """Outputs (L, width) of a signal (L, width), and the state where it is asked for."""
        self._check_scale(step_scale)
        y, last = self.run(signal, state, carry=return_state)
        return (y, last) if return_state else y

    def forward_rnn(
        self, signal: torch.Tensor, prev_state: torch.Tensor, step_scale: Any = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One sample; see `SSMLayer.step`."""
        self._check_scale(step_scale)
        return self.step(signal, prev_state)


class LRULayer(SSMLayer):
    """With the call of the LRU of lru-reduction and of LRU-pytorch."""

    call = "lru"

    def forward(self, input: torch.Tensor, state: Any = None, mode: str = "scan") -> torch.Tensor:
        """Outputs (batch, L, width) of inputs (batch, L, width)."""
        if state is None:
            return super().forward(input)
        start = torch.view_as_real(state) if state.is_complex() else state
        if input.ndim == 3 and start.ndim == 2:
            start = start.expand(input.shape[0], *start.shape)
        return self.run(input, start)[0]


class KernelLayer(SSMLayer):
    """In place of the child that gives the convolution kernel of an S4D layer; the layer itself has D."""

    call = "kernel"

    def __init__(self, ssm: DiagonalSSM, **options: Any) -> None:
        super().__init__(ssm, **options)
        if ssm.inputs > 1 or ssm.bidirectional:
            raise ArgumentError(f"a convolution kernel is of causal systems of one input, not of {ssm!r}")
        self.register_parameter("D", None)

    def channels(self, length: int) -> torch.Tensor:
        """Kernels (channels, width, L)."""
        Lambda, B, C, _, _ = self.matrices()
        return impulse_response(Lambda, B, C, self.owner, self.systems, length).transpose(0, 1)

    def forward(self, L: int, **ignored: Any) -> torch.Tensor:  # type: ignore[override]
        """Kernel (width, L)."""
        return self.channels(L)[0]


class ChannelKernelLayer(KernelLayer):
    """With the call of the kernels of S4Block and DSS: returns all channels, and None for a state."""

    call = "channel_kernel"
    step_scale = 1.0

    def forward(  # type: ignore[override]
        self, L: int | None = None, rate: Any = 1.0, state: Any = None, **ignored: Any
    ) -> tuple[torch.Tensor, None]:
        """Kernels (channels, width, L)."""
        if L is None or state is not None:
            raise ArgumentError("a drop-in kernel needs the length L, and takes no state")
        self._check_scale(rate)
        return self.channels(L), None


LAYERS: dict[str, type[SSMLayer]] = {
    cls.call: cls for cls in (SSMLayer, PairLayer, S5PyTorchLayer, LRULayer, KernelLayer, ChannelKernelLayer)
}
"""The calls that are known, by the names under which files remember them."""


def empty_layer(
    *,
    call: str,
    counts: Sequence[int],
    inputs: int,
    outputs: int,
    bidirectional: bool = False,
    diagonal: bool = True,
    channels_first: bool = False,
    dtype: str = "float32",
    step_scale: float | None = None,
) -> SSMLayer:
    """A drop-in layer of a shape, for weights that are loaded into it.

    Parameters
    ----------
    call : {"plain", "pair", "s5_pytorch", "lru", "kernel", "channel_kernel"}
        How the layer is called.
    counts : sequence of int
        States of each system; one number for a layer that is one system.
    inputs, outputs : int
        Of each system.
    bidirectional, diagonal, channels_first : bool
        `diagonal`: D is a vector.
    dtype : {"float32", "float64"}
    step_scale : float, optional
        That the network passes on, in s5-pytorch and S4.

    Raises
    ------
    UnknownNameError
        Another call.
    """
    if call not in LAYERS:
        raise UnknownNameError(f"there is no call {call!r}; choose from {', '.join(LAYERS)}")
    s, n = len(counts), max(counts, default=0)
    valid = np.arange(n) < np.asarray(counts)[:, None]
    fill = np.where(valid, 0.5, 0.0)
    D = np.zeros((s, outputs, inputs)) + (0.0 if diagonal or inputs != outputs else 1.0)
    reverse = np.zeros((s, outputs, n)) if bidirectional else None
    ssm = DiagonalSSM(fill, np.zeros((s, n, inputs)), np.zeros((s, outputs, n)), D, reverse)
    if s == 1:
        halves = None if reverse is None else reverse[0]
        ssm = DiagonalSSM(fill[0], ssm.B[0], ssm.C[0], D[0], halves)
    layer = LAYERS[call](ssm, valid=valid, channels_first=channels_first, dtype=getattr(torch, dtype))
    if step_scale is not None:
        layer.step_scale = step_scale
    return layer
