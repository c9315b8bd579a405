"""Reduce a Mamba or Mamba-2 checkpoint from a local folder, one block in memory at a time.

    python benchmarks/selective/reduce_checkpoint.py FOLDER OUT --text FILE [--ratio 0.75] [--method rotate]
    python benchmarks/selective/reduce_checkpoint.py --random FOLDER [--layers 12] [--width 768] [--order 128]

FOLDER is in Hugging Face form (model type mamba or mamba2: config.json, safetensors in one file or several, a tokenizer
where there is one; without one the bytes of the text are the ids). The text gives `--sequences` sequences to calibrate
with and as many held apart, from its other end. Printed per block: the relative error of the layer on both; at the end
perplexity on the held-apart text, full and reduced, and the share of positions with the same next token.

In memory: one block, the residual streams (sequences * tokens * width * 16 bytes), and the moments. OUT is a folder for
`ssmreduce.networks.load_selective`; with a method that selects states (surgeon, ghost, ...) it has the stock layout.
The second form writes a model with random weights to try this on.
"""

import argparse
import json
import math
import resource
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

from ssmreduce.adapters import order_key
from ssmreduce.networks import mixer_layer
from ssmreduce.networks._folders import KEY, described
from ssmreduce.networks._selective import mixer_adapter, set_mixer
from ssmreduce.reduction.calibrated._selective import relative
from ssmreduce.selective import method_steps, reduce_selective, selective_moments


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--ratio", type=float, default=0.75)
    parser.add_argument("--method", default="rotate")
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--probes", type=int, default=8)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--order", type=int, default=128)
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    with torch.no_grad():
        random_model(options) if options.random else reduce_folder(options)


