"""Calls that a newcomer may get wrong: each is refused in words, none runs on in silence."""

import inspect

import numpy as np
import pytest
import scipy.signal

import ssmreduce as sr
from ssmreduce import errors, networks

LAYER = "layers.0.seq"
DENSE = sr.StateSpace([[0.5]], [[1.0]], [[1.0]], [[0.0]])


class Journey:
    """What a session has at hand when a call goes wrong."""

    def __init__(self):
        self.model = sr.load("examples/s5_digits/model.safetensors")
        self.other = sr.load("tests/data/lru_forgi86_digits64/model.safetensors")
        self.x = np.random.default_rng(0).random((6, 64, 1))
        self.inputs = self.layer_inputs(self.model, self.x)
        self.u = self.inputs[LAYER]
        self.mask = np.ones((6, 64), dtype=bool)
        self.calibration = sr.calibrate(self.model, self.inputs)
        self.path = sr.selection.elimination_path(self.model, self.calibration)
        self.small = sr.eliminate(self.model, self.calibration, ratio=0.8)

    @staticmethod
    def layer_inputs(model, x):
        return networks.NumpyNetwork(networks.s5_digits, model=model).layer_inputs(model, x)

    def calibrate(self, inputs, **options):
        return sr.calibrate(self.model, inputs, **options)

    def eliminate(self, **options):
        return sr.eliminate(self.model, self.calibration, **options)

    def network(self, function=networks.s5_digits):
        return sr.network(function, model=self.model)

    def refit_network(self, batches=None, function=networks.s5_digits, **options):
        batches = [self.x] if batches is None else batches
        return sr.reduction.refit_network(self.network(function), self.small, batches, **options)

    def compress(self, batches=None, function=networks.s5_digits, **options):
        batches = [self.x] if batches is None else batches
        return sr.compress(self.network(function), batches, **{"ratio": 0.8, "finish": None, **options})

    def compare(self, inputs=None, **options):
        options = {"length": 8, "certificates": False, **options}
        return sr.compare(self.model, {"small": self.small}, inputs=inputs, **options)

    def search(self, evaluate=lambda model: float(sum(model.orders.values())), **options):
        return sr.search(self.model, self.calibration, evaluate, **{"max_loss": 300, **options})


@pytest.fixture(scope="module")
def j():
    return Journey()


CALIBRATE = {
    "an array": (
        lambda j: j.calibrate(j.u),
        errors.ArgumentError,
        r"mapping from layer name.*ndarray of shape \(6, 64",
    ),
    "a pair": (lambda j: j.calibrate((j.inputs, j.mask)), errors.ArgumentError, "mask=mask"),
    "arrays": (lambda j: j.calibrate([j.u]), errors.ArgumentError, "batch 1 is a ndarray"),
    "a generator of arrays": (lambda j: j.calibrate(u for u in [j.u]), errors.ArgumentError, "batch 1"),
    "a path": (lambda j: j.calibrate("inputs.npz"), errors.ArgumentError, "'inputs.npz'"),
    "nothing": (lambda j: j.calibrate(None), errors.ArgumentError, "None"),
    "three in a tuple": (lambda j: j.calibrate([(j.inputs, j.mask, 3)]), errors.ArgumentError, "batch 1 is a tuple"),
    "a pair as a list": (lambda j: j.calibrate([[j.inputs, j.mask]]), errors.ArgumentError, "batch 1 is a list"),
    "a pair turned round": (lambda j: j.calibrate([(j.mask, j.inputs)]), errors.ArgumentError, "batch 1"),
    "the model as inputs": (lambda j: j.calibrate(j.model), errors.ArgumentError, "got a DiagonalSSM"),
    "a calibration": (lambda j: j.calibrate(j.calibration), errors.ArgumentError, "got a Moments"),
    "text as an array": (lambda j: j.calibrate({LAYER: "u"}), errors.ArrayKindError, "not real numbers: 'u'"),
    "None as an array": (lambda j: j.calibrate({LAYER: None}), errors.ArrayKindError, "not real numbers: None"),
    "objects": (lambda j: j.calibrate({LAYER: j.u.astype(object)}), errors.ArrayKindError, "object"),
    "ragged numbers": (lambda j: j.calibrate({LAYER: [[[0.0] * 32], [[1.0]]]}), errors.ShapeError, "expected"),
    "ragged rows": (lambda j: j.calibrate({LAYER: [[[0.0], [1.0, 2.0]]]}), errors.ShapeError, "different lengths"),
    "a list and a mask": (lambda j: j.calibrate({LAYER: list(j.u)}, mask=j.mask), errors.ShapeError, "list end where"),
    "a path as the model": (lambda j: sr.calibrate("m.npz", j.inputs), errors.ArgumentError, "a model is needed"),
    "a system as the model": (lambda j: sr.calibrate(j.model[LAYER], j.inputs), errors.ArgumentError, "DiagonalSSM"),
    "arguments turned round": (lambda j: sr.calibrate(j.inputs, j.model), errors.ArgumentError, "model is a dict"),
    "targets as arrays": (lambda j: j.calibrate(j.inputs, targets=j.u), errors.ArgumentError, "targets is a ndarray"),
    "targets of another model": (lambda j: j.calibrate(j.inputs, targets=j.other), errors.UnknownLayerError, LAYER),
    "stationary, no model": (
        lambda j: sr.calibration.calibrate_stationary(None),
        errors.ArgumentError,
        "a model is needed",
    ),
    "saved, no calibration": (
        lambda j: sr.calibration.save_calibration(j.model, "c.npz"),
        errors.ArgumentError,
        "a calibration is",
    ),
}

