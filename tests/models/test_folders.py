"""Folders as Hugging Face libraries write them, and checkpoints of Lightning."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.families import CASES
from support.more_families import MORE_CASES
from support.paths import DATA

import ssmreduce as sr
from ssmreduce.adapters import S5, FlowState
from ssmreduce.errors import CheckpointFormatError, FileTooLargeError, MissingFileError, MissingFlagError

INDEX = "model.safetensors.index.json"


def shards(folder, params, count=2):
    names = sorted(params)
    places = {}
    for i in range(count):
        part = {name: params[name] for name in names[i::count]}
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        save_file(part, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return places


@pytest.fixture
def params(rng):
    return {**MORE_CASES["flowstate"].params(rng, prefix="encoder.layers.0.ssm."), "head.weight": np.ones((2, 3))}


def test_one_file(tmp_path, params):
    save_file(params, tmp_path / "model.safetensors")
    model = sr.load(tmp_path)
    assert model.adapter == FlowState()
    assert model.layers == ("encoder.layers.0.ssm",)


def test_shards(tmp_path, params):
    shards(tmp_path, params)
    model = sr.load(str(tmp_path))
    assert model.params.keys() == params.keys()
    for name, value in params.items():
        np.testing.assert_array_equal(model.params[name], value, strict=True)


def test_shards_of_pytorch(tmp_path, params):
    torch = pytest.importorskip("torch")
    names = sorted(params)
    places = {}
    for i in range(2):
        part = {name: torch.as_tensor(params[name]) for name in names[i::2]}
        torch.save(part, tmp_path / f"pytorch_model-{i}.bin")
        places |= dict.fromkeys(part, f"pytorch_model-{i}.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert sr.load(tmp_path).params.keys() == params.keys()


def test_the_configuration_gives_the_flags_that_it_names(tmp_path, rng):
    save_file(CASES["s5"].params(rng, prefix="layers.0.seq."), tmp_path / "model.safetensors")
    with pytest.raises(MissingFlagError, match="does not hold conj_sym, discretization"):
        sr.load(tmp_path)
    config = {"conj_sym": True, "d_model": 3, "auto_map": {"AutoModel": "modeling.Evil"}}
    (tmp_path / "modeling.py").write_text("raise SystemExit('executed')")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(MissingFlagError, match="does not hold discretization"):
        sr.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "discretization": "bilinear"}))
    assert sr.load(tmp_path).adapter == S5(conj_sym=True, discretization="bilinear")
    given = S5(conj_sym=False, discretization="zoh")
    assert sr.load(tmp_path, adapter=given).adapter == given


def test_what_is_no_model_folder(tmp_path):
    with pytest.raises(MissingFileError, match=r"holds none of model\.safetensors"):
        sr.load(tmp_path)


def test_a_missing_shard(tmp_path, params):
    places = shards(tmp_path, params)
    (tmp_path / next(iter(places.values()))).unlink()
    with pytest.raises(MissingFileError, match="there is no such file"):
        sr.load(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("not json", "cannot be read as JSON"),
        ("[1]", "must hold an object, got list"),
        ('{"weight_map": 3}', "has no weight_map"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "which is not in the folder"),
        ('{"weight_map": {"a": 3}}', "has no weight_map"),
    ],
)
def test_a_broken_index(tmp_path, index, message):
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(CheckpointFormatError, match=message):
        sr.load(tmp_path)


def test_an_index_that_lists_more_than_there_is(tmp_path, params):
    places = shards(tmp_path, params)
    places["lost.weight"] = next(iter(places.values()))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}))
    with pytest.raises(CheckpointFormatError, match="1 tensor.s. that its files do not hold: 'lost.weight'"):
        sr.load(tmp_path)


def test_a_broken_configuration(tmp_path, params):
    save_file(params, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointFormatError, match=r"config\.json.*cannot be read as JSON"):
        sr.load(tmp_path)


def test_a_checkpoint_of_lightning(tmp_path):
    """The nested state_dict is found; the state of optimisers and loops beside it is kept and no layer."""
    torch = pytest.importorskip("torch")
    state = torch.load(DATA / "formats" / "s4block_dplr_legs" / "model_state_dict.pt", weights_only=True)
    state = {f"model.{name}": value for name, value in state.items()}
    moments = {i: {"exp_avg": value.clone()} for i, value in enumerate(state.values())}
    content = {
        "epoch": 3,
        "global_step": 700,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": state,
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 0.01, "params": list(moments)}]}],
        "hyper_parameters": {"lr": 0.01},
        "loops": {"fit_loop": {"state_dict": {}}},
    }
    torch.save(content, tmp_path / "last.ckpt")
    adapter = sr.adapters.S4DPLR(real_transform="exp", dt_transform="exp")
    model = sr.load(tmp_path / "last.ckpt", adapter=adapter)
    assert model.layers == ("state_dict/model.layers.0.layer", "state_dict/model.layers.1.layer")
    sr.save(sr.prune(model, sr.select(sr.score(model), ratio=0.4, scope="system")), tmp_path / "small.ckpt")
    small = torch.load(tmp_path / "small.ckpt", weights_only=True)
    assert small["epoch"] == 3
    assert "model.layers.0.layer.kernel.C" in small["state_dict"]


class Trap:
    """Writes a file when it is unpickled, or when anything is done with it after."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


