"""Order, growth and resumption must not show in the bytes; a directory of something else must stay as it is."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from toy import Toy, toy_recipe, tree

from concord.data import open_data
from concord.errors import ConcordError
from concord.events import Silent
from concord.plan import Sample
from concord.recipe import Recipe, load, validate
from concord.runs import store
from concord.storage import atomic
from concord.workflows import distill as execute
from concord.workflows import executors
from concord.workflows.distill import distill
from concord.workflows.executors import worker_count
from concord.workflows.preview import preview


def real(photos: Path, **values: Any) -> Recipe:
    return validate({"method": "random", "data": str(photos), "ipc": 4, **values})


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("seed", range(3))
def test_bytes_are_the_same_in_whatever_order_batches_run(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    recipe = toy_recipe(photos)
    distill(recipe, tmp_path / "straight")

    class Shuffled(execute.Pending):
        def __iter__(self) -> Iterator[executors.Job]:
            jobs = [*super().__iter__()]
            random.Random(seed).shuffle(jobs)
            return iter(jobs)

    monkeypatch.setattr(execute, "Pending", Shuffled)
    distill(recipe, tmp_path / "shuffled")
    assert tree(tmp_path / "shuffled") == tree(tmp_path / "straight")


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_a_grown_set_equals_the_set_made_at_once(tmp_path: Path, photos: Path, batch_size: int) -> None:
    for ipc in (1, 4, 10):
        grown = distill(toy_recipe(photos, ipc=ipc, batch_size=batch_size), tmp_path / "grown")
    at_once = distill(toy_recipe(photos, ipc=10, batch_size=batch_size), tmp_path / "once")
    assert (grown["made"], grown["kept"], grown["images"]) == (18, 12, 30)
    assert (at_once["made"], at_once["kept"]) == (30, 0)
    assert tree(tmp_path / "grown") == tree(tmp_path / "once")
    rows = store.read_manifest(tmp_path / "once" / "images")
    assert grown["uninformed_steps"] == sum(row["scores"]["uninformed_steps"] for row in rows)


@pytest.mark.usefixtures("toy")
def test_images_that_are_planned_otherwise_now_are_made_again_and_their_rows_go_at_once(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Otherwise(Toy):
        def sample(self, class_index: int, index: int) -> Sample:
            return replace(super().sample(class_index, index), prompt="another")

    written: list[Path] = []
    rewrite = store.Store._rewrite

    def noted(self: store.Store) -> None:
        written.append(self.root)
        rewrite(self)

    monkeypatch.setattr(store.Store, "_rewrite", noted)
    distill(toy_recipe(photos, ipc=3), tmp_path / "o")
    written.clear()
    monkeypatch.setattr(execute, "build", Otherwise)
    (tmp_path / "o" / "checksums.json").unlink()
    again = distill(toy_recipe(photos, ipc=4), tmp_path / "o")
    assert (again["made"], again["kept"]) == (12, 0)
    # Once to drop all, and once to put them in order: for each row it would take hours at a hundred thousand.
    assert Counter(written) == {tmp_path / "o" / variant: 2 for variant in Toy.variants}
    distill(toy_recipe(photos, ipc=4), tmp_path / "once")
    assert tree(tmp_path / "o") == tree(tmp_path / "once")


def test_no_more_is_planned_than_is_made(tmp_path: Path, photos: Path) -> None:
    asked: list[tuple[int, int]] = []

    class Asked(Toy):
        def sample(self, class_index: int, index: int) -> Sample:
            asked.append((class_index, index))
            return super().sample(class_index, index)

    recipe = toy_recipe(photos, ipc=1000)
    data = open_data(str(photos))
    stores = {"images": store.Store(tmp_path / "images", recipe.format)}
    jobs = execute.pending(Asked(recipe, data), [1000] * 3, data.classes, stores)
    assert (jobs.images, len(jobs), asked) == (3000, 750, [])
    assert next(iter(jobs)).batch.number == 0
    assert len(asked) == len(data.classes) + recipe.batch_size


@pytest.mark.usefixtures("toy")
def test_a_finished_directory_is_left_as_it_is(tmp_path: Path, photos: Path) -> None:
    recipe = toy_recipe(photos)
    distill(recipe, tmp_path / "o")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "o" / "images").rglob("*")}
    again = distill(recipe, tmp_path / "o")
    assert (again["made"], again["kept"], again["seconds_per_image"]) == (0, 12, None)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "o" / "images").rglob("*")} == before


class Built(AssertionError):
    """The method was built, so that it may plan, make and measure."""


def unbuilt(recipe: Recipe, data: Any) -> Any:
    raise Built


@pytest.mark.usefixtures("toy")
def test_where_all_is_done_nothing_is_planned_or_measured(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, recipe = tmp_path / "o", toy_recipe(photos)
    first = distill(recipe, out)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr(execute, "build", unbuilt)
    for same in (recipe, toy_recipe(photos, workers=2), load(str(out))):
        again = distill(same, out)
        assert {**first, "made": 0, "kept": 12, "seconds_per_image": None, "images_per_second": None} == {
            **again,
            "seconds": first["seconds"],
        }
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    (out / "report.html").unlink()
    distill(recipe, out)
    assert (out / "report.html").is_file()


OTHERWISE: dict[str, Callable[[Path, Path], object]] = {
    "a file of results": lambda out, photos: (out / "results.json").write_text("{"),
    "concepts": lambda out, photos: (out / "concepts.json").unlink(),
    "an image": lambda out, photos: (out / "images" / "dog" / "00000.png").write_bytes(b""),
    "a manifest": lambda out, photos: (out / "uninformed" / "metadata.jsonl").write_bytes(b""),
    "checksums": lambda out, photos: (out / "checksums.json").write_text('{"files": [], "of": 3}'),
    "checksums that name files outside": lambda out, photos: (out / "checksums.json").write_text(
        (out / "checksums.json").read_text().replace("recipe.yaml", "../recipe.yaml")
    ),
}


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("what", OTHERWISE)
def test_what_is_not_as_it_was_left_is_made_and_measured_again(
    what: str, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, recipe = tmp_path / "o", toy_recipe(photos)
    distill(recipe, out)
    expected = tree(out)
    OTHERWISE[what](out, photos)
    with monkeypatch.context() as patch:
        patch.setattr(execute, "build", unbuilt)
        with pytest.raises(Built):
            distill(recipe, out)
    distill(recipe, out)
    assert tree(out) == expected


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("values", [{"ipc": 5}, {"name": "other"}, {"metrics": ["details"]}])
def test_other_settings_are_measured_anew(
    values: dict[str, Any], tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill(toy_recipe(photos), tmp_path / "o")
    monkeypatch.setattr(execute, "build", unbuilt)
    with pytest.raises(Built):
        distill(toy_recipe(photos, **values), tmp_path / "o")


@pytest.mark.usefixtures("toy")
def test_other_models_are_measured_with_anew(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that was trained again has the size and name of the one before."""
    teacher = tmp_path / "teacher.safetensors"
    teacher.write_bytes(bytes(300_000))
    recipe = toy_recipe(photos, teacher=str(teacher))
    distill(recipe, tmp_path / "o")
    monkeypatch.setattr(execute, "build", unbuilt)
    distill(recipe, tmp_path / "o")
    teacher.write_bytes(bytes(299_999) + b"1")
    with pytest.raises(Built):
        distill(recipe, tmp_path / "o")


