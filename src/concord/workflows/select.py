"""Concepts selected on the nodes of a cluster, a class a job."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from concord.choices import Unreadable
from concord.concepts.bank import Bank
from concord.concepts.selection import Concept, candidates, select_class
from concord.data import ImageSet, open_data, restrict
from concord.models.encoder import Encoder, load_encoder
from concord.runs.begin import versions
from concord.storage.cluster import Cluster
from concord.storage.crew import unheard
from concord.system import version
from concord.workflows.executors import require_facts


@dataclass(frozen=True)
class Selecting:
    """What is selected from what.

    data, encoder: as every node finds them. classes: of the data, all if empty. bank: reaches the nodes with this. how:
    ``keep``, ``most``, ``pinned`` and ``skip_unreadable`` of `concord.concepts.selection.select_classes`.
    """

    data: str
    classes: tuple[str, ...]
    grey_range: tuple[int, int] | None
    bank: Bank
    encoder: str
    how: Mapping[str, Any]


def select_on(
    cluster: Cluster, asked: Selecting, data: ImageSet, told: Callable[[str], None] = unheard
) -> list[list[Concept]]:
    """Select the concepts of every class, in label order, as `select_classes` does on this machine.

    A worker has a GPU where there are some, else as many cores as this process has threads: the last bits of sums
    depend on them. data: the images as they are found here. Raises ConcordError: a node has other images or packages.
    """
    threads, gpu = torch.get_num_threads(), cluster.resources().get("GPU", 0) >= 1
    near, workers = cluster.sized(len(data.classes), threads, gpu, told)
    given = asked, "cuda" if gpu else "cpu", threads, _facts(asked, data)
    found = dict(near.spread(_select, range(len(data.classes)), workers, _begin, given, told))
    return [found[label] for label in range(len(data.classes))]


def _facts(asked: Selecting, data: ImageSet) -> dict[str, Any]:
    return {"concord": version(), **versions(), asked.data: data.fingerprint}


@dataclass(frozen=True)
class _Worker:
    asked: Selecting
    data: ImageSet
    encoder: Encoder


_worker: _Worker | None = None


def _begin(rank: int, asked: Selecting, device: str, threads: int, facts: Mapping[str, Any]) -> None:
    global _worker
    torch.set_num_threads(threads)
    unreadable: Unreadable = "skip" if asked.how["skip_unreadable"] else "error"
    opened = open_data(asked.data, unreadable, "--skip-unreadable", grey_range=asked.grey_range)
    data = restrict(opened, list(asked.classes) or None, {})
    require_facts(_facts(asked, data), facts)
    _worker = _Worker(asked, data, load_encoder(asked.encoder, device=device, key="--encoder"))


def _select(label: int) -> tuple[int, list[Concept]]:
    if _worker is None:
        raise RuntimeError("the worker was not started by _begin")
    how = dict(_worker.asked.how)
    phrases, how["pinned"] = candidates(_worker.data, _worker.asked.bank, how["pinned"])[label]
    return label, select_class(_worker.data, label, phrases, _worker.encoder, **how)
