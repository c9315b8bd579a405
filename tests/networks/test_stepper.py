"""Networks sample by sample against the networks themselves."""

import threading

import numpy as np
import pytest
from support.oracles import random_ssm

import ssmreduce as sr
from ssmreduce.networks._program import Operation, Program

torch = pytest.importorskip("torch")
import torch_networks  # noqa: E402

from ssmreduce.networks._stepper import CompiledStepper  # noqa: E402
from ssmreduce.networks._torch_layers import SSMLayer  # noqa: E402
from ssmreduce.networks._torch_stepper import LayerStepper, module_program, prepared  # noqa: E402

NETWORKS = {
    "s5": torch_networks.s5_digits,
    "lru": torch_networks.lru_digits,
    "s4d": torch_networks.s4d_mnist1d,
}


def s5_pytorch(width=8, states=8):
    """Two blocks of s5-pytorch between linear maps."""
    S5Block = pytest.importorskip("s5").S5Block
    torch.manual_seed(0)
    blocks = [S5Block(width, states, bidir=False) for _ in range(2)]
    return torch.nn.Sequential(torch.nn.Linear(3, width), *blocks, torch.nn.Linear(width, 4)).eval()


class Mixer(torch.nn.Module):
    """Operations of many kinds around a drop-in of systems side by side; every output a sample."""

    def __init__(self, rng):
        super().__init__()
        self.encoder = torch.nn.Conv1d(2, 6, 1)
        self.layer = SSMLayer(random_ssm(rng, batch=(2,), m=3, p=4, conj_sym=True))
        self.norm = torch.nn.BatchNorm1d(8)
        self.gate = torch.nn.Linear(8, 8)

    def forward(self, u):
        x = torch.relu(self.encoder(u.transpose(1, 2))).transpose(1, 2)
        z = self.norm(self.layer(torch.nn.functional.silu(x) - 0.5).mT).mT
        a, b = self.gate(z).chunk(2, -1)
        return torch.tanh(a / 2) * torch.nn.functional.gelu(b, approximate="tanh") - 3 * (a - b)


class Odd(torch.nn.Module):
    """Uses a function that no program has."""

    def __init__(self, rng):
        super().__init__()
        self.layer = SSMLayer(random_ssm(rng, m=3, p=3))

    def forward(self, u):
        return torch.sin(self.layer(u))


def signal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def assert_near(y, expected, tolerance=2e-6):
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def whole(module, u):
    with torch.no_grad():
        return module(torch.from_numpy(u)).double().numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_of_a_classifier_are_its_answers_so_far(rng, name):
    module = NETWORKS[name]()
    step, u = sr.networks.stepper(module), signal(rng, 40, 1)
    assert isinstance(step, CompiledStepper)
    assert step.pooled
    y = np.stack([step(v) for v in u])
    for length in (1, 17, 40):
        assert_near(y[length - 1], whole(module, u[None, :length])[0], 1e-5)
    step.reset()
    np.testing.assert_array_equal(step.run(u), y)


def test_reduced_networks(rng):
    module = NETWORKS["s4d"]()
    model = sr.network(module).model
    small = sr.replace_layers(module, sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.8)))
    step, u = sr.networks.stepper(small), signal(rng, 30, 1)
    assert step.state.shape == (1, step.program.states)
    assert step.program.states < CompiledStepper(module_program(module, None), 1, "single").program.states
    assert_near(step.run(u)[-1], whole(small, u[None])[0], 1e-5)


@pytest.mark.parametrize("make", [lambda rng: s5_pytorch(), lambda rng: Mixer(rng).eval()], ids=["s5-pytorch", "mixer"])
@pytest.mark.parametrize("state_dtype", ["single", "double"])
def test_outputs_of_every_sample(rng, make, state_dtype):
    module = make(rng)
    step = sr.networks.stepper(module, state_dtype=state_dtype)
    assert isinstance(step, CompiledStepper)
    assert not step.pooled
    u = signal(rng, 50, step.width)
    expected = whole(module, u[None])[0]
    assert_near(np.concatenate([step.run(u[:20]), [step(v) for v in u[20:]]]), expected, 5e-6)
    assert step.state.dtype == {"single": np.float32, "double": np.float64}[state_dtype]


def test_streams_are_independent(rng):
    module = Mixer(rng).eval()
    one = sr.networks.stepper(module)
    many = one.fork(5)
    u = signal(rng, 5, 30, 2)
    y = many.run(u)
    for k in range(5):
        one.reset()
        assert_near(y[k], one.run(u[k]), 5e-6)
    many.reset()
    np.testing.assert_array_equal(many(u[:, 0]), y[:, 0])


@pytest.mark.parametrize("make", [Mixer, Odd])
def test_states_are_kept_and_set_again(rng, make):
    step = sr.networks.stepper(make(rng).eval(), streams=2)
    u = signal(rng, 2, 20, step.width)
    first = step.run(u[:, :10])
    saved, rest = step.state, step.run(u[:, 10:])
    other = step.fork()
    other.state = saved
    np.testing.assert_array_equal(other.run(u[:, 10:]), rest)
    other.reset()
    np.testing.assert_array_equal(other.run(u[:, :10]), first)


