"""The reference engine: plain array code in any namespace, the documentation and the oracle of the other engines."""

import array_api_compat

from .._arrays import Array, namespace
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


def cauchy_factor(Lambda: Array, gaps: Array, rows: Array) -> Array:
    """Factor L with L L^* = P, P - Lambda P Lambda^* = rows rows^*, by pivoted elimination of one pole a step.

    Parameters
    ----------
    Lambda : array, shape (..., n), complex
    gaps : array, shape (..., n), real
        1 - abs(Lambda)**2, accurately.
    rows : array, shape (..., n, m), complex

    Returns
    -------
    array, shape (..., n, n), complex
        Columns beyond the rank are 0. Differentiable with the pivots held fixed.
    """
    xp = namespace(Lambda)
    columns = []
    for _ in range(Lambda.shape[-1]):
        squares = xp.sum(xp.real(rows) ** 2 + xp.imag(rows) ** 2, axis=-1)
        k = xp.argmax(squares / gaps, axis=-1, keepdims=True)
        pole, gap = (xp.take_along_axis(a, k, axis=-1) for a in (Lambda, gaps))
        wide = xp.broadcast_to(k[..., None], (*k.shape, rows.shape[-1]))
        row = xp.take_along_axis(rows, wide, axis=-2)
        square = xp.take_along_axis(squares, k, axis=-1)
        alive = square > 0
        unit = xp.conj(row) / xp.sqrt(xp.where(alive, square, xp.ones_like(square)))[..., None]
        along = xp.sum(rows * unit, axis=-1)
        difference = Lambda - pole
        real = 0.5 * (gaps + gap + xp.real(difference) ** 2 + xp.imag(difference) ** 2)
        inverse = 1.0 / (real - 1j * xp.imag(difference * xp.conj(pole)))
        columns.append(along * xp.sqrt(gap) * inverse)
        blaschke = difference * inverse
        if rows.shape[-1] == 1:
            rows = rows * blaschke[..., None]
        else:
            rows = rows + ((blaschke - 1.0) * along)[..., None] * xp.conj(unit)
    if not columns:
        return xp.zeros((*Lambda.shape, 0), dtype=Lambda.dtype, device=array_api_compat.device(Lambda))
    return xp.stack(columns, axis=-1)
