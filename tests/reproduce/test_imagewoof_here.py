"""`concord reproduce --on imagewoof` where its models and real images are: random models of the same classes, in the
hub's cache under the ids that its recipes name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
import tiny_pipelines
from concord.data.class_lists import class_list

STUDENTS = [f"students.{name}=convnet-1 width=4 size=16" for name in ("convnet", "resnet18", "resnet101")]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory to call it in: ImageWoof under data/, Minimax's checkpoint under models/, the others in the cache."""
    cache = tmp_path / "hub"
    names = {entry.index: ", ".join(entry.names) for entry in class_list("imagenet-1k")}
    dit = tiny.pipeline()
    dit.register_to_config(id2label=names)
    dit.save_pretrained(tiny.cached(cache, "facebook/DiT-XL-2-256"))
    tiny_pipelines.unclip().save_pretrained(tiny.cached(cache, "radames/stable-diffusion-2-1-unclip-img2img"))
    tiny.save_encoder(tiny.cached(cache, "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"), tiny.clip())
    tiny.transformer().save_pretrained(tmp_path / "models" / "minimax" / "imagewoof")
    draw = np.random.default_rng(0)
    for split, images in (("train", 6), ("val", 2)):
        for entry in class_list("imagewoof"):
            assert entry.wnid is not None
            folder = tmp_path / "data" / "imagenet" / split / entry.wnid
            folder.mkdir(parents=True)
            for i in range(images):
                Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path


def test_a_dry_run_of_all_finds_them_and_times_every_kind_of_image(here: Path) -> None:
    words = ["reproduce", "all", "--on", "imagewoof", *STUDENTS, "--dry-run", "--json", "--out", "none"]
    done = subprocess.run(
        [sys.executable, "-m", "concord.cli", *words],
        cwd=here,
        env=os.environ | {"HF_HUB_CACHE": str(here / "hub"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert (values["models"], values["data"]) == ([], [])
    assert not [what for what in values["untimed"] if what.endswith("images")], values["untimed"]
    assert values["seconds"]["images"] > 0 and values["seconds"]["trainings"] > 0
    assert not (here / "none").exists()