REDUCE = {
    "ratio in words": (lambda j: j.eliminate(ratio="0.8"), errors.ArgumentError, "ratio must be a number, got '0.8'"),
    "ratio in per cent": (lambda j: j.eliminate(ratio=80), errors.SelectionError, "got 80"),
    "count in words": (lambda j: j.eliminate(count="5"), errors.ArgumentError, "count must be a number"),
    "threshold in words": (lambda j: sr.select(sr.score(j.model), threshold="1"), errors.ArgumentError, "threshold"),
    "orders as a number": (lambda j: j.eliminate(orders=5), errors.ArgumentError, "orders is 5"),
    "orders in words": (lambda j: j.eliminate(orders=dict.fromkeys(j.model, "5")), errors.ArgumentError, "got '5'"),
    "half a state": (lambda j: j.eliminate(ratio=0.5, min_states=2.5), errors.SelectionError, "whole number, got 2.5"),
    "min_states in words": (lambda j: j.eliminate(ratio=0.5, min_states="2"), errors.ArgumentError, "min_states"),
    "ridge in words": (lambda j: j.eliminate(ratio=0.5, ridge="a"), errors.ArgumentError, "ridge must be a number"),
    "no ridge": (lambda j: j.eliminate(ratio=0.5, ridge=None), errors.ArgumentError, "ridge must be a number"),
    "inputs, not moments": (lambda j: sr.eliminate(j.model, j.inputs, ratio=0.5), errors.ArgumentError, "calibration"),
    "a method's own option": (
        lambda j: sr.reduce(j.model, {LAYER: 5}, method="greedy_hankel", rule="h2"), errors.UnknownNameError, "'rule'",
    ),
    "a calibration's path": (lambda j: sr.eliminate(j.model, "c.npz", ratio=0.5), errors.ArgumentError, "'c.npz'"),
    "turned round": (lambda j: sr.eliminate(j.calibration, j.model, ratio=0.5), errors.ArgumentError, "model is a"),
    "a layer off the path": (lambda j: j.path["x"], errors.UnknownLayerError, "'x'"),
    "scope of scores": (
        lambda j: sr.selection.elimination_scores(j.path, scope="x"), errors.UnknownNameError, "layer, system",
    ),
    "scores of a model": (lambda j: sr.selection.elimination_scores(j.model), errors.ArgumentError, "elimination_path"),
    "one order for all": (lambda j: sr.reduce(j.model, 5), errors.ArgumentError, "orders is 5"),
    "a list of orders": (lambda j: sr.reduce(j.model, [5] * 4), errors.ArgumentError, "layer name -> number"),
    "an order in words": (lambda j: sr.reduce(j.model, {LAYER: "5"}), errors.ArgumentError, "got '5'"),
    "an order that is NaN": (lambda j: sr.reduce(j.model, {LAYER: np.nan}), errors.SelectionError, "whole number"),
    "no order": (
        lambda j: sr.reduction.balanced_truncation(j.model[LAYER], np.nan), errors.SelectionError, "reduced to nan",
    ),
    "rounds in words": (
        lambda j: sr.reduce(j.model, {LAYER: 5}, method="exchange", rounds="a"), errors.ArgumentError, "rounds must",
    ),
    "half an iteration": (
        lambda j: sr.reduce(j.model, {LAYER: 5}, method="h2", iterations=1.5), errors.OptionError, "got 1.5",
    ),
    "no iteration": (
        lambda j: sr.reduce(j.model, {LAYER: 5}, method="compensated", iterations=0), errors.OptionError, "positive",
    ),
    "no agreement": (
        lambda j: sr.search(j.network(), [j.x], agreement=0), errors.OptionError, r"agreement must be in \(0, 1\]",
    ),
    "all sequences kept apart": (
        lambda j: j.compress(apart=1), errors.OptionError, r"apart must be in \(0, 1\), got 1",
    ),
    "tolerance in words": (lambda j: sr.reduce(j.model, tolerance="low"), errors.ArgumentError, "tolerance"),
    "methods in a list": (lambda j: sr.reduce(j.model, {}, method=["h2"]), errors.UnknownNameError, "no method"),
    "reduce on inputs": (
        lambda j: sr.reduce(j.model, {LAYER: 5}, calibration=j.inputs), errors.ArgumentError, "calibration is a dict",
    ),
    "reduce on data, half a state": (
        lambda j: sr.reduce(j.model, {LAYER: 2.5}, calibration=j.calibration), errors.SelectionError, "whole number",
    ),
    "balanced without orders": (
        lambda j: sr.reduce(j.model, None, calibration=j.calibration), errors.SelectionError, "orders, and no other",
    ),
    "a dense system beside a diagonal one": (
        lambda j: sr.certify(j.model[LAYER], DENSE), errors.ArgumentError, "reduced is a St",
    ),
    "a dense system in a model": (
        lambda j: sr.models.replace_system(j.model, LAYER, DENSE), errors.ArgumentError, "ssm is a",
    ),
    "a diagonal system as a dense one": (
        lambda j: sr.systems.from_state_space(j.model[LAYER]),
        errors.ArgumentError, "system is a DiagonalSSM; a StateSpace",
    ),
    "indices without a layer": (lambda j: sr.prune(j.model, [0, 1]), errors.ArgumentError, "layer name -> indices"),
    "states of a model": (lambda j: sr.select(j.model, ratio=0.5), errors.ArgumentError, "scores is a SSMModel"),
    "a model without a label": (lambda j: sr.compare(j.model, [j.small]), errors.ArgumentError, "label -> reduced"),
    "layers for models": (lambda j: sr.compare(j.model, j.small), errors.ArgumentError, "candidate.*is a DiagonalSSM"),
    "refit turned round": (
        lambda j: sr.refit(j.calibration, calibration=j.small), errors.ArgumentError, "reduced is a Calib",
    ),
    "refit of one layer": (
        lambda j: sr.refit(j.small, calibration=j.calibration, layers=LAYER), errors.ArgumentError, "several names",
    ),
    "refit on inputs": (
        lambda j: sr.refit(j.small, calibration=j.inputs), errors.ArgumentError, "calibration is a dict",
    ),
    "refit to a calibration": (
        lambda j: sr.refit(j.small, calibration=j.calibration, reference=j.calibration),
        errors.ArgumentError, "reference is a",
    ),
}  # fmt: skip

