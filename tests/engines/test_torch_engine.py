"""The PyTorch engine: values, first and second derivatives, torch.func and torch.compile."""

import shutil

import numpy as np
import pytest
from support.oracles import (
    assert_long_gradients_are_exact,
    assert_long_layer_is_exact,
    complex_normal,
    converted,
    largest_errors,
    loop_scan,
    loop_simulate,
    mp_scan,
    random_ssm,
    slow_scan_case,
)

from ssmreduce import DiagonalSSM, scan, simulate
from ssmreduce.engines import engine_for
from ssmreduce.responses import simulate_chunk

torch = pytest.importorskip("torch")

from ssmreduce.engines import _torch  # noqa: E402

DIRECTIONS = pytest.mark.parametrize("reverse", [False, True])
# torch.compile remarks on the cached look-ups of array-api-compat and on itself, forward derivatives on torch.jit
pytestmark = [
    pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*Function.* should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex:UserWarning"),
]


def tensor(array, **options):
    return torch.tensor(np.array(array), **options)


def scan_case(rng, systems=2, rows=3, length=5, n=2, *, requires_grad=True):
    """Lambda (S, n), inputs (S, R, L, n), state (S, R, n)."""
    Lambda = rng.uniform(0.3, 1.1, (systems, n)) * np.exp(1j * rng.uniform(-np.pi, np.pi, (systems, n)))
    arrays = Lambda, complex_normal(rng, systems, rows, length, n), complex_normal(rng, systems, rows, n)
    return [tensor(a, requires_grad=requires_grad) for a in arrays]


def looped(Lambda, inputs, state, *, reverse):
    Lambda, inputs, state = (t.detach().numpy() for t in (Lambda, inputs, state))
    states = [
        [loop_scan(Lambda[s], inputs[s, r], state[s, r], reverse=reverse) for r in range(inputs.shape[1])]
        for s in range(len(Lambda))
    ]
    return np.array(states)


def layer(rng, *, batch=(), bidirectional=True):
    """Parameters, input and first states of a layer, and how to run it."""
    ssm = random_ssm(rng, 3, 2, 2, batch=batch, bidirectional=bidirectional, conj_sym=True)
    u = rng.normal(size=(2, 6, int(np.prod(batch, dtype=int)) * 2))
    arrays = [ssm.Lambda, ssm.B, ssm.C, ssm.D, ssm.C_reverse, u, complex_normal(rng, 2, *batch, 3)]
    leaves = [tensor(a, requires_grad=True) for a in arrays if a is not None]

    def run(Lambda, B, C, D, *rest, engine=None, strict=False):
        C_reverse, rest = (rest[0], rest[1:]) if bidirectional else (None, rest)
        given = {"state": rest[1], "strict_reverse": strict, "engine": engine}
        if bidirectional:
            given["state_reverse"] = rest[1].conj()
        chunk = simulate_chunk(DiagonalSSM(Lambda, B, C, D, C_reverse, True), rest[0], **given)
        return (chunk.output, chunk.state) + ((chunk.state_reverse,) if bidirectional else ())

    return leaves, run


def test_it_is_the_default():
    assert engine_for(torch.ones(1), None) is _torch


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("lead", "length", "batch", "n"), [((2, 3), 5, (), 4), ((), 1, (3,), 2), ((0,), 3, (2,), 2), ((2,), 4, (), 0)]
)
def test_against_loops(rng, lead, length, batch, n, dtype, strict):
    ssm = random_ssm(rng, n, 2, 3, batch=batch, bidirectional=True, conj_sym=True)
    u = rng.normal(size=(*lead, length, int(np.prod(batch, dtype=int)) * 2)).astype(dtype)
    starts = {name: complex_normal(rng, *lead, *batch, n) for name in ("state", "state_reverse")}
    given = {name: tensor(a) for name, a in starts.items()}
    chunk = simulate_chunk(converted(ssm, tensor), tensor(u), **given, strict_reverse=strict, engine="torch")
    expected = loop_simulate(ssm, u.astype(float), **starts, strict=strict)
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    for actual, value in zip((chunk.output, chunk.state, chunk.state_reverse), expected, strict=True):
        scale = np.abs(value).max(initial=0.0)
        np.testing.assert_allclose(actual.numpy(), value, rtol=tolerance, atol=tolerance * scale)


