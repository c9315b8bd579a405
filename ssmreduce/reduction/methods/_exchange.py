"""Exchange of states: a selection improved by trying swaps, each judged by the certified peak gain of its error."""

import numpy as np

from ..._support.arguments import whole_number
from ...norms.peak import PeakGain, peak_gain
from ...systems import DiagonalSSM
from ...systems._batches import difference
from ...systems._real import output_rows
from ...systems._states import take_states
from ._base import Part, Reduction, reduce_each
from ._compensated import refitted
from ._greedy import own_hankel_values, survivors

_TRIED = 5  # states on either side of a swap
_GAIN = 0.995  # of the error that a swap must leave at most
_RTOL = 1e-2  # of the peak gains that are compared
_QUICK = 2  # alternations of the refit of a trial


def exchange(ssm: DiagonalSSM, order: int, *, rounds: int = 10) -> Reduction:
    r"""Poles of the original chosen by the peak gain of the error itself.

    Starts from what `greedy_elimination` with the rule ``hankel`` leaves. The error peaks at some
    :math:`\omega^\star`; the five dropped states that have the largest gain there are tried in the place of each of the
    five kept states that the others replace best. Every trial is refitted (`compensated_truncation`) and its error
    measured by `peak_gain`; the best one is taken, until none is better.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed. Unstable states are kept as they are, and count towards the order.
    order : int
        Stored states that are left.
    rounds : int, default 10
        Swaps at most.

    Returns
    -------
    Reduction

    Raises
    ------
    SelectionError
        An order outside 0 ... n.
    OptionError
        Negative `rounds`.

    Notes
    -----
    When to use it: where poles must stay and the peak gain counts; on trained layers it is nearly as close as balanced
    truncation. A local search: 25 peak gains a round, some hundred times the time of the other methods.

    Examples
    --------
    >>> ssm = DiagonalSSM([0.9, 0.89, 0.2], [[1.0], [1.0], [1.0]], [[1.0, 0.9, 0.8]], [[0.0]])
    >>> exchange(ssm, 2).ssm.Lambda.real
    array([0.9, 0.2])
    """
    rounds = whole_number(rounds, "rounds")

    def method(one: DiagonalSSM, k: int) -> Part:
        return Part(refitted(one, take_states(one, _searched(one, k, rounds))))

    return reduce_each(ssm, order, method, "exchange")


def _searched(ssm: DiagonalSSM, count: int, rounds: int) -> np.ndarray:
    kept = survivors(ssm, count, "hankel")
    if not 0 < count < ssm.order:
        return kept
    error = _error(ssm, kept)
    for _ in range(rounds):
        trials = [(_error(ssm, swapped), swapped) for swapped in _swaps(ssm, kept, error.omega)]
        best, swapped = min(trials, key=lambda trial: trial[0].gain)
        if not best.gain < _GAIN * error.gain:
            break
        error, kept = best, swapped
    return kept


def _error(ssm: DiagonalSSM, kept: np.ndarray) -> PeakGain:
    reduced = refitted(ssm, take_states(ssm, kept), iterations=_QUICK)
    return peak_gain(difference(ssm, reduced), rtol=_RTOL, threads=1)


def _swaps(ssm: DiagonalSSM, kept: np.ndarray, omega: float) -> list[np.ndarray]:
    """Selections with one weak state replaced by one that is missed at this frequency."""
    dropped = np.setdiff1d(np.arange(ssm.order), kept)
    z, Lambda = np.exp(1j * omega), ssm.Lambda[dropped]
    distance = np.minimum(np.abs(z - Lambda), np.abs(z - Lambda.conj()))
    size = np.linalg.norm(output_rows(ssm)[:, dropped], axis=0) * np.linalg.norm(ssm.B[dropped], axis=1)
    missed = dropped[np.argsort(-size / distance, kind="stable")[:_TRIED]]
    weak = np.argsort(own_hankel_values(take_states(ssm, kept)), kind="stable")[:_TRIED]
    return [np.sort(np.append(np.delete(kept, i), state)) for state in missed for i in weak]
