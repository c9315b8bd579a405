"""One random layer of every family and layout, and its output in plain NumPy: the formulas as printed, in a loop."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssmreduce.adapters._base import Adapter
from ssmreduce.adapters._lru import LRU
from ssmreduce.adapters._s4d import S4D
from ssmreduce.adapters._s5 import S5, S5PyTorch

LAYER = "params/encoder/layers_0/seq"
N, M, P = 6, 3, 2  # states, inputs; outputs where they may differ


def scan(poles, inputs, u, *, reverse=False):
    """States (L, n) of x = poles * x + inputs @ u, backwards in time if asked."""
    states, x = [], np.zeros(poles.size, dtype=complex)
    for value in u[::-1] if reverse else u:
        x = poles * x + inputs @ value
        states.append(x)
    return np.array(states[::-1] if reverse else states)


def discretised(A, B, step, method):
    """Lambda and B in scan form of continuous A and B."""
    if method == "zoh":
        return np.exp(A * step), ((np.exp(A * step) - 1) / A)[:, None] * B
    return (1 + A * step / 2) / (1 - A * step / 2), (step / (1 - A * step / 2))[:, None] * B


def two_sided(poles, inputs, outputs, factor, D, u):
    """Outputs of a layer whose reverse half, if it has one, is inclusive."""
    y = factor * (scan(poles, inputs, u) @ outputs[0].T).real + u @ D.T
    if len(outputs) > 1:
        y = y + factor * (scan(poles, inputs, u, reverse=True) @ outputs[1].T).real
    return y


def s5_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    real = np.minimum(t["Lambda_re"], -1e-4) if adapter.clip_eigs else t["Lambda_re"]
    step = adapter.step_rescale * np.exp(t["log_step"][:, 0])
    poles, inputs = discretised(real + 1j * t["Lambda_im"], t["B"] @ [1, 1j], step, adapter.discretization)
    outputs = [t["C1"], t["C2"]] if "C1" in t else np.split(t["C"], t["C"].shape[1] // len(poles), axis=1)
    return two_sided(poles, inputs, [C @ [1, 1j] for C in outputs], 1 + adapter.conj_sym, np.diag(t["D"]), u)


def s5_pytorch_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    step = adapter.step_scale * np.exp(t["log_step"])
    poles, inputs = discretised(t["Lambda"], t["B"] @ [1, 1j], step, adapter.discretization)
    outputs = np.split(t["C"], t["C"].shape[1] // len(poles), axis=1)
    return two_sided(poles, inputs, outputs, 1, np.diag(t["D"]), u)


def s4d_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    y = np.empty_like(u)
    for h, step in enumerate(np.exp(t["kernel.log_dt"])):
        A = -np.exp(t["kernel.log_A_real"][h]) + 1j * t["kernel.A_imag"][h]
        C = t["kernel.C"][h] @ [1, 1j] * (np.exp(A * step) - 1) / A
        kernel = np.array([2 * (C * np.exp(A * step * k)).sum().real for k in range(len(u))])
        y[:, h] = np.convolve(kernel, u[:, h])[: len(u)] + t["D"][h] * u[:, h]
    return y


def lru_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    B, C = (t[x] if x in t else t[f"{x}_re"] + 1j * t[f"{x}_im"] for x in "BC")
    poles = np.exp(-np.exp(t["nu_log"]) + 1j * np.exp(t["theta_log"]))
    D = np.diag(t["D"]) if t["D"].ndim == 1 else t["D"]
    return two_sided(poles, np.exp(t["gamma_log"])[:, None] * B, [C], 1, D, u)


def s5_leaves(rng, outputs, growing):
    """Random arrays of a layer."""
    return {
        "Lambda_re": np.concatenate([growing, -rng.uniform(0.1, 2, N - len(growing))]),
        "Lambda_im": rng.uniform(-40, 40, N),  # some turn by more than pi a step
        "B": rng.standard_normal((N, M, 2)),
        **{leaf: rng.standard_normal((M, width, 2)) for leaf, width in outputs.items()},
        "D": rng.standard_normal(M),
        "log_step": rng.uniform(-4, -1, (N, 1)),
    }


def s5_pytorch_leaves(rng, width):
    """Random arrays of a layer."""
    return {
        "Lambda": -rng.uniform(0.1, 2, N) + 1j * rng.uniform(-40, 40, N),
        "B": rng.standard_normal((N, M, 2)),
        "C": rng.standard_normal((M, width)) + 1j * rng.standard_normal((M, width)),
        "D": rng.standard_normal(M),
        "log_step": rng.uniform(-4, -1, N),
    }


def s4d_leaves(rng):
    """Random arrays of a layer."""
    return {
        "kernel.C": rng.standard_normal((M, N, 2)),
        "kernel.log_dt": rng.uniform(-4, -1, M),
        "kernel.log_A_real": rng.uniform(-2, 0.5, (M, N)),
        "kernel.A_imag": np.pi * np.tile(np.arange(N), (M, 1)),  # the first pole is real, as in the original
        "D": rng.standard_normal(M),
    }


def lru_leaves(rng, D, *, complex_):
    """Random arrays of a layer."""
    B = rng.standard_normal((N, D[-1])) + 1j * rng.standard_normal((N, D[-1]))
    C = rng.standard_normal((D[0], N)) + 1j * rng.standard_normal((D[0], N))
    split = {"B": B, "C": C} if complex_ else {"B_re": B.real, "B_im": B.imag, "C_re": C.real, "C_im": C.imag}
    logs = {"nu_log": rng.uniform(-4, 0, N), "theta_log": rng.uniform(-2, 1.8, N), "gamma_log": rng.uniform(-2, 0, N)}
    return {**logs, **split, "D": rng.standard_normal(D)}


@dataclass(frozen=True)
class Case:
    """A family in one layout: its adapter, a random layer, and the layer's output."""

    adapter: Adapter
    leaves: Callable
    output: Callable
    holds: tuple[str, ...] = ()  # changes of a system that the family must be able to hold
    optional: tuple[str, ...] = ()  # tensors without which it is another layer of the same family
    reader: Adapter | None = None  # reads what is written, where the family cannot hold a smaller layer

    def params(self, rng, dtype="float32", prefix=f"{LAYER}/"):
        narrow = {"float32": (np.float32, np.complex64), "float64": (np.float64, np.complex128)}[dtype]
        separator = "." if prefix.endswith(".") or not prefix else "/"
        return {
            prefix + leaf.replace(".", separator): value
            if value.dtype.kind == "i"
            else value.astype(narrow[np.iscomplexobj(value)])
            for leaf, value in self.leaves(rng).items()
        }

    def expected(self, params, u):
        """Output of the only layer among `params`, in double precision."""
        names = {leaf: name for leaf in self.leaves(np.random.default_rng(0)) for name in params if _ends(name, leaf)}
        double = {
            leaf: params[k].astype(complex if params[k].dtype.kind == "c" else float) for leaf, k in names.items()
        }
        return self.output(self.adapter, double, u)


