"""Drop-in Equinox layer: one diagonal system in real parameters, trainable."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..systems import DiagonalSSM
from ._flat import Parts, Structure, real_parameters, system_of
from ._jax_layers import Matrices, matrices, respond, step


class EquinoxLayer(eqx.Module):
    r"""A state-space layer of a `DiagonalSSM` in Equinox, in place of the one that it was read from.

    .. math:: x_k = \Lambda x_{k-1} + B u_k, \qquad y_k = \mathrm{Re}(C x_k) + D u_k, \qquad
              \lambda_i = e^{-e^{\nu_i} + j \theta_i \delta_i}

    Its parameters are real, the modulus of a pole stays below 1 whatever an optimiser does (above 1 for a pole that was
    unstable), and its angle moves in units :math:`\delta_i` of its own width.

    Parameters
    ----------
    ssm : DiagonalSSM, or pair of Structure and parameters
        Causal or bidirectional; with leading axes the systems of a batch stand side by side, as in S4D.
    valid : ndarray, shape (s, n), bool, optional
        Which states of each system of a batch there are. By default those with an input and an output.
    channels_first : bool, default False
        Inputs and outputs are (..., width, L).
    others : int, default 0
        The layer returns a tuple: the outputs and this many times None.
    dtype : dtype, default float32

    Attributes
    ----------
    log_rate, angle : array, shape (N,)
        N is the number of all states, those of a batch one system after the other.
    B : array, shape (N, m, 2)
    C, C_reverse : array, shape (N, p, 2)
        The factor 2 of a `conj_sym` system is in them.
    D : array, shape (s * m,) where it is diagonal, else (s, p, m)

    Examples
    --------
    >>> import numpy as np
    >>> import ssmreduce as sr
    >>> layer = EquinoxLayer(sr.DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]]))
    >>> np.asarray(layer(np.array([[1.0], [0.0], [0.0]], dtype=np.float32))).ravel()
    array([1.  , 0.5 , 0.25], dtype=float32)
    """

    log_rate: jax.Array
    angle: jax.Array
    B: jax.Array
    C: jax.Array
    C_reverse: jax.Array | None
    D: jax.Array
    structure: Structure = eqx.field(static=True)
    channels_first: bool = eqx.field(static=True)
    others: int = eqx.field(static=True)

    def __init__(
        self,
        ssm: DiagonalSSM | Parts,
        *,
        valid: np.ndarray | None = None,
        channels_first: bool = False,
        others: int = 0,
        dtype: Any = jnp.float32,
    ) -> None:
        self.structure, values = ssm if isinstance(ssm, tuple) else real_parameters(ssm, valid)
        self.channels_first, self.others = channels_first, others
        self.C_reverse = None
        for name, value in values.items():
            setattr(self, name, jnp.asarray(value, dtype))

    @property
    def parameters(self) -> dict[str, jax.Array]:
        """Real parameters by name."""
        names = ("log_rate", "angle", "B", "C", "C_reverse", "D")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def system(self) -> DiagonalSSM:
        """The layer as a system in double precision, the systems of a batch padded with silent states."""
        return system_of(self.structure, self.parameters)

    def _matrices(self) -> Matrices:
        return matrices(self.structure, self.parameters)

    def __call__(self, u: jax.Array, *_: Any, **__: Any) -> Any:
        """Outputs (..., L, width out) of inputs (..., L, width); further arguments are not used."""
        u = jnp.asarray(u)
        y = respond(self.structure, self._matrices(), jnp.swapaxes(u, -1, -2) if self.channels_first else u)[0]
        y = jnp.swapaxes(y, -1, -2) if self.channels_first else y
        return (y, *[None] * self.others) if self.others else y

    def initial_state(self, *lead: int) -> jax.Array:
        """State before the first sample, zeros (..., N, 2); the last axis is (re, im)."""
        return jnp.zeros((*lead, self.structure.states, 2), self.B.dtype)

    def run(self, u: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Outputs of a chunk (..., L, width) of a long sequence, and the state (..., N, 2) for the next chunk."""
        return respond(self.structure, self._matrices(), u, state, carry=True)

    def step(self, u: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One sample: outputs (..., width out) of inputs (..., width), and the next state (..., N, 2)."""
        return step(self.structure, self._matrices(), u, state)
