"""Slow, independent oracles, and makers of random systems and models."""

from dataclasses import fields, replace

import mpmath as mp
import numpy as np
import scipy.linalg

import ssmreduce as sr

mp.mp.dps = 50


def complex_normal(rng, *shape):
    """Complex numbers with normal parts."""
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def random_ssm(rng, n=5, m=3, p=2, *, batch=(), conj_sym=False, bidirectional=False, radius=(0.3, 0.98)):
    """Random system with poles at any angle and moduli in `radius`."""
    modulus = rng.uniform(*radius, size=(*batch, n))
    return sr.DiagonalSSM(
        modulus * np.exp(1j * rng.uniform(-np.pi, np.pi, size=(*batch, n))),
        complex_normal(rng, *batch, n, m),
        complex_normal(rng, *batch, p, n),
        rng.normal(size=(*batch, p, m)),
        complex_normal(rng, *batch, p, n) if bidirectional else None,
        conj_sym,
    )


def converted(ssm, as_array):
    """The same system with arrays of another library."""
    arrays = {
        name: None if getattr(ssm, name) is None else as_array(getattr(ssm, name))
        for name in ("Lambda", "B", "C", "D", "C_reverse")
    }
    return replace(ssm, **arrays)


def system_at(ssm, index):
    """One system of a batch."""
    values = {f.name: getattr(ssm, f.name) for f in fields(ssm)}
    return sr.DiagonalSSM(**{k: v[index] if isinstance(v, np.ndarray) else v for k, v in values.items()})


def scaled(ssm, a):
    """The same transfer function with states x_i -> a_i x_i."""
    reverse = None if ssm.C_reverse is None else ssm.C_reverse / a
    return replace(ssm, B=ssm.B * a[:, None], C=ssm.C / a, C_reverse=reverse)


def assert_close(actual, expected, tolerance):
    """Equal shapes, and errors within `tolerance` of the largest value; no NaN."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    if expected.size:
        assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def assert_same_bits(actual, expected):
    """Equal shapes, dtypes and bytes."""
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    assert actual.tobytes() == expected.tobytes()


# ---------------------------------------------------------------- dense and by loops


def dense(ssm, C=None):
    """Real textbook form (A, B, C, D) of the causal half of one system, or of another half's C without D."""
    D = ssm.D if C is None else np.zeros_like(ssm.D)
    C = ssm.C if C is None else C
    Lambda = np.diag(ssm.Lambda)
    A = np.block([[Lambda.real, -Lambda.imag], [Lambda.imag, Lambda.real]])
    B = np.vstack([ssm.B.real, ssm.B.imag])
    scan_C = ssm.kappa * np.hstack([C.real, -C.imag])
    return A, B, scan_C @ A, D + scan_C @ B


def dense_frequency_response(ssm, omega):
    """Responses (frequencies, p, m) by solves with dense matrices."""

    def half(matrices, z):
        A, B, C, D = matrices
        return C @ np.linalg.solve(z * np.eye(len(A)) - A, B) + D

    response = [half(dense(ssm), np.exp(1j * w)) for w in omega]
    if ssm.bidirectional:
        reverse = dense(ssm, ssm.C_reverse)
        response = [r + half(reverse, np.exp(-1j * w)) for r, w in zip(response, omega, strict=True)]
    return np.array(response)


def dense_h2_norm(ssm):
    """From the discrete Lyapunov equation of the real realisation."""

    def tail(matrices):
        A, B, C, _ = matrices
        return np.trace(C @ scipy.linalg.solve_discrete_lyapunov(A, B @ B.T) @ C.T)

    causal = dense(ssm)
    lag0, energy = causal[3], tail(causal)
    if ssm.bidirectional:
        reverse = dense(ssm, ssm.C_reverse)
        lag0, energy = lag0 + reverse[3], energy + tail(reverse)
    return np.sqrt(np.sum(lag0**2) + energy)