REFIT_NETWORK = {
    "half a step": (lambda j: j.refit_network(refine=2.5), errors.OptionError, "refine must be a whole number"),
    "steps in words": (lambda j: j.refit_network(refine="3"), errors.ArgumentError, "refine must be a number"),
    "steps back": (lambda j: j.refit_network(refine=-1), errors.OptionError, "refine must not be negative"),
    "an array": (lambda j: j.refit_network(j.x), errors.ArgumentError, r"give a list of batches, such as \[x\]"),
    "a model": (
        lambda j: sr.reduction.refit_network(j.model, j.small, [j.x]), errors.ArgumentError, "obj is a SSMModel",
    ),
    "a function alone": (
        lambda j: sr.reduction.refit_network(networks.s5_digits, j.small, [j.x]), errors.ArgumentError, "model",
    ),
    "nothing returned": (lambda j: j.refit_network(function=lambda m, x, tap: None), errors.SSMReduceError, "tap|None"),
    "another model": (
        lambda j: sr.reduction.refit_network(j.network(), j.other, [j.x]), errors.UnknownLayerError, LAYER,
    ),
}  # fmt: skip

SEARCH = {
    "no function": (lambda j: j.search(None), errors.ArgumentError, "evaluate is None"),
    "nothing returned": (lambda j: j.search(lambda m: None), errors.ArgumentError, "evaluate returns must be a number"),
    "text returned": (lambda j: j.search(lambda m: "good"), errors.ArgumentError, "got 'good'"),
    "an array returned": (lambda j: j.search(lambda m: np.ones(3)), errors.ArgumentError, "shape"),
    "infinite": (lambda j: j.search(lambda m: np.inf), errors.NonFiniteError, "inf for the original"),
    "per cent": (lambda j: j.search(max_loss="1%"), errors.ArgumentError, "max_loss must be a number"),
    "tolerance": (lambda j: j.search(tolerance=None), errors.ArgumentError, "tolerance must be a number"),
    "nothing can leave": (lambda j: j.search(min_states=65), errors.SelectionError, "largest layer has 64"),
    "half a state": (lambda j: j.search(min_states=1.5), errors.SelectionError, "whole number"),
    "finish returns nothing": (lambda j: j.search(finish=lambda m: None), errors.ArgumentError, "finish is None"),
    "finish is no function": (lambda j: j.search(finish=3), errors.ArgumentError, "finish is 3"),
}

