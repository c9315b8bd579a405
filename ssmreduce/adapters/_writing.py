"""Writing a system into arrays: what stays bit for bit, what is taken, and whether the arrays hold it."""

from dataclasses import replace

import numpy as np

from .._support.arrays import one_minus_abs
from ..systems import DiagonalSSM
from ._layout import Tensor


def unchanged_states(old: DiagonalSSM, new: DiagonalSSM) -> dict[str, np.ndarray] | None:
    """For each role, which states of a system of equal order are bitwise as before."""
    if old.order != new.order:
        return None
    driven = (old.Lambda == new.Lambda) & (old.B == new.B).all(axis=-1)
    observed = driven & (old.C == new.C).all(axis=-2)
    if old.C_reverse is not None:
        observed &= (old.C_reverse == new.C_reverse).all(axis=-2)
    return {"pole": driven, "input": driven, "output": observed, "feedthrough": np.asarray((old.D == new.D).all())}


def merge(raw: np.ndarray, fresh: np.ndarray, tensor: Tensor, same: np.ndarray, per_slot: int) -> np.ndarray:
    """The raw array where the states are the same, else the fresh one."""
    if same.ndim == 0 or tensor.state_axis is None:
        return raw if same.all() else fresh
    copies = 1 if tensor.system_axis is None else raw.shape[tensor.system_axis]
    slots = same.size // (same.shape[0] if same.ndim == 2 else 1) // per_slot
    alike = np.asarray(same.reshape(-1, copies, per_slot, slots).all(axis=(0, 2)))
    return np.where(along_states(tensor, alike), raw, fresh)


def along_states(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """Values of states, shape (copies, n), shaped to broadcast against the array."""
    axis, systems = tensor.state_axis, tensor.system_axis
    assert axis is not None
    if tensor.axes[axis] == "2n":
        values = np.concatenate([values, values], axis=-1)
    shape = [1] * len(tensor.axes)
    shape[axis] = values.shape[1]
    if systems is None:
        return values[0].reshape(shape)
    shape[systems] = values.shape[0]
    return (values if systems < axis else values.T).reshape(shape)


def take(array: np.ndarray, tensor: Tensor, index: np.ndarray, order: int) -> np.ndarray:
    """The array with the slots at `index`, shape (copies, r)."""
    axis = tensor.state_axis
    assert axis is not None
    if tensor.axes[axis] == "2n":
        index = np.concatenate([index, index + order], axis=-1)
        tensor = Tensor(tensor.role, tuple("n" if a == "2n" else a for a in tensor.axes))
    return np.take_along_axis(array, along_states(tensor, index), axis=axis)


def _conjugated_like(held: DiagonalSSM, wanted: DiagonalSSM) -> DiagonalSSM:
    """The held system with those stored halves of conjugate pairs that `wanted` stores."""
    if not wanted.conj_sym:
        return held
    flip = held.Lambda.imag * wanted.Lambda.imag < 0
    columns = flip[..., None, :]
    reverse = held.C_reverse
    return replace(
        held,
        Lambda=np.where(flip, held.Lambda.conj(), held.Lambda),
        B=np.where(flip[..., None], held.B.conj(), held.B),
        C=np.where(columns, held.C.conj(), held.C),
        C_reverse=None if reverse is None else np.where(columns, reverse.conj(), reverse),
    )


def difference(held: DiagonalSSM, wanted: DiagonalSSM) -> str:
    """What differs beyond float32 accuracy; states may be scaled (B up, C down)."""
    held = _conjugated_like(held, wanted)
    gap = one_minus_abs(wanted.Lambda)
    if (np.abs(held.Lambda - wanted.Lambda) > 5e-6).any() or (
        np.abs(one_minus_abs(held.Lambda) - gap) > 2e-5 * np.abs(gap) + 1e-14
    ).any():
        worst = int(np.abs(held.Lambda - wanted.Lambda).argmax())
        return f"pole {wanted.Lambda.ravel()[worst]:.6g} would become {held.Lambda.ravel()[worst]:.6g}"
    power = np.sum(np.abs(held.B) ** 2, axis=-1)
    scale = np.sum(wanted.B * held.B.conj(), axis=-1) / np.where(power > 0, power, 1.0)
    if not _close(held.B * scale[..., None], wanted.B, axis=-1):
        return "its input matrix B would change"
    silent = scale == 0  # no input is wanted: C may be anything as long as nothing comes out
    scale = np.where(silent, power, 1.0 / np.where(silent, 1.0, scale))[..., None, :]
    outputs = [(held.C, wanted.C)] + ([(held.C_reverse, wanted.C_reverse)] if wanted.bidirectional else [])
    if not all(_close(h * scale, w * ~silent[..., None, :], axis=-2) for h, w in outputs):
        return "its output matrix C would change"
    if not _close(held.D, wanted.D, axis=(-2, -1)):
        return "its feedthrough D would change"
    return ""


def _close(a: np.ndarray, b: np.ndarray, axis: int | tuple[int, int]) -> bool:
    return bool((np.max(np.abs(a - b), axis=axis) <= 2e-5 * np.max(np.abs(b), axis=axis)).all())


def real_inputs(B: np.ndarray, old: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs turned so that the largest of each state is real, and the factors that were taken out.

    Its sign is that of the old inputs where there are as many, which those that did not change keep.
    """
    place = np.abs(B).argmax(axis=1)[:, None]
    largest = np.take_along_axis(B, place, axis=1)[:, 0]
    sign = np.ones(len(B))
    if old.shape == B.shape:
        sign = np.where(np.take_along_axis(old, place, axis=1)[:, 0] < 0, -1.0, 1.0)
    turn = sign * np.where(largest == 0, 1.0, np.exp(1j * np.angle(largest)))
    return (B / turn[:, None]).real, turn
