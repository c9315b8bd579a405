"""Drop-in PyTorch layers on the compiled kernels: one operator, on a processor, where no gradient is needed."""

import ctypes
import os
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from ..engines._layer import Layer
from ..engines.numba import _engine
from ..errors import ArgumentError, NonFiniteError
from ..systems import DiagonalSSM
from ._flat import Structure, system_of
from ._torch_run import impulse_response, matrices_of, run_matrices

NAMES = ("log_rate", "angle", "unit", "side", "owner", "B", "C", "D", "C_reverse")
"""Tensors of a layer that `respond` takes, the last one only of bidirectional layers."""

_SHORT = 128  # samples up to which a transform with a kept kernel is faster than the recurrence ...
_MANY = 16  # ... where each feature has more states than this
_DTYPES = (torch.float32, torch.float64)

_memcmp = ctypes.CDLL("msvcrt" if os.name == "nt" else None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

_LIBRARY = torch.library.Library("ssmreduce", "FRAGMENT")
_LIBRARY.define("respond(Tensor u, Tensor[] layer, int systems, Tensor? state, bool carry) -> (Tensor, Tensor)")
respond = torch.ops.ssmreduce.respond.default
"""Outputs (batch, L, s * p) of u (batch, L, s * m), and the state (batch, N, 2) after them where it is carried.

`layer` are the tensors of `NAMES`. Not differentiable: see `serves`.
"""


def serves(u: torch.Tensor, state: torch.Tensor | None, layer: list[torch.Tensor]) -> bool:
    """Whether `respond` does for a call: on a processor, and nothing to differentiate."""
    if u.device.type != "cpu" or u.dtype not in _DTYPES or torch.autograd.forward_ad._current_level >= 0:
        return False
    if not torch.is_grad_enabled():
        return True
    return not any(tensor.requires_grad for tensor in (u, *layer, *(() if state is None else (state,))))


def run_layer(
    u: torch.Tensor, layer: list[torch.Tensor], systems: int, state: torch.Tensor | None = None, carry: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`respond`; not through PyTorch's dispatcher, which takes longer than a short sequence, where nobody listens."""
    recorded = torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state()
    if recorded or type(u) is not torch.Tensor:
        return respond(u, layer, systems, state, carry)
    inputs = (u, *layer) if state is None else (u, state, *layer)
    if any(map(torch._C._functorch.is_functorch_wrapped_tensor, inputs)):
        return respond(u, layer, systems, state, carry)
    return _answer(u, layer, systems, state, carry)


def _answer(
    u: torch.Tensor, layer: list[torch.Tensor], systems: int, state: torch.Tensor | None, carry: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    if u.numel() and layer[0].numel():
        try:
            return _packed(layer, systems).run(u.detach(), state, carry)
        except NonFiniteError:  # goes through a network as it does in any other layer
            pass
    return run_matrices(matrices_of(*layer), u, layer[4], systems, state, carry)


def _on_host(
    u: torch.Tensor, layer: list[torch.Tensor], systems: int, state: torch.Tensor | None, carry: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    y, last = _answer(u, layer, systems, state, carry)
    return y.contiguous(), u.new_empty(0) if last is None else last.contiguous()


def _shapes(
    u: torch.Tensor, layer: list[torch.Tensor], systems: int, state: torch.Tensor | None, carry: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    y = u.new_empty(*u.shape[:2], systems * layer[6].shape[1])
    return y, u.new_empty((u.shape[0], layer[0].shape[0], 2) if carry else (0,))


def _mapped(
    info: Any, axes: tuple, u: torch.Tensor, layer: list[torch.Tensor], systems: int, state: Any, carry: bool
) -> tuple:
    """The mapped axis joins the batch."""
    if any(axis is not None for axis in axes[1]):
        raise ArgumentError(
            "torch.vmap over the parameters of a drop-in layer: only its differentiable form takes that; leave no_grad"
        )

    def joined(tensor: torch.Tensor, axis: int | None) -> torch.Tensor:
        whole = tensor.expand(info.batch_size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
        return whole.flatten(0, 1)

    y, last = respond(joined(u, axes[0]), layer, systems, None if state is None else joined(state, axes[3]), carry)
    split = (info.batch_size, -1)
    return (y.unflatten(0, split), last.unflatten(0, split) if carry else last), (0, 0 if carry else None)


_LIBRARY.impl("respond", _on_host, "CPU")
torch.library.register_fake("ssmreduce::respond", _shapes, lib=_LIBRARY)
torch.library.register_vmap("ssmreduce::respond", _mapped, lib=_LIBRARY)


def system_of_tensors(layer: list[torch.Tensor], systems: int) -> DiagonalSSM:
    """The system of the tensors of `NAMES` in double precision; those of a batch padded with silent states."""
    tensors = {name: tensor.detach() for name, tensor in zip(NAMES, layer, strict=False)}
    B, C, D = tensors["B"], tensors["C"], tensors["D"]
    counts = tuple(np.bincount(tensors["owner"].numpy(), minlength=systems).tolist())
    unit, side = (tuple(tensors[name].double().tolist()) for name in ("unit", "side"))
    structure = Structure(counts, B.shape[1], C.shape[1], "C_reverse" in tensors, D.ndim == 1, unit, side)
    return system_of(structure, {name: value.double().numpy() for name, value in tensors.items()})


_KEPT: dict[int, tuple[StorageWeakRef, "_Packed"]] = {}


def _packed(layer: list[torch.Tensor], systems: int) -> "_Packed":
    """The layer made ready; kept as long as the memory of its tensor C, and made anew where any value has changed.

    The values themselves are compared, which takes less than the kernel does to read them: versions of tensors do not
    tell of changes through ``.data``, nor in inference mode.
    """
    key = layer[6].data_ptr()
    _, found = _KEPT.get(key, (None, None))
    if found is None or not found.fits(layer):
        for other in [other for other, (memory, _) in list(_KEPT.items()) if memory.expired()]:
            _KEPT.pop(other, None)
        places = tuple(tensor.data_ptr() for tensor in layer)
        copies = [tensor.detach().clone(memory_format=torch.contiguous_format) for tensor in layer]
        found = _Packed(copies, systems, places)
        _KEPT[key] = StorageWeakRef(layer[6].untyped_storage()), found
    return found


class _Packed:
    """One layer ready to run, and the tensors that it was made of.

    Parameters
    ----------
    layer : list of Tensor
        Contiguous copies of the tensors of `NAMES`.
    systems : int
    places : tuple of int
        Where the tensors themselves lie.
    """

    def __init__(self, layer: list[torch.Tensor], systems: int, places: tuple[int, ...]) -> None:
        self.layer, self.systems, self.places = layer, systems, places
        self.values = tuple(tensor.data_ptr() for tensor in layer)
        self.sizes = tuple(tensor.nbytes for tensor in layer)
        self.transforms: dict[int, torch.Tensor] = {}
        owner, B, C = (layer[k].numpy() for k in (4, 5, 6))
        self.ready = _engine.prepare(self._layer())
        counts = np.bincount(owner, minlength=systems)
        self.order = int(counts.max())
        self.kind = np.complex64 if B.dtype == np.float32 else np.complex128
        slot = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        uniform = len(owner) == systems * self.order
        self.slots = slice(None) if uniform else owner * self.order + slot
        self.convolves = systems > 1 and B.shape[1] == C.shape[1] == 1 and self.order > _MANY

    def _layer(self) -> Layer:
        """See `Layer`; built in double precision and rounded once."""
        ssm, real = system_of_tensors(self.layer, self.systems), self.layer[5].numpy().dtype
        arrays = [
            None if value is None else value.reshape(self.systems, *value.shape[len(ssm.batch) :])
            for value in (ssm.Lambda, ssm.B, ssm.C, ssm.C_reverse, ssm.D)
        ]
        kind = np.result_type(real, np.complex64)
        return Layer(*[None if a is None else a.astype(real if a.dtype.kind == "f" else kind) for a in arrays])

    def fits(self, layer: list[torch.Tensor]) -> bool:
        """Whether these tensors are those that it was made of, with the same values."""
        places = tuple(tensor.data_ptr() for tensor in layer if tensor.is_contiguous())
        return places == self.places and not any(map(_memcmp, places, self.values, self.sizes))

    def run(self, u: torch.Tensor, state: torch.Tensor | None, carry: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `respond`."""
        if self.convolves and state is None and not carry and u.shape[1] <= _SHORT:
            return self._convolved(u), None
        first = np.zeros((u.shape[0], self.systems, self.order), self.kind)
        if state is not None:
            first.reshape(len(first), -1)[:, self.slots] = torch.view_as_complex(state.detach().contiguous()).numpy()
        reverse = np.zeros_like(first) if len(self.layer) == len(NAMES) else None
        found = self.ready.run(u.contiguous().numpy(), first, reverse, threads=torch.get_num_threads())
        y = torch.from_numpy(found.output)
        if not carry:
            return y, None
        last = np.ascontiguousarray(found.state.reshape(len(first), -1)[:, self.slots])
        return y, torch.view_as_real(torch.from_numpy(last))

    def _convolved(self, u: torch.Tensor) -> torch.Tensor:
        """Through the transforms of the kernels, kept for each length, along the axis that lies in the memory."""
        length = u.shape[1]
        if length not in self.transforms:
            Lambda, B, C, C_reverse, D = matrices_of(*self.layer)
            kernel = impulse_response(Lambda, B, C, self.layer[4], self.systems, length)[:, 0]
            kernel[:, 0] += D
            transform = torch.fft.rfft(kernel, n=2 * length)
            if C_reverse is not None:
                back = impulse_response(Lambda, B, C_reverse, self.layer[4], self.systems, length)[:, 0]
                transform = transform + torch.fft.rfft(back, n=2 * length).conj()
            self.transforms[length] = transform
        v = torch.fft.rfft(u.transpose(1, 2), n=2 * length) * self.transforms[length]
        return torch.fft.irfft(v, n=2 * length)[..., :length].transpose(1, 2).contiguous()
