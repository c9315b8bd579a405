"""Files that are damaged or crafted, and names and arrays that are hard to write."""

import io
import json
import pickle
import struct
import warnings
import zipfile

import numpy as np

from ssmreduce.calibration import load_calibration
from ssmreduce.models._checkpoints import read_file, write_file

SUFFIXES = (".npz", ".safetensors", ".msgpack", ".pt")
MOST = 2**26  # bytes that the tensors of one input may take
WANTED = {
    "layers.0.nu_log": np.arange(12, dtype=np.float32).reshape(3, 4),
    "layers.0.B": np.arange(5) * (1 + 2j),
    "layers.1.nu_log": np.linspace(0, 1, 7),
    "step": np.array(3),
    "empty": np.zeros((0, 2), np.float16),
}
HARD = [*"'{}[(,:0\"\\", "9" * 30, "-1", "1e999", "null", "NaN", "\0", "\x1b", "é", "🂡"]


def good_file(suffix, path):
    """Bytes of a small file that holds `WANTED`."""
    params = {k: v.astype(np.complex64) if v.dtype.kind == "c" else v for k, v in WANTED.items()}
    write_file(path, params, {"note": "text"} if suffix == ".safetensors" else {})
    return path.read_bytes()


def look(path, checked=True):
    """Read a file and say what came of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        params, _ = read_file(path, max_bytes=MOST)
    return same(params) if same(params) == "right" or checked else "unverifiable"


def same(params):
    """Whether the parameters are those that were written."""
    for name, wanted in WANTED.items():
        found = params.get(name)
        if not isinstance(found, np.ndarray):
            return f"{name!r} is gone"
        wanted = wanted.astype(np.complex64) if wanted.dtype.kind == "c" else wanted
        if (found.dtype, found.shape, found.tobytes()) != (wanted.dtype, wanted.shape, wanted.tobytes()):
            return f"{name!r} differs"
    return "right"


# ---------------------------------------------------------------- damage


def truncated(data, rng):
    """The beginning of a file."""
    return data[: rng.integers(len(data))]


def one_bit(data, rng):
    """One bit of a file turned over."""
    damaged = bytearray(data)
    damaged[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def some_bytes(data, rng):
    """A few bytes of a file replaced, all of them near each other."""
    damaged, start = bytearray(data), int(rng.integers(len(data)))
    for place in rng.integers(start, min(len(data), start + 30), rng.integers(1, 8)):
        damaged[place] = int(rng.integers(256))
    return bytes(damaged)


def cut_out(data, rng):
    """A piece of a file left out, or put in twice."""
    start, stop = sorted(rng.integers(0, len(data), 2))
    return data[:start] + data[stop:] if rng.random() < 0.5 else data[:stop] + data[start:]


DAMAGE = {"cut off": truncated, "one bit": one_bit, "bytes": some_bytes, "a piece out or twice": cut_out}


# ---------------------------------------------------------------- crafted


def number(rng):
    """A number that a header should not have, most of the time."""
    edge = [0, 1, 3, 255, 2**15, 2**31, 2**32 - 1, 2**40, 10**12, 2**63 - 1, 2**64 - 1]
    return int(rng.choice(np.array(edge, dtype=np.uint64)))


def anything(rng, depth=0):
    """Nested plain data."""
    kind = rng.integers(7 if depth < 3 else 5)
    if kind == 5:
        return [anything(rng, depth + 1) for _ in range(rng.integers(4))]
    if kind == 6:
        return {text(rng): anything(rng, depth + 1) for _ in range(rng.integers(4))}
    return (number(rng), float(rng.standard_normal()), text(rng), None, bool(rng.integers(2)))[kind]


def text(rng):
    """A name of odd characters."""
    return "".join(rng.choice(HARD) for _ in range(rng.integers(1, 5)))


def crafted_npz(rng):
    """An archive of arrays whose headers say anything."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(rng.integers(1, 4)):
            shape = [number(rng) if rng.random() < 0.5 else anything(rng) for _ in range(rng.integers(3))]
            descr = rng.choice(["<f8", "|O", ">c16", "<U3", "V9", "<f4,<i8", "|b1", "x", ""])
            header = {"descr": str(descr), "fortran_order": anything(rng), "shape": tuple(shape)}
            if rng.random() < 0.2:
                header = anything(rng)
            line = repr(header).encode("utf-8", "replace")
            start = b"\x93NUMPY" + bytes([rng.integers(1, 4), 0]) + struct.pack("<H", len(line))
            archive.writestr(text(rng).replace("\0", "0") + ".npy", start + line + bytes(rng.integers(0, 2000)))
    return buffer.getvalue()


