"""What the families with diagonal-plus-low-rank state matrices share: read as diagonal, written as another family."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from .._support.trees import Params
from ..errors import NotRepresentableError
from ..responses import frequency_response
from ..systems import DiagonalSSM
from ._base import Adapter
from ._lowrank import Modes, Recent, require_diagonalisable
from ._writing import difference

_RECENT = Recent()
_ROUNDED_ERROR = 5e-5  # of the frequency response of a layer that is written


@dataclass(frozen=True, kw_only=True)
class DPLR(Adapter):
    """A family whose layers are read in diagonal form and cannot keep their own form where a state leaves.

    A subclass gives `_modes` (the eigendecomposition), `_from_modes` (the system), `_diagonal` (the arrays of the
    diagonal family) and `_reader` (the adapter that reads those).
    """

    limits: ClassVar[str] = (
        "A layer in diagonal-plus-low-rank form cannot lose or change single states: `written` turns it into diagonal "
        "form, and `export` and `save` do that by themselves"
    )

    @abstractmethod
    def _modes(self, tensors: Mapping[str, np.ndarray]) -> Modes:
        """Diagonal form of the state matrices."""

    @abstractmethod
    def _from_modes(self, modes: Modes, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        """System of the layer."""

    @abstractmethod
    def _diagonal(self, modes: Modes, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Leaf -> array of the diagonal family, in double precision."""

    @abstractmethod
    def _reader(self) -> Adapter:
        """Adapter of the diagonal family."""

    def _gone(self) -> tuple[str, ...]:
        """Leaves that the diagonal family does not have."""
        return ()

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        return self._from_modes(self._modes(tensors), tensors)

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise NotRepresentableError(self.limits)

    def modes(self, params: Mapping[str, Any], name: str) -> Modes:
        """Diagonal form of a layer's state matrices, with the condition numbers of their eigenvectors."""
        leaves = self._matched(params, name)[2]
        arrays = tuple(params[key] for key in leaves.values())
        return _RECENT.get(arrays, self, lambda: self._modes(self._tensors(params, name)))

    def check(self, params: Mapping[str, Any], name: str) -> None:
        """Raise also where the eigenvectors are too badly conditioned for a diagonal form."""
        super().check(params, name)
        require_diagonalisable(self.modes(params, name), name)

    def get(self, params: Mapping[str, Any], name: str) -> DiagonalSSM:
        """System of a layer in diagonal form."""
        return self._from_modes(self.modes(params, name), self._tensors(params, name))

    def sizes(self, params: Mapping[str, Any], name: str) -> tuple[int, int]:
        """Number of systems and of states of each in diagonal form."""
        modes = self.modes(params, name)
        return modes.outputs.shape[1], modes.poles.shape[1]

    def units(self, params: Mapping[str, Any], name: str) -> np.ndarray | None:
        """The states that systems with one state matrix share."""
        systems, order = self.sizes(params, name)
        copies = len(self.modes(params, name).poles)
        if copies == systems:
            return None
        return (np.arange(systems) % copies)[:, None] * order + np.arange(order)

    def put(self, params: Mapping[str, Any], name: str, ssm: DiagonalSSM) -> Params:
        """The arrays as they are, if they hold the system."""
        old = self.get(params, name)
        self._check_kind(old, ssm, name)
        self._check_order(ssm.order, name)
        if ssm.order != old.order:
            raise self._not_held(name, f"it would have {ssm.order} states instead of {old.order}")
        if problem := difference(old, ssm):
            raise self._not_held(name, problem)
        return {key: params[key] for key in self._matched(params, name)[2].values()}

    def restrict(self, params: Mapping[str, Any], name: str, index: np.ndarray, valid: np.ndarray) -> Params:
        """No state can leave this form."""
        raise NotRepresentableError(f"layer {name!r}: {self.limits}")

    def written(self, params: Mapping[str, Any], layers: tuple[str, ...]) -> tuple[Mapping[str, Any], Adapter]:
        """The layers in diagonal form, in the arrays of the diagonal family, and its adapter."""
        result = dict(params)
        reader = self._reader()
        for name in layers:
            leaves = self._matched(params, name)[2]
            tensors, ssm = self._tensors(params, name), self.get(params, name)
            outputs = [key for leaf, key in leaves.items() if leaf.rsplit(".", 1)[-1] == "C"]
            stems = [key[: -len("C")] for key in outputs]  # lrnnx has the arrays twice
            gone = {key for leaf, key in leaves.items() if leaf != "D"}
            for key in gone | {stem + leaf for stem in stems for leaf in self._gone()}:
                result.pop(key, None)
            with np.errstate(all="ignore"):
                arrays = self._diagonal(self.modes(params, name), ssm, tensors)
                dtype = params[outputs[0]].dtype
                result |= {stem + leaf: np.asarray(v).astype(dtype) for stem in stems for leaf, v in arrays.items()}
            self._check_written(reader, result, name, ssm)
        return result, reader

    def _check_written(self, reader: Adapter, params: Mapping[str, Any], name: str, ssm: DiagonalSSM) -> None:
        matched = reader._matched(params, name)[2]
        bad = next((key for key in matched.values() if not np.isfinite(params[key]).all()), None)
        if bad:
            problem = f"{bad} would become NaN or infinite"
        else:
            held = reader.get(params, name)
            problem = difference(held, ssm) or _response_difference(held, ssm)
        if problem:
            raise NotRepresentableError(f"layer {name!r} cannot be written as {reader!r}: {problem}. {reader.limits}")


def _response_difference(held: DiagonalSSM, wanted: DiagonalSSM) -> str:
    """What is wrong with the frequency response as a whole, where states cancel each other."""
    omega = np.unique(np.concatenate([np.geomspace(1e-5, np.pi, 64), np.abs(np.angle(wanted.Lambda)).ravel()[:512]]))
    exact, rounded = (frequency_response(replace(ssm, D=np.zeros_like(ssm.D)), omega) for ssm in (wanted, held))
    error = float(np.abs(rounded - exact).max() / max(np.abs(exact).max(), np.finfo(float).tiny))
    if error <= _ROUNDED_ERROR:
        return ""
    return (
        f"its states cancel each other, and rounded to the precision of the file they miss the frequency response by "
        f"{error:.1e} of its peak (at most {_ROUNDED_ERROR:.0e} is accepted)"
    )