COMPRESS = {
    "an array": (lambda j: j.compress(j.x), errors.ArgumentError, r"give a list of batches, such as \[x\]"),
    "text": (lambda j: j.compress("x"), errors.ArgumentError, "list of batches"),
    "a number": (lambda j: j.compress(3), errors.ArgumentError, "list of batches"),
    "nothing": (lambda j: j.compress([]), errors.ShapeError, "at least one batch"),
    "one sequence": (lambda j: j.compress([j.x[:1]]), errors.ShapeError, "1 sequences cannot be split"),
    "no network": (lambda j: sr.compress(3, [j.x]), errors.ArgumentError, "obj is 3"),
    "a model": (lambda j: sr.compress(j.model, [j.x]), errors.ArgumentError, "obj is a SSMModel"),
    "no gradients": (lambda j: j.compress(finish="adam"), errors.ArgumentError, "finish=None"),
    "another finish": (lambda j: j.compress(finish="sgd"), errors.UnknownNameError, "adam, gauss_newton, None"),
    "another method": (lambda j: j.compress(method="last"), errors.UnknownNameError, "eliminate, sequential"),
    "outputs of nan": (
        lambda j: j.compress(function=lambda m, x, tap=None: np.nan * networks.s5_digits(m, x, tap=tap)),
        errors.NonFiniteError,
        "NaN or infinity",
    ),
    "a ratio of one": (lambda j: j.compress(ratio=1.0), errors.SelectionError, "ratio"),
    "all apart": (lambda j: j.compress(apart=1.0), errors.OptionError, "apart"),
    "a rate of nothing": (lambda j: j.compress(rate=0.0), errors.OptionError, "rate"),
    "half a step": (lambda j: j.compress(steps=1.5), errors.OptionError, "steps"),
    "progress": (lambda j: j.compress(progress=3), errors.ArgumentError, "progress is 3"),
}

