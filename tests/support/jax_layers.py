"""Live layers in JAX under the names of the originals: LinOSS in Equinox, the annotated S4 and Event-SSM in Flax."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp


class LinOSS(eqx.Module):
    """One sequence (L, H) in, one out: an oscillator step after step."""

    A_diag: jax.Array
    B: jax.Array
    C: jax.Array
    D: jax.Array
    steps: jax.Array
    discretization: str = eqx.field(static=True)

    def __init__(self, width, oscillators, discretization, *, key):
        keys = jax.random.split(key, 5)
        self.A_diag = jax.random.uniform(keys[0], (oscillators,), minval=0.1)
        self.B = jax.random.normal(keys[1], (oscillators, width, 2)) / width**0.5
        self.C = jax.random.normal(keys[2], (width, oscillators, 2)) / oscillators**0.5
        self.D = jax.random.normal(keys[3], (width,))
        self.steps = jax.random.normal(keys[4], (oscillators,))
        self.discretization = discretization

    def __call__(self, u):
        a, t = jax.nn.relu(self.A_diag), jax.nn.sigmoid(self.steps)
        drive = u @ (self.B[..., 0] + 1j * self.B[..., 1]).T

        def step(state, value):
            z, x = state
            z = z - t * a * x + t * value
            z = z / (1 + t**2 * a) if self.discretization == "IM" else z
            x = x + t * z
            return (z, x), x

        zeros = jnp.zeros(a.shape, drive.dtype)
        _, x = jax.lax.scan(step, (zeros, zeros), drive)
        return (x @ (self.C[..., 0] + 1j * self.C[..., 1]).T).real + self.D * u


class S4DKernel(eqx.Module):
    """Kernel of the S4D of discretax, shape (H, L)."""

    C: jax.Array
    log_dt: jax.Array
    log_a_real: jax.Array
    A_imag: jax.Array

    def __call__(self, length):
        step = jnp.exp(self.log_dt)[:, None]
        A = -jnp.exp(self.log_a_real) + 1j * self.A_imag
        powers = jnp.exp((step * A)[..., None] * jnp.arange(length))
        return 2 * jnp.einsum("hn,hnl->hl", self.C * (jnp.exp(step * A) - 1) / A, powers).real


class S4D(eqx.Module):
    """The S4D of discretax: one sequence (L, H) in, one out."""

    kernel: S4DKernel

    def __init__(self, width, states, *, key):
        C = jax.random.normal(key, (width, states), jnp.complex64)
        imag = jnp.pi * jnp.tile(jnp.arange(states, dtype=jnp.float32), (width, 1))
        self.kernel = S4DKernel(C, jnp.linspace(-4, -1, width), jnp.full((width, states), jnp.log(0.5)), imag)

    def __call__(self, x, key=None):
        return _convolved(self.kernel(len(x)), x)


class Residual(eqx.Module):
    """A network around two layers of LinOSS, or of S4D."""

    encoder: eqx.nn.Linear
    blocks: list
    decoder: eqx.nn.Linear

    def __init__(self, discretization, *, key, width=4, states=5):
        keys = jax.random.split(key, 4)
        self.encoder = eqx.nn.Linear(1, width, key=keys[0])
        s4d = discretization == "s4d"
        make = S4D if s4d else lambda width, n, key: LinOSS(width, n, discretization, key=key)
        self.blocks = [make(width, states, key=k) for k in keys[1:3]]
        self.decoder = eqx.nn.Linear(width, 3, key=keys[3])

    def __call__(self, x):
        x = jax.vmap(self.encoder)(x)
        for block in self.blocks:
            x = x + jnp.tanh(block(x))
        return self.decoder(x.mean(0))


def _convolved(kernel, u):
    """Every feature of (L, H) with its kernel, shape (H, L)."""
    size = 2 * len(u)
    product = jnp.fft.rfft(kernel.T, size, axis=0) * jnp.fft.rfft(u, size, axis=0)
    return jnp.fft.irfft(product, size, axis=0)[: len(u)]


def _complex(module, name, shape, deviation=1.0):
    values = module.param(name, nn.initializers.normal(deviation), (*shape, 2))
    return values[..., 0] + 1j * values[..., 1]


class AnnotatedS4D(nn.Module):
    """The annotated S4D of all features in one module, parameters with the features last."""

    states: int

    @nn.compact
    def __call__(self, u):
        shape, normal = (self.states, u.shape[-1]), nn.initializers.normal
        A = jnp.minimum(self.param("A_re", nn.initializers.constant(-0.5), shape), -1e-4)
        A = A + 1j * self.param("A_im", normal(10.0), shape)
        self.param("B_re", normal(1.0), shape), self.param("B_im", normal(1.0), shape)  # which it does not use
        C = _complex(self, "C", shape)
        D = self.param("D", nn.initializers.ones, (1, shape[1]))
        step = jnp.exp(self.param("log_step", nn.initializers.constant(-3.0), (1, shape[1])))
        powers = jnp.exp(step[..., None] * A[..., None] * jnp.arange(len(u)))
        kernel = ((C * (jnp.exp(step * A) - 1) / A)[..., None] * powers).sum(0).real
        return _convolved(kernel, u) + D * u


class AnnotatedS4(nn.Module):
    """The annotated S4 of all features, by its recurrence; C stored times ``I - A^l_max``, conjugate."""

    states: int
    l_max: int

    @nn.compact
    def __call__(self, u):
        shape, normal = (self.states, u.shape[-1]), nn.initializers.normal
        a = jnp.minimum(self.param("Lambda_re", nn.initializers.constant(-0.5), shape), -1e-4)
        a = a + 1j * self.param("Lambda_im", normal(10.0), shape)
        P, B = (self.param(name, _gaussian, shape) for name in "PB")
        C = _complex(self, "C", shape).conj()
        D = self.param("D", nn.initializers.ones, (1, shape[1]))
        step = jnp.exp(self.param("log_step", nn.initializers.constant(-3.0), (1, shape[1])))

        def kernel_of(a, P, B, C, step):
            A, one = jnp.diag(a) - jnp.outer(P, P.conj()), jnp.eye(self.states)
            back = jnp.linalg.inv(one - step / 2 * A)
            dA, dB = back @ (one + step / 2 * A), step * (back @ B)
            C = C @ jnp.linalg.inv(one - jnp.linalg.matrix_power(dA, self.l_max))
            return jax.lax.scan(lambda x, _: (dA @ x, C @ x), dB, None, length=len(u))[1].real

        kernel = jax.vmap(kernel_of, in_axes=(1, 1, 1, 1, 0))(a, P, B, C, step[0])
        return _convolved(kernel, u) + D * u


def _gaussian(key, shape):
    return 0.5 * jax.random.normal(key, shape, jnp.complex64)


class EventSSM(nn.Module):
    """Event-SSM with the discretisation async, called with the times between its samples."""

    states: int

    @nn.compact
    def __call__(self, u, integration_timesteps):
        normal, (n, h) = nn.initializers.normal, (self.states, u.shape[-1])
        A = self.param("Lambda_re", nn.initializers.constant(-0.5), (n,)) + 1j * self.param(
            "Lambda_im", normal(10.0), (n,)
        )
        B = self.param("B", normal(1.0), (n, h, 2)) @ jnp.array([1, 1j])
        C = self.param("C", normal(0.5), (h, n, 2)) @ jnp.array([1, 1j])
        D = self.param("D", nn.initializers.ones, (h,))
        step = jnp.exp(self.param("log_step", nn.initializers.constant(-3.0), (n, 1)))[:, 0]
        drive = ((jnp.exp(A * step) - 1) / A) * (u @ B.T)

        def advance(x, value):
            time, row = value
            x = jnp.exp(A * step * time) * x + row
            return x, x

        _, x = jax.lax.scan(advance, jnp.zeros(n, drive.dtype), (integration_timesteps, drive))
        return 2 * (x @ C.T).real + D * u


class Around(nn.Module):
    """A network around two layers, over a batch by `nn.vmap` inside."""

    layer: type
    options: dict
    times: bool = False
    width: int = 4

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, name="encoder")(x)
        kind = nn.vmap(self.layer, in_axes=0, out_axes=0, variable_axes={"params": None}, split_rngs={"params": False})
        for index in range(2):
            more = (jnp.full(x.shape[:2], 1.5),) if self.times else ()
            x = x + jnp.tanh(kind(**self.options, name=f"layers_{index}")(x, *more))
        return nn.Dense(3, name="decoder")(x.mean(1))


FLAX = {
    "annotated_s4d": (AnnotatedS4D, {"states": 6}, False),
    "annotated_s4": (AnnotatedS4, {"states": 6, "l_max": 40}, False),
    "event_ssm": (EventSSM, {"states": 6}, True),
}
