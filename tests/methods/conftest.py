"""Random models for reef, made once for each module of tests."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_reef import PHOTOGRAPHED, save_models


@pytest.fixture(scope="module", autouse=True)
def few_real_images(small_reef: None) -> None: ...


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small images of each class."""
    root, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in PHOTOGRAPHED:
        (root / name).mkdir()
        for i in range(6):
            Image.fromarray(draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root
