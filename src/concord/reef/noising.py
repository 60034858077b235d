"""How the DiT learns to denoise: which noise levels it sees, how much each counts, and what it is told to predict.

A level is given by sigma, the noise's deviation over the image's: x_t / alpha = x0 + sigma * noise. Reef's layout
(where a fish is, how large, how tilted) is decided at sigma 2 to 12: what x, y, scale and tilt explain of the latents
linearly is as large as the noise at sigma 4.2, 6.8, 2.9 and 3.4. There the noise that DiT predicts is nearly the input
itself: an error hardly shows in its loss, yet draws every image towards its class's mean.
"""

import numpy as np
import torch
from torch import Tensor

TIMES = 1000
SNR_LOW_NOISE = 5.0
CERTAIN_SIGMA = 4.0
"""Below it a noisy training image has one possible origin among a species' thousands, itself."""
LAYOUT_SIGMA = 12.0
"""Above it so little of the layout is visible that its error counts less and less."""


def draw_times(rng: np.random.Generator, batch: int) -> Tensor:
    """Timesteps, int64 (batch,): half uniform, half logit-normal about 525 (Esser et al., 2024, "lognorm").

    Stratified: one from each of equally likely slices, so that every batch holds all levels.
    """
    even = batch // 2
    uniform = (np.arange(even) + rng.random(even)) / even
    u = (np.arange(batch - even) + rng.random(batch - even)) / (batch - even)
    normal = torch.special.ndtri(torch.from_numpy(u.clip(1e-6, 1 - 1e-6))).numpy()
    times = np.concatenate([uniform, 1 / (1 + np.exp(-(0.1 + 0.8 * normal)))])
    return torch.from_numpy((times * TIMES).astype(np.int64).clip(0, TIMES - 1))


def loss_weight(sigma: Tensor) -> Tensor:
    """What a squared error of the predicted noise counts at a level.

    At low noise min-SNR with gamma 5 (Hang et al., 2023). At high noise sigma^2, that is, an error of the clean
    estimate counts the same at every level, as in EDM (Karras et al., 2022), up to where the layout is out of sight.
    """
    snr = sigma**-2
    return sigma.clamp(1, LAYOUT_SIGMA) ** 2 * (SNR_LOW_NOISE / snr).clamp(max=1)


class Origins:
    """The training images as what a noisy image may come from.

    clean: (N, D). species: int64 (N,), 0 to K - 1.
    """

    def __init__(self, clean: Tensor, species: Tensor) -> None:
        order = species.argsort(stable=True)
        self._clean = clean[order].split(species.bincount().tolist())  # K times (N_k, D)
        self._half_norms = [part.square().sum(1) / 2 for part in self._clean]

    def mean(self, noisy: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """The mean of the images that noisy ones may come from (Xu et al., 2023, "stable target field").

        A perfect denoiser of the training set predicts it; the image that the noise was added to is one draw from the
        same posterior. Both have the same expected gradient, this one without the draw's variance, which at high noise
        is all of the loss.

        noisy: (B, D), x0 + sigma * noise. sigma: (B,). label: (B,), the species, or K and above for any of them.
        Returns (B, D).
        """
        total = sum(len(part) for part in self._clean)
        score = noisy.new_full((len(noisy), total), -torch.inf)
        rows = [((label == k) | (label >= len(self._clean))).nonzero()[:, 0] for k in range(len(self._clean))]
        first = 0
        for part, half_norm, mine in zip(self._clean, self._half_norms, rows, strict=True):
            # -|noisy - clean|^2 / (2 sigma^2), up to a constant of each row
            score[mine, first : first + len(part)] = (noisy[mine] @ part.T - half_norm) / sigma[mine, None] ** 2
            first += len(part)
        weight = score.softmax(1).split([len(part) for part in self._clean], dim=1)
        mean = torch.zeros_like(noisy)
        for part, share, mine in zip(self._clean, weight, rows, strict=True):
            mean[mine] += share[mine] @ part
        return mean
