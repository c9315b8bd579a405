"""What stands in the way of swapping a PyTorch module's layers, and whether they are the systems read from them."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .._support.arguments import described
from .._support.trees import Params
from ..adapters import ADAPTERS, S5, Adapter
from ..errors import ArgumentError, EvaluationError, NonFiniteError
from ..models import SSMModel
from ..responses import simulate
from ..systems import DiagonalSSM
from ..systems._discretize import METHODS as DISCRETIZATIONS
from ._torch_layers import SSMLayer
from ._torch_places import Place, Recorded, misfit, on_host, place_of, submodule

_TOLERANCE = {torch.float64: 1e-8}  # of the drop-in against the original, relative to the largest output
_COARSE = 2e-3  # in single precision, in which long memories accumulate rounding errors


def check_module(module: Any) -> None:
    """Refuse modules whose layers cannot be swapped."""
    kinds = {
        "OptimizedModule": "compiled: give the module itself (module._orig_mod) and compile the result",
        "DataParallel": "wrapped: give module.module",
        "DistributedDataParallel": "wrapped: give module.module",
        "FullyShardedDataParallel": "sharded: give the module before it was wrapped",
    }
    for name, part in module.named_modules():
        where = f"its part {name!r}" if name else "the module"
        if isinstance(part, torch.jit.ScriptModule):
            raise ArgumentError(f"{where} is scripted or traced, and no layer of it can be swapped: give the original")
        if advice := kinds.get(type(part).__name__):
            raise ArgumentError(f"{where} is {advice}")
    if any(tensor.is_meta for tensor in module.state_dict().values() if isinstance(tensor, torch.Tensor)):
        raise ArgumentError("the module has parameters on the meta device: load its weights first")


def check_shared(module: Any, places: Mapping[str, Place]) -> None:
    """Refuse one layer under two names: two systems would take its place."""
    seen: dict[int, str] = {}
    for name in places:
        other = seen.setdefault(id(submodule(module, name)), name)
        if other != name:
            raise ArgumentError(
                f"{other!r} and {name!r} are one module: shared layers cannot be reduced apart. Keep one of the names "
                "(a module may be called several times), or give each place its own copy"
            )


def check_layer(layer: Any, name: str) -> None:
    """Refuse a layer that cannot be swapped."""
    tensors = [*layer.parameters(), *layer.buffers()]
    if type(layer).forward is torch.nn.Module.forward:
        raise ArgumentError(
            f"layer {name!r} is {described(layer)}, which holds the parameters but is never called: its parent uses "
            "them itself. Make a module of it with forward(u) -> y on (batch, L, width)"
        )
    for part_name, part in layer.named_modules():
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        if any(getattr(part, kind) for kind in hooks):
            where = f"{name}.{part_name}" if part_name else name
            raise ArgumentError(f"{where!r} has hooks, which a drop-in layer would lose: remove them and register anew")
        if torch.nn.utils.parametrize.is_parametrized(part):
            raise ArgumentError(
                f"layer {name!r} is parametrised (torch.nn.utils.parametrize): call remove_parametrizations first"
            )
    if any(tensor.is_quantized for tensor in tensors):
        raise ArgumentError(f"layer {name!r} is quantised: reduce the network first and quantise the result")
    if any(tensor.dtype in (torch.float16, torch.bfloat16, torch.complex32) for tensor in tensors):
        raise ArgumentError(
            f"layer {name!r} is in half precision, which poles near the unit circle do not survive: call float() on it "
            "or on the module first, and use autocast for the rest of the network"
        )
    devices = {str(tensor.device) for tensor in tensors}
    if len(devices) > 1:
        raise ArgumentError(f"the tensors of layer {name!r} are on {', '.join(sorted(devices))}; move it to one device")


def check_kernel(place: Place, ssm: DiagonalSSM) -> None:
    """Refuse kernels that no drop-in gives."""
    if place.is_kernel and ssm.bidirectional:
        raise ArgumentError(
            f"layer {place.name!r} is bidirectional, and its reverse half begins one sample late, which drop-in layers "
            "cannot do: its model can be scored, pruned, reduced and saved, but not run in the live network"
        )


def compare(place: Place, before: Recorded, after: Recorded, adapter: Any) -> None:
    """Raise where a drop-in of the full system computes something else than the layer itself."""
    if not np.isfinite(before.u).all():
        raise NonFiniteError(f"layer {place.name!r} is fed NaN or infinite values: look at the batch that is given")
    scale = float(np.abs(before.y).max())
    error = float(np.abs(after.y - before.y).max()) if after.y.shape == before.y.shape else np.inf
    if not error <= _TOLERANCE.get(place.dtype, _COARSE) * scale:
        raise EvaluationError(
            f"layer {place.name!r}: the system that was read from it gives outputs that differ from the layer's own by "
            f"{error:.3g} of {scale:.3g}; {adapter!r} says otherwise what a live module cannot tell (adapter=...), or "
            "the layer does more than its system: activation, dropout or another scale inside belong outside of it"
        )


def probed(layer: Callable, ssm: DiagonalSSM, place: Place) -> "Recorded":
    """What a layer returns for noise (batch, L, width), or (batch, width, L) where it does not take that."""
    width = ssm.systems * ssm.inputs
    u = np.random.default_rng(0).standard_normal((2, width + 9, width))
    if place.channels_first:
        u = u.swapaxes(-1, -2)
    tensor = torch.as_tensor(u, dtype=place.dtype, device=place.device)
    with torch.no_grad():
        try:
            output = layer(tensor)
        except RuntimeError:
            if place.channels_first is not None:
                raise
            output = layer(tensor.transpose(-1, -2))
            u = u.swapaxes(-1, -2)
    pair = isinstance(output, tuple)
    return Recorded(u, on_host(output[0] if pair else output), pair)


def told_adapter(module: Any, params: Params) -> Adapter | None:
    """The flags of S5 with which its first layer computes what it does; None where none or several fit."""
    names = S5.find(params)
    if not names or any(cls.find(params) for cls in ADAPTERS.values() if cls is not S5 and cls.detected):
        return None
    layer = submodule(module, names[0])
    check_layer(layer, names[0])
    found = []
    for conj_sym, discretization in itertools.product((True, False), DISCRETIZATIONS):
        adapter = S5(conj_sym=conj_sym, discretization=discretization)
        try:
            ssm = adapter.get(params, names[0])
            place = place_of(module, names[0], adapter, None)
            seen = probed(layer, ssm, place)
            seen = seen.turned(bool(place.told(ssm, seen).channels_first))
            error = misfit(ssm, seen) / float(np.abs(seen.y).max())
        except (RuntimeError, TypeError, ValueError):  # it is called otherwise, or needs more flags
            return None
        found.append((error, adapter))
    (best, adapter), (second, _) = sorted(found, key=lambda pair: pair[0])[:2]
    return adapter if best < 1e-4 and second > 10 * best else None


def checked_alone(module: Any, place: Place, model: SSMModel) -> Place:
    """The place with what its layer does with noise has told, after a comparison with its system."""
    layer, ssm = submodule(module, place.name), model[place.name]
    if isinstance(layer, SSMLayer) or isinstance(getattr(layer, "kernel", None), SSMLayer):
        return place
    try:
        if place.is_kernel:
            length = 64
            with torch.no_grad():
                kernel = submodule(module, place.target)(L=length)
            kernel = on_host(kernel[0] if isinstance(kernel, tuple) else kernel)
            seen = Recorded(np.zeros((1, length, ssm.inputs)), kernel, pair=False)
            impulse = np.zeros((length, ssm.systems))
            impulse[0] = 1.0
            ours = simulate(_without_feedthrough(ssm), impulse).reshape(length, ssm.systems, -1).T.reshape(kernel.shape)
            compare(place, seen, Recorded(seen.u, ours, pair=False), model.adapter)
            return place
        if place.call == "s5_pytorch":
            seen = probed(lambda u: torch.stack([layer(one) for one in u]), ssm, place)
        else:
            seen = probed(layer, ssm, place)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError(
            f"layer {place.name!r} cannot be called alone ({type(error).__name__}: {error}); give batch=..., what the "
            "network is called with"
        ) from error
    place = place.told(ssm, seen)
    seen = seen.turned(bool(place.channels_first))
    compare(place, seen, Recorded(seen.u, simulate(ssm, seen.u), seen.pair), model.adapter)
    return place


def _without_feedthrough(ssm: DiagonalSSM) -> DiagonalSSM:
    return replace(ssm, D=np.zeros_like(ssm.D))
