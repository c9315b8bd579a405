"""The bidirectional Mamba of typeseg: its equations written out, reading and writing."""

import numpy as np
import pytest

from ssmreduce.adapters import TypesegAdapter
from ssmreduce.errors import IncompleteLayerError, NotRepresentableError, UnknownLayerError
from ssmreduce.selective import random_layer, simulate, take_states

NAME = "CheckpointMambaBlock1D_0"


def parameters(width=6, inner=8, order=5, rank=2, taps=4, seed=0):
    """One layer with the names and shapes of the file, in single precision."""
    rng = np.random.default_rng(seed)
    shapes = {
        "Dense_0": (width, 2 * inner), "Dense_1": (inner, rank + 2 * order), "Dense_2": (rank, inner),
        "Dense_3": (inner, width),
    }  # fmt: skip
    values = {f"{part}__kernel": rng.standard_normal(shape) / np.sqrt(shape[0]) for part, shape in shapes.items()}
    values |= {f"{part}__bias": 0.1 * rng.standard_normal(shape[1]) for part, shape in shapes.items()}
    values |= {"Conv_0__kernel": rng.standard_normal((taps, 1, inner)), "Conv_0__bias": rng.standard_normal(inner)}
    values |= {"A_log": rng.standard_normal((inner, order)), "D": rng.standard_normal(inner)}
    return {f"{NAME}__{key}": value.astype(np.float32) for key, value in values.items()}


def transcription(params, x, order=5, rank=2):
    """Output of the layer for one sequence (L, width): the package's equations, one step after the other."""
    w = {key.removeprefix(f"{NAME}__"): value.astype(np.float64) for key, value in params.items()}

    def dense(part, value):
        return value @ w[f"{part}__kernel"] + w[f"{part}__bias"]

    u, gate = np.split(dense("Dense_0", x), 2, axis=1)
    padded = np.pad(u, ((1, 2), (0, 0)))
    u = sum(padded[j : j + len(x)] * w["Conv_0__kernel"][j, 0] for j in range(4)) + w["Conv_0__bias"]
    u = u / (1 + np.exp(-u))
    step, B, C = np.split(dense("Dense_1", u), [rank, rank + order], axis=1)
    step = np.log1p(np.exp(dense("Dense_2", step))) + 1e-4
    y = np.zeros_like(u)
    for times in (range(len(x)), reversed(range(len(x)))):
        state = np.zeros((u.shape[1], order))
        for t in times:
            decay = np.exp(-np.exp(w["A_log"]) * step[t][:, None])
            state = decay * state + np.outer(step[t] * u[t], B[t])
            y[t] += state @ C[t] + w["D"] * u[t]
    return dense("Dense_3", y * gate / (1 + np.exp(-gate)))


def test_a_layer_computes_what_the_package_computes():
    params = parameters()
    x = np.random.default_rng(1).standard_normal((9, 6))
    layer = TypesegAdapter().get(params, NAME)
    np.testing.assert_allclose(simulate(layer, x[None])[0], transcription(params, x), rtol=1e-10, atol=1e-12)


def test_put_returns_what_get_took():
    params, adapter = parameters(), TypesegAdapter()
    again = adapter.put(params, NAME, adapter.get(params, NAME))
    assert {key: value.tobytes() for key, value in again.items()} == {k: v.tobytes() for k, v in params.items()}


def test_a_smaller_layer_has_smaller_arrays_of_the_same_names():
    params, adapter = parameters(), TypesegAdapter()
    smaller = take_states(adapter.get(params, NAME), [0, 2, 3])
    written = adapter.put(params, NAME, smaller)
    assert written.keys() == params.keys()
    assert written[f"{NAME}__Dense_1__kernel"].shape == (8, 2 + 6)
    x = np.random.default_rng(1).standard_normal((9, 6))
    expected = simulate(smaller, x[None])[0]
    np.testing.assert_allclose(transcription(written, x, order=3), expected, rtol=1e-5, atol=1e-6)


def test_layers_stand_in_the_order_of_the_network():
    names = [f"CheckpointMambaBlock1D_{k}" for k in (10, 2, 0)]
    params = {key.replace(NAME, name): value for name in names for key, value in parameters().items()}
    assert TypesegAdapter().find(params) == tuple(reversed(names))
    in_memory = {key.replace("__", "/"): value for key, value in params.items()}
    assert TypesegAdapter(separator="/").find(in_memory) == tuple(reversed(names))


def test_bad_calls_are_named():
    params, adapter = parameters(), TypesegAdapter()
    with pytest.raises(UnknownLayerError, match="there is no layer 'block'"):
        adapter.get(params, "block")
    with pytest.raises(NotRepresentableError, match="cannot become Mamba2SSM"):
        adapter.put(params, NAME, random_layer("mamba2", width=6, order=4))
    del params[f"{NAME}__D"]
    with pytest.raises(IncompleteLayerError, match="has no CheckpointMambaBlock1D_0__D"):
        adapter.get(params, NAME)
