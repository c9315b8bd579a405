"""Programs as PyTorch modules of plain operations, for torch.export and whatever reads its graphs."""

from typing import Any

import numpy as np
import torch

from ._program import Program
from ._program_forms import blocks, one_step


class StepModule(torch.nn.Module):
    """One step: ``forward(u, state) -> (y, state)`` on (batch, width) and (batch, states)."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program, self._xp = program, Namespace(self)

    def forward(self, u: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Output and next state."""
        self._xp.begin()
        return one_step(self.program, self._xp, u, state)

    def initial_state(self, batch_size: int = 1) -> torch.Tensor:
        """States of zero."""
        return torch.zeros(batch_size, self.program.states)


class BlockModule(torch.nn.Module):
    """Whole sequences of one length: ``forward(u) -> y`` on (batch, L, width)."""

    def __init__(self, program: Program, length: int) -> None:
        super().__init__()
        self.program, self.length, self._xp = program, length, Namespace(self)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Outputs (batch, L, outputs), or (batch, outputs) of a network that answers once."""
        self._xp.begin()
        return blocks(self.program, self._xp, u, self.length)


class Namespace:
    """PyTorch's functions for the forms of programs; constants become buffers of a module in the order of use."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._buffers, self._used = module._buffers, 0

    def begin(self) -> None:
        """Begin anew with the first constant."""
        self._used = 0

    def constant(self, array: np.ndarray) -> torch.Tensor:
        """A constant in single precision."""
        name = f"constant_{self._used}"
        self._used += 1
        if name not in self._buffers:
            self._buffers[name] = torch.tensor(np.asarray(array, np.float32))
        return self._buffers[name]  # type: ignore[return-value]

    matmul, relu = staticmethod(torch.matmul), staticmethod(torch.relu)
    sigmoid, tanh = staticmethod(torch.sigmoid), staticmethod(torch.tanh)

    def gelu(self, x: torch.Tensor, approximate: str) -> torch.Tensor:
        """Of each number; `approximate` is "none" or "tanh"."""
        return torch.nn.functional.gelu(x, approximate=approximate)

    def norm(self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, eps: float) -> torch.Tensor:
        """Layer norm over the last axis."""
        return torch.nn.functional.layer_norm(x, scale.shape, scale, shift, eps)

    def concat(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """Along the last axis."""
        return torch.cat(parts, -1)

    def part(self, x: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Of the last axis."""
        return x[..., start:stop]

    def mean_of_time(self, x: torch.Tensor) -> torch.Tensor:
        """Over axis 1."""
        return x.mean(1)

    def sum_groups(self, x: torch.Tensor, groups: int, axis: int) -> torch.Tensor:
        """Sum of equal parts of the last axis, which is `axis`."""
        return x.unflatten(axis, (groups, -1)).sum(axis)

    def padded(self, x: torch.Tensor, count: int) -> torch.Tensor:
        """Zeros behind axis 1."""
        return torch.nn.functional.pad(x, (0, 0, 0, count))

    def in_blocks(self, x: torch.Tensor, count: int, size: int) -> torch.Tensor:
        """Axis 1 as (blocks, samples)."""
        return x.unflatten(1, (count, size))

    def in_rows(self, x: torch.Tensor, length: int, wanted: int) -> torch.Tensor:
        """The inverse, the padding cut off."""
        return x.flatten(1, 2)[:, :wanted]

    def cumulative(self, x: torch.Tensor) -> torch.Tensor:
        """Cumulative sums along axis 2."""
        return x.cumsum(2)

    def last(self, x: torch.Tensor) -> torch.Tensor:
        """The last of axis 2."""
        return x[:, :, -1]

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """With an axis 2 of length 1."""
        return x.unsqueeze(2)

    def shifted(self, x: torch.Tensor, count: int, length: int) -> torch.Tensor:
        """Later along axis 1 by `count`, zeros before."""
        return torch.nn.functional.pad(x, (0, 0, count, 0))[:, :length]


def module_form(network: Any, form: str, length: int | None, width: int | None) -> torch.nn.Module:
    """See `exportable`."""
    from ._torch_stepper import module_program

    program = module_program(network, width)
    if form == "step":
        step = StepModule(program)
        step(torch.zeros(1, program.width), step.initial_state())
        return step.eval()
    assert length is not None
    blocks = BlockModule(program, length)
    blocks(torch.zeros(1, length, program.width))  # makes the constants
    return blocks.eval()
