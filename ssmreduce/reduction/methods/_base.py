"""What all reductions of one system share: the result, unstable states apart, batches, and the diagonal form."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..._support.arguments import real_number
from ..._support.arrays import one_minus_abs
from ...errors import SelectionError
from ...systems import DiagonalSSM, unstable_states
from ...systems._batches import batched, joined, single_systems, stable_part
from ...systems._diagonalise import WORST_CONDITION, Eigensystem
from ...systems._real import output_rows
from ...systems._states import take_states
from ...systems._systems import require_diagonal

_PARALLEL = 1e-10  # rounding errors by which vectors that ought to be parallel may differ
_CHECKED = 4  # poles at whose angles the response of a diagonal form is compared
_UNFAITHFUL = 1e-7  # relative difference there from which a smaller order is taken


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
    modes = Eigensystem.of(A)
    if not (one_minus_abs(modes.poles) > 0).all() or modes.condition > WORST_CONDITION:
        return None
    Lambda, rows, columns = modes.states(B, C)
    columns = 2.0 / kappa * columns
    b, c = np.linalg.norm(rows, axis=1), np.linalg.norm(columns, axis=0)
    scale = np.sqrt(np.divide(c, b, out=np.ones_like(b), where=(b > 0) & (c > 0)))
    states = Lambda, rows * scale[:, None], columns / scale
    return states if _is_faithful(A, B, C, kappa, *states) else None


def _is_faithful(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, kappa: float, Lambda: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> bool:
    """Whether the diagonal form has the response of the real system at the angles of the poles that lie closest.

    Of nearly equal poles each has lost half its digits, and their large residues cancel to a wrong response.
    """
    if Lambda.size < 2 or not rows.size or not columns.size:
        return True
    closed = np.concatenate([Lambda, Lambda.conj()[Lambda.imag != 0]])
    distances = np.abs(closed[:, None] - closed) + 4.0 * np.eye(closed.size)
    worst = closed[np.argsort(distances.min(axis=1), kind="stable")[:_CHECKED]]
    exact, given = [], []
    for z in np.exp(1j * np.angle(worst)):
        exact.append(C @ np.linalg.solve(z * np.eye(len(A)) - A, B.astype(np.complex128)))
        own, other = (columns / (z - Lambda)) @ rows, (columns.conj() / (z - Lambda.conj())) @ rows.conj()
        given.append(kappa / 2.0 * (own + other))
    allowed = max(_UNFAITHFUL, 1e-14 / float(one_minus_abs(Lambda).min()))
    return bool(np.abs(np.subtract(given, exact)).max() <= allowed * np.abs(exact).max())
