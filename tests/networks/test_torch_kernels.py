"""Drop-in PyTorch layers on the compiled kernels: results, what they follow, and what PyTorch does around them."""

import copy
import multiprocessing
import tracemalloc
import warnings

import numpy as np
import pytest
from support.oracles import random_ssm

import ssmreduce as sr

torch = pytest.importorskip("torch")
import torch_networks  # noqa: E402

from ssmreduce.networks import _torch_kernels as kernels  # noqa: E402
from ssmreduce.networks._torch_calls import S5PyTorchLayer  # noqa: E402
from ssmreduce.networks._torch_layers import SSMLayer  # noqa: E402
from ssmreduce.networks._torch_s4d import S4DLayer  # noqa: E402

KINDS = {
    "causal": {"n": 5, "m": 8, "p": 6, "conj_sym": True},
    "two-sided": {"n": 5, "m": 3, "p": 3, "bidirectional": True},
    "features": {"n": 6, "batch": (17,), "m": 1, "p": 1, "conj_sym": True},
    "features-two-sided": {"n": 3, "batch": (5,), "m": 1, "p": 1, "bidirectional": True},
    "many-states": {"n": 20, "batch": (5,), "m": 1, "p": 1, "bidirectional": True},
    "batch": {"n": 4, "batch": (2,)},
}
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def calls(monkeypatch):
    """Addresses of the inputs and outputs of the runs of packed layers."""
    seen, run = [], kernels._Packed.run

    def spy(self, u, state, carry):
        found = run(self, u, state, carry)
        seen.append((u.data_ptr(), found[0].data_ptr()))
        return found

    monkeypatch.setattr(kernels._Packed, "run", spy)
    return seen


def made(rng, kind="causal", length=40, **options):
    """System, layer, and inputs (2, length, width) in single precision."""
    ssm = random_ssm(rng, radius=(0.5, 0.999), **KINDS[kind])
    u = rng.standard_normal((2, length, ssm.systems * ssm.inputs)).astype(np.float32)
    return ssm, SSMLayer(ssm, **options), torch.from_numpy(u)


def assert_near(y, expected, tolerance=5e-6):
    expected = np.asarray(expected)
    np.testing.assert_allclose(y.detach().double().numpy(), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@kinds
@pytest.mark.parametrize("length", [1, 40, 1000])
def test_single_precision_is_near_the_double_reference(rng, kind, length, calls):
    _, layer, u = made(rng, kind, length)
    expected = sr.simulate(layer.system(), u.double().numpy(), engine="reference")
    with torch.no_grad():
        assert_near(layer(u), expected)
        assert_near(layer(u[0]), expected[0])
        layer.channels_first = True
        assert_near(layer(u.transpose(1, 2)).transpose(1, 2), expected)
    assert len(calls) == 3
    layer(u.transpose(1, 2))
    assert len(calls) == 3  # its parameters want gradients


@pytest.mark.parametrize("kind", ["causal", "features", "batch"])
def test_states_are_carried(rng, kind, calls):
    _, layer, u = made(rng, kind)
    with torch.no_grad():
        whole, state, parts = layer(u), layer.initial_state(2), []
        for part in u.split([1, 10, 29], dim=1):
            y, state = layer.run(part, state, carry=True)
            parts.append(y)
    assert len(calls) == 4
    assert_near(torch.cat(parts, 1), whole)
    _, expected = layer.run(u, layer.initial_state(2), carry=True)
    assert_near(state, expected.detach())


def test_ragged_features_and_no_states_at_all(rng):
    ssm, _, u = made(rng, "features")
    for most in (7, 1):
        valid = np.arange(6) < rng.integers(0, most, 17)[:, None]
        layer = SSMLayer(ssm, valid=valid)
        expected, last = layer.run(u, carry=True)
        with torch.no_grad():
            assert_near(layer(u), expected.detach())
            y, state = layer.run(u, layer.initial_state(2), carry=True)
            assert_near(y, expected.detach())
            np.testing.assert_allclose(state, last.detach(), rtol=0, atol=1e-5)


def change_data(layer):
    layer.C.data.mul_(2)


def change_in_place(layer):
    with torch.no_grad():
        layer.angle.add_(0.1)


def change_in_inference_mode(layer):
    with torch.inference_mode():
        layer.B.copy_(layer.B * 0.5)


def load_others(layer):
    layer.load_state_dict({name: value * 0.9 for name, value in layer.state_dict().items() if name != "owner"}, False)


def widen(layer):
    layer.double()


@pytest.mark.parametrize("change", [change_data, change_in_place, change_in_inference_mode, load_others, widen])
def test_what_is_kept_follows_the_parameters(rng, change, calls):
    _, layer, u = made(rng)
    with torch.no_grad():
        before = layer(u)
        packed = kernels._KEPT[layer.C.data_ptr()][1]
        assert torch.equal(layer(u), before)
        assert kernels._KEPT[layer.C.data_ptr()][1] is packed
        change(layer)
        now = layer(u)
    assert len(calls) == 3
    assert kernels._KEPT[layer.C.data_ptr()][1] is not packed
    assert_near(now, sr.simulate(layer.system(), u.double().numpy()))


def test_copies_and_parameters_without_order_do_not_mix(rng):
    _, layer, u = made(rng)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.C.mul_(2)
        layer.B.data = layer.B.data.transpose(0, 1).contiguous().transpose(0, 1)
        for each in (layer, other, layer):
            assert_near(each(u), sr.simulate(each.system(), u.double().numpy()))


def test_what_is_kept_dies_with_the_layer(rng):
    _, layer, u = made(rng)
    _, other, _ = made(rng)
    with torch.no_grad():
        layer(u)
        place = layer.C.data_ptr()
        assert kernels._KEPT[place][1].fits(layer._tensors())
        held = [kernels._KEPT[place][0]]
        del layer
        other(u)
    assert held[0].expired()
    assert all(memory is not held[0] for memory, _ in kernels._KEPT.values())


def test_inference_mode_and_half_precision(rng, calls):
    _, layer, u = made(rng)
    with torch.inference_mode():
        expected = layer(u)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(u), expected)
        half = layer(u.bfloat16())
        assert half.dtype == torch.bfloat16
        assert torch.equal(half, layer(u.bfloat16().float()).bfloat16())
    assert len(calls) == 4


