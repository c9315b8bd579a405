"""The installed package s5-pytorch as an oracle: its outputs, and what it loads."""

import warnings

import numpy as np
import pytest

import ssmreduce as sr
from ssmreduce.adapters._s5 import S5PyTorch

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import compiles with the deprecated torch.jit.script
    pytest.importorskip("s5")
    from s5 import S5, S5Block
    from s5.s5_model import S5SSM

WIDTH, STATES, LENGTH = 5, 12, 40


def module(kind, *, states=STATES, blocks=1, bidir=False):
    torch.manual_seed(states + blocks)
    if kind == "S5":
        return S5(WIDTH, states, block_count=blocks, bidir=bidir)
    return S5Block(WIDTH, states, bidir, block_count=blocks).eval()


def signal(rng, *, batch=2):
    return rng.standard_normal((batch, LENGTH, WIDTH)).astype(np.float32)


def run(module, u, **options):
    with torch.no_grad():
        return module(torch.from_numpy(u), **options).numpy()


def assert_close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


every_module = pytest.mark.parametrize("bidir", [False, True], ids=["causal", "two-sided"])


@every_module
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("step_scale", [1.0, 0.5])
def test_layer_output(bidir, blocks, step_scale, rng):
    s5 = module("S5", blocks=blocks, bidir=bidir)
    model = sr.read(s5, adapter=S5PyTorch(step_scale=step_scale))
    assert model.layers == ("seq",)
    assert model["seq"].bidirectional == bidir
    u = signal(rng)
    expected = run(s5, u, step_scale=step_scale)
    assert_close(sr.simulate(model["seq"], u), expected)
    assert_close(sr.simulate(model["seq"], u.astype(np.float64)), expected)


def test_bilinear_layer_output(rng):
    poles = torch.tensor(-rng.uniform(0.1, 1, 4) + 1j * rng.uniform(-20, 20, 4), dtype=torch.complex64)
    eye = torch.eye(4, dtype=torch.complex64)
    torch.manual_seed(0)
    ssm = S5SSM(poles, eye, eye, WIDTH, 4, 0.01, 0.1, discretization="bilinear", bcInit="dense")
    model = sr.read(ssm, adapter=S5PyTorch(discretization="bilinear"))
    u = signal(rng, batch=1)[0]
    assert_close(sr.simulate(model["."], u), run(ssm, u))


@every_module
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("kind", ["S5", "S5Block"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_compacted_model_loads_strictly_and_computes_the_masked_outputs(kind, bidir, blocks, suffix, rng, tmp_path):
    big = module(kind, blocks=blocks, bidir=bidir)
    model = sr.read(big)
    pruned = sr.prune(model, sr.select(sr.score(model, "hinf"), ratio=0.5))
    sr.save(pruned, tmp_path / f"small{suffix}")
    if suffix == ".pt":
        state_dict = torch.load(tmp_path / "small.pt", weights_only=True)
    else:
        state_dict = pytest.importorskip("safetensors.torch").load_file(tmp_path / "small.safetensors")
    small = module(kind, states=STATES // 2, bidir=bidir)
    small.load_state_dict(state_dict, strict=True)
    masked = {name: torch.tensor(value) for name, value in sr.export(pruned, form="mask").items()}
    big.load_state_dict(masked, strict=True)
    u = signal(rng)
    assert np.abs(run(big, u)).max() > 0.1
    assert_close(run(small, u), run(big, u))


@every_module
def test_a_reduced_system_loads_into_the_package(bidir, rng):
    model = sr.read(module("S5", bidir=bidir))
    small = module("S5", states=4, bidir=bidir)
    wanted = sr.read(small)["seq"]
    shifted = sr.DiagonalSSM(0.9 * wanted.Lambda, wanted.B, wanted.C, model["seq"].D, wanted.C_reverse)
    params = sr.export(sr.models.replace_system(model, "seq", shifted))
    small.load_state_dict({name: torch.tensor(value) for name, value in params.items()}, strict=True)
    u = signal(rng)
    assert_close(run(small, u), sr.simulate(shifted, u.astype(np.float64)))


def test_live_module_is_neither_changed_nor_frozen():
    s5 = module("S5")
    before = {name: value.clone() for name, value in s5.state_dict().items()}
    model = sr.read(s5)
    sr.export(sr.prune(model, {"seq": [0]}), form="mask")
    for name, value in s5.state_dict().items():
        assert torch.equal(value, before[name])
    with torch.no_grad():
        s5.seq.D += 1
    assert torch.equal(s5.seq.D, before["seq.D"] + 1)
