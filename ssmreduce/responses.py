"""Responses of a system: to an input sequence, to an impulse, to frequencies."""

from dataclasses import dataclass

import numpy as np

from ._arrays import Array, as_double, namespace, one_minus_abs
from .errors import ArrayKindError, NonFiniteError, ShapeError
from .kernels import engine_for
from .systems import DiagonalSSM

_BLOCK_BYTES = 2**25  # states of one block of sequences: stays near the caches, bounds the memory of long batches


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


def simulate(ssm: DiagonalSSM, u: Array, *, initial_state: Array | None = None, engine: str | None = None) -> Array:
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
    engine : {"numba", "reference"}, optional
        By default Numba for NumPy arrays, and the reference loop, in the namespace of `u`, for others.

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

    Examples
    --------
    >>> import numpy as np
    >>> ssm = DiagonalSSM(Lambda=[0.5], B=[[1.0]], C=[[1.0]], D=[[0.0]])
    >>> simulate(ssm, np.array([[1.0], [0.0], [0.0]])).ravel()
    array([1.  , 0.5 , 0.25])
    """
    return simulate_chunk(ssm, u, state=initial_state, engine=engine).output


def simulate_chunk(
    ssm: DiagonalSSM,
    u: Array,
    *,
    state: Array | None = None,
    state_reverse: Array | None = None,
    engine: str | None = None,
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
    engine : {"numba", "reference"}, optional

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

    Examples
    --------
    >>> import numpy as np
    >>> ssm = DiagonalSSM(Lambda=[0.5], B=[[1.0]], C=[[1.0]], D=[[0.0]])
    >>> first = simulate_chunk(ssm, np.array([[1.0], [0.0]]))
    >>> simulate_chunk(ssm, np.array([[0.0]]), state=first.state).output
    array([[0.25]])
    """
    u = _checked_input(ssm, u)
    if state_reverse is not None and not ssm.bidirectional:
        raise ShapeError("state_reverse was given for a causal system (it has no C_reverse)")
    xp = namespace(u)
    lead, length = tuple(u.shape[:-2]), int(u.shape[-2])
    systems = _Flat(ssm, u)
    rows = _product(lead)
    first = systems.state(state, lead, "state")
    first_reverse = systems.state(state_reverse, lead, "state_reverse") if ssm.bidirectional else None
    u = xp.permute_dims(xp.reshape(u, (rows, length, systems.count, ssm.inputs)), (2, 0, 1, 3))
    scan = engine_for(u, engine).scan
    itemsize = 8 if u.dtype == xp.float32 else 16
    block = max(1, _BLOCK_BYTES // max(1, systems.count * length * ssm.order * itemsize))
    parts = [
        systems.run(scan, *(_slice(value, i, block) for value in (u, first, first_reverse)))
        for i in range(0, max(1, rows), block)
    ]
    y, last, last_reverse = (None if p[0] is None else xp.concat(list(p), axis=1) for p in zip(*parts, strict=True))
    output = xp.reshape(xp.permute_dims(y, (1, 2, 0, 3)), (*lead, length, systems.count * ssm.outputs))
    shape = (*lead, *ssm.batch, ssm.order)

    def unflatten(x: Array) -> Array:
        return xp.reshape(xp.permute_dims(x, (1, 0, 2)), shape)

    return Chunk(output, unflatten(last), None if last_reverse is None else unflatten(last_reverse))


class _Flat:
    """The arrays of a system in the precision of the input, its batch flattened to one axis."""

    def __init__(self, ssm: DiagonalSSM, u: Array) -> None:
        xp = self.xp = namespace(u)
        self.count = _product(ssm.batch)
        self.order, self.batch = ssm.order, ssm.batch
        self.real = u.dtype
        self.complex = xp.complex64 if u.dtype == xp.float32 else xp.complex128

        def flat(value: Array, dtype: object) -> Array:
            return xp.astype(xp.reshape(value, (self.count, *value.shape[len(ssm.batch) :])), dtype)

        def transposed(value: Array) -> Array:
            return xp.matrix_transpose(flat(value, self.complex))[:, None, ...]

        self.Lambda = flat(ssm.Lambda, self.complex)
        self.B = _paired(transposed(ssm.B), axis=-1)
        self.C = _observer(transposed(ssm.C * ssm.kappa))
        self.C_reverse = None if ssm.C_reverse is None else _observer(transposed(ssm.C_reverse * ssm.kappa))
        self.D = xp.matrix_transpose(flat(ssm.D, self.real))[:, None, ...]

    def state(self, value: Array | None, lead: tuple[int, ...], name: str) -> Array:
        xp = self.xp
        shape = (_product(lead), self.count, self.order)
        if value is None:
            return xp.zeros((self.count, shape[0], self.order), dtype=self.complex)
        value = xp.asarray(value)
        if isinstance(value, np.ndarray) and not np.isfinite(value).all():
            raise NonFiniteError(f"{name} holds NaN or infinite values")
        if tuple(value.shape) != (*lead, *self.batch, self.order):
            raise ShapeError(f"{name} has shape {tuple(value.shape)}, expected {(*lead, *self.batch, self.order)}")
        return xp.permute_dims(xp.reshape(xp.astype(value, self.complex), shape), (1, 0, 2))

    def run(self, scan, u: Array, first: Array, first_reverse: Array | None) -> tuple:
        xp = self.xp
        states = scan(self.Lambda, self._driven(u), first, reverse=False)
        y = self._observed(self.C, states) + xp.matmul(u, self.D)
        last = xp.asarray(states[:, :, -1, :], copy=True)
        if self.C_reverse is None:
            return y, last, None
        states = scan(self.Lambda, self._driven(u), first_reverse, reverse=True)
        return y + self._observed(self.C_reverse, states), last, xp.asarray(states[:, :, 0, :], copy=True)

    def _driven(self, u: Array) -> Array:
        """B u as complex states: one real product with the real and imaginary parts side by side."""
        product = self.xp.matmul(u, self.B)
        if isinstance(product, np.ndarray):
            return product.view(self.complex)
        pairs = self.xp.reshape(product, (*product.shape[:-1], self.order, 2))
        return pairs[..., 0] + 1j * pairs[..., 1]

    def _observed(self, C: Array, states: Array) -> Array:
        """Re(C x), likewise."""
        if isinstance(states, np.ndarray):
            return np.matmul(states.view(self.real), C)
        pairs = self.xp.stack([self.xp.real(states), self.xp.imag(states)], axis=-1)
        return self.xp.matmul(self.xp.reshape(pairs, (*states.shape[:-1], 2 * self.order)), C)


def _paired(matrix: Array, axis: int) -> Array:
    """Real matrix with the real and imaginary part of each entry side by side along the axis."""
    xp = namespace(matrix)
    shape = list(matrix.shape)
    shape[axis] *= 2
    pairs = xp.stack([xp.real(matrix), xp.imag(matrix)], axis=axis)
    return xp.reshape(pairs, tuple(shape))


def _observer(C: Array) -> Array:
    """Transposed C (..., n, p) such that the interleaved states times it are Re(C x)."""
    return _paired(namespace(C).conj(C), axis=-2)


def _checked_input(ssm: DiagonalSSM, u: Array) -> Array:
    xp = namespace(u, ssm.Lambda)
    if xp is namespace(np.empty(0)):
        u = np.asarray(u)
        u = u if u.dtype == np.float32 else as_double(u, complex_=False, name="u")
        if not np.isfinite(u).all():
            raise NonFiniteError("u holds NaN or infinite values")
    width = _product(ssm.batch) * ssm.inputs
    if u.ndim < 2 or u.shape[-2] < 1 or u.shape[-1] != width:
        raise ShapeError(f"u has shape {tuple(u.shape)}; expected (..., L, {width}) with L >= 1")
    if u.dtype not in (xp.float32, xp.float64):
        raise ArrayKindError(f"u has dtype {u.dtype}; expected float32 or float64")
    return u


def _product(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _slice(value: Array | None, start: int, count: int) -> Array | None:
    return None if value is None else value[:, start : min(start + count, value.shape[1]), ...]


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
    if length < 1:
        raise ShapeError(f"length must be at least 1, got {length}")
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
    xp = namespace(ssm.Lambda)
    omega = as_double(xp.asarray(omega), complex_=False, name="omega")
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
