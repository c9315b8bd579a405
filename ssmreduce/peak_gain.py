"""Certified peak gain and H-infinity norm of whole layers; the theory page "Peak gain" proves the bracket."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ._arrays import Array, one_minus_abs2, to_numpy
from .conversions import to_state_space
from .errors import NonFiniteError, UnknownNameError
from .gramians import require_causal, require_stable
from .level_set import level_set_peak_gain
from .systems import DiagonalSSM, StateSpace, on_host

METHODS = ("auto", "exclusion", "level-set")
_NOTHING = -(2**20)  # exponent of a matrix of zeros
_WIDE = 32  # inputs and outputs from which a few samples cost as much as the level-set method


@dataclass(frozen=True, eq=False)
class PeakGain:
    """A proven bracket of the peak gain; arrays of the shape of the batch for a batch of systems.

    Attributes
    ----------
    gain : float
        Gain reached at `omega`: the peak gain, up to ``upper / gain - 1`` at most. A proven lower bound.
    omega : float
        Where it is reached, rad/sample in [0, pi].
    upper : float
        Proven upper bound.
    samples : int
        Frequency samples taken.
    method : str
        ``"exclusion"``; or ``"level-set"``, whose `upper` holds up to the rounding of an eigenvalue solver, unproven.
    """

    gain: Any
    omega: Any
    upper: Any
    samples: Any
    method: str = "exclusion"


def peak_gain(
    ssm: DiagonalSSM | StateSpace,
    *,
    rtol: float = 1e-6,
    method: str = "auto",
    max_samples: int | None = None,
    threads: int | None = None,
) -> PeakGain:
    r"""Peak gain on the unit circle, bracketed: :math:`gain \le \max_\omega \sigma_{max}(G(e^{j\omega})) \le upper`.

    For a causal system this is its H-infinity norm; for a bidirectional system, which is not causal, the L-infinity
    norm of the transfer function of both halves, as `frequency_response` gives it.

    Parameters
    ----------
    ssm : DiagonalSSM or StateSpace
        Stable. Any number of inputs and outputs; each system of a batch has its own peak gain (the gain of the layer
        that they form together is the largest). Arrays of a device are taken to the host.
    rtol : float, default 1e-6
        ``upper / gain - 1`` to stop at; tight values cost little. Where rounding of the frequency response does not
        allow it, the bracket is wider and says so.
    method : {"auto", "exclusion", "level-set"}, default "auto"
        ``"exclusion"`` proves its bracket. ``"level-set"`` is for single causal systems, and the method for a
        `StateSpace`. ``"auto"`` takes the exclusion, and turns to level sets where the order is below the number of
        inputs and outputs and the first samples have not closed the bracket.
    max_samples : int, optional
        Budget of frequency samples a system; when it is used up the bracket is returned as it is, which is still
        proven. Default 100 a state and 20,000 more.
    threads : int, optional
        Threads over the systems of a batch.

    Returns
    -------
    PeakGain

    Raises
    ------
    UnstableSystemError
        Poles on or outside the unit circle; the message names the states.
    NotCausalError
        Level sets of a bidirectional system.
    UnknownNameError
        Another `method`; `rtol` or `max_samples` that is not positive; level sets of a batch.

    Notes
    -----
    Every sample :math:`\sigma_k` at :math:`\omega_k` excludes a peak of height :math:`g` from the arc on which the
    phase :math:`\Phi` of the Blaschke product of all poles differs from :math:`\Phi(\omega_k)` by less than
    :math:`2 \arccos(\sigma_k / g)`; rounding of phases and samples is subtracted from the arcs. About two samples a
    stored state are needed, each O(n m p) and the largest singular value of a p x m matrix. The value returned is
    computed in twice the working precision. Host arrays; compiled on first use.

    Examples
    --------
    >>> peak = peak_gain(DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]]))
    >>> round(peak.gain, 12), round(peak.omega, 12)
    (2.0, 0.0)
    """
    if not rtol > 0 or (max_samples is not None and max_samples < 1):
        raise UnknownNameError(f"rtol and max_samples must be positive, got {rtol} and {max_samples}")
    if method not in METHODS:
        raise UnknownNameError(f"there is no method {method!r}; choose from {', '.join(METHODS)}")
    if isinstance(ssm, StateSpace):
        if method == "exclusion":
            raise UnknownNameError("phase exclusion needs a DiagonalSSM; a StateSpace takes level sets")
        return PeakGain(*level_set_peak_gain(ssm, rtol), method="level-set")
    require_stable(ssm, "the peak gain")
    if method == "level-set":
        return _by_level_sets(ssm, rtol)
    narrow = ssm.bidirectional or ssm.batch or min(ssm.inputs, ssm.outputs) < max(_WIDE, 2 * ssm.order)
    if method == "auto" and not narrow and max_samples is None:
        first = _by_exclusion(ssm, rtol, _worthwhile_samples(ssm), threads)
        if first.upper <= first.gain * (1.0 + rtol):
            return first
        return _tighter(first, _by_level_sets(ssm, rtol, (first.gain, first.omega)))
    return _by_exclusion(ssm, rtol, 20_000 + 100 * ssm.order if max_samples is None else int(max_samples), threads)


def _tighter(first: PeakGain, second: PeakGain) -> PeakGain:
    samples = first.samples + second.samples
    best = second if second.upper / second.gain < first.upper / first.gain else first
    return replace(best, samples=samples)


def _worthwhile_samples(ssm: DiagonalSSM) -> int:
    """Samples after which a level set, an eigenvalue problem of four times the order, is the cheaper way on."""
    n, width = ssm.order, min(ssm.inputs, ssm.outputs)
    return 4 + 2 * n + int(130 * (2.0 * n / width) ** 3)


def _by_level_sets(ssm: DiagonalSSM, rtol: float, start: tuple[float, float] | None = None) -> PeakGain:
    require_causal(ssm, "the level-set method")
    if ssm.batch:
        raise UnknownNameError(f"level sets take one system, not {ssm!r}")
    return PeakGain(*level_set_peak_gain(to_state_space(ssm), rtol, start), method="level-set")


def _by_exclusion(ssm: DiagonalSSM, rtol: float, budget: int, threads: int | None) -> PeakGain:
    from .kernels import _peak, _threads

    ssm, exponent = _scaled(ssm)
    arrays = _Arrays(ssm)
    found = np.empty((arrays.count, 4))

    def part(start: int, stop: int) -> None:
        _peak.peak_gains(arrays.all, *arrays.anchors(), 1 + ssm.bidirectional, float(rtol), budget, start, stop, found)

    _threads.for_each_part(part, arrays.count, threads)
    gain, omega, upper, samples = found.T
    upper = np.maximum(gain, np.minimum(upper, arrays.triangle))
    with np.errstate(over="ignore"):
        gain, upper = (np.ldexp(value, exponent.ravel()) for value in (gain, upper))
    if not np.isfinite(upper).all():
        raise NonFiniteError("the peak gain is beyond the range of double precision; scale C and D down")
    if not ssm.batch:
        return PeakGain(float(gain[0]), float(omega[0]), float(upper[0]), int(samples[0]))
    gain, omega, upper, samples = (a.reshape(ssm.batch) for a in (gain, omega, upper, samples))
    return PeakGain(gain, omega, upper, samples.astype(np.int64))


def hinf_norm(ssm: DiagonalSSM | StateSpace, *, rtol: float = 1e-6, threads: int | None = None) -> Array:
    r"""H-infinity norm of a stable causal system: the largest gain from input to output energy.

    .. math:: \|G\|_\infty = \max_\omega \sigma_{max}(G(e^{j\omega})) = \max_u \|y\|_2 / \|u\|_2

    Parameters
    ----------
    ssm : DiagonalSSM or StateSpace
        Causal and stable. Arrays of a device are taken to the host.
    rtol : float, default 1e-6
        Relative accuracy; see `peak_gain`, which also returns the bracket.
    threads : int, optional
        Threads over the systems of a batch.

    Returns
    -------
    float
        For a batch an array of its shape, one norm a system.

    Raises
    ------
    UnstableSystemError
        Poles on or outside the unit circle; the message names the states.
    NotCausalError
        A bidirectional system; see `peak_gain`.

    Examples
    --------
    >>> round(hinf_norm(DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]])), 12)
    2.0
    """
    if isinstance(ssm, DiagonalSSM):
        require_causal(ssm, "the H-infinity norm")
    return peak_gain(ssm, rtol=rtol, threads=threads).gain


def _scaled(ssm: DiagonalSSM) -> tuple[DiagonalSSM, np.ndarray]:
    """The system with B, C and D near 1, and the power of two by which its gains are to be multiplied."""
    ssm = on_host(ssm)
    halves = [ssm.C] if ssm.C_reverse is None else [ssm.C, ssm.C_reverse]
    b, d = _exponent(ssm.B), _exponent(ssm.D)
    c = np.maximum.reduce([_exponent(C) for C in halves])
    exponent = np.maximum(b + c, d)
    exponent = np.where(exponent < _NOTHING // 2, 0, exponent)
    b = np.where(b == _NOTHING, 0, b)
    reverse = None if ssm.C_reverse is None else _ldexp(ssm.C_reverse, b - exponent)
    scaled = replace(ssm, B=_ldexp(ssm.B, -b), C=_ldexp(ssm.C, b - exponent), D=_ldexp(ssm.D, -exponent))
    return replace(scaled, C_reverse=reverse), exponent


def _exponent(matrix: np.ndarray) -> np.ndarray:
    """Binary exponent of the largest entry of each system's matrix."""
    size = np.maximum(np.abs(matrix.real), np.abs(matrix.imag)).max(axis=(-2, -1), initial=0.0)
    return np.where(size > 0, np.frexp(size)[1], _NOTHING)


