"""Generation end to end on random models of the real classes: what a user's run on reef does, in seconds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetForImageClassification

import tiny
from concord.errors import ConcordError
from concord.methods.diffusion import Generate
from concord.metrics import measure_run
from concord.recipe import Recipe, validate
from concord.reef.models import TEXT_LENGTH, preprocessor_config, tokenizer
from concord.reef.text import PHRASES
from concord.reef.world import SPECIES
from concord.runs.store import read_manifest
from concord.workflows.distill import distill
from concord.workflows.executors import open_recipe_data


def _save_clip(folder: Path) -> None:
    tokenizer().save_pretrained(folder)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        "vocab_size": len(tokenizer()),
        "max_position_embeddings": TEXT_LENGTH,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 3,
    }
    torch.manual_seed(5)
    CLIPModel(
        CLIPConfig(
            text_config=shape | text, vision_config=shape | {"image_size": 16, "patch_size": 8}, projection_dim=8
        )
    ).save_pretrained(folder)
    config = preprocessor_config() | {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))


def _save_classifier(folder: Path, labels: list[str]) -> None:
    torch.manual_seed(6)
    ResNetForImageClassification(
        ResNetConfig(
            embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", id2label=dict(enumerate(labels))
        )
    ).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_config()))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.pipeline(learned_variance=False).save_pretrained(folder / "pipeline")
    index = folder / "pipeline" / "model_index.json"
    names = {i: s.name for i, s in enumerate(SPECIES)}
    index.write_text(json.dumps({**json.loads(index.read_text()), "id2label": names}))
    _save_clip(folder / "clip")
    _save_classifier(folder / "detector", list(PHRASES.values()))
    _save_classifier(folder / "teacher", [s.name for s in SPECIES])
    _save_classifier(folder / "nuisance", [f"n{i}" for i in range(4)])
    return folder


def _recipe(models: Path, **changes: object) -> Recipe:
    values: dict[str, object] = {
        "name": "test",
        "data": "reef",
        "ipc": 1,
        "batch_size": 4,
        "uninformed": True,
        "encoder": str(models / "clip"),
        "pipeline": {"model": str(models / "pipeline"), "steps": 2, "guidance_scale": 2.0},
        "informing": {"strength": 0.5},
        "concepts": {"bank": "reef", "images": 2},
        "scorer": {"kind": "detector", "model": str(models / "detector")},
        "teacher": str(models / "teacher"),
        "nuisance": str(models / "nuisance"),
        "workers": 1,
    }
    return validate(values | changes)


def _bytes(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for v in ("images", "uninformed") for p in (out / v).rglob("*.*")}


def test_a_run_leaves_everything_that_the_design_names(models: Path, tmp_path: Path) -> None:
    results = distill(_recipe(models, ipc=2), tmp_path)
    written = json.loads((tmp_path / "results.json").read_text())
    assert written == results
    assert (written["images"], written["made"], written["kept"], written["classes"]) == (20, 20, 0, 10)
    for key in ("informed", "uninformed"):
        assert set(written["completeness"][key]) == {"mean", "complete", "foreign", "n"}
        assert written["completeness"][key]["n"] == 20
    assert len(written["completeness"]["gain"]["ci95"]) == 2
    for name in ("recipe.yaml", "concepts.json", "environment.json", "samples.png"):
        assert (tmp_path / name).stat().st_size > 0
    rows = read_manifest(tmp_path / "images")
    for row in rows:
        assert len(row["positives"]) == 5
        assert all(text.startswith(f"{row['class_name']} with ") for text in row["positives"])
        phrases = [text.split(" with ", 1)[1] for text in row["positives"] + row["negatives"]]
        assert len(set(phrases)) == len(phrases)
        assert not any(text.startswith(row["class_name"]) for text in row["negatives"])
    before = read_manifest(tmp_path / "uninformed")
    assert [r["seed"] for r in before] == [r["seed"] for r in rows]
    changed = [
        (tmp_path / "images" / r["file_name"]).read_bytes() != (tmp_path / "uninformed" / r["file_name"]).read_bytes()
        for r in rows
    ]
    assert all(changed), "informing changed nothing"


def test_growing_equals_making_at_once(models: Path, tmp_path: Path) -> None:
    """Batches of 4 over 10 classes are cut by an IPC of 1, so this fails if a cut batch is made smaller."""
    plain = {"scorer": {"kind": "none"}, "teacher": None, "nuisance": None}
    distill(_recipe(models, ipc=1, **plain), tmp_path / "grown")
    grown = distill(_recipe(models, ipc=3, **plain), tmp_path / "grown")
    distill(_recipe(models, ipc=3, **plain), tmp_path / "once")
    assert (grown["made"], grown["kept"]) == (20, 10)
    assert _bytes(tmp_path / "grown") == _bytes(tmp_path / "once")


@pytest.mark.parametrize(
    "informing",
    [
        {"mode": "exact", "weight": 1.0},
        {"objective": {"contrastive": 1.0, "cosine": 0.5, "class_name": 0.5}},
        {"objective": {"contrastive": 0.0, "class_name": 1.0}},
        {"window": [0.0, 0.5], "every": 2},
    ],
)
def test_each_way_of_informing_runs(models: Path, tmp_path: Path, informing: dict[str, object]) -> None:
    recipe = _recipe(models, informing=informing, classes=["coral perch", "river perch"], scorer={"kind": "percentile"})
    results = distill(recipe, tmp_path)
    assert results["uninformed_steps"] == 0
    uses_concepts = informing.get("objective", {}).get("contrastive", 1)  # type: ignore[attr-defined]
    assert ("completeness" in results) and (tmp_path / "concepts.json").exists() == bool(uses_concepts)


def test_mean_mode_is_for_ddpm(models: Path, tmp_path: Path) -> None:
    pipeline = {"model": str(models / "pipeline"), "steps": 2, "guidance_scale": 1.0}
    mean = {"mode": "mean", "weight": 1.0}
    distill(_recipe(models, informing=mean, pipeline=pipeline | {"scheduler": "ddpm"}), tmp_path / "a")
    with pytest.raises(ConcordError, match="ddpm"):
        distill(_recipe(models, informing=mean, pipeline=pipeline), tmp_path / "b")


def test_classifier_objective(models: Path, tmp_path: Path) -> None:
    informing = {"objective": {"contrastive": 0.0, "classifier": 1.0}, "classifier": str(models / "teacher")}
    distill(_recipe(models, informing=informing), tmp_path)
    assert not any(row["positives"] for row in read_manifest(tmp_path / "images"))


def test_pinned_phrases_reach_every_sample(models: Path, tmp_path: Path) -> None:
    concepts = {"bank": "reef", "images": 2, "pinned": {"coral perch": ["a white belly", "a photo"]}}
    distill(_recipe(models, concepts=concepts, scorer={"kind": "none"}), tmp_path)
    for row in read_manifest(tmp_path / "images"):
        if row["class_name"] == "coral perch":
            assert {"coral perch with a white belly", "coral perch with a photo"} <= set(row["positives"])


def test_missing_pieces_are_one_clear_line(models: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank.json"
    bank.write_text(json.dumps({"schema": 1, "name": "b", "classes": {"coral perch": {"phrases": ["x"]}}}))
    for changes, message in (
        ({"concepts": {"bank": str(bank)}}, "retrieve.*import.*class name alone"),
        ({"concepts": {"bank": None}}, "concepts.bank"),
        ({"encoder": str(tmp_path / "nothing")}, "`encoder`"),
        ({"pipeline": {"model": str(tmp_path / "nothing")}}, "`pipeline.model`"),
        ({"class_names": {"coral perch": "coral reef"}, "concepts": {"bank": None}}, "has no class 'coral reef'"),
        ({"informing": {"decoder": "tiny"}}, "pipeline.tiny_decoder"),
        ({"scorer": {"kind": "detector", "model": str(models / "teacher")}}, "detector has no label"),
    ):
        with pytest.raises(ConcordError, match=message):
            distill(_recipe(models, **changes), tmp_path / f"out-{np.random.default_rng().integers(1 << 30)}")


def test_every_image_says_which_of_its_details_are_likely_missing(models: Path, tmp_path: Path) -> None:
    results = distill(_recipe(models), tmp_path)
    record = json.loads((tmp_path / "details.json").read_text())
    assert record["schema"] == 1
    assert record["encoder"] == str(models / "clip")
    for variant, name in (("images", "informed"), ("uninformed", "uninformed")):
        rows = read_manifest(tmp_path / variant)
        missing = []
        for row in rows:
            of_image = record["images"][f"{variant}/{row['file_name']}"]
            assert [f"{row['class_name']} with {one['phrase']}" for one in of_image] == row["positives"]
            assert all(0 <= one["percentile"] <= 1 for one in of_image)
            missing += [one["percentile"] < record["missing_below"] for one in of_image]
        assert results["details"][name]["likely_missing"] == pytest.approx(np.mean(missing), abs=0.02)


def test_real_images_for_the_report_are_few_and_small(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand classes of photographs would not fit into memory."""
    monkeypatch.setattr(measure_run, "REAL_IN_ALL", 30)
    monkeypatch.setattr(measure_run, "REAL_SIDE", 32)
    recipe = _recipe(models)
    data = open_recipe_data(recipe)
    method = Generate(recipe, data)
    real = measure_run.Measuring(recipe, data, Path("unused"), (), method.models, method.concepts).sets["real"]
    assert len(real.images) == 30
    assert {picture.size for picture in real.images} == {(32, 32)}
    assert np.bincount(real.labels).tolist() == [3] * 10


