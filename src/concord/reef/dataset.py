"""Reef's real set as a data set: drawn where it is read, with its classes' details known."""

from collections.abc import Sequence
from functools import lru_cache

from PIL import Image

from concord.data import ClassSpec, class_table
from concord.data.splits import Part
from concord.reef.text import PHRASES
from concord.reef.world import ALL_SPECIES, HELD_OUT, SIZE, SPECIES, Fish, Species, render, sample_set
from concord.registry import DatasetSpec

SEED_TRAIN, SEED_TEST = 1_000_001, 1_000_003
"""Seeds of the instances that models are trained on and distilled from, and of those for testing."""
SEED_HELD_OUT, SEED_HELD_OUT_TEST = 1_000_004, 1_000_005
"""Those of the held-out species."""
KEPT = 8_192
"""Images that a process keeps once they are drawn, 16 KiB each: reef's real set and its test set."""


@lru_cache(maxsize=4)
def _instances(seed: int, per_species: int, species: tuple[int, ...]) -> list[Fish]:
    return sample_set(seed, per_species, species=species)


@lru_cache(maxsize=KEPT)
def _drawn(fish: Fish) -> Image.Image:
    return render(fish)


class RealSet:
    """Instances of every species, an `ImageSet`; a reference is "species name/number"."""

    def __init__(
        self,
        per_species: int,
        seed: int,
        notes: Sequence[str] = (),
        name: str = "reef",
        species: Sequence[Species] = SPECIES,
    ) -> None:
        self._name, self._per_species, self._seed = name, per_species, seed
        self._species = tuple(ALL_SPECIES.index(one) for one in species)
        self.classes = class_table(ClassSpec(one.name) for one in species)
        self.known_details = {one.name: [PHRASES[detail] for detail in one.details] for one in species}
        self.notes = notes

    @property
    def fingerprint(self) -> str:
        return f"{self._name}-{self._seed}-{self._per_species}"

    def fish(self, item: str) -> Fish:
        """The instance behind a reference: all that is true of its image."""
        name, _, number = item.rpartition("/")
        names = [ALL_SPECIES[i].name for i in self._species]
        fish = _instances(self._seed, self._per_species, self._species)
        return fish[int(number) * len(names) + names.index(name)]

    def items(self, class_index: int) -> Sequence[str]:
        name = self.classes[class_index].key
        return [f"{name}/{i:05d}" for i in range(self._per_species)]

    def read(self, item: str) -> Image.Image:
        return _drawn(self.fish(item)).copy()

    def size(self, item: str) -> tuple[int, int]:
        return SIZE, SIZE


def real_set(per_species: int = 500) -> RealSet:
    """The real training set: the first instances that the models saw."""
    return RealSet(per_species, SEED_TRAIN)


def test_set(per_species: int = 300, notes: Sequence[str] = ()) -> RealSet:
    """Real instances that no model was trained on."""
    return RealSet(per_species, SEED_TEST, notes)


def open_reef(part: Part) -> RealSet:
    return real_set() if part == "train" else test_set(notes=["reef has a test set of its own: reef-test is the data"])


def open_reef_test(part: Part) -> RealSet:
    return test_set()


def open_held_out(part: Part) -> RealSet:
    return held_out_species(SEED_HELD_OUT if part == "train" else SEED_HELD_OUT_TEST)


def held_out_species(seed: int, per_species: int = 500) -> RealSet:
    """Species whose names no image-text model knows, the last two twins of known ones but for a number."""
    return RealSet(per_species, seed, name="reef-held-out", species=HELD_OUT)


REEF = DatasetSpec(
    "reef", "concord.reef.dataset:open_reef", "5 000 drawn fish of ten species, 64 px, details known", "Apache-2.0"
)
REEF_TEST = DatasetSpec(
    "reef-test", "concord.reef.dataset:open_reef_test", "3 000 more of them, to test on", "Apache-2.0"
)
REEF_HELD_OUT = DatasetSpec(
    "reef-held-out",
    "concord.reef.dataset:open_held_out",
    "3 000 fish of six species whose names reef's CLIP has not seen",
    "Apache-2.0",
)
