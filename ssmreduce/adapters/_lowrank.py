r"""Diagonal plus low rank to diagonal: the eigendecomposition of S4's state matrix, and how far it can be trusted.

.. math:: A = \mathrm{diag}(a) - P P^*, \qquad A V = V \mathrm{diag}(\mu)

The poles are those of the continuous-time matrix: a bilinear transform has the same eigenvectors for every step size.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ..errors import NotRepresentableError
from ..systems._diagonalise import Eigensystem

_RESPONSE_ERROR = 1e-5  # of the frequency response, above which the diagonal form is refused
_RECENT = 64


@dataclass(frozen=True, eq=False)
class Modes:
    """Diagonal form of a batch of state matrices.

    Attributes
    ----------
    poles : ndarray, shape (copies, n), complex128
        Continuous-time poles; unused slots hold -1.
    inputs : ndarray, shape (copies, n), complex128
        ``V^-1 B``, 0 in unused slots.
    outputs : ndarray, shape (channels, systems, n), complex128
        ``C V`` of each system, 0 in unused slots.
    condition : ndarray, shape (copies,), float64
        Condition number of the eigenvectors.
    error : ndarray, shape (copies,), float64
        Largest error of the frequency response over its largest value, at a grid of frequencies.
    """

    poles: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    condition: np.ndarray
    error: np.ndarray


def real_form(a: np.ndarray, P: np.ndarray) -> np.ndarray:
    """Real matrix of z' = a z - P 2 Re(P* z) in the coordinates (Re z, Im z); a is (n,), P is (rank, n)."""
    upper = np.concatenate([np.diag(a.real), -np.diag(a.imag)], axis=1)
    lower = np.concatenate([np.diag(a.imag), np.diag(a.real)], axis=1)
    columns = np.concatenate([P.real, P.imag], axis=1)
    return np.concatenate([upper, lower]) - 2 * columns.T @ columns


def diagonalised(matrices: list[np.ndarray], inputs: np.ndarray, outputs: np.ndarray) -> Modes:
    """Modes of the matrices, shape (n, n) each.

    Parameters
    ----------
    matrices : list of ndarray, length copies
        Of a real matrix one state of each conjugate pair is kept, and real states with half of their output: the
        output is twice the real part. Of a complex one every state is kept.
    inputs : ndarray, shape (copies, n)
    outputs : ndarray, shape (channels, systems, n)
        System h belongs to the matrix ``h mod copies``.
    """
    found = [
        _modes_of(M, b, outputs[:, j :: len(matrices)]) for j, (M, b) in enumerate(zip(matrices, inputs, strict=True))
    ]
    order = max(mu.size for mu, *_ in found)
    channels, systems, _ = outputs.shape
    poles = np.full((len(found), order), -1.0 + 0j)
    modal_inputs = np.zeros((len(found), order), dtype=complex)
    modal_outputs = np.zeros((channels, systems, order), dtype=complex)
    for j, (mu, b, c, *_) in enumerate(found):
        poles[j, : mu.size], modal_inputs[j, : mu.size] = mu, b
        modal_outputs[:, j :: len(found), : mu.size] = c
    condition, error = (np.array([mode[i] for mode in found]) for i in (3, 4))
    return Modes(poles, modal_inputs, modal_outputs, condition, error)


def _modes_of(M: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    modes = Eigensystem.of(M)
    if np.isrealobj(M):
        mu, modal_b, modal_c = (values.conj() for values in modes.states(b, c))  # the lower one of a pair is stored
    else:
        mu, modal_b, modal_c = modes.poles, np.linalg.solve(modes.vectors, b), c @ modes.vectors
    order = np.argsort(-mu.imag, kind="stable")
    mu, modal_b, modal_c = mu[order], modal_b[order], modal_c[..., order]
    return mu, modal_b, modal_c, modes.condition, _response_error(M, b, c, mu, modal_b, modal_c)


def _response_error(
    M: np.ndarray, b: np.ndarray, c: np.ndarray, mu: np.ndarray, modal_b: np.ndarray, modal_c: np.ndarray
) -> float:
    """Error of the diagonal form's frequency response, relative to the largest value, over a grid of frequencies."""
    size = np.abs(mu[mu != 0]) if np.any(mu != 0) else np.ones(1)
    grid = np.concatenate([np.geomspace(size.min() / 10, size.max() * 10, 48), np.abs(mu.imag)])
    exact = np.stack([c @ np.linalg.solve(1j * w * np.eye(len(M)) - M, b.astype(complex)) for w in grid])
    weights = modal_c * modal_b
    modal = np.stack([(weights / (1j * w - mu)).sum(axis=-1) for w in grid])
    if np.isrealobj(M):
        modal = modal + np.stack([(weights.conj() / (1j * w - mu.conj())).sum(axis=-1) for w in grid])
    return float(np.abs(exact - modal).max() / max(np.abs(exact).max(), np.finfo(float).tiny))


def require_diagonalisable(modes: Modes, name: str) -> None:
    """Raise `NotRepresentableError` where the eigenvectors are too badly conditioned for double precision."""
    worst = int(np.argmax(np.nan_to_num(modes.error, nan=np.inf)))
    if not modes.error[worst] <= _RESPONSE_ERROR:
        raise NotRepresentableError(
            f"layer {name!r}: the eigenvectors of its state matrix {worst} have the condition number "
            f"{modes.condition[worst]:.1e}: the diagonal form is off by {modes.error[worst]:.1e} of the peak of the "
            f"frequency response (at most {_RESPONSE_ERROR:.0e} is accepted), and no diagonal system in double "
            "precision equals this layer"
        )


def without_truncation(outputs: np.ndarray, poles: np.ndarray, step: np.ndarray, length: int) -> np.ndarray:
    r"""Outputs from those that S4 stores, :math:`\tilde C = C (I - \bar A^L)`; as they are where the length is 0.

    Parameters
    ----------
    outputs, poles : ndarray, shape (..., n), complex128
        Modal outputs and continuous-time poles.
    step : ndarray, broadcastable
    length : int
        L.
    """
    if length == 0:
        return outputs
    half = poles * step / 2
    return outputs / -np.expm1(length * (np.log1p(half) - np.log1p(-half)))


class Recent:
    """The last results of a costly function of arrays, by the identity of the arrays."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, tuple[tuple[np.ndarray, ...], Any]] = OrderedDict()
        self._lock = Lock()

    def get(self, arrays: tuple[np.ndarray, ...], flags: Hashable, make: Callable[[], Any]) -> Any:
        """The result for these very arrays, made where it is not kept."""
        key = (flags, *map(id, arrays))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][1]
        result = make()
        with self._lock:
            self._kept[key] = (arrays, result)  # holding the arrays keeps their identities from being used again
            while len(self._kept) > _RECENT:
                self._kept.popitem(last=False)
        return result
