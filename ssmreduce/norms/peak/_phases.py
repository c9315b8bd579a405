"""What the poles of each system of a batch add to its phase."""

import numpy as np


def phases(poles: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """How many poles each state adds to the phase; those of the upper half plane by angle, the angles, their number.

    Equal poles add no phase, and neither do those that the transfer function does not have.

    Parameters
    ----------
    poles : ndarray, shape (S, n), complex128
    weights : ndarray, shape (S, n), float64
        Bounds of the norms of the states' terms; 0 where the transfer function lacks the pole.

    Returns
    -------
    counts : ndarray, shape (S, n), int64
        0, 1, or 2 with the conjugate.
    anchors, angles : ndarray, shape (S, n)
        Filled up with other poles behind the first `numbers`.
    numbers : ndarray, shape (S,), int64
    """
    upper = poles.real + 1j * np.abs(poles.imag)
    counts = np.where(_is_first(upper, (weights > 0.0) & (poles != 0.0)), 1 + (upper.imag != 0.0), 0)
    anchored = (counts == 2) & (np.abs(upper) > 1e-100)  # a smaller one stands for no direction worth a sample
    angles = np.where(anchored, np.angle(upper), np.inf)
    order = np.argsort(angles, axis=1)
    anchors, angles = (np.take_along_axis(a, order, axis=1) for a in (upper, angles))
    return counts, anchors, angles, np.count_nonzero(anchored, axis=1)


def _is_first(upper: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Which of the states that are present bring a pole that none before it has."""
    order = np.lexsort((upper.imag, upper.real, ~present), axis=1)
    values, first = np.take_along_axis(upper, order, axis=1), np.take_along_axis(present, order, axis=1)
    first[:, 1:] &= values[:, 1:] != values[:, :-1]
    found = np.empty_like(first)
    np.put_along_axis(found, order, first, axis=1)
    return found
