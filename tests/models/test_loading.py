"""load, read and save: a model goes through every format, from memory, and comes out as it was."""

from dataclasses import dataclass

import numpy as np
import pytest
from support.families import CASES, LAYER, N
from support.files import assert_nothing_but, every_suffix
from support.oracles import assert_same_bits

import ssmreduce as sr
from ssmreduce._support.trees import foreign_dtype
from ssmreduce.adapters._lru import LRU
from ssmreduce.adapters._s5 import S5, S5PyTorch
from ssmreduce.errors import (
    CheckpointFormatError,
    MissingFileError,
    MissingFlagError,
    NonFiniteError,
    NotRepresentableError,
    UnknownNameError,
    WriteError,
)

OTHERS = {
    "params/decoder/kernel": np.arange(6, dtype=np.float16).reshape(2, 3),
    "params/decoder/bias": np.arange(3, dtype="u2").view(foreign_dtype("bfloat16")),
    "batch_stats/count": np.array(7),
    "params/nothing": np.zeros((0, 2), dtype=np.float32),
}


def model_of(name, rng, **options):
    return sr.read({**OTHERS, **CASES[name].params(rng, **options)}, adapter=CASES[name].adapter)


def assert_same_params(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert_same_bits(a[name], b[name])


@every_suffix
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["s5", "s5_pytorch", "s4d", "lru", "lru-complex"])
def test_an_untouched_model_is_saved_bit_for_bit(suffix, dtype, name, rng, tmp_path):
    model = model_of(name, rng, dtype=dtype)
    if suffix == ".safetensors" and any(value.dtype == complex for value in model.params.values()):
        with pytest.raises(CheckpointFormatError, match="complex128, which a safetensors file cannot hold"):
            sr.save(model, tmp_path / "x.safetensors")
        return
    sr.save(model, tmp_path / f"x{suffix}")
    again = sr.load(tmp_path / f"x{suffix}", adapter=model.adapter)
    assert_same_params(again.params, model.params)
    assert again.layers == model.layers
    assert_nothing_but(tmp_path, f"x{suffix}")


@every_suffix
@pytest.mark.parametrize("form", ["compact", "mask", "padded"])
def test_a_pruned_model_keeps_the_other_parameters(suffix, form, rng, tmp_path):
    model = model_of("s5", rng)
    pruned = sr.prune(model, {LAYER: [0, 3, 4]})
    sr.save(pruned, tmp_path / f"x{suffix}", form=form)
    again = sr.load(tmp_path / f"x{suffix}", adapter=model.adapter)
    for name in OTHERS:
        assert_same_bits(again.params[name], OTHERS[name])
    assert_same_params(dict(again.params), sr.export(pruned, form=form))
    order = N if form == "mask" else 3
    assert again[LAYER].order == order


def test_a_padded_model_has_one_order(rng):
    params = CASES["lru"].params(rng, prefix="a.") | CASES["lru"].params(rng, prefix="b.")
    pruned = sr.prune(sr.read(params), {"a": [1, 2], "b": [0, 2, 3, 5]})
    compact, padded = (sr.read(sr.export(pruned, form=form)) for form in ("compact", "padded"))
    assert compact.orders == {"a": 2, "b": 4}
    assert padded.orders == {"a": 4, "b": 4}
    u = rng.standard_normal((20, 3))
    for name in "ab":
        np.testing.assert_allclose(sr.simulate(padded[name], u), sr.simulate(pruned[name], u), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["mask", "padded"])
def test_a_re_realised_layer_is_only_compact(form, rng):
    model = model_of("lru", rng)
    changed = sr.models.replace_system(model, LAYER, model[LAYER])
    with pytest.raises(NotRepresentableError, match=f"{LAYER} were re-realised; only form='compact'"):
        sr.export(changed, form=form)
    assert_same_params(sr.export(changed), dict(model.params))


