"""Every reduction method on every kind of system, and what each method promises by itself."""

import numpy as np
import pytest
from norm_oracles import ADVERSARIAL, adversarial_ssm, gain_on_grids, random_ssm
from oracles import dense, lru_tree, model_of, s4d_tree, s5_tree, system_at

import ssmreduce as sr
from ssmreduce.errors import SelectionError, UnattainableError, UnknownLayerError, UnknownNameError
from ssmreduce.hankel import hankel_singular_values
from ssmreduce.reduction import METHODS
from ssmreduce.systems import conjugate_closed


def slow_siso(rng):
    return random_ssm(rng, 12, gaps=(1e-6, 1e-1))


def clustered(rng):
    angles = 0.7 + 1e-3 * rng.random(10)
    B, C = rng.standard_normal((10, 1)), rng.standard_normal((1, 10))
    return sr.DiagonalSSM(0.95 * np.exp(1j * angles), B, C, [[0.3]], conj_sym=True)


def repeated(rng):
    ssm = random_ssm(rng, 4, 2, 2)
    twice = np.repeat(ssm.Lambda, 2)
    return sr.DiagonalSSM(twice, random_ssm(rng, 8, 2, 2).B, random_ssm(rng, 8, 2, 2).C, ssm.D, conj_sym=True)


def real_poles(rng):
    poles = rng.uniform(-0.95, 0.95, 8)
    return sr.DiagonalSSM(poles, rng.standard_normal((8, 2)), rng.standard_normal((3, 8)), np.zeros((3, 2)))


def with_unstable(rng):
    ssm = random_ssm(rng, 8, 2, 2)
    Lambda = ssm.Lambda.copy()
    Lambda[[1, 4]] = 1.001j, -1.0
    return sr.DiagonalSSM(Lambda, ssm.B, ssm.C, ssm.D, conj_sym=True)


def silent_inputs(rng):
    ssm = random_ssm(rng, 6, 2, 2)
    return sr.DiagonalSSM(ssm.Lambda, 0 * ssm.B, ssm.C, ssm.D, conj_sym=True)


SYSTEMS = {
    "siso": lambda rng: random_ssm(rng, 8),
    "mimo": lambda rng: random_ssm(rng, 10, 4, 3),
    "wide": lambda rng: random_ssm(rng, 6, 12, 10),
    "one-output": lambda rng: random_ssm(rng, 6, 3, 1),
    "all-stored": lambda rng: random_ssm(rng, 8, 2, 2, conj_sym=False),
    "conjugates-stored": lambda rng: conjugate_closed(random_ssm(rng, 4, 2, 2)),
    "bidirectional": lambda rng: random_ssm(rng, 8, 2, 2, reverse=True),
    "bidirectional-siso": lambda rng: random_ssm(rng, 6, reverse=True, conj_sym=False),
    "batch": lambda rng: random_ssm(rng, 6, batch=(3,)),
    "bidirectional-batch": lambda rng: random_ssm(rng, 5, 2, 1, batch=(2, 2), reverse=True),
    "slow-siso": slow_siso,
    "clustered": clustered,
    "repeated": repeated,
    "real": real_poles,
    "unstable": with_unstable,
    "silent": silent_inputs,
    "single": lambda rng: random_ssm(rng, 1, 2, 2),
}
TABLE = pytest.mark.parametrize("system", SYSTEMS)
EVERY = pytest.mark.parametrize("method", METHODS)


def smallest(ssm):
    """The smallest order that can be asked for: unstable states stay."""
    return sr.unstable_states(ssm).size


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
        assert sr.unstable_states(reduced).size == smallest(ssm)
        certificate = sr.certify(ssm, reduced)
        slack = 1e-9 * (certificate.norm if np.isfinite(certificate.norm) else 1e3)
        assert certificate.lower_bound <= certificate.upper + slack
        assert certificate.real_order <= reduction.real_order
        assert not certificate.upper > reduction.bound + slack  # nan: no bound


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
    for i in sr.unstable_states(ssm):
        (k,) = np.flatnonzero(reduced.Lambda == ssm.Lambda[i])
        np.testing.assert_array_equal(reduced.B[k], ssm.B[i])
        np.testing.assert_array_equal(reduced.C[:, k], ssm.C[:, i])
    assert np.isfinite(sr.certify(ssm, reduced).upper)
    with pytest.raises(SelectionError, match="2 unstable states"):
        METHODS[method](ssm, 1)


# ---------------------------------------------------------------- balanced truncation


