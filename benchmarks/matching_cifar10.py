"""What distribution matching gives on CIFAR-10 at IPC 10 within a core-hour: DM and IDM, beside their own beginnings.

    python benchmarks/matching_cifar10.py --data DIR           # DIR/train.parquet, DIR/test.parquet
    python benchmarks/matching_cifar10.py --data DIR --so-far  # of descents that are not finished what there is

Both are the published settings of recipes `cifar-10-dm` and `cifar-10-idm` but for what a processor core can do in an
hour: 64 real images of a class in an iteration, fewer iterations, and for IDM one network that is trained
three steps of 64 images. `beginning` is where each begins: ten real images of each class, and forty of half the side in
ten. All are evaluated by the protocol `dc` with DSA, as the field's tables are: a ConvNet-3 trained 1,000 epochs, the
last accuracy, the mean over seeds; --epochs and --seeds ask for less.

Everything goes through the command line, as a user would do it; a stopped benchmark goes on where it was. Sets lie
below --work. The record has each descent's iterations, its processor seconds and its losses; with --only some of them,
what is recorded of the others stays. Writes benchmarks/results/matching_cifar10.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from evaluation_tables import DTYPE, cells, concord
from record import RESULTS, head, write

from concord.data import open_data
from concord.data.space import Space
from concord.data.tensor_set import TensorForm, save_tensors
from concord.methods.joint import STATE, read_state
from concord.workflows.distill import FITTED

FEWER = {
    "dm": ("dm.real=64", "dm.iterations=3000"),
    "idm": ("idm.real=64", "idm.trained=1", "idm.steps=3", "idm.batch=64", "idm.iterations=1500"),
}
"""What differs from the recipes, so that a descent takes about an hour of a core."""
BEGINNING = {method: (f"{method}.iterations=1", f"{method}.lr=1e-9") for method in FEWER}
"""A descent that stays where it begins."""
PUBLISHED = {
    "source": "ConvNet-3, top-1 mean ± std in percent at IPC 10, as later papers quote DM and IDM; random images, and"
    " the authors' own sets of DM, as dc_benchmark evaluated them",
    "random": "31.0",
    "dm": "48.9 ± 0.6",
    "dm, dc_benchmark": "47.64",
    "idm": "58.6 ± 0.1",
}


def distilled(name: str, method: str, settings: tuple[str, ...], options: argparse.Namespace, log: list[str]) -> None:
    """Make a set below the working directory, unless only what there is shall be taken."""
    train = options.data / "train.parquet"
    given = [f"cifar-10-{method}", f"data={train}", DTYPE, *settings]
    skipped = options.so_far and settings == FEWER[method]
    concord(["distill", *given, "--out", str(options.work / name), "--quiet"], log, options.work, skipped)


def descent(name: str, options: argparse.Namespace, factor: int) -> tuple[Path, dict[str, Any]] | None:
    """Where a set's floats lie, and what is known of its descent; of one that is not finished what it has come to.

    None: nothing is there.
    """
    run = options.work / name
    if (results := run / "results.json").is_file():
        found: dict[str, Any] = json.loads(results.read_text(encoding="utf-8")).get("descent", {})
        return run, {"finished": True, **found}
    state = read_state(run / FITTED / STATE)
    if not options.so_far or state is None:
        return None
    place = options.work / f"{name}-{state['iteration']}"
    place.mkdir(exist_ok=True)
    space = Space.of_tensors(state["space"])
    assert space is not None
    classes = open_data(str(options.data / "train.parquet")).classes
    labels = [entry.label for entry in classes for _ in range(len(state["images"]) // len(classes))]
    import torch

    form = TensorForm(space, decode=factor)
    save_tensors(place / "tensors.safetensors", state["images"], torch.tensor(labels), classes, form)
    facts = {"finished": False, "iterations": state["iteration"], "cpu_seconds": round(state["cpu_seconds"], 1)}
    return place, {**facts, "loss": state["losses"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of train.parquet and test.parquet")
    parser.add_argument("--work", type=Path, default=Path("out/matching"), help="where sets lie")
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["dm", "idm", "dm-beginning", "idm-beginning"])
    parser.add_argument("--so-far", action="store_true", help="take descents as they are, and go on with none")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    out = RESULTS / "matching_cifar10.json"
    before = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    commands, found = list[str](), dict[str, Any](before.get("sets", {}))
    for name in options.only:
        method, _, beginning = name.partition("-")
        distilled(name, method, BEGINNING[method] if beginning else FEWER[method], options, commands)
        made = descent(name, options, 2 if method == "idm" else 1)
        if made is None:
            print(f"{name:<14} has no checkpoint yet", flush=True)
            continue
        place, facts = made
        protocol = ["protocol=dc", f"epochs={options.epochs}", "augment.dsa=color_crop_cutout_flip_scale_rotate"]
        how = ["student=convnet-3", *protocol, f"seeds={options.seeds}", DTYPE, "workers=1"]
        test = str(options.data / "test.parquet")
        concord(["evaluate", str(place), "--test", test, *how, "--quiet"], commands, options.work)
        found[name] = {"descent": facts, "cells": cells(place)}
        values = found[name]["cells"][-1]["top1"]["last"]
        print(
            f"{name:<14} {facts.get('iterations')} iterations: {values['mean']:.1f} ± {values['std']:.1f}", flush=True
        )
    said = [*before.get("commands", []), *commands]
    hidden = {str(options.work): "WORK", str(options.data): "DATA"}
    record = head("matching_cifar10.py --data DATA", "1 thread", sets=found, published=PUBLISHED, commands=said)
    write(out, record, hidden)


if __name__ == "__main__":
    main()