def _ends(name, leaf):
    return f".{name}".replace("/", ".").endswith(f".{leaf}")


def _s5(*, conj_sym=True, discretization="zoh", outputs=None, growing=(), **flags):
    adapter = S5(conj_sym=conj_sym, discretization=discretization, **flags)
    return Case(adapter, lambda rng: s5_leaves(rng, outputs or {"C": N}, growing), s5_output)


def _torch(width, **flags):
    return Case(S5PyTorch(**flags), lambda rng: s5_pytorch_leaves(rng, width), s5_pytorch_output)


def _lru(D, *, complex_):
    return Case(LRU(), lambda rng: lru_leaves(rng, D, complex_=complex_), lru_output)


CASES = {
    "s5": _s5(),
    "s5-full": _s5(conj_sym=False),
    "s5-bilinear": _s5(discretization="bilinear"),
    "s5-rescaled": _s5(step_rescale=0.5),
    "s5-clipped": _s5(clip_eigs=True, growing=(0.05, -1e-6)),
    "s5-unclipped": _s5(clip_eigs=False, growing=(0.05, -1e-6)),
    "s5-two-sided": _s5(outputs={"C1": N, "C2": N}),
    "s5-two-sided-bilinear": _s5(outputs={"C1": N, "C2": N}, discretization="bilinear", conj_sym=False),
    "s5-wide": _s5(outputs={"C": 2 * N}),
    "s5_pytorch": _torch(N),
    "s5_pytorch-two-sided": _torch(2 * N),
    "s5_pytorch-bilinear": _torch(N, discretization="bilinear", step_scale=2.0),
    "s4d": Case(S4D(), s4d_leaves, s4d_output),
    "lru": _lru((M,), complex_=False),
    "lru-full-D": _lru((P, M), complex_=False),
    "lru-complex": _lru((P, M), complex_=True),
    "lru-complex-vector-D": _lru((M,), complex_=True),
}


def layer(case, rng, dtype="float32"):
    """Parameters of a model with one layer, and that layer's system."""
    params = {"other": rng.standard_normal(3), **case.params(rng, dtype)}
    return params, case.adapter.get(params, LAYER)


def inputs_of(ssm, rng, length=30):
    """Inputs of a layer, shape (length, width)."""
    return rng.standard_normal((length, ssm.inputs * ssm.systems))
