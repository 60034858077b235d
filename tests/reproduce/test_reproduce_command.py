"""`concord reproduce` as a user gives it: on photographs so few that all of it takes a moment, resumed and grown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.cli.completion import complete_item, complete_place, complete_recipe
from concord.events import Silent
from concord.reproduce import run as running
from concord.reproduce.items import wanted
from concord.reproduce.places import MethodHere, Place, Prepared, StudentHere, read_choices
from concord.reproduce.plan import plan
from test_formats import unnamed

TINY = ("students.resnet18=convnet-1 width=4 size=16", "protocol=hard", "epochs=2", "draws=2", "ipc=1,10")


class Notes(Silent):
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["reproduce", *map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def photos(root: Path, images: int, seed: int) -> Path:
    """A folder of coloured squares a class."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(("ash", "birch")):
        (root / name).mkdir(parents=True)
        for n in range(images):
            pixels = rng.integers(0, 60, (16, 16, 3), dtype=np.uint8)
            pixels[..., label] += 150
            Image.fromarray(pixels).save(root / name / f"{n}.png")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    root = tmp_path_factory.mktemp("reproduce")
    data, test = photos(root / "train", 12, 0), photos(root / "test", 4, 1)
    words = ("table-3", "--on", "photos", f"data={data}", f"test={test}", *TINY, "--workers", "1")
    out = root / "work"
    code, said, error = call(*words, "--out", out)
    assert code == 0, error
    assert "page" in said
    return out, words


def times(out: Path) -> dict[str, int]:
    """When each image and record was written."""
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in (out / "sets").rglob("*") if path.is_file()}


def cells(out: Path) -> dict[tuple[str, int], Any]:
    record = json.loads((out / "reproduce.json").read_text())
    return {(cell["row"], cell["ipc"]): cell for cell in record["cells"]}


def test_rows_that_need_no_model_are_made_and_the_others_say_why_not(made: Any) -> None:
    out, _ = made
    found = cells(out)
    assert [len(found["Random", ipc]["values"]) for ipc in (1, 10)] == [2, 2]
    assert found["unCLIP", 10]["missing"] == "nothing stands for unclip here"
    assert found["Random", 10]["paper"]["food-101"]["mean"] == 30.1
    assert "nothing stands for unclip here" in (out / "reproduce.html").read_text()


def test_given_again_nothing_is_made_again_and_more_items_grow_it(made: Any) -> None:
    out, words = made
    before = times(out)
    assert call(*words, "--out", out)[0] == 0
    assert times(out) == before
    code, _, error = call("table-3,table-5", *words[1:], "beside=herding", "--out", out)
    assert code == 0, error
    after = times(out)
    assert before.items() <= after.items()
    assert any("herding" in path for path in after.keys() - before.keys())
    # One set of herding serves both tables; nothing in it is drawn, so that it has a student for each draw.
    record = json.loads((out / "reproduce.json").read_text())
    rows = [cell for cell in record["cells"] if cell["row"] == "herding real images"]
    assert {cell["item"] for cell in rows} == {"table-3", "table-5"}
    assert len({cell["set"] for cell in rows}) == 1
    assert {len(cell["values"]) for cell in rows} == {2}


