"""Every method on reef at IPC 1 and 10, in three regimes of labels: one table, three draws of what is drawn.

    python benchmarks/methods_reef.py           # some hours of a CPU core; a killed benchmark goes on where it was
    python benchmarks/methods_reef.py --sets dm-1 dm-10    # recorded beside what there is
    python benchmarks/methods_reef.py --tiny    # tries the script: a few steps of everything, recorded in --work

Everything goes through the command line, as in evaluation_tables.py, and the commands are in the record. Students are
ConvNet-3 of width 32 at 32 px, trained with a teacher's labels anew at each step (soft), with one stored label an image
(fixed) and with the set's own (hard). What each method descends with is far shorter than what is published for CIFAR:
the commands say how long. Methods whose IPC is part of what they are have a set an IPC.

Informed and uninformed sets, and herding's, are those of evaluation_reef.json, trained on by the same commands with a
teacher of its own; random images are in both, by which the teachers are told to be alike.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from evaluation_tables import (
    DRAWS,
    DTYPE,
    LABELS,
    REGIMES,
    Set,
    Table,
    concord,
    markdown,
    measure,
    spread,
    values_of,
    with_before,
    with_others,
)
from record import RESULTS, head, write

IPC = (1, 10)
OTHERS = {name: ("reef", name) for name in ("informed", "uninformed", "herding")}
"""Sets of evaluation_tables.py."""


def experts(work: Path, tiny: bool) -> list[str]:
    """The command that trains what mtt matches."""
    size = ("experts=1", "epochs=2", "width=8") if tiny else ("experts=5", "epochs=15", "width=32")
    return ["experts", "reef", "--out", str(work / "experts"), "size=32", "batch=100", *size, "--quiet"]


def methods(work: Path, tiny: bool = False) -> Table:
    """All methods that make a set of reef; of what is informed also the counterparts, random images and a coreset."""
    teacher = f"teacher={work / 'teacher.safetensors'}"
    epochs, draws = ("epochs=2", DRAWS[:2]) if tiny else ("epochs=300", DRAWS)
    student = ("student=convnet-3", "width=32", "size=32", DTYPE, "seeds=1", epochs, teacher, *REGIMES)
    together = ((*student, f"ipc={','.join(map(str, IPC))}"),)
    short = {"dm": 5, "idm": 5, "mtt": 5} if tiny else {"dm": 300, "idm": 100, "mtt": 100}

    def joint(name: str, *settings: str) -> list[Set]:
        own = (f"method={name}", f"{name}.iterations={short[name]}", *settings)
        return [
            Set(f"{name}-{ipc}", ("reef", *own, f"ipc={ipc}"), ((*student, f"ipc={ipc}"),), draws=draws) for ipc in IPC
        ]

    def grown(name: str, *settings: str) -> Set:
        drawn = draws if name != "k_center" else ()
        return Set(name, ("reef", f"method={name}", f"ipc={IPC[-1]}", *settings), together, draws=drawn)

    recovered = (f"sre2l.iterations={5 if tiny else 150}", "sre2l.preset=cifar", "size=32", teacher)
    networks = [(f"{name}.width=32", f"{name}.real=64", "size=32") for name in ("dm", "idm")]
    trained = ("idm.trained=1", "idm.steps=3", "idm.batch=64")
    matched = (f"mtt.experts={work / 'experts'}", "mtt.steps=10", f"mtt.start={1 if tiny else 10}", "mtt.rate_lr=1e-6")
    return Table(
        "reef-test",
        (
            grown("random"),
            grown("k_center", "features=teacher", teacher),
            grown("rded", "size=64", teacher),
            grown("sre2l", *recovered),
            *joint("dm", *networks[0]),
            *joint("idm", *networks[1], *trained),
            *joint("mtt", *matched),
        ),
        (
            "reef",
            "student=convnet-3",
            "width=32",
            "size=32",
            f"epochs={2 if tiny else 20}",
            "batch=100",
            DTYPE,
        ),
        not_run=(
            "minimax fine-tuning: minimax_reef.py",
            "ResNet-18 at 64 px, and descents as long as published: these want a GPU",
        ),
    )


def table(sets: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A row a method, a column an IPC and a regime: mean and deviation over draws, of the accuracy that is reported."""
    columns = [(protocol, ipc) for ipc in IPC for protocol in LABELS]
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, found in sets.items():  # a method whose IPC is part of what it is has a set an IPC
        rows.setdefault(name.partition("-")[0], []).extend(found)
    heads = [f"IPC {ipc}, {LABELS[protocol]}" for protocol, ipc in columns]
    return markdown(
        [
            ["method", *heads],
            *([name, *(spread(values_of(cells, *key)) for key in columns)] for name, cells in rows.items()),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, help="where sets, teacher and experts lie; out/evaluation/methods if not given"
    )
    parser.add_argument("--collect", action="store_true", help="record what is there, and make nothing")
    parser.add_argument("--sets", nargs="*", help="make these alone; recorded is all that is there")
    parser.add_argument("--tiny", action="store_true", help="a few steps of everything, to try the script")
    options = parser.parse_args()
    work = options.work or Path("out") / "evaluation" / ("methods-tiny" if options.tiny else "methods")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    work.mkdir(parents=True, exist_ok=True)
    commands: list[str] = []
    wanted = options.sets is None or any(name.startswith("mtt") for name in options.sets)
    concord(experts(work, options.tiny), commands, work, options.collect or not wanted)
    chosen = methods(work, options.tiny)
    found = measure(chosen, work, options.collect, options.sets)
    path = (work if options.tiny else RESULTS) / "methods_reef.json"
    found = with_before({**found, "commands": commands + found["commands"]}, path)
    found["not_run"] = [*(one.name for one in chosen.sets if one.name not in found["sets"]), *chosen.not_run]
    record = head("methods_reef.py", **found)
    write(path, record, {str(work): "WORK"})
    print("\n".join(table(record["sets"] if options.tiny else with_others(record, OTHERS, IPC)["sets"])))


if __name__ == "__main__":
    main()
