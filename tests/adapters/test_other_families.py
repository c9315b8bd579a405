"""Families that are not read: each is recognised, and the error says what it is and what to do."""

import sys

import numpy as np
import pytest
import scipy
from support.families import CASES
from support.more_families import MORE_CASES

import ssmreduce as sr
from ssmreduce.adapters import LRU, S5, EventSSM, families
from ssmreduce.adapters._others import KNOWN
from ssmreduce.adapters._registry import ENTRY_POINTS
from ssmreduce.errors import AdapterError, IncompleteLayerError

# Names of layers as their implementations write them.
CHECKPOINTS = {
    "LMU": [f"lmu.cell.{leaf}" for leaf in ("e_x", "e_h", "e_m", "W_x", "W_h", "W_m", "A", "B")],
    "LMU in parallel form (LMUFFT)": [
        "lmu.W_u.weight",
        "lmu.W_u.bias",
        "lmu.W_h.weight",
        "lmu.A",
        "lmu.H",
        "lmu.fft_H",
    ],
    "Mamba": [
        "backbone.layers.0.mixer.A_log",
        "backbone.layers.0.mixer.D",
        "backbone.layers.0.mixer.conv1d.weight",
        "backbone.layers.0.mixer.in_proj.weight",
        "backbone.layers.0.mixer.x_proj.weight",
        "backbone.layers.0.mixer.dt_proj.weight",
        "backbone.layers.0.mixer.dt_proj.bias",
    ],
    "Mamba-2": [
        "backbone.layers.0.mixer.A_log",
        "backbone.layers.0.mixer.D",
        "backbone.layers.0.mixer.dt_bias",
        "backbone.layers.0.mixer.in_proj.weight",
        "backbone.layers.0.mixer.conv1d.weight",
        "backbone.layers.0.mixer.norm.weight",
    ],
    "Gated DeltaNet": [
        "model.layers.0.linear_attn.A_log",
        "model.layers.0.linear_attn.dt_bias",
        "model.layers.0.linear_attn.conv1d.weight",
        "model.layers.0.linear_attn.in_proj_qkvz.weight",
        "model.layers.0.linear_attn.in_proj_ba.weight",
    ],
    "RG-LRU (Griffin, RecurrentGemma)": [
        "model.layers.0.temporal_block.rg_lru.recurrent_param",
        "model.layers.0.temporal_block.rg_lru.recurrent_gate_weight",
        "model.layers.0.temporal_block.rg_lru.input_gate_weight",
    ],
    "RWKV": ["rwkv.blocks.0.attention.time_decay", "rwkv.blocks.0.attention.time_first"],
    "RWKV-7": [f"blocks.0.att.{leaf}" for leaf in ("w0", "w1", "k_k", "k_a", "r_k")],
    "Hyena": ["layers.0.mixer.filter_fn.implicit_filter.0.weight"],
}


@pytest.mark.parametrize("family", CHECKPOINTS)
def test_what_a_family_is_and_what_to_do(family):
    params = {name: np.ones((2, 3), np.float32) for name in CHECKPOINTS[family]}
    known = next(known for known in KNOWN if known.family == family)
    with pytest.raises(AdapterError) as error:
        sr.read(params)
    assert f"is one of {family}: {known.what}" in str(error.value)
    assert f"What can be done: {known.advice}" in str(error.value)
    with pytest.raises(AdapterError, match="recognises no layer.*is one of"):
        sr.read(params, adapter=LRU())


def test_every_known_family_has_a_sentence_and_a_way_out():
    for known in KNOWN:
        assert known.leaves
        assert known.what
        assert known.advice


@pytest.mark.parametrize("name", [*CASES, *MORE_CASES])
def test_no_layer_that_is_read_looks_like_one_that_is_not(name, rng):
    from ssmreduce.adapters._others import known_other

    assert known_other({**CASES, **MORE_CASES}[name].params(rng)) is None


def test_the_memory_of_lmu_is_realised_from_its_impulse_responses():
    """The advice for LMUFFT: its matrices, of Legendre polynomials over theta steps, by the zero-order hold."""
    order, theta, length = 6, 40, 120
    q = np.arange(order)
    A = np.where(q[:, None] < q, -1.0, (-1.0) ** (q[:, None] - q + 1)) * (2 * q[:, None] + 1) / theta
    both = scipy.linalg.expm(np.block([[A, ((2 * q + 1) / theta * (-1.0) ** q)[:, None]], [np.zeros((1, order + 1))]]))
    H = [both[:order, order]]
    while len(H) < length:
        H.append(both[:order, :order] @ H[-1])
    found = sr.realize(np.array(H).T[:, None], order=order)
    assert found.order == order
    assert found.upper < 1e-9 * np.abs(np.fft.rfft(np.array(H), 4096, axis=0)).max()
    poles = found.ssm.Lambda[0:]
    both_halves = np.sort_complex(np.concatenate([poles, poles.conj()[poles.imag > 1e-9]]))
    np.testing.assert_allclose(both_halves, np.sort_complex(np.linalg.eigvals(both[:order, :order])), atol=1e-7)


