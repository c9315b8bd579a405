"""Peak gain of dense systems by level sets: the two-step method of Bruinsma, Steinbuch, Boyd and Balakrishnan."""

import math

import numpy as np

from ...errors import NonFiniteError
from ...systems import StateSpace
from ...systems._guards import require_stable_dense

_NEAR_CIRCLE = 1e-5  # a pencil eigenvalue this close to the unit circle is tried as a crossing of the level
_MAX_LEVELS = 60
_WIDE = 32  # inputs and outputs from which one eigenvalue is cheaper than all singular values


def level_set_peak_gain(
    system: StateSpace, rtol: float, start: tuple[float, float] | None = None
) -> tuple[float, float, float, int]:
    r"""H-infinity norm of a dense system, where it is reached, the level that it does not reach, and samples taken.

    On the circle a level :math:`\gamma` above :math:`\sigma_{max}(D)` is a singular value of :math:`G(z)` exactly where
    z is an eigenvalue of the symplectic pencil

    .. math:: \begin{bmatrix} A + B S D^T C & \gamma B S B^T \\ 0 & I \end{bmatrix} - z
              \begin{bmatrix} I & 0 \\ \gamma C^T S' C & A^T + C^T S' D B^T \end{bmatrix}, \qquad
              S = (\gamma^2 I - D^T D)^{-1},\; S' = (\gamma^2 I - D D^T)^{-1}

    The gain is sampled midway between the crossings, the level is raised a little above the largest sample, and so on
    until nothing crosses it [1]_.

    Parameters
    ----------
    system : StateSpace
        Stable.
    rtol : float
        The last level is at most ``1 + rtol`` times the gain.
    start : tuple of float, optional
        A gain that is reached, and where (rad/sample), from a search before; by default the best at the angles of the
        poles.

    Returns
    -------
    gain, omega, upper : float
        `gain` is reached up to the rounding of the response, which solves with :math:`zI - A`; `upper` holds up to the
        rounding of the eigenvalues. Neither is bounded here.
    samples : int

    Raises
    ------
    UnstableSystemError
        A pole on or outside the unit circle.
    NonFiniteError
        A gain beyond the range of double precision.

    References
    ----------
    .. [1] Bruinsma and Steinbuch, "A fast algorithm to compute the H-infinity norm of a transfer function matrix",
       Systems & Control Letters 14 (1990); Boyd and Balakrishnan, Systems & Control Letters 15 (1990).

    Examples
    --------
    >>> gain, omega, upper, samples = level_set_peak_gain(StateSpace([[0.5]], [[1.0]], [[1.0]], [[0.0]]), 1e-9)
    >>> round(gain, 9), omega
    (2.0, 0.0)
    """
    require_stable_dense(system, "the H-infinity norm")
    system, exponent = _scaled(system)
    if start is not None:
        start = math.ldexp(start[0], -exponent), start[1]
    gain, omega, upper, samples = _searched(system, rtol, start)
    with np.errstate(over="ignore"):
        gain, upper = (float(np.ldexp(value, exponent)) for value in (gain, upper))
    if not math.isfinite(upper):
        raise NonFiniteError("the peak gain is beyond the range of double precision; scale C and D down")
    return gain, omega, upper, samples


def _scaled(system: StateSpace) -> tuple[StateSpace, int]:
    """B and C of one size and D at most about 1, by powers of two, and the exponent by which all gains became smaller.

    The pencil holds B B^T and C^T C, which must neither leave the range of double precision nor differ in size.
    """
    b, c, d = (int(np.frexp(np.abs(M).max(initial=0.0))[1]) for M in (system.B, system.C, system.D))
    moving = system.B.any() and system.C.any()
    exponent = max(b + c, d) if moving and system.D.any() else b + c if moving else d
    into = (c - b - exponent) // 2 if moving else 0
    out = -exponent - into if moving else 0
    B, C, D = np.ldexp(system.B, into), np.ldexp(system.C, out), np.ldexp(system.D, -exponent)
    return StateSpace(system.A, B, C, D), exponent


