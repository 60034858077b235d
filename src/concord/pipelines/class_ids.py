"""The class id that a generative model is asked for: a wrong one gives a plausible image of another class."""

from collections.abc import Mapping

from concord.data import ClassTable
from concord.data.class_lists import by_wnid
from concord.errors import ConcordError
from concord.text import meant, nearest

_AGREEING = 0.95


def class_ids(labels: Mapping[str, int], classes: ClassTable, model: str) -> list[int]:
    """Return the model's class id of every class, in label order; a ConcordError where it has none of that name.

    A class that a WordNet id places in ImageNet has its place there, if the model's labels are ImageNet's; they are
    judged as a whole, because single names decide nothing: two classes are called crane. Any other goes by its name.
    labels: the model's class id by name; empty where it names none, and then numbers are taken as they are.
    """
    imagenet = not labels or _share(labels) >= _AGREEING
    ids = []
    for entry in classes:
        names = [] if imagenet and entry.model_id is not None else meant(entry.class_name, labels)
        found = labels[names[0]] if len(names) == 1 else entry.model_id if imagenet else None
        if found is None:
            raise ConcordError(
                f"the model {model!r} has no class {entry.class_name!r}{nearest(entry.class_name, labels)}:"
                f" map the folder to one of its {len(labels)} labels with class_names.{entry.key}=NAME"
            )
        ids.append(found)
    return ids


def _share(labels: Mapping[str, int]) -> float:
    """How much of ImageNet-1K has one of its names at its own place among the labels."""
    listed = by_wnid().values()
    return sum(any(labels.get(name) == c.index for name in c.names) for c in listed) / len(listed)
