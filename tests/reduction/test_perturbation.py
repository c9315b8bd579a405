"""Methods that change D: singular perturbation and optimal Hankel-norm approximation; H2-optimal reduction."""

import numpy as np
import pytest
from support.norm_oracles import random_ssm
from support.oracles import dense, model_of, s5_tree
from support.systems_table import SYSTEMS

import ssmreduce as sr
from ssmreduce.errors import NotRepresentableError, OptionError, UnknownNameError
from ssmreduce.norms._hankel import hankel_norm, hankel_singular_values
from ssmreduce.systems._systems import conjugate_closed

CAUSAL = ("siso", "mimo", "wide", "one-output", "all-stored")


@pytest.mark.parametrize("basis", ["balanced", "modal"])
@pytest.mark.parametrize("system", [*CAUSAL, "bidirectional", "bidirectional-siso"])
def test_singular_perturbation_keeps_the_gain_at_frequency_0(rng, system, basis):
    ssm = SYSTEMS[system](rng)
    for order in range(1, ssm.order):
        reduced = sr.reduction.singular_perturbation(ssm, order, basis=basis).ssm
        got, expected = (sr.frequency_response(one, np.array([0.0])) for one in (reduced, ssm))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_singular_perturbation_is_the_textbook_formula(rng):
    """On the dense system in modal coordinates, states of equal index in both halves of the realification."""
    ssm = random_ssm(rng, 5, 2, 3)
    kept = np.sort(np.argsort(-sr.selection.hinf(ssm))[:3])
    A, B, C, D = dense(ssm)
    one, two = np.concatenate([kept, kept + 5]), np.setdiff1d(np.arange(10), np.concatenate([kept, kept + 5]))
    rest = np.linalg.inv(np.eye(4) - A[np.ix_(two, two)])
    reduced = dense(sr.reduction.singular_perturbation(ssm, 3, basis="modal").ssm)
    np.testing.assert_allclose(reduced[0], A[np.ix_(one, one)])
    np.testing.assert_allclose(reduced[2], C[:, one], atol=1e-12)
    np.testing.assert_allclose(reduced[3], D + C[:, two] @ rest @ B[two], rtol=1e-10)


def test_the_bound_is_attained_where_one_value_is_dropped():
    """Which it would not be by the same formulas on the scan form."""
    ssm = sr.DiagonalSSM([0.9, -0.9], [[1.0], [1.0]], [[1.0, 0.5]], [[0.0]])
    reduction = sr.reduction.singular_perturbation(ssm, 1)
    error = sr.certify(ssm, reduction.ssm, rtol=1e-9)
    np.testing.assert_allclose(error.error, 2 * hankel_singular_values(ssm, form="textbook")[1], rtol=1e-6)


@pytest.mark.parametrize("system", CAUSAL)
def test_hankel_approximation_attains_the_lower_bound_in_its_norm(rng, system):
    ssm = SYSTEMS[system](rng)
    values = hankel_singular_values(ssm, form="textbook")
    for order in range(1, ssm.order):
        reduction = sr.reduction.hankel_approximation(ssm, order)
        if reduction.real_order < values.size:
            error = hankel_norm(sr.systems.error_system(ssm, reduction.ssm), form="textbook")
            np.testing.assert_allclose(error, values[reduction.real_order], rtol=1e-5, atol=1e-10 * values[0])


def test_a_dense_feedthrough_is_refused_by_families_with_a_vector(rng):
    model = model_of(s5_tree(rng), adapter=sr.adapters.S5(conj_sym=True, discretization="zoh"))
    for method in ("singular_perturbation", "modal_perturbation", "hankel"):
        reduced = sr.reduce(model, dict.fromkeys(model, 3), method=method)
        with pytest.raises(NotRepresentableError, match="feedthrough"):
            sr.export(reduced)


@pytest.mark.parametrize("system", ["siso", "mimo", "all-stored"])
def test_h2_approximation_is_never_worse_than_its_starting_points(rng, system):
    ssm = SYSTEMS[system](rng)
    for order in (2, 4, 6):
        best = sr.certify(ssm, sr.reduction.h2_approximation(ssm, order).ssm).h2_error
        for other in (sr.reduction.balanced_truncation, sr.reduction.greedy_elimination):
            assert best <= sr.certify(ssm, other(ssm, order).ssm).h2_error * (1 + 1e-9)


@pytest.mark.parametrize("order", [36, 24, 12])
def test_h2_approximation_of_a_trained_layer(order):
    """Whose iterates have poles so close that their refits are ill-conditioned."""
    ssm = next(iter(sr.load("tests/data/lru_forgi86_digits64/model.safetensors").values()))
    best = sr.certify(ssm, sr.reduction.h2_approximation(ssm, order).ssm).h2_error
    assert best <= sr.certify(ssm, sr.reduction.balanced_truncation(ssm, order).ssm).h2_error
    assert best <= sr.certify(ssm, sr.reduction.greedy_elimination(ssm, order).ssm).h2_error * (1 + 1e-9)


def test_h2_approximation_interpolates_at_the_mirror_images_of_its_poles(rng):
    """The conditions of a local minimum, at convergence: both tangents and the derivative between them."""
    ssm = random_ssm(rng, 6, 2, 2, gaps=(0.05, 0.5), D=False)
    reduced = sr.reduction.h2_approximation(ssm, 2, iterations=300).ssm

    def values(one, z, power):
        closed = conjugate_closed(one)
        return closed.C / (z - closed.Lambda) ** power @ closed.B

    for i, pole in enumerate(reduced.Lambda):
        z = 1 / pole.conj()
        left, right = reduced.C[:, i].conj(), reduced.B[i].conj()
        for one, tangent in ((left, None), (None, right), (left, right)):
            sides = []
            for system in (reduced, ssm):
                value = values(system, z, 2 if one is not None and tangent is not None else 1)
                value = value if one is None else one @ value
                sides.append(value if tangent is None else value @ tangent)
            np.testing.assert_allclose(*sides, rtol=1e-3, atol=1e-3 * np.abs(sides[1]).max())


def test_refusals(rng):
    ssm = random_ssm(rng, 4)
    with pytest.raises(UnknownNameError, match="balanced, modal"):
        sr.reduction.singular_perturbation(ssm, 2, basis="best")
    with pytest.raises(OptionError, match="negative"):
        sr.reduction.h2_approximation(ssm, 2, iterations=-1)
