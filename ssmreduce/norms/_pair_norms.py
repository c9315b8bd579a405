"""H-infinity norms of single states as real systems: a stored state together with its conjugate."""

from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from .._support.arrays import Array, namespace, one_minus_abs, to_numpy
from ..systems import DiagonalSSM
from ..systems._systems import require_diagonal
from ._cancellation import binary_exponent, largest_part, power_of_two
from .peak import peak_gain

_POLISH = 4
_RTOL = 1e-12
_NO_POLE = 1e-30  # modulus below which the gain of a state is the same at all frequencies


def pair_hinf_norms(ssm: DiagonalSSM, *, threads: int | None = None) -> Array:
    r"""H-infinity norm of what each stored state contributes to the output, as a real system.

    .. math:: G_i(z) = \tfrac{\kappa}{2} \left[ \frac{c_i b_i}{1 - \lambda_i z^{-1}}
              + \frac{\bar c_i \bar b_i}{1 - \bar\lambda_i z^{-1}} \right]

    With :math:`s = (c^T c)(b b^T) / (\|c\|^2 \|b\|^2)`, :math:`\lambda = r e^{j\theta}`, :math:`x = \cos\omega`, the
    gain :math:`\sigma^2 = y \|c\|^2 \|b\|^2 \kappa^2 / 4` solves :math:`Q(x) y^2 - (a_0 - a_1 x) y + \Delta = 0`,
    whose stationary points in x are those of a quadratic equation in y:

    .. math:: (1 - r^2)^2 \sin^2\theta\, y^2 - \tau y + \Delta - \frac{a_1^2}{16 r^2} = 0, \qquad
              x = \frac{(1 + r^2) \cos\theta}{2 r} - \frac{a_1}{8 r^2 y}

    (theory page "Norms of single states"). The gain is evaluated at both, at :math:`\omega = 0, \pi` and at
    :math:`\theta`; the largest is the norm.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed. A bidirectional state has the exact peak gain over both halves, for which there is no closed
        form: it is found by `peak_gain` on the host, in `threads` threads.
    threads : int, optional
        Used for bidirectional systems only.

    Returns
    -------
    array, shape (..., n), float64
        ``inf`` for states with ``|lambda| >= 1`` (0 if such a state has no input or no output).

    Notes
    -----
    O(n (m + p)): each state is first reduced to a 2 x 2 system. Unlike `modal_hinf_norms`, which measures the complex
    state alone and without :math:`\kappa`, this is what dropping the state costs by itself. It is not made for
    gradients; `modal_hinf_norms` is.

    Examples
    --------
    >>> pair_hinf_norms(DiagonalSSM([0.5], [[2.0]], [[3.0]], [[0.0]], conj_sym=True)).round(12)
    array([24.])
    """
    require_diagonal(ssm)
    xp = namespace(ssm.Lambda)
    if ssm.C_reverse is not None:
        return _bidirectional(ssm, threads)
    gap = one_minus_abs(ssm.Lambda)
    stable = gap > 0
    safe = xp.where(stable, ssm.Lambda, xp.full_like(ssm.Lambda, 0.5))
    scales = [
        power_of_two(xp, binary_exponent(xp, largest_part(xp, X, axis))) for X, axis in ((ssm.B, -1), (ssm.C, -2))
    ]
    B, C = ssm.B / scales[0][..., :, None], ssm.C / scales[1][..., None, :]  # whose squares are within the range
    size = scales[0] * xp.sqrt(xp.sum(xp.abs(B) ** 2, axis=-1)) * (scales[1] * xp.sqrt(xp.sum(xp.abs(C) ** 2, axis=-2)))
    norms = ssm.kappa / 2.0 * size * _unit_norms(_folded(xp, safe, B, xp.matrix_transpose(C)))
    infinite = ~stable & (size > 0)
    return xp.where(infinite, xp.full_like(norms, float("inf")), xp.where(size > 0, norms, xp.zeros_like(norms)))


class _Pair(NamedTuple):
    """A pole folded into the first quadrant, and the unit rank-one residue in real orthonormal bases.

    The residue is exp(j psi) (cos gamma, j sin gamma)^T (cos delta, j sin delta).
    """

    xp: Any
    gap: Array
    radius: Array
    theta: Array
    psi: Array
    gamma: Array
    delta: Array


