"""Guards of norms and reductions: stable, causal."""

import warnings

import numpy as np

from .._support.arrays import is_traced, namespace, one_minus_abs2
from ..errors import NotCausalError, PrecisionWarning, UnstableSystemError
from ._systems import DiagonalSSM, StateSpace, require_diagonal, unstable_states

_ROUNDING = 2.0**-48  # 1 - modulus of an eigenvalue that may be its rounding


def require_stable(ssm: DiagonalSSM, what: str) -> None:
    """Raise `UnstableSystemError`, naming the states, unless every pole lies inside the unit circle.

    Inside a JAX transformation the poles cannot be looked at, and nothing is checked. From a device one truth value is
    read.
    """
    require_diagonal(ssm)
    if is_traced(ssm.Lambda) or bool(namespace(ssm.Lambda).all(one_minus_abs2(ssm.Lambda) > 0)):
        return
    bad = unstable_states(ssm)
    if bad.size:
        named = ", ".join(str(i) for i in bad[:8]) + (", ..." if bad.size > 8 else "")
        raise UnstableSystemError(
            f"{what} does not exist: state{'s' if bad.size > 1 else ''} {named} of {ssm!r} "
            f"{'have' if bad.size > 1 else 'has'} |lambda| >= 1; prune or replace them, or use a finite-horizon measure"
        )


def require_causal(ssm: DiagonalSSM, what: str) -> None:
    """Raise `NotCausalError` for a bidirectional system."""
    require_diagonal(ssm)
    if ssm.bidirectional:
        raise NotCausalError(
            f"{what} is defined for causal systems, and {ssm!r} also runs backwards; pass one half (C or C_reverse), "
            "or both stacked as outputs of one causal system"
        )


def require_stable_dense(system: StateSpace, what: str) -> None:
    """Raise `UnstableSystemError` unless every pole of a dense system lies inside the unit circle."""
    radius = np.abs(np.linalg.eigvals(system.A)).max(initial=0.0)
    if not radius < 1.0:
        raise UnstableSystemError(f"{what} does not exist: A has a pole of modulus {radius:.17g} >= 1")
    warn_of_circle(radius)


def warn_of_circle(radius: float) -> None:
    """Warn of poles, computed as eigenvalues, that may lie on the unit circle but for their rounding."""
    if 0.0 < 1.0 - radius < _ROUNDING:
        warnings.warn(
            f"a pole of modulus 1 - {1.0 - radius:.1e} is on the unit circle to working precision: norms that come out "
            "large are infinite if it is on the circle",
            PrecisionWarning,
            stacklevel=4,
        )
