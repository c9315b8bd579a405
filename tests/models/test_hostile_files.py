"""Reading under attack: damaged and crafted files end in an error of ours, and take no more memory than they may."""

import pickle
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from support.files import LIBRARY, every_suffix

from ssmreduce.errors import CheckpointFormatError, FileTooLargeError, SSMReduceError
from ssmreduce.models._checkpoints import read_contents, read_file, write_file


def flipped(data, place, mask):
    damaged = bytearray(data)
    damaged[place] ^= mask
    return bytes(damaged)


@pytest.mark.parametrize("suffix", [suffix for suffix in LIBRARY if suffix != ".msgpack"])
def test_no_flipped_bit_of_a_tensor_passes_where_there_are_checksums(suffix, rng, tmp_path):
    pytest.importorskip(LIBRARY[suffix])
    path, array = tmp_path / f"x{suffix}", np.arange(3000.0) + 0.25
    write_file(path, {"a": array, "b": np.ones((20, 30), np.float32)}, {})
    data = path.read_bytes()
    start = data.index(array[:64].tobytes())
    for place in rng.integers(start, start + array.nbytes, 60):
        path.write_bytes(flipped(data, place, 1 << int(rng.integers(8))))
        with pytest.raises(CheckpointFormatError):
            read_file(path)


@pytest.mark.parametrize("suffix", [suffix for suffix in LIBRARY if suffix != ".msgpack"])
def test_no_flipped_bit_of_a_small_file_gives_another_tensor(suffix, tmp_path):
    """Every bit of the headers, too: a shape that shrinks, two names that are exchanged."""
    pytest.importorskip(LIBRARY[suffix])
    path, wanted = tmp_path / f"x{suffix}", {"ab": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2)}
    write_file(path, wanted, {})
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(flipped(data, place, 1 << place % 8))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                params = read_file(path)[0]
        except SSMReduceError:
            continue
        for name, array in wanted.items():
            np.testing.assert_array_equal(params[name], array, strict=True)


def test_a_shape_in_an_npz_that_shrinks_is_found(tmp_path):
    np.savez(tmp_path / "x.npz", w=np.arange(64000.0))
    data = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(flipped(data, data.index(b"(64000,)") + 1, 2))
    with pytest.raises(CheckpointFormatError, match="bytes"):
        read_file(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("suffix", "checksum"), [(".npz", "CRC-32"), (".safetensors", "SHA-256"), (".msgpack", ""), (".pt", "CRC-32")]
)
def test_contents_say_what_was_verified(suffix, checksum, tmp_path):
    pytest.importorskip(LIBRARY[suffix])
    write_file(tmp_path / f"x{suffix}", {"a": np.ones(2)}, {})
    assert read_contents(tmp_path / f"x{suffix}").checksum == checksum


