"""Random layers of S4 in every flag, and their outputs by the equations of state-spaces/s4, in plain loops."""

from dataclasses import replace

import numpy as np

from ssmreduce.adapters._s4block import S4Block
from ssmreduce.adapters._s4dplr import S4DPLR

from .families import Case

H, N = 4, 5  # features, stored states

POSITIVE = {
    "none": lambda x: x,
    "exp": np.exp,
    "relu": lambda x: np.maximum(x, 0) + 1e-4,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
}
STORED = {
    "none": lambda y: y,
    "exp": np.log,
    "relu": lambda y: y - 1e-4,
    "sigmoid": lambda y: np.log(y / (1 - y)),
    "softplus": lambda y: np.log(np.exp(y) - 1),
}


def s4_kernel(dt, A, B, C, disc, length, factor=2):
    """K[l] of one feature and channel: B and C joined, then a sum over the powers of the discrete poles."""
    if disc == "zoh":
        weight, pole = C * B * (np.exp(dt * A) - 1) / A, np.exp(dt * A)
    else:
        weight, pole = C * B * dt / (1 - dt * A / 2), (1 + dt * A / 2) / (1 - dt * A / 2)
    return np.array([factor * np.sum(weight * pole**k).real for k in range(length)])


def convolved(kernel, u):
    """The causal convolution, cut to the length of the input."""
    return np.convolve(kernel, u)[: len(u)]


def anticausal(kernel, u):
    """y[t] = sum over j of kernel[j] u[t + 1 + j]: the reverse half of S4 begins one sample later."""
    return np.array([np.dot(kernel[: len(u) - t - 1], u[t + 1 :]) for t in range(len(u))])


def of_version_4(t):
    """The arrays of versions 2 and 3 under the names of version 4, as the authors' conversion script makes them."""
    short = {leaf.rsplit(".", 1)[-1]: value for leaf, value in t.items()}
    if "log_dt" in short:
        short["inv_dt"] = short["log_dt"][:, None]
        short["A_real"] = short["inv_w_real"] if "inv_w_real" in short else short["log_w_real"]
        short["A_imag"] = -short["w_imag"]
        short.setdefault("B", np.tile([1.0, 0.0], (1, *short["A_real"].shape, 1)))
    return short


def s4block_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    version_3 = any(leaf.endswith("w_imag") for leaf in t)
    t = of_version_4(t)
    real = POSITIVE[adapter.real_transform](t["A_real"])
    if version_3 and adapter.real_transform == "relu":
        real = real - 1e-4
    if "A_imag" in t:
        A = -real - 1j * POSITIVE[adapter.imag_transform](t["A_imag"])
        B, C = t["B"] @ [1, 1j], t["C"] @ [1, 1j]
    else:
        A, B, C = -real, t["B"], t["C"]
    inv_dt = np.sinh(t["inv_dt"]) if adapter.dt_fast else t["inv_dt"]
    dt = POSITIVE[adapter.dt_transform](inv_dt) * adapter.rate
    channels = len(t["D"])
    y = np.zeros((len(u), channels, t["D"].shape[1]))
    for h in range(t["D"].shape[1]):
        copy = h % len(A)
        for c in range(len(C)):
            c_h = C[c, h]
            if adapter.bandlimit is not None:
                c_h = np.where(
                    dt[h] / adapter.rate * np.abs(np.imag(A[copy])) / (2 * np.pi) < adapter.bandlimit / 2, c_h, 0
                )
            k = s4_kernel(dt[h], A[copy], B[0, copy], c_h, adapter.disc, len(u))
            y[:, c % channels, h] += convolved(k, u[:, h]) if c < channels else anticausal(k, u[:, h])
        y[:, :, h] += u[:, h : h + 1] * t["D"][:, h]
    return y.reshape(len(u), -1) if not adapter.swap_channels else np.swapaxes(y, 1, 2).reshape(len(u), -1)


