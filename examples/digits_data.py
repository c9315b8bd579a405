"""The 8 x 8 digits of scikit-learn as sequences of 64 pixels: the test set of the shipped networks, and all others."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TEST = Path(__file__).parent / "s5_digits" / "test.npz"


def held_out() -> tuple[np.ndarray, np.ndarray]:
    """Sequences (360, 64, 1) and labels on which the shipped networks are tested."""
    with np.load(TEST) as file:
        return np.float32(file["x_test"]), file["y_test"]


def others(count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first sequences (count, 64, 1) that are not tested on, and their labels."""
    digits = load_digits()
    x = np.float32(digits.data / 16)[..., None]
    tested = {row.tobytes() for row in held_out()[0]}
    fresh = [i for i, row in enumerate(x) if row.tobytes() not in tested][:count]
    return x[fresh], digits.target[fresh]