def test_a_run_leaves_its_page_near_copies_and_embeddings(models: Path, tmp_path: Path) -> None:
    results = distill(_recipe(models), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "coral perch" in page
    copies = json.loads((tmp_path / "near_copies.json").read_text())
    assert set(copies["images"]) == {
        f"{v}/{r['file_name']}" for v in ("images", "uninformed") for r in read_manifest(tmp_path / v)
    }
    assert results["near_copies"]["of"] == 20
    arrays = np.load(tmp_path / "embeddings.npz")
    assert len(arrays["informed"]) == len(arrays["labels_informed"]) == len(arrays["uninformed"]) == 10
    assert len(arrays["real"]) == len(arrays["labels_real"]) == 1000
    # The detector's word stands beside the evidence where there is one.
    record = json.loads((tmp_path / "details.json").read_text())
    assert all(isinstance(one["found"], bool) for of_image in record["images"].values() for one in of_image)


def test_the_operations_of_an_image_are_counted(models: Path, tmp_path: Path) -> None:
    """Twice the steps take twice the denoiser's operations; informing adds to them."""
    counted = {}
    for name, informed, steps in (("plain", False, 2), ("longer", False, 4), ("informed", True, 2)):
        changes = {"informing": {"enabled": informed}, "scorer": {"kind": "none"}, "teacher": None, "nuisance": None}
        pipeline = {"model": str(models / "pipeline"), "steps": steps, "guidance_scale": 2.0}
        results = distill(_recipe(models, pipeline=pipeline, **changes), tmp_path / name)
        counted[name] = results["tflop_per_image"]
    assert counted["plain"] < counted["longer"] < 2 * counted["plain"]  # the decoder runs once in both
    assert counted["informed"] > 1.2 * counted["plain"]
