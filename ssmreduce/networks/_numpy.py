"""Networks written as a NumPy function of a model and a batch."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from .._support.arguments import described, require_callable, require_kind
from ..errors import ArgumentError, EvaluationError, ShapeError, UnknownLayerError
from ..models import SSMModel
from ._batches import Inputs, arguments, step_mask
from ._protocol import Network


class NumpyNetwork(Network):
    """Network of a function ``function(model, batch, tap=None)``, which runs the whole of it with a model's systems.

    Parameters
    ----------
    function : callable
        Takes a model (anything that maps layer names to systems, with the parameters around them) and the input of a
        batch, and returns the outputs, shape (batch, ...). Before each layer it calls ``tap(name, u)``, if given, with
        the name of the layer and its input (batch, L, H). See `s5_digits` for one.
    model : SSMModel
        The systems as they are.
    inputs : int, str, tuple or callable, optional
        Which element of a batch the function is called with. By default the first one.
    mask : int, str or callable, optional
        Which element of a batch carries the lengths, shape (batch,), or the padding mask (batch, L), 1 for data.

    Raises
    ------
    ArgumentError
        No function, or no model.

    Notes
    -----
    It cannot be differentiated, so `compress` cannot finish it; a live PyTorch, Flax or Equinox module can.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> ssm = sr.DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]])
    >>> def function(model, x, tap=None):
    ...     if tap is not None:
    ...         tap("seq", x)
    ...     return sr.simulate(model["seq"], x).mean(axis=1)
    >>> arrays = {"nu_log": -np.ones(3), "theta_log": np.zeros(3), "gamma_log": np.zeros(3), "D": np.ones(1),
    ...           "B_re": np.ones((3, 1)), "B_im": np.ones((3, 1)), "C_re": np.ones((1, 3)), "C_im": np.ones((1, 3))}
    >>> net = NumpyNetwork(function, model=sr.read({"seq": arrays}))
    >>> net.outputs(net.model, np.ones((2, 8, 1))).shape, net.layer_inputs(net.model, np.ones((2, 8, 1)))["seq"].shape
    ((2, 1), (2, 8, 1))
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        model: SSMModel | None = None,
        inputs: Inputs = None,
        mask: int | str | Callable[[Any], Any] | None = None,
    ) -> None:
        require_callable(function, "function", "a function of (model, batch, tap=None) is needed")
        require_kind(model, SSMModel, "model", "a function needs its model: network(function, model=model)")
        assert model is not None
        self.function, self.model = function, model
        self._inputs, self._mask = inputs, mask

    def outputs(self, model: SSMModel, batch: Any) -> np.ndarray:
        """See `Network.outputs`."""
        args, kwargs = arguments(batch, self._inputs)
        return _checked(self.function(model, *args, **kwargs))

    def layer_inputs(self, model: SSMModel, batch: Any) -> Mapping[str, np.ndarray]:
        """See `Network.layer_inputs`."""
        return self.record(model, batch)[1]

    def record(self, model: SSMModel, batch: Any) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """See `Network.record`."""
        args, kwargs = arguments(batch, self._inputs)
        calls: dict[str, list[np.ndarray]] = {}

        def tap(name: str, u: np.ndarray) -> None:
            model.require(name)
            calls.setdefault(name, []).append(np.array(u, dtype=np.float64))

        if not _takes_tap(self.function):
            raise ArgumentError(
                "the function takes no argument tap: give it tap=None, and let it call tap(name, u) before each layer"
            )
        z = self.function(model, *args, tap=tap, **kwargs)
        if missing := [name for name in self.model if name not in calls]:
            raise UnknownLayerError(
                f"the function did not call tap for {', '.join(missing)}: nothing was recorded there"
            )
        return _checked(z), {name: _joined(name, arrays) for name, arrays in calls.items()}

    def mask(self, batch: Any, length: int) -> np.ndarray | None:
        """See `Network.mask`."""
        return step_mask(batch, self._mask, length)

    def rebuild(self, model: SSMModel) -> Any:
        """The function with another model: a function of the batch."""
        return partial(self.function, model)


def layer_inputs(function: Callable[..., Any], model: SSMModel, x: np.ndarray) -> Mapping[str, np.ndarray]:
    """What each state-space layer of a network is fed: layer name -> float64 array (batch, L, width).

    Parameters
    ----------
    function : callable
        As for `NumpyNetwork`.
    model : SSMModel
    x : array
        Input of one batch.

    Returns
    -------
    dict
    """
    return NumpyNetwork(function, model=model).layer_inputs(model, x)


def _checked(z: Any) -> np.ndarray:
    if not isinstance(z, np.ndarray) or not z.ndim or z.dtype.kind not in "fiu":
        raise EvaluationError(
            f"the network returns {described(z)}; a NumPy array of real numbers, sequences first, is needed"
        )
    return np.asarray(z, dtype=np.float64)


def _takes_tap(function: Callable) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # compiled code tells nothing
        return True
    return any(p.name == "tap" or p.kind is p.VAR_KEYWORD for p in parameters)


def _joined(name: str, calls: list[np.ndarray]) -> np.ndarray:
    if len({u.shape[1:] for u in calls}) > 1 or calls[0].ndim != 3:
        shapes = ", ".join(str(u.shape) for u in calls)
        raise ShapeError(f"tap was called for layer {name!r} with shapes {shapes}; (batch, L, H) is needed, of one L")
    return calls[0] if len(calls) == 1 else np.concatenate(calls)
