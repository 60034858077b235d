"""The paper's two models at their real size, with random weights, in one step: minutes, and up to 16 GB of memory.

python -m pytest -m slow
"""

from __future__ import annotations

import pytest

from concord.recipe import load
from concord.system import free_memory
from concord.workflows.rehearse import rehearse

MILLION = 1e6
SIZES = {
    # DiT-XL/2: 675 M (Peebles and Xie 2023, Table 1), but 27 more embedders of time (256 and 1152 to 1152) and class
    # (1001 of 1152), for diffusers has one in each of the 28 blocks; the autoencoder of Stable Diffusion has 83.7 M.
    "imagewoof-dit": (675 + 27 * (256 * 1152 + 1152 * 1152 + 1001 * 1152 + 2 * 1152) / MILLION + 83.7, ()),
    # Stable Diffusion 2.1's U-Net has 866 M and 4 M for images' embeddings; CLIP ViT-H/14 986 M in text and image, of
    # whose 24 layers of text one of 12.6 M is left out; the autoencoder as above.
    "custom": (866 + 4 + 986 - 12.6 + 83.7, ("data=.", "classes=[imagewoof]", "concepts.bank=imagewoof")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_the_papers_models_go_through_every_stage_at_real_size(name: str) -> None:
    if free_memory("cpu") < 16e9:
        pytest.skip("less than 16 GB of memory are free")
    millions, texts = SIZES[name]
    found = rehearse(load(name, ["device=cpu", "dtype=float32", *texts]), images=1, steps=1)
    counted = {one["key"]: one["parameters"] for one in found.models}
    assert counted["pipeline.model"] / MILLION == pytest.approx(millions, rel=0.01)
    assert counted["encoder"] / MILLION == pytest.approx(427.6, abs=0.1)  # ViT-L-14 of open_clip's model profile
    plain, informed = found.timed["uninformed"], found.timed["informed"]
    assert informed.step > plain.step > 0
    assert informed.memory > plain.memory > 4 * counted["pipeline.model"]
