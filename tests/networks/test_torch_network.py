"""Live PyTorch networks: run with any systems, rebuilt, saved; and what stands in the way is named."""

import copy
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from support.recorded import LRU, S4D, S5_FLAGS, recorded, sequences

import ssmreduce as sr

torch = pytest.importorskip("torch")
import torch_networks  # noqa: E402
from torch import nn  # noqa: E402

from ssmreduce.networks import describe, restore, save_module  # noqa: E402
from ssmreduce.networks._torch_calls import KernelLayer, LRULayer, S5PyTorchLayer  # noqa: E402
from ssmreduce.networks._torch_layers import SSMLayer  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import compiles with the deprecated torch.jit.script
    s5_pytorch = pytest.importorskip("s5")


class S5PyTorchClassifier(nn.Module):
    """A network around the layers of the package s5-pytorch."""

    def __init__(self, bidir=False, states=12):
        super().__init__()
        self.encoder = nn.Linear(1, 6)
        self.blocks = nn.ModuleList(s5_pytorch.S5Block(6, states, bidir) for _ in range(2))
        self.decoder = nn.Linear(6, 4)

    def forward(self, x):
        x = self.encoder(x)
        for block in self.blocks:
            x = block(x)
        return self.decoder(x.mean(1))


class ChannelsFirst(nn.Module):
    """A layer of an unknown class, on (batch, width, L), whose second result is None."""

    def __init__(self, width=3):
        super().__init__()
        self.inner = torch_networks.S5(width, 6)
        for name, p in list(self.inner._parameters.items()):
            self._parameters[name] = p
        del self.inner

    def forward(self, u):
        return torch_networks.S5.forward(self, u.transpose(-1, -2)).transpose(-1, -2), None


class Mixed(nn.Module):
    """Takes channels first, and returns a dictionary."""

    def __init__(self):
        super().__init__()
        self.seq = ChannelsFirst()
        self.out = nn.Linear(3, 2)

    def forward(self, x, scale=None):
        y, _ = self.seq(x)
        y = self.out(y.mean(-1))
        return {"logits": y if scale is None else y * scale}


def tiny(layers=2):
    torch.manual_seed(0)
    return torch_networks.S5Classifier(width=4, states=6, layers=layers).eval()


def half(model, scope="layer"):
    return sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.5, scope=scope))


def digits(count=6):
    return torch.tensor(sequences(LRU)[:count], dtype=torch.float32)