STATIONARY = {
    "NaN": ([1.0, np.nan], errors.NonFiniteError, "NaN"),
    "not an autocovariance": ([1.0, 0.9], errors.UnknownNameError, "spectrum falls to -0.8"),
    "negative power": ([-1.0], errors.UnknownNameError, "power is -1"),
    "no power": ([0.0, 0.0], errors.UnknownNameError, "power is 0"),
    "complex": ([1.0, 0.3j], errors.ArgumentError, "real numbers"),
    "text": ("white", errors.ArgumentError, "'white'"),
    "a number": (1.0, errors.ShapeError, r"shape \(T \+ 1,\)"),
    "matrices": (np.ones((2, 3, 3)), errors.ShapeError, "all inputs share it"),
    "no lag": ([], errors.ShapeError, "0 ... T"),
    "ragged": ([[1.0], [1.0, 2.0]], errors.ArgumentError, "real numbers"),
}


COMPARE = {
    "a length in words": (lambda j: j.compare(length="8"), errors.ArgumentError, "length must be a number, got '8'"),
    "half a step": (lambda j: j.compare(length=2.5), errors.OptionError, "length must be a whole number"),
    "no function": (lambda j: j.compare(evaluate=3), errors.ArgumentError, "evaluate is 3"),
    "nothing returned": (lambda j: j.compare(evaluate=lambda m: None), errors.ArgumentError, "evaluate returns must"),
    "one array of inputs": (lambda j: j.compare(j.u), errors.ArgumentError, "inputs is a ndarray"),
    "complex inputs": (
        lambda j: j.compare({k: u + 0j for k, u in j.inputs.items()}), errors.ArrayKindError, f"{LAYER}' must be real",
    ),
    "inputs in words": (
        lambda j: j.compare({k: u.astype(str) for k, u in j.inputs.items()}), errors.ArrayKindError, "not numbers",
    ),
    "no function to sweep": (lambda j: sr.sweep(j.model, "accuracy"), errors.ArgumentError, "evaluate is 'accuracy'"),
    "a sweep of nothing": (lambda j: sr.sweep(j.model, lambda m: None), errors.ArgumentError, "evaluate returns must"),
    "methods in a list": (lambda j: sr.score(j.model, ["last"]), errors.UnknownNameError, "or give a function"),
    "a ratio in words": (
        lambda j: sr.selection.prune_unstructured(j.model, ratio="a"), errors.ArgumentError, "ratio must be a",
    ),
}  # fmt: skip

SYSTEM = sr.DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]])
MEASURE = {
    "an accuracy in words": (lambda: sr.peak_gain(SYSTEM, rtol="1e-3"), errors.ArgumentError, "rtol must be a number"),
    "no accuracy": (lambda: sr.certify(SYSTEM, SYSTEM, rtol=np.inf), errors.OptionError, "rtol and max_samples"),
    "no samples": (lambda: sr.peak_gain(SYSTEM, max_samples=0), errors.OptionError, "must be positive"),
    "half a sample": (lambda: sr.peak_gain(SYSTEM, max_samples=1.5), errors.OptionError, "whole number, got 1.5"),
    "no lags": (lambda: sr.norms.peak_to_peak_bounds(SYSTEM, max_lags=0), errors.OptionError, "max_lags must be"),
    "half a lag": (
        lambda: sr.norms.peak_to_peak_bounds(SYSTEM, max_lags=1.5), errors.OptionError, "positive integer, got 1.5",
    ),
    "threads in words": (
        lambda: sr.hankel_singular_values(SYSTEM, accuracy="relative", threads="2"), errors.OptionError, "got '2'",
    ),
    "inputs in words": (lambda: sr.simulate(SYSTEM, [["a"]]), errors.ArrayKindError, "u is .*not numbers"),
    "ragged inputs": (lambda: sr.simulate(SYSTEM, [[1.0], [1.0, 2.0]]), errors.ShapeError, "u is a list whose rows"),
    "masked inputs": (
        lambda: sr.simulate(SYSTEM, np.ma.masked_greater([[1.0]], 0.0)), errors.ArrayKindError, "u has masked entries",
    ),
    "a state in words": (
        lambda: sr.simulate(SYSTEM, [[1.0]], initial_state=["a"]), errors.ArrayKindError, "state is .*not numbers",
    ),
    "threads for a layer": (lambda: sr.simulate(SYSTEM, [[1.0]], threads="2"), errors.OptionError, "threads must be"),
    "a length in words": (lambda: sr.impulse_response(SYSTEM, "3"), errors.ArgumentError, "length must be a number"),
    "half a lag of a response": (lambda: sr.impulse_response(SYSTEM, 2.5), errors.OptionError, "whole number"),
    "no threads": (
        lambda: sr.norms.cauchy_factor(SYSTEM.Lambda, SYSTEM.B, threads=0), errors.OptionError, "threads must be",
    ),
}  # fmt: skip