def dense_balanced_truncation(ssm, order):
    """Textbook square-root method on the dense realification, Gramians by scipy; errors on the unit circle."""
    from scipy.linalg import solve_discrete_lyapunov

    A, B, _, _ = dense(ssm)
    C = ssm.kappa * np.hstack([ssm.C.real, -ssm.C.imag])
    values, vectors = np.linalg.eigh(solve_discrete_lyapunov(A, B @ B.T))
    L = vectors * np.sqrt(np.maximum(values, 0))
    values, vectors = np.linalg.eigh(solve_discrete_lyapunov(A.T, C.T @ C))
    K = vectors * np.sqrt(np.maximum(values, 0))
    U, s, V = np.linalg.svd(K.T @ L)
    left, right = K @ U[:, :order] / np.sqrt(s[:order]), L @ V[:order].T / np.sqrt(s[:order])
    return left.T @ A @ right, left.T @ B, C @ right, s


@pytest.mark.parametrize("conj_sym", [True, False])
def test_balanced_truncation_against_the_dense_method(rng, conj_sym):
    ssm = random_ssm(rng, 10, 3, 2, conj_sym=conj_sym, gaps=(1e-2, 0.5))
    omega = np.linspace(0, np.pi, 200)
    z = np.exp(1j * omega)[:, None, None]
    for order in (2, 5, 8):
        reduction = sr.balanced_truncation(ssm, order)
        A, B, C, s = dense_balanced_truncation(ssm, reduction.real_order)
        np.testing.assert_allclose(hankel_singular_values(ssm), s, rtol=1e-9, atol=1e-12 * s[0])
        expected = z * (C @ np.linalg.solve(z * np.eye(len(A)) - A, B)) + ssm.D
        got = sr.frequency_response(reduction.ssm, omega)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_bounds_of_balanced_truncation_on_hard_systems(kind):
    rng = np.random.default_rng(ADVERSARIAL.index(kind) + 50)
    for _ in range(25):
        ssm = adversarial_ssm(rng, kind, *rng.integers(1, 4, 2))
        reduction = sr.balanced_truncation(ssm, int(rng.integers(0, ssm.order)))
        assert not sr.unstable_states(reduction.ssm).size
        grid = gain_on_grids(sr.error_system(ssm, reduction.ssm))
        c = sr.certify(ssm, reduction.ssm)
        # a pole in double precision has its gap to 1e-16 / gap, and so the system its peak
        slack = c.norm * (1e-9 + 2e-15 / (1 - np.abs(ssm.Lambda)).min())
        assert c.lower_bound <= c.upper + slack
        assert grid <= c.upper * (1 + 1e-9) + slack
        assert c.upper <= reduction.bound * (1 + 1e-3) + slack
        assert c.upper <= c.a_priori * (1 + 1e-3) + slack


def test_a_real_pole_costs_one_stored_state_and_half_its_output():
    """Two slow real poles and a fast pair: the two real poles take two states, not one."""
    ssm = sr.DiagonalSSM([0.9, -0.8, 0.1 + 0.1j], [[1], [1], [0.1]], [[0.5, 0.5, 0.1]], [[0.0]], conj_sym=True)
    two = sr.balanced_truncation(ssm, 2)
    assert (two.order, two.real_order) == (2, 2)
    np.testing.assert_allclose(np.sort(two.ssm.Lambda.real), [-0.8, 0.9], atol=0.02)
    assert not two.ssm.Lambda.imag.any()
    omega = np.linspace(0, np.pi, 50)
    z = np.exp(1j * omega)[:, None, None]
    b, c = two.ssm.B.real, 2 * two.ssm.C.real
    expected = sum(c[:, k : k + 1] * b[k : k + 1] * z / (z - two.ssm.Lambda[k]) for k in range(2))
    np.testing.assert_allclose(sr.frequency_response(two.ssm, omega), expected, atol=1e-12)


def test_conjugates_that_are_both_stored_are_stored_once(rng):
    half = random_ssm(rng, 4, 2, 2)
    reduction = sr.balanced_truncation(conjugate_closed(half), 4)
    assert sr.certify(conjugate_closed(half), reduction.ssm).relative < 1e-9


def test_largest_real_order_that_fits(rng):
    """One more real order would need one more stored state."""
    ssm = random_ssm(rng, 12, 2, 2, gaps=(0.1, 0.6))
    for order in range(1, 12):
        reduction = sr.balanced_truncation(ssm, order)
        stored = np.where(reduction.ssm.Lambda.imag == 0, 1, 2).sum()
        assert stored == reduction.real_order
        assert reduction.order <= order <= reduction.real_order


