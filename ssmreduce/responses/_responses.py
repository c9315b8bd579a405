"""Responses of a system: to an input sequence, to an impulse, to frequencies."""

from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import array_api_compat
import numpy as np

from .._support.arguments import positive_integer, real_number, whole_number
from .._support.arrays import Array, as_double, namespace, numbers_of, one_minus_abs
from ..engines import Layer, engine_for
from ..errors import ArrayKindError, NonFiniteError, ShapeError
from ..systems import DiagonalSSM
from ..systems._systems import require_diagonal

_READY: WeakKeyDictionary[DiagonalSSM, dict] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Chunk:
    """Output of one chunk of a sequence, and the states that carry over.

    Attributes
    ----------
    output : array, shape (..., L, width out)
    state : array, shape (..., batch, n), complex
        State of the causal half after the last sample.
    state_reverse : array or None
        State of the reverse half after it has reached the first sample; None for a causal system.
    """

    output: Array
    state: Array
    state_reverse: Array | None = None


def simulate(
    ssm: DiagonalSSM,
    u: Array,
    *,
    initial_state: Array | None = None,
    strict_reverse: bool = False,
    engine: str | None = None,
    threads: int | None = None,
) -> Array:
    r"""Output of the system for an input sequence.

    .. math:: x_k = \Lambda x_{k-1} + B u_k, \qquad y_k = \kappa\,\mathrm{Re}(C x_k) + D u_k

    and :math:`+\,\kappa\,\mathrm{Re}(C_r x^r_k)` with :math:`x^r_k = \Lambda x^r_{k+1} + B u_k` where the system is
    bidirectional. Any poles: the sequence is finite, so an unstable state gives a finite output.

    Parameters
    ----------
    ssm : DiagonalSSM
        A batch of systems acts as the block-diagonal system: S4D with H features of one input each takes the width H.
    u : array, shape (..., L, width), float32 or float64
        Width is the number of inputs times the number of systems in the batch; L >= 1. Its precision decides the
        arithmetic: float64 computes in double throughout, float32 rounds the parameters once.
    initial_state : array, shape (..., batch, n), complex, optional
        State before the first sample; 0 by default. (The reverse half starts from 0; see `simulate_chunk`.)
    strict_reverse : bool, default False
        The reverse half acts on later samples only, :math:`C_r x^r_{k+1}` instead of :math:`C_r x^r_k`: the
        bidirectional layer of S4, where S5's includes the sample itself.
    engine : {"numba", "torch", "jax", "cupy", "cupy-look-back", "reference"}, optional
        By default the one of the library of `u`: Numba for NumPy arrays, and the reference loop, in the namespace of
        `u`, for libraries without one. Those of PyTorch and JAX can be differentiated; ``"cupy"`` also takes their CUDA
        arrays. See :doc:`/theory/engines`.
    threads : int, optional
        Threads of the Numba engine; by default Numba's thread count. The result does not depend on it. Other engines
        leave threads to the library that they call.

    Returns
    -------
    array, shape (..., L, width out), dtype of `u`

    Raises
    ------
    ShapeError
        A sequence of length 0, or a width that does not fit.
    NonFiniteError
        NaN or infinite input (NumPy arrays).
    ArrayKindError
        Complex input, or an array of another library than the system's.
    UnknownNameError
        An engine that does not exist, or ``threads < 1``.

    Examples
    --------
    >>> import numpy as np
    >>> ssm = DiagonalSSM(Lambda=[0.5], B=[[1.0]], C=[[1.0]], D=[[0.0]])
    >>> simulate(ssm, np.array([[1.0], [0.0], [0.0]])).ravel()
    array([1.  , 0.5 , 0.25])
    """
    return simulate_chunk(
        ssm, u, state=initial_state, strict_reverse=strict_reverse, engine=engine, threads=threads
    ).output


