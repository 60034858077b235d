"""What a report says is likely missing must be what the similarities among real images say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tiny
from concord.metrics.details import Detail, Evidence, details
from concord.metrics.scorers import Percentile
from concord.storage import images

PHRASES = ["long fur", "short ears", "a long tail"]


def noise_images(count: int, seed: int) -> list[Image.Image]:
    draw = np.random.default_rng(seed)
    return [Image.fromarray(draw.integers(0, 255, (12, 10, 3), dtype=np.uint8)) for _ in range(count)]


def embedded(pictures: list[Image.Image]) -> Tensor:
    with torch.no_grad():
        return torch.cat([tiny.encoder().images(pixels) for pixels in images.batches(pictures)])


def test_percentiles_are_plain_counts_among_the_real_images() -> None:
    real, made = embedded(noise_images(40, 1)), noise_images(70, 2)  # 70: more than a batch
    scorer = Percentile(tiny.encoder(), lambda name: real)
    found = details(scorer, "cat", PHRASES, made)
    assert len(found) == 70
    texts = tiny.encoder().texts([f"cat with {phrase}" for phrase in PHRASES]).numpy()
    similarity = embedded(made).numpy() @ texts.T
    reference = real.numpy() @ texts.T
    share = (reference[None] <= similarity[:, None] + 1e-7).mean(axis=1)  # (70, 3)
    for row, of_image in enumerate(found):
        assert [d.phrase for d in of_image] == PHRASES
        assert [d.similarity for d in of_image] == pytest.approx(similarity[row].tolist(), abs=1e-5)
        assert [d.percentile for d in of_image] == pytest.approx(share[row].tolist(), abs=1 / 40 + 1e-6)


def test_real_images_themselves_are_spread_evenly() -> None:
    pictures = noise_images(50, 3)
    scorer = Percentile(tiny.encoder(), lambda name: embedded(pictures))
    percentiles = sorted(of_image[0].percentile for of_image in details(scorer, "cat", PHRASES[:1], pictures))
    assert percentiles == pytest.approx([(i + 1) / 50 for i in range(50)], abs=0.021)


def test_evidence_counts_what_lies_below_the_threshold() -> None:
    evidence = Evidence(threshold=0.25)
    evidence.add("cat", ["images/cat/0.png", "images/cat/1.png"], [
        [Detail("long fur", 0.3, 0.1), Detail("short ears", 0.3, 0.25)],
        [Detail("long fur", 0.3, 0.2), Detail("short ears", 0.3, 0.9)],
    ])  # fmt: skip
    evidence.add("dog", ["images/dog/0.png"], [[Detail("long fur", 0.3, 0.24), Detail("a tail", 0.3, 0.5)]])
    short = evidence.summary()
    assert short["likely_missing"] == pytest.approx(3 / 6)
    assert [(one["class_name"], one["phrase"], one["share"], one["n"]) for one in short["most_missed"]] == [
        ("cat", "long fur", 1.0, 2),
        ("dog", "long fur", 1.0, 1),
    ]
    assert [one["likely_missing"] for one in evidence.images["images/cat/0.png"]] == [True, False]
    assert Evidence(0.25).summary() == {"likely_missing": 0.0, "most_missed": []}
