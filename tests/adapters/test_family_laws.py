"""The laws of the lens for the families beyond S5, S4D and LRU, whose arrays cannot hold every system."""

from dataclasses import replace

import numpy as np
import pytest
from support.families import LAYER, inputs_of, layer
from support.more_families import MORE_CASES
from support.oracles import assert_close

import ssmreduce as sr
from ssmreduce.errors import AdapterError, MissingFlagError, NonFiniteError, NotRepresentableError, SSMReduceError

CASES = MORE_CASES
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def simulated(adapter, ssm, u):
    y = sr.simulate(ssm, u, strict_reverse=adapter.strict_reverse and ssm.bidirectional)
    return adapter.in_layer_order(ssm, y)


def gaussian(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def scaled_outputs(ssm, rng):
    factors = rng.uniform(0.5, 2, (*ssm.batch, 1, ssm.order))
    return replace(ssm, C=ssm.C * factors, C_reverse=None if ssm.C_reverse is None else ssm.C_reverse * factors)


def random_outputs(ssm, rng):
    reverse = None if ssm.C_reverse is None else gaussian(rng, *ssm.C_reverse.shape)
    return replace(ssm, C=gaussian(rng, *ssm.C.shape), C_reverse=reverse)


def random_poles(ssm, rng):
    poles = rng.uniform(0.3, 0.99, ssm.Lambda.shape) * np.exp(1j * rng.uniform(-3, 3, ssm.Lambda.shape))
    return replace(ssm, Lambda=poles)


def fewer(ssm, rng):
    reverse = None if ssm.C_reverse is None else ssm.C_reverse[..., 1:]
    return replace(ssm, Lambda=ssm.Lambda[..., 1:], B=ssm.B[..., 1:, :], C=ssm.C[..., 1:], C_reverse=reverse)


def can_hold(case, params, wanted):
    """Whether the family holds a system; if not, the error says why."""
    try:
        case.adapter.put(params, LAYER, wanted)
    except NotRepresentableError as error:
        return case.adapter.limits not in str(error)
    return True


CHANGES = {
    "poles": random_poles,
    "damped": lambda ssm, rng: replace(ssm, Lambda=0.99 * ssm.Lambda),
    "inputs": lambda ssm, rng: replace(ssm, B=gaussian(rng, *ssm.B.shape)),
    "outputs": random_outputs,
    "scaled outputs": scaled_outputs,
    "scaled together": lambda ssm, rng: replace(
        ssm, C=2 * ssm.C, C_reverse=None if ssm.C_reverse is None else 2 * ssm.C_reverse
    ),
    "silent": lambda ssm, rng: replace(ssm, B=ssm.B * (np.arange(ssm.order) > 0)[:, None]),
    "feedthrough": lambda ssm, rng: replace(ssm, D=1.5 * ssm.D),
    "fewer": fewer,
    "all": lambda ssm, rng: random_outputs(random_poles(ssm, rng), rng),
}


@every_dtype
@every_case
def test_get_is_the_family_s_formula(case, dtype, rng):
    params, ssm = layer(case, rng, dtype)
    u = inputs_of(ssm, rng)
    assert_close(case.adapter.simulate(params, LAYER, u), case.expected(params, u), 1e-9)


@every_dtype
@every_case
def test_get_put_changes_no_bit(case, dtype, rng):
    params, ssm = layer(case, rng, dtype)
    for name, value in case.adapter.put(params, LAYER, ssm).items():
        np.testing.assert_array_equal(value, params[name], strict=True)
        assert value.tobytes() == params[name].tobytes()


@pytest.mark.parametrize("change", CHANGES)
@every_dtype
@every_case
def test_put_get_returns_the_system_or_refuses(case, dtype, change, rng):
    params, ssm = layer(case, rng, dtype)
    wanted = CHANGES[change](ssm, rng)
    if change not in case.holds and not can_hold(case, params, wanted):
        return
    written = case.adapter.put(params, LAYER, wanted)
    assert {key: value.dtype for key, value in written.items()} == {key: params[key].dtype for key in written}
    held = case.adapter.get({**params, **written}, LAYER)
    u = inputs_of(wanted, rng)
    assert_close(simulated(case.adapter, held, u), simulated(case.adapter, wanted, u), 5e-5)


def selection(model, share):
    """A selection that the arrays can hold: the same number of states for every system, shared states together."""
    return sr.select(sr.score(model, "magnitude", scope="system"), ratio=share, scope="system")


@pytest.mark.parametrize("form", ["compact", "padded", "mask"])
@every_dtype
@every_case
def test_every_form_simulates_like_the_pruned_model(case, dtype, form, rng):
    params, ssm = layer(case, rng, dtype)
    model = sr.read(params, adapter=case.adapter)
    pruned = sr.prune(model, selection(model, 0.4))
    written = sr.read(sr.export(pruned, form=form), adapter=case.reader or case.adapter)
    assert written.params["other"] is model.params["other"]
    u = inputs_of(ssm, rng)
    expected = simulated(case.adapter, pruned[LAYER], u)
    assert_close(written.adapter.simulate(written.params, LAYER, u), expected, 1e-5 if case.reader else 1e-9)
    assert 0 < pruned[LAYER].order < ssm.order
    assert written[LAYER].order == (ssm.order if form == "mask" else pruned[LAYER].order)
    if not case.reader:
        assert_close(case.expected(written.params, u), expected, 1e-9)


@every_case
def test_layers_of_different_orders_are_padded_alike(case, rng):
    params = {**case.params(rng, prefix="layers_0/seq/"), **case.params(rng, prefix="layers_1/seq/")}
    model = sr.read(params, adapter=case.adapter)
    orders = {name: model[name].order for name in model}
    few = {name: (2 if name.startswith("layers_0") else n - 2) * n_systems(model[name]) for name, n in orders.items()}
    scores = sr.score(model, "magnitude", scope="system")
    pruned = sr.prune(model, sr.select(scores, orders=few, scope="system"))
    if min(orders.values()) < max(pruned[name].order for name in model):
        return  # of the low-rank families, whose diagonal forms may differ in order
    written = sr.read(sr.export(pruned, form="padded"), adapter=case.reader or case.adapter)
    assert len({written[name].order for name in written}) == 1
    u = inputs_of(model[model.layers[0]], rng)
    for name in model:
        expected = simulated(case.adapter, pruned[name], u)
        assert_close(written.adapter.simulate(written.params, name, u), expected, 1e-5 if case.reader else 1e-9)


def n_systems(ssm):
    return int(np.prod(ssm.batch))


@every_case
def test_put_and_restrict_do_not_write_into_the_parameters(case, rng):
    params, ssm = layer(case, rng)
    before = {name: value.copy() for name, value in params.items()}
    for value in params.values():
        value.flags.writeable = False
    case.adapter.put(params, LAYER, ssm if case.reader else replace(ssm, D=2 * ssm.D))
    model = sr.read(params, adapter=case.adapter)
    sr.export(sr.prune(model, selection(model, 0.5)))
    for name, value in params.items():
        np.testing.assert_array_equal(value, before[name], strict=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@every_case
def test_every_tensor_must_be_finite(case, bad, rng):
    params, _ = layer(case, rng)
    for name in params.keys() - {"other"}:
        if params[name].dtype.kind == "f":
            broken = params[name].copy()
            broken.flat[0] = bad
            with pytest.raises(NonFiniteError, match=name.rsplit("/", 1)[-1]):
                sr.read({**params, name: broken}, adapter=case.adapter)


@every_case
def test_no_missing_renamed_or_transposed_tensor_is_read_in_silence(case, rng):
    """With a tensor missing, of another shape or of another kind, the layer is not read as something else."""
    params, ssm = layer(case, rng)
    u = inputs_of(ssm, rng)
    expected = case.expected(params, u)
    for name in params.keys() - {"other"}:
        value = params[name]
        missing = () if name.endswith(case.optional or "-") else (None,)
        other = [value[..., None], value[..., :-1] if value.ndim else None, value.real > 0]
        other += [value.T] if value.T.shape != value.shape else []  # a square one transposed is another layer
        for broken in (*missing, *other):
            changed = {key: array for key, array in params.items() if key != name}
            if broken is not None:
                changed[name] = broken
            for adapter in (None, case.adapter):
                try:
                    model = sr.read(changed, adapter=adapter)
                    got = model.adapter.simulate(changed, LAYER, u)
                except SSMReduceError:
                    continue
                assert model.adapter.name == case.adapter.name
                if model.adapter == case.adapter:  # which was not given, and has other flags, otherwise
                    assert_close(got, expected, 1e-9)


@every_case
def test_a_missing_tensor_is_noticed(case, rng):
    params, _ = layer(case, rng)
    for name in (name for name in params if name != "other" and not name.endswith(case.optional or "-")):
        with pytest.raises((AdapterError, MissingFlagError)):
            sr.read({key: value for key, value in params.items() if key != name}, adapter=case.adapter)
