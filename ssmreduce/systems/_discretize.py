r"""Continuous to discrete time and back, free of cancellation near :math:`|\lambda| = 1`.

All four functions work in the namespace of their input and broadcast: the continuous poles ``A`` have shape (..., n),
``B`` has shape (..., n, m), ``step`` broadcasts against ``A``. ``B`` is the one of the scan form, in which
:math:`u_k` acts on :math:`x_k` (the same matrix as in the textbook form).
"""

from .._support.arrays import Array, namespace, one_minus_abs


def _expm1(z: Array) -> Array:
    """exp(z) - 1 of a complex array, each part to full relative accuracy for Re z <= 0."""
    xp = namespace(z)
    re, im = xp.real(z), xp.imag(z)
    real = xp.expm1(re) * xp.cos(im) - 2.0 * xp.sin(im / 2.0) ** 2
    return real + 1j * (xp.exp(re) * xp.sin(im))


def _log(Lambda: Array) -> Array:
    """Principal logarithm, whose real part is accurate near the unit circle."""
    xp = namespace(Lambda)
    gap = one_minus_abs(Lambda)
    near = xp.log1p(-xp.where(xp.abs(gap) < 0.5, gap, xp.zeros_like(gap)))
    real = xp.where(xp.abs(gap) < 0.5, near, xp.log(xp.abs(Lambda)))
    return real + 1j * xp.atan2(xp.imag(Lambda), xp.real(Lambda))


def _phi1(z: Array) -> Array:
    """(exp(z) - 1) / z, 1 at z = 0."""
    xp = namespace(z)
    zero = z == 0
    safe = xp.where(zero, xp.ones_like(z), z)
    return xp.where(zero, xp.ones_like(z), _expm1(safe) / safe)


def zoh(A: Array, B: Array, step: Array) -> tuple[Array, Array]:
    r"""Zero-order hold: :math:`\Lambda = e^{A\Delta}`, :math:`\bar B = A^{-1}(e^{A\Delta} - I) B`.

    Parameters
    ----------
    A : array, shape (..., n), complex128
        Continuous-time poles (rad per unit of `step`).
    B : array, shape (..., n, m), complex128
        Continuous-time input matrix.
    step : array, broadcastable to (..., n), float64
        Step size.

    Returns
    -------
    Lambda : array, shape (..., n), complex128
    B_bar : array, shape (..., n, m), complex128

    Notes
    -----
    Promote float32 parameters to double *before* the call: rounded in single precision, :math:`1 - |\lambda|` is 40 %
    wrong at 1e-7. See Smith et al., "Simplified State Space Layers for Sequence Modeling", ICLR 2023, eq. (6).

    Examples
    --------
    >>> import numpy as np
    >>> Lambda, B_bar = zoh(np.array([-1 + 0j]), np.array([[1 + 0j]]), 0.1)
    >>> Lambda.real.round(6), B_bar.real.round(6)
    (array([0.904837]), array([[0.095163]]))
    """
    xp = namespace(A)
    z = A * step
    return xp.exp(z), (step * _phi1(z))[..., None] * B


def inverse_zoh(Lambda: Array, B_bar: Array, step: Array) -> tuple[Array, Array]:
    r"""Continuous-time poles and inputs whose zero-order hold is the given pair (principal logarithm).

    Parameters
    ----------
    Lambda : array, shape (..., n), complex128
        Discrete poles, none of them 0 (its logarithm is infinite).
    B_bar : array, shape (..., n, m), complex128
    step : array, broadcastable to (..., n), float64

    Returns
    -------
    A : array, shape (..., n), complex128
        With :math:`|\mathrm{Im}\,A| \le \pi / \Delta`.
    B : array, shape (..., n, m), complex128

    Examples
    --------
    >>> import numpy as np
    >>> A, B = inverse_zoh(*zoh(np.array([-1 + 2j]), np.array([[3j]]), 0.1), 0.1)
    >>> A.round(12), B.round(12)
    (array([-1.+2.j]), array([[0.+3.j]]))
    """
    z = _log(Lambda)
    return z / step, B_bar / (step * _phi1(z))[..., None]


def bilinear(A: Array, B: Array, step: Array) -> tuple[Array, Array]:
    r"""Bilinear (Tustin) transform as S4 and S5 use it.

    :math:`\Lambda = (1 - A\Delta/2)^{-1}(1 + A\Delta/2)`, :math:`\bar B = (1 - A\Delta/2)^{-1} \Delta B`
    (Gu et al., "Efficiently Modeling Long Sequences with Structured State Spaces", ICLR 2022, eq. (3)).

    Parameters
    ----------
    A : array, shape (..., n), complex128
        Continuous-time poles.
    B : array, shape (..., n, m), complex128
    step : array, broadcastable to (..., n), float64

    Returns
    -------
    Lambda : array, shape (..., n), complex128
    B_bar : array, shape (..., n, m), complex128

    Examples
    --------
    >>> import numpy as np
    >>> Lambda, B_bar = bilinear(np.array([-1 + 0j]), np.array([[1 + 0j]]), 2.0)
    >>> Lambda.real, B_bar.real
    (array([0.]), array([[1.]]))
    """
    half = A * step / 2.0
    return (1.0 + half) / (1.0 - half), (step / (1.0 - half))[..., None] * B


def inverse_bilinear(Lambda: Array, B_bar: Array, step: Array) -> tuple[Array, Array]:
    r"""Continuous-time poles and inputs whose bilinear transform is the given pair.

    Parameters
    ----------
    Lambda : array, shape (..., n), complex128
        Discrete poles, none of them -1 (it stands for an infinite pole).
    B_bar : array, shape (..., n, m), complex128
    step : array, broadcastable to (..., n), float64

    Returns
    -------
    A : array, shape (..., n), complex128
    B : array, shape (..., n, m), complex128

    Notes
    -----
    :math:`\mathrm{Re}\,A = -\tfrac{2}{\Delta} (1 - |\lambda|^2) / |1 + \lambda|^2` is formed from the accurate
    :math:`1 - |\lambda|`.

    Examples
    --------
    >>> import numpy as np
    >>> A, B = inverse_bilinear(*bilinear(np.array([-1 + 2j]), np.array([[3j]]), 0.1), 0.1)
    >>> A.round(12), B.round(12)
    (array([-1.+2.j]), array([[-0.+3.j]]))
    """
    xp = namespace(Lambda)
    gap = one_minus_abs(Lambda)
    distance2 = xp.real(1.0 + Lambda) ** 2 + xp.imag(Lambda) ** 2
    half = (-gap * (1.0 + xp.abs(Lambda)) + 2j * xp.imag(Lambda)) / distance2
    return 2.0 * half / step, B_bar * ((1.0 - half) / step)[..., None]


METHODS = {"zoh": (zoh, inverse_zoh), "bilinear": (bilinear, inverse_bilinear)}
"""Discretisation by name: (forward, inverse)."""