def test_gradients_keep_the_differentiable_form(rng, calls):
    _, layer, u = made(rng)
    layer.requires_grad_(False)
    v = u.clone().requires_grad_(True)
    layer(v).sum().backward()
    assert v.grad is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own deprecations
        _, tangent = torch.func.jvp(layer, (u,), (torch.ones_like(u),))
    assert_near(tangent, layer(torch.ones_like(u)))
    assert len(calls) == 1  # the last line


def test_vmap_joins_the_batch(rng, calls):
    ssm, _, u = made(rng, "batch")
    layer = S5PyTorchLayer(ssm)
    with torch.no_grad():
        whole = layer.run(u)[0]
        ones = torch.ones(2)
        y, state = torch.vmap(lambda one, scale: layer(one, scale, return_state=True))(u[:, :30], ones)
        rest = torch.vmap(lambda one, x: layer(one, state=x))(u[:, 30:], state)
        assert_near(torch.cat([y, rest], 1), whole)
        packed = kernels._KEPT[layer.C.data_ptr()][1]
        nested = torch.vmap(torch.vmap(layer))(torch.stack([u, 2 * u]))
        assert_near(nested, torch.stack([whole, 2 * whole]))
        assert kernels._KEPT[layer.C.data_ptr()][1] is packed
        across = torch.vmap(layer, in_dims=1, out_dims=1)(u.transpose(0, 1))
        assert_near(across.transpose(0, 1), whole)
    assert len(calls) == 5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_go_through(rng, bad):
    _, layer, u = made(rng)
    u[1, 20, 0] = bad
    with torch.no_grad():
        y = layer(u)
    assert torch.isfinite(y[0]).all()
    assert torch.isfinite(y[1, :20]).all()
    assert not torch.isfinite(y[1, 20:]).all()


def test_nothing_is_copied(rng, calls):
    _, layer, _ = made(rng)
    u = torch.zeros(1, 200_000, 8)
    with torch.inference_mode():
        layer(u[:, :100])
        tracemalloc.start()
        y = layer(u)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert calls[-1] == (u.data_ptr(), y.data_ptr())
    assert peak < 1.1 * y.nbytes + 2**20


