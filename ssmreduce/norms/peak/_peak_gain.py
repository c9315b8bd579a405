"""Certified peak gain and H-infinity norm of whole layers; the theory page "Peak gain" proves the bracket."""

import math

from ..._support.arguments import real_number, whole_number
from ..._support.arrays import Array, one_minus_abs, to_numpy
from ...errors import OptionError, ShapeError, UnknownNameError
from ...systems import DiagonalSSM, StateSpace, to_state_space
from ...systems._guards import require_causal, require_stable
from ._bracket import PeakGain
from ._exclusion import exclusion_budget, exclusion_peak_gain
from ._level_set import level_set_peak_gain
from ._wide import proven_gain_at, wide_peak_gain

METHODS = ("auto", "exclusion", "level-set")
_WIDE = 32  # inputs and outputs from which many samples cost more than the level-set method
_SLOWEST = 1e-6  # 1 - abs(pole) below which rounding spoils the eigenvalues and samples of level sets
_WORTH_TURNING = 48  # and from which small systems that stand for the whole one are worth their making


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
        `StateSpace`. ``"auto"`` takes the exclusion, for wide systems of low order on smaller systems that stand for
        them at a level; it turns to level sets where there are at least as many inputs and outputs as real states, no
        pole is so close to the circle that rounding spoils them (1e-6), and the samples that cost as much have not
        closed the bracket. The gain is proven with any of them; the upper bound of level sets is not.
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
        Another `method`.
    OptionError
        An `rtol` or `max_samples` that is not positive, or infinite.
    ShapeError
        Level sets of a batch.

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
    samples = None if max_samples is None else whole_number(max_samples, "max_samples")
    if not 0 < real_number(rtol, "rtol") < math.inf or samples == 0:
        raise OptionError(f"rtol and max_samples must be positive, got {rtol} and {max_samples}")
    if method not in METHODS:
        raise UnknownNameError(f"there is no method {method!r}; choose from {', '.join(METHODS)}")
    if isinstance(ssm, StateSpace):
        if method == "exclusion":
            raise OptionError("phase exclusion needs a DiagonalSSM; a StateSpace takes level sets")
        return PeakGain(*level_set_peak_gain(ssm, rtol), method="level-set")
    require_stable(ssm, "the peak gain")
    if method == "level-set":
        return _by_level_sets(ssm, rtol)
    if method == "exclusion" or samples or ssm.batch:
        return exclusion_peak_gain(ssm, rtol, samples or exclusion_budget(ssm), threads)
    return _cheapest(ssm, rtol)


def _cheapest(ssm: DiagonalSSM, rtol: float) -> PeakGain:
    """Bracket of a single system by the methods that suit its sizes."""
    n, width = ssm.order, min(ssm.inputs, ssm.outputs)
    turned = n > 0 and width >= max(_WORTH_TURNING, 4 * n * (1 + ssm.bidirectional))
    small = 2 * n if turned else width
    levels = not ssm.bidirectional and small >= max(_WIDE, 2 * n) and _smallest_gap(ssm) > _SLOWEST
    budget = _worthwhile_samples(n, width, small) if levels else exclusion_budget(ssm)
    found = wide_peak_gain(ssm, rtol, budget) if turned else None
    if found is None or not (levels or _is_closed(found, rtol)):
        found = _tighter(found, exclusion_peak_gain(ssm, rtol, budget, 1))
    if levels and not _is_closed(found, rtol):
        found = _tighter(found, _by_level_sets(ssm, rtol, (found.gain, found.omega)))
        if not _is_closed(found, rtol):  # the gain that level sets have found is less than they took it for
            found = _tighter(found, exclusion_peak_gain(ssm, rtol, exclusion_budget(ssm), 1))
    return found


def _smallest_gap(ssm: DiagonalSSM) -> float:
    return float(one_minus_abs(to_numpy(ssm.Lambda)).min(initial=1.0))


def _worthwhile_samples(n: int, width: int, small: int) -> int:
    """Samples of `small` inputs and outputs that cost what level sets cost: an eigenproblem, and samples of all."""
    return 4 + int(170 * (2.0 * n / small) ** 3 + 4.0 * n * (width / small) ** 3)


def _is_closed(peak: PeakGain, rtol: float) -> bool:
    return peak.upper <= peak.gain * (1.0 + rtol)


def _tighter(first: PeakGain | None, second: PeakGain) -> PeakGain:
    """The larger lower and the smaller upper bound; the result has the method of its upper bound."""
    if first is None:
        return second
    low = second if second.gain > first.gain else first
    high = second if second.upper < first.upper else first
    samples = first.samples + second.samples
    return PeakGain(low.gain, low.omega, max(high.upper, low.gain), samples, high.method)


def _by_level_sets(ssm: DiagonalSSM, rtol: float, start: tuple[float, float] | None = None) -> PeakGain:
    require_causal(ssm, "the level-set method")
    if ssm.batch:
        raise ShapeError(f"level sets take one system, not {ssm!r}; leave out the method, or take them one by one")
    _, omega, upper, samples = level_set_peak_gain(to_state_space(ssm), rtol, start)
    gain = proven_gain_at(ssm, omega) if ssm.inputs and ssm.outputs else 0.0
    return PeakGain(gain, omega, max(upper, gain), samples, "level-set")


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
