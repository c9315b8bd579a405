"""The sequential digits of scikit-learn, split as the shipped model was trained."""

import numpy as np
import pytest


def digits():
    """Training and test sequences of the shipped model, split as it was trained."""
    datasets, selection = pytest.importorskip("sklearn.datasets"), pytest.importorskip("sklearn.model_selection")
    data = datasets.load_digits()
    x, y = (data.images.reshape(-1, 64, 1) / 16).astype(np.float32), data.target
    x, x_test, y, y_test = selection.train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    x, _, y, _ = selection.train_test_split(x, y, test_size=144, stratify=y, random_state=0)
    return x, y, x_test, y_test
