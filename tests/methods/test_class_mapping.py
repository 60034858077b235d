"""A wrong class id gives a plausible image of another class, and nobody notices."""

from __future__ import annotations

import pytest

from concord.data import ClassSpec, class_table
from concord.data.class_lists import class_list
from concord.errors import ConcordError
from concord.pipelines.class_ids import class_ids

IMAGENET = class_list("imagenet-1k")
LABELS = {name.strip(): int(c.index or 0) for c in IMAGENET for name in c.names}
"""As `DiTPipeline.labels` has them: of two classes with one name, the later one wins."""


def test_every_class_of_imagenet_has_its_own_place_also_where_two_share_a_name() -> None:
    classes = class_table(ClassSpec(str(c.wnid)) for c in IMAGENET)
    assert class_ids(LABELS, classes, "dit") == list(range(1000))
    assert LABELS["crane"] == 517  # by name alone, the bird would be a machine


def test_a_model_without_labels_is_taken_at_its_numbers() -> None:
    assert class_ids({}, class_table([ClassSpec("n02096294")]), "dit") == [193]


def test_a_model_with_labels_of_its_own_goes_by_name() -> None:
    labels = {"dress": 4, "Australian terrier": 7}
    assert class_ids(labels, class_table([ClassSpec("dress"), ClassSpec("n02096294")]), "mine") == [4, 7]
    with pytest.raises(ConcordError, match=r'no class \'drss\' \(did you mean "dress"\?\).*class_names\.drss=NAME'):
        class_ids(labels, class_table([ClassSpec("drss")]), "mine")


def test_imagenets_labels_in_another_order_are_not_taken_for_its_own() -> None:
    shifted = {name: (index + 1) % 1000 for name, index in LABELS.items()}
    assert class_ids(shifted, class_table([ClassSpec("n02096294")]), "shifted") == [194]
