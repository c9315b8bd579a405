"""The three laws of the lens for every family and layout, and each family's formulas (tests/families.py)."""

from dataclasses import replace

import numpy as np
import pytest
from support.families import CASES, LAYER, M, N, inputs_of, layer
from support.oracles import assert_same_bits

import ssmreduce as sr
from ssmreduce.adapters._lru import LRU
from ssmreduce.adapters._s4d import S4D
from ssmreduce.adapters._s5 import S5, S5PyTorch
from ssmreduce.errors import NonFiniteError, NotRepresentableError, UnknownLayerError

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def assert_same_output(a, b, u, rtol):
    expected = sr.simulate(b, u)
    np.testing.assert_allclose(sr.simulate(a, u), expected, rtol=0, atol=rtol * np.abs(expected).max())


def random_system(like, order, rng):
    """A stable system of the same kind, away from what some family cannot hold."""
    shape = (*like.batch, order)

    def gaussian(*tail):
        return rng.standard_normal((*like.batch, *tail)) + 1j * rng.standard_normal((*like.batch, *tail))

    poles = rng.uniform(0.3, 0.99, shape) * np.exp(1j * rng.uniform(-3, 3, shape))
    reverse = gaussian(like.outputs, order) if like.bidirectional else None
    inputs, outputs = gaussian(order, like.inputs), gaussian(like.outputs, order)
    return sr.DiagonalSSM(poles, inputs, outputs, like.D, reverse, like.conj_sym)


