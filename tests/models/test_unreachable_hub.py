"""Models that the cache has, where no hub can be reached: taken from there at once, as on a node without a network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from model_hub import serving

import tiny
from concord.models.encoder import Encoder
from concord.models.pretrained import hub_answers, loading

NAME = "someone/clip"


@pytest.fixture
def nowhere() -> str:
    """An address at which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, with a model in it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    tiny.save_encoder(tiny.cached(tmp_path, NAME), tiny.clip())
    return tmp_path


def test_it_is_loaded_and_no_hub_is_asked_for_its_files(nowhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    tried, connect = [], socket.create_connection

    def counted(*arguments: Any, **options: Any) -> Any:
        tried.append(arguments)
        return connect(*arguments, **options)

    monkeypatch.setattr(socket, "create_connection", counted)
    assert Encoder.from_pretrained(NAME).model.config.projection_dim == 12
    assert len(tried) == 1, "whether it is there, and for no file"
    assert not constants.HF_HUB_OFFLINE, "what the cache lacks may still be asked for"


def test_a_hub_that_answers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({}) as hub:  # it has no model, and answers so
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        assert hub_answers(hub.url)
        with loading(NAME, "encoder"):
            assert not constants.HF_HUB_OFFLINE


def test_what_the_cache_lacks_is_asked_for(nowhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    with loading("someone/else", "encoder"):
        assert not constants.HF_HUB_OFFLINE
