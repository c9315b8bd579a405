"""From a state matrix to stored poles: the one eigendecomposition of the library, and how far it can be trusted."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

WORST_CONDITION = 1e10
"""Of the eigenvectors: beyond it a diagonal form is refused."""


@dataclass(frozen=True, eq=False)
class Eigensystem:
    """Poles and eigenvectors of a real matrix.

    Attributes
    ----------
    poles : ndarray, shape (n,), complex128
    vectors : ndarray, shape (n, n), complex128 or float64
    """

    poles: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(cls, A: np.ndarray) -> "Eigensystem":
        """Eigensystem of a real matrix, shape (n, n)."""
        poles, vectors = np.linalg.eig(A) if A.size else (np.zeros(0), np.zeros((0, 0)))
        return cls(poles.astype(np.complex128), vectors)

    @cached_property
    def condition(self) -> float:
        """Condition number of the eigenvectors."""
        return float(np.linalg.cond(self.vectors)) if self.vectors.size else 1.0

    @property
    def stored(self) -> np.ndarray:
        """Which of the poles are stored: the real ones, and of each conjugate pair the one above the real axis."""
        return self.poles.imag >= 0

    def states(self, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Stored poles (k,), inputs (k, m) and outputs (p, k), complex128, of which twice the real part counts.

        A real pole has real inputs, and half its outputs. The inputs are solved for in real arithmetic: where the
        eigenvectors are badly conditioned, the halves of a pair would otherwise not be conjugate, and what cancels in
        the whole would not cancel in the half.
        """
        real, upper = self.poles.imag == 0, self.poles.imag > 0
        V = self.vectors
        basis = np.concatenate([V[:, real].real, V[:, upper].real, V[:, upper].imag], axis=1)
        parts = np.split(np.linalg.solve(basis, B), [real.sum(), real.sum() + upper.sum()])
        inputs = np.zeros((len(V), *B.shape[1:]), dtype=np.complex128)
        inputs[real], inputs[upper] = parts[0], (parts[1] - 1j * parts[2]) / 2.0
        stored = self.stored
        outputs = (C @ V)[..., stored] * np.where(self.poles[stored].imag == 0, 0.5, 1.0)
        return self.poles[stored], inputs[stored], outputs.astype(np.complex128)
