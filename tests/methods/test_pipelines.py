"""Whole runs of the real recipes on tiny random pipelines, saved as the real ones are: what a user's command does."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

import tiny
import tiny_pipelines
from concord.cli.commands import app
from concord.data.class_lists import class_list
from concord.errors import ConcordError
from concord.methods import batch_sampler as making
from concord.recipe import Recipe, load
from concord.runs.store import read_manifest
from concord.workflows.distill import distill
from concord.workflows.requirements import require_models

SHARED = Path(__file__).parents[3] / "shared" / "data" / "clothing"
WOOF = [str(c.wnid) for c in class_list("imagewoof")]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("unclip", "sd", "flux"):
        tiny_pipelines.pipeline(name).save_pretrained(folder / name)
    dit = tiny_pipelines.pipeline("dit")
    dit.register_to_config(id2label={c.index: ", ".join(c.names) for c in class_list("imagenet-1k")})
    dit.save_pretrained(folder / "dit")
    for number in (0, 1):  # two more transformers, as `concord convert` leaves them
        torch.manual_seed(100 + number)
        for weight in dit.transformer.parameters():
            torch.nn.init.normal_(weight, std=0.2)
        dit.transformer.save_pretrained(folder / f"minimax{number}" / "transformer")
    tiny.save_encoder(folder / "clip", tiny.clip())
    tiny.tiny_autoencoder().save_pretrained(folder / "taesd")
    return folder


@pytest.fixture(scope="module")
def woof(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small "photographs" in ten synset folders, and one class that is not of ImageWoof."""
    root, draw = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for wnid in [*WOOF, "n01440764"]:
        (root / wnid).mkdir()
        for i in range(4):
            Image.fromarray(draw.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(root / wnid / f"{i}.jpg")
    return root


def overrides(models: Path, pipeline: str, data: Path) -> list[str]:
    return [
        f"data={data}",
        f"pipeline.model={models / pipeline}",
        f"encoder={models / 'clip'}",
        "pipeline.steps=3",
        "concepts.images=3",
        "ipc=2",
        "workers=1",
    ]


def run(recipe: str, *changes: str) -> Recipe:
    return load(recipe, changes)


def command(*arguments: str, cwd: Path) -> Result:
    with contextlib.chdir(cwd):
        return CliRunner().invoke(app, arguments)


def check_set(out: Path, classes: int, ipc: int, size: int) -> list[dict[str, Any]]:
    """The directory holds what DESIGN names: images, manifest, results."""
    rows = read_manifest(out / "images")
    assert len(rows) == classes * ipc
    for row in rows:
        with Image.open(out / "images" / row["file_name"]) as image:
            assert image.size == (size, size)
            assert image.mode == "RGB"
    results = json.loads((out / "results.json").read_text())
    made = results["last_call"]["made"]
    assert (results["images"], made, results["classes"]) == (classes * ipc, classes * ipc, classes)
    assert (out / "recipe.yaml").is_file()
    assert (out / "samples.png").is_file()
    return rows


@pytest.mark.parametrize("data", ["drawn", pytest.param("photographs", marks=pytest.mark.shared)])
def test_imagewoof_unclip_through_the_command_line(models: Path, woof: Path, tmp_path: Path, data: str) -> None:
    root = woof
    if data == "photographs":
        root = as_synsets(tmp_path)
    done = command("distill", "imagewoof-unclip", *overrides(models, "unclip", root), "--out", "set", cwd=tmp_path)
    assert done.exit_code == 0, done.output
    rows = check_set(tmp_path / "set", 10, 2, 224)
    assert {row["class_name"] for row in rows} == {c.name for c in class_list("imagewoof")}
    for row in rows:
        assert row["class_name"] in row["prompt"]
        assert (root / row["source"]).is_file()
        assert len(row["positives"]) == 5
        assert len(row["negatives"]) == 10
    assert len({row["source"] for row in rows}) == 20  # two different real images a class
    concepts = json.loads((tmp_path / "set" / "concepts.json").read_text())
    assert concepts["bank"] == "imagewoof"


@pytest.mark.parametrize("data", ["drawn", pytest.param("photographs", marks=pytest.mark.shared)])
def test_imagewoof_minimax_through_the_command_line(models: Path, woof: Path, tmp_path: Path, data: str) -> None:
    root = as_synsets(tmp_path) if data == "photographs" else woof
    words = f"pipeline.checkpoints={{{models / 'minimax0'}: all}}"
    given = [*overrides(models, "dit", root), words]
    done = command("distill", "imagewoof-minimax", *given, "--out", "set", cwd=tmp_path)
    assert done.exit_code == 0, done.output
    check_set(tmp_path / "set", 10, 2, 224)


@pytest.mark.shared
def test_custom_photographs_from_init_to_a_set(models: Path, tmp_path: Path) -> None:
    skip_without_photographs()
    done = command("init", str(SHARED), "--ipc", "2", cwd=tmp_path)
    assert done.exit_code == 0, done.output
    assert "3 068 images" in done.stdout
    given = [*overrides(models, "unclip", SHARED)[1:], f"pipeline.tiny_decoder={models / 'taesd'}", "uninformed=true"]
    done = command("distill", "clothing.yaml", *given, "--out", "set", cwd=tmp_path)
    assert done.exit_code == 0, done.output
    rows = check_set(tmp_path / "set", 10, 2, 224)
    assert {row["class_name"] for row in rows} >= {"t-shirt", "dress"}
    results = json.loads((tmp_path / "set" / "results.json").read_text())
    assert results["completeness"]["informed"]["n"] == 20


def skip_without_photographs() -> None:
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not here")


def as_synsets(tmp_path: Path) -> Path:
    """Thirty clothing photographs a class under ImageWoof's folder names, so that its recipes take them."""
    skip_without_photographs()
    for wnid, folder in zip(WOOF, sorted(p for p in (SHARED / "train").iterdir() if p.is_dir()), strict=True):
        (tmp_path / "data" / wnid).mkdir(parents=True)
        for photograph in sorted(folder.iterdir())[:30]:
            (tmp_path / "data" / wnid / photograph.name).symlink_to(photograph)
    return tmp_path / "data"


def test_without_the_weights_one_line_names_them_and_the_ways_out(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "concord.cli", "distill", "imagewoof-unclip"],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    for word in (
        "radames/stable-diffusion-2-1-unclip-img2img",
        "`pipeline.model`",
        "directory",
        "hub id",
        "HF_ENDPOINT",
    ):
        assert word in line
    assert "laion/CLIP-ViT-L-14-laion2B-s32B-b82K" in line
    assert not (tmp_path / "out").exists()


def test_nothing_heavy_is_imported_before_models_are_missed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from concord.recipe import load; from concord.workflows.distill import distill\n"
        "try: distill(load('imagewoof-unclip'), Path('set'))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["ConcordError", "[]"], done.stderr


def test_each_checkpoint_makes_its_own_classes_and_the_plan_goes_one_by_one(
    models: Path, woof: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = str(models / "minimax0"), str(models / "minimax1")
    dogs = {first: "155-193", second: ["n02099601", "229-273"]}
    given = [*overrides(models, "dit", woof), f"pipeline.checkpoints={json.dumps(dogs)}", "batch_size=3"]
    loads: list[str] = []
    own = making.BatchSampler._load

    def counted(self: making.BatchSampler, checkpoint: str) -> Any:
        loads.append(checkpoint)
        return own(self, checkpoint)

    monkeypatch.setattr(making.BatchSampler, "_load", counted)
    distill(run("imagewoof-minimax", *given), tmp_path / "both")
    assert loads == [first, second]
    by_class = {row["label"]: row["checkpoint"] for row in read_manifest(tmp_path / "both" / "images")}
    assert sorted(by_class.values()) == [first] * 6 + [second] * 4
    given[-2] = f"pipeline.checkpoints={{{first}: all}}"
    distill(run("imagewoof-minimax", *given), tmp_path / "one")
    for row in read_manifest(tmp_path / "both" / "images"):
        pictures = [np.asarray(Image.open(tmp_path / d / "images" / row["file_name"])) for d in ("both", "one")]
        alike = np.abs(pictures[0].astype(int) - pictures[1]).max() <= 1  # across batches equal but for rounding
        assert alike == (row["checkpoint"] == first)


@pytest.mark.parametrize(
    ("checkpoints", "message"),
    [
        ({"a": "155-193"}, "no checkpoint for the classes n02099601, n02105641, n02111889 and 1 more|no checkpoint"),
        ({"a": "all", "b": "n02099601"}, 'two checkpoints for the class "n02099601"'),
        ({"a": "all", "b": "poodle"}, 'unknown class "poodle"'),
    ],
)
def test_classes_without_or_with_two_checkpoints_are_named(
    models: Path, woof: Path, checkpoints: dict[str, Any], message: str
) -> None:
    from concord.methods import build
    from concord.workflows.executors import open_recipe_data

    given = [*overrides(models, "dit", woof), f"pipeline.checkpoints={json.dumps(checkpoints)}"]
    recipe = run("imagewoof-minimax", *given)
    with pytest.raises(ConcordError, match=message):
        build(recipe, open_recipe_data(recipe))


def test_synsets_reach_the_model_by_their_imagenet_id(
    models: Path, woof: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong id gives a plausible dog of another breed."""
    from concord.pipelines.dit import DiT

    asked: list[list[int]] = []
    own = DiT.denoise

    def spy(self: DiT, labels: Any, *args: Any, **options: Any) -> Any:
        asked.append(list(labels))
        return own(self, labels, *args, **options)

    monkeypatch.setattr(DiT, "denoise", spy)
    given = [*overrides(models, "dit", woof), "ipc=1", "informing.enabled=false", "pipeline.scheduler=minimax"]
    distill(run("imagewoof-dit", *given), tmp_path / "set")
    assert asked[0] == [int(c.index or 0) for c in sorted(class_list("imagewoof"), key=lambda c: str(c.wnid))]


def test_a_class_list_that_the_data_lack_is_named(models: Path, woof: Path, tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match=r"1 of the 10 classes of imagenette: there is no folder for n0"):
        distill(run("imagenette-dit", *overrides(models, "dit", woof)), tmp_path / "set")


@pytest.mark.parametrize("name", ["sd", "flux"])
def test_text_to_image_by_any_pipeline(models: Path, woof: Path, tmp_path: Path, name: str) -> None:
    """Stable Diffusion by the own sampler, FLUX by its own call: with the same keys."""
    given = [*overrides(models, name, woof), "classes=n02096294,n02088364", "method=text", "pipeline.scheduler=stock"]
    given += ["pipeline.size=8", "pipeline.guidance_scale=null", "pipeline.tiny_decoder=null", "informing.decoder=full"]
    given += ["concepts.bank=imagewoof", "uninformed=true", "size=8", "scorer.kind=none"]
    recipe = run("custom", *given)
    assert distill(recipe, tmp_path / "set")["images"] == 4
    changed = [
        np.abs(np.asarray(Image.open(tmp_path / "set" / "images" / row["file_name"])).astype(int)
               - np.asarray(Image.open(tmp_path / "set" / "uninformed" / row["file_name"]))).max()
        for row in read_manifest(tmp_path / "set" / "images")
    ]  # fmt: skip
    assert min(changed) > 0
    assert all(not row["source"] for row in read_manifest(tmp_path / "set" / "images"))


def test_image_to_image_from_real_images(models: Path, woof: Path, tmp_path: Path) -> None:
    given = [*overrides(models, "sd", woof), "classes=n02096294,n02088364", "method=text", "pipeline.scheduler=stock"]
    given += ["pipeline.size=8", "pipeline.image_strength=0.7", "pipeline.tiny_decoder=null", "informing.decoder=full"]
    given += ["concepts.bank=imagewoof", "size=8", "scorer.kind=none", "informing.window=[0,1]"]
    distill(run("custom", *given), tmp_path / "set")
    assert all((woof / row["source"]).is_file() for row in read_manifest(tmp_path / "set" / "images"))


def test_exact_informing_is_refused_where_no_family_is_wired(models: Path, woof: Path) -> None:
    text = ["method=text", "informing.mode=exact", "concepts.bank=imagewoof", "pipeline.scheduler=stock"]
    image = [*overrides(models, "sd", woof), "pipeline.image_strength=0.5"]
    for changes, word in ((overrides(models, "flux", woof), "a FluxPipeline"), (image, "image-to-image")):
        recipe = run("custom", *changes, *text, f"pipeline.tiny_decoder={models / 'taesd'}")
        with pytest.raises(ConcordError, match=rf"wired for StableDiffusionPipeline.*{word}.*fast"):
            require_models(recipe)


def test_a_pipeline_of_another_class_is_refused_before_its_weights_are_read(models: Path, woof: Path) -> None:
    with pytest.raises(ConcordError, match=r"is a StableDiffusionPipeline, but .* needs a StableUnCLIPImg2ImgPipeline"):
        require_models(run("imagewoof-unclip", *overrides(models, "sd", woof)))


@pytest.fixture(scope="module")
def roomy(models: Path, woof: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A recipe of batches of eight, and the set that it makes where memory suffices."""
    changes = overrides(models, "unclip", woof)
    recipe = run("imagewoof-unclip", *changes, "ipc=1", "batch_size=8", "informing.mode=exact")
    out = tmp_path_factory.mktemp("roomy")
    distill(recipe, out)
    return recipe, out


@pytest.mark.parametrize("fits", [1, 3])
def test_short_memory_halves_the_inner_batch_and_goes_on(
    roomy: tuple[Recipe, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: int
) -> None:
    recipe, whole = roomy
    tried: list[int] = []
    own = making.BatchSampler._make

    def short(self: making.BatchSampler, batch: Any, *args: Any) -> Any:
        tried.append(len(batch))
        if len(batch) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return own(self, batch, *args)

    monkeypatch.setattr(making.BatchSampler, "_make", short)
    distill(recipe, tmp_path)
    assert tried[:2] == [8, 4]
    assert max(tried[3:]) <= fits or fits == 3
    assert tried.count(8) == 1  # what did not fit once is not tried again
    for row in read_manifest(whole / "images"):
        a, b = (np.asarray(Image.open(d / "images" / row["file_name"])).astype(int) for d in (whole, tmp_path))
        assert np.abs(a - b).max() <= 2


def test_memory_that_does_not_suffice_for_one_image_says_what_to_set(
    models: Path, woof: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(making.BatchSampler, "_make", never)
    given = [*overrides(models, "unclip", woof), "informing.mode=exact", "memory.checkpointing=false"]
    with pytest.raises(ConcordError) as caught:
        distill(run("imagewoof-unclip", *given), tmp_path / "set")
    for way in ("memory.checkpointing=true", "informing.mode=fast", "informing.decoder=tiny", "memory.vae=tiled"):
        assert way in str(caught.value)


def test_another_error_is_not_taken_for_short_memory(
    models: Path, woof: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(making.BatchSampler, "_make", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        distill(run("imagewoof-unclip", *overrides(models, "unclip", woof)), tmp_path / "set")


def test_a_dtype_is_decided_once_and_is_part_of_the_identity(models: Path, woof: Path, tmp_path: Path) -> None:
    given = [*overrides(models, "unclip", woof), "ipc=1", "classes=n02096294,n02088364", "device=cpu"]
    distill(run("imagewoof-unclip", *given), tmp_path / "set")
    assert load(str(tmp_path / "set")).dtype == "float32"
    assert distill(run("imagewoof-unclip", *given), tmp_path / "set")["made"] == 0
    with pytest.raises(ConcordError, match=r'dtype was "float32", now "bfloat16"'):
        distill(run("imagewoof-unclip", *given, "dtype=bfloat16"), tmp_path / "set")


def test_bfloat16_networks_keep_float32_images_finite(models: Path, woof: Path, tmp_path: Path) -> None:
    given = [*overrides(models, "unclip", woof), "ipc=1", "classes=n02096294,n02088364", "dtype=bfloat16"]
    assert distill(run("imagewoof-unclip", *given), tmp_path / "set")["uninformed_steps"] == 0


def test_image_to_image_of_less_than_a_step_is_refused(models: Path, woof: Path) -> None:
    given = [*overrides(models, "sd", woof), "method=text", "pipeline.scheduler=stock", "pipeline.image_strength=0.1"]
    with pytest.raises(ConcordError, match="less than one step"):
        run("custom", *given)


def test_an_earlier_calls_selection_is_kept(
    models: Path, woof: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On ImageNet it takes hours; a resumed or grown run must not do it again."""
    from concord.concepts import plan as concept_plan

    given = [*overrides(models, "unclip", woof), "classes=n02096294,n02088364"]
    distill(run("imagewoof-unclip", *given, "ipc=1"), tmp_path / "set")
    before = (tmp_path / "set" / "concepts.json").read_bytes()

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("selected again")

    monkeypatch.setattr(concept_plan.ConceptPlan, "select", never)
    assert distill(run("imagewoof-unclip", *given), tmp_path / "set")["made"] == 2
    assert (tmp_path / "set" / "concepts.json").read_bytes() == before


def test_a_class_that_the_model_lacks_is_found_before_anything_is_made(models: Path, tmp_path: Path) -> None:
    for folder in ("yeti", "unicorn"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "data" / folder / "0.png")
    given = [*overrides(models, "dit", tmp_path / "data"), "classes=null", "informing.enabled=false"]
    with pytest.raises(ConcordError, match="has no class 'unicorn'"):
        distill(run("imagewoof-dit", *given), tmp_path / "set")
    assert not (tmp_path / "set").exists()