@pytest.mark.parametrize("form", ["compact", "padded"])
def test_no_state_at_all_is_only_a_mask(form, rng):
    model = model_of("lru", rng)
    empty = sr.prune(model, {LAYER: []})
    with pytest.raises(NotRepresentableError, match="would keep no state.*form='mask'"):
        sr.export(empty, form=form)
    u = rng.standard_normal((20, 3))
    np.testing.assert_allclose(sr.simulate(sr.read(sr.export(empty, form="mask"))[LAYER], u), u @ model[LAYER].D.T)


@pytest.mark.parametrize("name", CASES)
def test_a_system_without_states_is_refused(name, rng):
    model = model_of(name, rng)
    with pytest.raises(NotRepresentableError, match="would keep no state"):
        sr.export(sr.models.replace_system(model, LAYER, sr.prune(model, {LAYER: []})[LAYER]))


# ---------------------------------------------------------------- the adapter that a file remembers


@pytest.mark.parametrize("name", CASES)
def test_safetensors_remembers_the_adapter(name, rng, tmp_path):
    model = model_of(name, rng)
    sr.save(model, tmp_path / "x.safetensors")
    assert sr.load(tmp_path / "x.safetensors").adapter == model.adapter


def test_a_given_adapter_goes_before_the_remembered_one(rng, tmp_path):
    sr.save(model_of("s5", rng), tmp_path / "x.safetensors")
    given = S5(conj_sym=False, discretization="bilinear")
    model = sr.load(tmp_path / "x.safetensors", adapter=given)
    assert model.adapter == given
    sr.save(model, tmp_path / "y.safetensors")
    assert sr.load(tmp_path / "y.safetensors").adapter == given


@dataclass(frozen=True, kw_only=True)
class OwnLRU(LRU):
    """A family of the user's."""


def test_a_family_of_one_s_own_is_not_mistaken_for_the_one_remembered(rng, tmp_path):
    sr.save(model_of("lru", rng), tmp_path / "x.safetensors")
    model = sr.load(tmp_path / "x.safetensors", adapter=OwnLRU())
    assert model.metadata
    sr.save(model, tmp_path / "y.safetensors")
    again = sr.load(tmp_path / "y.safetensors")
    assert again.metadata == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "hyena"}', '{"name": "s5"}', '{"name": "lru", "x": 1}'])
def test_a_memory_that_cannot_be_read(text, rng, tmp_path):
    from ssmreduce.models._checkpoints import write_file

    write_file(tmp_path / "x.safetensors", CASES["lru"].params(rng), {"ssmreduce.adapter": text})
    with pytest.raises(CheckpointFormatError, match="remembers cannot be read.*give adapter="):
        sr.load(tmp_path / "x.safetensors")
    assert sr.load(tmp_path / "x.safetensors", adapter=LRU()).adapter == LRU()


# ---------------------------------------------------------------- from memory


def test_nested_and_flat_trees_are_the_same_model(rng):
    flat = model_of("s5", rng)
    nested = sr.read(sr.models.unflatten(flat.params), adapter=flat.adapter)
    assert_same_params(nested.params, flat.params)


def test_jax_tree_there_and_back(rng):
    jax = pytest.importorskip("jax")
    core = pytest.importorskip("flax.core")
    params = CASES["s5"].params(rng)
    tree = core.freeze(jax.tree.map(jax.numpy.asarray, sr.models.unflatten(params)))
    model = sr.read(tree, adapter=CASES["s5"].adapter)
    assert_same_params(model.params, params)
    back = jax.tree.map(jax.numpy.asarray, sr.models.unflatten(sr.export(sr.prune(model, {LAYER: [0, 5]}))))
    assert back["params"]["encoder"]["layers_0"]["seq"]["B"].shape == (2, 3, 2)