FUNCTIONS = {name: getattr(sr, name) for name in sr.__all__ if inspect.isfunction(getattr(sr, name))}
PARAMETERS = {name: inspect.signature(function).parameters for name, function in FUNCTIONS.items()}
FIRST = {name: next(iter(parameters.values())) for name, parameters in PARAMETERS.items()}
OF_A_SYSTEM = [name for name, first in FIRST.items() if first.name == "ssm"]
OF_A_MODEL = [name for name, first in FIRST.items() if first.name == "model"]


def called_with(value, name):
    """Call a public function with its first argument wrong; what else it needs is never looked at."""
    first, *others = PARAMETERS[name].values()
    needed = [p.name for p in others if p.name == "order" or (p.default is p.empty and p.kind is not p.VAR_KEYWORD)]
    return FUNCTIONS[name](**{first.name: value}, **dict.fromkeys(needed, abs))


@pytest.mark.parametrize("name", OF_A_SYSTEM)
def test_functions_of_a_system_refuse_what_is_none(j, name):
    assert FIRST[name].annotation in (sr.DiagonalSSM, sr.DiagonalSSM | sr.StateSpace)
    others = {"a SSMModel": j.model, "None": None, "a ndarray": j.u}
    if FIRST[name].annotation is sr.DiagonalSSM:
        others["a StateSpace"] = DENSE
    for words, other in others.items():
        with pytest.raises(errors.ArgumentError, match=f"ssm is {words}.*a DiagonalSSM is needed"):
            called_with(other, name)


@pytest.mark.parametrize("name", OF_A_MODEL)
def test_functions_of_a_model_refuse_what_is_none(j, name):
    for other in (j.model[LAYER], None, "model.npz"):
        with pytest.raises(errors.ArgumentError, match="a model is needed, as load"):
            called_with(other, name)


@pytest.mark.parametrize("case", CALIBRATE)
def test_calibrate(j, case):
    call, error, text = CALIBRATE[case]
    with pytest.raises(error, match=text):
        call(j)


@pytest.mark.parametrize("case", REDUCE)
def test_reductions(j, case):
    call, error, text = REDUCE[case]
    with pytest.raises(error, match=text):
        call(j)


@pytest.mark.parametrize("case", REFIT_NETWORK)
def test_refit_network(j, case):
    call, error, text = REFIT_NETWORK[case]
    with pytest.raises(error, match=text):
        call(j)


@pytest.mark.parametrize("case", COMPRESS)
def test_compress(j, case):
    call, error, text = COMPRESS[case]
    with pytest.raises(error, match=text):
        call(j)


@pytest.mark.parametrize("case", SEARCH)
def test_search(j, case):
    call, error, text = SEARCH[case]
    with pytest.raises(error, match=text):
        call(j)


@pytest.mark.parametrize("case", COMPARE)
def test_comparisons(j, case):
    call, error, text = COMPARE[case]
    with pytest.raises(error, match=text):
        call(j)


@pytest.mark.parametrize("case", MEASURE)
def test_measures(case):
    call, error, text = MEASURE[case]
    with pytest.raises(error, match=text):
        call()


def test_inputs_of_a_comparison_may_be_lists(j):
    listed = j.compare({name: u.tolist() for name, u in j.inputs.items()})
    assert listed.to_dict() == j.compare(j.inputs).to_dict()


