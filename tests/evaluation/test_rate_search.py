"""DD-Ranking's own way to its scores, beside the package itself, driven on the same images with the same students."""

from __future__ import annotations

import csv
import json
import math
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commanding import NET, colour_teacher, record, refused, sets, succeed
from small_sets import write_folders

from concord.data import open_data
from concord.errors import ConcordError
from concord.evaluation import evaluate as trials
from concord.evaluation.protocols import is_eval_epoch
from concord.evaluation.rate_search import FILE, RATES, WAY, at_rates, best, chosen, of_full, scores
from concord.evaluation.settings import read_settings
from concord.metrics.ddranking import augmentation_robust_score, label_robust_score
from concord.metrics.statistics import summary
from concord.models.students import build_student
from concord.models.teachers import load_teacher
from concord.runs.draws import draw_path
from test_formats import unnamed

CLASSES = ("ash", "birch", "cedar", "elm", "fir")
"""The package counts the five likeliest classes."""
SEEDS = 2
SGD = ("epochs=20", "batch=64", "optimiser=sgd", "weight_decay=0.0005", "decay=all", "schedule=half-cosine")
BARE = ("mixing.kind=none", "augment.crop=null", "augment.flip=false", "augment.patch_shuffle=0", "augment.color=0")
ALIKE = (*SGD, *BARE, "augment.lighting=0", "double_pass=false", "temperature=2", "norm=instance", "test_resize=size")


def noting(search: Any, found: list[tuple[float, float]]) -> Any:
    """A search of the package that also leaves what it found: the best accuracy, and its rate."""

    def noted(self: Any, **more: Any) -> Any:
        found.append(search(self, **more))
        return found[-1]

    return noted


