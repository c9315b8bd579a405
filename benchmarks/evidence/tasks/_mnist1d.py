"""MNIST-1D (Greydanus and Kobak, ICML 2024) from the package ``mnist1d``, which generates it from ten templates."""

import numpy as np

from ._splits import Split, Splits, divided

VERSION = "0.0.2.post1"


def mnist1d() -> Splits:
    """40 steps; 3,750 sequences train, 250 validate, 1,000 test.

    Raises
    ------
    RuntimeError
        Another version of the package, which may draw other sequences.
    """
    from importlib.metadata import version

    if (found := version("mnist1d")) != VERSION:
        raise RuntimeError(f"mnist1d {found} is installed; {VERSION} is needed")
    from mnist1d.data import get_dataset_args, make_dataset

    state = np.random.get_state()  # noqa: NPY002
    try:
        data = make_dataset(get_dataset_args())
    finally:
        np.random.set_state(state)  # noqa: NPY002
    x, x_test = (np.asarray(data[key], dtype=np.float32)[..., None] for key in ("x", "x_test"))
    train, val, _ = divided(x, np.asarray(data["y"]), (3_750, 250, 0), seed=0)
    return Splits(train, val, Split(x_test, np.asarray(data["y_test"]).astype(np.int64)), classes=10)
