"""Drop-in PyTorch layers: one diagonal system in real parameters, trainable, with the call of the layer it replaces."""

from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import ArgumentError, NotCausalError, ShapeError
from ..systems import DiagonalSSM
from ._flat import Structure, is_diagonal, real_parameters, system_of
from ._torch_kernels import NAMES, run_layer, serves
from ._torch_run import Matrices, matrices_of, run_matrices


class SSMLayer(torch.nn.Module):
    r"""A state-space layer of a `DiagonalSSM`, in place of the one that it was read from.

    .. math:: x_k = \Lambda x_{k-1} + B u_k, \qquad y_k = \mathrm{Re}(C x_k) + D u_k, \qquad
              \lambda_i = e^{-e^{\nu_i} + j \theta_i \delta_i}

    Complex numbers are pairs of real ones throughout, so that `torch.compile`, autocast and distributed training see
    real tensors only. The modulus of a pole stays below 1 whatever an optimiser does (above 1 for a pole that was
    unstable), and its angle moves in units :math:`\delta_i` of its own width.

    Parameters
    ----------
    ssm : DiagonalSSM
        Causal or bidirectional; with leading axes the systems of a batch stand side by side, as in S4D.
    valid : ndarray, shape (s, n), bool, optional
        Which states of each system of a batch there are. By default those with an input and an output.
    channels_first : bool, default False
        Inputs and outputs are (batch, width, L).
    dtype, device
        Of the parameters.

    Attributes
    ----------
    log_rate, angle : Parameter, shape (N,)
        :math:`\nu` and :math:`\theta`; N is the number of all states, those of a batch one system after the other.
    B : Parameter, shape (N, m, 2)
    C, C_reverse : Parameter, shape (N, p, 2)
        :math:`\kappa C`; a layer of `conj_sym` has its factor 2 in it.
    D : Parameter, shape (s * m,) where it is diagonal, else (s, p, m)

    Notes
    -----
    Give these parameters no weight decay, except for `D` and `C`: see the guide on networks.
    """

    call: ClassVar[str] = "plain"  # name of the way in which it is called, in descriptions
    step_scale: float | None = None  # that the network passes on, in s5-pytorch and S4
    log_rate: torch.Tensor
    angle: torch.Tensor
    B: torch.Tensor
    C: torch.Tensor
    C_reverse: torch.Tensor
    D: torch.Tensor
    unit: torch.Tensor
    side: torch.Tensor
    owner: torch.Tensor

    def __init__(
        self,
        ssm: DiagonalSSM,
        *,
        valid: np.ndarray | None = None,
        channels_first: bool = False,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
    ) -> None:
        super().__init__()
        structure, parameters = real_parameters(ssm, valid)
        self.channels_first = channels_first
        self.systems, self.states = structure.systems, structure.states
        self.inputs, self.outputs = structure.inputs, structure.outputs
        self.bidirectional, self.diagonal = structure.bidirectional, structure.diagonal
        self._given: Matrices | None = None
        real: dict[str, Any] = {"dtype": dtype, "device": device}
        for name, value in parameters.items():
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(value, **real)))
        self.register_buffer("unit", torch.tensor(structure.unit, **real))
        self.register_buffer("side", torch.tensor(structure.side, **real))
        self.register_buffer("owner", torch.tensor(structure.owner, device=device))

    # ---------------------------------------------------------------- the system

    def give(self, matrices: Matrices) -> None:
        """Run with other tensors in place of the parameters' values."""
        self._given = matrices

    def holds(self, ssm: DiagonalSSM, valid: np.ndarray) -> bool:
        """Whether tensors of this system have a place here: the same states per system, of the same kind."""
        kind = (ssm.inputs, ssm.outputs, ssm.bidirectional, is_diagonal(ssm))
        same = kind == (self.inputs, self.outputs, self.bidirectional, self.diagonal)
        return same and self._given is not None and np.array_equal(np.nonzero(valid)[0], self.owner.cpu().numpy())

    def matrices(self) -> Matrices:
        """Poles, inputs, outputs and feedthrough as tensors; poles in double precision where the device has it."""
        if self._given is not None:
            return self._given
        return matrices_of(*self._tensors())

    def _tensors(self) -> list[torch.Tensor]:
        """What the layer is computed from, in the order of `NAMES`."""
        own = self._parameters | self._buffers
        try:
            return [own[name] for name in (NAMES if self.bidirectional else NAMES[:-1])]  # type: ignore[misc]
        except KeyError:  # computed from others, as by torch.nn.utils.parametrize
            return [getattr(self, name) for name in (NAMES if self.bidirectional else NAMES[:-1])]

    def system(self, D: torch.Tensor | None = None) -> DiagonalSSM:
        """The layer as a system in double precision, the systems of a batch padded with silent states.

        `D` is that of the parent, where the layer is the kernel of one.
        """
        tensors: dict[str, torch.Tensor] = dict(self.named_parameters())
        if D is not None:
            tensors["D"] = D
        return system_of(self.structure(), {key: value.detach().cpu().double() for key, value in tensors.items()})

    def structure(self) -> Structure:
        """What the layer knows besides its parameters."""
        counts = np.bincount(self.owner.cpu().numpy(), minlength=self.systems)
        return Structure(
            tuple(counts.tolist()),
            self.inputs,
            self.outputs,
            self.bidirectional,
            self.diagonal,
            tuple(self.unit.double().tolist()),
            tuple(self.side.double().tolist()),
        )

    def description(self) -> dict[str, Any]:
        """Keyword arguments of `empty_layer` that make a layer of the same shape; plain data for JSON."""
        structure = self.structure()
        found = {
            "call": self.call,
            "counts": list(structure.counts),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "bidirectional": self.bidirectional,
            "diagonal": self.diagonal,
            "channels_first": self.channels_first,
            "dtype": str(self.B.dtype).removeprefix("torch."),
        }
        return found if self.step_scale is None else {**found, "step_scale": self.step_scale}

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        many = f"systems={self.systems}, " if self.systems > 1 else ""
        kind = ", bidirectional" if self.bidirectional else ""
        return f"{many}states={self.states}, inputs={self.inputs}, outputs={self.outputs}{kind}"

    def _check_scale(self, scale: Any) -> None:
        """Refuse another scale of the steps than the one that the system was read with."""
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():  # recorded, without numbers
            return
        if isinstance(scale, torch.Tensor):
            functorch = torch._C._functorch
            while functorch.is_batchedtensor(scale):
                scale = functorch.get_unwrapped(scale)
            fits = bool((scale == self.step_scale).all())
        else:
            fits = scale == self.step_scale
        if not fits:
            raise ArgumentError(
                f"this layer was discretised with a step scaled by {self.step_scale}, and the network calls it with "
                "another: read it with adapter=adapters.S5PyTorch(step_scale=...), or S4Block(rate=...)"
            )

    # ---------------------------------------------------------------- running

    def forward(self, u: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        """Outputs (batch, L, width) of inputs (batch, L, width); one sequence (L, width) goes too."""
        if any(value is not None for value in (*more, *named.values())):
            raise ArgumentError(
                f"a drop-in layer ({self.extra_repr()}) is called with more than its input, {len(more)} further "
                f"arguments, keywords {', '.join(named) or 'none'}; only forward(u) -> y is known of this class"
            )
        if self.channels_first:
            return self.run(u.transpose(-1, -2))[0].transpose(-1, -2)
        return self.run(u)[0]

    def initial_state(self, batch_size: int | None = None) -> torch.Tensor:
        """State before the first sample, zeros (batch, N, 2), the last axis (re, im)."""
        shape = (self.states, 2) if batch_size is None else (batch_size, self.states, 2)
        return torch.zeros(shape, dtype=self.B.dtype, device=self.B.device)

    def run(
        self, u: torch.Tensor, state: torch.Tensor | None = None, *, carry: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Outputs of inputs (batch, L, width), and the state after the last sample where it is carried.

        Parameters
        ----------
        u : Tensor, shape (batch, L, width) or (L, width)
        state : Tensor, shape (batch, N, 2), optional
            State before the first sample: what the call for the chunk before returned.
        carry : bool, default False
            Return the state after the last sample as well.
        """
        if (carry or state is not None) and self.bidirectional:
            raise NotCausalError("a bidirectional layer needs its whole sequence: it has no state to carry on")
        if u.shape[-1] != self.systems * self.inputs:
            raise ShapeError(f"u has shape {tuple(u.shape)}; expected (batch, L, {self.systems * self.inputs})")
        if not torch.compiler.is_compiling() and torch._C._functorch.is_batchedtensor(u):
            found = self._run_mapped(u, state, carry)
            if found is not None:
                return found
        single = u.ndim == 2
        v = u.to(self.B.dtype)
        v = v.unsqueeze(0) if single else v
        start = None if state is None else state.to(self.B.dtype)
        start = start.unsqueeze(0) if single and start is not None else start
        y, last = self._respond(v, start, carry)
        y = y.to(u.dtype) if u.dtype.is_floating_point else y
        return (y.squeeze(0) if single else y), (last.squeeze(0) if single and last is not None else last)

    def _run_mapped(
        self, u: torch.Tensor, state: torch.Tensor | None, carry: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """The whole batch where one `torch.vmap` maps over it, as s5-pytorch does; None in any other transformation."""
        functorch = torch._C._functorch
        level = functorch.maybe_get_level(u)
        given = [u] if state is None else [u, state]
        if u.ndim != 2 or any(
            not functorch.is_batchedtensor(t) or functorch.maybe_get_level(t) != level for t in given
        ):
            return None
        whole = [functorch.get_unwrapped(t).movedim(functorch.maybe_get_bdim(t), 0) for t in given]
        tensors = self._tensors()
        if any(map(functorch.is_functorch_wrapped_tensor, [*whole, *tensors])) or self._given is not None:
            return None
        if not serves(whole[0], None if state is None else whole[1], tensors):
            return None
        with torch._C._DisableFuncTorch():  # nothing here is mapped any more, and each operation would ask
            y, last = self.run(whole[0], None if state is None else whole[1], carry=carry)
        return functorch._add_batch_dim(y, 0, level), last if last is None else functorch._add_batch_dim(last, 0, level)

    def _respond(
        self, u: torch.Tensor, state: torch.Tensor | None, carry: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """On the kernels where no gradient is needed, else differentiable."""
        if self._given is None and serves(u, state, tensors := self._tensors()):
            return run_layer(u, tensors, self.systems, state, carry)
        with torch.autocast(device_type=u.device.type, enabled=False):
            return run_matrices(self.matrices(), u, self.owner, self.systems, state, carry)

    def step(self, u: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One sample: outputs (batch, width) of inputs (batch, width), and the next state (batch, N, 2)."""
        y, state = self.run(u.unsqueeze(-2), state, carry=True)  # type: ignore[assignment]
        return y.squeeze(-2), state
