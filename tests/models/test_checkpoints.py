"""Files: what is written is read back bit for bit, also by the libraries whose formats they are."""

import os

import numpy as np
import pytest
from support.files import assert_nothing_but, every_suffix
from support.oracles import assert_same_bits

from ssmreduce._support.trees import foreign_dtype
from ssmreduce.models._checkpoints import read_file, write_file


def bits(name, *shape):
    count = int(np.prod(shape))
    dtype = foreign_dtype(name)
    return (np.arange(count) + 60).astype(dtype[0]).view(dtype).reshape(shape)


PLAIN = [
    "bool",
    "complex64",
    *(f"float{n}" for n in (16, 32, 64)),
    *(f"{s}int{n}" for s in ("u", "") for n in (8, 16, 32, 64)),
]
ARRAYS = {
    **{name: np.array([[1, 0, 3], [0, 5, 1]]).astype(name) for name in PLAIN},
    **{name: bits(name, 2, 3) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")},
    "scalar": np.array(2.5, dtype=np.float32),
    "bfloat16-scalar": bits("bfloat16", 1).reshape(()),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "transposed": np.arange(12.0).reshape(3, 4).T,
    "strided": np.arange(12.0, dtype=np.float32)[::-3],
    "bfloat16-transposed": bits("bfloat16", 2, 3).T,
    "subnormal": np.array([1e-42, -0.0, 3.4e38], dtype=np.float32),
    "not finite": np.array([np.nan, np.inf, -np.inf], dtype=np.float32),
}


# ---------------------------------------------------------------- round trips


@every_suffix
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_return_bit_for_bit(suffix, name, tmp_path):
    array = ARRAYS[name]
    write_file(tmp_path / f"x{suffix}", {"layer.weight": array, "b": np.ones(2)}, {})
    params, metadata = read_file(tmp_path / f"x{suffix}")
    assert set(params) == {"layer.weight", "b"}
    assert metadata == {}
    assert_same_bits(params["layer.weight"], np.array(array, order="C"))
    assert_nothing_but(tmp_path, f"x{suffix}")


@every_suffix
@pytest.mark.parametrize("dtype", [">f4", ">c8", ">i8"])
def test_big_endian_arrays_keep_their_values(suffix, dtype, tmp_path):
    array = np.array([1, 2, 500], dtype=dtype)
    write_file(tmp_path / f"x{suffix}", {"a": array}, {})
    np.testing.assert_array_equal(read_file(tmp_path / f"x{suffix}")[0]["a"], array)


@pytest.mark.parametrize("suffix", [".npz", ".msgpack", ".pt"])
def test_complex128(suffix, tmp_path):
    array = np.array([1 + 2j, np.pi])
    write_file(tmp_path / f"x{suffix}", {"a": array}, {})
    assert_same_bits(read_file(tmp_path / f"x{suffix}")[0]["a"], array)


@pytest.mark.parametrize("suffix", [".msgpack", ".pt"])
@pytest.mark.parametrize("leaf", [3, 2.5, True, None, "adam", 1 + 2j, [1, 2.5], {}, b"ab"], ids=repr)
def test_leaves_that_are_not_arrays(suffix, leaf, tmp_path):
    write_file(tmp_path / f"x{suffix}", {"a/b": leaf, "a/c": np.ones(2)}, {})
    read = read_file(tmp_path / f"x{suffix}")[0]["a/b"]
    assert read == leaf
    assert type(read) is type(leaf)


@every_suffix
def test_numpy_scalars(suffix, tmp_path):
    write_file(tmp_path / f"x{suffix}", {"a": np.float32(0.1)}, {})
    read = read_file(tmp_path / f"x{suffix}")[0]["a"]
    assert read.dtype == np.float32
    assert read == np.float32(0.1)


def test_empty_branches_are_left_out_of_array_files(tmp_path):
    write_file(tmp_path / "x.npz", {"a": np.ones(2), "batch_stats": {}}, {})
    assert set(read_file(tmp_path / "x.npz")[0]) == {"a"}


def test_only_safetensors_holds_metadata(tmp_path):
    write_file(tmp_path / "x.safetensors", {"a": np.ones(2)}, {"format": "pt", "note": "ä"})
    assert read_file(tmp_path / "x.safetensors")[1] == {"format": "pt", "note": "ä"}


@every_suffix
@pytest.mark.parametrize("name", ["params/encoder/layers_0/seq/B", "layers.0.seq.B", "ä", "with space"])
def test_names(suffix, name, tmp_path):
    write_file(tmp_path / f"x{suffix}", {name: np.ones(2)}, {})
    assert set(read_file(tmp_path / f"x{suffix}")[0]) == {name}


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".bin", ".PT"])
def test_other_suffixes_of_torch(suffix, tmp_path):
    torch = pytest.importorskip("torch")
    write_file(tmp_path / f"x{suffix}", {"a": np.ones(2)}, {})
    assert torch.equal(torch.load(tmp_path / f"x{suffix}", weights_only=True)["a"], torch.ones(2, dtype=torch.float64))


