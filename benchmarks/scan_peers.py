"""Other ways to run a diagonal layer: the honest best of each kind, with everything that can be prepared prepared.

Each function takes (layer, u) and returns a call without arguments whose result converts to NumPy (batch, L, H), or to
(batch, H, L) for the convolutions, which are given the layout that they like best.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import compiles with the deprecated torch.jit.script
    from s5.s5_model import apply_ssm


def packed(ssm):
    """Real matrices for u -> [re B u, im B u] and [re x, im x] -> kappa Re(C x), and the diagonal of D."""
    B = np.concatenate([ssm.B.real.T, ssm.B.imag.T], axis=1).astype(np.float32)
    C = np.concatenate([ssm.C.real.T, -ssm.C.imag.T], axis=0).astype(np.float32) * np.float32(ssm.kappa)
    return B, C, np.diagonal(ssm.D).astype(np.float32).copy()


def on_jax(function, u):
    """Compiled for the shape of u."""
    u = jnp.asarray(u)
    compiled = jax.jit(function).lower(u).compile()
    return lambda: compiled(u).block_until_ready()


def combine(left, right):
    return right[0] * left[0], right[0] * left[1] + right[1]


# ---------------------------------------------------------------- S5


def s5_products(ssm, u):
    """The two matrix products alone, in blocks of rows that stay in the caches, and nothing else."""
    B, C, _ = packed(ssm)
    rows = u.reshape(-1, u.shape[-1])
    states, y = np.empty((2048, B.shape[1]), np.float32), np.empty_like(rows)

    def run():
        for k in range(0, len(rows), 2048):
            part = rows[k : k + 2048]
            np.matmul(part, B, out=states[: len(part)])
            np.matmul(states[: len(part)], C, out=y[k : k + 2048])

    return run


def s5_associative_scan(ssm, u):
    """As S5 does it: complex products, and the scan over pairs."""
    Lambda, B, C = (jnp.asarray(a, jnp.complex64) for a in (ssm.Lambda, ssm.B, ssm.C * ssm.kappa))
    D = jnp.asarray(packed(ssm)[2])

    def one(sequence):
        driven = jax.vmap(lambda v: B @ v)(sequence.astype(jnp.complex64))
        _, x = jax.lax.associative_scan(combine, (jnp.tile(Lambda, (len(sequence), 1)), driven))
        return jax.vmap(lambda v: (C @ v).real)(x) + D * sequence

    return on_jax(jax.vmap(one), u)


def s5_lax_scan(ssm, u):
    """jax.lax.scan over time, with the products outside and real."""
    B, C, D = map(jnp.asarray, packed(ssm))
    n, re, im = ssm.order, jnp.asarray(ssm.Lambda.real, jnp.float32), jnp.asarray(ssm.Lambda.imag, jnp.float32)

    def step(x, v):
        x = (re * x[0] - im * x[1] + v[:, :n], im * x[0] + re * x[1] + v[:, n:])
        return x, jnp.concatenate(x, axis=1)

    def run(u):
        start = (jnp.zeros((len(u), n), jnp.float32),) * 2
        _, x = jax.lax.scan(step, start, jnp.swapaxes(u @ B, 0, 1))
        return jnp.swapaxes(x, 0, 1) @ C + D * u

    return on_jax(run, u)


def s5_pytorch(ssm, u):
    """The package s5-pytorch."""
    Lambda, B, C = (torch.tensor(a, dtype=torch.complex64) for a in (ssm.Lambda, ssm.B, ssm.C * ssm.kappa))
    D, given = torch.tensor(packed(ssm)[2]), torch.from_numpy(u)

    def run():
        with torch.inference_mode():
            return torch.vmap(lambda sequence: apply_ssm(Lambda, B, C, D, sequence)[0])(given)

    return run


def s5_torch_loop(ssm, u):
    B, C, D = map(torch.from_numpy, packed(ssm))
    Lambda, given, n = torch.tensor(ssm.Lambda, dtype=torch.complex64), torch.from_numpy(u), ssm.order

    def run():
        with torch.inference_mode():
            driven = (given @ B).transpose(0, 1)
            driven = torch.complex(driven[..., :n], driven[..., n:])
            for k in range(1, len(driven)):
                driven[k].addcmul_(Lambda, driven[k - 1])
            return torch.cat([driven.real, driven.imag], dim=-1).transpose(0, 1) @ C + D * given

    return run


def s5_numpy_loop(ssm, u):
    B, C, D = packed(ssm)
    Lambda, n = ssm.Lambda.astype(np.complex64), ssm.order
    B, C = (np.ascontiguousarray(a) for a in (interleaved(B.T, n).T, interleaved(C, n)))

    def run():
        states = (u @ B).view(np.complex64)
        x = np.zeros((len(u), n), np.complex64)
        for k in range(states.shape[1]):
            x = Lambda * x + states[:, k]
            states[:, k] = x
        return states.view(np.float32) @ C + D * u

    return run


def interleaved(rows, n):
    """[re; im] rows in the order re, im, re, im, ..."""
    return np.stack([rows[:n], rows[n:]], axis=1).reshape(rows.shape)


# ---------------------------------------------------------------- S4D


def kernel(ssm, length):
    """Impulse responses of all channels, (H, L) in double precision, D at lag 0."""
    Lambda, gain = ssm.Lambda, ssm.kappa * ssm.C[:, 0] * ssm.B[..., 0]
    K, power = np.empty((len(Lambda), length)), np.ones_like(Lambda)
    for k in range(length):
        K[:, k] = np.sum(gain * power, axis=-1).real
        power = power * Lambda
    K[:, 0] += ssm.D[:, 0, 0]
    return K


def s4d_torch_fft(ssm, u):
    length = u.shape[1]
    size = scipy.fft.next_fast_len(2 * length - 1, real=True)
    given = torch.from_numpy(np.ascontiguousarray(u.swapaxes(1, 2)))
    spectrum = torch.fft.rfft(torch.tensor(kernel(ssm, length), dtype=torch.float32), size)

    def run():
        with torch.inference_mode():
            return torch.fft.irfft(torch.fft.rfft(given, size) * spectrum, size)[..., :length]

    return run


def s4d_scipy_fft(ssm, u):
    length = u.shape[1]
    size = scipy.fft.next_fast_len(2 * length - 1, real=True)
    given = np.ascontiguousarray(u.swapaxes(1, 2))
    spectrum = scipy.fft.rfft(kernel(ssm, length).astype(np.float32), size)
    return lambda: scipy.fft.irfft(scipy.fft.rfft(given, size) * spectrum, size)[..., :length]


def s4d_jax_fft(ssm, u):
    length = u.shape[1]
    size = scipy.fft.next_fast_len(2 * length - 1, real=True)
    spectrum = jnp.fft.rfft(jnp.asarray(kernel(ssm, length), jnp.float32), size)
    given = np.ascontiguousarray(u.swapaxes(1, 2))
    return on_jax(lambda v: jnp.fft.irfft(jnp.fft.rfft(v, size) * spectrum, size)[..., :length], given)


def s4d_published(ssm, u):
    """As S4D does it: the kernel from a Vandermonde product at each call, then the convolution."""
    length = u.shape[1]
    given = torch.from_numpy(np.ascontiguousarray(u.swapaxes(1, 2)))
    exponent = torch.tensor(np.log(ssm.Lambda), dtype=torch.complex64)
    gain = torch.tensor(ssm.kappa * ssm.C[:, 0] * ssm.B[..., 0], dtype=torch.complex64)
    D = torch.tensor(ssm.D[:, 0], dtype=torch.float32)

    def run():
        with torch.inference_mode():
            steps = torch.arange(length)
            K = torch.einsum("hn,hnl->hl", gain, torch.exp(exponent[..., None] * steps)).real
            spectrum = torch.fft.rfft(K, 2 * length)
            return torch.fft.irfft(torch.fft.rfft(given, 2 * length) * spectrum, 2 * length)[..., :length] + D * given

    return run


def s4d_associative_scan(ssm, u):
    Lambda, B, C = (jnp.asarray(a, jnp.complex64) for a in (ssm.Lambda, ssm.B[..., 0], ssm.kappa * ssm.C[:, 0]))
    D = jnp.asarray(ssm.D[:, 0, 0], jnp.float32)

    def one(sequence):
        driven = B * sequence[..., None]
        _, x = jax.lax.associative_scan(combine, (jnp.broadcast_to(Lambda, driven.shape), driven))
        return jnp.sum(C * x, axis=-1).real + D * sequence

    return on_jax(jax.vmap(one), u)


def s4d_lax_scan(ssm, u):
    Lambda, B, C = (jnp.asarray(a, jnp.complex64) for a in (ssm.Lambda, ssm.B[..., 0], ssm.kappa * ssm.C[:, 0]))
    D = jnp.asarray(ssm.D[:, 0, 0], jnp.float32)

    def step(x, v):
        x = Lambda * x + B * v[..., None]
        return x, jnp.sum(C.real * x.real - C.imag * x.imag, axis=-1) + D * v

    def run(u):
        start = jnp.zeros((len(u), *Lambda.shape), jnp.complex64)
        return jnp.swapaxes(jax.lax.scan(step, start, jnp.swapaxes(u, 0, 1))[1], 0, 1)

    return on_jax(run, u)


def s4d_numpy_loop(ssm, u):
    Lambda, B, C = (a.astype(np.complex64) for a in (ssm.Lambda, ssm.B[..., 0], ssm.kappa * ssm.C[:, 0]))
    D = ssm.D[:, 0, 0].astype(np.float32)

    def run():
        y, x = np.empty_like(u), np.zeros((len(u), *Lambda.shape), np.complex64)
        for k in range(u.shape[1]):
            x *= Lambda
            x += B * u[:, k, :, None]
            y[:, k] = np.einsum("hn,bhn->bh", C, x).real + D * u[:, k]
        return y

    return run
