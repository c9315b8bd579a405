"""Steppers of PyTorch networks: from the module to its program, or layer by layer where there is none."""

import copy
from typing import Any

import numpy as np
import torch

from .._support.arguments import positive_integer
from ..errors import EvaluationError, NotCausalError, NotRepresentableError
from ._capture import _unmapped
from ._program import Program
from ._stepper import CompiledStepper, Stepper
from ._torch import TorchNetwork
from ._torch_layers import SSMLayer
from ._torch_trace import program_of

_STEPS = 24  # of the comparison with the network itself
_TOLERANCE = 1e-4  # relative to the largest output


def module_stepper(network: Any, width: int | None, streams: int, state_dtype: str) -> Stepper:
    """See `stepper`."""
    module, width = prepared(network, width)
    try:
        program = checked_program(module, width)
    except NotRepresentableError as error:
        found: Stepper = LayerStepper(module, width, streams)
        try:
            _compare(found.fork(1), module)
        except (EvaluationError, RuntimeError, TypeError, ValueError) as second:
            raise EvaluationError(
                f"the network cannot run sample by sample: {error}; layer by layer: {second}"
            ) from second
        return found
    return CompiledStepper(program, streams, state_dtype)


def module_program(network: Any, width: int | None) -> Program:
    """Program of a network, checked against it; what exports are made of.

    Raises
    ------
    NotRepresentableError, NotCausalError
        See `program_of`.
    """
    return checked_program(*prepared(network, width))


def prepared(network: Any, width: int | None) -> tuple[Any, int]:
    """A copy of the module with drop-in layers in all places, on the host, and the width of its input."""
    net = network if isinstance(network, TorchNetwork) else TorchNetwork(network)
    module = net.with_all_layers().cpu()
    return module, input_width(module) if width is None else positive_integer(width, "width")


def checked_program(module: Any, width: int) -> Program:
    """The program, after a comparison with the module on a few samples."""
    kind = next((p.dtype for p in module.parameters() if p.dtype.is_floating_point), torch.float32)
    try:
        program = program_of(module, width, kind)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, NotRepresentableError | NotCausalError):
            raise
        raise NotRepresentableError(
            f"the network cannot be recorded on an input (1, L, {width}) ({type(error).__name__}: {error}); width=... "
            "says how many numbers a sample has"
        ) from error
    _compare(CompiledStepper(program, 1, "single"), module)
    return program


def _compare(found: Stepper, module: Any) -> None:
    """Raise where the stepper does something else than the network."""
    u = np.random.default_rng(0).standard_normal((_STEPS, found.width)).astype(np.float32)
    kind = next((p.dtype for p in module.parameters()), torch.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(u)[None].to(kind))[0].double().numpy()
    y = found.run(u)
    y = y[-1] if found.pooled else y
    error = float(np.abs(y - expected).max()) if y.shape == expected.shape else np.inf
    if not error <= _TOLERANCE * float(np.abs(expected).max()):
        raise EvaluationError(
            f"sample by sample the network gives outputs {y.shape} that differ by {error:.3g} from those of the whole "
            f"sequence, {expected.shape}: it looks at later samples, or at their number"
        )


def input_width(module: Any) -> int:
    """Numbers of a sample: what the first part takes that says so."""
    for part in module.modules():
        if isinstance(part, torch.nn.Linear):
            return part.in_features
        if isinstance(part, torch.nn.Conv1d):
            return part.in_channels
        if isinstance(part, SSMLayer):
            return part.systems * part.inputs
    raise EvaluationError("the network has no part that says how many numbers a sample has: give width=...")


class LayerStepper(Stepper):
    """A stepper that calls the module for each sample, with drop-in layers that carry their states.

    Parameters
    ----------
    module : torch.nn.Module
    width : int
    streams : int
    """

    def __init__(self, module: Any, width: int, streams: int) -> None:
        super().__init__(streams)
        self.module, self.width = module, width
        self._layers = [part for part in module.modules() if isinstance(part, SSMLayer)]
        if any(layer.bidirectional for layer in self._layers):
            raise NotCausalError("a bidirectional layer sees later samples and cannot run sample by sample")
        self._carried = [layer.initial_state(streams) for layer in self._layers]
        with torch.no_grad():
            found = module(torch.zeros(1, 2, width, dtype=self._carried[0].dtype))
        self.pooled, self.outputs = found.ndim == 2, found.shape[-1]

    def fork(self, streams: int | None = None) -> "LayerStepper":
        """See `Stepper.fork`."""
        return LayerStepper(copy.deepcopy(self.module), self.width, self.streams if streams is None else streams)

    def _advance(self, u: np.ndarray) -> np.ndarray:
        steps = torch.from_numpy(u).to(self._carried[0].dtype).split(1, dim=1)
        with torch.no_grad():
            found = [self._step(v).reshape(self.streams, 1, self.outputs) for v in steps]
        return torch.cat(found, 1).float().numpy()

    def _step(self, u: torch.Tensor) -> torch.Tensor:
        """The module with layers that run on from their states."""
        try:
            for k, layer in enumerate(self._layers):
                layer.run = self._run_on(k, layer)  # type: ignore[method-assign]
            return self.module(u)
        finally:
            for layer in self._layers:
                vars(layer).pop("run", None)

    def _run_on(self, k: int, layer: SSMLayer) -> Any:
        def run(u: torch.Tensor, state: Any = None, *, carry: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
            y, last = SSMLayer.run(layer, _unmapped(u), self._carried[k], carry=True)
            assert last is not None
            self._carried[k] = last
            functorch = torch._C._functorch
            if functorch.is_batchedtensor(u):  # by torch.vmap, as in s5-pytorch
                y = functorch._add_batch_dim(y, 0, functorch.maybe_get_level(u))
            return y, last

        return run

    def _saved(self) -> np.ndarray:
        return torch.cat([state.flatten(1) for state in self._carried], 1).double().numpy()

    def _restore(self, state: np.ndarray) -> None:
        parts = torch.from_numpy(state).split([s[0].numel() for s in self._carried], 1)
        self._carried = [p.reshape(s.shape).to(s.dtype) for p, s in zip(parts, self._carried, strict=True)]
