"""Sensitivity of a network's output to the errors of its layers, and the one call that uses it."""

import json
from functools import cache

import numpy as np
import pytest
from support.paths import DATA
from support.recorded import LRU, S5, calibration_of, net_of, recorded, sequences

import ssmreduce as sr
from ssmreduce import networks
from ssmreduce.reduction.calibrated._network_data import kept_apart

BIDIRECTIONAL = DATA / "s5_bidirectional_digits64"


def sensitivity_of(name, function=None, count=100, **options):
    r = recorded(name)
    net = net_of(r) if function is None else sr.network(function, model=r.model)
    x = sequences(name)[:count]
    calibration = sr.calibrate(r.model, net.layer_inputs(r.model, x))
    return sr.reduction.output_sensitivity(net, calibration, [x], ratio=0.9, **options)


def test_of_the_last_layer_it_is_the_quotient_of_the_errors():
    """No layer comes after the last one: what it loses is a plain elimination, and its error is a sum of squares."""
    r = recorded(LRU)
    x = sequences(LRU)[:100]
    inputs = net_of(r).layer_inputs(r.model, x)
    last = tuple(r.model)[-1]
    calibration = sr.calibrate(r.model, inputs)
    left = sr.eliminate(r.model, calibration, ratio=0.9, feedthrough=True).orders[last]
    small = sr.eliminate(r.model, calibration, orders={**r.model.orders, last: left}, feedthrough=True)
    error = np.sum((sr.simulate(small[last], inputs[last]) - sr.simulate(r.model[last], inputs[last])) ** 2)
    change = np.sum((r.network(small, x) - r.network(r.model, x)) ** 2)
    np.testing.assert_allclose(sensitivity_of(LRU, feedthrough=True)[last], change / error, rtol=1e-3)


def test_scale_of_the_outputs_and_batches_do_not_change_the_proportions():
    r = recorded(LRU)
    plain = sensitivity_of(LRU)
    tripled = sensitivity_of(LRU, lambda model, x, tap=None: 3 * r.network(model, x, tap=tap))
    np.testing.assert_allclose(list(tripled.values()), 9 * np.array(list(plain.values())), rtol=1e-6)
    x = sequences(LRU)[:100]
    net = net_of(r)
    parts = np.split(x, 2)
    calibration = sr.calibrate(r.model, (net.layer_inputs(r.model, part) for part in parts))
    split = sr.reduction.output_sensitivity(net, calibration, parts, ratio=0.9)
    np.testing.assert_allclose(list(split.values()), list(plain.values()), rtol=1e-3)


def test_an_output_that_ignores_the_last_layer_frees_its_states():
    r = recorded(LRU)
    last = tuple(r.model)[-1]

    def input_of_the_last(model, x, tap=None):
        seen = {}
        r.network(model, x, tap=seen.__setitem__)
        for name, u in seen.items() if tap is not None else ():
            tap(name, u)
        return seen[last]

    blind = sensitivity_of(LRU, input_of_the_last)
    assert blind[last] == 0
    assert min(value for name, value in blind.items() if name != last) > 0
    small = sr.eliminate(r.model, calibration_of(LRU), ratio=0.5, sensitivity=blind)
    assert small.orders[last] == 1


def test_equal_weights_per_energy_are_the_default():
    model, path = recorded(S5).model, sr.reduction.elimination_path(recorded(S5).model, calibration_of(S5))
    by_energy = {name: 1 / layer.energy for name, layer in path.items()}
    ours, plain = sr.reduction.elimination_scores(path, sensitivity=by_energy), sr.reduction.elimination_scores(path)
    for name in model:
        np.testing.assert_array_equal(ours[name], plain[name])


