"""The table of layers on which each test of the room runs."""

from dataclasses import replace

import numpy as np

from ssmreduce.selective import random_layer, take_states


def layers():
    """Name -> layer, one for each feature of the families."""
    rng = np.random.default_rng(5)
    mamba1 = random_layer("mamba1", width=6, order=5, seed=1)
    mamba2 = random_layer("mamba2", width=8, order=6, heads=4, seed=2)
    grouped = random_layer("mamba2", width=8, order=6, heads=4, groups=2, seed=3)
    normed = replace(
        mamba1,
        norm_eps=1e-6,
        dt_norm=rng.uniform(0.5, 2, mamba1.rank),
        B_norm=rng.uniform(0.5, 2, 5),
        C_norm=rng.uniform(0.5, 2, 5),
    )
    mixes = rng.standard_normal((2, 2, 3, 6))
    return {
        "mamba1": mamba1,
        "mamba1 biases": replace(
            mamba1, in_bias=rng.standard_normal(24), x_bias=rng.standard_normal(11), out_bias=rng.standard_normal(6)
        ),
        "mamba1 norms": normed,
        "mamba1 norms, taken": take_states(normed, [0, 2, 4]),
        "mamba1 mixed": replace(take_states(normed, [1, 3]), norm_eps=None, mix_C=rng.standard_normal((2, 5))),
        "mamba1 both ways": replace(mamba1, bidirectional=True, ahead=2, dt_floor=1e-4, x_bias=rng.standard_normal(11)),
        "mamba2": mamba2,
        "mamba2 groups": grouped,
        "mamba2 mixed": replace(grouped, mix_B=mixes[0], mix_C=mixes[1]),
        "mamba2 no norm": replace(mamba2, norm_weight=None, dt_limit=(0.01, 0.2)),
        "mamba2 norm first": replace(grouped, norm_before_gate=True, D=rng.standard_normal(16)),
    }
