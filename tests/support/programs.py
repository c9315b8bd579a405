"""Programs for the tests of steps and exports."""

import numpy as np

from ssmreduce.networks._program import ELEMENTWISE, Operation, Program


def every_operation(rng):
    """A program with an operation of each kind."""
    n, normal = 5, rng.standard_normal
    poles = np.stack([np.full((2, n), 0.9), rng.uniform(-0.3, 0.3, (2, n))])
    operations = [
        Operation("linear", (0,), 7, (normal((7, 3)), normal(7))),
        Operation("slice", (1,), n, start=2),
        Operation("features", (2,), n, (poles, normal((2, 2, n)))),
        Operation("norm", (3,), n, (normal(n), normal(n), np.array([1e-5]))),
        Operation("linear", (4,), 4, (normal((4, n)), np.zeros(4))),
        Operation("recur", (5,), 4, (poles[:, 0, :2],)),
        Operation("affine", (6,), 4, (normal(4), normal(4))),
        Operation("multiply", (7, 6), 4),
        Operation("add", (8, 5), 4),
        *(Operation(kind, (9 + k,), 4) for k, kind in enumerate(ELEMENTWISE)),
    ]
    return Program(3, (*operations, Operation("mean", (len(operations),), 4)), True)
