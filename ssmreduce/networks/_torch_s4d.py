"""S4D layers of the published form around the drop-in of their kernel: without a kernel where no gradient is needed."""

import copy
from typing import Any

import torch

from ._torch_calls import KernelLayer
from ._torch_kernels import NAMES, run_layer, serves

_PARTS = {"kernel", "activation", "dropout", "output_linear"}
_TOLERANCE = 1e-4  # of a convolution in single precision


class S4DLayer(torch.nn.Module):
    """An S4D layer, its tensors and attributes those of the layer that it takes the place of.

    With gradients it convolves with the kernel of its drop-in, as the published code does. Without, it runs the
    systems themselves, and the whole layer in (batch, L, width).
    """

    kernel: KernelLayer
    D: torch.Tensor
    output_linear: Any

    def forward(self, u: torch.Tensor, **ignored: Any) -> tuple[torch.Tensor, None]:
        """Map (batch, width, L), or (batch, L, width) where the layer is not `transposed`, to the same shape."""
        first = getattr(self, "transposed", True)
        v = (u.transpose(-1, -2) if first else u).to(self.D.dtype)
        kernel = self.kernel
        tensors = kernel._tensors()
        tensors[NAMES.index("D")] = self.D
        if kernel._given is None and not kernel._forward_hooks and serves(v, None, tensors):
            y = run_layer(v, tensors, kernel.systems)[0].to(u.dtype)
        else:
            y = self._convolved(v).to(u.dtype)
        y = self._mapped(self._part("dropout", self._part("activation", y, torch.nn.functional.gelu)))
        return (y.transpose(-1, -2) if first else y), None

    def _convolved(self, v: torch.Tensor) -> torch.Tensor:
        length = v.shape[-2]
        kernel = torch.fft.rfft(self.kernel(L=length), n=2 * length)
        product = torch.fft.rfft(v.transpose(-1, -2), n=2 * length) * kernel
        return torch.fft.irfft(product, n=2 * length)[..., :length].transpose(-1, -2) + v * self.D

    def _part(self, name: str, y: torch.Tensor, default: Any = None) -> torch.Tensor:
        """A pointwise part of the layer; dropout sees (batch, width, L), of which it may drop whole channels."""
        part = self._modules.get(name)
        if part is None:
            return y if default is None else default(y)
        return part(y.transpose(-1, -2)).transpose(-1, -2)

    def _mapped(self, y: torch.Tensor) -> torch.Tensor:
        """The output map: a convolution of length 1 is a matrix product."""
        convolution: Any
        convolution, *rest = self.output_linear if isinstance(self.output_linear, torch.nn.Sequential) else [None]
        pointwise = isinstance(convolution, torch.nn.Conv1d) and convolution.kernel_size == (1,)
        if not pointwise or len(rest) != 1 or not isinstance(rest[0], torch.nn.GLU) or rest[0].dim not in (-2, 1):
            return self.output_linear(y.transpose(-1, -2)).transpose(-1, -2)
        return torch.nn.functional.glu(torch.nn.functional.linear(y, convolution.weight[..., 0], convolution.bias), -1)


def whole_layer(old: Any) -> Any:
    """The same as an `S4DLayer` where it has the parts of one and computes what it does, in both modes; else itself."""
    if set(old._modules) - _PARTS or "output_linear" not in old._modules or "D" not in old._parameters:
        return old
    new = copy.copy(old)
    new.__class__ = S4DLayer
    mode, width = old.training, len(old.D)
    lengths = (width, width + 3) if getattr(old, "transposed", True) else (width + 3, width)
    u = torch.linspace(-1, 1, lengths[0] * lengths[1]).sin().reshape(1, *lengths).to(old.D)
    try:
        same = all(_same(old.train(training), new.train(training), u) for training in (True, False))
    except (RuntimeError, TypeError, ValueError, AttributeError):  # it is called otherwise
        same = False
    old.train(mode)
    return new.train(mode) if same else old


def _same(old: torch.nn.Module, new: torch.nn.Module, u: torch.Tensor) -> bool:
    found = []
    for layer in (old, new):
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found.append(layer(u)[0])
    ours, theirs = found
    return torch.allclose(ours, theirs, rtol=0, atol=_TOLERANCE * float(ours.abs().max()))
