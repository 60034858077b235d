"""What figures of pairs show, of a set that is really made and measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from concord.reproduce.items import wanted
from concord.reproduce.pictures import pairs
from concord.reproduce.places import place, read_choices
from concord.reproduce.plan import plan
from concord.reproduce.run import run

CLASSES = ("cavern goby", "meadow goby", "temple tang")
pytestmark = pytest.mark.usefixtures("small_reef")


def test_pairs_are_judged_by_the_same_phrases_so_that_those_completed_and_those_not_are_found(tmp_path: Path) -> None:
    choices = read_choices([])
    here = place("reef", choices, quick=True)
    unclip = here.methods["unclip"]
    assert unclip is not None
    few = unclip.model_copy(update={"set": [*unclip.set, f"classes={','.join(CLASSES)}"]})
    here = here.model_copy(update={"methods": here.methods | {"unclip": few}, "ipc": {10: 2}, "images": 8})
    planned = plan(wanted("figure-9"), here, tmp_path, choices)
    assert [done.why for done in run(planned, workers=1)] == [""]
    first = pairs(planned, planned.items[0])
    assert [strip.title for strip in first[:3]] == [f"{name}, number 0" for name in sorted(CLASSES)]
    assert len(first) == 6
    for strip in first:
        before, after = strip.images
        assert before.text.startswith("unCLIP: ")
        assert after.text.startswith("unCLIP informed: ")
        assert before.text.endswith("details missing")
        assert after.text.endswith("details missing")
    completed, not_completed = (
        pairs(planned, planned.items[0].model_copy(update={"pick": pick})) for pick in ("improved", "failed")
    )
    titles = {strip.title for strip in first}
    assert {strip.title for strip in completed} | {strip.title for strip in not_completed} == titles
    assert not {strip.title for strip in completed} & {strip.title for strip in not_completed}
    assert completed