def test_any_number_of_threads_gives_the_same_bits(rng):
    before = torch.get_num_threads()
    try:
        for kind in ("causal", "features", "two-sided"):
            _, layer, u = made(rng, kind, 500)
            found = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                with torch.no_grad():
                    found.append(layer(u))
            assert all(torch.equal(found[0], other) for other in found[1:])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["causal", "many-states"])
def test_one_graph_for_all_lengths(rng, kind, calls):
    from torch._dynamo.testing import CompileCounterWithBackend

    _, layer, u = made(rng, kind)
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the compiler's own deprecations
        compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
        inputs = [u[:, :length].clone() for length in (40, 33, 20)]
        for v in inputs:
            assert torch.equal(compiled(v), layer(v))
    assert counter.frame_count == 1
    assert len(calls) == 6


def test_export_keeps_one_operator(rng, calls):
    _, layer, u = made(rng)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        shapes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
        exported = torch.export.export(layer, (u,), dynamic_shapes={"u": shapes})
        names = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
        assert names.count("ssmreduce.respond.default") == 1
        assert torch.equal(exported.module()(u[:1, :7]), layer(u[:1, :7].contiguous()))
    assert len(calls) == 2


def answered(layer, u, queue):
    with torch.inference_mode():
        queue.put(layer(u).numpy())


def test_forked_servers_answer_alike(rng):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    _, layer, u = made(rng, length=500)
    with torch.inference_mode():
        expected = layer(u).numpy()  # with threads at work before the fork
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's about threads and forks
        child = context.Process(target=answered, args=(layer, u, queue))
        child.start()
    np.testing.assert_array_equal(queue.get(timeout=60), expected)
    child.join()


class Published(torch_networks.S4D):
    """The layer with the parts and the axes of the published code."""

    def __init__(self, width=12, states=4, transposed=True):
        super().__init__(width, states)
        self.activation, self.dropout = torch.nn.GELU(), torch.nn.Dropout1d(0.5)
        self.h, self.transposed = width, transposed

    def forward(self, u, **kwargs):
        u = u if self.transposed else u.transpose(-1, -2)
        L = u.shape[-1]
        product = torch.fft.rfft(self.kernel(L=L), n=2 * L) * torch.fft.rfft(u, n=2 * L)
        y = torch.fft.irfft(product, n=2 * L)[..., :L] + u * self.D.unsqueeze(-1)
        y = self.output_linear(self.dropout(self.activation(y)))
        return (y if self.transposed else y.transpose(-1, -2)), None


@pytest.mark.parametrize("transposed", [True, False])
def test_whole_s4d_layers(rng, transposed, calls, tmp_path):
    torch.manual_seed(0)
    stock = Published(transposed=transposed).eval()
    model = sr.read(stock)
    module = sr.replace_layers(stock, sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.4)))
    assert isinstance(module, S4DLayer)
    assert not module.training
    assert module.h == 12
    assert {name for name in module.state_dict() if not name.startswith("kernel.")} == {
        "D",
        "output_linear.0.weight",
        "output_linear.0.bias",
    }
    u = torch.randn(2, 12, 50) if transposed else torch.randn(2, 50, 12)
    expected, nothing = module(u)  # with gradients, by the kernel
    assert nothing is None
    expected.sum().backward()
    assert module.kernel.C.grad is not None
    before = len(calls)
    with torch.no_grad():
        assert_near(module(u)[0], expected.detach())
        assert len(calls) == before + 1
        module.train()
        torch.manual_seed(1)
        dropped = module(u)[0]
    torch.manual_seed(1)
    assert_near(dropped, module(u)[0].detach())
    assert_near(
        torch.from_numpy(sr.network(module, output=lambda pair: pair[0]).outputs(sr.read(module), u)),
        expected.detach(),
        1e-4,
    )
    sr.networks.save_module(module, tmp_path / "small.safetensors")
    again = sr.networks.restore(stock, tmp_path / "small.safetensors")
    assert isinstance(again, S4DLayer)
    with torch.no_grad():
        assert torch.equal(again(u)[0], module.eval()(u)[0])


class Other(Published):
    """Does more than the published layer."""

    def forward(self, u, **kwargs):
        y, nothing = super().forward(u)
        return 2 * y, nothing


def test_layers_that_do_more_keep_their_code():
    stock = Other().eval()
    model = sr.read(stock)
    module = sr.replace_layers(stock, sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.4)))
    assert type(module) is Other