def theirs(monkeypatch: pytest.MonkeyPatch, made: Path, real: Path, test: Path, teacher: Path, out: Path) -> Any:
    """Each run of the package's label-robust score, and what each search came to, on our students.

    Stood in for are the data sets that it would download, and its networks, by ours of a run's seed.
    """
    package = pytest.importorskip("ddranking.metrics.soft_label", reason="ddranking is not installed")
    from torchvision import datasets, transforms

    to_tensor = transforms.ToTensor()
    tested, full = (datasets.ImageFolder(str(place), transform=to_tensor) for place in (test, real))
    order = {label: label for label in range(len(CLASSES))}
    built, runs, really, found = count(), count(), package.set_seed, list[tuple[float, float]]()

    def build(model_name: str, pretrained: bool = False, **_: Any) -> torch.nn.Module:
        if pretrained:
            return load_teacher(str(teacher), open_data(str(made)).classes).network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(next(built) // (3 * len(RATES)))  # hard labels, soft ones, random images
            return build_student("convnet-1", len(CLASSES), 16, norm="instance", width=4)

    monkeypatch.setattr(
        package, "get_dataset", lambda *_: (3, (16, 16), 0, 1, len(CLASSES), full, tested, tested, order, order)
    )
    for kind in ("hard", "soft"):
        name = f"_hyper_param_search_for_{kind}_label"
        monkeypatch.setattr(
            package.LabelRobustScoreSoft, name, noting(getattr(package.LabelRobustScoreSoft, name), found)
        )
    monkeypatch.setattr(package, "build_model", build)
    monkeypatch.setattr(package, "set_seed", lambda: really(next(runs)))
    monkeypatch.setitem(package.REAL_DATA_ACC_CACHE, "drawn-ours", 90.0)
    monkeypatch.chdir(out)  # where it leaves the random images of each run
    score = package.LabelRobustScoreSoft(
        dataset="drawn",
        model_name="ours",
        ipc=2,
        loss_fn_kwargs={"temperature": 2.0, "scale_loss": False},
        data_aug_func=None,
        soft_label_mode="M",
        lr_scheduler="cosine",
        num_eval=SEEDS,
        im_size=(16, 16),
        num_epochs=20,
        random_data_format="image",
        syn_batch_size=64,
        save_path=str(out / "scores.csv"),
        num_workers=0,
        teacher_model_names=["teacher"],
        custom_train_trans=to_tensor,
        custom_val_trans=to_tensor,
        device="cpu",
    )
    score.compute_metrics(image_path=str(made))
    with (out / "scores.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)], found


def test_search_selection_and_formula_are_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy and rate of every search are equal, to the rounding of a record; a test image counts for two points.

    The release 0.2.0 puts percentage points into the exponential: LRS is held against the definition, from its HLR and
    IOR.
    """
    made, test = sets(tmp_path, images=2, tests=10, classes=CLASSES)
    real = write_folders(tmp_path / "real", dict.fromkeys(CLASSES, 6), seed=3)
    teacher = colour_teacher(tmp_path / "t.safetensors", CLASSES, sure=6.0)
    runs, searches = theirs(monkeypatch, made, real, test, teacher, tmp_path)
    random = tmp_path / "random_data" / "drawn_IPC2"
    for number in range(SEEDS):  # their draws of random images, as draws of ours
        for label, name in enumerate(CLASSES):
            (random / f"iter{number}" / f"{label:05d}").rename(random / f"iter{number}" / name)
        (random / f"iter{number}").rename(draw_path(random, number))
    shared = (*NET, *ALIKE, "size=16", "-q", "--test", test)
    succeed("evaluate", real, *shared, "protocol=hard", "seeds=1", "epochs=1")
    full = record(real)
    full["cells"][0]["top1"]["best"]["mean"] = 90.0
    (real / "evaluation.json").write_text(json.dumps(full))
    more = (f"seeds={SEEDS}", "protocol=rded,hard", f"teacher={teacher}", "--random", random, "--full", real)
    words = ("evaluate", made, *shared, *more, "ranking=ddranking")
    succeed(*words)
    [row] = record(made)["ranking"]
    hlr, ior = (np.array([run[key] for run in runs]) for key in ("hard_label_recovery", "improvement_over_random"))
    close = {"abs": 1e-3}
    assert row["lrs"]["hlr"] == pytest.approx(hlr.mean(), **close)
    assert row["lrs"]["ior"] == pytest.approx(ior.mean(), **close)
    each = [100 * (math.exp(a / 200) - math.exp(-1)) / (math.e - math.exp(-1)) for a in ior - hlr]
    assert row["lrs"]["runs"] == pytest.approx(each, **close)
    assert row["lrs"]["score"] == pytest.approx(np.mean(each), **close)
    assert row["way"] == WAY and row["ars"] is None
    assert {of: len(rates) for of, rates in row["rates"].items()} == dict.fromkeys(
        ("made rded", "made hard", "random rded"), SEEDS
    )
    drawn = [record(draw_path(random, seed) / FILE)["cells"] for seed in range(SEEDS)]
    own = record(made / FILE)["cells"]
    of = [
        (seed, name, drawn[seed] if name.startswith("random") else own)
        for seed in range(SEEDS)
        for name in ("made hard", "made rded", "random rded")
    ]
    for (seed, name, cells), (top, rate) in zip(of, searches, strict=True):
        mine, _ = best(cells, "convnet-1", 2, name.split()[1], seed)
        assert (mine, row["rates"][name][seed]) == (pytest.approx(top, **close), rate), name
    assert unnamed({"ranking": [row]}, "evaluation.json") == set()
    assert len(record(made / FILE)["cells"]) == 2 * len(RATES)
    monkeypatch.setattr(trials, "train_cell", None)
    said, _ = succeed(*(word for word in words if word != "-q"))
    assert "best of five" in said and "other figures" in said, "and nothing is trained again"
    assert "holds 2 draws" in refused(*words, "seeds=3")
    said, _ = succeed(*(word for word in words if word != "-q"), "--dry-run")
    assert said.count("all there") == 2 + 2 * len(RATES) + 2 * len(RATES)
    assert said.count("lr=0.05") == 4


def cell(name: str, rate: float, *values: float, **more: Any) -> dict[str, Any]:
    of = {"student": "c3", "ipc": 10, "protocol": name, "changed": {"lr": rate}, "reports": "best"}
    top1 = {"best": summary([*values]), "last": summary([0.0] * len(values))}
    return {**of, "seeds": list(range(len(values))), "top1": top1, **more}


def test_a_run_keeps_its_own_best_rate_and_the_first_of_equals() -> None:
    cells = [
        cell("rded", rate, *values)
        for rate, values in zip(RATES, [(5, 7), (9, 7), (9, 8), (1, 8), (0, 0)], strict=True)
    ]
    assert [best(cells, "c3", 10, "rded", seed) for seed in (0, 1)] == [(9.0, 0.005), (8.0, 0.01)]


def test_both_scores_are_means_over_runs_of_their_own_random_images() -> None:
    _, ways = read_settings(["protocol=rded,hard,plain"])
    made = [cell("rded", 0.01, 50, 54), cell("hard", 0.01, 30, 31), cell("plain", 0.01, 40, 41)]
    random = [[cell("rded", 0.1, 44), cell("plain", 0.1, 39)], [cell("rded", 0.1, 0, 46), cell("plain", 0.1, 0, 35)]]
    full = [cell("hard", 0.01, 80.0, ipc=None), cell("hard", 0.01, 84.0, ipc=50), cell("rded", 0.01, 99.0, ipc=None)]
    full = of_full(full, chosen(ways), ["c3"])
    with pytest.raises(ConcordError, match="no accuracy of c4 with protocol=hard"):
        of_full(full, chosen(ways), ["c3", "c4"])
    [row] = scores(made, random, full, chosen(ways), [0, 1])
    label = [
        label_robust_score(full_hard=84, made_hard=h, made_any=a, random_any=r)
        for h, a, r in ((30, 50, 44), (31, 54, 46))
    ]
    views = [
        augmentation_robust_score(made_augmented=a, random_augmented=r, made_plain=p, random_plain=q)
        for a, r, p, q in ((50, 44, 40, 39), (54, 46, 41, 35))
    ]
    for key, expected in (("lrs", label), ("ars", views)):
        assert row[key]["score"] == pytest.approx(np.mean([one["score"] for one in expected]))
        assert row[key]["runs"] == pytest.approx([one["score"] for one in expected])
    assert (row["lrs"]["hlr"], row["lrs"]["ior"], row["ars"]["plain"]) == (53.5, 7, 3.5)
    assert scores(made, random, [], chosen(ways), [0, 1])[0]["lrs"] is None


def test_hard_labels_alone_are_the_methods_own() -> None:
    _, ways = read_settings(["protocol=hard"])
    full, random = [cell("hard", 0.01, 80.0, ipc=None)], [[cell("hard", 0.1, 20)]]
    [row] = scores([cell("hard", 0.01, 30)], random, full, chosen(ways), [0])
    assert (row["lrs"]["hlr"], row["lrs"]["ior"]) == (50, 10)
    assert row["rates"] == {"made hard": [0.01], "random hard": [0.1]}


def test_a_way_is_tried_at_every_rate_and_judged_as_the_package_judges() -> None:
    _, [way] = read_settings(["protocol=rded", "epochs=300"])
    tried = at_rates(way, "twentieth")
    assert [one.protocol.lr for one in tried] == [0.001, 0.005, 0.01, 0.05, 0.1]
    judged = [epoch + 1 for epoch in range(300) if is_eval_epoch(tried[0].protocol, epoch, 300)]
    assert judged == list(range(20, 301, 20))
    assert {key for key, value in way.protocol if getattr(tried[2].protocol, key) != value} == {"lr", "judge"}
    assert [one.among(1000).protocol.lr for one in tried] == list(RATES), "above 100 classes, too"


def test_what_no_score_can_come_of_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = sets(tmp_path, images=2)
    monkeypatch.setattr(trials, "train_cell", None)
    words = ("evaluate", train, "--test", test, *NET, "ranking=ddranking", "-q")
    for more, told in (
        (["protocol=rded,hard"], "for the label-robust score give protocol=rded,hard and --full DIR"),
        (["protocol=rded,plain", "lr=0.1"], "leave lr= and judge= out"),
        (["protocol=rded,plain"], "does not say which images it was made of"),
        (["protocol=rded,plain", "soft_labels=store"], "ranking takes random images"),
        (["protocol=rded,plain", "--out", tmp_path / "x.json"], "ranking= evaluates others with it"),
        (["protocol=rded,plain", test], "ranking= is for one set"),
    ):
        assert told in refused(*words, *more)
    assert not (train / "evaluation.json").exists()
