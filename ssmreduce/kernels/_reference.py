"""The reference engine: plain array code in any namespace, the documentation and the oracle of the other engines."""

from .._arrays import Array, namespace


def scan(Lambda: Array, inputs: Array, state: Array, *, reverse: bool) -> Array:
    """States x_k = Lambda x_{k-1} + v_k of S systems on R sequences each.

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
    length = inputs.shape[2]
    steps = range(length - 1, -1, -1) if reverse else range(length)
    states = {}
    for k in steps:
        state = Lambda[:, None, :] * state + inputs[:, :, k, :]
        states[k] = state
    return namespace(inputs).stack([states[k] for k in range(length)], axis=2)