def in_precision(module, dtype):
    """The module in single or double precision, complex parameters too, which ``to`` would make real."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point() or tensor.is_complex():
            tensor.data = tensor.data.to(dtype.to_complex() if tensor.is_complex() else dtype)
    return module


def run(module, *args):
    with torch.no_grad():
        return module(*args).double().numpy()


def masked(module, model):
    """The original module with the inputs and outputs of the pruned states zeroed."""
    other = copy.deepcopy(module)
    other.load_state_dict({k: torch.tensor(v) for k, v in sr.export(model, form="mask").items()}, strict=True)
    return other


FAMILIES = {
    "s5": (torch_networks.s5_digits, 64),
    "two-sided": (torch_networks.s5_bidirectional_digits, 64),
    "lru": (torch_networks.lru_digits, 64),
    "s4d": (torch_networks.s4d_mnist1d, 40),
    "s5-pytorch": (lambda: S5PyTorchClassifier().eval(), 64),
    "s5-pytorch-two-sided": (lambda: S5PyTorchClassifier(bidir=True).eval(), 64),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_selection_equals_the_masked_original(family, dtype, tolerance):
    if dtype == torch.float64 and "pytorch" in family:
        pytest.skip("s5-pytorch holds complex64 parameters")
    make, length = FAMILIES[family]
    torch.manual_seed(1)
    module = in_precision(make(), dtype)
    x = torch.rand(4, length, 1, dtype=dtype, generator=torch.manual_seed(0))
    net = sr.network(module)
    np.testing.assert_allclose(net.outputs(net.model, x), run(module, x), rtol=0, atol=10 * tolerance)
    pruned = half(net.model)
    expected = run(masked(module, pruned), x)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(net.outputs(pruned, x), expected, rtol=0, atol=tolerance * scale)
    small = sr.replace_layers(module, pruned)
    assert sr.network(small).model.orders == pruned.orders
    if dtype == torch.float32:
        np.testing.assert_allclose(run(small, x), expected, rtol=0, atol=3 * tolerance * scale)
    else:
        np.testing.assert_allclose(run(small, x), expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("method", ["balanced", "h2", "exchange", "greedy"])
def test_every_reduction_runs_in_the_network(method):
    module = tiny()
    net = sr.network(module)
    small = sr.reduce(net.model, dict.fromkeys(net.model, 3), method=method)
    x = digits(2)
    result = sr.replace_layers(module, small)
    np.testing.assert_allclose(run(result, x), net.outputs(small, x), rtol=0, atol=1e-5)
    assert sr.read(result).orders == small.orders


def test_flags_that_a_live_module_cannot_tell_are_told_by_its_layers():
    assert sr.network(tiny()).model.adapter == sr.adapters.S5(conj_sym=True, discretization="zoh")
    wrong = sr.adapters.S5(conj_sym=False, discretization="zoh")
    with pytest.raises(sr.errors.EvaluationError, match=r"'layers\.0\.seq'.*conj_sym=False"):
        sr.network(tiny(), adapter=wrong).outputs(sr.network(tiny()).model, digits())
    with pytest.raises(sr.errors.EvaluationError, match=r"'layers\.0\.seq'"):
        sr.replace_layers(tiny(), sr.read(tiny(), adapter=wrong))


@pytest.mark.parametrize("family", ["s5", "two-sided", "lru", "s4d"])
def test_pulled_back_gradients_are_those_of_finite_differences(family):
    make, length = FAMILIES[family]
    module = in_precision(make(), torch.float64)
    net = sr.network(module)
    model = half(net.model)
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.random((2, length, 1)))
    z, pull = net.vjp(model, x)
    seed = rng.standard_normal(z.shape)
    found = pull(seed)
    for name in list(model)[::2]:
        ssm, given = model[name], found[name]
        valid = model.state_index(name)[1].reshape(ssm.Lambda.shape)
        for key in ("Lambda", "B", "C", "D") + ("C_reverse",) * ssm.bidirectional:
            value = getattr(ssm, key)
            along = rng.standard_normal(value.shape) + (1j * rng.standard_normal(value.shape) if key != "D" else 0)
            if key == "D" and ssm.inputs > 1 and np.array_equal(value, np.diag(np.diag(value))):
                along = along * np.eye(ssm.inputs)
            if key in ("Lambda", "B"):
                along = along * (valid if key == "Lambda" else valid[..., None])
            elif key != "D":
                along = along * valid[..., None, :]
            step = 1e-6
            outputs = [
                np.sum(
                    seed
                    * net.outputs(
                        sr.models.replace_system(
                            model, name, replace(ssm, **{key: value + sign * step * along}), valid=valid_of(model, name)
                        ),
                        x,
                    )
                )
                for sign in (1, -1)
            ]
            numeric = (outputs[0] - outputs[1]) / (2 * step)
            analytic = np.sum((np.conj(getattr(given, key)) * along).real)
            np.testing.assert_allclose(analytic, numeric, rtol=2e-4, atol=1e-6 * abs(np.sum(np.abs(seed))))


def valid_of(model, name):
    return model.state_index(name)[1]


def test_users_module_is_not_touched():
    module = tiny().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    x = digits()
    small = sr.compress(module, [x], ratio=0.5, steps=2)
    assert all(part.training for part in module.modules())
    assert all(part.training for part in small.modules())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert isinstance(module.layers[0].seq, torch_networks.S5)
    assert isinstance(small.layers[0].seq, SSMLayer)
    with torch.no_grad():
        small.decoder.weight += 1
    assert torch.equal(module.decoder.weight, before["decoder.weight"])


def test_in_place():
    module = tiny()
    model = half(sr.network(module).model)
    x = digits()
    expected = run(sr.replace_layers(module, model, batch=x), x)
    assert sr.replace_layers(module, model, inplace=True) is module
    np.testing.assert_array_equal(run(module, x), expected)
    lone = torch_networks.S5(3, 6)
    inner = half(sr.network(lone).model)
    with pytest.raises(sr.errors.ArgumentError, match="layer itself"):
        sr.replace_layers(lone, inner, inplace=True)
    assert isinstance(sr.replace_layers(lone, inner), SSMLayer)


def test_layers_that_did_not_change_stay():
    module = tiny()
    model = sr.network(module).model
    small = sr.replace_layers(module, sr.prune(model, {"layers.1.seq": [0, 1]}))
    assert isinstance(small.layers[0].seq, torch_networks.S5)
    assert isinstance(small.layers[1].seq, SSMLayer)


def test_calls_are_those_of_the_layers():
    kinds = {"s5": SSMLayer, "lru": LRULayer, "s5-pytorch": S5PyTorchLayer}
    for family, kind in kinds.items():
        module = FAMILIES[family][0]()
        small = sr.replace_layers(module, half(sr.network(module).model))
        assert {type(part) for part in small.modules() if isinstance(part, SSMLayer)} == {kind}
    module = torch_networks.s4d_mnist1d()
    small = sr.replace_layers(module, half(sr.network(module).model))
    layer = small.s4_layers[0]
    assert isinstance(layer.kernel, KernelLayer)
    assert set(dict(layer.named_parameters())) >= {"D", "kernel.log_rate", "kernel.C"}
    assert "kernel.D" not in dict(layer.named_parameters())


@pytest.mark.parametrize("channels_first", [None, True])
@pytest.mark.parametrize("length", [3, 8])
def test_channels_first_and_outputs_that_are_picked(channels_first, length):
    """Told by the shapes, or where L is the width by what fits."""
    torch.manual_seed(0)
    module = Mixed().eval()
    x = torch.randn(5, 3, length)
    net = sr.network(module, channels_first=channels_first, output=lambda out: out["logits"])
    np.testing.assert_allclose(net.outputs(net.model, x), run(lambda x: module(x)["logits"], x), atol=1e-5)
    inputs = net.layer_inputs(net.model, x)["seq"]
    np.testing.assert_allclose(inputs, x.transpose(1, 2).double().numpy())
    small = net.rebuild(half(net.model))
    assert small(x)["logits"].shape == (5, 2)
    with pytest.raises(sr.errors.EvaluationError, match=r"a dict; give output=\.\.\."):
        sr.network(module).outputs(net.model, x)


def test_batches_of_data_loaders():
    module, x = tiny(), digits(24)
    labels = torch.arange(24)
    plain = sr.compress(module, [x], ratio=0.5, finish=None)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, labels), batch_size=24)
    assert torch.equal(sr.compress(module, loader, ratio=0.5, finish=None)(x), plain(x))
    by_name = [{"label": labels, "x": x}]
    assert torch.equal(sr.compress(module, by_name, ratio=0.5, finish=None, inputs="x")(x), plain(x))
    second = [(labels, x)]
    assert torch.equal(sr.compress(module, second, ratio=0.5, finish=None, inputs=1)(x), plain(x))
    picked = sr.compress(module, second, ratio=0.5, finish=None, inputs=lambda batch: batch[1])
    assert torch.equal(picked(x), plain(x))
    arrays = [x.double().numpy()]
    assert torch.equal(sr.compress(module, arrays, ratio=0.5, finish=None)(x), plain(x))
    two = sr.network(Mixed().eval(), inputs=("x", "scale"), output=lambda out: out["logits"])
    u, scale = torch.randn(4, 3, 8), torch.full((4, 1), 2.0)
    once = sr.network(two.module, output=lambda out: out["logits"]).outputs(two.model, u)
    np.testing.assert_allclose(two.outputs(two.model, {"scale": scale, "x": u, "label": labels}), 2 * once, atol=1e-5)
    with pytest.raises(sr.errors.ArgumentError, match=r"inputs='y' is not in a batch, which has 'label', 'x'"):
        sr.compress(module, by_name, inputs="y")
    with pytest.raises(sr.errors.EvaluationError, match=r"failed when called with .*inputs=\.\.\."):
        sr.compress(module, second)


class Padded(nn.Module):
    """Mean over the steps that count; and the outputs of all steps, for sequence labelling."""

    def __init__(self, pooled):
        super().__init__()
        self.inner, self.pooled = tiny(), pooled

    def forward(self, x, lengths):
        y = self.inner.encoder(x)
        for layer in self.inner.layers:
            y = layer(y)
        y = self.inner.decoder(y)
        counted = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        return (y * counted).sum(1) / lengths[:, None] if self.pooled else y


@pytest.mark.parametrize("pooled", [True, False])
def test_padding_does_not_count(pooled):
    module, lengths = Padded(pooled).eval(), torch.tensor([64, 40, 50, 64, 30, 20, 64, 64, 10, 64])
    x = digits(10)
    noisy = torch.where((torch.arange(64) < lengths[:, None])[..., None], x, 100 * torch.randn_like(x))
    options = {"ratio": 0.5, "inputs": (0, 1), "mask": 1, "steps": 3, "apart": 0.3}
    records = []
    for batch in (x, noisy):
        small = sr.compress(module, [(batch, lengths)], **options)
        records.append(json.loads(small.ssmreduce_record))
    assert records[0]["error"] == pytest.approx(records[1]["error"], rel=1e-3)
    mask = torch.arange(64) < lengths[:, None]
    small = sr.compress(module, [(x, lengths, mask)], **options | {"mask": 2})
    assert json.loads(small.ssmreduce_record)["error"] == pytest.approx(records[0]["error"], rel=1e-4)


def test_outputs_that_are_no_logits():
    class Forecaster(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tiny()

        def forward(self, x):
            return self.inner(x)[:, None, :3]

    module, x = Forecaster().eval(), digits(30)
    net = sr.network(module)
    small = sr.compress(net, [x], ratio=0.7, steps=20)
    record = json.loads(small.model.metadata["ssmreduce.record"])
    rng = np.random.default_rng(0)
    apart = np.zeros(30, dtype=bool)
    apart[rng.permutation(30)[:6]] = True
    before, after = run(module, x), small.outputs(small.model, x)
    spread = np.sum((before[~apart] - before[~apart].mean(0)) ** 2) / 24
    error = np.sum((after - before)[apart] ** 2) / 6 / spread
    assert record["error"] == pytest.approx(error, rel=1e-4)
    assert record["agreement"] == pytest.approx(1 - np.sqrt(error), rel=1e-4)


def test_finish_lowers_the_error_apart_and_never_raises_it():
    module, x = torch_networks.lru_digits(), torch.tensor(sequences(LRU)[:120], dtype=torch.float32)
    small = sr.compress(sr.network(module), [x], ratio=0.9, steps=60)
    record = json.loads(small.model.metadata["ssmreduce.record"])
    assert record["finish_kept"]
    assert record["error"] < 0.7 * record["error_before_finish"]
    assert sum(small.model.orders.values()) == 14
    wild = sr.compress(sr.network(module), [x], ratio=0.9, steps=3, rate=1e3)
    record = json.loads(wild.model.metadata["ssmreduce.record"])
    assert not record["finish_kept"]
    assert record["error"] == record["error_before_finish"]


@pytest.mark.parametrize("finish", ["adam", "gauss_newton"])
def test_finish_of_very_few_states(finish):
    module, x = tiny(), digits(40)
    net = sr.compress(sr.network(module), [x], ratio=0.8, finish=finish, steps=50)
    record = json.loads(net.model.metadata["ssmreduce.record"])
    assert record["error"] < 0.5 * record["error_before_finish"]


def test_networks_are_reduced_again_and_keep_the_familys_form(tmp_path):
    module, x = torch_networks.lru_digits(), digits(20)
    once = sr.compress(sr.network(module), [x], ratio=0.5, steps=2)
    assert isinstance(once.model.adapter, sr.adapters.LRU)
    sr.save(once.model, tmp_path / "small.safetensors")  # the family's own code loads it
    again = sr.load(tmp_path / "small.safetensors")
    np.testing.assert_allclose(once.outputs(again, x), once.outputs(once.model, x), atol=1e-4)
    assert "ssmreduce.record" in again.metadata
    twice = sr.compress(once, [x], ratio=0.5, finish=None)
    assert sum(twice.model.orders.values()) == 36
    rebuilt = twice.rebuild(twice.model)
    np.testing.assert_allclose(run(rebuilt, x), twice.outputs(twice.model, x), atol=1e-4)


def test_ragged_s4d_is_reduced_again():
    module, x = torch_networks.s4d_mnist1d(), torch.tensor(sequences(S4D)[:20], dtype=torch.float32)
    small = sr.compress(module, [x], ratio=0.95, finish=None)
    orders = sr.read(small).orders
    assert sum(orders.values()) == 307
    counts = np.concatenate([part.structure().counts for part in small.modules() if isinstance(part, SSMLayer)])
    assert counts.min() == 0
    assert counts.max() > 3
    again = sr.compress(small, [x], ratio=0.5, finish=None)
    assert sum(sr.read(again).orders.values()) == 153
    equal = sr.compress(module, [x], ratio=0.9, finish=None, scope="system")
    counts = [set(part.structure().counts) for part in equal.modules() if isinstance(part, SSMLayer)]
    assert all(len(kinds) == 1 for kinds in counts)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("family", ["s5", "lru", "s4d", "s5-pytorch", "two-sided"])
def test_saved_and_restored(family, tmp_path):
    make, length = FAMILIES[family]
    module, x = make(), torch.rand(12, length, 1, generator=torch.manual_seed(0))
    small = sr.compress(module, [x], ratio=0.8, finish=None).eval()
    expected = small(x)
    save_module(small, tmp_path / "one.safetensors")
    save_module(small, tmp_path / "folder", evidence={"accuracy": 0.5})
    torch.save(small.state_dict(), tmp_path / "plain.pt")
    (tmp_path / "plain.json").write_text(json.dumps(describe(small)))
    for path in ("one.safetensors", "folder", "plain.pt"):
        again = restore(make(), tmp_path / path)
        assert torch.equal(again(x), expected), path
        assert json.loads(again.ssmreduce_record) == json.loads(small.ssmreduce_record)
    for path in ("one.safetensors", "folder"):
        model = sr.load(tmp_path / path)
        assert model.orders == sr.read(small).orders
        assert json.loads(model.metadata["ssmreduce.record"])["ratio"] == 0.8
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["architectures"] == [type(module).__name__]
    card = (tmp_path / "folder" / "README.md").read_text()
    orders = sr.network(module).model.orders
    for name, states in sr.read(small).orders.items():
        assert f"| `{name}` | {orders[name]} | {states} |" in card
    assert "- accuracy: 0.5" in card


def test_ten_lines_without_restore(tmp_path):
    module, x = tiny(), digits()
    small = sr.compress(module, [x], ratio=0.5, finish=None).eval()
    torch.save(small.state_dict(), tmp_path / "small.pt")
    (tmp_path / "small.json").write_text(json.dumps(describe(small)))
    other = tiny()
    for name, options in json.loads((tmp_path / "small.json").read_text())["layers"].items():
        parent, _, leaf = name.rpartition(".")
        setattr(other.get_submodule(parent), leaf, sr.networks.empty_layer(**options))
    other.load_state_dict(torch.load(tmp_path / "small.pt", weights_only=True))
    assert torch.equal(other(x), small(x))


def test_the_model_card_holds_no_control_characters(tmp_path):
    from ssmreduce.networks._card import model_card

    description = {"framework": "torch", "layers": {"a|b\x1b[2J\n# c": {"counts": [3]}}}
    text = model_card("Net", description, {"no\x9bte": "x\x07\n- y"})
    assert "| `a\\|b\\x1b[2J\\n# c` |  | 3 |" in text
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "\n- y" not in text


def test_bad_files_are_named(tmp_path):
    small = sr.compress(tiny(), [digits()], ratio=0.5, finish=None)
    torch.save(small.state_dict(), tmp_path / "small.pt")
    with pytest.raises(sr.errors.CheckpointFormatError, match="no description"):
        restore(tiny(), tmp_path / "small.pt")
    with pytest.raises(sr.errors.MissingFileError):
        restore(tiny(), tmp_path / "nowhere.pt")
    save_module(small, tmp_path / "small.safetensors")
    with pytest.raises(sr.errors.UnknownLayerError, match="layers"):
        restore(nn.Linear(2, 2), tmp_path / "small.safetensors")
    with pytest.raises(sr.errors.CheckpointFormatError, match="does not fit"):
        restore(torch_networks.S5Classifier(width=5, states=6, layers=2), tmp_path / "small.safetensors")
    with pytest.raises(sr.errors.ArgumentError, match="no drop-in layer"):
        save_module(tiny(), tmp_path / "other.safetensors")
    with pytest.raises(sr.errors.ArgumentError, match="without variables"):
        restore(tiny(), tmp_path / "small.safetensors", variables={})
    for change in ({"counts": [10**12]}, {"counts": 3}, {"dtype": "load"}, {"depth": 1}):
        wrong = describe(small)
        for options in wrong["layers"].values():
            options.update(change)
        with pytest.raises(sr.errors.CheckpointFormatError, match="cannot be used"):
            restore(tiny(), tmp_path / "small.safetensors", description=wrong)
    (tmp_path / "broken.safetensors").write_bytes(b"not one")
    with pytest.raises(sr.errors.CheckpointFormatError, match="is not an npz, safetensors"):
        restore(tiny(), tmp_path / "broken.safetensors")


# ---------------------------------------------------------------- what stands in the way


class Hidden(nn.Module):
    """Uses the layer's parameters itself."""

    def __init__(self):
        super().__init__()
        self.inner = tiny(layers=1)

    def forward(self, x):
        x = self.inner.encoder(x)
        return self.inner.decoder(torch_networks.S5.forward(self.inner.layers[0].seq, x).mean(1))


