"""Guards of norms and reductions: stable, causal."""

import numpy as np

from .._support.arrays import is_traced, namespace, one_minus_abs2
from ..errors import NotCausalError, UnstableSystemError
from ._systems import DiagonalSSM, StateSpace, require_diagonal, unstable_states


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