def _searched(system: StateSpace, rtol: float, start: tuple[float, float] | None) -> tuple[float, float, float, int]:
    """`level_set_peak_gain` of a scaled system."""
    if start is None:
        poles = np.linalg.eigvals(system.A)
        gain, omega, samples = _best(system, np.concatenate([[0.0, np.pi], np.abs(np.angle(poles))]))
    else:
        gain, omega, samples = *start, 0
    for _ in range(_MAX_LEVELS):
        upper = gain * (1.0 + rtol)
        crossings = _crossings(system, upper) if gain > 0.0 else np.zeros(0)
        if not crossings.size:
            break
        edges = np.unique(np.concatenate([[0.0], crossings, [np.pi]]))
        value, there, used = _best(system, 0.5 * (edges[:-1] + edges[1:]))
        samples += used
        if value <= upper:
            upper = max(upper, value)
            break
        gain, omega = value, there
    if (gain, omega) == start:  # which the search before has polished
        return gain, omega, upper, samples
    gain, omega, used = _climb(system, gain, omega)
    return gain, omega, max(upper, gain), samples + used


def _gains(system: StateSpace, omega: np.ndarray) -> np.ndarray:
    """Largest singular value of G at each frequency."""
    n = system.A.shape[0]
    z = np.exp(1j * omega)[:, None, None]
    G = system.D + system.C @ np.linalg.solve(z * np.eye(n) - system.A, system.B + 0j)
    if not G.size:
        return np.zeros(len(omega))
    if min(system.D.shape) < _WIDE:
        return np.linalg.svd(G, compute_uv=False)[:, 0]
    return np.array([largest_singular_triple(one)[0] for one in G])


def largest_singular_triple(G: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Largest singular value and its vectors, from one eigenvector of the smaller Gram matrix: cheaper than all.

    Parameters
    ----------
    G : ndarray, shape (p, m), complex128

    Returns
    -------
    value : float
    u, v : ndarray, shapes (p,) and (m,)
        Unit vectors with G v = value u.
    """
    from scipy.linalg import eigh

    if G.shape[0] < G.shape[1]:
        value, v, u = largest_singular_triple(G.conj().T)
        return value, u, v
    last = G.shape[1] - 1
    gram = G.conj().T @ G
    v = eigh(gram, subset_by_index=(last, last), overwrite_a=True, check_finite=False)[1][:, 0]
    u = G @ v
    value = float(np.linalg.norm(u))
    return value, u / value if value > 0.0 else u, v


def _best(system: StateSpace, omega: np.ndarray) -> tuple[float, float, int]:
    omega = np.unique(omega)
    best, where = -1.0, 0.0
    for part in np.array_split(omega, max(1, len(omega) * system.A.size // 2**22)):
        values = _gains(system, part)
        k = int(np.argmax(values))
        if values[k] > best:
            best, where = float(values[k]), float(part[k])
    return best, where, len(omega)


def _crossings(system: StateSpace, level: float) -> np.ndarray:
    """Angles in [0, pi] at which a singular value of G may be equal to the level."""
    from scipy.linalg import eigvals

    A, B, C, D = system.A, system.B, system.C, system.D
    n, (p, m) = A.shape[0], D.shape
    inner = np.linalg.solve(level**2 * np.eye(m) - D.T @ D, np.hstack([D.T @ C, level * B.T]))
    outer = np.linalg.solve(level**2 * np.eye(p) - D @ D.T, np.hstack([level * C, D @ B.T]))
    zero, one = np.zeros((n, n)), np.eye(n)
    left = np.block([[A + B @ inner[:, :n], B @ inner[:, n:]], [zero, one]])
    right = np.block([[one, zero], [C.T @ outer[:, :n], A.T + C.T @ outer[:, n:]]])
    with np.errstate(divide="ignore", invalid="ignore"):
        z = eigvals(left, right, overwrite_a=True)
    z = z[np.isfinite(z)]
    return np.unique(np.abs(np.angle(z[np.abs(np.abs(z) - 1.0) < _NEAR_CIRCLE])))


def _climb(system: StateSpace, gain: float, omega: float) -> tuple[float, float, int]:
    """Climb the local peak by parabolas of shrinking width."""
    step, used = 0.1 * float(np.min(np.abs(np.exp(1j * omega) - np.linalg.eigvals(system.A)), initial=1.0)), 0
    for _ in range(4):
        left, right = _gains(system, np.array([omega - step, omega + step]))
        bend = left - 2.0 * gain + right
        shift = 0.5 * step * np.clip((left - right) / bend, -2.0, 2.0) if bend < 0.0 else 0.0
        points = np.array([omega, omega - step, omega + step, omega + shift])
        values = np.array([gain, left, right, _gains(system, points[3:])[0]])
        used += 3
        gain, omega = float(values.max()), float(points[np.argmax(values)])
        step *= 0.1
    omega = abs(omega)
    return gain, omega if omega <= np.pi else 2.0 * np.pi - omega, used