@DIRECTIONS
def test_conjugate_negative_and_strided_tensors(rng, reverse):
    Lambda, inputs, state = scan_case(rng, requires_grad=False)
    views = Lambda.conj(), torch.imag(inputs.conj()).to(torch.complex128).conj(), state.conj().flip(1)
    wide = torch.stack([inputs, inputs], dim=-1).movedim(2, 0).movedim(0, 2)[..., 0]
    for given in (views, (Lambda, wide, state.mT.contiguous().mT)):
        kept = [t.clone() for t in given]
        states = _torch.scan(*given, reverse=reverse)
        np.testing.assert_allclose(states.numpy(), looped(*kept, reverse=reverse), rtol=1e-13, atol=1e-13)
        for before, after in zip(kept, given, strict=True):
            assert torch.equal(before, after)


def test_host_memory_is_not_copied():
    plain = torch.ones(3, 2, dtype=torch.complex128)
    assert _torch._host(plain).ctypes.data == plain.data_ptr()


# ---------------------------------------------------------------- derivatives


@DIRECTIONS
def test_derivatives_of_the_scan_are_those_of_differences(rng, reverse):
    def function(*tensors):
        return _torch.scan(*tensors, reverse=reverse)

    case = scan_case(rng)
    assert torch.autograd.gradcheck(function, case, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, case)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_derivatives_of_a_layer_are_those_of_differences(rng, batch, bidirectional):
    """Of output and last states, with respect to all parameters, input and first states."""
    leaves, run = layer(rng, batch=batch, bidirectional=bidirectional)
    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize("strict", [False, True])
def test_derivatives_are_those_of_the_reference_loop(rng, strict):
    leaves, run = layer(rng, batch=(2,))
    weights = [torch.randn_like(t) for t in run(*leaves)]
    gradients = [
        torch.autograd.grad(run(*leaves, engine=engine, strict=strict), leaves, weights)
        for engine in (None, "reference")
    ]
    for own, reference in zip(*gradients, strict=True):
        np.testing.assert_allclose(own.numpy(), reference.numpy(), rtol=1e-12, atol=1e-12)


def test_poles_that_need_no_gradient(rng):
    Lambda, inputs, state = scan_case(rng)
    gradient = torch.autograd.grad(_torch.scan(Lambda.detach(), inputs, state, reverse=False).abs().sum(), inputs)[0]
    both = torch.autograd.grad(_torch.scan(Lambda, inputs, state, reverse=False).abs().sum(), (inputs, Lambda))
    assert torch.equal(gradient, both[0])


# ---------------------------------------------------------------- torch.func and torch.compile


@DIRECTIONS
@pytest.mark.parametrize("axes", [(0, None, None), (None, 2, 1), (1, 0, None), (0, 0, 0)])
def test_vmap(rng, axes, reverse):
    tensors = scan_case(rng, requires_grad=False)
    mapped = [
        t if axis is None else torch.stack([t, 0.5 * t, 1j * t], dim=axis)
        for t, axis in zip(tensors, axes, strict=True)
    ]

    def function(*given):
        return _torch.scan(*given, reverse=reverse)

    actual = torch.func.vmap(function, in_dims=axes)(*mapped)
    for i in range(3):
        one = [t if axis is None else t.select(axis, i) for t, axis in zip(mapped, axes, strict=True)]
        np.testing.assert_allclose(actual[i].numpy(), looped(*one, reverse=reverse), rtol=1e-13, atol=1e-13)


def test_gradients_of_every_sequence_by_vmap(rng):
    Lambda, inputs, _ = (t[0] for t in scan_case(rng, requires_grad=False))

    def loss(Lambda, inputs):
        return scan(Lambda, inputs).abs().square().sum()

    actual = torch.func.vmap(torch.func.grad(loss), (None, 0))(Lambda, inputs)
    for row, gradient in zip(inputs, actual, strict=True):
        leaf = Lambda.clone().requires_grad_()
        expected = torch.autograd.grad(scan(leaf, row, engine="reference").abs().square().sum(), leaf)[0]
        np.testing.assert_allclose(gradient.numpy(), expected.numpy(), rtol=1e-12)


NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


@pytest.mark.parametrize(
    ("backend", "dynamic"),
    [
        ("aot_eager", False),
        pytest.param("aot_eager", True, marks=pytest.mark.slow),
        pytest.param("inductor", False, marks=[pytest.mark.slow, NEEDS_COMPILER]),
    ],
)
def test_compiled_in_one_graph(rng, backend, dynamic):
    leaves, run = layer(rng)

    def loss(*leaves):
        return sum(t.abs().square().sum() for t in run(*leaves, strict=True))

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend=backend, dynamic=dynamic)
    for length in (6, 4):
        given = [*leaves[:5], leaves[5].detach()[:, :length].requires_grad_(), leaves[6]]
        own, expected = compiled(*given), loss(*given)
        np.testing.assert_allclose(own.item(), expected.item(), rtol=1e-12)
        for one, two in zip(torch.autograd.grad(own, given), torch.autograd.grad(expected, given), strict=True):
            np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-11, atol=1e-12)


