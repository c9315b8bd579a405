"""The names of S4 and S4D layers in the versions of state-spaces/s4, and one set of names for all."""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np

from ._layout import ABSENT, Layout, Tensor

_VARIANTS: tuple[tuple[str, str | int], ...] = (("p", 1), ("p", "n"), ("2p", 1), ("2p", "n"))
"""Channels of C (twice those of D where bidirectional), and step sizes: one a feature or one a state."""


def diagonal_layouts() -> tuple[Layout, ...]:
    """Layouts of diagonal kernels: version 4 (complex, then real), versions 2 and 3, and lrnnx."""
    version_4 = (*_version_4(), *_version_4_real())
    return (*version_4, *_version_3(), *map(_lrnnx, version_4))


def dplr_layouts() -> tuple[Layout, ...]:
    """Layouts of kernels with low rank: versions 4 and 3, lrnnx, and version 2, which has no length."""
    version_3 = [{**layout, "kernel.kernel.B": Tensor("input", (1, "t", "n", 2))} for layout in _version_3()]
    of_lrnnx = map(_lrnnx, _version_4())
    with_length = [_low_rank(layout, length=True) for layout in (*_version_4(), *version_3, *of_lrnnx)]
    return (*with_length, *(_low_rank(layout, length=False) for layout in version_3))


def _version_4() -> Iterator[Layout]:
    for outputs, step in _VARIANTS:
        yield {
            "D": Tensor("feedthrough", ("p", "s")),
            "kernel.C": Tensor("output", (outputs, "s", "n", 2)),
            "kernel.B": Tensor("input", (1, "t", "n", 2)),
            "kernel.inv_dt": Tensor("pole", ("s", step)),
            "kernel.A_real": Tensor("pole", ("t", "n")),
            "kernel.A_imag": Tensor("pole", ("t", "n")),
            "kernel.P": ABSENT,
            "kernel.l_kernel": ABSENT,
        }


def _version_4_real() -> Iterator[Layout]:
    for outputs, step in _VARIANTS:
        yield {
            "D": Tensor("feedthrough", ("p", "s")),
            "kernel.C": Tensor("output", (outputs, "s", "n")),
            "kernel.B": Tensor("input", (1, "t", "n")),
            "kernel.inv_dt": Tensor("pole", ("s", step)),
            "kernel.A_real": Tensor("pole", ("t", "n")),
            "kernel.A_imag": ABSENT,
            "kernel.P": ABSENT,
            "kernel.l_kernel": ABSENT,
        }


def _version_3() -> Iterator[Layout]:
    """``inv_w_real`` with B, and ``log_w_real`` without: version 2 has no B where the kernel is diagonal."""
    for (real, inputs), outputs in product((("inv_w_real", True), ("log_w_real", False)), ("p", "2p")):
        yield {
            "D": Tensor("feedthrough", ("p", "s")),
            "kernel.kernel.C": Tensor("output", (outputs, "s", "n", 2)),
            "kernel.kernel.B": Tensor("input", (1, "t", "n", 2)) if inputs else ABSENT,
            "kernel.kernel.log_dt": Tensor("pole", ("s",)),
            f"kernel.kernel.{real}": Tensor("pole", ("t", "n")),
            "kernel.kernel.w_imag": Tensor("pole", ("t", "n")),
            "kernel.kernel.P": ABSENT,
            "kernel.kernel.L": ABSENT,
        }


def _lrnnx(layout: Layout) -> Layout:
    """The names of lrnnx: the parameters are the layer's, and its kernel shares them under names of its own."""
    result: dict[str, Tensor] = {}
    for leaf, tensor in layout.items():
        short = leaf.removeprefix("kernel.")
        result[short] = tensor
        if short not in ("D", leaf):
            result[f"layer.kernel.{short}"] = tensor
    del result["l_kernel"]  # a buffer of the kernel alone
    return result


def _low_rank(layout: Layout, *, length: bool) -> Layout:
    low_rank = Tensor("pole", ("r", "t", "n", 2))
    samples = Tensor("fixed", (), "integer") if length else ABSENT
    added = {"P": low_rank, "l_kernel": samples, "L": samples}
    return {leaf: added.get(leaf.rsplit(".", 1)[-1], tensor) for leaf, tensor in layout.items()}


def canonical(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays under the names of version 4, without prefix; ``B`` is 1 where the version has none."""
    short = {leaf.rsplit(".", 1)[-1]: value for leaf, value in tensors.items()}
    if "inv_dt" in short:
        return short
    real = short.get("inv_w_real", short.get("log_w_real"))
    assert real is not None
    ones = np.stack([np.ones((1, *real.shape)), np.zeros((1, *real.shape))], axis=-1)
    names = {"A_real": real, "A_imag": -short["w_imag"], "inv_dt": short["log_dt"][:, None]}
    given: dict[str, np.ndarray] = {leaf: short[leaf] for leaf in ("C", "D", "P") if leaf in short}
    if "L" in short:
        given["l_kernel"] = short["L"]
    return {**names, **given, "B": short.get("B", ones)}


def original(arrays: Mapping[str, np.ndarray], tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `canonical`: arrays under the names that the layer has."""
    versions = {"inv_w_real": arrays["A_real"], "log_w_real": arrays["A_real"]}
    if "kernel.kernel.w_imag" in tensors:
        versions |= {"w_imag": -arrays["A_imag"], "log_dt": arrays["inv_dt"][:, 0]}
    named = {**arrays, **versions}
    return {leaf: named[leaf.rsplit(".", 1)[-1]] for leaf in tensors if leaf.rsplit(".", 1)[-1] in named}
