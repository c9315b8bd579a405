"""Random layers of Centaurus (lrnnx) and of the moving average of MEGA, and their outputs, in plain loops."""

import numpy as np

from ssmreduce.adapters._centaurus import Centaurus, CentaurusFull
from ssmreduce.adapters._mega import MegaEMA

from .families import Case

H, N, M = 3, 4, 2  # features, groups of states, states a group


def centaurus_output(adapter, t, u):
    """Group by group: its real input, its states, their real parts mixed by E, and its output."""
    groups, states = t["A"].shape
    y = np.zeros_like(u)
    for g in range(groups):
        step = np.exp(t["log_delta"][g])
        for m in range(states):
            row = g * states + m
            if t["B"].ndim == 1:
                i, o = (g % len(u[0]), g // len(u[0])) if isinstance(adapter, CentaurusFull) else (g, g)
                drive, lead = t["B"][g] * u[:, i], np.eye(u.shape[1])[o] * t["C"][g]
            else:
                row = g if "E" in t else row
                drive, lead = u @ t["B"][row], t["C"][:, row]
            x, pole = 0.0, np.exp(step * t["A"][g, m])
            for k, value in enumerate(step * drive):
                x = pole * x + value
                y[k] += lead * x.real * (t["E"][g, m] if "E" in t else 1.0)
    return y


def centaurus_leaves(rng, mode, states=M):
    groups = {"dws": H, "full": H * H}.get(mode, N)
    leaves = {
        "A": -rng.uniform(0.1, 1, (groups, states)) + 1j * rng.uniform(-20, 20, (groups, states)),
        "log_delta": rng.uniform(-4, -1, groups),
        "E": rng.standard_normal((groups, states)),
    }
    if mode == "pointwise":
        del leaves["E"]
        groups *= states
    if mode in ("dws", "full"):
        return {**leaves, "B": rng.standard_normal(groups), "C": rng.standard_normal(groups)}
    return {**leaves, "B": rng.standard_normal((groups, H)), "C": rng.standard_normal((H, groups))}


def mega_output(adapter, t, u):
    """h[k] = p beta u[k] + (1 - p d) h[k-1], y = gamma h / sqrt(N) + omega u, feature by feature."""
    names = ("damping_factor", "decay_factor", "ema_expansion_matrix", "kernel_projection_matrix", "residual_weight")
    short = ("alpha", "delta", "beta", "gamma", "omega")
    t = t if "alpha" in t else {leaf: t[name] for leaf, name in zip(short, names, strict=True)}
    y = u * t["omega"]
    for h in range(u.shape[1]):
        p, d = (1 / (1 + np.exp(-t[leaf][h, :, 0])) for leaf in ("alpha", "delta"))
        x = np.zeros(len(p))
        for k, value in enumerate(u[:, h]):
            x = p * t["beta"][h, :, 0] * value + (1 - p * d) * x
            y[k, h] += t["gamma"][h] @ x / np.sqrt(len(p))
    return y


def mega_leaves(rng, names=("alpha", "delta", "beta", "gamma", "omega")):
    column = (H, 5, 1)
    arrays = (rng.normal(0, 1, column), rng.normal(0, 1, column), rng.standard_normal(column))
    return dict(zip(names, (*arrays, rng.standard_normal((H, 5)), rng.standard_normal(H)), strict=True))


def centaurus(mode, states=M, holds=(), **options):
    adapter = CentaurusFull() if mode == "full" else Centaurus()
    return Case(adapter, lambda rng: centaurus_leaves(rng, mode, states), centaurus_output, holds, **options)


def mega(**options):
    holds = ("scaled outputs", "silent", "feedthrough", "damped")
    return Case(MegaEMA(), lambda rng: mega_leaves(rng, **options), mega_output, holds, reader=MegaEMA())


FLAT = ("scaled outputs", "poles", "silent", "fewer")
HF = ("damping_factor", "decay_factor", "ema_expansion_matrix", "kernel_projection_matrix", "residual_weight")

REAL_CASES = {
    "centaurus-neck": centaurus("neck", reader=Centaurus()),
    "centaurus-neck-flat": centaurus("neck", 1, FLAT, optional=("E",)),
    "centaurus-pointwise": centaurus("pointwise", reader=Centaurus()),
    "centaurus-pointwise-flat": centaurus("pointwise", 1, FLAT),
    "centaurus-dws": centaurus("dws", 5, ("scaled outputs", "poles")),
    "centaurus-full": centaurus("full", reader=Centaurus()),
    "mega_ema": mega(),
    "mega_ema-transformers": mega(names=HF),
}
