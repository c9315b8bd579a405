"""Compiled error-free transformations and double-double arithmetic."""

from .compiled import compiled


@compiled
def two_sum(a: float, b: float) -> tuple[float, float]:
    """Sum a + b as the rounded sum and its exact error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@compiled
def two_product(a: float, b: float) -> tuple[float, float]:
    """Product a b as the rounded product and its exact error (Dekker)."""
    p = a * b
    t = 134217729.0 * a
    a_high = t - (t - a)
    a_low = a - a_high
    t = 134217729.0 * b
    b_high = t - (t - b)
    b_low = b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


@compiled
def dd_add(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    s, e = two_sum(a[0], b[0])
    t, f = two_sum(a[1], b[1])
    s, e = two_sum(s, e + t)
    return two_sum(s, e + f)


@compiled
def dd_mul(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    p, e = two_product(a[0], b[0])
    return two_sum(p, e + (a[0] * b[1] + a[1] * b[0]))


@compiled
def dd_div(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    q = a[0] / b[0]
    p, e = two_product(q, b[0])
    rest = (((a[0] - p) - e) + a[1]) - q * b[1]
    q, low = two_sum(q, rest / b[0])
    product = dd_mul((q, low), b)
    rest = ((a[0] - product[0]) - product[1]) + a[1]
    return two_sum(q, low + rest / b[0])


@compiled
def cdd_mul(a: tuple, b: tuple) -> tuple:
    re = dd_mul(a[1], b[1])
    return (
        dd_add(dd_mul(a[0], b[0]), (-re[0], -re[1])),
        dd_add(dd_mul(a[0], b[1]), dd_mul(a[1], b[0])),
    )


@compiled
def conjugate(a: tuple) -> tuple:
    return a[0], (-a[1][0], -a[1][1])