def loop_simulate(ssm, u, state=None, state_reverse=None, *, strict=False):
    """Output, last state and last reverse state of a (batch of) system(s), one sample and state at a time."""
    *lead, length, _ = u.shape
    n, m, p = ssm.order, ssm.inputs, ssm.outputs
    shape = (*lead, *ssm.batch, n)
    state = np.zeros(shape, complex) if state is None else np.array(state)
    state_reverse = np.zeros(shape, complex) if state_reverse is None else np.array(state_reverse)
    y = np.zeros((*lead, length, ssm.systems * p))
    for row in np.ndindex(*lead):
        for number, index in enumerate(np.ndindex(*ssm.batch)):
            one = system_at(ssm, index)
            inputs, outputs = slice(number * m, number * m + m), slice(number * p, number * p + p)
            x, xr = state[(*row, *index)], state_reverse[(*row, *index)]
            for k in range(length):
                for i in range(n):
                    x[i] = one.Lambda[i] * x[i] + one.B[i] @ u[(*row, k)][inputs]
                y[(*row, k)][outputs] += one.kappa * (one.C @ x).real + one.D @ u[(*row, k)][inputs]
            for k in range(length - 1, -1, -1) if one.bidirectional else ():
                later = xr.copy()
                for i in range(n):
                    xr[i] = one.Lambda[i] * xr[i] + one.B[i] @ u[(*row, k)][inputs]
                y[(*row, k)][outputs] += one.kappa * (one.C_reverse @ (later if strict else xr)).real
    return y, state, state_reverse


def loop_scan(Lambda, inputs, state, *, reverse):
    """States of one sequence (L, n) in double precision, one sample at a time."""
    states, x = np.empty(inputs.shape, complex), state.astype(complex)
    for k in range(len(inputs) - 1, -1, -1) if reverse else range(len(inputs)):
        x = Lambda.astype(complex) * x + inputs[k]
        states[k] = x
    return states


def loop_gradients(Lambda, inputs, state, weights):
    """Of Re sum(weights * states) of sequences (R, L, n), the terms of that of Lambda, of the inputs and of the state.

    The change of the sum is Re sum(gradient * change).
    """
    rows = range(len(inputs))
    g = np.array([loop_scan(Lambda, weights[r], np.zeros_like(state[r]), reverse=True) for r in rows])
    states = np.array([loop_scan(Lambda, inputs[r], state[r], reverse=False) for r in rows])
    before = np.concatenate([state[:, None], states[:, :-1]], axis=1)
    return before * g, g, Lambda.astype(complex) * g[:, 0]


def slow_scan_case(rng, dtype, *, angle=1.5, length=16384):
    """Lambda (n,) near the circle, inputs (3, L, n): noise, a constant, none; states (3, n): zero but of the last."""
    gap, angle = np.array([1e-6, 1e-6, 1e-4, 1e-2]), np.array([0.0, 2.0, angle, -0.7])
    Lambda = ((1 - gap) * np.exp(1j * angle)).astype(dtype)
    inputs, state = np.zeros((3, length, 4), dtype), np.zeros((3, 4), dtype)
    inputs[0], inputs[1], state[2] = complex_normal(rng, length, 4), 1.0, complex_normal(rng, 4)
    return Lambda, inputs, state


def largest_errors(actual, exact):
    """Of every row and state (R, L, n), relative to its largest value in time."""
    return np.abs(np.asarray(actual) - exact).max(1) / np.abs(exact).max(1)


def assert_long_gradients_are_exact(gradients, Lambda, inputs, state, weights):
    """To the digits of single precision; a gradient of Lambda relative to the moduli of the terms that it sums up."""
    poles, driven, first = map(np.asarray, gradients)
    terms, *expected = loop_gradients(Lambda, inputs, state, weights)
    np.testing.assert_array_less(np.abs(poles - terms.sum((0, 1))), 2e-6 * np.abs(terms).sum((0, 1)))
    assert largest_errors(driven, expected[0]).max() <= 2e-7
    np.testing.assert_allclose(first, expected[1], rtol=2e-6)


