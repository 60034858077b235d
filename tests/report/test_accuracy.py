"""The parts of the page that `evaluation.json` fills: who reads which classes fail acts on it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import make_run
from pages import HOSTILE, figures, page_of

from concord.errors import ConcordError
from concord.evaluation.draws import side
from concord.metrics.ddranking import augmentation_robust_score, label_robust_score
from concord.metrics.neighbours import coverage_report
from concord.metrics.statistics import summary
from concord.report.accuracy import BARS, CHART, ENDS, TABLE, detailed_cells, facts
from concord.report.page import write_report

NAMES = ("canyon damsel", "temple tang", "büro stuhl")
CONFUSION = [[6, 3, 1], [0, 10, 0], [2, 0, 8]]


def cell(confusion: list[list[int]] | None = CONFUSION, **values: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "student": "resnet18",
        "protocol": "hard",
        "ipc": 10,
        "seeds": [0, 1],
        "top1": {"last": summary([79.25, 81.0]), "best": summary([80.0, 82.5])},
        "seconds": 12.3,
    }
    if confusion is not None:
        counts = np.array(confusion)
        made |= {"confusion": confusion, "per_class": (100 * counts.diagonal() / counts.sum(1)).tolist()}
    return made | values


def evaluation(names: tuple[str, ...] = NAMES, **values: Any) -> dict[str, Any]:
    return {"classes": list(names), "cells": [cell()], **values}


def large(count: int) -> dict[str, Any]:
    """Classes of which class i has 2i + 1 of its 4 * count images right, and loses the others to the next."""
    confusion = np.zeros((count, count), dtype=int)
    for i in range(count):
        confusion[i, i] = 2 * i + 1
        confusion[i, (i + 1) % count] += 4 * count - 2 * i - 1
    return {"classes": [f"class {i}" for i in range(count)], "cells": [cell(confusion.tolist())]}


def test_every_class_has_its_recall_the_lowest_first_and_what_it_is_taken_for(tmp_path: Path) -> None:
    out = make_run(tmp_path, NAMES, evaluation=evaluation())
    page = page_of(out)
    (listed,) = [text for a, text in page.all("ol") if a.get("class") == "recalls"]
    assert listed.split("\n")[1:4] == [
        "      canyon damsel60.0 %30.0\N{NO-BREAK SPACE}% as temple tang",
        "      büro stuhl80.0 %20.0\N{NO-BREAK SPACE}% as canyon damsel",
        "      temple tang100.0 %",
    ]
    widths = re.findall(r"width:([\d.]+)%", " ".join(str(a.get("style", "")) for a, _ in page.all("i")))
    assert widths[-3:] == ["60.0", "80.0", "100.0"]
    shown = figures(page, out)
    assert shown["evaluation.json:cells.0.per_class.0"] == "60.0"
    assert shown["evaluation.json:cells.0.top1.last.std"] == "1.2"


def test_the_confusion_is_shown_in_shares_of_the_true_class(tmp_path: Path) -> None:
    out = make_run(tmp_path, ("a", "b", "c"), evaluation=evaluation(("a", "b", "c")))
    page = page_of(out)
    (found,) = detailed_cells(evaluation(("a", "b", "c")))
    place = {name: i for i, name in enumerate(found.names)}
    expected = {("a", "a"): 0.6, ("a", "b"): 0.3, ("a", "c"): 0.1, ("b", "b"): 1, ("c", "a"): 0.2, ("c", "c"): 0.8}
    for row in "abc":
        for column in "abc":
            assert found.shares[place[row]][place[column]] == pytest.approx(expected.get((row, column), 0))
    cells = [(str(a.get("class")), text) for a, text in page.all("td")]
    assert sorted(text for kind, text in cells if kind.startswith("right")) == ["100", "60", "80"]
    assert sorted(text for kind, text in cells if kind.startswith("wrong")) == ["", "", "", "10", "20", "30"]
    assert found.mistakes == [("a", "b", 0.3), ("c", "a", 0.2), ("a", "c", 0.1)]


@pytest.mark.parametrize("count", [TABLE, TABLE + 1, CHART + 1])
def test_many_classes_are_a_table_then_a_picture_then_the_worst_mistakes(tmp_path: Path, count: int) -> None:
    values = large(count)
    (found,) = detailed_cells(values)
    assert (bool(found.shares), bool(found.chart)) == (count <= TABLE, TABLE < count <= CHART)
    assert found.mistakes[0] == ("class 0", "class 1", pytest.approx(1 - 1 / (4 * count)))
    names = [bar.name for bar in found.bars]
    if count <= BARS:
        assert (names, found.cut) == (values["classes"], 0)
    else:
        assert (names, found.cut) == (values["classes"][:ENDS] + values["classes"][-ENDS:], count - 2 * ENDS)
        out = make_run(tmp_path, values["classes"][:2], evaluation=values)
        assert f"… {count - 2 * ENDS} classes between" in page_of(out).all("main")[0][1]


def test_classes_that_are_taken_for_one_another_are_neighbours() -> None:
    confusion = np.eye(6, dtype=int) * 5
    for a, b in ((0, 3), (1, 4), (2, 5)):
        confusion[a, b] = confusion[b, a] = 4
    values = {"classes": list("abcdef"), "cells": [cell(confusion.tolist())]}
    order = detailed_cells(values)[0].names
    assert all(abs(order.index(a) - order.index(b)) == 1 for a, b in ("ad", "be", "cf"))


def test_the_other_scores_are_shown_as_they_stand_in_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 12)
    real = rng.normal(size=(36, 3)) + 9 * labels[:, None]
    coverage = coverage_report(real[::6], labels[::6], real, labels, "some/encoder")
    label = label_robust_score(full_hard=84.5, made_hard=31, made_any=40, random_any=50)
    augmentation = augmentation_robust_score(made_augmented=46, random_augmented=40, made_plain=32, random_plain=30)
    out = make_run(
        tmp_path,
        NAMES,
        evaluation=evaluation(
            ranking=[
                {"student": "resnet18", "ipc": 10, "lrs": label, "ars": augmentation},
                {"lrs": label, "ars": None},
            ],
            coverage=coverage,
            teacher={"name": "convnet5", "accuracy": 91.25, "remapped": True, "classes": 3},
            soft_labels={"store_bytes": 12_345_678, "top_k": 10, "quantised": False},
            notes=["3 test images are in the train set"],
        ),
    )
    page = page_of(out)
    shown = figures(page, out)
    assert shown["evaluation.json:ranking.0.lrs.ior"] == "\N{MINUS SIGN}10.0"
    assert shown["evaluation.json:ranking.0.ars.plain"] == "+2.0"
    assert shown["evaluation.json:coverage.all.coverage"] == f"{coverage['all']['coverage']:.3f}"
    assert "evaluation.json:coverage.within_classes.recall" not in shown, "two images of a class have no recall"
    assert len([place for place in shown if place.startswith("evaluation.json:coverage.classes.")]) == 3 * 5
    text = page.all("main")[0][1]
    assert "convnet5: 91.2 % of the validation images right; its classes were put in order" in text
    assert "store 12.3 MB, top k 10, quantised no" in text
    assert "3 test images are in the train set" in text
    assert "some/encoder" in text
    assert coverage["notes"][0] in text
    assert {a["href"] for a, _ in page.all("a")} >= {"#evaluation", "#coverage"}


def test_the_regimes_come_first_with_their_draws_and_what_lacks(tmp_path: Path) -> None:
    def of(protocol: str, *values: float) -> dict[str, Any]:
        return cell(None, protocol=protocol, top1={which: summary([*values]) for which in ("last", "best")})

    random = [{"cells": [of("rded", 60.0 + n, 70.0), of("hard", 50.0 - n, 41.0)]} for n in range(3)]
    sides = [side("random", random), side("herding", [{"cells": [of("hard", 44.0, 45.0)]}], features=HOSTILE)]
    values = evaluation(cells=[of("rded", 66.0, 67.0), of("hard", 51.5, 52.0)], sides=sides, test="a test")
    out = make_run(tmp_path / "run", NAMES, evaluation=values)
    page = page_of(out)
    shown = figures(page, out)
    assert shown["evaluation.json:sides.0.cells.0.top1.last.mean"] == "65.5"
    assert next(a["class"] for a, _ in page.all("table") if a.get("class") in ("regimes", "plain cells")) == "regimes"
    [(_, table)] = page.all("table", **{"class": "regimes"})
    told = [f"{draws} \N{MULTIPLICATION SIGN} 2 seeds" for draws in ("3 draws", "1 draw")]
    assert [table.count(n) for n in (*told, "not yet")] == [2, 3, 4]
    assert f"by {HOSTILE}; nothing is drawn" in table
    left = [re.findall(r"left:([\d.]+)%", str(a.get("style", ""))) for a, _ in page.all("u")]
    assert left == [["65.5"], ["45.0"], ["65.5"], ["45.0"], ["45.0"]], "random's mean on every bar of its column"
    [(_, command)] = page.all("pre", **{"class": "command fill"})
    assert "student=resnet18 ipc=10 protocol=regimes beside=random,herding teacher=FILE seeds=2" in command
    assert f"concord evaluate {out} --test 'a test'" in command


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    one = cell(seeds=[0], top1={"last": summary([79.25]), "best": summary([80.0])})
    out = make_run(tmp_path, NAMES, evaluation=evaluation(cells=[one, cell(None)]))
    shown = figures(page_of(out), out)
    assert "evaluation.json:cells.0.top1.last.std" not in shown
    assert "evaluation.json:cells.1.top1.last.std" in shown


def test_an_evaluation_of_means_alone_shows_no_empty_parts(tmp_path: Path) -> None:
    out = make_run(tmp_path, NAMES, evaluation={"cells": [cell(None)]})
    text = page_of(out).all("main")[0][1]
    assert "Accuracy of classifiers" in text
    for part in ("Class by class", "Teacher and labels", "Coverage of", "DD-Ranking"):
        assert part not in text


def test_a_class_without_test_images_has_no_bar_and_hides_none() -> None:
    untested = {"confusion": [[6, 3, 1], [0, 0, 0], [2, 0, 8]], "per_class": [60.0, None, 80.0]}
    values = evaluation(cells=[cell() | untested])
    (found,) = detailed_cells(values)
    assert [bar.name for bar in found.bars] == [NAMES[0], NAMES[2]]
    assert found.shares[found.names.index(NAMES[1])] == [0, 0, 0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"per_class": [1.0, 2.0]}, "cell 0 has 2 recalls for 3 classes"),
        ({"confusion": [[1, 2], [3, 4]]}, "cell 0 has 2 rows of confusion for 3 classes"),
        ({"confusion": [[1, 2, 3], [4, 5]]}, "the confusion of cell 0 is not square"),
        ({"confusion": [[1, 2, 3]]}, "the confusion of cell 0 is not square"),
        ({"confusion": "abc"}, r"evaluation\.json is damaged \(cells\.0\.confusion: Input should be a valid list"),
    ],
)
def test_what_does_not_fit_the_classes_is_one_line(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    out = make_run(tmp_path, NAMES, evaluation=evaluation(cells=[cell() | wrong]))
    with pytest.raises(ConcordError, match=rf"evaluation\.json is damaged.*{message}|{message}"):
        write_report(out)


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    traps = (HOSTILE, "'\"><img src=x onerror=a>", "{{ 7 * 7 }}")
    values = evaluation(
        traps,
        notes=[HOSTILE],
        teacher={"name": HOSTILE, HOSTILE: HOSTILE},
        soft_labels={HOSTILE: HOSTILE},
        ranking=[{"student": HOSTILE, "ipc": HOSTILE}],
        coverage={"space": HOSTILE, "k": HOSTILE, "notes": [HOSTILE], "classes": [{"label": 0}, {"label": 1}]},
    )
    values["cells"][0] |= {"student": HOSTILE, "protocol": traps[1]}
    page = page_of(make_run(tmp_path, traps, evaluation=values))
    assert not [a for a, _ in page.all("img") if a.get("src") == "x"]
    assert len([a for a, _ in page.all("script") if "type" not in a]) == 1
    assert page.all("main")[0][1].count(HOSTILE) > 10
    assert "49" not in "".join(text for a, text in page.all("ol") if a.get("class") == "recalls")


def test_facts_are_words() -> None:
    values = json.loads('{"store_bytes": 1500000, "top_k": 10, "quantised": true, "cost": 0.123456789, "more": [1]}')
    assert facts(values) == [("store", "1.5 MB"), ("top k", "10"), ("quantised", "yes"), ("cost", "0.123457")]


def test_a_metric_has_a_column_by_its_label_and_one_that_is_gone_by_its_name(tmp_path: Path) -> None:
    values = {name: {"seeds": [0], "last": summary([number])} for name, number in (("ece", 0.125), ("gone", 2.0))}
    out = make_run(tmp_path, NAMES, evaluation=evaluation(cells=[cell(None, metrics=values), cell(None)]))
    page = page_of(out)
    heads = [text for _, text in page.all("th")]
    assert heads[heads.index("Top-1 in %, best epoch") + 1 :][:3] == ["Calibration error", "Gone", "Time"]
    shown = figures(page, out)
    assert shown["evaluation.json:cells.0.metrics.ece.last.mean"] == "12.5\N{NO-BREAK SPACE}%"
    assert shown["evaluation.json:cells.0.metrics.gone.last.mean"] == "2.000"
    assert "evaluation.json:cells.1.metrics.ece.last.mean" not in shown
