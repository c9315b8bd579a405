"""Training that can be killed at any time: all randomness of a step follows from the seed and the step's number."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .files import write_atomically
from .models import Network, Size, save_network
from .settings import Setting, setting_of
from .tasks import Split, Splits, load

HERE = Path(__file__).resolve().parent
CHECKPOINTS = HERE / "checkpoints"
STATES = HERE / "unfinished"  # optimiser states of runs that go on; not kept in Git


@dataclass(frozen=True)
class Job:
    """One network to train."""

    task: str
    kind: str
    seed: int

    @property
    def path(self) -> Path:
        """Trained checkpoint."""
        return CHECKPOINTS / self.task / f"{self.kind}-{self.seed}.safetensors"

    @property
    def setting(self) -> Setting:
        """Hyper-parameters."""
        return setting_of(self.task, self.kind)


class Trainer:
    """A network, its optimiser and the number of steps done.

    Parameters
    ----------
    train : Split
        The only data that the steps see.
    """

    def __init__(self, network: Network, setting: Setting, train: Split, seed: int):
        self.network, self.setting, self.seed = network, setting, seed
        self.x, self.y = torch.from_numpy(train.x), torch.from_numpy(train.y)
        self.per_epoch = -(-len(train) // setting.batch)
        self.total = self.per_epoch * setting.epochs
        self.step = 0
        self.optimizer = _optimizer(network, setting)

    def advance(self) -> float:
        """Do one step and return its loss."""
        epoch, batch = divmod(self.step, self.per_epoch)
        order = torch.randperm(len(self.y), generator=torch.Generator().manual_seed(1_000_003 * self.seed + epoch))
        index = order[batch * self.setting.batch : (batch + 1) * self.setting.batch]
        torch.manual_seed(1_000_003 * self.seed + 7_919 + self.step)  # of the dropout
        share = _schedule(self.step, self.total, self.setting.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        self.network.train()
        loss = nn.functional.cross_entropy(self.network(self.x[index]), self.y[index])
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.setting.clip)
        self.optimizer.step()
        for block in self.network.layers:
            block.seq.stabilise()
        self.step += 1
        return loss.item()

    def save(self, path: Path) -> None:
        """Write everything that the rest of the run depends on."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        torch.save(state, partial)
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Go on where `save` was called."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def train(job: Job, splits: Splits, *, every: float = 120.0, say: Callable[[str], None] = print) -> dict:
    """Train one network to the end, from where an earlier run stopped, and write its checkpoint.

    Parameters
    ----------
    job : Job
    splits : Splits
        The training part trains; validation and test accuracy are only reported.
    every : float
        Seconds between the saved states.
    say : callable
        Takes lines of progress.

    Returns
    -------
    dict
        What is written into the checkpoint: setting, accuracies in percent, CPU seconds.
    """
    torch.use_deterministic_algorithms(True)
    setting = job.setting
    size = Size(setting.width, setting.layers, setting.states, setting.blocks)
    network = Network(
        job.kind,
        splits.channels,
        splits.classes,
        tokens=splits.tokens,
        size=size,
        dropout=setting.dropout,
        seed=job.seed,
    )
    trainer = Trainer(network, setting, splits.train, job.seed)
    state = STATES / job.task / f"{job.kind}-{job.seed}.pt"
    spent = 0.0
    if state.exists():
        trainer.restore(state)
        spent = json.loads(state.with_suffix(".json").read_text())["cpu_seconds"]
        say(f"{job.task} {job.kind} seed {job.seed}: going on at step {trainer.step} of {trainer.total}")
    begun, first, saved = time.perf_counter(), trainer.step, time.perf_counter()
    cpu = time.process_time()
    losses = []
    while trainer.step < trainer.total:
        losses.append(trainer.advance())
        now = time.perf_counter()
        if now - saved > every:
            saved = now
            trainer.save(state)
            write_atomically(state.with_suffix(".json"), json.dumps({"cpu_seconds": spent + time.process_time() - cpu}))
            left = (now - begun) / (trainer.step - first) * (trainer.total - trainer.step)
            loss = float(np.mean(losses[-trainer.per_epoch :]))
            say(
                f"{job.task} {job.kind} seed {job.seed}: step {trainer.step} of {trainer.total}, "
                f"loss {loss:.3f}, {left / 60:.1f} min left"
            )
    info = {
        "task": job.task,
        "kind": job.kind,
        "seed": job.seed,
        "channels": splits.channels,
        "classes": splits.classes,
        "tokens": splits.tokens,
        "size": asdict(size),
        "setting": asdict(setting),
        "train_sequences": len(splits.train),
        "length": splits.length,
        "parameters": sum(p.numel() for p in network.parameters()),
        "val_accuracy": accuracy(network, splits.val),
        "test_accuracy": accuracy(network, splits.test),
        "cpu_seconds": round(spent + time.process_time() - cpu, 1),
    }
    save_network(network, job.path, info)
    for path in (state, state.with_suffix(".json")):
        path.unlink(missing_ok=True)
    say(
        f"{job.task} {job.kind} seed {job.seed}: validation {info['val_accuracy']:.2f} %, "
        f"test {info['test_accuracy']:.2f} %, {info['cpu_seconds']:.0f} CPU s"
    )
    return info


def train_all(jobs: list[Job], data: Path | None = None, say: Callable[[str], None] = print) -> None:
    """Train every job that has no checkpoint yet; `data` is the folder of original data sets."""
    waiting = [job for job in jobs if not job.path.exists()]
    for number, job in enumerate(waiting, start=1):
        say(f"[{number}/{len(waiting)}] {job.task} {job.kind} seed {job.seed}")
        train(job, load(job.task, data), say=say)


@torch.no_grad()
def accuracy(network: Network, split: Split) -> float:
    """Accuracy in percent, in evaluation mode; nan without sequences."""
    if not len(split):
        return math.nan
    network.eval()
    parts = zip(torch.from_numpy(split.x).split(250), torch.from_numpy(split.y).split(250), strict=True)
    return 100.0 * sum(int((network(x).argmax(dim=1) == y).sum()) for x, y in parts) / len(split)


def _optimizer(network: Network, setting: Setting) -> torch.optim.Optimizer:
    dynamics, others = [], []
    for name, parameter in network.named_parameters():
        own = ".seq." in name and name.rsplit(".", 1)[-1] in network.layers[0].seq.dynamics
        (dynamics if own else others).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": dynamics, "lr": 0.0, "peak": setting.ssm_lr, "weight_decay": 0.0},
            {"params": others, "lr": 0.0, "peak": setting.lr, "weight_decay": setting.weight_decay},
        ]
    )


def _schedule(step: int, total: int, warmup: float) -> float:
    """Share of the peak rate: linear warm-up, then half a cosine to 0."""
    rising = max(1, round(warmup * total))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
