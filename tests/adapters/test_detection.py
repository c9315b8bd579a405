"""Which family a checkpoint is of, and what is said where it is of none, of two, or not all there."""

from itertools import combinations

import numpy as np
import pytest
from support.families import CASES, LAYER, M, N
from support.more_families import MORE_CASES

import ssmreduce as sr
from ssmreduce.adapters import ADAPTERS, detect, families
from ssmreduce.adapters._lru import LRU
from ssmreduce.adapters._s4d import S4D
from ssmreduce.adapters._s5 import S5, S5PyTorch
from ssmreduce.errors import (
    AdapterError,
    CheckpointFormatError,
    CheckpointWarning,
    FlagError,
    IncompleteLayerError,
    MissingFlagError,
    UnknownNameError,
)

FAMILIES = ["s5", "s5_pytorch", "s4d", "lru"]
S5_FLAGS = S5(conj_sym=True, discretization="zoh")
every_family = pytest.mark.parametrize("name", FAMILIES)


def test_the_tests_know_every_adapter():
    assert {case.adapter.name for case in CASES.values()} == set(FAMILIES)
    tested = {case.adapter.name for case in (*CASES.values(), *MORE_CASES.values())}
    assert tested == set(ADAPTERS) - {"dropin"}  # which is tested with the networks


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not isinstance(case.adapter, S5)])
def test_families_without_flags_are_found(name, rng):
    case = CASES[name]
    assert detect(case.params(rng)) == type(case.adapter)()
    assert type(case.adapter).find(case.params(rng)) == [LAYER]


@every_family
def test_no_other_family_claims_a_layer(name, rng):
    for other, cls in ADAPTERS.items():
        if cls.detected:
            assert cls.find(CASES[name].params(rng)) == ([LAYER] if other == name else [])


def test_every_family_looks_at_a_checkpoint_once(rng, monkeypatch):
    looked = []
    for cls, find in [(cls, cls.find) for cls in families().values()]:
        monkeypatch.setattr(cls, "find", lambda params, cls=cls, find=find: looked.append(cls.name) or find(params))
    sr.read(CASES["lru"].params(rng))
    assert sorted(looked) == sorted(families())


@every_family
def test_layers_stand_in_natural_order(name, rng):
    params = {}
    for i in (10, 2, 1, 0, 11):
        params |= CASES[name].params(rng, prefix=f"layers_{i}/seq/")
    with pytest.warns(CheckpointWarning, match="there is no 'layers_5'; and 4 more"):
        model = sr.read(params, adapter=CASES[name].adapter)
    assert model.layers == tuple(f"layers_{i}/seq" for i in (0, 1, 2, 10, 11))


