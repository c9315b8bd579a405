"""Drop-in mixers for PyTorch: reduced Mamba-1 and Mamba-2 layers, called and cached as in transformers."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from ..errors import NotCausalError
from ..selective import Mamba1SSM, Mamba2SSM
from ..selective._forward import Signals, conv_input, readout, recur, signals_of
from ..selective._functions import linear

INTERMEDIATE = torch.float32
"""Precision of the recurrence where the weights have less."""

SIZES = ("inner", "taps", "order", "groups", "rows", "rank", "heads", "head_dim", "causal", "inputs", "outputs")
"""Properties of a layer that the mixer holds as attributes."""


class SelectiveMixer(torch.nn.Module):
    """A selective layer as a module, in the place of a mixer of transformers.

    The call signature and the cache are those of transformers' mixers (``hidden_states, cache=None,
    attention_mask=None``). The recurrent state in the cache has the order of the layer, so that memory and time of
    decoding shrink with it; a prompt may be fed in pieces.

    Parameters
    ----------
    layer : Mamba1SSM or Mamba2SSM
        In NumPy arrays.
    layer_idx : int, optional
        Position in the cache.
    dtype : torch.dtype
        Of the weights.
    device : torch.device, optional

    Raises
    ------
    NotCausalError
        At a call with a cache, of a bidirectional layer.

    Examples
    --------
    >>> import torch
    >>> from ssmreduce.networks import SelectiveMixer
    >>> from ssmreduce.selective import random_layer, take_states
    >>> mixer = SelectiveMixer(take_states(random_layer("mamba2", width=8, order=16), [0, 1, 2]))
    >>> mixer(torch.ones(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    kind: str
    inner: int
    heads: int
    head_dim: int
    order: int
    groups: int
    taps: int
    causal: bool
    A_log: Any
    D: Any
    in_proj: Any
    in_bias: Any
    adapter: Any = None
    """How stock code names and scales the weights, where the mixer took the place of a stock one."""

    def __init__(self, layer: Any, layer_idx: int | None = None, dtype: Any = torch.float32, device: Any = None):
        super().__init__()
        self.kind = layer.kind
        self.layer_idx = layer_idx
        for field in fields(layer):
            value = getattr(layer, field.name)
            if field.name == "take_B":
                index = None if value is None else torch.as_tensor(np.asarray(value), device=device)
                self.register_buffer("take_B", index, persistent=True)
            elif isinstance(value, np.ndarray):
                parameter = torch.nn.Parameter(torch.as_tensor(value).to(dtype=dtype, device=device))
                self.register_parameter(field.name, parameter)
            elif value is None and field.name != "norm_eps":
                self.register_parameter(field.name, None)
            else:
                setattr(self, field.name, value)
        for name in (
            "inner",
            "taps",
            "order",
            "groups",
            "rows",
            "rank",
            "heads",
            "head_dim",
            "causal",
            "inputs",
            "outputs",
        ):
            if not hasattr(self, name) and hasattr(layer, name):
                setattr(self, name, getattr(layer, name))

    @property
    def ssm_state_size(self) -> int:
        """States per inner channel, under the name that transformers uses."""
        return self.order

    def layer(self) -> Any:
        """The layer in NumPy double precision."""
        cls = Mamba1SSM if self.kind == "mamba1" else Mamba2SSM
        values = {}
        for field in fields(cls):
            value = getattr(self, field.name)
            if isinstance(value, torch.Tensor):
                value = (
                    value.detach().cpu().numpy() if field.name == "take_B" else value.detach().double().cpu().numpy()
                )
            values[field.name] = value
        return cls(**values)

    def extra_repr(self) -> str:
        """What the module's text shows."""
        return f"{self.kind}, order={self.order}, inner={self.inner}"

    def forward(self, hidden_states: Any, cache: Any = None, attention_mask: Any = None, **kwargs: Any) -> Any:
        """Output of the layer; see the class. Further arguments of transformers are accepted and not used."""
        cache = cache if cache is not None else kwargs.get("cache_params", kwargs.get("past_key_values"))
        if attention_mask is not None:
            hidden_states = hidden_states * attention_mask[:, :, None].to(hidden_states.dtype)
        projected = linear(hidden_states, self.in_proj, self.in_bias)
        before, state = self._remembered(cache, projected)
        signals = self._widened(signals_of(self, projected, before))
        if attention_mask is not None:
            shape = (*attention_mask.shape, *(1,) * (signals.x.ndim - 2))
            signals = replace(signals, x=signals.x * attention_mask.view(shape).to(signals.x.dtype))
        if cache is not None and state is not None and projected.shape[1] == 1 and not torch.is_grad_enabled():
            return readout(self, self._step(signals, state), signals).to(hidden_states.dtype)
        start = self._zeros(projected.shape[0], signals.x) if state is None else state
        y, state = recur(self, signals, start)
        if cache is not None:
            cache.update_recurrent_state(state, self.layer_idx)
        return readout(self, y.to(signals.gate.dtype), signals).to(hidden_states.dtype)

    def _remembered(self, cache: Any, projected: Any) -> tuple[Any, Any]:
        """Past inputs of the convolution, and the state of the recurrence; the cache takes the new inputs."""
        signal = conv_input(self, projected)
        batch, length, channels = signal.shape
        empty = signal.new_zeros(batch, self.taps - 1, channels)
        if cache is None:
            return empty, None
        if not self.causal:
            raise NotCausalError("a bidirectional layer needs the whole sequence at once and cannot use a cache")
        state = cache.get_recurrent_state(self.layer_idx)
        full = cache.update_conv_state(signal.mT, self.layer_idx, conv_kernel_size=self.taps).mT
        before = full[:, : full.shape[1] - length]
        return torch.cat([empty, before], dim=1)[:, before.shape[1] :], state

    def _widened(self, signals: Signals) -> Signals:
        """Signals of the recurrence in single precision at least."""
        if signals.x.dtype not in (torch.float16, torch.bfloat16):
            return signals
        wide = {name: getattr(signals, name).to(INTERMEDIATE) for name in ("x", "dt", "B", "C")}
        return replace(signals, **wide)

    def _zeros(self, batch: int, like: Any) -> Any:
        rows = (self.heads, self.head_dim) if self.kind == "mamba2" else (self.inner,)
        return like.new_zeros(batch, *rows, self.order)

    def _step(self, signals: Signals, state: Any) -> Any:
        """One token, the state of the cache changed in place: each of its pages is read and written once."""
        x, dt, C = signals.x[:, 0], signals.dt[:, 0], signals.C[:, 0]
        A = -torch.exp(self.A_log)
        if self.kind == "mamba1":
            state.mul_(torch.exp(dt[..., None] * A)).addcmul_((dt * x)[..., None], signals.B[:, 0, None, :])
            y = torch.bmm(state, C[..., None])[..., 0]
            return (y + self.D * x)[:, None]
        batch, heads, width = x.shape
        per_group = heads // self.groups
        B = signals.B[:, 0].repeat_interleave(per_group, dim=1)
        state.mul_(torch.exp(dt * A)[..., None, None]).addcmul_((dt[..., None] * x)[..., None], B[:, :, None, :])
        grouped = state.view(batch * self.groups, per_group * width, self.order)
        y = torch.bmm(grouped, C.reshape(batch * self.groups, self.order, 1)).view(batch, heads, width)
        D = self.D[:, None] if self.D.shape[0] == heads else self.D.view(heads, width)
        return (y + D * x)[:, None].to(signals.gate.dtype)
