"""Between diagonal systems, dense real systems, `scipy.signal` and `control`."""

from typing import Any

import numpy as np

from .._support.arguments import described, require_kind
from .._support.arrays import to_numpy
from .._support.optional import optional_import
from ..errors import ArgumentError, NotRepresentableError
from ._diagonalise import WORST_CONDITION, Eigensystem
from ._guards import warn_of_circle
from ._systems import DiagonalSSM, StateSpace, require_diagonal


def to_state_space(ssm: DiagonalSSM) -> StateSpace:
    r"""Dense real system in textbook form with the same transfer function.

    A stored state :math:`\lambda = a + jb` becomes the block :math:`\begin{pmatrix} a & -b \\ b & a \end{pmatrix}` on
    its real and imaginary part; a real one with real inputs stays one state. The scan form becomes textbook form by
    :math:`C\Lambda` and :math:`D + \kappa\,\mathrm{Re}(CB)`.

    Parameters
    ----------
    ssm : DiagonalSSM
        One causal system.

    Returns
    -------
    StateSpace
        Of order at most 2n.

    Raises
    ------
    NotRepresentableError
        A batch of systems, or a bidirectional one.

    Examples
    --------
    >>> to_state_space(DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]]))
    StateSpace(A=array([[0.5]]), B=array([[1.]]), C=array([[0.5]]), D=array([[1.]]))
    """
    require_diagonal(ssm)
    if ssm.batch or ssm.bidirectional:
        raise NotRepresentableError(f"a dense system holds one causal system, not {ssm!r}; convert each on its own")
    Lambda, B, C, D = (to_numpy(value) for value in (ssm.Lambda, ssm.B, ssm.C, ssm.D))
    n = ssm.order
    A = np.zeros((n, 2, n, 2))
    i = np.arange(n)
    A[i, 0, i, 0] = A[i, 1, i, 1] = Lambda.real
    A[i, 1, i, 0] = Lambda.imag
    A[i, 0, i, 1] = -Lambda.imag
    inputs = np.stack([B.real, B.imag], axis=1).reshape(2 * n, ssm.inputs)
    observed = ssm.kappa * C * Lambda
    outputs = np.stack([observed.real, -observed.imag], axis=-1).reshape(ssm.outputs, 2 * n)
    moving = np.stack([np.ones(n, bool), (Lambda.imag != 0) | (B.imag != 0).any(axis=1)], axis=1).ravel()
    A = A.reshape(2 * n, 2 * n)[np.ix_(moving, moving)]
    return StateSpace(A, inputs[moving], outputs[:, moving], D + ssm.kappa * (C @ B).real)


def from_state_space(system: StateSpace, *, conj_sym: bool = True) -> DiagonalSSM:
    r"""Diagonal system in scan form with the same transfer function, by eigendecomposition.

    With :math:`A = V \Lambda V^{-1}` the scan form has :math:`V^{-1} B`, :math:`C V \Lambda^{-1}` and the feedthrough
    :math:`D - C A^{-1} B`.

    Parameters
    ----------
    system : StateSpace
    conj_sym : bool, default True
        Store one state of each conjugate pair; a real pole is one stored state with half its C.

    Returns
    -------
    DiagonalSSM

    Raises
    ------
    NotRepresentableError
        A pole at 0, which the scan form does not have, or eigenvectors too close to dependent (a Jordan block); the
        transfer functions are compared.

    Warns
    -----
    PrecisionWarning
        A pole inside the unit circle by no more than the rounding of an eigenvalue.

    Examples
    --------
    >>> from_state_space(StateSpace([[0.5]], [[1.0]], [[0.5]], [[1.0]]))
    DiagonalSSM(order=1, inputs=1, outputs=1, conj_sym=True, causal)
    """
    require_kind(system, StateSpace, "system", "a StateSpace is needed; see also from_dlti and from_control")
    modes = Eigensystem.of(system.A)
    if modes.condition > WORST_CONDITION:
        raise NotRepresentableError(
            f"A cannot be diagonalised reliably: its eigenvectors have condition number {modes.condition:.1e}"
        )
    warn_of_circle(float(np.abs(modes.poles).max(initial=0.0)))
    Lambda, B, outputs = modes.states(system.B, system.C)
    zero = np.abs(Lambda) <= 1e-13 * np.linalg.norm(system.A)
    if ((np.abs(B).max(axis=1, initial=0) * np.abs(outputs).max(axis=0, initial=0))[zero] > 0).any():
        raise NotRepresentableError(
            "the system has a pole at 0 to working precision (a pure delay), which the scan form does not have"
        )
    Lambda, B, outputs = Lambda[~zero], B[~zero], outputs[:, ~zero]
    C = outputs / Lambda
    D = system.D - 2.0 * (C @ B).real
    if not conj_sym:
        pair = Lambda.imag != 0
        C = C * np.where(pair, 1.0, 2.0)
        Lambda, B, C = (
            np.concatenate([array, np.compress(pair, array, axis).conj()], axis)
            for array, axis in ((Lambda, 0), (B, 0), (C, 1))
        )
    ssm = DiagonalSSM(Lambda, B, C, D, conj_sym=conj_sym)
    _check_same_gain(ssm, system)
    return ssm


