"""The comparison with Minimax's own code: what is said of it is what was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import minimax_parity
import pytest
import torch
from record import RESULTS

from concord.models.students import build_student


def test_the_record_has_every_part_alike() -> None:
    record = json.loads((RESULTS / "minimax_parity.json").read_text())
    assert set(record["alike"]) == {"settings", "networks", "views", "training"} and all(record["alike"].values())
    assert {(row["network"], row["size"]) for row in record["networks"]} == set(minimax_parity.NETWORKS)
    assert {(row["ipc"], row["classes"]) for row in record["settings"]} == set(minimax_parity.CELLS)


def test_their_names_of_layers_become_ours() -> None:
    ours = build_student("resnet-18", 10, 32, norm="instance").net.state_dict()
    theirs = {f"layer0.{name}" if name.startswith(("conv1", "bn1")) else name: w for name, w in ours.items()}
    assert minimax_parity.renamed(theirs, "resnet-18").keys() == ours.keys()
    assert minimax_parity.renamed(theirs, "resnetap-10").keys() == theirs.keys()


def test_batches_are_given_epoch_by_epoch() -> None:
    batches = [(torch.full((1,), float(number)), torch.zeros(1)) for number in range(3)]
    loader = minimax_parity.Given([batches[:2], batches[2:]])
    assert [len(list(loader)) for _ in range(2)] == [2, 1]


def test_another_folder_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no checkout"):
        minimax_parity.main([str(tmp_path)])