def assert_long_layer_is_exact(rng, as_array):
    """A slow layer of two inputs and outputs in single precision, of parameters that it holds exactly."""
    Lambda, noise, state = slow_scan_case(rng, np.complex64)
    u = noise[..., :2].real
    B, C, D = complex_normal(rng, 4, 2), complex_normal(rng, 2, 4), rng.normal(size=(2, 2))
    held = (a.astype(np.complex64).astype(complex) for a in (Lambda, B, C))
    ssm = sr.DiagonalSSM(*held, D.astype(np.float32).astype(float))
    chunk = sr.responses.simulate_chunk(converted(ssm, as_array), as_array(u), state=as_array(state))
    driven = u.astype(float) @ ssm.B.T
    states = np.array([loop_scan(ssm.Lambda, v, x, reverse=False) for v, x in zip(driven, state, strict=True)])
    output = (states @ ssm.C.T).real + u @ ssm.D.T
    assert np.asarray(chunk.output).dtype == np.float32
    assert largest_errors(chunk.output, output).max() <= 2e-6
    np.testing.assert_array_less(np.abs(np.asarray(chunk.state) - states[:, -1]), 2e-6 * np.abs(states).max(1))


# ---------------------------------------------------------------- 50 digits


def mp_scan(Lambda, inputs, state):
    """States of one sequence (L, n), rounded to double precision."""
    states = np.empty(inputs.shape, complex)
    for i, pole in enumerate(map(_mp, Lambda)):
        x = _mp(state[i])
        for k, v in enumerate(inputs[:, i]):
            x = pole * x + _mp(v)
            states[k, i] = complex(x)
    return states


def _mp(value):
    return mp.mpc(complex(value))


def mp_simulate(ssm, u):
    """Output of a causal system, exact up to the final rounding."""
    x = [mp.mpc(0)] * ssm.order
    y = np.zeros((len(u), ssm.outputs))
    for k, sample in enumerate(u):
        drive = [mp.fsum(_mp(b) * mp.mpf(float(v)) for b, v in zip(row, sample, strict=True)) for row in ssm.B]
        x = [_mp(pole) * xi + v for pole, xi, v in zip(ssm.Lambda, x, drive, strict=True)]
        for o in range(ssm.outputs):
            direct = mp.fsum(mp.mpf(float(d)) * mp.mpf(float(v)) for d, v in zip(ssm.D[o], sample, strict=True))
            y[k, o] = ssm.kappa * mp.fsum(_mp(c) * xi for c, xi in zip(ssm.C[o], x, strict=True)).real + direct
    return y


def mp_impulse_response(ssm, length):
    """Causal impulse response of the first input and output by direct powers."""
    modes = [(_mp(c) * _mp(b), _mp(pole)) for c, pole, b in _modes(ssm)]
    response = [ssm.kappa * mp.fsum((gain * pole**k).real for gain, pole in modes) for k in range(length)]
    response[0] += mp.mpf(float(ssm.D[0, 0]))
    return np.array([float(h) for h in response])


def mp_frequency_response(ssm, omega):
    """Response of the first input and output, both halves."""

    def value(w):
        z = mp.expj(-mp.mpf(float(w)))
        halves = [(ssm.C, z)] + ([(ssm.C_reverse, 1 / z)] if ssm.bidirectional else [])
        total = mp.mpf(float(ssm.D[0, 0]))
        for C, delay in halves:
            for c, pole, b in zip(C[0], ssm.Lambda, ssm.B[:, 0], strict=True):
                gain, pole = _mp(c) * _mp(b), _mp(pole)
                total += ssm.kappa / 2 * (gain / (1 - pole * delay) + mp.conj(gain) / (1 - mp.conj(pole) * delay))
        return complex(total)

    return np.array([value(w) for w in omega])


