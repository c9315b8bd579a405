"""Mamba-1 and Mamba-2 layers in checkpoints: mamba_ssm, and the families of Hugging Face transformers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import IncompleteLayerError, NotRepresentableError, UnknownLayerError
from ..selective import Mamba1SSM, Mamba2SSM, SelectiveSSM

MAMBA = ("in_proj.weight", "conv1d.weight", "A_log", "D", "out_proj.weight")
MAMBA1 = (*MAMBA, "x_proj.weight", "dt_proj.weight", "dt_proj.bias")
MAMBA2 = (*MAMBA, "dt_bias")
OPTIONAL = {"in_bias": "in_proj.bias", "conv_bias": "conv1d.bias", "out_bias": "out_proj.bias"}
NORMS = {"dt_norm": "dt_layernorm.weight", "B_norm": "b_layernorm.weight", "C_norm": "c_layernorm.weight"}


@dataclass(frozen=True)
class MambaAdapter:
    """Reads and writes the selective layers of a checkpoint, whose tensors are named as in mamba_ssm and transformers.

    Parameters
    ----------
    groups : int
        Groups of B and C (Mamba-2); a checkpoint does not tell.
    norm_groups : int, optional
        Groups of the gated norm; as many as ``groups`` by default.
    norm_eps : float
    norm_before_gate : bool
    dt_limit : tuple of float
        Range of the time step (Mamba-2).
    states_norm_eps : float, optional
        Where the layers normalise the time step, B and C (Falcon-Mamba, Jamba).
    scale : float
        Factor of the input of the layer (Falcon-H1).
    multipliers : tuple of 5 floats, optional
        Factors of the parts of the projected input, in the order gate, x, B, C, time step (Falcon-H1).

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.adapters import MambaAdapter
    >>> shapes = {"in_proj.weight": (32, 8), "conv1d.weight": (16, 1, 4), "x_proj.weight": (9, 16), "A_log": (16, 4),
    ...           "dt_proj.weight": (16, 1), "dt_proj.bias": (16,), "D": (16,), "out_proj.weight": (8, 16)}
    >>> params = {"layers.0.mixer." + name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    >>> adapter = MambaAdapter()
    >>> adapter.find(params)
    ('layers.0.mixer',)
    >>> adapter.get(params, "layers.0.mixer")
    Mamba1SSM(order=4, inner=16, inputs=8)
    """

    groups: int = 1
    norm_groups: int | None = None
    norm_eps: float = 1e-5
    norm_before_gate: bool = False
    dt_limit: tuple[float, float] = (0.0, float("inf"))
    states_norm_eps: float | None = None
    scale: float = 1.0
    multipliers: tuple[float, ...] | None = None

    def find(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the selective layers, in the order of the checkpoint.

        Parameters
        ----------
        params : mapping
            Tensor name -> array.

        Returns
        -------
        tuple of str
        """
        names = (key[: -len("A_log")] for key in params if key == "A_log" or key.endswith(".A_log"))
        return tuple(name.rstrip(".") for name in names if name + "in_proj.weight" in params)

    def get(self, params: Mapping[str, Any], name: str) -> SelectiveSSM:
        """One layer in double precision.

        Raises
        ------
        UnknownLayerError, IncompleteLayerError, ShapeError
        """
        prefix = f"{name}." if name else ""
        if prefix + "A_log" not in params:
            raise UnknownLayerError(f"there is no selective layer {name!r}; there are {', '.join(self.find(params))}")
        read = _Reader(params, prefix)
        if prefix + "x_proj.weight" in params:
            return self._get_mamba1(read)
        return self._get_mamba2(read)

    def _get_mamba1(self, read: "_Reader") -> Mamba1SSM:
        read.require(MAMBA1)
        extra: dict[str, Any] = {key: read.optional(name) for key, name in OPTIONAL.items()}
        if self.states_norm_eps is not None:
            extra |= {key: read.optional(name) for key, name in NORMS.items()}
        return Mamba1SSM(
            in_proj=read("in_proj.weight"),
            conv=read("conv1d.weight")[:, 0],
            x_proj=read("x_proj.weight"),
            dt_proj=read("dt_proj.weight"),
            dt_bias=read("dt_proj.bias"),
            A_log=read("A_log"),
            D=read("D"),
            out_proj=read("out_proj.weight"),
            x_bias=read.optional("x_proj.bias"),
            norm_eps=self.states_norm_eps,
            **extra,
        )

    def _get_mamba2(self, read: "_Reader") -> Mamba2SSM:
        read.require(MAMBA2)
        in_proj, bias = read("in_proj.weight"), read.optional("in_proj.bias")
        conv = read("conv1d.weight")[:, 0]
        rows = self._row_factors(int(read("out_proj.weight").shape[1]), len(conv), len(in_proj))
        return Mamba2SSM(
            in_proj=in_proj * (rows[:, None] * self.scale),
            in_bias=None if bias is None else bias * rows,
            conv=conv,
            conv_bias=read.optional("conv1d.bias"),
            dt_bias=read("dt_bias"),
            A_log=read("A_log"),
            D=read("D"),
            out_proj=read("out_proj.weight"),
            out_bias=read.optional("out_proj.bias"),
            groups=self.groups,
            norm_weight=read.optional("norm.weight"),
            norm_groups=self.groups if self.norm_groups is None else self.norm_groups,
            norm_eps=self.norm_eps,
            norm_before_gate=self.norm_before_gate,
            dt_limit=self.dt_limit,
        )

    def _row_factors(self, inner: int, channels: int, total: int) -> np.ndarray:
        """Factor of each row of the input projection."""
        if self.multipliers is None:
            return np.ones(total)
        states = (channels - inner) // 2
        return np.repeat(self.multipliers, [inner, inner, states, states, total - inner - channels])

    def put(self, params: Mapping[str, Any], name: str, layer: SelectiveSSM) -> dict[str, Any]:
        """Parameters with one layer replaced, in the precision of the tensors that were there.

        Raises
        ------
        UnknownLayerError
        NotRepresentableError
            See `tensors`.
        """
        prefix = f"{name}." if name else ""
        old = self.get(params, name)
        if layer.kind != old.kind:
            raise NotRepresentableError(f"the layer {name!r} is of kind {old.kind} and cannot become {layer.kind}")
        changed = dict(params)
        for key, value in self.tensors(layer).items():
            changed[prefix + key] = value.astype(np.asarray(params[prefix + key]).dtype)
        return changed

    def tensors(self, layer: SelectiveSSM) -> dict[str, np.ndarray]:
        """The tensors of a layer under the names of stock code.

        Raises
        ------
        NotRepresentableError
            The layer mixes its states behind a nonlinearity or a norm: stock code has no place for the mix.
        """
        if getattr(layer, "mix_C", None) is not None or getattr(layer, "take_B", None) is not None:
            raise NotRepresentableError(
                "the layer mixes or picks states in a way that stock code cannot hold; absorb the mix (Mamba-1), "
                "choose a reduction that selects states, or use drop-in layers"
            )
        tensors = _tensors_mamba1(layer) if isinstance(layer, Mamba1SSM) else self._tensors_mamba2(layer)
        return {key: value for key, value in tensors.items() if value is not None}

    def _tensors_mamba2(self, layer: Any) -> dict[str, np.ndarray | None]:
        rows = self._row_factors(layer.inner, len(layer.conv), len(layer.in_proj))
        return {
            "in_proj.weight": layer.in_proj / (rows[:, None] * self.scale),
            "in_proj.bias": None if layer.in_bias is None else layer.in_bias / rows,
            "conv1d.weight": layer.conv[:, None],
            "conv1d.bias": layer.conv_bias,
            "dt_bias": layer.dt_bias,
            "A_log": layer.A_log,
            "D": layer.D,
            "norm.weight": layer.norm_weight,
            "out_proj.weight": layer.out_proj,
            "out_proj.bias": layer.out_bias,
        }


def _tensors_mamba1(layer: Mamba1SSM) -> dict[str, np.ndarray | None]:
    return {
        "in_proj.weight": layer.in_proj,
        "in_proj.bias": layer.in_bias,
        "conv1d.weight": layer.conv[:, None],
        "conv1d.bias": layer.conv_bias,
        "x_proj.weight": layer.x_proj,
        "x_proj.bias": layer.x_bias,
        "dt_proj.weight": layer.dt_proj,
        "dt_proj.bias": layer.dt_bias,
        "A_log": layer.A_log,
        "D": layer.D,
        "out_proj.weight": layer.out_proj,
        "out_proj.bias": layer.out_bias,
        "dt_layernorm.weight": layer.dt_norm,
        "b_layernorm.weight": layer.B_norm,
        "c_layernorm.weight": layer.C_norm,
    }


@dataclass(frozen=True)
class _Reader:
    """The tensors of one layer, in double precision."""

    params: Mapping[str, Any]
    prefix: str

    def __call__(self, name: str) -> np.ndarray:
        return np.asarray(self.params[self.prefix + name], dtype=np.float64)

    def optional(self, name: str) -> np.ndarray | None:
        return self(name) if self.params.get(self.prefix + name) is not None else None

    def require(self, names: tuple[str, ...]) -> None:
        missing = [name for name in names if self.prefix + name not in self.params]
        if missing:
            raise IncompleteLayerError(f"the layer {self.prefix.rstrip('.')!r} has no {', '.join(missing)}")


_TRANSFORMERS = {"groups": "mamba_n_groups", "norm_eps": "rms_norm_eps", "dt_limit": "time_step_limit"}
CONFIGS: dict[str, dict[str, str]] = {
    "mamba": {"order": "state_size"},
    "falcon_mamba": {"order": "state_size", "states_norm_eps": "mixer_rms_eps"},
    "jamba": {"order": "mamba_d_state", "states_norm_eps": "rms_norm_eps"},
    "mamba2": {
        "order": "state_size",
        "groups": "n_groups",
        "norm_eps": "layer_norm_epsilon",
        "dt_limit": "time_step_limit",
    },
    "bamba": {"order": "mamba_d_state", **_TRANSFORMERS},
    "granitemoehybrid": {"order": "mamba_d_state", **_TRANSFORMERS},
    "zamba2": {"order": "mamba_d_state", "groups": "mamba_ngroups", "dt_from": "time_step_min"},
    "nemotron_h": {
        "order": "ssm_state_size",
        "groups": "n_groups",
        "norm_eps": "layer_norm_epsilon",
        "dt_from": "time_step_min",
    },
    "falcon_h1": {
        "order": "mamba_d_state",
        **_TRANSFORMERS,
        "norm_before_gate": "mamba_norm_before_gate",
        "scale": "ssm_in_multiplier",
        "multipliers": "ssm_multipliers",
    },
}
"""Model type -> where its config.json holds the state size and the flags of the adapter."""


def mamba_adapter(config: Mapping[str, Any]) -> MambaAdapter:
    """Adapter for the config.json of a Hugging Face folder.

    Parameters
    ----------
    config : mapping
        The parsed config.json, with every value that the layers depend on (as ``PreTrainedConfig.to_dict`` writes it).

    Returns
    -------
    MambaAdapter

    Raises
    ------
    NotRepresentableError
        Models of this type are not known here.

    Examples
    --------
    >>> from ssmreduce.adapters import mamba_adapter
    >>> mamba_adapter({"model_type": "mamba2", "n_groups": 8, "time_step_limit": [0.0, 1e9]}).groups
    8
    """
    flags = dict(_config_keys(config))
    flags.pop("order")
    dt_from = config.get(flags.pop("dt_from", ""), 0.0)
    values = {flag: config[key] for flag, key in flags.items() if config.get(key) is not None}
    for flag in ("dt_limit", "multipliers"):
        if flag in values:
            values[flag] = tuple(number(v) for v in values[flag])
    adapter = MambaAdapter(**values)
    return replace(adapter, dt_limit=(float(dt_from), float("inf"))) if dt_from else adapter


def number(value: Any) -> float:
    """A number of a config.json; transformers writes infinity as ``{"__float__": "Infinity"}``."""
    return float(value["__float__"] if isinstance(value, Mapping) else value)


def order_key(config: Mapping[str, Any]) -> str:
    """Key of config.json that holds the number of states."""
    return _config_keys(config)["order"]


def _config_keys(config: Mapping[str, Any]) -> Mapping[str, str]:
    kind = config.get("model_type")
    if kind not in CONFIGS:
        raise NotRepresentableError(f"models of type {kind!r} are not known; known are {', '.join(sorted(CONFIGS))}")
    return CONFIGS[kind]