def test_flax_train_state(rng, tmp_path):
    pytest.importorskip("flax")
    import jax
    import optax
    from flax import serialization
    from flax.training.train_state import TrainState

    tree = jax.tree.map(jax.numpy.asarray, sr.models.unflatten(CASES["s5"].params(rng)))
    state = TrainState.create(apply_fn=None, params=tree["params"], tx=optax.adam(1e-3))
    (tmp_path / "x.msgpack").write_bytes(serialization.to_bytes(state))
    model = sr.load(tmp_path / "x.msgpack", adapter=CASES["s5"].adapter)
    assert model.layers == (LAYER,)
    assert model.params["step"] == 0
    sr.save(sr.prune(model, {LAYER: [1]}), tmp_path / "y.msgpack", form="mask")
    again = serialization.from_bytes(state, (tmp_path / "y.msgpack").read_bytes())
    assert jax.tree.structure(again.opt_state) == jax.tree.structure(state.opt_state)
    masked = again.params["encoder"]["layers_0"]["seq"]["B"]
    np.testing.assert_array_equal(np.flatnonzero(np.any(masked, axis=(1, 2))), [1])


def test_torch_module_and_state_dict():
    torch = pytest.importorskip("torch")

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            generator = np.random.default_rng(0)
            for name, value in CASES["s5_pytorch"].params(generator, prefix="").items():
                self.register_parameter(name, torch.nn.Parameter(torch.tensor(value)))

    module = torch.nn.Sequential(Layer(), torch.nn.Linear(3, 2), Layer())
    live, stored = sr.read(module), sr.read(module.state_dict())
    assert live.adapter == S5PyTorch()
    assert live.layers == ("0", "2")
    assert_same_params(live.params, stored.params)
    masked = sr.export(sr.prune(live, {"2": [0, 1]}), form="mask")
    module.load_state_dict({name: torch.as_tensor(value.copy()) for name, value in masked.items()}, strict=True)
    np.testing.assert_array_equal(sr.read(module)["2"].C[:, 2:], 0)


# ---------------------------------------------------------------- bad input


@every_suffix
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_parameters_that_are_not_finite(suffix, bad, rng, tmp_path):
    model = model_of("lru", rng)
    broken = {**model.params, f"{LAYER}/B_im": np.full_like(model.params[f"{LAYER}/B_im"], bad)}
    from ssmreduce.models._checkpoints import write_file

    write_file(tmp_path / f"x{suffix}", broken, {})
    with pytest.raises(NonFiniteError, match=f"'{LAYER}/B_im' holds NaN or infinite"):
        sr.load(tmp_path / f"x{suffix}")


def test_other_parameters_may_be_anything(rng):
    params = {**CASES["lru"].params(rng), "threshold": np.array([np.nan, np.inf]), "name": "S5"}
    assert sr.read(params).layers == (LAYER,)


def test_a_file_without_its_flags(rng, tmp_path):
    sr.save(model_of("s5", rng), tmp_path / "x.npz")
    with pytest.raises(MissingFlagError, match="conj_sym"):
        sr.load(tmp_path / "x.npz")


def test_bad_paths_and_forms(rng, tmp_path):
    model = model_of("lru", rng)
    with pytest.raises(MissingFileError):
        sr.load(tmp_path / "x.npz")
    with pytest.raises(CheckpointFormatError, match="cannot tell a format"):
        sr.save(model, tmp_path / "x.h5")
    with pytest.raises(UnknownNameError, match="no form 'ragged'; choose from compact, mask, padded"):
        sr.save(model, tmp_path / "x.npz", form="ragged")
    with pytest.raises(WriteError, match="cannot write"):
        sr.save(model, tmp_path / "missing" / "x.npz")
    assert_nothing_but(tmp_path)


def test_a_selection_that_cannot_be_written_leaves_the_old_file(rng, tmp_path):
    model = model_of("s4d", rng)
    sr.save(model, tmp_path / "x.npz")
    before = (tmp_path / "x.npz").read_bytes()
    with pytest.raises(NotRepresentableError, match="between 0 and 2 states"):
        sr.save(sr.prune(model, {LAYER: [0, 1, 6]}), tmp_path / "x.npz")
    assert (tmp_path / "x.npz").read_bytes() == before
    assert_nothing_but(tmp_path, "x.npz")
