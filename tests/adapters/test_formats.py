"""Layers that the original implementations wrote, against what they computed (tests/data/formats)."""

from functools import cache

import numpy as np
import pytest
from scipy.special import erf
from support.families_s4 import S4_CASES
from support.oracles import assert_close
from support.paths import DATA

import ssmreduce as sr
from ssmreduce.adapters import DSS, S4DPLR, AnnotatedS4D, ATENNuate, FlowState, LinOSS, S4Block, detect
from ssmreduce.errors import MissingFlagError, NotRepresentableError

FORMATS = DATA / "formats"
DEFAULTS = {"real_transform": "exp", "dt_transform": "exp"}
LAYERS = {
    "s4block_diag_default": (S4Block(disc="zoh", **DEFAULTS), 2e-5),
    "s4block_diag_bidir": (S4Block(disc="zoh", **DEFAULTS), 2e-5),
    "fftconv_v3_names": (S4Block(disc="zoh", **DEFAULTS), 2e-5),
    "s4block_dplr_legs": (S4DPLR(**DEFAULTS), 5e-5),
    "dss_exp": (DSS(version="exp"), 2e-5),
    "dss_softmax": (DSS(version="softmax", length=48), 2e-5),
    "annotated_s4d": (AnnotatedS4D(), 2e-5),
    "linoss_im": (LinOSS(discretization="IM"), 2e-5),
    "linoss_imex": (LinOSS(discretization="IMEX"), 2e-5),
    "flowstate_s5": (FlowState(), 2e-5),
    "attenuate_ssm": (ATENNuate(), 2e-5),
}
NETWORKS = {
    "s4block_diag_bidir_nssm_mnist1d": (
        S4Block(disc="bilinear", real_transform="softplus", dt_transform="softplus"),
        656,
    ),
    "s4block_dplr_mnist1d": (S4DPLR(**DEFAULTS), 553),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
every_network = pytest.mark.parametrize("name", NETWORKS)


def files(name):
    return sorted(path for path in (FORMATS / name).iterdir() if path.name.startswith("model"))


@cache
def loaded(name):
    adapter = {**LAYERS, **NETWORKS}[name][0]
    with np.load(FORMATS / name / "oracle.npz") as oracle:
        return sr.load(files(name)[0], adapter=adapter), dict(oracle)


def outputs(model, name, u):
    return model.adapter.simulate(model.params, name, u.astype(float))


@every_layer
def test_layer_outputs_in_every_file_format(name):
    adapter, rtol = LAYERS[name]
    oracle = loaded(name)[1]
    for path in files(name):
        if path.suffix == ".pt":
            pytest.importorskip("torch")
        model = sr.load(path, adapter=adapter)
        assert len(model) == 2
        for i, layer in enumerate(model):
            assert_close(outputs(model, layer, oracle["u"]), oracle[f"ssm_output_{i}"], rtol)


@every_layer
def test_the_family_is_found(name):
    model, _ = loaded(name)
    if not model.adapter.flag_help:
        assert detect(model.params) == type(model.adapter)()
        return
    with pytest.raises(MissingFlagError, match=rf"adapters\.{type(model.adapter).__name__}\("):
        detect(model.params)


@pytest.mark.parametrize("name", [*LAYERS, *NETWORKS])
def test_mask_and_compact_compute_what_the_pruned_model_computes(name, rng):
    model, _ = loaded(name)
    keep = sr.select(sr.score(model, "magnitude", allocation="uniform"), ratio=0.3, scope="system")
    pruned = sr.prune(model, keep)
    u = rng.standard_normal((40, model[model.layers[0]].inputs * int(np.prod(model[model.layers[0]].batch))))
    written = {form: sr.export(pruned, form=form) for form in ("mask", "compact")}
    reader = model.adapter.written(model.params, model.layers)[1]
    for layer in model:
        ssm = pruned[layer]
        expected = model.adapter.in_layer_order(
            ssm, sr.simulate(ssm, u, strict_reverse=model.adapter.strict_reverse and ssm.bidirectional)
        )
        assert ssm.order < model[layer].order
        for form, params in written.items():
            again = sr.read(params, adapter=reader)
            assert again[layer].order == (model[layer].order if form == "mask" else ssm.order)
            assert_close(outputs(again, layer, u), expected, 1e-9 if reader is model.adapter else 2e-5)


@every_network
def test_kernels_of_the_trained_layers(name):
    model, oracle = loaded(name)
    for i, (layer, ssm) in enumerate(model.items()):
        kernel = oracle[f"kernel_{i}"]
        length = kernel.shape[-1]
        impulses = np.eye(length)[:, :1] * np.ones(kernel.shape[1])
        got = np.moveaxis(outputs(model, layer, impulses).reshape(length, ssm.outputs, -1), 0, -1)
        got[..., 0] -= ssm.D[..., 0].T
        assert_close(got, kernel[: ssm.outputs], 5e-6)


def gelu(x):
    return x / 2 * (1 + erf(x / np.sqrt(2)))


def normed(x, weight, bias):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def network(model, x):
    """Logits: linear encoder, layers with the norm before and a gated linear unit after, mean over time, decoder."""
    p = {key: value.astype(float) for key, value in model.params.items()}
    h = x @ p["encoder.weight"].T + p["encoder.bias"]
    for i, layer in enumerate(model.layers):
        stem = f"layers.{i}."
        z = normed(h, p[stem + "norm.weight"], p[stem + "norm.bias"])
        y = gelu(outputs(model, layer, z)) @ p[stem + "s4.output_linear.0.weight"].T
        value, gate = np.split(y + p[stem + "s4.output_linear.0.bias"], 2, axis=-1)
        h = h + value / (1 + np.exp(-gate))
    return h.mean(axis=-2) @ p["decoder.weight"].T + p["decoder.bias"]


@every_network
def test_accuracy_of_the_trained_network(name):
    model, oracle = loaded(name)
    with np.load(DATA / "s4d_minimal_mnist1d" / "heldout.npz") as split:
        x, y = split["x_test"].astype(float), split["y_test"]
    logits = network(model, x)
    np.testing.assert_allclose(logits, oracle["logits"], rtol=0, atol=1e-4)
    assert int((logits.argmax(axis=1) == y).sum()) == NETWORKS[name][1]


@every_network
def test_written_network_computes_the_logits_of_the_mask(name):
    model, _ = loaded(name)
    pruned = sr.prune(
        model, sr.select(sr.score(model, "h2", allocation="uniform", scope="system"), ratio=0.3, scope="system")
    )
    reader = model.adapter.written(model.params, model.layers)[1]
    with np.load(DATA / "s4d_minimal_mnist1d" / "heldout.npz") as split:
        x = split["x_test"][:50].astype(float)
    mask, compact = (network(sr.read(sr.export(pruned, form=f), adapter=reader), x) for f in ("mask", "compact"))
    np.testing.assert_allclose(compact, mask, rtol=0, atol=1e-9)


def test_a_saved_dplr_layer_remembers_that_it_is_diagonal(tmp_path):
    model, _ = loaded("s4block_dplr_legs")
    sr.save(model, tmp_path / "same.safetensors")
    again = sr.load(tmp_path / "same.safetensors")
    assert again.adapter == model.adapter
    for name, value in model.params.items():
        np.testing.assert_array_equal(again.params[name], value, strict=True)
    keep = sr.select(sr.score(model, "magnitude"), ratio=0.5, scope="system")
    sr.save(sr.prune(model, keep), tmp_path / "small.safetensors")
    small = sr.load(tmp_path / "small.safetensors")
    assert isinstance(small.adapter, S4Block)
    assert not any(name.endswith((".P", ".l_kernel")) for name in small.params)


def legs(order, dtype):
    """HiPPO-LegS as S4 begins: its normal part and the rank-one rest, in the eigenbasis of the normal part."""
    q = np.arange(order)
    root = np.sqrt(2 * q + 1.0)
    A = -np.where(q[:, None] > q, np.outer(root, root), 0) - np.diag(q + 1.0)
    P = np.sqrt(q + 0.5)
    imag, V = np.linalg.eigh(-1j * (A + np.outer(P, P) + np.eye(order) / 2))
    V, imag = V[:, imag < 0], imag[imag < 0]
    a, P, B = -0.5 + 1j * imag, V.conj().T @ P, V.conj().T @ root
    pairs = {name: np.stack([x.real, x.imag], axis=-1)[None, None].astype(dtype) for name, x in (("P", P), ("B", B))}
    return {
        "D": np.zeros((1, 1), dtype),
        "kernel.C": np.random.default_rng(0).standard_normal((1, 1, order // 2, 2)).astype(dtype),
        "kernel.inv_dt": np.log(np.full((1, 1), 0.01)).astype(dtype),
        "kernel.A_real": np.log(-a.real)[None].astype(dtype),
        "kernel.A_imag": -a.imag[None].astype(dtype),
        "kernel.l_kernel": np.array(0),
        **{f"kernel.{name}": value for name, value in pairs.items()},
    }


def test_the_condition_number_is_known():
    model, _ = loaded("s4block_dplr_legs")
    for layer in model:
        modes = model.adapter.modes(model.params, layer)
        assert modes.condition.shape == modes.error.shape == (6,)
        assert (modes.condition >= 1).all()
        assert (modes.error < 1e-12).all()


def test_a_state_matrix_that_cannot_be_diagonalised_is_refused():
    adapter = S4DPLR(**DEFAULTS)
    with pytest.raises(NotRepresentableError, match=r"condition number \d\.\de\+1\d: the diagonal form is off by"):
        sr.read(legs(64, np.float64), adapter=adapter)


def test_states_that_cancel_are_read_and_not_written_in_single_precision(rng):
    params = legs(64, np.float32)
    model = sr.read(params, adapter=S4DPLR(**DEFAULTS))
    u = rng.standard_normal((100, 1))
    case = S4_CASES["s4dplr-not-truncated"]
    double = {name: value.astype(float) for name, value in params.items()}
    assert_close(outputs(model, ".", u), case.output(model.adapter, double, u), 5e-5)
    with pytest.raises(NotRepresentableError, match="its states cancel each other"):
        sr.export(sr.prune(model, {".": np.arange(20)}))
