"""One step of a network as a C99 header: weights, and functions that need math.h only."""

import os
import re
from typing import Any

import numpy as np

from .._support.arguments import require_path
from .._support.whole import write_whole
from ..errors import NonFiniteError, OptionError
from ._program import Operation, Program
from ._recurrent import require_torch
from ._stepper import encoded

_NUMBERS_A_LINE = 8
_LOOP = "    for (int i = 0; i < n; i++) {\n%s    }\n"


def _elementwise(formula: str) -> tuple[str, str]:
    body = f"        const float v = x[i];\n        y[i] = {formula};\n"
    return "const float *x, int n", _LOOP % body


# name -> parameters after the result `y`, and the body; restrict lets compilers use vector registers
_FUNCTIONS = {
    "linear": (
        "const float *restrict x, const float *restrict w, int n, int m",
        """    for (int i = 0; i < n; i++) {
        y[i] = w[i];
    }
    w += n;
    int j = 0;
    for (; j + 4 <= m; j += 4) {
        for (int i = 0; i < n; i++) {
            y[i] += w[i] * x[j] + w[n + i] * x[j + 1] + w[2 * n + i] * x[j + 2] + w[3 * n + i] * x[j + 3];
        }
        w += 4 * n;
    }
    for (; j < m; j++) {
        for (int i = 0; i < n; i++) {
            y[i] += w[i] * x[j];
        }
        w += n;
    }
""",
    ),
    "affine": ("const float *x, const float *w, int n", _LOOP % "        y[i] = x[i] * w[i] + w[n + i];\n"),
    "norm": (
        "const float *x, const float *w, int n",
        """    float mean = 0.0f, variance = 0.0f;
    for (int i = 0; i < n; i++) {
        mean += x[i];
    }
    mean /= (float)n;
    for (int i = 0; i < n; i++) {
        variance += (x[i] - mean) * (x[i] - mean);
    }
    const float scale = 1.0f / sqrtf(variance / (float)n + w[2 * n]);
    for (int i = 0; i < n; i++) {
        y[i] = (x[i] - mean) * scale * w[i] + w[n + i];
    }
""",
    ),
    "add": ("const float *x, const float *z, int n", _LOOP % "        y[i] = x[i] + z[i];\n"),
    "multiply": ("const float *x, const float *z, int n", _LOOP % "        y[i] = x[i] * z[i];\n"),
    "slice": ("const float *x, int n", _LOOP % "        y[i] = x[i];\n"),
    "recur": (
        "const float *restrict v, const float *restrict p, float *restrict state, int n",
        _LOOP
        % """        const float re = state[i], im = state[n + i];
        y[i] = state[i] = p[i] * re - p[n + i] * im + v[i];
        y[n + i] = state[n + i] = p[i] * im + p[n + i] * re + v[n + i];
""",
    ),
    "features": (
        "const float *restrict u, const float *restrict p, const float *restrict c, float *restrict state, "
        "int n, int k",
        """    for (int h = 0; h < n; h++) {
        y[h] = 0.0f;
    }
    for (int i = 0; i < k; i += n) {
        for (int h = 0; h < n; h++) {
            const float re = state[i + h], im = state[k + i + h];
            state[i + h] = p[i + h] * re - p[k + i + h] * im + u[h];
            state[k + i + h] = p[i + h] * im + p[k + i + h] * re;
            y[h] += c[i + h] * state[i + h] - c[k + i + h] * state[k + i + h];
        }
    }
""",
    ),
    "mean": (
        "const float *x, float *state, int n",
        "    state[n] += 1.0f;\n" + _LOOP % "        y[i] = state[i] += (x[i] - state[i]) / state[n];\n",
    ),
    "gelu": _elementwise("0.5f * v * (1.0f + erff(v * 0.707106781f))"),
    "gelu_tanh": _elementwise("0.5f * v * (1.0f + tanhf(0.797884561f * (v + 0.044715f * v * v * v)))"),
    "sigmoid": _elementwise("1.0f / (1.0f + expf(-v))"),
    "tanh": _elementwise("tanhf(v)"),
    "relu": _elementwise("v > 0.0f ? v : 0.0f"),
    "silu": _elementwise("v / (1.0f + expf(-v))"),
}

