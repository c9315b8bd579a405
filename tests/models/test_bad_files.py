"""Bad files and bad places to write: an error of ours each, nothing executed, nothing half written."""

import pickle
import zipfile

import numpy as np
import pytest
from support.files import LIBRARY, assert_nothing_but, every_suffix
from support.oracles import assert_same_bits

from ssmreduce.errors import CheckpointFormatError, MissingFileError, SSMReduceError, UnsafeFileError, WriteError
from ssmreduce.models._checkpoints import read_file, write_file


class Creates:
    """Its pickle creates a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def write_pickle(path, mark):
    path.write_bytes(pickle.dumps({"a": Creates(mark)}, protocol=2))


def write_npz_of_objects(path, mark):
    with path.open("wb") as file:
        np.savez(file, weights=np.ones(2), a=np.array([Creates(mark)], dtype=object))


def write_torch_of_objects(path, mark):
    pytest.importorskip("torch").save({"a": Creates(mark)}, path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("x.pkl", write_pickle), ("x.npz", write_pickle), ("x.pt", write_pickle), ("x.npz", write_npz_of_objects),
        ("x.pt", write_torch_of_objects), ("x.npz", write_torch_of_objects),
    ],
)  # fmt: skip
def test_pickles_are_refused_and_never_run(name, write, tmp_path):
    if name == "x.pt":
        pytest.importorskip("torch")
    mark = tmp_path / "executed"
    write(tmp_path / name, mark)
    with pytest.raises(UnsafeFileError, match="pickle"):
        read_file(tmp_path / name)
    assert not mark.exists()


def test_the_pickle_of_these_tests_would_run(tmp_path):
    pickle.loads(pickle.dumps(Creates(tmp_path / "executed"))).close()
    assert (tmp_path / "executed").exists()


@every_suffix
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files(suffix, share, tmp_path):
    path = tmp_path / f"x{suffix}"
    write_file(path, {"layer/a": np.arange(3000.0), "layer/b": np.ones((20, 30), dtype=np.float32)}, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointFormatError, match="truncated or corrupted|empty or truncated"):
        read_file(path)


@every_suffix
def test_a_flipped_byte_raises_our_errors_only(suffix, rng, tmp_path):
    path = tmp_path / f"x{suffix}"
    write_file(path, {"layer/a": np.arange(40.0), "layer/b": np.ones((2, 3), dtype=np.float32), "n": np.array(3)}, {})
    whole = path.read_bytes()
    raised = 0
    for position in [*range(16), *rng.integers(0, len(whole), 150), *range(len(whole) - 40, len(whole))]:
        broken = bytearray(whole)
        broken[position] ^= int(rng.integers(1, 256))
        path.write_bytes(broken)
        try:
            read_file(path)
        except SSMReduceError:
            raised += 1
    assert raised > 10


def test_a_torch_file_with_a_broken_index(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content[:-9] + b"." if name.endswith("data.pkl") else content)
    with pytest.raises(CheckpointFormatError, match="truncated or corrupted"):
        read_file(tmp_path / "y.pt")


def write_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "text")


FOREIGN_FILES = {
    "text": lambda path: path.write_text("no checkpoint at all"),
    "json": lambda path: path.write_text('{"a": 1}'),
    "zip": write_zip,
    "png": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30)),
    "hdf5": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(30)),
    "npy": lambda path: np.save(path.open("wb"), np.ones(3)),
    "zeros": lambda path: path.write_bytes(bytes(64)),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", FOREIGN_FILES)
def test_foreign_files(kind, tmp_path):
    FOREIGN_FILES[kind](tmp_path / "x.npz")
    with pytest.raises(CheckpointFormatError, match=r"x\.npz"):
        read_file(tmp_path / "x.npz")


def test_an_unknown_dtype_of_safetensors_names_the_tensor(tmp_path):
    header = b'{"a":{"dtype":"F8_E8M0","shape":[2],"data_offsets":[0,2]}}'
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    with pytest.raises(CheckpointFormatError, match="'a'.*F8_E8M0"):
        read_file(tmp_path / "x.safetensors")


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        read_file(tmp_path / "nothing.npz")
    with pytest.raises(MissingFileError, match="it is a directory"):
        read_file(tmp_path)


# ---------------------------------------------------------------- whole or not at all


@pytest.mark.parametrize("suffix", [".txt", "", ".h5", ".npy"])
def test_unknown_suffix(suffix, tmp_path):
    with pytest.raises(CheckpointFormatError, match=r"cannot tell a format.*\.npz"):
        write_file(tmp_path / f"x{suffix}", {"a": np.ones(2)}, {})
    assert_nothing_but(tmp_path)


@every_suffix
def test_unwritable_paths(suffix, tmp_path):
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / "file").write_text("before")
    for name in (f"folder{suffix}", f"missing/x{suffix}", f"file/x{suffix}"):
        with pytest.raises(WriteError, match="cannot write"):
            write_file(tmp_path / name, {"a": np.ones(2)}, {})
    assert_nothing_but(tmp_path, f"folder{suffix}", "file")
    assert (tmp_path / "file").read_text() == "before"


UNFIT = {
    ".npz": {"None": None, "object": np.array([None]), "int4": "ml"},
    ".safetensors": {
        "None": None,
        "complex128": np.ones(2, complex),
        "text": np.array(["a"]),
        "object": np.array([None]),
    },
    ".msgpack": {"object": object(), "array": np.array([None]), "text": np.array(["a"]), "int4": "ml"},
    ".pt": {"text": np.array(["a"]), "object": np.array([None]), "int4": "ml"},
}


@pytest.mark.parametrize(("suffix", "leaf"), [(suffix, leaf) for suffix, leaves in UNFIT.items() for leaf in leaves])
def test_leaves_that_a_format_cannot_hold_leave_the_old_file(suffix, leaf, tmp_path):
    value = UNFIT[suffix][leaf]
    if leaf == "int4":
        value = np.ones(2, pytest.importorskip("ml_dtypes").int4)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"before")
    with pytest.raises(CheckpointFormatError, match="cannot"):
        write_file(path, {"fine": np.ones(2), "a": value}, {})
    assert path.read_bytes() == b"before"
    assert_nothing_but(tmp_path, path.name)


@every_suffix
def test_a_full_disk_leaves_the_old_file(suffix, tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / f"x{suffix}"
    write_file(path, {"a": np.ones(2)}, {})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(WriteError, match="cannot write"):
            write_file(path, {"a": np.ones(100_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert_nothing_but(tmp_path, path.name)


@every_suffix
def test_who_reads_the_old_file_is_not_disturbed(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    write_file(path, {"a": np.ones(2)}, {})
    before = path.read_bytes()
    with path.open("rb") as reader:
        write_file(path, {"a": np.zeros(500)}, {})
        assert reader.read() == before
    assert read_file(path)[0]["a"].size == 500


@every_suffix
@pytest.mark.parametrize("name", ["file", "allow_pickle", "self", "args", "x.npy"])
def test_names_that_writers_used_to_lose(suffix, name, tmp_path):
    write_file(tmp_path / f"x{suffix}", {name: np.arange(3), "w": np.ones(2)}, {})
    params, _ = read_file(tmp_path / f"x{suffix}")
    assert params.keys() == {name, "w"}
    np.testing.assert_array_equal(params[name], np.arange(3))


UNFIT_NAMES = {
    ("w", "w.npy"): ".npz",
    ("a\0b", "a\0c"): None,
    ("\udcff",): None,
    ("a" * 70_000,): ".npz",
    ("__metadata__",): ".safetensors",
    ("/".join("a" * 2000),): ".msgpack",
}


@pytest.mark.parametrize(
    ("names", "suffix"),
    [(names, s) for names, only in UNFIT_NAMES.items() for s in ([only] if only else LIBRARY)],
    ids=lambda value: ascii(value)[:30],
)
def test_names_that_a_format_cannot_hold_leave_the_old_file(names, suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"before")
    with pytest.raises(CheckpointFormatError):
        write_file(path, {name: np.full(2, i) for i, name in enumerate(names)}, {})
    assert path.read_bytes() == b"before"
    assert_nothing_but(tmp_path, path.name)


@pytest.mark.parametrize("suffix", [".msgpack", ".pt", ".safetensors"])
def test_long_double_is_refused_or_kept(suffix, tmp_path):
    array = np.ones(2, np.longdouble)
    try:
        write_file(tmp_path / f"x{suffix}", {"a": array}, {})
    except CheckpointFormatError:
        assert_nothing_but(tmp_path)
    else:
        assert_same_bits(read_file(tmp_path / f"x{suffix}")[0]["a"], array)


@every_suffix
def test_permissions_are_those_of_any_new_file_or_of_the_old_one(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    (tmp_path / "plain").write_bytes(b"")
    write_file(path, {"a": np.ones(2)}, {})
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    path.chmod(0o640)
    write_file(path, {"a": np.zeros(2)}, {})
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_is_followed(tmp_path):
    target, link = tmp_path / "target.npz", tmp_path / "link.npz"
    write_file(target, {"a": np.ones(2)}, {})
    link.symlink_to(target)
    write_file(link, {"a": np.zeros(3)}, {})
    assert link.is_symlink()
    assert read_file(target)[0]["a"].size == 3


def test_a_read_only_file_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    write_file(path, {"a": np.ones(2)}, {})
    monkeypatch.setattr("os.access", lambda *args: False)  # the superuser may write everywhere
    with pytest.raises(WriteError, match="read-only"):
        write_file(path, {"a": np.zeros(3)}, {})
    assert read_file(path)[0]["a"].size == 2


def test_names_that_are_too_long_raise_our_errors():
    with pytest.raises(MissingFileError, match="too long"):
        read_file("a" * 300)
    with pytest.raises(WriteError, match="too long"):
        write_file("a" * 300 + ".npz", {"a": np.ones(2)}, {})
