"""Train small selective models to reduce: a folder per model, in Hugging Face form with `data.npz`, for accuracy.py.

    python benchmarks/selective/train.py OUT [--models bytes groups hybrid] [--steps N] [--threads 1]

* bytes: a Mamba-2 language model of the bytes of Python's standard library (3 layers, 64 states).
* groups: Mamba-2 with two groups of B and C on multi-query associative recall of 12 pairs (2 layers, 32 states).
* hybrid: a Bamba with an attention layer between Mamba-2 layers, on the same bytes (3 layers, 64 states).

Test files and sequences take no part in training; calibration sequences come from the training files. Each model is
stored every few hundred steps with its optimiser, and a run that was stopped goes on.
"""

import argparse
import sysconfig
import time
from pathlib import Path

import numpy as np
import torch
import transformers

LENGTH = 192
PAIRS, KEYS, VALUES = 12, 24, 24
STEPS = {"bytes": 1000, "groups": 1500, "hybrid": 800}
BATCH = {"bytes": 8, "groups": 32, "hybrid": 8}
SAVE_EVERY = 100


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in options.models:
        train(name, options.out / name, options.steps or STEPS[name])


def configuration(name):
    """Architecture of a model."""
    if name == "hybrid":
        return transformers.BambaConfig(
            vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=3, attn_layer_indices=[1],
            num_attention_heads=4, num_key_value_heads=2, mamba_n_heads=8, mamba_d_head=16, mamba_n_groups=1,
            mamba_d_state=64, mamba_d_conv=4, mamba_expand=2, mamba_chunk_size=64, tie_word_embeddings=False,
            max_position_embeddings=LENGTH, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )  # fmt: skip
    width, layers, states, groups, vocabulary = {
        "bytes": (96, 3, 64, 1, 256),
        "groups": (48, 2, 32, 2, 2 + KEYS + VALUES),
    }[name]
    return transformers.Mamba2Config(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, state_size=states, n_groups=groups,
        head_dim=24, num_heads=2 * width // 24, chunk_size=64, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        tie_word_embeddings=False, time_step_limit=(0.0, 1e9),
    )  # fmt: skip


def train(name, folder, steps):
    """Train one model, from where it was stopped, and write its folder."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(configuration(name))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    folder.mkdir(parents=True, exist_ok=True)
    stored, done = folder / "training.pt", 0
    if stored.exists():
        state = torch.load(stored, weights_only=True)
        done = state["done"]
        for part, value in zip((model, optimizer, schedule), state["parts"], strict=True):
            part.load_state_dict(value)
    draw = recall if name == "groups" else text("train")
    start = time.perf_counter()
    for step in range(done, steps):
        ids, targets = draw(np.random.default_rng((1, step)), BATCH[name])
        logits = model(torch.as_tensor(ids), use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.as_tensor(targets).flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            parts = [part.state_dict() for part in (model, optimizer, schedule)]
            torch.save({"done": step + 1, "parts": parts}, stored)
            left = (time.perf_counter() - start) / (step + 1 - done) * (steps - step - 1)
            print(
                f"{name}: step {step + 1} of {steps}, {float(loss.detach()) / np.log(2):.3f} bits, {left:.0f} s left",
                flush=True,
            )
    write(name, model, folder)


def write(name, model, folder):
    """The folder: weights, configuration, test and calibration sequences."""
    model.save_pretrained(folder)
    draw = {"train": recall, "test": recall} if name == "groups" else {part: text(part) for part in ("train", "test")}
    ids, targets = draw["test"](np.random.default_rng(2), 200)
    calibration, _ = draw["train"](np.random.default_rng(3), 128)
    short = np.int16
    np.savez_compressed(
        folder / "data.npz",
        test_ids=ids.astype(short), test_targets=targets.astype(short), calibration_ids=calibration.astype(short),
    )  # fmt: skip


def text(part):
    """Draws of (ids, next ids) from the standard library's files; every tenth file is for testing."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    chosen = [file for k, file in enumerate(files) if (k % 10 == 0) == (part == "test")]
    data = np.frombuffer(b"".join(file.read_bytes() for file in chosen), dtype=np.uint8).astype(np.int64)

    def draw(rng, batch):
        starts = rng.integers(0, len(data) - LENGTH - 1, batch)
        rows = data[starts[:, None] + np.arange(LENGTH + 1)]
        return rows[:, :-1], rows[:, 1:]

    return draw


def recall(rng, batch):
    """Pairs of keys and values, then every key again in another order; its value is asked."""
    keys = np.argsort(rng.random((batch, KEYS)), axis=1)[:, :PAIRS] + 2
    values = rng.integers(0, VALUES, (batch, PAIRS)) + 2 + KEYS
    asked = np.argsort(rng.random((batch, PAIRS)), axis=1)
    pairs = np.stack([keys, values], axis=2)
    again = np.take_along_axis(pairs, asked[..., None], axis=1)
    ids = np.concatenate([pairs, again], axis=1).reshape(batch, -1)
    targets = np.full_like(ids, -100)
    targets[:, 2 * PAIRS :: 2] = again[..., 1]
    return ids, targets


if __name__ == "__main__":
    main()
