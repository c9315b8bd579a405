"""Every reduction method on every kind of system, and reductions of whole models."""

import numpy as np
import pytest
from support.norm_oracles import random_ssm
from support.oracles import lru_tree, model_of, s4d_tree, s5_tree, system_at
from support.systems_table import SYSTEMS, real_poles, with_unstable

import ssmreduce as sr
from ssmreduce.errors import SelectionError, UnknownLayerError, UnknownNameError
from ssmreduce.norms._hankel import hankel_singular_values
from ssmreduce.reduction._reduce import METHODS
from ssmreduce.systems._systems import conjugate_closed

TABLE = pytest.mark.parametrize("system", SYSTEMS)
EVERY = pytest.mark.parametrize("method", METHODS)


def smallest(ssm):
    """The smallest order that can be asked for: unstable states stay."""
    return sr.systems.unstable_states(ssm).size


@EVERY
@TABLE
def test_kind_order_stability_and_certificate(rng, system, method):
    ssm = SYSTEMS[system](rng)
    for order in range(smallest(ssm), ssm.order):
        reduction = METHODS[method](ssm, order)
        reduced = reduction.ssm
        assert reduction.order == reduced.order <= order
        assert reduction.method == method
        for name in ("batch", "inputs", "outputs", "conj_sym", "bidirectional"):
            assert getattr(reduced, name) == getattr(ssm, name)
        assert sr.systems.unstable_states(reduced).size == smallest(ssm)
        certificate = sr.certify(ssm, reduced)
        slack = 1e-9 * (certificate.norm if np.isfinite(certificate.norm) else 1e3)
        assert certificate.lower_bound <= certificate.upper + slack
        assert certificate.real_order <= reduction.real_order
        assert not certificate.upper > reduction.bound * (1 + 2e-3) + slack  # nan: no bound


@EVERY
@TABLE
def test_full_order_is_the_identity(rng, system, method):
    ssm = SYSTEMS[system](rng)
    reduction = METHODS[method](ssm, ssm.order)
    assert reduction.ssm is ssm
    assert reduction.bound == 0.0


@EVERY
def test_order_zero_leaves_the_feedthrough(rng, method):
    ssm = random_ssm(rng, 4, 2, 3)
    assert METHODS[method](ssm, 0).ssm.order == 0


@EVERY
def test_outputs_are_real_and_what_they_were_where_nothing_is_lost(rng, method):
    """Two of four states are silent: the other two are the whole system."""
    ssm = random_ssm(rng, 4, 2, 2)
    B = ssm.B.copy()
    B[[0, 2]] = 0
    ssm = sr.DiagonalSSM(ssm.Lambda, B, ssm.C, ssm.D, conj_sym=True)
    reduced = METHODS[method](ssm, 2).ssm
    u = rng.standard_normal((60, 2))
    expected = sr.simulate(ssm, u)
    np.testing.assert_allclose(sr.simulate(reduced, u), expected, rtol=0, atol=1e-8 * np.abs(expected).max())


@EVERY
def test_a_batch_is_its_systems(rng, method):
    ssm = random_ssm(rng, 6, batch=(3,))
    whole = METHODS[method](ssm, 3).ssm
    omega = np.linspace(0, np.pi, 40)
    for k in range(3):
        one = METHODS[method](system_at(ssm, (k,)), 3).ssm
        expected = sr.frequency_response(one, omega)
        np.testing.assert_allclose(sr.frequency_response(system_at(whole, (k,)), omega), expected, atol=1e-9)


@EVERY
@pytest.mark.parametrize("order", [-1, 5])
def test_orders_that_do_not_exist(rng, method, order):
    with pytest.raises(SelectionError, match="4 stored states"):
        METHODS[method](random_ssm(rng, 4), order)


@EVERY
def test_unstable_states_are_kept_bit_for_bit(rng, method):
    ssm = with_unstable(rng)
    reduced = METHODS[method](ssm, 4).ssm
    for i in sr.systems.unstable_states(ssm):
        (k,) = np.flatnonzero(reduced.Lambda == ssm.Lambda[i])
        np.testing.assert_array_equal(reduced.B[k], ssm.B[i])
        np.testing.assert_array_equal(reduced.C[:, k], ssm.C[:, i])
    assert np.isfinite(sr.certify(ssm, reduced).upper)
    with pytest.raises(SelectionError, match="2 unstable states"):
        METHODS[method](ssm, 1)


# ---------------------------------------------------------------- models

TREES = {"s5": s5_tree, "s4d": s4d_tree, "lru": lru_tree}
S5 = sr.adapters.S5(conj_sym=True, discretization="zoh")


def model_from(rng, family):
    return model_of(*(TREES[family](rng) for _ in range(2)), adapter=S5 if family == "s5" else None)


