"""Time of a network's forward pass against the share of states dropped; the method plays no part in it."""

import json
import time
from pathlib import Path

import torch

from .cells import RESULTS
from .files import write_atomically
from .layers import matrices_of
from .methods import METHODS, Source
from .models import load_network
from .tasks import load
from .train import Job

RATIOS = (0.0, 0.5, 0.8, 0.9, 0.95)
BATCH, REPEATS = 100, 7
STORED = RESULTS / "speed.json"


def measure(jobs: list[Job], path: Path = STORED) -> list[dict]:
    """Measure one network of each kind and task, and store what was found.

    Returns
    -------
    list of dict
        ``task, kind, ratio, milliseconds``: the least CPU time per sequence on one thread; systems are made ready
        beforehand.
    """
    torch.set_num_threads(1)
    rows = [_row(job, ratio) for job in jobs for ratio in RATIOS]
    data = {"threads": 1, "batch": BATCH, "torch": torch.__version__, "rows": rows}
    write_atomically(path, json.dumps(data, indent=1) + "\n")
    return rows


@torch.no_grad()
def _row(job: Job, ratio: float) -> dict:
    trained = load_network(job.path)
    x = torch.from_numpy(load(job.task).train.x[:BATCH])
    model = trained.model
    if ratio:
        model = METHODS["uniform_hinf"].reduce(Source(trained, x.numpy()), ratio)
    systems = {i: matrices_of(ssm) for i, ssm in enumerate(model.values())}
    trained.network(x, systems)  # compiles and warms up
    times = []
    for _ in range(REPEATS):
        begun = time.process_time()
        trained.network(x, systems)
        times.append(time.process_time() - begun)
    milliseconds = 1e3 * min(times) / len(x)
    return {"task": job.task, "kind": job.kind, "ratio": ratio, "milliseconds": round(milliseconds, 4)}
