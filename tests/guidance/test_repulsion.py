"""The second guide: images of a class go apart, all others stay as they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from worlds import World, step_at

import concord
import tiny
from concord.diffusion import generators, noise_estimate, sample
from concord.errors import ConcordError
from concord.guidance import Repulsion
from concord.registry import GUIDES

LABELS = [4, 7, 4, 4, 9, 7]
ALONE = 4
"""The image whose class, 9, no other has."""


def pairs(images: Tensor) -> list[float]:
    """Distances of those of one class."""
    n = len(LABELS)
    return [float((images[i] - images[j]).norm()) for i in range(n) for j in range(i) if LABELS[i] == LABELS[j]]


def sampled(guides: list[Any], scheduler: str = "ddim") -> Tensor:
    world = World(len(LABELS), torch.float32)
    denoise = world.model.denoise(LABELS, 2.0)
    return sample(
        denoise, world.x_T, world.model.scheduler(scheduler), steps=10, guides=guides, generators=generators(range(6))
    )


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "stock"])
def test_pairs_of_a_class_end_further_apart_and_a_lonely_image_is_untouched(scheduler: str) -> None:
    plain, apart = sampled([], scheduler), sampled([Repulsion(LABELS, strength=0.1)], scheduler)
    assert all(after > before for before, after in zip(pairs(plain), pairs(apart), strict=True))
    assert torch.equal(apart[ALONE], plain[ALONE])
    assert torch.equal(sampled([Repulsion(range(6))], scheduler), plain)  # no two of a class


def test_the_shift_is_down_the_kernels_gradient_and_of_the_strength_that_is_named() -> None:
    world = World(len(LABELS))
    step = step_at(world, world.x_T, graph=False)
    dx0 = Repulsion(LABELS, strength=0.3)(step)
    assert dx0 is not None
    x = step.x0.clone().requires_grad_()
    for i in range(len(LABELS)):
        mates = [j for j in range(len(LABELS)) if j != i and LABELS[j] == LABELS[i]]
        if not mates:
            assert torch.equal(dx0[i], torch.zeros_like(dx0[i]))
            continue
        square = torch.stack([(x[i] - x[j].detach()).square().sum() for j in mates])
        (g,) = torch.autograd.grad((-square / square.detach().mean()).exp().sum(), x)
        cosine = torch.nn.functional.cosine_similarity(-g[i].flatten(), dx0[i].flatten(), dim=0)
        assert float(cosine) == pytest.approx(1)
        eps = noise_estimate(step.prediction, step.x_t, step.level)[i]
        size = 0.3 * step.level.sigma**2 / step.level.alpha * float(eps.square().mean().sqrt())
        assert float(dx0[i].square().mean().sqrt()) == pytest.approx(size)


def test_another_class_in_the_batch_changes_nothing() -> None:
    world = World(4)
    step = step_at(world, world.x_T, graph=False)
    with_it, without = Repulsion([1, 1, 2, 2])(step), Repulsion([1, 1, 2, 3])(step)
    assert with_it is not None
    assert without is not None
    assert torch.equal(with_it[:2], without[:2])
    assert not torch.equal(with_it[2:], without[2:])


def test_equal_images_and_pure_noise_are_left_alone() -> None:
    world = World(2)
    step = step_at(world, world.x_T[:1].repeat(2, 1, 1, 1), graph=False)
    dx0 = Repulsion([world.labels[0]] * 2)(type(step)(**{**vars(step), "x0": step.x0[:1].repeat(2, 1, 1, 1)}))
    assert dx0 is not None
    assert torch.equal(dx0, torch.zeros_like(dx0))
    level = type(step.level)(0.0, 1.0)
    assert Repulsion([0, 0])(type(step)(**{**vars(step), "level": level})) is None


def test_it_acts_in_its_window() -> None:
    assert [index for index in range(10) if Repulsion([0], window=(0.2, 0.5)).active(index, 10)] == [2, 3, 4]
    with pytest.raises(ConcordError, match="`window`"):
        Repulsion([0], window=(0.5, 0.5))
    with pytest.raises(ConcordError, match="3 images for a batch of 2"):
        world = World(2)
        Repulsion([0, 0, 0])(step_at(world, world.x_T, graph=False))


def test_it_is_registered_with_its_settings() -> None:
    spec = GUIDES.get("repulsion")
    assert spec.across
    assert spec.settings(strength=0.2).model_dump() == {"strength": 0.2, "window": (0.0, 1.0)}
    for wrong in ({"strength": -1}, {"weight": 1}, {"window": (0, 2)}):
        with pytest.raises(ValidationError):
            spec.settings(**wrong)


def test_a_pipelines_own_call_takes_it_alone_and_beside_concepts() -> None:
    pipe = tiny.pipeline()

    def called(**options: Any) -> Tensor:
        seeds = [torch.Generator().manual_seed(n) for n in range(3)]
        call = {"generator": seeds, "num_inference_steps": 5, "output_type": "pt", "guidance_scale": 2.0}
        if not options:
            return torch.as_tensor(pipe([1, 1, 2], **call).images)
        with concord.inform(pipe, **options) as guide:
            images = torch.as_tensor(pipe([1, 1, 2], **call).images)
        assert (guide is None) == ("positives" not in options)
        return images

    repulsion = Repulsion([1, 1, 2], strength=0.3)
    concepts = {"encoder": tiny.encoder(), "positives": [["dog"]], "negatives": [["tail"]]}
    plain, apart, informed, both = (
        called(),
        called(guides=[repulsion]),
        called(**concepts),
        called(**concepts, guides=[repulsion]),
    )
    assert torch.equal(apart[2], plain[2])
    assert not torch.equal(apart[0], plain[0])
    assert torch.equal(both[2], informed[2])
    assert not torch.equal(both[0], informed[0])
    with pytest.raises(ConcordError, match="positives is empty"), concord.inform(pipe, tiny.encoder()):
        pass
    with pytest.raises(ConcordError, match="an encoder is missing"), concord.inform(pipe, positives=["dog"]):
        pass
