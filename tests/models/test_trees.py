"""Trees in memory: nested mappings, modules and arrays of the frameworks to flat names, and back."""

import numpy as np
import pytest
from support.oracles import assert_same_bits

from ssmreduce._support.trees import flatten, foreign_dtype, foreign_name, unflatten
from ssmreduce.errors import CheckpointFormatError

LEAVES = [np.arange(3), np.array(2.5), 3, None, "text", [1, 2], (1,), {}, {1: "int key"}, np.float32(1)]


@pytest.mark.parametrize("leaf", LEAVES, ids=repr)
def test_leaves_pass_through_unchanged(leaf):
    tree = {"params": {"a": leaf, "b": {"c": np.ones(2)}}, "step": leaf}
    flat = flatten(tree)
    assert list(flat) == ["params/a", "params/b/c", "step"]
    assert flat["params/a"] is leaf
    assert flat["step"] is leaf
    assert unflatten(flat).keys() == tree.keys()
    assert unflatten(flat)["params"]["a"] is leaf


def test_flat_mappings_keep_their_names():
    flat = {"layers.0.seq.B": np.ones(2), "params/encoder/D": np.ones(2)}
    assert flatten(flat) == flat
    assert flatten({}) == {}
    assert unflatten({}) == {}


def test_the_order_of_the_source_is_kept():
    assert list(flatten({"z": {"b": 1, "a": 2}, "a": 3})) == ["z/b", "z/a", "a"]


@pytest.mark.parametrize("source", [None, 3, [1, 2], np.ones(3), "file.npz", {1: np.ones(2)}, {"a": {"b": 1}, 3: 2}])
def test_what_is_not_a_tree(source):
    with pytest.raises(CheckpointFormatError, match=f"mapping from names to parameters.*got {type(source).__name__}"):
        flatten(source)


def test_a_nested_key_must_not_hold_the_separator():
    with pytest.raises(CheckpointFormatError, match="'c/d'"):
        flatten({"a": {"b": 1}, "c/d": 2})


def test_a_branch_whose_keys_hold_the_separator_is_one_leaf():
    monitor = {"ModelCheckpoint{'monitor': 'val/acc'}": {"best": 1.0}}
    flat = flatten({"state_dict": {"a.b": 1}, "callbacks": monitor})
    assert flat == {"state_dict/a.b": 1, "callbacks": monitor}
    assert unflatten(flat) == {"state_dict": {"a.b": 1}, "callbacks": monitor}


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b"), ("a/b", "a/b/c")])
def test_a_name_cannot_be_tensor_and_branch(names):
    with pytest.raises(CheckpointFormatError, match="'a"):
        unflatten(dict.fromkeys(names, 1))


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_bits_of_torch_dtypes(name):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([[1.0, -2.0], [0.5, 0.0]]).to(getattr(torch, name))
    array = flatten({"a": tensor.T})["a"]
    assert array.dtype == foreign_dtype(name)
    assert foreign_name(array.dtype) == name
    bits = torch.int16 if name == "bfloat16" else torch.uint8
    np.testing.assert_array_equal(
        array[name].view(np.int16 if name == "bfloat16" else np.uint8), tensor.T.contiguous().view(bits)
    )


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_bits_of_jax_dtypes(name):
    jax = pytest.importorskip("jax")
    values = jax.numpy.array([1.0, -2.0, 0.5]).astype(name)
    array = flatten({"a": values})["a"]
    assert array.dtype == foreign_dtype(name)
    assert array.tobytes() == np.asarray(values).tobytes()


def test_ordinary_dtypes_have_no_foreign_name():
    assert foreign_name(np.dtype("f4")) is None
    assert foreign_name(np.dtype([("a", "f4")])) is None


def test_live_torch_modules():
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    flat = flatten(module)
    assert list(flat) == list(module.state_dict())
    assert_same_bits(flat["0.weight"], module[0].weight.detach().numpy())
    assert flat["1.num_batches_tracked"].shape == ()


@pytest.mark.parametrize("view", ["conj", "neg"])
def test_lazy_torch_views(view):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([1 + 2j, 3 - 1j]).conj()
    tensor, expected = (tensor, np.array([1 - 2j, 3 + 1j])) if view == "conj" else (tensor.imag, np.array([-2.0, 1.0]))
    np.testing.assert_array_equal(flatten({"a": tensor})["a"], expected.astype(flatten({"a": tensor})["a"].dtype))


def test_parameters_that_require_gradients():
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.ones(2))
    assert_same_bits(flatten({"a": parameter})["a"], np.ones(2, dtype=np.float32))


def test_jax_and_flax_trees():
    jax = pytest.importorskip("jax")
    core = pytest.importorskip("flax.core")
    tree = core.freeze({"params": {"seq": {"B": jax.numpy.ones((2, 3)), "n": jax.numpy.arange(2)}}})
    flat = flatten(tree)
    assert list(flat) == ["params/seq/B", "params/seq/n"]
    assert_same_bits(flat["params/seq/B"], np.ones((2, 3), dtype=np.float32))
    assert isinstance(flat["params/seq/n"], np.ndarray)
    back = core.freeze(jax.tree.map(jax.numpy.asarray, unflatten(flat)))
    assert jax.tree.structure(back) == jax.tree.structure(tree)