def test_unknown_operations_run_layer_by_layer(rng):
    module = Odd(rng).eval()
    step = sr.networks.stepper(module, streams=3)
    assert isinstance(step, LayerStepper)
    u = signal(rng, 3, 20, 3)
    assert_near(step.run(u), whole(module, u), 5e-6)
    assert_near(module(torch.from_numpy(u)).detach(), whole(module, u), 5e-6)


def test_layers_that_are_called_in_vmap_run_layer_by_layer_too(rng):
    module, width = prepared(s5_pytorch(), None)
    u = signal(rng, 2, 10, width)
    assert_near(LayerStepper(module, width, 2).run(u), whole(module, u), 5e-6)


def test_threads_take_turns_and_forks_do_not_mix(rng):
    step = sr.networks.stepper(Mixer(rng).eval())
    u = signal(rng, 200, 2)
    expected, found = step.run(u), {}

    def work(k, own):
        found[k] = np.stack([own(v) for v in u])

    threads = [threading.Thread(target=work, args=(k, step.fork())) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for y in found.values():
        np.testing.assert_array_equal(y, expected)
    step.reset()
    shared = [threading.Thread(target=lambda: [step(v) for v in u[:50]]) for _ in range(4)]
    for thread in shared:
        thread.start()
    for thread in shared:
        thread.join()
    assert np.isfinite(step.state).all()


def long_error(rng, length, state_dtype):
    """Of outputs by steps against the parallel form in double precision, with slow poles."""
    module = Mixer(rng).eval()
    module.layer = SSMLayer(random_ssm(rng, batch=(2,), m=3, p=4, conj_sym=True, radius=(0.99, 0.9999)))
    step, u = sr.networks.stepper(module, state_dtype=state_dtype), signal(rng, length, 2)
    expected = whole(module.double(), u[None].astype(float))[0]
    return np.abs(step.run(u) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(("state_dtype", "tolerance"), [("single", 2e-5), ("double", 5e-6)])
def test_steps_agree_with_the_parallel_form(rng, state_dtype, tolerance):
    assert long_error(rng, 2000, state_dtype) < tolerance


@pytest.mark.slow
@pytest.mark.parametrize(("state_dtype", "tolerance"), [("single", 5e-5), ("double", 5e-6)])
def test_steps_agree_over_100000(rng, state_dtype, tolerance):
    assert long_error(rng, 100_000, state_dtype) < tolerance


class Later(torch.nn.Module):
    """Looks at the sample after."""

    def __init__(self, rng):
        super().__init__()
        self.layer = SSMLayer(random_ssm(rng, m=3, p=3))

    def forward(self, u):
        y = self.layer(u)
        return y + y.roll(-1, 1)


class Turned(Later):
    """Exchanges time and channels."""

    def forward(self, u):
        y = self.layer(u)
        return y * torch.softmax(y, 1)


@pytest.mark.parametrize("make", [Later, Turned])
def test_networks_that_look_at_other_samples_are_refused(rng, make):
    with pytest.raises(sr.errors.EvaluationError, match="sample by sample"):
        sr.networks.stepper(make(rng))


def test_bad_calls_are_named(rng):
    with pytest.raises(sr.errors.ArgumentError, match=r"torch\.nn\.Module"):
        sr.networks.stepper(np.zeros(3))
    with pytest.raises(sr.errors.NotCausalError, match="later samples"):
        sr.networks.stepper(torch_networks.s5_bidirectional_digits())
    module = Mixer(rng).eval()
    with pytest.raises(sr.errors.UnknownNameError, match="state_dtype"):
        sr.networks.stepper(module, state_dtype="half")
    with pytest.raises(sr.errors.OptionError, match="streams"):
        sr.networks.stepper(module, streams=0)
    step = sr.networks.stepper(module)
    with pytest.raises(sr.errors.ShapeError, match=r"expected \(2,\)"):
        step(np.zeros((1, 2)))
    with pytest.raises(sr.errors.ShapeError, match=r"expected \(L, 2\)"):
        step.run(np.zeros((5, 3)))
    with pytest.raises(sr.errors.ShapeError, match="state"):
        step.state = np.zeros(3)
    with pytest.raises(sr.errors.NonFiniteError, match="state"):
        step.state = np.full_like(step.state, np.nan)


def test_values_that_are_done_give_up_their_place():
    ones = np.ones(4)
    chain = [Operation("affine", (k,), 4, (ones, ones)) for k in range(6)]
    offsets, size = Program(4, (*chain, Operation("add", (6, 1), 4)), False).value_offsets()
    assert size == 12
    for k in range(1, 7):
        assert offsets[k] != offsets[k + 1]
        assert offsets[1] not in offsets[2:7]
