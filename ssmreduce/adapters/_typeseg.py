"""The bidirectional Mamba-1 layers of the package typeseg, in its npz file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import IncompleteLayerError, NotRepresentableError, UnknownLayerError
from ..selective import Mamba1SSM, absorb

_MATRICES = {"in_proj": "Dense_0", "x_proj": "Dense_1", "dt_proj": "Dense_2", "out_proj": "Dense_3"}
_BIASES = {
    "in_bias": "Dense_0",
    "x_bias": "Dense_1",
    "dt_bias": "Dense_2",
    "out_bias": "Dense_3",
    "conv_bias": "Conv_0",
}
_PLAIN = ("A_log", "D")


@dataclass(frozen=True)
class TypesegAdapter:
    """Reads and writes the layers of typeseg's Mamba model, a Flax module whose names end in ``..Block1D_<k>``.

    The convolution reaches two taps into the future, a second recurrence runs backwards in time and adds D once more,
    and the time step has a floor of 1e-4. A smaller layer is written with the same names; typeseg takes its size as
    ``d_state``.

    Parameters
    ----------
    separator : str
        Between the parts of a name: ``"__"`` in the file, ``"/"`` in the package's memory.

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.adapters import TypesegAdapter
    >>> shapes = {"Dense_0__kernel": (8, 32), "Dense_0__bias": (32,), "Conv_0__kernel": (4, 1, 16), "D": (16,),
    ...           "Dense_1__kernel": (16, 9), "Dense_1__bias": (9,), "Dense_2__kernel": (1, 16), "A_log": (16, 4),
    ...           "Dense_2__bias": (16,), "Dense_3__kernel": (16, 8), "Dense_3__bias": (8,), "Conv_0__bias": (16,)}
    >>> params = {f"CheckpointMambaBlock1D_0__{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}
    >>> adapter = TypesegAdapter()
    >>> adapter.find(params)
    ('CheckpointMambaBlock1D_0',)
    >>> adapter.get(params, "CheckpointMambaBlock1D_0")
    Mamba1SSM(order=4, inner=16, inputs=8)
    """

    separator: str = "__"

    def find(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the layers, in the order of the network."""
        end = f"{self.separator}A_log"
        names = [key[: -len(end)] for key in params if key.endswith(end) and "Block1D_" in key]
        return tuple(sorted(names, key=lambda name: int(name.rpartition("_")[2])))

    def get(self, params: Mapping[str, Any], name: str) -> Mamba1SSM:
        """One layer in double precision.

        Parameters
        ----------
        params : mapping
            Tensor name -> array.
        name : str
            One of `find`.

        Returns
        -------
        Mamba1SSM

        Raises
        ------
        UnknownLayerError, IncompleteLayerError, ShapeError
        """
        if name not in self.find(params):
            raise UnknownLayerError(f"there is no layer {name!r}; there are {', '.join(self.find(params))}")
        missing = [key for key in self._keys(name).values() if key not in params]
        if missing:
            raise IncompleteLayerError(f"the layer {name!r} has no {', '.join(missing)}")
        given: dict[str, Any] = {
            field: np.asarray(params[key], dtype=np.float64) for field, key in self._keys(name).items()
        }
        conv = given.pop("conv")[:, 0].T
        given |= {field: given[field].T for field in _MATRICES} | {"D": 2 * given["D"]}
        taps = conv.shape[1]
        return Mamba1SSM(conv=conv, ahead=taps - 1 - (taps - 1) // 2, dt_floor=1e-4, bidirectional=True, **given)

    def put(self, params: Mapping[str, Any], name: str, layer: Mamba1SSM) -> dict[str, Any]:
        """Parameters with one layer replaced, in the precision of the tensors that were there.

        Parameters
        ----------
        params : mapping
        name : str
        layer : Mamba1SSM
            Of the same width; a mix of C is absorbed.

        Returns
        -------
        dict

        Raises
        ------
        UnknownLayerError, IncompleteLayerError
        NotRepresentableError
            Another kind of layer.
        """
        old = self.get(params, name)
        if not isinstance(layer, Mamba1SSM) or (layer.inner, layer.inputs) != (old.inner, old.inputs):
            raise NotRepresentableError(f"the layer {name!r} is {old!r} and cannot become {layer!r}")
        layer = absorb(layer)
        values = {field: getattr(layer, field) for field in (*_BIASES, *_PLAIN)}
        values |= {field: getattr(layer, field).T for field in _MATRICES}
        values |= {"conv": layer.conv.T[:, None], "D": layer.D / 2}
        keys = self._keys(name)
        return dict(params) | {key: values[f].astype(np.asarray(params[key]).dtype) for f, key in keys.items()}

    def _keys(self, name: str) -> dict[str, str]:
        """Field of a layer -> name of its tensor."""
        ends: dict[str, tuple[str, ...]] = {field: (field,) for field in _PLAIN}
        ends.update({field: (part, "kernel") for field, part in (*_MATRICES.items(), ("conv", "Conv_0"))})
        ends.update({field: (part, "bias") for field, part in _BIASES.items()})
        return {field: self.separator.join((name, *parts)) for field, parts in ends.items()}
