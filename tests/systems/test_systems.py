"""DiagonalSSM and StateSpace: shapes, invariants, errors."""

from dataclasses import FrozenInstanceError

import array_api_compat
import numpy as np
import pytest
from support.oracles import assert_same_bits, complex_normal, converted, random_ssm, system_at

from ssmreduce import DiagonalSSM, StateSpace
from ssmreduce.errors import ArrayKindError, NonFiniteError, ShapeError, SSMReduceError
from ssmreduce.systems import unstable_states
from ssmreduce.systems._states import take_states

MATRICES = ("Lambda", "B", "C", "D", "C_reverse")


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("conj_sym", [False, True])
def test_sizes(rng, batch, bidirectional, conj_sym):
    ssm = random_ssm(rng, 5, 3, 2, batch=batch, bidirectional=bidirectional, conj_sym=conj_sym)
    assert (ssm.batch, ssm.order, ssm.inputs, ssm.outputs) == (batch, 5, 3, 2)
    assert (ssm.bidirectional, ssm.kappa) == (bidirectional, 2.0 if conj_sym else 1.0)
    for word in (f"order={ssm.order}", "bidirectional" if bidirectional else "causal", f"conj_sym={conj_sym}"):
        assert word in repr(ssm)
    assert (f"batch={batch}" in repr(ssm)) == bool(batch)


def test_lists_and_single_precision_become_double():
    listed = DiagonalSSM([0.5, 0.25], [[1], [2]], [[1, 1]], [[3]])
    single = DiagonalSSM(
        np.array([0.5, 0.25], np.float32), np.array([[1], [2]], np.complex64), [[1, 1]], np.array([[3]], np.int8)
    )
    for name in ("Lambda", "B", "C", "D"):
        assert getattr(single, name).dtype == (np.float64 if name == "D" else np.complex128)
        assert_same_bits(getattr(single, name), getattr(listed, name))


def test_arrays_are_private_and_read_only(rng):
    given = random_ssm(rng, bidirectional=True)
    mine = {name: getattr(given, name).copy() for name in MATRICES}
    ssm = DiagonalSSM(**mine)
    for name, array in mine.items():
        before = getattr(ssm, name).copy()
        array[...] = 7.0
        assert_same_bits(getattr(ssm, name), before)
        with pytest.raises(ValueError, match="read-only"):
            getattr(ssm, name)[...] = 0
    with pytest.raises(FrozenInstanceError):
        ssm.Lambda = mine["Lambda"]


def test_a_read_only_view_is_copied():
    mine = np.array([0.5 + 0j, 0.25])
    view = mine.view()
    view.flags.writeable = False
    ssm = DiagonalSSM(view, np.ones((2, 1)), np.ones((1, 2)), [[0]])
    mine[:] = 7
    np.testing.assert_array_equal(ssm.Lambda, [0.5, 0.25])
    assert DiagonalSSM(ssm.Lambda, ssm.B, ssm.C, ssm.D).Lambda is ssm.Lambda  # what is private already is not copied


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("B", (4, 3), "(5, 3)"),
        ("B", (5,), "(5, 3)"),
        ("C", (2, 4), "(2, 5)"),
        ("C_reverse", (5, 2), "(2, 5)"),
        ("D", (2, 4), "(5, 4)"),  # D tells the widths: B no longer fits
        ("D", (3, 2, 3), "(2, 3)"),
        ("Lambda", (6, 5), "(6, 5, 3)"),
    ],
)
def test_shapes_that_do_not_fit(rng, name, shape, expected):
    ssm = random_ssm(rng, 5, 3, 2, bidirectional=True)
    arrays = {key: getattr(ssm, key) for key in MATRICES} | {name: np.zeros(shape)}
    with pytest.raises(ShapeError) as caught:
        DiagonalSSM(**arrays)
    assert str(shape) in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize("arrays", [{"Lambda": 0.5}, {"D": [0.0]}])
def test_too_few_axes(arrays):
    with pytest.raises(ShapeError, match=r"Lambda needs shape \(\.\.\., n\) and D \(\.\.\., p, m\), got"):
        DiagonalSSM(**{"Lambda": [0.5], "B": [[1]], "C": [[1]], "D": [[0]]} | arrays)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite(rng, name, value):
    ssm = random_ssm(rng, bidirectional=True)
    arrays = {key: getattr(ssm, key).copy() for key in MATRICES}
    arrays[name].flat[-1] = value
    with pytest.raises(NonFiniteError, match=f"^{name} holds NaN or infinite"):
        DiagonalSSM(**arrays)


def test_complex_feedthrough_is_refused():
    with pytest.raises(ArrayKindError, match="D must be real, got dtype complex128") as caught:
        DiagonalSSM([0.5], [[1]], [[1]], [[1j]])
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, SSMReduceError)


NO_NUMBERS = {
    "text": (np.array([["0.5"]]), ArrayKindError, "not numbers"),
    "dates": (np.array([["2000-01-01"]], "M8[D]"), ArrayKindError, "datetime64"),
    "objects": (np.array([[0.5]], object), ArrayKindError, "dtype object"),
    "a record": (np.zeros((1, 1), [("re", float)]), ArrayKindError, "not numbers"),
    "a mapping": ({"a": 1}, ArrayKindError, "a dict, not numbers"),
    "nothing": (None, ArrayKindError, "None, not numbers"),
    "masked entries": (np.ma.masked_greater([[0.5]], 0), ArrayKindError, "masked entries"),
    "ragged rows": ([[0.5], [0.5, 0.5]], ShapeError, "different lengths"),
}


