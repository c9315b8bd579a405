"""Forms of networks for other runtimes against the networks, and the blocks against fast and slow poles."""

import warnings

import numpy as np
import pytest

import ssmreduce as sr
from ssmreduce.networks._program import Operation, Program
from ssmreduce.networks._program_forms import block_length
from ssmreduce.networks._stepper import CompiledStepper

torch = pytest.importorskip("torch")
import torch_networks  # noqa: E402
from support.programs import every_operation  # noqa: E402

from ssmreduce.networks._torch_forms import BlockModule, StepModule  # noqa: E402

NETWORKS = {"s5": torch_networks.s5_digits, "lru": torch_networks.lru_digits, "s4d": torch_networks.s4d_mnist1d}


def assert_near(y, expected, tolerance=1e-5):
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def session(program, form, length=None):
    """Function from arrays by name to the first output in onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from ssmreduce.networks._onnx import model

    made = onnxruntime.InferenceSession(model(program, form, length).SerializeToString())
    return lambda **arrays: made.run(None, arrays)


def by_onnx_steps(program, u):
    run, y = session(program, "step"), []
    state = np.zeros((len(u), program.states), np.float32)
    for k in range(u.shape[1]):
        out, state = run(u=u[:, k], state=state)
        y.append(out)
    return np.stack(y, 1)


@pytest.fixture
def case(rng):
    """A program with every operation, inputs of two sequences, and the outputs of its steps."""
    program, u = every_operation(rng), rng.standard_normal((2, 45, 3)).astype(np.float32)
    return program, u, CompiledStepper(program, 2, "double").run(u)


def test_onnx_forms_of_every_operation(case):
    program, u, expected = case
    assert_near(by_onnx_steps(program, u), expected)
    for length in (45, 20):
        assert_near(session(program, "scan")(u=u[:, :length])[0], expected[:, length - 1])
        assert_near(session(program, "blocks", length)(u=u[:, :length])[0], expected[:, length - 1])


def test_torch_forms_of_every_operation(case):
    program, u, expected = case
    step, y = StepModule(program), []
    state = step.initial_state(2)
    for v in torch.from_numpy(u).unbind(1):
        out, state = step(v, state)
        y.append(out)
    assert_near(torch.stack(y, 1).detach(), expected)
    assert_near(BlockModule(program, 45)(torch.from_numpy(u)).detach(), expected[:, -1])


@pytest.mark.parametrize("radius", [0.0, 1e-6, 1e-3, 0.05, 0.3, 0.9, 0.9999, 1.0, 1.002])
def test_blocks_hold_for_fast_and_slow_poles(rng, radius):
    angle = rng.uniform(0, np.pi, 4)
    Lambda = np.array([radius, radius, 0.5, 0.999]) * np.exp(1j * angle)
    program = Program(8, (Operation("recur", (0,), 8, (np.stack([Lambda.real, Lambda.imag]),)),), False)
    u = rng.standard_normal((1, 300, 8)).astype(np.float32)
    expected = CompiledStepper(program, 1, "double").run(u[0])
    y = BlockModule(program, 300)(torch.from_numpy(u)).numpy()[0]
    assert_near(y, expected)
    assert_near(session(program, "blocks", 300)(u=u)[0][0], expected)
    size = block_length(Lambda)
    assert (size is None) == (radius < 1.8e-4)
    assert size is None or (np.abs(Lambda) ** -float(size)).max() <= 1.0001e30


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_in_onnxruntime(rng, name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    module, u = NETWORKS[name](), rng.standard_normal((3, 50, 1)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(u)).numpy()
    net = sr.network(module)
    for form, options in (("step", {}), ("blocks", {"length": 50}), ("scan", {})):
        sr.networks.export_onnx(net, tmp_path / "net.onnx", form, **options)
        run = onnxruntime.InferenceSession(tmp_path / "net.onnx")
        if form != "step":
            y = run.run(None, {"u": u})[0]
        else:
            state = np.zeros((3, run.get_inputs()[1].shape[1]), np.float32)
            for k in range(50):
                y, state = run.run(None, {"u": u[:, k], "state": state})
        assert_near(y, expected)


def test_torch_export_needs_no_operator_of_ours(rng):
    net = sr.network(torch_networks.s5_digits())
    u = torch.from_numpy(rng.standard_normal((2, 20, 1)).astype(np.float32))
    step, whole = sr.networks.exportable(net), sr.networks.exportable(net, "blocks", length=20)
    for module, args in ((step, (u[:, 0], step.initial_state(2))), (whole, (u,))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            exported = torch.export.export(module, args)
        targets = {str(n.target) for n in exported.graph.nodes if n.op == "call_function"}
        assert all(target.startswith(("aten.", "<built-in")) for target in targets)
        for ours, theirs in zip(exported.module()(*args), module(*args), strict=True):
            assert torch.equal(ours, theirs)
    assert_near(whole(u).detach().numpy(), net.outputs(net.model, u))


def test_bad_calls_are_named(tmp_path):
    module = torch_networks.s5_digits()
    with pytest.raises(sr.errors.ArgumentError, match="network"):
        sr.networks.exportable(np.zeros(3))
    with pytest.raises(sr.errors.UnknownNameError, match="form"):
        sr.networks.exportable(module, "scan")
    for form, length in (("blocks", None), ("step", 5), ("scan", 5)):
        with pytest.raises(sr.errors.OptionError, match="length"):
            sr.networks.export_onnx(module, tmp_path / "a.onnx", form, length=length)
    with pytest.raises(sr.errors.NotCausalError):
        sr.networks.export_onnx(torch_networks.s5_bidirectional_digits(), tmp_path / "a.onnx")
