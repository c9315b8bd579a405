"""Random layers of FlowState, aTENNuate, lrnnx, DSS, LinOSS, the annotated S4 and Event-SSM, and their outputs."""

from dataclasses import replace

import numpy as np

from ssmreduce.adapters._annotated import AnnotatedS4, AnnotatedS4D
from ssmreduce.adapters._attenuate import ATENNuate, LrnnxS5
from ssmreduce.adapters._dss import DSS
from ssmreduce.adapters._event_ssm import EventSSM
from ssmreduce.adapters._flowstate import FlowState
from ssmreduce.adapters._linoss import LinOSS
from ssmreduce.adapters._s4d import S4D

from .families import Case, scan
from .families_s4 import anticausal, convolved
from .selective_oracles import sigmoid, softplus

N, H, P = 5, 3, 4  # states or oscillators, inputs, outputs where they may differ
OUTPUTS = ("scaled outputs", "outputs", "silent", "feedthrough")


def flowstate_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    A = -np.exp(t["log_Lambda_real"]) + 1j * t["Lambda_imag"]
    dt = adapter.scale_factor * np.exp(t["log_Delta"])
    poles = np.exp(A * dt)
    B = ((poles - 1) / A)[:, None] * (t["B_tilde_r"] + 1j * t["B_tilde_i"])
    y = (scan(poles, B, u) @ (t["C_tilde_r"] + 1j * t["C_tilde_i"]).T).real
    return y if "output_gate.weight" in t else y + u * t["D"]


def flowstate_leaves(rng, *, gate=False):
    """Random arrays of a layer."""
    leaves = {
        "log_Lambda_real": rng.uniform(-2, 1, N),
        "Lambda_imag": rng.uniform(-20, 20, N),
        "B_tilde_r": rng.standard_normal((N, H)),
        "B_tilde_i": rng.standard_normal((N, H)),
        "C_tilde_r": rng.standard_normal((H, N)),
        "C_tilde_i": rng.standard_normal((H, N)),
        "D": rng.standard_normal(H),
        "log_Delta": rng.uniform(-4, -1, N),
    }
    if gate:
        leaves |= {"output_gate.weight": rng.standard_normal((H, H)), "output_gate.bias": rng.standard_normal(H)}
    return leaves


def attenuate_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    A, dt = -softplus(t["A"][:, 0]) + 1j * t["A"][:, 1], np.exp(t["log_dt"])
    return (scan(np.exp(dt * A), dt[:, None] * t["B"], u) @ t["C"].T).real


def attenuate_leaves(rng):
    """Random arrays of a layer."""
    return {
        "A": np.stack([rng.uniform(-2, 1, N), rng.uniform(-20, 20, N)], axis=1),
        "B": rng.standard_normal((N, H)),
        "C": rng.standard_normal((P, N)),
        "log_dt": rng.uniform(-4, -1, N),
    }


def lrnnx_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    A, dt = -softplus(t["A"][:, 0]) + 1j * t["A"][:, 1], np.exp(t["log_dt"])
    gain = (np.exp(dt * A) - 1) / A if adapter.discretization == "zoh" else np.ones(len(dt))
    return (scan(np.exp(dt * A), gain[:, None] * t["B"], u) @ (t["C"] @ [1, 1j]).T).real + u @ t["D"]


def lrnnx_leaves(rng):
    """Random arrays of a layer."""
    return {**attenuate_leaves(rng), "C": rng.standard_normal((H, N, 2)), "D": rng.standard_normal((H, H))}


def annotated_s4d_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    y = np.zeros_like(u)
    for h, dt in enumerate(np.exp(t["log_step"][0])):
        A = np.minimum(t["A_re"][:, h], -1e-4) + 1j * t["A_im"][:, h]
        weight = (t["C"][:, h] @ [1, 1j]) * (np.exp(dt * A) - 1) / A
        kernel = np.array([(weight * np.exp(k * dt * A)).sum().real for k in range(len(u))])
        y[:, h] = convolved(kernel, u[:, h]) + t["D"][0, h] * u[:, h]
    return y