@pytest.mark.usefixtures("toy")
def test_a_recipe_that_is_damaged_is_one_line(tmp_path: Path, photos: Path) -> None:
    out, recipe = tmp_path / "o", toy_recipe(photos)
    distill(recipe, out)
    written = (out / "recipe.yaml").read_text(encoding="utf-8")
    for text in (
        written[:100],
        written[:150],
        written + "  - : [",
        written + "[" * 20_000,
        written + "\na: 2026-13-45",
    ):
        (out / "recipe.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ConcordError, match=r"recipe\.yaml") as error:
            distill(recipe, out)
        assert "\n" not in str(error.value)


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    "text", ["[1]", '{"packages": [1], "data": "x"}', '{"packages": {"torch": {}}}', "[" * 100_000]
)
def test_an_environment_that_is_damaged_is_written_anew_or_refused(text: str, tmp_path: Path, photos: Path) -> None:
    out, recipe = tmp_path / "o", toy_recipe(photos)
    distill(recipe, out)
    expected = tree(out)
    (out / "environment.json").write_text(text)
    if "data" in text:
        with pytest.raises(ConcordError, match="are not those that"):
            distill(recipe, out)
    else:
        distill(recipe, out)
        assert tree(out) == expected


@pytest.mark.usefixtures("toy")
def test_what_a_run_leaves(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "o"
    results = distill(toy_recipe(photos, name="mine"), out)
    there = json.loads((out / "results.json").read_text())
    times = ["seconds", "seconds_per_image", "images_per_second"]
    assert there["last_call"] == {"made": 12, "kept": 0, "times": times}
    assert results == {**there, "made": 12, "kept": 0}
    for name in ("results.json", "environment.json", "concepts.json"):
        assert json.loads((out / name).read_text())["schema"] == 1
    assert {"recipe": "mine", "method": "dit", "ipc": 4, "classes": 3, "images": 12}.items() <= results.items()
    assert results["toy"] is True
    assert load(str(out)) == toy_recipe(photos, name="mine")
    assert load(str(out / "recipe.yaml"), ["ipc=9"]).ipc == 9
    # As torchvision and `datasets` read it: class folders in sorted order give the labels.
    folders = sorted(p.name for p in (out / "images").iterdir() if p.is_dir())
    assert folders == ["büro stuhl", "dog", "nested - cat"]
    for row in store.read_manifest(out / "images"):
        assert folders[row["label"]] == row["file_name"].split("/")[0]
        assert Image.open(out / "images" / row["file_name"]).size == (3, 2)


@pytest.mark.usefixtures("toy")
def test_an_error_in_the_middle_leaves_what_was_finished(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = toy_recipe(photos)
    distill(recipe, tmp_path / "whole")
    rows = 0

    def full(name: str) -> None:
        nonlocal rows
        rows += name == "row synced"
        if name == "written" and rows == 9:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "failpoint", full)
        with pytest.raises(ConcordError, match="the disk is full"):
            distill(recipe, tmp_path / "o")
    assert sum(len(store.read_manifest(tmp_path / "o" / v)) for v in ("images", "uninformed")) == 9
    distill(recipe, tmp_path / "o")
    assert tree(tmp_path / "o") == tree(tmp_path / "whole")


def test_two_workers_give_the_bytes_of_one(tmp_path: Path, photos: Path) -> None:
    one = distill(real(photos, workers=1), tmp_path / "one")
    two = distill(real(photos, workers=2), tmp_path / "two")
    assert one["images"] == two["images"] == 12
    trees = [tree(tmp_path / name) for name in ("one", "two")]
    recipes = [yaml.safe_load(t.pop("recipe.yaml")) for t in trees]
    assert trees[0].pop("sums") != trees[1].pop("sums")
    assert trees[0] == trees[1]
    assert [r.pop("workers") for r in recipes] == [1, 2]
    assert recipes[0] == recipes[1]


def test_a_workers_error_is_one_line_and_its_finished_images_stay(tmp_path: Path, photos: Path) -> None:
    (photos / "dog" / "3.png").write_bytes(b"broken")
    recipe = validate({"method": "full", "data": str(photos), "workers": 2})
    with pytest.raises(ConcordError, match=r"cannot read the image .*dog/3\.png"):
        distill(recipe, tmp_path / "o")
    skipping = recipe.model_copy(update={"unreadable": "skip"})
    results = distill(skipping, tmp_path / "o")
    assert (results["images"], results["unreadable"], results["unreadable_files"]) == (17, 1, ["dog/3.png"])
    assert results["kept"] > 0
    sources = [row["source"] for row in store.read_manifest(tmp_path / "o" / "images")]
    assert len(set(sources)) == 17
    for row in store.read_manifest(tmp_path / "o" / "images"):
        with Image.open(tmp_path / "o" / "images" / row["file_name"]) as image:
            assert image.tobytes() == Image.open(photos / row["source"]).tobytes()


def test_an_image_that_became_unreadable_leaves_neither_gap_nor_double(tmp_path: Path, photos: Path) -> None:
    recipe = validate({"method": "full", "data": str(photos), "unreadable": "skip"})
    assert distill(recipe, tmp_path / "o")["images"] == 18
    (photos / "dog" / "3.png").write_bytes(b"broken")
    # dog 3 and 4 are now what 4 and 5 were, and there is no dog 5.
    results = distill(recipe, tmp_path / "o")
    assert (results["images"], results["made"]) == (17, 2)
    distill(recipe, tmp_path / "fresh")
    assert tree(tmp_path / "o") == tree(tmp_path / "fresh")


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"batch_size": 5}, "batch_size was 4, now 5"),
        ({"pipeline": {"steps": 20}}, r"pipeline\.steps was 50, now 20"),
        ({"informing": {"objective": {"cosine": 1}}}, r"informing\.objective\.cosine was 0\.0, now 1\.0"),
        ({"classes": ["dog"]}, r'classes was null, now \["dog"\]'),
        ({"ipc": 3}, "begun with ipc=4, and a set only grows"),
    ],
)
def test_another_identity_is_refused_by_its_keys(
    tmp_path: Path, photos: Path, change: dict[str, Any], message: str
) -> None:
    distill(toy_recipe(photos), tmp_path / "o")
    before = tree(tmp_path / "o")
    with pytest.raises(ConcordError, match=message):
        distill(toy_recipe(photos, **change), tmp_path / "o")
    assert tree(tmp_path / "o") == before


