"""The lists of the best and the worst name the samples that a reader of details.json would."""

from __future__ import annotations

from pathlib import Path

from concord.report.samples import LISTED, Judge, mark
from concord.runs.directory import Pair, Run, StoredSample


def _pair(index: int, before: list[float] | None, after: list[float]) -> Pair:
    return Pair(_sample(index, after), _sample(index, before) if before is not None else None)


def _sample(index: int, percentiles: list[float]) -> StoredSample:
    run = Run(Path())
    details = [{"phrase": str(k), "percentile": p} for k, p in enumerate(percentiles)]
    run.details = {"images": {"images/x.png": details}}  # as if read
    return StoredSample(run, "images", {"file_name": "x.png", "label": 0, "index": index})


def _indices(pairs: list[Pair]) -> list[int]:
    return [pair.after.index for pair in pairs]


JUDGE = Judge(0.25)


def test_marks_change_at_the_lower_quartile_and_the_median() -> None:
    assert [mark({"percentile": p}) for p in (0.0, 0.249, 0.25, 0.499, 0.5, 1.0)] == list("mmwwpp")
    assert mark({"percentile": 0.3}, 0.4) == "m"


def test_fewer_missing_details_count_more_than_higher_percentiles() -> None:
    gained_a_detail = _pair(0, [0.2, 0.9], [0.3, 0.5])
    gained_percentile = _pair(1, [0.3, 0.3], [0.9, 0.9])
    lost_a_detail = _pair(2, [0.3, 0.3], [0.2, 1.0])
    unchanged = _pair(3, [0.1, 0.3], [0.1, 0.3])
    pairs = [unchanged, gained_percentile, lost_a_detail, gained_a_detail]
    assert _indices(JUDGE.improved(pairs)) == [0, 1]
    assert _indices(JUDGE.failed(pairs)) == [3, 2]  # the one with the larger loss first: 0 against +0.3
    assert _indices(JUDGE.worst(pairs)) == [3, 2, 0, 1]
    assert [JUDGE.helped(p) for p in pairs] == [False, True, False, True]


def test_a_class_is_helped_by_its_images_together() -> None:
    helped, failed = _pair(0, [0.1, 0.1], [0.6, 0.6]), _pair(1, [0.5, 0.5], [0.2, 0.6])
    assert JUDGE.class_helped([helped, failed]) is True
    assert JUDGE.class_helped([failed]) is False
    assert JUDGE.class_helped([_pair(0, None, [0.5])]) is None


def test_lists_are_short_and_leave_out_what_nothing_judged() -> None:
    many = [_pair(k, [0.1], [0.1 + k / 100]) for k in range(1, 30)]
    unjudged = _pair(99, None, [])
    assert len(JUDGE.improved([*many, unjudged])) == LISTED
    assert 99 not in _indices(JUDGE.worst([*many, unjudged]))