def crafted_safetensors(rng):
    """A header of JSON that says anything."""
    header = {}
    for _ in range(rng.integers(4)):
        stop = int(rng.integers(0, 40)) if rng.random() < 0.5 else number(rng)
        entry = {
            "dtype": str(rng.choice(["F32", "F64", "I8", "BF16", "F8_E8M0", "X"])),
            "shape": [number(rng) if rng.random() < 0.5 else int(rng.integers(5)) for _ in range(rng.integers(3))],
            "data_offsets": [0 if rng.random() < 0.6 else number(rng), stop],
        }
        header[text(rng)] = entry if rng.random() < 0.8 else anything(rng)
    if rng.random() < 0.5:
        header["__metadata__"] = (
            anything(rng) if rng.random() < 0.5 else {"ssmreduce.sha256": json.dumps(anything(rng))}
        )
    line = json.dumps(header).encode()
    length = len(line) if rng.random() < 0.9 else number(rng)
    return struct.pack("<Q", length) + line + bytes(rng.integers(0, 60))


def crafted_msgpack(rng):
    """Marks and lengths in any order behind the mark of a map."""
    marks = bytes(rng.choice(np.r_[0x80:0xA8, 0xC0:0xE0, 0x00:0x04], rng.integers(1, 60)).astype(np.uint8))
    names = b"".join(b"\xa1" + bytes([97 + i]) + marks[i : i + 7] for i in range(rng.integers(1, 8)))
    return bytes([int(rng.choice([0x81, 0x82, 0x8F, 0xDE, 0xDF]))]) + (names if rng.random() < 0.7 else marks)


OPCODES = [
    b"}", b"]", b")", b"(", b"t", b"\x85", b"\x86", b"\x87", b"s", b"u", b"a", b"e", b"R", b"b", b"Q", b"0",
    b"2", b"N", b"\x88", b"K\x05", b"M\x00\x10", b"J\xff\xff\xff\x7f", b"\x8a\x06\x00\x00\x00\x00\x00\x01",
    b"\x8a\xff", b"q\x00", b"h\x00", b"X\x01\x00\x00\x00a", b"X\x07\x00\x00\x00storage", b"X\xff\xff\xff\x7f",
    b"ctorch\nFloatStorage\n", b"\x93", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n",
    b"c__builtin__\nbytearray\n", b"cos\nsystem\n", b"ctorch\nSize\n", b"\x81", b"\x8f", b"\x90", b"\x91",
    b"\x94", b"B\xff\xff\xff\x7f", b"\x96\x00\x00\x00\x00\x00\x01\x00\x00",
]  # fmt: skip


def crafted_torch(rng):
    """A pickle of instructions in any order, or plain data, with or without storages."""
    if rng.random() < 0.3:
        data = pickle.dumps({"a": anything(rng), text(rng): anything(rng)}, protocol=int(rng.integers(2, 5)))
    else:
        data = b"\x80\x02}X\x01\x00\x00\x00a" + b"".join(
            OPCODES[i] for i in rng.integers(0, len(OPCODES), rng.integers(1, 40))
        )
        data += b"s." if rng.random() < 0.7 else b"."
    if rng.random() < 0.2:
        return data
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/data.pkl", data)
        archive.writestr("x/data/0", bytes(16))
    return buffer.getvalue()


CRAFTED = {".npz": crafted_npz, ".safetensors": crafted_safetensors, ".msgpack": crafted_msgpack, ".pt": crafted_torch}


def look_at_anything(path):
    """Read a crafted file: whatever it holds is as good as another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_file(path, max_bytes=MOST)
    return "right"


def look_at_calibration(path, wanted):
    """Read a damaged calibration: its archive has checksums, so what is read is what was written."""
    found = load_calibration(path, max_bytes=MOST)
    for name, moments in wanted.items():
        if not np.array_equal(found[name].second, moments.second) or found[name].steps != moments.steps:
            return f"the moments of {name!r} differ"
    return "right"


# ---------------------------------------------------------------- hard to write


def hard_params(rng):
    """Parameters with odd names, shapes and dtypes."""
    dtypes = ["<f4", ">f8", "i1", "?", "<c8", "<c16", "<f2", "<u4", "<i8"]
    params = {}
    for _ in range(rng.integers(1, 5)):
        name = (
            text(rng)
            if rng.random() < 0.5
            else str(rng.choice(["a", "a.npy", "file", "__metadata__", "a/b", "a/b/c", ""]))
        )
        shape = tuple(int(size) for size in rng.integers(0, 4, rng.integers(0, 4)))
        array = rng.integers(0, 2, shape).astype(dtypes[rng.integers(len(dtypes))])
        params[name] = array.T if rng.random() < 0.3 else array
    return params


def write_and_look(path, params):
    """Write, read, compare: all of it, or an error."""
    before = path.read_bytes() if path.exists() else None
    try:
        write_file(path, params, {})
    except Exception:
        if (path.read_bytes() if path.exists() else None) != before:
            return "the old file has changed"
        raise
    found = read_file(path)[0]
    for name, array in params.items():
        if name not in found or not np.array_equal(found[name], array) or found[name].shape != array.shape:
            return f"{name!r} was lost"
    return "right" if len(found) == len(params) else "something was added"
