"""Mamba and Mamba-2 of transformers with another number of states in each layer, as their configuration says."""

from typing import Any

import transformers


class _PerLayer:
    """Build each block from the configuration of its layer; `transformers` builds all of them from one."""

    def __init__(self, config: Any):
        own = config.per_layer_config
        super().__init__(own[0])  # type: ignore[call-arg]
        blocks = self.backbone.layers  # type: ignore[attr-defined]
        for index in range(1, len(blocks)):
            blocks[index] = type(blocks[index])(own[index], layer_idx=index)
        self.config = self.backbone.config = config  # type: ignore[attr-defined]
        self.post_init()  # type: ignore[attr-defined]


class PerLayerMambaForCausalLM(_PerLayer, transformers.MambaForCausalLM):
    """MambaForCausalLM that respects ``per_layer_config``: layers with unequal ``state_size``.

    Parameters
    ----------
    config : transformers.MambaConfig
        With ``per_layer_config={layer: {"state_size": n}, ...}``, or the same size everywhere.

    Examples
    --------
    >>> import transformers
    >>> from ssmreduce.networks import PerLayerMambaForCausalLM
    >>> sizes = {0: {"state_size": 8}, 1: {"state_size": 3}}
    >>> config = transformers.MambaConfig(hidden_size=8, num_hidden_layers=2, vocab_size=20, per_layer_config=sizes)
    >>> [block.mixer.ssm_state_size for block in PerLayerMambaForCausalLM(config).backbone.layers]
    [8, 3]
    """


class PerLayerMamba2ForCausalLM(_PerLayer, transformers.Mamba2ForCausalLM):
    """Mamba2ForCausalLM that respects ``per_layer_config``: layers with unequal ``state_size``.

    Parameters
    ----------
    config : transformers.Mamba2Config
        With ``per_layer_config={layer: {"state_size": n}, ...}``, or the same size everywhere.

    Examples
    --------
    >>> import transformers
    >>> from ssmreduce.networks import PerLayerMamba2ForCausalLM
    >>> sizes = {0: {"state_size": 8}, 1: {"state_size": 3}}
    >>> config = transformers.Mamba2Config(
    ...     hidden_size=8, num_hidden_layers=2, vocab_size=20, num_heads=2, head_dim=8, per_layer_config=sizes
    ... )
    >>> [block.mixer.ssm_state_size for block in PerLayerMamba2ForCausalLM(config).backbone.layers]
    [8, 3]
    """