def simulate_chunk(
    ssm: DiagonalSSM,
    u: Array,
    *,
    state: Array | None = None,
    state_reverse: Array | None = None,
    strict_reverse: bool = False,
    engine: str | None = None,
    threads: int | None = None,
) -> Chunk:
    """Output of one chunk of a long sequence, with the states that carry over to the next chunk.

    Parameters
    ----------
    ssm : DiagonalSSM
    u : array, shape (..., L, width), float32 or float64
        See `simulate`.
    state : array, shape (..., batch, n), complex, optional
        State of the causal half before the first sample: the ``state`` of the chunk before.
    state_reverse : array, shape (..., batch, n), complex, optional
        State of the reverse half after the last sample: the ``state_reverse`` of the chunk *after* this one.
    strict_reverse : bool, default False
        See `simulate`.
    engine : {"numba", "torch", "jax", "cupy", "cupy-look-back", "reference"}, optional
        See `simulate`.
    threads : int, optional
        See `simulate`.

    Returns
    -------
    Chunk

    Raises
    ------
    ShapeError
        A chunk of length 0, a width or state that does not fit, or `state_reverse` for a causal system.
    NonFiniteError
        NaN or infinite input (NumPy arrays).
    ArrayKindError
        Complex input, or an array of another library than the system's.
    UnknownNameError
        An engine that does not exist, or ``threads < 1``.

    Examples
    --------
    >>> import numpy as np
    >>> ssm = DiagonalSSM(Lambda=[0.5], B=[[1.0]], C=[[1.0]], D=[[0.0]])
    >>> first = simulate_chunk(ssm, np.array([[1.0], [0.0]]))
    >>> simulate_chunk(ssm, np.array([[0.0]]), state=first.state).output
    array([[0.25]])
    """
    u = _checked_input(ssm, u)
    for name, given in (("state_reverse", state_reverse is not None), ("strict_reverse", strict_reverse)):
        if given and not ssm.bidirectional:
            raise ShapeError(f"{name} was given for a causal system (it has no C_reverse)")
    xp = namespace(u)
    if threads is not None:
        positive_integer(threads, "threads")
    lead, length = tuple(u.shape[:-2]), int(u.shape[-2])
    first = _flat_state(ssm, u, state, "state")
    first_reverse = _flat_state(ssm, u, state_reverse, "state_reverse") if ssm.bidirectional else None
    layer = _prepared(ssm, u, engine_for(u, engine))
    y, last, last_reverse = layer.run(
        xp.reshape(u, (prod(lead), length, u.shape[-1])),
        first,
        first_reverse,
        strict=strict_reverse,
        threads=threads,
    )
    shape = (*lead, *ssm.batch, ssm.order)
    return Chunk(
        xp.reshape(y, (*lead, length, y.shape[-1])),
        xp.reshape(last, shape),
        None if last_reverse is None else xp.reshape(last_reverse, shape),
    )


def _prepared(ssm: DiagonalSSM, u: Array, engine: ModuleType) -> Any:
    """The layer made ready by the engine; kept as long as the system where nobody can write into its arrays."""
    if not isinstance(u, np.ndarray):
        return engine.prepare(_layer(ssm, u))
    ready = _READY.setdefault(ssm, {})
    key = (engine, u.dtype)
    if key not in ready:
        ready[key] = engine.prepare(_layer(ssm, u))
    return ready[key]


def _layer(ssm: DiagonalSSM, u: Array) -> Layer:
    """The arrays of a system in the precision of the input, its batch flattened to one axis, kappa in C."""
    xp = namespace(u)

    def flat(value: Array, dtype: object) -> Array:
        return xp.astype(xp.reshape(value, (ssm.systems, *value.shape[len(ssm.batch) :])), dtype)

    kind = _complex(u)
    reverse = None if ssm.C_reverse is None else flat(ssm.C_reverse * ssm.kappa, kind)
    return Layer(
        flat(ssm.Lambda, kind), flat(ssm.B, kind), flat(ssm.C * ssm.kappa, kind), reverse, flat(ssm.D, u.dtype)
    )


def _complex(u: Array) -> object:
    xp = namespace(u)
    return xp.complex64 if u.dtype == xp.float32 else xp.complex128


def _flat_state(ssm: DiagonalSSM, u: Array, value: Array | None, name: str) -> Array:
    """State as (rows, systems, n) in the precision of the input; zeros by default."""
    xp = namespace(u)
    lead = tuple(u.shape[:-2])
    shape = (prod(lead), ssm.systems, ssm.order)
    if value is None:
        return xp.zeros(shape, dtype=_complex(u), device=array_api_compat.device(u))
    namespace(u, value)  # arrays of one library, or lists
    known = array_api_compat.is_array_api_obj(value)
    if isinstance(u, np.ndarray):
        value = numbers_of(value, name)
    elif not known:
        value = xp.asarray(value, device=array_api_compat.device(u))
    if isinstance(value, np.ndarray) and not np.isfinite(value).all():
        raise NonFiniteError(f"{name} holds NaN or infinite values")
    if tuple(value.shape) != (*lead, *ssm.batch, ssm.order):
        raise ShapeError(f"{name} has shape {tuple(value.shape)}, expected {(*lead, *ssm.batch, ssm.order)}")
    return xp.reshape(xp.astype(value, _complex(u)), shape)


def _checked_input(ssm: DiagonalSSM, u: Array) -> Array:
    require_diagonal(ssm)
    xp = namespace(u, ssm.Lambda)
    if isinstance(ssm.Lambda, np.ndarray):
        u = numbers_of(u, "u")
        u = u if u.dtype in (np.float32, np.float64) else as_double(u, complex_=False, name="u")
    width = ssm.systems * ssm.inputs
    if u.ndim < 2 or u.shape[-2] < 1 or u.shape[-1] != width:
        raise ShapeError(f"u has shape {tuple(u.shape)}; expected (..., L, {width}) with L >= 1")
    if u.dtype not in (xp.float32, xp.float64):
        raise ArrayKindError(f"u has dtype {u.dtype}; expected float32 or float64")
    return u