@pytest.mark.usefixtures("toy")
def test_how_it_is_made_may_change(tmp_path: Path, photos: Path) -> None:
    distill(toy_recipe(photos, ipc=2), tmp_path / "o")
    changed = toy_recipe(photos, ipc=3, workers=1, threads=2, unreadable="skip", name="other")
    assert distill(changed, tmp_path / "o")["kept"] == 6


@pytest.mark.usefixtures("toy")
def test_other_images_in_the_data_folder_are_noticed(tmp_path: Path, photos: Path) -> None:
    distill(toy_recipe(photos), tmp_path / "o")
    (photos / "dog" / "0.png").rename(photos / "dog" / "new.png")
    with pytest.raises(ConcordError, match="are not those that"):
        distill(toy_recipe(photos, ipc=5), tmp_path / "o")


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("name", ["recipe.yaml", "images", "uninformed"])
def test_a_directory_of_someone_else_is_not_touched(tmp_path: Path, photos: Path, name: str) -> None:
    out = tmp_path / "o"
    out.mkdir()
    if name == "recipe.yaml":
        (out / name).write_text("method: random\n")
    else:
        (out / name).mkdir()
    with pytest.raises(ConcordError, match=f"holds a {name} that concord did not make"):
        distill(toy_recipe(photos), out)
    assert [p.name for p in out.iterdir()] == [name]


