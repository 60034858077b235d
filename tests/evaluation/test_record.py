"""The record: what a table is made of, and what an evaluation that was killed goes on from."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, recall_score

from concord.errors import ConcordError
from concord.evaluation.record import FILE, Trial, find, name, placed, read_record, recalls, with_trial, write_record

CELL: dict[str, Any] = {
    "student": "convnet-3",
    "protocol": "rded",
    "ipc": 10,
    "changed": {"epochs": 5},
    "settings": "0123",
    "reports": "best",
}


def trial(seed: int, last: float = 50.0, best: float = 60.0, confusion: Any = ((3, 1), (2, 2))) -> Trial:
    return Trial(seed, last, best, 1.25, np.array(confusion))


def filled(*trials: Trial) -> dict[str, Any]:
    cell = CELL
    for one in trials:
        cell = with_trial(cell, one)
    return dict(cell)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=8))
def test_means_and_sample_deviations_over_seeds(values: list[float]) -> None:
    cell = filled(*(trial(seed, last=value, best=100 - value) for seed, value in enumerate(values)))
    for which, of in (("last", values), ("best", [100 - value for value in values])):
        found = cell["top1"][which]
        assert found["mean"] == pytest.approx(statistics.mean(of), abs=2e-4)
        assert found["std"] == pytest.approx(statistics.stdev(of), abs=2e-4)
        assert found["values"] == pytest.approx(of, abs=1e-4)


def test_a_single_seed_has_no_deviation() -> None:
    cell = filled(trial(7, 43.21))
    assert cell["seeds"] == [7]
    assert cell["top1"]["last"] == {"mean": 43.21, "std": 0.0, "values": [43.21]}


@given(st.permutations([0, 3, 5, 11]))
def test_seeds_ascend_with_their_values_in_whatever_order_they_came(order: list[int]) -> None:
    """Trained by several processes, they come as they are ready; what is written does not tell."""
    cell = filled(*(trial(seed, last=seed, best=50 + seed) for seed in order))
    assert cell["seeds"] == [0, 3, 5, 11]
    assert cell["top1"]["last"]["values"] == [0, 3, 5, 11]
    assert cell["top1"]["best"]["values"] == [50, 53, 55, 61]


def test_confusions_are_summed_and_recalls_are_scikits() -> None:
    rng = np.random.default_rng(0)
    true = np.repeat([0, 1, 2], 20)
    given_ = [rng.integers(0, 3, 60) for _ in range(3)]
    cell = filled(*(trial(i, confusion=confusion_matrix(true, one)) for i, one in enumerate(given_)))
    every, all_given = np.tile(true, 3), np.concatenate(given_)
    assert cell["confusion"] == confusion_matrix(every, all_given).tolist()
    assert cell["per_class"] == pytest.approx(100 * recall_score(every, all_given, average=None), abs=0.01)
    assert cell["seconds"] == 3.75
    assert json.loads(json.dumps(cell)) == cell


def test_a_class_without_test_images_has_a_recall_of_zero() -> None:
    assert recalls(np.array([[2, 2], [0, 0]])).tolist() == [0.5, 0.0]


def test_a_cell_is_left_as_it_was() -> None:
    before = filled(trial(0))
    copy = json.loads(json.dumps(before))
    with_trial(before, trial(1))
    assert before == copy


def test_a_cell_is_found_by_its_name_and_settings() -> None:
    earlier = filled(trial(0))
    record = {"cells": [{**CELL, "ipc": 1, "seeds": [4]}, earlier]}
    assert find(record, CELL) == earlier
    assert find({}, CELL) is None
    for key, other in (("settings", "4567"), ("student", "resnet-18"), ("protocol", "hard"), ("ipc", None)):
        assert find(record, {**CELL, key: other}) is None, key
    assert find(record, {**CELL, "changed": {"epochs": 6}}) is None


def test_what_was_changed_is_part_of_a_name_in_any_order() -> None:
    one, other = ({**CELL, "changed": dict(pairs)} for pairs in ([("a", 1), ("b", 2)], [("b", 2), ("a", 1)]))
    assert name(one) == name(other) != name(CELL)
    without = {key: value for key, value in CELL.items() if key != "changed"}
    assert name(without) == name({**CELL, "changed": {}}) == name({**CELL, "changed": None})


def test_a_cell_takes_the_place_of_its_earlier_state() -> None:
    first, second = filled(trial(0)), {**CELL, "ipc": 50}
    more = with_trial(first, trial(1))
    assert placed([first, second], more) == [more, second]
    outdated = {**first, "settings": "of other images"}
    assert placed([second, outdated], more) == [second, more]
    assert placed([second], more) == [second, more]
    assert placed([], more) == [more]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record = {"test": "photos", "classes": ["a", "ß"], "cells": [filled(trial(0), trial(1))]}
    write_record(tmp_path / FILE, record)
    back = read_record(tmp_path / FILE)
    assert back == {"schema": 1, **record}
    write_record(tmp_path / FILE, back)
    assert read_record(tmp_path / FILE) == back
    assert read_record(tmp_path / "nowhere.json") == {}


KEYS = st.sampled_from(["cells", "student"])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["cells", "student"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.binary(max_size=30), ANY.map(lambda values: json.dumps(values).encode())))
def test_a_damaged_record_is_an_error_of_the_users_or_a_record(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(text)
    try:
        record = read_record(path)
    except ConcordError as error:
        assert "is damaged: expected what `concord evaluate` left" in str(error)
    else:
        assert find(record, CELL) is None
        assert placed(record.get("cells", []), CELL)


def test_a_torn_or_monstrous_record_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / FILE
    write_record(path, {"cells": [filled(trial(0))]})
    whole = path.read_bytes()
    for text in (whole[: len(whole) // 2], b"", b"[" * 100_000, b'{"cells": 3}', b'{"cells": [{}]}', b"\xff\xfe"):
        path.write_bytes(text)
        with pytest.raises(ConcordError, match=r"evaluation\.json is damaged"):
            read_record(path)
