"""The two system types: shapes and invariants, no analysis."""

import math
import warnings
from dataclasses import dataclass

import numpy as np

from .._support.arguments import require_kind
from .._support.arrays import Array, as_double, namespace, numbers_of, one_minus_abs, to_numpy
from ..errors import PrecisionWarning, ShapeError

SYSTEM_ADVICE = "a DiagonalSSM is needed: model[layer] of a model, from_state_space(...) of a dense system"
_SINGLE_GAP = 6e-6  # rounding lambda to single precision changes a smaller 1 - |lambda| by more than 1 %


@dataclass(frozen=True, eq=False)
class DiagonalSSM:
    r"""Discrete diagonal LTI system in the scan form of S5, LRU and LAST.

    .. math::

        x_k = \Lambda x_{k-1} + B u_k, \qquad y_k = \kappa\,\mathrm{Re}(C x_k) + D u_k

    with :math:`\kappa = 2` where one state of each conjugate pair is stored (`conj_sym`), else 1. The input
    :math:`u_k` acts on :math:`x_k`; the textbook form is :math:`(\Lambda, B, C\Lambda, D + \kappa\,\mathrm{Re}(CB))`.
    With `C_reverse` the same inputs also run backwards in time,
    :math:`x^r_k = \Lambda x^r_{k+1} + B u_k`, and :math:`\kappa\,\mathrm{Re}(C_r x^r_k)` is added to :math:`y_k`
    (a bidirectional layer, which is not causal).

    Parameters
    ----------
    Lambda : array, shape (..., n), complex128
        Poles. Leading axes are independent systems of equal order (S4D: one a feature).
    B : array, shape (..., n, m), complex128
        Input matrix.
    C : array, shape (..., p, n), complex128
        Output matrix of the causal half.
    D : array, shape (..., p, m), float64
        Feedthrough.
    C_reverse : array, shape (..., p, n), complex128, optional
        Output matrix of the reverse half of a bidirectional layer.
    conj_sym : bool, default False
        One state of each conjugate pair is stored, and the output is doubled.

    Raises
    ------
    ArgumentError
        A `conj_sym` that is neither True nor False.
    ShapeError
        Shapes that do not fit.
    NonFiniteError
        NaN or infinite entries (checked for NumPy arrays).
    ArrayKindError
        A complex D, text or objects for numbers, masked entries, or arrays of two libraries.

    Warns
    -----
    PrecisionWarning
        Poles given in single precision so close to the unit circle that :math:`1 - |\lambda|` has lost its meaning
        (NumPy arrays).

    Notes
    -----
    Arrays of any namespace known to array-api-compat are kept in it, in double precision. NumPy inputs are copied and
    made read-only (one that owns its memory and is read-only already is shared).

    Examples
    --------
    >>> ssm = DiagonalSSM(Lambda=[0.5, 0.9j], B=[[1.0], [2.0]], C=[[1.0, -1.0j]], D=[[0.0]])
    >>> ssm.order, ssm.inputs, ssm.outputs, ssm.batch
    (2, 1, 1, ())
    """

    Lambda: Array
    B: Array
    C: Array
    D: Array
    C_reverse: Array | None = None
    conj_sym: bool = False

    def __post_init__(self) -> None:
        single = isinstance(self.Lambda, np.ndarray) and self.Lambda.dtype in (np.complex64, np.float32)
        for name in ("Lambda", "B", "C", "D", "C_reverse"):
            value = getattr(self, name)
            if value is not None or name != "C_reverse":
                object.__setattr__(self, name, as_double(value, complex_=name != "D", name=name))
        require_kind(self.conj_sym, (bool, np.bool_), "conj_sym", "True or False is needed")
        self._check_shapes()
        if single:
            self._warn_of_single_precision()

    def _warn_of_single_precision(self) -> None:
        gap = one_minus_abs(self.Lambda)
        close = np.flatnonzero(np.abs(gap) < _SINGLE_GAP)
        if close.size:
            warnings.warn(
                f"Lambda came in single precision, in which 1 - |lambda| of {close.size} state(s), the first being "
                f"state {close[0]} with {gap.ravel()[close[0]]:.3g}, is off by more than 1 %; compute Lambda in double "
                "precision from the model's own parameters",
                PrecisionWarning,
                stacklevel=4,
            )

    def _check_shapes(self) -> None:
        namespace(*(a for a in (self.Lambda, self.B, self.C, self.D, self.C_reverse) if a is not None))
        if self.Lambda.ndim < 1 or self.D.ndim < 2:
            raise ShapeError(
                f"Lambda needs shape (..., n) and D (..., p, m), got {tuple(self.Lambda.shape)} and "
                f"{tuple(self.D.shape)}"
            )
        batch, n, (p, m) = self.batch, self.order, self.D.shape[-2:]
        expected = {"B": (*batch, n, m), "C": (*batch, p, n), "D": (*batch, p, m)}
        if self.C_reverse is not None:
            expected["C_reverse"] = (*batch, p, n)
        for name, shape in expected.items():
            given = tuple(getattr(self, name).shape)
            if given != shape:
                raise ShapeError(
                    f"{name} has shape {given}; with Lambda {tuple(self.Lambda.shape)} and D "
                    f"{tuple(self.D.shape)} it must be {shape}"
                )

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the leading axes: independent systems."""
        return tuple(self.Lambda.shape[:-1])

    @property
    def systems(self) -> int:
        """Number of systems: 1 without leading axes."""
        return math.prod(self.batch)

    @property
    def order(self) -> int:
        """Number of stored states n of each system."""
        return int(self.Lambda.shape[-1])

    @property
    def inputs(self) -> int:
        """Number of inputs m of each system."""
        return int(self.D.shape[-1])

    @property
    def outputs(self) -> int:
        """Number of outputs p of each system."""
        return int(self.D.shape[-2])

    @property
    def bidirectional(self) -> bool:
        """Whether the system has a reverse half."""
        return self.C_reverse is not None

    @property
    def kappa(self) -> float:
        """Factor of the output: 2 for one stored state a conjugate pair, else 1."""
        return 2.0 if self.conj_sym else 1.0

    def __repr__(self) -> str:
        batch = f"batch={self.batch}, " if self.batch else ""
        kind = "bidirectional" if self.bidirectional else "causal"
        return (
            f"DiagonalSSM({batch}order={self.order}, inputs={self.inputs}, outputs={self.outputs}, "
            f"conj_sym={self.conj_sym}, {kind})"
        )


@dataclass(frozen=True, eq=False)
class StateSpace:
    r"""Dense real discrete LTI system in textbook form.

    .. math:: x_{k+1} = A x_k + B u_k, \qquad y_k = C x_k + D u_k

    Parameters
    ----------
    A : array_like, shape (n, n), float64
    B : array_like, shape (n, m), float64
    C : array_like, shape (p, n), float64
    D : array_like, shape (p, m), float64

    Raises
    ------
    ShapeError
        Shapes that do not fit.
    NonFiniteError
        NaN or infinite entries.

    Examples
    --------
    >>> StateSpace(A=[[0.5]], B=[[1.0]], C=[[1.0]], D=[[0.0]]).A
    array([[0.5]])
    """

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray

    def __post_init__(self) -> None:
        for name in ("A", "B", "C", "D"):
            object.__setattr__(self, name, as_double(numbers_of(getattr(self, name), name), complex_=False, name=name))
        shapes = {name: getattr(self, name).shape for name in ("A", "B", "C", "D")}
        fits = all(len(shape) == 2 for shape in shapes.values())
        if fits:
            n, (p, m) = shapes["A"][0], shapes["D"]
            fits = shapes == {"A": (n, n), "B": (n, m), "C": (p, n), "D": (p, m)}
        if not fits:
            raise ShapeError(f"A (n, n), B (n, m), C (p, n) and D (p, m) are needed, got {shapes}")


def require_diagonal(ssm: DiagonalSSM, name: str = "ssm") -> None:
    """Raise `ArgumentError` unless a diagonal system is given."""
    require_kind(ssm, DiagonalSSM, name, SYSTEM_ADVICE)


def on_host(ssm: DiagonalSSM) -> DiagonalSSM:
    """The system with NumPy arrays, for what needs LAPACK or compiled loops."""
    Lambda, B, C, D = (to_numpy(array) for array in (ssm.Lambda, ssm.B, ssm.C, ssm.D))
    reverse = None if ssm.C_reverse is None else to_numpy(ssm.C_reverse)
    return DiagonalSSM(Lambda, B, C, D, reverse, ssm.conj_sym)


def conjugate_closed(ssm: DiagonalSSM) -> DiagonalSSM:
    r"""The same real system with every state and its conjugate stored.

    .. math:: \kappa\,\mathrm{Re}(C x) = \tfrac{\kappa}{2}\,[C, \bar C] \begin{bmatrix} x \\ \bar x \end{bmatrix}

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed.

    Returns
    -------
    DiagonalSSM
        Order 2 n, ``conj_sym=False``, outputs real without taking a real part.

    Examples
    --------
    >>> conjugate_closed(DiagonalSSM([0.5j], [[1.0]], [[2j]], [[0.0]], conj_sym=True)).Lambda
    array([0.+0.5j, 0.-0.5j])
    """
    require_diagonal(ssm)
    xp = namespace(ssm.Lambda)

    def columns(C: Array) -> Array:
        return ssm.kappa / 2.0 * xp.concat([C, xp.conj(C)], axis=-1)

    return DiagonalSSM(
        xp.concat([ssm.Lambda, xp.conj(ssm.Lambda)], axis=-1),
        xp.concat([ssm.B, xp.conj(ssm.B)], axis=-2),
        columns(ssm.C),
        ssm.D,
        None if ssm.C_reverse is None else columns(ssm.C_reverse),
    )


def unstable_states(ssm: DiagonalSSM) -> np.ndarray:
    r"""Flat indices of the states with a pole on or outside the unit circle.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed. Arrays of a device are taken to the host.

    Returns
    -------
    ndarray, shape (k,), int64
        Indices into ``Lambda`` flattened in row-major order, increasing.

    Examples
    --------
    >>> unstable_states(DiagonalSSM([0.5, 1.001j], [[1], [1]], [[1, 1]], [[0]]))
    array([1])
    """
    require_diagonal(ssm)
    return np.flatnonzero(to_numpy(one_minus_abs(ssm.Lambda)) <= 0)
