"""Recurrences of selective layers in PyTorch, differentiable; Mamba-2 in chunks of matrix products."""

from typing import Any

import torch

CHUNK = 64


def scan_mamba1(x: Any, dt: Any, A: Any, B: Any, C: Any, state: Any, reverse: bool = False) -> tuple[Any, Any]:
    """Run the recurrence token by token: x, dt (b, L, I); A (I, n); B, C (b, L, n); state (b, I, n)."""
    outputs = []
    length = x.shape[1]
    drive = dt * x
    for k in range(length):
        t = length - 1 - k if reverse else k
        state = torch.exp(dt[:, t, :, None] * A) * state + drive[:, t, :, None] * B[:, t, None, :]
        outputs.append(torch.matmul(state, C[:, t, :, None])[..., 0])
    return torch.stack(outputs[::-1] if reverse else outputs, dim=1), state


def scan_mamba2(x: Any, dt: Any, A: Any, B: Any, C: Any, state: Any, chunk: int = CHUNK) -> tuple[Any, Any]:
    """Run the recurrence in chunks (the SSD form of Dao and Gu, 2024, section 6), no history of states.

    x (b, L, H, P); dt (b, L, H); A (H,); B, C (b, L, G, n); state (b, H, P, n).
    """
    batch, length, heads, width = x.shape
    groups, order = B.shape[2], B.shape[3]
    chunk = min(chunk, max(length, 1))
    pad = -length % chunk
    if pad:
        x, dt, B, C = (torch.nn.functional.pad(v, (0, 0) * (v.ndim - 2) + (0, pad)) for v in (x, dt, B, C))
    blocks = (length + pad) // chunk
    per_group = (groups, heads // groups)
    drive = (x * dt[..., None]).reshape(batch, blocks, chunk, *per_group, width).permute(0, 1, 3, 4, 2, 5)
    log_decay = torch.cumsum((dt * A).reshape(batch, blocks, chunk, *per_group), dim=2).permute(0, 1, 3, 4, 2)
    B, C = (v.reshape(batch, blocks, chunk, groups, order).transpose(2, 3)[:, :, :, None] for v in (B, C))

    lower = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).tril()
    decay = torch.exp((log_decay[..., :, None] - log_decay[..., None, :]).masked_fill(~lower, -torch.inf))
    y = ((C @ B.mT) * decay) @ drive
    to_end = torch.exp(log_decay[..., -1:] - log_decay)
    added = (drive * to_end[..., None]).mT @ B

    state = state.reshape(batch, *per_group, width, order)
    starts = []
    for c in range(blocks):
        starts.append(state)
        state = state * torch.exp(log_decay[:, c, ..., -1])[..., None, None] + added[:, c]
    y = y + (C @ torch.stack(starts, dim=1).mT) * torch.exp(log_decay)[..., None]
    y = y.permute(0, 1, 4, 2, 3, 5).reshape(batch, blocks * chunk, heads, width)
    return y[:, :length], state.reshape(batch, heads, width, order)


def step_mamba2(x: Any, dt: Any, A: Any, B: Any, C: Any, state: Any) -> tuple[Any, Any]:
    """One token: x (b, H, P); dt (b, H); B, C (b, G, n); state (b, H, P, n)."""
    batch, heads, width = x.shape
    order = B.shape[-1]
    B, C = (v.repeat_interleave(heads // v.shape[1], dim=1) for v in (B, C))
    drive = (dt[..., None] * x)[..., None] * B[:, :, None, :]
    state = torch.addcmul(drive, state, torch.exp(dt * A)[..., None, None])
    y = torch.bmm(state.reshape(batch * heads, width, order), C.reshape(batch * heads, order, 1))
    return y.reshape(batch, heads, width), state
