"""Other ways from an impulse response to poles and residues, and filters like those of Hyena, for `bench_realize`."""

import warnings

import numpy as np
import torch
from scipy.interpolate import AAA

import ssmreduce as sr


def error_of(kernel, fitted):
    """Relative peak error on a fine grid, and relative error in l2, over the samples."""
    spectra = np.abs(np.fft.rfft([kernel - fitted, kernel], 32 * len(kernel))).max(-1)
    return spectra[0] / spectra[1], np.linalg.norm(kernel - fitted) / np.linalg.norm(kernel)


def by_realize(kernel, order):
    found = sr.realize(kernel[None], order=order)
    ssm = sr.DiagonalSSM(found.ssm.Lambda[0], found.ssm.B[0], found.ssm.C[0], found.ssm.D[0], conj_sym=True)
    return np.asarray(sr.impulse_response(ssm, len(kernel)))[:, 0, 0]


def refitted(kernel, poles):
    """Response with these poles in the upper half plane, mirrored into the circle, and residues by least squares."""
    size = np.abs(poles)
    poles = np.where(size > 1, poles / size**2, poles)
    powers = np.power.outer(np.where(poles == 0, 1e-9, poles), np.arange(len(kernel) - 1)).T
    columns = np.concatenate([powers.real, powers.imag], axis=1)
    fitted = columns @ np.linalg.lstsq(columns, kernel[1:], rcond=1e-13)[0]
    return np.concatenate([kernel[:1], fitted])


def by_aaa(kernel, order):
    """Barycentric rational approximation of the transfer function on the unit circle, of degree `order`."""
    points = 4 * len(kernel)
    values = np.fft.rfft(kernel[1:], points)
    half = np.exp(2j * np.pi * np.arange(points // 2 + 1) / points)
    z, f = np.concatenate([half, half[1:-1].conj()]), np.concatenate([values, values[1:-1].conj()])
    keep = slice(None, None, 4)  # as many points as samples: each step decomposes a matrix of them
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a degree that is given it says that it has not converged
        poles = AAA(z[keep], f[keep], rtol=0.0, max_terms=order + 1, clean_up=False).poles()
    upper = poles[poles.imag > 0]
    return refitted(kernel, upper[np.argsort(-np.abs(upper))][: order // 2])


def by_distillation(kernel, order, steps=2000):
    """Modal distillation: gradient descent on poles in polar form and residues for the squared error of the kernel."""
    torch.manual_seed(0)
    target = torch.as_tensor(kernel[1:] / np.linalg.norm(kernel[1:]))
    lags = torch.arange(len(target), dtype=torch.float64)
    pairs = order // 2
    rate = torch.log(10.0 ** torch.linspace(-3.5, -1, pairs, dtype=torch.float64)).requires_grad_()
    angle = (torch.pi * (torch.arange(pairs, dtype=torch.float64) + 0.5) / pairs).requires_grad_()
    residue = (0.1 * torch.randn(2, pairs, dtype=torch.float64) / pairs).requires_grad_()
    optimizer = torch.optim.Adam([rate, angle, residue], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        decay = torch.exp(-torch.exp(rate)[:, None] * lags)
        turn = angle[:, None] * lags
        fitted = (decay * (residue[0][:, None] * torch.cos(turn) - residue[1][:, None] * torch.sin(turn))).sum(0)
        ((fitted - target) ** 2).sum().backward()
        optimizer.step()
        schedule.step()
    poles = torch.exp(-torch.exp(rate) + 1j * angle).detach().numpy()
    return refitted(kernel, poles)


PEERS = {"realize": by_realize, "AAA": by_aaa, "modal distillation": by_distillation}


def hyena_filters(count, length, embedding=3, width=16, w=1.0, seed=0):
    """Filters of the implicit network of Hyena, untrained, times its exponential decays, shape (count, length).

    A positional embedding of `embedding` numbers, a network of sines with two inner layers, and decays to 1 % at 0.3
    to 1.5 of the length; the weights as PyTorch draws them.
    """
    rng = np.random.default_rng(seed)
    bands = (embedding - 1) // 2
    time = np.linspace(0, 1, length)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(length) / length, np.linspace(1e-4, bands - 1, bands)))
    x = np.concatenate([time[:, None], waves.real, waves.imag], axis=1)
    for outputs in (width, width, width):
        bound = x.shape[1] ** -0.5
        weights, bias = rng.uniform(-bound, bound, (x.shape[1], outputs)), rng.uniform(-bound, bound, outputs)
        x = np.sin(w * (x @ weights + bias))
    bound = width**-0.5
    filters = x @ rng.uniform(-bound, bound, (width, count))
    decays = np.linspace(np.log(100) / 1.5, np.log(100) / 0.3, count)
    return (filters * np.exp(-np.outer(time, decays))).T.copy()