def s4block_leaves(rng, adapter, *, channels=1, bidirectional=False, copies=H, tied=True, real=False, version=4):
    """Random arrays of a layer."""
    width = channels * (1 + bidirectional)
    positive = rng.uniform(0.1, 0.9, (copies, N))
    dt = np.exp(rng.uniform(-4, -1, (H, 1 if tied else N)))
    inv_dt = STORED[adapter.dt_transform](dt)
    imag = (
        rng.uniform(0.1, 0.9, (copies, N)) if adapter.imag_transform == "sigmoid" else rng.uniform(0.5, 30, (copies, N))
    )
    pairs = () if real else (2,)
    leaves = {
        "A_real": STORED[adapter.real_transform](positive),
        "inv_dt": np.arcsinh(inv_dt) if adapter.dt_fast else inv_dt,
        "B": rng.standard_normal((1, copies, N, *pairs)),
        "C": rng.standard_normal((width, H, N, *pairs)),
        "D": rng.standard_normal((channels, H)),
    }
    if not real:
        leaves["A_imag"] = STORED[adapter.imag_transform](imag)
    if version == 4:
        return {"D" if leaf == "D" else f"kernel.{leaf}": value for leaf, value in leaves.items()}
    names = {"inv_dt": "log_dt", "A_real": "inv_w_real" if version == 3 else "log_w_real", "A_imag": "w_imag"}
    leaves["inv_dt"], leaves["A_imag"] = leaves["inv_dt"][:, 0], -leaves["A_imag"]
    return {leaf if leaf == "D" else f"kernel.kernel.{names.get(leaf, leaf)}": value for leaf, value in leaves.items()}


def dplr_kernel(dt, a, P, B, C_tilde, truncated, length):
    """The recurrence of the dense state matrix, with C from the stored C (I - A^L)."""

    def both(x):
        return np.concatenate([x, x.conj()], axis=-1)

    A = np.diag(both(a)) - both(P).T @ both(P).conj()
    one = np.eye(len(A))
    step_back = np.linalg.inv(one - dt / 2 * A)
    dA, dB = step_back @ (one + dt / 2 * A), dt * step_back @ both(B)
    C = both(C_tilde)
    if truncated:
        C = np.linalg.solve((one - np.linalg.matrix_power(dA, truncated)).T, C)
    kernel, x = [], dB
    for _ in range(length):
        kernel.append((C @ x).real)
        x = dA @ x
    return np.array(kernel)


def s4dplr_output(adapter, t, u):
    """Outputs of inputs u, by the family's formula."""
    t = of_version_4(t)
    a = -POSITIVE[adapter.real_transform](t["A_real"]) - 1j * POSITIVE[adapter.imag_transform](t["A_imag"])
    P, B, C = (t[x] @ [1, 1j] for x in "PBC")
    dt = POSITIVE[adapter.dt_transform](t["inv_dt"])
    truncated = int(t.get("l_kernel", t.get("L", adapter.l_kernel)))
    channels = len(t["D"])
    y = np.zeros((len(u), channels, t["D"].shape[1]))
    for h in range(t["D"].shape[1]):
        copy = h % len(a)
        for c in range(len(C)):
            k = dplr_kernel(dt[h, 0], a[copy], P[:, copy], B[0, copy], C[c, h], truncated, len(u))
            y[:, c % channels, h] += convolved(k, u[:, h]) if c < channels else anticausal(k, u[:, h])
        y[:, :, h] += u[:, h : h + 1] * t["D"][:, h]
    return y.reshape(len(u), -1)


def s4dplr_leaves(rng, adapter, *, rank=1, length=32, version=4, **layout):
    """Random arrays of a layer."""
    leaves = s4block_leaves(rng, adapter, version=version, **layout)
    stem = "kernel." if version == 4 else "kernel.kernel."
    copies, order = leaves[stem + ("A_real" if version == 4 else "inv_w_real")].shape
    leaves[stem + "P"] = rng.standard_normal((rank, copies, order, 2))
    if length is not None:
        leaves[stem + ("l_kernel" if version == 4 else "L")] = np.array(length, dtype=np.int64)
    return leaves


def s4dplr(layout=None, **flags):
    """A case of S4 with a low-rank kernel."""
    flags = {"real_transform": "exp", "dt_transform": "exp", **flags}
    adapter = S4DPLR(**flags)
    reader = S4Block(disc="bilinear", **{name: value for name, value in flags.items() if name != "l_kernel"})
    leaves = dict(layout or {})
    return Case(adapter, lambda rng: s4dplr_leaves(rng, reader, **leaves), s4dplr_output, reader=reader)