@pytest.mark.parametrize("method", ["square_root", "balancing_free"])
def test_both_projections_agree(rng, method):
    ssm = random_ssm(rng, 8, 2, 3)
    omega = np.linspace(0, np.pi, 50)
    expected = sr.frequency_response(sr.balanced_truncation(ssm, 4).ssm, omega)
    got = sr.frequency_response(sr.balanced_truncation(ssm, 4, method=method).ssm, omega)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_tiny_singular_values_do_no_harm(rng):
    ssm = clustered(rng)
    values = hankel_singular_values(ssm, accuracy="relative")
    assert values[10] < 1e-9 * values[0]
    for order in range(1, 10):
        reduction = sr.balanced_truncation(ssm, order)
        assert sr.certify(ssm, reduction.ssm).upper <= reduction.bound + 1e-11 * values[0]


@pytest.mark.parametrize("system", ["mimo", "bidirectional", "batch", "all-stored"])
@pytest.mark.parametrize("tolerance", [0.5, 0.05, 1e-3])
def test_tolerance(rng, system, tolerance):
    ssm = SYSTEMS[system](rng)
    reduction = sr.balanced_truncation(ssm, tolerance=tolerance)
    norm = 0.0 if reduction.ssm is ssm else sr.certify(ssm, reduction.ssm).upper
    outputs = ssm.C if ssm.C_reverse is None else np.concatenate([ssm.C, ssm.C_reverse], axis=-2)
    D = np.zeros((*outputs.shape[:-1], ssm.inputs))
    hankel = hankel_singular_values(sr.DiagonalSSM(ssm.Lambda, ssm.B, outputs, D, conj_sym=ssm.conj_sym))
    assert norm <= reduction.bound * (1 + 1e-3) + 1e-12
    assert reduction.bound <= tolerance * hankel[..., 0].max()


def test_tolerance_takes_the_smallest_order(rng):
    ssm = random_ssm(rng, 8, 2, 2)
    values = hankel_singular_values(ssm)
    reduction = sr.balanced_truncation(ssm, tolerance=0.1)
    assert 2 * values[reduction.real_order - 1 :].sum() > 0.1 * values[0]


def test_unattainable_tolerances_raise(rng):
    ssm = random_ssm(rng, 8, 2, 2)
    with pytest.raises(UnattainableError, match="2 stored states do not meet"):
        sr.balanced_truncation(ssm, 2, tolerance=1e-9)
    with pytest.raises(UnattainableError, match="positive"):
        sr.balanced_truncation(ssm, tolerance=0.0)
    with pytest.raises(SelectionError, match="order or a tolerance"):
        sr.balanced_truncation(ssm)
    with pytest.raises(UnknownNameError, match="square_root"):
        sr.balanced_truncation(ssm, 2, method="great")


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


def test_refusals_of_reduce(rng):
    model = model_from(rng, "s4d")
    with pytest.raises(UnknownNameError, match="balanced"):
        sr.reduce(model, {}, method="magic")
    with pytest.raises(UnknownLayerError):
        sr.reduce(model, {"nowhere": 3})
    with pytest.raises(SelectionError, match="equal parts"):
        sr.reduce(model, {"layers.0": 7})


@pytest.mark.parametrize("rule", ["energy", "global"])
@pytest.mark.parametrize("family", TREES)
def test_hankel_orders_meet_the_budget(rng, family, rule):
    model = model_from(rng, family)
    orders = sr.hankel_orders(model, ratio=0.5, rule=rule)
    total = sum(model.orders.values())
    width = 3 if family == "s4d" else 1
    assert total // 2 - width < sum(orders.values()) <= total // 2
    assert sum(sr.hankel_orders(model, count=3 * width, rule=rule).values()) == 3 * width


def test_hankel_orders_share_the_retained_energy(rng):
    model = model_from(rng, "s5")
    orders = sr.hankel_orders(model, count=7)
    missing = {}
    for name, ssm in model.items():
        values = hankel_singular_values(ssm)
        tails = np.append(np.cumsum(values[::-1])[::-1], 0.0)[::2] / values.sum()
        missing[name] = tails[orders[name]], tails[orders[name] - 1]
    assert max(low for low, _ in missing.values()) <= min(high for _, high in missing.values())
    with pytest.raises(UnknownNameError, match="energy, global"):
        sr.hankel_orders(model, count=7, rule="fair")