def annotated_s4d_leaves(rng):
    """Random arrays of a layer."""
    return {
        "A_re": np.concatenate([-rng.uniform(0.1, 1, (N - 1, H)), np.full((1, H), 0.5)]),  # the last is clipped
        "A_im": rng.uniform(-20, 20, (N, H)),
        "B_re": rng.standard_normal((N, H)),
        "B_im": rng.standard_normal((N, H)),
        "C": rng.standard_normal((N, H, 2)),
        "D": rng.standard_normal((1, H)),
        "log_step": rng.uniform(-4, -1, (1, H)),
    }


def annotated_s4_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    y = np.zeros_like(u)
    one = np.eye(len(t["P"]))
    for h, dt in enumerate(np.exp(t["log_step"][0])):
        A = np.diag(np.minimum(t["Lambda_re"][:, h], -1e-4) + 1j * t["Lambda_im"][:, h])
        A = A - np.outer(t["P"][:, h], t["P"][:, h].conj())
        back = np.linalg.inv(one - dt / 2 * A)
        dA, x = back @ (one + dt / 2 * A), dt * back @ t["B"][:, h]
        stored = (t["C"][:, h] @ [1, 1j]).conj()
        C = stored @ np.linalg.inv(one - np.linalg.matrix_power(dA, adapter.l_max))
        kernel = []
        for _ in range(len(u)):
            kernel.append((C @ x).real)
            x = dA @ x
        y[:, h] = convolved(np.array(kernel), u[:, h]) + t["D"][0, h] * u[:, h]
    return y


def annotated_s4_leaves(rng):
    """Random arrays of a layer."""
    return {
        "Lambda_re": -rng.uniform(0.1, 1, (N, H)),
        "Lambda_im": rng.uniform(-20, 20, (N, H)),
        "P": rng.standard_normal((N, H)) + 1j * rng.standard_normal((N, H)),
        "B": rng.standard_normal((N, H)) + 1j * rng.standard_normal((N, H)),
        "C": rng.standard_normal((N, H, 2)),
        "D": rng.standard_normal((1, H)),
        "log_step": rng.uniform(-4, -2, (1, H)),
    }


def event_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    real = np.minimum(t["Lambda_re"], -1e-4) if adapter.clip_eigs else t["Lambda_re"]
    A, step = real + 1j * t["Lambda_im"], adapter.step_rescale * np.exp(t["log_step"][:, 0])
    poles = np.exp(A * step * adapter.time_step)
    gain = {
        "zoh": (poles - 1) / A,
        "dirac": np.ones(len(A)),
        "async": (np.exp(A * step) - 1) / A,
    }[adapter.discretization]
    y = (1 + adapter.conj_sym) * (scan(poles, gain[:, None] * (t["B"] @ [1, 1j]), u) @ (t["C"] @ [1, 1j]).T).real
    return y + (u * t["D"] if t["D"].ndim == 1 else u @ t["D"].T)


def event_leaves(rng, outputs):
    """Random arrays of a layer."""
    return {
        "Lambda_re": -rng.uniform(0.1, 1, N),
        "Lambda_im": rng.uniform(-20, 20, N),
        "B": rng.standard_normal((N, H, 2)),
        "C": rng.standard_normal((outputs[0], N, 2)),
        "D": rng.standard_normal(outputs),
        "log_step": rng.uniform(-4, -1, (N, 1)),
    }


