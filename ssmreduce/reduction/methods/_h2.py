"""H2-optimal reduction: fixed-point interpolation (IRKA) from balanced truncation, the best iterate refitted."""

import numpy as np

from ..._support.arguments import whole_number
from ...norms import h2_norm
from ...norms._gramians import one_minus_products, real_gramian
from ...systems import DiagonalSSM
from ...systems._batches import difference
from ...systems._real import advance, output_rows, real_inputs, real_outputs, with_outputs
from ...systems._states import take_states
from ._balanced import truncated
from ._base import Part, Reduction, reduce_each, stored_states
from ._compensated import refitted
from ._greedy import survivors

_SETTLED = 1e-8  # change of the poles at which the iteration has converged


def h2_approximation(ssm: DiagonalSSM, order: int, *, iterations: int = 40) -> Reduction:
    r"""The smallest H2 error that a local search finds.

    A system of locally smallest H2 error interpolates the original at the mirror images of its own poles, in the
    directions of its own residues [1]_:

    .. math::

        G(1/\bar\mu_i)\,b_i^* = \hat G(1/\bar\mu_i)\,b_i^*, \qquad c_i^* G(1/\bar\mu_i) = c_i^* \hat G(1/\bar\mu_i),
        \qquad c_i^* G'(1/\bar\mu_i)\,b_i^* = c_i^* \hat G'(1/\bar\mu_i)\,b_i^*

    The iteration of [2]_ interpolates at the mirror images of the last poles, starting from balanced truncation. Its
    best iterate that is stable and fits the order, balanced truncation, and what `greedy_elimination` leaves all get B
    and C refitted (`compensated_truncation`); the best one is returned, so that it is never worse than these.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed. Unstable states are kept as they are, and count towards the order.
    order : int
        Stored states that may be left.
    iterations : int, default 40

    Returns
    -------
    Reduction

    Raises
    ------
    SelectionError
        An order outside 0 ... n.
    OptionError
        Negative `iterations`.

    Notes
    -----
    When to use it: where the error on broadband signals counts, and time does not: it takes some ten times as long as
    the others. Nothing bounds its peak gain error. A bidirectional layer is treated with both halves stacked.

    References
    ----------
    .. [1] Bunse-Gerstner, Kubalinska, Vossen and Wilczek, "h2-norm optimal model reduction for large scale discrete
       dynamical MIMO systems", J. Comput. Appl. Math. 233 (2010).
    .. [2] Gugercin, Antoulas and Beattie, "H2 model reduction for large-scale linear dynamical systems", SIAM J. Matrix
       Anal. Appl. 30 (2008).

    Examples
    --------
    >>> ssm = DiagonalSSM([0.9, 0.8, -0.5], [[1.0]] * 3, [[1.0, 0.2, 0.1]], [[0.0]])
    >>> h2_approximation(ssm, 1).ssm.Lambda.round(3)
    array([0.889+0.j])
    """
    iterations = whole_number(iterations, "iterations")
    return reduce_each(ssm, order, lambda one, k: _searched(one, k, iterations), "h2")


def _searched(ssm: DiagonalSSM, order: int, iterations: int) -> Part:
    part = truncated(ssm, order)
    if not part.ssm.order:
        return Part(part.ssm)
    iterates = [part.ssm]
    for _ in range(iterations):
        states = _interpolated(ssm, iterates[-1])
        if states is None or states[0].size > order:
            break
        iterates.append(with_outputs(ssm, *states))
        if _moved(iterates[-2].Lambda, iterates[-1].Lambda) < _SETTLED:
            break
    starts = (min(iterates, key=lambda one: _quick_error(ssm, one)), part.ssm, take_states(ssm, survivors(ssm, order)))
    fitted = [refitted(ssm, start) for start in starts]
    return Part(min(fitted, key=lambda one: _error(ssm, one)))


def _quick_error(ssm: DiagonalSSM, reduced: DiagonalSSM) -> float:
    """Squared H2 error but for a constant; subtractive."""
    C, C_reduced = (real_outputs(output_rows(one), one.kappa) for one in (ssm, reduced))
    cross = real_gramian(ssm.Lambda, ssm.B, reduced.Lambda, reduced.B)
    own = real_gramian(reduced.Lambda, reduced.B)
    return float(np.sum((C_reduced @ own) * C_reduced) - 2.0 * np.sum((C @ cross) * C_reduced))


def _error(ssm: DiagonalSSM, reduced: DiagonalSSM) -> float:
    """H2 error, D apart and both halves stacked, each as accurate as `h2_norm`."""
    error = difference(ssm, reduced)
    C = output_rows(error)
    stacked = DiagonalSSM(error.Lambda, error.B, C, np.zeros((C.shape[0], ssm.inputs)), conj_sym=ssm.conj_sym)
    return float(h2_norm(stacked))


def _moved(old: np.ndarray, new: np.ndarray) -> float:
    if old.size != new.size:
        return np.inf
    return float(np.abs(np.sort_complex(old) - np.sort_complex(new)).max(initial=0.0))


def _interpolated(ssm: DiagonalSSM, reduced: DiagonalSSM) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Stored states of the real system that interpolates at the mirror images of the poles of `reduced`."""
    C = output_rows(ssm)
    mirrored = reduced.Lambda.conj()
    right = _basis(ssm.Lambda, ssm.B, mirrored, reduced.B.conj().T)
    left = _basis(ssm.Lambda.conj(), C.conj().T, mirrored.conj(), output_rows(reduced))
    product = left.T @ right
    if right.shape[1] != left.shape[1] or np.linalg.cond(product) > 1e12:
        return None
    rows = np.linalg.solve(product, left.T)
    A, B = rows @ advance(ssm.Lambda, right), rows @ real_inputs(ssm.B)
    return stored_states(A, B, real_outputs(C, ssm.kappa) @ right, ssm.kappa)


def _basis(Lambda: np.ndarray, rows: np.ndarray, inverses: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Orthonormal real basis of (I - A / s)^-1 B d for points s, perhaps infinite, and directions d, and conjugates."""
    closed = np.concatenate([Lambda, Lambda.conj()])
    driven = np.concatenate([rows, rows.conj()]) @ directions / one_minus_products(closed, inverses.conj())
    n = Lambda.size
    states = np.concatenate([driven[:n] + driven[n:], -1j * (driven[:n] - driven[n:])])
    states = np.concatenate([states.real, states[:, inverses.imag != 0].imag], axis=1)
    sizes = np.linalg.norm(states, axis=0)
    return np.linalg.qr(states / np.where(sizes > 0, sizes, 1.0))[0]
