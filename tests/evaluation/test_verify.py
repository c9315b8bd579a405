"""Which reading of the arrays fits a recorded output: flags, transpositions, halves, in layers and in networks."""

from dataclasses import fields, replace

import numpy as np
import pytest
from support.families import CASES
from support.more_families import MORE_CASES
from support.paths import DATA

import ssmreduce as sr
from ssmreduce import adapters
from ssmreduce.adapters import families
from ssmreduce.adapters._alternatives import other_flags, with_flag
from ssmreduce.errors import ArgumentError, NonFiniteError, OptionError, ShapeError, SSMReduceError, UnknownLayerError

FAMILIES = {**CASES, **MORE_CASES}
NAME = "layers.0.seq"
S5 = adapters.S5(conj_sym=True, discretization="zoh")


def layer_of(case, rng, length=40):
    """Parameters of one layer, an input, and the output by the formulas as printed."""
    params = case.params(rng, prefix=f"{NAME}.")
    ssm = sr.read(params, adapter=case.adapter)[NAME]
    u = rng.standard_normal((length, ssm.inputs * ssm.systems))
    tensors = {key.removeprefix(f"{NAME}."): np.asarray(value, value.dtype) for key, value in params.items()}
    return params, u, tensors


def recorded(params, adapter, u):
    return adapter.simulate(params, NAME, u)


@pytest.mark.parametrize(
    "case",
    [
        "s5",
        "s5-clipped",
        "s5_pytorch",
        "lru",
        "s4d",
        "s4block-fast",
        "s4block-swapped",
        "lrnnx_s5",
        "event_ssm",
        "dss",
        "linoss-im",
        "linoss-imex",
    ],
)
def test_every_flag_that_matters_is_found(case, rng):
    """Read with one wrong flag; the right one is among the readings that fit."""
    case = FAMILIES[case]
    params, u, _ = layer_of(case, rng)
    y = recorded(params, case.adapter, u)
    assert sr.verify(sr.read(params, adapter=case.adapter), u, y).holds
    for flag, values in other_flags(case.adapter).items():
        for value in values:
            try:
                model = sr.read(params, adapter=with_flag(case.adapter, flag, value))
                wrong = recorded(params, model.adapter, u)
            except SSMReduceError:  # a flag that these arrays rule out
                continue
            if not np.linalg.norm(wrong - y) > 0.01 * np.linalg.norm(y):
                continue
            found = sr.verify(model, u, y, changes=1)
            assert not found.holds
            right = f"{flag}={getattr(case.adapter, flag)!r}"
            assert (right,) in [other.changes for other in found.alternatives], (flag, value)
            assert all(other.error <= found.rtol for other in found.alternatives)


@pytest.mark.parametrize("family", families())
def test_every_flag_that_is_a_name_has_its_choices(family):
    cls = families()[family]
    texts = {flag.name for flag in fields(cls) if flag.type in ("str", str)}
    assert texts == set(cls.choices)


def square_s5(rng, n=5):
    case = CASES["s5"]
    params = {key: value for key, value in case.params(rng, prefix=f"{NAME}.").items()}
    params[f"{NAME}.B"] = rng.standard_normal((n, n, 2)).astype(np.float32)
    params[f"{NAME}.C"] = rng.standard_normal((n, n, 2)).astype(np.float32)
    params[f"{NAME}.D"] = rng.standard_normal(n).astype(np.float32)
    for leaf in ("Lambda_re", "Lambda_im", "log_step"):
        params[f"{NAME}.{leaf}"] = params[f"{NAME}.{leaf}"][-n:]
    return params


@pytest.mark.parametrize("leaf", ["B", "C"])
def test_a_square_matrix_the_other_way_round(leaf, rng):
    params = square_s5(rng)
    u = rng.standard_normal((30, 5))
    y = recorded(params, S5, u)
    turned = {**params, f"{NAME}.{leaf}": params[f"{NAME}.{leaf}"].swapaxes(0, 1)}
    found = sr.verify(sr.read(turned, adapter=S5), u, y)
    assert [other.changes for other in found.alternatives] == [(f"transposed {leaf}",)]


