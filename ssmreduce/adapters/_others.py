"""Families that are not linear and time invariant, or have no states in the file: what to say of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ._layout import natural, places

_SELECTIVE = (
    "the recurrence depends on the input (it is linear, but not time invariant), so that it has no transfer function, "
    "norm or Gramian, and modal truncation, balanced truncation and the scores of this library do not apply"
)
_BY_DATA = "rank its states by what they do on data, with inputs that are recorded from the network"
_SELECTIVE_ROOM = (
    "give the live PyTorch module to ssmreduce.compress(module, batches, ratio=...), which ranks its states by what "
    "they do on data and removes them"
)
_MATRIX = (
    "its state is a matrix of products of keys and values, which are both computed from the input: the layer is not "
    "linear in its input, and no linear system equals it"
)
_HEADS = "make its heads narrower or fewer instead, with a method for attention"


class Known(NamedTuple):
    """A family, tensors that tell it, what it is, and what can be done."""

    family: str
    leaves: tuple[str, ...]
    what: str
    advice: str


KNOWN: tuple[Known, ...] = (
    Known("Mamba", ("A_log", "x_proj.weight", "dt_proj.weight"), _SELECTIVE, _SELECTIVE_ROOM),
    Known("Gated DeltaNet", ("A_log", "dt_bias", "in_proj_qkvz.weight"), _MATRIX, _HEADS),
    Known("Gated DeltaNet", ("A_log", "dt_bias", "q_proj.weight", "b_proj.weight"), _MATRIX, _HEADS),
    Known("Mamba-2", ("A_log", "dt_bias", "in_proj.weight", "conv1d.weight"), _SELECTIVE, _SELECTIVE_ROOM),
    Known("RG-LRU (Griffin, RecurrentGemma)", ("recurrent_param", "recurrent_gate_weight"), _SELECTIVE, _BY_DATA),
    Known("RG-LRU (Griffin, RecurrentGemma)", ("a_param", "a_gate.w"), _SELECTIVE, _BY_DATA),
    Known("RWKV", ("time_decay", "time_first"), _MATRIX, _HEADS),
    Known("RWKV", ("time_decay", "time_faaaa"), _MATRIX, _HEADS),
    Known("RWKV-7", ("w0", "k_k", "k_a", "r_k"), _MATRIX, _HEADS),
    Known("RetNet", ("retention.q_proj.weight", "retention.k_proj.weight"), _MATRIX, _HEADS),
    Known("GLA", ("gk_proj.0.weight", "q_proj.weight", "k_proj.weight"), _MATRIX, _HEADS),
    Known("DeltaNet", ("b_proj.weight", "q_conv1d.weight", "k_conv1d.weight"), _MATRIX, _HEADS),
    Known("xLSTM (mLSTM)", ("igate.weight", "fgate.weight"), _MATRIX, _HEADS),
    Known(
        "a liquid time-constant network",
        ("sensory_mu", "sensory_sigma", "gleak", "vleak"),
        "its time constants depend on the input and the state: the layer is not linear",
        "train a linear variant of it, or distil it into one",
    ),
    Known(
        "LMU",
        ("e_x", "e_h", "e_m", "W_m"),
        "what is written into its memory depends on the hidden state, which a tanh computes: the memory alone is "
        "linear, the layer is not",
        "train the parallel variant (LMUFFT), whose memory is driven by the input alone",
    ),
    Known(
        "LMU in parallel form (LMUFFT)",
        ("W_u.weight", "W_h.weight", "fft_H"),
        "its memory is linear and time invariant, but lies between two activations, and its arrays hold one sequence "
        "length",
        "realise the memory's impulse responses, which the array H holds: ssmreduce.realize(H[:, None], order=...)",
    ),
    Known(
        "Hyena",
        ("filter_fn.implicit_filter.0.weight",),
        "its filters are linear and time invariant, but the file holds the network that makes them, and no states",
        "evaluate its filters, and find the systems of least order that have those impulse responses",
    ),
)


def known_other(params: Mapping[str, Any]) -> str | None:
    """What the checkpoint holds if it is of a known family that is not covered, as a sentence; else None."""
    for known in KNOWN:
        found = [{name for key in params for name, _ in places(key, (leaf,))} for leaf in known.leaves]
        if layers := sorted(set.intersection(*found), key=natural):
            return (
                f"layer {layers[0]!r} is one of {known.family}: {known.what}. What can be done: {known.advice}. "
                "(Only linear time-invariant layers are read here.)"
            )
    return None
