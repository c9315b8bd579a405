"""The whole network sample by sample: one compiled function where its program is known, else layer by layer."""

import threading
from typing import Any

import numpy as np

from .._support.arguments import positive_integer
from .._support.arrays import numbers_of
from ..errors import NonFiniteError, ShapeError, UnknownNameError
from ._program import Operation, Program

STATE_DTYPES = {"single": np.float32, "double": np.float64}


class Stepper:
    """A causal network that takes its input sample by sample and carries the states of its layers on.

    Made by `stepper`. Calls of several threads take turns; streams that do not move together need steppers of their
    own, which `fork` makes.

    Attributes
    ----------
    width, outputs : int
        Numbers of an input and of an output.
    streams : int
    pooled : bool
        The network gives one answer for a sequence, and a step what that would be if the sequence ended here.
    """

    width: int
    outputs: int
    pooled: bool

    def __init__(self, streams: int) -> None:
        self.streams = positive_integer(streams, "streams")
        self._lock = threading.Lock()

    def __call__(self, u: Any) -> np.ndarray:
        """One step.

        Parameters
        ----------
        u : array_like, shape (width,), or (streams, width) where there are several

        Returns
        -------
        ndarray, shape (outputs,) or (streams, outputs), float32
        """
        v = np.asarray(u, np.float32)
        shape = (self.width,) if self.streams == 1 else (self.streams, self.width)
        if v.shape != shape:
            raise ShapeError(f"u has shape {v.shape}; expected {shape}, one sample for each stream")
        with self._lock:
            y = self._advance(np.ascontiguousarray(v).reshape(self.streams, 1, self.width))
        return y.reshape(*shape[:-1], self.outputs)

    def run(self, u: Any) -> np.ndarray:
        """Several steps at once.

        Parameters
        ----------
        u : array_like, shape (L, width), or (streams, L, width) where there are several

        Returns
        -------
        ndarray, shape (L, outputs) or (streams, L, outputs), float32
        """
        v = np.ascontiguousarray(numbers_of(u, "u"), np.float32)
        v = v[None] if self.streams == 1 and v.ndim == 2 else v
        if v.ndim != 3 or v.shape[::2] != (self.streams, self.width):
            lead = "" if self.streams == 1 else f"{self.streams}, "
            raise ShapeError(f"u has shape {np.shape(u)}; expected ({lead}L, {self.width})")
        with self._lock:
            y = self._advance(v)
        return y[0] if self.streams == 1 else y

    def reset(self) -> None:
        """Begin anew, from states of zero."""
        self.state = np.zeros_like(self.state)

    @property
    def state(self) -> np.ndarray:
        """A copy of the states of all layers, shape (streams, numbers), which can be kept and set again."""
        with self._lock:
            return self._saved()

    @state.setter
    def state(self, value: Any) -> None:
        values, now = numbers_of(value, "state"), self.state
        if values.shape != now.shape:
            raise ShapeError(f"state has shape {values.shape}; expected {now.shape}")
        if not np.isfinite(values).all():
            raise NonFiniteError("state holds NaN or infinite values")
        with self._lock:
            self._restore(values.astype(now.dtype))

    def fork(self, streams: int | None = None) -> "Stepper":
        """Another stepper of the same network, from states of zero.

        Parameters
        ----------
        streams : int, optional
            By default as many as here.
        """
        raise NotImplementedError

    def _advance(self, u: np.ndarray) -> np.ndarray:
        """Outputs (streams, L, outputs) of u (streams, L, width), and the next state."""
        raise NotImplementedError

    def _saved(self) -> np.ndarray:
        raise NotImplementedError

    def _restore(self, state: np.ndarray) -> None:
        raise NotImplementedError


class CompiledStepper(Stepper):
    """A stepper that goes through a program in one compiled function.

    Parameters
    ----------
    program : Program
    streams : int
    state_dtype : {"single", "double"}
    """

    def __init__(self, program: Program, streams: int, state_dtype: str) -> None:
        super().__init__(streams)
        if state_dtype not in STATE_DTYPES:
            raise UnknownNameError(f"state_dtype must be 'single' or 'double', got {state_dtype!r}")
        self.program, self.state_dtype = program, state_dtype
        self.width, self.outputs, self.pooled = program.width, program.outputs, program.pooled
        self._code, self._weights, poles, size = encoded(program)
        self._poles = poles.astype(STATE_DTYPES[state_dtype])
        self._values = np.zeros((size, self.streams), np.float32)
        self._states = np.zeros((program.states, self.streams), self._poles.dtype)

    def fork(self, streams: int | None = None) -> "CompiledStepper":
        """See `Stepper.fork`."""
        return CompiledStepper(self.program, self.streams if streams is None else streams, self.state_dtype)

    def _advance(self, u: np.ndarray) -> np.ndarray:
        from ._step_loops import advance

        y = np.empty((self.streams, u.shape[1], self.outputs), np.float32)
        advance(self._code, self._weights, self._poles, self._values, self._states, u, y)
        return y

    def _saved(self) -> np.ndarray:
        return self._states.T.copy()

    def _restore(self, state: np.ndarray) -> None:
        self._states[...] = state.T


def encoded(program: Program) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Rows, weights and poles that `advance` reads, and how many numbers its values take."""
    from ._step_loops import KINDS

    (places, size), begins = program.value_offsets(), program.state_offsets()
    widths = [program.width, *(operation.width for operation in program)]
    rows, weights, poles, count = [], [np.zeros(0)], np.zeros(program.states), 0
    for k, (operation, begin) in enumerate(zip(program, begins, strict=True), 1):
        first, last = operation.sources[0], operation.sources[-1]
        half = operation.arrays[0].size // 2 if operation.kind == "features" else widths[first]
        start = places[first] + operation.start
        rows.append((KINDS.index(operation.kind), places[k], start, places[last], operation.width, half, count, begin))
        if operation.kind in ("recur", "features"):
            poles[begin : begin + operation.states] = operation.arrays[0].ravel()
        weights.append(weights_of(operation))
        count += weights[-1].size
    return np.array(rows, np.int64), np.concatenate(weights).astype(np.float32), poles, size


def weights_of(operation: Operation) -> np.ndarray:
    """The weights of an operation in the order in which the compiled and the C step read them."""
    if operation.kind == "linear":
        W, b = operation.arrays
        return np.concatenate([b, W.T.ravel()])
    if operation.kind in ("recur", "features"):
        return np.concatenate([array.ravel() for array in operation.arrays[1:]] or [np.zeros(0)])
    return np.concatenate([array.ravel() for array in operation.arrays] or [np.zeros(0)])
