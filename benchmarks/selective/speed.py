"""Decoding and prefill throughput and state memory of a Mamba-2 network with fewer states, in PyTorch on a CPU.

    python benchmarks/selective/speed.py [--width 768] [--layers 12] [--orders 128 64 32 16] [--batches 1 64]

Random weights. "transformers" is the stock Mamba2ForCausalLM on its PyTorch path (no mamba_ssm, no causal_conv1d: the
`mamba2_selective_state_update` and `mamba2_chunk_scan` of its modeling file); "drop-in" is the same network with
`ssmreduce.networks.SelectiveMixer`, at the full order (no mix) and with rotated states of smaller order. Rounds of the
variants are interleaved; the median is shown. State memory is that of the cache: recurrent states, and with the
convolution's, which keeps its width.
"""

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np
import torch
import transformers

from ssmreduce.networks import mixer_layer, replace_mixers, selective_mixers
from ssmreduce.selective import Mamba2SSM


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--orders", type=int, nargs="+", default=[128, 64, 32, 16])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    variants = networks(options)
    with torch.no_grad():
        for batch in options.batches:
            decoding(variants, batch, options)
        prefill(variants, options)


def networks(options):
    """Name -> network: stock, and drop-in at each order."""
    torch.manual_seed(0)
    config = transformers.Mamba2Config(
        hidden_size=options.width, num_hidden_layers=options.layers, state_size=options.orders[0], vocab_size=1000,
        num_heads=2 * options.width // 64, head_dim=64, n_groups=1, chunk_size=64,
    )  # fmt: skip
    stock = transformers.Mamba2ForCausalLM(config).eval()
    variants = {f"transformers {options.orders[0]}": stock}
    for order in options.orders:
        layers = {name: rotated(mixer_layer(mixer), order) for name, mixer in selective_mixers(stock).items()}
        variants[f"drop-in {order}"] = replace_mixers(stock, layers)
    return variants


def rotated(layer: Mamba2SSM, order: int) -> Mamba2SSM:
    """Layer with full mixes of a smaller order; the values do not matter for the time."""
    if order == layer.order:
        return layer
    mix = np.random.default_rng(0).standard_normal((1, order, layer.rows)) / np.sqrt(layer.rows)
    return replace(layer, mix_B=mix, mix_C=mix)


def decoding(variants, batch, options):
    """Tokens per second of single-step decoding, and the size of the cache."""
    caches, times = {}, {name: [] for name in variants}
    ids = torch.randint(0, 1000, (batch, 1))
    for name, model in variants.items():
        caches[name] = model(ids.expand(-1, 4).contiguous(), use_cache=True).cache
        model(ids, cache=caches[name], use_cache=True)
    for _ in range(options.rounds):
        for name, model in variants.items():
            start = time.perf_counter()
            for _ in range(options.steps):
                model(ids, cache=caches[name], use_cache=True)
            times[name].append((time.perf_counter() - start) / options.steps)
    print(f"\ndecoding, batch {batch}: {'tokens/s':>26s} {'factor':>7s} {'states MiB':>11s} {'with conv.':>11s}")
    base = statistics.median(next(iter(times.values())))
    for name, seconds in times.items():
        median = statistics.median(seconds)
        states, conv = sizes(caches[name])
        print(
            f"{name:24s} {batch / median:22.1f} {base / median:7.2f} {states:11.2f} {states + conv:11.2f}", flush=True
        )


def sizes(cache):
    """MiB of the recurrent states and of the states of the convolution."""
    states = sum(layer.recurrent_states[0].nbytes for layer in cache.layers) / 2**20
    return states, sum(layer.conv_states[0].nbytes for layer in cache.layers) / 2**20


def prefill(variants, options):
    """Tokens per second of a prompt."""
    ids = torch.randint(0, 1000, (1, options.prompt))
    times = {name: [] for name in variants}
    for k in range(options.rounds + 1):
        for name, model in variants.items():
            start = time.perf_counter()
            model(ids, use_cache=False)
            if k:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    print(f"\nprefill, {options.prompt} tokens: {'tokens/s':>24s} {'factor':>7s}")
    base = statistics.median(next(iter(times.values())))
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:24s} {options.prompt / median:24.1f} {base / median:7.2f}")


if __name__ == "__main__":
    main()
