"""The diagonal scan on plain arrays of any library, differentiable in PyTorch and JAX."""

from math import prod

import array_api_compat
import numpy as np

from .._support.arrays import Array, as_array, namespace
from ..engines import engine_for
from ..errors import ArrayKindError, ShapeError


def scan(
    Lambda: Array,
    inputs: Array,
    state: Array | None = None,
    *,
    reverse: bool = False,
    engine: str | None = None,
) -> Array:
    r"""States of a diagonal recurrence, for model code of your own: what `simulate` does between its products.

    .. math:: x_k = \Lambda x_{k-1} + v_k, \qquad \text{or, in reverse,} \quad x_k = \Lambda x_{k+1} + v_k

    Parameters
    ----------
    Lambda : array, shape (..., n), real or complex
        Poles, also unstable ones. Leading axes are independent systems, such as the features of S4D.
    inputs : array, shape (..., L, n), complex64 or complex128
        :math:`v_k = B u_k`, L >= 1. The axes before L end with the leading axes of `Lambda`. Their precision decides
        the arithmetic; `Lambda` and `state` are converted to it. States beyond its range are ``inf``.
    state : array, shape (..., n), complex, optional
        State before the first sample (in reverse, after the last), one for each sequence; 0 by default.
    reverse : bool, default False
        Run from the last sample to the first.
    engine : {"numba", "torch", "jax", "cupy", "cupy-look-back", "reference"}, optional
        By default the one of the library of `inputs`: Numba for NumPy arrays.

    Returns
    -------
    array, shape (..., L, n), dtype of `inputs`

    Raises
    ------
    ShapeError
        Shapes that do not fit, or L = 0.
    ArrayKindError
        `inputs` that are not complex, text or objects for numbers, or arrays of two libraries.
    UnknownNameError
        An engine that is not there, or does not serve the library.

    Notes
    -----
    In PyTorch and JAX it can be differentiated any number of times, in both modes; the gradient is a scan in the other
    direction. It works under `torch.compile` and `torch.func`, `jax.jit` and `jax.vmap`; see :doc:`/theory/engines`.

    Examples
    --------
    >>> scan(np.array([0.5]), np.array([[1.0 + 0j], [0.0], [0.0]])).real.ravel()
    array([1.  , 0.5 , 0.25])
    """
    Lambda, inputs = as_array(Lambda, "Lambda"), as_array(inputs, "inputs")
    state = None if state is None else as_array(state, "state")
    if isinstance(inputs, np.ndarray):
        inputs = inputs.astype(inputs.dtype.newbyteorder("="), copy=False)
    xp = namespace(Lambda, inputs, state)
    if inputs.dtype not in (xp.complex64, xp.complex128):
        raise ArrayKindError(f"inputs has dtype {inputs.dtype}; expected complex64 or complex128")
    rows, batch = _axes(Lambda, inputs)
    shape = (prod(rows), prod(batch), *inputs.shape[-2:])
    if state is None:
        state = xp.zeros((*rows, *batch, shape[-1]), dtype=inputs.dtype, device=array_api_compat.device(inputs))
    elif tuple(state.shape) != (*rows, *batch, shape[-1]):
        raise ShapeError(f"state has shape {tuple(state.shape)}, expected {(*rows, *batch, shape[-1])}")
    v = xp.permute_dims(xp.reshape(inputs, shape), (1, 0, 2, 3))
    states = engine_for(inputs, engine).scan(
        xp.astype(xp.reshape(Lambda, (shape[1], shape[3])), inputs.dtype),
        v.copy(order="C") if isinstance(v, np.ndarray) else v,
        xp.permute_dims(xp.reshape(xp.astype(state, inputs.dtype), (*shape[:2], shape[3])), (1, 0, 2)),
        reverse=reverse,
    )
    return xp.reshape(xp.permute_dims(states, (1, 0, 2, 3)), tuple(inputs.shape))


def _axes(Lambda: Array, inputs: Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axes of the sequences and axes of the systems."""
    lead, batch = tuple(inputs.shape[:-2]), tuple(Lambda.shape[:-1])
    rows = lead[: max(0, len(lead) - len(batch))]
    fits = Lambda.ndim >= 1 and inputs.ndim >= 2 and Lambda.shape[-1] == inputs.shape[-1] and lead == rows + batch
    if not fits or inputs.shape[-2] < 1:
        raise ShapeError(
            f"inputs has shape {tuple(inputs.shape)}; with Lambda {tuple(Lambda.shape)} it must be "
            f"(..., {', '.join(map(str, (*batch, 'L', *Lambda.shape[-1:])))}) with L >= 1"
        )
    return rows, batch