def random_model(options):
    """Write a Mamba-2 model with random weights."""
    config = transformers.Mamba2Config(
        hidden_size=options.width, num_hidden_layers=options.layers, state_size=options.order, vocab_size=256,
        num_heads=max(1, 2 * options.width // 64), head_dim=min(64, 2 * options.width), n_groups=1,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.Mamba2ForCausalLM(config).save_pretrained(options.folder)


def reduce_folder(options):
    start = time.perf_counter()
    config = transformers.AutoConfig.from_pretrained(options.folder)
    tensors = Tensors(options.folder)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    base = model.backbone
    ids = token_ids(options, config)
    load(base.embeddings, tensors, "backbone.embeddings.")
    full = reduced = base.embeddings(ids)
    writer = Writer(options.out)
    writer.add({key: tensors(key) for key in tensors.names if ".layers." not in key})
    mixers = {}
    for k, block in enumerate(base.layers):
        load(block, tensors, f"backbone.layers.{k}.")
        full, reduced, state, entry = one_block(block, k, full, reduced, options)
        if entry is not None:
            mixers[f"backbone.layers.{k}.mixer"] = entry
        writer.add({f"backbone.layers.{k}.{key}": value for key, value in state.items()})
        block.to("meta")
    load(base.norm_f, tensors, "backbone.norm_f.")
    tied = "lm_head.weight" not in tensors.names
    load(model.lm_head, tensors, "backbone.embeddings." if tied else "lm_head.")
    writer.close(json.loads(config.to_json_string(use_diff=False)), mixers, kept(config.state_size, options))
    report(model, ids, full, reduced, options.sequences)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{time.perf_counter() - start:.0f} s, {peak:.2f} GiB at most")


def kept(order, options):
    """States that each layer keeps."""
    return max(1, math.ceil(order * (1 - options.ratio) - 1e-9))


class Tensors:
    """The tensors of a folder, read one by one, in single precision."""

    def __init__(self, folder):
        self.files = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                self.files.update(dict.fromkeys(file.keys(), path))
        self.names = list(self.files)

    def __call__(self, name):
        with safe_open(self.files[name], "pt") as file:
            return file.get_tensor(name).float()


def load(module, tensors, prefix):
    """Give a module on no device its weights."""
    state = {name[len(prefix) :]: tensors(name) for name in tensors.names if name.startswith(prefix)}
    module.load_state_dict(state, assign=True)


def token_ids(options, config):
    """Sequences to calibrate with, then sequences held apart, shape (2 sequences, tokens)."""
    text = options.text.read_bytes()
    if (options.folder / "tokenizer.json").is_file():
        tokenizer = transformers.AutoTokenizer.from_pretrained(options.folder)
        ids = np.array(tokenizer(text.decode(errors="replace"))["input_ids"])
    else:
        ids = np.frombuffer(text, dtype=np.uint8).astype(np.int64) % config.vocab_size
    needed = options.sequences * options.tokens
    if len(ids) < 2 * needed:
        raise SystemExit(f"the text has {len(ids)} tokens; {2 * needed} are needed: fewer --sequences or --tokens")
    return torch.as_tensor(np.concatenate([ids[:needed], ids[-needed:]]).reshape(-1, options.tokens))


def one_block(block, k, full, reduced, options):
    """Outputs of a block in the full and the reduced network, its new tensors, what describes a drop-in mixer."""
    layer, adapter = mixer_layer(block.mixer), mixer_adapter(block.mixer)
    targets = []
    handle = block.mixer.register_forward_hook(lambda _, __, output: targets.append(output.numpy()))
    full = torch.cat([block(rows) for rows in full.split(8)])
    handle.remove()
    u = block.norm(reduced).float().numpy()
    target = np.concatenate(targets)
    fit = slice(0, options.sequences)
    smaller = shrink(layer, u[fit], target[fit], options)
    set_mixer(block, "mixer", smaller)
    reduced = torch.cat([block(rows) for rows in reduced.split(8)])
    single = smaller.map_arrays(lambda v: v.astype(np.float32))
    apart = slice(options.sequences, None)
    errors = [relative(single, [u[part]], [target[part]]) for part in (fit, apart)]
    orders = f"{layer.order} -> {smaller.order} states"
    print(f"block {k}: {orders}, error {errors[0]:.4f}, held apart {errors[1]:.4f}", flush=True)
    state = dict(block.state_dict())
    if getattr(smaller, "mix_C", None) is not None:
        return full, reduced, state, described(block.mixer)
    state = {key: value for key, value in state.items() if not key.startswith("mixer.")}
    for name, value in adapter.tensors(smaller).items():
        state[f"mixer.{name}"] = torch.as_tensor(value, dtype=torch.float32)
    return full, reduced, state, None


def shrink(layer, u, target, options):
    single = layer.map_arrays(lambda v: v.astype(np.float32))
    order = kept(layer.order, options)
    method_steps(options.method, layer.kind)
    moments = selective_moments(
        single, u, target, probes=options.probes, joint=None if layer.kind == "mamba1" else False
    )
    given = {"u": u, "target": target} if "refine" in options.method else {}
    return reduce_selective(layer, order, method=options.method, moments=moments, **given)


class Writer:
    """A folder written block by block."""

    def __init__(self, out):
        self.out, self.index, self.count = out, {}, 0
        out.mkdir(parents=True, exist_ok=True)

    def add(self, tensors):
        name = f"model-{self.count:05d}.safetensors"
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        save_file(tensors, self.out / name, metadata={"format": "pt"})
        self.index.update(dict.fromkeys(tensors, name))
        self.count += 1

    def close(self, config, mixers, order):
        config = config | ({KEY: mixers} if mixers else {order_key(config): order})
        index = {"metadata": {}, "weight_map": self.index}
        (self.out / "model.safetensors.index.json").write_text(json.dumps(index))
        (self.out / "config.json").write_text(json.dumps(config, indent=2))


def report(model, ids, full, reduced, sequences):
    """Perplexity on the held-apart sequences, and agreement."""
    loss, same = [], []
    for row in range(sequences, len(ids)):
        outputs = [model.lm_head(model.backbone.norm_f(stream[row])) for stream in (full, reduced)]
        loss.append([float(torch.nn.functional.cross_entropy(o[:-1], ids[row, 1:])) for o in outputs])
        same.append(float((outputs[0].argmax(-1) == outputs[1].argmax(-1)).double().mean()))
    full_loss, reduced_loss = np.mean(loss, axis=0)
    print(
        f"perplexity {math.exp(full_loss):.4f} -> {math.exp(reduced_loss):.4f}, agreement {100 * np.mean(same):.2f} %"
    )


if __name__ == "__main__":
    main()
