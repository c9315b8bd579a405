"""The PyTorch engine: one differentiable operator; compiled loops, CUDA kernels, and a tree on other devices."""

from importlib.util import find_spec
from typing import Any

import torch

from ._layer import Layer, Products


def prepare(layer: Layer) -> Products:
    """See `_reference.prepare`."""
    return _TorchProducts(layer, scan)


def scan(Lambda: torch.Tensor, inputs: torch.Tensor, state: torch.Tensor, *, reverse: bool) -> torch.Tensor:
    """See `_reference.scan`; keeps `inputs`, and is differentiable any number of times."""
    function = _Reversible if torch.compiler.is_compiling() else _Scan
    return function.apply(Lambda, inputs, state, reverse)


class _TorchProducts(Products):
    """The products without copies: complex states and real pairs are views of one memory."""

    def _driven(self, v: torch.Tensor) -> torch.Tensor:
        product = torch.matmul(v.flatten(1, 2), self.B[:, 0])
        return torch.view_as_complex(product.reshape(*v.shape[:-1], self.order, 2))

    def _observed(self, C: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_real(states).flatten(-2).flatten(1, 2)
        return torch.matmul(pairs, C[:, 0]).reshape(*states.shape[:-1], self.outputs)


@torch.library.custom_op("ssmreduce::scan", mutates_args=())
def _states(Lambda: torch.Tensor, inputs: torch.Tensor, state: torch.Tensor, reverse: bool) -> torch.Tensor:
    """Opaque to torch.compile. This is the form for devices without a kernel of their own."""
    return tree_scan(Lambda, inputs, state, reverse)


@_states.register_kernel("cpu")
def _(Lambda: torch.Tensor, inputs: torch.Tensor, state: torch.Tensor, reverse: bool) -> torch.Tensor:
    from .numba import _engine

    states = inputs.clone(memory_format=torch.contiguous_format)
    _engine.scan(_host(Lambda), states.numpy(), _host(state), reverse=reverse)
    return states


@_states.register_kernel("cuda")
def _(Lambda: torch.Tensor, inputs: torch.Tensor, state: torch.Tensor, reverse: bool) -> torch.Tensor:
    if find_spec("cupy") is None:
        return tree_scan(Lambda, inputs, state, reverse)
    from .cuda import _cupy

    tensors = (tensor.detach().resolve_neg() for tensor in (Lambda, inputs, state))
    return _cupy.scan(*tensors, reverse=reverse)


def _host(tensor: torch.Tensor) -> Any:
    """NumPy view of a host tensor; a copy only where PyTorch keeps a conjugate or an order of its own."""
    return tensor.resolve_conj().resolve_neg().contiguous().numpy()


@_states.register_fake
def _(Lambda: torch.Tensor, inputs: torch.Tensor, state: torch.Tensor, reverse: bool) -> torch.Tensor:
    return torch.empty_like(inputs, memory_format=torch.contiguous_format)


class _Reversible(torch.autograd.Function):
    """The scan and its reverse derivative, which is a scan again."""

    @staticmethod
    def forward(Lambda: torch.Tensor, inputs: torch.Tensor, state: torch.Tensor, reverse: bool) -> torch.Tensor:
        return _states(Lambda, inputs, state, reverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        Lambda, _, state, ctx.reverse = inputs
        ctx.save_for_backward(Lambda, state, output)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple:
        """g_k = gradient_k + conj(Lambda) g_{k+1} is the gradient of the inputs, and the others follow from it."""
        Lambda, state, states = ctx.saved_tensors
        g = scan(Lambda.conj(), gradient, torch.zeros_like(state), reverse=not ctx.reverse)
        if ctx.reverse:
            first, before, after = g[:, :, -1], states[:, :, 1:], g[:, :, :-1]
        else:
            first, before, after = g[:, :, 0], states[:, :, :-1], g[:, :, 1:]
        poles = None
        if ctx.needs_input_grad[0]:
            poles = (torch.linalg.vecdot(before, after, dim=2) + state.conj() * first).sum(1)
        return poles, g, Lambda.conj()[:, None] * first, None


class _Scan(_Reversible):
    """With forward derivatives and torch.vmap too, which torch.compile (PyTorch 2.13) does not follow."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        _Reversible.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[0], inputs[2], output)

    @staticmethod
    def jvp(ctx: Any, Lambda_t: torch.Tensor, inputs_t: torch.Tensor, state_t: torch.Tensor, _: None) -> torch.Tensor:
        """A scan of d v_k + d Lambda x_{k-1}."""
        Lambda, state, states = ctx.saved_tensors
        start = state[:, :, None]
        if ctx.reverse:
            before = torch.cat([states[:, :, 1:], start], dim=2)
        else:
            before = torch.cat([start, states[:, :, :-1]], dim=2)
        return scan(Lambda, inputs_t + Lambda_t[:, None, None] * before, state_t, reverse=ctx.reverse)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple[torch.Tensor, int]:
        """The mapped axis joins the axis of systems."""

        def joined(tensor: torch.Tensor, axis: int | None) -> torch.Tensor:
            if axis is None:
                return tensor.expand(info.batch_size, *tensor.shape).flatten(0, 1)
            return tensor.movedim(axis, 0).flatten(0, 1)

        *tensors, reverse = arguments
        states = scan(*(joined(*pair) for pair in zip(tensors, in_dims, strict=False)), reverse=reverse)
        return states.unflatten(0, (info.batch_size, -1)), 0


def tree_scan(Lambda: torch.Tensor, inputs: torch.Tensor, state: torch.Tensor, reverse: bool) -> torch.Tensor:
    """States in a number of steps logarithmic in the length: pairs of samples become one of half the length.

    The powers of Lambda are carried in double precision and with their rounding errors, which each squaring doubles.
    """
    v = inputs.flip(2) if reverse else inputs
    power = Lambda.to(torch.complex128)[:, None, None, :]
    carried = (power[:, :, 0] * state).to(v.dtype)[:, :, None]
    states = _tree(power, torch.zeros_like(power), torch.cat([v[:, :, :1] + carried, v[:, :, 1:]], dim=2))
    return states.flip(2) if reverse else states


def _tree(power: torch.Tensor, error: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    length = v.shape[2]
    if length < 2:
        return v.clone()
    gate = (power + error).to(v.dtype)
    odd = _tree(*_squared(power, error), v[:, :, 1::2] + gate * v[:, :, : length - 1 : 2])
    states = torch.empty_like(v, memory_format=torch.contiguous_format)
    states[:, :, 0] = v[:, :, 0]
    states[:, :, 1::2] = odd
    states[:, :, 2::2] = v[:, :, 2::2] + gate * odd[:, :, : (length - 1) // 2]
    return states


def _squared(power: torch.Tensor, error: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rounded square of power + error, and what is missing of it."""
    from .._support.exact import two_product, two_sum

    multiply: Any = two_product.py_func
    add: Any = two_sum.py_func
    real, imaginary = power.real, power.imag
    (square, missing), (other, other_missing) = multiply(real, real), multiply(imaginary, imaginary)
    cross, cross_missing = multiply(real, imaginary)
    difference, rest = add(square, -other)
    own = torch.complex(rest + (missing - other_missing), 2.0 * cross_missing)
    return torch.complex(difference, 2.0 * cross), own + (2.0 * power + error) * error
