"""The methods that are compared: each turns a trained network, a ratio and unlabelled sequences into a smaller model.

`METHODS` is a plain dict; further methods are added by an entry. A method sees a `Source`, which holds no labels.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

import ssmreduce as sr
from ssmreduce.reduction import hankel_orders
from ssmreduce.reduction.calibrated import recalibrate
from ssmreduce.reduction.methods import compensate
from ssmreduce.selection import prune_unstructured

from .models import Trained

CHEAP = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
DEAR = (0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(eq=False)
class Source:
    """What a reduction starts from.

    Attributes
    ----------
    trained : Trained
    x : ndarray
        Unlabelled training sequences.
    seed : int
        Of random methods.
    """

    trained: Trained
    x: np.ndarray
    seed: int = 0

    @property
    def model(self) -> sr.SSMModel:
        """The model to reduce."""
        return self.trained.model

    @property
    def calibration(self) -> sr.calibration.Calibration:
        """Second moments of the layers on the unlabelled sequences: made once for all methods."""
        self._asked = True
        return self._made[0]

    @cached_property
    def _made(self) -> tuple[sr.calibration.Calibration, float]:
        begun = time.process_time()
        calibration = sr.calibrate(self.model, self.trained.layer_inputs(self.model, self.x))
        return calibration, time.process_time() - begun

    def timed(self, reduce: Callable[["Source"], sr.SSMModel]) -> tuple[sr.SSMModel, float]:
        """A reduction and its CPU seconds; a calibration that was there already counts as if it had been made anew."""
        self._asked, there = False, "_made" in vars(self)
        begun = time.process_time()
        small = reduce(self)
        seconds = time.process_time() - begun
        return small, seconds + (self._made[1] if self._asked and there else 0.0)


@dataclass(frozen=True)
class Method:
    """One method of the comparison.

    Attributes
    ----------
    label : str
        As tables print it.
    reduce : callable
        ``reduce(source, ratio)`` returns the smaller model.
    ratios : tuple of float
        Where it is run.
    data : bool
        It uses the unlabelled sequences.
    kinds : tuple of str
        Networks that it serves; empty for all.
    equal : bool
        All features of S4D keep the same number of states, at least one of 16: not beyond a ratio of 0.9.
    """

    label: str
    reduce: Callable[[Source, float], sr.SSMModel]
    ratios: tuple[float, ...] = CHEAP
    data: bool = False
    kinds: tuple[str, ...] = ()
    equal: bool = False

    def serves(self, kind: str) -> bool:
        """Whether the method runs on this kind of network."""
        return not self.kinds or kind in self.kinds

    def planned(self, kind: str) -> tuple[float, ...]:
        """The ratios at which it runs on this kind of network."""
        if not self.serves(kind):
            return ()
        return tuple(ratio for ratio in self.ratios if not (self.equal and kind == "s4d" and ratio > 0.9))


def _pruned(source: Source, ratio: float, *, method: str) -> sr.SSMModel:
    return sr.prune(source.model, _selection(source, ratio, method))


def _selection(source: Source, ratio: float, method: str, scope: str = "layer") -> sr.selection.Selection:
    scores = sr.score(source.model, method, seed=source.seed)
    return sr.select(scores, ratio=ratio, scope=scope, ties="stable")


def _unstructured(source: Source, ratio: float) -> sr.SSMModel:
    return prune_unstructured(source.model, ratio=ratio, seed=source.seed)


def _compensated(source: Source, ratio: float) -> sr.SSMModel:
    return compensate(source.model, _selection(source, ratio, "last", "system"))


def _reduced(source: Source, ratio: float, *, method: str) -> sr.SSMModel:
    return sr.reduce(source.model, hankel_orders(source.model, ratio=ratio), method=method)


def _refitted(source: Source, ratio: float) -> sr.SSMModel:
    return sr.refit(_pruned(source, ratio, method="last"), source.calibration, reference=source.model)


def _eliminated(source: Source, ratio: float) -> sr.SSMModel:
    return sr.eliminate(source.model, source.calibration, ratio=ratio, feedthrough=True)


def _calibrated_balanced(source: Source, ratio: float) -> sr.SSMModel:
    orders = sr.eliminate(source.model, source.calibration, ratio=ratio, scope="system").orders
    small = sr.reduce(source.model, orders, method="balanced", calibration=source.calibration)
    inputs = source.trained.layer_inputs
    return recalibrate(source.model, small, [source.x], inputs, feedthrough=True)


def _compressed(source: Source, ratio: float, **options: int) -> sr.SSMModel:
    trained = source.trained
    return sr.compress(trained.model, [source.x], trained.layer_inputs, trained.logits, ratio=ratio, **options)


SHARED = ("s5", "s5-bi", "lru")  # one system with many inputs per layer

METHODS: dict[str, Method] = {
    "random_unstructured": Method("random entries", _unstructured),
    "random": Method("random states", partial(_pruned, method="random")),
    "uniform_magnitude": Method("uniform magnitude", partial(_pruned, method="uniform_magnitude")),
    "global_magnitude": Method("global magnitude", partial(_pruned, method="global_magnitude")),
    "lamp": Method("LAMP", partial(_pruned, method="lamp")),
    "uniform_hinf": Method("uniform H-infinity", partial(_pruned, method="uniform_hinf")),
    "global_hinf": Method("global H-infinity", partial(_pruned, method="global_hinf")),
    "last": Method("LAST", partial(_pruned, method="last")),
    "aire": Method("AIRE", partial(_pruned, method="aire")),
    "aire_reference": Method("AIRE, released code", partial(_pruned, method="aire_reference"), kinds=("s5-bi",)),
    "compensated_last": Method("LAST, compensated", _compensated, equal=True),
    "balanced": Method("balanced truncation", partial(_reduced, method="balanced"), equal=True),
    "greedy": Method("greedy H2", partial(_reduced, method="greedy"), kinds=SHARED),
    "balanced_perturbation": Method(
        "balanced perturbation", partial(_reduced, method="singular_perturbation"), kinds=("s4d",), equal=True
    ),
    "modal_perturbation": Method(
        "modal perturbation", partial(_reduced, method="modal_perturbation"), kinds=("s4d",), equal=True
    ),
    "last_refit": Method("LAST, refitted", _refitted, data=True),
    "eliminate": Method("elimination", _eliminated, data=True),
    "calibrated_balanced": Method("calibrated balanced", _calibrated_balanced, ratios=DEAR, data=True, equal=True),
    "h2": Method("H2-optimal", partial(_reduced, method="h2"), ratios=DEAR, kinds=SHARED),
    "compress_linear": Method("compress, poles kept", partial(_compressed, refine=0), ratios=DEAR, data=True),
    "compress": Method("compress", _compressed, ratios=DEAR, data=True, kinds=SHARED),
}
"""Methods by the name under which their cells are stored."""
