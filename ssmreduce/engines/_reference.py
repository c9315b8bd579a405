"""The reference engine: plain array code in any namespace, the documentation and the oracle of the other engines."""

from .._support.arrays import Array, namespace
from ._layer import Layer, Products


def prepare(layer: Layer) -> Products:
    """The layer ready to run: see `Products.run`."""
    return Products(layer, scan)


def scan(Lambda: Array, inputs: Array, state: Array, *, reverse: bool) -> Array:
    """States x_k = Lambda x_{k-1} + v_k of S systems on R sequences each.

    The state is carried in double precision where the namespace has it (JAX as it comes has not), and rounded where it
    is stored: rounding errors of single precision would pile up over long sequences.

    Parameters
    ----------
    Lambda : array, shape (S, n), complex
    inputs : array, shape (S, R, L, n), complex
        v_k = B u_k. An engine may overwrite it.
    state : array, shape (S, R, n), complex
        State before the first sample (after the last one if `reverse`).
    reverse : bool
        Run from the last sample to the first: x_k = Lambda x_{k+1} + v_k.

    Returns
    -------
    array, shape (S, R, L, n), complex
    """
    xp, length = namespace(inputs), inputs.shape[2]
    wide = xp.result_type(inputs.dtype, xp.float64)
    Lambda, state = (xp.astype(a, wide, copy=False) for a in (Lambda[:, None, :], state))
    states = {}
    for k in range(length - 1, -1, -1) if reverse else range(length):
        state = Lambda * state + inputs[:, :, k, :]
        states[k] = xp.astype(state, inputs.dtype, copy=False)
    return xp.stack([states[k] for k in range(length)], axis=2)
