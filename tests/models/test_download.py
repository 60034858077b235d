"""A recipe's models fetched from a hub: what is needed and no more, shown before, taken up again after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_hub import ModelHub, files_of, serving

from concord.errors import ConcordError
from concord.models.download import _needed, fetch, look
from concord.models.hub import REEF_WEIGHTS, find_model
from concord.recipe import load
from concord.workflows.download import download, wanted

MODELS = {"someone/dit": "pipeline", "someone/tiny": "tiny", "someone/clip": "clip"}
KEYS = {"pipeline.model": "someone/dit", "pipeline.tiny_decoder": "someone/tiny", "encoder": "someone/clip"}
CLIP, WEIGHTS = "model.safetensors", "transformer/diffusion_pytorch_model.safetensors"


def repos() -> dict[str, dict[str, bytes]]:
    """The package's own models as a hub has such: with formats beside them that no loading takes."""
    found = {model: files_of(REEF_WEIGHTS / name) for model, name in MODELS.items()}
    found["someone/dit"]["transformer/diffusion_pytorch_model.bin"] = b"x" * 1000
    found["someone/dit"]["transformer/diffusion_pytorch_model.fp16.safetensors"] = b"x" * 1000
    found["someone/clip"] |= {"open_clip_pytorch_model.bin": b"x" * 1000, "README.md": b"x", "onnx/model.onnx": b"x"}
    return found


@pytest.fixture
def hub() -> Iterator[ModelHub]:
    with serving(repos(), {"someone/dit": "cc-by-nc-4.0"}) as server:
        yield server


def command(hub: ModelHub, home: Path, *more: str) -> list[str]:
    settings = [f"{key}={model}" for key, model in KEYS.items()]
    return [sys.executable, "-m", "concord.cli", "download", "reef", *settings, *more]


def environment(hub: ModelHub, home: Path) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return clean | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}


def in_process(hub: ModelHub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**16)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))


def test_killed_half_way_the_same_command_fetches_the_rest(
    hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.stall = CLIP  # of the last model
    with subprocess.Popen(command(hub, tmp_path), env=environment(hub, tmp_path), stdout=subprocess.PIPE) as process:
        assert hub.stalled.wait(60)
        process.kill()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert find_model("someone/dit") and find_model("someone/tiny")
    assert find_model("someone/clip") is None, "half of its weights are there"
    before, hub.stall = len(hub.sent), ""
    arguments, env = command(hub, tmp_path, "--json"), environment(hub, tmp_path)
    done = subprocess.run(arguments, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(find_model(model) for model in MODELS)
    again = hub.sent[before:]
    assert {name for name, _ in again} <= set(hub.repos["someone/clip"]), "whole models are not asked for again"
    shown = done.stderr.index("fetching"), done.stderr.index("someone/clip")
    assert shown[1] < shown[0], "what it is is said before it is fetched"
    assert all(one["present"] for one in json.loads(done.stdout)["models"])
    for model, folder in MODELS.items():
        for name, content in files_of(REEF_WEIGHTS / folder).items():
            assert (find_model(model) / name).read_bytes() == content  # type: ignore[operator]
    assert not {name for name, _ in hub.sent} & {"open_clip_pytorch_model.bin", "README.md", "onnx/model.onnx"}


def test_sizes_and_licences_are_known_before_and_other_reasons_are_one_line(
    hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(hub, tmp_path, monkeypatch)
    recipe = load("reef", [*(f"{key}={model}" for key, model in KEYS.items()), "teacher=./none"])
    found = {one.needed.model: one for one in wanted(recipe)}
    dit = found["someone/dit"].remote
    assert dit is not None and dit.licence == "cc-by-nc-4.0"
    assert dit.files == {name: len(content) for name, content in files_of(REEF_WEIGHTS / "pipeline").items()}
    assert dit.missing == dit.bytes - len(hub.repos["someone/dit"]["model_index.json"])
    assert {name for name, _ in hub.sent} == {"model_index.json"}, "no weights are fetched by a look"
    assert found["reef:detector"].needed.path is not None
    hub.repos["someone/clip"].pop(CLIP)
    told: list[str] = []
    hub.drop = {WEIGHTS}
    with pytest.raises(ConcordError, match=r"2 models that are missing here: someone/clip.*not as transformers or"):
        download(recipe, wanted(recipe), lambda remote: told.append(remote.model), quiet=True)
    assert [begin > 0 for name, begin in hub.sent if name == WEIGHTS] == [False, True], "a broken connection goes on"
    assert told == ["someone/dit", "someone/tiny"] and find_model("someone/tiny"), "the others are fetched"
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    hub.repos |= repos()
    with pytest.raises(ConcordError, match=r"3 MB are to be fetched into .*, which has 0 kB left"):
        download(recipe, wanted(recipe), lambda remote: None, quiet=True)


def test_of_an_adapters_repository_its_file_and_the_encoder_beside_it_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Laid out as h94/IP-Adapter is: adapters of several models, each folder with its encoder."""
    wanted_files = {f"models/{n}": b"x" * 64 for n in ("ip-adapter_sd15.safetensors", "image_encoder/config.json")}
    wanted_files["models/image_encoder/model.safetensors"] = b"x" * 128
    others = {f"sdxl_models/{n}": b"x" * 64 for n in ("ip-adapter_sdxl.safetensors", "image_encoder/config.json")}
    others |= {"README.md": b"x", "models/ip-adapter_sd15.bin": b"x", "models/ip-adapter-plus_sd15.safetensors": b"x"}
    with serving({"some/adapter": wanted_files | others, "some/flux": {"ip_adapter.safetensors": b"x" * 64}}) as hub:
        in_process(hub, tmp_path, monkeypatch)
        typed = ["pipeline.ip_adapter.model=some/adapter", "data=/photos", "pipeline.tiny_decoder=null"]
        recipe = load("custom-ip", [*typed, "informing.decoder=full"])
        (found,) = [one.remote for one in wanted(recipe) if one.needed.key == "pipeline.ip_adapter"]
        assert found is not None and set(found.files) == set(wanted_files)
        assert find_model("some/adapter") is None
        assert {str(p.relative_to(fetch(found))) for p in fetch(found).rglob("*") if p.is_file()} == set(wanted_files)
        assert find_model("some/adapter") == fetch(found)
        assert fetch(look("some/flux", "ip_adapter.safetensors")) == find_model("some/flux"), "it has no encoder"
        with pytest.raises(ConcordError, match=r"the hub has it, but no x\.safetensors in it"):
            look("some/flux", "x.safetensors")


def test_weights_are_chosen_as_the_libraries_choose_them() -> None:
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)] + ["model.safetensors.index.json"]
    one = ["config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "merges.txt"]
    assert _needed([""], one) == ["config.json", "merges.txt", "model.safetensors"]
    assert _needed([""], ["config.json", *shards, "pytorch_model.bin"]) == ["config.json", *shards]
    safe, old = "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin"
    assert _needed(["unet", "vae"], [safe, old, "vae/diffusion_pytorch_model.bin", "text/model.safetensors"]) == [
        old,
        "vae/diffusion_pytorch_model.bin",
    ], "diffusers takes safetensors of all components or of none"
