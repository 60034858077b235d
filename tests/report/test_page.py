"""The page says what the files say, whatever the texts in them are, and stays one file of bounded size."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import make_run
from pages import HOSTILE, NAMES, Page, figures, page_of
from PIL import Image
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.cli.console import Console
from concord.cli.distill_views import show_results
from concord.errors import ConcordError
from concord.metrics.measures import lines
from concord.recipe import load
from concord.report.page import render, write_report
from concord.runs.directory import open_run
from concord.workflows.distill import distill


def test_every_figure_is_that_of_its_file(tmp_path: Path) -> None:
    cells = [
        {
            "student": "resnet18",
            "protocol": "hard",
            "ipc": 10,
            "seeds": [0, 1, 2],
            "top1": {"last": {"mean": 71.234, "std": 0.456}, "best": {"mean": 72.5, "std": 0.1}},
            "seconds": 12.3,
        }
    ]
    out = make_run(tmp_path, NAMES, evaluation={"cells": cells})
    shown = figures(page_of(out), out)
    assert shown["results.json:completeness.gain.mean"] == "+12.8"
    assert shown["results.json:completeness.gain.ci95.0"] == "+9.8"
    assert shown["results.json:completeness.gain.ci95.1"] == "+15.8"
    assert shown["results.json:completeness.uninformed.mean"] == "75.8\N{NO-BREAK SPACE}%"
    assert shown["results.json:seconds_per_image"] == "0.610 s"
    assert shown["evaluation.json:cells.0.top1.last.mean"] == "71.2"
    assert shown["concepts.json:similarity.cosine.0.1"] == "0.50"


def test_every_column_holds_its_own_set(tmp_path: Path) -> None:
    text = write_report(make_run(tmp_path, NAMES)).read_text(encoding="utf-8")
    cells = re.findall(r'<td data-label="([^"]+)"[^>]*>(.*?)</td>', text, re.S)
    columns = {"Uninformed": "uninformed", "Informed": "informed", "Real images": "real", "Change": "gain"}
    found = [(columns[label], place) for label, cell in cells for place in re.findall(r'data-from="([^"]+)"', cell)]
    assert len(found) == 3 * 3 + 3  # three measures of three sets; one of them with its change and interval
    assert all(f".{which}." in place for which, place in found)


def test_an_interval_that_holds_nothing_is_called_no_change_and_a_loss_worse(tmp_path: Path) -> None:
    for n, (interval, words) in enumerate({(-0.01, 0.02): "by less than", (-0.05, -0.01): "less complete"}.items()):
        out = make_run(tmp_path / str(n), NAMES)
        results = json.loads((out / "results.json").read_text())
        results["completeness"]["gain"] = {"mean": sum(interval) / 2, "ci95": list(interval)}
        (out / "results.json").write_text(json.dumps(results))
        page = page_of(out)
        assert words in page.all("p", **{"class": "standfirst"})[0][1]
        assert "more complete" not in page.all("main")[0][1]


def test_without_an_interval_nothing_is_said_of_better_or_worse(tmp_path: Path) -> None:
    out = make_run(tmp_path, NAMES, ipc=1)
    results = json.loads((out / "results.json").read_text())
    results["completeness"]["gain"] = {"mean": 0.16, "ci95": None}
    (out / "results.json").write_text(json.dumps(results))
    page = page_of(out)
    assert figures(page, out)["results.json:completeness.gain.mean"] == "+16.0"
    assert "So few images do not tell" in page.all("p", **{"class": "standfirst"})[0][1]
    said = page.all("main")[0][1]
    assert "no interval" in said and not page.all("span", **{"class": "verdict"})
    assert not re.search("more complete|less complete|by less than", said)
    terminal = io.StringIO()
    show_results(results, out, Console(file=terminal, width=80))
    assert "+16.0 [no interval]" in terminal.getvalue()
    assert any("+0.160 (" in line for line in lines(results, "sheet"))


def test_every_image_stands_there_with_what_it_was_made_from(tmp_path: Path) -> None:
    out = make_run(tmp_path, NAMES, ipc=3)
    page = page_of(out)
    data, details = page.json("data"), json.loads((out / "details.json").read_text(encoding="utf-8"))["images"]
    rows = [json.loads(line) for line in (out / "images" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    text = data["texts"]
    seen = 0
    for label, klass in enumerate(data["classes"]):
        assert klass["name"] == NAMES[label]
        pictures = page.pictures(label)
        for sample, uris in zip(page.samples(label), pictures, strict=True):
            row = next(r for r in rows if r["label"] == label and r["index"] == sample["index"])
            seen += 1
            assert (sample["seed"], text[sample["prompt"]], text[sample["source"]]) == (
                row["seed"],
                row["prompt"],
                row["source"],
            )
            assert [text[k] for k in sample["negatives"]] == row["negatives"]
            for side, variant, uri in (("after", "images", uris[0]), ("before", "uninformed", uris[1])):
                expected = {d["phrase"]: d["percentile"] for d in details[f"{variant}/{row['file_name']}"]}
                found = dict(zip((text[k] for k in klass["phrases"]), sample[side]["percentiles"], strict=True))
                assert found == expected
                marks = ["m" if p < 0.25 else "w" if p < 0.5 else "p" for p in found.values()]
                assert "".join(marks) == sample[side]["marks"]
                assert _pixels(uri) == Image.open(out / variant / row["file_name"]).tobytes()
    assert seen == len(rows) == 9


def _pixels(uri: str) -> bytes:
    import io

    kind, _, data = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB").tobytes()


anything = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
traps = st.sampled_from(
    [HOSTILE, "</script>", "<!--", "\u2028", "{{ 7 * 7 }}", "{% raw %}", "'\"><img src=x onerror=a>"]
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=anything | traps, phrase=anything | traps, path=anything | traps)
def test_no_text_becomes_markup(tmp_path: Path, name: str, phrase: str, path: str) -> None:
    near = {"images/f0/00000.png": {"nearest": path, "similarity": 0.99, "same_file": False, "flagged": True}}
    out = make_run(
        tmp_path, [name, "other"], 1, [phrase, "plain"], near_copies={"threshold": {"a": 0.9}, "images": near}
    )
    page, plain = page_of(out), Page(render(open_run(make_run(tmp_path / "plain", ["a", "other"], 1, ["b", "plain"]))))
    ours = [tag for tag, _ in page.tags if tag in ("script", "style", "iframe", "object", "svg", "h3", "section")]
    assert ours == [
        tag for tag, _ in plain.tags if tag in ("script", "style", "iframe", "object", "svg", "h3", "section")
    ]
    assert page.json("data")["classes"][0]["name"] == name
    assert phrase in page.json("data")["texts"]
    # HTML readers turn every line end into one newline, and drop a NUL.
    assert any(_seen(text) == _seen(name) for _, text in page.all("h3"))
    assert any(_seen(text) == _seen(path) for _, text in page.all("code"))


def _seen(text: str) -> str:
    return "".join(c for c in text.replace("\r\n", "\n").replace("\r", "\n") if c.isprintable() and c != "\ufffd")


def test_only_our_script_may_run_and_nothing_be_fetched(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, [HOSTILE, "b"]))
    policy = str(page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0][0]["content"])
    running = [text for attributes, text in page.all("script") if "type" not in attributes]
    digest = base64.b64encode(hashlib.sha256(running[0].encode()).digest()).decode()
    assert len(running) == 1
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data: 'self';")
    linked = [a for tag, a in page.tags for key in ("src", "href") if (a.get(key) or "data:")[:5] not in ("data:",)]
    assert all(str(a["href"]).startswith("#") for a in linked)


def test_the_page_keeps_to_its_size_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    budget = 500_000
    out = make_run(tmp_path, [f"class {k}" for k in range(12)], ipc=6, side=128)  # noise: no image could be larger
    text = render(open_run(out), budget, standalone=True)
    page = Page(text)
    pictures = [page.pictures(k) for k in range(12)]
    assert sum(len(uri) for of_class in pictures for uris in of_class for uri in uris) <= budget
    shown = [len(of_class) for of_class in pictures]
    assert min(shown) >= 1
    assert sum(shown) < 72
    assert f"This page shows {sum(shown)} of 72 images" in page.all("main")[0][1]
    whole = Page(render(open_run(out)))
    assert sum(len(whole.pictures(k)) for k in range(12)) == 72
    assert "This page shows" not in whole.all("main")[0][1]


def test_a_page_that_images_do_not_fit_into_shows_the_files_beside_it(tmp_path: Path) -> None:
    names = ["a/b & c", *(f"class {k}" for k in range(11))]
    out = make_run(tmp_path / "a run", names, ipc=6, side=128)
    (out / "images" / "f0").rename(out / "images" / "f 0#?%")
    (out / "uninformed" / "f0").rename(out / "uninformed" / "f 0#?%")
    for name in ("images/metadata.jsonl", "uninformed/metadata.jsonl", "details.json"):
        text = (out / name).read_text(encoding="utf-8").replace('"f0/', '"f 0#?%/').replace("/f0/", "/f 0#?%/")
        (out / name).write_text(text, encoding="utf-8")
    text = render(open_run(out), 100_000)
    assert len(text) < 120_000 and "data:image/webp" not in text
    page = Page(text)
    assert [len(page.samples(k)) for k in range(12)] == [6] * 12
    assert page.samples(0)[3]["file"] == "images/f 0#?%/00003.png"
    assert 'src="images/f%200%23%3F%25/00000.png"' in text and 'src="uninformed/f%200%23%3F%25/00000.png"' in text
    said = page.all("main")[0][1]
    assert "beside this page" in said and "so that it stays one file" not in said
    alone = render(open_run(out), standalone=True)
    assert "beside this page" not in Page(alone).all("main")[0][1] and "data:image/webp" in alone


def test_real_images_have_a_page_too(tmp_path: Path) -> None:
    for folder in ("cat", "dog"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (40, 30), (80 * k, 0, 0)).save(tmp_path / "photos" / folder / f"{k}.png")
    out = tmp_path / "out"
    distill(load("photos", [f"data={tmp_path / 'photos'}", "ipc=2", "workers=1"]), out)
    page = page_of(out)
    text = page.all("main")[0][1]
    assert "chosen at random among the real ones" in text
    assert "Informed" not in text and "likely missing" not in text
    data = page.json("data")
    assert [k["name"] for k in data["classes"]] == ["cat", "dog"]
    assert all("before" not in sample for k in range(2) for sample in page.samples(k))
    assert figures(page, out)["results.json:images"] == "4"


def test_without_uninformed_images_nothing_is_compared(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, NAMES, paired=False))
    text = page.all("main")[0][1]
    assert "What was measured" in text
    assert "did not help" not in text
    assert "The worst images" in text
    assert not page.all("input", name="view")
    assert page.json("data")["lists"]["improved"] == []


def test_a_run_that_has_not_finished_says_so(tmp_path: Path) -> None:
    out = make_run(tmp_path, NAMES)
    for name in ("results", "details", "concepts", "environment"):
        (out / f"{name}.json").unlink()
    (out / "recipe.yaml").unlink()
    assert "has not finished: 6 images of 3 classes" in page_of(out).all("main")[0][1]


def test_an_image_that_is_gone_leaves_a_gap_alone(tmp_path: Path) -> None:
    out = make_run(tmp_path, NAMES)
    (out / "images" / "f1" / "00000.png").unlink()
    (out / "images" / "f1" / "00001.png").write_bytes(b"no image")
    assert [uris[0] for uris in page_of(out).pictures(1)] == ["", ""]


def test_a_detector_has_the_last_word(tmp_path: Path) -> None:
    out = make_run(tmp_path, NAMES[:2], 1, ["bars"])
    details = json.loads((out / "details.json").read_text())
    details["images"]["images/f0/00000.png"][0] |= {"percentile": 0.9, "found": False}
    (out / "details.json").write_text(json.dumps(details))
    assert page_of(out).samples(0)[0]["after"]["marks"] == "m"


def test_near_copies_are_named_the_flagged_first(tmp_path: Path) -> None:
    found = {
        "images/f0/00000.png": {"nearest": "a/1.jpg", "similarity": 0.95, "same_file": False, "flagged": False},
        "images/f1/00000.png": {"nearest": "b/2.jpg", "similarity": 0.93, "same_file": True, "flagged": True},
    }
    out = make_run(tmp_path, NAMES, near_copies={"encoder": "e", "threshold": {"a": 0.93}, "images": found})
    page = page_of(out)
    assert [text for _, text in page.all("code") if text.endswith(".jpg")] == ["b/2.jpg", "a/1.jpg"]
    assert "1 of 2 images is flagged" in page.all("main")[0][1]
    assert page.samples(1)[0]["near"]["same_file"] is True


def test_embeddings_are_drawn_each_point_once_and_like_ones_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 15)
    centres = rng.normal(size=(2, 16)) * 5
    sets = {name: centres[labels] + rng.normal(size=(30, 16)) * 0.3 for name in ("real", "uninformed", "informed")}
    sets["conditions"] = sets["real"]
    out = make_run(tmp_path, NAMES[:2])
    np.savez(out / "embeddings.npz", **sets, **{f"labels_{name}": labels for name in sets})
    page = page_of(out)
    points = [a for a, _ in page.all("circle") if "class" in a]
    assert len(points) == 3 * 30 + 2 * 30
    first = points[:90]
    places = np.array([[float(str(a["cx"])), float(str(a["cy"]))] for a in first])
    kinds = np.array([a["class"] for a in first])
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert (kinds[apart.argmin(1)] == kinds).mean() > 0.95
    assert page.all("section") and "conditioned them" in page.all("main")[0][1]
    (out / "embeddings.npz").unlink()
    assert not page_of(out).all("circle")


def test_damaged_files_are_named_in_one_line(tmp_path: Path) -> None:
    out = make_run(tmp_path, NAMES)
    for name, content in (
        ("details.json", b"{"),
        ("results.json", b"[]"),
        ("recipe.yaml", b"a: [1"),
        ("embeddings.npz", b"PK\x03\x04 torn"),
    ):
        before = (out / name).read_bytes() if (out / name).exists() else None
        (out / name).write_bytes(content)
        with pytest.raises(ConcordError, match=re.escape(name)):
            write_report(out)
        if before is None:
            (out / name).unlink()
        else:
            (out / name).write_bytes(before)
    write_report(out)


def test_a_manifest_cannot_put_other_files_on_the_page(tmp_path: Path) -> None:
    for n, name in enumerate(("../secret.png", "/etc/secret.png")):
        out = make_run(tmp_path / str(n), ["a"], 1)
        row = json.loads((out / "images" / "metadata.jsonl").read_text()) | {"file_name": name}
        (out / "images" / "metadata.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(ConcordError, match="not below"):
            write_report(out)


def test_the_command_writes_the_page_and_refuses_what_is_no_run(tmp_path: Path) -> None:
    out = make_run(tmp_path / "run", [HOSTILE])
    done = CliRunner().invoke(app, ["report", str(out)], env={"COLUMNS": "300"})
    assert (done.exit_code, (out / "report.html").is_file()) == (0, True)
    assert done.stdout.startswith(f"written {out / 'report.html'} (")
    refused = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert refused.exit_code == 2
    assert "holds no run" in refused.stderr and refused.stderr.count("\n") == 1


def test_the_page_does_not_wait_for_torch() -> None:
    code = "import sys, concord.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