def mp_h2_norm(ssm):
    """Norm of a causal system with one input and output, from all pairs of its 2 n modes."""
    modes = [(_mp(c) * _mp(b) * ssm.kappa / 2, _mp(pole)) for c, pole, b in _modes(ssm)]
    modes += [(mp.conj(gain), mp.conj(pole)) for gain, pole in modes]
    lag0 = mp.fsum(gain for gain, _ in modes).real + mp.mpf(float(ssm.D[0, 0]))
    tail = mp.fsum(
        (gi * mp.conj(gj) * li * mp.conj(lj) / (1 - li * mp.conj(lj))).real for gi, li in modes for gj, lj in modes
    )
    return float(mp.sqrt(lag0**2 + tail))


def mp_one_minus_abs(z):
    """1 - abs(z), rounded once."""
    return float(1 - abs(_mp(z)))


def _modes(ssm):
    return list(zip(ssm.C[0], ssm.Lambda, ssm.B[:, 0], strict=True))


# ---------------------------------------------------------------- models in memory


def lru_tree(rng, n=6, width=3):
    """Parameters of one LRU core, float32."""
    shapes = {"B_re": (n, width), "B_im": (n, width), "C_re": (width, n), "C_im": (width, n), "D": (width,)}
    tree = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    nu = rng.uniform(-4, 0, n)
    poles = {"nu_log": nu, "theta_log": rng.uniform(-2, 1, n), "gamma_log": rng.uniform(-2, 0, n)}
    return tree | {name: value.astype(np.float32) for name, value in poles.items()}


def s5_tree(rng, n=6, width=3, *, bidirectional=False):
    """Parameters of one Flax S5 layer, float32."""
    outputs = ("C1", "C2") if bidirectional else ("C",)
    tree = {"B": rng.normal(size=(n, width, 2)), "D": rng.normal(size=width)}
    tree |= {name: rng.normal(size=(width, n, 2)) for name in outputs}
    tree |= {"Lambda_re": -rng.uniform(0.1, 1, n), "Lambda_im": rng.normal(size=n) * 3}
    tree["log_step"] = rng.uniform(-4, -1, (n, 1))
    return {name: value.astype(np.float32) for name, value in tree.items()}


def s4d_tree(rng, n=5, width=3):
    """Parameters of one S4D layer, float32."""
    kernel = {
        "kernel.C": rng.normal(size=(width, n, 2)),
        "kernel.log_dt": rng.uniform(-4, -1, width),
        "kernel.log_A_real": rng.uniform(-2, 0, (width, n)),
        "kernel.A_imag": rng.normal(size=(width, n)) * 3,
        "D": rng.normal(size=width),
    }
    return {name: value.astype(np.float32) for name, value in kernel.items()}


def model_of(*layers, adapter=None):
    """Model of in-memory layers named layers.0, layers.1, ... beside a parameter that is none."""
    params = {f"layers.{i}.{name}": value for i, layer in enumerate(layers) for name, value in layer.items()}
    return sr.read({"head.weight": np.arange(3, dtype=np.float16), **params}, adapter=adapter)


def coordinates(ssm, u):
    """Coordinates and inputs (batch * L, N + m) of one system, one sample at a time."""
    halves = [False] + [True] * ssm.bidirectional
    states = np.zeros((*u.shape[:2], ssm.order, len(halves)), complex)
    for h, backwards in enumerate(halves):
        for row, sequence in enumerate(u):
            x = np.zeros(ssm.order, complex)
            steps = range(len(sequence))
            for k in reversed(steps) if backwards else steps:
                x = ssm.Lambda * x + ssm.B @ sequence[k]
                states[row, k, :, h] = x
    pairs = np.stack([states.real, states.imag], axis=-1).reshape(*u.shape[:2], -1)
    return np.concatenate([pairs, u], axis=-1).reshape(-1, pairs.shape[-1] + u.shape[-1])