def impulse_response(ssm: DiagonalSSM, length: int) -> Array:
    r"""Impulse response :math:`h_0 = D + \kappa\,\mathrm{Re}(CB)`, :math:`h_k = \kappa\,\mathrm{Re}(C\Lambda^k B)`.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed.
    length : int
        Number of lags, >= 1.

    Returns
    -------
    array, shape (..., length, p, m), float64
        Lags 0 ... length - 1. For a bidirectional system the lags -(length - 1) ... length - 1: shape
        (..., 2 length - 1, p, m), lag 0 (both halves and D) in the middle.

    Raises
    ------
    ShapeError
        ``length < 1``.

    Examples
    --------
    >>> impulse_response(DiagonalSSM([0.5], [[1.0]], [[1.0]], [[2.0]]), 3).ravel()
    array([3.  , 0.5 , 0.25])
    """
    require_diagonal(ssm)
    if not real_number(length, "length") >= 1:
        raise ShapeError(f"length must be at least 1, got {length}")
    length = whole_number(length, "length")
    xp = namespace(ssm.Lambda)
    powers = xp.ones_like(ssm.Lambda)[..., None, :]
    while powers.shape[-2] < length:
        step = (powers[..., -1, :] * ssm.Lambda)[..., None, :]
        powers = xp.concat([powers, powers * step], axis=-2)
    powers = powers[..., :length, None, :]

    def half(C: Array) -> Array:
        return ssm.kappa * xp.real(xp.matmul(C[..., None, :, :] * powers, ssm.B[..., None, :, :]))

    causal = half(ssm.C)
    lag0 = causal[..., :1, :, :] + ssm.D[..., None, :, :]
    if ssm.C_reverse is None:
        return xp.concat([lag0, causal[..., 1:, :, :]], axis=-3)
    reverse = half(ssm.C_reverse)
    lag0 = lag0 + reverse[..., :1, :, :]
    return xp.concat([xp.flip(reverse[..., 1:, :, :], axis=-3), lag0, causal[..., 1:, :, :]], axis=-3)


def frequency_response(ssm: DiagonalSSM, omega: Array) -> Array:
    r"""Transfer function on the unit circle, :math:`G(e^{j\omega})`, of the real system.

    .. math::

        G(z) = D + \tfrac{\kappa}{2}\left[C (I - \Lambda z^{-1})^{-1} B
               + \bar C (I - \bar\Lambda z^{-1})^{-1} \bar B\right]

    and for a bidirectional system the same with :math:`C_r` and :math:`z` in place of :math:`z^{-1}`.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed.
    omega : array_like, shape (w,), float64
        Frequencies in rad/sample.

    Returns
    -------
    array, shape (..., w, p, m), complex128
        ``inf`` or NaN exactly on a pole of modulus 1.

    Notes
    -----
    Distances to the poles are formed from the accurate :math:`1 - |\lambda|` and from differences of angles: the height
    of a resonance of width 1e-12 is right, its flanks are as exact as a rounded angle of the pole allows. For an
    unstable system this is still the value of the rational function, though no convergent response belongs to it.

    Examples
    --------
    >>> frequency_response(DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]]), [0.0]).ravel()
    array([2.+0.j])
    """
    require_diagonal(ssm)
    xp = namespace(ssm.Lambda)
    if not array_api_compat.is_array_api_obj(omega):
        omega = xp.asarray(omega, device=array_api_compat.device(ssm.Lambda))
    omega = as_double(omega, complex_=False, name="omega")
    if omega.ndim != 1:
        raise ShapeError(f"omega must have one axis, got shape {tuple(omega.shape)}")
    gap = one_minus_abs(ssm.Lambda)[..., None, :]
    radius = xp.abs(ssm.Lambda)[..., None, :]
    theta = xp.atan2(xp.imag(ssm.Lambda), xp.real(ssm.Lambda))[..., None, :]
    omega = omega[:, None]

    def weighted(C: Array, B: Array, phase: Array) -> Array:
        """Sum of c_i b_i / (1 - r e^{-j phase})."""
        distance = gap + radius * (2.0 * xp.sin(phase / 2.0) ** 2 + 1j * xp.sin(phase))
        return xp.matmul(C[..., None, :, :] / distance[..., None, :], B[..., None, :, :])

    def real_system(C: Array, sign: float) -> Array:
        one = weighted(C, ssm.B, sign * omega - theta)
        return one + weighted(xp.conj(C), xp.conj(ssm.B), sign * omega + theta)

    total = real_system(ssm.C, 1.0)
    if ssm.C_reverse is not None:
        total = total + real_system(ssm.C_reverse, -1.0)
    return ssm.kappa / 2.0 * total + ssm.D[..., None, :, :]
