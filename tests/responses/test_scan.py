"""scan on plain arrays of every library, against a loop."""

import numpy as np
import pytest
from support.oracles import complex_normal, loop_scan

from ssmreduce import scan
from ssmreduce.errors import ArrayKindError, ShapeError, UnknownNameError

DIRECTIONS = pytest.mark.parametrize("reverse", [False, True])


def case(rng, rows, batch, length, n):
    """Poles, inputs and first states, all read-only."""
    Lambda = rng.uniform(0.3, 1.1, (*batch, n)) * np.exp(1j * rng.uniform(-np.pi, np.pi, (*batch, n)))
    arrays = Lambda, complex_normal(rng, *rows, *batch, length, n), complex_normal(rng, *rows, *batch, n)
    for array in arrays:
        array.flags.writeable = False
    return arrays


def expected_states(Lambda, inputs, state, *, reverse):
    result = np.empty_like(inputs, dtype=complex)
    for index in np.ndindex(*inputs.shape[:-2]):
        own = index[len(index) - (Lambda.ndim - 1) :]
        result[index] = loop_scan(Lambda[own], inputs[index], state[index], reverse=reverse)
    return result


@DIRECTIONS
@pytest.mark.parametrize("engine", ["numba", "reference"])
@pytest.mark.parametrize(
    ("rows", "batch", "length", "n"),
    [((), (), 6, 3), ((2, 3), (), 1, 4), ((2,), (3,), 5, 2), ((), (2, 2), 4, 1), ((0,), (2,), 3, 2), ((2,), (), 3, 0)],
)
def test_against_a_loop(rng, engine, rows, batch, length, n, reverse):
    Lambda, inputs, state = case(rng, rows, batch, length, n)
    actual = scan(Lambda, inputs, state, reverse=reverse, engine=engine)
    expected = expected_states(Lambda, inputs, state, reverse=reverse)
    np.testing.assert_allclose(actual, expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(
        scan(Lambda, inputs, reverse=reverse, engine=engine),
        expected_states(Lambda, inputs, np.zeros_like(state), reverse=reverse),
        rtol=1e-13,
        atol=1e-13,
    )


@DIRECTIONS
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize(("rows", "batch"), [((2, 2), ()), ((), (3,)), ((2,), (3,))])
def test_other_libraries(rng, as_array, dtype, rows, batch, reverse):
    """Double parameters are taken in the precision of the inputs."""
    Lambda, inputs, state = case(rng, rows, batch, 9, 2)
    given = inputs.astype(dtype)
    before = as_array(given)
    actual = scan(as_array(Lambda), before, as_array(state), reverse=reverse)
    assert type(actual) is type(before)
    assert np.asarray(actual).dtype == dtype
    np.testing.assert_array_equal(np.asarray(before), given)
    tolerance = 1e-13 if dtype is np.complex128 else 3e-6
    expected = expected_states(Lambda, inputs, state, reverse=reverse)
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


def test_real_poles_and_views(rng):
    _, inputs, state = case(rng, (2,), (), 8, 4)
    poles, inputs, state = rng.uniform(-1, 1, 8)[::2], inputs[:, ::-2, ::-1], state[::-1, ::-1]
    np.testing.assert_allclose(
        scan(poles, inputs, state), expected_states(poles, inputs, state, reverse=False), rtol=1e-13
    )


@pytest.mark.parametrize(
    ("poles", "inputs", "state", "words"),
    [
        ((3,), (4, 2), None, r"inputs has shape \(4, 2\); with Lambda \(3,\) it must be \(\.\.\., L, 3\) with L >= 1"),
        ((3,), (0, 3), None, r"with L >= 1"),
        ((3,), (3,), None, r"inputs has shape \(3,\)"),
        ((2, 3), (4, 3), None, r"it must be \(\.\.\., 2, L, 3\)"),
        ((2, 3), (5, 4, 3), None, r"it must be \(\.\.\., 2, L, 3\)"),
        ((), (4, 1), None, r"with Lambda \(\)"),
        ((3,), (2, 4, 3), (3,), r"state has shape \(3,\), expected \(2, 3\)"),
    ],
)
def test_shapes_that_do_not_fit(poles, inputs, state, words):
    with pytest.raises(ShapeError, match=words):
        scan(np.zeros(poles), np.zeros(inputs, complex), None if state is None else np.zeros(state))


def test_real_inputs_and_foreign_arrays(rng, as_array):
    Lambda, inputs, state = case(rng, (), (), 4, 2)
    with pytest.raises(ArrayKindError, match="inputs has dtype float64; expected complex64 or complex128"):
        scan(Lambda, inputs.real)
    with pytest.raises(ArrayKindError, match="one library, got .*numpy"):
        scan(Lambda, as_array(inputs))
    with pytest.raises(ArrayKindError, match="one library, got .*numpy"):
        scan(as_array(Lambda), as_array(inputs), state)
    with pytest.raises(UnknownNameError, match="engine 'numba' serves NumPy arrays"):
        scan(as_array(Lambda), as_array(inputs), engine="numba")


def test_lists_are_taken_and_what_is_no_number_is_refused(rng):
    Lambda, inputs, state = case(rng, (), (), 4, 2)
    listed = scan(Lambda.tolist(), inputs.tolist(), state.tolist())
    np.testing.assert_array_equal(listed, scan(Lambda, inputs, state))
    for name, given in (("Lambda", (Lambda.astype(str), inputs)), ("state", (Lambda, inputs, ["a", "b"]))):
        with pytest.raises(ArrayKindError, match=f"{name} is .*, not numbers"):
            scan(*given)
    with pytest.raises(ShapeError, match="inputs is a list whose rows have different lengths"):
        scan(Lambda, [[1j, 1j], [1j]])


@pytest.mark.parametrize(("engine", "library"), [("torch", "PyTorch"), ("jax", "JAX")])
def test_engines_of_libraries_refuse_numpy(engine, library):
    pytest.importorskip(engine)
    with pytest.raises(UnknownNameError, match=f"engine '{engine}' serves {library} arrays"):
        scan(np.zeros(1), np.zeros((1, 1), complex), engine=engine)


def test_unknown_engine():
    with pytest.raises(UnknownNameError, match="no engine 'cuda'; choose from reference, numba, .*, torch, jax"):
        scan(np.zeros(1), np.zeros((1, 1), complex), engine="cuda")


def test_arrays_of_the_other_byte_order():
    Lambda, inputs, state = np.array([0.5, 0.2j]), np.ones((5, 2), complex), np.ones(2, complex)
    swapped = [a.astype(a.dtype.newbyteorder()) for a in (Lambda, inputs, state)]
    found = scan(*swapped)
    np.testing.assert_array_equal(found, scan(Lambda, inputs, state))
    assert found.dtype.isnative