def test_what_a_kill_leaves_is_taken_up_at_the_draw_that_it_was_at(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, words = made
    done = []
    whole = running.work

    def dies(job: running.Job) -> running.Done:
        if done:
            raise KeyboardInterrupt
        done.append(str(job))
        return whole(job)

    monkeypatch.setattr(running, "work", dies)
    assert call(*words, "--out", tmp_path / "work")[0] != 0
    assert (tmp_path / "work" / "reproduce.html").is_file(), "the page of what there is so far"
    first = times(tmp_path / "work")
    monkeypatch.setattr(running, "work", whole)
    assert call(*words, "--out", tmp_path / "work")[0] == 0
    assert first.items() <= times(tmp_path / "work").items()
    assert cells(tmp_path / "work")["Random", 10]["values"] == cells(out)["Random", 10]["values"]


def test_what_cannot_be_made_is_said_and_the_rest_goes_on(made: Any, tmp_path: Path) -> None:
    _, words = made
    few = photos(tmp_path / "few", 3, 0)
    texts = [f"data={few}" if word.startswith("data=") else word for word in words]
    code, _, error = call(*texts, "beside=full", "--out", tmp_path / "work")
    assert code == 2
    assert "random" in error
    assert error.count("for the same reason") == 1, "of two draws"
    record = json.loads((tmp_path / "work" / "reproduce.json").read_text())
    assert len(record["failed"]) == 2
    [why] = set(record["failed"].values())
    assert (tmp_path / "work" / "reproduce.html").read_text().count(str(escape(why))) == 1
    assert next(cell["values"] for cell in record["cells"] if cell["row"] == "full real images")


def test_a_dry_run_makes_nothing_and_says_what_it_would(made: Any, tmp_path: Path) -> None:
    _, words = made
    code, said, error = call(*words, "--dry-run", "--out", tmp_path / "none")
    assert code == 0, error
    assert "40 images, 4 trainings" in said
    assert "not made: unCLIP, unCLIP informed: nothing stands for unclip here" in said
    assert not (tmp_path / "none").exists()
    code, said, _ = call(*words, "--dry-run", "--json", "--out", tmp_path / "none")
    values = json.loads(said)
    assert (code, values["images"], values["trainings"], values["sets"]) == (0, 40, 4, 1)
    assert values["commands"][0].startswith("concord distill photos data=")


def test_a_dry_run_names_models_and_data_that_are_not_here(tmp_path: Path) -> None:
    texts = (
        "table-5",
        "--on",
        "imagewoof",
        f"data={tmp_path / 'no'}",
        f"test={tmp_path / 'no'}",
        "student=resnet18",
        "ipc=1",
    )
    code, said, error = call(*texts, "--dry-run", "--json", "--out", tmp_path / "none")
    assert code == 0, error
    values = json.loads(said)
    assert "radames/stable-diffusion-2-1-unclip-img2img" in {model["model"] for model in values["models"]}
    assert len(values["data"]) == 2


def test_every_key_of_its_record_is_on_the_page_of_formats(made: Any) -> None:
    out, _ = made
    assert unnamed(json.loads((out / "reproduce.json").read_text()), "reproduce.json") == set()


def test_the_tab_key_knows_items_and_places() -> None:
    assert complete_item("figure-4") == ["figure-4a", "figure-4b", "figure-4c"]
    assert complete_item("table-1,al") == ["table-1,all"]
    assert complete_place("imagenet-1") == ["imagenet-100", "imagenet-1k", *complete_recipe("imagenet-1")]


def test_a_wrong_word_ends_in_one_line(tmp_path: Path) -> None:
    for words in (
        ("table-99",),
        ("table-1", "--on", "reefs"),
        ("table-1", "drawn=2"),
        ("table-1", "--on", "custom", "--quick"),
    ):
        code, _, error = call(*words, "--out", tmp_path / "none")
        assert code == 2, error
        assert error.count("error: ") == 1


def test_what_some_sets_need_is_prepared_beside_those_that_do_not(tmp_path: Path) -> None:
    data = str(photos(tmp_path / "train", 12, 0))
    mtt = ["method=mtt", "mtt.experts={experts}", "mtt.steps=1", "mtt.start=1", "mtt.iterations=1", "size=16"]
    here = Place(
        name="tiny",
        about="squares of two colours",
        data=data,
        test=data,
        methods={
            "mtt": MethodHere(recipe="photos", set=[f"data={data}", *mtt], needs=["experts"]),
            "rded": MethodHere(
                recipe="photos", set=[f"data={data}", "method=rded", "teacher={absent}"], needs=["absent"]
            ),
            "dit": MethodHere(recipe="photos", set=[f"data={data}", "method=random"]),
        },
        prepared={
            "experts": Prepared(
                verb="experts",
                file="experts",
                data=data,
                set=["size=16", "batch=8", "experts=1", "epochs=2", "width=4", "depth=1"],
            ),
            "absent": Prepared(
                verb="teacher", file="absent", data=str(tmp_path / "nowhere"), set=["student=convnet-1"]
            ),
        },
        students={"convnet": StudentHere(set=["student=convnet-1", "width=4", "size=16"])},
        protocol="hard",
        always=1,
        ipc={10: 1, 50: 1},
        draws=1,
    )
    planned = plan(wanted("table-1"), here, tmp_path / "work", read_choices([]))
    assert [str(one) for one in running.unprepared(planned)] == ["experts", "absent"]
    hears = Notes()
    done = {one.job: one.why for one in running.run(planned, hears, workers=2)}
    assert [str(one) for one in running.unprepared(planned)] == ["absent"]
    by_method = {planned.sets[job.partition(",")[0]].base.method: why for job, why in done.items()}
    assert by_method.keys() == {"random", "mtt", "rded"}
    assert by_method["random"] == by_method["mtt"] == ""
    assert by_method["rded"].startswith("absent could not be prepared: ")
    assert "nowhere" in by_method["rded"]
    assert {"experts is prepared", by_method["rded"]} <= set(hears.notes)
