"""What the recorded run of `concord reproduce all --on reef` says of the paper's claims: the table of docs/findings.md.

    python benchmarks/findings.py

The record is results/reproduce/reproduce.json, as the command leaves it.
"""

from __future__ import annotations

import json
from typing import Any

from evaluation_tables import markdown
from record import RESULTS

from concord.metrics.statistics import Difference
from concord.reproduce.items import item
from concord.reproduce.outcomes import VERDICTS, Judged
from concord.reproduce.tables import difference

RECORD = RESULTS / "reproduce" / "reproduce.json"


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


def main() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    print(", ".join(f"{count} {verdict}" for verdict, count in counts(record).items()), "", sep="\n")
    print("\n".join(table(record)))


if __name__ == "__main__":
    main()
