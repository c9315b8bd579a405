"""What a network is: the whole thing around the layers, live; and `network`, which makes one of a user's object."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._support.arguments import described
from ..errors import ArgumentError
from ..models import SSMModel
from ..systems import DiagonalSSM

NETWORK_ADVICE = "a network is needed: network(module), or network(function, model=model)"
RECORD = "ssmreduce.record"
"""Key of the metadata of a model under which the record of what was done to it stands, as JSON."""


@dataclass(frozen=True, eq=False)
class Gradients:
    r"""Gradients of a real number in the matrices of one layer's system, each of the shape of its matrix.

    Those of complex matrices are :math:`\partial f/\partial\,\mathrm{Re} + i\,\partial f/\partial\,\mathrm{Im}`, as in
    PyTorch; JAX's gradients of complex arrays are the conjugates.
    """

    Lambda: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    C_reverse: np.ndarray | None = None


Pullback = Callable[[np.ndarray], dict[str, Gradients]]
"""From the gradient in the outputs of a network to those in the systems of its layers."""


class Network(ABC):
    """The whole network around the layers, run with any systems in place of them.

    `network` makes one. A subclass of your own gives `model`, `outputs`, `layer_inputs` and `rebuild`; with `vjp` too,
    its networks can be finished (`compress`).

    Attributes
    ----------
    model : SSMModel
        The systems of the layers as they are, with the parameters around them.
    differentiable : bool
        Whether `vjp` works.
    """

    model: SSMModel
    _base: SSMModel
    differentiable: bool = False

    @abstractmethod
    def outputs(self, model: SSMModel, batch: Any) -> np.ndarray:
        """Run the network with the systems of `model` in place of its layers.

        Parameters
        ----------
        model : SSMModel
            Of the layers of ``self.model``; orders may be different.
        batch : Any
            What the user's data loader gives.

        Returns
        -------
        ndarray, shape (batch, ...), float64
            The first axis counts sequences.
        """

    @abstractmethod
    def layer_inputs(self, model: SSMModel, batch: Any) -> Mapping[str, np.ndarray]:
        """Inputs of all layers, in the order in which they are called: layer name -> float64 array (batch, L, H)."""

    def record(self, model: SSMModel, batch: Any) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """Outputs and layer inputs, of one pass where a subclass can."""
        return self.outputs(model, batch), self.layer_inputs(model, batch)

    @abstractmethod
    def rebuild(self, model: SSMModel) -> Any:
        """A live object of the user's framework with the systems of `model` in place of the layers."""

    @property
    def base(self) -> SSMModel:
        """The systems of the live object itself; `model` may be a smaller one."""
        return getattr(self, "_base", self.model)

    def with_model(self, model: SSMModel) -> "Network":
        """The same network with the systems of another model as its own."""
        other = copy.copy(self)
        other._base, other.model = self.base, model
        return other

    def mask(self, batch: Any, length: int) -> np.ndarray | None:
        """Which of `length` steps of a batch are data and no padding, shape (batch, L), bool; None where all are."""
        return None

    def vjp(self, model: SSMModel, batch: Any) -> tuple[np.ndarray, Pullback]:
        """Outputs as in `outputs`, and the function that pulls their gradient back to the systems of the layers.

        The pullback is called at most once.
        """
        raise ArgumentError(
            f"{type(self).__name__} cannot be differentiated: give the live PyTorch, Flax or Equinox module, or "
            "finish=None"
        )


def changed_layers(before: SSMModel, after: SSMModel) -> Iterator[str]:
    """Names of the layers whose system another model holds differently."""
    for name in before:
        after.require(name)
        if not _equal(before[name], after[name]):
            yield name


def _equal(a: DiagonalSSM, b: DiagonalSSM) -> bool:
    if a.bidirectional != b.bidirectional or a.conj_sym != b.conj_sym:
        return False
    fields = ("Lambda", "B", "C", "D") + ("C_reverse",) * a.bidirectional
    return all(np.array_equal(getattr(a, key), getattr(b, key)) for key in fields)


Claims = Callable[[Any], bool]
_MAKERS: dict[str, tuple[Claims, Callable[..., Network]]] = {}


def register(name: str, claims: Claims, make: Callable[..., Network]) -> None:
    """Let `network` make networks of another kind of object.

    Parameters
    ----------
    name : str
        For messages, such as "torch.nn.Module".
    claims : callable
        Whether an object is of this kind. It must not import a framework: an object of one exists only once it was
        imported, so look for it in ``sys.modules``.
    make : callable
        ``make(obj, **options)``, a `Network`; the keyword arguments of `network` go through.
    """
    _MAKERS[name] = (claims, make)


def network(obj: Any, **options: Any) -> Network:
    """Make a network of a live object: what `compress` and `search` run.

    Parameters
    ----------
    obj : torch.nn.Module, flax.linen.Module, equinox.Module, callable or Network
        A network is returned as it is.
    **options
        Of the kind of object; see `TorchNetwork`, ...

    Returns
    -------
    Network

    Raises
    ------
    ArgumentError
        An object of another kind, or options for a network that exists already.
    """
    if isinstance(obj, Network):
        if options:
            raise ArgumentError(f"obj is a network already; give {', '.join(options)} where it is made")
        return obj
    if isinstance(obj, type):
        raise ArgumentError(f"obj is the class {obj.__name__}; give an object of it, with its trained weights")
    for claims, make in _MAKERS.values():
        if claims(obj):
            return make(obj, **options)
    raise ArgumentError(f"obj is {described(obj)}; one of {', '.join(_MAKERS)} is needed")