def dss_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    if "kernel.Lambda" in t:
        real, imag = t["kernel.Lambda"].T
        Lambda = (np.minimum(real, adapter.max_real) if "clip" in adapter.version else real) + 1j * imag
    else:
        imag = t["kernel.Lambda_im"] if "kernel.Lambda_im" in t else np.exp(t["kernel.Lambda_log_im"])
        Lambda = -np.exp(t["kernel.Lambda_log_neg_re"]) + 1j * imag
    W, dt = t["kernel.W"] @ [1, 1j], np.exp(t["kernel.log_dt"])
    dt = dt if dt.ndim == 2 else np.stack([dt, dt], axis=1)
    channels, length = len(t["D"]), adapter.length or len(u)
    y = np.zeros((len(u), channels, H))
    for h in range(H):
        z = dt[h, 0] * Lambda.real + 1j * dt[h, 1] * Lambda.imag
        powers = np.exp(np.outer(z, np.arange(len(u))))
        if adapter.version == "softmax":
            shift = np.where(Lambda.real > 0, z * (length - 1), 0)[:, None]
            falling = np.where(Lambda.real > 0, -z, z)
            x = (np.exp(falling * length) - 1) * Lambda
            scale = (np.exp(falling) - 1) * x.conj() / (x * x.conj() + 1e-7)  # the original's reciprocal
            powers = np.exp(np.outer(z, np.arange(len(u))) - shift)
        else:
            scale = np.ones(len(z)) if "no-scale" in adapter.version else (np.exp(z) - 1) / Lambda
        for c in range(len(W)):
            k = ((W[c, h] * scale) @ powers).real
            y[:, c % channels, h] += convolved(k, u[:, h]) if c < channels else anticausal(k, u[:, h])
        y[:, :, h] += u[:, h : h + 1] * t["D"][:, h]
    return y.reshape(len(u), -1)


def dss_leaves(rng, *, poles="exp", channels=1, bidirectional=False, separate=True):
    """Random arrays of a layer."""
    leaves = {
        "D": rng.standard_normal((channels, H)),
        "kernel.W": rng.standard_normal((channels * (1 + bidirectional), H, N, 2)),
        "kernel.log_dt": rng.uniform(-4, -1, (H, 2) if separate else H),
    }
    real, imag = -rng.uniform(0.2, 1, N), rng.uniform(0.5, 20, N)
    if poles == "pair":
        real[0] = 0.5  # a growing one, which clip clips
        return {**leaves, "kernel.Lambda": np.stack([real, imag], axis=1)}
    leaves["kernel.Lambda_log_neg_re"] = np.log(-real)
    return {**leaves, **({"kernel.Lambda_im": imag} if poles == "exp" else {"kernel.Lambda_log_im": np.log(imag)})}


def linoss_output(adapter, t, u):
    """The two equations of every oscillator, step by step: z from x, then x from z."""
    step = sigmoid(t["steps"] if "steps" in t else t["dt"])
    a, B, C = np.maximum(t["A_diag"], 0), t["B"] @ [1, 1j], t["C"] @ [1, 1j]
    g = np.zeros(len(a))
    if "G_diag" in t:
        g = np.maximum(t["G_diag"], 0)
        low = (2 + step * g - 2 * np.sqrt(1 + step * g)) / step**2
        high = (2 + step * g + 2 * np.sqrt(1 + step * g)) / step**2
        a = np.clip(t["A_diag"], low, high)
    z, x, y = np.zeros(len(a), complex), np.zeros(len(a), complex), []
    for value in u:
        drive = B @ value
        if adapter.discretization == "IM":  # z' = z + step (-a x' + drive), x' = x + step z'
            z = (z - step * a * x + step * drive) / (1 + step**2 * a)
        else:  # z' = z + step (-a x - g z' + drive), x' = x + step z'
            z = (z - step * a * x + step * drive) / (1 + step * g)
        x = x + step * z
        y.append((C @ x).real + t["D"] * value)
    return np.array(y)


def linoss_leaves(rng, *, damped=False, step="steps", overdamped=False):
    """Random arrays of a layer."""
    steps = rng.uniform(-1, 1, N)
    leaves = {
        "A_diag": rng.uniform(0.1, 1, N),
        "B": rng.standard_normal((N, H, 2)),
        "C": rng.standard_normal((H, N, 2)),
        "D": rng.standard_normal(H),
        step: steps,
    }
    if overdamped:
        leaves["A_diag"][0] = 4.5 / sigmoid(steps[0]) ** 2  # two real poles, one of them unstable
    return {**leaves, "G_diag": rng.uniform(0.05, 0.5, N)} if damped else leaves


def discretax_s4d_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    y = np.zeros_like(u)
    for h, dt in enumerate(np.exp(t["kernel.log_dt"])):
        A = -np.exp(t["kernel.log_a_real"][h]) + 1j * t["kernel.A_imag"][h]
        weight = t["kernel.C"][h] * (np.exp(A * dt) - 1) / A
        y[:, h] = convolved(np.array([2 * (weight * np.exp(A * dt * k)).sum().real for k in range(len(u))]), u[:, h])
    return y


