"""Random models for reef, made once for each module of tests."""

from pathlib import Path

import pytest
from tiny_reef import save_models


@pytest.fixture(scope="module", autouse=True)
def few_real_images(small_reef: None) -> None: ...


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_models(tmp_path_factory.mktemp("models"))
