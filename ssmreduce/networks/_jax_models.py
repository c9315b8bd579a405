"""Between models and the arrays of live JAX networks."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import NotRepresentableError
from ..models import SSMModel, replace_system
from ..systems import DiagonalSSM
from ._flat import Structure, flatten_states, real_parameters
from ._jax_layers import Matrices
from ._protocol import Gradients


def states_of(model: SSMModel, name: str) -> np.ndarray:
    """Which slots of each system of a layer hold a state, shape (s, n)."""
    return model.state_index(name)[1]


def with_systems(model: SSMModel, layers: Mapping[str, tuple[Structure, DiagonalSSM]]) -> SSMModel:
    """The model with the systems of drop-in layers in place of its own, held as family parameters where possible."""
    for name, (structure, ssm) in layers.items():
        valid = np.arange(ssm.order) < np.array(structure.counts)[:, None]
        ssm = in_family(model[name], ssm)
        try:
            params = {**model.params, **model.adapter.put(model.params, name, ssm)}
        except NotRepresentableError:
            model = replace_system(model, name, ssm, valid=valid)
            continue
        keep = {key: index for key, index in model.keep.items() if key != name}
        keep |= {} if valid.all() else {name: np.flatnonzero(valid)}
        systems = {key: system for key, system in model.systems.items() if key != name}
        model = replace(model, params=params, keep=keep, systems=systems)
    return model


def dtype_of(model: SSMModel, name: str) -> Any:
    """Precision of a layer: that of its parameters."""
    kinds = [
        value.dtype
        for key, value in model.params.items()
        if (key.startswith((f"{name}/", f"{name}.")) or name == ".") and isinstance(value, np.ndarray)
    ]
    return jnp.float64 if kinds and kinds[0] in (np.float64, np.complex128) else jnp.float32


def beside(y: jax.Array, others: int) -> Any:
    """The outputs of a layer, with None beside them as many times as the layer that it replaces has it."""
    return (y, *[None] * others) if others else y


def unchanged(params: Mapping[str, Any], model: SSMModel, replaced: Iterable[str]) -> dict[str, Any]:
    """Parameters of a live object that are those of a model, and not of its replaced layers."""
    starts = tuple(f"{name}{separator}" for name in replaced for separator in "./")
    return {key: value for key, value in params.items() if key in model.params and not key.startswith(starts)}


def filled(tree: Any, arrays: Mapping[str, np.ndarray], path: tuple[str, ...] = ()) -> Any:
    """Nested mappings with other leaves, by names with dots."""
    if isinstance(tree, Mapping):
        return {key: filled(child, arrays, (*path, str(key))) for key, child in tree.items()}
    return jnp.asarray(arrays[".".join(path)])


def told_by(name: str, structure: Structure, dtype: Any) -> dict[str, np.ndarray]:
    """What a drop-in layer knows besides its parameters, as arrays under the names of PyTorch's drop-in layers."""
    start = "" if name == "." else f"{name}."
    unit, side = np.array(structure.unit, dtype=dtype), np.array(structure.side, dtype=dtype)
    return {f"{start}unit": unit, f"{start}side": side, f"{start}owner": structure.owner}


def in_family(like: DiagonalSSM, ssm: DiagonalSSM) -> DiagonalSSM:
    """The same real system with the factor kappa where the layer that was read has it."""
    if not like.conj_sym or ssm.conj_sym:
        return ssm
    reverse = None if ssm.C_reverse is None else ssm.C_reverse / 2
    return replace(ssm, C=ssm.C / 2, C_reverse=reverse, conj_sym=True)


def matrices_of(ssm: DiagonalSSM, valid: np.ndarray, dtype: Any) -> tuple[Structure, Matrices]:
    """A system's own matrices, flat, in a precision."""
    structure, values = real_parameters(ssm, valid)
    flat = flatten_states(ssm, valid)
    kind = jnp.complex128 if dtype == jnp.float64 else jnp.complex64
    Lambda, B, C = (jnp.asarray(flat[key], kind) for key in ("Lambda", "B", "C"))
    reverse = None if flat["C_reverse"] is None else jnp.asarray(flat["C_reverse"], kind)
    return structure, Matrices(Lambda, B, C, reverse, jnp.asarray(values["D"], dtype))


def gradients_of(ssm: DiagonalSSM, valid: np.ndarray, found: Matrices) -> Gradients:
    """Gradients of flat matrices in the shapes of the system; JAX's complex ones are conjugates of ours."""
    s, n = ssm.systems, ssm.order
    flat_states = flatten_states(ssm, valid)
    places = flat_states["owner"], flat_states["slot"]

    def placed(flat: Any, shape: tuple[int, ...], *, output: bool = False) -> np.ndarray:
        full = np.zeros((s, n, *flat.shape[1:]), dtype=np.complex128)
        full[places] = np.conj(np.asarray(flat))
        return ssm.kappa * full.swapaxes(1, 2).reshape(shape) if output else full.reshape(shape)

    D = np.asarray(found.D, dtype=np.float64)
    if D.ndim == 1:
        D = D.reshape(s, ssm.inputs, 1) * np.eye(ssm.inputs)
    return Gradients(
        placed(found.Lambda, ssm.Lambda.shape),
        placed(found.B, ssm.B.shape),
        placed(found.C, ssm.C.shape, output=True),
        D.reshape(ssm.D.shape),
        None if found.C_reverse is None else placed(found.C_reverse, ssm.C.shape, output=True),
    )
