"""The baselines: a biased or changing choice would flatter, or wrong, every method that is compared with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from concord.data import ImageSet, open_data
from concord.data.classes import ClassSpec, class_table
from concord.errors import ConcordError
from concord.methods import build
from concord.recipe import Recipe, validate
from concord.workflows.distill import distill

CLOTHING = Path(__file__).parents[3] / "shared" / "data" / "clothing"


class Numbers:
    """A data set of numbered one-colour images; some of them unreadable."""

    known_details = None
    fingerprint = ""
    notes = ()

    def __init__(self, counts: dict[str, int], broken: frozenset[str] = frozenset()) -> None:
        self.classes = class_table(ClassSpec(key) for key in counts)
        self._counts, self._broken = counts, broken

    def items(self, class_index: int) -> list[str]:
        key = self.classes[class_index].key
        return [f"{key}/{i:03d}" for i in range(self._counts[key])]

    def read(self, item: str) -> Image.Image:
        if item in self._broken:
            raise ConcordError(f"cannot read the image {item}")
        return Image.new("RGB", (8, 6), (int(item[-3:]), 0, 0))


def recipe(**values: Any) -> Recipe:
    return validate({"method": "random", "data": "unused", **values})


def chosen(data: ImageSet, ipc: int, **values: Any) -> list[list[str]]:
    settings = recipe(ipc=ipc, **values)
    method = build(settings, data)
    counts = [method.count(entry.label, ipc) for entry in data.classes]
    return [[method.sample(c, i).source for i in range(n)] for c, n in enumerate(counts)]


def test_a_choice_has_no_doubles_and_a_smaller_one_is_its_prefix() -> None:
    data = Numbers({"a": 30, "b": 12})
    many = chosen(data, 12)
    assert all(len(set(sources)) == 12 for sources in many)
    assert chosen(data, 5) == [sources[:5] for sources in many]
    assert sorted(many[1]) == data.items(1)


def test_the_seed_changes_the_choice_and_other_classes_do_not() -> None:
    alone, together = chosen(Numbers({"b": 50}), 6), chosen(Numbers({"a": 9, "b": 50}), 6)
    assert alone[0] == together[1]
    assert chosen(Numbers({"b": 50}), 6, seed=1) != alone


def test_every_image_is_chosen_equally_often() -> None:
    data = Numbers({"a": 10})
    counts = Counter(source for seed in range(600) for source in chosen(data, 3, seed=seed)[0])
    expected = 600 * 3 / 10
    chi_square = sum((n - expected) ** 2 / expected for n in counts.values())
    assert len(counts) == 10
    assert chi_square < 27.9  # 0.999 quantile at 9 degrees of freedom; without replacement it is smaller still


def test_too_few_images_name_the_classes_and_the_way_out() -> None:
    with pytest.raises(ConcordError, match=r'fewer images than ipc=10 asks for: "b" has 3, "c" has 7; give ipc=3 or'):
        chosen(Numbers({"a": 10, "b": 3, "c": 7}), 10)


def test_unreadable_images_are_passed_over_only_when_asked() -> None:
    whole = Numbers({"a": 10})
    broken = frozenset(chosen(whole, 10)[0][1:3])
    data = Numbers({"a": 10}, broken)
    method = build(recipe(), data)
    with pytest.raises(ConcordError, match="cannot read"):
        method.make([method.sample(0, 1)], "images")
    assert chosen(data, 8, unreadable="skip")[0] == [s for s in chosen(whole, 10)[0] if s not in broken]
    with pytest.raises(ConcordError, match='fewer readable images than ipc=9 asks for: "a" has 8'):
        chosen(data, 9, unreadable="skip")
    skipping = build(recipe(unreadable="skip"), data)
    skipping.count(0, 8)
    assert skipping.facts()["unreadable"] == 2


def test_full_takes_all_whatever_the_ipc() -> None:
    data = Numbers({"a": 3, "b": 7}, frozenset({"b/002"}))
    assert [len(s) for s in chosen(data, 1, method="full")] == [3, 7]
    assert chosen(data, 1, method="full", unreadable="skip")[1] == [s for s in data.items(1) if s != "b/002"]
    with pytest.raises(ConcordError, match="no readable images in a"):
        chosen(Numbers({"a": 1, "b": 1}, frozenset({"a/000"})), 1, method="full", unreadable="skip")


def test_images_are_kept_as_they_are_or_made_square() -> None:
    data = Numbers({"a": 3})
    for size, expected in ((None, (8, 6)), (4, (4, 4)), (16, (16, 16))):
        method = build(recipe(size=size), data)
        made = method.make([method.sample(0, 0)], "images")
        assert made[0].image.size == expected


@pytest.mark.shared
@pytest.mark.skipif(not CLOTHING.is_dir(), reason="the shared photographs are not here")
def test_real_photographs_become_a_small_set(tmp_path: Path) -> None:
    settings = validate({"method": "random", "data": str(CLOTHING), "ipc": 2, "size": 64})
    results = distill(settings, tmp_path / "o")
    assert (results["classes"], results["images"], results["made"]) == (10, 20, 20)
    again = open_data(str(tmp_path / "o"))
    assert [e.folder for e in again.classes] == sorted(p.name for p in (CLOTHING / "train").iterdir())
    pixels = np.stack([np.asarray(again.read(item)) for c in range(10) for item in again.items(c)])
    assert pixels.shape == (20, 64, 64, 3)
    assert pixels.std(axis=(1, 2, 3)).min() > 5, "a blank image among photographs"
