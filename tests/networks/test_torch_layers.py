"""Drop-in PyTorch layers against simulate, autograd through a plain loop, and what PyTorch does to modules."""

import copy
import warnings

import numpy as np
import pytest
from support.oracles import random_ssm

import ssmreduce as sr

torch = pytest.importorskip("torch")
from ssmreduce.networks._torch_calls import (  # noqa: E402
    KernelLayer,
    LRULayer,
    PairLayer,
    S5PyTorchLayer,
    empty_layer,
)
from ssmreduce.networks._torch_layers import SSMLayer  # noqa: E402
from ssmreduce.networks._torch_run import run_matrices  # noqa: E402

KINDS = {
    "causal": {},
    "conjugate-pairs": {"conj_sym": True},
    "two-sided": {"bidirectional": True, "conj_sym": True},
    "features": {"batch": (3,), "m": 1, "p": 1, "conj_sym": True},
    "features-two-sided": {"batch": (3,), "m": 1, "p": 1, "bidirectional": True},
    "batch": {"batch": (2,)},
    "unstable": {"radius": (0.9, 1.05)},
}
CAUSAL = [kind for kind in KINDS if "two-sided" not in kind]


def system(rng, kind, n=4):
    return random_ssm(rng, n=n, **KINDS[kind])


def width(ssm):
    return ssm.systems * ssm.inputs


def signal(rng, ssm, length=25, batch=2):
    return rng.standard_normal((batch, length, width(ssm)))


def assert_close(got, expected, tolerance):
    got = got.detach().numpy() if isinstance(got, torch.Tensor) else got
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_the_system(rng, kind, dtype, tolerance):
    ssm = system(rng, kind)
    layer, u = SSMLayer(ssm, dtype=dtype), signal(rng, ssm)
    expected = sr.simulate(ssm, u)
    assert_close(layer(torch.tensor(u, dtype=dtype)), expected, tolerance)
    assert_close(layer(torch.tensor(u[0], dtype=dtype)), expected[0], tolerance)
    assert_close(sr.simulate(layer.system(), u), expected, tolerance)
    first = SSMLayer(ssm, dtype=dtype, channels_first=True)
    assert_close(first(torch.tensor(u, dtype=dtype).transpose(1, 2)).transpose(1, 2), expected, tolerance)
    assert all(not p.is_complex() for p in layer.state_dict().values())


@pytest.mark.parametrize("kind", CAUSAL)
def test_chunks_and_steps_carry_the_state(rng, kind):
    ssm = system(rng, kind)
    layer, u = SSMLayer(ssm, dtype=torch.float64), torch.tensor(signal(rng, ssm))
    whole, parts, state = layer(u), [], layer.initial_state(2)
    for part in u.split([1, 10, 14], dim=1):
        y, state = layer.run(part, state, carry=True)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-11 * whole.abs().max().item())
    steps, state = [], layer.initial_state(2)
    for k in range(u.shape[1]):
        y, state = layer.step(u[:, k], state)
        steps.append(y)
    torch.testing.assert_close(torch.stack(steps, 1), whole, rtol=0, atol=1e-11 * whole.abs().max().item())


