"""benchmarks/bench_gpu.py as far as it runs without a device: its arguments, its refusal, its peers on NumPy."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ssmreduce import simulate

PATH = Path(__file__).parents[3] / "benchmarks" / "bench_gpu.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_gpu", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_says_that_nothing_was_measured(bench, capsys):
    if bench.missing_device() is None:
        pytest.skip("there is a CUDA device")
    assert bench.main(["--quick"]) == 1
    assert capsys.readouterr().out.startswith("Nothing was measured: ")


@pytest.mark.gpu
def test_it_measures(bench, capsys):
    assert bench.main(["--quick"]) == 0
    assert "GB/s" in capsys.readouterr().out


def test_unknown_arguments(bench, capsys):
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--fast"])
    assert "--fast" in capsys.readouterr().err


def test_the_convolution_is_the_layer(bench, rng):
    ssm = bench.s4d_layer(rng, 4, 3)
    u = rng.normal(size=(2, 100, 3))
    peer = bench.convolution(np, bench.s4d_kernel(ssm, 100), np.asarray(ssm.D)[:, 0, 0], 100)
    np.testing.assert_allclose(peer(u), simulate(ssm, u), rtol=1e-10, atol=1e-10)


def test_layers_have_the_shapes_of_the_table(bench, rng):
    ssm = bench.s5_layer(rng, 6, 4)
    assert (ssm.order, ssm.inputs, ssm.outputs) == (6, 4, 4)
    np.testing.assert_array_equal(ssm.D, np.diag(np.diag(ssm.D)))
    assert bench.s4d_layer(rng, 6, 4).batch == (4,)


def test_rows_line_up(bench):
    assert len(bench.row("scan", 1.0)) == len(bench.row("scan (8, 16384, 384)", 123.456789))
