"""Every flag and layout of the families beyond S4, DSS and LinOSS, drawn at random, against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.families import CASES, Case, M, N, P, _lru, _s5, _torch
from support.families_other import (
    annotated_s4_leaves,
    annotated_s4_output,
    event,
    flowstate_leaves,
    flowstate_output,
    lrnnx_leaves,
    lrnnx_output,
)
from support.families_real import HF, centaurus, mega
from support.more_families import MORE_CASES

import ssmreduce as sr
from ssmreduce.adapters import AnnotatedS4, AnnotatedS4D, Centaurus, FlowState, LrnnxS5
from ssmreduce.errors import SSMReduceError

LAYER = "params/encoder/layers_0/seq"
SEEDS = st.integers(0, 10**6)
SCALES = st.sampled_from([0.25, 1.0, 1.7])
few = settings(max_examples=12)


def assert_reads_and_cuts(case, seed):
    rng = np.random.default_rng(seed)
    params = case.params(rng, "float64")
    model = sr.read(params, adapter=case.adapter)
    ssm = model[LAYER]
    u = rng.standard_normal((20, ssm.inputs * ssm.systems))
    expected = case.expected(params, u)
    tolerance = 1e-8 * np.abs(expected).max()
    np.testing.assert_allclose(case.adapter.simulate(params, LAYER, u), expected, rtol=0, atol=tolerance)
    keep = sr.select(sr.score(model, "magnitude", scope="system"), ratio=0.4, scope="system")
    small, mask = (sr.export(sr.prune(model, keep), form=form) for form in ("compact", "mask"))
    reader = case.reader or case.adapter
    compact, masked = (reader.simulate(arrays, LAYER, u) for arrays in (small, mask))
    np.testing.assert_allclose(compact, masked, rtol=0, atol=tolerance)


@few
@given(
    conj_sym=st.booleans(),
    discretization=st.sampled_from(["zoh", "bilinear"]),
    clip=st.booleans(),
    step_rescale=SCALES,
    outputs=st.sampled_from([{"C": N}, {"C": 2 * N}, {"C1": N, "C2": N}]),
    seed=SEEDS,
)
def test_s5(conj_sym, discretization, clip, step_rescale, outputs, seed):
    growing = (0.05, -1e-6) if clip else ()
    flags = {"clip_eigs": clip, "step_rescale": step_rescale, "outputs": outputs, "growing": growing}
    assert_reads_and_cuts(_s5(conj_sym=conj_sym, discretization=discretization, **flags), seed)


@few
@given(discretization=st.sampled_from(["zoh", "bilinear"]), scale=SCALES, width=st.sampled_from([N, 2 * N]), seed=SEEDS)
def test_s5_pytorch(discretization, scale, width, seed):
    assert_reads_and_cuts(_torch(width, discretization=discretization, step_scale=scale), seed)


@few
@given(D=st.sampled_from([(M,), (P, M), (M, M)]), complex_=st.booleans(), seed=SEEDS)
def test_lru(D, complex_, seed):
    assert_reads_and_cuts(_lru(D, complex_=complex_), seed)


@few
@given(
    conj_sym=st.booleans(),
    discretization=st.sampled_from(["zoh", "dirac", "async"]),
    step_rescale=SCALES,
    time_step=SCALES,
    outputs=st.sampled_from([(3,), (4, 3), (2, 3)]),
    seed=SEEDS,
)
def test_event_ssm(conj_sym, discretization, step_rescale, time_step, outputs, seed):
    flags = {"conj_sym": conj_sym, "step_rescale": step_rescale, "time_step": time_step}
    assert_reads_and_cuts(event(outputs, discretization=discretization, **flags), seed)


@few
@given(scale=SCALES, gate=st.booleans(), seed=SEEDS)
def test_flowstate(scale, gate, seed):
    adapter = FlowState(scale_factor=scale)
    assert_reads_and_cuts(Case(adapter, lambda rng: flowstate_leaves(rng, gate=gate), flowstate_output), seed)


@few
@given(discretization=st.sampled_from(["zoh", "dirac"]), seed=SEEDS)
def test_lrnnx_s5(discretization, seed):
    assert_reads_and_cuts(Case(LrnnxS5(discretization=discretization), lrnnx_leaves, lrnnx_output), seed)


@few
@given(l_max=st.integers(4, 200), seed=SEEDS)
def test_annotated_s4(l_max, seed):
    case = Case(AnnotatedS4(l_max=l_max), annotated_s4_leaves, annotated_s4_output, reader=AnnotatedS4D())
    assert_reads_and_cuts(case, seed)


@few
@given(mode=st.sampled_from(["neck", "pointwise", "dws", "full"]), states=st.integers(2, 5), seed=SEEDS)
def test_centaurus(mode, states, seed):
    assert_reads_and_cuts(centaurus(mode, states, reader=Centaurus()), seed)


@few
@given(names=st.sampled_from([("alpha", "delta", "beta", "gamma", "omega"), HF]), seed=SEEDS)
def test_mega(names, seed):
    assert_reads_and_cuts(mega(names=names), seed)


@few
@given(name=st.sampled_from(["s4d", "attenuate", "annotated_s4d", "s4d-discretax"]), seed=SEEDS)
def test_families_without_flags(name, seed):
    assert_reads_and_cuts({**CASES, **MORE_CASES}[name], seed)


@pytest.mark.parametrize("name", [*CASES, *MORE_CASES])
def test_further_tensors_of_a_layer_change_nothing(name, rng):
    """What else stands below a layer, and a copy of one of its arrays under another name, is not read."""
    case = {**CASES, **MORE_CASES}[name]
    params = case.params(rng)
    first = next(iter(params))
    more = {f"{LAYER}/norm/weight": np.ones(3, np.float32), f"{first}_old": params[first] * 2, "step": np.array(7)}
    ssm, again = (sr.read(p, adapter=case.adapter)[LAYER] for p in (params, {**params, **more}))
    np.testing.assert_array_equal(ssm.Lambda, again.Lambda)
    np.testing.assert_array_equal(ssm.C, again.C)


@pytest.mark.parametrize("name", CASES)
def test_arrays_of_the_first_families_in_another_shape_or_kind(name, rng):
    """Transposed, longer, shorter, of integers or text: the same outputs or an error, never others in silence."""
    case = CASES[name]
    params = case.params(rng)
    u = rng.standard_normal((12, case.adapter.get(params, LAYER).inputs * case.adapter.get(params, LAYER).systems))
    expected = case.expected(params, u)
    for key, value in params.items():
        other = [value[..., None], value[..., :-1], value.real > 0, np.round(value.real).astype(np.int64)]
        other += [value.T] if value.T.shape != value.shape else []
        for broken in other:
            changed = {**params, key: broken}
            try:
                got = case.adapter.simulate(changed, LAYER, u) if sr.read(changed, adapter=case.adapter) else None
            except SSMReduceError:
                continue
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
