"""State-space layers to train: S5, S4D and LRU, with the parameters that the library's adapters read.

Each layer makes its system (`matrices`) from its parameters, differentiably, and `run` runs any such system. A trained
network and a reduced one therefore go through the same code.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import ssmreduce as sr

MAX_REAL = -(2.0**-13)  # Lambda_re of S5 stays at or below this: under S5's own limit of -1e-4, exact in float32
TOEPLITZ = 256  # longest sequence for which a matrix product is faster than Fourier transforms


class Matrices(NamedTuple):
    """A system in scan form as tensors; a batch of single-input systems has `Lambda` of shape (H, n)."""

    Lambda: torch.Tensor
    B: torch.Tensor
    C: torch.Tensor
    C_reverse: torch.Tensor | None
    D: torch.Tensor
    kappa: float


def matrices_of(ssm: sr.DiagonalSSM, dtype: torch.dtype = torch.complex64) -> Matrices:
    """The tensors of a system of the library; D becomes a vector where it is diagonal."""
    real = torch.float32 if dtype == torch.complex64 else torch.float64
    C, reverse, D = ssm.C, ssm.C_reverse, ssm.D
    if ssm.batch:
        B, C, D = ssm.B[..., 0], C[..., 0, :], D[..., 0, 0]
    else:
        B = ssm.B
        D = np.diagonal(D) if D.shape[0] == D.shape[1] and not (D - np.diag(np.diagonal(D))).any() else D

    def tensor(value: np.ndarray, kind: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(np.array(value)).to(kind)

    halves = None if reverse is None else tensor(reverse, dtype)
    return Matrices(tensor(ssm.Lambda, dtype), tensor(B, dtype), tensor(C, dtype), halves, tensor(D, real), ssm.kappa)


def run(system: Matrices, u: torch.Tensor) -> torch.Tensor:
    """Output (batch, L, outputs) of a system for u (batch, L, inputs)."""
    return (_run_channels if system.Lambda.ndim == 2 else _run_shared)(system, u)


def _run_shared(system: Matrices, u: torch.Tensor) -> torch.Tensor:
    """One system with many inputs: real matrix products around the scan."""
    n = system.Lambda.shape[0]
    pairs = torch.view_as_real(system.B.T.contiguous()).flatten(-2)  # (inputs, 2 n): real and imaginary in turn
    v = torch.view_as_complex((u @ pairs).unflatten(-1, (n, 2)))
    y = _observed(sr.scan(system.Lambda, v), system.C)
    if system.C_reverse is not None:
        y = y + _observed(sr.scan(system.Lambda, v, reverse=True), system.C_reverse)
    through = u * system.D if system.D.ndim == 1 else u @ system.D.T
    return system.kappa * y + through


def _observed(states: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    """Re(C x) as one real product."""
    weights = torch.view_as_real(C.conj().resolve_conj().T.contiguous()).transpose(1, 2).flatten(0, 1)
    return torch.view_as_real(states).flatten(-2) @ weights


def _run_channels(system: Matrices, u: torch.Tensor) -> torch.Tensor:
    """One system per channel: its impulse response, convolved with the channel."""
    powers = torch.exp(torch.log(system.Lambda)[..., None] * torch.arange(u.shape[1]))
    weights = torch.view_as_real((system.C * system.B).conj().resolve_conj())  # Re(w p) = <conj(w), p> as real pairs
    kernel = system.kappa * torch.einsum("hnc,hnlc->hl", weights, torch.view_as_real(powers))
    convolved = (_toeplitz if u.shape[1] <= TOEPLITZ else _fourier)(kernel, u.transpose(1, 2))
    return convolved.transpose(1, 2) + system.D * u


def _toeplitz(kernel: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Causal convolution of kernel (H, L) and u (batch, H, L) as one matrix product per channel."""
    channels, length = kernel.shape
    padded = torch.cat([kernel.flip(-1), kernel.new_zeros(channels, length - 1)], dim=-1)
    rows = padded.unfold(-1, length, 1)  # row r holds kernel[L - 1 - r - j]: the last sample comes first
    return torch.bmm(rows, u.permute(1, 2, 0)).flip(1).permute(2, 0, 1)