@pytest.mark.parametrize("length", [2048, pytest.param(16384, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["conjugate-pairs", "features"])
def test_steps_equal_the_parallel_form_over_long_sequences(rng, kind, length):
    ssm = random_ssm(rng, n=4, radius=(0.99, 0.9999), **KINDS[kind])
    layer, u = SSMLayer(ssm), torch.tensor(signal(rng, ssm, length, batch=1), dtype=torch.float32)
    with torch.no_grad():
        whole, state, steps = layer(u), layer.initial_state(1), []
        for k in range(u.shape[1]):
            y, state = layer.step(u[:, k], state)
            steps.append(y)
    assert (torch.stack(steps, 1) - whole).abs().max() <= 1e-5 * whole.abs().max()


def loop_output(layer, u):
    """The layer's equations in an explicit loop over time, of complex tensors."""
    Lambda, B, C, C_reverse, D = (None if m is None else m for m in layer.matrices())
    Lambda, B, C = (torch.view_as_complex(m) for m in (Lambda, B, C))
    owner, s = layer.owner, layer.systems
    own = u.unflatten(-1, (s, layer.inputs))[:, :, owner]
    driven = (own.to(B.dtype) * B).sum(-1)

    def half(driven, C):
        x, states = torch.zeros_like(driven[:, 0]), []
        for v in driven.unbind(1):
            x = Lambda * x + v
            states.append(x)
        terms = (torch.stack(states, 1)[..., None] * C).real
        return torch.stack([terms[:, :, owner == i].sum(2) for i in range(s)], 2).flatten(-2)

    y = half(driven, C)
    if C_reverse is not None:
        y = y + half(driven.flip(1), torch.view_as_complex(C_reverse)).flip(1)
    D = torch.stack([torch.diag(d) for d in D.reshape(s, -1)]) if D.ndim == 1 else D
    return y + torch.einsum("blsm,spm->blsp", u.unflatten(-1, (s, layer.inputs)), D).flatten(-2)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_loop(rng, kind):
    ssm = system(rng, kind)
    u = torch.tensor(signal(rng, ssm, 12))
    found = []
    for run in (lambda layer, u: layer(u), loop_output):
        layer, v = SSMLayer(ssm, dtype=torch.float64), u.clone().requires_grad_(True)
        run(layer, v).square().sum().backward()
        found.append([v.grad, *(p.grad for p in layer.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10 * theirs.abs().max().item())


def test_different_numbers_of_states_down_to_none(rng):
    ssm = system(rng, "features")
    valid = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
    silent = sr.DiagonalSSM(ssm.Lambda, ssm.B * valid[..., None], ssm.C * valid[:, None], ssm.D, conj_sym=True)
    u = signal(rng, ssm)
    for layer in (SSMLayer(ssm, valid=valid, dtype=torch.float64), SSMLayer(silent, dtype=torch.float64)):
        assert layer.states == 6
        assert_close(layer(torch.tensor(u)), sr.simulate(silent, u), 1e-12)
        y, state = layer.run(torch.tensor(u), carry=True)
        assert state.shape == (2, 6, 2)
        assert_close(y, sr.simulate(silent, u), 1e-12)
    none = SSMLayer(ssm, valid=np.zeros_like(valid), dtype=torch.float64)
    assert_close(none(torch.tensor(u)), u * ssm.D[:, 0, 0], 1e-15)
    y, state = none.step(torch.tensor(u[:, 0]), none.initial_state(2))
    assert state.shape == (2, 0, 2)


def test_poles_stay_on_their_side_of_the_unit_circle(rng):
    layer = SSMLayer(system(rng, "unstable"), dtype=torch.float64)
    before = np.abs(layer.system().Lambda) < 1
    assert before.any()
    assert not before.all()
    with torch.no_grad():
        layer.log_rate += 3 * torch.randn(layer.states, generator=torch.manual_seed(0), dtype=torch.float64)
    np.testing.assert_array_equal(np.abs(layer.system().Lambda) < 1, before)


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_and_description_make_the_layer_anew(rng, kind):
    ssm = system(rng, kind)
    layer, u = SSMLayer(ssm), torch.tensor(signal(rng, ssm), dtype=torch.float32)
    other = empty_layer(**layer.description())
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(u), layer(u))
    assert torch.equal(copy.deepcopy(layer)(u), layer(u))
    read = sr.read(layer)
    assert read.layers == (".",)
    assert_close(sr.simulate(read["."], u.double().numpy()), layer(u).detach().double().numpy(), 1e-5)


@pytest.mark.parametrize("kind", ["causal", "two-sided", "features"])
def test_compiles_to_one_graph(rng, kind):
    ssm = system(rng, kind)
    layer, u = SSMLayer(ssm), torch.tensor(signal(rng, ssm), dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own deprecations
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        y = compiled(u)
        y.square().sum().backward()
    gradients = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    plain = layer(u)
    plain.square().sum().backward()
    torch.testing.assert_close(y, plain, rtol=1e-5, atol=1e-5)
    for ours, p in zip(gradients, layer.parameters(), strict=True):
        torch.testing.assert_close(ours, p.grad, rtol=0, atol=1e-4 * p.grad.abs().max().item())


def test_autocast_keeps_the_precision_of_the_layer(rng):
    ssm = system(rng, "causal")
    layer, u = SSMLayer(ssm), torch.tensor(signal(rng, ssm), dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(u), layer(u))
        assert layer(u.bfloat16()).dtype == torch.bfloat16
        inside = layer(u)
    torch.testing.assert_close(inside, layer(u), rtol=0, atol=0)


def test_vmap_grad_and_functional_call(rng):
    ssm = system(rng, "causal")
    layer, u = SSMLayer(ssm, dtype=torch.float64), torch.tensor(signal(rng, ssm))
    torch.testing.assert_close(torch.vmap(layer)(u), layer(u))
    parameters = dict(layer.named_parameters())

    def loss(parameters, u):
        return torch.func.functional_call(layer, parameters, (u,)).square().sum()

    each = torch.vmap(torch.func.grad(loss), (None, 0))(parameters, u)
    whole = torch.func.grad(loss)(parameters, u)
    for name, value in whole.items():
        torch.testing.assert_close(each[name].sum(0), value)


def test_calls_of_the_families(rng):
    ssm = system(rng, "causal")
    u = torch.tensor(signal(rng, ssm))
    options = {"dtype": torch.float64}
    plain = SSMLayer(ssm, **options)(u)
    y, nothing = PairLayer(ssm, **options)(u)
    assert torch.equal(y, plain)
    assert nothing is None
    s5 = S5PyTorchLayer(ssm, **options)
    y, state = torch.vmap(lambda one, scale: s5(one, step_scale=scale, return_state=True))(u[:, :10], torch.ones(2))
    rest = torch.vmap(lambda one, x: s5(one, state=x))(u[:, 10:], state)
    torch.testing.assert_close(torch.cat([y, rest], 1), plain)
    y, _ = s5.forward_rnn(u[:, 10], state)
    torch.testing.assert_close(y, plain[:, 10])
    with pytest.raises(sr.errors.ArgumentError, match="step_scale"):
        s5(u[0], step_scale=2.0)
    lru = LRULayer(ssm, **options)
    assert torch.equal(lru(u, None, "scan"), plain)
    start = torch.randn(ssm.order, dtype=torch.complex128, generator=torch.manual_seed(0))
    pairs = torch.view_as_real(start).expand(2, -1, -1)
    torch.testing.assert_close(lru(u, start), plain + (lru.run(u, pairs)[0] - plain))
    assert (lru(u, start) != plain).any()
    features = system(rng, "features")
    impulse = np.zeros((9, 3))
    impulse[0] = 1
    kernel = KernelLayer(features, **options)(L=9)
    assert_close(kernel, sr.simulate(features, impulse).T - features.D[:, :, 0] * impulse.T, 1e-12)


def test_bad_calls_are_named(rng):
    causal, two_sided = system(rng, "causal"), system(rng, "two-sided")
    layer = SSMLayer(causal)
    u = torch.zeros(2, 5, width(causal))
    with pytest.raises(sr.errors.ArgumentError, match="more than its input"):
        layer(u, torch.zeros(1))
    with pytest.raises(sr.errors.ShapeError, match="expected"):
        layer(torch.zeros(2, 5, 99))
    with pytest.raises(sr.errors.NotCausalError, match="state"):
        SSMLayer(two_sided).run(torch.zeros(2, 5, width(two_sided)), carry=True)
    with pytest.raises(sr.errors.ArgumentError, match="kernel"):
        KernelLayer(causal)
    with pytest.raises(sr.errors.ShapeError, match="valid"):
        SSMLayer(causal, valid=np.ones((1, 2), dtype=bool))
    with pytest.raises(sr.errors.UnknownNameError, match="call"):
        empty_layer(call="other", counts=[1], inputs=1, outputs=1)


def test_matrices_can_be_given(rng):
    """What networks run while they are being reduced."""
    ssm, other = system(rng, "causal"), system(rng, "causal")
    layer, u = SSMLayer(ssm, dtype=torch.float64), torch.tensor(signal(rng, ssm))
    matrices = SSMLayer(other, dtype=torch.float64).matrices()
    layer.give(matrices)
    torch.testing.assert_close(layer(u), run_matrices(matrices, u, layer.owner, 1)[0])
