"""The data card must say what the set is, and nothing that a class name or a path could make it say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from hostile import HOSTILE
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from concord.export import export
from concord.export.card import card, escaped, fenced
from concord.export.made import open_made
from concord.export.write import Reading, redacted, redacted_recipe
from concord.storage.atomic import write_json

READER = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")


def plain(html: str) -> str:
    text = re.sub(r"<[^>]*>", "", html)
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(entity, character)
    return text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    html = READER.render(f"| a | b |\n| --- | --- |\n| x{escaped(text)}x | y |\n")
    assert set(re.findall(r"<([a-z]+)", html)) <= {"table", "thead", "tbody", "tr", "th", "td"}
    cells = re.findall(r"<td>(.*?)</td>", html)
    assert len(cells) == 2
    kept = "".join(c for c in plain(cells[0]) if not c.isspace())
    assert kept == "x" + "".join(c for c in text if c in kept and not c.isspace()) + "x"
    if text.isascii():
        assert kept == "x" + "".join(c for c in text if c.isprintable() and not c.isspace()) + "x"


@given(st.text(st.sampled_from("`~\n a#")))
def test_no_code_leaves_its_fence(text: str) -> None:
    tokens = READER.parse(fenced(f"a\n{text}\nb", "yaml"))
    assert [token.type for token in tokens] == ["fence"]


def test_paths_are_cut_to_their_last_part() -> None:
    assert [
        redacted(text) for text in ("/home/me/photos", "~/x/", "../a/b", "C:\\Users\\me\\photos", "\\\\host\\a")
    ] == [
        "photos",
        "x",
        "b",
        "photos",
        "a",
    ]
    unchanged = ("facebook/DiT-XL-2-256", "reef:clip", "black and/or white", "dress/1.jpg", "")
    assert [redacted(text) for text in unchanged] == list(unchanged)


def test_the_front_matter_is_what_a_hub_reads(finished: Path, tmp_path: Path) -> None:
    export(finished, "webdataset", tmp_path / "o")
    _, front, body = (tmp_path / "o" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["pretty_name"] == "a | `b` <i>: a distilled set of 4 classes"
    assert (values["license"], values["size_categories"]) == ("other", ["n<1K"])
    assert values["task_categories"] == ["image-classification"]
    assert values["configs"][0]["data_files"] == [{"split": "train", "path": "train-*.tar"}]
    assert "images | 8: 4 classes, 2 of each" in body
    assert "made from | my photos, 13 images of 4 classes" in body
    html = READER.render(body)
    assert "<script" not in html and "<i>" not in html
    assert HOSTILE in plain(html)


def test_what_was_measured_is_in_it(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    figures = {"informed": {"mean": 0.9}, "uninformed": {"mean": 0.75}, "gain": {"mean": 0.15, "ci95": [0.1, 0.2]}}
    copies = {"flagged": 3, "identical": 1, "duplicates": 0, "of": 8}
    write_json(run / "results.json", {"completeness": figures, "near_copies": copies})
    text = card(open_made(run), "folder", Reading("**", "..."))
    assert (
        "| details shown (completeness) | 0.900 | 0.750 |  | +0.150 [+0.100, +0.200] |".replace("[", r"\[").replace(
            "]", r"\]"
        )
        in text
    )
    assert "3 of 8 images" in text
    assert "not examined for near copies" not in text


def test_models_stand_with_their_licences_and_paths_are_private(finished: Path) -> None:
    made = open_made(finished)
    pipeline = made.recipe.pipeline.model_copy(
        update={"model": "facebook/DiT-XL-2-256", "checkpoints": {"/home/me/minimax-a": "all"}}
    )
    recipe = made.recipe.model_copy(update={"method": "minimax", "pipeline": pipeline, "encoder": "/home/me/clip"})
    text = card(type(made)(**{**vars(made), "recipe": recipe}), "folder", Reading("**", "..."))
    assert "| facebook/DiT-XL-2-256 | pipeline.model | CC-BY-NC-4.0 |" in text
    assert "minimax-a" in text
    assert "/home/me" not in text
    assert redacted_recipe(recipe)["pipeline"]["checkpoints"] == {"minimax-a": "all"}
    assert "not examined for near copies" in text


@pytest.mark.parametrize(("variant", "said"), [("images", False), ("uninformed", True)])
def test_the_counterpart_is_called_so(variant: str, said: bool, finished: Path) -> None:
    text = card(open_made(finished, variant), "folder", Reading("**", "..."))  # type: ignore[arg-type]
    assert ("without informing" in text) is said
