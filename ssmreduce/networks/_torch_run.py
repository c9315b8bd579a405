"""The arithmetic of drop-in PyTorch layers: outputs of a system from its matrices, in pairs of real numbers."""

import torch

from ._torch_scan import scan_pairs

Matrices = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]
"""Lambda (N, 2), B (N, m, 2), C (N, p, 2), C_reverse, D."""


def matrices_of(
    log_rate: torch.Tensor,
    angle: torch.Tensor,
    unit: torch.Tensor,
    side: torch.Tensor,
    owner: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    C_reverse: torch.Tensor | None = None,
) -> Matrices:
    """Matrices of the tensors of a layer; poles in double precision where the device has it."""
    wide = log_rate.dtype if log_rate.device.type == "mps" else torch.float64
    modulus = torch.exp(-side.to(wide) * torch.exp(log_rate.to(wide)))
    phase = angle.to(wide) * unit.to(wide)
    Lambda = torch.stack([modulus * torch.cos(phase), modulus * torch.sin(phase)], dim=-1)
    return Lambda.to(B.dtype), B, C, C_reverse, D


def run_matrices(
    matrices: Matrices,
    u: torch.Tensor,
    owner: torch.Tensor,
    systems: int,
    state: torch.Tensor | None = None,
    carry: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Outputs (batch, L, s * p) of inputs (batch, L, s * m), and the state (batch, N, 2) after them if carried."""
    Lambda, B, C, C_reverse, D = matrices
    single_channel = B.shape[1] == 1 and C.shape[1] == 1
    y, last = _feedthrough_of(D, u, systems), None
    if Lambda.shape[0] == 0:
        return y, (u.new_zeros(u.shape[0], 0, 2) if carry else None)
    if systems > 1 and single_channel and state is None and not carry:
        return y + _convolved(matrices, u, owner, systems), None
    driven = _driven(B, u, owner, systems)
    start = u.new_zeros(u.shape[0], *Lambda.shape) if state is None else state
    x = scan_pairs(Lambda, driven, start, reverse=False)
    y = y + _observed(C, x, owner, systems)
    if carry:
        last = x[:, -1]
    if C_reverse is not None:
        x = scan_pairs(Lambda, driven, torch.zeros_like(start), reverse=True)
        y = y + _observed(C_reverse, x, owner, systems)
    return y, last


def _driven(B: torch.Tensor, u: torch.Tensor, owner: torch.Tensor, systems: int) -> torch.Tensor:
    """B u as pairs (batch, L, N, 2)."""
    if systems == 1:
        return torch.matmul(u, B.movedim(1, 0).flatten(1)).unflatten(-1, (B.shape[0], 2))
    own = u.unflatten(-1, (systems, B.shape[1])).index_select(-2, owner)
    return torch.einsum("blnm,nmc->blnc", own, B)


def _observed(C: torch.Tensor, x: torch.Tensor, owner: torch.Tensor, systems: int) -> torch.Tensor:
    """Re(C x), summed over the states of each system, (batch, L, s * p)."""
    signed = torch.stack([C[..., 0], -C[..., 1]], dim=-1)
    if systems == 1:
        return torch.matmul(x.flatten(-2), signed.movedim(-1, 1).flatten(0, 1))
    parts = torch.einsum("blnc,npc->blnp", x, signed)
    total = parts.new_zeros(*parts.shape[:2], systems, parts.shape[3])
    return total.index_add(2, owner, parts).flatten(-2)


def _feedthrough_of(D: torch.Tensor, u: torch.Tensor, systems: int) -> torch.Tensor:
    if D.ndim == 1:
        return u * D
    if systems == 1:
        return torch.matmul(u, D[0].T)
    return torch.einsum("blsm,spm->blsp", u.unflatten(-1, (systems, -1)), D).flatten(-2)


def impulse_response(
    Lambda: torch.Tensor, B: torch.Tensor, C: torch.Tensor, owner: torch.Tensor, systems: int, length: int
) -> torch.Tensor:
    """Re(sum c b lambda^t) of systems of one input, shape (s, p, L): powers in double precision."""
    wide = Lambda.dtype if Lambda.device.type == "mps" else torch.float64
    re, im = Lambda.to(wide).unbind(-1)
    t = torch.arange(length, dtype=wide, device=Lambda.device)
    tiny = torch.finfo(wide).tiny
    log_modulus = 0.5 * torch.log(torch.clamp(re * re + im * im, min=tiny))
    modulus = torch.exp(log_modulus[:, None] * t)
    angle = torch.atan2(im, torch.where((re == 0) & (im == 0), torch.ones_like(re), re))[:, None] * t
    (b_re, b_im), (c_re, c_im) = B.to(wide).unbind(-1), C.to(wide).unbind(-1)
    g_re, g_im = (b_re * c_re - b_im * c_im)[..., None], (b_re * c_im + b_im * c_re)[..., None]
    terms = g_re * (modulus * torch.cos(angle))[:, None] - g_im * (modulus * torch.sin(angle))[:, None]
    return terms.new_zeros(systems, *terms.shape[1:]).index_add(0, owner, terms).to(B.dtype)


def _convolved(matrices: Matrices, u: torch.Tensor, owner: torch.Tensor, systems: int) -> torch.Tensor:
    """Outputs without D of systems of one input and output, by the Fourier transform of their kernels."""
    Lambda, B, C, C_reverse, _ = matrices
    length = u.shape[1]
    transformed = torch.fft.rfft(u, n=2 * length, dim=1)
    kernel = torch.fft.rfft(impulse_response(Lambda, B, C, owner, systems, length)[:, 0], n=2 * length)
    if C_reverse is not None:  # the same kernel backwards is its conjugate on the circle
        back = impulse_response(Lambda, B, C_reverse, owner, systems, length)[:, 0]
        kernel = kernel + torch.fft.rfft(back, n=2 * length).conj()
    return torch.fft.irfft(transformed * kernel.T, n=2 * length, dim=1)[:, :length]
