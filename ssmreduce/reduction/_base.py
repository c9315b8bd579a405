"""What all reductions of one system share: the result, unstable states apart, batches, and the diagonal form."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .._arguments import real_number
from .._arrays import one_minus_abs, to_numpy
from ..errors import SelectionError
from ..gramians import cauchy_factor, real_gramian, safe_cholesky
from ..systems import DiagonalSSM, require_diagonal, take_states, unstable_states

_PADDING_POLE = 0.5  # of the silent states that give the systems of a batch one order
_PARALLEL = 1e-10  # rounding errors by which vectors that ought to be parallel may differ
_WORST_CONDITION = 1e8  # of eigenvectors: beyond it the diagonal form loses more than half the digits


@dataclass(frozen=True, eq=False)
class Reduction:
    """A reduced system and how it came about.

    Attributes
    ----------
    ssm : DiagonalSSM
        The reduced system, of the same kind as the original, as NumPy arrays; where nothing was reduced the original.
    order : int
        Stored states of each system: what it costs. At most what was asked for.
    method : str
    real_order : int
        Order of the real system that the stored states stand for, of a batch the largest. A complex pole counts two,
        also where its conjugate is stored beside it; a real pole one, or two where complex B and C drive and read both
        of its parts; a silent state none; states of one pole no more than the inputs and outputs can tell apart.
    bound : float
        A-priori bound on the peak gain of the error, over the systems of a batch, in exact arithmetic (see
        `Certificate.a_priori`); ``nan`` where the method has none.
        It says nothing of unstable states, which are kept as they are.
    """

    ssm: DiagonalSSM
    order: int
    method: str
    real_order: int
    bound: float


@dataclass(frozen=True, eq=False)
class Part:
    """What a method makes of the stable states of one system."""

    ssm: DiagonalSSM
    bound: float = float("nan")


Method = Callable[[DiagonalSSM, int], Part]


def reduce_each(ssm: DiagonalSSM, order: int, method: Method, name: str, *, identity: bool = True) -> Reduction:
    """Apply a method to the stable states of every system; order n returns the system itself.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed.
    order : int
        Stored states of each system that may be left, unstable ones included.
    method : callable
        From a stable single system and an order (perhaps 0) to a `Part` with at most that order.
    name : str
        Of the method.
    identity : bool
        Whether order n returns the system itself; else the method is asked.

    Returns
    -------
    Reduction

    Raises
    ------
    SelectionError
        An order outside 0 ... n, or below the number of unstable states of a system.
    """
    require_diagonal(ssm)
    if not (0 <= (number := real_number(order, "the order")) <= ssm.order and number.is_integer()):
        raise SelectionError(f"{ssm!r} has {ssm.order} stored states; it cannot be reduced to {order}")
    if identity and order == ssm.order:
        return Reduction(ssm, order, name, _largest_real_order(single_systems(ssm)), 0.0)
    parts = [_reduce_stable(one, order, method) for one in single_systems(ssm)]
    systems = [part.ssm for part in parts]
    reduced = batched(systems, ssm)
    bound = max((part.bound for part in parts), default=0.0)
    return Reduction(reduced, reduced.order, name, _largest_real_order(systems), bound)


def single_systems(ssm: DiagonalSSM) -> list[DiagonalSSM]:
    """The systems of a batch, row-major, as host arrays."""
    count = int(np.prod(ssm.batch, dtype=int))

    def flat(value: object) -> np.ndarray:
        value = to_numpy(value)
        return value.reshape(count, *value.shape[len(ssm.batch) :])

    Lambda, B, C, D = (flat(a) for a in (ssm.Lambda, ssm.B, ssm.C, ssm.D))
    reverse = [None] * count if ssm.C_reverse is None else flat(ssm.C_reverse)
    return [DiagonalSSM(*one, ssm.conj_sym) for one in zip(Lambda, B, C, D, reverse, strict=True)]


def _reduce_stable(ssm: DiagonalSSM, order: int, method: Method) -> Part:
    apart = unstable_states(ssm)
    if not apart.size:
        return method(ssm, order)
    if order < apart.size:
        raise SelectionError(
            f"{ssm!r} has {apart.size} unstable states, which are kept as they are; an order of {order} is below that"
        )
    part = method(stable_part(ssm), order - apart.size)
    return replace(part, ssm=joined(part.ssm, take_states(ssm, apart)))


def stable_part(ssm: DiagonalSSM) -> DiagonalSSM:
    """A single system without its unstable states."""
    apart = unstable_states(ssm)
    return take_states(ssm, np.setdiff1d(np.arange(ssm.order), apart)) if apart.size else ssm


def joined(first: DiagonalSSM, second: DiagonalSSM) -> DiagonalSSM:
    """States of both, the feedthrough of the first."""
    reverse = None
    if first.C_reverse is not None and second.C_reverse is not None:
        reverse = np.concatenate([first.C_reverse, second.C_reverse], axis=-1)
    return replace(
        first,
        Lambda=np.concatenate([first.Lambda, second.Lambda], axis=-1),
        B=np.concatenate([first.B, second.B], axis=-2),
        C=np.concatenate([first.C, second.C], axis=-1),
        C_reverse=reverse,
    )


def difference(ssm: DiagonalSSM, reduced: DiagonalSSM) -> DiagonalSSM:
    """The error system with all states of both."""
    reverse = None if reduced.C_reverse is None else -reduced.C_reverse
    error = joined(ssm, replace(reduced, C=-reduced.C, C_reverse=reverse))
    return replace(error, D=ssm.D - reduced.D)


def batched(systems: list[DiagonalSSM], like: DiagonalSSM) -> DiagonalSSM:
    """One batch of single systems, filled up with silent states to one order."""
    if not like.batch:
        return systems[0]
    if not systems:
        return take_states(like, np.arange(0))
    order = max(ssm.order for ssm in systems)
    systems = [joined(ssm, _silent(ssm, order - ssm.order)) for ssm in systems]

    def stacked(name: str) -> np.ndarray:
        arrays = np.stack([getattr(ssm, name) for ssm in systems])
        return arrays.reshape(*like.batch, *arrays.shape[1:])

    reverse = stacked("C_reverse") if like.bidirectional else None
    return DiagonalSSM(stacked("Lambda"), stacked("B"), stacked("C"), stacked("D"), reverse, like.conj_sym)


def _silent(ssm: DiagonalSSM, count: int) -> DiagonalSSM:
    outputs = np.zeros((ssm.outputs, count))
    reverse = outputs if ssm.bidirectional else None
    poles = np.full(count, _PADDING_POLE)
    return DiagonalSSM(poles, np.zeros((count, ssm.inputs)), outputs, ssm.D, reverse, ssm.conj_sym)


# ---------------------------------------------------------------- real order


def _largest_real_order(systems: list[DiagonalSSM]) -> int:
    return max((_real_order(ssm) for ssm in systems), default=0)


def _real_order(ssm: DiagonalSSM) -> int:
    """McMillan degree of the real system: of each pole, the rank of its residue (the real rank of a real pole's)."""
    lower = ssm.Lambda.imag < 0  # the same real system as its conjugate
    poles = np.where(lower, ssm.Lambda.conj(), ssm.Lambda)
    rows, columns = ssm.B, output_rows(ssm).T
    order = 0
    for pole in np.unique(poles):
        at = np.flatnonzero(poles == pole)
        vectors = [np.where(lower[at, None], v[at].conj(), v[at]) for v in (rows, columns)]
        heard = (vectors[0] != 0).any(axis=1) & (vectors[1] != 0).any(axis=1)
        if pole.imag == 0:
            order += min(_rank(np.concatenate([v[heard].real, v[heard].imag])) for v in vectors)
        else:
            order += 2 * min(_rank(v[heard]) for v in vectors)
    return order


def _rank(vectors: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(vectors, tol=_PARALLEL * np.abs(vectors).max(initial=0.0)))


# ---------------------------------------------------------------- real coordinates


def output_rows(ssm: DiagonalSSM) -> np.ndarray:
    """Output matrix of a single system; both halves of a bidirectional one stacked, as they share the states."""
    return ssm.C if ssm.C_reverse is None else np.concatenate([ssm.C, ssm.C_reverse], axis=-2)


def widening(ssm: DiagonalSSM) -> float:
    """Largest gain of a system over that of its halves stacked: both may add up, for one input in quadrature."""
    if not ssm.bidirectional:
        return 1.0
    return float(np.sqrt(2.0)) if ssm.inputs == 1 else 2.0


def with_outputs(ssm: DiagonalSSM, Lambda: np.ndarray, B: np.ndarray, C: np.ndarray) -> DiagonalSSM:
    """The system with other states; `C` as from `output_rows`."""
    p = ssm.outputs
    reverse = C[p:] if ssm.bidirectional else None
    return DiagonalSSM(Lambda, B, C[:p], ssm.D, reverse, ssm.conj_sym)


def real_inputs(B: np.ndarray) -> np.ndarray:
    r"""Input matrix in the coordinates :math:`\sqrt2 (\mathrm{Re}\,x, \mathrm{Im}\,x)`."""
    return np.sqrt(2.0) * np.concatenate([B.real, B.imag], axis=-2)


def real_outputs(C: np.ndarray, kappa: float) -> np.ndarray:
    r"""Output matrix of :math:`\kappa\,\mathrm{Re}(C x)` in the same coordinates."""
    return kappa / np.sqrt(2.0) * np.concatenate([C.real, -C.imag], axis=-1)


def advance(Lambda: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Product of the real A, which is two by two blocks, with a matrix (2 n, k)."""
    n = Lambda.size
    top, bottom = states[:n], states[n:]
    a, b = Lambda.real[:, None], Lambda.imag[:, None]
    return np.concatenate([a * top - b * bottom, b * top + a * bottom])


def real_factor(Lambda: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Square factor of `real_gramian`: Cholesky where that is safe, else from `cauchy_factor`, which cannot fail."""
    factor = safe_cholesky(real_gramian(Lambda, rows))
    if factor is not None:
        return factor
    n = Lambda.size
    closed = cauchy_factor(np.concatenate([Lambda, Lambda.conj()]), np.concatenate([rows, rows.conj()]), threads=1)
    top, bottom = closed[:n], closed[n:]
    states = np.concatenate([top + bottom, -1j * (top - bottom)]) / np.sqrt(2.0)
    return np.transpose(np.linalg.qr(np.concatenate([states.real, states.imag], axis=1).T, mode="r"))


# ---------------------------------------------------------------- back to stored states


def stored_order(A: np.ndarray) -> int:
    """States that the diagonal form of a real A stores: one a conjugate pair, one a real pole."""
    poles = np.linalg.eigvals(A)
    return int(np.count_nonzero(poles.imag >= 0))


def stored_states(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, kappa: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    r"""Poles, inputs and outputs of the diagonal form of a real system, one state a pair or real pole.

    A real pole has real inputs and outputs, and half the output of a pair: its C is divided by :math:`\kappa`, that of
    a pair by :math:`\kappa / 2`. Inputs and outputs of a state have equal norms.

    Returns
    -------
    tuple or None
        None where a pole is not inside the unit circle, or A cannot be diagonalised reliably.
    """
    if not A.size:
        return np.zeros(0, dtype=np.complex128), B.astype(np.complex128), C.astype(np.complex128)
    Lambda, V = np.linalg.eig(A)
    if not (one_minus_abs(Lambda.astype(np.complex128)) > 0).all() or np.linalg.cond(V) > _WORST_CONDITION:
        return None
    stored = Lambda.imag >= 0
    rows = np.linalg.solve(V, B.astype(V.dtype))[stored]
    columns = (C @ V)[:, stored] * np.where(Lambda[stored].imag == 0, 1.0, 2.0) / kappa
    b, c = np.linalg.norm(rows, axis=1), np.linalg.norm(columns, axis=0)
    scale = np.sqrt(np.divide(c, b, out=np.ones_like(b), where=(b > 0) & (c > 0)))
    return Lambda[stored].astype(np.complex128), rows * scale[:, None], columns / scale
