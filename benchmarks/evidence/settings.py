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
    """

    epochs: int
    batch: int = 40
    lr: float = 4e-3
    ssm_lr: float = 1e-3
    dropout: float = 0.05
    weight_decay: float = 0.05
    warmup: float = 0.05
    clip: float = 5.0


S4D_RATES = {"lr": 1e-2, "ssm_lr": 4e-3}
DISCRETE_RATES = {"lr": 6e-3, "ssm_lr": 2e-3}

SETTINGS: dict[tuple[str, str], Setting] = {
    ("digits", "s5"): Setting(epochs=40, ssm_lr=2e-3, dropout=0.1),
    ("digits", "s4d"): Setting(epochs=40, dropout=0.1, **S4D_RATES),
    ("digits", "lru"): Setting(epochs=40, ssm_lr=2e-3, dropout=0.1),
    ("mnist1d", "s5"): Setting(epochs=30, ssm_lr=2e-3, dropout=0.1),
    ("mnist1d", "s4d"): Setting(epochs=30, dropout=0.1, **S4D_RATES),
    ("mnist1d", "lru"): Setting(epochs=30, ssm_lr=2e-3, dropout=0.1),
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
