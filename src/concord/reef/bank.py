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


if __name__ == "__main__":
    for name, members, world in (("reef", SPECIES, SPECIES), ("reef-held-out", HELD_OUT, ALL_SPECIES)):
        text = json.dumps(bank(name, members, world), indent=2) + "\n"
        (Path(sys.argv[1]) / f"{name}.json").write_text(text)