@pytest.mark.usefixtures("toy")
def test_a_directory_in_use_is_refused(tmp_path: Path, photos: Path) -> None:
    with (
        atomic.lock(tmp_path / "o"),
        pytest.raises(ConcordError, match="in use by another run; wait for it to end"),
    ):
        distill(toy_recipe(photos), tmp_path / "o")


class Heard(Silent):
    """Adds up what a run reports."""

    def __init__(self) -> None:
        self.total = self.done = 0
        self.notes: list[str] = []

    def begin(self, total: int, done: int) -> None:
        self.total, self.done = total, done

    def advance(self, count: int, facts: Sequence[Mapping[str, Any]] = ()) -> None:
        assert len(facts) == count
        self.done += count

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.usefixtures("toy")
def test_progress_counts_every_image_of_every_variant(tmp_path: Path, photos: Path) -> None:
    for ipc, there in ((2, 0), (5, 12)):
        heard = Heard()
        distill(toy_recipe(photos, ipc=ipc), tmp_path / "o", heard)
        assert heard.total == heard.done == 2 * 3 * ipc
        assert (heard.total - there) > 0


@pytest.mark.usefixtures("toy")
def test_other_library_versions_are_said(tmp_path: Path, photos: Path) -> None:
    distill(toy_recipe(photos), tmp_path / "o")
    path = tmp_path / "o" / "environment.json"
    environment = json.loads(path.read_text())
    environment["packages"]["numpy"] = "1.0"
    path.write_text(json.dumps(environment))
    heard = Heard()
    distill(toy_recipe(photos, ipc=5), tmp_path / "o", heard)
    assert "numpy 1.0 ->" in heard.notes[0]


def test_workers_never_outnumber_jobs_and_follow_the_recipe(photos: Path) -> None:
    assert worker_count(real(photos, workers=8), 3, "cpu") == 3
    assert worker_count(real(photos, workers=2), 100, "cpu") == 2
    assert worker_count(real(photos), 10, "cpu") == 1  # starting a process costs more than ten copies
    assert worker_count(real(photos), 0, "cpu") == 1


def test_a_preview_writes_nothing_and_counts_what_is_missing(tmp_path: Path, photos: Path) -> None:
    recipe, out = real(photos), tmp_path / "o"
    plan = preview(recipe, out)
    assert not out.exists()
    assert (plan.images, plan.missing, plan.batches, plan.there) == (12, 12, 12, 0)
    assert plan.disk is not None
    assert plan.seconds is not None
    distill(recipe, out)
    grown = preview(recipe.model_copy(update={"ipc": 5}), out)
    assert (grown.images, grown.missing, grown.there) == (15, 3, 12)


def test_a_recipe_that_cannot_work_leaves_no_trace(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(ConcordError, match="fewer images"):
        distill(real(photos, ipc=50), tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_more_workers_than_gpus_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(execute, "resolved", lambda recipe: (recipe, "cuda"))
    recipe = load("reef", ["workers=16"])
    with pytest.raises(ConcordError, match=r"workers=16, and this machine has 8 GPUs.*workers=8, or --share-gpus"):
        distill(recipe, tmp_path / "o")
    assert not (tmp_path / "o").exists()
    executors.require_gpus(recipe, "cuda", share_gpus=True)
    executors.require_gpus(recipe.model_copy(update={"workers": 8}), "cuda", share_gpus=False)
    with pytest.raises(ConcordError, match="this machine has 1 GPU to work on"):
        executors.require_gpus(recipe, "cuda:3", share_gpus=False)
