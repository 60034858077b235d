"""What the DiT is trained towards: the levels it sees, what they count, and the target at high noise."""

import numpy as np
import pytest
import torch

from concord.reef.noising import CERTAIN_SIGMA, LAYOUT_SIGMA, Origins, draw_times, loss_weight


def test_times_cover_the_schedule_and_favour_where_the_layout_is_decided() -> None:
    times = torch.cat([draw_times(np.random.default_rng(seed), 64) for seed in range(200)]).numpy()
    assert times.min() >= 0 and times.max() <= 999
    share = np.histogram(times, bins=10, range=(0, 1000))[0] / len(times)
    assert share.min() > 0.04  # half of the draw is uniform: no level is forgotten
    assert share[4:8].sum() > 0.5
    # Stratified: every single batch has its share of them.
    assert all((draw_times(np.random.default_rng(seed), 8) < 500).sum() in (2, 3, 4) for seed in range(50))


def test_weight_is_min_snr_at_low_noise_and_that_of_a_clean_estimate_at_high() -> None:
    sigma = torch.tensor([0.1, 0.3, 1.0, 2.0, 6.0, LAYOUT_SIGMA], dtype=torch.float64)
    snr = sigma**-2
    low, weight = sigma <= 1, loss_weight(sigma)
    assert torch.allclose(weight[low], (snr.clamp(max=5) / snr)[low])
    # An error d of the noise is one of sigma * d of the clean estimate.
    assert torch.allclose((weight * 0.2**2)[~low], ((sigma * 0.2) ** 2)[~low])
    assert loss_weight(torch.tensor(100.0)) == pytest.approx(LAYOUT_SIGMA**2)


def test_the_target_is_the_posterior_mean() -> None:
    """Against Bayes' rule, image by image, in float64."""
    rng = torch.Generator().manual_seed(0)
    clean = torch.randn(12, 5, generator=rng, dtype=torch.float64)
    species = torch.tensor([0, 1, 2] * 4)
    noisy = clean[:4] + torch.randn(4, 5, generator=rng, dtype=torch.float64)
    sigma, label = torch.tensor([0.7, 1.0, 2.0, 4.0], dtype=torch.float64), torch.tensor([0, 1, 1000, 2])
    mean = Origins(clean, species).mean(noisy, sigma, label)
    for row in range(4):
        fits = clean if label[row] == 1000 else clean[species == label[row]]
        likelihood = torch.exp(-(noisy[row] - fits).square().sum(1) / (2 * sigma[row] ** 2))
        assert torch.allclose(mean[row], (likelihood[:, None] * fits).sum(0) / likelihood.sum())


def test_below_the_threshold_the_target_is_the_image_itself() -> None:
    """At reef's size, so that leaving the posterior out there changes nothing."""
    rng = torch.Generator().manual_seed(0)
    clean, species = torch.randn(300, 1024, generator=rng), torch.zeros(300, dtype=torch.int64)
    sigma = torch.full((20,), CERTAIN_SIGMA)
    noisy = clean[:20] + CERTAIN_SIGMA * torch.randn(20, 1024, generator=rng)
    assert torch.allclose(Origins(clean, species).mean(noisy, sigma, species[:20]), clean[:20], atol=1e-3)
