"""Moments of selective layers against sums over a plain transcription, summed in any parts."""

import numpy as np
import pytest
from support import selective_oracles as oracle
from support.selective_layers import layers

from ssmreduce.errors import ArrayKindError, SelectionError, ShapeError
from ssmreduce.selective import relative_error, selective_moments
from ssmreduce.selective._moments import joint_tensor

LAYERS = layers()


def inputs(layer, seed=8, length=9):
    return np.random.default_rng(seed).standard_normal((3, length, layer.inputs))


def summed(layer, u, target):
    """The definitions of the moments, term by term."""
    G, N = layer.groups, layer.order
    P, Q, R, energy = np.zeros((G, N, N)), np.zeros((G, N, N)), np.zeros((G, N, N)), np.zeros(G)
    joint, by_state = np.zeros((G, N, N, N, N)), np.zeros((G, N))
    for sequence, wanted in zip(u, target, strict=True):
        parts = oracle.parts(layer, sequence)
        for t in range(len(sequence)):
            delta = wanted[t] - parts["output"][t]
            for g in range(G):
                H, C = parts["features"][t, g], parts["C"][t, g]
                S = H.T @ H
                P[g] += S
                Q[g] += np.outer(C, C)
                R[g] += np.outer(S @ C + H.T @ delta / G, C)
                energy[g] += np.sum((H @ C + delta / G) ** 2)
                by_state[g] += np.diag(S) * C**2
                joint[g] += S[:, :, None, None] * np.outer(C, C)
    return P, Q, R, energy, by_state, joint


@pytest.mark.parametrize("name", LAYERS)
def test_moments_equal_their_definitions(name):
    layer = LAYERS[name]
    u = inputs(layer)
    target = np.random.default_rng(4).standard_normal((3, 9, layer.outputs))
    moments = selective_moments(layer, u, target)
    P, Q, R, energy, by_state, joint = summed(layer, u, target)
    np.testing.assert_allclose(moments.contributions, P, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(moments.readouts, Q, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(moments.cross, R, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(moments.energy, energy, rtol=1e-9)
    np.testing.assert_allclose(moments.by_state, by_state, rtol=1e-9, atol=1e-12)
    for g in range(layer.groups):
        np.testing.assert_allclose(joint_tensor(moments, g), joint[g], rtol=1e-9, atol=1e-11)
    assert moments.tokens == 27


@pytest.mark.parametrize("name", ["mamba1", "mamba2 groups"])
def test_moments_are_sums(name):
    layer = LAYERS[name]
    u = inputs(layer)
    whole, parts = selective_moments(layer, u), selective_moments(layer, u[:1]) + selective_moments(layer, u[1:])
    for field in ("contributions", "readouts", "cross", "energy", "by_state", "raw", "joint"):
        np.testing.assert_allclose(getattr(parts, field), getattr(whole, field), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["mamba1", "mamba1 both ways", "mamba2 groups"])
def test_random_combinations_of_the_outputs_estimate_the_moments(name):
    layer = LAYERS[name]
    u = inputs(layer, length=40)
    target = np.random.default_rng(4).standard_normal((3, 40, layer.outputs))
    exact = selective_moments(layer, u, target)
    draws = [selective_moments(layer, u, target, probes=16, seed=seed) for seed in range(40)]
    for field in ("contributions", "cross", "energy", "joint"):
        values = np.array([getattr(draw, field) for draw in draws])
        spread = values.std(axis=0, ddof=1) / np.sqrt(len(draws))
        distance = np.abs(values.mean(axis=0) - getattr(exact, field))
        assert np.all(distance <= 5 * spread + 1e-9), field
        assert np.linalg.norm(distance) < 0.25 * np.linalg.norm(getattr(exact, field)), field


@pytest.mark.parametrize("name", ["mamba1", "mamba1 both ways", "mamba2 no norm"])
def test_relative_error_is_that_of_the_layer(name):
    """Without a norm and with one group J is exact: run the layer with the mix."""
    layer = LAYERS[name]
    u = inputs(layer)
    mix = np.random.default_rng(1).standard_normal((layer.order, layer.order))
    target = np.random.default_rng(4).standard_normal((3, 9, layer.outputs))
    error = energy = 0.0
    for sequence, wanted in zip(u, target, strict=True):
        parts = oracle.parts(layer, sequence)
        mixed = np.einsum("tdn,nm,tm->td", parts["features"][:, 0], mix, parts["C"][:, 0])
        error += np.sum((wanted - parts["rest"] - mixed) ** 2)
        energy += np.sum((wanted - parts["rest"]) ** 2)
    moments = selective_moments(layer, u, target)
    assert relative_error(moments, mix[None]) == pytest.approx(np.sqrt(error / energy), rel=1e-9)


def test_bad_calls_are_named():
    layer = LAYERS["mamba1"]
    u = inputs(layer)
    with pytest.raises(SelectionError, match="probes must be a positive integer"):
        selective_moments(layer, u, probes=0)
    with pytest.raises(ShapeError, match="target has shape"):
        selective_moments(layer, u, u[:, :, :3])
    with pytest.raises(ShapeError, match="cannot be added"):
        selective_moments(layer, u) + selective_moments(layer, u, joint=False)
    torch = pytest.importorskip("torch")
    with pytest.raises(ArrayKindError, match="NumPy"):
        selective_moments(layer.map_arrays(torch.as_tensor), u)
