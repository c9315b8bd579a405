"""Scores, surgeon and rotation: hand-worked cases, and minimality against a general minimiser."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
from support.selective_layers import layers

from ssmreduce.errors import SelectionError, UnknownNameError
from ssmreduce.selective import (
    Mamba2SSM,
    alternate,
    balanced_values,
    highest,
    random_layer,
    relative_error,
    rotate,
    selective_moments,
    selective_scores,
    simulate,
    surgeon,
    take_states,
)
from ssmreduce.selective._moments import joint_tensor

LAYERS = layers()


def inputs(layer, length=40):
    return np.random.default_rng(8).standard_normal((4, length, layer.inputs))


def test_ghost_on_a_case_worked_by_hand():
    """One head of one channel, two states, no convolution to speak of, two tokens.

    silu(1) = s. The rows of in_proj give gate 0, x = 1, B = (1, 0), C = (1, 1) before silu; dt = softplus(0) = ln 2 and
    A = -1, so the decay is exp(-ln 2) = 1/2. State 1 receives a = ln2 * s * s at each token: X_1 = a, then
    X_2 = a/2 + a = 1.5 a. State 2 stays 0. C = s in both. GHOST: sqrt(mean(a^2 s^2, 2.25 a^2 s^2)) = a s sqrt(1.625).
    """
    layer = Mamba2SSM(
        in_proj=np.array([[0.0], [1.0], [1.0], [0.0], [1.0], [1.0], [0.0]]),
        conv=np.ones((5, 1)),
        dt_bias=np.zeros(1),
        A_log=np.zeros(1),
        D=np.zeros(1),
        out_proj=np.ones((1, 1)),
    )
    s = 1 / (1 + np.exp(-1))
    a = np.log(2) * s**2
    scores = selective_scores(layer, "ghost", selective_moments(layer, np.ones((1, 2, 1))))
    np.testing.assert_allclose(scores, [[a * s * np.sqrt(1.625), 0.0]], rtol=1e-12, atol=1e-15)


def test_ghost_is_the_change_of_the_signal_where_a_state_is_silenced():
    layer = replace(LAYERS["mamba2 groups"], norm_weight=None, out_proj=np.eye(16), D=np.zeros(4))
    u = inputs(layer)
    scores = selective_scores(layer, "ghost", selective_moments(layer, u))
    rows = layer.in_proj.copy()
    rows[:16] = 0
    gate = replace(layer, in_proj=rows, in_bias=np.r_[np.full(16, 30.0), np.zeros(len(rows) - 16)])  # silu(30) = 30
    for g in range(2):
        full, without = simulate(gate, u) / 30, simulate(_silenced(gate, g, 0), u) / 30
        change = (full - without)[..., 8 * g : 8 * g + 8]
        assert np.sqrt(np.mean(change**2)) == pytest.approx(scores[g, 0], rel=1e-6)


def _silenced(layer, group, state):
    conv, bias = layer.conv.copy(), layer.conv_bias.copy()
    channel = layer.inner + layer.groups * layer.rows + group * layer.rows + state
    conv[channel], bias[channel] = 0, 0
    return replace(layer, conv=conv, conv_bias=bias)


@pytest.mark.parametrize("kind", ["mamba1", "mamba2"])
def test_scores_of_weights_on_definitions(kind):
    layer = LAYERS[kind]
    if kind == "mamba1":
        rows = layer.x_proj[1:]
        dt = np.log1p(np.exp(layer.dt_bias))
        dwell = [sum(1 / (1 - np.exp(-2 * dt[i] * np.exp(layer.A_log[i, n]))) for i in range(12)) for n in range(5)]
    else:
        rows = layer.in_proj[32:44]
        dt = np.log1p(np.exp(layer.dt_bias))
        dwell = [sum(4 / (1 - np.exp(-2 * dt[h] * np.exp(layer.A_log[h]))) for h in range(4))] * 6
    n = len(rows) // 2
    product = [np.sqrt(np.sum(rows[k] ** 2) * np.sum(rows[n + k] ** 2)) for k in range(n)]
    np.testing.assert_allclose(selective_scores(layer, "magnitude")[0], product, rtol=1e-12)
    np.testing.assert_allclose(selective_scores(layer, "aire")[0], np.array(product) ** 2 * dwell, rtol=1e-10)


def test_scores_by_name():
    layer = LAYERS["mamba1"]
    assert selective_scores(layer, "random", seed=1).tolist() != selective_scores(layer, "random", seed=2).tolist()
    with pytest.raises(UnknownNameError, match="no criterion 'last'"):
        selective_scores(layer, "last")
    with pytest.raises(SelectionError, match="needs moments"):
        selective_scores(layer, "ghost")
    with pytest.raises(SelectionError, match="order must be from 1 to 3"):
        highest(np.ones((1, 3)), 4)
    assert highest(np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 3.0]]), 2).tolist() == [[0, 1], [1, 2]]


def test_the_surgeon_finds_states_that_are_not_needed():
    """States 2 and 3 repeat states 0 and 1, so two of the four can go without any error."""
    layer = random_layer("mamba1", width=6, order=4, seed=1)
    A_log, x_proj = layer.A_log.copy(), layer.x_proj.copy()
    A_log[:, 2:] = A_log[:, :2]
    x_proj[layer.rank + 2 : layer.rank + 4] = 3 * x_proj[layer.rank : layer.rank + 2]
    layer = replace(layer, A_log=A_log, x_proj=x_proj)
    u = inputs(layer)
    keep, mix = surgeon(selective_moments(layer, u), 2, ridge=1e-10)
    assert {k % 2 for k in keep} == {0, 1}
    smaller = replace(take_states(layer, keep), mix_C=mix, take_B=keep, x_proj=layer.x_proj)
    np.testing.assert_allclose(simulate(smaller, u), simulate(layer, u), rtol=1e-4, atol=1e-5)


def test_the_first_step_of_the_surgeon_is_the_best_one():
    """Dropping state k at the cost delta_k: compare with the minimum over the other rows, for each k."""
    layer = LAYERS["mamba1"]
    moments = selective_moments(layer, inputs(layer))
    N = moments.order
    G = joint_tensor(moments, 0).transpose(0, 2, 1, 3).reshape(N * N, N * N)
    costs = []
    for k in range(N):
        rows = np.delete(np.arange(N * N).reshape(N, N), k, axis=0).ravel()
        best = np.linalg.lstsq(G[np.ix_(rows, rows)], moments.cross[0].ravel()[rows], rcond=None)[0]
        costs.append(moments.energy[0] - moments.cross[0].ravel()[rows] @ best)
    keep, mix = surgeon(moments, N - 1, ridge=1e-12)
    assert set(range(N)) - set(keep.tolist()) == {int(np.argmin(costs))}
    M = np.zeros((1, N, N))
    M[0, keep] = mix
    assert relative_error(moments, M) ** 2 * moments.energy[0] == pytest.approx(min(costs), rel=1e-4)


def test_the_kronecker_surgeon_is_the_joint_one_where_the_moments_factor():
    layer = LAYERS["mamba1"]
    moments = selective_moments(layer, inputs(layer), joint=False)
    a, b = np.triu_indices(moments.order)
    P, Q = moments.contributions[0], moments.readouts[0]
    cross = P @ Q / moments.tokens
    joint = np.outer(P[a, b], Q[a, b])[None] / moments.tokens
    factored = replace(moments, joint=joint, cross=cross[None])
    keep, mix = surgeon(moments, 2)
    same, again = surgeon(factored, 2, ridge=1e-9)
    assert keep.tolist() == same.tolist()
    np.testing.assert_allclose(mix, again, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["mamba2", "mamba2 groups"])
def test_rotation_is_the_nearest_matrix_of_its_rank(name):
    """Eckart and Young: the error is the sum of the squares of the singular values that are left out."""
    layer = LAYERS[name]
    moments = selective_moments(layer, inputs(layer))
    values = balanced_values(moments)
    assert np.all(np.diff(values, axis=1) <= 0)
    for order in (1, 3, 6):
        mix_B, mix_C = rotate(moments, order)
        for g in range(layer.groups):
            F, K = (np.linalg.cholesky(m[g]) for m in (moments.contributions, moments.readouts))
            gap = F.T @ (mix_B[g].T @ mix_C[g] - np.eye(6)) @ K
            assert np.sum(gap**2) == pytest.approx(
                np.sum(values[g, order:] ** 2), rel=1e-6, abs=1e-6 * values[g, 0] ** 2
            )


def test_balanced_states_are_balanced():
    """In the new coordinates both moments are diagonal and equal."""
    layer = LAYERS["mamba2"]
    u = inputs(layer)
    mix_B, mix_C = rotate(selective_moments(layer, u), 6)
    moments = selective_moments(replace(layer, mix_B=mix_B, mix_C=mix_C), u)
    sigma = np.diag(balanced_values(selective_moments(layer, u))[0])
    np.testing.assert_allclose(moments.contributions[0], sigma, rtol=1e-5, atol=1e-6 * sigma[0, 0])
    np.testing.assert_allclose(moments.readouts[0], sigma, rtol=1e-5, atol=1e-6 * sigma[0, 0])


def test_alternating_least_squares_reaches_a_minimum():
    layer = LAYERS["mamba2"]
    moments = selective_moments(layer, inputs(layer))
    start = rotate(moments, 2)
    mix_B, mix_C = alternate(moments, *start, sweeps=200, ridge=1e-9)

    def error(flat):
        B, C = flat.reshape(2, 1, 2, 6)
        return relative_error(moments, B.swapaxes(1, 2) @ C)

    here = error(np.stack([mix_B, mix_C]).ravel())
    found = scipy.optimize.minimize(error, np.stack(start).ravel(), method="BFGS", options={"maxiter": 300})
    assert here < error(np.stack(start).ravel())
    assert here <= found.fun * (1 + 1e-4)


def test_bad_calls_are_named():
    layer = LAYERS["mamba2 groups"]
    moments = selective_moments(layer, inputs(layer), joint=False)
    with pytest.raises(SelectionError, match="order must be from 1 to 6, got 7"):
        rotate(moments, 7)
    with pytest.raises(SelectionError, match="joint moments"):
        alternate(moments, *rotate(moments, 2))
    with pytest.raises(SelectionError, match="one group"):
        surgeon(moments, 2)