@pytest.mark.parametrize("case", STATIONARY)
def test_stationary(j, case):
    autocovariance, error, text = STATIONARY[case]
    with pytest.raises(error, match=text):
        sr.calibration.calibrate_stationary(j.model, autocovariance)


def test_what_evaluate_raises_goes_through_with_a_note(j):
    def evaluate(model):
        if sum(model.orders.values()) < 256:
            raise ZeroDivisionError("mine")
        return 1.0

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        j.search(evaluate)
    assert caught.value.__notes__ == ["(raised by evaluate, on the model with 129 states)"]


def test_as_many_states_as_there_are_leave_a_layer_as_it_is(j):
    kept = sr.reduce(j.model, {LAYER: 64}, calibration=j.calibration)
    np.testing.assert_array_equal(kept[LAYER].Lambda, j.model[LAYER].Lambda)
    assert not kept.systems


def test_an_autocovariance_of_any_spectrum_is_taken(j):
    rho = 0.9 ** np.arange(5)
    with pytest.raises(errors.OptionError, match="taper"):
        sr.calibration.calibrate_stationary(j.model, rho)
    sr.calibration.calibrate_stationary(j.model, rho * (1 - np.arange(5) / 5))  # what the message advises
    for touching in ([1.0, 0.5], [2, -1], [1.0]):  # spectra that reach 0
        sr.calibration.calibrate_stationary(j.model, touching)


PLAIN = {
    "no file to load": (lambda j: sr.load(None), errors.ArgumentError, "path is None; the path of a file"),
    "a number to load": (lambda j: sr.load(3), errors.ArgumentError, "path is 3"),
    "no file to save to": (lambda j: sr.save(j.model, None), errors.ArgumentError, "path is None"),
    "one ratio": (lambda j: sr.sweep(j.model, len, ratios=0.5), errors.ArgumentError, "ratios is 0.5; give a list"),
    "an array of one ratio": (
        lambda j: sr.sweep(j.model, len, ratios=np.array(0.5)),
        errors.ArgumentError,
        "ratios is a ndarray",
    ),
    "a number as a name": (
        lambda j: sr.models.unflatten({3: 1.0}),
        errors.ArgumentError,
        "a name in params is 3; text",
    ),
    "one method": (lambda j: sr.sweep(j.model, len, methods="last"), errors.ArgumentError, r"methods is 'last'"),
    "a list as a method": (
        lambda j: sr.sweep(j.model, len, methods=[["last"]]),
        errors.ArgumentError,
        "a method is a list",
    ),
    "a negative seed": (lambda j: sr.score(j.model, "random", seed=-1), errors.ArgumentError, "seed.* got -1"),
    "half a seed": (
        lambda j: sr.compare(j.model, {"x": j.model}, seed=2.5),
        errors.ArgumentError,
        "seed must be.* got 2.5",
    ),
    "a seed in words": (
        lambda j: sr.selection.prune_unstructured(j.model, ratio=0.5, seed="a"),
        errors.ArgumentError,
        "seed must be",
    ),
    "a leaf as a tree": (lambda j: sr.models.unflatten(3), errors.ArgumentError, "params is 3; a mapping"),
    "a number as a system": (
        lambda j: sr.systems.from_control(3),
        errors.ArgumentError,
        "system is 3; a control.StateSpace",
    ),
    "another library's system": (
        lambda j: sr.systems.from_control(scipy.signal.dlti([1.0], [1.0, -0.5])),
        errors.ArgumentError,
        "control.StateSpace",
    ),
    "a number as a dlti": (lambda j: sr.systems.from_dlti(3), errors.ArgumentError, "scipy.signal.dlti"),
    "conj_sym in words": (
        lambda j: sr.DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]], conj_sym="yes"),
        errors.ArgumentError,
        "'yes'",
    ),
}


@pytest.mark.parametrize("case", PLAIN)
def test_files_seeds_and_systems_of_others(j, case):
    call, error, text = PLAIN[case]
    with pytest.raises(error, match=text):
        call(j)