def _fourier(kernel: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """The same by Fourier transforms."""
    length = kernel.shape[-1]
    product = torch.fft.rfft(kernel, 2 * length) * torch.fft.rfft(u, 2 * length)
    return torch.fft.irfft(product, 2 * length)[..., :length]


def hippo(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Half of the eigenvalues of HiPPO-LegS's normal part, of even size, with their eigenvectors.

    HiPPO-LegS plus the rank-one term p p^T, p_n = sqrt(n + 1/2), is -1/2 times the identity plus a real skew-symmetric
    matrix S with S[n, k] = -p_n p_k below the diagonal.
    """
    p = np.sqrt(np.arange(size) + 0.5)
    lower = np.tril(np.outer(p, p), -1)
    imag, vectors = np.linalg.eigh(-1j * (lower.T - lower))
    return -0.5 + 1j * imag[: size // 2], vectors[:, : size // 2]


def _parameter(value: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32)))


def _pairs(value: np.ndarray) -> nn.Parameter:
    return _parameter(np.stack([value.real, value.imag], axis=-1))


class S5(nn.Module):
    """S5: one system with `width` inputs, one state of each conjugate pair stored, optionally bidirectional."""

    dynamics = ("Lambda_re", "Lambda_im", "B", "log_step")

    def __init__(
        self, width: int, states: int, rng: np.random.Generator, *, bidirectional: bool = False, blocks: int = 4
    ):
        super().__init__()
        eigs, v = hippo(2 * states // blocks)
        eigs, v = np.tile(eigs, blocks), np.kron(np.eye(blocks), v)
        b = rng.normal(size=(2 * states, width)) / np.sqrt(width)
        halves = 1 + bidirectional
        c = rng.normal(size=(halves, 2, width, 2 * states)) / np.sqrt(2 * states)
        self.bidirectional = bidirectional
        self.Lambda_re, self.Lambda_im = _parameter(eigs.real), _parameter(eigs.imag)
        self.B = _pairs(v.conj().T @ b)
        self.C = _pairs(np.concatenate((c[:, 0] + 1j * c[:, 1]) @ v, axis=-1))
        self.D = _parameter(rng.normal(size=width))
        self.log_step = _parameter(rng.uniform(math.log(1e-3), math.log(1e-1), size=(states, 1)))

    def matrices(self) -> Matrices:
        """Zero-order hold of the continuous parameters."""
        eigs = torch.complex(self.Lambda_re.clamp(max=MAX_REAL), self.Lambda_im)
        Lambda = torch.exp(eigs * self.log_step.squeeze(-1).exp())
        B = ((Lambda - 1) / eigs)[:, None] * torch.view_as_complex(self.B)
        C, reverse = torch.view_as_complex(self.C), None
        if self.bidirectional:
            C, reverse = C.chunk(2, dim=-1)
        return Matrices(Lambda, B, C, reverse, self.D, 2.0)

    @torch.no_grad()
    def stabilise(self) -> None:
        """Keep every stored eigenvalue in the left half-plane."""
        self.Lambda_re.clamp_(max=MAX_REAL)


class S4DKernel(nn.Module):
    """The arrays of an S4D kernel, as the minimal ``s4d.py`` of the S4 repository names them."""

    def __init__(self, width: int, states: int, rng: np.random.Generator):
        super().__init__()
        c = rng.normal(size=(2, width, states)) / np.sqrt(2)
        self.C = _pairs(c[0] + 1j * c[1])
        self.log_dt = _parameter(rng.uniform(math.log(1e-3), math.log(1e-1), size=width))
        self.log_A_real = _parameter(np.full((width, states), math.log(0.5)))
        self.A_imag = _parameter(np.tile(math.pi * np.arange(states), (width, 1)))


class S4D(nn.Module):
    """S4D-Lin: one system per feature, `states` stored conjugate pairs each."""

    dynamics = ("log_dt", "log_A_real", "A_imag")

    def __init__(self, width: int, states: int, rng: np.random.Generator):
        super().__init__()
        self.kernel = S4DKernel(width, states, rng)
        self.D = _parameter(rng.normal(size=width))

    def matrices(self) -> Matrices:
        """Zero-order hold with B = 1."""
        kernel = self.kernel
        A = torch.complex(-kernel.log_A_real.exp(), kernel.A_imag)
        Lambda = torch.exp(A * kernel.log_dt.exp()[:, None])
        return Matrices(Lambda, (Lambda - 1) / A, torch.view_as_complex(kernel.C), None, self.D, 2.0)

    def stabilise(self) -> None:
        """The parameters are stable by form."""


class LRU(nn.Module):
    """Linear recurrent unit: all eigenvalues stored, initialised on a ring (Orvieto et al., ICML 2023)."""

    dynamics = ("nu_log", "theta_log", "gamma_log", "B_re", "B_im")

    def __init__(self, width: int, states: int, rng: np.random.Generator, *, ring: tuple[float, float] = (0.5, 0.99)):
        super().__init__()
        radius2 = rng.uniform(ring[0] ** 2, ring[1] ** 2, size=states)
        b, c = rng.normal(size=(2, states, width)), rng.normal(size=(2, width, states))
        self.nu_log = _parameter(np.log(-0.5 * np.log(radius2)))
        self.theta_log = _parameter(np.log(rng.uniform(1e-3, math.pi / 2, size=states)))
        self.gamma_log = _parameter(0.5 * np.log(1 - radius2))
        self.B_re, self.B_im = (_parameter(part / np.sqrt(2 * width)) for part in b)
        self.C_re, self.C_im = (_parameter(part / np.sqrt(states)) for part in c)
        self.D = _parameter(rng.normal(size=width))

    def matrices(self) -> Matrices:
        """The discrete system that the parameters name."""
        Lambda = torch.exp(torch.complex(-self.nu_log.exp(), self.theta_log.exp()))
        B = self.gamma_log.exp()[:, None] * torch.complex(self.B_re, self.B_im)
        return Matrices(Lambda, B, torch.complex(self.C_re, self.C_im), None, self.D, 1.0)

    def stabilise(self) -> None:
        """The parameters are stable by form."""
