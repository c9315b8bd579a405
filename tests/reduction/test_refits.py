"""Methods that keep poles: compensated truncation against least squares, greedy elimination against brute force."""

from dataclasses import replace

import numpy as np
import pytest
from support.norm_oracles import random_ssm

import ssmreduce as sr
from ssmreduce.errors import OptionError, UnknownNameError
from ssmreduce.norms._hankel import hankel_singular_values
from ssmreduce.reduction._reduce import METHODS


def h2_error(ssm, reduced):
    """H2 norm of the error; for a bidirectional layer that of the stacked halves, which is what is fitted."""
    if not ssm.bidirectional:
        return sr.certify(ssm, reduced).h2_error
    halves = [(one.Lambda, one.B, C, 0 * ssm.D, None, True) for one in (ssm, reduced) for C in (one.C, one.C_reverse)]
    a, b, c, d = (sr.DiagonalSSM(*half) for half in halves)
    return np.hypot(sr.certify(a, c).h2_error, sr.certify(b, d).h2_error)


@pytest.mark.parametrize("reverse", [False, True])
def test_refits_only_lower_the_h2_error(rng, reverse):
    ssm = random_ssm(rng, 10, 3, 2, reverse=reverse)
    errors = [h2_error(ssm, sr.reduction.modal_truncation(ssm, 5).ssm)]
    errors += [h2_error(ssm, sr.reduction.compensated_truncation(ssm, 5, refit="outputs").ssm)]
    errors += [h2_error(ssm, sr.reduction.compensated_truncation(ssm, 5, iterations=k).ssm) for k in range(1, 6)]
    assert (np.diff(errors) <= 1e-12 * errors[0]).all()
    assert errors[-1] < 0.99 * errors[0]


@pytest.mark.parametrize("conj_sym", [True, False])
def test_refitted_outputs_are_the_least_squares_solution(rng, conj_sym):
    """Against an explicit least-squares problem in the first 600 lags."""
    ssm = random_ssm(rng, 6, 2, 3, gaps=(0.1, 0.5), D=False, conj_sym=conj_sym)
    reduced = sr.reduction.compensated_truncation(ssm, 3, refit="outputs").ssm
    h = sr.impulse_response(ssm, 600)
    states = reduced.Lambda[:, None] ** np.arange(600)[:, None, None] * reduced.B
    rows = np.concatenate([states.real, -states.imag], axis=1).transpose(0, 2, 1).reshape(-1, 6)
    exact = np.linalg.lstsq(reduced.kappa * rows, h.transpose(0, 2, 1).reshape(-1, 3), rcond=None)[0].T
    np.testing.assert_allclose(reduced.C, exact[:, :3] + 1j * exact[:, 3:], rtol=1e-9, atol=1e-9)


def test_inputs_are_fitted_as_the_outputs_of_the_dual(rng):
    """At convergence neither half step can gain: the dual system is a fixed point too."""
    ssm = random_ssm(rng, 6, 2, 3, gaps=(0.1, 0.5))
    reduced = sr.reduction.compensated_truncation(ssm, 3, iterations=3000).ssm
    error = h2_error(ssm, reduced)
    for name in ("B", "C"):
        for direction in (1, 1j):
            step = 1e-4 * direction * getattr(random_ssm(rng, 3, 2, 3), name)
            for sign in (1, -1):
                arrays = {key: getattr(reduced, key) for key in ("Lambda", "B", "C", "D")}
                arrays[name] = arrays[name] + sign * step
                assert h2_error(ssm, sr.DiagonalSSM(**arrays, conj_sym=True)) > error


def refit_cost(ssm, gone):
    """Squared H2 error of leaving one state out, the outputs of the others refitted."""
    order = ssm.order
    weights = np.where(np.arange(order) == gone, 0.0, 1.0)
    reduced = sr.reduction.compensated_truncation(ssm, order - 1, criterion=lambda _: weights, refit="outputs").ssm
    return reduced, sr.certify(ssm, reduced).h2_error ** 2


