"""Train a small S5 classifier on sequential digits and save it for ssmreduce.

Each 8x8 image of scikit-learn's digits is read row by row, one pixel per step (64 steps, one channel). The
model is a stack of pre-norm S5 blocks; the file holds the parameters in the layout of the ``s5`` adapter.

    python examples/train_s5_digits.py --out examples/s5_digits
    python examples/train_s5_digits.py --bidirectional --out tests/data/s5_bidirectional_digits64
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import sklearn
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

MAX_REAL = -(2.0**-13)  # every Lambda_re stays at or below this: under S5's -1e-4 and exact in float32
LENGTH, CLASSES = 64, 10
ADAPTER = {"name": "s5", "conj_sym": True, "discretization": "zoh", "clip_eigs": False}


def hippo_normal_eigs(size):
    """Return HiPPO-LegS's normal part as eigenvalues with negative imaginary part and their eigenvectors.

    HiPPO-LegS plus the rank-one term p p^T, p_n = sqrt(n + 1/2), is -1/2 times the identity plus a real
    skew-symmetric matrix S with S[n, k] = -p_n p_k below the diagonal.
    """
    p = np.sqrt(np.arange(size) + 0.5)
    lower = np.tril(np.outer(p, p), -1)
    imag, vectors = np.linalg.eigh(-1j * (lower.T - lower))
    half = size // 2
    return -0.5 + 1j * imag[:half], vectors[:, :half]


def block_hippo(states, blocks):
    """Return ``states`` eigenvalues and the (2 * states, states) eigenvectors of a block-diagonal HiPPO."""
    eigs, vectors = hippo_normal_eigs(2 * states // blocks)
    return np.tile(eigs, blocks), np.kron(np.eye(blocks), vectors)


def real_pair(z):
    """Store a complex array as a float32 parameter whose last axis is (real, imaginary)."""
    return nn.Parameter(torch.from_numpy(np.stack([z.real, z.imag], axis=-1).astype(np.float32)))


class S5SSM(nn.Module):
    """Diagonal MIMO state-space layer; one eigenvalue of each conjugate pair is stored.

    A bidirectional layer also runs its states backwards in time and reads them with the second half of a wide C.
    """

    def __init__(self, width, states, blocks, dt_range, bidirectional, rng):
        super().__init__()
        eigs, v = block_hippo(states, blocks)
        b_real = rng.normal(size=(2 * states, width)) / np.sqrt(width)
        c_parts = rng.normal(size=(1 + bidirectional, 2, width, 2 * states)) / np.sqrt(2 * states)
        log_step = rng.uniform(np.log(dt_range[0]), np.log(dt_range[1]), size=(states, 1))
        self.Lambda_re = nn.Parameter(torch.from_numpy(eigs.real.astype(np.float32)))
        self.Lambda_im = nn.Parameter(torch.from_numpy(eigs.imag.astype(np.float32)))
        self.B = real_pair(v.conj().T @ b_real)
        self.C = real_pair(np.concatenate((c_parts[:, 0] + 1j * c_parts[:, 1]) @ v, axis=-1))
        self.bidirectional = bidirectional
        self.D = nn.Parameter(torch.from_numpy(rng.normal(size=width).astype(np.float32)))
        self.log_step = nn.Parameter(torch.from_numpy(log_step.astype(np.float32)))

    def forward(self, u):
        """Map u (batch, steps, width) to y of the same shape.

        The recurrence is solved for every state at once with its lower-triangular matrix of powers of lam.
        """
        eigs = torch.complex(self.Lambda_re.clamp(max=MAX_REAL), self.Lambda_im)
        log_lam = eigs * self.log_step.squeeze(-1).exp()
        b_bar = (torch.exp(log_lam) - 1).div(eigs)[:, None] * torch.view_as_complex(self.B)
        steps = torch.arange(u.shape[1])
        lag = steps[:, None] - steps
        powers = torch.exp(log_lam[:, None, None] * lag.clamp(min=0)) * (lag >= 0)
        inputs = u.to(b_bar.dtype) @ b_bar.T
        x = torch.einsum("nts,bsn->btn", powers, inputs)
        if self.bidirectional:
            x = torch.cat([x, torch.einsum("nts,btn->bsn", powers, inputs)], dim=-1)
        return 2 * (x @ torch.view_as_complex(self.C).T).real + self.D * u

    @torch.no_grad()
    def make_stable(self):
        """Move every stored eigenvalue into the left half-plane, at MAX_REAL or below."""
        self.Lambda_re.clamp_(max=MAX_REAL)


class S5Block(nn.Module):
    """Pre-norm residual block: batch norm, state-space layer, GELU and a sigmoid gate."""

    def __init__(self, width, states, blocks, dt_range, bidirectional, dropout, rng):
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.seq = S5SSM(width, states, blocks, dt_range, bidirectional, rng)
        self.out2 = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        """Map x (batch, steps, width) to the same shape."""
        u = self.norm(x.flatten(0, 1)).view_as(x)
        g = self.drop(nn.functional.gelu(self.seq(u), approximate="tanh"))
        return x + self.drop(g * torch.sigmoid(self.out2(g)))


class S5Classifier(nn.Module):
    """Linear encoder, S5 blocks, mean over time, linear decoder."""

    def __init__(self, cfg):
        super().__init__()
        rng = np.random.default_rng(cfg["model_seed"])
        keys = ("width", "states", "blocks", "dt_range", "bidirectional", "dropout")
        block_args = (*(cfg[key] for key in keys), rng)
        self.encoder = nn.Linear(1, cfg["width"])
        self.layers = nn.ModuleList(S5Block(*block_args) for _ in range(cfg["layers"]))
        self.decoder = nn.Linear(cfg["width"], CLASSES)

    def forward(self, u):
        """Map u (batch, steps, 1) to logits (batch, classes)."""
        x = self.encoder(u)
        for layer in self.layers:
            x = layer(x)
        return self.decoder(x.mean(dim=1))


def load_splits(cfg):
    """Return {"train", "val", "test"}: (x, y) tensors; x is (n, 64, 1) in [0, 1]."""
    digits = load_digits()
    x = (digits.data / 16.0).astype(np.float32).reshape(-1, LENGTH, 1)
    y = digits.target.astype(np.int64)
    seed = cfg["split_seed"]
    x, x_test, y, y_test = train_test_split(x, y, test_size=cfg["n_test"], stratify=y, random_state=seed)
    x, x_val, y, y_val = train_test_split(x, y, test_size=cfg["n_val"], stratify=y, random_state=seed)
    splits = {"train": (x, y), "val": (x_val, y_val), "test": (x_test, y_test)}
    return {name: (torch.from_numpy(a), torch.from_numpy(b)) for name, (a, b) in splits.items()}


@torch.no_grad()
def accuracy(model, data):
    """Return the accuracy, in percent, of the model in evaluation mode."""
    model.eval()
    x, y = data
    return 100.0 * (model(x).argmax(dim=1) == y).double().mean().item()


def make_optimizer(model, cfg):
    """Return AdamW with a smaller rate and no weight decay for the dynamics (Lambda, B, log_step)."""
    ssm_names = ("Lambda_re", "Lambda_im", "B", "log_step")
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[name.rsplit(".", 1)[-1] in ssm_names].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups[True], "lr": cfg["ssm_lr"], "weight_decay": 0.0},
            {"params": groups[False], "lr": cfg["lr"], "weight_decay": cfg["weight_decay"]},
        ]
    )


def train_epoch(model, data, optimizer, schedule, batch, generator):
    """Run one pass over the shuffled training data and return the mean loss."""
    model.train()
    x, y = data
    total = 0.0
    for index in torch.randperm(len(y), generator=generator).split(batch):
        loss = nn.functional.cross_entropy(model(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        for layer in model.layers:
            layer.seq.make_stable()
        total += loss.item() * len(index)
    return total / len(y)


def train(cfg, splits):
    """Train from scratch and return the final-epoch model."""
    torch.manual_seed(cfg["model_seed"])
    model = S5Classifier(cfg)
    optimizer = make_optimizer(model, cfg)
    batches = -(-len(splits["train"][1]) // cfg["batch"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg["epochs"] * batches)
    generator = torch.Generator().manual_seed(cfg["shuffle_seed"])
    for epoch in range(1, cfg["epochs"] + 1):
        loss = train_epoch(model, splits["train"], optimizer, schedule, cfg["batch"], generator)
        val = accuracy(model, splits["val"])
        print(f"epoch {epoch:3d}/{cfg['epochs']}  loss {loss:.4f}  val {val:.2f} %", flush=True)
    return model


def save_model(model, path):
    """Write the state dict and the adapter's settings to a safetensors file in one step."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    partial = path.with_suffix(".partial")
    partial.write_bytes(save(tensors, {"format": "pt", "ssmreduce.adapter": json.dumps(ADAPTER)}))
    os.replace(partial, path)