@every_suffix
def test_the_content_tells_the_format_not_the_suffix(suffix, tmp_path):
    write_file(tmp_path / f"x{suffix}", {"a": np.ones(2)}, {})
    os.replace(tmp_path / f"x{suffix}", tmp_path / "x.unknown")
    assert_same_bits(read_file(tmp_path / "x.unknown")[0]["a"], np.ones(2))


def test_a_safetensors_header_may_begin_like_a_zip_archive(tmp_path):
    path = tmp_path / "x.safetensors"
    pad = 0
    for _ in range(2):  # the header's length is the first number of the file; 0x4B50 reads "PK"
        write_file(path, {"a": np.ones(2)}, {"pad": "x" * pad})
        pad += 0x4B50 - int.from_bytes(path.read_bytes()[:8], "little")
    write_file(path, {"a": np.ones(2)}, {"pad": "x" * pad})
    assert path.read_bytes()[:2] == b"PK"
    assert_same_bits(read_file(path)[0]["a"], np.ones(2))


# ---------------------------------------------------------------- the libraries themselves


def torch_values(torch):
    return {
        "bf16": torch.arange(6).reshape(2, 3).to(torch.bfloat16),
        "f8": torch.arange(6).to(torch.float8_e4m3fn),
        "f8b": torch.arange(6).to(torch.float8_e5m2),
        "c64": torch.tensor([1 + 2j, 3.5]),
        "step": torch.tensor(7),
        "view": torch.arange(6.0).reshape(2, 3).T,
        "empty": torch.zeros(0, 2),
    }


def assert_same_tensors(read, expected, torch):
    assert read.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(
            read[name].contiguous().view(-1).view(torch.uint8), tensor.contiguous().view(-1).view(torch.uint8)
        )


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_torch_reads_what_we_rewrote(suffix, tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {name: value.contiguous() for name, value in torch_values(torch).items()}
    if suffix == ".pt":
        save, load = torch.save, lambda path: torch.load(path, weights_only=True)
    else:
        library = pytest.importorskip("safetensors.torch")
        save, load = library.save_file, library.load_file
    save(tensors, tmp_path / f"theirs{suffix}")
    params, metadata = read_file(tmp_path / f"theirs{suffix}")
    write_file(tmp_path / f"ours{suffix}", params, metadata)
    assert_same_tensors(load(tmp_path / f"ours{suffix}"), tensors, torch)


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_training_checkpoint(legacy, tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    whole = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "loss": 0.5}
    torch.save(whole, tmp_path / "x.ckpt", _use_new_zipfile_serialization=not legacy)
    params, _ = read_file(tmp_path / "x.ckpt")
    np.testing.assert_array_equal(params["model/weight"], model.weight.detach().numpy(), strict=True)
    write_file(tmp_path / "y.ckpt", params, {})
    again = torch.load(tmp_path / "y.ckpt", weights_only=True)
    assert again.keys() == whole.keys()
    assert (again["epoch"], again["loss"]) == (3, 0.5)
    assert torch.equal(again["model"]["bias"], model.bias)
    assert torch.equal(again["optimizer"]["state"][0]["exp_avg"], whole["optimizer"]["state"][0]["exp_avg"])
    torch.optim.Adam(model.parameters()).load_state_dict(again["optimizer"])


def flax_tree(jnp):
    return {
        "params": {"seq": {"B": jnp.arange(6.0).reshape(2, 3), "half": jnp.ones(3, dtype=jnp.bfloat16)}},
        "opt_state": ({"mu": jnp.zeros(2)}, None),
        "step": 12,
        "rate": np.float32(0.1),
        "phase": 1 + 2j,
        "empty": {},
    }


def test_flax_reads_what_we_rewrote(tmp_path):
    jax = pytest.importorskip("jax")
    serialization = pytest.importorskip("flax.serialization")
    tree = flax_tree(jax.numpy)
    theirs = serialization.to_bytes(tree)
    (tmp_path / "x.msgpack").write_bytes(theirs)
    params, _ = read_file(tmp_path / "x.msgpack")
    assert params["step"] == 12
    np.testing.assert_array_equal(params["params/seq/B"], tree["params"]["seq"]["B"], strict=True)
    write_file(tmp_path / "y.msgpack", params, {})
    assert (tmp_path / "y.msgpack").read_bytes() == theirs
    again = serialization.from_bytes(tree, (tmp_path / "y.msgpack").read_bytes())
    assert again["params"]["seq"]["half"].dtype == jax.numpy.bfloat16
    assert again["phase"] == 1 + 2j


def test_numpy_reads_what_we_wrote(tmp_path):
    write_file(tmp_path / "x.npz", {"a/b": np.arange(3), "text": np.array(["S5"])}, {})
    with np.load(tmp_path / "x.npz") as archive:
        assert_same_bits(archive["a/b"], np.arange(3))
        assert archive["text"][0] == "S5"
