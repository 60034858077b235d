"""Generation end to end on random models of the real classes: what a user's run on reef does, in seconds."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from tiny_reef import reef_recipe

from concord.errors import ConcordError
from concord.methods.diffusion import Generate
from concord.metrics import embeddings, measure_run
from concord.runs.store import read_manifest
from concord.workflows.distill import distill
from concord.workflows.executors import open_recipe_data


def _bytes(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for v in ("images", "uninformed") for p in (out / v).rglob("*.*")}


def test_a_run_leaves_everything_that_the_design_names(models: Path, tmp_path: Path) -> None:
    results = distill(reef_recipe(models, ipc=2), tmp_path)
    written = json.loads((tmp_path / "results.json").read_text())
    assert results == {**written, "made": 20, "kept": 0}  # what lies there does not depend on interruptions
    call = written["last_call"]
    assert (written["images"], call["made"], call["kept"], written["classes"]) == (20, 20, 0, 10)
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
    distill(reef_recipe(models, ipc=1, **plain), tmp_path / "grown", measured=False)
    grown = distill(reef_recipe(models, ipc=3, **plain), tmp_path / "grown", measured=False)
    distill(reef_recipe(models, ipc=3, **plain), tmp_path / "once", measured=False)
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
    recipe = reef_recipe(
        models, informing=informing, classes=["coral perch", "river perch"], scorer={"kind": "percentile"}
    )
    results = distill(recipe, tmp_path)
    assert results["uninformed_steps"] == 0
    uses_concepts = informing.get("objective", {}).get("contrastive", 1)  # type: ignore[attr-defined]
    assert ("completeness" in results) and (tmp_path / "concepts.json").exists() == bool(uses_concepts)


def test_mean_mode_is_for_ddpm(models: Path, tmp_path: Path) -> None:
    pipeline = {"model": str(models / "pipeline"), "steps": 2, "guidance_scale": 1.0}
    mean = {"mode": "mean", "weight": 1.0}
    distill(
        reef_recipe(models, informing=mean, pipeline=pipeline | {"scheduler": "ddpm"}), tmp_path / "a", measured=False
    )
    with pytest.raises(ConcordError, match="ddpm"):
        distill(reef_recipe(models, informing=mean, pipeline=pipeline), tmp_path / "b")


def test_classifier_objective(models: Path, tmp_path: Path) -> None:
    informing = {"objective": {"contrastive": 0.0, "classifier": 1.0}, "classifier": str(models / "teacher")}
    distill(reef_recipe(models, informing=informing), tmp_path)
    assert not any(row["positives"] for row in read_manifest(tmp_path / "images"))


def test_pinned_phrases_reach_every_sample(models: Path, tmp_path: Path) -> None:
    concepts = {"bank": "reef", "images": 2, "pinned": {"coral perch": ["a white belly", "a photo"]}}
    distill(reef_recipe(models, concepts=concepts, scorer={"kind": "none"}), tmp_path, measured=False)
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
            distill(reef_recipe(models, **changes), tmp_path / f"out-{np.random.default_rng().integers(1 << 30)}")


def test_every_image_says_which_of_its_details_are_likely_missing(models: Path, tmp_path: Path) -> None:
    judge = tmp_path / "judge"  # the encoder that informs, turned round: what it finds likely, this one finds unlikely
    shutil.copytree(models / "clip", judge)
    weights = load_file(judge / "model.safetensors")
    weights["text_projection.weight"] *= -1
    save_file(weights, judge / "model.safetensors", {"format": "pt"})
    scorer = {"kind": "detector", "model": str(models / "detector")}
    results = distill(reef_recipe(models, scorer=scorer), tmp_path)
    own = json.loads((tmp_path / "details.json").read_text())
    distill(reef_recipe(models, scorer=scorer | {"encoder": str(judge)}), tmp_path / "judged")
    other = json.loads((tmp_path / "judged" / "details.json").read_text())
    assert (own["encoder"], other["encoder"]) == (str(models / "clip"), str(judge))
    for name, of_image in own["images"].items():
        turned = [one["similarity"] for one in other["images"][name]]
        assert turned == pytest.approx([-one["similarity"] for one in of_image], abs=1e-3)
    record = own
    assert record["schema"] == 1
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
    recipe = reef_recipe(models)
    data = open_recipe_data(recipe)
    method = Generate(recipe, data)
    real = measure_run.Measuring(recipe, data, Path("unused"), (), method.models, method.concepts).sets["real"]
    assert len(real.images) == 30
    assert {picture.size for picture in real.images} == {(32, 32)}
    assert np.bincount(real.labels).tolist() == [3] * 10


def test_a_run_leaves_its_page_near_copies_and_embeddings(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "MOST", 100)  # half of what there is
    results = distill(reef_recipe(models), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "coral perch" in page
    copies = json.loads((tmp_path / "near_copies.json").read_text())
    assert set(copies["images"]) == {
        f"{v}/{r['file_name']}" for v in ("images", "uninformed") for r in read_manifest(tmp_path / v)
    }
    assert results["near_copies"]["of"] == 20
    arrays = np.load(tmp_path / "embeddings.npz")
    assert len(arrays["informed"]) == len(arrays["labels_informed"]) == len(arrays["uninformed"]) == 10
    assert len(arrays["real"]) == len(arrays["labels_real"]) == 100
    # The detector's word stands beside the evidence where there is one.
    record = json.loads((tmp_path / "details.json").read_text())
    assert all(isinstance(one["found"], bool) for of_image in record["images"].values() for one in of_image)


def test_the_operations_of_an_image_are_counted(models: Path, tmp_path: Path) -> None:
    """Twice the steps take twice the denoiser's operations; informing adds to them."""
    counted = {}
    for name, informed, steps in (("plain", False, 2), ("longer", False, 4), ("informed", True, 2)):
        changes = {"informing": {"enabled": informed}, "scorer": {"kind": "none"}, "teacher": None, "nuisance": None}
        pipeline = {"model": str(models / "pipeline"), "steps": steps, "guidance_scale": 2.0}
        results = distill(reef_recipe(models, pipeline=pipeline, **changes), tmp_path / name)
        counted[name] = results["tflop_per_image"]
    assert counted["plain"] < counted["longer"] < 2 * counted["plain"]  # the decoder runs once in both
    assert counted["informed"] > 1.2 * counted["plain"]
