"""Closed-form Gramian kernels of diagonal systems."""

from ._arrays import Array, namespace, one_minus_abs2


def one_minus_products(left: Array, right: Array) -> Array:
    r"""Matrix of :math:`1 - \lambda_i \bar\mu_j` without cancellation near the unit circle.

    The real part is :math:`\tfrac12[(1 - |\lambda_i|^2) + (1 - |\mu_j|^2) + |\lambda_i - \mu_j|^2]`, a sum of positive
    terms for stable poles; the imaginary part is :math:`-\mathrm{Im}((\lambda_i - \mu_j) \bar\mu_j)`.

    Parameters
    ----------
    left : array, shape (..., n), complex128
    right : array, shape (..., k), complex128

    Returns
    -------
    array, shape (..., n, k), complex128
    """
    xp = namespace(left)
    gaps = one_minus_abs2(left)[..., :, None] + one_minus_abs2(right)[..., None, :]
    difference = left[..., :, None] - right[..., None, :]
    real = 0.5 * (gaps + xp.real(difference) ** 2 + xp.imag(difference) ** 2)
    return real - 1j * xp.imag(difference * xp.conj(right)[..., None, :])
