"""What a run of `concord reproduce all --on reef` says of the paper's claims: the table of docs/findings.md.

    python benchmarks/findings.py [--record out/reproduce]

The record is results/reproduce/reproduce.json, as the command leaves it; --record takes it from a run, with its tables
and with what the sets of pairs came to (pairs.json), whose images are measured with and without informing.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from evaluation_tables import markdown
from record import RESULTS

from concord.metrics.statistics import Difference
from concord.reproduce.items import item
from concord.reproduce.outcomes import VERDICTS, Judged
from concord.reproduce.plan import SETS
from concord.reproduce.tables import difference
from concord.runs.directory import Run
from concord.runs.draws import draw_path

RECORD = RESULTS / "reproduce" / "reproduce.json"
PAIRS = RECORD.with_name("pairs.json")
PAIRED = ("figure-8", "figure-9")


def judged(record: dict[str, Any]) -> list[Judged]:
    """The claims of a record that are declared still, as they came out."""
    found = []
    for one in record["claims"]:
        of = item(one["item"])
        if claim := next((claim for claim in of.claims if claim.says == one["says"]), None):
            values = one["difference"]
            gain = Difference(**values | {"ci95": tuple(values["ci95"])}) if values else None
            found.append(Judged(of, claim, one["verdict"], gain, one["columns"]))
    return found


def counts(record: dict[str, Any]) -> dict[str, int]:
    return {verdict: sum(one.verdict == verdict for one in judged(record)) for verdict in VERDICTS}


def table(record: dict[str, Any]) -> list[str]:
    """A row a claim."""
    rows = [[one.item.label, one.claim.says, one.verdict, difference(one)] for one in judged(record)]
    return markdown([["where", "the paper says", "on reef", "difference"], *rows])


def of_pairs(record: dict[str, Any], work: Path) -> dict[str, Any]:
    """What the detector finds on the images of pairs, by row: the key ``completeness`` of results.json."""
    found = {}
    for cell in (cell for cell in record["cells"] if cell["item"] in PAIRED):
        found[cell["row"]] = Run(draw_path(work / SETS / cell["set"], 0)).results["completeness"]
    return found


def take(work: Path) -> None:
    """Copy what a run of `concord reproduce` left to the results."""
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    for name in ("reproduce.json", "reproduce.md"):
        shutil.copy(work / name, RECORD.parent)
    shutil.copytree(work / "tables", RECORD.parent / "tables", dirs_exist_ok=True)
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    PAIRS.write_text(json.dumps(of_pairs(record, work), indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path)
    if (work := parser.parse_args().record) is not None:
        take(work)
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    print(", ".join(f"{count} {verdict}" for verdict, count in counts(record).items()), "", sep="\n")
    print("\n".join(table(record)))


if __name__ == "__main__":
    main()
