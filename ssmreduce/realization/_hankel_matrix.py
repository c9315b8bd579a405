"""Leading singular triplets of block Hankel matrices, through their products by fast Fourier transforms."""

import numpy as np
import scipy

_DENSE = 512  # rows and columns up to which the matrix is formed
_STEPS = 2  # of the subspace iteration
_EXTRA = 10  # columns beyond those that are wanted


class HankelMatrix:
    """The matrix of the blocks ``samples[..., i + j]``, i < rows, j < columns, of samples of shape (p, m, count)."""

    def __init__(self, samples: np.ndarray, rows: int, columns: int) -> None:
        self.samples, self.rows, self.columns = samples, rows, columns
        self.outputs, self.inputs = samples.shape[:2]
        self._length = scipy.fft.next_fast_len(rows + columns - 1, real=True)
        self._spectrum = scipy.fft.rfft(samples[..., : rows + columns - 1], self._length)

    @property
    def shape(self) -> tuple[int, int]:
        """Scalar rows and columns."""
        return self.rows * self.outputs, self.columns * self.inputs

    def times(self, X: np.ndarray, *, transposed: bool = False) -> np.ndarray:
        """Product of the matrix, or of its transpose, with (columns, k)."""
        channels, count, rows = self.inputs, self.columns, self.rows
        spectrum = self._spectrum
        if transposed:
            channels, count, rows, spectrum = self.outputs, self.rows, self.columns, spectrum.swapaxes(0, 1)
        blocks = np.ascontiguousarray(X.T).reshape(-1, count, channels).swapaxes(1, 2)
        forward = scipy.fft.rfft(blocks, self._length).conj()
        if spectrum.shape[:2] == (1, 1):
            product = forward * spectrum[0]
        else:
            product = np.einsum("pmf,kmf->kpf", spectrum, forward)
        result = scipy.fft.irfft(product, self._length)[..., :rows]
        return result.swapaxes(1, 2).reshape(len(X.T), rows * result.shape[1]).T

    def dense(self) -> np.ndarray:
        """The matrix itself."""
        index = np.add.outer(np.arange(self.rows), np.arange(self.columns))
        return self.samples[..., index].transpose(2, 0, 3, 1).reshape(self.shape)


def leading_triplets(
    matrix: HankelMatrix, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, singular values and V of the largest singular values: `count`, or all of a small matrix."""
    width = count + _EXTRA
    if max(matrix.shape) <= _DENSE or 2 * width >= min(matrix.shape):
        U, values, Vt = scipy.linalg.svd(matrix.dense(), full_matrices=False)
        return U, values, Vt.T
    Q = _basis(matrix.times(random.standard_normal((matrix.shape[1], width))))
    for _ in range(_STEPS):
        Q = _basis(matrix.times(_basis(matrix.times(Q, transposed=True))))
    V, values, Wt = scipy.linalg.svd(matrix.times(Q, transposed=True), full_matrices=False)
    return (Q @ Wt.T)[:, :count], values[:count], V[:, :count]


def _basis(X: np.ndarray) -> np.ndarray:
    return scipy.linalg.qr(X, mode="economic", check_finite=False)[0]
