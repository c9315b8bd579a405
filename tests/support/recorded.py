"""Checkpoints trained by the original code with its recordings, their networks and calibrations."""

from dataclasses import dataclass
from functools import cache

import numpy as np

import ssmreduce as sr
from ssmreduce import networks
from support.paths import DATA

RATIOS = tuple(range(0, 100, 10))


PRUNED = RATIOS[1:]


S5_FLAGS = sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=False)


@dataclass(frozen=True)
class Recorded:
    """A checkpoint, its network in NumPy and the recordings of the original code."""

    model: sr.SSMModel
    network: object
    oracle: dict
    x: np.ndarray
    y: np.ndarray

    def correct(self, model):
        return int((self.network(model, self.x).argmax(axis=1) == self.y).sum())

    def outputs(self, model, count):
        return self.network(model, self.x[:count])

    def kept(self, ratio):
        """The model with the states that the original code kept."""
        if ratio == 0:
            return self.model
        masks = self.oracle["keep_last"][PRUNED.index(ratio)]
        return sr.prune(self.model, {name: np.flatnonzero(m) for name, m in zip(self.model, masks, strict=True)})

    def reread(self, model, form):
        return sr.read(sr.export(model, form=form), adapter=model.adapter)


@cache
def recorded(name):
    """A recorded network of tests/data."""
    file, network, adapter = {
        "s5_last_uni_digits64": ("checkpoint.msgpack", networks.s5_flax, S5_FLAGS),
        "s4d_minimal_mnist1d": ("model.safetensors", networks.s4d_minimal, None),
        "lru_forgi86_digits64": ("model.safetensors", networks.lru_deep, None),
    }[name]
    with np.load(DATA / name / "oracle.npz") as oracle, np.load(DATA / name / "heldout.npz") as split:
        arrays, x, y = dict(oracle), split["x_test"], split["y_test"]
    return Recorded(sr.load(DATA / name / file, adapter=adapter), network, arrays, x, y)


S5, S4D, LRU = NAMES = ("s5_last_uni_digits64", "s4d_minimal_mnist1d", "lru_forgi86_digits64")


@cache
def sequences(name):
    """Its calibration sequences."""
    with np.load(DATA / name / "calibration.npz") as file:
        return file["x"].astype(float)


@cache
def inputs_of(name, count=300):
    """What its layers are fed."""
    r = recorded(name)
    return networks.NumpyNetwork(r.network, model=r.model).layer_inputs(r.model, sequences(name)[:count])


@cache
def calibration_of(name):
    """Its calibration."""
    return sr.calibrate(recorded(name).model, inputs_of(name))


def net_of(r):
    """The network of a recording, in NumPy."""
    return sr.network(r.network, model=r.model)