def test_the_wrong_s5_suggests_the_right_one(rng):
    params = CASES["s5_pytorch"].params(rng)
    with pytest.raises(AdapterError, match=r"those of s5_pytorch \(adapter=adapters\.S5PyTorch\(\), --adapter s5_py"):
        sr.read(params, adapter=S5(conj_sym=True, discretization="zoh"))


def test_a_family_that_must_be_named_is_hinted_at(rng):
    params = MORE_CASES["event_ssm-full-D"].params(rng)
    with pytest.raises(IncompleteLayerError, match=r"may be one of event_ssm.*adapters\.EventSSM\(conj_sym="):
        sr.read(params)
    flags = {"conj_sym": True, "discretization": "zoh"}
    assert len(sr.read(params, adapter=EventSSM(**flags))) == 1


# ---------------------------------------------------------------- families of other packages


class Entry:
    """An installed entry point."""

    name, value = "theirs", "their_package:Theirs"

    def __init__(self, thing):
        self.thing = thing

    def load(self):
        if isinstance(self.thing, Exception):
            raise self.thing
        return self.thing


@pytest.fixture
def installed(monkeypatch):
    def install(thing):
        def entry_points(*, group):
            assert group == ENTRY_POINTS
            return [Entry(thing)]

        monkeypatch.setattr("ssmreduce.adapters._registry.entry_points", entry_points)
        families.cache_clear()

    yield install
    families.cache_clear()


class Theirs(LRU):
    """A family of another package: the LRU with its tensors under a prefix of their own."""

    name = "theirs"
    layouts = tuple({f"cell.{leaf}": tensor for leaf, tensor in layout.items()} for layout in LRU.layouts)

    def _decode(self, tensors):
        return super()._decode({leaf.removeprefix("cell."): value for leaf, value in tensors.items()})

    def _encode(self, ssm, tensors):
        plain = {leaf.removeprefix("cell."): value for leaf, value in tensors.items()}
        return {f"cell.{leaf}": value for leaf, value in super()._encode(ssm, plain).items()}


class Named(LRU):
    """An adapter under a name that is taken."""

    name = "s5"


def test_a_registered_family_is_found_and_remembered(installed, rng, tmp_path):
    installed(Theirs)
    assert families()["theirs"] is Theirs
    params = {key: value for key, value in CASES["s5"].params(rng, prefix="other.").items() if "Lambda" not in key}
    params = CASES["lru"].params(rng, prefix="layer.cell.")
    claims = [name for name, cls in families().items() if cls.find(params)]
    assert claims == ["lru", "theirs"]
    model = sr.read(params, adapter=Theirs())
    assert model.layers == ("layer",)
    sr.save(model, tmp_path / "theirs.safetensors")
    assert sr.load(tmp_path / "theirs.safetensors").adapter == Theirs()


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (ImportError("no module"), "cannot be imported: ImportError: no module"),
        (LRU(), "is not a subclass of ssmreduce.adapters.Adapter"),
        (Named, "calls its family 's5', a name that is taken"),
    ],
)
def test_a_broken_registration_is_named(installed, thing, message):
    installed(thing)
    with pytest.raises(AdapterError, match=rf"entry point 'theirs' \(their_package:Theirs\).*{message}"):
        families()


PACKAGE = """
from dataclasses import dataclass
from ssmreduce.adapters import LRU

@dataclass(frozen=True, kw_only=True)
class Cell(LRU):
    name = "cell"
    layouts = tuple({f"cell.{leaf}": tensor for leaf, tensor in layout.items()} for layout in LRU.layouts)

    def _decode(self, tensors):
        return super()._decode({leaf.removeprefix("cell."): value for leaf, value in tensors.items()})
"""


def test_the_entry_point_of_an_installed_package(tmp_path, monkeypatch, rng):
    """A package and the metadata that an installer writes, on the path of Python."""
    (tmp_path / "cell_package.py").write_text(PACKAGE)
    metadata = tmp_path / "cell_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cell-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\ncell = cell_package:Cell\n")
    monkeypatch.syspath_prepend(tmp_path)
    families.cache_clear()
    try:
        found = families()["cell"]
        assert found.__module__ == "cell_package"
        params = CASES["lru"].params(rng, prefix="layer.cell.")
        model = sr.read(params, adapter=found())
        np.testing.assert_array_equal(model["layer"].Lambda, LRU().get(params, "layer.cell").Lambda)
    finally:
        families.cache_clear()
        sys.modules.pop("cell_package", None)