def _orthogonal_angles(xp, vectors: Array) -> tuple[Array, Array]:
    """Phase that makes real and imaginary part orthogonal, the real one longer, and the angle of their norms."""
    bilinear = xp.sum(vectors * vectors, axis=-1)
    phase = 0.5 * xp.atan2(xp.imag(bilinear), xp.real(bilinear))
    turned = vectors * (xp.cos(phase) - 1j * xp.sin(phase))[..., None]
    parts = (xp.sqrt(xp.sum(part(turned) ** 2, axis=-1)) for part in (xp.imag, xp.real))
    return phase, xp.atan2(*parts)


def _folded(xp, Lambda: Array, B: Array, C: Array) -> _Pair:
    """Reflections z -> -z and z -> conj(z) change no gain; they conjugate the residue, or not."""
    re, im = xp.real(Lambda), xp.imag(Lambda)
    c_phase, gamma = _orthogonal_angles(xp, C)
    b_phase, delta = _orthogonal_angles(xp, B)
    flip = (re < 0) ^ (im < 0)
    psi = c_phase + b_phase
    sign = xp.where(flip, -xp.ones_like(re), xp.ones_like(re))
    theta = xp.atan2(xp.abs(im), xp.abs(re))
    # conjugating the residue conjugates both of its vectors, which turns the sine of each angle around
    return _Pair(xp, one_minus_abs(Lambda), xp.abs(Lambda), theta, sign * psi, sign * gamma, sign * delta)


def _gain(pair: _Pair, omega: Array) -> Array:
    r"""Largest singular value of the 2 x 2 matrix :math:`2 (X z - Y) / ((z - \lambda)(z - \bar\lambda))`."""
    xp, gap, r, theta, psi, gamma, delta = pair
    minus, plus = xp.sin((omega - theta) / 2.0), xp.sin((omega + theta) / 2.0)
    # z - lambda and z - conj(lambda), divided by exp(j theta) and exp(-j theta): their product needs no more
    near = gap - 2.0 * minus**2 + 2j * minus * xp.cos((omega - theta) / 2.0)
    far = gap - 2.0 * plus**2 + 2j * plus * xp.cos((omega + theta) / 2.0)
    product = near * far
    modulus = xp.abs(product)
    real = gap * xp.cos(omega) - 2.0 * r * plus * minus
    z = real + 1j * xp.sin(omega)
    y = r * xp.sin(theta)
    (cg, sg), (cd, sd), (cp, sp) = ((xp.cos(a), xp.sin(a)) for a in (gamma, delta, psi))
    a = cg * cd * (cp * z - sp * y)
    b = cg * sd * (-sp * z - cp * y)
    c = sg * cd * (-sp * z - cp * y)
    d = sg * sd * (-cp * z + sp * y)
    # the determinant is -sin(2 gamma) sin(2 delta) (z - lambda)(z - conj(lambda)) / 4: its phase pairs the entries
    turned = xp.where(sg * sd < 0, product, -product) / modulus
    total = sum(xp.real(e) ** 2 + xp.imag(e) ** 2 for e in (a, b, c, d))
    half = 2.0 * xp.abs(cg * sg * cd * sd) * modulus
    inner = xp.abs(a - turned * xp.conj(d)) ** 2 + xp.abs(b + turned * xp.conj(c)) ** 2
    return (xp.sqrt(total + half) + xp.sqrt(inner)) / modulus