_HEADER = """/* One step of a network as a C99 header without dependencies and without allocation; made by ssmreduce.
 *
 *     {name}_t net;
 *     {name}_reset(&net);
 *     {name}_step(&net, input, output);   for each sample
 *
 * input has {upper}_INPUTS numbers, output {upper}_OUTPUTS. Include it in one file, and link with -lm.
 */
#ifndef {upper}_H
#define {upper}_H

#include <math.h>

#define {upper}_INPUTS {inputs}
#define {upper}_OUTPUTS {outputs}
#define {upper}_STATES {states}

typedef struct {{
    float state[{room}];   /* to be kept from step to step */
    float values[{size}];  /* scratch */
}} {name}_t;

{arrays}
{functions}
static inline void {name}_reset({name}_t *net) {{
    for (int i = 0; i < {room}; i++) {{
        net->state[i] = 0.0f;
    }}
}}

static inline void {name}_step({name}_t *net, const float *input, float *output) {{
    float *const v = net->values, *const s = net->state;
    const float *const w = {name}_weights, *const p = {name}_poles;
    for (int i = 0; i < {upper}_INPUTS; i++) {{
        v[i] = input[i];
    }}
    (void)s;
    (void)w;
    (void)p;
{calls}
    for (int i = 0; i < {upper}_OUTPUTS; i++) {{
        output[i] = v[{out} + i];
    }}
}}

#endif
"""


def export_c(network: Any, path: str | os.PathLike, *, name: str = "network", width: int | None = None) -> None:
    """Write one step of a network as a C99 header, for microcontrollers and for programs without Python.

    The header has the weights, a struct with the states, and the functions ``NAME_reset`` and ``NAME_step``. It
    allocates nothing and uses ``math.h`` only.

    Parameters
    ----------
    network : torch.nn.Module or TorchNetwork
        Causal, of operations that `networks.stepper` compiles.
    path : path
        Of the header.
    name : str, default "network"
        Of the type and the functions in C.
    width : int, optional
        Numbers of a sample; see `networks.stepper`.

    Raises
    ------
    ArgumentError
        No PyTorch network.
    NotRepresentableError, NotCausalError
        Operations that look at several samples, or that are unknown.
    OptionError
        A name that C does not take.
    WriteError
        A file that could not be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import torch, ssmreduce as sr
    >>> layer = sr.networks.SSMLayer(sr.models.example()["layers.0.seq"])
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 32), layer, torch.nn.GELU())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     header = pathlib.Path(folder) / "digits.h"
    ...     sr.export_c(module, header, name="digits")
    ...     "void digits_step(digits_t *net, const float *input, float *output)" in header.read_text()
    True
    """
    require_path(path)
    require_torch(network)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise OptionError(f"name must be a letter with letters, digits and underscores behind it, got {name!r}")
    from ._torch_stepper import module_program

    text = c_header(module_program(network, width), name)
    write_whole(path, lambda file: file.write(text.encode()))


def c_header(program: Program, name: str) -> str:
    """Text of the header of a program."""
    rows, weights, poles, size = encoded(program)
    used = [kind for kind in _FUNCTIONS if any(operation.kind == kind for operation in program)]
    arrays = [_array(f"{name}_weights", weights), _array(f"{name}_poles", poles.astype(np.float32))]
    return _HEADER.format(
        name=name,
        upper=name.upper(),
        inputs=program.width,
        outputs=program.outputs,
        states=program.states,
        room=max(1, program.states),
        size=size,
        arrays="\n".join(arrays),
        functions="\n".join(_function(name, kind) for kind in used),
        calls="\n".join(
            f"    {name}_{operation.kind}({_arguments(operation, *row[1:])});"
            for operation, row in zip(program, rows.tolist(), strict=True)
        ),
        out=rows[-1, 1],
    )


def _function(name: str, kind: str) -> str:
    parameters, body = _FUNCTIONS[kind]
    restrict = "*restrict y" if "restrict" in parameters else "*y"
    return f"static inline void {name}_{kind}(float {restrict}, {parameters}) {{\n{body}}}\n"


def _arguments(operation: Operation, y: int, x: int, z: int, n: int, m: int, w: int, s: int) -> str:
    """Of the call of an operation; see `advance` for the numbers of a row."""
    first = f"v + {y}, v + {x}"
    match operation.kind:
        case "linear":
            return f"{first}, w + {w}, {n}, {m}"
        case "affine" | "norm":
            return f"{first}, w + {w}, {n}"
        case "add" | "multiply":
            return f"{first}, v + {z}, {n}"
        case "recur":
            return f"{first}, p + {s}, s + {s}, {n // 2}"
        case "features":
            return f"{first}, p + {s}, w + {w}, s + {s}, {n}, {m}"
        case "mean":
            return f"{first}, s + {s}, {n}"
    return f"{first}, {n}"


def _array(name: str, values: np.ndarray) -> str:
    if not np.isfinite(values).all():
        raise NonFiniteError("the network has NaN or infinite weights")
    texts = [_literal(value) for value in values.tolist() or [0.0]]
    lines = [", ".join(texts[k : k + _NUMBERS_A_LINE]) for k in range(0, len(texts), _NUMBERS_A_LINE)]
    return f"static const float {name}[{len(texts)}] = {{\n    " + ",\n    ".join(lines) + "\n};\n"


def _literal(value: float) -> str:
    """Nine digits tell every number of single precision from its neighbours."""
    text = f"{value:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"