def hooked():
    module = tiny()
    module.layers[1].seq.register_forward_hook(lambda *_: None)
    return module


def shared():
    module = tiny()
    module.layers[1].seq = module.layers[0].seq
    return module


def parametrised():
    module = torch_networks.S4DClassifier(width=4, states=3, layers=1)
    nn.utils.parametrizations.weight_norm(module.s4_layers[0].output_linear[0])
    return module


def compiled():
    module = tiny()
    module.layers[0] = torch.compile(module.layers[0])
    return module


def scripted():
    module = tiny()
    module.encoder = torch.jit.trace(module.encoder, torch.zeros(1, 2, 1), check_trace=False)
    return module


def container():
    module = tiny()
    module.layers[0].seq = nn.ParameterDict(dict(module.layers[0].seq.named_parameters()))
    return module


def tuple_output():
    module = Mixed()
    module.forward = lambda x: (module.seq(x)[0], None)
    return module


IN_THE_WAY = {
    "hooks": (hooked, sr.errors.ArgumentError, r"'layers\.1\.seq' has hooks"),
    "shared layers": (shared, sr.errors.ArgumentError, "are one module"),
    "parametrised": (parametrised, sr.errors.ArgumentError, "parametrised"),
    "compiled": (lambda: torch.compile(tiny()), sr.errors.ArgumentError, "_orig_mod"),
    "compiled part": (compiled, sr.errors.ArgumentError, r"'layers\.0' is compiled"),
    "scripted": (scripted, sr.errors.ArgumentError, "scripted or traced"),
    "wrapped": (lambda: nn.DataParallel(tiny()), sr.errors.ArgumentError, r"give module\.module"),
    "meta": (lambda: tiny().to("meta"), sr.errors.ArgumentError, "load its weights first"),
    "bfloat16": (lambda: tiny().bfloat16(), sr.errors.SSMReduceError, "float32"),
    "half": (lambda: tiny().half(), sr.errors.ArgumentError, r"half precision.*float\(\)"),
    "a class": (lambda: torch_networks.S5Classifier, sr.errors.ArgumentError, "the class S5Classifier"),
    "a container of parameters": (container, sr.errors.ArgumentError, "never called"),
    "parameters used elsewhere": (Hidden, sr.errors.UnknownLayerError, "did not call"),
    "no layer": (lambda: nn.Linear(1, 2), sr.errors.AdapterError, "recognises"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_stands_in_the_way_is_named(case):
    make, error, words = IN_THE_WAY[case]
    adapter = sr.adapters.S5(conj_sym=True, discretization="zoh") if case == "a container of parameters" else None
    with pytest.raises(error, match=words):
        sr.compress(make(), [digits(12)], ratio=0.5, finish=None, adapter=adapter)


def test_batches_of_another_kind_are_named():
    module, x = tiny(), digits(12)
    with pytest.raises(sr.errors.EvaluationError, match=r"float32 on cpu.*torch\.float64 on cpu"):
        sr.compress(module, [x.double()], ratio=0.5)
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(sr.errors.ArrayKindError, match="PyTorch tensors or NumPy arrays"):
        sr.compress(module, [jnp.asarray(x.numpy())], ratio=0.5)

    class Silent(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tiny()

        def forward(self, x):
            return self.inner(x).sum()

    with pytest.raises(sr.errors.ArrayKindError, match="sequences first"):
        sr.compress(Silent(), [x], ratio=0.5)


def test_what_goes_wrong_on_the_way_is_named():
    x = digits(12)
    with pytest.raises(sr.errors.NonFiniteError, match=r"'layers\.0\.seq' is fed NaN"):
        sr.compress(tiny(), [x * float("nan")])
    with pytest.raises(sr.errors.EvaluationError, match="output=.*no attribute 'logits'"):
        sr.compress(tiny(), [x], output=lambda out: out.logits)
    with torch.inference_mode(), pytest.raises(sr.errors.EvaluationError, match="inference_mode"):
        sr.compress(tiny(), [x], ratio=0.5, method="eliminate")


KINDS_OF_SEQUENCES = {
    "tokens": lambda: [torch.randint(0, 7, (12, 9))],
    "two lengths": lambda: [torch.randint(0, 7, (8, 9)), torch.randint(0, 7, (8, 5))],
    "a generator": lambda: (torch.randint(0, 7, (6, 9)) for _ in range(2)),
    "NumPy and text beside": lambda: [(np.arange(108).reshape(12, 9) % 7, ["text"] * 12)],
}


@pytest.mark.parametrize("kind", KINDS_OF_SEQUENCES)
def test_sequences_of_many_kinds(kind):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(7, 1), tiny()).eval()
    small = sr.compress(module, KINDS_OF_SEQUENCES[kind](), ratio=0.5, steps=1, method="eliminate")
    assert sum(sr.read(small).orders.values()) == 6


def test_a_layer_that_is_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tiny()

        def forward(self, x):
            z = self.inner.encoder(x)
            for layer in (*self.inner.layers, *self.inner.layers):
                z = layer(z)
            return self.inner.decoder(z.mean(1))

    module, x = Twice().eval(), digits(12)
    net = sr.network(module)
    assert net.layer_inputs(net.model, x)["inner.layers.0.seq"].shape == (24, 64, 4)
    small = sr.compress(net, [x], ratio=0.5, steps=2, method="eliminate")
    np.testing.assert_allclose(run(small.rebuild(small.model), x), small.outputs(small.model, x), atol=1e-4)


def test_a_layer_that_does_more_than_its_system_is_named():
    class Activated(torch_networks.S5):
        def forward(self, u):
            return torch.relu(super().forward(u))

    module = tiny()
    layer = Activated(4, 6)
    layer.load_state_dict(module.layers[1].seq.state_dict())
    module.layers[1].seq = layer
    adapter = sr.adapters.S5(conj_sym=True, discretization="zoh")
    with pytest.raises(sr.errors.EvaluationError, match=r"'layers\.1\.seq'.*more than its system"):
        sr.compress(module, [digits(12)], ratio=0.5, adapter=adapter)


def test_the_checkpoint_of_last_in_pytorch():
    """Trained in Flax: the same numbers through the PyTorch network."""
    r = recorded("s5_last_uni_digits64")
    net = sr.network(torch_networks.s5_last_digits(), adapter=S5_FLAGS)
    z = net.outputs(net.model, torch.tensor(r.x[:50], dtype=torch.float32))
    expected = r.network(r.model, r.x[:50])
    z = z - np.log(np.exp(z).sum(1, keepdims=True))
    np.testing.assert_allclose(z, expected, atol=1e-4)


def test_progress_is_told(capsys):
    seen = []
    x = digits(12)
    sr.compress(tiny(), [x], ratio=0.5, steps=3, progress=lambda *told: seen.append(told))
    assert seen == [
        ("original", 1, 1),
        ("refit", 1, 2),
        ("refit", 2, 2),
        *[("finish", step, 3) for step in (1, 2, 3)],
    ]
    sr.compress(tiny(), [x], ratio=0.5, steps=3, progress=False)
    assert capsys.readouterr().err == ""
    sr.compress(tiny(), [x], ratio=0.5, steps=3, progress=True)
    assert "finish" in capsys.readouterr().err


def test_a_layer_alone_is_a_network():
    torch.manual_seed(0)
    layer, x = torch_networks.S5(3, 6), torch.randn(30, 20, 3)
    net = sr.network(layer)
    assert net.model.layers == (".",)
    small = sr.compress(net, [x], ratio=0.5, steps=20)
    assert small.model.orders == {".": 3}
    rebuilt = small.rebuild(small.model)
    assert isinstance(rebuilt, SSMLayer)
    np.testing.assert_allclose(run(rebuilt, x), small.outputs(small.model, x), atol=1e-4)
    np.testing.assert_allclose(net.outputs(net.model, x), run(layer, x), atol=1e-4)
