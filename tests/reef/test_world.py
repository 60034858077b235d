"""The world: its labels must be true of its images, or no figure that rests on them is."""

import hashlib
from itertools import combinations

import numpy as np
import pytest
from PIL import ImageChops

from concord.concepts import load_bank
from concord.reef import real_set
from concord.reef import test_set as reef_test_set
from concord.reef.bank import GENERAL, banks
from concord.reef.dataset import SEED_TRAIN
from concord.reef.text import PHRASES, random_caption, vocabulary
from concord.reef.world import (  # fmt: skip
    ALL_SPECIES,
    COUNTED,
    DETAILS,
    DORSALS,
    EXCLUSIVE,
    FOREIGN,
    HELD_OUT,
    MISSING,
    NUISANCES,
    SIZE,
    SPECIES,
    TAILS,
    Fish,
    attributes,
    render,
    sample_fish,
    sample_set,
)


def _exchange(fish: Fish, **changes: object) -> Fish:
    return Fish(**{**vars(fish), **changes})  # type: ignore[arg-type]


def test_species_share_at_most_three_details() -> None:
    assert len(SPECIES) == 10
    assert all(len(s.details) == 5 for s in SPECIES)
    assert max(len(set(a.details) & set(b.details)) for a, b in combinations(SPECIES, 2)) == 3


@pytest.mark.parametrize("detail", DETAILS)
def test_each_detail_shows(detail: str) -> None:
    """Adding a detail changes enough pixels to be seen, on slender and on deep fish."""
    i = DETAILS.index(detail)
    for seed in range(8):
        bare = _exchange(sample_fish(np.random.default_rng(seed)), details=(False,) * len(DETAILS))
        shown = _exchange(bare, details=tuple(k == i for k in range(len(DETAILS))))
        difference = np.asarray(ImageChops.difference(render(bare), render(shown)).convert("L"))
        assert (difference > 40).sum() >= 8


def test_an_instance_alone_decides_its_image() -> None:
    fish = sample_fish(np.random.default_rng(3), 4)
    assert render(fish).tobytes() == render(_exchange(fish)).tobytes()
    assert render(fish).size == (SIZE, SIZE)


def test_rates_of_missing_and_foreign_details() -> None:
    fish = sample_set(5, per_species=400)
    shown = attributes(fish)
    own = np.array([SPECIES[f.species or 0].mask for f in fish])
    assert 1 - shown[own].mean() == pytest.approx(MISSING, abs=0.01)
    assert (shown & ~own).sum(1).mean() == pytest.approx(FOREIGN, abs=0.015)
    complete = sample_set(6, per_species=3, complete=True)
    assert all(np.array_equal(f.details, SPECIES[f.species or 0].mask) for f in complete)


def test_one_detail_of_a_group() -> None:
    shown = attributes(sample_set(7, per_species=100, free=500, species=range(len(ALL_SPECIES))))
    assert set(EXCLUSIVE) >= {TAILS, DORSALS}
    for group in EXCLUSIVE:
        assert shown[:, [DETAILS.index(detail) for detail in group]].sum(1).max() == 1


def test_the_ten_species_are_drawn_as_before_there_were_others() -> None:
    """So that reef stays reef: their real set is named by its seed and size alone."""
    fish = sample_set(SEED_TRAIN, per_species=500)
    shown = attributes(fish)
    assert not shown[:, -len(COUNTED) :].any()
    assert hashlib.sha256(np.packbits(shown[:, : -len(COUNTED)]).tobytes()).hexdigest().startswith("757c9aafc30a0c3b")
    assert sum(f.seed for f in fish) == 5420634669357


def test_held_out_species_recombine_known_details_or_count_them() -> None:
    shared = [max(len(set(new.details) & set(known.details)) for known in SPECIES) for new in HELD_OUT]
    assert max(shared[:4]) <= 3
    for new in HELD_OUT[4:]:
        assert any(set(new.details) ^ set(known.details) in map(set, COUNTED.items()) for known in SPECIES)
    assert not {s.name.split()[0] for s in HELD_OUT} & {s.name.split()[0] for s in SPECIES}


def test_a_larger_set_begins_with_the_smaller() -> None:
    assert sample_set(8, per_species=5)[:20] == sample_set(8, per_species=2)


def test_nuisances_have_about_unit_deviation() -> None:
    values = np.stack([f.nuisance for f in sample_set(9, per_species=300)])
    assert values.shape[1] == len(NUISANCES)
    assert np.all(np.abs(values.std(0) - 1) < 0.15), dict(zip(NUISANCES, values.std(0), strict=True))


def test_captions_are_true_and_within_the_vocabulary() -> None:
    rng, words = np.random.default_rng(0), set(vocabulary())
    for fish in sample_set(10, per_species=20, free=100):
        subject, details, text = random_caption(fish, rng)
        assert all(fish.details[DETAILS.index(d)] for d in details)
        assert subject in ("fish", SPECIES[fish.species].name if fish.species is not None else "fish")
        assert set(text.split()) <= words


def test_the_bundled_banks_are_those_that_the_world_writes() -> None:
    for name, values in banks().items():
        assert load_bank(name).model_dump(by_alias=True, mode="json", exclude_unset=True) == values
    for name, members in (("reef", SPECIES), ("reef-held-out", HELD_OUT)):
        for species in members:
            phrases = load_bank(name).phrases(species.name)
            assert len(phrases) == 10
            assert {PHRASES[d] for d in species.details} < set(phrases)


def test_the_descriptive_bank_is_true_of_every_species_in_words_that_its_encoder_knows() -> None:
    for species in SPECIES:
        phrases = load_bank("reef-descriptive").phrases(species.name)
        own = set(phrases) - set(GENERAL)
        assert len(phrases) == 10
        assert own < {PHRASES[d] for d in species.details}
        assert {word for phrase in phrases for word in phrase.split()} <= set(vocabulary())


def test_the_real_set_is_the_world_by_reference() -> None:
    data = real_set(per_species=3)
    for label, entry in enumerate(data.classes):
        for item in data.items(label):
            fish = data.fish(item)
            assert SPECIES[fish.species or 0].name == entry.class_name
            assert data.read(item).tobytes() == render(fish).tobytes()
    assert data.known_details["coral perch"] == [PHRASES[d] for d in SPECIES[9].details]
    assert real_set(2).items(0) == data.items(0)[:2]
    ours, theirs = {data.fish(i).seed for i in data.items(0)}, reef_test_set(3)
    assert not ours & {theirs.fish(i).seed for i in theirs.items(0)}, "the test set repeats training instances"


def test_what_a_reader_does_to_an_image_does_not_reach_the_next_reader() -> None:
    data = real_set()
    item = data.items(3)[7]
    drawn = np.asarray(render(data.fish(item)))
    first = data.read(item)
    first.paste((0, 0, 0), (0, 0, *first.size))
    np.testing.assert_array_equal(np.asarray(real_set().read(item)), drawn)
