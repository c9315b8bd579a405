"""Hyper-parameters: those of the networks trained here, and the papers' own for the original data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """How one kind of network is trained on one task.

    Attributes
    ----------
    epochs, batch : int
    lr, ssm_lr : float
        Rate of all parameters but the dynamics, and of the dynamics.
    dropout, weight_decay : float
        The dynamics do not decay.
    warmup : float
        Share of the steps in which the rate rises.
    clip : float
        Largest norm of a gradient.
    width, layers : int
        Of the network.
    states : int, optional
        Stored states per layer (S4D: per feature); by default those of `models.STATES`.
    blocks : int
        Of the initial state matrix of S5.
    """

    epochs: int
    batch: int = 40
    lr: float = 4e-3
    ssm_lr: float = 1e-3
    dropout: float = 0.05
    weight_decay: float = 0.05
    warmup: float = 0.05
    clip: float = 5.0
    width: int = 32
    layers: int = 4
    states: int | None = None
    blocks: int = 4


S4D_RATES = {"lr": 1e-2, "ssm_lr": 4e-3}
DISCRETE_RATES = {"lr": 6e-3, "ssm_lr": 2e-3}

SETTINGS: dict[tuple[str, str], Setting] = {
    ("digits", "s5"): Setting(epochs=40, ssm_lr=2e-3, dropout=0.1),
    ("digits", "s4d"): Setting(epochs=40, dropout=0.1, **S4D_RATES),
    ("digits", "lru"): Setting(epochs=40, ssm_lr=2e-3, dropout=0.1),
    ("mnist1d", "s5"): Setting(epochs=12, lr=8e-3, ssm_lr=3e-3),
    ("mnist1d", "s4d"): Setting(epochs=12, **S4D_RATES),
    ("mnist1d", "lru"): Setting(epochs=12, lr=8e-3, ssm_lr=3e-3),
    ("smnist14", "s5"): Setting(epochs=8),
    ("smnist14", "s4d"): Setting(epochs=8, **S4D_RATES),
    ("smnist14", "lru"): Setting(epochs=8),
    ("sfashion14", "s5"): Setting(epochs=4),
    ("sfashion14", "s4d"): Setting(epochs=4, **S4D_RATES),
    ("sfashion14", "lru"): Setting(epochs=4),
    ("psmnist14", "s5"): Setting(epochs=8),
    ("psmnist14", "s4d"): Setting(epochs=8, **S4D_RATES),
    ("listops64", "s5-bi"): Setting(epochs=12, **DISCRETE_RATES),
    ("listops64", "s4d"): Setting(epochs=12, **S4D_RATES),
    ("pathfinder16", "s5-bi"): Setting(epochs=6, **DISCRETE_RATES),
    ("pathfinder16", "s4d"): Setting(epochs=6, **S4D_RATES),
    ("spam256", "s5"): Setting(epochs=3),
    ("spam256", "s4d"): Setting(epochs=3, **S4D_RATES),
}
"""(task, kind of network) -> setting; the tasks without an entry for a kind are not trained with it."""

PAPER: dict[tuple[str, str], Setting] = {
    ("lra-listops", "s5-bi"): Setting(40, 50, 3e-3, 1e-3, 0.0, 0.04, 1 / 40, width=128, layers=8, states=8, blocks=8),
    ("lra-text", "s5-bi"): Setting(35, 50, 4e-3, 1e-3, 0.1, 0.07, 0.0, width=256, layers=6, states=96, blocks=12),
    ("lra-image", "s5-bi"): Setting(
        250, 50, 4.5e-3, 1e-3, 0.1, 0.07, 1 / 250, width=512, layers=6, states=192, blocks=3
    ),
    ("speech35", "s5-bi"): Setting(40, 16, 8e-3, 2e-3, 0.1, 0.04, 1 / 40, width=96, layers=6, states=64, blocks=16),
}
"""Sizes, rates, batches and epochs of the scripts that the S5 authors released (lindermanlab/S5, commit d133f4d), for
the original data. Not run here. Theirs differ in the gate, in which parameters decay, in the first C and step sizes."""


def setting_of(task: str, kind: str) -> Setting:
    """The setting of one kind of network on a task, original data included."""
    return SETTINGS[task, kind] if (task, kind) in SETTINGS else PAPER[task, kind]
