"""Running selective layers: against a plain transcription, in chunks, token by token, and in PyTorch."""

from dataclasses import replace

import numpy as np
import pytest
from support import selective_oracles as transcriptions
from support.selective_layers import layers

from ssmreduce.errors import ArrayKindError, NotCausalError, SelectionError, ShapeError
from ssmreduce.selective import (
    absorb,
    initial_state,
    random_layer,
    run,
    silence_states,
    simulate,
    step,
    take_states,
)

LAYERS = layers()
CAUSAL = [name for name, layer in LAYERS.items() if layer.causal]


def inputs(layer, length=13):
    return np.random.default_rng(8).standard_normal((3, length, layer.inputs))


@pytest.mark.parametrize("name", LAYERS)
def test_simulate_equals_a_transcription(name):
    layer = LAYERS[name]
    u = inputs(layer)
    np.testing.assert_allclose(simulate(layer, u), transcriptions.simulate(layer, u), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", CAUSAL)
def test_chunks_and_single_steps_equal_the_whole(name):
    layer = LAYERS[name]
    u = inputs(layer)
    whole, end = run(layer, u)
    first, state = run(layer, u[:, :5])
    rest, last = run(layer, u[:, 5:], state)
    np.testing.assert_allclose(np.concatenate([first, rest], axis=1), whole, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(last.ssm, end.ssm, rtol=1e-12, atol=1e-13)
    state = initial_state(layer, 3)
    for t in range(u.shape[1]):
        y, state = step(layer, u[:, t], state)
        np.testing.assert_allclose(y, whole[:, t], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", LAYERS)
def test_torch_equals_numpy(name):
    torch = pytest.importorskip("torch")
    layer = LAYERS[name]
    u = inputs(layer, length=150)
    tensors = layer.map_arrays(torch.as_tensor)
    np.testing.assert_allclose(simulate(tensors, torch.as_tensor(u)).numpy(), simulate(layer, u), rtol=1e-9, atol=1e-11)
    if layer.causal:
        _, state = run(tensors, torch.as_tensor(u[:, :70]))
        y, state = run(tensors, torch.as_tensor(u[:, 70:149]), state)
        np.testing.assert_allclose(y.numpy(), simulate(layer, u)[:, 70:149], rtol=1e-9, atol=1e-11)
        y, _ = step(tensors, torch.as_tensor(u[:, 149]), state)
        np.testing.assert_allclose(y.numpy(), simulate(layer, u)[:, 149], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["mamba1 biases", "mamba1 norms", "mamba2", "mamba2 mixed", "mamba2 no norm"])
def test_gradients_equal_finite_differences(name):
    torch = pytest.importorskip("torch")
    layer = LAYERS[name]
    u = torch.as_tensor(inputs(layer, length=7))
    weights = torch.as_tensor(np.random.default_rng(1).standard_normal((3, 7, layer.outputs)))

    def loss(A_log):
        return (
            simulate(layer.map_arrays(lambda v: A_log if v is layer.A_log else torch.as_tensor(v)), u) * weights
        ).sum()

    assert torch.autograd.gradcheck(loss, torch.as_tensor(layer.A_log).clone().requires_grad_())


@pytest.mark.parametrize("name", LAYERS)
def test_taking_states_equals_silencing_the_others(name):
    layer = LAYERS[name]
    drop = [1] if layer.order < 3 else [0, 2]
    keep = np.setdiff1d(np.arange(layer.order), drop)
    if layer.kind == "mamba1" and layer.norm_eps is not None:
        mix = np.eye(layer.rows) if layer.mix_C is None else layer.mix_C.copy()
        mix[drop] = 0
        silent = replace(layer, mix_C=mix)
    else:
        silent = silence_states(layer, drop)
    u = inputs(layer)
    smaller = take_states(layer, keep)
    assert smaller.order == len(keep)
    np.testing.assert_allclose(simulate(smaller, u), simulate(silent, u), rtol=1e-11, atol=1e-12)


def test_absorbing_a_mix_changes_nothing():
    layer = LAYERS["mamba1 mixed"]
    stock = absorb(layer)
    assert stock.mix_C is None
    assert stock.take_B is None
    assert stock.x_proj.shape[0] == stock.rank + 2 * layer.order
    u = inputs(layer)
    np.testing.assert_allclose(simulate(stock, u), simulate(layer, u), rtol=1e-11, atol=1e-12)


def test_any_change_of_basis_of_the_states_of_a_mamba2_layer_leaves_it_unchanged():
    layer = LAYERS["mamba2 groups"]
    T = np.random.default_rng(0).standard_normal((2, 6, 6))
    rotated = replace(layer, mix_B=T, mix_C=np.linalg.inv(T).swapaxes(1, 2))
    u = inputs(layer)
    np.testing.assert_allclose(simulate(rotated, u), simulate(layer, u), rtol=1e-8, atol=1e-10)


def test_bad_input_is_named():
    layer = LAYERS["mamba1"]
    with pytest.raises(ShapeError, match=r"u has shape \(3, 13, 7\)"):
        simulate(layer, np.ones((3, 13, 7)))
    with pytest.raises(ArrayKindError, match="float32"):
        simulate(layer, np.ones((3, 13, 6), dtype=np.float32))
    with pytest.raises(SelectionError, match="increasing"):
        take_states(layer, [2, 1])
    with pytest.raises(SelectionError, match="at least one"):
        take_states(layer, [])
    with pytest.raises(SelectionError, match="one row per group"):
        take_states(LAYERS["mamba2"], [[0], [1]])
    with pytest.raises(NotCausalError, match="bidirectional"):
        run(LAYERS["mamba1 both ways"], inputs(layer), initial_state(layer, 3))
    with pytest.raises(ShapeError, match="x_proj"):
        replace(random_layer("mamba1", 6, 5), x_proj=np.ones((12, 12)))
    with pytest.raises(ShapeError, match="mix_B and mix_C"):
        replace(LAYERS["mamba2"], mix_B=np.ones((1, 2, 6)))