def _ldexp(matrix: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    shift = exponent[..., None, None]
    if matrix.dtype.kind != "c":
        return np.ldexp(matrix, shift)
    return np.ldexp(matrix.real, shift) + 1j * np.ldexp(matrix.imag, shift)


class _Arrays:
    """The contiguous host arrays, batch axes flattened, that the compiled search takes."""

    def __init__(self, ssm: DiagonalSSM) -> None:
        n, m, p = ssm.order, ssm.inputs, ssm.outputs
        self.count = count = int(np.prod(ssm.batch, dtype=np.int64))

        def flat(value: Array, *shape: int) -> np.ndarray:
            return np.array(to_numpy(value), order="C").reshape(count, *shape)

        self.poles, B, D = flat(ssm.Lambda, n), flat(ssm.B, n, m), flat(ssm.D, p, m)
        C = ssm.kappa / 2.0 * flat(ssm.C, p, n)
        reverse = np.zeros_like(C) if ssm.C_reverse is None else ssm.kappa / 2.0 * flat(ssm.C_reverse, p, n)
        norms = np.linalg.norm(C, axis=-2) + np.linalg.norm(reverse, axis=-2)
        self.weights = np.linalg.norm(B, axis=-1) * norms
        gaps = one_minus_abs2(self.poles)
        scale = np.linalg.norm(D, axis=(-2, -1))
        triangle = scale + 2.0 * np.sum(self.weights * (1.0 + np.abs(self.poles)) / gaps, axis=-1)
        self.triangle = triangle * (1.0 + 2.0**-50 * (n + m * p + 8))  # its own rounding
        self.distinct = self._distinct_poles()
        counts = np.where(self.distinct, np.where(self.poles.imag == 0.0, 1, 2), 0)
        E, F = (np.concatenate([x.real, x.imag], axis=-1) for x in (C + reverse, C - reverse))
        transposed = [np.ascontiguousarray(np.swapaxes(x, -1, -2)) for x in (C, reverse)]
        if ssm.C_reverse is None:
            transposed[1] = np.zeros((self.count, 0, p), dtype=np.complex128)
        self.all = (self.poles, gaps, counts, self.weights, B, E, F, D, scale, *transposed)

    def _distinct_poles(self) -> np.ndarray:
        """One state of each distinct pole pair that the transfer function has; equal poles add no phase."""
        real, imag = self.poles.real, np.abs(self.poles.imag)
        live = (self.weights > 0.0) & (self.poles != 0.0)
        real = np.where(live, real, 2.0)
        order = np.lexsort((imag, real), axis=-1)
        real, imag = (np.take_along_axis(a, order, axis=-1) for a in (real, imag))
        same = (real[:, 1:] == real[:, :-1]) & (imag[:, 1:] == imag[:, :-1])
        first = np.concatenate([np.ones((self.count, min(1, real.shape[1])), dtype=bool), ~same], axis=-1)
        distinct = np.empty_like(first)
        np.put_along_axis(distinct, order, first & (real < 2.0), axis=-1)
        return distinct

    def anchors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Poles folded into the upper half plane in the order of their angles, the angles, and how many there are."""
        folded = self.poles.real + 1j * np.abs(self.poles.imag)
        # a pole too small to be normalised stands for no direction worth a sample
        wanted = self.distinct & (folded.imag != 0.0) & (np.abs(folded) > 1e-100)
        angles = np.where(wanted, np.arctan2(folded.imag, folded.real), np.inf)
        order = np.argsort(angles, axis=-1)
        folded, angles = (np.take_along_axis(a, order, axis=-1) for a in (folded, angles))
        return folded, angles, np.sum(wanted, axis=-1)