@every_dtype
@every_case
def test_get_is_the_family_s_formula(case, dtype, rng):
    params, ssm = layer(case, rng, dtype)
    u = inputs_of(ssm, rng)
    expected = case.expected(params, u)
    np.testing.assert_allclose(sr.simulate(ssm, u), expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@every_dtype
@every_case
def test_get_put_changes_no_bit(case, dtype, rng):
    params, ssm = layer(case, rng, dtype)
    result = case.adapter.put(params, LAYER, ssm)
    assert result.keys() == params.keys() - {"other"}
    for name, value in result.items():
        assert_same_bits(value, params[name])


CHANGES = {
    "poles": lambda ssm, rng: replace(ssm, Lambda=0.9 * ssm.Lambda * np.exp(0.05j)),
    "inputs": lambda ssm, rng: replace(ssm, B=random_system(ssm, ssm.order, rng).B),
    "outputs": lambda ssm, rng: replace(ssm, C=random_system(ssm, ssm.order, rng).C),
    "silent": lambda ssm, rng: replace(ssm, B=ssm.B * (np.arange(N) % 2)[:, None]),
    "deaf": lambda ssm, rng: replace(ssm, C=ssm.C * (np.arange(N) % 2)),
    "feedthrough": lambda ssm, rng: replace(ssm, D=ssm.D * 1.5),
    "all": lambda ssm, rng: random_system(ssm, ssm.order, rng),
    "fewer": lambda ssm, rng: random_system(ssm, ssm.order - 2, rng),
    "more": lambda ssm, rng: random_system(ssm, ssm.order + 3, rng),
}


@pytest.mark.parametrize("change", CHANGES)
@every_dtype
@every_case
def test_put_get_returns_the_system(case, dtype, change, rng):
    params, ssm = layer(case, rng, dtype)
    wanted = CHANGES[change](ssm, rng)
    written = case.adapter.put(params, LAYER, wanted)
    assert {k: v.dtype for k, v in written.items()} == {k: params[k].dtype for k in written}
    held = case.adapter.get({**params, **written}, LAYER)
    np.testing.assert_allclose(held.Lambda, wanted.Lambda, rtol=0, atol=2e-6)
    assert_same_output(held, wanted, inputs_of(wanted, rng), 2e-5)


@every_case
def test_put_leaves_the_other_states_bit_identical(case, rng):
    params, ssm = layer(case, rng)
    poles = ssm.Lambda.copy()
    poles[..., 2] *= 0.9
    written = case.adapter.put(params, LAYER, replace(ssm, Lambda=poles))
    touched = set()
    for key, value in written.items():
        changed = np.argwhere(value != params[key])
        states = next((axis for axis, size in enumerate(value.shape) if size in (N, 2 * N)), None)
        assert states is not None or changed.size == 0
        touched |= set(changed[:, states] % N) if changed.size else set()
    assert touched == {2}


@pytest.mark.parametrize("form", ["compact", "padded", "mask"])
@every_dtype
@every_case
def test_every_form_simulates_like_the_pruned_model(case, dtype, form, rng):
    params, ssm = layer(case, rng, dtype)
    model = sr.read(params, adapter=case.adapter)
    width = ssm.Lambda.size // N
    kept = np.concatenate([N * h + np.sort(rng.permutation(N)[:4]) for h in range(width)])
    pruned = sr.prune(model, {LAYER: kept})
    written = sr.export(pruned, form=form)
    assert written["other"] is model.params["other"]
    u = inputs_of(ssm, rng)
    zeroed = np.where(np.isin(np.arange(N * width), kept).reshape(ssm.Lambda.shape), 1.0, 0.0)[..., None, :]
    reverse = None if ssm.C_reverse is None else ssm.C_reverse * zeroed
    expected = replace(ssm, C=ssm.C * zeroed, C_reverse=reverse)
    again = sr.read(written, adapter=case.adapter)[LAYER]
    assert again.order == (N if form == "mask" else 4)
    assert_same_output(again, expected, u, 1e-12)
    assert_same_output(pruned[LAYER], expected, u, 1e-12)
    np.testing.assert_allclose(case.expected(written, u), sr.simulate(expected, u), rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", ["mask", "padded"])
def test_ragged_features(form, rng):
    case = CASES["s4d"]
    params, ssm = layer(case, rng)
    pruned = sr.prune(sr.read(params, adapter=case.adapter), {LAYER: [0, 1, 2, 3, 7, 15, 16]})  # 4, 1 and 2 states
    u = inputs_of(ssm, rng)
    again = sr.read(sr.export(pruned, form=form), adapter=case.adapter)[LAYER]
    assert again.order == {"mask": N, "padded": 4}[form]
    assert_same_output(again, pruned[LAYER], u, 1e-12)
    with pytest.raises(NotRepresentableError, match="between 1 and 4 states"):
        sr.export(pruned)


# ---------------------------------------------------------------- what a family cannot hold


def with_pole(value):
    def change(ssm):
        poles = ssm.Lambda.copy()
        poles[..., 1] = value
        return replace(ssm, Lambda=poles)

    return change


def full_feedthrough(ssm):
    return replace(ssm, D=np.ones_like(ssm.D))


REFUSED = [
    *((name, with_pole(0), "NaN or infinite") for name in CASES if "bilinear" not in name),
    *((name, with_pole(1.05), "NaN or infinite") for name in CASES if name.startswith(("s4d", "lru"))),
    *((name, with_pole(-1), "NaN or infinite") for name in CASES if "bilinear" in name),
    ("s5-clipped", with_pole(1.05), r"pole 1.05\+0j would become 0.9999"),
    ("s5-clipped", with_pole(0.9999999), r"pole 1\+0j would become 0.9999"),
    *((name, full_feedthrough, "D would change") for name in CASES if name.startswith("s5") or "vector" in name),
    ("lru", full_feedthrough, "D would change"),
]


@pytest.mark.parametrize(("name", "change", "message"), REFUSED)
def test_put_refuses(name, change, message, rng):
    params, ssm = layer(CASES[name], rng)
    with pytest.raises(NotRepresentableError, match=message) as error:
        CASES[name].adapter.put(params, LAYER, change(ssm))
    assert CASES[name].adapter.limits in str(error.value)


def wider(ssm):
    one = np.ones((*ssm.batch, 1, ssm.order))
    return replace(ssm, C=np.concatenate([ssm.C, one], axis=-2), D=np.concatenate([ssm.D, ssm.D[..., :1, :]], axis=-2))


def batched(ssm):
    reverse = None if ssm.C_reverse is None else ssm.C_reverse[None]
    return sr.DiagonalSSM(ssm.Lambda[None], ssm.B[None], ssm.C[None], ssm.D[None], reverse, ssm.conj_sym)


OTHER_KINDS = {
    "conj_sym": lambda ssm: replace(ssm, conj_sym=not ssm.conj_sym),
    "reverse half": lambda ssm: replace(ssm, C_reverse=None if ssm.bidirectional else ssm.C),
    "batch": batched,
    "outputs": lambda ssm: wider(replace(ssm, C_reverse=None)),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
@every_case
def test_put_refuses_another_kind_of_system(case, kind, rng):
    params, ssm = layer(case, rng)
    with pytest.raises(NotRepresentableError, match="differs in kind"):
        case.adapter.put(params, LAYER, OTHER_KINDS[kind](ssm))


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("s5") and "clipped" not in name])
def test_s5_holds_unstable_poles(name, rng):
    case = CASES[name]
    adapter = replace(case.adapter, clip_eigs=False) if isinstance(case.adapter, S5) else case.adapter
    params, ssm = layer(case, rng)
    wanted = with_pole(1.05j)(ssm)
    held = adapter.get({**params, **adapter.put(params, LAYER, wanted)}, LAYER)
    np.testing.assert_allclose(held.Lambda, wanted.Lambda, rtol=0, atol=2e-6)


@pytest.mark.parametrize("pole", [0.8, -0.8, 1e-6, 0.999999])
@pytest.mark.parametrize("name", ["s5", "s5_pytorch", "s4d", "lru"])
def test_real_poles_are_held(name, pole, rng):
    case = CASES[name]
    params, ssm = layer(case, rng)
    wanted = with_pole(pole)(ssm)
    adapter = replace(case.adapter, clip_eigs=False) if name == "s5" else case.adapter
    held = adapter.get({**params, **adapter.put(params, LAYER, wanted)}, LAYER)
    np.testing.assert_allclose(held.Lambda[..., 1], pole, rtol=0, atol=5e-7)
    np.testing.assert_allclose(1 - np.abs(held.Lambda[..., 1]), 1 - abs(pole), rtol=2e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [("poles", "pole"), ("inputs", "B would"), ("outputs", "C would"), ("feedthrough", "D would")],
)
def test_half_precision_keeps_its_bits_and_refuses_what_it_would_round(change, message, rng):
    case = CASES["s5"]
    params = {name: value.astype(np.float16) for name, value in case.params(rng).items()}
    ssm = case.adapter.get(params, LAYER)
    for name, value in case.adapter.put(params, LAYER, ssm).items():
        assert_same_bits(value, params[name])
    with pytest.raises(NotRepresentableError, match=message):
        case.adapter.put(params, LAYER, CHANGES[change](ssm, rng))


# ---------------------------------------------------------------- read-only, finite, by name


@every_case
def test_put_and_restrict_do_not_write_into_the_parameters(case, rng):
    params, ssm = layer(case, rng)
    before = {name: value.copy() for name, value in params.items()}
    for value in params.values():
        value.flags.writeable = False
    case.adapter.put(params, LAYER, random_system(ssm, N, rng))
    index = np.tile(np.arange(3), (case.adapter.sizes(params, LAYER)[0], 1))
    case.adapter.restrict(params, LAYER, index, index > 0)
    for name, value in params.items():
        assert_same_bits(value, before[name])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@every_case
def test_every_tensor_must_be_finite(case, bad, rng):
    params, _ = layer(case, rng)
    for name in params.keys() - {"other"}:
        broken = params[name].copy()
        broken.flat[0] = bad
        with pytest.raises(NonFiniteError, match=name.rsplit("/", 1)[-1]):
            sr.read({**params, name: broken}, adapter=case.adapter)


def test_a_layer_of_another_name_is_unknown(rng):
    params, ssm = layer(CASES["lru"], rng)
    with pytest.raises(UnknownLayerError, match="'layers_9' is not a layer of the family lru"):
        LRU().put(params, "layers_9", ssm)


@pytest.mark.parametrize("prefix", ["", "seq.", "layers.3.seq.", "params/encoder/layers_3/seq/"])
@pytest.mark.parametrize("name", ["s5", "s5_pytorch", "s4d", "lru"])
def test_any_path(name, prefix, rng):
    case = CASES[name]
    params = case.params(rng, prefix=prefix)
    model = sr.read(params, adapter=case.adapter)
    assert model.layers == (prefix.rstrip("./") or ".",)
    u = rng.standard_normal((20, M))
    expected = case.expected(params, u)
    np.testing.assert_allclose(sr.simulate(model[model.layers[0]], u), expected, atol=1e-11 * np.abs(expected).max())
    pruned = sr.prune(model, {model.layers[0]: np.arange(N * int(np.prod(model[model.layers[0]].batch)))})
    assert sr.export(pruned).keys() == params.keys()


@pytest.mark.parametrize("adapter", [S4D(), LRU(), S5PyTorch(), S5(conj_sym=True, discretization="zoh")])
def test_adapters_compare_and_hash(adapter):
    assert adapter == replace(adapter)
    assert hash(adapter) == hash(replace(adapter))
