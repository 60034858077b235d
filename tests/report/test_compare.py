"""`concord compare`: who reads it decides between two methods, so every figure must be the one of the files."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.errors import ConcordError
from concord.metrics.statistics import summary
from concord.recipe import validate
from concord.registry import Measure
from concord.report.compare import Compared, compare, finished_run
from concord.report.compare_page import change, headline, page, verdict
from concord.workflows.distill import distill


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "60"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("cat [big]", "dog"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / folder / f"{i}.png")
    return tmp_path / "photos"


def make(photos: Path, out: Path, **values: Any) -> Path:
    distill(validate({"method": "random", "data": str(photos), "ipc": 3, "size": 8, **values}), out)
    return out


def edit(path: Path, **values: Any) -> None:
    """Set keys of a JSON file, or begin one."""
    old = json.loads(path.read_text()) if path.exists() else {"schema": 1}
    path.write_text(json.dumps(old | values))


def rate(out: Path, percentiles: list[float], encoder: str = "e", phrases: tuple[str, ...] = ("tail", "ear")) -> None:
    """A details.json in which image n has `percentiles[n]` for every phrase; below 0.25 a detail is missing."""
    files = sorted(p.relative_to(out).as_posix() for p in (out / "images").rglob("*.png"))
    images = {
        file: [{"phrase": p, "similarity": 0.1, "percentile": x, "likely_missing": x < 0.25} for p in phrases]
        for file, x in zip(files, percentiles, strict=True)
    }
    edit(out / "details.json", encoder=encoder, missing_below=0.25, images=images)


@pytest.fixture
def pair(photos: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two random choices of three images a class, with details and results as a generating method leaves them."""
    a, b = make(photos, tmp_path / "a"), make(photos, tmp_path / "b", seed=4, format={"kind": "webp"})
    for out in (a, b):  # the same file names, so that one helper rates both
        for file in (out / "images").rglob("*.webp"):
            Image.open(file).save(file.with_suffix(".png"))
        text = (out / "images" / "metadata.jsonl").read_text().replace(".webp", ".png")
        (out / "images" / "metadata.jsonl").write_text(text)
    rate(a, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    rate(b, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    sets = {"mean": 0.5, "complete": 0.25, "foreign": 0.1, "n": 6}
    edit(a / "results.json", completeness={"uninformed": sets}, teacher_accuracy={"uninformed": 0.9})
    edit(b / "results.json", completeness={"uninformed": sets | {"mean": 0.75}}, seconds_per_image=0.5)
    return a, b


def measures(a: Path, b: Path) -> dict[str, Compared]:
    return {one.name: one for one in compare(finished_run(a), finished_run(b)).measures}


def test_the_same_run_twice_differs_in_nothing(pair: tuple[Path, Path]) -> None:
    code, said, _ = run("compare", pair[0], pair[0])
    assert code == 0
    assert "recipes  equal" in said
    assert "6 of them identical" in said
    _, text, _ = run("compare", pair[0], pair[0], "--json")
    values = json.loads(text)
    assert values["differing"] == []
    assert values["samples"] == {"common": 6, "only_a": 0, "only_b": 0, "identical": 6, "same_seed": 6}
    assert values["measures"]
    for one in values["measures"]:
        assert one["difference"]["mean"] == 0
        assert one["difference"]["ci95"] in (None, [0, 0])
    assert all(one["change"] == 0 for one in values["pairs"])


def test_figures_are_those_of_the_files_and_have_paired_intervals(pair: tuple[Path, Path]) -> None:
    found = measures(*pair)
    percentile = found["percentile"]
    assert (percentile.a, percentile.b) == (pytest.approx(0.35), pytest.approx(0.55))
    # Every image gains exactly 0.2: unpaired, the interval would be wide; paired, it is a point.
    assert percentile.change == pytest.approx(0.2)
    assert percentile.ci95 == (pytest.approx(0.2), pytest.approx(0.2))
    assert percentile.n == 6
    missing = found["likely_missing"]
    assert (missing.a, missing.b) == (pytest.approx(2 / 6), 0)
    assert missing.ci95 is not None
    assert missing.ci95[0] <= missing.change <= missing.ci95[1]  # type: ignore[operator]
    assert (verdict(percentile), verdict(missing)) == ("better", "unclear")
    assert (found["completeness"].change, found["completeness"].ci95) == (0.25, None)
    assert "teacher_accuracy" not in found, "only one of them has it"


def test_one_pair_a_class_has_a_difference_and_no_interval(pair: tuple[Path, Path]) -> None:
    for out in pair:
        manifest = out / "images" / "metadata.jsonl"
        rows = [line for line in manifest.read_text().splitlines() if json.loads(line)["index"] == 0]
        manifest.write_text("".join(f"{row}\n" for row in rows))
    found = measures(*pair)["percentile"]
    assert (found.change, found.ci95, found.by) == (pytest.approx(0.2), None, "pairs")
    assert verdict(found) == "unknown"
    code, text, _ = run("compare", *pair, "--json")
    assert code == 0
    difference = next(m["difference"] for m in json.loads(text)["measures"] if m["name"] == "percentile")
    assert (difference["mean"], difference["ci95"]) == (pytest.approx(0.2), None)
    code, said, _ = run("compare", *pair, "--out", pair[0] / "page.html")
    assert code == 0
    assert re.search(r"percentile among real images +0\.\d+ +0\.\d+ +\+0\.200$", said, re.M), said


def test_keys_samples_and_the_most_changed_are_listed(pair: tuple[Path, Path], photos: Path) -> None:
    code, said, _ = run("compare", *pair)
    assert code == 0
    assert re.search(r"seed +0 -> 4", said)
    assert re.search(r'format.kind +"png" -> "webp"', said)
    assert "[big]" in said
    assert "seeds differ" in said
    changes = [one["change"] for one in json.loads(run("compare", *pair, "--json")[1])["pairs"]]
    assert changes == sorted(changes, reverse=True)
    grown = make(photos, pair[0].parent / "grown", ipc=4)
    values = json.loads(run("compare", pair[0], grown, "--json")[1])
    assert values["samples"] == {"common": 6, "only_a": 0, "only_b": 2, "identical": 6, "same_seed": 6}
    assert [one["key"] for one in values["differing"]] == ["ipc"]


def test_how_far_two_pictures_are_apart(pair: tuple[Path, Path]) -> None:
    files = sorted((pair[0] / "images").rglob("*.png"))
    other = shutil.copytree(pair[0], pair[0].parent / "copy")
    for n, file in enumerate(files):
        picture = Image.new("RGB", (8, 8), (100, 100, 100))
        picture.save(file)
        picture = Image.new("RGB", (8, 8), (100 + 51 * (n == 2), 100, 100))
        picture.save(other / file.relative_to(pair[0]), compress_level=0)
    pairs = compare(finished_run(pair[0]), finished_run(other)).pairs
    assert (pairs[0].place, pairs[0].identical) == (("cat [big]", 2), False)
    assert pairs[0].change == pytest.approx(51 / 255 / 3)
    assert all(one.identical for one in pairs[1:]), "other bytes, the same pixels"


def test_only_phrases_on_which_both_were_rated_are_compared(pair: tuple[Path, Path]) -> None:
    rate(pair[1], [0.5] * 6, phrases=("ear", "paw"))
    details = json.loads((pair[0] / "details.json").read_text())
    for rows in details["images"].values():
        rows[0]["percentile"] = 0.0  # of the phrase that the other has not
    (pair[0] / "details.json").write_text(json.dumps(details))
    assert measures(*pair)["percentile"].a == pytest.approx(0.35)
    rate(pair[1], [0.5] * 6, encoder="another")
    found = compare(finished_run(pair[0]), finished_run(pair[1]))
    assert any("different encoders" in note for note in found.notes)
    assert "percentile" not in {one.name for one in found.measures}


def test_scores_of_the_manifest_are_paired(pair: tuple[Path, Path]) -> None:
    for out, step in ((pair[0], 1.0), (pair[1], 3.0)):
        path = out / "images" / "metadata.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for n, row in enumerate(rows):
            row["scores"] = {"objective": n + step, "uninformed_steps": 0}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = measures(*pair)["scores.objective"]
    assert (found.change, found.ci95) == (2, (2, 2))


def test_accuracies_over_seeds_have_welchs_interval(pair: tuple[Path, Path]) -> None:
    tops = np.array([38.1, 38.9, 37.2]), np.array([41.0, 43.5, 42.2, 40.4])
    for out, values in zip(pair, tops, strict=True):
        last = {"mean": values.mean(), "std": values.std(ddof=1)}
        cell = {"student": "resnet18", "protocol": "rded", "ipc": 10, "seeds": list(range(len(values)))}
        edit(out / "evaluation.json", cells=[cell | {"top1": {"last": last}}, {"student": "x", "top1": {}}])
    found = measures(*pair)["top1.last.resnet18.rded.10"]
    expected = stats.ttest_ind(tops[1], tops[0], equal_var=False).confidence_interval(0.95)
    assert found.ci95 == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert (found.n, found.by, found.measure.unit, found.p) == (7, "seeds", "percent", None)


def evaluated(out: Path, seeds: list[int], values: list[float]) -> None:
    cell = {"student": "c3", "protocol": "dc", "ipc": 1, "seeds": seeds, "top1": {"last": summary(values)}}
    edit(out / "evaluation.json", cells=[cell])


def test_the_same_seeds_are_paired_seed_by_seed(pair: tuple[Path, Path]) -> None:
    """Seeds apart by ten points, sets by about one: paired, the second is better; unpaired, nobody could say."""
    evaluated(pair[0], [0, 1, 2], [0.31, 0.42, 0.55])  # a weak student's per cent, not shares
    evaluated(pair[1], [2, 0, 1], [0.66, 0.40, 0.52])  # in another order: seed 2 first
    found = measures(*pair)["top1.last.c3.dc.1"]
    differences = [0.40 - 0.31, 0.52 - 0.42, 0.66 - 0.55]
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert found.ci95 == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert (found.n, found.by, found.measure.unit, found.p) == (3, "paired seeds", "percent", 0.25)
    assert verdict(found) == "better"
    assert "(p 0.25)" in run("compare", *pair)[1]
    (told,) = [one for one in json.loads(run("compare", *pair, "--json")[1])["measures"] if "c3" in one["name"]]
    assert (told["difference"]["p"], told["difference"]["by"]) == (0.25, "paired seeds")


def test_other_metrics_of_predictions_are_compared_by_their_rows(pair: tuple[Path, Path]) -> None:
    for out, values in zip(pair, ([0.3, 0.4, 0.6], [0.1, 0.2, 0.39]), strict=True):
        metrics = {"ece": {"seeds": [0, 1, 2], "last": summary(values)}}
        cell = {"student": "c3", "protocol": "dc", "ipc": 1, "seeds": [0, 1, 2], "metrics": metrics}
        edit(out / "evaluation.json", cells=[cell])
    found = measures(*pair)["ece.last.c3.dc.1"]
    assert (found.measure.label, found.by) == ("calibration error last, c3, dc, IPC 1", "paired seeds")
    assert change(found)[0] == "-20.3"
    assert verdict(found) == "better", "less is better"


@pytest.mark.parametrize("seeds", [[0, 1, 3], [0, 1], [0, 0, 1]])
def test_other_seeds_are_no_pairs(pair: tuple[Path, Path], seeds: list[int]) -> None:
    evaluated(pair[0], [0, 1, 2], [31.0, 42.0, 55.0])
    evaluated(pair[1], seeds, [32.0, 43.0, 56.0][: len(seeds)])
    found = measures(*pair)["top1.last.c3.dc.1"]
    assert (found.n, found.by, found.p) == (3 + len(seeds), "seeds", None)
    assert verdict(found) == "unclear"


def test_one_seed_has_a_difference_and_no_interval(pair: tuple[Path, Path]) -> None:
    for out, value in zip(pair, (31.0, 32.0), strict=True):
        evaluated(out, [0], [value])
    found = measures(*pair)["top1.last.c3.dc.1"]
    assert (found.change, found.ci95, found.n, found.p) == (1, None, None, None)


def test_what_cannot_be_compared_is_one_line(pair: tuple[Path, Path], photos: Path, tmp_path: Path) -> None:
    a = pair[0]
    (tmp_path / "empty").mkdir()
    unfinished, damaged, gone, outside = (shutil.copytree(a, tmp_path / name) for name in "udgo")
    (unfinished / "results.json").unlink()
    (damaged / "details.json").write_text("{")
    next((gone / "images").rglob("*.png")).unlink()
    manifest = outside / "images" / "metadata.jsonl"
    manifest.write_text(manifest.read_text().replace("dog/00000", "../../photos/dog/0"))
    shutil.copytree(photos, tmp_path / "more" / "p")
    Image.new("RGB", (8, 8)).save(tmp_path / "more" / "p" / "dog" / "new.png")
    different = make(tmp_path / "more" / "p", tmp_path / "different")
    cases = {
        "no such directory": tmp_path / "nowhere",
        "holds no run": tmp_path / "empty",
        "is not finished": unfinished,
        "details.json is damaged": damaged,
        "cannot read both images of": gone,
        "does not lie beside it": outside,
        "different data sets": different,
    }
    for message, other in cases.items():
        code, said, error = run("compare", a, other, "--out", tmp_path / "page.html")
        assert (code, said, error.count("\n")) == (2, "", 1), message
        assert error.startswith("error: ")
        assert message in error
    assert not (tmp_path / "page.html").exists()


class Read(HTMLParser):
    """Collects a page's cells, images, and everything that could load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.images: list[str] = []
        self.links: list[str] = []
        self.policy = ""
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attributes}
        self._inside = tag in ("td", "th") or (self._inside and tag != "tr")
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "img":
            self.images.append(given["src"])
        if tag == "meta" and given.get("http-equiv"):
            self.policy = given["content"]
        self.links += [value for key, value in given.items() if key in ("href", "action", "srcset", "style")]

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[-1] += data


def test_the_page_is_whole_by_itself_and_shows_the_same_figures(pair: tuple[Path, Path], tmp_path: Path) -> None:
    assert run("compare", *pair, "--out", tmp_path / "new" / "page.html", "--most", "4")[0] == 0
    text = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    read = Read(text)
    assert read.links == []
    assert len(read.images) == 8, "four pairs"
    assert all(source.startswith("data:image/webp;base64,") for source in read.images)
    assert read.policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in read.policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in read.policy
    for one in measures(*pair).values():
        row = read.cells[read.cells.index(one.measure.label) :]
        assert row[3].replace("\N{MINUS SIGN}", "-") == change(one)[0]
    assert "6 samples" in text
    assert "4 of 6 pairs" in text


def test_small_images_keep_every_pixel_on_the_page(pair: tuple[Path, Path]) -> None:
    found = compare(finished_run(pair[0]), finished_run(pair[1]))
    first = Read(page(found)).images[0]
    shown = Image.open(io.BytesIO(base64.b64decode(first.partition(",")[2])))
    with Image.open(found.a.by_place[found.pairs[0].place].path) as real:
        assert shown.convert("RGB").tobytes() == real.convert("RGB").tobytes()


def test_a_run_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match=r"holds no run \(no recipe.yaml with images/metadata.jsonl\)"):
        finished_run(tmp_path)


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (Compared(Measure("m", "m", "share", 1), 0.5, 0.6, 0.1, (0.05, 0.15)), ("+10.0", "+5.0 to +15.0")),
        (
            Compared(Measure("m", "m", "percent", 1), 50, 60, 10, (5, 15), 3, "", 0.25),
            ("+10.0", "+5.0 to +15.0 (p 0.25)"),
        ),
        (Compared(Measure("m", "m", "number", 1), 0.5, 0.4996, -0.0004), ("0.000", "")),
        (Compared(Measure("m", "m", "seconds", -1), 2.0, 5.0, 3.0), ("+3.000", "2.50 times A")),
        (Compared(Measure("m", "m", "seconds", -1), None, 5.0, None), ("-", "")),
    ],
)
def test_differences_as_text(one: Compared, text: tuple[str, str]) -> None:
    assert change(one) == text


def test_the_headline_says_what_matters(pair: tuple[Path, Path]) -> None:
    """Accuracy first, where it tells the two apart; else what does, and that accuracy does not."""
    evaluated(pair[0], [0, 1, 2], [31.0, 42.0, 55.0])
    evaluated(pair[1], [0, 1, 2], [40.0, 52.0, 66.0])
    said = headline(compare(finished_run(pair[0]), finished_run(pair[1])))
    assert said.text.startswith("B is better than A: top-1 last, c3, dc, IPC 1 +10.0 points (")
    assert said.count.startswith("Of 6 measures, 2 say clearly that B is better than A, and 0 that it is worse.")
    evaluated(pair[1], [0, 1, 2], [20.0, 52.0, 60.0])
    said = headline(compare(finished_run(pair[1]), finished_run(pair[0])), "C")
    assert said.text.startswith("C is worse than A: mean percentile among real images \N{MINUS SIGN}0.200 (")
    assert "Accuracy does not tell them apart: top-1 last, c3, dc, IPC 1 \N{MINUS SIGN}1.3 points" in said.text
    same = headline(compare(finished_run(pair[0]), finished_run(pair[0])))
    assert same.text.startswith("Nothing tells B clearly from A: top-1 last")


def test_more_than_two_runs_are_compared_with_the_first(pair: tuple[Path, Path], tmp_path: Path) -> None:
    third = tmp_path / "c"
    shutil.copytree(pair[1], third)
    rate(third, [0.1, 0.2, 0.3, 0.4, 0.5, 0.65])
    code, said, _ = run("compare", *pair, third, "--out", tmp_path / "three.html")
    assert code == 0
    assert "B is better than A" in said and "Nothing tells C clearly from A" in said
    assert re.search(r"what differs +A +C +C - A", said)
    text = (tmp_path / "three.html").read_text(encoding="utf-8")
    read = Read(text)
    assert len(read.images) == 3 * 6
    row = read.cells[read.cells.index("mean percentile among real images") :]
    assert [cell.replace("\N{MINUS SIGN}", "-") for cell in row[1:4]] == ["0.350", "0.550+0.200", "0.358+0.008"]
    both = json.loads(run("compare", *pair, third, "--json")[1])["comparisons"]
    assert [Path(one["b"]["dir"]).name for one in both] == ["b", "c"]


@pytest.mark.browser
def test_a_phone_gets_a_short_page_of_any_number_of_pairs(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Forty measures and two hundred pairs, at 390 px: under 4,000 px, nothing sideways, with scripts and without."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    found = compare(finished_run(pair[0]), finished_run(pair[1]))
    many = tuple(replace(one, measure=replace(one.measure, key=f"{n}")) for one in found.measures for n in range(8))
    keys = tuple((f"key.{n}", n, "a long value of this key") for n in range(30))
    large = replace(found, measures=many, keys=keys, pairs=found.pairs * 34)
    (tmp_path / "page.html").write_text(page(large), encoding="utf-8")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for scripts in (True, False):
            context = browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=scripts)
            shown = context.new_page()
            shown.goto((tmp_path / "page.html").as_uri())
            assert shown.locator("figure").count() == 200
            assert shown.locator(".tools").is_visible() is scripts
            if scripts:
                size = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
                width, height = shown.evaluate(size)
                assert width == 390 and height < 4000
        browser.close()