@pytest.mark.parametrize("name", "ABCD")
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_is_refused(name, value):
    given, error, words = NO_NUMBERS[value]
    dense = {"A": [[0.5]], "B": [[1]], "C": [[1]], "D": [[0]]} | {name: given}
    with pytest.raises(error, match=f"^{name} .*{words}"):
        StateSpace(**dense)
    dense["Lambda"] = dense.pop("A") if name == "A" else [0.5]
    dense.pop("A", None)
    with pytest.raises(error, match=f"^({name}|Lambda) .*{words}"):
        DiagonalSSM(**dense)


def test_a_masked_array_without_masked_entries_becomes_a_plain_one(rng):
    ssm = random_ssm(rng)
    given = DiagonalSSM(ssm.Lambda, np.ma.array(ssm.B), ssm.C, np.ma.array(ssm.D))
    for name in ("B", "D"):
        assert type(getattr(given, name)) is np.ndarray
        assert_same_bits(getattr(given, name), getattr(ssm, name))


def test_two_libraries_are_refused(rng, as_array):
    ssm = random_ssm(rng)
    with pytest.raises(ArrayKindError, match="one library, got .*numpy"):
        DiagonalSSM(as_array(ssm.Lambda), ssm.B, ssm.C, ssm.D)


def test_other_libraries_are_kept(rng, as_array):
    ssm = random_ssm(rng, batch=(2,), bidirectional=True)
    single = converted(ssm, lambda a: as_array(a.astype(np.complex64 if a.dtype.kind == "c" else np.float32)))
    double = converted(ssm, as_array)
    index = np.array([[0, 2], [1, 4]])
    for name in MATRICES:
        assert array_api_compat.array_namespace(getattr(single, name)) is not np
        assert type(getattr(single, name)) is type(as_array(np.zeros(1)))
        assert str(getattr(single, name).dtype).endswith("float64" if name == "D" else "complex128")
        kept = np.asarray(getattr(take_states(double, index), name))
        assert_same_bits(kept, getattr(take_states(ssm, index), name))
    np.testing.assert_array_equal(unstable_states(double), [])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_take_states_keeps_bits(rng, bidirectional):
    ssm = random_ssm(rng, 6, 3, 2, bidirectional=bidirectional, conj_sym=True)
    index = np.array([4, 0, 5])
    kept = take_states(ssm, index)
    assert (kept.conj_sym, kept.bidirectional, kept.order) == (True, bidirectional, 3)
    assert_same_bits(kept.Lambda, ssm.Lambda[index])
    assert_same_bits(kept.B, ssm.B[index])
    assert_same_bits(kept.C, np.ascontiguousarray(ssm.C[:, index]))
    assert_same_bits(kept.D, ssm.D)
    if bidirectional:
        assert_same_bits(kept.C_reverse, np.ascontiguousarray(ssm.C_reverse[:, index]))


@pytest.mark.parametrize("shared", [False, True])
def test_take_states_of_a_batch(rng, shared):
    ssm = random_ssm(rng, 5, 2, 3, batch=(2, 3), bidirectional=True)
    index = np.array([3, 1]) if shared else rng.permuted(np.tile(np.arange(5), (2, 3, 1)), axis=-1)[..., :2]
    kept = take_states(ssm, index)
    assert kept.batch == (2, 3)
    for at in np.ndindex(2, 3):
        one = take_states(system_at(ssm, at), index if shared else index[at])
        for name in MATRICES:
            assert_same_bits(getattr(kept, name)[at], getattr(one, name))


def test_take_no_state(rng):
    kept = take_states(random_ssm(rng, 4, 3, 2), np.array([], dtype=np.int64))
    assert (kept.order, kept.B.shape, kept.C.shape) == (0, (0, 3), (2, 0))


def test_unstable_states():
    on_circle = [0.6 + 0.8j, 1.0, -1j]  # 0.6 + 0.8j lies 1e-17 outside
    Lambda = np.array([[0.5, np.nextafter(1.0, 0.0), 1.0 + 1e-15], [1e300, -1.5j, 1e160 + 1e160j]])
    ssm = DiagonalSSM(Lambda, np.ones((2, 3, 1)), np.ones((2, 1, 3)), np.zeros((2, 1, 1)))
    np.testing.assert_array_equal(unstable_states(ssm), [2, 3, 4, 5])
    ssm = DiagonalSSM(on_circle, np.ones((3, 1)), np.ones((1, 3)), [[0]])
    np.testing.assert_array_equal(unstable_states(ssm), [0, 1, 2])


def test_state_space(rng):
    A = rng.normal(size=(3, 3))
    system = StateSpace(A, np.ones((3, 2)), np.ones((1, 3)), [[1, 2]])
    A[...] = 0
    assert system.A.any()
    assert system.D.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        system.A[0, 0] = 1


@pytest.mark.parametrize(
    "bad", [{"A": (3, 2)}, {"A": (3,)}, {"A": ()}, {"B": (2, 2)}, {"C": (1, 2)}, {"D": (2, 2)}, {"D": (2,)}]
)
def test_state_space_shapes(bad):
    shapes = {"A": (3, 3), "B": (3, 2), "C": (1, 3), "D": (1, 2)} | bad
    with pytest.raises(ShapeError, match=r"A \(n, n\), B \(n, m\)") as caught:
        StateSpace(**{name: np.zeros(shape) for name, shape in shapes.items()})
    assert str(next(iter(bad.values()))) in str(caught.value)


def test_state_space_values():
    with pytest.raises(NonFiniteError, match="A holds NaN"):
        StateSpace([[np.nan]], [[1]], [[1]], [[1]])
    with pytest.raises(ArrayKindError, match="A must be real"):
        StateSpace(complex_normal(np.random.default_rng(0), 1, 1), [[1]], [[1]], [[1]])
