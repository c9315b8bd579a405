"""The arithmetic of the drop-in layers of Flax and Equinox: pure functions of real parameters.

They are compiled as a whole, also where the user's code runs operation by operation: there JAX would trace and compile
each operation of a layer by itself.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import NotCausalError, ShapeError
from ..responses import scan
from ._flat import Structure


class Matrices(NamedTuple):
    """Lambda (N,), B (N, m), C, C_reverse (N, p) complex; D real, (s * m,) or (s, p, m); C_reverse None if causal."""

    Lambda: jax.Array
    B: jax.Array
    C: jax.Array
    C_reverse: jax.Array | None
    D: jax.Array


def matrices(structure: Structure, parameters: Mapping[str, jax.Array]) -> Matrices:
    """Complex matrices of real parameters; see `real_parameters`."""
    p = {name: jnp.asarray(value) for name, value in parameters.items()}
    kind = p["B"].dtype
    reverse = p["C_reverse"] if structure.bidirectional else None
    poles = p["log_rate"], p["angle"], jnp.asarray(structure.side, kind), jnp.asarray(structure.unit, kind)
    return _matrices(poles, p["B"], p["C"], reverse, p["D"])


@jax.jit
def _matrices(
    poles: tuple[jax.Array, ...], B: jax.Array, C: jax.Array, C_reverse: jax.Array | None, D: jax.Array
) -> Matrices:
    log_rate, angle, side, unit = poles
    modulus, angle = jnp.exp(-side * jnp.exp(log_rate)), angle * unit
    Lambda = jax.lax.complex(modulus * jnp.cos(angle), modulus * jnp.sin(angle))
    return Matrices(Lambda, _complex(B), _complex(C), None if C_reverse is None else _complex(C_reverse), D)


def respond(
    structure: Structure, system: Matrices, u: jax.Array, state: jax.Array | None = None, *, carry: bool = False
) -> tuple[jax.Array, jax.Array | None]:
    """Outputs (..., L, s * p) of inputs (..., L, s * m), and the state (..., N, 2) after them where it is carried."""
    u = jnp.asarray(u)
    _check(structure, u, state, carry)
    return _respond(replace(structure, unit=(), side=()), system, u, state, carry)


@partial(jax.jit, static_argnames=("structure", "carry"))
def _respond(
    structure: Structure, system: Matrices, u: jax.Array, state: jax.Array | None, carry: bool
) -> tuple[jax.Array, jax.Array | None]:
    lead = u.shape[:-2]
    groups, order = _groups(structure)
    v = u.astype(system.D.dtype).reshape(*u.shape[:-1], structure.systems, structure.inputs)
    y = _through(structure, system.D, v)
    last = None if not carry else jnp.zeros((*lead, structure.states, 2), v.dtype)
    if structure.states:
        driven = jnp.concatenate([_driven(system.B, v, *group) for group in groups], axis=-1)
        Lambda = system.Lambda[order]
        first = None if state is None else _complex(state.astype(v.dtype))[..., order]
        x = scan(Lambda, driven, None if first is None else jnp.broadcast_to(first, (*lead, structure.states)))
        y = y + _observed(structure, system.C, x)
        if carry:
            last = _pairs(x[..., -1, :][..., np.argsort(order)])
        if system.C_reverse is not None:
            y = y + _observed(structure, system.C_reverse, scan(Lambda, driven, reverse=True))
    y = y.reshape(*u.shape[:-1], structure.systems * structure.outputs)
    return y.astype(u.dtype) if jnp.issubdtype(u.dtype, jnp.floating) else y, last


def step(structure: Structure, system: Matrices, u: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One sample: outputs (..., s * p) of inputs (..., s * m), and the next state (..., N, 2); no scan."""
    if structure.bidirectional:
        raise NotCausalError("a bidirectional layer needs its whole sequence: it has no step")
    y, last = respond(structure, system, u[..., None, :], state, carry=True)
    assert last is not None
    return y[..., 0, :], last


def _check(structure: Structure, u: jax.Array, state: jax.Array | None, carry: bool) -> None:
    if (carry or state is not None) and structure.bidirectional:
        raise NotCausalError("a bidirectional layer needs its whole sequence: it has no state to carry on")
    width = structure.systems * structure.inputs
    if u.ndim < 2 or u.shape[-1] != width:
        raise ShapeError(f"u has shape {tuple(u.shape)}; expected (..., L, {width})")
    if state is not None and tuple(state.shape[-2:]) != (structure.states, 2):
        raise ShapeError(f"state has shape {tuple(state.shape)}; expected (..., {structure.states}, 2)")


def _groups(structure: Structure) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Systems of equal order side by side: for each group its systems (g,) and states (g, n); and all states in a row.

    So that ragged layers need reshapes only, where scattered sums would be slow.
    """
    counts = np.array(structure.counts)
    starts = np.cumsum(counts) - counts
    groups = []
    for n in np.unique(counts[counts > 0]):
        systems = np.flatnonzero(counts == n)
        groups.append((systems, starts[systems, None] + np.arange(n)))
    return groups, np.concatenate([states.ravel() for _, states in groups]) if groups else np.empty(0, dtype=int)


def _driven(B: jax.Array, v: jax.Array, systems: np.ndarray, states: np.ndarray) -> jax.Array:
    """B u of a group, (..., L, g * n)."""
    own = v if len(systems) == v.shape[-2] else v[..., systems, :]
    real, imaginary = (jnp.einsum("...sm,snm->...sn", own, part[states]) for part in (B.real, B.imag))
    return jax.lax.complex(real, imaginary).reshape(*v.shape[:-2], states.size)


def _observed(structure: Structure, C: jax.Array, x: jax.Array) -> jax.Array:
    """Re(C x) of every system, (..., L, s, p)."""
    groups, _ = _groups(structure)
    parts, done = [], 0
    for _, states in groups:
        own = x[..., done : done + states.size].reshape(*x.shape[:-1], *states.shape)
        parts.append(
            jnp.einsum("...sn,snp->...sp", own.real, C.real[states])
            - jnp.einsum("...sn,snp->...sp", own.imag, C.imag[states])
        )
        done += states.size
    systems = np.concatenate([systems for systems, _ in groups])
    if len(systems) < structure.systems:  # systems without a state
        empty = np.setdiff1d(np.arange(structure.systems), systems)
        parts.append(jnp.zeros((*x.shape[:-1], len(empty), structure.outputs), parts[0].dtype))
        systems = np.concatenate([systems, empty])
    y = jnp.concatenate(parts, axis=-2) if len(parts) > 1 else parts[0]
    return y if len(groups) == 1 and len(parts) == 1 else y[..., np.argsort(systems), :]


def _through(structure: Structure, D: jax.Array, v: jax.Array) -> jax.Array:
    """D u of every system, (..., L, s, p)."""
    if structure.diagonal:
        return v * D.reshape(structure.systems, structure.inputs)
    return jnp.einsum("...sm,spm->...sp", v, D)


def _complex(pairs: jax.Array) -> jax.Array:
    return jax.lax.complex(pairs[..., 0], pairs[..., 1])


def _pairs(x: jax.Array) -> jax.Array:
    return jnp.stack([x.real, x.imag], axis=-1)