def _stationary(pair: _Pair) -> list[Array]:
    """Angles of the two stationary points, clipped to [0, pi]."""
    xp, gap, r, theta, psi, gamma, delta = pair
    r = xp.where(r > _NO_POLE, r, xp.ones_like(r))
    u = gap * (1.0 + r)
    cos, sin = xp.cos(theta), xp.sin(theta)
    size = xp.cos(2.0 * gamma) * xp.cos(2.0 * delta)
    turned_re, turned_im = size * xp.cos(theta - 2.0 * psi), size * xp.sin(theta - 2.0 * psi)
    lowest = (u * sin) ** 2
    tau = 2.0 * (1.0 + r**2) * sin**2 + 2.0 * u * sin * turned_im
    a1 = 4.0 * r * (cos + turned_re)
    constant = (xp.sin(2.0 * gamma) * xp.sin(2.0 * delta)) ** 2 - (a1 / (4.0 * r)) ** 2
    discriminant = tau**2 - 4.0 * lowest * constant
    root = xp.sqrt(xp.where(discriminant > 0, discriminant, xp.zeros_like(discriminant)))
    large = 0.5 * (tau + xp.where(tau >= 0, root, -root))
    angles = []
    for numerator, denominator in ((large, lowest), (constant, large)):
        y = numerator / xp.where(denominator != 0, denominator, xp.full_like(denominator, 1e-300))
        y = xp.where(xp.abs(y) > 1e-300, y, xp.full_like(y, 1e-300))
        rise = (4.0 * r * xp.sin(theta / 2.0) ** 2 - gap**2 * cos) / (2.0 * r) + a1 / (8.0 * r**2 * y)
        angles.append(2.0 * xp.asin(xp.sqrt(xp.clip(0.5 * rise, 0.0, 1.0))))
    return angles


def _unit_norms(pair: _Pair) -> Array:
    """Largest gain over the candidates, polished by parabolas against the rounding of the stationary points."""
    xp, theta = pair.xp, pair.theta
    best, omega = _gain(pair, theta), theta
    for other in (xp.zeros_like(theta), xp.full_like(theta, float(np.pi)), *_stationary(pair)):
        value = _gain(pair, other)
        omega = xp.where(value > best, other, omega)
        best = xp.maximum(best, value)
    step = 0.1 * (pair.gap + xp.abs(omega - theta))
    for _ in range(_POLISH):
        left, right = _gain(pair, omega - step), _gain(pair, omega + step)
        bend = left - 2.0 * best + right
        ratio = (left - right) / xp.where(bend < 0, bend, -xp.ones_like(bend))
        shift = xp.where(bend < 0, 0.5 * step * xp.clip(ratio, -2.0, 2.0), xp.zeros_like(step))
        there = omega + shift
        value = _gain(pair, there)
        omega = xp.where(value > best, there, omega)
        best = xp.maximum(best, value)
        step = 0.1 * step
    return best


def _bidirectional(ssm: DiagonalSSM, threads: int | None) -> Array:
    """Every state as a system of its own, reduced to 4 outputs and 2 inputs."""
    xp = namespace(ssm.Lambda)
    Lambda, B, C, R = (to_numpy(a) for a in (ssm.Lambda, ssm.B, ssm.C, ssm.C_reverse))
    C, R = np.swapaxes(C, -1, -2), np.swapaxes(R, -1, -2)
    joined = np.concatenate([C, R], axis=-1)
    b, c = (power_of_two(np, binary_exponent(np, largest_part(np, X, -1))) for X in (B, joined))
    B, C, R = B / b[..., None], C / c[..., None], R / c[..., None]
    size = np.linalg.norm(B, axis=-1) * (np.linalg.norm(C, axis=-1) + np.linalg.norm(R, axis=-1))
    stable = one_minus_abs(Lambda) > 0
    outputs = _triangle(np.stack([C.real, C.imag, R.real, R.imag], axis=-1))
    inputs = _triangle(np.stack([B.real, B.imag], axis=-1))
    each = DiagonalSSM(
        np.where(stable, Lambda, 0.5)[..., None],
        (inputs[..., 0] + 1j * inputs[..., 1])[..., None, :],
        (outputs[..., 0] + 1j * outputs[..., 1])[..., None],
        np.zeros((*Lambda.shape, outputs.shape[-2], inputs.shape[-2])),
        (outputs[..., 2] + 1j * outputs[..., 3])[..., None],
        ssm.conj_sym,
    )
    gains = peak_gain(each, rtol=_RTOL, max_samples=2000, threads=threads).gain
    gains = np.where(~stable & (size > 0), np.inf, gains * b * c)
    return xp.asarray(gains, device=array_api_compat.device(ssm.Lambda))


def _triangle(columns: np.ndarray) -> np.ndarray:
    """Triangular factor of tall matrices: the same inner products in fewer rows."""
    return np.asarray(np.linalg.qr(columns, mode="r")) if columns.shape[-2] > columns.shape[-1] else columns