def test_operator_is_registered_soundly(rng):
    checks = torch.library.opcheck(_torch._states, (*scan_case(rng, requires_grad=False), True))
    assert set(checks.values()) == {"SUCCESS"}


# ---------------------------------------------------------------- the tree, for devices without a kernel


@DIRECTIONS
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 13])
def test_the_tree_is_the_loop(rng, length, reverse):
    case = scan_case(rng, length=length, requires_grad=False)
    np.testing.assert_allclose(
        _torch.tree_scan(*case, reverse).numpy(), looped(*case, reverse=reverse), rtol=1e-12, atol=1e-12
    )


# ---------------------------------------------------------------- long sequences near the circle


@DIRECTIONS
def test_long_sequences_in_single_precision(rng, reverse):
    Lambda, inputs, state = slow_scan_case(rng, np.complex64)
    given = [tensor(a)[None] for a in (Lambda, inputs, state)]
    exact = looped(*given, reverse=reverse)[0]
    assert largest_errors(_torch.scan(*given, reverse=reverse)[0], exact).max() <= 2e-7
    assert largest_errors(_torch.tree_scan(*given, reverse)[0], exact).max() <= 2e-6


def test_long_sequences_in_double_precision(rng):
    Lambda, inputs, state = slow_scan_case(rng, np.complex128)
    exact = np.array([mp_scan(Lambda, v, x) for v, x in zip(inputs, state, strict=True)])
    given = [tensor(a)[None] for a in (Lambda, inputs, state)]
    for states in (_torch.scan(*given, reverse=False), _torch.tree_scan(*given, False)):
        assert largest_errors(states[0], exact).max() <= 1e-13


@pytest.mark.parametrize("angle", [1.5, np.pi / 2])
def test_gradients_of_long_sequences_in_single_precision(rng, angle):
    case = slow_scan_case(rng, np.complex64, angle=angle)
    weights = complex_normal(rng, *case[1].shape).astype(np.complex64)
    leaves = [tensor(a, requires_grad=True) for a in case]
    gradients = torch.autograd.grad((tensor(weights) * scan(*leaves)).real.sum(), leaves)
    assert_long_gradients_are_exact([g.conj().resolve_conj() for g in gradients], *case, weights)


def test_long_sequences_of_a_layer_in_single_precision(rng):
    assert_long_layer_is_exact(rng, tensor)


@pytest.mark.gpu
@DIRECTIONS
def test_on_a_device(rng, reverse):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    case = scan_case(rng)
    on_device = [t.detach().cuda().requires_grad_() for t in case]
    states = _torch.scan(*on_device, reverse=reverse)
    assert states.is_cuda
    np.testing.assert_allclose(states.detach().cpu().numpy(), looped(*case, reverse=reverse), rtol=1e-12, atol=1e-12)
    own = torch.autograd.grad(states.abs().sum(), on_device)
    expected = torch.autograd.grad(_torch.scan(*case, reverse=reverse).abs().sum(), case)
    for one, two in zip(own, expected, strict=True):
        np.testing.assert_allclose(one.cpu().numpy(), two.numpy(), rtol=1e-11, atol=1e-12)


def test_single_precision_parameters_train(rng):
    """A layer as model code holds it: real float32 leaves, the functional form, no DiagonalSSM."""
    log_decay, angle = tensor(rng.normal(size=4), dtype=torch.float32), tensor(rng.normal(size=4), dtype=torch.float32)
    B, C = (tensor(complex_normal(rng, *s), dtype=torch.complex64) for s in ((4, 2), (3, 4)))
    u = tensor(rng.normal(size=(5, 20, 2)), dtype=torch.float32)

    def output(log_decay, angle, B, C):
        Lambda = torch.exp(-torch.exp(log_decay) + 1j * angle)
        return (scan(Lambda, u.to(B.dtype) @ B.T) @ C.T).real

    leaves = [t.clone().requires_grad_() for t in (log_decay, angle, B, C)]
    target = output(*(1.1 * t for t in (log_decay, angle, B, C)))
    losses = []
    for _ in range(3):
        loss = (output(*leaves) - target).square().mean()
        losses.append(loss.item())
        with torch.no_grad():
            for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
                assert gradient.dtype == leaf.dtype
                leaf -= 1e-3 * gradient
    assert losses[0] > losses[1] > losses[2]


def test_simulate_in_single_precision_matches_numpy(rng):
    ssm = random_ssm(rng, 4, 2, 3, bidirectional=True, conj_sym=True)
    u = rng.normal(size=(2, 300, 2)).astype(np.float32)
    own = simulate(converted(ssm, tensor), tensor(u)).numpy()
    expected = simulate(ssm, u)
    assert own.dtype == np.float32
    np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