@pytest.mark.parametrize("family", TREES)
def test_a_written_model_computes_what_the_reduced_one_does(rng, family):
    model = model_from(rng, family)
    orders = {
        name: count - (count // model.adapter.sizes(model.params, name)[1]) for name, count in model.orders.items()
    }
    reduced = sr.reduce(model, orders)
    again = sr.read(sr.export(reduced), adapter=model.adapter)
    for name, ssm in reduced.items():
        assert reduced.orders[name] <= orders[name]
        u = rng.standard_normal((40, 3))
        expected = sr.simulate(ssm, u)
        np.testing.assert_allclose(sr.simulate(again[name], u), expected, rtol=0, atol=2e-4 * np.abs(expected).max())


def test_layers_that_are_not_named_and_full_orders_stay(rng):
    model = model_from(rng, "s5")
    first, second = model
    reduced = sr.reduce(model, {first: 3, second: 6})
    assert (reduced.orders[first], reduced.orders[second]) == (3, 6)
    assert second not in reduced.systems
    assert first not in sr.reduce(model, {second: 2}).systems


def test_reduce_by_tolerance(rng):
    model = model_from(rng, "s5")
    reduced = sr.reduce(model, tolerance=0.2)
    for name, ssm in model.items():
        assert sr.certify(ssm, reduced[name]).upper <= 0.2 * hankel_singular_values(ssm)[0] * (1 + 1e-3)


@pytest.mark.parametrize("family", TREES)
def test_compensate_keeps_the_selected_poles(rng, family):
    model = model_from(rng, family)
    keep = sr.select(sr.score(model, "last"), ratio=0.5, scope="system")
    compensated, pruned = sr.refit(sr.prune(model, keep)), sr.prune(model, keep)
    assert compensated.orders == dict(keep.orders)
    again = sr.read(sr.export(compensated), adapter=model.adapter)
    for name, ssm in model.items():
        np.testing.assert_array_equal(np.sort(compensated[name].Lambda), np.sort(pruned[name].Lambda))
        assert sr.certify(ssm, compensated[name]).h2_error <= sr.certify(ssm, pruned[name]).h2_error
        np.testing.assert_allclose(again[name].Lambda, compensated[name].Lambda, atol=1e-5)


def test_compensate_leaves_other_layers_and_refuses_ragged_batches(rng):
    model = model_from(rng, "s5")
    first, second = model
    compensated = sr.refit(sr.prune(model, {first: [0, 2, 3], second: np.arange(6)}))
    assert list(compensated.systems) == [first]
    with pytest.raises(SelectionError, match="scope='system'"):
        sr.refit(sr.prune(model_from(rng, "s4d"), {"layers.0": [0, 1, 2, 7]}))


def test_refusals_of_reduce(rng):
    model = model_from(rng, "s4d")
    with pytest.raises(UnknownNameError, match="balanced"):
        sr.reduce(model, {}, method="magic")
    with pytest.raises(UnknownLayerError):
        sr.reduce(model, {"nowhere": 3})
    with pytest.raises(SelectionError, match="equal parts"):
        sr.reduce(model, {"layers.0": 7})
    with pytest.raises(UnknownNameError, match="'compensated' has no option 'refits'; choose from criterion, refit"):
        sr.reduce(model, {"layers.0": 6}, method="compensated", refits="C")
    with pytest.raises(UnknownNameError, match="'hankel' has no option 'iterations'; it has none"):
        sr.reduce(model, {}, method="hankel", iterations=3)
    with pytest.raises(UnknownNameError, match="'balanced' has no option 'tolerence'; choose from tolerance"):
        sr.reduce(model, tolerence=0.1)


@EVERY
def test_reduce_takes_the_options_of_the_method_and_no_other_name(rng, method):
    model = model_from(rng, "s5")
    function, bound = getattr(METHODS[method], "func", METHODS[method]), getattr(METHODS[method], "keywords", {})
    taken = {"method", *bound}
    options = {name: value for name, value in (function.__kwdefaults__ or {}).items() if name not in taken}
    sr.reduce(model, {"layers.0": 2}, method=method, **options)
    # `order` is an argument, but not by keyword; what is bound belongs to the method's name
    for name in ("order", "misspelt", *bound):
        with pytest.raises(UnknownNameError, match=f"{method!r} has no option {name!r}"):
            sr.reduce(model, {"layers.0": 2}, method=method, **{name: 1})


@pytest.mark.parametrize("rule", ["energy", "global"])
@pytest.mark.parametrize("family", TREES)
def test_hankel_orders_meet_the_budget(rng, family, rule):
    model = model_from(rng, family)
    orders = sr.reduction.hankel_orders(model, ratio=0.5, rule=rule)
    total = sum(model.orders.values())
    width = 3 if family == "s4d" else 1
    assert total // 2 - width < sum(orders.values()) <= total // 2
    assert sum(sr.reduction.hankel_orders(model, count=3 * width, rule=rule).values()) == 3 * width


def test_hankel_orders_share_the_retained_energy(rng):
    model = model_from(rng, "s5")
    for count in range(3, 12):
        orders = sr.reduction.hankel_orders(model, count=count)
        missing = {}
        for name, ssm in model.items():
            values = hankel_singular_values(ssm)
            tails = np.append(np.cumsum(values[::-1])[::-1], 0.0)[::2] / values.sum()
            missing[name] = tails[orders[name]], tails[orders[name] - 1]
        assert max(low for low, _ in missing.values()) <= min(high for _, high in missing.values())
    with pytest.raises(UnknownNameError, match="energy, global"):
        sr.reduction.hankel_orders(model, count=7, rule="fair")


def test_orders_are_asked_for():
    model = sr.load("examples/s5_digits/model.safetensors")
    with pytest.raises(SelectionError, match="orders are needed"):
        sr.reduce(model, method="greedy")
    with pytest.raises(SelectionError, match="not a tolerance"):
        sr.reduce(model, method="greedy", tolerance=0.1)
    with pytest.raises(SelectionError, match="cannot be reduced to 1.5"):
        sr.reduction.balanced_truncation(model["layers.0.seq"], 1.5)


# ---------------------------------------------------------------- what an order counts


def mcmillan_degree(ssm):
    """Rank of the block Hankel matrix of the impulse responses, both halves stacked: the order of the real system."""
    lags = 4 * ssm.order + 2
    halves = [C for C in (ssm.C, ssm.C_reverse) if C is not None]
    responses = np.concatenate(
        [
            sr.impulse_response(sr.DiagonalSSM(ssm.Lambda, ssm.B, C, 0 * ssm.D, None, ssm.conj_sym), lags)
            for C in halves
        ],
        axis=1,
    )
    hankel = np.block([[responses[i + j] for j in range(lags // 2)] for i in range(lags // 2)])
    return np.linalg.matrix_rank(hankel, tol=1e-9 * np.abs(hankel).max()) if hankel.any() else 0


def spread(rng, poles, m, p, **options):
    """A system with the poles given and rows that are neither parallel nor small."""
    n = len(poles)
    B, C = (rng.standard_normal(s) + 1j * rng.standard_normal(s) for s in ((n, m), (p, n)))
    return sr.DiagonalSSM(poles, B, C, np.zeros((p, m)), **options)


ORDERS = {
    "pairs": (lambda rng: spread(rng, [0.9j, -0.5 + 0.3j, 0.4 + 0.1j], 2, 3, conj_sym=True), 6),
    "real poles, real inputs": (lambda rng: real_poles(rng), 8),
    "real poles, one input": (lambda rng: spread(rng, [0.9, -0.5, 0.1], 1, 3, conj_sym=True), 3),
    "real poles, complex rows": (lambda rng: spread(rng, [0.9, -0.5, 0.1], 2, 3, conj_sym=True), 6),
    "real poles, both halves": (
        lambda rng: spread(rng, [0.9, -0.5], 2, 1, C_reverse=rng.standard_normal((1, 2)) * 1j, conj_sym=True), 4,
    ),
    "one half is not enough": (lambda rng: spread(rng, [0.9, -0.5], 2, 1, conj_sym=True), 2),
    "a mixture": (lambda rng: spread(rng, [0.9, -0.5 + 0.3j], 1, 1, conj_sym=True), 3),
    "conjugates stored": (lambda rng: conjugate_closed(spread(rng, [0.9j, -0.5 + 0.3j], 2, 2, conj_sym=True)), 4),
    "one pole twice": (lambda rng: spread(rng, [0.9j, 0.9j, 0.9j], 2, 2, conj_sym=True), 4),
    "one pole twice, one input": (lambda rng: spread(rng, [0.9j, 0.9j, 0.5], 1, 1, conj_sym=True), 3),
    "a silent state": (lambda rng: sr.DiagonalSSM([0.9j, 0.5], [[1.0], [0.0]], [[1.0, 1.0]], [[0.0]]), 2),
}  # fmt: skip


@pytest.mark.parametrize("case", ORDERS)
def test_real_order_is_that_of_the_real_system(rng, case):
    make, expected = ORDERS[case]
    ssm = make(rng)
    assert mcmillan_degree(ssm) == expected
    assert sr.reduction.modal_truncation(ssm, ssm.order).real_order == expected
    for method in ("modal", "compensated", "greedy", "balanced"):
        reduction = METHODS[method](ssm, max(1, ssm.order - 1))
        assert reduction.real_order == mcmillan_degree(reduction.ssm)


def test_real_order_of_a_batch_is_the_largest(rng):
    batch = sr.DiagonalSSM([[0.9, 0.5], [0.9j, 0.5]], np.ones((2, 2, 1)), np.ones((2, 1, 2)), np.zeros((2, 1, 1)))
    assert sr.reduction.modal_truncation(batch, 2).real_order == 3
    assert sr.reduction.modal_truncation(batch, 0).real_order == 0
