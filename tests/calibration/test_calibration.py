"""Second moments on data and without, against loops over samples and explicit impulse responses."""

import contextlib
import json
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oracles import coordinates, loop_simulate, random_ssm, system_at

import ssmreduce as sr
from ssmreduce.calibration import _accumulate, _stationary
from ssmreduce.calibration._accumulate import layer_moments

LAYER = "layers.0.seq"
SYSTEMS = {
    "causal": {},
    "two-sided": {"bidirectional": True},
    "batch": {"batch": (4,), "m": 1, "p": 1, "conj_sym": True},
    "batch-two-sided": {"batch": (2, 2), "bidirectional": True},
}


@pytest.fixture(scope="module")
def model():
    return sr.load("examples/s5_digits/model.safetensors")


def loop_second(ssm, u, mask=None):
    systems = list(np.ndindex(*ssm.batch))
    parts = np.split(u, len(systems), axis=-1)
    z = [coordinates(system_at(ssm, index), part) for index, part in zip(systems, parts, strict=True)]
    weight = np.ones(len(z[0])) if mask is None else mask.ravel()
    return np.stack([values.T @ (values * weight[:, None]) for values in z])


def assert_close(actual, expected, rtol=1e-11):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


def assert_same_moments(a, b, rtol=1e-12):
    assert (a.steps, a.length) == (b.steps, b.length)
    np.testing.assert_array_equal(a.Lambda, b.Lambda)
    for key in ("second", "cross", "energy"):
        left, right = getattr(a, key), getattr(b, key)
        assert (left is None) == (right is None)
        if left is not None:
            assert_close(left, right, rtol)


@pytest.mark.parametrize("bytes_", [2**23, 1])
@pytest.mark.parametrize("kind", SYSTEMS)
def test_moments_are_those_of_a_loop(rng, kind, bytes_, monkeypatch):
    monkeypatch.setattr(_accumulate, "_BLOCK_BYTES", bytes_)  # 1: chunks of 256 steps, whose states carry over
    ssm = random_ssm(rng, **SYSTEMS[kind])
    u = rng.standard_normal((2, 600, ssm.systems * ssm.inputs))
    moments = layer_moments(ssm, u)
    assert_close(moments.second, loop_second(ssm, u))
    assert (moments.steps, moments.length) == (1200, 600)


@pytest.mark.parametrize("kind", SYSTEMS)
def test_masked_steps_do_not_count_but_are_seen(rng, kind):
    ssm = random_ssm(rng, **SYSTEMS[kind])
    u = rng.standard_normal((3, 20, ssm.systems * ssm.inputs))
    mask = rng.random((3, 20)) < 0.6
    moments = layer_moments(ssm, u, mask=mask, target=ssm)
    assert_close(moments.second, loop_second(ssm, u, mask))
    assert moments.steps == mask.sum()
    y = loop_simulate(ssm, u)[0] * mask[..., None]
    assert_close(moments.energy.sum(), np.sum(y**2))


@pytest.mark.parametrize("kind", SYSTEMS)
def test_targets_of_another_system(rng, kind):
    ssm, other = (random_ssm(rng, n=n, **SYSTEMS[kind]) for n in (3, 6))
    u = rng.standard_normal((2, 30, ssm.systems * ssm.inputs))
    moments = layer_moments(ssm, u, target=other)
    y = loop_simulate(other, u)[0].reshape(60, -1)
    for s, index in enumerate(np.ndindex(*ssm.batch)):
        part = slice(s * ssm.inputs, (s + 1) * ssm.inputs)
        ys = y[:, s * ssm.outputs : (s + 1) * ssm.outputs]
        assert_close(moments.cross[s], ys.T @ coordinates(system_at(ssm, index), u[..., part]))
        np.testing.assert_allclose(moments.energy[s], np.sum(ys**2))


def test_unstable_states_are_ordinary(rng):
    ssm = sr.DiagonalSSM([1.02j, -1.0], rng.standard_normal((2, 1)), np.ones((1, 2)), [[0.0]])
    u = rng.standard_normal((2, 40, 1))
    assert_close(layer_moments(ssm, u).second, loop_second(ssm, u))


def test_batches_lists_and_sums_agree(rng, model):
    u = rng.standard_normal((6, 12, 32))
    whole = sr.calibrate(model, {LAYER: u})[LAYER]
    seen = []
    batches = ({LAYER: part} for part in np.split(u, 3))
    streamed = sr.calibrate(model, batches, progress=lambda *counts: seen.append(counts))[LAYER]
    listed = sr.calibrate(model, {LAYER: list(u)})[LAYER]
    added = (sr.calibrate(model, {LAYER: u[:2]}) + sr.calibrate(model, {LAYER: u[2:]}))[LAYER]
    for moments in (streamed, listed, added):
        assert_same_moments(moments, whole)
    assert seen == [(1, None), (2, None), (3, None)]