def _check_same_gain(ssm: DiagonalSSM, system: StateSpace) -> None:
    """A Jordan block or a pole close to 0 shows as digits lost in the sum of the partial fractions."""
    points = np.exp(1j * np.array([0.3, 1.1, 2.5]))
    eye = np.eye(system.A.shape[0])
    exact = [system.C @ np.linalg.solve(z * eye - system.A, system.B) + system.D for z in points]
    given = [_at(ssm, z) for z in points]
    size = max(np.abs(exact).max(initial=0.0), np.abs(system.D).max(initial=0.0))
    if np.abs(np.subtract(given, exact)).max(initial=0.0) > 1e-6 * size:
        raise NotRepresentableError(
            "the diagonal form would not have the same transfer function: A has nearly repeated poles without "
            "independent eigenvectors, or a pole close to 0"
        )


def _at(ssm: DiagonalSSM, z: complex) -> np.ndarray:
    own = (ssm.C / (1 - ssm.Lambda / z)) @ ssm.B
    other = (ssm.C.conj() / (1 - ssm.Lambda.conj() / z)) @ ssm.B.conj()
    return ssm.D + ssm.kappa / 2 * (own + other)


def to_dlti(ssm: DiagonalSSM, *, dt: float = 1.0) -> Any:
    """Dense `scipy.signal.dlti` (StateSpace) with the same transfer function.

    Parameters
    ----------
    ssm : DiagonalSSM
        One causal system.
    dt : float
        Sampling time that the result carries.

    Returns
    -------
    scipy.signal.dlti

    Raises
    ------
    NotRepresentableError
        A batch of systems, or a bidirectional one.

    Examples
    --------
    >>> to_dlti(DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]])).A
    array([[0.5]])
    """
    from scipy.signal import dlti

    dense = to_state_space(ssm)
    return dlti(dense.A, dense.B, dense.C, dense.D, dt=dt)


def from_dlti(system: Any, *, conj_sym: bool = True) -> DiagonalSSM:
    """Diagonal system of a `scipy.signal.dlti` in any of its forms; its sampling time is dropped.

    Parameters
    ----------
    system : scipy.signal.dlti
    conj_sym : bool, default True
        As in `from_state_space`.

    Returns
    -------
    DiagonalSSM

    Raises
    ------
    ArgumentError
        No `scipy.signal.dlti`.
    NotRepresentableError
        As in `from_state_space`, or a continuous-time system.

    Examples
    --------
    >>> from scipy.signal import dlti
    >>> from_dlti(dlti([1.0], [1.0, -0.5])).Lambda
    array([0.5+0.j])
    """
    if not hasattr(system, "to_ss"):
        raise ArgumentError(f"system is {described(system)}; a scipy.signal.dlti is needed")
    if system.dt is None:
        raise NotRepresentableError("a discrete-time system is needed (scipy.signal.dlti)")
    dense = system.to_ss()
    return from_state_space(StateSpace(dense.A, dense.B, dense.C, dense.D), conj_sym=conj_sym)


def to_control(ssm: DiagonalSSM, *, dt: float | bool = True) -> Any:
    """Dense `control.StateSpace` with the same transfer function; needs the extra ``ssmreduce[control]``.

    Parameters
    ----------
    ssm : DiagonalSSM
        One causal system.
    dt : float or True
        Sampling time; True for an unspecified one.

    Returns
    -------
    control.StateSpace

    Raises
    ------
    NotRepresentableError
        A batch of systems, or a bidirectional one.
    MissingDependencyError
        python-control is not installed.

    Examples
    --------
    >>> to_control(DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]])).A
    array([[0.5]])
    """
    dense = to_state_space(ssm)
    return optional_import("control", "control").ss(dense.A, dense.B, dense.C, dense.D, dt)


def from_control(system: Any, *, conj_sym: bool = True) -> DiagonalSSM:
    """Diagonal system of a discrete-time `control.StateSpace`; its sampling time is dropped.

    Parameters
    ----------
    system : control.StateSpace
    conj_sym : bool, default True
        As in `from_state_space`.

    Returns
    -------
    DiagonalSSM

    Raises
    ------
    ArgumentError
        No `control.StateSpace`.
    NotRepresentableError
        As in `from_state_space`, or a continuous-time system (``dt=0``).

    Examples
    --------
    >>> import control
    >>> from_control(control.ss([[0.5]], [[1.0]], [[1.0]], [[0.0]], True)).Lambda
    array([0.5+0.j])
    """
    if not hasattr(system, "isdtime") or not hasattr(system, "A"):
        raise ArgumentError(f"system is {described(system)}; a control.StateSpace is needed")
    if not system.isdtime(strict=True):
        raise NotRepresentableError(
            "a discrete-time system is needed (dt=True or a sampling time); discretise it first"
        )
    return from_state_space(StateSpace(system.A, system.B, system.C, system.D), conj_sym=conj_sym)
