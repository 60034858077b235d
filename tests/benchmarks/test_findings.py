"""docs/findings.md says of each claim what the recorded run does, and the run's verdicts follow from its intervals."""

from __future__ import annotations

import json
from pathlib import Path

import findings
import pytest

from concord.reproduce.outcomes import verdict

RECORD = json.loads(findings.RECORD.read_text(encoding="utf-8"))
PAGE = (Path(__file__).parents[2] / "docs" / "findings.md").read_text(encoding="utf-8")


def test_every_claim_is_on_the_page_as_it_came_out() -> None:
    for line in findings.table(RECORD):
        assert line in PAGE
    found = findings.counts(RECORD)
    assert f"{found['confirmed']} are confirmed, {found['not told apart']} not told apart" in PAGE
    assert f"{found['contradicted']} contradicted" in PAGE


def test_what_was_recorded_was_the_whole_run() -> None:
    assert not RECORD["failed"]
    lacking = [cell for cell in RECORD["cells"] if not cell["missing"] and len(cell["values"]) < cell["of"]]
    assert lacking == []


@pytest.mark.parametrize("one", findings.judged(RECORD), ids=lambda one: f"{one.item.name}: {one.claim.says}")
def test_a_verdict_follows_from_its_interval(one: findings.Judged) -> None:
    if one.difference is not None:
        assert one.verdict == verdict(one.difference.ci95, one.claim.start, one.claim.end)