def discretax_s4d_leaves(rng):
    """Random arrays of a layer."""
    return {
        "kernel.C": rng.standard_normal((H, N)) + 1j * rng.standard_normal((H, N)),
        "kernel.log_dt": rng.uniform(-4, -1, H),
        "kernel.log_a_real": rng.uniform(-2, 0.5, (H, N)),
        "kernel.A_imag": np.pi * np.tile(np.arange(N), (H, 1)),
    }


def case(adapter, leaves, output, holds=OUTPUTS, reader=None, **layout):
    """A case of a family."""
    return Case(adapter, lambda rng: leaves(rng, **layout), output, holds, reader=reader)


def dss(version, holds=OUTPUTS, length=None, **layout):
    """A case of DSS."""
    return case(DSS(version=version, length=length), dss_leaves, dss_output, holds, **layout)


def linoss(discretization, **layout):
    """A case of LinOSS."""
    holds, optional = ("feedthrough", "scaled together"), ("G_diag",) if layout.get("damped") else ()
    made = case(LinOSS(discretization=discretization), linoss_leaves, linoss_output, holds, **layout)
    return replace(made, optional=optional)


def event(outputs=(H,), **flags):
    """A case of Event-SSM."""
    adapter = EventSSM(**{"conj_sym": True, "discretization": "async", "time_step": 1.5, **flags})
    return case(adapter, event_leaves, event_output, (*OUTPUTS, "poles", "inputs", "all", "fewer"), outputs=outputs)


ANYTHING = (*OUTPUTS, "poles", "damped", "inputs", "fewer", "all")

OTHER_CASES = {
    "s4d-discretax": case(
        S4D(), discretax_s4d_leaves, discretax_s4d_output, ("outputs", "poles", "inputs", "all", "fewer", "silent")
    ),
    "flowstate": case(FlowState(scale_factor=0.7), flowstate_leaves, flowstate_output, ANYTHING),
    "flowstate-gate": case(FlowState(), flowstate_leaves, flowstate_output, ("outputs", "poles"), gate=True),
    "attenuate": case(ATENNuate(), attenuate_leaves, attenuate_output, ("scaled outputs", "poles", "silent", "fewer")),
    "lrnnx_s5": case(LrnnxS5(discretization="zoh"), lrnnx_leaves, lrnnx_output, ("outputs", "feedthrough")),
    "lrnnx_s5-dirac": case(LrnnxS5(discretization="dirac"), lrnnx_leaves, lrnnx_output, ("outputs", "poles", "fewer")),
    "annotated_s4d": case(
        AnnotatedS4D(), annotated_s4d_leaves, annotated_s4d_output, (*OUTPUTS, "poles", "inputs", "all")
    ),
    "annotated_s4": case(AnnotatedS4(l_max=40), annotated_s4_leaves, annotated_s4_output, (), reader=AnnotatedS4D()),
    "event_ssm": event(),
    "event_ssm-full-D": event((P, H), discretization="zoh", clip_eigs=True),
    "event_ssm-dirac": event(discretization="dirac", conj_sym=False, step_rescale=0.5),
    "dss": dss("exp", (*OUTPUTS, "inputs")),
    "dss-one-step": dss("exp", separate=False, channels=2),
    "dss-re-im": dss("exp-re-im", poles="logarithms", bidirectional=True),
    "dss-no-scale": dss("exp-no-scale"),
    "dss-clip": dss("clip", poles="pair"),
    "dss-clip-no-scale": dss("clip-no-scale", poles="pair"),
    "dss-softmax": dss("softmax", length=30, poles="pair"),
    "dss-softmax-two-sided": dss("softmax", length=40, poles="pair", bidirectional=True, channels=2),
    "linoss-im": linoss("IM"),
    "linoss-imex": linoss("IMEX"),
    "linoss-imex-real-poles": linoss("IMEX", overdamped=True),
    "linoss-damped": linoss("IMEX", damped=True),
    "linoss-damped-dt": linoss("IMEX", damped=True, step="dt"),
}
