"""Calibrated balanced truncation: the data's state covariance against the observability over the training length."""

from collections.abc import Mapping

import numpy as np
import scipy

from ..._support.arguments import require_kind, whole_number
from ...calibration import Calibration, Moments
from ...calibration._moments import CALIBRATION_ADVICE
from ...errors import NotRepresentableError, SelectionError
from ...models import SSMModel, replace_system
from ...models._model import MODEL_ADVICE
from ...selection._outputs import check_moments, output_weights
from ...systems import DiagonalSSM
from ...systems._diagonalise import WORST_CONDITION, Eigensystem


def balance_calibrated(model: SSMModel, calibration: Calibration, orders: Mapping[str, int]) -> SSMModel:
    r"""Balanced truncation with the covariance of the states on data as controllability Gramian.

    With the real coordinates :math:`r_k` of a layer's states, their transition matrix :math:`A` and weights :math:`W`,
    :math:`S = \sum_k r_k r_k^T` and the observability Gramian over the length :math:`L` of the calibration sequences,

    .. math:: Q = \sum_{k<L} (A^k)^T W^T W A^k, \qquad S = F F^T, \quad Q = G G^T, \quad G^T F = U \Sigma V^T,

    the states :math:`\Sigma^{-1/2} U^T G^T r` are excited as much as they are seen. The first of them are kept and
    diagonalised again. Neither matrix asks for stable poles. In bidirectional layers both halves share
    :math:`\Lambda` and B: their covariances are added, and their Gramians.

    Parameters
    ----------
    model : SSMModel
    calibration : Calibration
        Of this model. Targets, where it has them, play no part: only the moments of the states do.
    orders : mapping
        Layer name -> stored states that may stay, for the layers to reduce. A pair of complex poles is one stored
        state, and so is a real pole: the largest real order that fits is taken. For a batch of systems an equal part
        each. A layer that is asked for as many states as it has is left untouched.

    Returns
    -------
    SSMModel
        With re-realised layers, whose outputs are the projected ones: fit them with `refit_network`.

    Raises
    ------
    ArgumentError
        No model, no calibration, or orders that are not a mapping.
    UnknownLayerError, ShapeError
        A layer without calibration, or a calibration of other systems.
    SelectionError
        An order below 1, above the layer's, or one that its systems cannot share in equal parts.
    NotRepresentableError
        Reduced poles that cannot be told apart.

    Notes
    -----
    O(n^3 log L + (p + m) n^2) a system. Moore, "Principal component analysis in linear systems", IEEE Trans. Automatic
    Control 1981, whose Gramians are empirical in the same sense; the bounds of balanced truncation do not apply.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> u = np.random.default_rng(0).standard_normal((10, 64, 32))
    >>> calibration = sr.calibrate(model, {"layers.0.seq": u})
    >>> balance_calibrated(model, calibration, {"layers.0.seq": 10})["layers.0.seq"]
    DiagonalSSM(order=10, inputs=32, outputs=32, conj_sym=True, causal)
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    require_kind(calibration, Calibration, "calibration", CALIBRATION_ADVICE)
    require_kind(orders, Mapping, "orders", "layer name -> number of states is needed")
    for name, order in orders.items():
        ssm = model[name]
        check_moments(ssm, calibration[name], name)
        if order != ssm.systems * ssm.order:
            model = replace_system(model, name, _balanced(ssm, calibration[name], order, name))
    return model


def _balanced(ssm: DiagonalSSM, moments: Moments, order: int, name: str) -> DiagonalSSM:
    s, n = moments.Lambda.shape
    order = whole_number(order, f"the order of layer {name!r}", error=SelectionError)
    if not s <= order <= s * n or order % s:
        raise SelectionError(f"layer {name!r} has {s} x {n} states; it cannot keep {order} of them in equal parts")
    halves = 2 if ssm.bidirectional else 1
    W, _ = output_weights(ssm)
    weights = W.reshape(s, ssm.outputs, n, halves, 2)
    second = moments.second[:, : 2 * halves * n, : 2 * halves * n].reshape(s, n, halves, 2, n, halves, 2)
    covariance = np.einsum("sihajhb->siajb", second).reshape(s, 2 * n, 2 * n)
    B = ssm.B.reshape(s, n, -1)
    parts = [
        _System(moments.Lambda[i], B[i], [weights[i, :, :, h].reshape(-1, 2 * n) for h in range(halves)]).reduced(
            covariance[i], moments.length, order // s, name
        )
        for i in range(s)
    ]
    Lambda, B_new, *C = (np.stack(arrays) for arrays in zip(*parts, strict=True))
    shape = (*ssm.batch, order // s)
    outputs = [(c / ssm.kappa).reshape(*ssm.batch, ssm.outputs, -1) for c in C]
    reverse = outputs[1] if ssm.bidirectional else None
    return DiagonalSSM(
        Lambda.reshape(shape), B_new.reshape(*shape, ssm.inputs), outputs[0], ssm.D, reverse, ssm.conj_sym
    )


class _System:
    """One real system in interleaved coordinates (Re x_1, Im x_1, Re x_2, ...), its outputs one matrix a half."""

    def __init__(self, Lambda: np.ndarray, B: np.ndarray, outputs: list[np.ndarray]) -> None:
        self.Lambda, self.outputs = Lambda, outputs
        self.B = np.stack([B.real, B.imag], axis=1).reshape(-1, B.shape[1])
        turn = np.array([[Lambda.real, -Lambda.imag], [Lambda.imag, Lambda.real]]).transpose(2, 0, 1)
        self.A = scipy.linalg.block_diag(*turn)

    def observability(self, length: int) -> np.ndarray:
        """Factor G of the Gramian over `length` steps, halves added."""
        # Doubling: `rows` has the Gram matrix of k steps of outputs; the next k steps are the same behind A^k.
        rows, power, factor = np.concatenate(self.outputs), self.A, np.zeros((0, len(self.A)))
        ahead = np.eye(len(self.A))
        while length:
            if length % 2:
                factor = _compressed(np.vstack([factor, rows @ ahead]))
                ahead = ahead @ power
            rows, power, length = _compressed(np.vstack([rows, rows @ power])), power @ power, length // 2
        return factor.T

    def reduced(self, covariance: np.ndarray, length: int, order: int, name: str) -> tuple[np.ndarray, ...]:
        """Poles, inputs, and outputs of each half with at most `order` stored states, padded with silent ones."""
        values, vectors = np.linalg.eigh(covariance)
        F, G = vectors * np.sqrt(np.maximum(values, 0.0)), self.observability(length)
        U, sigma, Vt = np.linalg.svd(G.T @ F)
        rank = int((sigma > 1e-12 * sigma[0]).sum()) if sigma.size and sigma[0] > 0 else 0
        for real_order in range(min(rank, 2 * order), 0, -1):
            root = np.sqrt(sigma[:real_order])
            left, right = (G @ U[:, :real_order] / root).T, F @ Vt[:real_order].T / root
            modes = Eigensystem.of(left @ self.A @ right)
            if (count := int(modes.stored.sum())) <= order:
                break
        else:
            return self._silent(order)
        if modes.condition > WORST_CONDITION:
            raise NotRepresentableError(f"layer {name!r}: two reduced poles coincide; choose another order")
        # The weights act on real coordinates r = right z.
        poles, B, C = modes.states(left @ self.B, np.concatenate(self.outputs) @ right)
        padding = order - count
        C = np.pad(2.0 * C, ((0, 0), (0, padding)))
        Lambda = np.concatenate([poles, np.full(padding, 0.5)])
        return Lambda, np.pad(B, ((0, padding), (0, 0))), *np.split(C, len(self.outputs))

    def _silent(self, order: int) -> tuple[np.ndarray, ...]:
        outputs = [np.zeros((len(W), order)) for W in self.outputs]
        return np.full(order, 0.5 + 0j), np.zeros((order, self.B.shape[1]), dtype=complex), *outputs


def _compressed(rows: np.ndarray) -> np.ndarray:
    """Rows with the same Gram matrix, no more than columns."""
    return np.asarray(np.linalg.qr(rows, mode="r")) if len(rows) > rows.shape[1] else rows
