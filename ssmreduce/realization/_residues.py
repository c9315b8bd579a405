"""Residues and D for given poles that lower the peak gain of the error: least squares, reweighted where it is large."""

import numpy as np
import scipy

_ROUNDS = 8
_DENSITY = 4  # frequencies a sample, of the whole circle


def fitted_residues(kernel: np.ndarray, poles: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Residues in scan form, one a stored pole, and D of several fits to a kernel (L,), the plain one first.

    Each round multiplies the weights with the error (Lawson's iteration), which turns least squares into least maximum.
    """
    points = scipy.fft.next_fast_len(_DENSITY * kernel.size, real=True)
    target = scipy.fft.rfft(kernel, points)
    basis, scale = _basis(poles, kernel.size, points)
    Q, R = scipy.linalg.qr(basis, mode="economic", check_finite=False)
    rhs = np.concatenate([target.real, target.imag])
    weights = np.ones(target.size)
    found = []
    for _ in range(_ROUNDS):
        rows = np.tile(weights, 2)[:, None] * Q
        try:
            coordinates = scipy.linalg.cho_solve(scipy.linalg.cho_factor(rows.T @ Q), rows.T @ rhs)
            solution = scipy.linalg.solve_triangular(R, coordinates) / scale
        except scipy.linalg.LinAlgError:  # poles that are all but equal
            break
        residues = solution[: poles.size].astype(complex)
        residues[poles.imag != 0] += 1j * solution[poles.size : -1]
        found.append((residues, float(solution[-1])))
        error = rhs - Q @ coordinates
        size = np.hypot(error[: target.size], error[target.size :])
        weights = weights * size
        weights /= weights.mean()
    return found


def _basis(poles: np.ndarray, length: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Spectra that the real parts, the imaginary parts (of no real pole) and D have, as real columns of norm 1."""
    turn = np.exp(-2j * np.pi * np.arange(points // 2 + 1) / points)
    around = np.exp(-2j * np.pi * (np.arange(points // 2 + 1) * length % points) / points)  # turn to the power length

    def spectrum(values: np.ndarray) -> np.ndarray:
        return (1 - np.multiply.outer(around, values**length)) / (1 - np.multiply.outer(turn, values))

    own, mirrored = spectrum(poles), spectrum(poles.conj())
    imaginary = (1j * (own - mirrored))[:, poles.imag != 0]
    columns = np.concatenate([own + mirrored, imaginary, np.ones((turn.size, 1))], axis=1)
    real = np.concatenate([columns.real, columns.imag])
    scale = scipy.linalg.norm(real, axis=0)
    return real / scale, scale