@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_compress_is_its_parts(ratio):
    r = recorded(LRU)
    net, x = net_of(r), sequences(LRU)[:60]
    small = sr.compress(net, [x], ratio=ratio, finish=None, progress=False)
    [fit], [apart] = kept_apart([x], 0.2, 0)
    calibration = sr.calibrate(r.model, net.layer_inputs(r.model, fit))
    start = sr.eliminate(r.model, calibration, ratio=ratio, feedthrough=True)
    refitted = sr.reduction.refit_network(net, start, [fit], feedthrough=True)

    def error(model):
        difference = r.network(model, apart) - r.network(r.model, apart)
        return np.sum((difference - difference.mean(1, keepdims=True)) ** 2)

    expected = refitted if error(refitted) < error(start) else start
    for name in r.model:
        np.testing.assert_array_equal(small.model[name].Lambda, expected[name].Lambda)
        np.testing.assert_array_equal(small.model[name].C, expected[name].C)
    record = json.loads(small.model.metadata["ssmreduce.record"])
    z = r.network(r.model, fit)
    z = z - z.mean(1, keepdims=True)
    assert record["error"] == pytest.approx(error(expected) / len(apart) / z.var(0).sum())


def test_compress_runs_the_original_once_per_sequence():
    r = recorded(LRU)
    seen = []

    def network(model, x, tap=None):
        if model is r.model:
            seen.extend(map(bytes, x))
        return r.network(model, x, tap=tap)

    batches = np.split(sequences(LRU)[:40], 4)
    sr.compress(sr.network(network, model=r.model), batches, ratio=0.9, finish=None)
    assert len(seen) == len(set(seen)) == 40


@cache
def bidirectional():
    with np.load(BIDIRECTIONAL / "test.npz") as split:
        return sr.load(BIDIRECTIONAL / "model.safetensors"), split["x_test"], split["y_test"]


def test_bidirectional_network_reads_both_directions():
    """The accuracy that PyTorch printed, and causal halves alone do not have it."""
    model, x, y = bidirectional()
    assert all(ssm.bidirectional for ssm in model.values())
    assert (networks.s5_digits(model, x).argmax(1) == y).sum() == 355


@pytest.mark.parametrize("method", ["eliminate", "balanced", "compress"])
def test_bidirectional_network_at_80_percent(method):
    model, x_test, y = bidirectional()
    x = sequences(S5)[:300]
    net = sr.network(networks.s5_digits, model=model)
    assert not {row.tobytes() for row in np.float32(x)} & {row.tobytes() for row in np.float32(x_test)}
    calibration = sr.calibrate(model, net.layer_inputs(model, x))
    small = sr.eliminate(model, calibration, ratio=0.8, feedthrough=True)
    if method == "balanced":
        small = sr.reduction.balance_calibrated(model, calibration, small.orders)
        small = sr.reduction.refit_network(net, small, [x], feedthrough=True)
    elif method == "compress":
        small = sr.compress(net, [x], ratio=0.8, finish=None).model
    assert sum(small.orders.values()) == 51
    agreed = (networks.s5_digits(small, x_test).argmax(1) == y).sum()
    assert agreed >= 355 - 0.005 * len(y)
    again = sr.read(sr.export(small), adapter=model.adapter)
    np.testing.assert_allclose(
        networks.s5_digits(again, x_test[:20]), networks.s5_digits(small, x_test[:20]), atol=0.02
    )


def test_bad_calls_are_named():
    r = recorded(LRU)
    first = next(iter(r.model))
    with pytest.raises(sr.errors.NonFiniteError, match="logits"):
        sensitivity_of(LRU, lambda model, x, tap=None: np.nan * r.network(model, x, tap=tap))
    with pytest.raises(sr.errors.UnknownLayerError, match="sensitivity"):
        sr.eliminate(r.model, calibration_of(LRU), ratio=0.5, sensitivity={first: 1.0})
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(sr.errors.SelectionError, match="sensitivity"):
            sr.eliminate(r.model, calibration_of(LRU), ratio=0.5, sensitivity=dict.fromkeys(r.model, wrong))
    with pytest.raises(sr.errors.ShapeError, match="batch"):
        sr.compress(net_of(r), [], ratio=0.5, finish=None)
    with pytest.raises(sr.errors.ArgumentError, match="finish=None"):
        sr.compress(net_of(r), [sequences(LRU)], ratio=0.5)
