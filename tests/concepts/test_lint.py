"""Lint: every rule finds what it is for, and lets pass what looks like it and is not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concord.concepts.bank import Bank, ClassConcepts, bundled_banks, load_bank
from concord.concepts.lint import Fault, lint
from concord.concepts.words import non_visual

PHRASES = (
    "long drooping ears",
    "a white-tipped tail",
    "a tricolour coat",
    "a square muzzle",
    "round brown eyes",
    "straight front legs",
    "a deep chest",
    "a broad black nose",
    "tight round feet",
    "a short dense coat",
)


def _bank(classes: dict[str, list[str]], shared: tuple[str, ...] = (), **look_alikes: list[str]) -> Bank:
    entries = {
        name: {"phrases": phrases, "look_alikes": look_alikes.get(name.replace(" ", "_"), ["another"])}
        for name, phrases in classes.items()
    }
    return Bank.model_validate({"schema": 1, "name": "t", "shared": shared, "classes": entries})


def _faults(phrase: str, name: str = "beagle") -> set[str]:
    """Kinds of faults that a tenth phrase brings into a bank without any."""
    return {fault.kind for fault in lint(_bank({name: [*PHRASES[:9], phrase]}))}


def test_a_good_bank_has_no_faults() -> None:
    assert lint(_bank({"beagle": list(PHRASES)})) == []


@pytest.mark.parametrize(("length", "kinds"), [(127, set()), (128, {"too-long"})])
def test_a_phrase_has_under_128_characters(length: int, kinds: set[str]) -> None:
    assert _faults("x" * length) == kinds


@pytest.mark.parametrize("phrase", ["Floppy ears", "V-shaped chest", '"White" blaze', "  Ärmel"])
def test_a_capital_at_the_start_is_found(phrase: str) -> None:
    assert _faults(phrase) == {"upper-case"}


@pytest.mark.parametrize("phrase", ["floppy ears", "a V-shaped chest", "3 white socks", "ärmel"])
def test_a_capital_elsewhere_is_none(phrase: str) -> None:
    assert _faults(phrase) == set()


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("hat", "a wide hat brim"),
        ("hat", "two Hats in a row"),
        ("beagle", "the beagle's tail"),
        ("golden retriever", "a Golden-Retriever coat"),
        ("hot dog", "a split hotdog bun"),
        ("chain saw", "chainsaws with a bar"),
        ("T-Shirt", "a t shirt collar"),
        ("church", "twin churches"),
        ("berry", "clustered berries"),
        ("wolf", "the fur of wolves"),
        ("waffles", "a deep waffle grid"),
        ("fireman", "firemen in a row"),
        ("crème brûlée", "a creme brulee crust"),
    ],
)
def test_the_class_name_is_found_as_words(name: str, phrase: str) -> None:
    assert _faults(phrase, name) == {"class-name"}


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("hat", "a band that shines"),
        ("hat", "chatty lettering"),
        ("ass", "as tall as a door"),
        ("golden retriever", "a golden coat"),
        ("fried rice", "separate rice grains"),
        ("shorts", "a short hem above the knee"),
        ("glasses", "a rim of clear glass"),
        ("car", "a carved edge"),
    ],
)
def test_a_part_of_the_class_name_is_none(name: str, phrase: str) -> None:
    assert _faults(phrase, name) == set()


@pytest.mark.parametrize(
    "again", ["Long drooping ears", "long  drooping ears.", "the long, drooping ears", "long-drooping ears"]
)
def test_the_same_phrase_twice_is_found(again: str) -> None:
    faults = [fault for fault in lint(_bank({"beagle": [*PHRASES, again]})) if fault.kind == "duplicate"]
    assert [(fault.class_name, fault.phrase) for fault in faults] == [("beagle", again)]


def test_other_phrases_of_the_same_words_are_none() -> None:
    assert _faults("ears that droop long") == set()


def test_a_shared_phrase_is_found_in_each_class_and_worse_between_look_alikes() -> None:
    other = ["A long, drooping ears!", *(f"{phrase} tinged red" for phrase in PHRASES)]
    strangers = lint(_bank({"beagle": list(PHRASES), "boxer dog": [other[0].lower(), *other[1:]]}))
    assert [(f.kind, f.class_name) for f in strangers] == [("shared", "beagle"), ("shared", "boxer dog")]
    assert "boxer dog" in strangers[0].message
    alike = lint(_bank({"beagle": list(PHRASES), "boxer dog": [other[0].lower(), *other[1:]]}, boxer_dog=["Beagle"]))
    assert [f.kind for f in alike] == ["shared-by-look-alikes"] * 2


def test_a_declared_phrase_may_stand_in_several_classes_but_once_in_each() -> None:
    both = {"beagle": list(PHRASES), "boxer": list(PHRASES)}
    assert lint(_bank(both, shared=PHRASES, boxer=["beagle"])) == []
    assert {f.kind for f in lint(_bank(both, shared=PHRASES[1:]))} == {"shared"}
    twice = {"beagle": [*PHRASES, PHRASES[0]], "boxer": list(PHRASES)}
    assert {f.kind for f in lint(_bank(twice, shared=PHRASES))} == {"duplicate"}


@pytest.mark.parametrize(
    "phrase",
    [
        "a loyal companion",
        "a loud barking muzzle",
        "a sweet taste",
        "a strong smell of garlic",
        "a sweet-smelling crust",
        "used for digging",
        "designed to keep warm",
        "often found in forests",
        "lives near water",
        "a playful nature",
        "originally from Scotland",
        "an expensive material",
        "a crunchy sound",
        "chases small animals",
        "comfortable to wear",
        "a famous silhouette",
        "rich in vitamins",
    ],
)
def test_what_no_picture_shows_is_found(phrase: str) -> None:
    assert _faults(phrase) == {"non-visual"}


@pytest.mark.parametrize(
    "phrase",
    [
        "an eye-catching red stripe",
        "a sharp edge along the back",
        "rough tree bark beneath",
        "a running stitch along the hem",
        "a worn leather cover",
        "a price tag on a string",
        "a round sound hole",
        "orange sweet potato cubes",
        "a dollop of sour cream",
        "soft warm light on smooth skin",
        "used tyres in a pile",
        "a songbird-like bill",
        "a rich dark colour",
        "served in a black bowl",
        "a gentle curve of the back",
        "an alert expression",
        "inflated vocal sacs",
    ],
)
def test_what_a_picture_shows_is_none(phrase: str) -> None:
    assert _faults(phrase) == set()


def test_too_few_counts_different_phrases() -> None:
    faults = lint(_bank({"beagle": [*PHRASES[:9], "Long drooping ears", ""]}))
    assert ("too-few", "") in {(f.kind, f.phrase) for f in faults}
    assert "9 different" in next(f.message for f in faults if f.kind == "too-few")


@pytest.mark.parametrize("phrase", ["", "  ", "...", "\u200b"])
def test_an_empty_phrase_is_found(phrase: str) -> None:
    assert [f.kind for f in lint(_bank({"beagle": [*PHRASES, phrase]}))] == ["empty"]


@pytest.mark.parametrize(
    ("others", "kind"), [([], "no-look-alikes"), (["Beagle"], "look-alike-itself"), ([" "], "look-alike-empty")]
)
def test_look_alikes_are_other_classes(others: list[str], kind: str) -> None:
    assert [(f.kind, f.class_name) for f in lint(_bank({"beagle": list(PHRASES)}, beagle=others))] == [(kind, "beagle")]


def test_a_bank_without_classes_is_no_bank() -> None:
    assert [f.kind for f in lint(_bank({}))] == ["empty"]


@given(st.dictionaries(st.text(), st.lists(st.text(), min_size=1, max_size=4), max_size=4), st.lists(st.text()))
def test_any_text_is_judged(classes: dict[str, list[str]], shared: list[str]) -> None:
    entries = {name: {"phrases": phrases} for name, phrases in classes.items()}
    bank = Bank.model_validate({"schema": 1, "name": "t", "shared": shared, "classes": entries})
    faults = lint(bank)
    assert all(isinstance(fault, Fault) and fault.message for fault in faults)
    assert all(fault.class_name in classes for fault in faults if classes)


@pytest.mark.parametrize("key", ["prompt", "rules"])
def test_a_bank_that_describes_its_classes_needs_no_look_alikes(key: str) -> None:
    bank = load_bank("clothing-descriptive")
    assert lint(bank.model_copy(update={"provenance": {key: "descriptive"}})) == []
    assert {fault.kind for fault in lint(bank.model_copy(update={"provenance": {key: "distinctive"}}))} == {
        "no-look-alikes"
    }


@pytest.mark.parametrize("name", bundled_banks())
def test_bundled_banks_are_clean(name: str) -> None:
    bank = load_bank(name)
    assert lint(bank) == []
    assert bank.provenance, "a bank says where it comes from"


@pytest.mark.parametrize("name", bundled_banks())
def test_no_phrase_stands_in_two_classes_of_a_bundled_bank(name: str) -> None:
    bank = load_bank(name)
    homes: dict[str, set[str]] = {}
    for class_name, entry in bank.classes.items():
        for phrase in entry.phrases:
            homes.setdefault(re.sub(r"\W+", " ", phrase.lower()).strip(), set()).add(class_name)
    exempt = {re.sub(r"\W+", " ", phrase.lower()).strip() for phrase in bank.shared}
    assert not {phrase: names for phrase, names in homes.items() if len(names) > 1 and phrase not in exempt}
    assert name.startswith("reef") or not bank.shared


@pytest.mark.parametrize(
    "phrase",
    [
        "runs very fast", "swims well in cold water", "wags its tail", "eats small fish", "climbs trees", "quacks",
        "hisses", "worn in summer", "protects from rain", "can carry passengers", "served at parties", "a soft feel",
        "good for cooking", "kept as a pet",
    ],
)  # fmt: skip
def test_behaviour_and_use_are_no_looks(phrase: str) -> None:
    assert list(non_visual(phrase))


@pytest.mark.parametrize(
    "phrase", ["eyes on long stalks", "wire mesh guards over the lens", "flying-bird motifs on silk"]
)
def test_looks_are_no_behaviour(phrase: str) -> None:
    assert not list(non_visual(phrase))


@pytest.mark.parametrize(
    "phrases",
    [
        ["longues oreilles tombantes", "queue avec du blanc", "truffe et babines noires", "pattes courtes"],
        ["lange Ohren", "Schwanz mit weißer Spitze", "kurze Beine und große Pfoten"],
        ["orejas largas y caídas", "cola con punta blanca", "cráneo ancho"],
        ["长而柔软的耳朵"],
        ["long rounded ears", "длинный хвост"],
    ],
)
def test_another_language_than_the_names_is_named(phrases: list[str]) -> None:
    def named(class_name: str, about: str = "") -> list[str]:
        made = Bank(
            schema=1, name="b", provenance={"about": about}, classes={class_name: ClassConcepts(phrases=phrases)}
        )
        return [fault.phrase for fault in lint(made) if fault.kind == "language"]

    assert named("beagle") == [p for p in phrases if not p.startswith("long ")]
    assert named("beagle", f"photos: {' '.join(phrases)}") == [], "they were asked for in it"


@pytest.mark.parametrize(
    "phrase", ["I'm sorry, but I can\u2019t help with that", "as an AI I describe no animals", "sorry, no"]
)
def test_a_refusal_is_named(phrase: str) -> None:
    made = Bank(schema=1, name="b", classes={"dog": ClassConcepts(phrases=[phrase, "sorry look in dark eyes"])})
    assert [fault.phrase for fault in lint(made) if fault.kind == "refusal"] == [phrase]