def test_ragged_sequences_are_sequences_of_their_own(rng, model):
    long, short = rng.standard_normal((12, 32)), rng.standard_normal((5, 32))
    ragged = sr.calibrate(model, {LAYER: [long, short]})
    parts = sr.calibrate(model, {LAYER: long}) + sr.calibrate(model, {LAYER: short})
    assert_same_moments(ragged[LAYER], parts[LAYER])
    padded = np.stack([long, np.vstack([short, np.zeros((7, 32))])])
    mask = np.arange(12) < np.array([[12], [5]])
    masked = sr.calibrate(model, {LAYER: padded}, mask=mask)[LAYER]
    assert_close(masked.second, ragged[LAYER].second)
    assert_same_moments(sr.calibrate(model, [({LAYER: padded}, mask)])[LAYER], masked)


@given(
    kind=st.sampled_from(sorted(SYSTEMS)),
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    cuts=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    targets=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_grouping_and_padding_of_sequences_gives_the_same_moments(kind, lengths, cuts, targets, seed):
    rng = np.random.default_rng(seed)
    ssm, other = (random_ssm(rng, n=n, **SYSTEMS[kind]) for n in (3, 2))
    width, longest = ssm.systems * ssm.inputs, max(lengths)
    target = other if targets else None
    sequences = [rng.standard_normal((length, width)) for length in lengths]
    each = [layer_moments(ssm, u[None], target=target) for u in sequences]
    one_pass = reduce(add, each)
    at = sorted(min(cut, len(each)) for cut in cuts)
    groups = [reduce(add, group) for group in (each[: at[0]], each[at[0] : at[1]], each[at[1] :]) if group]
    assert_same_moments(reduce(lambda right, left: left + right, groups[::-1]), one_pass)  # a + (b + c)
    assert_same_moments(reduce(add, each[::-1]), one_pass)
    mask = np.arange(longest) < np.array(lengths)[:, None]
    padded = np.zeros((len(lengths), longest, width))
    padded[mask] = np.concatenate(sequences)
    if not ssm.bidirectional:  # a reverse half sees what stands behind the end
        padded[~mask] = 7.0
    assert_same_moments(layer_moments(ssm, padded, target=target, mask=mask), one_pass)


def test_layers_of_two_calibrations_join(rng, model):
    u = rng.standard_normal((2, 8, 32))
    both = sr.calibrate(model, {LAYER: u}) + sr.calibrate(model, {"layers.1.seq": u})
    assert tuple(both) == (LAYER, "layers.1.seq")


def test_different_moments_do_not_add(rng, model):
    u = rng.standard_normal((2, 8, 32))
    own, target = (sr.calibrate(model, {LAYER: u}, targets=t) for t in (None, model))
    other = sr.calibrate(sr.prune(model, {LAYER: [0, 1]}), {LAYER: u})
    for wrong in (target, other):
        with pytest.raises(sr.errors.ShapeError, match="cannot be added"):
            own + wrong


@pytest.mark.parametrize("targets", [False, True])
def test_saved_and_loaded(rng, model, tmp_path, targets):
    inputs = {name: rng.standard_normal((2, 8, 32)) for name in model}
    calibration = sr.calibrate(model, inputs, targets=model if targets else None)
    sr.calibration.save_calibration(calibration, tmp_path / "c.npz")
    loaded = sr.calibration.load_calibration(tmp_path / "c.npz")
    assert tuple(loaded) == tuple(calibration)
    for name in loaded:
        assert_same_moments(loaded[name], calibration[name], 0)
    assert [p.name for p in tmp_path.iterdir()] == ["c.npz"]


def test_files_that_are_no_calibration(tmp_path):
    files = {name: tmp_path / f"{name}.npz" for name in ("other", "torn", "pickle")}
    np.savez(files["other"], x=np.ones(3))
    np.savez(files["pickle"], header=np.array([{"format": 1}], dtype=object))
    files["torn"].write_bytes(files["other"].read_bytes()[:60])
    for path in files.values():
        with pytest.raises(sr.errors.CheckpointFormatError, match="is not a calibration"):
            sr.calibration.load_calibration(path)
    with pytest.raises(sr.errors.MissingFileError):
        sr.calibration.load_calibration(tmp_path / "none.npz")
    with pytest.raises(sr.errors.WriteError):
        sr.calibration.save_calibration(sr.calibration.Calibration({}), tmp_path / "no" / "folder.npz")


TAMPERED = {
    "no poles": {"0.Lambda": None},
    "no moments": {"0.second": None},
    "flat poles": {"0.Lambda": np.ones(64)},
    "small moments": {"0.second": np.ones((1, 3, 3))},
    "negative power": {"0.second": -np.eye(160)[None]},
    "text": {"0.second": np.array("x")},
    "targets without energy": {"0.cross": np.ones((1, 32, 160))},
    "targets of another size": {"0.cross": np.ones((1, 32, 3)), "0.energy": np.ones(1)},
    "no steps": {"steps": 0},
    "a length that never ends": {"length": -5},
    "a name twice": {"name": "layers.1.seq"},
}


@pytest.mark.parametrize("case", TAMPERED)
def test_calibrations_that_were_tampered_with(model, tmp_path, case):
    u = np.ones((2, 8, 32))
    sr.calibration.save_calibration(sr.calibrate(model, {LAYER: u, "layers.1.seq": u}), tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as file:
        arrays = dict(file)
    header = json.loads(bytes(arrays.pop("header")))
    changes = TAMPERED[case]
    header["layers"][0] |= {key: value for key, value in changes.items() if "." not in key}
    arrays |= {key: value for key, value in changes.items() if "." in key}
    kept = {key: value for key, value in arrays.items() if value is not None}
    np.savez(tmp_path / "c.npz", header=np.frombuffer(json.dumps(header).encode(), np.uint8), **kept)
    with pytest.raises(sr.errors.CheckpointFormatError, match="is not a calibration"):
        sr.calibration.load_calibration(tmp_path / "c.npz")


GOOD = np.ones((2, 8, 32))
BAD = {
    "unknown layer": ({"layers.9.seq": GOOD}, None, sr.errors.UnknownLayerError, "layers.9.seq"),
    "no layer": ({}, None, sr.errors.ShapeError, "nothing to calibrate"),
    "no batch": (iter([]), None, sr.errors.ShapeError, "nothing to calibrate"),
    "no sequence": ({LAYER: GOOD[:0]}, None, sr.errors.ShapeError, "at least one"),
    "no step": ({LAYER: GOOD[:, :0]}, None, sr.errors.ShapeError, "at least one"),
    "empty list": ({LAYER: []}, None, sr.errors.ShapeError, "empty"),
    "list of batches": ({LAYER: [GOOD]}, None, sr.errors.ShapeError, "list must hold"),
    "width": ({LAYER: GOOD[..., :31]}, None, sr.errors.ShapeError, r"expected \(batch, L, 32\)"),
    "NaN": ({LAYER: GOOD * np.nan}, None, sr.errors.NonFiniteError, "NaN"),
    "complex": ({LAYER: GOOD * 1j}, None, sr.errors.ArrayKindError, "not real"),
    "mask shape": ({LAYER: GOOD}, np.ones((2, 9), bool), sr.errors.ShapeError, "mask"),
    "mask dtype": ({LAYER: GOOD}, np.ones((2, 8)), sr.errors.ShapeError, "mask"),
    "mask empty": ({LAYER: GOOD}, np.zeros((2, 8), bool), sr.errors.ShapeError, "mask"),
    "mask and batches": (iter([{LAYER: GOOD}]), np.ones((2, 8), bool), sr.errors.ShapeError, "pairs"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_inputs_are_named(model, case):
    inputs, mask, error, text = BAD[case]
    with pytest.raises(error, match=text):
        sr.calibrate(model, inputs, mask=mask)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_taken(rng, model, library, dtype):
    u = rng.integers(-9, 10, (2, 8, 32)) / 4  # exact in either
    if library == "torch":
        torch = pytest.importorskip("torch")
        half = torch.tensor(u, dtype=getattr(torch, dtype), requires_grad=True)
    elif library == "jax":
        half = pytest.importorskip("jax.numpy").asarray(u, dtype)
    else:
        half = u.astype(dtype if dtype == "float16" else pytest.importorskip("ml_dtypes").bfloat16)
    expected = sr.calibrate(model, {LAYER: u})[LAYER]
    assert_same_moments(sr.calibrate(model, {LAYER: half})[LAYER], expected, 0)
    assert_same_moments(sr.calibrate(model, {LAYER: list(half)})[LAYER], expected)


def test_overflow_is_named():
    ssm = sr.DiagonalSSM([2.0], [[1.0]], [[1.0]], [[0.0]])
    with pytest.raises(sr.errors.NonFiniteError, match="overflow"):
        layer_moments(ssm, np.ones((1, 1200, 1)), name="a")
    still = sr.DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]])
    with pytest.raises(sr.errors.NonFiniteError, match="targets overflow"):
        layer_moments(still, np.ones((1, 2, 1)), target=np.full((1, 2, 1), 1e200))


def test_inputs_are_not_written(rng, model):
    u = rng.standard_normal((2, 8, 32))
    before = u.copy()
    u.flags.writeable = False
    sr.calibrate(model, {LAYER: u}, targets=model)
    np.testing.assert_array_equal(u, before)


# ---------------------------------------------------------------- without data


def noise_response(ssm, filter_, lags):
    """Coordinates and inputs as explicit sums over white noise, shape (N + m, noise samples * m)."""
    m, reach = ssm.inputs, lags + len(filter_)
    columns = np.zeros((2, ssm.order, 2 * reach + 1, m), complex)
    inputs = np.zeros((m, 2 * reach + 1, m))
    for j, weight in enumerate(filter_):  # u_k = sum_j h_j w_{k - j}
        inputs[:, reach - j] += weight * np.eye(m)
        for lag in range(lags):
            gain = weight * ssm.Lambda[:, None] ** lag * ssm.B
            columns[0, :, reach - lag - j] += gain
            columns[1, :, reach + lag - j] += gain
    halves = columns[: 1 + ssm.bidirectional]
    pairs = np.stack([halves.real, halves.imag], axis=1)  # (halves, 2, n, noise, m)
    pairs = pairs.transpose(2, 0, 1, 3, 4).reshape(-1, (2 * reach + 1) * m)
    return np.concatenate([pairs, inputs.reshape(m, -1)])


@pytest.mark.parametrize("filter_", [[1.0], [1.0, -0.4, 0.7]])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_stationary_moments(rng, bidirectional, filter_):
    ssm = random_ssm(rng, n=4, m=2, bidirectional=bidirectional, radius=(0.2, 0.8))
    rho = np.correlate(filter_, filter_, "full")[len(filter_) - 1 :]
    response = noise_response(ssm, filter_, 200)
    assert_close(_stationary._layer(ssm, rho, "a").second[0], response @ response.T)


def test_stationary_batch_is_each_system(rng):
    ssm = random_ssm(rng, m=1, p=1, batch=(3,), radius=(0.2, 0.9))
    rho = np.array([1.0, 0.5])
    moments = _stationary._layer(ssm, rho, "a")
    for s in range(3):
        assert_close(moments.second[s], _stationary._layer(system_at(ssm, (s,)), rho, "a").second[0])


def test_stationary_needs_stable_systems_and_a_sequence(model):
    ssm = sr.DiagonalSSM([1.01], [[1.0] * 32], [[1.0]] * 32, np.eye(32), conj_sym=True)
    with pytest.raises(sr.errors.UnstableSystemError, match=r"layers\.1\.seq.*synthetic"):
        sr.calibration.calibrate_stationary(sr.models.replace_system(model, "layers.1.seq", ssm))
    with pytest.raises(sr.errors.ShapeError):
        sr.calibration.calibrate_stationary(model, np.ones((2, 2)))


def test_stationary_moments_are_of_sequences_without_end(model):
    stationary = sr.calibration.calibrate_stationary(model)
    orders = dict.fromkeys(model, 8)
    ours = sr.reduction.balance_calibrated(model, stationary, orders)
    plain = sr.reduce(model, orders, method="balanced")
    for name in model:
        difference = sr.certify(ours[name], plain[name]).h2_error
        assert difference <= 1e-3 * sr.h2_norm(model[name])
    with pytest.raises(sr.errors.ShapeError, match="cannot be added"):
        stationary + sr.calibrate(model, {name: np.ones((1, 4, 32)) for name in model})


def test_damaged_calibrations_raise_our_errors_only(tmp_path, rng):
    model = sr.load("examples/s5_digits/model.safetensors")
    name = next(iter(model))
    small = sr.prune(model, {layer: [0, 1] for layer in model})
    sr.calibration.save_calibration(sr.calibrate(small, {name: rng.standard_normal((2, 9, 32))}), tmp_path / "c.npz")
    content = (tmp_path / "c.npz").read_bytes()
    for place in range(0, len(content), 41):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "x.npz").write_bytes(damaged)
        with contextlib.suppress(sr.errors.SSMReduceError):
            sr.calibration.load_calibration(tmp_path / "x.npz")


@pytest.mark.parametrize("header", ["[" * 90_000, '{"format":"ssmreduce.calibration.1","layers":7}', "1" * 9000, "{}"])
def test_headers_that_nobody_wrote(header, tmp_path):
    np.savez(tmp_path / "x.npz", header=np.frombuffer(header.encode(), np.uint8))
    with pytest.raises(sr.errors.CheckpointFormatError, match="not a calibration"):
        sr.calibration.load_calibration(tmp_path / "x.npz")