def test_a_safetensors_file_of_others_has_no_checksum(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    library.save_file({"a": np.ones(2), "b": np.zeros((2, 0), np.int8)}, tmp_path / "x.safetensors", {"k": "v"})
    params, metadata, checksum = read_contents(tmp_path / "x.safetensors")
    assert (params.keys(), metadata, checksum) == ({"a", "b"}, {"k": "v"}, "")


def test_the_reference_implementation_reads_our_safetensors(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    wanted = {"ä": np.arange(6.0).reshape(2, 3), "b": np.ones(3, np.int8), "c": np.zeros((0, 2), np.float32)}
    write_file(tmp_path / "x.safetensors", wanted, {"note": "ü"})
    found = library.load_file(tmp_path / "x.safetensors")
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_versions_of_modules_outlive_pytorch_files(tmp_path):
    torch = pytest.importorskip("torch")
    for whole in (torch.nn.BatchNorm1d(3).state_dict(), {"model": torch.nn.BatchNorm1d(3).state_dict(), "epoch": 3}):
        torch.save(whole, tmp_path / "x.pt")
        params, metadata = read_file(tmp_path / "x.pt")
        write_file(tmp_path / "y.safetensors", {k: v for k, v in params.items() if k != "epoch"}, metadata)
        write_file(tmp_path / "y.pt", params, read_file(tmp_path / "y.safetensors")[1])
        again = torch.load(tmp_path / "y.pt", weights_only=True)
        state = lambda tree: tree.get("model", tree)  # noqa: E731
        assert dict(state(again)._metadata) == dict(state(whole)._metadata)


# ---------------------------------------------------------------- crafted files


def npz(path, header, body=b""):
    text = header.encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body)


def torch_pickle(path, data, records=None):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", data)
        for name, record in (records or {}).items():
            archive.writestr(f"x/data/{name}", record)


def storage(key="0", count="K\x04", kind="FloatStorage"):
    return f"((X\x07\x00\x00\x00storagectorch\n{kind}\nX\x01\x00\x00\x00{key}X\x03\x00\x00\x00cpu{count}tQ".encode(
        "latin-1"
    )


def tensor(shape, strides, **options):
    numbers = lambda values: b"(" + b"".join(b"\x8a\x08" + v.to_bytes(8, "little") for v in values) + b"t"  # noqa: E731
    return (
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n"
        + storage(**options)
        + b"K\x00"
        + numbers(shape)
        + numbers(strides)
        + b"\x89ccollections\nOrderedDict\n)RtRs."
    )


def laughing(levels):
    """A dict of two names for one dict of two names for ..."""
    tree = {"z": 1}
    for _ in range(levels):
        tree = {"a": tree, "b": tree}
    return pickle.dumps(tree, protocol=2)


def nested_tuples(levels):
    """A key whose hash takes 2 ** levels steps."""
    return b"\x80\x02})" + b"q\x00h\x00\x86" * levels + b"K\x01s."


def ones(path, shape, strides, **options):
    torch_pickle(path, tensor(shape, strides, **options), {"0": bytes(16)})


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': %s, }\n"
BRACKETS = struct.pack("<Q", 99_999) + b"{" + b'"a":[' * 30_000
BYTES = b"\x80\x02}X\x01\x00\x00\x00ac__builtin__\nbytearray\n\x8a\x06" + bytes(5) + b"\x01\x85Rs."
DEEP = b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 9000 + b"K\x01" + b"s" * 9000 + b"."
CRAFTED = {
    "npz: 10^12 entries": (".npz", lambda p: npz(p, HEADER % "(1000000000000,)", bytes(80))),
    "npz: brackets": (".npz", lambda p: npz(p, "[" * 60_000)),
    "npz: negative": (".npz", lambda p: npz(p, HEADER % "(-1, -10)", bytes(80))),
    "npz: no shape": (".npz", lambda p: npz(p, HEADER % "None", bytes(80))),
    "npz: text": (".npz", lambda p: npz(p, HEADER % "('a',)", bytes(80))),
    "safetensors: brackets": (".safetensors", lambda p: p.write_bytes(BRACKETS)),
    "safetensors: list": (".safetensors", lambda p: p.write_bytes(struct.pack("<Q", 9) + b'{"a":[1]}')),
    "msgpack: 2^32 names": (".msgpack", lambda p: p.write_bytes(b"\xdf\xff\xff\xff\xff" + bytes(20))),
    "msgpack: a list of 2^32": (".msgpack", lambda p: p.write_bytes(b"\x81\xa1a\xdd\xff\xff\xff\xff" + bytes(20))),
    "msgpack: 2^32 bytes": (".msgpack", lambda p: p.write_bytes(b"\x81\xa1a\xc6\xff\xff\xff\xff" + bytes(20))),
    "msgpack: deep": (".msgpack", lambda p: p.write_bytes(b"\x81\xa1a" * 100_000 + b"\xc0")),
    "msgpack: twice": (".msgpack", lambda p: p.write_bytes(b"\x82\xa1a\x01\xa1a\x02")),
    "msgpack: list as name": (".msgpack", lambda p: p.write_bytes(b"\x81\x91\x01\x01")),
    "pt: 10^12 entries": (".pt", lambda p: ones(p, [10**12], [1])),
    "pt: beyond": (".pt", lambda p: ones(p, [2, 2], [3, 1])),
    "pt: storage too long": (".pt", lambda p: ones(p, [4], [1], count="J\x00\x00\x00\x10")),
    "pt: repeated": (".pt", lambda p: torch_pickle(p, laughing(60))),
    "pt: keys": (".pt", lambda p: torch_pickle(p, nested_tuples(60))),
    "pt: bytearray": (".pt", lambda p: torch_pickle(p, BYTES)),
    "pt: itself": (".pt", lambda p: torch_pickle(p, b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.")),
    "pt: deep": (".pt", lambda p: torch_pickle(p, DEEP)),
    "pt: 2^31 bytes": (".pt", lambda p: p.write_bytes(b"\x80\x02}X\xff\xff\xff\x7fabc")),
    "pt: 2^31 bytes in an archive": (".pt", lambda p: torch_pickle(p, b"\x80\x02}B\xff\xff\xff\x7fabc")),
    "pt: nothing": (".pt", lambda p: torch_pickle(p, b"")),
}  # fmt: skip


@pytest.mark.parametrize("case", CRAFTED)
def test_crafted_files_end_at_once_in_an_error_of_ours(case, tmp_path):
    suffix, write = CRAFTED[case]
    if suffix == ".pt":
        pytest.importorskip("torch")
    path = tmp_path / f"x{suffix}"
    write(path)
    tracemalloc.start()
    try:
        with pytest.raises(SSMReduceError):
            read_file(path)
        assert tracemalloc.get_traced_memory()[1] < 128 * path.stat().st_size + 2**24
    finally:
        tracemalloc.stop()


def test_the_crafted_pickles_would_load_if_they_were_sound(tmp_path):
    ones(tmp_path / "x.pt", [2, 2], [2, 1])
    np.testing.assert_array_equal(read_file(tmp_path / "x.pt")[0]["a"], np.zeros((2, 2), np.float32), strict=True)
    torch_pickle(tmp_path / "y.pt", laughing(3))
    assert len(read_file(tmp_path / "y.pt")[0]) == 8


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_more_memory_than_allowed_is_refused_before_it_is_taken(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, a=np.zeros(2**23))
    else:
        pytest.importorskip("torch")
        ones(path, [2**25], [0])
    with pytest.raises(FileTooLargeError, match="max_bytes"):
        read_file(path, max_bytes=2**25)
    if suffix == ".npz":
        assert read_file(path, max_bytes=2**26)[0]["a"].shape == (2**23,)


@every_suffix
def test_memory_of_reading_and_writing(suffix, tmp_path):
    """At most 1.2 times the tensors in all; the arrays that are saved are there before."""
    path, array = tmp_path / f"x{suffix}", np.arange(2.0**22)
    write_file(path, {"warm": np.ones(2)}, {})
    read_file(path)
    array.flags.writeable = False
    tracemalloc.start()
    try:
        write_file(path, {"a": array}, {})
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        found = read_file(path)[0]["a"]
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.nbytes == array.nbytes
    assert written <= 0.2 * array.nbytes
    assert read <= 1.2 * array.nbytes


def test_numbers_of_any_length_in_names_and_metadata(tmp_path):
    import ssmreduce as sr

    layer = {
        "nu_log": np.zeros(3), "theta_log": np.zeros(3), "gamma_log": np.zeros(3), "D": np.ones(2),
        "B_re": np.ones((3, 2)), "B_im": np.ones((3, 2)), "C_re": np.ones((2, 3)), "C_im": np.ones((2, 3)),
    }  # fmt: skip
    names = ["²", "9" * 5000, "10", "9"]
    write_file(tmp_path / "x.npz", {f"{name}.{leaf}": value for name in names for leaf, value in layer.items()}, {})
    assert list(sr.load(tmp_path / "x.npz")) == ["9", "10", "9" * 5000, "²"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"name":"s5","conj_sym":true,"discretization":"zoh","step_rescale":1' + "0" * 400 + "}",
        "[]",
        '{"name":["s5"]}',
    ],
    ids=range(4),
)
def test_remembered_adapters_that_nobody_wrote(text, tmp_path):
    import ssmreduce as sr

    write_file(tmp_path / "x.safetensors", {"a": np.ones(1)}, {"ssmreduce.adapter": text})
    with pytest.raises(SSMReduceError):
        sr.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "name", ["\x1b[2J\x9b31mX\x07", "[red]x[/red]", "[/red]", "a\u202eb\u200bc", "[link=x]y"], ids=ascii
)
def test_messages_and_tables_hold_names_as_text(name, tmp_path):
    """No control characters, and no markup of rich."""
    import ssmreduce as sr

    layer = {"nu_log": np.zeros(3), "theta_log": np.zeros(3), "gamma_log": np.zeros(3), "D": np.ones(2)}
    layer |= {k: np.ones((3, 2)) for k in ("B_re", "B_im")} | {k: np.ones((2, 3)) for k in ("C_re", "C_im")}
    write_file(tmp_path / "x.npz", {f"{name}.{leaf}": value for leaf, value in layer.items()}, {})
    model = sr.load(tmp_path / "x.npz")
    assert list(model) == [name]
    with pytest.raises(SSMReduceError) as caught:
        model["other"]
    found = sr.verify(model, np.eye(5, 2), np.ones((5, 2)), changes=1)
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    for text in (str(sr.inspect(model)), str(caught.value), str(sr.compare(model, {name: model})), str(found)):
        assert all(c.isprintable() or c == "\n" for c in text)
        assert escaped in text
