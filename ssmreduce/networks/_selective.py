"""Selective mixers of live PyTorch networks: found, read, and replaced by reduced ones."""

import copy
import sys
from collections.abc import Mapping
from typing import Any

from .._support.optional import optional_import
from ..adapters import MambaAdapter
from ..errors import NotRepresentableError, UnknownLayerError
from ..selective import SelectiveSSM

MARKS = ("in_proj", "out_proj", "conv1d", "A_log", "D")


def selective_mixers(module: Any) -> dict[str, Any]:
    """The Mamba-1 and Mamba-2 mixers of a network, by name.

    A mixer is a submodule with ``in_proj, conv1d, A_log, D, out_proj``, as in mamba_ssm and transformers (Mamba,
    Mamba-2, Falcon-Mamba, Jamba, Bamba, Zamba2, Falcon-H1, Nemotron-H, Granite-MoE-hybrid), or a `SelectiveMixer`.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    dict
        Name -> submodule, in the order of the network.

    Raises
    ------
    MissingDependencyError
        PyTorch is not installed.

    Examples
    --------
    >>> import torch
    >>> from ssmreduce.networks import SelectiveMixer, selective_mixers
    >>> from ssmreduce.selective import random_layer
    >>> net = torch.nn.Sequential(torch.nn.Linear(8, 8), SelectiveMixer(random_layer("mamba2", width=8, order=4)))
    >>> list(selective_mixers(net))
    ['1']
    """
    optional_import("torch", "torch")
    from ._mixers import SelectiveMixer

    return {
        name: child
        for name, child in module.named_modules()
        if isinstance(child, SelectiveMixer) or all(hasattr(child, mark) for mark in MARKS)
    }


def has_mixers(obj: Any) -> bool:
    """Whether an object is a live PyTorch module with Mamba-1 or Mamba-2 mixers; PyTorch is not imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(obj, torch.nn.Module) and bool(selective_mixers(obj))


def mixer_layer(mixer: Any) -> SelectiveSSM:
    """The selective layer that a live mixer computes, in NumPy double precision.

    Parameters
    ----------
    mixer : torch.nn.Module
        One of `selective_mixers`.

    Returns
    -------
    Mamba1SSM or Mamba2SSM

    Raises
    ------
    NotRepresentableError
        The mixer uses another activation than SiLU.

    Examples
    --------
    >>> from ssmreduce.networks import SelectiveMixer, mixer_layer
    >>> from ssmreduce.selective import random_layer
    >>> mixer_layer(SelectiveMixer(random_layer("mamba1", width=4, order=4)))
    Mamba1SSM(order=4, inner=8, inputs=4)
    """
    from ._mixers import SelectiveMixer

    if isinstance(mixer, SelectiveMixer):
        return mixer.layer()
    activation = getattr(mixer, "activation", "silu")
    if activation not in ("silu", "swish"):
        raise NotRepresentableError(f"the mixer uses the activation {activation!r}; only SiLU is known")
    params = {name: value.detach().double().cpu().numpy() for name, value in mixer.state_dict().items()}
    return mixer_adapter(mixer).get(params, "")


def mixer_adapter(mixer: Any) -> MambaAdapter:
    """Adapter with the flags that a live mixer holds as attributes."""
    if hasattr(mixer, "x_proj"):
        states_norm = getattr(mixer, "b_layernorm", None)
        eps = None if states_norm is None else float(_first(states_norm, ("eps", "variance_epsilon"), 1e-6))
        return MambaAdapter(states_norm_eps=eps)
    groups = int(_first(mixer, ("n_groups", "ngroups"), 1))
    norm: Any = getattr(mixer, "norm", None)
    scale, factors = float(getattr(mixer, "ssm_in_multiplier", 1.0)), None
    if hasattr(mixer, "mup_vector"):
        factors = _part_factors(mixer)
    inner = int(mixer.out_proj.weight.shape[1])
    norm_groups = groups
    if hasattr(norm, "group_size"):
        norm_groups = inner // int(norm.group_size or inner)
    elif hasattr(norm, "n_groups"):
        norm_groups = int(norm.n_groups)
    limit = _first(mixer, ("time_step_limit", "dt_limit"), (0.0, float("inf")))
    return MambaAdapter(
        groups=groups,
        norm_groups=None if norm_groups == groups else norm_groups,
        norm_eps=float(_first(norm, ("variance_epsilon", "eps"), 1e-5)),
        norm_before_gate=bool(getattr(norm, "norm_before_gate", False)),
        dt_limit=(float(limit[0]), float(limit[1])),
        scale=scale,
        multipliers=factors,
    )


def _part_factors(mixer: Any) -> tuple[float, ...]:
    """Factors of gate, x, B, C and time step from the vector that Falcon-H1 keeps."""
    vector = mixer.mup_vector.detach().double().cpu().numpy().ravel()
    inner, channels = int(mixer.out_proj.weight.shape[1]), int(mixer.conv1d.weight.shape[0])
    states = (channels - inner) // 2
    starts = (0, inner, 2 * inner, 2 * inner + states, inner + channels)
    return tuple(float(vector[k]) for k in starts)


def _first(obj: Any, names: tuple[str, ...], default: Any) -> Any:
    return next((getattr(obj, name) for name in names if getattr(obj, name, None) is not None), default)


def replace_mixers(module: Any, layers: Mapping[str, SelectiveSSM]) -> Any:
    """Copy of a network in which some mixers are replaced by reduced ones.

    Parameters
    ----------
    module : torch.nn.Module
        Not changed.
    layers : mapping
        Name of a mixer -> layer in NumPy arrays. The new weights take precision and device of the old ones.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    UnknownLayerError

    Examples
    --------
    >>> import torch
    >>> from ssmreduce.networks import SelectiveMixer, replace_mixers
    >>> from ssmreduce.selective import random_layer, take_states
    >>> layer = random_layer("mamba2", width=8, order=4)
    >>> small = replace_mixers(torch.nn.Sequential(SelectiveMixer(layer)), {"0": take_states(layer, [0, 2])})
    >>> small[0].order
    2
    """
    known = selective_mixers(module)
    for name in layers:
        if name not in known:
            raise UnknownLayerError(f"there is no selective mixer {name!r}; the network has {', '.join(known)}")
    smaller = copy.deepcopy(module)
    for name, layer in layers.items():
        set_mixer(smaller, name, layer)
    return smaller


def set_mixer(module: Any, name: str, layer: SelectiveSSM) -> Any:
    """Put a reduced layer in the place of a mixer of the network itself, and return the new mixer."""
    from ._mixers import SelectiveMixer

    old = module.get_submodule(name)
    weight = old.in_proj if isinstance(old, SelectiveMixer) else old.in_proj.weight
    new = SelectiveMixer(layer, getattr(old, "layer_idx", None), weight.dtype, weight.device)
    new.adapter = old.adapter if isinstance(old, SelectiveMixer) else mixer_adapter(old)
    for attribute in ("layer_type", "activation"):  # transformers' blocks read these of their mixers
        if hasattr(old, attribute):
            setattr(new, attribute, getattr(old, attribute))
    new.train(old.training)
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent) if parent else module, child, new)
    return new
