"""The greedy elimination of states: optimal brain surgeon on blocks of 2 or 4 real coordinates."""

import numpy as np


def elimination_order(second: np.ndarray, cross: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Order in which states leave, each at the least increase of the least-squares error, and that increase.

    With :math:`H = S^{-1}` and :math:`V = T H` over the states that are left, state :math:`i` leaves at the cost

    .. math:: \mathrm{tr}(V_i H_{ii}^{-1} V_i^T), \qquad
              V \leftarrow V - V_i H_{ii}^{-1} H_{i:}, \qquad H \leftarrow H - H_{:i} H_{ii}^{-1} H_{i:} .

    Parameters
    ----------
    second : ndarray, shape (s, n * width, n * width)
        Positive definite, coordinates of a state side by side, each state scaled to a mean power of 1.
    cross : ndarray, shape (s, p, n * width)
    width : int
        Coordinates a state.

    Returns
    -------
    order : ndarray, shape (s, n), int64
        States in the order in which they leave; the last one is the most valuable.
    cost : ndarray, shape (s, n), float64
        Increase of the squared error at each step.

    Notes
    -----
    Rounding errors of the down-dates grow with the condition number of the states that leave, which is large exactly
    while the first, nearly collinear ones leave. So the factors are made anew each time half of the states are gone:
    O(n^2 (n + p)) in all, and every problem that remains is better conditioned than the one before.
    """
    systems, size = second.shape[:2]
    n = size // width
    left = np.tile(np.arange(n), (systems, 1))
    order, cost = np.empty((systems, 0), dtype=np.int64), np.empty((systems, 0))
    while left.shape[1]:
        count = left.shape[1]
        steps = count if count <= 4 else count // 2
        gone, increase, left = _halve(second, cross, left, width, steps)
        order, cost = np.concatenate([order, gone], axis=1), np.concatenate([cost, increase], axis=1)
    return order, cost


def _halve(
    second: np.ndarray, cross: np.ndarray, left: np.ndarray, width: int, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eliminate `steps` of the states `left`, shape (s, l), from fresh factors."""
    systems, count = left.shape
    H, V = _inverse(second, cross, _coordinates(left, width))
    rows, slots = np.arange(systems), np.arange(count)
    alive = np.ones((systems, count), dtype=bool)
    order, cost = np.empty((systems, steps), dtype=np.int64), np.empty((systems, steps))
    for step in range(steps):
        pivots = H.reshape(systems, count, width, count, width)[:, slots, :, slots, :].transpose(1, 0, 2, 3)
        inverse = np.linalg.inv(pivots)
        weights = V.reshape(systems, count, width, -1)
        costs = np.sum(inverse * (weights @ weights.swapaxes(2, 3)), axis=(2, 3))
        chosen = np.where(alive, costs, np.inf).argmin(axis=1)
        order[:, step], cost[:, step] = left[rows, chosen], np.maximum(costs[rows, chosen], 0.0)
        alive[rows, chosen] = False
        _remove(H, V, _coordinates(chosen[:, None], width), inverse[rows, chosen])
    return order, cost, left[alive].reshape(systems, count - steps)


def _coordinates(states: np.ndarray, width: int) -> np.ndarray:
    """Coordinates (s, k * width) of states (s, k)."""
    return (states[:, :, None] * width + np.arange(width)).reshape(len(states), -1)


def _inverse(second: np.ndarray, cross: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of S over the coordinates at `index`, and the transposed weights S^-1 T^T."""
    rows = np.take_along_axis(second, index[:, :, None], axis=1)
    H = np.linalg.inv(np.take_along_axis(rows, index[:, None, :], axis=2))
    H = (H + H.transpose(0, 2, 1)) / 2
    return H, H @ np.take_along_axis(cross, index[:, None, :], axis=2).transpose(0, 2, 1)


def _remove(H: np.ndarray, V: np.ndarray, index: np.ndarray, inverse: np.ndarray) -> None:
    """Schur step in place; what leaves becomes a unit block without weight, so that it stays harmless."""
    columns = np.take_along_axis(H, index[:, None, :], axis=2)
    factor = columns @ inverse
    V -= factor @ np.take_along_axis(V, index[:, :, None], axis=1)
    H -= factor @ columns.transpose(0, 2, 1)
    np.put_along_axis(H, index[:, :, None], 0.0, axis=1)
    np.put_along_axis(H, index[:, None, :], 0.0, axis=2)
    np.put_along_axis(V, index[:, :, None], 0.0, axis=1)
    for i in index.T:
        H[np.arange(len(H)), i, i] = 1.0
