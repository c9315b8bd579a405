"""Headers in C against the compiled step, built with every compiler that there is."""

import shutil
import subprocess

import numpy as np
import pytest
from support.oracles import random_ssm
from support.programs import every_operation

import ssmreduce as sr
from ssmreduce.networks._export_c import c_header
from ssmreduce.networks._program import Operation, Program
from ssmreduce.networks._stepper import CompiledStepper

FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2"]
MAIN = """#include <stdio.h>
#include "net.h"

int main(void) {
    static net_t net;
    float input[NET_INPUTS], output[NET_OUTPUTS];
    net_reset(&net);
    while (fread(input, sizeof(float), NET_INPUTS, stdin) == NET_INPUTS) {
        net_step(&net, input, output);
        fwrite(output, sizeof(float), NET_OUTPUTS, stdout);
    }
    return 0;
}
"""


@pytest.fixture(params=["gcc", "clang"])
def answers(request, tmp_path):
    """Function from a header and inputs to the outputs of the compiled program."""
    compiler = shutil.which(request.param)
    if compiler is None:
        pytest.skip(f"there is no {request.param} here")

    def run(header, u):
        (tmp_path / "net.h").write_text(header)
        (tmp_path / "main.c").write_text(MAIN)
        program = tmp_path / "main"
        subprocess.run([compiler, *FLAGS, tmp_path / "main.c", "-o", program, "-lm"], check=True)
        out = subprocess.run([program], input=np.ascontiguousarray(u, np.float32).tobytes(), capture_output=True)
        return np.frombuffer(out.stdout, np.float32).reshape(len(u), -1)

    return run


def test_every_operation_in_c_gives_what_the_compiled_step_gives(rng, answers):
    program, u = every_operation(rng), rng.standard_normal((50, 3)).astype(np.float32)
    expected = CompiledStepper(program, 1, "single").run(u)
    y = answers(c_header(program, "net"), u)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert np.ptp(expected, axis=0).min() > 0


def test_a_trained_network_in_c(rng, answers, tmp_path):
    torch_networks = pytest.importorskip("torch_networks")
    module, u = torch_networks.s5_digits(), rng.standard_normal((64, 1)).astype(np.float32)
    sr.export_c(module, tmp_path / "digits.h", name="net")
    header = (tmp_path / "digits.h").read_text()
    assert not {"alloc", "stdlib"} & set(header.replace("(", " ").split())
    expected = sr.networks.stepper(module).run(u)
    np.testing.assert_allclose(answers(header, u), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_bad_calls_are_named(rng, tmp_path):
    torch = pytest.importorskip("torch")
    layer = sr.networks.SSMLayer(random_ssm(rng))
    with pytest.raises(sr.errors.ArgumentError, match="network"):
        sr.export_c(np.zeros(3), tmp_path / "a.h")
    with pytest.raises(sr.errors.OptionError, match="letter"):
        sr.export_c(layer, tmp_path / "a.h", name="a-b")
    with pytest.raises(sr.errors.NotCausalError):
        sr.export_c(sr.networks.SSMLayer(random_ssm(rng, bidirectional=True)), tmp_path / "a.h")
    with pytest.raises(sr.errors.NotRepresentableError, match="sin"):
        sr.export_c(torch.nn.Sequential(layer, Sine()), tmp_path / "a.h")
    with pytest.raises(sr.errors.WriteError):
        sr.export_c(layer, tmp_path / "none" / "a.h")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(sr.errors.NonFiniteError):
        c_header(Program(1, (Operation("affine", (0,), 1, (np.array([np.inf]), np.zeros(1))),), False), "net")


def Sine():
    import torch

    class Sine(torch.nn.Module):
        def forward(self, x):
            return torch.sin(x)

    return Sine()
