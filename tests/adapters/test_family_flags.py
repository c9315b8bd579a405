"""Every flag and layout of the S4 families, DSS and LinOSS, drawn at random, against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.families import LAYER, Case
from support.families_other import dss, linoss
from support.families_s4 import H, s4block, s4dplr

import ssmreduce as sr
from ssmreduce.errors import UnknownNameError

TRANSFORMS = st.sampled_from(["none", "exp", "relu", "sigmoid", "softplus"])
POSITIVE = st.sampled_from(["exp", "softplus"])
COPIES = st.sampled_from([1, 2, H])


def assert_reads_and_keeps_its_bits(case: Case, seed: int):
    rng = np.random.default_rng(seed)
    params = case.params(rng, "float64")
    model = sr.read(params, adapter=case.adapter)
    ssm = model[LAYER]
    u = rng.standard_normal((20, ssm.inputs * int(np.prod(ssm.batch))))
    expected = case.expected(params, u)
    got = case.adapter.simulate(params, LAYER, u)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-8 * np.abs(expected).max())
    for name, value in case.adapter.put(params, LAYER, ssm).items():
        assert value.tobytes() == params[name].tobytes()
    keep = sr.select(sr.score(model, "magnitude"), ratio=0.4, scope="system")
    small, mask = (sr.export(sr.prune(model, keep), form=form) for form in ("compact", "mask"))
    reader = case.reader or case.adapter
    compact, masked = (reader.simulate(arrays, LAYER, u) for arrays in (small, mask))
    np.testing.assert_allclose(compact, masked, rtol=0, atol=1e-9 * np.abs(expected).max())


@given(
    disc=st.sampled_from(["zoh", "bilinear"]),
    real=TRANSFORMS,
    imag=TRANSFORMS,
    dt=TRANSFORMS,
    fast=st.booleans(),
    bandlimit=st.sampled_from([None, 0.2, 1.0]),
    rate=st.sampled_from([0.5, 1.0, 2.0]),
    swap=st.booleans(),
    layout=st.fixed_dictionaries(
        {
            "channels": st.integers(1, 3),
            "bidirectional": st.booleans(),
            "copies": COPIES,
            "tied": st.booleans(),
            "real": st.booleans(),
        }
    ),
    seed=st.integers(0, 10**6),
)
def test_s4block(disc, real, imag, dt, fast, bandlimit, rate, swap, layout, seed):
    if bandlimit is not None and layout["copies"] < H and not layout["real"]:
        layout = {**layout, "copies": H}  # the original's mask needs one copy for each feature
    flags = {"disc": disc, "real_transform": real, "imag_transform": imag, "dt_transform": dt, "dt_fast": fast}
    case = s4block(layout, **flags, bandlimit=bandlimit, rate=rate, swap_channels=swap)
    assert_reads_and_keeps_its_bits(case, seed)


@given(
    real=POSITIVE,
    dt=POSITIVE,
    version=st.sampled_from([3, 4]),
    layout=st.fixed_dictionaries(
        {
            "rank": st.integers(1, 3),
            "length": st.sampled_from([0, 8, 50]),
            "channels": st.integers(1, 2),
            "bidirectional": st.booleans(),
            "copies": COPIES,
        }
    ),
    seed=st.integers(0, 10**6),
)
def test_s4dplr(real, dt, version, layout, seed):
    dt = "exp" if version == 3 else dt
    assert_reads_and_keeps_its_bits(s4dplr({**layout, "version": version}, real_transform=real, dt_transform=dt), seed)


@given(
    version=st.sampled_from(["exp", "exp-re-im", "exp-no-scale", "clip", "clip-no-scale", "softmax"]),
    channels=st.integers(1, 2),
    bidirectional=st.booleans(),
    separate=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_dss(version, channels, bidirectional, separate, seed):
    poles = {"exp-re-im": "logarithms"}.get(version, "exp" if version.startswith("exp") else "pair")
    layout = {"channels": channels, "bidirectional": bidirectional, "separate": separate, "poles": poles}
    assert_reads_and_keeps_its_bits(dss(version, length=25 if version == "softmax" else None, **layout), seed)


@given(
    kind=st.sampled_from(["IM", "IMEX", "damped"]),
    step=st.sampled_from(["steps", "dt"]),
    overdamped=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_linoss(kind, step, overdamped, seed):
    layout = {"damped": kind == "damped", "step": step, "overdamped": overdamped and kind == "IMEX"}
    assert_reads_and_keeps_its_bits(linoss("IMEX" if kind == "damped" else kind, **layout), seed)


@pytest.mark.parametrize("flag", ["disc", "real_transform", "imag_transform", "dt_transform"])
def test_a_flag_of_s4block_that_does_not_exist(flag):
    with pytest.raises(UnknownNameError, match=f"there is no {flag} 'log'"):
        s4block(**{flag: "log"})


def test_what_is_not_a_linear_recurrence_is_refused():
    with pytest.raises(UnknownNameError, match="'dss' depends on the length of the sequence"):
        s4block(disc="dss")
    with pytest.raises(UnknownNameError, match="the sign of A inverted"):
        sr.adapters.LrnnxS5(discretization="bilinear")
    with pytest.raises(sr.errors.MissingFlagError, match="normalises its kernel over the length"):
        sr.adapters.DSS(version="softmax")


@pytest.mark.parametrize("discretization", ["IM", "IMEX"])
def test_oscillators_without_spring_are_refused(discretization, rng):
    case = linoss(discretization)
    params = case.params(rng)
    stiffness = next(name for name in params if name.endswith("A_diag"))
    params[stiffness] = params[stiffness].copy()
    params[stiffness][2] = -0.3  # relu makes it 0, and the oscillator a double integrator
    with pytest.raises(sr.errors.NotRepresentableError, match=r"1 oscillator.s., the first being 2, have a double"):
        sr.read(params, adapter=case.adapter)


def test_undamped_oscillators_have_no_norm_and_a_finite_horizon_score(rng):
    case = linoss("IMEX")
    model = sr.read(case.params(rng), adapter=case.adapter)
    scores = sr.score(model, "hinf")
    assert np.isinf(scores[LAYER]).all()
    keep = sr.select(sr.score(model, sr.selection.finite_horizon_h2(64)), ratio=0.4)
    order = model[LAYER].order
    assert keep.orders[LAYER] == 6
    np.testing.assert_array_equal(keep.keep[LAYER][:3] + order // 2, keep.keep[LAYER][3:])  # whole oscillators


def test_states_that_are_shared_stay_together(rng):
    case = s4block({"copies": 2})
    model = sr.read(case.params(rng), adapter=case.adapter)
    keep = sr.select(sr.score(model), ratio=0.5, scope="system").keep[LAYER].reshape(H, -1) % 5
    np.testing.assert_array_equal(keep[0], keep[2])
    np.testing.assert_array_equal(keep[1], keep[3])
    torn = sr.prune(model, {LAYER: np.array([0, 6, 11, 16])})
    with pytest.raises(sr.errors.NotRepresentableError, match="4 systems share 2 sets of states"):
        sr.export(torn)
    again = sr.read(sr.export(torn, form="mask"), adapter=case.adapter)
    u = rng.standard_normal((20, H))
    np.testing.assert_allclose(sr.simulate(again[LAYER], u), sr.simulate(torn[LAYER], u), rtol=0, atol=1e-12)
    with pytest.raises(sr.errors.SelectionError, match="keeps or drops 2 states together; it cannot keep 3"):
        sr.select(sr.score(model), orders={LAYER: 3})
