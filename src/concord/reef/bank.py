"""Write reef's concept banks: `python -m concord.reef.bank src/concord/concepts/banks`.

Ten phrases a species, five true and five that belong to its look-alikes: a language model asked about a class it has
barely seen does no better, and selection by validity (Eq. 10) has something to find out.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from concord.reef.text import PHRASES
from concord.reef.world import ALL_SPECIES, DETAILS, HELD_OUT, SPECIES, Species


def _likeness(a: Species, b: Species) -> int:
    """Shared details, and more for a shared name or form."""
    return len(set(a.details) & set(b.details)) + 2 * (a.name.split()[1] == b.name.split()[1]) + (a.form == b.form)


def bank(name: str, members: Sequence[Species], world: Sequence[Species]) -> dict[str, object]:
    """The bank of some species; look-alikes are sought among those of the world."""
    classes = {}
    for species in members:
        others = sorted((s for s in world if s is not species), key=lambda s: (-_likeness(species, s), s.name))
        foreign = [d for other in others for d in other.details if d not in species.details]
        borrowed = list(dict.fromkeys(foreign))[: 10 - len(species.details)]
        classes[species.name] = {
            "phrases": sorted(PHRASES[d] for d in DETAILS if d in (*species.details, *borrowed)),
            "look_alikes": [s.name for s in others[:3]],
        }
    return {
        "schema": 1,
        "name": name,
        "provenance": {
            "source": "written with the world (concord.reef.bank)",
            "note": "of each species' ten phrases five are true and five are its look-alikes'; selection has to tell",
        },
        # A detail belongs to several species: they differ in which five they have, not in any one.
        "shared": sorted({PHRASES[detail] for species in world for detail in species.details}),
        "classes": classes,
    }


GENERAL = (
    "a tail fin",
    "a round dark eye",
    "a dorsal fin on the back",
    "a side fin under the flanks",
    "a belly under the body",
    "a snout and a chin",
    "a body with flanks",
)
"""What is to be seen of any fish, in words that reef's encoder knows."""
COMMON = 3
"""Details of a species that stand beside it: those that most other species have."""


def descriptive(name: str, members: Sequence[Species]) -> dict[str, object]:
    """A bank as of a prompt that asks what a class looks like, and not what tells it from others.

    All phrases are true: those of any fish, and the species' own details that most of the others share.
    """
    holders = {detail: sum(detail in species.details for species in members) for detail in DETAILS}
    classes = {
        species.name: {
            "phrases": [PHRASES[d] for d in sorted(species.details, key=lambda d: -holders[d])[:COMMON]] + [*GENERAL]
        }
        for species in members
    }
    return {
        "schema": 1,
        "name": name,
        "provenance": {
            "source": "written with the world (concord.reef.bank)",
            "rules": "descriptive",
            "note": "phrases of any fish, and three details of each species that most others share",
        },
        "shared": sorted({*GENERAL, *(PHRASES[detail] for species in members for detail in species.details)}),
        "classes": classes,
    }


def banks() -> dict[str, dict[str, object]]:
    """Reef's bundled banks by their names."""
    return {
        "reef": bank("reef", SPECIES, SPECIES),
        "reef-held-out": bank("reef-held-out", HELD_OUT, ALL_SPECIES),
        "reef-descriptive": descriptive("reef-descriptive", SPECIES),
    }


if __name__ == "__main__":
    for name, values in banks().items():
        (Path(sys.argv[1]) / f"{name}.json").write_text(json.dumps(values, indent=2) + "\n")
