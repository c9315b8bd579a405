"""What a network does in one step of time, as a short list of operations on vectors."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ELEMENTWISE = ("gelu", "gelu_tanh", "sigmoid", "tanh", "relu", "silu")
"""Functions of single numbers."""


@dataclass(frozen=True, eq=False)
class Operation:
    r"""One operation of a program.

    Attributes
    ----------
    kind : str
        linear
            :math:`W x + b`, arrays W (n, m) and b (n,).
        affine
            Scale and shift (n,) of each number.
        norm
            Layer norm: scale and shift (n,), and eps.
        add, multiply
            Of two vectors.
        slice
            Numbers from ``start`` on.
        recur
            States :math:`x_k = \Lambda x_{k-1} + v_k` of v (2 n,), real parts first; array (2, n).
        features
            The layer of S4D: poles and weights, both (2, k, n) for k states of each of n features.
        mean
            Of all samples so far.
        gelu, gelu_tanh, sigmoid, tanh, relu, silu
    sources : tuple of int
        Values that it takes; value 0 is the input, value i the result of operation i - 1.
    width : int
        Length of its result.
    arrays : tuple of ndarray, float64
    start : int
        Of a slice.
    """

    kind: str
    sources: tuple[int, ...]
    width: int
    arrays: tuple[np.ndarray, ...] = ()
    start: int = 0

    @property
    def states(self) -> int:
        """Numbers that it carries on to the next step."""
        if self.kind == "mean":
            return self.width + 1
        return self.arrays[0].size if self.kind in ("recur", "features") else 0


@dataclass(frozen=True, eq=False)
class Program:
    """One step of a network: outputs from inputs and from the states that it carries on.

    Attributes
    ----------
    width : int
        Numbers of an input.
    operations : tuple of Operation
        Each takes the input or results of operations before it; the last result is the output.
    pooled : bool
        The network answers once a sequence; the program gives what it would answer if the sequence ended here.
    """

    width: int
    operations: tuple[Operation, ...]
    pooled: bool

    @property
    def outputs(self) -> int:
        """Numbers of an output."""
        return self.operations[-1].width

    @property
    def states(self) -> int:
        """Numbers that are carried on from step to step."""
        return sum(operation.states for operation in self.operations)

    def state_offsets(self) -> list[int]:
        """Where the states of each operation begin."""
        return list(np.cumsum([0, *(operation.states for operation in self.operations)])[:-1])

    def value_offsets(self) -> tuple[list[int], int]:
        """Where each value begins, and how many numbers all take: values that are used no more give up their place."""
        widths = [self.width, *(operation.width for operation in self.operations)]
        last = {source: k for k, operation in enumerate(self.operations, 1) for source in operation.sources}
        last[len(self.operations)] = len(widths)
        taken: dict[int, int] = {0: 0}
        offsets, size = [0], self.width
        for k in range(1, len(widths)):
            place = _first_gap([(taken[v], taken[v] + widths[v]) for v in taken], widths[k])
            offsets.append(place)
            size = max(size, place + widths[k])
            taken[k] = place
            taken = {v: at for v, at in taken.items() if last.get(v, 0) > k}
        return offsets, size

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)


def _first_gap(taken: list[tuple[int, int]], width: int) -> int:
    place = 0
    for begin, end in sorted(taken):
        if begin - place >= width:
            break
        place = max(place, end)
    return place