@every_family
def test_copies_of_the_optimiser_are_not_layers(name, rng):
    params = CASES[name].params(rng, prefix="params/layers_0/seq/")
    moments = {f"opt_state/0/mu/{key.removeprefix('params/')}": value for key, value in params.items()}
    model = sr.read({**params, **moments}, adapter=CASES[name].adapter)
    assert model.layers == ("params/layers_0/seq",)
    pruned = sr.export(sr.prune(model, {model.layers[0]: np.arange(model.orders[model.layers[0]] // 2)}), form="mask")
    for key, value in moments.items():
        np.testing.assert_array_equal(pruned[key], value, strict=True)


def test_a_module_below_a_key_of_a_training_checkpoint(rng):
    params = {f"model/{key}": value for key, value in CASES["s4d"].params(rng, prefix="seq.").items()}
    assert sr.read(params).layers == ("model/seq",)
    bare = {f"model/{key}": value for key, value in CASES["s4d"].params(rng, prefix="").items()}
    assert sr.read(bare).layers == ("model",)


# ---------------------------------------------------------------- none, two, not all there


@pytest.mark.parametrize("params", [{}, {"weight": np.ones((3, 3))}, {"step": 3}])
def test_no_adapter(params):
    with pytest.raises(AdapterError, match=r"no adapter \(s5, s5_pytorch, s4d, lru, .*\) recognises"):
        sr.read(params)
    with pytest.raises(AdapterError, match="the adapter lru recognises no layer"):
        sr.read(params, adapter=LRU())


def test_two_adapters(rng):
    params = CASES["s4d"].params(rng, prefix="a.") | CASES["lru"].params(rng, prefix="b.")
    with pytest.raises(AdapterError, match=r"s4d \('a', ...\) and lru \('b', ...\) both"):
        sr.read(params)
    assert sr.read(params, adapter=S4D()).layers == ("a",)
    assert sr.read(params, adapter=LRU()).layers == ("b",)


def test_the_wrong_adapter(rng):
    with pytest.raises(AdapterError, match="the adapter s4d recognises no layer"):
        sr.read(CASES["lru"].params(rng), adapter=S4D())


@pytest.mark.parametrize(
    ("name", "tensor"), [(name, tensor) for name in CASES for tensor in CASES[name].leaves(np.random.default_rng(0))]
)
def test_one_missing_tensor_is_named(name, tensor, rng):
    case = CASES[name]
    params = case.params(rng)
    del params[f"{LAYER}/{tensor.replace('.', '/')}"]
    with pytest.raises(IncompleteLayerError) as error:
        sr.read(params)
    assert str(error.value) == f"layer {LAYER!r} looks like {case.adapter.name}, but {tensor} is missing"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("whole_layer_beside", [False, True])
def test_half_of_the_tensors_are_missing(name, whole_layer_beside, rng):
    case = CASES[name]
    params = case.params(rng, prefix="layers_1/seq/")
    gone = list(params)[len(params) // 2 :]
    for tensor in gone:
        del params[tensor]
    if whole_layer_beside:
        params |= case.params(rng, prefix="layers_0/seq/")
    with pytest.raises(IncompleteLayerError, match=f"'layers_1/seq' looks like {case.adapter.name}, but") as error:
        sr.read(params, adapter=case.adapter if whole_layer_beside else None)
    missing = [tensor.removeprefix("layers_1/seq/").replace("/", ".") for tensor in gone]
    named = [tensor for tensor in missing if tensor not in ("C1", "C2")]  # with both gone it may have been one C
    assert all(f"{tensor} is missing" in str(error.value) for tensor in named)


SHAPES = [
    ("s5", "B", np.zeros((M, N, 2)), rf"B has shape \({M}, {N}, 2\), expected \({N}, m, 2\)"),
    ("s5", "log_step", np.zeros(N), rf"log_step has shape \({N},\), expected \({N}, 1\)"),
    ("s5", "C", np.zeros((M, N + 1, 2)), r"C has shape"),
    ("s5", "D", np.zeros((M, M)), r"D has shape"),
    ("s5", "Lambda_re", np.zeros(0), r"Lambda_re has shape \(0,\)"),
    ("s5_pytorch", "Lambda", np.zeros(N), r"Lambda has dtype float64, expected complex"),
    ("s5_pytorch", "C", np.zeros((M, 3 * N), complex), rf"C has shape \({M}, {3 * N}\)"),
    ("s4d", "kernel/A_imag", np.zeros((M, N - 1)), r"kernel.A_imag has shape"),
    ("lru", "nu_log", np.zeros(N, int), r"nu_log has dtype int64, expected real"),
    ("lru", "D", np.zeros((M, M, M)), r"D has shape"),
]


@pytest.mark.parametrize(("name", "tensor", "value", "message"), SHAPES)
def test_unexpected_shapes_and_dtypes(name, tensor, value, message, rng):
    with pytest.raises(IncompleteLayerError, match=f"looks like {name}, but.*{message}"):
        sr.read(CASES[name].params(rng) | {f"{LAYER}/{tensor}": value})


# ---------------------------------------------------------------- flags


def test_s5_flags_must_be_given(rng):
    with pytest.raises(
        MissingFlagError, match=r"adapters\.S5\(conj_sym=\.\.\., discretization=\.\.\.\).*conj_sym: True if"
    ):
        sr.read(CASES["s5"].params(rng))
    with pytest.raises(MissingFlagError, match=r"does not hold discretization: .*'zoh' is the default"):
        S5.from_flags({"conj_sym": True})
    assert S5.from_flags({"conj_sym": True, "discretization": "zoh"}) == S5_FLAGS


def test_clip_eigs_must_be_given_where_it_matters(rng):
    harmless, growing = CASES["s5"].params(rng), CASES["s5-clipped"].params(rng)
    assert sr.read(harmless, adapter=S5_FLAGS).layers == (LAYER,)
    with pytest.raises(MissingFlagError, match="clip_eigs=True if the model was trained with it"):
        sr.read(growing, adapter=S5_FLAGS)
    for clip, outside in ((True, 0), (False, 1)):
        ssm = sr.read(growing, adapter=S5(conj_sym=True, discretization="zoh", clip_eigs=clip))[LAYER]
        assert sr.systems.unstable_states(ssm).size == outside


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 10**400, 1.5, "3", None, [], {}])
def test_numbers_that_no_flag_can_have(value):
    """As JSON can hold them, in a config.json."""
    with pytest.raises((FlagError, UnknownNameError)):
        S5(conj_sym=True, discretization="zoh", step_rescale=-1 if value == 1.5 or value is None else value)
    if value is not None:
        with pytest.raises(FlagError, match="number of samples"):
            ADAPTERS["annotated_s4"](l_max=value)
    with pytest.raises((FlagError, UnknownNameError)):
        S5(conj_sym=True, discretization=value)
    with pytest.raises(FlagError, match="conj_sym"):
        S5(conj_sym=value, discretization="zoh")


def test_unknown_flags_and_discretisations():
    with pytest.raises(FlagError, match=r"s4d has no flag conj_sym; its flags: none"):
        S4D.from_flags({"conj_sym": True})
    for adapter in (lambda name: S5(conj_sym=True, discretization=name), lambda name: S5PyTorch(discretization=name)):
        with pytest.raises(UnknownNameError, match="no discretization 'dirac'; choose from zoh, bilinear"):
            adapter("dirac")


@pytest.mark.parametrize("flags", [{"conj_sym": "False"}, {"conj_sym": None}, {"clip_eigs": "no"}, {"step_rescale": 0}])
def test_values_that_a_flag_cannot_take(flags):
    with pytest.raises(FlagError, match=f"the flag {next(iter(flags))} of the adapter s5 must be"):
        S5(**{"conj_sym": True, "discretization": "zoh", **flags})


def test_numpy_values_of_flags_become_plain():
    adapter = S5(conj_sym=np.True_, discretization="zoh", step_rescale=np.float32(2))
    assert adapter.conj_sym is True
    assert type(adapter.step_rescale) is float


@pytest.mark.parametrize("name", CASES)
def test_whichever_half_is_missing_is_noticed(name, rng):
    case = CASES[name]
    whole = case.params(rng, prefix="layers_0/seq/")
    part = case.params(rng, prefix="layers_1/seq/")
    for gone in combinations(part, (len(part) + 1) // 2):
        params = whole | {key: value for key, value in part.items() if key not in gone}
        with pytest.raises(IncompleteLayerError, match="layers_1/seq"):
            sr.read(params, adapter=case.adapter)


def test_a_stray_tensor_with_a_familiar_name_is_no_layer(rng):
    case = CASES["s5"]
    params = {**case.params(rng), "schedule/log_step": np.ones(()), "head/D": np.ones(3)}
    assert len(sr.read(params, adapter=case.adapter)) == 1


def test_what_is_no_model():
    with pytest.raises(CheckpointFormatError, match="got list"):
        sr.read([np.ones(3)])