def save_test(data, path):
    """Write the test split as a compressed npz file."""
    x, y = data
    np.savez_compressed(path, x_test=x.numpy(), y_test=y.numpy())


@torch.no_grad()
def max_abs_lambda(model):
    """Return, per layer, the largest modulus of the discrete-time eigenvalues."""
    layers = [layer.seq for layer in model.layers]
    return [(s.Lambda_re.double() * s.log_step.double().squeeze(-1).exp()).exp().max().item() for s in layers]


def summarise(cfg, splits, path, seconds):
    """Return what config.json holds; the accuracies are those of the file read back."""
    model = S5Classifier(cfg)
    model.load_state_dict(load_file(path))
    with safe_open(path, "pt") as file:
        adapter = json.loads(file.metadata()["ssmreduce.adapter"])
    versions = {"torch": torch.__version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__}
    return {
        "hyperparameters": cfg,
        "adapter": adapter,
        "samples": {name: len(y) for name, (_, y) in splits.items()},
        "accuracy_percent": {name: round(accuracy(model, data), 4) for name, data in splits.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "max_abs_lambda": max_abs_lambda(model),
        "seconds": round(seconds, 1),
        "versions": versions,
    }


def parse_args():
    """Read the command line; everything but the output folder is a hyper-parameter."""
    parser = argparse.ArgumentParser(description="Train an S5 classifier on sequential digits.")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "s5_digits")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--lr", type=float, default=4e-3, help="rate of all but Lambda, B, log_step")
    parser.add_argument("--ssm-lr", type=float, default=2e-3, help="rate of Lambda, B, log_step")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--bidirectional", action="store_true", help="layers that also run backwards in time")
    parser.add_argument("--seed", type=int, default=0, help="seed of initial values, dropout, order")
    return parser.parse_args()


def make_config(args):
    """Return the hyper-parameters as one dictionary that can be written as JSON."""
    fixed = {"layers": 4, "width": 32, "states": 64, "blocks": 4, "dt_range": [1e-3, 1e-1]}
    data = {"n_test": 360, "n_val": 144, "split_seed": 0}
    keys = ("bidirectional", "epochs", "batch", "lr", "ssm_lr", "weight_decay", "dropout")
    optim = {key: getattr(args, key) for key in keys}
    seeds = {"model_seed": args.seed, "shuffle_seed": args.seed}
    return {**fixed, **data, **optim, **seeds, "optimizer": "AdamW", "schedule": "cosine to 0, per step"}


def main():
    """Train, save, read back and report."""
    args = parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    cfg = make_config(args)
    splits = load_splits(cfg)
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    model = train(cfg, splits)
    seconds = time.perf_counter() - start
    save_model(model, args.out / "model.safetensors")
    save_test(splits["test"], args.out / "test.npz")
    report = summarise(cfg, splits, args.out / "model.safetensors", seconds)
    (args.out / "config.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"trained in {seconds:.0f} s; test accuracy {report['accuracy_percent']['test']:.2f} %")


if __name__ == "__main__":
    main()
