r"""Refinement of poles and inputs: variable projection against a layer's own outputs, with L-BFGS."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy

from ..._support.arrays import one_minus_abs
from ...calibration._accumulate import layer_moments
from ...engines import engine_for
from ...selection._outputs import OutputFit, output_weights, with_weights
from ...systems import DiagonalSSM

Batches = Sequence[tuple[np.ndarray, np.ndarray]]
"""Inputs (batch, L, width) and the outputs (batch, L, width out) to be reproduced from them."""


def refine_system(
    ssm: DiagonalSSM, data: Batches, *, steps: int, ridge: float, feedthrough: bool, name: str = ""
) -> DiagonalSSM:
    r"""Move poles and B of one system so that the best C (and D) reproduce the given outputs better.

    Variable projection (Golub and Pereyra, SIAM J. Numer. Anal. 1973): C and D are eliminated in closed form, so that

    .. math:: f(\Lambda, B) = \min_{C, D} \tfrac12 \sum_k \|y_k - \kappa\,\mathrm{Re}(C x_k) - D u_k\|^2 / E

    depends on poles and inputs only. At the optimal C its gradient is that of the sum with C held. With the residual
    :math:`e_k` and the adjoint states :math:`\mu_k = \bar\Lambda \mu_{k+1} + \kappa C^* e_k`,

    .. math:: \nabla_B = \sum_k \mu_k u_k^T, \qquad \nabla_\lambda = \sum_k \mu_k \bar x_{k-1},

    and the same with time reversed for a reverse half: two scans an evaluation, O(L n (n + m + p)).

    Parameters
    ----------
    ssm : DiagonalSSM
        Where to start.
    data : sequence of pairs
    steps : int
        Steps of L-BFGS at most.
    ridge, feedthrough
        As in `refit`.
    name : str
        For messages.

    Returns
    -------
    DiagonalSSM
        Stable poles stay stable and the others unstable: the modulus moves through
        :math:`\lambda = e^{\mp e^\nu + j\theta}`.
    """
    problem = _Refinement(ssm, data, ridge, feedthrough, name)
    if steps and problem.variables.size:
        result = scipy.optimize.minimize(
            problem,
            problem.variables,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": steps, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-9},
        )
        problem.variables = result.x
    return problem.fitted(problem.system(problem.variables))[0]


class _Refinement:
    """The objective of `refine_system`: value and gradient at a vector of variables."""

    def __init__(self, ssm: DiagonalSSM, data: Batches, ridge: float, feedthrough: bool, name: str) -> None:
        self.start, self.data, self.name = ssm, data, name
        self.ridge, self.feedthrough = ridge, feedthrough
        self.count = ssm.systems
        self.n, self.m = ssm.order, ssm.inputs
        self.free_inputs = ssm.inputs > 1 or ssm.outputs > 1  # of a single input and output only the product c b counts
        gap = one_minus_abs(ssm.Lambda).reshape(self.count, self.n)
        with np.errstate(divide="ignore"):
            log_radius = np.maximum(np.log1p(-gap), -700.0)  # a pole at 0 has no logarithm
        self.side = np.where(log_radius < 0, -1.0, 1.0)
        self.nu = np.log(np.maximum(np.abs(log_radius), 1e-12))
        self.theta = np.angle(ssm.Lambda).reshape(self.count, self.n)
        self.angle_unit = np.maximum(np.exp(self.nu), 1e-3)  # an angle matters on the scale of the resonance's width
        self.B = ssm.B.reshape(self.count, self.n, self.m)
        self.power = self._power()
        self.energy = max(sum(float(np.sum(y**2)) for _, y in data), np.finfo(float).tiny)
        self.variables = self._pack(self.nu, np.zeros_like(self.theta), self.B / self.power)

    def _power(self) -> np.ndarray:
        """Root mean square of each state, shape (s, n, 1): the unit in which its inputs move."""
        moments = [layer_moments(self.start, u, name=self.name) for u, _ in self.data]
        width = 4 if self.start.bidirectional else 2
        diagonal = sum(np.einsum("sii->si", m.second)[:, : self.n * width] for m in moments)
        power = np.sqrt(diagonal.reshape(self.count, self.n, width).sum(axis=2) / sum(m.steps for m in moments))
        return np.where(power > 0, power, 1.0)[..., None]

    def _pack(self, nu: np.ndarray, angle: np.ndarray, B: np.ndarray) -> np.ndarray:
        parts = [nu, angle] + ([B.real, B.imag] if self.free_inputs else [])
        return np.concatenate([part.ravel() for part in parts])

    def system(self, variables: np.ndarray) -> DiagonalSSM:
        """The system at a vector of variables, with the outputs of the start."""
        size = self.count * self.n
        nu, angle = variables[: 2 * size].reshape(2, self.count, self.n)
        B = self.B
        if self.free_inputs:
            real, imag = variables[2 * size :].reshape(2, self.count, self.n, self.m)
            B = (real + 1j * imag) * self.power
        Lambda = np.exp(self.side * np.exp(nu) + 1j * (self.theta + angle * self.angle_unit))
        start = self.start
        return replace(start, Lambda=Lambda.reshape(start.Lambda.shape), B=B.reshape(start.B.shape))

    def fitted(self, ssm: DiagonalSSM) -> tuple[DiagonalSSM, OutputFit]:
        """The system with its best outputs."""
        moments = [layer_moments(ssm, u, target=y, name=self.name) for u, y in self.data]
        total = moments[0]
        for other in moments[1:]:
            total = total + other
        fit = OutputFit(ssm, total, ridge=self.ridge, feedthrough=self.feedthrough)
        return with_weights(ssm, *fit.solve(np.ones((self.count, self.n), dtype=bool))), fit

    def __call__(self, variables: np.ndarray) -> tuple[float, np.ndarray]:
        ssm, _ = self.fitted(self.system(variables))
        value, d_Lambda = 0.0, np.zeros((self.count, self.n), dtype=complex)
        d_B = np.zeros((self.count, self.n, self.m), dtype=complex)
        for u, y in self.data:
            error, dl, db = _gradient(ssm, u, y)
            value, d_Lambda, d_B = value + error, d_Lambda + dl, d_B + db
        Lambda = ssm.Lambda.reshape(self.count, self.n)
        along = np.conj(Lambda) * d_Lambda  # its real part moves the log of the modulus, its imaginary part the angle
        nu = variables[: self.count * self.n].reshape(self.count, self.n)
        gradient = self._pack(along.real * self.side * np.exp(nu), along.imag * self.angle_unit, d_B * self.power)
        return value / self.energy, gradient / self.energy


def _gradient(ssm: DiagonalSSM, u: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Half the squared error, and its gradients in Lambda (s, n) and B (s, n, m), C and D held."""
    count, n, m, p = ssm.systems, ssm.order, ssm.inputs, ssm.outputs
    rows, length = u.shape[:2]
    u = np.ascontiguousarray(u.reshape(rows, length, count, m).transpose(2, 0, 1, 3))
    Lambda, B = ssm.Lambda.reshape(count, n), ssm.B.reshape(count, n, m)
    W, D = output_weights(ssm)
    weights = W.reshape(count, p, n, -1)
    scan = engine_for(u, None).scan
    zero = np.zeros((count, rows, n), dtype=complex)
    driven = np.matmul(u, B.transpose(0, 2, 1)[:, None])
    error = np.matmul(u, D.transpose(0, 2, 1)[:, None]) - y.reshape(rows, length, count, p).transpose(2, 0, 1, 3)
    halves = []
    for h in range(weights.shape[3] // 2):
        x = scan(Lambda, driven.copy(), zero, reverse=h == 1)
        C = weights[..., 2 * h] - 1j * weights[..., 2 * h + 1]
        error += np.matmul(x, C.transpose(0, 2, 1)[:, None]).real
        halves.append((x, C))
    d_Lambda, d_B = np.zeros((count, n), dtype=complex), np.zeros((count, n, m), dtype=complex)
    for h, (x, C) in enumerate(halves):
        adjoint = scan(np.conj(Lambda), np.matmul(error, np.conj(C)[:, None]), zero, reverse=h == 0)
        d_B += adjoint.reshape(count, -1, n).transpose(0, 2, 1) @ u.reshape(count, -1, m)
        before, after = (slice(None, -1), slice(1, None)) if h == 0 else (slice(1, None), slice(None, -1))
        d_Lambda += np.sum(adjoint[:, :, after] * np.conj(x[:, :, before]), axis=(1, 2))
    return 0.5 * float(np.sum(error**2)), d_Lambda, d_B
