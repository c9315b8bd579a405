"""A sensor, sample by sample: the digits classifier, reduced, answers after each sample of a stream, and is resumed.

Run: python examples/streaming.py
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch_networks import s5_digits

import ssmreduce as sr

TEST = Path(__file__).parent / "s5_digits" / "test.npz"


def main() -> None:
    """Print how the answer settles, what a step takes, and that a saved state goes on alike."""
    module = s5_digits()
    model = sr.network(module).model
    orders = {name: order // 2 for name, order in model.orders.items()}
    small = sr.replace_layers(module, sr.reduce(model, orders))
    with np.load(TEST) as data:
        x, labels = data["x_test"].astype(np.float32), data["y_test"]

    step = sr.networks.stepper(small, state_dtype="double")
    answers = step.run(x[0]).argmax(axis=1)
    settled = int(np.flatnonzero(answers != answers[-1]).max(initial=-1)) + 1
    print(f"digit {labels[0]}: answer {answers[-1]}, settled after {settled} of {len(answers)} samples")

    streams = step.fork(len(x))
    right = (streams.run(x)[:, -1].argmax(axis=1) == labels).mean()
    with torch.no_grad():
        parallel = (small(torch.from_numpy(x)).argmax(1).numpy() == labels).mean()
    print(f"{len(x)} streams at once: {right:.2%} right; the whole sequences in parallel: {parallel:.2%}")

    step.reset()
    step.run(x[0, :30])
    saved = step.state
    resumed = step.fork()
    resumed.state = saved
    print(f"resumed alike: {np.array_equal(resumed.run(x[0, 30:]), step.run(x[0, 30:]))}")

    start = time.perf_counter()
    for sample in x[1]:
        step(sample)
    print(f"{1e6 * (time.perf_counter() - start) / len(x[1]):.0f} us a step")


if __name__ == "__main__":
    main()
