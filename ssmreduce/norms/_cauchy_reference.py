"""The Cauchy factor as plain array code in any namespace, differentiable; the compiled loops are in `_cauchy`."""

import array_api_compat

from .._support.arrays import Array, namespace


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