def as_lrnnx(case):
    """The names of lrnnx, which has every parameter twice: as the layer's and as its kernel's."""

    def leaves(rng):
        result = {}
        for leaf, value in case.leaves(rng).items():
            short = leaf.removeprefix("kernel.")
            result |= {short: value} if short in ("D", "l_kernel") else {short: value, f"layer.kernel.{short}": value}
        if "l_kernel" in result:
            result["layer.kernel.l_kernel"] = result.pop("l_kernel")
        return result

    return replace(case, leaves=leaves)


OUTPUTS = ("scaled outputs", "outputs", "silent", "feedthrough")
ANYTHING = (*OUTPUTS, "poles", "damped", "inputs", "fewer", "all")


def s4block(layout=None, holds=OUTPUTS, **flags):
    """A case of S4Block with a diagonal kernel."""
    adapter = S4Block(**{"disc": "zoh", "real_transform": "exp", "dt_transform": "exp", **flags})
    return Case(adapter, lambda rng: s4block_leaves(rng, adapter, **(layout or {})), s4block_output, holds)


def without_input(case):
    """Version 2 of S4D has no B."""

    def leaves(rng):
        return {leaf: value for leaf, value in case.leaves(rng).items() if not leaf.endswith(".B")}

    return Case(case.adapter, leaves, case.output, case.holds)


S4_CASES = {
    "s4block": s4block(holds=ANYTHING),
    "s4block-two-sided": s4block({"bidirectional": True}, ANYTHING),
    "s4block-channels": s4block({"channels": 3}, ANYTHING),
    "s4block-swapped": s4block({"channels": 2, "bidirectional": True}, swap_channels=True),
    "s4block-tied": s4block({"copies": 2}),
    "s4block-one-copy-many-flags": s4block(
        {"copies": 1, "channels": 2, "bidirectional": True, "tied": False},
        disc="bilinear",
        real_transform="softplus",
        imag_transform="exp",
        dt_transform="softplus",
    ),
    "s4block-untied-steps": s4block({"tied": False}, ANYTHING),
    "s4block-bilinear": s4block(holds=ANYTHING, disc="bilinear"),
    "s4block-bandlimit": s4block(holds=("feedthrough", "silent"), bandlimit=0.3),
    "s4block-rate": s4block(holds=("feedthrough", "silent"), rate=0.5, bandlimit=0.5),
    "s4block-real": s4block({"real": True}, ("feedthrough", "silent", "scaled outputs")),
    "s4block-real-two-sided": s4block(
        {"real": True, "bidirectional": True, "copies": 2}, ("feedthrough", "silent", "scaled outputs")
    ),
    "s4block-fast": s4block(dt_fast=True),
    "s4block-none": s4block(real_transform="none", imag_transform="softplus"),
    "s4block-relu": s4block(real_transform="relu", imag_transform="relu"),
    "s4block-sigmoid": s4block(real_transform="sigmoid", imag_transform="sigmoid", dt_transform="sigmoid"),
    "s4block-version-3": s4block({"version": 3}, ANYTHING),
    "s4block-version-3-relu": s4block({"version": 3, "copies": 2}, real_transform="relu"),
    "s4dplr": s4dplr(),
    "s4dplr-rank-2-two-sided": s4dplr({"rank": 2, "bidirectional": True}),
    "s4dplr-tied-channels": s4dplr({"copies": 2, "channels": 2}, real_transform="softplus", dt_transform="softplus"),
    "s4dplr-not-truncated": s4dplr({"length": 0, "rank": 3}, imag_transform="exp"),
    "s4dplr-version-3": s4dplr({"version": 3, "copies": 1}),
    "s4dplr-version-2": s4dplr({"version": 3, "length": None}, l_kernel=24),
    "s4block-lrnnx": as_lrnnx(s4block(holds=ANYTHING)),
    "s4dplr-lrnnx": as_lrnnx(s4dplr({"channels": 2})),
    "s4block-version-2": without_input(s4block({"version": 2, "bidirectional": True})),
}
