"""Registers and spilled bytes of the CUDA kernels, from the compiler: ``python benchmarks/cuda_resources.py [sm_90]``.

Needs CuPy and NVRTC (``pip install nvidia-cuda-nvrtc``), and neither a device nor a driver.
"""

import re
import sys

from ssmreduce.engines.cuda import _cupy, _device

PATTERN = r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers"


def resources(kind, architecture):
    """Kernel -> (registers of a thread, bytes spilled by a thread)."""
    from cupy.cuda import nvrtc

    options = (*_cupy.compiler_options(kind), f"-arch={architecture}", "--ptxas-options=-v")
    program = nvrtc.createProgram(_device.source(), "kernels.cu", [], [])
    nvrtc.compileProgram(program, options)
    found = re.findall(PATTERN, nvrtc.getProgramLog(program), re.DOTALL)
    return {kernel: (int(registers), int(stores) + int(loads)) for kernel, stores, loads, registers in found}


def main(architecture="sm_90"):
    """Print one line a kernel and precision."""
    for kind in ("complex64", "complex128"):
        for kernel, (registers, spilled) in sorted(resources(kind, architecture).items()):
            print(f"{architecture}  {kind:<11}{kernel:<16}{registers:>4} registers{spilled:>5} bytes spilled")


if __name__ == "__main__":
    main(*sys.argv[1:])
