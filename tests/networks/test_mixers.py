"""Drop-in mixers in the families of transformers: the same outputs, caches that shrink, folders."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.selective_networks import CONFIGS, network, tokens

from ssmreduce import networks
from ssmreduce.adapters import MambaAdapter, mamba_adapter
from ssmreduce.errors import (
    CheckpointFormatError,
    FileTooLargeError,
    IncompleteLayerError,
    MissingFileError,
    NotCausalError,
    NotRepresentableError,
    UnknownLayerError,
)
from ssmreduce.networks import (
    SelectiveMixer,
    load_selective,
    mixer_layer,
    replace_mixers,
    save_selective,
    selective_mixers,
    walk,
)
from ssmreduce.networks._folders import KEY
from ssmreduce.selective import random_layer, run, simulate, take_states

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("default")  # transformers warns of its own future


def outputs(model, ids):
    with torch.no_grad():
        return model(ids, use_cache=False).logits


def dropped_in(model, change=lambda layer: layer):
    return replace_mixers(model, {name: change(mixer_layer(m)) for name, m in selective_mixers(model).items()})


def first_states(layer, order=5):
    return take_states(layer, np.arange(order))


def rotated(layer, order=5):
    """A Mamba-2 layer with full mixes of a smaller order."""
    rng = np.random.default_rng(0)
    mixes = rng.standard_normal((2, layer.groups, order, layer.rows)) / np.sqrt(layer.rows)
    return replace(layer, mix_B=mixes[0], mix_C=mixes[1])


@pytest.mark.parametrize("kind", CONFIGS)
def test_drop_in_mixers_change_nothing(kind):
    model = network(kind)
    full = outputs(model, tokens())
    ours = outputs(dropped_in(model), tokens())
    torch.testing.assert_close(ours, full, rtol=0, atol=1e-5 * float(full.abs().max()))


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_tells_what_the_live_mixers_tell(kind):
    model = network(kind)
    adapter = mamba_adapter(json.loads(model.config.to_json_string(use_diff=False)))
    params = {name: value.numpy() for name, value in model.state_dict().items()}
    mixers = selective_mixers(model)
    assert adapter.find(params) == tuple(mixers)
    for name, mixer in mixers.items():
        ids = np.random.default_rng(0).standard_normal((1, 20, 32))
        np.testing.assert_allclose(
            simulate(adapter.get(params, name), ids), simulate(mixer_layer(mixer), ids), rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize("kind", CONFIGS)
def test_put_returns_what_get_took(kind):
    model = network(kind)
    adapter = mamba_adapter(json.loads(model.config.to_json_string(use_diff=False)))
    params = {name: value.numpy() for name, value in model.state_dict().items()}
    for name in adapter.find(params):
        again = adapter.put(params, name, adapter.get(params, name))
        assert list(again) == list(params)
        for key, value in params.items():
            assert again[key].dtype == value.dtype
            if kind == "falcon_h1":  # its factors multiply and divide
                np.testing.assert_allclose(again[key], value, rtol=1e-6)
            else:
                np.testing.assert_array_equal(again[key], value)


@pytest.mark.parametrize("kind", ["mamba", "falcon_mamba", "mamba2"])
def test_decoding_equals_the_parallel_form_and_the_cache_shrinks(kind):
    model = dropped_in(network(kind), first_states)
    ids = tokens(30)
    whole = outputs(model, ids)
    with torch.no_grad():
        head = model(ids[:, :17], use_cache=True)
        cache = head.cache
        parts = [head.logits]
        for t in range(17, 30):
            parts.append(model(ids[:, t : t + 1], cache=cache, use_cache=True).logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-4 * float(whole.abs().max()))
    assert cache.get_recurrent_state(0).shape[-1] == 5


@pytest.mark.parametrize("kind", ["mamba2", "jamba", "bamba", "zamba2", "falcon_h1"])
def test_generation_runs_through_drop_in_mixers(kind):
    """Prompt, cache and single steps as transformers calls them, attention layers included."""
    model = network(kind)
    wanted = model.generate(tokens(9), max_new_tokens=12, do_sample=False)
    assert torch.equal(dropped_in(model).generate(tokens(9), max_new_tokens=12, do_sample=False), wanted)


@pytest.mark.parametrize("kind", ["mamba1", "mamba2"])
def test_two_thousand_tokens_in_parallel_in_chunks_and_step_by_step(kind):
    """Against the layer in double precision."""
    layer = random_layer(kind, width=16, order=16, seed=1)
    layer = rotated(layer, 6) if kind == "mamba2" else first_states(layer, 6)
    mixer = SelectiveMixer(layer, layer_idx=0).eval()
    u = np.random.default_rng(2).standard_normal((2, 2048, 16))
    wanted = simulate(layer, u)
    tensor, bound = torch.as_tensor(u, dtype=torch.float32), 1e-5 * np.abs(wanted).max()
    with torch.no_grad():
        np.testing.assert_allclose(mixer(tensor).numpy(), wanted, rtol=0, atol=bound)
        cache, parts = one_layer_cache(), []
        for start in range(0, 2048, 300):
            parts.append(mixer(tensor[:, start : start + 300], cache=cache))
        np.testing.assert_allclose(torch.cat(parts, 1).numpy(), wanted, rtol=0, atol=bound)
        cache = one_layer_cache()
        parts = [mixer(tensor[:, t : t + 1], cache=cache) for t in range(2048)]
        np.testing.assert_allclose(torch.cat(parts, 1).numpy(), wanted, rtol=0, atol=bound)
    assert cache.get_recurrent_state(0).shape[-1] == 6


def one_layer_cache():
    config = transformers.AutoConfig.for_model("mamba2", num_hidden_layers=1, hidden_size=16, num_heads=4, head_dim=8)
    return transformers.DynamicCache(config=config)


def test_left_padding_changes_nothing():
    model = dropped_in(network("mamba2"), rotated)
    ids = tokens(20)
    padded = torch.cat([torch.zeros_like(ids[:, :6]), ids], dim=1)
    mask = torch.cat([torch.zeros_like(ids[:, :6]), torch.ones_like(ids)], dim=1)
    with torch.no_grad():
        ours = model(padded, attention_mask=mask, use_cache=False).logits[:, 6:]
    torch.testing.assert_close(ours, outputs(model, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["mamba1", "mamba2"])
def test_half_precision_runs_and_stays_near(kind):
    layer = random_layer(kind, width=16, order=8, seed=1)
    u = np.random.default_rng(2).standard_normal((2, 64, 16))
    mixer = SelectiveMixer(layer, dtype=torch.bfloat16)
    with torch.no_grad():
        y = mixer(torch.as_tensor(u, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    wanted = simulate(layer, u)
    assert np.linalg.norm(y.float().numpy() - wanted) < 0.03 * np.linalg.norm(wanted)


def test_one_graph_is_compiled():
    """Tracing meets nothing that breaks the graph; the traced graph is run as it is."""
    mixer = SelectiveMixer(rotated(random_layer("mamba2", width=16, order=8), 3)).eval()
    u = torch.randn(2, 32, 16)
    with torch.no_grad():
        compiled = torch.compile(mixer, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(u), mixer(u))


def test_a_mixer_returns_its_layer_and_trains():
    layer = rotated(random_layer("mamba2", width=16, order=8), 3)
    mixer = SelectiveMixer(layer, dtype=torch.float64)
    again = mixer.layer()
    for name in ("in_proj", "mix_B", "mix_C", "A_log", "norm_weight"):
        np.testing.assert_array_equal(getattr(again, name), getattr(layer, name))
    mixer(torch.randn(2, 8, 16, dtype=torch.float64)).square().sum().backward()
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in mixer.parameters())


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind not in ("falcon_mamba", "jamba")])
def test_a_selection_is_a_stock_folder(kind, tmp_path):
    small = dropped_in(network(kind), first_states)
    assert save_selective(small, tmp_path / "small")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small").eval()
    assert not any(isinstance(mixer, SelectiveMixer) for mixer in selective_mixers(loaded).values())
    ours = outputs(small, tokens())
    torch.testing.assert_close(outputs(loaded, tokens()), ours, rtol=0, atol=1e-4 * float(ours.abs().max()))
    for mixer in selective_mixers(loaded).values():
        assert mixer.ssm_state_size == 5


@pytest.mark.parametrize(("kind", "change"), [("mamba2", rotated), ("falcon_mamba", first_states), ("bamba", rotated)])
def test_a_folder_of_drop_in_mixers(kind, change, tmp_path):
    small = dropped_in(network(kind), change)
    with pytest.raises(NotRepresentableError, match="stock code"):
        save_selective(small, tmp_path / "small", stock=True)
    assert not save_selective(small, tmp_path / "small")
    loaded = load_selective(tmp_path / "small")
    torch.testing.assert_close(outputs(loaded, tokens()), outputs(small, tokens()))


def spoil_weight(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def change_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def spoil_description(folder):
    config = json.loads((folder / "config.json").read_text())
    for entry in config[KEY].values():
        entry["arrays"]["A_log"] = [10**12]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("stock", [True, False])
def test_folders_are_verified_and_limited(stock, tmp_path):
    model = network("mamba2")
    small = model if stock else dropped_in(model, rotated)
    assert save_selective(small, tmp_path) == stock
    torch.testing.assert_close(outputs(load_selective(tmp_path), tokens()), outputs(small, tokens()))
    with pytest.raises(FileTooLargeError, match="max_bytes"):
        load_selective(tmp_path, max_bytes=1000)
    change_config(tmp_path, vocab_size=10**15)
    with pytest.raises(FileTooLargeError, match="bytes"):
        load_selective(tmp_path)
    change_config(tmp_path, vocab_size=model.config.vocab_size)
    if not stock:
        spoil_description(tmp_path)
        with pytest.raises(CheckpointFormatError, match="shape"):
            load_selective(tmp_path)
    spoil_weight(tmp_path)
    with pytest.raises(CheckpointFormatError, match="SHA-256"):
        load_selective(tmp_path)


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_layers_of_unequal_order_in_a_folder(kind, tmp_path):
    model = network(kind)
    names = list(selective_mixers(model))
    layers = {name: first_states(mixer_layer(model.get_submodule(name)), k + 2) for k, name in enumerate(names)}
    small = replace_mixers(model, layers)
    for stock, name in ((None, "PerLayer"), (False, "Mamba")):
        assert not save_selective(small, tmp_path / name, stock=stock)
        loaded = load_selective(tmp_path / name)
        assert type(loaded).__name__.startswith(name)
        torch.testing.assert_close(outputs(loaded, tokens()), outputs(small, tokens()), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "name"), [("mamba", "PerLayerMambaForCausalLM"), ("mamba2", "PerLayerMamba2ForCausalLM")]
)
def test_a_state_size_for_each_layer(kind, name, tmp_path):
    cls, stock = getattr(networks, name), network(kind)
    config = type(stock.config)(**{**stock.config.to_dict(), "per_layer_config": {1: {"state_size": 3}}})
    model = cls(config).eval()
    assert [block.mixer.ssm_state_size for block in model.backbone.layers][:2] == [stock.config.state_size, 3]
    model.save_pretrained(tmp_path / "model")
    again = cls.from_pretrained(tmp_path / "model").eval()
    torch.testing.assert_close(outputs(again, tokens()), outputs(model, tokens()))
    equal = cls(stock.config)
    assert {name: v.shape for name, v in equal.state_dict().items()} == {
        n: v.shape for n, v in stock.state_dict().items()
    }
    with torch.no_grad():
        cached = model.generate(tokens()[:1, :5], max_new_tokens=4, do_sample=False)
        again = model.generate(tokens()[:1, :5], max_new_tokens=4, do_sample=False, use_cache=False)
    assert cached.tolist() == again.tolist()


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_walk_that_keeps_the_layers_keeps_the_outputs(kind):
    model = network(kind)
    seen = []
    kept, layers = walk(model, [tokens(), tokens(seed=1)], lambda visit: seen.append(visit) or visit.layer)
    full = outputs(model, tokens())
    torch.testing.assert_close(outputs(kept, tokens()), full, rtol=0, atol=1e-5 * float(full.abs().max()))
    assert list(layers) == list(selective_mixers(model))
    for visit in seen:
        for u, y in zip(visit.inputs, visit.targets, strict=True):
            ours = simulate(visit.layer, u.astype(np.float64))
            np.testing.assert_allclose(ours, y, rtol=0, atol=1e-5 * np.abs(y).max())


def test_a_walk_feeds_each_layer_what_the_reduced_network_gives_it():
    model = network("mamba2")
    seen = {}

    def visit(v):
        seen[v.name] = v
        return first_states(v.layer, 3)

    small, _ = walk(model, [tokens()], visit)
    recorded = {}
    for net, key in ((model, "full"), (small, "small")):
        mixer = net.get_submodule("backbone.layers.1.mixer")
        handle = mixer.register_forward_hook(lambda _, a, out, key=key: recorded.update({key: (a[0], out)}))
        outputs(net, tokens())
        handle.remove()
    visit_1 = seen["backbone.layers.1.mixer"]
    np.testing.assert_allclose(visit_1.inputs[0], recorded["small"][0].numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(visit_1.targets[0], recorded["full"][1].numpy(), rtol=1e-4, atol=1e-5)
    assert np.abs(recorded["small"][0].numpy() - recorded["full"][0].numpy()).max() > 1e-2


def test_bad_calls_are_named(tmp_path):
    model = network("mamba2")
    with pytest.raises(UnknownLayerError, match="no selective mixer 'nowhere'"):
        replace_mixers(model, {"nowhere": random_layer("mamba2", 32, 4)})
    with pytest.raises(NotRepresentableError, match="no Mamba-1 or Mamba-2 mixers"):
        walk(torch.nn.Linear(3, 3), [torch.ones(1, 3)], lambda visit: visit.layer)
    with pytest.raises(MissingFileError, match="config.json"):
        load_selective(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointFormatError, match="read as JSON"):
        load_selective(tmp_path)
    with pytest.raises(NotRepresentableError, match="'bert' are not known"):
        mamba_adapter({"model_type": "bert"})
    params = {name: value.numpy() for name, value in model.state_dict().items()}
    adapter = MambaAdapter(groups=2)
    with pytest.raises(UnknownLayerError, match="no selective layer 'x'"):
        adapter.get(params, "x")
    del params["backbone.layers.0.mixer.dt_bias"]
    with pytest.raises(IncompleteLayerError, match="has no dt_bias"):
        adapter.get(params, "backbone.layers.0.mixer")
    both_ways = replace(random_layer("mamba1", 16, 4), bidirectional=True)
    with pytest.raises(NotCausalError, match="cannot use a cache"):
        SelectiveMixer(both_ways, layer_idx=0)(torch.ones(1, 3, 16), cache=one_layer_cache())


def test_run_of_a_live_layer_and_of_its_system_agree_on_the_state():
    layer = random_layer("mamba2", width=16, order=8)
    cache = one_layer_cache()
    u = np.random.default_rng(0).standard_normal((1, 12, 16))
    with torch.no_grad():
        SelectiveMixer(layer, layer_idx=0)(torch.as_tensor(u, dtype=torch.float32), cache=cache)
    np.testing.assert_allclose(cache.get_recurrent_state(0).numpy(), run(layer, u)[1].ssm, rtol=1e-4, atol=1e-5)