@pytest.mark.parametrize("conj_sym", [True, False])
def test_greedy_takes_the_cheapest_state_each_time(rng, conj_sym):
    """Brute force: all deletions are tried and refitted. Poles are close, so that the others take over a lot."""
    for _ in range(4):
        near = random_ssm(rng, 7, 2, 2, gaps=(0.1, 0.3), conj_sym=conj_sym)
        ssm = replace(near, Lambda=np.abs(near.Lambda) * np.exp(0.1j * np.angle(near.Lambda)))
        left = ssm
        for order in range(6, 2, -1):
            trials = [refit_cost(left, gone) for gone in range(left.order)]
            left = min(trials, key=lambda trial: trial[1])[0]
            chosen = sr.reduction.greedy_elimination(ssm, order).ssm.Lambda
            np.testing.assert_array_equal(np.sort_complex(chosen), np.sort_complex(left.Lambda))


def test_greedy_hankel_drops_the_pair_with_the_least_own_hankel_value(rng):
    """Of decoupled pairs the own value is the Hankel norm of the pair."""
    weights = np.array([3.0, 0.1, 2.0, 0.5])
    ssm = sr.DiagonalSSM(0.5j ** np.arange(1, 5) * 0.9, np.diag(weights), np.eye(4), np.zeros((4, 4)), conj_sym=True)
    own = [hankel_singular_values(sr.DiagonalSSM(a[None], b[None], c[:, None], ssm.D, conj_sym=True))[0]
           for a, b, c in zip(ssm.Lambda, ssm.B, ssm.C.T, strict=True)]  # fmt: skip
    reduced = sr.reduction.greedy_elimination(ssm, 2, rule="hankel").ssm
    assert set(reduced.Lambda) == set(ssm.Lambda[np.argsort(own)[2:]])


@pytest.mark.parametrize("reverse", [False, True])
def test_exchange_starts_from_greedy_and_only_improves(rng, reverse):
    ssm = random_ssm(rng, 12, 3, 3, gaps=(1e-2, 0.3), reverse=reverse)
    errors = [sr.certify(ssm, sr.reduction.exchange(ssm, 4, rounds=k).ssm, rtol=1e-4).error for k in (0, 1, 2, 10)]
    start = sr.certify(ssm, sr.reduction.greedy_elimination(ssm, 4, rule="hankel").ssm, rtol=1e-4).error
    np.testing.assert_allclose(errors[0], start)
    assert (np.diff(errors) <= 0.02 * start).all()
    assert errors[-1] < (1.001 if reverse else 0.95) * start


def test_exchange_ends_where_no_swap_helps(rng):
    """Five of ten states: the swaps tried are all that there are."""
    ssm = random_ssm(rng, 10, 2, 2, gaps=(1e-2, 0.3))
    poles = sr.reduction.exchange(ssm, 5).ssm.Lambda
    kept = np.flatnonzero(np.isin(ssm.Lambda, poles))

    def error(index):
        weights = np.isin(np.arange(10), index).astype(float)
        reduced = sr.reduction.compensated_truncation(ssm, 5, criterion=lambda _: weights, iterations=2).ssm
        return sr.certify(ssm, reduced).error

    others = np.setdiff1d(np.arange(10), kept)
    swapped = [error(np.append(np.delete(kept, i), k)) for i in range(5) for k in others]
    assert min(swapped) > 0.98 * error(kept)


def test_poles_stay(rng):
    ssm = random_ssm(rng, 8, 2, 2)
    for method in ("modal", "compensated", "greedy", "greedy_hankel", "exchange"):
        assert np.isin(METHODS[method](ssm, 4).ssm.Lambda, ssm.Lambda).all()


def test_refusals_of_refits(rng):
    ssm = random_ssm(rng, 4)
    with pytest.raises(UnknownNameError, match="both, outputs"):
        sr.reduction.compensated_truncation(ssm, 2, refit="inputs")
    with pytest.raises(OptionError, match="iterations must be a positive integer"):
        sr.reduction.compensated_truncation(ssm, 2, iterations=0)
    with pytest.raises(OptionError, match="negative"):
        sr.reduction.exchange(ssm, 2, rounds=-1)
    with pytest.raises(UnknownNameError, match="h2, hankel"):
        sr.reduction.greedy_elimination(ssm, 2, rule="random")
