"""Drop-in Flax layer: one diagonal system in real parameters, trainable."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ..systems import DiagonalSSM
from ._flat import real_parameters
from ._jax_layers import Matrices, matrices, respond, step


class FlaxLayer(nn.Module):
    r"""A state-space layer of a `DiagonalSSM` in Flax (linen), for networks of your own.

    .. math:: x_k = \Lambda x_{k-1} + B u_k, \qquad y_k = \mathrm{Re}(C x_k) + D u_k, \qquad
              \lambda_i = e^{-e^{\nu_i} + j \theta_i \delta_i}

    ``init`` gives the parameters of the system. They are real, the modulus of a pole stays below 1 whatever an
    optimiser does (above 1 for a pole that was unstable), and its angle moves in units :math:`\delta_i` of its own
    width.

    Parameters
    ----------
    ssm : DiagonalSSM
        Causal or bidirectional; with leading axes the systems of a batch stand side by side, as in S4D. States of a
        batch without input or output are left out.
    channels_first : bool, default False
        Inputs and outputs are (..., width, L).
    param_dtype : dtype, default float32

    Notes
    -----
    Parameters, N being the number of all states: ``log_rate`` and ``angle`` (N,), ``B`` (N, m, 2), ``C`` (N, p, 2) with
    the factor 2 of a `conj_sym` system in it, ``C_reverse``, and ``D``, a vector where it is diagonal, else (s, p, m).
    Give them no weight decay, except for C and D.

    Examples
    --------
    >>> import jax, numpy as np
    >>> import ssmreduce as sr
    >>> layer = FlaxLayer(sr.DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]]))
    >>> u = np.array([[1.0], [0.0], [0.0]], dtype=np.float32)
    >>> variables = layer.init(jax.random.key(0), u)
    >>> np.asarray(layer.apply(variables, u)).ravel()
    array([1.  , 0.5 , 0.25], dtype=float32)
    """

    ssm: DiagonalSSM
    channels_first: bool = False
    param_dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        self._structure, values = real_parameters(self.ssm)
        self._parameters = {name: self._declared(name, value) for name, value in values.items()}

    def _declared(self, name: str, value: np.ndarray) -> jax.Array:
        return self.param(name, lambda _: jnp.asarray(value, self.param_dtype))

    def _matrices(self) -> Matrices:
        return matrices(self._structure, self._parameters)

    def __call__(self, u: jax.Array) -> jax.Array:
        """Outputs (..., L, width out) of inputs (..., L, width)."""
        if self.channels_first:
            return jnp.swapaxes(respond(self._structure, self._matrices(), jnp.swapaxes(u, -1, -2))[0], -1, -2)
        return respond(self._structure, self._matrices(), u)[0]

    def initial_state(self, *lead: int) -> jax.Array:
        """State before the first sample, zeros (..., N, 2); the last axis is (re, im)."""
        return jnp.zeros((*lead, self._structure.states, 2), self.param_dtype)

    def run(self, u: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Outputs of a chunk (..., L, width) of a long sequence, and the state (..., N, 2) for the next chunk."""
        return respond(self._structure, self._matrices(), u, state, carry=True)

    def step(self, u: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One sample: outputs (..., width out) of inputs (..., width), and the next state (..., N, 2)."""
        return step(self._structure, self._matrices(), u, state)
