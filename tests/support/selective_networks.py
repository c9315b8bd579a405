"""Small random networks of each family of transformers with selective layers."""

import functools

import pytest

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 40}
ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
HEADS = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 12, "mamba_expand": 2}
CONFIGS = {
    "mamba": {"state_size": 8},
    "falcon_mamba": {"state_size": 8},
    "jamba": {
        **ATTENTION, "mamba_d_state": 8, "mamba_dt_rank": 4, "num_experts": 2, "attn_layer_period": 2,
        "attn_layer_offset": 1, "use_mamba_kernels": False,
    },
    "mamba2": {"state_size": 12, "num_heads": 4, "head_dim": 16, "n_groups": 2, "chunk_size": 16},
    "bamba": {**ATTENTION, **HEADS, "mamba_n_groups": 2, "attn_layer_indices": [1], "mamba_chunk_size": 16},
    "zamba2": {
        **ATTENTION, "mamba_d_state": 12, "n_mamba_heads": 4, "mamba_headdim": 16, "mamba_ngroups": 2,
        "chunk_size": 16, "layers_block_type": ["mamba", "hybrid"], "num_mem_blocks": 1, "adapter_rank": 4,
    },
    "falcon_h1": {
        **ATTENTION, **HEADS, "mamba_n_groups": 2, "mamba_d_ssm": 64, "mamba_chunk_size": 16,
        "ssm_in_multiplier": 0.7, "ssm_multipliers": [0.5, 1.5, 0.8, 1.2, 0.9], "mamba_rms_norm": True,
        "mamba_norm_before_gate": True,
    },
    "nemotron_h": {
        **ATTENTION, "ssm_state_size": 12, "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2,
        "hybrid_override_pattern": "M*", "chunk_size": 16,
    },
    "granitemoehybrid": {
        **ATTENTION, **HEADS, "mamba_n_groups": 2, "layer_types": ["mamba", "attention"], "mamba_chunk_size": 16,
        "num_local_experts": 2, "num_experts_per_tok": 1, "shared_intermediate_size": 32,
    },
}  # fmt: skip


@functools.cache
def network(kind):
    """A causal language model with random weights, of two blocks."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **CONFIGS[kind]})
    model = transformers.AutoModelForCausalLM.from_config(config).eval().float()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1 and "conv1d" not in name:
                value.copy_(torch.randn_like(value) / value.shape[-1] ** 0.5)
            elif name.endswith(("dt_bias", "dt_proj.bias")):
                value.uniform_(-3, 0)
            elif name.endswith(("norm.weight", "layernorm.weight")):
                value.uniform_(0.5, 1.5)
    return model


def tokens(length=40, batch=3, seed=0):
    """Random ids."""
    torch = pytest.importorskip("torch")
    return torch.randint(0, 40, (batch, length), generator=torch.Generator().manual_seed(seed))