class Config(dict):
    """A configuration of a class of its own, as OmegaConf's is."""


def test_a_checkpoint_of_lightning_with_objects_gives_its_weights_and_runs_nothing(tmp_path):
    torch = pytest.importorskip("torch")
    state = torch.load(DATA / "formats" / "s4block_diag_default" / "model_state_dict.pt", weights_only=True)
    content = {
        "pytorch-lightning_version": "1.9.0",
        "state_dict": {f"model.{name}": torch.nn.Parameter(value) for name, value in state.items()},
        "hyper_parameters": Config(model=Config(d_state=16), trap=Trap(tmp_path / "executed")),
        "callbacks": {"checkpoint": {"best": tmp_path}},
    }
    torch.save(content, tmp_path / "last.ckpt")
    adapter = sr.adapters.S4Block(disc="zoh", real_transform="exp", dt_transform="exp")
    model = sr.load(tmp_path / "last.ckpt", adapter=adapter)
    assert not (tmp_path / "executed").exists()
    assert model.layers == ("state_dict/model.layers.0.layer", "state_dict/model.layers.1.layer")
    assert {name.removeprefix("state_dict/model.") for name in model.params} == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(model.params[f"state_dict/model.{name}"], value.numpy(), strict=True)


@pytest.mark.parametrize("inside", ["state_dict", "beside"])
def test_objects_in_other_files_are_refused_and_run_nothing(tmp_path, inside):
    torch = pytest.importorskip("torch")
    content = {"state_dict": {"weight": torch.ones(3)}, "config": Trap(tmp_path / "executed")}
    if inside == "state_dict":
        content = {"pytorch-lightning_version": "2.0", "state_dict": Trap(tmp_path / "executed")}
    torch.save(content, tmp_path / "model.ckpt")
    with pytest.raises(sr.errors.UnsafeFileError, match="pickled objects beside tensors"):
        sr.load(tmp_path / "model.ckpt")
    assert not (tmp_path / "executed").exists()


def test_all_shards_share_one_budget(tmp_path, params):
    shards(tmp_path, params, count=3)
    size = sum(value.nbytes for value in params.values())
    assert sr.load(tmp_path, max_bytes=size).params.keys() == params.keys()
    with pytest.raises(FileTooLargeError, match="max_bytes allows"):
        sr.load(tmp_path, max_bytes=size - 1)


def test_an_index_that_is_nested_without_end(tmp_path):
    (tmp_path / INDEX).write_text("[" * 100_000)
    with pytest.raises(CheckpointFormatError, match="JSON"):
        sr.load(tmp_path)
