"""The search as plain Python beside the compiled one: the same brackets, and nothing compiled for little work."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.norm_oracles import ADVERSARIAL, adversarial_ssm, random_ssm

import ssmreduce
from ssmreduce.norms.peak import _effort, peak_gain
from ssmreduce.norms.peak._plain import response_at
from ssmreduce.norms.peak._wide import ExclusionSearch, proven_gain_at, scaled
from ssmreduce.responses import frequency_response

SIZES = [(0, 2, 2), (1, 1, 1), (12, 1, 1), (9, 2, 3), (16, 5, 4), (6, 40, 36), (3, 70, 50)]


@pytest.fixture
def each_way(monkeypatch):
    """A function that brackets a peak gain compiled, and then as plain Python."""

    def brackets(ssm, rtol):
        peaks = []
        for form in ("function", "plain"):
            function = getattr(_effort.peak_gains, form)
            monkeypatch.setattr(_effort.peak_gains, "chosen", lambda arguments, work, found=function: found)
            peaks.append(peak_gain(ssm, rtol=rtol))
        return peaks

    return brackets


def assert_same(compiled, plain, rtol):
    np.testing.assert_allclose(plain.gain, compiled.gain, rtol=1e-13)
    np.testing.assert_array_less(plain.gain, compiled.upper * (1 + 1e-15))
    np.testing.assert_array_less(compiled.gain, plain.upper * (1 + 1e-15))
    np.testing.assert_allclose(plain.upper, compiled.upper, rtol=rtol)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_plain_and_compiled_search_agree(each_way, sizes, reverse):
    ssm = random_ssm(np.random.default_rng(sum(sizes)), *sizes, gaps=(1e-6, 0.5), reverse=reverse)
    assert_same(*each_way(ssm, 1e-9), 1e-9)


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_they_agree_on_adversarial_systems(each_way, kind):
    rng = np.random.default_rng(ADVERSARIAL.index(kind))
    size = 1 if kind == "all_pass" else 2
    for _ in range(5):
        compiled, plain = each_way(adversarial_ssm(rng, kind, size, size), 1e-6)
        np.testing.assert_array_less(plain.gain, compiled.upper * (1 + 1e-15))
        np.testing.assert_array_less(compiled.gain, plain.upper * (1 + 1e-15))
        np.testing.assert_allclose(plain.upper, compiled.upper, rtol=2e-6)


def test_response_of_the_search_is_the_frequency_response():
    ssm = random_ssm(np.random.default_rng(1), 5, 3, 2, reverse=True)
    systems, exponent = scaled(ssm)
    point = np.cos(0.3), np.sin(0.3), 0.0, 0.0
    found = np.ldexp(1.0, exponent[0]) * response_at(ExclusionSearch(systems).first, point)
    np.testing.assert_allclose(found, frequency_response(ssm, np.array([0.3]))[0], rtol=1e-12)


def test_gain_at_an_angle_is_a_lower_bound_close_to_the_response():
    ssm = random_ssm(np.random.default_rng(2), 5, 3, 2)
    sigma = np.linalg.norm(frequency_response(ssm, np.array([0.3]))[0], 2)
    np.testing.assert_allclose(proven_gain_at(ssm, 0.3), sigma, rtol=1e-12)


def test_few_layers_compile_nothing(tmp_path):
    code = """
import numpy as np, ssmreduce as sr
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    for n, m in ((32, 8), (64, 1), (4, 64)):
        L, B, C = 0.9 * np.exp(1j * np.arange(n)), np.ones((n, m)), np.ones((m, n))
        sr.peak_gain(sr.DiagonalSSM(L, B, C, np.eye(m), conj_sym=True))
print(len(compiled.buffer))
"""
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(ssmreduce.__file__).parents[1]),
    }
    command = [sys.executable, "-W", "error", "-c", code]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("0\n", "")