def test_three_mistakes_at_once_are_found_and_four_are_not(rng):
    params = square_s5(rng)
    u = rng.standard_normal((30, 5))
    y = recorded(params, S5, u)
    turned = {**params, f"{NAME}.B": params[f"{NAME}.B"].swapaxes(0, 1)}
    wrong = replace(S5, conj_sym=False, discretization="bilinear")
    found = sr.verify(sr.read(turned, adapter=wrong), u, y)
    assert [other.changes for other in found.alternatives] == [
        ("conj_sym=True", "discretization='zoh'", "transposed B")
    ]
    text = str(found)
    assert "as read" in text
    assert "those that fit are shown" in text
    fewer = sr.verify(sr.read(turned, adapter=wrong), u, y, changes=2)
    assert len(fewer.alternatives) == 3
    assert all(other.error > fewer.rtol for other in fewer.alternatives)
    assert "none of" in str(fewer)
    assert fewer.to_dict()["what"] == NAME


def test_pairs_that_the_family_has_no_flag_for(rng):
    case = CASES["lru"]
    params, u, _ = layer_of(case, rng)
    model = sr.read(params, adapter=case.adapter)
    y = sr.simulate(replace(model[NAME], conj_sym=True), u)
    assert sr.verify(model, u, y).alternatives[0].changes == ("conj_sym=True (not a flag of lru)",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ssm, u: sr.simulate(replace(ssm, C_reverse=None), u), "without the reverse half"),
        (lambda ssm, u: sr.simulate(replace(ssm, C=ssm.C_reverse, C_reverse=ssm.C), u), "the halves exchanged"),
        (lambda ssm, u: sr.simulate(ssm, u, strict_reverse=True), "strict_reverse=True"),
    ],
)
def test_other_reverse_halves(change, words):
    folder = DATA / "s5_bidirectional_digits64"
    model = sr.load(folder)
    name = model.layers[0]
    u = np.random.default_rng(0).standard_normal((40, model[name].inputs))
    found = sr.verify(model, u, change(model[name], u), layer=name)
    assert [other.changes for other in found.alternatives] == [(words,)]


def test_a_network(rng):
    case = CASES["s5"]
    params = case.params(rng, prefix=f"{NAME}.")

    def function(model, x, tap=None):
        if tap is not None:
            tap(NAME, x)
        return np.tanh(sr.simulate(model[NAME], x)).mean(axis=1)

    x = rng.standard_normal((4, 30, 3))
    y = sr.network(function, model=sr.read(params, adapter=S5))
    y = y.outputs(y.model, x)
    wrong = sr.network(function, model=sr.read(params, adapter=replace(S5, discretization="bilinear")))
    found = sr.verify(wrong, x, y)
    assert found.what == "network"
    assert [other.changes for other in found.alternatives] == [("discretization='zoh'",)]


def test_bad_calls(rng):
    model = sr.load("examples/s5_digits/model.safetensors")
    u, y = rng.standard_normal((20, 32)), rng.standard_normal((20, 32))
    with pytest.raises(ArgumentError, match="name the one that was recorded"):
        sr.verify(model, u, y)
    with pytest.raises(UnknownLayerError, match="no layer 'x'"):
        sr.verify(model, u, y, layer="x")
    with pytest.raises(ShapeError, match="y has shape"):
        sr.verify(model, u, y[:-1], layer=NAME)
    with pytest.raises(OptionError, match="0 everywhere"):
        sr.verify(model, u, 0 * y, layer=NAME)
    with pytest.raises(NonFiniteError, match="y holds NaN"):
        sr.verify(model, u, y * np.nan, layer=NAME)
    with pytest.raises(OptionError, match="rtol"):
        sr.verify(model, u, y, layer=NAME, rtol=0)
    with pytest.raises(OptionError, match="changes"):
        sr.verify(model, u, y, layer=NAME, changes=0)
    with pytest.raises(ArgumentError, match="was pruned or reduced"):
        sr.verify(sr.prune(model, {NAME: [0, 1]}), u, y, layer=NAME)
    with pytest.raises(ArgumentError, match="obj is 3"):
        sr.verify(3, u, y)
